//! Whom certkit's own signers sign for, as declared. What is not declared is admitted to nothing.

use std::str::FromStr;

use super::{Cluster, Etcd, Fault};
use crate::model::{
    catalogue::{CertSpec, Condition, WORKLOAD_DAYS, roles},
    duration::Span,
    san::dns_name_fault,
    shown::quoted,
};

/// The field of `certkit.yaml`.
pub const FIELD: &str = "signers";
/// What Kubernetes keeps for its own parts.
const SYSTEM: &str = "system:";
/// RFC 5280's ub-common-name, and ub-organization-name; Go reads more, others do not.
const LONGEST: usize = 64;

/// The signers that are open, each with whom it admits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers {
    /// Nodes, for each other.
    pub nodes: Option<NodesAdmitted>,
    /// People, for the apiserver.
    pub people: Option<PeopleAdmitted>,
    /// Clients of etcd.
    pub etcd: Option<EtcdClients>,
    /// Clients of aggregated API servers that may speak in anybody's name.
    pub front_proxy: Option<FrontProxies>,
    /// Pods, for each other.
    pub pods: Option<PodsAdmitted>,
}

/// Every declared node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodesAdmitted {
    /// How long a certificate is valid.
    pub validity: ShortTerm<24>,
}

/// People who ask for themselves, and who asks for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeopleAdmitted {
    /// The groups that a certificate may name.
    pub groups: Vec<PlainName>,
    /// Users who may ask for others.
    pub requesters: Vec<Requester>,
    /// How long a certificate is valid.
    pub validity: ShortTerm<8>,
}

/// Clients of etcd. Unless etcd has users of its own, each may read and write everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdClients {
    /// Who asks, and what each is called in etcd.
    pub clients: Vec<(Requester, PlainName)>,
    /// How long a certificate is valid.
    pub validity: ShortTerm<24>,
}

/// Clients of aggregated API servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxies {
    /// Who asks.
    pub requesters: Vec<Requester>,
    /// How long a certificate is valid.
    pub validity: ShortTerm<24>,
}

/// Pods, by their service accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodsAdmitted {
    /// The host of their SPIFFE ids; the cluster's DNS domain where none is declared.
    pub trust_domain: Option<DnsName>,
    /// The service accounts.
    pub accounts: Vec<AccountAdmitted>,
    /// How long a certificate is valid.
    pub validity: ShortTerm<24>,
}

/// A service account whose pods get certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountAdmitted {
    /// Its namespace.
    pub namespace: DnsName,
    /// Its name; none for every one of the namespace.
    pub name: Option<DnsName>,
    /// Services of the namespace whose names the certificate has.
    pub services: Vec<DnsName>,
}

/// How long a certificate is valid: an hour to a day, `HOURS` where nothing is said. An hour is the least that the API
/// takes of a pod's; a day is what `rotate-ca` waits for where no file shows what a CA signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortTerm<const HOURS: i64>(Span);

impl<const HOURS: i64> ShortTerm<HOURS> {
    /// As a span.
    pub fn span(self) -> Span {
        self.0
    }

    /// Whether nothing else was said.
    pub fn is_default(self) -> bool {
        self == Self::default()
    }
}

impl<const HOURS: i64> Default for ShortTerm<HOURS> {
    fn default() -> Self {
        Self(Span(HOURS * 3600))
    }
}

impl<const HOURS: i64> FromStr for ShortTerm<HOURS> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: Span = text.parse().map_err(|error| format!("{error}"))?;
        match (Span(3600)..=Span::days(WORKLOAD_DAYS)).contains(&span) {
            true => Ok(Self(span)),
            false => Err(format!("{span} is not between 1h and {WORKLOAD_DAYS}d")),
        }
    }
}

/// A name or group of people or programs, and none that Kubernetes or certkit keeps for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainName(String);

/// A user as the apiserver names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester(String);

/// A DNS name in small letters: a namespace, a service account, a service, a trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsName(String);

impl AsRef<str> for PlainName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Requester {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for DnsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for PlainName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match plain_name_fault(text) {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(format!("{}: {why}", quoted(text))),
        }
    }
}

/// Why a text cannot be the name or group of a person or program.
pub fn plain_name_fault(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("is empty"),
        text if text.len() > LONGEST => Some("is longer than 64 characters"),
        text if !text.bytes().all(|b| b.is_ascii_graphic()) => {
            Some("has something else than visible ASCII characters, which may look like others")
        }
        text if is_systems(text) => {
            Some("begins with system:, which Kubernetes keeps for its own parts")
        }
        _ => None,
    }
}

/// Whether Kubernetes keeps a name for its own parts. Whoever compares without regard to case must not be misled either.
pub fn is_systems(text: &str) -> bool {
    text.to_ascii_lowercase().starts_with(SYSTEM)
}

impl FromStr for Requester {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let why = match text {
            "" => "is empty",
            "system:anonymous" => "is everybody",
            text if text.len() > 512 || !text.bytes().all(|b| b.is_ascii_graphic()) => {
                "is no user's name of visible ASCII characters"
            }
            _ => return Ok(Self(text.to_owned())),
        };
        Err(format!("{}: {why}", quoted(text)))
    }
}

impl FromStr for DnsName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let why = match dns_name_fault(text) {
            Some(why) => why,
            None if text.ends_with('.') => "ends with a dot",
            None if text.bytes().any(|b| b.is_ascii_uppercase()) => "has capitals",
            None => return Ok(Self(text.to_owned())),
        };
        Err(format!("{}: {why}", quoted(text)))
    }
}

impl Signers {
    /// The CAs that sign for somebody, whose certificates no file of certkit's shows.
    pub fn authorities(&self) -> Vec<&'static CertSpec> {
        let open = [
            (self.nodes.is_some() || self.pods.is_some(), roles::WORKLOAD_CA),
            (self.people.is_some(), roles::CLUSTER_CA),
            (self.etcd.is_some(), roles::ETCD_CA),
            (self.front_proxy.is_some(), roles::FRONT_PROXY_CA),
        ];
        open.into_iter().filter(|(is_open, _)| *is_open).map(|(_, spec)| spec).collect()
    }

    /// Whether nobody is admitted to anything.
    pub fn are_closed(&self) -> bool {
        *self == Self::default()
    }
}

/// What is wrong between the signers and the rest of the cluster.
pub(super) fn faults(cluster: &Cluster) -> Vec<Fault> {
    let mut faults = Vec::new();
    let Signers { nodes, people: _, etcd, front_proxy: _, pods } = &cluster.signers;
    let mut fault = |field: &str, why: String| {
        faults.push(Fault { field: format!("{FIELD}.{field}"), why });
    };
    let Condition::Addon(addon) = roles::WORKLOAD_CA.present else { return Vec::new() };
    if !cluster.has(roles::WORKLOAD_CA.present) {
        let why = format!("needs the addon `{addon}`, whose CA signs");
        let open = [("nodes", nodes.is_some()), ("pods", pods.is_some())];
        open.into_iter().filter(|(_, is)| *is).for_each(|(field, _)| fault(field, why.clone()));
    }
    if etcd.is_some() && matches!(cluster.etcd, Etcd::External { .. }) {
        fault("etcd", "etcd's certificates are somebody else's".into());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubernetes_keeps_are_none() {
        for wrong in ["", "system:masters", "SYSTEM:masters", "a b", "\u{430}dmins", "a\0"] {
            assert!(wrong.parse::<PlainName>().is_err(), "{wrong:?}");
        }
        assert!("x".repeat(65).parse::<PlainName>().is_err());
        assert!("developers".parse::<PlainName>().is_ok());
        for wrong in ["", "system:anonymous", "a b", "a\n"] {
            assert!(wrong.parse::<Requester>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "*", "a/b", "A", "a.", "..", "\u{430}"] {
            assert!(wrong.parse::<DnsName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn terms_are_short() {
        assert_eq!("1d".parse::<ShortTerm<8>>().unwrap().span(), Span::days(1));
        assert_eq!(ShortTerm::<8>::default().span(), Span(8 * 3600));
        for wrong in ["59m", "25h", "0s", "-1h", "x", "9223372036854775807s"] {
            assert!(wrong.parse::<ShortTerm<8>>().is_err(), "{wrong}");
        }
    }
}
