//! The few file-system calls the store is built of, as a trait, so that the tests run the very same
//! protocol over a disk in memory that fails, crashes and loses power where they want it to.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A file system. Every method is one system call that matters: tests interrupt between any two.
pub(crate) trait Disk {
    /// An open directory.
    type Dir: Clone + Sync;
    /// A file open for writing.
    type File: Send + Sync;

    /// Does something with each, on up to `threads` threads where that is faster; the results are in their order.
    fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        _threads: usize,
        work: impl Fn(&Self, &T) -> R + Sync,
    ) -> Vec<R> {
        items.iter().map(|item| work(self, item)).collect()
    }

    /// Opens a directory wherever its path leads, symbolic links included.
    fn open_dir(&self, path: &Path) -> io::Result<Self::Dir>;
    /// Opens a directory below `root` whose path holds no symbolic link; `None` where it does, or where the
    /// system cannot be asked that.
    fn open_plain(&self, root: &Self::Dir, path: &str) -> io::Result<Option<Self::Dir>>;
    /// Opens a directory in a directory, itself; or tells that it is a symbolic link.
    fn open_child(&self, dir: &Self::Dir, name: &str) -> io::Result<Child<Self::Dir>>;
    /// The path without symbolic links, as far as that can be told.
    fn real_path(&self, path: &Path) -> Option<PathBuf>;
    /// What an open directory is now.
    fn dir_status(&self, dir: &Self::Dir) -> io::Result<FileStatus>;
    /// What `name` is, itself (no symbolic link is followed); `None` when there is nothing.
    fn status(&self, dir: &Self::Dir, name: &str) -> io::Result<Option<FileStatus>>;
    /// The whole content of a regular file of at most `limit` octets; a symbolic link is an error.
    fn read(&self, dir: &Self::Dir, name: &str, limit: u64) -> io::Result<Zeroizing<Vec<u8>>>;
    /// The last `room` octets of a regular file, or all of it.
    fn read_end(&self, dir: &Self::Dir, name: &str, room: u64) -> io::Result<Vec<u8>>;
    /// Where a symbolic link points.
    fn read_link(&self, dir: &Self::Dir, name: &str) -> io::Result<OsString>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Self::Dir) -> io::Result<Vec<OsString>>;
    /// What a file open for writing is now.
    fn file_status(&self, file: &Self::File) -> io::Result<FileStatus>;
    /// The extended attributes of the file `name`; none where the file system knows no such thing.
    fn attributes(&self, dir: &Self::Dir, name: &str) -> io::Result<Vec<Attribute>>;
    /// Why nothing can be renamed, made or removed in a directory, if that can be known.
    fn refusal(&self, dir: &Self::Dir) -> io::Result<Option<&'static str>>;
    /// The user this process acts as.
    fn user(&self) -> u32;
    /// Whether this process may give a file of its own to another owner.
    fn may_give(&self, to: NewOwner) -> bool;
    /// A number that no other call on this machine is given; not secret.
    fn nonce(&self) -> u64;

    /// Makes a directory; the process's umask may take bits from `mode`.
    fn make_dir(&self, parent: &Self::Dir, name: &str, mode: u32) -> io::Result<()>;
    /// Sets a directory's mode.
    fn set_dir_mode(&self, dir: &Self::Dir, mode: u32) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, parent: &Self::Dir, name: &str) -> io::Result<()>;
    /// Creates a file that must not exist; the process's umask may take bits from `mode`.
    fn create(&self, dir: &Self::Dir, name: &str, mode: u32) -> io::Result<Self::File>;
    /// Opens an existing regular file for appending.
    fn append(&self, dir: &Self::Dir, name: &str) -> io::Result<Self::File>;
    /// Sets a file's mode.
    fn set_mode(&self, file: &Self::File, mode: u32) -> io::Result<()>;
    /// Sets a file's owner.
    fn set_owner(&self, file: &Self::File, owner: UserAndGroup) -> io::Result<()>;
    /// Gives a file an extended attribute.
    fn set_attribute(&self, file: &Self::File, attribute: &Attribute) -> io::Result<()>;
    /// Writes all of `data` at the end.
    fn write(&self, file: &mut Self::File, data: &[u8]) -> io::Result<()>;
    /// Cuts (or extends) a file to `length`.
    fn set_length(&self, file: &Self::File, length: u64) -> io::Result<()>;
    /// Sets room aside after `length`, where the file system can, without changing the length.
    fn reserve(&self, file: &Self::File, length: u64, room: u64) -> io::Result<()>;
    /// Makes a file's content, mode and owner durable (not its name).
    fn sync_file(&self, file: &Self::File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()>;
    /// Makes everything on the file system that holds `dir` durable.
    fn sync_file_system(&self, dir: &Self::Dir) -> io::Result<()>;
    /// Renames within one directory, replacing what had the new name.
    fn rename(&self, dir: &Self::Dir, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file or a symbolic link.
    fn unlink(&self, dir: &Self::Dir, name: &str) -> io::Result<()>;
    /// Makes a symbolic link that must not exist.
    fn symlink(&self, dir: &Self::Dir, name: &str, target: &str) -> io::Result<()>;
}

/// What of a file is kept besides its content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct KeptMetadata {
    pub(crate) mode: u32,
    pub(crate) owner: UserAndGroup,
    pub(crate) attributes: Vec<Attribute>,
}

/// An extended attribute: an access control list, a security label, or anybody's note.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

impl Attribute {
    /// Whether it is who may do what with the file.
    pub(crate) fn is_access(&self) -> bool {
        self.name == "system.posix_acl_access"
    }
}

/// What was found where a directory was to be opened.
pub(crate) enum Child<Dir> {
    Dir(Dir),
    Link,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FileKind {
    Directory,
    File,
    Other,
    Symlink,
}

/// User and group a file belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct UserAndGroup {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Whom a file is to belong to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NewOwner {
    /// The user's number.
    pub uid: u32,
    /// The group's; none leaves the group that the file has anyway.
    pub gid: Option<u32>,
}

impl NewOwner {
    /// The owner of a file that was `before`.
    pub(crate) fn from(self, before: UserAndGroup) -> UserAndGroup {
        UserAndGroup { uid: self.uid, gid: self.gid.unwrap_or(before.gid) }
    }
}

impl From<UserAndGroup> for NewOwner {
    fn from(UserAndGroup { uid, gid }: UserAndGroup) -> Self {
        Self { uid, gid: Some(gid) }
    }
}

/// What is known about a file without reading it.
#[derive(Clone, Debug)]
pub(crate) struct FileStatus {
    pub(crate) kind: FileKind,
    /// Permission bits only.
    pub(crate) mode: u32,
    pub(crate) owner: UserAndGroup,
    pub(crate) length: u64,
    /// When its content changed last, in seconds since 1970 and nanoseconds.
    pub(crate) modified: (i64, u32),
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Why no rename can replace this file, whoever asks.
    pub(crate) obstacle: Option<&'static str>,
}
