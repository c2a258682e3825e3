//! Nothing leaves the machine: whatever the command, no socket is made for another host unless somebody named one.

mod support;

use std::{fs, process::Command};

use support::{certkit, need, temp_dir};

/// What a command line may ask the kernel for: the way out, from which no octet is sent.
const ROUTE: &[&str] = &["htons(9)"];

#[test]
fn no_command_reaches_for_the_network_by_itself() {
    let Some(strace) = need("strace") else { return };
    let folder = temp_dir();
    let dir = folder.path().join("d");
    let log = folder.path().join("calls");
    let lines: &[&[&str]] = &[
        &["init", "--host", "cp1=10.0.0.11", "--endpoint", "api.example.com:6443"],
        &["check-expiration"],
        &["verify", "--forecast"],
        &["paths"],
        &["flags"],
        &["fleet", "check", "DIR"],
        &["rotate", "--all", "--wait", "1s"],
        &["rotate-ca", "--next"],
        &["rotate-ca", "--status"],
        &["rotate-ca", "--undo"],
        &["kubeconfig", "someone"],
        &["show", "DIR/pki/ca.crt"],
        &["export", "cp1"],
        &["export", "--all", "DIR-archives", "--changed"],
        &["nodes", "add", "w1=10.0.1.1"],
        &["deploy", "--ssh", "false"],
        &["receive"],
        &["report"],
        &["status"],
        &["prune"],
        &["recover"],
        &["import", "DIR/pki/apiserver.crt"],
        &["template", "cron"],
        &["completions", "bash"],
        &["man"],
    ];
    for command in certkit::cli::command().get_subcommands().map(|c| c.get_name()) {
        assert!(command == "help" || lines.iter().any(|line| line[0] == command), "{command}");
    }
    let mut calls = 0;
    for line in lines {
        let mut traced = Command::new(&strace);
        traced.args(["-f", "-qq", "-e", "trace=socket,connect,sendto,sendmsg", "-o"]).arg(&log);
        traced.arg(certkit().get_program()).arg("--dir").arg(&dir);
        for word in *line {
            traced.arg(word.replace("DIR", dir.to_str().unwrap()));
        }
        let output = traced.output().unwrap();
        let code = output.status.code();
        assert!(matches!(code, Some(0..=4)), "{line:?}: {code:?} {output:?}");
        let said = fs::read_to_string(&log).unwrap();
        // A call that goes somewhere: to connect, or to send.
        let goes = said.lines().filter(|l| {
            ["connect(", "sendto(", "sendmsg("].iter().any(|call| l.contains(call))
                && !ROUTE.iter().any(|known| l.contains(known))
        });
        let away: Vec<&str> = goes.filter(|l| !is_here(l)).collect();
        assert!(away.is_empty(), "{line:?}: {away:#?}");
        calls += said.lines().count();
    }
    // It can be seen: `--wait` knocks at this machine's own doors.
    assert!(calls > 0, "strace saw nothing");
    let mut traced = Command::new(&strace);
    traced.args(["-f", "-qq", "-e", "trace=connect", "-o"]).arg(&log);
    traced.arg(certkit().get_program()).args(["check-expiration", "--connect", "127.0.43.1:1"]);
    traced.arg("--dir").arg(&dir).output().unwrap();
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("127.0.43.1"), "{said}");
}

/// Whether a call is to this machine: the loopback addresses, or a socket in the file system (the resolver of names
/// asks `nscd` by one).
fn is_here(call: &str) -> bool {
    ["AF_UNIX", "inet_addr(\"127.", "\"::1\""].iter().any(|here| call.contains(here))
}
