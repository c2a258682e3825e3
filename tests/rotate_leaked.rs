//! `rotate-ca --compromised`: a CA whose key others have is dropped without waiting for anybody, and what breaks by it is
//! said before.

mod support;

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use support::{
    certkit,
    generations::{refused, rotate_ca, stage},
    run, stdout, temp_dir,
    tree::{difference, snapshot},
};

fn init(dir: &Path, more: &[&str]) {
    run(certkit().arg("init").arg("--dir").arg(dir).args(more));
}

/// The notes of a run.
fn notes(dir: &Path, more: &[&str]) -> String {
    let text = stdout(rotate_ca(dir, more).args(["-o", "json"]));
    let document: Value = serde_json::from_str(&text).unwrap();
    let notes = document["notes"].as_array().unwrap().iter();
    notes.map(|note| note.as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_needs_a_leaked_ca_is_told_and_does_not_keep_it() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11"]);
    let next = ["ca", "--next", "--compromised"];
    run(&mut rotate_ca(dir, &next));
    let scheduler = dir.join("pki/scheduler-client.pem");
    let old = fs::read(&scheduler).unwrap();
    let served =
        ["pki/kubelet.crt", "pki/kubelet.key"].map(|f| (f, fs::read(dir.join(f)).unwrap()));
    run(&mut rotate_ca(dir, &next));
    assert_eq!(stage(dir, "ca"), "switched");
    // One client and one server have not got new certificates, and somebody else still comes with an old one.
    fs::write(&scheduler, old).unwrap();
    for (file, content) in &served {
        fs::write(dir.join(file), content).unwrap();
    }
    let now = stdout(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.000000Z"]));
    let event = |time: &str, id: &str| {
        serde_json::json!({
            "requestReceivedTimestamp": time,
            "user": {
                "username": "robot",
                "extra": {"authentication.kubernetes.io/credential-id": [format!("X509SHA256={id}")]},
            },
            "sourceIPs": ["10.0.0.9"],
            "userAgent": "robot/v1",
        })
        .to_string()
    };
    let log = dir.with_extension("audit.log");
    let lines = [event("2020-01-01T00:00:00.000000Z", "aa"), event(now.trim(), "bb")];
    fs::write(&log, lines.join("\n")).unwrap();
    let log = log.to_str().unwrap();
    let said = refused(dir, &["ca", "--next", "--audit-log", log], 3);
    for word in ["scheduler.conf", "kubelet", "robot"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let with_log = [&next[..], &["--audit-log", log]].concat();
    let before = snapshot(dir);
    let told = notes(dir, &[&with_log[..], &["--dry-run"]].concat());
    assert_eq!(difference(&before, &snapshot(dir)), Vec::<String>::new());
    for word in [
        "breaks with this step: ca: scheduler.conf",
        "breaks with this step: `robot` from `10.0.0.9`",
        "works now and will not: scheduler-to-apiserver",
        "works now and will not: apiserver-to-kubelet",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(notes(dir, &with_log), told);
    assert_eq!(stage(dir, "ca"), "stable");
    assert!(!dir.join("pki/ca-previous.key").exists());
    // What was told is mended as usual.
    run(certkit().args(["rotate", "scheduler.conf", "kubelet", "--dir"]).arg(dir));
    run(certkit().arg("verify").arg("--dir").arg(dir));
    fs::remove_file(log).unwrap();
}

#[test]
fn tokens_of_a_leaked_key_are_not_waited_for() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11"]);
    let next = ["sa", "--next", "--compromised"];
    run(&mut rotate_ca(dir, &next));
    run(&mut rotate_ca(dir, &next));
    assert!(refused(dir, &["sa", "--next"], 3).contains("may be valid until"));
    let told = notes(dir, &[&next[..], &["--dry-run"]].concat());
    assert!(told.contains("may be valid until"), "{told}");
    run(&mut rotate_ca(dir, &next));
    assert_eq!(stage(dir, "sa"), "stable");
    run(certkit().arg("verify").arg("--dir").arg(dir));
}

#[test]
fn who_would_be_cut_off_by_the_new_ca_still_stands_against_it() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12"]);
    let file = "hosts/cp2/pki/ca-bundle.crt";
    let before = fs::read(dir.join(file)).unwrap();
    run(&mut rotate_ca(dir, &["ca", "--next", "--compromised"]));
    // Before the step to the new CA nothing is won by an outage: the old one is trusted after it, too.
    fs::write(dir.join(file), before).unwrap();
    let said = refused(dir, &["ca", "--next", "--compromised"], 3);
    assert!(said.contains(file), "{said}");
}

#[test]
fn what_is_no_answer_to_a_leak_is_refused() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11"]);
    for more in [
        // Whose key it is must be said.
        &["--next", "--compromised"][..],
        &["ca", "--compromised"],
        &["ca", "--undo", "--compromised"],
        &["ca", "--renew-same-key", "--compromised"],
        &["ca", "--next", "--cross-sign", "--compromised"],
    ] {
        refused(dir, more, 64);
    }
}
