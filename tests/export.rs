//! `certkit export`: what a host unpacks is what the workspace holds for it.

mod support;

use std::{fs, process::Command};

use support::{certkit, run, run_to_exit, temp_dir, tree::snapshot};

#[test]
fn a_host_unpacks_exactly_its_tree() {
    let dir = temp_dir();
    let ws = dir.path().join("ws");
    run(certkit().arg("init").arg("--dir").arg(&ws).args([
        "--host",
        "cp1=10.0.0.1",
        "--host",
        "cp2=10.0.0.2",
    ]));
    let archive = run(certkit().args(["export", "cp2", "--dir"]).arg(&ws)).stdout;
    let file = dir.path().join("cp2.tar");
    fs::write(&file, archive).unwrap();
    let unpacked = dir.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    run(Command::new("tar").arg("-xpf").arg(&file).arg("-C").arg(&unpacked));
    let content = |root: &std::path::Path| {
        snapshot(root)
            .into_iter()
            .map(|(path, entry)| match entry {
                support::tree::Entry::File { content, mode, .. } => (path, Some(content), mode),
                support::tree::Entry::Folder(mode) => (path, None, mode),
                support::tree::Entry::Link(target) => panic!("{path:?} -> {target:?}"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(content(&unpacked), content(&ws.join("hosts/cp2")));
    let said = run_to_exit(certkit().args(["export", "cp3", "--dir"]).arg(&ws), 64);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("cp3") && said.contains("cp1, cp2"), "{said}");
}

#[test]
fn a_one_host_tree_leaves_the_operators_notes_behind() {
    let dir = temp_dir();
    run(certkit().arg("init").arg("--dir").arg(dir.path()).args(["--host", "cp1=10.0.0.1"]));
    let archive = run(certkit().args(["export", "cp1", "--dir"]).arg(dir.path())).stdout;
    let file = dir.path().join("../cp1.tar");
    let file = dir.path().join(file.file_name().unwrap());
    fs::write(&file, archive).unwrap();
    let listing = run(Command::new("tar").arg("-tf").arg(&file)).stdout;
    let listing = String::from_utf8(listing).unwrap();
    assert!(listing.contains("pki/ca.key") && listing.contains("kubelet.conf"), "{listing}");
    assert!(!listing.contains(".certkit") && !listing.contains("certkit.yaml"), "{listing}");
}
