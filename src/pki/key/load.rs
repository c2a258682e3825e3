//! Reading and writing private keys: PKCS#8, SEC 1 and PKCS#1, each fault with a name of its own.

use pkcs1::RsaPrivateKeyRef;
use pkcs8::{
    AlgorithmIdentifierRef, ObjectIdentifier, PrivateKeyInfoRef,
    der::{AnyRef, Decode, Encode, ErrorKind, Tag, Tagged, asn1::OctetStringRef},
};
use sec1::{EcParameters, EcPrivateKey};
use zeroize::Zeroizing;

use super::{KeyError, KeyFormat, Material, PrivateKey, PublicKey, public};
use crate::pki::{
    crypto::{self, CryptoError, Curve},
    pem::{self, KeyKind},
};

/// id-ecPublicKey.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// id-Ed25519.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// rsaEncryption.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

impl From<pkcs8::der::Error> for KeyError {
    fn from(_: pkcs8::der::Error) -> Self {
        Self::Malformed
    }
}

/// The first key of a PEM file. `hint` gives the public key for one that does not hold it.
pub fn first(bytes: &[u8], hint: Option<&PublicKey>) -> Result<PrivateKey, KeyError> {
    let block = pem::first_key(bytes)?.ok_or(KeyError::NoKey)?;
    let (material, format) = match block.kind {
        KeyKind::Encrypted => return Err(KeyError::Encrypted),
        KeyKind::Pkcs1 => (pkcs1(&block.der)?, KeyFormat::Traditional),
        KeyKind::Pkcs8 => (pkcs8(&block.der, hint)?, KeyFormat::Pkcs8),
        KeyKind::Sec1 => (ec(&block.der, None, hint)?, KeyFormat::Traditional),
    };
    PrivateKey::new(material, format)
}

/// PKCS#8 (RFC 5208) and its second version (RFC 5958).
pub fn pkcs8(der: &[u8], hint: Option<&PublicKey>) -> Result<Material, KeyError> {
    let info = PrivateKeyInfoRef::from_der(der)?;
    let key = info.private_key.as_bytes();
    match info.algorithm.oid {
        RSA => pkcs1(key),
        EC => {
            let parameters = info.algorithm.parameters.ok_or(KeyError::Malformed)?;
            let named = match parameters.tag() {
                Tag::ObjectIdentifier => curve(parameters.decode_as()?)?,
                Tag::Sequence => return Err(KeyError::ExplicitCurve),
                _ => return Err(KeyError::Malformed),
            };
            ec(key, Some(named), hint)
        }
        ED25519 => {
            let seed = <&OctetStringRef>::from_der(key)?.as_bytes();
            if seed.len() != 32 {
                return Err(KeyError::Malformed);
            }
            let seed = Zeroizing::new(seed.to_vec());
            let public = crypto::ed25519_public(&seed).map_err(KeyError::unusable)?;
            Ok(Material::Ed25519 { seed, public })
        }
        other => Err(KeyError::Unsupported(public::algorithm_text(other.as_bytes()))),
    }
}

/// PKCS#1 (RFC 8017, A.1.2).
fn pkcs1(der: &[u8]) -> Result<Material, KeyError> {
    let key = RsaPrivateKeyRef::from_der(der)?;
    if key.other_prime_infos.is_some() {
        return Err(KeyError::RsaPrimes);
    }
    let bits = public::bit_length(key.modulus);
    if !(2048..=4096).contains(&bits) {
        return Err(KeyError::RsaSize(bits));
    }
    let exponent = key.public_exponent.as_bytes();
    if exponent.len() <= 8 {
        let exponent = exponent.iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
        if exponent < 65_537 {
            return Err(KeyError::RsaExponent(exponent));
        }
    }
    Ok(Material::Rsa { pkcs1: Zeroizing::new(der.to_vec()), bits })
}

/// SEC 1 (RFC 5915). `named` is the curve PKCS#8 gave outside of it.
fn ec(der: &[u8], named: Option<Curve>, hint: Option<&PublicKey>) -> Result<Material, KeyError> {
    let key = EcPrivateKey::from_der(der).map_err(|error| match error.kind() {
        // Only the curve may be either of the two.
        ErrorKind::TagUnexpected {
            expected: Some(Tag::ObjectIdentifier),
            actual: Tag::Sequence,
        } => KeyError::ExplicitCurve,
        _ => KeyError::Malformed,
    })?;
    let inner = key.parameters.and_then(EcParameters::named_curve).map(curve).transpose()?;
    let curve = match (named, inner, hint.and_then(PublicKey::ec_point)) {
        (Some(outer), Some(inner), _) if outer != inner => return Err(KeyError::Malformed),
        (Some(curve), ..) | (None, Some(curve), _) | (None, None, Some((curve, _))) => curve,
        (None, None, None) => return Err(KeyError::Unsupported("EC (of no named curve)".into())),
    };
    // Fixed length by RFC 5915, yet there are writers that drop leading zeros.
    let zeros = key.private_key.iter().take_while(|b| **b == 0).count();
    let number = &key.private_key[zeros..];
    if number.len() > curve.size() {
        return Err(KeyError::Malformed);
    }
    let mut scalar = Zeroizing::new(vec![0; curve.size()]);
    scalar[curve.size() - number.len()..].copy_from_slice(number);
    let point = match (key.public_key, hint.and_then(PublicKey::ec_point)) {
        (Some(point), _) => point.to_vec(),
        (None, Some((of, point))) if of == curve => point.to_vec(),
        (None, _) => crypto::ec_public(curve, &sec1(curve, &scalar, None, true)).map_err(
            |error| match error {
                CryptoError::NeedsFeature => KeyError::NoPublicKey,
                CryptoError::Refused(why) => KeyError::Unusable(why),
            },
        )?,
    };
    match point.first() {
        Some(4) if point.len() == 1 + 2 * curve.size() => Ok(Material::Ec { curve, scalar, point }),
        Some(2 | 3) => Err(KeyError::CompressedPoint),
        _ => Err(KeyError::Malformed),
    }
}

/// The curve of that identifier.
fn curve(oid: ObjectIdentifier) -> Result<Curve, KeyError> {
    Curve::ALL
        .into_iter()
        .find(|curve| curve.oid() == oid.as_bytes())
        .ok_or_else(|| KeyError::Unsupported(public::algorithm_text(oid.as_bytes())))
}

/// Writes an ECPrivateKey (RFC 5915), with the curve unless something around it names it, as openssl and
/// Go do.
pub fn sec1(
    curve: Curve,
    scalar: &[u8],
    point: Option<&[u8]>,
    with_curve: bool,
) -> Zeroizing<Vec<u8>> {
    let parameters = with_curve.then(|| EcParameters::NamedCurve(identifier(curve)));
    encoded(&EcPrivateKey { private_key: scalar, parameters, public_key: point })
}

/// Writes PKCS#8 in its first version, as openssl and Go do.
pub fn to_pkcs8(material: &Material) -> Zeroizing<Vec<u8>> {
    let named;
    let (oid, parameters, key) = match material {
        Material::Ec { curve, scalar, point } => {
            named = identifier(*curve);
            (EC, Some(AnyRef::from(&named)), sec1(*curve, scalar, Some(point), false))
        }
        Material::Ed25519 { seed, .. } => {
            // A string of 32 octets cannot be too long.
            let seed = OctetStringRef::new(seed).expect("always fits");
            (ED25519, None, encoded(&seed))
        }
        Material::Rsa { pkcs1, .. } => (RSA, Some(AnyRef::NULL), pkcs1.clone()),
    };
    // What was read from a file cannot be longer than DER can say.
    let key = OctetStringRef::new(&key).expect("always fits");
    encoded(&PrivateKeyInfoRef::new(AlgorithmIdentifierRef { oid, parameters }, key))
}

/// The public half of a PKCS#1 private key, as PKCS#1 itself.
pub fn rsa_public(pkcs1: &[u8]) -> Result<Vec<u8>, KeyError> {
    Ok(RsaPrivateKeyRef::from_der(pkcs1)?.public_key().to_der()?)
}

fn identifier(curve: Curve) -> ObjectIdentifier {
    // The three curves' identifiers are constants, which never fail to be read.
    ObjectIdentifier::from_bytes(curve.oid()).expect("always well-formed")
}

/// DER, in one buffer of its exact length, which is wiped.
fn encoded(structure: &impl Encode) -> Zeroizing<Vec<u8>> {
    // Fails only for what is longer than DER can say, which a key never is.
    Zeroizing::new(structure.to_der().expect("always fits"))
}
