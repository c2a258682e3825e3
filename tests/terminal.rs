//! What people see: transcripts at 80 and 120 columns, and what --quiet leaves.

mod support;

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{certkit, golden, need, run, run_to_exit, temp_dir, tree::copy};

/// Some days before the fixtures' leaves end, and long after.
const SOON: &str = "2027-11-01T00:00:00Z";
const LATE: &str = "2028-03-01T00:00:00Z";
const WIDTHS: [usize; 2] = [80, 120];

#[test]
fn transcripts_fit_80_and_120_columns() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36/rsa-2048"), &dir);
    let nothing = folder.path().join("nothing");
    let dry = ["rotate", "--all", "--dry-run", "--at", SOON];
    for width in WIDTHS {
        let commands: [(&str, Command); 11] = [
            ("check-expiration", at(&["check-expiration", "--at", SOON], &dir)),
            ("check-expired", at(&["check-expiration", "--at", LATE], &dir)),
            ("check-nothing", at(&["check-expiration"], Path::new("/nonexistent/kubernetes"))),
            ("check-folder", at(&["check-expiration", "--at", SOON, "-r"], &dir)),
            ("init-dry-run", init(&nothing, &["--dry-run", "--at", SOON])),
            ("rotate-all-dry-run", at(&dry, &dir)),
            ("paths", at(&["paths"], &dir)),
            ("verify", at(&["verify", "-v", "--forecast", "--at", LATE], &dir)),
            ("show", at(&["show", "--at", SOON, "pki/pki/apiserver.crt"], &dir)),
            ("template", at(&["template"], &dir)),
            ("rotate-help", at(&["rotate", "--help"], &dir)),
        ];
        for (name, mut command) in commands {
            // Named from here, so that it is named alike wherever the tests run.
            command.current_dir(folder.path());
            if name == "check-folder" {
                command.arg("pki");
            }
            let output = command.env("COLUMNS", width.to_string()).output().expect("certkit");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            // Of the same length wherever the tests run.
            let text =
                text.replace(&folder.path().display().to_string(), "/tmp/certkit-test-ABCDEF");
            for line in text.lines().filter(|line| is_of_a_table(line)) {
                let columns = line.chars().count();
                assert!(columns <= width, "{name}: {columns} columns: {line}");
            }
            golden(&format!("terminal/{name}-{width}.txt"), &text);
        }
    }
}

#[test]
fn no_row_wraps_at_any_width_and_without_one_all_is_there() {
    let folder = temp_dir();
    let dir = workspace(folder.path(), 2);
    let table = |width: &str| {
        let mut command = at(&["check-expiration", "--at", SOON], &dir);
        command.env("COLUMNS", width);
        String::from_utf8(command.output().expect("certkit").stdout).expect("UTF-8")
    };
    for width in [40, 60, 72, 80, 100, 132] {
        for line in table(&width.to_string()).lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
    let head = "CERTIFICATE|EXPIRES|RESIDUAL TIME|CERTIFICATE AUTHORITY|EXTERNALLY MANAGED|STATUS";
    let mut piped = at(&["check-expiration", "--at", SOON], &dir);
    let piped = String::from_utf8(piped.output().expect("certkit").stdout).expect("UTF-8");
    let first = piped.lines().next().expect("a heading");
    let first = first.split("   ").map(str::trim).filter(|part| !part.is_empty());
    assert_eq!(first.collect::<Vec<_>>().join("|"), head);
    let mut wide = at(&["check-expiration", "--at", SOON, "-o", "wide"], &dir);
    let wide =
        String::from_utf8(wide.env("COLUMNS", "80").output().expect("it").stdout).expect("UTF-8");
    assert!(wide.lines().next().is_some_and(|line| line.contains("SHA256") && line.len() > 120));
}

#[test]
fn a_mail_about_a_big_workspace_is_a_summary_and_the_worst() {
    let folder = temp_dir();
    let dir = workspace(folder.path(), 60);
    let late = "2099-01-01T00:00:00Z";
    let mail = |more: &[&str]| {
        let mut command = at(&["check-expiration", "-q", "--at", late], &dir);
        let output = run_to_exit(command.args(more), 2);
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = mail(&[]);
    assert!(text.lines().count() < 40, "{text}");
    assert!(text.contains("certificates need attention"), "{text}");
    assert!(text.contains("EXPIRED"), "{text}");
    assert!(mail(&["-o", "wide"]).lines().count() > 120);
    // Few are told as they are.
    let few = temp_dir();
    let dir = workspace(few.path(), 1);
    fs::remove_file(dir.join("hosts/w1/pki/kubelet.crt")).expect("a certificate");
    let mut command = at(&["check-expiration", "-q"], &dir);
    let text = String::from_utf8(run_to_exit(&mut command, 2).stdout).expect("UTF-8");
    assert!(text.starts_with("CERTIFICATE"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn quiet_silences_what_is_not_wrong_and_only_that() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    let said = |output: std::process::Output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    assert_eq!(said(run(&mut init(&dir, &["-q"]))), "");
    for quiet in [
        &["check-expiration", "-q"][..],
        &["rotate", "-q"],
        &["rotate", "--all", "-q"],
        &["rotate", "--rollback", "-q"],
        &["prune", "-q"],
    ] {
        assert_eq!(said(run(&mut at(quiet, &dir))), "", "{quiet:?}");
    }
    // Data that was asked for is data.
    for data in [&["flags", "etcd", "-q"][..], &["paths", "-q"], &["rotate", "-q", "-o", "json"]] {
        assert_ne!(said(run(&mut at(data, &dir))), "", "{data:?}");
    }
    // A change that is decided and not finished is a note, and the files are all right.
    let key = dir.join("pki/apiserver.key");
    fs::remove_file(&key).expect("a key");
    let verify = said(run_to_exit(&mut at(&["verify", "-q"], &dir), 2));
    assert!(verify.contains("critical") && !verify.contains("handshakes:"), "{verify}");
    let error = said(run_to_exit(&mut at(&["rotate", "nosuch", "-q"], &dir), 64));
    assert!(error.contains("error:"), "{error}");
}

fn at(arguments: &[&str], dir: &Path) -> Command {
    let mut command = certkit();
    command.args(arguments).arg("--dir").arg(dir);
    command.env_remove("COLUMNS").env("CERTKIT_MACHINE", "cp1");
    command
}

fn init(dir: &Path, more: &[&str]) -> Command {
    let mut command = at(&["init", "--name", "demo", "--host", "cp1=10.0.0.11"], dir);
    command.args(more);
    command
}

fn declaration(workers: usize) -> String {
    let node =
        |n| format!("  - {{name: w{n}, addresses: [10.0.{}.{}]}}\n", 1 + n / 200, 1 + n % 200);
    let nodes: String = (1..=workers).map(node).collect();
    format!(
        "apiVersion: certkit/v1\nkind: Cluster\nname: demo\nendpoint: api.demo.example.com:6443\n\
         controlPlane:\n  - {{name: control-plane-1, addresses: [10.0.0.11]}}\nnodes:\n{nodes}"
    )
}

/// A workspace of a control plane and this many workers.
fn workspace(folder: &Path, workers: usize) -> std::path::PathBuf {
    let config = folder.join("cluster.yaml");
    fs::write(&config, declaration(workers)).expect("written");
    let dir = folder.join("pki");
    run(at(&["init", "-q"], &dir).arg("--config").arg(&config));
    dir
}

/// Prose may be as long as it likes: a terminal wraps it.
fn is_of_a_table(line: &str) -> bool {
    line.contains("   ") && !line.trim_start().starts_with("hint:")
}

#[test]
fn long_work_shows_its_rate_and_the_time_left_on_a_terminal_only() {
    let Some(script) = need("script") else { return };
    let folder = temp_dir();
    let program = certkit().get_program().to_str().expect("UTF-8").to_owned();
    let config = folder.path().join("cluster.yaml");
    fs::write(&config, declaration(5)).expect("written");
    let line = |name: &str, more: &str| {
        format!(
            "{program} init --key-algorithm rsa-3072 --config {} --dir {} {more}",
            config.display(),
            folder.path().join(name).display()
        )
    };
    let on_terminal = |name: &str, more: &str| {
        let mut command = Command::new(&script);
        command.args(["-qec", &line(name, more), "/dev/null"]).env("TERM", "xterm");
        String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
    };
    let shown = on_terminal("a", "");
    assert!(shown.contains(" certificates [") && shown.contains("/s, "), "{shown}");
    assert!(shown.contains(" left"), "{shown}");
    let shown = on_terminal("b", "--no-progress");
    assert!(!shown.contains(" certificates ["), "{shown}");
    let piped = run(Command::new("sh").args(["-c", &line("c", "")]));
    assert!(piped.stderr.is_empty(), "{}", String::from_utf8_lossy(&piped.stderr));
}

#[test]
fn a_signal_says_that_nothing_was_changed() {
    let folder = temp_dir();
    let config = folder.path().join("cluster.yaml");
    fs::write(&config, declaration(300)).expect("written");
    let dir = folder.path().join("pki");
    let mut command = at(&["init", "--key-algorithm", "rsa-4096"], &dir);
    let command = command.arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().expect("certkit");
    thread::sleep(Duration::from_millis(700));
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(2), "{said}");
    assert!(said.contains("interrupted by SIGINT: nothing in") && said.contains("hint:"), "{said}");
    assert!(!dir.join("pki").exists());
}

/// What a program says that strace has started, and that gets a signal.
fn said_when_interrupted(strace: Child) -> String {
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let traced = fs::read_to_string(children).expect("strace's child");
    signal(traced.trim().parse().expect("one process"), "INT");
    let output = strace.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_signal_says_that_the_change_is_decided_and_what_finishes_it() {
    let Some(strace) = need("strace") else { return };
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    run(&mut init(&dir, &["-q"]));
    let program = certkit().get_program().to_owned();
    let mut command = Command::new(strace);
    // Slow enough to be met between its renames.
    command.args(["-f", "-o", "/dev/null", "-e", "inject=renameat:delay_enter=300000", "--"]);
    command.arg(&program).args(["rotate", "--all", "--dir"]).arg(&dir);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace");
    let start = Instant::now();
    while !dir.join(".certkit/journal").exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "it is never decided");
        thread::sleep(Duration::from_millis(5));
    }
    let said = said_when_interrupted(child);
    assert!(said.contains("is decided and partly in place"), "{said}");
    let hint = said.lines().find_map(|line| line.strip_prefix("hint: certkit ")).expect("a hint");
    // The command that is named finishes it.
    assert!(dir.join(".certkit/journal").exists());
    let mut finish = certkit();
    run(finish.args(hint.split(' ')));
    assert!(!dir.join(".certkit/journal").exists());
    run(&mut at(&["verify"], &dir));
}

#[test]
fn a_signal_among_parts_says_how_many_nodes_are_done() {
    let Some(strace) = need("strace") else { return };
    let folder = temp_dir();
    let config = folder.path().join("cluster.yaml");
    // Several parts, whatever the build.
    fs::write(&config, declaration(2100)).expect("written");
    let dir = folder.path().join("pki");
    let mut command = Command::new(strace);
    // Slow enough to be met between its parts.
    command.args(["-f", "-o", "/dev/null", "-e", "trace=syncfs"]);
    command.args(["-e", "inject=syncfs:delay_enter=400000", "--"]).arg(certkit().get_program());
    command.args(["init", "--config"]).arg(&config).arg("--dir").arg(&dir);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace");
    let start = Instant::now();
    let log = dir.join(".certkit/log.jsonl");
    while fs::metadata(&log).map_or(0, |log| log.len()) == 0
        || dir.join(".certkit/journal").exists()
    {
        assert!(start.elapsed() < Duration::from_secs(60), "no part is ever done");
        thread::sleep(Duration::from_millis(5));
    }
    let said = said_when_interrupted(child);
    let number = said.strip_prefix("interrupted by SIGINT: of 2100 nodes ");
    let number: Option<usize> = number.and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(number.is_some_and(|done| done < 2100 && done % 10 == 0), "{said}");
    assert!(said.contains("hint: run it again: it does what is left"), "{said}");
}

#[test]
fn a_signal_says_how_far_an_export_came() {
    let Some(strace) = need("strace") else { return };
    let folder = temp_dir();
    let dir = workspace(folder.path(), 5);
    let out = folder.path().join("out");
    let program = certkit().get_program().to_owned();
    let mut command = Command::new(strace);
    // Slow enough to be met between its renames.
    command.args(["-f", "-o", "/dev/null", "-e", "inject=renameat:delay_enter=300000", "--"]);
    command.arg(&program).args(["export", "--all"]).arg(&out).arg("--dir").arg(&dir);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace");
    let start = Instant::now();
    let archives = || {
        let names = fs::read_dir(&out).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.ends_with(".tar")).count()
    };
    while archives() == 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "no archive is written");
        thread::sleep(Duration::from_millis(5));
    }
    let said = said_when_interrupted(child);
    assert!(said.contains("interrupted by SIGINT: ") && said.contains("is whole"), "{said}");
    assert!(!out.join("certkit-export.json").exists(), "nothing is recorded that was not done");
    let mut again = certkit();
    again.args(["export", "--changed", "-q", "--all"]).arg(&out).arg("--dir").arg(&dir);
    run(&mut again);
    assert_eq!(archives(), 6);
}

fn signal(process: u32, name: &str) {
    run(Command::new("kill").args(["-s", name, &process.to_string()]));
}
