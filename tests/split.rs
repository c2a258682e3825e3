//! kubeadm's clusters, where one file is both what signs and what is trusted: trust gets a file of its own before a CA
//! is replaced, in `certkit.yaml`, on disk and in static pods' manifests, and goes back. A running one is in
//! `kubeadm_cluster`.

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
use tempfile::TempDir;

/// A host that kubeadm made and certkit took over: its root, and its `/etc/kubernetes`.
fn adopted() -> (TempDir, PathBuf) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36");
    let root = temp_dir();
    let dir = root.path().join("etc/kubernetes");
    fs::create_dir_all(&dir).unwrap();
    copy(&fixtures.join("ecdsa-p256"), &dir);
    copy(&fixtures.join("manifests"), &dir.join("manifests"));
    run(certkit().args(["init", "--adopt", "--dir"]).arg(&dir));
    let declared = dir.join("certkit.yaml");
    let text = fs::read_to_string(&declared).unwrap();
    let text = format!("# ours since 2026\n{text}# and so on\n");
    fs::write(&declared, text).unwrap();
    (root, dir)
}

/// The kubelet's configuration as kubeadm writes it.
fn kubelet_config(root: &Path, ca: &str) -> PathBuf {
    let file = root.join("var/lib/kubelet/config.yaml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthentication:\n  anonymous: \
         {{enabled: false}}\n  x509:\n    clientCAFile: /etc/kubernetes/pki/{ca}\nrotateCertificates: true\n"
    );
    fs::write(&file, text).unwrap();
    file
}

fn rotate_ca(dir: &Path, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("rotate-ca").arg("--dir").arg(dir).args(more);
    command
}

fn stages(dir: &Path) -> Vec<String> {
    let text = stdout(&mut rotate_ca(dir, &["ca", "etcd-ca", "front-proxy-ca", "-o", "json"]));
    let document: Value = serde_json::from_str(&text).unwrap();
    let all = document["authorities"].as_array().unwrap().iter();
    all.map(|one| one["stage"].as_str().unwrap().to_owned()).collect()
}

fn settings(text: &str) -> Vec<(String, String, bool)> {
    let document: Value = serde_json::from_str(text).unwrap();
    let all = document["settings"].as_array().unwrap().iter();
    let word = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    all.map(|one| (word(one, "of"), word(one, "setting"), one["changed"] == true)).collect()
}

const ALL: [&str; 3] = ["ca", "etcd-ca", "front-proxy-ca"];

/// The flags of kubeadm's manifests that say whom to trust.
const TRUST: [(&str, &str); 8] = [
    ("etcd", "--trusted-ca-file"),
    ("etcd", "--peer-trusted-ca-file"),
    ("kube-apiserver", "--client-ca-file"),
    ("kube-apiserver", "--etcd-cafile"),
    ("kube-apiserver", "--requestheader-client-ca-file"),
    ("kube-controller-manager", "--client-ca-file"),
    ("kube-controller-manager", "--requestheader-client-ca-file"),
    ("kube-controller-manager", "--root-ca-file"),
];

fn manifest(dir: &Path, component: &str) -> String {
    fs::read_to_string(dir.join(format!("manifests/{component}.yaml"))).unwrap()
}

/// A manifest of the fixture with those flags naming bundles.
fn expected(component: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36");
    let text = fs::read_to_string(fixtures.join(format!("manifests/{component}.yaml"))).unwrap();
    let line = |line: &str| {
        let is_it = TRUST.iter().any(|(of, flag)| {
            *of == component && line.trim_start().starts_with(&format!("- {flag}="))
        });
        if is_it { line.replace("ca.crt", "ca-bundle.crt") } else { line.to_owned() }
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn trust_moves_to_files_of_its_own_in_one_transaction_and_back() {
    let (root, dir) = adopted();
    let kubelet = kubelet_config(root.path(), "ca.crt");
    assert_eq!(stages(&dir), ["shared"; 3]);
    let first = snapshot(&dir);
    let next = [&ALL[..], &["--next", "--restart", "static-pods", "-o", "json"]].concat();
    let said = stdout(rotate_ca(&dir, &next).arg("--dry-run"));
    assert_eq!(difference(&first, &snapshot(&dir)), Vec::<String>::new());
    for (component, flag) in TRUST {
        let change = (component.to_owned(), flag.to_owned(), true);
        assert!(settings(&said).contains(&change), "{component} {flag}: {said}");
    }
    let done = stdout(&mut rotate_ca(&dir, &next));
    assert_eq!(settings(&done), settings(&said));
    let steps = |text: &str| serde_json::from_str::<Value>(text).unwrap()["steps"].clone();
    assert_eq!(steps(&done), steps(&said));

    assert_eq!(stages(&dir), ["stable"; 3]);
    for component in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        assert_eq!(manifest(&dir, component), expected(component), "{component}");
    }
    for (bundle, ca) in [
        ("pki/ca-bundle.crt", "pki/ca.crt"),
        ("pki/etcd/ca-bundle.crt", "pki/etcd/ca.crt"),
        ("pki/front-proxy-ca-bundle.crt", "pki/front-proxy-ca.crt"),
    ] {
        let verified = Command::new("openssl")
            .args(["verify", "-CAfile"])
            .args([dir.join(bundle), dir.join(ca)])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{bundle}");
    }
    let declared = fs::read_to_string(dir.join("certkit.yaml")).unwrap();
    assert!(!declared.contains("-bundle"), "{declared}");
    assert!(declared.starts_with("# ours since 2026\n") && declared.ends_with("# and so on\n"));
    let again = stdout(certkit().args(["init", "--dir"]).arg(&dir));
    assert!(again.contains("nothing to do"), "{again}");
    run_to_exit(certkit().args(["verify", "--dir"]).arg(&dir), 1);

    // The kubelet's own file is not below DIR: it is named, and stands against going on until it is right.
    let change = ("kubelet".to_owned(), "authentication.x509.clientCAFile".to_owned(), false);
    assert!(settings(&done).contains(&change), "{done}");
    let before = snapshot(&dir);
    let refused = run_to_exit(&mut rotate_ca(&dir, &["ca", "--next"]), 3);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    for word in [kubelet.to_str().unwrap(), "clientCAFile", "/etc/kubernetes/pki/ca-bundle.crt"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());

    // Back: what names the file that goes stands against it, and what certkit may change goes back.
    kubelet_config(root.path(), "ca-bundle.crt");
    let undo = [&ALL[..], &["--undo"]].concat();
    let refused = run_to_exit(&mut rotate_ca(&dir, &undo), 3);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("--client-ca-file") && text.contains("clientCAFile"), "{text}");
    kubelet_config(root.path(), "ca.crt");
    run(rotate_ca(&dir, &undo).args(["--restart", "static-pods"]));
    assert_eq!(stages(&dir), ["shared"; 3]);
    let own = |path: &String| !path.starts_with(".certkit") && !path.is_empty();
    for path in difference(&first, &snapshot(&dir)).into_iter().filter(own) {
        let (old, new) = (first.get(Path::new(&path)), fs::read(dir.join(&path)).unwrap());
        let Some(support::tree::Entry::File { content, .. }) = old else {
            panic!("{path}: {old:?}")
        };
        assert_eq!(String::from_utf8_lossy(&new), String::from_utf8_lossy(content), "{path}");
    }
}

#[test]
fn a_ca_of_kubeadms_goes_through_all_its_stages_once_everything_trusts_the_bundle() {
    let (root, dir) = adopted();
    kubelet_config(root.path(), "ca-bundle.crt");
    let go = |more: &[&str]| {
        run(rotate_ca(&dir, &ALL).args(more));
    };
    // Without leave to change manifests they are named, and the next stage waits for them.
    let said = stdout(rotate_ca(&dir, &ALL).args(["--next", "-o", "json"]));
    assert!(settings(&said).iter().all(|(.., changed)| !changed), "{said}");
    assert_eq!(stages(&dir), ["stable"; 3]);
    let refused = run_to_exit(rotate_ca(&dir, &ALL).arg("--next"), 3);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    for (component, flag) in TRUST {
        let line = format!("manifests/{component}.yaml: {flag} names /etc/kubernetes/pki/");
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(text.contains("--to stable --restart static-pods"), "{text}");
    go(&["--to", "stable", "--restart", "static-pods"]);
    assert_eq!(manifest(&dir, "kube-apiserver"), expected("kube-apiserver"));
    for stage in ["introduced", "switched", "stable"] {
        go(&["--next"]);
        assert_eq!(stages(&dir), [stage; 3]);
        run_to_exit(certkit().args(["verify", "--dir"]).arg(&dir), 1);
        let ca = fs::read_to_string(dir.join("pki/ca.crt")).unwrap();
        assert_eq!(ca.matches("BEGIN CERTIFICATE").count(), 1, "{stage}");
    }
    if need("openssl").is_none() {
        return;
    }
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-issuer", "-in"]).arg(dir.join("pki/apiserver.crt"));
    assert!(stdout(&mut command).contains("kubernetes-g2"));
}

#[test]
fn what_cannot_be_changed_in_a_manifest_is_named_and_nothing_is_changed() {
    let (_root, dir) = adopted();
    let file = dir.join("manifests/kube-apiserver.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let next = ["ca", "--next", "--restart", "static-pods"];
    for (changed, word) in [
        (text.replace("mountPath: /etc/kubernetes/pki\n", "mountPath: /srv/pki\n"), "mounted"),
        (text.replace("- --client-ca-file", "- &a --client-ca-file"), "in place"),
    ] {
        assert_ne!(changed, text);
        fs::write(&file, changed).unwrap();
        let before = snapshot(&dir);
        let refused = run_to_exit(&mut rotate_ca(&dir, &next), 3);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("manifests/kube-apiserver.yaml") && said.contains(word), "{said}");
        assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
    }
    // A declaration that is no block of lines.
    fs::write(&file, text).unwrap();
    let declared = fs::read_to_string(dir.join("certkit.yaml")).unwrap();
    let shared = declared.replace("absent: [", "absent: &none [");
    assert_ne!(shared, declared);
    fs::write(dir.join("certkit.yaml"), shared + "addons: []\n").unwrap();
    run(&mut rotate_ca(&dir, &next));
    assert_eq!(stages(&dir), ["stable", "shared", "shared"]);
}

#[test]
fn a_cluster_of_certkits_own_has_no_stage_before_stable_unless_that_is_asked_for() {
    let dir = temp_dir();
    run(certkit().args(["init", "--host", "cp1=10.0.0.11", "--dir"]).arg(dir.path()));
    let before = snapshot(dir.path());
    run(&mut rotate_ca(dir.path(), &["--undo"]));
    run(&mut rotate_ca(dir.path(), &["--to", "stable"]));
    let own = |path: &String| !path.starts_with(".certkit") && !path.is_empty();
    let changed = difference(&before, &snapshot(dir.path()));
    assert_eq!(changed.into_iter().filter(own).collect::<Vec<_>>(), Vec::<String>::new());
}
