//! PKCS#7 (RFC 2315, RFC 5652): the certificates of a `SignedData`, the form in which Windows and Java pass
//! chains on (`.p7b`, `.p7c`). Nothing else in it is looked at, and no signature is verified.

use super::der::{DerReader, INTEGER, Malformed};
use crate::model::der::{OID, SEQUENCE, SET};

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// `[0]`, constructed: the content of a `ContentInfo`, and the certificates of a `SignedData`.
const CONTEXT_0: u8 = 0xa0;

/// Why octets are no PKCS#7 whose certificates can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no PKCS#7 SignedData in DER")]
pub struct Pkcs7Error;

impl From<Malformed> for Pkcs7Error {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// The DER of every certificate, in its order. Attribute certificates and other forms are passed over.
pub fn certificates(der: &[u8]) -> Result<Vec<Vec<u8>>, Pkcs7Error> {
    let mut info = DerReader::new(DerReader::only(der, SEQUENCE)?);
    if info.expect(OID)? != SIGNED_DATA {
        return Err(Pkcs7Error);
    }
    let mut signed = DerReader::new(DerReader::only(info.expect(CONTEXT_0)?, SEQUENCE)?);
    signed.expect(INTEGER)?;
    signed.expect(SET)?;
    signed.expect(SEQUENCE)?;
    let Some(certificates) = signed.optional(CONTEXT_0)? else { return Ok(Vec::new()) };
    let elements = DerReader::new(certificates).elements()?;
    let plain = elements.iter().filter(|element| element.tag == SEQUENCE);
    Ok(plain.map(|element| element.raw.to_vec()).collect())
}
