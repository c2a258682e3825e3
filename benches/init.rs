//! One-host `init` as a whole process, beside the raw crypto of the same certificates, the same durable
//! writes, and a script of openssl processes; and what a host costs among few and among many.

mod support;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

fn main() {
    let folder = tempfile::Builder::new().prefix("certkit-bench-").tempdir().expect("a folder");
    let mut round = 0;
    let init = support::median(15, || {
        round += 1;
        let dir = folder.path().join(format!("init-{round}"));
        let status = Command::new(env!("CARGO_BIN_EXE_certkit"))
            .args(["init", "--quiet", "--name", "bench", "--host", "cp1=10.0.0.11", "--dir"])
            .arg(&dir)
            .status()
            .expect("certkit starts");
        assert!(status.success());
    });
    let sample = folder.path().join("init-1");
    let (certificates, keys, contents) = count(&sample);
    let start = support::start();
    let crypto = support::raw_crypto(keys, certificates);
    let mut round = 0;
    let writes = support::median(15, || {
        round += 1;
        support::durable(&folder.path().join(format!("writes-{round}")), &contents);
    });
    let mut round = 0;
    let script = support::median(3, || {
        round += 1;
        openssl(&folder.path().join(format!("openssl-{round}")), certificates);
    });
    support::note(&format!(
        "init of one host: {certificates} certificates, {keys} keys, {} files\n",
        contents.len()
    ));
    support::line("certkit init, whole process", init);
    support::line("  of which starting a process", start);
    support::line("raw ring: the same keys and signatures", crypto);
    support::line("the same files written, synced, renamed, folders synced", writes);
    support::line("openssl script, a process for each request and signature", script);
    support::note("");
    let floor = crypto + writes;
    support::ratio("init / (raw crypto + durable writes)", div(init, floor), 3.0, true);
    support::ratio("openssl script / init", div(script, init), 10.0, false);
    support::note("");
    workspaces(folder.path());
    support::end("init", "init");
}

/// How many hosts workspaces have.
const HOSTS: [usize; 3] = [500, 1_000, 2_000];

/// How often each is made.
const ROUNDS: usize = 5;

/// What a host costs among few and among many, in turn, so that what else the machine does meets all.
fn workspaces(folder: &Path) {
    let declared = HOSTS.map(|hosts| support::declaration(folder, hosts));
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..=ROUNDS {
        for (times, file) in times.iter_mut().zip(&declared) {
            let dir = folder.join("workspace");
            let start = Instant::now();
            let status = Command::new(env!("CARGO_BIN_EXE_certkit"))
                .args(["init", "--quiet", "--config"])
                .arg(file)
                .arg("--dir")
                .arg(&dir)
                .status()
                .expect("certkit starts");
            let took = start.elapsed();
            assert!(status.success());
            fs::remove_dir_all(&dir).expect("removed");
            // The first of each does not count.
            if round > 0 {
                times.push(took);
            }
        }
    }
    let times = times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2]
    });
    for (hosts, time) in HOSTS.into_iter().zip(times) {
        support::line(&format!("init of a workspace of {hosts} hosts"), time);
    }
    let per_host = |n: usize| times[n].as_secs_f64() / HOSTS[n] as f64;
    support::ratio("a host among 2,000 / a host among 500", per_host(2) / per_host(0), 1.3, true);
    support::ratio("a host among 2,000 / a host among 1,000", per_host(2) / per_host(1), 1.2, true);
    support::ratio("a host among 1,000 / a host among 2,000", per_host(1) / per_host(2), 1.3, true);
}

fn div(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

/// How many certificates and keys a tree holds, and what its files hold.
fn count(root: &Path) -> (usize, usize, Vec<Vec<u8>>) {
    let (mut certificates, mut keys, mut contents) = (0, 0, Vec::new());
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&content);
            let name = path.to_string_lossy();
            let embedded = text.contains("client-key-data");
            if !name.ends_with("bundle.crt") {
                certificates += text.matches("BEGIN CERTIFICATE-").count() + usize::from(embedded);
            }
            keys += text.matches("PRIVATE KEY-----\n").count() / 2 + usize::from(embedded);
            contents.push(content);
        }
    }
    (certificates, keys, contents)
}

fn openssl(folder: &Path, certificates: usize) {
    fs::create_dir(folder).expect("a folder");
    let script = format!(
        "set -e; \
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=ca \
           -keyout ca.key -out ca.crt 2>/dev/null; \
         for i in $(seq {}); do \
           openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=leaf -keyout $i.key \
             -out $i.csr 2>/dev/null; \
           openssl x509 -req -in $i.csr -CA ca.crt -CAkey ca.key -days 365 -out $i.crt 2>/dev/null; \
         done",
        certificates - 1
    );
    let status = Command::new("sh").arg("-c").arg(script).current_dir(folder).status();
    assert!(status.expect("sh starts").success());
}
