//! Every document that certkit prints is what its published schema says.

mod support;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;
use support::{certkit, schema, temp_dir};

fn published(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("a schema is JSON")
}

/// The document, which must be what the schema of this name says; as YAML it is the same.
#[track_caller]
fn fits(name: &str, dir: &Path, arguments: &[&str]) -> Value {
    let ask = |format: &str, more: &[&str]| {
        let mut command = certkit();
        command.args(arguments).args(more).args(["-o", format, "--dir"]).arg(dir);
        let output = command.output().expect("certkit");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (String::from_utf8(output.stdout).expect("UTF-8"), said)
    };
    let (text, said) = ask("json", &[]);
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}: {text}{said}"));
    let faults = schema::faults(&published(&format!("{name}.json")), &value);
    assert!(faults.is_empty(), "{name}: {faults:#?}");
    assert!(value["apiVersion"] == "certkit/v1" && value["kind"].is_string(), "{name}");
    // Of a change there is only one; its kind is the same.
    let (yaml, _) = ask("yaml", &[]);
    let kind = value["kind"].as_str().expect("a kind");
    assert!(yaml.contains(&format!("kind: {kind}\n")), "{name}: {yaml}");
    value
}

#[test]
fn every_document_is_what_its_schema_says() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    let host = ["init", "--name", "demo", "--host", "cp1=10.0.0.11"];
    fits("init", &dir, &[&host[..], &["--dry-run"]].concat());
    fits("init", &dir, &host);
    fits("paths", &dir, &["paths"]);
    fits("verify", &dir, &["verify", "--forecast"]);
    let dirs = [dir.to_str().expect("UTF-8"), "/nonexistent"];
    let fleet = fits("fleet-check", &dir, &["fleet", "check", dirs[0], dirs[1]]);
    assert_eq!(fleet["clusters"].as_array().map(Vec::len), Some(2));
    fits("verify", &dir, &["verify", "--at", "2099-01-01T00:00:00Z"]);
    fits("rotate", &dir, &["rotate"]);
    let rotated = fits("rotate", &dir, &["rotate", "--all", "--restart", "systemd"]);
    assert!(rotated["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
    fits("rollback-list", &dir, &["rotate", "--rollback", "--list"]);
    fits("rollback", &dir, &["rotate", "--rollback", "--dry-run"]);
    fits("prune", &dir, &["prune", "--dry-run"]);
    fits("nodes-list", &dir, &["nodes", "list"]);
    let settings = fits("flags", &dir, &["flags"]);
    assert!(settings["settings"].as_array().is_some_and(|all| all.len() > 40));
    let templates = fits("template", &dir, &["template"]);
    assert!(templates["templates"].as_array().is_some_and(|all| all.len() > 8));
    let archives = folder.path().join("archives");
    let archives = archives.to_str().expect("UTF-8");
    // Of the second time, as YAML, it is that nothing has changed.
    let exported = fits("export", &dir, &["export", "--changed", "--all", archives]);
    assert_eq!(exported["written"].as_array().map(Vec::len), Some(1));
    let out = folder.path().join("alice.conf");
    let out = out.to_str().expect("UTF-8");
    let made = fits("kubeconfig", &dir, &["kubeconfig", "alice", "--group", "a,b", "--out", out]);
    assert_eq!((&made["groups"], &made["signed"]), (&serde_json::json!(["a", "b"]), &true.into()));
    let asked = fits("kubeconfig", &dir, &["kubeconfig", "alice", "--csr", "--out", out]);
    assert!(asked["request"]["name"].is_string() && asked["signed"] == false, "{asked}");
    fits("init", &dir, &["nodes", "add", "w1=10.0.1.1", "--dry-run"]);
    fits("init", &dir, &["nodes", "add", "w1=10.0.1.1"]);
    fits("prune", &dir, &["nodes", "remove", "w1", "--dry-run"]);
    fits("rotate-ca-status", &dir, &["rotate-ca"]);
    fits("rotate-ca", &dir, &["rotate-ca", "etcd-ca", "--next", "--dry-run"]);
    let late = ["recover", "--dry-run", "--at", "2099-01-01T00:00:00Z"];
    let recovered = fits("recover", &dir, &late);
    assert!(recovered["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
    for file in ["pki/apiserver.crt", "admin.conf", "pki/etcd/ca.crt"] {
        let path = dir.join(file);
        fits("show", &dir, &["show", path.to_str().expect("UTF-8")]);
    }
    let adopted = folder.path().join("adopted");
    support::tree::copy(&dir, &adopted);
    fs::remove_file(adopted.join("certkit.yaml")).expect("there");
    fits("adopt", &adopted, &["init", "--adopt", "--dry-run"]);
}

#[test]
fn what_was_carried_to_hosts_is_reported_as_its_schema_says() {
    let folder = temp_dir();
    let dir = folder.path().join("workspace");
    let host = folder.path().join("host");
    let tree = host.to_str().expect("UTF-8");
    let init = ["init", "-q", "--workspace", "--host", "cp1=127.0.0.1", "--host-dir", tree];
    support::run(certkit().args(init).arg("--dir").arg(&dir));
    // This machine is the host, and this script is ssh.
    let path = Path::new(certkit().get_program()).parent().expect("a folder").to_owned();
    let script = folder.path().join("ssh");
    let text = format!("#!/bin/sh\nshift\nPATH={}:$PATH exec sh -c \"$*\"\n", path.display());
    support::write_script(&script, &text);
    let ssh = script.to_str().expect("UTF-8");
    assert_eq!(fits("status", &dir, &["status"])["hosts"][0]["state"], "never-deployed");
    fits("deploy", &dir, &["deploy", "--check", "--ssh", ssh]);
    let deployed = fits("deploy", &dir, &["deploy", "--ssh", ssh]);
    assert_eq!(deployed["hosts"][0]["state"], "deployed");
    assert_eq!(fits("status", &dir, &["status"])["hosts"][0]["state"], "in-step");
    assert_eq!(fits("deploy", &dir, &["deploy", "--ssh", "false"])["hosts"][0]["state"], "failed");
    fits("receive", &host, &["receive"]);
}

#[test]
fn what_was_signed_elsewhere_is_reported_as_its_schema_says() {
    let Some(openssl) = support::need("openssl") else { return };
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    let run = |arguments: &[&str]| support::run(certkit().args(arguments).arg("--dir").arg(&dir));
    run(&["init", "-q", "--name", "demo", "--host", "cp1=10.0.0.11"]);
    run(&["rotate", "scheduler.conf", "--csr-only", "-q"]);
    let found = fs::read_dir(dir.join("csr")).expect("requests").filter_map(Result::ok);
    let request =
        found.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "csr")).expect("one");
    let signed = folder.path().join("signed.crt");
    let mut sign = Command::new(openssl);
    sign.args([
        "x509",
        "-req",
        "-days",
        "30",
        "-copy_extensions",
        "copy",
        "-CAcreateserial",
        "-in",
    ]);
    sign.arg(&request)
        .arg("-CA")
        .arg(dir.join("pki/ca.crt"))
        .arg("-CAkey")
        .arg(dir.join("pki/ca.key"));
    support::run(sign.arg("-out").arg(&signed));
    let _ = fs::remove_file(dir.join("pki/ca.srl"));
    let taken = fits("import", &dir, &["import", signed.to_str().expect("UTF-8"), "--dry-run"]);
    assert_eq!(taken["taken"][0]["name"], "scheduler.conf");
}

#[test]
fn every_schema_is_of_a_document_and_can_fail() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let names = fs::read_dir(folder).expect("schemas").map(|e| e.expect("it").file_name());
    let names: BTreeSet<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let source = [
        include_str!("schema.rs"),
        include_str!("check_expiration/format.rs"),
        include_str!("controller_live.rs"),
    ]
    .concat();
    for name in &names {
        let stem = name.trim_end_matches(".json");
        assert!(
            source.contains(&format!("\"{stem}\"")) || source.contains(name.as_str()),
            "{name} is tried nowhere"
        );
        let schema = published(name);
        assert!(!schema::faults(&schema, &serde_json::json!({})).is_empty(), "{name}");
        let other =
            serde_json::json!({"apiVersion": "certkit/v1", "kind": "Another", "surprise": 1});
        assert!(schema::faults(&schema, &other).len() > 2, "{name}");
        assert!(
            !schema.to_string().contains("additionalProperties"),
            "{name} allows no added field"
        );
    }
}
