//! Object identifiers in dotted form.

use crate::model::hex::hex;

/// The arcs of a dotted identifier that DER can say (X.660: the first arc is 0 to 2, and the second below
/// 40 under 0 and 1).
pub fn arcs(text: &str) -> Option<Vec<u64>> {
    let arcs: Vec<u64> = text
        .split('.')
        .map(|arc| match arc.bytes().all(|b| b.is_ascii_digit()) {
            true if arc == "0" || !arc.starts_with('0') => arc.parse().ok(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    match arcs[..] {
        [0 | 1, second, ..] if second < 40 => Some(arcs),
        // The encoder adds 80 to it.
        [2, second, ..] if second < u64::MAX - 80 => Some(arcs),
        _ => None,
    }
}

/// An object identifier in dotted form, from its content.
pub fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<String> = Vec::new();
    let mut value: u128 = 0;
    for byte in oid {
        // An arc of more than 128 bits has no meaning to anyone; show the bytes.
        if value >> 121 != 0 {
            return hex(oid);
        }
        value = value << 7 | u128::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (value / 40).min(2);
                arcs.push(first.to_string());
                value -= first * 40;
            }
            arcs.push(value.to_string());
            value = 0;
        }
    }
    arcs.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_der_can_say_is_taken() {
        assert_eq!(arcs("1.3.6.1"), Some(vec![1, 3, 6, 1]));
        assert_eq!(arcs("2.999"), Some(vec![2, 999]));
        for bad in
            ["", "1", "1.", ".1", "1.40", "3.1", "1.a", "1.-1", "1.02", "1.3.18446744073709551616"]
        {
            assert_eq!(arcs(bad), None, "{bad}");
        }
    }
}
