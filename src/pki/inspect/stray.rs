//! DER that is no certificate, or more than one.

use super::{Certificate, InspectError, SigningRequest};
use crate::{
    model::der::SEQUENCE,
    pki::der::{DerReader, INTEGER},
};

/// The certificate that DER begins with, whatever follows: what openssl adds to a `TRUSTED CERTIFICATE`.
pub fn first_of(der: &[u8]) -> Result<Certificate, InspectError> {
    match Certificate::from_der(der.to_vec()) {
        Err(InspectError::TrailingData(more)) if more < der.len() => {
            Certificate::from_der(der[..der.len() - more].to_vec())
        }
        result => result,
    }
}

/// What DER is that is no certificate, where it is something else of a PKI.
pub fn what_else(der: &[u8]) -> Option<&'static str> {
    let first = DerReader::only(der, SEQUENCE).and_then(|inside| DerReader::new(inside).element());
    match first.ok()?.tag {
        // All of them begin with their version.
        INTEGER => Some("a private key"),
        _ if SigningRequest::from_der(der).is_ok() => Some("a signing request"),
        _ if x509_parser::parse_x509_crl(der).is_ok() => Some("a revocation list"),
        _ => None,
    }
}
