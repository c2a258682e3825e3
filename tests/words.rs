//! What certkit says when a command line is wrong, and what to do next: commands that can be pasted, with real names.

mod support;

use std::{fs, path::Path, process::Command};

use support::{certkit, run, run_to_exit, temp_dir};

const HOST: [&str; 4] = ["--name", "demo", "--host", "cp1=10.0.0.11"];

#[test]
fn a_wrong_command_line_is_64_and_names_the_argument() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    for (line, argument, told) in [
        ("init --host a=10.0.0.1 --host a=10.0.0.2", "--host a", "named twice"),
        ("init --host a=10.0.0.1 --host b=10.0.0.1", "--host b", "10.0.0.1 is given twice"),
        ("init --host a=10.0.0.1 --addon konectivity", "--addon", "konnectivity"),
        ("init --host a=10.0.0.1 --endpoint fd00::1:6443", "--endpoint", "[fd00::1]:6443"),
        ("check-expiration --warn 1d --critical 7d", "--warn 1d", "there would be no warning"),
        ("check-expiration --warn 5% --critical 10%", "--warn 5%", "there would be no warning"),
        ("verify --allow unsed", "--allow", "unused"),
        ("kubeconfig alice --group system:masters --out x", "--group", "--allow-system"),
        ("kubeconfig system:admin --out x", "NAME", "--allow-system"),
        ("kubeconfig alice --validity 0s --out x", "--validity", "no time"),
        ("kubeconfig alice --csr", "--out", "required"),
        ("show 10.0.0.1:x", "HOST:PORT", "10.0.0.1:x"),
    ] {
        let output = run_to_exit(certkit().args(line.split(' ')).arg("--dir").arg(&dir), 64);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(argument) && said.contains(told), "{line}: {said}");
        assert!(output.stdout.is_empty() && !dir.exists(), "{line}");
    }
    // The address itself, in brackets, is one.
    let mut command = certkit();
    command.args([
        "init",
        "-q",
        "--host",
        "a=fd00::1",
        "--endpoint",
        "[fd00::1:6443]:6443",
        "--dir",
    ]);
    run(command.arg(&dir));
}

#[test]
fn what_was_meant_is_a_command_that_works() {
    let folder = temp_dir();
    let dir = folder.path().join("my pki");
    run(certkit().arg("init").args(HOST).arg("-q").arg("--dir").arg(&dir));
    for (wrong, code) in [
        (&["renew", "apiserver"][..], 0),
        (&["certs", "renew", "all"], 0),
        (&["certs", "check-expiration", "-o", "json"], 0),
        (&["version"], 0),
    ] {
        let mut command = certkit();
        let said = run_to_exit(command.args(wrong).arg("--dir").arg(&dir), 64);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        pasted(&said, folder.path(), code);
    }
    for (wrong, near) in [
        (&["rotate", "apiservr"][..], "`certkit --dir"),
        (&["export", "cp11"], "did you mean `cp1`?"),
        (&["flags", "etcd", "--host", "cp11"], "did you mean `cp1`?"),
        (&["flags", "kube-apiservr"], "kube-apiserver"),
        (&["rotat"], "rotate"),
    ] {
        let said = run_to_exit(certkit().args(wrong).arg("--dir").arg(&dir), 64);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains(near), "{wrong:?}: {said}");
    }
}

#[test]
fn hints_of_findings_are_commands_that_mend_them() {
    let folder = temp_dir();
    let dir = folder.path().join("my pki");
    run(certkit()
        .arg("init")
        .args(HOST)
        .args(["--addon", "kube-proxy,konnectivity", "-q", "--dir"])
        .arg(&dir));
    // A key that everybody can read, and a key that is another's.
    let key = dir.join("pki/scheduler.key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("mode");
    fs::copy(dir.join("pki/kubelet.key"), dir.join("pki/apiserver.key")).expect("copied");
    let verify = || {
        let output = certkit().args(["verify", "--dir"]).arg(&dir).output().expect("certkit");
        (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
    };
    let (said, code) = verify();
    assert_eq!(code, Some(2));
    assert!(!said.contains("NAME") && !said.contains("FILE"), "{said}");
    let hints = said.lines().filter_map(|line| line.trim().strip_prefix("hint:"));
    let commands: Vec<String> = hints
        .filter_map(|hint| {
            let at = hint.find("chmod").or_else(|| hint.find("certkit --dir"))?;
            Some(hint[at..].split(';').next().unwrap_or_default().to_owned())
        })
        .collect();
    assert!(commands.iter().any(|c| c.starts_with("chmod 600 '")), "{said}");
    assert!(commands.iter().any(|c| c.contains("rotate apiserver")), "{said}");
    for command in commands {
        paste(&command, folder.path(), 0);
    }
    let (said, code) = verify();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn next_steps_fit_the_state() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    let init = |more: &[&str]| {
        let mut command = certkit();
        let output = run(command.arg("init").args(more).arg("--dir").arg(&dir));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let root = [&HOST[..], &["--single-root"]].concat();
    let first = init(&root);
    assert!(first.contains("root-ca.key offline") && first.contains("flags"), "{first}");
    fs::remove_file(dir.join("pki/root-ca.key")).expect("taken offline");
    fs::remove_file(dir.join("pki/sa.pub")).expect("lost");
    let second = init(&[]);
    assert!(second.contains("sa") && !second.contains("offline"), "{second}");
    // An external CA: nothing can be started yet.
    let other = folder.path().join("external");
    fs::create_dir_all(other.join("pki")).expect("a folder");
    fs::copy(dir.join("pki/ca.crt"), other.join("pki/ca.crt")).expect("copied");
    let mut command = certkit();
    let waiting = run(command.arg("init").args(HOST).arg("--dir").arg(&other)).stdout;
    let waiting = String::from_utf8(waiting).expect("UTF-8");
    assert!(waiting.contains("/csr/*.crt") && !waiting.contains("kubectl"), "{waiting}");
    let notes = waiting.lines().filter(|line| line.starts_with("note:"));
    let notes: Vec<&str> = notes.filter_map(|note| note.rsplit(": ").next()).collect();
    let mut once = notes.clone();
    once.dedup();
    assert_eq!(notes, once);
}

#[test]
fn help_lists_exit_codes_that_occur_and_no_others() {
    let listed = |command: &str| {
        let output = run(certkit().args([command, "--help"])).stdout;
        let text = String::from_utf8(output).expect("UTF-8");
        let codes = text.split("EXIT CODES:\n").nth(1).expect("exit codes").to_owned();
        let codes = codes.lines().take_while(|line| !line.is_empty());
        let codes = codes.filter_map(|line| line.split_whitespace().next()?.parse().ok());
        codes.collect::<Vec<u8>>()
    };
    for (command, codes) in [
        ("flags", &[0, 3, 64][..]),
        ("template", &[0, 3, 64]),
        ("man", &[0, 3, 64]),
        ("completions", &[0, 64]),
        ("paths", &[0, 3, 64]),
        ("export", &[0, 3, 4, 64]),
        ("verify", &[0, 1, 2, 3, 64]),
        ("show", &[0, 2, 3, 64]),
        ("kubeconfig", &[0, 3, 4, 64]),
    ] {
        assert_eq!(listed(command), codes, "{command}");
    }
}

/// Runs the hint's command as a shell does.
#[track_caller]
fn pasted(said: &str, folder: &Path, code: i32) {
    let hint = said
        .lines()
        .find_map(|line| line.strip_prefix("hint: "))
        .unwrap_or_else(|| panic!("{said}"));
    paste(hint, folder, code);
}

#[track_caller]
fn paste(command: &str, folder: &Path, code: i32) {
    let program = certkit().get_program().to_owned();
    let bin = Path::new(&program).parent().expect("a folder").display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    run_to_exit(shell.args(["-c", command]).env("PATH", path).current_dir(folder), code);
}

/// The offline build says so, and how to get the other one.
#[test]
fn commands_of_another_build_are_told_as_such() {
    for command in ["controller", "csr"] {
        let output = run_to_exit(certkit().args([command, "list"]), 64);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("make controller"), "{said}");
    }
}
