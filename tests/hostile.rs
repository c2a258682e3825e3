//! What others can put below DIR, do to its lock or take from its disk: root writes, removes and reads out nothing
//! elsewhere, and what is said of a change is true.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use support::{certkit, need, openssl, optional, run, run_to_exit, temp_dir};
use tempfile::TempDir;

/// A folder that others may enter, with a one-host PKI in it.
fn made(name: &str) -> (TempDir, PathBuf) {
    let folder = temp_dir();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = folder.path().join(name);
    run(certkit().arg("init").arg("--dir").arg(&dir).args(["--host", "cp1=127.0.0.1"]));
    (folder, dir)
}

fn rotate(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("rotate").args(arguments).arg("--dir").arg(dir);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Gives a tree to another user, which only root can.
fn give_away(dir: &Path) -> bool {
    let given = Command::new("chown").args(["-R", "1234:1234"]).arg(dir).output();
    let given = given.is_ok_and(|output| output.status.success());
    if !given {
        optional("root's rights");
    }
    given
}

/// Every file below a folder with its content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = support::tree::files(folder).into_iter();
    files.map(|file| (file.clone(), fs::read(folder.join(&file)).unwrap())).collect()
}

/// The certificates, keys and kubeconfigs of a tree.
fn pki(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    contents(dir).into_iter().filter(|(path, _)| !path.starts_with(".certkit")).collect()
}

/// Kills `rotate --all` at its n-th rename.
fn kill_at_rename(dir: &Path, nth: usize, arguments: &[&str]) -> bool {
    if need("strace").is_none() {
        return false;
    }
    let plain = rotate(dir, &["--all"]);
    let inject = format!("inject=renameat:signal=KILL:when={nth}");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat", "-e", &inject]);
    command.arg(plain.get_program()).args(plain.get_args()).args(arguments);
    assert!(!command.output().unwrap().status.success(), "the kill happened");
    true
}

#[test]
fn forged_records_make_root_change_nothing_elsewhere() {
    let (folder, dir) = made("d");
    let out = folder.path().join("out");
    fs::create_dir_all(out.join("empty")).unwrap();
    fs::write(out.join("file"), "precious").unwrap();
    let at = out.display();
    let metadata = dir.join(".certkit");
    let backup = metadata.join("backups/20990101T000000Z-9");
    fs::create_dir_all(backup.join(format!("outside{at}"))).unwrap();
    fs::write(backup.join(format!("outside{at}/evil")), "pwned").unwrap();
    let manifest = format!(
        r#"{{"version":1,"id":"20990101T000000Z-9","files":[{{"path":"{at}/evil","was":"file","mode":2541,
        "uid":0,"gid":0,"sha256":"dd2c36a4f0f5e1e5bb9dc4ea5c3b6bbf1f8b1f4b3e3e4a4a1f1b1ad1b8f1d0aa"}},
        {{"path":"{at}/file","was":"missing"}}]}}"#
    );
    fs::write(backup.join("manifest.json"), manifest).unwrap();
    if !give_away(&dir) {
        return;
    }
    let said = run_to_exit(&mut rotate(&dir, &["--rollback"]), 3);
    assert!(stderr(&said).contains("manifest.json"), "{}", stderr(&said));
    for record in ["staging", "journal"] {
        let forged = format!(
            r#"{{"version":1,"transaction":"aaaaaaaaaaaa","roots":["{at}/empty"],"metadata":false,
            "directories":[],"backup":"1","copies":["{at}/file"],"entries":[],"log":null}}"#
        );
        fs::write(metadata.join(record), forged).unwrap();
        give_away(&dir);
        run_to_exit(&mut rotate(&dir, &["--all"]), 3);
        fs::remove_file(metadata.join(record)).unwrap();
    }
    assert!(out.join("empty").exists() && !out.join("evil").exists());
    assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "precious");
}

#[test]
fn a_kubeconfig_that_names_a_file_elsewhere_has_nothing_written_there() {
    let (folder, dir) = made("d");
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let pem = dir.join("pki/controller-manager-client.pem");
    fs::copy(&pem, out.join("web.pem")).unwrap();
    let replace = |conf: &str, from: &str, to: &str| {
        let text = fs::read_to_string(dir.join(conf)).unwrap();
        let from = dir.join(from).display().to_string();
        fs::write(dir.join(conf), text.replace(&from, out.join(to).to_str().unwrap())).unwrap();
    };
    replace("controller-manager.conf", "pki/controller-manager-client.pem", "web.pem");
    replace("scheduler.conf", "pki/scheduler-client.pem", "new.pem");
    let before = contents(&out);
    let said = run_to_exit(&mut rotate(&dir, &["--all"]), 4);
    assert!(stderr(&said).contains("web.pem is outside of"), "{}", stderr(&said));
    run_to_exit(certkit().arg("init").arg("--dir").arg(&dir), 3);
    assert_eq!(contents(&out), before);
}

#[test]
fn a_copy_of_a_tree_leaves_the_original_alone() {
    let (folder, live) = made("live");
    let copy = folder.path().join("copy");
    run(Command::new("cp").arg("-a").arg(&live).arg(&copy));
    let before = contents(&live);
    let said = run_to_exit(&mut rotate(&copy, &["--all"]), 4);
    assert!(stderr(&said).contains("copy of another tree"), "{}", stderr(&said));
    // The dry run said so before.
    let said = run_to_exit(&mut rotate(&copy, &["--all", "--dry-run"]), 4);
    assert!(stderr(&said).contains("copy of another tree"), "{}", stderr(&said));
    assert_eq!(contents(&live), before);
}

#[test]
fn who_can_merely_read_the_tree_cannot_hold_its_lock() {
    if need("setpriv").is_none() || need("flock").is_none() {
        return;
    }
    let (_folder, dir) = made("d");
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let lock = dir.join(".certkit/lock");
    for file in [&dir, &lock] {
        let mut holder = Command::new("setpriv");
        let mut holder =
            holder.args(nobody).arg("flock").arg(file).args(["sleep", "3"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        run(&mut rotate(&dir, &["--all", "--lock-timeout", "1s"]));
        let _ = holder.kill();
        holder.wait().unwrap();
    }
}

#[test]
fn what_an_interrupted_run_owed_is_done_by_the_next() {
    let (folder, dir) = made("d");
    if !kill_at_rename(&dir, 5, &[]) {
        return;
    }
    let ran = folder.path().join("ran");
    let hook = format!("echo $CERTKIT_COMPONENT >> {}", ran.display());
    let output = run(&mut rotate(&dir, &["--hook", &hook]));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("kube-apiserver") && table.contains("TAKES IT UP"), "{table}");
    assert!(fs::read_to_string(&ran).unwrap().contains("kube-apiserver"));
    // Once.
    fs::remove_file(&ran).unwrap();
    run(&mut rotate(&dir, &["--hook", &hook]));
    assert!(!ran.exists());
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_is_pending() {
    let (folder, dir) = made("d");
    run(&mut rotate(&dir, &["--all"]));
    if !kill_at_rename(&dir, 5, &[]) {
        return;
    }
    let listing = || {
        let mut find = Command::new("find");
        find.arg(&dir).args(["-printf", "%p %i %C@ %s\n"]);
        run(&mut find).stdout
    };
    let before = listing();
    let mut init = certkit();
    init.args(["init", "--dry-run", "--dir"]).arg(&dir);
    let mut all = [rotate(&dir, &["--rollback", "--dry-run"]), rotate(&dir, &["--dry-run"]), init];
    for command in &mut all {
        let said = run(command);
        assert!(stderr(&said).contains("did not finish"), "{command:?}: {}", stderr(&said));
        assert_eq!(listing(), before, "{command:?}");
    }
    // Reading commands say it, too, and an archive of halves is never made.
    let said = certkit().args(["check-expiration", "--dir"]).arg(&dir).output().unwrap();
    assert!(stderr(&said).contains("not finished"), "{}", stderr(&said));
    let said = run_to_exit(certkit().args(["export", "cp1", "--dir"]).arg(&dir), 3);
    assert!(said.stdout.is_empty() && stderr(&said).contains("rotate"), "{}", stderr(&said));
    run(certkit().arg("init").arg("--dir").arg(&dir));
    let archive = run(certkit().args(["export", "cp1", "--dir"]).arg(&dir)).stdout;
    fs::write(folder.path().join("t.tar"), archive).unwrap();
    let listing = run(Command::new("tar").arg("-tf").arg(folder.path().join("t.tar"))).stdout;
    assert!(!String::from_utf8_lossy(&listing).contains("certkit-"));
}

#[test]
fn an_archive_holds_no_other_folder_of_this_machine() {
    let folder = temp_dir();
    let dir = folder.path().join("d");
    let hosts = ["--host", "cp1=10.0.0.1", "--host", "cp2=10.0.0.2"];
    run(certkit().arg("init").arg("--dir").arg(&dir).args(hosts));
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("secret"), "secret").unwrap();
    fs::rename(dir.join("hosts/cp2"), dir.join("hosts/old")).unwrap();
    for target in [out.as_path(), Path::new("../../out"), Path::new("cp1")] {
        symlink(target, dir.join("hosts/cp2")).unwrap();
        let said = run_to_exit(certkit().args(["export", "cp2", "--dir"]).arg(&dir), 3);
        assert!(said.stdout.is_empty() && stderr(&said).contains("cp2"), "{}", stderr(&said));
        fs::remove_file(dir.join("hosts/cp2")).unwrap();
    }
}

/// What stands against a change in one folder is known before anything is decided, and is in no other's way.
#[test]
fn a_folder_that_lets_nothing_be_renamed_is_found_before_the_decision() {
    if need("chattr").is_none() {
        return;
    }
    let (_folder, dir) = made("d");
    let etcd = dir.join("pki/etcd");
    for (flag, back, word) in [("+a", "-a", "append-only"), ("+i", "-i", "immutable")] {
        let set = Command::new("chattr").arg(flag).arg(&etcd).output().unwrap();
        if !set.status.success() {
            optional("chattr on this file system");
            return;
        }
        let before = pki(&dir);
        let dry = rotate(&dir, &["--all", "--dry-run"]).output().unwrap();
        let said = rotate(&dir, &["--all"]).output().unwrap();
        let scheduler = rotate(&dir, &["scheduler"]).output().unwrap();
        run(Command::new("chattr").arg(back).arg(&etcd));
        assert_eq!((dry.status.code(), said.status.code()), (Some(3), Some(3)));
        assert!(stderr(&said).contains(word), "{}", stderr(&said));
        assert!(stderr(&dry).contains(word), "{}", stderr(&dry));
        assert_eq!(scheduler.status.code(), Some(0), "{}", stderr(&scheduler));
        let after = pki(&dir);
        assert!(before.keys().eq(after.keys()), "nothing is left of the work");
        let changed: Vec<&PathBuf> = before.keys().filter(|p| before[*p] != after[*p]).collect();
        assert_eq!(changed, [Path::new("pki/scheduler.crt"), Path::new("pki/scheduler.key")]);
        for record in fs::read_dir(dir.join(".certkit")).unwrap() {
            let name = record.unwrap().file_name().into_string().unwrap();
            assert!(["backups", "lock", "log.jsonl"].contains(&name.as_str()), "{name}");
        }
    }
}

#[test]
fn what_fails_after_the_change_is_a_warning() {
    let (folder, dir) = made("d");
    // No backup of certkit's, and nothing to stumble over.
    fs::create_dir_all(dir.join(".certkit/backups")).unwrap();
    fs::write(dir.join(".certkit/backups/README"), "notes").unwrap();
    let ran = folder.path().join("ran");
    let hook = format!("touch {}", ran.display());
    run(&mut rotate(&dir, &["--all", "--hook", &hook]));
    assert!(ran.exists());
    // A report that nobody can be told is no failed change.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let fresh = folder.path().join("fresh");
    let mut init = certkit();
    init.arg("init").arg("--dir").arg(&fresh).args(["--host", "cp1=127.0.0.1"]);
    let output = init.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("could not be written"), "{}", stderr(&output));
    assert!(fresh.join("pki/ca.key").exists());
    // What is not kept is not said to be.
    let output = run(&mut rotate(&dir, &["--all", "--backups", "0"]));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("is kept in"));
}

#[test]
fn a_key_that_everybody_could_read_is_its_owners_alone_and_that_is_told() {
    let (_folder, dir) = made("d");
    let key = dir.join("pki/front-proxy-client.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let output = run(&mut rotate(&dir, &["--all", "--new-key"]));
    assert!(stderr(&output).contains("front-proxy-client.key: everybody could read"));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn names_that_anybody_wrote_steer_no_terminal_and_do_not_look_like_several() {
    let Some(_) = need("openssl") else { return };
    let (_folder, dir) = made("pki");
    let at = |file: &str| dir.join(file).display().to_string();
    let names = "[alt]\nDNS.1=a\u{1b}[31mb\nDNS.2=x, DNS:kubernetes\nURI.1=http://\u{7}\n\
                 email.1=\u{1b}]0;title\u{7}@b\n";
    fs::write(at("names"), format!("subjectAltName=@alt\n{names}")).unwrap();
    let key = at("pki/apiserver.key");
    // The subject changes the direction of writing, too.
    let subject = "/CN=kube-apiserver\u{202e}";
    openssl(&["req", "-new", "-utf8", "-key", &key, "-subj", subject, "-out", &at("csr")]);
    openssl(&[
        "x509",
        "-req",
        "-days",
        "20",
        "-in",
        &at("csr"),
        "-CA",
        &at("pki/ca.crt"),
        "-CAkey",
        &at("pki/ca.key"),
        "-extfile",
        &at("names"),
        "-out",
        &at("pki/apiserver.crt"),
    ]);
    let certificate = at("pki/apiserver.crt");
    let link = at("\u{202e}\u{1b}[31mb.crt");
    fs::copy(&certificate, &link).unwrap();
    for (arguments, code) in [
        (&["verify", "-v"][..], 2),
        (&["rotate", "--dry-run"], 0),
        (&["check-expiration", "-o", "wide"], 1),
        (&["check-expiration", "-o", "wide", &link], 1),
        (&["show", &certificate], 0),
        (&["show", &link], 0),
        (&["report"], 0),
    ] {
        let mut command = certkit();
        command.args(["--color", "always", "--dir"]).arg(&dir).args(arguments);
        let output = run_to_exit(&mut command, code);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!said.contains("\u{1b}[31mb"), "{arguments:?}: {said:?}");
        assert!(!said.contains(['\u{7}', '\u{202e}']), "{arguments:?}: {said:?}");
        assert!(!said.contains("DNS:x, DNS:kubernetes"), "{arguments:?}: {said}");
        assert!(said.contains(r"DNS:x\, DNS:kubernetes"), "{arguments:?}: {said}");
    }
}
