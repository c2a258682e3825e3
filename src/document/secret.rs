//! A host's files as a Kubernetes Secret.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{data, yaml::scalar};

/// What a Secret may hold, in octets (Kubernetes 1.36, `pkg/apis/core`, `MaxSecretSize`).
const LIMIT: usize = 1 << 20;

/// A file of a host.
#[derive(Clone, Copy, Debug)]
pub struct HostFile<'a> {
    /// Its path below the host's tree.
    pub path: &'a str,
    /// Its permission bits.
    pub mode: u32,
    /// Who owns it on the host, as `USER:GROUP`.
    pub owner: &'a str,
    /// What it holds.
    pub content: &'a [u8],
}

/// Why a host's files are no Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// A name that no key of a Secret can have.
    #[error("{0}: a key of a Secret has letters, digits, `-`, `_` and `.` only, 253 at most")]
    Name(String),
    /// Two files would have one key.
    #[error("{0} and {1} would have the same key in a Secret")]
    Twice(String, String),
    /// Too much for one.
    #[error("the files have {0} octets together; a Secret holds 1 MiB")]
    Large(usize),
}

/// The manifest of a host's Secret. Keys are paths with `-` for `/`, as kubeadm names them in its own; an annotation
/// says which path and mode belongs to each, as a Secret knows neither.
pub fn secret(host: &str, files: &[HostFile<'_>]) -> Result<Zeroizing<String>, SecretError> {
    let total: usize = files.iter().map(|file| file.content.len()).sum();
    if total > LIMIT {
        return Err(SecretError::Large(total));
    }
    let mut keys: BTreeMap<String, &HostFile<'_>> = BTreeMap::new();
    for file in files {
        let key = file.path.replace('/', "-");
        let tame = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        // Kubernetes makes files of keys: none may lead elsewhere.
        if key.len() > 253 || !key.chars().all(tame) || key.starts_with("..") || key == "." {
            return Err(SecretError::Name(file.path.to_owned()));
        }
        if let Some(other) = keys.insert(key, file) {
            return Err(SecretError::Twice(other.path.to_owned(), file.path.to_owned()));
        }
    }
    // Room for all of it: growing would leave copies that are not wiped.
    let mut text = Zeroizing::new(String::with_capacity(total / 3 * 4 + 1024 * (files.len() + 1)));
    text.push_str("apiVersion: v1\nkind: Secret\nmetadata:\n  name: ");
    text.push_str(&scalar(&format!("certkit-{host}")));
    text.push_str("\n  labels:\n    app.kubernetes.io/managed-by: certkit\n");
    if !keys.is_empty() {
        text.push_str("  annotations:\n    certkit.io/files: |\n");
    }
    for (key, file) in &keys {
        text.push_str(&format!("      {key} {:04o} {}\n", file.mode, file.path));
    }
    text.push_str("type: Opaque\n");
    if !keys.is_empty() {
        text.push_str("data:\n");
    }
    for (key, file) in &keys {
        text.push_str(&format!("  {}: \"", scalar(key)));
        text.push_str(&data::encode(file.content));
        text.push_str("\"\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &'static str, content: &'static [u8]) -> HostFile<'static> {
        HostFile { path, mode: 0o600, owner: "root:root", content }
    }

    #[test]
    fn what_a_secret_cannot_hold_is_an_error() {
        assert!(secret("w1", &[file("pki/ca.crt", b"x"), file("kubelet.conf", b"")]).is_ok());
        let twice = secret("w1", &[file("a/b-c", b""), file("a-b/c", b"")]);
        assert_eq!(twice.unwrap_err(), SecretError::Twice("a/b-c".into(), "a-b/c".into()));
        for name in ["pki/ä", "a b", "..x", "."] {
            let error = secret("w1", &[file(name, b"")]).unwrap_err();
            assert_eq!(error, SecretError::Name(name.into()));
        }
        let large: &'static [u8] = vec![0; LIMIT + 1].leak();
        assert_eq!(secret("w1", &[file("x", large)]).unwrap_err(), SecretError::Large(LIMIT + 1));
    }
}
