//! Every way a cluster talks.

use super::{CertId, Condition, Credential, Dials, Path, Protection};

const KONNECTIVITY: Condition = Condition::Addon("konnectivity");

/// A path on which both ends show certificates of the cluster CA; rows say what differs with `..`.
const fn mutual(
    id: &'static str,
    from: &'static str,
    to: &'static str,
    port: &'static str,
) -> Path {
    Path {
        id,
        from,
        to,
        port,
        client: Credential::None,
        server: Credential::None,
        client_trusts: Some(CertId("ca")),
        server_trusts: Some(CertId("ca")),
        dials: Dials::Nothing,
        settings: &[],
        protection: Protection::MutualTls,
        breaks: "",
        present: Condition::Always,
    }
}

/// A client of the apiserver with a certificate.
const fn api_client(id: &'static str, from: &'static str, client: &'static str) -> Path {
    Path {
        client: Credential::Cert(CertId(client)),
        server: Credential::Cert(CertId("apiserver")),
        dials: Dials::Endpoint,
        ..mutual(id, from, "kube-apiserver", "6443")
    }
}

/// All of them.
pub static PATHS: &[Path] = &[
    Path {
        settings: &[("kube-apiserver", "client-ca-file"), ("kube-apiserver", "tls-cert-file")],
        breaks: "kubectl says x509 or Unauthorized",
        ..api_client("admin-to-apiserver", "kubectl (admin.conf)", "admin.conf")
    },
    Path {
        settings: &[("kube-apiserver", "client-ca-file"), ("kube-apiserver", "tls-cert-file")],
        breaks: "the break-glass login fails when it is needed most",
        ..api_client("super-admin-to-apiserver", "kubectl (super-admin.conf)", "super-admin.conf")
    },
    Path {
        settings: &[("kubelet", "kubeconfig"), ("kube-apiserver", "client-ca-file")],
        breaks: "the node goes NotReady and its pods are moved after five minutes",
        ..api_client("kubelet-to-apiserver", "kubelet", "kubelet.conf")
    },
    Path {
        dials: Dials::HostAddress,
        settings: &[
            ("kube-controller-manager", "kubeconfig"),
            ("kube-apiserver", "client-ca-file"),
        ],
        breaks: "nothing is reconciled: no new pods, endpoints or node leases",
        ..api_client(
            "controller-manager-to-apiserver",
            "kube-controller-manager",
            "controller-manager.conf",
        )
    },
    Path {
        dials: Dials::HostAddress,
        settings: &[
            ("kube-scheduler", "clientConnection.kubeconfig"),
            ("kube-apiserver", "client-ca-file"),
        ],
        breaks: "new pods stay Pending",
        ..api_client("scheduler-to-apiserver", "kube-scheduler", "scheduler.conf")
    },
    Path {
        settings: &[("kube-proxy", "kubeconfig"), ("kube-apiserver", "client-ca-file")],
        breaks: "services keep the endpoints they had",
        present: Condition::Addon("kube-proxy"),
        ..api_client("kube-proxy-to-apiserver", "kube-proxy", "kube-proxy.conf")
    },
    Path {
        client: Credential::Token("service-account token, signed by sa.key"),
        server: Credential::Cert(CertId("apiserver")),
        server_trusts: None,
        dials: Dials::ServiceAddress,
        settings: &[
            ("kube-controller-manager", "root-ca-file"),
            ("kube-apiserver", "service-account-key-file"),
            ("kube-apiserver", "service-account-signing-key-file"),
        ],
        protection: Protection::ServerTls,
        breaks: "everything that runs in pods and uses the API: DNS, ingress, operators",
        ..mutual("pods-to-apiserver", "pods", "kube-apiserver (service kubernetes)", "443")
    },
    Path {
        client: Credential::Cert(CertId("apiserver-kubelet-client")),
        server: Credential::Cert(CertId("kubelet")),
        dials: Dials::HostAddress,
        settings: &[
            ("kube-apiserver", "kubelet-certificate-authority"),
            ("kube-apiserver", "kubelet-client-certificate"),
            ("kubelet", "authentication.x509.clientCAFile"),
            ("kubelet", "tlsCertFile"),
        ],
        breaks: "kubectl logs, exec, attach and port-forward fail; metrics-server has no data",
        ..mutual("apiserver-to-kubelet", "kube-apiserver", "kubelet", "10250")
    },
    Path {
        client_trusts: None,
        server_trusts: None,
        protection: Protection::Unprotectable {
            why: "the apiserver's proxy to nodes, pods and services speaks plain HTTP by default, and \
                  with an https: prefix it verifies no certificate",
            remedy: "run Konnectivity so that it leaves the host only through a TLS tunnel, and let \
                     RBAC give the proxy subresources to nobody who does not need them",
        },
        breaks: "kubectl proxy to a node, pod or service fails",
        ..mutual("apiserver-proxy", "kube-apiserver", "nodes, pods and services", "any")
    },
    Path {
        client_trusts: None,
        server_trusts: None,
        protection: Protection::Removed {
            instead: "Konnectivity (certkit init --addon konnectivity)",
        },
        breaks: "nothing: SSH tunnels went in Kubernetes 1.22",
        ..mutual("ssh-tunnels", "kube-apiserver", "nodes", "22")
    },
    Path {
        client: Credential::Cert(CertId("konnectivity-egress-client")),
        server: Credential::Cert(CertId("konnectivity-server")),
        client_trusts: Some(CertId("konnectivity-ca")),
        server_trusts: Some(CertId("konnectivity-ca")),
        dials: Dials::Loopback,
        settings: &[
            ("kube-apiserver", "egress-selector-config-file"),
            ("egress-selector", "egressSelections.0.connection.transport.tcp.tlsConfig.caBundle"),
            ("konnectivity-server", "server-ca-cert"),
            ("konnectivity-server", "server-cert"),
        ],
        breaks: "exec, logs, webhooks and aggregated APIs all fail while /healthz stays green",
        present: KONNECTIVITY,
        ..mutual("apiserver-to-konnectivity", "kube-apiserver", "konnectivity-server", "8131")
    },
    Path {
        client: Credential::Cert(CertId("konnectivity-agent")),
        server: Credential::Cert(CertId("konnectivity-agent-server")),
        client_trusts: Some(CertId("konnectivity-agent-ca")),
        server_trusts: Some(CertId("konnectivity-agent-ca")),
        dials: Dials::Endpoint,
        settings: &[
            ("konnectivity-agent", "ca-cert"),
            ("konnectivity-agent", "agent-cert"),
            ("konnectivity-server", "cluster-ca-cert"),
            ("konnectivity-server", "cluster-cert"),
        ],
        breaks: "no route to the nodes of the agents that are gone",
        present: KONNECTIVITY,
        ..mutual("agent-to-konnectivity", "konnectivity-agent", "konnectivity-server", "8132")
    },
    Path {
        dials: Dials::HostAddress,
        settings: &[("konnectivity-server", "kubeconfig"), ("kube-apiserver", "client-ca-file")],
        breaks: "agents that log in by token are turned away",
        present: KONNECTIVITY,
        ..api_client("konnectivity-to-apiserver", "konnectivity-server", "konnectivity-server.conf")
    },
    Path {
        dials: Dials::HostAddress,
        settings: &[("certkit-controller", "kubeconfig"), ("kube-apiserver", "client-ca-file")],
        breaks: "kubelets' requests for certificates wait",
        present: Condition::Addon("controller"),
        ..api_client("controller-to-apiserver", "certkit-controller", "certkit-controller.conf")
    },
    Path {
        server: Credential::Cert(CertId("certkit-controller")),
        server_trusts: None,
        dials: Dials::HostAddress,
        settings: &[("certkit-controller", "tls-cert-file")],
        protection: Protection::ServerTls,
        breaks: "no metrics of the controller",
        present: Condition::Addon("controller"),
        ..mutual("monitoring-to-controller", "monitoring", "certkit-controller", "10261")
    },
    Path {
        client: Credential::Cert(CertId("apiserver-etcd-client")),
        server: Credential::Cert(CertId("etcd-server")),
        client_trusts: Some(CertId("etcd-ca")),
        server_trusts: Some(CertId("etcd-ca")),
        dials: Dials::HostAddress,
        settings: &[
            ("kube-apiserver", "etcd-cafile"),
            ("kube-apiserver", "etcd-certfile"),
            ("kube-apiserver", "etcd-servers"),
            ("etcd", "cert-file"),
            ("etcd", "trusted-ca-file"),
            ("etcd", "client-cert-auth"),
        ],
        breaks: "the whole API is down",
        present: Condition::ManagedEtcd,
        ..mutual("apiserver-to-etcd", "kube-apiserver", "etcd", "2379")
    },
    Path {
        client: Credential::Cert(CertId("etcd-peer")),
        server: Credential::Cert(CertId("etcd-peer")),
        client_trusts: Some(CertId("etcd-ca")),
        server_trusts: Some(CertId("etcd-ca")),
        dials: Dials::HostAddress,
        settings: &[
            ("etcd", "peer-cert-file"),
            ("etcd", "peer-trusted-ca-file"),
            ("etcd", "peer-client-cert-auth"),
            ("etcd", "peer-cert-allowed-hostname"),
        ],
        breaks: "members fall out; without a majority etcd stops",
        present: Condition::ManagedEtcd,
        ..mutual("etcd-to-etcd", "etcd", "etcd", "2380")
    },
    Path {
        client: Credential::Cert(CertId("etcd-healthcheck-client")),
        server: Credential::Cert(CertId("etcd-server")),
        client_trusts: Some(CertId("etcd-ca")),
        server_trusts: Some(CertId("etcd-ca")),
        dials: Dials::Loopback,
        settings: &[("etcdctl", "cacert"), ("etcdctl", "cert"), ("etcd", "trusted-ca-file")],
        breaks: "health checks, backups and repair by hand",
        present: Condition::ManagedEtcd,
        ..mutual("etcdctl-to-etcd", "etcdctl and health checks", "etcd", "2379")
    },
    Path {
        client: Credential::Cert(CertId("front-proxy-client")),
        server: Credential::Other("the aggregated server's own, for SERVICE.NAMESPACE.svc"),
        client_trusts: None,
        server_trusts: Some(CertId("front-proxy-ca")),
        settings: &[
            ("kube-apiserver", "proxy-client-cert-file"),
            ("kube-apiserver", "requestheader-client-ca-file"),
            ("kube-apiserver", "requestheader-allowed-names"),
        ],
        breaks: "kubectl top and every aggregated API; discovery, HPA and namespace deletion suffer",
        ..mutual("apiserver-to-aggregated", "kube-apiserver", "aggregated API servers", "443")
    },
    Path {
        client: Credential::Token("service-account token or client certificate of the cluster CA"),
        server: Credential::Cert(CertId("controller-manager")),
        dials: Dials::HostAddress,
        settings: &[
            ("kube-controller-manager", "tls-cert-file"),
            ("kube-controller-manager", "client-ca-file"),
            ("kube-controller-manager", "authentication-kubeconfig"),
        ],
        protection: Protection::ServerTls,
        breaks: "no metrics of the controller-manager",
        ..mutual(
            "monitoring-to-controller-manager",
            "monitoring",
            "kube-controller-manager",
            "10257",
        )
    },
    Path {
        client: Credential::Token("service-account token or client certificate of the cluster CA"),
        server: Credential::Cert(CertId("scheduler")),
        dials: Dials::HostAddress,
        settings: &[
            ("kube-scheduler", "tls-cert-file"),
            ("kube-scheduler", "client-ca-file"),
            ("kube-scheduler", "authentication-kubeconfig"),
        ],
        protection: Protection::ServerTls,
        breaks: "no metrics of the scheduler",
        ..mutual("monitoring-to-scheduler", "monitoring", "kube-scheduler", "10259")
    },
    Path {
        client: Credential::Token("service-account token"),
        server: Credential::Cert(CertId("kubelet")),
        dials: Dials::HostAddress,
        settings: &[("kubelet", "tlsCertFile"), ("kubelet", "authentication.webhook.enabled")],
        protection: Protection::ServerTls,
        breaks: "kubectl top and autoscaling have no figures of the node",
        ..mutual("monitoring-to-kubelet", "metrics-server and monitoring", "kubelet", "10250")
    },
    Path {
        client: Credential::Other("what the webhook's own kubeconfig says, usually nothing"),
        server: Credential::Other("the webhook's own, for SERVICE.NAMESPACE.svc, by its caBundle"),
        client_trusts: None,
        server_trusts: None,
        protection: Protection::ServerTls,
        breaks: "what the webhook admits cannot be created or changed (failurePolicy: Fail)",
        ..mutual(
            "apiserver-to-webhooks",
            "kube-apiserver",
            "admission and conversion webhooks",
            "443",
        )
    },
    Path {
        client_trusts: None,
        server_trusts: None,
        protection: Protection::Unprotectable {
            why: "nodes talk to each other as hosts: the pod network's packets, not connections that a \
                  certificate could be shown on",
            remedy: "a CNI that encrypts between nodes (WireGuard or IPsec), and a firewall around \
                     etcd's and the kubelets' ports; programs of nodes that do make connections get \
                     certificates by the path node-to-node-certificates",
        },
        breaks: "pods on different nodes cannot reach each other",
        ..mutual("node-to-node", "nodes", "nodes", "any")
    },
    Path {
        client: Credential::Token(
            "bootstrap token, exchanged for a certificate through the CSR API",
        ),
        server: Credential::Cert(CertId("apiserver")),
        server_trusts: None,
        dials: Dials::Endpoint,
        settings: &[
            ("kube-controller-manager", "cluster-signing-cert-file"),
            ("kube-controller-manager", "cluster-signing-key-file"),
        ],
        protection: Protection::ServerTls,
        breaks: "new nodes cannot join",
        ..mutual("new-node-to-apiserver", "a new node", "kube-apiserver", "6443")
    },
    Path {
        client: Credential::Other("a workload certificate of istio-ca (SPIFFE id)"),
        server: Credential::Other("a workload certificate of istio-ca (SPIFFE id)"),
        client_trusts: Some(CertId("istio-root-ca")),
        server_trusts: Some(CertId("istio-root-ca")),
        settings: &[("istiod", "cacerts.ca-cert\\.pem"), ("istiod", "cacerts.root-cert\\.pem")],
        breaks: "services of the mesh refuse each other",
        present: Condition::Addon("istio"),
        ..mutual("pod-to-pod-mesh", "pods of the mesh", "pods of the mesh", "any")
    },
    Path {
        client_trusts: None,
        server_trusts: None,
        protection: Protection::Unprotectable {
            why: "Kubernetes gives pods no certificates for talking to each other",
            remedy: "certificates of pods, without a mesh (certkit init --addon workload), a service mesh \
                     with a CA of its own (certkit init --addon istio), or network policies and \
                     encryption in the CNI",
        },
        breaks: "an application's own affair",
        ..mutual("pod-to-pod", "pods", "pods", "any")
    },
    Path {
        client: Credential::Other(
            "a certificate of workload-ca (SPIFFE id of its service account)",
        ),
        server: Credential::Other(
            "a certificate of workload-ca (SPIFFE id of its service account)",
        ),
        client_trusts: Some(CertId("workload-ca")),
        server_trusts: Some(CertId("workload-ca")),
        settings: &[("workloads", "trust.ca\\.crt")],
        breaks: "pods that show each other certificates refuse each other",
        present: Condition::Addon("workload"),
        ..mutual("pod-to-pod-certificates", "pods", "pods", "any")
    },
    Path {
        client: Credential::Other("a certificate of workload-ca (the node's names)"),
        server: Credential::Other("a certificate of workload-ca (the node's names)"),
        client_trusts: Some(CertId("workload-ca")),
        server_trusts: Some(CertId("workload-ca")),
        settings: &[("workloads", "trust.ca\\.crt")],
        breaks: "programs of nodes that show each other certificates refuse each other",
        present: Condition::Addon("workload"),
        ..mutual("node-to-node-certificates", "nodes", "nodes", "any")
    },
];
