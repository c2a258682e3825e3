//! Quoting, each by the rules of who reads it. All of it takes text of one line; see [`is_one_line`].

/// Whether a text has nothing in it that could end a line or hide: such a value would put settings of its
/// own into an environment file or a unit.
pub fn is_one_line(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}'))
}

/// One word of a command line as systemd splits a variable's value into words (systemd.service(5),
/// "Command lines"): in single quotes if it has anything but letters, digits and harmless marks, with
/// `'` and `\` escaped.
pub fn word(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@[]+".contains(c);
    if !text.is_empty() && text.chars().all(harmless) {
        return text.to_owned();
    }
    let mut quoted = String::from("'");
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// Text within double quotes of an environment file, which systemd reads as a POSIX shell does
/// (systemd.exec(5), EnvironmentFile=; systemd `src/basic/env-file.c`).
pub fn environment_file(text: &str) -> String {
    escaped(text, |c| match c {
        '"' | '\\' | '$' | '`' => Some('\\'),
        _ => None,
    })
}

/// Text within double quotes of a setting of a systemd unit that takes specifiers and, like
/// Environment=, expands no variables: C escapes, and `%` doubled (systemd.syntax(7), systemd.unit(5)).
pub fn systemd(text: &str) -> String {
    escaped(text, |c| match c {
        '"' | '\\' => Some('\\'),
        '%' => Some('%'),
        _ => None,
    })
}

/// The value of an environment line of a crontab: quotes around it keep blanks, and nothing within them
/// is an escape (crontab(5)), so the quote is the one that the value does not have.
pub fn cron(text: &str) -> String {
    match text.contains('"') {
        true => format!("'{text}'"),
        false => format!("\"{text}\""),
    }
}

fn escaped(text: &str, by: impl Fn(char) -> Option<char>) -> String {
    text.chars().flat_map(|c| [by(c), Some(c)]).flatten().collect()
}
