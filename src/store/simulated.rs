//! A disk in memory that fails, crashes and loses power on demand.
//!
//! What is lost when the power goes is chosen as freely as POSIX allows: content and mode that were
//! not synced, whole or in part; names that were not synced, each change of a directory by itself, in
//! any order that keeps changes of the same name in theirs. A rename within a directory is one change.

mod state;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::disk::{Attribute, Child, Disk, FileStatus, NewOwner, UserAndGroup};
use state::{Body, EEXIST, EISDIR, ELOOP, ENOTEMPTY, State, errno};

pub(crate) const EIO: i32 = 5;
pub(crate) const EACCES: i32 = 13;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;
/// What goes wrong, counted in calls that change the disk (syncs included).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The process is killed instead of this call; a write is done by half.
    Crash(usize),
    /// This call fails; a write is done by half.
    Error(usize, i32),
    /// From this call on the disk is full: nothing can be made or grow.
    Full(usize),
    /// From this call on nothing can be changed.
    ReadOnly(usize),
}

/// A shared handle to the disk.
#[derive(Clone)]
pub(crate) struct SimulatedDisk(Rc<RefCell<State>>);

/// What a path is, for comparing whole trees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    Directory { mode: u32 },
    File { content: String, mode: u32, uid: u32 },
    Symlink { target: String },
}

impl SimulatedDisk {
    pub(crate) fn new() -> Self {
        let mut state = State {
            nodes: Vec::new(),
            fault: None,
            forgotten: None,
            calls: Vec::new(),
            dead: false,
            umask: 0o027,
            nonce: 0,
        };
        state.add(Body::directory(), 0o755);
        Self(Rc::new(RefCell::new(state)))
    }

    /// An independent copy, as it is now, with nothing wrong and no calls counted.
    pub(crate) fn fork(&self) -> Self {
        let mut state = self.0.borrow().clone();
        state.fault = None;
        state.forgotten = None;
        state.dead = false;
        state.calls.clear();
        Self(Rc::new(RefCell::new(state)))
    }

    pub(crate) fn with_fault(&self, fault: Fault) -> Self {
        let fork = self.fork();
        fork.0.borrow_mut().fault = Some(fault);
        fork
    }

    /// A copy on which one call, if it is a sync, does nothing.
    pub(crate) fn forgetting(&self, call: usize) -> Self {
        let fork = self.fork();
        fork.0.borrow_mut().forgotten = Some(call);
        fork
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.0.borrow_mut().fault = Some(fault);
    }

    /// The calls that changed the disk, in words.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.0.borrow().calls.clone()
    }

    /// What is on the disk after the power was cut; `choose(n)` picks one of `n` possibilities.
    pub(crate) fn cut_power(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let fork = self.fork();
        for node in &mut fork.0.borrow_mut().nodes {
            node.lose(choose);
        }
        fork
    }

    /// Makes everything durable.
    pub(crate) fn settle(&self) {
        self.0.borrow_mut().settle();
    }

    /// Puts a file there, with its directories, durably, uncounted.
    pub(crate) fn put(&self, path: &str, content: &str, mode: u32, uid: u32) {
        let body = Body::File { data: content.into(), durable: content.into() };
        self.put_node(path, body, mode, uid);
    }

    pub(crate) fn put_symlink(&self, path: &str, target: &str) {
        self.put_node(path, Body::Symlink { target: target.to_owned() }, 0o777, 0);
    }

    pub(crate) fn put_dir(&self, path: &str) {
        self.put_node(path, Body::directory(), 0o755, 0);
    }

    /// Another program replaces a file's content, durably; returns what it was if it was.
    pub(crate) fn overwrite(&self, path: &str, content: &str) -> Option<String> {
        let mut state = self.0.borrow_mut();
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let node = parts.try_fold(0, |dir, part| state.find(dir, part)).ok()?;
        let old = std::mem::replace(state.data(node), content.into());
        state.nodes[node].settle();
        Some(String::from_utf8_lossy(&old).into_owned())
    }

    /// Gives a file or directory to another user.
    pub(crate) fn give(&self, path: &str, uid: u32) {
        let mut state = self.0.borrow_mut();
        let parts = path.split('/').filter(|part| !part.is_empty());
        let node = parts.fold(0, |dir, part| state.find(dir, part).unwrap());
        state.nodes[node].owner.uid = uid;
        state.settle();
    }

    fn put_node(&self, path: &str, body: Body, mode: u32, uid: u32) {
        let mut state = self.0.borrow_mut();
        let mut dir = 0;
        let (parents, name) = path.trim_start_matches('/').rsplit_once('/').unwrap_or(("", path));
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            dir = match state.names(dir).unwrap().get(part) {
                Some(&found) => found,
                None => {
                    let made = state.add(Body::directory(), 0o755);
                    state.names_mut(dir, vec![(part.to_owned(), Some(made))]);
                    made
                }
            };
        }
        let node = state.add(body, mode);
        state.nodes[node].owner.uid = uid;
        state.names_mut(dir, vec![(name.trim_start_matches('/').to_owned(), Some(node))]);
        state.settle();
    }

    /// All that is there, by path.
    pub(crate) fn tree(&self) -> BTreeMap<String, Seen> {
        let mut all = BTreeMap::new();
        self.0.borrow().collect(0, "", &mut all);
        all
    }

    fn change(&self, call: impl FnOnce() -> String, grows: bool) -> io::Result<()> {
        self.0.borrow().alive()?;
        let call = call();
        let mut state = self.0.borrow_mut();
        let number = state.calls.len();
        state.calls.push(call);
        match state.fault {
            Some(Fault::Crash(at)) if at == number => {
                state.dead = true;
                state.alive()
            }
            Some(Fault::Error(at, error)) if at == number => Err(errno(error)),
            Some(Fault::Full(from)) if number >= from && grows => Err(errno(ENOSPC)),
            Some(Fault::ReadOnly(from)) if number >= from => Err(errno(EROFS)),
            _ => Ok(()),
        }
    }

    /// Whether the call just counted is the one that does nothing.
    fn is_forgotten(&self) -> bool {
        let state = self.0.borrow();
        state.forgotten.is_some_and(|call| call + 1 == state.calls.len())
    }

    fn link(&self, dir: usize, name: &str, body: Body, mode: u32) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        if state.names(dir)?.contains_key(name) {
            return Err(errno(EEXIST));
        }
        let mode = mode & !state.umask;
        let made = state.add(body, mode);
        state.names_mut(dir, vec![(name.to_owned(), Some(made))]);
        Ok(made)
    }

    fn describe(&self, dir: usize, name: &str) -> String {
        format!("{}/{name}", self.0.borrow().path(dir))
    }
}

impl Disk for SimulatedDisk {
    type Dir = usize;
    type File = usize;

    fn open_dir(&self, path: &Path) -> io::Result<usize> {
        let relative = path.strip_prefix("/").map_err(io::Error::other)?;
        let path = relative.to_str().unwrap();
        self.open_plain(&0, path)?.ok_or_else(|| errno(ELOOP))
    }

    fn open_plain(&self, root: &usize, path: &str) -> io::Result<Option<usize>> {
        let mut dir = *root;
        for component in Path::new(path).components() {
            let Component::Normal(name) = component else { return Err(errno(EACCES)) };
            match self.open_child(&dir, name.to_str().unwrap())? {
                Child::Dir(child) => dir = child,
                Child::Link => return Ok(None),
            }
        }
        Ok(Some(dir))
    }

    fn open_child(&self, dir: &usize, name: &str) -> io::Result<Child<usize>> {
        let state = self.0.borrow();
        state.alive()?;
        let child = state.find(*dir, name)?;
        if matches!(state.nodes[child].body, Body::Symlink { .. }) {
            return Ok(Child::Link);
        }
        state.names(child).map(|_| Child::Dir(child))
    }

    fn real_path(&self, _: &Path) -> Option<PathBuf> {
        None
    }

    fn dir_status(&self, dir: &usize) -> io::Result<FileStatus> {
        self.file_status(dir)
    }

    fn status(&self, dir: &usize, name: &str) -> io::Result<Option<FileStatus>> {
        let state = self.0.borrow();
        state.alive()?;
        Ok(state.names(*dir)?.get(name).map(|&node| state.status(node)))
    }

    fn read(&self, dir: &usize, name: &str, _: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let state = self.0.borrow();
        state.alive()?;
        match &state.nodes[state.find(*dir, name)?].body {
            Body::File { data, .. } => Ok(Zeroizing::new(data.clone())),
            Body::Directory { .. } => Err(errno(EISDIR)),
            Body::Symlink { .. } => Err(errno(ELOOP)),
        }
    }

    fn read_end(&self, dir: &usize, name: &str, room: u64) -> io::Result<Vec<u8>> {
        let content = self.read(dir, name, u64::MAX)?;
        Ok(content[content.len().saturating_sub(room as usize)..].to_vec())
    }

    fn read_link(&self, dir: &usize, name: &str) -> io::Result<OsString> {
        let state = self.0.borrow();
        state.alive()?;
        match &state.nodes[state.find(*dir, name)?].body {
            Body::Symlink { target } => Ok(target.into()),
            _ => Err(errno(EACCES)),
        }
    }

    fn list(&self, dir: &usize) -> io::Result<Vec<OsString>> {
        let state = self.0.borrow();
        state.alive()?;
        Ok(state.names(*dir)?.keys().map(OsString::from).collect())
    }

    fn file_status(&self, file: &usize) -> io::Result<FileStatus> {
        let state = self.0.borrow();
        state.alive()?;
        Ok(state.status(*file))
    }

    fn attributes(&self, _: &usize, _: &str) -> io::Result<Vec<Attribute>> {
        Ok(Vec::new())
    }

    fn refusal(&self, _: &usize) -> io::Result<Option<&'static str>> {
        self.0.borrow().alive().map(|()| None)
    }

    fn user(&self) -> u32 {
        0
    }

    fn may_give(&self, _to: NewOwner) -> bool {
        true
    }

    fn nonce(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        state.nonce += 1;
        state.nonce
    }

    fn make_dir(&self, parent: &usize, name: &str, mode: u32) -> io::Result<()> {
        self.change(|| format!("mkdir {}", self.describe(*parent, name)), true)?;
        self.link(*parent, name, Body::directory(), mode).map(|_| ())
    }

    fn set_dir_mode(&self, dir: &usize, mode: u32) -> io::Result<()> {
        self.set_mode(dir, mode)
    }

    fn remove_dir(&self, parent: &usize, name: &str) -> io::Result<()> {
        self.change(|| format!("rmdir {}", self.describe(*parent, name)), false)?;
        let mut state = self.0.borrow_mut();
        let dir = state.find(*parent, name)?;
        if !state.names(dir)?.is_empty() {
            return Err(errno(ENOTEMPTY));
        }
        state.names_mut(*parent, vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn create(&self, dir: &usize, name: &str, mode: u32) -> io::Result<usize> {
        self.change(|| format!("create {}", self.describe(*dir, name)), true)?;
        let empty = Body::File { data: Vec::new(), durable: Vec::new() };
        self.link(*dir, name, empty, mode)
    }

    fn append(&self, dir: &usize, name: &str) -> io::Result<usize> {
        let state = self.0.borrow();
        state.alive()?;
        state.find(*dir, name)
    }

    fn set_mode(&self, file: &usize, mode: u32) -> io::Result<()> {
        self.change(|| format!("chmod {}", self.0.borrow().path(*file)), false)?;
        self.0.borrow_mut().nodes[*file].mode = mode;
        Ok(())
    }

    fn set_owner(&self, file: &usize, owner: UserAndGroup) -> io::Result<()> {
        self.change(|| format!("chown {}", self.0.borrow().path(*file)), false)?;
        self.0.borrow_mut().nodes[*file].owner = owner;
        Ok(())
    }

    fn set_attribute(&self, _: &usize, _: &Attribute) -> io::Result<()> {
        unreachable!("no file here has any")
    }

    fn write(&self, file: &mut usize, data: &[u8]) -> io::Result<()> {
        let was_alive = self.0.borrow().alive();
        let done = self.change(|| format!("write {}", self.0.borrow().path(*file)), true);
        was_alive?;
        let written = if done.is_ok() { data } else { &data[..data.len() / 2] };
        self.0.borrow_mut().data(*file).extend_from_slice(written);
        done
    }

    fn set_length(&self, file: &usize, length: u64) -> io::Result<()> {
        self.change(|| format!("truncate {}", self.0.borrow().path(*file)), false)?;
        self.0.borrow_mut().data(*file).resize(length as usize, 0);
        Ok(())
    }

    fn reserve(&self, file: &usize, _: u64, _: u64) -> io::Result<()> {
        self.change(|| format!("fallocate {}", self.0.borrow().path(*file)), true)
    }

    fn sync_file(&self, file: &usize) -> io::Result<()> {
        self.change(|| format!("fsync {}", self.0.borrow().path(*file)), false)?;
        if !self.is_forgotten() {
            self.0.borrow_mut().nodes[*file].settle();
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &usize) -> io::Result<()> {
        self.sync_file(dir)
    }

    fn sync_file_system(&self, dir: &usize) -> io::Result<()> {
        self.change(|| format!("syncfs {}", self.0.borrow().path(*dir)), false)?;
        if !self.is_forgotten() {
            self.settle();
        }
        Ok(())
    }

    fn rename(&self, dir: &usize, from: &str, to: &str) -> io::Result<()> {
        self.change(|| format!("rename {}", self.describe(*dir, to)), false)?;
        let mut state = self.0.borrow_mut();
        let node = state.find(*dir, from)?;
        // A directory takes the place of an empty one at most.
        if state.names(node).is_ok()
            && let Ok(there) = state.find(*dir, to)
            && !state.names(there)?.is_empty()
        {
            return Err(errno(ENOTEMPTY));
        }
        state.names_mut(*dir, vec![(from.to_owned(), None), (to.to_owned(), Some(node))]);
        Ok(())
    }

    fn unlink(&self, dir: &usize, name: &str) -> io::Result<()> {
        // As the store tries many names that are not there, only what is there counts.
        {
            let state = self.0.borrow();
            state.alive()?;
            state.find(*dir, name)?;
        }
        self.change(|| format!("unlink {}", self.describe(*dir, name)), false)?;
        self.0.borrow_mut().names_mut(*dir, vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn symlink(&self, dir: &usize, name: &str, target: &str) -> io::Result<()> {
        self.change(|| format!("symlink {}", self.describe(*dir, name)), true)?;
        self.link(*dir, name, Body::Symlink { target: target.to_owned() }, 0o777).map(|_| ())
    }
}
