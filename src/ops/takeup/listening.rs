//! The listeners on this machine that serve what has changed. Where a program listens is what it was told: by the
//! command line of the process that runs, else by its manifest, else by what is declared or usual.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
};

use super::{
    PROBE, Request, restart,
    running::{Running, identity, running},
};
use crate::{
    model::{
        catalogue::{Listener, MANIFESTS},
        check::flags::Told,
        cluster::Host,
        layout::{Instance, Place},
        observed::Piece,
        san::San,
        takeup::{self, Affected},
    },
    ops::{
        read,
        verify::flags::{self, with_config},
    },
    pki::inspect::Certificate,
    tls::probe::Target,
};

/// A listener to watch: the number of its component's outcome, where it is, and the fingerprint it is to
/// serve.
pub(super) type Watched = (usize, Target, String);

/// The listeners of changed components on this machine. Where nothing listens the component runs elsewhere,
/// or not.
pub(super) fn find(
    request: &Request<'_>,
    instances: &[Instance<'_>],
    changes: &[Affected<'_>],
) -> Vec<Watched> {
    let mut watched = Vec::new();
    let running = running();
    let manifests = manifests(request.dir);
    for (number, change) in changes.iter().enumerate() {
        for (listener, index) in takeup::listeners(change, instances) {
            let Some(served) = request.changed.iter().find(|s| s.instance == index) else {
                continue;
            };
            let place = &request.places[index];
            let told = told(request, change, place, &running, &manifests);
            let usual = request.cluster.port(listener, change.host);
            let mut at: Vec<(Option<IpAddr>, u16)> =
                told.iter().flat_map(|told| told.listens(listener)).collect();
            if told.is_empty() {
                at.push((None, usual));
            }
            let mut sockets = BTreeSet::new();
            for (address, port) in at {
                let anywhere = || addresses(request, change.host, listener, place);
                let all = address.map_or_else(anywhere, |one| vec![one]);
                sockets.extend(all.into_iter().map(|ip| SocketAddr::new(ip, port)));
            }
            for socket in sockets {
                if TcpStream::connect_timeout(&socket, PROBE).is_ok() {
                    let (host, port) = (socket.ip().to_string(), socket.port());
                    let target = Target { host, port, sni: None };
                    watched.push((number, target, served.fingerprint.clone()));
                }
            }
        }
    }
    watched
}

/// What static pods are told.
fn manifests(dir: &Path) -> Vec<Told> {
    let files = restart::manifests(&dir.join(MANIFESTS)).unwrap_or_default();
    let told = |file: PathBuf| match read::file(&file) {
        Piece::Present(content) => flags::told(&file, &content).unwrap_or_default(),
        Piece::Missing | Piece::Bad(_) => Vec::new(),
    };
    files.into_iter().flat_map(told).map(with_config).collect()
}

/// What the program of a change is told: as it runs here with this very certificate, else by the manifest beside
/// the PKI. On an operator's machine neither says anything of a workspace's hosts.
fn told<'a>(
    request: &Request<'_>,
    change: &Affected<'_>,
    place: &Place,
    running: &'a [Running],
    manifests: &'a [Told],
) -> Vec<&'a Told> {
    if request.cluster.workspace {
        return Vec::new();
    }
    let file = fs::metadata(request.dir.join(place.cert())).ok().map(|file| identity(&file));
    let is_theirs = |told: &&Told| told.component == change.component.id;
    let names = |one: &&Running| one.names(|named| Some(named) == file);
    let found: Vec<&Told> =
        running.iter().filter(names).map(|one| &one.told).filter(is_theirs).collect();
    match found.is_empty() {
        true => manifests.iter().filter(is_theirs).collect(),
        false => found,
    }
}

/// This machine's addresses at which a listener may be. Of a workspace's hosts only those that this machine
/// is; on one host whatever the certificate is valid for, too.
fn addresses(
    request: &Request<'_>,
    host: Option<&Host>,
    listener: &Listener,
    place: &Place,
) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    if request.declared {
        found.extend(host.into_iter().flat_map(|host| &host.addresses));
    }
    if host.is_none_or(|host| request.cluster.is_local(host)) && !request.cluster.workspace {
        if listener.loopback {
            found.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        }
        found.extend(names(&request.dir.join(place.cert())));
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|ip| {
        seen.insert(*ip) && (listener.loopback || !ip.is_loopback() || request.declared)
    });
    found.retain(|ip| UdpSocket::bind((*ip, 0)).is_ok());
    found
}

/// The addresses that a certificate on disk is valid for.
fn names(path: &Path) -> Vec<IpAddr> {
    let content = read::file(path);
    let certificates = content
        .present()
        .and_then(|pem| crate::pki::inspect::from_pem(pem).ok())
        .unwrap_or_default();
    let sans = certificates.first().map(Certificate::sans).unwrap_or_default();
    let ip = |san| if let San::Ip(ip) = san { Some(ip) } else { None };
    sans.into_iter().filter_map(ip).collect()
}
