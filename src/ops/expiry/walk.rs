//! Files and folders, sorted, a batch at a time.
//!
//! Symlinks to folders are not entered, so no loop can hold the walk; a symlink to a file inside the tree is
//! passed over, for the file itself is met there.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, FileType},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// A file to look into.
#[derive(Debug)]
pub struct Visit {
    /// The file.
    pub path: PathBuf,
    /// The index of the [`Root`] it belongs to.
    pub root: usize,
    /// Whether it was named itself, so that it must hold certificates.
    pub named: bool,
    /// Why it cannot be looked into, where that is known already.
    pub fault: Option<String>,
}

/// One of the files and folders that were named, and what was met there.
#[derive(Debug, Default)]
pub struct Root {
    /// Whether it is a folder.
    folder: AtomicBool,
    /// Whether it has folders that were not entered.
    deeper: AtomicBool,
    rows: AtomicUsize,
    files: AtomicUsize,
    holding: AtomicUsize,
}

impl Root {
    /// Counts a file, and how many rows it gave.
    pub fn looked_at(&self, rows: usize) {
        self.files.fetch_add(1, Relaxed);
        self.holding.fetch_add(usize::from(rows > 0), Relaxed);
        self.rows.fetch_add(rows, Relaxed);
    }

    /// How many files were looked at here.
    pub fn files(&self) -> usize {
        self.files.load(Relaxed)
    }

    /// How many of them gave a row.
    pub fn holding(&self) -> usize {
        self.holding.load(Relaxed)
    }

    /// What is to be said where nothing at all was found: that is never all right.
    pub fn nothing(&self) -> Option<String> {
        if !self.folder.load(Relaxed) || self.rows.load(Relaxed) > 0 {
            return None;
        }
        let files = match self.files() {
            0 => "it has no files".to_owned(),
            1 => "1 file looked at".to_owned(),
            files => format!("{files} files looked at"),
        };
        let hint = match self.deeper.load(Relaxed) {
            true => "; it has folders, which -r walks",
            false => "",
        };
        Some(format!("holds no certificate: {files}{hint}"))
    }
}

/// Files handed out together.
const BATCH: usize = 64;

/// The walk through everything that was named, in its order.
pub struct Walk<'a> {
    paths: std::iter::Enumerate<std::slice::Iter<'a, PathBuf>>,
    roots: &'a [Root],
    /// The index of the one that is being walked.
    root: usize,
    recursive: bool,
    /// The tree that is being walked, resolved, to tell symlinks that stay inside.
    inside: Option<PathBuf>,
    folders: Vec<Folder>,
}

/// What is left of a folder: names in one piece, for a folder may hold a hundred thousand.
struct Folder {
    path: PathBuf,
    names: Vec<u8>,
    entries: std::vec::IntoIter<Entry>,
}

struct Entry {
    start: u32,
    end: u32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    File,
    Folder,
    Link,
}

impl<'a> Walk<'a> {
    /// Walks these, folders one level deep or all the way down. There are as many `roots` as paths.
    pub fn new(paths: &'a [PathBuf], roots: &'a [Root], recursive: bool) -> Self {
        let paths = paths.iter().enumerate();
        Self { paths, roots, root: 0, recursive, inside: None, folders: Vec::new() }
    }

    fn item(&self, path: PathBuf, named: bool, fault: Option<String>) -> Visit {
        Visit { path, root: self.root, named, fault }
    }

    fn next_item(&mut self) -> Option<Visit> {
        loop {
            let Some(folder) = self.folders.last_mut() else {
                let (root, path) = self.paths.next().map(|(root, path)| (root, path.clone()))?;
                self.root = root;
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => {
                        self.roots[root].folder.store(true, Relaxed);
                        self.inside = path.canonicalize().ok();
                        if let Err(item) = self.enter(path, true) {
                            return Some(item);
                        }
                        continue;
                    }
                    _ => return Some(self.item(path, true, None)),
                }
            };
            let Some(entry) = folder.entries.next() else {
                self.folders.pop();
                continue;
            };
            let name = &folder.names[entry.start as usize..entry.end as usize];
            let path = folder.path.join(OsStr::from_bytes(name));
            match entry.kind {
                Kind::File => return Some(self.item(path, false, None)),
                Kind::Folder if self.recursive => {
                    if let Err(item) = self.enter(path, false) {
                        return Some(item);
                    }
                }
                Kind::Folder => self.roots[self.root].deeper.store(true, Relaxed),
                Kind::Link => match link(&path, self.inside.as_deref()) {
                    Ok(true) => return Some(self.item(path, false, None)),
                    Ok(false) => {}
                    Err(fault) => return Some(self.item(path, false, Some(fault))),
                },
            }
        }
    }

    fn enter(&mut self, path: PathBuf, named: bool) -> Result<(), Visit> {
        match list(&path) {
            Ok(folder) => {
                self.folders.push(folder);
                Ok(())
            }
            Err(error) => Err(self.item(path, named, Some(format!("cannot be listed: {error}")))),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Vec<Visit>;

    fn next(&mut self) -> Option<Vec<Visit>> {
        let batch: Vec<Visit> = std::iter::from_fn(|| self.next_item()).take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    }
}

fn list(path: &Path) -> io::Result<Folder> {
    let mut names = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Some(kind) = kind(entry.file_type()?) else { continue };
        let name = OsString::into_vec(entry.file_name());
        let start = offset(names.len())?;
        names.extend_from_slice(&name);
        entries.push(Entry { start, end: offset(names.len())?, kind });
    }
    entries.sort_unstable_by(|a, b| {
        names[a.start as usize..a.end as usize].cmp(&names[b.start as usize..b.end as usize])
    });
    names.shrink_to_fit();
    Ok(Folder { path: path.to_path_buf(), names, entries: entries.into_iter() })
}

fn offset(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::Error::other("the folder is too large"))
}

/// FIFOs, sockets and devices hold no certificates.
fn kind(file_type: FileType) -> Option<Kind> {
    if file_type.is_file() {
        Some(Kind::File)
    } else if file_type.is_dir() {
        Some(Kind::Folder)
    } else if file_type.is_symlink() {
        Some(Kind::Link)
    } else {
        None
    }
}

/// Whether a symlink leads to a file outside the tree; a fault if it leads nowhere.
fn link(path: &Path, inside: Option<&Path>) -> Result<bool, String> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "is a symlink to a file that does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    if !metadata.is_file() {
        return Ok(false);
    }
    let target = path.canonicalize().map_err(|error| format!("cannot be read: {error}"))?;
    Ok(!inside.is_some_and(|inside| target.starts_with(inside)))
}
