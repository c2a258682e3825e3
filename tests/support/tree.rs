//! A folder tree as data: to say that nothing changed, or what did.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder and its mode.
    Folder(u32),
    /// A file: content, mode and time of change in nanoseconds.
    File { content: Vec<u8>, mode: u32, changed: i128 },
    /// A symlink and where it points.
    Link(PathBuf),
}

/// Every entry below `root`, by path relative to it.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut tree = BTreeMap::new();
    walk(root, root, &mut tree);
    tree
}

fn walk(root: &Path, folder: &Path, tree: &mut BTreeMap<PathBuf, Entry>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let relative = path.strip_prefix(root).expect("below root").to_path_buf();
        let metadata = path.symlink_metadata().expect("metadata");
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            tree.insert(relative, Entry::Folder(mode));
            walk(root, &path, tree);
        } else if metadata.is_symlink() {
            tree.insert(relative, Entry::Link(fs::read_link(&path).expect("link")));
        } else {
            let changed =
                i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            let content =
                if metadata.is_file() { fs::read(&path).expect("content") } else { vec![] };
            tree.insert(relative, Entry::File { content, mode, changed });
        }
    }
}

/// The paths that differ between two trees; folders' own times do not count.
pub fn difference(
    before: &BTreeMap<PathBuf, Entry>,
    after: &BTreeMap<PathBuf, Entry>,
) -> Vec<String> {
    let mut differing = Vec::new();
    for path in before.keys().chain(after.keys().filter(|p| !before.contains_key(*p))) {
        if before.get(path) != after.get(path) {
            differing.push(path.display().to_string());
        }
    }
    differing
}

/// The files below `root`, relative to it, without certkit's own notes.
pub fn files(root: &Path) -> Vec<PathBuf> {
    snapshot(root)
        .into_iter()
        .filter(|(path, entry)| {
            matches!(entry, Entry::File { .. }) && !path.starts_with(".certkit")
        })
        .map(|(path, _)| path)
        .collect()
}

/// Copies a folder of kubeadm's files or certkit's, with the modes these give them: private keys are nobody else's.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
            continue;
        }
        fs::copy(&path, &target).unwrap();
        let named = path.extension().is_some_and(|e| e == "key" || e == "conf");
        let is_key = |text: &[u8]| text.windows(11).any(|part| part == b"PRIVATE KEY");
        let secret = named || is_key(&fs::read(&path).unwrap());
        let mode = if secret { 0o600 } else { 0o644 };
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
    }
}
