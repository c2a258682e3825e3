//! Key stores of other programs: PKCS#12 (RFC 7292; `.p12`, `.pfx`, what keytool makes) and Java's older JKS
//! and JCEKS. Only certificates are taken out. The one module that names p12-keystore.

mod jks;

use p12_keystore::{Pkcs12Archive, error::Error as P12Error};
use zeroize::Zeroizing;

use super::der::{DerReader, INTEGER};
use crate::model::der::{OID, SEQUENCE};

pub use jks::jks;

/// A certificate of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The name it has there.
    pub alias: Option<String>,
    /// Its DER.
    pub der: Vec<u8>,
}

/// Why a store's certificates cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// It is not what it begins as, or uses something that is not known here.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// None of the passwords opens it.
    #[error("no password that was given opens it")]
    Password,
    /// Its passwords are too hard to try: it would take minutes or gigabytes.
    #[error("its key derivation asks for more than a monitor should spend")]
    TooHard,
}

/// Whether DER is PKCS#12: version 3, then data or signed data.
pub fn is_pkcs12(der: &[u8]) -> bool {
    const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
    let begins = || {
        let mut pfx = DerReader::new(DerReader::only(der, SEQUENCE)?);
        if pfx.expect(INTEGER)? != [3] {
            return Ok(false);
        }
        let content = DerReader::new(pfx.expect(SEQUENCE)?).expect(OID)?;
        Ok::<bool, super::der::Malformed>(content.starts_with(PKCS7))
    };
    begins().unwrap_or(false)
}

/// The certificates of a PKCS#12 store, in its order. The empty password is always tried: it protects nothing.
pub fn pkcs12(der: &[u8], passwords: &[Zeroizing<String>]) -> Result<Vec<Stored>, KeystoreError> {
    let all = passwords.iter().map(|password| password.as_str()).chain([""]);
    let mut last = KeystoreError::Password;
    for password in all {
        match Pkcs12Archive::from_pkcs12(der, password) {
            Ok(archive) => {
                let certificates = archive.certs.into_iter();
                return Ok(certificates
                    .map(|bag| Stored { alias: bag.friendly_name, der: bag.cert.as_der().to_vec() })
                    .collect());
            }
            Err(error) => last = worse(last, error),
        }
    }
    Err(last)
}

/// Without a MAC a wrong password shows by what cannot be decrypted.
fn worse(before: KeystoreError, error: P12Error) -> KeystoreError {
    match error {
        P12Error::MacError(_) | P12Error::Pkcs5Error(_) | P12Error::UnpadError => before,
        P12Error::InvalidParameters => KeystoreError::TooHard,
        other => KeystoreError::Malformed(other.to_string()),
    }
}
