//! What whoever has the CAs' keys does for the controller, which has none.

use crate::model::{profile::Validity, request::Grant, timestamp::Timestamp};

/// Who asked for a certificate that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningOrder<'a> {
    /// What is granted.
    pub grant: &'a Grant,
    /// The object that asks: its name, with its namespace where it has one.
    pub object: String,
    /// Its signer.
    pub signer: &'a str,
    /// Who made it.
    pub requester: &'a str,
    /// Whom the certificate names.
    pub whom: &'a str,
    /// The groups that it has.
    pub groups: Vec<String>,
    /// On what ground it is signed.
    pub ground: &'a str,
}

/// A certificate that was signed, and is in the log of who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCertificate {
    /// The certificate, and what leads from it to a root where its CA is none.
    pub pem: String,
    /// Its term.
    pub validity: Validity,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// Its fingerprint in hexadecimal.
    pub fingerprint: String,
    /// What else is to be said.
    pub warnings: Vec<String>,
}

/// Signs one certificate, or says why not: that may be another time.
pub type CertificateSigner =
    Box<dyn FnMut(&SigningOrder<'_>, Timestamp) -> Result<SignedCertificate, String>>;
