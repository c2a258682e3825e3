//! What each transaction replaced, removed and created, with copies of what was there, and the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::METADATA;
use super::digest::sha256;
use super::disk::{Attribute, Disk, FileKind, FileStatus, KeptMetadata, UserAndGroup};
use super::error::{Error, Operation};
use super::gate::Gate;
use super::place::{StorePath, own};
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
    /// The command that made the change; nothing where the backup does not say.
    pub command: Option<String>,
    /// The files, in the order in which they were changed.
    pub files: Vec<BackupEntry>,
    /// What the change was to undo after this, in the order in which it had been made: where nothing follows, it was cut
    /// short.
    pub to_undo: Vec<String>,
}

/// What a path was before a transaction.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BackupEntry {
    /// The path: relative to the store's directory, or absolute when it is elsewhere.
    pub path: PathBuf,
    /// What was there.
    #[serde(flatten)]
    pub kind: BackupKind,
    /// What the transaction put there; unknown where the backup does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub became: Option<Became>,
}

/// What a transaction made of a path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum Became {
    /// A file.
    File {
        /// The digest of its content, in hexadecimal.
        sha256: String,
    },
    /// Nothing.
    Missing,
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    files: Vec<BackupEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "toUndo")]
    to_undo: Vec<String>,
}

/// Whether two backups, by their names, are parts of one operation, which is undone as one.
pub fn are_of_one(one: &str, other: &str) -> bool {
    operation(one) == operation(other)
}

impl BackupEntry {
    /// Whether the transaction created this file.
    pub fn is_created(&self) -> bool {
        self.kind == BackupKind::Created
    }
}

/// The names of the backups in the order in which they were made. A folder without manifest is none: it is being made or
/// removed.
pub(crate) fn names<D: Disk>(gate: &Gate<D>) -> Result<Vec<String>, Error> {
    let mut names = ids(gate)?;
    names.retain(|id| !matches!(gate.status(&manifest_place(&folder(id))), Ok(None)));
    Ok(names)
}

/// A backup, with its copies read: what is wrong with it is known before anything is built on it.
pub(crate) fn checked<D: Disk>(gate: &Gate<D>, id: &str) -> Result<Backup, Error> {
    let backup = load(gate, id)?;
    check(gate, &backup)?;
    Ok(backup)
}

/// The names of backups, oldest first. What has another kind of name is none.
fn ids<D: Disk>(gate: &Gate<D>) -> Result<Vec<String>, Error> {
    let mut ids = gate.list(own(FOLDER).as_str())?;
    ids.retain(|id| is_id(id));
    ids.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    Ok(ids)
}

/// A backup, as its manifest says.
pub(crate) fn load<D: Disk>(gate: &Gate<D>, id: &str) -> Result<Backup, Error> {
    let place = manifest_place(&folder(id));
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
        let place = StorePath::parse(&entry.path, &gate.path);
        place.is_ok_and(|place| Some(place.as_str()) == entry.path.to_str())
    };
    if !manifest.files.iter().all(is_place) {
        return Err(damaged("it names a path that certkit never writes"));
    }
    if !manifest.to_undo.iter().all(|id| is_id(id)) {
        return Err(damaged("it names a change that there cannot be"));
    }
    let path = gate.full(folder(id).as_str());
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == ' ';
    let command = manifest.command.filter(|text| text.len() <= 64 && text.chars().all(is_word));
    let Manifest { files, to_undo, .. } = manifest;
    Ok(Backup { id: id.to_owned(), path, command, files, to_undo })
}

/// That every copy of `backup` is what its manifest says.
fn check<D: Disk>(gate: &Gate<D>, backup: &Backup) -> Result<(), Error> {
    backup.files.iter().try_for_each(|entry| match &entry.kind {
        BackupKind::File { sha256, .. } => copy(gate, backup, entry, sha256).map(|_| ()),
        BackupKind::Created | BackupKind::Symlink { .. } => Ok(()),
    })
}

fn copy<D: Disk>(
    gate: &Gate<D>,
    backup: &Backup,
    entry: &BackupEntry,
    expected: &str,
) -> Result<Content, Error> {
    let place = StorePath::parse(&entry.path, &gate.path)?;
    let copy = copy_place(&folder(&backup.id), &place);
    let damaged = |reason: &str| Error::DamagedBackup {
        path: gate.full(copy.as_str()),
        reason: reason.into(),
    };
    match gate.status(&copy)?.map(|status| status.kind) {
        Some(FileKind::File) => {}
        Some(_) => return Err(damaged("it is not a regular file")),
        None => return Err(damaged("it is gone")),
    }
    let content = gate.read(&copy)?;
    match sha256(&content) == expected {
        true => Ok(Content::from(content)),
        false => Err(damaged("its content is not what the manifest says")),
    }
}

/// What brings back the state before several changes.
pub struct Undo {
    /// The change that does; it is named after the first of those that are undone unless it is
    /// [named](Transaction::named) otherwise.
    pub transaction: Transaction,
    /// What each path becomes again, as the oldest of the changes found it.
    pub files: Vec<BackupEntry>,
    /// Paths that are not as the changes left them: something else has changed them since.
    pub strangers: Vec<PathBuf>,
}

/// What undoes `changes`, given in the order in which they were made. A path that several of them changed becomes
/// what it was before the first; one that is so already is left alone.
pub(crate) fn undo<D: Disk>(gate: &Gate<D>, changes: &[Backup]) -> Result<Undo, Error> {
    let id = changes.first().map(|backup| backup.id.as_str()).unwrap_or_default();
    let mut undo =
        Undo { transaction: Transaction::new(id), files: Vec::new(), strangers: Vec::new() };
    // What the last change of each path made of it.
    let mut left: BTreeMap<&PathBuf, Option<&Became>> = BTreeMap::new();
    for entry in changes.iter().flat_map(|backup| &backup.files) {
        left.insert(&entry.path, entry.became.as_ref());
    }
    let mut seen = BTreeSet::new();
    for (backup, entry) in changes.iter().flat_map(|b| b.files.iter().map(move |entry| (b, entry)))
    {
        if !seen.insert(&entry.path) {
            continue;
        }
        let found = look(gate, &StorePath::parse(&entry.path, &gate.path)?)?;
        if is_as_before(&entry.kind, &found) {
            continue;
        }
        let expected = left.get(&entry.path).copied().flatten();
        if expected.is_some_and(|expected| found.as_ref().map(|(is, _)| is) != Some(expected)) {
            undo.strangers.push(entry.path.clone());
        }
        undo.files.push(entry.clone());
        match &entry.kind {
            BackupKind::Created => {
                undo.transaction.remove(&entry.path);
            }
            BackupKind::Symlink { target } => {
                undo.transaction.symlink(&entry.path, target);
            }
            BackupKind::File { mode, uid, gid, sha256, attributes } => {
                let found = KeptMetadata {
                    mode: *mode & 0o777,
                    owner: UserAndGroup { uid: *uid, gid: *gid },
                    attributes: attributes.clone(),
                };
                let content = copy(gate, backup, entry, sha256)?;
                undo.transaction.write_as(entry.path.clone(), content, found);
            }
        }
    }
    Ok(undo)
}

/// What is at a place now; nothing where it is of a kind that certkit never makes.
fn look<D: Disk>(
    gate: &Gate<D>,
    place: &StorePath,
) -> Result<Option<(Became, Option<FileStatus>)>, Error> {
    gate.admits(place)?;
    let Some(status) = gate.status(place)? else { return Ok(Some((Became::Missing, None))) };
    Ok(match status.kind {
        FileKind::File => Some((Became::File { sha256: sha256(&gate.read(place)?) }, Some(status))),
        FileKind::Symlink => {
            Some((Became::Symlink { target: read_link(gate, place)? }, Some(status)))
        }
        FileKind::Directory | FileKind::Other => None,
    })
}

fn is_as_before(before: &BackupKind, found: &Option<(Became, Option<FileStatus>)>) -> bool {
    match (before, found) {
        (BackupKind::Created, Some((Became::Missing, _))) => true,
        (BackupKind::Symlink { target }, Some((Became::Symlink { target: now }, _))) => {
            target == now
        }
        (
            BackupKind::File { mode, uid, gid, sha256, .. },
            Some((Became::File { sha256: now }, Some(status))),
        ) => {
            let owner = UserAndGroup { uid: *uid, gid: *gid };
            sha256 == now && status.mode & 0o777 == mode & 0o777 && status.owner == owner
        }
        _ => false,
    }
}

/// Removes all backups but those of the last `keep` operations; returns the folders that are gone, and what could not be
/// removed. What is no backup is left alone.
pub(crate) fn prune<D: Disk>(gate: &Gate<D>, keep: usize) -> (Vec<PathBuf>, Vec<Error>) {
    let mut failed = Vec::new();
    let mut removed = Vec::new();
    let mut kept = BTreeSet::new();
    let ids = ids(gate).unwrap_or_else(|error| {
        failed.push(error);
        Vec::new()
    });
    for id in ids.iter().rev() {
        let key = folder(id);
        match gate.status(&manifest_place(&key)) {
            Ok(Some(_)) if kept.len() < keep || kept.contains(&operation(id)) => {
                kept.insert(operation(id));
            }
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
        let place = StorePath::own(super::place::join(key, &name));
        let status = gate.status(&place)?;
        if status.is_some_and(|status| status.kind == super::disk::FileKind::Directory) {
            remove_all(gate, place.as_str())?;
        } else {
            gate.unlink(&place)?;
        }
    }
    gate.remove_dir(key).map(|_| ())
}

/// The name of a new backup: `time`, and the next number. The number tells the order, not the clock, which may
/// be set back. A further part of an operation names the number of its first one: `TIME-of3-4`.
pub(crate) fn new_id<D: Disk>(
    gate: &Gate<D>,
    time: &str,
    of: Option<&str>,
) -> Result<String, Error> {
    let last = ids(gate)?.iter().map(|id| sort_key(id).0).max().unwrap_or_default();
    let of = of.map(|of| format!("-of{}", operation(of))).unwrap_or_default();
    let id = format!("{time}{of}-{}", last.saturating_add(1));
    if is_id(&id) && !time.is_empty() {
        return Ok(id);
    }
    let path = gate.full(own(FOLDER).as_str()).join(time);
    Err(Error::Path { path, reason: "it is not a name for a backup" })
}

/// The number of the operation that a backup is a part of: that of its first backup.
fn operation(id: &str) -> u64 {
    let (before, number) = id.rsplit_once('-').unwrap_or_default();
    let of = before.rsplit_once("-of").and_then(|(_, of)| of.parse().ok());
    of.or(number.parse().ok()).unwrap_or_default()
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
pub(crate) fn manifest_place(folder: &str) -> StorePath {
    StorePath::own(format!("{folder}/{MANIFEST}"))
}

/// Where a backup's copy of a file is.
pub(crate) fn copy_place(folder: &str, place: &StorePath) -> StorePath {
    if place.is_outside() {
        StorePath::own(format!("{folder}/outside{}", place.as_str()))
    } else {
        StorePath::own(format!("{folder}/files/{}", place.as_str()))
    }
}

/// Whether octets are a manifest.
pub(crate) fn is_manifest(octets: &[u8]) -> bool {
    serde_json::from_slice::<Manifest>(octets).is_ok_and(|manifest| manifest.version == VERSION)
}

/// The manifest's bytes.
pub(crate) fn encode_manifest(
    id: &str,
    command: Option<&str>,
    files: &[BackupEntry],
    to_undo: &[String],
) -> Vec<u8> {
    let manifest = Manifest {
        version: VERSION,
        id: id.to_owned(),
        command: command.map(str::to_owned),
        files: files.to_vec(),
        to_undo: to_undo.to_vec(),
    };
    // All paths in it are UTF-8 (a Place is text): this cannot fail.
    let mut bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Where the symbolic link at `place` points.
pub(crate) fn read_link<D: Disk>(gate: &Gate<D>, place: &StorePath) -> Result<String, Error> {
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
    use super::{is_id, operation, sort_key};

    #[test]
    fn backups_are_in_the_order_they_were_made_whatever_the_clock_said() {
        let mut ids = ["20271121T171101Z-2", "20271121T171100Z-10", "20261121T171100Z-11"];
        ids.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        assert_eq!(ids, ["20271121T171101Z-2", "20271121T171100Z-10", "20261121T171100Z-11"]);
    }

    #[test]
    fn parts_of_an_operation_are_known_by_their_names() {
        let of = ["20271121T171100Z-3", "20271121T171100Z-of3-4", "20271121T171130Z-of3-12"];
        assert!(of.iter().all(|id| is_id(id) && operation(id) == 3));
        assert_eq!(of.map(|id| sort_key(id).0), [3, 4, 12]);
        assert_eq!(operation("20271121T171100Z-13"), 13);
    }

    #[test]
    fn what_is_no_backups_name_is_none() {
        for name in ["README", "..", "lost+found", "", "1/2", ".certkit"] {
            assert!(!is_id(name), "{name}");
        }
    }
}
