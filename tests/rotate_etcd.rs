//! Rotation under load: a real three-member etcd, clients that connect anew for every request, and no
//! request that fails.

mod support;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use certkit::tls::probe::{Target, probe};
use rustls::ClientConfig;
use support::{
    certkit, etcd,
    https::{Credentials, PATIENCE, Tally, handshake, request},
    need, openssl, run,
};

/// The apiserver's, towards etcd.
fn of_apiserver(workspace: &Path) -> Credentials {
    let pki = workspace.join("hosts/cp1/pki");
    Credentials::Files {
        cert: pki.join("apiserver-etcd-client.crt"),
        key: pki.join("apiserver-etcd-client.key"),
        trusted: pki.join("etcd/ca-bundle.crt"),
    }
}

/// Reads them. A pair whose halves do not match, as between two renames, is read again: so do Kubernetes'
/// clients. How often that happened is counted.
fn read(credentials: &Credentials, again: &AtomicUsize) -> Arc<ClientConfig> {
    let end = Instant::now() + PATIENCE;
    loop {
        match credentials.read() {
            Ok(config) => return Arc::new(config),
            Err(error) => {
                assert!(Instant::now() < end, "the apiserver's client of etcd: {error}");
                again.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn serial_on_disk(cert: &Path) -> String {
    let text = openssl(&["x509", "-noout", "-serial", "-in", cert.to_str().unwrap()]);
    text.trim().trim_start_matches("serial=").to_lowercase()
}

fn serial_served(at: SocketAddr) -> String {
    let target = Target { host: at.ip().to_string(), port: at.port(), sni: None };
    let served = probe(&target, PATIENCE).unwrap();
    let leaf = certkit::pki::inspect::Certificate::from_der(served.chain[0].clone()).unwrap();
    leaf.serial_hex()
}

#[test]
fn fifty_rotations_of_everything_fail_no_request_and_restart_nothing() {
    let (Some(program), Some(_), Some(_)) = (need("etcd"), need("etcdctl"), need("openssl")) else {
        return;
    };
    let mut cluster = etcd::three(&program, "");
    cluster.wait_healthy();
    let pids: Vec<u32> = cluster.members.iter().map(etcd::Member::pid).collect();
    let addresses: Vec<SocketAddr> = cluster.members.iter().map(etcd::Member::client).collect();
    let credentials = of_apiserver(&cluster.workspace);
    let tally = Tally::default();
    let (over, again) = (AtomicBool::new(false), AtomicUsize::new(0));
    let key_of = |tree: &Path| fs::read(tree.join("pki/etcd/server.key")).unwrap();
    let keys: Vec<_> = cluster.members.iter().map(|m| key_of(&m.tree)).collect();
    let mut serials = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (tally, over, again) = (&tally, &over, &again);
            let (addresses, credentials) = (&addresses, &credentials);
            scope.spawn(move || {
                // `foo` and `bar` in base64, as the JSON gateway wants them.
                let put = post("/v3/kv/put", r#"{"key": "Zm9v", "value": "YmFy"}"#);
                let get = post("/v3/kv/range", r#"{"key": "Zm9v"}"#);
                let mut number = client;
                while !over.load(Ordering::Relaxed) {
                    let config = read(credentials, again);
                    let text = if number % 2 == 0 { &put } else { &get };
                    tally.count(request(&config, addresses[number % addresses.len()], text));
                    number += 1;
                }
            });
        }
        for round in 0..50 {
            let before = tally.done();
            run(certkit()
                .args(["rotate", "--all", "--backups", "2", "--dir"])
                .arg(&cluster.workspace));
            for member in &cluster.members {
                let disk = serial_on_disk(&member.tree.join("pki/etcd/server.crt"));
                assert_eq!(
                    serial_served(member.client()),
                    disk,
                    "{} in round {round}",
                    member.name
                );
                let peer = SocketAddr::new(member.client().ip(), member.peer_port);
                let disk_peer = serial_on_disk(&member.tree.join("pki/etcd/peer.crt"));
                assert_eq!(serial_served(peer), disk_peer, "{} in round {round}", member.name);
                assert!(serials.insert(disk), "a serial number came twice");
            }
            let end = Instant::now() + PATIENCE;
            while tally.done() < before + 12 {
                assert!(Instant::now() < end, "clients stand still: {:?}", tally.failed());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let failed = tally.failed();
    println!(
        "{} requests on connections of their own over 50 rotations, {} failed, {} times a client read \
         its own pair between the two renames",
        tally.done(),
        failed.len(),
        again.load(Ordering::Relaxed)
    );
    assert!(failed.is_empty(), "{failed:?}");
    for (member, key) in cluster.members.iter().zip(keys) {
        assert_eq!(key_of(&member.tree), key, "{}", member.name);
    }
    let after: Vec<u32> = cluster.members.iter().map(etcd::Member::pid).collect();
    assert_eq!(pids, after);
    for member in &mut cluster.members {
        assert!(member.is_running(), "{}", member.log());
    }
    cluster.wait_healthy();
}

/// Connects anew all the time from four threads while a member's certificate is renewed so many times, with
/// these arguments; how many connections there were, how many failed, and for how long.
fn hammer(cluster: &etcd::Cluster, rotations: usize, more: &[&str]) -> (usize, usize, Duration) {
    let to = cluster.members[0].client();
    let tally = Tally::default();
    let over = AtomicBool::new(false);
    // Read once, and nothing resumed: what is watched is the listener, and that it signs each time.
    let mut config = of_apiserver(&cluster.workspace).read().unwrap();
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (tally, over, config) = (&tally, &over, &config);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    tally.count(handshake(config, to).map(|()| String::new()));
                }
            });
        }
        for _ in 0..rotations {
            run(certkit()
                .args(["rotate", "hosts/etcd1/pki/etcd/server.crt", "--backups", "2", "--dir"])
                .arg(&cluster.workspace)
                .args(more));
            // The load is on the listener, not on this machine.
            std::thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    let failed = tally.failed().len();
    (tally.done() + failed, failed, start.elapsed())
}

#[test]
fn raw_connections_never_fail_with_the_kept_key() {
    let (Some(program), Some(_), Some(_)) = (need("etcd"), need("etcdctl"), need("openssl")) else {
        return;
    };
    let cluster = etcd::three(&program, "");
    cluster.wait_healthy();
    for (name, more) in [("kept", &[][..]), ("new", &["--new-key"])] {
        let (all, failed, time) = hammer(&cluster, 100, more);
        let rate = all as f64 / time.as_secs_f64();
        println!(
            "{name} key: {all} connections, {rate:.0} a second, 100 renewals, {failed} failed"
        );
        if name == "kept" {
            assert_eq!(failed, 0, "of {all}");
            assert!(all > 500, "{all} connections are no load");
        } else {
            // The window between the two renames is real; the figure is in docs/rotating.md.
            assert!(
                failed * 10 < all,
                "{failed} of {all} failed: far more than the window explains"
            );
        }
    }
}

#[test]
fn waiting_proves_that_etcd_took_it_up() {
    let (Some(program), Some(_)) = (need("etcd"), need("openssl")) else { return };
    let folder = support::temp_dir();
    let tree = folder.path().join("pki");
    // Other ports than etcd's usual ones: the process that runs was told so.
    let address = "127.0.42.1";
    run(certkit().arg("init").arg("--dir").arg(&tree).args(["--host", &format!("cp1={address}")]));
    let flags = support::stdout(certkit().args(["flags", "etcd", "--dir"]).arg(&tree));
    let mut member = etcd::Member::start(
        &program,
        &etcd::Plan {
            name: "cp1",
            address,
            ports: (12379, 12380),
            cluster: &format!("cp1=https://{address}:12380"),
            tree: &tree,
            data: folder.path(),
            flags: &flags,
        },
    );
    member.wait();
    for more in [&[][..], &["--new-key"], &["--rollback"]] {
        let mut command = certkit();
        command.args(["rotate", "--wait", "60s", "-o", "json", "--dir"]).arg(&tree).args(more);
        if !more.contains(&"--rollback") {
            command.args(["etcd-server", "etcd-peer"]);
        }
        let report: serde_json::Value =
            serde_json::from_str(&support::stdout(&mut command)).unwrap();
        let component = &report["components"][0];
        assert_eq!(component["component"], "etcd");
        assert_eq!(component["takeUp"], "handshake");
        let seen: Vec<(&str, &str)> = component["listeners"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| (l["address"].as_str().unwrap(), l["serves"].as_str().unwrap()))
            .collect();
        assert_eq!(seen, [("127.0.42.1:12379", "new"), ("127.0.42.1:12380", "new")], "{more:?}");
    }
}
