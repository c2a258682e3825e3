//! What octets hold, of a file or of a value inside one: PEM, DER, key stores, kubeconfigs, objects.

use std::{
    io::{self, BufRead, BufReader, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    contains,
    content::{self, ContentKind, Demand, Encoding},
    facts, from_der, kubeconfig, nth, role, row, shown as shown_path, sound,
};
use crate::{
    document::object,
    model::{
        check::expiry::{Found, Inside, Origin, Remark, Row, RowRole},
        shown::{self, with_causes},
    },
    pki::{
        inspect::{self, Certificate, InspectError},
        keystore::{self, KeystoreError, Stored},
        pem::{self, BlockForm, PemError},
        pkcs7,
    },
};

/// Where rows go; false says that nobody wants any more.
pub type Emit<'e> = dyn FnMut(Row) -> bool + 'e;

/// What is looked into.
pub struct Sample<'a> {
    /// The file, where it is one of its own: what it names is looked up from there.
    pub file: Option<&'a Path>,
    /// What is expected of it.
    pub demand: Demand,
    name: &'a str,
    path: &'a str,
    inside: Option<Inside>,
}

impl<'a> Sample<'a> {
    /// A file; `path` is what people call it.
    pub fn file(file: &'a Path, path: &'a str, demand: Demand) -> Self {
        Self { file: Some(file), demand, name: path, path, inside: None }
    }

    /// Octets that somebody named, which are no file of their own.
    pub fn named(path: &'a str) -> Self {
        Self { demand: Demand::Named, ..Self::objects(path) }
    }

    /// Objects of a cluster, at `path` in its API.
    pub fn objects(path: &'a str) -> Self {
        Self { file: None, demand: Demand::Sound, name: path, path, inside: None }
    }

    /// Whether it must be read to its end before anything can be said of it.
    pub fn wants_all(&self, head: &[u8]) -> bool {
        let kind = content::sniff(head, false, self.demand);
        matches!(kind, ContentKind::Der | ContentKind::Jks | ContentKind::Kubeconfig)
    }
}

/// Reads octets.
pub struct Octets<'a> {
    /// Whether details are wanted.
    pub details: bool,
    /// What key stores are opened with.
    pub passwords: &'a [Zeroizing<String>],
}

impl Octets<'_> {
    /// The rows of all there is.
    pub fn rows(
        &self,
        octets: &[u8],
        encoding: Option<Encoding>,
        subject: &Sample<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        match content::sniff(octets, true, subject.demand) {
            ContentKind::Nothing if subject.demand < Demand::Pki => Ok(()),
            ContentKind::Nothing => Err("holds no certificate".into()),
            ContentKind::Pem => self.pem(octets, encoding, subject, emit),
            ContentKind::Der => self.der(octets, subject, emit),
            ContentKind::Jks => self.jks(octets, subject, emit),
            ContentKind::Objects => {
                let all = io::Cursor::new(octets.to_vec());
                self.objects(all, octets, subject, emit)
            }
            ContentKind::Kubeconfig => self.kubeconfig(octets, subject, emit),
        }
    }

    /// The same of what begins with `head` and goes on in `rest`, in bounded memory.
    pub fn stream(
        &self,
        head: Vec<u8>,
        rest: impl Read + 'static,
        encoding: Option<Encoding>,
        subject: &Sample<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        match content::sniff(&head, false, subject.demand) {
            ContentKind::Nothing if subject.demand < Demand::Pki => Ok(()),
            ContentKind::Nothing if head.contains(&0) => {
                Err(format!("holds no certificate in its first {} KiB", head.len() >> 10))
            }
            ContentKind::Objects => {
                let begins = head.clone();
                self.objects(io::Cursor::new(head).chain(rest), &begins, subject, emit)
            }
            _ => {
                let rest = BufReader::with_capacity(head.len().max(1), rest);
                self.pem((&head[..]).chain(rest), encoding, subject, emit)
            }
        }
    }

    fn pem(
        &self,
        mut input: impl BufRead,
        encoding: Option<Encoding>,
        subject: &Sample<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let demand = subject.demand;
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
                    if !emit(self.row(subject, index, None, Err(error.to_string()))) {
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
                (None, BlockForm::Certificate) => None,
                (None, BlockForm::Pkcs7) => Some("is PKCS#7"),
                (None, BlockForm::Trusted) => Some("is labelled TRUSTED CERTIFICATE"),
                (None, BlockForm::X509) => Some("is labelled X509 CERTIFICATE"),
            };
            let found = match block.form {
                BlockForm::Pkcs7 => in_pkcs7(&block.der),
                BlockForm::Trusted => {
                    vec![inspect::first_of(&block.der).map_err(text_of).and_then(sound)]
                }
                BlockForm::Certificate | BlockForm::X509 => vec![from_der(block.der)],
            };
            for found in found {
                let mut row = self.row(subject, index, None, found);
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

    /// DER: certificates, one after another, PKCS#7 or PKCS#12.
    fn der(&self, mut der: &[u8], subject: &Sample<'_>, emit: &mut Emit<'_>) -> Result<(), String> {
        let demand = subject.demand;
        if keystore::is_pkcs12(der) {
            let stored =
                keystore::pkcs12(der, self.passwords).map_err(|error| self.closed(error))?;
            return self.stored(stored, None, subject, emit);
        }
        if let Ok(all) = pkcs7::certificates(der) {
            if all.is_empty() && demand >= Demand::Certificates {
                return Err("is PKCS#7 without a certificate".into());
            }
            for (index, found) in all.into_iter().map(from_der).enumerate() {
                if !emit(self.row(subject, index, None, found)) {
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
            if !emit(self.row(subject, index, None, found)) {
                break;
            }
            index += 1;
            der = rest;
        }
        Ok(())
    }

    fn jks(&self, octets: &[u8], subject: &Sample<'_>, emit: &mut Emit<'_>) -> Result<(), String> {
        let passwords: Vec<&str> =
            self.passwords.iter().map(|password| password.as_str()).collect();
        let (stored, is_proven) =
            keystore::jks(octets, &passwords).map_err(|error| self.closed(error))?;
        let note =
            (!is_proven).then_some("without a password nothing proves that the store is whole");
        self.stored(stored, note, subject, emit)
    }

    /// The certificates of a key store, by their aliases.
    fn stored(
        &self,
        stored: Vec<Stored>,
        note: Option<&str>,
        subject: &Sample<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        if stored.is_empty() {
            return match subject.demand >= Demand::Certificates {
                true => Err("is a key store without a certificate".into()),
                false => Ok(()),
            };
        }
        // An alias has a chain; without aliases they are counted.
        let mut before = None;
        let mut index = 0;
        for Stored { alias, der } in stored {
            index = if before.as_ref() == Some(&alias) { index + 1 } else { 0 };
            let name = match &alias {
                Some(alias) => format!("{} ({})", subject.name, shown::name(alias)),
                None => subject.name.to_owned(),
            };
            let inside = subject.inside.clone();
            let part = Sample { name: &name, inside, ..*subject };
            let mut row = self.row(&part, index, None, from_der(der));
            if let (Some(note), Found::Certificate(_)) = (note, &row.found) {
                row.remarks.push(Remark::Note(note.to_owned()));
            }
            if !emit(row) {
                break;
            }
            before = Some(alias);
        }
        Ok(())
    }

    fn closed(&self, error: KeystoreError) -> String {
        match error {
            KeystoreError::Password if self.passwords.is_empty() => {
                "is a key store with a password: give it with --password-file FILE, or in \
                 CERTKIT_PASSWORD"
                    .to_owned()
            }
            KeystoreError::Password => {
                "is a key store, and no password that was given opens it".to_owned()
            }
            other => format!("is a key store: {other}"),
        }
    }

    fn kubeconfig(
        &self,
        content: &[u8],
        subject: &Sample<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let folder = subject.file.map(|file| file.parent().unwrap_or(Path::new("")).to_path_buf());
        // Joining an absolute path gives that path. What an object's kubeconfig names is in some container.
        let locate = |named: &str| -> Option<Result<PathBuf, String>> {
            folder.as_ref().map(|folder| Ok(folder.join(named)))
        };
        let file = subject.file.unwrap_or(Path::new(subject.path));
        for entry in kubeconfig::entries(content, file, &locate)? {
            let name = match &entry.inside {
                Inside::User(name) => format!("{} (user {name})", subject.name),
                Inside::Cluster(name) => format!("{} (cluster {name})", subject.name),
                _ => subject.name.to_owned(),
            };
            let of_cluster = matches!(entry.inside, Inside::Cluster(_));
            let inside = subject.inside.clone().or(Some(entry.inside));
            let part = Sample { name: &name, inside, ..*subject };
            for (index, found) in entry.certificates.into_iter().enumerate() {
                let role = of_cluster.then_some(RowRole::Authority);
                let mut row = self.row(&part, index, role, found);
                if entry.path != file && matches!(row.found, Found::Certificate(_)) {
                    row.also_in.push(shown_path(&entry.path));
                }
                if !emit(row) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Objects, one after another. `begins` is how they begin.
    fn objects(
        &self,
        input: impl Read + 'static,
        begins: &[u8],
        subject: &Sample<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let named = subject.demand == Demand::Named;
        let mut any = false;
        let read = object::objects(input, subject.path, &mut |item| {
            let open = self.object(item, subject, &mut |row| {
                any = true;
                emit(row)
            });
            if open { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match read {
            // A template is not what it makes, and its certificates are not in it.
            Err(_) if !named && contains(begins, b"{{") && !contains(begins, b"-----BEGIN ") => {
                Ok(())
            }
            Err(_) if !named && !object::looks_like_secret(begins) && !holds(begins) => Ok(()),
            Err(error) => Err(with_causes(&error)),
            Ok(_) if any || !named => Ok(()),
            Ok(summary) => Err(match (summary.secrets, summary.others) {
                (secrets, 0) => format!("holds no certificate in {secrets} Secrets"),
                (0, others) => format!("holds no certificate in {others} objects"),
                (secrets, others) => {
                    format!("holds no certificate in {secrets} Secrets and {others} other objects")
                }
            }),
        }
    }

    /// The certificates of one object; entries that hold none are passed over. False when no more are wanted.
    pub fn object(&self, item: object::Item, whole: &Sample<'_>, emit: &mut Emit<'_>) -> bool {
        let text = shown::name;
        let is_secret = item.kind.as_deref().is_none_or(|kind| kind == "Secret")
            && (item.kind.is_some() || item.name.is_some());
        let place = match (&item.namespace, &item.name, item.place) {
            (Some(namespace), Some(name), _) => format!("{}/{}", text(namespace), text(name)),
            (None, Some(name), _) => text(name),
            (_, None, Some(place)) => format!("{} ({place})", whole.path),
            (_, None, None) => whole.name.to_owned(),
        };
        let label = match &item.kind {
            Some(kind) if kind != "Secret" => format!("{} {place}", text(kind)),
            _ => place,
        };
        let name = item.name.as_deref().map(text).unwrap_or_default();
        let namespace = item.namespace.as_deref().map(text);
        if let Some(fault) = item.fault {
            let origin = Origin { path: whole.path.to_owned(), inside: None };
            if !emit(row(label.clone(), origin, RowRole::Leaf, Found::Unreadable(fault))) {
                return false;
            }
        }
        for entry in item.entries {
            let (namespace, name, key) = (namespace.clone(), name.clone(), text(&entry.key));
            let row_name = format!("{label} {key}");
            let inside = match is_secret {
                true => Inside::Secret { namespace, name, key },
                false => {
                    let kind = item.kind.as_deref().map(text).unwrap_or_default();
                    Inside::Object { kind, namespace, name, key }
                }
            };
            let demand = match entry.key.ends_with(object::CA_BUNDLE) {
                true => Demand::Certificates,
                false => Demand::of(Path::new(&entry.key)),
            };
            let path = whole.path;
            let subject =
                Sample { file: None, demand, name: &row_name, path, inside: Some(inside) };
            let mut open = true;
            let result = entry.value.and_then(|value| {
                // Some controllers leave `ca.crt` empty.
                if value.trim_ascii().is_empty() {
                    return Ok(());
                }
                let encoding = Encoding::of(&value);
                let plain = encoding.map(|encoding| encoding.plain(&value));
                self.rows(plain.as_deref().unwrap_or(&value), encoding, &subject, &mut |row| {
                    open = emit(row);
                    open
                })
            });
            if let Err(why) = result {
                open = open && emit(self.row(&subject, 0, None, Err(why)));
            }
            if !open {
                return false;
            }
        }
        true
    }

    /// The row of the nth certificate. `expected` is the role of one that cannot be read.
    fn row(
        &self,
        subject: &Sample<'_>,
        index: usize,
        expected: Option<RowRole>,
        found: Result<Certificate, String>,
    ) -> Row {
        let name = nth(subject.name, index);
        let origin = Origin { path: subject.path.to_owned(), inside: subject.inside.clone() };
        match found {
            Err(why) => {
                row(name, origin, expected.unwrap_or(RowRole::Leaf), Found::Unreadable(why))
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

/// Whether a text has certificates in it, as they are or in base64.
fn holds(text: &[u8]) -> bool {
    object::MARKERS.iter().any(|marker| contains(text, marker.as_bytes()))
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
