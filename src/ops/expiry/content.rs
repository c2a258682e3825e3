//! What octets are, by their beginning and by the name of the file they are in.

use std::{borrow::Cow, path::Path};

use super::contains;
use crate::{
    document::object,
    model::catalogue::{CERTIFICATES, Home},
};

/// What octets seem to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// DER: a certificate, PKCS#7, PKCS#12, a key.
    Der,
    /// A kubeconfig.
    Kubeconfig,
    /// Java's own key store.
    Jks,
    /// Nothing that may hold certificates.
    Nothing,
    /// Kubernetes' objects, or other JSON.
    Objects,
    /// PEM among other text.
    Pem,
}

/// What is expected of a file: what it must hold, or is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// Nothing: a text about certificates, whose examples may be broken.
    Nothing,
    /// Nothing, but what looks like a certificate must be one.
    Sound,
    /// Something of a PKI, a key perhaps.
    Pki,
    /// Certificates, by its name.
    Certificates,
    /// Certificates, for it was named.
    Named,
}

/// Names that promise certificates.
const CERTIFICATES_IN: [&str; 15] = [
    "bks",
    "ca-bundle",
    "cer",
    "cert",
    "crt",
    "jceks",
    "jks",
    "keystore",
    "kubeconfig",
    "p12",
    "p7b",
    "p7c",
    "pfx",
    "pkcs12",
    "truststore",
];
/// Names that promise something of a PKI.
const PKI_IN: [&str; 2] = ["der", "pem"];
/// Texts that people and programs read, certificates in them being examples.
const PROSE: [&str; 22] = [
    "adoc", "bash", "c", "cpp", "go", "h", "htm", "html", "java", "js", "log", "markdown", "md",
    "php", "pl", "py", "rb", "rs", "rst", "sh", "ts", "zsh",
];

impl Demand {
    /// By the name of a file that was met in a folder.
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let end = name.rsplit_once('.').map(|(_, end)| end).unwrap_or(&name);
        let is = |names: &[&str]| names.contains(&end);
        if is(&CERTIFICATES_IN) || is_kubeconfig_of_a_cluster(&name) {
            Self::Certificates
        } else if is(&PKI_IN) {
            Self::Pki
        } else if is(&PROSE) || name.starts_with("readme") || name.starts_with("changelog") {
            Self::Nothing
        } else {
            Self::Sound
        }
    }

    /// Whether a file with nothing in it is told: what is cut to nothing may have been anything, and only the
    /// name is left to say what.
    pub fn tells_empty(self, path: &Path) -> bool {
        self >= Self::Pki || path.extension().is_some_and(|end| end.eq_ignore_ascii_case("conf"))
    }
}

fn is_kubeconfig_of_a_cluster(name: &str) -> bool {
    CERTIFICATES
        .iter()
        .any(|spec| matches!(spec.home, Home::Kubeconfig { file, .. } if file == name))
}

/// What octets that begin like this are; `whole` if this is all of them. A YAML file may have PEM inside, so
/// it comes first.
pub fn sniff(head: &[u8], whole: bool, demand: Demand) -> ContentKind {
    if looks_like_der(head) {
        return ContentKind::Der;
    }
    if head.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || head.starts_with(&[0xce, 0xce, 0xce, 0xce]) {
        return ContentKind::Jks;
    }
    if head.starts_with(b"-----BEGIN ") {
        return ContentKind::Pem;
    }
    if is_kubeconfig(head) {
        return ContentKind::Kubeconfig;
    }
    if object::looks_like_secret(head) || object::looks_like_objects(head, whole) {
        return ContentKind::Objects;
    }
    // A program may well have the marker among its texts.
    match contains(head, b"-----BEGIN ") && (!head.contains(&0) || demand >= Demand::Pki) {
        true => ContentKind::Pem,
        false => ContentKind::Nothing,
    }
}

/// A SEQUENCE of 128 octets or more, which everything here is but toys; or one of a length that BER leaves
/// open.
fn looks_like_der(head: &[u8]) -> bool {
    head[0] == 0x30 && head.get(1).is_some_and(|b| (0x80..=0x84).contains(b))
}

/// Whether DER that is no certificate begins as one: a SEQUENCE in a SEQUENCE, and in it the version.
pub fn begins_as_certificate(der: &[u8]) -> bool {
    const VERSION_3: &[u8] = &[0xa0, 0x03, 0x02, 0x01, 0x02];
    der.len() > 13
        && der[0] == 0x30
        && der[1] == 0x82
        && der[4] == 0x30
        && der[5] == 0x82
        && der[8..].starts_with(VERSION_3)
}

/// `kind: Config` of client-go, in YAML or JSON; without a kind, its lists.
fn is_kubeconfig(head: &[u8]) -> bool {
    if head.trim_ascii_start().starts_with(b"{") {
        let bare: Vec<u8> = head.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        return contains(&bare, b"\"kind\":\"Config\"");
    }
    let mut kind = false;
    let mut lists = 0;
    let mut other = false;
    for line in head.split(|b| *b == b'\n') {
        // What is indented is inside something else: a Secret may hold a kubeconfig.
        if line.first().is_none_or(|first| matches!(first, b' ' | b'\t' | b'-' | b'#')) {
            continue;
        }
        let Some(at) = line.iter().position(|b| *b == b':') else { continue };
        let unquoted = |text: &[u8]| {
            let text = text.trim_ascii();
            text.iter().copied().filter(|b| !matches!(b, b'"' | b'\'')).collect::<Vec<u8>>()
        };
        match (&unquoted(&line[..at])[..], &unquoted(&line[at + 1..])[..]) {
            (b"kind", b"Config") => kind = true,
            (b"kind" | b"items", _) => other = true,
            (b"clusters" | b"users" | b"contexts", _) => lists += 1,
            _ => {}
        }
    }
    !other && (kind || lists >= 2)
}

/// How a text is written, where it is not as everybody expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Behind a byte order mark.
    ByteOrderMark,
    /// With lines that end in CR alone.
    CarriageReturns,
    /// UTF-16, the smaller octet first.
    Utf16Le,
    /// UTF-16, the larger octet first.
    Utf16Be,
}

impl Encoding {
    /// Of a text that begins like this; nothing where it is as expected.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0xef, 0xbb, 0xbf, ..] => return Some(Self::ByteOrderMark),
            [0xff, 0xfe, ..] => return Some(Self::Utf16Le),
            [0xfe, 0xff, ..] => return Some(Self::Utf16Be),
            _ => {}
        }
        // Without its mark: ASCII, with a zero beside each character.
        let units = head.chunks_exact(2).take(32);
        let plain = |b: u8| (b' '..=b'~').contains(&b) || matches!(b, b'\t' | b'\n' | b'\r');
        if head.len() >= 8 && units.clone().all(|u| plain(u[0]) && u[1] == 0) {
            return Some(Self::Utf16Le);
        }
        if head.len() >= 8 && units.clone().all(|u| u[0] == 0 && plain(u[1])) {
            return Some(Self::Utf16Be);
        }
        let is_text = head.contains(&b'\r') && !head.contains(&b'\n') && !head.contains(&0);
        (is_text && !looks_like_der(head)).then_some(Self::CarriageReturns)
    }

    /// What it is, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::ByteOrderMark => "begins with a byte order mark",
            Self::CarriageReturns => "has lines that end in CR alone",
            Self::Utf16Le | Self::Utf16Be => "is UTF-16",
        }
    }

    /// The whole text as everybody expects it.
    pub fn plain(self, text: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::ByteOrderMark => {
                let text = &text[3..];
                match Self::of_lines(text) {
                    Some(lines) => Cow::Owned(lines.plain(text).into_owned()),
                    None => Cow::Borrowed(text),
                }
            }
            Self::CarriageReturns => {
                Cow::Owned(text.iter().map(|b| if *b == b'\r' { b'\n' } else { *b }).collect())
            }
            Self::Utf16Le => Cow::Owned(utf8(text, u16::from_le_bytes)),
            Self::Utf16Be => Cow::Owned(utf8(text, u16::from_be_bytes)),
        }
    }

    fn of_lines(text: &[u8]) -> Option<Self> {
        Self::of(text).filter(|encoding| *encoding == Self::CarriageReturns)
    }
}

/// UTF-16 as UTF-8, without its mark; its line ends are made plain as well.
fn utf8(text: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let units = text.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let text: String =
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).as_bytes();
    match Encoding::of_lines(text) {
        Some(lines) => lines.plain(text).into_owned(),
        None => text.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_of_a_text_is_the_text() {
        let text = "-----BEGIN CERTIFICATE-----\nMIIB\n";
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (octets, encoding) in [
            (text.replace('\n', "\r").into_bytes(), Encoding::CarriageReturns),
            ([b"\xef\xbb\xbf", text.as_bytes()].concat(), Encoding::ByteOrderMark),
            ([b"\xff\xfe", &le[..]].concat(), Encoding::Utf16Le),
            ([b"\xfe\xff", &be[..]].concat(), Encoding::Utf16Be),
            (le, Encoding::Utf16Le),
            (be, Encoding::Utf16Be),
        ] {
            assert_eq!(Encoding::of(&octets), Some(encoding));
            assert_eq!(&*encoding.plain(&octets), text.as_bytes(), "{encoding:?}");
        }
        assert_eq!(Encoding::of(text.as_bytes()), None);
        assert_eq!(Encoding::of(&[0x30, 0x82, 1, 13, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn names_say_what_a_file_must_hold() {
        for (name, demand) in [
            ("a.crt", Demand::Certificates),
            ("A.CER", Demand::Certificates),
            ("store.p12", Demand::Certificates),
            ("admin.conf", Demand::Certificates),
            ("nginx.conf", Demand::Sound),
            ("a.pem", Demand::Pki),
            ("a.key", Demand::Sound),
            ("certificate", Demand::Sound),
            ("README", Demand::Nothing),
            ("setup.sh", Demand::Nothing),
        ] {
            assert_eq!(Demand::of(Path::new(name)), demand, "{name}");
        }
    }
}
