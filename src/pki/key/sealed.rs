//! Private keys under a password: PKCS#8 with PBES2 (RFC 8018, 6.2), as openssl makes and reads them.

use std::fmt;

use pkcs8::{
    EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef,
    der::{Decode, ErrorKind},
    pkcs5::{
        self, EncryptionScheme,
        pbes2::{Kdf, PBES2_OID, Parameters},
        scrypt,
    },
};

use super::{KeyError, KeyFormat, PrivateKey, PublicKey, load, public};
use crate::{
    model::der::{OID, SEQUENCE},
    pki::{
        crypto,
        der::DerReader,
        pem::{self, KeyKind},
    },
};

/// A private key that a password opens. Its bytes are no secret.
#[derive(Clone)]
pub struct SealedKey {
    der: Vec<u8>,
}

/// What new ones are sealed with: scrypt of 16 MiB, five times over (OWASP's advice), which openssl opens
/// without being allowed more memory.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);

/// The most memory that opening may take: a file must not be able to bring the machine down.
const MEMORY: u64 = 1 << 29;
/// The most rounds of a digest that opening may take: half a minute, about.
const ROUNDS: u64 = 50_000_000;

impl SealedKey {
    /// The first private key of a PEM file, if a password keeps it.
    pub fn from_pem(bytes: &[u8]) -> Result<Option<Self>, KeyError> {
        let block = pem::first_key(bytes)?.ok_or(KeyError::NoKey)?;
        match block.kind {
            KeyKind::Encrypted => Ok(Some(Self { der: block.der.to_vec() })),
            KeyKind::Pkcs1 | KeyKind::Pkcs8 | KeyKind::Sec1 => Ok(None),
        }
    }

    /// Opens it. A key without its public half gets it from `hint`.
    pub fn open(&self, password: &[u8], hint: Option<&PublicKey>) -> Result<PrivateKey, KeyError> {
        let info = EncryptedPrivateKeyInfoRef::from_der(&self.der).map_err(|error| match error
            .kind()
        {
            ErrorKind::OidUnknown { oid } => {
                KeyError::Cipher(public::algorithm_text(oid.as_bytes()))
            }
            _ => self.scheme().map_or(KeyError::Malformed, KeyError::Cipher),
        })?;
        match &info.encryption_algorithm {
            EncryptionScheme::Pbes2(parameters) => affordable(&parameters.kdf)?,
            other => return Err(KeyError::Cipher(public::algorithm_text(other.oid().as_bytes()))),
        }
        // What a wrong password makes of it is noise, which now and then looks like something.
        let clear = info.decrypt(password).map_err(|error| match error {
            pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::UnsupportedAlgorithm { oid }) => {
                KeyError::Cipher(public::algorithm_text(oid.as_bytes()))
            }
            pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::AlgorithmParametersInvalid {
                ..
            }) => KeyError::Malformed,
            _ => KeyError::Password,
        })?;
        let material = load::pkcs8(clear.as_bytes(), hint).map_err(|error| match error {
            KeyError::Malformed => KeyError::Password,
            other => other,
        })?;
        PrivateKey::new(material, KeyFormat::Pkcs8)?.checked()
    }

    /// The scheme that encrypts it, where that is not PBES2: one older than what the crate knows.
    fn scheme(&self) -> Option<String> {
        let mut fields = DerReader::new(DerReader::only(&self.der, SEQUENCE).ok()?);
        let scheme = DerReader::new(fields.expect(SEQUENCE).ok()?).expect(OID).ok()?;
        (scheme != PBES2_OID.as_bytes()).then(|| public::algorithm_text(scheme))
    }

    /// Seals a key.
    pub fn seal(key: &PrivateKey, password: &[u8]) -> Result<Self, KeyError> {
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        crypto::random(&mut salt).map_err(KeyError::unusable)?;
        crypto::random(&mut iv).map_err(KeyError::unusable)?;
        let (log_n, r, p) = SCRYPT;
        let failed = |_| KeyError::Unusable("it cannot be encrypted");
        let cost =
            scrypt::Params::new(log_n, r, p).map_err(|_| failed(pkcs5::Error::EncryptFailed))?;
        let scheme = Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).map_err(failed)?;
        let clear = key.pkcs8();
        let info = PrivateKeyInfoRef::from_der(&clear)?;
        let sealed = info
            .encrypt_with_params(scheme, password)
            .map_err(|_| failed(pkcs5::Error::EncryptFailed))?;
        Ok(Self { der: sealed.as_bytes().to_vec() })
    }

    /// Writes it.
    pub fn to_pem(&self) -> String {
        pem::encode("ENCRYPTED PRIVATE KEY", &self.der)
    }
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedKey")
    }
}

fn affordable(kdf: &Kdf) -> Result<(), KeyError> {
    let (memory, rounds) = match kdf {
        Kdf::Pbkdf2(parameters) => (0, u64::from(parameters.iteration_count)),
        Kdf::Scrypt(parameters) => {
            let block = u64::from(parameters.block_size).saturating_mul(128);
            let memory = parameters.cost_parameter.saturating_mul(block);
            let lanes = u64::from(parameters.parallelization);
            (
                memory.saturating_add(lanes.saturating_mul(block)),
                memory.saturating_mul(lanes) / 1024,
            )
        }
        _ => return Err(KeyError::Malformed),
    };
    match memory <= MEMORY && rounds <= ROUNDS {
        true => Ok(()),
        false => Err(KeyError::Costly),
    }
}
