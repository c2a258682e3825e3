//! Key stores, made by openssl and by Java's keytool.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    check_at,
    form::{BETWEEN, Sample},
    json, rows, support,
};

const PASSWORD: &str = "correct horse \u{e4}";

/// `openssl pkcs12 -export` of the sample, with this password and these arguments.
fn pkcs12(sample: &Sample, name: &str, password: &str, args: &[&str]) -> PathBuf {
    let path = sample.path(name);
    let password_file = sample.path("openssl-password");
    fs::write(&password_file, format!("{password}\n")).unwrap();
    support::run(
        Command::new("openssl")
            .args([
                "pkcs12",
                "-export",
                "-in",
                "old.pem",
                "-inkey",
                "old.key",
                "-certfile",
                "new.pem",
            ])
            .args(["-name", "web"])
            .args(args)
            .arg("-passout")
            .arg(format!("file:{}", password_file.display()))
            .arg("-out")
            .arg(&path)
            .current_dir(sample.path("")),
    );
    path
}

fn password_file(sample: &Sample, password: &str) -> PathBuf {
    let path = sample.path("password");
    fs::write(&path, format!("{password}\nnot this line\n")).unwrap();
    path
}

/// Subject and status of each row, and the exit code.
#[track_caller]
fn said(command: &mut Command) -> (Vec<(String, String)>, i32) {
    let (report, code) = json(command);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut said: Vec<_> =
        rows(&report).iter().map(|row| (text(&row["subject"]), text(&row["status"]))).collect();
    said.sort();
    (said, code)
}

fn both() -> Vec<(String, String)> {
    vec![("CN=new".into(), "ok".into()), ("CN=old".into(), "expired".into())]
}

#[track_caller]
fn is_unknown_without(sample: &Sample, path: &Path, how: &str) {
    let (report, code) = json(check_at(BETWEEN).arg(path));
    let row = rows(&report)[0].clone();
    assert_eq!((code, row["status"].as_str()), (3, Some("unknown")), "{row}");
    let reason = row["reason"].as_str().unwrap();
    assert!(reason.contains(how), "{reason}");
    // In a folder as well, and with another password.
    let folder = support::temp_dir();
    fs::copy(path, folder.path().join("store.bin")).unwrap();
    assert_eq!(json(check_at(BETWEEN).arg(folder.path())).1, 3);
    let wrong = password_file(sample, "wrong");
    let (report, code) =
        json(check_at(BETWEEN).arg("--password-file").arg(wrong).arg(folder.path()));
    let reason = rows(&report)[0]["reason"].as_str().unwrap().to_owned();
    assert!(code == 3 && reason.contains("no password that was given opens it"), "{reason}");
}

#[test]
fn pkcs12_is_read_with_its_password_whatever_made_it() {
    let Some(sample) = Sample::make() else { return };
    for (name, args) in [
        ("modern.p12", &[][..]),
        ("legacy.p12", &["-legacy"][..]),
        ("sha1.p12", &["-macalg", "sha1"]),
        ("without-mac.p12", &["-nomac"]),
        ("3des.p12", &["-legacy", "-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES"]),
        ("aes128.p12", &["-certpbe", "AES-128-CBC", "-keypbe", "AES-128-CBC"]),
        ("open-certificates.p12", &["-certpbe", "NONE"]),
    ] {
        let path = pkcs12(&sample, name, PASSWORD, args);
        is_unknown_without(&sample, &path, "--password-file");
        let password = password_file(&sample, PASSWORD);
        let (found, code) =
            said(check_at(BETWEEN).arg("--password-file").arg(&password).arg(&path));
        assert_eq!((found, code), (both(), 2), "{name}");
        // By the environment, and as one of several.
        let by_variable = said(check_at(BETWEEN).env("CERTKIT_PASSWORD", PASSWORD).arg(&path));
        assert_eq!(by_variable, (both(), 2), "{name}");
        let other = sample.path("other");
        fs::write(&other, "other\n").unwrap();
        let files = [&other, &password].map(|file| format!("--password-file={}", file.display()));
        assert_eq!(said(check_at(BETWEEN).args(files).arg(&path)), (both(), 2), "{name}");
    }
}

#[test]
fn pkcs12_without_a_password_needs_none() {
    let Some(sample) = Sample::make() else { return };
    for (name, args) in [
        ("empty.p12", &[][..]),
        ("empty-legacy.p12", &["-legacy"]),
        ("nothing-kept.p12", &["-certpbe", "NONE", "-keypbe", "NONE", "-nomac"]),
    ] {
        let path = pkcs12(&sample, name, "", args);
        assert_eq!(said(check_at(BETWEEN).arg(&path)), (both(), 2), "{name}");
    }
}

#[test]
fn javas_stores_are_read() {
    let Some(sample) = Sample::make() else { return };
    let Some(_) = support::need("keytool") else { return };
    let source = pkcs12(&sample, "source.p12", "changeit", &[]);
    for (kind, name) in [("JKS", "a.jks"), ("JCEKS", "a.jceks"), ("PKCS12", "java.p12")] {
        let path = sample.path(name);
        let keytool = |args: &[&str]| {
            let mut command = Command::new("keytool");
            command.args(args).args(["-keystore", &path.display().to_string()]);
            support::run(command.args(["-storepass", "changeit", "-noprompt"]));
        };
        keytool(&[
            "-importkeystore",
            "-srckeystore",
            &source.display().to_string(),
            "-srcstoretype",
            "PKCS12",
            "-srcstorepass",
            "changeit",
            "-deststoretype",
            kind,
            "-destkeypass",
            "changeit",
        ]);
        let new = sample.path("new.pem").display().to_string();
        keytool(&["-importcert", "-alias", "trusted", "-file", &new, "-storetype", kind]);
        let password = password_file(&sample, "changeit");
        let (report, code) =
            json(check_at(BETWEEN).arg("--password-file").arg(&password).arg(&path));
        let names: Vec<&str> = rows(&report).iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert_eq!(code, 2, "{kind}");
        for alias in ["web", "trusted"] {
            let wanted = format!("{} ({alias})", path.display());
            assert!(names.contains(&wanted.as_str()), "{kind}: {names:?}");
        }
        if kind == "PKCS12" {
            is_unknown_without(&sample, &path, "--password-file");
            continue;
        }
        // The certificates of these lie open, as keytool itself lists them; that is noted.
        let (report, code) = json(check_at(BETWEEN).arg(&path));
        assert_eq!((code, rows(&report).len()), (2, names.len()), "{kind}");
        assert!(report.to_string().contains("nothing proves that the store is whole"));
        let wrong = password_file(&sample, "wrong");
        assert_eq!(json(check_at(BETWEEN).arg("--password-file").arg(wrong).arg(&path)).1, 3);
        // Changed or cut short it is told.
        let content = fs::read(&path).unwrap();
        let cut = sample.path("cut");
        for length in [4, 20, content.len() / 2, content.len() - 1] {
            fs::write(&cut, &content[..length]).unwrap();
            assert_eq!(json(check_at(BETWEEN).arg(&cut)).1, 3, "{kind} {length}");
        }
        let mut changed = content.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        fs::write(&cut, changed).unwrap();
        let password = password_file(&sample, "changeit");
        assert_eq!(json(check_at(BETWEEN).arg("--password-file").arg(password).arg(&cut)).1, 3);
    }
}

#[test]
fn stores_inside_secrets_are_opened_too() {
    let Some(sample) = Sample::make() else { return };
    let store = fs::read(pkcs12(&sample, "x.p12", PASSWORD, &[])).unwrap();
    let secret = sample.path("secret.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: n}}\ndata:\n  keystore.p12: {}\n",
        support::base64(&store)
    );
    fs::write(&secret, text).unwrap();
    let (report, code) = json(check_at(BETWEEN).arg(&secret));
    assert_eq!((code, rows(&report)[0]["name"].as_str()), (3, Some("n/s keystore.p12")));
    let password = password_file(&sample, PASSWORD);
    assert_eq!(
        said(check_at(BETWEEN).arg("--password-file").arg(password).arg(&secret)),
        (both(), 2)
    );
}

#[test]
fn a_password_never_stands_on_the_command_line_nor_in_the_report() {
    let Some(sample) = Sample::make() else { return };
    let path = pkcs12(&sample, "x.p12", PASSWORD, &[]);
    let mut command = check_at(BETWEEN);
    let output = command.env("CERTKIT_PASSWORD", "wrong secret").arg(&path).output().unwrap();
    let said = format!("{output:?}");
    assert!(!said.contains("wrong secret") && !said.contains(PASSWORD), "{said}");
    for bad in [sample.path("none"), sample.path("")] {
        let mut command = check_at(BETWEEN);
        let output = support::run_to_exit(command.arg("--password-file").arg(&bad).arg(&path), 3);
        assert!(String::from_utf8_lossy(&output.stderr).contains("--password-file"));
    }
}
