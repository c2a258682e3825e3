//! Every file of the tree as the file system sees it, and what is in those that nothing names.

use std::{
    collections::{BTreeSet, HashSet},
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    model::{
        check::evidence::{FileFacts, JudgedFile},
        observed::{CertView, Piece},
    },
    ops::{
        observe::{Files, has_key, view},
        read,
    },
    pki::inspect,
};

/// Folders that are no part of the PKI: certkit's own, requests on their way, kubeadm's backups, manifests.
const PASSED_OVER: [&str; 4] = [".certkit", "csr", "manifests", "tmp"];

/// How deep folders are looked into.
const DEPTH: usize = 8;

/// The owner of the directory.
pub fn owner(dir: &Path) -> u32 {
    dir.metadata().map_or(0, |metadata| metadata.uid())
}

/// What of a tree is looked at.
pub enum WalkedPart {
    /// All of it but these folders.
    AllBut(HashSet<PathBuf>),
    /// These folders, relative to DIR.
    Folders(BTreeSet<PathBuf>),
}

/// Every file and folder, in the order of their names; of all of a tree after the folders above DIR.
pub fn walk(dir: &Path, known: &Files<'_>, extent: &WalkedPart) -> Vec<FileFacts> {
    let home = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let reached = reached(dir, &home, known);
    let mut walk = Walk { dir, home: &home, known, reached, found: Vec::new(), left_out: None };
    match extent {
        WalkedPart::AllBut(left_out) => {
            walk.left_out = Some(left_out);
            walk.found = above(dir);
            walk.folder(Path::new(""), 0);
        }
        WalkedPart::Folders(folders) => {
            for folder in folders {
                walk.entry(folder.clone(), folder.components().count() - 1);
            }
        }
    }
    walk.found
}

/// DIR, and the folders above it.
fn above(dir: &Path) -> Vec<FileFacts> {
    let mut found = Vec::new();
    let mut above: Vec<&Path> = dir.ancestors().skip(1).collect();
    above.reverse();
    for folder in above {
        if let Ok(metadata) = folder.metadata() {
            let mut facts = facts_of(folder.to_path_buf(), JudgedFile::Directory, &metadata);
            // Whose they are is not this directory's affair.
            facts.owner = 0;
            found.push(facts);
        }
    }
    if let Ok(metadata) = dir.metadata() {
        found.push(facts_of(PathBuf::new(), JudgedFile::Directory, &metadata));
    }
    found
}

/// The files that used ones really are, where a symlink inside DIR leads to them: what is used by one name is
/// used by all. Where the links leave DIR, they say nothing about the files in it.
fn reached(dir: &Path, home: &Path, known: &Files<'_>) -> HashSet<PathBuf> {
    let inside = |path: &PathBuf| {
        let target = dir.join(path).canonicalize().ok()?;
        target.strip_prefix(home).ok().map(Path::to_path_buf)
    };
    known.used.iter().filter_map(|path| inside(path).filter(|real| real != path)).collect()
}

/// A tree on its way through.
struct Walk<'a> {
    dir: &'a Path,
    home: &'a Path,
    known: &'a Files<'a>,
    reached: HashSet<PathBuf>,
    left_out: Option<&'a HashSet<PathBuf>>,
    found: Vec<FileFacts>,
}

impl Walk<'_> {
    fn folder(&mut self, relative: &Path, depth: usize) {
        let Ok(entries) = std::fs::read_dir(self.dir.join(relative)) else { return };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            let path = relative.join(&name);
            if depth == 0 && PASSED_OVER.iter().any(|over| name == *over) {
                continue;
            }
            if self.left_out.is_none_or(|left_out| !left_out.contains(&path)) {
                self.entry(path, depth);
            }
        }
    }

    /// What is in a folder this deep, itself.
    fn entry(&mut self, path: PathBuf, depth: usize) {
        let full = self.dir.join(&path);
        let Ok(metadata) = full.symlink_metadata() else { return };
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => JudgedFile::Directory,
            kind if kind.is_file() => JudgedFile::File,
            kind if kind.is_symlink() => JudgedFile::Symlink {
                target: full.read_link().unwrap_or_default(),
                outside: full.canonicalize().map_or(true, |to| !to.starts_with(self.home)),
            },
            _ => JudgedFile::Other,
        };
        let is_folder = kind == JudgedFile::Directory;
        let mut facts = facts_of(path.clone(), kind, &metadata);
        facts.is_used = self.known.used.contains(&path) || self.reached.contains(&path);
        facts.is_secret = self.known.secrets.contains(&path);
        if !facts.is_used && facts.kind == JudgedFile::File {
            let (certificates, is_secret) = look(&full);
            facts.certificates = certificates;
            facts.is_secret |= is_secret;
        }
        self.found.push(facts);
        if is_folder && depth < DEPTH {
            self.folder(&path, depth + 1);
        }
    }
}

fn facts_of(path: PathBuf, kind: JudgedFile, metadata: &Metadata) -> FileFacts {
    FileFacts {
        path,
        kind,
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
        is_secret: false,
        is_used: false,
        certificates: Vec::new(),
    }
}

/// What is in a file that nothing names. Kubeconfigs of people are theirs, and passed over.
fn look(path: &Path) -> (Vec<CertView>, bool) {
    let Piece::Present(content) = read::file(path) else { return (Vec::new(), false) };
    let is_pem = content.windows(11).any(|w| w == b"-----BEGIN ");
    if !is_pem {
        return (Vec::new(), false);
    }
    let all = inspect::from_pem(&content).unwrap_or_default();
    (all.iter().map(view).collect(), has_key(&content))
}
