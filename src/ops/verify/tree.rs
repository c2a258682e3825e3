//! Every file of the tree as the file system sees it, and what is in those that nothing names.

use std::{
    collections::HashSet,
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

/// Every file and folder, in the order of their names, after the folders above DIR.
pub fn walk(dir: &Path, known: &Files<'_>) -> Vec<FileFacts> {
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
    let home = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let mut walk = Walk { dir, home: &home, known, reached: reached(dir, &home, known), found };
    walk.folder(Path::new(""), 0);
    walk.found
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
            let full = self.dir.join(&path);
            let Ok(metadata) = full.symlink_metadata() else { continue };
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
