//! What is said to people, made to fit: commands that can be pasted, each note once, and the commands of other tools
//! in certkit's words.

use std::{ffi::OsString, path::Path};

use crate::model::{
    catalogue::{self, CertSpec},
    check::finding::Finding,
    layout::DEFAULT_HOST_DIR,
};

/// A text whose commands work when they are pasted: with the directory that they are about.
pub fn here(text: &str, dir: &Path) -> String {
    let by_environment =
        std::env::var_os("CERTKIT_DIR").is_some_and(|said| said == dir.as_os_str());
    if dir == Path::new(DEFAULT_HOST_DIR) || by_environment {
        return text.to_owned();
    }
    with_dir(text, &quoted(&dir.display().to_string()))
}

const PROGRAM: &str = "certkit ";

fn with_dir(text: &str, dir: &str) -> String {
    let commands = super::command();
    let is_command = |rest: &str| {
        let word = rest.split([' ', '`', ',', ';', '\n']).next().unwrap_or_default();
        commands.get_subcommands().any(|command| command.get_name() == word)
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find(PROGRAM) {
        let end = found + PROGRAM.len();
        // A path or another word may end in it.
        let begins = !rest[..found].ends_with(|c: char| c.is_alphanumeric() || "/-._".contains(c));
        out.push_str(&rest[..end]);
        rest = &rest[end..];
        let talks_of_files =
            !["completions", "fleet", "man", "template"].iter().any(|c| rest.starts_with(c));
        if begins && talks_of_files && is_command(rest) {
            out.push_str("--dir ");
            out.push_str(dir);
            out.push(' ');
        }
    }
    out + rest
}

/// An argument as a shell has to be told it.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._=:,@%+~".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// What to do about a finding: its code's advice, with the names of what it is about.
pub fn advice(finding: &Finding, dir: &Path, declared: bool) -> String {
    let mut hint = finding.hint.clone();
    if hint.contains(ROTATE) {
        hint = match certificate(&finding.subject) {
            Some(spec) if spec.is_ca() => {
                format!(
                    "a CA is replaced stage by stage, with all that it signs: certkit rotate-ca {}",
                    spec.id
                )
            }
            Some(_) => {
                hint.replace(ROTATE, &format!("certkit rotate {}", quoted(&finding.subject)))
            }
            None => match finding.files.first().map(|file| file.display().to_string()) {
                Some(file) => hint.replace(ROTATE, &format!("certkit rotate {}", quoted(&file))),
                None => hint.replace(ROTATE, "certkit rotate"),
            },
        };
    }
    if let Some(file) = finding.files.first() {
        let mut parts = file.components().map(|part| part.as_os_str().to_string_lossy());
        if parts.next().as_deref() == Some("hosts")
            && let Some(host) = parts.next()
        {
            hint =
                hint.replace("certkit export HOST", &format!("certkit export {}", quoted(&host)));
        }
        let file = quoted(&dir.join(file).display().to_string());
        for command in ["chmod 600 ", "chmod go-w ", "chown root "] {
            hint = hint.replace(&format!("{command}FILE"), &format!("{command}{file}"));
        }
        hint = hint.replace("-in KEY -out KEY.clear", &format!("-in {file} -out {file}.clear"));
    }
    // Without a declaration `init` would make another cluster of it.
    if !declared {
        hint = hint.replace("`certkit init`", "`certkit init --adopt`, then `certkit init`");
    }
    here(&hint, dir)
}

const ROTATE: &str = "certkit rotate NAME";

/// The certificate that a label names: its id, with or without a host after it.
fn certificate(label: &str) -> Option<&'static CertSpec> {
    let id = label.split_once(" (").map_or(label, |(id, _)| id);
    catalogue::certificate(id)
}

/// The first so many of these, and how many more there are: `a, b and 14 more`. A single one more is named instead.
pub fn few<N: AsRef<str>>(names: &[N], most: usize, between: &str) -> String {
    let named = if names.len() <= most.saturating_add(1) { names.len() } else { most };
    let text = names[..named].iter().map(AsRef::as_ref).collect::<Vec<_>>().join(between);
    match names.len() - named {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Each note once, whatever it is about: `a, b and 14 more: the same`.
pub fn once(notes: &[String]) -> Vec<String> {
    const NAMED: usize = 3;
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for note in notes {
        // A note begins with what it is about.
        let (about, text) = note.split_once(": ").unwrap_or(("", note));
        match groups.iter_mut().find(|(told, _)| *told == text) {
            Some((_, all)) if all.contains(&about) => {}
            Some((_, all)) => all.push(about),
            None => groups.push((text, vec![about])),
        }
    }
    let told = groups.into_iter().map(|(text, all)| {
        let about = few(&all, NAMED, ", ");
        if about.is_empty() { text.to_owned() } else { format!("{about}: {text}") }
    });
    told.collect()
}

/// The words of other tools, and certkit's for the same; the longest first.
const OTHERS: &[(&[&str], &[&str])] = &[
    (&["certs", "renew", "all"], &["rotate", "--all"]),
    (&["certs", "renew"], &["rotate"]),
    (&["certs", "check-expiration"], &["check-expiration"]),
    (&["certs", "generate-csr"], &["rotate", "--csr-only"]),
    (&["certs", "certificate-key"], &["init", "--help"]),
    (&["certs"], &["check-expiration"]),
    (&["kubeconfig", "user"], &["kubeconfig"]),
    (&["alpha", "certs"], &["check-expiration"]),
    (&["renew", "all"], &["rotate", "--all"]),
    (&["renew"], &["rotate"]),
    (&["rollback"], &["rotate", "--rollback"]),
    (&["adopt"], &["init", "--adopt"]),
    (&["check"], &["check-expiration"]),
    (&["expiry"], &["check-expiration"]),
    (&["expiration"], &["check-expiration"]),
    (&["inspect"], &["show"]),
    (&["certinfo"], &["show"]),
    (&["completion"], &["completions"]),
    (&["version"], &["--version"]),
    (&["create"], &["init"]),
    (&["new"], &["init"]),
];

/// The command that was meant, if it is one of another tool: to be pasted.
pub fn meant(arguments: &[OsString]) -> Option<String> {
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let start = words.iter().position(|word| !word.starts_with('-'))?;
    let (others, ours) = OTHERS.iter().find(|(others, _)| words[start..].starts_with(others))?;
    let commands = super::command();
    let is_known = |name: &str| {
        name.starts_with('-') || commands.get_subcommands().any(|c| c.get_name() == name)
    };
    // A command that certkit has of its own is not another tool's.
    if !is_known(ours[0]) || (others.len() == 1 && is_known(others[0])) {
        return None;
    }
    let before = words[..start].iter().copied();
    let after = words[start + others.len()..].iter().copied();
    let all = ["certkit"].into_iter().chain(before).chain(ours.iter().copied()).chain(after);
    Some(all.map(quoted).collect::<Vec<_>>().join(" "))
}

/// The commands of builds with the feature `cluster`.
const OF_THE_CLUSTER: [&str; 2] = ["controller", "csr"];

/// Such a command, if that is what was asked for.
pub fn of_the_cluster(arguments: &[OsString]) -> Option<&'static str> {
    let words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let mut words = words.skip_while(|word| word.starts_with('-'));
    let word = words.next()?;
    OF_THE_CLUSTER.into_iter().find(|command| *command == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::code::Code;

    #[test]
    fn of_many_names_the_first_few_are_told() {
        let names = ["a", "b", "c", "d"];
        assert_eq!(few(&names[..0], 2, ", "), "");
        assert_eq!(few(&names[..3], 2, ", "), "a, b, c");
        assert_eq!(few(&names, 2, " "), "a b and 2 more");
        assert_eq!(few(&names, usize::MAX, ", "), "a, b, c, d");
    }

    #[test]
    fn commands_name_the_directory_they_are_about() {
        let dir = "'/srv/my pki'";
        for (text, wanted) in [
            ("`certkit rotate` renews it", "`certkit --dir '/srv/my pki' rotate` renews it"),
            (
                "certkit init, then certkit rotate",
                "certkit --dir '/srv/my pki' init, then certkit --dir '/srv/my pki' rotate",
            ),
            ("certkit --dir /x rotate", "certkit --dir /x rotate"),
            ("certkit template rbac", "certkit template rbac"),
            ("certkit is a tool; .certkit rotate", "certkit is a tool; .certkit rotate"),
        ] {
            assert_eq!(with_dir(text, dir), wanted);
        }
        assert_eq!(here("certkit rotate", Path::new("/etc/kubernetes")), "certkit rotate");
    }

    #[test]
    fn advice_has_the_real_names_and_no_command_that_is_refused() {
        let dir = Path::new("/etc/kubernetes");
        let of = |code, subject: &str, file: &str| {
            advice(&Finding::new(code, subject, "x").file(file), dir, true)
        };
        let expired = of(Code::Expired, "kubelet (w1)", "hosts/w1/pki/kubelet.crt");
        assert!(expired.contains("certkit rotate 'kubelet (w1)'"), "{expired}");
        let ca = of(Code::Expired, "etcd-ca", "pki/etcd/ca.crt");
        assert!(ca.contains("certkit rotate-ca etcd-ca") && !ca.contains("rotate etcd"), "{ca}");
        let extra = of(Code::KeyMismatch, "somebody", "pki/extra.crt");
        assert!(extra.contains("certkit rotate pki/extra.crt"), "{extra}");
        for spec in crate::model::code::CODES {
            let text = of(spec.code, "apiserver", "hosts/w1/pki/apiserver.key");
            for word in ["NAME", "FILE", "HOST", "KEY.clear"] {
                assert!(!text.contains(word), "{}: {text}", spec.name);
            }
        }
    }

    #[test]
    fn a_note_is_told_once_of_all_it_is_about() {
        let notes: Vec<String> = (1..=16)
            .map(|n| format!("w{n}: waits for its CA"))
            .chain(["w1: waits for its CA".into(), "alone".into()])
            .collect();
        assert_eq!(once(&notes), ["w1, w2, w3 and 13 more: waits for its CA", "alone"]);
        assert_eq!(once(&notes[..4]), ["w1, w2, w3, w4: waits for its CA"]);
    }

    #[test]
    fn commands_of_other_tools_are_understood() {
        let of = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect::<Vec<_>>();
            meant(&words)
        };
        for (theirs, ours) in [
            ("certkit renew", Some("certkit rotate")),
            ("certkit renew apiserver", Some("certkit rotate apiserver")),
            ("certkit certs renew all", Some("certkit rotate --all")),
            ("certkit certs check-expiration -o json", Some("certkit check-expiration -o json")),
            ("certkit -q certs check-expiration", Some("certkit -q check-expiration")),
            ("certkit version", Some("certkit --version")),
            ("certkit rotate", None),
            ("certkit frobnicate", None),
        ] {
            assert_eq!(of(theirs).as_deref(), ours, "{theirs}");
        }
    }
}
