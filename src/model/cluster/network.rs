//! Where the programs of a cluster listen, and where they are reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Cluster, Endpoint, Etcd, Host};
use crate::model::{
    catalogue::{API, ApiServer, ETCD_CLIENTS, ETCD_PEERS, Listener, Scope},
    san::San,
};

impl Cluster {
    /// The port on which the apiserver of this host listens: the declared one, else the endpoint's where clients
    /// reach this host by it or there is no other, else the usual one.
    pub fn api_port(&self, host: &Host) -> u16 {
        let is_endpoint = match &self.endpoint.host {
            San::Ip(ip) => host.addresses.contains(ip),
            San::Dns(name) => name == host.name.as_ref(),
            _ => false,
        };
        match host.port {
            Some(port) => port,
            None if is_endpoint || self.hosts.len() == 1 => self.endpoint.port,
            None => API.port,
        }
    }

    /// Says the ports that follow from the endpoint: once said they stay, where with a further host others would
    /// follow.
    pub fn settle_ports(&mut self) {
        let ports: Vec<_> = self.hosts.iter().map(|host| self.api_port(host)).collect();
        for (host, port) in self.hosts.iter_mut().zip(ports) {
            if host.control_plane && port != API.port {
                host.port.get_or_insert(port);
            }
        }
    }

    /// The port of a listener on a host.
    pub fn port(&self, listener: &Listener, host: Option<&Host>) -> u16 {
        match host.filter(|host| host.control_plane && listener.certificate == API.certificate) {
            Some(host) => self.api_port(host),
            None => listener.port,
        }
    }

    /// The apiserver that a client on a host talks to.
    pub fn server_for(&self, which: ApiServer, host: Option<&Host>) -> Endpoint {
        let host = host.filter(|host| host.control_plane && which == ApiServer::Local);
        match host.and_then(|host| Some((host, host.address()?))) {
            Some((host, ip)) => Endpoint { host: San::Ip(ip), port: self.api_port(host) },
            None => self.endpoint.clone(),
        }
    }

    /// The address that an apiserver advertises: one of the family of the service `kubernetes`, or it would
    /// not start (Kubernetes `cmd/kube-apiserver/app/options/validation.go`). A loopback address cannot be
    /// an endpoint of a service.
    pub fn advertised(&self, host: &Host) -> Option<IpAddr> {
        let family = self.service_subnets.first().map(|subnet| subnet.address().is_ipv4());
        let fits = |ip: &IpAddr| family.is_none_or(|is_ipv4| ip.is_ipv4() == is_ipv4);
        host.addresses.iter().copied().find(|ip| fits(ip) && !ip.is_loopback())
    }

    /// Where the etcd member of this host serves clients: on the host itself, and for all others.
    pub fn etcd_client_urls(&self, host: &Host) -> Vec<String> {
        let all = host.address().map(|ip| [host.loopback(), ip]);
        let mut all = Vec::from_iter(all.into_iter().flatten());
        all.dedup();
        all.into_iter().map(|ip| https(ip, ETCD_CLIENTS.port)).collect()
    }

    /// Where others reach the etcd member of this host as clients.
    pub fn etcd_client_url(&self, host: &Host) -> Option<String> {
        Some(https(host.address()?, ETCD_CLIENTS.port))
    }

    /// Where other members reach the etcd member of this host, and where it listens for them.
    pub fn etcd_peer_url(&self, host: &Host) -> Option<String> {
        Some(https(host.address()?, ETCD_PEERS.port))
    }

    /// The members of etcd: name and URL for peers.
    pub fn etcd_members(&self) -> Vec<(&str, String)> {
        let member = |host| Some((host, self.etcd_peer_url(host)?));
        let members = self.hosts_in(Scope::Etcd).filter_map(member);
        members.map(|(host, url): (&Host, String)| (host.name.as_ref(), url)).collect()
    }

    /// Where the apiserver of a host finds etcd: the member beside it, or all of them.
    pub fn etcd_endpoints(&self, host: Option<&Host>) -> Vec<String> {
        match &self.etcd {
            Etcd::Stacked => {
                let loopback = host.map_or(Ipv4Addr::LOCALHOST.into(), Host::loopback);
                vec![https(loopback, ETCD_CLIENTS.port)]
            }
            Etcd::Hosts => {
                self.hosts_in(Scope::Etcd).filter_map(|h| self.etcd_client_url(h)).collect()
            }
            Etcd::External { endpoints, .. } => endpoints.clone(),
        }
    }
}

impl Host {
    /// The address by which programs of this host reach each other: of the family that the host advertises, as
    /// kubeadm has it. A host on the loopback network shares its machine with others, and is reached by its
    /// own address alone.
    pub fn loopback(&self) -> IpAddr {
        match self.address() {
            Some(ip) if ip.is_loopback() => ip,
            Some(IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
            _ => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

fn https(ip: IpAddr, port: u16) -> String {
    format!("https://{}", Endpoint { host: San::Ip(ip), port })
}
