//! SHA-256, for telling a staged or published file from any other.

use ring::digest;

use crate::model::hex::hex;

/// The SHA-256 digest of `data` in lower-case hexadecimal.
pub fn sha256(data: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, data).as_ref())
}

/// The same in base64, as pages name the scripts that they allow (Content Security Policy).
pub fn sha256_base64(data: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(digest::digest(&digest::SHA256, data))
}

#[cfg(test)]
mod tests {
    #[test]
    fn digest_of_abc_is_the_one_of_fips_180() {
        assert_eq!(
            super::sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
