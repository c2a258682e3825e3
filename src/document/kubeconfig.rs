//! Kubeconfigs: written as client-go writes them, read whole, and changed in place.
//!
//! Never evaluates one: `exec` and token credentials are named and not followed.

mod edit;
mod error;

use std::fmt;

use zeroize::Zeroizing;

pub use self::{
    edit::{Edit, edit},
    error::KubeconfigError,
};
use super::{
    data,
    yaml::{self, Node, NodeValue, scalar},
};
use crate::model::shown::{is_path, quoted};

/// What certkit writes into a kubeconfig: one cluster, one user, one context.
#[derive(Clone, Debug, PartialEq)]
pub struct Kubeconfig {
    /// The cluster's name.
    pub cluster: String,
    /// The apiserver's URL.
    pub server: String,
    /// The user's name.
    pub user: String,
    /// What the apiserver's certificate is verified by.
    pub authority: Authority,
    /// Who the user is.
    pub credential: ClientCredential,
}

/// The CA certificates a client trusts.
#[derive(Clone, Debug, PartialEq)]
pub enum Authority {
    /// As PEM, in the file itself.
    Data(Vec<u8>),
    /// In another file.
    File(String),
}

/// A client's certificate and key.
#[derive(Clone, PartialEq)]
pub enum ClientCredential {
    /// As PEM, in the file itself.
    Data {
        /// The certificate.
        cert: Vec<u8>,
        /// Its key.
        key: Zeroizing<Vec<u8>>,
    },
    /// In other files, which client-go reads again when they change.
    Files {
        /// The certificate's file.
        cert: String,
        /// The key's file.
        key: String,
    },
}

impl fmt::Debug for ClientCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { cert, .. } => f
                .debug_struct("Data")
                .field("cert", &format_args!("{} octets", cert.len()))
                .finish_non_exhaustive(),
            Self::Files { cert, key } => {
                f.debug_struct("Files").field("cert", cert).field("key", key).finish()
            }
        }
    }
}

/// The text of a kubeconfig, key for key as client-go's `clientcmd.Write` orders it.
pub fn render(config: &Kubeconfig) -> Zeroizing<String> {
    let (cluster, user) = (scalar(&config.cluster), scalar(&config.user));
    let context = scalar(&format!("{}@{}", config.user, config.cluster));
    let server = scalar(&config.server);
    let authority = match &config.authority {
        Authority::Data(pem) => {
            format!("certificate-authority-data: {}", data::encode(pem).as_str())
        }
        Authority::File(path) => format!("certificate-authority: {}", scalar(path)),
    };
    let (cert, key) = match &config.credential {
        ClientCredential::Data { cert, key } => (
            Zeroizing::new(format!("client-certificate-data: {}", data::encode(cert).as_str())),
            Zeroizing::new(format!("client-key-data: {}", data::encode(key).as_str())),
        ),
        ClientCredential::Files { cert, key } => (
            Zeroizing::new(format!("client-certificate: {}", scalar(cert))),
            Zeroizing::new(format!("client-key: {}", scalar(key))),
        ),
    };
    Zeroizing::new(format!(
        "apiVersion: v1\n\
         clusters:\n\
         - cluster:\n    {authority}\n    server: {server}\n  name: {cluster}\n\
         contexts:\n\
         - context:\n    cluster: {cluster}\n    user: {user}\n  name: {context}\n\
         current-context: {context}\n\
         kind: Config\n\
         users:\n\
         - name: {user}\n  user:\n    {}\n    {}\n",
        cert.as_str(),
        key.as_str(),
    ))
}

/// A kubeconfig as found, all of its clusters, users and contexts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The clusters.
    pub clusters: Vec<ClusterView>,
    /// The users.
    pub users: Vec<UserView>,
    /// The contexts.
    pub contexts: Vec<ContextView>,
    /// The name of the context in use.
    pub current_context: Option<String>,
}

/// A cluster of a kubeconfig.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    /// Its name.
    pub name: String,
    /// The apiserver's URL.
    pub server: Option<String>,
    /// What its certificate is verified by.
    pub ca: Option<Material>,
    /// Whether its certificate is not verified at all.
    pub insecure_skip_verify: bool,
    /// The name expected in its certificate instead of the URL's host.
    pub tls_server_name: Option<String>,
}

/// A user of a kubeconfig.
#[derive(Clone, Debug, PartialEq)]
pub struct UserView {
    /// Its name.
    pub name: String,
    /// Its client certificate.
    pub cert: Option<Material>,
    /// The certificate's key.
    pub key: Option<Material>,
    /// Other ways it proves who it is, by their fields' names: `token`, `exec`, ...
    pub other: Vec<&'static str>,
}

/// A context of a kubeconfig.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextView {
    /// Its name.
    pub name: String,
    /// The name of its cluster.
    pub cluster: Option<String>,
    /// The name of its user.
    pub user: Option<String>,
}

/// Certificates or a key, in a kubeconfig or beside it. Where both are given, the data counts, as in
/// client-go.
#[derive(Clone, PartialEq)]
pub enum Material {
    /// In the file itself.
    Data(Zeroizing<Vec<u8>>),
    /// In another file; a relative path is relative to the kubeconfig's folder.
    File(String),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(octets) => write!(f, "Data({} octets)", octets.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl View {
    /// The context in use.
    pub fn current(&self) -> Option<&ContextView> {
        let name = self.current_context.as_ref()?;
        self.contexts.iter().find(|context| &context.name == name)
    }

    /// The user with this name, or the one in use.
    pub fn user(&self, name: Option<&str>) -> Option<&UserView> {
        let name = name.or_else(|| self.current()?.user.as_deref())?;
        self.users.iter().find(|user| user.name == name)
    }

    /// The cluster with this name, or the one in use.
    pub fn cluster(&self, name: Option<&str>) -> Option<&ClusterView> {
        let name = name.or_else(|| self.current()?.cluster.as_deref())?;
        self.clusters.iter().find(|cluster| cluster.name == name)
    }
}

/// Reads a kubeconfig. Unknown fields are passed over.
pub fn parse(bytes: &[u8]) -> Result<View, KubeconfigError> {
    let (_, text) = text(bytes)?;
    view(&root(text)?)
}

/// The text of a file and how many octets of byte order mark stand before it.
fn text(bytes: &[u8]) -> Result<(usize, &str), KubeconfigError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| KubeconfigError::NotUtf8 { offset: error.valid_up_to() })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => (text.len() - rest.len(), rest),
        None => (0, text),
    })
}

/// The one document of a kubeconfig.
fn root(text: &str) -> Result<Node, KubeconfigError> {
    let mut documents = yaml::documents(text).map_err(KubeconfigError::Syntax)?;
    documents.retain(|document| !document.is_null());
    let no = |why: &str| KubeconfigError::NoKubeconfig { why: why.to_owned() };
    match documents.len() {
        0 => return Err(no("it is empty")),
        1 => {}
        _ => return Err(no("it holds several documents")),
    }
    let document = documents.remove(0);
    if document.map().is_none() {
        return Err(no(&format!("it is {}", document.kind())));
    }
    let is = |key: &str, wanted: &str| document.get(key).is_none_or(|n| n.text() == Some(wanted));
    if !is("kind", "Config") || !is("apiVersion", "v1") {
        return Err(no("apiVersion and kind are not `v1` and `Config`"));
    }
    // client-go takes a file without kind; a mapping with nothing of a kubeconfig in it is none.
    if ["kind", "clusters", "users", "contexts"].iter().all(|key| document.get(key).is_none()) {
        return Err(no("it has neither clusters nor users nor contexts"));
    }
    Ok(document)
}

fn view(document: &Node) -> Result<View, KubeconfigError> {
    let mut view =
        View { current_context: string(document, "current-context")?, ..View::default() };
    for (name, cluster) in entries(document, "clusters", "cluster")? {
        let of = format!("cluster {}", quoted(&name));
        view.clusters.push(ClusterView {
            server: string(&cluster, "server")?,
            ca: material(&cluster, "certificate-authority", &of)?,
            insecure_skip_verify: string(&cluster, "insecure-skip-tls-verify")?
                .is_some_and(|text| text.eq_ignore_ascii_case("true")),
            tls_server_name: string(&cluster, "tls-server-name")?,
            name,
        });
    }
    for (name, user) in entries(document, "users", "user")? {
        const OTHER: [&str; 6] =
            ["auth-provider", "exec", "password", "token", "tokenFile", "username"];
        let of = format!("user {}", quoted(&name));
        view.users.push(UserView {
            cert: material(&user, "client-certificate", &of)?,
            key: material(&user, "client-key", &of)?,
            other: OTHER.into_iter().filter(|field| user.get(field).is_some()).collect(),
            name,
        });
    }
    for (name, context) in entries(document, "contexts", "context")? {
        view.contexts.push(ContextView {
            cluster: string(&context, "cluster")?,
            user: string(&context, "user")?,
            name,
        });
    }
    Ok(view)
}

/// The named entries of one of the three lists: `- name: NAME` with the rest under `inner`. An entry is
/// shared if anything it stands in is.
fn entries(
    document: &Node,
    list: &str,
    inner: &str,
) -> Result<Vec<(String, Node)>, KubeconfigError> {
    let Some(node) = document.get(list) else { return Ok(Vec::new()) };
    let items = node.list().ok_or_else(|| kind(node, list, "a list"))?;
    let list_is_shared = node.shared;
    let mut found: Vec<(String, Node)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let field = format!("{list}[{index}]");
        if item.map().is_none() {
            return Err(kind(item, &field, "a mapping"));
        }
        // The cluster of kubeadm's cluster-info is called "".
        let empty = item.get("name").and_then(Node::text).filter(|name| name.is_empty());
        let name = string(item, "name")?
            .or_else(|| empty.map(str::to_owned))
            .ok_or_else(|| KubeconfigError::Missing { field: format!("{field}.name") })?;
        if found.iter().any(|(other, _)| *other == name) {
            let field = format!("{inner} {}", quoted(&name));
            return Err(KubeconfigError::Twice { place: item.place, field });
        }
        match item.get(inner) {
            // `user:` with nothing after it.
            None => found.push((name, Node::at(item.place, NodeValue::Map(Vec::new())))),
            Some(node) if node.map().is_some() => {
                let shared = document.shared || list_is_shared || item.shared || node.shared;
                found.push((name, Node { shared, ..node.clone() }));
            }
            Some(node) => return Err(kind(node, &format!("{field}.{inner}"), "a mapping")),
        }
    }
    Ok(found)
}

fn string(node: &Node, field: &str) -> Result<Option<String>, KubeconfigError> {
    match node.get(field) {
        None => Ok(None),
        Some(value) => match value.text() {
            Some("") => Ok(None),
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(kind(value, field, "a text")),
        },
    }
}

/// `FIELD-data`, else `FIELD`.
fn material(node: &Node, field: &str, of: &str) -> Result<Option<Material>, KubeconfigError> {
    let in_file = format!("{field}-data");
    if let Some(value) = node.get(&in_file) {
        let field = format!("{in_file} of {of}");
        let text = value.text().ok_or_else(|| kind(value, &field, "a text"))?;
        let octets =
            data::decode(text).ok_or(KubeconfigError::Base64 { place: value.place, field })?;
        if !octets.is_empty() {
            return Ok(Some(Material::Data(octets)));
        }
    }
    match (string(node, field)?, node.get(field)) {
        (Some(path), Some(value)) if !is_path(&path) => {
            let field = format!("{field} of {of}");
            Err(KubeconfigError::NoPath { place: value.place, field })
        }
        (path, _) => Ok(path.map(Material::File)),
    }
}

fn kind(node: &Node, field: &str, wanted: &'static str) -> KubeconfigError {
    KubeconfigError::Kind { place: node.place, field: field.to_owned(), found: node.kind(), wanted }
}

#[cfg(test)]
mod tests;
