//! What in a cluster carries certificates: kinds of objects, and where the API has them.

/// A kind of objects that may carry certificates.
#[derive(Clone, Copy, Debug)]
pub struct CarrierKind {
    /// What the API and kubectl call all of them.
    pub resource: &'static str,
    /// What one of them is called.
    pub kind: &'static str,
    /// The group and version.
    pub version: &'static str,
    /// Whether each is in a namespace.
    pub is_namespaced: bool,
    /// What of it is not worth asking for, as a field selector.
    pub asked: Option<&'static str>,
    /// By what right it is looked at.
    pub source: CarrierSource,
    /// Where this comes from.
    pub origin: &'static str,
}

/// What may be looked at, each with rights of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CarrierSource {
    /// Objects that hold nothing secret.
    Objects,
    /// Secrets.
    Secrets,
    /// What kubelets serve.
    Kubelets,
    /// What containers were given of other objects.
    Pods,
}

/// All kinds.
pub static CARRIERS: &[CarrierKind] = &[
    CarrierKind {
        resource: "configmaps",
        kind: "ConfigMap",
        version: "v1",
        is_namespaced: true,
        asked: None,
        source: CarrierSource::Objects,
        origin: "bundles of CAs, such as kube-root-ca.crt; cluster-info's kubeconfig",
    },
    CarrierKind {
        resource: "validatingwebhookconfigurations",
        kind: "ValidatingWebhookConfiguration",
        version: "admissionregistration.k8s.io/v1",
        is_namespaced: false,
        asked: None,
        source: CarrierSource::Objects,
        origin: "Kubernetes 1.36, admissionregistration/v1, WebhookClientConfig.CABundle",
    },
    CarrierKind {
        resource: "mutatingwebhookconfigurations",
        kind: "MutatingWebhookConfiguration",
        version: "admissionregistration.k8s.io/v1",
        is_namespaced: false,
        asked: None,
        source: CarrierSource::Objects,
        origin: "Kubernetes 1.36, admissionregistration/v1, WebhookClientConfig.CABundle",
    },
    CarrierKind {
        resource: "apiservices",
        kind: "APIService",
        version: "apiregistration.k8s.io/v1",
        is_namespaced: false,
        asked: None,
        source: CarrierSource::Objects,
        origin: "Kubernetes 1.36, apiregistration/v1, APIServiceSpec.CABundle",
    },
    CarrierKind {
        resource: "customresourcedefinitions",
        kind: "CustomResourceDefinition",
        version: "apiextensions.k8s.io/v1",
        is_namespaced: false,
        asked: None,
        source: CarrierSource::Objects,
        origin: "Kubernetes 1.36, apiextensions/v1, WebhookConversion.ClientConfig.CABundle",
    },
    CarrierKind {
        resource: "secrets",
        kind: "Secret",
        version: "v1",
        is_namespaced: true,
        // What these hold is large or secret, and no certificate.
        asked: Some(
            "type!=helm.sh/release.v1,type!=bootstrap.kubernetes.io/token,\
             type!=kubernetes.io/dockercfg,type!=kubernetes.io/dockerconfigjson,\
             type!=kubernetes.io/basic-auth,type!=kubernetes.io/ssh-auth",
        ),
        source: CarrierSource::Secrets,
        origin: "Kubernetes 1.36, core/v1, SecretType; kubeconfigs and key stores besides",
    },
    CarrierKind {
        resource: "nodes",
        kind: "Node",
        version: "v1",
        is_namespaced: false,
        asked: None,
        source: CarrierSource::Kubelets,
        origin: "Kubernetes 1.36, core/v1, NodeStatus.Addresses, DaemonEndpoints.KubeletEndpoint",
    },
    // Behind what they may hold copies of.
    CarrierKind {
        resource: "pods",
        kind: "Pod",
        version: "v1",
        is_namespaced: true,
        asked: Some("status.phase=Running"),
        source: CarrierSource::Pods,
        origin: "Kubernetes 1.36, core/v1, VolumeMount.SubPath, EnvVarSource, EnvFromSource",
    },
];

impl CarrierKind {
    /// The row of a kind, by what one of them is called.
    pub fn of(kind: &str) -> Option<&'static Self> {
        CARRIERS.iter().find(|row| row.kind == kind)
    }

    /// Where the API lists all of them.
    pub fn path(&self) -> String {
        format!("{}/{}", self.base(), self.resource)
    }

    /// Where one of them is.
    pub fn path_of(&self, namespace: Option<&str>, name: &str) -> String {
        match namespace {
            Some(namespace) => {
                format!("{}/namespaces/{namespace}/{}/{name}", self.base(), self.resource)
            }
            None => format!("{}/{name}", self.path()),
        }
    }

    fn base(&self) -> String {
        match self.version.contains('/') {
            true => format!("/apis/{}", self.version),
            false => format!("/api/{}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue::{ELSEWHERE, Whereabouts};

    #[test]
    fn whatever_holds_a_copy_of_a_ca_is_looked_at() {
        for row in ELSEWHERE {
            let Whereabouts::Objects(objects) = row.found else { continue };
            for resource in objects.resources.split(',') {
                assert!(CARRIERS.iter().any(|kind| kind.resource == resource), "{resource}");
            }
        }
    }

    #[test]
    fn paths_are_the_apis() {
        let secret = CarrierKind::of("Secret").unwrap();
        assert_eq!(secret.path(), "/api/v1/secrets");
        assert_eq!(secret.path_of(Some("a"), "b"), "/api/v1/namespaces/a/secrets/b");
        let service = CarrierKind::of("APIService").unwrap();
        assert_eq!(
            service.path_of(None, "v1.x"),
            "/apis/apiregistration.k8s.io/v1/apiservices/v1.x"
        );
    }
}
