//! What was observed on disk, as plain data: the input of plans and checks.

use std::path::PathBuf;

use super::{
    algorithm::KeyAlgorithm, layout::Place, name::Name, profile::Profile, profile::Validity,
};

/// A certificate that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct CertView {
    /// What it says.
    pub profile: Profile,
    /// The issuer's name, byte for byte.
    pub issuer: Name,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Its term.
    pub validity: Validity,
    /// The subject public key info, DER.
    pub public_key: Vec<u8>,
    /// The key's algorithm, if it is one certkit knows.
    pub algorithm: Option<KeyAlgorithm>,
    /// SHA-256 of the certificate in hexadecimal.
    pub fingerprint: String,
    /// Whether its own key signed it.
    pub self_signed: bool,
}

/// A private key that was read; of the key itself nothing is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The public half, as subject public key info, DER.
    pub public_key: Vec<u8>,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// Whether a password keeps it. Both of the above are then what the certificate beside it says.
    pub is_sealed: bool,
}

/// One piece: there, not there, or there but not what it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece<T> {
    /// It does not exist.
    Missing,
    /// It exists and is nothing certkit can use: why, without the file's name.
    Bad(String),
    /// It exists.
    Present(T),
}

impl<T> Piece<T> {
    /// What is there, if it is there and right.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Missing | Self::Bad(_) => None,
        }
    }

    /// Whether nothing is there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// What was found of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Where its certificate and key really are: as laid out, or as its kubeconfig says.
    pub place: Place,
    /// Its certificate, then whatever else the file holds. Of a CA, the signer first.
    pub certificates: Piece<Vec<CertView>>,
    /// Its key.
    pub key: Piece<KeyView>,
    /// Its kubeconfig, for those that have one.
    pub kubeconfig: Piece<KubeconfigView>,
    /// Whether the issuer's certificate that was found verifies its signature; none if either is missing.
    pub signed_by_issuer: Option<bool>,
    /// Whether a key and a request wait for a signature from elsewhere.
    pub requested: bool,
}

impl Observed {
    /// Its own certificate.
    pub fn certificate(&self) -> Option<&CertView> {
        self.certificates.present().and_then(|all| all.first())
    }
}

/// What matters of a kubeconfig.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeconfigView {
    /// The certificates by which it checks the server; none if that file is not there.
    pub authorities: Piece<Vec<CertView>>,
    /// The file those come from, if not embedded.
    pub authority_file: Option<PathBuf>,
    /// The server's URL.
    pub server: Option<String>,
}

/// What was found of one key pair without certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedKeyPair {
    /// The private key.
    pub private: Piece<KeyView>,
    /// The public keys, DER.
    pub public: Piece<Vec<Vec<u8>>>,
}

/// Another file, of which only the content counts.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedFile {
    /// Relative to DIR.
    pub path: PathBuf,
    /// What it is.
    pub content: Piece<FileContent>,
}

/// The content of a file that is derived from others.
#[derive(Clone, Debug, PartialEq)]
pub enum FileContent {
    /// PEM certificates.
    Certificates(Vec<CertView>),
    /// A copy: whether it is the same as its original.
    Copy {
        /// Whether it is the same as its original.
        same: bool,
    },
}

/// A component's configuration file that a setting names.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedConfig {
    /// Relative to DIR.
    pub path: PathBuf,
    /// What it says.
    pub content: Piece<ConfigState>,
}

/// What a configuration file says, beside what it is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigState {
    /// Somebody edited it, and it differs so.
    Edited(Vec<String>),
    /// It is as certkit wrote it, and differs so from what it would write now; in words alone if in nothing.
    Outdated(Vec<String>),
    /// It says what it is to say, whatever else it says.
    Right,
}

/// Everything observed of a declared cluster.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// As many, and in the same order, as [`super::layout::Layout::instances`].
    pub instances: Vec<Observed>,
    /// As many, and in the same order, as [`super::layout::Layout::key_pairs`].
    pub key_pairs: Vec<ObservedKeyPair>,
    /// Bundles and chains of CAs, in the order of [`super::layout::Layout::derived`].
    pub derived: Vec<ObservedFile>,
    /// Copies, in the order of [`super::layout::Layout::copies`].
    pub copies: Vec<ObservedFile>,
    /// Configuration files, in the order of [`super::layout::Layout::config_files`]; none where nobody looked.
    pub configs: Vec<ObservedConfig>,
    /// Whether DIR/certkit.yaml is there.
    pub declared: bool,
}
