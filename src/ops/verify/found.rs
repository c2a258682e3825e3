//! One piece of the PKI as it was found: certificate and key, with the secrets that handshakes need.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use crate::{
    model::{
        check::{
            evidence::{CertFacts, FoundKey, Held, KubeconfigFacts, Signer},
            piece::FORBIDDEN,
        },
        inventory::{KeyView, Piece},
    },
    ops::observe::{view, with_causes},
    pki::{
        inspect::{self, Certificate},
        key::{KeyError, PrivateKey},
        pem::PemError,
    },
    tls::handshake::Identity,
};

/// One instance as it was found, with its secrets.
pub struct Found {
    cert_file: PathBuf,
    key_file: PathBuf,
    /// The certificate, then whatever else its file holds.
    pub certificates: Piece<Vec<Certificate>>,
    /// The key, or why there is none.
    pub key: Result<PrivateKey, FoundKey>,
}

impl Found {
    /// Neither certificate nor key.
    pub fn missing(file: &Path) -> Self {
        Self {
            cert_file: file.to_path_buf(),
            key_file: file.to_path_buf(),
            certificates: Piece::Missing,
            key: Err(FoundKey::Missing),
        }
    }

    /// A certificate and a key, each with its file and content. A key without its public half gets it from
    /// the certificate.
    pub fn parse(
        (cert_file, cert): (&Path, Piece<Zeroizing<Vec<u8>>>),
        (key_file, key): (&Path, Piece<Zeroizing<Vec<u8>>>),
    ) -> Self {
        let certificates = match cert {
            Piece::Present(pem) => match inspect::from_pem(&pem) {
                Ok(all) => Piece::Present(all),
                Err(error) => Piece::Bad(with_causes(&error)),
            },
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why),
        };
        let key = match key {
            Piece::Present(pem) => {
                read_key(&pem, certificates.present().and_then(|all| all.first()))
            }
            Piece::Missing => Err(FoundKey::Missing),
            Piece::Bad(why) if why.starts_with(FORBIDDEN) => Err(FoundKey::Unreadable(why)),
            Piece::Bad(why) => Err(FoundKey::Bad(why)),
        };
        Self {
            cert_file: cert_file.to_path_buf(),
            key_file: key_file.to_path_buf(),
            certificates,
            key,
        }
    }

    /// Its own certificate.
    pub fn first(&self) -> Option<&Certificate> {
        self.certificates.present().and_then(|all| all.first())
    }

    /// Of the certificates in a CA's file the one that its key belongs to signs; kubeadm takes the first.
    pub fn signer_first(mut self) -> Self {
        if let (Piece::Present(all), Ok(key)) = (&mut self.certificates, &self.key)
            && let Some(signer) = all.iter().position(|c| c.public_key() == key.public_key())
        {
            all[..=signer].rotate_right(1);
        }
        self
    }

    /// What it shows in a handshake, or why it cannot; nothing if a half is missing.
    pub fn identity(&self) -> Option<Result<Identity, String>> {
        let all = self.certificates.present()?;
        let key = match &self.key {
            Ok(key) => key,
            Err(FoundKey::Missing) => return None,
            Err(FoundKey::Weak(why) | FoundKey::Unsupported(why) | FoundKey::Bad(why)) => {
                return Some(Err(why.clone()));
            }
            Err(FoundKey::Encrypted(why) | FoundKey::Unreadable(why)) => {
                return Some(Err(why.clone()));
            }
            Err(FoundKey::Present(_)) => return None,
        };
        let chain: Vec<Vec<u8>> = all.iter().map(|c| c.der().to_vec()).collect();
        Some(Identity::new(&chain, &key.pkcs8()).map_err(|error| with_causes(&error)))
    }

    /// As evidence, without its secrets.
    pub fn held(self, kubeconfig: Option<KubeconfigFacts>, signer: Option<Signer>) -> Held {
        Held {
            cert_file: self.cert_file,
            key_file: self.key_file,
            certificates: match self.certificates {
                Piece::Present(all) => Piece::Present(Arc::new(all.iter().map(facts).collect())),
                Piece::Missing => Piece::Missing,
                Piece::Bad(why) => Piece::Bad(why),
            },
            key: match self.key {
                Ok(key) => FoundKey::Present(key_view(&key)),
                Err(state) => state,
            },
            kubeconfig,
            signer,
        }
    }
}

/// A key as plain data.
pub fn key_view(key: &PrivateKey) -> KeyView {
    KeyView {
        public_key: key.public_key().der().to_vec(),
        algorithm: key.algorithm(),
        is_sealed: false,
    }
}

/// A key, or what is wrong with it.
pub fn read_key(pem: &[u8], certificate: Option<&Certificate>) -> Result<PrivateKey, FoundKey> {
    let key = match certificate {
        Some(certificate) => PrivateKey::from_pem_for(pem, certificate),
        None => PrivateKey::from_pem(pem),
    };
    key.map_err(|error| match &error {
        KeyError::Encrypted | KeyError::Pem(PemError::OldEncryption { .. }) => {
            FoundKey::Encrypted(with_causes(&error))
        }
        KeyError::RsaSize(bits) if *bits < 2048 => FoundKey::Weak(error.to_string()),
        KeyError::RsaExponent(_) => FoundKey::Weak(error.to_string()),
        KeyError::RsaSize(_) | KeyError::RsaPrimes | KeyError::Unsupported(_) => {
            FoundKey::Unsupported(error.to_string())
        }
        _ => FoundKey::Bad(with_causes(&error)),
    })
}

/// A certificate as rules look at it.
pub fn facts(certificate: &Certificate) -> CertFacts {
    CertFacts {
        der: certificate.der().to_vec(),
        view: view(certificate),
        common_name: certificate.common_name(),
        organizations: certificate.organizations(),
        signature: certificate.signature_algorithm(),
        key_usages: certificate.key_usages(),
        faults: certificate.faults(),
        identifiers: (certificate.ski().map(<[u8]>::to_vec), certificate.aki().map(<[u8]>::to_vec)),
    }
}

/// Whether a file holds a private key, by its label.
pub fn has_key(content: &[u8]) -> bool {
    const LABEL: &[u8] = b"PRIVATE KEY-----";
    content.windows(LABEL.len()).any(|window| window == LABEL)
}
