//! The certificates of a kubeconfig: every user's and every cluster's CA, embedded or in files it names.

use std::path::{Path, PathBuf};

use super::{certificates, shown as shown_path};
use crate::{
    document::kubeconfig::{self, Material, View},
    model::{
        check::expiry::Inside,
        observed::Piece,
        shown::{self, with_causes},
    },
    ops::read,
    pki::inspect::Certificate,
};

/// The certificates of one user or one cluster.
pub struct KubeconfigPart {
    /// Whose they are.
    pub inside: Inside,
    /// Whether the context in use names it.
    pub current: bool,
    /// The file they are in.
    pub path: PathBuf,
    /// Each of them, or what is wrong with it.
    pub certificates: Vec<Result<Certificate, String>>,
}

/// Reads all of them; users without a certificate (tokens, plug-ins) give no entry. `locate` says where a
/// file is that the kubeconfig names, or that it cannot be looked at from here.
pub fn entries(
    content: &[u8],
    file: &Path,
    locate: &dyn Fn(&str) -> Option<Result<PathBuf, String>>,
) -> Result<Vec<KubeconfigPart>, String> {
    let view = kubeconfig::parse(content).map_err(|error| with_causes(&error))?;
    let mut entries = Vec::new();
    let (user, cluster) = in_use(&view);
    let read = |material: &Material| match material {
        Material::Data(pem) => (file.to_path_buf(), certificates(pem)),
        Material::File(named) => match locate(named) {
            None => (file.to_path_buf(), Vec::new()),
            Some(Err(why)) => (file.to_path_buf(), vec![Err(why)]),
            Some(Ok(path)) => {
                let found = match read::file(&path) {
                    Piece::Present(content) => certificates(&content),
                    Piece::Missing => {
                        vec![Err(format!("names {}, which does not exist", shown_path(&path)))]
                    }
                    Piece::Bad(why) => {
                        vec![Err(format!("names {}, which {why}", shown_path(&path)))]
                    }
                };
                (path, found)
            }
        },
    };
    for found in &view.users {
        let Some(material) = &found.cert else { continue };
        let (path, certificates) = read(material);
        entries.push(KubeconfigPart {
            inside: Inside::User(shown::name(&found.name)),
            current: user == Some(found.name.as_str()),
            path,
            certificates,
        });
    }
    for found in &view.clusters {
        let Some(material) = &found.ca else { continue };
        let (path, certificates) = read(material);
        entries.push(KubeconfigPart {
            inside: Inside::Cluster(shown::name(&found.name)),
            current: cluster == Some(found.name.as_str()),
            path,
            certificates,
        });
    }
    Ok(entries)
}

/// The user and the cluster in use; where there is one only, that one.
fn in_use(view: &View) -> (Option<&str>, Option<&str>) {
    let only_user = || (view.users.len() == 1).then(|| &view.users[0]);
    let only_cluster = || (view.clusters.len() == 1).then(|| &view.clusters[0]);
    (
        view.user(None).or_else(only_user).map(|u| u.name.as_str()),
        view.cluster(None).or_else(only_cluster).map(|c| c.name.as_str()),
    )
}
