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
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    path::{Path, PathBuf},
};

use handshakes::Scene;
use tree::WalkedPart;

use super::{
    declared,
    observe::{self, Files},
};
use crate::{
    model::{
        catalogue::PATHS,
        check::{
            self,
            evidence::Evidence,
            finding::Finding,
            flags::Told,
            forecast::{self, Break},
            issuing,
            pairing::{self, End, Expect, Outcome, Pairing, Role, Tally},
        },
        cluster::{Cluster, Host},
        code::{Code, Severity},
        layout::Layout,
        part::{self, ClusterPart},
        timestamp::Timestamp,
    },
    parallel::progress,
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
    let hosts = flags::Hosts::new(cluster, declared.is_some(), request.dir);
    let told = flags::read_all(request.flags, &hosts)?;
    let circumstances = Circumstances {
        declared: declared.is_some(),
        service: assumed.as_ref().and_then(|a| a.service_address),
        owner: tree::owner(request.dir),
        told: &told,
    };
    // What a component is told may be about any host: then all are looked at together.
    let parts: Box<dyn Iterator<Item = ClusterPart>> = match told.is_empty() {
        true => Box::new(part::all(cluster)),
        false => Box::new(std::iter::once(ClusterPart::whole(cluster.clone()))),
    };
    Ok(verify_parts(request, cluster, &circumstances, parts))
}

/// What is the same for all parts of a cluster.
struct Circumstances<'a> {
    declared: bool,
    /// The address of the service `kubernetes`, where nothing declares it.
    service: Option<IpAddr>,
    /// The user whose files these should be.
    owner: u32,
    /// What components are told.
    told: &'a [Told],
}

/// Verifies the parts of a cluster one after the other, so that no more than one is held at once.
fn verify_parts(
    request: &Request<'_>,
    cluster: &Cluster,
    circumstances: &Circumstances<'_>,
    parts: impl Iterator<Item = ClusterPart>,
) -> Report {
    let roots = |cluster: &Cluster| -> BTreeSet<PathBuf> {
        let nodes = cluster.hosts.iter().filter(|host| host.is_only_node());
        nodes.map(|host| cluster.root_of(host)).collect()
    };
    let task = (!part::is_one(cluster)).then(|| progress::task("hosts", Some(cluster.hosts.len())));
    let mut gathered = Gathered::default();
    for part in parts {
        let own = roots(&part.cluster);
        let extent = match part.is_first {
            true => WalkedPart::AllBut(roots(cluster).difference(&own).cloned().collect()),
            false => WalkedPart::Folders(own),
        };
        gathered.look(request, &part, circumstances, &extent);
        if let Some(task) = &task {
            task.steps(part.count());
        }
    }
    let Gathered { findings, tried, summary, forecast, .. } = gathered;
    let (findings, allowed) = settle(findings, request);
    Report {
        declared: circumstances.declared,
        cluster: circumstances.declared.then(|| cluster.name.clone()),
        findings,
        allowed,
        tried,
        summary,
        forecast: request.forecast.then_some(forecast),
    }
}

/// What was found so far.
#[derive(Default)]
struct Gathered {
    findings: Vec<Finding>,
    /// Where each is, by what makes it one and the same in all parts.
    known: HashMap<(Code, String, Vec<String>), usize>,
    tried: Vec<Tried>,
    summary: Tally,
    forecast: Vec<Break>,
    serials: issuing::Serials,
}

impl Gathered {
    /// Looks at a part.
    fn look(
        &mut self,
        request: &Request<'_>,
        part: &ClusterPart,
        circumstances: &Circumstances<'_>,
        extent: &WalkedPart,
    ) {
        let layout = Layout::new(&part.cluster);
        let mut files = Files::followed(request.dir);
        let observation = observe::look(&layout, circumstances.declared, &mut files);
        let mut scene = Scene::new(&layout, &observation, circumstances.service, request.at);
        scene.evidence.owner = circumstances.owner;
        scene.evidence.files = tree::walk(request.dir, &files, extent);
        let evidence = &scene.evidence;
        let mut findings = check::judge(evidence);
        if !part.is_whole {
            findings.extend(self.serials.add(evidence));
        }
        findings.extend(check::flags::findings(evidence, circumstances.told));
        let is_own = |index: usize| {
            part.is_first || layout.instances[index].host.is_some_and(Host::is_only_node)
        };
        let mut pairings = pairing::pairings(evidence);
        // What is tried once for all of a kind was tried with the first part.
        pairings.retain(|pairing| {
            let is_client = matches!(pairing.client, End::Instance(client) if is_own(client));
            let is_path = matches!(pairing.role, Role::Path | Role::StandIn);
            part.is_first || is_path && (is_client || is_own(pairing.server))
        });
        let outcomes = handshakes::run(&scene, &pairings, request.at);
        pairing::conclude(evidence, &pairings, &outcomes, &mut findings);
        for finding in findings {
            let is_others =
                !finding.instances.is_empty() && !finding.instances.iter().any(|i| is_own(*i));
            self.find(finding, is_others);
        }
        if request.forecast {
            let mut breaks = forecast::forecast(evidence, &pairings, &outcomes);
            handshakes::confirm(&scene, &pairings, &mut breaks);
            self.foresee(breaks);
        }
        self.summary += pairing::summary(&pairings, &outcomes);
        let tried = pairings.into_iter().zip(outcomes);
        self.tried.extend(tried.map(|(pairing, outcome)| tried_as(evidence, pairing, outcome)));
    }

    /// Adds a finding. What `is_others`, of the control plane, is found with each part, and is one, however it names who
    /// meets it; a path, too, breaks once.
    fn find(&mut self, mut finding: Finding, is_others: bool) {
        let is_path = matches!(finding.code, Code::PathBroken | Code::PathUntried | Code::PathOpen);
        let mut text = Vec::new();
        if !is_others && !is_path {
            text.extend(finding.files.iter().map(|file| file.display().to_string()));
            text.push(finding.what.clone());
        }
        // Indices are those of one part's.
        finding.instances.clear();
        match self.known.entry((finding.code, finding.subject.clone(), text)) {
            Entry::Vacant(new) => {
                new.insert(self.findings.len());
                self.findings.push(finding);
            }
            Entry::Occupied(known) => {
                let known = &mut self.findings[*known.get()];
                for path in finding.paths {
                    if !known.paths.contains(&path) {
                        known.paths.push(path);
                    }
                }
                let taken = std::mem::replace(known, Finding::new(finding.code, "", ""));
                *known = finding.files.into_iter().fold(taken, Finding::file);
            }
        }
    }

    /// Adds when paths break: of each path the first time counts, at the same time the first pairing.
    fn foresee(&mut self, breaks: Vec<Break>) {
        for mut new in breaks {
            new.pairing += self.tried.len();
            match self.forecast.iter_mut().find(|known| known.path.id == new.path.id) {
                Some(known) if known.at <= new.at => {}
                Some(known) => *known = new,
                None => self.forecast.push(new),
            }
        }
        let place = |one: &Break| PATHS.iter().position(|path| path.id == one.path.id);
        self.forecast.sort_by_key(|one| (one.at, place(one)));
    }
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

fn tried_as(evidence: &Evidence<'_>, pairing: Pairing, outcome: Outcome) -> Tried {
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
