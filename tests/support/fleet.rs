//! An operator's machine and hosts, each with its own network, mounts and `/etc`, and an OpenSSH server on every host:
//! what `certkit deploy` finds in production.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{certkit, machine::Machine, need, process::Process, run, run_to_exit};

/// The operator's address.
const OPERATOR: &str = "10.90.0.1";

/// The machines; gone when dropped.
pub struct Fleet {
    /// The operator's.
    pub operator: Machine,
    hosts: BTreeMap<String, Machine>,
    servers: BTreeMap<String, Process>,
}

impl Fleet {
    /// An operator and these hosts, by name and address below 10.90. `None` where something is missing, which is then
    /// reported.
    #[track_caller]
    pub fn boot(hosts: &[(&str, &str)]) -> Option<Self> {
        for program in ["sshd", "ssh", "ssh-keygen"] {
            need(program)?;
        }
        let operator = Machine::boot(&[])?;
        let on = |machine: &Machine, words: &str| {
            let mut command = Command::new("sh");
            command.args(["-ec", words]);
            run(&mut machine.enter(&command));
        };
        on(
            &operator,
            &format!(
                "ip link add br0 type bridge; ip address add {OPERATOR}/16 dev br0; ip link set br0 up"
            ),
        );
        let mut machines = BTreeMap::new();
        for (number, (name, address)) in hosts.iter().enumerate() {
            let machine = operator.apart(hosts, address);
            run(Command::new("ip").args([
                "link",
                "add",
                &format!("host{number}"),
                "netns",
                &operator.holder().to_string(),
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &machine.holder().to_string(),
            ]));
            on(&operator, &format!("ip link set host{number} master br0 up"));
            on(
                &machine,
                &format!("ip link set eth0 up; ip route add 10.90.0.0/16 dev eth0 src {address}"),
            );
            machines.insert((*name).to_owned(), machine);
        }
        let mut fleet = Self { operator, hosts: machines, servers: BTreeMap::new() };
        fleet.make_keys(hosts);
        for (name, _) in hosts {
            fleet.start_ssh(name);
        }
        for (name, _) in hosts {
            fleet.wait_for_ssh(name);
        }
        Some(fleet)
    }

    /// The operator's folder for keys and the client's configuration.
    fn keys(&self) -> PathBuf {
        self.operator.folder().join("ssh")
    }

    fn make_keys(&self, hosts: &[(&str, &str)]) {
        let keys = self.keys();
        fs::create_dir_all(&keys).expect("a folder");
        fs::create_dir_all("/run/sshd").expect("what sshd wants");
        let make = |path: &Path| {
            let path = path.to_str().expect("UTF-8");
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", path]));
        };
        make(&keys.join("id"));
        let mut known = String::new();
        for (name, address) in hosts {
            let folder = self.hosts[*name].folder().join("sshd");
            fs::create_dir_all(&folder).expect("a folder");
            make(&folder.join("key"));
            fs::copy(keys.join("id.pub"), folder.join("authorized")).expect("copied");
            let public = fs::read_to_string(folder.join("key.pub")).expect("a key");
            known += &format!("{name},{address} {public}");
            let program = certkit().get_program().to_owned();
            let path = Path::new(&program).parent().expect("a folder").display().to_string();
            let text = format!(
                "ListenAddress {address}:22\nHostKey {0}/key\nAuthorizedKeysFile {0}/authorized\n\
                 PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nMaxStartups 500\n\
                 SetEnv PATH={1}:{path}:/usr/sbin:/usr/bin:/sbin:/bin\n",
                folder.display(),
                self.programs(name).display()
            );
            fs::write(folder.join("sshd_config"), text).expect("written");
        }
        fs::write(keys.join("known"), known).expect("written");
        let text = format!(
            "Host *\n  User root\n  IdentityFile {0}/id\n  IdentitiesOnly yes\n  UserKnownHostsFile {0}/known\n  \
             GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout 3\n  LogLevel ERROR\n",
            keys.display()
        );
        let named = hosts.iter().map(|(name, ip)| format!("Host {name}\n  HostName {ip}\n"));
        fs::write(keys.join("config"), named.collect::<String>() + &text).expect("written");
    }

    /// Starts the server of a host.
    #[track_caller]
    pub fn start_ssh(&mut self, name: &str) {
        let machine = &self.hosts[name];
        let mut command = Command::new(need("sshd").expect("looked for"));
        command.args(["-D", "-e", "-f"]).arg(machine.folder().join("sshd/sshd_config"));
        let process = Process::start(&mut machine.enter(&command), &machine.log_of("sshd"));
        self.servers.insert(name.to_owned(), process);
    }

    /// Waits until it answers.
    pub fn wait_for_ssh(&self, name: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.ssh(name, "true").status.success() {
            assert!(Instant::now() < end, "{name}: {:?}", self.ssh(name, "true"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends the server of a host, with all that it has begun.
    pub fn stop_ssh(&mut self, name: &str) {
        drop(self.servers.remove(name));
    }

    /// What a host says to a command.
    pub fn ssh(&self, name: &str, words: &str) -> Output {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.config()).args([name, words]);
        self.operator.enter(&command).output().expect("ssh starts")
    }

    /// A host's machine.
    pub fn host(&self, name: &str) -> &Machine {
        &self.hosts[name]
    }

    /// certkit on the operator's machine, on its workspace.
    pub fn certkit(&self, arguments: &[&str]) -> Command {
        let mut command = certkit();
        command.args(arguments).arg("--dir").arg(self.workspace());
        self.operator.enter(&command)
    }

    /// `certkit deploy` by the operator's ssh.
    pub fn deploy(&self, arguments: &[&str]) -> Command {
        let ssh = format!("ssh -F {}", self.config().display());
        self.certkit(&[&["deploy", "--ssh", &ssh], arguments].concat())
    }

    /// Has a host take a delivery of this description and these files; what it says to people, when it ends with this code.
    #[track_caller]
    pub fn send(
        &self,
        host: &str,
        words: &[&str],
        mut description: Value,
        files: &[(&str, &[u8])],
        code: i32,
    ) -> String {
        let folder = super::temp_dir();
        let mut listed = Vec::new();
        for (path, content) in files {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(&file, content).expect("written");
            let sum = super::stdout(Command::new("sha256sum").arg(&file));
            let sum = sum.split(' ').next().expect("a sum");
            listed.push(serde_json::json!({"path": path, "sha256": sum, "sent": true}));
        }
        description["files"] = listed.into();
        fs::write(folder.path().join("delivery.json"), description.to_string()).expect("written");
        let mut archive = Command::new("tar");
        archive.args(["-cf", "stream.tar", "delivery.json"]).current_dir(folder.path());
        run(archive.args(files.iter().map(|(path, _)| path)));
        let mut receive = certkit();
        receive.args(words).args(["--dir", "/etc/kubernetes"]);
        let mut receive = self.host(host).enter(&receive);
        receive.stdin(fs::File::open(folder.path().join("stream.tar")).expect("there"));
        String::from_utf8_lossy(&run_to_exit(&mut receive, code).stderr).into_owned()
    }

    /// The operator's workspace.
    pub fn workspace(&self) -> PathBuf {
        self.operator.folder().join("workspace")
    }

    /// A host's own folder of programs, the first in its PATH.
    pub fn programs(&self, name: &str) -> PathBuf {
        self.hosts[name].folder().join("bin")
    }

    /// Puts a program for sh there.
    pub fn install(&self, name: &str, program: &str, text: &str) {
        fs::create_dir_all(self.programs(name)).expect("a folder");
        super::write_script(&self.programs(name).join(program), text);
    }

    /// The configuration of the operator's ssh.
    pub fn config(&self) -> PathBuf {
        self.keys().join("config")
    }

    /// Takes certkit out of a host's PATH.
    pub fn forget_certkit(&self, name: &str) {
        let file = self.hosts[name].folder().join("sshd/sshd_config");
        let text = fs::read_to_string(&file).expect("a configuration");
        let line = |line: &str| match line.starts_with("SetEnv ") {
            true => "SetEnv PATH=/usr/sbin:/usr/bin:/sbin:/bin\n".to_owned(),
            false => format!("{line}\n"),
        };
        fs::write(&file, text.lines().map(line).collect::<String>()).expect("written");
        // It reads that again.
        let pid = self.servers[name].pid().to_string();
        run(Command::new("kill").args(["-HUP", &pid]));
        std::thread::sleep(Duration::from_millis(500));
        self.wait_for_ssh(name);
    }

    /// Has the client take another key for a host's: somebody stands between.
    pub fn forge_key(&self, name: &str) {
        let known = self.keys().join("known");
        let text = fs::read_to_string(&known).expect("known");
        let operator = fs::read_to_string(self.keys().join("id.pub")).expect("a key");
        let line = |line: &str| match line.starts_with(&format!("{name},")) {
            true => format!("{} {operator}", line.split(' ').next().unwrap_or_default()),
            false => format!("{line}\n"),
        };
        fs::write(known, text.lines().map(line).collect::<String>()).expect("written");
    }
}

/// Every file of a tree, but certkit's own notes.
pub fn tree(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.ends_with(".certkit") {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let mode = path.metadata().expect("metadata").permissions().mode() & 0o7777;
                    let name = path.strip_prefix(root).expect("below").display().to_string();
                    all.insert(name, (mode, fs::read(&path).expect("readable")));
                }
            }
        }
    }
    all
}

/// A JSON document.
pub fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// What `deploy` says of each host: its name and state.
pub fn states(report: &Value) -> Vec<(String, String)> {
    let hosts = report["hosts"].as_array().expect("hosts").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    hosts.map(|host| (text(&host["host"]), text(&host["state"]))).collect()
}

/// The same of one host.
pub fn state(report: &Value, host: &str) -> String {
    let all = states(report);
    let found = all.into_iter().find(|(name, _)| name == host);
    found.unwrap_or_else(|| panic!("{host}: {report}")).1
}

/// What a command says as JSON, when it ends with this code.
#[track_caller]
pub fn report(command: &mut Command, code: i32) -> Value {
    document(&stdout_to(command.args(["-o", "json"]), code))
}

/// What a command prints when it ends with this code.
#[track_caller]
pub fn stdout_to(command: &mut Command, code: i32) -> String {
    String::from_utf8(run_to_exit(command, code).stdout).expect("UTF-8")
}
