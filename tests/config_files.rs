//! Components' configuration files: `init` makes those that flags name, people may edit them, and
//! `flags --output-dir` writes any form anywhere.

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    certkit, run, run_to_exit, stdout, temp_dir,
    tree::{difference, snapshot},
};

const ONE: &[&str] = &["--host", "cp1=10.0.0.11"];
const ADDONS: &[&str] = &["--addon", "konnectivity", "--addon", "kube-proxy", "--addon", "istio"];

fn init(dir: &Path, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("init").arg("--dir").arg(dir).args(more);
    command
}

fn flags(dir: &Path, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("flags").arg("--dir").arg(dir).args(more);
    command
}

/// The paths that flags name, and where they are below DIR.
fn named(dir: &Path, host_dir: &Path, host: &str) -> Vec<PathBuf> {
    let text = stdout(&mut flags(dir, &["--host", host, "--format", "json"]));
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let values = all["settings"].as_array().unwrap().iter().filter_map(|s| s["value"].as_str());
    values
        .filter(|v| v.starts_with('/'))
        .map(|v| {
            let inside = Path::new(v).strip_prefix(host_dir);
            inside.unwrap_or_else(|_| panic!("{v} is not in the tree")).to_path_buf()
        })
        .collect()
}

#[test]
fn every_file_that_flags_name_is_there_after_init() {
    let dir = temp_dir();
    run(&mut init(dir.path(), &[ONE, ADDONS].concat()));
    let files = named(dir.path(), dir.path(), "cp1");
    assert!(files.iter().any(|file| file.ends_with("egress-selector.yaml")), "{files:?}");
    for file in files {
        assert!(dir.path().join(&file).is_file(), "{}", file.display());
    }
    let dir = temp_dir();
    let config = dir.path().join("cluster.yaml");
    let text = "apiVersion: certkit/v1\nkind: Cluster\nname: c\nendpoint: api:6443\n\
                controlPlane: [{name: cp1, addresses: [10.0.0.1]}]\n\
                etcd: [{name: e1, addresses: [10.0.0.2]}]\n\
                nodes: [{name: w1, addresses: [10.0.0.3]}]\naddons: [konnectivity, kube-proxy]\n";
    fs::write(&config, text).unwrap();
    let tree = dir.path().join("pki");
    run(&mut init(&tree, &["--config", config.to_str().unwrap()]));
    for host in ["cp1", "e1", "w1"] {
        for file in named(&tree, Path::new("/etc/kubernetes"), host) {
            // What the operator runs is in DIR itself.
            let file = tree.join("hosts").join(host).join(file);
            assert!(file.is_file(), "{}", file.display());
        }
    }
}

#[test]
fn what_is_right_is_kept_and_what_is_missing_made_again() {
    let dir = temp_dir();
    run(&mut init(dir.path(), ONE));
    let before = snapshot(dir.path());
    let file = dir.path().join("kubelet-config.yaml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    run(&mut init(dir.path(), &[]));
    assert!(difference(&before, &snapshot(dir.path())).is_empty());
    let text = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let said = stdout(&mut init(dir.path(), &[]));
    assert!(said.contains("kubelet-config.yaml"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), text);
}

#[test]
fn what_somebody_edited_is_left_alone_and_said_only_where_it_differs() {
    let dir = temp_dir();
    run(&mut init(dir.path(), ONE));
    let file = dir.path().join("kubelet-config.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let more = format!("{text}clusterDNS: [10.96.0.10]\n");
    fs::write(&file, &more).unwrap();
    let said = stdout(&mut init(dir.path(), &[]));
    assert!(said.contains("nothing to do") && !said.contains("note:"), "{said}");
    let open = more.replace("readOnlyPort: 0", "readOnlyPort: 10255");
    fs::write(&file, &open).unwrap();
    let said = stdout(&mut init(dir.path(), &[]));
    assert!(said.contains("kubelet-config.yaml: somebody edited it"), "{said}");
    assert!(said.contains("readOnlyPort is 10255, not 0"), "{said}");
    let wrong = ["a: [", "", "kind: KubeSchedulerConfiguration\n", "\u{feff}- x: 1\n"];
    for wrong in wrong {
        fs::write(&file, wrong).unwrap();
        let refused = run_to_exit(&mut init(dir.path(), &[]), 3);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("kubelet-config.yaml: "), "{wrong}: {said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), wrong);
    }
}

#[test]
fn what_nobody_edited_follows_the_declaration() {
    let dir = temp_dir();
    run(&mut init(dir.path(), ONE));
    let declaration = dir.path().join("certkit.yaml");
    let edited = fs::read_to_string(&declaration).unwrap() + "hostDir: /opt/k8s\n";
    fs::write(&declaration, edited).unwrap();
    let scheduler = dir.path().join("scheduler-config.yaml");
    let theirs = fs::read_to_string(&scheduler).unwrap() + "parallelism: 4\n";
    fs::write(&scheduler, &theirs).unwrap();
    let said = stdout(&mut init(dir.path(), &["--dry-run"]));
    assert!(said.contains("tlsCertFile is"), "{said}");
    let said = stdout(&mut init(dir.path(), &[]));
    assert!(said.contains("scheduler-config.yaml: somebody edited it"), "{said}");
    let kubelet = fs::read_to_string(dir.path().join("kubelet-config.yaml")).unwrap();
    assert!(kubelet.contains("\"/opt/k8s/pki/kubelet.crt\""), "{kubelet}");
    assert_eq!(fs::read_to_string(&scheduler).unwrap(), theirs);
    // What was replaced is kept.
    assert!(said.contains("what was replaced is kept in"), "{said}");
}

#[test]
fn they_are_exported_and_no_findings() {
    let dir = temp_dir();
    run(&mut init(dir.path(), &[ONE, ADDONS].concat()));
    let archive = run(certkit().arg("export").arg("--dir").arg(dir.path()).arg("cp1")).stdout;
    let names = String::from_utf8_lossy(&archive).into_owned();
    assert!(names.contains("scheduler-config.yaml") && names.contains("egress-selector.yaml"));
    run(certkit().arg("verify").arg("--dir").arg(dir.path()));
    run(certkit().arg("check-expiration").arg("--dir").arg(dir.path()));
    run(certkit().arg("check-expiration").arg(dir.path()));
}

#[test]
fn what_does_without_them_is_not_given_them() {
    let dir = temp_dir();
    run(&mut init(dir.path(), ONE));
    let declaration = dir.path().join("certkit.yaml");
    let text = fs::read_to_string(&declaration).unwrap();
    fs::write(&declaration, text + "absent: [kubelet-config.yaml]\n").unwrap();
    fs::remove_file(dir.path().join("kubelet-config.yaml")).unwrap();
    run(&mut init(dir.path(), &[]));
    assert!(!dir.path().join("kubelet-config.yaml").exists());
    let said = stdout(&mut flags(dir.path(), &["kubelet"]));
    assert!(said.contains("--config=/var/lib/kubelet/config.yaml"), "{said}");
}

#[test]
fn each_form_is_written_to_its_files() {
    let dir = temp_dir();
    run(&mut init(dir.path(), &[ONE, ADDONS].concat()));
    for (format, names) in [
        ("args", &["etcd.args", "kube-apiserver.args", "kubectl.args", "istiod.args"][..]),
        ("env", &["etcd.env", "kube-apiserver.env", "kubelet.env"]),
        (
            "systemd",
            &["etcd.service.d/10-certkit-pki.conf", "kubelet.service.d/10-certkit-pki.conf"],
        ),
        ("static-pod", &["kube-apiserver+json.yaml", "kubeletconfiguration+strategic.yaml"]),
        (
            "config",
            &[
                "etcd.yaml",
                "scheduler-config.yaml",
                "kubelet-config.yaml",
                "kube-proxy-config.yaml",
                "egress-selector.yaml",
                "kustomization.yaml",
            ],
        ),
        ("kubeadm", &["kubeadm.yaml"]),
        ("json", &["flags.json"]),
    ] {
        let out = temp_dir();
        let folder = out.path().join("a/b");
        let write = || {
            let more = ["--format", format, "--output-dir", folder.to_str().unwrap()];
            stdout(&mut flags(dir.path(), &more))
        };
        let listed = write();
        let entries: Vec<_> = listed.lines().map(PathBuf::from).collect();
        for name in names {
            let file = folder.join(name);
            assert!(entries.contains(&file), "{format}: {name} in {listed}");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        }
        let count = entries.iter().filter(|e| e.is_file()).count();
        assert_eq!(count, entries.len());
        // Nothing else is left there, and once more is the same.
        let is_file = |p: &&PathBuf| folder.join(p).is_file();
        let before = snapshot(&folder);
        assert_eq!(before.keys().filter(is_file).count(), count, "{before:?}");
        assert_eq!(write(), listed);
    }
    // Printed and written are the same.
    let out = temp_dir();
    run(&mut flags(dir.path(), &["kube-apiserver", "--output-dir", out.path().to_str().unwrap()]));
    let written = fs::read_to_string(out.path().join("kube-apiserver.args")).unwrap();
    assert_eq!(written, stdout(&mut flags(dir.path(), &["kube-apiserver"])));
}

#[test]
fn nothing_is_written_through_a_symbolic_link_or_over_what_is_no_file() {
    let dir = temp_dir();
    run(&mut init(dir.path(), ONE));
    let out = temp_dir();
    let treasure = out.path().join("treasure");
    let elsewhere = out.path().join("elsewhere");
    fs::write(&treasure, "mine").unwrap();
    fs::create_dir(&elsewhere).unwrap();
    type Trap<'a> = (&'a str, &'a str, &'a dyn Fn(&Path));
    let traps: [Trap<'_>; 5] = [
        ("args", "kubelet.args", &|at| symlink(&treasure, at).unwrap()),
        ("args", "kubelet.args", &|at| symlink("/nonexistent/x", at).unwrap()),
        ("args", "kubelet.args", &|at| fs::create_dir(at).unwrap()),
        ("systemd", "kubelet.service.d", &|at| symlink(&elsewhere, at).unwrap()),
        ("systemd", "kubelet.service.d", &|at| fs::write(at, "x").unwrap()),
    ];
    for (n, (format, name, trap)) in traps.iter().enumerate() {
        let folder = out.path().join(n.to_string());
        fs::create_dir(&folder).unwrap();
        trap(&folder.join(name));
        let more = ["--format", format, "--output-dir", folder.to_str().unwrap()];
        let refused = run_to_exit(&mut flags(dir.path(), &more), 3);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(name), "{said}");
        // Nothing at all was written.
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "{said}");
    }
    assert_eq!(fs::read_to_string(&treasure).unwrap(), "mine");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn kubeadm_decodes_every_configuration_strictly() {
    let Some(kubeadm) = support::kubernetes::program("kubeadm") else { return };
    let dir = temp_dir();
    run(&mut init(dir.path(), &[ONE, ADDONS].concat()));
    let print = |more: &[&str]| stdout(&mut flags(dir.path(), more));
    let proxy = print(&["kube-proxy", "--format", "config"]);
    let kubelet = fs::read_to_string(dir.path().join("kubelet-config.yaml")).unwrap();
    let cluster = print(&["kube-apiserver", "etcd", "kube-scheduler", "--format", "kubeadm"]);
    for text in [
        print(&["--format", "kubeadm"]),
        print(&["--format", "kubeadm", "--explain"]),
        format!("{cluster}---\n{kubelet}---\n{proxy}"),
    ] {
        let file = dir.path().join("kubeadm");
        let validate = |text: &str| {
            fs::write(&file, text).unwrap();
            let mut command = Command::new(&kubeadm);
            command.args(["config", "validate", "--config"]).arg(&file);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.success(), said)
        };
        let (accepted, said) = validate(&text);
        assert!(accepted && !said.contains("unknown field"), "{said}\n{text}");
        // It would say so.
        for field in ["readOnlyPort:", "bindPort:", "clientConnection:", "controlPlaneEndpoint:"] {
            if text.contains(field) {
                let (_, said) = validate(&text.replace(field, &field.replace(':', "X:")));
                assert!(said.contains("unknown field"), "{field}: {said}");
            }
        }
    }
}
