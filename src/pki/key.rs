//! Private and public keys: making them, and reading and writing every form Kubernetes knows.

mod load;
mod public;
mod sealed;

use std::{fmt, sync::OnceLock};

use zeroize::Zeroizing;

pub use public::PublicKey;
pub(in crate::pki) use public::bit_string;
pub use sealed::SealedKey;

use super::{
    crypto::{self, CryptoError, Curve, SigningKey},
    pem::{self, Block, PemError},
};
use crate::model::algorithm::KeyAlgorithm;

/// How a private key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// PKCS#8, `PRIVATE KEY`.
    Pkcs8,
    /// What kubeadm writes: SEC 1 `EC PRIVATE KEY` and PKCS#1 `RSA PRIVATE KEY`. Ed25519 has no such form
    /// and is written as PKCS#8.
    Traditional,
}

/// A private key that certkit can sign with. Its bytes are wiped when it is dropped (those held here: ring
/// keeps a copy of its own once the key has signed).
pub struct PrivateKey {
    material: Material,
    public: PublicKey,
    format: KeyFormat,
    signer: OnceLock<SigningKey>,
}

/// The private numbers.
enum Material {
    Ec { curve: Curve, scalar: Zeroizing<Vec<u8>>, point: Vec<u8> },
    Ed25519 { seed: Zeroizing<Vec<u8>>, public: Vec<u8> },
    Rsa { pkcs1: Zeroizing<Vec<u8>>, bits: u32 },
}

impl PrivateKey {
    /// Makes a new key. RSA and P-521 need the feature `rsa-keygen`.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let error = |error| KeyError::generation(algorithm, error);
        let material = match algorithm {
            KeyAlgorithm::EcdsaP256 => {
                load::pkcs8(&crypto::generate_ec(Curve::P256).map_err(error)?, None)?
            }
            KeyAlgorithm::EcdsaP384 => {
                load::pkcs8(&crypto::generate_ec(Curve::P384).map_err(error)?, None)?
            }
            KeyAlgorithm::EcdsaP521 => {
                load::pkcs8(&crypto::generate_ec(Curve::P521).map_err(error)?, None)?
            }
            KeyAlgorithm::Ed25519 => {
                let seed = crypto::generate_ed25519().map_err(error)?;
                let public = crypto::ed25519_public(&seed).map_err(error)?;
                Material::Ed25519 { seed, public }
            }
            KeyAlgorithm::Rsa(bits) => {
                load::pkcs8(&crypto::generate_rsa(bits).map_err(error)?, None)?
            }
        };
        Self::new(material, KeyFormat::Traditional)
    }

    /// Reads the first private key of a PEM file, whatever else the file holds.
    ///
    /// Public and private part are checked to belong together.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        load::first(bytes, None)?.checked()
    }

    /// The same for a key file that may lack its public key, which is then `public`, its certificate's.
    ///
    /// That it belongs to the key is not checked otherwise: compare the public keys.
    pub fn from_pem_for(bytes: &[u8], public: &PublicKey) -> Result<Self, KeyError> {
        load::first(bytes, Some(public))?.checked()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        match &self.material {
            Material::Ec { curve: Curve::P256, .. } => KeyAlgorithm::EcdsaP256,
            Material::Ec { curve: Curve::P384, .. } => KeyAlgorithm::EcdsaP384,
            Material::Ec { curve: Curve::P521, .. } => KeyAlgorithm::EcdsaP521,
            Material::Ed25519 { .. } => KeyAlgorithm::Ed25519,
            Material::Rsa { bits, .. } => KeyAlgorithm::Rsa(*bits),
        }
    }

    /// The public key that belongs to it.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The form it was read in; [`KeyFormat::Traditional`] for one that was made.
    pub fn format(&self) -> KeyFormat {
        self.format
    }

    /// Writes it.
    pub fn to_pem(&self, format: KeyFormat) -> Zeroizing<String> {
        match (&self.material, format) {
            (Material::Ec { curve, scalar, point }, KeyFormat::Traditional) => {
                pem::encode_secret("EC PRIVATE KEY", &load::sec1(*curve, scalar, Some(point), true))
            }
            (Material::Rsa { pkcs1, .. }, KeyFormat::Traditional) => {
                pem::encode_secret("RSA PRIVATE KEY", pkcs1)
            }
            _ => pem::encode_secret("PRIVATE KEY", &self.pkcs8()),
        }
    }

    /// Writes it as PKCS#8 DER, the form TLS libraries take.
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        load::to_pkcs8(&self.material)
    }

    /// Signs with the digest that goes with the key: SHA-256 for P-256 and RSA, SHA-384 for P-384,
    /// SHA-512 for P-521.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.signer()?.sign(message).map_err(KeyError::unusable)
    }

    fn new(material: Material, format: KeyFormat) -> Result<Self, KeyError> {
        let public = match &material {
            Material::Ec { curve, point, .. } => PublicKey::ec(*curve, point),
            Material::Ed25519 { public, .. } => PublicKey::ed25519(public),
            Material::Rsa { pkcs1, .. } => PublicKey::rsa(&load::rsa_public(pkcs1)?),
        };
        Ok(Self { material, public, format, signer: OnceLock::new() })
    }

    /// The key, once the backend has taken it and found its parts to belong together.
    fn checked(self) -> Result<Self, KeyError> {
        self.signer()?;
        Ok(self)
    }

    fn signer(&self) -> Result<&SigningKey, KeyError> {
        if let Some(signer) = self.signer.get() {
            return Ok(signer);
        }
        let signer = match &self.material {
            Material::Ec { curve, scalar, point } => SigningKey::ec(*curve, scalar, point),
            Material::Ed25519 { seed, public } => SigningKey::ed25519(seed, public),
            Material::Rsa { pkcs1, .. } => SigningKey::rsa(pkcs1),
        };
        let signer = signer.map_err(KeyError::unusable)?;
        Ok(self.signer.get_or_init(|| signer))
    }
}

/// What signs for a CA. Whoever signs asks for a signature and never for the key, so that a key may be one
/// in memory or one that no program ever sees.
pub trait Sign: Send + Sync {
    /// The public key that belongs to it.
    fn public_key(&self) -> &PublicKey;

    /// Its algorithm, which decides the digest too.
    fn algorithm(&self) -> KeyAlgorithm;

    /// Signs with the digest that goes with the key.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

impl Sign for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        self.public_key()
    }

    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.sign(message)
    }
}

/// A CA's key as it is kept: what must be done before it signs differs.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are in clear, and there are a handful")]
pub enum CaKey {
    /// In a file, in clear.
    Clear(PrivateKey),
    /// In a file, under a password.
    Sealed(SealedKey),
}

impl CaKey {
    /// Reads the first private key of a PEM file. For one in clear that lacks its public key that is `public`.
    pub fn from_pem(bytes: &[u8], public: Option<&PublicKey>) -> Result<Self, KeyError> {
        if let Some(sealed) = SealedKey::from_pem(bytes)? {
            return Ok(Self::Sealed(sealed));
        }
        load::first(bytes, public)?.checked().map(Self::Clear)
    }
}

impl PublicKey {
    /// Reads the first `PUBLIC KEY` block, or else the public part of the first private key.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::all_from_pem(bytes)?.into_iter().next().ok_or(KeyError::NoKey)
    }

    /// Reads every public key of a file such as `sa.pub`, which holds several during a rotation; of a
    /// private key the public part.
    pub fn all_from_pem(bytes: &[u8]) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        let mut private = false;
        for block in pem::read(bytes)? {
            match block {
                Block::PublicKey(der) => keys.push(Self::from_der(der)?),
                Block::Key(_) => private = true,
                Block::Certificate(_) | Block::Crl(_) | Block::Csr(_) => {}
            }
        }
        if keys.is_empty() && private {
            keys.push(PrivateKey::from_pem(bytes)?.public_key().clone());
        }
        Ok(keys)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, elided)", self.algorithm())
    }
}

/// Why a key cannot be read, made or used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// A cipher or key derivation certkit has not.
    #[error("the private key is encrypted with {0}, which certkit cannot open")]
    Cipher(String),
    /// A point in compressed form.
    #[error("the EC key gives its public key in compressed form, which TLS libraries do not take")]
    CompressedPoint,
    /// Its password is made costlier to try than any machine can bear.
    #[error("opening the private key would take more than half a gigabyte of memory, or minutes")]
    Costly,
    /// A password keeps it where it must be in clear.
    #[error("the private key is encrypted")]
    Encrypted,
    /// A curve by its numbers instead of its name.
    #[error("the EC key spells its curve out instead of naming it, which Kubernetes does not take")]
    ExplicitCurve,
    /// The key cannot be made.
    #[error("cannot make a new {algorithm} key: {why}")]
    Generation {
        /// What was asked for.
        algorithm: KeyAlgorithm,
        /// Why not.
        why: &'static str,
    },
    /// Not the structure the label promises.
    #[error("the private key is damaged: its content is not what its label says")]
    Malformed,
    /// No private key in the file.
    #[error("it contains no private key")]
    NoKey,
    /// No public key in the key, and nowhere to take it from.
    #[error("the EC key does not contain its public key")]
    NoPublicKey,
    /// Another password, or bytes that changed.
    #[error("the password does not open the private key")]
    Password,
    /// Not PEM, or not readable.
    #[error("cannot read the private key")]
    Pem(#[from] PemError),
    /// The exponent is too small.
    #[error("the RSA key has the public exponent {0}; 65537 or more is needed")]
    RsaExponent(u64),
    /// Primes other than two.
    #[error("the RSA key has more than two primes")]
    RsaPrimes,
    /// A modulus ring does not take.
    #[error("the RSA key has {0} bits; 2048 to 4096 can be used")]
    RsaSize(u32),
    /// A kind of key certkit cannot use.
    #[error("{0} keys cannot be used")]
    Unsupported(String),
    /// The backend refused.
    #[error("the private key cannot be used: {0}")]
    Unusable(&'static str),
}

impl KeyError {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::CompressedPoint => {
                Some("openssl ec -in FILE -conv_form uncompressed -out FILE.uncompressed".into())
            }
            Self::ExplicitCurve => {
                Some("openssl ec -in FILE -param_enc named_curve -out FILE.named".into())
            }
            Self::Cipher(_) | Self::Costly => {
                Some("openssl pkcs8 -topk8 -in FILE -out FILE.new".into())
            }
            Self::Encrypted => Some("openssl pkey -in FILE -out FILE.clear".into()),
            Self::NoPublicKey => Some("openssl ec -in FILE -out FILE.complete".into()),
            Self::Pem(error) => error.hint(),
            Self::Generation { .. }
            | Self::Malformed
            | Self::NoKey
            | Self::Password
            | Self::RsaExponent(_)
            | Self::RsaPrimes
            | Self::RsaSize(_)
            | Self::Unsupported(_)
            | Self::Unusable(_) => None,
        }
    }

    fn generation(algorithm: KeyAlgorithm, error: CryptoError) -> Self {
        let why = match error {
            CryptoError::NeedsFeature => "this certkit was built without the feature `rsa-keygen`",
            CryptoError::Refused(why) => why,
        };
        Self::Generation { algorithm, why }
    }

    fn unusable(error: CryptoError) -> Self {
        match error {
            CryptoError::NeedsFeature => Self::Unsupported(
                "P-521 (in a certkit built without the feature `rsa-keygen`)".into(),
            ),
            CryptoError::Refused(why) => Self::Unusable(why),
        }
    }
}
