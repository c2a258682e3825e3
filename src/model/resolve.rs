//! From a catalogue row and a declared cluster to what one certificate must say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    catalogue::{Purpose, SanRule, SubjectRule},
    cluster::{Cluster, DeclaredSubject},
    duration::Span,
    layout::Instance,
    name::Name,
    profile::{Kind, Profile, Validity},
    san::{self, San},
    timestamp::Timestamp,
    usage::{ExtendedUsage, KeyUsages},
};

/// How far notBefore lies before the time of issue, as kubeadm does it: hosts' clocks differ.
pub const BACKDATE: Span = Span(300);

/// Whom this certificate names: organizations (Kubernetes groups) and common name (the Kubernetes user).
pub fn subject(instance: &Instance<'_>, cluster: &Cluster) -> DeclaredSubject {
    let spec = instance.spec;
    let host = instance.host.map(|h| h.name.to_string()).unwrap_or_default();
    let fixed = |organizations: &[&str], common_name: String| DeclaredSubject {
        organizations: organizations.iter().map(|o| (*o).to_owned()).collect(),
        common_name,
    };
    match (cluster.override_of(spec.id.name()).subject, spec.subject) {
        (Some(subject), _) => subject,
        (None, SubjectRule::Fixed { organizations, common_name }) => {
            fixed(organizations, common_name.to_owned())
        }
        (None, SubjectRule::Host) => fixed(&[], host),
        (None, SubjectRule::Node) => fixed(&["system:nodes"], format!("system:node:{host}")),
    }
}

/// What this certificate must say in this cluster.
pub fn profile(instance: &Instance<'_>, cluster: &Cluster) -> Profile {
    let spec = instance.spec;
    let over = cluster.override_of(spec.id.name());
    let DeclaredSubject { organizations, common_name } = subject(instance, cluster);
    let organizations: Vec<&str> = organizations.iter().map(String::as_str).collect();
    let common_name = common_name.as_str();
    let mut sans = match over.sans {
        Some(sans) => sans,
        None => {
            spec.sans.iter().flat_map(|rule| names(*rule, instance, cluster, common_name)).collect()
        }
    };
    sans.extend(cluster.extra_sans.get(spec.id.name()).into_iter().flatten().cloned());
    if spec.sans.contains(&SanRule::Endpoint) {
        sans.extend(cluster.former_endpoints.iter().cloned());
    }
    let (kind, key_usages, extended_usages) = match spec.purpose {
        Purpose::Ca { path_len } => {
            // Under a single root the cluster's CAs sign leaves only.
            let path_len = match instance.issuer {
                Some(_) => Some(path_len.unwrap_or(0)),
                None => path_len,
            };
            (Kind::Ca { path_len }, KeyUsages::CA, vec![])
        }
        Purpose::Client => (Kind::Leaf, KeyUsages::LEAF, vec![ExtendedUsage::ClientAuth]),
        Purpose::Server => (Kind::Leaf, KeyUsages::LEAF, vec![ExtendedUsage::ServerAuth]),
        Purpose::ServerAndClient => (
            Kind::Leaf,
            KeyUsages::LEAF,
            vec![ExtendedUsage::ServerAuth, ExtendedUsage::ClientAuth],
        ),
    };
    let (key_usages, extended_usages) = match over.usages {
        Some(usages) => (usages.key, usages.extended),
        None => (key_usages, extended_usages),
    };
    Profile {
        subject: over.raw_subject.unwrap_or_else(|| Name::new(&organizations, common_name)),
        sans: san::normalize(sans),
        kind,
        key_usages,
        extended_usages,
    }
}

/// The term of this certificate when it is issued now. Issuing holds it to its CA's.
pub fn validity(instance: &Instance<'_>, cluster: &Cluster, now: Timestamp) -> Validity {
    let term = cluster.override_of(instance.spec.id.name()).validity.unwrap_or(
        match instance.spec.is_ca() {
            true => cluster.validity.ca,
            false => cluster.validity.leaf,
        },
    );
    Validity { not_before: now.minus(BACKDATE), not_after: now.plus(term) }
}

fn names(rule: SanRule, instance: &Instance<'_>, cluster: &Cluster, common_name: &str) -> Vec<San> {
    let host = instance.host;
    let dns = |name: &str| San::Dns(name.to_owned());
    match rule {
        SanRule::CommonName => vec![dns(common_name)],
        SanRule::Dns(name) => vec![dns(name)],
        SanRule::Endpoint => vec![cluster.endpoint.host.clone()],
        SanRule::HostName => host.map(|h| dns(h.name.as_ref())).into_iter().collect(),
        SanRule::HostAddresses => {
            host.into_iter().flat_map(|h| &h.addresses).copied().map(San::Ip).collect()
        }
        SanRule::HostAddress => host.and_then(|h| h.address()).map(San::Ip).into_iter().collect(),
        SanRule::Loopback => vec![
            dns("localhost"),
            San::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            San::Ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ],
        SanRule::ServiceNames => {
            let full = format!("kubernetes.default.svc.{}", cluster.dns_domain);
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", &full].map(dns).into()
        }
        SanRule::ServiceAddress => {
            cluster.service_subnets.first().map(|s| San::Ip(s.first_host())).into_iter().collect()
        }
    }
}
