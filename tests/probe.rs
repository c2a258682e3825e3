//! What listeners really serve, read from real listeners: openssl's server, etcd, and small ones that
//! misbehave. All of them listen on the loopback addresses only.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use certkit::tls::probe::{Phase, ProbeError, Served, Target, TlsVersion, probe, probe_all};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const BRIEF: Duration = Duration::from_millis(1500);
const LEAF: &str = "basicConstraints=critical,CA:FALSE";
const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1";

#[test]
fn both_versions_and_both_address_families_are_read() {
    let Some(pki) = Pki::new("both_versions_and_both_address_families", &["openssl"]) else {
        return;
    };
    let leaf = pki.leaf("server", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    for (host, flag, version) in [
        ("127.0.0.1", "-tls1_2", TlsVersion::Tls12),
        ("127.0.0.1", "-tls1_3", TlsVersion::Tls13),
        ("[::1]", "-tls1_3", TlsVersion::Tls13),
    ] {
        let (_server, at) = pki.s_server(host, "server", &[flag, "-cert_chain", "ca.crt"]);
        let served = read(&at).unwrap();
        assert_eq!(served.chain, [leaf.clone(), pki.certificate("ca")], "{host} {flag}");
        assert_eq!(served.version, version);
        assert!(!served.client_certificate_requested);
        assert_eq!(served.accepted_issuers, Vec::<Vec<u8>>::new());
        assert_eq!(served.address.to_string(), at);
    }
}

#[test]
fn every_kind_of_key_is_read() {
    let Some(pki) = Pki::new("every_kind_of_key_is_read", &["openssl"]) else { return };
    for (index, key) in [
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"][..],
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
        &["ed25519"],
        &["ed448"],
        &["rsa:2048"],
        &["rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("leaf{index}");
        let leaf = pki.leaf(&name, key);
        for flag in ["-tls1_2", "-tls1_3"] {
            let (_server, at) = pki.s_server("127.0.0.1", &name, &[flag]);
            assert_eq!(read(&at).unwrap().chain, [leaf.as_slice()], "{key:?} {flag}");
        }
    }
}

#[test]
fn a_listener_that_demands_client_certificates_shows_its_own() {
    let Some(pki) = Pki::new("a_listener_that_demands_client_certificates", &["openssl"]) else {
        return;
    };
    let leaf = pki.leaf("server", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    for flag in ["-tls1_2", "-tls1_3"] {
        let demand = [flag, "-Verify", "1", "-verify_return_error", "-CAfile", "ca.crt"];
        let (_server, at) = pki.s_server("127.0.0.1", "server", &demand);
        let served = read(&at).unwrap();
        assert_eq!(served.chain[0], leaf);
        assert!(served.client_certificate_requested);
        // CN=ca, as openssl writes it: a UTF8String.
        assert_eq!(
            served.accepted_issuers,
            [b"0\x0d1\x0b0\x09\x06\x03U\x04\x03\x0c\x02ca".to_vec()]
        );
    }
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    let Some(pki) = Pki::new("the_name_asked_for_chooses", &["openssl"]) else { return };
    let key = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let (one, two) = (pki.leaf("one", key), pki.leaf("two", key));
    let other = ["-servername", "two.example", "-cert2", "two.crt", "-key2", "two.key"];
    let (_server, at) = pki.s_server("127.0.0.1", "one", &other);
    let port = at.rsplit_once(':').unwrap().1;
    let named = format!("{at},sni=two.example");
    assert_eq!(read(&at).unwrap().chain, [one.as_slice()]);
    assert_eq!(read(&named).unwrap().chain, [two.as_slice()]);

    // `localhost` is ::1 and 127.0.0.1 on most machines: each is tried.
    let by_name = read(&format!("localhost:{port},sni=two.example")).unwrap();
    assert_eq!(by_name.chain, [two.as_slice()]);
    assert_eq!(by_name.address.to_string(), at);

    let closed = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let targets: Vec<Target> =
        [&named, &closed, &at, &named].map(|t| t.parse().unwrap()).into_iter().collect();
    let results = probe_all(&targets, PATIENCE, 3);
    let leaves: Vec<_> = results.into_iter().map(|r| r.ok().map(|s| s.chain[0].clone())).collect();
    assert_eq!(leaves, [Some(two.clone()), None, Some(one), Some(two)]);
    assert!(probe_all(&[], PATIENCE, 3).is_empty());
}

#[test]
fn an_etcd_with_mutual_tls_shows_its_certificate() {
    let test = "an_etcd_with_mutual_tls_shows_its_certificate";
    let Some(pki) = Pki::new(test, &["openssl", "etcd"]) else { return };
    let leaf = pki.leaf("server", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let at = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let peer = format!("http://127.0.0.1:{}", free_port("127.0.0.1"));
    let url = format!("https://{at}");
    let cluster = format!("one={peer}");
    let args = [
        ["--name", "one"],
        ["--data-dir", "data"],
        ["--listen-client-urls", &url],
        ["--advertise-client-urls", &url],
        ["--listen-peer-urls", &peer],
        ["--initial-advertise-peer-urls", &peer],
        ["--initial-cluster", &cluster],
        ["--cert-file", "server.crt"],
        ["--key-file", "server.key"],
        ["--trusted-ca-file", "ca.crt"],
    ];
    let args: Vec<&str> =
        args.as_flattened().iter().copied().chain(["--client-cert-auth"]).collect();
    let _etcd = pki.start("etcd", &args, &at);
    let served = read(&at).unwrap();
    assert_eq!(served.chain, [leaf]);
    assert!(served.client_certificate_requested);
    assert_eq!(served.accepted_issuers.len(), 1);
    assert!(served.accepted_issuers[0].ends_with(b"ca"));

    let plain = read(peer.trim_start_matches("http://")).unwrap_err();
    assert!(matches!(&plain, ProbeError::NotTls { begins, .. } if begins.starts_with("HTTP/1.1")));
}

#[test]
fn a_listener_without_a_common_cipher_suite_is_a_failed_handshake() {
    let Some(pki) = Pki::new("a_listener_without_a_common_cipher_suite", &["openssl"]) else {
        return;
    };
    pki.leaf("server", &["rsa:2048"]);
    let suite = ["-tls1_2", "-cipher", "AES128-SHA"];
    let (_server, at) = pki.s_server("127.0.0.1", "server", &suite);
    let error = read(&at).unwrap_err();
    assert!(matches!(error, ProbeError::Handshake { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("ECDHE"));
}

#[test]
fn silence_and_trickles_end_at_the_deadline() {
    let silent = listen(|stream| {
        thread::sleep(Duration::from_secs(4));
        drop(stream);
    });
    assert_timed_out(&silent.to_string(), Phase::Handshake);

    // The beginning of a TLS record of 16 KiB, and then a byte now and then.
    let trickle = listen(|mut stream| {
        let mut record = [22, 3, 3, 0x40, 0].into_iter().chain([2, 0, 0x3f]).chain([0].repeat(100));
        while record.next().is_some_and(|byte| stream.write_all(&[byte]).is_ok()) {
            thread::sleep(Duration::from_millis(200));
        }
    });
    assert_timed_out(&trickle.to_string(), Phase::Handshake);

    let chatter = listen(|mut stream| {
        while stream.write_all(b"a").is_ok() {
            thread::sleep(Duration::from_millis(200));
        }
    });
    let begin = Instant::now();
    let error = probe(&chatter.to_string().parse().unwrap(), BRIEF).unwrap_err();
    assert!(begin.elapsed() < BRIEF * 3);
    assert!(matches!(&error, ProbeError::NotTls { begins, .. } if begins.starts_with("aa")));
}

#[test]
fn other_protocols_are_named() {
    for (answer, begins) in [
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
        ("\x00\u{1b}[31m\n", "\\x00\\x1b[31m"),
        ("x", "x"),
    ] {
        let at = listen(move |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        });
        let error = read(&at.to_string()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{at}: not TLS: the answer begins with \"{begins}\"")
        );
        assert!(error.hint().is_some());
    }
}

#[test]
fn broken_connections_are_told_apart() {
    let closing = listen(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
    });
    let error = read(&closing.to_string()).unwrap_err();
    assert!(matches!(error, ProbeError::Closed { .. }), "{error:?}");

    // Closing with unread bytes resets the connection.
    let resetting = listen(|stream| {
        let _ = stream.peek(&mut [0]);
    });
    let error = read(&resetting.to_string()).unwrap_err();
    assert!(matches!(error, ProbeError::Broken { .. }), "{error:?}");

    let closed = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let error = read(&closed).unwrap_err();
    assert!(matches!(error, ProbeError::Connect { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("{closed}: cannot connect to {closed}"));

    let begin = Instant::now();
    let error = probe(&"no-such-host.invalid:6443".parse().unwrap(), BRIEF).unwrap_err();
    assert!(begin.elapsed() < BRIEF * 3);
    assert!(
        matches!(error, ProbeError::Resolve { .. })
            || matches!(error, ProbeError::TimedOut { phase: Phase::Resolve, .. }),
        "{error:?}"
    );
}

fn assert_timed_out(at: &str, expected: Phase) {
    let begin = Instant::now();
    let error = probe(&at.parse().unwrap(), BRIEF).unwrap_err();
    let took = begin.elapsed();
    assert!(BRIEF <= took && took < BRIEF * 2, "{took:?}");
    assert!(matches!(error, ProbeError::TimedOut { phase, .. } if phase == expected), "{error:?}");
    assert_eq!(error.to_string(), format!("{at}: the TLS handshake took longer than 1.5s"));
}

fn read(at: &str) -> Result<Served, ProbeError> {
    probe(&at.parse().unwrap(), PATIENCE)
}

/// A listener that treats one connection as told.
fn listen(treat: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || treat(listener.accept().unwrap().0));
    address
}

fn free_port(host: &str) -> u16 {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port()
}

/// Whether the programs are there; if not, says so by name, and fails where CI is set.
fn need(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
            assert!(std::env::var_os("CI").is_none(), "{test} needs {program}");
            eprintln!("skipped: {test}: {program} is not installed");
            return false;
        }
    }
    true
}

/// A CA made by openssl, and what it issues.
struct Pki(tempfile::TempDir);

impl Pki {
    fn new(test: &str, programs: &[&str]) -> Option<Self> {
        if !need(test, programs) {
            return None;
        }
        let pki = Self(tempfile::tempdir().unwrap());
        std::fs::write(pki.0.path().join("openssl.cnf"), "[req]\ndistinguished_name=n\n[n]\n")
            .unwrap();
        let key = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        pki.request("ca", &key, &["-addext", "basicConstraints=critical,CA:TRUE"]);
        Some(pki)
    }

    fn leaf(&self, name: &str, key: &[&str]) -> Vec<u8> {
        let signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", LEAF, "-addext", NAMES];
        self.request(name, key, &signed);
        self.certificate(name)
    }

    fn request(&self, name: &str, key: &[&str], more: &[&str]) {
        let (crt, private, subject) =
            (format!("{name}.crt"), format!("{name}.key"), format!("/CN={name}"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-config", "openssl.cnf", "-days", "30"])
            .args(["-subj", &subject, "-out", &crt, "-keyout", &private, "-newkey"])
            .args(key)
            .args(more)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn certificate(&self, name: &str) -> Vec<u8> {
        let path = self.0.path().join(format!("{name}.crt"));
        CertificateDer::from_pem_file(path).unwrap().to_vec()
    }

    /// An `openssl s_server`, and where it listens.
    fn s_server(&self, host: &str, name: &str, more: &[&str]) -> (Running, String) {
        let at = format!("{host}:{}", free_port(host.trim_matches(['[', ']'])));
        let (crt, key) = (format!("{name}.crt"), format!("{name}.key"));
        let mut args = vec!["s_server", "-accept", &at, "-cert", &crt, "-key", &key, "-www"];
        args.extend(more);
        let running = self.start("openssl", &args, &at);
        (running, at)
    }

    /// Starts a program and waits until it listens.
    fn start(&self, program: &str, args: &[&str], at: &str) -> Running {
        let log = self.0.path().join("log");
        let mut running = Running(
            Command::new(program)
                .args(args)
                .current_dir(self.0.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&log).unwrap())
                .spawn()
                .unwrap(),
        );
        let begin = Instant::now();
        while TcpStream::connect(at).is_err() {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < PATIENCE, "{program}: {}", text(&log));
            thread::sleep(Duration::from_millis(20));
        }
        running
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A process that ends with the test, also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
