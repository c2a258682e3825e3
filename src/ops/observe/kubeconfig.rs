//! A kubeconfig, followed: to the certificate, key and CA that it embeds or names.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    credential::{FileContent, HeldCredential},
    files::Files,
    pair,
};
use crate::{
    document::kubeconfig::{self, Material, View},
    model::{
        layout::{Place, kubelet_dir},
        observed::{KubeconfigView, Piece},
        shown::{quoted, with_causes},
    },
};

/// Where paths that a kubeconfig names are.
pub struct NamedPaths<'a> {
    /// DIR.
    pub dir: &'a Path,
    /// The folder of the kubeconfig's host, below DIR.
    pub root: &'a Path,
    /// What that folder is on the host.
    pub host_dir: PathBuf,
}

/// What a path in a kubeconfig leads to.
enum Lead {
    /// A file, relative to DIR where it is below it.
    File(PathBuf),
    /// A file of the host that is not this machine's.
    Elsewhere(String),
}

impl NamedPaths<'_> {
    fn follow(&self, kubeconfig: &Path, path: &str) -> Lead {
        let path = Path::new(path);
        if path.is_relative() {
            // As client-go does it.
            return Lead::File(kubeconfig.parent().unwrap_or(Path::new("")).join(path));
        }
        let own = self.root.as_os_str().is_empty().then_some(self.dir);
        for tree in [Some(self.host_dir.as_path()), own].into_iter().flatten() {
            if let Ok(inside) = path.strip_prefix(tree) {
                return Lead::File(self.root.join(inside));
            }
        }
        // Other files of a host are here only if DIR is this machine's own tree.
        let is_kubelets = || kubelet_dir(self.dir).is_some_and(|k| path.starts_with(k));
        match self.dir == self.host_dir || is_kubelets() {
            true => Lead::File(path.to_path_buf()),
            false => Lead::Elsewhere(path.display().to_string()),
        }
    }
}

/// What is said of the kubeconfig, where certificate and key were found, and the kubeconfig's text.
pub fn follow(
    files: &mut Files<'_>,
    tree: &NamedPaths<'_>,
    file: &Path,
    laid_out: &Place,
) -> (KubeconfigView, HeldCredential, Option<Zeroizing<Vec<u8>>>) {
    let mut facts = KubeconfigView {
        file: file.to_path_buf(),
        state: Piece::Missing,
        authorities: Piece::Missing,
        authority_file: None,
        server: None,
        tls_server_name: None,
        insecure: false,
        verifies_server: None,
        elsewhere: None,
        named: None,
    };
    // Without a kubeconfig to follow, what it is to name may be there all the same.
    let unfollowed = |files: &mut Files<'_>| match laid_out {
        Place::Named { cert, key, .. } => pair(files, laid_out.clone(), cert, key, false),
        Place::Pair { .. } | Place::Embedded { .. } => HeldCredential::missing(laid_out.clone()),
    };
    let content = match files.read(file) {
        Piece::Present(content) => content,
        Piece::Missing => return (facts, unfollowed(files), None),
        Piece::Bad(why) => {
            facts.state = Piece::Bad(why);
            return (facts, unfollowed(files), None);
        }
    };
    let view = match kubeconfig::parse(&content) {
        Ok(view) => view,
        Err(error) => {
            facts.state = Piece::Bad(with_causes(&error));
            return (facts, unfollowed(files), None);
        }
    };
    facts.state = Piece::Present(());
    let found = credential(files, tree, file, &view, &mut facts);
    authority(files, tree, file, &view, &mut facts);
    let found = found.unwrap_or_else(|| match facts.elsewhere {
        Some(_) => HeldCredential::missing(laid_out.clone()),
        None => unfollowed(files),
    });
    (facts, found, Some(content))
}

/// Nothing where there is none, or it is on another machine: the facts say which.
fn credential(
    files: &mut Files<'_>,
    tree: &NamedPaths<'_>,
    file: &Path,
    view: &View,
    facts: &mut KubeconfigView,
) -> Option<HeldCredential> {
    let Some(user) = view.user(None) else {
        facts.state = Piece::Bad("its current context names no user that is in it".into());
        return None;
    };
    match (&user.cert, &user.key) {
        (Some(Material::Data(cert)), key) => {
            files.secret(file);
            let cert: FileContent = Piece::Present(Zeroizing::new(cert.to_vec()));
            let key: FileContent = match key {
                Some(Material::Data(key)) => Piece::Present(Zeroizing::new(key.to_vec())),
                Some(Material::File(_)) | None => Piece::Missing,
            };
            let place = Place::Embedded { kubeconfig: file.to_path_buf() };
            Some(HeldCredential::parse(place, &cert, &key, false))
        }
        (Some(Material::File(cert)), Some(Material::File(key))) => {
            facts.named = Some(cert.clone());
            match (tree.follow(file, cert), tree.follow(file, key)) {
                (Lead::File(cert), Lead::File(key)) => {
                    files.uses(&cert);
                    files.uses(&key);
                    let (c, k) = (cert.clone(), key.clone());
                    let place = Place::Named { cert, key, kubeconfig: file.to_path_buf() };
                    Some(pair(files, place, &c, &k, false))
                }
                (Lead::Elsewhere(path), _) | (_, Lead::Elsewhere(path)) => {
                    facts.elsewhere = Some(path);
                    None
                }
            }
        }
        _ => {
            let why = format!("user {} has no client certificate and key", quoted(&user.name));
            facts.state = Piece::Bad(why);
            None
        }
    }
}

fn authority(
    files: &mut Files<'_>,
    tree: &NamedPaths<'_>,
    file: &Path,
    view: &View,
    facts: &mut KubeconfigView,
) {
    let Some(cluster) = view.cluster(None) else {
        facts.state = Piece::Bad("its current context names no cluster that is in it".into());
        return;
    };
    facts.server = cluster.server.clone();
    facts.tls_server_name = cluster.tls_server_name.clone();
    facts.insecure = cluster.insecure_skip_verify;
    facts.authorities = match &cluster.ca {
        Some(Material::Data(pem)) => files.bundle_of(pem),
        Some(Material::File(path)) => match tree.follow(file, path) {
            Lead::File(path) => {
                files.uses(&path);
                let found = files.bundle(&path);
                facts.authority_file = Some(path);
                found
            }
            Lead::Elsewhere(path) => {
                facts.elsewhere = Some(path);
                Piece::Missing
            }
        },
        None if facts.insecure => Piece::Missing,
        None => Piece::Bad("is not set, so that it trusts the system's roots".into()),
    };
}
