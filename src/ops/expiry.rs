//! Gathers the certificates whose end is to be watched: of a cluster, of any files, of listeners.
//!
//! Whatever is looked at and cannot be read is a row that says so; nothing is passed over in silence but
//! files of a folder that hold no certificate.

mod authority;
mod connect;
mod kubeconfig;
mod scan;
mod tree;
mod walk;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use self::{scan::Scanner, walk::Walk};
use super::observe::with_causes;
use crate::{
    model::check::expiry::{Details, Facts, Found, Origin, Role, Row},
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
    /// How many threads read.
    pub threads: usize,
    /// This machine's name, by which its host in a workspace is found.
    pub machine: &'a str,
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

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing that the catalogue knows is there.
    #[error("{}: there is nothing of a cluster's PKI here", .0.display())]
    Nothing(PathBuf),
    /// A host that the workspace does not have.
    #[error("{}: there is no host `{host}` in this workspace", dir.display())]
    NoHost {
        /// The workspace.
        dir: PathBuf,
        /// The host asked for.
        host: String,
        /// The hosts it has.
        hosts: Vec<String>,
    },
    /// Writing the report failed.
    #[error(transparent)]
    Report(#[from] io::Error),
    /// Several hosts, and none is this machine.
    #[error("{}: none of its hosts is this machine, `{machine}`", dir.display())]
    WhichHost {
        /// The workspace.
        dir: PathBuf,
        /// This machine's name.
        machine: String,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing(_) => Some(
                "name the directory with --dir, or name files and folders as arguments".to_owned(),
            ),
            Self::NoHost { hosts, .. } => Some(match hosts.is_empty() {
                true => "it is one host's directory: leave out --host".to_owned(),
                false => format!("its hosts are {}", hosts.join(", ")),
            }),
            Self::Report(_) => None,
            Self::WhichHost { .. } => {
                Some("say whose listeners: --host NAME, or --connect HOST:PORT".to_owned())
            }
        }
    }
}

/// Rows that are handed on together.
const BATCH: usize = 64;

/// Gathers all rows, turns each into what `render` makes of it, and hands these on in order.
///
/// `render` runs on several threads; memory does not grow with the number of files.
pub fn run<T: Send>(
    request: &Request<'_>,
    render: impl Fn(Row) -> T + Sync,
    mut done: impl FnMut(Vec<T>) -> io::Result<()>,
) -> Result<(), Error> {
    if !request.paths.is_empty() {
        let scanner = Scanner { details: request.details };
        parallel::in_order(
            Walk::new(request.paths.to_vec(), request.recursive),
            request.threads,
            |items, emit| {
                let mut batch: Vec<T> = Vec::with_capacity(BATCH);
                let (mut open, mut head) = (true, Vec::new());
                for item in items {
                    scanner.item(&item, &mut head, &mut |row| {
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
    }
    let of_cluster = request.paths.is_empty() && !matches!(request.connect, Connect::Targets(_));
    if of_cluster || request.connect != Connect::None {
        let cluster = tree::Cluster::open(request)?;
        let gathered = cluster.gather(request);
        let rows = connect::rows(request, &cluster, &gathered)?;
        if of_cluster {
            if gathered.rows.is_empty() {
                return Err(Error::Nothing(request.dir.to_path_buf()));
            }
            for chunk in chunks(gathered.rows) {
                done(chunk.into_iter().map(&render).collect())?;
            }
        }
        for chunk in chunks(rows) {
            done(chunk.into_iter().map(&render).collect())?;
        }
    }
    Ok(())
}

fn chunks(rows: Vec<Row>) -> impl Iterator<Item = Vec<Row>> {
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<Row> = rows.by_ref().take(BATCH).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
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
        })
    });
    Found::Certificate(Box::new(Facts {
        validity: certificate.validity(),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        details,
    }))
}

fn role(certificate: &Certificate) -> Role {
    match certificate.is_ca() {
        true => Role::Authority,
        false => Role::Leaf,
    }
}

/// A row about something in a file that nothing more is known of.
fn row(name: String, origin: Origin, role: Role, found: Found) -> Row {
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
    let certificate = Certificate::from_der(der).map_err(|error| with_causes(&error))?;
    match certificate.has_strict_dates() {
        true => Ok(certificate),
        false => {
            Err("its dates are not to the second and in UTC: every component refuses it".into())
        }
    }
}

/// A path for people: nothing in a file's name may steer the terminal.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.chars().any(char::is_control) {
        true => text
            .chars()
            .flat_map(|c| match c.is_control() {
                true => c.escape_default().collect::<Vec<_>>(),
                false => vec![c],
            })
            .collect(),
        false => text.into_owned(),
    }
}

/// The name of the nth certificate in one place, from 0.
fn nth(name: &str, index: usize) -> String {
    match index {
        0 => name.to_owned(),
        _ => format!("{name}#{}", index + 1),
    }
}
