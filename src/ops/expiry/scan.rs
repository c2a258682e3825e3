//! One file of any kind: PEM, DER, kubeconfig, Secrets, or nothing of these.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    certificate, certificates, facts, from_der, kubeconfig, nth, role, row, shown, walk::Item,
};
use crate::{
    document::secret,
    model::check::expiry::{Found, Inside, Origin, Role, Row},
    ops::{observe::with_causes, read},
    pki::{
        inspect::Certificate,
        pem::{self, PemError},
    },
};

/// How much of a file decides what it is. Most files are wholly inside.
const HEAD: usize = 64 << 10;
/// More than a certificate in DER takes.
const DER: u64 = 1 << 20;

/// Looks into files.
pub struct Scanner {
    /// Whether details are wanted.
    pub details: bool,
}

/// Where rows go; false says that nobody wants any more.
pub type Emit<'e> = dyn FnMut(Row) -> bool + 'e;

/// What a file seems to be.
enum Kind {
    Der,
    Kubeconfig,
    Nothing,
    Pem,
    Secrets,
}

impl Scanner {
    /// All rows of one file. `head` is a buffer to be used again.
    pub fn item(&self, item: &Item, head: &mut Vec<u8>, emit: &mut Emit<'_>) {
        let result = match &item.fault {
            Some(fault) => Err(fault.clone()),
            None if item.path.as_os_str() == "-" => {
                self.source(io::stdin(), item, "standard input", head, emit)
            }
            None => match open(&item.path) {
                Ok(file) => self.source(file, item, &shown(&item.path), head, emit),
                Err(why) => Err(why),
            },
        };
        if let Err(why) = result {
            let origin = Origin { path: shown(&item.path), inside: None };
            emit(row(shown(&item.path), origin, Role::Leaf, Found::Unreadable(why)));
        }
    }

    fn source(
        &self,
        mut source: impl Read + 'static,
        item: &Item,
        name: &str,
        head: &mut Vec<u8>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let cannot = |error: io::Error| format!("cannot be read: {error}");
        head.clear();
        source.by_ref().take(HEAD as u64).read_to_end(head).map_err(cannot)?;
        if head.is_empty() {
            return if item.named { Err("is empty".into()) } else { Ok(()) };
        }
        let whole = head.len() < HEAD;
        let path = name;
        match sniff(head) {
            Kind::Nothing if !item.named => Ok(()),
            Kind::Nothing if whole => Err("holds no certificate".into()),
            Kind::Nothing => Err(format!("holds no certificate in its first {} KiB", HEAD >> 10)),
            Kind::Pem if whole => self.pem(&head[..], path, item.named, emit),
            Kind::Pem => {
                let rest = BufReader::with_capacity(HEAD, source);
                self.pem((&head[..]).chain(rest), path, item.named, emit)
            }
            Kind::Der => {
                source.take(DER).read_to_end(head).map_err(cannot)?;
                match from_der(std::mem::take(head)) {
                    Ok(certificate) => {
                        emit(self.row(path.to_owned(), path, None, Ok(certificate)));
                        Ok(())
                    }
                    Err(why) if item.named => Err(why),
                    Err(_) => Ok(()),
                }
            }
            Kind::Secrets => {
                let begun = io::Cursor::new(std::mem::take(head));
                self.secrets(begun.chain(source), path, item.named, emit)
            }
            Kind::Kubeconfig => {
                source.take(read::LIMIT).read_to_end(head).map_err(cannot)?;
                self.kubeconfig(head, &item.path, path, emit)
            }
        }
    }

    fn pem(
        &self,
        input: impl BufRead,
        path: &str,
        named: bool,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let mut blocks = pem::Certificates::new(input);
        let mut index = 0;
        loop {
            let block = match blocks.next_der() {
                Ok(Some(block)) => block,
                Ok(None) => return Ok(()),
                Err(error) => return Err(format!("cannot be read: {error}")),
            };
            match &block {
                Err(error) if error.is_no_certificate() => {
                    return if named { Err(error.to_string()) } else { Ok(()) };
                }
                // A text that speaks of markers.
                Err(PemError::Marker { .. }) if !named => continue,
                _ => {}
            }
            if !emit(self.row(nth(path, index), path, None, certificate(block))) {
                return Ok(());
            }
            index += 1;
        }
    }

    fn kubeconfig(
        &self,
        content: &[u8],
        file: &Path,
        path: &str,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
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
        path: &str,
        named: bool,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
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
fn open(path: &Path) -> Result<File, String> {
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

/// What a file is, by its beginning. A YAML file may have PEM inside, so it comes first.
fn sniff(head: &[u8]) -> Kind {
    // A SEQUENCE of 128 octets or more, which every certificate but a toy is.
    if head[0] == 0x30 && head.get(1).is_some_and(|b| (0x81..=0x84).contains(b)) {
        return Kind::Der;
    }
    if head.starts_with(b"-----BEGIN ") {
        return Kind::Pem;
    }
    if is_kubeconfig(head) {
        return Kind::Kubeconfig;
    }
    if secret::looks_like_secret(head) {
        return Kind::Secrets;
    }
    // A program may well have the marker among its texts.
    match contains(head, b"-----BEGIN ") && !head.contains(&0) {
        true => Kind::Pem,
        false => Kind::Nothing,
    }
}

/// `kind: Config` of client-go, in YAML or JSON; without a kind, its lists.
fn is_kubeconfig(head: &[u8]) -> bool {
    if head.trim_ascii_start().starts_with(b"{") {
        let bare: Vec<u8> = head.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        return contains(&bare, b"\"kind\":\"Config\"");
    }
    let mut kind = false;
    let mut lists = 0;
    let mut other = false;
    for line in head.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        let Some(at) = line.iter().position(|b| *b == b':') else { continue };
        let unquoted = |text: &[u8]| {
            let text = text.trim_ascii();
            let text = text.strip_suffix(b",").unwrap_or(text);
            text.iter().copied().filter(|b| !matches!(b, b'"' | b'\'' | b'{')).collect::<Vec<u8>>()
        };
        match (&unquoted(&line[..at])[..], &unquoted(&line[at + 1..])[..]) {
            (b"kind", b"Config") => kind = true,
            (b"kind", _) => other = true,
            (b"clusters" | b"users" | b"contexts", _) => lists += 1,
            _ => {}
        }
    }
    kind || (lists >= 2 && !other)
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
