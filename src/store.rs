//! Every change on disk: one transaction that happens as a whole or not at all.
//!
//! # The protocol
//!
//! One process at a time changes a directory: it holds the operating system's lock on `.certkit/lock`, a file that
//! only its owner can open; the lock ends with the process. (It is one machine's: two machines that share a
//! directory over the network do not see each other.) Then, for one [`Transaction`]:
//!
//! 1. **plan**: everything is checked that can be, and nothing is written: paths, symbolic links, what
//!    is in the places, what would refuse to be replaced, which directory would not let it be.
//! 2. **record**: `.certkit/staging` lists, durably, all that is going to be made: temporary files
//!    with their final paths and digests, directories, copies, log lines.
//! 3. **stage**: missing directories are made, each new tree and the files in it by one thread; what will be replaced or removed is copied to
//!    `.certkit/backups/ID/`; each new file is written beside its final path as
//!    `.NAME.certkit-TRANSACTION`, created exclusively with its final mode. All of it is made durable: an
//!    `fsync` for each file and directory, or one `syncfs` for each file system when there are many.
//! 4. **decide**: `staging` is renamed to `.certkit/journal` and `.certkit` synced. The record is already
//!    complete and durable, so that one rename is the whole decision.
//! 5. **publish**: each temporary file is renamed over its final path, a key followed at once by its
//!    certificate; the log's lines are appended (room for them was set aside in 3); the
//!    directories are synced, and only then is the journal renamed to `.certkit/owed-TRANSACTION`.
//! 6. **settle**: whoever uses what was changed is told (that is not the store's to do), and that record removed.
//!
//! A run that is interrupted leaves `staging` (or nothing): the next one removes what it names, and all is as it was. Or
//! it leaves `journal`: the next one does the rest, and all is new. A call that fails before 4 undoes
//! everything at once; one that fails after it is tried again, and says that the change is decided if that fails,
//! too. What is left of it then is set aside, as `.certkit/rest-TRANSACTION`: every run tries to finish it, and only
//! its own places cannot be changed until that succeeds.
//!
//! What the protocol takes for granted of a file system: a rename within a directory is atomic, and `fsync`
//! of a file and of a directory mean what POSIX says. Nothing is assumed of the order in which
//! anything else reaches the disk; the tests cut the power at every call and try the orders.
//!
//! A run that is interrupted before 6 leaves that record: the next one tells whom this one should have told.
//!
//! The log's lines get there exactly once because the record holds the log's length before them. A line alone is one
//! append and one `fsync`, without a record; what a power cut left of one is cut off by the next run.

mod backup;
mod debt;
mod digest;
mod disk;
mod engine;
mod error;
mod gate;
mod journal;
mod lock;
mod log;
mod place;
mod plan;
mod publish;
mod real;
mod recover;
#[cfg(test)]
mod simulated;
mod snapshot;
mod stage;
#[cfg(test)]
mod tests;
mod transaction;

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use backup::{Backup, BackupEntry, BackupKind, Undo, are_of_one};
pub use debt::Debt;
pub use digest::{sha256, sha256_base64};
pub use disk::NewOwner;
pub use engine::Committed;
pub use error::{Error, Holder, Operation};
pub use place::is_temporary;
pub use recover::Recovery;
use snapshot::Stamp;
pub use snapshot::{SnapshotEntry, settled, snapshot};
pub use transaction::{After, Content, Transaction};

use disk::{Disk, FileKind};
use engine::Engine;
use gate::Gate;
use place::StorePath;
use plan::{Footing, Look};
use real::RealDisk;
use transaction::FileAction;

/// The directory for the store's own records.
const METADATA: &str = ".certkit";

/// The log of what was changed in a directory.
pub fn log_of(dir: &Path) -> PathBuf {
    dir.join(METADATA).join(journal::LOG)
}

/// A directory that is open for change, and locked until this is dropped.
pub struct Store {
    engine: Engine<RealDisk>,
    lock: Option<File>,
    /// What earlier runs owe.
    earlier: Debt,
    /// What this one does.
    own: Debt,
}

impl Store {
    /// Opens a directory for change, waiting at most `lock_wait` for another process that does so,
    /// and finishes or drops what an interrupted run left. `annex` is a folder elsewhere that may be changed, too, if
    /// nobody but this user and root can have led here to it.
    ///
    /// A missing directory is made, and removed again if nothing is ever committed. Opening changes
    /// nothing else.
    pub fn open(dir: &Path, annex: Option<&Path>, lock_wait: Duration) -> Result<Self, Error> {
        let path = std::path::absolute(dir).map_err(Error::io(Operation::Open, dir))?;
        let start = Instant::now();
        loop {
            let mut entered = engine::enter(&RealDisk, &path, annex)?;
            let lock = entered.lock.take();
            if let Some(file) = &lock {
                let status = RealDisk.file_status(file);
                let status = status.map_err(Error::io(Operation::Inspect, &path))?;
                lock::acquire(file, &status, &path, lock_wait.saturating_sub(start.elapsed()))?;
                // The one that held the lock may have made all this for nothing and removed it.
                if !lock::is_current(&path, &status) {
                    continue;
                }
            }
            let engine = Engine::new(entered)?;
            let earlier = Debt::take(&engine.gate)?;
            return Ok(Self { engine, lock, earlier, own: Debt::default() });
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.engine.gate.path
    }

    /// What was done about an earlier run that had been interrupted.
    pub fn recovered(&self) -> Option<Recovery> {
        self.engine.recovered.clone()
    }

    /// Does all of a transaction or nothing; an empty one touches nothing.
    pub fn commit(&mut self, transaction: Transaction) -> Result<Committed, Error> {
        let committed = self.engine.commit(transaction)?;
        if !committed.written.is_empty() {
            // The change is made: what cannot be held now is paid by the next run.
            self.own.join(Debt::of(&self.engine.gate, &committed).unwrap_or_default());
        }
        Ok(committed)
    }

    /// What the changes of this store owe to those who use what they changed. Unless it is settled, the next run pays it.
    pub fn debt(&mut self) -> Debt {
        std::mem::take(&mut self.own)
    }

    /// What earlier runs owe, that were killed before they could pay.
    pub fn earlier_debt(&mut self) -> Debt {
        std::mem::take(&mut self.earlier)
    }

    /// What was kept of changes, to undo them.
    pub fn backups(&self) -> Backups<'_> {
        Backups { gate: BackupGate::Lent(&self.engine.gate) }
    }

    /// Removes all backups but the last `keep`; returns the folders that are gone, and what went wrong. A change
    /// that was made before is made all the same.
    pub fn prune_backups(&mut self, keep: usize) -> (Vec<PathBuf>, Vec<String>) {
        let (removed, failed) = backup::prune(&self.engine.gate, keep);
        (removed, failed.iter().map(Error::in_one_line).collect())
    }

    /// Removes the folders of these files that are empty now, and those above them.
    pub fn remove_empty_folders<'p>(&mut self, files: impl IntoIterator<Item = &'p Path>) {
        for mut folder in files.into_iter().filter_map(Path::parent) {
            // A folder that stays is in nobody's way.
            while let Some(key) = folder.to_str().filter(|key| !key.is_empty())
                && matches!(self.engine.gate.remove_dir(key), Ok(true))
            {
                folder = folder.parent().unwrap_or(Path::new(""));
            }
        }
    }
}

/// What was kept of a directory's changes, to undo them.
pub struct Backups<'s> {
    gate: BackupGate<'s>,
}

enum BackupGate<'s> {
    Lent(&'s Gate<RealDisk>),
    Own(Box<Gate<RealDisk>>),
}

impl Deref for BackupGate<'_> {
    type Target = Gate<RealDisk>;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Lent(gate) => gate,
            Self::Own(gate) => gate,
        }
    }
}

impl Backups<'_> {
    /// Those of a directory that is not opened for change. `annex` is as for [`Store::open`].
    pub fn of(dir: &Path, annex: Option<&Path>) -> Result<Self, Error> {
        let path = std::path::absolute(dir).map_err(Error::io(Operation::Open, dir))?;
        let root = RealDisk.open_dir(&path).map_err(Error::io(Operation::Open, &path))?;
        let gate = Gate::new(RealDisk, path, root).with_annex(annex);
        Ok(Self { gate: BackupGate::Own(Box::new(gate)) })
    }

    /// Their names, in the order in which they were made.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        backup::names(&self.gate)
    }

    /// One of them, as it says itself.
    pub fn load(&self, name: &str) -> Result<Backup, Error> {
        backup::load(&self.gate, name)
    }

    /// The same, with its copies read: what is wrong with it is known before anything is built on it.
    pub fn checked(&self, name: &str) -> Result<Backup, Error> {
        backup::checked(&self.gate, name)
    }

    /// What undoes several changes, given in the order in which they were made: replaced and removed files come back
    /// with content, mode, owner and attributes; files that had been created are removed. Nothing is changed yet.
    pub fn undo(&self, changes: &[Backup]) -> Result<Undo, Error> {
        backup::undo(&self.gate, changes)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing is not enough: a child process that is just being started shares the lock.
        self.engine.abandon_root();
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
    }
}

/// What is going on in a directory, or was interrupted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pending {
    /// The process that is changing the directory now.
    pub holder: Option<Holder>,
    /// Whether there is a decided change that is not finished.
    pub decided: bool,
    /// Whether there is a change that was prepared and not decided.
    pub staged: bool,
    /// Whether a change is in place that those who use it may not have been told of, and nobody is about to.
    pub owed: bool,
}

impl Pending {
    /// Whether an earlier run left something to do. While another process changes the directory what is owed is its own.
    pub fn is_left(&self) -> bool {
        self.decided || self.staged || self.owed
    }
}

/// Looks, without changing anything, for a change that is under way or was interrupted. Who may not look into
/// certkit's own records is told of none.
pub fn pending(dir: &Path) -> Result<Option<Pending>, Error> {
    let path = std::path::absolute(dir).map_err(Error::io(Operation::Open, dir))?;
    let root = match RealDisk.open_dir(&path) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(Operation::Open, path)(error)),
    };
    let gate = Gate::new(RealDisk, path, root);
    let (names, left, holder) = loop {
        let names = match gate.list(METADATA) {
            Ok(names) => names,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let left = records(&gate, &names)?;
        let lock = gate.status(&place::own(lock::NAME))?;
        let holder = || lock.as_ref().and_then(lock::holder);
        let first = holder();
        if first.is_some() || left.is_empty() {
            break (names, left, first);
        }
        // Whose they were may have finished between the two looks. They are nobody's if they are still the same.
        if records(&gate, &gate.list(METADATA)?)? == left {
            break (names, left, holder());
        }
    };
    let pending = Pending {
        holder,
        decided: left.iter().any(|(name, _)| name != journal::STAGING),
        staged: left.iter().any(|(name, _)| name == journal::STAGING),
        owed: debt::is_any(&gate, &names)?,
    };
    let any = pending.holder.is_some() || pending.is_left();
    Ok(any.then_some(pending))
}

/// The records of changes under way that are among these names: each with what tells it from another of its name.
fn records(gate: &Gate<RealDisk>, names: &[String]) -> Result<Vec<(String, Stamp)>, Error> {
    let is_record = |name: &&String| {
        [journal::JOURNAL, journal::STAGING].contains(&name.as_str())
            || name.starts_with(journal::REST)
    };
    let mut records = Vec::new();
    for name in names.iter().filter(is_record) {
        let status = gate.status(&place::own(name))?;
        records.extend(status.map(|status| (name.clone(), (status.inode, status.modified))));
    }
    Ok(records)
}

/// Why files could not be replaced, or given to whom they are to belong, for those that cannot: what a change would meet, known before it begins.
pub fn refusals<'a>(
    dir: &Path,
    annex: Option<&Path>,
    files: impl IntoIterator<Item = (&'a Path, Option<NewOwner>)>,
) -> Result<Vec<(PathBuf, Error)>, Error> {
    let path = std::path::absolute(dir).map_err(Error::io(Operation::Open, dir))?;
    let Ok(root) = RealDisk.open_dir(&path) else { return Ok(Vec::new()) };
    let gate = Gate::new(RealDisk, path, root).with_annex(annex);
    // What cannot be read is told when the directory is opened for change.
    let rests = recover::rests(&gate).unwrap_or_default();
    let mut ground = Footing::new(&gate, &rests);
    let mut refused = Vec::new();
    for (file, owner) in files {
        let probe = FileAction::probe(owner);
        let admitted =
            StorePath::parse(file, &gate.path).and_then(|place| ground.admit(place, &probe));
        refused.extend(admitted.err().map(|error| (file.to_owned(), error)));
    }
    Ok(refused)
}

/// Whether octets are a record that this certkit reads: of a change in `dir`, or of a backup. Nothing is touched.
pub fn understands(octets: &[u8], dir: &Path) -> bool {
    journal::Journal::decode(octets, dir).is_ok() || backup::is_manifest(octets)
}

/// Writes one file in any directory, at once and durably; only a regular file is replaced.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    sweep(path);
    write_one(&RealDisk, path, content, mode)
}

/// Writes files below any directory, which is made if it is missing: all are checked first, then all are written under
/// other names and made durable together, and then each is renamed over its own. Nothing is written through a symbolic
/// link below the directory, and only regular files are replaced. Returns the files' full paths.
pub fn write_below<C: AsRef<[u8]>>(
    dir: &Path,
    files: &[(PathBuf, C)],
    mode: u32,
) -> Result<Vec<PathBuf>, Error> {
    let path = std::path::absolute(dir).map_err(Error::io(Operation::Open, dir))?;
    let (root, mut roots) = engine::make_root(&RealDisk, &path)?;
    let written = below(&Gate::new(RealDisk, path, root), files, mode);
    if written.is_err() {
        // Only those that are still empty go.
        engine::remove_roots(&RealDisk, &mut roots);
    }
    written
}

/// How many files of [`write_below`] are open at once.
const TOGETHER: usize = 32;

/// Writes a note of what somebody else has or had, `name` below `.certkit`: at once, for its owner alone, and no part of
/// any change.
pub fn write_note(dir: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let path = std::path::absolute(dir).map_err(Error::io(Operation::Open, dir))?;
    let root = RealDisk.open_dir(&path).map_err(Error::io(Operation::Open, &path))?;
    let gate = Gate::new(RealDisk, path, root);
    let place = place::own(name);
    for (end, _) in place.as_str().match_indices('/') {
        let folder = &place.as_str()[..end];
        if gate.find_dir(folder)?.is_none() {
            match gate.make_dir(folder, 0o700) {
                // Another thread was faster.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                made => drop(made?),
            }
        }
    }
    replace_together(&gate, &[(&place, content)], 0o600)
}

fn below<D: Disk, C: AsRef<[u8]>>(
    gate: &Gate<D>,
    files: &[(PathBuf, C)],
    mode: u32,
) -> Result<Vec<PathBuf>, Error> {
    let mut places = Vec::with_capacity(files.len());
    let mut missing = Vec::new();
    for (path, _) in files {
        let place = StorePath::parse(path, &gate.path)?;
        let reject = |key: &str, reason| Error::Path { path: gate.full(key), reason };
        if place.is_outside() {
            return Err(reject(place.as_str(), "it is not below the directory"));
        }
        for (end, _) in place.as_str().match_indices('/') {
            let folder = StorePath::own(&place.as_str()[..end]);
            match gate.status(&folder)?.map(|status| status.kind) {
                Some(FileKind::Directory) => {}
                Some(_) => return Err(reject(folder.as_str(), "it is not a directory")),
                None if missing.contains(&folder) => {}
                None => missing.push(folder),
            }
        }
        match gate.status(&place)?.map(|status| status.kind) {
            None | Some(FileKind::File) => places.push(place),
            Some(_) => return Err(reject(place.as_str(), "it is not a regular file")),
        }
    }
    for folder in &missing {
        gate.make_dir(folder.as_str(), 0o755)?;
        gate.sync_dir(folder.parent())?;
    }
    let all: Vec<(&StorePath, &[u8])> =
        places.iter().zip(files).map(|(place, (_, content))| (place, content.as_ref())).collect();
    for together in all.chunks(TOGETHER) {
        replace_together(gate, together, mode)?;
    }
    Ok(places.iter().map(|place| gate.full(place.as_str())).collect())
}

/// Writes files under other names, makes them durable together, and renames each over its own. What fails leaves
/// those that are not renamed yet as they were.
fn replace_together<D: Disk>(
    gate: &Gate<D>,
    files: &[(&StorePath, &[u8])],
    mode: u32,
) -> Result<(), Error> {
    let look = Look { mode, ..Look::default() };
    let mut staged: Vec<(&StorePath, D::Dir, String)> = Vec::with_capacity(files.len());
    let written = (|| {
        let mut unsynced = Vec::with_capacity(files.len());
        for &(place, content) in files {
            let dir = gate.dir(place.parent())?;
            let temporary = temporary_of(&gate.disk, place.name());
            staged.push((place, dir.clone(), temporary.clone()));
            let file = stage::create_in(&gate.disk, &dir, &temporary, content, &look);
            let failed = |(operation, source)| Error::Io {
                operation,
                path: gate.full(place.as_str()),
                source,
            };
            unsynced.push((place.clone(), file.map_err(failed)?));
        }
        stage::sync_together(gate, &unsynced)?;
        for (place, dir, temporary) in &staged {
            let renamed = gate.disk.rename(dir, temporary, place.name());
            renamed.map_err(Error::io(Operation::Rename, gate.full(place.as_str())))?;
        }
        let mut folders: Vec<&str> = files.iter().map(|(place, _)| place.parent()).collect();
        folders.sort_unstable();
        folders.dedup();
        folders.into_iter().try_for_each(|folder| gate.sync_dir(folder))
    })();
    if written.is_err() {
        for (_, dir, temporary) in &staged {
            // The first error is the one to tell; one that was renamed has that name no more.
            let _ = gate.disk.unlink(dir, temporary);
        }
    }
    written
}

/// The name of a file that is being written, with the writer's number, so that a later run knows whether it still writes.
fn temporary_of<D: Disk>(disk: &D, name: &str) -> String {
    place::temporary_name(name, &format!("{}-{:x}", std::process::id(), disk.nonce()))
}

/// Removes what runs that were killed have left beside a file. Whatever cannot be removed is in nobody's way.
fn sweep(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let begin = place::temporary_name(name, "");
    sweep_all(folder, |name| name.strip_prefix(&begin));
}

/// Removes what runs of [`write_below`] that were killed have left in a folder. Whatever cannot be removed is in
/// nobody's way.
pub fn sweep_folder(folder: &Path) {
    sweep_all(folder, |name| Some(name.strip_prefix('.')?.rsplit_once(".certkit-")?.1));
}

/// Removes those files of a folder whose writer does not run any more. `writer` gives the end of a temporary name.
fn sweep_all(folder: &Path, writer: impl Fn(&str) -> Option<&str>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let writer = name.to_str().and_then(|name| writer(name)?.split_once('-'));
        let writer = writer.and_then(|(writer, _)| writer.parse().ok());
        if writer.is_some_and(|writer| !real::is_running(writer)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether [`write_atomically`] could write this file: all that can be known before it is written. Its folder has to take
/// an empty file, which is removed again.
pub fn prove_writable(path: &Path) -> Result<(), Error> {
    let (dir, name) = open_place(&RealDisk, path)?;
    let temporary = temporary_of(&RealDisk, name);
    let look = Look { mode: 0o600, ..Look::default() };
    let made = stage::create_in(&RealDisk, &dir, &temporary, b"", &look);
    // One that stays is swept away when the file is written.
    let _ = RealDisk.unlink(&dir, &temporary);
    let failed = |(operation, source)| Error::Io { operation, path: path.to_owned(), source };
    made.map(drop).map_err(failed)
}

fn write_one<D: Disk>(disk: &D, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let (dir, name) = open_place(disk, path)?;
    replace(disk, &dir, name, path, (content, mode))
}

/// The folder that a file is to be written in, and the file's name there: nothing else is to stand in its place.
fn open_place<'p, D: Disk>(disk: &D, path: &'p Path) -> Result<(D::Dir, &'p str), Error> {
    let reject = |reason| Error::Path { path: path.to_owned(), reason };
    let name = path.file_name().ok_or_else(|| reject("it names a directory"))?;
    let name = name.to_str().ok_or_else(|| reject("its name is not UTF-8"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let dir = disk.open_dir(parent).map_err(Error::io(Operation::Open, parent))?;
    let found = disk.status(&dir, name).map_err(Error::io(Operation::Inspect, path))?;
    if let Some(status) = found {
        match status.kind {
            FileKind::Directory => return Err(reject("it is a directory")),
            FileKind::File => {}
            FileKind::Other | FileKind::Symlink => return Err(reject("it is not a regular file")),
        }
    }
    Ok((dir, name))
}

/// Writes a file under another name and renames it over its own.
fn replace<D: Disk>(
    disk: &D,
    dir: &D::Dir,
    name: &str,
    path: &Path,
    (content, mode): (&[u8], u32),
) -> Result<(), Error> {
    let temporary = temporary_of(disk, name);
    let look = Look { mode, ..Look::default() };
    let written = stage::create_in(disk, dir, &temporary, content, &look).and_then(|file| {
        disk.sync_file(&file).map_err(|source| (Operation::Sync, source))?;
        let renamed = disk.rename(dir, &temporary, name);
        renamed.map_err(|source| (Operation::Rename, source))
    });
    if let Err((operation, source)) = written {
        // The first error is the one to tell; a temporary file that stays is in nobody's way.
        let _ = disk.unlink(dir, &temporary);
        return Err(Error::Io { operation, path: path.to_owned(), source });
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    disk.sync_dir(dir).map_err(Error::io(Operation::Sync, parent))
}
