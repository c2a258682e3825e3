//! `certkit rotate --rollback`: brings back what a change replaced, as a change of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    change,
    observe::{self, Observation},
    rotate,
    session::{self, Aftermath},
    takeup::Served,
};
use crate::{
    model::{
        cluster::Cluster,
        layout::{Layout, Place},
        timestamp::Timestamp,
    },
    store::{self, Backup},
};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How many backups to keep.
    pub backups: usize,
}

/// Why nothing was brought back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be known whose files these are.
    #[error(transparent)]
    Cluster(#[from] change::Error),
    /// There is nothing to go back to.
    #[error("{}: there is no backup to go back to", .0.display())]
    NoBackup(PathBuf),
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether the change is decided, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_decided())
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::NoBackup(_) => {
                Some("backups are made by every change, and kept as --backups says".into())
            }
            Self::Store(error) => error.hint(),
        }
    }
}

/// What going back did, or would do.
#[derive(Debug)]
pub struct Report {
    /// The cluster.
    pub cluster: Cluster,
    /// The backup that was restored.
    pub restored: Backup,
    /// What the change left behind; restoring its backup undoes it.
    pub aftermath: Aftermath,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What listeners should serve from now on.
    pub served: Vec<Served>,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
}

/// Brings back what the last change replaced, as a change of its own.
pub fn run(request: &Request<'_>) -> Result<Report, Error> {
    let (dir, now) = (request.dir, request.now);
    let (cluster, _) = rotate::cluster(dir)?;
    if request.dry_run {
        return propose(dir, cluster);
    }
    let layout = Layout::new(&cluster);
    let mut store = session::open(dir, request.lock_wait)?;
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let before = observe::observe(&layout, dir);
    let last = store.backups()?.pop().ok_or_else(|| Error::NoBackup(dir.to_path_buf()))??;
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
    let committed = store.commit(transaction)?;
    let aftermath = session::conclude(&mut store, committed, request.backups);
    // What was restored may be what is declared, too.
    let (cluster, _) = rotate::cluster(dir)?;
    let layout = Layout::new(&cluster);
    let after = observe::observe(&layout, dir);
    let served = served(&before, &after);
    let places = after.observed.instances.iter().map(|o| o.place.clone()).collect();
    Ok(Report { cluster, restored: last, aftermath, places, served, recovered })
}

/// What would be brought back.
fn propose(dir: &Path, cluster: Cluster) -> Result<Report, Error> {
    let restored =
        store::backups(dir)?.pop().ok_or_else(|| Error::NoBackup(dir.to_path_buf()))??;
    let files: Vec<&Path> = restored.files.iter().map(|entry| entry.path.as_path()).collect();
    if let Some((_, error)) = session::refusals(dir, files)?.into_iter().next() {
        return Err(error.into());
    }
    Ok(Report {
        cluster,
        restored,
        aftermath: Aftermath::default(),
        places: vec![],
        served: vec![],
        recovered: session::left(dir)?,
    })
}

/// The leaves that are others than before.
fn served(before: &Observation, after: &Observation) -> Vec<Served> {
    let instances = after.observed.instances.iter().enumerate();
    instances
        .filter_map(|(index, observed)| {
            let now = observed.certificate()?;
            let then = before.observed.instances.get(index).and_then(|o| o.certificate());
            let changed = then.is_none_or(|then| then.fingerprint != now.fingerprint);
            changed.then(|| Served {
                instance: index,
                fingerprint: now.fingerprint.clone(),
                serial: now.serial.clone(),
            })
        })
        .collect()
}
