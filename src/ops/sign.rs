//! Signing what the cluster's API was asked for, by the way that `init` signs: with the CA that DIR has, and in the log
//! before anybody has it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use zeroize::Zeroizing;

use super::{
    password::{self, Passwords},
    read, session,
};
use crate::{
    model::{
        catalogue::{CertId, CertSpec, Home},
        observed::Piece,
        profile::Validity,
        request::Grant,
        shown::with_causes,
        timestamp::Timestamp,
    },
    pki::{
        inspect::{self, Certificate},
        issue::{self, Issuance, IssueError, IssuingCa},
        key::{CaKey, KeyError, PublicKey},
    },
    store::{self, Transaction},
};

/// As the log calls it.
pub(super) const COMMAND: &str = "controller";
/// Another certkit that is changing DIR is soon done, or the request waits: nothing else is answered meanwhile.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// Why a CA of DIR cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its files.
    #[error("{}: {why}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Its password.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// Its certificate and key.
    #[error("{id} cannot sign")]
    Issue {
        /// The CA.
        id: CertId,
        /// Why not.
        source: IssueError,
    },
    /// The key that was asked for.
    #[error("the key that is asked for cannot be written")]
    Key(#[from] KeyError),
    /// The log.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Authority { .. } => {
                Some("the directory (--dir) must have the CA's certificate and key".into())
            }
            Self::Password(error) => error.hint(),
            Self::Issue { source, .. } => source.hint(),
            Self::Key(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// A CA of DIR that signs, and the chain from it to a root where it is none.
pub fn authority(
    dir: &Path,
    spec: &'static CertSpec,
    passwords: &Passwords,
) -> Result<IssuingCa, Error> {
    open(dir, spec, passwords, &material(dir, spec)?)
}

/// A CA's files, as they are.
type Material = [Zeroizing<Vec<u8>>; 2];

fn files(dir: &Path, spec: &CertSpec) -> Option<[PathBuf; 2]> {
    match spec.home {
        Home::Authority { cert, key, .. } => Some([dir.join(cert), dir.join(key)]),
        _ => None,
    }
}

fn material(dir: &Path, spec: &'static CertSpec) -> Result<Material, Error> {
    let closed = |path: PathBuf, why: String| Error::Authority { path, why };
    let Some([cert, key]) = files(dir, spec) else {
        return Err(closed(dir.to_path_buf(), format!("{} is no CA", spec.id)));
    };
    let content = |path: PathBuf| match read::file(&path) {
        Piece::Present(content) => Ok(Zeroizing::new(content.to_vec())),
        Piece::Missing => Err(closed(path, "does not exist".into())),
        Piece::Bad(why) => Err(closed(path, why)),
    };
    Ok([content(cert)?, content(key)?])
}

fn open(
    dir: &Path,
    spec: &'static CertSpec,
    passwords: &Passwords,
    [cert, key]: &Material,
) -> Result<IssuingCa, Error> {
    let [cert_file, key_file] = files(dir, spec).unwrap_or_default();
    let closed = |path: &Path, why: String| Error::Authority { path: path.to_path_buf(), why };
    let certificates =
        inspect::from_pem(cert).map_err(|error| closed(&cert_file, with_causes(&error)))?;
    let found = CaKey::from_pem(key, certificates.first().map(Certificate::public_key))
        .map_err(|error| closed(&key_file, with_causes(&error)))?;
    let private = match found {
        CaKey::Clear(private) => private,
        CaKey::Sealed(sealed) => {
            let hint = certificates.first().map(|certificate| certificate.public_key());
            passwords.open(&key_file, &sealed, hint)?
        }
    };
    // While a CA is replaced its file may hold two.
    let own = certificates.into_iter().find(|one| one.public_key() == private.public_key());
    let own = own
        .ok_or_else(|| closed(&cert_file, format!("does not belong to {}", key_file.display())))?;
    IssuingCa::new(own, private).map_err(|source| Error::Issue { id: spec.id, source })
}

/// Who asked for what is signed.
#[derive(Clone, Copy, Debug)]
pub struct AskedBy<'a> {
    /// The object that asks.
    pub object: &'a str,
    /// Its signer.
    pub signer: &'a str,
    /// Who made it.
    pub requester: &'a str,
    /// Whom the certificate names.
    pub whom: &'a str,
    /// The groups that it has.
    pub groups: &'a [String],
    /// On what ground it is signed.
    pub ground: &'a str,
}

/// What was signed.
#[derive(Debug)]
pub struct Signed {
    /// The certificate.
    pub pem: String,
    /// Its term.
    pub validity: Validity,
    /// Whether that ends earlier than granted: the CA ends.
    pub clamped: bool,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its serial number.
    pub serial: String,
    /// What became of the log, if anything is to be said of it.
    pub warnings: Vec<String>,
}

/// Signs with the CAs of DIR, as they are at the time.
#[derive(Debug)]
pub struct Signatory {
    dir: PathBuf,
    passwords: Passwords,
    /// CAs that were opened, with the files they were made of.
    opened: BTreeMap<CertId, (Material, IssuingCa)>,
    logs: bool,
}

impl Signatory {
    /// A signer with the CAs of this directory, absolute. Where that cannot be written to, as a Secret that is mounted, its log
    /// is the caller's alone.
    pub fn new(dir: &Path, passwords: Passwords) -> Self {
        let logs = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok();
        Self { dir: dir.to_path_buf(), passwords, opened: BTreeMap::new(), logs }
    }

    /// Whether what is signed is in DIR's log.
    pub fn logs(&self) -> bool {
        self.logs
    }

    /// Opens a CA, or says why that cannot be done.
    pub fn open(&mut self, spec: &'static CertSpec) -> Result<&IssuingCa, Error> {
        let material = material(&self.dir, spec)?;
        let known = self.opened.get(&spec.id).is_some_and(|(known, _)| *known == material);
        if !known {
            let opened = open(&self.dir, spec, &self.passwords, &material)?;
            self.opened.insert(spec.id, (material, opened));
        }
        // It is there, or was put there just now.
        Ok(&self.opened[&spec.id].1)
    }

    /// Signs what was granted. It is in the log, durably, before it is handed out.
    pub fn sign(
        &mut self,
        grant: &Grant,
        origin: &AskedBy<'_>,
        now: Timestamp,
    ) -> Result<Signed, Error> {
        let dir = self.dir.clone();
        let logs = self.logs;
        let key = PublicKey::from_der(grant.public_key.clone())?;
        let issuer = self.open(grant.authority)?;
        let end = issuer.certificate().validity().not_after;
        if end <= now {
            let path = files(&dir, grant.authority).map(|[cert, _]| cert).unwrap_or_default();
            return Err(Error::Authority { path, why: format!("ended {end}") });
        }
        let order = Issuance {
            profile: &grant.profile,
            validity: Validity {
                not_before: now.minus(grant.backdate),
                not_after: now.plus(grant.term),
            },
            public_key: &key,
        };
        let issued = issue::issue(&order, issuer)
            .map_err(|source| Error::Issue { id: grant.authority.id, source })?;
        let certificate = issued.certificate;
        let validity = certificate.validity();
        let mut warnings = Vec::new();
        if logs {
            let names: Vec<String> = grant.profile.sans.iter().map(ToString::to_string).collect();
            let line = json!({
                "time": now.to_string(),
                "command": COMMAND,
                "action": "issue",
                "name": origin.whom,
                "groups": origin.groups,
                "names": names,
                "object": origin.object,
                "signer": origin.signer,
                "requester": origin.requester,
                "authority": grant.authority.id.name(),
                "fingerprint": certificate.fingerprint_hex(),
                "serial": certificate.serial_hex(),
                "notAfter": validity.not_after.to_string(),
                "reason": origin.ground,
            });
            let mut store = session::open(&dir, LOCK_WAIT)?;
            warnings.extend(store.recovered().map(|recovery| recovery.to_string()));
            let mut transaction = Transaction::new(&now.to_compact());
            transaction.log(line.to_string());
            warnings.extend(store.commit(transaction)?.warnings);
        }
        Ok(Signed {
            pem: certificate.to_pem(),
            validity,
            clamped: issued.clamped,
            fingerprint: certificate.fingerprint_hex(),
            serial: certificate.serial_hex(),
            warnings,
        })
    }
}
