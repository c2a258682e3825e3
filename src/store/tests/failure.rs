//! A call fails: before the decision all is as it was, after it the next run finishes.

use super::super::digest::sha256;
use super::super::error::Error;
use super::super::place::temporary_name;
use super::super::recover::Recovery;
use super::super::simulated::{EACCES, EIO, ENOSPC, EROFS, Fault, Seen, SimulatedDisk};
use super::super::transaction::Transaction;
use super::scenario::{ANNEX, DIR, Scenario, commit, open, view};

#[test]
fn a_failing_call_leaves_all_as_it_was_or_decided() {
    for scenario in [Scenario::full(), Scenario::first()] {
        let before = scenario.disk();
        let (done, calls) = scenario.done();
        let (old, new) = (before.tree(), view(&done).unwrap());
        let mut again = 0;
        let decision = calls.iter().position(|call| call.ends_with("/.certkit/journal")).unwrap();
        for (at, call) in calls.iter().enumerate() {
            for error in [EIO, ENOSPC, EACCES, EROFS] {
                let disk = before.with_fault(Fault::Error(at, error));
                let committed = commit(&disk, scenario.transaction());
                let context = format!("{error} at call {at} ({call}): {committed:?}");
                let disk = disk.fork();
                let failed = match committed {
                    Err(failed) => failed,
                    // It was tried again, or it was the log alone.
                    Ok(committed) => {
                        assert!(at > decision + 1, "{context}");
                        let logged = committed.warnings.is_empty();
                        let seen = view(&disk).unwrap();
                        let same = if logged {
                            seen == new
                        } else {
                            seen.without_log() == new.clone().without_log()
                        };
                        assert!(same, "{context}");
                        again += 1;
                        continue;
                    }
                };
                // The sync after the decisive rename can still be taken back.
                if at <= decision + 1 {
                    assert!(!matches!(failed, Error::Decided { .. }), "{context}");
                    assert_eq!(disk.tree(), old, "{context}");
                } else {
                    assert!(matches!(failed, Error::Decided { .. }), "{context}");
                    open(&disk).unwrap();
                    assert_eq!(view(&disk).as_ref(), Ok(&new), "{context}");
                }
                let path = failed.path().to_str().unwrap();
                assert!(path.starts_with('/'), "{context}");
            }
        }
        assert!(again > 0, "what fails once after the decision is done in the end");
    }
}

#[test]
fn a_disk_that_fills_up_leaves_no_trace() {
    for scenario in [Scenario::full(), Scenario::first()] {
        let before = scenario.disk();
        let (done, calls) = scenario.done();
        for from in 0..calls.len() {
            let disk = before.with_fault(Fault::Full(from));
            match commit(&disk, scenario.transaction()) {
                // Only the log grows after the decision, into room set aside; a disk that breaks
                // that promise costs the log's lines.
                Ok(committed) => {
                    let (seen, new) = (view(&disk.fork()).unwrap(), view(&done).unwrap());
                    assert_eq!(seen == new, committed.warnings.is_empty());
                    assert_eq!(seen.without_log(), new.without_log());
                }
                Err(Error::Decided { .. }) => {
                    let disk = disk.fork();
                    open(&disk).unwrap();
                    assert_eq!(view(&disk), view(&done));
                }
                Err(_) => assert_eq!(disk.tree(), before.tree(), "full from call {from}"),
            }
        }
    }
}

#[test]
fn a_disk_that_turns_read_only_is_put_right_by_the_next_run() {
    for scenario in [Scenario::full(), Scenario::first()] {
        let before = scenario.disk();
        let (done, calls) = scenario.done();
        let (old, new) = (view(&before).unwrap(), view(&done).unwrap());
        for from in 0..calls.len() {
            let disk = before.with_fault(Fault::ReadOnly(from));
            let failed = match commit(&disk, scenario.transaction()) {
                Err(failed) => failed,
                // All that was left is that the end of the change is durable.
                Ok(_) => {
                    assert_eq!((from + 1, view(&disk).as_ref()), (calls.len(), Ok(&new)));
                    continue;
                }
            };
            let expected = if matches!(failed, Error::Decided { .. }) { &new } else { &old };
            assert!(failed.hint().is_some(), "{failed:?}");
            let disk = disk.fork();
            drop(open(&disk).unwrap());
            assert_eq!(
                view(&disk).as_ref(),
                Ok(expected),
                "read-only from call {from}: {failed:?}"
            );
        }
    }
}

/// A directory in which there is a decided change of `path`, as anybody who may write there can leave one.
fn forged(path: &str, owner: u32, edit: impl Fn(String) -> String) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let full = std::path::Path::new(DIR).join(path);
    let temporary = temporary_name(full.file_name().unwrap().to_str().unwrap(), "1");
    disk.put_dir(ANNEX);
    disk.put(full.with_file_name(&temporary).to_str().unwrap(), "staged", 0o600, owner);
    let sha256 = sha256(b"staged");
    let record = format!(
        r#"{{"version":1,"transaction":"1","roots":[],"metadata":false,"directories":[],
        "backup":null,"copies":[],"entries":[{{"change":"write","path":"{path}",
        "temporary":"{temporary}","sha256":"{sha256}"}}],"log":null}}"#
    );
    let metadata = format!("{DIR}/.certkit");
    disk.put(&format!("{metadata}/journal"), &edit(record), 0o600, owner);
    disk
}

#[test]
fn a_record_that_somebody_else_may_have_written_is_not_believed() {
    let annex = format!("{ANNEX}/x.pem");
    for (owner, path, believed) in [
        (7, "/elsewhere/x", false),
        (7, "x", false),
        (0, "/elsewhere/x", false),
        (0, "x", true),
        (0, "pki/x", true),
        (0, annex.as_str(), true),
    ] {
        let disk = forged(path, owner, |record| record);
        let full = std::path::Path::new(DIR).join(path);
        let opened = open(&disk).map(|_| ());
        assert_eq!(opened.is_ok(), believed, "{owner} {path}: {opened:?}");
        assert_eq!(disk.tree().contains_key(full.to_str().unwrap()), believed, "{owner} {path}");
    }
    // The annex is believed in only where nobody else owns what leads there.
    let disk = forged(&annex, 0, |record| record);
    disk.give(DIR, 7);
    assert!(matches!(open(&disk).map(|_| ()), Err(Error::Outside { .. })));
}

/// A change that makes a directory, and changes what is there.
fn with_directory() -> Transaction {
    let mut transaction = Transaction::new("1");
    transaction.write("new/x", "1", 0o600).write("new/deep/y", "2", 0o600);
    transaction.write("there", "new", 0o600);
    transaction
}

fn before_directory() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.put(&format!("{DIR}/there"), "old", 0o600, 0);
    disk
}

/// A disk on which that change was decided, and its process killed before anything was visible.
fn decided() -> SimulatedDisk {
    let done = before_directory();
    commit(&done, with_directory()).unwrap();
    let first = format!("rename {DIR}/new");
    let at = done.calls().iter().position(|call| *call == first).unwrap();
    let disk = before_directory().with_fault(Fault::Crash(at));
    commit(&disk, with_directory()).unwrap_err();
    disk.fork()
}

fn content(disk: &SimulatedDisk, name: &str) -> Option<String> {
    match disk.tree().get(&format!("{DIR}/{name}"))? {
        Seen::File { content, .. } => Some(content.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_directory_becomes_visible_by_one_call() {
    let disk = before_directory();
    let committed = commit(&disk, with_directory()).unwrap();
    let files = ["new/x", "new/deep/y", "there"].map(|name| std::path::Path::new(DIR).join(name));
    assert_eq!(committed.written, files);
    let calls = disk.calls();
    let shown: Vec<&String> = calls.iter().filter(|call| call.starts_with("rename")).collect();
    let own = |name: &str| format!("rename {DIR}/{name}");
    assert_eq!(shown[1..3], [&own("new"), &own("there")], "{shown:?}");
    assert_eq!(shown.len(), 4, "the decision, the two changes, and what is owed: {shown:?}");
    let disk = decided();
    assert!(content(&disk, "new/x").is_none());
    let engine = open(&disk).unwrap();
    let Some(Recovery::RolledForward { files: found }) = &engine.recovered else {
        panic!("{:?}", engine.recovered)
    };
    assert_eq!(*found, files);
    assert_eq!(content(&disk, "new/deep/y").as_deref(), Some("2"));
}

/// Another program makes the directory first, or changes what was staged for it.
#[test]
fn a_new_directory_that_cannot_be_put_in_place_is_in_no_other_changes_way() {
    let temporary = || {
        let names = decided().tree().into_keys().find(|path| path.ends_with("/deep/y"));
        names.unwrap().trim_end_matches("/deep/y").to_owned()
    };
    let theirs = |disk: &SimulatedDisk| disk.put(&format!("{DIR}/new/theirs"), "theirs", 0o600, 0);
    let changed = |disk: &SimulatedDisk| {
        disk.overwrite(&format!("{}/deep/y", temporary()), "forged").unwrap();
    };
    let faults: [&dyn Fn(&SimulatedDisk); 2] = [&theirs, &changed];
    for fault in faults {
        let disk = decided();
        fault(&disk);
        let mut engine = open(&disk).unwrap();
        let Some(Recovery::Unfinished { files, left, .. }) = &engine.recovered else {
            panic!("{:?}", engine.recovered)
        };
        assert_eq!((files.len(), left.len()), (3, 2), "{left:?}");
        assert_eq!(content(&disk, "there").as_deref(), Some("new"));
        assert!(content(&disk, "new/x").is_none());
        // Nothing in it is changed meanwhile, not even what that change did not have.
        for name in ["new/x", "new/other"] {
            let mut transaction = Transaction::new("2");
            transaction.write(name, "other", 0o600);
            let refused = engine.commit(transaction).unwrap_err();
            assert!(matches!(refused, Error::Unfinished { .. }), "{refused:?}");
        }
        let mut transaction = Transaction::new("2");
        transaction.write("newer", "other", 0o600);
        engine.commit(transaction).unwrap();
    }
}

#[test]
fn a_record_of_a_new_directory_names_nothing_else() {
    let record = |path: &str, directory: &str| {
        let sha256 = sha256(b"staged");
        format!(
            r#"{{"version":2,"transaction":"1","roots":[],"metadata":false,"directories":[],
            "backup":null,"copies":[],"entries":[{{"change":"directory","path":"{directory}",
            "temporary":".new.certkit-1"}},{{"change":"write","path":"{path}","temporary":null,
            "sha256":"{sha256}"}}],"log":null}}"#
        )
    };
    for (path, directory, believed) in [
        ("new/x", "new", true),
        ("new/deep/x", "new", true),
        ("x", "new", false),
        ("newer/x", "new", false),
        ("new/../x", "new", false),
        ("new/x", "../new", false),
        (".certkit/new/x", ".certkit/new", false),
    ] {
        let disk = SimulatedDisk::new();
        let staged = path.replacen("new/", ".new.certkit-1/", 1);
        disk.put(&format!("{DIR}/{staged}"), "staged", 0o600, 0);
        disk.put(&format!("{DIR}/.certkit/journal"), &record(path, directory), 0o600, 0);
        let opened = open(&disk).map(|_| ());
        assert_eq!(opened.is_ok(), believed, "{path}: {opened:?}");
        if believed {
            assert_eq!(content(&disk, path).as_deref(), Some("staged"));
        } else {
            assert!(matches!(opened, Err(Error::DamagedJournal { .. })), "{opened:?}");
        }
    }
}

#[test]
fn a_record_names_no_path_that_a_change_cannot_have() {
    let edits = [
        ("\"path\":\"x\"", "\"path\":\"../x\""),
        ("\"path\":\"x\"", "\"path\":\".certkit/x\""),
        ("\"temporary\":\".x", "\"temporary\":\"../.x"),
        ("\"temporary\":\".x.certkit-1\"", "\"temporary\":\"ca.key\""),
        ("\"roots\":[]", "\"roots\":[\"/home\"]"),
        ("\"roots\":[]", "\"roots\":[\"/etc/kubernetes/pki\"]"),
        ("\"directories\":[]", "\"directories\":[\"/home\"]"),
        ("\"directories\":[]", "\"directories\":[\"..\"]"),
        ("\"directories\":[]", "\"directories\":[\".certkit/x\"]"),
        ("\"copies\":[]", "\"copies\":[\"x\"]"),
        ("\"copies\":[]", "\"copies\":[\"/home/x\"]"),
        ("\"backup\":null", "\"backup\":\"..\""),
        ("\"transaction\":\"1\"", "\"transaction\":\"../1\""),
    ];
    for (from, to) in edits {
        let disk = forged("x", 0, |record| {
            assert!(record.contains(from), "{from}");
            record.replace(from, to)
        });
        let before = disk.tree();
        let opened = open(&disk).map(|_| ());
        assert!(matches!(opened, Err(Error::DamagedJournal { .. })), "{to}: {opened:?}");
        let mut after = disk.tree();
        after.remove(&format!("{DIR}/.certkit/lock"));
        assert_eq!(after, before, "{to}");
    }
}

/// One place refuses for good, as a directory of another program's may: it stands in its own way alone.
#[test]
fn what_cannot_be_put_in_place_is_in_no_other_changes_way() {
    let disk = forged("x", 0, |record| record);
    // Somebody removed what was staged: that change can never be finished.
    disk.overwrite(&format!("{DIR}/.x.certkit-1"), "another's");
    let mut engine = open(&disk).unwrap();
    assert!(
        matches!(engine.recovered, Some(Recovery::Unfinished { .. })),
        "{:?}",
        engine.recovered
    );
    let mut transaction = Transaction::new("2");
    transaction.write("y", "new", 0o600).log("line".to_owned());
    engine.commit(transaction).unwrap();
    let mut transaction = Transaction::new("3");
    transaction.write("x", "new", 0o600);
    let refused = engine.commit(transaction).unwrap_err();
    assert!(matches!(refused, Error::Unfinished { .. }), "{refused:?}");
    assert!(refused.hint().unwrap().contains("rest-1"), "{refused:?}");
    drop(engine);
    // The cause is mended, and the next run finishes it.
    disk.overwrite(&format!("{DIR}/.x.certkit-1"), "staged");
    let engine = open(&disk).unwrap();
    assert!(matches!(engine.recovered, Some(Recovery::RolledForward { .. })));
    let tree = disk.tree();
    let content = |name: &str| match &tree[&format!("{DIR}/{name}")] {
        Seen::File { content, .. } => content.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((content("x").as_str(), content("y").as_str()), ("staged", "new"));
    assert!(!tree.keys().any(|path| path.contains("rest-") || path.contains("certkit-1")));
}
