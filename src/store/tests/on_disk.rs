//! The store on the real file system.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::super::journal;
use super::super::{
    Backup, BackupKind, Error, Recovery, Store, Transaction, pending, write_atomically,
};

/// Another test may be starting a child process, which shares a lock until it is replaced.
pub(super) const NOW: Duration = Duration::from_secs(5);

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, None, NOW).unwrap()
}

pub(super) fn commit(
    dir: &Path,
    fill: impl FnOnce(&mut Transaction),
) -> Result<super::super::Committed, Error> {
    let mut transaction = Transaction::new("20271121T171100Z");
    fill(&mut transaction);
    open(dir).commit(transaction)
}

/// The backups of an open directory.
fn backups(store: &Store) -> Vec<Result<Backup, Error>> {
    let backups = store.backups();
    backups.names().unwrap().iter().map(|name| backups.checked(name)).collect()
}

pub(super) fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(super) fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// All paths below `dir`, with what tells whether anything was touched.
pub(super) fn listing(dir: &Path) -> Vec<(String, u64, i64, i64)> {
    let mut all = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let status = fs::symlink_metadata(&path).unwrap();
        all.push((path.display().to_string(), status.ino(), status.mtime(), status.mtime_nsec()));
        if status.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all.sort();
    all
}

/// A folder with `DIR` in it, not made yet.
pub(super) fn place() -> (TempDir, std::path::PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("etc/kubernetes");
    (temporary, dir)
}

#[test]
fn files_directories_and_log_get_exactly_their_modes_whatever_the_umask() {
    const CHILD: &str = "CERTKIT_TEST_UMASK_DIR";
    if let Some(dir) = std::env::var_os(CHILD) {
        commit(Path::new(&dir), |transaction| {
            transaction.write("pki/etcd/ca.crt", "crt", 0o644).write("pki/ca.key", "key", 0o600);
            transaction.log("{}".to_owned());
        })
        .unwrap();
        return;
    }
    for umask in ["000", "022", "077"] {
        // The umask is the whole process's: the test runs itself once more under each.
        let (_temporary, dir) = place();
        let name = "store::tests::on_disk::files_directories_and_log_get_exactly_their_modes_whatever_the_umask";
        let script = format!("umask {umask}; exec \"$0\" --exact {name}");
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(CHILD, &dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let modes =
            ["", "pki", "pki/etcd", "pki/etcd/ca.crt", "pki/ca.key"].map(|p| mode(dir.join(p)));
        assert_eq!(modes, [0o755, 0o755, 0o755, 0o644, 0o600], "umask {umask}");
        assert_eq!(mode(dir.join(".certkit")), 0o700);
        assert_eq!(mode(dir.join(".certkit/log.jsonl")), 0o600);
    }
}

#[test]
fn a_directory_made_for_nothing_is_gone_again() {
    let (temporary, dir) = place();
    drop(open(&dir));
    assert!(!temporary.path().join("etc").exists());

    let mut store = open(&dir);
    let mut transaction = Transaction::new("t");
    transaction.write("a/b", "x", 0o600).write("a", "y", 0o600);
    assert!(matches!(store.commit(transaction), Err(Error::Path { .. })));
    drop(store);
    assert!(!temporary.path().join("etc").exists());
}

#[test]
fn nothing_to_do_touches_nothing() {
    let (_temporary, dir) = place();
    commit(&dir, |transaction| {
        transaction.write("pki/ca.key", "key", 0o600).log("{}".to_owned());
    })
    .unwrap();
    open(&dir).earlier_debt().settle();
    let before = listing(&dir);
    for _ in 0..100 {
        let committed = commit(&dir, |_| {}).unwrap();
        assert!(committed.written.is_empty() && committed.backup.is_none());
        commit(&dir, |transaction| {
            transaction.remove("pki/absent").remove("no/such/directory");
        })
        .unwrap();
        assert_eq!(pending(&dir).unwrap(), None);
    }
    assert_eq!(listing(&dir), before);
}

#[test]
fn a_replaced_file_keeps_mode_and_owner_when_asked_and_is_backed_up() {
    let (_temporary, dir) = place();
    fs::create_dir_all(dir.join("pki")).unwrap();
    for name in ["kept.key", "asked.key", "gone.key"] {
        let path = dir.join("pki").join(name);
        fs::write(&path, format!("old {name}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    let owner = foreign_owner(&dir.join("pki/kept.key"));
    let committed = commit(&dir, |transaction| {
        transaction.write_keeping_mode("pki/kept.key", "new", 0o600);
        transaction.write("pki/asked.key", "new", 0o600).remove("pki/gone.key");
        transaction.write_keeping_mode("pki/fresh.key", "new", 0o600);
    })
    .unwrap();
    let kept = fs::metadata(dir.join("pki/kept.key")).unwrap();
    assert_eq!((mode(dir.join("pki/kept.key")), kept.uid(), kept.gid()), (0o640, owner.0, owner.1));
    assert_eq!(mode(dir.join("pki/asked.key")), 0o600);
    assert_eq!(mode(dir.join("pki/fresh.key")), 0o600);
    assert!(!dir.join("pki/gone.key").exists());

    let backup = committed.backup.unwrap();
    assert_eq!(backup, dir.join(".certkit/backups/20271121T171100Z-1"));
    for name in ["kept.key", "asked.key", "gone.key"] {
        let copy = backup.join("files/pki").join(name);
        assert_eq!(read(&copy), format!("old {name}"));
        assert_eq!(mode(&copy), 0o600);
        // A hard link would keep fsnotify on the old file.
        assert_eq!(fs::metadata(&copy).unwrap().nlink(), 1);
    }
    assert_eq!(mode(&backup), 0o700);

    let store = open(&dir);
    let backups = backups(&store);
    let files = &backups[0].as_ref().unwrap().files;
    assert_eq!(files.len(), 4);
    assert_eq!(files[3].kind, BackupKind::Created);
}

/// Gives a file to another user where that is allowed; returns the owner it has then.
fn foreign_owner(path: &Path) -> (u32, u32) {
    let _ = std::os::unix::fs::chown(path, Some(12), Some(34));
    let status = fs::metadata(path).unwrap();
    (status.uid(), status.gid())
}

#[test]
fn restoring_a_backup_brings_everything_back() {
    let (temporary, dir) = place();
    let outside = temporary.path().join("kubelet/pki");
    fs::create_dir_all(dir.join("pki")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(dir.join("pki/a.key"), "old").unwrap();
    fs::set_permissions(dir.join("pki/a.key"), fs::Permissions::from_mode(0o440)).unwrap();
    let owner = foreign_owner(&dir.join("pki/a.key"));
    fs::write(outside.join("old.pem"), "old pem").unwrap();
    symlink("old.pem", outside.join("current.pem")).unwrap();
    let fill = |transaction: &mut Transaction| {
        transaction.write("pki/a.key", "new", 0o600).write("pki/b.key", "new", 0o600);
        transaction.write(outside.join("new.pem"), "new pem", 0o600);
        transaction.symlink(outside.join("current.pem"), "new.pem").remove(outside.join("old.pem"));
    };
    // Elsewhere nothing is changed, but in the one folder that is named.
    assert!(matches!(commit(&dir, fill), Err(Error::Outside { .. })));
    let mut store = Store::open(&dir, Some(&outside), NOW).unwrap();
    let mut transaction = Transaction::new("20271121T171100Z");
    fill(&mut transaction);
    store.commit(transaction).unwrap();
    assert_eq!(read(outside.join("current.pem")), "new pem");
    let backup = backups(&store).pop().unwrap().unwrap();
    let undo = store.backups().undo(&[backup]).unwrap();
    assert_eq!((undo.files.len(), undo.strangers), (5, vec![]));
    let transaction = undo.transaction.named("20280101T000000Z");
    let undone = store.commit(transaction).unwrap();
    let status = fs::metadata(dir.join("pki/a.key")).unwrap();
    assert_eq!(read(dir.join("pki/a.key")), "old");
    assert_eq!(
        (mode(dir.join("pki/a.key")), status.uid(), status.gid()),
        (0o440, owner.0, owner.1)
    );
    assert!(!dir.join("pki/b.key").exists());
    assert_eq!(read(outside.join("current.pem")), "old pem");
    assert!(!outside.join("new.pem").exists());
    assert!(undone.backup.unwrap().ends_with("20280101T000000Z-2"));

    // The restoration was a transaction like any other, so it can be undone, too.
    let backup = backups(&store).pop().unwrap().unwrap();
    let transaction = store.backups().undo(&[backup]).unwrap().transaction;
    store.commit(transaction).unwrap();
    assert_eq!(read(dir.join("pki/a.key")), "new");
    assert_eq!(read(outside.join("current.pem")), "new pem");
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let (_temporary, dir) = place();
    for text in ["1", "2"] {
        commit(&dir, |transaction| {
            transaction.write("pki/a.key", text, 0o600);
        })
        .unwrap();
    }
    let store = open(&dir);
    let backup = backups(&store).pop().unwrap().unwrap();
    fs::write(backup.path.join("files/pki/a.key"), "3").unwrap();
    let last = backups(&store).pop().unwrap();
    assert!(matches!(last, Err(Error::DamagedBackup { .. })), "{last:?}");
    assert!(matches!(store.backups().undo(&[backup]), Err(Error::DamagedBackup { .. })));
}

#[test]
fn a_damaged_or_foreign_backup_stands_in_its_own_way_alone() {
    let (_temporary, dir) = place();
    for text in ["1", "2", "3"] {
        commit(&dir, |transaction| {
            transaction.write("pki/a.key", text, 0o600);
        })
        .unwrap();
    }
    let folder = dir.join(".certkit/backups");
    fs::write(folder.join("20271121T171100Z-1/manifest.json"), "{").unwrap();
    // Anybody's notes, and a backup that claims to be the last.
    fs::write(folder.join("README"), "notes").unwrap();
    fs::create_dir_all(folder.join("20990101T000000Z-99")).unwrap();
    let manifest = r#"{"version":1,"id":"20990101T000000Z-99","files":[
        {"path":"../victim","was":"missing"}]}"#;
    fs::write(folder.join("20990101T000000Z-99/manifest.json"), manifest).unwrap();
    let mut store = open(&dir);
    let found = backups(&store);
    let fine: Vec<bool> = found.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [false, true, true, false]);
    assert!(matches!(found[3], Err(Error::DamagedBackup { .. })), "{:?}", found[3]);
    let mut transaction = Transaction::new("20271121T171100Z");
    transaction.write("pki/a.key", "4", 0o600);
    let committed = store.commit(transaction).unwrap();
    assert!(committed.backup.unwrap().ends_with("20271121T171100Z-100"));
    let (removed, failed) = store.prune_backups(0);
    assert_eq!((removed.len(), failed), (5, vec![]));
    assert_eq!(read(folder.join("README")), "notes");
}

#[test]
fn a_replaced_file_keeps_its_attributes_and_a_secret_is_never_everybodys() {
    let (_temporary, dir) = place();
    fs::create_dir_all(dir.join("pki")).unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        let path = dir.join("pki").join(name);
        rustix::fs::setxattr(&path, attribute, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    let of = |name: &str, attribute: &str| {
        let mut value = vec![0; 256];
        let length =
            rustix::fs::getxattr(dir.join("pki").join(name), attribute, &mut value).ok()?;
        value.truncate(length);
        Some(value)
    };
    // user::rw-, user:1234:r--, group::---, mask::r--, other::--- (acl(5), linux/posix_acl_xattr.h)
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1234),
        (4, 0, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes().iter().chain(&permissions.to_le_bytes()));
        acl.extend(id.to_le_bytes());
    }
    const ACL: &str = "system.posix_acl_access";
    for name in ["shared.key", "open.key", "open.crt"] {
        fs::write(dir.join("pki").join(name), "old").unwrap();
        set(name, "user.note", name.as_bytes());
    }
    set("shared.key", ACL, &acl);
    for name in ["open.key", "open.crt"] {
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(dir.join("pki").join(name), open).unwrap();
    }
    let before = mode(dir.join("pki/shared.key"));
    let committed = commit(&dir, |transaction| {
        for (name, mode) in [("shared.key", 0o600), ("open.key", 0o600), ("open.crt", 0o644)] {
            transaction.write_keeping_mode(format!("pki/{name}"), "new", mode);
        }
    })
    .unwrap();
    assert_eq!(committed.closed, [dir.join("pki/open.key")]);
    assert_eq!(mode(dir.join("pki/open.key")), 0o600);
    assert_eq!(mode(dir.join("pki/open.crt")), 0o644);
    assert_eq!(mode(dir.join("pki/shared.key")), before);
    assert_eq!(of("shared.key", ACL), Some(acl.clone()));
    for name in ["shared.key", "open.key", "open.crt"] {
        assert_eq!(of(name, "user.note").as_deref(), Some(name.as_bytes()), "{name}");
    }
    // Going back brings them back, though they were taken away meanwhile.
    rustix::fs::removexattr(dir.join("pki/shared.key"), ACL).unwrap();
    let mut store = open(&dir);
    let backup = backups(&store).pop().unwrap().unwrap();
    let transaction = store.backups().undo(&[backup]).unwrap().transaction;
    store.commit(transaction).unwrap();
    assert_eq!(of("shared.key", ACL), Some(acl));
    assert_eq!(mode(dir.join("pki/open.key")), 0o644);
}

#[test]
fn what_several_changes_touched_becomes_what_it_was_before_the_first() {
    let (_temporary, dir) = place();
    let write = |files: &[(&str, &str)]| {
        commit(&dir, |transaction| {
            for (file, text) in files {
                transaction.write(*file, *text, 0o600);
            }
        })
        .unwrap();
    };
    write(&[("a", "1"), ("b", "1")]);
    write(&[("a", "2"), ("c", "2")]);
    write(&[("a", "3"), ("b", "3"), ("c", "3")]);
    let store = open(&dir);
    let changes = || backups(&store).into_iter().map(Result::unwrap).skip(1);
    let undone = |undo: &super::super::Undo| -> Vec<String> {
        undo.files.iter().map(|entry| entry.path.display().to_string()).collect()
    };
    let undo = store.backups().undo(&changes().collect::<Vec<_>>()).unwrap();
    assert_eq!(undone(&undo), ["a", "c", "b"]);
    assert!(undo.strangers.is_empty());
    // Somebody else's change is told, and what is as it was before anyway is left alone.
    fs::write(dir.join("a"), "theirs").unwrap();
    fs::write(dir.join("b"), "1").unwrap();
    let undo = store.backups().undo(&changes().collect::<Vec<_>>()).unwrap();
    assert_eq!((undone(&undo), &undo.strangers), (vec!["a".into(), "c".into()], &vec!["a".into()]));
    drop(store);
    open(&dir).commit(undo.transaction.named("20280101T000000Z")).unwrap();
    assert_eq!((read(dir.join("a")), read(dir.join("b"))), ("1".into(), "1".into()));
    assert!(!dir.join("c").exists());
}

#[test]
fn only_the_last_backups_are_kept() {
    let (_temporary, dir) = place();
    for text in 0..13 {
        commit(&dir, |transaction| {
            transaction.write("pki/a.key", text.to_string(), 0o600);
        })
        .unwrap();
    }
    // One that was being removed when the power went.
    fs::create_dir_all(dir.join(".certkit/backups/20260101T000000Z/files")).unwrap();
    let mut store = open(&dir);
    assert_eq!(backups(&store).len(), 13);
    let removed = store.prune_backups(2).0;
    assert_eq!(removed.len(), 12);
    let ids: Vec<String> = backups(&store).into_iter().map(|backup| backup.unwrap().id).collect();
    assert_eq!(ids, ["20271121T171100Z-12", "20271121T171100Z-13"]);
    assert_eq!(fs::read_dir(dir.join(".certkit/backups")).unwrap().count(), 2);
}

#[test]
fn a_decided_change_of_a_dead_run_is_finished() {
    let (_temporary, dir) = place();
    fs::create_dir_all(dir.join(".certkit")).unwrap();
    fs::write(dir.join("a.key"), "old").unwrap();
    fs::write(dir.join(".a.key.certkit-1"), "new").unwrap();
    let record = format!(
        r#"{{"version":1,"transaction":"1","roots":[],"metadata":false,"directories":[],"backup":null,
        "copies":[],"entries":[{{"change":"write","path":"a.key","temporary":".a.key.certkit-1",
        "sha256":"{}"}}],"log":{{"created":true,"length":0,"lines":"{{}}\n"}}}}"#,
        super::super::digest::sha256(b"new")
    );
    fs::write(dir.join(".certkit/journal"), &record).unwrap();
    assert!(pending(&dir).unwrap().unwrap().decided);
    let mut store = open(&dir);
    let files = vec![dir.join("a.key")];
    assert_eq!(store.recovered(), Some(Recovery::RolledForward { files }));
    // Whoever uses it was not told: that is owed until it is settled.
    drop(store.earlier_debt());
    drop(store);
    let left = pending(&dir).unwrap().unwrap();
    assert!(left.owed && !left.decided, "{left:?}");
    let mut store = open(&dir);
    let debt = store.earlier_debt();
    assert_eq!(debt.files().iter().collect::<Vec<_>>(), [&dir.join("a.key")]);
    // One that is about to pay holds it: nobody else pays the same.
    drop(store);
    assert_eq!(pending(&dir).unwrap(), None);
    assert!(open(&dir).earlier_debt().files().is_empty());
    debt.settle();
    drop(debt);
    assert_eq!(pending(&dir).unwrap(), None);
    assert_eq!(read(dir.join("a.key")), "new");
    assert_eq!(read(dir.join(".certkit/log.jsonl")), "{}\n");
    assert_eq!(open(&dir).recovered(), None);

    // The same journal once more, but now neither staged nor in place.
    fs::write(dir.join("a.key"), "somebody else's").unwrap();
    fs::write(dir.join(".certkit/journal"), &record).unwrap();
    let recovered = open(&dir).recovered().unwrap();
    assert!(matches!(recovered, Recovery::Unfinished { .. }), "{recovered:?}");
    assert!(recovered.to_string().contains("a.key"), "{recovered}");
    assert_eq!(read(dir.join("a.key")), "somebody else's");

    for damaged in ["", "{", &record[..record.len() - 1], &record.replace("\":1,", "\":3,")] {
        fs::write(dir.join(".certkit/journal"), damaged).unwrap();
        let before = listing(&dir);
        let error = Store::open(&dir, None, NOW).err().unwrap();
        assert!(matches!(error, Error::DamagedJournal { .. }), "{error:?}");
        assert!(error.hint().is_some());
        assert_eq!(listing(&dir), before);
    }
}

#[test]
fn a_torn_record_of_a_dead_run_is_dropped() {
    let (_temporary, dir) = place();
    fs::create_dir_all(dir.join(".certkit")).unwrap();
    fs::write(dir.join(".certkit").join(journal::STAGING), "{\"version\":1,").unwrap();
    let store = open(&dir);
    drop(store);
    assert!(!dir.join(".certkit/staging").exists());
}

#[test]
fn many_files_are_synced_at_once_and_are_all_there() {
    let (_temporary, dir) = place();
    let committed = commit(&dir, |transaction| {
        for host in 0..120 {
            transaction.write(format!("hosts/h{host}/pki/a.key"), host.to_string(), 0o600);
        }
    })
    .unwrap();
    assert_eq!(committed.written.len(), 120);
    assert_eq!(read(dir.join("hosts/h77/pki/a.key")), "77");
    assert_eq!(mode(dir.join("hosts/h77/pki/a.key")), 0o600);
    assert_eq!(mode(dir.join("hosts/h77/pki")), 0o755);
    assert!(listing(&dir).iter().all(|(name, ..)| !name.contains("certkit-")));
}

#[test]
fn one_file_is_written_atomically_and_nothing_else_stays() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("certkit.prom");
    write_atomically(&path, b"1", 0o644).unwrap();
    write_atomically(&path, b"2", 0o640).unwrap();
    assert_eq!((read(&path).as_str(), mode(&path)), ("2", 0o640));
    symlink("certkit.prom", temporary.path().join("link")).unwrap();
    assert!(write_atomically(&temporary.path().join("link"), b"3", 0o644).is_err());
    assert!(write_atomically(temporary.path(), b"3", 0o644).is_err());
    let missing = temporary.path().join("no/file");
    let error = write_atomically(&missing, b"3", 0o644).unwrap_err();
    assert_eq!(error.path(), missing.parent().unwrap());
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 2);
}
