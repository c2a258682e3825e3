//! Private keys that hosts make themselves (`keys: host`): they are on no other machine at any time, and all else is as it
//! is with keys that are carried.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use support::{
    fleet::{Fleet, report, state, states, stdout_to, tree},
    run, run_to_exit, stdout,
};

const HOSTS: &[(&str, &str)] =
    &[("cp1", "10.90.0.11"), ("etcd1", "10.90.0.21"), ("w1", "10.90.1.1")];

const DECLARED: &str = "\
apiVersion: certkit/v1
kind: Cluster
name: prod
layout: workspace
endpoint: 10.90.0.11:6443
controlPlane: [{name: cp1, addresses: [10.90.0.11]}]
etcd: [{name: etcd1, addresses: [10.90.0.21]}]
nodes: [{name: w1, addresses: [10.90.1.1]}]
";

/// Makes a certificate for w1 that nobody else has signed.
fn signed_by_itself(subject: &str, key: &Path, cert: &Path) {
    let new = ["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let names = ["-days", "9", "-subj", subject, "-addext", "subjectAltName=DNS:w1"];
    run(openssl(&new).args(names).arg("-keyout").arg(key).arg("-out").arg(cert));
}

/// A fleet with a workspace made for it, and nothing on its hosts.
fn fleet(keys: &str) -> Option<Fleet> {
    let fleet = Fleet::boot(HOSTS)?;
    fs::create_dir_all(fleet.workspace()).expect("a folder");
    declare(&fleet, keys);
    run(&mut fleet.certkit(&["init"]));
    Some(fleet)
}

fn declare(fleet: &Fleet, keys: &str) {
    fs::write(fleet.workspace().join("certkit.yaml"), format!("{DECLARED}{keys}"))
        .expect("written");
}

const ALL: &str = "keys: host\n";
const NODES: &str = "keys: {nodes: host}\n";

/// The files of a host's tree that hold a certificate whose key its host makes, each with the key's.
fn pairs(host: &str) -> Vec<(&'static str, &'static str)> {
    let kubelet = [
        ("pki/kubelet.crt", "pki/kubelet.key"),
        ("pki/kubelet-client.pem", "pki/kubelet-client.pem"),
    ];
    let etcd = [
        ("pki/etcd/server.crt", "pki/etcd/server.key"),
        ("pki/etcd/peer.crt", "pki/etcd/peer.key"),
    ];
    let plane = [
        ("pki/apiserver.crt", "pki/apiserver.key"),
        ("pki/apiserver-kubelet-client.crt", "pki/apiserver-kubelet-client.key"),
        ("pki/apiserver-etcd-client.crt", "pki/apiserver-etcd-client.key"),
        ("pki/front-proxy-client.crt", "pki/front-proxy-client.key"),
        ("pki/scheduler-client.pem", "pki/scheduler-client.pem"),
    ];
    match host {
        "cp1" => [kubelet.as_slice(), plane.as_slice()].concat(),
        "etcd1" => etcd.to_vec(),
        _ => kubelet.to_vec(),
    }
}

/// openssl, with these words.
fn openssl(words: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(words);
    command
}

/// The public key of a host's certificate, by openssl, which finds its key in the file beside it, too.
#[track_caller]
fn public_key(tree: &Path, (cert, key): (&str, &str)) -> String {
    let of = |words: &[&str], file: &str| {
        let file = tree.join(file);
        stdout(openssl(words).arg("-in").arg(file))
    };
    let certified = of(&["x509", "-noout", "-pubkey"], cert);
    assert_eq!(of(&["pkey", "-pubout"], key), certified, "{cert}");
    certified
}

/// The public keys of all that a host has a key of its own for.
#[track_caller]
fn public_keys(fleet: &Fleet, host: &str) -> Vec<String> {
    let tree = fleet.host(host).kubernetes();
    pairs(host).into_iter().map(|pair| public_key(&tree, pair)).collect()
}

/// The lines of the private keys that a host made.
fn secrets(fleet: &Fleet, host: &str) -> BTreeSet<String> {
    let mut secrets = BTreeSet::new();
    for (_, key) in pairs(host) {
        let text = fs::read_to_string(fleet.host(host).kubernetes().join(key)).expect("a key");
        let start = text.find("PRIVATE KEY-----").expect("a private key");
        let lines = text[start..].lines().skip(1).take_while(|line| !line.starts_with("-----"));
        secrets.extend(lines.filter(|line| line.len() > 20).map(str::to_owned));
    }
    assert!(!secrets.is_empty());
    secrets
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { all.push(path) }
        }
    }
    all
}

/// That none of these lines is in a file of the operator's, whichever.
#[track_caller]
fn assert_nowhere(fleet: &Fleet, secrets: &BTreeSet<String>) {
    let mut looked = 0;
    for file in files(fleet.operator.folder()) {
        let Ok(content) = fs::read(&file) else { continue };
        let text = String::from_utf8_lossy(&content);
        let found = text.lines().any(|line| secrets.contains(line));
        assert!(!found, "{} holds a key of a host's", file.display());
        looked += 1;
    }
    assert!(looked > 50, "{looked}");
}

/// `certkit deploy` through an ssh that keeps what it carries, there and back.
fn recorded(fleet: &Fleet, arguments: &[&str]) -> Command {
    let folder = fleet.operator.folder().join("recorded");
    fs::create_dir_all(&folder).expect("a folder");
    let text = format!(
        "n=$(mktemp {0}/there.XXXXXX)\ntee \"$n\" | ssh -F {1} \"$@\" | tee \"$n.back\"\nexit \"${{PIPESTATUS[1]}}\"\n",
        folder.display(),
        fleet.config().display()
    );
    let script = folder.join("ssh.bash");
    fs::write(&script, text).expect("written");
    fleet
        .certkit(&[&["deploy", "--ssh", &format!("bash {}", script.display())], arguments].concat())
}

#[test]
fn keys_that_hosts_make_are_on_no_other_machine() {
    let Some(fleet) = fleet(ALL) else { return };
    let hosts = fleet.workspace().join("hosts");
    // Nothing but what everybody has, and what administrators carry.
    for file in files(&hosts) {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let has_key =
            String::from_utf8_lossy(&fs::read(&file).expect("readable")).contains("PRIVATE KEY");
        let is_shared = ["ca.key", "sa.key"].contains(&name.as_str());
        assert_eq!(has_key, is_shared, "{}", file.display());
    }
    let deployed = report(&mut recorded(&fleet, &[]), 0);
    assert!(states(&deployed).iter().all(|(_, state)| state == "deployed"), "{deployed}");
    assert_eq!(deployed["issued"].as_array().expect("a list").len(), 10 + 3 + 2, "{deployed}");
    for (host, _) in HOSTS {
        public_keys(&fleet, host);
        assert_nowhere(&fleet, &secrets(&fleet, host));
        let waiting = fleet.host(host).kubernetes().join("csr");
        assert!(!waiting.exists() || files(&waiting).is_empty(), "{host}");
    }
    assert!(files(&fleet.workspace().join("csr")).is_empty());
    let again = report(&mut recorded(&fleet, &[]), 0);
    assert!(states(&again).iter().all(|(_, state)| state == "unchanged"), "{again}");

    // What is judged without keys is judged all the same.
    let verified = report(&mut fleet.certkit(&["verify"]), 0);
    assert_eq!(verified["handshakes"]["untried"], 0, "{}", verified["handshakes"]);
    let kubelet = fleet.workspace().join("hosts/w1/pki/kubelet.crt");
    let right = fs::read(&kubelet).expect("there");
    signed_by_itself("/O=system:nodes/CN=system:node:w1", Path::new("/dev/null"), &kubelet);
    run_to_exit(&mut fleet.certkit(&["verify"]), 2);
    fs::write(&kubelet, right).expect("written");
    run(&mut fleet.certkit(&["check-expiration", "--warn", "1d", "--critical", "1h"]));

    // Renewed by a new CA, stage after stage, with the keys that are there.
    let keys = |host: &str| public_keys(&fleet, host);
    let before: Vec<Vec<String>> = HOSTS.iter().map(|(host, _)| keys(host)).collect();
    for _ in 0..3 {
        run(&mut fleet.certkit(&["rotate-ca", "ca", "--next"]));
        let deployed = report(&mut recorded(&fleet, &[]), 0);
        assert!(states(&deployed).iter().all(|(_, state)| state != "failed"), "{deployed}");
        run(&mut fleet.certkit(&["verify"]));
    }
    run(&mut fleet.certkit(&["rotate", "--all"]));
    report(&mut recorded(&fleet, &[]), 0);
    let after: Vec<Vec<String>> = HOSTS.iter().map(|(host, _)| keys(host)).collect();
    assert_eq!(after, before);
    for (host, _) in HOSTS {
        let tree = fleet.host(host).kubernetes();
        for (cert, _) in pairs(host) {
            let ca = if cert.contains("etcd") {
                "pki/etcd/ca-bundle.crt"
            } else if cert.contains("front-proxy") {
                "pki/front-proxy-ca-bundle.crt"
            } else {
                "pki/ca-bundle.crt"
            };
            if tree.join(ca).exists() {
                run(openssl(&["verify", "-CAfile"]).arg(tree.join(ca)).arg(tree.join(cert)));
            }
        }
        assert_nowhere(&fleet, &secrets(&fleet, host));
    }
}

#[test]
fn a_host_makes_new_keys_when_asked_and_when_it_has_lost_them() {
    let Some(fleet) = fleet(NODES) else { return };
    report(&mut fleet.deploy(&[]), 0);
    let first = public_keys(&fleet, "w1");

    // Nobody else can make them.
    let blocked = run_to_exit(&mut fleet.certkit(&["rotate", "--new-key", "kubelet (w1)"]), 3);
    let said = String::from_utf8_lossy(&blocked.stderr).into_owned()
        + &String::from_utf8_lossy(&blocked.stdout);
    assert!(said.contains("deploy --new-keys"), "{said}");

    let renewed = report(&mut fleet.deploy(&["--new-keys", "w1"]), 0);
    assert_eq!(renewed["issued"].as_array().expect("a list").len(), 2);
    let second = public_keys(&fleet, "w1");
    assert!(first.iter().all(|key| !second.contains(key)));
    let wrong = run_to_exit(&mut fleet.deploy(&["--new-keys", "etcd1"]), 64);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("keys: host"));

    // One key is gone.
    let tree_of = fleet.host("w1").kubernetes();
    fs::remove_file(tree_of.join("pki/kubelet.key")).expect("there");
    let without = report(&mut fleet.deploy(&[]), 4);
    assert_eq!(state(&without, "w1"), "failed");
    let hint = without["hosts"][2]["error"]["hint"].as_str().unwrap_or_default().to_owned();
    assert_eq!(hint, "certkit deploy --new-keys w1");
    report(&mut fleet.deploy(&["--new-keys", "w1"]), 0);
    let third = public_keys(&fleet, "w1");
    assert!(second.iter().all(|key| !third.contains(key)));

    // All of the machine is.
    fs::remove_dir_all(&tree_of).expect("there");
    let bare = report(&mut fleet.deploy(&[]), 4);
    assert_eq!(state(&bare, "w1"), "failed");
    assert!(!tree_of.exists() || tree(&tree_of).is_empty(), "half a tree");
    report(&mut fleet.deploy(&["--new-keys", "w1"]), 0);
    public_keys(&fleet, "w1");
    // What would take a host's keys away is not made.
    let refused = run_to_exit(&mut fleet.certkit(&["export", "w1"]), 3);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("makes its private keys itself"));
}

#[test]
fn a_fleet_whose_keys_were_carried_keeps_them_on_its_hosts_alone() {
    let Some(fleet) = fleet("") else { return };
    report(&mut fleet.deploy(&[]), 0);
    let before: Vec<_> = HOSTS.iter().map(|(host, _)| public_keys(&fleet, host)).collect();
    declare(&fleet, ALL);
    let refused = report(&mut fleet.deploy(&["w1"]), 4);
    assert_eq!(state(&refused, "w1"), "failed");
    run(&mut fleet.certkit(&["init"]));
    let hosts = fleet.workspace().join("hosts");
    assert!(!hosts.join("w1/pki/kubelet.key").exists());
    let combined = fs::read_to_string(hosts.join("w1/pki/kubelet-client.pem")).expect("there");
    assert!(combined.starts_with("-----BEGIN CERTIFICATE-----") && !combined.contains("PRIVATE"));
    let deployed = report(&mut fleet.deploy(&[]), 0);
    assert!(states(&deployed).iter().all(|(_, state)| state == "unchanged"), "{deployed}");
    let after: Vec<_> = HOSTS.iter().map(|(host, _)| public_keys(&fleet, host)).collect();
    assert_eq!(after, before);
    run(&mut fleet.certkit(&["verify"]));
    // And back: the workspace makes new ones, and carries them.
    declare(&fleet, "");
    run(&mut fleet.certkit(&["init"]));
    report(&mut fleet.deploy(&[]), 0);
    assert!(hosts.join("w1/pki/kubelet.key").exists());
    public_keys(&fleet, "w1");
}

#[test]
fn an_answer_that_proves_nothing_gets_no_certificate() {
    let Some(fleet) = fleet(NODES) else { return };
    let answer = |requests: &str| {
        let receipt = format!("{{\"protocol\":1,\"host\":\"w1\",\"requests\":[{requests}]}}");
        let text = format!("cat >/dev/null\ncat <<'END'\n{receipt}\nEND\n");
        fleet.install("w1", "certkit", &text);
        let out = report(&mut fleet.deploy(&["w1"]), 4);
        assert_eq!(state(&out, "w1"), "failed", "{out}");
        assert!(!fleet.workspace().join("hosts/w1/pki/kubelet.crt").exists());
        assert!(!fleet.workspace().join("csr/hosts/w1").exists(), "{out}");
        out["hosts"][0]["error"]["message"].as_str().expect("text").to_owned()
    };
    let folder = fleet.operator.folder().to_path_buf();
    let request = |kind: &[&str]| {
        let words = [
            &[
                "req",
                "-new",
                "-nodes",
                "-subj",
                "/CN=system:node:w1",
                "-keyout",
                "/dev/null",
                "-newkey",
            ],
            kind,
        ]
        .concat();
        stdout(&mut openssl(&words))
    };
    let good = request(&["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let one = |id: &str, csr: &str| serde_json::json!({"certificate": id, "csr": csr}).to_string();
    assert!(answer("").contains("no request came"));
    assert!(answer(&one("kubelet-client", &good)).contains("no request came"));
    let both = |csr: &str| format!("{},{}", one("kubelet.conf", csr), one("kubelet", csr));
    // One octet of what is signed is another.
    let der = folder.join("csr.der");
    fs::write(folder.join("csr.pem"), &good).expect("written");
    run(openssl(&["req", "-outform", "DER", "-in"])
        .arg(folder.join("csr.pem"))
        .arg("-out")
        .arg(&der));
    let mut bytes = fs::read(&der).expect("written");
    let at = bytes.windows(2).position(|two| two == b"w1").expect("its name");
    bytes[at] = b'v';
    fs::write(&der, bytes).expect("written");
    let forged = stdout(Command::new("sh").arg("-c").arg(format!(
        "echo '-----BEGIN CERTIFICATE REQUEST-----'; base64 -w64 {}; echo '-----END CERTIFICATE REQUEST-----'",
        der.display()
    )));
    assert!(answer(&both(&forged)).contains("not signed with its own key"), "a forged one");
    // ring verifies nothing of so short a key.
    let weak = answer(&both(&request(&["rsa:1024"])));
    assert!(weak.contains("not signed with its own key"), "{weak}");
    assert!(answer(&both("garbage")).contains("what it asks for"));
}

#[test]
fn a_host_takes_no_key_and_no_certificate_for_a_key_that_it_has_not() {
    let Some(fleet) = fleet(NODES) else { return };
    let cluster = format!("{DECLARED}{NODES}");
    let description = serde_json::json!({"protocol": 1, "host": "w1", "cluster": cluster});
    let folder = fleet.operator.folder();
    let (key, cert) = (folder.join("some.key"), folder.join("some.crt"));
    signed_by_itself("/CN=system:node:w1", &key, &cert);
    let [key, cert] = [key, cert].map(|file| fs::read(file).expect("made"));
    let both = [cert.as_slice(), &key].concat();
    for (file, content, why) in [
        ("pki/kubelet.key", key.as_slice(), "belongs on w1"),
        ("pki/kubelet.crt", &both, "a private key comes with it"),
        ("pki/kubelet-client.pem", &both, "a private key comes with it"),
        ("pki/kubelet.crt", &cert, "its key is neither in place"),
        ("pki/kubelet-client.pem", &cert, "its key is neither in place"),
        ("pki/kubelet.crt", b"garbage", "its key is neither in place"),
    ] {
        let files = [("pki/ca.crt", b"x".as_slice()), (file, content)];
        let said = fleet.send("w1", &["receive"], description.clone(), &files, 3);
        assert!(said.contains(why), "{file}: {said}");
        assert!(tree(&fleet.host("w1").kubernetes()).is_empty(), "{file}");
    }
    // Asked for what is not its own, or in another's name, it makes nothing.
    for (id, host, why) in [
        ("apiserver", "w1", "for which w1 makes the key"),
        ("\u{1b}[31m", "w1", "for which w1 makes the key"),
        ("kubelet", "cp1", "is for cp1"),
    ] {
        let mut description = description.clone();
        description["host"] = host.into();
        description["keys"] = serde_json::json!({"certificates": [id], "fresh": true});
        let said = fleet.send("w1", &["receive", "--csr"], description, &[], 3);
        assert!(said.contains(why) && !said.contains('\u{1b}'), "{id}: {said}");
        assert!(tree(&fleet.host("w1").kubernetes()).is_empty(), "{id}");
    }
}

#[test]
fn what_is_signed_elsewhere_needs_no_key_here() {
    let Some(fleet) = fleet(NODES) else { return };
    // Of before, when keys were made here: it asks for nothing.
    let own = fleet.workspace().join("csr/hosts/w1");
    fs::create_dir_all(&own).expect("a folder");
    fs::write(own.join("kubelet.csr"), "garbage").expect("written");
    fs::write(own.join("kubelet.key"), "garbage").expect("written");
    report(&mut fleet.deploy(&["cp1", "etcd1"]), 0);
    let workspace = fleet.workspace();
    let away = fleet.operator.folder().join("ca.key");
    fs::rename(workspace.join("pki/ca.key"), &away).expect("moved");
    let waiting = report(&mut fleet.deploy(&["w1"]), 4);
    assert_eq!(state(&waiting, "w1"), "failed");
    let requests = workspace.join("csr/hosts/w1");
    let mut signed = Vec::new();
    for request in files(&requests) {
        assert_eq!(request.extension().and_then(|e| e.to_str()), Some("csr"), "no key is there");
        let out = request.with_extension("crt.signed");
        let out = fleet.operator.folder().join(out.file_name().expect("a name"));
        run(openssl(&["x509", "-req", "-days", "30", "-copy_extensions", "copyall", "-in"])
            .arg(&request)
            .arg("-CA")
            .arg(workspace.join("pki/ca.crt"))
            .arg("-CAkey")
            .arg(&away)
            .arg("-out")
            .arg(&out));
        signed.push(out.display().to_string());
    }
    assert_eq!(signed.len(), 2);
    let words: Vec<&str> =
        ["import"].into_iter().chain(signed.iter().map(String::as_str)).collect();
    run(&mut fleet.certkit(&words));
    assert!(files(&requests).is_empty() || !requests.exists());
    report(&mut fleet.deploy(&["w1"]), 0);
    public_keys(&fleet, "w1");
}

#[test]
fn killed_at_any_moment_it_goes_on_with_the_keys_that_were_made() {
    let Some(fleet) = fleet(NODES) else { return };
    for wait in [0, 60, 120, 200, 300, 450, 600] {
        let mut deploy = fleet.deploy(&[]);
        let mut child = deploy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(wait));
        run(Command::new("sh")
            .arg("-c")
            .arg(format!("pkill -KILL -P {0} || true; kill -KILL {0} || true", child.id())));
        let _ = child.wait();
        for (cert, key) in pairs("w1") {
            let tree = fleet.host("w1").kubernetes();
            if tree.join(cert).exists() {
                public_key(&tree, (cert, key));
            }
        }
    }
    // A host that still is at it when its visitor is gone has its lock for a moment.
    std::thread::sleep(Duration::from_secs(2));
    report(&mut fleet.deploy(&[]), 0);
    public_keys(&fleet, "w1");
    assert!(stdout_to(&mut fleet.certkit(&["verify"]), 0).contains("work"));
}
