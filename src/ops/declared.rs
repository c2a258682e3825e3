//! DIR/certkit.yaml: the cluster as declared.

use std::path::{Path, PathBuf};

use super::read;
use crate::{
    document::{self, DocumentError},
    model::{cluster::Cluster, inventory::Piece},
};

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
    /// The file cannot be read.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Document(error) => error.hint().map(Into::into),
            Self::Missing(_) => Some(
                "run `certkit init` to make a PKI, `certkit init --adopt` to declare one that is \
                 there, or name its directory with --dir"
                    .into(),
            ),
            Self::Unreadable { .. } => None,
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
            Ok(Some(document::read(&content, &name)?.complete(&name)?))
        }
    }
}
