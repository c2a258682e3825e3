//! `owner` in certkit.yaml: who owns the private keys of a component on its host.

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use support::{certkit, need, optional, run, run_to_exit, stdout, temp_dir};

const HOST: &str = "apiVersion: certkit/v1\nkind: Cluster\nlayout: host\ncontrolPlane:\n  \
                    - {name: cp1, addresses: [10.0.0.11]}\n";
const WORKSPACE: &str = "apiVersion: certkit/v1\nkind: Cluster\nlayout: workspace\ncontrolPlane:\n  \
                         - {name: cp1, addresses: [10.0.0.11]}\n  - {name: cp2, addresses: [10.0.0.12]}\n";

/// etcd's keys on its host.
const ETCD: [&str; 2] = ["pki/etcd/peer.key", "pki/etcd/server.key"];

/// Whether this machine lets files be given away, which a test without root's rights does not.
fn is_root(dir: &Path) -> bool {
    let probe = dir.join("probe");
    fs::write(&probe, "").unwrap();
    let given = chown(&probe, Some(1234), Some(1234)).is_ok();
    fs::remove_file(probe).unwrap();
    if !given {
        optional("root's rights");
    }
    given
}

fn declare(dir: &Path, base: &str, owner: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("certkit.yaml"), format!("{base}owner: {owner}\n")).unwrap();
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = certkit();
    command.args(arguments).arg("--dir").arg(dir);
    command
}

fn owner(dir: &Path, file: &str) -> (u32, u32, u32) {
    let status = fs::metadata(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    (status.uid(), status.gid(), status.mode() & 0o7777)
}

/// Every file that is not root's, certkit's own aside.
fn given(dir: &Path) -> Vec<PathBuf> {
    let files = support::tree::files(dir).into_iter();
    files
        .filter(|file| !file.starts_with(".certkit") && owner(dir, file.to_str().unwrap()).0 != 0)
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn findings(dir: &Path) -> Vec<(String, String)> {
    let output = command(dir, &["verify", "-o", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let all = report["findings"].as_array().unwrap().iter();
    let all = all.filter(|finding| finding["code"] == "file-owner");
    all.map(|finding| (text(finding, "subject"), text(finding, "what"))).collect()
}

#[test]
fn new_keys_are_their_components_and_all_else_is_roots() {
    let folder = temp_dir();
    if !is_root(folder.path()) {
        return;
    }
    let dir = folder.path().join("pki-dir");
    declare(&dir, HOST, "{etcd: 1234:1235, kube-scheduler: daemon}");
    run(&mut command(&dir, &["init"]));
    for file in ETCD {
        assert_eq!(owner(&dir, file), (1234, 1235, 0o600), "{file}");
    }
    // `daemon` is user 1 on every Debian; without a group, the group is root's.
    for file in ["pki/scheduler.key", "scheduler.conf"] {
        assert_eq!(owner(&dir, file), (1, 0, 0o600), "{file}");
    }
    for file in given(&dir) {
        let name = file.display().to_string();
        assert!(ETCD.contains(&name.as_str()) || name.contains("scheduler"), "{name}");
        assert_eq!(owner(&dir, &name).2, 0o600, "{name}");
    }
    assert_eq!(owner(&dir, "pki/etcd/server.crt"), (0, 0, 0o644));
    assert_eq!(findings(&dir), []);
    let again = stdout(&mut command(&dir, &["init"]));
    assert!(again.contains("complete"), "{again}");
}

#[test]
fn every_change_keeps_the_owner_and_a_rollback_brings_it_back() {
    let folder = temp_dir();
    if !is_root(folder.path()) {
        return;
    }
    let dir = folder.path();
    declare(dir, HOST, "{etcd: 1234:1234, kube-controller-manager: 77, kube-apiserver: 77}");
    run(&mut command(dir, &["init"]));
    let before = given(dir);
    assert!(
        before.contains(&"pki/sa.key".into()) && before.contains(&"pki/ca.key".into()),
        "{before:?}"
    );
    run(&mut command(dir, &["rotate", "--all", "--new-key"]));
    assert_eq!(given(dir), before);
    assert_eq!(owner(dir, ETCD[0]), (1234, 1234, 0o600));
    // A request's key is the operator's until its certificate has come back.
    run(&mut command(dir, &["rotate-ca", "ca", "--next"]));
    run(&mut command(dir, &["rotate-ca", "ca", "--next", "--force"]));
    assert_eq!(given(dir), before);
    // Somebody gives a key away, and a change takes it back: undone, it is as it was.
    chown(dir.join(ETCD[1]), Some(4321), Some(4321)).unwrap();
    run(&mut command(dir, &["rotate"]));
    assert_eq!(owner(dir, ETCD[1]), (1234, 1234, 0o600));
    run(&mut command(dir, &["rotate", "--rollback"]));
    assert_eq!(owner(dir, ETCD[1]), (4321, 4321, 0o600));
}

#[test]
fn another_owner_is_a_finding_and_init_and_rotate_put_it_right() {
    let folder = temp_dir();
    if !is_root(folder.path()) {
        return;
    }
    let dir = folder.path();
    declare(dir, HOST, "{}");
    run(&mut command(dir, &["init"]));
    assert_eq!(given(dir), [] as [PathBuf; 0]);
    declare(dir, HOST, "{etcd: 1234}");
    let found = findings(dir);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].0, ETCD[0]);
    assert_eq!(found[0].1, "it belongs to user 0, declared is 1234");
    let keys = ETCD.map(|file| fs::read(dir.join(file)).unwrap());
    let planned = stdout(&mut command(dir, &["rotate", "--dry-run"]));
    assert!(planned.contains("etcd-server (owner)"), "{planned}");
    assert_eq!(findings(dir).len(), 2);
    // One by its name: the other stays as it is.
    run(&mut command(dir, &["rotate", "etcd-peer", "--reuse-key"]));
    assert_eq!((owner(dir, ETCD[0]).0, owner(dir, ETCD[1]).0), (1234, 0));
    run(&mut command(dir, &["init"]));
    assert_eq!(findings(dir), []);
    assert_eq!(ETCD.map(|file| fs::read(dir.join(file)).unwrap()), keys);
    // Taken out of the file, it is a stranger's again.
    declare(dir, HOST, "{kube-apiserver: 0}");
    assert_eq!(findings(dir).len(), 2);
}

#[test]
fn what_cannot_be_given_is_refused_by_name_before_anything_is_changed() {
    let folder = temp_dir();
    let Some(setpriv) = need("setpriv") else { return };
    if !is_root(folder.path()) {
        return;
    }
    let program = folder.path().join("certkit");
    fs::copy(certkit().get_program(), &program).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = folder.path().join("dir");
    declare(&dir, HOST, "{etcd: 1234:1234}");
    chown(&dir, Some(65534), Some(65534)).unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command.args(arguments).arg("--dir").arg(&dir).env("NO_COLOR", "1");
        command
    };
    for arguments in [&["init"][..], &["init", "--dry-run"]] {
        let said = stderr(&run_to_exit(&mut nobody(arguments), 3));
        assert!(
            said.contains("server.key is to belong to user 1234 and group 1234")
                && said.contains("as root"),
            "{said}"
        );
        assert!(!dir.join("pki").exists() && !dir.join(".certkit").exists());
    }
    // What is one's own needs no rights.
    declare(&dir, HOST, "{etcd: nobody}");
    run(&mut nobody(&["init"]));
    assert_eq!(owner(&dir, ETCD[0]).0, 65534);
}

#[test]
fn an_unknown_name_is_named_with_its_line_and_nothing_is_written() {
    let folder = temp_dir();
    let dir = folder.path().join("dir");
    declare(&dir, HOST, "{etcd: no-such-user}");
    let known = "owner.etcd: /etc/passwd of this machine has no user `no-such-user`";
    for arguments in [&["init"][..], &["rotate"], &["init", "--dry-run"]] {
        let said = stderr(&run_to_exit(&mut command(&dir, arguments), 3));
        assert!(said.contains(&format!("certkit.yaml:6:9: {known}")), "{said}");
        assert!(said.contains("id -u NAME"), "{said}");
    }
    assert_eq!(support::tree::files(&dir), [PathBuf::from("certkit.yaml")]);
    let elsewhere = folder.path().join("elsewhere");
    let config = dir.join("certkit.yaml");
    let config = config.to_str().unwrap();
    let said = stderr(&run_to_exit(&mut command(&elsewhere, &["init", "--config", config]), 3));
    assert!(said.contains(&format!("{config}:6:9: {known}")), "{said}");
    assert!(!elsewhere.exists());
    // Whoever only looks is told.
    declare(&dir, HOST, "{}");
    run(&mut command(&dir, &["init"]));
    declare(&dir, HOST, "{etcd: no-such-user}");
    let found = findings(&dir);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "owner.etcd");
}

#[test]
fn a_workspace_keeps_names_for_the_hosts_and_its_files_stay_the_operators() {
    let folder = temp_dir();
    let dir = folder.path().join("ws");
    declare(
        &dir,
        WORKSPACE,
        "{etcd: etcd:etcd-group, kube-scheduler: 1000:1001, kube-controller-manager: kube}",
    );
    // Nobody here has to know them.
    run(&mut command(&dir, &["init"]));
    let operator = fs::metadata(&dir).unwrap().uid();
    for file in support::tree::files(&dir) {
        assert_eq!(fs::metadata(dir.join(&file)).unwrap().uid(), operator, "{file:?}");
    }
    assert_eq!(findings(&dir), []);
    let archive = folder.path().join("cp2.tar");
    fs::write(&archive, run(&mut command(&dir, &["export", "cp2"])).stdout).unwrap();
    let listing = stdout(Command::new("tar").arg("-tvf").arg(&archive));
    let owner = |file: &str| {
        let line = listing.lines().find(|line| line.ends_with(&format!(" {file}")));
        let line = line.unwrap_or_else(|| panic!("{file} in {listing}"));
        let mut fields = line.split_whitespace();
        (fields.next().unwrap().to_owned(), fields.next().unwrap().to_owned())
    };
    let is = |mode: &str, owner: &str| (mode.to_owned(), owner.to_owned());
    assert_eq!(owner("pki/etcd/server.key"), is("-rw-------", "etcd/etcd-group"));
    assert_eq!(owner("pki/etcd/server.crt"), is("-rw-r--r--", "0/0"));
    assert_eq!(owner("scheduler.conf"), is("-rw-------", "1000/1001"));
    assert_eq!(owner("pki/ca.key"), is("-rw-------", "kube/0"));
    assert_eq!(owner("pki/apiserver.key"), is("-rw-------", "0/0"));
    let host = folder.path().join("host");
    if !is_root(folder.path()) {
        return;
    }
    // Root unpacks it: numbers as they are, names that the host does not know are root's.
    fs::create_dir(&host).unwrap();
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&host));
    assert_eq!(self::owner(&host, "scheduler.conf"), (1000, 1001, 0o600));
    assert_eq!(self::owner(&host, "pki/apiserver.key"), (0, 0, 0o600));
}

#[test]
fn a_signature_from_elsewhere_comes_to_the_owner() {
    let folder = temp_dir();
    if need("openssl").is_none() || !is_root(folder.path()) {
        return;
    }
    let dir = folder.path();
    declare(dir, HOST, "{etcd: 1234:1234}");
    run(&mut command(dir, &["init"]));
    run(&mut command(dir, &["rotate", "etcd-server", "--new-key", "--csr-only"]));
    assert_eq!(owner(dir, "csr/etcd-server.key"), (0, 0, 0o600));
    let signed = dir.join("signed.crt");
    run(Command::new("openssl")
        .args(["x509", "-req", "-copy_extensions", "copy", "-days", "90", "-in"])
        .arg(dir.join("csr/etcd-server.csr"))
        .arg("-CA")
        .arg(dir.join("pki/etcd/ca.crt"))
        .arg("-CAkey")
        .arg(dir.join("pki/etcd/ca.key"))
        .arg("-out")
        .arg(&signed));
    run(certkit().arg("import").arg(&signed).arg("--dir").arg(dir));
    assert_eq!(owner(dir, ETCD[1]), (1234, 1234, 0o600));
}
