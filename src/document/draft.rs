//! What was said about a cluster, and the cluster that follows from it.

use std::{collections::BTreeMap, net::IpAddr};

use super::{DocumentError, Mistake, NodeFile, yaml::Position};
use crate::model::{
    algorithm::KeyAlgorithm,
    cluster::{
        API_PORT, Cluster, Endpoint, Etcd, ExternalEtcdFiles, Fault, Host, HostKeys, HostName,
        KubeconfigStyle, Override, Signers, SshDestination, Subnet,
    },
    duration::Span,
    owner::Owner,
    san::San,
};

/// Everything a user may say about a cluster, from `certkit.yaml`, kubeadm's YAML or flags; nothing
/// decided yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// The cluster's name.
    pub name: Option<String>,
    /// Where clients reach the API.
    pub endpoint: Option<Endpoint>,
    /// Hosts of earlier endpoints.
    pub former_endpoints: Vec<San>,
    /// The domain of service names.
    pub dns_domain: Option<String>,
    /// Service subnets.
    pub service_subnets: Option<Vec<Subnet>>,
    /// The algorithm of new keys.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// How long CAs are valid.
    pub ca_validity: Option<Span>,
    /// How long leaves are valid.
    pub leaf_validity: Option<Span>,
    /// The control plane's hosts.
    pub control_plane: Vec<HostDraft>,
    /// Where etcd runs; left out, on the control plane.
    pub etcd: Option<EtcdDraft>,
    /// Hosts that only run a kubelet.
    pub nodes: Vec<HostDraft>,
    /// Which further files declare nodes: paths relative to `certkit.yaml`, in whose last part a `*` stands for anything.
    pub include: Vec<String>,
    /// The files that were read for that, each with the index of its first node.
    pub node_files: Vec<(usize, String)>,
    /// Whether the directory is an operator's workspace, or a host's own tree.
    pub workspace: Option<bool>,
    /// Names added to certificates, by id.
    pub extra_sans: BTreeMap<String, Vec<San>>,
    /// Addons.
    pub addons: Vec<String>,
    /// What differs for single certificates, by id.
    pub overrides: BTreeMap<String, Override>,
    /// How kubeconfigs of components carry their credentials.
    pub kubeconfig_style: Option<KubeconfigStyle>,
    /// Whether one root stands over the CAs.
    pub single_root: Option<bool>,
    /// Which private keys hosts make themselves.
    pub host_keys: HostKeys,
    /// Who owns the files of components, by the component's id.
    pub owners: BTreeMap<&'static str, Owner>,
    /// Where the hosts keep the tree.
    pub host_dir: Option<String>,
    /// Whom certkit's own signers sign for.
    pub signers: Signers,
    /// What the cluster does without.
    pub absent: std::collections::BTreeSet<String>,
    /// Where each field stands in its file, by path; empty for what came from flags.
    pub places: BTreeMap<String, Position>,
}

/// A machine as described; kubeadm's documents may leave either half to the machine they are used on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDraft {
    /// Its name.
    pub name: Option<HostName>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The port of its apiserver.
    pub port: Option<u16>,
    /// Where ssh reaches it.
    pub ssh: Option<SshDestination>,
}

/// Where etcd runs, when not on the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdDraft {
    /// On these hosts.
    Hosts(Vec<HostDraft>),
    /// Elsewhere.
    External {
        /// Its client URLs.
        endpoints: Vec<String>,
        /// The files that reach it.
        files: Option<ExternalEtcdFiles>,
    },
}

impl Draft {
    /// The cluster: defaults for what was not said, then everything checked against everything else.
    /// `file` is what errors call the source.
    pub fn complete(mut self, file: &str) -> Result<Cluster, DocumentError> {
        let mut mistakes = Vec::new();
        if !self.include.is_empty() && self.node_files.is_empty() {
            let why = "can stand in the certkit.yaml of the PKI's own directory only".to_owned();
            mistakes.push(self.placed(Fault { field: "nodes.include".into(), why }));
        }
        let control_plane = std::mem::take(&mut self.control_plane);
        let nodes = std::mem::take(&mut self.nodes);
        let (etcd, members) = match self.etcd.take() {
            None => (Etcd::Stacked, Vec::new()),
            Some(EtcdDraft::Hosts(hosts)) => (Etcd::Hosts, hosts),
            Some(EtcdDraft::External { endpoints, files }) => {
                (Etcd::External { endpoints, files }, Vec::new())
            }
        };
        if etcd == Etcd::Hosts && members.is_empty() {
            let why = "needs at least one host; without `etcd`, it runs on the control plane";
            mistakes.push(self.placed(Fault { field: "etcd".into(), why: why.into() }));
        }
        let stacked = etcd == Etcd::Stacked;
        let mut hosts = Vec::new();
        for (list, drafts, control_plane, etcd, node) in [
            ("controlPlane", control_plane, true, stacked, true),
            ("etcd", members, false, true, false),
            ("nodes", nodes, false, false, true),
        ] {
            for (index, HostDraft { name, addresses, port, ssh }) in drafts.into_iter().enumerate()
            {
                match name {
                    Some(name) => {
                        hosts.push(Host { name, addresses, port, control_plane, etcd, node, ssh })
                    }
                    None => {
                        let field = format!("{list}[{index}].name");
                        mistakes.push(self.placed(Fault { field, why: "is missing".into() }));
                    }
                }
            }
        }
        let first = hosts.iter().find(|host| host.control_plane);
        let by_default = first.and_then(|host| {
            let port = host.port.unwrap_or(API_PORT);
            Some(Endpoint { host: San::Ip(host.address()?), port })
        });
        let Some(endpoint) = self.endpoint.take().or(by_default) else {
            if mistakes.is_empty() {
                let why = "needs at least one host with an address".into();
                mistakes.push(self.placed(Fault { field: "controlPlane".into(), why }));
            }
            return Err(DocumentError::Invalid { file: file.to_owned(), mistakes });
        };
        let name = self.name.take().unwrap_or_else(|| "kubernetes".into());
        let mut cluster = Cluster::new(name, endpoint, hosts);
        cluster.etcd = etcd;
        cluster.former_endpoints = std::mem::take(&mut self.former_endpoints);
        cluster.workspace = self.workspace.unwrap_or(cluster.workspace);
        if let Some(domain) = self.dns_domain.take() {
            cluster.dns_domain = domain;
        }
        if let Some(subnets) = self.service_subnets.take() {
            cluster.service_subnets = subnets;
        }
        cluster.key_algorithm = self.key_algorithm.unwrap_or(cluster.key_algorithm);
        cluster.validity.ca = self.ca_validity.unwrap_or(cluster.validity.ca);
        cluster.validity.leaf = self.leaf_validity.unwrap_or(cluster.validity.leaf);
        cluster.extra_sans = std::mem::take(&mut self.extra_sans);
        cluster.addons = std::mem::take(&mut self.addons);
        cluster.overrides = std::mem::take(&mut self.overrides);
        cluster.kubeconfig_style = self.kubeconfig_style.unwrap_or(cluster.kubeconfig_style);
        cluster.single_root = self.single_root.unwrap_or(cluster.single_root);
        cluster.host_keys = self.host_keys;
        cluster.owners = std::mem::take(&mut self.owners);
        cluster.host_dir = self.host_dir.take();
        cluster.signers = std::mem::take(&mut self.signers);
        cluster.absent = std::mem::take(&mut self.absent);
        cluster.settle_ports();
        for fault in cluster.faults() {
            mistakes.push(match hosts_of(&cluster, &fault) {
                Some((other, field)) => {
                    let list = fault.field.clone();
                    let why = match other.filter(|_| !self.node_files.is_empty()) {
                        Some(other) => {
                            format!("{}; the other is in {}", fault.why, self.at(other, file))
                        }
                        None => fault.why,
                    };
                    Mistake { field: list, ..self.placed(Fault { field, why }) }
                }
                None => self.placed(fault),
            });
        }
        match mistakes.is_empty() {
            true => Ok(cluster),
            false => {
                mistakes.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
                Err(DocumentError::Invalid { file: file.to_owned(), mistakes })
            }
        }
    }

    /// The fault with its place: that of the field, or of the nearest one around it.
    fn placed(&self, Fault { field, why }: Fault) -> Mistake {
        let mut path = field.as_str();
        let place = loop {
            match (self.places.get(path), path.rfind(['.', '['])) {
                (Some(place), _) => break Some(*place),
                (None, Some(end)) => path = &path[..end],
                (None, None) => break None,
            }
        };
        match self.local(&field) {
            Some((file, field)) => Mistake { file: Some(file.to_owned()), place, field, why },
            None => Mistake { file: None, place, field, why },
        }
    }

    /// The file that declares a node, and the field's path in that file.
    fn local(&self, field: &str) -> Option<(&str, String)> {
        let (index, rest) = field.strip_prefix("nodes[")?.split_once(']')?;
        let index: usize = index.parse().ok()?;
        let after = self.node_files.partition_point(|(first, _)| *first <= index);
        let (first, file) = self.node_files.get(after.checked_sub(1)?)?;
        Some((file, format!("nodes[{}]{rest}", index - first)))
    }

    /// The further file that declares a node; none where that is `certkit.yaml`.
    pub fn file_of_node(&self, index: usize) -> Option<&str> {
        let after = self.node_files.partition_point(|(first, _)| *first <= index);
        Some(&self.node_files.get(after.checked_sub(1)?)?.1)
    }

    /// Where a field stands, for people.
    fn at(&self, field: String, file: &str) -> String {
        let Mistake { file: of_node, place, .. } = self.placed(Fault { field, why: String::new() });
        let file = of_node.as_deref().unwrap_or(file);
        match place {
            Some(place) => format!("{file}:{place}"),
            None => file.to_owned(),
        }
    }

    /// Takes in the nodes of a further file, after those that are there.
    pub fn take_in(&mut self, file: &str, NodeFile { nodes, places }: NodeFile) {
        let first = self.nodes.len();
        for (path, place) in places {
            let Some((index, rest)) =
                path.strip_prefix("nodes[").and_then(|path| path.split_once(']'))
            else {
                continue;
            };
            // The reader numbered them itself.
            let Ok(index) = index.parse::<usize>() else { continue };
            self.places.insert(format!("nodes[{}]{rest}", first + index), place);
        }
        self.node_files.push((first, file.to_owned()));
        self.nodes.extend(nodes);
    }
}

/// The paths of the hosts a fault between hosts is about, by the names it quotes: of the first one declared where there
/// are two, and of the last one, whose entry is the one that came too late.
fn hosts_of(cluster: &Cluster, fault: &Fault) -> Option<(Option<String>, String)> {
    let list = |host: &Host| match (host.control_plane, host.etcd) {
        (true, _) => "controlPlane",
        (false, true) => "etcd",
        (false, false) => "nodes",
    };
    let mut counts = BTreeMap::new();
    let (mut first, mut found) = (None, None);
    for host in &cluster.hosts {
        let index = counts.entry(list(host)).or_insert(0);
        if fault.why.contains(&format!("`{}`", host.name)) {
            let path = format!("{}[{index}]", list(host));
            if list(host) == fault.field {
                found = Some(path.clone());
            }
            first.get_or_insert(path);
        }
        *index += 1;
    }
    let found = found?;
    Some((first.filter(|first| *first != found), found))
}
