//! Every YAML and JSON document certkit reads or writes.
//!
//! Works on octets and readers it is handed; opens no file. Whoever reads files for it stops at [`LIMIT`].

pub mod cloud_config;
mod data;
mod declaration;
mod draft;
mod field;
pub mod flat;
pub mod inventory;
mod kubeadm;
pub mod kubeconfig;
pub mod manifest;
pub mod object;
pub mod patch;
pub mod secret;
pub mod signing;
pub mod yaml;

use std::fmt;

use crate::model::shown::quoted;

pub use self::{
    declaration::{
        NodeFile, read_nodes, with_absent, with_former_endpoints, with_nodes, with_nodes_of_file,
        write,
    },
    draft::{Draft, EtcdDraft, HostDraft},
};
use self::{
    field::FieldReader,
    yaml::{Node, Position, SyntaxError},
};

/// How many octets a configuration may have: 4 MiB are some 50,000 hosts.
pub const LIMIT: u64 = 4 << 20;

/// Reads a cluster's description: certkit's own, or kubeadm's documents in one stream, told apart by
/// `apiVersion` and `kind`. `file` is what errors call it.
pub fn read(bytes: &[u8], file: &str) -> Result<Draft, DocumentError> {
    let documents = documents(bytes, file)?;
    let mut reader = FieldReader::default();
    let mut own = Vec::new();
    let mut kubeadm = Vec::new();
    let mut other = None;
    for document in &documents {
        let api_version = reader.required(document, "apiVersion").unwrap_or_default();
        let kind = reader.required(document, "kind").unwrap_or_default();
        match (api_version, kind) {
            ("", _) | (_, "") => {}
            (declaration::API_VERSION, declaration::KIND) => own.push(document),
            (version, kind) if kubeadm::VERSIONS.contains(&version) => {
                if kubeadm::KINDS.contains(&kind) {
                    kubeadm.push(document);
                }
                other.get_or_insert(document);
            }
            (version, _) => {
                let group = version.split('/').next().unwrap_or_default();
                if group == "kubeadm.k8s.io" || group == "certkit" {
                    let node = document.get("apiVersion").unwrap_or(document);
                    let is_version = version != declaration::API_VERSION;
                    let (field, node, text) = match is_version {
                        true => ("apiVersion", node, version),
                        false => ("kind", document.get("kind").unwrap_or(document), kind),
                    };
                    let why = format!("{} is not known; {KNOWN}", quoted(text));
                    reader.mistake(node, field, why);
                }
                other.get_or_insert(document);
            }
        }
    }
    let mut draft = Draft::default();
    match (&own[..], &kubeadm[..]) {
        ([], []) => {
            if let (Some(node), true) = (other, reader.is_content()) {
                reader.mistake(node, "kind", format!("nothing here describes a cluster; {KNOWN}"));
            }
        }
        ([first], []) => draft = declaration::read(&mut reader, first),
        ([], all) => draft = kubeadm::read(&mut reader, all),
        ([_, second, ..], []) => {
            reader.mistake(second, "kind", "a second Cluster; a file describes one".to_owned());
        }
        ([_, ..], [first, ..]) => {
            let why = "kubeadm's documents beside certkit's own; keep one of them".to_owned();
            reader.mistake(first, "kind", why);
        }
    }
    draft.places = reader.finish(file)?;
    Ok(draft)
}

const KNOWN: &str = "certkit reads Cluster of certkit/v1, and InitConfiguration and \
                     ClusterConfiguration of kubeadm.k8s.io/v1beta3 and v1beta4";

fn documents(bytes: &[u8], file: &str) -> Result<Vec<Node>, DocumentError> {
    let file = || file.to_owned();
    if bytes.len() as u64 > LIMIT {
        return Err(DocumentError::TooLarge { file: file() });
    }
    let text = utf8(bytes, &file())?;
    let mut documents = yaml::documents(text).map_err(|cause| DocumentError::Syntax {
        file: file(),
        place: cause.place,
        cause,
    })?;
    documents.retain(|document| !document.is_null());
    match documents.is_empty() {
        true => Err(DocumentError::Empty { file: file() }),
        false => Ok(documents),
    }
}

/// A document as text, without the mark that some editors put before it.
fn utf8<'b>(bytes: &'b [u8], file: &str) -> Result<&'b str, DocumentError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        DocumentError::NotUtf8 { file: file.to_owned(), line }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Nothing in it.
    #[error("{file} is empty")]
    Empty {
        /// The file.
        file: String,
    },
    /// It says something that cannot be.
    #[error("{}", listed(file, mistakes))]
    Invalid {
        /// The file.
        file: String,
        /// All that is wrong, in the order of the file.
        mistakes: Vec<Mistake>,
    },
    /// Not UTF-8.
    #[error("{file}:{line}: this is not UTF-8")]
    NotUtf8 {
        /// The file.
        file: String,
        /// The line.
        line: usize,
    },
    /// The stream it comes from failed.
    #[error("cannot read on")]
    Read(#[source] std::io::Error),
    /// Not YAML or JSON.
    #[error("{file}:{place}: cannot parse this")]
    Syntax {
        /// The file.
        file: String,
        /// Where.
        place: Position,
        /// What is wrong there.
        #[source]
        cause: SyntaxError,
    },
    /// More than [`LIMIT`].
    #[error("{file} is larger than {} MiB", LIMIT >> 20)]
    TooLarge {
        /// The file.
        file: String,
    },
}

impl DocumentError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Empty { .. } => Some("a `certkit.yaml` begins with `apiVersion: certkit/v1`"),
            _ => None,
        }
    }
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, where it is another one than the document's.
    pub file: Option<String>,
    /// Where, if it stands anywhere.
    pub place: Option<Position>,
    /// The field's path: `controlPlane[0].addresses[1]`.
    pub field: String,
    /// What is wrong.
    pub why: String,
}

/// How many mistakes an error lists.
const LISTED: usize = 20;

/// The mistakes, one a line: `FILE:LINE:COLUMN: FIELD: WHY`.
fn listed(file: &str, mistakes: &[Mistake]) -> String {
    let mut lines: Vec<String> =
        mistakes.iter().take(LISTED).map(|mistake| Listed(file, mistake).to_string()).collect();
    if mistakes.len() > LISTED {
        lines.push(format!("and {} more", mistakes.len() - LISTED));
    }
    lines.join("\n")
}

struct Listed<'m>(&'m str, &'m Mistake);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(document, Mistake { file, place, field, why }) = self;
        f.write_str(file.as_deref().unwrap_or(document))?;
        if let Some(place) = place {
            write!(f, ":{place}")?;
        }
        match field.is_empty() {
            true => write!(f, ": {why}"),
            false => write!(f, ": {field}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
