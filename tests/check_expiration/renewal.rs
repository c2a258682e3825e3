//! EXTERNALLY MANAGED and what `rotate` would do are the same judgement.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use certkit::pki::issue::IssuingCa;
use serde_json::Value;

use crate::{THEN, ca, check, json, kubeadm_copy, leaf, support};

/// A way in which a directory may be, by its name.
type Change = (&'static str, fn(&Path));

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn stranger() -> IssuingCa {
    ca("stranger")
}

const CHANGES: [Change; 9] = [
    ("as it was made", |_| {}),
    ("the CA's key is elsewhere", |dir| fs::remove_file(dir.join("pki/ca.key")).unwrap()),
    ("another CA's key", |dir| {
        fs::copy(dir.join("pki/front-proxy-ca.key"), dir.join("pki/ca.key")).unwrap();
    }),
    ("a key that is none", |dir| fs::write(dir.join("pki/ca.key"), "garbage").unwrap()),
    ("the CA first, then another", |dir| {
        let path = dir.join("pki/ca.crt");
        fs::write(&path, read(&path) + &stranger().certificate().to_pem()).unwrap();
    }),
    ("another first, then the CA", |dir| {
        let path = dir.join("pki/ca.crt");
        fs::write(&path, stranger().certificate().to_pem() + &read(&path)).unwrap();
    }),
    ("a leaf of another CA", |dir| {
        let (certificate, key) =
            leaf(&stranger(), "kube-apiserver", "2026-06-01T00:00:00Z", "2028-06-01T00:00:00Z");
        fs::write(dir.join("pki/apiserver.crt"), certificate.to_pem()).unwrap();
        crate::write_key(&dir.join("pki/apiserver.key"), &key);
    }),
    ("etcd's CA is gone", |dir| {
        fs::remove_file(dir.join("pki/etcd/ca.crt")).unwrap();
        fs::remove_file(dir.join("pki/etcd/ca.key")).unwrap();
    }),
    ("etcd's CA certificate is garbage", |dir| {
        fs::write(dir.join("pki/etcd/ca.crt"), "garbage").unwrap();
    }),
];

/// The names of what `rotate --all` would renew.
fn renewed(dir: &Path) -> BTreeSet<String> {
    let mut command = support::certkit();
    let output = command
        .args(["rotate", "--all", "--dry-run", "-o", "json", "--at", THEN, "--dir"])
        .arg(dir)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = report["steps"].as_array().unwrap().iter();
    steps
        .filter(|step| step["action"] == "renew")
        .map(|step| step["name"].as_str().unwrap().to_owned())
        .collect()
}

fn external(dir: &Path) -> BTreeMap<String, bool> {
    let (report, _) = json(check().arg("--dir").arg(dir));
    let leaves = report["certificates"].as_array().unwrap().iter();
    leaves
        .filter(|row| row["subject"].is_string())
        .map(|row| {
            let is_external = row["externallyManaged"].as_bool().unwrap();
            (row["name"].as_str().unwrap().to_owned(), is_external)
        })
        .filter(|(name, _)| !name.contains(['#', '(']))
        .collect()
}

#[test]
fn what_is_externally_managed_is_what_rotate_leaves_alone() {
    for (what, change) in CHANGES {
        for declared in [false, true] {
            let folder = support::temp_dir();
            let dir = folder.path().join("d");
            match declared {
                false => kubeadm_copy(&dir),
                true => drop(support::run(
                    support::certkit().args(["init", "--host", "cp1=10.0.0.11", "--dir"]).arg(&dir),
                )),
            }
            change(&dir);
            let (renewed, external) = (renewed(&dir), external(&dir));
            assert!(external.len() > 5, "{external:?}");
            for (name, is_external) in external {
                let is_renewed = renewed.contains(&name);
                assert_eq!(is_external, !is_renewed, "{what}, declared: {declared}: {name}");
            }
        }
    }
}

/// Whoever only watches may not read the CA's key; that is no reason to say that it is elsewhere.
#[test]
fn a_key_that_may_not_be_read_is_here() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(setpriv) = support::need("setpriv") else { return };
    let folder = support::temp_dir();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = folder.path().join("d");
    kubeadm_copy(&dir);
    for key in ["pki/ca.key", "pki/etcd/ca.key", "pki/front-proxy-ca.key"] {
        fs::set_permissions(dir.join(key), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let program = folder.path().join("certkit");
    support::copy_certkit(&program);
    let mut command = std::process::Command::new(setpriv);
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    command.args(["check-expiration", "--at", THEN, "--dir"]).arg(&dir);
    let (report, _) = json(&mut command);
    for row in report["certificates"].as_array().unwrap() {
        assert_eq!(row["externallyManaged"], false, "{row}");
    }
}

/// The host that DIR itself is has rows like those it has been given folders for.
#[test]
fn a_host_that_dir_itself_is_is_looked_at_besides_others() {
    let folder = support::temp_dir();
    let dir = folder.path().join("d");
    let init = |args: &[&str]| {
        support::run(support::certkit().arg("init").args(args).arg("--dir").arg(&dir));
    };
    init(&["--host", "cp1=10.0.0.11"]);
    let file = dir.join("certkit.yaml");
    let text = read(&file);
    fs::write(&file, format!("{text}nodes:\n- {{name: w1, addresses: [10.0.1.1]}}\n")).unwrap();
    init(&[]);
    let mut command = support::certkit();
    let (report, code) = json(command.args(["check-expiration", "--dir"]).arg(&dir));
    assert_eq!(code, 0, "{report:#}");
    let leaves = report["certificates"].as_array().unwrap();
    let has = |name: &str, host: Option<&str>| {
        leaves.iter().any(|row| row["name"] == name && row["host"].as_str() == host)
    };
    assert!(has("apiserver", None) && has("kubelet", None) && has("kubelet", Some("w1")));
    // Gone from DIR it is missing.
    fs::remove_file(dir.join("pki/apiserver.crt")).unwrap();
    let mut command = support::certkit();
    let (report, code) = json(command.args(["check-expiration", "--dir"]).arg(&dir));
    assert_eq!((code, &crate::row(&report, "apiserver")["missing"]), (2, &true.into()));
}
