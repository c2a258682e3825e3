//! Restarting what takes a change up in no other way.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    document::manifest::{self, ManifestError},
    model::{
        catalogue::{ComponentSpec, MANIFESTS},
        observed::Piece,
    },
    ops::read,
    store,
};

/// What restarts a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `systemctl try-restart UNIT`, which leaves alone what does not run.
    Systemd,
    /// An annotation with the new fingerprint: the kubelet sees another pod and makes it anew.
    StaticPods,
}

/// Why a component was not restarted.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// Its manifest cannot be changed.
    #[error("cannot annotate {}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// There is nothing to restart it by.
    #[error("{component} has {missing}")]
    Nothing {
        /// Which.
        component: &'static str,
        /// What it lacks.
        missing: String,
    },
    /// Its manifest cannot be read.
    #[error("{}: {why}", path.display())]
    Read {
        /// The manifest or its folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The manifest cannot be written.
    #[error("cannot annotate {}", path.display())]
    Store {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: store::Error,
    },
    /// systemctl cannot be started.
    #[error("cannot start systemctl")]
    Start(#[source] io::Error),
    /// systemctl said no.
    #[error("systemctl try-restart {unit} ended with {status}: {said}")]
    Systemctl {
        /// The unit.
        unit: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        said: String,
    },
}

/// Restarts a component in the first of these ways that it has; returns what was done.
pub fn restart(
    dir: &Path,
    component: &'static ComponentSpec,
    ways: &[How],
    annotations: &[(String, String)],
) -> Result<String, RestartError> {
    let mut missing = Vec::new();
    // A pod's manifest that is there is surer than a unit's usual name.
    if ways.contains(&How::StaticPods) {
        let folder = dir.join(MANIFESTS);
        match find(&folder, component.id)? {
            Some(path) => return annotate(&path, annotations),
            None => missing.push(format!("no manifest in {}", folder.display())),
        }
    }
    if ways.contains(&How::Systemd) {
        match component.unit {
            Some(unit) => return systemctl(unit),
            None => missing.push("no systemd unit that certkit knows".into()),
        }
    }
    Err(RestartError::Nothing { component: component.id, missing: missing.join(" and ") })
}

fn systemctl(unit: &'static str) -> Result<String, RestartError> {
    let output = Command::new("systemctl")
        .args(["try-restart", unit])
        .env_remove(crate::ops::password::VARIABLE)
        .output()
        .map_err(RestartError::Start)?;
    match output.status.success() {
        true => Ok(format!("systemctl try-restart {unit}")),
        false => Err(RestartError::Systemctl {
            unit,
            status: output.status,
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}

/// The files of static pods in a folder, by their names' order. Files whose name begins with a dot are none, for the
/// kubelet either (Kubernetes 1.36, `pkg/kubelet/config/file.go`).
pub fn manifests(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The manifest of the pod that is, or starts, this component.
fn find(folder: &Path, component: &str) -> Result<Option<PathBuf>, RestartError> {
    let paths = match manifests(folder) {
        Ok(paths) => paths,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(RestartError::Read { path: folder.into(), why: e.to_string() }),
    };
    let names = |path: &PathBuf| match read::file(path) {
        Piece::Present(content) => manifest::names(&content).unwrap_or_default(),
        Piece::Missing | Piece::Bad(_) => Vec::new(),
    };
    Ok(paths.into_iter().find(|path| names(path).iter().any(|name| name == component)))
}

/// Puts the annotations into a manifest, in one rename. Its temporary file begins with a dot.
fn annotate(path: &Path, annotations: &[(String, String)]) -> Result<String, RestartError> {
    let bad = |why: String| RestartError::Read { path: path.into(), why };
    let content = match read::file(path) {
        Piece::Present(content) => content,
        Piece::Missing => return Err(bad("is gone".into())),
        Piece::Bad(why) => return Err(bad(why)),
    };
    let changed = manifest::annotate(&content, annotations)
        .map_err(|source| RestartError::Manifest { path: path.into(), source })?;
    let mode = fs::metadata(path).map_err(|e| bad(e.to_string()))?.permissions().mode() & 0o7777;
    store::write_atomically(path, &changed, mode)
        .map_err(|source| RestartError::Store { path: path.into(), source })?;
    Ok(format!("annotated {}", path.display()))
}
