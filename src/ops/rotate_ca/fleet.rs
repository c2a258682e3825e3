//! What becomes of all hosts: they are looked at before anything is changed, and a stage comes to them in one transaction, or
//! part by part where they are many. A stage that has not come to some of them comes there before anything else is done.

use std::{
    collections::{BTreeSet, HashSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Deciding, Direction, Intent, Read, Request, Standing, Subject, Survey, cluster, gate, select,
    split, standing_of_all,
};
use crate::{
    model::{
        authority::{Move, Stage},
        cluster::{Cluster, HostName},
        layout::Layout,
        part::{self, ClusterPart},
        plan::{Plan, Policy, Reason, obstacle::Blocked, reconcile::reconcile},
        timestamp::Timestamp,
    },
    ops::{
        change::{
            self, Decision, Error, Report,
            parts::{self, Making, Shortfall},
        },
        declared, observe,
    },
    store,
};

/// What was decided, beside the plan: by whoever decides about a part, on whichever thread.
#[derive(Default)]
pub struct Shared(Mutex<Decided>);

impl Shared {
    /// What was decided so far.
    pub fn now(&self) -> MutexGuard<'_, Decided> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was decided.
    pub fn end(self) -> Decided {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same.
#[derive(Default)]
pub struct Decided {
    /// Which goes by which step.
    pub all: Vec<(&'static str, Move)>,
    /// The settings that follow.
    pub settings: Vec<split::TrustSetting>,
    /// Nodes to which a stage has not come: then it comes to them, and nothing goes on.
    pub behind: BTreeSet<HostName>,
    /// Why nothing goes on.
    pub pause: Option<String>,
    /// What is to be told of hosts of all parts.
    pub notes: Vec<String>,
}

impl Decided {
    /// Which goes by which step, unless nothing does.
    pub fn moves(&self) -> &[(&'static str, Move)] {
        if self.pause.is_none() { &self.all } else { &[] }
    }

    /// Whether there are nodes to which a stage has not come.
    fn is_behind(&mut self, standing: &[Standing]) -> bool {
        self.behind = standing.iter().flat_map(|one| one.behind.iter().cloned()).collect();
        let late = standing.iter().filter(|one| !one.behind.is_empty());
        let late: Vec<&str> = late.map(|one| one.id).collect();
        if !late.is_empty() {
            let hosts = match self.behind.first().filter(|_| self.behind.len() == 1) {
                Some(host) => host.to_string(),
                None => format!("{} nodes", self.behind.len()),
            };
            let late = late.join(", ");
            self.pause = Some(format!(
                "{late}: the stage had not come to {hosts}, which get it now: {}",
                change::THEN
            ));
        }
        !self.behind.is_empty()
    }
}

/// A cluster, and what is asked of it.
pub struct Fleet<'a> {
    /// What is wanted.
    pub request: &'a Request<'a>,
    /// How it is made.
    pub change: &'a change::Request<'a>,
    /// All of it.
    pub whole: &'a Cluster,
    /// What was found in the cluster, where that was looked into.
    pub found: Option<&'a Survey>,
}

impl Fleet<'_> {
    /// Makes the change: of a cluster of many nodes part by part, unless it moves what all parts have to know at once.
    pub fn go(
        &self,
        decided: &Shared,
        mut told: impl FnMut(Report, bool),
    ) -> Result<Shortfall, Error> {
        let change = self.change;
        let all = |now| self.decide(&ClusterPart::whole(declared::load(change.dir)?), now, decided);
        // What another run had decided is finished first, and then nothing but what that left.
        let left = store::pending(change.dir)?.is_some_and(|left| left.is_left() && left.decided);
        let is_in_parts = !part::is_one(self.whole)
            && match left && !change.dry_run {
                true => true,
                false => {
                    let mut decided = decided.now();
                    self.look(&mut decided, change.now)?;
                    !decided.behind.is_empty() || self.is_in_parts(&decided.all)
                }
            };
        if !is_in_parts {
            *decided.now() = Decided::default();
            told(change::run(change, all)?, true);
            return Ok(Shortfall::default());
        }
        let making = Making {
            decide: |part: &ClusterPart, now| self.decide(part, now, decided),
            confirm: || {
                if declared::load(change.dir)? != *self.whole {
                    return Err(Error::Redeclared(change.dir.join(declared::FILE)));
                }
                let mut now = decided.now();
                let before = mem::take(&mut *now);
                now.pause = left.then(change::finished);
                self.look(&mut now, change.now)?;
                match left || before.all == now.all && before.behind == now.behind {
                    true => Ok(()),
                    false => Err(Error::Gates(vec![ELSEWHERE.to_owned()])),
                }
            },
            concerns: |part: &ClusterPart| {
                let Decided { behind, pause, .. } = &*decided.now();
                let mut hosts = part.cluster.hosts.iter();
                pause.is_none() || part.is_first || hosts.any(|host| behind.contains(&host.name))
            },
        };
        let change = change::Request { pauses: false, ..change.clone() };
        parts::run(self.whole, &change, &making, told)
    }

    /// Whether these go part by part. What moves trust to another file, or a root, is one decision of everybody's.
    fn is_in_parts(&self, moves: &[(&'static str, Move)]) -> bool {
        let core = part::core(self.whole);
        let layout = Layout::new(&core);
        let is_above = |id: &str| {
            let mut all = layout.instances.iter().enumerate();
            all.any(|(at, one)| one.spec.id.name() == id && layout.is_above(at))
        };
        self.request.to != Direction::Renew
            && moves.iter().all(|(id, step)| !step.moves_trust() && !is_above(id))
    }

    /// Looks at all hosts: whether a stage has not come to some, and else what stands against going on.
    fn look(&self, decided: &mut Decided, now: Timestamp) -> Result<(), Error> {
        let (mut refusals, mut blocked) = (Vec::new(), Vec::new());
        let mut shown = gate::FileCertificates::default();
        let (dir, names) = (self.change.dir, self.request.names);
        let standing = standing_of_all(self.whole, dir, names, |part, read, standing, is_last| {
            if standing.iter().any(|one| !one.behind.is_empty()) {
                blocked.extend(self.catch_up(read, now)?.blocked.iter().map(why));
            }
            let intent = self.deciding(&part.cluster, read, now).intent()?;
            let search = self.search(&part.cluster, read);
            let new = search.seen(&intent.left).into_iter();
            let new = new.filter(|one| !decided.settings.contains(one)).collect::<Vec<_>>();
            decided.settings.extend(new);
            if !self.change.force && self.is_in_parts(&intent.moves) {
                shown.add(read.observation);
                let of_all = is_last.then_some((self.whole, &shown));
                let [against, told] = self.pass(&search, &intent.policy, &[], of_all, now);
                refusals.extend(against);
                decided.notes.extend(told);
            }
            if part.is_first {
                decided.all = intent.moves;
            }
            Ok(())
        })?;
        let mut once = HashSet::new();
        decided.notes.retain(|note| once.insert(note.clone()));
        refusals.retain(|why: &String| once.insert(why.clone()));
        let against = match (decided.is_behind(&standing), decided.pause.is_some()) {
            (true, _) => blocked,
            (false, true) => Vec::new(),
            (false, false) => refusals,
        };
        match against.is_empty() {
            true => Ok(()),
            false => Err(Error::Gates(against)),
        }
    }

    fn deciding<'r>(
        &'r self,
        cluster: &'r Cluster,
        read: Read<'r>,
        now: Timestamp,
    ) -> Deciding<'r> {
        Deciding { request: self.request, change: self.change, cluster, read, now }
    }

    fn search<'r>(&'r self, after: &'r Cluster, read: Read<'r>) -> split::Search<'r> {
        let Read { layout, observation, .. } = read;
        split::Search { layout, after, observation, dir: self.change.dir }
    }

    /// What nodes are to have that are behind.
    fn catch_up(&self, read: Read<'_>, now: Timestamp) -> Result<Plan, Error> {
        let Read { layout, observation, names } = read;
        let of = |subject| match subject {
            Subject::Authority(index) => Some(index),
            Subject::KeyPair(_) => None,
        };
        let policy = Policy {
            can_open: self.change.passwords.can_open(),
            catches_up: select(layout, names)?.into_iter().filter_map(of).collect(),
            ..Policy::default()
        };
        Ok(reconcile(layout, &observation.observed, self.change.dir, &policy, now))
    }

    /// What stands against these moves in what was read, and in all of the cluster once that was; and what breaks with
    /// them, where nobody is waited for.
    fn pass(
        &self,
        search: &split::Search<'_>,
        policy: &Policy,
        settings: &[split::TrustSetting],
        of_all: Option<(&Cluster, &gate::FileCertificates)>,
        now: Timestamp,
    ) -> [Vec<String>; 2] {
        let split::Search { layout, observation, dir, .. } = *search;
        let gates = gate::Gates { layout, observation, request: self.request, dir, now };
        let ask = |policy: &Policy| {
            let mut refusals = gates.of_files(policy);
            refusals.extend(
                of_all.into_iter().flat_map(|(all, shown)| gates.of_all(policy, all, shown)),
            );
            refusals
        };
        let [mut against, told] = match self.request.compromised {
            // Whoever has the key is stopped by this step alone, and everybody who needs it is told instead.
            true => [
                ask(&policy.only(|step| step != Move::Drop)),
                ask(&policy.only(|step| step == Move::Drop)),
            ],
            false => [ask(policy), Vec::new()],
        };
        against.extend(gate::named_for_trust(search, policy, settings));
        [against, told.iter().map(|why| breaks(why)).collect()]
    }

    /// What becomes of a part of the cluster, or of all of it.
    fn decide(
        &self,
        part: &ClusterPart,
        now: Timestamp,
        decided: &Shared,
    ) -> Result<Decision, Error> {
        let Self { request, change, .. } = *self;
        let (dir, cluster) = (change.dir, &part.cluster);
        let layout = Layout::new(cluster);
        let observation = observe::observe(&layout, dir);
        let read = Read { layout: &layout, observation: &observation, names: request.names };
        let mut decided = decided.now();
        if part.is_whole {
            decided.is_behind(&read.standing()?);
        }
        // Once the CAs' own files are as they will be, they alone say what nodes are to have.
        if decided.pause.is_some() || !part.is_first && !change.dry_run {
            let pause = decided.pause.clone();
            // Others may look meanwhile.
            drop(decided);
            let mut plan = self.catch_up(read, now)?;
            plan.notes.extend(pause);
            let refusals: Vec<String> = plan.blocked.iter().map(why).collect();
            return match refusals.is_empty() {
                true => Ok(Decision { cluster: cluster.clone(), observation, plan }),
                false => Err(Error::Gates(refusals)),
            };
        }
        let intent = self.deciding(cluster, read, now).intent()?;
        let Intent { moves, mut policy, trust, left, mut refusals, notes } = intent;
        if !decided.all.is_empty() && decided.all != moves {
            return Err(Error::Gates(vec![ELSEWHERE.to_owned()]));
        }
        decided.all = moves;
        let clusters = split::Clusters::new(cluster, &trust);
        if clusters.after != *cluster {
            let reason = Reason::Stage(Stage::Stable);
            match clusters.declaration(dir) {
                Ok(text) => policy.declaration = Some(declared::new(text, reason)),
                Err(why) => refusals.push(why),
            }
        }
        let layout = Layout::new(&clusters.between);
        let observation = match clusters.between == *cluster {
            true => observation,
            false => observe::observe(&layout, dir),
        };
        let mut plan = reconcile(&layout, &observation.observed, dir, &policy, now);
        plan.notes.extend(notes);
        plan.notes.append(&mut decided.notes);
        let drops = |step: Move| step == Move::Drop;
        let is_evidence_given = !request.audit_logs.is_empty() || !request.certificates.is_empty();
        if is_evidence_given && policy.only(drops).succession.is_empty() {
            let note = "--audit-log and --certificate say who still uses an old CA: they are looked at when it is \
                        dropped, not in this step";
            plan.notes.push(note.to_owned());
        }
        let search = split::Search {
            layout: &layout,
            after: &clusters.after,
            observation: &observation,
            dir,
        };
        if part.is_whole {
            decided.settings = search.all(&trust);
            decided.settings.extend(search.seen(&left));
        }
        if request.manifests && part.is_first {
            // Last: a pod that starts anew reads what they name.
            plan.steps.extend(search.rewrite(&mut decided.settings, &mut refusals));
        }
        if !change.force {
            if part.is_whole {
                let mut shown = gate::FileCertificates::default();
                shown.add(&observation);
                let of_all = Some((cluster, &shown));
                let [against, told] = self.pass(&search, &policy, &decided.settings, of_all, now);
                refusals.extend(against);
                plan.notes.extend(told);
            }
            let rest = policy.only(|step| !drops(step));
            plan.accepts_broken =
                request.compromised && rest.succession.is_empty() && rest.keys.is_empty();
            if let Some(found) = self.found {
                let [stand, needs] = of_the_cluster(found, &decided.all);
                refusals.extend(stand);
                match request.compromised {
                    true => plan.notes.extend(needs.iter().map(|why| breaks(why))),
                    false => refusals.extend(needs),
                }
            }
        }
        refusals.extend(plan.blocked.iter().map(why));
        match refusals.is_empty() {
            true => Ok(Decision { cluster: clusters.after, observation, plan }),
            false => Err(Error::Gates(refusals)),
        }
    }
}

/// What stands against it where another run was faster.
const ELSEWHERE: &str = "another certkit went on meanwhile";

/// What is due and cannot be done, as something that stands against all.
fn why(blocked: &Blocked) -> String {
    format!("{}: {}", blocked.label, blocked.obstacle)
}

/// What is told, where nobody is waited for.
fn breaks(why: &str) -> String {
    format!("breaks with this step: {why}")
}

/// What of the cluster's copies stands against having the next one issue, and what against dropping the old one.
fn of_the_cluster(found: &Survey, moves: &[(&'static str, Move)]) -> [Vec<String>; 2] {
    let Survey { copies, failed } = found;
    let goes = |id: &str, by: Move| moves.iter().any(|(of, step)| *of == id && *step == by);
    let mut needs = cluster::refusals(copies, &|id| goes(id, Move::Drop));
    needs.extend(failed.iter().cloned());
    [cluster::refusals(copies, &|id| goes(id, Move::Switch)), needs]
}
