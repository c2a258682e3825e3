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
fn a_list_that_cannot_be_read_is_called_by_its_name() {
    let folder = temp_dir();
    let dir = folder.path().join("d");
    workspace(&dir);
    let missing = folder.path().join("no.csv");
    let said = stderr(&run_to_exit(nodes(&dir, &["add", "--from"]).arg(&missing), 3));
    assert_eq!(said, format!("error: {}: there is no such file\n", missing.display()));
    let list = folder.path().join("list");
    fs::write(&list, "[workers]\nw1\n").unwrap();
    let said = stderr(&run_to_exit(nodes(&dir, &["add", "--from"]).arg(&list), 3));
    assert!(said.starts_with(&format!("error: {}:2:1: w1: has no address", list.display())));
    assert!(said.contains("ansible-inventory --list"), "{said}");
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

/// The same with its nodes in three further files.
fn included(dir: &Path) {
    workspace(dir);
    let text = declaration(dir);
    let own = &text[..text.find("nodes:").unwrap()];
    fs::write(
        dir.join("certkit.yaml"),
        format!("{own}nodes:\n  include: nodes/*.yaml # a rack each\n"),
    )
    .unwrap();
    fs::create_dir(dir.join("nodes")).unwrap();
    for (file, text) in [
        ("rack2.yaml", "nodes:\n- {name: w2, addresses: [10.0.1.2]} # new\n"),
        ("rack0.yaml", "# the first\nnodes:\n- {name: w0, addresses: [10.0.1.10]}\n"),
        ("rack1.yaml", "nodes: []\n"),
        // What somebody is editing, and what is no YAML of ours.
        (".rack3.yaml", "nodes: broken"),
        ("README", "racks"),
    ] {
        fs::write(dir.join("nodes").join(file), text).unwrap();
    }
    run(certkit().args(["init", "-q", "--dir"]).arg(dir));
}

fn listed(dir: &Path) -> Vec<String> {
    let list = stdout(&mut nodes(dir, &["list", "-o", "json"]));
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let hosts = list["hosts"].as_array().unwrap().iter();
    hosts.map(|host| host["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nodes_are_declared_in_further_files_and_edited_where_they_stand() {
    let folder = temp_dir();
    let dir = folder.path().join("d");
    included(&dir);
    assert_eq!(listed(&dir), ["cp1", "w0", "w2"], "in the order of the files' names");
    run(certkit().args(["verify", "-q", "--dir"]).arg(&dir));
    let text = declaration(&dir);
    let file = |name: &str| fs::read_to_string(dir.join("nodes").join(name)).unwrap();
    // Into the last file, unless another is named; one that is not there yet is made.
    run(&mut nodes(&dir, &["add", "w4=10.0.1.4", "-q"]));
    assert_eq!(
        file("rack2.yaml"),
        "nodes:\n- {name: w2, addresses: [10.0.1.2]} # new\n- {name: w4, addresses: [10.0.1.4]}\n"
    );
    let before = snapshot(&dir);
    let dry = stdout(&mut nodes(
        &dir,
        &["add", "w5=10.0.1.5", "--into", "nodes/rack1.yaml", "--dry-run"],
    ));
    assert!(dry.contains("nodes/rack1.yaml"), "{dry}");
    assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
    run(&mut nodes(&dir, &["add", "w5=10.0.1.5", "--into", "nodes/rack1.yaml", "-q"]));
    assert_eq!(file("rack1.yaml"), "nodes:\n- {name: w5, addresses: [10.0.1.5]}\n");
    run(&mut nodes(&dir, &["add", "w6=10.0.1.6", "--into", "nodes/rack9.yaml", "-q"]));
    assert_eq!(file("rack9.yaml"), "nodes:\n- {name: w6, addresses: [10.0.1.6]}\n");
    assert_eq!(listed(&dir), ["cp1", "w0", "w5", "w2", "w4", "w6"]);
    // Out of whichever files they stand in, at once.
    let before = snapshot(&dir);
    run(&mut nodes(&dir, &["remove", "w0", "w4", "w6", "-q"]));
    assert_eq!(file("rack0.yaml"), "# the first\nnodes: []\n");
    assert_eq!(file("rack2.yaml"), "nodes:\n- {name: w2, addresses: [10.0.1.2]} # new\n");
    assert!(!dir.join("hosts/w0").exists() && dir.join("hosts/w2").exists());
    assert_eq!(listed(&dir), ["cp1", "w5", "w2"]);
    run(certkit().args(["rotate", "--rollback", "-q", "--dir"]).arg(&dir));
    let changed = difference(&before, &snapshot(&dir));
    let content = |path: &String| {
        // Times are new; content is not.
        let (old, new) = (before.get(Path::new(path)), snapshot(&dir).remove(Path::new(path)));
        match (old, new) {
            (
                Some(support::tree::Entry::File { content: old, .. }),
                Some(support::tree::Entry::File { content: new, .. }),
            ) => *old != new,
            _ => true,
        }
    };
    let other: Vec<&String> =
        changed.iter().filter(|path| !path.starts_with(".certkit") && content(path)).collect();
    assert!(other.is_empty(), "{other:?}");
    // certkit.yaml itself was never touched.
    assert_eq!(declaration(&dir), text);
}

#[test]
fn what_further_files_say_wrong_is_named_with_its_file_and_place() {
    let folder = temp_dir();
    let dir = folder.path().join("d");
    included(&dir);
    let good = declaration(&dir);
    let rack = dir.join("nodes/rack1.yaml");
    let outside = folder.path().join("outside.yaml");
    fs::write(&outside, "nodes: []\n").unwrap();
    let verify = |said: &str| {
        let output = run_to_exit(certkit().args(["verify", "--dir"]).arg(&dir), 3);
        assert!(stderr(&output).contains(said), "{said}: {}", stderr(&output));
    };
    for (text, said) in [
        (
            "nodes:\n- {name: w0, addresses: [10.0.1.77]}\n",
            "nodes/rack1.yaml:2:3: nodes: host `w0` is declared twice",
        ),
        ("nodes:\n- {name: w0, addresses: [10.0.1.77]}\n", "nodes/rack0.yaml:3:3"),
        ("nodes:\n- {name: cp1, addresses: [10.0.1.77]}\n", "declared twice; the other is in"),
        ("nodes:\n- {name: w7, addresses: [10.0.1.10]}\n", "nodes/rack0.yaml:3:3"),
        (
            "nodes:\n- {name: w7, addresses: [10.0.1.300]}\n",
            "nodes/rack1.yaml:2:26: nodes[0].addresses[0]: `10.0.1.300`",
        ),
        (
            "nodes:\n- {name: w7, adresses: [10.0.1.3]}\n",
            "nodes/rack1.yaml:2:14: nodes[0].adresses",
        ),
        ("nodes: [\n", "nodes/rack1.yaml:1:8"),
        ("name: x\n", "nodes/rack1.yaml:1:1: name"),
        ("- {name: w7, addresses: [10.0.1.3]}\n", "nodes/rack1.yaml:1:1: is a list, not a mapping"),
        ("nodes: []\n---\nnodes: []\n", "a second document"),
        ("", "is empty"),
    ] {
        fs::write(&rack, text).unwrap();
        verify(said);
    }
    fs::remove_file(&rack).unwrap();
    std::os::unix::fs::symlink(&outside, &rack).unwrap();
    verify("symlink that leads elsewhere");
    fs::remove_file(&rack).unwrap();
    let own = &good[..good.find("nodes:").unwrap()];
    std::os::unix::fs::symlink(folder.path(), dir.join("elsewhere")).unwrap();
    for (list, said) in [
        ("nodes: {include: racks/*.yaml}\n", "nodes.include"),
        ("nodes: {include: nodes/*.yml}\n", "there is no such file"),
        ("nodes: {include: nodes/rack7.yaml}\n", "rack7.yaml`: there is no such file"),
        ("nodes: {include: ../outside.yaml}\n", "does not leave its directory"),
        ("nodes: {include: /etc/passwd}\n", "relative to certkit.yaml"),
        ("nodes: {include: 'n*/x.yaml'}\n", "last part"),
        ("nodes: {include: nodes/.rack3.yaml}\n", "begin with a dot"),
        ("nodes: {include: elsewhere/*.yaml}\n", "symlink that leads elsewhere"),
        ("nodes: {include: []}\n", "needs `include`"),
        ("nodes: {}\n", "needs `include`"),
        ("nodes: {includes: nodes/*.yaml}\n", "includes"),
    ] {
        fs::write(dir.join("certkit.yaml"), format!("{own}{list}")).unwrap();
        verify(said);
        verify("certkit.yaml");
    }
    // Several patterns, of which two name the same file: it is read once.
    let twice = "nodes:\n  include:\n  - nodes/rack2.yaml\n  - nodes/*.yaml\n";
    fs::write(dir.join("certkit.yaml"), format!("{own}{twice}")).unwrap();
    assert_eq!(listed(&dir), ["cp1", "w2", "w0"]);
    // Elsewhere than in DIR there is nothing that it could include.
    let file = folder.path().join("certkit.yaml");
    fs::write(&file, &good).unwrap();
    let other = folder.path().join("other");
    let mut init = certkit();
    let output =
        run_to_exit(init.args(["init", "--dir"]).arg(&other).arg("--config").arg(&file), 3);
    assert!(stderr(&output).contains("nodes.include"), "{}", stderr(&output));
    assert!(!other.exists());
    let before = snapshot(&dir);
    for (arguments, said) in [
        (&["add", "w9=10.0.1.9", "--into", "racks/a.yaml"][..], "includes no nodes from there"),
        (&["add", "w9=10.0.1.9", "--into", "certkit.yaml"], "includes no nodes from there"),
        (&["add", "w0=10.0.1.9"], "edit"),
    ] {
        let output = run_to_exit(&mut nodes(&dir, arguments), 3);
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
    }
}
