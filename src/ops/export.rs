//! `certkit export`: hosts' trees, each to be carried to its host: one to a stream, or all into a folder.

mod folder;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    document::{
        cloud_config::cloud_config,
        secret::{HostFile, SecretError, secret},
    },
    model::{
        cluster::{Cluster, Host},
        delivery::host_keys,
        layout::Layout,
        near,
        owned::{self, Owned},
        owner::Account,
    },
    pki::age::{self, Recipient},
    store::{self, SnapshotEntry},
};

pub use folder::{FailedHost, FolderReport, FolderRequest, export_all};

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
    /// It makes its keys itself: what is here is not all that it needs, and unpacked there would take its keys away.
    #[error("this host makes its private keys itself, so that its files here are not whole")]
    KeysThere(String),
    /// Its files could not be read.
    #[error("the files of the host cannot be exported")]
    Read(#[source] store::Error),
    /// Its files do not fit into the form.
    #[error("the files of the host are no Secret")]
    Secret(#[from] SecretError),
    /// The stream could not be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// Archives cannot be put there.
    #[error("{}: the folder for archives must not be in the PKI's own directory", .0.display())]
    Inside(PathBuf),
    /// An archive or the record of them cannot be written.
    #[error("the archives cannot be written")]
    Folder(#[source] store::Error),
    /// What should be the record of an earlier export is something else.
    #[error("{}: {why}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The folder holds archives of another form.
    #[error("{} holds archives called HOST.{there}, not HOST.{asked}", folder.display())]
    OtherForm {
        /// The folder.
        folder: PathBuf,
        /// What is there.
        there: String,
        /// What was asked for.
        asked: String,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Host { name, known } => Some(near::meant("hosts", known, name)),
            Self::KeysThere(host) => Some(format!("certkit deploy {host}")),
            Self::Read(error) => {
                let init = || "run `certkit init` first; it makes what is missing".into();
                Some(error.hint().unwrap_or_else(init))
            }
            Self::Folder(error) => error.hint(),
            Self::Secret(_) => Some("export it as a tar archive, or as cloud-init's data".into()),
            Self::Write(_) => None,
            Self::Inside(_) => Some("name a folder elsewhere, that nobody else can read".into()),
            Self::Record { path, .. } => {
                Some(format!("remove {}; then all is exported again", path.display()))
            }
            Self::OtherForm { .. } => Some("name another folder, or remove this one".into()),
        }
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Host { .. } | Self::Inside(_) | Self::OtherForm { .. })
    }
}

/// What a host's files are put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportForm {
    /// A tar archive with modes and owners.
    Tar,
    /// A Kubernetes Secret.
    Secret,
    /// cloud-init's `#cloud-config`.
    CloudInit,
}

impl ExportForm {
    /// How the name of an archive ends.
    fn ending(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Secret => "secret.yaml",
            Self::CloudInit => "cloud-init.yaml",
        }
    }
}

/// What exports hosts, one as well as many: who owns what is looked up once.
pub struct Exporter<'a> {
    cluster: &'a Cluster,
    dir: &'a Path,
    form: ExportForm,
    recipients: &'a [Recipient],
    owners: BTreeMap<PathBuf, Owned<'a>>,
    /// The folders of hosts that make keys themselves.
    keyless: BTreeSet<PathBuf>,
}

/// What `/etc/kubernetes` on one host is to hold.
pub struct HostSnapshot<'a> {
    host: &'a Host,
    root: PathBuf,
    entries: Vec<SnapshotEntry>,
}

impl<'a> Exporter<'a> {
    /// Archives of this form; encrypted where there are recipients.
    pub fn new(
        cluster: &'a Cluster,
        dir: &'a Path,
        form: ExportForm,
        recipients: &'a [Recipient],
    ) -> Self {
        let layout = Layout::new(cluster);
        let owners = owned::files(&layout, |index| layout.instances[index].place.clone());
        let keyless = host_keys(&layout).into_keys().collect();
        Self { cluster, dir, form, recipients, owners, keyless }
    }

    /// Reads the tree of a host by its name.
    pub fn read(&self, name: &str) -> Result<HostSnapshot<'a>, Error> {
        let hosts = &self.cluster.hosts;
        let host = hosts.iter().find(|host| host.name.as_ref() == name);
        let host = host.ok_or_else(|| Error::Host {
            name: name.to_owned(),
            known: hosts.iter().map(|host| host.name.to_string()).collect(),
        })?;
        self.tree(host)
    }

    /// Reads the tree of a host, with modes. Of a one-host tree, everything but certkit's own notes and what is only
    /// the operator's.
    fn tree(&self, host: &'a Host) -> Result<HostSnapshot<'a>, Error> {
        // certkit's notes, requests with their keys and the declaration stay with the operator.
        let local = self.cluster.is_local(host);
        let is_note = |name: &str| local && matches!(name, ".certkit" | "csr" | "certkit.yaml");
        let root = self.cluster.root_of(host);
        if self.keyless.contains(&root) {
            return Err(Error::KeysThere(host.name.to_string()));
        }
        let entries = store::snapshot(self.dir, &root, is_note).map_err(Error::Read)?;
        Ok(HostSnapshot { host, root, entries })
    }

    /// Writes a host's archive, encrypted where that is asked for.
    pub fn write(&self, tree: &HostSnapshot<'_>, out: impl Write) -> Result<(), Error> {
        if self.recipients.is_empty() {
            return self.write_plain(tree, out);
        }
        let mut sealed = age::seal(out, self.recipients).map_err(Error::Write)?;
        self.write_plain(tree, &mut sealed)?;
        sealed.finish().map(drop).map_err(Error::Write)
    }

    fn write_plain(&self, tree: &HostSnapshot<'_>, mut out: impl Write) -> Result<(), Error> {
        if self.form == ExportForm::Tar {
            return self.write_tar(tree, out);
        }
        let owners: Vec<String> = tree.entries.iter().map(|e| self.owner(tree, e)).collect();
        let files = tree.entries.iter().zip(&owners).filter_map(|(entry, owner)| {
            let (path, content) = (entry.path.to_str()?, entry.content.as_ref()?);
            Some(HostFile { path, mode: entry.mode, owner, content })
        });
        let files: Vec<HostFile<'_>> = files.collect();
        let text = match self.form {
            ExportForm::CloudInit => {
                let dir = self.cluster.dir_on(Some(tree.host), self.dir);
                cloud_config(&dir.display().to_string(), &files)
            }
            ExportForm::Secret | ExportForm::Tar => secret(tree.host.name.as_ref(), &files)?,
        };
        out.write_all(text.as_bytes()).map_err(Error::Write)
    }

    /// Names are for the host to know, so they are written as they are.
    fn write_tar(&self, tree: &HostSnapshot<'_>, out: impl Write) -> Result<(), Error> {
        let mut archive = tar::Builder::new(out);
        for entry in &tree.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(0);
            header.set_gid(0);
            // Who unpacks it as root takes the names where the host knows them, else the numbers: root's.
            if let Some(owned) = self.owners.get(&tree.root.join(&entry.path)) {
                match &owned.owner.user {
                    Account::Id(id) => header.set_uid((*id).into()),
                    Account::Name(name) => header.set_username(name).map_err(Error::Write)?,
                }
                match &owned.owner.group {
                    Some(Account::Id(id)) => header.set_gid((*id).into()),
                    Some(Account::Name(name)) => {
                        header.set_groupname(name).map_err(Error::Write)?;
                    }
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

    /// Who owns a file on its host: root, or who is declared.
    fn owner(&self, tree: &HostSnapshot<'_>, entry: &SnapshotEntry) -> String {
        let owned = self.owners.get(&tree.root.join(&entry.path));
        let Some(owner) = owned.map(|owned| owned.owner) else { return "root:root".to_owned() };
        match &owner.group {
            Some(_) => owner.to_string(),
            None => format!("{owner}:root"),
        }
    }

    /// A digest of what is exported of a host: paths, modes, owners and content, but not when files were written.
    fn digest(&self, tree: &HostSnapshot<'_>) -> String {
        let mut text = String::new();
        for entry in &tree.entries {
            let content = entry.content.as_ref().map(|content| store::sha256(content));
            text += &format!(
                "{:o} {} {} {:?}\n",
                entry.mode,
                self.owner(tree, entry),
                content.as_deref().unwrap_or("folder"),
                entry.path
            );
        }
        store::sha256(text.as_bytes())
    }

    /// About how long a host's archive is, so that none of it is copied as it grows.
    fn room(tree: &HostSnapshot<'_>) -> usize {
        let content = |entry: &SnapshotEntry| entry.content.as_ref().map_or(0, |c| c.len());
        let total: usize = tree.entries.iter().map(|entry| content(entry) * 4 / 3 + 1536).sum();
        total + total / 1024 + 4096
    }

    /// A host's archive, in memory.
    fn archive(&self, tree: &HostSnapshot<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut archive = Zeroizing::new(Vec::with_capacity(Self::room(tree)));
        self.write(tree, &mut *archive)?;
        Ok(archive)
    }
}
