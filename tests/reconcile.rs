//! A declaration that is edited, then `init` and `rotate`: what is there follows, and nothing that works
//! stops working.

mod support;

use std::{fs, path::Path};

use support::{
    certkit, run, stdout, temp_dir,
    tree::{difference, snapshot},
};

fn init(dir: &Path) {
    run(certkit().arg("init").arg("--dir").arg(dir));
}

fn rotate(dir: &Path) -> String {
    stdout(certkit().arg("rotate").arg("--dir").arg(dir))
}

fn verify(dir: &Path) {
    run(certkit().arg("verify").arg("--dir").arg(dir));
}

/// A one-host tree.
fn one_host(dir: &Path, more: &[&str]) {
    run(certkit().arg("init").arg("--dir").arg(dir).args(["--host", "cp1=10.0.0.11"]).args(more));
}

/// Replaces text in the declaration, which must have it.
fn edit(dir: &Path, from: &str, to: &str) {
    let file = dir.join("certkit.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    fs::write(&file, text.replace(from, to)).unwrap();
}

#[test]
fn a_further_host_moves_and_re_issues_nothing() {
    for legacy in [false, true] {
        let dir = temp_dir();
        one_host(dir.path(), &[]);
        if legacy {
            // Declarations from before directories said what they are.
            edit(dir.path(), "layout: host\n", "");
        }
        let before = snapshot(dir.path());
        let text = fs::read_to_string(dir.path().join("certkit.yaml")).unwrap();
        let line = text.lines().find(|l| l.contains("cp1")).unwrap().to_owned();
        let more = "  - {name: cp2, addresses: [10.0.0.12]}\nnodes:\n  - {name: w1, addresses: [10.0.1.1]}";
        edit(dir.path(), &line, &format!("{line}\n{more}"));
        init(dir.path());
        assert_eq!(rotate(dir.path()), "");
        verify(dir.path());
        let after = snapshot(dir.path());
        let own = |path: &String| {
            !path.starts_with("hosts") && !path.starts_with(".certkit") && path != "certkit.yaml"
        };
        let changed: Vec<String> = difference(&before, &after).into_iter().filter(own).collect();
        assert!(changed.is_empty(), "{changed:?}");
        for file in ["hosts/cp2/pki/apiserver.crt", "hosts/cp2/pki/ca.key", "hosts/w1/kubelet.conf"]
        {
            assert!(dir.path().join(file).exists(), "{file}");
        }
        assert!(!dir.path().join("hosts/cp1").exists());
        // What a host names is where that host has it.
        let scheduler = fs::read_to_string(dir.path().join("hosts/cp2/scheduler.conf")).unwrap();
        assert!(scheduler.contains("/etc/kubernetes/pki/"), "{scheduler}");
    }
}
