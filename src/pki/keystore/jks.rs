//! JKS and JCEKS. Their certificates lie open, as keytool lists them without a password; the password covers
//! keys, and a digest over the whole. Java's own description is its source: `sun.security.provider.JavaKeyStore`.

use super::{KeystoreError, Stored};
use crate::pki::crypto;

/// How both begin.
const JKS: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const JCEKS: [u8; 4] = [0xce, 0xce, 0xce, 0xce];
/// What is digested between the password and the store.
const SALT: &[u8] = b"Mighty Aphrodite";
/// SHA-1.
const DIGEST: usize = 20;

/// The certificates of a store, in its order, and whether one of the passwords proves that it is whole. No
/// passwords prove nothing.
pub fn jks(
    octets: &[u8],
    passwords: &[impl AsRef<str>],
) -> Result<(Vec<Stored>, bool), KeystoreError> {
    let cut = || KeystoreError::Malformed("it is cut short".to_owned());
    let body = octets.len().checked_sub(DIGEST).ok_or_else(cut)?;
    let mut reader = Reader(&octets[..body]);
    let magic = reader.take(4).ok_or_else(cut)?;
    if magic != JKS && magic != JCEKS {
        return Err(KeystoreError::Malformed("it is neither JKS nor JCEKS".to_owned()));
    }
    let version = reader.number().ok_or_else(cut)?;
    let count = reader.number().ok_or_else(cut)?;
    let mut stored = Vec::new();
    for _ in 0..count {
        let tag = reader.number().ok_or_else(cut)?;
        let alias = reader.text().ok_or_else(cut)?;
        reader.take(8).ok_or_else(cut)?;
        let certificates = match tag {
            1 => {
                let key = reader.number().ok_or_else(cut)?;
                reader.take(key).ok_or_else(cut)?;
                reader.number().ok_or_else(cut)?
            }
            2 => 1,
            _ => {
                // A serialized Java object, whose end nothing tells.
                let why = format!(
                    "its entry `{alias}` is a secret key, behind which nothing can be read"
                );
                return Err(KeystoreError::Malformed(why));
            }
        };
        for _ in 0..certificates {
            if version == 2 {
                reader.text().ok_or_else(cut)?;
            }
            let length = reader.number().ok_or_else(cut)?;
            let der = reader.take(length).ok_or_else(cut)?.to_vec();
            stored.push(Stored { alias: Some(alias.clone()), der });
        }
    }
    if !reader.0.is_empty() {
        return Err(KeystoreError::Malformed("something follows its last entry".to_owned()));
    }
    let proves = |password: &str| digest(password, &octets[..body]) == octets[body..];
    match passwords.iter().any(|password| proves(password.as_ref())) {
        true => Ok((stored, true)),
        false if passwords.is_empty() => Ok((stored, false)),
        false => Err(KeystoreError::Password),
    }
}

fn digest(password: &str, body: &[u8]) -> [u8; DIGEST] {
    let password: zeroize::Zeroizing<Vec<u8>> =
        zeroize::Zeroizing::new(password.encode_utf16().flat_map(u16::to_be_bytes).collect());
    crypto::sha1(&[&password, SALT, body])
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        let octets = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(octets)).ok()
    }

    /// Java's modified UTF-8, which differs for what nobody names a certificate.
    fn text(&mut self) -> Option<String> {
        let length = self.take(2)?.try_into().ok().map(u16::from_be_bytes)?;
        Some(String::from_utf8_lossy(self.take(usize::from(length))?).into_owned())
    }
}
