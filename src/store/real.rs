//! The real file system: rustix where std has no call for it, std elsewhere.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, Access, AtFlags, FallocateFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::fs::{StatVfsMountFlags, Statx, StatxAttributes, StatxFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};
use rustix::thread::{CapabilitySet, capabilities};
use zeroize::Zeroizing;

use super::disk::{Attribute, Child, Disk, FileKind, FileStatus, NewOwner, UserAndGroup};
use crate::parallel;

/// The operating system's file system.
#[derive(Clone, Debug, Default)]
pub(crate) struct RealDisk;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What an extended attribute, or the names of all of a file's, may hold at most (Linux' own limit).
const ATTRIBUTES: usize = 64 << 10;

impl RealDisk {
    /// A regular file to read.
    fn open_file(&self, dir: &Arc<File>, name: &str) -> io::Result<(File, FileStatus)> {
        // Not blocking: what was a file a moment ago may be a FIFO now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(fs::openat(&**dir, name, flags, Mode::empty())?);
        let status = self.file_status(&file)?;
        match status.kind {
            FileKind::File => Ok((file, status)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }
}

impl Disk for RealDisk {
    type Dir = Arc<File>;
    type File = File;

    fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        threads: usize,
        work: impl Fn(&Self, &T) -> R + Sync,
    ) -> Vec<R> {
        parallel::map(items, threads, 1, |item| work(self, item))
    }

    fn open_dir(&self, path: &Path) -> io::Result<Self::Dir> {
        Ok(Arc::new(fs::open(path, DIRECTORY, Mode::empty())?.into()))
    }

    fn open_plain(&self, root: &Self::Dir, path: &str) -> io::Result<Option<Self::Dir>> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        loop {
            match fs::openat2(&**root, path, DIRECTORY, Mode::empty(), resolve) {
                // The kernel could not exclude that a concurrent rename led the walk outside.
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Before Linux 5.6, or forbidden by a container's older system call filter; a link.
                Err(Errno::NOSYS | Errno::PERM | Errno::XDEV | Errno::LOOP) => return Ok(None),
                other => return Ok(Some(Arc::new(other?.into()))),
            }
        }
    }

    fn open_child(&self, dir: &Self::Dir, name: &str) -> io::Result<Child<Self::Dir>> {
        match fs::openat(&**dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) if is_symlink(dir, name) => Ok(Child::Link),
            other => Ok(Child::Dir(Arc::new(other?.into()))),
        }
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        path.canonicalize().ok()
    }

    fn dir_status(&self, dir: &Self::Dir) -> io::Result<FileStatus> {
        self.file_status(dir)
    }

    fn status(&self, dir: &Self::Dir, name: &str) -> io::Result<Option<FileStatus>> {
        match fs::statx(&**dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Ok(status) => Ok(Some(FileStatus::from(&status))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, dir: &Self::Dir, name: &str, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let (file, status) = self.open_file(dir, name)?;
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "it is too large");
        if status.length > limit {
            return Err(too_large());
        }
        // Room for all of it and one more: growing would leave copies that are not wiped.
        let mut content = Zeroizing::new(Vec::with_capacity(status.length as usize + 1));
        file.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit { Err(too_large()) } else { Ok(content) }
    }

    fn read_end(&self, dir: &Self::Dir, name: &str, room: u64) -> io::Result<Vec<u8>> {
        let (mut file, status) = self.open_file(dir, name)?;
        file.seek(SeekFrom::Start(status.length.saturating_sub(room)))?;
        let mut end = Vec::new();
        file.take(room).read_to_end(&mut end)?;
        Ok(end)
    }

    fn read_link(&self, dir: &Self::Dir, name: &str) -> io::Result<OsString> {
        let target = fs::readlinkat(&**dir, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    fn list(&self, dir: &Self::Dir) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&**dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort();
        Ok(names)
    }

    fn file_status(&self, file: &File) -> io::Result<FileStatus> {
        Ok(FileStatus::from(&fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?))
    }

    fn attributes(&self, dir: &Self::Dir, name: &str) -> io::Result<Vec<Attribute>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&**dir, name, flags, Mode::empty())?;
        let mut list = vec![0; ATTRIBUTES];
        let length = match fs::flistxattr(&file, &mut list) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
            length => length?,
        };
        let mut attributes = Vec::new();
        for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            // Of the content they are a digest of, or of what the kernel makes itself.
            if matches!(name, "security.ima" | "security.evm") {
                continue;
            }
            let mut value = vec![0; ATTRIBUTES];
            let length = fs::fgetxattr(&file, name, &mut value)?;
            value.truncate(length);
            attributes.push(Attribute { name: name.to_owned(), value });
        }
        Ok(attributes)
    }

    fn refusal(&self, dir: &Self::Dir) -> io::Result<Option<&'static str>> {
        if fs::fstatvfs(&**dir)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(Some("its file system is mounted read-only"));
        }
        let attributes =
            fs::statx(&**dir, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?.stx_attributes;
        if attributes.contains(StatxAttributes::IMMUTABLE) {
            return Ok(Some("its directory is immutable (see chattr -i)"));
        }
        if attributes.contains(StatxAttributes::APPEND) {
            return Ok(Some("its directory is append-only (see chattr -a)"));
        }
        match fs::accessat(&**dir, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Err(Errno::ACCESS | Errno::PERM) => Ok(Some("this user may not write its directory")),
            Err(Errno::ROFS) => Ok(Some("its file system is mounted read-only")),
            Err(Errno::NOSYS) => Ok(None),
            other => Ok(other.map(|()| None)?),
        }
    }

    fn user(&self) -> u32 {
        // Asked of every directory of a fleet, and always the same.
        static USER: OnceLock<u32> = OnceLock::new();
        *USER.get_or_init(|| geteuid().as_raw())
    }

    fn may_give(&self, to: NewOwner) -> bool {
        // Root may lack the capability, as in a container, and others may have it.
        if capabilities(None).is_ok_and(|all| all.effective.contains(CapabilitySet::CHOWN)) {
            return true;
        }
        let is_own = |gid: u32| {
            gid == getegid().as_raw()
                || getgroups().is_ok_and(|all| all.iter().any(|group| group.as_raw() == gid))
        };
        to.uid == self.user() && to.gid.is_none_or(is_own)
    }

    fn nonce(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (since.as_nanos() as u64) ^ (u64::from(std::process::id()) << 40)
    }

    fn make_dir(&self, parent: &Self::Dir, name: &str, mode: u32) -> io::Result<()> {
        Ok(fs::mkdirat(&**parent, name, Mode::from_raw_mode(mode))?)
    }

    fn set_dir_mode(&self, dir: &Self::Dir, mode: u32) -> io::Result<()> {
        Ok(fs::fchmod(&**dir, Mode::from_raw_mode(mode))?)
    }

    fn remove_dir(&self, parent: &Self::Dir, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&**parent, name, AtFlags::REMOVEDIR)?)
    }

    fn create(&self, dir: &Self::Dir, name: &str, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&**dir, name, flags, Mode::from_raw_mode(mode))?.into())
    }

    fn append(&self, dir: &Self::Dir, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&**dir, name, flags, Mode::empty())?.into())
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        Ok(fs::fchmod(file, Mode::from_raw_mode(mode))?)
    }

    fn set_owner(&self, file: &File, owner: UserAndGroup) -> io::Result<()> {
        let (uid, gid) = (fs::Uid::from_raw(owner.uid), fs::Gid::from_raw(owner.gid));
        Ok(fs::fchown(file, Some(uid), Some(gid))?)
    }

    fn set_attribute(&self, file: &File, attribute: &Attribute) -> io::Result<()> {
        let Attribute { name, value } = attribute;
        let mut present = vec![0; ATTRIBUTES];
        let found = fs::fgetxattr(file, name.as_str(), &mut present);
        // A label that a policy gives by itself need not be allowed to be given.
        if found.is_ok_and(|length| present[..length] == **value) {
            return Ok(());
        }
        Ok(fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty())?)
    }

    fn write(&self, file: &mut File, data: &[u8]) -> io::Result<()> {
        file.write_all(data)
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn reserve(&self, file: &File, length: u64, room: u64) -> io::Result<()> {
        match fs::fallocate(file, FallocateFlags::KEEP_SIZE, length, room) {
            // A file system that cannot promise room is one that must be taken as it is.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()> {
        dir.sync_all()
    }

    fn sync_file_system(&self, dir: &Self::Dir) -> io::Result<()> {
        Ok(fs::syncfs(&**dir)?)
    }

    fn rename(&self, dir: &Self::Dir, from: &str, to: &str) -> io::Result<()> {
        Ok(fs::renameat(&**dir, from, &**dir, to)?)
    }

    fn unlink(&self, dir: &Self::Dir, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&**dir, name, AtFlags::empty())?)
    }

    fn symlink(&self, dir: &Self::Dir, name: &str, target: &str) -> io::Result<()> {
        Ok(fs::symlinkat(target, &**dir, name)?)
    }
}

/// Whether there is a process of this number on this machine, as far as this one can see.
pub(crate) fn is_running(process: i32) -> bool {
    let found = rustix::process::Pid::from_raw(process).map(rustix::process::test_kill_process);
    // Another user's may not be asked.
    matches!(found, Some(Ok(()) | Err(Errno::PERM)))
}

fn is_symlink(dir: &Arc<File>, name: &str) -> bool {
    matches!(RealDisk.status(dir, name), Ok(Some(FileStatus { kind: FileKind::Symlink, .. })))
}

impl From<&Statx> for FileStatus {
    fn from(status: &Statx) -> Self {
        let kind = match FileType::from_raw_mode(status.stx_mode.into()) {
            FileType::Directory => FileKind::Directory,
            FileType::RegularFile => FileKind::File,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        };
        let has = |attribute| status.stx_attributes.contains(attribute);
        let obstacle = if has(StatxAttributes::MOUNT_ROOT) {
            Some("it is a mount point, which cannot be replaced: mount its directory instead")
        } else if has(StatxAttributes::IMMUTABLE) {
            Some("it is immutable (see chattr -i)")
        } else if has(StatxAttributes::APPEND) {
            Some("it is append-only (see chattr -a)")
        } else {
            None
        };
        Self {
            kind,
            mode: u32::from(status.stx_mode) & 0o7777,
            owner: UserAndGroup { uid: status.stx_uid, gid: status.stx_gid },
            length: status.stx_size,
            modified: (status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec),
            device: (u64::from(status.stx_dev_major) << 32) | u64::from(status.stx_dev_minor),
            inode: status.stx_ino,
            obstacle,
        }
    }
}
