//! `certkit rotate` as a user meets it: the real program on real trees, openssl as judge.

mod support;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use support::{
    certkit, need, openssl, run, run_to_exit, stdout, temp_dir,
    tree::{difference, snapshot},
};

/// A one-host PKI whose host has this address.
fn made(dir: &Path, address: &str, more: &[&str]) {
    let host = format!("cp1={address}");
    run(certkit()
        .arg("init")
        .arg("--dir")
        .arg(dir)
        .args(["--name", "prod", "--host", &host])
        .args(more));
}

fn rotate(dir: &Path, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("rotate").arg("--dir").arg(dir).args(more);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(command: &mut Command) -> serde_json::Value {
    serde_json::from_str(&stdout(command.args(["-o", "json"]))).expect("one JSON document")
}

/// The changed files, without certkit's own records.
fn changed(before: &BTreeMap<PathBuf, support::tree::Entry>, dir: &Path) -> Vec<String> {
    let mut all = difference(before, &snapshot(dir));
    all.retain(|path| !path.starts_with(".certkit"));
    all.sort();
    all
}

fn serial(file: &Path) -> String {
    openssl(&["x509", "-noout", "-serial", "-in", file.to_str().unwrap()])
}

fn public_key(file: &Path) -> String {
    openssl(&["pkey", "-pubout", "-in", file.to_str().unwrap()])
}

/// certkit.yaml with one text replaced.
fn edit(dir: &Path, from: &str, to: &str) {
    let file = dir.join("certkit.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(&file, text.replace(from, to)).unwrap();
}

#[test]
fn nothing_due_prints_nothing_and_touches_nothing() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    let before = snapshot(dir.path());
    for _ in 0..50 {
        let output =
            run(&mut rotate(dir.path(), &["--jitter", "1h", "--hook", "exit 1", "--wait"]));
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
}

#[test]
fn ten_thousand_runs_with_nothing_due_change_nothing() {
    // In this process, and on a small tree: what is tested is that no run leaves a trace.
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    for away in ["pki/ca", "pki/etcd", "admin.conf", "super-admin.conf", "kubelet.conf"] {
        for name in ["", ".crt", ".key", "-bundle.crt"] {
            let path = dir.path().join(format!("{away}{name}"));
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    for name in ["certkit.yaml", "controller-manager.conf", "scheduler.conf"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    for entry in fs::read_dir(dir.path().join("pki")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.to_str().unwrap().contains("front-proxy-c") {
            fs::remove_file(path).unwrap();
        }
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = certkit::model::timestamp::Timestamp::from_unix(now.as_secs() as i64);
    let passwords = certkit::ops::password::Passwords::Nowhere;
    let change = certkit::ops::change::Request {
        judgement: certkit::ops::change::Judgement::Withholds,
        backups: 1,
        ..certkit::ops::change::Request::new(dir.path(), "rotate", now, &passwords)
    };
    let request = certkit::ops::rotate::Request {
        names: &[],
        all: false,
        within: None,
        key: None,
        csr_only: false,
    };
    let before = snapshot(dir.path());
    assert!(before.contains_key(Path::new("pki/front-proxy-client.crt")));
    for _ in 0..10_000 {
        let mut reports = Vec::new();
        certkit::ops::rotate::run(&request, &change, |report, _| reports.push(report)).unwrap();
        let [report] = reports.as_slice() else { panic!("one part") };
        assert!(report.plan.is_empty());
        assert_eq!(report.plan.next.as_ref().unwrap().0, "front-proxy-client");
    }
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
}

#[test]
fn thresholds_hold_to_the_second() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    let end = openssl(&[
        "x509",
        "-noout",
        "-enddate",
        "-dateopt",
        "iso_8601",
        "-in",
        dir.path().join("pki/apiserver.crt").to_str().unwrap(),
    ]);
    let end = end.trim().strip_prefix("notAfter=").unwrap().replace(' ', "T");
    // 30 days before the end of a year, whatever the month: computed by openssl's `-checkend` too.
    let due = |at: &str, within: &[&str]| {
        let mut arguments = vec!["--dry-run", "--at", at];
        arguments.extend(within);
        let report = json(&mut rotate(dir.path(), &arguments));
        let steps = report["steps"].as_array().unwrap().iter();
        steps.filter(|step| step["action"] == "renew" && step["name"] == "apiserver").count() == 1
    };
    let end: certkit::model::timestamp::Timestamp = end.parse().unwrap();
    let before = |seconds: i64| end.minus(certkit::model::duration::Span(seconds)).to_string();
    let day = 86_400;
    assert!(due(&before(30 * day), &[]));
    assert!(!due(&before(30 * day + 1), &[]));
    assert!(due(&before(3600), &["--within", "1h"]));
    assert!(!due(&before(3601), &["--within", "1h"]));
    // Its life begins five minutes before its issue.
    let half = (365 * day + 300) / 2;
    assert!(due(&before(half), &["--within", "50%"]));
    assert!(!due(&before(half + 1), &["--within", "50%"]));
    assert!(due(&before(-day), &["--within", "0s"]), "expired");
}

#[test]
fn what_is_no_longer_declared_is_renewed_and_nothing_else() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &["--san", "old.example.com"]);
    edit(dir.path(), "old.example.com", "new.example.com");
    let report = json(&mut rotate(dir.path(), &["--dry-run"]));
    let steps: Vec<_> =
        report["steps"].as_array().unwrap().iter().filter(|s| s["action"] == "renew").collect();
    assert_eq!(steps.len(), 1, "{report:#}");
    assert_eq!(
        steps[0]["differences"],
        serde_json::json!(["SAN missing DNS:new.example.com", "SAN surplus DNS:old.example.com"])
    );
    assert_eq!(steps[0]["key"], "new");
    let before = snapshot(dir.path());
    run(&mut rotate(dir.path(), &[]));
    assert_eq!(changed(&before, dir.path()), ["pki/apiserver.crt", "pki/apiserver.key"]);
    let text = openssl(&[
        "x509",
        "-noout",
        "-ext",
        "subjectAltName",
        "-in",
        dir.path().join("pki/apiserver.crt").to_str().unwrap(),
    ]);
    assert!(text.contains("new.example.com") && !text.contains("old.example.com"), "{text}");
    let before = snapshot(dir.path());
    run(&mut rotate(dir.path(), &[]));
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
}

#[test]
fn a_declared_algorithm_is_not_served_by_the_old_key() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    edit(dir.path(), "keyAlgorithm: ecdsa-p256", "keyAlgorithm: ecdsa-p384");
    let report = json(&mut rotate(dir.path(), &["--dry-run"]));
    let etcd = report["steps"].as_array().unwrap().iter().find(|s| s["name"] == "etcd-server");
    let etcd = etcd.unwrap();
    assert_eq!(etcd["key"], "new");
    assert_eq!(
        etcd["differences"],
        serde_json::json!(["algorithm ecdsa-p256, declared ecdsa-p384"])
    );
    // Keeping keys, there is nothing to put right.
    let kept = json(&mut rotate(dir.path(), &["--dry-run", "--reuse-key"]));
    assert!(kept["steps"].as_array().unwrap().iter().all(|s| s["action"] == "keep"), "{kept:#}");
    run(&mut rotate(dir.path(), &[]));
    let text = openssl(&[
        "x509",
        "-noout",
        "-text",
        "-in",
        dir.path().join("pki/etcd/server.crt").to_str().unwrap(),
    ]);
    assert!(text.contains("secp384r1"), "{text}");
    run(&mut rotate(dir.path(), &[]));
}

#[test]
fn keys_are_kept_where_a_listener_reads_them_at_every_handshake() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    let keys = ["pki/etcd/server.key", "pki/etcd/peer.key", "pki/apiserver.key", "pki/kubelet.key"];
    let of = || keys.map(|key| public_key(&dir.path().join(key)));
    let before = of();
    run(&mut rotate(dir.path(), &["--all"]));
    let after = of();
    assert_eq!(before[..2], after[..2]);
    assert!(before[2] != after[2] && before[3] != after[3]);
    run(&mut rotate(dir.path(), &["--all", "--reuse-key"]));
    assert_eq!(after, of());
    run(&mut rotate(dir.path(), &["--all", "--new-key"]));
    assert!(after.iter().zip(of()).all(|(old, new)| *old != new));
}

#[test]
fn names_select_and_what_is_no_name_is_refused() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    let before = snapshot(dir.path());
    let file = dir.path().join("pki/scheduler.crt");
    run(&mut rotate(dir.path(), &["admin.conf", "pki/kubelet.crt", file.to_str().unwrap()]));
    assert_eq!(
        changed(&before, dir.path()),
        [
            "admin.conf",
            "pki/kubelet.crt",
            "pki/kubelet.key",
            "pki/scheduler.crt",
            "pki/scheduler.key"
        ]
    );
    let before = snapshot(dir.path());
    let output = run_to_exit(&mut rotate(dir.path(), &["apisrever"]), 64);
    assert!(stderr(&output).contains("apiserver-kubelet-client"), "{}", stderr(&output));
    let output = run_to_exit(&mut rotate(dir.path(), &["etcd-ca"]), 64);
    assert!(stderr(&output).contains("`etcd-ca` is a CA"), "{}", stderr(&output));
    run_to_exit(&mut rotate(dir.path(), &["apiserver", "--all"]), 64);
    // A name and a threshold: that one, if it is time.
    run(&mut rotate(dir.path(), &["apiserver", "--within", "1d"]));
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
}

#[test]
fn a_half_pair_is_made_whole() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    // As a tool leaves it that is killed between key and certificate.
    fs::copy(dir.path().join("pki/apiserver.key"), dir.path().join("pki/scheduler.key")).unwrap();
    fs::remove_file(dir.path().join("pki/etcd/server.key")).unwrap();
    let report = json(&mut rotate(dir.path(), &[]));
    let renewed: Vec<_> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["action"] == "renew")
        .map(|s| (s["name"].as_str().unwrap(), s["key"].as_str().unwrap()))
        .collect();
    assert_eq!(renewed, [("etcd-server", "new"), ("scheduler", "new")]);
    for stem in ["pki/etcd/server", "pki/scheduler"] {
        let of = |end: &str| dir.path().join(format!("{stem}.{end}"));
        let key = public_key(&of("key"));
        let cert = openssl(&["x509", "-noout", "-pubkey", "-in", of("crt").to_str().unwrap()]);
        assert_eq!(key, cert, "{stem}");
    }
}

#[test]
fn rolling_back_and_back_again_brings_the_same_bytes() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    let output = run_to_exit(&mut rotate(dir.path(), &["--rollback"]), 3);
    assert!(stderr(&output).contains("pki/ca.key: was made by it"), "{}", stderr(&output));
    let contents = || {
        support::tree::files(dir.path())
            .into_iter()
            .map(|file| (fs::read(dir.path().join(&file)).unwrap(), file))
            .collect::<Vec<_>>()
    };
    let first = contents();
    run(&mut rotate(dir.path(), &["--all"]));
    let second = contents();
    assert_ne!(first, second);
    run(&mut rotate(dir.path(), &["--rollback"]));
    assert!(first == contents(), "the first rollback");
    run(&mut rotate(dir.path(), &["--rollback"]));
    assert!(second == contents(), "the second rollback");
    let log = fs::read_to_string(dir.path().join(".certkit/log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|l| l["action"] == "restore").count(), 2);
    let api = lines.iter().find(|l| l["command"] == "rotate" && l["name"] == "apiserver").unwrap();
    let old = lines.iter().find(|l| l["command"] == "init" && l["name"] == "apiserver").unwrap();
    assert_eq!(api["replaced"], old["fingerprint"]);
    assert_eq!(api["reason"], "asked for");
    assert!(!log.contains("PRIVATE"));
}

#[test]
fn only_the_last_backups_are_kept() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    for _ in 0..5 {
        run(&mut rotate(dir.path(), &["scheduler", "--backups", "2"]));
    }
    assert_eq!(fs::read_dir(dir.path().join(".certkit/backups")).unwrap().count(), 2);
}

#[test]
fn a_lock_that_is_held_is_waited_for_or_told() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    let held = File::open(dir.path().join(".certkit/lock")).unwrap();
    held.lock().unwrap();
    let before = snapshot(dir.path());
    let output = run_to_exit(&mut rotate(dir.path(), &["--all", "--lock-timeout", "0s"]), 3);
    let pid = std::process::id().to_string();
    assert!(stderr(&output).contains(&pid), "{}", stderr(&output));
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
    // With nothing due the lock is nobody's business.
    run(&mut rotate(dir.path(), &["--lock-timeout", "0s"]));
    let waiting = rotate(dir.path(), &["--all"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(held);
    assert!(waiting.wait_with_output().unwrap().status.success());
}

#[test]
fn of_two_at_once_one_does_it() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    for _ in 0..5 {
        let backups =
            || fs::read_dir(dir.path().join(".certkit/backups")).map_or(0, Iterator::count);
        let before = backups();
        // Both see what is due, and only then may one of them begin.
        let held = File::open(dir.path().join(".certkit/lock")).unwrap();
        held.lock().unwrap();
        let start = || {
            let mut command = rotate(dir.path(), &["--all", "--backups", "100"]);
            command.stdout(Stdio::piped()).spawn().unwrap()
        };
        let both = [start(), start()];
        std::thread::sleep(Duration::from_millis(400));
        drop(held);
        let outputs = both.map(|child| child.wait_with_output().unwrap());
        assert!(outputs.iter().all(|o| o.status.success()), "{outputs:?}");
        assert_eq!(backups(), before + 1, "one of them found everything renewed");
    }
}

#[test]
fn hooks_run_once_for_each_changed_component() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    let notes = dir.path().join("notes");
    let hook = format!(
        "printf '%s %s\\n%s\\n' \"$CERTKIT_COMPONENT\" \"$CERTKIT_HOST\" \"$CERTKIT_FILES\" >> {}",
        notes.display()
    );
    run(&mut rotate(dir.path(), &["apiserver", "scheduler.conf", "--hook", &hook]));
    let at = |file: &str| dir.path().join(file).display().to_string();
    let said = fs::read_to_string(&notes).unwrap();
    assert_eq!(
        said,
        format!(
            "kube-apiserver cp1\n{}\n{}\nkube-scheduler cp1\n{}\n",
            at("pki/apiserver.crt"),
            at("pki/apiserver.key"),
            at("pki/scheduler-client.pem")
        )
    );
    // What fails is named, what comes after it is done all the same.
    fs::remove_file(&notes).unwrap();
    let hook = format!("{hook}; test $CERTKIT_COMPONENT != kube-apiserver");
    let old = serial(&dir.path().join("pki/apiserver.crt"));
    let output =
        run_to_exit(&mut rotate(dir.path(), &["apiserver", "scheduler.conf", "--hook", &hook]), 4);
    assert!(stderr(&output).contains("hook for kube-apiserver"), "{}", stderr(&output));
    assert!(fs::read_to_string(&notes).unwrap().contains("kube-scheduler cp1"));
    assert_ne!(old, serial(&dir.path().join("pki/apiserver.crt")));
}

/// A `systemctl` that writes down what it is asked, and fails for one unit.
fn fake_systemctl(folder: &Path, fails: &str) -> String {
    let file = folder.join("bin/systemctl");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\ntest \"$2\" != {fails} || {{ echo no such unit >&2; exit 5; }}\n",
        folder.join("asked").display()
    );
    File::create(&file).unwrap().write_all(script.as_bytes()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap())
}

#[test]
fn systemd_restarts_only_what_needs_it() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &["--kubeconfig-style", "embedded"]);
    let tools = temp_dir();
    let path = fake_systemctl(tools.path(), "kubelet.service");
    let asked = || fs::read_to_string(tools.path().join("asked")).unwrap_or_default();
    // All of these are taken up without a restart.
    let hot = ["apiserver", "etcd-server", "front-proxy-client", "kubelet", "admin.conf"];
    let mut arguments = hot.to_vec();
    arguments.extend(["--restart", "systemd"]);
    run(rotate(dir.path(), &arguments).env("PATH", &path));
    assert_eq!(asked(), "");
    let output =
        run_to_exit(rotate(dir.path(), &["--all", "--restart", "systemd"]).env("PATH", &path), 4);
    assert_eq!(
        asked(),
        "try-restart kube-controller-manager.service\ntry-restart kube-scheduler.service\n\
         try-restart kubelet.service\n"
    );
    let said = stderr(&output);
    assert!(said.contains("kubelet") && said.contains("no such unit"), "{said}");
    assert!(!said.contains("scheduler"), "{said}");
}

#[test]
fn a_static_pod_gets_an_annotation_and_nothing_else() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &["--kubeconfig-style", "embedded"]);
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36/manifests");
    let manifests = dir.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    for name in names {
        let file = format!("{name}.yaml");
        fs::copy(fixtures.join(&file), manifests.join(&file)).unwrap();
        fs::set_permissions(manifests.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let read = |name: &str| fs::read_to_string(manifests.join(format!("{name}.yaml"))).unwrap();
    let before = names.map(read);
    // The kubelet is no static pod: that its restart is left to do is a failure of what was asked.
    let output = run_to_exit(&mut rotate(dir.path(), &["--all", "--restart", "static-pods"]), 4);
    assert!(stderr(&output).contains("kubelet has no manifest"), "{}", stderr(&output));
    let after = names.map(read);
    assert_eq!(before[..2], after[..2], "etcd and the apiserver need no restart");
    for (old, new, id) in [
        (&before[2], &after[2], "controller-manager.conf"),
        (&before[3], &after[3], "scheduler.conf"),
    ] {
        let added: Vec<&str> = new.lines().filter(|l| !old.lines().any(|o| o == *l)).collect();
        let (line, rest) = added.split_last().unwrap();
        let mark = format!("    certkit.io/fingerprint-{id}: \"");
        assert!(line.starts_with(&mark), "{added:?}");
        assert!(rest.is_empty() || rest == ["  annotations:"], "{added:?}");
        let without: String =
            new.lines().filter(|l| !added.contains(l)).map(|l| format!("{l}\n")).collect();
        assert_eq!(*old, without);
    }
    // Again: the annotation's value changes, and that is all.
    run_to_exit(&mut rotate(dir.path(), &["scheduler.conf", "--restart", "static-pods"]), 0);
    let again = read("kube-scheduler");
    assert_eq!(again.lines().count(), after[3].lines().count());
    assert_eq!(again.lines().zip(after[3].lines()).filter(|(a, b)| a != b).count(), 1);
    let mode = fs::metadata(manifests.join("kube-scheduler.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(&manifests).unwrap().count(), 4, "no temporary file is left");
}

#[test]
fn a_listener_that_does_not_take_it_up_is_told() {
    if need("openssl").is_none() {
        return;
    }
    let dir = temp_dir();
    made(dir.path(), "127.0.41.1", &[]);
    let serve = |address: &str| {
        let server = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", address, "-cert", "pki/scheduler.crt"])
            .args(["-key", "pki/scheduler.key"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "openssl s_server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    };
    let mut server = serve("127.0.41.1:10259");
    let old = serial(&dir.path().join("pki/scheduler.crt"));
    let old = old.trim().trim_start_matches("serial=").to_lowercase();
    let output = rotate(dir.path(), &["scheduler", "--wait", "2s"]).output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(
        stderr(&output).contains(&format!("127.0.41.1:10259: still serves serial {old}")),
        "{}",
        stderr(&output)
    );
    // On another port, which its manifest says.
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-scheduler\nspec:\n  containers:\n  - name: s\n    \
         command:\n    - kube-scheduler\n    - --secure-port=11259\n    - --bind-address=127.0.41.1\n    \
         - --tls-cert-file={0}/pki/scheduler.crt\n",
        dir.path().display()
    );
    fs::create_dir(dir.path().join("manifests")).unwrap();
    fs::write(dir.path().join("manifests/kube-scheduler.yaml"), manifest).unwrap();
    let mut server = serve("127.0.41.1:11259");
    let output = rotate(dir.path(), &["scheduler", "--wait", "2s"]).output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains("127.0.41.1:11259: still serves serial"), "{said}");
    // Nothing listens any more: nothing is to be waited for, and nothing is proven.
    let output = run_to_exit(&mut rotate(dir.path(), &["scheduler", "--wait", "2s"]), 4);
    assert!(stderr(&output).contains("not proven: no listener answered"), "{}", stderr(&output));
}

#[test]
fn a_workspace_is_renewed_for_all_hosts_in_one_transaction() {
    let dir = temp_dir();
    let file = dir.path().join("cluster.yaml");
    fs::write(
        &file,
        "apiVersion: certkit/v1\nkind: Cluster\nname: w\nendpoint: api:6443\ncontrolPlane:\n\
         - {name: a, addresses: [10.0.0.1]}\n- {name: b, addresses: [10.0.0.2]}\n",
    )
    .unwrap();
    let pki = dir.path().join("pki");
    run(certkit().arg("init").arg("--dir").arg(&pki).arg("--config").arg(&file));
    let before = snapshot(&pki);
    run(&mut rotate(&pki, &["apiserver"]));
    assert_eq!(
        changed(&before, &pki),
        [
            "hosts/a/pki/apiserver.crt",
            "hosts/a/pki/apiserver.key",
            "hosts/b/pki/apiserver.crt",
            "hosts/b/pki/apiserver.key"
        ]
    );
    let backups = fs::read_dir(pki.join(".certkit/backups")).unwrap().count();
    assert_eq!(backups, 2, "of init, and one of rotate for all hosts");
    let before = snapshot(&pki);
    let text = stdout(&mut rotate(&pki, &["hosts/b/kubelet.conf"]));
    assert!(text.contains("kubelet     b"), "{text}");
    assert_eq!(changed(&before, &pki), ["hosts/b/pki/kubelet-client.pem"]);
}

#[test]
fn an_expired_ca_is_a_clear_error() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &["--ca-validity", "1m", "--validity", "1m"]);
    let before = snapshot(dir.path());
    let at = "2099-01-01T00:00:00Z";
    let output = run_to_exit(&mut rotate(dir.path(), &["--all", "--dry-run", "--at", at]), 3);
    assert!(stderr(&output).contains("pki/ca.crt: the CA expired"), "{}", stderr(&output));
    for command in ["rotate-ca` replaces the CA", "recover` gives one that has expired a new term"]
    {
        assert!(stderr(&output).contains(command), "{command}: {}", stderr(&output));
    }
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
}

#[test]
fn garbage_is_named_and_the_rest_is_renewed() {
    let dir = temp_dir();
    made(dir.path(), "10.0.0.11", &[]);
    fs::write(dir.path().join("pki/scheduler.crt"), "garbage").unwrap();
    let output = run_to_exit(&mut rotate(dir.path(), &["--all"]), 4);
    assert!(stderr(&output).contains("pki/scheduler.crt"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(dir.path().join("pki/scheduler.crt")).unwrap(), "garbage");
    let output = run_to_exit(&mut rotate(dir.path(), &["scheduler"]), 3);
    assert!(stderr(&output).contains("pki/scheduler.crt"), "{}", stderr(&output));
}
