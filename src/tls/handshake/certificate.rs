//! The two facts of a certificate that rustls keeps to itself: its validity and its common name.
//!
//! A walk over the fixed beginning of a `TBSCertificate` (RFC 5280, 4.1); everything else about
//! certificates is read elsewhere, with a real parser.

use crate::model::{der, timestamp::Timestamp};

/// notBefore and notAfter.
pub fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, content) = Fields::of(certificate)?.validity;
    let (not_before, rest) = element(content)?;
    let (not_after, _) = element(rest)?;
    Some((time(not_before)?, time(not_after)?))
}

/// The last common name of the subject: the one Go's `pkix.Name` shows.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    /// id-at-commonName, 2.5.4.3.
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let (_, mut names) = Fields::of(certificate)?.subject;
    let mut found = None;
    while let Some(((_, mut set), more)) = element(names) {
        names = more;
        while let Some(((_, attribute), more)) = element(set) {
            set = more;
            let (oid, value) = element(attribute)?;
            if oid == (der::OID, COMMON_NAME) {
                let ((_, value), _) = element(value)?;
                found = Some(String::from_utf8_lossy(value).into_owned());
            }
        }
    }
    found
}

/// A tag and its content.
type Element<'a> = (u8, &'a [u8]);

struct Fields<'a> {
    validity: Element<'a>,
    subject: Element<'a>,
}

impl<'a> Fields<'a> {
    fn of(certificate: &'a [u8]) -> Option<Self> {
        /// The explicit tag of `version`, which a version 1 certificate leaves out.
        const VERSION: u8 = 0xa0;
        let ((_, certificate), _) = element(certificate)?;
        let ((_, tbs), _) = element(certificate)?;
        let (first, rest) = element(tbs)?;
        let rest = if first.0 == VERSION { element(rest)?.1 } else { rest };
        let (_algorithm, rest) = element(rest)?;
        let (_issuer, rest) = element(rest)?;
        let (validity, rest) = element(rest)?;
        let (subject, _) = element(rest)?;
        Some(Self { validity, subject })
    }
}

/// The first element, and what follows it.
fn element(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 4 {
            return None;
        }
        length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some(((tag, content), rest))
}

/// `UTCTime` YYMMDDHHMMSSZ, where 50 and above is 19YY (RFC 5280, 4.1.2.5.1), or `GeneralizedTime`.
fn time((tag, content): Element<'_>) -> Option<Timestamp> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let digits = match tag {
        UTC_TIME if text.get(..2)? >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| &digits[range];
    let (date, clock) = ((part(0..4), part(4..6), part(6..8)), (part(8..10), part(10..12)));
    format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, clock.0, clock.1, part(12..14))
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tag: u8, text: &str) -> Option<String> {
        time((tag, text.as_bytes())).map(|t| t.to_string())
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        assert_eq!(shown(0x17, "491231235959Z").unwrap(), "2049-12-31T23:59:59Z");
        assert_eq!(shown(0x17, "500101000000Z").unwrap(), "1950-01-01T00:00:00Z");
        assert_eq!(shown(0x18, "99991231235959Z").unwrap(), "9999-12-31T23:59:59Z");
        for bad in ["", "Z", "4912312359Z", "491331235959Z", "4912312359x9Z", "491231235959"] {
            assert_eq!(shown(0x17, bad), None, "{bad}");
        }
    }

    #[test]
    fn cut_off_input_is_refused() {
        for bad in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 5, 0], &[0x30, 0x85, 1, 1, 1, 1, 1]] {
            assert_eq!(validity(bad), None);
            assert_eq!(common_name(bad), None);
        }
    }
}
