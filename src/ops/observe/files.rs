//! Files below DIR: read through one door, as they are or as a change would leave them.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{credential::has_key, view};
use crate::{
    model::{
        observed::{Bundle, Piece},
        shown::with_causes,
    },
    ops::{folders::Folders, read},
    pki::inspect,
    store::{After, Transaction},
};

/// Reads files, and keeps in mind what was met: bundles that many hosts share, secrets, what is used.
pub struct Files<'a> {
    dir: &'a Path,
    /// DIR, held open, where no link is to lead out of it.
    root: Option<File>,
    /// What a change that is not made yet would make of files.
    change: HashMap<&'a Path, After<'a>>,
    folders: Folders<'a>,
    /// Bundles by their content.
    bundles: HashMap<Vec<u8>, Bundle>,
    /// Bundles by the paths that were met already.
    known: HashMap<PathBuf, Bundle>,
    /// Files that hold a private key.
    pub secrets: HashSet<PathBuf>,
    /// Files that something names.
    pub used: HashSet<PathBuf>,
}

/// What was met at one door.
#[derive(Default)]
pub struct FileNotes {
    secrets: HashSet<PathBuf>,
    used: HashSet<PathBuf>,
}

impl<'a> Files<'a> {
    /// Those in DIR as they are, for whoever takes keys and certificates from there: no link leads out of it.
    pub fn new(dir: &'a Path) -> Self {
        Self { root: File::open(dir).ok(), ..Self::followed(dir) }
    }

    /// The same for whoever only judges: components follow links, wherever they lead.
    pub fn followed(dir: &'a Path) -> Self {
        Self {
            dir,
            root: None,
            change: HashMap::new(),
            folders: Folders::new(dir),
            bundles: HashMap::new(),
            known: HashMap::new(),
            secrets: HashSet::new(),
            used: HashSet::new(),
        }
    }

    /// Those in DIR as they would be after a change.
    pub fn after(dir: &'a Path, change: &'a Transaction) -> Self {
        Self { change: change.outcomes().collect(), ..Self::new(dir) }
    }

    /// Another door to the same files, for another thread; what it met is handed on by [`Files::notes`].
    pub fn fork(&self) -> Self {
        Self {
            root: self.root.as_ref().and_then(|root| root.try_clone().ok()),
            change: self.change.clone(),
            ..Self::followed(self.dir)
        }
    }

    /// What was met since this was last asked.
    pub fn notes(&mut self) -> FileNotes {
        let (secrets, used) = (std::mem::take(&mut self.secrets), std::mem::take(&mut self.used));
        FileNotes { secrets, used }
    }

    /// Keeps in mind what was met at another door.
    pub fn take_over(&mut self, notes: FileNotes) {
        self.secrets.extend(notes.secrets);
        self.used.extend(notes.used);
    }

    /// DIR.
    pub fn dir(&self) -> &'a Path {
        self.dir
    }

    /// Whether there is something at this path, relative to DIR.
    pub fn exists(&mut self, path: &Path) -> bool {
        match self.change.get(path) {
            Some(After::Nothing) => false,
            Some(After::File(_) | After::Symlink(_)) => true,
            None => !self.folders.lack(path) && self.dir.join(path).exists(),
        }
    }

    /// A file's content. A path that begins at the root is taken as it is.
    pub fn read(&mut self, path: &Path) -> Piece<Zeroizing<Vec<u8>>> {
        let content = match self.change.get(path) {
            None => self.on_disk(path),
            Some(After::File(content)) => Piece::Present(Zeroizing::new(content.to_vec())),
            Some(After::Nothing) => Piece::Missing,
            Some(After::Symlink(target)) => {
                // What a change makes links to is a file.
                let target = path.parent().unwrap_or(Path::new("")).join(target);
                match self.change.get(target.as_path()) {
                    Some(After::File(content)) => Piece::Present(Zeroizing::new(content.to_vec())),
                    _ => self.on_disk(&target),
                }
            }
        };
        if let Piece::Present(content) = &content
            && has_key(content)
        {
            self.secret(path);
        }
        content
    }

    fn on_disk(&mut self, path: &Path) -> Piece<Zeroizing<Vec<u8>>> {
        if self.folders.lack(path) {
            return Piece::Missing;
        }
        match &self.root {
            Some(root) if path.is_relative() => read::below(root, self.dir, path),
            _ => read::file(&self.dir.join(path)),
        }
    }

    /// Notes that the file holds a private key.
    pub fn secret(&mut self, path: &Path) {
        self.secrets.insert(path.to_path_buf());
    }

    /// Notes that something names the file.
    pub fn uses(&mut self, path: &Path) {
        self.used.insert(path.to_path_buf());
    }

    /// A file of certificates that verifiers trust.
    pub fn bundle(&mut self, path: &Path) -> Bundle {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let bundle = match self.read(path) {
            Piece::Present(pem) => self.bundle_of(&pem),
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why),
        };
        self.known.insert(path.to_path_buf(), bundle.clone());
        bundle
    }

    /// The same of its content.
    pub fn bundle_of(&mut self, pem: &[u8]) -> Bundle {
        if let Some(known) = self.bundles.get(pem) {
            return known.clone();
        }
        let parsed = match inspect::from_pem(pem) {
            Ok(all) => Piece::Present(Arc::new(all.iter().map(view).collect())),
            Err(error) => Piece::Bad(with_causes(&error)),
        };
        self.bundles.insert(pem.to_vec(), parsed.clone());
        parsed
    }

    /// Notes what a file of certificates holds that was read already.
    pub fn knows(&mut self, path: &Path, bundle: Bundle) {
        self.known.insert(path.to_path_buf(), bundle);
    }
}
