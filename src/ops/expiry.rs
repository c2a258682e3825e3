//! Gathers the certificates whose end is to be watched: of a cluster, of any files, of listeners.
//!
//! Whatever is looked at and cannot be read is a row that says so, and so is a place where nothing was found;
//! files of a folder that need not hold a certificate and hold none are counted.

mod authority;
pub mod carried;
mod connect;
mod content;
mod kubeconfig;
mod octets;
mod scan;
mod tree;
mod walk;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use self::{
    content::Encoding,
    octets::{Octets, Sample},
    scan::Scanner,
    walk::{Root, Walk},
};

use crate::{
    model::{
        check::expiry::{Details, Facts, Found, Origin, Row, RowRole},
        near,
        shown::{tame, with_causes},
        timestamp::Timestamp,
    },
    parallel,
    pki::{inspect::Certificate, pem},
    tls::probe::Target,
};

/// What to look at.
#[derive(Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// Of a workspace, only this host.
    pub host: Option<&'a str>,
    /// The kubelet's own directory, if not the usual one.
    pub kubelet_dir: Option<&'a Path>,
    /// Files and folders; none for what the catalogue knows under DIR.
    pub paths: &'a [PathBuf],
    /// Whether folders are walked all the way down.
    pub recursive: bool,
    /// Which listeners to ask.
    pub connect: Connect,
    /// How long a listener may take for everything.
    pub timeout: Duration,
    /// Whether [`Facts::details`] are wanted.
    pub details: bool,
    /// What key stores are opened with.
    pub passwords: &'a [Zeroizing<String>],
    /// The time it is judged at.
    pub now: Timestamp,
    /// How many threads read.
    pub threads: usize,
    /// This machine's name, by which its host in a workspace is found.
    pub machine: &'a str,
}

impl<'a> Request<'a> {
    /// What the catalogue knows under a directory, and nothing else: no listener, no details.
    pub fn of(dir: &'a Path, machine: &'a str, now: Timestamp, threads: usize) -> Self {
        Self {
            dir,
            host: None,
            kubelet_dir: None,
            paths: &[],
            recursive: false,
            connect: Connect::None,
            timeout: Duration::ZERO,
            details: false,
            passwords: &[],
            now,
            threads,
            machine,
        }
    }
}

/// Which listeners to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// All that the catalogue expects of this host.
    Expected,
    /// None.
    None,
    /// These.
    Targets(Vec<Target>),
}

/// Why there is nothing of a cluster to report. It becomes a row: a monitor reads the report.
enum Fault {
    /// Nothing that the catalogue knows is there.
    Nothing,
    /// A host that the workspace does not have, and those it has.
    NoHost(String, Vec<String>),
    /// Several hosts, and none is this machine.
    WhichHost(String),
}

impl Fault {
    fn row(self, dir: &Path) -> Row {
        let why = match self {
            Self::Nothing => match std::fs::metadata(dir) {
                Ok(metadata) if metadata.is_dir() => format!(
                    "holds nothing of a cluster's PKI; name the directory with --dir, or watch \
                     any files: certkit check-expiration -r {}",
                    shown(dir)
                ),
                Ok(_) => "is no directory; name the PKI's directory with --dir".to_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    "does not exist; name the PKI's directory with --dir".to_owned()
                }
                Err(error) => format!("cannot be read: {error}"),
            },
            Self::NoHost(host, hosts) if hosts.is_empty() => format!(
                "is one host's directory, not a workspace that has a host `{host}`; leave out \
                 --host"
            ),
            Self::NoHost(host, hosts) => {
                format!("has no host `{host}`; {}", near::meant("its hosts", &hosts, &host))
            }
            Self::WhichHost(machine) => format!(
                "none of its hosts is this machine, `{machine}`; say whose listeners: --host NAME, \
                 or --connect HOST:PORT"
            ),
        };
        let origin = Origin { path: shown(dir), inside: None };
        row(shown(dir), origin, RowRole::Leaf, Found::Unreadable(why))
    }
}

/// The files that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCount {
    /// All of them.
    pub looked_at: usize,
    /// Those that gave rows.
    pub holding: usize,
}

/// Rows that are handed on together.
const BATCH: usize = 64;

/// Gathers all rows, turns each into what `render` makes of it, and hands these on in order. Says how many
/// files were looked at, where any were named.
///
/// `render` runs on several threads; memory does not grow with the number of files.
pub fn run<T: Send>(
    request: &Request<'_>,
    render: impl Fn(Row) -> T + Sync,
    mut done: impl FnMut(Vec<T>) -> io::Result<()>,
) -> io::Result<Option<FileCount>> {
    let mut files = None;
    if !request.paths.is_empty() {
        let roots: Vec<Root> = request.paths.iter().map(|_| Root::default()).collect();
        let octets = Octets { details: request.details, passwords: request.passwords };
        let scanner = Scanner { octets };
        let task = parallel::progress::task("files", None);
        parallel::in_order(
            Walk::new(request.paths, &roots, request.recursive),
            request.threads,
            |items, emit| {
                let mut batch: Vec<T> = Vec::with_capacity(BATCH);
                let (mut open, mut head) = (true, Vec::new());
                for item in items {
                    task.step();
                    scanner.item(&item, &roots[item.root], &mut head, &mut |row| {
                        batch.push(render(row));
                        if batch.len() >= BATCH {
                            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                            open = open && emit(full);
                        }
                        open
                    });
                }
                if open && !batch.is_empty() {
                    emit(batch);
                }
            },
            &mut done,
        )?;
        let empty = request.paths.iter().zip(&roots).filter_map(|(path, root)| {
            let origin = Origin { path: shown(path), inside: None };
            Some(row(shown(path), origin, RowRole::Leaf, Found::Unreadable(root.nothing()?)))
        });
        done(empty.map(&render).collect())?;
        files = Some(FileCount {
            looked_at: roots.iter().map(Root::files).sum(),
            holding: roots.iter().map(Root::holding).sum(),
        });
    }
    let of_cluster = request.paths.is_empty() && !matches!(request.connect, Connect::Targets(_));
    if of_cluster || request.connect != Connect::None {
        let opened = match of_cluster && !request.dir.is_dir() {
            true => Err(Fault::Nothing),
            false => tree::ClusterTrees::open(request),
        };
        let mut rows = match opened {
            Err(fault) => vec![fault.row(request.dir)],
            Ok(cluster) => {
                let mut gathered = cluster.gather(request);
                let served = connect::rows(request, &cluster, &gathered);
                let mut rows = std::mem::take(&mut gathered.rows);
                match of_cluster {
                    true if rows.is_empty() => {
                        rows.push(Fault::Nothing.row(request.dir));
                    }
                    true => {}
                    false => rows.clear(),
                }
                match served {
                    Ok(served) => rows.extend(served),
                    Err(fault) => rows.push(fault.row(request.dir)),
                }
                rows
            }
        };
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(BATCH));
            let chunk = std::mem::replace(&mut rows, rest);
            done(chunk.into_iter().map(&render).collect())?;
        }
    }
    Ok(files)
}

/// All that is found in octets that somebody named, in whatever form it is there: `path` is what people call them.
pub fn within(
    octets: &[u8],
    path: &str,
    passwords: &[Zeroizing<String>],
) -> Result<Vec<Row>, String> {
    let encoding = Encoding::of(octets);
    let plain = encoding.map(|encoding| encoding.plain(octets));
    let mut rows = Vec::new();
    Octets { details: true, passwords }.rows(
        plain.as_deref().unwrap_or(octets),
        encoding,
        &Sample::named(path),
        &mut |row| {
            rows.push(row);
            true
        },
    )?;
    Ok(rows)
}

/// What a report shows of a certificate.
fn facts(certificate: &Certificate, details: bool) -> Found {
    let details = details.then(|| {
        Box::new(Details {
            user: certificate.common_name(),
            groups: certificate.organizations(),
            serial: certificate.serial_hex(),
            algorithm: certificate.key_text(),
            sans: certificate.sans().iter().map(ToString::to_string).collect(),
            fingerprint: certificate.fingerprint_hex(),
            der: certificate.der().to_vec(),
        })
    });
    Found::Certificate(Box::new(Facts {
        validity: certificate.validity(),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        details,
    }))
}

fn role(certificate: &Certificate) -> RowRole {
    match certificate.is_ca() {
        true => RowRole::Authority,
        false => RowRole::Leaf,
    }
}

/// A row about something in a file that nothing more is known of.
fn row(name: String, origin: Origin, role: RowRole, found: Found) -> Row {
    Row {
        name,
        host: None,
        role,
        origin,
        authority: None,
        externally_managed: false,
        found,
        also_in: Vec::new(),
        remarks: Vec::new(),
    }
}

/// Every certificate of a PEM text, or what is wrong with a block of it.
fn certificates(text: &[u8]) -> Vec<Result<Certificate, String>> {
    let mut blocks = pem::Certificates::new(text);
    let mut found = Vec::new();
    // Reading memory cannot fail.
    while let Ok(Some(block)) = blocks.next_der() {
        found.push(certificate(block));
    }
    found
}

fn certificate(block: Result<Vec<u8>, pem::PemError>) -> Result<Certificate, String> {
    match block {
        Ok(der) => from_der(der),
        Err(error) => Err(error.to_string()),
    }
}

fn from_der(der: Vec<u8>) -> Result<Certificate, String> {
    sound(Certificate::from_der(der).map_err(|error| with_causes(&error))?)
}

fn sound(certificate: Certificate) -> Result<Certificate, String> {
    match certificate.has_strict_dates() {
        true => Ok(certificate),
        false => {
            Err("its dates are not to the second and in UTC: every component refuses it".into())
        }
    }
}

/// A path for people: nothing in a file's name may steer the terminal.
pub fn shown(path: &Path) -> String {
    tame(&path.to_string_lossy())
}

/// The name of the nth certificate in one place, from 0.
fn nth(name: &str, index: usize) -> String {
    match index {
        0 => name.to_owned(),
        _ => format!("{name}#{}", index + 1),
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
