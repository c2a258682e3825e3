//! What listeners serve, compared with what is on disk.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Connect, Fault, Request,
    authority::{self, Known},
    facts, nth, role, row, shown,
    tree::{ClusterTrees, Gathered, OnDisk},
};
use crate::{
    model::{
        catalogue::{self, CertId, LISTENERS, Listener, Reload, USES, Value},
        check::expiry::{Found, Inside, Origin, Remark, Row, RowRole},
        cluster::Host,
        san::San,
        shown::with_causes,
    },
    pki::inspect::Certificate,
    tls::probe::{self, Served, Target},
};

/// Listeners asked at a time.
const PARALLEL: usize = 16;

/// A listener to ask, and what it should serve.
struct Ask {
    target: Target,
    id: Option<CertId>,
    host: Option<String>,
}

/// A row for each certificate that the listeners serve and that is not known already.
pub fn rows(
    request: &Request<'_>,
    cluster: &ClusterTrees,
    gathered: &Gathered,
) -> Result<Vec<Row>, Fault> {
    let asks = match &request.connect {
        Connect::None => return Ok(Vec::new()),
        Connect::Targets(targets) => targets.iter().map(|t| named(t, cluster)).collect(),
        Connect::Expected => expected(request, cluster, gathered)?,
    };
    let targets: Vec<Target> = asks.iter().map(|ask| ask.target.clone()).collect();
    let answers = probe::probe_all(&targets, request.timeout, PARALLEL);
    let mut rows = Vec::new();
    for (ask, answer) in asks.iter().zip(answers) {
        match answer {
            Ok(served) => serving(ask, served, gathered, request.details, &mut rows),
            Err(error) => {
                let said = with_causes(&error);
                // The row is named after it.
                let target = format!("{}: ", ask.target);
                let mut why = said.strip_prefix(&target).unwrap_or(&said).to_owned();
                if let Some(hint) = error.hint() {
                    why = format!("{why} ({hint})");
                }
                let why = shown(std::path::Path::new(&why));
                let name = name(ask, ask.id);
                rows.push(listener_row(ask, name, RowRole::Leaf, Found::Unreadable(why)));
            }
        }
    }
    Ok(rows)
}

/// A listener that was named: what it serves follows from its port, and its host from its address.
fn named(target: &Target, cluster: &ClusterTrees) -> Ask {
    let address: Option<IpAddr> = target.host.parse().ok();
    let declared = cluster.declared.as_ref();
    let host = declared.and_then(|declared| {
        let is = |h: &&Host| {
            h.name.as_ref() == target.host || address.is_some_and(|a| h.addresses.contains(&a))
        };
        let only = declared.hosts.first().filter(|_| declared.hosts.len() == 1);
        declared.hosts.iter().find(is).or(only)
    });
    let port = |l: &Listener| declared.map_or(l.port, |declared| declared.port(l, host));
    let listener = LISTENERS.iter().find(|l| port(l) == target.port);
    let host = host.filter(|_| cluster.trees.len() > 1).map(|h| h.name.to_string());
    Ask { target: target.clone(), id: listener.map(|l| l.certificate), host }
}

/// Every listener that this host should have.
fn expected(
    request: &Request<'_>,
    cluster: &ClusterTrees,
    gathered: &Gathered,
) -> Result<Vec<Ask>, Fault> {
    let name = match cluster.is_host(request.host) {
        true => None,
        false => {
            let asked = request.host.unwrap_or(request.machine);
            let found = cluster.trees.iter().find(|tree| tree.host.as_deref() == Some(asked));
            let which = || Fault::WhichHost(request.machine.to_owned());
            Some(found.ok_or_else(which)?.host.clone().unwrap_or_default())
        }
    };
    let host = cluster.declared.as_ref().and_then(|declared| match &name {
        Some(name) => declared.hosts.iter().find(|h| h.name.as_ref() == name),
        None => declared.hosts.first(),
    });
    // A tree may be another machine's: then its listeners are at its address.
    let is_here = host.is_none_or(|h| h.name.as_ref() == request.machine)
        || request.dir == std::path::Path::new("/etc/kubernetes");
    let asks = LISTENERS.iter().filter(|l| runs(l, cluster, host, name.as_deref(), gathered));
    Ok(asks
        .map(|listener| {
            let address = match (is_here && listener.loopback, host) {
                (true, _) => None,
                (false, Some(host)) => host.addresses.first().copied(),
                (false, None) => address(listener, gathered),
            };
            let loopback = || host.map_or(Ipv4Addr::LOCALHOST.into(), Host::loopback);
            let address = address.unwrap_or_else(loopback);
            let declared = cluster.declared.as_ref();
            let port = declared.map_or(listener.port, |declared| declared.port(listener, host));
            Ask {
                target: Target { host: address.to_string(), port, sni: None },
                id: Some(listener.certificate),
                host: name.clone(),
            }
        })
        .collect())
}

/// Whether the component runs on the host: as declared, else if a certificate that it uses is there.
fn runs(
    listener: &Listener,
    cluster: &ClusterTrees,
    host: Option<&Host>,
    name: Option<&str>,
    gathered: &Gathered,
) -> bool {
    if let (Some(declared), Some(host)) = (&cluster.declared, host) {
        return catalogue::component(listener.component)
            .is_some_and(|c| declared.has(c.present) && host.is_in(c.scope));
    }
    let uses = USES.iter().filter(|u| u.component == listener.component);
    let mut ids = uses.filter_map(|u| u.certificate()).filter(|id| !id.spec().is_ca());
    ids.any(|id| {
        let is = |row: &Row| {
            row.name == id.name() && row.host.as_deref() == name && row.found != Found::Missing
        };
        gathered.rows.iter().any(is)
    })
}

/// The first address in the certificate on disk that is no loopback address.
fn address(listener: &Listener, gathered: &Gathered) -> Option<IpAddr> {
    let server = gathered.servers.iter().find(|s| s.id == listener.certificate)?;
    server.certificate.sans().into_iter().find_map(|san| match san {
        San::Ip(address) if !address.is_loopback() => Some(address),
        _ => None,
    })
}

fn serving(ask: &Ask, served: Served, gathered: &Gathered, details: bool, rows: &mut Vec<Row>) {
    for (index, der) in served.chain.into_iter().enumerate() {
        let certificate = match Certificate::from_der(der) {
            Ok(certificate) => certificate,
            Err(error) => {
                let why = format!("serves what is no certificate: {}", with_causes(&error));
                let name = nth(&name(ask, ask.id), index);
                rows.push(listener_row(ask, name, RowRole::Leaf, Found::Unreadable(why)));
                continue;
            }
        };
        let is_known = |ca: &Known| ca.certificate == certificate;
        if index > 0 && gathered.known.iter().any(is_known) {
            continue;
        }
        let compared = match index {
            0 => compare(ask, &certificate, &gathered.servers),
            _ => Compared { id: None, remark: None },
        };
        let signer = authority::signer(&certificate, &gathered.known);
        let role = if index == 0 { RowRole::Leaf } else { role(&certificate) };
        let name = nth(&name(ask, compared.id.or(ask.id)), index);
        let mut row = Row {
            authority: match signer {
                Some(ca) => Some(ca.name.clone()),
                None if certificate.is_self_issued() => None,
                None => certificate.issuer_common_name(),
            },
            externally_managed: signer.is_none_or(|ca| !ca.has_key),
            ..listener_row(ask, name, role, facts(&certificate, details))
        };
        row.remarks.extend(compared.remark);
        if index == 0 {
            row.remarks.push(Remark::Note(format!("{} from {}", served.version, served.address)));
        }
        rows.push(row);
    }
}

struct Compared {
    id: Option<CertId>,
    remark: Option<Remark>,
}

/// Finds the file that the listener should serve: the same certificate if it is anywhere, else the one that
/// has taken its place.
fn compare(ask: &Ask, served: &Certificate, servers: &[OnDisk]) -> Compared {
    let of_host = |s: &&OnDisk| ask.host.is_none() || s.host == ask.host;
    if let Some(same) = servers.iter().filter(of_host).find(|s| s.certificate == *served) {
        let note = format!("as on disk: {}", same.path);
        return Compared { id: Some(same.id), remark: Some(Remark::Note(note)) };
    }
    // The same names of the same CA: its successor or predecessor, whatever the port.
    let is_twin = |s: &&OnDisk| {
        s.certificate.subject() == served.subject()
            && s.certificate.issuer() == served.issuer()
            && s.certificate.sans() == served.sans()
            && ask.id.is_none_or(|id| s.id == id)
    };
    let by_port = |s: &&OnDisk| Some(s.id) == ask.id;
    let mut of_port = servers.iter().filter(of_host).filter(by_port);
    let twin = servers.iter().filter(of_host).find(is_twin);
    // In a workspace the port alone does not say whose certificate it is.
    let only = || of_port.next().filter(|_| of_port.next().is_none());
    let Some(other) = twin.or_else(only) else { return Compared { id: None, remark: None } };
    let advice = match reload(other.id) {
        Some(Reload::Restart) => "restart it to take up the file",
        Some(Reload::Poll(_)) => "it looks for a new file from time to time: wait, or restart it",
        _ => "it takes up a new file by itself: if this stays so, it uses another file",
    };
    let detail = format!(
        "serves serial {}, but {} has serial {}: {advice}",
        served.serial_hex(),
        other.path,
        other.certificate.serial_hex()
    );
    Compared { id: Some(other.id), remark: Some(Remark::NotOnDisk { detail }) }
}

/// How the component that serves this certificate takes up another.
fn reload(id: CertId) -> Option<Reload> {
    let component = LISTENERS.iter().find(|l| l.certificate == id)?.component;
    let uses = |u: &&catalogue::Use| {
        u.component == component && matches!(u.value, Value::Cert(cert) if cert == id)
    };
    USES.iter().find(uses).map(|u| u.reload)
}

fn name(ask: &Ask, id: Option<CertId>) -> String {
    match id {
        Some(id) => format!("{} ({id})", ask.target),
        None => ask.target.to_string(),
    }
}

fn listener_row(ask: &Ask, name: String, role: RowRole, found: Found) -> Row {
    let origin = Origin { path: ask.target.to_string(), inside: Some(Inside::Listener) };
    Row { host: ask.host.clone(), ..row(name, origin, role, found) }
}
