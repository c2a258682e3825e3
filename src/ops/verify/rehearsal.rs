//! Ends of paths that have read their files at different moments, as in a cluster whose components restart one after the
//! other: what they make of each other. What two ends make of each other depends on nobody else, so that the states of
//! all pairs are those of the whole.

use std::path::PathBuf;

use super::handshakes::{self, Scene};
use crate::{
    model::{
        check::pairing::{self, End, Expect, Outcome, Pairing, Role},
        layout::Layout,
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

    /// What comes of each path, in the same order, where its ends have loaded these.
    pub fn outcomes(&self, server: Loaded, client: Loaded) -> Vec<Outcome> {
        let of = |one: Loaded| self.scenes[one.trusts].showing(&self.scenes[one.shows]);
        handshakes::between(&of(server), &of(client), &self.pairings, self.now)
    }
}
