//! Making a decided transaction visible, the first time or again after an interruption.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::sha256;
use super::disk::{Disk, FileKind};
use super::error::{Error, Operation};
use super::gate::Gate;
use super::journal::{self, JOURNAL, Journal, JournalEntry};
use super::log;
use super::place::StorePath;
use super::stage;

/// Renames everything into place, appends to the log and makes the journal the record of what is owed. That the log could not be written
/// is told beside: the change is made whatever its log says.
pub(crate) fn publish<D: Disk>(
    gate: &Gate<D>,
    journal: &Journal,
    log: Option<D::File>,
) -> Result<Option<Error>, Error> {
    // Nothing but renames in this loop: between a key and its certificate every moment counts.
    for entry in &journal.entries {
        show(gate, entry)?;
    }
    let lines = log.zip(journal.log.as_ref());
    let unwritten = lines.and_then(|(file, lines)| log::append(gate, file, lines).err());
    sync(gate, &journal.entries)?;
    journal::owe(gate, JOURNAL, journal)?;
    Ok(unwritten)
}

/// Does what is left of an interrupted transaction, as far as that can be done; returns which entries cannot,
/// and why. Where all is done its record says what is owed.
pub(crate) fn publish_again<D: Disk>(
    gate: &Gate<D>,
    journal: &Journal,
    record: &str,
) -> Result<Vec<(usize, Error)>, Error> {
    let mut failed = Vec::new();
    let inside = inside(journal);
    for (at, entry) in journal.entries.iter().enumerate() {
        let shown = match is_done(gate, entry, &inside) {
            Ok(true) => Ok(()),
            Ok(false) => show(gate, entry),
            Err(error) => Err(error),
        };
        failed.extend(shown.err().map(|error| (at, error)));
    }
    // The change is made whatever its log says: lines that cannot be written now are given up.
    let _ = journal.log.as_ref().map(|lines| log::append_again(gate, lines));
    let is_done = |at: usize| failed.iter().all(|(failed, _)| *failed != at);
    let done = journal.entries.iter().enumerate().filter(|(at, _)| is_done(*at));
    sync(gate, done.map(|(_, entry)| entry))?;
    if failed.is_empty() {
        journal::owe(gate, record, journal)?;
    }
    Ok(failed)
}

fn show<D: Disk>(gate: &Gate<D>, entry: &JournalEntry) -> Result<(), Error> {
    let path = entry.path();
    let Some(temporary) = entry.temporary() else {
        // What is in a new directory becomes visible with it.
        return if entry.is_removal() { gate.unlink(path).map(|_| ()) } else { Ok(()) };
    };
    let renamed = gate.disk.rename(&gate.dir(path.parent())?, temporary, path.name());
    renamed.map_err(Error::io(Operation::Rename, gate.full(path.as_str())))
}

/// What is in each new directory, as it was put there: where it is before the directory is visible, and its entry.
type Inside<'j> = BTreeMap<&'j str, Vec<(StorePath, &'j JournalEntry)>>;

fn inside(journal: &Journal) -> Inside<'_> {
    let fresh = journal.fresh();
    let mut inside = Inside::new();
    for entry in journal.entries.iter().filter(|entry| entry.temporary().is_none()) {
        if let Some(directory) = fresh.above(entry.path())
            && let Some(staged) = fresh.staged(entry)
        {
            inside.entry(directory).or_default().push((staged, entry));
        }
    }
    inside
}

/// Whether an entry's change is visible; an error when it can no longer be made.
fn is_done<D: Disk>(
    gate: &Gate<D>,
    entry: &JournalEntry,
    inside: &Inside<'_>,
) -> Result<bool, Error> {
    let path = entry.path();
    let lost = || Error::Lost { path: gate.full(path.as_str()) };
    let Some(temporary) = entry.temporary() else {
        return if entry.is_removal() { Ok(gate.status(path)?.is_none()) } else { Ok(true) };
    };
    let staged = path.sibling(temporary);
    if entry.is_directory() {
        let is_there = |place: &StorePath| {
            let found = gate.status(place)?;
            Ok::<_, Error>(found.is_some_and(|status| status.kind == FileKind::Directory))
        };
        if !is_there(&staged)? {
            return if is_there(path)? { Ok(true) } else { Err(lost()) };
        }
        for (staged, entry) in inside.get(path.as_str()).into_iter().flatten() {
            if !is_as_written(gate, staged, entry)? {
                return Err(Error::Lost { path: gate.full(entry.path().as_str()) });
            }
        }
        return Ok(false);
    }
    for (place, done) in [(&staged, false), (path, true)] {
        if is_as_written(gate, place, entry)? {
            return Ok(done);
        }
    }
    Err(lost())
}

/// Whether what an entry writes or links is in a place.
fn is_as_written<D: Disk>(
    gate: &Gate<D>,
    place: &StorePath,
    entry: &JournalEntry,
) -> Result<bool, Error> {
    let found = gate.status(place)?.map(|status| status.kind);
    Ok(match (entry, found) {
        (JournalEntry::Write { sha256: expected, .. }, Some(FileKind::File)) => {
            sha256(&gate.read(place)?) == *expected
        }
        (JournalEntry::Symlink { target, .. }, Some(FileKind::Symlink)) => {
            super::backup::read_link(gate, place)? == *target
        }
        _ => false,
    })
}

/// Makes new names durable: only then it may be forgotten that they were wanted.
fn sync<'a, D: Disk>(
    gate: &Gate<D>,
    entries: impl IntoIterator<Item = &'a JournalEntry>,
) -> Result<(), Error> {
    let is_by_itself = |entry: &&JournalEntry| !entry.is_in_tree();
    let by_themselves = entries.into_iter().filter(is_by_itself);
    let dirs: BTreeSet<String> =
        by_themselves.map(|entry| entry.path().parent().to_owned()).collect();
    stage::sync(gate, &dirs, false)
}
