//! What stands against a step that is due.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::Reason;
use crate::model::{
    authority::Stage,
    name::Name,
    observed::{CertView, FoundKey, Held, Piece},
    profile::Kind,
    timestamp::Timestamp,
    usage::KeyUsages,
};

/// A certificate that is due and cannot be renewed here.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocked {
    /// What it is.
    pub label: String,
    /// Its file.
    pub file: PathBuf,
    /// Why it is due.
    pub due: Option<Reason>,
    /// Whether it has expired already.
    pub expired: bool,
    /// What stands against it.
    pub obstacle: Obstacle,
}

/// What stands against renewing a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its CA's key is elsewhere.
    External {
        /// The CA's certificate.
        authority: PathBuf,
    },
    /// Its host makes its keys, and is not asked by what was asked for.
    KeyOnHost,
    /// It would end as soon as what is there does: with its CA.
    AuthorityEnds {
        /// The CA's certificate.
        authority: PathBuf,
        /// When.
        not_after: Timestamp,
    },
    /// What is trusted in its place is its own file, which may hold one certificate only.
    Bundleless {
        /// The CA's id.
        id: &'static str,
    },
    /// A CA below it is to move, too.
    Together {
        /// That one's id.
        id: &'static str,
    },
    /// A CA below it is being replaced itself.
    Unfinished {
        /// That one's id.
        id: &'static str,
        /// How far it has come.
        stage: Stage,
    },
    /// Its verifiers trust the CA above it, so that it has no stages of its own.
    TrustedAbove,
    /// It would break a path that works now.
    Narrows {
        /// The path, and at which ends.
        path: String,
        /// What is to be done first.
        remedy: String,
    },
    /// Its CA's key is encrypted, and there is no password.
    Sealed {
        /// The CA's key.
        key: PathBuf,
    },
    /// Another CA signed it than the one in place, and nobody declared that this is wrong.
    Foreign {
        /// Who signed it.
        issuer: String,
        /// The CA in place.
        authority: PathBuf,
    },
    /// Its CA, or the certificate itself, is not what it should be.
    Broken {
        /// The file that is to blame.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        hint: String,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External { authority } => {
                write!(f, "not renewable here: the key of {} is elsewhere", authority.display())
            }
            Self::KeyOnHost => f.write_str("its key is its host's, which alone makes a new one"),
            Self::Sealed { key } => {
                write!(f, "not renewable without a password: {} is encrypted", key.display())
            }
            Self::Foreign { issuer, authority } => {
                write!(f, "left alone: {issuer} signed it, not {}", authority.display())
            }
            Self::AuthorityEnds { authority, not_after } => {
                let authority = authority.display();
                write!(f, "a new one would end no later: {authority} ends {not_after}")
            }
            Self::Narrows { path, .. } => {
                write!(f, "not renewed, as this works now and would not: {path}")
            }
            Self::Broken { file, why, .. } => write!(f, "{}: {why}", file.display()),
            Self::Bundleless { id } => write!(
                f,
                "what is trusted in its place is the CA's own file, which may hold one certificate only: \
                 `certkit rotate-ca {id} --next` gives trust a file of its own first"
            ),
            Self::Together { id } => write!(
                f,
                "{id} is below it, and both at once would leave nobody sure of what to trust; name one, have it taken \
                 up, then the other"
            ),
            Self::Unfinished { id, stage } => write!(
                f,
                "{id}, which is below it, is {stage}; finish that with `certkit rotate-ca {id} --next`, or take it back \
                 with --undo"
            ),
            Self::TrustedAbove => f.write_str(
                "its verifiers trust the CA above it; certkit does not replace it stage by stage",
            ),
        }
    }
}

impl Obstacle {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::External { .. } => {
                "`certkit rotate --csr-only` writes requests; have them signed, then \
                                      `certkit import FILE...`"
                    .into()
            }
            Self::Sealed { .. } => "give the password with --ca-key-password-file FILE or in \
                 CERTKIT_CA_KEY_PASSWORD, or run it on a terminal"
                .into(),
            Self::Foreign { .. } => {
                "renew it where it was signed, or name it to have it signed by the \
                                     CA in place"
                    .into()
            }
            Self::AuthorityEnds { .. } => {
                "`certkit rotate-ca` replaces the CA stage by stage; with --renew-same-key it gets a \
                 new term"
                    .into()
            }
            Self::KeyOnHost => "`certkit deploy --new-keys HOST` asks the host for requests".into(),
            Self::Narrows { remedy, .. } => remedy.clone(),
            Self::Broken { hint, .. } => hint.clone(),
            Self::Bundleless { .. } => "declare a bundle first".into(),
            Self::Together { .. } => "name one of them".into(),
            Self::TrustedAbove => "replace the CA above it".into(),
            Self::Unfinished { id, .. } => format!("`certkit rotate-ca {id} --next`, or --undo"),
        }
    }
}

/// Whether a CA in place can sign a leaf: asked by rotating, and by whoever says what rotating would do.
#[derive(Clone, Debug)]
pub struct Signing<'a> {
    /// The CA, its signer first.
    pub authority: &'a Held,
    /// Who the leaf says signed it.
    pub issuer: &'a Name,
    /// Whether the CA did; none where that cannot be known.
    pub is_signed: Option<bool>,
    /// Whether the CA is to sign it whoever did: because that is declared, or because it is asked for.
    pub is_bound: bool,
    /// Whether a password opens the CA's key if it is encrypted.
    pub can_open: bool,
    /// The time.
    pub now: Timestamp,
}

impl Signing<'_> {
    /// What stands against signing it with the CA in place.
    pub fn obstacle(&self) -> Option<Obstacle> {
        let observed = self.authority;
        let (file, key_file) = (observed.place.cert(), observed.place.key());
        let authority = match &observed.certificates {
            Piece::Present(all) => all.first()?,
            Piece::Bad(why) => {
                return Some(broken(file, why, "restore it from a backup"));
            }
            Piece::Missing => {
                return Some(broken(file, "is missing", "restore it from a backup"));
            }
        };
        let replace = "`certkit rotate-ca` replaces the CA stage by stage; `certkit recover` gives one \
                       that has expired a new term";
        if let Some(why) = authority_fault(authority, self.now) {
            return Some(broken(file, &why, replace));
        }
        match &observed.key {
            FoundKey::Missing => return Some(Obstacle::External { authority: file.clone() }),
            FoundKey::Sealed(_) if !self.can_open => {
                return Some(Obstacle::Sealed { key: key_file.clone() });
            }
            key if key.fault().is_some() => {
                let why = key.fault().unwrap_or_default();
                let hint = "restore it, or have openssl write it as certkit reads it: openssl pkcs8 \
                            -topk8 -in FILE -out FILE.new";
                return Some(broken(key_file, why, hint));
            }
            key if !key.is_of(authority) => {
                let why = format!("does not belong to {}", file.display());
                return Some(broken(key_file, &why, "restore the one that is wrong"));
            }
            _ => {}
        }
        let foreign = self.is_signed == Some(false);
        (foreign && !self.is_bound)
            .then(|| Obstacle::Foreign { issuer: self.issuer.to_string(), authority: file.clone() })
    }
}

/// That a file is not what it should be.
pub fn broken(file: &Path, why: &str, hint: &str) -> Obstacle {
    Obstacle::Broken { file: file.to_path_buf(), why: why.to_owned(), hint: hint.to_owned() }
}

/// Why this certificate can sign nothing at that time.
pub fn authority_fault(authority: &CertView, now: Timestamp) -> Option<String> {
    let usages = authority.profile.key_usages;
    if !matches!(authority.profile.kind, Kind::Ca { .. }) {
        Some("is not a CA certificate (basicConstraints)".into())
    } else if !usages.contains(KeyUsages::CERT_SIGN) && usages != KeyUsages::default() {
        Some("may not sign certificates (keyUsage)".into())
    } else if authority.validity.not_after < now {
        Some(format!("the CA expired {}", authority.validity.not_after))
    } else if authority.validity.not_before > now {
        Some(format!("the CA is not valid before {}", authority.validity.not_before))
    } else {
        None
    }
}
