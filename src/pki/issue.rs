//! Certificates and signing requests, made. The one module that names rcgen.
//!
//! rcgen lays out the certificate under a placeholder that signs nothing. What rcgen cannot say is then put
//! in as raw bytes (its names are a map that keeps one value per type, its keys only those of its backend),
//! and the result is signed once. The issuer is thus the CA's subject byte for byte, as Go wants it.

mod splice;

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose, PKCS_ED25519, PublicKeyData,
    SerialNumber, SignatureAlgorithm, SigningKey,
};

use super::{
    crypto::{self, CryptoError},
    der::OCTET_STRING,
    inspect::{Certificate, InspectError, RawExtension},
    key::{KeyError, PrivateKey, PublicKey, Sign},
    oid,
};
use crate::model::{
    der,
    name::Name,
    profile::{Kind, Profile, Validity},
    san::San,
    timestamp::Timestamp,
    usage::{ExtendedUsage, KeyUsages},
};
use splice::Splice;

/// A certificate authority that can sign: its certificate and the key that belongs to it.
pub struct IssuingCa {
    certificate: Certificate,
    key: Box<dyn Sign>,
}

impl fmt::Debug for IssuingCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({}, key elided)", self.certificate.subject())
    }
}

/// A certificate to be issued.
#[derive(Clone, Copy, Debug)]
pub struct Issuance<'a> {
    /// What it says.
    pub profile: &'a Profile,
    /// Its term, cut at the end of the issuer's.
    pub validity: Validity,
    /// Its key.
    pub public_key: &'a PublicKey,
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// Whether notAfter was cut to the issuer's.
    pub clamped: bool,
}

/// Why a certificate or request cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The backend failed.
    #[error("cannot make a serial number: {0}")]
    Crypto(&'static str),
    /// An extension whose identifier cannot be written.
    #[error("the extension `{0}` cannot be written again")]
    Extension(String),
    /// A usage that is no object identifier.
    #[error("the extended key usage `{0}` is no object identifier")]
    ExtendedUsage(String),
    /// The result is not what was asked for.
    #[error("the certificate that was made does not name its issuer byte for byte")]
    IssuerBytes,
    /// The result cannot be read.
    #[error("the certificate that was made cannot be read back")]
    Inspect(#[from] InspectError),
    /// The key cannot sign.
    #[error("cannot sign")]
    Key(#[from] KeyError),
    /// The key is another one's.
    #[error("the private key does not belong to the CA certificate `{0}`")]
    KeyMismatch(Name),
    /// The encoder failed.
    #[error("cannot encode the certificate: {0}")]
    Layout(String),
    /// The issuer's certificate is a leaf.
    #[error("`{0}` is not a CA certificate: its basic constraints do not say CA:TRUE")]
    NotCa(Name),
    /// The issuer may not sign certificates.
    #[error("the CA `{0}` may not sign certificates: its key usage lacks keyCertSign")]
    NoCertSign(Name),
    /// The issuer may not have CAs below it.
    #[error("the CA `{0}` allows no CA below it: its path length is 0")]
    PathLength(Name),
    /// A name that cannot be written.
    #[error("the alternative name `{0}` cannot be written in a certificate")]
    San(San),
    /// A term that ends before it begins.
    #[error("the certificate would end ({not_after}) before it begins ({not_before})")]
    Term {
        /// notBefore
        not_before: Timestamp,
        /// notAfter, after it was cut to the issuer's
        not_after: Timestamp,
    },
}

impl IssueError {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Key(error) => error.hint(),
            Self::KeyMismatch(_) => Some(
                "compare: openssl pkey -in KEY -pubout; openssl x509 -in CERT -noout -pubkey"
                    .into(),
            ),
            Self::Inspect(_)
            | Self::Crypto(_)
            | Self::Extension(_)
            | Self::ExtendedUsage(_)
            | Self::IssuerBytes
            | Self::Layout(_)
            | Self::NoCertSign(_)
            | Self::NotCa(_)
            | Self::PathLength(_)
            | Self::San(_)
            | Self::Term { .. } => None,
        }
    }
}

impl From<CryptoError> for IssueError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::NeedsFeature => Self::Crypto("it needs the feature `rsa-keygen`"),
            CryptoError::Refused(why) => Self::Crypto(why),
        }
    }
}

impl IssuingCa {
    /// Joins a CA's certificate and key, if the one is a CA's and the other is its own. Whether the CA has
    /// expired is for the caller, who knows the time.
    pub fn new(certificate: Certificate, key: impl Sign + 'static) -> Result<Self, IssueError> {
        if certificate.public_key() != key.public_key() {
            return Err(IssueError::KeyMismatch(certificate.subject().clone()));
        }
        if !certificate.is_ca() {
            return Err(IssueError::NotCa(certificate.subject().clone()));
        }
        if certificate.key_usages().is_some_and(|usages| !usages.contains(KeyUsages::CERT_SIGN)) {
            return Err(IssueError::NoCertSign(certificate.subject().clone()));
        }
        Ok(Self { certificate, key: Box::new(key) })
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// Makes a certificate that is signed with its own key.
pub fn self_signed(
    profile: &Profile,
    validity: Validity,
    key: &PrivateKey,
) -> Result<Certificate, IssueError> {
    let order = Issuance { profile, validity, public_key: key.public_key() };
    sign(&order, &profile.subject, None, key, None)
}

/// Makes a root anew with the key it has: every octet of its name and its extensions stays, key identifiers too, so that
/// all it signed goes on leading to it.
pub fn renew_self_signed(
    old: &Certificate,
    validity: Validity,
    key: &PrivateKey,
) -> Result<Certificate, IssueError> {
    let profile = old.profile();
    let order = Issuance { profile: &profile, validity, public_key: key.public_key() };
    sign(&order, old.subject(), None, key, Some(&old.raw_extensions()))
}

/// Makes a certificate that a CA signs.
pub fn issue(order: &Issuance<'_>, issuer: &IssuingCa) -> Result<Issued, IssueError> {
    issue_with(order, issuer, None)
}

/// Makes `old` anew: every extension as it is there, byte for byte and in its order, whether certkit gives it a
/// meaning or not. Only what identifies the two keys is written for the ones of today, and what a log or a CA
/// said of that one certificate is left out. The order's profile gives the subject.
pub fn reissue(
    order: &Issuance<'_>,
    issuer: &IssuingCa,
    old: &Certificate,
) -> Result<Issued, IssueError> {
    let mut extensions = old.raw_extensions();
    extensions.retain(|e| !e.oid.starts_with(CERTIFICATE_TRANSPARENCY));
    let authority = issuer.certificate.ski().map(|ski| der::sequence(&[der::tlv(0x80, ski)]));
    if !extensions.iter().any(|e| e.oid == AUTHORITY_KEY_IDENTIFIER) {
        // RFC 5280, 4.2.1.1, wants it, whoever left it out.
        let oid = AUTHORITY_KEY_IDENTIFIER.to_owned();
        extensions.push(RawExtension { oid, critical: false, value: Vec::new() });
    }
    let mut copies = Vec::with_capacity(extensions.len());
    for mut extension in extensions {
        match extension.oid.as_str() {
            SUBJECT_KEY_IDENTIFIER => {
                extension.value = der::tlv(OCTET_STRING, &key_identifier(order.public_key));
            }
            AUTHORITY_KEY_IDENTIFIER => match &authority {
                Some(value) => extension.value.clone_from(value),
                None => continue,
            },
            _ => {}
        }
        copies.push(extension);
    }
    issue_with(order, issuer, Some(&copies))
}

/// id-ce-authorityKeyIdentifier.
const AUTHORITY_KEY_IDENTIFIER: &str = "2.5.29.35";

/// id-ce-subjectKeyIdentifier, which a leaf keeps if it had one.
const SUBJECT_KEY_IDENTIFIER: &str = "2.5.29.14";

/// Signed timestamps and poison (RFC 6962, 3.1 and 3.3) are about one certificate.
const CERTIFICATE_TRANSPARENCY: &str = "1.3.6.1.4.1.11129.2.4.";

fn issue_with(
    order: &Issuance<'_>,
    issuer: &IssuingCa,
    extensions: Option<&[RawExtension]>,
) -> Result<Issued, IssueError> {
    let ca = &issuer.certificate;
    if matches!(order.profile.kind, Kind::Ca { .. })
        && ca.kind() == (Kind::Ca { path_len: Some(0) })
    {
        return Err(IssueError::PathLength(ca.subject().clone()));
    }
    let end = ca.validity().not_after;
    let clamped = order.validity.not_after > end;
    let validity = Validity { not_after: order.validity.not_after.min(end), ..order.validity };
    let order = Issuance { validity, ..*order };
    let certificate = sign(&order, ca.subject(), ca.ski(), &*issuer.key, extensions)?;
    Ok(Issued { certificate, clamped })
}

/// Makes a signing request (PKCS#10) that asks for all of the profile.
pub fn csr(profile: &Profile, key: &PrivateKey) -> Result<Vec<u8>, IssueError> {
    request(params(profile)?, &profile.subject, key)
}

/// Makes a signing request that asks for a name alone: who signs it decides on all else.
pub fn bare_csr(subject: &Name, key: &PrivateKey) -> Result<Vec<u8>, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    request(params, subject, key)
}

fn request(
    params: CertificateParams,
    subject: &Name,
    key: &PrivateKey,
) -> Result<Vec<u8>, IssueError> {
    let draft = params.serialize_request(&Placeholder).map_err(layout)?;
    // CertificationRequestInfo: version, subject, subjectPKInfo, attributes.
    let body = splice::replace(
        draft.der(),
        &[
            Splice { index: 1, der: subject.der() },
            Splice { index: 2, der: key.public_key().der() },
        ],
    )
    .map_err(|_| IssueError::Layout("unexpected structure".into()))?;
    Ok(splice::signed(body, key)?)
}

/// Signs what the order says; with extensions given, with those and no others.
fn sign(
    order: &Issuance<'_>,
    issuer: &Name,
    issuer_ski: Option<&[u8]>,
    key: &dyn Sign,
    extensions: Option<&[RawExtension]>,
) -> Result<Certificate, IssueError> {
    let Validity { not_before, not_after } = order.validity;
    if not_after < not_before {
        return Err(IssueError::Term { not_before, not_after });
    }
    let mut params = match extensions {
        Some(extensions) => copied(extensions)?,
        None => params(order.profile)?,
    };
    params.serial_number = Some(SerialNumber::from(serial()?.to_vec()));
    params.not_before = not_before.to_offset_date_time();
    params.not_after = not_after.to_offset_date_time();
    params.key_identifier_method =
        KeyIdMethod::PreSpecified(key_identifier(order.public_key).to_vec());
    params.use_authority_key_identifier_extension = extensions.is_none() && issuer_ski.is_some();
    let mut signer = CertificateParams::default();
    signer.key_identifier_method =
        KeyIdMethod::PreSpecified(issuer_ski.unwrap_or_default().to_vec());
    let signer = rcgen::Issuer::from_params(&signer, Placeholder);
    let draft = params.signed_by(&Placeholder, &signer).map_err(layout)?;
    // TBSCertificate: version, serialNumber, signature, issuer, validity, subject, key, extensions.
    let body = splice::replace(
        draft.der(),
        &[
            Splice { index: 2, der: splice::signature_algorithm(key.algorithm()) },
            Splice { index: 3, der: issuer.der() },
            Splice { index: 5, der: order.profile.subject.der() },
            Splice { index: 6, der: order.public_key.der() },
        ],
    )
    .map_err(|_| IssueError::Layout("unexpected structure".into()))?;
    let certificate = Certificate::from_der(splice::signed(body, key)?)?;
    match certificate.issuer() == issuer && certificate.subject() == &order.profile.subject {
        true => Ok(certificate),
        false => Err(IssueError::IssuerBytes),
    }
}

/// What a profile says, in rcgen's words.
fn params(profile: &Profile) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = USAGES
        .iter()
        .filter(|(bit, _)| profile.key_usages.contains(*bit))
        .map(|(_, u)| *u)
        .collect();
    params.extended_key_usages =
        profile.extended_usages.iter().map(extended_usage).collect::<Result<_, _>>()?;
    match profile.kind {
        Kind::Ca { path_len: None } => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Kind::Ca { path_len: Some(n) } => {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(n));
        }
        // rcgen writes a leaf's basic constraints only together with a subject key identifier, and Go's
        // certificates have the one without the other.
        Kind::Leaf => params.custom_extensions.push(extension(19, true, der::sequence(&[]))),
    }
    if !profile.sans.is_empty() {
        let names = profile.sans.iter().map(general_name).collect::<Result<Vec<_>, _>>()?;
        // RFC 5280, 4.2.1.6: critical if the subject is empty.
        let critical = profile.subject.der() == der::sequence(&[]);
        params.custom_extensions.push(extension(17, critical, der::sequence(&names)));
    }
    Ok(params)
}

/// Extensions as they are.
fn copied(extensions: &[RawExtension]) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for raw in extensions {
        let oid = oid::arcs(&raw.oid).ok_or_else(|| IssueError::Extension(raw.oid.clone()))?;
        let mut extension = CustomExtension::from_oid_content(&oid, raw.value.clone());
        extension.set_criticality(raw.critical);
        params.custom_extensions.push(extension);
    }
    Ok(params)
}

/// An extension of the arc id-ce.
fn extension(number: u64, critical: bool, value: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, number], value);
    extension.set_criticality(critical);
    extension
}

/// Written by the model, because rcgen does not know every kind of name.
fn general_name(san: &San) -> Result<Vec<u8>, IssueError> {
    match san {
        San::Dns(text) | San::Email(text) | San::Uri(text) if !text.is_ascii() => {
            Err(IssueError::San(san.clone()))
        }
        San::Other(der) if !splice::is_one_element(der) => Err(IssueError::San(san.clone())),
        _ => Ok(san.general_name()),
    }
}

fn extended_usage(usage: &ExtendedUsage) -> Result<ExtendedKeyUsagePurpose, IssueError> {
    Ok(match usage {
        ExtendedUsage::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedUsage::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedUsage::Other(text) => ExtendedKeyUsagePurpose::Other(
            oid::arcs(text).ok_or_else(|| IssueError::ExtendedUsage(text.clone()))?,
        ),
    })
}

const USAGES: [(KeyUsages, KeyUsagePurpose); 9] = [
    (KeyUsages::DIGITAL_SIGNATURE, KeyUsagePurpose::DigitalSignature),
    (KeyUsages::NON_REPUDIATION, KeyUsagePurpose::ContentCommitment),
    (KeyUsages::KEY_ENCIPHERMENT, KeyUsagePurpose::KeyEncipherment),
    (KeyUsages::DATA_ENCIPHERMENT, KeyUsagePurpose::DataEncipherment),
    (KeyUsages::KEY_AGREEMENT, KeyUsagePurpose::KeyAgreement),
    (KeyUsages::CERT_SIGN, KeyUsagePurpose::KeyCertSign),
    (KeyUsages::CRL_SIGN, KeyUsagePurpose::CrlSign),
    (KeyUsages::ENCIPHER_ONLY, KeyUsagePurpose::EncipherOnly),
    (KeyUsages::DECIPHER_ONLY, KeyUsagePurpose::DecipherOnly),
];

/// The subject key identifier: SHA-256 of the key's bits, cut to 20 octets (RFC 7093, method 1), as Go 1.26
/// makes it.
fn key_identifier(key: &PublicKey) -> [u8; 20] {
    let digest = crypto::sha256(key.bits());
    let mut out = [0; 20];
    out.copy_from_slice(&digest[..20]);
    out
}

/// A random serial number of exactly 20 octets (RFC 5280, 4.1.2.2): the top bit is clear, so it is positive;
/// the next is set, so it is neither zero nor shorter. 158 bits are random.
fn serial() -> Result<[u8; 20], CryptoError> {
    let mut serial = [0; 20];
    crypto::random(&mut serial)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn layout(error: rcgen::Error) -> IssueError {
    IssueError::Layout(error.to_string())
}

/// Stands in for the keys while rcgen lays out a certificate. It signs nothing.
struct Placeholder;

impl PublicKeyData for Placeholder {
    fn der_bytes(&self) -> &[u8] {
        &[]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for Placeholder {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}
