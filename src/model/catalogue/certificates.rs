//! Every certificate of a cluster, issuers before issued; this order is the order of all output.

use super::{
    ApiServer, CertId, CertSpec, Condition, ETCD_PEER_NAME, Expected, Home, Issuer, KeyPolicy,
    Purpose, SanRule, Scope, SubjectRule,
};

/// `pki/STEM.crt` and `pki/STEM.key`.
macro_rules! files {
    ($stem:literal) => {
        Home::Files { cert: concat!("pki/", $stem, ".crt"), key: concat!("pki/", $stem, ".key") }
    };
}

/// `pki/STEM.crt`, `pki/STEM.key` and `pki/STEM-bundle.crt`.
macro_rules! authority {
    ($stem:literal) => {
        Home::Authority {
            cert: concat!("pki/", $stem, ".crt"),
            key: concat!("pki/", $stem, ".key"),
            bundle: Some(concat!("pki/", $stem, "-bundle.crt")),
            chain: None,
        }
    };
}

const fn named(common_name: &'static str) -> SubjectRule {
    SubjectRule::Fixed { organizations: &[], common_name }
}

const KUBEADM: &str = "kubeadm 1.36, cmd/kubeadm/app/phases/certs/certlist.go";
const KUBEADM_KUBECONFIG: &str = "kubeadm 1.36, cmd/kubeadm/app/phases/kubeconfig/kubeconfig.go";
const SERVING: &str = "Kubernetes 1.36, staging/src/k8s.io/apiserver/pkg/server/options/serving.go";
const CONTROLLER: &str = "templates/deploy/controller.yaml";
const KONNECTIVITY: &str = "https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/";
const ISTIO: &str = "https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/";

/// A CA as kubeadm makes it: named by its common name, which is its one SAN too.
const fn ca(id: &'static str, about: &'static str, cn: &'static str, home: Home) -> CertSpec {
    CertSpec {
        id: CertId(id),
        about,
        issuer: Issuer::Root,
        subject: named(cn),
        sans: &[SanRule::CommonName],
        purpose: Purpose::Ca { path_len: None },
        scope: Scope::Cluster,
        home,
        present: Condition::Always,
        key: KeyPolicy::New,
        expected: Expected::Declared,
        kubeadm_sans: None,
        source: KUBEADM,
    }
}

/// A leaf; what differs from row to row follows with `..`.
const fn leaf(id: &'static str, about: &'static str, issuer: &'static str, home: Home) -> CertSpec {
    CertSpec {
        id: CertId(id),
        about,
        issuer: Issuer::Ca(CertId(issuer)),
        subject: SubjectRule::Host,
        sans: &[],
        purpose: Purpose::Client,
        scope: Scope::ControlPlane,
        home,
        present: Condition::Always,
        key: KeyPolicy::New,
        expected: Expected::Declared,
        kubeadm_sans: None,
        source: KUBEADM,
    }
}

/// All of them.
pub static CERTIFICATES: &[CertSpec] = &[
    CertSpec {
        issuer: Issuer::Own,
        purpose: Purpose::Ca { path_len: Some(1) },
        present: Condition::SingleRoot,
        source: "https://kubernetes.io/docs/setup/best-practices/certificates/",
        ..ca(
            "root-ca",
            "stands over the cluster's CAs; nothing else refers to it, so its key can be taken offline",
            "kubernetes-root-ca",
            authority!("root-ca"),
        )
    },
    CertSpec {
        expected: Expected::Usually,
        ..ca(
            "ca",
            "signs what talks to the apiserver and what it talks to",
            "kubernetes",
            Home::Authority {
                cert: "pki/ca.crt",
                key: "pki/ca.key",
                bundle: Some("pki/ca-bundle.crt"),
                chain: Some("pki/ca-chain.crt"),
            },
        )
    },
    CertSpec {
        sans: &[
            SanRule::HostName,
            SanRule::ServiceNames,
            SanRule::ServiceAddress,
            SanRule::HostAddresses,
            SanRule::Endpoint,
        ],
        subject: named("kube-apiserver"),
        purpose: Purpose::Server,
        expected: Expected::Usually,
        kubeadm_sans: Some(&["apiServer", "certSANs"]),
        ..leaf("apiserver", "serves the Kubernetes API (6443)", "ca", files!("apiserver"))
    },
    CertSpec {
        subject: named("kube-apiserver-kubelet-client"),
        expected: Expected::Usually,
        ..leaf(
            "apiserver-kubelet-client",
            "the apiserver as a client of kubelets",
            "ca",
            files!("apiserver-kubelet-client"),
        )
    },
    CertSpec {
        expected: Expected::Usually,
        ..ca(
            "front-proxy-ca",
            "signs the apiserver's identity towards aggregated API servers",
            "front-proxy-ca",
            authority!("front-proxy-ca"),
        )
    },
    CertSpec {
        subject: named("front-proxy-client"),
        expected: Expected::Usually,
        ..leaf(
            "front-proxy-client",
            "the apiserver as a client of aggregated API servers",
            "front-proxy-ca",
            files!("front-proxy-client"),
        )
    },
    CertSpec {
        present: Condition::ManagedEtcd,
        expected: Expected::Usually,
        ..ca("etcd-ca", "signs everything that talks etcd", "etcd-ca", authority!("etcd/ca"))
    },
    CertSpec {
        sans: &[
            SanRule::HostName,
            SanRule::Dns("localhost"),
            SanRule::HostAddresses,
            SanRule::Loopback,
        ],
        purpose: Purpose::ServerAndClient,
        scope: Scope::Etcd,
        present: Condition::ManagedEtcd,
        key: KeyPolicy::Keep,
        expected: Expected::Usually,
        kubeadm_sans: Some(&["etcd", "local", "serverCertSANs"]),
        ..leaf("etcd-server", "serves etcd's clients (2379)", "etcd-ca", files!("etcd/server"))
    },
    CertSpec {
        sans: &[
            SanRule::HostName,
            SanRule::Dns("localhost"),
            SanRule::Dns(ETCD_PEER_NAME),
            SanRule::HostAddresses,
            SanRule::Loopback,
        ],
        purpose: Purpose::ServerAndClient,
        scope: Scope::Etcd,
        present: Condition::ManagedEtcd,
        key: KeyPolicy::Keep,
        expected: Expected::Usually,
        kubeadm_sans: Some(&["etcd", "local", "peerCertSANs"]),
        ..leaf("etcd-peer", "etcd members among themselves (2380)", "etcd-ca", files!("etcd/peer"))
    },
    CertSpec {
        subject: named("kube-etcd-healthcheck-client"),
        scope: Scope::Etcd,
        present: Condition::ManagedEtcd,
        expected: Expected::Usually,
        ..leaf(
            "etcd-healthcheck-client",
            "health checks and etcdctl",
            "etcd-ca",
            files!("etcd/healthcheck-client"),
        )
    },
    CertSpec {
        subject: named("kube-apiserver-etcd-client"),
        present: Condition::ManagedEtcd,
        expected: Expected::Usually,
        ..leaf(
            "apiserver-etcd-client",
            "the apiserver as a client of etcd",
            "etcd-ca",
            files!("apiserver-etcd-client"),
        )
    },
    CertSpec {
        subject: named("system:kube-controller-manager"),
        sans: &[SanRule::HostName, SanRule::HostAddresses, SanRule::Loopback],
        purpose: Purpose::Server,
        source: SERVING,
        ..leaf(
            "controller-manager",
            "serves the controller-manager's metrics and health (10257)",
            "ca",
            files!("controller-manager"),
        )
    },
    CertSpec {
        subject: named("system:kube-scheduler"),
        sans: &[SanRule::HostName, SanRule::HostAddresses, SanRule::Loopback],
        purpose: Purpose::Server,
        source: SERVING,
        ..leaf(
            "scheduler",
            "serves the scheduler's metrics and health (10259)",
            "ca",
            files!("scheduler"),
        )
    },
    CertSpec {
        subject: SubjectRule::Node,
        sans: &[SanRule::HostName, SanRule::HostAddresses],
        purpose: Purpose::Server,
        scope: Scope::Node,
        source: "Kubernetes 1.36, pkg/apis/certificates/helpers.go (kubelet-serving)",
        ..leaf("kubelet", "serves the kubelet's API (10250)", "ca", files!("kubelet"))
    },
    CertSpec {
        subject: SubjectRule::Fixed {
            organizations: &["kubeadm:cluster-admins"],
            common_name: "kubernetes-admin",
        },
        scope: Scope::Cluster,
        source: KUBEADM_KUBECONFIG,
        expected: Expected::Usually,
        ..leaf(
            "admin.conf",
            "the administrator; rights come from RBAC and can be taken back",
            "ca",
            Home::Kubeconfig { file: "admin.conf", pem: None, server: ApiServer::Endpoint },
        )
    },
    CertSpec {
        subject: SubjectRule::Fixed {
            organizations: &["system:masters"],
            common_name: "kubernetes-super-admin",
        },
        scope: Scope::Cluster,
        source: KUBEADM_KUBECONFIG,
        expected: Expected::Nowhere,
        ..leaf(
            "super-admin.conf",
            "break-glass: passes every authorization, keep it locked away",
            "ca",
            Home::Kubeconfig { file: "super-admin.conf", pem: None, server: ApiServer::Endpoint },
        )
    },
    CertSpec {
        subject: named("system:kube-controller-manager"),
        source: KUBEADM_KUBECONFIG,
        expected: Expected::Usually,
        ..leaf(
            "controller-manager.conf",
            "the controller-manager as a client of the apiserver",
            "ca",
            Home::Kubeconfig {
                file: "controller-manager.conf",
                pem: Some("pki/controller-manager-client.pem"),
                server: ApiServer::Local,
            },
        )
    },
    CertSpec {
        subject: named("system:kube-scheduler"),
        source: KUBEADM_KUBECONFIG,
        expected: Expected::Usually,
        ..leaf(
            "scheduler.conf",
            "the scheduler as a client of the apiserver",
            "ca",
            Home::Kubeconfig {
                file: "scheduler.conf",
                pem: Some("pki/scheduler-client.pem"),
                server: ApiServer::Local,
            },
        )
    },
    CertSpec {
        subject: SubjectRule::Node,
        scope: Scope::Node,
        source: KUBEADM_KUBECONFIG,
        ..leaf(
            "kubelet.conf",
            "the kubelet as a client of the apiserver",
            "ca",
            Home::Kubeconfig {
                file: "kubelet.conf",
                pem: Some("pki/kubelet-client.pem"),
                server: ApiServer::Local,
            },
        )
    },
    CertSpec {
        subject: named("system:kube-proxy"),
        scope: Scope::Node,
        present: Condition::Addon("kube-proxy"),
        source: "Kubernetes 1.36, plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go",
        ..leaf(
            "kube-proxy.conf",
            "kube-proxy as a client of the apiserver",
            "ca",
            Home::Kubeconfig {
                file: "kube-proxy.conf",
                pem: Some("pki/kube-proxy-client.pem"),
                server: ApiServer::Endpoint,
            },
        )
    },
    CertSpec {
        present: Condition::Addon("konnectivity"),
        source: KONNECTIVITY,
        ..ca(
            "konnectivity-ca",
            "signs both ends between the apiserver and the Konnectivity server",
            "konnectivity-ca",
            authority!("konnectivity/ca"),
        )
    },
    CertSpec {
        sans: &[SanRule::HostName, SanRule::HostAddresses, SanRule::Loopback],
        subject: named("konnectivity-server"),
        purpose: Purpose::Server,
        present: Condition::Addon("konnectivity"),
        source: KONNECTIVITY,
        ..leaf(
            "konnectivity-server",
            "the Konnectivity server towards the apiserver (8131)",
            "konnectivity-ca",
            files!("konnectivity/server"),
        )
    },
    CertSpec {
        subject: named("kube-apiserver-konnectivity-client"),
        present: Condition::Addon("konnectivity"),
        source: KONNECTIVITY,
        ..leaf(
            "konnectivity-egress-client",
            "the apiserver as a client of the Konnectivity server",
            "konnectivity-ca",
            files!("konnectivity/egress-client"),
        )
    },
    // A CA of its own: an agent's certificate is on every node, and must not open the apiserver's side,
    // from where every node can be dialled.
    CertSpec {
        present: Condition::Addon("konnectivity"),
        source: KONNECTIVITY,
        ..ca(
            "konnectivity-agent-ca",
            "signs both ends between Konnectivity agents and server",
            "konnectivity-agent-ca",
            authority!("konnectivity/agent-ca"),
        )
    },
    CertSpec {
        sans: &[SanRule::HostName, SanRule::HostAddresses, SanRule::Endpoint],
        subject: named("konnectivity-agent-server"),
        purpose: Purpose::Server,
        present: Condition::Addon("konnectivity"),
        source: KONNECTIVITY,
        ..leaf(
            "konnectivity-agent-server",
            "the Konnectivity server towards its agents (8132)",
            "konnectivity-agent-ca",
            files!("konnectivity/agent-server"),
        )
    },
    CertSpec {
        subject: named("konnectivity-agent"),
        scope: Scope::Node,
        present: Condition::Addon("konnectivity"),
        source: KONNECTIVITY,
        ..leaf(
            "konnectivity-agent",
            "a Konnectivity agent as a client of its server",
            "konnectivity-agent-ca",
            files!("konnectivity/agent"),
        )
    },
    CertSpec {
        subject: named("system:konnectivity-server"),
        present: Condition::Addon("konnectivity"),
        source: KONNECTIVITY,
        ..leaf(
            "konnectivity-server.conf",
            "the Konnectivity server as a client of the apiserver (token review)",
            "ca",
            Home::Kubeconfig {
                file: "konnectivity-server.conf",
                pem: Some("pki/konnectivity/server-client.pem"),
                server: ApiServer::Local,
            },
        )
    },
    CertSpec {
        sans: &[
            SanRule::HostName,
            SanRule::HostAddresses,
            SanRule::Loopback,
            SanRule::Dns("certkit-controller.kube-system.svc"),
        ],
        subject: named("certkit-controller"),
        purpose: Purpose::Server,
        present: Condition::Addon("controller"),
        source: CONTROLLER,
        ..leaf(
            "certkit-controller",
            "serves the health and metrics of `certkit controller` (10261)",
            "ca",
            files!("certkit-controller"),
        )
    },
    CertSpec {
        subject: named("certkit-controller"),
        present: Condition::Addon("controller"),
        source: CONTROLLER,
        ..leaf(
            "certkit-controller.conf",
            "`certkit controller` as a client of the apiserver; rights come from RBAC",
            "ca",
            Home::Kubeconfig {
                file: "certkit-controller.conf",
                pem: Some("pki/certkit-controller-client.pem"),
                server: ApiServer::Local,
            },
        )
    },
    // Nothing of Kubernetes trusts it: whoever has a certificate of it is nobody to the apiserver, kubelets and etcd.
    CertSpec {
        issuer: Issuer::Own,
        purpose: Purpose::Ca { path_len: Some(0) },
        present: Condition::Addon("workload"),
        source: CONTROLLER,
        ..ca(
            "workload-ca",
            "signs certificates of pods and of nodes for each other, by `certkit controller --sign`",
            "workload-ca",
            authority!("workload/ca"),
        )
    },
    CertSpec {
        issuer: Issuer::Own,
        subject: SubjectRule::Fixed { organizations: &["Istio"], common_name: "Root CA" },
        sans: &[],
        present: Condition::Addon("istio"),
        source: ISTIO,
        ..ca(
            "istio-root-ca",
            "root of the mesh; only istio-ca needs it, so its key can be taken offline",
            "",
            Home::Authority {
                cert: "pki/istio/root-cert.pem",
                key: "pki/istio/root-key.pem",
                bundle: Some("pki/istio/root-cert-bundle.pem"),
                chain: None,
            },
        )
    },
    CertSpec {
        issuer: Issuer::Ca(CertId("istio-root-ca")),
        subject: SubjectRule::Fixed { organizations: &["Istio"], common_name: "Intermediate CA" },
        sans: &[SanRule::Dns("istiod.istio-system.svc")],
        purpose: Purpose::Ca { path_len: Some(0) },
        present: Condition::Addon("istio"),
        source: ISTIO,
        ..ca(
            "istio-ca",
            "signs the mesh's workload certificates (secret istio-system/cacerts)",
            "",
            Home::Authority {
                cert: "pki/istio/ca-cert.pem",
                key: "pki/istio/ca-key.pem",
                bundle: None,
                chain: Some("pki/istio/cert-chain.pem"),
            },
        )
    },
];
