//! Real etcd members, started from the flags that certkit emits.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use super::process::Process;

/// A member's process; ended when dropped.
pub struct Member {
    /// Its name, which is its host's.
    pub name: String,
    /// Its address on the loopback network.
    pub address: String,
    /// Where clients connect.
    pub client_port: u16,
    /// Where peers connect.
    pub peer_port: u16,
    /// The folder that is its host's `/etc/kubernetes`.
    pub tree: PathBuf,
    process: Process,
}

/// What a member is started with besides certkit's flags.
pub struct Plan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: &'a str,
    /// Client and peer port.
    pub ports: (u16, u16),
    /// `--initial-cluster`
    pub cluster: &'a str,
    /// Its host's tree.
    pub tree: &'a Path,
    /// A folder for its data and log.
    pub data: &'a Path,
    /// certkit's flags for it, as printed.
    pub flags: &'a str,
}

impl Member {
    /// Starts it; [`Member::wait`] says when it answers.
    pub fn start(program: &Path, plan: &Plan<'_>) -> Self {
        let (client_port, peer_port) = plan.ports;
        let url = |port: u16| format!("https://{}:{port}", plan.address);
        let mut command = Command::new(program);
        command
            .args(plan.flags.lines())
            .args(["--name", plan.name])
            .arg("--data-dir")
            .arg(plan.data.join(format!("{}.etcd", plan.name)))
            .args(["--listen-client-urls", &url(client_port)])
            .args(["--advertise-client-urls", &url(client_port)])
            .args(["--listen-peer-urls", &url(peer_port)])
            .args(["--initial-advertise-peer-urls", &url(peer_port)])
            .args(["--initial-cluster", plan.cluster])
            // Test machines are slow and shared; a lost election is no finding here.
            .args(["--heartbeat-interval", "300", "--election-timeout", "3000"])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        let log = plan.data.join(format!("{}.log", plan.name));
        Self {
            name: plan.name.into(),
            address: plan.address.into(),
            client_port,
            peer_port,
            tree: plan.tree.into(),
            process: Process::start(&mut command, &log),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Where clients connect.
    pub fn client(&self) -> SocketAddr {
        format!("{}:{}", self.address, self.client_port).parse().expect("an address")
    }

    /// Waits until its client port accepts connections.
    pub fn wait(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect_timeout(&self.client(), Duration::from_secs(1)).is_err() {
            assert!(self.is_running(), "etcd {} ended:\n{}", self.name, self.log());
            assert!(Instant::now() < end, "etcd {} does not answer:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// etcdctl with these credentials against this member; relative files are of its tree.
    pub fn etcdctl(&self, credentials: &[&str], arguments: &[&str]) -> Output {
        self.etcdctl_at(self.client_port, credentials, arguments)
    }

    /// The same against any port of its address.
    pub fn etcdctl_at(&self, port: u16, credentials: &[&str], arguments: &[&str]) -> Output {
        Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .current_dir(&self.tree)
            .arg(format!("--endpoints=https://{}:{port}", self.address))
            .args(["--dial-timeout=2s", "--command-timeout=10s"])
            .args(credentials)
            .args(arguments)
            .output()
            .expect("etcdctl starts")
    }
}

/// Two ports of this address that nothing listens on.
pub fn free_ports(address: &str) -> (u16, u16) {
    let bind = || std::net::TcpListener::bind((address, 0)).expect("a free port");
    let (a, b) = (bind(), bind());
    (a.local_addr().expect("bound").port(), b.local_addr().expect("bound").port())
}

/// The certificate for health checks, as etcdctl's flags.
pub const HEALTHCHECK: &[&str] = &[
    "--cacert=pki/etcd/ca-bundle.crt",
    "--cert=pki/etcd/healthcheck-client.crt",
    "--key=pki/etcd/healthcheck-client.key",
];

/// A three-member cluster on 127.0.0.1 to 127.0.0.3, with the workspace it was made from.
pub struct Cluster {
    /// The workspace: `hosts/etcd1` to `hosts/etcd3`.
    pub workspace: PathBuf,
    /// The members.
    pub members: Vec<Member>,
    folder: tempfile::TempDir,
}

/// Makes a PKI for three etcd hosts and one control-plane host, and starts the three members from what
/// `certkit flags` prints. `declared` is added to the declaration.
pub fn three(program: &Path, declared: &str) -> Cluster {
    let folder = super::temp_dir();
    let workspace = folder.path().join("pki");
    let file = folder.path().join("cluster.yaml");
    std::fs::write(
        &file,
        format!(
            "apiVersion: certkit/v1\nkind: Cluster\nname: test\n\
             controlPlane:\n- {{name: cp1, addresses: [127.0.0.9]}}\n\
             etcd:\n- {{name: etcd1, addresses: [127.0.0.1]}}\n- {{name: etcd2, addresses: [127.0.0.2]}}\n\
             - {{name: etcd3, addresses: [127.0.0.3]}}\n{declared}"
        ),
    )
    .expect("declaration");
    super::run(
        super::certkit().arg("init").arg("--dir").arg(&workspace).arg("--config").arg(&file),
    );
    let hosts: Vec<(String, String, (u16, u16))> = (1..=3)
        .map(|n| {
            let address = format!("127.0.0.{n}");
            let ports = free_ports(&address);
            (format!("etcd{n}"), address, ports)
        })
        .collect();
    let cluster: Vec<String> = hosts
        .iter()
        .map(|(name, address, (_, peer))| format!("{name}=https://{address}:{peer}"))
        .collect();
    let cluster = cluster.join(",");
    let mut members: Vec<Member> = hosts
        .iter()
        .map(|(name, address, ports)| {
            let tree = workspace.join("hosts").join(name);
            let flags = super::stdout(
                super::certkit()
                    .args(["flags", "etcd", "--host", name, "--dir"])
                    .arg(&workspace)
                    .arg("--host-dir")
                    .arg(&tree),
            );
            Member::start(
                program,
                &Plan {
                    name,
                    address,
                    ports: *ports,
                    cluster: &cluster,
                    tree: &tree,
                    data: folder.path(),
                    flags: &flags,
                },
            )
        })
        .collect();
    members.iter_mut().for_each(Member::wait);
    Cluster { workspace, members, folder }
}

impl Cluster {
    /// A folder for what a test writes beside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until every member says it is healthy.
    pub fn wait_healthy(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        for member in &self.members {
            loop {
                let output = member.etcdctl(HEALTHCHECK, &["endpoint", "health"]);
                if output.status.success() {
                    break;
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(Instant::now() < end, "{}: {said}\n{}", member.name, member.log());
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}
