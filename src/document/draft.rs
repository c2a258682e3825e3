//! What was said about a cluster, and the cluster that follows from it.

use std::{collections::BTreeMap, net::IpAddr};

use super::{DocumentError, Mistake, yaml::Position};
use crate::model::{
    algorithm::KeyAlgorithm,
    cluster::{
        API_PORT, Cluster, Endpoint, Etcd, ExternalEtcdFiles, Fault, Host, HostName,
        KubeconfigStyle, Override, Subnet,
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
    /// Who owns the files of components, by the component's id.
    pub owners: BTreeMap<&'static str, Owner>,
    /// Where the hosts keep the tree.
    pub host_dir: Option<String>,
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
            for (index, HostDraft { name, addresses, port }) in drafts.into_iter().enumerate() {
                match name {
                    Some(name) => {
                        hosts.push(Host { name, addresses, port, control_plane, etcd, node })
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
        cluster.owners = std::mem::take(&mut self.owners);
        cluster.host_dir = self.host_dir.take();
        cluster.absent = std::mem::take(&mut self.absent);
        cluster.settle_ports();
        for fault in cluster.faults() {
            mistakes.push(match host_of(&cluster, &fault) {
                Some(field) => Mistake {
                    field: fault.field.clone(),
                    ..self.placed(Fault { field, why: fault.why })
                },
                None => self.placed(fault),
            });
        }
        match mistakes.is_empty() {
            true => Ok(cluster),
            false => {
                mistakes.sort_by_key(|mistake| mistake.place);
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
        Mistake { place, field, why }
    }
}

/// The path of the host a fault between hosts is about, by the names it quotes: the last one declared,
/// whose entry is the one that came too late.
fn host_of(cluster: &Cluster, fault: &Fault) -> Option<String> {
    let list = |host: &Host| match (host.control_plane, host.etcd) {
        (true, _) => "controlPlane",
        (false, true) => "etcd",
        (false, false) => "nodes",
    };
    let mut counts = BTreeMap::new();
    let mut found = None;
    for host in &cluster.hosts {
        let index = counts.entry(list(host)).or_insert(0);
        if list(host) == fault.field && fault.why.contains(&format!("`{}`", host.name)) {
            found = Some(format!("{}[{index}]", fault.field));
        }
        *index += 1;
    }
    found
}
