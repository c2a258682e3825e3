//! Reading private keys: PKCS#8, SEC 1 and PKCS#1, each fault with a name of its own.

use zeroize::Zeroizing;

use super::{KeyError, KeyFormat, Material, PrivateKey, PublicKey, public, sec1};
use crate::{
    model::der::{OID, SEQUENCE},
    pki::{
        crypto::{self, CryptoError, Curve},
        der::{self, INTEGER, Malformed, OCTET_STRING, Reader},
        pem::{self, KeyKind},
    },
};

impl From<Malformed> for KeyError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The first key of a PEM file. `hint` gives the public key for one that does not hold it.
pub fn first(bytes: &[u8], hint: Option<&PublicKey>) -> Result<PrivateKey, KeyError> {
    let block = pem::first_key(bytes)?.ok_or(KeyError::NoKey)?;
    let (material, format) = match block.kind {
        KeyKind::Pkcs1 => (pkcs1(&block.der)?, KeyFormat::Traditional),
        KeyKind::Pkcs8 => (pkcs8(&block.der, hint)?, KeyFormat::Pkcs8),
        KeyKind::Sec1 => (ec(&block.der, None, hint)?, KeyFormat::Traditional),
    };
    PrivateKey::new(material, format)
}

/// PKCS#8 (RFC 5208) and its second version (RFC 5958).
pub fn pkcs8(der: &[u8], hint: Option<&PublicKey>) -> Result<Material, KeyError> {
    let mut fields = Reader::new(Reader::only(der, SEQUENCE)?);
    if !matches!(fields.expect(INTEGER)?, [0] | [1]) {
        return Err(KeyError::Malformed);
    }
    let mut algorithm = Reader::new(fields.expect(SEQUENCE)?);
    let oid = algorithm.expect(OID)?;
    let key = fields.expect(OCTET_STRING)?;
    match oid {
        public::OID_RSA => pkcs1(key),
        public::OID_EC => {
            let curve = curve(algorithm.element()?)?;
            ec(key, Some(curve), hint)
        }
        public::OID_ED25519 => {
            let seed = Zeroizing::new(Reader::only(key, OCTET_STRING)?.to_vec());
            if seed.len() != 32 {
                return Err(KeyError::Malformed);
            }
            let public = crypto::ed25519_public(&seed).map_err(KeyError::unusable)?;
            Ok(Material::Ed25519 { seed, public })
        }
        other => Err(KeyError::Unsupported(public::algorithm_text(other))),
    }
}

/// PKCS#1 (RFC 8017, A.1.2).
fn pkcs1(der: &[u8]) -> Result<Material, KeyError> {
    let mut fields = Reader::new(Reader::only(der, SEQUENCE)?);
    let version = fields.expect(INTEGER)?;
    let bits = der::bit_length(fields.expect(INTEGER)?);
    let exponent = der::unsigned(fields.expect(INTEGER)?);
    match version {
        [0] => {}
        [1] => return Err(KeyError::RsaPrimes),
        _ => return Err(KeyError::Malformed),
    }
    if !(2048..=4096).contains(&bits) {
        return Err(KeyError::RsaSize(bits));
    }
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
    let mut fields = Reader::new(Reader::only(der, SEQUENCE)?);
    if fields.expect(INTEGER)? != [1] {
        return Err(KeyError::Malformed);
    }
    let number = fields.expect(OCTET_STRING)?;
    let inner = match fields.optional(0xa0)? {
        Some(parameters) => Some(curve(Reader::new(parameters).element()?)?),
        None => None,
    };
    let point = match fields.optional(0xa1)? {
        Some(bits) => Some(Reader::new(bits).bits()?.to_vec()),
        None => None,
    };
    let curve = match (named, inner, hint.and_then(PublicKey::ec_point)) {
        (Some(outer), Some(inner), _) if outer != inner => return Err(KeyError::Malformed),
        (Some(curve), ..) | (None, Some(curve), _) | (None, None, Some((curve, _))) => curve,
        (None, None, None) => return Err(KeyError::Unsupported("EC (of no named curve)".into())),
    };
    // Fixed length by RFC 5915, yet there are writers that drop leading zeros.
    let number = der::unsigned(number);
    if number.len() > curve.size() {
        return Err(KeyError::Malformed);
    }
    let mut scalar = Zeroizing::new(vec![0; curve.size()]);
    scalar[curve.size() - number.len()..].copy_from_slice(number);
    let point = match (point, hint.and_then(PublicKey::ec_point)) {
        (Some(point), _) => point,
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

/// The curve that EC parameters name.
fn curve(parameters: der::Element<'_>) -> Result<Curve, KeyError> {
    match parameters.tag {
        OID => Curve::ALL
            .into_iter()
            .find(|curve| curve.oid() == parameters.content)
            .ok_or_else(|| KeyError::Unsupported(public::algorithm_text(parameters.content))),
        SEQUENCE => Err(KeyError::ExplicitCurve),
        _ => Err(KeyError::Malformed),
    }
}
