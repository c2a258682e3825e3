//! The few DER encodings (X.690) that the model needs for names and general names.
//!
//! Encoding only: parsing is `pki::inspect`'s, with x509-parser.

/// Tag of a `SEQUENCE`.
pub const SEQUENCE: u8 = 0x30;
/// Tag of a `SET`.
pub const SET: u8 = 0x31;
/// Tag of an `OBJECT IDENTIFIER`.
pub const OID: u8 = 0x06;
/// Tag of a `PrintableString`.
pub const PRINTABLE_STRING: u8 = 0x13;
/// Tag of a `UTF8String`.
pub const UTF8_STRING: u8 = 0x0c;

/// One tag-length-value with a definite, minimal length.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
        let bytes = &bytes[first..];
        out.push(0x80 | bytes.len() as u8);
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// A `SEQUENCE` of parts that are DER already.
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_minimal() {
        assert_eq!(tlv(4, &[7; 3]), [4, 3, 7, 7, 7]);
        assert_eq!(tlv(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(4, &[0; 0x1234])[..4], [4, 0x82, 0x12, 0x34]);
    }
}
