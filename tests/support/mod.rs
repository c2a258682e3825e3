//! What tests share: the binary under test, programs of other people as oracles, golden files.
//!
//! Every test that needs another program asks [`need`] for it first:
//!
//! ```ignore
//! let Some(etcd) = support::need("etcd") else { return };
//! ```
//!
//! A missing program is a skipped test, reported by name at the end of `make test`. Where `CI` is set
//! it is a failure instead: there, `tests/needs.sh` has run and nothing may be missing.
#![allow(dead_code)] // Each test binary uses its own part of this.

pub mod aggregated;
pub mod cluster;
pub mod etcd;
pub mod fleet;
pub mod generations;
pub mod https;
pub mod kubeadm;
pub mod kubernetes;
pub mod machine;
pub mod many;
pub mod observer;
pub mod plane;
pub mod pod;
pub mod process;
pub mod replica;
pub mod requests;
pub mod schema;
pub mod services;
pub mod storm;
pub mod tree;

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// The program's path, or `None` after reporting the running test as skipped. A failure on CI.
#[track_caller]
pub fn need(program: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        report_skipped(program);
        assert!(!on_ci(), "needs {program}, which is not installed; see tests/needs.sh");
    }
    found
}

/// The same for axe-core, a script for browsers.
#[track_caller]
pub fn need_axe() -> Option<PathBuf> {
    let needs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/needs.sh");
    let path = PathBuf::from(stdout(Command::new(needs).arg("--axe")).trim());
    if path.is_file() {
        return Some(path);
    }
    report_skipped("axe-core");
    assert!(!on_ci(), "needs axe-core, which is not installed; see tests/needs.sh");
    None
}

/// Like [`need`] for what cannot be had everywhere, such as `systemd-analyze`: never a failure.
pub fn optional(program: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        report_skipped(program);
    }
    found
}

/// certkit as built for this test run, free of the caller's settings.
pub fn certkit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certkit"));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CERTKIT_") {
            command.env_remove(name);
        }
    }
    command.env_remove("CLICOLOR_FORCE").env("NO_COLOR", "1").env("TZ", "UTC").env("LC_ALL", "C");
    command
}

/// Puts certkit at `program`, for whoever may not reach it where it is. Another process copies it: where this one held
/// it open for writing, and another thread forked meanwhile, it could not be started (ETXTBSY).
pub fn copy_certkit(program: &Path) {
    run(Command::new("cp").arg(env!("CARGO_BIN_EXE_certkit")).arg(program));
}

/// Runs the command, which must succeed; otherwise all it said is in the failure.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = output(command);
    assert!(output.status.success(), "{}", account(command, &output));
    output
}

/// Runs the command, which must end with this exit code.
#[track_caller]
pub fn run_to_exit(command: &mut Command, code: i32) -> Output {
    let output = output(command);
    assert!(
        output.status.code() == Some(code),
        "wanted exit code {code}: {}",
        account(command, &output)
    );
    output
}

/// What the command wrote on stdout, as text. It must succeed.
#[track_caller]
pub fn stdout(command: &mut Command) -> String {
    text(run(command).stdout)
}

/// What `openssl ARGS` wrote on stdout. Ask [`need`] for `openssl` first.
#[track_caller]
pub fn openssl(args: &[&str]) -> String {
    stdout(Command::new("openssl").args(args))
}

/// Writes a program for sh.
#[track_caller]
pub fn write_script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its own file");
}

/// A folder that is gone when the test ends.
#[track_caller]
pub fn temp_dir() -> TempDir {
    tempfile::Builder::new().prefix("certkit-test-").tempdir().expect("a temporary folder")
}

/// The same in memory where there is such a folder: for tests that write tens of thousands of files, which would keep the
/// disk from the control planes that run beside them.
pub fn temp_dir_in_memory() -> TempDir {
    let in_memory = tempfile::Builder::new().prefix("certkit-test-").tempdir_in("/dev/shm");
    in_memory.unwrap_or_else(|_| temp_dir())
}

/// Compares with the golden file `tests/golden/NAME`; `make golden` rewrites it instead.
#[track_caller]
pub fn golden(name: &str, actual: &str) {
    golden_file(&Path::new("tests/golden").join(name), actual);
}

/// Compares with a file of the project that is kept current by a test, such as a generated page.
#[track_caller]
pub fn golden_file(relative: &Path, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(relative);
    if env::var_os("CERTKIT_GOLDEN").is_some_and(|mode| mode == "write") {
        assert!(!on_ci(), "golden files are not rewritten on CI");
        fs::create_dir_all(path.parent().expect("joined above")).expect("golden folder");
        // Untouched when right: its time of change is when it last changed.
        if fs::read_to_string(&path).ok().as_deref() != Some(actual) {
            fs::write(&path, actual).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        }
        return;
    }
    let shown = relative.display();
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("read {shown}: {e}; `make golden` writes it"));
    if let Some(difference) = first_difference(&expected, actual) {
        panic!("{shown} is not what came out; `make golden` rewrites it\n{difference}");
    }
}

/// The first line that differs, with its number, or `None` for equal texts.
pub fn first_difference(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let (mut old, mut new) = (expected.split('\n'), actual.split('\n'));
    for number in 1.. {
        let (left, right) = (old.next(), new.next());
        if left != right {
            let show = |line: Option<&str>| line.map_or("(end)".to_owned(), |l| format!("{l:?}"));
            return Some(format!(
                "line {number}\n  expected {}\n  actual   {}",
                show(left),
                show(right)
            ));
        }
    }
    unreachable!("texts that differ differ in a line")
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Debian keeps some in /usr/sbin, which is not on everybody's path.
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn on_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// Says it on stderr, and to `certkit-skipped.txt` in the target folder for `make test` to list: the
/// test harness swallows what passing tests print.
fn report_skipped(program: &str) {
    let line = format!("SKIPPED {}: needs {program}\n", test_name());
    eprint!("{line}");
    let path = target_folder().join("certkit-skipped.txt");
    // One write of a short line to a file opened for appending is not torn by another test's.
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

/// The running test's name, with its binary's before it.
fn test_name() -> String {
    let thread = std::thread::current();
    let test = match thread.name() {
        Some(name) if name != "main" => name.to_owned(),
        // A run with one thread: the harness calls the test from its own.
        _ => env::var("NEXTEST_TEST_NAME").unwrap_or_else(|_| "a test".to_owned()),
    };
    format!("{}::{test}", env!("CARGO_CRATE_NAME"))
}

/// Cargo's target folder.
fn target_folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp has a parent")
}

#[track_caller]
fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("start {command:?}: {e}"))
}

#[track_caller]
fn text(octets: Vec<u8>) -> String {
    String::from_utf8(octets).expect("output is UTF-8")
}

fn account(command: &Command, output: &Output) -> String {
    format!(
        "{command:?} ended with {}\n--- stdout\n{}--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Base64 as Secrets and kubeconfigs have it.
pub fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in octets.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        for position in 0..4 {
            match position <= group.len() {
                true => text.push(ALPHABET[(bits >> (18 - 6 * position)) as usize & 63].into()),
                false => text.push('='),
            }
        }
    }
    text
}

/// What that says.
pub fn decoded(text: &str) -> Vec<u8> {
    use ::base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.decode(text).expect("base64")
}
