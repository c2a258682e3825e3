//! Why a handshake did not come about, in words for people.

use std::{error::Error, fmt, net::IpAddr};

use rustls::{CertificateError, ExtendedKeyPurpose, pki_types::UnixTime};

use crate::model::{shown::listed, timestamp::Timestamp};

/// Which side refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{by}: {reason}")]
pub struct Refusal {
    /// The side that refused the other.
    pub by: Side,
    /// Why.
    pub reason: RefusalReason,
}

impl Refusal {
    pub(super) fn new(by: Side, error: &rustls::Error) -> Self {
        Self { by, reason: reason(error) }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The end that connects.
    Client,
    /// The end that listens.
    Server,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "the client refuses the server",
            Self::Server => "the server refuses the client",
        })
    }
}

/// Why one side refuses the other: what is wrong with the other's certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// etcd's peer listener: the client does not come from where its certificate says.
    #[error("it comes from {address}, and its certificate is for {}", list(.presented))]
    AddressNotInCertificate {
        /// Where it comes from.
        address: IpAddr,
        /// The names in its certificate.
        presented: Vec<String>,
    },
    /// The CA certificate that vouches for it has expired.
    #[error("the CA certificate trusted for it expired at {not_after}")]
    AnchorExpired {
        /// When the CA certificate expired.
        not_after: Timestamp,
    },
    /// The CA certificate that vouches for it is not valid yet.
    #[error("the CA certificate trusted for it is valid from {not_before} only")]
    AnchorNotYetValid {
        /// When the CA certificate becomes valid.
        not_before: Timestamp,
    },
    /// A signature does not fit the key of the CA that has the issuer's name.
    #[error("its certificate is not signed by the key of the CA with the issuer's name")]
    BadSignature,
    /// A CA certificate is used as a leaf: webpki refuses it, Go does not.
    #[error("its certificate is a CA's")]
    CaAsLeaf,
    /// A certificate of its chain has expired.
    #[error("its certificate, or an issuer's, expired at {not_after}")]
    Expired {
        /// When it expired.
        not_after: Timestamp,
    },
    /// It showed no certificate.
    #[error("it shows no certificate")]
    NoCertificate,
    /// A certificate of its chain is not valid yet.
    #[error("its certificate, or an issuer's, is valid from {not_before} only")]
    NotYetValid {
        /// When it becomes valid.
        not_before: Timestamp,
    },
    /// Anything else, in rustls' words.
    #[error("{0}")]
    Other(String),
    /// etcd's rule for peers does not allow it.
    #[error("only {} is allowed, and its certificate is for {}", list(.allowed), list(.presented))]
    PeerNotAllowed {
        /// What the rule allows.
        allowed: Vec<String>,
        /// What the certificate says.
        presented: Vec<String>,
    },
    /// No trusted CA vouches for it.
    #[error("its certificate is issued by no CA trusted for it")]
    UnknownIssuer,
    /// A signature that ring cannot verify, such as one by a P-521 key.
    #[error("a signature on its certificate is of a kind that cannot be checked here")]
    UnsupportedAlgorithm,
    /// Its certificate is for other names.
    #[error("it was asked for as {expected}, and its certificate is for {}", list(.presented))]
    WrongName {
        /// The name or address that was asked for.
        expected: String,
        /// The names in its certificate.
        presented: Vec<String>,
    },
    /// Its certificate is for another use.
    #[error("its certificate is for {}, not for {required}", list(.presented))]
    WrongUsage {
        /// The extended key usage that is needed.
        required: String,
        /// The extended key usages that are there.
        presented: Vec<String>,
    },
}

/// Why a side could not be prepared for a handshake.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A trusted CA certificate cannot be read.
    #[error("certificate {} of the trusted CA certificates cannot be read", .index + 1)]
    BadAnchor {
        /// Its place, from 0.
        index: usize,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The leaf certificate cannot be read.
    #[error("the certificate cannot be read")]
    BadCertificate {
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// rustls refuses the configuration.
    #[error("this cannot be set up for a TLS handshake")]
    Configuration {
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The name a client asks for is none.
    #[error("`{name}` is neither an address nor a DNS name")]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// The chain is empty.
    #[error("there is no certificate to show")]
    NoCertificate,
    /// Nothing is trusted.
    #[error("there is no CA certificate to trust")]
    NoTrust,
    /// The private key is in no form that is known.
    #[error("the private key is neither PKCS#8 nor SEC 1 nor PKCS#1")]
    UnknownKey,
    /// The private key is of a kind that ring cannot sign with.
    #[error("the private key is of a kind that cannot sign here")]
    UnsupportedKey {
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl SetupError {
    /// What to do next, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::KeyMismatch => Some("issue the certificate again: certkit rotate"),
            Self::UnsupportedKey { .. } => {
                Some("RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519 keys are supported")
            }
            _ => None,
        }
    }
}

fn reason(error: &rustls::Error) -> RefusalReason {
    use rustls::Error as E;
    match error {
        E::NoCertificatesPresented => RefusalReason::NoCertificate,
        E::InvalidCertificate(error) => certificate_reason(error),
        other => RefusalReason::Other(other.to_string()),
    }
}

fn certificate_reason(error: &CertificateError) -> RefusalReason {
    use CertificateError as E;
    match error {
        E::BadSignature => RefusalReason::BadSignature,
        E::ExpiredContext { not_after, .. } => {
            RefusalReason::Expired { not_after: timestamp(not_after) }
        }
        E::InvalidPurposeContext { required, presented } => RefusalReason::WrongUsage {
            required: purpose(required),
            presented: presented.iter().map(purpose).collect(),
        },
        E::NotValidForNameContext { expected, presented } => RefusalReason::WrongName {
            expected: expected.to_str().into_owned(),
            presented: presented.iter().map(|name| general_name(name)).collect(),
        },
        E::NotValidYetContext { not_before, .. } => {
            RefusalReason::NotYetValid { not_before: timestamp(not_before) }
        }
        E::Other(other) => match other.0.downcast_ref::<RefusalReason>() {
            Some(reason) => reason.clone(),
            // webpki's own error, known by its name only.
            None if other.0.to_string() == "CaUsedAsEndEntity" => RefusalReason::CaAsLeaf,
            None => RefusalReason::Other(other.0.to_string()),
        },
        E::UnknownIssuer => RefusalReason::UnknownIssuer,
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            RefusalReason::UnsupportedAlgorithm
        }
        other => RefusalReason::Other(other.to_string()),
    }
}

fn timestamp(time: &UnixTime) -> Timestamp {
    Timestamp::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

fn purpose(purpose: &ExtendedKeyPurpose) -> String {
    match purpose {
        ExtendedKeyPurpose::ClientAuth => "client authentication".into(),
        ExtendedKeyPurpose::ServerAuth => "server authentication".into(),
        ExtendedKeyPurpose::Other(oid) => {
            oid.iter().map(usize::to_string).collect::<Vec<_>>().join(".")
        }
    }
}

/// A name as openssl writes it, from webpki's form: `DnsName("a")` is `DNS:a`.
pub(super) fn general_name(text: &str) -> String {
    let inner = |kind: &str| text.strip_prefix(kind)?.strip_suffix(')');
    if let Some(name) = inner("DnsName(") {
        format!("DNS:{}", listed(name.trim_matches('"')))
    } else if let Some(ip) = inner("IpAddress(") {
        format!("IP:{ip}")
    } else if let Some(uri) = inner("UniformResourceIdentifier(") {
        format!("URI:{}", listed(uri.trim_matches('"')))
    } else {
        listed(text)
    }
}

/// Whether a name made by [`general_name`] is a DNS name or an address.
pub(super) fn is_host_name(name: &str) -> bool {
    name.starts_with("DNS:") || name.starts_with("IP:")
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no name at all".into(),
        names => names.join(", "),
    }
}
