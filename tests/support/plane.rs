//! A control plane on a [`Machine`]: every component with its command line as it is found in production,
//! because paths, addresses and ports there are production's.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{certkit, cluster, kubernetes, machine::Machine, process::Process, run, stdout};

/// How long anything may take on a small machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(180);

/// The components in the order of starting.
pub const COMPONENTS: [&str; 4] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// The components that run; they end when dropped.
pub struct Plane<'m> {
    machine: &'m Machine,
    programs: BTreeMap<String, PathBuf>,
    processes: BTreeMap<String, Process>,
    _turn: fs::File,
}

impl<'m> Plane<'m> {
    /// Nothing yet; waits until no other control plane of this target folder runs. `None` where a program is
    /// missing, which is then reported.
    #[track_caller]
    pub fn new(machine: &'m Machine) -> Option<Self> {
        let mut programs = BTreeMap::new();
        // kubeadm's manifest wants the etcd of its own release, which is newer than distributions'.
        for program in COMPONENTS.iter().chain(&["kubectl", "kubelet", "fake-cri"]) {
            programs.insert((*program).to_owned(), kubernetes::program(program)?);
        }
        Some(Self { machine, programs, processes: BTreeMap::new(), _turn: cluster::take_turn() })
    }

    /// A control plane of certkit's own: files as `certkit init` writes them, flags as printed, and the roles
    /// of `certkit template rbac`. All components are ready.
    #[track_caller]
    pub fn of_certkit(machine: &'m Machine) -> Option<Self> {
        Self::of_certkit_with(machine, |component| flags(machine, component, "10.0.0.11"))
    }

    /// The same, with other command lines.
    #[track_caller]
    pub fn of_certkit_with(
        machine: &'m Machine,
        arguments: impl Fn(&str) -> Vec<String>,
    ) -> Option<Self> {
        let mut plane = Self::new(machine)?;
        let mut init = certkit();
        init.args([
            "init",
            "--name",
            "prod",
            "--host",
            "cp1=10.0.0.11",
            "--endpoint",
            "10.0.0.11:6443",
        ]);
        run(&mut machine.enter(&init));
        for component in COMPONENTS {
            plane.start(component, &arguments(component));
        }
        plane.wait_ready();
        plane.apply(&stdout(certkit().args(["template", "rbac"])));
        plane.until("admin.conf gets no rights", |plane| {
            let get = &mut plane.kubectl("admin.conf", &["get", "nodes"]);
            get.output().expect("kubectl starts").status.success()
        });
        Some(plane)
    }

    /// Starts a component with these arguments. Another one of that name has to be stopped before.
    #[track_caller]
    pub fn start(&mut self, component: &str, arguments: &[String]) {
        let mut command = Command::new(&self.programs[component]);
        command.args(arguments).env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        // Test machines are slow and shared; a lost election is no finding here.
        match component {
            "etcd" => command.args(["--heartbeat-interval=300", "--election-timeout=3000"]),
            "kube-apiserver" => &mut command,
            _ => command
                .args(["--leader-elect-lease-duration=60s", "--leader-elect-renew-deadline=55s"]),
        };
        self.spawn(component, &command);
    }

    /// Starts anything else beside them.
    #[track_caller]
    pub fn spawn(&mut self, name: &str, command: &Command) {
        let log = self.machine.log_of(name);
        let process = Process::start(&mut self.machine.enter(command), &log);
        assert!(self.processes.insert(name.into(), process).is_none(), "{name} runs already");
    }

    /// Ends a component as a service manager does.
    #[track_caller]
    pub fn stop(&mut self, name: &str) {
        self.processes.remove(name).unwrap_or_else(|| panic!("{name} does not run")).end();
    }

    /// Ends a component at once, as a power cut does. An apiserver that is asked to end waits for its clients first.
    #[track_caller]
    pub fn kill(&mut self, name: &str) {
        drop(self.processes.remove(name).unwrap_or_else(|| panic!("{name} does not run")));
    }

    /// Ends every component and starts it again, with what these arguments are now.
    #[track_caller]
    pub fn restart(&mut self, arguments: impl Fn(&str) -> Vec<String>) {
        // Their successors need not wait for the leases of these two to end.
        for component in ["kube-scheduler", "kube-controller-manager"] {
            self.stop(component);
            self.super_admin(&["-n", "kube-system", "delete", "lease", component]);
        }
        for component in ["kube-apiserver", "etcd"] {
            self.stop(component);
        }
        for component in COMPONENTS {
            self.start(component, &arguments(component));
        }
        self.wait_ready();
    }

    /// What it logged.
    pub fn log(&self, name: &str) -> String {
        self.processes[name].log()
    }

    /// The process ids.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        self.processes.iter().map(|(name, process)| (name.clone(), process.pid())).collect()
    }

    /// Waits until the control plane works: the apiserver is ready, and somebody leads.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.until("the apiserver is not ready", |plane| {
            plane.super_admin_may(&["get", "--raw", "/readyz"])
        });
        for component in ["kube-controller-manager", "kube-scheduler"] {
            let lease = ["-n", "kube-system", "get", "lease", component];
            self.until(&format!("nobody leads as {component}"), |plane| {
                plane.super_admin_may(&lease)
            });
        }
        // Without one no pod is let in; a controller makes it once there is the namespace.
        for namespace in ["default", "kube-system"] {
            let account = ["-n", namespace, "get", "serviceaccount", "default"];
            self.until(&format!("no service account in {namespace}"), |plane| {
                plane.super_admin_may(&account)
            });
        }
    }

    /// Waits until a kubelet has registered its node and says how it does.
    #[track_caller]
    pub fn wait_for_node(&mut self, kubelet: &mut Kubelet, name: &str) {
        let condition = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        self.until(&format!("node {name} is not ready"), |plane| {
            kubelet.assert_running();
            let get =
                &mut plane.kubectl("super-admin.conf", &["get", "node", name, "-o", condition]);
            get.output().expect("kubectl starts").stdout == b"True"
        });
    }

    /// Asks again and again until it is so, while all that was started runs.
    #[track_caller]
    pub fn until(&mut self, otherwise: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            for (name, process) in &mut self.processes {
                assert!(process.is_running(), "{name} ended:\n{}", process.log());
            }
            assert!(Instant::now() < end, "{otherwise}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// `kubectl ARGUMENTS` with this kubeconfig of `/etc/kubernetes`.
    pub fn kubectl(&self, kubeconfig: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.programs["kubectl"]);
        // Its cache of the API is this machine's own.
        command.env("HOME", self.machine.folder()).env_remove("KUBECONFIG");
        command.arg("--kubeconfig").arg(Path::new("/etc/kubernetes").join(kubeconfig));
        command.args(["--request-timeout=20s"]).args(arguments);
        self.machine.enter(&command)
    }

    /// What kubectl prints when the super-admin runs it, which must succeed.
    #[track_caller]
    pub fn super_admin(&self, arguments: &[&str]) -> String {
        stdout(&mut self.kubectl("super-admin.conf", arguments))
    }

    fn super_admin_may(&self, arguments: &[&str]) -> bool {
        let output = self.kubectl("super-admin.conf", arguments).output();
        output.expect("kubectl starts").status.success()
    }

    /// Has the super-admin apply this.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        let file = self.machine.folder().join("apply.yaml");
        fs::write(&file, yaml).expect("a file");
        let file = file.to_str().expect("UTF-8");
        run(&mut self.kubectl("super-admin.conf", &["apply", "-f", file]));
    }
}

/// What a kubelet needs besides its own command line where it has no containers and may not touch control
/// groups.
pub const KUBELET_HERE: &[&str] = &[
    "--container-runtime-endpoint=unix:///var/lib/cri.sock",
    "--volume-plugin-dir=/var/lib/kubelet/plugins",
    "--fail-cgroupv1=false",
    "--cgroups-per-qos=false",
    "--enforce-node-allocatable=",
    "--cgroup-driver=cgroupfs",
];

/// A real kubelet on a machine, with a runtime that runs no container, and takes `/var/log/containers.log` for
/// what each of them has logged; both end when dropped.
pub struct Kubelet {
    kubelet: Process,
    runtime: Process,
}

impl Kubelet {
    /// Starts it with these arguments.
    #[track_caller]
    pub fn start(machine: &Machine, arguments: &[String]) -> Self {
        let socket = machine.lib().join("cri.sock");
        // Left over by one that was ended.
        let _ = fs::remove_file(&socket);
        let mut runtime = Command::new(program("fake-cri"));
        runtime.args(["/var/lib/cri.sock", "/var/log/containers.log"]);
        let runtime = Process::start(&mut machine.enter(&runtime), &machine.log_of("fake-cri"));
        while !socket.exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut kubelet = Command::new(program("kubelet"));
        kubelet.args(arguments).args(KUBELET_HERE);
        let kubelet = Process::start(&mut machine.enter(&kubelet), &machine.log_of("kubelet"));
        Self { kubelet, runtime }
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.kubelet.log()
    }

    /// Ends both at once.
    pub fn stop(&mut self) {
        self.kubelet.kill();
        self.runtime.kill();
    }

    /// Fails, with its log, if it has ended.
    #[track_caller]
    pub fn assert_running(&mut self) {
        assert!(self.kubelet.is_running(), "the kubelet ended:\n{}", self.kubelet.log());
    }
}

/// A program that was asked for before.
#[track_caller]
fn program(name: &str) -> PathBuf {
    kubernetes::program(name).unwrap_or_else(|| panic!("{name} is not there"))
}

/// The command line of a static pod.
#[track_caller]
pub fn manifest(machine: &Machine, component: &str) -> Vec<String> {
    let file = machine.kubernetes().join(format!("manifests/{component}.yaml"));
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let after = text.lines().skip_while(|line| !line.contains("- command:")).skip(1);
    let list = after.map_while(|line| line.trim_start().strip_prefix("- ").map(str::to_owned));
    let mut words: Vec<String> = list.collect();
    assert_eq!(words.first().map(String::as_str), Some(component), "{text}");
    words.remove(0);
    assert!(words.len() > 3 && words.iter().all(|word| word.starts_with("--")), "{words:?}");
    words
}

/// What `certkit flags COMPONENT` prints on the machine, and after it what certkit's output leaves open.
#[track_caller]
pub fn flags(machine: &Machine, component: &str, address: &str) -> Vec<String> {
    let mut command = certkit();
    command.args(["flags", component]);
    let printed = stdout(&mut machine.enter(&command));
    let mut flags: Vec<String> = printed.lines().map(str::to_owned).collect();
    let open: &[(&str, String)] = match component {
        "etcd" => &[
            ("--name", "cp1".into()),
            ("--data-dir", "/var/lib/etcd".into()),
            ("--listen-client-urls", format!("https://127.0.0.1:2379,https://{address}:2379")),
            ("--advertise-client-urls", format!("https://{address}:2379")),
            ("--listen-peer-urls", format!("https://{address}:2380")),
            ("--initial-advertise-peer-urls", format!("https://{address}:2380")),
            ("--initial-cluster", format!("cp1=https://{address}:2380")),
        ],
        "kube-apiserver" => &[("--advertise-address", address.into())],
        _ => &[],
    };
    for (flag, value) in open {
        if !flags.iter().any(|line| line.starts_with(&format!("{flag}="))) {
            flags.push(format!("{flag}={value}"));
        }
    }
    flags
}
