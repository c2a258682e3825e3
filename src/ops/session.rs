//! How a changing command begins, what it may change, and how it ends: in one place for all of them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    model::layout::kubelet_dir,
    store::{self, Committed, Debt, NewOwner, Store},
};

/// What became of a change beside the files themselves. Nothing of it unmakes the change.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// Where replaced files were copied to, if they are kept.
    pub backup: Option<PathBuf>,
    /// Backups that are gone because there are newer ones enough.
    pub pruned: Vec<PathBuf>,
    /// What was found or failed once all was in place.
    pub warnings: Vec<String>,
    /// What is owed to those who use what was changed.
    pub debt: Debt,
}

impl Aftermath {
    /// To be called once all that use what was changed were told, or those who can tell them.
    pub fn settle(&self) {
        self.debt.settle();
    }

    /// Adds that of a further part of the same change.
    pub fn join(&mut self, other: Self) {
        self.backup = self.backup.take().or(other.backup);
        self.pruned.extend(other.pruned);
        self.warnings.extend(other.warnings);
        self.debt.join(other.debt);
    }

    /// Takes over what earlier runs owe.
    pub fn take_over(&mut self, debt: Debt) {
        let unknown = debt.unknown().iter();
        self.warnings.extend(unknown.map(|why| {
            format!("an earlier run did not say who has to take up what it changed, and cannot be asked: {why}")
        }));
        self.debt.join(debt);
    }
}

/// Opens DIR for change.
pub fn open(dir: &Path, lock_wait: Duration) -> Result<Store, store::Error> {
    Store::open(dir, kubelet_dir(dir).as_deref(), lock_wait)
}

/// Why files cannot be changed, or given to these owners, for those that cannot. The same for a dry run as for the run.
pub fn refusals<'a>(
    dir: &Path,
    files: impl IntoIterator<Item = (&'a Path, Option<NewOwner>)>,
) -> Result<Vec<(PathBuf, store::Error)>, store::Error> {
    store::refusals(dir, kubelet_dir(dir).as_deref(), files)
}

/// What was kept of changes, to undo them; nothing is opened for change.
pub fn backups(dir: &Path) -> Result<store::Backups<'static>, store::Error> {
    store::Backups::of(dir, kubelet_dir(dir).as_deref())
}

/// What a dry run says of an earlier run that did not end: it is put in order before anything else is done.
pub fn left(dir: &Path) -> Result<Option<String>, store::Error> {
    let pending = store::pending(dir)?.filter(store::Pending::is_left);
    Ok(pending.map(|pending| {
        match pending.decided {
            _ if !pending.decided && !pending.staged => {
                "an earlier run ended before it said who has to take up what it changed: that comes first"
            }
            true => "an earlier run did not finish: its change is decided, and is completed first",
            false => "an earlier run did not finish: what it had prepared is removed first",
        }
        .to_owned()
    }))
}

/// Waits for another certkit that is putting a change in place, as a reader; a note where one was interrupted.
pub fn unfinished(dir: &Path) -> Option<String> {
    // What cannot be looked at is told where it is read.
    let pending = store::settled(dir).ok().flatten()?;
    Some(match pending.holder {
        Some(holder) => format!(
            "{} is putting a change in place: part of the files may be new and part old",
            store::Holder::describe(Some(&holder))
        ),
        None => format!(
            "an earlier change is decided and not finished: part of the files may be new and part old; \
             `certkit --dir {} rotate` finishes it",
            dir.display()
        ),
    })
}

/// Says what a change left, and removes backups that are too many.
pub fn conclude(store: &mut Store, committed: Committed, backups: usize) -> Aftermath {
    let (pruned, failed) = store.prune_backups(backups);
    let mut warnings = committed.warnings;
    warnings.extend(committed.closed.iter().map(|file| {
        format!(
            "{}: everybody could read what it replaces; it is its owner's alone now, and the old key \
             should be taken for known",
            file.display()
        )
    }));
    warnings.extend(failed.into_iter().map(|why| format!("old backups stay: {why}")));
    let backup = committed.backup.filter(|backup| !pruned.contains(backup));
    Aftermath { backup, pruned, warnings, debt: store.debt() }
}
