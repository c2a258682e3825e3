//! `certkit export`: one host's tree as a tar stream, to be unpacked on that host.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::{
    model::{
        cluster::{Cluster, Host},
        layout::Layout,
        near, owned,
        owner::Account,
    },
    store,
};

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
    /// Its files could not be read.
    #[error("the files of the host cannot be exported")]
    Read(#[from] store::Error),
    /// The stream could not be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Host { name, known } => Some(near::meant("hosts", known, name)),
            Self::Read(error) => {
                let init = || "run `certkit init` first; it makes what is missing".into();
                Some(error.hint().unwrap_or_else(init))
            }
            Self::Write(_) => None,
        }
    }
}

impl Error {
    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Host { .. })
    }
}

/// Writes the tree of one host: what `/etc/kubernetes` on that host is to hold, with modes and owners: root, or who is
/// declared. Names are for the host to know, so they are written as they are.
/// Of a one-host tree, everything but certkit's own notes and what is only the operator's.
pub fn export(cluster: &Cluster, dir: &Path, name: &str, out: impl Write) -> Result<(), Error> {
    let host: &Host =
        cluster.hosts.iter().find(|h| h.name.as_ref() == name).ok_or_else(|| Error::Host {
            name: name.to_owned(),
            known: cluster.hosts.iter().map(|h| h.name.to_string()).collect(),
        })?;
    // certkit's notes, requests with their keys and the declaration stay with the operator.
    let local = cluster.is_local(host);
    let is_note = |name: &str| local && matches!(name, ".certkit" | "csr" | "certkit.yaml");
    let root = cluster.root_of(host);
    let entries = store::snapshot(dir, &root, is_note)?;
    let layout = Layout::new(cluster);
    let owners = owned::files(&layout, |index| layout.instances[index].place.clone());
    let mut archive = tar::Builder::new(out);
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        // Who unpacks it as root takes the names where the host knows them, else the numbers: root's.
        if let Some(owned) = owners.get(&root.join(&entry.path)) {
            match &owned.owner.user {
                Account::Id(id) => header.set_uid((*id).into()),
                Account::Name(name) => header.set_username(name).map_err(Error::Write)?,
            }
            match &owned.owner.group {
                Some(Account::Id(id)) => header.set_gid((*id).into()),
                Some(Account::Name(name)) => header.set_groupname(name).map_err(Error::Write)?,
                None => {}
            }
        }
        header.set_mtime(entry.modified);
        let content = entry.content.as_ref().map_or(&[][..], |content| content.as_slice());
        header.set_size(content.len() as u64);
        header.set_entry_type(match entry.content {
            Some(_) => tar::EntryType::Regular,
            None => tar::EntryType::Directory,
        });
        archive.append_data(&mut header, &entry.path, content).map_err(Error::Write)?;
    }
    archive.finish().map_err(Error::Write)
}
