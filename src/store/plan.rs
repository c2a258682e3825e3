//! What a transaction will do to the disk as it is: worked out, and refused where it must be, before
//! anything is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::METADATA;
use super::backup::{self, BackupEntry, BackupKind};
use super::digest::sha256;
use super::disk::{Disk, Kind, Owner, Status};
use super::error::Error;
use super::journal::{Appendix, Entry, Journal, LOG, own};
use super::place::{Place, Tree, join, parent};
use super::transaction::{Action, Attributes, Change, Content, Transaction};

/// A transaction ready to be staged.
pub(crate) struct Plan {
    pub(crate) journal: Journal,
    pub(crate) temporaries: Vec<Temporary>,
    /// What the backup will say; the digests are filled in when the copies are made.
    pub(crate) backup: Vec<BackupEntry>,
    /// Where the files are that are copied: one for each of the journal's copies but the manifest.
    pub(crate) originals: Vec<Place>,
}

/// A new file under its temporary name.
pub(crate) struct Temporary {
    pub(crate) place: Place,
    pub(crate) content: Content,
    pub(crate) mode: u32,
    pub(crate) owner: Option<Owner>,
}

impl Plan {
    /// Plans `transaction`; `roots` are the directories that were made for it already.
    pub(crate) fn new<D: Disk>(
        tree: &Tree<D>,
        transaction: Transaction,
        roots: &[PathBuf],
    ) -> Result<Self, Error> {
        let (id, changes, log) = transaction.into_parts();
        let changes = arrange(places(changes, tree)?);
        let nonce = tree.disk.nonce();
        let name = sha256(format!("{id} {nonce}").as_bytes())[..12].to_owned();
        let roots = roots.iter().filter_map(|root| root.to_str().map(str::to_owned)).collect();
        let metadata = tree.find_dir(METADATA)?.is_none();
        let mut plan = Self {
            journal: Journal::new(name, roots, metadata),
            temporaries: Vec::new(),
            backup: Vec::new(),
            originals: Vec::new(),
        };
        let mut folders = Folders::default();
        for (place, action) in changes {
            plan.add(tree, &mut folders, place, action)?;
        }
        if !plan.originals.is_empty() || plan.backup.iter().any(|entry| !entry.is_created()) {
            plan.add_backup(tree, &mut folders, &id)?;
        } else {
            plan.backup.clear();
        }
        if !log.is_empty() {
            plan.add_log(tree, &log)?;
        }
        plan.journal.directories = folders.missing;
        Ok(plan)
    }

    /// Whether the disk is already as asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.journal.entries.is_empty() && self.journal.log.is_none()
    }

    fn add<D: Disk>(
        &mut self,
        tree: &Tree<D>,
        folders: &mut Folders,
        path: Place,
        action: Action,
    ) -> Result<(), Error> {
        let found =
            if folders.is_missing(tree, path.parent())? { None } else { tree.status(&path)? };
        let reject = |reason| Error::Path { path: tree.full(path.as_str()), reason };
        if let Some(reason) = found.as_ref().and_then(|status| obstacle(status, &action)) {
            return Err(reject(reason));
        }
        let Some(previous) = self.previous(tree, &path, &action, found.as_ref())? else {
            return Ok(()); // Removing what is not there.
        };
        self.backup.push(previous);
        if !matches!(action, Action::Remove) {
            folders.need(tree, path.parent())?;
        }
        let temporary = temporary_name(path.name(), &self.journal.transaction);
        self.journal.entries.push(match action {
            Action::Remove => Entry::Remove { path },
            Action::Symlink { target } => {
                let target = target.to_str().ok_or_else(|| reject("its target is not UTF-8"))?;
                Entry::Symlink { target: target.to_owned(), path, temporary }
            }
            Action::Write { content, mode, attributes } => {
                let sha256 = sha256(content.as_bytes());
                let place = path.sibling(&temporary);
                let (mode, owner) = match (attributes, found) {
                    (Attributes::Kept, Some(status)) => (status.mode, Some(status.owner)),
                    (Attributes::Owned(owner), _) => (mode, Some(owner)),
                    (Attributes::Asked | Attributes::Kept, _) => (mode, None),
                };
                self.temporaries.push(Temporary { place, content, mode, owner });
                Entry::Write { path, temporary, sha256 }
            }
        });
        Ok(())
    }

    /// What the backup says of a path; `None` when there is nothing to do to it.
    fn previous<D: Disk>(
        &mut self,
        tree: &Tree<D>,
        path: &Place,
        action: &Action,
        found: Option<&Status>,
    ) -> Result<Option<BackupEntry>, Error> {
        let kind = match found {
            None if matches!(action, Action::Remove) => return Ok(None),
            None => BackupKind::Created,
            Some(status) if status.kind == Kind::Symlink => {
                BackupKind::Symlink { target: backup::read_link(tree, path)? }
            }
            Some(status) => {
                self.originals.push(path.clone());
                BackupKind::File {
                    mode: status.mode,
                    uid: status.owner.uid,
                    gid: status.owner.gid,
                    sha256: String::new(),
                }
            }
        };
        Ok(Some(BackupEntry { path: PathBuf::from(path.as_str()), kind }))
    }

    fn add_backup<D: Disk>(
        &mut self,
        tree: &Tree<D>,
        folders: &mut Folders,
        id: &str,
    ) -> Result<(), Error> {
        let id = backup::unused_id(tree, id)?;
        let folder = backup::folder(&id);
        self.journal.copies =
            self.originals.iter().map(|place| backup::copy_place(&folder, place)).collect();
        self.journal.copies.push(backup::manifest_place(&folder));
        for copy in &self.journal.copies {
            folders.need(tree, copy.parent())?;
        }
        // Made with the transaction's own record, before any other directory.
        folders.missing.retain(|key| key != METADATA);
        self.journal.backup = Some(id);
        Ok(())
    }

    fn add_log<D: Disk>(&mut self, tree: &Tree<D>, log: &[String]) -> Result<(), Error> {
        let place = own(LOG);
        let path = || tree.full(place.as_str());
        if log.iter().any(|line| line.contains('\n')) {
            return Err(Error::Path { path: path(), reason: "a line of it holds a line break" });
        }
        let found = tree.status(&place)?;
        if found.as_ref().is_some_and(|status| status.kind != Kind::File) {
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

/// The directories that are asked for, and those of them that are not there.
#[derive(Default)]
struct Folders {
    known: BTreeMap<String, Folder>,
    missing: Vec<String>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Folder {
    Missing,
    Planned,
    Present,
}

impl Folders {
    fn is_missing<D: Disk>(&mut self, tree: &Tree<D>, key: &str) -> Result<bool, Error> {
        Ok(self.look_up(tree, key)? != Folder::Present)
    }

    /// Has a directory made if it is missing, after the ones above it.
    fn need<D: Disk>(&mut self, tree: &Tree<D>, key: &str) -> Result<(), Error> {
        if self.look_up(tree, key)? == Folder::Missing {
            self.need(tree, parent(key))?;
            self.known.insert(key.to_owned(), Folder::Planned);
            self.missing.push(key.to_owned());
        }
        Ok(())
    }

    fn look_up<D: Disk>(&mut self, tree: &Tree<D>, key: &str) -> Result<Folder, Error> {
        if key.is_empty() || key == "/" {
            return Ok(Folder::Present);
        }
        if let Some(&folder) = self.known.get(key) {
            return Ok(folder);
        }
        let above = self.known.get(parent(key)).copied();
        let hopeless = above.is_some_and(|above| above != Folder::Present);
        let missing = hopeless || tree.find_dir(key)?.is_none();
        let folder = if missing { Folder::Missing } else { Folder::Present };
        self.known.insert(key.to_owned(), folder);
        Ok(folder)
    }
}

/// Checks the paths, each by itself and against each other.
fn places<D: Disk>(changes: Vec<Change>, tree: &Tree<D>) -> Result<Vec<(Place, Action)>, Error> {
    let mut placed = Vec::with_capacity(changes.len());
    let mut seen = BTreeSet::new();
    for Change { path, action } in changes {
        let place = Place::parse(&path, &tree.path)?;
        if !seen.insert(place.as_str().to_owned()) {
            return Err(Error::Path { path, reason: "it is changed twice in one transaction" });
        }
        placed.push((place, action));
    }
    for (place, _) in &placed {
        let mut above = place.parent();
        while !above.is_empty() && above != "/" {
            if seen.contains(above) {
                let reason = "a directory above it is a file of the same transaction";
                return Err(Error::Path { path: tree.full(place.as_str()), reason });
            }
            above = parent(above);
        }
    }
    Ok(placed)
}

/// The order in which changes become visible: the caller's, but a key is followed at once by its
/// certificate, as whatever lies between the two is time in which etcd reads a pair that does not
/// match.
fn arrange(changes: Vec<(Place, Action)>) -> Vec<(Place, Action)> {
    let mut pairs: BTreeMap<String, [Option<usize>; 2]> = BTreeMap::new();
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
    let mut changes: Vec<Option<(Place, Action)>> = changes.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| changes[at].take()).collect()
}

/// What a key and its certificate have in common, and which of the two this is.
fn stem(place: &Place) -> Option<(String, usize)> {
    let halves = [("-key.pem", 0), ("-cert.pem", 1), (".key", 0), (".crt", 1), (".pub", 1)];
    halves.into_iter().find_map(|(suffix, half)| {
        let name = place.name().strip_suffix(suffix)?;
        Some((join(place.parent(), name), half))
    })
}

/// Why what is in the place must stay there.
fn obstacle(status: &Status, action: &Action) -> Option<&'static str> {
    match (status.kind, action) {
        (Kind::Directory, _) => Some("it is a directory"),
        (Kind::Other, _) => Some("it is neither a regular file nor a symbolic link"),
        (Kind::Symlink, Action::Write { .. }) => {
            Some("it is a symbolic link, which certkit does not follow when it writes")
        }
        (Kind::File, Action::Symlink { .. }) => Some("it is a file, not a symbolic link"),
        _ => status.obstacle,
    }
}

/// A hidden name beside the final one: kubelet and others skip what begins with a dot.
pub(crate) fn temporary_name(name: &str, transaction: &str) -> String {
    // A name may have 255 bytes at most (NAME_MAX).
    let end = (0..=name.len().min(200)).rev().find(|&end| name.is_char_boundary(end));
    format!(".{}.certkit-{transaction}", &name[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(paths: &[&str]) -> Vec<String> {
        let changes = paths.iter().map(|path| (Place::own(*path), Action::Remove)).collect();
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

    #[test]
    fn temporary_names_are_hidden_and_short_enough() {
        assert_eq!(temporary_name("ca.crt", "0a"), ".ca.crt.certkit-0a");
        let long = "é".repeat(127);
        assert!(temporary_name(&long, "0123456789ab").len() <= 255);
    }
}
