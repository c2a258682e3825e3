//! The flags that Kubernetes 1.36 knows, those it has dropped, and kubelet flags that have become fields.

use super::{Code, Finding, Told};
use crate::model::{catalogue::roles, shown};

/// One component a section, one flag a line; `b` marks a switch, `d` a deprecated flag. Made from the
/// components' own `--help`; a test compares it with the whole table.
const KNOWN: &str = include_str!("kubernetes-1.36.txt");

/// Flags that are gone, and what took their place.
const REMOVED: &[(&str, &str)] = &[
    ("address", "--bind-address"),
    ("basic-auth-file", "client certificates or OIDC"),
    ("cloud-provider-gce-lb-src-cidrs", "nothing"),
    ("container-runtime", "nothing: only remote runtimes are left"),
    ("docker-endpoint", "--container-runtime-endpoint"),
    ("dynamic-config-dir", "--config"),
    ("etcd-quorum-read", "nothing: reads are always quorum reads"),
    ("experimental-cluster-signing-duration", "--cluster-signing-duration"),
    ("experimental-encryption-provider-config", "--encryption-provider-config"),
    ("insecure-bind-address", "nothing"),
    ("insecure-port", "nothing"),
    ("kubelet-https", "nothing: it is always https"),
    ("network-plugin", "the container runtime's own configuration"),
    ("pod-infra-container-image", "the container runtime's own configuration"),
    ("port", "--secure-port"),
    ("repair-malformed-updates", "nothing"),
    ("service-account-api-audiences", "--api-audiences"),
    ("ssh-keyfile", "Konnectivity (--egress-selector-config-file)"),
    ("ssh-user", "Konnectivity (--egress-selector-config-file)"),
    ("target-ram-mb", "nothing"),
    ("tls-ca-file", "--client-ca-file"),
];

/// Flags of etcd that 3.6 no longer has.
const REMOVED_ETCD: &[&str] = &[
    "discovery-fallback",
    "enable-v2",
    "experimental-enable-v2v3",
    "proxy",
    "proxy-dial-timeout",
    "proxy-failure-wait",
    "proxy-read-timeout",
    "proxy-refresh-interval",
    "proxy-write-timeout",
    "v2-deprecation",
];

/// Deprecated flags of the kubelet and the field that each has become (cmd/kubelet/app/options/options.go).
const TWINS: &[(&str, &str)] = &[
    ("anonymous-auth", "authentication.anonymous.enabled"),
    ("authentication-token-webhook", "authentication.webhook.enabled"),
    ("authorization-mode", "authorization.mode"),
    ("client-ca-file", "authentication.x509.clientCAFile"),
    ("read-only-port", "readOnlyPort"),
    ("rotate-certificates", "rotateCertificates"),
    ("rotate-server-certificates", "serverTLSBootstrap"),
    ("tls-cert-file", "tlsCertFile"),
    ("tls-min-version", "tlsMinVersion"),
    ("tls-private-key-file", "tlsPrivateKeyFile"),
];

/// The flag that a field once was.
pub fn twin(field: &str) -> Option<&'static str> {
    TWINS.iter().find(|(_, f)| *f == field).map(|(flag, _)| *flag)
}

/// The marks of a flag, or nothing if the component has no such flag; nothing at all is known of others.
fn marks(component: &str, flag: &str) -> Option<Option<&'static str>> {
    let mut inside = false;
    let mut any = false;
    for line in KNOWN.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.strip_suffix(']') == Some(component);
            any |= inside;
        } else if inside {
            let (name, marks) = line.split_once(':').unwrap_or((line, ""));
            if name == flag {
                return Some(Some(marks));
            }
        }
    }
    any.then_some(None)
}

/// Whether the flag is a switch, which takes no value from the next argument.
pub fn is_switch(component: &str, flag: &str) -> bool {
    match marks(component, flag) {
        Some(Some(marks)) => marks.contains('b'),
        _ => {
            const SWITCHES: &[&str] =
                &["auto-tls", "client-cert-auth", "peer-auto-tls", "peer-client-cert-auth"];
            SWITCHES.contains(&flag)
        }
    }
}

/// Flags that are unknown, gone or on their way out.
pub fn findings(told: &Told, found: &mut Vec<Finding>) {
    let mut seen: Vec<&str> = Vec::new();
    for setting in &told.settings {
        let name = setting.name.as_str();
        // Help and logging are every program's own.
        if seen.contains(&name) || matches!(name, "help" | "h" | "v" | "vmodule" | "version") {
            continue;
        }
        seen.push(name);
        let finding = |code, what: String| told.finding(code, what);
        if told.component == roles::ETCD.id {
            if REMOVED_ETCD.contains(&name) {
                let what = format!("--{name} is gone from etcd 3.6");
                found.push(finding(Code::FlagRemoved, what));
            }
            continue;
        }
        match marks(told.component, name) {
            None => {}
            Some(None) => match REMOVED.iter().find(|(flag, _)| *flag == name) {
                Some((_, instead)) => {
                    let what = format!("--{name} is gone from Kubernetes; instead: {instead}");
                    found.push(finding(Code::FlagRemoved, what));
                }
                None => {
                    let what = format!(
                        "{} of Kubernetes 1.36 has no --{}",
                        told.component,
                        shown::name(name)
                    );
                    found.push(finding(Code::FlagUnknown, what));
                }
            },
            Some(Some(marks)) if marks.contains('d') => {
                found.push(finding(Code::FlagDeprecated, format!("--{name} is deprecated")));
            }
            Some(Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_kubernetes() {
        let table = include_str!("../../../../tests/fixtures/kubernetes-1.36-flags.tsv");
        let mut count = 0;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let marks = marks(fields[0], fields[1]).flatten().expect(fields[1]);
            assert_eq!(marks.contains('b'), fields[2] == "bool", "{line}");
            let deprecated = fields.get(3).is_some_and(|d| !d.is_empty());
            assert_eq!(marks.contains('d'), deprecated, "{line}");
            count += 1;
        }
        let flags = KNOWN.lines().filter(|l| !l.starts_with('[')).count();
        assert_eq!(flags, count);
        // What is said to be gone is gone from every component, unless another still has it.
        for (flag, _) in REMOVED {
            assert_eq!(marks("kube-apiserver", flag).flatten(), None, "{flag}");
        }
    }
}
