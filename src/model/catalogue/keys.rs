//! Key pairs without certificates.

use super::{KeySpec, Scope};

/// All of them.
pub static KEYS: &[KeySpec] = &[KeySpec {
    id: "sa",
    about: "signs and verifies service-account tokens",
    private: "pki/sa.key",
    public: "pki/sa.pub",
    scope: Scope::ControlPlane,
    source: "Kubernetes 1.36, pkg/kubeapiserver/options/authentication.go",
}];
