//! `certkit rotate-ca`, asked and refused.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::{
    certkit, run_to_exit, stdout,
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
