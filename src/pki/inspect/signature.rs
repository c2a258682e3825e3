//! Signature algorithms.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use x509_parser::x509::AlgorithmIdentifier;

use crate::pki::crypto;

/// Signatures that were found right, by the digest of what is signed, the signature and the key. A change looks at the same
/// files several times, and to verify takes twenty times as long as to parse.
static RIGHT: Mutex<BTreeSet<[u8; 32]>> = Mutex::new(BTreeSet::new());

/// So many are kept, which is 5 MiB: two certificates for each of 50,000 nodes, and some.
const MOST: usize = 1 << 17;

/// Whether a signature is right: as was found before of the same octets and the same key, or as `verify` finds now.
pub fn is_right(signed: &[u8], key: &[u8], verify: impl FnOnce() -> bool) -> bool {
    let length = (signed.len() as u64).to_be_bytes();
    let print = crypto::sha256(&[&length, signed, key].concat());
    let known = || RIGHT.lock().unwrap_or_else(PoisonError::into_inner);
    if known().contains(&print) {
        return true;
    }
    let is_right = verify();
    if is_right {
        let mut known = known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(print);
    }
    is_right
}

/// The usual names of signature algorithms, as openssl prints them.
pub fn text(algorithm: &AlgorithmIdentifier<'_>) -> String {
    let dotted = algorithm.algorithm.to_id_string();
    match dotted.as_str() {
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.2.840.10045.4.1" => "ecdsa-with-SHA1",
        "1.2.840.113549.1.1.4" => "md5WithRSAEncryption",
        "1.2.840.113549.1.1.5" => "sha1WithRSAEncryption",
        "1.2.840.113549.1.1.10" => "rsassaPss",
        "1.2.840.113549.1.1.11" => "sha256WithRSAEncryption",
        "1.2.840.113549.1.1.12" => "sha384WithRSAEncryption",
        "1.2.840.113549.1.1.13" => "sha512WithRSAEncryption",
        "1.3.101.112" => "ED25519",
        "1.3.101.113" => "ED448",
        other => other,
    }
    .to_owned()
}

/// The digest of an ECDSA signature.
pub fn ecdsa_digest_bits(algorithm: &AlgorithmIdentifier<'_>) -> Option<u16> {
    match text(algorithm).as_str() {
        "ecdsa-with-SHA256" => Some(256),
        "ecdsa-with-SHA384" => Some(384),
        "ecdsa-with-SHA512" => Some(512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_right;

    #[test]
    fn what_was_found_right_is_not_verified_again_and_nothing_else_is_taken_for_it() {
        let (yes, no) = (|| true, || false);
        assert!(!is_right(b"signed, and by whom", b"key", no));
        assert!(is_right(b"signed, and by whom", b"key", yes));
        assert!(is_right(b"signed, and by whom", b"key", no));
        for (signed, key) in [
            (&b"signed, and by whom"[..], &b"another"[..]),
            (b"signed, and by whomk", b"ey"),
            (b"signed, and by who", b"mkey"),
        ] {
            assert!(!is_right(signed, key, no));
        }
    }
}
