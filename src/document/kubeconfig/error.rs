//! What can be wrong with a kubeconfig.

use crate::document::yaml::{Position, SyntaxError};

/// Why a kubeconfig cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeconfigError {
    /// Base64 that is none.
    #[error("{place}: {field} is not base64")]
    Base64 {
        /// Where.
        place: Position,
        /// Which field of which entry.
        field: String,
    },
    /// A value of the wrong kind.
    #[error("{place}: {field} is {found}, not {wanted}")]
    Kind {
        /// Where.
        place: Position,
        /// Which field.
        field: String,
        /// What stands there.
        found: &'static str,
        /// What should.
        wanted: &'static str,
    },
    /// A field that must be there and is not.
    #[error("the kubeconfig has no {field}")]
    Missing {
        /// Which field of which entry.
        field: String,
    },
    /// Not a kubeconfig at all.
    #[error("this is no kubeconfig: {why}")]
    NoKubeconfig {
        /// What it is instead.
        why: String,
    },
    /// A path that is none.
    #[error("{place}: {field} is no file's name")]
    NoPath {
        /// Where.
        place: Position,
        /// Which field of which entry.
        field: String,
    },
    /// Not UTF-8.
    #[error("the kubeconfig is not UTF-8, from octet {offset} on")]
    NotUtf8 {
        /// How many octets are.
        offset: usize,
    },
    /// A value written so that it cannot be changed alone.
    #[error("{place}: {field} cannot be changed in place: {why}")]
    Shape {
        /// Where.
        place: Position,
        /// Which field.
        field: String,
        /// Why not.
        why: &'static str,
    },
    /// Not YAML.
    #[error("the kubeconfig cannot be parsed")]
    Syntax(#[source] SyntaxError),
    /// Two entries of the same name: which one counts is up to the reader.
    #[error("{place}: {field} stands here a second time")]
    Twice {
        /// Where the second stands.
        place: Position,
        /// What.
        field: String,
    },
    /// The changed text would not have read back as it should.
    #[error("changing the kubeconfig in place would have changed something else")]
    Unfaithful,
}

impl KubeconfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Shape { .. } | Self::Unfaithful | Self::Syntax(_) => {
                Some("`kubectl config view --raw --kubeconfig FILE` rewrites it in the usual form")
            }
            _ => None,
        }
    }
}
