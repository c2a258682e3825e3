//! The CAs that are known, and which of them signed a certificate.

use crate::{
    model::{
        observed::{FoundKey, Held},
        plan::obstacle::Signing,
        timestamp::Timestamp,
    },
    pki::inspect::Certificate,
};

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

/// A CA as renewal would find it.
pub struct Issuing {
    /// Its files.
    pub held: Held,
    /// Its certificates, the one that signs first.
    pub certificates: Vec<Certificate>,
    /// Whether its key may not be read by who runs this; whoever renews may.
    pub is_hidden: bool,
}

impl Issuing {
    /// Whether `certkit rotate` could not renew this leaf, which `signer` was found to have signed: the same
    /// judgement, without what rotating can be told on its command line.
    pub fn is_elsewhere(
        &self,
        leaf: &Certificate,
        signer: Option<&Known>,
        is_declared: bool,
        now: Timestamp,
    ) -> bool {
        let has_key = |ca: &Certificate| {
            self.certificates.iter().any(|own| own.public_key() == ca.public_key())
        };
        let signed = match signer {
            Some(ca) if has_key(&ca.certificate) => true,
            _ => self.certificates.iter().any(|own| leaf.signed_by(own)),
        };
        if self.is_hidden {
            return !signed && !is_declared;
        }
        let signing = Signing {
            authority: &self.held,
            issuer: leaf.issuer(),
            is_signed: Some(signed).filter(|_| !self.certificates.is_empty()),
            is_bound: is_declared,
            // Whoever renews may know the password.
            can_open: true,
            now,
        };
        signing.obstacle().is_some()
    }

    /// Whether its key belongs to this certificate of it, by its index.
    pub fn has_key(&self, index: usize) -> bool {
        match (&self.held.key, self.certificates.get(index)) {
            (FoundKey::Present(key), Some(ca)) => key.public_key == ca.public_key().der(),
            (FoundKey::Missing, _) | (_, None) => false,
            (_, Some(_)) => index == 0,
        }
    }
}
