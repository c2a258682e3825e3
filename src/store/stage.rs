//! Preparing everything under other names, durable, so that what remains is renames.

use std::collections::{BTreeMap, BTreeSet};

use super::METADATA;
use super::backup::{self, BackupKind};
use super::digest::sha256;
use super::disk::Disk;
use super::error::{Error, Operation};
use super::gate::Gate;
use super::journal::JournalEntry;
use super::log;
use super::place::{StorePath, parent};
use super::plan::{Look, StagingPlan, Temporary};
use crate::parallel::{self, progress};

/// From how many files and directories on one `syncfs` is cheaper than an `fsync` for each. It
/// writes back other programs' data too, so it is for bulk issue only.
const BULK: usize = 64;

/// How many written files are held open until they are synced together, and in how many directories files are created
/// at once. A process may have 256 open, or less.
const TOGETHER: usize = 16;

/// Makes directories, backup and temporary files, and makes them durable.
/// Returns the log, open for appending, when there are lines to append.
pub(crate) fn stage<D: Disk>(
    gate: &Gate<D>,
    plan: &mut StagingPlan,
) -> Result<Option<D::File>, Error> {
    let mut touched = BTreeSet::new();
    for key in &plan.journal.directories {
        gate.make_dir(key, directory_mode(key))?;
        touched.insert(parent(key).to_owned());
    }
    let files = plan.journal.copies.len() + plan.temporaries.len();
    let bulk = files + plan.journal.directories.len() > BULK;
    let mut unsynced = Unsynced { gate, bulk, files: Vec::new() };
    copy(gate, plan, &mut unsynced)?;
    touched.extend(plan.journal.copies.iter().map(|place| place.parent().to_owned()));
    create_all(gate, &plan.temporaries, &mut unsynced)?;
    unsynced.sync()?;
    let fresh = plan.journal.fresh();
    for entry in &plan.journal.entries {
        let Some(staged) = fresh.staged(entry) else { continue };
        if let JournalEntry::Symlink { target, .. } = entry {
            let made = gate.disk.symlink(&gate.dir(staged.parent())?, staged.name(), target);
            let path = gate.full(staged.as_str());
            made.map_err(Error::io(Operation::CreateSymlink, path))?;
        }
        touched.insert(staged.parent().to_owned());
    }
    let log = plan.journal.log.as_ref().map(|lines| log::open(gate, lines)).transpose()?;
    sync(gate, &touched, bulk)?;
    Ok(log)
}

/// Makes the names in `dirs` durable, and with `all` everything else on their file systems.
pub(crate) fn sync<D: Disk>(
    gate: &Gate<D>,
    dirs: &BTreeSet<String>,
    all: bool,
) -> Result<(), Error> {
    if !all && dirs.len() <= BULK {
        return dirs.iter().try_for_each(|key| gate.sync_dir(key));
    }
    let mut file_systems = BTreeMap::new();
    for key in dirs {
        let dir = gate.dir(key)?;
        let status = gate.disk.dir_status(&dir);
        let status = status.map_err(Error::io(Operation::Inspect, gate.full(key)))?;
        file_systems.entry(status.device).or_insert((dir, key));
    }
    for (dir, key) in file_systems.values() {
        let synced = gate.disk.sync_file_system(dir);
        synced.map_err(Error::io(Operation::Sync, gate.full(key)))?;
    }
    Ok(())
}

/// Creates a file with exactly this mode and owner; nobody else can open it a moment before. The caller
/// makes it durable.
pub(crate) fn create<D: Disk>(
    gate: &Gate<D>,
    place: &StorePath,
    content: &[u8],
    look: &Look,
) -> Result<D::File, Error> {
    let path = gate.full(place.as_str());
    let dir = gate.dir(place.parent())?;
    create_in(&gate.disk, &dir, place.name(), content, look)
        .map_err(|(operation, source)| Error::Io { operation, path, source })
}

/// As [`create`], many of them.
fn create_all<D: Disk>(
    gate: &Gate<D>,
    files: &[Temporary],
    unsynced: &mut Unsynced<'_, D>,
) -> Result<(), Error> {
    let task = progress::task("files", Some(files.len()));
    let (bulk, threads) = (unsynced.bulk, parallel::processors());
    let mut rest = files;
    while !rest.is_empty() {
        let some;
        (some, rest) = rest.split_at(at_once(rest, bulk));
        let dirs: Result<Vec<D::Dir>, Error> =
            some.iter().map(|file| gate.dir(file.place.parent())).collect();
        let all: Vec<(D::Dir, &Temporary)> = dirs?.into_iter().zip(some).collect();
        let created = gate.disk.each(&all, threads, |disk, (dir, file)| {
            let made = create_in(disk, dir, file.place.name(), file.content.as_bytes(), &file.look);
            made.map(|file| (!bulk).then_some(file))
        });
        for (Temporary { place, .. }, created) in some.iter().zip(created) {
            let failed = |(operation, source)| {
                let path = gate.full(place.as_str());
                Error::Io { operation, path, source }
            };
            if let Some(file) = created.map_err(failed)? {
                unsynced.add(place, file)?;
            }
        }
        task.steps(some.len());
    }
    Ok(())
}

/// How many of these are created at once: what is not closed at once counts by the file, all else by the directory.
fn at_once(files: &[Temporary], close: bool) -> usize {
    if !close {
        return files.len().min(TOGETHER);
    }
    let folder = |at: usize| files[at].place.parent();
    let mut others = (1..files.len()).filter(|at| folder(*at) != folder(at - 1));
    others.nth(TOGETHER - 1).unwrap_or(files.len())
}

/// As [`create`], in an open directory.
pub(crate) fn create_in<D: Disk>(
    disk: &D,
    dir: &D::Dir,
    name: &str,
    content: &[u8],
    look: &Look,
) -> Result<D::File, (Operation, std::io::Error)> {
    let failed = |operation| move |source| (operation, source);
    // With an access control list the group's bits are what it gives at most: not before it is there.
    let first = if look.attributes.is_empty() { look.mode } else { look.mode & 0o700 };
    let mut file = disk.create(dir, name, first).map_err(failed(Operation::Create))?;
    let status = disk.file_status(&file).map_err(failed(Operation::Inspect))?;
    // The owner first: changing it clears set-user-ID bits.
    let owner = look.owner.map(|to| to.from(status.owner));
    if let Some(owner) = owner.filter(|owner| *owner != status.owner) {
        disk.set_owner(&file, owner).map_err(failed(Operation::SetOwner))?;
    }
    for attribute in &look.attributes {
        disk.set_attribute(&file, attribute).map_err(failed(Operation::SetAttribute))?;
    }
    if status.mode != look.mode || !look.attributes.is_empty() {
        disk.set_mode(&file, look.mode).map_err(failed(Operation::SetMode))?;
    }
    disk.write(&mut file, content).map_err(failed(Operation::Write))?;
    Ok(file)
}

/// Files that were written and are not durable yet, with their places.
struct Unsynced<'t, D: Disk> {
    gate: &'t Gate<D>,
    /// Whether their file system is made durable as a whole.
    bulk: bool,
    files: Vec<(StorePath, D::File)>,
}

impl<D: Disk> Unsynced<'_, D> {
    fn add(&mut self, place: &StorePath, file: D::File) -> Result<(), Error> {
        if self.bulk {
            return Ok(());
        }
        self.files.push((place.clone(), file));
        if self.files.len() < TOGETHER { Ok(()) } else { self.sync() }
    }

    fn sync(&mut self) -> Result<(), Error> {
        sync_together(self.gate, &std::mem::take(&mut self.files))
    }
}

/// Syncs what was written: a file system commits what waits together at once, where one sync after the other waits for
/// a commit each.
pub(crate) fn sync_together<D: Disk>(
    gate: &Gate<D>,
    files: &[(StorePath, D::File)],
) -> Result<(), Error> {
    let synced = gate.disk.each(files, files.len(), |disk, (_, file)| disk.sync_file(file));
    files.iter().zip(synced).try_for_each(|((place, _), synced)| {
        synced.map_err(Error::io(Operation::Sync, gate.full(place.as_str())))
    })
}

fn copy<D: Disk>(
    gate: &Gate<D>,
    plan: &mut StagingPlan,
    unsynced: &mut Unsynced<'_, D>,
) -> Result<(), Error> {
    let Some(id) = plan.journal.backup.clone() else { return Ok(()) };
    let record = Look { mode: 0o600, ..Look::default() };
    let mut digests = Vec::with_capacity(plan.originals.len());
    for (original, copy) in plan.originals.iter().zip(&plan.journal.copies) {
        // By copy: with a hard link, fsnotify keeps watching the old file (Kubernetes reloads by it).
        let content = gate.read(original)?;
        digests.push(sha256(&content));
        unsynced.add(copy, create(gate, copy, &content, &record)?)?;
    }
    let files = plan.backup.iter_mut().filter_map(|entry| match &mut entry.kind {
        BackupKind::File { sha256, .. } => Some(sha256),
        _ => None,
    });
    for (entry, digest) in files.zip(digests) {
        *entry = digest;
    }
    let manifest = backup::encode_manifest(&id, plan.command, &plan.backup);
    let place = backup::manifest_place(&backup::folder(&id));
    unsynced.add(&place, create(gate, &place, &manifest, &record)?)
}

/// Directories are for everybody to pass, as kubeadm makes them; the store's own hold old keys.
fn directory_mode(key: &str) -> u32 {
    let own = key.strip_prefix(METADATA).is_some_and(|rest| rest.starts_with('/'));
    if own { 0o700 } else { 0o755 }
}
