//! How fast certificates are looked at, against `cat` of the same files; how much memory it takes; and how
//! long the whole process takes on a one-host PKI.

mod support;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use certkit::{
    model::{
        algorithm::KeyAlgorithm,
        name::Name,
        profile::{Kind, Profile, Validity},
        san::San,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        issue::{self, Issuance, IssuingCa},
        key::PrivateKey,
    },
};

const FILES: usize = 100_000;
const IN_FOLDER: usize = 1_000;
const ROUNDS: usize = 5;

fn main() {
    let folder = tempfile::Builder::new().prefix("certkit-bench-").tempdir().expect("a folder");
    let tree = folder.path().join("tree");
    let list = folder.path().join("list");
    lay_out(&tree, &list);

    // In turn, so that what else the machine does meets both.
    let (mut cat_times, mut table_times, mut json_times) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        cat_times.push(cat(&list));
        table_times.push(timed(&mut check(&tree)));
        json_times.push(timed(check(&tree).args(["-o", "json"])));
    }
    let [cat, table, json] = [cat_times, table_times, json_times].map(|mut times| {
        times.sort();
        times[ROUNDS / 2]
    });
    support::line("cat of 100,000 certificate files", cat);
    support::line("check-expiration of the same", table);
    support::line("check-expiration of the same, every detail as JSON", json);
    let against = |time: Duration| time.as_secs_f64() / cat.as_secs_f64();
    support::ratio("check-expiration / cat", against(table), 2.0, true);
    support::ratio("check-expiration as JSON / cat", against(json), 4.0, true);

    let (few, many) = (peak(check(&tree.join("0000"))), peak(check(&tree)));
    support::note(&format!("{:<58} {few:>10} KiB", "most memory with 1,000 files"));
    support::note(&format!("{:<58} {many:>10} KiB", "most memory with 100,000 files"));
    support::ratio("most memory with 100,000 files / 64 MiB", many as f64 / 65536.0, 1.0, true);
    support::ratio("100,000 files / 1,000 files", many as f64 / few as f64, 2.0, true);

    let pki = folder.path().join("pki");
    let certkit = || Command::new(env!("CARGO_BIN_EXE_certkit"));
    timed(certkit().args(["init", "--name", "b", "--host", "cp1=10.0.0.11", "--dir"]).arg(&pki));
    let whole = support::median(101, || {
        timed(certkit().args(["check-expiration", "--dir"]).arg(&pki));
    });
    support::line("check-expiration of a one-host PKI, the whole process", whole);
    support::ratio("the same / 5 ms", whole.as_secs_f64() / 0.005, 1.0, true);

    // In turn, as above: what a host costs among few and among many.
    let workspaces = HOSTS.map(|hosts| workspace(folder.path(), hosts));
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (times, workspace) in times.iter_mut().zip(&workspaces) {
            times.push(timed(certkit().args(["check-expiration", "--dir"]).arg(workspace)));
        }
    }
    let [few, many] = times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2]
    });
    for (hosts, time) in HOSTS.into_iter().zip([few, many]) {
        support::line(&format!("check-expiration of a workspace of {hosts} hosts"), time);
    }
    let per_host = |time: Duration, hosts: usize| time.as_secs_f64() / hosts as f64;
    let ratio = per_host(many, HOSTS[1]) / per_host(few, HOSTS[0]);
    support::ratio("a host among 4,000 / a host among 500", ratio, 1.3, true);
    support::end("check-expiration", "check-expiration");
}

/// How many hosts the two workspaces have.
const HOSTS: [usize; 2] = [500, 4_000];

/// A workspace of one control plane and nodes.
fn workspace(folder: &Path, hosts: usize) -> std::path::PathBuf {
    let file = support::declaration(folder, hosts);
    let pki = folder.join(format!("workspace-{hosts}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_certkit"));
    timed(command.args(["init", "--config"]).arg(file).arg("--dir").arg(&pki));
    pki
}

/// Files in folders of a thousand, and their list, NUL after each, in the order of the walk.
fn lay_out(tree: &Path, list: &Path) {
    let texts = certificates(100);
    let mut list = std::io::BufWriter::new(fs::File::create(list).expect("a list"));
    for folder in 0..FILES / IN_FOLDER {
        let path = tree.join(format!("{folder:04}"));
        fs::create_dir_all(&path).expect("a folder");
        for file in 0..IN_FOLDER {
            let path = path.join(format!("{file:04}.crt"));
            fs::write(&path, &texts[(folder * 7 + file) % texts.len()]).expect("a file");
            list.write_all(path.as_os_str().as_encoded_bytes()).expect("the list");
            list.write_all(b"\0").expect("the list");
        }
    }
}

fn certificates(count: usize) -> Vec<String> {
    let validity = Validity {
        not_before: "2020-01-01T00:00:00Z".parse().expect("a time"),
        not_after: "2060-01-01T00:00:00Z".parse().expect("a time"),
    };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    let mut profile = Profile {
        subject: Name::new(&[], "ca"),
        sans: Vec::new(),
        kind: Kind::Ca { path_len: None },
        key_usages: KeyUsages::CA,
        extended_usages: Vec::new(),
    };
    let ca = issue::self_signed(&profile, validity, &key).expect("a CA");
    let ca = IssuingCa::new(ca, key).expect("its key");
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    (0..count)
        .map(|n| {
            profile = Profile {
                subject: Name::new(&["system:nodes"], &format!("system:node:worker-{n}")),
                sans: vec![San::Dns(format!("worker-{n}.example.com"))],
                kind: Kind::Leaf,
                key_usages: KeyUsages::LEAF,
                extended_usages: vec![ExtendedUsage::ServerAuth, ExtendedUsage::ClientAuth],
            };
            let order = Issuance { profile: &profile, validity, public_key: key.public_key() };
            issue::issue(&order, &ca).expect("a leaf").certificate.to_pem()
        })
        .collect()
}

fn check(path: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certkit"));
    command.args(["check-expiration", "-r"]).arg(path);
    command
}

/// The whole process; it must find all well.
fn timed(command: &mut Command) -> Duration {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("it runs");
    let took = begin.elapsed();
    assert!(status.success(), "{status}");
    took
}

/// `cat` of the same files, as many in one process as the system allows.
fn cat(list: &Path) -> Duration {
    let mut command = Command::new("xargs");
    command.args(["-0", "cat"]).stdin(fs::File::open(list).expect("the list"));
    timed(&mut command)
}

/// The most memory the process had, in KiB.
fn peak(mut command: Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().expect("it runs");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("it runs").is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_micros(200));
    }
    peak
}
