//! DIR/certkit.yaml: the cluster as declared.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{machine, read};
use crate::{
    document::{self, DocumentError, Mistake, yaml::Position},
    model::{
        adopt,
        catalogue::{CERTIFICATES, Scope, roles},
        cluster::Cluster,
        observed::Piece,
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
