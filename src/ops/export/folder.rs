//! Every host's archive, into one folder: each whole and durable under its name, with a record of what they hold, so
//! that the next export can leave out what has not changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Error, ExportForm, Exporter};
use crate::{
    model::cluster::Cluster,
    parallel::{self, progress},
    pki::age::Recipient,
    store,
};

/// The record's name in the folder.
const RECORD: &str = "certkit-export.json";

/// What a record of far more hosts than there can be needs.
const RECORD_LIMIT: u64 = 64 << 20;

/// How many archives, and about how many octets of them, are written and made durable together.
const TOGETHER: (usize, usize) = (64, 16 << 20);

/// Mode of archives: they hold private keys.
const MODE: u32 = 0o600;

/// An export of all hosts.
#[derive(Debug)]
pub struct FolderRequest<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// Where archives go; it is made if it is missing.
    pub folder: &'a Path,
    /// Only hosts whose files are not those that the archives hold.
    pub changed: bool,
    /// What kind of archive.
    pub form: ExportForm,
    /// Whom archives are encrypted to; nobody: they are not.
    pub recipients: &'a [Recipient],
}

/// What became of it.
#[derive(Debug, Default)]
pub struct FolderReport {
    /// The archives that were written, in the order of the hosts.
    pub written: Vec<PathBuf>,
    /// How many hosts were left out, as their archives hold what they have.
    pub unchanged: usize,
    /// Hosts without an archive of what they have now.
    pub failed: Vec<FailedHost>,
    /// Archives of hosts that are none any more.
    pub gone: Vec<PathBuf>,
}

/// A host that could not be exported.
#[derive(Debug)]
pub struct FailedHost {
    /// Its name.
    pub host: String,
    /// Why.
    pub error: Error,
}

/// What the archives hold: a digest of each host's files.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    api_version: String,
    kind: String,
    /// How the archives' names end.
    ending: String,
    encrypted_to: Vec<String>,
    hosts: BTreeMap<String, String>,
}

/// One host on its way.
struct Piece {
    digest: String,
    /// None where the one that is there will do.
    archive: Option<Zeroizing<Vec<u8>>>,
}

/// Writes an archive of every host, many hosts at a time, so that memory does not grow with them.
pub fn export_all(request: &FolderRequest<'_>) -> Result<FolderReport, Error> {
    let &FolderRequest { cluster, dir, folder, changed, form, recipients } = request;
    if is_inside(folder, dir) {
        return Err(Error::Inside(folder.to_owned()));
    }
    let there = Record::read(folder)?;
    let ending = match recipients {
        [] => form.ending().to_owned(),
        _ => format!("{}.age", form.ending()),
    };
    // Those of another kind would stay beside the new ones, in clear perhaps, and nobody would look after them.
    if let Some(there) = there.as_ref().filter(|there| there.ending != ending) {
        let (folder, there) = (folder.to_owned(), there.ending.clone());
        return Err(Error::OtherForm { folder, there, asked: ending });
    }
    store::sweep_folder(folder);
    let name_of = |host: &str| format!("{host}.{ending}");
    let encrypted_to: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    // What was made for others is no archive of these.
    let known = there.as_ref().filter(|there| changed && there.encrypted_to == encrypted_to);
    let known = |host: &str| known.and_then(|there| there.hosts.get(host));
    let exporter = Exporter::new(cluster, dir, form, recipients);
    let task = progress::task("hosts", Some(cluster.hosts.len()));
    let look = |host| {
        let tree = exporter.tree(host)?;
        let digest = exporter.digest(&tree);
        let name = host.name.as_ref();
        let is_there = known(name) == Some(&digest) && folder.join(name_of(name)).is_file();
        let archive = if is_there { None } else { Some(exporter.archive(&tree)?) };
        Ok(Piece { digest, archive })
    };
    let mut report = FolderReport::default();
    let mut record = Record { ending: ending.clone(), encrypted_to, ..Record::empty() };
    let mut batch = Batch { folder, archives: Vec::new(), octets: 0, opened: false, there: &there };
    parallel::in_order(
        cluster.hosts.iter(),
        parallel::processors(),
        |host, emit| {
            emit((host, look(host)));
        },
        |(host, piece)| {
            let name = host.name.to_string();
            match piece {
                Err(error) => report.failed.push(FailedHost { host: name, error }),
                Ok(Piece { digest, archive }) => {
                    match archive {
                        None => report.unchanged += 1,
                        Some(archive) => {
                            let file = name_of(&name);
                            report.written.push(folder.join(&file));
                            batch.add(file.into(), archive)?;
                        }
                    }
                    record.hosts.insert(name, digest);
                }
            }
            task.step();
            Ok::<_, Error>(())
        },
    )?;
    batch.write()?;
    let hosts: BTreeSet<&str> = cluster.hosts.iter().map(|host| host.name.as_ref()).collect();
    for (name, digest) in there.iter().flat_map(|there| &there.hosts) {
        let path = folder.join(name_of(name));
        if !hosts.contains(name.as_str()) && path.is_file() {
            report.gone.push(path);
            // As long as it is there, it is told.
            record.hosts.insert(name.clone(), digest.clone());
        }
    }
    if there.as_ref().is_none_or(|there| batch.opened || !there.is_same(&record)) {
        record.write(folder)?;
    }
    Ok(report)
}

/// Whether a folder is the PKI's directory or lies in it, links on the way there followed.
fn is_inside(folder: &Path, dir: &Path) -> bool {
    let there = folder.ancestors().find_map(|above| {
        let real = above.canonicalize().ok()?;
        Some(folder.strip_prefix(above).map_or(real.clone(), |rest| real.join(rest)))
    });
    let real = there.unwrap_or_else(|| folder.to_owned());
    real.starts_with(dir.canonicalize().unwrap_or_else(|_| dir.to_owned()))
}

/// Archives that wait to be written.
struct Batch<'a> {
    folder: &'a Path,
    archives: Vec<(PathBuf, Zeroizing<Vec<u8>>)>,
    octets: usize,
    /// Whether archives were written, of which the old record knows nothing.
    opened: bool,
    there: &'a Option<Record>,
}

impl Batch<'_> {
    fn add(&mut self, name: PathBuf, archive: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        self.octets += archive.len();
        self.archives.push((name, archive));
        if self.archives.len() >= TOGETHER.0 || self.octets >= TOGETHER.1 {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        if self.archives.is_empty() {
            return Ok(());
        }
        // An export that is cut short must not leave a record of other archives than are there.
        if let Some(there) = self.there.as_ref().filter(|_| !self.opened) {
            let (ending, encrypted_to) = (there.ending.clone(), there.encrypted_to.clone());
            Record { ending, encrypted_to, ..Record::empty() }.write(self.folder)?;
        }
        self.opened = true;
        store::write_below(self.folder, &self.archives, MODE).map_err(Error::Folder)?;
        self.archives.clear();
        self.octets = 0;
        Ok(())
    }
}

impl Record {
    fn empty() -> Self {
        Self {
            api_version: "certkit/v1".to_owned(),
            kind: "ExportRecord".to_owned(),
            ending: String::new(),
            encrypted_to: Vec::new(),
            hosts: BTreeMap::new(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.hosts == other.hosts && self.encrypted_to == other.encrypted_to
    }

    fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(RECORD);
        let wrong = |why: String| Error::Record { path: path.clone(), why };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(format!("cannot read it: {error}"))),
        };
        let mut text = Vec::new();
        let read = file.take(RECORD_LIMIT).read_to_end(&mut text);
        read.map_err(|error| wrong(format!("cannot read it: {error}")))?;
        let record: Self = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("it is no record of an export: {error}")))?;
        let known = Self::empty();
        if record.api_version != known.api_version || record.kind != known.kind {
            return Err(wrong("it is no record of an export that this certkit knows".to_owned()));
        }
        Ok(Some(record))
    }

    fn write(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        let text = text.map_err(Error::Write)? + "\n";
        let record = [(PathBuf::from(RECORD), text.into_bytes())];
        store::write_below(folder, &record, MODE).map(drop).map_err(Error::Folder)
    }
}
