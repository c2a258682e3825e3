//! `certkit nodes`: certkit.yaml edited in place, and what follows from it.

mod support;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use support::{
    certkit, run, run_to_exit, stdout, temp_dir,
    tree::{difference, snapshot},
};

/// A workspace of one control-plane host, with comments in its certkit.yaml.
fn workspace(dir: &Path) -> String {
    let file = dir.with_extension("yaml");
    fs::write(
        &file,
        "apiVersion: certkit/v1\nkind: Cluster\nname: prod\nendpoint: api.example.com:6443\nlayout: workspace\n\
         controlPlane:\n- {name: cp1, addresses: [10.0.0.11]}\n",
    )
    .unwrap();
    run(certkit().args(["init", "-q", "--dir"]).arg(dir).arg("--config").arg(file));
    let declaration = dir.join("certkit.yaml");
    let text = fs::read_to_string(&declaration).unwrap();
    let text = format!(
        "# ours: ask before you change it\n{text}nodes:\n# rack 1\n- name: w0\n  addresses: [10.0.1.10] # old\n\n# end\n"
    );
    fs::write(declaration, &text).unwrap();
    run(certkit().args(["init", "-q", "--dir"]).arg(dir));
    text
}

fn nodes(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("--dir").arg(dir).arg("nodes").args(arguments);
    command
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn declaration(dir: &Path) -> String {
    fs::read_to_string(dir.join("certkit.yaml")).unwrap()
}

#[test]
fn nodes_are_added_and_nothing_else_is_touched() {
    let folder = temp_dir();
    let dir = folder.path().join("d");
    let text = workspace(&dir);
    let before = snapshot(&dir);
    let dry = stdout(&mut nodes(&dir, &["add", "w1=10.0.1.1,fd00::1", "w2=10.0.1.2", "--dry-run"]));
    assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
    assert!(dry.contains("kubelet.conf (w2)"), "{dry}");
    run(&mut nodes(&dir, &["add", "w1=10.0.1.1,fd00::1", "w2=10.0.1.2"]));
    let added =
        "- {name: w1, addresses: [10.0.1.1, fd00::1]}\n- {name: w2, addresses: [10.0.1.2]}\n";
    let expected = text.replace("# old\n", &format!("# old\n{added}"));
    assert_eq!(declaration(&dir), expected);
    let changed = difference(&before, &snapshot(&dir));
    let foreign = changed.iter().find(|path| {
        !path.starts_with("hosts/w1")
            && !path.starts_with("hosts/w2")
            && !path.starts_with(".certkit")
            && *path != "certkit.yaml"
    });
    assert_eq!(foreign, None, "{changed:?}");
    for node in ["w1", "w2"] {
        assert!(dir.join("hosts").join(node).join("kubelet.conf").exists(), "{node}");
    }
    run(certkit().args(["verify", "-q", "--dir"]).arg(&dir));
    // Again: they are there.
    let before = snapshot(&dir);
    run(&mut nodes(&dir, &["add", "w1=10.0.1.1", "w2=10.0.1.2"]));
    assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
}

#[test]
fn lists_of_machines_are_read_from_files_and_pipes() {
    let folder = temp_dir();
    let dir = folder.path().join("d");
    workspace(&dir);
    let csv = folder.path().join("machines.csv");
    fs::write(&csv, "name,addresses\nw1,10.0.1.1\nw2,10.0.1.2\n").unwrap();
    run(nodes(&dir, &["add", "--from"]).arg(&csv));
    // What the cluster has is there already, its control plane too.
    let reported = r#"{"kind": "List", "apiVersion": "v1", "items": [
        {"metadata": {"name": "cp1"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.11"}]}},
        {"metadata": {"name": "w3"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.1.3"}]}}]}"#;
    let mut command = nodes(&dir, &["add", "--from", "-", "-q"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(reported.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let list = stdout(&mut nodes(&dir, &["list", "-o", "json"]));
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let names: Vec<&str> =
        list["hosts"].as_array().unwrap().iter().map(|h| h["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cp1", "w0", "w1", "w2", "w3"]);
    assert_eq!(
        list["hosts"][0]["roles"],
        serde_json::json!(["control plane", "etcd member", "node"])
    );
    let table = stdout(&mut nodes(&dir, &["list"]));
    assert!(table.contains("w3") && table.contains("10.0.1.3"), "{table}");
}

#[test]
fn nodes_are_taken_out_with_their_files_and_come_back_whole() {
    let folder = temp_dir();
    let dir = folder.path().join("d");
    let text = workspace(&dir);
    run(&mut nodes(&dir, &["add", "w1=10.0.1.1"]));
    let before = snapshot(&dir);
    let dry = stdout(&mut nodes(&dir, &["remove", "w1", "--dry-run"]));
    assert!(dry.contains("hosts/w1/kubelet.conf"), "{dry}");
    assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
    run(&mut nodes(&dir, &["remove", "w1"]));
    assert_eq!(declaration(&dir), text);
    assert!(!dir.join("hosts/w1").exists());
    run(certkit().args(["rotate", "--rollback", "-q", "--dir"]).arg(&dir));
    assert!(declaration(&dir).contains("name: w1"));
    assert!(dir.join("hosts/w1/kubelet.conf").exists());
    run(certkit().args(["verify", "-q", "--dir"]).arg(&dir));
}

#[test]
fn mistakes_are_named_and_nothing_is_written() {
    let folder = temp_dir();
    let dir = folder.path().join("d");
    workspace(&dir);
    let wrong = folder.path().join("wrong.csv");
    fs::write(&wrong, "w1,10.0.1.1\nw2,10.0.1.300\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    let before = snapshot(&dir);
    for (arguments, exit, said) in [
        (&["add", "w0=10.0.1.99"][..], 3, "w0 is there already, at 10.0.1.10, not at 10.0.1.99"),
        (&["add", "w1=10.0.1.10"], 3, "10.0.1.10"),
        (&["add", "w1=10.0.1.1", "w1=10.0.1.2"], 64, "is named twice"),
        (&["add", "w1"], 64, "NAME=IP"),
        (&["add", "w1=nowhere"], 64, "is no IP address"),
        (&["add"], 64, "--from"),
        (&["add", "--from", wrong], 3, "wrong.csv:2:1: addresses: `10.0.1.300` is no IP address"),
        (&["add", "--from", "/nonexistent"], 3, "/nonexistent"),
        (&["remove", "w9"], 3, "is no host of this cluster"),
        (&["remove", "cp1"], 3, "control plane"),
        (&["remove"], 64, "NAME"),
    ] {
        let output = run_to_exit(&mut nodes(&dir, arguments), exit);
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new(), "{arguments:?}");
    }
    // A list in one line cannot be changed so that all else stays.
    let text = declaration(&dir);
    let at = text.find("nodes:").unwrap();
    fs::write(
        dir.join("certkit.yaml"),
        format!("{}nodes: [{{name: w0, addresses: [10.0.1.10]}}]\n", &text[..at]),
    )
    .unwrap();
    let output = run_to_exit(&mut nodes(&dir, &["add", "w1=10.0.1.1"]), 3);
    assert!(stderr(&output).contains("a line for each node"), "{}", stderr(&output));
}
