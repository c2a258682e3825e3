//! certkit: cluster PKI bootstrap and certificate rotation for self-run Kubernetes.
//!
//! The layers, arrows pointing down only; `docs/architecture.md` has the map and the invariants:
//!
//! ```text
//! cli  ->  ops (observe, apply)  ->  pki (keys, issue, inspect, pem)   store   tls   cluster   render
//!                                               \________________ model
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod cli;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod document;
pub mod model;
pub mod ops;
pub mod parallel;
pub mod pki;
pub mod render;
pub mod store;
pub mod tls;
