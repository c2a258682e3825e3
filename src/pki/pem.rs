//! PEM (RFC 7468), the form of every key and certificate file. The one module that names
//! rustls-pemfile.
//!
//! rustls-pemfile passes over what it does not know without a word. A tool that watches certificates must
//! not, so the blocks are found here, each is decoded by itself, and whatever is not understood is an
//! error that says what it is. Text before, between and after blocks is allowed.

mod encode;
mod replace;
mod stream;

use std::{fmt, ops::Range};

use rustls_pemfile::Item;
use zeroize::{Zeroize, Zeroizing};

pub use encode::{encode, encode_secret};
pub use replace::{PemReplacement, replace};
pub use stream::{BlockForm, Certificates, StreamedBlock};

/// One block of a PEM file.
#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    /// `CERTIFICATE`: its DER.
    Certificate(Vec<u8>),
    /// `X509 CRL`: its DER.
    Crl(Vec<u8>),
    /// `CERTIFICATE REQUEST`: its DER.
    Csr(Vec<u8>),
    /// `PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY`.
    Key(KeyBlock),
    /// `PUBLIC KEY`: the DER of a SubjectPublicKeyInfo.
    PublicKey(Vec<u8>),
}

/// A private key block: what its label says it is, and its bytes, which are wiped when dropped.
#[derive(PartialEq, Eq)]
pub struct KeyBlock {
    /// What the label says.
    pub kind: KeyKind,
    /// The DER.
    pub der: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for KeyBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBlock({:?}, elided)", self.kind)
    }
}

/// The structure inside a private key block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `ENCRYPTED PRIVATE KEY`, PKCS#8 under a password.
    Encrypted,
    /// `RSA PRIVATE KEY`, PKCS#1.
    Pkcs1,
    /// `PRIVATE KEY`, PKCS#8.
    Pkcs8,
    /// `EC PRIVATE KEY`, SEC 1.
    Sec1,
}

/// A block's label as errors name it: one of those that programs write, or none. In a file that lost its line
/// breaks, what looks like a label goes on with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(&'static str);

impl Label {
    /// What programs write (RFC 7468, openssl's `pem.h`, OpenSSH).
    const KNOWN: [&'static str; 20] = [
        "ATTRIBUTE CERTIFICATE",
        "CERTIFICATE",
        "CERTIFICATE REQUEST",
        "CMS",
        "DH PARAMETERS",
        "DSA PRIVATE KEY",
        "EC PARAMETERS",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "NEW CERTIFICATE REQUEST",
        "OPENSSH PRIVATE KEY",
        "PKCS7",
        "PRIVATE KEY",
        "PUBLIC KEY",
        "RSA PRIVATE KEY",
        "RSA PUBLIC KEY",
        "TRUSTED CERTIFICATE",
        "X509 CERTIFICATE",
        "X509 CRL",
        "ANY PRIVATE KEY",
    ];

    /// The label, if it is one of those.
    pub fn new(text: &str) -> Self {
        Self(Self::KNOWN.into_iter().find(|known| *known == text).unwrap_or_default())
    }

    /// Labels one after the other, each once.
    fn list(labels: impl IntoIterator<Item = Self>) -> String {
        let mut texts: Vec<String> = Vec::new();
        for label in labels {
            let text = label.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts.join(", ")
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("something else"),
            known => f.write_str(known),
        }
    }
}

/// Why bytes are no PEM that can be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PemError {
    /// Bad base64.
    #[error("the {label} block at line {line} is not base64")]
    Base64 {
        /// The block's label.
        label: Label,
        /// The line of its BEGIN marker.
        line: usize,
    },
    /// DER instead of PEM.
    #[error("it contains no PEM block; it looks like DER (binary)")]
    Der,
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// A key under a password in the form openssl had before PKCS#8: one round of MD5 stands between the
    /// password and the key.
    #[error(
        "the {label} block at line {line} is encrypted in openssl's old form (DEK-Info); convert it: \
         openssl pkcs8 -topk8 -in FILE -out FILE.new"
    )]
    OldEncryption {
        /// The block's label.
        label: Label,
        /// The line of its BEGIN marker.
        line: usize,
    },
    /// A marker that Go, and so Kubernetes, would not see.
    #[error("line {line} holds a BEGIN marker that does not start the line or is cut short")]
    Marker {
        /// The line.
        line: usize,
    },
    /// No PEM at all.
    #[error("it contains no PEM block")]
    NoBlock,
    /// PEM without a certificate.
    #[error("it contains no CERTIFICATE block, only {found}")]
    NoCertificate {
        /// The labels that were found.
        found: String,
    },
    /// A block that is not closed.
    #[error("the {label} block that begins at line {line} has no END marker")]
    NoEnd {
        /// The block's label.
        label: Label,
        /// The line of its BEGIN marker.
        line: usize,
    },
    /// A label certkit does not know.
    #[error("the block at line {line} is labelled {label}, which certkit cannot read")]
    UnknownLabel {
        /// The label.
        label: Label,
        /// The line of its BEGIN marker.
        line: usize,
    },
}

impl PemError {
    /// Whether there is simply no certificate, rather than one that is broken.
    pub fn is_no_certificate(&self) -> bool {
        matches!(self, Self::Empty | Self::NoBlock | Self::NoCertificate { .. })
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Der => Some("openssl x509 -inform DER -in FILE -out FILE.crt".into()),
            Self::OldEncryption { .. } => Some(
                "openssl pkcs8 -topk8 -in FILE -out FILE.new keeps it encrypted, in the form certkit \
                 reads; openssl pkey -in FILE -out FILE.new writes it in clear"
                    .into(),
            ),
            Self::UnknownLabel { label: Label("TRUSTED CERTIFICATE"), .. } => {
                Some("openssl x509 -in FILE -out FILE.crt".into())
            }
            Self::Base64 { .. }
            | Self::Empty
            | Self::Marker { .. }
            | Self::NoBlock
            | Self::NoCertificate { .. }
            | Self::NoEnd { .. }
            | Self::UnknownLabel { .. } => None,
        }
    }
}

/// Reads every block. Unknown labels are errors; `EC PARAMETERS` and `DH PARAMETERS`,
/// which openssl writes before keys and which say nothing the key does not, are passed over.
pub fn read(bytes: &[u8]) -> Result<Vec<Block>, PemError> {
    sections(bytes)?
        .iter()
        .filter(|section| !section.is_parameters())
        .map(Section::decode)
        .collect()
}

/// Reads every certificate in order and passes over keys and other blocks; none at all is an error.
///
/// A label such as `TRUSTED CERTIFICATE` is an error too, for it is a certificate that Kubernetes would
/// not see.
pub fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let sections = sections(bytes)?;
    let mut certificates = Vec::new();
    for section in &sections {
        match section.label {
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {}
            label if label.ends_with("CERTIFICATE") => {
                if let Block::Certificate(der) = section.decode()? {
                    certificates.push(der);
                }
            }
            _ => {}
        }
    }
    if certificates.is_empty() {
        let labels = sections.iter().map(|section| Label::new(section.label));
        return Err(PemError::NoCertificate { found: Label::list(labels) });
    }
    Ok(certificates)
}

/// Reads the first private key, whatever stands around it.
pub fn first_key(bytes: &[u8]) -> Result<Option<KeyBlock>, PemError> {
    for section in sections(bytes)? {
        if section.label.ends_with("PRIVATE KEY")
            && let Block::Key(key) = section.decode()?
        {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// A block as it stands in the file: from its BEGIN to its END line.
struct Section<'a> {
    label: &'a str,
    line: usize,
    /// Where its text begins.
    start: usize,
    text: &'a [u8],
    encrypted: bool,
}

impl Section<'_> {
    /// Where it stands in the file.
    fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    fn is_parameters(&self) -> bool {
        matches!(self.label, "EC PARAMETERS" | "DH PARAMETERS")
    }

    fn decode(&self) -> Result<Block, PemError> {
        let (label, line) = (Label::new(self.label), self.line);
        if self.encrypted {
            return Err(PemError::OldEncryption { label, line });
        }
        if self.label == ENCRYPTED {
            return self.encrypted_key();
        }
        match rustls_pemfile::read_one_from_slice(self.text) {
            Err(_) => Err(PemError::Base64 { label, line }),
            Ok(None) => Err(PemError::UnknownLabel { label, line }),
            Ok(Some((item, _))) => block(item).ok_or(PemError::UnknownLabel { label, line }),
        }
    }
}

impl Section<'_> {
    /// rustls-pemfile passes over this label, so it is given the block under the one it has in clear.
    fn encrypted_key(&self) -> Result<Block, PemError> {
        let text = String::from_utf8_lossy(self.text).replace(ENCRYPTED, "PRIVATE KEY");
        let clear = Section { label: "PRIVATE KEY", text: text.as_bytes(), ..*self };
        match clear.decode() {
            Ok(Block::Key(key)) => Ok(Block::Key(KeyBlock { kind: KeyKind::Encrypted, ..key })),
            Ok(_) | Err(_) => {
                Err(PemError::Base64 { label: Label::new(self.label), line: self.line })
            }
        }
    }
}

fn block(item: Item) -> Option<Block> {
    // The crate's key types are not wiped when dropped, so they are wiped here once copied.
    let key = |kind, der: &[u8]| KeyBlock { kind, der: Zeroizing::new(der.to_vec()) };
    Some(match item {
        Item::X509Certificate(der) => Block::Certificate(der.to_vec()),
        Item::SubjectPublicKeyInfo(der) => Block::PublicKey(der.to_vec()),
        Item::Crl(der) => Block::Crl(der.to_vec()),
        Item::Csr(der) => Block::Csr(der.to_vec()),
        Item::Pkcs1Key(mut der) => {
            let block = key(KeyKind::Pkcs1, der.secret_pkcs1_der());
            der.zeroize();
            Block::Key(block)
        }
        Item::Pkcs8Key(mut der) => {
            let block = key(KeyKind::Pkcs8, der.secret_pkcs8_der());
            der.zeroize();
            Block::Key(block)
        }
        Item::Sec1Key(mut der) => {
            let block = key(KeyKind::Sec1, der.secret_sec1_der());
            der.zeroize();
            Block::Key(block)
        }
        _ => return None,
    })
}

/// The label of PKCS#8 under a password.
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Finds the blocks; there is at least one, or an error.
fn sections(bytes: &[u8]) -> Result<Vec<Section<'_>>, PemError> {
    let mut sections = Vec::new();
    let mut open: Option<(&str, usize, usize, bool)> = None;
    let mut start = 0;
    for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let number = index + 1;
        let begin = start;
        start += line.len();
        let line = line.trim_ascii_end();
        if let Some(rest) = line.strip_prefix(BEGIN) {
            if let Some((label, line, ..)) = open {
                return Err(PemError::NoEnd { label: Label::new(label), line });
            }
            let label = rest
                .strip_suffix(DASHES)
                .and_then(|label| str::from_utf8(label).ok())
                .filter(|label| label.chars().all(|c| c == ' ' || c.is_ascii_graphic()))
                .ok_or(PemError::Marker { line: number })?;
            open = Some((label, number, begin, false));
        } else if let Some((label, line_number, from, encrypted)) = &mut open {
            let end = line.strip_prefix(END).and_then(|rest| rest.strip_suffix(DASHES));
            if end == Some(label.as_bytes()) {
                let text = &bytes[*from..start];
                let (line, start, encrypted) = (*line_number, *from, *encrypted);
                sections.push(Section { label, line, start, text, encrypted });
                open = None;
            } else if line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED") {
                *encrypted = true;
            }
        } else if line.windows(BEGIN.len()).any(|window| window == BEGIN) {
            // An indented marker or one behind a byte order mark: Go passes over it.
            return Err(PemError::Marker { line: number });
        }
    }
    if let Some((label, line, ..)) = open {
        return Err(PemError::NoEnd { label: Label::new(label), line });
    }
    match sections.is_empty() {
        false => Ok(sections),
        true if bytes.trim_ascii().is_empty() => Err(PemError::Empty),
        // A SEQUENCE of 128 bytes or more, which every certificate and key but the smallest is.
        true if bytes[0] == 0x30 && bytes.get(1).is_some_and(|b| (0x81..=0x84).contains(b)) => {
            Err(PemError::Der)
        }
        true => Err(PemError::NoBlock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(label: &str) -> String {
        encode(label, &[0x30, 3, 2, 1, 5])
    }

    #[test]
    fn what_is_encoded_reads_back_at_every_length() {
        for length in 0..200 {
            let der: Vec<u8> = (0..length).map(|i| (i * 37 % 251) as u8).collect();
            let pem = encode("CERTIFICATE", &der);
            assert_eq!(pem.capacity(), pem.len(), "a secret would have been copied");
            assert!(pem.lines().all(|line| line.len() <= 64));
            assert_eq!(read(pem.as_bytes()), Ok(vec![Block::Certificate(der)]));
        }
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let open = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        let two = format!("{open}{}", sample("CERTIFICATE"));
        let cert = sample("CERTIFICATE");
        let no_end = |line| PemError::NoEnd { label: Label::new("CERTIFICATE"), line };
        for (text, error) in [
            ("", PemError::Empty),
            (" \r\n\t", PemError::Empty),
            ("hello", PemError::NoBlock),
            (open, no_end(1)),
            (&two, no_end(1)),
            (&format!("text\n{open}-----END KEY-----\n"), no_end(2)),
            (
                &cert.replace("MA", "!!"),
                PemError::Base64 { label: Label::new("CERTIFICATE"), line: 1 },
            ),
            (&format!("  {cert}"), PemError::Marker { line: 1 }),
            (&format!("\u{feff}{cert}"), PemError::Marker { line: 1 }),
            (&cert.replacen("E-----", "E---", 1), PemError::Marker { line: 1 }),
            (
                &sample("TRUSTED CERTIFICATE"),
                PemError::UnknownLabel { label: Label::new("TRUSTED CERTIFICATE"), line: 1 },
            ),
            (
                &sample("ENCRYPTED PRIVATE KEY").replace("MA", "!!"),
                PemError::Base64 { label: Label::new("ENCRYPTED PRIVATE KEY"), line: 1 },
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                PemError::OldEncryption { label: Label::new("RSA PRIVATE KEY"), line: 1 },
            ),
        ] {
            assert_eq!(read(text.as_bytes()), Err(error), "{text:?}");
        }
        assert_eq!(read(&[0x30, 0x82, 1, 2, 3]), Err(PemError::Der));
    }

    #[test]
    fn certificates_are_read_from_among_other_blocks() {
        let text = format!(
            "subject=x\r\n{}{}bag attributes\n{}{}",
            sample("EC PARAMETERS"),
            sample("CERTIFICATE").replace('\n', "\r\n"),
            sample("ENCRYPTED PRIVATE KEY"),
            sample("CERTIFICATE").trim_end(),
        );
        assert_eq!(certificates(text.as_bytes()).map(|c| c.len()), Ok(2));
        assert_eq!(
            certificates(sample("EC PRIVATE KEY").as_bytes()),
            Err(PemError::NoCertificate { found: "EC PRIVATE KEY".into() })
        );
        let mixed = sample("CERTIFICATE") + &sample("TRUSTED CERTIFICATE");
        assert!(matches!(
            certificates(mixed.as_bytes()),
            Err(PemError::UnknownLabel { line: 4, .. })
        ));
    }

    #[test]
    fn keys_are_not_shown() {
        let blocks = read(sample("PRIVATE KEY").as_bytes()).unwrap();
        assert_eq!(format!("{blocks:?}"), "[Key(KeyBlock(Pkcs8, elided))]");
    }
}
