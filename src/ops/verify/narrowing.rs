//! *Trust never narrows by accident*: what of the paths that work now a change would break, by the same
//! handshakes as `verify`.
//!
//! A change is judged in two states: when everybody has taken it up, and while clients still have what they
//! read before and servers show what is new, as most servers take a file up at once and most clients do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    assume,
    handshakes::{self, Scene},
    rehearsal::{Loaded, PathEnd, Rehearsal},
};
use crate::{
    model::{
        catalogue::CertId,
        check::{
            evidence::Evidence,
            pairing::{self, End, Expect, Outcome, Pairing, Role},
        },
        cluster::Cluster,
        layout::Layout,
        observed::{CertView, Held},
        timestamp::Timestamp,
    },
    ops::observe::{Files, look},
    pki::{
        chain::{self, LeafUse},
        inspect::Certificate,
    },
    store::Transaction,
};

/// So many hosts stand for all of a kind: the same roles, and files of theirs that change or do not.
const OF_A_KIND: usize = 2;

/// A certificate, as its row's id and the folder of its host.
pub type Which = (CertId, PathBuf);

/// A path that works now and would not.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The path, and who would be at its ends.
    pub path: String,
    /// What of the change is to blame: the server's certificate where that changes, else the client's.
    pub blamed: Which,
    /// The component whose restart would mend it, where it is only that it has not read its files again.
    pub waits_for: Option<&'static str>,
}

/// What a change would break.
pub fn broken(
    cluster: &Cluster,
    declared: bool,
    dir: &Path,
    change: &Transaction,
    now: Timestamp,
) -> Vec<Broken> {
    let assumed = if declared { None } else { assume::cluster(dir) };
    let service = assumed.as_ref().and_then(|assumed| assumed.service_address);
    let whole = match (&assumed, declared) {
        (Some(assumed), _) => &assumed.cluster,
        (None, true) => cluster,
        (None, false) => return Vec::new(),
    };
    let some = representatives(whole, change);
    let layout = Layout::new(&some);
    let before = look(&layout, declared, &mut Files::new(dir));
    let after = look(&layout, declared, &mut Files::after(dir, change));
    let before = Scene::new(&layout, &before, service, now);
    let after = Scene::new(&layout, &after, service, now);
    let changed = changed(&before, &after);
    if changed.is_empty() {
        return Vec::new();
    }
    let is_path = |p: &Pairing| p.role == Role::Path && p.expect == Expect::Works;
    let concerns = |p: &Pairing| {
        changed.contains(&p.server)
            || matches!(&p.client, End::Instance(client) if changed.contains(client))
            || matches!(&p.client, End::NoCertificate(_))
    };
    let of = |scene: &Scene<'_>| -> Vec<Pairing> {
        let all = pairing::pairings(&scene.evidence).into_iter();
        all.filter(|p| is_path(p) && concerns(p)).collect()
    };
    let (then, later) = (of(&before), of(&after));
    let works_now = handshakes::between(&before, &before, &then, now);
    let meanwhile = handshakes::between(&after, &before, &then, now);
    let at_last = handshakes::between(&after, &after, &later, now);
    let at_last: BTreeMap<_, _> =
        later.iter().zip(&at_last).map(|(pairing, outcome)| (key(pairing), outcome)).collect();
    let mut found = Vec::new();
    for ((pairing, now), meanwhile) in then.iter().zip(&works_now).zip(&meanwhile) {
        if *now != Outcome::Works {
            continue;
        }
        let mends = at_last.get(&key(pairing)).is_some_and(|o| **o == Outcome::Works);
        let why = match (meanwhile, at_last.get(&key(pairing))) {
            (Outcome::Refused(why), _) | (_, Some(Outcome::Refused(why))) => why.clone(),
            _ => continue,
        };
        let client = match &pairing.client {
            End::Instance(client) => Some(*client),
            End::NoCertificate(_) => None,
        };
        let evidence = &before.evidence;
        let blamed = match (changed.contains(&pairing.server), client) {
            (false, Some(client)) => client,
            _ => pairing.server,
        };
        let instance = &evidence.layout.instances[blamed];
        let server = evidence.label(pairing.server);
        let who = client.map_or_else(|| pairing.path.from.to_owned(), |c| evidence.label(c));
        found.push(Broken {
            path: format!("{}: {who} to {server}: {why}", pairing.path.id),
            blamed: (instance.spec.id, instance.root.clone()),
            waits_for: mends.then_some(pairing.path.from),
        });
    }
    found
}

/// What would break in some state that a rolling restart passes through: each end of each path with what it shows, and
/// what it trusts, as they are before or after. What two ends make of each other depends on nobody else, so that these
/// sixteen states of each path are all states of the cluster.
pub fn mixed(
    cluster: &Cluster,
    declared: bool,
    mut before: Files<'_>,
    mut after: Files<'_>,
    now: Timestamp,
) -> Vec<String> {
    let layout = Layout::new(cluster);
    let states = [look(&layout, declared, &mut before), look(&layout, declared, &mut after)];
    let Some(rehearsal) = Rehearsal::new(&layout, &states, now) else { return Vec::new() };
    let paths = rehearsal.paths();
    let loaded = [
        ("as it is", Loaded { shows: 0, trusts: 0 }),
        ("with new certificates and what it trusted before", Loaded { shows: 1, trusts: 0 }),
        ("with what it trusts from now on and its old certificate", Loaded { shows: 0, trusts: 1 }),
        ("as it will be", Loaded { shows: 1, trusts: 1 }),
    ];
    let mut broken: BTreeMap<String, String> = BTreeMap::new();
    for (server_state, serving) in loaded {
        for (client_state, dialling) in loaded {
            let outcomes = rehearsal.outcomes(serving, dialling);
            for (path, outcome) in paths.iter().zip(outcomes) {
                let Outcome::Refused(why) = outcome else { continue };
                let (client, server) = (&path.client_label, &path.server_label);
                broken.entry(format!("{}: {client} to {server}", path.id)).or_insert_with(|| {
                    format!("{client} {client_state}, {server} {server_state}: {why}")
                });
            }
        }
    }
    let word = |state: usize| if state == 0 { "as it is" } else { "as it will be" };
    for path in rehearsal.token_paths() {
        for (signed, verified) in [(0, 1), (1, 0), (1, 1)] {
            let Outcome::Refused(why) = rehearsal.token(&path, signed, verified) else { continue };
            let of =
                |end: &PathEnd| format!("{} {}", end.who, end.root.display()).trim().to_owned();
            let (signer, verifier) = (of(&path.signer), of(&path.verifier));
            broken.entry(format!("{}: a token of {signer} to {verifier}", path.id)).or_insert_with(
                || format!("{signer} {}, {verifier} {}: {why}", word(signed), word(verified)),
            );
        }
    }
    let [before, after] = &states;
    let (before, after) =
        (Scene::new(&layout, before, None, now), Scene::new(&layout, after, None, now));
    let paths = broken.into_iter().map(|(path, state)| format!("{path}: {state}"));
    paths.chain(below_roots(&before.evidence, &after.evidence, now)).collect()
}

/// The same for those who trust roots alone, and so need what servers send: programs on OpenSSL, and whoever was given
/// nothing but the root.
fn below_roots(before: &Evidence<'_>, after: &Evidence<'_>, now: Timestamp) -> Vec<String> {
    let layout = before.layout;
    let read = |all: &[CertView]| -> Vec<Certificate> {
        all.iter().filter_map(|c| Certificate::from_der(c.der.clone()).ok()).collect()
    };
    let sent = |evidence: &Evidence<'_>, server: usize| {
        evidence.held()[server].certificates.present().map(|all| read(all)).unwrap_or_default()
    };
    let mut found = Vec::new();
    for (server, instance) in layout.instances.iter().enumerate() {
        let above = layout.issuer(server).filter(|_| instance.spec.is_server());
        let Some((above, root)) = above.and_then(|ca| Some((ca, layout.issuer(ca)?))) else {
            continue;
        };
        // The root's bundle, and the chain of the CA, of which only the roots count here.
        let mut trusting: Vec<(&Path, [Vec<Certificate>; 2])> = Vec::new();
        for (number, derived) in layout.derived.iter().enumerate() {
            let is_chain = derived.is_chain && derived.authority == above;
            if !is_chain && (derived.is_chain || derived.authority != root) {
                continue;
            }
            let roots = |evidence: &Evidence<'_>| {
                let all = evidence.observed.derived[number].present();
                let mut all = all.map(|all| read(all)).unwrap_or_default();
                all.retain(Certificate::is_self_signed);
                all
            };
            trusting.push((&derived.path, [roots(before), roots(after)]));
        }
        let shown = [sent(before, server), sent(after, server)];
        for (file, trusted) in trusting {
            let accepts = |shown: &[Certificate], trusted: &[Certificate]| {
                let [leaf, between @ ..] = shown else { return Ok(()) };
                let (between, anchors): (Vec<_>, Vec<_>) =
                    (between.iter().collect(), trusted.iter().collect());
                chain::verify(leaf, &between, &anchors, now, LeafUse::Server { name: None })
            };
            if accepts(&shown[0], &trusted[0]).is_err() {
                continue;
            }
            let mixed = [(0, 1), (1, 0), (1, 1)].into_iter().find_map(|(server, client)| {
                let why = accepts(&shown[server], &trusted[client]).err()?;
                Some((server == 1, client == 1, why))
            });
            let Some((new_server, new_client, why)) = mixed else { continue };
            let word = |is_new: bool| if is_new { "as it will be" } else { "as it is" };
            found.push(format!(
                "whoever trusts only the roots in {} {}, to {} {}: {why}",
                file.display(),
                word(new_client),
                before.label(server),
                word(new_server)
            ));
        }
    }
    found
}

/// The same of a change, judged on a few hosts of each kind.
pub fn mixed_by(
    cluster: &Cluster,
    declared: bool,
    dir: &Path,
    change: &Transaction,
    now: Timestamp,
) -> Vec<String> {
    let some = representatives(cluster, change);
    mixed(&some, declared, Files::new(dir), Files::after(dir, change), now)
}

/// A pairing as something that can be compared: its path, server and client.
fn key(pairing: &Pairing) -> (&'static str, usize, Option<usize>, &Path) {
    let (client, root) = match &pairing.client {
        End::Instance(client) => (Some(*client), Path::new("")),
        End::NoCertificate(root) => (None, root.as_path()),
    };
    (pairing.path.id, pairing.server, client, root)
}

/// The cluster with a few hosts of each kind, so that judging does not grow with the fleet.
fn representatives(cluster: &Cluster, change: &Transaction) -> Cluster {
    let touched: BTreeSet<&Path> = change
        .outcomes()
        .filter_map(|(path, _)| {
            let mut parts = path.components();
            let is_host = parts.next()?.as_os_str() == "hosts";
            is_host.then(|| Path::new(parts.next().map_or("".as_ref(), |part| part.as_os_str())))
        })
        .collect();
    let mut counts: BTreeMap<[bool; 4], usize> = BTreeMap::new();
    let mut some = cluster.clone();
    some.hosts.retain(|host| {
        let is_touched = touched.contains(Path::new(host.name.as_ref()));
        let kind = [host.control_plane, host.etcd, host.node, is_touched];
        let count = counts.entry(kind).or_default();
        *count += 1;
        *count <= OF_A_KIND
    });
    some
}

/// The instances that a change makes something else of, or of what they trust.
fn changed(before: &Scene<'_>, after: &Scene<'_>) -> BTreeSet<usize> {
    let prints = |held: &Held| -> Vec<Vec<u8>> {
        let own = held.certificates.present().into_iter().flat_map(|all| all.iter());
        let trusted = held.kubeconfig.iter().filter_map(|k| k.authorities.present());
        own.chain(trusted.flat_map(|all| all.iter())).map(|c| c.der.clone()).collect()
    };
    let server = |held: &Held| held.kubeconfig.as_ref().and_then(|k| k.server.clone());
    let trust = |scene: &Scene<'_>| -> Vec<Vec<u8>> {
        let all = scene.evidence.observed.trust.values().filter_map(|t| t.certificates.present());
        all.flat_map(|certificates| certificates.iter().map(|c| c.der.clone())).collect()
    };
    let pairs = before.evidence.held().iter().zip(after.evidence.held()).enumerate();
    let all = trust(before) != trust(after);
    pairs
        .filter(|(_, (then, now))| {
            all || prints(then) != prints(now) || server(then) != server(now)
        })
        .map(|(index, _)| index)
        .collect()
}
