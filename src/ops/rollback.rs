//! `certkit rotate --rollback`: undoes changes, as a change of its own.
//!
//! What can be undone is what there is a backup of, change by change. Undoing one undoes all that came after it:
//! the state before it is what comes back, and never a mixture. A change that is not certkit's is not undone unless
//! that is asked for, nor is anything brought back that would not work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    declared,
    observe::{self, Observation},
    read,
    session::{self, Aftermath},
    takeup::InPlace,
    verify::narrowing,
};
use crate::{
    document::kubeconfig::{self, Material},
    model::{
        cluster::Cluster,
        layout::{Layout, Place},
        observed::Piece,
        shown::{self, with_causes},
        timestamp::Timestamp,
    },
    pki::inspect::{self, Certificate},
    store::{self, After, Backup, Kept, Transaction, Undo},
};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// The first change to be undone, with all that came after it; the last one if none is named.
    pub to: Option<&'a str>,
    /// Also bring back what has expired, break paths that work, and undo what something else changed.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How many backups to keep.
    pub backups: usize,
}

/// What going back did, or would do.
#[derive(Debug)]
pub struct Report {
    /// The cluster.
    pub cluster: Cluster,
    /// Whether certkit.yaml declares it.
    pub declared: bool,
    /// The changes that were undone, in the order in which they had been made.
    pub undone: Vec<Backup>,
    /// What becomes of files, in the order in which they were changed.
    pub files: Vec<store::BackupEntry>,
    /// Changes that are not undone, as their backups are damaged: name and reason.
    pub damaged: Vec<(String, String)>,
    /// What the change left behind; undoing it brings all back.
    pub aftermath: Aftermath,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What listeners should serve from now on.
    pub served: Vec<InPlace>,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
}

/// What speaks against undoing something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// A CA or key that everything hangs on would be gone.
    Authority(PathBuf),
    /// A certificate that comes back has expired.
    Expired(PathBuf, Timestamp),
    /// The CA of a certificate that comes back has expired: the certificate's file and the CA's.
    Orphan(PathBuf, PathBuf, Timestamp),
    /// A path that works now would not.
    Path(String),
    /// Something else has changed the file since.
    Stranger(PathBuf),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(file) => {
                write!(
                    f,
                    "{}: was made by it and would be gone, with all that relies on it",
                    file.display()
                )
            }
            Self::Expired(file, end) => {
                write!(f, "{}: what would come back expired {}", file.display(), end.to_kubeadm())
            }
            Self::Orphan(file, authority, end) => write!(
                f,
                "{}: what would come back is of a CA that expired {} ({})",
                file.display(),
                end.to_kubeadm(),
                authority.display()
            ),
            Self::Path(path) => write!(f, "it would break a path that works: {path}"),
            Self::Stranger(file) => {
                write!(f, "{}: something else than certkit has changed it since", file.display())
            }
        }
    }
}

/// Why nothing was undone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be known whose files these are.
    #[error(transparent)]
    Cluster(#[from] declared::Error),
    /// There is nothing to go back to.
    #[error("{}: there is no backup to go back to", .0.display())]
    NoBackup(PathBuf),
    /// It is not wise.
    #[error("{} was not undone:\n  {}", what.join(", "), list(why))]
    Refused {
        /// The changes.
        what: Vec<String>,
        /// What speaks against it.
        why: Vec<Objection>,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No change has this name.
    #[error("`{}` is no change that can be undone", shown_id(id))]
    Unknown {
        /// The name.
        id: String,
        /// Those there are, the last first.
        known: Vec<String>,
    },
}

/// A change's name as it was asked for. It has many digits, as a key has, and is none.
fn shown_id(id: &str) -> String {
    let is_of_name = |c: char| c.is_ascii_digit() || matches!(c, '-' | 'o' | 'f');
    let rest = id.split_once('-').map(|(_, rest)| rest);
    match time(id).is_some() && rest.is_none_or(|rest| rest.chars().all(is_of_name)) {
        true => id.to_owned(),
        false => shown::name(id),
    }
}

fn list(why: &[Objection]) -> String {
    why.iter().map(Objection::to_string).collect::<Vec<_>>().join("\n  ")
}

impl Error {
    /// Whether the change is decided, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_decided())
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::NoBackup(_) => {
                Some("backups are made by every change, and kept as --backups says".into())
            }
            Self::Refused { .. } => Some(
                "nothing was changed; `certkit rotate --rollback --list` shows what can be undone, and \
                 --force undoes this all the same"
                    .into(),
            ),
            Self::Store(error) => error.hint(),
            Self::Unknown { known, .. } if known.is_empty() => Some("there is none".into()),
            Self::Unknown { known, .. } => Some(format!("use one of {}", known.join(", "))),
        }
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Every change that can be undone, in the order in which they were made.
pub fn changes(dir: &Path) -> Result<Vec<Kept>, Error> {
    if !dir.is_dir() {
        return Err(declared::Error::NoDirectory(dir.to_path_buf()).into());
    }
    Ok(store::backups(dir)?)
}

/// When a change was made, as its name says.
pub fn time(id: &str) -> Option<Timestamp> {
    Timestamp::from_compact(id.split('-').next()?)
}

/// Undoes the change that is named and all that came after it, or says what would be done.
pub fn run(request: &Request<'_>) -> Result<Report, Error> {
    let (dir, now) = (request.dir, request.now);
    let (cluster, declared) = declared::or_anything(dir)?;
    if request.dry_run {
        let (undone, damaged) = select(dir, store::backups(dir)?, request.to)?;
        let Undo { transaction, files, strangers } = session::undo(dir, &undone)?;
        judge(
            request,
            (&cluster, declared),
            &undone,
            (&transaction, &strangers),
            damaged.is_empty(),
        )?;
        let paths = transaction.paths().map(|path| (path, None));
        if let Some((_, error)) = session::refusals(dir, paths)?.into_iter().next() {
            return Err(error.into());
        }
        let (places, served, aftermath) = (Vec::new(), Vec::new(), Aftermath::default());
        let recovered = session::left(dir)?;
        return Ok(Report {
            cluster,
            declared,
            undone,
            files,
            damaged,
            aftermath,
            places,
            served,
            recovered,
        });
    }
    let mut store = session::open(dir, request.lock_wait)?;
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let before = observe::observe(&Layout::new(&cluster), dir);
    let (undone, damaged) = select(dir, store.backups()?, request.to)?;
    let Undo { transaction, files, strangers } = store.undo(&undone)?;
    judge(request, (&cluster, declared), &undone, (&transaction, &strangers), damaged.is_empty())?;
    let mut transaction = transaction.named(&now.to_compact());
    transaction.by("rotate --rollback");
    if !files.is_empty() {
        let names: Vec<&str> = undone.iter().map(|backup| backup.id.as_str()).collect();
        let paths: Vec<&Path> = files.iter().map(|entry| entry.path.as_path()).collect();
        transaction.log(
            serde_json::json!({
                "time": now.to_string(),
                "command": "rotate",
                "action": "restore",
                "name": names.join(" "),
                "files": paths,
                "reason": "asked for",
            })
            .to_string(),
        );
    }
    let committed = store.commit(transaction)?;
    let gone = files.iter().filter(|entry| entry.is_created()).map(|entry| entry.path.as_path());
    store.remove_empty_folders(gone.filter(|path| path.is_relative()));
    let aftermath = session::conclude(&mut store, committed, request.backups);
    // What was restored may be what is declared, too.
    let (cluster, declared) = declared::or_anything(dir)?;
    let after = observe::observe(&Layout::new(&cluster), dir);
    let served = served(&before, &after);
    let places = after.observed.instances.iter().map(|o| o.place.clone()).collect();
    Ok(Report { cluster, declared, undone, files, damaged, aftermath, places, served, recovered })
}

/// Changes that are undone, and those that cannot be.
type Selected = (Vec<Backup>, Vec<(String, String)>);

/// The changes to undo: the last, or one with all that came after it, each with all its parts. A damaged backup stands
/// only in its own way.
fn select(dir: &Path, mut kept: Vec<Kept>, to: Option<&str>) -> Result<Selected, Error> {
    let named = match to {
        None => kept.last().ok_or_else(|| Error::NoBackup(dir.to_path_buf()))?,
        Some(to) => match kept.iter().find(|one| one.id == to) {
            Some(named) => named,
            None => {
                let known = kept.into_iter().rev().map(|one| one.id).collect();
                return Err(Error::Unknown { id: to.to_owned(), known });
            }
        },
    };
    let at = kept.iter().position(|one| one.is_with(named)).unwrap_or_default();
    let mut since = kept.split_off(at).into_iter();
    let mut undone = Vec::new();
    if let Some(first) = since.next() {
        undone.push(first.backup?);
    }
    let mut damaged = Vec::new();
    for one in since {
        match one.backup {
            Ok(backup) => undone.push(backup),
            Err(error) => damaged.push((one.id, with_causes(&error))),
        }
    }
    Ok((undone, damaged))
}

/// Refuses what nobody can want by accident.
fn judge(
    request: &Request<'_>,
    (cluster, declared): (&Cluster, bool),
    undone: &[Backup],
    (change, strangers): (&Transaction, &[PathBuf]),
    is_whole: bool,
) -> Result<(), Error> {
    if request.force {
        return Ok(());
    }
    let (dir, now) = (request.dir, request.now);
    let layout = Layout::new(cluster);
    let mut why = Vec::new();
    // What a change did whose backup is damaged cannot be told from what somebody else did.
    if is_whole {
        why.extend(strangers.iter().cloned().map(Objection::Stranger));
    }
    why.extend(lost(&layout, dir, change));
    why.extend(expired(&layout, dir, change, now));
    let broken = narrowing::broken(cluster, declared, dir, change, now);
    why.extend(broken.into_iter().map(|broken| Objection::Path(broken.path)));
    let mut seen = BTreeSet::new();
    why.retain(|one| seen.insert(one.to_string()));
    if why.is_empty() {
        return Ok(());
    }
    let what = undone.iter().map(|backup| backup.id.clone()).collect();
    Err(Error::Refused { what, why })
}

/// The CAs and keys without certificates that would be gone.
fn lost(layout: &Layout<'_>, dir: &Path, change: &Transaction) -> Vec<Objection> {
    let authorities = layout.instances.iter().filter(|instance| instance.spec.is_ca());
    let mut vital: BTreeSet<PathBuf> =
        authorities.flat_map(|instance| instance.place.files()).collect();
    for pair in &layout.key_pairs {
        vital.extend([PathBuf::from(pair.private), PathBuf::from(pair.public)]);
    }
    let gone = change.outcomes().filter(|(path, after)| {
        let inside = path.strip_prefix(dir).unwrap_or(path);
        matches!(after, After::Nothing) && vital.contains(inside)
    });
    gone.map(|(path, _)| Objection::Authority(path.to_path_buf())).collect()
}

/// Certificates that would come back though they, or their CAs, have expired.
fn expired(
    layout: &Layout<'_>,
    dir: &Path,
    change: &Transaction,
    now: Timestamp,
) -> Vec<Objection> {
    let after: BTreeMap<&Path, After<'_>> = change.outcomes().collect();
    let is_over = |certificate: &Certificate| certificate.validity().not_after < now;
    let mut dead: Vec<(PathBuf, Certificate)> = Vec::new();
    for instance in layout.instances.iter().filter(|instance| instance.spec.is_ca()) {
        let file = instance.place.cert();
        let certificates = match after.get(file.as_path()) {
            Some(After::File(content)) => certificates(content),
            Some(_) => Vec::new(),
            None => match read::file(&dir.join(file)) {
                Piece::Present(content) => certificates(&content),
                Piece::Missing | Piece::Bad(_) => Vec::new(),
            },
        };
        if !certificates.is_empty() && certificates.iter().all(is_over) {
            dead.extend(certificates.into_iter().map(|one| (file.clone(), one)));
        }
    }
    let mut found = Vec::new();
    for (path, after) in change.outcomes() {
        let After::File(content) = after else { continue };
        for own in owned(content) {
            let file = path.to_path_buf();
            let of_dead = |(_, ca): &&(PathBuf, Certificate)| {
                own.issuer() == ca.subject() && own.signed_by(ca)
            };
            if is_over(&own) {
                found.push(Objection::Expired(file, own.validity().not_after));
            } else if let Some((authority, ca)) = dead.iter().find(of_dead) {
                found.push(Objection::Orphan(file, authority.clone(), ca.validity().not_after));
            }
        }
    }
    found
}

/// The certificates that a file is there for: the first of a file, the longest-lived of a bundle, those of a
/// kubeconfig's users.
fn owned(content: &[u8]) -> Vec<Certificate> {
    let mut all = certificates(content);
    if !all.is_empty() {
        if all.iter().all(Certificate::is_ca) {
            all.sort_by_key(|one| std::cmp::Reverse(one.validity().not_after));
        }
        all.truncate(1);
        return all;
    }
    let Ok(view) = kubeconfig::parse(content) else { return Vec::new() };
    let of_users = view.users.iter().filter_map(|user| match &user.cert {
        Some(Material::Data(pem)) => certificates(pem).into_iter().next(),
        _ => None,
    });
    of_users.collect()
}

fn certificates(content: &[u8]) -> Vec<Certificate> {
    inspect::from_pem(content).unwrap_or_default()
}

/// The leaves that are others than before.
fn served(before: &Observation, after: &Observation) -> Vec<InPlace> {
    let instances = after.observed.instances.iter().enumerate();
    instances
        .filter_map(|(index, observed)| {
            let now = observed.certificate()?;
            let then = before.observed.instances.get(index).and_then(|o| o.certificate());
            let changed = then.is_none_or(|then| then.fingerprint != now.fingerprint);
            changed.then(|| InPlace {
                instance: index,
                fingerprint: now.fingerprint.clone(),
                serial: now.serial.clone(),
            })
        })
        .collect()
}
