//! What holds a copy of a CA's certificate that no file of the PKI shows: objects in the cluster, files of people. Whoever
//! replaces a CA must know of them.

use crate::model::stage::Stage;

/// Something that holds a copy.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// Of which CA.
    pub authority: &'static str,
    /// What it is.
    pub what: &'static str,
    /// At which stages something is to be done about it.
    pub stages: &'static [Stage],
    /// How it is looked at, or brought up to date.
    pub command: &'static str,
    /// Where this comes from.
    pub source: &'static str,
}

const TRUST: &[Stage] = &[Stage::Introduced, Stage::Stable];
const LAST: &[Stage] = &[Stage::Stable];

/// All of them.
pub static ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        authority: "root-ca",
        what: "kube-root-ca.crt in every namespace: kube-controller-manager writes it anew from --root-ca-file once \
               it is restarted; pods read it within two minutes",
        stages: TRUST,
        command: "kubectl get configmap kube-root-ca.crt --namespace kube-system -o yaml",
        source: "Kubernetes 1.36, pkg/controller/certificates/rootcacertpublisher/publisher.go",
    },
    Elsewhere {
        authority: "root-ca",
        what: "programs, hosts and people that were given the root to trust: they get pki/root-ca-bundle.crt",
        stages: TRUST,
        command: "certkit check-expiration FILE...",
        source: "https://kubernetes.io/docs/setup/best-practices/certificates/",
    },
    Elsewhere {
        authority: "ca",
        what: "kube-root-ca.crt in every namespace: kube-controller-manager writes it anew from --root-ca-file once \
               it is restarted; pods read it within two minutes",
        stages: TRUST,
        command: "kubectl get configmap kube-root-ca.crt --namespace kube-system -o yaml",
        source: "Kubernetes 1.36, pkg/controller/certificates/rootcacertpublisher/publisher.go",
    },
    Elsewhere {
        authority: "ca",
        what: "tokens in Secrets: kube-controller-manager writes their ca.crt anew once it is restarted",
        stages: TRUST,
        command: "kubectl get secrets -A --field-selector type=kubernetes.io/service-account-token",
        source: "Kubernetes 1.36, pkg/controller/serviceaccount/tokens_controller.go",
    },
    Elsewhere {
        authority: "ca",
        what: "cluster-info, by which kubeadm join finds the cluster",
        stages: TRUST,
        command: "kubectl edit configmap cluster-info --namespace kube-public",
        source: "Kubernetes 1.36, cmd/kubeadm/app/discovery/token/token.go",
    },
    Elsewhere {
        authority: "ca",
        what: "kubeconfigs of people and of programs outside of the cluster that embed it",
        stages: TRUST,
        command: "certkit check-expiration KUBECONFIG...",
        source: "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/",
    },
    Elsewhere {
        authority: "ca",
        what: "caBundle of webhooks, APIServices and custom resources whose servers it signed",
        stages: TRUST,
        command: "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations,apiservices,\
                  customresourcedefinitions -o yaml > FILE; certkit check-expiration FILE",
        source: "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/",
    },
    Elsewhere {
        authority: "ca",
        what: "extension-apiserver-authentication, into which apiservers only ever add: aggregated API servers and \
               the scheduler accept clients of the old CA until it is deleted; apiservers make it anew within a minute",
        stages: LAST,
        command: "kubectl delete configmap extension-apiserver-authentication --namespace kube-system",
        source: "Kubernetes 1.36, pkg/controlplane/controller/clusterauthenticationtrust",
    },
    Elsewhere {
        authority: "front-proxy-ca",
        what: "extension-apiserver-authentication, from which aggregated API servers learn it within a minute",
        stages: &[Stage::Introduced],
        command: "kubectl get configmap extension-apiserver-authentication --namespace kube-system -o yaml",
        source: "Kubernetes 1.36, pkg/controlplane/controller/clusterauthenticationtrust",
    },
    Elsewhere {
        authority: "front-proxy-ca",
        what: "extension-apiserver-authentication, into which apiservers only ever add: aggregated API servers trust the \
               old CA until it is deleted; apiservers make it anew within a minute",
        stages: LAST,
        command: "kubectl delete configmap extension-apiserver-authentication --namespace kube-system",
        source: "Kubernetes 1.36, pkg/controlplane/controller/clusterauthenticationtrust",
    },
    Elsewhere {
        authority: "etcd-ca",
        what: "backup jobs and monitors that talk to etcd themselves",
        stages: TRUST,
        command: "certkit check-expiration FILE...",
        source: "https://etcd.io/docs/v3.6/op-guide/security/",
    },
    Elsewhere {
        authority: "sa",
        what: "pods hold tokens that the old key signed for up to a year (an hour where they are read from projected \
               volumes and renewed), tokens in Secrets for ever",
        stages: &[Stage::Switched],
        command: "kubectl get secrets -A --field-selector type=kubernetes.io/service-account-token",
        source: "Kubernetes 1.36, pkg/serviceaccount/claims.go",
    },
];
