//! Workspaces of more nodes than are changed at once.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A full part and a bit: builds with debug assertions have smaller parts.
pub const NODES: usize = if cfg!(debug_assertions) { 110 } else { 1010 };

/// Declares a cluster of one control plane and so many nodes.
pub fn declare(dir: &Path, nodes: usize) {
    let mut text = String::from(
        "apiVersion: certkit/v1\nkind: Cluster\nname: many\nendpoint: api.example.com:6443\nlayout: workspace\n\
         controlPlane:\n- {name: cp1, addresses: [10.0.0.1]}\nnodes:\n",
    );
    for n in 0..nodes {
        let (b, c) = (n / 250, n % 250 + 1);
        writeln!(text, "- {{name: n{n:04}, addresses: [10.1.{b}.{c}]}}").unwrap();
    }
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("certkit.yaml"), text).unwrap();
}

/// Runs a command that changes `dir` part by part, and kills it as soon as one is in place: the log grows then.
#[track_caller]
pub fn kill_among_parts(dir: &Path, command: &mut Command) {
    let length = || fs::metadata(dir.join(".certkit/log.jsonl")).map_or(0, |log| log.len());
    let before = length();
    let mut child = command.stdout(Stdio::null()).spawn().expect("certkit");
    let end = Instant::now() + Duration::from_secs(120);
    while length() == before && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was faster");
}
