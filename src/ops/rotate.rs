//! `certkit rotate`: renews the leaves that are due, in one transaction.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    apply::{self, Template},
    declared, log, machine, observe,
    observe::Observation,
    takeup::Served,
};
use crate::{
    model::{
        adopt,
        cluster::Cluster,
        duration::{Span, Threshold},
        layout::{Layout, Place},
        plan::{
            Action, KeyChoice, Plan, Reason,
            rotate::{self, Rotation, Selection},
        },
        timestamp::Timestamp,
    },
    store::{self, Backup, Store},
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
    /// How many backups to keep.
    pub backups: usize,
}

/// What was done, or would be.
#[derive(Debug)]
pub struct Report {
    /// The cluster: as declared, or everything that may be in place.
    pub cluster: Cluster,
    /// Whether certkit.yaml declares it.
    pub declared: bool,
    /// What was planned, and what stood against it.
    pub rotation: Rotation,
    /// The certificates that were issued; none in a dry run.
    pub issued: Vec<apply::Record>,
    /// Certificates whose term was cut to their CA's: label and end.
    pub clamped: Vec<(String, Timestamp)>,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What listeners should serve from now on.
    pub served: Vec<Served>,
    /// Where replaced files were copied to.
    pub backup: Option<PathBuf>,
    /// Backups that are gone because there are newer ones enough.
    pub pruned: Vec<PathBuf>,
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
    /// There is nothing to go back to.
    #[error("{}: there is no backup to go back to", .0.display())]
    NoBackup(PathBuf),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Apply(error) => error.hint(),
            Self::Authority(_) => Some(
                "replacing a CA is a change of trust everywhere; certkit does not do it yet".into(),
            ),
            Self::Declared(error) => error.hint(),
            Self::NoBackup(_) => {
                Some("backups are made by every change, and kept as --backups says".into())
            }
            Self::NoDirectory(_) => Some("name the PKI's directory with --dir".into()),
            Self::Store(error) => error.hint(),
            Self::Unknown { known, .. } => Some(format!("use one of {}", known.join(", "))),
        }
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Authority(_) | Self::Unknown { .. })
    }
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
    let (cluster, declared) = cluster(dir)?;
    let layout = Layout::new(&cluster);
    let observation = observe::observe(&layout, dir);
    let rotation = plan(&layout, &observation, request, request.now)?;
    let left = store::pending(dir)?.filter(|p| p.decided || p.staged);
    if request.dry_run || (rotation.plan.is_empty() && left.is_none()) {
        let recovered = left.map(|_| "an earlier run did not finish".to_owned());
        return Ok(report(cluster, declared, rotation, &observation, recovered));
    }
    let start = Instant::now();
    if !rotation.plan.is_empty() {
        std::thread::sleep(request.jitter);
    }
    let mut store = Store::open(dir, request.lock_wait)?;
    // Waiting may have taken an hour.
    let waited = i64::try_from(start.elapsed().as_secs()).unwrap_or_default();
    let now = request.now.plus(Span(waited));
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let earlier = observation;
    let (cluster, declared) = self::cluster(dir)?;
    let layout = Layout::new(&cluster);
    let observation = observe::observe(&layout, dir);
    let mut rotation = plan(&layout, &observation, request, now)?;
    // Another run that was faster did this one's work.
    drop_renewed(&mut rotation.plan, &earlier, &observation);
    if rotation.plan.is_empty() {
        return Ok(report(cluster, declared, rotation, &observation, recovered));
    }
    let template = if declared { Template::Declared } else { Template::InPlace };
    let mut report = report(cluster, declared, rotation, &observation, recovered);
    let plan = &report.rotation.plan;
    let mut prepared =
        apply::prepare(plan, &Layout::new(&report.cluster), observation, dir, now, template)?;
    for record in &prepared.issued {
        prepared.transaction.log(log::certificate("rotate", "issue", record, now));
    }
    for step in plan.changes().filter(|s| matches!(s.action, Action::Request { .. })) {
        prepared.transaction.log(log::step("rotate", "request", step, now));
    }
    let committed = store.commit(prepared.transaction)?;
    report.pruned = store.prune_backups(request.backups)?;
    report.served = prepared.issued.iter().map(Served::from).collect();
    report.issued = prepared.issued;
    report.clamped = prepared.clamped;
    report.backup = committed.backup;
    Ok(report)
}

fn plan(
    layout: &Layout<'_>,
    observation: &Observation,
    request: &Request<'_>,
    now: Timestamp,
) -> Result<Rotation, Error> {
    let selection = match (request.names, request.all) {
        ([], true) => Selection::All,
        ([], false) => Selection::Due,
        (names, _) => Selection::Named(select(layout, observation, request.dir, names)?),
    };
    let request = rotate::Request {
        selection,
        within: request.within,
        key: request.key,
        csr_only: request.csr_only,
        now,
    };
    Ok(rotate::plan(layout, &observation.inventory, &request))
}

fn select(
    layout: &Layout<'_>,
    observation: &Observation,
    dir: &Path,
    names: &[String],
) -> Result<std::collections::BTreeSet<usize>, Error> {
    let instances = &layout.instances;
    let places: Vec<Place> =
        observation.inventory.instances.iter().map(|o| o.place.clone()).collect();
    let mut selected = std::collections::BTreeSet::new();
    for name in names {
        // A file may be named as the shell completes it.
        let inside = Path::new(name).strip_prefix(dir).ok().and_then(Path::to_str);
        let found = rotate::find(instances, &places, inside.unwrap_or(name));
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

/// Keeps what another run has renewed since this one looked first.
fn drop_renewed(plan: &mut Plan, earlier: &Observation, now: &Observation) {
    let fingerprint = |observation: &Observation, index: usize| {
        let observed = observation.inventory.instances.get(index)?;
        Some(observed.certificate()?.fingerprint.clone())
    };
    for step in &mut plan.steps {
        if let Action::Issue { instance, .. } = step.action
            && fingerprint(earlier, instance) != fingerprint(now, instance)
        {
            (step.action, step.reason) = (Action::Keep, Reason::Right);
        }
    }
}

fn report(
    cluster: Cluster,
    declared: bool,
    rotation: Rotation,
    observation: &Observation,
    recovered: Option<String>,
) -> Report {
    Report {
        cluster,
        declared,
        rotation,
        issued: vec![],
        clamped: vec![],
        places: observation.inventory.instances.iter().map(|o| o.place.clone()).collect(),
        served: vec![],
        backup: None,
        pruned: vec![],
        recovered,
    }
}

/// What going back did, or would do.
#[derive(Debug)]
pub struct Rollback {
    /// The cluster.
    pub cluster: Cluster,
    /// The backup that was restored.
    pub restored: Backup,
    /// The backup of what was replaced by it: restoring that undoes it.
    pub backup: Option<PathBuf>,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What listeners should serve from now on.
    pub served: Vec<Served>,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
}

/// Brings back what the last change replaced, as a change of its own.
pub fn roll_back(request: &Request<'_>) -> Result<Rollback, Error> {
    let (dir, now) = (request.dir, request.now);
    let (cluster, _) = cluster(dir)?;
    let layout = Layout::new(&cluster);
    let mut store = Store::open(dir, request.lock_wait)?;
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let before = observe::observe(&layout, dir);
    let last = store.backups()?.pop().ok_or_else(|| Error::NoBackup(dir.to_path_buf()))?;
    let mut transaction = store.restore(&last)?.named(&now.to_compact());
    let files: Vec<&Path> = last.files.iter().map(|entry| entry.path.as_path()).collect();
    transaction.log(
        serde_json::json!({
            "time": now.to_string(),
            "command": "rotate",
            "action": "restore",
            "name": last.id,
            "files": files,
            "reason": "asked for",
        })
        .to_string(),
    );
    let mut backup = None;
    if !request.dry_run {
        backup = store.commit(transaction)?.backup;
        store.prune_backups(request.backups)?;
    }
    // What was restored may be what is declared, too.
    let (cluster, _) = self::cluster(dir)?;
    let layout = Layout::new(&cluster);
    let after = observe::observe(&layout, dir);
    let served = served(&before, &after);
    let places = after.inventory.instances.iter().map(|o| o.place.clone()).collect();
    Ok(Rollback { cluster, restored: last, backup, places, served, recovered })
}

/// The leaves that are others than before.
fn served(before: &Observation, after: &Observation) -> Vec<Served> {
    let instances = after.inventory.instances.iter().enumerate();
    instances
        .filter_map(|(index, observed)| {
            let now = observed.certificate()?;
            let then = before.inventory.instances.get(index).and_then(|o| o.certificate());
            let changed = then.is_none_or(|then| then.fingerprint != now.fingerprint);
            changed.then(|| Served {
                instance: index,
                fingerprint: now.fingerprint.clone(),
                serial: now.serial.clone(),
            })
        })
        .collect()
}
