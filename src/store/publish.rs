//! Making a decided transaction visible, the first time or again after an interruption.

use std::collections::BTreeSet;
use std::io;

use super::METADATA;
use super::digest::sha256;
use super::disk::{Disk, FileKind};
use super::error::{Error, Operation};
use super::gate::Gate;
use super::journal::{self, JOURNAL, Journal, JournalEntry, LOG};
use super::place::own;
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
    let mut unwritten = None;
    if let (Some(mut file), Some(log)) = (log, &journal.log) {
        let path = gate.full(own(LOG).as_str());
        let written = gate.disk.write(&mut file, log.lines.as_bytes());
        let written = written
            .map_err(Error::io(Operation::Append, &path))
            .and_then(|()| gate.disk.sync_file(&file).map_err(Error::io(Operation::Sync, &path)));
        if let Err(error) = written {
            // No half line; where that fails too, the log is as torn as what it is on.
            let _ = gate.disk.set_length(&file, log.length);
            unwritten = Some(error);
        }
    }
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
    for (at, entry) in journal.entries.iter().enumerate() {
        let shown = match is_done(gate, entry) {
            Ok(true) => Ok(()),
            Ok(false) => show(gate, entry),
            Err(error) => Err(error),
        };
        failed.extend(shown.err().map(|error| (at, error)));
    }
    // The change is made whatever its log says: lines that cannot be written now are given up.
    let _ = append_again(gate, journal);
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
    let Some(temporary) = entry.temporary() else { return gate.unlink(path).map(|_| ()) };
    let renamed = gate.disk.rename(&gate.dir(path.parent())?, temporary, path.name());
    renamed.map_err(Error::io(Operation::Rename, gate.full(path.as_str())))
}

/// Whether an entry's change is visible; an error when it can no longer be made.
fn is_done<D: Disk>(gate: &Gate<D>, entry: &JournalEntry) -> Result<bool, Error> {
    let Some(staged) = entry.staged() else { return Ok(gate.status(entry.path())?.is_none()) };
    for (place, done) in [(&staged, false), (entry.path(), true)] {
        let found = gate.status(place)?.map(|status| status.kind);
        let same = match (entry, found) {
            (JournalEntry::Write { sha256: expected, .. }, Some(FileKind::File)) => {
                sha256(&gate.read(place)?) == *expected
            }
            (JournalEntry::Symlink { target, .. }, Some(FileKind::Symlink)) => {
                super::backup::read_link(gate, place)? == *target
            }
            _ => false,
        };
        if same {
            return Ok(done);
        }
    }
    Err(Error::Lost { path: gate.full(entry.path().as_str()) })
}

/// Appends the lines unless they are there, whole; what is there of them is cut off first.
fn append_again<D: Disk>(gate: &Gate<D>, journal: &Journal) -> Result<(), Error> {
    let Some(log) = &journal.log else { return Ok(()) };
    let place = own(LOG);
    let path = gate.full(place.as_str());
    let dir = gate.dir(METADATA)?;
    let mut file = match gate.disk.append(&dir, LOG) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            gate.disk.create(&dir, LOG, 0o600).map_err(Error::io(Operation::Create, &path))?
        }
        opened => opened.map_err(Error::io(Operation::Append, &path))?,
    };
    let found = gate.disk.file_status(&file).map_err(Error::io(Operation::Inspect, &path))?;
    if found.length > log.length {
        let cut = gate.disk.set_length(&file, log.length);
        cut.map_err(Error::io(Operation::Truncate, &path))?;
    }
    if let Err(error) = gate.disk.write(&mut file, log.lines.as_bytes()) {
        // No half line; where that fails too, the log is as torn as what it is on.
        let _ = gate.disk.set_length(&file, log.length);
        return Err(Error::io(Operation::Append, &path)(error));
    }
    gate.disk.sync_file(&file).map_err(Error::io(Operation::Sync, &path))?;
    // The log's name may be as new as its lines.
    gate.sync_dir(METADATA)
}

/// Makes new names durable: only then it may be forgotten that they were wanted.
fn sync<'a, D: Disk>(
    gate: &Gate<D>,
    entries: impl IntoIterator<Item = &'a JournalEntry>,
) -> Result<(), Error> {
    let dirs: BTreeSet<String> =
        entries.into_iter().map(|entry| entry.path().parent().to_owned()).collect();
    stage::sync(gate, &dirs, false)
}
