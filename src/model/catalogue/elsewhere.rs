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
    /// Where it is in the cluster, if it is there.
    pub found: Whereabouts,
    /// Who brings it up to date.
    pub mended: Mended,
    /// Where this comes from.
    pub source: &'static str,
}

/// Where in a cluster a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In objects.
    Objects(Objects),
    /// Not where anybody could look: why.
    Nowhere(&'static str),
}

/// Objects that hold a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objects {
    /// What kubectl is asked for; rows that name the same are one question.
    pub resources: &'static str,
    /// The namespace and the name, where it is one object.
    pub namespace: Option<&'static str>,
    /// The name, where it is always the same.
    pub name: Option<&'static str>,
    /// A Secret's type.
    pub secret_type: Option<&'static str>,
    /// Which of its values.
    pub value: ObjectKey,
}

/// A value of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKey {
    /// The one with this key, PEM.
    Pem(&'static str),
    /// Every `caBundle`.
    CaBundle,
    /// Every kubeconfig.
    Kubeconfig,
}

/// Who brings a copy up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// Some component, by itself, once it has read its files again.
    Itself,
    /// `--apply-cluster`: what is trusted is written there.
    Bundle,
    /// `--apply-cluster`: it is deleted when the old CA is dropped, and made anew.
    Deleted,
    /// People.
    People,
}

/// Of every object of these kinds.
const fn all(resources: &'static str, value: ObjectKey) -> Whereabouts {
    Whereabouts::Objects(Objects {
        resources,
        namespace: None,
        name: None,
        secret_type: None,
        value,
    })
}

/// One object, or one in each namespace.
const fn named(
    namespace: Option<&'static str>,
    name: &'static str,
    value: ObjectKey,
) -> Whereabouts {
    let (name, secret_type) = (Some(name), None);
    Whereabouts::Objects(Objects { resources: CONFIG_MAPS, namespace, name, secret_type, value })
}

const CONFIG_MAPS: &str = "configmaps";
const SECRETS: &str = "secrets";
const TRUSTING: &str = "validatingwebhookconfigurations,mutatingwebhookconfigurations,apiservices,\
                        customresourcedefinitions";
const AUTHENTICATION: &str = "extension-apiserver-authentication";
const CLIENTS: ObjectKey = ObjectKey::Pem("client-ca-file");
const FRONT_PROXIES: ObjectKey = ObjectKey::Pem("requestheader-client-ca-file");

const TRUST: &[Stage] = &[Stage::Introduced, Stage::Stable];
const EACH: &[Stage] = &[Stage::Introduced, Stage::Switched, Stage::Stable];
const LAST: &[Stage] = &[Stage::Stable];

/// All of them.
pub static ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        authority: "root-ca",
        what: "kube-root-ca.crt in every namespace: kube-controller-manager writes it anew from --root-ca-file once \
               it is restarted; pods read it within two minutes",
        stages: TRUST,
        command: "kubectl get configmap kube-root-ca.crt --namespace kube-system -o yaml",
        found: named(None, "kube-root-ca.crt", ObjectKey::Pem("ca.crt")),
        mended: Mended::Itself,
        source: "Kubernetes 1.36, pkg/controller/certificates/rootcacertpublisher/publisher.go",
    },
    Elsewhere {
        authority: "root-ca",
        what: "programs, hosts and people that were given the root to trust: they get pki/root-ca-bundle.crt",
        stages: TRUST,
        command: "certkit check-expiration FILE...",
        found: Whereabouts::Nowhere(
            "in a cluster only the CAs below it are trusted by what a component wrote there",
        ),
        mended: Mended::People,
        source: "https://kubernetes.io/docs/setup/best-practices/certificates/",
    },
    Elsewhere {
        authority: "ca",
        what: "kube-root-ca.crt in every namespace: kube-controller-manager writes it anew from --root-ca-file once \
               it is restarted; pods read it within two minutes",
        stages: TRUST,
        command: "kubectl get configmap kube-root-ca.crt --namespace kube-system -o yaml",
        found: named(None, "kube-root-ca.crt", ObjectKey::Pem("ca.crt")),
        mended: Mended::Itself,
        source: "Kubernetes 1.36, pkg/controller/certificates/rootcacertpublisher/publisher.go",
    },
    Elsewhere {
        authority: "ca",
        what: "tokens in Secrets: kube-controller-manager writes their ca.crt anew once it is restarted",
        stages: TRUST,
        command: "kubectl get secrets -A --field-selector type=kubernetes.io/service-account-token",
        found: Whereabouts::Objects(Objects {
            resources: SECRETS,
            namespace: None,
            name: None,
            secret_type: Some("kubernetes.io/service-account-token"),
            value: ObjectKey::Pem("ca.crt"),
        }),
        mended: Mended::Itself,
        source: "Kubernetes 1.36, pkg/controller/serviceaccount/tokens_controller.go",
    },
    Elsewhere {
        authority: "ca",
        what: "cluster-info, by which kubeadm join finds the cluster",
        stages: TRUST,
        command: "kubectl edit configmap cluster-info --namespace kube-public",
        found: named(Some("kube-public"), "cluster-info", ObjectKey::Kubeconfig),
        mended: Mended::Bundle,
        source: "Kubernetes 1.36, cmd/kubeadm/app/discovery/token/token.go",
    },
    Elsewhere {
        authority: "ca",
        what: "kubeconfigs of people and of programs outside of the cluster that embed it",
        stages: TRUST,
        command: "certkit check-expiration KUBECONFIG...",
        found: Whereabouts::Nowhere(
            "nobody keeps a list of what people and programs elsewhere carry",
        ),
        mended: Mended::People,
        source: "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/",
    },
    Elsewhere {
        authority: "ca",
        what: "kubeconfigs in Secrets, which programs in the cluster, or of other clusters, get in by",
        stages: TRUST,
        command: "kubectl get secrets -A -o yaml > FILE; certkit check-expiration FILE",
        found: all(SECRETS, ObjectKey::Kubeconfig),
        mended: Mended::People,
        source: "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/",
    },
    Elsewhere {
        authority: "ca",
        what: "extension-apiserver-authentication, from which aggregated API servers and the scheduler learn within a \
               minute whose clients to accept",
        stages: &[Stage::Introduced],
        command: "kubectl get configmap extension-apiserver-authentication --namespace kube-system -o yaml",
        found: named(Some("kube-system"), AUTHENTICATION, CLIENTS),
        mended: Mended::Itself,
        source: "Kubernetes 1.36, pkg/controlplane/controller/clusterauthenticationtrust",
    },
    Elsewhere {
        authority: "ca",
        what: "caBundle of webhooks, APIServices and custom resources whose servers it signed",
        stages: TRUST,
        command: "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations,apiservices,\
                  customresourcedefinitions -o yaml > FILE; certkit check-expiration FILE",
        found: all(TRUSTING, ObjectKey::CaBundle),
        mended: Mended::Bundle,
        source: "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/",
    },
    Elsewhere {
        authority: "ca",
        what: "extension-apiserver-authentication, into which apiservers only ever add: aggregated API servers and \
               the scheduler accept clients of the old CA until it is deleted; apiservers make it anew within a minute",
        stages: LAST,
        command: "kubectl delete configmap extension-apiserver-authentication --namespace kube-system",
        found: named(Some("kube-system"), AUTHENTICATION, CLIENTS),
        mended: Mended::Deleted,
        source: "Kubernetes 1.36, pkg/controlplane/controller/clusterauthenticationtrust",
    },
    Elsewhere {
        authority: "front-proxy-ca",
        what: "extension-apiserver-authentication, from which aggregated API servers learn it within a minute",
        stages: &[Stage::Introduced],
        command: "kubectl get configmap extension-apiserver-authentication --namespace kube-system -o yaml",
        found: named(Some("kube-system"), AUTHENTICATION, FRONT_PROXIES),
        mended: Mended::Itself,
        source: "Kubernetes 1.36, pkg/controlplane/controller/clusterauthenticationtrust",
    },
    Elsewhere {
        authority: "front-proxy-ca",
        what: "extension-apiserver-authentication, into which apiservers only ever add: aggregated API servers trust the \
               old CA until it is deleted; apiservers make it anew within a minute",
        stages: LAST,
        command: "kubectl delete configmap extension-apiserver-authentication --namespace kube-system",
        found: named(Some("kube-system"), AUTHENTICATION, FRONT_PROXIES),
        mended: Mended::Deleted,
        source: "Kubernetes 1.36, pkg/controlplane/controller/clusterauthenticationtrust",
    },
    Elsewhere {
        authority: "etcd-ca",
        what: "backup jobs and monitors that talk to etcd themselves",
        stages: TRUST,
        command: "certkit check-expiration FILE...",
        found: Whereabouts::Nowhere("they run outside of the cluster, with files of their own"),
        mended: Mended::People,
        source: "https://etcd.io/docs/v3.6/op-guide/security/",
    },
    Elsewhere {
        authority: "istio-root-ca",
        what: "Secret cacerts, from which istiod reads its CA and the mesh's roots: write it anew at each stage; istiod takes \
               other roots up by itself only with ISTIO_MULTIROOT_MESH=true, else restart it",
        stages: EACH,
        command: "kubectl create secret generic cacerts --namespace istio-system $(certkit flags istiod) --dry-run=client \
                  -o yaml | kubectl apply -f -",
        found: Whereabouts::Objects(Objects {
            resources: SECRETS,
            namespace: Some("istio-system"),
            name: Some("cacerts"),
            secret_type: None,
            value: ObjectKey::Pem("root-cert.pem"),
        }),
        mended: Mended::People,
        source: "Istio, pilot/pkg/bootstrap/istio_ca.go (handleEvent)",
    },
    Elsewhere {
        authority: "istio-root-ca",
        what: "istio-ca-root-cert in every namespace: istiod writes it anew, and tells the proxies that run",
        stages: TRUST,
        command: "kubectl get configmap istio-ca-root-cert --namespace istio-system -o yaml",
        found: named(None, "istio-ca-root-cert", ObjectKey::Pem("root-cert.pem")),
        mended: Mended::Itself,
        source: "Istio, pilot/pkg/bootstrap/configcontroller.go, security/pkg/k8s/configutil",
    },
    Elsewhere {
        authority: "istio-root-ca",
        what: "workloads hold certificates that lead to the old root alone until they are renewed: within a day, unless \
               istiod is told otherwise (DEFAULT_WORKLOAD_CERT_TTL)",
        stages: &[Stage::Switched],
        command: "istioctl proxy-config secret POD -o json",
        found: Whereabouts::Nowhere(
            "certificates of workloads are in the memory of their proxies alone",
        ),
        mended: Mended::Itself,
        source: "Istio, security/pkg/cmd, pilot/pkg/features (DEFAULT_WORKLOAD_CERT_TTL)",
    },
    Elsewhere {
        authority: "workload-ca",
        what: "ConfigMap certkit-workload-ca, from which pods have what they trust in each other: write it anew at each \
               stage; pods read it within two minutes",
        stages: TRUST,
        command: "kubectl create configmap certkit-workload-ca --namespace NAMESPACE $(certkit flags workloads) \
                  --dry-run=client -o yaml | kubectl apply -f -",
        found: named(None, "certkit-workload-ca", ObjectKey::Pem("ca.crt")),
        mended: Mended::Bundle,
        source: "docs/pod-certificates.md",
    },
    Elsewhere {
        authority: "workload-ca",
        what: "pods and nodes hold certificates of the old CA until they are renewed: within a day",
        stages: &[Stage::Switched],
        command: "kubectl get podcertificaterequests --all-namespaces",
        found: Whereabouts::Nowhere("their certificates are in pods and on nodes alone"),
        mended: Mended::Itself,
        source: "docs/pod-certificates.md",
    },
    Elsewhere {
        authority: "sa",
        what: "pods hold tokens that the old key signed for up to a year (an hour where they are read from projected \
               volumes and renewed), tokens in Secrets for ever",
        stages: &[Stage::Switched],
        command: "kubectl get secrets -A --field-selector type=kubernetes.io/service-account-token",
        found: Whereabouts::Nowhere(
            "a token is not shown to whoever has no business with it; its key is judged by time",
        ),
        mended: Mended::Itself,
        source: "Kubernetes 1.36, pkg/serviceaccount/claims.go",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue::{CERTIFICATES, KEYS};

    #[test]
    fn every_row_is_of_a_ca_or_key_pair_and_is_looked_up_or_says_why_not() {
        for row in ELSEWHERE {
            let is_ca = |id: &str| CERTIFICATES.iter().any(|s| s.id.name() == id && s.is_ca());
            let is_pair = |id: &str| KEYS.iter().any(|spec| spec.id == id);
            assert!(is_ca(row.authority) || is_pair(row.authority), "{}", row.authority);
            assert!(!row.stages.is_empty(), "{}", row.what);
            assert!(!row.command.is_empty() && !row.source.is_empty(), "{}", row.what);
            match row.found {
                Whereabouts::Nowhere(why) => {
                    assert!(why.len() > 20, "{}", row.what);
                    assert!(
                        !matches!(row.mended, Mended::Bundle | Mended::Deleted),
                        "{}",
                        row.what
                    );
                }
                Whereabouts::Objects(objects) => {
                    assert!(!objects.resources.is_empty(), "{}", row.what);
                    // No Secret is ever changed: what stands in it besides is nobody's business.
                    let is_changed = matches!(row.mended, Mended::Bundle | Mended::Deleted);
                    assert!(!is_changed || objects.resources != SECRETS, "{}", row.what);
                    // What is deleted is one object.
                    let is_one = objects.name.is_some() && objects.namespace.is_some();
                    assert!(row.mended != Mended::Deleted || is_one, "{}", row.what);
                }
            }
        }
    }

    #[test]
    fn a_cluster_is_asked_few_questions() {
        let mut questions: Vec<&str> = Vec::new();
        for row in ELSEWHERE {
            if let Whereabouts::Objects(objects) = row.found
                && !questions.contains(&objects.resources)
            {
                questions.push(objects.resources);
            }
        }
        assert_eq!(questions, [CONFIG_MAPS, SECRETS, TRUSTING]);
    }
}
