//! Every form in which a certificate lies about, made and read by openssl as well: what can be read is, and
//! what cannot is never passed over.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{check, check_at, json, rows, support};

/// Between the end of [`Sample::old`] and that of [`Sample::new`].
pub const BETWEEN: &str = "2026-06-01T00:00:00Z";

/// Two certificates made by openssl: one that has ended by [`BETWEEN`], and one that has not.
pub struct Sample {
    folder: tempfile::TempDir,
}

impl Sample {
    pub fn make() -> Option<Self> {
        support::need("openssl")?;
        let folder = support::temp_dir();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for (name, end) in [("old", "20260101000000Z"), ("new", "20460101000000Z")] {
            let request = at(&format!("{name}.csr"));
            support::openssl(&[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &at(&format!("{name}.key")),
                "-out",
                &request,
            ]);
            fs::write(at("index.txt"), "").unwrap();
            fs::write(
                at("ca.cnf"),
                format!(
                    "[ca]\ndefault_ca=x\n[x]\ndatabase={}\nnew_certs_dir={}\nrand_serial=yes\n\
                     default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n",
                    at("index.txt"),
                    folder.path().display(),
                ),
            )
            .unwrap();
            support::openssl(&[
                "ca",
                "-batch",
                "-selfsign",
                "-notext",
                "-config",
                &at("ca.cnf"),
                "-keyfile",
                &at(&format!("{name}.key")),
                "-in",
                &request,
                "-startdate",
                "20250101000000Z",
                "-enddate",
                end,
                "-out",
                &at(&format!("{name}.pem")),
            ]);
        }
        Some(Self { folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.pem"))).unwrap()
    }

    /// `openssl ARGS`, whose output is the file's content.
    pub fn convert(&self, args: &[&str], file: &str) -> Vec<u8> {
        let path = self.path(file);
        let mut command = Command::new("openssl");
        support::run(command.args(args).arg("-out").arg(&path).current_dir(self.folder.path()));
        let content = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        content
    }

    /// Every form of one certificate that is read: the name it usually has, and its content.
    fn readable(&self, name: &str) -> Vec<(&'static str, Vec<u8>)> {
        let text = self.text(name);
        let file = format!("{name}.pem");
        let utf16 =
            |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<_>>();
        let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
        vec![
            ("plain.crt", text.clone().into_bytes()),
            ("bom.crt", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
            ("utf16le.crt", [b"\xff\xfe", &utf16(u16::to_le_bytes)[..]].concat()),
            ("utf16be.crt", [b"\xfe\xff", &utf16(u16::to_be_bytes)[..]].concat()),
            ("utf16le-without-mark.crt", utf16(u16::to_le_bytes)),
            ("utf16be-without-mark.crt", utf16(u16::to_be_bytes)),
            ("crlf.crt", text.replace('\n', "\r\n").into_bytes()),
            ("cr.crt", text.replace('\n', "\r").into_bytes()),
            ("bom-cr.crt", format!("\u{feff}{}", text.replace('\n', "\r")).into_bytes()),
            ("indented.crt", indented.clone().into_bytes()),
            ("values.yaml", format!("server:\n  certificate: |\n{indented}").into_bytes()),
            ("anything", text.clone().into_bytes()),
            ("der.cer", self.convert(&["x509", "-in", &file, "-outform", "DER"], "x")),
            ("der", self.convert(&["x509", "-in", &file, "-outform", "DER"], "x")),
            (
                "trusted.pem",
                self.convert(&["x509", "-in", &file, "-trustout", "-addtrust", "serverAuth"], "x"),
            ),
            ("pkcs7.p7b", self.convert(&["crl2pkcs7", "-nocrl", "-certfile", &file], "x")),
            (
                "pkcs7-der.p7b",
                self.convert(&["crl2pkcs7", "-nocrl", "-certfile", &file, "-outform", "DER"], "x"),
            ),
            ("pkcs7.txt", self.convert(&["crl2pkcs7", "-nocrl", "-certfile", &file], "x")),
            ("text.pem", self.convert(&["x509", "-in", &file, "-text"], "x")),
        ]
    }
}

fn put(name: &str, content: &[u8]) -> tempfile::TempDir {
    let folder = support::temp_dir();
    fs::write(folder.path().join(name), content).unwrap();
    folder
}

/// What a folder's check says: how many rows, the first one's status, and the exit code.
#[track_caller]
fn said(folder: &Path) -> (usize, String, i32) {
    let (report, code) = json(check_at(BETWEEN).arg(folder));
    let rows = rows(&report);
    (rows.len(), rows[0]["status"].as_str().unwrap().to_owned(), code)
}

#[test]
fn every_form_that_can_be_read_is_read() {
    let Some(sample) = Sample::make() else { return };
    for (certificate, expected) in [("old", ("expired", 2)), ("new", ("ok", 0))] {
        for (name, content) in sample.readable(certificate) {
            let folder = put(name, &content);
            let (report, code) = json(check_at(BETWEEN).arg(folder.path()));
            let found = rows(&report);
            assert_eq!(found.len(), 1, "{name}: {report:#}");
            assert_eq!((found[0]["status"].as_str().unwrap(), code), expected, "{name}");
            assert_eq!(found[0]["subject"], format!("CN={certificate}"), "{name}");
            // Named itself it is the same.
            let (named, _) = json(check_at(BETWEEN).arg(folder.path().join(name)));
            assert_eq!(rows(&named), found, "{name}");
        }
    }
}

#[test]
fn what_kubernetes_would_not_read_is_noted() {
    let Some(sample) = Sample::make() else { return };
    for (name, content) in sample.readable("new") {
        let folder = put(name, &content);
        let (report, _) = json(check_at(BETWEEN).arg(folder.path()));
        let noted = rows(&report)[0]["reason"].as_str().is_some_and(|r| r.contains("Kubernetes"));
        let plain = name.starts_with("plain")
            || name.starts_with("crlf")
            || name.starts_with("text")
            || name.starts_with("anything")
            || name.contains("der");
        assert_eq!(noted, !plain, "{name}: {report:#}");
    }
}

#[test]
fn a_chain_in_pkcs7_is_a_row_for_each() {
    let Some(sample) = Sample::make() else { return };
    let args = ["crl2pkcs7", "-nocrl", "-certfile", "new.pem", "-certfile", "old.pem"];
    for form in ["PEM", "DER"] {
        let folder =
            put("chain.p7b", &sample.convert(&[&args[..], &["-outform", form]].concat(), "x"));
        let (report, code) = json(check_at(BETWEEN).arg(folder.path()));
        let subjects: Vec<_> = rows(&report).iter().map(|r| r["subject"].clone()).collect();
        assert_eq!((subjects, code), (vec!["CN=new".into(), "CN=old".into()], 2), "{form}");
    }
}

/// Whatever its form, a part of it is told: no cut leaves a folder that is all right.
#[test]
fn what_is_cut_short_is_never_passed_over() {
    let Some(sample) = Sample::make() else { return };
    for (name, content) in sample.readable("new") {
        // What is a YAML file's or a text's name says nothing of certificates; their content does.
        let by_name = Path::new(name).extension().is_some_and(|e| e != "yaml" && e != "txt");
        let begins = content.windows(11).position(|w| w == b"-----BEGIN ").unwrap_or(0);
        for percent in [0, 10, 50, 90] {
            let cut = content.len() * percent / 100;
            if !by_name && cut < begins + 40 {
                continue;
            }
            let folder = put(name, &content[..cut]);
            let (count, status, code) = said(folder.path());
            assert_eq!((count, status.as_str(), code), (1, "unknown", 3), "{name} at {percent} %");
        }
    }
}

#[test]
fn names_that_promise_certificates_are_held_to_it() {
    let junk: [&[u8]; 5] = [
        b"",
        b" \n\t\n",
        b"hello",
        &[0, 1, 2, 3, 0xff, 0xfe, 0x30],
        b"\x00\x01\n-----BEGIN CERTIFICATE-----\n\x00\x02\n-----END CERTIFICATE-----\n",
    ];
    for name in [
        "a.crt",
        "a.pem",
        "a.cer",
        "a.CRT",
        "a.der",
        "a.p7b",
        "a.p7c",
        "a.p12",
        "a.pfx",
        "a.jks",
        "a.jceks",
        "a.kubeconfig",
        "admin.conf",
        "kubeconfig",
        "ca-bundle",
    ] {
        for content in junk {
            let folder = put(name, content);
            let (count, status, code) = said(folder.path());
            assert_eq!((count, status.as_str(), code), (1, "unknown", 3), "{name} {content:?}");
        }
    }
    // An empty file may have been a kubeconfig.
    assert_eq!(said(put("x.conf", b"").path()).2, 3);
}

#[test]
fn unrelated_files_make_no_noise_and_are_counted() {
    let Some(sample) = Sample::make() else { return };
    let folder = support::temp_dir();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("good.crt"), sample.text("new")).unwrap();
    let example = "-----BEGIN CERTIFICATE-----\nMIIB...\n-----END CERTIFICATE-----\n";
    for (name, content) in [
        ("README", "put your -----BEGIN CERTIFICATE----- here\n".to_owned()),
        ("README.md", example.to_owned()),
        ("renew.sh", format!("#!/bin/sh\ncat >ca.crt <<EOF\n{example}EOF\n")),
        ("nginx.conf", "server { ssl_certificate good.crt; }\n".to_owned()),
        ("good.key", fs::read_to_string(sample.path("new.key")).unwrap()),
        ("key.pem", fs::read_to_string(sample.path("new.key")).unwrap()),
        ("request.pem", fs::read_to_string(sample.path("new.csr")).unwrap()),
        ("app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_owned()),
        ("package.json", "{\"name\": \"x\"}".to_owned()),
        ("empty", String::new()),
        (".gitkeep", String::new()),
    ] {
        fs::write(at(name), content).unwrap();
    }
    fs::write(at("program"), b"\x7fELF\0\0-----BEGIN CERTIFICATE-----\0x").unwrap();
    let key = ["pkcs8", "-topk8", "-nocrypt", "-in", "new.key", "-outform", "DER"];
    fs::write(at("key.der"), sample.convert(&key, "x")).unwrap();
    let (report, code) = json(check_at(BETWEEN).arg(folder.path()));
    assert_eq!((code, rows(&report).len()), (0, 1), "{report:#}");
    assert_eq!(report["summary"]["files"]["lookedAt"], 14);
    assert_eq!(report["summary"]["files"]["withRows"], 1);
    // Named, each must hold a certificate.
    for name in ["README", "good.key", "key.pem", "key.der", "program", "empty", "app.yaml"] {
        support::run_to_exit(check().arg(at(name)), 3);
    }
}

#[test]
fn a_folder_in_which_nothing_was_found_is_unknown_in_every_format() {
    let empty = support::temp_dir();
    let unrelated = put("README", b"hello");
    let deeper = support::temp_dir();
    fs::create_dir(deeper.path().join("tls")).unwrap();
    for (folder, why) in
        [(&empty, "no files"), (&unrelated, "1 file looked at"), (&deeper, "-r walks")]
    {
        let path = folder.path();
        let (report, code) = json(check().arg(path));
        let row = rows(&report)[0].clone();
        assert_eq!((code, row["status"].as_str()), (3, Some("unknown")));
        assert_eq!(row["name"], path.display().to_string());
        assert!(row["reason"].as_str().unwrap().contains(why), "{row}");
        let in_format = |format: &str| {
            let output = support::run_to_exit(check().args(["-q", "-o", format]).arg(path), 3);
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(in_format("nagios").starts_with("CERTKIT UNKNOWN"));
        assert!(in_format("table").contains("UNKNOWN: holds no certificate"));
        assert!(in_format("prometheus").contains("certkit_certificates{status=\"unknown\"} 1\n"));
    }
    // One good folder does not speak for another.
    let Some(sample) = Sample::make() else { return };
    let good = put("good.crt", sample.text("new").as_bytes());
    let (report, code) = json(check_at(BETWEEN).arg(good.path()).arg(empty.path()));
    assert_eq!((code, rows(&report).len()), (3, 2));
}
