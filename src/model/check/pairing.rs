//! Pairings: which identity may talk to which server, by the catalogue, and what it means when a handshake
//! says otherwise.
//!
//! Every path is tried for every host. All other pairings are tried once for each kind of identity and
//! server, so that their number does not grow with the cluster.

mod conclude;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

pub use conclude::{Tally, conclude, name, summary};

use super::evidence::{Evidence, is_local, role, server_of};
use crate::model::catalogue::{
    CERTIFICATES, CertId, CertSpec, Condition, Credential, Dials, ETCD_PEER_NAME, PATHS, Path,
    Protection, Purpose, SanRule, Scope, roles,
};
use crate::model::{observed::FoundKey, san::has_name};

/// Every member talks to every other up to so many pairs; beyond, each talks to the first.
const ALL_PAIRS: usize = 64;

/// One handshake to be tried.
#[derive(Clone, Debug)]
pub struct Pairing {
    /// The client.
    pub client: End,
    /// The server: what it shows, by the index of the instance.
    pub server: usize,
    /// The path it is tried for; of an identity posing as a server, the path of the client it deceives.
    pub path: &'static Path,
    /// Which end is put to the test.
    pub role: Role,
    /// The name the client expects.
    pub name: Option<String>,
    /// What must come of it.
    pub expect: Expect,
}

/// The client of a pairing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It shows the certificate of this instance.
    Instance(usize),
    /// It shows no certificate and trusts what the host with this root trusts.
    NoCertificate(PathBuf),
}

/// Which end is put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Both: the path itself.
    Path,
    /// The client of a path whose server is somebody else's: another server stands in for it.
    StandIn,
    /// The client shows itself to a server of another path.
    AsClient,
    /// The identity poses as a server before a client.
    AsServer,
}

/// What must come of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expect {
    /// It must come about.
    Works,
    /// It must be refused, and certificates do it.
    Refused(Ground),
    /// Certificates cannot refuse it: what the identity may do is up to authorization.
    OnlyAuthorization,
}

/// Why certificates refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ground {
    /// It is for clients only.
    ClientOnly,
    /// It is no peer of etcd.
    NoPeer,
    /// It shows none.
    NoCertificate,
    /// Another CA issued it.
    OtherCa,
    /// It is for servers only.
    ServerOnly,
    /// It is for other names.
    WrongName,
}

impl Ground {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::ClientOnly => "its certificate is for clients only",
            Self::NoPeer => "it is no etcd peer",
            Self::NoCertificate => "it shows no certificate",
            Self::OtherCa => "another CA issued its certificate",
            Self::ServerOnly => "its certificate is for servers only",
            Self::WrongName => "its certificate is for other names",
        }
    }
}

/// What came of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not tried: whatever came of it, authorization decides.
    Authorization,
    /// It came about.
    Works,
    /// It was refused: by whom and why.
    Refused(String),
    /// It could not be tried: why.
    Untried(String),
}

/// A listener: what it serves and whom it lets in.
#[derive(Clone, Copy, Debug)]
pub struct ListenerRule {
    /// Its name: the id of what it shows, or of its path if that is somebody else's.
    pub id: &'static str,
    /// What it shows, or what stands in for it.
    pub shows: CertId,
    /// The CA whose clients it lets in.
    pub trusts: CertId,
    /// Whether it lets nobody in without a certificate.
    pub required: bool,
    /// Whether it lets in etcd peers only.
    pub peers: bool,
}

/// What stands in for a server that is somebody else's.
const STAND_IN: CertId = roles::API_SERVING.id;

/// The listener of a path.
pub fn listener(path: &Path) -> Option<ListenerRule> {
    let Some(server) = server_of(path) else {
        // Whose certificates an aggregated API server trusts is known, whatever its own may be.
        let (Credential::Cert(_), Some(trusts)) = (path.client, path.server_trusts) else {
            return None;
        };
        return Some(ListenerRule {
            id: path.id,
            shows: STAND_IN,
            trusts,
            required: true,
            peers: false,
        });
    };
    let same = || PATHS.iter().filter(|p| p.server == path.server);
    let trusts = same().find_map(|p| p.server_trusts)?;
    // Whoever has tokens for clients must answer those without a certificate.
    let required = same().all(|p| matches!(p.client, Credential::Cert(_)));
    Some(ListenerRule {
        id: server.id.name(),
        shows: server.id,
        trusts,
        required,
        peers: is_peer(server),
    })
}

/// Whether the row has the name that only etcd's peers have.
pub fn is_peer(spec: &CertSpec) -> bool {
    spec.sans.contains(&SanRule::Dns(ETCD_PEER_NAME))
}

/// Whether peers are told apart by that name here: where it is declared so, or the certificate has it.
pub fn demands_peer_name(evidence: &Evidence<'_>, server: usize) -> bool {
    is_peer(evidence.layout.instances[server].spec)
        && ((evidence.declared() && evidence.cluster.has(Condition::EtcdPeerName))
            || evidence.held()[server]
                .certificate()
                .is_some_and(|c| has_name(&c.profile.sans, ETCD_PEER_NAME)))
}

/// Every handshake worth trying.
pub fn pairings(evidence: &Evidence<'_>) -> Vec<Pairing> {
    let index = Index::new(evidence);
    let mut all = Vec::new();
    for path in PATHS.iter().filter(|path| evidence.cluster.has(path.present)) {
        own(evidence, &index, path, &mut all);
    }
    let tried: BTreeSet<(CertId, &str)> = PATHS
        .iter()
        .filter_map(|path| match path.client {
            Credential::Cert(client) => Some((client, listener(path)?.id)),
            _ => None,
        })
        .collect();
    let mut listeners: Vec<&str> = Vec::new();
    for path in PATHS.iter().filter(|path| evidence.cluster.has(path.present)) {
        let Some(listener) = listener(path) else { continue };
        if listeners.contains(&listener.id) {
            continue;
        }
        listeners.push(listener.id);
        as_clients(evidence, &index, path, listener, &tried, &mut all);
    }
    as_servers(evidence, &index, &mut all);
    all
}

/// The instances that are here, by id.
struct Index(BTreeMap<CertId, Vec<usize>>);

impl Index {
    fn new(evidence: &Evidence<'_>) -> Self {
        let mut by_id: BTreeMap<CertId, Vec<usize>> = BTreeMap::new();
        for (index, held) in evidence.held().iter().enumerate() {
            let here = !held.certificates.is_missing() && !matches!(held.key, FoundKey::Missing);
            if here {
                by_id.entry(evidence.layout.instances[index].spec.id).or_default().push(index);
            }
        }
        Self(by_id)
    }

    fn of(&self, id: CertId) -> &[usize] {
        self.0.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// One that stands for all of its kind: sound if there is one.
    fn representative(&self, evidence: &Evidence<'_>, id: CertId) -> Option<usize> {
        let all = self.of(id);
        let sound = |i: &&usize| {
            evidence.held()[**i].certificate().is_some()
                && matches!(evidence.held()[**i].key, FoundKey::OnHost(_) | FoundKey::Present(_))
        };
        all.iter().find(sound).or(all.first()).copied()
    }
}

/// A path, tried for every host that has a part in it.
fn own(evidence: &Evidence<'_>, index: &Index, path: &'static Path, all: &mut Vec<Pairing>) {
    let Some(server) = server_of(path) else {
        return stand_in(evidence, index, path, all);
    };
    let servers = index.of(server.id);
    if servers.is_empty() || path.client_trusts.is_none() {
        return;
    }
    let clients: Vec<End> = match path.client {
        Credential::Cert(id) => index.of(id).iter().map(|i| End::Instance(*i)).collect(),
        Credential::Token(_) => token_ends(evidence, path),
        // Who shows nothing is let in, and verifies the server all the same.
        Credential::None if matches!(path.protection, Protection::ServerTls) => {
            token_ends(evidence, path)
        }
        Credential::None | Credential::Other(_) => return,
    };
    let root = |end: &End| match end {
        End::Instance(i) => evidence.layout.instances[*i].root.clone(),
        End::NoCertificate(root) => root.clone(),
    };
    let same_host = path.dials == Dials::Loopback
        || matches!(path.client, Credential::Cert(id) if is_local(id.spec()));
    let mut push = |client: &End, server: usize| {
        let instance = match client {
            End::Instance(i) => Some(*i),
            End::NoCertificate(_) => None,
        };
        all.push(Pairing {
            client: client.clone(),
            server,
            path,
            role: Role::Path,
            name: evidence.dialled(path, instance, server),
            expect: Expect::Works,
        });
    };
    // Without a server on its own host, such a client dials the endpoint: whichever server that is.
    let (local, clients): (Vec<End>, Vec<End>) = clients.into_iter().partition(|client| {
        same_host && servers.iter().any(|s| evidence.layout.instances[*s].root == root(client))
    });
    let by_root: BTreeMap<&PathBuf, usize> =
        servers.iter().map(|s| (&evidence.layout.instances[*s].root, *s)).collect();
    for client in &local {
        if let Some(server) = by_root.get(&root(client)) {
            push(client, *server);
        }
    }
    if path.dials == Dials::Loopback {
        return;
    }
    let to_itself = matches!(path.client, Credential::Cert(id) if id == server.id);
    let is_self = |client: &End, server: usize| {
        to_itself && servers.len() > 1 && *client == End::Instance(server)
    };
    let few = clients.len() * servers.len() <= ALL_PAIRS;
    for (c, client) in clients.iter().enumerate() {
        for (s, &server) in servers.iter().enumerate() {
            if (few || c == 0 || s == 0) && !is_self(client, server) {
                push(client, server);
            }
            if !few && c > 0 {
                break;
            }
        }
    }
}

/// A path to somebody else's server: of its two judgements the server's can be tried.
fn stand_in(evidence: &Evidence<'_>, index: &Index, path: &'static Path, all: &mut Vec<Pairing>) {
    let (Some(listener), Credential::Cert(client)) = (listener(path), path.client) else { return };
    let Some(server) = index.representative(evidence, listener.shows) else { return };
    for &client in index.of(client) {
        all.push(Pairing {
            client: End::Instance(client),
            server,
            path,
            role: Role::StandIn,
            name: None,
            expect: Expect::Works,
        });
    }
}

/// Where clients that log in by token are: on the hosts of the control plane; one of them stands for all.
fn token_ends(evidence: &Evidence<'_>, path: &Path) -> Vec<End> {
    let Some(trusts) = path.client_trusts else { return Vec::new() };
    evidence
        .cluster
        .hosts_in(Scope::ControlPlane)
        .map(|host| evidence.cluster.root_of(host))
        .find(|root| evidence.trusted(trusts, root).is_some())
        .map(End::NoCertificate)
        .into_iter()
        .collect()
}

/// Every kind of identity, shown to this listener.
fn as_clients(
    evidence: &Evidence<'_>,
    index: &Index,
    path: &'static Path,
    listener: ListenerRule,
    tried: &BTreeSet<(CertId, &str)>,
    all: &mut Vec<Pairing>,
) {
    let Some(server) = index.representative(evidence, listener.shows) else { return };
    let mut push = |client, expect| {
        let role = Role::AsClient;
        all.push(Pairing { client, server, path, role, name: None, expect });
    };
    for spec in CERTIFICATES.iter().filter(|spec| !spec.is_ca()) {
        let Some(client) = index.representative(evidence, spec.id) else { continue };
        if !tried.contains(&(spec.id, listener.id)) {
            push(End::Instance(client), lets_in(listener, spec));
        }
    }
    if listener.required {
        let root = evidence.layout.instances[server].root.clone();
        push(End::NoCertificate(root), Expect::Refused(Ground::NoCertificate));
    }
}

/// What certificates say to this identity at this listener.
pub fn lets_in(listener: ListenerRule, spec: &CertSpec) -> Expect {
    if role(spec) != Some(listener.trusts) {
        Expect::Refused(Ground::OtherCa)
    } else if spec.purpose == Purpose::Server {
        Expect::Refused(Ground::ServerOnly)
    } else if listener.peers && !is_peer(spec) {
        Expect::Refused(Ground::NoPeer)
    } else {
        Expect::OnlyAuthorization
    }
}

/// Every kind of identity, posing as a server before every kind of client.
fn as_servers(evidence: &Evidence<'_>, index: &Index, all: &mut Vec<Pairing>) {
    let mut seen = BTreeSet::new();
    let own: Vec<Pairing> = all.iter().filter(|p| p.role == Role::Path).cloned().collect();
    for pairing in own {
        let Some(trusts) = pairing.path.client_trusts else { continue };
        let Some(name) = pairing.name.clone() else { continue };
        let server = evidence.layout.instances[pairing.server].spec;
        // Those that trust the same and look for the same name are deceived by the same.
        let kinds = [name.clone(), class(evidence, &pairing, &name)];
        let new = kinds.iter().all(|kind| !seen.contains(&(trusts, kind.clone(), is_peer(server))));
        seen.extend(kinds.map(|kind| (trusts, kind, is_peer(server))));
        if !new {
            continue;
        }
        for spec in CERTIFICATES.iter().filter(|spec| !spec.is_ca() && spec.id != server.id) {
            let Some(poser) = index.representative(evidence, spec.id) else { continue };
            let Some(shown) = evidence.held()[poser].certificate() else { continue };
            let expect = if role(spec) != Some(trusts) {
                Expect::Refused(Ground::OtherCa)
            } else if spec.purpose == Purpose::Client {
                Expect::Refused(Ground::ClientOnly)
            } else if !has_name(&shown.profile.sans, &name) {
                Expect::Refused(Ground::WrongName)
            } else if is_peer(server)
                && !is_peer(spec)
                && demands_peer_name(evidence, pairing.server)
            {
                Expect::Refused(Ground::NoPeer)
            } else {
                Expect::OnlyAuthorization
            };
            all.push(Pairing {
                client: pairing.client.clone(),
                server: poser,
                path: pairing.path,
                role: Role::AsServer,
                name: Some(name.clone()),
                expect,
            });
        }
    }
}

/// Addresses of one kind of host are one class: a fleet's kubelets are not tried against one another.
fn class(evidence: &Evidence<'_>, pairing: &Pairing, name: &str) -> String {
    let is_host = evidence.layout.instances[pairing.server]
        .host
        .is_some_and(|h| h.address().is_some_and(|a| a.to_string() == name));
    match is_host {
        true => format!("address of {}", evidence.layout.instances[pairing.server].spec.id),
        false => name.to_owned(),
    }
}
