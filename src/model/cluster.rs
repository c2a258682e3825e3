//! The cluster as declared: names, hosts and rules that everything is issued from.
//!
//! Values here are valid by construction where a type can say so; what concerns several fields at once
//! is [`Cluster::faults`].

pub mod address;
mod network;
pub mod owners;
pub mod signers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

pub use address::{
    API_PORT, Endpoint, EndpointError, HostName, HostNameError, SshDestination, Subnet, SubnetError,
};
pub use signers::Signers;

use super::{
    algorithm::KeyAlgorithm,
    catalogue::{self, Condition, Scope, roles},
    duration::Span,
    name::Name,
    owner::Owner,
    san::{San, dns_name_fault},
    shown::quoted,
    usage::{ExtendedUsage, KeyUsages},
};

/// A declared cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// The cluster's name, as kubeconfigs call it.
    pub name: String,
    /// Where clients reach the API: a load balancer, or a control-plane host.
    pub endpoint: Endpoint,
    /// Hosts of earlier endpoints that something may still dial: the API's certificates keep their names.
    pub former_endpoints: Vec<San>,
    /// The domain of service names.
    pub dns_domain: String,
    /// Service subnets; the first one's first address is the service `kubernetes`.
    pub service_subnets: Vec<Subnet>,
    /// The algorithm of new keys.
    pub key_algorithm: KeyAlgorithm,
    /// How long certificates are valid.
    pub validity: Terms,
    /// All hosts: control plane, then etcd, then nodes, each in the order declared.
    pub hosts: Vec<Host>,
    /// Whether DIR is an operator's, with a folder for each host; if not, it is the first host's own tree.
    pub workspace: bool,
    /// Where etcd runs.
    pub etcd: Etcd,
    /// Names added to a certificate's own, by certificate id.
    pub extra_sans: BTreeMap<String, Vec<San>>,
    /// Addons, in the order declared.
    pub addons: Vec<String>,
    /// What differs for single certificates, by id.
    pub overrides: BTreeMap<String, Override>,
    /// How kubeconfigs of components carry their credentials.
    pub kubeconfig_style: KubeconfigStyle,
    /// Whether one root stands over the CAs.
    pub single_root: bool,
    /// Which private keys hosts make themselves and never give away.
    pub host_keys: HostKeys,
    /// Who owns the files of components on their hosts, by the component's id, where it is not root.
    pub owners: BTreeMap<&'static str, Owner>,
    /// Where the hosts keep the tree, when that is neither DIR (one host) nor `/etc/kubernetes`.
    pub host_dir: Option<String>,
    /// Whom certkit's own signers sign for.
    pub signers: Signers,
    /// What this cluster does without: ids of certificates and key pairs, `ID-bundle` and `ID-chain` of CAs,
    /// names of configuration files. Clusters made by something else lack some, and must not be given them unasked.
    pub absent: BTreeSet<String>,
}

/// On which hosts the private keys of their own certificates are made, instead of in the workspace: by the scope of the
/// certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostKeys {
    /// Those that exist once a control-plane host.
    pub control_plane: bool,
    /// Those that exist once an etcd member.
    pub etcd: bool,
    /// Those that exist once a node, on control-plane hosts too.
    pub nodes: bool,
}

impl HostKeys {
    /// All of them.
    pub const ALL: Self = Self { control_plane: true, etcd: true, nodes: true };

    /// Whether those of this scope are.
    pub fn has(self, scope: Scope) -> bool {
        match scope {
            Scope::Cluster => false,
            Scope::ControlPlane => self.control_plane,
            Scope::Etcd => self.etcd,
            Scope::Node => self.nodes,
        }
    }
}

/// Validity of CAs and leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Of a CA.
    pub ca: Span,
    /// Of a leaf.
    pub leaf: Span,
}

/// A machine of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name: the Kubernetes node name.
    pub name: HostName,
    /// Its addresses; the first is the one it advertises.
    pub addresses: Vec<IpAddr>,
    /// The port on which its apiserver listens, where it is not the one that follows from the rest.
    pub port: Option<u16>,
    /// Whether it is in the control plane.
    pub control_plane: bool,
    /// Whether it is an etcd member.
    pub etcd: bool,
    /// Whether it runs a kubelet.
    pub node: bool,
    /// Where `ssh` reaches it, where that is not by its name: `USER@HOST`, `ssh://USER@HOST:PORT`.
    pub ssh: Option<SshDestination>,
}

/// Where etcd runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Etcd {
    /// On the control-plane hosts.
    Stacked,
    /// On hosts of its own, in [`Cluster::hosts`].
    Hosts,
    /// Elsewhere, with certificates of somebody else's.
    External {
        /// Its client URLs.
        endpoints: Vec<String>,
        /// Files of the CA, the apiserver's certificate and its key, on the control-plane hosts.
        files: Option<ExternalEtcdFiles>,
    },
}

/// The files by which the apiserver reaches an etcd that is not certkit's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalEtcdFiles {
    /// `--etcd-cafile`
    pub ca: String,
    /// `--etcd-certfile`
    pub cert: String,
    /// `--etcd-keyfile`
    pub key: String,
}

/// How component kubeconfigs carry their credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KubeconfigStyle {
    /// By naming files, which client-go reads again.
    Files,
    /// Embedded, kubeadm's form; never read again.
    Embedded,
}

/// What differs for one certificate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// Its own validity.
    pub validity: Option<Span>,
    /// Its own key algorithm.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Its subject, instead of the catalogue's: organizations and common name.
    pub subject: Option<DeclaredSubject>,
    /// The same as DER, for what organizations and a common name cannot say.
    pub raw_subject: Option<Name>,
    /// All of its names, instead of the catalogue's.
    pub sans: Option<Vec<San>>,
    /// What it may be used for, instead of the catalogue's.
    pub usages: Option<Usages>,
}

/// Declared usages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usages {
    /// Key usage; none leaves the extension out.
    pub key: KeyUsages,
    /// Extended key usage; none leaves the extension out.
    pub extended: Vec<ExtendedUsage>,
}

/// A declared subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredSubject {
    /// O, in order.
    pub organizations: Vec<String>,
    /// CN
    pub common_name: String,
}

impl Cluster {
    /// The cluster's defaults, around what has none.
    pub fn new(name: String, endpoint: Endpoint, hosts: Vec<Host>) -> Self {
        Self {
            name,
            endpoint,
            former_endpoints: Vec::new(),
            dns_domain: "cluster.local".into(),
            service_subnets: vec![Subnet::DEFAULT],
            key_algorithm: KeyAlgorithm::EcdsaP256,
            validity: Terms { ca: Span::days(3650), leaf: Span::days(365) },
            workspace: hosts.len() > 1,
            hosts,
            etcd: Etcd::Stacked,
            extra_sans: BTreeMap::new(),
            addons: Vec::new(),
            overrides: BTreeMap::new(),
            kubeconfig_style: KubeconfigStyle::Files,
            single_root: false,
            host_keys: HostKeys::default(),
            owners: BTreeMap::new(),
            host_dir: None,
            signers: Signers::default(),
            absent: BTreeSet::new(),
        }
    }

    /// Whether DIR itself is this host's tree. Where DIR is no workspace it is the first control-plane
    /// host's, which comes first.
    pub fn is_local(&self, host: &Host) -> bool {
        self.local().is_some_and(|local| local.name == host.name)
    }

    /// The host whose tree DIR itself is; none for a workspace.
    pub fn local(&self) -> Option<&Host> {
        self.hosts.first().filter(|_| !self.workspace)
    }

    /// The hosts on which something of this scope exists. [`Scope::Cluster`] has none.
    pub fn hosts_in(&self, scope: Scope) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(move |host| host.is_in(scope))
    }

    /// Whether rows under this condition exist in this cluster.
    pub fn has(&self, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Addon(name) => self.addons.iter().any(|a| a == name),
            Condition::EtcdMembers => {
                self.has(Condition::ManagedEtcd) && !self.is_absent(catalogue::ALL_ETCD_MEMBERS)
            }
            Condition::EtcdPeerName => {
                let declared =
                    self.overrides.get(roles::ETCD_PEER.id.name()).and_then(|o| o.sans.as_ref());
                let name = San::Dns(catalogue::ETCD_PEER_NAME.to_owned());
                self.has(Condition::ManagedEtcd) && declared.is_none_or(|s| s.contains(&name))
            }
            Condition::NoConfigFile(component) => self.config_file(component).is_none(),
            Condition::ManagedEtcd => !matches!(self.etcd, Etcd::External { .. }),
            Condition::SingleRoot => self.single_root,
        }
    }

    /// Whether the cluster does without what has this id.
    pub fn is_absent(&self, id: &str) -> bool {
        self.absent.contains(id)
    }

    /// The override for a certificate, empty if there is none.
    pub fn override_of(&self, id: &str) -> Override {
        self.overrides.get(id).cloned().unwrap_or_default()
    }

    /// The algorithm of a new key for this certificate or key pair.
    pub fn algorithm_of(&self, id: &str) -> KeyAlgorithm {
        let asked =
            self.overrides.get(id).and_then(|o| o.key_algorithm).unwrap_or(self.key_algorithm);
        // Service-account tokens are JWTs signed with RS256 or ES256/384/512; Kubernetes refuses
        // Ed25519 there (pkg/serviceaccount/jwt.go), and the CA's algorithm matters nothing to them.
        match (catalogue::key(id), asked) {
            (Some(_), KeyAlgorithm::Ed25519) => KeyAlgorithm::EcdsaP256,
            _ => asked,
        }
    }

    /// What is wrong between several fields: the field's path and what to do.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, why: String| {
            faults.push(Fault { field: field.to_owned(), why });
        };
        if self.name.is_empty() || self.name.len() > 253 || self.name.chars().any(char::is_control)
        {
            fault("name", "must have 1 to 253 characters, none of them a control character".into());
        }
        if let Some(why) = dns_name_fault(&self.dns_domain) {
            fault("dnsDomain", format!("{}: {why}", quoted(&self.dns_domain)));
        }
        if self.hosts_in(Scope::ControlPlane).next().is_none() {
            fault("controlPlane", "needs at least one host".into());
        }
        let mut names = BTreeSet::new();
        let mut addresses = BTreeMap::new();
        for host in &self.hosts {
            let list = host.list();
            if !names.insert(&host.name) {
                fault(list, format!("host `{}` is declared twice", host.name));
            }
            if host.port == Some(0) || host.port.is_some() && !host.control_plane {
                fault(list, format!("host `{}`: `port` is an apiserver's, 1 to 65535", host.name));
            }
            if host.addresses.is_empty() {
                fault(list, format!("host `{}` needs at least one address", host.name));
            }
            for address in &host.addresses {
                if address.is_unspecified() || address.is_multicast() {
                    fault(list, format!("host `{}`: {address} is no host's address", host.name));
                }
                if let Some(other) = addresses.insert(*address, &host.name) {
                    fault(list, format!("{address} belongs to both `{other}` and `{}`", host.name));
                }
            }
        }
        if self.service_subnets.is_empty() || self.service_subnets.len() > 2 {
            fault("serviceSubnet", "needs one subnet, or one of IPv4 and one of IPv6".into());
        }
        if let [first, second] = self.service_subnets[..]
            && first.address().is_ipv4() == second.address().is_ipv4()
        {
            fault("serviceSubnet", "two subnets must be one of IPv4 and one of IPv6".into());
        }
        for subnet in &self.service_subnets {
            for host in &self.hosts {
                for address in host.addresses.iter().filter(|a| subnet.contains(**a)) {
                    let why = format!("{subnet} overlaps {address}, an address of `{}`", host.name);
                    fault("serviceSubnet", why);
                }
            }
        }
        for (field, span) in
            [("validity.ca", self.validity.ca), ("validity.leaf", self.validity.leaf)]
        {
            if let Some(why) = span_fault(span) {
                fault(field, why);
            }
        }
        if self.validity.leaf > self.validity.ca {
            let Terms { ca, leaf } = self.validity;
            fault("validity.leaf", format!("{leaf} is longer than the CA's {ca}"));
        }
        if self.host_keys != HostKeys::default()
            && self.kubeconfig_style == KubeconfigStyle::Embedded
        {
            let why =
                "an embedded key would have to be made here: `host` needs `kubeconfigStyle: files`";
            fault("keys", why.into());
        }
        for addon in &self.addons {
            let known = catalogue::addons();
            if !known.contains(&addon.as_str()) {
                let why = format!("{} is none of {}", quoted(addon), known.join(", "));
                fault("addons", why);
            }
        }
        for (id, _) in self.extra_sans.iter().filter(|(id, _)| catalogue::certificate(id).is_none())
        {
            fault("extraSans", format!("{} is no certificate's name", quoted(id)));
        }
        for id in self.absent.iter().filter(|id| !is_known(id)) {
            let what = "nothing that a cluster can do without has this name";
            fault("absent", format!("{}: {what}", quoted(id)));
        }
        for (id, over) in &self.overrides {
            let field = format!("overrides.{id}");
            if catalogue::certificate(id).is_none() && catalogue::key(id).is_none() {
                fault(&field, format!("{} is no certificate's name", quoted(id)));
            }
            if let Some(why) = over.validity.and_then(span_fault) {
                fault(&format!("{field}.validity"), why);
            }
        }
        faults.extend(owners::faults(self));
        faults.extend(signers::faults(self));
        let mut fault = |field: &str, why: String| {
            faults.push(Fault { field: field.to_owned(), why });
        };
        if let Some(dir) = &self.host_dir
            && (!dir.starts_with('/')
                || dir.split('/').any(|part| part == "..")
                || dir.chars().any(char::is_control))
        {
            fault("hostDir", format!("{} must be an absolute path", quoted(dir)));
        }
        faults
    }
}

/// Whether a cluster can do without something of this id.
fn is_known(id: &str) -> bool {
    let authority = id.strip_suffix("-bundle").or(id.strip_suffix("-chain"));
    catalogue::certificate(id).is_some()
        || catalogue::key(id).is_some()
        || catalogue::config_file(id).is_some()
        || id == catalogue::ALL_ETCD_MEMBERS
        || authority.and_then(catalogue::certificate).is_some_and(|spec| spec.is_ca())
}

/// Something wrong with a declared cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, as in `certkit.yaml`.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// Under an hour a certificate is expired before it is copied; over a hundred years dates leave what
/// other software can read.
fn span_fault(span: Span) -> Option<String> {
    let longest = Span::days(365 * 100);
    (span < Span(60) || span > longest).then(|| format!("{span} is not between 1m and {longest}"))
}

impl Host {
    /// Whether it is a node and nothing else: nobody else depends on it.
    pub fn is_only_node(&self) -> bool {
        !self.control_plane && !self.etcd
    }

    /// Whether something of this scope exists on this host.
    pub fn is_in(&self, scope: Scope) -> bool {
        match scope {
            Scope::Cluster => false,
            Scope::ControlPlane => self.control_plane,
            Scope::Etcd => self.etcd,
            Scope::Node => self.node,
        }
    }

    /// The address it advertises.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first().copied()
    }

    /// The list of `certkit.yaml` it is declared in.
    fn list(&self) -> &'static str {
        match (self.control_plane, self.etcd) {
            (true, _) => "controlPlane",
            (false, true) => "etcd",
            (false, false) => "nodes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, address: &str) -> Host {
        Host {
            name: name.parse().unwrap(),
            addresses: vec![address.parse().unwrap()],
            port: None,
            control_plane: true,
            etcd: true,
            node: true,
            ssh: None,
        }
    }

    fn cluster() -> Cluster {
        Cluster::new("prod".into(), "api:6443".parse().unwrap(), vec![host("cp1", "10.0.0.11")])
    }

    #[test]
    fn a_sound_cluster_has_no_faults() {
        assert_eq!(cluster().faults(), []);
    }

    #[test]
    fn faults_name_their_field() {
        let mut c = cluster();
        c.hosts.push(host("cp1", "10.0.0.12"));
        c.hosts.push(host("cp2", "10.0.0.12"));
        c.hosts.push(host("cp3", "10.96.0.7"));
        c.validity.leaf = Span(0);
        c.addons.push("nginx".into());
        c.overrides.insert("nothing".into(), Override::default());
        let text: Vec<String> = c.faults().iter().map(Fault::to_string).collect();
        for part in [
            "controlPlane: host `cp1` is declared twice",
            "controlPlane: 10.0.0.12 belongs to both `cp1` and `cp2`",
            "serviceSubnet: 10.96.0.0/12 overlaps 10.96.0.7",
            "validity.leaf: 0s is not between",
            "addons: `nginx` is none of",
            "overrides.nothing",
        ] {
            assert!(text.iter().any(|t| t.contains(part)), "{part} in {text:#?}");
        }
    }
}
