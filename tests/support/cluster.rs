//! A real control plane, started from what certkit emits: files as written, flags as printed.
//!
//! ```ignore
//! let Some(mut cluster) = Cluster::start(Options { hosts: 3, ..Options::default() }) else { return };
//! cluster.super_admin(&["get", "namespaces"]);
//! run(certkit().args(["rotate", "--all", "--dir"]).arg(&cluster.dir));
//! cluster.restart(0, Component::ApiServer);
//! ```
//!
//! Each cluster has loopback addresses of its own, so that every component has the port it has in
//! production. One control plane at a time keeps a small machine busy enough: [`Cluster::start`] waits for
//! the others of this target folder, until they end or only wait themselves ([`Cluster::let_others_run`]).
//!
//! What the components logged is in `certkit-logs/TEST/` of the target folder, and stays there when the test
//! fails.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{certkit, kubernetes, need, process::Process, run, stdout, temp_dir};

/// How long a control plane may take for a step on a small machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(180);

/// After so long without a renewal of its lease a controller-manager or scheduler gives up and ends.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(30);

/// What the hosts of a workspace call their tree. On one machine they cannot each have `/etc/kubernetes`:
/// theirs is the folder in which their processes run.
pub const HOST_DIR: &str = "/proc/self/cwd";

/// What every host of the control plane runs, in the order of starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
}

/// Where a component listens, and what it has to show there.
pub struct Listener {
    pub port: u16,
    /// The certificate, below the host's tree.
    pub certificate: &'static str,
}

impl Component {
    pub const ALL: [Self; 4] =
        [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler];

    /// The program, which is what `certkit flags` calls it too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    /// Kubernetes' own ports.
    pub fn listeners(self) -> &'static [Listener] {
        match self {
            Self::Etcd => &[
                Listener { port: 2379, certificate: "pki/etcd/server.crt" },
                Listener { port: 2380, certificate: "pki/etcd/peer.crt" },
            ],
            Self::ApiServer => &[Listener { port: 6443, certificate: "pki/apiserver.crt" }],
            Self::ControllerManager => {
                &[Listener { port: 10257, certificate: "pki/controller-manager.crt" }]
            }
            Self::Scheduler => &[Listener { port: 10259, certificate: "pki/scheduler.crt" }],
        }
    }
}

/// What a test wants.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// How many hosts, all of the control plane with etcd beside it: 1, or more for a workspace.
    pub hosts: u8,
    /// Further lines of `certkit.yaml`.
    pub declared: &'a str,
    /// How long ago the PKI was made, as faketime says it.
    pub ago: Option<&'a str>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { hosts: 1, declared: "", ago: None }
    }
}

/// A host: an address of the loopback network, and the folder that is its `/etc/kubernetes`.
pub struct Host {
    pub name: String,
    pub address: Ipv4Addr,
    pub tree: PathBuf,
    processes: BTreeMap<Component, Process>,
}

/// A running control plane; it ends when dropped.
pub struct Cluster {
    /// certkit's DIR: the one host's tree, or the workspace.
    pub dir: PathBuf,
    pub hosts: Vec<Host>,
    programs: BTreeMap<Component, PathBuf>,
    kubectl: PathBuf,
    flags: Vec<(Component, String)>,
    logs: PathBuf,
    folder: tempfile::TempDir,
    _addresses: TcpListener,
    turn: Option<File>,
}

impl Cluster {
    /// Makes the PKI and starts every component on every host: all answer, and the controller-manager and
    /// the scheduler have their leases. `None` where a program is missing, which is then reported.
    #[track_caller]
    pub fn start(options: Options<'_>) -> Option<Self> {
        let mut cluster = Self::prepare(options)?;
        cluster.start_all();
        Some(cluster)
    }

    /// Makes the PKI and starts nothing; [`Cluster::start_all`] does.
    #[track_caller]
    pub fn prepare(options: Options<'_>) -> Option<Self> {
        need("openssl")?;
        let mut programs = BTreeMap::new();
        for component in Component::ALL {
            programs.insert(component, kubernetes::program(component.name())?);
        }
        let kubectl = kubernetes::program("kubectl")?;
        let turn = take_turn();
        let folder = temp_dir();
        let logs = logs();
        let dir = folder.path().join("pki");
        let (addresses, [_, a, b, _]) = claim_addresses();
        let hosts: Vec<Host> = (1..=options.hosts)
            .map(|number| {
                let name = format!("cp{number}");
                let tree = match options.hosts {
                    1 => dir.clone(),
                    _ => dir.join("hosts").join(&name),
                };
                let address = Ipv4Addr::new(127, a, b, 10 + number);
                Host { name, address, tree, processes: BTreeMap::new() }
            })
            .collect();
        let file = folder.path().join("cluster.yaml");
        fs::write(&file, declaration(&hosts, options.declared)).expect("a declaration");
        let mut init = certkit();
        init.arg("init").arg("--dir").arg(&dir).arg("--config").arg(&file);
        run(&mut match options.ago {
            Some(ago) => at_another_time(&need("faketime")?, ago, &init),
            None => init,
        });
        Some(Self {
            dir,
            hosts,
            programs,
            kubectl,
            flags: Vec::new(),
            logs,
            folder,
            _addresses: addresses,
            turn: Some(turn),
        })
    }

    /// Gives a component one more flag on every host, from its next start.
    pub fn add_flag(&mut self, component: Component, flag: String) {
        self.flags.push((component, flag));
    }

    /// Starts every component on every host and waits until all answer and work.
    #[track_caller]
    pub fn start_all(&mut self) {
        for component in Component::ALL {
            // All members of etcd before the first is waited for: alone, none is a quorum.
            for host in 0..self.hosts.len() {
                self.spawn(host, component);
            }
            for host in 0..self.hosts.len() {
                self.wait(host, component);
            }
        }
        self.wait_for_leases();
    }

    /// Starts a component that does not run, and waits until it answers.
    #[track_caller]
    pub fn start_one(&mut self, host: usize, component: Component) {
        self.spawn(host, component);
        self.wait(host, component);
    }

    /// Ends a component as a service manager does, and waits until it has ended.
    #[track_caller]
    pub fn stop(&mut self, host: usize, component: Component) {
        let process = self.hosts[host].processes.remove(&component);
        process.unwrap_or_else(|| panic!("{} is not running", component.name())).end();
    }

    /// Ends it, starts it again with the flags that certkit prints now, and waits until it answers.
    #[track_caller]
    pub fn restart(&mut self, host: usize, component: Component) {
        self.stop(host, component);
        self.start_one(host, component);
    }

    /// Starts again what has ended, as a service manager does, and says what that was. A controller-manager
    /// or scheduler that leads ends by itself when its apiserver is away for [`RENEW_DEADLINE`].
    #[track_caller]
    pub fn revive(&mut self) -> Vec<(usize, Component)> {
        let mut ended = Vec::new();
        for (number, host) in self.hosts.iter_mut().enumerate() {
            for (component, process) in &mut host.processes {
                if !process.is_running() {
                    ended.push((number, *component));
                }
            }
        }
        for (host, component) in &ended {
            self.restart(*host, *component);
        }
        ended
    }

    /// The process ids, by host and component.
    pub fn pids(&self) -> BTreeMap<(String, Component), u32> {
        let mut pids = BTreeMap::new();
        for host in &self.hosts {
            for (component, process) in &host.processes {
                pids.insert((host.name.clone(), *component), process.pid());
            }
        }
        pids
    }

    /// Fails, with its log, when a component has ended.
    #[track_caller]
    pub fn assert_running(&mut self) {
        for host in &mut self.hosts {
            for (component, process) in &mut host.processes {
                let (name, component) = (&host.name, component.name());
                assert!(process.is_running(), "{component} of {name} ended:\n{}", process.log());
            }
        }
    }

    /// What a component logged.
    pub fn log(&self, host: usize, component: Component) -> String {
        self.hosts[host].processes[&component].log()
    }

    /// Where what a further program says goes, and stays when the test fails.
    pub fn log_of(&self, program: &str) -> PathBuf {
        self.logs.join(format!("{program}.log"))
    }

    /// An address of this cluster's network that is no host's.
    pub fn beside(&self) -> Ipv4Addr {
        let [a, b, c, _] = self.hosts[0].address.octets();
        Ipv4Addr::new(a, b, c, 99)
    }

    /// A folder for what a test writes beside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `https://HOST:PORT` of each apiserver.
    pub fn endpoints(&self) -> Vec<String> {
        self.hosts.iter().map(|host| format!("https://{}:6443", host.address)).collect()
    }

    /// kubectl with this kubeconfig of DIR, talking to the server that it names.
    pub fn kubectl(&self, kubeconfig: &str) -> Command {
        let mut command = self.kubectl_alone();
        command.arg("--kubeconfig").arg(self.dir.join(kubeconfig));
        command
    }

    /// kubectl without any kubeconfig.
    pub fn kubectl_alone(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        // Its cache of the API is this cluster's own.
        command.env("HOME", self.folder()).env_remove("KUBECONFIG").current_dir(self.folder());
        command.arg("--request-timeout=60s");
        command
    }

    /// What kubectl prints when the super-admin runs it, which must succeed.
    #[track_caller]
    pub fn super_admin(&self, arguments: &[&str]) -> String {
        stdout(self.kubectl("super-admin.conf").args(arguments))
    }

    /// Applies what `certkit template rbac` prints: from then on admin.conf and the apiserver's client of
    /// kubelets have their rights.
    #[track_caller]
    pub fn apply_rbac(&self) {
        let file = self.folder().join("rbac.yaml");
        fs::write(&file, stdout(certkit().args(["template", "rbac"]))).expect("a file");
        run(self.kubectl("super-admin.conf").args(["apply", "-f"]).arg(&file));
        // The apiserver's authorizer hears of it by a watch.
        let may = || self.kubectl("admin.conf").args(["get", "nodes"]).output().expect("kubectl");
        self.until("admin.conf gets no rights", || may().status.success());
    }

    /// The SHA-256 fingerprint of the certificate that a host shows on a port, in OpenSSL's words; empty where
    /// it shows none.
    pub fn served(&self, host: usize, port: u16) -> String {
        let script = format!(
            "openssl s_client -connect {}:{port} </dev/null 2>/dev/null \
             | openssl x509 -noout -fingerprint -sha256",
            self.hosts[host].address
        );
        let output = Command::new("sh").arg("-c").arg(script).output().expect("sh starts");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The same of a certificate on disk, below the host's tree.
    #[track_caller]
    pub fn on_disk(&self, host: usize, certificate: &str) -> String {
        let path = self.hosts[host].tree.join(certificate);
        fingerprint(&path)
    }

    /// Waits until every listener of every host shows the certificate that is on disk.
    #[track_caller]
    pub fn assert_served_is_on_disk(&mut self) {
        self.assert_running();
        for host in 0..self.hosts.len() {
            for listener in Component::ALL.into_iter().flat_map(Component::listeners) {
                let disk = self.on_disk(host, listener.certificate);
                let what = format!("{}:{}", self.hosts[host].address, listener.port);
                // Watched files are taken up at once, and at the latest after a minute.
                let said = format!("{what} does not show {}", listener.certificate);
                self.until(&said, || self.served(host, listener.port) == disk);
            }
        }
    }

    /// The `spec` of a lease in `kube-system`; null while there is none.
    #[track_caller]
    pub fn lease(&self, name: &str) -> Value {
        let arguments =
            ["-n", "kube-system", "get", "lease", name, "--ignore-not-found", "-o", "json"];
        let said = self.super_admin(&arguments);
        if said.is_empty() {
            return Value::Null;
        }
        let lease: Value = serde_json::from_str(&said).expect("JSON");
        lease["spec"].clone()
    }

    /// Waits until somebody holds the leases of controller-manager and scheduler.
    #[track_caller]
    pub fn wait_for_leases(&self) {
        for component in [Component::ControllerManager, Component::Scheduler] {
            let name = component.name();
            self.until(&format!("nobody leads as {name}"), || {
                self.lease(name)["holderIdentity"].is_string()
            });
        }
    }

    /// Lets the next control plane start: this one is only waited for from now on.
    pub fn let_others_run(&mut self) {
        self.turn = None;
    }

    /// Asks again and again until it is so.
    #[track_caller]
    pub fn until(&self, otherwise: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < end, "{otherwise}; logs: {}", self.logs.display());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    #[track_caller]
    fn spawn(&mut self, number: usize, component: Component) {
        let flags = self.flags_of(number, component);
        let host = &mut self.hosts[number];
        let mut command = Command::new(&self.programs[&component]);
        // See `HOST_DIR`.
        command.args(flags).current_dir(&host.tree);
        command.env("HOME", self.folder.path());
        command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        let log = self.logs.join(format!("{}-{}.log", host.name, component.name()));
        let process = Process::start(&mut command, &log);
        let before = host.processes.insert(component, process);
        assert!(before.is_none(), "{} of {} runs already", component.name(), host.name);
    }

    /// Waits until it answers as healthy. Who asks checks the certificate, and shows one.
    #[track_caller]
    fn wait(&mut self, number: usize, component: Component) {
        let address = self.hosts[number].address;
        let (port, path) = match component {
            // It answers its clients through the apiserver.
            Component::Etcd => (2379, None),
            Component::ApiServer => (6443, Some("/readyz")),
            Component::ControllerManager => (10257, Some("/healthz")),
            Component::Scheduler => (10259, Some("/healthz")),
        };
        let ask = |cluster: &Self| match path {
            Some(path) => cluster
                .kubectl("super-admin.conf")
                .arg(format!("--server=https://{address}:{port}"))
                .args(["get", "--raw", path])
                .output()
                .map(|output| output.status.success()),
            None => Ok(std::net::TcpStream::connect((address, port)).is_ok()),
        };
        let end = Instant::now() + PATIENCE;
        while !ask(self).expect("kubectl starts") {
            let process = self.hosts[number].processes.get_mut(&component).expect("spawned");
            let (name, running) = (component.name(), process.is_running());
            assert!(running, "{name} on {address} ended:\n{}", process.log());
            assert!(
                Instant::now() < end,
                "{name} on {address} does not answer:\n{}",
                process.log()
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// What the component is started with: what certkit prints, what its output leaves open, what the test
    /// wants.
    #[track_caller]
    fn flags_of(&self, number: usize, component: Component) -> Vec<String> {
        let host = &self.hosts[number];
        let name = component.name();
        let mut emit = certkit();
        emit.args(["flags", name, "--host", &host.name, "--dir"]).arg(&self.dir);
        let printed = stdout(&mut emit);
        let mut flags: Vec<String> = printed.lines().map(str::to_owned).collect();
        flags.extend(self.settle(number, component));
        let more = self.flags.iter().filter(|(of, _)| *of == component);
        flags.extend(more.map(|(_, flag)| flag.clone()));
        flags
    }

    /// All that is added to certkit's output: what is not of the PKI, or of this machine alone.
    fn settle(&self, number: usize, component: Component) -> Vec<String> {
        let host = &self.hosts[number];
        let address = host.address;
        match component {
            Component::Etcd => {
                let data = self.folder.path().join(format!("{}.etcd", host.name));
                vec![
                    format!("--data-dir={}", data.display()),
                    // Test machines are slow and shared; a lost election is no finding here.
                    "--heartbeat-interval=300".into(),
                    "--election-timeout=3000".into(),
                ]
            }
            // Kubernetes refuses to publish a loopback address as an endpoint of its own service; nobody
            // dials this one (RFC 5737).
            Component::ApiServer => vec![
                format!("--bind-address={address}"),
                format!("--advertise-address=192.0.2.{}", address.octets()[3]),
            ],
            Component::ControllerManager | Component::Scheduler => vec![
                format!("--bind-address={address}"),
                // As with etcd: on a machine that stood still for ten seconds both would end.
                "--leader-elect-lease-duration=40s".into(),
                format!("--leader-elect-renew-deadline={}s", RENEW_DEADLINE.as_secs()),
            ],
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the components logged: {}", self.logs.display());
        } else {
            // Kept for nobody; left over is no harm either.
            let _ = fs::remove_dir_all(&self.logs);
        }
    }
}

/// The SHA-256 fingerprint of the first certificate of a file, in OpenSSL's words.
#[track_caller]
pub fn fingerprint(path: &Path) -> String {
    let path = path.to_str().expect("UTF-8");
    let said = super::openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", path]);
    said.trim().to_owned()
}

/// The same command, run at another time.
fn at_another_time(faketime: &Path, when: &str, command: &Command) -> Command {
    let mut other = Command::new(faketime);
    other.args(["-f", when]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
}

/// The cluster as an operator declares it.
fn declaration(hosts: &[Host], more: &str) -> String {
    let mut text = format!(
        "apiVersion: certkit/v1\nkind: Cluster\nname: test\nendpoint: {}:6443\ncontrolPlane:\n",
        hosts[0].address
    );
    for host in hosts {
        let _ = writeln!(text, "- {{name: {}, addresses: [{}]}}", host.name, host.address);
    }
    if hosts.len() > 1 {
        let _ = writeln!(text, "hostDir: {HOST_DIR}");
    }
    text + more
}

/// An empty folder for this test's logs.
pub fn logs() -> PathBuf {
    let folder =
        super::target_folder().join("certkit-logs").join(super::test_name().replace("::", "-"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder for logs");
    folder
}

/// Waits until no other control plane of this target folder is at work, or of this lane (`tests/run.sh`); the next one waits
/// until the file is closed. Whoever starts one in another way takes its turn too.
pub fn take_turn() -> File {
    let lane = std::env::var("CERTKIT_TEST_LANE").unwrap_or_default();
    let path = super::target_folder().join(format!("certkit-control-plane{lane}.lock"));
    let file = File::create(path).expect("a file to lock");
    file.lock().expect("a lock");
    file
}

/// A net of the loopback network that no other test uses while the listener is there: `127.A.B.0/24`.
pub fn claim_addresses() -> (TcpListener, [u8; 4]) {
    let first = std::process::id();
    for number in 0..u16::MAX {
        // 127.0 and 127.1 are other people's.
        let [a, b] = (first as u16).wrapping_add(number).to_be_bytes();
        let net = [127, a, b, 0];
        if a < 2 {
            continue;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::new(127, a, b, 1), 6443)) {
            return (listener, net);
        }
    }
    panic!("no net of the loopback network is free");
}
