//! `certkit rotate`: renews the leaves that are due, in one transaction.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    apply, declared, log, machine, observe,
    observe::Observation,
    password::Passwords,
    prune,
    session::{self, Aftermath},
    takeup::Served,
    verify::narrowing::{self, Broken},
};
use crate::{
    document,
    model::{
        adopt,
        cluster::Cluster,
        duration::{Span, Threshold},
        layout::{Layout, Place},
        plan::{
            Action, KeyChoice, Plan, Policy, Reason, Renewal, Selection, Step,
            credential::find,
            kubeconfig::{former_endpoints, former_service_notes},
            obstacle::{Blocked, Obstacle},
            reconcile::reconcile,
        },
        san::San,
        timestamp::Timestamp,
    },
    store::{self, Recovery},
};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// The names of leaves; all if there are none.
    pub names: &'a [String],
    /// Renew whatever the time.
    pub all: bool,
    /// How near to its end is due.
    pub within: Option<Threshold>,
    /// Which key new certificates get, whatever the catalogue says.
    pub key: Option<KeyChoice>,
    /// Requests instead of certificates.
    pub csr_only: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The time to issue at.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How long to wait at most before something due is renewed.
    pub jitter: Duration,
    /// Also do what breaks a path that works now.
    pub force: bool,
    /// How many backups to keep.
    pub backups: usize,
    /// What opens CA keys that are encrypted.
    pub passwords: &'a Passwords,
}

/// What was done, or would be.
#[derive(Debug)]
pub struct Report {
    /// The cluster: as declared, or everything that may be in place.
    pub cluster: Cluster,
    /// Whether certkit.yaml declares it.
    pub declared: bool,
    /// What was planned, and what stood against it.
    pub plan: Plan,
    /// The certificates that were issued; none in a dry run.
    pub issued: Vec<apply::Record>,
    /// Certificates whose term was cut to their CA's: label and end.
    pub clamped: Vec<(String, Timestamp)>,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What listeners should serve from now on.
    pub served: Vec<Served>,
    /// Whose kubeconfigs dial or trust something else from now on.
    pub amended: Vec<usize>,
    /// What the change left behind.
    pub aftermath: Aftermath,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be made.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// certkit.yaml cannot be read.
    #[error(transparent)]
    Declared(#[from] declared::Error),
    /// There is no such directory.
    #[error("{}: there is no such directory", .0.display())]
    NoDirectory(PathBuf),
    /// A name that stands for nothing.
    #[error("`{name}` is no certificate's name")]
    Unknown {
        /// The name.
        name: String,
        /// Those there are.
        known: Vec<&'static str>,
    },
    /// A CA is not renewed but replaced.
    #[error("`{0}` is a CA, which `certkit rotate` does not touch")]
    Authority(String),
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// certkit.yaml must name former endpoints, and is written in a way that a line cannot be added to.
    #[error("{}: must say formerEndpoints: [{}]", path.display(), names.join(", "))]
    FormerEndpoints {
        /// certkit.yaml.
        path: PathBuf,
        /// What it must name.
        names: Vec<String>,
    },
    /// Nothing is declared, and nothing is there.
    #[error("{}: there is nothing of a cluster's PKI in this directory", .0.display())]
    Nothing(PathBuf),
}

impl Error {
    /// Whether the change is decided, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_decided())
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Apply(error) => error.hint(),
            Self::Authority(_) => Some(
                "replacing a CA is a change of trust everywhere; certkit does not do it yet".into(),
            ),
            Self::Declared(error) => error.hint(),
            Self::FormerEndpoints { .. } => Some(
                "something still dials them: add that line, so that the API's certificates keep these \
                 names; nothing was changed"
                    .into(),
            ),
            Self::NoDirectory(_) => Some("name the PKI's directory with --dir".into()),
            Self::Nothing(dir) => Some(elsewhere(dir)),
            Self::Store(error) => error.hint(),
            Self::Unknown { known, .. } => Some(format!(
                "use one of {}; any other certificate is renewed by its file, with --ca FILE",
                known.join(", ")
            )),
        }
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Authority(_) | Self::Unknown { .. })
    }
}

/// What to do where nothing is where certkit knows it to be.
pub fn elsewhere(dir: &Path) -> String {
    format!(
        "name the PKI's directory with --dir; of another layout, as k3s' or one made by hand: \
         `certkit check-expiration -r {}`, `certkit rotate FILE --ca FILE`",
        dir.display()
    )
}

/// The cluster that DIR declares, or every row of the catalogue where it declares none.
pub fn cluster(dir: &Path) -> Result<(Cluster, bool), Error> {
    if let Some(cluster) = declared::find(dir)? {
        return Ok((cluster, true));
    }
    if !dir.is_dir() {
        return Err(Error::NoDirectory(dir.to_path_buf()));
    }
    Ok((undeclared(dir), false))
}

/// Everything that may be in DIR, on this machine.
pub fn undeclared(dir: &Path) -> Cluster {
    let mut cluster = adopt::anything(machine::host_name());
    cluster.single_root = dir.join("pki/root-ca.crt").exists();
    cluster
}

/// Renews what is due, or says what would be. Where nothing is due, nothing on disk is touched, not even
/// the lock.
pub fn run(request: &Request<'_>) -> Result<Report, Error> {
    let dir = request.dir;
    let mut work = Work::look(request, request.now)?;
    let left = store::pending(dir)?.filter(|p| p.decided || p.staged);
    if request.dry_run || (work.plan.is_empty() && left.is_none()) {
        work.make(request, request.now)?;
        return Ok(work.report(session::left(dir)?));
    }
    let start = Instant::now();
    if !work.plan.is_empty() {
        std::thread::sleep(request.jitter);
    }
    let mut store = session::open(dir, request.lock_wait)?;
    // Waiting may have taken an hour.
    let waited = i64::try_from(start.elapsed().as_secs()).unwrap_or_default();
    let now = request.now.plus(Span(waited));
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let earlier = work.fingerprints();
    let mut work = Work::look(request, now)?;
    // Another run that was faster did this one's work.
    work.drop_renewed(&earlier);
    let owed = work.observation.as_ref();
    let owed = owed.map(|o| owed_by(dir, o, store.recovered().as_ref())).unwrap_or_default();
    let prepared = work.make(request, now)?;
    let mut report = work.report(recovered);
    let Some(mut prepared) = prepared.filter(|_| !report.plan.is_empty()) else {
        return Ok(Report { served: owed, ..report });
    };
    for record in &prepared.issued {
        prepared.transaction.log(log::certificate("rotate", "issue", record, now));
    }
    for step in report.plan.changes() {
        let action = match step.action {
            Action::Request(_) => "request",
            Action::Amend(_) | Action::Declare(_) => "update",
            _ => continue,
        };
        prepared.transaction.log(log::step("rotate", action, step, now));
    }
    let committed = store.commit(prepared.transaction)?;
    report.aftermath = session::conclude(&mut store, committed, request.backups);
    report.served = prepared.issued.iter().map(Served::from).collect();
    add_owed(&mut report.served, owed);
    report.amended = amended(&report.plan);
    report.clamped = prepared.clamped;
    report.issued = prepared.issued;
    Ok(report)
}

/// The leaves that an interrupted run put in place, or this one for it: nobody has taken them up.
pub fn owed_by(dir: &Path, observation: &Observation, recovered: Option<&Recovery>) -> Vec<Served> {
    let changed = recovered.map(Recovery::changed).unwrap_or_default();
    let instances = observation.observed.instances.iter().enumerate();
    instances
        .filter(|(_, observed)| {
            let files = observed.place.files();
            files.iter().any(|file| changed.contains(&dir.join(file)))
        })
        .filter_map(|(instance, observed)| {
            let certificate = observed.certificate()?;
            let (fingerprint, serial) =
                (certificate.fingerprint.clone(), certificate.serial.clone());
            Some(Served { instance, fingerprint, serial })
        })
        .collect()
}

/// Adds what is owed to what this run itself changed, which comes before.
pub fn add_owed(served: &mut Vec<Served>, owed: Vec<Served>) {
    let is_new = |one: &Served| served.iter().all(|other| other.instance != one.instance);
    let mut owed: Vec<Served> = owed.into_iter().filter(|one| is_new(one)).collect();
    served.append(&mut owed);
    served.sort_by_key(|one| one.instance);
}

/// What was found, and what follows from it.
struct Work {
    cluster: Cluster,
    declared: bool,
    observation: Option<Observation>,
    places: Vec<Place>,
    plan: Plan,
}

impl Work {
    fn look(request: &Request<'_>, now: Timestamp) -> Result<Self, Error> {
        let dir = request.dir;
        let (cluster, declared) = cluster(dir)?;
        let layout = Layout::new(&cluster);
        let observation = observe::observe(&layout, dir);
        if !declared && adopt::is_empty(&observation.observed) {
            return Err(Error::Nothing(dir.to_path_buf()));
        }
        let (cluster, text) = with_former_endpoints(&cluster, &layout, &observation, dir)?;
        let mut plan = plan(&Layout::new(&cluster), &observation, request, text, now)?;
        withhold(&mut plan, &observation, dir, now)?;
        if declared {
            plan.notes.extend(former_service_notes(&layout, &observation.observed));
            plan.notes.extend(prune::notes(&cluster, dir));
        }
        let places = observation.places();
        Ok(Self { cluster, declared, observation: Some(observation), places, plan })
    }

    /// The fingerprint of each instance's certificate.
    fn fingerprints(&self) -> Vec<Option<String>> {
        let instances = self.observation.iter().flat_map(|o| &o.observed.instances);
        instances.map(|observed| Some(observed.certificate()?.fingerprint.clone())).collect()
    }

    /// Keeps what another run has renewed since this one looked first.
    fn drop_renewed(&mut self, earlier: &[Option<String>]) {
        let now = self.fingerprints();
        for step in &mut self.plan.steps {
            if let Action::Issue(order) = &step.action
                && earlier.get(order.instance) != now.get(order.instance)
            {
                step.drop();
            }
        }
    }

    /// Makes in memory what the plan says, and takes out of both what would break a path that works: a dry
    /// run's plan is the one that runs.
    fn make(
        &mut self,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<Option<apply::Prepared>, Error> {
        let Some(observation) = self.observation.take().filter(|_| !self.plan.is_empty()) else {
            return Ok(None);
        };
        let layout = Layout::new(&self.cluster);
        let plan = &self.plan;
        let (dir, passwords) = (request.dir, request.passwords);
        let mut prepared = apply::prepare(plan, &layout, observation, dir, now, passwords)?;
        if !request.force {
            let judge = Judge { layout: &layout, declared: self.declared, dir: request.dir, now };
            judge.withhold(&mut self.plan, &mut prepared);
        }
        Ok(Some(prepared))
    }

    fn report(self, recovered: Option<String>) -> Report {
        Report {
            cluster: self.cluster,
            declared: self.declared,
            plan: self.plan,
            issued: vec![],
            clamped: vec![],
            places: self.places,
            served: vec![],
            amended: vec![],
            aftermath: Aftermath::default(),
            recovered,
        }
    }
}

/// The cluster with the former endpoints that something still dials, and certkit.yaml's text where it does
/// not name them yet.
fn with_former_endpoints(
    cluster: &Cluster,
    layout: &Layout<'_>,
    observation: &Observation,
    dir: &Path,
) -> Result<(Cluster, Option<String>), Error> {
    let mut cluster = cluster.clone();
    let former = match observation.observed.declared {
        true => former_endpoints(layout, &observation.observed),
        false => Vec::new(),
    };
    if former == cluster.former_endpoints || former.is_empty() {
        return Ok((cluster, None));
    }
    let text = declared::text(dir)?;
    let Some(text) = document::with_former_endpoints(&text, &former) else {
        let names = former.iter().map(San::to_string).collect();
        return Err(Error::FormerEndpoints { path: dir.join(declared::FILE), names });
    };
    cluster.former_endpoints = former;
    Ok((cluster, Some(text)))
}

/// Judges what a change would do to paths that work.
struct Judge<'a> {
    layout: &'a Layout<'a>,
    declared: bool,
    dir: &'a Path,
    now: Timestamp,
}

impl Judge<'_> {
    /// Takes out of a change what would break a path that works now, until nothing would.
    fn withhold(&self, plan: &mut Plan, prepared: &mut apply::Prepared) {
        let Judge { layout, declared, dir, now } = *self;
        // Each round takes a step out, so there are no more rounds than steps.
        for _ in 0..=plan.steps.len() {
            let broken =
                narrowing::broken(layout.cluster, declared, dir, &prepared.transaction, now);
            let mut any = false;
            for Broken { path, blamed: (id, root), waits_for } in broken {
                let Some(index) = layout.at(id, &root) else { continue };
                let remedy = match waits_for {
                    Some(component) => format!(
                        "restart {component} everywhere, so that it reads what its files say now, then \
                         run this again"
                    ),
                    None => "mend what the path names, or say --force".to_owned(),
                };
                // A credential and what else changes in its kubeconfig may be one write: both or neither.
                let steps = plan.steps.iter_mut().enumerate();
                for (number, step) in steps.filter(|(_, step)| step.instance() == Some(index)) {
                    any = true;
                    prepared.withhold(number, step);
                    let due = Some(step.drop());
                    let (label, file) = (step.label.clone(), step.files[0].clone());
                    let obstacle = Obstacle::Narrows { path: path.clone(), remedy: remedy.clone() };
                    plan.blocked.push(Blocked { label, file, due, expired: false, obstacle });
                }
            }
            if !any {
                return;
            }
        }
    }
}

/// The instances whose kubeconfigs are brought up to date.
fn amended(plan: &Plan) -> Vec<usize> {
    let of = |step: &Step| match &step.action {
        Action::Amend(kubeconfig) => Some(kubeconfig.instance),
        _ => None,
    };
    plan.steps.iter().filter_map(of).collect()
}

fn plan(
    layout: &Layout<'_>,
    observation: &Observation,
    request: &Request<'_>,
    declaration: Option<String>,
    now: Timestamp,
) -> Result<Plan, Error> {
    let selection = match (request.names, request.all) {
        ([], true) => Selection::All,
        ([], false) => Selection::Due,
        (names, _) => Selection::Named(select(layout, observation, request.dir, names)?),
    };
    let policy = Policy {
        declaration: declaration.map(|text| (text, Reason::Dialled)),
        completes: false,
        renewal: Some(Renewal {
            selection,
            within: request.within,
            key: request.key,
            csr_only: request.csr_only,
        }),
        can_open: request.passwords.can_open(),
    };
    Ok(reconcile(layout, &observation.observed, request.dir, &policy, now))
}

/// Takes back what is not for certkit to change: a file elsewhere, or behind a link to elsewhere, stands in no
/// other's way. What the system will not let be changed is an error before anything is, and a dry run says the same
/// as the run.
fn withhold(
    plan: &mut Plan,
    observation: &Observation,
    dir: &Path,
    now: Timestamp,
) -> Result<(), Error> {
    let files = plan.changes().flat_map(|step| step.files.iter());
    let files: Vec<PathBuf> = files.map(|file| apply::destination(dir, file)).collect();
    let refused = session::refusals(dir, files.iter().map(PathBuf::as_path))?;
    let (fatal, refused): (Vec<_>, Vec<_>) = refused
        .into_iter()
        .partition(|(_, error)| matches!(error, store::Error::Unchangeable { .. }));
    if let Some((_, error)) = fatal.into_iter().next() {
        return Err(error.into());
    }
    let refusal = |step: &Step| {
        let mut files = step.files.iter().map(|file| (file, apply::destination(dir, file)));
        files.find_map(|(file, real)| {
            refused.iter().find(|(path, _)| *path == real).map(|(_, error)| (file.clone(), error))
        })
    };
    for step in &mut plan.steps {
        let Some(instance) = step.instance() else { continue };
        let Some((file, error)) = refusal(step) else { continue };
        let end = observation.observed.instances[instance].certificate();
        let due = Some(step.drop());
        plan.blocked.push(Blocked {
            label: step.label.clone(),
            file: file.clone(),
            due,
            expired: end.is_some_and(|certificate| certificate.validity.not_after < now),
            obstacle: Obstacle::Broken {
                file,
                why: session::why(error),
                hint: error.hint().unwrap_or_else(|| "mend that, then run it again".into()),
            },
        });
    }
    Ok(())
}

fn select(
    layout: &Layout<'_>,
    observation: &Observation,
    dir: &Path,
    names: &[String],
) -> Result<std::collections::BTreeSet<usize>, Error> {
    let instances = &layout.instances;
    let places = observation.places();
    let mut selected = std::collections::BTreeSet::new();
    for name in names {
        // A file may be named as the shell completes it.
        let inside = Path::new(name).strip_prefix(dir).ok().and_then(Path::to_str);
        let found = find(instances, &places, inside.unwrap_or(name));
        if found.is_empty() {
            let leaves = instances.iter().filter(|i| !i.spec.is_ca()).map(|i| i.spec.id);
            let mut known: Vec<&'static str> = leaves.collect();
            known.dedup();
            return Err(Error::Unknown { name: name.clone(), known });
        }
        if found.iter().any(|index| instances[*index].spec.is_ca()) {
            return Err(Error::Authority(name.clone()));
        }
        selected.extend(found);
    }
    Ok(selected)
}
