//! `certkit rotate-ca`, asked and refused.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::{
    certkit, run, run_to_exit, stdout,
    tree::{difference, snapshot},
};

pub fn rotate_ca(dir: &Path, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("rotate-ca").arg("--dir").arg(dir).args(more);
    command
}

/// What is said where it is refused, and nothing is changed.
#[track_caller]
pub fn refused(dir: &Path, more: &[&str], exit: i32) -> String {
    let before = snapshot(dir);
    let output = run_to_exit(&mut rotate_ca(dir, more), exit);
    assert_eq!(difference(&before, &snapshot(dir)), Vec::<String>::new(), "{more:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The stage of one CA.
pub fn stage(dir: &Path, id: &str) -> String {
    let text = stdout(&mut rotate_ca(dir, &[id, "--status", "-o", "json"]));
    let document: Value = serde_json::from_str(&text).unwrap();
    document["authorities"][0]["stage"].as_str().unwrap().to_owned()
}

/// Random moments at which certkit is killed.
pub struct Moments(u64);

impl Moments {
    /// Others each time, and told.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let first = now.as_nanos() as u64 | 1;
        println!("moments begin with {first}");
        Self(first)
    }

    /// An xorshift is random enough for a moment.
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % 400)
    }

    /// Brings these to a stage, with certkit killed at some moments first.
    #[track_caller]
    pub fn go(&mut self, dir: &Path, names: &[&str], stage: &str, more: &[&str]) {
        let command = || rotate_ca(dir, &[names, &["--to", stage], more].concat());
        let mut killed = 0;
        for _ in 0..4 {
            let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(self.next());
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                killed += 1;
            }
            child.wait().unwrap();
        }
        run(&mut command());
        println!("{names:?} to {stage}: killed {killed} times");
        let said = stdout(&mut rotate_ca(dir, &[names, &["-o", "json"]].concat()));
        let document: Value = serde_json::from_str(&said).unwrap();
        for one in document["authorities"].as_array().unwrap() {
            assert_eq!(one["stage"], stage, "{said}");
        }
        run(certkit().args(["verify", "--dir"]).arg(dir));
    }
}
