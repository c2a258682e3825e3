//! Why the store could not do what it was asked.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A process that holds the lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its command line, or nothing where that cannot be read.
    pub command: String,
}

impl Holder {
    /// A phrase for a message.
    pub fn describe(holder: Option<&Self>) -> String {
        match holder {
            None => "another process".to_owned(),
            Some(Self { pid, command }) if command.is_empty() => format!("process {pid}"),
            Some(Self { pid, command }) => format!("process {pid} ({command})"),
        }
    }
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A backup's copy is not what its manifest says.
    #[error("the backup {} is damaged: {reason}", path.display())]
    DamagedBackup {
        /// The file of the backup that is wrong.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The journal cannot be read, which the protocol rules out: somebody or something changed it.
    #[error("the journal {} is damaged: {reason}", path.display())]
    DamagedJournal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The change is decided, but something failed before all of it was in place.
    #[error("the change to {} is decided but not finished", dir.display())]
    Decided {
        /// The directory being changed.
        dir: PathBuf,
        /// What failed.
        source: Box<Error>,
    },
    /// A file-system call failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done.
        operation: Operation,
        /// To which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The change was not made, and what had been prepared for it could not be removed again.
    #[error("the change was not made, but some of what was prepared for it is still in {}", dir.display())]
    LeftBehind {
        /// The directory being changed.
        dir: PathBuf,
        /// Why the change was not made.
        source: Box<Error>,
    },
    /// Another process is changing the directory.
    #[error("{} is being changed by {}", dir.display(), Holder::describe(holder.as_ref()))]
    LockHeld {
        /// The directory.
        dir: PathBuf,
        /// Who holds the lock, where the system tells.
        holder: Option<Holder>,
        /// How long was waited.
        waited: Duration,
    },
    /// A decided change cannot be finished: a new file is neither staged nor in place.
    #[error("cannot finish an interrupted change: the new {} is neither staged nor in place", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// A path that an earlier change is still to be made to.
    #[error("{} cannot be changed before an earlier change of it is finished: {why}", path.display())]
    Unfinished {
        /// The path.
        path: PathBuf,
        /// The record of that change.
        record: PathBuf,
        /// What stands against it.
        why: String,
    },
    /// A file that this process may not give to whom it is to belong, as is known before anything is changed.
    #[error("{} is to belong to {}, and certkit may not give files away", path.display(), numbers(*uid, *gid))]
    Owner {
        /// The file.
        path: PathBuf,
        /// The user's number.
        uid: u32,
        /// The group's.
        gid: Option<u32>,
    },
    /// A path that is not the store's to change.
    #[error("{} is outside of {}, where certkit changes nothing", path.display(), dir.display())]
    Outside {
        /// The path.
        path: PathBuf,
        /// The store's directory.
        dir: PathBuf,
    },
    /// A place that the system will not let be changed, as is known before anything is.
    #[error("{} cannot be changed: {reason}", path.display())]
    Unchangeable {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// For as long as a reader waits there was no moment in which nothing was being changed.
    #[error("{} is being changed by {}, and its files do not belong together meanwhile", dir.display(), Holder::describe(holder.as_ref()))]
    Changing {
        /// The directory.
        dir: PathBuf,
        /// Who changes it, where the system tells.
        holder: Option<Holder>,
    },
    /// A change was interrupted, so that part of the files are new and part old.
    #[error("{}: a change is decided and not finished, so that the files do not belong together", dir.display())]
    Pending {
        /// The directory.
        dir: PathBuf,
    },
    /// A path that must not be written.
    #[error("{} cannot be changed: {reason}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A record that somebody else may have written.
    #[error("the record {} is not believed: {reason} (its owner is user {owner})", path.display())]
    Untrusted {
        /// The record.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// What speaks against it.
        reason: &'static str,
    },
}

/// What was being done when a file-system call failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs)] // Their Display texts say it.
pub enum Operation {
    Append,
    Create,
    CreateDirectory,
    CreateSymlink,
    Inspect,
    List,
    Lock,
    Open,
    Read,
    Remove,
    RemoveDirectory,
    Rename,
    Reserve,
    SetAttribute,
    SetMode,
    SetOwner,
    Sync,
    Truncate,
    Write,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append to",
            Self::Create => "create",
            Self::CreateDirectory => "create directory",
            Self::CreateSymlink => "create symbolic link",
            Self::Inspect => "inspect",
            Self::List => "list directory",
            Self::Lock => "lock",
            Self::Open => "open directory",
            Self::Read => "read",
            Self::Remove => "remove",
            Self::RemoveDirectory => "remove directory",
            Self::Rename => "put into place",
            Self::Reserve => "set room aside in",
            Self::SetAttribute => "keep an extended attribute of",
            Self::SetMode => "set the mode of",
            Self::SetOwner => "set the owner of",
            Self::Sync => "make durable",
            Self::Truncate => "shorten",
            Self::Write => "write",
        })
    }
}

impl Error {
    /// For `map_err`: the call `operation` on `path` failed.
    pub(crate) fn io(
        operation: Operation,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.into(), source }
    }

    /// Whether the change is decided: it is not undone, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Decided { .. })
    }

    /// The error with its causes.
    pub(crate) fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    /// The file or directory the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::DamagedBackup { path, .. }
            | Self::DamagedJournal { path, .. }
            | Self::Io { path, .. }
            | Self::Lost { path, .. }
            | Self::Outside { path, .. }
            | Self::Owner { path, .. }
            | Self::Path { path, .. }
            | Self::Unchangeable { path, .. }
            | Self::Unfinished { path, .. }
            | Self::Untrusted { path, .. } => path,
            Self::Decided { source, .. } | Self::LeftBehind { source, .. } => source.path(),
            Self::Changing { dir, .. } | Self::LockHeld { dir, .. } | Self::Pending { dir } => dir,
        }
    }

    /// The next step to take, where there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Changing { .. } => "wait until that has ended, and run it again".to_owned(),
            Self::DamagedBackup { .. } => {
                "`certkit rotate --rollback --list` says what else can be undone".to_owned()
            }
            Self::DamagedJournal { path, .. } => format!(
                "nothing was changed; check the files with `certkit verify`, then remove {}",
                path.display()
            ),
            Self::Decided { source, .. } => {
                let first = source.hint().map(|hint| hint + "; then ").unwrap_or_default();
                format!("{first}run certkit again: it finishes the change before anything else")
            }
            Self::Io { source, .. } => return io_hint(source),
            Self::LeftBehind { source, .. } => {
                let first = source.hint().map(|hint| hint + "; then ").unwrap_or_default();
                format!("{first}run certkit again: it removes what was left")
            }
            Self::LockHeld { holder: Some(holder), .. } => {
                format!("wait for process {} to end, or raise --lock-timeout", holder.pid)
            }
            Self::LockHeld { holder: None, .. } => {
                "wait for the other certkit to end, or raise --lock-timeout".to_owned()
            }
            Self::Lost { .. } => "somebody changed the file in between".to_owned(),
            Self::Outside { dir, .. } => format!(
                "if {} is a copy of another tree, correct the paths that its kubeconfigs name; else move \
                 the file into it",
                dir.display()
            ),
            Self::Owner { .. } => {
                "nothing was changed; run certkit as root, with the capability CAP_CHOWN".to_owned()
            }
            Self::Path { .. } => return None,
            Self::Unchangeable { .. } => {
                "nothing was changed; mend that, and run it again".to_owned()
            }
            Self::Pending { dir } => format!(
                "run `certkit --dir {} rotate`: it finishes the change before anything else",
                dir.display()
            ),
            Self::Unfinished { record, .. } => format!(
                "mend the cause and run certkit again; if the present file is right (`certkit verify` \
                 tells), remove {}",
                record.display()
            ),
            Self::Untrusted { path, owner, .. } => format!(
                "if the record is right, run certkit as user {owner}; else remove {}",
                path.display()
            ),
        })
    }
}

fn numbers(uid: u32, gid: Option<u32>) -> String {
    match gid {
        Some(gid) => format!("user {uid} and group {gid}"),
        None => format!("user {uid}"),
    }
}

fn io_hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => "free some space on the file system",
        io::ErrorKind::QuotaExceeded => "free some space in the quota",
        io::ErrorKind::PermissionDenied => "run certkit as the owner of the files, usually root",
        io::ErrorKind::ReadOnlyFilesystem => "mount the file system for writing",
        io::ErrorKind::CrossesDevices => {
            "put a real directory (or a bind mount) in the place of the symbolic link"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
