//! Reading files that may be anything: bounded, never hanging, and with a reason when it fails.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use zeroize::Zeroizing;

use crate::model::observed::Piece;

/// More than any certificate, key, bundle or kubeconfig of a cluster takes.
pub const LIMIT: u64 = 4 << 20;

/// A file's content, wiped when dropped. Missing is no fault; unreadable is, with its reason.
pub fn file(path: &Path) -> Piece<Zeroizing<Vec<u8>>> {
    bounded(path, LIMIT)
}

/// The same with a limit of its own, in octets.
pub fn bounded(path: &Path, limit: u64) -> Piece<Zeroizing<Vec<u8>>> {
    read(path, open(path), limit, None)
}

/// A file's content, `path` being relative to the directory `dir` that is open as `root`: no link leads out of it.
/// Who may change links there must not choose which keys and certificates certkit takes for this cluster's.
pub fn below(root: &File, dir: &Path, path: &Path) -> Piece<Zeroizing<Vec<u8>>> {
    let opened = match open_below(root, path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::XDEV.raw_os_error()) => {
            // A link to an absolute path inside, or one that leaves.
            let inside = dir.canonicalize().and_then(|home| {
                let real = dir.join(path).canonicalize()?;
                Ok(real.strip_prefix(home).map(Path::to_path_buf).ok())
            });
            match inside {
                Ok(Some(inside)) => open_below(root, &inside),
                Ok(None) => return Piece::Bad("is behind a symlink that leads elsewhere".into()),
                Err(error) => Err(error),
            }
        }
        // Before Linux 5.6, or where a sandbox does not know the call.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) => {
            open(&dir.join(path))
        }
        opened => opened,
    };
    read(&dir.join(path), opened, LIMIT, None)
}

fn open_below(root: &File, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::BENEATH)?;
    Ok(opened.into())
}

// Without O_NONBLOCK opening a FIFO waits for a writer.
fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

/// How long a pipe may be there before anybody writes into it.
const WRITER: Duration = Duration::from_secs(10);

/// The same of a file that somebody named: a pipe will do, as a shell makes one of `<(command)`.
pub fn named(path: &Path, limit: u64) -> Piece<Zeroizing<Vec<u8>>> {
    read(path, open(path), limit, Some(WRITER))
}

fn read(
    path: &Path,
    opened: io::Result<File>,
    limit: u64,
    pipe: Option<Duration>,
) -> Piece<Zeroizing<Vec<u8>>> {
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A symlink to nothing is something.
            return match path.symlink_metadata() {
                Ok(_) => Piece::Bad("is a symlink to a file that does not exist".into()),
                Err(_) => Piece::Missing,
            };
        }
        Err(error) => return Piece::Bad(format!("cannot be read: {error}")),
    };
    let mut wait = None;
    let length = match file.metadata() {
        Ok(metadata) if metadata.is_dir() => return Piece::Bad("is a directory".into()),
        Ok(metadata) if metadata.file_type().is_fifo() && pipe.is_some() => {
            wait = pipe;
            0
        }
        Ok(metadata) if !metadata.is_file() => {
            return Piece::Bad("is no regular file (a FIFO, socket or device)".into());
        }
        Ok(metadata) if metadata.len() > limit => return too_large(limit),
        Ok(metadata) => metadata.len(),
        Err(error) => return Piece::Bad(format!("cannot be read: {error}")),
    };
    // Room for all of it and a byte more, in which the end shows: a buffer that grows is read in small
    // pieces, and leaves copies of a key behind that nobody wipes. The length is at most `limit`.
    let room = usize::try_from(length).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    let source = Patient { file, end: wait.map(|wait| Instant::now() + wait), any: false };
    match source.take(limit + 1).read_to_end(&mut content) {
        Ok(read) if read as u64 > limit => too_large(limit),
        Ok(0) => Piece::Bad("is empty".into()),
        Ok(_) => Piece::Present(content),
        Err(error) => Piece::Bad(format!("cannot be read: {error}")),
    }
}

/// A file; or a pipe that does not block, which has nothing to read while its writer takes its time, and as little
/// before anybody has opened it to write.
struct Patient {
    file: File,
    /// When a pipe must have a writer. Nothing for a file.
    end: Option<Instant>,
    any: bool,
}

impl io::Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = self.file.read(buffer);
            let may_come = match (&result, self.end) {
                (Err(error), Some(_)) => error.kind() == io::ErrorKind::WouldBlock,
                (Ok(0), Some(end)) => !self.any && !buffer.is_empty() && Instant::now() < end,
                _ => false,
            };
            self.any |= result.is_ok() && !may_come;
            if !may_come {
                return result;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn too_large<T>(limit: u64) -> Piece<T> {
    Piece::Bad(format!("is larger than {limit} octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_files_are_named_for_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("empty"), "").unwrap();
        std::fs::write(path("large"), [7; 100]).unwrap();
        std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let why = |name: &str| match bounded(&path(name), 10) {
            Piece::Bad(why) => why,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(why("empty"), "is empty");
        assert_eq!(why("large"), "is larger than 10 octets");
        assert_eq!(why("dangling"), "is a symlink to a file that does not exist");
        assert!(why("loop").contains("symbolic link"), "{}", why("loop"));
        assert!(why("fifo").contains("FIFO"));
        assert_eq!(why("."), "is a directory");
        assert_eq!(bounded(&path("none"), 10), Piece::Missing);
    }
}
