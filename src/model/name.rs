//! Distinguished names (RFC 5280, 4.1.2.4), kept as the bytes they are.
//!
//! Go compares issuer and subject byte for byte, so a name that was read is never rebuilt from its
//! parts: a `PrintableString` written back as a `UTF8String` would break the chain.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use super::der;

/// A distinguished name: its DER, and a text for people. Two are equal if their bytes are.
#[derive(Clone)]
pub struct Name {
    der: Vec<u8>,
    text: String,
}

impl Name {
    /// A name that was read from a certificate: its exact bytes and its RFC 4514-like text.
    pub fn from_der(der: Vec<u8>, text: String) -> Self {
        Self { der, text }
    }

    /// A name of organizations (Kubernetes groups) and a common name (the Kubernetes user).
    ///
    /// Encoded as Go's `pkix.Name` does it, so that kubeadm and certkit write the same bytes: all
    /// organizations in one relative distinguished name, then the common name; `PrintableString`
    /// where the characters allow it, else `UTF8String`.
    pub fn new(organizations: &[&str], common_name: &str) -> Self {
        let mut rdns = Vec::new();
        if !organizations.is_empty() {
            let mut set: Vec<Vec<u8>> =
                organizations.iter().map(|o| attribute(&ORGANIZATION, o)).collect();
            set.sort();
            rdns.push(der::tlv(der::SET, &set.concat()));
        }
        rdns.push(der::tlv(der::SET, &attribute(&COMMON_NAME, common_name)));
        let text = organizations
            .iter()
            .map(|o| format!("O={o}"))
            .chain([format!("CN={common_name}")])
            .collect::<Vec<_>>()
            .join(", ");
        Self { der: der::sequence(&rdns), text }
    }

    /// The DER of the whole `Name`.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.der.hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// id-at-organizationName, 2.5.4.10.
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];

fn attribute(oid: &[u8], value: &str) -> Vec<u8> {
    let tag =
        if value.bytes().all(is_printable) { der::PRINTABLE_STRING } else { der::UTF8_STRING };
    der::sequence(&[der::tlv(der::OID, oid), der::tlv(tag, value.as_bytes())])
}

/// X.680's PrintableString: letters, digits and these few marks.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_names_are_printable_strings() {
        let name = Name::new(&[], "kubernetes");
        assert_eq!(
            name.der()[..13],
            [0x30, 0x15, 0x31, 0x13, 0x30, 0x11, 6, 3, 0x55, 4, 3, 0x13, 10]
        );
    }

    #[test]
    fn an_at_sign_makes_it_utf8() {
        assert!(Name::new(&[], "a@b").der().contains(&der::UTF8_STRING));
    }

    #[test]
    fn organizations_come_first_in_text_and_bytes() {
        let name = Name::new(&["system:nodes"], "system:node:cp1");
        assert_eq!(name.to_string(), "O=system:nodes, CN=system:node:cp1");
        assert_eq!(name.der()[11], 0x13);
    }
}
