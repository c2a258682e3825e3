//! What a transaction will do to the disk as it is: worked out, and refused where it must be, before
//! anything is written.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::METADATA;
use super::backup::{self, BackupEntry, BackupKind, Became};
use super::digest::sha256;
use super::disk::{Attribute, Disk, FileKind, FileStatus, KeptMetadata, NewOwner, UserAndGroup};
use super::error::{Error, Operation};
use super::gate::Gate;
use super::journal::{Appendix, Journal, JournalEntry, LOG, Rest};
use super::place::{StorePath, join, own, parent, temporary_name, upwards};
use super::transaction::{Attributes, Change, Content, FileAction, Parts, Transaction};

/// A transaction ready to be staged.
pub(crate) struct StagingPlan {
    pub(crate) journal: Journal,
    pub(crate) temporaries: Vec<Temporary>,
    /// What the backup will say; the digests are filled in when the copies are made.
    pub(crate) backup: Vec<BackupEntry>,
    /// The command that makes the change.
    pub(crate) command: Option<&'static str>,
    /// What is still to be undone after this change.
    pub(crate) to_undo: Vec<String>,
    /// Where the files are that are copied: one for each of the journal's copies but the manifest.
    pub(crate) originals: Vec<StorePath>,
    /// Secrets that replace a file which everybody could read.
    pub(crate) closed: Vec<PathBuf>,
    /// The new directories that become visible as a whole.
    fresh: HashSet<String>,
}

/// A new file under its temporary name.
pub(crate) struct Temporary {
    pub(crate) place: StorePath,
    pub(crate) content: Content,
    pub(crate) look: Look,
}

/// What a new file gets besides its content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) mode: u32,
    /// None for the process's own.
    pub(crate) owner: Option<NewOwner>,
    pub(crate) attributes: Vec<Attribute>,
}

/// Where a transaction is planned: the disk, what an earlier run still has to do, and what was learnt so far.
pub(crate) struct Footing<'a, D: Disk> {
    gate: &'a Gate<D>,
    rests: &'a [Rest],
    folders: Folders,
}

impl<'a, D: Disk> Footing<'a, D> {
    pub(crate) fn new(gate: &'a Gate<D>, rests: &'a [Rest]) -> Self {
        Self { gate, rests, folders: Folders::default() }
    }

    /// The place that is really changed by this, and what is there; or why that must not or cannot be.
    pub(crate) fn admit(
        &mut self,
        place: StorePath,
        action: &FileAction,
    ) -> Result<(StorePath, Option<FileStatus>), Error> {
        let Self { gate, rests, folders } = self;
        gate.admits(&place)?;
        let place = match action {
            FileAction::Give { .. } | FileAction::Write { .. }
                if !folders.is_missing(gate, place.parent())? =>
            {
                gate.resolve(place)?
            }
            _ => place,
        };
        let path = || gate.full(place.as_str());
        if let Some(rest) = rests.iter().find(|rest| rest.holds(&place)) {
            let (record, why) = (rest.record.clone(), rest.why.clone());
            return Err(Error::Unfinished { path: path(), record, why });
        }
        let found =
            if folders.is_missing(gate, place.parent())? { None } else { gate.status(&place)? };
        if let Some(reason) = found.as_ref().and_then(|status| misfit(status, action)) {
            return Err(Error::Path { path: path(), reason });
        }
        if let Some(reason) = found.as_ref().and_then(|status| status.obstacle) {
            return Err(Error::Unchangeable { path: path(), reason });
        }
        // What is not there need not be removed.
        if (found.is_some() || !matches!(action, FileAction::Remove))
            && let Some(reason) = folders.refusal(gate, place.parent(), found.as_ref())?
        {
            return Err(Error::Unchangeable { path: path(), reason });
        }
        let is_right = |to: NewOwner| {
            found.as_ref().is_some_and(|status| to.from(status.owner) == status.owner)
        };
        if let Some(to) = action.owner()
            && !is_right(to)
            && !gate.disk.may_give(to)
        {
            return Err(Error::Owner { path: path(), uid: to.uid, gid: to.gid });
        }
        Ok((place, found))
    }
}

impl StagingPlan {
    /// Plans `transaction`; `roots` are the directories that were made for it already, and `metadata` says
    /// whether `.certkit` is one.
    pub(crate) fn new<D: Disk>(
        gate: &Gate<D>,
        transaction: Transaction,
        roots: &[PathBuf],
        metadata: bool,
        rests: &[Rest],
    ) -> Result<Self, Error> {
        let Parts { id, operation, command, to_undo, changes, log } = transaction.into_parts();
        let changes = arrange(places(changes, gate)?);
        let nonce = gate.disk.nonce();
        let name = sha256(format!("{id} {nonce}").as_bytes())[..12].to_owned();
        let roots = roots.iter().filter_map(|root| root.to_str().map(str::to_owned)).collect();
        let mut plan = Self {
            journal: Journal::new(name, roots, metadata),
            temporaries: Vec::new(),
            backup: Vec::new(),
            command,
            to_undo,
            originals: Vec::new(),
            closed: Vec::new(),
            fresh: HashSet::new(),
        };
        let mut ground = Footing::new(gate, rests);
        let mut seen = HashSet::new();
        for (place, action) in changes {
            let (place, found) = ground.admit(place, &action)?;
            if !seen.insert(place.clone()) {
                let path = gate.full(place.as_str());
                return Err(Error::Path { path, reason: TWICE });
            }
            let action = match action {
                FileAction::Give { to } => given(gate, &place, found.as_ref(), to)?,
                other => other,
            };
            plan.add(&mut ground, place, action, found)?;
        }
        let mut folders = ground.folders;
        // One that only created files has a backup, too, if one without copies: it is a change like any other, and
        // undoing the last change must not undo the one before.
        if !plan.backup.is_empty() {
            plan.add_backup(gate, &mut folders, &id, operation.as_deref())?;
        }
        if !log.is_empty() {
            plan.add_log(gate, &log)?;
        }
        if !plan.is_empty()
            && let Some(reason) = folders.refusal(gate, METADATA, None)?
        {
            return Err(Error::Unchangeable { path: gate.full(METADATA), reason });
        }
        // Each directory is opened once.
        plan.temporaries.sort_by(|one, other| one.place.parent().cmp(other.place.parent()));
        let fresh = plan.journal.fresh();
        let made = folders.missing.into_iter().map(|key| fresh.directory(key));
        plan.journal.directories = made.collect();
        Ok(plan)
    }

    /// Whether the disk is already as asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.journal.entries.is_empty() && self.journal.log.is_none()
    }

    fn add<D: Disk>(
        &mut self,
        ground: &mut Footing<'_, D>,
        path: StorePath,
        action: FileAction,
        found: Option<FileStatus>,
    ) -> Result<(), Error> {
        let gate = ground.gate;
        let reject = |reason| Error::Path { path: gate.full(path.as_str()), reason };
        let Some(mut previous) = self.previous(gate, &path, &action, found.as_ref())? else {
            return Ok(()); // Removing what is not there.
        };
        if !matches!(action, FileAction::Remove) {
            ground.folders.need(gate, path.parent())?;
        }
        let transaction = &self.journal.transaction;
        // A new directory is filled under another name, and becomes visible as a whole.
        let fresh = ground.folders.outermost_planned(path.parent()).map(str::to_owned);
        let (temporary, staged) = match fresh {
            None => {
                let temporary = temporary_name(path.name(), transaction);
                let staged = path.sibling(&temporary);
                (Some(temporary), staged)
            }
            Some(fresh) => {
                let directory = StorePath::own(&fresh);
                let temporary = temporary_name(directory.name(), transaction);
                let staged = path.moved(&fresh, &directory.sibling(&temporary));
                if self.fresh.insert(fresh) {
                    // Once all is decided it would be in the way.
                    if gate.status(&directory)?.is_some() {
                        let path = gate.full(directory.as_str());
                        let reason = "it is a symbolic link that leads nowhere";
                        return Err(Error::Path { path, reason });
                    }
                    let path = directory;
                    self.journal.entries.push(JournalEntry::Directory { path, temporary });
                }
                (None, staged)
            }
        };
        self.journal.entries.push(match action {
            FileAction::Remove => {
                previous.became = Some(Became::Missing);
                JournalEntry::Remove { path }
            }
            FileAction::Symlink { target } => {
                let target = target.to_str().ok_or_else(|| reject("its target is not UTF-8"))?;
                previous.became = Some(Became::Symlink { target: target.to_owned() });
                JournalEntry::Symlink { target: target.to_owned(), path, temporary }
            }
            // It is a write by now.
            FileAction::Give { .. } => return Ok(()),
            FileAction::Write { content, mode, attributes, owner } => {
                let sha256 = sha256(content.as_bytes());
                previous.became = Some(Became::File { sha256: sha256.clone() });
                let (mut look, closed) = look(mode, attributes, &previous);
                look.owner = match (owner, look.owner) {
                    (Some(NewOwner { uid, gid }), Some(before)) => {
                        Some(NewOwner { uid, gid: gid.or(before.gid) })
                    }
                    (owner, before) => owner.or(before),
                };
                if closed {
                    self.closed.push(gate.full(path.as_str()));
                }
                self.temporaries.push(Temporary { place: staged, content, look });
                JournalEntry::Write { path, temporary, sha256 }
            }
        });
        self.backup.push(previous);
        Ok(())
    }

    /// What the backup says of a path; `None` when there is nothing to do to it.
    fn previous<D: Disk>(
        &mut self,
        gate: &Gate<D>,
        path: &StorePath,
        action: &FileAction,
        found: Option<&FileStatus>,
    ) -> Result<Option<BackupEntry>, Error> {
        let kind = match found {
            None if matches!(action, FileAction::Remove) => return Ok(None),
            None => BackupKind::Created,
            Some(status) if status.kind == FileKind::Symlink => {
                BackupKind::Symlink { target: backup::read_link(gate, path)? }
            }
            Some(status) => {
                self.originals.push(path.clone());
                let attributes = gate.disk.attributes(&gate.dir(path.parent())?, path.name());
                let path = || gate.full(path.as_str());
                BackupKind::File {
                    mode: status.mode,
                    uid: status.owner.uid,
                    gid: status.owner.gid,
                    sha256: String::new(),
                    attributes: attributes.map_err(Error::io(Operation::Inspect, path()))?,
                }
            }
        };
        Ok(Some(BackupEntry { path: PathBuf::from(path.as_str()), kind, became: None }))
    }

    fn add_backup<D: Disk>(
        &mut self,
        gate: &Gate<D>,
        folders: &mut Folders,
        id: &str,
        operation: Option<&str>,
    ) -> Result<(), Error> {
        let id = backup::new_id(gate, id, operation)?;
        let folder = backup::folder(&id);
        self.journal.copies =
            self.originals.iter().map(|place| backup::copy_place(&folder, place)).collect();
        self.journal.copies.push(backup::manifest_place(&folder));
        for copy in &self.journal.copies {
            folders.need(gate, copy.parent())?;
        }
        self.journal.backup = Some(id);
        Ok(())
    }

    fn add_log<D: Disk>(&mut self, gate: &Gate<D>, log: &[String]) -> Result<(), Error> {
        let place = own(LOG);
        let path = || gate.full(place.as_str());
        if log.iter().any(|line| line.contains('\n')) {
            return Err(Error::Path { path: path(), reason: "a line of it holds a line break" });
        }
        let found = gate.status(&place)?;
        if found.as_ref().is_some_and(|status| status.kind != FileKind::File) {
            return Err(Error::Path { path: path(), reason: "it is not a regular file" });
        }
        self.journal.log = Some(Appendix {
            created: found.is_none(),
            length: found.map_or(0, |status| status.length),
            lines: log.iter().flat_map(|line| [line.as_str(), "\n"]).collect(),
        });
        Ok(())
    }
}

/// What gives a file that is there to an owner: a new one with the same content, as an owner that is changed in place
/// could not be changed together with all else.
fn given<D: Disk>(
    gate: &Gate<D>,
    place: &StorePath,
    found: Option<&FileStatus>,
    to: NewOwner,
) -> Result<FileAction, Error> {
    if found.is_none() {
        return Err(Error::Path { path: gate.full(place.as_str()), reason: "it is not there" });
    }
    let content = gate.read(place)?.into();
    let attributes = Attributes::Kept;
    Ok(FileAction::Write { content, mode: 0o600, attributes, owner: Some(to) })
}

const TWICE: &str = "it is changed twice in one transaction";

/// What a file gets besides its content, and whether less than the one that it replaces: what is to be secret is
/// never open to everybody. With an access control list that lets everybody in, the list goes.
fn look(mode: u32, attributes: Attributes, previous: &BackupEntry) -> (Look, bool) {
    let BackupKind::File { mode: old_mode, uid, gid, attributes: old, .. } = &previous.kind else {
        let look = match attributes {
            Attributes::Restored(KeptMetadata { mode, owner, attributes }) => {
                Look { mode, owner: Some(owner.into()), attributes }
            }
            Attributes::Asked | Attributes::Kept => Look { mode, ..Look::default() },
        };
        return (look, false);
    };
    let owner = Some(UserAndGroup { uid: *uid, gid: *gid }.into());
    let kept = |access: bool| {
        old.iter().filter(|attribute| access || !attribute.is_access()).cloned().collect()
    };
    let closed = mode & 0o077 == 0 && old_mode & 0o007 != 0;
    match attributes {
        Attributes::Restored(KeptMetadata { mode, owner, attributes }) => {
            (Look { mode, owner: Some(owner.into()), attributes }, false)
        }
        Attributes::Kept if !closed => {
            (Look { mode: *old_mode, owner, attributes: kept(true) }, false)
        }
        Attributes::Kept | Attributes::Asked => {
            (Look { mode, owner, attributes: kept(false) }, closed)
        }
    }
}

/// The directories that are asked for, and those of them that are not there.
#[derive(Default)]
struct Folders {
    known: HashMap<String, Folder>,
    missing: Vec<String>,
    /// What was found out of each directory that is there.
    asked: HashMap<String, (Option<&'static str>, FileStatus)>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Folder {
    Missing,
    Planned,
    Present,
}

impl Folders {
    fn is_missing<D: Disk>(&mut self, gate: &Gate<D>, key: &str) -> Result<bool, Error> {
        Ok(self.look_up(gate, key)? != Folder::Present)
    }

    /// Why nothing can be renamed, made or removed in a directory: asked before anything is decided, as nothing
    /// can be taken back afterwards. Of a missing one: why it cannot be made.
    fn refusal<D: Disk>(
        &mut self,
        gate: &Gate<D>,
        key: &str,
        found: Option<&FileStatus>,
    ) -> Result<Option<&'static str>, Error> {
        if self.is_missing(gate, key)? {
            return match key.starts_with('/') {
                true => Ok(Some("its folder is not there")),
                false => self.refusal(gate, parent(key), None),
            };
        }
        if !self.asked.contains_key(key) {
            let dir = gate.dir(key)?;
            let inspect = || Error::io(Operation::Inspect, gate.full(key));
            let refusal = gate.disk.refusal(&dir).map_err(inspect())?;
            let status = gate.disk.dir_status(&dir).map_err(inspect())?;
            self.asked.insert(key.to_owned(), (refusal, status));
        }
        let (refusal, dir) = &self.asked[key];
        let user = gate.disk.user();
        let is_foreign = |status: &FileStatus| status.owner.uid != user;
        let sticky = dir.mode & 0o1000 != 0 && user != 0 && is_foreign(dir);
        let guarded = sticky && found.is_some_and(is_foreign);
        Ok(refusal.or(guarded.then_some("it is another user's, and its directory is sticky")))
    }

    /// Has a directory made if it is missing, after the ones above it.
    fn need<D: Disk>(&mut self, gate: &Gate<D>, key: &str) -> Result<(), Error> {
        if self.look_up(gate, key)? == Folder::Missing {
            self.need(gate, parent(key))?;
            self.known.insert(key.to_owned(), Folder::Planned);
            self.missing.push(key.to_owned());
        }
        Ok(())
    }

    /// The outermost directory that is going to be made for this one, or is this one.
    fn outermost_planned<'k>(&self, key: &'k str) -> Option<&'k str> {
        let is_planned = |key: &&str| self.known.get(*key) == Some(&Folder::Planned);
        upwards(key).take_while(is_planned).last()
    }

    fn look_up<D: Disk>(&mut self, gate: &Gate<D>, key: &str) -> Result<Folder, Error> {
        if key.is_empty() || key == "/" {
            return Ok(Folder::Present);
        }
        if let Some(&folder) = self.known.get(key) {
            return Ok(folder);
        }
        let above = self.known.get(parent(key)).copied();
        let hopeless = above.is_some_and(|above| above != Folder::Present);
        let missing = hopeless || gate.find_dir(key)?.is_none();
        let folder = if missing { Folder::Missing } else { Folder::Present };
        self.known.insert(key.to_owned(), folder);
        Ok(folder)
    }
}

/// Checks the paths, each by itself and against each other.
fn places<D: Disk>(
    changes: Vec<Change>,
    gate: &Gate<D>,
) -> Result<Vec<(StorePath, FileAction)>, Error> {
    let mut placed = Vec::with_capacity(changes.len());
    let mut seen = HashSet::new();
    for Change { path, action } in changes {
        let place = StorePath::parse(&path, &gate.path)?;
        if !seen.insert(place.as_str().to_owned()) {
            return Err(Error::Path { path, reason: TWICE });
        }
        placed.push((place, action));
    }
    for (place, _) in &placed {
        if upwards(place.parent()).any(|above| seen.contains(above)) {
            let reason = "a directory above it is a file of the same transaction";
            return Err(Error::Path { path: gate.full(place.as_str()), reason });
        }
    }
    Ok(placed)
}

/// The order in which changes become visible: the caller's, but a key is followed at once by its
/// certificate, as whatever lies between the two is time in which etcd reads a pair that does not
/// match.
fn arrange(changes: Vec<(StorePath, FileAction)>) -> Vec<(StorePath, FileAction)> {
    let mut pairs: HashMap<String, [Option<usize>; 2]> = HashMap::new();
    for (at, (place, _)) in changes.iter().enumerate() {
        if let Some((stem, half)) = stem(place) {
            pairs.entry(stem).or_default()[half] = Some(at);
        }
    }
    let order: Vec<usize> = (0..changes.len())
        .flat_map(|at| match stem(&changes[at].0).and_then(|(stem, _)| pairs.get(&stem)) {
            Some(&[Some(key), Some(certificate)]) if at == key.min(certificate) => {
                vec![key, certificate]
            }
            Some([Some(_), Some(_)]) => Vec::new(),
            _ => vec![at],
        })
        .collect();
    let mut changes: Vec<Option<(StorePath, FileAction)>> = changes.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| changes[at].take()).collect()
}

/// What a key and its certificate have in common, and which of the two this is.
fn stem(place: &StorePath) -> Option<(String, usize)> {
    let halves = [("-key.pem", 0), ("-cert.pem", 1), (".key", 0), (".crt", 1), (".pub", 1)];
    halves.into_iter().find_map(|(suffix, half)| {
        let name = place.name().strip_suffix(suffix)?;
        Some((join(place.parent(), name), half))
    })
}

/// Why what is in the place must stay there.
fn misfit(status: &FileStatus, action: &FileAction) -> Option<&'static str> {
    match (status.kind, action) {
        (FileKind::Directory, _) => Some("it is a directory"),
        (FileKind::Other, _) => Some("it is neither a regular file nor a symbolic link"),
        (FileKind::Symlink, FileAction::Give { .. } | FileAction::Write { .. }) => {
            Some("it is a symbolic link to a symbolic link")
        }
        (FileKind::File, FileAction::Symlink { .. }) => Some("it is a file, not a symbolic link"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(paths: &[&str]) -> Vec<String> {
        let changes =
            paths.iter().map(|path| (StorePath::own(*path), FileAction::Remove)).collect();
        arrange(changes).into_iter().map(|(place, _)| place.as_str().to_owned()).collect()
    }

    #[test]
    fn a_key_is_followed_at_once_by_its_certificate() {
        assert_eq!(
            order(&["pki/a.crt", "pki/etcd/a.crt", "x", "pki/a.key", "pki/etcd/a.key", "sa.pub"]),
            ["pki/a.key", "pki/a.crt", "pki/etcd/a.key", "pki/etcd/a.crt", "x", "sa.pub"]
        );
        assert_eq!(
            order(&["i/ca-key.pem", "y", "i/ca-cert.pem"])[..2],
            ["i/ca-key.pem", "i/ca-cert.pem"]
        );
    }
}
