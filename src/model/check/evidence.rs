//! What checks judge: everything found below a directory, as plain data. What needs cryptography, such as
//! whose key made a signature, was found out when it was gathered.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use crate::model::{
    catalogue::{CertSpec, Dials, Home, Path, certificate},
    cluster::Cluster,
    inventory::{CertView, KeyView, Piece},
    layout::Layout,
    san::San,
    timestamp::Timestamp,
    usage::KeyUsages,
};

/// Everything found.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The cluster: declared, or assumed from what is there.
    pub cluster: &'a Cluster,
    /// Whether the cluster is declared. If not, what is not there is not missing, and names beyond those
    /// that are dialled are somebody's choice.
    pub declared: bool,
    /// The time as of which is judged.
    pub at: Timestamp,
    /// What the cluster consists of.
    pub layout: Layout<'a>,
    /// What was found of each, in the same order.
    pub held: Vec<Held>,
    /// What is trusted, by the folder of the host and the CA's id.
    pub trust: BTreeMap<(PathBuf, &'static str), Trust>,
    /// The key pairs without certificate.
    pub key_pairs: Vec<HeldKeyPair>,
    /// Copies that are not like their originals.
    pub stale: Vec<StaleCopy>,
    /// Every file and folder of the tree.
    pub files: Vec<FileFacts>,
    /// The user whose files these should be: the directory's owner.
    pub owner: u32,
    /// The address of the service `kubernetes`, where nothing declares it: read off the certificate.
    pub service_address: Option<IpAddr>,
}

/// What was found of one instance.
#[derive(Clone, Debug)]
pub struct Held {
    /// Where its certificate is.
    pub cert_file: PathBuf,
    /// Where its key is.
    pub key_file: PathBuf,
    /// Its certificate, then whatever else the file holds; of a CA the signer first.
    pub certificates: Piece<Arc<Vec<CertFacts>>>,
    /// Its key.
    pub key: FoundKey,
    /// Its kubeconfig, for those that have one.
    pub kubeconfig: Option<KubeconfigFacts>,
    /// Who signed its certificate.
    pub signer: Option<Signer>,
}

impl Held {
    /// Its own certificate.
    pub fn certificate(&self) -> Option<&CertFacts> {
        self.certificates.present().and_then(|all| all.first())
    }

    /// Whether nothing of it is there at all.
    pub fn is_absent(&self) -> bool {
        self.certificates.is_missing()
            && matches!(self.key, FoundKey::Missing)
            && self.kubeconfig.as_ref().is_none_or(|k| k.state.is_missing())
    }
}

/// A private key as found.
#[derive(Clone, Debug, PartialEq)]
pub enum FoundKey {
    /// It does not exist.
    Missing,
    /// It is read and usable.
    Present(KeyView),
    /// A password keeps it: how.
    Encrypted(String),
    /// It is a key, and too weak to be used: why.
    Weak(String),
    /// It is a key of a kind certkit cannot use: which.
    Unsupported(String),
    /// It is nothing certkit can use: why.
    Bad(String),
    /// It may not be read: why.
    Unreadable(String),
}

/// A certificate and what rules look at beyond what is issued.
#[derive(Clone, Debug)]
pub struct CertFacts {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// What it says.
    pub view: CertView,
    /// The last common name.
    pub common_name: Option<String>,
    /// The organizations.
    pub organizations: Vec<String>,
    /// The signature algorithm's name.
    pub signature: String,
    /// Key usage; without the extension every use is allowed.
    pub key_usages: Option<KeyUsages>,
    /// What RFC 5280 forbids and was read all the same.
    pub faults: Vec<String>,
    /// Subject and authority key identifier.
    pub identifiers: (Option<Vec<u8>>, Option<Vec<u8>>),
}

impl CertFacts {
    /// Whether `ca` may have signed this, by names and identifiers; the signature is not looked at.
    pub fn may_be_signed_by(&self, ca: &Self) -> bool {
        let identifiers = match (&self.identifiers.1, &ca.identifiers.0) {
            (Some(authority), Some(subject)) => authority == subject,
            _ => true,
        };
        self.view.issuer == ca.view.profile.subject && identifiers
    }
}

/// Who signed a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The CA that should have.
    Expected,
    /// The CA of another instance, by index.
    Other(usize),
    /// Its own key, though it is no root here.
    Itself,
    /// Another CA of the same name.
    Namesake,
    /// The right key, but the issuer's name is not the CA's, byte for byte.
    NameDiffers,
    /// None that is here.
    Unknown,
    /// Nobody can tell: the CA that should have is not here.
    NoCa,
}

/// A kubeconfig as found.
#[derive(Clone, Debug)]
pub struct KubeconfigFacts {
    /// Where it is.
    pub file: PathBuf,
    /// Whether it is there and readable as one.
    pub state: Piece<()>,
    /// What it trusts.
    pub authorities: Piece<Arc<Vec<CertFacts>>>,
    /// The file that comes from, if it is not embedded.
    pub authority_file: Option<PathBuf>,
    /// The server's URL.
    pub server: Option<String>,
    /// The name expected instead of the URL's host.
    pub tls_server_name: Option<String>,
    /// Whether the server's certificate is not verified at all.
    pub insecure: bool,
    /// Whether what it trusts vouches for the apiserver's certificate; none if either is not here.
    pub verifies_server: Option<bool>,
    /// A file it names that is not on this machine, such as the kubelet's own.
    pub elsewhere: Option<String>,
}

impl KubeconfigFacts {
    /// The name by which it knows its server.
    pub fn name(&self) -> Option<String> {
        self.tls_server_name.clone().or_else(|| host_of(self.server.as_deref()?))
    }
}

/// The host of a URL, without brackets.
pub fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then(|| host.to_owned())
}

/// The port that a URL says, if it says one.
pub fn port_of(url: &str) -> Option<u16> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    // What follows the last colon of a bracketed address is no port.
    authority.rsplit_once(':')?.1.parse().ok()
}

/// What one host trusts of one CA.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The file.
    pub file: PathBuf,
    /// Its certificates.
    pub certificates: Piece<Arc<Vec<CertFacts>>>,
    /// Whether the file is the bundle, not the signing certificate in its place.
    pub is_bundle: bool,
}

/// A key pair without certificate.
#[derive(Clone, Debug)]
pub struct HeldKeyPair {
    /// Its id.
    pub id: &'static str,
    /// The private key's file.
    pub private_file: PathBuf,
    /// The public keys' file.
    pub public_file: PathBuf,
    /// The private key.
    pub private: FoundKey,
    /// The public keys.
    pub public: Piece<Vec<Vec<u8>>>,
}

/// A copy that is not like its original.
#[derive(Clone, Debug)]
pub struct StaleCopy {
    /// The copy.
    pub copy: PathBuf,
    /// The original.
    pub original: PathBuf,
    /// Whether the copy is missing altogether.
    pub missing: bool,
}

/// What the file system says of a file.
#[derive(Clone, Debug)]
pub struct FileFacts {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
    /// Whether it holds a private key.
    pub is_secret: bool,
    /// Whether something of the cluster names it.
    pub is_used: bool,
    /// The certificates it holds, if nothing names it.
    pub certificates: Vec<CertFacts>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
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
    /// The index of the instance with this id on the host with this root; else of the cluster's one.
    pub fn find(&self, id: &'static str, root: &std::path::Path) -> Option<usize> {
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
        match self.declared {
            true => self.cluster.service_subnets.first().map(|s| s.first_host()),
            false => self.service_address,
        }
    }

    /// The name by which the client at this instance, or one without certificate, knows the server.
    pub fn dialled(&self, path: &Path, client: Option<usize>, server: usize) -> Option<String> {
        let named = client.and_then(|c| self.held[c].kubeconfig.as_ref()).and_then(|k| k.name());
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
    ) -> Option<(PathBuf, Arc<Vec<CertFacts>>)> {
        if let Some(index) = client
            && let Some(kubeconfig) = &self.held[index].kubeconfig
        {
            let file = kubeconfig.authority_file.clone().unwrap_or_else(|| kubeconfig.file.clone());
            return kubeconfig.authorities.present().map(|all| (file, all.clone()));
        }
        self.trusted(path.client_trusts?, root)
    }

    /// What the host with this root trusts of a CA.
    pub fn trusted(
        &self,
        authority: &'static str,
        root: &std::path::Path,
    ) -> Option<(PathBuf, Arc<Vec<CertFacts>>)> {
        let trust = self.trust.get(&(root.to_path_buf(), authority))?;
        trust.certificates.present().map(|all| (trust.file.clone(), all.clone()))
    }
}

/// The CA whose role a certificate is issued for.
pub fn role(spec: &CertSpec) -> Option<&'static str> {
    spec.issuer_id()
}

/// Whether the row is a client with a kubeconfig for the apiserver on its own host, where there is one.
pub fn is_local(spec: &CertSpec) -> bool {
    use crate::model::catalogue::ApiServer;
    matches!(spec.home, Home::Kubeconfig { server: ApiServer::Local, .. })
}

/// Whether a name, as clients look for it, is among the subject alternative names (RFC 6125: a wildcard
/// stands for one label).
pub fn has_name(sans: &[San], name: &str) -> bool {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return sans.contains(&San::Ip(ip));
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    sans.iter().any(|san| match san {
        San::Dns(pattern) => {
            let pattern = pattern.to_ascii_lowercase();
            match pattern.strip_prefix("*.") {
                Some(rest) => name.split_once('.').is_some_and(|(_, tail)| tail == rest),
                None => pattern == name,
            }
        }
        _ => false,
    })
}

/// The row of a path's server, if the catalogue has it.
pub fn server_of(path: &Path) -> Option<&'static CertSpec> {
    match path.server {
        crate::model::catalogue::Credential::Cert(id) => certificate(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found_in_every_form() {
        for (url, host) in [
            ("https://10.0.0.11:6443", Some("10.0.0.11")),
            ("https://[2001:db8::1]:6443/", Some("2001:db8::1")),
            ("https://api.example.com/base?x", Some("api.example.com")),
            ("https://user@api:6443", Some("api")),
            ("https://", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn a_port_is_one_that_is_said() {
        for (url, port) in [
            ("https://10.0.0.11:6443", Some(6443)),
            ("https://[2001:db8::1]:6443/", Some(6443)),
            ("https://api.example.com:443/base?x", Some(443)),
            ("https://api.example.com", None),
            ("https://[2001:db8::1]", None),
        ] {
            assert_eq!(port_of(url), port, "{url}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let sans = [San::Dns("*.example.com".into()), San::Ip([10, 0, 0, 1].into())];
        assert!(has_name(&sans, "a.example.com") && has_name(&sans, "10.0.0.1"));
        assert!(!has_name(&sans, "a.b.example.com") && !has_name(&sans, "example.com"));
    }
}
