//! `verify --forecast` against a real etcd with certificates that live for less than a minute: what fails,
//! fails in the predicted order and at the predicted second.

#[path = "faults/issue.rs"]
mod issue;
mod support;

use std::{
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use certkit::model::timestamp::Timestamp;
use issue::Issue;
use support::etcd::{Member, Plan, free_ports};

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    Timestamp::from_unix(i64::try_from(since.as_secs()).expect("a time"))
}

#[test]
fn etcds_paths_break_in_the_predicted_order() {
    let (Some(etcd), Some(_), Some(_)) =
        (support::need("etcd"), support::need("etcdctl"), support::need("openssl"))
    else {
        return;
    };
    let folder = support::temp_dir();
    let dir = folder.path().join("kubernetes");
    support::run(
        support::certkit().args(["init", "-q", "--host", "cp1=127.0.0.1", "--dir"]).arg(&dir),
    );
    let flags = support::stdout(support::certkit().args(["flags", "etcd", "--dir"]).arg(&dir));
    let ports = free_ports("127.0.0.1");
    let cluster = format!("cp1=https://127.0.0.1:{}", ports.1);
    let mut member = Member::start(
        &etcd,
        &Plan {
            name: "cp1",
            address: "127.0.0.1",
            ports,
            cluster: &cluster,
            tree: &dir,
            data: folder.path(),
            flags: &flags,
        },
    );
    member.wait();

    // etcd reads them at every handshake, and etcdctl each time.
    let start = now();
    let ca = (dir.join("pki/etcd/ca.crt"), dir.join("pki/etcd/ca.key"));
    let names = "DNS:cp1,DNS:localhost,IP:127.0.0.1,IP:::1";
    let peer = format!("{names},DNS:etcd-peer.kubernetes.internal");
    for (stem, issue) in [
        ("pki/apiserver-etcd-client", Issue::leaf().client().until_seconds(40)),
        ("pki/etcd/healthcheck-client", Issue::leaf().client().until_seconds(28)),
        ("pki/etcd/peer", Issue::leaf().both(&peer).until_seconds(52)),
    ] {
        let (cert, key) = (dir.join(format!("{stem}.crt")), dir.join(format!("{stem}.key")));
        issue.write(start, &cert, &key, (&ca.0, &ca.1));
    }

    let output = support::certkit()
        .args(["verify", "--forecast", "-o", "json", "--dir"])
        .arg(&dir)
        .output()
        .expect("certkit starts");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let predicted: Vec<(String, Timestamp)> = report["forecast"]
        .as_array()
        .expect("a forecast")
        .iter()
        .take(3)
        .map(|b| {
            assert_eq!(b["confirmed"], true, "{b}");
            let text = |key: &str| b[key].as_str().expect(key).to_owned();
            (text("path"), text("worksUntil").parse().expect("a time"))
        })
        .collect();
    let order: Vec<&str> = predicted.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(order, ["etcdctl-to-etcd", "apiserver-to-etcd", "etcd-to-etcd"]);

    let get = |stem: &str| {
        let credentials = [
            "--cacert=pki/etcd/ca-bundle.crt".to_owned(),
            format!("--cert={stem}.crt"),
            format!("--key={stem}.key"),
        ];
        let credentials: Vec<&str> = credentials.iter().map(String::as_str).collect();
        member.etcdctl(&credentials, &["get", "x"]).status.success()
    };
    let works = |path: &str| match path {
        "etcdctl-to-etcd" => get("pki/etcd/healthcheck-client"),
        "apiserver-to-etcd" => get("pki/apiserver-etcd-client"),
        _ => peers_shake_hands(&dir, ports.1),
    };
    // With TLS 1.3 a client's refusal shows late; what counts is the first probe that fails.
    let mut failed: Vec<(String, i64)> = Vec::new();
    let end = Instant::now() + Duration::from_secs(120);
    while failed.len() < predicted.len() {
        assert!(Instant::now() < end, "still works: {failed:?} of {predicted:?}\n{}", member.log());
        for (path, until) in &predicted {
            if failed.iter().any(|(known, _)| known == path) {
                continue;
            }
            let before = now();
            if !works(path) {
                failed.push((path.clone(), now().unix()));
                // A second is the grain of certificates: Go refuses within the last one already.
                assert!(now() >= *until, "{path} failed before {until}\n{}", member.log());
            } else {
                // A probe that began after the end must not succeed; one second is the clock's grain.
                assert!(before.unix() <= until.unix() + 1, "{path} works after {until}");
            }
        }
        sleep(Duration::from_millis(200));
    }
    let observed: Vec<&str> = failed.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(observed, order);
}

/// A TLS 1.2 handshake with the peer port, as a peer.
fn peers_shake_hands(dir: &std::path::Path, port: u16) -> bool {
    Command::new("openssl")
        .args(["s_client", "-tls1_2", "-brief", "-verify_return_error", "-verify_ip", "127.0.0.1"])
        .args(["-connect", &format!("127.0.0.1:{port}")])
        .arg("-CAfile")
        .arg(dir.join("pki/etcd/ca-bundle.crt"))
        .arg("-cert")
        .arg(dir.join("pki/etcd/peer.crt"))
        .arg("-key")
        .arg(dir.join("pki/etcd/peer.key"))
        .stdin(Stdio::null())
        .output()
        .expect("openssl starts")
        .status
        .success()
}
