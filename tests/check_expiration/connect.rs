//! What real listeners serve.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use certkit::pki::issue::IssuingCa;
use serde_json::Value;

use crate::{ca, check, json, leaf, row, rows, support, support::need, write_key};

const FROM: &str = "2026-06-01T00:00:00Z";
const TO: &str = "2028-06-01T00:00:00Z";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port(host: &str) -> u16 {
    TcpListener::bind((host, 0)).expect("a port").local_addr().expect("bound").port()
}

/// Starts a program and waits until it listens.
#[track_caller]
fn start(command: &mut Command, at: &str, log: &Path) -> Running {
    let output = fs::File::create(log).unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .expect("the program starts");
    let mut running = Running(child);
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(at).is_err() {
        let said = || fs::read_to_string(log).unwrap_or_default();
        assert!(running.0.try_wait().unwrap().is_none(), "it ended: {}", said());
        assert!(Instant::now() < end, "it does not listen: {}", said());
        thread::sleep(Duration::from_millis(20));
    }
    running
}

/// A server certificate in a folder: `server.crt` and `server.key`.
fn server(folder: &Path, ca: &IssuingCa) -> PathBuf {
    let (certificate, key) = leaf(ca, "server", FROM, TO);
    fs::write(folder.join("server.crt"), certificate.to_pem()).unwrap();
    write_key(&folder.join("server.key"), &key);
    folder.join("server.crt")
}

fn s_server(folder: &Path, host: &str, more: &[&str]) -> (Running, String) {
    let at = format!("{host}:{}", free_port(host.trim_matches(['[', ']'])));
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", &at, "-www"]).args(more).current_dir(folder);
    command.args(["-cert", "server.crt", "-key", "server.key"]);
    (start(&mut command, &at, &folder.join("log")), at)
}

/// A listener that treats each connection so.
fn listen(treat: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(treat));
    address
}

fn connect(at: &str) -> (Value, i32) {
    let empty = support::temp_dir();
    json(check().args(["--connect", at, "--timeout", "2s", "--dir"]).arg(empty.path()))
}

#[test]
fn tls_1_2_only_and_ipv6_are_read() {
    if need("openssl").is_none() {
        return;
    }
    let folder = support::temp_dir();
    server(folder.path(), &ca("ca"));
    for (host, more, version) in [
        ("127.0.0.1", "-tls1_2", "TLS 1.2"),
        ("127.0.0.1", "-tls1_3", "TLS 1.3"),
        ("[::1]", "-tls1_2", "TLS 1.2"),
    ] {
        if TcpListener::bind((host.trim_matches(['[', ']']), 0)).is_err() {
            eprintln!("this machine has no {host}");
            continue;
        }
        let (_running, at) = s_server(folder.path(), host, &[more]);
        let (report, code) = connect(&at);
        assert_eq!(code, 0, "{report:#}");
        let row = &report["certificates"][0];
        assert_eq!(row["name"], at);
        assert_eq!(row["subject"], "CN=server");
        assert_eq!(row["expirationDate"], TO);
        assert_eq!(row["source"]["kind"], "listener");
        assert!(row["reason"].as_str().unwrap().starts_with(version), "{row}");
    }
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    if need("openssl").is_none() {
        return;
    }
    let folder = support::temp_dir();
    let ca = ca("ca");
    server(folder.path(), &ca);
    let (other, key) = leaf(&ca, "other", FROM, TO);
    fs::write(folder.path().join("other.crt"), other.to_pem()).unwrap();
    write_key(&folder.path().join("other.key"), &key);
    let more = ["-servername", "other.test", "-cert2", "other.crt", "-key2", "other.key"];
    let (_running, at) = s_server(folder.path(), "127.0.0.1", &more);
    assert_eq!(connect(&at).0["certificates"][0]["subject"], "CN=server");
    let named = format!("{at},sni=other.test");
    assert_eq!(connect(&named).0["certificates"][0]["subject"], "CN=other");
}

#[test]
fn silence_http_and_nobody_are_unknown() {
    let silent = listen(|stream| {
        thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let http = listen(|mut stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let nobody = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let begin = Instant::now();
    let empty = support::temp_dir();
    let mut command = check();
    command.args(["--timeout", "1s", "--dir"]).arg(empty.path());
    for at in [&silent.to_string(), &http.to_string(), &nobody] {
        command.args(["--connect", at]);
    }
    let (report, code) = json(&mut command);
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(code, 3);
    let reason = |index: usize| report["certificates"][index]["reason"].as_str().unwrap();
    assert!(reason(0).contains("the TLS handshake took longer than 1s"), "{}", reason(0));
    assert!(
        reason(1).contains("HTTP/1.1 400") && reason(1).contains("plain HTTP"),
        "{}",
        reason(1)
    );
    assert!(reason(2).contains("cannot connect"), "{}", reason(2));
    assert!(rows(&report).iter().all(|row| row["status"] == "unknown"));
}

/// A one-host PKI, and an etcd with mutual TLS that serves its clients from it.
struct Etcd {
    dir: tempfile::TempDir,
    pki: PathBuf,
    at: String,
    _running: Running,
}

/// On `address`, with the ports of a real cluster or free ones.
fn etcd(program: &Path, address: &str, ports: Option<(u16, u16)>) -> Etcd {
    let dir = support::temp_dir();
    let pki = dir.path().join("pki");
    support::run(
        support::certkit()
            .args(["init", "--name", "t", "--host", &format!("cp1={address}"), "--dir"])
            .arg(&pki),
    );
    let (client, peer) = ports.unwrap_or_else(|| (free_port(address), free_port(address)));
    let at = format!("{address}:{client}");
    let (client, peer) = (format!("https://{at}"), format!("https://{address}:{peer}"));
    let cluster = format!("one={peer}");
    let mut command = Command::new(program);
    command.current_dir(&pki).env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
    for (flag, value) in [
        ("--name", "one"),
        ("--data-dir", dir.path().join("data").to_str().unwrap()),
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--initial-cluster", &cluster),
        ("--cert-file", "pki/etcd/server.crt"),
        ("--key-file", "pki/etcd/server.key"),
        ("--trusted-ca-file", "pki/etcd/ca-bundle.crt"),
        ("--peer-cert-file", "pki/etcd/peer.crt"),
        ("--peer-key-file", "pki/etcd/peer.key"),
        ("--peer-trusted-ca-file", "pki/etcd/ca-bundle.crt"),
    ] {
        command.args([flag, value]);
    }
    command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
    let running = start(&mut command, &at, &dir.path().join("log"));
    Etcd { dir, pki, at, _running: running }
}

#[test]
fn an_etcd_with_mutual_tls_is_compared_with_its_files() {
    let (Some(program), Some(_)) = (need("etcd"), need("openssl")) else { return };
    let etcd = etcd(&program, "127.0.0.1", None);
    let check = || {
        let mut command = support::certkit();
        command.args(["check-expiration", "--connect", &etcd.at, "--dir"]).arg(&etcd.pki);
        json(&mut command)
    };
    let (report, code) = check();
    assert_eq!(code, 0, "{report:#}");
    let name = format!("{} (etcd-server)", etcd.at);
    let served = row(&report, &name);
    assert_eq!(served["caName"], "etcd-ca");
    assert!(served["reason"].as_str().unwrap().contains("as on disk"), "{served}");
    assert_eq!(rows(&report).len(), 1, "only what was asked for");

    // The file is replaced by a certificate of the same names; etcd reads it at the next handshake, so what
    // is served stays the one on disk.
    let server = etcd.pki.join("pki/etcd/server.crt");
    let (old, old_key) = (fs::read(&server).unwrap(), etcd.pki.join("pki/etcd/server.key"));
    let key = fs::read(&old_key).unwrap();
    fs::remove_file(&server).unwrap();
    fs::remove_file(&old_key).unwrap();
    support::run(support::certkit().arg("init").arg("--dir").arg(&etcd.pki));
    assert_ne!(fs::read(&server).unwrap(), old);
    assert_eq!(check().1, 0);

    // And a listener that keeps the old one in memory is told.
    let folder = etcd.dir.path().join("old");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("server.crt"), old).unwrap();
    fs::write(folder.join("server.key"), key).unwrap();
    let (_running, at) = s_server(&folder, "127.0.0.1", &[]);
    let mut command = support::certkit();
    command.args(["check-expiration", "--connect", &at, "--dir"]).arg(&etcd.pki);
    let (report, code) = json(&mut command);
    assert_eq!(code, 1, "{report:#}");
    let stale = row(&report, &format!("{at} (etcd-server)"));
    assert_eq!(stale["status"], "not-on-disk");
    let reason = stale["reason"].as_str().unwrap();
    assert!(reason.contains("server.crt has serial"), "{reason}");
}

#[test]
fn without_a_value_every_listener_of_this_host_is_asked() {
    let (Some(program), Some(_)) = (need("etcd"), need("openssl")) else { return };
    // An address nobody else uses, so that the real ports are free.
    let address = "127.44.55.66";
    let etcd = etcd(&program, address, Some((2379, 2380)));
    let mut command = support::certkit();
    command.args(["check-expiration", "--timeout", "2s", "--dir"]).arg(&etcd.pki).arg("--connect");
    let (report, code) = json(&mut command);
    // etcd answers on both its ports; the rest of the control plane does not run.
    assert_eq!(code, 3);
    for (port, id, status) in [
        (2379, "etcd-server", "ok"),
        (2380, "etcd-peer", "ok"),
        (6443, "apiserver", "unknown"),
        (10257, "controller-manager", "unknown"),
        (10259, "scheduler", "unknown"),
        (10250, "kubelet", "unknown"),
    ] {
        let row = row(&report, &format!("{address}:{port} ({id})"));
        assert_eq!(row["status"], status, "{row}");
    }
    // The files are there as well.
    assert_eq!(row(&report, "etcd-server")["status"], "ok");
}
