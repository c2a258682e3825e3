//! Ends of paths that have read their files at different moments, as in a cluster whose components restart one after the
//! other: what they make of each other. What two ends make of each other depends on nobody else, so that the states of
//! all pairs are those of the whole. With tokens of service accounts it is the same: one end signs them, the other is
//! shown them.

use std::path::{Path, PathBuf};

use super::handshakes::{self, Scene};
use crate::{
    model::{
        catalogue::{COMPONENTS, ComponentSpec, USES, Value},
        check::pairing::{self, End, Expect, Outcome, Pairing, Role},
        layout::Layout,
        observed::HeldCopy,
        timestamp::Timestamp,
    },
    ops::observe::Observation,
};

/// An end of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathEnd {
    /// What it is: a component's id, or words where it is none.
    pub who: &'static str,
    /// The folder of its host.
    pub root: PathBuf,
}

/// A path with its two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RehearsedPath {
    /// The path.
    pub id: &'static str,
    /// Who dials.
    pub client: PathEnd,
    /// Who answers.
    pub server: PathEnd,
    /// The client's certificate, for people; who it is where it has none.
    pub client_label: String,
    /// The server's.
    pub server_label: String,
}

/// The way of a token: who signs it, and who is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPath {
    /// The id of the key pair that it is signed with.
    pub id: &'static str,
    /// Who signs it.
    pub signer: PathEnd,
    /// Who is shown it.
    pub verifier: PathEnd,
    /// The key pair, by its index.
    pair: usize,
}

/// From which of several states of the files an end has what it shows, and what it trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it shows.
    pub shows: usize,
    /// What it trusts.
    pub trusts: usize,
}

/// All paths that work at first.
pub struct Rehearsal<'a> {
    scenes: Vec<Scene<'a>>,
    pairings: Vec<Pairing>,
    now: Timestamp,
}

impl<'a> Rehearsal<'a> {
    /// Of these states of the files, of which the first says what works; none of none.
    pub fn new(layout: &'a Layout<'a>, states: &'a [Observation], now: Timestamp) -> Option<Self> {
        let scenes: Vec<Scene<'a>> =
            states.iter().map(|state| Scene::new(layout, state, None, now)).collect();
        let first = scenes.first()?;
        let is_path = |p: &Pairing| p.role == Role::Path && p.expect == Expect::Works;
        let all: Vec<Pairing> =
            pairing::pairings(&first.evidence).into_iter().filter(is_path).collect();
        let outcomes = handshakes::between(first, first, &all, now);
        let works = all.into_iter().zip(outcomes).filter(|(_, one)| *one == Outcome::Works);
        let pairings = works.map(|(pairing, _)| pairing).collect();
        Some(Self { scenes, pairings, now })
    }

    /// The paths.
    pub fn paths(&self) -> Vec<RehearsedPath> {
        let Some(first) = self.scenes.first() else { return Vec::new() };
        let evidence = &first.evidence;
        let instances = &evidence.layout.instances;
        let of = |pairing: &Pairing| {
            let from = pairing.path.from;
            let (root, client_label) = match &pairing.client {
                End::Instance(client) => (instances[*client].root.clone(), evidence.label(*client)),
                End::NoCertificate(root) => (root.clone(), from.to_owned()),
            };
            RehearsedPath {
                id: pairing.path.id,
                client: PathEnd { who: from, root },
                server: PathEnd {
                    who: pairing.path.to,
                    root: instances[pairing.server].root.clone(),
                },
                client_label,
                server_label: evidence.label(pairing.server),
            }
        };
        self.pairings.iter().map(of).collect()
    }

    /// The ways of tokens that are accepted at first: from each that signs them to each that is shown them.
    pub fn token_paths(&self) -> Vec<TokenPath> {
        let Some(first) = self.scenes.first() else { return Vec::new() };
        let layout = first.evidence.layout;
        let mut all = Vec::new();
        for (pair, spec) in layout.key_pairs.iter().enumerate() {
            let signers = ends(layout, Value::PrivateKey(spec.id));
            let verifiers = ends(layout, Value::PublicKey(spec.id));
            for signer in &signers {
                let to = verifiers.iter().map(|verifier| TokenPath {
                    id: spec.id,
                    signer: signer.clone(),
                    verifier: verifier.clone(),
                    pair,
                });
                all.extend(to.filter(|path| self.token(path, 0, 0) == Outcome::Works));
            }
        }
        all
    }

    /// What comes of a token that was signed by who had loaded its key from one state of the files, and is shown to who has
    /// loaded those it accepts from another.
    pub fn token(&self, path: &TokenPath, signed: usize, verified: usize) -> Outcome {
        let of = |state: usize| &self.scenes[state].evidence.observed.key_pairs[path.pair];
        let spec = self.scenes[signed].evidence.layout.key_pairs[path.pair];
        let has = |state: usize, end: &PathEnd, file: &str| self.is_as_declared(state, end, file);
        let signer =
            of(signed).private.present().filter(|_| has(signed, &path.signer, spec.private));
        let Some(key) = signer else {
            return Outcome::Untried(format!("{} is not to be had here", spec.private));
        };
        let accepted = of(verified).public.present();
        let accepted = accepted.filter(|_| has(verified, &path.verifier, spec.public));
        match accepted.is_some_and(|all| all.contains(&key.public_key)) {
            true => Outcome::Works,
            false => {
                Outcome::Refused(format!("{} does not hold the key that signed it", spec.public))
            }
        }
    }

    /// Whether a host has this file as DIR does: itself, or as a copy.
    fn is_as_declared(&self, state: usize, end: &PathEnd, file: &str) -> bool {
        let evidence = &self.scenes[state].evidence;
        let to = end.root.join(file);
        let copies = evidence.layout.copies.iter().zip(&evidence.observed.copies);
        let mut own = copies.filter(|(copy, _)| copy.from == Path::new(file) && copy.to == to);
        own.next().is_none_or(|(_, found)| *found == HeldCopy::Same)
    }

    /// What comes of each path, in the same order, where its ends have loaded these.
    pub fn outcomes(&self, server: Loaded, client: Loaded) -> Vec<Outcome> {
        let of = |one: Loaded| self.scenes[one.trusts].showing(&self.scenes[one.shows]);
        handshakes::between(&of(server), &of(client), &self.pairings, self.now)
    }
}

/// Those who are told this by a setting, on each host that they run on.
fn ends(layout: &Layout<'_>, value: Value) -> Vec<PathEnd> {
    let cluster = layout.cluster;
    let told = COMPONENTS.iter().filter(|component| {
        cluster.has(component.present)
            && USES.iter().any(|row| {
                row.component == component.id && row.value == value && cluster.has(row.present)
            })
    });
    let on = |component: &'static ComponentSpec| {
        let hosts = cluster.hosts_in(component.scope);
        hosts.map(|host| PathEnd { who: component.id, root: cluster.root_of(host) })
    };
    told.flat_map(on).collect()
}
