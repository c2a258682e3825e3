//! Certificates, read. The one module that names x509-parser.
//!
//! A certificate is parsed once for what every user of it needs (names, term, key); extensions are decoded
//! when asked for. What the wild has and RFC 5280 forbids, such as negative serials, repeated extensions or
//! years to 9999, is read and told in [`Certificate::faults`], not refused.

mod asked;
mod extension;
mod name;
mod request;
mod signature;
mod stray;

use std::{fmt, ops::Range};

use x509_parser::{
    certificate::{X509Certificate, X509CertificateParser},
    nom::Parser,
    time::ASN1Time,
};

pub use asked::{LONGEST_REQUEST, read_pod_key, read_request};
pub use request::SigningRequest;
pub use stray::{first_of, what_else};

use super::{
    crypto::{self, Curve},
    der::{DerReader, Element},
    key::{KeyError, PublicKey},
    pem::{self, PemError},
};
use crate::model::{
    algorithm::KeyAlgorithm,
    der::SEQUENCE,
    hex::hex,
    name::Name,
    profile::{Kind, Profile, Validity},
    san::San,
    timestamp::Timestamp,
    usage::{ExtendedUsage, KeyUsages},
};
use extension::Extension;

/// A certificate: its DER and what it says.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    subject: Name,
    issuer: Name,
    serial: Range<usize>,
    validity: Validity,
    public_key: PublicKey,
    algorithm: Option<KeyAlgorithm>,
    extensions: Vec<Extension>,
}

/// An extension, as it stands in the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawExtension {
    /// Its identifier in dotted form.
    pub oid: String,
    /// Whether who does not know it must refuse the certificate.
    pub critical: bool,
    /// Its value, DER.
    pub value: Vec<u8>,
}

/// Why bytes are no certificate.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InspectError {
    /// Not the structure of a certificate.
    #[error("it is no X.509 certificate: {0}")]
    Malformed(String),
    /// The public key's structure is wrong.
    #[error("cannot read the certificate's public key")]
    Key(#[from] KeyError),
    /// A file without a signing request.
    #[error("it holds no certificate request")]
    NoRequest,
    /// Not PEM, or no certificate in it.
    #[error("cannot read certificates")]
    Pem(#[from] PemError),
    /// A signing request whose signature does not prove that the sender has the key.
    #[error("the signing request is not signed with its own key")]
    Proof,
    /// Bytes after the end.
    #[error("{0} bytes follow the end of the certificate")]
    TrailingData(usize),
}

impl InspectError {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Pem(error) => error.hint(),
            Self::Key(error) => error.hint(),
            Self::Malformed(_) | Self::NoRequest | Self::Proof | Self::TrailingData(_) => None,
        }
    }
}

/// Reads every certificate of a PEM file in order; keys and other blocks are passed over.
pub fn from_pem(bytes: &[u8]) -> Result<Vec<Certificate>, InspectError> {
    pem::certificates(bytes)?.into_iter().map(Certificate::from_der).collect()
}

impl Certificate {
    /// Reads DER.
    pub fn from_der(der: Vec<u8>) -> Result<Self, InspectError> {
        let parsed = parse(&der)?;
        let range = |part: &[u8]| offset(&der, part);
        let validity = Validity {
            not_before: timestamp(&parsed.validity.not_before),
            not_after: timestamp(&parsed.validity.not_after),
        };
        let public_key = PublicKey::from_der(parsed.subject_pki.raw.to_vec())?;
        let extensions = parsed
            .extensions()
            .iter()
            .map(|e| Extension {
                oid: range(e.oid.as_bytes()),
                critical: e.critical,
                value: range(e.value),
            })
            .collect();
        Ok(Self {
            subject: name::model(&parsed.subject),
            issuer: name::model(&parsed.issuer),
            serial: range(parsed.raw_serial()),
            validity,
            algorithm: public_key.algorithm(),
            public_key,
            extensions,
            der,
        })
    }

    /// The DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The PEM block.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// The subject, byte for byte.
    pub fn subject(&self) -> &Name {
        &self.subject
    }

    /// The issuer, byte for byte.
    pub fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// The common name, the Kubernetes user: the last one if there are several, as Go takes it.
    pub fn common_name(&self) -> Option<String> {
        name::values(self.subject.der(), name::COMMON_NAME).pop()
    }

    /// The common name of the issuer.
    pub fn issuer_common_name(&self) -> Option<String> {
        name::values(self.issuer.der(), name::COMMON_NAME).pop()
    }

    /// The organizations, the Kubernetes groups.
    pub fn organizations(&self) -> Vec<String> {
        name::values(self.subject.der(), name::ORGANIZATION)
    }

    /// The content of the serial number's INTEGER, sign byte included.
    pub fn serial(&self) -> &[u8] {
        &self.der[self.serial.clone()]
    }

    /// The serial number in lower-case hexadecimal, with a minus sign if it is negative.
    pub fn serial_hex(&self) -> String {
        let serial = self.serial();
        let negative = serial.first().is_some_and(|b| b & 0x80 != 0);
        let mut magnitude = serial.to_vec();
        if negative {
            let mut carry = true;
            for byte in magnitude.iter_mut().rev() {
                (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
            }
        }
        let digits = hex(&magnitude);
        match (digits.trim_start_matches('0'), negative) {
            ("", _) => "0".into(),
            (digits, false) => digits.into(),
            (digits, true) => format!("-{digits}"),
        }
    }

    /// notBefore and notAfter.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether its dates are written as DER demands, to the second and in UTC (X.690, 11.7 and 11.8). Others are
    /// read here all the same; Go, and so every component of a cluster, refuses the certificate.
    pub fn has_strict_dates(&self) -> bool {
        let validity = || {
            let mut certificate = DerReader::new(DerReader::only(&self.der, SEQUENCE)?);
            let mut tbs = DerReader::new(certificate.expect(SEQUENCE)?);
            tbs.optional(0xa0)?;
            for _serial_algorithm_issuer in 0..3 {
                tbs.element()?;
            }
            DerReader::new(tbs.expect(SEQUENCE)?).elements()
        };
        let is_strict = |time: &Element<'_>| {
            let length = if time.tag == 0x17 { 12 } else { 14 };
            time.content.strip_suffix(b"Z").is_some_and(|digits| {
                digits.len() == length && digits.iter().all(u8::is_ascii_digit)
            })
        };
        validity().is_ok_and(|times| times.iter().all(is_strict))
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The public key's algorithm, if the model knows it.
    pub fn algorithm(&self) -> Option<KeyAlgorithm> {
        self.algorithm
    }

    /// A text for the public key's algorithm, known or not.
    pub fn key_text(&self) -> String {
        self.public_key.algorithm_text()
    }

    /// The signature algorithm's usual name, or its identifier.
    pub fn signature_algorithm(&self) -> String {
        // What was parsed once parses again.
        parse(&self.der).map(|c| signature::text(&c.signature_algorithm)).unwrap_or_default()
    }

    /// Everything its purpose decides, ready to be issued anew.
    pub fn profile(&self) -> Profile {
        Profile {
            subject: self.subject.clone(),
            sans: self.sans(),
            kind: self.kind(),
            key_usages: self.key_usages().unwrap_or_default(),
            extended_usages: self.extended_usages(),
        }
    }

    /// Basic constraints; without them, as in version 1, it is a leaf.
    pub fn kind(&self) -> Kind {
        self.find(extension::BASIC_CONSTRAINTS)
            .and_then(extension::basic_constraints)
            .unwrap_or(Kind::Leaf)
    }

    /// Whether it is a certificate authority.
    pub fn is_ca(&self) -> bool {
        matches!(self.kind(), Kind::Ca { .. })
    }

    /// Subject alternative names in their order.
    pub fn sans(&self) -> Vec<San> {
        self.find(extension::SUBJECT_ALT_NAME).and_then(extension::sans).unwrap_or_default()
    }

    /// Key usage; without it every use is allowed.
    pub fn key_usages(&self) -> Option<KeyUsages> {
        self.find(extension::KEY_USAGE).and_then(extension::key_usages)
    }

    /// Extended key usage in its order; empty if there is none, and then every use is allowed.
    pub fn extended_usages(&self) -> Vec<ExtendedUsage> {
        self.find(extension::EXTENDED_KEY_USAGE)
            .and_then(extension::extended_usages)
            .unwrap_or_default()
    }

    /// The subject key identifier.
    pub fn ski(&self) -> Option<&[u8]> {
        self.find(extension::SUBJECT_KEY_ID).and_then(extension::ski)
    }

    /// The key identifier of the issuer.
    pub fn aki(&self) -> Option<&[u8]> {
        self.find(extension::AUTHORITY_KEY_ID).and_then(extension::aki)
    }

    /// Extensions certkit gives no meaning to: identifier in dotted form, and whether it is critical.
    pub fn other_extensions(&self) -> Vec<(String, bool)> {
        self.extensions
            .iter()
            .filter(|e| !extension::KNOWN.contains(&&self.der[e.oid.clone()]))
            .map(|e| (super::oid::dotted(&self.der[e.oid.clone()]), e.critical))
            .collect()
    }

    /// Every extension with its value, in their order, as they would be written again; of one that is there twice
    /// the first, which counts.
    pub fn raw_extensions(&self) -> Vec<RawExtension> {
        let mut all: Vec<RawExtension> = Vec::with_capacity(self.extensions.len());
        for extension in &self.extensions {
            let oid = super::oid::dotted(&self.der[extension.oid.clone()]);
            if all.iter().all(|other| other.oid != oid) {
                let value = self.der[extension.value.clone()].to_vec();
                all.push(RawExtension { oid, critical: extension.critical, value });
            }
        }
        all
    }

    /// What RFC 5280 forbids and was read all the same, each in a few words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.serial() {
            [first, ..] if first & 0x80 != 0 => faults.push("the serial number is negative".into()),
            serial if serial.iter().all(|b| *b == 0) => {
                faults.push("the serial number is zero".into());
            }
            serial if serial.len() > 20 => {
                faults.push("the serial number is longer than 20 octets".into());
            }
            _ => {}
        }
        if self.validity.not_after < self.validity.not_before {
            faults.push("it ends before it begins".into());
        }
        for (index, e) in self.extensions.iter().enumerate() {
            let oid = &self.der[e.oid.clone()];
            let label = extension::label(oid);
            if self.extensions[..index].iter().any(|other| &self.der[other.oid.clone()] == oid) {
                faults.push(format!("the extension {label} is there twice; the first one counts"));
            }
            if !extension::is_readable(oid, &self.der[e.value.clone()]) {
                faults.push(format!("the extension {label} cannot be read"));
            }
        }
        faults
    }

    /// Whether subject and issuer are the same bytes.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether it is self-issued and its own key verifies its signature.
    pub fn is_self_signed(&self) -> bool {
        self.is_self_issued() && self.signed_by(self)
    }

    /// Whether the key of `ca` verifies the signature; names are not compared.
    ///
    /// RSA, ECDSA with P-256 and P-384, and Ed25519; P-521 with the feature `rsa-keygen`.
    pub fn signed_by(&self, ca: &Self) -> bool {
        signature::is_right(&self.der, ca.public_key.der(), || self.verifies_with(ca))
    }

    fn verifies_with(&self, ca: &Self) -> bool {
        let Ok(parsed) = parse(&self.der) else { return false };
        let signature = &parsed.signature_value.data;
        if let Some((Curve::P521, point)) = ca.public_key.ec_point() {
            let Some(bits) = signature::ecdsa_digest_bits(&parsed.signature_algorithm) else {
                return false;
            };
            return crypto::verify_p521(bits, point, parsed.tbs_certificate.as_ref(), signature);
        }
        let Ok(ca) = parse(&ca.der) else { return false };
        parsed.verify_signature(Some(ca.public_key())).is_ok()
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        crypto::sha256(&self.der)
    }

    /// The fingerprint in lower-case hexadecimal.
    pub fn fingerprint_hex(&self) -> String {
        hex(&self.fingerprint())
    }

    /// The value of the first extension with this identifier.
    fn find(&self, oid: &[u8]) -> Option<&[u8]> {
        let found = self.extensions.iter().find(|e| &self.der[e.oid.clone()] == oid)?;
        Some(&self.der[found.value.clone()])
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl std::hash::Hash for Certificate {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.der.hash(state);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, serial {})", self.subject, self.serial_hex())
    }
}

/// Parses without decoding extensions, which would cost as much again.
fn parse(der: &[u8]) -> Result<X509Certificate<'_>, InspectError> {
    let (rest, parsed) = X509CertificateParser::new()
        .with_deep_parse_extensions(false)
        .parse(der)
        .map_err(|error| InspectError::Malformed(reason(&error)))?;
    if rest.is_empty() { Ok(parsed) } else { Err(InspectError::TrailingData(rest.len())) }
}

/// The innermost reason of a parser's error, in the parser's words.
fn reason<E: fmt::Display>(error: &x509_parser::nom::Err<E>) -> String {
    match error {
        x509_parser::nom::Err::Incomplete(_) => "it is cut short".into(),
        x509_parser::nom::Err::Error(e) | x509_parser::nom::Err::Failure(e) => e.to_string(),
    }
}

/// Where `part`, a slice of `whole`, lies in it.
fn offset(whole: &[u8], part: &[u8]) -> Range<usize> {
    // Both come from one parse of `whole`; a part that were not inside it would be empty here.
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= whole.len() => start..end,
        _ => 0..0,
    }
}

fn timestamp(time: &ASN1Time) -> Timestamp {
    Timestamp::from_unix(time.timestamp())
}
