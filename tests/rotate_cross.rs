//! `rotate-ca --cross-sign`: verifiers that know nothing but the old CA take what the new one signs, as long as both are
//! trusted. openssl judges the files; etcd and kube-apiserver, told to trust the old CA alone, judge them at work.

mod support;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use support::{
    certkit,
    generations::{refused, rotate_ca},
    kubernetes, need,
    process::Process,
    run, stdout, temp_dir,
    tree::{Entry, snapshot},
};

fn init(dir: &Path, more: &[&str]) {
    run(certkit().arg("init").arg("--dir").arg(dir).args(more));
}

fn verify(dir: &Path) {
    run(certkit().arg("verify").arg("--dir").arg(dir));
    let again = stdout(certkit().arg("init").arg("--dir").arg(dir));
    assert!(again.contains("nothing to do"), "{again}");
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap()
}

/// What openssl reads off the first certificate of a file.
fn text(file: &Path, fields: &[&str]) -> String {
    stdout(Command::new("openssl").args(["x509", "-noout", "-in"]).arg(file).args(fields))
}

/// Whether openssl, trusting this CA alone, takes what is in the file for this purpose.
fn accepts(ca: &Path, file: &Path, purpose: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(["verify", "-no-CApath", "-no-CAstore", "-purpose", purpose, "-CAfile"]).arg(ca);
    command.arg("-untrusted").arg(file).arg(file).output().unwrap().status.success()
}

/// What a kubeconfig embeds, as a file beside it.
fn embedded(dir: &Path, kubeconfig: &str) -> std::path::PathBuf {
    let text = read(dir, kubeconfig);
    let data = text.lines().find_map(|l| l.trim().strip_prefix("client-certificate-data: "));
    let path = dir.with_extension("embedded.pem");
    let encoded = dir.with_extension("embedded.b64");
    fs::write(&encoded, data.unwrap().trim_matches('"')).unwrap();
    let pem = stdout(Command::new("base64").arg("-d").arg(&encoded));
    fs::remove_file(encoded).unwrap();
    fs::write(&path, pem).unwrap();
    path
}

/// Everything of the cluster's CA and of etcd's that anybody verifies, with the purpose.
const SHOWN: [(&str, &str, &str); 7] = [
    ("pki/ca.crt", "pki/apiserver.crt", "sslserver"),
    ("pki/ca.crt", "pki/apiserver-kubelet-client.crt", "sslclient"),
    ("pki/ca.crt", "pki/scheduler-client.pem", "sslclient"),
    ("pki/etcd/ca.crt", "pki/etcd/server.crt", "sslserver"),
    ("pki/etcd/ca.crt", "pki/etcd/peer.crt", "sslclient"),
    ("pki/etcd/ca.crt", "pki/apiserver-etcd-client.crt", "sslclient"),
    ("pki/front-proxy-ca.crt", "pki/front-proxy-client.crt", "sslclient"),
];
const ALL: [&str; 3] = ["ca", "etcd-ca", "front-proxy-ca"];

/// Old CAs, kept by the name of their files.
fn keep(dir: &Path) -> tempfile::TempDir {
    let old = temp_dir();
    for file in ["pki/ca.crt", "pki/etcd/ca.crt", "pki/front-proxy-ca.crt"] {
        fs::create_dir_all(old.path().join(file).parent().unwrap()).unwrap();
        fs::copy(dir.join(file), old.path().join(file)).unwrap();
    }
    old
}

fn judge(dir: &Path, old: &Path, by_old: bool) {
    for (ca, shown, purpose) in SHOWN {
        let shown_at = dir.join(shown);
        assert_eq!(accepts(&old.join(ca), &shown_at, purpose), by_old, "{shown} by the old CA");
        assert!(accepts(&dir.join(ca), &shown_at, purpose), "{shown} by the CA that issues");
    }
    let admin = embedded(dir, "super-admin.conf");
    assert_eq!(accepts(&old.join("pki/ca.crt"), &admin, "sslclient"), by_old);
    fs::remove_file(admin).unwrap();
}

#[test]
fn who_knows_the_old_ca_alone_accepts_the_new_one_as_long_as_both_are_trusted() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11"]);
    let old = keep(dir);
    let old = old.path();
    run(&mut rotate_ca(dir, &[&ALL[..], &["--next", "--cross-sign"]].concat()));
    verify(dir);
    // Who asks how far it has come is told of it.
    let told = |more: &[&str]| stdout(&mut rotate_ca(dir, &[&["--status"], more].concat()));
    assert_eq!(told(&[]).matches(" cross ").count(), ALL.len(), "{}", told(&[]));
    assert!(!told(&["sa"]).contains(" cross "));
    let document: serde_json::Value = serde_json::from_str(&told(&["ca", "-o", "json"])).unwrap();
    let generations = document["authorities"][0]["generations"].as_array().unwrap();
    let words: Vec<&str> =
        generations.iter().map(|one| one["generation"].as_str().unwrap()).collect();
    assert_eq!(words, ["active", "next", "cross"]);
    assert_eq!(generations[2]["name"], generations[1]["name"]);
    let print = text(&dir.join("pki/ca-cross.crt"), &["-fingerprint", "-sha256"]);
    let print = print.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(generations[2]["fingerprint"], print.as_str());
    for (cross, next, before) in [
        ("pki/ca-cross.crt", "pki/ca-next.crt", "pki/ca.crt"),
        ("pki/etcd/ca-cross.crt", "pki/etcd/ca-next.crt", "pki/etcd/ca.crt"),
    ] {
        let (cross, next, before) = (dir.join(cross), dir.join(next), dir.join(before));
        let same =
            ["-subject", "-pubkey", "-ext", "basicConstraints,keyUsage,subjectKeyIdentifier"];
        assert_eq!(text(&cross, &same), text(&next, &same));
        let names = text(&cross, &["-issuer"]).replace("issuer", "subject");
        assert_eq!(names, text(&before, &["-subject"]));
        assert!(accepts(&before, &cross, "any"));
        // It ends no later than the one that vouches, which ends before its successor.
        let seconds = |file: &Path| -> i64 {
            let end = text(file, &["-enddate"]);
            let end = end.trim().trim_start_matches("notAfter=").to_owned();
            stdout(Command::new("date").args(["-u", "+%s", "-d", &end])).trim().parse().unwrap()
        };
        assert!(seconds(&cross) <= seconds(&before), "{}", cross.display());
    }
    // Each certificate that is issued from now on is sent with it, whoever asks for the step.
    run(&mut rotate_ca(dir, &[&ALL[..], &["--next"]].concat()));
    verify(dir);
    judge(dir, old, true);
    assert_eq!(read(dir, "pki/ca.crt").matches("BEGIN CERTIFICATE").count(), 1);
    run(certkit()
        .args(["rotate", "apiserver", "scheduler.conf", "super-admin.conf", "--dir"])
        .arg(dir));
    verify(dir);
    judge(dir, old, true);
    let cross = read(dir, "pki/ca-cross.crt");

    // Back, and on again.
    run(&mut rotate_ca(dir, &["ca", "--undo"]));
    verify(dir);
    assert!(!read(dir, "pki/apiserver.crt").contains(&cross));
    assert!(accepts(&old.join("pki/ca.crt"), &dir.join("pki/apiserver.crt"), "sslserver"));
    run(&mut rotate_ca(dir, &["ca", "--next"]));
    verify(dir);
    judge(dir, old, true);

    run(&mut rotate_ca(dir, &[&ALL[..], &["--next"]].concat()));
    verify(dir);
    judge(dir, old, false);
    let line = cross.lines().nth(3).unwrap();
    for (path, entry) in snapshot(dir) {
        let Entry::File { content, .. } = entry else { continue };
        let mentions = String::from_utf8_lossy(&content).contains(line);
        assert!(path.starts_with(".certkit") || !mentions, "{}", path.display());
    }
    let left = embedded(dir, "super-admin.conf");
    assert_eq!(fs::read_to_string(&left).unwrap().matches("BEGIN CERTIFICATE").count(), 1);
    fs::remove_file(left).unwrap();
}

#[test]
fn it_may_be_asked_for_when_the_new_one_begins_to_issue_and_goes_when_that_is_taken_back() {
    let dir = temp_dir();
    let dir = dir.path();
    init(
        dir,
        &["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12", "--kubeconfig-style=embedded"],
    );
    let old = keep(dir);
    run(&mut rotate_ca(dir, &["ca", "--next"]));
    run(&mut rotate_ca(dir, &["ca", "--next", "--cross-sign"]));
    verify(dir);
    for host in ["cp1", "cp2"] {
        let served = dir.join(format!("hosts/{host}/pki/apiserver.crt"));
        assert!(accepts(&old.path().join("pki/ca.crt"), &served, "sslserver"), "{host}");
        let client = embedded(dir, &format!("hosts/{host}/scheduler.conf"));
        assert!(accepts(&old.path().join("pki/ca.crt"), &client, "sslclient"), "{host}");
        fs::remove_file(client).unwrap();
    }
    // A host that comes meanwhile.
    let file = dir.join("certkit.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "addresses: [10.0.0.12]}",
        "addresses: [10.0.0.12]}\n  - {name: cp3, addresses: [10.0.0.13]}",
    );
    fs::write(&file, text).unwrap();
    run(certkit().arg("init").arg("--dir").arg(dir));
    let served = dir.join("hosts/cp3/pki/apiserver.crt");
    assert!(accepts(&old.path().join("pki/ca.crt"), &served, "sslserver"), "cp3");
    run(&mut rotate_ca(dir, &["ca", "--undo"]));
    run(&mut rotate_ca(dir, &["ca", "--undo"]));
    verify(dir);
    assert!(!dir.join("pki/ca-cross.crt").exists());
}

#[test]
fn what_cannot_be_vouched_for_is_refused() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11"]);
    for more in [
        &["ca", "--next", "--cross-sign", "--compromised"][..],
        &["ca", "--cross-sign", "--undo"],
        &["ca", "--cross-sign", "--renew-same-key"],
    ] {
        refused(dir, more, 64);
    }
    assert!(refused(dir, &["sa", "--next", "--cross-sign"], 3).contains("sa: "));
    run(&mut rotate_ca(dir, &["ca", "--next"]));
    run(&mut rotate_ca(dir, &["ca", "--next"]));
    let said = refused(dir, &["ca", "--next", "--cross-sign"], 3);
    assert!(said.contains("leave out --cross-sign"), "{said}");
    // The old key is needed, though the next one could be made without it.
    fs::rename(dir.join("pki/etcd/ca.key"), dir.with_extension("key")).unwrap();
    let said = refused(dir, &["etcd-ca", "--next", "--cross-sign"], 3);
    assert!(said.contains("pki/etcd/ca.crt"), "{said}");
    fs::rename(dir.with_extension("key"), dir.join("pki/etcd/ca.key")).unwrap();
    run(&mut rotate_ca(dir, &["etcd-ca", "--next", "--cross-sign"]));
    // A CA that allows none below it.
    let own = temp_dir();
    let (key, cert) = (own.path().join("pki/ca.key"), own.path().join("pki/ca.crt"));
    fs::create_dir(own.path().join("pki")).unwrap();
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    command.args([
        "-subj",
        "/CN=kubernetes",
        "-days",
        "3000",
        "-addext",
        "keyUsage=critical,keyCertSign",
    ]);
    command.args(["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"]);
    run(command.arg("-keyout").arg(&key).arg("-out").arg(&cert));
    init(own.path(), &["--host", "cp1=10.0.0.11"]);
    let said = refused(own.path(), &["ca", "--next", "--cross-sign"], 3);
    assert!(said.contains("pathLenConstraint") && said.contains("pki/ca.crt"), "{said}");
}

#[test]
fn under_a_single_root_servers_go_on_sending_what_the_old_root_signed() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11", "--single-root"]);
    let (old, served) = (dir.with_extension("root"), dir.join("pki/apiserver.crt"));
    fs::copy(dir.join("pki/root-ca.crt"), &old).unwrap();
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    run(&mut rotate_ca(dir, &["root-ca", "--next", "--cross-sign"]));
    verify(dir);
    let both = dir.join("pki/root-ca-bundle.crt");
    assert!(accepts(&old, &served, "sslserver") && accepts(&both, &served, "sslserver"));
    run(certkit().args(["rotate", "apiserver", "--dir"]).arg(dir));
    assert!(accepts(&old, &served, "sslserver"));
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    verify(dir);
    assert!(!accepts(&old, &served, "sslserver") && accepts(&both, &served, "sslserver"));
    fs::remove_file(old).unwrap();
}

/// An address of the loopback network that no other test process has.
fn address() -> String {
    let [.., a, b] = std::process::id().to_be_bytes();
    format!("127.91.{a}.{}", b.clamp(1, 254))
}

/// The file with its first certificate alone, beside it.
fn alone(file: &Path) -> std::path::PathBuf {
    let end = "-----END CERTIFICATE-----\n";
    let text = fs::read_to_string(file).unwrap();
    let path = file.with_extension("alone");
    fs::write(&path, &text[..text.find(end).unwrap() + end.len()]).unwrap();
    path
}

#[test]
fn etcd_and_an_apiserver_that_trust_the_old_ca_alone_take_the_new_ones_certificates() {
    let Some(etcd) = need("etcd") else { return };
    let Some(apiserver) = kubernetes::program("kube-apiserver") else { return };
    let Some(kubectl) = kubernetes::program("kubectl") else { return };
    if need("etcdctl").is_none() {
        return;
    }
    let (dir, logs, address) = (temp_dir(), temp_dir(), address());
    let dir = dir.path();
    init(dir, &["--host", &format!("cp1={address}")]);
    let old = keep(dir);
    for more in [&["--cross-sign"][..], &[]] {
        run(&mut rotate_ca(dir, &[&["ca", "etcd-ca", "--next"], more].concat()));
    }
    // Stragglers: all that each of them trusts is the old CA.
    let flags = |component: &str| -> Vec<String> {
        let text = stdout(certkit().args(["flags", component, "--dir"]).arg(dir));
        let of = |file: &str| old.path().join(file).display().to_string();
        let (ca, etcd_ca) = (dir.join("pki/ca-bundle.crt"), dir.join("pki/etcd/ca-bundle.crt"));
        let text = text.replace(&ca.display().to_string(), &of("pki/ca.crt"));
        let text = text.replace(&etcd_ca.display().to_string(), &of("pki/etcd/ca.crt"));
        text.lines().map(str::to_owned).collect()
    };
    let until = |what: &str, process: &mut Process, is_so: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(120);
        while !is_so() {
            assert!(process.is_running(), "{what} ended:\n{}", process.log());
            assert!(Instant::now() < end, "{what} never was so:\n{}", process.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    };

    let mut command = Command::new(etcd);
    command.args(flags("etcd")).arg("--data-dir").arg(logs.path().join("data"));
    let mut etcd = Process::start(&mut command, &logs.path().join("etcd.log"));
    let etcdctl = |cert: &Path| {
        let mut command = Command::new("etcdctl");
        command.arg(format!("--endpoints=https://{address}:2379")).arg("--cacert");
        command.arg(old.path().join("pki/etcd/ca.crt")).arg("--cert").arg(cert);
        command.arg("--key").arg(dir.join("pki/etcd/healthcheck-client.key"));
        command.args(["--dial-timeout=2s", "--command-timeout=3s", "get", "none"]);
        command.output().unwrap().status.success()
    };
    let client = dir.join("pki/etcd/healthcheck-client.crt");
    until("etcd takes a client of the new CA", &mut etcd, &|| etcdctl(&client));
    assert!(!etcdctl(&alone(&client)), "etcd takes it without the cross certificate, too");

    let mut command = Command::new(apiserver);
    let port =
        std::net::TcpListener::bind((address.as_str(), 0)).unwrap().local_addr().unwrap().port();
    command.args(flags("kube-apiserver")).arg(format!("--secure-port={port}"));
    command.arg(format!("--bind-address={address}")).arg("--advertise-address=10.0.0.11");
    let mut api = Process::start(&mut command, &logs.path().join("apiserver.log"));
    let kubectl = |cert: &Path, key: &Path| {
        let mut command = Command::new(&kubectl);
        command.env("HOME", logs.path()).env_remove("KUBECONFIG");
        command.arg(format!("--server=https://{address}:{port}")).arg("--request-timeout=5s");
        command.arg("--certificate-authority").arg(old.path().join("pki/ca.crt"));
        command.arg("--client-certificate").arg(cert).arg("--client-key").arg(key);
        let output = command.args(["auth", "whoami", "-o", "yaml"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let pem = dir.join("pki/scheduler-client.pem");
    let user = "system:kube-scheduler";
    until("the apiserver takes a client of the new CA", &mut api, &|| {
        kubectl(&pem, &pem).contains(user)
    });
    assert!(!kubectl(&alone(&pem), &pem).contains(user), "it takes it without, too");

    // A client that trusts the old CA alone needs what the server sends.
    let served = dir.join("pki/apiserver.crt");
    let whole = fs::read_to_string(&served).unwrap();
    let part = fs::read_to_string(alone(&served)).unwrap();
    let replace = |text: &str| {
        fs::write(served.with_extension("new"), text).unwrap();
        fs::rename(served.with_extension("new"), &served).unwrap();
    };
    replace(&part);
    until("the apiserver is refused without the cross certificate", &mut api, &|| {
        !kubectl(&pem, &pem).contains(user)
    });
    replace(&whole);
    until("the apiserver is accepted again", &mut api, &|| kubectl(&pem, &pem).contains(user));
    api.end();
    etcd.end();
}
