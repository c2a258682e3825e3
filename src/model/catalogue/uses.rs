//! Which setting of which component names which file, and how a change of it is taken up.
//!
//! Trust names bundles and signing names the single CA certificate, so that a CA rotation changes files
//! and no setting. Reload behaviour is Kubernetes 1.36's and etcd 3.6's, read from their source.

use super::{CertId, ClusterValue, Condition, Reload, Use, Value};

/// A setting that can be a flag and has no configuration file field.
const fn flag(
    component: &'static str,
    flag: &'static str,
    value: Value,
    reload: Reload,
    default: &'static str,
    why: &'static str,
) -> Use {
    Use {
        component,
        flag: Some(flag),
        field: None,
        value,
        reload,
        default,
        why,
        present: Condition::Always,
    }
}

/// A setting that is a field of the component's configuration file only: its flag is deprecated or absent.
const fn field(
    component: &'static str,
    field: &'static str,
    value: Value,
    reload: Reload,
    default: &'static str,
    why: &'static str,
) -> Use {
    Use {
        component,
        flag: None,
        field: Some(field),
        value,
        reload,
        default,
        why,
        present: Condition::Always,
    }
}

/// An etcd setting: its flag, and the same in etcd's configuration file.
const fn etcd(
    name: &'static str,
    path: &'static str,
    value: Value,
    reload: Reload,
    default: &'static str,
    why: &'static str,
) -> Use {
    Use {
        component: "etcd",
        flag: Some(name),
        field: Some(path),
        value,
        reload,
        default,
        why,
        present: Condition::ManagedEtcd,
    }
}

const API: &str = "kube-apiserver";
const KCM: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
const KUBELET: &str = "kubelet";
const CONTROLLER: &str = "certkit-controller";
const KONNECTIVITY: Condition = Condition::Addon("konnectivity");

const SELF_SIGNED: &str = "a certificate signed by itself, new at every start";
const TLS12: &str = "Go's minimum, which is TLS 1.2 today and changes with the Go release";
const IN_CLUSTER: &str = "read from the ConfigMap extension-apiserver-authentication at start";

/// All of them.
pub static USES: &[Use] = &[
    // etcd
    etcd(
        "cert-file",
        "client-transport-security.cert-file",
        Value::Cert(CertId("etcd-server")),
        Reload::Handshake,
        "clients are served without TLS",
        "what clients check",
    ),
    etcd(
        "key-file",
        "client-transport-security.key-file",
        Value::Key(CertId("etcd-server")),
        Reload::Handshake,
        "clients are served without TLS",
        "the key of cert-file",
    ),
    etcd(
        "trusted-ca-file",
        "client-transport-security.trusted-ca-file",
        Value::Bundle(CertId("etcd-ca")),
        Reload::Restart,
        "the system's roots",
        "only certificates of the etcd CA open the store; without it any public CA's would",
    ),
    etcd(
        "client-cert-auth",
        "client-transport-security.client-cert-auth",
        Value::Literal("true"),
        Reload::Nothing,
        "false: no client certificate is asked for",
        "whoever can read etcd owns the cluster",
    ),
    etcd(
        "peer-cert-file",
        "peer-transport-security.cert-file",
        Value::Cert(CertId("etcd-peer")),
        Reload::Handshake,
        "peers talk without TLS",
        "shown both when dialling and when dialled",
    ),
    etcd(
        "peer-key-file",
        "peer-transport-security.key-file",
        Value::Key(CertId("etcd-peer")),
        Reload::Handshake,
        "peers talk without TLS",
        "the key of peer-cert-file",
    ),
    etcd(
        "peer-trusted-ca-file",
        "peer-transport-security.trusted-ca-file",
        Value::Bundle(CertId("etcd-ca")),
        Reload::Restart,
        "the system's roots",
        "only certificates of the etcd CA join the cluster",
    ),
    etcd(
        "peer-client-cert-auth",
        "peer-transport-security.client-cert-auth",
        Value::Literal("true"),
        Reload::Nothing,
        "false: anyone can speak the peer protocol",
        "members prove who they are to each other",
    ),
    etcd(
        "peer-cert-allowed-hostname",
        "peer-transport-security.allowed-hostname",
        Value::Literal(super::ETCD_PEER_NAME),
        Reload::Nothing,
        "any certificate of the CA that has no SAN is taken for a peer",
        "only peer certificates carry this name, so no other certificate of the etcd CA can join",
    )
    .when(Condition::EtcdPeerName),
    // Where it listens. With an http URL etcd ignores every certificate, and http is its default.
    etcd(
        "advertise-client-urls",
        "advertise-client-urls",
        Value::Setting(ClusterValue::EtcdClientUrl),
        Reload::Nothing,
        "http://localhost:2379, which is of no use to others",
        "where others reach it as clients",
    ),
    etcd(
        "initial-advertise-peer-urls",
        "initial-advertise-peer-urls",
        Value::Setting(ClusterValue::EtcdPeerUrl),
        Reload::Nothing,
        "http://localhost:2380: no other member finds it",
        "where other members reach it; counts when the member is new",
    ),
    etcd(
        "initial-cluster",
        "initial-cluster",
        Value::Setting(ClusterValue::EtcdMembers),
        Reload::Nothing,
        "this member alone, by http",
        "the members that make a new cluster; counts when the member is new",
    )
    .when(Condition::EtcdMembers),
    etcd(
        "listen-client-urls",
        "listen-client-urls",
        Value::Setting(ClusterValue::EtcdClientUrls),
        Reload::Nothing,
        "http://localhost:2379: without TLS, whatever certificates are given",
        "https: etcd ignores certificates where it listens with http",
    ),
    etcd(
        "listen-peer-urls",
        "listen-peer-urls",
        Value::Setting(ClusterValue::EtcdPeerUrl),
        Reload::Nothing,
        "http://localhost:2380: without TLS, whatever certificates are given",
        "https: etcd ignores certificates where it listens with http",
    ),
    etcd(
        "name",
        "name",
        Value::Setting(ClusterValue::HostName),
        Reload::Nothing,
        "default",
        "what initial-cluster calls this member",
    ),
    // kube-apiserver
    flag(
        API,
        "advertise-address",
        Value::Setting(ClusterValue::AdvertiseAddress),
        Reload::Nothing,
        "the address of the interface of the default route",
        "an address that its certificate names, for the service kubernetes to lead to",
    ),
    flag(
        API,
        "authorization-mode",
        Value::Literal("Node,RBAC"),
        Reload::Nothing,
        "AlwaysAllow",
        "the identities in client certificates mean nothing while everything is allowed",
    ),
    flag(
        API,
        "client-ca-file",
        Value::Bundle(CertId("ca")),
        Reload::Watch,
        "no client certificate is accepted",
        "who may log in with a certificate",
    ),
    flag(
        API,
        "egress-selector-config-file",
        Value::ConfigFile("egress-selector"),
        Reload::Restart,
        "the apiserver dials nodes directly",
        "sends traffic to nodes through Konnectivity; `certkit init` writes the file",
    )
    .when(KONNECTIVITY),
    flag(
        API,
        "enable-admission-plugins",
        Value::Literal("NodeRestriction"),
        Reload::Nothing,
        "NodeRestriction is off",
        "holds a kubelet's certificate to its own node",
    ),
    flag(
        API,
        "etcd-cafile",
        Value::Bundle(CertId("etcd-ca")),
        Reload::Restart,
        "the system's roots",
        "which etcd is the right one",
    )
    .when(Condition::ManagedEtcd),
    flag(
        API,
        "etcd-certfile",
        Value::Cert(CertId("apiserver-etcd-client")),
        Reload::Handshake,
        "no client certificate",
        "the apiserver's identity towards etcd",
    )
    .when(Condition::ManagedEtcd),
    flag(
        API,
        "etcd-keyfile",
        Value::Key(CertId("apiserver-etcd-client")),
        Reload::Handshake,
        "no client certificate",
        "the key of etcd-certfile",
    )
    .when(Condition::ManagedEtcd),
    flag(
        API,
        "etcd-servers",
        Value::Setting(ClusterValue::EtcdServers),
        Reload::Nothing,
        "required",
        "https, as plain http would ignore every certificate",
    )
    .when(Condition::ManagedEtcd),
    flag(
        API,
        "kubelet-certificate-authority",
        Value::Bundle(CertId("ca")),
        Reload::Poll(300),
        "kubelets are not verified at all",
        "exec, logs and port-forward go to the real kubelet only",
    ),
    flag(
        API,
        "kubelet-client-certificate",
        Value::Cert(CertId("apiserver-kubelet-client")),
        Reload::Poll(300),
        "no client certificate: kubelets refuse",
        "the apiserver's identity towards kubelets",
    ),
    flag(
        API,
        "kubelet-client-key",
        Value::Key(CertId("apiserver-kubelet-client")),
        Reload::Poll(300),
        "no client certificate: kubelets refuse",
        "the key of kubelet-client-certificate",
    ),
    flag(
        API,
        "proxy-client-cert-file",
        Value::Cert(CertId("front-proxy-client")),
        Reload::Watch,
        "aggregated API servers cannot tell the apiserver from anyone",
        "the apiserver's identity towards aggregated API servers",
    ),
    flag(
        API,
        "proxy-client-key-file",
        Value::Key(CertId("front-proxy-client")),
        Reload::Watch,
        "aggregated API servers cannot tell the apiserver from anyone",
        "the key of proxy-client-cert-file",
    ),
    flag(
        API,
        "requestheader-allowed-names",
        Value::Literal("front-proxy-client"),
        Reload::Nothing,
        "any certificate of the front-proxy CA may name any user",
        "only the front proxy may say on whose behalf it asks",
    ),
    flag(
        API,
        "requestheader-client-ca-file",
        Value::Bundle(CertId("front-proxy-ca")),
        Reload::Watch,
        "request headers are not believed",
        "who may say on whose behalf it asks",
    ),
    flag(
        API,
        "requestheader-extra-headers-prefix",
        Value::Literal("X-Remote-Extra-"),
        Reload::Nothing,
        "none",
        "the header every aggregated API server reads",
    ),
    flag(
        API,
        "requestheader-group-headers",
        Value::Literal("X-Remote-Group"),
        Reload::Nothing,
        "none",
        "the header every aggregated API server reads",
    ),
    flag(
        API,
        "requestheader-username-headers",
        Value::Literal("X-Remote-User"),
        Reload::Nothing,
        "none",
        "the header every aggregated API server reads",
    ),
    flag(
        API,
        "secure-port",
        Value::Setting(ClusterValue::ApiPort),
        Reload::Nothing,
        "6443",
        "the port that kubeconfigs name",
    ),
    flag(
        API,
        "service-account-issuer",
        Value::Setting(ClusterValue::ServiceAccountIssuer),
        Reload::Nothing,
        "required",
        "the issuer in service-account tokens",
    ),
    flag(
        API,
        "service-account-key-file",
        Value::PublicKey("sa"),
        Reload::Restart,
        "required",
        "verifies service-account tokens",
    ),
    flag(
        API,
        "service-account-signing-key-file",
        Value::PrivateKey("sa"),
        Reload::Restart,
        "required",
        "signs service-account tokens",
    ),
    flag(
        API,
        "service-cluster-ip-range",
        Value::Setting(ClusterValue::ServiceSubnets),
        Reload::Nothing,
        "10.0.0.0/24",
        "the apiserver's certificate names this range's first address, by which pods reach it",
    ),
    flag(
        API,
        "tls-cert-file",
        Value::Cert(CertId("apiserver")),
        Reload::Watch,
        SELF_SIGNED,
        "what every client of the API checks",
    ),
    flag(
        API,
        "tls-min-version",
        Value::Literal("VersionTLS12"),
        Reload::Nothing,
        TLS12,
        "TLS 1.0 and 1.1 are broken (RFC 8996)",
    ),
    flag(
        API,
        "tls-private-key-file",
        Value::Key(CertId("apiserver")),
        Reload::Watch,
        SELF_SIGNED,
        "the key of tls-cert-file",
    ),
    // kube-controller-manager
    flag(
        KCM,
        "authentication-kubeconfig",
        Value::Kubeconfig(CertId("controller-manager.conf")),
        Reload::Kubeconfig,
        "everyone is anonymous",
        "who scrapes metrics is checked with the apiserver",
    ),
    flag(
        KCM,
        "authorization-kubeconfig",
        Value::Kubeconfig(CertId("controller-manager.conf")),
        Reload::Kubeconfig,
        "nobody is authorized",
        "who may scrape metrics is checked with the apiserver",
    ),
    flag(
        KCM,
        "client-ca-file",
        Value::Bundle(CertId("ca")),
        Reload::Watch,
        IN_CLUSTER,
        "client certificates are accepted even while the apiserver is down",
    ),
    flag(
        KCM,
        "cluster-signing-cert-file",
        Value::Cert(CertId("ca")),
        Reload::Watch,
        "certificate requests are not signed",
        "signs requests of the CSR API; must hold exactly one certificate",
    ),
    flag(
        KCM,
        "cluster-signing-key-file",
        Value::Key(CertId("ca")),
        Reload::Watch,
        "certificate requests are not signed",
        "the key of cluster-signing-cert-file",
    ),
    flag(
        KCM,
        "kubeconfig",
        Value::Kubeconfig(CertId("controller-manager.conf")),
        Reload::Kubeconfig,
        "required",
        "its identity towards the apiserver",
    ),
    flag(
        KCM,
        "requestheader-allowed-names",
        Value::Literal("front-proxy-client"),
        Reload::Nothing,
        "any certificate of the front-proxy CA may name any user",
        "only the front proxy may say on whose behalf it asks",
    ),
    flag(
        KCM,
        "requestheader-client-ca-file",
        Value::Bundle(CertId("front-proxy-ca")),
        Reload::Watch,
        IN_CLUSTER,
        "who may say on whose behalf it asks",
    ),
    flag(
        KCM,
        "root-ca-file",
        Value::Chain(CertId("ca")),
        Reload::Restart,
        "the CA embedded in its kubeconfig, none when the kubeconfig names a file",
        "becomes ConfigMap kube-root-ca.crt, by which pods check the apiserver; under a single root it \
         holds that root too, as programs on OpenSSL accept nothing less",
    ),
    flag(
        KCM,
        "service-account-private-key-file",
        Value::PrivateKey("sa"),
        Reload::Restart,
        "token Secrets are not filled in",
        "signs the tokens of Secrets of type service-account-token",
    ),
    flag(
        KCM,
        "tls-cert-file",
        Value::Cert(CertId("controller-manager")),
        Reload::Watch,
        SELF_SIGNED,
        "monitoring can verify whom it scrapes",
    ),
    flag(
        KCM,
        "tls-min-version",
        Value::Literal("VersionTLS12"),
        Reload::Nothing,
        TLS12,
        "TLS 1.0 and 1.1 are broken (RFC 8996)",
    ),
    flag(
        KCM,
        "tls-private-key-file",
        Value::Key(CertId("controller-manager")),
        Reload::Watch,
        SELF_SIGNED,
        "the key of tls-cert-file",
    ),
    flag(
        KCM,
        "use-service-account-credentials",
        Value::Literal("true"),
        Reload::Nothing,
        "false: all controllers share this component's rights",
        "each controller has its own service account and no more rights than it needs",
    ),
    // kube-scheduler
    flag(
        SCHEDULER,
        "authentication-kubeconfig",
        Value::Kubeconfig(CertId("scheduler.conf")),
        Reload::Kubeconfig,
        "everyone is anonymous",
        "who scrapes metrics is checked with the apiserver",
    ),
    flag(
        SCHEDULER,
        "authorization-kubeconfig",
        Value::Kubeconfig(CertId("scheduler.conf")),
        Reload::Kubeconfig,
        "nobody is authorized",
        "who may scrape metrics is checked with the apiserver",
    ),
    flag(
        SCHEDULER,
        "client-ca-file",
        Value::Bundle(CertId("ca")),
        Reload::Watch,
        IN_CLUSTER,
        "client certificates are accepted even while the apiserver is down",
    ),
    flag(
        SCHEDULER,
        "config",
        Value::ConfigFile("kube-scheduler"),
        Reload::Nothing,
        "its kubeconfig would have to be given by a deprecated flag",
        "names the kubeconfig; `certkit init` writes the file",
    ),
    // Deprecated, and all there is without a file.
    flag(
        SCHEDULER,
        "kubeconfig",
        Value::Kubeconfig(CertId("scheduler.conf")),
        Reload::Kubeconfig,
        "required",
        "its identity towards the apiserver",
    )
    .when(Condition::NoConfigFile(SCHEDULER)),
    flag(
        SCHEDULER,
        "requestheader-allowed-names",
        Value::Literal("front-proxy-client"),
        Reload::Nothing,
        "any certificate of the front-proxy CA may name any user",
        "only the front proxy may say on whose behalf it asks",
    ),
    flag(
        SCHEDULER,
        "requestheader-client-ca-file",
        Value::Bundle(CertId("front-proxy-ca")),
        Reload::Watch,
        IN_CLUSTER,
        "who may say on whose behalf it asks",
    ),
    flag(
        SCHEDULER,
        "tls-cert-file",
        Value::Cert(CertId("scheduler")),
        Reload::Watch,
        SELF_SIGNED,
        "monitoring can verify whom it scrapes",
    ),
    flag(
        SCHEDULER,
        "tls-min-version",
        Value::Literal("VersionTLS12"),
        Reload::Nothing,
        TLS12,
        "TLS 1.0 and 1.1 are broken (RFC 8996)",
    ),
    flag(
        SCHEDULER,
        "tls-private-key-file",
        Value::Key(CertId("scheduler")),
        Reload::Watch,
        SELF_SIGNED,
        "the key of tls-cert-file",
    ),
    field(
        SCHEDULER,
        "clientConnection.kubeconfig",
        Value::Kubeconfig(CertId("scheduler.conf")),
        Reload::Kubeconfig,
        "required",
        "its identity towards the apiserver",
    ),
    // kubelet
    flag(
        KUBELET,
        "config",
        Value::ConfigFile("kubelet"),
        Reload::Nothing,
        "flag defaults: anonymous access, everything allowed, a read-only port",
        "holds the settings below; `certkit init` writes the file",
    ),
    flag(
        KUBELET,
        "kubeconfig",
        Value::Kubeconfig(CertId("kubelet.conf")),
        // With a kubeconfig that names files client-go polls the pair; the CA in it is read once when the
        // kubelet rotates by itself (pkg/kubelet/certificate/transport.go), which certkit leaves off.
        Reload::Kubeconfig,
        "the kubelet runs standalone",
        "its identity towards the apiserver",
    ),
    field(
        KUBELET,
        "authentication.anonymous.enabled",
        Value::Literal("false"),
        Reload::Nothing,
        "false with a config file, true without",
        "nobody runs commands in pods without saying who they are",
    ),
    field(
        KUBELET,
        "authentication.webhook.enabled",
        Value::Literal("true"),
        Reload::Nothing,
        "true with a config file, false without",
        "tokens are checked with the apiserver",
    ),
    field(
        KUBELET,
        "authentication.x509.clientCAFile",
        Value::Bundle(CertId("ca")),
        Reload::Watch,
        "no client certificate is accepted",
        "who may log in with a certificate: the apiserver",
    ),
    field(
        KUBELET,
        "authorization.mode",
        Value::Literal("Webhook"),
        Reload::Nothing,
        "Webhook with a config file, AlwaysAllow without",
        "what a caller may do is checked with the apiserver",
    ),
    field(
        KUBELET,
        "readOnlyPort",
        Value::Literal("0"),
        Reload::Nothing,
        "0 with a config file, 10255 without",
        "no port without authentication",
    ),
    field(
        KUBELET,
        "rotateCertificates",
        Value::Literal("false"),
        Reload::Nothing,
        "false",
        "certkit renews the pair and the kubelet polls it; with its own rotation it never looks again",
    ),
    field(
        KUBELET,
        "tlsCertFile",
        Value::Cert(CertId("kubelet")),
        Reload::Watch,
        "a certificate signed by itself, made once and never renewed",
        "the apiserver can verify the kubelet",
    ),
    field(
        KUBELET,
        "tlsMinVersion",
        Value::Literal("VersionTLS12"),
        Reload::Nothing,
        TLS12,
        "TLS 1.0 and 1.1 are broken (RFC 8996)",
    ),
    field(
        KUBELET,
        "tlsPrivateKeyFile",
        Value::Key(CertId("kubelet")),
        Reload::Watch,
        "a certificate signed by itself, made once and never renewed",
        "the key of tlsCertFile",
    ),
    // kube-proxy
    Use {
        component: "kube-proxy",
        flag: Some("kubeconfig"),
        field: Some("clientConnection.kubeconfig"),
        value: Value::Kubeconfig(CertId("kube-proxy.conf")),
        reload: Reload::Kubeconfig,
        default: "the service account of its pod",
        why: "its identity towards the apiserver where it runs outside a pod",
        present: Condition::Addon("kube-proxy"),
    },
    // konnectivity
    flag(
        "konnectivity-server",
        "agent-port",
        Value::Literal("8132"),
        Reload::Nothing,
        "8091",
        "where agents dial it",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "cluster-ca-cert",
        Value::Bundle(CertId("konnectivity-agent-ca")),
        Reload::Restart,
        "no certificate is asked of agents",
        "only agents of this cluster may offer routes",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "cluster-cert",
        Value::Cert(CertId("konnectivity-agent-server")),
        Reload::Restart,
        "required",
        "what agents check",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "cluster-key",
        Value::Key(CertId("konnectivity-agent-server")),
        Reload::Restart,
        "required",
        "the key of cluster-cert",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "kubeconfig",
        Value::Kubeconfig(CertId("konnectivity-server.conf")),
        Reload::Restart,
        "agents' tokens cannot be checked",
        "its identity towards the apiserver",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "mode",
        Value::Literal("http-connect"),
        Reload::Nothing,
        "grpc, which the apiserver speaks over a Unix socket only",
        "lets the apiserver dial it over TLS",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "server-ca-cert",
        Value::Bundle(CertId("konnectivity-ca")),
        Reload::Restart,
        "no certificate is asked of the apiserver",
        "only the apiserver may dial into the node network",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "server-cert",
        Value::Cert(CertId("konnectivity-server")),
        Reload::Restart,
        "the apiserver's side has no TLS",
        "what the apiserver checks",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "server-key",
        Value::Key(CertId("konnectivity-server")),
        Reload::Restart,
        "the apiserver's side has no TLS",
        "the key of server-cert",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-server",
        "server-port",
        Value::Literal("8131"),
        Reload::Nothing,
        "8090",
        "where the apiserver dials it",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-agent",
        "agent-cert",
        Value::Cert(CertId("konnectivity-agent")),
        Reload::Restart,
        "a service-account token only",
        "the agent's identity",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-agent",
        "agent-key",
        Value::Key(CertId("konnectivity-agent")),
        Reload::Restart,
        "a service-account token only",
        "the key of agent-cert",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-agent",
        "ca-cert",
        Value::Bundle(CertId("konnectivity-agent-ca")),
        Reload::Restart,
        "the system's roots",
        "which server is the right one",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-agent",
        "proxy-server-host",
        Value::Setting(ClusterValue::EndpointHost),
        Reload::Nothing,
        "127.0.0.1",
        "the name in the server's certificate",
    )
    .when(KONNECTIVITY),
    flag(
        "konnectivity-agent",
        "proxy-server-port",
        Value::Literal("8132"),
        Reload::Nothing,
        "8091",
        "where the server listens for agents",
    )
    .when(KONNECTIVITY),
    flag(
        CONTROLLER,
        "kubeconfig",
        Value::Kubeconfig(CertId("certkit-controller.conf")),
        Reload::Poll(10),
        "KUBECONFIG, ~/.kube/config, or the pod's service account",
        "who it is to the apiserver",
    )
    .when(Condition::Addon("controller")),
    flag(
        CONTROLLER,
        "listen",
        Value::Literal("0.0.0.0:10261"),
        Reload::Nothing,
        "nothing is served",
        "where health and metrics are",
    )
    .when(Condition::Addon("controller")),
    flag(
        CONTROLLER,
        "tls-cert-file",
        Value::Cert(CertId("certkit-controller")),
        Reload::Poll(1),
        "nothing is served",
        "what it shows to those who ask how it is",
    )
    .when(Condition::Addon("controller")),
    flag(
        CONTROLLER,
        "tls-private-key-file",
        Value::Key(CertId("certkit-controller")),
        Reload::Poll(1),
        "nothing is served",
        "the key of tls-cert-file",
    )
    .when(Condition::Addon("controller")),
    field(
        "egress-selector",
        "egressSelections.0.name",
        Value::Literal("cluster"),
        Reload::Nothing,
        "required",
        "traffic to nodes, pods and services",
    )
    .when(KONNECTIVITY),
    field(
        "egress-selector",
        "egressSelections.0.connection.proxyProtocol",
        Value::Literal("HTTPConnect"),
        Reload::Nothing,
        "required",
        "the one protocol that the apiserver speaks over TLS",
    )
    .when(KONNECTIVITY),
    field(
        "egress-selector",
        "egressSelections.0.connection.transport.tcp.url",
        Value::Literal("https://127.0.0.1:8131"),
        Reload::Nothing,
        "required",
        "the Konnectivity server on the same host",
    )
    .when(KONNECTIVITY),
    field(
        "egress-selector",
        "egressSelections.0.connection.transport.tcp.tlsConfig.caBundle",
        Value::Bundle(CertId("konnectivity-ca")),
        Reload::Restart,
        "the system's roots",
        "which server is the right one",
    )
    .when(KONNECTIVITY),
    field(
        "egress-selector",
        "egressSelections.0.connection.transport.tcp.tlsConfig.clientCert",
        Value::Cert(CertId("konnectivity-egress-client")),
        Reload::Restart,
        "required with https",
        "the apiserver's identity towards Konnectivity",
    )
    .when(KONNECTIVITY),
    field(
        "egress-selector",
        "egressSelections.0.connection.transport.tcp.tlsConfig.clientKey",
        Value::Key(CertId("konnectivity-egress-client")),
        Reload::Restart,
        "required with https",
        "the key of clientCert",
    )
    .when(KONNECTIVITY),
    // What pods and nodes that show each other certificates have mounted.
    field(
        "workloads",
        "trust.ca\\.crt",
        Value::Bundle(CertId("workload-ca")),
        Reload::Watch,
        "they believe nobody",
        "what pods and nodes trust in each other",
    )
    .when(Condition::Addon("workload")),
    // Istio: files of the secret istio-system/cacerts.
    field(
        "istiod",
        "cacerts.ca-cert\\.pem",
        Value::Cert(CertId("istio-ca")),
        Reload::Watch,
        "istiod makes a root of its own",
        "the mesh's signer",
    )
    .when(Condition::Addon("istio")),
    field(
        "istiod",
        "cacerts.ca-key\\.pem",
        Value::Key(CertId("istio-ca")),
        Reload::Watch,
        "istiod makes a root of its own",
        "the key of ca-cert.pem",
    )
    .when(Condition::Addon("istio")),
    field(
        "istiod",
        "cacerts.root-cert\\.pem",
        Value::Bundle(CertId("istio-root-ca")),
        Reload::Watch,
        "istiod makes a root of its own",
        "what workloads trust",
    )
    .when(Condition::Addon("istio")),
    field(
        "istiod",
        "cacerts.cert-chain\\.pem",
        Value::Chain(CertId("istio-ca")),
        Reload::Watch,
        "istiod makes a root of its own",
        "the chain from the signer to the root",
    )
    .when(Condition::Addon("istio")),
    // People.
    flag(
        "etcdctl",
        "cacert",
        Value::Bundle(CertId("etcd-ca")),
        Reload::Nothing,
        "the system's roots",
        "which etcd is the right one",
    )
    .when(Condition::ManagedEtcd),
    flag(
        "etcdctl",
        "cert",
        Value::Cert(CertId("etcd-healthcheck-client")),
        Reload::Nothing,
        "no client certificate: etcd refuses",
        "an identity of its own, so that the apiserver's stays with the apiserver",
    )
    .when(Condition::ManagedEtcd),
    flag(
        "etcdctl",
        "endpoints",
        Value::Setting(ClusterValue::EtcdServers),
        Reload::Nothing,
        "127.0.0.1:2379",
        "where the members are",
    )
    .when(Condition::ManagedEtcd),
    flag(
        "etcdctl",
        "key",
        Value::Key(CertId("etcd-healthcheck-client")),
        Reload::Nothing,
        "no client certificate: etcd refuses",
        "the key of cert",
    )
    .when(Condition::ManagedEtcd),
    flag(
        "kubectl",
        "kubeconfig",
        Value::Kubeconfig(CertId("admin.conf")),
        Reload::Nothing,
        "~/.kube/config",
        "the administrator's identity",
    ),
    Use {
        component: "kubectl",
        flag: None,
        field: Some("break-glass"),
        value: Value::Kubeconfig(CertId("super-admin.conf")),
        reload: Reload::Nothing,
        default: "",
        why: "for when RBAC itself is broken, and to bind the administrators' group once",
        present: Condition::Always,
    },
];

impl Use {
    /// The same row under a condition.
    const fn when(mut self, condition: Condition) -> Self {
        self.present = condition;
        self
    }

    /// The certificate, CA or key pair that the value is a file of, if it is one, by its name.
    pub fn subject(&self) -> Option<&'static str> {
        match self.value {
            Value::PrivateKey(id) | Value::PublicKey(id) => Some(id),
            _ => self.certificate().map(CertId::name),
        }
    }

    /// The certificate or CA that the value is a file of, if it is one.
    pub fn certificate(&self) -> Option<CertId> {
        match self.value {
            Value::Bundle(id)
            | Value::Cert(id)
            | Value::Chain(id)
            | Value::Key(id)
            | Value::Kubeconfig(id) => Some(id),
            Value::ConfigFile(_)
            | Value::Literal(_)
            | Value::PrivateKey(_)
            | Value::PublicKey(_)
            | Value::Setting(_) => None,
        }
    }
}
