//! Documents: YAML that certkit reads and writes.
#![allow(missing_docs)]
use crate::model::{algorithm::KeyAlgorithm, cluster::*, duration::Span, san::San};
use std::collections::BTreeMap;
pub const LIMIT: u64 = 4 << 20;
#[derive(Debug, thiserror::Error)]
#[error("cannot be read")]
pub struct DocumentError;
impl DocumentError {
    pub fn hint(&self) -> Option<String> {
        None
    }
}
#[derive(Default, Debug, Clone, PartialEq)]
pub struct Draft {
    pub name: Option<String>,
    pub endpoint: Option<Endpoint>,
    pub dns_domain: Option<String>,
    pub service_subnets: Option<Vec<Subnet>>,
    pub key_algorithm: Option<KeyAlgorithm>,
    pub ca_validity: Option<Span>,
    pub leaf_validity: Option<Span>,
    pub control_plane: Vec<HostDraft>,
    pub extra_sans: BTreeMap<String, Vec<San>>,
    pub addons: Vec<String>,
    pub kubeconfig_style: Option<KubeconfigStyle>,
    pub single_root: Option<bool>,
    pub host_dir: Option<String>,
}
#[derive(Debug, Clone, PartialEq)]
pub struct HostDraft {
    pub name: HostName,
    pub addresses: Vec<std::net::IpAddr>,
}
pub fn read(_: &[u8], _: &str) -> Result<Draft, DocumentError> {
    Err(DocumentError)
}
pub fn write(_: &Cluster) -> String {
    String::new()
}
impl Draft {
    pub fn complete(self, _: &str) -> Result<Cluster, DocumentError> {
        let hosts: Vec<Host> = self
            .control_plane
            .iter()
            .map(|h| Host {
                name: h.name.clone(),
                addresses: h.addresses.clone(),
                control_plane: true,
                etcd: true,
                node: true,
            })
            .collect();
        let ep =
            self.endpoint.unwrap_or(Endpoint { host: San::Ip(hosts[0].addresses[0]), port: 6443 });
        let mut c = Cluster::new(self.name.unwrap_or("kubernetes".into()), ep, hosts);
        c.addons = self.addons;
        c.single_root = self.single_root.unwrap_or(false);
        if let Some(k) = self.kubeconfig_style {
            c.kubeconfig_style = k
        }
        c.extra_sans = self.extra_sans;
        Ok(c)
    }
}
pub mod data;
pub mod kubeconfig;
pub mod yaml;
