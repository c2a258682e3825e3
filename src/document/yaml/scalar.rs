//! The one spelling of scalars that certkit writes.

/// A text as a YAML scalar that every parser, YAML 1.1's too, reads back as this text.
pub fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a text can stand without quotes in every place. What YAML 1.1 takes for a number, a date, a
/// boolean or null cannot, and neither can much that could: quotes never hurt.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let tame = |c: char| c.is_ascii_alphanumeric() || "-._/:@+=".contains(c);
    let word = text.to_ascii_lowercase();
    let reserved =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&word.as_str());
    // `10.0.0.1`, `10.96.0.0/12` and `30d` are no numbers to any parser; `1e3`, `0x1f`, `1.5`, `1_000`
    // and `190:20:30` are.
    let number_like = first.is_ascii_digit()
        && text.parse::<std::net::Ipv4Addr>().is_err()
        && !text.contains('/')
        && text.parse::<crate::model::duration::Span>().is_err();
    (first.is_ascii_alphanumeric() || first == '/')
        && text.chars().all(tame)
        && !text.ends_with(':')
        && !reserved
        && !number_like
}
