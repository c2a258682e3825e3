//! `certkit rotate-ca`: replaces CAs, and the key that signs service-account tokens, one stage at a time. The stage is
//! read from the files, so that any run goes on from where the last one came to.

mod audit;
pub mod cluster;
mod fleet;
pub mod gate;
pub mod split;
mod unseen;

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use super::{
    change::{self, Error, Report, parts::Shortfall},
    declared, observe,
    observe::Observation,
    takeup::InPlace,
};
use crate::{
    model::{
        authority::{Generations, Move, Slot, Stage, has_bundle},
        catalogue::{KEYS, Mended},
        cluster::{Cluster, HostName},
        duration::Span,
        layout::Layout,
        observed::FoundKey,
        part::{self, ClusterPart},
        plan::{Action, Policy, Step, catch_up},
        shown::with_causes,
        timestamp::Timestamp,
    },
    parallel::{self, progress},
    tls::probe::Target,
};
use cluster::{ClusterCopy, CopiedCa, Kubectl};
use fleet::{Decided, Fleet, Shared};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The ids of CAs and key pairs; all if there are none.
    pub names: &'a [String],
    /// Where to.
    pub to: Direction,
    /// Whether those that are replaced vouch for what follows them.
    pub cross_signs: bool,
    /// Whether the key has leaked, so that nothing is waited for once another one issues.
    pub compromised: bool,
    /// Listeners to ask what they serve and accept.
    pub connect: &'a [Target],
    /// The apiserver's audit logs.
    pub audit_logs: &'a [PathBuf],
    /// Files of certificates that somebody uses and that no file of the PKI shows.
    pub certificates: &'a [PathBuf],
    /// How long nobody must have used what is to be dropped.
    pub quiet_for: Span,
    /// Whether static pods' manifests are changed where they name the wrong file.
    pub manifests: bool,
    /// The kubeconfig by which the cluster is looked into.
    pub kubeconfig: Option<&'a Path>,
    /// Whether what certkit may is brought up to date there.
    pub apply_cluster: bool,
}

/// Where replacing is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// On by one stage.
    Next,
    /// Nowhere: a new term, with the key and the name there are.
    Renew,
    /// Back by one stage.
    Undo,
    /// To this stage, if it is the one after or before.
    To(Stage),
}

/// One CA, or the key pair that signs tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A CA, by its index in the layout.
    Authority(usize),
    /// A key pair without certificate, by its index.
    KeyPair(usize),
}

/// How far each has come.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its id.
    pub id: &'static str,
    /// Which it is.
    pub subject: Subject,
    /// The stage.
    pub stage: Stage,
    /// The generations that are there: which, the subject, the fingerprint, and the end.
    pub generations: Vec<Generation>,
    /// What on disk still was signed by another one than the one that issues: labels.
    pub users: Vec<String>,
    /// The nodes to which this stage has not come.
    pub behind: Vec<HostName>,
}

/// A generation as it is told.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Which: `active`, `next`, `previous`, `cross` (the next or active one's name and key, signed by the one before it), or
    /// `trusted`.
    pub word: &'static str,
    /// Its subject; of a key its algorithm.
    pub name: String,
    /// SHA-256 in hexadecimal, of the certificate or of the public key.
    pub fingerprint: String,
    /// Its end.
    pub not_after: Option<Timestamp>,
}

/// How far replacing has come, of these or of all.
pub fn status(dir: &Path, names: &[String]) -> Result<Vec<Standing>, Error> {
    let cluster = declared::load(dir)?;
    let mut standing = standing_of_all(&cluster, dir, names, |_, _, _, _| Ok(()))?;
    if names.is_empty() {
        // What goes on by its name alone is told all the same.
        let core = part::core(&cluster);
        let layout = Layout::new(&core);
        let observation = observe::observe(&layout, dir);
        let above = (0..layout.instances.len())
            .filter(|at| layout.is_above(*at) && has_bundle(&layout, *at))
            .map(|at| self::standing(&layout, &observation, Subject::Authority(at)));
        standing.splice(0..0, above.collect::<Vec<Standing>>());
    }
    Ok(standing)
}

/// How far these have come on all hosts, which are looked at part by part; each part, and whether it is the last, is shown
/// to whoever has more to ask.
fn standing_of_all(
    cluster: &Cluster,
    dir: &Path,
    names: &[String],
    mut shown: impl FnMut(&ClusterPart, Read<'_>, &[Standing], bool) -> Result<(), Error>,
) -> Result<Vec<Standing>, Error> {
    let mut all: Vec<Standing> = Vec::new();
    // Met with each part.
    let mut users_of_core: Vec<HashSet<String>> = Vec::new();
    let task = (!part::is_one(cluster)).then(|| progress::task("hosts", Some(cluster.hosts.len())));
    let mut parts = part::all(cluster).peekable();
    let parts = std::iter::from_fn(|| Some((parts.next()?, parts.peek().is_none())));
    // The next ones are read while one is looked at.
    let look = |(part, is_last): (ClusterPart, bool)| {
        let observation = observe::observe(&Layout::new(&part.cluster), dir);
        (part, observation, is_last)
    };
    parallel::in_turn(parts, look, |(part, observation, is_last)| {
        let layout = Layout::new(&part.cluster);
        let read = Read { layout: &layout, observation: &observation, names };
        let standing = read.standing()?;
        shown(&part, read, &standing, is_last)?;
        if let Some(task) = &task {
            task.steps(part.count());
        }
        if part.is_first {
            users_of_core.extend(standing.iter().map(|one| one.users.iter().cloned().collect()));
            all = standing;
        } else {
            for ((one, known), more) in all.iter_mut().zip(&users_of_core).zip(standing) {
                one.users.extend(more.users.into_iter().filter(|user| !known.contains(user)));
                one.behind.extend(more.behind);
            }
        }
        Ok::<(), Error>(())
    })?;
    Ok(all)
}

/// What became of it, beside the reports.
#[derive(Debug)]
pub struct Done {
    /// The nodes that could not be changed.
    pub shortfall: Shortfall,
    /// What has come to which stage, or would, and what its generations are.
    pub moved: Vec<(&'static str, Stage)>,
    /// What names the file from which a CA was trusted so far, where that has become another one, or would.
    pub settings: Vec<split::TrustSetting>,
    /// How far those that were asked for have come now.
    pub standing: Vec<Standing>,
    /// What was found in the cluster, where that was looked into.
    pub found: Option<Survey>,
}

/// What was found in the cluster.
#[derive(Debug, Default)]
pub struct Survey {
    /// Copies of CAs that are not right, or were not.
    pub copies: Vec<ClusterCopy>,
    /// What could not be looked at or changed.
    pub failed: Vec<String>,
}

/// A cluster, or a part of it, as it was read, once.
#[derive(Clone, Copy)]
struct Read<'a> {
    layout: &'a Layout<'a>,
    observation: &'a Observation,
    /// What was asked for.
    names: &'a [String],
}

impl Read<'_> {
    /// The CAs among these, as copies of them are told apart.
    fn known(&self) -> Result<Vec<CopiedCa>, Error> {
        let subjects = select(self.layout, self.names)?.into_iter();
        let of = |subject| match subject {
            Subject::Authority(index) => CopiedCa::of(self.layout, self.observation, index),
            Subject::KeyPair(_) => None,
        };
        Ok(subjects.filter_map(of).collect())
    }

    /// Looks into the cluster for copies of these CAs, as they are on disk now and were before, and brings up to date what
    /// certkit may, if that is wanted.
    fn survey(
        &self,
        before: &[CopiedCa],
        kubectl: &Kubectl<'_>,
        apply: bool,
    ) -> Result<Survey, Error> {
        let known = self.known()?.into_iter();
        let known: Vec<CopiedCa> = known.map(|ca| ca.after(before)).collect();
        let standing = self.standing()?;
        let is_dropped =
            |id: &str| standing.iter().any(|one| one.id == id && one.stage == Stage::Stable);
        let mut copies = match cluster::look(kubectl, &known) {
            Ok(copies) => copies,
            Err(error) => return Ok(Survey { copies: vec![], failed: vec![cluster::why(&error)] }),
        };
        // Until then it is as it must be.
        copies.retain(|copy| copy.mended != Mended::Deleted || is_dropped(copy.authority));
        let failed = match apply {
            true => cluster::apply(kubectl, &known, &is_dropped, &mut copies),
            false => Vec::new(),
        };
        Ok(Survey { copies, failed: failed.iter().map(|error| with_causes(error)).collect() })
    }

    /// How far these have come.
    fn standing(&self) -> Result<Vec<Standing>, Error> {
        let subjects = select(self.layout, self.names)?.into_iter();
        Ok(subjects.map(|subject| standing(self.layout, self.observation, subject)).collect())
    }
}

/// Looks into the cluster for copies of these CAs, and brings up to date what certkit may, if that is wanted.
pub fn survey(
    dir: &Path,
    names: &[String],
    kubectl: &Kubectl<'_>,
    apply: bool,
) -> Result<Survey, Error> {
    let core = part::core(&declared::load(dir)?);
    let layout = Layout::new(&core);
    let observation = observe::observe(&layout, dir);
    Read { layout: &layout, observation: &observation, names }.survey(&[], kubectl, apply)
}

/// Goes one stage on or back, or says what would be done; hands over the report of each part of a large cluster, and
/// whether it is the only one.
pub fn run(
    request: &Request<'_>,
    change: &change::Request<'_>,
    mut told: impl FnMut(Report, bool),
) -> Result<Done, Error> {
    // Once, and before anything is locked.
    let kubectl = request.kubeconfig.map(|kubeconfig| Kubectl { kubeconfig });
    let whole = declared::load(change.dir)?;
    let (before_all, survey_before) = match &kubectl {
        Some(kubectl) => {
            let core = part::core(&whole);
            let layout = Layout::new(&core);
            let observation = observe::observe(&layout, change.dir);
            let names = request.names;
            let read = Read { layout: &layout, observation: &observation, names };
            (read.known()?, Some(read.survey(&[], kubectl, false)?))
        }
        None => (Vec::new(), None),
    };
    let fleet = Fleet { request, change, whole: &whole, found: survey_before.as_ref() };
    let decided = Shared::default();
    let told = |mut report: Report, is_only: bool| {
        // The next part is decided meanwhile.
        let moves = decided.now().moves().to_vec();
        serve_authorities(&mut report, change.dir, &moves);
        told(report, is_only);
    };
    let shortfall = fleet.go(&decided, told)?;
    let Decided { all, settings, pause, .. } = decided.end();
    let whole = declared::load(change.dir).unwrap_or(whole);
    let standing = standing_of_all(&whole, change.dir, request.names, |_, _, _, _| Ok(()))?;
    let moved = all.iter().filter(|(_, step)| !step.moves_trust() && pause.is_none());
    let moved = moved.map(|(id, step)| (*id, step.end())).collect();
    let found = match &kubectl {
        Some(kubectl) if !change.dry_run => {
            // What is done is done; what follows is told.
            let core = part::core(&whole);
            let layout = Layout::new(&core);
            let observation = observe::observe(&layout, change.dir);
            let read = Read { layout: &layout, observation: &observation, names: request.names };
            let found = read.survey(&before_all, kubectl, request.apply_cluster);
            let failed = |error| Survey { copies: vec![], failed: vec![with_causes(&error)] };
            Some(found.unwrap_or_else(failed))
        }
        _ => survey_before,
    };
    Ok(Done { shortfall, moved, settings, standing, found })
}

/// Adds to what has to be taken up what trusts and signs, which has changed as well as what was signed.
fn serve_authorities(report: &mut Report, dir: &Path, moves: &[(&'static str, Move)]) {
    let layout = Layout::new(&report.cluster);
    let observation = observe::observe(&layout, dir);
    for index in 0..layout.instances.len() {
        let own = observation.observed.instances[index].place.files();
        let files = || own.iter().chain(observation.observed.trusted_files(index));
        let id = layout.instances[index].spec.id.name();
        // Of a leaf what is sent after it: a leaf that is new is known already.
        let is_ca = layout.instances[index].spec.is_ca();
        // Who is to trust it from another file has nothing new to read.
        let only_moves = moves.iter().any(|(moved, step)| *moved == id && step.moves_trust());
        let is_read = |step: &Step| {
            let of = |file: &PathBuf| match &step.action {
                Action::Copy { from, .. } if is_ca => step.files.contains(file) || from == file,
                Action::Resend(_) => step.files.contains(file),
                _ => is_ca && step.files.contains(file),
            };
            files().any(of)
        };
        let is_touched = !only_moves && report.plan.changes().any(is_read);
        let known = report.served.iter().any(|served| served.instance == index);
        if is_touched
            && !known
            && let Some(ca) = observation.observed.instances[index].certificate()
        {
            let (fingerprint, serial) = (ca.fingerprint.clone(), ca.serial.clone());
            report.served.push(InPlace { instance: index, fingerprint, serial });
        }
    }
    report.served.sort_by_key(|served| served.instance);
}

/// What is to become of each that was asked for.
#[derive(Default)]
struct Intent {
    /// Which goes by which step.
    moves: Vec<(&'static str, Move)>,
    /// The same as a plan is made of it.
    policy: Policy,
    /// Whose trust gets another file.
    trust: split::Moves,
    /// Whose has it already, where settings may be left that name the one before.
    left: split::Moves,
    /// What stands against it.
    refusals: Vec<String>,
    /// What is to be told besides.
    notes: Vec<String>,
}

/// What an intent is made from.
struct Deciding<'a> {
    request: &'a Request<'a>,
    change: &'a change::Request<'a>,
    cluster: &'a Cluster,
    read: Read<'a>,
    now: Timestamp,
}

impl Deciding<'_> {
    /// What becomes of all that were asked for.
    fn intent(&self) -> Result<Intent, Error> {
        let policy = Policy {
            can_open: self.change.passwords.can_open(),
            cross_signs: self.request.cross_signs,
            ..Policy::default()
        };
        let mut intent = Intent { policy, ..Intent::default() };
        for subject in select(self.read.layout, self.request.names)? {
            match self.request.to {
                Direction::Renew => self.renew(subject, &mut intent)?,
                _ => self.go(subject, &mut intent)?,
            }
        }
        Ok(intent)
    }

    /// Gives one a new term.
    fn renew(&self, subject: Subject, intent: &mut Intent) -> Result<(), Error> {
        let id = id(self.read.layout, subject);
        match subject {
            Subject::Authority(index) => {
                intent.policy.renews.insert(index);
                intent.moves.push((id, Move::Introduce));
                Ok(())
            }
            Subject::KeyPair(_) if self.request.names.is_empty() => Ok(()),
            Subject::KeyPair(_) => Err(Error::NoTerm(id)),
        }
    }

    /// Has one go by the step that leads to where all are to go, if there is any.
    fn go(&self, subject: Subject, intent: &mut Intent) -> Result<(), Error> {
        let Read { layout, observation, .. } = self.read;
        let id = id(layout, subject);
        let stage = standing(layout, observation, subject).stage;
        let Some(step) = direction(self.request.to, stage, id, self.cluster)? else {
            if let Subject::Authority(index) = subject
                && stage != Stage::Shared
                && self.request.to == Direction::To(stage)
            {
                intent.left.insert(layout.instances[index].spec.id, Move::Split);
            }
            return Ok(());
        };
        if self.waits_for_tokens(subject, step, intent) {
            return Ok(());
        }
        intent.refusals.extend(self.nothing_to_cross(subject, step));
        intent.moves.push((id, step));
        match subject {
            Subject::Authority(index) => {
                intent.policy.succession.insert(index, step);
                if step.moves_trust() {
                    intent.trust.insert(layout.instances[index].spec.id, step);
                }
            }
            Subject::KeyPair(index) => _ = intent.policy.keys.insert(index, step),
        }
        Ok(())
    }

    /// Whether a key stays as it is, as tokens may be valid that it signed; that is noted or stands against all.
    fn waits_for_tokens(&self, subject: Subject, step: Move, intent: &mut Intent) -> bool {
        let Read { layout, observation, names } = self.read;
        if self.change.force {
            return false;
        }
        let dir = self.change.dir;
        let Some(why) = gate::tokens(layout, observation, subject, step, dir, self.now) else {
            return false;
        };
        // Whoever named none goes on with all that can, and whoever's key has leaked cannot wait.
        match names.is_empty() || self.request.compromised {
            true => intent.notes.push(why),
            false => intent.refusals.push(why),
        }
        !self.request.compromised
    }

    /// Why there is nothing that one could vouch for, where that was asked for by its name.
    fn nothing_to_cross(&self, subject: Subject, step: Move) -> Option<String> {
        let Read { layout, names, .. } = self.read;
        if !self.request.cross_signs || names.is_empty() {
            return None;
        }
        let why = match (subject, step) {
            (Subject::KeyPair(_), _) => "is a key without a certificate",
            (Subject::Authority(index), _) if layout.signs_elsewhere(index) => {
                "vouches only for what no file here shows"
            }
            (_, Move::Introduce | Move::Switch) => return None,
            _ => "loses its old generation with this step",
        };
        let id = id(layout, subject);
        Some(format!("{id}: {why}, so there is nothing to cross-sign; leave out --cross-sign"))
    }
}

fn direction(
    to: Direction,
    stage: Stage,
    id: &str,
    cluster: &Cluster,
) -> Result<Option<Move>, Error> {
    // A cluster that something else made began without a file for trust alone; what it is said to do without tells.
    let is_foreign = !cluster.absent.is_empty();
    let has_trust = !KEYS.iter().any(|spec| spec.id == id);
    let back = || match stage {
        Stage::Stable if has_trust && (is_foreign || to == Direction::To(Stage::Shared)) => {
            Some(Move::Join)
        }
        _ => Move::back(stage),
    };
    let far = |wanted: Stage| Error::Stage {
        id: id.to_owned(),
        stage: stage.name(),
        wanted: wanted.name(),
    };
    match to {
        Direction::Next => Ok(Some(Move::onward(stage))),
        Direction::Undo => Ok(back()),
        Direction::Renew => Ok(None),
        Direction::To(wanted) if wanted == stage => Ok(None),
        Direction::To(wanted) => {
            let mut moves = [Some(Move::onward(stage)), back()].into_iter().flatten();
            moves.find(|step| step.end() == wanted).map(Some).ok_or_else(|| far(wanted))
        }
    }
}

fn id(layout: &Layout<'_>, subject: Subject) -> &'static str {
    match subject {
        Subject::Authority(index) => layout.instances[index].spec.id.name(),
        Subject::KeyPair(index) => layout.key_pairs[index].id,
    }
}

/// The CAs and key pairs that names stand for; all that can be replaced if there are none.
fn select(layout: &Layout<'_>, names: &[String]) -> Result<Vec<Subject>, Error> {
    let authorities = layout.instances.iter().enumerate().filter(|(_, i)| i.spec.is_ca());
    let mut all: Vec<(&'static str, Subject)> =
        authorities.map(|(index, i)| (i.spec.id.name(), Subject::Authority(index))).collect();
    let pairs = layout.key_pairs.iter().enumerate();
    all.extend(pairs.map(|(index, spec)| (spec.id, Subject::KeyPair(index))));
    // What stands over other CAs is replaced by name only: its key is meant to be offline.
    let is_above =
        |subject: &Subject| matches!(subject, Subject::Authority(index) if layout.is_above(*index));
    // Of what has no bundle even in the catalogue, verifiers trust the CA above it.
    let is_trusted = |subject: &Subject| match subject {
        Subject::Authority(index) => has_bundle(layout, *index),
        Subject::KeyPair(_) => true,
    };
    if names.is_empty() {
        let all = all.into_iter().map(|(_, subject)| subject);
        return Ok(all.filter(|s| !is_above(s) && is_trusted(s)).collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        match all.iter().find(|(id, _)| id == name) {
            Some((_, subject)) if !chosen.contains(subject) => chosen.push(*subject),
            Some(_) => {}
            None => {
                let known = all.iter().map(|(id, _)| *id).collect();
                return Err(Error::Unknown { name: name.clone(), known });
            }
        }
    }
    Ok(chosen)
}

/// How far one has come.
fn standing(layout: &Layout<'_>, observation: &Observation, subject: Subject) -> Standing {
    let observed = &observation.observed;
    let id = id(layout, subject);
    match subject {
        Subject::Authority(index) => {
            let found = Generations::of(layout, observed, index);
            let named = [
                ("active", found.active),
                ("next", found.next),
                ("previous", found.previous),
                ("cross", observed.crossed.get(&index)),
            ];
            let mut generations: Vec<Generation> = named
                .iter()
                .filter_map(|(word, ca)| Some((*word, (*ca)?)))
                .map(|(word, ca)| Generation {
                    word,
                    name: ca.profile.subject.to_string(),
                    fingerprint: ca.fingerprint.clone(),
                    not_after: Some(ca.validity.not_after),
                })
                .collect();
            for ca in found.others() {
                if !generations.iter().any(|known| known.fingerprint == ca.fingerprint) {
                    generations.push(Generation {
                        word: "trusted",
                        name: ca.profile.subject.to_string(),
                        fingerprint: ca.fingerprint.clone(),
                        not_after: Some(ca.validity.not_after),
                    });
                }
            }
            let users = gate::signed_by_others(layout, observation, index);
            let behind = match layout.is_above(index) {
                true => Vec::new(),
                false => catch_up::behind(layout, observed, index).into_iter().collect(),
            };
            Standing { id, subject, stage: found.stage(), generations, users, behind }
        }
        Subject::KeyPair(index) => {
            let pair = &observed.key_pairs[index];
            let aside = |slot| pair.aside.get(&slot).and_then(FoundKey::present);
            let named = [
                ("active", pair.private.present()),
                ("next", aside(Slot::Next)),
                ("previous", aside(Slot::Previous)),
            ];
            let generations = named
                .iter()
                .filter_map(|(word, key)| Some((*word, (*key)?)))
                .map(|(word, key)| Generation {
                    word,
                    name: key.algorithm.to_string(),
                    fingerprint: crate::store::sha256(&key.public_key),
                    not_after: None,
                })
                .collect();
            Standing {
                id,
                subject,
                stage: pair.stage(),
                generations,
                users: vec![],
                behind: vec![],
            }
        }
    }
}

/// The ids of the key pairs that a report's plan changes.
pub fn changed_pairs(report: &Report) -> Vec<&'static str> {
    let layout = Layout::new(&report.cluster);
    let touched: BTreeMap<PathBuf, &'static str> = layout
        .key_pairs
        .iter()
        .flat_map(|spec| [(spec.private.into(), spec.id), (spec.public.into(), spec.id)])
        .collect();
    let files = report.plan.changes().flat_map(|step| step.files.iter());
    let mut ids: Vec<&'static str> = files.filter_map(|f| touched.get(f).copied()).collect();
    ids.dedup();
    ids
}
