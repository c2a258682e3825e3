//! Which nodes there are, and what each may be called: from what is declared, from what the cluster's API has, or from
//! both.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use super::{NODE_USER, RequestSigner};
use crate::model::{
    catalogue::roles,
    cluster::{Cluster, Signers},
    layout, resolve,
    san::San,
};

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its DNS names, in small letters.
    pub names: BTreeSet<String>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl NodeRecord {
    /// Whether this is one of its names or addresses. DNS names are compared letter by letter.
    pub fn has(&self, san: &San) -> bool {
        match san {
            San::Dns(name) => self.names.contains(name),
            San::Ip(address) => self.addresses.contains(address),
            San::Email(_) | San::Uri(_) | San::Other(_) => false,
        }
    }

    fn sans(&self) -> impl Iterator<Item = San> {
        let names = self.names.iter().cloned().map(San::Dns);
        names.chain(self.addresses.iter().copied().map(San::Ip))
    }
}

/// Nodes from one source, found by name, and by what each is called.
#[derive(Clone, Debug, Default)]
pub struct NodeRegister {
    nodes: HashMap<String, NodeRecord>,
    owners: HashMap<San, BTreeSet<String>>,
}

impl NodeRegister {
    /// The nodes that a cluster declares. Each has the names that certkit itself would write into its kubelet's serving
    /// certificate, whether or not this cluster has its kubelets' certificates from certkit.
    pub fn declared(cluster: &Cluster) -> Self {
        let mut register = Self::default();
        for host in cluster.hosts_in(roles::NODE.scope) {
            let node = layout::instance(cluster, roles::NODE, Some(host));
            let user = resolve::subject(&node, cluster).common_name;
            // A node that is no node to Kubernetes can ask for nothing.
            let Some(name) = user.strip_prefix(NODE_USER) else { continue };
            let serving = layout::instance(cluster, roles::KUBELET_SERVING, Some(host));
            let mut record = NodeRecord::default();
            for san in resolve::profile(&serving, cluster).sans {
                match san {
                    San::Dns(name) => drop(record.names.insert(name.to_ascii_lowercase())),
                    San::Ip(address) => drop(record.addresses.insert(address)),
                    San::Email(_) | San::Uri(_) | San::Other(_) => {}
                }
            }
            register.put(name, record);
        }
        register
    }

    /// Adds a node, or replaces what was known of it.
    pub fn put(&mut self, name: &str, record: NodeRecord) {
        self.remove(name);
        for san in record.sans() {
            self.owners.entry(san).or_default().insert(name.to_owned());
        }
        self.nodes.insert(name.to_owned(), record);
    }

    /// Forgets a node.
    pub fn remove(&mut self, name: &str) {
        let Some(record) = self.nodes.remove(name) else { return };
        for san in record.sans() {
            if let Some(owners) = self.owners.get_mut(&san) {
                owners.remove(name);
                if owners.is_empty() {
                    self.owners.remove(&san);
                }
            }
        }
    }

    /// Forgets the nodes that this does not say yes to.
    pub fn retain(&mut self, keeps: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.nodes.keys().filter(|name| !keeps(name)).cloned().collect();
        gone.iter().for_each(|name| self.remove(name));
    }

    /// What is known of a node.
    pub fn node(&self, name: &str) -> Option<&NodeRecord> {
        self.nodes.get(name)
    }

    /// Another node that is called so.
    pub fn another_with(&self, name: &str, san: &San) -> Option<&str> {
        self.owners.get(san)?.iter().map(String::as_str).find(|owner| *owner != name)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// Whom certkit's own signers sign for, with what else of the cluster that depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// What certkit.yaml says.
    pub signers: Signers,
    /// The one name that aggregated API servers believe.
    pub front_proxy: String,
    /// The domain of services.
    pub dns_domain: String,
}

impl Admission {
    /// Whether anybody is admitted to a signer. Those of Kubernetes go by the nodes that there are.
    pub fn is_open(&self, signer: RequestSigner) -> bool {
        match signer {
            RequestSigner::Serving | RequestSigner::Client => true,
            RequestSigner::Node => self.signers.nodes.is_some(),
            RequestSigner::Person => self.signers.people.is_some(),
            RequestSigner::EtcdClient => self.signers.etcd.is_some(),
            RequestSigner::FrontProxy => self.signers.front_proxy.is_some(),
        }
    }

    /// That of a cluster.
    pub fn of(cluster: &Cluster) -> Self {
        let host = cluster.hosts_in(roles::FRONT_PROXY.scope).next();
        let proxy = layout::instance(cluster, roles::FRONT_PROXY, host);
        Self {
            signers: cluster.signers.clone(),
            front_proxy: resolve::subject(&proxy, cluster).common_name,
            dns_domain: cluster.dns_domain.clone(),
        }
    }
}

/// What is known of the cluster's nodes. Where both sources are asked, both must agree.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// What certkit.yaml declares, if that is asked.
    pub declared: Option<NodeRegister>,
    /// The cluster's Node objects, if those are asked. Without a cloud provider a kubelet writes its own addresses, so
    /// that alone they hold a node to one thing: what no other node has.
    pub live: Option<NodeRegister>,
    /// Whom certkit's own signers admit: nobody, unless certkit.yaml says so.
    pub admission: Admission,
}

impl Inventory {
    /// The sources that are asked, and what they are called.
    pub fn sources(&self) -> impl Iterator<Item = (&NodeRegister, &'static str)> {
        let declared = self.declared.iter().map(|register| (register, "certkit.yaml"));
        declared.chain(self.live.iter().map(|register| (register, "its Node object")))
    }
}
