//! Replacing blocks of a PEM file, and nothing else in it.

use std::ops::Range;

use zeroize::Zeroizing;

use super::{Label, PemError, Section, sections};

/// What stands in a file instead of what is there. Each text is whole blocks.
#[derive(Clone, Copy, Default)]
pub struct PemReplacement<'a> {
    /// For the first certificate.
    pub certificate: Option<&'a str>,
    /// For every certificate after it.
    pub chain: Option<&'a str>,
    /// For the first private key.
    pub key: Option<&'a str>,
}

/// The file with blocks replaced and every other octet as it was: other blocks, comments, line ends. Only what openssl
/// writes before a certificate to say what is in it goes with that certificate, as it would be false.
pub fn replace(bytes: &[u8], new: &PemReplacement<'_>) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let sections = sections(bytes)?;
    let missing = || {
        let found = sections.iter().map(|section| Label::new(section.label));
        PemError::NoCertificate { found: Label::list(found) }
    };
    let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
    let mut certificates = sections.iter().enumerate().filter(|(_, s)| s.label == "CERTIFICATE");
    let first = certificates.next();
    if let Some(text) = new.certificate {
        let (at, _) = first.ok_or_else(missing)?;
        edits.push((described(bytes, &sections, at), text));
    }
    if let (Some(text), Some((at, _))) = (new.chain, first) {
        let end = sections[at].range().end;
        edits.push((end..end, text));
        edits.extend(certificates.map(|(at, _)| (described(bytes, &sections, at), "")));
    }
    if let Some(text) = new.key {
        let key = sections.iter().find(|section| section.label.ends_with("PRIVATE KEY"));
        edits.push((key.ok_or_else(missing)?.range(), text));
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let crlf = sections.first().is_some_and(|section| section.text.ends_with(b"\r\n"));
    let room = bytes.len() + edits.iter().map(|(_, text)| text.len() * 2).sum::<usize>();
    // Of its full size at once: a buffer that grows leaves copies of the key behind.
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    let mut at = 0;
    for (range, text) in edits {
        out.extend_from_slice(&bytes[at..range.start]);
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n').filter(|_| crlf) {
                Some(line) => {
                    out.extend_from_slice(line.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                None => out.extend_from_slice(line.as_bytes()),
            }
        }
        at = range.end;
    }
    out.extend_from_slice(&bytes[at..]);
    Ok(out)
}

/// A certificate's block with openssl's description before it, if there is one.
fn described(bytes: &[u8], sections: &[Section<'_>], at: usize) -> Range<usize> {
    let Range { start, end } = sections[at].range();
    let from = if at == 0 { 0 } else { sections[at - 1].range().end };
    let mut line = from;
    for text in bytes[from..start].split_inclusive(|b| *b == b'\n') {
        // `openssl x509 -text`, and what `openssl ca` writes unless told otherwise.
        if text.trim_ascii_end() == b"Certificate:" {
            return line..end;
        }
        line += text.len();
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::{super::encode, *};

    fn block(label: &str, content: u8) -> String {
        encode(label, &[0x30, 3, 2, 1, content])
    }

    fn text(bytes: &[u8], new: &PemReplacement<'_>) -> String {
        String::from_utf8(replace(bytes, new).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn only_the_block_and_what_describes_it_change() {
        let (old, chain, key) =
            (block("CERTIFICATE", 1), block("CERTIFICATE", 2), block("EC PRIVATE KEY", 3));
        let (new, new_key) = (block("CERTIFICATE", 4), block("EC PRIVATE KEY", 5));
        let file = |a: &str, dump: &str, k: &str| {
            format!("# ours\n{k}\n# and\n{dump}{a}# its CA\n{chain}# end")
        };
        let dump = "Certificate:\n    Data:\n        Version: 3\n";
        let certificate = PemReplacement { certificate: Some(&new), ..PemReplacement::default() };
        let both = PemReplacement { key: Some(&new_key), ..certificate };
        let before = file(&old, dump, &key);
        assert_eq!(text(before.as_bytes(), &certificate), file(&new, "", &key));
        assert_eq!(text(before.as_bytes(), &both), file(&new, "", &new_key));
        let windows = |text: String| text.replace('\n', "\r\n");
        assert_eq!(text(windows(before).as_bytes(), &both), windows(file(&new, "", &new_key)));
    }

    #[test]
    fn another_chain_takes_the_place_of_the_one_that_follows() {
        let [leaf, one, two, new, other] = [1, 2, 3, 4, 5].map(|n| block("CERTIFICATE", n));
        let given = PemReplacement { certificate: Some(&new), chain: Some(&other), key: None };
        let file = format!("{leaf}{one}{two}");
        assert_eq!(text(file.as_bytes(), &given), format!("{new}{other}"));
        let none = PemReplacement { chain: Some(""), ..given };
        assert_eq!(text(file.as_bytes(), &none), new);
    }

    #[test]
    fn what_is_not_there_is_not_replaced() {
        let key = block("PRIVATE KEY", 1);
        let new = PemReplacement { certificate: Some("x"), ..PemReplacement::default() };
        assert!(matches!(
            replace(key.as_bytes(), &new),
            Err(PemError::NoCertificate { found }) if found == "PRIVATE KEY"
        ));
    }
}
