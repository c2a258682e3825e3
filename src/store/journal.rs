//! The record of one transaction: as `staging` it says what to drop, as `journal` what to finish.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::METADATA;
use super::disk::Disk;
use super::error::{Error, Operation};
use super::place::{Place, Tree};

/// The form of the record; a certkit that knows only older ones must not guess.
const VERSION: u32 = 1;

/// Everything that a transaction makes, in an order in which it can be made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Journal {
    version: u32,
    pub(crate) transaction: String,
    /// Directories above and including the store's own that were made for this transaction.
    pub(crate) roots: Vec<String>,
    /// Whether `.certkit` was made for this transaction.
    pub(crate) metadata: bool,
    /// Directories to make, parents first.
    pub(crate) directories: Vec<String>,
    /// The backup's folder.
    pub(crate) backup: Option<String>,
    /// The files of the backup, its manifest included.
    pub(crate) copies: Vec<Place>,
    /// The changes, in the order in which they become visible.
    pub(crate) entries: Vec<Entry>,
    pub(crate) log: Option<Appendix>,
}

/// One change that becomes visible by one system call.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub(crate) enum Entry {
    Remove { path: Place },
    Symlink { path: Place, temporary: String, target: String },
    Write { path: Place, temporary: String, sha256: String },
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
        }
    }

    /// The bytes to write.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // No map with keys other than text and no failing Serialize in it: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record; what is wrong with it is told as a phrase.
    pub(crate) fn decode(bytes: &[u8], dir: &Path) -> Result<Self, Unreadable> {
        let journal: Self = serde_json::from_slice(bytes).map_err(|_| Unreadable::Incomplete)?;
        if journal.version != VERSION {
            return Err(Unreadable::Version(journal.version));
        }
        let well_formed = journal.entries.iter().all(|entry| {
            let normal = Place::parse(Path::new(entry.path().as_str()), dir);
            let temporary = entry.temporary().is_none_or(|name| !name.contains('/'));
            temporary && normal.is_ok_and(|place| place == *entry.path())
        });
        if well_formed { Ok(journal) } else { Err(Unreadable::Path) }
    }

    /// Whether anything outside the store's directory is changed.
    pub(crate) fn leaves_directory(&self) -> bool {
        self.directories.iter().any(|key| key.starts_with('/'))
            || self.entries.iter().any(|entry| entry.path().is_outside())
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

impl Entry {
    pub(crate) fn path(&self) -> &Place {
        match self {
            Self::Remove { path } | Self::Symlink { path, .. } | Self::Write { path, .. } => path,
        }
    }

    pub(crate) fn temporary(&self) -> Option<&str> {
        match self {
            Self::Remove { .. } => None,
            Self::Symlink { temporary, .. } | Self::Write { temporary, .. } => Some(temporary),
        }
    }

    /// The place of what is staged for this entry.
    pub(crate) fn staged(&self) -> Option<Place> {
        self.temporary().map(|name| self.path().sibling(name))
    }
}

/// The record of a transaction that is not decided.
pub(crate) const STAGING: &str = "staging";
/// The record of a transaction that is decided.
pub(crate) const JOURNAL: &str = "journal";
/// The log.
pub(crate) const LOG: &str = "log.jsonl";

/// The place of one of the store's own files.
pub(crate) fn own(name: &str) -> Place {
    Place::own(format!("{METADATA}/{name}"))
}

/// Writes the record of what is going to be staged, and makes it durable.
pub(crate) fn begin<D: Disk>(tree: &Tree<D>, journal: &Journal) -> Result<(), Error> {
    if journal.metadata {
        tree.make_dir(METADATA, 0o700)?;
    }
    let place = own(STAGING);
    let path = tree.full(place.as_str());
    let dir = tree.dir(METADATA)?;
    let file = tree.disk.create(&dir, STAGING, 0o600);
    let mut file = file.map_err(Error::io(Operation::Create, &path))?;
    let written = tree.disk.write(&mut file, &journal.encode());
    written.map_err(Error::io(Operation::Write, &path))?;
    tree.disk.sync_file(&file).map_err(Error::io(Operation::Sync, &path))?;
    tree.sync_dir(METADATA)?;
    if journal.metadata {
        tree.sync_dir("")?;
        sync_above(tree, journal)?;
    }
    Ok(())
}

/// Makes the directory's own name durable, and those above it: an earlier run may have made them
/// and been killed, so that it cannot be known which are.
fn sync_above<D: Disk>(tree: &Tree<D>, journal: &Journal) -> Result<(), Error> {
    let mut path = tree.path.as_path();
    while let Some(above) = path.parent() {
        let made = journal.roots.iter().any(|root| Path::new(root) == path);
        match tree.disk.open_dir(above) {
            // One that this user may not even open was not made by a run of theirs.
            Err(error) if !made && error.kind() == io::ErrorKind::PermissionDenied => {}
            opened => {
                let dir = opened.map_err(Error::io(Operation::Open, above))?;
                tree.disk.sync_dir(&dir).map_err(Error::io(Operation::Sync, above))?;
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
pub(crate) fn decide<D: Disk>(tree: &Tree<D>) -> Result<(), Undecided> {
    rename(tree, STAGING, JOURNAL).map_err(Undecided::No)?;
    let Err(error) = tree.sync_dir(METADATA) else { return Ok(()) };
    // Whether the decision is durable is unknown; nothing depends on it yet, so it is taken back.
    match rename(tree, JOURNAL, STAGING) {
        Ok(()) => Err(Undecided::No(error)),
        Err(_) => Err(Undecided::Perhaps(error)),
    }
}

fn rename<D: Disk>(tree: &Tree<D>, from: &str, to: &str) -> Result<(), Error> {
    let renamed = tree.disk.rename(&tree.dir(METADATA)?, from, to);
    renamed.map_err(Error::io(Operation::Rename, tree.full(own(to).as_str())))
}

/// Ends a transaction by removing its record, even if only its removal's durability is `left` to do.
pub(crate) fn end<D: Disk>(tree: &Tree<D>, name: &str, left: bool) -> Result<(), Error> {
    if tree.unlink(&own(name))? || left {
        tree.sync_dir(METADATA)?;
    }
    Ok(())
}
