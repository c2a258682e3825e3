//! A workspace of many hosts in which there was nothing to do, and in which nothing has changed since: the answer is the
//! same, and need not be worked out again.
//!
//! What a run finds follows from the files of the workspace, its declaration among them, and from the time. So what is
//! kept is a digest of all there is below DIR (each entry's path, kind, size, number and times), and until when time alone
//! changes nothing. An entry's ctime is the kernel's: no change leaves it as it was, and nobody can set it. The digest is
//! of before the files were read; what changes while they are makes the next run read them again. And at least once a day
//! they are.

use std::{
    fs::{self, DirEntry, Metadata},
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::read;
use crate::{
    model::{duration::Span, stale::HOSTS, timestamp::Timestamp},
    parallel,
    store::{self, sha256},
};

/// Fewer hosts are read in no time.
const MANY: usize = 500;
/// All is read again when this much time has passed, whatever is known.
const DAY: Span = Span::days(1);
/// What has changed so lately may change again without a trace: file systems tell times apart by milliseconds, some by
/// seconds.
const SETTLING: i64 = 2;
/// Where it is kept, below DIR, and among certkit's notes.
const CERTKITS: &str = ".certkit";
const FOLDER: &str = ".certkit/settled";
const NOTES: &str = "settled";

/// What was found, and what it is worth.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Note {
    /// Who found it: another certkit may find more.
    version: String,
    /// The digest of the workspace.
    tree: String,
    /// When, in seconds since 1970.
    found: i64,
    /// Until when it stays so.
    until: i64,
    /// What ends first, and when.
    next: Option<(String, i64)>,
}

/// A workspace as it is before it is read.
pub struct Settled<'a> {
    dir: &'a Path,
    command: &'static str,
    now: Timestamp,
    tree: String,
    /// Whether something has changed only just.
    is_fresh: bool,
}

impl<'a> Settled<'a> {
    /// Looks at it; nothing where it is none of many hosts, or holds what may change unseen, or something was left to be
    /// done.
    pub fn look(dir: &'a Path, command: &'static str, now: Timestamp) -> Option<Self> {
        let hosts = names(&dir.join(HOSTS)).ok().filter(|hosts| hosts.len() >= MANY)?;
        let pending = store::pending(dir).ok()?;
        if pending.is_some() {
            return None;
        }
        let mut tree = Tree::default();
        let is_own = |path: &Path| path != Path::new(HOSTS) && !path.starts_with(CERTKITS);
        tree.folder(dir, Path::new(""), &is_own).ok()?;
        let folder = dir.join(HOSTS).symlink_metadata().ok()?;
        tree.entry(Path::new(HOSTS), &folder).ok()?;
        let parts = parallel::map(&hosts, parallel::processors(), 256, |host| {
            let mut part = Tree::default();
            let root = Path::new(HOSTS).join(host);
            part.entry(&root, &dir.join(&root).symlink_metadata()?)?;
            part.folder(dir, &root, &|_| true)?;
            io::Result::Ok((sha256(&part.text), part.newest))
        });
        for part in parts {
            let (digest, newest) = part.ok()?;
            tree.text.extend_from_slice(digest.as_bytes());
            tree.newest = tree.newest.max(newest);
        }
        let is_fresh = tree.newest + SETTLING > now.unix();
        Some(Self { dir, command, now, tree: sha256(&tree.text), is_fresh })
    }

    /// What ends first, if nothing was to be done and nothing has changed since.
    pub fn known(&self) -> Option<Option<(String, Timestamp)>> {
        let content = read::file(&self.dir.join(FOLDER).join(format!("{}.json", self.command)));
        let note: Note = serde_json::from_slice(content.present()?).ok()?;
        let is_now = (note.found..note.until).contains(&self.now.unix());
        let is_same = note.version == env!("CARGO_PKG_VERSION") && note.tree == self.tree;
        let next = note.next.map(|(label, end)| (label, Timestamp::from_unix(end)));
        (is_now && is_same).then_some(next)
    }

    /// Keeps that there was nothing to do, and that time alone changes nothing before `until`.
    pub fn keep(&self, until: Timestamp, next: Option<&(String, Timestamp)>) {
        if self.is_fresh {
            return;
        }
        let note = Note {
            version: env!("CARGO_PKG_VERSION").into(),
            tree: self.tree.clone(),
            found: self.now.unix(),
            until: until.min(self.now.plus(DAY)).unix(),
            next: next.map(|(label, end)| (label.clone(), end.unix())),
        };
        let text = serde_json::to_vec(&note).unwrap_or_default();
        // Without it all is read again, which is no harm.
        let _ = store::write_note(self.dir, &format!("{NOTES}/{}.json", self.command), &text);
    }
}

/// What is known of entries.
#[derive(Default)]
struct Tree {
    text: Vec<u8>,
    /// When the last of them changed.
    newest: i64,
}

impl Tree {
    /// All below a folder, as far as it is asked for.
    fn folder(
        &mut self,
        dir: &Path,
        folder: &Path,
        is_asked: &dyn Fn(&Path) -> bool,
    ) -> io::Result<()> {
        let entries: io::Result<Vec<DirEntry>> = fs::read_dir(dir.join(folder))?.collect();
        let mut entries = entries?;
        entries.sort_by_cached_key(DirEntry::file_name);
        for one in entries {
            let path = folder.join(one.file_name());
            if !is_asked(&path) {
                continue;
            }
            // Of the folder that is open: no path has to be followed from the root.
            let found = one.metadata()?;
            self.entry(&path, &found)?;
            if found.is_dir() {
                self.folder(dir, &path, is_asked)?;
            }
        }
        Ok(())
    }

    /// What a link leads to is elsewhere.
    fn entry(&mut self, path: &Path, found: &Metadata) -> io::Result<()> {
        if !found.is_file() && !found.is_dir() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.text.extend_from_slice(path.as_os_str().as_bytes());
        let numbers = [
            0,
            i128::from(found.dev()),
            i128::from(found.ino()),
            i128::from(found.mode()),
            i128::from(found.uid()),
            i128::from(found.gid()),
            i128::from(found.size()),
            i128::from(found.mtime()),
            i128::from(found.mtime_nsec()),
            i128::from(found.ctime()),
            i128::from(found.ctime_nsec()),
        ];
        numbers.iter().for_each(|number| self.text.extend_from_slice(&number.to_le_bytes()));
        self.newest = self.newest.max(found.ctime());
        Ok(())
    }
}

/// The names in a folder, in their order.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name().into()));
    let mut names: Vec<PathBuf> = entries.collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}
