//! Distinguished names (RFC 5280, 4.1.2.4), kept as the bytes they are.
//!
//! Go compares issuer and subject byte for byte, so a name that was read is never rebuilt from its
//! parts: a `PrintableString` written back as a `UTF8String` would break the chain.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use super::{der, shown::steers};

/// A distinguished name: its DER, and a text for people. Two are equal if their bytes are; whether they say
/// the same is [`Name::is_written_otherwise`]'s and [`Name::matches`]'s question.
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
            .map(|o| format!("O={}", escaped(o)))
            .chain([format!("CN={}", escaped(common_name))])
            .collect::<Vec<_>>()
            .join(", ");
        Self { der: der::sequence(&rdns), text }
    }

    /// Whether both have the same values in the same order, to the letter, in whatever string type: the same
    /// user and groups to Kubernetes, which compares those exactly.
    pub fn is_written_otherwise(&self, other: &Self) -> bool {
        self.der == other.der || self.text == other.text
    }

    /// Whether both are the same name as RFC 5280, 7.1 compares names: whatever the string type, the case of
    /// letters, and the amount of white space. (The rarer normalizations of RFC 4518 are not made.)
    pub fn matches(&self, other: &Self) -> bool {
        self.is_written_otherwise(other) || folded(&self.text) == folded(&other.text)
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

/// A value as it stands in a name's text (RFC 4514, 2.4): characters that could make one part look like two,
/// or that steer a terminal, are escaped.
pub fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            ',' | '+' | '\\' => out.extend(['\\', c]),
            c if steers(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The parts of a name's text, in lower case and with single blanks. A comma inside a value is escaped, so
/// one that is not ends a part.
fn folded(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_escaped = false;
    for c in text.chars() {
        match c {
            ',' if !is_escaped => parts.push(String::new()),
            c => parts.last_mut().into_iter().for_each(|part| part.extend(c.to_lowercase())),
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    let fold = |part: String| {
        let (kind, value) = part.split_once('=').unwrap_or((&part, ""));
        let words: Vec<&str> = value.split_whitespace().collect();
        format!("{}={}", kind.trim(), words.join(" "))
    };
    parts.into_iter().map(fold).collect()
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
    fn names_match_whatever_the_string_type_the_case_and_the_blanks() {
        let name = |text: &str| Name::from_der(text.into(), text.into());
        let one = Name::new(&["Example  Org"], "Kube API, 1");
        for (text, exact, same) in [
            ("O=Example  Org, CN=Kube API\\, 1", true, true),
            ("O=example org, CN= kube  api\\,   1 ", false, true),
            ("O=Example Org, CN=Kube API\\, 2", false, false),
            ("O=ExampleOrg, CN=Kube API\\, 1", false, false),
            ("CN=Kube API\\, 1, O=Example  Org", false, false),
            ("OU=Example  Org, CN=Kube API\\, 1", false, false),
            // One value that looks like two parts is one.
            ("O=Example  Org\\, CN=Kube API\\, 1", false, false),
        ] {
            let other = name(text);
            assert_ne!(one, other, "bytes are never taken for others: {text}");
            assert_eq!(one.is_written_otherwise(&other), exact, "{text}");
            assert_eq!((one.matches(&other), other.matches(&one)), (same, same), "{text}");
        }
    }

    #[test]
    fn organizations_come_first_in_text_and_bytes() {
        let name = Name::new(&["system:nodes"], "system:node:cp1");
        assert_eq!(name.to_string(), "O=system:nodes, CN=system:node:cp1");
        assert_eq!(name.der()[11], 0x13);
    }
}
