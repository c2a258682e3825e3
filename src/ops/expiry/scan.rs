//! One file of any kind: PEM, DER, PKCS#7, kubeconfig, Secrets, or nothing of these.
//!
//! What cannot be read and had to be is a row; what holds none and need not is passed over, and counted.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    certificates, contains,
    content::{self, Demand, Encoding, Kind},
    facts, from_der, kubeconfig, nth, role, row, shown, sound,
    walk::{Item, Root},
};
use crate::{
    document::secret,
    model::check::expiry::{Found, Inside, Origin, Remark, Role, Row},
    ops::{observe::with_causes, read},
    pki::{
        inspect::{self, Certificate, InspectError},
        pem::{self, Form, PemError},
        pkcs7,
    },
};

/// How much of a file decides what it is. Most files are wholly inside.
const HEAD: usize = 64 << 10;

/// Looks into files.
pub struct Scanner {
    /// Whether details are wanted.
    pub details: bool,
}

/// Where rows go; false says that nobody wants any more.
pub type Emit<'e> = dyn FnMut(Row) -> bool + 'e;

/// What is looked into.
struct Subject<'a> {
    /// The file.
    file: &'a Path,
    /// It, for people.
    path: &'a str,
    /// What is expected of it.
    demand: Demand,
}

impl Scanner {
    /// All rows of one file. `head` is a buffer to be used again.
    pub fn item(&self, item: &Item, root: &Root, head: &mut Vec<u8>, emit: &mut Emit<'_>) {
        let rows = Cell::new(0);
        let path = match item.path.as_os_str() == "-" {
            true => "standard input".to_owned(),
            false => shown(&item.path),
        };
        let mut counted = |row| {
            rows.set(rows.get() + 1);
            emit(row)
        };
        let demand = if item.named { Demand::Named } else { Demand::of(&item.path) };
        let subject = Subject { file: &item.path, path: &path, demand };
        let result = match &item.fault {
            Some(fault) => Err(fault.clone()),
            None if item.path.as_os_str() == "-" => {
                self.source(io::stdin(), &subject, head, &mut counted)
            }
            None => match open_file(&item.path) {
                Ok(file) => self.source(file, &subject, head, &mut counted),
                Err(why) => Err(why),
            },
        };
        let why = match result {
            Err(why) => Some(why),
            Ok(()) if rows.get() == 0 && item.named => Some("holds no certificate".to_owned()),
            Ok(()) => None,
        };
        if let Some(why) = why {
            let name = shown(&item.path);
            let origin = Origin { path: name.clone(), inside: None };
            counted(row(name, origin, Role::Leaf, Found::Unreadable(why)));
        }
        root.looked_at(rows.get());
    }

    fn source(
        &self,
        mut source: impl Read + 'static,
        subject: &Subject<'_>,
        head: &mut Vec<u8>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let cannot = |error: io::Error| format!("cannot be read: {error}");
        head.clear();
        source.by_ref().take(HEAD as u64).read_to_end(head).map_err(cannot)?;
        let mut whole = head.len() < HEAD;
        let encoding = Encoding::of(head);
        match encoding {
            None => {}
            Some(Encoding::ByteOrderMark) if !whole => drop(head.drain(..3)),
            Some(encoding) => {
                if !whole {
                    all(&mut source, head)?;
                    whole = true;
                }
                *head = encoding.plain(head).into_owned();
            }
        }
        let demand = subject.demand;
        if whole && head.trim_ascii().is_empty() {
            let told = demand.tells_empty(subject.file);
            return if told { Err("is empty".into()) } else { Ok(()) };
        }
        match content::sniff(head, demand) {
            Kind::Nothing if demand < Demand::Pki => Ok(()),
            Kind::Nothing if whole => Err("holds no certificate".into()),
            Kind::Nothing if head.contains(&0) => {
                Err(format!("holds no certificate in its first {} KiB", HEAD >> 10))
            }
            Kind::Nothing | Kind::Pem if !whole => {
                let rest = BufReader::with_capacity(HEAD, source);
                self.pem((&head[..]).chain(rest), encoding, subject, emit)
            }
            Kind::Nothing | Kind::Pem => self.pem(&head[..], encoding, subject, emit),
            Kind::Der => {
                if !whole {
                    all(&mut source, head)?;
                }
                self.der(head, subject, emit)
            }
            Kind::Secrets => {
                let begun = io::Cursor::new(std::mem::take(head));
                self.secrets(begun.chain(source), subject, emit)
            }
            Kind::Kubeconfig => {
                if !whole {
                    all(&mut source, head)?;
                }
                self.kubeconfig(head, subject, emit)
            }
        }
    }

    fn pem(
        &self,
        mut input: impl BufRead,
        encoding: Option<Encoding>,
        subject: &Subject<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let (path, demand) = (subject.path, subject.demand);
        let begins = input.fill_buf().is_ok_and(|head| head.starts_with(b"-----BEGIN "));
        let mut blocks = pem::Certificates::in_any_form(input);
        let mut index = 0;
        loop {
            let block = match blocks.next_found() {
                Ok(Some(block)) => block,
                Ok(None) => return Ok(()),
                Err(error) => return Err(format!("cannot be read: {error}")),
            };
            let block = match block {
                Ok(block) => block,
                Err(PemError::NoCertificate { .. }) if demand <= Demand::Pki => return Ok(()),
                Err(error) if error.is_no_certificate() => {
                    return if demand < Demand::Pki { Ok(()) } else { Err(error.to_string()) };
                }
                // A text that speaks of markers.
                Err(PemError::Marker { line })
                    if demand <= Demand::Sound && (line > 1 || !begins) =>
                {
                    continue;
                }
                Err(_) if demand == Demand::Nothing => continue,
                Err(error) => {
                    if !emit(self.row(nth(path, index), path, None, Err(error.to_string()))) {
                        return Ok(());
                    }
                    index += 1;
                    continue;
                }
            };
            let odd = match (encoding, block.form) {
                (Some(Encoding::ByteOrderMark), _) if index > 0 => None,
                (Some(encoding), _) => Some(encoding.name()),
                (None, _) if block.indented => Some("is indented"),
                (None, Form::Certificate) => None,
                (None, Form::Pkcs7) => Some("is PKCS#7"),
                (None, Form::Trusted) => Some("is labelled TRUSTED CERTIFICATE"),
                (None, Form::X509) => Some("is labelled X509 CERTIFICATE"),
            };
            let found = match block.form {
                Form::Pkcs7 => in_pkcs7(&block.der),
                Form::Trusted => {
                    vec![inspect::first_of(&block.der).map_err(text_of).and_then(sound)]
                }
                Form::Certificate | Form::X509 => vec![from_der(block.der)],
            };
            for found in found {
                let mut row = self.row(nth(path, index), path, None, found);
                if let (Some(odd), Found::Certificate(_)) = (odd, &row.found) {
                    let note = format!("it {odd}: Kubernetes does not read it like that");
                    row.remarks.push(Remark::Note(note));
                }
                if !emit(row) {
                    return Ok(());
                }
                index += 1;
            }
        }
    }

    /// DER: certificates, one after another, or PKCS#7.
    fn der(
        &self,
        mut der: &[u8],
        subject: &Subject<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let (path, demand) = (subject.path, subject.demand);
        if let Ok(all) = pkcs7::certificates(der) {
            if all.is_empty() && demand >= Demand::Certificates {
                return Err("is PKCS#7 without a certificate".into());
            }
            for (index, found) in all.into_iter().map(from_der).enumerate() {
                if !emit(self.row(nth(path, index), path, None, found)) {
                    break;
                }
            }
            return Ok(());
        }
        let mut index = 0;
        while !der.trim_ascii_start().is_empty() {
            let (found, rest) = match Certificate::from_der(der.to_vec()) {
                Ok(certificate) => (Ok(certificate), &[][..]),
                Err(InspectError::TrailingData(more)) => {
                    let (first, rest) = der.split_at(der.len() - more);
                    (Certificate::from_der(first.to_vec()), rest)
                }
                Err(error) => (Err(error), &[][..]),
            };
            if let (0, Err(error)) = (index, &found) {
                let what = inspect::what_else(der);
                let told = match what {
                    Some(_) => demand >= Demand::Certificates,
                    None => demand >= Demand::Pki || content::begins_as_certificate(der),
                };
                return match (told, what) {
                    (false, _) => Ok(()),
                    (true, Some(what)) => Err(format!("holds no certificate, but {what}")),
                    (true, None) => Err(with_causes(error)),
                };
            }
            let found = found.map_err(text_of).and_then(sound);
            if !emit(self.row(nth(path, index), path, None, found)) {
                break;
            }
            index += 1;
            der = rest;
        }
        Ok(())
    }

    fn kubeconfig(
        &self,
        content: &[u8],
        subject: &Subject<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let Subject { file, path, .. } = *subject;
        let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
        // Joining an absolute path gives that path.
        let locate = |named: &str| -> Result<PathBuf, String> { Ok(folder.join(named)) };
        for entry in kubeconfig::entries(content, file, &locate)? {
            let what = match &entry.inside {
                Inside::User(name) => format!("{path} (user {name})"),
                Inside::Cluster(name) => format!("{path} (cluster {name})"),
                Inside::Listener | Inside::Secret { .. } => path.to_owned(),
            };
            for (index, found) in entry.certificates.into_iter().enumerate() {
                let mut row = self.row(nth(&what, index), path, Some(entry.inside.clone()), found);
                if entry.path != file && matches!(row.found, Found::Certificate(_)) {
                    row.also_in.push(shown(&entry.path));
                }
                if !emit(row) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn secrets(
        &self,
        input: impl Read + 'static,
        subject: &Subject<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let (path, named) = (subject.path, subject.demand == Demand::Named);
        let mut any = false;
        let summary = secret::secrets(input, path, &mut |item| {
            let open = self.secret(item, path, &mut |row| {
                any = true;
                emit(row)
            });
            if open { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(|error| with_causes(&error))?;
        match (any, named, summary.secrets) {
            (true, ..) | (_, false, _) => Ok(()),
            (false, true, 0) => Err("holds no Secret".into()),
            (false, true, secrets) => Err(format!("holds no certificate in {secrets} Secrets")),
        }
    }

    /// The certificates of one Secret; entries that hold none are passed over. False when no more are wanted.
    fn secret(&self, item: secret::SecretItem, path: &str, emit: &mut Emit<'_>) -> bool {
        let label = shown(Path::new(&match (&item.namespace, &item.name) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            (None, Some(name)) => name.clone(),
            (_, None) => match item.place {
                Some(place) => format!("{path} ({place})"),
                None => path.to_owned(),
            },
        }));
        let inside = |key: &str| Inside::Secret {
            namespace: item.namespace.as_deref().map(|n| shown(Path::new(n))),
            name: item.name.as_deref().map(|n| shown(Path::new(n))).unwrap_or_default(),
            key: shown(Path::new(key)),
        };
        if let Some(fault) = item.fault {
            let origin = Origin { path: path.to_owned(), inside: None };
            if !emit(row(label.clone(), origin, Role::Leaf, Found::Unreadable(fault))) {
                return false;
            }
        }
        for entry in &item.entries {
            let name = format!("{label} {}", shown(Path::new(&entry.key)));
            let found = match &entry.value {
                Err(why) => vec![Err(why.clone())],
                Ok(text) if contains(text, b"CERTIFICATE-----") => certificates(text),
                // Some controllers leave `ca.crt` empty.
                Ok(text) if entry.key.ends_with(".crt") && !text.trim_ascii().is_empty() => {
                    certificates(text)
                }
                Ok(_) => continue,
            };
            for (index, found) in found.into_iter().enumerate() {
                let row = self.row(nth(&name, index), path, Some(inside(&entry.key)), found);
                if !emit(row) {
                    return false;
                }
            }
        }
        true
    }

    fn row(
        &self,
        name: String,
        path: &str,
        inside: Option<Inside>,
        found: Result<Certificate, String>,
    ) -> Row {
        let of_cluster = matches!(inside, Some(Inside::Cluster(_)));
        let origin = Origin { path: path.to_owned(), inside };
        match found {
            Err(why) => {
                let role = if of_cluster { Role::Authority } else { Role::Leaf };
                row(name, origin, role, Found::Unreadable(why))
            }
            Ok(certificate) => Row {
                authority: match certificate.is_self_issued() {
                    true => None,
                    false => certificate.issuer_common_name(),
                },
                ..row(name, origin, role(&certificate), facts(&certificate, self.details))
            },
        }
    }
}

/// Opens anything without waiting; a FIFO, a socket, a device or a folder is refused.
fn open_file(path: &Path) -> Result<File, String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.symlink_metadata().is_ok() => {
            "is a symlink to a file that does not exist".to_owned()
        }
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(metadata) if metadata.is_dir() => Err("is a directory".into()),
        Ok(_) => Err("is no regular file (a FIFO, socket or device)".into()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Reads on to the end, if that is not too far.
fn all(source: &mut impl Read, head: &mut Vec<u8>) -> Result<(), String> {
    let limit = read::LIMIT.saturating_sub(head.len() as u64);
    let read = source.take(limit + 1).read_to_end(head);
    match read.map_err(|error| format!("cannot be read: {error}"))? as u64 > limit {
        true => Err(format!("is larger than {} octets", read::LIMIT)),
        false => Ok(()),
    }
}

fn in_pkcs7(der: &[u8]) -> Vec<Result<Certificate, String>> {
    match pkcs7::certificates(der) {
        Ok(all) if all.is_empty() => vec![Err("is PKCS#7 without a certificate".into())],
        Ok(all) => all.into_iter().map(from_der).collect(),
        Err(error) => vec![Err(error.to_string())],
    }
}

fn text_of(error: InspectError) -> String {
    with_causes(&error)
}
