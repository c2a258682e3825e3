//! What a command would do, as data: the same whether it is printed (`--dry-run`) or carried out.

use std::{fmt, path::PathBuf};

use super::{duration::Span, timestamp::Timestamp};

pub mod init;
pub mod rotate;

use rotate::Amendment;

/// Steps in the order of the catalogue, each with its reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do, and what to leave as it is.
    pub steps: Vec<Step>,
    /// What the user should know besides.
    pub notes: Vec<String>,
}

impl Plan {
    /// The steps that change something.
    pub fn changes(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.action != Action::Keep)
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

/// What a step does. Indices are those of `Cluster`'s lists of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes the configuration file `config_files[i]`.
    Configure(usize),
    /// Copies `copies[i]`.
    Copy(usize),
    /// Brings the kubeconfig of `instances[i]` up to date.
    Amend {
        /// Whose.
        instance: usize,
        /// How.
        amendment: Amendment,
    },
    /// Writes certkit.yaml: this text, or the cluster as it is declared.
    Declare(Option<String>),
    /// Writes the bundle or chain `derived[i]`.
    Derive(usize),
    /// Makes the key pair `key_pairs[i]`.
    GenerateKeyPair(usize),
    /// Issues the certificate `instances[i]`.
    Issue {
        /// Which.
        instance: usize,
        /// With which key.
        key: KeyChoice,
    },
    /// Leaves everything as it is.
    Keep,
    /// Writes the public keys of the key pair `key_pairs[i]`.
    PublishKey(usize),
    /// Writes the kubeconfig of `instances[i]`, which names its certificate.
    Refer(usize),
    /// Writes a key and a certificate request for `instances[i]`, to be signed elsewhere.
    Request {
        /// Which.
        instance: usize,
        /// With which key.
        key: KeyChoice,
    },
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
    /// Its issuer is replaced.
    NewIssuer,
    /// Something still dials former endpoints of the API.
    Dialled,
    /// It was signed elsewhere.
    Signed,
    /// For more than one reason.
    Several(Vec<Reason>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("asked for"),
            Self::Right => f.write_str("there"),
            Self::Waiting => f.write_str("waits for its signature"),
            Self::Missing => f.write_str("missing"),
            Self::CertificateMissing => f.write_str("its certificate is missing, its key is there"),
            Self::KeyMissing => f.write_str("its key is missing"),
            Self::KeyMismatch => f.write_str("its key is another certificate's"),
            Self::Expiring { not_after, left } if left.0 < 0 => write!(f, "expired {not_after}"),
            Self::Expiring { not_after, .. } => write!(f, "expires {not_after}"),
            Self::Drift(differences) if differences.is_empty() => f.write_str("differs in words"),
            Self::Drift(differences) => write!(f, "differs: {}", differences.join("; ")),
            Self::Dialled => f.write_str("former endpoints are still dialled"),
            Self::NewIssuer => f.write_str("its CA is replaced"),
            Self::Signed => f.write_str("signed elsewhere"),
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
