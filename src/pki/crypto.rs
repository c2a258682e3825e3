//! The cryptography: digests, randomness, making keys and signing. The one module that names ring, and in
//! `aws` aws-lc-rs, which does what ring cannot: RSA key generation and everything with P-521.

#[cfg(feature = "rsa-keygen")]
mod aws;

use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use zeroize::Zeroizing;

/// The NIST curves Kubernetes' components know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The content of the curve's object identifier.
    pub fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    /// Bytes of a private key, and of each coordinate of a point.
    pub fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// Why a key could not be made or used: the backend refused, in its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptoError {
    /// The backend's reason.
    Refused(&'static str),
    /// Only builds with `rsa-keygen` can do it.
    NeedsFeature,
}

/// A private key ready to sign.
pub enum SigningKey {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    #[cfg(feature = "rsa-keygen")]
    P521(aws::P521Key),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// A key on a curve; the point must belong to the scalar.
    pub fn ec(curve: Curve, scalar: &[u8], point: &[u8]) -> Result<Self, CryptoError> {
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
            #[cfg(feature = "rsa-keygen")]
            Curve::P521 => return aws::P521Key::new(scalar, point).map(Self::P521),
            #[cfg(not(feature = "rsa-keygen"))]
            Curve::P521 => return Err(CryptoError::NeedsFeature),
        };
        EcdsaKeyPair::from_private_key_and_public_key(
            algorithm,
            scalar,
            point,
            &SystemRandom::new(),
        )
        .map(Self::Ecdsa)
        .map_err(refused)
    }

    /// An Ed25519 key; the public key must belong to the seed.
    pub fn ed25519(seed: &[u8], public: &[u8]) -> Result<Self, CryptoError> {
        Ed25519KeyPair::from_seed_and_public_key(seed, public).map(Self::Ed25519).map_err(refused)
    }

    /// An RSA key in PKCS#1.
    pub fn rsa(pkcs1: &[u8]) -> Result<Self, CryptoError> {
        RsaKeyPair::from_der(pkcs1).map(Self::Rsa).map_err(refused)
    }

    /// Signs with the digest that goes with the key: SHA-256 for P-256 and RSA, SHA-384 for P-384,
    /// SHA-512 for P-521.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let failed = |_| CryptoError::Refused("signing failed");
        let random = SystemRandom::new();
        match self {
            Self::Ecdsa(key) => {
                key.sign(&random, message).map(|s| s.as_ref().to_vec()).map_err(failed)
            }
            Self::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            #[cfg(feature = "rsa-keygen")]
            Self::P521(key) => key.sign(message),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// The public key of an Ed25519 seed.
pub fn ed25519_public(seed: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(refused)?;
    Ok(pair.public_key().as_ref().to_vec())
}

/// The uncompressed point of a SEC 1 key that names its curve; ring has no way to compute it.
pub fn ec_public(curve: Curve, sec1: &[u8]) -> Result<Vec<u8>, CryptoError> {
    #[cfg(feature = "rsa-keygen")]
    return aws::ec_public(curve, sec1);
    #[cfg(not(feature = "rsa-keygen"))]
    {
        let _ = (curve, sec1);
        Err(CryptoError::NeedsFeature)
    }
}

/// A new key on a curve, as PKCS#8.
///
/// The bytes alone: building the key pair to sign with would compute the public key a second time, and
/// most keys made here are a leaf's, which never signs.
pub fn generate_ec(curve: Curve) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let algorithm = match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        #[cfg(feature = "rsa-keygen")]
        Curve::P521 => return aws::generate_p521(),
        #[cfg(not(feature = "rsa-keygen"))]
        Curve::P521 => return Err(CryptoError::NeedsFeature),
    };
    EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
        .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        .map_err(|_| CryptoError::Refused("key generation failed"))
}

/// A new Ed25519 seed.
pub fn generate_ed25519() -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let mut seed = Zeroizing::new(vec![0; 32]);
    random(&mut seed)?;
    Ok(seed)
}

/// A new RSA key, as PKCS#8.
pub fn generate_rsa(bits: u32) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    #[cfg(feature = "rsa-keygen")]
    return aws::generate_rsa(bits);
    #[cfg(not(feature = "rsa-keygen"))]
    {
        let _ = bits;
        Err(CryptoError::NeedsFeature)
    }
}

/// Verifies an ECDSA signature made with P-521, which ring does not know; `digest_bits` is 256, 384 or 512.
pub fn verify_p521(digest_bits: u16, point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    #[cfg(feature = "rsa-keygen")]
    return aws::verify_p521(digest_bits, point, message, signature);
    #[cfg(not(feature = "rsa-keygen"))]
    {
        let _ = (digest_bits, point, message, signature);
        false
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// SHA-1 of these one after another: for formats that have it, and for nothing that needs to be safe.
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 20];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Fills `bytes` from the operating system's source.
pub fn random(bytes: &mut [u8]) -> Result<(), CryptoError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| CryptoError::Refused("the operating system gave no randomness"))
}

fn refused(error: ring::error::KeyRejected) -> CryptoError {
    CryptoError::Refused(match error.to_string().as_str() {
        "InconsistentComponents" => "its public and private parts do not belong together",
        "InvalidComponent" => "one of its numbers is out of range",
        "InvalidEncoding" => "its encoding is wrong",
        _ => "its numbers are not ones that ring takes",
    })
}
