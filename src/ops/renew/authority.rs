//! The CA that signs: its certificate and key as they were named, judged before anything is signed with them.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    Error, Request,
    credential::{self, Renewable},
};
use crate::{
    model::{
        observed::Piece,
        plan::obstacle::{Obstacle, broken},
        timestamp::Timestamp,
    },
    ops::{password::Passwords, read},
    pki::{
        inspect::{self, Certificate},
        issue::IssuingCa,
        key::{CaKey, PrivateKey},
    },
};

/// The CA that is named.
pub struct Ca {
    /// The certificate's file.
    pub file: PathBuf,
    /// The key's.
    pub key_file: PathBuf,
    /// All that is in its file, the signer first; of an encrypted key that shows when it is opened.
    certificates: Vec<Certificate>,
    /// Until it is needed.
    key: Option<CaKey>,
}

impl Ca {
    /// Reads what was named.
    pub fn read(request: &Request<'_>) -> Result<Self, Error> {
        let file = request.ca.to_path_buf();
        let content = named(&file)?;
        let mut certificates = inspect::from_pem(&content)
            .map_err(|source| Error::CaFile { path: file.clone(), source })?;
        let (key_file, key) = Self::key(request, &file, &content, &certificates)?;
        if let CaKey::Clear(key) = &key {
            let wrong = || Error::WrongCaKey { key: key_file.clone(), ca: file.clone() };
            signer_first(&mut certificates, key).ok_or_else(wrong)?;
        }
        Ok(Self { file, key_file, certificates, key: Some(key) })
    }

    /// Whether it can sign at that time.
    pub fn check(&self, now: Timestamp) -> Result<(), Error> {
        let validity = self.signer().validity();
        let why = if !self.signer().is_ca() {
            "is not a CA certificate: its basic constraints do not say CA:TRUE".to_owned()
        } else if validity.not_after < now {
            format!("the CA expired {}", validity.not_after)
        } else if validity.not_before > now {
            format!("the CA is not valid before {}", validity.not_before)
        } else {
            return Ok(());
        };
        Err(Error::Ca { path: self.file.clone(), why })
    }

    fn key(
        request: &Request<'_>,
        file: &Path,
        content: &[u8],
        certificates: &[Certificate],
    ) -> Result<(PathBuf, CaKey), Error> {
        let first = certificates.first().map(Certificate::public_key);
        if request.ca_key.is_none()
            && let Ok(key) = CaKey::from_pem(content, first)
        {
            return Ok((file.to_path_buf(), key));
        }
        let beside = || credential::key_names(file).into_iter().find(|path| path.exists());
        let path = match request.ca_key {
            Some(path) => path.to_path_buf(),
            None => beside().ok_or_else(|| Error::NoCaKey(file.to_path_buf()))?,
        };
        let key = CaKey::from_pem(&named(&path)?, first)
            .map_err(|source| Error::CaKey { path: path.clone(), source })?;
        Ok((path, key))
    }

    /// The certificate that signs: there is one, or reading it was an error.
    pub fn signer(&self) -> &Certificate {
        &self.certificates[0]
    }

    /// Whether a password keeps its key.
    pub fn is_sealed(&self) -> bool {
        matches!(self.key, Some(CaKey::Sealed(_)))
    }

    /// Whether it signed this; as long as nobody knows whose the key is, whether anything in its file did.
    pub fn signed(&self, certificate: &Certificate) -> bool {
        match self.is_sealed() {
            true => self.certificates.iter().any(|ca| certificate.signed_by(ca)),
            false => certificate.signed_by(self.signer()),
        }
    }

    /// Opens its key, which can be done once.
    pub fn open(&mut self, passwords: &Passwords) -> Result<IssuingCa, Error> {
        let key = match self.key.take() {
            Some(CaKey::Sealed(sealed)) => {
                passwords.open(&self.key_file, &sealed, Some(self.signer().public_key()))?
            }
            Some(CaKey::Clear(key)) => key,
            None => return Err(Error::NoCaKey(self.file.clone())),
        };
        let (ca, key_file) = (self.file.clone(), self.key_file.clone());
        signer_first(&mut self.certificates, &key)
            .ok_or(Error::WrongCaKey { key: key_file, ca })?;
        IssuingCa::new(self.signer().clone(), key)
            .map_err(|source| Error::CaSigns { path: self.file.clone(), source })
    }

    /// That this CA is not the one that signed it.
    pub fn stranger(&self, credential: &Renewable) -> Obstacle {
        let certificate = credential.certificate();
        let (by, file) = (certificate.issuer(), self.file.display());
        let why = match certificate.is_self_signed() {
            true => format!("signed itself; {file} did not"),
            false => format!("{by} signed it, and {file} (`{}`) did not", self.signer().subject()),
        };
        let hint = "name the CA that signed it with --ca; to have another CA sign it, which whoever verifies it \
                    must trust, say --force";
        broken(credential.file(), &why, hint)
    }

    /// What follows the certificate where another CA's chain followed it so far; nothing where that stays.
    pub fn chain(&self, credential: &Renewable) -> Option<Vec<Certificate>> {
        let is_own = credential.certificate().signed_by(self.signer());
        let chain = || self.certificates.iter().filter(|c| !c.is_self_issued()).cloned().collect();
        (!is_own).then(chain)
    }
}

/// Puts the certificate of this key before the others; nothing where none is its own.
fn signer_first(certificates: &mut [Certificate], key: &PrivateKey) -> Option<()> {
    let own = certificates.iter().position(|c| c.public_key() == key.public_key())?;
    certificates[..=own].rotate_right(1);
    Some(())
}

/// A file of the CA's.
fn named(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let fault = |why| Error::Ca { path: path.to_path_buf(), why };
    match read::named(path, read::LIMIT) {
        Piece::Present(content) => Ok(content),
        Piece::Missing => Err(fault("there is no such file".to_owned())),
        Piece::Bad(why) => Err(fault(why)),
    }
}
