//! A strict reader of DER elements (X.690), for what no crate hands out: the raw parts of
//! structures that are taken apart and put together again byte for byte.

/// Tag of an `INTEGER`.
pub const INTEGER: u8 = 0x02;
/// Tag of a `BIT STRING`.
pub const BIT_STRING: u8 = 0x03;
/// Tag of an `OCTET STRING`.
pub const OCTET_STRING: u8 = 0x04;

/// The bytes are no DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// One element: its tag, its content, and the whole of it.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    pub raw: &'a [u8],
}

/// Reads one element after the other.
#[derive(Clone, Copy, Debug)]
pub struct DerReader<'a> {
    rest: &'a [u8],
}

impl<'a> DerReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The content of the one element that `bytes` are, which must have this tag.
    pub fn only(bytes: &'a [u8], tag: u8) -> Result<&'a [u8], Malformed> {
        let mut reader = Self::new(bytes);
        let content = reader.expect(tag)?;
        reader.end()?;
        Ok(content)
    }

    /// The next element: one-byte tags and definite, minimal lengths only.
    pub fn element(&mut self) -> Result<Element<'a>, Malformed> {
        let (&tag, rest) = self.rest.split_first().ok_or(Malformed)?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (&first, rest) = rest.split_first().ok_or(Malformed)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) =
                    rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Malformed)?;
                let length = bytes.iter().fold(0usize, |sum, b| sum << 8 | usize::from(*b));
                if length < 0x80 || bytes[0] == 0 {
                    return Err(Malformed);
                }
                (length, rest)
            }
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        let raw = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Ok(Element { tag, content, raw })
    }

    /// The content of the next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let element = self.element()?;
        if element.tag == tag { Ok(element.content) } else { Err(Malformed) }
    }

    /// The content of the next element if it has this tag; otherwise nothing is read.
    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.rest.first() == Some(&tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// The bits of the next `BIT STRING`, which must be whole bytes.
    pub fn bits(&mut self) -> Result<&'a [u8], Malformed> {
        match self.expect(BIT_STRING)?.split_first() {
            Some((0, bits)) => Ok(bits),
            _ => Err(Malformed),
        }
    }

    /// All elements that are left.
    pub fn elements(mut self) -> Result<Vec<Element<'a>>, Malformed> {
        let mut elements = Vec::new();
        while !self.rest.is_empty() {
            elements.push(self.element()?);
        }
        Ok(elements)
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_minimal_definite_lengths_are_read() {
        assert_eq!(DerReader::only(&[4, 2, 7, 7], OCTET_STRING), Ok(&[7, 7][..]));
        for bad in [
            &[][..],
            &[4],
            &[4, 1],
            &[4, 0x81, 1, 7],
            &[4, 0x82, 0, 0x80],
            &[4, 0x80, 0, 0],
            &[4, 0x85, 0, 0, 0, 0, 1, 7],
            &[0x1f, 0x81, 1, 0],
            &[4, 1, 7, 7],
        ] {
            assert_eq!(DerReader::only(bad, OCTET_STRING), Err(Malformed), "{bad:?}");
        }
    }
}
