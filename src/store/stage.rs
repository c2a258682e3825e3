//! Preparing everything under other names, durable, so that what remains is renames.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::METADATA;
use super::backup::{self, BackupKind};
use super::digest::sha256;
use super::disk::Disk;
use super::error::{Error, Operation};
use super::gate::{Gate, make_dir_in};
use super::journal::JournalEntry;
use super::log;
use super::place::{StorePath, parent, upwards};
use super::plan::{Look, StagingPlan, Temporary};
use crate::parallel::{self, progress};

/// From how many files and directories on one `syncfs` is cheaper than an `fsync` for each. It
/// writes back other programs' data too, so it is for bulk issue only.
const BULK: usize = 64;

/// How many written files are held open until they are synced together, and in how many directories that are there files
/// are created at once. A process may have 256 open, or less.
const TOGETHER: usize = 16;

/// Makes directories, backup and temporary files, and makes them durable.
/// Returns the log, open for appending, when there are lines to append.
pub(crate) fn stage<D: Disk>(
    gate: &Gate<D>,
    plan: &mut StagingPlan,
) -> Result<Option<D::File>, Error> {
    let mut touched = BTreeSet::new();
    let count = plan.temporaries.len();
    let bulk = plan.journal.copies.len() + count + plan.journal.directories.len() > BULK;
    let Divided { directories, trees, files } = divide(plan);
    for key in &directories {
        gate.make_dir(key, directory_mode(key))?;
        touched.insert(parent(key).to_owned());
    }
    let mut unsynced = Unsynced { gate, bulk, files: Vec::new() };
    copy(gate, plan, &mut unsynced)?;
    touched.extend(plan.journal.copies.iter().map(|place| place.parent().to_owned()));
    let task = progress::task("files", Some(count));
    for tree in &trees {
        touched.insert(parent(&tree.root).to_owned());
        // In bulk its file system is made durable, which is the one above it.
        let inside = tree.directories.iter().filter(|_| !bulk);
        touched.extend(inside.map(|key| parent(key).to_owned()));
    }
    make_all(gate, &trees, &mut unsynced, &task)?;
    create_all(gate, files, &mut unsynced, &task)?;
    drop(task);
    unsynced.sync()?;
    let fresh = plan.journal.fresh();
    for entry in &plan.journal.entries {
        // A tree is touched already.
        if bulk && entry.is_in_tree() && !entry.is_symlink() {
            continue;
        }
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

/// What is made, by where it is made.
struct Divided {
    /// Directories in no tree, outermost first.
    directories: Vec<String>,
    trees: Vec<Tree>,
    /// Files in no tree.
    files: Vec<Temporary>,
}

/// A new directory, which becomes visible as a whole, or with the one that it is in: one thread makes and fills it.
struct Tree {
    /// Where it is filled.
    root: String,
    /// The directories in it, outermost first.
    directories: Vec<String>,
    /// Taken by the one that writes them, so that a secret is held no longer than it must be.
    files: Mutex<Vec<Temporary>>,
}

/// One with more directories than this in it, as the one of all hosts, is made first, and then each of those is a tree.
const SPREAD: usize = 8;

fn divide(plan: &mut StagingPlan) -> Divided {
    let mut divided = Divided { directories: Vec::new(), trees: Vec::new(), files: Vec::new() };
    let fresh = plan.journal.entries.iter().filter(|entry| entry.is_directory());
    let fresh: Vec<StorePath> = fresh.filter_map(JournalEntry::staged_beside).collect();
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    for key in &plan.journal.directories {
        children.entry(parent(key)).or_default().push(key);
    }
    let mut numbers = HashMap::new();
    for root in &fresh {
        let inside = children.get(root.as_str()).filter(|inside| inside.len() > SPREAD);
        for root in inside.map_or(std::slice::from_ref(&root.as_str()), Vec::as_slice) {
            numbers.insert((*root).to_owned(), divided.trees.len());
            let (root, directories, files) = ((*root).to_owned(), Vec::new(), Mutex::default());
            divided.trees.push(Tree { root, directories, files });
        }
    }
    let number = |key: &str| upwards(key).find_map(|key| numbers.get(key)).copied();
    for key in &plan.journal.directories {
        match number(key).map(|number| &mut divided.trees[number]) {
            Some(tree) if tree.root == *key => {}
            Some(tree) => tree.directories.push(key.clone()),
            None => divided.directories.push(key.clone()),
        }
    }
    for file in std::mem::take(&mut plan.temporaries) {
        match number(file.place.parent()).map(|number| &mut divided.trees[number]) {
            Some(tree) => tree.files.get_mut().unwrap_or_else(PoisonError::into_inner).push(file),
            None => divided.files.push(file),
        }
    }
    divided
}

/// Makes and fills new directories, each on one thread.
fn make_all<D: Disk>(
    gate: &Gate<D>,
    trees: &[Tree],
    unsynced: &mut Unsynced<'_, D>,
    task: &progress::Task,
) -> Result<(), Error> {
    let above: Result<Vec<D::Dir>, Error> =
        trees.iter().map(|tree| gate.dir(parent(&tree.root))).collect();
    let all: Vec<(D::Dir, &Tree)> = above?.into_iter().zip(trees).collect();
    let (path, bulk) = (gate.path.as_path(), unsynced.bulk);
    let made = gate.disk.each(&all, parallel::processors(), |disk, (above, tree)| {
        make(disk, path, above, tree, !bulk, task)
    });
    for made in made {
        made?.into_iter().try_for_each(|(place, file)| unsynced.add(&place, file))?;
    }
    Ok(())
}

/// Makes and fills one; gives the files if they are to be kept open. `path` is the store's directory, for errors.
fn make<D: Disk>(
    disk: &D,
    path: &Path,
    above: &D::Dir,
    tree: &Tree,
    keep: bool,
    task: &progress::Task,
) -> Result<Vec<(StorePath, D::File)>, Error> {
    let make = |above: &D::Dir, key: &str| {
        let name = key.rsplit('/').next().unwrap_or_default();
        make_dir_in(disk, above, name, directory_mode(key), || path.join(key))
    };
    let mut open: Vec<(&str, D::Dir)> = vec![(&tree.root, make(above, &tree.root)?)];
    for key in &tree.directories {
        let above = open.iter().find(|(held, _)| *held == parent(key));
        // They are made from the outside in.
        let (_, above) = above.expect("made before"); // invariant of plans
        let dir = make(above, key)?;
        open.push((key, dir));
    }
    let mut kept = Vec::new();
    let files = std::mem::take(&mut *tree.files.lock().unwrap_or_else(PoisonError::into_inner));
    let count = files.len();
    for Temporary { place, content, look } in files {
        let dir = open.iter().find(|(held, _)| *held == place.parent());
        // Each file's directory is one of the tree's.
        let (_, dir) = dir.expect("made before"); // invariant of plans
        let file = create_in(disk, dir, place.name(), content.as_bytes(), &look).map_err(
            |(operation, source)| Error::Io { operation, path: path.join(place.as_str()), source },
        )?;
        kept.extend(keep.then_some((place, file)));
    }
    task.steps(count);
    Ok(kept)
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
    files: Vec<Temporary>,
    unsynced: &mut Unsynced<'_, D>,
    task: &progress::Task,
) -> Result<(), Error> {
    let (bulk, threads) = (unsynced.bulk, parallel::processors());
    let mut rest = files.as_slice();
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
    let manifest = backup::encode_manifest(&id, plan.command, &plan.backup, &plan.to_undo);
    let place = backup::manifest_place(&backup::folder(&id));
    unsynced.add(&place, create(gate, &place, &manifest, &record)?)
}

/// Directories are for everybody to pass, as kubeadm makes them; the store's own hold old keys.
fn directory_mode(key: &str) -> u32 {
    let own = key.strip_prefix(METADATA).is_some_and(|rest| rest.starts_with('/'));
    if own { 0o700 } else { 0o755 }
}
