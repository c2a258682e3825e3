//! Gates: what must be so before a stage is taken. Each refusal names what still needs what would be gone, or does not
//! know yet what would come.

use std::{collections::BTreeSet, os::unix::fs::MetadataExt as _, path::Path};

use super::{Request, Subject, audit, split, unseen};
use crate::{
    model::{
        authority::{Generations, Move, Slot},
        catalogue::{CertId, WORKLOAD_DAYS, roles},
        cluster::Cluster,
        duration::Span,
        layout::Layout,
        observed::{CertView, HeldCopy, Piece, Signer},
        plan::Policy,
        shown::with_causes,
        timestamp::Timestamp,
    },
    ops::{
        adopt, deployed,
        observe::{Files, Observation},
    },
    pki::{inspect::Certificate, key::PublicKey},
    tls::probe,
};

/// What gates look at.
pub struct Gates<'a> {
    /// The cluster.
    pub layout: &'a Layout<'a>,
    /// What is on disk.
    pub observation: &'a Observation,
    /// What is asked, and where else to look.
    pub request: &'a Request<'a>,
    /// The PKI's directory.
    pub dir: &'a Path,
    /// The time.
    pub now: Timestamp,
}

/// Hosts that are named one by one.
const TOLD: usize = 5;

/// How long one listener is asked.
const PROBE: std::time::Duration = std::time::Duration::from_secs(5);

/// Certificates that files of the PKI show, by their fingerprints.
#[derive(Debug, Default)]
pub struct FileCertificates {
    /// All.
    all: BTreeSet<String>,
    /// Those that the CA signed that should have.
    right: BTreeSet<String>,
}

impl FileCertificates {
    /// Adds those that were observed.
    pub fn add(&mut self, observation: &Observation) {
        for held in &observation.observed.instances {
            let Some(certificate) = held.certificate() else { continue };
            self.all.insert(certificate.fingerprint.clone());
            if held.signer == Some(Signer::Expected) {
                self.right.insert(certificate.fingerprint.clone());
            }
        }
    }
}

impl Gates<'_> {
    /// What in these files stands against these moves.
    pub fn of_files(&self, policy: &Policy) -> Vec<String> {
        let mut refusals = Vec::new();
        for (index, step) in &policy.succession {
            match step {
                Move::Switch => self.known_everywhere(*index, &mut refusals),
                Move::Drop | Move::TakeBack => self.needed_nowhere(*index, *step, &mut refusals),
                Move::Split | Move::Join | Move::Introduce | Move::SwitchBack => {}
            }
        }
        for (index, step) in &policy.keys {
            self.keys_known_everywhere(*index, *step, &mut refusals);
        }
        refusals
    }

    /// What else stands against them, in a cluster whose files show these certificates.
    pub fn of_all(
        &self,
        policy: &Policy,
        cluster: &Cluster,
        shown: &FileCertificates,
    ) -> Vec<String> {
        let mut refusals = Vec::new();
        let drops = policy.succession.iter().filter(|(_, step)| **step == Move::Drop);
        let drops: Vec<usize> = drops.map(|(index, _)| *index).collect();
        let asked = self.layout.cluster.signers.authorities();
        for index in &drops {
            let id = self.layout.instances[*index].spec.id;
            if self.layout.signs_elsewhere(*index) || asked.iter().any(|signer| signer.id == id) {
                refusals.extend(self.workloads(*index));
            }
        }
        self.deployed(policy, cluster, &mut refusals);
        self.listeners(policy, &mut refusals);
        let mut right = shown.right.clone();
        let cluster_ca = self.layout.authority(roles::CLUSTER_CA.id);
        if let Some(index) = cluster_ca.filter(|ca| drops.contains(ca)) {
            let (brought, all) = (self.request.certificates, &shown.all);
            let unseen =
                unseen::judge(self.layout, self.observation, index, self.dir, brought, all);
            refusals.extend(unseen.refusals);
            right.extend(unseen.right);
        }
        // What a root is replaced by changes no certificate that a client shows.
        if drops.iter().any(|index| !self.layout.is_above(*index))
            && !self.request.audit_logs.is_empty()
        {
            self.audited(&right, cluster, &mut refusals);
        }
        refusals
    }

    /// Hosts that `certkit deploy` carries files to must have, and have read, what the stage before made.
    fn deployed(&self, policy: &Policy, cluster: &Cluster, refusals: &mut Vec<String>) {
        let needs_all = |step: &Move| {
            matches!(step, Move::Switch | Move::SwitchBack | Move::Drop | Move::TakeBack)
        };
        let mut moves = policy.succession.values().chain(policy.keys.values());
        if !moves.any(needs_all) {
            return;
        }
        let behind = deployed::behind(cluster, self.dir);
        let told = behind.iter().take(TOLD).map(|(host, why)| {
            format!(
                "{host} {why}: `certkit deploy {host}`, with --restart or after a restart there"
            )
        });
        refusals.extend(told);
        if behind.len() > TOLD {
            refusals.push(format!("and {} more hosts: `certkit status`", behind.len() - TOLD));
        }
    }

    /// Before the next generation issues, all that verifies must trust it.
    fn known_everywhere(&self, index: usize, refusals: &mut Vec<String>) {
        let observed = &self.observation.observed;
        let id = self.layout.instances[index].spec.id;
        let generations = Generations::of(self.layout, observed, index);
        let Some(next) = generations.next else { return };
        let has = |all: &[CertView]| all.iter().any(|ca| ca.der == next.der);
        for ((_, authority), trust) in &observed.trust {
            let knows = trust.certificates.present().is_some_and(|all| has(all));
            if *authority == id && !knows {
                let file = trust.file.display();
                refusals.push(format!("{id}: {file} does not hold its next generation"));
            }
        }
        // The chains of what is below it hold it, too, and so do hosts' copies of them.
        let chains = self.layout.derived.iter().zip(&observed.derived).filter(|(derived, _)| {
            derived.is_chain && self.layout.issuer(derived.authority) == Some(index)
        });
        for (derived, found) in chains {
            let mut lacking: Vec<&Path> = Vec::new();
            if found.present().is_some_and(|all| !has(all)) {
                lacking.push(&derived.path);
            }
            let copies = self.layout.copies.iter().zip(&observed.copies);
            let stale = copies.filter(|(copy, found)| {
                copy.from == derived.path && matches!(found, HeldCopy::Differs | HeldCopy::Bad(_))
            });
            lacking.extend(stale.map(|(copy, _)| copy.to.as_path()));
            for file in lacking {
                let file = file.display();
                refusals.push(format!("{id}: {file} does not hold its next generation"));
            }
        }
        for (client, held) in observed.instances.iter().enumerate() {
            if self.layout.issuer(client) != Some(index) {
                continue;
            }
            if let Some(view) = held.readable_kubeconfig()
                && view.authority_file.is_none()
                && view.authorities.present().is_some_and(|all| !has(all))
            {
                let file = view.file.display();
                refusals.push(format!("{id}: {file} does not trust its next generation"));
            }
        }
    }

    /// Before another key signs tokens, every apiserver must know it, and before one is known no longer, none may sign
    /// with it: as far as the files of hosts show.
    fn keys_known_everywhere(&self, index: usize, step: Move, refusals: &mut Vec<String>) {
        let spec = self.layout.key_pairs[index];
        let held = &self.observation.observed.key_pairs[index];
        let signer = match step.issuer() {
            Slot::Active => &held.private,
            aside => match held.aside.get(&aside) {
                Some(key) => key,
                // What is not there stands against the move itself.
                None => return,
            },
        };
        let Some(signer) = signer.present() else { return };
        let copies = self.layout.copies.iter().zip(&self.observation.observed.copies);
        for (copy, found) in copies {
            let file = copy.to.display();
            let of = |own: &str| copy.from == Path::new(own);
            if step.reissues() && of(spec.public) && !self.knows(&copy.to, &signer.public_key) {
                refusals.push(format!(
                    "{}: {file} does not hold the public key of {}, so that this host's apiserver would refuse what \
                     it signs: `certkit init` says how to mend it",
                    spec.id,
                    step.issuer().file(spec.private).display()
                ));
            }
            let is_old = matches!(found, HeldCopy::Differs | HeldCopy::Alone | HeldCopy::Bad(_));
            if step == Move::Drop && of(spec.private) && is_old {
                refusals.push(format!(
                    "{}: {file} is not the key that signs now: `certkit init` says how to mend it",
                    spec.id
                ));
            }
        }
    }

    /// Whether a file of public keys has this one.
    fn knows(&self, file: &Path, key: &[u8]) -> bool {
        let Piece::Present(content) = Files::new(self.dir).read(file) else { return false };
        let all = PublicKey::all_from_pem(&content).unwrap_or_default();
        all.iter().any(|one| one.der() == key)
    }

    /// Before a generation is trusted no longer, nothing must be in use that it signed.
    fn needed_nowhere(&self, index: usize, step: Move, refusals: &mut Vec<String>) {
        let id = self.layout.instances[index].spec.id;
        let observed = &self.observation.observed;
        let generations = Generations::of(self.layout, observed, index);
        if step == Move::TakeBack {
            // What the next one signed already, by whomever.
            let next = generations.next.map(|ca| ca.profile.subject.clone());
            for (leaf, held) in observed.instances.iter().enumerate() {
                let by_next = held.certificate().is_some_and(|c| Some(&c.issuer) == next.as_ref());
                if self.layout.issuer(leaf) == Some(index) && by_next {
                    let label = self.layout.instances[leaf].label();
                    refusals.push(format!("{id}: {label} was signed by the next generation"));
                }
            }
            return;
        }
        for label in signed_by_others(self.layout, self.observation, index) {
            refusals.push(format!(
                "{id}: {label} was not signed by the generation that issues now: `certkit rotate {label}` \
                 renews it"
            ));
        }
    }

    /// Why the generation before must stay trusted of a CA whose certificates no file here shows: they may be valid still.
    fn workloads(&self, index: usize) -> Option<String> {
        let instance = &self.layout.instances[index];
        let (previous, _) = Slot::Previous.pair(&instance.spec.home)?;
        // It was put there when the other one began to sign.
        let metadata = self.dir.join(previous).symlink_metadata().ok()?;
        let since = Timestamp::from_unix(metadata.mtime());
        let end = since.plus(Span::days(WORKLOAD_DAYS));
        (end > self.now).then(|| {
            format!(
                "{}: certificates of workloads or people that lead to the generation before alone may be valid until {end}, if \
                 they live a day, and later if who signs them is told so (istiod); it goes on with --force",
                instance.spec.id
            )
        })
    }

    /// What listeners serve, and which CAs they say they accept.
    fn listeners(&self, policy: &Policy, refusals: &mut Vec<String>) {
        let answers = probe::probe_all(self.request.connect, PROBE, 8);
        for (target, answer) in self.request.connect.iter().zip(answers) {
            let served = match answer {
                Ok(served) => served,
                Err(error) => {
                    refusals.push(format!("{target}: {}", with_causes(&error)));
                    continue;
                }
            };
            let sent = served.chain.iter().map(|der| Certificate::from_der(der.clone()));
            let sent: Vec<Certificate> = sent.filter_map(Result::ok).collect();
            for (index, step) in &policy.succession {
                let id = self.layout.instances[*index].spec.id;
                let generations = Generations::of(self.layout, &self.observation.observed, *index);
                let gone: Vec<&CertView> = match step {
                    Move::Drop => generations.others().chain(generations.previous).collect(),
                    Move::TakeBack => generations.next.into_iter().collect(),
                    _ => Vec::new(),
                };
                let is_sent =
                    |ca: &&&CertView| sent.iter().any(|one| ca.profile.subject == *one.issuer());
                if let Some(ca) = gone.iter().find(is_sent) {
                    refusals.push(format!(
                        "{id}: {target} still serves a certificate of {}: restart what listens there",
                        ca.profile.subject
                    ));
                }
                let Some(next) = generations.next.filter(|_| *step == Move::Switch) else {
                    continue;
                };
                let active = generations.active.map(|ca| ca.profile.subject.der().to_vec());
                let accepts =
                    |der: &[u8]| served.accepted_issuers.iter().any(|name| name.as_slice() == der);
                let is_verifier = active.is_some_and(|active| accepts(&active));
                if is_verifier && !accepts(next.profile.subject.der()) {
                    refusals.push(format!(
                        "{id}: {target} does not accept clients of {} yet: restart what listens there",
                        next.profile.subject
                    ));
                }
            }
        }
    }

    /// Who used, as the apiserver's audit log has it, a certificate that is none of those on disk now.
    fn audited(&self, known: &BTreeSet<String>, cluster: &Cluster, refusals: &mut Vec<String>) {
        let since = self.now.plus(Span(-self.request.quiet_for.0));
        match audit::offenders(self.request.audit_logs, since, known) {
            Err(why) => refusals.push(why),
            Ok(offenders) => {
                refusals.extend(offenders.iter().map(|one| unseen::told(cluster, one)));
            }
        }
    }
}

/// What names the wrong file for trust: before another CA is trusted besides, all must name the file that will say so;
/// before that file goes, none.
pub fn named_for_trust(
    search: &split::Search<'_>,
    policy: &Policy,
    settings: &[split::TrustSetting],
) -> Vec<String> {
    let steps = policy.succession.iter();
    let id = |index: usize| search.layout.instances[index].spec.id;
    let widening = steps.filter(|(_, step)| matches!(step, Move::Introduce | Move::Switch));
    let widening: split::Moves = widening.map(|(index, _)| (id(*index), Move::Split)).collect();
    let mut refusals: Vec<String> =
        search.seen(&widening).iter().map(split::TrustSetting::told).collect();
    if let Some(first) = widening.keys().next().filter(|_| !refusals.is_empty()) {
        refusals.push(format!(
            "where that is in a static pod's manifest, `certkit rotate-ca {first} --to stable --restart static-pods` \
             changes it"
        ));
    }
    let joins = |id: CertId| {
        policy.succession.iter().any(|(index, step)| {
            *step == Move::Join && search.layout.instances[*index].spec.id == id
        })
    };
    let left = settings.iter().filter(|s| !s.is_changed && s.file.is_some());
    refusals.extend(left.filter(|s| joins(s.authority)).map(split::TrustSetting::told));
    refusals
}

/// How long tokens live at most that were put into pods, unless the apiserver is told otherwise (Kubernetes 1.36,
/// `pkg/serviceaccount/claims.go`).
const TOKENS: Span = Span::days(365);

/// Why a key must stay trusted that signs no longer: a token that it signed may be valid still.
pub fn tokens(
    layout: &Layout<'_>,
    observation: &Observation,
    subject: Subject,
    step: Move,
    dir: &Path,
    now: Timestamp,
) -> Option<String> {
    let Subject::KeyPair(index) = subject else { return None };
    let slot = match step {
        Move::Drop => Slot::Previous,
        Move::TakeBack if observation.observed.key_pairs[index].has_next_signed() => Slot::Next,
        _ => return None,
    };
    let spec = layout.key_pairs[index];
    let file = slot.file(spec.private);
    // It was put there when the other one began to sign. Where it is not kept nobody knows when that was.
    let since = dir.join(&file).symlink_metadata().ok().map(|metadata| metadata.mtime());
    let life = token_life(dir);
    let which = if slot == Slot::Next { "that is next has signed" } else { "before signed" };
    match since.map(|since| Timestamp::from_unix(since).plus(life)) {
        Some(end) if end <= now => None,
        Some(end) => Some(format!(
            "{}: tokens that the key {which} may be valid until {end}; it goes on with --force",
            spec.id
        )),
        None => Some(format!(
            "{}: nobody knows since when another key signs, as {} is not there; tokens live up to {life}; it goes \
             on with --force",
            spec.id,
            file.display()
        )),
    }
}

/// How long a token can live, by what the apiserver's static pod is told.
fn token_life(dir: &Path) -> Span {
    let flags = adopt::manifest_flags(dir, roles::API_SERVER);
    let limit = flags.get("service-account-max-token-expiration");
    let limit = limit.and_then(|text| text.parse::<Span>().ok());
    let extends = flags.get("service-account-extend-token-expiration");
    match (extends.map(String::as_str), limit) {
        (Some("false"), Some(limit)) => limit,
        (_, Some(limit)) => Span(limit.0.max(TOKENS.0)),
        (_, None) => TOKENS,
    }
}

/// The labels of what is there and was not signed by the generation of its CA that issues now.
pub fn signed_by_others(
    layout: &Layout<'_>,
    observation: &Observation,
    index: usize,
) -> Vec<String> {
    let instances = observation.observed.instances.iter().enumerate();
    instances
        .filter(|(leaf, held)| {
            layout.issuer(*leaf) == Some(index)
                && held.certificate().is_some()
                && held.signer != Some(Signer::Expected)
        })
        .map(|(leaf, _)| layout.instances[leaf].label())
        .collect()
}
