//! Real etcd members, started from what certkit emits and a data folder: they speak TLS and nothing else, and
//! find each other.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use support::{certkit, cluster::claim_addresses, need, process::Process, run, stdout, temp_dir};

/// Hosts with a member each, on a net of the loopback network that is theirs alone.
struct Members {
    folder: tempfile::TempDir,
    dir: PathBuf,
    hosts: Vec<(String, String)>,
    processes: Vec<Process>,
    _claim: TcpListener,
}

/// Whether members run beside the apiserver or on hosts of their own.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    ControlPlane,
    OwnHosts,
}

impl Members {
    fn declared(count: u8, place: Where) -> Self {
        let folder = temp_dir();
        let (claim, [a, b, c, _]) = claim_addresses();
        let hosts: Vec<(String, String)> =
            (1..=count).map(|n| (format!("etcd{n}"), format!("{a}.{b}.{c}.{n}"))).collect();
        let listed: Vec<String> =
            hosts.iter().map(|(n, ip)| format!("- {{name: {n}, addresses: [{ip}]}}\n")).collect();
        let listed = listed.concat();
        let lists = match place {
            Where::ControlPlane => format!("controlPlane:\n{listed}"),
            Where::OwnHosts => format!(
                "controlPlane:\n- {{name: cp1, addresses: [{a}.{b}.{c}.9]}}\netcd:\n{listed}"
            ),
        };
        let file = folder.path().join("cluster.yaml");
        let text = format!("apiVersion: certkit/v1\nkind: Cluster\nname: c\n{lists}");
        fs::write(&file, text).unwrap();
        let dir = folder.path().join("pki");
        run(certkit().arg("init").arg("--dir").arg(&dir).arg("--config").arg(&file));
        Self { folder, dir, hosts, processes: Vec::new(), _claim: claim }
    }

    fn tree(&self, host: &str) -> PathBuf {
        let own = self.dir.join("hosts").join(host);
        if own.is_dir() { own } else { self.dir.clone() }
    }

    fn flags(&self, host: &str, more: &[&str]) -> String {
        let mut command = certkit();
        command.arg("flags").arg("--dir").arg(&self.dir).args(["--host", host]);
        stdout(command.arg("--host-dir").arg(self.tree(host)).args(more))
    }

    fn data(&self, host: &str) -> PathBuf {
        self.folder.path().join(format!("{host}.data"))
    }

    fn start(&mut self, mut command: Command, host: &str) {
        command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        let log = self.folder.path().join(format!("{host}.log"));
        self.processes.push(Process::start(&mut command, &log));
    }

    /// etcdctl on this host with what certkit emits for it.
    fn etcdctl(&self, host: &str, arguments: &[&str]) -> Output {
        let flags = self.flags(host, &["etcdctl"]);
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(flags.lines()).arg("--dial-timeout=3s");
        command.args(arguments).output().expect("etcdctl starts")
    }

    /// Waits until each host's own etcdctl finds all members that it knows in health.
    #[track_caller]
    fn wait(&mut self) {
        let end = Instant::now() + Duration::from_secs(90);
        for (host, _) in self.hosts.clone() {
            loop {
                let output = self.etcdctl(&host, &["endpoint", "health"]);
                if output.status.success() {
                    break;
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                for process in &mut self.processes {
                    assert!(process.is_running(), "{said}\n{}", process.log());
                }
                let logs: String = self.processes.iter().map(Process::log).collect();
                assert!(Instant::now() < end, "{host}: {said}\n{logs}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    /// Every port of every member serves its certificate, takes no client without one, and no plain HTTP.
    #[track_caller]
    fn assert_tls_only(&self) {
        for (host, address) in &self.hosts {
            for (port, file) in [(2379, "server"), (2380, "peer")] {
                let at = format!("{address}:{port}");
                let said = plain(&at);
                assert!(!said.contains("etcdserver") && !said.contains("200 OK"), "{at}: {said}");
                let served = served(&at);
                let file = self.tree(host).join(format!("pki/etcd/{file}.crt"));
                assert_eq!(served, support::cluster::fingerprint(&file), "{at}");
            }
            let strangers = ["--insecure-skip-tls-verify", "endpoint", "health", "--endpoints"];
            let mut stranger = Command::new("etcdctl");
            stranger.env("ETCDCTL_API", "3").args(strangers).arg(format!("https://{address}:2379"));
            let output = stranger.args(["--command-timeout=3s"]).output().unwrap();
            assert!(!output.status.success(), "a client without a certificate got in");
        }
    }
}

/// What a port says to plain HTTP.
fn plain(at: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap_or_else(|error| panic!("{at}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET /version HTTP/1.0\r\n\r\n").unwrap();
    let mut said = Vec::new();
    // A reset is a refusal too.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// The fingerprint of what a port serves, in OpenSSL's words.
fn served(at: &str) -> String {
    let script = "openssl s_client -connect \"$0\" </dev/null 2>/dev/null | \
                  openssl x509 -noout -fingerprint -sha256";
    stdout(Command::new("sh").args(["-c", script, at])).trim().to_owned()
}

fn programs() -> Option<PathBuf> {
    need("etcdctl")?;
    need("openssl")?;
    need("etcd")
}

#[test]
fn one_member_serves_tls_only_from_every_form() {
    let Some(etcd) = programs() else { return };
    let mut members = Members::declared(1, Where::ControlPlane);
    for form in ["args", "env", "config"] {
        let text = members.flags("etcd1", &["etcd", "--format", form]);
        let data = members.data(&format!("etcd1-{form}"));
        let file = members.folder.path().join(form);
        let command = match form {
            "args" => {
                let mut command = Command::new(&etcd);
                command.args(text.lines()).arg("--data-dir").arg(&data);
                command
            }
            "env" => {
                fs::write(&file, text).unwrap();
                let mut command = Command::new("sh");
                let script = "set -a; . \"$0\"; exec \"$1\" --data-dir \"$2\"";
                command.args(["-c", script]).args([&file, &etcd, &data]);
                command
            }
            _ => {
                let more = format!("data-dir: {}\n", data.display());
                fs::write(&file, text + &more).unwrap();
                let mut command = Command::new(&etcd);
                command.arg("--config-file").arg(&file);
                command
            }
        };
        members.start(command, "etcd1");
        members.wait();
        members.assert_tls_only();
        members.processes.clear();
    }
}

#[test]
fn three_members_find_each_other() {
    let Some(etcd) = programs() else { return };
    for place in [Where::ControlPlane, Where::OwnHosts] {
        let mut members = Members::declared(3, place);
        for (host, _) in members.hosts.clone() {
            let mut command = Command::new(&etcd);
            command.args(members.flags(&host, &["etcd"]).lines());
            command.arg("--data-dir").arg(members.data(&host));
            // Test machines are slow and shared; a lost election is no finding here.
            command.args(["--heartbeat-interval=300", "--election-timeout=3000"]);
            members.start(command, &host);
        }
        members.wait();
        members.assert_tls_only();
        let put = members.etcdctl("etcd1", &["put", "a", "b"]);
        assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
        let listed = members.etcdctl("etcd3", &["member", "list"]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(listed.lines().count(), 3, "{listed}");
        assert!(!listed.contains("http://"), "{listed}");
        let got = members.etcdctl("etcd2", &["get", "a"]);
        assert_eq!(String::from_utf8_lossy(&got.stdout), "a\nb\n");
        let tree = members.tree("etcd1");
        assert!(Path::new(&tree).join("pki/etcd/peer.crt").is_file());
    }
}
