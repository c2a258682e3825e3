//! `certkit prune`: removes what is no longer declared: of many hosts part by part.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    change::{
        Error,
        parts::{self, Failed, Shortfall},
    },
    declared, log, session,
};
use crate::{
    model::{
        cluster::{Cluster, HostName},
        layout::{Layout, PUBLIC},
        part,
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
    /// The hosts of which nothing could be removed.
    pub shortfall: Shortfall,
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
    let mut report = Report {
        nodes: gone.iter().cloned().collect(),
        files,
        backup: None,
        pruned: Vec::new(),
        warnings: Vec::new(),
        recovered: None,
        shortfall: Shortfall::default(),
    };
    if request.dry_run {
        report.recovered = session::left(dir)?;
        return Ok(report);
    }
    let mut store = session::open(dir, request.lock_wait)?;
    report.recovered = store.recovered().map(|recovery| recovery.to_string());
    // The same again once nobody else may change anything.
    let (declaration, files) = decide()?;
    let (of_hosts, own): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(file, _)| part::folder(file).is_some());
    let hosts: Vec<&[(PathBuf, Why)]> = of_hosts
        .chunk_by(|(one, _), (other, _)| part::folder(one) == part::folder(other))
        .collect();
    let name = |those: Range<usize>| {
        let folder = hosts.get(those.start).and_then(|files| part::folder(&files.first()?.0));
        folder.map(|folder| folder.display().to_string()).unwrap_or_default()
    };
    let mut operation: Option<String> = None;
    let mut removed = Vec::new();
    // What is declared first: of what is no longer, any run goes on to remove what is left.
    let mut make = |those: Range<usize>, is_first: bool| {
        let mut transaction = Transaction::new(&request.now.to_compact());
        transaction.by(command);
        if let Some(operation) = &operation {
            transaction.part_of(operation);
        }
        for (file, text) in declaration.iter().filter(|_| is_first) {
            transaction.write_keeping_mode(file, text.clone(), PUBLIC);
        }
        let own = own.iter().filter(|_| is_first);
        let files: Vec<&(PathBuf, Why)> =
            own.chain(hosts[those].iter().copied().flatten()).collect();
        for (file, why) in &files {
            transaction.remove(file);
            transaction.log(log::file(command, "remove", file, &why.to_string(), request.now));
        }
        let committed = store.commit(transaction).map_err(|error| Failed::Part(error.into()))?;
        operation = operation.take().or_else(|| committed.id.clone());
        store.remove_empty_folders(files.iter().map(|(file, _)| file.as_path()));
        let aftermath = session::conclude(&mut store, committed, request.backups);
        // What nobody declares nobody uses.
        aftermath.settle();
        let session::Aftermath { backup, pruned, warnings, .. } = aftermath;
        report.backup = report.backup.take().or(backup);
        report.pruned.extend(pruned);
        report.warnings.extend(warnings);
        removed.extend(files.into_iter().cloned());
        Ok(())
    };
    report.shortfall = parts::each(part::ranges(hosts.len()), hosts.len(), name, &mut make)?;
    removed.sort();
    report.files = removed;
    Ok(report)
}

/// The files that are there and no longer declared, in the order of their paths.
pub fn leftovers(cluster: &Cluster, dir: &Path) -> Vec<(PathBuf, Why)> {
    let known = stale::known();
    let folders: BTreeSet<&Path> =
        known.iter().filter_map(|file| Path::new(file).parent()).collect();
    // Of a tree each folder is listed once: to ask for every file that could be there takes ten times as long.
    let there = |root: &Path| {
        let mut there = BTreeSet::new();
        for folder in &folders {
            // In a folder that is not there is nothing.
            let Ok(entries) = std::fs::read_dir(dir.join(root).join(folder)) else { continue };
            let is_file =
                |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| !kind.is_dir());
            for entry in entries.flatten().filter(is_file) {
                let file = folder.join(entry.file_name());
                there.extend(file.to_str().and_then(|file| known.get(file)).copied());
            }
        }
        there
    };
    let mut found: Vec<(PathBuf, Why)> = Vec::new();
    for part in part::all(cluster) {
        found.extend(stale::leftovers(&Layout::new(&part.cluster), dir, there));
    }
    for host in undeclared_hosts(cluster, dir) {
        let mut files = Vec::new();
        below(dir, &Path::new(HOSTS).join(&host), 0, &mut files);
        found.extend(files.into_iter().map(|file| (file, Why::Host(host.clone()))));
    }
    found.sort();
    // What is the whole cluster's own is met with each part.
    found.dedup();
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
    // What another run is about to put in place, or was when it was killed, is no host's.
    let is_leftover = |name: &String| {
        !store::is_temporary(name) && !declared.contains(&Path::new(HOSTS).join(name))
    };
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
