//! The protocol over any disk: the same code runs on the real one and on the one in memory.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::error::{Error, Operation};
use super::journal::{self, Undecided};
use super::place::Tree;
use super::plan::Plan;
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
}

/// An open directory with a way to change it.
pub(crate) struct Engine<D: Disk> {
    pub(crate) tree: Tree<D>,
    pub(crate) recovered: Option<Recovery>,
    /// Directories made for this run, outermost first; gone again unless something is committed.
    roots: Vec<PathBuf>,
    unfinished: bool,
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
    pub(crate) fn new(
        disk: D,
        path: PathBuf,
        root: D::Dir,
        roots: Vec<PathBuf>,
    ) -> Result<Self, Error> {
        let tree = Tree::new(disk, path, root);
        let mut engine = Self { tree, recovered: None, roots, unfinished: false };
        engine.recover()?;
        Ok(engine)
    }

    /// Does all of `transaction` or nothing.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> Result<Committed, Error> {
        if transaction.is_empty() {
            return Ok(Committed::default());
        }
        if self.unfinished {
            self.recover()?;
        }
        let planned = Plan::new(&self.tree, transaction, &self.roots);
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(error) => {
                remove_roots(&self.tree.disk, &mut self.roots);
                return Err(error);
            }
        };
        if plan.is_empty() {
            return Ok(Committed::default());
        }
        if let Err(error) = journal::begin(&self.tree, &plan.journal) {
            return Err(self.abandon(&plan, false, error));
        }
        let log = match stage::stage(&self.tree, &mut plan) {
            Ok(log) => log,
            Err(error) => return Err(self.abandon(&plan, false, error)),
        };
        match journal::decide(&self.tree) {
            Ok(()) => self.roots.clear(),
            Err(Undecided::No(error)) => return Err(self.abandon(&plan, true, error)),
            Err(Undecided::Perhaps(error)) => return Err(self.leave(error)),
        }
        if let Err(error) = publish::publish(&self.tree, &plan.journal, log) {
            return Err(self.leave(error));
        }
        let full = |place: &str| self.tree.full(place);
        Ok(Committed {
            written: plan.journal.entries.iter().map(|e| full(e.path().as_str())).collect(),
            backup: plan.journal.backup.as_deref().map(|id| full(&super::backup::folder(id))),
        })
    }

    fn recover(&mut self) -> Result<(), Error> {
        if let Some(recovered) = recover::recover(&self.tree)? {
            self.recovered = Some(recovered.recovery);
            if self.roots.is_empty() {
                self.roots = recovered.roots;
            }
        }
        self.unfinished = false;
        Ok(())
    }

    /// Leaves a decided transaction to the next run (or to the next one of this store).
    fn leave(&mut self, error: Error) -> Error {
        self.unfinished = true;
        Error::Decided { dir: self.tree.path.clone(), source: Box::new(error) }
    }

    /// Removes the directories that were made for a transaction that never came.
    pub(crate) fn abandon_root(&mut self) {
        if !self.unfinished {
            remove_roots(&self.tree.disk, &mut self.roots);
        }
    }

    /// Removes what was staged after `error`, and says so when that fails, too.
    fn abandon(&mut self, plan: &Plan, settle: bool, error: Error) -> Error {
        if recover::roll_back(&self.tree, &plan.journal, settle).is_err() {
            self.unfinished = true;
            return Error::LeftBehind { dir: self.tree.path.clone(), source: Box::new(error) };
        }
        remove_roots(&self.tree.disk, &mut self.roots);
        error
    }
}

impl<D: Disk> Drop for Engine<D> {
    fn drop(&mut self) {
        self.abandon_root();
    }
}
