//! One writer at a time: a lock of the operating system on the directory itself.
//!
//! No lock file is needed, so that taking the lock changes nothing on disk (a run with nothing to do
//! leaves no trace) and the lock can never be left behind: it ends with its process. Who holds it is
//! asked from the kernel, which cannot be out of date as a text in a file can.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::disk::Status;
use super::error::{Error, Operation};

/// A process that holds the lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its command line, or nothing where that cannot be read.
    pub command: String,
}

impl Holder {
    /// A phrase for a message.
    pub fn describe(holder: Option<&Self>) -> String {
        match holder {
            None => "another process".to_owned(),
            Some(Self { pid, command }) if command.is_empty() => format!("process {pid}"),
            Some(Self { pid, command }) => format!("process {pid} ({command})"),
        }
    }
}

/// Locks the open directory `dir`, waiting at most `wait`.
pub(crate) fn acquire(
    dir: &File,
    status: &Status,
    path: &Path,
    wait: Duration,
) -> Result<(), Error> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match dir.try_lock() {
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

/// Who holds the lock of the directory with this status, as the kernel tells.
pub(crate) fn holder(status: &Status) -> Option<Holder> {
    let pid = parse_holder(&fs::read_to_string("/proc/locks").ok()?, status)?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
    let command = command.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(Holder { pid, command })
}

/// Finds the owner in the text of `/proc/locks`: `1: FLOCK ADVISORY WRITE 412 fe:00:1234 0 EOF`
/// (proc_locks(5)); `->` marks one that only waits.
fn parse_holder(locks: &str, status: &Status) -> Option<u32> {
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
    use super::super::disk::{Kind, Owner};
    use super::*;

    fn status(device: u64, inode: u64) -> Status {
        let owner = Owner { uid: 0, gid: 0 };
        Status { kind: Kind::Directory, mode: 0, owner, length: 0, device, inode, obstacle: None }
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
