//! Where a file is: a checked path, and the open directories below the store's.

use std::cell::RefCell;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::METADATA;
use super::disk::{Disk, Status};
use super::error::{Error, Operation};

/// A path in its one normal form: relative and beneath the store's directory, or absolute.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub(crate) struct Place(String);

impl Place {
    /// Checks a path that a transaction of the store at `dir` wants to change.
    pub(crate) fn parse(path: &Path, dir: &Path) -> Result<Self, Error> {
        let reject = |reason| Error::Path { path: path.to_owned(), reason };
        // The same file must have one place only, or two changes of it would not be noticed.
        let relative = path.strip_prefix(dir).unwrap_or(path);
        let mut text = String::new();
        for component in relative.components() {
            match component {
                Component::RootDir => text.push('/'),
                Component::Normal(name) => {
                    let name = name.to_str().ok_or_else(|| reject("its name is not UTF-8"))?;
                    if name.contains('\0') {
                        return Err(reject("its name holds a NUL"));
                    }
                    if !text.is_empty() && !text.ends_with('/') {
                        text.push('/');
                    }
                    text.push_str(name);
                }
                _ => return Err(reject("it must not hold . or ..")),
            }
        }
        if text.is_empty() || text == "/" || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(reject("it names a directory"));
        }
        if text == METADATA || text.strip_prefix(METADATA).is_some_and(|rest| rest.starts_with('/'))
        {
            return Err(reject("certkit keeps its own records there"));
        }
        Ok(Self(text))
    }

    /// A path of the store's own, below its directory.
    pub(crate) fn own(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The place `name` in the same directory.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        Self(join(self.parent(), name))
    }

    /// The directory: "" is the store's own.
    pub(crate) fn parent(&self) -> &str {
        parent(&self.0)
    }

    /// The last component.
    pub(crate) fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn is_outside(&self) -> bool {
        self.0.starts_with('/')
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The directory a path is in: "" and "/" are the ends.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None => "",
        Some(0) => "/",
        Some(end) => &path[..end],
    }
}

/// `name` in `dir`.
pub(crate) fn join(dir: &str, name: &str) -> String {
    match dir {
        "" => name.to_owned(),
        "/" => format!("/{name}"),
        _ => format!("{dir}/{name}"),
    }
}

/// The store's directory, with the directories below it (and elsewhere) that were used last held open.
pub(crate) struct Tree<D: Disk> {
    pub(crate) disk: D,
    pub(crate) path: PathBuf,
    root: D::Dir,
    open: RefCell<Vec<(String, D::Dir)>>,
}

/// How many directories are held open: a workspace of ten thousand hosts has more than a process may.
const HELD_OPEN: usize = 32;

impl<D: Disk> Tree<D> {
    pub(crate) fn new(disk: D, path: PathBuf, root: D::Dir) -> Self {
        Self { disk, path, root, open: RefCell::default() }
    }

    /// The path to show for a place or a directory.
    pub(crate) fn full(&self, place: &str) -> PathBuf {
        if place.is_empty() { self.path.clone() } else { self.path.join(place) }
    }

    /// Opens a directory that must be there.
    pub(crate) fn dir(&self, key: &str) -> Result<D::Dir, Error> {
        if key.is_empty() {
            return Ok(self.root.clone());
        }
        let mut open = self.open.borrow_mut();
        if let Some(at) = open.iter().rposition(|(held, _)| held == key) {
            return Ok(open[at].1.clone());
        }
        let opened = if key.starts_with('/') {
            self.disk.open_dir(Path::new(key))
        } else {
            self.disk.open_beneath(&self.root, key)
        };
        let dir = opened.map_err(Error::io(Operation::Open, self.full(key)))?;
        if open.len() == HELD_OPEN {
            open.remove(0);
        }
        open.push((key.to_owned(), dir.clone()));
        Ok(dir)
    }

    /// Opens a directory that may be missing.
    pub(crate) fn find_dir(&self, key: &str) -> Result<Option<D::Dir>, Error> {
        match self.dir(key) {
            Ok(dir) => Ok(Some(dir)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Closes a directory that is going to be removed.
    pub(crate) fn forget(&self, key: &str) {
        self.open.borrow_mut().retain(|(held, _)| held != key);
    }

    /// What is at `place`; nothing when its directory is missing, too.
    pub(crate) fn status(&self, place: &Place) -> Result<Option<Status>, Error> {
        let Some(dir) = self.find_dir(place.parent())? else { return Ok(None) };
        let path = self.full(place.as_str());
        self.disk.status(&dir, place.name()).map_err(Error::io(Operation::Inspect, path))
    }

    /// The content at `place`.
    pub(crate) fn read(&self, place: &Place) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
        let dir = self.dir(place.parent())?;
        let path = self.full(place.as_str());
        self.disk.read(&dir, place.name()).map_err(Error::io(Operation::Read, path))
    }

    /// The names in a directory, or none when it is missing.
    pub(crate) fn list(&self, key: &str) -> Result<Vec<String>, Error> {
        let Some(dir) = self.find_dir(key)? else { return Ok(Vec::new()) };
        let names = self.disk.list(&dir).map_err(Error::io(Operation::List, self.full(key)))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Removes a file if it is there; tells whether it was.
    pub(crate) fn unlink(&self, place: &Place) -> Result<bool, Error> {
        let Some(dir) = self.find_dir(place.parent())? else { return Ok(false) };
        match self.disk.unlink(&dir, place.name()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(Operation::Remove, self.full(place.as_str()))(error)),
        }
    }

    /// Removes a directory if it is there and empty; tells whether it did.
    pub(crate) fn remove_dir(&self, key: &str) -> Result<bool, Error> {
        self.forget(key);
        let Some(dir) = self.find_dir(parent(key))? else { return Ok(false) };
        let place = Place::own(key);
        match self.disk.remove_dir(&dir, place.name()) {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty => Ok(false),
                _ => Err(Error::io(Operation::RemoveDirectory, self.full(key))(error)),
            },
        }
    }

    /// Makes a directory with exactly `mode`, whatever the umask.
    pub(crate) fn make_dir(&self, key: &str, mode: u32) -> Result<D::Dir, Error> {
        let path = self.full(key);
        let name = key.rsplit('/').next().unwrap_or_default();
        let made = self.disk.make_dir(&self.dir(parent(key))?, name, mode);
        made.map_err(Error::io(Operation::CreateDirectory, &path))?;
        let dir = self.dir(key)?;
        let status = self.disk.dir_status(&dir);
        // A directory may take setgid from its parent: that bit is the file system's.
        if status.map_err(Error::io(Operation::Inspect, &path))?.mode & 0o777 != mode {
            self.disk.set_dir_mode(&dir, mode).map_err(Error::io(Operation::SetMode, &path))?;
        }
        Ok(dir)
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_dir(&self, key: &str) -> Result<(), Error> {
        let dir = self.dir(key)?;
        self.disk.sync_dir(&dir).map_err(Error::io(Operation::Sync, self.full(key)))
    }
}
