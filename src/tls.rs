//! TLS as a cluster's components speak it. The one module that names rustls.
//!
//! [`probe`] asks a listener on the network which certificate it really serves; it trusts nobody and
//! judges nothing. [`handshake`] lets a server and a client of the cluster shake hands in memory, at
//! any point in time, and says which side refused and why; it touches no network and no clock. [`ask`] asks a server of
//! the cluster whether it is well.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

pub mod ask;
pub mod handshake;
pub mod probe;

/// ring's algorithms, named explicitly: a process-wide default could be another crate's choice.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider())).clone()
}
