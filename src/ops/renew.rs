//! `certkit rotate FILE... --ca FILE`: renews single certificates of trees that certkit has no layout for. What a
//! certificate says it goes on saying; the CA is the one that is named, and nothing is taken from a catalogue.
//!
//! The files change as everything does: in one transaction of the folder that is theirs, with its lock and backups.

mod authority;
mod credential;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    apply::Record,
    change::Report,
    declared, log,
    password::{self, Passwords},
    session,
};
use crate::{
    model::{
        algorithm::KeyAlgorithm,
        duration::{Span, Threshold},
        layout::{Layout, PUBLIC, SECRET},
        plan::{
            Action, KeyChoice, Order, Plan, Reason, Step,
            credential::is_due,
            obstacle::{Blocked, Obstacle, broken},
        },
        profile::Validity,
        resolve::BACKDATE,
        shown::with_causes,
        timestamp::Timestamp,
    },
    pki::{
        inspect::InspectError,
        issue::{self, IssueError},
        key::{KeyError, PrivateKey},
    },
    store::{self, Transaction},
};
use authority::Ca;
use credential::{Located, Renewable};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The files that hold the certificates.
    pub files: &'a [String],
    /// The CA's certificate.
    pub ca: &'a Path,
    /// The CA's key; where it is not said, beside the certificate or in its file.
    pub ca_key: Option<&'a Path>,
    /// The key of the one certificate that is named; else beside it or in its file.
    pub key: Option<&'a Path>,
    /// The directory whose lock and backups it is to be, where somebody said one.
    pub dir: Option<&'a Path>,
    /// The directory that it is where nobody said one, for files below it.
    pub usual: &'a Path,
    /// How near to its end is due; none for whatever the time.
    pub within: Option<Threshold>,
    /// Which key new certificates get.
    pub choice: Option<KeyChoice>,
    /// Also what another CA signed so far.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The time to issue at.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How long to wait at most before something is renewed.
    pub jitter: Duration,
    /// How many backups to keep.
    pub backups: usize,
    /// What opens the CA's key if it is encrypted.
    pub passwords: &'a Passwords,
}

/// What was done, or would be.
#[derive(Debug)]
pub struct Renewed {
    /// The directory whose lock and backups it was.
    pub dir: PathBuf,
    /// What was done, as `certkit rotate` tells it.
    pub report: Report,
    /// The files that were changed, absolute.
    pub changed: Vec<PathBuf>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files in places that have no folder of their own in common.
    #[error("the files named are in different places: only {} holds them all", .0.display())]
    Apart(PathBuf),
    /// A CA is not renewed but replaced.
    #[error("{}: is a CA, which `certkit rotate` does not touch", .0.display())]
    Authority(PathBuf),
    /// The CA's certificate cannot sign now.
    #[error("{}: {why}", path.display())]
    Ca {
        /// Its file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The CA's certificate cannot be read.
    #[error("{}: cannot read the CA's certificate", path.display())]
    CaFile {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: InspectError,
    },
    /// The CA's key cannot be used.
    #[error("{}: cannot use the CA's key", path.display())]
    CaKey {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// The CA cannot sign.
    #[error("{}: cannot sign", path.display())]
    CaSigns {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: IssueError,
    },
    /// certkit.yaml says what is to be in this file.
    #[error("{}: certkit.yaml in {} says what this is, and by which CA", file.display(), dir.display())]
    Declared {
        /// The file, relative to DIR.
        file: PathBuf,
        /// DIR.
        dir: PathBuf,
    },
    /// certkit.yaml cannot be read.
    #[error(transparent)]
    Declaration(#[from] declared::Error),
    /// A certificate cannot be made.
    #[error("cannot renew {}", file.display())]
    Issue {
        /// Its file.
        file: PathBuf,
        /// Why not.
        source: IssueError,
    },
    /// A key cannot be made.
    #[error("cannot make a key for {}", file.display())]
    Key {
        /// The certificate's file.
        file: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// No key was found beside the CA.
    #[error("{}: there is no key in it or beside it", .0.display())]
    NoCaKey(PathBuf),
    /// A file is not below the directory that was said.
    #[error("{}: is not below {}", file.display(), dir.display())]
    Outside {
        /// The file.
        file: PathBuf,
        /// DIR.
        dir: PathBuf,
    },
    /// The CA's key is encrypted and stays so.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file cannot be written again as it is.
    #[error("{}: cannot be changed in place", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: credential::WriteError,
    },
    /// The key that is said to be the CA's is another's.
    #[error("{}: is not the key of {}", key.display(), ca.display())]
    WrongCaKey {
        /// The key's file.
        key: PathBuf,
        /// The CA's.
        ca: PathBuf,
    },
}

impl Error {
    /// Whether the change is decided, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_decided())
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Apart(_) => {
                Some("name them one folder at a time, or name a folder for certkit's records with --dir".into())
            }
            Self::Authority(_) => Some(
                "replacing a CA is a change of trust everywhere; name the certificates that it signed".into(),
            ),
            Self::Ca { .. } => Some("name the CA that is valid now with --ca".into()),
            Self::CaFile { source, .. } => source.hint(),
            Self::CaKey { source, .. } | Self::Key { source, .. } => source.hint(),
            Self::CaSigns { source, .. } | Self::Issue { source, .. } => source.hint(),
            Self::Declaration(error) => error.hint(),
            Self::Declared { file, dir } => {
                Some(format!("certkit --dir {} rotate {}", dir.display(), file.display()))
            }
            Self::NoCaKey(_) => Some("name it with --ca-key FILE".into()),
            Self::Outside { .. } => Some(
                "leave --dir out, and the folder that holds the files has certkit's lock and backups".into(),
            ),
            Self::Password(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Write { source, .. } => source.hint(),
            Self::WrongCaKey { .. } => Some(
                "compare: openssl pkey -in KEY -pubout; openssl x509 -in CERT -noout -pubkey".into(),
            ),
        }
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Apart(_) | Self::Authority(_) | Self::Declared { .. } | Self::Outside { .. }
        )
    }
}

/// The directory whose lock and backups it is: the one that was said, or the one that the files are in.
pub fn directory(request: &Request<'_>) -> Result<PathBuf, Error> {
    locate(request).map(|(dir, _)| dir)
}

/// Renews the certificates in the files that are named, or says what would be done.
pub fn run(request: &Request<'_>) -> Result<Renewed, Error> {
    let (dir, files) = locate(request)?;
    refuse_declared(&dir, &files)?;
    // Once: what is named may be a pipe.
    let mut ca = Ca::read(request)?;
    let mut work = Work::look(request, &ca, &dir, &files, request.now)?;
    let left = store::pending(&dir)?.filter(store::Pending::is_left);
    if request.dry_run || (work.plan.is_empty() && left.is_none()) {
        work.plan.notes.extend(work.sealed(request, &ca));
        work.make(request, &mut ca, request.now)?;
        return Ok(work.renewal(session::left(&dir)?));
    }
    let start = Instant::now();
    if !work.plan.is_empty() {
        std::thread::sleep(request.jitter);
    }
    let mut store = session::open(&dir, request.lock_wait)?;
    // Waiting may have taken an hour.
    let waited = i64::try_from(start.elapsed().as_secs()).unwrap_or_default();
    let now = request.now.plus(Span(waited));
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let earlier = work.fingerprints();
    let mut work = Work::look(request, &ca, &dir, &files, now)?;
    // Another run that was faster did this one's work.
    work.drop_renewed(&earlier);
    let made = work.make(request, &mut ca, now)?;
    // What a run of other commands owes is told by those who know to whom.
    let debt = store.earlier_debt();
    let is_own = debt.files().is_subset(&work.places());
    let debt = Some(debt).filter(|debt| is_own && !debt.files().is_empty());
    let mut renewal = work.renewal(recovered);
    renewal.changed.extend(debt.iter().flat_map(store::Debt::files));
    let Some(Made { mut transaction, issued, clamped }) = made else {
        debt.into_iter().for_each(|debt| renewal.report.aftermath.take_over(debt));
        return Ok(renewal);
    };
    for record in &issued {
        transaction.log(log::certificate("rotate", "issue", record, now));
    }
    renewal.changed.extend(transaction.paths().map(|path| dir.join(path)));
    renewal.changed.sort();
    renewal.changed.dedup();
    transaction.by("rotate");
    let committed = store.commit(transaction)?;
    renewal.report.aftermath = session::conclude(&mut store, committed, request.backups);
    debt.into_iter().for_each(|debt| renewal.report.aftermath.take_over(debt));
    renewal.report.plan.notes.push(format!(
        "certkit's lock, log and backups for these files are in {}; to go back: certkit --dir {} rotate --rollback",
        dir.join(".certkit").display(),
        dir.display()
    ));
    (renewal.report.issued, renewal.report.clamped) = (issued, clamped);
    Ok(renewal)
}

/// What was found, and what follows from it.
struct Work {
    /// By the number that the plan's steps have.
    credentials: Vec<Option<Renewable>>,
    plan: Plan,
    dir: PathBuf,
}

/// What is written, and what to tell of it.
struct Made {
    transaction: Transaction,
    issued: Vec<Record>,
    clamped: Vec<(String, Timestamp)>,
}

impl Work {
    fn look(
        request: &Request<'_>,
        ca: &Ca,
        dir: &Path,
        files: &[Located],
        now: Timestamp,
    ) -> Result<Self, Error> {
        ca.check(now)?;
        let mut work =
            Self { credentials: Vec::new(), plan: Plan::default(), dir: dir.to_path_buf() };
        for located in files {
            let is_key_needed = request.choice != Some(KeyChoice::Existing);
            let found = Renewable::read(located, request.key, dir, is_key_needed);
            let number = work.credentials.len();
            match found {
                Ok(credential) if credential.certificate().is_ca() => {
                    return Err(Error::Authority(located.path.clone()));
                }
                Ok(credential) => {
                    work.judge(request, ca, number, &credential, now);
                    work.credentials.push(Some(credential));
                }
                Err(obstacle) => {
                    work.block(&located.inside, Some(Reason::Asked), false, obstacle);
                    work.credentials.push(None);
                }
            }
        }
        work.refuse_shared_keys();
        work.withhold()?;
        Ok(work)
    }

    /// Whether this one is renewed, and if not, why.
    fn judge(
        &mut self,
        request: &Request<'_>,
        ca: &Ca,
        number: usize,
        credential: &Renewable,
        now: Timestamp,
    ) {
        let certificate = credential.certificate();
        let validity = certificate.validity();
        let label = credential.file().display().to_string();
        let reason = match request.within {
            None => Reason::Asked,
            within if is_due(validity, within, now) => {
                let not_after = validity.not_after;
                Reason::Expiring { not_after, left: not_after.since(now) }
            }
            Some(_) => {
                let next = &mut self.plan.next;
                if next.as_ref().is_none_or(|(_, end)| validity.not_after < *end) {
                    *next = Some((label.clone(), validity.not_after));
                }
                let (action, files, reason) =
                    (Action::Keep, vec![label.clone().into()], Reason::Right);
                return self.plan.steps.push(Step { action, label, files, reason });
            }
        };
        let expired = validity.not_after < now;
        let end = ca.signer().validity().not_after;
        let obstacle = if !request.force && !ca.signed(certificate) {
            Some(ca.stranger(credential))
        } else if request.within.is_some() && validity.not_after >= end {
            Some(Obstacle::AuthorityEnds { authority: request.ca.into(), not_after: end })
        } else {
            None
        };
        if let Some(obstacle) = obstacle {
            return self.block(credential.file(), Some(reason), expired, obstacle);
        }
        let key = request.choice.unwrap_or(credential.usual_key());
        let files = credential.files(key);
        let algorithm = certificate.algorithm().or(credential.key_algorithm());
        if key == KeyChoice::New && algorithm.is_none() {
            let why = format!("its key is {}, of which certkit makes none", certificate.key_text());
            let obstacle = broken(credential.file(), &why, "keep the key with --reuse-key");
            return self.block(credential.file(), Some(reason), expired, obstacle);
        }
        let order = Order {
            instance: number,
            slot: crate::model::authority::Slot::Active,
            place: credential.place(),
            request: (PathBuf::new(), PathBuf::new()),
            key,
            // Where the key stays, none is made.
            algorithm: algorithm.unwrap_or(KeyAlgorithm::EcdsaP256),
            profile: certificate.profile(),
            validity: term(validity, &self.dir, now),
            copies: true,
            signer: None,
            chain: Vec::new(),
            kubeconfig: None,
        };
        let action = Action::Issue(Box::new(order));
        self.plan.steps.push(Step { action, label, files, reason });
    }

    fn block(&mut self, file: &Path, due: Option<Reason>, expired: bool, obstacle: Obstacle) {
        let label = file.display().to_string();
        let file = file.to_path_buf();
        self.plan.blocked.push(Blocked { label, file, due, expired, obstacle });
    }

    /// Takes a step out of the plan.
    fn keep(&mut self, at: usize, file: PathBuf, why: String, hint: String) {
        let step = &mut self.plan.steps[at];
        let due = Some(step.drop());
        let label = PathBuf::from(&step.label);
        self.block(&label, due, false, Obstacle::Broken { file, why, hint });
    }

    /// Two certificates of one key cannot both get a new one.
    fn refuse_shared_keys(&mut self) {
        let mut seen = BTreeSet::new();
        let mut shared = Vec::new();
        for (at, step) in self.plan.steps.iter().enumerate() {
            if step.key() == Some(KeyChoice::New) {
                let twice = step.files.iter().find(|file| !seen.insert((*file).clone()));
                shared.extend(twice.map(|file| (at, file.clone())));
            }
        }
        for (at, file) in shared {
            let why = "is the key of another certificate that is renewed, too".to_owned();
            self.keep(at, file, why, "keep the key with --reuse-key".into());
        }
    }

    /// Takes back what the system or a link will not let be changed: the same for a dry run as for the run.
    fn withhold(&mut self) -> Result<(), Error> {
        let files: Vec<PathBuf> =
            self.plan.changes().flat_map(|step| step.files.iter().cloned()).collect();
        let refused =
            session::refusals(&self.dir, files.iter().map(|file| (file.as_path(), None)))?;
        for (file, error) in refused {
            if matches!(error, store::Error::Unchangeable { .. }) {
                return Err(error.into());
            }
            let steps = self.plan.steps.iter();
            let at = steps
                .enumerate()
                .find(|(_, step)| step.action != Action::Keep && step.files.contains(&file));
            let Some((at, _)) = at else { continue };
            let hint = error.hint().unwrap_or_else(|| {
                "name a folder that holds both with --dir, or mend that; then run it again".into()
            });
            self.keep(at, file, with_causes(&error), hint);
        }
        Ok(())
    }

    /// The files of all that was named, absolute.
    fn places(&self) -> BTreeSet<PathBuf> {
        let all = self.credentials.iter().flatten();
        all.flat_map(|one| one.files(KeyChoice::New)).map(|file| self.dir.join(file)).collect()
    }

    /// The fingerprint of each certificate.
    fn fingerprints(&self) -> Vec<Option<String>> {
        let all = self.credentials.iter();
        all.map(|one| one.as_ref().map(|one| one.certificate().fingerprint_hex())).collect()
    }

    /// Keeps what another run has renewed since this one looked first.
    fn drop_renewed(&mut self, earlier: &[Option<String>]) {
        let now = self.fingerprints();
        for step in &mut self.plan.steps {
            if let Some(number) = step.instance()
                && earlier.get(number) != now.get(number)
            {
                step.drop();
            }
        }
    }

    /// What a dry run says of a key that the run will have to open.
    fn sealed(&self, request: &Request<'_>, ca: &Ca) -> Vec<String> {
        match ca.is_sealed() && !self.plan.is_empty() {
            true => password::notes(std::slice::from_ref(&ca.key_file), request.passwords),
            false => Vec::new(),
        }
    }

    /// Makes in memory what the plan says. Where somebody would have to be asked for a password, a dry run does not.
    fn make(
        &self,
        request: &Request<'_>,
        ca: &mut Ca,
        now: Timestamp,
    ) -> Result<Option<Made>, Error> {
        if self.plan.is_empty() {
            return Ok(None);
        }
        let asks = ca.is_sealed() && matches!(request.passwords, Passwords::Asked { .. });
        if request.dry_run && asks {
            return Ok(None);
        }
        let issuer = ca.open(request.passwords)?;
        let mut made = Made {
            transaction: Transaction::new(&now.to_compact()),
            issued: Vec::new(),
            clamped: Vec::new(),
        };
        for step in self.plan.changes() {
            let Action::Issue(order) = &step.action else { continue };
            let found = self.credentials.get(order.instance).and_then(Option::as_ref);
            let Some(credential) = found else { continue };
            let file = || self.dir.join(credential.file());
            let old = credential.certificate();
            // Of several certificates in its file, which one is the encrypted key's shows only now.
            if !request.force && !old.signed_by(ca.signer()) {
                let why = format!(
                    "the key is of `{}`, which did not sign {}",
                    ca.signer().subject(),
                    step.label
                );
                return Err(Error::Ca { path: ca.file.clone(), why });
            }
            let fresh = match order.key {
                KeyChoice::New => Some(
                    PrivateKey::generate(order.algorithm)
                        .map_err(|source| Error::Key { file: file(), source })?,
                ),
                KeyChoice::Existing => None,
            };
            let public_key = fresh.as_ref().map_or(old.public_key(), PrivateKey::public_key);
            let wanted =
                issue::Issuance { profile: &order.profile, validity: order.validity, public_key };
            let issued = issue::reissue(&wanted, &issuer, old)
                .map_err(|source| Error::Issue { file: file(), source })?;
            let chain = ca.chain(credential);
            let written = credential
                .write(&issued.certificate, chain.as_deref(), fresh.as_ref())
                .map_err(|source| Error::Write { file: file(), source })?;
            for (path, content, is_secret) in written {
                let mode = if is_secret { SECRET } else { PUBLIC };
                made.transaction.write_keeping_mode(path, content, mode);
            }
            let not_after = issued.certificate.validity().not_after;
            if issued.clamped {
                made.clamped.push((step.label.clone(), not_after));
            }
            made.issued.push(Record {
                label: step.label.clone(),
                instance: order.instance,
                files: step.files.clone(),
                fingerprint: issued.certificate.fingerprint_hex(),
                replaced: Some(old.fingerprint_hex()),
                serial: issued.certificate.serial_hex(),
                key: order.key,
                not_after,
                reason: step.reason.to_string(),
            });
        }
        Ok(Some(made))
    }

    fn renewal(self, recovered: Option<String>) -> Renewed {
        let report = Report {
            cluster: declared::anything(&self.dir),
            declared: false,
            plan: self.plan,
            issued: Vec::new(),
            clamped: Vec::new(),
            places: Vec::new(),
            served: Vec::new(),
            amended: Vec::new(),
            aftermath: session::Aftermath::default(),
            recovered,
            only_nodes: false,
        };
        Renewed { dir: self.dir, report, changed: Vec::new() }
    }
}

/// As long a life as the old one had, from now.
fn term(old: Validity, dir: &Path, now: Timestamp) -> Validity {
    let not_before = now.minus(BACKDATE);
    let life = match old.not_after.since(old.not_before) {
        // Nobody means a life that is over at once.
        life if life <= Span(60) => declared::anything(dir).validity.leaf,
        life => life,
    };
    Validity { not_before, not_after: not_before.plus(life) }
}

/// The directory whose lock and backups it is, and each file once, with its place there.
fn locate(request: &Request<'_>) -> Result<(PathBuf, Vec<Located>), Error> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for file in request.files {
        let path = absolute(Path::new(file));
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let dir = match request.dir {
        Some(dir) => dir.to_path_buf(),
        None if paths.iter().all(|path| path.starts_with(request.usual)) => {
            request.usual.to_path_buf()
        }
        None => {
            let common = common_folder(paths.iter().cloned().chain(request.key.map(absolute)))?;
            // What certkit keeps already has its records where certkit.yaml is.
            let is_kept = |dir: &&Path| dir.join(declared::FILE).is_file();
            common.ancestors().find(is_kept).unwrap_or(&common).to_path_buf()
        }
    };
    let place = |path: PathBuf| match inside(&dir, &path) {
        Some(inside) => Ok(Located { path, inside }),
        None => Err(Error::Outside { file: path, dir: dir.clone() }),
    };
    let files = paths.into_iter().map(place).collect::<Result<_, _>>()?;
    Ok((dir, files))
}

/// The folder that holds all of these. One that merely happens to be above them is nobody's to keep records in.
fn common_folder(paths: impl Iterator<Item = PathBuf>) -> Result<PathBuf, Error> {
    let folders: BTreeSet<PathBuf> =
        paths.filter_map(|path| path.parent().map(Path::to_path_buf)).collect();
    let mut folders = folders.into_iter();
    let first = folders.next().unwrap_or_else(|| PathBuf::from("/"));
    let mut common = first.clone();
    for folder in folders {
        while !folder.starts_with(&common) && common.pop() {}
    }
    // `/` and what is right below it are for everything.
    let is_high = common.components().count() <= 2;
    match common != first && is_high {
        true => Err(Error::Apart(common)),
        false => Ok(common),
    }
}

/// A path from the root. Where it leads up, its folder is the real one: `..` means nothing behind a link.
fn absolute(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let leads_up = absolute.components().any(|c| c == std::path::Component::ParentDir);
    let folder = absolute.parent().filter(|_| leads_up).and_then(|f| f.canonicalize().ok());
    match (folder, absolute.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => absolute,
    }
}

/// A path relative to a directory that it is below, by name or in truth.
fn inside(dir: &Path, path: &Path) -> Option<PathBuf> {
    if let Ok(inside) = path.strip_prefix(dir) {
        return Some(inside.to_path_buf());
    }
    let folder = path.parent()?.canonicalize().ok()?;
    let inside = folder.strip_prefix(dir.canonicalize().ok()?).ok()?;
    Some(inside.join(path.file_name()?))
}

/// Refuses what DIR's certkit.yaml declares: the next `certkit rotate` would undo it.
fn refuse_declared(dir: &Path, files: &[Located]) -> Result<(), Error> {
    let Some(cluster) = declared::find(dir)? else { return Ok(()) };
    let layout = Layout::new(&cluster);
    let laid_out: BTreeSet<PathBuf> =
        layout.instances.iter().flat_map(|instance| instance.place.files()).collect();
    match files.iter().find(|located| laid_out.contains(&located.inside)) {
        Some(located) => {
            Err(Error::Declared { file: located.inside.clone(), dir: dir.to_path_buf() })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(paths: &[&str]) -> Result<PathBuf, Error> {
        common_folder(paths.iter().map(PathBuf::from))
    }

    #[test]
    fn the_folder_of_the_files_keeps_the_records() {
        assert_eq!(common(&["/certs/a.crt", "/certs/b.crt"]).unwrap(), Path::new("/certs"));
        assert_eq!(
            common(&["/srv/k/tls/etcd/a", "/srv/k/tls/b"]).unwrap(),
            Path::new("/srv/k/tls")
        );
        assert_eq!(common(&["/srv/k/x/a", "/srv/k/xy/b"]).unwrap(), Path::new("/srv/k"));
        for apart in [["/etc/a/x", "/var/b/y"], ["/etc/a/x", "/etc/b/y"]] {
            assert!(matches!(common(&apart), Err(Error::Apart(_))), "{apart:?}");
        }
    }
}
