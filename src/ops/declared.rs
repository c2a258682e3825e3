//! The declared cluster of a directory.

use std::path::{Path, PathBuf};

use crate::model::cluster::Cluster;

/// Why a directory's declaration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DeclaredError {
    /// Reading `certkit.yaml` is not part of this build.
    #[error("cannot read {path}: this build has no reader for it")]
    NoReader {
        /// The file.
        path: PathBuf,
    },
}

impl DeclaredError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// The cluster that `DIR/certkit.yaml` declares.
pub fn load(dir: &Path) -> Result<Cluster, DeclaredError> {
    Err(DeclaredError::NoReader { path: dir.join("certkit.yaml") })
}
