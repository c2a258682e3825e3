//! What a component must not be told, and what it must not be left untold: a row for each, in the order of the findings.

use super::{
    ComponentSpec, Insecure, InsecureForm as Form, When,
    roles::{API_SERVER, CONTROLLER_MANAGER, EGRESS, ETCD, KONNECTIVITY, KUBELET, SCHEDULER},
};
use crate::model::code::{Code, Severity};

const SELF_SIGNED: &str = "{0} is not set: it serves a certificate signed by itself";
const IGNORED: &str = "{0} has {url}: certificates are ignored there";
const PEER_OPEN: &str = "neither an allowed host name nor an allowed common name is demanded of peers: a certificate of the \
     etcd CA without names may speak the peer protocol";

/// Minimum versions of TLS that are no longer safe, as Kubernetes and as etcd write them.
const OLD_TLS: &[&str] = &["VersionTLS10", "VersionTLS11", "TLS1.0", "TLS1.1"];

/// Settings in etcd's file, those for clients and those for peers.
macro_rules! clients {
    ($key:literal) => {
        concat!("client-transport-security.", $key)
    };
}
macro_rules! peers {
    ($key:literal) => {
        concat!("peer-transport-security.", $key)
    };
}

const fn flags(
    of: &'static ComponentSpec,
    code: Code,
    when: &'static [When],
    what: &'static str,
) -> Insecure {
    Insecure { component: Some(of.id), form: Form::Flags, when, code, severity: None, what }
}

const fn fields(
    of: &'static ComponentSpec,
    code: Code,
    when: &'static [When],
    what: &'static str,
) -> Insecure {
    Insecure { form: Form::Fields, ..flags(of, code, when, what) }
}

/// Told to any component, by flag or field of this name.
const fn anywhere(code: Code, when: &'static [When], what: &'static str) -> Insecure {
    Insecure { component: None, form: Form::Both, when, code, severity: None, what }
}

/// Flags of etcd's that are fields of the same name.
const fn etcd(code: Code, when: &'static [When], what: &'static str) -> Insecure {
    Insecure { form: Form::Both, ..flags(ETCD, code, when, what) }
}

/// All of them.
pub static INSECURE: &[Insecure] = &[
    // kube-apiserver
    flags(
        API_SERVER,
        Code::KubeletCaMissing,
        &[When::Unset("kubelet-certificate-authority")],
        "{0} is not set: it verifies no kubelet",
    ),
    flags(
        API_SERVER,
        Code::ClientCaMissing,
        &[When::Unset("client-ca-file"), When::Unset("authentication-config")],
        "{0} is not set",
    ),
    flags(
        API_SERVER,
        Code::RequestheaderNames,
        &[When::Unset("requestheader-allowed-names"), When::Set("requestheader-client-ca-file")],
        "{0} is empty: any certificate of that CA is believed",
    ),
    flags(
        API_SERVER,
        Code::AlwaysAllow,
        &[When::Lists("authorization-mode", "AlwaysAllow")],
        "{0} has AlwaysAllow",
    ),
    flags(
        API_SERVER,
        Code::AlwaysAllow,
        &[When::Untold("authorization-mode"), When::Unset("authorization-config")],
        "{0} is not set, which means AlwaysAllow",
    ),
    flags(
        API_SERVER,
        Code::PlainHttp,
        &[When::HasHttp("etcd-servers")],
        "{0} has {url}: everything goes unencrypted",
    ),
    flags(
        API_SERVER,
        Code::TrustWrongCa,
        &[When::Unset("etcd-cafile"), When::HasTls("etcd-servers")],
        "{0} is not set: etcd is verified by the system's roots",
    ),
    Insecure {
        severity: Some(Severity::Warning),
        ..flags(API_SERVER, Code::SelfSignedServing, &[When::Unset("tls-cert-file")], SELF_SIGNED)
    },
    // kube-controller-manager
    flags(
        CONTROLLER_MANAGER,
        Code::RootCaMissing,
        &[When::Unset("root-ca-file")],
        "{0} is not set: what pods get is what its kubeconfig embeds",
    ),
    Insecure {
        severity: Some(Severity::Info),
        ..flags(
            CONTROLLER_MANAGER,
            Code::SelfSignedServing,
            &[When::Unset("tls-cert-file")],
            SELF_SIGNED,
        )
    },
    // kube-scheduler
    Insecure {
        severity: Some(Severity::Info),
        ..flags(SCHEDULER, Code::SelfSignedServing, &[When::Unset("tls-cert-file")], SELF_SIGNED)
    },
    // kubelet, its file
    fields(
        KUBELET,
        Code::AnonymousAccess,
        &[When::True("authentication.anonymous.enabled")],
        "authentication.anonymous.enabled is true",
    ),
    fields(
        KUBELET,
        Code::AlwaysAllow,
        &[When::OneOf("authorization.mode", &["AlwaysAllow"])],
        "authorization.mode is AlwaysAllow",
    ),
    fields(
        KUBELET,
        Code::ReadOnlyPort,
        &[When::Not("readOnlyPort", "0"), When::Set("readOnlyPort")],
        "readOnlyPort is {value}",
    ),
    fields(
        KUBELET,
        Code::ClientCaMissing,
        &[When::Unset("authentication.x509.clientCAFile")],
        "{0} is not set",
    ),
    fields(
        KUBELET,
        Code::SelfSignedServing,
        &[When::Unset("tlsCertFile"), When::Untrue("serverTLSBootstrap")],
        "neither tlsCertFile nor serverTLSBootstrap is set: it serves a certificate signed by itself, which is not made \
         again when it expires",
    ),
    // kubelet, its flags: without a file it has the old, open defaults (cmd/kubelet/app/options/options.go).
    flags(
        KUBELET,
        Code::AnonymousAccess,
        &[When::True("anonymous-auth")],
        "anonymous requests are let in: {0} says so",
    ),
    flags(
        KUBELET,
        Code::AnonymousAccess,
        &[When::Untold("anonymous-auth"), When::Unset("config")],
        "anonymous requests are let in: neither {1} nor {0} is set, which means so",
    ),
    flags(
        KUBELET,
        Code::AlwaysAllow,
        &[When::OneOf("authorization-mode", &["AlwaysAllow"])],
        "everything is allowed: {0} says so",
    ),
    flags(
        KUBELET,
        Code::AlwaysAllow,
        &[When::Untold("authorization-mode"), When::Unset("config")],
        "everything is allowed: neither {1} nor {0} is set, which means so",
    ),
    flags(
        KUBELET,
        Code::ReadOnlyPort,
        &[When::Not("read-only-port", "0")],
        "the read-only port is open: {0} says so",
    ),
    flags(
        KUBELET,
        Code::ReadOnlyPort,
        &[When::Untold("read-only-port"), When::Unset("config")],
        "the read-only port is open: neither {1} nor {0} is set, which means so",
    ),
    // Its file is judged where it is given too.
    flags(
        KUBELET,
        Code::ClientCaMissing,
        &[When::Unset("client-ca-file"), When::Unset("config"), When::FileNotGiven],
        "neither {1} nor {0} is set",
    ),
    // etcd. A CA file alone demands certificates too (etcd client/pkg/transport/listener.go).
    flags(
        ETCD,
        Code::EtcdOpen,
        &[When::Untrue("client-cert-auth"), When::Unset("trusted-ca-file")],
        "{0} is not set: clients show no certificate",
    ),
    fields(
        ETCD,
        Code::EtcdOpen,
        &[When::Untrue(clients!("client-cert-auth")), When::Unset(clients!("trusted-ca-file"))],
        "{0} is not set: clients show no certificate",
    ),
    flags(
        ETCD,
        Code::EtcdSystemRoots,
        &[When::True("client-cert-auth"), When::Unset("trusted-ca-file")],
        "{0} is set and {1} is not: any public CA's clients get in",
    ),
    fields(
        ETCD,
        Code::EtcdSystemRoots,
        &[When::True(clients!("client-cert-auth")), When::Unset(clients!("trusted-ca-file"))],
        "{0} is set and {1} is not: any public CA's clients get in",
    ),
    flags(ETCD, Code::EtcdAutoTls, &[When::True("auto-tls")], "{0} is set"),
    fields(ETCD, Code::EtcdAutoTls, &[When::True(clients!("auto-tls"))], "{0} is set"),
    flags(
        ETCD,
        Code::EtcdPeerNoAuth,
        &[When::Untrue("peer-client-cert-auth"), When::Unset("peer-trusted-ca-file")],
        "{0} is not set: peers show no certificate",
    ),
    fields(
        ETCD,
        Code::EtcdPeerNoAuth,
        &[When::Untrue(peers!("client-cert-auth")), When::Unset(peers!("trusted-ca-file"))],
        "{0} is not set: peers show no certificate",
    ),
    flags(
        ETCD,
        Code::EtcdSystemRoots,
        &[When::True("peer-client-cert-auth"), When::Unset("peer-trusted-ca-file")],
        "{0} is set and {1} is not: any public CA's peers get in",
    ),
    fields(
        ETCD,
        Code::EtcdSystemRoots,
        &[When::True(peers!("client-cert-auth")), When::Unset(peers!("trusted-ca-file"))],
        "{0} is set and {1} is not: any public CA's peers get in",
    ),
    flags(ETCD, Code::EtcdAutoTls, &[When::True("peer-auto-tls")], "{0} is set"),
    fields(ETCD, Code::EtcdAutoTls, &[When::True(peers!("auto-tls"))], "{0} is set"),
    flags(
        ETCD,
        Code::EtcdPeerOpen,
        &[When::Unset("peer-cert-allowed-hostname"), When::Unset("peer-cert-allowed-cn")],
        PEER_OPEN,
    ),
    fields(
        ETCD,
        Code::EtcdPeerOpen,
        &[
            When::Unset(peers!("allowed-hostname")),
            When::Unset(peers!("allowed-hostnames")),
            When::Unset(peers!("allowed-cn")),
        ],
        PEER_OPEN,
    ),
    etcd(Code::PlainHttp, &[When::HasHttp("advertise-client-urls")], IGNORED),
    etcd(Code::PlainHttp, &[When::HasHttp("initial-advertise-peer-urls")], IGNORED),
    etcd(Code::PlainHttp, &[When::HasHttp("listen-client-urls")], IGNORED),
    etcd(Code::PlainHttp, &[When::HasHttp("listen-peer-urls")], IGNORED),
    // konnectivity-server
    flags(
        KONNECTIVITY,
        Code::AgentsUnchecked,
        &[When::Unset("server-ca-cert"), When::Unset("uds-name")],
        "{0} is not set: anybody may dial into the nodes",
    ),
    flags(
        KONNECTIVITY,
        Code::AgentsUnchecked,
        &[When::Unset("cluster-ca-cert"), When::Unset("agent-service-account")],
        "neither {0} nor {1} is set: anybody may pass for an agent",
    ),
    fields(EGRESS, Code::PlainHttp, &[When::HasHttp(".transport.tcp.url")], "{0} is {url}"),
    anywhere(Code::TlsTooOld, &[When::OneOf("tls-min-version", OLD_TLS)], "{0} is {value}"),
    anywhere(Code::TlsTooOld, &[When::OneOf("tlsMinVersion", OLD_TLS)], "{0} is {value}"),
];
