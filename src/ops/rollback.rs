//! `certkit rotate --rollback`: undoes changes, as a change of its own.
//!
//! What can be undone is what there is a backup of, change by change. Undoing one undoes all that came after it:
//! the state before it is what comes back, and never a mixture. A change that is not certkit's is not undone unless
//! that is asked for, nor is anything brought back that would not work.
//!
//! Of a fleet not all is undone as one, for the reason that it was not done as one: change by change, the last first, and
//! of each part by part, so that the states between are those that there were. What is left is in the backup of each
//! part, so that another run goes on, and does not undo what was undone.

mod objection;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use self::objection::Hearing;
pub use self::objection::Objection;
use super::{
    change::parts,
    declared,
    observe::{self, Observation},
    session::{self, Aftermath},
    takeup::{Changed, InPlace},
};
use crate::{
    model::{
        cluster::Cluster,
        layout::Layout,
        observed::Held,
        part,
        shown::{self, with_causes},
        timestamp::Timestamp,
    },
    parallel::progress,
    store::{self, Backup, Backups, Store, Undo},
};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// The first change to be undone, with all that came after it; the last one if none is named.
    pub to: Option<&'a str>,
    /// Also bring back what has expired, break paths that work, and undo what something else changed.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How many backups to keep.
    pub backups: usize,
}

/// What going back did, or would do.
#[derive(Debug, Default)]
pub struct Report {
    /// The changes that were undone, in the order in which they had been made.
    pub undone: Vec<String>,
    /// What became of files.
    pub files: Vec<Restored>,
    /// Changes that are not undone, as their backups are damaged: name and reason.
    pub damaged: Vec<(String, String)>,
    /// What the change left behind; undoing it brings all back.
    pub aftermath: Aftermath,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
    /// Where it ended before all was undone.
    pub left: Option<Left>,
}

/// What becomes of a file.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Its path, relative to DIR if it is below it.
    pub path: PathBuf,
    /// Whether what is undone had made it, so that it goes.
    pub goes: bool,
}

/// What was not undone.
#[derive(Debug)]
pub struct Left {
    /// The changes, in the order in which they had been made.
    pub changes: Vec<String>,
    /// Why.
    pub why: Error,
}

/// Why nothing was undone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be known whose files these are.
    #[error(transparent)]
    Cluster(#[from] declared::Error),
    /// There is nothing to go back to.
    #[error("{}: there is no backup to go back to", .0.display())]
    NoBackup(PathBuf),
    /// It is not wise.
    #[error("{} was not undone:\n  {}", what.join(", "), list(why))]
    Refused {
        /// The changes.
        what: Vec<String>,
        /// What speaks against it.
        why: Vec<Objection>,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No change has this name.
    #[error("`{}` is no change that can be undone", shown_id(id))]
    Unknown {
        /// The name.
        id: String,
        /// Those there are, the last first.
        known: Vec<String>,
    },
}

/// A change's name as it was asked for. It has many digits, as a key has, and is none.
fn shown_id(id: &str) -> String {
    let is_of_name = |c: char| c.is_ascii_digit() || matches!(c, '-' | 'o' | 'f');
    let rest = id.split_once('-').map(|(_, rest)| rest);
    match time(id).is_some() && rest.is_none_or(|rest| rest.chars().all(is_of_name)) {
        true => id.to_owned(),
        false => shown::name(id),
    }
}

fn list(why: &[Objection]) -> String {
    why.iter().map(Objection::to_string).collect::<Vec<_>>().join("\n  ")
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
            Self::Refused { .. } => Some(
                "nothing was changed; `certkit rotate --rollback --list` shows what can be undone, and \
                 --force undoes this all the same"
                    .into(),
            ),
            Self::Store(error) => error.hint(),
            Self::Unknown { known, .. } if known.is_empty() => Some("there is none".into()),
            Self::Unknown { known, .. } => Some(format!("use one of {}", known.join(", "))),
        }
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// What was kept of a directory's changes, to undo them.
pub fn backups(dir: &Path) -> Result<Backups<'static>, Error> {
    if !dir.is_dir() {
        return Err(declared::Error::NoDirectory(dir.to_path_buf()).into());
    }
    Ok(session::backups(dir)?)
}

/// When a change was made, as its name says.
pub fn time(id: &str) -> Option<Timestamp> {
    Timestamp::from_compact(id.split('-').next()?)
}

/// Undoes the change that is named and all that came after it, or says what would be done. What came back is handed over
/// as it does, and whether that is all.
pub fn run(
    request: &Request<'_>,
    mut returned: impl FnMut(Changed, bool),
) -> Result<Report, Error> {
    if request.dry_run {
        return rehearse(request);
    }
    let dir = request.dir;
    let store = session::open(dir, request.lock_wait)?;
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let (cluster, declared) = declared::or_anything(dir)?;
    let selection = Selection::of(dir, &store.backups(), request.to)?;
    if !request.force {
        foresee(request, &store.backups(), &selection, (&cluster, declared))?;
    }
    let is_one = selection.is_one();
    let nodes: usize = selection.chosen.iter().map(|one| nodes_of(&cluster, &one.folders)).sum();
    let task = (!is_one).then(|| progress::task(parts::WHAT, Some(nodes)));
    let mut undoing = Undoing {
        request,
        store,
        cluster,
        declared,
        open: selection.names(),
        operation: selection.operation.clone(),
        report: Report { damaged: selection.damaged.clone(), recovered, ..Report::default() },
    };
    let operations = selection.operations();
    for (number, groups) in operations.iter().enumerate() {
        let is_last = number + 1 == operations.len();
        let judged = if number == 0 { Ok(()) } else { undoing.judge(groups) };
        let came = judged.and_then(|()| {
            for (at, group) in groups.iter().enumerate() {
                let back = undoing.undo(group, is_last && at + 1 == groups.len())?;
                if let Some(task) = &task {
                    let folders = group.iter().map(|one| nodes_of(&undoing.cluster, &one.folders));
                    task.steps(folders.sum());
                }
                returned(back, is_one);
            }
            Ok(())
        });
        match came {
            Ok(()) => {}
            // Nothing was undone yet.
            Err(error) if undoing.report.undone.is_empty() => return Err(error),
            Err(why) => {
                undoing.report.left = Some(Left { changes: undoing.open, why });
                break;
            }
        }
    }
    Ok(undoing.report)
}

/// So many files are brought back at once: of a fleet not all, so that memory does not grow with it.
const TOGETHER: usize = if cfg!(debug_assertions) { 400 } else { 8_000 };

/// The changes that are undone.
struct Selection {
    /// In the order in which they were made.
    chosen: Vec<Chosen>,
    /// Those that cannot be, and why.
    damaged: Vec<(String, String)>,
    /// The part before of the rollback that is gone on with.
    operation: Option<String>,
}

/// One of them.
struct Chosen {
    name: String,
    /// How many files it changed.
    files: usize,
    /// The folders of the hosts whose files it changed.
    folders: BTreeSet<PathBuf>,
}

impl Selection {
    /// What a rollback that was cut short has left; else the last change, or one with all that came after it, each with
    /// all its parts. A damaged backup stands only in its own way.
    fn of(dir: &Path, backups: &Backups<'_>, to: Option<&str>) -> Result<Self, Error> {
        let mut names = backups.names()?;
        let named = match to {
            None => names.last().ok_or_else(|| Error::NoBackup(dir.to_path_buf()))?,
            Some(to) => match names.iter().find(|one| *one == to) {
                Some(named) => named,
                None => {
                    names.reverse();
                    return Err(Error::Unknown { id: to.to_owned(), known: names });
                }
            },
        };
        let left = match to {
            None => unfinished(backups, &names)?,
            Some(_) => Vec::new(),
        };
        let at = names.iter().position(|one| store::are_of_one(one, named)).unwrap_or_default();
        let operation = names.last().filter(|_| !left.is_empty()).cloned();
        let names = if left.is_empty() { names.split_off(at) } else { left };
        let mut selection = Self { chosen: Vec::new(), damaged: Vec::new(), operation };
        for (number, name) in names.into_iter().enumerate() {
            match backups.checked(&name) {
                Ok(backup) => {
                    let folders = backup.files.iter().filter_map(|one| part::folder(&one.path));
                    let folders = folders.map(Path::to_path_buf).collect();
                    let files = backup.files.len();
                    selection.chosen.push(Chosen { name, files, folders });
                }
                Err(error) if number == 0 => return Err(error.into()),
                Err(error) => selection.damaged.push((name, with_causes(&error))),
            }
        }
        Ok(selection)
    }

    fn names(&self) -> Vec<String> {
        self.chosen.iter().map(|one| one.name.clone()).collect()
    }

    /// Whether all is undone as one.
    fn is_one(&self) -> bool {
        self.chosen.iter().map(|one| one.files).sum::<usize>() <= TOGETHER
    }

    /// What is undone one after the other, the last change first: each with its parts, those together that are undone
    /// together. Where all is undone as one, it is one.
    fn operations(&self) -> Vec<Vec<&[Chosen]>> {
        if self.is_one() {
            return vec![vec![&self.chosen]];
        }
        let of_one = |a: &Chosen, b: &Chosen| store::are_of_one(&a.name, &b.name);
        self.chosen.chunk_by(of_one).rev().map(groups).collect()
    }
}

/// The parts of one change, the last first, as many together as are undone together.
fn groups(mut parts: &[Chosen]) -> Vec<&[Chosen]> {
    let mut groups = Vec::new();
    while !parts.is_empty() {
        let mut files = 0;
        let fitting = parts.iter().rev().take_while(|part| {
            files += part.files;
            files <= TOGETHER
        });
        let (rest, group) = parts.split_at(parts.len() - fitting.count().max(1));
        groups.push(group);
        parts = rest;
    }
    groups
}

/// What a rollback has left that was cut short, if that was the last change and there is anything to be undone of it.
fn unfinished(backups: &Backups<'_>, names: &[String]) -> Result<Vec<String>, Error> {
    // What is wrong with the last one is told where that is to be undone itself.
    let last = names.last().and_then(|last| backups.load(last).ok());
    let left = last.map(|last| last.to_undo).unwrap_or_default();
    if !left.iter().all(|one| names.contains(one)) {
        return Ok(Vec::new());
    }
    for one in &left {
        let is_undone = |backup| Ok::<_, store::Error>(backups.undo(&[backup])?.files.is_empty());
        if !backups.load(one).and_then(is_undone).unwrap_or(false) {
            return Ok(left);
        }
    }
    Ok(Vec::new())
}

/// How many of these folders are those of hosts that are nothing but nodes.
fn nodes_of(cluster: &Cluster, folders: &BTreeSet<PathBuf>) -> usize {
    let nodes = cluster.hosts.iter().filter(|host| host.is_only_node());
    nodes.filter(|host| folders.contains(&cluster.root_of(host))).count()
}

fn load(backups: &Backups<'_>, group: &[Chosen]) -> Result<Undo, Error> {
    let changes: Result<Vec<Backup>, store::Error> =
        group.iter().map(|one| backups.load(&one.name)).collect();
    Ok(backups.undo(&changes?)?)
}

fn restored(files: Vec<store::BackupEntry>) -> impl Iterator<Item = Restored> {
    files.into_iter().map(|file| Restored { goes: file.is_created(), path: file.path })
}

/// Says what would be done.
fn rehearse(request: &Request<'_>) -> Result<Report, Error> {
    let dir = request.dir;
    let (cluster, declared) = declared::or_anything(dir)?;
    let backups = session::backups(dir)?;
    let selection = Selection::of(dir, &backups, request.to)?;
    let files = foresee(request, &backups, &selection, (&cluster, declared))?;
    let paths = files.iter().map(|file| (file.path.as_path(), None));
    if let Some((_, error)) = session::refusals(dir, paths)?.into_iter().next() {
        return Err(error.into());
    }
    Ok(Report {
        undone: selection.names(),
        files,
        damaged: selection.damaged,
        recovered: session::left(dir)?,
        ..Report::default()
    })
}

/// What becomes of files, unless something speaks against it that nobody can want by accident. What an older change of many
/// would break shows only once the newer ones are undone, and is asked then.
fn foresee(
    request: &Request<'_>,
    backups: &Backups<'_>,
    selection: &Selection,
    (cluster, declared): (&Cluster, bool),
) -> Result<Vec<Restored>, Error> {
    let &Request { dir, now, force, .. } = request;
    let mut hearing = Hearing::new(dir, (cluster, declared), now);
    let mut all = Vec::new();
    let mut met: HashSet<PathBuf> = HashSet::new();
    for (number, groups) in selection.operations().iter().enumerate() {
        let mut changed = Vec::new();
        for group in groups.iter().rev() {
            let Undo { transaction, files, mut strangers } = load(backups, group)?;
            changed.push(restored(files).collect::<Vec<_>>());
            if force {
                continue;
            }
            // What a change did whose backup is damaged cannot be told from what somebody else did.
            strangers.retain(|path| selection.damaged.is_empty() && !met.contains(path));
            hearing.hear(&transaction, strangers);
            if number == 0 {
                hearing.try_paths(&transaction);
            }
        }
        let new = changed.into_iter().rev().flatten();
        all.extend(new.filter(|file| met.insert(file.path.clone())));
    }
    let why = hearing.found();
    match why.is_empty() {
        true => Ok(all),
        false => Err(Error::Refused { what: selection.names(), why }),
    }
}

/// A rollback on its way.
struct Undoing<'r, 'a> {
    request: &'r Request<'a>,
    store: Store,
    cluster: Cluster,
    declared: bool,
    /// What is still to be undone, in the order in which it had been made.
    open: Vec<String>,
    /// A backup of this, if there is one yet.
    operation: Option<String>,
    report: Report,
}

impl Undoing<'_, '_> {
    /// Refuses an older change that would break what works once the newer ones are undone.
    fn judge(&self, groups: &[&[Chosen]]) -> Result<(), Error> {
        let &Request { dir, now, force, .. } = self.request;
        if force {
            return Ok(());
        }
        let mut hearing = Hearing::new(dir, (&self.cluster, self.declared), now);
        for group in groups.iter().rev() {
            hearing.try_paths(&load(&self.store.backups(), group)?.transaction);
        }
        let why = hearing.found();
        match why.is_empty() {
            true => Ok(()),
            false => Err(Error::Refused { what: self.open.clone(), why }),
        }
    }

    /// Undoes some changes as one: the last ones that are open.
    fn undo(&mut self, group: &[Chosen], is_last: bool) -> Result<Changed, Error> {
        let &Request { dir, now, backups, .. } = self.request;
        let Undo { transaction, files, .. } = load(&self.store.backups(), group)?;
        let part = part::of_files(&self.cluster, transaction.paths());
        let before = fingerprints(&Layout::new(&part.cluster), dir);
        let redeclares = transaction.paths().any(|path| path.extension() == Some("yaml".as_ref()));
        let open = self.open[..self.open.len().saturating_sub(group.len())].to_vec();
        let mut transaction = transaction.named(&now.to_compact());
        transaction.by("rotate --rollback").before_undoing(open.clone());
        if let Some(operation) = &self.operation {
            transaction.part_of(operation);
        }
        if !files.is_empty() {
            transaction.log(said(group, &files, now));
        }
        let committed = self.store.commit(transaction)?;
        self.operation = self.operation.take().or_else(|| committed.id.clone());
        let gone = files.iter().filter(|entry| entry.is_created()).map(|entry| &*entry.path);
        self.store.remove_empty_folders(gone.filter(|path| path.is_relative()));
        // What is still to be undone is kept for that.
        let backups = if is_last { backups } else { usize::MAX };
        let aftermath = session::conclude(&mut self.store, committed, backups);
        self.report.aftermath.join(aftermath);
        self.report.undone.splice(0..0, group.iter().map(|one| one.name.clone()));
        self.open = open;
        // What was restored may be what is declared, too.
        if redeclares || !self.declared {
            (self.cluster, self.declared) = declared::or_anything(dir)?;
        }
        let part = part::of_files(&self.cluster, files.iter().map(|file| file.path.as_path()));
        self.report.files.extend(restored(files));
        let (cluster, only_nodes) = (part.cluster, !part.is_first);
        let layout = Layout::new(&cluster);
        let after = observe::observe(&layout, dir);
        let served = served(&before, &after);
        let places = after.places();
        drop(layout);
        Ok(Changed { places, served, cluster, declared: self.declared, only_nodes })
    }
}

/// The log's line of what was undone together.
fn said(group: &[Chosen], files: &[store::BackupEntry], now: Timestamp) -> String {
    let names: Vec<&str> = group.iter().map(|one| one.name.as_str()).collect();
    let paths: Vec<&Path> = files.iter().map(|entry| entry.path.as_path()).collect();
    serde_json::json!({
        "time": now.to_string(),
        "command": "rotate",
        "action": "restore",
        "name": names.join(" "),
        "files": paths,
        "reason": "asked for",
    })
    .to_string()
}

/// The fingerprint of each certificate, by its file.
fn fingerprints(layout: &Layout<'_>, dir: &Path) -> BTreeMap<PathBuf, String> {
    let held = observe::observe(layout, dir).observed.instances.into_iter();
    let print = |held: &Held| Some(held.certificate()?.fingerprint.clone());
    held.filter_map(|held| Some((held.place.cert().to_path_buf(), print(&held)?))).collect()
}

/// The leaves that are others than before.
fn served(before: &BTreeMap<PathBuf, String>, after: &Observation) -> Vec<InPlace> {
    let instances = after.observed.instances.iter().enumerate();
    instances
        .filter_map(|(instance, held)| {
            let now = held.certificate()?;
            let is_same = before.get(held.place.cert()) == Some(&now.fingerprint);
            let (fingerprint, serial) = (now.fingerprint.clone(), now.serial.clone());
            (!is_same).then_some(InPlace { instance, fingerprint, serial })
        })
        .collect()
}
