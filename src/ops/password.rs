//! The password of CA keys that are kept encrypted: where it comes from, and what it opens.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use zeroize::Zeroizing;

use crate::{
    model::catalogue::{self, CertId},
    pki::key::{KeyError, KeyFormat, PrivateKey, PublicKey, SealedKey},
};

/// Asks a person for the password of a file; the second argument says whether the last answer was wrong.
pub type Ask = fn(&Path, bool) -> io::Result<Zeroizing<String>>;

/// How often a person may mistype.
const ATTEMPTS: usize = 3;

/// Where the password comes from.
pub enum Passwords {
    /// There is none, and nobody to ask.
    Nowhere,
    /// It was given with the command. CA keys that are made are then encrypted, too.
    Given(Zeroizing<String>),
    /// Whoever sits at the terminal is asked, once for all keys that it opens.
    Asked {
        /// How.
        ask: Ask,
        /// What was answered and right.
        known: OnceLock<Zeroizing<String>>,
    },
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nowhere => "Nowhere",
            Self::Given(_) => "Given(elided)",
            Self::Asked { .. } => "Asked",
        })
    }
}

/// Why an encrypted key stays closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody could be asked.
    #[error("{}: cannot ask for its password", path.display())]
    Ask {
        /// The key.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The key, or the password.
    #[error("{}: cannot open the encrypted key", path.display())]
    Closed {
        /// The key.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// There is no password.
    #[error("{}: the key is encrypted, and no password was given", .0.display())]
    NoPassword(PathBuf),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ask { .. } | Self::NoPassword(_) => Some(HOW.into()),
            Self::Closed { source: KeyError::Password, path } => Some(format!(
                "nothing was written; try the password: openssl pkey -in {} -noout",
                path.display()
            )),
            Self::Closed { source, .. } => source.hint(),
        }
    }
}

/// The variable that may hold the password itself. No program that certkit starts gets to see it.
pub const VARIABLE: &str = "CERTKIT_CA_KEY_PASSWORD";

/// How a password is given.
pub const HOW: &str = "give the password with --ca-key-password-file FILE or in CERTKIT_CA_KEY_PASSWORD, \
                       or run certkit on a terminal, where it asks";

/// What a dry run says of encrypted keys that the run will have to open.
pub fn notes(sealed: &[PathBuf], passwords: &Passwords) -> Vec<String> {
    let note = |file: &PathBuf| match passwords {
        Passwords::Given(_) => format!("{}: the password opens it", file.display()),
        Passwords::Asked { .. } => format!("{}: its password will be asked for", file.display()),
        Passwords::Nowhere => format!("{}: is encrypted; {HOW}", file.display()),
    };
    sealed.iter().map(note).collect()
}

impl Passwords {
    /// Whoever sits at the terminal.
    pub fn asking(ask: Ask) -> Self {
        Self::Asked { ask, known: OnceLock::new() }
    }

    /// Whether there is a password, or somebody who may know it.
    pub fn can_open(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }

    /// Opens the key of this file. One without its public half gets it from `hint`.
    pub fn open(
        &self,
        path: &Path,
        key: &SealedKey,
        hint: Option<&PublicKey>,
    ) -> Result<PrivateKey, Error> {
        let closed = |source| Error::Closed { path: path.to_path_buf(), source };
        match self {
            Self::Nowhere => Err(Error::NoPassword(path.to_path_buf())),
            Self::Given(password) => key.open(password.as_bytes(), hint).map_err(closed),
            Self::Asked { ask, known } => {
                if let Some(password) = known.get()
                    && let Ok(key) = key.open(password.as_bytes(), hint)
                {
                    return Ok(key);
                }
                for attempt in 0..ATTEMPTS {
                    let password = ask(path, attempt > 0)
                        .map_err(|source| Error::Ask { path: path.to_path_buf(), source })?;
                    match key.open(password.as_bytes(), hint) {
                        Ok(key) => {
                            // Another key's password may be known already.
                            let _ = known.set(password);
                            return Ok(key);
                        }
                        Err(KeyError::Password) => {}
                        Err(error) => return Err(closed(error)),
                    }
                }
                Err(closed(KeyError::Password))
            }
        }
    }

    /// The file of a CA's new key: encrypted if a password was given, unless a component reads it.
    pub fn write(&self, id: CertId, key: &PrivateKey) -> Result<Zeroizing<String>, KeyError> {
        match self {
            Self::Given(password) if !catalogue::is_key_read(id) => {
                SealedKey::seal(key, password.as_bytes()).map(|sealed| sealed.to_pem().into())
            }
            _ => Ok(key.to_pem(KeyFormat::Traditional)),
        }
    }
}
