//! One writer at a time: a lock of the operating system on a file that nobody else can open.
//!
//! The file `.certkit/lock` is its owner's alone, in a directory that is its owner's alone: whoever can merely read
//! the tree cannot hold the lock and keep others waiting. It says nothing and is left behind; the lock on it
//! ends with its process. Who holds it is asked from the kernel, which cannot be out of date as a text in a file
//! can.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::METADATA;
use super::disk::{Disk, FileKind, FileStatus};
use super::error::{Error, Holder, Operation};
use super::gate::Gate;
use super::place::own;
use super::real::RealDisk;

/// The name of the lock's file.
pub(crate) const NAME: &str = "lock";

/// Opens the lock's file, and makes it where there is none; tells whether `.certkit` was made for it. None where the
/// file system is read-only: there nobody changes anything.
pub(crate) fn file<D: Disk>(gate: &Gate<D>) -> Result<(Option<D::File>, bool), Error> {
    let is_read_only = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem);
    let mut made = false;
    if gate.find_dir(METADATA)?.is_none() {
        match gate.make_dir(METADATA, 0o700) {
            Ok(_) => made = true,
            Err(error) if is_read_only(&error) => return Ok((None, false)),
            // Another run was faster.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    match open(gate) {
        Ok(file) => Ok((file, made)),
        Err(error) => {
            if made {
                // An empty directory that cannot be removed is in nobody's way.
                let _ = gate.remove_dir(METADATA);
            }
            Err(error)
        }
    }
}

fn open<D: Disk>(gate: &Gate<D>) -> Result<Option<D::File>, Error> {
    let dir = gate.dir(METADATA)?;
    let failed = |operation| Error::io(operation, gate.full(own(NAME).as_str()));
    loop {
        let opened = match gate.disk.append(&dir, NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                gate.disk.create(&dir, NAME, 0o600)
            }
            opened => opened,
        };
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                return Ok(None);
            }
            opened => opened.map_err(failed(Operation::Lock))?,
        };
        let status = gate.disk.file_status(&file).map_err(failed(Operation::Inspect))?;
        if status.kind != FileKind::File {
            let path = gate.full(own(NAME).as_str());
            return Err(Error::Path { path, reason: "it is not a regular file" });
        }
        // Somebody's chmod -R must not let others hold it.
        if status.mode & 0o077 != 0 {
            gate.disk.set_mode(&file, 0o600).map_err(failed(Operation::SetMode))?;
        }
        return Ok(Some(file));
    }
}

/// Locks the file, waiting at most `wait`. `path` is the directory's.
pub(crate) fn acquire(
    file: &File,
    status: &FileStatus,
    path: &Path,
    wait: Duration,
) -> Result<(), Error> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => {
                return Err(Error::io(Operation::Lock, path)(source));
            }
            Err(TryLockError::WouldBlock) => {}
        }
        let waited = start.elapsed();
        if waited >= wait {
            return Err(Error::LockHeld { dir: path.to_owned(), holder: holder(status), waited });
        }
        thread::sleep(pause.min(wait - waited));
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Whether the file with this status is still the one that others lock.
pub(crate) fn is_current(dir: &Path, status: &FileStatus) -> bool {
    let root = RealDisk.open_dir(dir);
    let now = root.ok().map(|root| Gate::new(RealDisk, dir.to_owned(), root).status(&own(NAME)));
    matches!(now, Some(Ok(Some(now))) if (now.device, now.inode) == (status.device, status.inode))
}

/// Who holds the lock of the file with this status, as the kernel tells.
pub(crate) fn holder(status: &FileStatus) -> Option<Holder> {
    let pid = parse_holder(&fs::read_to_string("/proc/locks").ok()?, status)?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
    let command = command.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(Holder { pid, command })
}

/// Finds the owner in the text of `/proc/locks`: `1: FLOCK ADVISORY WRITE 412 fe:00:1234 0 EOF`
/// (proc_locks(5)); `->` marks one that only waits.
fn parse_holder(locks: &str, status: &FileStatus) -> Option<u32> {
    let (major, minor) = (status.device >> 32, status.device & 0xffff_ffff);
    let mut by_inode = None;
    for line in locks.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields[..] else { continue };
        let Ok(pid) = pid.parse() else { continue };
        let mut parts = file.split(':');
        let mut hexadecimal = || u64::from_str_radix(parts.next()?, 16).ok();
        let (Some(held_major), Some(held_minor)) = (hexadecimal(), hexadecimal()) else { continue };
        if parts.next().and_then(|inode| inode.parse().ok()) != Some(status.inode) {
            continue;
        }
        if (held_major, held_minor) == (major, minor) {
            return Some(pid);
        }
        // btrfs and overlayfs show another device number here than stat does.
        by_inode = Some(pid);
    }
    by_inode
}

#[cfg(test)]
mod tests {
    use super::super::disk::UserAndGroup;
    use super::*;

    fn status(device: u64, inode: u64) -> FileStatus {
        let owner = UserAndGroup { uid: 0, gid: 0 };
        let (kind, modified) = (FileKind::File, (0, 0));
        FileStatus { kind, mode: 0, owner, length: 0, modified, device, inode, obstacle: None }
    }

    #[test]
    fn the_holder_is_the_one_with_the_inode_and_not_one_that_waits() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 fe:01:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 fe:00:42 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 10 fe:00:42 0 EOF\n";
        assert_eq!(parse_holder(locks, &status(0xfe << 32, 42)), Some(9));
        assert_eq!(parse_holder(locks, &status(0xfd << 32, 42)), Some(9));
        assert_eq!(parse_holder(locks, &status(0xfe << 32, 43)), None);
    }
}
