//! Trees that something else made: how they are seen while nothing is declared.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    catalogue,
    cluster::{Cluster, Endpoint, Host, HostName},
    san::San,
};

/// Every row of the catalogue in its place, on one host: what is seen where nothing is declared. Nothing
/// but places may be taken from it.
pub fn anything(name: HostName) -> Cluster {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let host = Host { name, addresses: vec![address], control_plane: true, etcd: true, node: true };
    let endpoint = Endpoint { host: San::Ip(address), port: super::cluster::API_PORT };
    let mut cluster = Cluster::new("kubernetes".into(), endpoint, vec![host]);
    cluster.addons = catalogue::addons().into_iter().map(str::to_owned).collect();
    cluster
}
