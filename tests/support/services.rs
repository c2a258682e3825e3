//! etcd and the API on a [`Fleet`]'s hosts: components with the flags that certkit prints for them, and a `systemctl` on
//! every host that has this service manager restart them.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use super::{cluster, fleet::Fleet, kubernetes, process::Process, stdout};

/// In the order of starting.
const COMPONENTS: [&str; 2] = ["etcd", "kube-apiserver"];

/// How often it is looked for something to restart.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a control plane of three may take to come up on a small machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(240);

type Running = Arc<Mutex<BTreeMap<(String, String), Process>>>;

/// What runs; it ends when dropped.
pub struct Services {
    running: Running,
    over: Arc<AtomicBool>,
    manager: Option<JoinHandle<()>>,
    kubectl: PathBuf,
    _turn: fs::File,
}

/// Who is told before a component ends and once it was started again.
pub type Hears = Arc<dyn Fn(&str, &str, bool) + Send + Sync>;

impl Services {
    /// Starts every component on these hosts, and whatever restarts them: `hears` is told host, component, and whether it
    /// is back. `None` where a program is missing, which is then reported.
    #[track_caller]
    pub fn start(fleet: &Fleet, hosts: &[&str], hears: Hears) -> Option<Self> {
        let mut programs = BTreeMap::new();
        for component in COMPONENTS {
            programs.insert(component, kubernetes::program(component)?);
        }
        let kubectl = kubernetes::program("kubectl")?;
        let turn = cluster::take_turn();
        let mut commands: BTreeMap<(String, String), (Command, PathBuf)> = BTreeMap::new();
        for host in hosts {
            let machine = fleet.host(host);
            for component in COMPONENTS {
                let mut command = Command::new(&programs[component]);
                command.args(
                    stdout(&mut fleet.certkit(&["flags", component, "--host", host])).lines(),
                );
                command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
                // Test machines are slow and shared; a lost election is no finding here.
                command.args(match component {
                    "etcd" => &[
                        "--data-dir=/var/lib/etcd",
                        "--heartbeat-interval=300",
                        "--election-timeout=3000",
                    ][..],
                    // One that ends waits so long for requests, by default a minute.
                    _ => &["--request-timeout=5s"],
                });
                let key = ((*host).to_owned(), component.to_owned());
                commands.insert(key, (machine.enter(&command), machine.log_of(component)));
            }
            fleet.install(
                host,
                "systemctl",
                // What does not run is left alone, as systemd does.
                "#!/bin/sh\n# try-restart UNIT, done once the manager has taken the request away\n\
                 case $2 in etcd.* | kube-apiserver.*) ;; *) exit 0 ;; esac\n\
                 f=\"$(dirname \"$0\")/restart-$2\"; touch \"$f\"; while [ -e \"$f\" ]; do sleep 0.05; done\n",
            );
        }
        let running = Running::default();
        for component in COMPONENTS {
            for host in hosts {
                let key = ((*host).to_owned(), component.to_owned());
                let (command, log) = commands.get_mut(&key).expect("made above");
                running.lock().expect("nobody panics").insert(key, Process::start(command, log));
            }
        }
        let over = Arc::<AtomicBool>::default();
        let folders: BTreeMap<String, PathBuf> =
            hosts.iter().map(|host| ((*host).to_owned(), fleet.programs(host))).collect();
        let (theirs, is_over) = (Arc::clone(&running), Arc::clone(&over));
        let manager = std::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                for (host, folder) in &folders {
                    for component in COMPONENTS {
                        let request = folder.join(format!("restart-{component}.service"));
                        if !request.exists() {
                            continue;
                        }
                        let key = (host.clone(), component.to_owned());
                        hears(host, component, false);
                        let was = theirs.lock().expect("nobody panics").remove(&key);
                        was.map(Process::end);
                        let (command, log) = commands.get_mut(&key).expect("made above");
                        let process = Process::start(command, log);
                        theirs.lock().expect("nobody panics").insert(key, process);
                        hears(host, component, true);
                        let _ = fs::remove_file(request);
                    }
                }
                sleep(PAUSE);
            }
        });
        Some(Self { running, over, manager: Some(manager), kubectl, _turn: turn })
    }

    /// kubectl on the operator's machine, as the super-admin of the workspace.
    pub fn kubectl(&self, fleet: &Fleet, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("HOME", fleet.operator.folder()).env_remove("KUBECONFIG");
        command.arg("--kubeconfig").arg(fleet.workspace().join("super-admin.conf"));
        command.arg("--request-timeout=30s").args(arguments);
        fleet.operator.enter(&command)
    }

    /// Waits until every apiserver says that it is ready.
    #[track_caller]
    pub fn wait_ready(&self, fleet: &Fleet, addresses: &[&str]) {
        for address in addresses {
            let server = format!("--server=https://{address}:6443");
            let end = Instant::now() + PATIENCE;
            let mut ask = self.kubectl(fleet, &[&server, "get", "--raw", "/readyz"]);
            while !ask.output().expect("kubectl starts").status.success() {
                self.assert_running();
                assert!(Instant::now() < end, "{address} is not ready");
                sleep(Duration::from_millis(300));
            }
        }
    }

    /// Fails, with its log, when a component has ended.
    #[track_caller]
    pub fn assert_running(&self) {
        for ((host, component), process) in self.running.lock().expect("nobody panics").iter_mut() {
            assert!(process.is_running(), "{component} of {host} ended:\n{}", process.log());
        }
    }

    /// The process ids, by host and component.
    pub fn pids(&self) -> BTreeMap<(String, String), u32> {
        let running = self.running.lock().expect("nobody panics");
        running.iter().map(|(key, process)| (key.clone(), process.pid())).collect()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(manager) = self.manager.take() {
            // What went wrong there has ended the test already.
            let _ = manager.join();
        }
        self.running.lock().map(|mut running| running.clear()).unwrap_or_default();
    }
}
