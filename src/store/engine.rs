//! The protocol over any disk: the same code runs on the real one and on the one in memory.

use std::io;
use std::path::{Path, PathBuf};

use super::METADATA;
use super::disk::Disk;
use super::error::{Error, Operation};
use super::gate::Gate;
use super::journal::{self, Rest, Undecided};
use super::lock;
use super::log;
use super::place;
use super::plan::StagingPlan;
use super::publish;
use super::recover::{self, Recovery};
use super::stage;
use super::transaction::Transaction;

/// What a transaction changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Committed {
    /// The files that were written, linked or removed, in the order in which it happened.
    pub written: Vec<PathBuf>,
    /// The folder with copies of what was replaced; nothing when all files are new.
    pub backup: Option<PathBuf>,
    /// The name by which the change can be undone.
    pub id: Option<String>,
    /// Secrets that replace a file which everybody could read: they are their owner's alone.
    pub closed: Vec<PathBuf>,
    /// What could not be done once all was in place.
    pub warnings: Vec<String>,
    /// The name of the record of what is owed now.
    pub(crate) record: String,
}

/// An open directory with a way to change it.
pub(crate) struct Engine<D: Disk> {
    pub(crate) gate: Gate<D>,
    pub(crate) recovered: Option<Recovery>,
    /// What earlier changes still have to do.
    rests: Vec<Rest>,
    locked: bool,
    /// Directories made for this run, outermost first; gone again unless something is committed.
    roots: Vec<PathBuf>,
    /// Whether `.certkit` is such a one.
    metadata: bool,
    unfinished: bool,
}

/// A directory that was opened for change, and what was made for that.
pub(crate) struct Entered<D: Disk> {
    pub(crate) gate: Gate<D>,
    pub(crate) lock: Option<D::File>,
    /// Whether there is one: not on a file system that is read-only, where nothing can be changed.
    pub(crate) locked: bool,
    pub(crate) roots: Vec<PathBuf>,
    /// Whether `.certkit` was made, too.
    pub(crate) metadata: bool,
}

/// Opens a directory and its lock's file, and makes what is missing; where that fails nothing stays.
pub(crate) fn enter<D: Disk + Clone>(
    disk: &D,
    path: &Path,
    annex: Option<&Path>,
) -> Result<Entered<D>, Error> {
    let (root, mut roots) = make_root(disk, path)?;
    let gate = Gate::new(disk.clone(), path.to_owned(), root).with_annex(annex);
    match lock::file(&gate) {
        Ok((lock, metadata)) => {
            let locked = lock.is_some();
            Ok(Entered { gate, lock, locked, roots, metadata })
        }
        Err(error) => {
            remove_roots(disk, &mut roots);
            Err(error)
        }
    }
}

/// Makes a directory and those above it; returns the ones that were missing, outermost first.
pub(crate) fn make_root<D: Disk>(disk: &D, path: &Path) -> Result<(D::Dir, Vec<PathBuf>), Error> {
    let mut made = Vec::new();
    match open_or_make(disk, path, &mut made) {
        Ok(dir) => Ok((dir, made)),
        Err(error) => {
            remove_roots(disk, &mut made);
            Err(error)
        }
    }
}

fn open_or_make<D: Disk>(disk: &D, path: &Path, made: &mut Vec<PathBuf>) -> Result<D::Dir, Error> {
    let missing = match disk.open_dir(path) {
        Ok(dir) => return Ok(dir),
        Err(error) => error,
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(Error::io(Operation::Open, path)(missing));
    };
    if missing.kind() != io::ErrorKind::NotFound {
        return Err(Error::io(Operation::Open, path)(missing));
    }
    let parent = open_or_make(disk, parent, made)?;
    match disk.make_dir(&parent, name, 0o755) {
        Ok(()) => made.push(path.to_owned()),
        // Another run was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io(Operation::CreateDirectory, path)(error)),
    }
    let dir = disk.open_dir(path).map_err(Error::io(Operation::Open, path))?;
    let status = disk.dir_status(&dir).map_err(Error::io(Operation::Inspect, path))?;
    if made.last().is_some_and(|last| last == path) && status.mode & 0o777 != 0o755 {
        disk.set_dir_mode(&dir, 0o755).map_err(Error::io(Operation::SetMode, path))?;
    }
    Ok(dir)
}

/// Removes directories that were made for nothing, as far as they are empty.
pub(crate) fn remove_roots<D: Disk>(disk: &D, roots: &mut Vec<PathBuf>) {
    while let Some(path) = roots.pop() {
        let parent = path.parent().and_then(|parent| disk.open_dir(parent).ok());
        let name = path.file_name().and_then(|name| name.to_str());
        if let (Some(parent), Some(name)) = (parent, name) {
            // What cannot be removed is an empty directory in nobody's way.
            let _ = disk.remove_dir(&parent, name);
        }
    }
}

impl<D: Disk> Engine<D> {
    /// Takes an open (and locked) directory, and deals with what an earlier run left in it.
    pub(crate) fn new(entered: Entered<D>) -> Result<Self, Error> {
        let Entered { gate, lock: _, locked, roots, metadata } = entered;
        let (recovered, rests, unfinished) = (None, Vec::new(), false);
        let mut engine = Self { gate, recovered, rests, locked, roots, metadata, unfinished };
        engine.recover()?;
        Ok(engine)
    }

    /// Does all of `transaction` or nothing.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> Result<Committed, Error> {
        if transaction.is_empty() {
            return Ok(Committed::default());
        }
        if !self.locked {
            let path = self.gate.path.clone();
            let reason = "its file system is mounted read-only";
            return Err(Error::Unchangeable { path, reason });
        }
        if self.unfinished {
            self.recover()?;
        }
        let mut plan =
            StagingPlan::new(&self.gate, transaction, &self.roots, self.metadata, &self.rests)?;
        if plan.is_empty() {
            return Ok(Committed::default());
        }
        if let Some(line) = plan.journal.line_alone() {
            log::append_alone(&self.gate, line)?;
            return Ok(Committed::default());
        }
        if let Err(error) = journal::begin(&self.gate, &plan.journal) {
            return Err(self.abandon(&plan, false, error));
        }
        let log = match stage::stage(&self.gate, &mut plan) {
            Ok(log) => log,
            Err(error) => return Err(self.abandon(&plan, false, error)),
        };
        match journal::decide(&self.gate) {
            Ok(()) => {
                self.roots.clear();
                self.metadata = false;
            }
            Err(Undecided::No(error)) => return Err(self.abandon(&plan, true, error)),
            Err(Undecided::Perhaps(error)) => return Err(self.leave(error)),
        }
        let mut warnings = Vec::new();
        match publish::publish(&self.gate, &plan.journal, log) {
            Ok(unwritten) => warnings.extend(unwritten.map(|error| error.in_one_line())),
            // What failed once may not fail twice, and what fails again must be in nobody else's way.
            Err(error) => match self.recover() {
                Ok(()) if self.rests.iter().all(|rest| !is_of(rest, &plan)) => {}
                Ok(()) => {
                    let dir = self.gate.path.clone();
                    return Err(Error::Decided { dir, source: Box::new(error) });
                }
                Err(_) => return Err(self.leave(error)),
            },
        }
        let full = |place: &str| self.gate.full(place);
        // Where all files are new there is nothing to keep.
        let keeps = plan.backup.iter().any(|entry| !entry.is_created());
        let backup = plan.journal.backup.as_deref().filter(|_| keeps);
        Ok(Committed {
            written: plan.journal.files().map(|place| full(place.as_str())).collect(),
            backup: backup.map(|id| full(&super::backup::folder(id))),
            id: plan.journal.backup.clone(),
            closed: plan.closed,
            warnings,
            record: format!("{}{}", journal::OWED, plan.journal.transaction),
        })
    }

    fn recover(&mut self) -> Result<(), Error> {
        let recovered = recover::recover(&self.gate)?;
        if recovered.recovery.is_some() {
            self.recovered = recovered.recovery;
        }
        if self.roots.is_empty() {
            self.roots = recovered.roots;
        }
        self.metadata |= recovered.metadata;
        self.rests = recovered.rests;
        if self.locked {
            log::mend(&self.gate)?;
        }
        self.unfinished = false;
        Ok(())
    }

    /// Leaves a decided transaction to the next run (or to the next one of this store).
    fn leave(&mut self, error: Error) -> Error {
        self.unfinished = true;
        Error::Decided { dir: self.gate.path.clone(), source: Box::new(error) }
    }

    /// Removes the directories that were made for a transaction that never came.
    pub(crate) fn abandon_root(&mut self) {
        if self.unfinished {
            return;
        }
        if std::mem::take(&mut self.metadata)
            && self.gate.list(METADATA).is_ok_and(|names| names.iter().all(|n| n == lock::NAME))
        {
            // What cannot be removed is an empty directory in nobody's way.
            let _ = self.gate.unlink(&place::own(lock::NAME));
            let _ = self.gate.remove_dir(METADATA);
        }
        remove_roots(&self.gate.disk, &mut self.roots);
    }

    /// Removes what was staged after `error`, and says so when that fails, too.
    fn abandon(&mut self, plan: &StagingPlan, settle: bool, error: Error) -> Error {
        if recover::roll_back(&self.gate, &plan.journal, journal::STAGING, settle).is_err() {
            self.unfinished = true;
            return Error::LeftBehind { dir: self.gate.path.clone(), source: Box::new(error) };
        }
        error
    }
}

/// Whether it is of this plan that something is left to do.
fn is_of(rest: &Rest, plan: &StagingPlan) -> bool {
    rest.record.ends_with(format!("{}{}", journal::REST, plan.journal.transaction))
}

impl<D: Disk> Drop for Engine<D> {
    fn drop(&mut self) {
        self.abandon_root();
    }
}
