//! Certificate signing requests (PKCS#10, RFC 2986), read.

use x509_parser::{
    certification_request::X509CertificationRequest, cri_attributes::ParsedCriAttribute,
    extensions::X509Extension, prelude::FromDer,
};

use super::{InspectError, extension, name, reason, signature};
use crate::{
    model::profile::{Kind, Profile},
    pki::{
        crypto::{self, Curve},
        key::PublicKey,
        pem::{self, Block},
    },
};

/// A signing request whose sender has proven to hold the key.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    profile: Profile,
    public_key: PublicKey,
}

impl SigningRequest {
    /// Reads the first request in a PEM file.
    pub fn from_pem(content: &[u8]) -> Result<Self, InspectError> {
        let of = |block| match block {
            Block::Csr(der) => Some(der),
            _ => None,
        };
        let found = pem::read(content)?.into_iter().find_map(of);
        Self::from_der(&found.ok_or(InspectError::NoRequest)?)
    }

    /// Reads DER and verifies the request's own signature.
    pub fn from_der(der: &[u8]) -> Result<Self, InspectError> {
        let (rest, parsed) = X509CertificationRequest::from_der(der)
            .map_err(|error| InspectError::Malformed(reason(&error)))?;
        if !rest.is_empty() {
            return Err(InspectError::TrailingData(rest.len()));
        }
        let info = &parsed.certification_request_info;
        let public_key = PublicKey::from_der(info.subject_pki.raw.to_vec())?;
        let proven = match public_key.ec_point() {
            Some((Curve::P521, point)) => signature::ecdsa_digest_bits(&parsed.signature_algorithm)
                .is_some_and(|bits| {
                    crypto::verify_p521(bits, point, info.raw, &parsed.signature_value.data)
                }),
            _ => parsed.verify_signature().is_ok(),
        };
        if !proven {
            return Err(InspectError::Proof);
        }
        let extensions: Vec<&X509Extension<'_>> = info
            .iter_attributes()
            .filter_map(|attribute| match attribute.parsed_attribute() {
                ParsedCriAttribute::ExtensionRequest(request) => Some(&request.extensions),
                _ => None,
            })
            .flatten()
            .collect();
        let find =
            |oid: &[u8]| extensions.iter().find(|e| e.oid.as_bytes() == oid).map(|e| e.value);
        let profile = Profile {
            subject: name::model(&info.subject),
            sans: find(extension::SUBJECT_ALT_NAME).and_then(extension::sans).unwrap_or_default(),
            kind: find(extension::BASIC_CONSTRAINTS)
                .and_then(extension::basic_constraints)
                .unwrap_or(Kind::Leaf),
            key_usages: find(extension::KEY_USAGE)
                .and_then(extension::key_usages)
                .unwrap_or_default(),
            extended_usages: find(extension::EXTENDED_KEY_USAGE)
                .and_then(extension::extended_usages)
                .unwrap_or_default(),
        };
        Ok(Self { profile, public_key })
    }

    /// What it asks for. The asker decides nothing: compare this with what is wanted, and issue that.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The key it asks for.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}
