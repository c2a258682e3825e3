//! `verify` as a whole process: of one host with every handshake, and of workspaces that grow.

mod support;

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

fn main() {
    let folder = tempfile::Builder::new().prefix("certkit-bench-").tempdir().expect("a folder");
    let one = folder.path().join("one");
    init(&["--host", "cp1=10.0.0.11"], &one);
    let addons = folder.path().join("addons");
    let all = ["--addon", "kube-proxy", "--addon", "konnectivity", "--addon", "istio"];
    init(&[&["--host", "cp1=10.0.0.11"][..], &all].concat(), &addons);
    let plain = support::median(15, || verify(&one, &[]));
    let full = support::median(15, || verify(&addons, &[]));
    let forecast = support::median(15, || verify(&one, &["--forecast"]));
    support::line(&format!("one host, {}", handshakes(&one)), plain);
    support::line(&format!("  with every addon, {}", handshakes(&addons)), full);
    support::line("  with --forecast", forecast);
    let mut times = Vec::new();
    for nodes in [250, 500, 1000] {
        let dir = folder.path().join(format!("nodes-{nodes}"));
        workspace(nodes, &dir);
        let before = cpu_of_children();
        let time = support::median(3, || verify(&dir, &[]));
        // The first of four does not count for the median; for processor time it does.
        times.push((cpu_of_children() - before) / 4.0);
        support::line(&format!("{nodes} nodes, {}", handshakes(&dir)), time);
    }
    support::note("");
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    support::ratio("one host / 100 ms", millis(plain) / 100.0, 1.0, true);
    // Processor time: on a shared machine the clock on the wall measures the neighbours.
    support::ratio("1,000 nodes / 500 nodes, processor time", times[2] / times[1], 2.2, true);
    support::ratio("500 nodes / 250 nodes, processor time", times[1] / times[0], 2.2, true);
    support::end("verify", "verify");
}

fn init(arguments: &[&str], dir: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certkit"));
    let status = command.args(["init", "--quiet", "--dir"]).arg(dir).args(arguments).status();
    assert!(status.expect("certkit starts").success());
}

fn workspace(nodes: usize, dir: &Path) {
    let mut text = String::from(
        "apiVersion: certkit/v1\nkind: Cluster\nname: bench\nendpoint: api.example.com:6443\n\
         controlPlane:\n- {name: cp1, addresses: [10.0.0.11]}\n- {name: cp2, addresses: [10.0.0.12]}\n\
         - {name: cp3, addresses: [10.0.0.13]}\naddons: [kube-proxy]\nnodes:\n",
    );
    for n in 0..nodes {
        let _ = writeln!(text, "- {{name: w{n}, addresses: [10.1.{}.{}]}}", n / 250, n % 250 + 1);
    }
    let file = dir.with_extension("yaml");
    fs::write(&file, text).expect("declaration");
    init(&["--config", file.to_str().expect("UTF-8")], dir);
}

fn verify(dir: &Path, more: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certkit"));
    let output = command.args(["verify", "--dir"]).arg(dir).args(more).output();
    assert!(output.expect("certkit starts").status.success());
}

/// Processor time of all children that have ended, in seconds: fields 16 and 17 of proc(5)'s stat, in
/// hundredths.
fn cpu_of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let (_, after_name) = stat.rsplit_once(')').expect("a process name");
    let fields: Vec<f64> =
        after_name.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
    (fields[13] + fields[14]) / 100.0
}

/// How many handshakes there are.
fn handshakes(dir: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certkit"));
    let output = command.args(["verify", "-o", "json", "--dir"]).arg(dir).output();
    let report: serde_json::Value =
        serde_json::from_slice(&output.expect("certkit starts").stdout).expect("JSON");
    let count = |name: &str| report["handshakes"][name].as_u64().expect("a count");
    let all = count("mustWork") + count("mustBeRefused") + count("onlyAuthorization");
    format!("{all} handshakes")
}
