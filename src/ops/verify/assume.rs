//! A cluster nobody declared, assumed from what is in its directory: one control-plane host, laid out as the
//! catalogue and kubeadm do it.

use std::{net::IpAddr, path::Path};

use crate::{
    document::kubeconfig,
    model::{
        catalogue::{CERTIFICATES, CertSpec, Condition, addons, roles},
        cluster::{Cluster, Endpoint, Etcd, Host, HostName, Subnet},
        observed::Piece,
        san::San,
        url::host_of,
    },
    ops::{machine, read},
    pki::inspect::{self, Certificate},
};

/// What is assumed.
#[derive(Debug)]
pub struct Assumed {
    /// The cluster.
    pub cluster: Cluster,
    /// The address of the service `kubernetes`, if the apiserver's certificate has one.
    pub service_address: Option<IpAddr>,
}

/// The cluster whose files these are; nothing if there are none.
pub fn cluster(dir: &Path) -> Option<Assumed> {
    let exists = |file: &str| dir.join(file).symlink_metadata().is_ok();
    if !CERTIFICATES.iter().flat_map(|spec| spec.home.files()).any(exists) {
        return None;
    }
    let apiserver = certificate(dir, roles::API_SERVING);
    let etcd = certificate(dir, roles::ETCD_SERVING);
    let server = |spec: &CertSpec| {
        let Piece::Present(content) = read::file(&dir.join(spec.home.cert())) else { return None };
        kubeconfig::parse(&content).ok()?.cluster(None)?.server.clone()
    };
    let name = host_name(dir, apiserver.as_ref(), etcd.as_ref());
    let local = roles::LOCAL_CLIENTS.into_iter().find_map(server);
    let address = local
        .and_then(|url| host_of(&url)?.parse::<IpAddr>().ok())
        .or_else(|| first_address(etcd.as_ref()))
        .or_else(|| first_address(certificate(dir, roles::KUBELET_SERVING).as_ref()));
    // The administrator reaches the cluster by its endpoint, a load balancer where there is one.
    let endpoint = server(roles::ADMIN)
        .and_then(|url| url.split_once("://").map(|(_, rest)| rest.to_owned()))
        .and_then(|rest| rest.trim_end_matches('/').parse::<Endpoint>().ok());
    let service_address = service(apiserver.as_ref(), address, endpoint.as_ref());
    let address = address.or_else(|| first_address(apiserver.as_ref()));
    let host = Host {
        name,
        addresses: address.into_iter().collect(),
        port: None,
        control_plane: true,
        etcd: true,
        node: true,
        ssh: None,
    };
    let endpoint = endpoint.unwrap_or(Endpoint {
        host: match address {
            Some(address) => San::Ip(address),
            None => San::Dns("localhost".into()),
        },
        port: crate::model::cluster::API_PORT,
    });
    let mut cluster = Cluster::new("kubernetes".into(), endpoint, vec![host]);
    if let Some(domain) = apiserver.as_ref().and_then(domain) {
        cluster.dns_domain = domain;
    }
    let managed = CERTIFICATES.iter().filter(|s| s.present == Condition::ManagedEtcd);
    if !managed.flat_map(|spec| spec.home.files()).any(exists) {
        cluster.etcd = Etcd::External { endpoints: Vec::new(), files: None };
    }
    for addon in addons() {
        let rows = CERTIFICATES.iter().filter(|s| s.present == Condition::Addon(addon));
        if rows.flat_map(|spec| spec.home.files()).any(exists) {
            cluster.addons.push(addon.to_owned());
        }
    }
    let root = CERTIFICATES.iter().filter(|s| s.present == Condition::SingleRoot);
    cluster.single_root = root.flat_map(|spec| spec.home.files()).any(exists);
    if let Some(subnet) = service_address.and_then(around) {
        cluster.service_subnets = vec![subnet];
    }
    Some(Assumed { cluster, service_address })
}

fn certificate(dir: &Path, spec: &CertSpec) -> Option<Certificate> {
    let Piece::Present(content) = read::file(&dir.join(spec.home.cert())) else { return None };
    inspect::from_pem(&content).ok()?.into_iter().next()
}

/// The host's name: what its kubelet calls itself, else what its certificates do.
fn host_name(dir: &Path, apiserver: Option<&Certificate>, etcd: Option<&Certificate>) -> HostName {
    let kubelet = || {
        let Piece::Present(content) = read::file(&dir.join(roles::NODE.home.cert())) else {
            return None;
        };
        let view = kubeconfig::parse(&content).ok()?;
        let names = [view.user(None)?.name.clone()];
        let Some(kubeconfig::Material::Data(pem)) = view.user(None)?.cert.clone() else {
            return names.into_iter().find_map(|n| node(&n));
        };
        let cert = inspect::from_pem(&pem).ok()?.into_iter().next()?;
        node(&cert.common_name()?).or_else(|| names.into_iter().find_map(|n| node(&n)))
    };
    let member = || etcd?.common_name()?.parse().ok();
    let served = || {
        apiserver?.sans().iter().find_map(|san| match san {
            San::Dns(name) if !name.starts_with("kubernetes") && !name.contains('.') => {
                name.parse().ok()
            }
            _ => None,
        })
    };
    kubelet().or_else(member).or_else(served).unwrap_or_else(machine::host_name)
}

fn node(user: &str) -> Option<HostName> {
    user.strip_prefix("system:node:")?.parse().ok()
}

fn first_address(certificate: Option<&Certificate>) -> Option<IpAddr> {
    certificate?.sans().iter().find_map(|san| match san {
        San::Ip(ip) if !ip.is_loopback() => Some(*ip),
        _ => None,
    })
}

/// The domain of service names, from the name that ends in it.
fn domain(apiserver: &Certificate) -> Option<String> {
    apiserver.sans().iter().find_map(|san| match san {
        San::Dns(name) => name.strip_prefix("kubernetes.default.svc.").map(str::to_owned),
        _ => None,
    })
}

/// The service address: the usual one, else the first that is neither the host's nor the endpoint's.
fn service(
    apiserver: Option<&Certificate>,
    host: Option<IpAddr>,
    endpoint: Option<&Endpoint>,
) -> Option<IpAddr> {
    let usual = Subnet::DEFAULT.first_host();
    let addresses: Vec<IpAddr> = apiserver?
        .sans()
        .iter()
        .filter_map(|san| match san {
            San::Ip(ip) if !ip.is_loopback() => Some(*ip),
            _ => None,
        })
        .collect();
    if addresses.contains(&usual) {
        return Some(usual);
    }
    let other = |ip: &&IpAddr| {
        Some(**ip) != host
            && endpoint.is_none_or(|e| e.host != San::Ip(**ip))
            && around(**ip).is_some()
    };
    addresses.iter().find(other).copied()
}

/// The smallest subnet that has this as its first host; services get the first of theirs.
fn around(first: IpAddr) -> Option<Subnet> {
    let (network, prefix) = match first {
        IpAddr::V4(ip) => {
            (IpAddr::V4(std::net::Ipv4Addr::from_bits(ip.to_bits().checked_sub(1)?)), 30)
        }
        IpAddr::V6(ip) => {
            (IpAddr::V6(std::net::Ipv6Addr::from_bits(ip.to_bits().checked_sub(1)?)), 126)
        }
    };
    format!("{network}/{prefix}").parse().ok()
}
