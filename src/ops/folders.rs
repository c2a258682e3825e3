//! Folders below DIR that are not there.

use std::{
    collections::HashMap,
    io::ErrorKind,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::model::{part, stale::HOSTS};

/// Which folders are there: each host's, and all others right below DIR. In one that is not, as of a new fleet none is,
/// nothing need be looked for.
pub struct Folders<'a> {
    dir: &'a Path,
    missing: HashMap<PathBuf, bool>,
    /// The one that was asked for last, and whether it is missing: files are asked for host by host.
    last: Option<(PathBuf, bool)>,
}

impl<'a> Folders<'a> {
    /// Those below this directory.
    pub fn new(dir: &'a Path) -> Self {
        Self { dir, missing: HashMap::new(), last: None }
    }

    /// Whether a path, relative to the directory, is in one that is not there, or would be it.
    pub fn lack(&mut self, path: &Path) -> bool {
        if let Some((folder, is_missing)) = &self.last
            && is_in(path, folder)
        {
            return *is_missing;
        }
        let of_host = part::folder(path);
        let outermost = || path.ancestors().filter(|above| above.parent().is_some()).last();
        let Some(folder) = of_host.or_else(outermost) else { return false };
        let hosts = Path::new(HOSTS);
        let is_missing = of_host.is_some() && self.is_missing(hosts) || self.is_missing(folder);
        // What is in that of all hosts is not all in one.
        self.last = (folder != hosts).then(|| (folder.to_path_buf(), is_missing));
        is_missing
    }

    fn is_missing(&mut self, folder: &Path) -> bool {
        if let Some(is_missing) = self.missing.get(folder) {
            return *is_missing;
        }
        let found = self.dir.join(folder).symlink_metadata();
        let is_missing = found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.missing.insert(folder.to_path_buf(), is_missing);
        is_missing
    }
}

/// Whether a path is this folder or in it. By octets: to compare components takes longer than to look into the directory.
fn is_in(path: &Path, folder: &Path) -> bool {
    let rest = path.as_os_str().as_bytes().strip_prefix(folder.as_os_str().as_bytes());
    rest.is_some_and(|rest| rest.first().is_none_or(|next| *next == b'/'))
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
        let lacking = [
            "hosts/n2/pki/kubelet.crt",
            "hosts/n2/kubelet.conf",
            "hosts/n22/kubelet.conf",
            "hosts/n/kubelet.conf",
            "csr/hosts/n1/a.csr",
        ];
        // Whatever is there is looked into, even if it leads nowhere.
        let others = ["hosts/n1/other/a.crt", "hosts", "hosts/n1", "pki/a/b", "link/a"];
        for _ in 0..2 {
            // In turn, as what was asked last is kept in mind.
            for (lacking, other) in lacking.iter().zip(others.iter().cycle()) {
                assert!(folders.lack(Path::new(lacking)), "{lacking}");
                assert!(!folders.lack(Path::new(other)), "{other}");
            }
            assert!(lacking.iter().all(|path| folders.lack(Path::new(path))));
            assert!(!others.iter().any(|path| folders.lack(Path::new(path))));
        }
        std::fs::remove_dir_all(dir.path().join("hosts")).unwrap();
        let mut folders = Folders::new(dir.path());
        assert!(
            ["hosts/n1/a", "hosts", "hosts/n1"].iter().all(|path| folders.lack(Path::new(path)))
        );
        assert!(!folders.lack(Path::new("pki/a")));
    }
}
