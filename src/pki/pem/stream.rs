//! Certificates out of PEM of any length, one block at a time: what a block of ten thousand holds wrong is
//! told of that block, and memory is one block's.

use std::io::{self, BufRead, Read as _};

use super::{BEGIN, Block, DASHES, END, Label, PemError, Section};

/// More text than a certificate's block ever has.
const BLOCK: usize = 1 << 20;
/// What Windows' editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// More than a line with a marker has; the rest of a longer line outside a block is passed over.
const LINE: usize = 4096;

/// Reads one certificate after the other.
pub struct Certificates<R> {
    input: R,
    /// Whether what only other programs than Kubernetes' read is read as well.
    any_form: bool,
    /// The line last read.
    line: usize,
    /// The text of the block that is open.
    text: Vec<u8>,
    /// A BEGIN marker that closed an unfinished block.
    pending: Option<Vec<u8>>,
    /// Labels that were passed over, each once.
    others: Vec<Label>,
    any: bool,
}

/// A block that holds certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamedBlock {
    /// What its label says.
    pub form: BlockForm,
    /// Whether something stands before its markers, so that Go, and so Kubernetes, does not see them.
    pub indented: bool,
    /// Its content.
    pub der: Vec<u8>,
}

/// The forms of a block that holds certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockForm {
    /// One certificate, as every program reads it.
    Certificate,
    /// `PKCS7` or `CMS`: any number of them.
    Pkcs7,
    /// `TRUSTED CERTIFICATE`: one, and after it what openssl trusts it for.
    Trusted,
    /// `X509 CERTIFICATE`, as openssl once wrote it.
    X509,
}

impl BlockForm {
    fn of(label: &str) -> Option<Self> {
        Some(match label {
            "CERTIFICATE" => Self::Certificate,
            "CMS" | "PKCS #7 SIGNED DATA" | "PKCS7" => Self::Pkcs7,
            "TRUSTED CERTIFICATE" => Self::Trusted,
            "X509 CERTIFICATE" => Self::X509,
            _ => return None,
        })
    }
}

impl<R: BufRead> Certificates<R> {
    /// Reads from the beginning of `input` what Kubernetes would read there; what it would not is an error.
    pub fn new(input: R) -> Self {
        Self {
            input,
            any_form: false,
            line: 0,
            text: Vec::new(),
            pending: None,
            others: Vec::new(),
            any: false,
        }
    }

    /// Reads every form of certificate that some program reads: indented, behind a byte order mark, with the
    /// labels that openssl knows.
    pub fn in_any_form(input: R) -> Self {
        Self { any_form: true, ..Self::new(input) }
    }

    /// The next certificate's DER, or what is wrong with a block; then nothing, or an error if there was no
    /// certificate at all.
    pub fn next_der(&mut self) -> io::Result<Option<Result<Vec<u8>, PemError>>> {
        Ok(self.next_found()?.map(|found| found.map(|found| found.der)))
    }

    /// The same with the form it has.
    pub fn next_found(&mut self) -> io::Result<Option<Result<StreamedBlock, PemError>>> {
        loop {
            let mut line = Vec::new();
            match self.pending.take() {
                Some(pending) => line = pending,
                None if !self.read_line(&mut line, LINE)? => return Ok(self.end()),
                None => {}
            }
            let number = self.line;
            let trimmed = self.trim(&line);
            let indented = !line.starts_with(trimmed);
            let Some(rest) = trimmed.strip_prefix(BEGIN) else {
                if trimmed.windows(BEGIN.len()).any(|window| window == BEGIN) {
                    self.any = true;
                    return Ok(Some(Err(PemError::Marker { line: number })));
                }
                continue;
            };
            let Some(label) = label(rest).map(str::to_owned) else {
                self.any = true;
                return Ok(Some(Err(PemError::Marker { line: number })));
            };
            self.text.clear();
            match self.block(&label, number)? {
                Some(result) => {
                    self.any = true;
                    return Ok(Some(result.map(|found| StreamedBlock { indented, ..found })));
                }
                None if self.others.contains(&Label::new(&label)) => {}
                None => self.others.push(Label::new(&label)),
            }
        }
    }

    /// A line as it counts.
    fn trim<'l>(&self, line: &'l [u8]) -> &'l [u8] {
        match self.any_form {
            true => {
                let line = line.trim_ascii();
                line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
            }
            false => line.trim_ascii_end(),
        }
    }

    /// Reads to the END marker and decodes, if the label is a certificate's.
    fn block(
        &mut self,
        label: &str,
        line: usize,
    ) -> io::Result<Option<Result<StreamedBlock, PemError>>> {
        let form = match self.any_form {
            true => BlockForm::of(label),
            false => Some(BlockForm::Certificate).filter(|_| label == "CERTIFICATE"),
        };
        let wanted = form.is_some() || is_certificate(label);
        // In any form the text is put together anew, so that its decoder finds what it knows.
        let label_read = if form.is_some() { "CERTIFICATE" } else { label };
        if wanted {
            self.text.extend_from_slice(format!("-----BEGIN {label_read}-----\n").as_bytes());
        }
        loop {
            let start = self.text.len();
            let mut text = std::mem::take(&mut self.text);
            let more = self.read_line(&mut text, BLOCK)?;
            self.text = text;
            let last = self.trim(&self.text[start..]);
            if !more || last.starts_with(BEGIN) {
                if more {
                    self.pending = Some(self.text[start..].to_vec());
                }
                return Ok(Some(Err(PemError::NoEnd { label: Label::new(label), line })));
            }
            if last.strip_prefix(END).and_then(|rest| rest.strip_suffix(DASHES))
                == Some(label.as_bytes())
            {
                self.text.truncate(start);
                break;
            }
            if self.text.len() >= BLOCK {
                return Ok(Some(Err(PemError::NoEnd { label: Label::new(label), line })));
            }
            if !wanted {
                self.text.clear();
            } else if self.any_form && !self.text[start..].starts_with(last) {
                let bare = last.to_vec();
                self.text.truncate(start);
                self.text.extend_from_slice(&bare);
                self.text.push(b'\n');
            }
        }
        if !wanted {
            return Ok(None);
        }
        self.text.extend_from_slice(format!("-----END {label_read}-----\n").as_bytes());
        let section =
            Section { label: label_read, line, start: 0, text: &self.text, encrypted: false };
        Ok(match (section.decode(), form) {
            (Ok(Block::Certificate(der)), Some(form)) => {
                Some(Ok(StreamedBlock { form, indented: false, der }))
            }
            (Ok(_), _) => None,
            (Err(PemError::Base64 { line, .. }), _) => {
                Some(Err(PemError::Base64 { label: Label::new(label), line }))
            }
            (Err(error), _) => Some(Err(error)),
        })
    }

    fn end(&mut self) -> Option<Result<StreamedBlock, PemError>> {
        if std::mem::replace(&mut self.any, true) {
            return None;
        }
        Some(Err(match self.others.is_empty() {
            true => PemError::NoBlock,
            false => PemError::NoCertificate { found: Label::list(self.others.drain(..)) },
        }))
    }

    /// Appends the next line, at most `limit` octets of it; the rest is passed over. False at the end.
    fn read_line(&mut self, line: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
        let room = limit.saturating_sub(line.len()).max(1);
        let read = (&mut self.input).take(room as u64).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(false);
        }
        if read == room && line.last() != Some(&b'\n') {
            self.input.skip_until(b'\n')?;
        }
        self.line += 1;
        Ok(true)
    }
}

fn label(rest: &[u8]) -> Option<&str> {
    rest.strip_suffix(DASHES)
        .and_then(|label| str::from_utf8(label).ok())
        .filter(|label| label.chars().all(|c| c == ' ' || c.is_ascii_graphic()))
}

fn is_certificate(label: &str) -> bool {
    label.ends_with("CERTIFICATE")
        && !matches!(label, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST")
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::pki::pem::encode;

    fn all(text: &[u8]) -> Vec<Result<Vec<u8>, PemError>> {
        // A buffer of five octets cuts every line somewhere.
        let mut stream = Certificates::new(BufReader::with_capacity(5, text));
        let mut found = Vec::new();
        while let Some(next) = stream.next_der().unwrap() {
            found.push(next);
        }
        found
    }

    #[test]
    fn one_bad_block_leaves_the_others() {
        let good = encode("CERTIFICATE", &[0x30, 3, 2, 1, 5]);
        let bad = good.replace("MA", "!!");
        let key = encode("PRIVATE KEY", &[1; 100]);
        let open = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        let text = format!("x\n{good}{bad}{key}{open}{good}  {good}");
        let found = all(text.as_bytes());
        let lines: Vec<Option<usize>> = found
            .iter()
            .map(|r| match r {
                Ok(_) => None,
                Err(PemError::Base64 { line, .. })
                | Err(PemError::NoEnd { line, .. })
                | Err(PemError::Marker { line }) => Some(*line),
                Err(other) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lines, [None, Some(5), Some(13), None, Some(18)]);
    }

    #[test]
    fn other_programs_forms_are_read_where_they_are_wanted() {
        let plain = encode("CERTIFICATE", &[0x30, 3, 2, 1, 5]);
        let indented: String = plain.lines().map(|line| format!("    {line}\r\n")).collect();
        let text = format!(
            "\u{feff}{plain}{}ca: |\n{indented}{}{}{plain}",
            plain.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
            plain.replace("CERTIFICATE", "PKCS7"),
            plain.replace("CERTIFICATE", "X509 CERTIFICATE"),
        );
        let mut stream = Certificates::in_any_form(BufReader::with_capacity(5, text.as_bytes()));
        let mut found = Vec::new();
        while let Some(next) = stream.next_found().unwrap() {
            let next = next.unwrap();
            assert_eq!(next.der, [0x30, 3, 2, 1, 5]);
            found.push((next.form, next.indented));
        }
        assert_eq!(
            found,
            [
                (BlockForm::Certificate, true),
                (BlockForm::Trusted, false),
                (BlockForm::Certificate, true),
                (BlockForm::Pkcs7, false),
                (BlockForm::X509, false),
                (BlockForm::Certificate, false),
            ]
        );
        // Kubernetes sees the last one only: what it does not see is an error each.
        let errors = all(text.as_bytes()).iter().filter(|r| r.is_err()).count();
        assert_eq!((errors, all(text.as_bytes()).len()), (4, 5));
    }

    #[test]
    fn no_certificate_is_said_once() {
        assert_eq!(all(b"hello"), [Err(PemError::NoBlock)]);
        let key = encode("PRIVATE KEY", &[1; 100]);
        assert_eq!(
            all(key.as_bytes()),
            [Err(PemError::NoCertificate { found: "PRIVATE KEY".into() })]
        );
    }

    #[test]
    fn memory_is_bounded_without_newlines_and_without_end() {
        let mut text = vec![b'A'; 3 * BLOCK];
        assert_eq!(all(&text), [Err(PemError::NoBlock)]);
        text.splice(0..0, b"-----BEGIN CERTIFICATE-----\n".iter().copied());
        let mut stream = Certificates::new(&text[..]);
        assert!(matches!(stream.next_der().unwrap(), Some(Err(PemError::NoEnd { .. }))));
        assert!(stream.text.capacity() <= 2 * BLOCK);
    }
}
