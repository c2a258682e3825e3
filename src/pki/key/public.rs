//! Public keys, kept as the SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) they are.

use std::fmt;

use pkcs1::{
    RsaPublicKeyRef,
    der::{Decode, asn1::UintRef},
};

use crate::{
    model::{
        algorithm::KeyAlgorithm,
        der::{self, OID, SEQUENCE},
    },
    pki::{
        crypto::{self, Curve},
        der::{BIT_STRING, DerReader, Malformed},
        key::KeyError,
        oid::dotted,
        pem,
    },
};

/// id-ecPublicKey, 1.2.840.10045.2.1.
pub const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// id-Ed25519, 1.3.101.112.
pub const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// rsaEncryption, 1.2.840.113549.1.1.1.
pub const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// The AlgorithmIdentifier of Ed25519.
pub const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
/// The AlgorithmIdentifier of RSA, with its NULL parameters.
pub const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A public key. Two are equal if their bytes are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    der: Vec<u8>,
}

impl PublicKey {
    /// Takes a SubjectPublicKeyInfo; any algorithm will do.
    pub fn from_der(der: Vec<u8>) -> Result<Self, KeyError> {
        parts(&der).map_err(|_| KeyError::Malformed)?;
        Ok(Self { der })
    }

    /// The SubjectPublicKeyInfo.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> [u8; 32] {
        crypto::sha256(&self.der)
    }

    /// Writes it as PKIX, as kubeadm writes `sa.pub`.
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.der)
    }

    /// The algorithm, if it is one the model knows.
    pub fn algorithm(&self) -> Option<KeyAlgorithm> {
        if let Some((curve, _)) = self.ec_point() {
            return Some(match curve {
                Curve::P256 => KeyAlgorithm::EcdsaP256,
                Curve::P384 => KeyAlgorithm::EcdsaP384,
                Curve::P521 => KeyAlgorithm::EcdsaP521,
            });
        }
        let Parts { oid, bits, .. } = parts(&self.der).ok()?;
        match oid {
            OID_ED25519 => Some(KeyAlgorithm::Ed25519),
            OID_RSA => rsa_bits(bits).map(KeyAlgorithm::Rsa),
            _ => None,
        }
    }

    /// A text for the algorithm: the model's name where it has one.
    pub fn algorithm_text(&self) -> String {
        match (self.algorithm(), parts(&self.der)) {
            (Some(algorithm), _) => algorithm.to_string(),
            (None, Ok(parts)) => match DerReader::only(parts.parameters, OID) {
                Ok(curve) if parts.oid == OID_EC => algorithm_text(curve),
                _ => algorithm_text(parts.oid),
            },
            (None, Err(_)) => "unknown".into(),
        }
    }

    /// Whether it is an RSA key whose public exponent is below 65537, which OpenSSL and ring refuse at their default
    /// levels, or above what Go reads (`crypto/rsa`: 31 bits).
    pub fn has_odd_exponent(&self) -> bool {
        let Ok(Parts { oid: OID_RSA, bits, .. }) = parts(&self.der) else { return false };
        let Ok(key) = RsaPublicKeyRef::from_der(bits) else { return true };
        let exponent = key.public_exponent.as_bytes();
        let value = exponent.iter().fold(0, |sum: u64, b| sum << 8 | u64::from(*b));
        exponent.len() > 4 || !(65_537..1 << 31).contains(&value)
    }

    /// The bits of the key itself, which key identifiers are made of.
    pub(in crate::pki) fn bits(&self) -> &[u8] {
        // The structure was checked when this was made.
        parts(&self.der).map(|parts| parts.bits).unwrap_or_default()
    }

    /// The curve and the point as it is written, for EC keys on a curve certkit knows.
    pub(in crate::pki) fn ec_point(&self) -> Option<(Curve, &[u8])> {
        let Parts { oid, parameters, bits } = parts(&self.der).ok()?;
        let named = DerReader::only(parameters, OID).ok()?;
        let curve = Curve::ALL.into_iter().find(|curve| curve.oid() == named)?;
        (oid == OID_EC).then_some((curve, bits))
    }

    pub(super) fn ec(curve: Curve, point: &[u8]) -> Self {
        Self { der: der::sequence(&[ec_algorithm(curve), bit_string(point)]) }
    }

    pub(super) fn ed25519(public: &[u8]) -> Self {
        Self { der: der::sequence(&[ED25519.to_vec(), bit_string(public)]) }
    }

    /// Of a PKCS#1 public key.
    pub(super) fn rsa(public: &[u8]) -> Self {
        Self { der: der::sequence(&[RSA.to_vec(), bit_string(public)]) }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.algorithm_text())
    }
}

/// The AlgorithmIdentifier of a key on a named curve.
pub fn ec_algorithm(curve: Curve) -> Vec<u8> {
    der::sequence(&[der::tlv(OID, OID_EC), der::tlv(OID, curve.oid())])
}

/// A `BIT STRING` of whole bytes.
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    der::tlv(BIT_STRING, &[&[0], bytes].concat())
}

/// A name for algorithms and curves that people meet and certkit cannot use; else the identifier.
pub fn algorithm_text(oid: &[u8]) -> String {
    match oid {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] => "RSA-PSS".into(),
        [0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01] => "DSA".into(),
        [0x2b, 0x65, 0x71] => "Ed448".into(),
        [0x2b, 0x65, 0x6e] => "X25519".into(),
        [0x2b, 0x81, 0x04, 0x00, 0x0a] => "EC (secp256k1)".into(),
        [0x2b, 0x81, 0x04, 0x00, 0x21] => "EC (P-224)".into(),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01] => "EC".into(),
        _ => dotted(oid),
    }
}

/// The bits of a PKCS#1 public key's modulus.
pub fn rsa_bits(public: &[u8]) -> Option<u32> {
    RsaPublicKeyRef::from_der(public).ok().map(|key| bit_length(key.modulus))
}

/// How many bits a number has.
pub fn bit_length(number: UintRef<'_>) -> u32 {
    let bytes = number.as_bytes();
    let leading = bytes.first().map_or(0, |first| first.leading_zeros());
    u32::try_from(bytes.len() * 8).unwrap_or(u32::MAX) - leading
}

/// What a SubjectPublicKeyInfo is made of.
struct Parts<'a> {
    /// The algorithm's identifier.
    oid: &'a [u8],
    /// The algorithm's parameters with their tag; empty if there are none.
    parameters: &'a [u8],
    /// The key itself.
    bits: &'a [u8],
}

fn parts(spki: &[u8]) -> Result<Parts<'_>, Malformed> {
    let mut fields = DerReader::new(DerReader::only(spki, SEQUENCE)?);
    let mut algorithm = DerReader::new(fields.expect(SEQUENCE)?);
    let oid = algorithm.expect(OID)?;
    let parameters = algorithm.element().map(|element| element.raw).unwrap_or_default();
    let bits = fields.bits()?;
    fields.end()?;
    Ok(Parts { oid, parameters, bits })
}
