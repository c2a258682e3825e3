//! DIR/certkit.yaml: the cluster as declared.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{machine, read};
use crate::{
    document::{self, DocumentError, Mistake, yaml::Position},
    model::{
        adopt,
        catalogue::{CERTIFICATES, Scope, roles},
        cluster::{Cluster, Host, HostName},
        near,
        observed::Piece,
        shown::quoted,
    },
};

pub use crate::document::{Draft, HostDraft};

/// Its name in DIR.
pub const FILE: &str = "certkit.yaml";

/// Why the declared cluster could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file says something wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The file is not there.
    #[error("{}: there is no such file", .0.display())]
    Missing(PathBuf),
    /// There is no such directory.
    #[error("{}: there is no such directory", .0.display())]
    NoDirectory(PathBuf),
    /// A node that is to go is none.
    #[error("{}: {} is {}", path.display(), quoted(name), match is_host {
        true => "a host of the control plane or of etcd, not only a node",
        false => "no host of this cluster",
    })]
    NoNode {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// Whether it is another host of the cluster.
        is_host: bool,
        /// The nodes there are.
        known: Vec<String>,
    },
    /// A node that is to come is there, and is another.
    #[error("{}: {name} is there already, at {there}, not at {asked}", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The addresses that are declared.
        there: String,
        /// Those that were asked for.
        asked: String,
    },
    /// The file is written in a way that lines cannot be added to.
    #[error("{}: its nodes cannot be changed so that all else in it stays as it is", .0.display())]
    Written(PathBuf),
    /// It gives files to somebody whom this machine does not know.
    #[error(transparent)]
    Owner(DocumentError),
    /// The file cannot be read.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

const DAMAGED: &str = "correct it there; if it is damaged, restore it from a backup";

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Document(error) => Some(error.hint().unwrap_or(DAMAGED).into()),
            Self::Missing(_) => Some(
                "run `certkit init` to make a PKI, `certkit init --adopt` to declare one that is \
                 there, or name its directory with --dir"
                    .into(),
            ),
            Self::NoDirectory(_) => Some("name the PKI's directory with --dir".into()),
            Self::NoNode { path, is_host: true, .. } => Some(format!(
                "who is to lose an apiserver or a member of etcd must be taken out of the cluster first; then edit {}, and \
                 `certkit prune` removes its files",
                path.display()
            )),
            Self::NoNode { name, known, .. } => Some(near::meant("nodes", known, name)),
            Self::OtherNode { path, name, .. } => Some(format!(
                "edit {} where its addresses have changed, then run `certkit rotate`; or `certkit nodes remove {name}` first",
                path.display()
            )),
            Self::Written(_) => Some(
                "write the list with a line for each node: `- {name: NAME, addresses: [IP]}`".into(),
            ),
            Self::Owner(_) => Some(
                "make the account, or write its number (`id -u NAME`, `id -g NAME`) where it is kept elsewhere"
                    .into(),
            ),
            Self::Unreadable { .. } => Some(DAMAGED.into()),
        }
    }
}

/// The cluster that DIR declares.
pub fn load(dir: &Path) -> Result<Cluster, Error> {
    find(dir)?.ok_or_else(|| Error::Missing(dir.join(FILE)))
}

/// The same, or nothing where DIR declares none.
pub fn find(dir: &Path) -> Result<Option<Cluster>, Error> {
    let path = dir.join(FILE);
    match read::bounded(&path, document::LIMIT) {
        Piece::Missing => Ok(None),
        Piece::Bad(why) => Err(Error::Unreadable { path, why }),
        Piece::Present(content) => {
            let name = path.display().to_string();
            Ok(Some(complete(dir, document::read(&content, &name)?, &name)?))
        }
    }
}

/// The cluster that DIR declares, or everything that may be in it where it declares none; and whether it does.
pub fn or_anything(dir: &Path) -> Result<(Cluster, bool), Error> {
    if let Some(cluster) = find(dir)? {
        return Ok((cluster, true));
    }
    if !dir.is_dir() {
        return Err(Error::NoDirectory(dir.to_path_buf()));
    }
    Ok((anything(dir), false))
}

/// Everything that may be in DIR, on this machine.
pub fn anything(dir: &Path) -> Cluster {
    let mut cluster = adopt::anything(machine::host_name());
    cluster.single_root = dir.join(roles::ROOT.home.cert()).exists();
    cluster
}

/// What to do where nothing is where certkit knows it to be.
pub fn elsewhere(dir: &Path) -> String {
    format!(
        "name the PKI's directory with --dir; of another layout, as k3s' or one made by hand: \
         `certkit check-expiration -r {}`, `certkit rotate FILE --ca FILE`",
        dir.display()
    )
}

/// DIR/certkit.yaml with further nodes, and the cluster that it declares then. Those that are there already are left
/// out; nothing where all are.
pub fn with_nodes(dir: &Path, new: &[HostDraft]) -> Result<Option<(String, Cluster)>, Error> {
    let (path, cluster) = (dir.join(FILE), load(dir)?);
    let mut added = Vec::new();
    for node in new {
        let there = cluster.hosts.iter().find(|host| Some(&host.name) == node.name.as_ref());
        match there {
            None => added.push(node.clone()),
            Some(host) if node.addresses.iter().all(|ip| host.addresses.contains(ip)) => {}
            Some(host) => {
                let row = |all: &[IpAddr]| {
                    all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
                };
                let (there, asked) = (row(&host.addresses), row(&node.addresses));
                return Err(Error::OtherNode { path, name: host.name.to_string(), there, asked });
            }
        }
    }
    if added.is_empty() {
        return Ok(None);
    }
    edited(dir, &BTreeSet::new(), &added).map(Some)
}

/// DIR/certkit.yaml without these nodes, and the cluster that it declares then.
pub fn without_nodes(dir: &Path, gone: &BTreeSet<HostName>) -> Result<(String, Cluster), Error> {
    let (path, cluster) = (dir.join(FILE), load(dir)?);
    let is_node = |host: &&Host| !host.control_plane && !host.etcd;
    for name in gone {
        let host = cluster.hosts.iter().find(|host| host.name == *name);
        if host.is_none_or(|host| !is_node(&host)) {
            let nodes = cluster.hosts.iter().filter(is_node);
            return Err(Error::NoNode {
                path,
                name: name.to_string(),
                is_host: host.is_some(),
                known: nodes.map(|host| host.name.to_string()).collect(),
            });
        }
    }
    edited(dir, gone, &[])
}

fn edited(
    dir: &Path,
    gone: &BTreeSet<HostName>,
    new: &[HostDraft],
) -> Result<(String, Cluster), Error> {
    let (path, text) = (dir.join(FILE), text(dir)?);
    let changed =
        document::with_nodes(&text, gone, new).ok_or_else(|| Error::Written(path.clone()))?;
    let name = path.display().to_string();
    let cluster = complete(dir, document::read(changed.as_bytes(), &name)?, &name)?;
    Ok((changed, cluster))
}

/// The machines of a list; `-` is standard input.
pub fn inventory(path: &Path) -> Result<Vec<HostDraft>, Error> {
    let (content, name) = match path.as_os_str() == "-" {
        true => (standard_input(), "standard input".to_owned()),
        false => (read::named(path, INVENTORY), path.display().to_string()),
    };
    match content {
        Piece::Present(content) => Ok(document::inventory::hosts(&content, &name)?),
        Piece::Missing => Err(Error::Missing(path.to_path_buf())),
        Piece::Bad(why) => Err(Error::Unreadable { path: path.to_path_buf(), why }),
    }
}

/// What `kubectl get nodes` says of some thousand nodes.
const INVENTORY: u64 = document::LIMIT;

/// The text of DIR/certkit.yaml.
pub fn text(dir: &Path) -> Result<String, Error> {
    let path = dir.join(FILE);
    match read::bounded(&path, document::LIMIT) {
        Piece::Missing => Err(Error::Missing(path)),
        Piece::Bad(why) => Err(Error::Unreadable { path, why }),
        // What is no UTF-8 was no declaration either.
        Piece::Present(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
    }
}

/// What is said of a cluster, and where: in this file (`-` is standard input), else in DIR/certkit.yaml,
/// else nowhere yet but on the command line.
pub fn draft(dir: &Path, config: Option<&Path>) -> Result<(Draft, String), Error> {
    let there = dir.join(FILE);
    let path = config.unwrap_or(&there);
    let (content, name) = match path.as_os_str() == "-" {
        true => (standard_input(), "standard input".to_owned()),
        false if config.is_some() => {
            (read::named(path, document::LIMIT), path.display().to_string())
        }
        false => (read::bounded(path, document::LIMIT), path.display().to_string()),
    };
    match content {
        Piece::Present(content) => Ok((document::read(&content, &name)?, name)),
        Piece::Missing if config.is_none() => Ok((Draft::default(), "the command line".into())),
        Piece::Missing => {
            Err(Error::Unreadable { path: path.into(), why: "does not exist".into() })
        }
        Piece::Bad(why) => Err(Error::Unreadable { path: path.into(), why }),
    }
}

/// The cluster that follows from what was said, in DIR. What is laid out there stays so: a further host
/// does not turn a host's own tree into a workspace.
pub fn complete(dir: &Path, mut draft: Draft, source: &str) -> Result<Cluster, Error> {
    if draft.workspace.is_none() {
        let of_host = CERTIFICATES.iter().filter(|spec| spec.scope != Scope::Cluster);
        let in_place = |file: &str| dir.join(file).symlink_metadata().is_ok();
        let is_host = of_host.flat_map(|spec| spec.home.files()).any(in_place);
        draft.workspace = is_host.then_some(false);
    }
    Ok(draft.complete(source)?)
}

/// Refuses owners that this machine does not know, each where it stands in its file.
pub fn know_owners(
    unknown: &[(String, String)],
    places: &BTreeMap<String, Position>,
    source: &str,
) -> Result<(), Error> {
    let mistake = |(field, why): &(String, String)| Mistake {
        place: places.get(field).copied(),
        field: field.clone(),
        why: why.clone(),
    };
    let mistakes: Vec<Mistake> = unknown.iter().map(mistake).collect();
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(Error::Owner(DocumentError::Invalid { file: source.to_owned(), mistakes })),
    }
}

fn standard_input() -> Piece<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    let read = std::io::stdin().take(document::LIMIT + 1).read_to_end(&mut content);
    match read {
        Ok(size) if size as u64 > document::LIMIT => {
            Piece::Bad(format!("is larger than {} octets", document::LIMIT))
        }
        Ok(_) => Piece::Present(content),
        Err(error) => Piece::Bad(format!("cannot be read: {error}")),
    }
}
