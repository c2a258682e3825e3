//! A kubeconfig, followed: to the certificate, key and CA that it embeds or names.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{found::Found, gather::Files};
use crate::{
    document::kubeconfig::{self, Material, View},
    model::{check::evidence::KubeconfigFacts, inventory::Piece, shown::quoted},
    ops::observe::with_causes,
};

/// Where paths that a kubeconfig names are.
pub struct Tree<'a> {
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

impl Tree<'_> {
    fn follow(&self, kubeconfig: &Path, path: &str) -> Lead {
        let path = Path::new(path);
        if path.is_relative() {
            // As client-go does it.
            return Lead::File(kubeconfig.parent().unwrap_or(Path::new("")).join(path));
        }
        if let Ok(inside) = path.strip_prefix(&self.host_dir) {
            return Lead::File(self.root.join(inside));
        }
        // Other files of a host are here only if DIR is this machine's own tree.
        match self.dir == self.host_dir {
            true => Lead::File(path.to_path_buf()),
            false => Lead::Elsewhere(path.display().to_string()),
        }
    }
}

/// The kubeconfig's facts, and where certificate and key were found.
pub fn follow(files: &mut Files<'_>, tree: &Tree<'_>, file: &Path) -> (KubeconfigFacts, Found) {
    let mut facts = KubeconfigFacts {
        file: file.to_path_buf(),
        state: Piece::Missing,
        authorities: Piece::Missing,
        authority_file: None,
        server: None,
        tls_server_name: None,
        insecure: false,
        verifies_server: None,
        elsewhere: None,
    };
    let nothing = Found::missing(file);
    let content = match files.read(file) {
        Piece::Present(content) => content,
        Piece::Missing => return (facts, nothing),
        Piece::Bad(why) => {
            facts.state = Piece::Bad(why);
            return (facts, nothing);
        }
    };
    let view = match kubeconfig::parse(&content) {
        Ok(view) => view,
        Err(error) => {
            facts.state = Piece::Bad(with_causes(&error));
            return (facts, nothing);
        }
    };
    facts.state = Piece::Present(());
    let found = credential(files, tree, file, &view, &mut facts);
    authority(files, tree, file, &view, &mut facts);
    (facts, found)
}

fn credential(
    files: &mut Files<'_>,
    tree: &Tree<'_>,
    file: &Path,
    view: &View,
    facts: &mut KubeconfigFacts,
) -> Found {
    let Some(user) = view.user(None) else {
        facts.state = Piece::Bad("its current context names no user that is in it".into());
        return Found::missing(file);
    };
    match (&user.cert, &user.key) {
        (Some(Material::Data(cert)), Some(Material::Data(key))) => {
            files.secret(file);
            Found::parse(
                (file, Piece::Present(Zeroizing::new(cert.to_vec()))),
                (file, Piece::Present(Zeroizing::new(key.to_vec()))),
            )
        }
        (Some(Material::File(cert)), Some(Material::File(key))) => {
            match (tree.follow(file, cert), tree.follow(file, key)) {
                (Lead::File(cert), Lead::File(key)) => {
                    files.uses(&cert);
                    files.uses(&key);
                    let (c, k) = (files.read(&cert), files.read(&key));
                    Found::parse((&cert, c), (&key, k))
                }
                (Lead::Elsewhere(path), _) | (_, Lead::Elsewhere(path)) => {
                    facts.elsewhere = Some(path);
                    Found::missing(file)
                }
            }
        }
        _ => {
            let why = format!("user {} has no client certificate and key", quoted(&user.name));
            facts.state = Piece::Bad(why);
            Found::missing(file)
        }
    }
}

fn authority(
    files: &mut Files<'_>,
    tree: &Tree<'_>,
    file: &Path,
    view: &View,
    facts: &mut KubeconfigFacts,
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
