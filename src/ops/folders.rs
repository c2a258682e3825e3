//! Folders below DIR that are not there.

use std::{collections::HashMap, ffi::OsStr, io::ErrorKind, os::unix::ffi::OsStrExt, path::Path};

use crate::model::stale::HOSTS;

/// Which folders are there: each host's, and all others right below DIR. In one that is not, as of a new fleet none is,
/// nothing need be looked for.
pub struct Folders<'a> {
    dir: &'a Path,
    known: HashMap<Vec<u8>, bool>,
}

impl<'a> Folders<'a> {
    /// Those below this directory.
    pub fn new(dir: &'a Path) -> Self {
        Self { dir, known: HashMap::new() }
    }

    /// Whether a path, relative to the directory, is in one that is not there.
    pub fn lack(&mut self, path: &Path) -> bool {
        let path = path.as_os_str().as_bytes();
        let slash = |from: usize| Some(from + path[from..].iter().position(|b| *b == b'/')?);
        let end = match slash(0) {
            Some(end) if &path[..end] == HOSTS.as_bytes() => slash(end + 1),
            end => end.filter(|end| *end > 0),
        };
        let Some(folder) = end.map(|end| &path[..end]) else { return false };
        if let Some(is_there) = self.known.get(folder) {
            return !is_there;
        }
        let found = self.dir.join(OsStr::from_bytes(folder)).symlink_metadata();
        let is_there = !found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.known.insert(folder.to_vec(), is_there);
        !is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lacks_its_folder_where_that_of_its_host_or_the_outermost_one_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["pki", "hosts/n1/pki"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let mut folders = Folders::new(dir.path());
        let lacking = ["hosts/n2/pki/kubelet.crt", "hosts/n2/kubelet.conf", "csr/hosts/n1/a.csr"];
        // Whatever is there is looked into, even if it leads nowhere.
        let others = ["hosts/n1/other/a.crt", "hosts/n1", "a.conf", "pki/a/b", "/csr/a", "link/a"];
        for _ in 0..2 {
            assert!(lacking.iter().all(|path| folders.lack(Path::new(path))));
            assert!(!others.iter().any(|path| folders.lack(Path::new(path))));
        }
    }
}
