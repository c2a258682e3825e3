//! Taking what rcgen laid out apart, putting raw parts in, and signing it once.

use crate::{
    model::{
        algorithm::KeyAlgorithm,
        der::{SEQUENCE, sequence, tlv},
    },
    pki::{
        der::{DerReader, Malformed},
        key::{KeyError, Sign, bit_string},
    },
};

/// One element of the signed part and the DER to put there.
pub struct Splice<'a> {
    pub index: usize,
    pub der: &'a [u8],
}

/// The part of `draft` (a certificate or signing request) that is signed, with elements replaced.
pub fn replace(draft: &[u8], replacements: &[Splice<'_>]) -> Result<Vec<u8>, Malformed> {
    let body = DerReader::new(DerReader::only(draft, SEQUENCE)?).expect(SEQUENCE)?;
    let elements = DerReader::new(body).elements()?;
    let mut out = Vec::with_capacity(draft.len() + 512);
    for (index, element) in elements.iter().enumerate() {
        let replacement = replacements.iter().find(|r| r.index == index);
        out.extend_from_slice(replacement.map_or(element.raw, |r| r.der));
    }
    match replacements.iter().all(|r| r.index < elements.len()) {
        true => Ok(tlv(SEQUENCE, &out)),
        false => Err(Malformed),
    }
}

/// The signed structure: body, algorithm, signature.
pub fn signed(body: Vec<u8>, key: &dyn Sign) -> Result<Vec<u8>, KeyError> {
    let signature = bit_string(&key.sign(&body)?);
    Ok(sequence(&[body, signature_algorithm(key.algorithm()).to_vec(), signature]))
}

/// The AlgorithmIdentifier of the signatures [`Sign::sign`] makes.
pub fn signature_algorithm(key: KeyAlgorithm) -> &'static [u8] {
    match key {
        // ecdsa-with-SHA256, -SHA384, -SHA512 (RFC 5758, 3.2): no parameters.
        KeyAlgorithm::EcdsaP256 => {
            &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]
        }
        KeyAlgorithm::EcdsaP384 => {
            &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]
        }
        KeyAlgorithm::EcdsaP521 => {
            &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04]
        }
        KeyAlgorithm::Ed25519 => &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70],
        // sha256WithRSAEncryption (RFC 4055, 5): NULL parameters.
        KeyAlgorithm::Rsa(_) => &[
            0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05,
            0x00,
        ],
    }
}

/// Whether the bytes are one DER element and nothing else.
pub fn is_one_element(bytes: &[u8]) -> bool {
    let mut reader = DerReader::new(bytes);
    reader.element().is_ok() && reader.end().is_ok()
}
