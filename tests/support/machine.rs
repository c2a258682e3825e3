//! A machine for one test: an `/etc`, `/var/lib` and `/var/log` with nothing in them but what the test puts
//! there, and a network that nobody else is on. What was made for production runs on it with production's
//! paths, addresses and ports, and two tests never meet.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::need;

/// Makes the machine around itself, says so, and keeps it for as long as its standard input is open: at the
/// latest until the test's process is gone.
const BOOT: &str = r#"
set -e
mount --bind "$1/etc" /etc
mount --bind "$1/lib" /var/lib
mount --bind "$1/log" /var/log
for setting in "$1"/kernel/*; do
    mount --bind "$setting" "/proc/sys/$(basename "$setting" | tr : /)"
done
shift
ip link set lo up
for address; do ip address replace "$address" dev lo; done
echo ready
exec cat
"#;

/// What a kubelet sets of the kernel, it would set for everybody on this computer. On the machine it finds
/// it set, and may write what it likes.
const KERNEL: &[(&str, &str)] = &[
    ("kernel:keys:root_maxbytes", "25000000"),
    ("kernel:keys:root_maxkeys", "1000000"),
    ("kernel:panic", "10"),
    ("kernel:panic_on_oops", "1"),
    ("vm:overcommit_memory", "1"),
    ("vm:panic_on_oom", "0"),
];

/// These addresses, and all of the subnet that they are in.
fn of_subnet(names: &[(&str, &str)]) -> Vec<String> {
    names.iter().map(|(_, address)| format!("{address}/24")).collect()
}

/// Files of the real `/etc` without which programs do not know who they are.
const COPIED: &[&str] = &["group", "passwd"];

/// The machine; gone with all that it holds when dropped.
pub struct Machine {
    folder: TempDir,
    logs: PathBuf,
    holder: Child,
}

impl Machine {
    /// A machine on a network of its own, on which these names have these addresses, all of them its own.
    /// `None` after reporting the running test as skipped: a failure on CI.
    #[track_caller]
    pub fn boot(names: &[(&str, &str)]) -> Option<Self> {
        let (unshare, _, _, _) =
            (need("unshare")?, need("nsenter")?, need("setpriv")?, need("ip")?);
        let allowed = Command::new(&unshare).args(["--mount", "--net", "true"]).output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            super::report_skipped("leave to make namespaces (root)");
            assert!(!super::on_ci(), "needs leave to make namespaces");
            return None;
        }
        let mut command = Command::new(unshare);
        command.args(["--mount", "--net"]);
        Some(Self::hold(command, names, &of_subnet(names), super::cluster::logs()))
    }

    /// Another machine on a network of its own, with this address alone; these names are those of others, too.
    #[track_caller]
    pub fn apart(&self, names: &[(&str, &str)], address: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net"]);
        let logs = self.logs.join(address);
        fs::create_dir_all(&logs).expect("a folder for logs");
        Self::hold(command, names, &[format!("{address}/32")], logs)
    }

    /// Another machine on this one's network.
    pub fn beside(&self, names: &[(&str, &str)]) -> Self {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        command.args(["unshare", "--mount"]);
        let logs = self.logs.join(names.last().map_or("beside", |(name, _)| name));
        fs::create_dir_all(&logs).expect("a folder for logs");
        Self::hold(command, names, &of_subnet(names), logs)
    }

    fn hold(
        mut command: Command,
        names: &[(&str, &str)],
        addresses: &[String],
        logs: PathBuf,
    ) -> Self {
        let folder = super::temp_dir();
        fs::create_dir_all(folder.path().join("etc/kubernetes")).expect("etc");
        fs::create_dir_all(folder.path().join("lib")).expect("var/lib");
        fs::create_dir_all(folder.path().join("log")).expect("var/log");
        fs::create_dir_all(folder.path().join("kernel")).expect("kernel");
        for (name, value) in KERNEL {
            fs::write(folder.path().join("kernel").join(name), value).expect("a setting");
        }
        for file in COPIED {
            fs::copy(Path::new("/etc").join(file), folder.path().join("etc").join(file))
                .expect("copied");
        }
        let mut hosts = String::from("127.0.0.1 localhost\n");
        for (name, address) in names {
            hosts += &format!("{address} {name}\n");
        }
        fs::write(folder.path().join("etc/hosts"), hosts).expect("hosts");
        // A network without name servers.
        fs::write(folder.path().join("etc/resolv.conf"), "").expect("resolv.conf");
        let mut holder = command
            .args(["sh", "-c", BOOT, "boot"])
            .arg(folder.path())
            .args(addresses)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut said = String::new();
        let stdout = holder.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut said).expect("readable");
        assert_eq!(said, "ready\n", "the machine does not come up");
        Self { folder, logs, holder }
    }

    /// The process that holds its namespaces.
    pub fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// What is `/etc/kubernetes` there.
    pub fn kubernetes(&self) -> PathBuf {
        self.folder.path().join("etc/kubernetes")
    }

    /// A folder for what a test writes beside; the same path there and here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where what a program says goes, and stays when the test fails.
    pub fn log_of(&self, program: &str) -> PathBuf {
        self.logs.join(format!("{program}.log"))
    }

    /// What is `/var/lib` there.
    pub fn lib(&self) -> PathBuf {
        self.folder.path().join("lib")
    }

    /// What is `/var/log` there.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The same command, run there. It does not outlive the test.
    pub fn enter(&self, command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.arg("--target").arg(self.holder.id().to_string()).args(["--mount", "--net"]);
        entered.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        entered.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
        entered
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        if std::thread::panicking() {
            eprintln!("what the programs said: {}", self.logs.display());
        } else {
            // Kept for nobody; left over is no harm either.
            let _ = fs::remove_dir_all(&self.logs);
        }
    }
}
