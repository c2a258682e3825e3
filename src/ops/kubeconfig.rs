//! A person's kubeconfig: a client certificate that ends soon, with no more than the groups asked for. What was handed
//! out is in the log before it is handed out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use zeroize::Zeroizing;

use super::{
    declared,
    password::{self, Passwords},
    read, session, sign,
};
use crate::{
    document::{
        kubeconfig::{self, Authority, ClientCredential, Kubeconfig},
        signing,
    },
    model::{
        algorithm::KeyAlgorithm,
        catalogue::{ApiServer, CERTIFICATES, CertId, CertSpec, Home},
        cluster::signers::is_systems,
        duration::Span,
        name::Name,
        observed::Piece,
        profile::{Kind, Profile, Validity},
        request::RequestSigner,
        resolve::BACKDATE,
        shown::{name, steers},
        timestamp::Timestamp,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        issue::{self, Issuance, IssueError, IssuingCa},
        key::{KeyError, KeyFormat, PrivateKey},
        pem,
    },
    store::{self, Transaction},
};

/// The group that passes every authorization.
const MASTERS: &str = "system:masters";

/// As the log calls it.
const COMMAND: &str = "kubeconfig";
const YEAR: Span = Span(365 * 86_400);

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// The user.
    pub name: &'a str,
    /// The user's groups.
    pub groups: &'a [String],
    /// How long it is valid.
    pub validity: Span,
    /// Whether certkit's own signer is asked, where the API is to sign.
    pub own_signer: bool,
    /// Whether names that Kubernetes keeps for itself may be given out.
    pub allow_system: bool,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How an encrypted CA key is opened.
    pub passwords: &'a Passwords,
}

/// A kubeconfig that was made.
#[derive(Debug)]
pub struct Made {
    /// Its text, with the private key.
    pub text: Zeroizing<String>,
    /// Its certificate's end.
    pub not_after: Timestamp,
    /// Whether that is earlier than asked for: the CA ends.
    pub clamped: bool,
    /// The certificate's fingerprint.
    pub fingerprint: String,
    /// Its serial number.
    pub serial: String,
    /// What became of the log, if anything is to be said of it.
    pub warnings: Vec<String>,
    /// What an earlier run had left.
    pub recovered: Option<String>,
}

/// A request for the API to sign.
#[derive(Debug)]
pub struct Asked {
    /// The CertificateSigningRequest.
    pub manifest: String,
    /// Its name in the API.
    pub object: String,
    /// The private key.
    pub key: Zeroizing<String>,
    /// A kubeconfig that names the key's file and that of the certificate to come.
    pub kubeconfig: Zeroizing<String>,
    /// What became of the log, if anything is to be said of it.
    pub warnings: Vec<String>,
    /// What an earlier run had left.
    pub recovered: Option<String>,
}

/// Why no kubeconfig is made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Names that Kubernetes keeps for itself.
    #[error("{argument}: `{name}` is a name that Kubernetes keeps for its own parts")]
    System {
        /// The argument.
        argument: &'static str,
        /// The name.
        name: String,
    },
    /// No name at all, or one that is none.
    #[error("{argument}: {why}")]
    Name {
        /// The argument.
        argument: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// The API signs for ten minutes at least.
    #[error("--validity {0}: the API signs nothing for less than ten minutes")]
    TooShort(Span),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] declared::Error),
    /// The CA cannot sign.
    #[error("{}: {why}", path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Nobody says where the API is.
    #[error("{}: nothing says where the API is", .0.display())]
    NoServer(PathBuf),
    /// The certificate cannot be made.
    #[error("cannot issue the certificate of {user}")]
    Issue {
        /// For whom.
        user: String,
        /// Why not.
        source: IssueError,
    },
    /// The key cannot be made.
    #[error("cannot make a key for {user}")]
    Key {
        /// For whom.
        user: String,
        /// Why not.
        source: KeyError,
    },
    /// The CA's password.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// The log.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::System { name, .. } if name == MASTERS => Some(
                "its members pass every authorization until the certificate ends, and nobody can take \
                 that back; say --allow-system if you mean it"
                    .into(),
            ),
            Self::System { .. } => Some("say --allow-system if you mean it".into()),
            Self::Name { .. } => None,
            Self::TooShort(_) => Some("--validity 10m".into()),
            Self::Cluster(error) => error.hint(),
            Self::Authority { .. } => Some(
                "where the CA's key is not at hand the API can sign: say --csr".into(),
            ),
            Self::NoServer(_) => Some("`certkit init --adopt` declares the cluster".into()),
            Self::Issue { source, .. } => source.hint(),
            Self::Key { source, .. } => source.hint(),
            Self::Password(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::System { .. } | Self::Name { .. } | Self::TooShort(_))
    }

    /// Whether something is decided and not finished.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_decided())
    }
}

/// A person's kubeconfig that was handed out, or asked for, as the log has it.
#[derive(Debug)]
pub struct HandedOut {
    /// When.
    pub time: Timestamp,
    /// The user.
    pub name: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// Until when; nobody here knows it of what the API signs.
    pub until: Option<Timestamp>,
    /// The certificate's fingerprint.
    pub fingerprint: Option<String>,
}

/// More than the log of any cluster.
const LOG_LIMIT: u64 = 256 << 20;

/// What was handed out and may be used at this time, the last first. The log is whose DIR is: it is shown, and nothing
/// follows from it. An error says why it cannot be read.
pub fn handed_out(dir: &Path, now: Timestamp) -> Result<Vec<HandedOut>, String> {
    let content = match read::bounded(&store::log_of(dir), LOG_LIMIT) {
        Piece::Present(content) => content,
        Piece::Missing => return Ok(Vec::new()),
        Piece::Bad(why) => return Err(why),
    };
    let lines = content.split(|octet| *octet == b'\n').rev();
    Ok(lines.filter_map(|line| handed(line, now)).collect())
}

fn handed(line: &[u8], now: Timestamp) -> Option<HandedOut> {
    let line: serde_json::Value = serde_json::from_slice(line).ok()?;
    let text = |field: &str| line[field].as_str().map(str::to_owned);
    // What `certkit controller` signed for people is a person's, too.
    let command = text("command")?;
    let is_persons = line["signer"].as_str() == Some(RequestSigner::Person.name());
    if command != COMMAND && !(command == sign::COMMAND && is_persons) {
        return None;
    }
    let time: Timestamp = text("time")?.parse().ok()?;
    let until = text("notAfter").and_then(|end| end.parse::<Timestamp>().ok());
    // Unless it is told otherwise, the API signs for a year at most.
    let end = until.unwrap_or_else(|| time.plus(YEAR));
    let groups = line["groups"].as_array().into_iter().flatten();
    (end >= now).then(|| HandedOut {
        time,
        name: name(&text("name").unwrap_or_default()),
        groups: groups.filter_map(|group| group.as_str().map(name)).collect(),
        until,
        fingerprint: text("fingerprint").filter(|print| is_fingerprint(print)),
    })
}

fn is_fingerprint(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// What both ways need: the cluster's name, where its API is, and what is trusted.
struct Api {
    cluster: String,
    server: String,
    trusted: Vec<u8>,
    algorithm: KeyAlgorithm,
}

/// Signs a certificate for the user here.
pub fn run(request: &Request<'_>) -> Result<Made, Error> {
    check(request)?;
    let api = api(request.dir)?;
    let issuer = issuer(request)?;
    let user = request.name;
    let key = generate(user, api.algorithm)?;
    let profile = profile(request);
    let (not_before, not_after) = (request.now.minus(BACKDATE), request.now.plus(request.validity));
    let order = Issuance {
        profile: &profile,
        validity: Validity { not_before, not_after },
        public_key: key.public_key(),
    };
    let issued = issue::issue(&order, &issuer)
        .map_err(|source| Error::Issue { user: user.to_owned(), source })?;
    let certificate = issued.certificate;
    let end = certificate.validity().not_after;
    let line = json!({
        "time": request.now.to_string(),
        "command": COMMAND,
        "action": "issue",
        "name": user,
        "groups": request.groups,
        "fingerprint": certificate.fingerprint_hex(),
        "serial": certificate.serial_hex(),
        "notAfter": end.to_string(),
        "reason": "asked for",
    });
    let (warnings, recovered) = record(request, line.to_string())?;
    let credential = ClientCredential::Data {
        cert: certificate.to_pem().into_bytes(),
        key: Zeroizing::new(key.to_pem(KeyFormat::Traditional).as_bytes().to_vec()),
    };
    Ok(Made {
        text: text(&api, user, credential),
        not_after: end,
        clamped: issued.clamped,
        fingerprint: certificate.fingerprint_hex(),
        serial: certificate.serial_hex(),
        warnings,
        recovered,
    })
}

/// Makes a key and a request that the API signs once somebody approved of it; `files` are the names of the certificate
/// to come and of the key.
pub fn ask(request: &Request<'_>, files: (&str, &str)) -> Result<Asked, Error> {
    check(request)?;
    if request.validity < Span(600) {
        return Err(Error::TooShort(request.validity));
    }
    let api = api(request.dir)?;
    let user = request.name;
    let key = generate(user, api.algorithm)?;
    let profile = profile(request);
    let csr = match request.own_signer {
        // The judge takes nothing that it does not need.
        true => issue::bare_csr(&profile.subject, &key),
        false => issue::csr(&profile, &key),
    };
    let csr = csr.map_err(|source| Error::Issue { user: user.to_owned(), source })?;
    let object = object_name(user, request.now);
    let line = json!({
        "time": request.now.to_string(),
        "command": COMMAND,
        "action": "request",
        "name": user,
        "groups": request.groups,
        "object": object,
        "reason": "asked for",
    });
    let (warnings, recovered) = record(request, line.to_string())?;
    let credential = ClientCredential::Files { cert: files.0.to_owned(), key: files.1.to_owned() };
    let pem = pem::encode("CERTIFICATE REQUEST", &csr);
    Ok(Asked {
        manifest: signing::request(
            &object,
            pem.as_bytes(),
            request.validity,
            request.own_signer.then(|| RequestSigner::Person.name()),
        ),
        object,
        key: key.to_pem(KeyFormat::Traditional),
        kubeconfig: text(&api, user, credential),
        warnings,
        recovered,
    })
}

/// Why a kubeconfig for this user is not to be written over what is there: anything but one for the same user alone.
pub fn taken(path: &Path, user: &str) -> Option<&'static str> {
    let content = match read::file(path) {
        Piece::Present(content) => content,
        Piece::Missing => return None,
        Piece::Bad(_) if path.metadata().is_ok_and(|found| found.len() == 0) => return None,
        Piece::Bad(_) => return Some("is there already, and cannot be read"),
    };
    let Ok(view) = kubeconfig::parse(&content) else {
        return Some("is there already, and is no kubeconfig");
    };
    let is_own = view.clusters.len() == 1 && view.users.iter().all(|found| found.name == user);
    (!is_own || view.users.is_empty())
        .then_some("is there already: a kubeconfig of other users or clusters, too")
}

fn check(request: &Request<'_>) -> Result<(), Error> {
    let names = [("NAME", request.name)].into_iter();
    let groups = request.groups.iter().map(|group| ("--group", group.as_str()));
    for (argument, name) in names.chain(groups) {
        let fault = |why| Err(Error::Name { argument, why });
        match name {
            "" => return fault("is empty"),
            name if name.chars().any(steers) => {
                return fault(
                    "has a character that is not seen, or changes the direction of writing",
                );
            }
            // RFC 5280's ub-common-name; Go reads more, others do not.
            name if name.chars().count() > 64 => return fault("is longer than 64 characters"),
            name if is_systems(name) && !request.allow_system => {
                return Err(Error::System { argument, name: name.to_owned() });
            }
            _ => {}
        }
    }
    Ok(())
}

fn profile(request: &Request<'_>) -> Profile {
    let groups: Vec<&str> = request.groups.iter().map(String::as_str).collect();
    Profile {
        subject: Name::new(&groups, request.name),
        sans: Vec::new(),
        kind: Kind::Leaf,
        key_usages: KeyUsages::LEAF,
        extended_usages: vec![ExtendedUsage::ClientAuth],
    }
}

fn generate(user: &str, algorithm: KeyAlgorithm) -> Result<PrivateKey, Error> {
    PrivateKey::generate(algorithm).map_err(|source| Error::Key { user: user.to_owned(), source })
}

/// The row whose kubeconfig people carry: what theirs are like.
fn like() -> Option<&'static CertSpec> {
    let carried = |spec: &&CertSpec| {
        matches!(spec.home, Home::Kubeconfig { pem: None, server: ApiServer::Endpoint, .. })
    };
    CERTIFICATES.iter().find(carried)
}

fn api(dir: &Path) -> Result<Api, Error> {
    let (cluster, is_declared) = declared::or_anything(dir)?;
    let Some((spec, authority)) = like().and_then(|spec| Some((spec, spec.issuer_id()?))) else {
        return Err(Error::NoServer(dir.to_path_buf()));
    };
    let (mut name, mut server) = (cluster.name.clone(), None);
    if is_declared {
        server = Some(format!("https://{}", cluster.endpoint));
    } else if let Home::Kubeconfig { file, .. } = spec.home
        && let Piece::Present(content) = read::file(&dir.join(file))
        && let Ok(view) = kubeconfig::parse(&content)
        && let Some(found) = view.cluster(None)
    {
        name.clone_from(&found.name);
        server.clone_from(&found.server);
    }
    let server = server.ok_or_else(|| Error::NoServer(dir.to_path_buf()))?;
    let mut path = dir.join(cluster.trust_file(authority).unwrap_or_default());
    // What something else made has no bundle: there the CA's own file is what is trusted.
    if let Home::Authority { cert, .. } = authority.spec().home
        && !is_declared
        && matches!(read::file(&path), Piece::Missing)
    {
        path = dir.join(cert);
    }
    let trusted = match read::file(&path) {
        Piece::Present(content) => content.to_vec(),
        Piece::Missing => return Err(Error::Authority { path, why: "does not exist".into() }),
        Piece::Bad(why) => return Err(Error::Authority { path, why }),
    };
    if let Err(error) = pem::certificates(&trusted) {
        return Err(Error::Authority { path, why: error.to_string() });
    }
    Ok(Api { cluster: name, server, trusted, algorithm: cluster.key_algorithm })
}

fn issuer(request: &Request<'_>) -> Result<IssuingCa, Error> {
    let home = like().and_then(CertSpec::issuer_id).map(CertId::spec);
    let spec = home.ok_or_else(|| Error::NoServer(request.dir.to_path_buf()))?;
    sign::authority(request.dir, spec, request.passwords).map_err(|error| match error {
        sign::Error::Authority { path, why } => Error::Authority { path, why },
        sign::Error::Password(error) => Error::Password(error),
        sign::Error::Issue { source, .. } => Error::Issue { user: request.name.to_owned(), source },
        sign::Error::Key(source) => Error::Key { user: request.name.to_owned(), source },
        sign::Error::Store(error) => Error::Store(error),
    })
}

fn text(api: &Api, user: &str, credential: ClientCredential) -> Zeroizing<String> {
    kubeconfig::render(&Kubeconfig {
        cluster: api.cluster.clone(),
        server: api.server.clone(),
        user: user.to_owned(),
        authority: Authority::Data(api.trusted.clone()),
        credential,
    })
}

/// In the log, durably, before anybody has it.
fn record(request: &Request<'_>, line: String) -> Result<(Vec<String>, Option<String>), Error> {
    let mut store = session::open(request.dir, request.lock_wait)?;
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let mut transaction = Transaction::new(&request.now.to_compact());
    transaction.log(line);
    let committed = store.commit(transaction)?;
    Ok((committed.warnings, recovered))
}

/// A name that an object can have: lower case, digits, dashes.
fn object_name(user: &str, now: Timestamp) -> String {
    let mut name: String = user
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    name = name.trim_matches('-').to_owned();
    format!("certkit-{name}-{}", now.to_compact().to_lowercase()).replace("--", "-")
}
