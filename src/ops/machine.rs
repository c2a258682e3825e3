//! This machine: its name, and the address from which it reaches others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::model::cluster::{Host, HostName};

/// Its name, in lower case as kubeadm takes it, whether or not that is a node's name.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// Its name for a host that nobody named: `localhost` where its own is no node's name.
pub fn host_name() -> HostName {
    name().parse().unwrap_or_else(|_| HostName::localhost())
}

/// Whether it is a host of this name or with one of these addresses.
pub fn is(host: &Host) -> bool {
    let own = name();
    let short = own.split('.').next().unwrap_or_default();
    host.name.as_ref() == own
        || host.name.as_ref() == short
        || host.addresses.iter().any(|ip| UdpSocket::bind((*ip, 0)).is_ok())
}

/// The address from which it reaches others; none without a default route.
pub fn address() -> Option<IpAddr> {
    // Connecting a UDP socket sends nothing; it only asks the kernel for the route's source address. The
    // targets are documentation addresses (RFC 5737, RFC 3849), which the default route stands for.
    let targets = [
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        (
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        ),
    ];
    targets.into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
    })
}
