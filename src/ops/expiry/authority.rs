//! The CAs that are known, and which of them signed a certificate.

use crate::pki::inspect::Certificate;

/// A CA's certificate that was found.
#[derive(Clone)]
pub struct Known {
    /// Its name in the report.
    pub name: String,
    /// The certificate.
    pub certificate: Certificate,
    /// Whether its key is here, so that what it signed can be renewed here.
    pub has_key: bool,
    /// The index of its row, to add other places to.
    pub row: usize,
}

/// Of these, the one whose key verifies the certificate's signature. Names first: verifying is what costs.
pub fn signer<'a>(
    certificate: &Certificate,
    known: impl IntoIterator<Item = &'a Known>,
) -> Option<&'a Known> {
    known.into_iter().find(|ca| {
        let key_fits = match (certificate.aki(), ca.certificate.ski()) {
            (Some(aki), Some(ski)) => aki == ski,
            _ => true,
        };
        ca.certificate.subject() == certificate.issuer()
            && key_fits
            && ca.certificate != *certificate
            && certificate.signed_by(&ca.certificate)
    })
}
