//! What happens to certkit from outside: signals while a hook runs, kills while a textfile is written, pipes instead
//! of files, readers that leave, disks that are full, templates that never end.

mod support;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{certkit, need, run, run_to_exit, temp_dir};

#[test]
fn a_signal_during_a_hook_reaches_all_of_it_and_no_other_hook_is_run() {
    for signal in ["TERM", "INT", "HUP"] {
        let folder = temp_dir();
        let dir = pki(folder.path());
        let log = folder.path().join("log");
        // A child of the hook's shell that would go on for long, and a trap that tells of the signal.
        let hook = format!(
            "echo start $CERTKIT_COMPONENT >>{log}; trap 'echo got; echo {signal} >>{log}; exit 9' {signal}; \
             sleep 20 & echo $! >>{log}.children; wait",
            log = log.display()
        );
        let mut child = certkit();
        child.args(["rotate", "--all", "--hook", &hook, "--dir"]).arg(&dir);
        let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("certkit");
        until(|| {
            fs::read_to_string(log.with_extension("children")).is_ok_and(|t| t.ends_with('\n'))
        });
        send(&child, signal);
        let output = ended(child);
        let told = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{signal}: {told}");
        assert!(told.contains(&format!("SIG{signal}")), "{told}");
        assert!(told.contains("was not run"), "{told}");
        let log = fs::read_to_string(&log).expect("the hook's log");
        assert_eq!(log.matches("start").count(), 1, "{log}");
        assert!(log.contains(signal), "the hook's shell got no {signal}: {log}");
        let child = fs::read_to_string(folder.path().join("log.children")).expect("children");
        // A shell has what it starts in the background ignore SIGINT.
        if signal != "INT" {
            until(|| !is_alive(child.trim()));
        }
        run(certkit().args(["verify", "--dir"]).arg(&dir));
    }
}

#[test]
fn a_hook_that_finishes_after_a_signal_has_done_its_work() {
    let folder = temp_dir();
    let dir = pki(folder.path());
    let mark = folder.path().join("mark");
    let hook = format!(
        "trap : TERM; echo x >>{mark}; while [ ! -e {mark}.go ]; do sleep 0.05; done; exit 0",
        mark = mark.display()
    );
    let mut child = certkit();
    child.args(["rotate", "--all", "--hook", &hook, "-o", "json", "--dir"]).arg(&dir);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("certkit");
    until(|| mark.exists());
    send(&child, "TERM");
    thread::sleep(Duration::from_millis(100));
    fs::write(mark.with_extension("go"), "").expect("mark");
    let output = ended(child);
    // The first one is done, the others were not run.
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(fs::read_to_string(&mark).expect("mark"), "x\n");
}

#[test]
fn without_a_hook_a_signal_ends_it_as_always() {
    let folder = temp_dir();
    let dir = pki(folder.path());
    let mut child = certkit();
    child.args(["rotate", "--within", "100%", "--jitter", "1h", "--dir"]).arg(&dir);
    let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("certkit");
    thread::sleep(Duration::from_millis(300));
    send(&child, "TERM");
    let status = ended(child).status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
}

#[test]
fn textfiles_of_killed_runs_do_not_pile_up() {
    let Some(strace) = need("strace") else { return };
    let folder = temp_dir();
    let dir = pki(folder.path());
    let metrics = folder.path().join("metrics");
    fs::create_dir(&metrics).expect("a folder");
    let file = metrics.join("certkit.prom");
    let check = |command: &mut Command| {
        let mut tail = command.args(["check-expiration", "-q", "--textfile"]);
        tail = tail.arg(&file).arg("--dir").arg(&dir).stdout(Stdio::null()).stderr(Stdio::null());
        tail.status().expect("started")
    };
    let program = certkit().get_program().to_owned();
    for _ in 0..8 {
        let mut killed = Command::new(&strace);
        killed.args(["-f", "-o", "/dev/null", "-e", "inject=renameat:signal=SIGKILL", "--"]);
        check(killed.arg(&program));
    }
    let left = || fs::read_dir(&metrics).expect("a folder").count();
    assert!((1..=2).contains(&left()), "{} files after eight kills", left());
    assert!(check(&mut certkit()).success());
    assert_eq!(left(), 1);
    // What somebody is still writing stays.
    let other = metrics.join(format!(".certkit.prom.certkit-{}-1f", std::process::id()));
    fs::write(&other, "x").expect("written");
    assert!(check(&mut certkit()).success());
    assert!(other.exists());
}

#[test]
fn a_pipe_is_a_configuration_file_too() {
    let Some(bash) = need("bash") else { return };
    let folder = temp_dir();
    let text = "apiVersion: certkit/v1\nkind: Cluster\nname: piped\ncontrolPlane:\n  - {name: cp1, \
                addresses: [10.0.0.11]}\n";
    fs::write(folder.path().join("c.yaml"), text).expect("written");
    let program = certkit().get_program().to_owned();
    let said = |script: &str, code: i32| {
        let mut shell = Command::new(&bash);
        shell.args(["-c", script, "bash"]).arg(&program).current_dir(folder.path());
        let output = run_to_exit(&mut shell, code);
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    for (name, script) in [
        ("a", "$1 init --config <(cat c.yaml) --dir a"),
        (
            "b",
            "$1 init --config <(sleep 0.5; head -c 40 c.yaml; sleep 0.3; tail -c +41 c.yaml) --dir b",
        ),
        ("c", "$1 init --config /dev/stdin --dir c < <(cat c.yaml)"),
        ("d", "mkfifo f; (sleep 0.5; cat c.yaml >f) & $1 init --config f --dir d"),
        ("e", "$1 init --config - --dir e <c.yaml"),
        ("g", "$1 init --config /dev/fd/7 --dir g 7<c.yaml"),
    ] {
        said(script, 0);
        let made = fs::read_to_string(folder.path().join(name).join("certkit.yaml"));
        assert!(made.is_ok_and(|text| text.contains("piped")), "{script}");
    }
    assert!(said("$1 init --config <(yes) --dir x", 3).contains("larger"));
    assert!(said("$1 init --config /dev/zero --dir x", 3).contains("no regular file"));
    assert!(said("yes | $1 init --config - --dir x", 3).contains("larger"));
    said("$1 verify --dir a --flags <(echo kubelet; echo --anonymous-auth=true)", 2);
    assert!(!folder.path().join("x").exists());
}

#[test]
fn a_reader_that_leaves_does_not_change_what_there_is_to_say() {
    let Some(bash) = need("bash") else { return };
    let folder = temp_dir();
    let dir = pki(folder.path());
    fs::remove_file(dir.join("pki/apiserver.key")).expect("removed");
    let program = certkit().get_program().to_owned();
    for (command, code) in [
        ("verify", 2),
        ("verify -o json", 2),
        ("check-expiration", 0),
        ("check-expiration -o json --warn 100y", 1),
        ("export cp1", 3),
        // It is signed, and nobody has its key.
        ("kubeconfig bob", 4),
        ("export cp1 >/dev/full; exit $?; $1 paths", 3),
    ] {
        // Nobody reads any more before the first line is written: what fits into a pipe is written to nobody else.
        let script = format!(
            "mkfifo $2.fifo; true <$2.fifo & exec 3>$2.fifo; wait; $1 {command} --dir $2 >&3; \
             code=$?; rm $2.fifo; exit $code"
        );
        let script = match command.contains(';') {
            true => "$1 export cp1 --dir $2 >/dev/full".to_owned(),
            false => script,
        };
        let mut shell = Command::new(&bash);
        run_to_exit(shell.args(["-c", &script, "bash"]).arg(&program).arg(&dir), code);
    }
    for command in ["verify", "check-expiration", "paths", "flags", "template cron"] {
        let mut shell = Command::new(&bash);
        let script = format!("$1 {command} --dir $2 >/dev/full");
        let script = match command.starts_with("template") {
            true => format!("$1 {command} >/dev/full"),
            false => script,
        };
        let output = run_to_exit(shell.args(["-c", &script, "bash"]).arg(&program).arg(&dir), 3);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot write to standard output"), "{command}: {said}");
    }
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let folder = temp_dir();
    let dir = pki(folder.path());
    let template = folder.path().join("t/flags/systemd.conf");
    fs::create_dir_all(template.parent().expect("a folder")).expect("a folder");
    for text in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ] {
        fs::write(&template, text).expect("a template");
        let mut command = certkit();
        command.args(["flags", "kubelet", "--format", "systemd", "--templates"]);
        command.arg(folder.path().join("t")).arg("--dir").arg(&dir);
        let begun = Instant::now();
        let output = run_to_exit(&mut command, 3);
        assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("error: "), "{text}");
    }
}

fn pki(folder: &Path) -> std::path::PathBuf {
    let dir = folder.join("pki");
    run(certkit().args(["init", "--host", "cp1=127.0.0.1", "--dir"]).arg(&dir));
    dir
}

#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it did not come to that");
        thread::sleep(Duration::from_millis(20));
    }
}

fn send(child: &Child, signal: &str) {
    let number = child.id().to_string();
    run(Command::new("sh").args(["-c", &format!("kill -{signal} {number}")]));
}

fn is_alive(process: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("kill -0 {process}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn ended(child: Child) -> Output {
    let _ = std::io::stdout().flush();
    child.wait_with_output().expect("it ends")
}
