//! A certificate and its key as they were found, with the secrets.

use zeroize::Zeroizing;

use crate::{
    model::{
        check::piece::FORBIDDEN,
        layout::Place,
        observed::{FoundKey, KeyView, Piece},
        shown::with_causes,
    },
    pki::{
        inspect::{self, Certificate},
        key::{CaKey, KeyError, PrivateKey},
        pem::PemError,
    },
};

/// The content of a file.
pub type FileContent = Piece<Zeroizing<Vec<u8>>>;

/// One instance's certificate and key.
pub struct HeldCredential {
    /// Where they are.
    pub place: Place,
    /// The certificate, then whatever else its file holds; of a CA the signer first.
    pub certificates: Piece<Vec<Certificate>>,
    /// What is to be said of the key.
    pub key: FoundKey,
    /// The key, where it can be used, or a password opens it.
    pub secret: Option<CaKey>,
}

impl HeldCredential {
    /// Neither certificate nor key.
    pub fn missing(place: Place) -> Self {
        let (certificates, key) = (Piece::Missing, FoundKey::Missing);
        Self { place, certificates, key, secret: None }
    }

    /// A certificate and a key from the content of their files. A key without its public half gets it from the
    /// certificate. Only a CA's key may be kept by a password.
    pub fn parse(place: Place, cert: &FileContent, key: &FileContent, is_ca: bool) -> Self {
        let certificates = match cert {
            Piece::Present(pem) => match inspect::from_pem(pem) {
                Ok(all) => Piece::Present(all),
                Err(error) => Piece::Bad(with_causes(&error)),
            },
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why.clone()),
        };
        let (key, secret) = match key {
            Piece::Present(pem) => {
                key_of(pem, certificates.present().and_then(|all| all.first()), is_ca)
            }
            Piece::Missing => (FoundKey::Missing, None),
            Piece::Bad(why) if why.starts_with(FORBIDDEN) => {
                (FoundKey::Unreadable(why.clone()), None)
            }
            Piece::Bad(why) => (FoundKey::Bad(why.clone()), None),
        };
        let found = Self { place, certificates, key, secret };
        if is_ca { found.signer_first() } else { found }
    }

    /// Of the certificates in a CA's file the one that its key belongs to signs; kubeadm takes the first.
    fn signer_first(mut self) -> Self {
        if let (Piece::Present(all), Some(CaKey::Clear(key))) =
            (&mut self.certificates, &self.secret)
            && let Some(signer) = all.iter().position(|c| c.public_key() == key.public_key())
        {
            all[..=signer].rotate_right(1);
        }
        self
    }
}

/// A key as plain data.
pub fn key_view(key: &PrivateKey) -> KeyView {
    KeyView { public_key: key.public_key().der().to_vec(), algorithm: key.algorithm() }
}

/// A key, and what is to be said of it.
pub fn key_of(
    pem: &[u8],
    certificate: Option<&Certificate>,
    is_ca: bool,
) -> (FoundKey, Option<CaKey>) {
    let error = match CaKey::from_pem(pem, certificate.map(Certificate::public_key)) {
        Ok(CaKey::Clear(key)) => {
            return (FoundKey::Present(key_view(&key)), Some(CaKey::Clear(key)));
        }
        Ok(sealed @ CaKey::Sealed(_)) if is_ca => {
            return (FoundKey::Sealed(with_causes(&KeyError::Encrypted)), Some(sealed));
        }
        Ok(CaKey::Sealed(_)) => KeyError::Encrypted,
        Err(error) => error,
    };
    let state = match &error {
        KeyError::Encrypted
        | KeyError::Cipher(_)
        | KeyError::Costly
        | KeyError::Pem(PemError::OldEncryption { .. }) => FoundKey::Encrypted(with_causes(&error)),
        KeyError::RsaSize(bits) if *bits < 2048 => FoundKey::Weak(error.to_string()),
        KeyError::RsaExponent(_) => FoundKey::Weak(error.to_string()),
        KeyError::RsaSize(_) | KeyError::RsaPrimes | KeyError::Unsupported(_) => {
            FoundKey::Unsupported(error.to_string())
        }
        _ => FoundKey::Bad(with_causes(&error)),
    };
    (state, None)
}

/// Whether a file holds a private key, by its label.
pub fn has_key(content: &[u8]) -> bool {
    const LABEL: &[u8] = b"PRIVATE KEY-----";
    content.windows(LABEL.len()).any(|window| window == LABEL)
}
