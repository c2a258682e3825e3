//! What must not happen on the real file system: two writers, writes through symbolic links, a key
//! that others can read.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::{Error, Holder, Pending, Store, Transaction, pending};
use super::on_disk::{commit, listing, open, place, read};

#[test]
fn the_second_writer_is_told_who_holds_the_lock() {
    let (_temporary, dir) = place();
    fs::create_dir_all(&dir).unwrap();
    let first = open(&dir);
    let start = Instant::now();
    let error = Store::open(&dir, None, Duration::from_millis(60)).err().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(60));
    let Error::LockHeld { holder: Some(holder), .. } = &error else { panic!("{error:?}") };
    assert_eq!(holder.pid, std::process::id());
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    assert!(!holder.command.is_empty());
    assert_eq!(pending(&dir).unwrap().unwrap().holder.as_ref(), Some(holder));
    drop(first);
    open(&dir);
}

#[test]
fn who_finishes_while_a_reader_looks_is_not_taken_for_interrupted() {
    for _ in 0..40 {
        // In memory, where there are more changes in the same time.
        let temporary = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let dir = temporary.path().join("etc/kubernetes");
        let write = |number: usize| {
            let text = number.to_string();
            let both = |transaction: &mut Transaction| {
                transaction.write("a", text.clone(), 0o600).write("b", text.clone(), 0o600);
            };
            commit(&dir, both).unwrap();
        };
        write(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..25).for_each(write));
            while !writer.is_finished() {
                let found = pending(&dir).unwrap();
                let is_interrupted = |found: &Pending| found.decided && found.holder.is_none();
                assert!(!found.as_ref().is_some_and(is_interrupted), "{found:?}");
            }
        });
    }
}

#[test]
fn the_second_writer_waits_for_the_first() {
    let (_temporary, dir) = place();
    let mut first = open(&dir);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| Store::open(&dir, None, Duration::from_secs(20)).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        let mut transaction = Transaction::new("1");
        transaction.write("a", "1", 0o600);
        first.commit(transaction).unwrap();
        drop(first);
        assert_eq!(read(second.join().unwrap().dir().join("a")), "1");
    });
}

#[test]
fn a_writer_that_waited_for_a_directory_made_for_nothing_makes_it_anew() {
    let (_temporary, dir) = place();
    let first = open(&dir);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| Store::open(&dir, None, Duration::from_secs(20)).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        drop(first);
        let mut second = second.join().unwrap();
        let mut transaction = Transaction::new("1");
        transaction.write("a", "1", 0o600);
        second.commit(transaction).unwrap();
    });
    assert_eq!(read(dir.join("a")), "1");
}

/// A first change, so that certkit's own directory is there.
fn seed(dir: &std::path::Path) {
    commit(dir, |transaction| {
        transaction.write("seed", "x", 0o600).log("{}".to_owned());
    })
    .unwrap();
}

#[test]
fn no_symlink_leads_a_write_out_of_the_directory() {
    let (temporary, dir) = place();
    let outside = temporary.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(dir.join("real")).unwrap();
    fs::write(outside.join("victim"), "safe").unwrap();
    symlink(&outside, dir.join("pki")).unwrap();
    symlink("../../outside", dir.join("up")).unwrap();
    symlink("real", dir.join("inside")).unwrap();
    symlink(outside.join("victim"), dir.join("link.key")).unwrap();
    symlink(".certkit", dir.join("records")).unwrap();
    symlink(dir.join("real"), dir.join("absolute")).unwrap();
    symlink("real/a.key", dir.join("one.key")).unwrap();
    symlink(dir.join("absolute/b.key"), dir.join("two.key")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    seed(&dir);
    let before = listing(temporary.path());
    let refused = [
        "pki/a.key",
        "up/a.key",
        "pki/new/a.key",
        "link.key",
        "records/a",
        "loop/a",
        "loop",
        "dangling/a",
        "dangling/new/a",
    ];
    for path in refused {
        let error = commit(&dir, |transaction| {
            transaction.write("fine", "x", 0o600).write(path, "evil", 0o600);
        })
        .unwrap_err();
        assert!(error.path().starts_with(&dir), "{error:?}");
        assert_eq!(listing(temporary.path()), before, "{path}");
    }
    commit(&dir, |transaction| {
        transaction.write("inside/a.key", "x", 0o600).remove("link.key");
    })
    .unwrap();
    assert_eq!(read(dir.join("real/a.key")), "x");
    // What stays inside is followed, and stays what it is.
    commit(&dir, |transaction| {
        transaction.write("one.key", "y", 0o600).write("two.key", "z", 0o600);
        transaction.write("absolute/c.key", "c", 0o600);
    })
    .unwrap();
    for (file, content) in [("real/a.key", "y"), ("real/b.key", "z"), ("real/c.key", "c")] {
        assert_eq!(read(dir.join(file)), content);
    }
    assert!(fs::symlink_metadata(dir.join("one.key")).unwrap().is_symlink());
    assert_eq!(read(outside.join("victim")), "safe");
}

#[test]
fn hostile_paths_and_things_in_the_way_are_refused_before_anything_is_written() {
    let (temporary, dir) = place();
    fs::create_dir_all(dir.join("pki/folder.key")).unwrap();
    fs::write(dir.join("file"), "x").unwrap();
    let made = Command::new("mkfifo").arg(dir.join("fifo.key")).status().unwrap();
    assert!(made.success());
    seed(&dir);
    let before = listing(temporary.path());
    let paths = [
        "../a",
        "pki/../../a",
        "./a",
        "",
        "pki/",
        "/",
        "/a/../b",
        ".certkit/journal",
        ".certkit",
        "pki/folder.key",
        "fifo.key",
        "file/below",
        "a\0b",
    ];
    for path in paths {
        let error = commit(&dir, |transaction| {
            transaction.write("fine", "x", 0o600).write(path, "evil", 0o600);
        });
        assert!(error.is_err(), "{path}");
        assert_eq!(listing(temporary.path()), before, "{path}");
    }
    let twice = commit(&dir, |transaction| {
        transaction.write("a", "x", 0o600).remove(dir.join("a"));
    });
    assert!(matches!(twice, Err(Error::Path { .. })), "{twice:?}");
    let link_over_file = commit(&dir, |transaction| {
        transaction.symlink("file", "elsewhere");
    });
    assert!(matches!(link_over_file, Err(Error::Path { .. })), "{link_over_file:?}");
    assert_eq!(listing(temporary.path()), before);
}

#[test]
fn an_immutable_file_is_refused_before_anything_is_written() {
    let (_temporary, dir) = place();
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("a.key"), "old").unwrap();
    let chattr = |flag| Command::new("chattr").arg(flag).arg(dir.join("a.key")).output();
    let set = chattr("+i").is_ok_and(|output| output.status.success());
    let committed = commit(&dir, |transaction| {
        transaction.write("b.key", "new", 0o600).write("a.key", "new", 0o600);
    });
    let _ = chattr("-i");
    // Without chattr (or the right to use it) the very same transaction must succeed.
    assert_eq!(committed.is_err(), set, "{committed:?}");
    assert_eq!(dir.join("b.key").exists(), !set);
}

#[test]
fn a_private_key_is_never_readable_by_others_while_it_is_written() {
    let (_temporary, dir) = place();
    fs::create_dir_all(dir.join("pki")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = 0_usize;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in fs::read_dir(dir.join("pki")).unwrap().flatten() {
                    let Ok(status) = entry.metadata() else { continue };
                    assert_eq!(status.mode() & 0o077, 0, "{:?}", entry.file_name());
                    seen += 1;
                }
            }
            seen
        });
        let committed: Result<Vec<_>, _> = (0..100)
            .map(|text| {
                commit(&dir, |transaction| {
                    transaction.write("pki/ca.key", text.to_string(), 0o600);
                })
            })
            .collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 0);
        committed.unwrap();
    });
}

#[test]
fn a_holder_without_command_is_still_named() {
    let holder = Holder { pid: 7, command: String::new() };
    assert_eq!(Holder::describe(Some(&holder)), "process 7");
    assert_eq!(Holder::describe(None), "another process");
}
