//! One directory before and after one transaction, on the simulated disk, and what may be seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::METADATA;
use super::super::backup::{self, Backup};
use super::super::disk::Disk;
use super::super::engine::{self, Committed, Engine};
use super::super::error::Error;
use super::super::gate::Gate;
use super::super::journal;
use super::super::place;
use super::super::recover;
use super::super::simulated::{Seen, SimulatedDisk};
use super::super::transaction::Transaction;

pub(super) const DIR: &str = "/etc/kubernetes";

/// What happens to one path, and what was there before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Keep,
    Remove,
    Write,
    WriteKeepingMode,
}

/// A directory and a transaction for it.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// Whether the directory is there at all before.
    pub(super) dir_exists: bool,
    /// Whether a transaction has been committed before: `.certkit`, its log and a backup are there.
    pub(super) has_history: bool,
    /// For each of [`PATHS`]: was there, and what is done to it.
    pub(super) files: Vec<(bool, Step)>,
    pub(super) log_lines: usize,
    /// More new files, to have enough for one sync of the whole file system.
    pub(super) extra: usize,
    /// Hosts that are new, each with a folder that holds another one.
    pub(super) hosts: usize,
}

/// The folder elsewhere that may be changed.
pub(super) const ANNEX: &str = "/var/lib/kubelet/pki";

/// A directory that exists, one that does not, several levels, outside, a symlink.
pub(super) const PATHS: [&str; 9] = [
    "admin.conf",
    "pki/a.crt",
    "pki/a.key",
    "pki/etcd/b.key",
    "new/c.crt",
    "new/deep/c.key",
    "/var/lib/kubelet/pki/x.pem",
    "kubelet/y.yaml",
    "/var/lib/kubelet/pki/current.pem",
];
const LINK: usize = 8;

impl View {
    /// The same whatever the log says.
    pub(super) fn without_log(self) -> Self {
        Self { log: None, ..self }
    }
}

/// All that counts of a disk: files by path, log, backups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct View {
    files: BTreeMap<String, Seen>,
    log: Option<String>,
    backups: Vec<(String, usize)>,
    /// What is in place and nobody was told of.
    owed: BTreeSet<PathBuf>,
}

impl Scenario {
    /// Every kind of step, in several directories.
    pub(super) fn full() -> Self {
        use Step::{Keep, Remove, Write, WriteKeepingMode};
        let files = vec![
            (true, WriteKeepingMode),
            (true, Write),
            (true, Write),
            (true, Remove),
            (false, Write),
            (false, Write),
            (true, Write),
            (false, Keep),
            (true, Write),
        ];
        Self { dir_exists: true, has_history: true, files, log_lines: 2, extra: 0, hosts: 0 }
    }

    /// The first transaction of all: nothing is there.
    pub(super) fn first() -> Self {
        let files = PATHS.iter().map(|_| (false, Step::Write)).collect();
        Self { dir_exists: false, has_history: false, files, log_lines: 1, extra: 0, hosts: 0 }
    }

    /// Enough files to be synced all at once.
    pub(super) fn bulk() -> Self {
        Self { extra: 60, ..Self::full() }
    }

    /// More hosts than one thread fills a folder of; with 30 enough to be synced all at once.
    pub(super) fn fleet(hosts: usize) -> Self {
        let mut files = vec![(false, Step::Keep); PATHS.len()];
        files[0] = (false, Step::Write);
        Self { dir_exists: true, has_history: false, files, log_lines: 1, extra: 0, hosts }
    }

    /// A line of the log, and nothing else.
    pub(super) fn line() -> Self {
        let files = PATHS.iter().map(|_| (true, Step::Keep)).collect();
        Self { dir_exists: true, has_history: true, files, log_lines: 1, extra: 0, hosts: 0 }
    }

    /// The disk before.
    pub(super) fn disk(&self) -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.put_dir("/etc");
        disk.put_dir(ANNEX);
        if self.dir_exists {
            disk.put_dir(DIR);
        }
        for (at, (path, (exists, _))) in PATHS.iter().zip(&self.files).enumerate() {
            if !exists || (!self.dir_exists && !path.starts_with('/')) {
                continue;
            }
            let path = Path::new(DIR).join(path);
            let path = path.to_str().unwrap();
            if at == LINK {
                disk.put_symlink(path, "old.pem");
            } else {
                disk.put(path, &format!("old {path}"), 0o640, 7);
            }
        }
        if self.has_history && self.dir_exists {
            let mut transaction = Transaction::new("1");
            transaction.write("history", "1", 0o644).log("first".to_owned());
            commit(&disk, transaction).unwrap();
            let mut transaction = Transaction::new("1");
            transaction.write("history", "2", 0o644).log("second".to_owned());
            commit(&disk, transaction).unwrap();
            let engine = open(&disk).unwrap();
            let names = engine.gate.list(METADATA).unwrap();
            for name in names.iter().filter(|name| name.starts_with(journal::OWED)) {
                engine.gate.unlink(&place::own(name)).unwrap();
            }
            drop(engine);
            disk.settle();
        }
        disk.fork()
    }

    pub(super) fn transaction(&self) -> Transaction {
        let mut transaction = Transaction::new("2");
        for (at, (path, (_, step))) in PATHS.iter().zip(&self.files).enumerate() {
            match step {
                Step::Keep => {}
                Step::Remove => {
                    transaction.remove(*path);
                }
                _ if at == LINK => {
                    transaction.symlink(*path, "new.pem");
                }
                Step::Write => {
                    transaction.write(*path, format!("new {path}"), 0o600);
                }
                Step::WriteKeepingMode => {
                    transaction.write_keeping_mode(*path, format!("new {path}"), 0o600);
                }
            }
        }
        (0..self.extra).for_each(|number| {
            transaction.write(format!("bulk/{number}"), format!("new {number}"), 0o600);
        });
        (0..self.hosts).for_each(|number| {
            let folder = format!("hosts/h{number}");
            transaction.write(format!("{folder}/kubelet.conf"), format!("host {number}"), 0o600);
            transaction.write(format!("{folder}/pki/kubelet.key"), format!("key {number}"), 0o600);
        });
        (0..self.log_lines).for_each(|line| {
            transaction.log(format!("line {line}"));
        });
        transaction
    }

    /// The disk after, when nothing goes wrong, and the number of calls it takes.
    pub(super) fn done(&self) -> (SimulatedDisk, Vec<String>) {
        let disk = self.disk();
        commit(&disk, self.transaction()).unwrap();
        let calls = disk.calls();
        (disk, calls)
    }
}

/// Opens the directory, as `Store::open` does.
pub(super) fn open(disk: &SimulatedDisk) -> Result<Engine<SimulatedDisk>, Error> {
    Engine::new(engine::enter(disk, Path::new(DIR), Some(Path::new(ANNEX)))?)
}

pub(super) fn commit(disk: &SimulatedDisk, transaction: Transaction) -> Result<Committed, Error> {
    open(disk)?.commit(transaction)
}

/// What the disk shows. Fails when anything is there that nobody asked for: temporary files, records,
/// backups that cannot be restored.
pub(super) fn view(disk: &SimulatedDisk) -> Result<View, String> {
    let metadata = format!("{DIR}/.certkit");
    let mut files = disk.tree();
    let own: Vec<String> = files.keys().filter(|p| p.starts_with(&metadata)).cloned().collect();
    let mut log = None;
    for path in own {
        let seen = files.remove(&path);
        match path[metadata.len()..].trim_start_matches('/') {
            "" | "backups" | "lock" => {}
            "log.jsonl" => match seen {
                Some(Seen::File { content, mode: 0o600, .. }) => log = Some(content),
                other => return Err(format!("the log is {other:?}")),
            },
            path if path.starts_with("backups/") || path.starts_with(journal::OWED) => {}
            stray => return Err(format!("{stray} is left in .certkit")),
        }
    }
    if let Some(stray) = files.keys().find(|path| path.contains(".certkit")) {
        return Err(format!("{stray} is left"));
    }
    // Whether an empty directory for all of it was there before cannot be known after a kill.
    files.remove(DIR);
    let backups = backups(disk)?;
    Ok(View { files, log, backups, owed: owed(disk)? })
}

fn owed(disk: &SimulatedDisk) -> Result<BTreeSet<PathBuf>, String> {
    let Ok(root) = disk.open_dir(Path::new(DIR)) else { return Ok(BTreeSet::new()) };
    let gate = Gate::new(disk.clone(), PathBuf::from(DIR), root).with_annex(Some(Path::new(ANNEX)));
    let mut files = BTreeSet::new();
    for owed in recover::owed(&gate, |_| true).map_err(|error| format!("{error:?}"))? {
        files.extend(owed.map_err(|error| format!("{error:?}"))?);
    }
    Ok(files)
}

fn backups(disk: &SimulatedDisk) -> Result<Vec<(String, usize)>, String> {
    let Ok(root) = disk.open_dir(Path::new(DIR)) else { return Ok(Vec::new()) };
    let tree = Gate::new(disk.clone(), PathBuf::from(DIR), root).with_annex(Some(Path::new(ANNEX)));
    let names = backup::names(&tree).map_err(|error| format!("{error:?}"))?;
    let found: Result<Vec<Backup>, Error> =
        names.iter().map(|name| backup::checked(&tree, name)).collect();
    let found = found.map_err(|error| format!("{error:?}"))?;
    let folders = tree.list(".certkit/backups").map_err(|error| format!("{error:?}"))?;
    if folders.len() != found.len() {
        return Err(format!("{folders:?} are not all backups"));
    }
    for one in &found {
        backup::undo(&tree, std::slice::from_ref(one)).map_err(|error| format!("{error:?}"))?;
    }
    Ok(found.into_iter().map(|one| (one.id, one.files.len())).collect())
}
