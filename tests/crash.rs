//! Killed, or refused by the system, at every call that changes the disk: after the next run all is old or all is
//! new, and every certificate has its key.
//!
//! strace does it: it ends the process with SIGKILL before the n-th call of a kind, or lets that call fail.
//! That no changing call is left out is shown by tracing everything a run calls and knowing each name.
//! Calls are counted for each thread, and on one processor there is one that does it all; a fault that never
//! happened is a failed test. A death loses nothing that was written, so all of it may be in memory; what a power cut loses
//! is the simulated disk's to show.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Mutex,
};

use certkit::{
    document::kubeconfig::{self, Material},
    pki::{inspect, key::PrivateKey},
};
use support::{certkit, need, run, temp_dir_in_memory};

/// Calls that change what is on disk, or make it durable.
const CHANGING: &[&str] = &[
    "chmod",
    "chown",
    "copy_file_range",
    "creat",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "fdatasync",
    "fsetxattr",
    "fsync",
    "ftruncate",
    "lchown",
    "link",
    "linkat",
    "lsetxattr",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "msync",
    "open",
    "openat",
    "openat2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "setxattr",
    "splice",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "truncate",
    "unlink",
    "unlinkat",
    "utimensat",
    "write",
    "writev",
];

/// Calls that change nothing on disk. A call in neither list fails the test: whoever adds it decides.
const HARMLESS: &[&str] = &[
    "access",
    "arch_prctl",
    "brk",
    "clone3",
    "close",
    "dup",
    "execve",
    "faccessat",
    "faccessat2",
    "fgetxattr",
    "flistxattr",
    "fstatfs",
    "exit",
    "exit_group",
    "fcntl",
    "flock",
    "fstat",
    "futex",
    "getdents64",
    "geteuid",
    "getpid",
    "getrandom",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "madvise",
    "membarrier",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "clock_nanosleep",
    "newfstatat",
    "poll",
    "ppoll",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "statfs",
    "statx",
    "uname",
];

/// A PKI with a pair, a pair whose key is kept, a combined file and an embedded credential, and little else.
const SMALL: &str = "\
apiVersion: certkit/v1
kind: Cluster
name: small
endpoint: api:6443
controlPlane:
- {name: cp1, addresses: [10.0.0.1]}
hostDir: /etc/kubernetes
absent: [apiserver, apiserver-kubelet-client, etcd-peer, etcd-healthcheck-client, controller-manager,
  apiserver-etcd-client, scheduler, kubelet, super-admin.conf, controller-manager.conf, kubelet.conf]
";

/// What a run is tried with.
struct Scenario {
    /// The tree before it.
    before: PathBuf,
    /// The arguments but for `--dir`.
    arguments: Vec<String>,
    /// The arguments of the run after it.
    next: Vec<String>,
}

/// One call of the main thread: its name, and the how-manieth of that name it is.
type Call = (String, usize);

impl Scenario {
    fn command(&self, arguments: &[String], dir: &Path) -> Command {
        let mut command = certkit();
        command.args(arguments).arg("--dir").arg(dir);
        command
    }

    /// The same under strace with these options.
    fn traced(&self, options: &[&str], dir: &Path) -> Command {
        let plain = self.command(&self.arguments, dir);
        // On one processor and without threads all is done by the main thread, so that each run makes the
        // same calls.
        let mut command = Command::new("taskset");
        command
            .args(["-c", "0", "strace", "-f", "-e", "inject=clone3:error=EAGAIN"])
            .args(options)
            .arg(plain.get_program())
            .args(plain.get_args());
        command
    }

    fn fresh(&self, dir: &Path) {
        let _ = fs::remove_dir_all(dir);
        if self.before.exists() {
            copy(&self.before, dir);
        }
    }

    /// Every call of the main thread that changes the disk below `dir`.
    fn calls(&self, dir: &Path) -> Vec<Call> {
        self.fresh(dir);
        let scratch = temp_dir_in_memory();
        let file = scratch.path().join("trace").display().to_string();
        run(&mut self.traced(&["-y", "-o", &file], dir));
        let trace = fs::read_to_string(&file).unwrap();
        let main = trace.split_whitespace().next().unwrap().to_owned();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut calls = Vec::new();
        for line in trace.lines() {
            let (pid, call) = line.split_once(' ').unwrap();
            let Some((name, rest)) = call.trim().split_once('(') else { continue };
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                continue;
            }
            assert!(CHANGING.contains(&name) || HARMLESS.contains(&name), "unknown call: {line}");
            assert!(
                !(name == "mmap" && rest.contains("MAP_SHARED") && rest.contains("PROT_WRITE")),
                "{line}"
            );
            let changes = CHANGING.contains(&name)
                && match name {
                    "open" | "openat" | "openat2" => {
                        rest.contains("O_CREAT") || rest.contains("O_TRUNC")
                    }
                    // Standard output is no disk.
                    "write" | "writev" => rest.contains(dir.to_str().unwrap()),
                    _ => true,
                };
            if pid != main {
                assert!(!changes, "not on the main thread: {line}");
                continue;
            }
            let count = counts.entry(name).or_default();
            *count += 1;
            if changes {
                calls.push((name.to_owned(), *count));
            }
        }
        calls
    }

    /// Tries every fault at every call, and judges what is there after the next run.
    fn try_all(&self, judge: impl Fn(&Path, &Attempt, &str) + Sync) -> usize {
        self.try_each(|_| FAULTS.to_vec(), judge)
    }

    /// Kills at every call, and has it refused for one of the reasons in turn; for all where somebody has the time.
    fn try_in_turn(&self, judge: impl Fn(&Path, &Attempt, &str) + Sync) -> usize {
        let is_all = std::env::var_os("CERTKIT_TEST_ALL").is_some();
        let faults = |number: usize| match is_all {
            true => FAULTS.to_vec(),
            false => vec![FAULTS[0], FAULTS[1 + number % (FAULTS.len() - 1)]],
        };
        self.try_each(faults, judge)
    }

    fn try_each(
        &self,
        faults: impl Fn(usize) -> Vec<&'static str>,
        judge: impl Fn(&Path, &Attempt, &str) + Sync,
    ) -> usize {
        let folder = temp_dir_in_memory();
        let calls = self.calls(&folder.path().join("pki"));
        assert!(calls.len() > 20, "{calls:?}");
        let attempts: Vec<Attempt> = calls
            .iter()
            .enumerate()
            .flat_map(|(number, (name, nth))| {
                let attempt = |fault| Attempt { name: name.clone(), nth: *nth, fault };
                faults(number).into_iter().map(attempt).collect::<Vec<_>>()
            })
            .collect();
        let count = attempts.len();
        let open = Mutex::new(attempts);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let (open, judge, folder) = (&open, &judge, folder.path());
                scope.spawn(move || {
                    let dir = folder.join(format!("worker{worker}")).join("pki");
                    while let Some(attempt) = { open.lock().unwrap().pop() } {
                        fs::create_dir_all(dir.parent().unwrap()).unwrap();
                        self.fresh(&dir);
                        let before = contents(&dir);
                        let output = self.inject(&attempt, &dir);
                        if attempt.fault != "signal=SIGKILL" && !output.status.success() {
                            let said = String::from_utf8_lossy(&output.stderr).into_owned();
                            let decided = said.contains("decided");
                            let code = if decided { 4 } else { 3 };
                            assert_eq!(output.status.code(), Some(code), "{attempt:?}: {said}");
                            // The directory's own parents are made durable, too, up to the root.
                            assert!(said.contains(" /"), "no file named: {said}");
                            // Not decided: as it was, at once.
                            if !decided && !said.contains("prepared") {
                                assert_eq!(contents(&dir), before, "{attempt:?}: {said}");
                            }
                        }
                        let next = run(&mut self.command(&self.next, &dir));
                        let said = [output.stdout, next.stdout].concat();
                        judge(&dir, &attempt, &String::from_utf8_lossy(&said));
                        sound(&dir, &attempt);
                    }
                });
            }
        });
        count
    }

    fn inject(&self, attempt: &Attempt, dir: &Path) -> Output {
        let Attempt { name, nth, fault } = attempt;
        let trace = format!("trace={name},clone3");
        let inject = format!("inject={name}:{fault}:when={nth}");
        let seen = dir.with_extension("trace");
        let file = seen.display().to_string();
        let mut command = self.traced(&["-o", &file, "-e", &trace, "-e", &inject], dir);
        let output = command.output().unwrap();
        let trace = fs::read_to_string(&seen).unwrap();
        let happened = match *fault {
            "signal=SIGKILL" => trace.contains("killed by SIGKILL") && !output.status.success(),
            _ => {
                let is_it = |line: &str| line.contains(&format!(" {name}("));
                trace.lines().any(|line| is_it(line) && line.contains("(INJECTED)"))
            }
        };
        assert!(happened, "{attempt:?} did not happen: {output:?}\n{trace}");
        output
    }
}

/// A death, and the refusals of a system call.
const FAULTS: [&str; 4] = ["signal=SIGKILL", "error=ENOSPC", "error=EIO", "error=EACCES"];

/// One fault at one call.
#[derive(Debug)]
struct Attempt {
    name: String,
    nth: usize,
    fault: &'static str,
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// The files below a folder with their content, without certkit's own records.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = support::tree::files(dir).into_iter();
    files.map(|file| (file.clone(), fs::read(dir.join(&file)).unwrap())).collect()
}

/// Every key matches its certificate, every kubeconfig parses, and nothing is left of the work.
fn sound(dir: &Path, attempt: &Attempt) {
    let mut pairs = 0;
    for (file, content) in contents(dir) {
        let name = file.to_str().unwrap();
        assert!(!name.contains(".certkit-"), "{attempt:?}: {name} is left");
        let of = |content: &[u8], key: &[u8]| {
            let certificate = inspect::from_pem(content).unwrap().remove(0);
            let key = PrivateKey::from_pem(key).unwrap();
            assert_eq!(certificate.public_key(), key.public_key(), "{attempt:?}: {name}");
        };
        if let Some(stem) = name.strip_suffix(".crt") {
            if let Ok(key) = fs::read(dir.join(format!("{stem}.key"))) {
                of(&content, &key);
                pairs += 1;
            }
        } else if name.ends_with(".pem") {
            of(&content, &content);
            pairs += 1;
        } else if name.ends_with(".conf") {
            let view = kubeconfig::parse(&content).unwrap();
            if let (Some(Material::Data(cert)), Some(Material::Data(key))) =
                (&view.users[0].cert, &view.users[0].key)
            {
                of(cert, key);
                pairs += 1;
            }
        }
    }
    assert!(pairs >= 7, "{attempt:?}: {pairs} of three CAs and four leaves");
    for entry in fs::read_dir(dir.join(".certkit")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_left = ["backups", "lock", "log.jsonl"].iter().all(|known| *known != name);
        assert!(!is_left, "{attempt:?}: {name} is left");
    }
}

fn small(folder: &Path) -> PathBuf {
    let file = folder.join("small.yaml");
    fs::write(&file, SMALL).unwrap();
    file
}

fn texts<const N: usize>(all: [&str; N]) -> Vec<String> {
    all.map(str::to_owned).to_vec()
}

#[test]
fn rotate_is_wholly_done_or_not_at_all_wherever_it_is_cut() {
    if need("strace").is_none() {
        return;
    }
    let folder = temp_dir_in_memory();
    let before = folder.path().join("before");
    run(certkit().arg("init").arg("--dir").arg(&before).arg("--config").arg(small(folder.path())));
    let old = contents(&before);
    let scenario =
        Scenario { before, arguments: texts(["rotate", "--all"]), next: texts(["rotate"]) };
    let expected: BTreeSet<&str> = [
        "admin.conf",
        "pki/etcd/server.crt",
        "pki/front-proxy-client.crt",
        "pki/front-proxy-client.key",
        "pki/scheduler-client.pem",
    ]
    .into();
    let (kept, done) = (Mutex::new(0), Mutex::new(0));
    let count = scenario.try_all(|dir, attempt, said| {
        let new = contents(dir);
        assert!(old.keys().eq(new.keys()), "{attempt:?}");
        let changed: BTreeSet<&str> = old
            .iter()
            .filter(|(file, content)| new[*file] != **content)
            .map(|(file, _)| file.to_str().unwrap())
            .collect();
        match changed.is_empty() {
            true => *kept.lock().unwrap() += 1,
            false => {
                assert_eq!(changed, expected, "{attempt:?}");
                // One run or the other says who has to take it up, wherever the first was cut.
                for component in ["etcd", "kube-apiserver", "kube-scheduler"] {
                    let row = |line: &str| line.split_whitespace().next() == Some(component);
                    assert!(said.lines().any(row), "{attempt:?}: {component} is not in:\n{said}");
                }
                *done.lock().unwrap() += 1;
            }
        }
    });
    let (kept, done) = (*kept.lock().unwrap(), *done.lock().unwrap());
    println!("{count} cuts of rotate: {kept} times all old, {done} times all new");
    assert!(kept > 20 && done > 10, "both sides of the decision were met");
}

#[test]
fn init_is_wholly_done_or_not_at_all_wherever_it_is_cut() {
    if need("strace").is_none() {
        return;
    }
    let folder = temp_dir_in_memory();
    let file = small(folder.path()).display().to_string();
    let init = texts(["init", "--config", &file]);
    let scenario =
        Scenario { before: folder.path().join("nothing"), arguments: init.clone(), next: init };
    let complete = Mutex::new(BTreeSet::new());
    let count = scenario.try_all(|dir, _, _| {
        let names: Vec<PathBuf> = contents(dir).into_keys().collect();
        complete.lock().unwrap().insert(names);
    });
    println!("{count} cuts of init");
    assert_eq!(complete.lock().unwrap().len(), 1, "always the same files");
}

/// Cuts each stage of a CA of this cluster at every call.
fn cut_each_stage(config: &str, id: &str) {
    let folder = temp_dir_in_memory();
    let mut before = folder.path().join("beginning");
    let file = folder.path().join("cluster.yaml");
    fs::write(&file, config).unwrap();
    run(certkit().arg("init").arg("--dir").arg(&before).arg("--config").arg(file));
    for stage in ["introduced", "switched", "stable"] {
        let mut arguments = texts(["rotate-ca", id, "--to", stage]);
        if stage == "introduced" {
            arguments.push("--cross-sign".to_owned());
        }
        let scenario =
            Scenario { before: before.clone(), arguments: arguments.clone(), next: arguments };
        let at = |dir: &Path, more: &[&str]| {
            let mut command = certkit();
            run(command.args(["rotate-ca", id]).args(more).arg("--dir").arg(dir));
            let mut command = certkit();
            command.args(["rotate-ca", id, "--status", "-o", "json", "--dir"]).arg(dir);
            let document: serde_json::Value =
                serde_json::from_str(&support::stdout(&mut command)).unwrap();
            document["authorities"][0]["stage"].as_str().unwrap().to_owned()
        };
        let old = contents(&before);
        let own = Path::new("pki").join(format!("{id}.crt"));
        let count = scenario.try_in_turn(|dir, attempt, _| {
            // The run after it has come to where the first was to come, and no further.
            assert_eq!(at(dir, &[]), stage, "{attempt:?}");
            if stage == "stable" {
                assert!(!contents(dir).keys().any(|file| {
                    let name = file.to_str().unwrap();
                    name.contains("-previous") || name.contains("-cross")
                }));
                return;
            }
            let undone = folder.path().join(format!("undone-{:?}", std::thread::current().id()));
            let _ = fs::remove_dir_all(&undone);
            copy(dir, &undone);
            assert_ne!(at(&undone, &["--undo"]), stage, "{attempt:?}");
            assert_eq!(contents(&undone)[&own], old[&own]);
        });
        println!("{id}: {count} cuts on the way to {stage}");
        let next = folder.path().join(stage);
        copy(&before, &next);
        let more =
            if stage == "introduced" { &["--next", "--cross-sign"][..] } else { &["--next"] };
        assert_eq!(at(&next, more), stage);
        before = next;
    }
}

#[test]
fn each_stage_of_replacing_a_ca_is_taken_or_not_wherever_it_is_cut() {
    if need("strace").is_some() {
        cut_each_stage(SMALL, "ca");
    }
}

#[test]
fn each_stage_of_replacing_a_root_is_taken_or_not_wherever_it_is_cut() {
    if need("strace").is_some() {
        cut_each_stage(&format!("{SMALL}singleRoot: true\n"), "root-ca");
    }
}

#[test]
fn a_run_that_ends_amidst_its_hooks_leaves_them_to_the_next_run_whichever_that_is() {
    let folder = temp_dir_in_memory();
    let dir = folder.path().join("pki");
    run(certkit().arg("init").arg("--dir").arg(&dir).arg("--config").arg(small(folder.path())));
    let told = folder.path().join("told");
    let hook = format!("echo $CERTKIT_COMPONENT >>{}", told.display());
    let rotate = |arguments: &[&str], hook: &str| {
        let mut command = certkit();
        command.arg("rotate").args(arguments).args(["--hook", hook, "--dir"]).arg(&dir);
        command
    };
    let owed = || {
        let names = fs::read_dir(dir.join(".certkit")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("owed-")).count()
    };
    // The first hook kills certkit: all is in place, and nobody was told.
    let output = rotate(&["--all"], "kill -9 $PPID").output().unwrap();
    assert!(!output.status.success() && owed() == 1, "{output:?}");
    // A dry run says so, and changes nothing; what removes leftovers pays no hooks, and leaves them.
    let dry = run(&mut rotate(&["--dry-run"], &hook));
    let said = String::from_utf8_lossy(&dry.stderr).into_owned();
    assert!(said.contains("who has to take up what it changed"), "{said}");
    run(certkit().args(["prune", "--dir"]).arg(&dir));
    assert!(owed() == 1 && !told.exists());
    // Two at once: it is paid once.
    let mut both = [rotate(&[], &hook), rotate(&[], &hook)].map(|mut c| c.spawn().unwrap());
    both.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    let text = fs::read_to_string(&told).unwrap();
    let mut components: Vec<&str> = text.lines().collect();
    components.sort_unstable();
    assert_eq!(components, ["etcd", "kube-apiserver", "kube-scheduler", "kubectl"]);
    assert_eq!(owed(), 0);
    run(&mut rotate(&[], &hook));
    assert_eq!(fs::read_to_string(&told).unwrap(), text, "it is paid once");
}

#[test]
fn a_record_of_what_is_owed_that_cannot_be_believed_is_in_nobodys_way() {
    let folder = temp_dir_in_memory();
    let dir = folder.path().join("pki");
    run(certkit().arg("init").arg("--dir").arg(&dir).arg("--config").arg(small(folder.path())));
    let record = dir.join(".certkit/owed-123456789abc");
    for text in ["", "{", "{\"version\":1,\"transaction\":\"../x\"}"] {
        fs::write(&record, text).unwrap();
        let output = run(certkit().args(["rotate", "--dir"]).arg(&dir));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("owed-123456789abc"), "{said}");
        assert!(!record.exists(), "{text}");
    }
}

#[test]
fn what_nobody_has_to_take_up_leaves_nothing_owed() {
    let folder = temp_dir_in_memory();
    let dir = folder.path().join("pki");
    run(certkit().arg("init").arg("--dir").arg(&dir).args(["--host", "cp1=10.0.0.1"]));
    for command in [
        &["kubeconfig", "jane"][..],
        &["rotate", "--all"],
        &["rotate", "--rollback"],
        &["prune"],
        &["rotate-ca", "ca", "--next"],
        &["init"],
    ] {
        run(certkit().args(command).arg("--dir").arg(&dir));
        let mut names = fs::read_dir(dir.join(".certkit")).unwrap();
        let left = names.find(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().starts_with("owed-")
        });
        assert!(left.is_none(), "{command:?} left {left:?}");
    }
}
