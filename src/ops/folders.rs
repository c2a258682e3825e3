//! Folders below DIR that are not there.

use std::{
    collections::HashMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::model::part;

/// Which folders are there: each host's, and all others right below DIR. In one that is not, as of a new fleet none is,
/// nothing need be looked for.
pub struct Folders<'a> {
    dir: &'a Path,
    known: HashMap<PathBuf, bool>,
}

impl<'a> Folders<'a> {
    /// Those below this directory.
    pub fn new(dir: &'a Path) -> Self {
        Self { dir, known: HashMap::new() }
    }

    /// Whether a path, relative to the directory, is in one that is not there, or would be it.
    pub fn lack(&mut self, path: &Path) -> bool {
        let outermost = || path.ancestors().filter(|above| above.parent().is_some()).last();
        let Some(folder) = part::folder(path).or_else(outermost) else { return false };
        if let Some(is_there) = self.known.get(folder) {
            return !is_there;
        }
        let found = self.dir.join(folder).symlink_metadata();
        let is_there = !found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.known.insert(folder.to_path_buf(), is_there);
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
        let others = ["hosts/n1/other/a.crt", "hosts/n1", "pki/a/b", "link/a"];
        for _ in 0..2 {
            assert!(lacking.iter().all(|path| folders.lack(Path::new(path))));
            assert!(!others.iter().any(|path| folders.lack(Path::new(path))));
        }
    }
}
