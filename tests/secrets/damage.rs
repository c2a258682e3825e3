//! What happens to keys: lost line breaks, wrong labels, other encodings, and copies in the wrong place.

use crate::{leak, support};

/// A file that holds a key, damaged.
pub struct Damaged {
    /// What happened to it.
    pub name: &'static str,
    /// What is in the file now.
    pub content: Vec<u8>,
    /// Whether every command is asked, in every format.
    pub telling: bool,
}

/// A key in PEM, damaged in every way.
pub fn damages(pem: &str) -> Vec<Damaged> {
    let lines: Vec<&str> = pem.lines().collect();
    let body: String = lines[1..lines.len() - 1].concat();
    let label = &lines[0][11..lines[0].len() - 5];
    let octets = leak::decode(&body);
    let bare = pem.replace('\n', "");
    let utf16 = |big: bool| -> Vec<u8> {
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        std::iter::once(0xfeff).chain(pem.encode_utf16()).flat_map(bytes).collect()
    };
    let mut all = Vec::new();
    let mut add = |name, content: &[u8], telling| {
        all.push(Damaged { name, content: content.to_vec(), telling });
    };
    add("whole", pem.as_bytes(), false);
    add("without line breaks", bare.as_bytes(), true);
    add("spaces for line breaks", pem.replace('\n', " ").as_bytes(), true);
    add("\\n for line breaks", pem.replace('\n', "\\n").as_bytes(), false);
    add("CR LF", pem.replace('\n', "\r\n").as_bytes(), false);
    add("CR", pem.replace('\n', "\r").as_bytes(), false);
    add("byte order mark", format!("\u{feff}{pem}").as_bytes(), false);
    add("UTF-16 LE", &utf16(false), false);
    add("UTF-16 BE", &utf16(true), false);
    add("cut in half", &pem.as_bytes()[..pem.len() / 2], false);
    add("end only", &pem.as_bytes()[60..], false);
    add("no BEGIN line", lines[1..].join("\n").as_bytes(), false);
    add("no END line", lines[..lines.len() - 1].join("\n").as_bytes(), false);
    add("twice", pem.repeat(2).as_bytes(), false);
    add("twice without a break", format!("{}{pem}", pem.trim_end()).as_bytes(), false);
    add("a certificate's label", pem.replace(label, "CERTIFICATE").as_bytes(), false);
    add(
        "the key as its label",
        format!("-----BEGIN {body}-----\n{body}\n-----END {body}-----\n").as_bytes(),
        true,
    );
    let trusted =
        format!("-----BEGIN {body} CERTIFICATE-----\nAAAA\n-----END {body} CERTIFICATE-----\n");
    add("the key in a certificate's label", trusted.as_bytes(), true);
    add("another END", pem.replace("-----END", "-----END A").as_bytes(), false);
    add(
        "indented",
        pem.lines().map(|l| format!("    {l}\n")).collect::<String>().as_bytes(),
        false,
    );
    add("three dashes", pem.replace("-----", "---").as_bytes(), false);
    add("one bad character", pem.replacen('A', "!", 1).as_bytes(), false);
    add("base64 of it", support::base64(pem.as_bytes()).as_bytes(), false);
    add("bare base64", body.as_bytes(), false);
    add("octets", &octets, false);
    add("octets with one less", &octets[..octets.len() - 1], false);
    add("a mapping", format!("key: {bare}\n").as_bytes(), true);
    add("a key of a mapping", format!("{body}: 1\n{body}: 2\n").as_bytes(), true);
    add("a JSON text", format!("{{\"key\": {:?}}}", pem).as_bytes(), false);
    add(
        "a JSON list",
        format!("{{\"version\": \"{body}\", \"items\": \"{body}\"}}").as_bytes(),
        false,
    );
    let journal = format!(
        "{{\"version\":1,\"transaction\":\"{body}\",\"roots\":[],\"metadata\":false,\"directories\":[],\"backup\":null,\
         \"copies\":[],\"entries\":[{{\"change\":\"write\",\"path\":\"pki/{body}\",\"temporary\":\".x\",\
         \"sha256\":\"{body}\"}}],\"log\":null}}"
    );
    add("a journal", journal.as_bytes(), false);
    let manifest = format!(
        "{{\"version\":1,\"id\":\"{body}\",\"files\":[{{\"path\":\"pki/{body}\",\"was\":\"symlink\",\"target\":\"{body}\"}}]}}"
    );
    add("a manifest", manifest.as_bytes(), false);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {body}\n  cluster: {{server: {body}, certificate-authority: {body}}}\n\
         users:\n- name: {body}\n  user: {{client-certificate: {body}, client-key: {body}, token: {body}}}\n\
         contexts:\n- name: {body}\n  context: {{cluster: {body}, user: {body}}}\ncurrent-context: {body}\n"
    );
    add("a kubeconfig", kubeconfig.as_bytes(), true);
    add("an empty kubeconfig", format!("kind: Config\nusers: {bare}\n").as_bytes(), false);
    all
}

/// The key as chance might have it: no more than twelve letters and digits of its number stand together, so that whoever
/// reads words where there are none repeats as many of them as tell.
pub fn in_short_words(pem: &str) -> String {
    let begin = pem.find('\n').map_or(0, |at| at + 1);
    let places = (10..50).step_by(13).map(|place| begin + place);
    let mut bytes = pem.as_bytes().to_vec();
    for place in places {
        bytes[place] = b'/';
    }
    String::from_utf8(bytes).expect("base64")
}

/// A key as it is pasted into a document.
pub fn pasted(pem: &str) -> Vec<(&'static str, String)> {
    let lines: Vec<&str> = pem.lines().collect();
    let body: String = lines[1..lines.len() - 1].concat();
    vec![
        ("without line breaks", pem.replace('\n', "")),
        ("its base64", body.clone()),
        ("its first line", lines[1].to_owned()),
        ("a part", body[12..44].to_owned()),
        ("in quotes", format!("{:?}", pem)),
        ("base64 of it", support::base64(pem.as_bytes())),
        ("lines", pem.replace('\n', "\n      ")),
        ("a block", format!("|\n      {}", pem.replace('\n', "\n      "))),
        ("an alias", format!("*{body}")),
        ("a tag", format!("!{body} x")),
        ("a list", format!("[{body}, {{{body}: {body}}}]")),
        ("a URL", format!("https://{}@{}/", &body[12..40], &body[12..40])),
    ]
}
