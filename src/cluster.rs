//! A cluster's own API: requests for certificates read from it, judged, and answered. In builds with the feature `cluster`
//! alone, and the one module that names kube, Kubernetes' types and tokio.
//!
//! What is asked is read by `pki`, what becomes of it is `model::request`'s to say. This room carries both over the
//! network, and keeps at it: [`controller`] for as long as it runs, [`desk`] once for a person.

mod connection;
pub mod controller;
pub mod desk;
mod docket;
mod election;
mod metrics;
mod object;
mod serve;
pub mod signing;

use std::{error::Error as StdError, path::PathBuf};

pub use connection::Access;

/// Why the cluster could not be spoken with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody said how to reach it.
    #[error("cannot tell how to reach the cluster")]
    Access {
        /// Why not.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A kubeconfig that cannot be used.
    #[error("cannot use {}", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A question that was not answered, or refused.
    #[error("cannot {what}")]
    Api {
        /// What was to be done.
        what: String,
        /// Why not.
        source: Box<dyn StdError + Send + Sync>,
        /// HTTP's status, if there was an answer.
        status: Option<u16>,
    },
    /// It took too long.
    #[error("cannot {what}: no answer within {seconds} s")]
    Slow {
        /// What was to be done.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A request that is decided already.
    #[error("{name} is {state} already")]
    Decided {
        /// Its name.
        name: String,
        /// What became of it.
        state: &'static str,
    },
    /// The listener for metrics and health.
    #[error("cannot serve metrics and health at {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The machinery that everything here runs on.
    #[error("cannot begin")]
    Runtime {
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Access { .. } => Some("name a kubeconfig: --kubeconfig FILE".into()),
            Self::Kubeconfig { .. } => Some("certkit kubeconfig USER writes one".into()),
            Self::Api { status: Some(401), .. } => {
                Some("the credential is not accepted: certkit check-expiration FILE".into())
            }
            Self::Api { status: Some(403), .. } => {
                Some("the user needs the rights of `certkit template controller`".into())
            }
            Self::Api { status: Some(404), .. } => {
                Some("certkit csr list shows what there is".into())
            }
            Self::Decided { .. } => {
                Some("a decision is for good; let the kubelet ask again".into())
            }
            Self::Listen { .. } => {
                Some("see --listen, --tls-cert-file, --tls-private-key-file".into())
            }
            Self::Api { .. } | Self::Slow { .. } | Self::Runtime { .. } => None,
        }
    }
}
