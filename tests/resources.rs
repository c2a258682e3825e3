//! What a machine gives a process is limited: open files, threads. certkit needs few of either, however many hosts
//! there are.

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use support::{certkit, need, run, run_to_exit, temp_dir};

/// More hosts than files may be open, with several files each.
const HOSTS: usize = 70;

/// Commands over a workspace in `d`, and how each ends.
const COMMANDS: &[(&[&str], i32)] = &[
    (&["init", "--config", "cluster.yaml", "--dir", "d"], 0),
    (&["init", "--dir", "d"], 0),
    (&["rotate", "--all", "--dir", "d"], 0),
    (&["rotate", "--all", "--dry-run", "--dir", "d"], 0),
    (&["rotate", "--rollback", "--dir", "d"], 0),
    (&["check-expiration", "--dir", "d"], 0),
    (&["check-expiration", "-o", "json", "--recursive", "d/pki", "d/hosts/n1/pki"], 0),
    (&["verify", "--dir", "d"], 0),
    (&["flags", "--dir", "d", "--host", "n7"], 0),
    (&["export", "n7", "--dir", "d"], 0),
    (&["export", "--all", "archives", "--dir", "d"], 0),
    (&["check-expiration", "--dir", "d", "--connect", "localhost:1", "--connect", "[::1]:1"], 3),
];

#[test]
fn a_workspace_of_many_hosts_needs_few_open_files() {
    let folder = temp_dir();
    declare(folder.path(), HOSTS);
    for (arguments, code) in COMMANDS {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(certkit().get_program());
        run_to_exit(shell.args(*arguments).current_dir(folder.path()), *code);
    }
}

#[test]
fn without_a_thread_to_be_had_everything_is_done_by_one() {
    let Some(setpriv) = need("setpriv") else { return };
    let Some(prlimit) = need("prlimit") else { return };
    let folder = temp_dir();
    let folder = folder.path();
    declare(folder, HOSTS);
    // Somewhere that any user may run it.
    let program = folder.join("certkit");
    fs::copy(certkit().get_program(), &program).expect("a copy");
    let limited = || {
        // The limit does not hold for root.
        let mut command = match fs::metadata(folder).expect("metadata").uid() {
            0 | NOBODY => {
                fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("mode");
                std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).expect("owner");
                let mut command = Command::new(&setpriv);
                let id = NOBODY.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(&prlimit);
                command
            }
            _ => Command::new(&prlimit),
        };
        command.arg("--nproc=1").current_dir(folder).env("NO_COLOR", "1");
        command
    };
    // It can fail: no other process is to be had.
    let forked = run_to_exit(limited().args(["sh", "-c", "true & wait"]), 2);
    assert!(!forked.stderr.is_empty(), "the limit does not hold");
    for (arguments, code) in COMMANDS {
        run_to_exit(limited().arg(&program).args(*arguments), *code);
    }
    let mut strict = Command::new(&program);
    run(strict.args(["verify", "--dir", "d"]).current_dir(folder).env("NO_COLOR", "1"));
}

/// The user that owns nothing, by Debian's number.
const NOBODY: u32 = 65534;

/// A `cluster.yaml` of one control plane and many nodes.
fn declare(folder: &Path, hosts: usize) -> PathBuf {
    let nodes: String = (0..hosts)
        .map(|n| format!("  - {{name: n{n}, addresses: [10.1.{}.{}]}}\n", n / 200, n % 200 + 1))
        .collect();
    let path = folder.join("cluster.yaml");
    let text = format!(
        "apiVersion: certkit/v1\nkind: Cluster\nname: prod\nendpoint: a.example.com:6443\n\
         controlPlane:\n  - {{name: cp1, addresses: [10.0.0.11]}}\nnodes:\n{nodes}"
    );
    fs::write(&path, text).expect("cluster.yaml");
    path
}
