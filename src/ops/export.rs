//! `certkit export`: one host's tree as a tar stream, to be unpacked on that host.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::model::cluster::{Cluster, Host};

/// What stays with the operator where DIR is a host's own tree: certkit's notes, requests with their keys,
/// the declaration, other hosts' trees.
const OPERATORS: [&str; 4] = [".certkit", "certkit.yaml", "csr", "hosts"];

/// Why a host's tree could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host is not declared.
    #[error("`{name}` is no host of this cluster")]
    Host {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A file could not be read.
    #[error("{}: cannot be exported", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stream could not be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Host { known, .. } => Some(format!("hosts are: {}", known.join(", "))),
            Self::Read { .. } => Some("run `certkit init` first; it makes what is missing".into()),
            Self::Write(_) => None,
        }
    }
}

/// Writes the tree of one host: what `/etc/kubernetes` on that host is to hold, with modes, owned by root.
/// Of a one-host tree, everything but certkit's own notes and what is only the operator's.
pub fn export(cluster: &Cluster, dir: &Path, name: &str, out: impl Write) -> Result<(), Error> {
    let host: &Host =
        cluster.hosts.iter().find(|h| h.name.as_ref() == name).ok_or_else(|| Error::Host {
            name: name.to_owned(),
            known: cluster.hosts.iter().map(|h| h.name.to_string()).collect(),
        })?;
    let root = dir.join(cluster.root_of(host));
    let mut archive = tar::Builder::new(out);
    add(&mut archive, &root, Path::new(""), cluster.is_local(host))?;
    archive.finish().map_err(Error::Write)
}

/// Adds a folder's entries in the order of their names, so that two exports of the same tree are the same.
fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    root: &Path,
    folder: &Path,
    top: bool,
) -> Result<(), Error> {
    let path = root.join(folder);
    let read = |source| Error::Read { path: path.clone(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(read)? {
        names.push(entry.map_err(read)?.file_name());
    }
    names.sort();
    for name in names {
        if top && OPERATORS.iter().any(|own| name == *own) {
            continue;
        }
        let inside = folder.join(&name);
        let path = root.join(&inside);
        let read = |source| Error::Read { path: path.clone(), source };
        let metadata = path.symlink_metadata().map_err(read)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(metadata.permissions().mode() & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(modified(&metadata));
        if metadata.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, &inside, io::empty()).map_err(Error::Write)?;
            add(archive, root, &inside, false)?;
        } else if metadata.is_file() {
            let file = File::open(&path).map_err(read)?;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(metadata.len());
            archive.append_data(&mut header, &inside, file).map_err(Error::Write)?;
        } else {
            // A symlink may lead to anything of this machine; a host gets files.
            let source = io::Error::other("is neither a regular file nor a directory");
            return Err(read(source));
        }
    }
    Ok(())
}

fn modified(metadata: &fs::Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |d| d.as_secs())
}
