//! Applying: everything a plan makes is made in memory first, then handed to the store as one
//! transaction. It decides nothing: the steps say all of it.

mod make;
mod write;

pub use write::destination;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    observe::Observation,
    password::{self, Passwords},
};
use crate::{
    document::kubeconfig::KubeconfigError,
    model::{
        authority::Slot,
        layout::Layout,
        plan::{Action, KeyChoice, Order, Plan, Reason, Step},
        timestamp::Timestamp,
    },
    parallel::progress,
    pki::{
        inspect::Certificate,
        issue::{IssueError, IssuingCa},
        key::{CaKey, KeyError, PrivateKey, PublicKey},
    },
    store::{NewOwner, Transaction},
};

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or request.
    #[error("cannot issue {label}")]
    Issue {
        /// Which.
        label: String,
        /// Why.
        source: IssueError,
    },
    /// A key.
    #[error("cannot make a key for {label}")]
    Key {
        /// For what.
        label: String,
        /// Why.
        source: KeyError,
    },
    /// A kubeconfig cannot be changed in place.
    #[error("cannot renew the credential in {}", path.display())]
    Kubeconfig {
        /// The kubeconfig.
        path: PathBuf,
        /// Why not.
        source: KubeconfigError,
    },
    /// A CA's key is encrypted and stays so.
    #[error(transparent)]
    Password(#[from] password::Error),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Issue { source, .. } => source.hint(),
            Self::Key { source, .. } => source.hint(),
            Self::Kubeconfig { source, .. } => source.hint().map(str::to_owned),
            Self::Password(error) => error.hint(),
        }
    }
}

/// What will be written, and what to tell of it.
pub struct Prepared {
    /// The change.
    pub transaction: Transaction,
    /// Certificates whose term was cut to their CA's: label and new end.
    pub clamped: Vec<(String, Timestamp)>,
    /// Every certificate that was issued.
    pub issued: Vec<Record>,
    /// The paths that each step of the plan writes, by its number.
    written: BTreeMap<usize, Vec<PathBuf>>,
}

impl Prepared {
    /// Takes out what a step of the plan would write.
    pub fn withhold(&mut self, number: usize, step: &Step) {
        for path in self.written.remove(&number).unwrap_or_default() {
            self.transaction.withhold(&path);
        }
        if step.key().is_some() {
            let instance = step.instance();
            self.issued.retain(|record| Some(record.instance) != instance);
            self.clamped.retain(|(label, _)| *label != step.label);
        }
    }
}

/// A certificate that was issued, for the log and for people.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is.
    pub label: String,
    /// Its index in [`Layout::instances`].
    pub instance: usize,
    /// Its files, relative to DIR.
    pub files: Vec<PathBuf>,
    /// SHA-256 in hexadecimal.
    pub fingerprint: String,
    /// The same of the certificate it replaces.
    pub replaced: Option<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Whether its key is a new one.
    pub key: KeyChoice,
    /// Its end.
    pub not_after: Timestamp,
    /// Why it was issued.
    pub reason: String,
}

/// Makes everything in memory.
pub fn prepare(
    plan: &Plan,
    layout: &Layout<'_>,
    observation: Observation,
    dir: &Path,
    now: Timestamp,
    passwords: &Passwords,
) -> Result<Prepared, Error> {
    let mut workshop = Workshop::new(layout, observation, dir, now, passwords);
    workshop.open_signers(plan)?;
    // CAs first and one after the other, as they sign each other; then leaves on all cores.
    let is_ca = |order: &Order| layout.instances[order.instance].spec.is_ca();
    let orders = || plan.changes().filter_map(ordered);
    let authorities: Vec<(&Order, bool)> = orders().filter(|(order, _)| is_ca(order)).collect();
    // A long RSA key takes seconds.
    let task = progress::task("CAs", Some(authorities.len()));
    for (order, request) in authorities {
        workshop.make_authority(order, request)?;
        task.step();
    }
    drop(task);
    for step in plan.changes() {
        match &step.action {
            Action::CrossSign(index) => workshop.cross_sign(*index)?,
            Action::Resend(order) => workshop.take(order),
            _ => {}
        }
    }
    let leaves: Vec<(&Order, bool)> = orders().filter(|(order, _)| !is_ca(order)).collect();
    workshop.make_leaves(&leaves)?;
    workshop.write_all(&plan.steps)
}

/// What a step orders, and whether as a request.
fn ordered(step: &Step) -> Option<(&Order, bool)> {
    match &step.action {
        Action::Issue(order) => Some((order, false)),
        Action::Request(order) => Some((order, true)),
        _ => None,
    }
}

/// The CAs that a plan signs with, those that sign themselves anew among them; one that signs nothing now need not be
/// able to.
fn signers(plan: &Plan) -> impl Iterator<Item = (usize, Slot)> {
    plan.changes().flat_map(|step| match &step.action {
        Action::Issue(order) => {
            let own = order.key == KeyChoice::Existing && order.signer.is_none();
            let own = own.then_some((order.instance, order.slot));
            order.signer.into_iter().chain(own)
        }
        Action::CrossSign(index) => Some((*index, Slot::Active)).into_iter().chain(None),
        _ => None.into_iter().chain(None),
    })
}

/// Tries the password, where one was given, on every encrypted key that the plan signs with; gives the
/// files of those keys. This is all of applying a plan that could fail for want of a password.
pub fn try_password(
    plan: &Plan,
    observation: &Observation,
    dir: &Path,
    passwords: &Passwords,
) -> Result<Vec<PathBuf>, Error> {
    let signers: BTreeSet<(usize, Slot)> = signers(plan).collect();
    let mut files = Vec::new();
    // Nothing but the active generation signs what these plans order.
    for index in signers.into_iter().filter(|(_, slot)| *slot == Slot::Active).map(|(i, _)| i) {
        let Some(CaKey::Sealed(key)) = observation.keys.get(&index) else { continue };
        let file = observation.observed.instances[index].place.key();
        if let Passwords::Given(_) = passwords {
            let all = observation.certificates.get(&index);
            let hint = all.and_then(|all| all.first()).map(Certificate::public_key);
            passwords.open(&dir.join(file), key, hint)?;
        }
        files.push(file.clone());
    }
    Ok(files)
}

/// A certificate that was signed elsewhere, and the key that was made for it here.
pub struct Import {
    /// Where it goes.
    pub order: Order,
    /// The certificate.
    pub certificate: Certificate,
    /// What follows it in its file.
    pub chain: Vec<Certificate>,
    /// Its key; none where its host has it.
    pub key: Option<PrivateKey>,
}

/// Puts certificates in their places that were signed elsewhere, with their keys.
pub fn publish(
    imports: Vec<Import>,
    layout: &Layout<'_>,
    observation: Observation,
    dir: &Path,
    now: Timestamp,
) -> Result<Prepared, Error> {
    let mut workshop = Workshop::new(layout, observation, dir, now, &Passwords::Nowhere);
    let mut steps = Vec::new();
    for Import { mut order, certificate, chain, key } in imports {
        let index = order.instance;
        let old = workshop.keys.get(&index);
        let is_new = |key: &PrivateKey| old.is_none_or(|old| old.public_key() != key.public_key());
        let is_new = key.as_ref().is_some_and(is_new);
        let pem = key.map(|key| key.to_pem(old.map_or(key.format(), PrivateKey::format)));
        order.key = if is_new { KeyChoice::New } else { KeyChoice::Existing };
        let (key, kept_key) = if is_new { (pem, None) } else { (None, pem) };
        let made = Made::Certificate { certificate, chain, clamped: false };
        workshop.products.insert(index, Product { key, kept_key, made });
        steps.push(Step {
            label: layout.instances[index].label(),
            files: order.place.files(),
            action: Action::Issue(Box::new(order)),
            reason: Reason::Signed,
        });
    }
    workshop.write_all(&steps)
}

/// Where certificates are made: what was observed, and what has been made so far.
struct Workshop<'a> {
    layout: &'a Layout<'a>,
    dir: &'a Path,
    now: Timestamp,
    passwords: &'a Passwords,
    /// Keys of CAs that are there, which a password may keep.
    sealed: BTreeMap<(usize, Slot), CaKey>,
    /// Keys of leaves that are there.
    keys: BTreeMap<usize, PrivateKey>,
    /// Keys that hosts made and ask a certificate for.
    asked: BTreeMap<usize, PublicKey>,
    /// Keys of key pairs that are made.
    key_pairs: BTreeMap<usize, PrivateKey>,
    /// Certificates that are there, with what follows them in their files.
    certificates: BTreeMap<usize, Vec<Certificate>>,
    /// The same of other generations of CAs.
    aside: BTreeMap<(usize, Slot), Vec<Certificate>>,
    /// The fingerprints of what is there.
    fingerprints: BTreeMap<usize, String>,
    kubeconfigs: BTreeMap<usize, Zeroizing<Vec<u8>>>,
    /// Content of files that others are copies of: as it is, and once it is written as it will be.
    originals: std::collections::HashMap<PathBuf, Zeroizing<Vec<u8>>>,
    /// To whom files are given.
    owners: BTreeMap<PathBuf, NewOwner>,
    /// The CAs that sign: those that are there, and those just made.
    issuers: BTreeMap<(usize, Slot), IssuingCa>,
    /// Whose keys the plan needs.
    signing: BTreeSet<(usize, Slot)>,
    /// Certificates by which CAs vouch for their next generation.
    crossed: BTreeMap<usize, Certificate>,
    /// What was made, by instance.
    products: BTreeMap<usize, Product>,
}

/// What was made for one instance.
struct Product {
    /// The key as PEM, to be written; none where the existing one stays.
    key: Option<Zeroizing<String>>,
    /// The key as PEM when both live in one file and the existing one stays.
    kept_key: Option<Zeroizing<String>>,
    made: Made,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are certificates")]
enum Made {
    /// The certificate, and what an importer wants to follow it.
    Certificate { certificate: Certificate, chain: Vec<Certificate>, clamped: bool },
    /// A certificate request, DER.
    Request(Vec<u8>),
}

impl<'a> Workshop<'a> {
    fn new(
        layout: &'a Layout<'a>,
        observation: Observation,
        dir: &'a Path,
        now: Timestamp,
        passwords: &'a Passwords,
    ) -> Self {
        let (mut sealed, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for (index, key) in observation.keys {
            match key {
                CaKey::Clear(key) if !layout.instances[index].spec.is_ca() => {
                    keys.insert(index, key);
                }
                key => {
                    sealed.insert((index, Slot::Active), key);
                }
            }
        }
        let mut aside = BTreeMap::new();
        for (generation, (certificates, key)) in observation.aside {
            aside.insert(generation, certificates);
            sealed.extend(key.map(|key| (generation, key)));
        }
        let held = observation.observed.instances.iter().enumerate();
        let fingerprints =
            held.filter_map(|(i, h)| Some((i, h.certificate()?.fingerprint.clone())));
        Self {
            layout,
            dir,
            now,
            passwords,
            sealed,
            keys,
            asked: observation.asked,
            key_pairs: BTreeMap::new(),
            fingerprints: fingerprints.collect(),
            certificates: observation.certificates,
            aside,
            kubeconfigs: observation.kubeconfigs,
            originals: observation.originals,
            owners: observation.owners,
            issuers: BTreeMap::new(),
            signing: BTreeSet::new(),
            crossed: BTreeMap::new(),
            products: BTreeMap::new(),
        }
    }

    /// Opens the keys that the plan signs with.
    fn open_signers(&mut self, plan: &Plan) -> Result<(), Error> {
        self.signing = signers(plan).collect();
        let made: BTreeSet<(usize, Slot)> = plan
            .changes()
            .filter_map(ordered)
            .map(|(order, _)| (order.instance, order.slot))
            .collect();
        for (index, slot) in signers(plan).filter(|signer| !made.contains(signer)) {
            let Some(key) = self.sealed.remove(&(index, slot)) else { continue };
            let all = match slot {
                Slot::Active => self.certificates.get(&index),
                aside => self.aside.get(&(index, aside)),
            };
            let Some(all) = all else { continue };
            let key = match key {
                CaKey::Sealed(key) => {
                    let home = &self.layout.instances[index].spec.home;
                    let file = slot.pair(home).map(|(_, key)| self.dir.join(key));
                    let file = file.unwrap_or_default();
                    self.passwords.open(&file, &key, all.first().map(Certificate::public_key))?
                }
                CaKey::Clear(key) => key,
            };
            // Whose key an encrypted one is shows only now.
            let signer = all.iter().find(|c| c.public_key() == key.public_key()).or(all.first());
            let Some(signer) = signer.cloned() else { continue };
            let issuer = IssuingCa::new(signer, key)
                .map_err(|source| Error::Issue { label: self.label(index), source })?;
            self.issuers.insert((index, slot), issuer);
        }
        Ok(())
    }

    fn label(&self, index: usize) -> String {
        self.layout.instances[index].label()
    }
}

fn secret(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}
