//! Making a decided transaction visible, the first time or again after an interruption.

use std::collections::BTreeSet;
use std::io;

use super::METADATA;
use super::digest::sha256;
use super::disk::{Disk, Kind};
use super::error::{Error, Operation};
use super::journal::{self, Entry, JOURNAL, Journal, LOG, own};
use super::place::Tree;
use super::stage;

/// Renames everything into place, appends to the log and removes the journal.
pub(crate) fn publish<D: Disk>(
    tree: &Tree<D>,
    journal: &Journal,
    log: Option<D::File>,
) -> Result<(), Error> {
    // Nothing but renames in this loop: between a key and its certificate every moment counts.
    for entry in &journal.entries {
        show(tree, entry)?;
    }
    if let (Some(mut file), Some(log)) = (log, &journal.log) {
        let path = tree.full(own(LOG).as_str());
        let written = tree.disk.write(&mut file, log.lines.as_bytes());
        written.map_err(Error::io(Operation::Append, &path))?;
        tree.disk.sync_file(&file).map_err(Error::io(Operation::Sync, &path))?;
    }
    finish(tree, journal)
}

/// Does what is left of an interrupted transaction. Changes nothing when it cannot all be done.
pub(crate) fn publish_again<D: Disk>(tree: &Tree<D>, journal: &Journal) -> Result<(), Error> {
    let mut left = Vec::new();
    for entry in &journal.entries {
        if !is_done(tree, entry)? {
            left.push(entry);
        }
    }
    for entry in left {
        show(tree, entry)?;
    }
    append_again(tree, journal)?;
    finish(tree, journal)
}

fn show<D: Disk>(tree: &Tree<D>, entry: &Entry) -> Result<(), Error> {
    let path = entry.path();
    let Some(temporary) = entry.temporary() else { return tree.unlink(path).map(|_| ()) };
    let renamed = tree.disk.rename(&tree.dir(path.parent())?, temporary, path.name());
    renamed.map_err(Error::io(Operation::Rename, tree.full(path.as_str())))
}

/// Whether an entry's change is visible; an error when it can no longer be made.
fn is_done<D: Disk>(tree: &Tree<D>, entry: &Entry) -> Result<bool, Error> {
    let Some(staged) = entry.staged() else { return Ok(tree.status(entry.path())?.is_none()) };
    for (place, done) in [(&staged, false), (entry.path(), true)] {
        let found = tree.status(place)?.map(|status| status.kind);
        let same = match (entry, found) {
            (Entry::Write { sha256: expected, .. }, Some(Kind::File)) => {
                sha256(&tree.read(place)?) == *expected
            }
            (Entry::Symlink { target, .. }, Some(Kind::Symlink)) => {
                super::backup::read_link(tree, place)? == *target
            }
            _ => false,
        };
        if same {
            return Ok(done);
        }
    }
    let journal = tree.full(own(JOURNAL).as_str());
    Err(Error::Lost { path: tree.full(entry.path().as_str()), journal })
}

/// Appends the lines unless they are there, whole; what is there of them is cut off first.
fn append_again<D: Disk>(tree: &Tree<D>, journal: &Journal) -> Result<(), Error> {
    let Some(log) = &journal.log else { return Ok(()) };
    let place = own(LOG);
    let path = tree.full(place.as_str());
    let dir = tree.dir(METADATA)?;
    let mut file = match tree.disk.append(&dir, LOG) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tree.disk.create(&dir, LOG, 0o600).map_err(Error::io(Operation::Create, &path))?
        }
        opened => opened.map_err(Error::io(Operation::Append, &path))?,
    };
    let found = tree.disk.file_status(&file).map_err(Error::io(Operation::Inspect, &path))?;
    if found.length > log.length {
        let cut = tree.disk.set_length(&file, log.length);
        cut.map_err(Error::io(Operation::Truncate, &path))?;
    }
    let written = tree.disk.write(&mut file, log.lines.as_bytes());
    written.map_err(Error::io(Operation::Append, &path))?;
    tree.disk.sync_file(&file).map_err(Error::io(Operation::Sync, &path))?;
    // The log's name may be as new as its lines.
    tree.sync_dir(METADATA)
}

/// Makes the new names durable, and only then forgets that they were wanted.
fn finish<D: Disk>(tree: &Tree<D>, journal: &Journal) -> Result<(), Error> {
    let dirs: BTreeSet<String> =
        journal.entries.iter().map(|entry| entry.path().parent().to_owned()).collect();
    stage::sync(tree, &dirs, false)?;
    journal::end(tree, JOURNAL, false)
}
