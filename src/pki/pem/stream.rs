//! Certificates out of PEM of any length, one block at a time: what a block of ten thousand holds wrong is
//! told of that block, and memory is one block's.

use std::io::{self, BufRead, Read as _};

use super::{BEGIN, Block, DASHES, END, PemError, Section};

/// More text than a certificate's block ever has.
const BLOCK: usize = 1 << 20;
/// More than a line with a marker has; the rest of a longer line outside a block is passed over.
const LINE: usize = 4096;

/// Reads one certificate after the other.
pub struct Certificates<R> {
    input: R,
    /// The line last read.
    line: usize,
    /// The text of the block that is open.
    text: Vec<u8>,
    /// A BEGIN marker that closed an unfinished block.
    pending: Option<Vec<u8>>,
    /// Labels that were passed over, each once.
    others: Vec<String>,
    any: bool,
}

impl<R: BufRead> Certificates<R> {
    /// Reads from the beginning of `input`.
    pub fn new(input: R) -> Self {
        Self { input, line: 0, text: Vec::new(), pending: None, others: Vec::new(), any: false }
    }

    /// The next certificate's DER, or what is wrong with a block; then nothing, or an error if there was no
    /// certificate at all.
    pub fn next_der(&mut self) -> io::Result<Option<Result<Vec<u8>, PemError>>> {
        loop {
            let mut line = Vec::new();
            match self.pending.take() {
                Some(pending) => line = pending,
                None if !self.read_line(&mut line, LINE)? => return Ok(self.end()),
                None => {}
            }
            let number = self.line;
            let trimmed = line.trim_ascii_end();
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
            self.text.extend_from_slice(&line);
            match self.block(&label, number)? {
                Some(result) => {
                    self.any = true;
                    return Ok(Some(result));
                }
                None if self.others.len() < 8 && !self.others.contains(&label) => {
                    self.others.push(label);
                }
                None => {}
            }
        }
    }

    /// Reads to the END marker and decodes, if the label is a certificate's.
    fn block(&mut self, label: &str, line: usize) -> io::Result<Option<Result<Vec<u8>, PemError>>> {
        let wanted = is_certificate(label);
        loop {
            let start = self.text.len();
            let mut text = std::mem::take(&mut self.text);
            let more = self.read_line(&mut text, BLOCK)?;
            self.text = text;
            let last = self.text[start..].trim_ascii_end();
            if !more || last.starts_with(BEGIN) {
                if more {
                    self.pending = Some(self.text[start..].to_vec());
                }
                return Ok(Some(Err(PemError::NoEnd { label: label.to_owned(), line })));
            }
            if last.strip_prefix(END).and_then(|rest| rest.strip_suffix(DASHES))
                == Some(label.as_bytes())
            {
                break;
            }
            if self.text.len() >= BLOCK {
                return Ok(Some(Err(PemError::NoEnd { label: label.to_owned(), line })));
            }
            if !wanted {
                self.text.clear();
            }
        }
        if !wanted {
            return Ok(None);
        }
        let section = Section { label, line, text: &self.text, encrypted: false };
        Ok(match section.decode() {
            Ok(Block::Certificate(der)) => Some(Ok(der)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn end(&mut self) -> Option<Result<Vec<u8>, PemError>> {
        if std::mem::replace(&mut self.any, true) {
            return None;
        }
        Some(Err(match self.others.is_empty() {
            true => PemError::NoBlock,
            false => PemError::NoCertificate { found: self.others.join(", ") },
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
