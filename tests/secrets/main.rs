//! Nothing of a private key comes out of certkit, however damaged the file is, wherever the key was pasted, and
//! whatever is asked for: not on standard output, not in an error, not in a report, the log or a textfile.
//!
//! Every command is run over files that hold a key in each form of damage that editors, shells and mistakes give
//! it. What comes out is searched for any part of the key: as it stands in its file, as octets, in hexadecimal, and
//! in base64 once more.

mod damage;
mod leak;
#[path = "../support/mod.rs"]
mod support;

use std::{fs, path::Path, process::Output};

use damage::damages;
use leak::Secrets;
use support::{certkit, run, temp_dir, tree};

/// Files of DIR that a key may be in, by mistake or by right.
const FILES: &[&str] = &[
    "pki/apiserver.key",
    "pki/apiserver.crt",
    "pki/ca.key",
    "pki/ca.crt",
    "pki/ca-bundle.crt",
    "pki/sa.key",
    "pki/sa.pub",
    "pki/etcd/server.key",
    "pki/kubelet-client.pem",
    "admin.conf",
    "scheduler.conf",
    "certkit.yaml",
    "csr/apiserver.csr",
    "csr/apiserver.key",
    ".certkit/journal",
    ".certkit/staging",
    ".certkit/backups/20270101T000000Z/manifest.json",
    "manifests/kube-apiserver.yaml",
];

/// What is asked of a directory with such a file.
const QUESTIONS: &[&[&str]] = &[
    &["verify", "-o", "json"],
    &["verify", "--forecast"],
    &["check-expiration", "-o", "json"],
    &["init"],
    &["rotate", "--all", "--dry-run"],
    &["rotate", "--all", "--restart", "static-pods"],
    &["rotate", "--rollback"],
];

/// The same and the rest, in every format: asked where the damage is one that has gone wrong before.
const EVERYTHING: &[&[&str]] = &[
    &["verify"],
    &["verify", "-o", "yaml"],
    &["verify", "-o", "sarif"],
    &["verify", "-o", "junit"],
    &["verify", "-v"],
    &["check-expiration"],
    &["check-expiration", "-o", "wide"],
    &["check-expiration", "-o", "yaml"],
    &["check-expiration", "-o", "prometheus"],
    &["check-expiration", "-o", "nagios"],
    &["check-expiration", "-o", "prometheus", "--textfile", "textfile.prom"],
    &["init", "--adopt"],
    &["init", "--dry-run", "-o", "json"],
    &["rotate", "-o", "json"],
    &["rotate", "apiserver", "--csr-only"],
    &["rotate", "--rollback", "--dry-run"],
    &["import", "d/pki/apiserver.crt"],
    &["flags"],
    &["fleet", "check", "d", "-o", "wide"],
    &["fleet", "check", "d", "-o", "json"],
    &["paths"],
    &["paths", "-o", "json"],
    &["export", "cp1"],
    &["export", "--all", "archives"],
    &["export", "--all", "archives", "-o", "json"],
    &["flags", "-o", "yaml"],
    &["kubeconfig", "someone"],
    &["kubeconfig", "someone", "--out", "someone.conf", "-o", "json"],
    &["kubeconfig", "someone", "--csr"],
    &["nodes", "list"],
    &["nodes", "add", "w1=10.0.1.1", "--from", "FILE"],
    &["deploy", "--ssh", "false", "-o", "json"],
    &["receive"],
    &["report"],
    &["status"],
    &["status", "-o", "json"],
    &["prune", "--dry-run", "-o", "json"],
    &["rotate", "--rollback", "--list"],
    &["rotate-ca"],
    &["rotate-ca", "-o", "json"],
    &["rotate-ca", "ca", "--renew-same-key", "--dry-run"],
    &["rotate-ca", "--next", "-o", "json"],
    &["rotate-ca", "--next", "--audit-log", "FILE"],
    &["rotate-ca", "--undo"],
    &["recover", "--dry-run", "-o", "json"],
    &["recover"],
];

/// What is asked of the file itself.
const OF_THE_FILE: &[&[&str]] = &[
    &["check-expiration", "-o", "json", "FILE"],
    &["show", "FILE"],
    &["show", "-o", "json", "FILE"],
    &["receive", "--check"],
    &["receive", "--csr"],
    &["rotate", "FILE", "--ca", "d/pki/etcd/ca.crt"],
    &["rotate", "d/pki/etcd/peer.crt", "--ca", "FILE"],
    &["verify", "--flags", "FILE", "--dir", "whole"],
];

/// Commands that read no file of a cluster.
const READS_NOTHING: &[&str] = &["completions", "help", "man", "template"];

#[test]
fn every_command_is_asked() {
    let asked: Vec<&str> =
        [QUESTIONS, EVERYTHING, OF_THE_FILE].concat().iter().map(|q| q[0]).collect();
    for command in certkit::cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(asked.contains(&name) != READS_NOTHING.contains(&name), "{name} is not asked");
    }
}

#[test]
fn no_command_repeats_a_key_of_the_directory() {
    let folder = temp_dir();
    let whole = folder.path().join("whole");
    run(certkit().args(["init", "--host", "cp1=127.0.0.1", "--dir"]).arg(&whole));
    let pem = fs::read_to_string(whole.join("pki/etcd/peer.key")).expect("a key");
    let mut told = Told::default();
    for (number, damaged) in damages(&pem).iter().enumerate() {
        for (place, file) in FILES.iter().enumerate() {
            // In turn: every damage meets two files, every file each kind of damage.
            if !is_turn(place + number, 9) {
                continue;
            }
            let dir = folder.path().join("d");
            tree::copy(&whole, &dir);
            put(&dir.join(file), &damaged.content);
            let secrets = Secrets::new(&[&pem]);
            let all = damaged.telling && is_turn(place + number, 18);
            let more: &[&[&str]] = if all { EVERYTHING } else { &[] };
            let own = format!("d/{file}");
            let of_the_file = match all {
                true => OF_THE_FILE,
                false => &OF_THE_FILE[..1],
            };
            let of_the_file = of_the_file.iter().map(|question| (question, &[][..]));
            let of_dir =
                QUESTIONS.iter().chain(more).map(|question| (question, &["--dir", "d"][..]));
            for (question, dir) in of_the_file.chain(of_dir) {
                let words: Vec<&str> = question
                    .iter()
                    .map(|word| if *word == "FILE" { &own } else { *word })
                    .collect();
                let output = ask(folder.path(), &words, dir);
                told.look(&secrets, &output, &format!("{}, {file}: {question:?}", damaged.name));
            }
            for report in ["d/.certkit/log.jsonl", "textfile.prom"] {
                let text = fs::read(folder.path().join(report)).unwrap_or_default();
                told.found(&secrets, &text, &format!("{}, {file}: {report}", damaged.name));
            }
            let _ = fs::remove_dir_all(&dir);
        }
    }
    told.end(300);
}

/// Documents with `@` where a key may be pasted, and how each is asked about; the file's name is the last argument.
const DOCUMENTS: &[(&str, &str, &[&[&str]])] = &[
    ("certkit.yaml", include_str!("certkit.yaml"), &[INIT]),
    ("kubeadm.yaml", include_str!("kubeadm.yaml"), &[INIT]),
    ("admin.conf", include_str!("kubeconfig.yaml"), &[SCAN, NAGIOS, PROMETHEUS]),
    ("secret.yaml", include_str!("secret.yaml"), &[SCAN, NAGIOS, PROMETHEUS]),
    ("secret.json", include_str!("secret.json"), &[SCAN, NAGIOS, PROMETHEUS]),
    ("kube-apiserver.yaml", include_str!("manifest.yaml"), &[FLAGS, SARIF]),
    ("kubelet.yaml", include_str!("kubelet.yaml"), &[FLAGS, SARIF]),
    ("etcd.yaml", include_str!("etcd.yaml"), &[FLAGS]),
    ("kubelet.service", include_str!("kubelet.service"), &[FLAGS, SARIF]),
    ("etcd.env", include_str!("etcd.service"), &[FLAGS]),
    ("kube-apiserver.flags", include_str!("flags.txt"), &[FLAGS, SARIF]),
];

const INIT: &[&str] = &["init", "--dry-run", "--dir", "new", "--config"];
const SCAN: &[&str] = &["check-expiration", "-o", "json"];
const NAGIOS: &[&str] = &["check-expiration", "-o", "nagios"];
const PROMETHEUS: &[&str] = &["check-expiration", "-o", "prometheus"];
const FLAGS: &[&str] = &["verify", "--dir", "whole", "--flags"];
const SARIF: &[&str] = &["verify", "--dir", "whole", "-o", "sarif", "--flags"];

#[test]
fn no_command_repeats_a_key_pasted_into_a_document() {
    let folder = temp_dir();
    let whole = folder.path().join("whole");
    run(certkit().args(["init", "--host", "cp1=127.0.0.1", "--dir"]).arg(&whole));
    let pem = fixed_key();
    let broken = damage::in_short_words(&pem);
    let secrets = Secrets::new(&[&pem, &broken]);
    let mut told = Told::default();
    for (name, text, questions) in DOCUMENTS {
        let lines = text.lines().filter(|line| line.contains('@')).count();
        assert!(lines > 3, "{name} has places");
        for place in 0..lines {
            let both = damage::pasted(&pem).into_iter().chain(damage::pasted(&broken));
            for (number, (form, pasted)) in both.enumerate() {
                if !is_turn(place + number, 6) {
                    continue;
                }
                let filled = fill(text, place, &pasted);
                fs::write(folder.path().join(name), filled).expect("written");
                for question in *questions {
                    let output = ask(folder.path(), question, &[name]);
                    told.look(
                        &secrets,
                        &output,
                        &format!("{form} at {name}#{place}: {question:?}"),
                    );
                }
            }
        }
    }
    told.end(300);
}

#[test]
fn no_command_repeats_a_key_pasted_into_a_template() {
    let folder = temp_dir();
    let whole = folder.path().join("whole");
    run(certkit().args(["init", "--host", "cp1=127.0.0.1", "--dir"]).arg(&whole));
    let pem = fixed_key();
    let broken = damage::in_short_words(&pem);
    let secrets = Secrets::new(&[&pem, &broken]);
    let mut told = Told::default();
    let template = folder.path().join("t/flags/systemd.conf");
    for place in
        ["{{ @ }}", "{% @ %}", "{{ component|@ }}", "{% include \"@\" %}", "{% if @", "{{ \"@"]
    {
        for (form, pasted) in damage::pasted(&pem).into_iter().chain(damage::pasted(&broken)) {
            put(&template, place.replace('@', &pasted).as_bytes());
            let arguments =
                ["flags", "kubelet", "--format", "systemd", "--templates", "t", "--dir", "whole"];
            let output = ask(folder.path(), &arguments, &[]);
            told.look(&secrets, &output, &format!("{form} in a template at {place}"));
        }
    }
    told.end(120);
}

/// The same key in each run: of what is short, chance may make a word, and which text is one is not what is asked here.
fn fixed_key() -> String {
    let file = "tests/fixtures/kubeadm-1.36/ecdsa-p256/pki/apiserver.key";
    fs::read_to_string(file).expect("a key")
}

#[test]
fn a_part_of_a_key_is_found_in_whatever_form() {
    let pem = fixed_key();
    let secrets = Secrets::new(&[&pem]);
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let octets = leak::decode(&body);
    let hex: String = octets.iter().map(|b| format!("{b:02x}")).collect();
    for shown in [
        pem.clone(),
        body[20..40].to_owned(),
        body[20..45].replace('+', "-").replace('/', "_"),
        body[10..60].split_inclusive(' ').map(|c| format!("{c}\n")).collect(),
        hex[30..60].to_owned(),
        hex[30..60].to_uppercase(),
        support::base64(pem.as_bytes()),
        support::base64(&octets),
        support::base64(body.as_bytes()),
        format!("x\\n{}", pem.replace('\n', "\\n")),
    ] {
        assert!(secrets.find(shown.as_bytes()).is_some(), "{shown}");
    }
    assert!(secrets.find(&octets).is_some());
    assert_eq!(secrets.find(include_str!("certkit.yaml").as_bytes()), None);
}

/// Whether the nth combination is tried: one of `every`, or all where somebody has the time.
fn is_turn(number: usize, every: usize) -> bool {
    number.is_multiple_of(every) || std::env::var_os("CERTKIT_TEST_ALL").is_some()
}

/// What came out so far.
#[derive(Default)]
struct Told {
    leaks: Vec<String>,
    looks: usize,
    spoken: usize,
}

impl Told {
    fn look(&mut self, secrets: &Secrets, output: &Output, what: &str) {
        // A host's keys are the data of one command, the text of a template that of another.
        if !what.contains("export") && !what.contains("a template") {
            self.found(secrets, &output.stdout, what);
        }
        self.found(secrets, &output.stderr, what);
        let code = output.status.code();
        if !matches!(code, Some(0..=4 | 64)) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            self.leaks.push(format!("{what} ended with {code:?}: {stderr}"));
        }
        self.spoken += usize::from(code != Some(0));
    }

    fn found(&mut self, secrets: &Secrets, text: &[u8], what: &str) {
        self.looks += 1;
        if let Some(part) = secrets.find(text) {
            self.leaks.push(format!("{what} shows {part}"));
        }
    }

    /// Nothing was found, in this many answers at least, most of which had something to say.
    fn end(self, least: usize) {
        let first: Vec<&str> = self.leaks.iter().take(40).map(String::as_str).collect();
        assert!(first.is_empty(), "{} leaks:\n{}", self.leaks.len(), first.join("\n"));
        assert!(self.looks >= least, "only {} answers were looked at", self.looks);
        assert!(self.spoken * 4 >= self.looks / 2, "only {} had a complaint", self.spoken);
    }
}

fn ask(folder: &Path, question: &[&str], rest: &[&str]) -> Output {
    let mut command = certkit();
    command.args(question).args(rest).current_dir(folder);
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// The text with a key at the nth line that has a place, and something harmless at all others.
fn fill(text: &str, place: usize, pasted: &str) -> String {
    let mut number = 0;
    let mut filled = String::new();
    for line in text.lines() {
        match line.contains('@') {
            // A place and what is usual there: `@usual@`.
            true => {
                let parts: Vec<&str> = line.splitn(3, '@').collect();
                let value = if number == place { pasted } else { parts[1] };
                filled.push_str(&format!("{}{value}{}\n", parts[0], parts[2]));
                number += 1;
            }
            false => filled.push_str(&format!("{line}\n")),
        }
    }
    filled
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, content).expect("written");
}
