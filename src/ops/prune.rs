//! `certkit prune`: removes what is no longer declared, in one transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{declared, log, session};
use crate::{
    model::{
        cluster::{Cluster, HostName},
        layout::{Layout, PUBLIC},
        stale::{self, HOSTS, Why},
        timestamp::Timestamp,
    },
    store::{self, Transaction},
};

/// What is wanted.
#[derive(Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How many backups to keep.
    pub backups: usize,
}

/// What was removed, or would be.
#[derive(Debug)]
pub struct Report {
    /// The nodes that certkit.yaml no longer declares.
    pub nodes: Vec<HostName>,
    /// The files, relative to DIR, each with its reason.
    pub files: Vec<(PathBuf, Why)>,
    /// Where they were copied to.
    pub backup: Option<PathBuf>,
    /// Backups that are gone because there are newer ones enough.
    pub pruned: Vec<PathBuf>,
    /// What was found or failed once all was in place.
    pub warnings: Vec<String>,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
}

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// certkit.yaml cannot be had: without a declaration nothing is a leftover.
    #[error(transparent)]
    Declared(#[from] declared::Error),
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
            Self::Declared(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Removes what is no longer declared, or says what would be removed.
pub fn run(request: &Request<'_>) -> Result<Report, Error> {
    let dir = request.dir;
    remove(request, "prune", &BTreeSet::new(), || {
        Ok((Vec::new(), leftovers(&declared::load(dir)?, dir)))
    })
}

/// Takes nodes out of certkit.yaml and removes their files, or says what would be removed.
pub fn nodes(request: &Request<'_>, gone: &BTreeSet<HostName>) -> Result<Report, Error> {
    let dir = request.dir;
    let is_gone =
        |why: &Why| matches!(why, Why::Host(name) if gone.iter().any(|one| one.as_ref() == name));
    remove(request, "nodes remove", gone, || {
        let (texts, cluster) = declared::without_nodes(dir, gone)?;
        let mut files = leftovers(&cluster, dir);
        files.retain(|(_, why)| is_gone(why));
        Ok((texts, files))
    })
}

/// What files of the declaration hold from now on, and what goes.
type Removal = (Vec<(PathBuf, String)>, Vec<(PathBuf, Why)>);

fn remove(
    request: &Request<'_>,
    command: &'static str,
    gone: &BTreeSet<HostName>,
    decide: impl Fn() -> Result<Removal, Error>,
) -> Result<Report, Error> {
    let dir = request.dir;
    let (_, files) = decide()?;
    let nodes = gone.iter().cloned().collect();
    if request.dry_run {
        let recovered = session::left(dir)?;
        let (backup, pruned, warnings) = (None, Vec::new(), Vec::new());
        return Ok(Report { nodes, files, backup, pruned, warnings, recovered });
    }
    let mut store = session::open(dir, request.lock_wait)?;
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    // The same again once nobody else may change anything.
    let (declaration, files) = decide()?;
    let mut transaction = Transaction::new(&request.now.to_compact());
    transaction.by(command);
    for (file, text) in declaration {
        transaction.write_keeping_mode(file, text, PUBLIC);
    }
    for (file, why) in &files {
        transaction.remove(file);
        transaction.log(log::file(command, "remove", file, &why.to_string(), request.now));
    }
    let committed = store.commit(transaction)?;
    store.remove_empty_folders(files.iter().map(|(file, _)| file.as_path()));
    let aftermath = session::conclude(&mut store, committed, request.backups);
    // What nobody declares nobody uses.
    aftermath.settle();
    let session::Aftermath { backup, pruned, warnings, .. } = aftermath;
    Ok(Report { nodes, files, backup, pruned, warnings, recovered })
}

/// The files that are there and no longer declared, in the order of their paths.
pub fn leftovers(cluster: &Cluster, dir: &Path) -> Vec<(PathBuf, Why)> {
    let layout = Layout::new(cluster);
    let is_there = |path: &Path| dir.join(path).symlink_metadata().is_ok_and(|m| !m.is_dir());
    let mut found: Vec<(PathBuf, Why)> = stale::candidates(&layout, dir);
    found.retain(|(path, _)| is_there(path));
    for host in undeclared_hosts(cluster, dir) {
        let mut files = Vec::new();
        below(dir, &Path::new(HOSTS).join(&host), 0, &mut files);
        found.extend(files.into_iter().map(|file| (file, Why::Host(host.clone()))));
    }
    found.sort();
    found
}

/// One line for each reason, for those who look at a plan.
pub fn notes(cluster: &Cluster, dir: &Path) -> Vec<String> {
    let mut by_reason: BTreeMap<Why, Vec<PathBuf>> = BTreeMap::new();
    for (file, why) in leftovers(cluster, dir) {
        by_reason.entry(why).or_default().push(file);
    }
    let note = |(why, files): (Why, Vec<PathBuf>)| match files.len() {
        1 => format!("{}: {why}; `certkit prune` removes it", files[0].display()),
        count => format!(
            "{} and {} more: {why}; `certkit prune` removes them",
            files[0].display(),
            count - 1
        ),
    };
    by_reason.into_iter().map(note).collect()
}

/// The folders of hosts that are no host's.
fn undeclared_hosts(cluster: &Cluster, dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir.join(HOSTS)) else { return Vec::new() };
    let declared: std::collections::HashSet<PathBuf> =
        cluster.hosts.iter().map(|host| cluster.root_of(host)).collect();
    let is_leftover = |name: &String| !declared.contains(&Path::new(HOSTS).join(name));
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(is_leftover).collect();
    names.sort();
    names
}

/// How deep a host's folder is looked into.
const DEPTH: usize = 8;

/// Every file and link below a folder; links are not followed.
fn below(dir: &Path, folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(metadata) = dir.join(folder).symlink_metadata() else { return };
    if !metadata.is_dir() {
        files.push(folder.to_path_buf());
        return;
    }
    let Ok(entries) = std::fs::read_dir(dir.join(folder)) else { return };
    for entry in entries.flatten().filter(|_| depth < DEPTH) {
        below(dir, &folder.join(entry.file_name()), depth + 1, files);
    }
}
