//! What the next run does about a run that did not end: finish what was decided, drop the rest.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::METADATA;
use super::disk::Disk;
use super::error::{Error, Operation};
use super::journal::{self, JOURNAL, Journal, LOG, STAGING, Unreadable, own};
use super::place::{Tree, parent};
use super::publish;

/// What was done about an earlier run that had been interrupted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recovery {
    /// The change was not decided: everything is as it was before that run.
    RolledBack {
        /// The files that it would have changed.
        files: Vec<PathBuf>,
    },
    /// The change was decided: all of it is in place now.
    RolledForward {
        /// The files that it changed.
        files: Vec<PathBuf>,
    },
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, what) = match self {
            Self::RolledBack { files } => (files, "was taken back, as it had not been decided"),
            Self::RolledForward { files } => (files, "was completed"),
        };
        write!(f, "an earlier run was interrupted; its change of {} files {what}", files.len())
    }
}

/// What an interrupted run left, and what remains of it to be taken over.
pub(crate) struct Recovered {
    pub(crate) recovery: Recovery,
    /// Directories that run made for itself, to be removed if this one needs them neither.
    pub(crate) roots: Vec<PathBuf>,
}

/// Finishes or drops what an earlier run left in the directory.
pub(crate) fn recover<D: Disk>(tree: &Tree<D>) -> Result<Option<Recovered>, Error> {
    if tree.find_dir(METADATA)?.is_none() {
        return Ok(None);
    }
    if let Some(journal) = load(tree, JOURNAL)? {
        // That run may have been killed before its decision was durable.
        tree.sync_dir(METADATA)?;
        publish::publish_again(tree, &journal)?;
        let files = files(tree, &journal);
        return Ok(Some(Recovered { recovery: Recovery::RolledForward { files }, roots: vec![] }));
    }
    if let Some(journal) = load(tree, STAGING)? {
        roll_back(tree, &journal, true)?;
        let roots = journal.roots.iter().map(PathBuf::from).collect();
        let recovery = Recovery::RolledBack { files: files(tree, &journal) };
        return Ok(Some(Recovered { recovery, roots }));
    }
    // A run that ended between making `.certkit` and its first record.
    if tree.status(&own(LOG))?.is_none() && tree.list(METADATA)?.is_empty() {
        tree.remove_dir(METADATA)?;
    }
    Ok(None)
}

/// Removes all that was staged. `again` when another process made it, or the record's own name may
/// not be durable: then a thing that is gone may come back with the next power cut, so that every
/// directory is synced, and the record before all.
pub(crate) fn roll_back<D: Disk>(
    tree: &Tree<D>,
    journal: &Journal,
    again: bool,
) -> Result<(), Error> {
    if again {
        tree.sync_dir(METADATA)?;
    }
    let mut touched = BTreeSet::new();
    for place in journal.entries.iter().filter_map(|entry| entry.staged()) {
        if tree.unlink(&place)? || again {
            touched.insert(place.parent().to_owned());
        }
    }
    // The manifest goes first: what has none is no backup.
    for place in journal.copies.iter().rev() {
        if tree.unlink(place)? || again {
            touched.insert(place.parent().to_owned());
        }
    }
    if journal.log.as_ref().is_some_and(|log| log.created) {
        // Its directory is synced in the end.
        tree.unlink(&own(LOG))?;
    }
    for key in journal.directories.iter().rev() {
        if tree.remove_dir(key)? || again {
            touched.insert(parent(key).to_owned());
        }
    }
    for key in &touched {
        if tree.find_dir(key)?.is_some() {
            tree.sync_dir(key)?;
        }
    }
    if tree.find_dir(METADATA)?.is_some() {
        journal::end(tree, STAGING, !touched.is_empty())?;
    }
    if journal.metadata && tree.remove_dir(METADATA)? {
        tree.sync_dir("")?;
    }
    Ok(())
}

/// Reads the record `name`, if there is one that says anything.
fn load<D: Disk>(tree: &Tree<D>, name: &str) -> Result<Option<Journal>, Error> {
    let place = own(name);
    if tree.status(&place)?.is_none() {
        return Ok(None);
    }
    let path = tree.full(place.as_str());
    let journal = match Journal::decode(&tree.read(&place)?, &tree.path) {
        Ok(journal) => journal,
        // Nothing is made before its record is durable: what is torn speaks of nothing.
        Err(Unreadable::Incomplete) if name == STAGING => {
            journal::end(tree, STAGING, false)?;
            return Ok(None);
        }
        Err(unreadable) => {
            return Err(Error::DamagedJournal { path, reason: unreadable.describe() });
        }
    };
    let metadata = tree.dir(METADATA)?;
    let status = tree.disk.dir_status(&metadata);
    let owner = status.map_err(Error::io(Operation::Inspect, tree.full(METADATA)))?.owner.uid;
    // Whoever owns `.certkit` may forge a journal; it must not make root write elsewhere for them.
    if owner != 0 && owner != tree.disk.user() && journal.leaves_directory() {
        return Err(Error::Untrusted { path });
    }
    Ok(Some(journal))
}

fn files<D: Disk>(tree: &Tree<D>, journal: &Journal) -> Vec<PathBuf> {
    journal.entries.iter().map(|entry| tree.full(entry.path().as_str())).collect()
}
