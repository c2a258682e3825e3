//! Octets as people and records have them.

/// Octets in lower-case hexadecimal: a fleet has hundreds of thousands of digests and serial numbers.
pub fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        text.push(digit(octet >> 4));
        text.push(digit(octet & 15));
    }
    text
}

/// What [`hex`] writes, read again, in capitals too; nothing where it is anything else, or empty.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16);
    // Two digits are at most 255.
    text.as_bytes()
        .chunks(2)
        .map(|two| Some((digit(two[0])? * 16 + digit(two[1])?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_two_small_digits_each() {
        assert_eq!(hex(&[0, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(unhex("000FA5ff"), Some(vec![0, 0x0f, 0xa5, 0xff]));
        assert!(["", "0", "0g", "é"].into_iter().all(|text| unhex(text).is_none()));
    }
}
