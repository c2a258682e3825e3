//! What checks judge: what was observed below a directory, and what the rules of the moment ask besides.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use crate::model::{
    catalogue::{CertId, CertSpec, Dials, Home, Path},
    cluster::Cluster,
    layout::{Copy, Layout},
    observed::{CertView, Held, HeldCopy, Observed},
    timestamp::Timestamp,
};

/// Everything found, and the circumstances.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The cluster: declared, or assumed from what is there. Where it is not declared, what is not there is not
    /// missing, and names beyond those that are dialled are somebody's choice.
    pub cluster: &'a Cluster,
    /// The time as of which is judged.
    pub at: Timestamp,
    /// What the cluster consists of.
    pub layout: &'a Layout<'a>,
    /// What was found of it.
    pub observed: &'a Observed,
    /// Every file and folder of the tree.
    pub files: Vec<FileFacts>,
    /// The user whose files these should be: the directory's owner.
    pub owner: u32,
    /// The address of the service `kubernetes`, where nothing declares it: read off the certificate.
    pub service_address: Option<IpAddr>,
}

/// What the file system says of a file.
#[derive(Clone, Debug)]
pub struct FileFacts {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: JudgedFile,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
    /// Whether it holds a private key.
    pub is_secret: bool,
    /// Whether something of the cluster names it.
    pub is_used: bool,
    /// The certificates it holds, if nothing names it.
    pub certificates: Vec<CertView>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JudgedFile {
    /// A folder.
    Directory,
    /// A regular file.
    File,
    /// A symlink, and where it leads.
    Symlink {
        /// As written in the link.
        target: PathBuf,
        /// Whether it leads out of the tree, or nowhere.
        outside: bool,
    },
    /// A device, socket or FIFO.
    Other,
}

impl Evidence<'_> {
    /// Whether the cluster is declared.
    pub fn declared(&self) -> bool {
        self.observed.declared
    }

    /// What was found of each instance.
    pub fn held(&self) -> &[Held] {
        &self.observed.instances
    }

    /// Copies that are not like their originals, and whether they are missing altogether.
    pub fn stale(&self) -> impl Iterator<Item = (&Copy, bool)> {
        let copies = self.layout.copies.iter().zip(&self.observed.copies);
        copies.filter_map(|(copy, found)| match found {
            HeldCopy::Same | HeldCopy::Alone => None,
            HeldCopy::Missing { has_original } => has_original.then_some((copy, true)),
            HeldCopy::Differs | HeldCopy::Bad(_) => Some((copy, false)),
        })
    }

    /// The index of the instance with this id on the host with this root; else of the cluster's one.
    pub fn find(&self, id: CertId, root: &std::path::Path) -> Option<usize> {
        self.layout.find(id, root)
    }

    /// The index of the CA that should have signed this instance.
    pub fn issuer(&self, index: usize) -> Option<usize> {
        self.layout.issuer(index)
    }

    /// The label of an instance.
    pub fn label(&self, index: usize) -> String {
        self.layout.instances[index].label()
    }

    /// The address of the service `kubernetes`.
    pub fn service_address(&self) -> Option<IpAddr> {
        match self.declared() {
            true => self.cluster.service_subnets.first().map(|s| s.first_host()),
            false => self.service_address,
        }
    }

    /// The name by which the client at this instance, or one without certificate, knows the server.
    pub fn dialled(&self, path: &Path, client: Option<usize>, server: usize) -> Option<String> {
        let named = client.and_then(|c| self.held()[c].kubeconfig.as_ref()).and_then(|k| k.name());
        match path.dials {
            Dials::Endpoint => {
                named.or_else(|| Some(crate::model::talk::plain(&self.cluster.endpoint.host)))
            }
            Dials::Fixed(name) => Some(name.to_owned()),
            Dials::HostAddress => {
                let host = self.layout.instances[server].host?;
                let local = client.is_some_and(|c| {
                    self.layout.instances[c].root == self.layout.instances[server].root
                });
                match (named, local) {
                    (Some(name), true) => Some(name),
                    _ => host.address().map(|a| a.to_string()),
                }
            }
            Dials::Loopback => Some("127.0.0.1".to_owned()),
            Dials::Nothing => None,
            Dials::ServiceAddress => self.service_address().map(|a| a.to_string()),
        }
    }

    /// What the client of a path trusts: its kubeconfig's CAs, or the host's bundle.
    pub fn client_trust(
        &self,
        path: &Path,
        client: Option<usize>,
        root: &std::path::Path,
    ) -> Option<(PathBuf, Arc<Vec<CertView>>)> {
        if let Some(index) = client
            && let Some(kubeconfig) = &self.held()[index].kubeconfig
        {
            let file = kubeconfig.authority_file.clone().unwrap_or_else(|| kubeconfig.file.clone());
            return kubeconfig.authorities.present().map(|all| (file, all.clone()));
        }
        self.trusted(path.client_trusts?, root)
    }

    /// What the host with this root trusts of a CA.
    pub fn trusted(
        &self,
        authority: CertId,
        root: &std::path::Path,
    ) -> Option<(PathBuf, Arc<Vec<CertView>>)> {
        let trust = self.observed.trust.get(&(root.to_path_buf(), authority))?;
        trust.certificates.present().map(|all| (trust.file.clone(), all.clone()))
    }
}

/// The CA whose role a certificate is issued for.
pub fn role(spec: &CertSpec) -> Option<CertId> {
    spec.issuer_id()
}

/// Whether the row is a client with a kubeconfig for the apiserver on its own host, where there is one.
pub fn is_local(spec: &CertSpec) -> bool {
    use crate::model::catalogue::ApiServer;
    matches!(spec.home, Home::Kubeconfig { server: ApiServer::Local, .. })
}

/// The row of a path's server, if the catalogue has it.
pub fn server_of(path: &Path) -> Option<&'static CertSpec> {
    match path.server {
        crate::model::catalogue::Credential::Cert(id) => Some(id.spec()),
        _ => None,
    }
}
