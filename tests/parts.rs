//! A cluster of many nodes is changed part by part, which is one change to people.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    certkit,
    many::{NODES, declare, kill_among_parts},
    need, optional, run, run_to_exit, stdout, temp_dir_in_memory,
    tree::{copy, difference, files, snapshot},
};

/// A node of the second part.
const LATE: &str = if cfg!(debug_assertions) { "n0104" } else { "n1004" };

/// As many hosts as make looking whether anything has changed worth it, and a few.
const MANY: usize = 510;

fn json(dir: &Path, arguments: &[&str]) -> Value {
    let text = stdout(certkit().arg("--dir").arg(dir).args(arguments).args(["-o", "json"]));
    serde_json::from_str(&text).expect("a document")
}

fn steps(report: &Value) -> impl Iterator<Item = (&str, &str)> {
    let steps = report["steps"].as_array().expect("steps").iter();
    steps.map(|step| (step["action"].as_str().unwrap(), step["name"].as_str().unwrap()))
}

/// The changes that can be undone, and which others each is one with.
fn changes(dir: &Path) -> Vec<(String, Option<String>)> {
    let list = json(dir, &["rotate", "--rollback", "--list"]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let all = list["changes"].as_array().unwrap().iter();
    all.map(|one| (text(&one["id"]).unwrap(), text(&one["partOf"]))).collect()
}

/// The lines of the log by their certificate's or file's name, of one command.
fn logged(dir: &Path, command: &str) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for line in fs::read_to_string(dir.join(".certkit/log.jsonl")).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["command"] == command && line["action"] == "issue" {
            *names.entry(line["name"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    names
}

/// What every file holds, but for certkit's own records.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let own = |path: &PathBuf| !path.starts_with(".certkit");
    let all = files(dir).into_iter().filter(own);
    all.map(|file| (file.clone(), fs::read(dir.join(file)).unwrap())).collect()
}

#[test]
fn many_nodes_are_changed_and_undone_as_one() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, NODES);
    // A dry run says the same as the run, what is the cluster's own once.
    let planned = json(dir, &["init", "--dry-run"]);
    let made = json(dir, &["init"]);
    assert_eq!(steps(&planned).collect::<Vec<_>>(), steps(&made).collect::<Vec<_>>());
    let issued = steps(&made).filter(|(action, _)| *action == "issue");
    let mut names: Vec<&str> = issued.map(|(_, name)| name).collect();
    names.sort_unstable();
    let nodes = names.iter().filter(|name| name.contains("(n")).count();
    assert_eq!(nodes, 2 * NODES);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each once");
    assert!(names.contains(&"ca") && names.contains(&"apiserver (cp1)"));
    let parts = changes(dir);
    assert_eq!(parts.len(), 2, "{parts:?}");
    assert_eq!([&parts[0].1, &parts[1].1], [&Some(parts[1].0.clone()), &None]);
    assert_eq!(fs::read_dir(dir.join("hosts")).unwrap().count(), NODES + 1);
    run(certkit().args(["verify", "-q", "--dir"]).arg(dir));

    // Nothing to do changes nothing, but for the note that it is so.
    let before = snapshot(dir);
    assert!(stdout(certkit().arg("--dir").arg(dir).arg("init")).contains("nothing to do"));
    assert_eq!(stdout(certkit().arg("--dir").arg(dir).arg("rotate")), "");
    let _ = fs::remove_dir_all(dir.join(".certkit/settled"));
    assert_eq!(difference(&before, &snapshot(dir)), Vec::<String>::new());

    // A name that stands for nothing is refused before anything is changed; one in the last part is found.
    run_to_exit(certkit().arg("--dir").arg(dir).args(["rotate", "kubelet.conf", "nothing"]), 64);
    assert_eq!(difference(&before, &snapshot(dir)), Vec::<String>::new());
    let name = format!("kubelet.conf ({LATE})");
    let one = json(dir, &["rotate", &name, "apiserver"]);
    let renewed: Vec<_> = steps(&one).filter(|(action, _)| *action == "renew").collect();
    assert_eq!(renewed, [("renew", "apiserver (cp1)"), ("renew", name.as_str())]);

    // All parts of a change come back together, and only the newest changes are kept.
    let before = contents(dir);
    let all = json(dir, &["rotate", "--all", "--backups", "2"]);
    assert_eq!(all["backup"].as_str().map(|path| path.ends_with("-5")), Some(true), "{all}");
    let renewed = steps(&all).filter(|(action, _)| *action == "renew").count();
    assert_eq!(renewed, logged(dir, "init").len() - 3, "all but the CAs");
    let kept: Vec<_> = changes(dir).into_iter().map(|(_, of)| of.is_some()).collect();
    assert_eq!(kept, [true, false, true, false]);
    let undone = json(dir, &["rotate", "--rollback"]);
    assert_eq!(undone["undone"].as_array().unwrap().len(), 2);
    assert!(contents(dir) == before, "it is not as it was");
}

/// More nodes than are brought back at once.
const SEVERAL: usize = 3 * NODES;

/// How many changes the last one was to undo, and has not.
fn to_undo(dir: &Path) -> u64 {
    let list = json(dir, &["rotate", "--rollback", "--list"]);
    list["changes"][0]["toUndo"].as_u64().unwrap()
}

#[test]
fn an_undoing_of_many_nodes_that_is_killed_is_gone_on_with_and_can_be_undone_itself() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, SEVERAL);
    run(certkit().arg("--dir").arg(dir).args(["init", "-q"]));
    let first = contents(dir);
    run(certkit().arg("--dir").arg(dir).args(["rotate", "--all", "-q"]));
    let second = contents(dir);
    let planned = json(dir, &["rotate", "--rollback", "--dry-run"]);
    assert!(contents(dir) == second);

    let mut rollback = certkit();
    kill_among_parts(dir, rollback.arg("--dir").arg(dir).args(["rotate", "--rollback", "-q"]));
    let half = contents(dir);
    assert!(half != first && half != second, "some are undone, and some are not");
    // The nodes come first, as the control plane did when it was made; and no path that worked is lost.
    let apiserver = Path::new("hosts/cp1/pki/apiserver.crt");
    assert_eq!(half[apiserver], second[apiserver]);
    run(certkit().args(["verify", "-q", "--dir"]).arg(dir));
    let left = to_undo(dir);
    assert!(left > 0);
    let table = stdout(certkit().arg("--dir").arg(dir).args(["rotate", "--rollback", "--list"]));
    let told = format!("rotate --rollback, cut short: {left} to go");
    assert!(table.lines().any(|line| line.contains(&told)), "{table}");

    // Another run does what is left, and no more.
    let rest = json(dir, &["rotate", "--rollback"]);
    assert_eq!(rest["undone"].as_array().unwrap().len() as u64, left);
    assert_eq!(rest["left"], Value::Null);
    assert!(contents(dir) == first, "it is not as it was");
    let of = |report: &Value| -> BTreeSet<String> {
        report["files"].as_array().unwrap().iter().map(ToString::to_string).collect()
    };
    assert!(of(&rest).is_subset(&of(&planned)) && of(&rest).len() < of(&planned).len());
    assert_eq!(to_undo(dir), 0);

    // Both runs are one change, which is undone as any other.
    let of: Vec<String> = changes(dir).into_iter().filter_map(|(id, of)| of.or(Some(id))).collect();
    assert_eq!(of.iter().collect::<BTreeSet<_>>().len(), 3, "init, rotate, rollback: {of:?}");
    for state in [&second, &first] {
        run(certkit().arg("--dir").arg(dir).args(["rotate", "--rollback", "-q"]));
        assert!(contents(dir) == *state, "it is not as it was");
    }
    let rotated = changes(dir).into_iter().rev().filter(|(_, of)| of.is_none()).nth(1).unwrap().0;
    run(certkit().arg("--dir").arg(dir).args(["rotate", "--rollback", "-q", "--to", &rotated]));
    assert!(contents(dir) == first, "it is not as it was");
}

#[test]
fn a_node_that_cannot_be_brought_back_holds_up_what_is_older_and_the_next_run_goes_on() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, SEVERAL);
    run(certkit().arg("--dir").arg(dir).args(["init", "-q"]));
    let first = contents(dir);
    run(certkit().arg("--dir").arg(dir).args(["rotate-ca", "ca", "--next", "-q"]));
    let introduced =
        changes(dir).into_iter().rev().filter(|(_, of)| of.is_none()).nth(1).unwrap().0;
    run(certkit().arg("--dir").arg(dir).args(["rotate", "--all", "-q"]));
    let second = contents(dir);
    let back = |more: &[&str]| {
        let mut command = certkit();
        command.arg("--dir").arg(dir).args(["rotate", "--rollback", "-o", "json"]).args(more);
        command
    };

    // What somebody else has changed is found before anything is undone, in whatever change it is.
    let bundle = dir.join("hosts/n0003/pki/ca-bundle.crt");
    let right = fs::read(&bundle).unwrap();
    fs::write(&bundle, [&right[..], b"\n"].concat()).unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let refused = run_to_exit(back(&["--to", &introduced]).args(more), 3);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains("hosts/n0003/pki/ca-bundle.crt: something else"), "{told}");
    }
    fs::write(&bundle, &right).unwrap();
    assert!(contents(dir) == second);

    let node = dir.join("hosts/n0003/pki");
    let set = |flag: &str| Command::new("chattr").arg(flag).arg(&node).output().unwrap();
    if need("chattr").is_none() || !set("+i").status.success() {
        optional("chattr on this file system");
        return;
    }
    let output = run_to_exit(&mut back(&["--to", &introduced]), 4);
    assert!(set("-i").status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let why = report["left"]["why"].as_str().unwrap();
    assert!(why.contains("hosts/n0003"), "{why}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("goes on with it"), "{told}");
    let left = report["left"]["changes"].as_array().unwrap().len() as u64;
    assert_eq!(left, to_undo(dir));
    let rest: Value = serde_json::from_str(&stdout(&mut back(&[]))).unwrap();
    assert_eq!(rest["undone"].as_array().unwrap().len() as u64, left);
    assert!(contents(dir) == first, "it is not as it was");
}

#[test]
fn a_node_that_cannot_be_made_is_named_and_all_others_are() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, NODES);
    fs::create_dir(dir.join("hosts")).unwrap();
    // No folder can be where a file is.
    for node in ["n0003", LATE] {
        fs::write(dir.join("hosts").join(node), "in the way").unwrap();
    }
    let output = run_to_exit(certkit().arg("--dir").arg(dir).args(["init", "-o", "json"]), 4);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = report["failed"].as_array().unwrap();
    let nodes: Vec<&str> = failed.iter().map(|one| one["nodes"].as_str().unwrap()).collect();
    assert_eq!(nodes, ["n0003", LATE]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(LATE) && told.contains(&format!("hosts/{LATE}")), "{told}");
    for node in ["n0003", LATE] {
        fs::remove_file(dir.join("hosts").join(node)).unwrap();
    }
    // What is left is made, and nothing else.
    let report = json(dir, &["init"]);
    let issued: Vec<_> = steps(&report).filter(|(action, _)| *action == "issue").collect();
    assert_eq!(
        issued,
        [
            ("issue", "kubelet (n0003)"),
            ("issue", "kubelet.conf (n0003)"),
            ("issue", &format!("kubelet ({LATE})")),
            ("issue", &format!("kubelet.conf ({LATE})")),
        ]
    );
    assert!(logged(dir, "init").values().all(|times| *times == 1));
}

#[test]
fn what_nobody_declares_is_removed_part_by_part_and_comes_back_as_one() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, NODES);
    run(certkit().arg("--dir").arg(dir).args(["init", "-q"]));
    let before = contents(dir);
    declare(dir, 1);
    let planned = json(dir, &["prune", "--dry-run"]);
    let folder = dir.join("hosts").join(LATE).join("pki");
    let set = |flag: &str| Command::new("chattr").arg(flag).arg(&folder).output().unwrap();
    let stands = need("chattr").is_some() && set("+i").status.success();
    if stands {
        let mut prune = certkit();
        let output = run_to_exit(prune.arg("--dir").arg(dir).args(["prune", "-o", "json"]), 4);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["failed"].as_array().unwrap().len(), 1);
        assert_eq!(report["failed"][0]["nodes"], format!("hosts/{LATE}"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(&format!("hosts/{LATE}")), "{told}");
        assert_eq!(fs::read_dir(dir.join("hosts")).unwrap().count(), 3);
        assert!(set("-i").status.success());
        run(certkit().arg("--dir").arg(dir).args(["rotate", "--rollback", "-q"]));
        declare(dir, NODES);
        assert!(contents(dir) == before, "it is not as it was");
        declare(dir, 1);
    } else {
        optional("chattr on this file system");
    }
    let parts = changes(dir).len();
    let pruned = json(dir, &["prune"]);
    assert_eq!(pruned["files"], planned["files"]);
    assert_eq!(changes(dir).len(), parts + 2);
    assert_eq!(fs::read_dir(dir.join("hosts")).unwrap().count(), 2);
    run(certkit().arg("--dir").arg(dir).args(["rotate", "--rollback", "-q"]));
    declare(dir, NODES);
    assert!(contents(dir) == before, "it is not as it was");
}

#[test]
fn a_part_that_must_wait_for_another_certkit_waits_once() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, NODES);
    run(certkit().arg("--dir").arg(dir).args(["init", "-q"]));
    // Nothing is to be done before the last part, which somebody else does not let be changed.
    fs::remove_file(dir.join("hosts").join(LATE).join("kubelet.conf")).unwrap();
    let lock = fs::File::open(dir.join(".certkit/lock")).unwrap();
    lock.lock().unwrap();
    let start = Instant::now();
    let output = run_to_exit(certkit().arg("--dir").arg(dir).args(["init", "-q"]), 3);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(!output.stderr.is_empty());
    drop(lock);
    run(certkit().arg("--dir").arg(dir).args(["init", "-q"]));
}

#[test]
fn a_run_that_is_killed_among_its_parts_is_gone_on_with() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    // Many parts: it must not be faster than who kills it.
    declare(dir, MANY);
    let mut init = certkit();
    kill_among_parts(dir, init.arg("--dir").arg(dir).args(["init", "-q"]));
    let rest = json(dir, &["init"]);
    // Nobody was told of what was in place: each is told of now, once, whichever part it was with.
    let told: Vec<String> = rest["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["component"], one["host"]))
        .collect();
    let once: BTreeSet<&String> = told.iter().collect();
    assert_eq!(once.len(), told.len(), "{told:?}");
    assert!(told.iter().any(|one| one.contains("kubectl")), "{told:?}");
    let times = logged(dir, "init");
    assert_eq!(times.keys().filter(|name| name.contains("(n")).count(), 2 * MANY);
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    run(certkit().args(["verify", "-q", "--dir"]).arg(dir));
}

/// How far replacing the cluster's CA has come, and the nodes to which that has not come.
fn standing(dir: &Path) -> (String, Vec<String>) {
    let one = json(dir, &["rotate-ca", "ca"])["authorities"][0].clone();
    let behind = one["behind"].as_array().unwrap().iter();
    let behind = behind.map(|host| host.as_str().unwrap().to_owned()).collect();
    (one["stage"].as_str().unwrap().to_owned(), behind)
}

fn bundle(dir: &Path, node: usize) -> Vec<u8> {
    fs::read(dir.join(format!("hosts/n{node:04}/pki/ca-bundle.crt"))).unwrap()
}

#[test]
fn a_stage_of_a_ca_comes_to_all_nodes_and_is_undone_as_one() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, NODES);
    run(certkit().arg("--dir").arg(dir).args(["init", "-q"]));
    for stage in ["introduced", "switched", "stable"] {
        let parts = changes(dir).len();
        let planned = json(dir, &["rotate-ca", "ca", "--next", "--dry-run"]);
        let before = contents(dir);
        let made = json(dir, &["rotate-ca", "ca", "--next"]);
        assert_eq!(steps(&planned).collect::<Vec<_>>(), steps(&made).collect::<Vec<_>>());
        assert_eq!(standing(dir), (stage.to_owned(), vec![]));
        assert_eq!(changes(dir).len(), parts + 2);
        let trusted = fs::read(dir.join("pki/ca-bundle.crt")).unwrap();
        assert!((0..NODES).all(|node| bundle(dir, node) == trusted), "{stage}");
        // The control plane takes it up once, whatever the number of parts.
        let components = made["components"].as_array().unwrap().iter();
        let all: Vec<_> =
            components.map(|one| format!("{} {}", one["host"], one["component"])).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{stage}");
        for host in ["cp1", "n0000", LATE] {
            assert!(all.iter().any(|one| one.contains(host)), "{stage}: {host}");
        }
        run(certkit().args(["verify", "-q", "--dir"]).arg(dir));
        if stage == "switched" {
            let issued = steps(&made).filter(|(action, _)| *action == "issue").count();
            assert!(issued > 2 * NODES, "{issued}");
            let after = contents(dir);
            let undone = json(dir, &["rotate", "--rollback"]);
            assert_eq!(undone["undone"].as_array().unwrap().len(), 2);
            assert!(contents(dir) == before, "it is not as it was");
            run(certkit().args(["rotate", "--rollback", "-q", "--dir"]).arg(dir));
            assert!(contents(dir) == after, "it is not as it was made");
        }
    }
}

#[test]
fn a_stage_that_is_killed_among_its_parts_is_finished_before_the_next() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, 2 * NODES);
    run(certkit().arg("--dir").arg(dir).args(["init", "-q"]));
    for stage in ["introduced", "switched", "stable"] {
        let mut next = certkit();
        next.arg("--dir").arg(dir).args(["rotate-ca", "ca", "--next", "-q"]);
        kill_among_parts(dir, &mut next);
        let (found, behind) = standing(dir);
        assert_eq!(found, stage);
        assert!(!behind.is_empty() && behind.len() < 2 * NODES, "{stage}: {}", behind.len());
        // No path that worked is lost.
        let verify = certkit().args(["verify", "-o", "json", "--dir"]).arg(dir).output().unwrap();
        let report: Value = serde_json::from_slice(&verify.stdout).unwrap();
        let sum = &report["handshakes"];
        assert!(sum["work"].as_u64() > Some(0) && sum["work"] == sum["mustWork"], "{sum}");
        let made = json(dir, &["rotate-ca", "ca", "--next"]);
        assert!(made["notes"].to_string().contains("then run this again"), "{:#}", made["notes"]);
        assert_eq!(standing(dir), (stage.to_owned(), vec![]));
        let trusted = fs::read(dir.join("pki/ca-bundle.crt")).unwrap();
        assert!((0..2 * NODES).all(|node| bundle(dir, node) == trusted), "{stage}");
    }
    // Each was issued once.
    let times = logged(dir, "rotate-ca");
    let of_node = |name: &&String| name.contains("(n") && !name.contains("(next)");
    assert_eq!(times.keys().filter(of_node).count(), 4 * NODES);
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    run(certkit().args(["verify", "-q", "--dir"]).arg(dir));
}

#[test]
fn a_node_that_a_stage_cannot_come_to_is_named_and_no_other_stage_begins() {
    let folder = temp_dir_in_memory();
    let dir = folder.path();
    declare(dir, NODES);
    run(certkit().arg("--dir").arg(dir).args(["init", "-q"]));
    let nodes = ["n0003", LATE];
    let set = |flag: &str| {
        let folders = nodes.map(|node| dir.join("hosts").join(node).join("pki"));
        Command::new("chattr").arg(flag).args(folders).output().unwrap().status.success()
    };
    if need("chattr").is_none() {
        return;
    }
    if !set("+i") {
        optional("chattr on this file system");
        return;
    }
    // Once as the stage is taken, and once as it is finished.
    for _ in 0..2 {
        let mut next = certkit();
        next.arg("--dir").arg(dir).args(["rotate-ca", "ca", "--next", "-o", "json"]);
        let output = run_to_exit(&mut next, 4);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failed = report["failed"].as_array().unwrap();
        let failed: Vec<&str> = failed.iter().map(|one| one["nodes"].as_str().unwrap()).collect();
        assert_eq!(failed, nodes);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(&format!("hosts/{LATE}/pki")), "{told}");
        assert_eq!(standing(dir), ("introduced".to_owned(), nodes.map(String::from).to_vec()));
    }
    assert_eq!(bundle(dir, NODES - 1), fs::read(dir.join("pki/ca-bundle.crt")).unwrap());
    assert!(set("-i"));
    let report = json(dir, &["rotate-ca", "ca", "--next"]);
    assert_eq!(steps(&report).collect::<Vec<_>>(), [("copy", "pki/ca-bundle.crt"); 2]);
    assert_eq!(standing(dir), ("introduced".to_owned(), vec![]));
    run(certkit().args(["rotate-ca", "ca", "--next", "-q", "--dir"]).arg(dir));
    assert_eq!(standing(dir), ("switched".to_owned(), vec![]));
}

#[test]
fn a_cluster_that_was_off_too_long_is_brought_back_part_by_part() {
    let Some(faketime) = need("faketime") else { return };
    let folder = temp_dir_in_memory();
    let dir = folder.path().join("many");
    declare(&dir, NODES);
    let declared = fs::read_to_string(dir.join("certkit.yaml")).unwrap();
    fs::write(dir.join("certkit.yaml"), declared + "validity: {ca: 2y, leaf: 1y}\n").unwrap();
    let mut init = Command::new(faketime);
    init.args(["-f", "-1000d"]).arg(certkit().get_program());
    run(init.args(["init", "-q", "--dir"]).arg(&dir));
    let old = folder.path().join("old");
    copy(&dir.join("hosts").join(LATE), &old);
    run_to_exit(certkit().args(["verify", "-q", "--dir"]).arg(&dir), 2);

    // A dry run says what is made, each once.
    let planned = json(&dir, &["recover", "--dry-run"]);
    let done = json(&dir, &["recover"]);
    let all = |report: &Value| -> BTreeSet<(String, String)> {
        let files = |step: &Value| step["files"].to_string();
        let all = report["steps"].as_array().unwrap().iter();
        all.map(|step| (step["action"].as_str().unwrap().to_owned(), files(step))).collect()
    };
    assert_eq!(all(&planned), all(&done));
    assert_eq!(steps(&planned).count(), steps(&done).count());
    let authorities = steps(&done).filter(|step| *step == ("issue", "ca")).count();
    assert_eq!(authorities, 1);
    let started = |component: &str| {
        let order = done["start"].as_array().unwrap().iter();
        let of = order.filter(|one| one["component"] == component).collect::<Vec<_>>();
        assert_eq!(of.len(), 1, "{component}");
        of[0]["hosts"].as_array().unwrap().len()
    };
    assert_eq!([started("kubelet"), started("kube-apiserver")], [NODES + 1, 1]);
    let parts = changes(&dir);
    assert_eq!([&parts[0].1, &parts[1].1], [&Some(parts[1].0.clone()), &None]);
    run(certkit().args(["verify", "-q", "--dir"]).arg(&dir));

    // One to which it had not come gets it, and nothing else is changed.
    let right = contents(&dir);
    let late = dir.join("hosts").join(LATE);
    fs::remove_dir_all(&late).unwrap();
    copy(&old, &late);
    let rest = json(&dir, &["recover"]);
    let files = rest["steps"].as_array().unwrap().iter().flat_map(|s| s["files"].as_array());
    let files: Vec<&str> = files.flatten().map(|file| file.as_str().unwrap()).collect();
    let is_its = |file: &&str| file.starts_with(&format!("hosts/{LATE}/"));
    assert!(!files.is_empty() && files.iter().all(is_its), "{files:?}");
    let is_others = |(file, _): &(PathBuf, Vec<u8>)| !file.starts_with(format!("hosts/{LATE}"));
    let others = |all: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        all.into_iter().filter(is_others).collect()
    };
    assert!(others(contents(&dir)) == others(right));
    run(certkit().args(["verify", "-q", "--dir"]).arg(&dir));
    let again = stdout(certkit().args(["recover", "--dir"]).arg(&dir));
    assert!(again.contains("nothing has expired"), "{again}");
}

/// Faults on nodes of two parts, on the control plane, and between parts.
fn damage(dir: &Path) {
    let pki = |node: &str| dir.join("hosts").join(node).join("pki");
    let openssl =
        |arguments: &[&str]| stdout(Command::new("openssl").args(arguments).current_dir(pki(LATE)));
    fs::copy(pki(LATE).join("kubelet.crt"), pki("n0003").join("kubelet.crt")).unwrap();
    fs::remove_file(pki("n0002").join("kubelet-client.pem")).unwrap();
    // One of the second part has the number of one of the first.
    let first = pki("n0000").join("kubelet.crt");
    let serial = openssl(&["x509", "-noout", "-serial", "-in", first.to_str().unwrap()]);
    let serial = format!("0x{}", serial.trim().trim_start_matches("serial="));
    fs::write(
        pki(LATE).join("ext"),
        format!("subjectAltName=DNS:{LATE}\nextendedKeyUsage=serverAuth\n"),
    )
    .unwrap();
    let subject = format!("/O=system:nodes/CN=system:node:{LATE}");
    openssl(&["req", "-new", "-key", "kubelet.key", "-subj", &subject, "-out", "csr"]);
    let [ca, key] = ["ca.crt", "ca.key"].map(|name| dir.join("pki").join(name));
    let [ca, key] = [ca.to_str().unwrap(), key.to_str().unwrap()];
    let sign =
        ["x509", "-req", "-in", "csr", "-extfile", "ext", "-days", "90", "-out", "kubelet.crt"];
    openssl(&[&sign[..], &["-CA", ca, "-CAkey", key, "-set_serial", &serial]].concat());
    let both = ["ca.crt", "etcd/ca.crt"].map(|name| fs::read(dir.join("pki").join(name)).unwrap());
    fs::write(pki(LATE).join("ca-bundle.crt"), both.concat()).unwrap();
    fs::copy(pki("cp1").join("apiserver.crt"), pki(LATE).join("stray.crt")).unwrap();
    fs::create_dir_all(pki("unknown")).unwrap();
    fs::copy(pki("cp1").join("apiserver.key"), pki("unknown").join("stray.key")).unwrap();
    for (file, mode) in [(dir.join("pki/ca.key"), 0o644), (pki(LATE).join("kubelet.key"), 0o640)] {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn many_nodes_are_verified_part_by_part_as_few_are_at_once() {
    let folder = temp_dir_in_memory();
    let [many, few] = ["many", "few"].map(|name| folder.path().join(name));
    declare(&many, NODES);
    run(certkit().args(["init", "-q", "--dir"]).arg(&many));
    let sound = json(&many, &["verify"]);
    assert_eq!(sound["findings"], serde_json::json!([]));
    let counts = |of: &Value| ["mustWork", "work"].map(|it| of["handshakes"][it].as_u64().unwrap());
    let [of_all, worked] = counts(&sound);
    assert_eq!(of_all, worked);
    damage(&many);
    // The same with those nodes alone that are damaged, and a few.
    let kept = ["n0000", "n0001", "n0002", "n0003", LATE];
    copy(&many, &few);
    let text = fs::read_to_string(few.join("certkit.yaml")).unwrap();
    let is_left =
        |line: &&str| !line.contains("name: n") || kept.iter().any(|it| line.contains(it));
    let text: Vec<&str> = text.lines().filter(is_left).collect();
    fs::write(few.join("certkit.yaml"), text.join("\n")).unwrap();
    for number in 0..NODES {
        let name = format!("n{number:04}");
        if !kept.contains(&name.as_str()) {
            fs::remove_dir_all(few.join("hosts").join(name)).unwrap();
        }
    }
    // As they were before, which copying is no part of.
    for (file, mode) in [("pki/ca.key", 0o644), (&format!("hosts/{LATE}/pki/kubelet.key"), 0o640)] {
        fs::set_permissions(few.join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    let [found, expected] = [&many, &few].map(|dir| {
        let output =
            certkit().args(["verify", "--forecast", "-o", "json", "--dir"]).arg(dir).output();
        let report: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        report
    });
    let all = |report: &Value| -> BTreeSet<String> {
        let findings = report["findings"].as_array().unwrap().iter();
        findings.map(|one| format!("{one:#}")).collect()
    };
    let codes: BTreeSet<&str> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["code"].as_str())
        .collect();
    for code in
        ["serial-repeated", "stale-copy", "key-readable", "missing", "key-mismatch", "unused"]
    {
        assert!(codes.contains(code), "{code}: {codes:?}");
    }
    assert_eq!(all(&found), all(&expected));
    assert_eq!(found["forecast"], expected["forecast"]);
    // Each node of the second part is tried, and nothing of the first twice.
    let [of_few, _] = counts(&expected);
    let [of_many, _] = counts(&found);
    assert_eq!(of_many - of_few, (NODES - kept.len()) as u64 * 3, "{of_all}");
}

/// What a command printed, and how many certificates of kubelets it opened on the way.
#[track_caller]
fn opened(dir: &Path, words: &[&str], at: Option<&str>) -> Option<(String, usize)> {
    let trace = dir.with_extension("trace");
    let mut command = Command::new(need("strace")?);
    command.args(["-f", "-qq", "-e", "trace=openat,openat2", "-o"]).arg(&trace);
    if let Some(at) = at {
        command.arg(need("faketime")?).args(["-f", at]);
    }
    command.arg(certkit().get_program()).arg("--dir").arg(dir).args(words);
    command.env("LC_ALL", "C").env("TZ", "UTC");
    let printed = stdout(&mut command);
    let text = fs::read_to_string(&trace).unwrap();
    Some((printed, text.lines().filter(|line| line.contains("pki/kubelet.crt\"")).count()))
}

#[test]
fn where_nothing_was_to_do_nothing_is_read_again_until_something_changes() {
    let folder = temp_dir_in_memory();
    let dir = folder.path().join("many");
    declare(&dir, MANY);
    run(certkit().arg("--dir").arg(&dir).arg("init"));
    let init = |at| opened(&dir, &["init"], at);
    let Some((done, read)) = init(None) else { return };
    assert!(done.contains("complete, nothing to do") && read > MANY, "{read}: {done}");
    // What has changed a moment ago could change again unseen.
    thread::sleep(Duration::from_millis(3100));
    let rotate = |at| opened(&dir, &["rotate"], at).expect("strace");
    for (first, again) in [(init(None).unwrap(), init(None).unwrap()), (rotate(None), rotate(None))]
    {
        assert!(first.1 > MANY && again.1 == 0, "{} {}", first.1, again.1);
        assert_eq!(first.0, again.0);
    }
    // Only what asks nothing else.
    let (_, read) = opened(&dir, &["rotate", "--within", "31d"], None).unwrap();
    assert!(read > MANY);
    assert!(json(&dir, &["init"])["steps"].as_array().unwrap().len() > MANY);

    // Whatever changes, and however: all is read again, and once more nothing is.
    let kubelet = dir.join("hosts/cp1/pki/kubelet.crt");
    let right = fs::read(&kubelet).unwrap();
    let times = fs::metadata(&kubelet).unwrap().modified().unwrap();
    let mut damaged = right.clone();
    damaged[200] ^= 1;
    let settle = || {
        thread::sleep(Duration::from_millis(3100));
        assert!(init(None).unwrap().1 > MANY);
        assert_eq!(init(None).unwrap().1, 0);
    };
    fs::write(&kubelet, &damaged).unwrap();
    fs::File::options().write(true).open(&kubelet).unwrap().set_modified(times).unwrap();
    let refused = run_to_exit(certkit().arg("--dir").arg(&dir).arg("init"), 3);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("cp1/pki/kubelet.crt"),
        "{refused:?}"
    );
    fs::write(&kubelet, &right).unwrap();
    settle();
    let change = |words: &str| {
        let words = words.replace("DIR", dir.to_str().unwrap());
        run(Command::new("sh").args(["-ec", &words]));
    };
    change(
        "rm DIR/hosts/n0499/pki/kubelet.key; mv DIR/hosts/n0007 DIR/away; mkdir DIR/hosts/n0007",
    );
    let (made, read) = init(None).unwrap();
    assert!(made.contains("made in") && read > MANY, "{made}");
    settle();
    for one in ["chmod 640 DIR/hosts/n0002/pki/kubelet.crt", "echo >>DIR/certkit.yaml"] {
        change(one);
        settle();
    }
    // A link may lead to anything.
    std::os::unix::fs::symlink("/etc/hostname", dir.join("hosts/n0003/link")).unwrap();
    thread::sleep(Duration::from_millis(3100));
    assert!(init(None).unwrap().1 > MANY && init(None).unwrap().1 > MANY);
    fs::remove_file(dir.join("hosts/n0003/link")).unwrap();
    settle();
    // Whoever says something else than was found says nothing for long.
    for note in ["init.json", "rotate.json"] {
        fs::write(dir.join(".certkit/settled").join(note), "{\"version\":").unwrap();
        assert!(init(None).unwrap().1 > MANY || note == "rotate.json");
    }

    // Time: a day later all is read again, and what is due is done.
    rotate(None);
    assert_eq!(rotate(Some("+1h")).1, 0);
    assert!(rotate(Some("+25h")).1 > MANY);
    assert!(rotate(Some("-1h")).1 > MANY);
    let (renewed, _) = rotate(Some("+340d"));
    assert!(renewed.contains("renewed in") || renewed.contains("renew"), "{renewed}");
}
