//! Reading all of a directory as it is at one moment: never the half of a change.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::METADATA;
use super::disk::{Disk, FileKind, FileStatus};
use super::error::{Error, Operation};
use super::gate::Gate;
use super::place::{self, StorePath};
use super::real::RealDisk;
use super::{Pending, pending};

/// How long a reader waits for a change to be published: a matter of milliseconds, but of seconds on a disk that others
/// keep busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much a whole directory may hold.
const TOTAL: u64 = 512 << 20;

/// One file or directory.
pub struct SnapshotEntry {
    /// Its path, relative to the directory that was read.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// When its content changed last, in seconds since 1970.
    pub modified: u64,
    /// What it holds; nothing for a directory.
    pub content: Option<Zeroizing<Vec<u8>>>,
}

/// Waits until no other process is amidst publishing a change; tells of one that was interrupted, or takes too long.
pub fn settled(dir: &Path) -> Result<Option<Pending>, Error> {
    let start = Instant::now();
    loop {
        let found = pending(dir)?.filter(|pending| pending.decided);
        let publishing = found.as_ref().is_some_and(|pending| pending.holder.is_some());
        if !publishing || start.elapsed() > PATIENCE {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Reads all that is in the directory `folder` below `dir`, each directory's entries in the order of their names,
/// but for the names at its top that `skip` names. Symbolic links are errors.
pub fn snapshot(
    dir: &Path,
    folder: &Path,
    skip: impl Fn(&str) -> bool,
) -> Result<Vec<SnapshotEntry>, Error> {
    let path = std::path::absolute(dir).map_err(Error::io(Operation::Open, dir))?;
    let key = folder
        .to_str()
        .ok_or_else(|| Error::Path { path: folder.to_owned(), reason: "its name is not UTF-8" })?;
    let start = Instant::now();
    loop {
        match settled(&path)? {
            None => {}
            Some(Pending { holder: None, .. }) => return Err(Error::Pending { dir: path }),
            Some(Pending { holder, .. }) => return Err(Error::Changing { dir: path, holder }),
        }
        let root = RealDisk.open_dir(&path).map_err(Error::io(Operation::Open, &path))?;
        let gate = Gate::new(RealDisk, path.clone(), root);
        let before = stamp(&gate)?;
        let mut reader = Reader { gate: &gate, skip: &skip, left: TOTAL, entries: Vec::new() };
        let read = reader.folder(key, Path::new(""));
        let entries = reader.entries;
        // What changed meanwhile is read again, as it may have been one half before and the other after.
        if stamp(&gate)? == before {
            return read.map(|()| entries);
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::Changing { dir: path, holder: None });
        }
    }
}

/// An inode, and when it changed last.
pub(super) type Stamp = (u64, (i64, u32));

/// What every change of certkit's changes, for all to see who may see the directory.
fn stamp(gate: &Gate<RealDisk>) -> Result<Option<Stamp>, Error> {
    let status = gate.status(&StorePath::own(METADATA))?;
    Ok(status.map(|status| (status.inode, status.modified)))
}

struct Reader<'a, F> {
    gate: &'a Gate<RealDisk>,
    skip: &'a F,
    left: u64,
    entries: Vec<SnapshotEntry>,
}

impl<F: Fn(&str) -> bool> Reader<'_, F> {
    fn folder(&mut self, key: &str, inside: &Path) -> Result<(), Error> {
        let gate = self.gate;
        let dir = gate.plain_dir(key)?;
        let names = gate.disk.list(&dir).map_err(Error::io(Operation::List, gate.full(key)))?;
        for name in names {
            let reject = |reason| Error::Path { path: gate.full(key).join(&name), reason };
            let name = name.to_str().ok_or_else(|| reject("its name is not UTF-8"))?;
            // Left by a run that was killed before anything was decided.
            let skipped = inside.as_os_str().is_empty() && (self.skip)(name);
            if skipped || place::is_temporary(name) {
                continue;
            }
            let place = StorePath::own(place::join(key, name));
            let path = gate.full(place.as_str());
            let found = gate.disk.status(&dir, name);
            let Some(status) = found.map_err(Error::io(Operation::Inspect, &path))? else {
                continue;
            };
            let content = match status.kind {
                FileKind::Directory => None,
                FileKind::File => Some(self.file(&dir, name, &path, &status)?),
                // A link may lead to anything of this machine.
                FileKind::Symlink => return Err(reject("it is a symbolic link")),
                FileKind::Other => {
                    return Err(reject("it is neither a regular file nor a directory"));
                }
            };
            let is_folder = content.is_none();
            let modified = u64::try_from(status.modified.0).unwrap_or_default();
            let path = inside.join(name);
            let (mode, below) = (status.mode, path.clone());
            self.entries.push(SnapshotEntry { path, mode, modified, content });
            if is_folder {
                self.folder(place.as_str(), &below)?;
            }
        }
        Ok(())
    }

    /// A file's content, whole: one that another program writes meanwhile is read again.
    fn file(
        &mut self,
        dir: &<RealDisk as Disk>::Dir,
        name: &str,
        path: &Path,
        status: &FileStatus,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let read = || Error::io(Operation::Read, path);
        let mut before = status.clone();
        for _ in 0..20 {
            let content = self.gate.disk.read(dir, name, self.left).map_err(read())?;
            let after = self.gate.disk.status(dir, name).map_err(read())?;
            let after = after.filter(|after| after.kind == FileKind::File);
            let Some(after) = after else { break };
            let same = (after.inode, after.modified) == (before.inode, before.modified);
            if same && after.length == content.len() as u64 {
                self.left -= after.length;
                return Ok(content);
            }
            before = after;
        }
        Err(Error::Path { path: path.to_owned(), reason: "it changes while it is read" })
    }
}
