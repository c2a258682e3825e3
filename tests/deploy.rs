//! Hosts get what is theirs over a real OpenSSH, whole or not at all, whatever happens on the way.

mod support;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    time::{Duration, Instant},
};

use support::{
    fleet::{Fleet, document, report, state, states, stdout_to, tree},
    openssl, run, run_to_exit, stdout,
};

/// Two control planes would do nothing more than one; a host of etcd and two nodes are other roles.
const HOSTS: &[(&str, &str)] =
    &[("cp1", "10.90.0.11"), ("etcd1", "10.90.0.21"), ("w1", "10.90.1.1"), ("w2", "10.90.1.2")];

const DECLARED: &str = "\
apiVersion: certkit/v1
kind: Cluster
name: prod
layout: workspace
endpoint: 10.90.0.11:6443
controlPlane: [{name: cp1, addresses: [10.90.0.11]}]
etcd: [{name: etcd1, addresses: [10.90.0.21]}]
nodes:
- {name: w1, addresses: [10.90.1.1]}
- {name: w2, addresses: [10.90.1.2], ssh: root@10.90.1.2}
";

/// A fleet with a workspace made for it, and nothing on its hosts.
fn fleet() -> Option<Fleet> {
    let fleet = Fleet::boot(HOSTS)?;
    fs::create_dir_all(fleet.workspace()).expect("a folder");
    fs::write(fleet.workspace().join("certkit.yaml"), DECLARED).expect("written");
    run(&mut fleet.certkit(&["init"]));
    Some(fleet)
}

#[track_caller]
fn assert_same(fleet: &Fleet, host: &str) {
    let there = tree(&fleet.host(host).kubernetes());
    let here = tree(&fleet.workspace().join("hosts").join(host));
    assert!(!here.is_empty());
    assert_eq!(there.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>(), "{host}");
    assert!(there == here, "{host} has other contents or modes");
}

#[test]
fn every_host_gets_what_is_its_own_and_a_second_time_nothing() {
    let Some(fleet) = fleet() else { return };
    let checked = report(&mut fleet.deploy(&["--check"]), 1);
    assert_eq!(states(&checked), all("differs"));
    assert!(tree(&fleet.host("w1").kubernetes()).is_empty(), "a check writes nothing");

    let deployed = report(&mut fleet.deploy(&[]), 0);
    assert_eq!(states(&deployed), all("deployed"));
    for (host, _) in HOSTS {
        assert_same(&fleet, host);
    }
    let again = report(&mut fleet.deploy(&[]), 0);
    assert_eq!(states(&again), all("unchanged"));
    let nothing = "every host has what is here, as it was last seen\n";
    assert_eq!(stdout(&mut fleet.deploy(&["--changed"])), nothing);
    run(&mut fleet.certkit(&["status"]));

    // One host's certificate is new: only that travels, and only there.
    run(&mut fleet.certkit(&["rotate", "hosts/w2/pki/kubelet.crt"]));
    let changed = report(&mut fleet.deploy(&["--changed"]), 0);
    assert_eq!(states(&changed), [("w2".to_owned(), "deployed".to_owned())]);
    let differences = changed["hosts"][0]["receipt"]["differences"].as_array().expect("a list");
    let paths: Vec<&str> = differences.iter().filter_map(|one| one["path"].as_str()).collect();
    assert_eq!(paths, ["pki/kubelet.crt", "pki/kubelet.key"]);
    assert_same(&fleet, "w2");

    // What is declared no longer goes from the host, too.
    let declared = DECLARED.replace("nodes:", "addons: [kube-proxy]\nnodes:");
    fs::write(fleet.workspace().join("certkit.yaml"), declared).expect("written");
    run(&mut fleet.certkit(&["init"]));
    report(&mut fleet.deploy(&["w1"]), 0);
    let proxy = fleet.host("w1").kubernetes().join("kube-proxy.conf");
    assert!(proxy.exists());
    fs::write(fleet.workspace().join("certkit.yaml"), DECLARED).expect("written");
    run(&mut fleet.certkit(&["prune"]));
    let status = document(&stdout_to(&mut fleet.certkit(&["status", "-o", "json"]), 1));
    assert_eq!(state(&status, "w1"), "behind");
    let behind = status["hosts"][2]["behind"].as_array().expect("a list");
    assert!(behind.contains(&"kube-proxy.conf".into()), "{behind:?}");
    report(&mut fleet.deploy(&["w1"]), 0);
    assert!(!proxy.exists());
    run(&mut fleet.certkit(&["status"]));
    assert_same(&fleet, "w1");
}

#[test]
fn who_cannot_be_reached_holds_nothing_up_and_what_fails_is_named() {
    let Some(mut fleet) = fleet() else { return };
    fleet.stop_ssh("w1");
    let deployed = report(&mut fleet.deploy(&[]), 4);
    assert_eq!(state(&deployed, "w1"), "unreachable");
    for host in ["etcd1", "cp1", "w2"] {
        assert_eq!(state(&deployed, host), "deployed");
    }
    fleet.start_ssh("w1");
    fleet.wait_for_ssh("w1");
    // Somebody else answers in its place: nothing is sent there.
    fleet.forge_key("w1");
    let forged = report(&mut fleet.deploy(&["--changed"]), 4);
    assert_eq!(states(&forged), [("w1".to_owned(), "unreachable".to_owned())]);
    assert!(tree(&fleet.host("w1").kubernetes()).is_empty());
    let status = document(&stdout_to(&mut fleet.certkit(&["status", "-o", "json"]), 1));
    assert_eq!(status["hosts"][2]["state"], "never-reached");
}

#[test]
fn what_else_a_host_may_answer_is_told_for_what_it_is() {
    let folder = support::temp_dir();
    let dir = folder.path().join("d");
    fs::create_dir(&dir).expect("a folder");
    fs::write(dir.join("certkit.yaml"), DECLARED).expect("written");
    run(support::certkit().args(["init", "-q", "--dir"]).arg(&dir));
    let ssh = folder.path().join("ssh");
    let told = |receipt: serde_json::Value| {
        let receipt = receipt.to_string().replace('\\', "\\\\");
        let text = format!("#!/bin/sh\ncat >/dev/null\necho Welcome\nprintf '%b\\n' '{receipt}'\n");
        support::write_script(&ssh, &text);
        let mut deploy = support::certkit();
        deploy.args(["deploy", "w1", "--ssh"]).arg(&ssh).arg("--dir").arg(&dir);
        report(&mut deploy, 4)["hosts"][0]["error"].clone()
    };
    let error = told(
        serde_json::json!({"protocol": 2, "version": "9.1", "host": "w1", "error": {"message": "no"}}),
    );
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("certkit 9.1 is installed there, and "), "{message}");
    assert!(error["hint"].as_str().expect("a hint").contains("--carry"), "{error}");
    let error = told(serde_json::json!({"protocol": 1, "version": "0.2.0", "host": "w2"}));
    assert_eq!(error["message"], "w2 answered in its place");
    // Whoever has taken a host over has not taken over the operator's terminal.
    let evil = "\u{1b}[2J\nerror: cp1: gone";
    let error = told(
        serde_json::json!({"protocol": 1, "host": "w1", "error": {"message": evil, "hint": evil}}),
    );
    for said in [&error["message"], &error["hint"]] {
        assert_eq!(said, "\\u{1b}[2J; error: cp1: gone");
    }
}

#[test]
fn one_hosts_files_are_taken_by_no_other() {
    let Some(fleet) = fleet() else { return };
    // ssh leads elsewhere than declared.
    let declared = DECLARED.replace("root@10.90.1.2", "root@10.90.1.1");
    fs::write(fleet.workspace().join("certkit.yaml"), declared).expect("written");
    let wrong = report(&mut fleet.deploy(&["w2"]), 4);
    let error = wrong["hosts"][0]["error"]["message"].as_str().expect("a message");
    assert!(
        error.starts_with("the delivery is for w2 (10.90.1.2), and this machine is"),
        "{error}"
    );
    let hint = wrong["hosts"][0]["error"]["hint"].as_str().expect("a hint");
    assert!(hint.contains("correct the one or the other"), "{hint}");
    // Pasted, it forces nothing on any other host.
    assert!(hint.ends_with("deploy --force w2`"), "{hint}");
    assert!(tree(&fleet.host("w1").kubernetes()).is_empty());
    // Nor where the other already has its own.
    report(&mut fleet.deploy(&["w1"]), 0);
    let other = report(&mut fleet.deploy(&["w2"]), 4);
    let hint = other["hosts"][0]["error"]["hint"].as_str().expect("a hint");
    assert!(hint.ends_with("deploy --force w2`"), "{hint}");
    assert_same(&fleet, "w1");
}

#[test]
fn a_host_takes_nothing_in_that_the_catalogue_does_not_put_there() {
    let Some(fleet) = fleet() else { return };
    let send = |host: &str, files: &[(&str, &[u8])]| {
        let description = serde_json::json!({"protocol": 1, "host": "w1", "cluster": DECLARED});
        fleet.send(host, &["receive"], description, files, 3)
    };
    for (file, host) in [
        // The CA's key, another host's certificate, the administrator's kubeconfig, a pod, another file.
        ("pki/ca.key", "w1"),
        ("pki/apiserver.key", "w1"),
        ("admin.conf", "w1"),
        ("manifests/evil.yaml", "w1"),
        ("certkit.yaml", "w1"),
        (".certkit/journal", "w1"),
        // Its own, on another machine.
        ("kubelet.conf", "w2"),
    ] {
        let said = send(host, &[("pki/ca.crt", b"x"), (file, b"x")]);
        assert!(said.contains("belongs on w1") || said.contains("is for w1"), "{file}: {said}");
        assert!(tree(&fleet.host(host).kubernetes()).is_empty(), "{file}");
    }
}

#[test]
fn a_kill_or_a_full_disk_leaves_all_or_nothing_and_a_rerun_goes_on() {
    let Some(fleet) = fleet() else { return };
    report(&mut fleet.deploy(&[]), 0);
    let old = tree(&fleet.host("w1").kubernetes());
    run(&mut fleet.certkit(&["rotate", "--all"]));
    // A disk that holds a little more than what is there.
    let tree_of = fleet.host("w1").kubernetes();
    let mount = |words: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-ec", words]);
        run(&mut fleet.host("w1").enter(&command));
    };
    mount(
        "mkdir /var/lib/old; cp -a /etc/kubernetes/. /var/lib/old; \
         mount -t tmpfs -o size=400k none /etc/kubernetes; cp -a /var/lib/old/. /etc/kubernetes; \
         dd if=/dev/zero of=/etc/kubernetes/filled bs=1k 2>/dev/null || true; ls -l /etc/kubernetes/filled",
    );
    let full = report(&mut fleet.deploy(&["w1"]), 4);
    let error = full["hosts"][0]["error"]["message"].as_str().expect("a message");
    assert!(error.contains("os error 28"), "{error}");
    let mut compare = std::process::Command::new("diff");
    compare.args([
        "-r",
        "--exclude=.certkit",
        "--exclude=filled",
        "/var/lib/old",
        "/etc/kubernetes",
    ]);
    run(&mut fleet.host("w1").enter(&compare));
    mount("umount /etc/kubernetes");
    assert!(tree(&tree_of) == old);

    // Killed at many moments: once the next certkit has put things in order, all is old or all is new.
    let mut killed = 0;
    for pause in [5, 15, 25, 35, 45, 60, 80, 110, 150, 200] {
        run(&mut fleet.certkit(&["rotate", "--all"]));
        let old = tree(&tree_of);
        let new = tree(&fleet.workspace().join("hosts/w1"));
        let mut deploy =
            fleet.deploy(&["w1", "--restart", "static-pods"]).spawn().expect("certkit");
        let receives = || {
            support::process::find(
                "certkit --dir /etc/kubernetes receive -o json --restart static-pods",
            )
        };
        let begun = Instant::now();
        while receives().is_empty() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(pause) / 4);
        for pid in receives() {
            killed += 1;
            // It may just have ended.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        deploy.wait().expect("waited");
        let mut rotate = support::certkit();
        rotate.args(["rotate", "--within", "0s", "-q"]);
        run(&mut fleet.host("w1").enter(&rotate));
        let found = tree(&tree_of);
        assert!(found == old || found == new, "after {pause} ms");
    }
    assert!(killed > 0, "nothing was ever killed");
    report(&mut fleet.deploy(&["w1"]), 0);
    assert_same(&fleet, "w1");
}

#[test]
fn two_at_once_are_one_and_a_signal_ends_it_between_hosts() {
    let Some(fleet) = fleet() else { return };
    // A way that takes long, and says when it begins.
    let slow = fleet.operator.folder().join("slow");
    let begun = fleet.operator.folder().join("begun");
    let text = format!(
        "#!/bin/sh\ntouch {}\nsleep 3\nexec ssh -F {} \"$@\"\n",
        begun.display(),
        fleet.config().display()
    );
    support::write_script(&slow, &text);
    let mut first =
        fleet.certkit(&["deploy", "-o", "json", "--ssh", slow.to_str().expect("UTF-8")]);
    first.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let first = first.process_group(0).spawn().expect("certkit starts");
    while !begun.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let second = run_to_exit(&mut fleet.deploy(&[]), 3);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another certkit is deploying from"), "{said}");
    let pid = rustix::process::Pid::from_raw(first.id().try_into().expect("an id")).expect("one");
    // As a terminal does: to all that were started from it.
    rustix::process::kill_process_group(pid, rustix::process::Signal::INT).expect("running");
    let output = first.wait_with_output().expect("waited");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let told = document(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(state(&told, "etcd1"), "deployed");
    assert_eq!(state(&told, "cp1"), "not-tried");
    assert_same(&fleet, "etcd1");
    assert!(tree(&fleet.host("cp1").kubernetes()).is_empty());
    report(&mut fleet.deploy(&[]), 0);
    assert_same(&fleet, "cp1");
}

#[test]
fn what_is_renewed_while_it_is_carried_arrives_in_pairs() {
    let Some(fleet) = fleet() else { return };
    report(&mut fleet.deploy(&[]), 0);
    let mut carried = 0;
    std::thread::scope(|scope| {
        let renewing = scope.spawn(|| {
            for _ in 0..8 {
                run(&mut fleet.certkit(&["rotate", "--all", "--new-key", "--lock-timeout", "1m"]));
            }
        });
        while !renewing.is_finished() {
            let deployed = report(&mut fleet.deploy(&["--all"]), 0);
            carried += usize::from(states(&deployed).iter().any(|(_, state)| state == "deployed"));
            for (host, _) in HOSTS {
                assert_pairs(&fleet.host(host).kubernetes());
            }
        }
    });
    assert!(carried > 0, "nothing was carried meanwhile");
    report(&mut fleet.deploy(&[]), 0);
    for (host, _) in HOSTS {
        assert_same(&fleet, host);
    }
}

/// Every certificate of a host has its own key beside it, or with it; says openssl.
#[track_caller]
fn assert_pairs(tree: &Path) {
    let mut pairs = 0;
    for (name, _) in self::tree(tree) {
        let path = tree.join(&name);
        let cert = path.with_extension("crt");
        let (cert, key) = match name.rsplit_once('.') {
            Some((_, "key")) if cert.exists() => (cert, path),
            Some((_, "pem")) => (path.clone(), path),
            _ => continue,
        };
        let [cert, key] = [&cert, &key].map(|path| path.to_str().expect("UTF-8"));
        let of_cert = openssl(&["x509", "-in", cert, "-noout", "-pubkey"]);
        let of_key = openssl(&["pkey", "-in", key, "-pubout"]);
        assert_eq!(of_cert, of_key, "{cert}");
        pairs += 1;
    }
    assert!(pairs > 0, "{}", tree.display());
}

#[test]
fn certkit_comes_along_where_there_is_none() {
    let Some(fleet) = fleet() else { return };
    fleet.forget_certkit("w1");
    let none = report(&mut fleet.deploy(&["w1"]), 4);
    let error = &none["hosts"][0]["error"];
    assert!(
        error["message"].as_str().is_some_and(|m| m.contains("no certkit in its PATH")),
        "{error}"
    );
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("--carry")), "{error}");
    report(&mut fleet.deploy(&["w1", "--carry"]), 0);
    assert_same(&fleet, "w1");
    let left = fleet.ssh("w1", "ls -d /tmp/tmp.*/certkit");
    assert!(!left.status.success(), "{left:?}");
}

#[test]
fn no_ca_is_dropped_that_a_hosts_own_certificate_hangs_on() {
    let Some(fleet) = fleet() else { return };
    // As the kubelet keeps what it got through the certificates API.
    let folder = fleet.host("w1").lib().join("kubelet/pki");
    fs::create_dir_all(&folder).expect("a folder");
    let own = folder.join("kubelet-client-current.pem");
    fs::copy(fleet.workspace().join("hosts/w1/pki/kubelet-client.pem"), &own).expect("copied");
    for _ in ["introduced", "switched"] {
        report(&mut fleet.deploy(&[]), 0);
        run(&mut fleet.certkit(&["rotate-ca", "ca", "--next"]));
    }
    report(&mut fleet.deploy(&[]), 0);
    let listed = stdout_to(&mut fleet.deploy(&["--from-hosts"]), 0);
    assert!(listed.contains("w1") && listed.contains("kubelet-client-current.pem"), "{listed}");
    let said = |code: i32| {
        let output = run_to_exit(&mut fleet.certkit(&["rotate-ca", "ca", "--next"]), code);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let refused = said(3);
    let file = "w1:/var/lib/kubelet/pki/kubelet-client-current.pem was signed by CN=kubernetes";
    assert!(refused.contains(file) && refused.contains("deploy --check"), "{refused}");
    // It got another one since, and somebody looked.
    fs::copy(fleet.workspace().join("hosts/w1/pki/kubelet-client.pem"), &own).expect("copied");
    report(&mut fleet.deploy(&["--check"]), 0);
    said(0);
}

#[test]
fn many_nodes_get_their_files_side_by_side() {
    // Two hundred where somebody has three minutes.
    let count = if std::env::var_os("CERTKIT_TEST_ALL").is_some() { 200 } else { 40 };
    let nodes: Vec<(String, String)> = (0..count)
        .map(|n| (format!("n{n}"), format!("10.90.{}.{}", 2 + n / 100, 1 + n % 100)))
        .collect();
    let hosts: Vec<(&str, &str)> =
        nodes.iter().map(|(name, ip)| (name.as_str(), ip.as_str())).collect();
    let Some(fleet) = Fleet::boot(&hosts) else { return };
    run(&mut fleet.certkit(&["init", "-q", "--workspace", "--host", "cp1=10.90.0.11"]));
    let added: Vec<String> = nodes.iter().map(|(name, ip)| format!("{name}={ip}")).collect();
    let mut add = vec!["nodes", "add", "-q"];
    add.extend(added.iter().map(String::as_str));
    run(&mut fleet.certkit(&add));
    let names: Vec<&str> = hosts.iter().map(|(name, _)| *name).collect();
    let begin = Instant::now();
    let deployed = report(&mut fleet.deploy(&[&names[..], &["--parallel", "50"]].concat()), 0);
    println!("{count} nodes from nothing: {:?}", begin.elapsed());
    assert_eq!(states(&deployed).iter().filter(|(_, state)| state == "deployed").count(), count);
    for name in [names[0], names[count / 2], names[count - 1]] {
        assert_same(&fleet, name);
    }
    let begin = Instant::now();
    let again = report(&mut fleet.deploy(&[&names[..], &["--parallel", "50"]].concat()), 0);
    println!("again: {:?}", begin.elapsed());
    assert!(states(&again).iter().all(|(_, state)| state == "unchanged"));
}

/// The hosts, all in this state, in the order in which they are gone to.
fn all(state: &str) -> Vec<(String, String)> {
    ["etcd1", "cp1", "w1", "w2"].map(|host| (host.into(), state.into())).to_vec()
}
