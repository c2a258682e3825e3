//! From handshakes to findings: a fault that is known explains the paths it breaks or opens, and only what
//! nothing explains is a finding of its own.

use std::{collections::BTreeMap, path::PathBuf};

use super::{End, Expect, Outcome, Pairing, Role};
use crate::model::{
    check::{
        evidence::{Evidence, server_of},
        finding::Finding,
    },
    code::Code,
};

/// How many handshakes of each kind there were, and how many went as they must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Handshakes that must come about.
    pub must_work: usize,
    /// Of these, those that did.
    pub work: usize,
    /// Handshakes that must be refused.
    pub must_refuse: usize,
    /// Of these, those that were.
    pub refused: usize,
    /// Pairings that only authorization can refuse.
    pub authorization: usize,
    /// Those that could not be tried.
    pub untried: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.must_work += other.must_work;
        self.work += other.work;
        self.must_refuse += other.must_refuse;
        self.refused += other.refused;
        self.authorization += other.authorization;
        self.untried += other.untried;
    }
}

/// Counts.
pub fn summary(pairings: &[Pairing], outcomes: &[Outcome]) -> Tally {
    let mut sum = Tally::default();
    for (pairing, outcome) in pairings.iter().zip(outcomes) {
        match pairing.expect {
            Expect::Works => {
                sum.must_work += 1;
                sum.work += usize::from(*outcome == Outcome::Works);
            }
            Expect::Refused(_) => {
                sum.must_refuse += 1;
                sum.refused += usize::from(matches!(outcome, Outcome::Refused(_)));
            }
            Expect::OnlyAuthorization => sum.authorization += 1,
        }
        sum.untried += usize::from(matches!(outcome, Outcome::Untried(_)));
    }
    sum
}

/// Adds to each finding the paths it explains, and findings for what nothing explains.
pub fn conclude(
    evidence: &Evidence<'_>,
    pairings: &[Pairing],
    outcomes: &[Outcome],
    findings: &mut Vec<Finding>,
) {
    let mut unexplained: BTreeMap<(Code, String), Finding> = BTreeMap::new();
    for (pairing, outcome) in pairings.iter().zip(outcomes) {
        let (code, why) = match (pairing.expect, outcome) {
            (Expect::Works, Outcome::Refused(why)) => (Code::PathBroken, why.clone()),
            (Expect::Works, Outcome::Untried(why)) => (Code::PathUntried, why.clone()),
            (Expect::Refused(ground), Outcome::Works) => {
                (Code::PathOpen, format!("it must be refused: {}", ground.text()))
            }
            _ => continue,
        };
        let involved = involved(evidence, pairing);
        let explains = |finding: &&mut Finding| {
            let effect = finding.code.spec().effect;
            let fits = match code {
                Code::PathOpen => effect.opens(),
                _ => effect.breaks(),
            };
            fits && concerns(finding, pairing, &involved)
        };
        let name = name(evidence, pairing);
        if let Some(cause) = findings.iter_mut().find(explains) {
            if !cause.paths.contains(&name) {
                cause.paths.push(name);
            }
            continue;
        }
        let entry = unexplained.entry((code, name.clone())).or_insert_with(|| {
            let what = match code {
                Code::PathBroken => format!("{why}; when it breaks: {}", pairing.path.breaks),
                Code::PathUntried => format!("it could not be tried: {why}"),
                _ => why,
            };
            Finding::new(code, name.clone(), what)
        });
        let mut finding = entry.clone();
        for index in &involved.ends {
            finding = finding.file(evidence.held()[*index].place.cert());
            if !finding.instances.contains(index) {
                finding.instances.push(*index);
            }
        }
        *entry = finding;
    }
    findings.extend(unexplained.into_values());
}

/// What has a part in a handshake.
struct Involved {
    /// The certificates that are shown.
    ends: Vec<usize>,
    /// The CAs that issued them, and those above.
    authorities: Vec<usize>,
    /// The files that are shown and trusted.
    files: Vec<PathBuf>,
}

fn involved(evidence: &Evidence<'_>, pairing: &Pairing) -> Involved {
    let mut ends = match pairing.client {
        // Before a poser the client shows nothing.
        End::Instance(client) if pairing.role != Role::AsServer => vec![client],
        _ => vec![],
    };
    // What stands in for a server has no part in it.
    if server_of(pairing.path).is_some() || ends.is_empty() {
        ends.push(pairing.server);
    }
    let mut authorities = Vec::new();
    let trusted = [pairing.path.client_trusts, pairing.path.server_trusts];
    let trusted = trusted
        .into_iter()
        .flatten()
        .filter_map(|id| evidence.layout.instances.iter().position(|i| i.spec.id == id));
    for mut above in ends.iter().filter_map(|i| evidence.issuer(*i)).chain(trusted) {
        loop {
            if !authorities.contains(&above) {
                authorities.push(above);
            }
            match evidence.issuer(above) {
                Some(next) => above = next,
                None => break,
            }
        }
    }
    let files = files(evidence, pairing, &ends);
    Involved { ends, authorities, files }
}

/// The files of both ends, and those by which each checks the other.
fn files(evidence: &Evidence<'_>, pairing: &Pairing, ends: &[usize]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for held in ends.iter().map(|index| &evidence.held()[*index]) {
        files.extend([held.place.cert().clone(), held.place.key().clone()]);
        files.extend(held.kubeconfig.as_ref().map(|k| k.file.clone()));
    }
    let (client, root) = match &pairing.client {
        End::Instance(index) => (Some(*index), evidence.layout.instances[*index].root.clone()),
        End::NoCertificate(root) => (None, root.clone()),
    };
    files.extend(evidence.client_trust(pairing.path, client, &root).map(|(file, _)| file));
    let server = &evidence.layout.instances[pairing.server].root;
    let trusted = pairing.path.server_trusts.and_then(|ca| evidence.trusted(ca, server));
    files.extend(trusted.map(|(file, _)| file));
    // What is trusted may be the very thing that cannot be read.
    for ca in [(pairing.path.client_trusts, &root), (pairing.path.server_trusts, server)] {
        if let (Some(ca), root) = ca
            && let Some(trust) = evidence.observed.trust.get(&(root.clone(), ca))
        {
            files.push(trust.file.clone());
        }
    }
    files
}

/// Whether the fault has a part in this handshake. A kubeconfig's fault is its own clients' only.
fn concerns(finding: &Finding, pairing: &Pairing, involved: &Involved) -> bool {
    let mut parts = involved.ends.clone();
    if pairing.role == Role::AsServer
        && let End::Instance(client) = pairing.client
    {
        parts.push(client);
    }
    let about = |index: &usize| finding.instances.contains(index);
    let is_file = || finding.files.iter().any(|file| involved.files.contains(file));
    match finding.code {
        // A bundle of another host is none of this path's; a copy is known by its file only.
        Code::BundleLacksCa => is_file(),
        _ if finding.instances.is_empty() => is_file(),
        _ => parts.iter().chain(&involved.authorities).any(about),
    }
}

/// How a pairing is called: a path by its id, anything else by who shows what to whom.
pub fn name(evidence: &Evidence<'_>, pairing: &Pairing) -> String {
    let shown = |i: usize| evidence.layout.instances[i].spec.id;
    let listener = |p: &Pairing| super::listener(p.path).map_or(p.path.id, |l| l.id);
    match (pairing.role, &pairing.client) {
        (Role::Path | Role::StandIn, _) => pairing.path.id.to_owned(),
        (Role::AsClient, End::Instance(client)) => {
            format!("{} as a client of {}", shown(*client), listener(pairing))
        }
        (Role::AsClient, End::NoCertificate(_)) => {
            format!("no certificate as a client of {}", listener(pairing))
        }
        (Role::AsServer, _) => {
            format!("{} as the server of {}", shown(pairing.server), pairing.path.id)
        }
    }
}
