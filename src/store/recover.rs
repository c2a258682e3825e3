//! What the next run does about a run that did not end: finish what was decided, drop the rest. What cannot be
//! done now is set aside: it stands in the way of its own places alone.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::METADATA;
use super::disk::Disk;
use super::error::Error;
use super::gate::Gate;
use super::journal::{self, JOURNAL, Journal, JournalEntry, REST, Rest, STAGING, Unreadable};
use super::lock;
use super::place::{StorePath, own, parent};
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
    /// The change was decided, and not all of it can be put in place now.
    Unfinished {
        /// The files that it changed.
        files: Vec<PathBuf>,
        /// Those that are still to be changed: nothing else changes them meanwhile.
        left: Vec<PathBuf>,
        /// What stands against it.
        why: String,
    },
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = "an earlier run was interrupted; its change of";
        match self {
            Self::RolledBack { files } => write!(
                f,
                "{start} {} files was taken back, as it had not been decided",
                files.len()
            ),
            Self::RolledForward { files } => {
                write!(f, "{start} {} files was completed", files.len())
            }
            Self::Unfinished { files, left, why } => write!(
                f,
                "{start} {} files is decided, and {} of them cannot be put in place yet: {why}",
                files.len(),
                left.len()
            ),
        }
    }
}

/// What an interrupted run left, and what remains of it to be taken over.
#[derive(Default)]
pub(crate) struct Recovered {
    pub(crate) recovery: Option<Recovery>,
    /// Directories that run made for itself, to be removed if this one needs them neither.
    pub(crate) roots: Vec<PathBuf>,
    /// Whether `.certkit` is such a one.
    pub(crate) metadata: bool,
    /// Changes that are decided and cannot be finished.
    pub(crate) rests: Vec<Rest>,
}

/// Finishes or drops what an earlier run left in the directory.
pub(crate) fn recover<D: Disk>(gate: &Gate<D>) -> Result<Recovered, Error> {
    let mut recovered = Recovered::default();
    if gate.find_dir(METADATA)?.is_none() {
        return Ok(recovered);
    }
    if let Some(journal) = load(gate, JOURNAL)? {
        // That run may have been killed before its decision was durable.
        gate.sync_dir(METADATA)?;
        let files = files(gate, &journal);
        let rest = finish(gate, JOURNAL, &journal)?;
        recovered.recovery = Some(match &rest {
            None => Recovery::RolledForward { files },
            Some(rest) => unfinished(gate, files, rest),
        });
        recovered.rests.extend(rest);
    }
    if let Some(journal) = load(gate, STAGING)? {
        drop_staged(gate, STAGING, &journal)?;
        recovered.roots = journal.roots.iter().map(PathBuf::from).collect();
        recovered.metadata = journal.metadata;
        recovered.recovery = Some(Recovery::RolledBack { files: files(gate, &journal) });
    }
    let names = gate.list(METADATA)?;
    for name in names.iter().filter(|name| name.starts_with(REST)) {
        if recovered.rests.iter().any(|rest| rest.record.ends_with(name)) {
            continue;
        }
        let Some(journal) = load(gate, name)? else { continue };
        if journal.dropped {
            drop_staged(gate, name, &journal)?;
            continue;
        }
        let files = files(gate, &journal);
        let rest = finish(gate, name, &journal)?;
        recovered.recovery.get_or_insert_with(|| match &rest {
            None => Recovery::RolledForward { files },
            Some(rest) => unfinished(gate, files, rest),
        });
        recovered.rests.extend(rest);
    }
    // A run that ended between making `.certkit` and its first record.
    recovered.metadata |= names.iter().all(|name| name == lock::NAME);
    Ok(recovered)
}

/// What is in place, and whoever uses it may not have been told of: the files of each record that is `wanted`, by its name, or
/// what is wrong with it. One that cannot be believed is in nobody's way.
pub(crate) fn owed<D: Disk>(
    gate: &Gate<D>,
    mut wanted: impl FnMut(&str) -> bool,
) -> Result<Vec<Result<Vec<PathBuf>, Error>>, Error> {
    let rests = rests(gate)?;
    let is_in_place = |place: &&StorePath| rests.iter().all(|rest| !rest.places.contains(place));
    let mut owed = Vec::new();
    for name in gate.list(METADATA)? {
        if !name.starts_with(journal::OWED) || !wanted(&name) {
            continue;
        }
        match load(gate, &name) {
            Ok(Some(journal)) => {
                let files = journal.files().filter(is_in_place);
                owed.push(Ok(files.map(|place| gate.full(place.as_str())).collect()));
            }
            // Another run has settled it meanwhile.
            Ok(None) => {}
            Err(error) => owed.push(Err(error)),
        }
    }
    Ok(owed)
}

/// What is left of changes that were decided, looked at without changing anything.
pub(crate) fn rests<D: Disk>(gate: &Gate<D>) -> Result<Vec<Rest>, Error> {
    let mut rests = Vec::new();
    for name in gate.list(METADATA)?.iter().filter(|name| name.starts_with(REST)) {
        let Some(journal) = load(gate, name)?.filter(|journal| !journal.dropped) else { continue };
        let why = "an earlier change of it is decided and not finished".to_owned();
        rests.push(Rest::new(gate.full(own(name).as_str()), &journal, why));
    }
    Ok(rests)
}

fn unfinished<D: Disk>(gate: &Gate<D>, files: Vec<PathBuf>, rest: &Rest) -> Recovery {
    let left = rest.places.iter().map(|place| gate.full(place.as_str())).collect();
    Recovery::Unfinished { files, left, why: rest.why.clone() }
}

/// Publishes what is decided, and sets aside what cannot be put in place now.
fn finish<D: Disk>(gate: &Gate<D>, name: &str, journal: &Journal) -> Result<Option<Rest>, Error> {
    let failed = publish::publish_again(gate, journal, name)?;
    let Some((_, error)) = failed.first() else { return Ok(None) };
    let why = error.in_one_line();
    // With a directory all that is in it is left.
    let fresh = journal.fresh();
    let failed: BTreeSet<&str> =
        failed.iter().map(|(at, _)| journal.entries[*at].path().as_str()).collect();
    let is_left = |entry: &&JournalEntry| {
        let path = entry.path();
        failed.contains(path.as_str()) || fresh.above(path).is_some_and(|at| failed.contains(at))
    };
    let entries = journal.entries.iter().filter(is_left).cloned().collect();
    let rest = Journal { entries, ..Journal::new(journal.transaction.clone(), vec![], false) };
    journal::set_aside(gate, name, &rest)?;
    let record = gate.full(own(&format!("{REST}{}", journal.transaction)).as_str());
    Ok(Some(Rest::new(record, &rest, why)))
}

/// Removes what was staged, and sets aside what cannot be removed now: it is in nobody's way.
fn drop_staged<D: Disk>(gate: &Gate<D>, name: &str, journal: &Journal) -> Result<(), Error> {
    if roll_back(gate, journal, name, true).is_err() {
        let rest = Journal { dropped: true, log: None, ..journal.clone() };
        journal::set_aside(gate, name, &rest)?;
    }
    Ok(())
}

/// Removes all that was staged. `again` when another process made it, or the record's own name may
/// not be durable: then a thing that is gone may come back with the next power cut, so that every
/// directory is synced, and the record before all.
pub(crate) fn roll_back<D: Disk>(
    gate: &Gate<D>,
    journal: &Journal,
    record: &str,
    again: bool,
) -> Result<(), Error> {
    if again {
        gate.sync_dir(METADATA)?;
    }
    let mut touched = BTreeSet::new();
    let mut failed = None;
    let mut done = |removed: Result<bool, Error>, dir: &str| match removed {
        Ok(removed) if removed || again => {
            touched.insert(dir.to_owned());
        }
        Ok(_) => {}
        // All else is removed first.
        Err(error) => failed = Some(failed.take().unwrap_or(error)),
    };
    let fresh = journal.fresh();
    let files = journal.entries.iter().filter(|entry| !entry.is_directory());
    for place in files.filter_map(|entry| fresh.staged(entry)) {
        done(gate.unlink(&place), place.parent());
    }
    // The manifest goes first: what has none is no backup.
    for place in journal.copies.iter().rev() {
        done(gate.unlink(place), place.parent());
    }
    if journal.log.as_ref().is_some_and(|log| log.created) {
        // Its removal must last before the record's does, though both are in one directory: a power cut may
        // keep either, and without the record nobody would remove it.
        done(gate.unlink(&own(journal::LOG)), METADATA);
    }
    for key in journal.directories.iter().rev() {
        done(gate.remove_dir(key), parent(key));
    }
    if let Some(error) = failed {
        return Err(error);
    }
    for key in &touched {
        if gate.find_dir(key)?.is_some() {
            gate.sync_dir(key)?;
        }
    }
    journal::end(gate, record, !touched.is_empty())
}

/// Reads the record `name`, if there is one that says anything.
fn load<D: Disk>(gate: &Gate<D>, name: &str) -> Result<Option<Journal>, Error> {
    let place = own(name);
    let Some(content) = gate.record(&place)? else { return Ok(None) };
    let journal = match Journal::decode(&content, &gate.path) {
        Ok(journal) => journal,
        // Nothing is made before its record is durable: what is torn speaks of nothing.
        Err(Unreadable::Incomplete) if name == STAGING => {
            journal::end(gate, STAGING, false)?;
            return Ok(None);
        }
        Err(unreadable) => {
            let path = gate.full(place.as_str());
            return Err(Error::DamagedJournal { path, reason: unreadable.describe() });
        }
    };
    journal.entries.iter().try_for_each(|entry| gate.admits(entry.path()))?;
    Ok(Some(journal))
}

fn files<D: Disk>(gate: &Gate<D>, journal: &Journal) -> Vec<PathBuf> {
    journal.files().map(|place| gate.full(place.as_str())).collect()
}
