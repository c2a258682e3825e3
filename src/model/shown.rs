//! The one gate by which text that was read from a file comes into a message: shown whole, or not at all.
//!
//! A key that is damaged, or pasted where it does not belong, is read as whatever is expected there: a label, a
//! field's name, an address, a path. A message that repeats it sends it to terminals, logs and monitoring. So what may
//! be a secret (much of it, random, or marked as one) is told by its length only, and nothing is ever cut: the
//! beginning of a key is key.

use std::fmt;

/// No name, address or setting is longer: a DNS name's 253.
const LONGEST: usize = 253;
/// Nor is any word: a DNS label may have 63 characters, but hardly one has half as many.
const WORD: usize = 40;
/// How many letters and digits of base64 are looked at together, and how many changes between small letters, capitals and
/// digits in them are too many for words. Those beside three small letters in a row are not counted: that is how words
/// begin and end that are written together. Of random base64 of 28 characters one text in 600 has fewer.
const WINDOW: usize = 16;
const CHANGES: usize = 3;
/// A folder may have a random name of six.
const CHANGES_IN_PATHS: usize = 6;
const OF_A_WORD: usize = 3;

/// Text from a file in quotes, or what is said in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'t>(&'t str);

/// Quotes text from a file.
pub fn quoted(text: &str) -> Quoted<'_> {
    Quoted(text)
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match may_show(self.0) {
            true => write!(f, "`{}`", self.0.escape_default()),
            false => f.write_str(&elided(self.0)),
        }
    }
}

/// A name from a file, without quotes; nothing in it steers the terminal.
pub fn name(text: &str) -> String {
    match may_show(text) {
        true => tame(text),
        false => elided(text),
    }
}

/// Text in which nothing steers the terminal.
pub fn tame(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// A text of several lines in which nothing but their ends steers the terminal.
pub fn tame_lines(text: &str) -> String {
    text.split('\n').map(tame).collect::<Vec<_>>().join("\n")
}

/// One of several texts that stand in a line with commas between them: nothing in it steers the terminal, and it does
/// not look like two.
pub fn listed(text: &str) -> String {
    tame(&text.replace('\\', r"\\").replace(',', r"\,"))
}

/// Whether a character does more than be seen: it moves the cursor, begins a line, or changes the direction of writing,
/// with which a name could pretend to be another.
pub fn steers(c: char) -> bool {
    let is_direction = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || is_direction || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A URL from a file, as [`name`] and without the password that may stand before its host.
pub fn url(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => {
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            name(&format!("{scheme}://{host}"))
        }
        _ => name(text),
    }
}

/// A file's name that another file gives, where it can be one.
pub fn path(text: &str) -> String {
    if is_path(text) { text.to_owned() } else { elided(text) }
}

fn elided(text: &str) -> String {
    format!("(a text of {} characters, not shown)", text.chars().count())
}

/// Whether text from a file may be repeated in a message: no secret can be in it.
pub fn may_show(text: &str) -> bool {
    text.len() <= LONGEST && is_plain(text)
}

/// Whether a piece of a file may be repeated that something else cut out of it, at whatever characters: too little of a
/// secret may be left in it to be known by. So all of the file is looked at.
pub fn may_show_of(whole: &str, piece: &str) -> bool {
    may_show(piece) && whole.lines().all(is_plain)
}

fn is_plain(text: &str) -> bool {
    let marked = text.contains("-----BEGIN") || text.contains("PRIVATE KEY");
    let of_base64 = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
    !marked
        && text.split(|c: char| !c.is_alphanumeric()).all(|word| word.len() <= WORD)
        && !text.as_bytes().split(|b| !of_base64(b)).any(looks_random)
}

/// Whether a text that stands where a file is named can be a file's name at all. A name that is one may be repeated:
/// digests and random names occur in paths.
pub fn is_path(text: &str) -> bool {
    let rooted = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
    let plain = text.len() < 4096
        && !text.contains("-----BEGIN")
        && text.split('/').all(|part| part.len() < 256)
        && !text.chars().any(steers);
    plain && (rooted || may_show(text))
}

fn looks_random(run: &[u8]) -> bool {
    let class = |b: u8| match b {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        _ => 2,
    };
    // What else base64 has tells nothing of what stands on both sides of it. How many slashes stand before each is kept.
    let mut slashes = 0;
    let mut folders = Vec::with_capacity(run.len());
    let mut letters = Vec::with_capacity(run.len());
    for b in run {
        slashes += usize::from(*b == b'/');
        if b.is_ascii_alphanumeric() {
            folders.push(slashes);
            letters.push(*b);
        }
    }
    let mut is_word = vec![false; letters.len()];
    let mut start = 0;
    for part in letters.chunk_by(|a, b| class(*a) == class(*b)) {
        is_word[start..start + part.len()].fill(class(part[0]) == 0 && part.len() >= OF_A_WORD);
        start += part.len();
    }
    let is_change = |at: usize| {
        class(letters[at]) != class(letters[at + 1]) && !is_word[at] && !is_word[at + 1]
    };
    (WINDOW..=letters.len()).any(|end| {
        let begin = end - WINDOW;
        let changes = (begin..end - 1).filter(|at| is_change(*at)).count();
        let is_path = folders[begin] != folders[end - 1];
        changes >= if is_path { CHANGES_IN_PATHS } else { CHANGES }
    })
}

/// An error with all its causes in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_shown() {
        for text in [
            "",
            "worker 1",
            "10.0.0.300",
            "2001:db8::1/64",
            "kubernetes-admin@kubernetes",
            "system:node:ip-10-0-12-7.eu-central-1.compute.internal",
            "i-0abc123def4567890",
            "certificateAuthorityData",
            "apiServerKubeletClientCertificateFile",
            "DigiCertGlobalRootCAG2",
            "certificate-authority-data of user `system:kube-controller-manager`",
            "/etc/kubernetes/pki/apiserver-kubelet-client.pem",
            "/tmp/test-bOhLgN/pki/controller-manager-client.pem",
            "https://api.prod.example.com:6443",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "4c4c4544-0031-3510-8052-b4c04f4a4d32",
            "2027-11-21T17:11:00Z",
            "kubeadm.k8s.io/v1beta4",
            "é\u{1b}[31m",
        ] {
            assert!(may_show(text), "{text}");
        }
        assert_eq!(quoted("é\u{1b}").to_string(), "`\\u{e9}\\u{1b}`");
        assert_eq!(name("é\u{1b}[31m"), "é\\u{1b}[31m");
        assert_eq!(name("a\u{202e}b\u{2028}"), "a\\u{202e}b\\u{2028}");
        assert_eq!(listed(r"a, b\c"), r"a\, b\\c");
        assert_eq!(url("http://a:hunter2@b:80/c"), "http://b:80/c");
        assert_eq!(url("http://b:80/c"), "http://b:80/c");
    }

    #[test]
    fn what_may_be_key_material_is_not() {
        let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2";
        for text in [
            key,
            &key[20..],
            &format!("x: {key}"),
            &format!("worker-1 {}", &key[30..]),
            "-----BEGIN EC PRIVATE KEY-----",
            "9f86d081884c7d659a2feaa0c55ad015",
            &"A".repeat(41),
            &"a.".repeat(130),
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9",
            "https://uqW+aQmcGCZ/tR4+xN/c9Wk1PbL/@cp1",
        ] {
            assert!(!may_show(text), "{text}");
            assert!(!quoted(text).to_string().contains(&text[..5]), "{text}");
        }
        assert_eq!(quoted(key).to_string(), "(a text of 64 characters, not shown)");
    }

    #[test]
    fn a_piece_of_a_file_with_a_key_in_it_is_not() {
        assert!(may_show_of("{{ component|shout }}\n", "filter shout is unknown"));
        let key = "oUQDQgAEtZ+DRUPQjItiTHJ/x1Xu0aL2mQ9d";
        assert!(!may_show_of(&format!("{{{{ {key} }}}}\n"), "filter DRUPQjItiTHJ is unknown"));
    }

    #[test]
    fn a_path_may_hold_a_digest_and_no_key() {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert!(is_path(&format!("/var/lib/{digest}/tls.crt")));
        assert!(is_path("client.pem"));
        let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2";
        assert!(!is_path(key));
        assert!(!is_path(&format!("/{}", key.repeat(4))));
        assert!(!is_path("/-----BEGIN PRIVATE KEY-----"));
    }
}
