//! What is to be changed, before anything is.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::disk::{KeptMetadata, NewOwner};

/// A file's content, wiped from memory when dropped.
#[derive(Clone)]
pub struct Content(Zeroizing<Vec<u8>>);

impl Content {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text.into_bytes()))
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Zeroizing<Vec<u8>>> for Content {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl From<Zeroizing<String>> for Content {
    fn from(mut text: Zeroizing<String>) -> Self {
        std::mem::take(&mut *text).into()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// A set of changes that happen all together or not at all.
///
/// A relative path is beneath the store's directory: no symbolic link may lead out of it. An absolute
/// path is anywhere else (the kubelet's directory, a static pod's manifest): links in its directories
/// are followed, as they are the administrator's. In both, `..` is refused, the last component is
/// never followed, and missing directories are made.
#[derive(Debug)]
pub struct Transaction {
    id: String,
    operation: Option<String>,
    command: Option<&'static str>,
    to_undo: Vec<String>,
    changes: Vec<Change>,
    log: Vec<String>,
}

/// All of a transaction.
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) operation: Option<String>,
    pub(crate) command: Option<&'static str>,
    pub(crate) to_undo: Vec<String>,
    pub(crate) changes: Vec<Change>,
    pub(crate) log: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    pub(crate) action: FileAction,
}

#[derive(Debug)]
pub(crate) enum FileAction {
    /// Gives the secret that is there to an owner.
    Give {
        to: NewOwner,
    },
    Remove,
    Symlink {
        target: PathBuf,
    },
    Write {
        content: Content,
        mode: u32,
        attributes: Attributes,
        owner: Option<NewOwner>,
    },
}

/// What a path is once a transaction has happened.
#[derive(Clone, Copy)]
pub enum After<'t> {
    /// A file with this content.
    File(&'t [u8]),
    /// Nothing.
    Nothing,
    /// A symbolic link.
    Symlink(&'t Path),
}

impl FileAction {
    /// A write of nothing, to ask whether one is possible.
    pub(crate) fn probe(owner: Option<NewOwner>) -> Self {
        let content = Content::from(Vec::new());
        Self::Write { content, mode: 0o600, attributes: Attributes::Kept, owner }
    }

    /// Whom the file is to belong to, whomever it does now.
    pub(crate) fn owner(&self) -> Option<NewOwner> {
        match self {
            Self::Give { to } => Some(*to),
            Self::Write { owner, .. } => *owner,
            Self::Remove | Self::Symlink { .. } => None,
        }
    }
}

/// What a written file gets of the one that it replaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Attributes {
    /// Owner and attributes, and the mode that is asked for.
    Asked,
    /// The mode, too.
    Kept,
    /// Nothing: it was like this once.
    Restored(KeptMetadata),
}

impl Transaction {
    /// An empty transaction. `id_time`, a compact timestamp like `20271121T171100Z`, names its backup.
    pub fn new(id_time: &str) -> Self {
        Self {
            id: id_time.to_owned(),
            operation: None,
            command: None,
            to_undo: Vec::new(),
            changes: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The same transaction with another name for its backup.
    pub fn named(mut self, id_time: &str) -> Self {
        id_time.clone_into(&mut self.id);
        self
    }

    /// Makes it a further part of an operation that began with the backup of this name: they are listed, kept and
    /// undone as one.
    pub fn part_of(&mut self, operation: &str) -> &mut Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// Says which command makes this change: its backup keeps that.
    pub fn by(&mut self, command: &'static str) -> &mut Self {
        self.command = Some(command);
        self
    }

    /// Says which changes are still to be undone after this one, in the order in which they were made: its backup keeps
    /// that, for whoever goes on where this was cut short.
    pub fn before_undoing(&mut self, changes: Vec<String>) -> &mut Self {
        self.to_undo = changes;
        self
    }

    /// Creates or replaces a file with `mode`; one that is replaced keeps its owner and attributes.
    pub fn write(
        &mut self,
        path: impl Into<PathBuf>,
        content: impl Into<Content>,
        mode: u32,
    ) -> &mut Self {
        self.push_write(path.into(), content.into(), mode, Attributes::Asked)
    }

    /// As [`write`](Self::write), but a file that is replaced keeps its mode and access control list, too. Only
    /// what is to be secret is never open to everybody, whatever it replaces.
    pub fn write_keeping_mode(
        &mut self,
        path: impl Into<PathBuf>,
        content: impl Into<Content>,
        mode: u32,
    ) -> &mut Self {
        self.push_write(path.into(), content.into(), mode, Attributes::Kept)
    }

    /// Has what is written at these paths belong to these owners, whatever it replaces.
    pub fn own(&mut self, owners: &BTreeMap<PathBuf, NewOwner>) -> &mut Self {
        for change in &mut self.changes {
            if let (FileAction::Write { owner, .. }, Some(to)) =
                (&mut change.action, owners.get(&change.path))
            {
                *owner = Some(*to);
            }
        }
        self
    }

    /// Gives a secret that is there to an owner, its content left as it is.
    pub fn give(&mut self, path: impl Into<PathBuf>, to: NewOwner) -> &mut Self {
        self.push(path.into(), FileAction::Give { to })
    }

    /// Removes a file or a symbolic link; nothing happens when there is none.
    pub fn remove(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.push(path.into(), FileAction::Remove)
    }

    /// Creates a symbolic link, or replaces one; anything else in its place is an error.
    pub fn symlink(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> &mut Self {
        self.push(path.into(), FileAction::Symlink { target: target.into() })
    }

    /// Appends a line to `.certkit/log.jsonl`, exactly once however often the change is interrupted.
    pub fn log(&mut self, json_line: String) -> &mut Self {
        self.log.push(json_line);
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.log.is_empty()
    }

    /// The paths that are to be changed, in the order they were given.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.changes.iter().map(|change| change.path.as_path())
    }

    /// The same of the changes after the first so many.
    pub fn paths_after(&self, count: usize) -> impl Iterator<Item = &Path> {
        self.changes.iter().skip(count).map(|change| change.path.as_path())
    }

    /// How many changes there are.
    pub fn count(&self) -> usize {
        self.changes.len()
    }

    /// What each path will be whose content changes, in the order they were given.
    pub fn outcomes(&self) -> impl Iterator<Item = (&Path, After<'_>)> {
        self.changes.iter().filter_map(|change| {
            let after = match &change.action {
                FileAction::Give { .. } => return None,
                FileAction::Remove => After::Nothing,
                FileAction::Symlink { target } => After::Symlink(target),
                FileAction::Write { content, .. } => After::File(content.as_bytes()),
            };
            Some((change.path.as_path(), after))
        })
    }

    /// Takes out what would be done at this path.
    pub fn withhold(&mut self, path: &Path) {
        self.changes.retain(|change| change.path != path);
    }

    pub(crate) fn write_as(&mut self, path: PathBuf, content: Content, was: KeptMetadata) {
        self.push_write(path, content, was.mode, Attributes::Restored(was));
    }

    pub(crate) fn into_parts(self) -> Parts {
        let Self { id, operation, command, to_undo, changes, log } = self;
        Parts { id, operation, command, to_undo, changes, log }
    }

    fn push_write(
        &mut self,
        path: PathBuf,
        content: Content,
        mode: u32,
        attributes: Attributes,
    ) -> &mut Self {
        self.push(path, FileAction::Write { content, mode, attributes, owner: None })
    }

    fn push(&mut self, path: PathBuf, action: FileAction) -> &mut Self {
        self.changes.push(Change { path, action });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_content() {
        let mut transaction = Transaction::new("20271121T171100Z");
        transaction.write("pki/ca.key", "SECRET", 0o600);
        assert!(!format!("{transaction:?}").contains("SECRET"));
        assert!(format!("{transaction:?}").contains("6 bytes"));
    }
}
