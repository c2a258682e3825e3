//! Copies of what a transaction replaced or removed, and the way back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::METADATA;
use super::digest::sha256;
use super::disk::{Attribute, Disk, Found, Owner};
use super::error::{Error, Operation};
use super::gate::Gate;
use super::journal::own;
use super::place::Place;
use super::transaction::{Content, Transaction};

/// The form of the manifest.
const VERSION: u32 = 1;
const FOLDER: &str = "backups";
const MANIFEST: &str = "manifest.json";

/// What one transaction replaced, removed and created.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// Its name: the time of the transaction, and a number that grows with each.
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
        /// Its extended attributes, access control lists among them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attributes: Vec<Attribute>,
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

/// The backups in the order in which they were made, each with what is wrong with it. A folder without manifest
/// is none: it is being made or removed.
pub(crate) fn list<D: Disk>(gate: &Gate<D>) -> Result<Vec<Result<Backup, Error>>, Error> {
    let mut backups = Vec::new();
    for id in ids(gate)? {
        match gate.status(&manifest_place(&folder(&id))) {
            Ok(None) => {}
            Ok(Some(_)) => backups.push(load(gate, id)),
            Err(error) => backups.push(Err(error)),
        }
    }
    Ok(backups)
}

/// The names of backups, oldest first. What has another kind of name is none.
fn ids<D: Disk>(gate: &Gate<D>) -> Result<Vec<String>, Error> {
    let mut ids = gate.list(own(FOLDER).as_str())?;
    ids.retain(|id| is_id(id));
    ids.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    Ok(ids)
}

fn load<D: Disk>(gate: &Gate<D>, id: String) -> Result<Backup, Error> {
    let place = manifest_place(&folder(&id));
    let path = gate.full(place.as_str());
    let damaged =
        |reason: &str| Error::DamagedBackup { path: path.clone(), reason: reason.to_owned() };
    let content = gate.record(&place)?.ok_or_else(|| damaged("its manifest is gone"))?;
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&content) else {
        return Err(damaged("its manifest is incomplete or not JSON"));
    };
    if manifest.version != VERSION {
        return Err(damaged("a newer certkit made it"));
    }
    let is_place = |entry: &BackupEntry| {
        let place = Place::parse(&entry.path, &gate.path);
        place.is_ok_and(|place| Some(place.as_str()) == entry.path.to_str())
    };
    if !manifest.files.iter().all(is_place) {
        return Err(damaged("it names a path that certkit never writes"));
    }
    let path = gate.full(folder(&id).as_str());
    Ok(Backup { id, path, files: manifest.files })
}

/// A transaction that brings back what `backup` holds.
pub(crate) fn restore<D: Disk>(gate: &Gate<D>, backup: &Backup) -> Result<Transaction, Error> {
    let mut transaction = Transaction::new(&backup.id);
    for entry in &backup.files {
        match &entry.kind {
            BackupKind::Created => {
                transaction.remove(&entry.path);
            }
            BackupKind::Symlink { target } => {
                transaction.symlink(&entry.path, target);
            }
            BackupKind::File { mode, uid, gid, sha256: expected, attributes } => {
                let place = Place::parse(&entry.path, &gate.path)?;
                let copy = copy_place(&folder(&backup.id), &place);
                let content = gate.read(&copy)?;
                if sha256(&content) != *expected {
                    let reason = "its content is not what the manifest says".to_owned();
                    return Err(Error::DamagedBackup { path: gate.full(copy.as_str()), reason });
                }
                let found = Found {
                    mode: *mode & 0o777,
                    owner: Owner { uid: *uid, gid: *gid },
                    attributes: attributes.clone(),
                };
                transaction.write_as(entry.path.clone(), Content::from(content), found);
            }
        }
    }
    Ok(transaction)
}

/// Removes all backups but the last `keep`; returns the folders that are gone, and what could not be removed.
/// What is no backup is left alone.
pub(crate) fn prune<D: Disk>(gate: &Gate<D>, keep: usize) -> (Vec<PathBuf>, Vec<Error>) {
    let mut failed = Vec::new();
    let mut removed = Vec::new();
    let mut kept = 0;
    let ids = ids(gate).unwrap_or_else(|error| {
        failed.push(error);
        Vec::new()
    });
    for id in ids.iter().rev() {
        let key = folder(id);
        match gate.status(&manifest_place(&key)) {
            Ok(Some(_)) if kept < keep => kept += 1,
            Ok(_) => match remove(gate, &key) {
                Ok(()) => removed.push(gate.full(&key)),
                Err(error) => failed.push(error),
            },
            Err(error) => failed.push(error),
        }
    }
    removed.reverse();
    (removed, failed)
}

fn remove<D: Disk>(gate: &Gate<D>, key: &str) -> Result<(), Error> {
    // Durably first, even if an earlier run did it: a manifest that comes back would speak of files
    // that are gone.
    gate.unlink(&manifest_place(key))?;
    gate.sync_dir(key)?;
    remove_all(gate, key)
}

/// Removes a folder of the store's own with all that is in it.
fn remove_all<D: Disk>(gate: &Gate<D>, key: &str) -> Result<(), Error> {
    for name in gate.list(key)? {
        let place = Place::own(super::place::join(key, &name));
        let status = gate.status(&place)?;
        if status.is_some_and(|status| status.kind == super::disk::Kind::Directory) {
            remove_all(gate, place.as_str())?;
        } else {
            gate.unlink(&place)?;
        }
    }
    gate.remove_dir(key).map(|_| ())
}

/// The name of a new backup: `time`, and the next number. The number tells the order, not the clock, which may
/// be set back.
pub(crate) fn new_id<D: Disk>(gate: &Gate<D>, time: &str) -> Result<String, Error> {
    let last = ids(gate)?.iter().map(|id| sort_key(id).0).max().unwrap_or_default();
    let id = format!("{time}-{}", last.saturating_add(1));
    if is_id(&id) && !time.is_empty() {
        return Ok(id);
    }
    let path = gate.full(own(FOLDER).as_str()).join(time);
    Err(Error::Path { path, reason: "it is not a name for a backup" })
}

/// Whether this can be a backup's name.
pub(crate) fn is_id(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_digit())
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
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

/// Whether octets are a manifest.
pub(crate) fn is_manifest(octets: &[u8]) -> bool {
    serde_json::from_slice::<Manifest>(octets).is_ok_and(|manifest| manifest.version == VERSION)
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
pub(crate) fn read_link<D: Disk>(gate: &Gate<D>, place: &Place) -> Result<String, Error> {
    let target = gate.disk.read_link(&gate.dir(place.parent())?, place.name());
    let target = target.map_err(Error::io(Operation::Read, gate.full(place.as_str())))?;
    target.into_string().map_err(|_| Error::Path {
        path: gate.full(place.as_str()),
        reason: "its target is not UTF-8",
    })
}

/// Orders backups as they were made.
fn sort_key(id: &str) -> (u64, &str) {
    let number = id.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
    (number.unwrap_or_default(), id)
}

#[cfg(test)]
mod tests {
    use super::{is_id, sort_key};

    #[test]
    fn backups_are_in_the_order_they_were_made_whatever_the_clock_said() {
        let mut ids = ["20271121T171101Z-2", "20271121T171100Z-10", "20261121T171100Z-11"];
        ids.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        assert_eq!(ids, ["20271121T171101Z-2", "20271121T171100Z-10", "20261121T171100Z-11"]);
    }

    #[test]
    fn what_is_no_backups_name_is_none() {
        for name in ["README", "..", "lost+found", "", "1/2", ".certkit"] {
            assert!(!is_id(name), "{name}");
        }
    }
}
