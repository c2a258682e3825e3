//! A call fails: before the decision all is as it was, after it the next run finishes.

use super::super::digest::sha256;
use super::super::error::Error;
use super::super::simulated::{EACCES, EIO, ENOSPC, EROFS, Fault, SimulatedDisk};
use super::scenario::{DIR, Scenario, commit, open, view};

#[test]
fn a_failing_call_leaves_all_as_it_was_or_decided() {
    for scenario in [Scenario::full(), Scenario::first()] {
        let before = scenario.disk();
        let (done, calls) = scenario.done();
        let (old, new) = (before.tree(), view(&done).unwrap());
        let decision = calls.iter().position(|call| call.ends_with("/.certkit/journal")).unwrap();
        for (at, call) in calls.iter().enumerate() {
            for error in [EIO, ENOSPC, EACCES, EROFS] {
                let disk = before.with_fault(Fault::Error(at, error));
                let failed = commit(&disk, scenario.transaction()).unwrap_err();
                let context = format!("{error} at call {at} ({call}): {failed:?}");
                let disk = disk.fork();
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
                // that promise is finished by the next run.
                Ok(_) | Err(Error::Decided { .. }) => {
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
            let failed = commit(&disk, scenario.transaction()).unwrap_err();
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

#[test]
fn a_journal_of_another_user_cannot_write_outside_of_the_directory() {
    let sha256 = sha256(b"staged");
    for (owner, path, trusted) in
        [(7, "/elsewhere/x", false), (7, "x", true), (0, "/elsewhere/x", true)]
    {
        let disk = SimulatedDisk::new();
        let full = std::path::Path::new(DIR).join(path);
        disk.put(full.with_file_name(".x").to_str().unwrap(), "staged", 0o600, owner);
        let record = format!(
            r#"{{"version":1,"transaction":"1","roots":[],"metadata":false,"directories":[],
            "backup":null,"copies":[],"entries":[{{"change":"write","path":"{path}",
            "temporary":".x","sha256":"{sha256}"}}],"log":null}}"#
        );
        let metadata = format!("{DIR}/.certkit");
        disk.put(&format!("{metadata}/journal"), &record, 0o600, owner);
        disk.give(&metadata, owner);
        let opened = open(&disk).map(|_| ());
        assert_eq!(opened.is_ok(), trusted, "{opened:?}");
        assert_eq!(disk.tree().contains_key(full.to_str().unwrap()), trusted);
        assert!(trusted || matches!(opened, Err(Error::Untrusted { .. })), "{opened:?}");
    }
}
