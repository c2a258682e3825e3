//! What ring cannot do, with aws-lc-rs.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA256_ASN1,
        ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_ASN1_SIGNING,
        EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use zeroize::Zeroizing;

use super::{CryptoError, Curve};

/// A P-521 key ready to sign.
pub struct P521Key(EcdsaKeyPair);

impl P521Key {
    pub fn new(scalar: &[u8], point: &[u8]) -> Result<Self, CryptoError> {
        let algorithm = &ECDSA_P521_SHA512_ASN1_SIGNING;
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar, point).map(Self).map_err(
            |_| CryptoError::Refused("its public and private parts do not belong together"),
        )
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| CryptoError::Refused("signing failed"))
    }
}

pub fn ec_public(curve: Curve, sec1: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let algorithm = match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        Curve::P521 => &ECDSA_P521_SHA512_ASN1_SIGNING,
    };
    EcdsaKeyPair::from_private_key_der(algorithm, sec1)
        .map(|pair| pair.public_key().as_ref().to_vec())
        .map_err(|_| CryptoError::Refused("one of its numbers is out of range"))
}

pub fn generate_p521() -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P521_SHA512_ASN1_SIGNING, &SystemRandom::new())
        .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        .map_err(|_| CryptoError::Refused("key generation failed"))
}

pub fn generate_rsa(bits: u32) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let size = match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        4096 => KeySize::Rsa4096,
        _ => return Err(CryptoError::Refused("RSA keys are made with 2048, 3072 or 4096 bits")),
    };
    let failed = |_| CryptoError::Refused("key generation failed");
    let pair = RsaKeyPair::generate(size).map_err(failed)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
    Ok(Zeroizing::new(der.as_ref().to_vec()))
}

pub fn verify_p521(digest_bits: u16, point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let algorithm = match digest_bits {
        256 => &ECDSA_P521_SHA256_ASN1,
        384 => &ECDSA_P521_SHA384_ASN1,
        512 => &ECDSA_P521_SHA512_ASN1,
        _ => return false,
    };
    UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
}
