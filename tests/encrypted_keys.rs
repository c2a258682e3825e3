//! CA keys under a password, as a user meets them: made and read by openssl, opened by certkit to sign and
//! for nothing else, and never written in clear.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::{
    certkit, need, openssl, run, run_to_exit, stdout, temp_dir,
    tree::{difference, snapshot},
};

const PASSWORD: &str = "correct horse battery staple";

/// A command on DIR, with the password in a file beside it.
fn with_password(dir: &Path, arguments: &[&str]) -> Command {
    let file = dir.parent().unwrap().join("password");
    fs::write(&file, format!("{PASSWORD}\nwhat follows is nobody's concern\n")).unwrap();
    let mut command = without(dir, arguments);
    command.arg("--ca-key-password-file").arg(file);
    command
}

fn without(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = certkit();
    command.args(arguments).arg("--dir").arg(dir).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn is_sealed(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains("BEGIN ENCRYPTED PRIVATE KEY"))
}

/// A one-host tree whose etcd CA's key openssl has encrypted.
fn sealed_tree(folder: &Path) -> std::path::PathBuf {
    let dir = folder.join("kubernetes");
    run(&mut without(&dir, &["init", "--host", "cp1=10.0.0.11"]));
    seal(&dir.join("pki/etcd/ca.key"), &["-topk8"]);
    dir
}

/// Encrypts a key file in place.
fn seal(key: &Path, options: &[&str]) {
    let sealed = key.with_extension("sealed");
    let pass = format!("pass:{PASSWORD}");
    let mut arguments = vec!["pkcs8"];
    arguments.extend(options);
    let (from, to) = (key.to_str().unwrap(), sealed.to_str().unwrap());
    arguments.extend(["-in", from, "-out", to, "-passout", &pass]);
    openssl(&arguments);
    fs::rename(sealed, key).unwrap();
}

#[test]
fn init_with_a_password_encrypts_the_ca_keys_that_no_component_reads() {
    if need("openssl").is_none() {
        return;
    }
    let folder = temp_dir();
    for (name, extra) in [("one", &[][..]), ("single", &["--single-root"])] {
        let dir = folder.path().join(name);
        let mut arguments = vec!["init", "--host", "cp1=10.0.0.11", "--addon=istio"];
        arguments.extend(extra);
        run(&mut with_password(&dir, &arguments));
        let mut sealed = Vec::new();
        for (path, _) in snapshot(&dir) {
            let full = dir.join(&path);
            if full.is_file() && is_sealed(&full) {
                sealed.push(path.display().to_string());
                // openssl opens it, and finds the certificate's key in it.
                let pass = format!("pass:{PASSWORD}");
                let key =
                    openssl(&["pkey", "-in", full.to_str().unwrap(), "-passin", &pass, "-pubout"]);
                let cert = match full.ends_with("root-key.pem") {
                    true => full.with_file_name("root-cert.pem"),
                    false => full.with_extension("crt"),
                };
                let own = openssl(&["x509", "-in", cert.to_str().unwrap(), "-noout", "-pubkey"]);
                assert_eq!(key, own, "{}", path.display());
            }
        }
        let mut expected =
            vec!["pki/etcd/ca.key", "pki/front-proxy-ca.key", "pki/istio/root-key.pem"];
        if !extra.is_empty() {
            expected.push("pki/root-ca.key");
        }
        assert_eq!(sealed, expected);
        // A second run finds all of it in place, with a password and without.
        let before = snapshot(&dir);
        run(&mut with_password(&dir, &arguments));
        run(&mut without(&dir, &arguments));
        assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
        // And it is sound: that a key is encrypted is a note.
        let report = stdout(&mut without(&dir, &["verify", "-o", "json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        let findings: Vec<(&str, &str)> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| (f["code"].as_str().unwrap(), f["severity"].as_str().unwrap()))
            .collect();
        assert_eq!(
            findings.iter().filter(|f| **f == ("key-encrypted", "info")).count(),
            sealed.len()
        );
        assert!(findings.iter().all(|(_, severity)| *severity == "info"), "{findings:?}");
    }
}

#[test]
fn encrypt_ca_keys_takes_the_password_from_the_environment_or_says_how_to_give_it() {
    let folder = temp_dir();
    let dir = folder.path().join("kubernetes");
    let init = ["init", "--host", "cp1=10.0.0.11", "--encrypt-ca-keys"];
    let refused = run_to_exit(&mut without(&dir, &init), 64);
    assert!(said(&refused).contains("CERTKIT_CA_KEY_PASSWORD"), "{}", said(&refused));
    assert!(!dir.exists());
    run(without(&dir, &init).env("CERTKIT_CA_KEY_PASSWORD", PASSWORD));
    assert!(text(&dir.join("pki/etcd/ca.key")).contains("BEGIN ENCRYPTED PRIVATE KEY"));
    assert!(text(&dir.join("pki/ca.key")).contains("BEGIN EC PRIVATE KEY"));
}

#[test]
fn keys_that_openssl_encrypted_sign_and_stay_as_they_are() {
    if need("openssl").is_none() {
        return;
    }
    for options in [
        &["-topk8"][..],
        &["-topk8", "-scrypt"],
        &["-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
    ] {
        let folder = temp_dir();
        let dir = folder.path().join("kubernetes");
        run(&mut without(&dir, &["init", "--host", "cp1=10.0.0.11"]));
        for ca in ["pki/ca.key", "pki/etcd/ca.key"] {
            seal(&dir.join(ca), options);
        }
        let sealed = [text(&dir.join("pki/ca.key")), text(&dir.join("pki/etcd/ca.key"))];
        let dry = run(&mut with_password(&dir, &["rotate", "--all", "--dry-run"]));
        run(&mut with_password(&dir, &["rotate", "--all"]));
        for leaf in ["apiserver", "etcd/server", "etcd/peer", "front-proxy-client"] {
            assert!(said(&dry).contains(&leaf.replace('/', "-")), "{}", said(&dry));
        }
        for (ca, leaf) in
            [("pki/ca.crt", "pki/apiserver.crt"), ("pki/etcd/ca.crt", "pki/etcd/peer.crt")]
        {
            let (ca, leaf) = (dir.join(ca), dir.join(leaf));
            openssl(&["verify", "-CAfile", ca.to_str().unwrap(), leaf.to_str().unwrap()]);
        }
        let after = [text(&dir.join("pki/ca.key")), text(&dir.join("pki/etcd/ca.key"))];
        assert_eq!(after, sealed, "an encrypted key was written again");
        // Hooks are others' programs.
        let seen = folder.path().join("seen");
        let hook = format!("env > {}", seen.display());
        let mut command = without(&dir, &["rotate", "apiserver", "--hook", &hook]);
        run(command.env("CERTKIT_CA_KEY_PASSWORD", PASSWORD));
        assert!(text(&seen).contains("CERTKIT_COMPONENT") && !text(&seen).contains(PASSWORD));
        // Going back, and exporting, need no password and open nothing.
        run(&mut without(&dir, &["rotate", "--rollback"]));
        assert_eq!(text(&dir.join("pki/etcd/ca.key")), sealed[1]);
        run(&mut without(&dir, &["export", "cp1"]));
    }
}

#[test]
fn a_wrong_password_is_said_and_nothing_is_written() {
    if need("openssl").is_none() {
        return;
    }
    let folder = temp_dir();
    let dir = sealed_tree(folder.path());
    let before = snapshot(&dir);
    for arguments in
        [&["rotate", "--all"][..], &["rotate", "--all", "--dry-run"], &["rotate", "etcd-peer"]]
    {
        let mut command = without(&dir, arguments);
        let output = run_to_exit(command.env("CERTKIT_CA_KEY_PASSWORD", "hunter2 it is"), 3);
        let said = said(&output);
        assert!(said.contains("pki/etcd/ca.key") && said.contains("password"), "{said}");
        assert!(!said.contains("hunter2"), "the password is shown: {said}");
        assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new(), "{arguments:?}");
    }
    // The file goes before the environment, and is to hold a password.
    let mut command = with_password(&dir, &["rotate", "etcd-peer"]);
    run(command.env("CERTKIT_CA_KEY_PASSWORD", "hunter2 it is"));
    let empty = folder.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let mut command = without(&dir, &["rotate", "etcd-peer"]);
    let output = run_to_exit(command.arg("--ca-key-password-file").arg(&empty), 3);
    assert!(said(&output).contains("first line is empty"), "{}", said(&output));
}

#[test]
fn without_a_password_only_what_the_encrypted_ca_signs_is_left() {
    if need("openssl").is_none() {
        return;
    }
    let folder = temp_dir();
    let dir = sealed_tree(folder.path());
    let old = [text(&dir.join("pki/apiserver.crt")), text(&dir.join("pki/etcd/peer.crt"))];
    let output = run_to_exit(&mut without(&dir, &["rotate", "--all"]), 1);
    let talk = said(&output);
    assert!(talk.contains("pki/etcd/ca.key is encrypted"), "{talk}");
    assert!(talk.contains("--ca-key-password-file"), "{talk}");
    assert_ne!(text(&dir.join("pki/apiserver.crt")), old[0]);
    assert_eq!(text(&dir.join("pki/etcd/peer.crt")), old[1]);
    // Named, it is an error.
    let output = run_to_exit(&mut without(&dir, &["rotate", "etcd-peer"]), 3);
    assert!(said(&output).contains("pki/etcd/ca.key is encrypted"), "{}", said(&output));
    // init completes what is missing, or says what it needs and writes nothing.
    fs::remove_file(dir.join("pki/etcd/peer.crt")).unwrap();
    let before = snapshot(&dir);
    let output = run_to_exit(&mut without(&dir, &["init"]), 3);
    assert!(said(&output).contains("no password was given"), "{}", said(&output));
    assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
    let output = run(&mut without(&dir, &["init", "--dry-run"]));
    assert!(said(&output).contains("is encrypted"), "{}", said(&output));
    run(&mut with_password(&dir, &["init"]));
    assert!(dir.join("pki/etcd/peer.crt").exists());
}

#[test]
fn reading_commands_need_no_password_and_say_what_is_encrypted() {
    if need("openssl").is_none() {
        return;
    }
    let folder = temp_dir();
    let dir = sealed_tree(folder.path());
    let report = stdout(&mut without(&dir, &["check-expiration", "-o", "json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    let row = |name: &str| {
        let rows = report["certificates"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    };
    // rotate renews it, given the password.
    assert_eq!(row("etcd-server")["externallyManaged"], false);
    let report = stdout(&mut without(&dir, &["verify"]));
    assert!(report.contains("key-encrypted"), "{report}");
    // The controller-manager is told to read this one.
    seal(&dir.join("pki/ca.key"), &["-topk8"]);
    let output = run_to_exit(&mut without(&dir, &["verify"]), 1);
    assert!(said(&output).contains("kube-controller-manager cannot read it"), "{}", said(&output));
    // And no component reads a leaf's.
    seal(&dir.join("pki/apiserver.key"), &["-topk8"]);
    let output = run_to_exit(&mut without(&dir, &["verify"]), 2);
    assert!(said(&output).contains("pki/apiserver.key"), "{}", said(&output));
}

#[test]
fn openssls_old_encryption_is_named_with_the_command_that_converts_it() {
    if need("openssl").is_none() {
        return;
    }
    let folder = temp_dir();
    let dir = folder.path().join("kubernetes");
    run(&mut without(&dir, &["init", "--host", "cp1=10.0.0.11"]));
    let key = dir.join("pki/etcd/ca.key");
    let pass = format!("pass:{PASSWORD}");
    let (file, old) = (key.to_str().unwrap(), format!("{}.old", key.display()));
    openssl(&["ec", "-in", file, "-aes256", "-out", &old, "-passout", &pass]);
    fs::rename(&old, &key).unwrap();
    assert!(text(&key).contains("DEK-Info"));
    let output = run_to_exit(&mut with_password(&dir, &["rotate", "etcd-peer"]), 3);
    assert!(said(&output).contains("openssl pkcs8 -topk8 -in FILE"), "{}", said(&output));
    let output = support::stdout(without(&dir, &["verify"]).env("X", "1"));
    assert!(output.contains("key-encrypted") && output.contains("DEK-Info"), "{output}");
    // What the command says works.
    let (passin, new) = (format!("pass:{PASSWORD}"), format!("{}.new", key.display()));
    openssl(&["pkcs8", "-topk8", "-in", file, "-passin", &passin, "-out", &new, "-passout", &pass]);
    fs::rename(&new, &key).unwrap();
    run(&mut with_password(&dir, &["rotate", "etcd-peer"]));
}

#[test]
fn on_a_terminal_the_password_is_asked_for_and_not_shown() {
    let Some(script) = need("script") else { return };
    if need("openssl").is_none() {
        return;
    }
    let folder = temp_dir();
    let dir = sealed_tree(folder.path());
    let command = without(&dir, &["rotate", "etcd-peer"]);
    let line = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ");
    let old = text(&dir.join("pki/etcd/peer.crt"));
    let mut terminal = Command::new(script)
        .args(["-qec", &line, "/dev/null"])
        .env_remove("CERTKIT_CA_KEY_PASSWORD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = terminal.stdin.take().unwrap();
    let mut output = terminal.stdout.take().unwrap();
    // A wrong answer first, then the right one, each once it is asked for.
    let mut seen = String::new();
    let mut answers = ["hunter2 it is\n".to_owned(), format!("{PASSWORD}\n")].into_iter();
    let mut buffer = [0; 256];
    loop {
        use std::io::{Read as _, Write as _};
        let read = output.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if seen.ends_with("ca.key: ")
            && let Some(answer) = answers.next()
        {
            input.write_all(answer.as_bytes()).unwrap();
            input.flush().unwrap();
        }
    }
    drop(input);
    assert!(terminal.wait().unwrap().success(), "{seen}");
    assert!(seen.contains("Password of") && seen.contains("That does not open it"), "{seen}");
    assert!(!seen.contains("hunter2") && !seen.contains(PASSWORD), "the password is shown: {seen}");
    assert_ne!(text(&dir.join("pki/etcd/peer.crt")), old);
}
