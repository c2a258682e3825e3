//! Copies of what a transaction replaced or removed, and the way back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::METADATA;
use super::digest::sha256;
use super::disk::{Disk, Owner};
use super::error::{Error, Operation};
use super::journal::own;
use super::place::{Place, Tree};
use super::transaction::{Content, Transaction};

/// The form of the manifest.
const VERSION: u32 = 1;
const FOLDER: &str = "backups";
const MANIFEST: &str = "manifest.json";

/// What one transaction replaced, removed and created.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// Its name: the time of the transaction, with `-2`, `-3`, ... when there were more at that time.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// The files, in the order in which they were changed.
    pub files: Vec<BackupEntry>,
}

/// What a path was before a transaction.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BackupEntry {
    /// The path: relative to the store's directory, or absolute when it is elsewhere.
    pub path: PathBuf,
    /// What was there.
    #[serde(flatten)]
    pub kind: BackupKind,
}

/// What was at a path before a transaction.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "was")]
pub enum BackupKind {
    /// Nothing: the transaction created the file.
    #[serde(rename = "missing")]
    Created,
    /// A file, which the backup holds a copy of.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// The digest of its content, in hexadecimal.
        sha256: String,
    },
    /// A symbolic link.
    Symlink {
        /// Where it pointed.
        target: String,
    },
}

#[derive(Deserialize, Serialize)]
struct Manifest {
    version: u32,
    id: String,
    files: Vec<BackupEntry>,
}

impl BackupEntry {
    /// Whether the transaction created this file.
    pub fn is_created(&self) -> bool {
        self.kind == BackupKind::Created
    }
}

/// The backups, newest last. A folder without manifest is not one: it is being made or removed.
pub(crate) fn list<D: Disk>(tree: &Tree<D>) -> Result<Vec<Backup>, Error> {
    let mut ids = tree.list(own(FOLDER).as_str())?;
    ids.sort_by_key(|id| sort_key(id));
    let mut backups = Vec::with_capacity(ids.len());
    for id in ids {
        let place = manifest_place(&folder(&id));
        if tree.status(&place)?.is_none() {
            continue;
        }
        let path = tree.full(place.as_str());
        let damaged = |reason: &str| Error::DamagedBackup { path, reason: reason.to_owned() };
        let manifest: Manifest = match serde_json::from_slice(&tree.read(&place)?) {
            Ok(manifest) => manifest,
            Err(_) => return Err(damaged("its manifest is incomplete or not JSON")),
        };
        if manifest.version != VERSION {
            return Err(damaged("a newer certkit made it"));
        }
        let path = tree.full(folder(&id).as_str());
        backups.push(Backup { id, path, files: manifest.files });
    }
    Ok(backups)
}

/// A transaction that brings back what `backup` holds.
pub(crate) fn restore<D: Disk>(tree: &Tree<D>, backup: &Backup) -> Result<Transaction, Error> {
    let mut transaction = Transaction::new(&backup.id);
    for entry in &backup.files {
        match &entry.kind {
            BackupKind::Created => {
                transaction.remove(&entry.path);
            }
            BackupKind::Symlink { target } => {
                transaction.symlink(&entry.path, target);
            }
            BackupKind::File { mode, uid, gid, sha256: expected } => {
                let place = Place::parse(&entry.path, &tree.path)?;
                let copy = copy_place(&folder(&backup.id), &place);
                let content = tree.read(&copy)?;
                if sha256(&content) != *expected {
                    let reason = "its content is not what the manifest says".to_owned();
                    return Err(Error::DamagedBackup { path: tree.full(copy.as_str()), reason });
                }
                let owner = Owner { uid: *uid, gid: *gid };
                transaction.write_owned(entry.path.clone(), Content::from(content), *mode, owner);
            }
        }
    }
    Ok(transaction)
}

/// Removes all backups but the last `keep`; returns the folders that are gone.
pub(crate) fn prune<D: Disk>(tree: &Tree<D>, keep: usize) -> Result<Vec<PathBuf>, Error> {
    let mut ids = tree.list(own(FOLDER).as_str())?;
    ids.sort_by_key(|id| sort_key(id));
    let mut kept = 0;
    let mut removed = Vec::new();
    for id in ids.iter().rev() {
        let complete = tree.status(&manifest_place(&folder(id)))?.is_some();
        if complete && kept < keep {
            kept += 1;
            continue;
        }
        let key = folder(id);
        // Durably first, even if an earlier run did it: a manifest that comes back would speak of
        // files that are gone.
        tree.unlink(&manifest_place(&key))?;
        tree.sync_dir(&key)?;
        remove_all(tree, &key)?;
        removed.push(tree.full(&key));
    }
    removed.reverse();
    Ok(removed)
}

/// Removes a folder of the store's own with all that is in it.
fn remove_all<D: Disk>(tree: &Tree<D>, key: &str) -> Result<(), Error> {
    for name in tree.list(key)? {
        let place = Place::own(super::place::join(key, &name));
        let status = tree.status(&place)?;
        if status.is_some_and(|status| status.kind == super::disk::Kind::Directory) {
            remove_all(tree, place.as_str())?;
        } else {
            tree.unlink(&place)?;
        }
    }
    tree.remove_dir(key).map(|_| ())
}

/// `id`, or with the first number that makes it new.
pub(crate) fn unused_id<D: Disk>(tree: &Tree<D>, id: &str) -> Result<String, Error> {
    if id.is_empty() || id.starts_with('.') || id.contains(['/', '\0']) {
        let path = tree.full(own(FOLDER).as_str()).join(id);
        return Err(Error::Path { path, reason: "it is not a name for a backup" });
    }
    let taken = tree.list(own(FOLDER).as_str())?;
    let numbered = (2_u64..).map(|number| format!("{id}-{number}"));
    let mut candidates = std::iter::once(id.to_owned()).chain(numbered);
    // The iterator has more members than there can be folders.
    Ok(candidates.find(|candidate| !taken.contains(candidate)).unwrap_or_default())
}

/// The folder of a backup.
pub(crate) fn folder(id: &str) -> String {
    format!("{METADATA}/{FOLDER}/{id}")
}

/// Where a backup's manifest is.
pub(crate) fn manifest_place(folder: &str) -> Place {
    Place::own(format!("{folder}/{MANIFEST}"))
}

/// Where a backup's copy of a file is.
pub(crate) fn copy_place(folder: &str, place: &Place) -> Place {
    if place.is_outside() {
        Place::own(format!("{folder}/outside{}", place.as_str()))
    } else {
        Place::own(format!("{folder}/files/{}", place.as_str()))
    }
}

/// The manifest's bytes.
pub(crate) fn encode_manifest(id: &str, files: &[BackupEntry]) -> Vec<u8> {
    let manifest = Manifest { version: VERSION, id: id.to_owned(), files: files.to_vec() };
    // All paths in it are UTF-8 (a Place is text): this cannot fail.
    let mut bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Where the symbolic link at `place` points.
pub(crate) fn read_link<D: Disk>(tree: &Tree<D>, place: &Place) -> Result<String, Error> {
    let target = tree.disk.read_link(&tree.dir(place.parent())?, place.name());
    let target = target.map_err(Error::io(Operation::Read, tree.full(place.as_str())))?;
    target.into_string().map_err(|_| Error::Path {
        path: tree.full(place.as_str()),
        reason: "its target is not UTF-8",
    })
}

/// Orders `T`, `T-2`, ..., `T-10` as they were made.
fn sort_key(id: &str) -> (String, u64) {
    let numbered = id.rsplit_once('-').and_then(|(time, n)| Some((time, n.parse().ok()?)));
    let (time, number) = numbered.unwrap_or((id, 1));
    (time.to_owned(), number)
}

#[cfg(test)]
mod tests {
    use super::sort_key;

    #[test]
    fn backups_of_one_second_are_in_the_order_they_were_made() {
        let mut ids =
            ["20271121T171101Z", "20271121T171100Z-10", "20271121T171100Z-2", "20271121T171100Z"];
        ids.sort_by_key(|id| sort_key(id));
        assert_eq!(ids[0], "20271121T171100Z");
        assert_eq!(ids[1], "20271121T171100Z-2");
        assert_eq!(ids[3], "20271121T171101Z");
    }
}
