//! Path validation, as TLS peers do it. The one module that names rustls-webpki.

use std::time::Duration;

use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName,
    SignatureVerificationAlgorithm, UnixTime, alg_id,
};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::{crypto, inspect::Certificate};
use crate::model::{san::San, timestamp::Timestamp};

/// What the leaf is used for.
#[derive(Clone, Copy, Debug)]
pub enum LeafUse<'a> {
    /// It authenticates a client.
    Client,
    /// It authenticates a server.
    Server {
        /// The name or address the server must have, unless any will do.
        name: Option<&'a San>,
    },
}

/// Why a certificate is not accepted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChainError {
    /// No CA's key verifies the signature.
    #[error("a signature does not verify with the issuer's key")]
    BadSignature,
    /// A CA certificate where a leaf must be.
    #[error("a CA certificate is used as an end entity's")]
    CaAsLeaf,
    /// A certificate has expired.
    #[error("a certificate expired at {not_after}")]
    Expired {
        /// Its notAfter.
        not_after: Timestamp,
    },
    /// A leaf where a CA must be.
    #[error("the issuer is not a CA")]
    LeafAsCa,
    /// A certificate's structure is one TLS peers refuse.
    #[error("TLS peers refuse a certificate: {0}")]
    Malformed(String),
    /// A name constraint of a CA.
    #[error("a CA's name constraints do not allow a name")]
    NameConstraint,
    /// The name cannot be one a peer looks for.
    #[error("`{0}` is no name that a TLS server can be checked for")]
    NameKind(San),
    /// A certificate is not valid yet.
    #[error("a certificate is not valid before {not_before}")]
    NotYetValid {
        /// Its notBefore.
        not_before: Timestamp,
    },
    /// Too many CAs below one another.
    #[error("a CA's path length does not allow another CA below it")]
    PathLength,
    /// No trusted CA issued it.
    #[error("it is not issued by a trusted CA")]
    UnknownIssuer,
    /// A signature or key TLS peers do not take.
    #[error("a signature is made with an algorithm that TLS peers do not take")]
    UnsupportedAlgorithm,
    /// A critical extension that must be understood and is not.
    #[error("a certificate has a critical extension that TLS peers do not know")]
    UnsupportedExtension,
    /// The leaf does not have the name.
    #[error("it is not valid for {0}")]
    WrongName(San),
    /// The extended key usage does not allow it.
    #[error("its extended key usage does not allow {0}")]
    WrongUsage(&'static str),
}

/// Verifies that `leaf` chains to one of the anchors and may be used for the purpose at that time.
///
/// CAs cannot be verified this way (TLS peers refuse them as end entities); see
/// [`Certificate::signed_by`].
pub fn verify(
    leaf: &Certificate,
    intermediates: &[&Certificate],
    anchors: &[&Certificate],
    at: Timestamp,
    purpose: LeafUse<'_>,
) -> Result<(), ChainError> {
    let map = |error| chain_error(error, purpose);
    let der = CertificateDer::from(leaf.der());
    let entity = EndEntityCert::try_from(&der).map_err(map)?;
    let intermediates: Vec<CertificateDer<'_>> =
        intermediates.iter().map(|c| CertificateDer::from(c.der())).collect();
    let trusted: Vec<CertificateDer<'_>> =
        anchors.iter().map(|c| CertificateDer::from(c.der())).collect();
    let trusted =
        trusted.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>().map_err(map)?;
    let usage = match purpose {
        LeafUse::Client => KeyUsage::client_auth(),
        LeafUse::Server { .. } => KeyUsage::server_auth(),
    };
    let seconds = u64::try_from(at.unix()).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let algorithms = algorithms();
    entity
        .verify_for_usage(&algorithms, &trusted, &intermediates, time, usage, None, None)
        .map_err(map)?;
    if let LeafUse::Server { name: Some(san) } = purpose {
        let name = server_name(san).ok_or_else(|| ChainError::NameKind(san.clone()))?;
        entity.verify_is_valid_for_subject_name(&name).map_err(map)?;
    }
    Ok(())
}

fn server_name(san: &San) -> Option<ServerName<'static>> {
    match san {
        San::Dns(name) => ServerName::try_from(name.clone()).ok(),
        San::Ip(address) => Some(ServerName::from(*address)),
        San::Email(_) | San::Other(_) | San::Uri(_) => None,
    }
}

fn chain_error(error: Error, purpose: LeafUse<'_>) -> ChainError {
    let timestamp =
        |time: UnixTime| Timestamp::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match error {
        Error::CaUsedAsEndEntity => ChainError::CaAsLeaf,
        Error::CertExpired { not_after, .. } => {
            ChainError::Expired { not_after: timestamp(not_after) }
        }
        Error::CertNotValidYet { not_before, .. } => {
            ChainError::NotYetValid { not_before: timestamp(not_before) }
        }
        Error::CertNotValidForName(_) => match purpose {
            LeafUse::Server { name: Some(san) } => ChainError::WrongName(san.clone()),
            _ => ChainError::Malformed("it has no usable name".into()),
        },
        Error::EndEntityUsedAsCa => ChainError::LeafAsCa,
        Error::InvalidSignatureForPublicKey => ChainError::BadSignature,
        Error::NameConstraintViolation => ChainError::NameConstraint,
        Error::PathLenConstraintViolated => ChainError::PathLength,
        Error::RequiredEkuNotFoundContext(_) => ChainError::WrongUsage(match purpose {
            LeafUse::Client => "serving as a client (clientAuth)",
            LeafUse::Server { .. } => "serving as a server (serverAuth)",
        }),
        Error::UnknownIssuer => ChainError::UnknownIssuer,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            ChainError::UnsupportedAlgorithm
        }
        Error::UnsupportedCriticalExtension => ChainError::UnsupportedExtension,
        other => ChainError::Malformed(other.to_string()),
    }
}

/// All that ring verifies, and P-521, which Go's TLS takes and ring does not know.
fn algorithms() -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    let mut algorithms = ALL_VERIFICATION_ALGS.to_vec();
    if cfg!(feature = "rsa-keygen") {
        algorithms.extend(P521.iter().map(|a| a as &dyn SignatureVerificationAlgorithm));
    }
    algorithms
}

#[derive(Debug)]
struct P521Algorithm {
    digest_bits: u16,
    signature: AlgorithmIdentifier,
}

static P521: [P521Algorithm; 3] = [
    P521Algorithm { digest_bits: 512, signature: alg_id::ECDSA_SHA512 },
    P521Algorithm { digest_bits: 384, signature: alg_id::ECDSA_SHA384 },
    P521Algorithm { digest_bits: 256, signature: alg_id::ECDSA_SHA256 },
];

impl SignatureVerificationAlgorithm for P521Algorithm {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        match crypto::verify_p521(self.digest_bits, public_key, message, signature) {
            true => Ok(()),
            false => Err(InvalidSignature),
        }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}
