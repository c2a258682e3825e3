//! What a PKCS#10 request asks for, read and not judged.

use crate::model::{algorithm::KeyAlgorithm, san::San};

/// id-at-commonName
const COMMON_NAME: &str = "2.5.4.3";
/// id-at-organizationName
const ORGANIZATION: &str = "2.5.4.10";

/// The content of a signing request whose sender has proven to hold the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContent {
    /// The subject's attributes, in their order.
    pub subject: Vec<SubjectAttribute>,
    /// Subject alternative names, in their order.
    pub sans: Vec<San>,
    /// All extensions that are asked for, the names' too.
    pub extensions: Vec<AskedExtension>,
    /// Attributes of the request that ask for no extensions, by their identifiers.
    pub attributes: Vec<String>,
    /// Whether the certificate is to be a CA's.
    pub asks_for_ca: bool,
    /// The key's algorithm, where the model knows it.
    pub algorithm: Option<KeyAlgorithm>,
    /// The same as people call it.
    pub key: String,
    /// The public key (SubjectPublicKeyInfo) as DER.
    pub public_key: Vec<u8>,
    /// Its SHA-256.
    pub key_digest: [u8; 32],
}

/// One attribute of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectAttribute {
    /// Its type, in dotted form.
    pub oid: String,
    /// Its value, where it is one of the string types that every reader takes alike: `PrintableString` and
    /// `UTF8String`.
    pub value: Option<String>,
}

/// An extension that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedExtension {
    /// Its identifier, in dotted form.
    pub oid: String,
    /// RFC 5280's name for it, or the identifier.
    pub label: String,
    /// Whether it is that of alternative names.
    pub is_names: bool,
}

/// Why nothing can be said of what is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnreadableRequest {
    /// More octets than any honest request has.
    TooLong(usize),
    /// Not one PEM block of a request and nothing else.
    NotOne(String),
    /// The block holds no request, or more than one.
    Malformed(String),
    /// The same attribute or extension twice: two readers may take different ones.
    Repeated(String),
    /// A key that nothing is proven with: its signature is not even looked at.
    WeakKey(String),
    /// Not signed with the key that it asks for, or with an algorithm that proves nothing.
    Unproven,
}

/// No certificate that Kubernetes verifies gains from more, and each check of a larger one is slower.
const LARGEST_RSA: u32 = 8192;
const SMALLEST_RSA: u32 = 2048;

/// Whether a key of this kind may be in a certificate.
pub fn is_strong(algorithm: Option<KeyAlgorithm>) -> bool {
    match algorithm {
        Some(KeyAlgorithm::Rsa(bits)) => (SMALLEST_RSA..=LARGEST_RSA).contains(&bits),
        Some(
            KeyAlgorithm::EcdsaP256
            | KeyAlgorithm::EcdsaP384
            | KeyAlgorithm::EcdsaP521
            | KeyAlgorithm::Ed25519,
        ) => true,
        None => false,
    }
}

impl RequestContent {
    /// The common name, where there is exactly one.
    pub fn common_name(&self) -> Option<&str> {
        let mut names = self.values(COMMON_NAME);
        let name = names.next()?;
        names.next().is_none().then_some(name?)
    }

    /// The organizations; one that cannot be read is none.
    pub fn organizations(&self) -> Vec<Option<&str>> {
        self.values(ORGANIZATION).collect()
    }

    /// Attributes of the subject that are neither.
    pub fn other_subject_attributes(&self) -> impl Iterator<Item = &SubjectAttribute> {
        self.subject.iter().filter(|a| a.oid != COMMON_NAME && a.oid != ORGANIZATION)
    }

    fn values(&self, oid: &str) -> impl Iterator<Item = Option<&str>> {
        self.subject.iter().filter(move |a| a.oid == oid).map(|a| a.value.as_deref())
    }
}
