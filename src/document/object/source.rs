//! The octets objects come from, counted.

use std::{
    cell::{Cell, RefCell},
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

/// How many octets one item may have as text. etcd refuses objects of more than 1.5 MiB.
pub(super) const ITEM: u64 = 8 << 20;

/// The first octet that is neither blank nor part of a byte order mark, left unread.
pub(super) fn skip_blanks(source: &mut impl BufRead) -> io::Result<Option<u8>> {
    const BLANK: [u8; 7] = [b' ', b'\t', b'\n', b'\r', 0xef, 0xbb, 0xbf];
    loop {
        let buffer = source.fill_buf()?;
        let Some(first) = buffer.first().copied() else { return Ok(None) };
        match buffer.iter().take_while(|octet| BLANK.contains(octet)).count() {
            // Indentation counts in YAML, so blanks that do not end in a line break stay.
            0 => return Ok(Some(first)),
            blanks => {
                let lines = buffer[..blanks].iter().rposition(|octet| *octet != b' ');
                match lines {
                    Some(end) => source.consume(end + 1),
                    None => return Ok(buffer.get(blanks).copied().or(Some(b' '))),
                }
            }
        }
    }
}

/// How much was read since the last item, and why reading stopped.
#[derive(Clone, Default)]
pub(super) struct Meter {
    pub octets: Rc<Cell<u64>>,
    pub failure: Rc<RefCell<Option<io::Error>>>,
}

impl Meter {
    /// Counts what was read; an error once it is more than an item may have.
    fn count(&self, octets: usize) -> io::Result<()> {
        self.octets.set(self.octets.get() + octets as u64);
        match self.octets.get() > ITEM {
            true => {
                Err(self
                    .fail(io::Error::other(format!("one item is larger than {} MiB", ITEM >> 20))))
            }
            false => Ok(()),
        }
    }

    /// Keeps the error, since parsers hand on no more than its text.
    fn fail(&self, error: io::Error) -> io::Error {
        let copy = io::Error::new(error.kind(), error.to_string());
        self.failure.replace(Some(error));
        copy
    }
}

/// A source under a [`Meter`].
pub(super) struct Metered<R> {
    pub source: BufReader<R>,
    pub meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => self.meter.fail(error),
        })?;
        self.meter.count(read)?;
        Ok(read)
    }
}

impl<R: Read> Iterator for Metered<R> {
    type Item = io::Result<char>;

    /// The next character. Nothing that is not UTF-8 is let through.
    fn next(&mut self) -> Option<Self::Item> {
        let mut octets = [0; 4];
        for length in 1..=4 {
            match self.read_one() {
                Err(error) => return Some(Err(error)),
                Ok(None) if length == 1 => return None,
                Ok(None) => break,
                Ok(Some(octet)) if length == 1 && octet.is_ascii() => {
                    return Some(Ok(octet.into()));
                }
                Ok(Some(octet)) => octets[length - 1] = octet,
            }
            match std::str::from_utf8(&octets[..length]) {
                Ok(text) => return text.chars().next().map(Ok),
                Err(error) if error.error_len().is_some() => break,
                Err(_) => {}
            }
        }
        Some(Err(io::Error::new(io::ErrorKind::InvalidData, "this is not UTF-8")))
    }
}

impl<R: Read> Metered<R> {
    fn read_one(&mut self) -> io::Result<Option<u8>> {
        let octet = loop {
            match self.source.fill_buf() {
                Ok(buffer) => break buffer.first().copied(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.meter.fail(error)),
            }
        };
        if octet.is_some() {
            self.source.consume(1);
            self.meter.count(1)?;
        }
        Ok(octet)
    }
}
