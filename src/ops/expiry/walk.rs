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
};

/// A file to look into.
#[derive(Debug)]
pub struct Item {
    /// The file.
    pub path: PathBuf,
    /// Whether it was named itself, so that it must hold certificates.
    pub named: bool,
    /// Why it cannot be looked into, where that is known already.
    pub fault: Option<String>,
}

/// Files handed out together.
const BATCH: usize = 64;

/// The walk through everything that was named, in its order.
pub struct Walk {
    roots: std::vec::IntoIter<PathBuf>,
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

impl Walk {
    /// Walks these, folders one level deep or all the way down.
    pub fn new(roots: Vec<PathBuf>, recursive: bool) -> Self {
        Self { roots: roots.into_iter(), recursive, inside: None, folders: Vec::new() }
    }

    fn next_item(&mut self) -> Option<Item> {
        loop {
            let Some(folder) = self.folders.last_mut() else {
                let path = self.roots.next()?;
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => {
                        self.inside = path.canonicalize().ok();
                        if let Err(item) = self.enter(path, true) {
                            return Some(item);
                        }
                        continue;
                    }
                    _ => return Some(Item { path, named: true, fault: None }),
                }
            };
            let Some(entry) = folder.entries.next() else {
                self.folders.pop();
                continue;
            };
            let name = &folder.names[entry.start as usize..entry.end as usize];
            let path = folder.path.join(OsStr::from_bytes(name));
            match entry.kind {
                Kind::File => return Some(Item { path, named: false, fault: None }),
                Kind::Folder if self.recursive => {
                    if let Err(item) = self.enter(path, false) {
                        return Some(item);
                    }
                }
                Kind::Folder => {}
                Kind::Link => match link(&path, self.inside.as_deref()) {
                    Ok(true) => return Some(Item { path, named: false, fault: None }),
                    Ok(false) => {}
                    Err(fault) => return Some(Item { path, named: false, fault: Some(fault) }),
                },
            }
        }
    }

    fn enter(&mut self, path: PathBuf, named: bool) -> Result<(), Item> {
        match list(&path) {
            Ok(folder) => {
                self.folders.push(folder);
                Ok(())
            }
            Err(error) => {
                Err(Item { path, named, fault: Some(format!("cannot be listed: {error}")) })
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Vec<Item>;

    fn next(&mut self) -> Option<Vec<Item>> {
        let batch: Vec<Item> = std::iter::from_fn(|| self.next_item()).take(BATCH).collect();
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
