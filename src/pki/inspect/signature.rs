//! Signature algorithms.

use x509_parser::x509::AlgorithmIdentifier;

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
