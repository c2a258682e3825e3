//! The record of one transaction: as `staging` it says what to drop, as `journal` what to finish.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::METADATA;
use super::backup;
use super::disk::Disk;
use super::error::{Error, Operation};
use super::gate::Gate;
use super::place::{StorePath, own, parent, temporary_name, upwards};

/// The form of the record; a certkit that knows only older ones must not guess. In version 1 no directory became
/// visible with all that is in it.
const VERSION: u32 = 2;

/// Everything that a transaction makes, in an order in which it can be made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Journal {
    pub(crate) version: u32,
    pub(crate) transaction: String,
    /// Directories above and including the store's own that were made for this transaction.
    pub(crate) roots: Vec<String>,
    /// Whether `.certkit` was made for this transaction.
    pub(crate) metadata: bool,
    /// Directories to make, parents first, under the names under which they are made.
    pub(crate) directories: Vec<String>,
    /// The backup's folder.
    pub(crate) backup: Option<String>,
    /// The files of the backup, its manifest included.
    pub(crate) copies: Vec<StorePath>,
    /// The changes, in the order in which they become visible.
    pub(crate) entries: Vec<JournalEntry>,
    pub(crate) log: Option<Appendix>,
    /// Whether it is the rest of a change that was not decided: what is left to remove of it.
    #[serde(default)]
    pub(crate) dropped: bool,
}

/// One change that becomes visible by one system call. What is in a new directory becomes visible with it, and has no
/// temporary name of its own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub(crate) enum JournalEntry {
    Directory { path: StorePath, temporary: String },
    Remove { path: StorePath },
    Symlink { path: StorePath, temporary: Option<String>, target: String },
    Write { path: StorePath, temporary: Option<String>, sha256: String },
}

/// Lines to append to the log.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Appendix {
    /// The log did not exist.
    pub(crate) created: bool,
    /// The length of the log before: what tells whether (and how much of) the lines are in it.
    pub(crate) length: u64,
    pub(crate) lines: String,
}

impl Journal {
    pub(crate) fn new(transaction: String, roots: Vec<String>, metadata: bool) -> Self {
        Self {
            version: VERSION,
            transaction,
            roots,
            metadata,
            directories: Vec::new(),
            backup: None,
            copies: Vec::new(),
            entries: Vec::new(),
            log: None,
            dropped: false,
        }
    }

    /// The bytes to write.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // No map with keys other than text and no failing Serialize in it: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record; what is wrong with it is told as a phrase. Every path in it is one that a transaction of
    /// this directory can have written there, whoever wrote the record.
    pub(crate) fn decode(bytes: &[u8], dir: &Path) -> Result<Self, Unreadable> {
        let is_newer = |version: u32| version > VERSION;
        let Ok(journal) = serde_json::from_slice::<Self>(bytes) else {
            return Err(match serde_json::from_slice::<Versioned>(bytes) {
                Ok(Versioned { version }) if is_newer(version) => Unreadable::Version(version),
                _ => Unreadable::Incomplete,
            });
        };
        if is_newer(journal.version) {
            return Err(Unreadable::Version(journal.version));
        }
        if journal.is_well_formed(dir) { Ok(journal) } else { Err(Unreadable::Path) }
    }

    /// The files that are changed.
    pub(crate) fn files(&self) -> impl Iterator<Item = &StorePath> {
        let files = self.entries.iter().filter(|entry| !entry.is_directory());
        files.map(JournalEntry::path)
    }

    /// The line of the log that is all there is to it, of a log that is there: that is one write, and needs no record.
    pub(crate) fn line_alone(&self) -> Option<&Appendix> {
        let makes = self.metadata || !self.entries.is_empty() || !self.directories.is_empty();
        let line = self.log.as_ref().filter(|log| !makes && !log.created)?;
        (line.lines.matches('\n').count() == 1).then_some(line)
    }

    /// The new directories that become visible as a whole, with the names under which they are filled.
    pub(crate) fn fresh(&self) -> Fresh<'_> {
        let directories = self.entries.iter().filter(|entry| entry.is_directory());
        Fresh(
            directories
                .filter_map(|one| Some((one.path().as_str(), one.staged_beside()?)))
                .collect(),
        )
    }

    fn is_well_formed(&self, dir: &Path) -> bool {
        let is_place = |text: &str| {
            StorePath::parse(Path::new(text), dir).is_ok_and(|place| place.as_str() == text)
        };
        let fresh = self.fresh();
        let is_entry = |entry: &JournalEntry| {
            let expected = temporary_name(entry.path().name(), &self.transaction);
            let is_inside = fresh.above(entry.path()).is_some();
            is_place(entry.path().as_str())
                && match entry.temporary() {
                    Some(name) => *name == expected && !is_inside,
                    None => entry.is_removal() || is_inside,
                }
        };
        // Below `.certkit` there is but the backup's folder to make and fill.
        let folder = self.backup.as_deref().map(backup::folder);
        let in_backup = |text: &str| {
            let inside = folder.as_deref().and_then(|folder| text.strip_prefix(folder));
            inside.and_then(|rest| rest.strip_prefix('/')).is_some_and(is_place)
        };
        let is_directory = |key: &str| {
            let is_own = folder
                .as_deref()
                .is_some_and(|folder| key == folder || key == parent(folder) || in_backup(key));
            is_own || (!key.starts_with('/') && is_place(key))
        };
        !self.transaction.is_empty()
            && self.transaction.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && self.backup.as_deref().is_none_or(backup::is_id)
            && self.entries.iter().all(is_entry)
            && self.directories.iter().all(|key| is_directory(key))
            && self.copies.iter().all(|place| in_backup(place.as_str()))
            && self.roots.iter().all(|root| root.starts_with('/') && dir.starts_with(root))
    }
}

/// What a record of any version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// New directories that become visible as a whole, each with the place where it is filled.
pub(crate) struct Fresh<'j>(HashMap<&'j str, StorePath>);

impl<'j> Fresh<'j> {
    /// The new directory that something is in.
    pub(crate) fn above(&self, place: &StorePath) -> Option<&'j str> {
        self.find(place.parent()).map(|(directory, _)| directory)
    }

    /// Where what an entry writes or links is before it is visible.
    pub(crate) fn staged(&self, entry: &JournalEntry) -> Option<StorePath> {
        let path = entry.path();
        let inside = self.find(path.parent()).map(|(directory, at)| path.moved(directory, at));
        inside.or_else(|| entry.staged_beside())
    }

    /// Under which name a missing directory is made.
    pub(crate) fn directory(&self, key: String) -> String {
        match self.find(&key) {
            Some((directory, at)) => StorePath::own(&key).moved(directory, at).as_str().to_owned(),
            None => key,
        }
    }

    /// The one that this directory is, or is in.
    fn find(&self, key: &str) -> Option<(&'j str, &StorePath)> {
        let (&directory, at) = upwards(key).find_map(|key| self.0.get_key_value(key))?;
        Some((directory, at))
    }
}

/// Why a record cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unreadable {
    Incomplete,
    Path,
    Version(u32),
}

impl Unreadable {
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Incomplete => "it is incomplete or not JSON".to_owned(),
            Self::Path => "it names a path that certkit never writes".to_owned(),
            Self::Version(version) => {
                format!("it has version {version}: a newer certkit wrote it and must finish it")
            }
        }
    }
}

impl JournalEntry {
    pub(crate) fn path(&self) -> &StorePath {
        match self {
            Self::Directory { path, .. }
            | Self::Remove { path }
            | Self::Symlink { path, .. }
            | Self::Write { path, .. } => path,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }

    pub(crate) fn is_symlink(&self) -> bool {
        matches!(self, Self::Symlink { .. })
    }

    /// Whether it becomes visible with a new directory that it is in.
    pub(crate) fn is_in_tree(&self) -> bool {
        self.temporary().is_none() && !self.is_removal()
    }

    pub(crate) fn is_removal(&self) -> bool {
        matches!(self, Self::Remove { .. })
    }

    pub(crate) fn temporary(&self) -> Option<&str> {
        match self {
            Self::Remove { .. } => None,
            Self::Directory { temporary, .. } => Some(temporary),
            Self::Symlink { temporary, .. } | Self::Write { temporary, .. } => temporary.as_deref(),
        }
    }

    /// The place of what is staged for this entry by itself.
    pub(crate) fn staged_beside(&self) -> Option<StorePath> {
        self.temporary().map(|name| self.path().sibling(name))
    }
}

/// The record of a transaction that is not decided.
pub(crate) const STAGING: &str = "staging";
/// The record of a transaction that is decided.
pub(crate) const JOURNAL: &str = "journal";
/// What the record of a change begins with that is set aside, as the rest of it cannot be done now.
pub(crate) const REST: &str = "rest-";
/// What the record of a change begins with that is in place, and that those who use it may not have been told of.
pub(crate) const OWED: &str = "owed-";
/// What is left of a decided change.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    /// The record of it.
    pub(crate) record: PathBuf,
    /// The places that are still to be changed.
    pub(crate) places: Vec<StorePath>,
    /// The directories that are still to become visible as a whole.
    pub(crate) directories: Vec<StorePath>,
    /// What stands against it.
    pub(crate) why: String,
}

impl Rest {
    pub(crate) fn new(record: PathBuf, left: &Journal, why: String) -> Self {
        let directories = left.entries.iter().filter(|entry| entry.is_directory());
        let directories = directories.map(|entry| entry.path().clone()).collect();
        Self { record, places: left.files().cloned().collect(), directories, why }
    }

    /// Whether a place waits for it.
    pub(crate) fn holds(&self, place: &StorePath) -> bool {
        self.places.contains(place) || self.directories.iter().any(|above| place.is_below(above))
    }
}

/// The log.
pub(crate) const LOG: &str = "log.jsonl";

/// Writes the record of what is going to be staged, and makes it durable.
pub(crate) fn begin<D: Disk>(gate: &Gate<D>, journal: &Journal) -> Result<(), Error> {
    write(gate, STAGING, journal)?;
    gate.sync_dir(METADATA)?;
    if journal.metadata {
        gate.sync_dir("")?;
        sync_above(gate, journal)?;
    }
    Ok(())
}

fn write<D: Disk>(gate: &Gate<D>, name: &str, journal: &Journal) -> Result<(), Error> {
    let path = gate.full(own(name).as_str());
    let file = gate.disk.create(&gate.dir(METADATA)?, name, 0o600);
    let mut file = file.map_err(Error::io(Operation::Create, &path))?;
    let written = gate.disk.write(&mut file, &journal.encode());
    written.map_err(Error::io(Operation::Write, &path))?;
    gate.disk.sync_file(&file).map_err(Error::io(Operation::Sync, &path))
}

/// Puts what is left of a change out of the way of others, and ends its record `name`. Interrupted, it is done
/// again from that record.
pub(crate) fn set_aside<D: Disk>(gate: &Gate<D>, name: &str, rest: &Journal) -> Result<(), Error> {
    let aside = format!("{REST}{}", rest.transaction);
    if name == aside {
        return Ok(());
    }
    let new = format!("new-{}", rest.transaction);
    gate.unlink(&own(&new))?;
    write(gate, &new, rest)?;
    rename(gate, &new, &aside)?;
    gate.sync_dir(METADATA)?;
    if rest.dropped { end(gate, name, false) } else { owe(gate, name, rest) }
}

/// Makes the directory's own name durable, and those above it: an earlier run may have made them
/// and been killed, so that it cannot be known which are.
fn sync_above<D: Disk>(gate: &Gate<D>, journal: &Journal) -> Result<(), Error> {
    let mut path = gate.path.as_path();
    while let Some(above) = path.parent() {
        let made = journal.roots.iter().any(|root| Path::new(root) == path);
        match gate.disk.open_dir(above) {
            // One that this user may not even open was not made by a run of theirs.
            Err(error) if !made && error.kind() == io::ErrorKind::PermissionDenied => {}
            opened => {
                let dir = opened.map_err(Error::io(Operation::Open, above))?;
                gate.disk.sync_dir(&dir).map_err(Error::io(Operation::Sync, above))?;
            }
        }
        path = above;
    }
    Ok(())
}

/// Why a transaction could not be decided.
pub(crate) enum Undecided {
    /// It is not, and will not be.
    No(Error),
    /// It may be: the next run will tell.
    Perhaps(Error),
}

/// Decides the transaction: from here it will happen.
pub(crate) fn decide<D: Disk>(gate: &Gate<D>) -> Result<(), Undecided> {
    rename(gate, STAGING, JOURNAL).map_err(Undecided::No)?;
    let Err(error) = gate.sync_dir(METADATA) else { return Ok(()) };
    // Whether the decision is durable is unknown; nothing depends on it yet, so it is taken back.
    match rename(gate, JOURNAL, STAGING) {
        Ok(()) => Err(Undecided::No(error)),
        Err(_) => Err(Undecided::Perhaps(error)),
    }
}

fn rename<D: Disk>(gate: &Gate<D>, from: &str, to: &str) -> Result<(), Error> {
    let renamed = gate.disk.rename(&gate.dir(METADATA)?, from, to);
    renamed.map_err(Error::io(Operation::Rename, gate.full(own(to).as_str())))
}

/// Ends a transaction that is in place: its record becomes that of what is owed, until everybody who uses what it
/// changed was told. It is the same file under another name, so that nothing more has to be made durable.
pub(crate) fn owe<D: Disk>(gate: &Gate<D>, name: &str, journal: &Journal) -> Result<(), Error> {
    // A line in the log is nobody's to take up.
    if journal.entries.is_empty() {
        return end(gate, name, false);
    }
    let mut owed = format!("{OWED}{}", journal.transaction);
    // What a rest owes comes after what was in place at once.
    if name.starts_with(REST) && gate.status(&own(&owed))?.is_some() {
        owed.push('r');
    }
    rename(gate, name, &owed)?;
    gate.sync_dir(METADATA)
}

/// Ends a transaction by removing its record, even if only its removal's durability is `left` to do.
pub(crate) fn end<D: Disk>(gate: &Gate<D>, name: &str, left: bool) -> Result<(), Error> {
    if gate.unlink(&own(name))? || left {
        gate.sync_dir(METADATA)?;
    }
    Ok(())
}
