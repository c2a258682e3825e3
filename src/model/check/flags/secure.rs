//! What must be set, and what must not.

use super::{Code, Finding, Severity, Told};
use crate::model::shown::{self, quoted};

/// Everything insecure or missing.
pub fn findings(told: &Told, all: &[Told], found: &mut Vec<Finding>) {
    match (told.component, told.is_config) {
        ("kube-apiserver", _) => apiserver(told, found),
        ("kube-controller-manager", _) => controller_manager(told, found),
        ("kube-scheduler", false) => serving(told, Severity::Info, found),
        ("kubelet", true) => kubelet_config(told, found),
        ("kubelet", false) => kubelet_flags(told, all, found),
        ("etcd", is_config) => etcd(told, is_config, found),
        ("konnectivity-server", _) => konnectivity(told, found),
        ("egress-selector", _) => egress(told, found),
        _ => {}
    }
    tls(told, found);
}

/// Whether a finding is about something that is set, and not about something that is missing.
pub fn is_of_what_is_set(told: &Told, finding: &Finding) -> bool {
    match finding.code {
        Code::EtcdAutoTls | Code::PlainHttp | Code::TlsTooOld => true,
        Code::AlwaysAllow => told.set("authorization-mode").is_some(),
        _ => false,
    }
}

fn push(told: &Told, found: &mut Vec<Finding>, code: Code, what: impl Into<String>) {
    found.push(told.finding(code, what.into()));
}

fn apiserver(told: &Told, found: &mut Vec<Finding>) {
    if told.set("kubelet-certificate-authority").is_none() {
        let what = "--kubelet-certificate-authority is not set: it verifies no kubelet";
        push(told, found, Code::KubeletCaMissing, what);
    }
    if told.set("client-ca-file").is_none() && told.set("authentication-config").is_none() {
        push(told, found, Code::ClientCaMissing, "--client-ca-file is not set");
    }
    requestheader(told, found);
    let modes = told.get("authorization-mode");
    let by_file = told.set("authorization-config").is_some();
    if modes.is_some_and(|m| m.split(',').any(|mode| mode == "AlwaysAllow")) {
        push(told, found, Code::AlwaysAllow, "--authorization-mode has AlwaysAllow");
    } else if modes.is_none() && !by_file {
        let what = "--authorization-mode is not set, which means AlwaysAllow";
        push(told, found, Code::AlwaysAllow, what);
    }
    for url in urls(told, "etcd-servers") {
        if url.starts_with("http://") {
            let what =
                format!("--etcd-servers has {}: everything goes unencrypted", shown::url(&url));
            push(told, found, Code::PlainHttp, what);
        } else if told.set("etcd-cafile").is_none() {
            let what = "--etcd-cafile is not set: etcd is verified by the system's roots";
            push(told, found, Code::TrustWrongCa, what);
            break;
        }
    }
    serving(told, Severity::Warning, found);
}

fn requestheader(told: &Told, found: &mut Vec<Finding>) {
    if told.set("requestheader-client-ca-file").is_some()
        && told.set("requestheader-allowed-names").is_none()
    {
        let what = "--requestheader-allowed-names is empty: any certificate of that CA is believed";
        push(told, found, Code::RequestheaderNames, what);
    }
}

fn controller_manager(told: &Told, found: &mut Vec<Finding>) {
    if told.set("root-ca-file").is_none() {
        let what = "--root-ca-file is not set: what pods get is what its kubeconfig embeds";
        push(told, found, Code::RootCaMissing, what);
    }
    serving(told, Severity::Info, found);
}

fn serving(told: &Told, severity: Severity, found: &mut Vec<Finding>) {
    if told.set("tls-cert-file").is_none() {
        let what =
            "--tls-cert-file is not set: it serves a certificate signed by itself".to_owned();
        found.push(told.finding(Code::SelfSignedServing, what).severity(severity));
    }
}

fn kubelet_config(told: &Told, found: &mut Vec<Finding>) {
    if told.is_true("authentication.anonymous.enabled") {
        push(told, found, Code::AnonymousAccess, "authentication.anonymous.enabled is true");
    }
    if told.get("authorization.mode") == Some("AlwaysAllow") {
        push(told, found, Code::AlwaysAllow, "authorization.mode is AlwaysAllow");
    }
    if let Some(port) = told.set("readOnlyPort").filter(|port| *port != "0") {
        push(told, found, Code::ReadOnlyPort, format!("readOnlyPort is {}", quoted(port)));
    }
    if told.set("authentication.x509.clientCAFile").is_none() {
        let what = "authentication.x509.clientCAFile is not set";
        push(told, found, Code::ClientCaMissing, what);
    }
    if told.set("tlsCertFile").is_none() && !told.is_true("serverTLSBootstrap") {
        let what = "neither tlsCertFile nor serverTLSBootstrap is set: it serves a certificate signed by \
                    itself, which is not made again when it expires";
        push(told, found, Code::SelfSignedServing, what);
    }
}

/// A kubelet without a configuration file has the old, open defaults (cmd/kubelet/app/options/options.go).
fn kubelet_flags(told: &Told, all: &[Told], found: &mut Vec<Finding>) {
    let has_file = told.set("config").is_some();
    // The file itself is judged where it is given too.
    let given = all.iter().any(|t| t.component == "kubelet" && t.is_config);
    let why = |set: bool, flag: &str| match set {
        true => format!("--{flag} says so"),
        false => format!("neither --config nor --{flag} is set, which means so"),
    };
    let anonymous = told.get("anonymous-auth");
    if told.is_true("anonymous-auth") || (anonymous.is_none() && !has_file) {
        let what = format!(
            "anonymous requests are let in: {}",
            why(anonymous.is_some(), "anonymous-auth")
        );
        push(told, found, Code::AnonymousAccess, what);
    }
    let mode = told.get("authorization-mode");
    if mode == Some("AlwaysAllow") || (mode.is_none() && !has_file) {
        let what = format!("everything is allowed: {}", why(mode.is_some(), "authorization-mode"));
        push(told, found, Code::AlwaysAllow, what);
    }
    let port = told.get("read-only-port");
    if port.is_some_and(|p| p != "0") || (port.is_none() && !has_file) {
        let what = format!("the read-only port is open: {}", why(port.is_some(), "read-only-port"));
        push(told, found, Code::ReadOnlyPort, what);
    }
    if told.set("client-ca-file").is_none() && !has_file && !given {
        push(told, found, Code::ClientCaMissing, "neither --config nor --client-ca-file is set");
    }
}

fn etcd(told: &Told, is_config: bool, found: &mut Vec<Finding>) {
    let name = |peer: bool, key: &str| match (is_config, peer) {
        (true, false) => format!("client-transport-security.{key}"),
        (true, true) => format!("peer-transport-security.{key}"),
        (false, false) => key.to_owned(),
        (false, true) => format!("peer-{key}"),
    };
    for peer in [false, true] {
        let whose = if peer { "peers" } else { "clients" };
        let auth = told.is_true(&name(peer, "client-cert-auth"));
        let trusts = told.set(&name(peer, "trusted-ca-file")).is_some();
        let open = if peer { Code::EtcdPeerNoAuth } else { Code::EtcdOpen };
        let option = told.show(&name(peer, "client-cert-auth"));
        match (auth, trusts) {
            (false, false) => {
                push(
                    told,
                    found,
                    open,
                    format!("{option} is not set: {whose} show no certificate"),
                );
            }
            (true, false) => {
                let ca = told.show(&name(peer, "trusted-ca-file"));
                let what =
                    format!("{option} is set and {ca} is not: any public CA's {whose} get in");
                push(told, found, Code::EtcdSystemRoots, what);
            }
            // A CA file alone demands certificates too (etcd client/pkg/transport/listener.go).
            (_, true) => {}
        }
        if told.is_true(&name(peer, "auto-tls")) {
            let what = format!("{} is set", told.show(&name(peer, "auto-tls")));
            push(told, found, Code::EtcdAutoTls, what);
        }
    }
    let allowed = ["peer-cert-allowed-hostname", "peer-cert-allowed-cn"];
    let fields = ["allowed-hostname", "allowed-hostnames", "allowed-cn"];
    let told_apart = match is_config {
        false => allowed.iter().any(|flag| told.set(flag).is_some()),
        true => fields.iter().any(|f| {
            let field = format!("peer-transport-security.{f}");
            told.set(&field).is_some() || told.set(&format!("{field}.0")).is_some()
        }),
    };
    if !told_apart {
        let what = "neither an allowed host name nor an allowed common name is demanded of peers: a \
                    certificate of the etcd CA without names may speak the peer protocol";
        push(told, found, Code::EtcdPeerOpen, what);
    }
    for list in [
        "advertise-client-urls",
        "initial-advertise-peer-urls",
        "listen-client-urls",
        "listen-peer-urls",
    ] {
        for url in urls(told, list).iter().filter(|url| url.starts_with("http://")) {
            let what = format!(
                "{} has {}: certificates are ignored there",
                told.show(list),
                shown::url(url)
            );
            push(told, found, Code::PlainHttp, what);
        }
    }
}

fn konnectivity(told: &Told, found: &mut Vec<Finding>) {
    let by_socket = told.set("uds-name").is_some();
    if !by_socket && told.set("server-ca-cert").is_none() {
        let what = "--server-ca-cert is not set: anybody may dial into the nodes";
        push(told, found, Code::AgentsUnchecked, what);
    }
    if told.set("cluster-ca-cert").is_none() && told.set("agent-service-account").is_none() {
        let what = "neither --cluster-ca-cert nor --agent-service-account is set: anybody may pass for \
                    an agent";
        push(told, found, Code::AgentsUnchecked, what);
    }
}

fn egress(told: &Told, found: &mut Vec<Finding>) {
    for setting in &told.settings {
        if setting.name.ends_with("transport.tcp.url") && setting.value.starts_with("http://") {
            let what = format!("{} is {}", told.show(&setting.name), shown::url(&setting.value));
            push(told, found, Code::PlainHttp, what);
        }
    }
}

fn tls(told: &Told, found: &mut Vec<Finding>) {
    const OLD: [&str; 4] = ["VersionTLS10", "VersionTLS11", "TLS1.0", "TLS1.1"];
    for setting in &told.settings {
        let is_minimum = matches!(setting.name.as_str(), "tls-min-version" | "tlsMinVersion");
        if is_minimum && OLD.contains(&setting.value.as_str()) {
            let what = format!("{} is {}", told.show(&setting.name), setting.value);
            push(told, found, Code::TlsTooOld, what);
        }
    }
}

fn urls(told: &Told, name: &str) -> Vec<String> {
    told.get(name)
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(|url| url.trim().to_owned())
        .filter(|url| !url.is_empty())
        .collect()
}
