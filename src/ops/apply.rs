//! Applying: everything a plan makes is made in memory first, then handed to the store as one
//! transaction.

mod make;
mod write;

pub use write::destination;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    observe,
    observe::Observation,
    password::{self, Passwords},
};
use crate::{
    document::kubeconfig::KubeconfigError,
    model::{
        inventory::Inventory,
        layout::{Instance, Layout},
        plan::{Action, KeyChoice, Plan, Reason, Step, rotate::Amendment},
        timestamp::Timestamp,
    },
    pki::{
        inspect::Certificate,
        issue::{IssueError, Issuer},
        key::{CaKey, KeyError, PrivateKey},
    },
    store::Transaction,
};

/// Where the content of new leaves comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The cluster as declared.
    Declared,
    /// The certificate in place, all of it: where nothing is declared, nothing may be lost.
    InPlace,
}

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
    /// Something the plan counts on is not there: the disk changed between observing and applying.
    #[error("{label}: what it is made from is gone; the files changed meanwhile")]
    Gone {
        /// Which.
        label: String,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Issue { source, .. } => source.hint(),
            Self::Key { source, .. } => source.hint(),
            Self::Kubeconfig { source, .. } => source.hint().map(str::to_owned),
            Self::Password(error) => error.hint(),
            Self::Gone { .. } => Some("run it again".into()),
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
        if let Some((instance, _)) = issued(step) {
            self.issued.retain(|record| record.instance != instance);
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
    template: Template,
    passwords: &Passwords,
) -> Result<Prepared, Error> {
    let instances = &layout.instances;
    let signers = signers(plan, instances);
    let job = Job { layout, dir, now, template, passwords };
    let (mut context, mut output) = Context::new(&job, observation, &signers)?;
    context.amendments = plan
        .changes()
        .filter_map(|step| match &step.action {
            Action::Amend { instance, amendment } => Some((*instance, amendment.clone())),
            _ => None,
        })
        .collect();
    // CAs first and one after the other, as they sign each other; then leaves on all cores.
    let mut products: BTreeMap<usize, Product> = BTreeMap::new();
    let mut leaves = Vec::new();
    for step in plan.changes() {
        let Some((index, key)) = issued(step) else { continue };
        if !instances[index].spec.is_ca() {
            leaves.push((index, key, matches!(step.action, Action::Request { .. })));
            continue;
        }
        let product = context.make_authority(index, key, &step.action)?;
        products.insert(index, product);
    }
    products.extend(context.make_leaves(&leaves)?);
    for (number, step) in plan.steps.iter().enumerate() {
        let before = output.prepared.transaction.paths().count();
        context.write(step, &products, &mut output)?;
        let added = output.prepared.transaction.paths().skip(before);
        output.prepared.written.insert(number, added.map(Path::to_path_buf).collect());
    }
    Ok(output.prepared)
}

/// The CAs that a plan signs with; one that signs nothing now need not be able to.
fn signers<'a>(plan: &Plan, instances: &[Instance<'a>]) -> BTreeSet<&'a str> {
    plan.changes()
        .filter_map(|step| match step.action {
            Action::Issue { instance, .. } => instances[instance].issuer,
            _ => None,
        })
        .collect()
}

/// Tries the password, where one was given, on every encrypted key that the plan signs with; gives the
/// files of those keys. This is all of applying a plan that could fail for want of a password.
pub fn try_password(
    plan: &Plan,
    layout: &Layout<'_>,
    observation: &Observation,
    dir: &Path,
    passwords: &Passwords,
) -> Result<Vec<PathBuf>, Error> {
    let instances = &layout.instances;
    let signers = signers(plan, instances);
    let mut files = Vec::new();
    for (index, authority) in &observation.authorities {
        let Some(CaKey::Sealed(key)) = &authority.key else { continue };
        if !signers.contains(instances[*index].spec.id) {
            continue;
        }
        let file = observation.inventory.instances[*index].place.key();
        if let Passwords::Given(_) = passwords {
            let hint = authority.certificates.first().map(Certificate::public_key);
            passwords.open(&dir.join(file), key, hint)?;
        }
        files.push(file.clone());
    }
    Ok(files)
}

/// A certificate that was signed elsewhere, and the key that was made for it here.
pub struct Import {
    /// The instance's index.
    pub instance: usize,
    /// The certificate.
    pub certificate: Certificate,
    /// What follows it in its file.
    pub chain: Vec<Certificate>,
    /// Its key.
    pub key: PrivateKey,
}

/// Puts certificates in their places that were signed elsewhere, with their keys.
pub fn publish(
    imports: Vec<Import>,
    layout: &Layout<'_>,
    observation: Observation,
    dir: &Path,
    now: Timestamp,
) -> Result<Prepared, Error> {
    let instances = &layout.instances;
    let passwords = &Passwords::Nowhere;
    let job = Job { layout, dir, now, template: Template::Declared, passwords };
    let (context, mut output) = Context::new(&job, observation, &BTreeSet::new())?;
    for Import { instance: index, certificate, chain, key } in imports {
        let place = context.place(index);
        let old = context.keys.get(&index);
        let format = old.map_or(key.format(), PrivateKey::format);
        let is_new = old.is_none_or(|old| old.public_key() != key.public_key());
        let pem = key.to_pem(format);
        let choice = if is_new { KeyChoice::New } else { KeyChoice::Existing };
        let step = Step {
            action: Action::Issue { instance: index, key: choice },
            label: instances[index].label(),
            files: place.files(),
            reason: Reason::Signed,
        };
        let (key, kept_key) = if is_new { (Some(pem), None) } else { (None, Some(pem)) };
        let made = Made::Certificate { certificate, chain, clamped: false };
        let product = Product { key, kept_key, made };
        context.write(&step, &BTreeMap::from([(index, product)]), &mut output)?;
    }
    Ok(output.prepared)
}

/// The instance that a step issues or requests, and its key.
fn issued(step: &Step) -> Option<(usize, KeyChoice)> {
    match step.action {
        Action::Issue { instance, key } | Action::Request { instance, key } => {
            Some((instance, key))
        }
        _ => None,
    }
}

/// What all of an application has in common.
struct Job<'a> {
    layout: &'a Layout<'a>,
    dir: &'a Path,
    now: Timestamp,
    template: Template,
    passwords: &'a Passwords,
}

struct Context<'a> {
    layout: &'a Layout<'a>,
    /// CAs by id, observed or just made.
    authorities: BTreeMap<&'static str, Authority>,
    /// Keys of leaves that are there.
    keys: BTreeMap<usize, PrivateKey>,
    /// Leaves that are there, with what follows them in their files.
    leaves: BTreeMap<usize, Vec<Certificate>>,
    inventory: Inventory,
    /// What configuration files are to hold.
    configs: Vec<Arc<str>>,
    /// What else changes in kubeconfigs, by instance.
    amendments: BTreeMap<usize, Amendment>,
    dir: &'a Path,
    now: Timestamp,
    template: Template,
    passwords: &'a Passwords,
}

/// A CA: its certificates, the signer first, and with its key what signs.
struct Authority {
    certificates: Vec<Certificate>,
    issuer: Option<Issuer>,
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
    /// The certificates for the file: the new one, then its issuers where they belong.
    Certificate { certificate: Certificate, chain: Vec<Certificate>, clamped: bool },
    /// A certificate request, DER.
    Request(Vec<u8>),
}

/// What is being put together.
struct Output {
    prepared: Prepared,
    /// Content of files that others are copies of.
    originals: BTreeMap<PathBuf, Zeroizing<Vec<u8>>>,
    key_pairs: BTreeMap<usize, PrivateKey>,
    /// What verifiers trust, by CA: read once.
    bundles: BTreeMap<&'static str, String>,
}

impl<'a> Context<'a> {
    fn new(
        job: &Job<'a>,
        observation: Observation,
        signers: &BTreeSet<&str>,
    ) -> Result<(Self, Output), Error> {
        let Job { layout, dir, now, template, passwords } = *job;
        let instances = &layout.instances;
        let mut context = Self {
            layout,
            authorities: BTreeMap::new(),
            keys: observation.keys,
            leaves: observation.leaves,
            inventory: observation.inventory,
            configs: observation.configs,
            amendments: BTreeMap::new(),
            dir,
            now,
            template,
            passwords,
        };
        for (index, observe::Authority { mut certificates, key }) in observation.authorities {
            let (id, label) = (instances[index].spec.id, || instances[index].label());
            let hint = certificates.first().map(Certificate::public_key);
            let key = match key.filter(|_| signers.contains(id)) {
                Some(CaKey::Sealed(key)) => {
                    let file = context.inventory.instances[index].place.key();
                    Some(passwords.open(&dir.join(file), &key, hint)?)
                }
                Some(CaKey::Clear(key)) => Some(key),
                None => None,
            };
            // Whose key an encrypted one is shows only now.
            if let Some(key) = &key
                && let Some(signer) =
                    certificates.iter().position(|c| c.public_key() == key.public_key())
            {
                certificates[..=signer].rotate_right(1);
            }
            let signer = certificates.first().cloned().zip(key);
            let issuer = signer
                .map(|(certificate, key)| Issuer::new(certificate, key))
                .transpose()
                .map_err(|source| Error::Issue { label: label(), source })?;
            context.authorities.insert(id, Authority { certificates, issuer });
        }
        let output = Output {
            prepared: Prepared {
                transaction: Transaction::new(&now.to_compact()),
                clamped: Vec::new(),
                issued: Vec::new(),
                written: BTreeMap::new(),
            },
            originals: BTreeMap::new(),
            key_pairs: observation.key_pairs,
            bundles: BTreeMap::new(),
        };
        Ok((context, output))
    }
}

fn gone(instance: &Instance<'_>) -> Error {
    Error::Gone { label: instance.label() }
}

fn secret(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn to_pem(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::to_pem).collect()
}
