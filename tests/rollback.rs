//! `certkit rotate --rollback`: what is undone is what was named, and nothing else. openssl tells which
//! certificates are in place.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use support::{
    certkit, openssl, run, run_to_exit, stdout, temp_dir,
    tree::{difference, files, snapshot},
};

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn init(dir: &Path) {
    run(certkit().arg("init").arg("--dir").arg(dir).args(["--host", "cp1=10.0.0.11"]));
}

fn rotate(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("rotate").args(arguments).arg("--dir").arg(dir);
    command
}

fn rollback(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = rotate(dir, &["--rollback"]);
    command.args(arguments);
    command
}

/// A certificate's serial number, as openssl reads it.
fn serial(dir: &Path, file: &str) -> String {
    openssl(&["x509", "-noout", "-serial", "-in", dir.join(file).to_str().unwrap()])
}

/// The changes that can be undone, the last first.
fn changes(dir: &Path) -> Vec<Value> {
    let text = stdout(&mut rollback(dir, &["--list", "-o", "json"]));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["kind"], "RollbackList");
    document["changes"].as_array().unwrap().clone()
}

fn ids(dir: &Path) -> Vec<String> {
    changes(dir).iter().map(|change| change["id"].as_str().unwrap().to_owned()).collect()
}

/// The PKI's files, without certkit's own records.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = files(dir).into_iter();
    all.map(|file| (file.clone(), fs::read(dir.join(file)).unwrap())).collect()
}

/// That a command is refused, says why, and changes nothing.
fn refused(dir: &Path, command: &mut Command, exit: i32, words: &[&str]) -> Output {
    let before = contents(dir);
    let output = run_to_exit(command, exit);
    for word in words {
        assert!(stderr(&output).contains(word), "{word}: {}", stderr(&output));
    }
    assert!(before == contents(dir), "something was changed");
    output
}

#[test]
fn every_change_is_listed_and_can_be_gone_back_to() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    let first = contents(dir);
    let made = serial(dir, "pki/apiserver.crt");
    run(&mut rotate(dir, &["--all"]));
    let renewed = serial(dir, "pki/apiserver.crt");
    let second = contents(dir);
    run(&mut rotate(dir, &["scheduler"]));
    run(&mut rotate(dir, &["apiserver", "scheduler"]));
    let third = serial(dir, "pki/apiserver.crt");
    assert!(made != renewed && renewed != third);

    let all = changes(dir);
    let commands: Vec<&str> =
        all.iter().map(|change| change["command"].as_str().unwrap()).collect();
    assert_eq!(commands, ["rotate", "rotate", "rotate", "init"]);
    let files: Vec<usize> =
        all.iter().map(|change| change["files"].as_array().unwrap().len()).collect();
    assert!(files[0] == 4 && files[1] == 2 && files[2] > 10 && files[3] > files[2], "{files:?}");
    assert_eq!(all[1]["files"][0]["action"], "restore");
    assert!(all.iter().all(|change| change["time"].as_str().unwrap().ends_with('Z')));
    let table = stdout(&mut rollback(dir, &["--list"]));
    let yaml = stdout(&mut rollback(dir, &["--list", "-o", "yaml"]));
    for id in ids(dir) {
        assert!(table.contains(&id) && yaml.contains(&id), "{id}: {table}{yaml}");
    }
    assert!(table.contains("pki/scheduler.key pki/scheduler.crt"), "{table}");

    // No such change: those there are are named, and nothing is done.
    let ids = ids(dir);
    let unknown = refused(dir, &mut rollback(dir, &["--to", "20200101T000000Z-1"]), 64, &[]);
    assert!(ids.iter().all(|id| stderr(&unknown).contains(id)), "{}", stderr(&unknown));

    // A dry run says what the run does.
    let of = |command: &mut Command| -> Value { serde_json::from_str(&stdout(command)).unwrap() };
    let to = ids[2].as_str();
    let before = snapshot(dir);
    let dry = of(&mut rollback(dir, &["--to", to, "--dry-run", "-o", "json"]));
    assert!(difference(&before, &snapshot(dir)).is_empty());
    let done = of(&mut rollback(dir, &["--to", to, "-o", "json"]));
    for field in ["files", "undone", "restored"] {
        assert_eq!(dry[field], done[field], "{field}");
    }
    assert_eq!(done["undone"].as_array().unwrap().len(), 3);
    // Several changes of one file: the oldest counts.
    assert_eq!(serial(dir, "pki/apiserver.crt"), made);
    assert!(first == contents(dir), "it is not as it was");
    run(certkit().args(["verify", "--dir"]).arg(dir));

    // Going back is a change, too: it can be undone, or gone back behind.
    let all = changes(dir);
    assert_eq!((all.len(), all[0]["command"].as_str()), (5, Some("rotate --rollback")));
    run(&mut rollback(dir, &[]));
    assert_eq!(serial(dir, "pki/apiserver.crt"), third);
    run(&mut rollback(dir, &["--to", &ids[1]]));
    assert_eq!(serial(dir, "pki/apiserver.crt"), renewed);
    assert!(second == contents(dir), "it is not as it was");
}

#[test]
fn the_last_change_is_undone_though_it_only_made_files() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    run(&mut rotate(dir, &["--all"]));
    let renewed = serial(dir, "pki/apiserver.crt");
    let file = dir.join("certkit.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}addons: [kube-proxy]\n")).unwrap();
    run(certkit().arg("init").arg("--dir").arg(dir));
    assert!(dir.join("kube-proxy.conf").exists());
    run(&mut rollback(dir, &[]));
    assert!(!dir.join("kube-proxy.conf").exists());
    assert_eq!(serial(dir, "pki/apiserver.crt"), renewed, "another change is undone than the last");
}

#[test]
fn a_ca_that_a_change_made_is_taken_away_only_when_that_is_asked_for() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    let words = ["pki/ca.crt", "pki/ca.key", "pki/sa.key", "--force"];
    refused(dir, &mut rollback(dir, &[]), 3, &words);
    refused(dir, &mut rollback(dir, &["--dry-run"]), 3, &words);
    let key = fs::read(dir.join("pki/ca.key")).unwrap();
    run(&mut rollback(dir, &["--force"]));
    assert!(!dir.join("pki/ca.key").exists());
    // Even so there is a backup.
    run(&mut rollback(dir, &[]));
    assert_eq!(fs::read(dir.join("pki/ca.key")).unwrap(), key);
    run(certkit().args(["verify", "--dir"]).arg(dir));
}

/// Puts a certificate in place that ended in 2020, with the key that is there.
fn expire(dir: &Path, stem: &str) {
    let folder = temp_dir();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let in_dir = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let config = "[ca]\ndefault_ca = d\n[d]\ndatabase = DB\nserial = SERIAL\nnew_certs_dir = NEW\n\
                  default_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n";
    let config = config.replace("DB", &at("db")).replace("SERIAL", &at("serial"));
    fs::write(at("cnf"), config.replace("NEW", folder.path().to_str().unwrap())).unwrap();
    fs::write(at("db"), "").unwrap();
    fs::write(at("serial"), "1234\n").unwrap();
    let key = in_dir(&format!("{stem}.key"));
    openssl(&["req", "-new", "-key", &key, "-subj", "/CN=old", "-out", &at("csr")]);
    let (cert, ca) = (in_dir(&format!("{stem}.crt")), in_dir("pki/ca.crt"));
    let ca_key = in_dir("pki/ca.key");
    openssl(&[
        "ca",
        "-batch",
        "-config",
        &at("cnf"),
        "-cert",
        &ca,
        "-keyfile",
        &ca_key,
        "-in",
        &at("csr"),
        "-out",
        &cert,
        "-notext",
        "-startdate",
        "20200101000000Z",
        "-enddate",
        "20200201000000Z",
    ]);
}

#[test]
fn what_has_expired_is_not_brought_back_unless_that_is_forced() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    expire(dir, "pki/scheduler");
    run(&mut rotate(dir, &["--all"]));
    for more in [&[][..], &["--dry-run"]] {
        let said = refused(
            dir,
            &mut rollback(dir, more),
            3,
            &["pki/scheduler.crt: what would come back expired Feb 01, 2020"],
        );
        assert!(!stderr(&said).contains("apiserver"), "{}", stderr(&said));
    }
    run(&mut rollback(dir, &["--force"]));
    let file = dir.join("pki/scheduler.crt");
    let end = openssl(&["x509", "-noout", "-enddate", "-in", file.to_str().unwrap()]);
    assert!(end.contains("Feb  1 00:00:00 2020"), "{end}");
}

#[test]
fn as_of_a_day_on_which_all_has_expired_each_certificate_and_each_of_a_dead_ca_is_named() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    run(&mut rotate(dir, &["--all"]));
    let at = |time: &str| rollback(dir, &["--dry-run", "--at", time]);
    let end = openssl(&[
        "x509",
        "-noout",
        "-enddate",
        "-dateopt",
        "iso_8601",
        "-in",
        dir.join("pki/apiserver.crt").to_str().unwrap(),
    ]);
    let year: i32 = end.trim().strip_prefix("notAfter=").unwrap()[..4].parse().unwrap();
    let later = format!("{}-01-01T00:00:00Z", year + 1);
    let words = ["pki/apiserver.crt: what", "admin.conf: what", "pki/scheduler-client.pem: what"];
    refused(dir, &mut at(&later), 3, &words);
    // The CA ends ten years after it was made: before that, what outlives it cannot be tried; but one whose
    // CA alone has expired is named as such.
    let folder = temp_dir();
    let (ca, key) = (dir.join("pki/ca.crt"), dir.join("pki/ca.key"));
    let short = folder.path().join("ca.crt").to_str().unwrap().to_owned();
    let (from, key) = (ca.to_str().unwrap(), key.to_str().unwrap());
    openssl(&["x509", "-in", from, "-signkey", key, "-days", "1", "-out", &short]);
    fs::copy(&short, &ca).unwrap();
    let soon = openssl(&["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", &short]);
    let day = soon.trim().strip_prefix("notAfter=").unwrap()[..10].to_owned();
    refused(
        dir,
        &mut at(&format!("{day}T23:59:59Z")),
        3,
        &["pki/apiserver.crt: what would come back is of a CA that expired", "(pki/ca.crt)"],
    );
}

#[test]
fn what_somebody_else_has_changed_since_is_not_undone_unless_that_is_forced() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    let made = serial(dir, "pki/scheduler.crt");
    run(&mut rotate(dir, &["--all"]));
    let file = dir.join("pki/scheduler.crt");
    let mut theirs = fs::read(&file).unwrap();
    theirs.extend(b"# theirs\n");
    fs::write(&file, &theirs).unwrap();
    let words = ["pki/scheduler.crt: something else than certkit has changed it since"];
    let said = refused(dir, &mut rollback(dir, &[]), 3, &words);
    assert!(!stderr(&said).contains("pki/apiserver.crt"), "{}", stderr(&said));
    refused(dir, &mut rollback(dir, &["--dry-run"]), 3, &words);
    run(&mut rollback(dir, &["--force"]));
    assert_eq!(serial(dir, "pki/scheduler.crt"), made);
    // And back: their content was kept.
    run(&mut rollback(dir, &[]));
    assert_eq!(fs::read(&file).unwrap(), theirs);
}

#[test]
fn a_damaged_backup_stands_in_its_own_way_alone() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    let made = serial(dir, "pki/scheduler.crt");
    run(&mut rotate(dir, &["scheduler"]));
    let second = serial(dir, "pki/scheduler.crt");
    run(&mut rotate(dir, &["apiserver"]));
    let api = serial(dir, "pki/apiserver.crt");
    run(&mut rotate(dir, &["scheduler"]));
    let ids = ids(dir);
    let copy = format!(".certkit/backups/{}/files/pki/apiserver.key", ids[1]);
    fs::write(dir.join(copy), "x").unwrap();
    let table = stdout(&mut rollback(dir, &["--list"]));
    let line = table.lines().find(|line| line.starts_with(&ids[1])).unwrap();
    assert!(line.contains("CANNOT BE UNDONE"), "{table}");
    let listed = changes(dir);
    assert!(listed[1]["damaged"].is_string() && listed[0]["damaged"].is_null(), "{listed:?}");
    refused(dir, &mut rollback(dir, &["--to", &ids[1]]), 3, &["is damaged"]);
    run(&mut rollback(dir, &[]));
    assert_eq!(serial(dir, "pki/scheduler.crt"), second);
    let said = run_to_exit(&mut rollback(dir, &["--to", &ids[2]]), 4);
    assert!(stderr(&said).contains(&ids[1]), "{}", stderr(&said));
    assert_eq!(serial(dir, "pki/scheduler.crt"), made);
    assert_eq!(serial(dir, "pki/apiserver.crt"), api, "what the damaged one changed stays");
    run(certkit().args(["verify", "--dir"]).arg(dir));
}

#[test]
fn going_back_breaks_no_path_that_works_unless_that_is_forced() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut command = certkit();
    command.arg("init").arg("--dir").arg(dir).args(["--host", "cp1=10.0.0.11"]);
    run(command.args(["--endpoint", "api.old.example.com:6443"]));
    let file = dir.join("certkit.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("endpoint: api.old", "endpoint: api.new")).unwrap();
    run(&mut rotate(dir, &[]));
    // Whoever has read the new kubeconfigs dials a name that the old certificate does not have.
    refused(dir, &mut rollback(dir, &[]), 3, &["it would break a path that works"]);
    run(&mut rollback(dir, &["--force"]));
    let admin = fs::read_to_string(dir.join("admin.conf")).unwrap();
    assert!(admin.contains("https://api.old.example.com:6443"), "{admin}");
}

#[test]
fn options_of_rollback_belong_to_it() {
    let dir = temp_dir();
    for wrong in [&["--list"][..], &["--to", "1"], &["--rollback", "--list", "--to", "1"]] {
        run_to_exit(&mut rotate(dir.path(), wrong), 64);
    }
    let missing = dir.path().join("missing");
    let said = run_to_exit(&mut rollback(&missing, &["--list"]), 3);
    assert!(stderr(&said).contains("no such directory"), "{}", stderr(&said));
    let said = stdout(&mut rollback(dir.path(), &["--list"]));
    assert!(said.contains("nothing can be undone"), "{said}");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "looking leaves nothing");
}
