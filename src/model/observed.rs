//! What was observed below DIR, as plain data: the one input of plans and checks. What needs cryptography, such as
//! whose key made a signature, was found out when it was read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use super::{
    algorithm::KeyAlgorithm,
    catalogue::CertId,
    layout::Place,
    name::Name,
    owner::Ownership,
    profile::{Profile, Validity},
    stage::{Slot, Stage},
    url::host_of,
    usage::KeyUsages,
};

/// Everything observed of a cluster that is laid out.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Whether DIR/certkit.yaml is there.
    pub declared: bool,
    /// What was found of each certificate: as many, and in the same order, as [`super::layout::Layout::instances`].
    pub instances: Vec<Held>,
    /// Other generations of CAs, by the index of the CA and where they are kept.
    pub aside: BTreeMap<(usize, Slot), Held>,
    /// Certificates by which a CA vouches for its successor, by the index of the CA.
    pub crossed: BTreeMap<usize, CertView>,
    /// The key pairs without certificate, in the order of [`super::layout::Layout::key_pairs`].
    pub key_pairs: Vec<HeldKeyPair>,
    /// Bundles and chains of CAs, in the order of [`super::layout::Layout::derived`].
    pub derived: Vec<Bundle>,
    /// The bundles and chains of each CA, by its index.
    pub bundle_files: BTreeMap<usize, Vec<PathBuf>>,
    /// Copies, in the order of [`super::layout::Layout::copies`].
    pub copies: Vec<HeldCopy>,
    /// What is trusted, by the folder of the host and the CA's id.
    pub trust: BTreeMap<(PathBuf, CertId), Trust>,
    /// Those files of CAs and key pairs that are there and could take another's place.
    pub originals: BTreeSet<PathBuf>,
    /// Files that are there and have a declared owner, by path relative to DIR.
    pub owned: BTreeMap<PathBuf, Ownership>,
    /// Declared owners that this machine does not know: the field of `certkit.yaml`, and why.
    pub unknown_owners: Vec<(String, String)>,
    /// Configuration files, in the order of [`super::layout::Layout::config_files`]; none where nobody looked.
    pub configs: Vec<ObservedConfig>,
}

impl Observed {
    /// The bundles and chains of a CA.
    pub fn trusted_files(&self, authority: usize) -> &[PathBuf] {
        self.bundle_files.get(&authority).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The certificates of a file; those that many hosts have are shared.
pub type Bundle = Piece<Arc<Vec<CertView>>>;

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

    /// What else is made of what is there.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Piece<U> {
        match self {
            Self::Missing => Piece::Missing,
            Self::Bad(why) => Piece::Bad(why),
            Self::Present(value) => Piece::Present(make(value)),
        }
    }

    /// The same where making it can fail.
    pub fn and_then<U>(self, make: impl FnOnce(T) -> Result<U, String>) -> Piece<U> {
        match self.map(make) {
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) | Piece::Present(Err(why)) => Piece::Bad(why),
            Piece::Present(Ok(value)) => Piece::Present(value),
        }
    }
}

/// A certificate that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct CertView {
    /// The certificate, DER.
    pub der: Vec<u8>,
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
    /// The last common name.
    pub common_name: Option<String>,
    /// The organizations.
    pub organizations: Vec<String>,
    /// The signature algorithm's name.
    pub signature: String,
    /// Key usage; without the extension every use is allowed.
    pub key_usages: Option<KeyUsages>,
    /// What RFC 5280 forbids and was read all the same.
    pub faults: Vec<String>,
    /// Subject and authority key identifier.
    pub identifiers: (Option<Vec<u8>>, Option<Vec<u8>>),
}

impl CertView {
    /// Whether `ca` may have signed this, by names and identifiers; the signature is not looked at.
    pub fn may_be_signed_by(&self, ca: &Self) -> bool {
        let identifiers = match (&self.identifiers.1, &ca.identifiers.0) {
            (Some(authority), Some(subject)) => authority == subject,
            _ => true,
        };
        self.issuer == ca.profile.subject && identifiers
    }
}

/// A private key that was read; of the key itself nothing is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The public half, as subject public key info, DER.
    pub public_key: Vec<u8>,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
}

/// A private key as found.
#[derive(Clone, Debug, PartialEq)]
pub enum FoundKey {
    /// It does not exist.
    Missing,
    /// It is on its host alone, as is declared: of it only the public half is known, by the host's request or by the
    /// certificate.
    OnHost(KeyView),
    /// It is read and usable.
    Present(KeyView),
    /// A CA's that a password opens: how it is kept. Whose it is shows then.
    Sealed(String),
    /// A password keeps it, and nothing that is to use it can be given one: how.
    Encrypted(String),
    /// It is a key, and too weak to be used: why.
    Weak(String),
    /// It is a key of a kind certkit cannot use: which.
    Unsupported(String),
    /// It is nothing certkit can use: why.
    Bad(String),
    /// It may not be read: why.
    Unreadable(String),
}

impl FoundKey {
    /// The key, if it can be used as it is.
    pub fn present(&self) -> Option<&KeyView> {
        match self {
            Self::Present(key) => Some(key),
            _ => None,
        }
    }

    /// Whether nothing is there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// Whether it is there and this certificate's, as far as one can see.
    pub fn is_of(&self, certificate: &CertView) -> bool {
        match self {
            Self::OnHost(key) | Self::Present(key) => key.public_key == certificate.public_key,
            Self::Sealed(_) => true,
            _ => false,
        }
    }

    /// Whether it is that of the first certificate of a file.
    pub fn is_of_first(&self, certificates: &Bundle) -> bool {
        certificates.present().and_then(|all| all.first()).is_some_and(|own| self.is_of(own))
    }

    /// Why what is there cannot be used.
    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Missing | Self::OnHost(_) | Self::Present(_) | Self::Sealed(_) => None,
            Self::Encrypted(why)
            | Self::Weak(why)
            | Self::Unsupported(why)
            | Self::Bad(why)
            | Self::Unreadable(why) => Some(why),
        }
    }
}

/// What was found of one instance.
#[derive(Clone, Debug)]
pub struct Held {
    /// Where its certificate and key really are: as laid out, or as its kubeconfig says.
    pub place: Place,
    /// Its certificate, then whatever else the file holds; of a CA the signer first.
    pub certificates: Bundle,
    /// Its key.
    pub key: FoundKey,
    /// Its kubeconfig, for those that have one.
    pub kubeconfig: Option<KubeconfigView>,
    /// Who signed its certificate; none where it has none, or is a root.
    pub signer: Option<Signer>,
    /// Whether a request waits for its signature: with its key beside it, or its host's.
    pub requested: bool,
    /// Whether its key is here though its host is to have it alone.
    pub strays: bool,
}

impl Held {
    /// An instance of which nothing was found.
    pub fn nothing(place: Place) -> Self {
        let (certificates, key) = (Piece::Missing, FoundKey::Missing);
        Self {
            place,
            certificates,
            key,
            kubeconfig: None,
            signer: None,
            requested: false,
            strays: false,
        }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> Option<&CertView> {
        self.certificates.present().and_then(|all| all.first())
    }

    /// Whether nothing of it is there at all.
    pub fn is_absent(&self) -> bool {
        self.certificates.is_missing()
            && self.key.is_missing()
            && self.kubeconfig.as_ref().is_none_or(|k| k.state.is_missing())
    }

    /// Its kubeconfig, if it is there and can be read as one.
    pub fn readable_kubeconfig(&self) -> Option<&KubeconfigView> {
        self.kubeconfig.as_ref().filter(|view| view.state.present().is_some())
    }

    /// Whether the CA that should have signed it did; none where nobody can tell.
    pub fn is_signed(&self) -> Option<bool> {
        match self.signer? {
            Signer::NoCa => None,
            Signer::Expected | Signer::NameDiffers => Some(true),
            _ => Some(false),
        }
    }

    /// The file and the fault of the first of kubeconfig, certificate and key that cannot be used.
    pub fn fault(&self) -> Option<(&PathBuf, &str)> {
        let kubeconfig = self.kubeconfig.as_ref().map(|view| (&view.file, &view.state));
        match (kubeconfig, &self.certificates, self.key.fault()) {
            (Some((file, Piece::Bad(why))), _, _) => Some((file, why)),
            (_, Piece::Bad(why), _) => Some((self.place.cert(), why)),
            (_, _, Some(why)) => Some((self.place.key(), why)),
            _ => None,
        }
    }
}

/// Who signed a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The CA that should have.
    Expected,
    /// An earlier or later one in its place, which is trusted still or already.
    Trusted,
    /// The CA that should have, as far as its name says: nobody verifies such signatures any more.
    Presumed,
    /// The CA of another instance, by index.
    Other(usize),
    /// Its own key, though it is no root here.
    Itself,
    /// Another CA of the same name.
    Namesake,
    /// The right key, but the issuer's name is not the CA's, byte for byte.
    NameDiffers,
    /// None that is here.
    Unknown,
    /// Nobody can tell: the CA that should have is not here.
    NoCa,
}

impl Signer {
    /// Whether whoever trusts the CA of this cluster trusts what it signed.
    pub fn is_right(self) -> bool {
        matches!(self, Self::Expected | Self::Trusted | Self::Presumed)
    }
}

/// A kubeconfig as found.
#[derive(Clone, Debug)]
pub struct KubeconfigView {
    /// Where it is.
    pub file: PathBuf,
    /// Whether it is there and readable as one.
    pub state: Piece<()>,
    /// What it trusts.
    pub authorities: Bundle,
    /// The file that comes from, if it is not embedded.
    pub authority_file: Option<PathBuf>,
    /// The server's URL.
    pub server: Option<String>,
    /// The name expected instead of the URL's host.
    pub tls_server_name: Option<String>,
    /// Whether the server's certificate is not verified at all.
    pub insecure: bool,
    /// Whether what it trusts vouches for the apiserver's certificate; none if either is not here.
    pub verifies_server: Option<bool>,
    /// A file it names that is not on this machine, such as the kubelet's own.
    pub elsewhere: Option<String>,
    /// The file of its certificate as it names it; none where it embeds that.
    pub named: Option<String>,
}

/// What one host trusts of one CA.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The file.
    pub file: PathBuf,
    /// Its certificates.
    pub certificates: Bundle,
    /// Whether the file is the bundle, not the signing certificate in its place.
    pub is_bundle: bool,
}

/// A key pair without certificate.
#[derive(Clone, Debug)]
pub struct HeldKeyPair {
    /// Its id.
    pub id: &'static str,
    /// The private key's file.
    pub private_file: PathBuf,
    /// The public keys' file.
    pub public_file: PathBuf,
    /// The private key.
    pub private: FoundKey,
    /// The public keys, DER.
    pub public: Piece<Vec<Vec<u8>>>,
    /// Other generations of the private key.
    pub aside: BTreeMap<Slot, FoundKey>,
}

impl HeldKeyPair {
    /// Whether the key that is to sign next has signed already, and that was taken back: it comes first in the file of public
    /// keys, where it is added last and has its place from the time when it signed.
    pub fn has_next_signed(&self) -> bool {
        let next = self.aside.get(&Slot::Next).and_then(FoundKey::present);
        let first = self.public.present().and_then(|all| all.first());
        next.is_some_and(|next| first == Some(&next.public_key))
    }

    /// How far replacing it has come. A second public key that nothing else is known of was replaced by somebody
    /// else.
    pub fn stage(&self) -> Stage {
        let is_own =
            |key: &Vec<u8>| self.private.present().is_some_and(|own| own.public_key == *key);
        let others = self.public.present().is_some_and(|all| !all.iter().all(is_own));
        match (self.aside.contains_key(&Slot::Next), self.aside.contains_key(&Slot::Previous)) {
            (true, _) => Stage::Introduced,
            (false, true) => Stage::Switched,
            (false, false) if others && self.private.present().is_some() => Stage::Switched,
            (false, false) => Stage::Stable,
        }
    }
}

/// A file that is to be like another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldCopy {
    /// It does not exist.
    Missing {
        /// Whether its original does. What is kept elsewhere, as the key of a CA may be, has no copies.
        has_original: bool,
    },
    /// It cannot be read: why.
    Bad(String),
    /// It is as its original.
    Same,
    /// It is another than its original.
    Differs,
    /// It is there, and its original is not.
    Alone,
}

/// A component's configuration file that a setting names.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedConfig {
    /// Relative to DIR.
    pub path: PathBuf,
    /// What it says.
    pub content: Piece<ConfigState>,
    /// What it is to hold.
    pub wanted: Arc<str>,
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

impl KubeconfigView {
    /// The name by which it knows its server.
    pub fn name(&self) -> Option<String> {
        self.tls_server_name.clone().or_else(|| host_of(self.server.as_deref()?))
    }
}
