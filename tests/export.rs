//! `certkit export`: what a host unpacks is what the workspace holds for it, in whatever form and to whomever it is encrypted.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    certkit, need, run, run_to_exit, temp_dir,
    tree::{Entry, snapshot},
};

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

/// A workspace of one control plane and two nodes, with owners by name and by number.
fn workspace(dir: &Path) {
    let text = "apiVersion: certkit/v1\nkind: Cluster\nname: prod\nendpoint: api.example.com:6443\n\
                owner: {etcd: \"etcd:etcd\", kube-proxy: \"107\"}\naddons: [kube-proxy]\ncontrolPlane:\n\
                - {name: cp1, addresses: [10.0.0.11]}\nnodes:\n- {name: w1, addresses: [10.0.1.1]}\n\
                - {name: w2, addresses: [10.0.1.2]}\n";
    let file = dir.with_extension("yaml");
    fs::write(&file, text).unwrap();
    run(certkit().args(["init", "-q", "--config"]).arg(&file).arg("--dir").arg(dir));
}

/// The files of a host's tree: path, mode and content.
fn files(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let file = |(path, entry): (PathBuf, Entry)| match entry {
        Entry::File { content, mode, .. } => {
            Some((path.to_str().unwrap().to_owned(), (mode, content)))
        }
        _ => None,
    };
    snapshot(root).into_iter().filter_map(file).collect()
}

fn export(dir: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let output = run_to_exit(certkit().arg("export").args(arguments).arg("--dir").arg(dir), code);
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn every_host_has_an_archive_that_only_its_owner_reads() {
    let folder = temp_dir();
    let dir = folder.path().join("ws");
    workspace(&dir);
    let out = folder.path().join("out");
    let (said, _) = export(&dir, &["--all", out.to_str().unwrap()], 0);
    let paths: Vec<PathBuf> = said.lines().map(PathBuf::from).collect();
    assert_eq!(paths, ["cp1", "w1", "w2"].map(|host| out.join(format!("{host}.tar"))));
    for (host, path) in ["cp1", "w1", "w2"].iter().zip(&paths) {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
        let unpacked = folder.path().join(format!("unpacked-{host}"));
        fs::create_dir(&unpacked).unwrap();
        let mut tar = Command::new("tar");
        run(tar.args(["--no-same-owner", "-xpf"]).arg(path).arg("-C").arg(&unpacked));
        assert_eq!(files(&unpacked), files(&dir.join("hosts").join(host)), "{host}");
        assert_eq!(fs::read(path).unwrap(), {
            run(certkit().args(["export", host, "--dir"]).arg(&dir)).stdout
        });
    }
    // Nothing but archives and their record.
    assert_eq!(fs::read_dir(&out).unwrap().count(), 4);
}

#[test]
fn only_what_has_changed_is_written_again() {
    let folder = temp_dir();
    let dir = folder.path().join("ws");
    workspace(&dir);
    let out = folder.path().join("out");
    let changed = |code: i32| {
        let said = export(&dir, &["--all", out.to_str().unwrap(), "--changed"], code).0;
        let name = |line: &str| Path::new(line).file_name().unwrap().to_str().unwrap().to_owned();
        said.lines().map(name).collect::<Vec<_>>()
    };
    assert_eq!(changed(0), ["cp1.tar", "w1.tar", "w2.tar"], "nothing is there yet");
    let before = snapshot(&out);
    assert_eq!(changed(0), [""; 0]);
    assert_eq!(snapshot(&out), before, "not even the record is touched");
    // A file written again as it was is no change; another mode is one.
    let conf = dir.join("hosts/w1/kubelet.conf");
    fs::write(&conf, fs::read(&conf).unwrap()).unwrap();
    assert_eq!(changed(0), [""; 0]);
    fs::set_permissions(&conf, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(changed(0), ["w1.tar"]);
    fs::set_permissions(&conf, PermissionsExt::from_mode(0o600)).unwrap();
    run(certkit()
        .args(["rotate", "-q", "--dir"])
        .arg(&dir)
        .arg(dir.join("hosts/w2/pki/kubelet.crt")));
    assert_eq!(changed(0), ["w1.tar", "w2.tar"]);
    fs::remove_file(out.join("cp1.tar")).unwrap();
    assert_eq!(changed(0), ["cp1.tar"], "what is not there is not as recorded");
    // Without being asked for what changed, all is written.
    let (all, _) = export(&dir, &["--all", out.to_str().unwrap()], 0);
    assert_eq!(all.lines().count(), 3);
    run(certkit().args(["nodes", "remove", "w2", "-q", "--dir"]).arg(&dir));
    for _ in 0..2 {
        let (said, told) = export(&dir, &["--all", out.to_str().unwrap(), "--changed"], 0);
        assert_eq!(said, "");
        assert!(told.contains("w2.tar") && told.contains("remove it"), "{told}");
    }
}

#[test]
fn an_export_that_is_cut_short_records_nothing_it_did_not_do() {
    let Some(strace) = need("strace") else { return };
    let folder = temp_dir();
    let dir = folder.path().join("ws");
    workspace(&dir);
    let out = folder.path().join("out");
    let out_text = out.to_str().unwrap();
    export(&dir, &["--all", out_text], 0);
    let originals = files(&dir.join("hosts/w1"));
    run(certkit().args(["rotate", "--all", "-q", "--dir"]).arg(&dir));
    for number in 1..=12 {
        // Killed at each of its renames: the record's, the archives', the record's again.
        let mut killed = Command::new(&strace);
        killed.args(["-f", "-o", "/dev/null", "-e"]);
        killed.arg(format!("inject=renameat:signal=SIGKILL:when={number}"));
        killed.arg("--").arg(certkit().get_program());
        killed.args(["export", "--all", out_text, "--changed", "-q", "--dir"]).arg(&dir);
        let ended = killed.output().unwrap().status;
        // Back to what the first export had, behind the record's back.
        let now = files(&dir.join("hosts/w1"));
        for (path, (_, content)) in &originals {
            fs::write(dir.join("hosts/w1").join(path), content).unwrap();
        }
        export(&dir, &["--all", out_text, "--changed"], 0);
        let unpacked = folder.path().join(format!("unpacked-{number}"));
        fs::create_dir(&unpacked).unwrap();
        let mut tar = Command::new("tar");
        run(tar.arg("-xpf").arg(out.join("w1.tar")).arg("-C").arg(&unpacked));
        assert_eq!(files(&unpacked), originals, "killed at rename {number}");
        let hidden = fs::read_dir(&out)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'));
        assert_eq!(hidden.count(), 0, "what a killed run leaves is swept");
        for (path, (_, content)) in &now {
            fs::write(dir.join("hosts/w1").join(path), content).unwrap();
        }
        if ended.success() {
            assert!(number > 3, "it was not killed");
            return;
        }
    }
    panic!("there is no end to its renames");
}

#[test]
fn a_secret_is_what_kubectl_takes_for_one() {
    let Some(kubectl) = support::kubernetes::program("kubectl") else { return };
    let Some(python) = need("python3") else { return };
    let folder = temp_dir();
    let dir = folder.path().join("ws");
    workspace(&dir);
    let (manifest, _) = export(&dir, &["cp1", "--format", "secret"], 0);
    let file = folder.path().join("secret.yaml");
    fs::write(&file, &manifest).unwrap();
    // The one way to have kubectl read an object that asks no apiserver.
    let mut read = Command::new(kubectl);
    read.args(["label", "--local", "-o", "json", "a=b", "-f"]).arg(&file);
    read.env("KUBECONFIG", "/dev/null");
    let object: serde_json::Value = serde_json::from_slice(&run(&mut read).stdout).unwrap();
    assert_eq!(object["kind"], "Secret");
    assert_eq!(object["metadata"]["name"], "certkit-cp1");
    let listed = object["metadata"]["annotations"]["certkit.io/files"].as_str().unwrap();
    let expected = files(&dir.join("hosts/cp1"));
    let mut found = BTreeMap::new();
    for line in listed.lines() {
        let [key, mode, path] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let content = decode(&python, object["data"][key].as_str().unwrap());
        found.insert(path.to_owned(), (u32::from_str_radix(mode, 8).unwrap(), content));
    }
    assert_eq!(found, expected);
    assert_eq!(object["data"].as_object().unwrap().len(), expected.len());
    // What no Secret can hold is told, and the other hosts are exported all the same.
    fs::write(dir.join("hosts/w1/a b"), "x").unwrap();
    let out = folder.path().join("out");
    let (said, told) = export(&dir, &["--all", out.to_str().unwrap(), "--format", "secret"], 4);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(told.contains("w1") && told.contains("a b"), "{told}");
}

fn decode(python: &Path, text: &str) -> Vec<u8> {
    let script =
        "import base64,sys; sys.stdout.buffer.write(base64.b64decode(sys.argv[1], validate=True))";
    run(Command::new(python).args(["-c", script, text])).stdout
}

#[test]
fn cloud_init_writes_what_the_workspace_holds() {
    let Some(python) = need("python3") else { return };
    let folder = temp_dir();
    let dir = folder.path().join("ws");
    workspace(&dir);
    // PyYAML is what cloud-init reads it with.
    let script = "import yaml,json,sys,base64\n\
                  text = sys.stdin.read()\n\
                  assert text.startswith('#cloud-config\\n')\n\
                  d = yaml.safe_load(text)\n\
                  for f in d['write_files']:\n\
                  \x20 assert f['encoding'] == 'b64'\n\
                  \x20 f['content'] = list(base64.b64decode(f['content'], validate=True))\n\
                  json.dump(d, sys.stdout)\n";
    for host in ["cp1", "w1"] {
        let file = folder.path().join("user-data");
        fs::write(&file, export(&dir, &[host, "--format", "cloud-init"], 0).0).unwrap();
        let mut read = Command::new(&python);
        let output = run(read.args(["-c", script]).stdin(fs::File::open(&file).unwrap()));
        let data: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut owners = BTreeMap::new();
        let mut found = BTreeMap::new();
        for file in data["write_files"].as_array().unwrap() {
            let path = file["path"].as_str().unwrap().strip_prefix("/etc/kubernetes/").unwrap();
            let mode = u32::from_str_radix(file["permissions"].as_str().unwrap(), 8).unwrap();
            let content: Vec<u8> = serde_json::from_value(file["content"].clone()).unwrap();
            found.insert(path.to_owned(), (mode, content));
            let owner = file["owner"].as_str().unwrap();
            if owner != "root:root" {
                assert_eq!(file["defer"], true, "{owner} may not exist yet");
                owners.insert(path.to_owned(), owner.to_owned());
            }
        }
        assert_eq!(found, files(&dir.join("hosts").join(host)));
        let etcd: Vec<&String> = owners.keys().collect();
        match host {
            "cp1" => assert_eq!(etcd, ["pki/etcd/peer.key", "pki/etcd/server.key"]),
            _ => assert!(etcd.is_empty(), "{etcd:?}"),
        }
        let given = data["runcmd"].as_array().unwrap();
        assert!(!given.is_empty());
        for command in given {
            assert_eq!((&command[0], &command[1]), (&"chown".into(), &"107:root".into()));
            let path = command[2].as_str().unwrap().strip_prefix("/etc/kubernetes/").unwrap();
            assert!(path.contains("kube-proxy") && found.contains_key(path), "{path}");
        }
    }
}

#[test]
fn age_opens_what_is_encrypted_and_nobody_else_does() {
    let (Some(age), Some(keygen)) = (need("age"), need("age-keygen")) else { return };
    let folder = temp_dir();
    let dir = folder.path().join("ws");
    workspace(&dir);
    // More than one chunk of the format, and exactly two.
    fs::write(dir.join("hosts/w1/large"), vec![b'x'; 300_000]).unwrap();
    let mut recipients = Vec::new();
    for name in ["a", "b", "c"] {
        let identity = folder.path().join(name);
        run(Command::new(&keygen).arg("-o").arg(&identity));
        let recipient = run(Command::new(&keygen).arg("-y").arg(&identity)).stdout;
        recipients.push(String::from_utf8(recipient).unwrap().trim().to_owned());
    }
    let out = folder.path().join("out");
    let all = [
        "--all",
        out.to_str().unwrap(),
        "--encrypt-to",
        &recipients[0],
        "--encrypt-to",
        &recipients[1],
    ];
    export(&dir, &all, 0);
    for host in ["cp1", "w1", "w2"] {
        let archive = out.join(format!("{host}.tar.age"));
        let plain = run(certkit().args(["export", host, "--dir"]).arg(&dir)).stdout;
        for name in ["a", "b"] {
            let mut open = Command::new(&age);
            let opened = run(open.arg("-d").arg("-i").arg(folder.path().join(name)).arg(&archive));
            assert_eq!(opened.stdout, plain, "{host} {name}");
        }
        let mut open = Command::new(&age);
        run_to_exit(open.arg("-d").arg("-i").arg(folder.path().join("c")).arg(&archive), 1);
    }
    let again = [&all[..], &["--changed"]].concat();
    assert_eq!(export(&dir, &again, 0).0, "");
    // Archives that others can open are no archives for these.
    let other = ["--all", all[1], "--changed", "--encrypt-to", &recipients[2]];
    assert_eq!(export(&dir, &other, 0).0.lines().count(), 3);
    // In clear beside them, nobody would look after those that are there.
    let (_, told) = export(&dir, &["--all", all[1]], 64);
    assert!(told.contains("HOST.tar.age"), "{told}");
    // To a stream likewise.
    let mut command = certkit();
    command.args(["export", "w1", "--format", "secret", "--encrypt-to", &recipients[2], "--dir"]);
    let file = folder.path().join("w1.age");
    fs::write(&file, run(command.arg(&dir)).stdout).unwrap();
    let mut open = Command::new(&age);
    let opened = run(open.arg("-d").arg("-i").arg(folder.path().join("c")).arg(&file)).stdout;
    assert!(opened.starts_with(b"apiVersion: v1\nkind: Secret\n"));
}

#[test]
fn what_cannot_be_exported_is_told_and_nothing_is_written() {
    let folder = temp_dir();
    let dir = folder.path().join("ws");
    workspace(&dir);
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let inside = dir.join("archives");
    let identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    for (arguments, said) in [
        (&[][..], "HOST"),
        (&["--all", out, "cp1"], "cannot be used with"),
        (&["cp1", "--changed"], "cannot be used with"),
        (&["cp1", "--encrypt-to", "age1nothing"], "number 1"),
        (&["--all", out, "--encrypt-to", identity], "secret"),
        (&["--all", inside.to_str().unwrap()], "must not be in"),
    ] {
        let (_, told) = export(&dir, arguments, 64);
        assert!(told.contains(said), "{arguments:?}: {told}");
        assert!(!told.contains(identity), "{told}");
        assert!(!Path::new(out).exists() && !inside.exists(), "{arguments:?}");
    }
    // A file where the folder should be, and a record that is none.
    fs::write(out, "x").unwrap();
    let (_, told) = export(&dir, &["--all", out], 3);
    assert!(told.contains("out"), "{told}");
    fs::remove_file(out).unwrap();
    fs::create_dir(out).unwrap();
    let record = Path::new(out).join("certkit-export.json");
    for text in ["", "{}", "{\"apiVersion\": \"certkit/v2\"}"] {
        fs::write(&record, text).unwrap();
        let (_, told) = export(&dir, &["--all", out, "--changed"], 3);
        assert!(told.contains("certkit-export.json") && told.contains("remove"), "{told}");
        assert_eq!(fs::read_dir(out).unwrap().count(), 1);
    }
    fs::remove_file(&record).unwrap();
    // One host cannot be read, the others are exported; then none can.
    std::os::unix::fs::symlink("/etc/passwd", dir.join("hosts/w1/link")).unwrap();
    let (said, told) = export(&dir, &["--all", out], 4);
    assert_eq!(said.lines().count(), 2);
    assert!(told.contains("w1") && told.contains("symbolic link"), "{told}");
    assert!(!Path::new(out).join("w1.tar").exists());
    fs::remove_dir_all(dir.join("hosts")).unwrap();
    let (said, told) = export(&dir, &["--all", out], 3);
    assert!(said.is_empty() && told.contains("cp1") && told.contains("w2"), "{told}");
}
