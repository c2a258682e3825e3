//! A cluster that was off too long: `certkit recover`, and CAs that get a new term with the key they have.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use support::{
    certkit, need, run, run_to_exit, stdout, temp_dir,
    tree::{copy, difference, snapshot},
};

/// A tree that certkit made so long ago.
fn made(dir: &Path, ago: &str, more: &[&str]) -> Option<()> {
    let faketime = need("faketime")?;
    let mut command = Command::new(faketime);
    command.args(["-f", ago, env!("CARGO_BIN_EXE_certkit"), "init", "--dir"]).arg(dir);
    run(command.args(["--host", "cp1=10.0.0.11"]).args(more));
    Some(())
}

fn verify(dir: &Path) {
    run(certkit().args(["verify", "--dir"]).arg(dir));
}

/// What openssl says of a certificate: subject, key identifier and public key.
fn identity(file: &Path) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-subject", "-pubkey", "-ext", "subjectKeyIdentifier", "-in"]);
    stdout(command.arg(file))
}

fn public_key(file: PathBuf) -> String {
    stdout(Command::new("openssl").args(["x509", "-noout", "-pubkey", "-in"]).arg(file))
}

#[test]
fn a_control_plane_whose_leaves_have_expired_is_recovered() {
    let dir = temp_dir();
    let Some(()) = made(dir.path(), "-500d", &[]) else { return };
    let before = snapshot(dir.path());
    run_to_exit(certkit().args(["verify", "--dir"]).arg(dir.path()), 2);
    run(certkit().args(["recover", "--dry-run", "--dir"]).arg(dir.path()));
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
    let ca = fs::read(dir.path().join("pki/ca.crt")).unwrap();
    let text = stdout(certkit().args(["recover", "--dir"]).arg(dir.path()));
    let order: Vec<usize> = ["etcd ", "kube-apiserver ", "kube-controller-manager ", "kubelet "]
        .map(|name| text.rfind(name).unwrap_or_else(|| panic!("{name}: {text}")))
        .to_vec();
    assert!(order.is_sorted(), "{text}");
    verify(dir.path());
    assert_eq!(fs::read(dir.path().join("pki/ca.crt")).unwrap(), ca);
    let again = stdout(certkit().args(["recover", "--dir"]).arg(dir.path()));
    assert!(again.contains("nothing has expired"), "{again}");
}

#[test]
fn authorities_that_have_expired_keep_key_and_name() {
    let dir = temp_dir();
    let Some(()) = made(dir.path(), "-1000d", &["--ca-validity", "2y"]) else { return };
    let authorities = ["pki/ca.crt", "pki/etcd/ca.crt", "pki/front-proxy-ca.crt"];
    let identities = authorities.map(|file| identity(&dir.path().join(file)));
    let keys = ["pki/ca.key", "pki/etcd/ca.key"].map(|f| fs::read(dir.path().join(f)).unwrap());
    let sa = fs::read(dir.path().join("pki/sa.key")).unwrap();
    let mut command = certkit();
    let text = stdout(command.args(["recover", "-o", "json", "--dir"]).arg(dir.path()));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(!document["copies"].as_array().unwrap().is_empty(), "{text}");
    assert_eq!(document["start"][0]["component"], "etcd", "{text}");
    verify(dir.path());
    assert_eq!(authorities.map(|file| identity(&dir.path().join(file))), identities);
    let same = ["pki/ca.key", "pki/etcd/ca.key"].map(|f| fs::read(dir.path().join(f)).unwrap());
    assert_eq!(same, keys);
    assert_eq!(fs::read(dir.path().join("pki/sa.key")).unwrap(), sa);
    // What administrators carry trusts the new certificate.
    let admin = fs::read_to_string(dir.path().join("admin.conf")).unwrap();
    let bundle = fs::read(dir.path().join("pki/ca-bundle.crt")).unwrap();
    let embedded =
        stdout(Command::new("base64").args(["-w0"]).arg(dir.path().join("pki/ca-bundle.crt")));
    assert!(admin.contains(embedded.trim()), "{}", String::from_utf8_lossy(&bundle));
}

#[test]
fn kubeadms_tree_is_recovered_with_its_forms() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36");
    let dir = temp_dir();
    let tree = fs::read_dir(&fixture).unwrap().map(|entry| entry.unwrap().path());
    let mut trees: Vec<PathBuf> = tree.filter(|path| path.join("pki/ca.key").exists()).collect();
    trees.sort();
    assert!(!trees.is_empty(), "no fixture has its CA's key");
    for (number, tree) in trees.iter().enumerate() {
        let here = dir.path().join(number.to_string());
        copy(tree, &here);
        let key = public_key(here.join("pki/ca.crt"));
        // In twelve years the CA has expired, too.
        let Some(faketime) = need("faketime") else { return };
        let mut command = Command::new(faketime);
        command.args(["-f", "+4500d", env!("CARGO_BIN_EXE_certkit"), "recover", "--dir"]);
        run(command.arg(&here));
        assert_eq!(public_key(here.join("pki/ca.crt")), key, "{}", tree.display());
        let mut command = Command::new("openssl");
        let then =
            std::time::SystemTime::now() + std::time::Duration::from_secs(4500 * 86_400 + 3600);
        let then = then.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
        command.args(["verify", "-attime", &then, "-CAfile"]).arg(here.join("pki/ca.crt"));
        run(command.arg(here.join("pki/apiserver.crt")));
        let kubeconfig = fs::read_to_string(here.join("admin.conf")).unwrap();
        let embedded = stdout(Command::new("base64").args(["-w0"]).arg(here.join("pki/ca.crt")));
        assert!(kubeconfig.contains(embedded.trim()), "{}: {kubeconfig}", tree.display());
    }
}

#[test]
fn an_authority_whose_key_is_away_is_named_and_the_rest_is_recovered() {
    let dir = temp_dir();
    let Some(()) = made(dir.path(), "-500d", &[]) else { return };
    fs::remove_file(dir.path().join("pki/front-proxy-ca.key")).unwrap();
    let done = run_to_exit(certkit().args(["recover", "--dir"]).arg(dir.path()), 4);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("front-proxy-client") && said.contains("front-proxy-ca.crt"), "{said}");
    let mut command = Command::new("openssl");
    command.args(["x509", "-checkend", "0", "-noout", "-in"]);
    run(command.arg(dir.path().join("pki/apiserver.crt")));
}

#[test]
fn a_new_term_for_the_same_key_leaves_every_leaf_as_it_is() {
    let dir = temp_dir();
    let Some(()) = made(dir.path(), "-100d", &[]) else { return };
    let (leaf, ca) = (dir.path().join("pki/apiserver.crt"), dir.path().join("pki/ca.crt"));
    let (before, old) = (fs::read(&leaf).unwrap(), fs::read(&ca).unwrap());
    let who = identity(&ca);
    let mut command = certkit();
    run(command.args(["rotate-ca", "ca", "--renew-same-key", "--dir"]).arg(dir.path()));
    assert_eq!(fs::read(&leaf).unwrap(), before);
    assert_ne!(fs::read(&ca).unwrap(), old);
    assert_eq!(identity(&ca), who);
    verify(dir.path());
    let bundle = fs::read(dir.path().join("pki/ca-bundle.crt")).unwrap();
    assert_eq!(bundle, fs::read(&ca).unwrap());
}
