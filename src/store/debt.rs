//! What is owed after a change: that whoever uses what it changed is restarted, or that its user is told.
//!
//! A change that is in place leaves its record as `.certkit/owed-TRANSACTION` until that has happened. A run that is
//! killed before leaves it to the next one. Each run holds the records of what it is about to pay by a lock of the
//! operating system, so that no other pays the same meanwhile; the lock ends with the process, the record does not.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use super::METADATA;
use super::disk::Disk;
use super::engine::Committed;
use super::error::Error;
use super::gate::Gate;
use super::journal;
use super::place::own;
use super::real::RealDisk;
use super::recover;

/// Records of changes that are in place, held by this process.
#[derive(Default)]
pub struct Debt {
    gate: Option<Gate<RealDisk>>,
    records: Vec<(String, File)>,
    /// As they were changed; sorted for whoever asks, as a fleet has many.
    files: Vec<PathBuf>,
    unknown: Vec<String>,
}

impl fmt::Debug for Debt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debt").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Debt {
    /// The files that were changed.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        self.files.iter().cloned().collect()
    }

    /// What cannot be known of it, and why.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Adds another to this one.
    pub fn join(&mut self, other: Self) {
        self.gate = self.gate.take().or(other.gate);
        self.records.extend(other.records);
        self.files.extend(other.files);
        self.unknown.extend(other.unknown);
    }

    /// Ends it: everybody was told. Where a record cannot be removed, or comes back with a power cut, the next run tells
    /// it once more, which is better than never.
    pub fn settle(&self) {
        let Some(gate) = &self.gate else { return };
        for (name, _) in &self.records {
            let _ = gate.unlink(&own(name));
        }
    }

    /// What a change owes that was just made.
    pub(super) fn of(gate: &Gate<RealDisk>, committed: &Committed) -> Option<Self> {
        let name = &committed.record;
        let file = gate.disk.append(&gate.dir(METADATA).ok()?, name).ok()?;
        file.try_lock().ok()?;
        Some(Self {
            gate: Some(gate.again()),
            records: vec![(name.clone(), file)],
            files: committed.written.clone(),
            unknown: Vec::new(),
        })
    }

    /// Takes over what no living process holds, this one neither.
    pub(super) fn take(gate: &Gate<RealDisk>) -> Result<Self, Error> {
        let mut debt = Self::default();
        if gate.find_dir(METADATA)?.is_none() {
            return Ok(debt);
        }
        let folder = gate.dir(METADATA)?;
        // One that is held is not even read: a fleet's change leaves one for each of its parts.
        let hold = |name: &str| {
            // On a file system that is read-only nothing can be settled.
            let file = gate.disk.append(&folder, name).ok().filter(|file| file.try_lock().is_ok());
            file.map(|file| debt.records.push((name.to_owned(), file))).is_some()
        };
        for files in recover::owed(gate, hold)? {
            match files {
                Ok(files) => debt.files.extend(files),
                Err(error) => debt.unknown.push(error.in_one_line()),
            }
        }
        if !debt.records.is_empty() {
            debt.gate = Some(gate.again());
        }
        Ok(debt)
    }
}

/// Whether anything is owed that no living process is about to pay.
pub(super) fn is_any(gate: &Gate<RealDisk>, names: &[String]) -> Result<bool, Error> {
    for name in names.iter().filter(|name| name.starts_with(journal::OWED)) {
        let status = gate.status(&own(name))?;
        if status.is_some_and(|status| super::lock::holder(&status).is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}
