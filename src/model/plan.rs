//! What a command would do, as data: the same whether it is printed (`--dry-run`) or carried out.
//!
//! [`reconcile::reconcile`] compares what is there with what is to be and decides under a [`Policy`]; the steps it
//! gives say all that is needed to carry them out.

pub mod catch_up;
pub mod credential;
mod cross;
pub mod difference;
mod files;
pub mod kubeconfig;
pub mod obstacle;
pub mod reconcile;
mod succession;
mod term;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    algorithm::KeyAlgorithm,
    authority::{Move, Slot, Stage},
    duration::{Span, Threshold},
    layout::{Instance, Place},
    profile::{Profile, Validity},
    timestamp::Timestamp,
};
use kubeconfig::KubeconfigWrite;
use obstacle::Blocked;

/// In what commands differ: what of all that could be done is.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What certkit.yaml, or a file that it includes, is to hold from now on, where one is to be written.
    pub declaration: Option<NewDeclaration>,
    /// What is missing is made, and what contradicts something else stands against all of it.
    pub completes: bool,
    /// Which leaves are renewed, if any.
    pub renewal: Option<Renewal>,
    /// Which CAs are replaced, by their index, and by which step.
    pub succession: BTreeMap<usize, Move>,
    /// The same of key pairs without certificate.
    pub keys: BTreeMap<usize, Move>,
    /// Of which CAs, by their index, nodes that are behind get what the stage is that these have come to.
    pub catches_up: BTreeSet<usize>,
    /// Which CAs get a new term, with the key and the name they have.
    pub renews: BTreeSet<usize>,
    /// Whether those that are replaced vouch for what follows them, for verifiers that know nothing else.
    pub cross_signs: bool,
    /// Whether a CA's key that is encrypted can be opened.
    pub can_open: bool,
}

/// A file of the declaration that is to be written.
#[derive(Clone, Debug)]
pub struct NewDeclaration {
    /// The file, relative to DIR.
    pub file: PathBuf,
    /// What it is to hold.
    pub text: String,
    /// Why.
    pub reason: Reason,
}

impl Policy {
    /// Makes what is missing.
    pub const COMPLETE: Self = Self {
        declaration: None,
        completes: true,
        renewal: None,
        succession: BTreeMap::new(),
        keys: BTreeMap::new(),
        catches_up: BTreeSet::new(),
        renews: BTreeSet::new(),
        cross_signs: false,
        can_open: false,
    };

    /// The same with those moves only.
    #[must_use]
    pub fn only(&self, is_one: impl Fn(Move) -> bool) -> Self {
        let mut some = self.clone();
        some.succession.retain(|_, step| is_one(*step));
        some.keys.retain(|_, step| is_one(*step));
        some
    }
}

/// Which leaves are renewed, and how.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// Which leaves are looked at.
    pub selection: Selection,
    /// How near to its end is due; none for the usual, and for renewal whatever the time.
    pub within: Option<Threshold>,
    /// Which key new certificates get, whatever the catalogue says.
    pub key: Option<KeyChoice>,
    /// Requests instead of certificates, to be signed elsewhere.
    pub csr_only: bool,
}

/// Which leaves are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All, and those are renewed that are due.
    Due,
    /// All, and all are renewed.
    All,
    /// These instances, by their index.
    Named(BTreeSet<usize>),
}

impl Selection {
    /// Whether this instance is looked at.
    pub fn has(&self, index: usize) -> bool {
        match self {
            Self::Due | Self::All => true,
            Self::Named(names) => names.contains(&index),
        }
    }

    /// Whether it is everything, not what somebody named.
    pub fn is_whole(&self) -> bool {
        !matches!(self, Self::Named(_))
    }
}

/// What is to be done, and what stands against doing it or more.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What to do, and what to leave as it is: in the order of the catalogue, each with its reason.
    pub steps: Vec<Step>,
    /// What the user should know besides.
    pub notes: Vec<String>,
    /// Whether what breaks is told and done all the same.
    pub accepts_broken: bool,
    /// What is due and cannot be done.
    pub blocked: Vec<Blocked>,
    /// What cannot all be right. Where there is any, nothing is to be done.
    pub contradictions: Vec<Contradiction>,
    /// The certificate that will be due next, and when it ends.
    pub next: Option<(String, Timestamp)>,
    /// When time alone makes another plan of it; none where that was not looked for.
    pub until: Option<Timestamp>,
}

impl Plan {
    /// The steps that change something.
    pub fn changes(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.action != Action::Keep)
    }

    /// Notes that from then on it is another one.
    pub fn lasts(&mut self, until: Timestamp) {
        self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes().next().is_none()
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// To what, for people.
    pub label: String,
    /// The files it touches, relative to DIR.
    pub files: Vec<PathBuf>,
    /// Why.
    pub reason: Reason,
}

impl Step {
    /// The instance whose files it changes.
    pub fn instance(&self) -> Option<usize> {
        match &self.action {
            Action::Issue(order) | Action::Request(order) | Action::Resend(order) => {
                Some(order.instance)
            }
            Action::Amend(kubeconfig) | Action::Refer(kubeconfig) => Some(kubeconfig.instance),
            _ => None,
        }
    }

    /// Which key it gives a certificate.
    pub fn key(&self) -> Option<KeyChoice> {
        match &self.action {
            Action::Issue(order) | Action::Request(order) => Some(order.key),
            _ => None,
        }
    }

    /// Whether it writes this file.
    pub fn writes(&self, file: &Path) -> bool {
        let is_named = || self.files.iter().any(|one| one == file);
        match &self.action {
            Action::Keep => false,
            Action::Resend(order) => order.place.cert() == file,
            // A key that is kept is not written, though the step may name it.
            Action::Issue(order) => match order.key {
                KeyChoice::New => is_named(),
                KeyChoice::Existing => order.place.cert() == file,
            },
            _ => is_named(),
        }
    }

    /// Leaves as it is what it was to change; gives why it was to be changed.
    pub fn drop(&mut self) -> Reason {
        self.action = Action::Keep;
        std::mem::replace(&mut self.reason, Reason::Right)
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Brings a kubeconfig up to date, all else in it left alone.
    Amend(KubeconfigWrite),
    /// Writes certificates: a bundle, or a chain.
    Bundle(Vec<CertRef>),
    /// Writes a component's configuration file.
    Configure(Arc<str>),
    /// Copies a file.
    Copy {
        /// From where.
        from: PathBuf,
        /// With which mode.
        mode: u32,
    },
    /// Has the CA that issues vouch for its next generation.
    CrossSign(usize),
    /// Writes certkit.yaml.
    Declare(String),
    /// Makes the next private key of a key pair without certificate.
    GenerateKey {
        /// Its index in the layout.
        index: usize,
        /// Of which kind.
        algorithm: KeyAlgorithm,
    },
    /// Makes a key pair without certificate.
    GenerateKeyPair {
        /// Its index in the layout.
        index: usize,
        /// Of which kind.
        algorithm: KeyAlgorithm,
    },
    /// Issues a certificate.
    Issue(Box<Order>),
    /// Gives a file to its declared owner.
    Give,
    /// Leaves everything as it is.
    Keep,
    /// Writes public keys.
    PublicKeys(Vec<KeyRef>),
    /// Removes a file.
    Remove,
    /// Writes a kubeconfig that names its credential's files.
    Refer(KubeconfigWrite),
    /// Writes a certificate that stays as it is, and what is sent after it.
    Resend(Box<Order>),
    /// Writes a key and a certificate request, to be signed elsewhere.
    Request(Box<Order>),
}

/// A certificate that is to be made, and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The instance.
    pub instance: usize,
    /// Of a CA, which generation.
    pub slot: Slot,
    /// Where its certificate and key go.
    pub place: Place,
    /// Where a request and its key go.
    pub request: (PathBuf, PathBuf),
    /// Whose key it gets.
    pub key: KeyChoice,
    /// Of which kind a new key is.
    pub algorithm: KeyAlgorithm,
    /// What it says.
    pub profile: Profile,
    /// Its term.
    pub validity: Validity,
    /// Whether what certkit gives no meaning to is taken from the certificate in place, too.
    pub copies: bool,
    /// Who signs it: a CA by its index, and which generation of it; none for a root.
    pub signer: Option<(usize, Slot)>,
    /// What follows it in its file.
    pub chain: Vec<CertRef>,
    /// The kubeconfig that embeds it.
    pub kubeconfig: Option<KubeconfigWrite>,
}

/// A certificate that a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertRef {
    /// One that is there, DER.
    There(Vec<u8>),
    /// The one that this very plan makes for an instance.
    Made(usize),
    /// The one by which a CA vouches for its next generation, made by this very plan.
    Crossed(usize),
}

/// A public key that a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRef {
    /// One that is there, DER.
    There(Vec<u8>),
    /// The one that this very plan makes for a key pair.
    Made(usize),
}

/// The key of a new certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The one that is there.
    Existing,
    /// A new one.
    New,
}

/// Why a step is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The user named it.
    Asked,
    /// It is there and right.
    Right,
    /// It is there, and a signature from elsewhere is awaited.
    Waiting,
    /// Its host is to make its key and ask for it.
    Awaited,
    /// Its host asks for it, with a key of its own.
    Requested,
    /// Its key is here, and is to be on its host alone.
    Strays,
    /// It is missing.
    Missing,
    /// Its certificate is missing, its key is there.
    CertificateMissing,
    /// Its key is missing, and a certificate without its key is of no use.
    KeyMissing,
    /// Its key is another certificate's.
    KeyMismatch,
    /// It ends soon.
    Expiring {
        /// When.
        not_after: Timestamp,
        /// How long that is from now; negative once it has passed.
        left: Span,
    },
    /// It no longer is what the cluster declares.
    Drift(Vec<String>),
    /// Something still dials former endpoints of the API.
    Dialled,
    /// It was signed elsewhere.
    Signed,
    /// It is replaced, or its CA is, and goes to this stage.
    Stage(Stage),
    /// For more than one reason.
    Several(Vec<Reason>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("asked for"),
            Self::Right => f.write_str("there"),
            Self::Waiting => f.write_str("waits for its signature"),
            Self::Awaited => f.write_str("waits for its host's request"),
            Self::Requested => f.write_str("asked for by its host"),
            Self::Strays => f.write_str("its key is to be on its host alone"),
            Self::Missing => f.write_str("missing"),
            Self::CertificateMissing => f.write_str("its certificate is missing, its key is there"),
            Self::KeyMissing => f.write_str("its key is missing"),
            Self::KeyMismatch => f.write_str("its key is another certificate's"),
            Self::Expiring { not_after, left } if left.0 < 0 => write!(f, "expired {not_after}"),
            Self::Expiring { not_after, .. } => write!(f, "expires {not_after}"),
            Self::Drift(differences) if differences.is_empty() => f.write_str("differs in words"),
            Self::Drift(differences) => write!(f, "differs: {}", differences.join("; ")),
            Self::Dialled => f.write_str("former endpoints are still dialled"),
            Self::Signed => f.write_str("signed elsewhere"),
            Self::Stage(stage) => write!(f, "replaced: on the way to {stage}"),
            Self::Several(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(Self::to_string).collect();
                f.write_str(&reasons.join("; "))
            }
        }
    }
}

/// Two things that cannot both be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The files it is about, relative to DIR; the first is the one to look at.
    pub files: Vec<PathBuf>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = self.files.first() {
            write!(f, "{}: ", file.display())?;
        }
        f.write_str(&self.what)
    }
}

/// The file of a request, relative to DIR.
pub fn request_file(instance: &Instance<'_>) -> PathBuf {
    // Not with_extension: ids such as admin.conf have a dot of their own.
    PathBuf::from("csr").join(&instance.root).join(format!("{}.csr", instance.spec.id))
}

/// The file of the key of a request, relative to DIR. It stays out of the key's final place, where the
/// certificate that is in use still needs the old one.
pub fn request_key_file(instance: &Instance<'_>) -> PathBuf {
    request_file(instance).with_extension("key")
}
