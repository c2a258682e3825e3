//! The real file system: rustix where std has no call for it, std elsewhere.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::fs::{Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::disk::{Disk, Kind, Owner, Status};
use crate::parallel;

/// The operating system's file system.
#[derive(Debug, Default)]
pub(crate) struct RealDisk;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Disk for RealDisk {
    type Dir = Arc<File>;
    type File = File;

    fn open_dir(&self, path: &Path) -> io::Result<Self::Dir> {
        Ok(Arc::new(fs::open(path, DIRECTORY, Mode::empty())?.into()))
    }

    fn open_beneath(&self, root: &Self::Dir, path: &str) -> io::Result<Self::Dir> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = loop {
            match fs::openat2(&**root, path, DIRECTORY, Mode::empty(), resolve) {
                // The kernel could not exclude that a concurrent rename led the walk outside.
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Before Linux 5.6, or forbidden by a container's older system call filter.
                Err(Errno::NOSYS | Errno::PERM) => return walk(root, path),
                Err(Errno::XDEV | Errno::LOOP) => return Err(escape()),
                other => break other?,
            }
        };
        Ok(Arc::new(fd.into()))
    }

    fn dir_status(&self, dir: &Self::Dir) -> io::Result<Status> {
        self.file_status(dir)
    }

    fn status(&self, dir: &Self::Dir, name: &str) -> io::Result<Option<Status>> {
        match fs::statx(&**dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Ok(status) => Ok(Some(Status::from(&status))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, dir: &Self::Dir, name: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        // Not blocking: what was a file a moment ago may be a FIFO now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(fs::openat(&**dir, name, flags, Mode::empty())?);
        let status = self.file_status(&file)?;
        if status.kind != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // Room for all of it and one more: growing would leave copies that are not wiped.
        let mut content = Zeroizing::new(Vec::with_capacity(status.length as usize + 1));
        file.read_to_end(&mut content)?;
        Ok(content)
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

    fn file_status(&self, file: &File) -> io::Result<Status> {
        Ok(Status::from(&fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?))
    }

    fn user(&self) -> u32 {
        geteuid().as_raw()
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

    fn set_owner(&self, file: &File, owner: Owner) -> io::Result<()> {
        let (uid, gid) = (fs::Uid::from_raw(owner.uid), fs::Gid::from_raw(owner.gid));
        Ok(fs::fchown(file, Some(uid), Some(gid))?)
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

    fn sync_files(&self, files: &[File]) -> Result<(), (usize, io::Error)> {
        // Syncs that wait at the same time share a commit of the file system's journal.
        let synced = parallel::map(files, files.len(), 1, File::sync_all);
        let mut numbered = synced.into_iter().enumerate();
        numbered.try_for_each(|(index, synced)| synced.map_err(|error| (index, error)))
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

/// Opens a directory step by step, following no symbolic link at all.
fn walk(root: &Arc<File>, path: &str) -> io::Result<Arc<File>> {
    let mut dir = Arc::clone(root);
    for name in path.split('/') {
        let fd = match fs::openat(&*dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) if is_symlink(&dir, name) => return Err(escape()),
            other => other?,
        };
        dir = Arc::new(fd.into());
    }
    Ok(dir)
}

fn is_symlink(dir: &Arc<File>, name: &str) -> bool {
    matches!(RealDisk.status(dir, name), Ok(Some(Status { kind: Kind::Symlink, .. })))
}

fn escape() -> io::Error {
    let text = "a symbolic link on the way leads out of the directory";
    io::Error::new(io::ErrorKind::CrossesDevices, text)
}

impl From<&Statx> for Status {
    fn from(status: &Statx) -> Self {
        let kind = match FileType::from_raw_mode(status.stx_mode.into()) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
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
            owner: Owner { uid: status.stx_uid, gid: status.stx_gid },
            length: status.stx_size,
            device: (u64::from(status.stx_dev_major) << 32) | u64::from(status.stx_dev_minor),
            inode: status.stx_ino,
            obstacle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_step_by_step_follows_no_symlink() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temporary.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", temporary.path().join("link")).unwrap();
        let root = RealDisk.open_dir(temporary.path()).unwrap();
        assert!(walk(&root, "a/b").is_ok());
        let error = walk(&root, "link/b").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
        assert_eq!(walk(&root, "a/c").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
