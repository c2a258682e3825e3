//! `certkit check-expiration` as its users run it.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod form;
mod format;
mod keystore;
mod kubeadm;
mod object;
mod path;
mod renewal;
mod term;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use certkit::{
    model::{
        algorithm::KeyAlgorithm,
        name::Name,
        profile::{Kind, Profile, Validity},
        san::San,
        timestamp::Timestamp,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        inspect::Certificate,
        issue::{self, Issuance, IssuingCa},
        key::{KeyFormat, PrivateKey},
    },
};
use serde_json::Value;

/// A time at which everything that the tests make, and the fixtures, are valid.
const THEN: &str = "2027-01-01T00:00:00Z";

/// The command, judging as of [`THEN`], with no cluster around it.
fn check() -> Command {
    check_at(THEN)
}

fn check_at(time: &str) -> Command {
    let mut command = support::certkit();
    command.args(["check-expiration", "--at", time]).env_remove("COLUMNS");
    command
}

/// Its JSON, and its exit code.
#[track_caller]
fn json(command: &mut Command) -> (Value, i32) {
    let output = command.args(["-o", "json"]).output().expect("certkit runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    let code = output.status.code().expect("an exit code");
    assert_eq!(value["summary"]["exitCode"], code, "{text}");
    (value, code)
}

/// All rows, leaves first.
fn rows(report: &Value) -> Vec<&Value> {
    let list = |name: &str| report[name].as_array().expect("a list").iter();
    list("certificates").chain(list("certificateAuthorities")).collect()
}

/// The row of this name.
#[track_caller]
fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let names = || rows(report).iter().map(|r| r["name"].to_string()).collect::<Vec<_>>();
    rows(report)
        .into_iter()
        .find(|row| row["name"] == name)
        .unwrap_or_else(|| panic!("no row {name}, only {:?}", names()))
}

fn names(report: &Value, list: &str) -> Vec<String> {
    let list = report[list].as_array().expect("a list");
    list.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36").join(name)
}

/// A copy of one of kubeadm's directories.
fn kubeadm_copy(into: &Path) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("the fixture") {
            let (path, name) = entry.map(|e| (e.path(), e.file_name())).expect("an entry");
            match path.is_dir() {
                true => copy(&path, &to.join(name)),
                false => fs::copy(&path, to.join(name)).map(drop).expect("copied"),
            }
        }
    }
    copy(&fixture("ecdsa-p256"), into);
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A CA that is valid from 2020 to 2060.
fn ca(name: &str) -> IssuingCa {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    let profile = Profile {
        subject: Name::new(&[], name),
        sans: Vec::new(),
        kind: Kind::Ca { path_len: None },
        key_usages: KeyUsages::CA,
        extended_usages: Vec::new(),
    };
    let certificate = issue::self_signed(
        &profile,
        Validity {
            not_before: time("2020-01-01T00:00:00Z"),
            not_after: time("2060-01-01T00:00:00Z"),
        },
        &key,
    );
    IssuingCa::new(certificate.expect("a CA"), key).expect("its own key")
}

fn leaf(
    ca: &IssuingCa,
    name: &str,
    not_before: &str,
    not_after: &str,
) -> (Certificate, PrivateKey) {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    let profile = Profile {
        subject: Name::new(&[], name),
        sans: vec![San::Dns("localhost".into()), San::parse("127.0.0.1").expect("an address")],
        kind: Kind::Leaf,
        key_usages: KeyUsages::LEAF,
        extended_usages: vec![ExtendedUsage::ServerAuth, ExtendedUsage::ClientAuth],
    };
    let validity = Validity { not_before: time(not_before), not_after: time(not_after) };
    let order = Issuance { profile: &profile, validity, public_key: key.public_key() };
    (issue::issue(&order, ca).expect("issued").certificate, key)
}

fn write_key(path: &Path, key: &PrivateKey) {
    fs::write(path, key.to_pem(KeyFormat::Pkcs8).as_bytes()).expect("a key file");
}
