//! `verify`: gathers what is there, judges it, and shakes hands with it.

pub mod assume;
pub mod candidate;
pub mod flags;
mod handshakes;
pub mod narrowing;
pub mod rehearsal;
mod stand_in;
mod tree;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use handshakes::Scene;

use super::{
    declared,
    observe::{self, Files},
};
use crate::model::{
    check::{
        self,
        evidence::Evidence,
        finding::Finding,
        forecast::{self, Break},
        pairing::{self, Expect, Outcome, Pairing, Tally},
    },
    code::{Code, Severity},
    layout::Layout,
    timestamp::Timestamp,
};

/// What to verify.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// The time as of which is judged.
    pub at: Timestamp,
    /// Whether to say when each path breaks.
    pub forecast: bool,
    /// Files that say what components are told.
    pub flags: &'a [PathBuf],
    /// Findings that do not count.
    pub allow: &'a BTreeSet<Code>,
    /// Findings that count as critical.
    pub deny: &'a BTreeSet<Code>,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Whether the cluster is declared; if not, it was assumed from what is there.
    pub declared: bool,
    /// The cluster's name, where one is declared.
    pub cluster: Option<String>,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// How many findings were allowed and left out.
    pub allowed: usize,
    /// What was tried, and what came of it.
    pub tried: Vec<Tried>,
    /// How many of each kind.
    pub summary: Tally,
    /// When each path breaks, if that was asked for.
    pub forecast: Option<Vec<Break>>,
}

/// One handshake, named.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The path's id, or who shows what to whom.
    pub name: String,
    /// The label of the client's certificate, if it shows one.
    pub client: Option<String>,
    /// The label of the certificate the server shows.
    pub server: String,
    /// What was tried and expected.
    pub pairing: Pairing,
    /// What came of it.
    pub outcome: Outcome,
}

impl Report {
    /// The worst finding.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).max()
    }

    /// Whether something could not be read, so that nobody can know.
    pub fn is_unknown(&self) -> bool {
        self.findings.iter().any(|f| f.code == Code::Unreadable)
    }
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// DIR/certkit.yaml cannot be had.
    #[error(transparent)]
    Declared(#[from] declared::Error),
    /// A file of flags cannot be read.
    #[error("cannot tell what a component is told")]
    Flags(#[from] flags::ToldError),
    /// Nothing of a PKI is there.
    #[error("{}: there is nothing of a cluster's PKI in this directory", .0.display())]
    Nothing(std::path::PathBuf),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Declared(error) => error.hint(),
            Self::Flags(error) => Some(error.hint()),
            Self::Nothing(dir) => Some(declared::elsewhere(dir)),
        }
    }
}

/// Verifies a directory.
pub fn verify(request: &Request<'_>) -> Result<Report, Error> {
    let declared = declared::find(request.dir)?;
    let assumed = match &declared {
        Some(_) => None,
        None => Some(
            assume::cluster(request.dir)
                .ok_or_else(|| Error::Nothing(request.dir.to_path_buf()))?,
        ),
    };
    let Some(cluster) = declared.as_ref().or(assumed.as_ref().map(|a| &a.cluster)) else {
        return Err(Error::Nothing(request.dir.to_path_buf()));
    };
    let service = assumed.as_ref().and_then(|a| a.service_address);
    let layout = Layout::new(cluster);
    let mut files = Files::followed(request.dir);
    let observation = observe::look(&layout, declared.is_some(), &mut files);
    let mut scene = Scene::new(&layout, &observation, service, request.at);
    scene.evidence.owner = tree::owner(request.dir);
    scene.evidence.files = tree::walk(request.dir, &files);
    let evidence = &scene.evidence;
    let mut findings = check::judge(evidence);
    let hosts = flags::Hosts::new(cluster, declared.is_some(), request.dir);
    findings.extend(check::flags::findings(evidence, &flags::read_all(request.flags, &hosts)?));
    let pairings = pairing::pairings(evidence);
    let outcomes = handshakes::run(&scene, &pairings, request.at);
    pairing::conclude(evidence, &pairings, &outcomes, &mut findings);
    let forecast = request.forecast.then(|| {
        let mut breaks = forecast::forecast(evidence, &pairings, &outcomes);
        handshakes::confirm(&scene, &pairings, &mut breaks);
        breaks
    });
    let summary = pairing::summary(&pairings, &outcomes);
    let (findings, allowed) = settle(findings, request);
    let tried = pairings
        .into_iter()
        .zip(outcomes)
        .map(|(pairing, outcome)| tried(evidence, pairing, outcome))
        .collect();
    let cluster = declared.as_ref().map(|c| c.name.clone());
    Ok(Report {
        declared: declared.is_some(),
        cluster,
        findings,
        allowed,
        tried,
        summary,
        forecast,
    })
}

/// Applies what is allowed and denied; the worst comes first.
fn settle(findings: Vec<Finding>, request: &Request<'_>) -> (Vec<Finding>, usize) {
    let before = findings.len();
    let mut kept: Vec<Finding> =
        findings.into_iter().filter(|f| !request.allow.contains(&f.code)).collect();
    let allowed = before - kept.len();
    for finding in kept.iter_mut().filter(|f| request.deny.contains(&f.code)) {
        finding.severity = Severity::Critical;
    }
    kept.sort_by_key(|f| std::cmp::Reverse(f.severity));
    (kept, allowed)
}

fn tried(evidence: &Evidence<'_>, pairing: Pairing, outcome: Outcome) -> Tried {
    let client = match pairing.client {
        pairing::End::Instance(index) => Some(evidence.label(index)),
        pairing::End::NoCertificate(_) => None,
    };
    Tried {
        name: pairing::name(evidence, &pairing),
        client,
        server: evidence.label(pairing.server),
        pairing,
        outcome,
    }
}

impl Tried {
    /// Whether it went as it must; what only authorization can refuse always does.
    pub fn is_as_expected(&self) -> bool {
        match self.pairing.expect {
            Expect::Works => self.outcome == Outcome::Works,
            Expect::Refused(_) => matches!(self.outcome, Outcome::Refused(_)),
            Expect::OnlyAuthorization => true,
        }
    }
}
