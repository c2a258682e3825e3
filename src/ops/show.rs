//! What is in a certificate, and what depends on it: whatever certificates a file holds or a listener shows, whose they
//! are in the cluster at hand, who uses them by the catalogue, and which paths would break without them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{declared, expiry, observe, read};
use crate::{
    document::kubeconfig::{self, Material},
    model::{
        catalogue::{CertId, CertSpec, Reload, USES, Use, Value},
        check::expiry::{Found as RowFound, Remark, Row},
        layout::{Instance, Layout},
        observed::Piece,
        shown::{self, with_causes},
        talk::{self, Talk},
    },
    pki::{
        inspect::{self, Certificate},
        key::PrivateKey,
        keystore, pem, pkcs7,
    },
    tls::probe::{self, ProbeError, Target, TlsVersion},
};

/// What is asked.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the certificates are.
    pub source: Source<'a>,
    /// The PKI's directory, in which it is looked what they are.
    pub dir: &'a Path,
    /// How long a listener may take.
    pub timeout: Duration,
    /// What key stores are opened with.
    pub passwords: &'a [Zeroizing<String>],
}

/// Where certificates are.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In a file.
    File(&'a Path),
    /// In what was read from standard input.
    Input(&'a [u8]),
    /// Behind a listener.
    Listener(&'a Target),
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// The listener's side, where it is one.
    pub listener: Option<Heard>,
    /// Each certificate, in the order it was found in.
    pub certificates: Vec<Shown>,
    /// Whether there is a cluster in which to look what they are.
    pub has_cluster: bool,
}

/// What a listener said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The address that answered.
    pub address: String,
    /// The version of TLS.
    pub version: TlsVersion,
    /// Whether it asked for a client certificate.
    pub wants_certificate: bool,
}

/// One certificate.
#[derive(Debug)]
pub struct Shown {
    /// Where in the source it stands, where there are several places: `user kubernetes-admin`.
    pub place: Option<String>,
    /// The certificate.
    pub certificate: Certificate,
    /// Its private key.
    pub key: Key,
    /// Who signed it, as far as that can be proven here.
    pub signer: SignedBy,
    /// What it is in the cluster.
    pub parts: Vec<Part>,
    /// What is to be said of how it is written down.
    pub notes: Vec<String>,
}

/// What is known of the private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// It is here and belongs to the certificate.
    Matches(PathBuf),
    /// What is here belongs to another certificate.
    Differs(PathBuf),
    /// It is here, and a password or its form keeps it from being compared.
    Closed(PathBuf),
    /// None was looked at.
    Elsewhere,
}

/// Who signed a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// Its own key.
    Itself,
    /// The certificate with this index of the same source.
    Here(usize),
    /// This CA of the cluster, by its id.
    Authority(CertId),
    /// Nobody whose certificate is at hand.
    Unknown,
}

/// What a certificate is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name there.
    pub label: String,
    /// Its file, relative to DIR.
    pub file: PathBuf,
    /// Whether that file holds this very certificate, or another for the same key.
    pub is_current: bool,
    /// Who uses it.
    pub users: Vec<User>,
    /// The paths it serves, and what their users see when they break.
    pub paths: Vec<Serves>,
    /// What it signs.
    pub signs: Vec<CertId>,
}

/// A component's setting that names a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The component.
    pub component: &'static str,
    /// The flag with dashes, or the field.
    pub setting: String,
    /// How a changed file is taken up.
    pub takes_up: &'static str,
}

/// A path that a certificate serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serves {
    /// The path.
    pub id: &'static str,
    /// Who dials.
    pub from: &'static str,
    /// Who answers.
    pub to: &'static str,
    /// What their users see without it.
    pub breaks: &'static str,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener.
    #[error(transparent)]
    Listener(#[from] ProbeError),
    /// A listener that showed what is no certificate.
    #[error("{listener}: what it shows is no certificate: {why}")]
    Served {
        /// The listener.
        listener: String,
        /// Why not.
        why: String,
    },
    /// The file.
    #[error("{what}: {why}")]
    File {
        /// The file, as people call it.
        what: String,
        /// What is wrong with it.
        why: String,
        /// What to do next.
        hint: Option<String>,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listener(_) => {
                Some("see that it listens there, and that nothing is in between".into())
            }
            Self::Served { .. } => None,
            Self::File { hint, .. } => hint.clone(),
        }
    }
}

/// Reads the certificates, and looks what they are.
pub fn run(request: &Request<'_>) -> Result<Report, Error> {
    let mut listener = None;
    let found = match request.source {
        Source::Listener(target) => {
            let served = probe::probe(target, request.timeout)?;
            listener = Some(Heard {
                address: served.address.to_string(),
                version: served.version,
                wants_certificate: served.client_certificate_requested,
            });
            let read = |der| {
                Certificate::from_der(der).map_err(|error| Error::Served {
                    listener: target.to_string(),
                    why: with_causes(&error),
                })
            };
            let chain = served.chain.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
            chain.into_iter().map(|certificate| Found::alone(certificate, Key::Elsewhere)).collect()
        }
        Source::File(path) => {
            let what = path.display().to_string();
            let file = |why: String, hint: Option<&str>| Error::File {
                what: what.clone(),
                why,
                hint: hint.map(str::to_owned),
            };
            let content = match read::named(path, read::LIMIT) {
                Piece::Present(content) => content,
                Piece::Missing => {
                    return Err(file("does not exist".into(), Some("name a file, or HOST:PORT")));
                }
                Piece::Bad(why) => return Err(file(why, None)),
            };
            let folder = path.parent().unwrap_or(Path::new(""));
            let mut found = certificates(&content, folder, request.passwords)
                .map_err(|(why, hint)| file(why, hint))?;
            beside(&mut found, &content, path);
            found
        }
        Source::Input(content) => {
            certificates(content, Path::new(""), request.passwords).map_err(|(why, hint)| {
                Error::File { what: "standard input".into(), why, hint: hint.map(str::to_owned) }
            })?
        }
    };
    Ok(explain(found, listener, request.dir))
}

/// A certificate before it is known what it is.
struct Found {
    place: Option<String>,
    certificate: Certificate,
    key: Key,
    notes: Vec<String>,
}

impl Found {
    fn alone(certificate: Certificate, key: Key) -> Self {
        Self { place: None, certificate, key, notes: Vec::new() }
    }
}

type Wrong = (String, Option<&'static str>);

/// The certificates of a file, in whatever form `check-expiration` finds them; what is in its plain forms is shown even
/// where nothing would take it, to see why.
fn certificates(
    content: &[u8],
    folder: &Path,
    passwords: &[Zeroizing<String>],
) -> Result<Vec<Found>, Wrong> {
    let (why, hint) = match plainly(content, folder, passwords) {
        Ok(found) => return Ok(found),
        Err(wrong) => wrong,
    };
    match expiry::within(content, "", passwords) {
        Ok(rows) if !rows.is_empty() => rows.into_iter().map(found_by_expiry).collect(),
        // It knows more forms, so it knows better what is wrong, but where there is PEM.
        Err(better) if !content.windows(11).any(|text| text == b"-----BEGIN ") => {
            Err((better, hint))
        }
        _ => Err((why, hint)),
    }
}

fn found_by_expiry(row: Row) -> Result<Found, Wrong> {
    // An alias is in brackets, behind the file's name; without one, certificates are counted.
    let place = row.name.trim();
    let alias = place.strip_prefix('(').and_then(|place| Some(place.rsplit_once(')')?.0));
    let place = alias.or(Some(place)).filter(|place| !place.is_empty() && !place.starts_with('#'));
    let place = place.map(str::to_owned);
    let named = |why: String| match &place {
        Some(place) => (format!("{place}: {why}"), None),
        None => (why, None),
    };
    let details = match row.found {
        RowFound::Certificate(facts) => facts.details.unwrap_or_default(),
        RowFound::Missing => return Err(named("holds no certificate".into())),
        RowFound::Unreadable(why) => return Err(named(why)),
    };
    let certificate =
        Certificate::from_der(details.der).map_err(|error| named(with_causes(&error)))?;
    let notes = row.remarks.iter().filter_map(|remark| match remark {
        Remark::Note(text) => Some(text.clone()),
        Remark::NotOnDisk { .. } => None,
    });
    let notes = notes.collect();
    Ok(Found { place, certificate, key: Key::Elsewhere, notes })
}

fn plainly(
    content: &[u8],
    folder: &Path,
    passwords: &[Zeroizing<String>],
) -> Result<Vec<Found>, Wrong> {
    let read =
        |der: Vec<u8>| Certificate::from_der(der).map_err(|error| (with_causes(&error), None));
    let all = |ders: Vec<Vec<u8>>| {
        let read = |der| read(der).map(|certificate| Found::alone(certificate, Key::Elsewhere));
        ders.into_iter().map(read).collect::<Result<Vec<_>, _>>()
    };
    let found = if content.first() == Some(&0x30) {
        if keystore::is_pkcs12(content) {
            let stored = keystore::pkcs12(content, passwords).map_err(|error| {
                (
                    error.to_string(),
                    Some("give its password with --password-file or CERTKIT_PASSWORD"),
                )
            })?;
            all(stored.into_iter().map(|one| one.der).collect())?
        } else if let Ok(ders) = pkcs7::certificates(content) {
            all(ders)?
        } else {
            all(vec![content.to_vec()])?
        }
    } else if let Some(view) = as_kubeconfig(content) {
        return in_kubeconfig(&view, folder);
    } else {
        let ders = pem::certificates(content).map_err(|error| {
            (error.to_string(), Some("show a certificate, a bundle, a kubeconfig or a key store"))
        })?;
        all(ders)?
    };
    match found.is_empty() {
        true => Err(("holds no certificate".into(), None)),
        false => Ok(found),
    }
}

/// A kubeconfig is YAML or JSON with clusters or users; PEM among other text is not.
fn as_kubeconfig(content: &[u8]) -> Option<kubeconfig::View> {
    if content.starts_with(b"-----BEGIN ") {
        return None;
    }
    let view = kubeconfig::parse(content).ok()?;
    (!view.users.is_empty() || !view.clusters.is_empty()).then_some(view)
}

fn in_kubeconfig(view: &kubeconfig::View, folder: &Path) -> Result<Vec<Found>, Wrong> {
    let octets = |material: &Material| match material {
        Material::Data(octets) => Ok((octets.clone(), None)),
        Material::File(path) => {
            let path = folder.join(path);
            match read::file(&path) {
                Piece::Present(octets) => Ok((octets, Some(path))),
                Piece::Missing => {
                    Err((format!("names {}, which does not exist", path.display()), None))
                }
                Piece::Bad(why) => Err((format!("names {}: {why}", path.display()), None)),
            }
        }
    };
    let mut found = Vec::new();
    for user in &view.users {
        let Some(material) = &user.cert else { continue };
        let (content, _) = octets(material)?;
        let key = user.key.as_ref().and_then(|key| octets(key).ok());
        let own = inspect::from_pem(&content).map_err(|error| {
            (format!("user {}: {}", shown::name(&user.name), with_causes(&error)), None)
        })?;
        for (index, certificate) in own.into_iter().enumerate() {
            let key = match (&key, index) {
                (Some((key, path)), 0) => {
                    compare(key, &certificate, path.clone().unwrap_or_default())
                }
                _ => Key::Elsewhere,
            };
            let place = Some(format!("user {}", shown::name(&user.name)));
            found.push(Found { place, certificate, key, notes: Vec::new() });
        }
    }
    for cluster in &view.clusters {
        let Some(material) = &cluster.ca else { continue };
        let (content, _) = octets(material)?;
        let place = format!("cluster {}", shown::name(&cluster.name));
        let trusted = inspect::from_pem(&content)
            .map_err(|error| (format!("{place}: {}", with_causes(&error)), None))?;
        let trusted = trusted.into_iter().map(|certificate| Found {
            place: Some(place.clone()),
            certificate,
            key: Key::Elsewhere,
            notes: Vec::new(),
        });
        found.extend(trusted);
    }
    match found.is_empty() {
        true => Err(("is a kubeconfig without a certificate".into(), None)),
        false => Ok(found),
    }
}

fn compare(content: &[u8], certificate: &Certificate, path: PathBuf) -> Key {
    match PrivateKey::from_pem_for(content, certificate.public_key()) {
        Ok(key) if key.public_key() == certificate.public_key() => Key::Matches(path),
        Ok(_) => Key::Differs(path),
        Err(_) => Key::Closed(path),
    }
}

/// The first certificate's key: in the same file, or in the one beside it that kubeadm's names lead to.
fn beside(found: &mut [Found], content: &[u8], path: &Path) {
    let Some(first) = found.first_mut().filter(|first| first.place.is_none()) else { return };
    if matches!(pem::first_key(content), Ok(Some(_))) {
        first.key = compare(content, &first.certificate, path.to_path_buf());
        return;
    }
    let key = path.with_extension("key");
    if key != path
        && let Piece::Present(octets) = read::file(&key)
    {
        first.key = compare(&octets, &first.certificate, key);
    }
}

/// Says of each certificate who signed it, what it is in the cluster, and who needs it.
fn explain(found: Vec<Found>, listener: Option<Heard>, dir: &Path) -> Report {
    let signers: Vec<Option<SignedBy>> =
        (0..found.len()).map(|index| signer(&found, index)).collect();
    let all =
        |found: Vec<Found>, signers: Vec<SignedBy>, parts: Vec<Vec<Part>>, has_cluster| Report {
            listener,
            has_cluster,
            certificates: found
                .into_iter()
                .zip(signers)
                .zip(parts)
                .map(|((Found { place, certificate, key, notes }, signer), parts)| Shown {
                    place,
                    certificate,
                    key,
                    signer,
                    parts,
                    notes,
                })
                .collect(),
        };
    let unknown = |signer: Option<SignedBy>| signer.unwrap_or(SignedBy::Unknown);
    // Without a cluster it is shown all the same: that is no fault of the certificate.
    let Ok((cluster, declared)) = declared::or_anything(dir) else {
        let parts = signers.iter().map(|_| Vec::new()).collect();
        return all(found, signers.into_iter().map(unknown).collect(), parts, false);
    };
    let layout = Layout::new(&cluster);
    let observation = observe::observe(&layout, dir);
    let talks = talk::talks(declared.then_some(&cluster));
    let parts: Vec<Vec<Part>> = found
        .iter()
        .map(|one| {
            let instances = layout.instances.iter().zip(&observation.observed.instances);
            let same_key = instances.filter_map(|(instance, observed)| {
                let own = observed.certificates.present()?.iter();
                // In a bundle any of a CA's certificates is that CA's.
                let mut own = own.take(if instance.spec.is_ca() { usize::MAX } else { 1 });
                let view =
                    own.find(|view| view.public_key == one.certificate.public_key().der())?;
                let is_current = view.fingerprint == one.certificate.fingerprint_hex();
                Some(part(&layout, instance, observed.place.cert(), is_current, &talks))
            });
            let mut parts: Vec<Part> = same_key.collect();
            // A key that is kept has several certificates: the one in place says what it is.
            if parts.iter().any(|part| part.is_current) {
                parts.retain(|part| part.is_current);
            }
            parts
        })
        .collect();
    let has_cluster = !observation.certificates.is_empty();
    let by_authority = |certificate: &Certificate| {
        observation.certificates.iter().find_map(|(index, all)| {
            let spec = layout.instances[*index].spec;
            let signs = spec.is_ca() && all.iter().any(|ca| certificate.signed_by(ca));
            signs.then_some(SignedBy::Authority(spec.id))
        })
    };
    let signers = signers
        .into_iter()
        .zip(&found)
        .map(|(signer, one)| match signer {
            Some(SignedBy::Itself) => SignedBy::Itself,
            near => by_authority(&one.certificate).or(near).unwrap_or(SignedBy::Unknown),
        })
        .collect();
    all(found, signers, parts, has_cluster)
}

fn signer(found: &[Found], index: usize) -> Option<SignedBy> {
    let certificate = &found[index].certificate;
    if certificate.is_self_signed() {
        return Some(SignedBy::Itself);
    }
    let signs =
        |other: &usize| *other != index && certificate.signed_by(&found[*other].certificate);
    (0..found.len()).find(signs).map(SignedBy::Here)
}

fn part(
    layout: &Layout<'_>,
    instance: &Instance<'_>,
    file: &Path,
    is_current: bool,
    talks: &[Talk],
) -> Part {
    let spec = instance.spec;
    let mut users: Vec<User> = Vec::new();
    for row in USES.iter().filter(|row| names(row, spec)) {
        let user = User {
            component: row.component,
            setting: setting(row),
            takes_up: takes_up(row.reload),
        };
        if !users.contains(&user) {
            users.push(user);
        }
    }
    let serves = |talk: &&Talk| {
        let trusts = [&talk.client_trusts, &talk.server_trusts];
        let shows = [&talk.client, &talk.server];
        shows.iter().any(|shown| shown.is_certificate && shown.what == spec.id.name())
            || trusts.iter().any(|t| t.as_ref().is_some_and(|t| t.authority == spec.id))
    };
    let paths = talks.iter().filter(serves).map(|talk| Serves {
        id: talk.id,
        from: talk.from,
        to: talk.to,
        breaks: talk.breaks,
    });
    let mut signs: Vec<CertId> = Vec::new();
    for other in layout.instances.iter().filter(|other| other.issuer == Some(spec.id)) {
        if !signs.contains(&other.spec.id) {
            signs.push(other.spec.id);
        }
    }
    Part {
        label: instance.label(),
        file: file.to_path_buf(),
        is_current,
        users,
        paths: paths.collect(),
        signs,
    }
}

fn names(row: &Use, spec: &CertSpec) -> bool {
    match row.value {
        Value::Bundle(id)
        | Value::Cert(id)
        | Value::Chain(id)
        | Value::Key(id)
        | Value::Kubeconfig(id) => id == spec.id,
        _ => false,
    }
}

fn setting(row: &Use) -> String {
    match (row.flag, row.field) {
        (Some(flag), _) => format!("--{flag}"),
        (None, Some(field)) => field.to_owned(),
        (None, None) => String::new(),
    }
}

fn takes_up(reload: Reload) -> &'static str {
    match reload {
        Reload::Nothing => "nothing that runs reads it",
        Reload::Handshake => "read at every connection",
        Reload::Watch => "taken up at once",
        Reload::Poll(_) | Reload::Kubeconfig => "taken up within minutes",
        Reload::Restart => "taken up by a restart",
    }
}
