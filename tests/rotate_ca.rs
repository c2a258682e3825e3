//! CAs and the key of service accounts, replaced stage by stage: on disk, where openssl and certkit's own handshakes
//! judge every stage. A live control plane is in `rotate_ca_live`.

mod support;

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use support::{
    certkit,
    generations::{refused, rotate_ca, stage},
    run, run_to_exit, stdout, temp_dir,
    tree::{difference, snapshot},
};

fn init(dir: &Path, more: &[&str]) {
    run(certkit().arg("init").arg("--dir").arg(dir).args(more));
}

fn verify(dir: &Path) {
    run(certkit().arg("verify").arg("--dir").arg(dir));
}

/// The stage of each, by id.
fn stages(dir: &Path) -> Vec<(String, String)> {
    let text = stdout(&mut rotate_ca(dir, &["--status", "-o", "json"]));
    let document: Value = serde_json::from_str(&text).unwrap();
    let all = document["authorities"].as_array().unwrap().iter();
    all.map(|one| {
        let text = |field: &str| one[field].as_str().unwrap().to_owned();
        (text("name"), text("stage"))
    })
    .collect()
}

fn all_are(dir: &Path, stage: &str) {
    for (id, found) in stages(dir) {
        assert_eq!(found, stage, "{id}");
    }
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap()
}

/// Whether openssl says that the bundle verifies the certificate.
fn verifies(dir: &Path, bundle: &str, certificate: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(["verify", "-partial_chain", "-CAfile"]).arg(dir.join(bundle));
    command.arg(dir.join(certificate)).output().unwrap().status.success()
}

const LEAVES: [(&str, &str); 4] = [
    ("pki/ca-bundle.crt", "pki/apiserver.crt"),
    ("pki/ca-bundle.crt", "pki/controller-manager-client.pem"),
    ("pki/etcd/ca-bundle.crt", "pki/etcd/peer.crt"),
    ("pki/front-proxy-ca-bundle.crt", "pki/front-proxy-client.crt"),
];

#[test]
fn every_authority_goes_through_its_stages_and_nothing_is_untrusted_on_the_way() {
    let dir = temp_dir();
    init(dir.path(), &["--host", "cp1=10.0.0.11"]);
    let old = temp_dir();
    for (bundle, leaf) in LEAVES {
        for file in [bundle, leaf] {
            fs::create_dir_all(old.path().join(file).parent().unwrap()).unwrap();
            fs::copy(dir.path().join(file), old.path().join(file)).unwrap();
        }
    }
    all_are(dir.path(), "stable");

    run(&mut rotate_ca(dir.path(), &["--next"]));
    all_are(dir.path(), "introduced");
    verify(dir.path());
    for (bundle, leaf) in LEAVES {
        let unchanged = read(dir.path(), leaf) == read(old.path(), leaf);
        assert!(unchanged && verifies(dir.path(), bundle, leaf), "{leaf}");
    }

    run(&mut rotate_ca(dir.path(), &["--next", "ca", "etcd-ca", "front-proxy-ca", "sa"]));
    all_are(dir.path(), "switched");
    verify(dir.path());
    for (bundle, leaf) in LEAVES {
        // Old and new certificates by what all trust now, and the new ones not by what was trusted at first.
        assert!(verifies(dir.path(), bundle, leaf), "{leaf}");
        let mut command = Command::new("openssl");
        command.args(["verify", "-partial_chain", "-CAfile"]).arg(dir.path().join(bundle));
        let status = command.arg(old.path().join(leaf)).output().unwrap().status;
        assert!(status.success(), "the old {leaf}");
        let mut command = Command::new("openssl");
        command.args(["verify", "-partial_chain", "-CAfile"]).arg(old.path().join(bundle));
        let status = command.arg(dir.path().join(leaf)).output().unwrap().status;
        assert!(!status.success(), "the new {leaf}");
    }
    // The controller-manager demands exactly one certificate.
    assert_eq!(read(dir.path(), "pki/ca.crt").matches("BEGIN CERTIFICATE").count(), 1);
    assert_eq!(stdout(certkit().arg("rotate").arg("--dir").arg(dir.path())), "");

    run(&mut rotate_ca(dir.path(), &["--next", "ca", "etcd-ca", "front-proxy-ca"]));
    run(&mut rotate_ca(dir.path(), &["--next", "sa", "--force"]));
    all_are(dir.path(), "stable");
    verify(dir.path());
    for (bundle, leaf) in LEAVES {
        let mut command = Command::new("openssl");
        command.args(["verify", "-partial_chain", "-CAfile"]).arg(dir.path().join(bundle));
        let status = command.arg(old.path().join(leaf)).output().unwrap().status;
        assert!(!status.success(), "the old {leaf} is trusted still");
    }
    // No file that is in use mentions the old CA.
    let ca: Vec<String> =
        read(old.path(), "pki/ca-bundle.crt").lines().skip(1).map(str::to_owned).collect();
    for (path, entry) in snapshot(dir.path()) {
        let support::tree::Entry::File { content, .. } = entry else { continue };
        let text = String::from_utf8_lossy(&content).into_owned();
        assert!(path.starts_with(".certkit") || !text.contains(&ca[1]), "{}", path.display());
    }
}

#[test]
fn each_stage_is_taken_back() {
    let dir = temp_dir();
    init(dir.path(), &["--host", "cp1=10.0.0.11"]);
    let first = snapshot(dir.path());
    let own = |path: &String| !path.starts_with(".certkit") && !path.is_empty();
    run(&mut rotate_ca(dir.path(), &["--next"]));
    run(&mut rotate_ca(dir.path(), &["--undo"]));
    all_are(dir.path(), "stable");
    verify(dir.path());
    // Only what is written again has another time.
    for path in difference(&first, &snapshot(dir.path())).into_iter().filter(own) {
        let content = fs::read(dir.path().join(&path)).unwrap();
        let before = match first.get(Path::new(&path)) {
            Some(support::tree::Entry::File { content, .. }) => content.clone(),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(String::from_utf8_lossy(&content), String::from_utf8_lossy(&before), "{path}");
    }
    run(&mut rotate_ca(dir.path(), &["--next"]));
    let (ca, key) = (read(dir.path(), "pki/ca.crt"), read(dir.path(), "pki/ca.key"));
    let next = read(dir.path(), "pki/ca-next.crt");
    run(&mut rotate_ca(dir.path(), &["--next"]));
    assert_eq!(read(dir.path(), "pki/ca.crt"), next);
    run(&mut rotate_ca(dir.path(), &["--undo"]));
    all_are(dir.path(), "introduced");
    verify(dir.path());
    assert_eq!((read(dir.path(), "pki/ca.crt"), read(dir.path(), "pki/ca.key")), (ca, key));
    assert_eq!(read(dir.path(), "pki/ca-next.crt"), next);
    // The next key of service accounts has signed by now, and what it signed may be valid still.
    let said = refused(dir.path(), &["sa", "--undo"], 3);
    assert!(said.contains("tokens that the key that is next has signed"), "{said}");
    let told = stdout(&mut rotate_ca(dir.path(), &["--to", "stable"]));
    assert!(told.contains("note: sa: tokens that the key that is next has signed"), "{told}");
    assert_eq!(stage(dir.path(), "sa"), "introduced");
    run(Command::new("touch")
        .args(["-d", "13 months ago"])
        .arg(dir.path().join("pki/sa-next.key")));
    run(&mut rotate_ca(dir.path(), &["sa", "--to", "stable"]));
    all_are(dir.path(), "stable");
    verify(dir.path());
}

#[test]
fn hosts_of_a_workspace_get_what_they_are_to_have_at_every_stage() {
    let dir = temp_dir();
    init(dir.path(), &["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12"]);
    for stage in ["introduced", "switched", "stable"] {
        run(&mut rotate_ca(dir.path(), &["ca", "etcd-ca", "front-proxy-ca", "--next"]));
        verify(dir.path());
        for host in ["cp1", "cp2"] {
            for file in ["pki/ca.crt", "pki/ca.key", "pki/ca-bundle.crt", "pki/etcd/ca-bundle.crt"]
            {
                let copy = read(dir.path(), &format!("hosts/{host}/{file}"));
                assert_eq!(copy, read(dir.path(), file), "{stage}: {host}: {file}");
            }
            let kept = dir.path().join(format!("hosts/{host}/pki/ca-next.key"));
            assert!(!kept.exists(), "a key that does not sign is on a host");
        }
        assert_eq!(stages(dir.path())[0].1, stage);
        let again = stdout(certkit().arg("init").arg("--dir").arg(dir.path()));
        assert!(again.contains("nothing to do"), "{again}");
    }
}

#[test]
fn a_dry_run_says_what_the_run_does_and_changes_nothing() {
    let dir = temp_dir();
    init(dir.path(), &["--host", "cp1=10.0.0.11"]);
    for _ in 0..3 {
        let before = snapshot(dir.path());
        let steps = |more: &[&str]| -> Vec<Value> {
            let names = ["ca", "etcd-ca", "--next", "-o", "json"];
            let text = stdout(&mut rotate_ca(dir.path(), &[&names[..], more].concat()));
            let document: Value = serde_json::from_str(&text).unwrap();
            let steps = document["steps"].as_array().unwrap().iter();
            steps.map(|s| serde_json::json!([s["action"], s["name"], s["files"]])).collect()
        };
        let said = steps(&["--dry-run"]);
        assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
        assert_eq!(steps(&[]), said);
    }
}

#[test]
fn what_still_needs_the_old_one_stands_against_dropping_it() {
    let dir = temp_dir();
    init(dir.path(), &["--host", "cp1=10.0.0.11"]);
    run(&mut rotate_ca(dir.path(), &["ca", "--next"]));
    let leaf = read(dir.path(), "pki/scheduler.crt");
    let key = read(dir.path(), "pki/scheduler.key");
    run(&mut rotate_ca(dir.path(), &["ca", "--next"]));
    // Somebody brings an old certificate back.
    fs::write(dir.path().join("pki/scheduler.crt"), leaf).unwrap();
    fs::write(dir.path().join("pki/scheduler.key"), key).unwrap();
    let before = snapshot(dir.path());
    let refused = run_to_exit(&mut rotate_ca(dir.path(), &["ca", "--next"]), 3);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("scheduler") && said.contains("certkit rotate scheduler"), "{said}");
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
    run(certkit().args(["rotate", "scheduler", "--dir"]).arg(dir.path()));
    // The audit log knows who else.
    let log = dir.path().join("audit.log");
    let event = |time: &str, id: &str| {
        serde_json::json!({
            "requestReceivedTimestamp": time,
            "user": {
                "username": "system:node:w9",
                "extra": {"authentication.kubernetes.io/credential-id": [format!("X509SHA256={id}")]},
            },
            "sourceIPs": ["10.0.0.9"],
            "userAgent": "kubelet/v1.36.3",
        })
        .to_string()
    };
    let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.000000Z"]).output().unwrap();
    let now = String::from_utf8(now.stdout).unwrap().trim().to_owned();
    let lines = [event("2020-01-01T00:00:00.000000Z", "aa"), event(&now, "bb")];
    fs::write(&log, lines.join("\n")).unwrap();
    let refused = run_to_exit(rotate_ca(dir.path(), &["ca", "--next", "--audit-log"]).arg(&log), 3);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    for word in ["system:node:w9", "10.0.0.9", "kubelet/v1.36.3"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    fs::write(&log, event("2020-01-01T00:00:00.000000Z", "aa")).unwrap();
    run(rotate_ca(dir.path(), &["ca", "--next", "--audit-log"]).arg(&log));
    verify(dir.path());
}

#[test]
fn addons_and_what_is_below_a_single_root_go_through_their_stages_too() {
    let dir = temp_dir();
    let addons = ["--addon", "istio", "--addon", "konnectivity", "--single-root"];
    init(dir.path(), &[&["--host", "cp1=10.0.0.11"], &addons[..]].concat());
    for stage in ["introduced", "switched", "stable"] {
        run(&mut rotate_ca(dir.path(), &["ca", "etcd-ca", "konnectivity-ca", "--to", stage]));
        verify(dir.path());
    }
    // Whoever trusts the root alone can verify what a server sends.
    let mut command = Command::new("openssl");
    command.args(["verify", "-CAfile"]).arg(dir.path().join("pki/root-ca.crt"));
    let served = dir.path().join("pki/apiserver.crt");
    run(command.arg("-untrusted").arg(&served).arg(&served));
    run(&mut rotate_ca(dir.path(), &["--next"]));
    verify(dir.path());
    // Verifiers of the mesh trust its root.
    let refused = run_to_exit(&mut rotate_ca(dir.path(), &["istio-ca", "--next"]), 3);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("istio-ca"));
    fs::remove_file(dir.path().join("pki/root-ca.key")).unwrap();
    run(&mut rotate_ca(dir.path(), &["etcd-ca", "--undo"]));
    let refused = run_to_exit(&mut rotate_ca(dir.path(), &["etcd-ca", "--next"]), 3);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("pki/root-ca.key"));
}

/// A certificate of the CA in this tree, for a node, as the certificates API gives it; its file and its SHA-256.
fn of_a_kubelet(ca: &Path, folder: &Path, name: &str) -> (std::path::PathBuf, String) {
    let file = |extension: &str| folder.join(format!("{name}.{extension}"));
    let subject = format!("/O=system:nodes/CN=system:node:{name}");
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    run(request.args(["-subj", &subject, "-keyout"]).arg(file("key")).arg("-out").arg(file("csr")));
    let mut sign = Command::new("openssl");
    sign.args(["x509", "-req", "-days", "100", "-in"]).arg(file("csr"));
    sign.arg("-CA").arg(ca.join("pki/ca.crt")).arg("-CAkey").arg(ca.join("pki/ca.key"));
    run(sign.arg("-out").arg(file("crt")));
    let mut print = Command::new("openssl");
    print.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(file("crt"));
    let text = stdout(&mut print);
    let print = text.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
    (file("crt"), print)
}

#[test]
fn kubelets_that_got_their_certificates_themselves_are_told_apart() {
    let (machine, away) = (temp_dir(), temp_dir());
    // This machine's own, and a node that is declared.
    let dir = machine.path().join("etc/kubernetes");
    let folder = machine.path().join("var/lib/kubelet/pki");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(&dir).unwrap();
    let config = away.path().join("cluster.yaml");
    let text = "apiVersion: certkit/v1\nkind: Cluster\nname: c\nendpoint: 10.0.0.11:6443\n\
                controlPlane: [{name: cp1, addresses: [10.0.0.11]}]\n\
                nodes: [{name: w1, addresses: [10.0.0.12]}]\n";
    fs::write(&config, text).unwrap();
    init(&dir, &["--config", config.to_str().unwrap()]);
    let (old, _) = of_a_kubelet(&dir, away.path(), "w1");
    let old_here = of_a_kubelet(&dir, away.path(), "cp1");
    fs::rename(&old, away.path().join("w1-old.crt")).unwrap();
    let old = away.path().join("w1-old.crt");
    run(&mut rotate_ca(&dir, &["ca", "--next"]));
    run(&mut rotate_ca(&dir, &["ca", "--next"]));
    let (new, print) = of_a_kubelet(&dir, away.path(), "w1");
    let current = folder.join("kubelet-client-current.pem");
    let said = |more: &[&std::ffi::OsStr]| {
        let before = snapshot(&dir);
        let mut command = rotate_ca(&dir, &["ca", "--next"]);
        let refused = run_to_exit(command.args(more), 3);
        assert_eq!(difference(&before, &snapshot(&dir)), Vec::<String>::new());
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };
    // What this machine's kubelet holds is of the old CA.
    let dated = folder.join("kubelet-client-2026-01-01-00-00-00.pem");
    fs::copy(&old_here.0, &dated).unwrap();
    std::os::unix::fs::symlink(&dated, &current).unwrap();
    let text = said(&[]);
    assert!(
        text.contains("kubelet-client-current.pem") && text.contains("CN=kubernetes:"),
        "{text}"
    );
    let here = of_a_kubelet(&dir, away.path(), "cp1");
    fs::copy(&here.0, &dated).unwrap();
    // In the audit log that one is known by its file now, and the declared node's is known to be unknown.
    let log = away.path().join("audit.log");
    let event = |time: &str, user: &str, id: &str| {
        serde_json::json!({
            "requestReceivedTimestamp": time,
            "user": {
                "username": format!("system:node:{user}"),
                "extra": {"authentication.kubernetes.io/credential-id": [format!("X509SHA256={id}")]},
            },
            "sourceIPs": ["10.0.0.12"],
            "userAgent": "kubelet/v1.36.3",
        })
        .to_string()
    };
    let now = stdout(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.000000Z"]));
    let events = |all: &[(&str, &str)]| {
        let first = event("2020-01-01T00:00:00.000000Z", "cp1", &here.1);
        let now = all.iter().map(|(user, id)| event(now.trim(), user, id));
        fs::write(&log, [first].into_iter().chain(now).collect::<Vec<_>>().join("\n")).unwrap();
    };
    let with_log = ["--audit-log".as_ref(), log.as_os_str()];
    events(&[("cp1", &here.1), ("w1", &print), ("w9", "cc")]);
    let text = said(&with_log);
    let apart =
        "the kubelet of w1, which is declared here, used a certificate that no file here shows";
    assert!(
        text.contains(&print)
            && text.contains(apart)
            && text.contains("--certificate")
            && text.contains("w9"),
        "{text}"
    );
    assert!(!text.contains("kubelet of w9") && !text.contains(&here.1), "{text}");
    // Brought here, it can be said who signed it.
    events(&[("cp1", &here.1), ("w1", &print)]);
    let give = |file: &Path| {
        [&with_log[..], &["--certificate".as_ref(), file.as_os_str()]]
            .concat()
            .into_iter()
            .map(std::ffi::OsStr::to_owned)
            .collect::<Vec<_>>()
    };
    let text = said(&give(&old).iter().map(AsRef::as_ref).collect::<Vec<_>>());
    assert!(text.contains("w1-old.crt was signed by CN=kubernetes:"), "{text}");
    let foreign = dir.join("hosts/cp1/pki/etcd/server.crt");
    let text = said(&give(&foreign).iter().map(AsRef::as_ref).collect::<Vec<_>>());
    assert!(text.contains("no generation of ca"), "{text}");
    let text = said(&give(&config).iter().map(AsRef::as_ref).collect::<Vec<_>>());
    assert!(text.contains("cluster.yaml"), "{text}");
    run(rotate_ca(&dir, &["ca", "--next"]).args(give(&new)));
    assert_eq!(stages(&dir)[0].1, "stable");
}

/// Of public keys the first.
fn first_key(all: &str) -> &str {
    let end = "-----END PUBLIC KEY-----\n";
    &all[..all.find(end).unwrap() + end.len()]
}

#[test]
fn mistakes_are_named() {
    let dir = temp_dir();
    init(dir.path(), &["--host", "cp1=10.0.0.11"]);
    let said = |more: &[&str], exit: i32| {
        let refused = run_to_exit(&mut rotate_ca(dir.path(), more), exit);
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };
    assert!(said(&["nobody", "--next"], 64).contains("front-proxy-ca"));
    assert!(said(&["ca", "--to", "switched"], 64).contains("--next"));
    assert!(said(&["ca", "--to", "nowhere"], 64).contains("introduced"));
    let early = ["ca", "--next", "--dry-run", "--audit-log", "audit.log"];
    let text = stdout(&mut rotate_ca(dir.path(), &early));
    assert!(text.contains("looked at when it is dropped"), "{text}");
    run(&mut rotate_ca(dir.path(), &["ca", "--next"]));
    fs::remove_file(dir.path().join("pki/ca-next.key")).unwrap();
    let text = said(&["ca", "--next"], 3);
    assert!(text.contains("pki/ca-next.key"), "{text}");
    run(&mut rotate_ca(dir.path(), &["sa", "--next"]));
    let key = read(dir.path(), "pki/sa-next.key");
    let public = read(dir.path(), "pki/sa.pub");
    let sa_key = read(dir.path(), "pki/sa.key");
    for (file, content) in [("pki/sa-next.key", "no key"), ("pki/sa.pub", first_key(&public))] {
        fs::write(dir.path().join(file), content).unwrap();
        let text = said(&["sa", "--next"], 3);
        assert!(text.contains("pki/sa-next.key"), "{text}");
        assert_eq!(read(dir.path(), "pki/sa.key"), sa_key);
        fs::write(dir.path().join("pki/sa-next.key"), &key).unwrap();
    }
    fs::write(dir.path().join("pki/sa.pub"), &public).unwrap();
    run(&mut rotate_ca(dir.path(), &["sa", "--next"]));
}

#[test]
fn every_host_knows_a_key_before_it_signs_and_uses_it_before_the_other_is_dropped() {
    let dir = temp_dir();
    init(dir.path(), &["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12"]);
    let (public, private) = ("hosts/cp2/pki/sa.pub", "hosts/cp2/pki/sa.key");
    let old = (read(dir.path(), public), read(dir.path(), private));
    run(&mut rotate_ca(dir.path(), &["sa", "--next"]));
    let said = |more: &[&str]| {
        let refused = run_to_exit(&mut rotate_ca(dir.path(), more), 3);
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };
    let both = read(dir.path(), public);
    fs::write(dir.path().join(public), &old.0).unwrap();
    let text = said(&["sa", "--next"]);
    assert!(text.contains(public) && text.contains("pki/sa-next.key"), "{text}");
    // One that holds more than it must is no reason to stop.
    fs::write(dir.path().join(public), format!("{both}{}", old.0)).unwrap();
    run(&mut rotate_ca(dir.path(), &["sa", "--next", "--dry-run"]));
    fs::write(dir.path().join(public), &both).unwrap();
    run(&mut rotate_ca(dir.path(), &["sa", "--next"]));
    // A host that still signs with the old key.
    let new = read(dir.path(), private);
    fs::write(dir.path().join(private), &old.1).unwrap();
    let previous = dir.path().join("pki/sa-previous.key");
    run(Command::new("touch").args(["-d", "2 years ago"]).arg(previous));
    let text = said(&["sa", "--next"]);
    assert!(text.contains(private), "{text}");
    fs::write(dir.path().join(private), new).unwrap();
    run(&mut rotate_ca(dir.path(), &["sa", "--next"]));
    all_are(dir.path(), "stable");
}

/// A tree at each stage, of one host or three.
fn staged(hosts: u8) -> Vec<tempfile::TempDir> {
    let names: Vec<String> = (1..=hosts).map(|n| format!("cp{n}=10.0.0.1{n}")).collect();
    // A copy of a tree must not name the original.
    let mut more: Vec<&str> = vec!["--host-dir", "/etc/kubernetes"];
    for name in &names {
        more.extend(["--host", name.as_str()]);
    }
    let first = temp_dir();
    init(first.path(), &more);
    let mut all = vec![first];
    for _ in 0..3 {
        let next = temp_dir();
        support::tree::copy(all.last().unwrap().path(), next.path());
        let previous = next.path().join("pki/sa-previous.key");
        if previous.exists() {
            run(Command::new("touch").args(["-d", "13 months ago"]).arg(previous));
        }
        run(&mut rotate_ca(next.path(), &["ca", "etcd-ca", "front-proxy-ca", "sa", "--next"]));
        all.push(next);
    }
    all
}

/// Every state that components of a cluster can be in between two stages: each with what it shows and what it trusts
/// as before or as after. A handshake depends on its two ends alone, so this is every state of the whole.
fn broken_between(before: &Path, after: &Path) -> Vec<String> {
    use certkit::{
        model::timestamp::Timestamp,
        ops::{declared, observe::Files, verify::narrowing},
    };
    let cluster = declared::load(before).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Timestamp::from_unix(now.as_secs() as i64 + 60);
    narrowing::mixed(&cluster, true, Files::followed(before), Files::followed(after), now)
}

/// A control plane and two nodes.
fn with_nodes(dir: &Path, style: &str) {
    let text = format!(
        "apiVersion: certkit/v1\nkind: Cluster\nendpoint: api.example.com:6443\nlayout: workspace\n\
         hostDir: /etc/kubernetes\nkubeconfigStyle: {style}\n\
         controlPlane:\n- {{name: cp1, addresses: [10.0.0.1]}}\n\
         nodes:\n- {{name: n1, addresses: [10.0.1.1]}}\n- {{name: n2, addresses: [10.0.1.2]}}\n"
    );
    fs::write(dir.join("certkit.yaml"), text).unwrap();
    init(dir, &[]);
}

/// The nodes to which the stage of the cluster's CA has not come.
fn behind(dir: &Path) -> Vec<String> {
    let text = stdout(&mut rotate_ca(dir, &["ca", "-o", "json"]));
    let document: Value = serde_json::from_str(&text).unwrap();
    let all = document["authorities"][0]["behind"].as_array().unwrap().iter();
    all.map(|host| host.as_str().unwrap().to_owned()).collect()
}

/// Whether all paths work that must, and nothing is said of a node but that it is behind.
#[track_caller]
fn works(dir: &Path) {
    let output = certkit().args(["verify", "-o", "json", "--dir"]).arg(dir).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sum = &report["handshakes"];
    assert!(sum["work"].as_u64() > Some(0) && sum["mustWork"] == sum["work"], "{report:#}");
    assert_eq!(sum["mustBeRefused"], sum["refused"], "{report:#}");
    for finding in report["findings"].as_array().unwrap() {
        assert_eq!(finding["code"], "stale-copy", "{finding:#}");
    }
}

/// Who signed each certificate of a node, and whom each of its files trusts.
fn of_node(dir: &Path, node: &str) -> Vec<String> {
    let root = dir.join("hosts").join(node);
    let mut all = Vec::new();
    for file in support::tree::files(&root) {
        let text = fs::read_to_string(root.join(&file)).unwrap();
        let trusted =
            text.lines().find_map(|line| line.split("certificate-authority-data:").nth(1));
        all.push(format!("{}: trusts {trusted:?}", file.display()));
        if file.ends_with("pki/ca-bundle.crt") {
            all.push(text);
        } else if text.contains("BEGIN CERTIFICATE") {
            let path = root.join(&file);
            let one =
                support::openssl(&["x509", "-noout", "-issuer", "-in", path.to_str().unwrap()]);
            all.push(format!(
                "{}: {one}, {} sent",
                file.display(),
                text.matches("BEGIN CERT").count()
            ));
        }
    }
    all
}

#[test]
fn a_node_that_a_stage_did_not_come_to_breaks_nothing_and_gets_it_before_any_other() {
    let onward = [("--next", "introduced"), ("--next", "switched"), ("--next", "stable")];
    let back = [("--next", "introduced"), ("--undo", "stable"), ("--next", "introduced")];
    let further = [("--next", "switched"), ("--undo", "introduced")];
    for (style, more, steps) in [
        ("files", "", [&back[..], &further[..], &onward[1..]].concat()),
        ("embedded", "", onward.to_vec()),
        ("files", "--cross-sign", onward.to_vec()),
    ] {
        let mut before = temp_dir();
        with_nodes(before.path(), style);
        for (step, stage) in steps {
            let told = format!("{style} {more} {step} to {stage}");
            let (after, half) = (temp_dir(), temp_dir());
            support::tree::copy(before.path(), after.path());
            let mut asked = vec!["ca", step];
            asked.extend(Some(more).filter(|more| !more.is_empty() && stage != "stable"));
            run(&mut rotate_ca(after.path(), &asked));
            support::tree::copy(after.path(), half.path());
            fs::remove_dir_all(half.path().join("hosts/n2")).unwrap();
            fs::create_dir(half.path().join("hosts/n2")).unwrap();
            support::tree::copy(&before.path().join("hosts/n2"), &half.path().join("hosts/n2"));
            for (from, to) in [(&before, &half), (&half, &after)] {
                assert_eq!(broken_between(from.path(), to.path()), Vec::<String>::new(), "{told}");
            }
            assert_eq!(behind(half.path()), ["n2"], "{told}");
            works(half.path());
            // Whatever is asked for next.
            for next in [["--undo", "--dry-run"], ["--next", "--force"]] {
                let said = stdout(&mut rotate_ca(half.path(), &[&["ca"][..], &next[..]].concat()));
                assert!(said.contains("n2, which get it now"), "{told}: {said}");
            }
            assert_eq!(self::stage(half.path(), "ca"), stage, "{told}");
            assert_eq!(behind(half.path()), Vec::<String>::new(), "{told}");
            assert_eq!(of_node(half.path(), "n2"), of_node(after.path(), "n2"), "{told}");
            verify(half.path());
            before = after;
        }
    }
}

#[test]
fn no_state_between_two_stages_breaks_a_path_and_leaving_one_out_does() {
    for hosts in [1, 3] {
        let trees = staged(hosts);
        let at: Vec<&Path> = trees.iter().map(tempfile::TempDir::path).collect();
        for (from, to) in [(0, 1), (1, 2), (2, 3), (2, 1), (1, 0)] {
            let broken = broken_between(at[from], at[to]);
            assert_eq!(broken, Vec::<String>::new(), "{hosts} hosts, from {from} to {to}");
        }
        // The upstream page's order and everybody's temptation: new certificates before all trust their CA, or the
        // old CA dropped before all have new ones.
        for (from, to) in [(0, 2), (1, 3), (0, 3), (3, 1), (2, 0)] {
            let broken = broken_between(at[from], at[to]).join("\n");
            for path in ["etcd", "apiserver", "sa: a token of kube-controller-manager"] {
                assert!(
                    broken.contains(path),
                    "{hosts} hosts, from {from} to {to}: {path}\n{broken}"
                );
            }
        }
    }
}
