//! A declaration that is read again when its files change, and not otherwise: of fifty thousand nodes that takes half a second.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Error, FILE, find_with_sources};
use crate::model::cluster::Cluster;

/// How many looks go by until it is read all the same, for file systems whose times cannot be relied on.
const LOOKS: usize = 60;

/// What a file was like. One that is written anew, or replaced, is not like it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    Missing,
    There { device: u64, inode: u64, size: u64, changed: (i64, i64), written: (i64, i64) },
}

impl Likeness {
    fn of(path: &Path) -> Self {
        // Through links, as a ConfigMap's files are.
        match fs::metadata(path) {
            Ok(metadata) => Self::There {
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.size(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
                written: (metadata.mtime(), metadata.mtime_nsec()),
            },
            Err(_) => Self::Missing,
        }
    }
}

/// Keeps an eye on DIR's declaration.
#[derive(Debug)]
pub struct DeclarationKeeper {
    dir: PathBuf,
    /// The files, and what each was like before it was last read; nothing where that is not known.
    seen: Vec<(PathBuf, Option<Likeness>)>,
    looks: usize,
}

impl DeclarationKeeper {
    /// Of the declaration in `dir`, which has not been read yet.
    pub fn new(dir: PathBuf) -> Self {
        let file = dir.join(FILE);
        Self { dir, seen: vec![(file, None)], looks: 0 }
    }

    /// The declaration; nothing where it is certain that it is what it was.
    pub fn look(&mut self) -> Result<Option<Cluster>, Error> {
        // What they are like before they are read: what changes while they are is seen with the next look.
        let now: Vec<(PathBuf, Likeness)> =
            self.seen.iter().map(|(path, _)| (path.clone(), Likeness::of(path))).collect();
        let mut both = self.seen.iter().zip(&now);
        self.looks += 1;
        if self.looks < LOOKS && both.all(|((_, then), (_, now))| *then == Some(*now)) {
            return Ok(None);
        }
        self.looks = 0;
        let missing = || Error::Missing(self.dir.join(FILE));
        let found = find_with_sources(&self.dir).and_then(|found| found.ok_or_else(missing));
        let (cluster, sources) = match found {
            Ok(found) => found,
            Err(error) => {
                self.seen.iter_mut().for_each(|(_, likeness)| *likeness = None);
                return Err(error);
            }
        };
        let known = |path: &PathBuf| now.iter().find(|(known, _)| known == path);
        self.seen = sources
            .into_iter()
            .map(|path| {
                let likeness = known(&path).map(|(_, likeness)| *likeness);
                (path, likeness)
            })
            .collect();
        Ok(Some(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = "apiVersion: certkit/v1\nkind: Cluster\nname: prod\nendpoint: 10.0.0.11:6443\n\
                            controlPlane:\n  - {name: cp1, addresses: [10.0.0.11]}\n";

    fn nodes(keeper: &mut DeclarationKeeper) -> Option<usize> {
        keeper.look().expect("it can be read").map(|cluster| cluster.hosts.len())
    }

    #[test]
    fn it_is_read_when_it_changes_and_not_otherwise() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join(FILE);
        fs::write(&file, DECLARED).expect("written");
        let mut keeper = DeclarationKeeper::new(dir.path().to_owned());
        assert_eq!(nodes(&mut keeper), Some(1));
        // What it was like before it was read for the first time was not asked.
        while nodes(&mut keeper).is_some() {}
        assert_eq!(nodes(&mut keeper), None);

        // Files that it includes, and such as come to be.
        let more = format!("{DECLARED}nodes: {{include: more/*.yaml}}\n");
        fs::create_dir(dir.path().join("more")).expect("a folder");
        fs::write(dir.path().join("more/0.yaml"), "nodes: []\n").expect("written");
        fs::write(&file, more).expect("written");
        assert_eq!(nodes(&mut keeper), Some(1));
        while nodes(&mut keeper).is_some() {}
        let node = |n: usize| format!("nodes:\n- {{name: w{n}, addresses: [10.0.1.{n}]}}\n");
        fs::write(dir.path().join("more/a.yaml"), node(1)).expect("written");
        assert_eq!(nodes(&mut keeper), Some(2));
        while nodes(&mut keeper).is_some() {}
        // As large as before, and replaced as editors do.
        fs::write(dir.path().join("more/.b"), node(2)).expect("written");
        fs::rename(dir.path().join("more/.b"), dir.path().join("more/a.yaml")).expect("renamed");
        assert_eq!(nodes(&mut keeper), Some(2));
        while nodes(&mut keeper).is_some() {}

        // One that is wrong is so until it is right.
        fs::write(&file, "nothing").expect("written");
        assert!(keeper.look().is_err() && keeper.look().is_err());
        fs::write(&file, DECLARED).expect("written");
        assert_eq!(nodes(&mut keeper), Some(1));
        fs::remove_file(&file).expect("removed");
        assert!(matches!(keeper.look(), Err(Error::Missing(_))));
    }

    #[test]
    fn it_is_read_from_time_to_time_whatever_the_file_system_says() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join(FILE), DECLARED).expect("written");
        let mut keeper = DeclarationKeeper::new(dir.path().to_owned());
        let read = (0..4 * LOOKS).filter(|_| nodes(&mut keeper).is_some()).count();
        assert!((4..10).contains(&read), "{read}");
    }
}
