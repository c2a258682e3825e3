//! The one way to anything below the store's directory.
//!
//! Whoever may write below the directory may put there what they like: symbolic links, records, files of any
//! kind. So nothing below it is named to the system by a path: directories are opened from the directory's own
//! handle downwards, and what is read, written, renamed or removed is named by one component in such a handle.
//! A symbolic link on the way is followed only as far as it stays inside, and never to or from certkit's own
//! records. Elsewhere there is one folder at most that may be changed, the annex, and only where both it and the
//! directory are the administrator's.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::METADATA;
use super::disk::{Child, Disk, FileKind, FileStatus};
use super::error::{Error, Operation};
use super::place::{StorePath, join, parent};

/// How many directories are held open: a workspace of ten thousand hosts has more than a process may.
const HELD_OPEN: usize = 32;

/// How many symbolic links one path may lead through, as in Linux itself.
const LINKS: usize = 40;

/// What one of the store's own records may hold at most: that of a change of some hundred thousand files.
const RECORD: u64 = 256 << 20;

/// What a file may hold at most that is copied into a backup.
const CONTENT: u64 = 64 << 20;

/// The store's directory, with the directories below it that were used last held open.
pub(crate) struct Gate<D: Disk> {
    pub(crate) disk: D,
    pub(crate) path: PathBuf,
    root: D::Dir,
    annex: Option<PathBuf>,
    open: RefCell<Vec<(String, D::Dir)>>,
}

impl<D: Disk> Gate<D> {
    pub(crate) fn new(disk: D, path: PathBuf, root: D::Dir) -> Self {
        Self { disk, path, root, annex: None, open: RefCell::default() }
    }

    /// The same, and the folder `annex` elsewhere, if nobody but the administrator (or this user) can change
    /// what leads there: the directory and the folder, and all that is above them.
    pub(crate) fn with_annex(mut self, annex: Option<&Path>) -> Self {
        let is_own = |path: &Path| is_own(&self.disk, path);
        self.annex = annex.filter(|annex| is_own(annex) && is_own(&self.path)).map(Path::to_owned);
        self
    }

    /// The same directory once more, without the folder elsewhere.
    pub(crate) fn again(&self) -> Self
    where
        D: Clone,
    {
        Self::new(self.disk.clone(), self.path.clone(), self.root.clone())
    }

    /// The path to show for a place or a directory.
    pub(crate) fn full(&self, place: &str) -> PathBuf {
        if place.is_empty() { self.path.clone() } else { self.path.join(place) }
    }

    /// Whether a place is one that may be changed at all.
    pub(crate) fn admits(&self, place: &StorePath) -> Result<(), Error> {
        let key = place.parent();
        if !key.starts_with('/')
            || self.annex.as_ref().is_some_and(|a| Path::new(key).starts_with(a))
        {
            return Ok(());
        }
        Err(Error::Outside { path: self.full(place.as_str()), dir: self.path.clone() })
    }

    /// Opens a directory that must be there.
    pub(crate) fn dir(&self, key: &str) -> Result<D::Dir, Error> {
        if key.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some((_, dir)) = self.open.borrow().iter().rev().find(|(held, _)| held == key) {
            return Ok(dir.clone());
        }
        let opened = if key.starts_with('/') {
            self.admits(&StorePath::own(join(key, "_")))?;
            self.open_annex(key)
        } else {
            self.open_beneath(key)
        };
        let dir = opened.map_err(Error::io(Operation::Open, self.full(key)))?;
        let mut open = self.open.borrow_mut();
        if open.len() == HELD_OPEN {
            open.remove(0);
        }
        open.push((key.to_owned(), dir.clone()));
        Ok(dir)
    }

    /// Opens a directory that must be there, and to which no symbolic link leads at all.
    pub(crate) fn plain_dir(&self, key: &str) -> Result<D::Dir, Error> {
        if key.is_empty() {
            return Ok(self.root.clone());
        }
        let failed = || Error::io(Operation::Open, self.full(key));
        let mut dir = self.root.clone();
        for name in key.split('/') {
            dir = match self.disk.open_child(&dir, name).map_err(failed())? {
                Child::Dir(child) => child,
                Child::Link => {
                    let path = self.full(key);
                    return Err(Error::Path { path, reason: "a symbolic link leads there" });
                }
            };
        }
        Ok(dir)
    }

    fn open_beneath(&self, key: &str) -> io::Result<D::Dir> {
        match self.disk.open_plain(&self.root, key)? {
            Some(dir) => Ok(dir),
            None => self.walk(key).map(|(dir, _)| dir),
        }
    }

    /// Opens a directory in the annex: no link below its own path is followed.
    fn open_annex(&self, key: &str) -> io::Result<D::Dir> {
        let annex = self.annex.as_deref().ok_or_else(escape)?;
        let root = self.disk.open_dir(annex)?;
        let mut dir = root;
        for name in Path::new(key).strip_prefix(annex).map_err(|_| escape())? {
            let name = name.to_str().ok_or_else(escape)?;
            dir = match self.disk.open_child(&dir, name)? {
                Child::Dir(child) => child,
                Child::Link => return Err(escape()),
            };
        }
        Ok(dir)
    }

    /// Opens a directory component by component, and tells where it really is. What links say counts from this
    /// directory's handle, or (an absolute one) from the directory's name; the system resolves none of it.
    fn walk(&self, key: &str) -> io::Result<(D::Dir, String)> {
        let own = is_record(key);
        let mut trail: Vec<(String, D::Dir)> = Vec::new();
        let mut left: Vec<String> = key.rsplit('/').map(str::to_owned).collect();
        let mut links = 0;
        while let Some(name) = left.pop() {
            match name.as_str() {
                "" | "." => continue,
                // Beyond the directory itself there is no way up.
                ".." => match trail.pop() {
                    Some(_) => continue,
                    None => return Err(escape()),
                },
                METADATA if trail.is_empty() && !own => return Err(records()),
                _ => {}
            }
            let here = trail.last().map_or(&self.root, |(_, dir)| dir);
            match self.disk.open_child(here, &name)? {
                Child::Dir(dir) => trail.push((name, dir)),
                Child::Link if own => return Err(records()),
                Child::Link => {
                    links += 1;
                    if links > LINKS {
                        return Err(io::Error::other(
                            "there are too many symbolic links on the way",
                        ));
                    }
                    let target = self.target(here, &name)?;
                    if target.starts_with('/') {
                        trail.clear();
                    }
                    left.extend(target.rsplit('/').map(str::to_owned));
                }
            }
        }
        let names: Vec<&str> = trail.iter().map(|(name, _)| name.as_str()).collect();
        let real = names.join("/");
        Ok((trail.pop().map_or_else(|| self.root.clone(), |(_, dir)| dir), real))
    }

    /// Where a link points: relative to its own folder, or with a leading `/` to the store's directory.
    fn target(&self, dir: &D::Dir, name: &str) -> io::Result<String> {
        let target = self.disk.read_link(dir, name)?;
        let target = Path::new(&target);
        let inside = if target.is_absolute() {
            let real = self.disk.real_path(&self.path);
            let homes = std::iter::once(self.path.as_path()).chain(real.as_deref());
            let inside = homes.into_iter().find_map(|home| target.strip_prefix(home).ok());
            Path::new("/").join(inside.ok_or_else(escape)?)
        } else {
            target.to_owned()
        };
        inside.into_os_string().into_string().map_err(|_| escape())
    }

    /// The place that a write to `place` really is to: what a symbolic link that stays inside points to.
    pub(crate) fn resolve(&self, mut place: StorePath) -> Result<StorePath, Error> {
        for _ in 0..LINKS {
            let is_link =
                self.status(&place)?.is_some_and(|status| status.kind == FileKind::Symlink);
            if place.is_outside() || !is_link {
                return Ok(place);
            }
            let followed = self.walk(place.parent()).and_then(|(dir, real)| {
                let target = self.target(&dir, place.name())?;
                let key = match target.strip_prefix('/') {
                    Some(inside) => inside.to_owned(),
                    None => join(&real, &target),
                };
                let (folder, name) = key.rsplit_once('/').unwrap_or(("", &key));
                if matches!(name, "" | "." | "..") {
                    return Err(escape());
                }
                let (_, folder) = self.walk(folder)?;
                Ok(StorePath::own(join(&folder, name)))
            });
            let path = self.full(place.as_str());
            place = followed.map_err(|_| Error::Path {
                path,
                reason: "it is a symbolic link, which certkit follows only inside of the directory",
            })?;
        }
        let path = self.full(place.as_str());
        Err(Error::Path { path, reason: "there are too many symbolic links on the way" })
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
    pub(crate) fn status(&self, place: &StorePath) -> Result<Option<FileStatus>, Error> {
        let Some(dir) = self.find_dir(place.parent())? else { return Ok(None) };
        let path = self.full(place.as_str());
        self.disk.status(&dir, place.name()).map_err(Error::io(Operation::Inspect, path))
    }

    /// The content at `place`.
    pub(crate) fn read(&self, place: &StorePath) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.read_bounded(place, CONTENT)
    }

    fn read_bounded(&self, place: &StorePath, limit: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
        let dir = self.dir(place.parent())?;
        let path = self.full(place.as_str());
        self.disk.read(&dir, place.name(), limit).map_err(Error::io(Operation::Read, path))
    }

    /// One of the store's own records, if it is there. It is believed only where nobody else can have written
    /// it: what it says is done with this user's rights.
    pub(crate) fn record(&self, place: &StorePath) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let Some(status) = self.status(place)? else { return Ok(None) };
        let untrusted = |reason| {
            let path = self.full(place.as_str());
            Error::Untrusted { path, owner: status.owner.uid, reason }
        };
        if status.kind != FileKind::File {
            return Err(untrusted("it is not a regular file"));
        }
        if status.owner.uid != 0 && status.owner.uid != self.disk.user() {
            return Err(untrusted("it belongs to another user"));
        }
        if status.mode & 0o022 != 0 {
            return Err(untrusted("others may write it"));
        }
        if status.length > RECORD {
            return Err(untrusted("it is larger than any record of certkit's"));
        }
        self.read_bounded(place, RECORD).map(Some)
    }

    /// The names in a directory, or none when it is missing.
    pub(crate) fn list(&self, key: &str) -> Result<Vec<String>, Error> {
        let Some(dir) = self.find_dir(key)? else { return Ok(Vec::new()) };
        let names = self.disk.list(&dir).map_err(Error::io(Operation::List, self.full(key)))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Removes a file if it is there; tells whether it was.
    pub(crate) fn unlink(&self, place: &StorePath) -> Result<bool, Error> {
        let Some(dir) = self.find_dir(place.parent())? else { return Ok(false) };
        match self.disk.unlink(&dir, place.name()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            // A file system that is read-only says so before it looks.
            Err(error) => match self.disk.status(&dir, place.name()) {
                Ok(None) => Ok(false),
                _ => Err(Error::io(Operation::Remove, self.full(place.as_str()))(error)),
            },
        }
    }

    /// Removes a directory if it is there and empty; tells whether it did.
    pub(crate) fn remove_dir(&self, key: &str) -> Result<bool, Error> {
        self.forget(key);
        let Some(dir) = self.find_dir(parent(key))? else { return Ok(false) };
        let place = StorePath::own(key);
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
        let name = key.rsplit('/').next().unwrap_or_default();
        make_dir_in(&self.disk, &self.dir(parent(key))?, name, mode, || self.full(key))
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_dir(&self, key: &str) -> Result<(), Error> {
        let dir = self.dir(key)?;
        self.disk.sync_dir(&dir).map_err(Error::io(Operation::Sync, self.full(key)))
    }
}

/// As [`Gate::make_dir`], in an open directory; `path` is for errors.
pub(crate) fn make_dir_in<D: Disk>(
    disk: &D,
    above: &D::Dir,
    name: &str,
    mode: u32,
    path: impl Fn() -> PathBuf,
) -> Result<D::Dir, Error> {
    let failed = |operation| move |source| (operation, source);
    let make = || {
        disk.make_dir(above, name, mode).map_err(failed(Operation::CreateDirectory))?;
        let child = disk.open_child(above, name).map_err(failed(Operation::Open))?;
        let Child::Dir(dir) = child else { return Err((Operation::Open, escape())) };
        let status = disk.dir_status(&dir).map_err(failed(Operation::Inspect))?;
        Ok((dir, status))
    };
    let io = |(operation, source)| Error::io(operation, path())(source);
    let (dir, status) = make().map_err(io)?;
    if status.owner.uid != disk.user() {
        let reason = "another user puts directories in its place";
        return Err(Error::Path { path: path(), reason });
    }
    // A directory may take setgid from its parent: that bit is the file system's.
    if status.mode & 0o777 != mode {
        disk.set_dir_mode(&dir, mode).map_err(Error::io(Operation::SetMode, path()))?;
    }
    Ok(dir)
}

/// Whether a directory and all above it are this user's or root's, and nobody else's to change.
fn is_own<D: Disk>(disk: &D, path: &Path) -> bool {
    let real = disk.real_path(path);
    let path = real.as_deref().unwrap_or(path);
    path.ancestors().all(|dir| {
        let status = disk.open_dir(dir).and_then(|dir| disk.dir_status(&dir));
        status.is_ok_and(|status| {
            let sticky = status.mode & 0o1000 != 0 && dir != path;
            let own = status.owner.uid == 0 || status.owner.uid == disk.user();
            own && (sticky || status.mode & 0o022 == 0)
        })
    })
}

/// Whether a directory is one of certkit's own.
fn is_record(key: &str) -> bool {
    key.strip_prefix(METADATA).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn escape() -> io::Error {
    let text = "a symbolic link on the way leads out of the directory";
    io::Error::new(io::ErrorKind::CrossesDevices, text)
}

fn records() -> io::Error {
    let text = "a symbolic link leads to or from certkit's own records";
    io::Error::new(io::ErrorKind::CrossesDevices, text)
}
