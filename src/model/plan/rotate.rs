//! `certkit rotate`: which leaves are due, why, with which key, and what stands against it.
//!
//! Where DIR declares a cluster, each certificate is compared with it; where it does not, nothing is judged
//! but the time, and what is in place is what is renewed.

mod drift;
mod kubeconfig;

use std::{collections::BTreeSet, fmt, path::PathBuf};

pub use drift::{algorithm_difference, differences, names_the_same, profile_differences};
pub use kubeconfig::{Amendment, amendment, former_endpoints};

use super::{
    Action, KeyChoice, Plan, Reason, Step,
    init::{request_file, request_key_file},
};
use crate::model::{
    catalogue::KeyPolicy,
    duration::{Span, Threshold},
    inventory::{CertView, Inventory, Observed, Piece},
    layout::{Instance, Layout, Place},
    name::Name,
    profile::{Kind, Validity},
    timestamp::Timestamp,
    usage::KeyUsages,
};

/// How near to its end a certificate is renewed unless told otherwise: 30 days, or a third of its life
/// where that is less, so that a certificate of a day is not renewed at every run.
pub const DEFAULT_WITHIN: [Threshold; 2] =
    [Threshold::Before(Span::days(30)), Threshold::Share(1.0 / 3.0)];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which leaves are looked at.
    pub selection: Selection,
    /// How near to its end is due; none for [`DEFAULT_WITHIN`], and for renewal whatever the time.
    pub within: Option<Threshold>,
    /// Which key new certificates get, whatever the catalogue says.
    pub key: Option<KeyChoice>,
    /// Requests instead of certificates, to be signed elsewhere.
    pub csr_only: bool,
    /// certkit.yaml's text, where it has to say more than it does.
    pub declaration: Option<String>,
    /// Whether a CA's key that is encrypted can be opened.
    pub can_open: bool,
    /// The time.
    pub now: Timestamp,
}

/// Which leaves are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All, and those are renewed that are due.
    Due,
    /// All, and all are renewed.
    All,
    /// These instances, by their index.
    Named(BTreeSet<usize>),
}

impl Selection {
    /// Whether it is everything, not what somebody named.
    fn is_whole(&self) -> bool {
        !matches!(self, Self::Named(_))
    }
}

/// What would be done, and what cannot be.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// The steps; certificates that are not due are kept.
    pub plan: Plan,
    /// What is due and cannot be renewed.
    pub blocked: Vec<Blocked>,
    /// The certificate that will be due next, and when it ends.
    pub next: Option<(String, Timestamp)>,
}

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
    /// It would end as soon as what is there does: with its CA.
    AuthorityEnds {
        /// The CA's certificate.
        authority: PathBuf,
        /// When.
        not_after: Timestamp,
    },
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
                "replace the CA: let every bundle trust both, then issue everything from the new one".into()
            }
            Self::Narrows { remedy, .. } => remedy.clone(),
            Self::Broken { hint, .. } => hint.clone(),
        }
    }
}

/// Which leaves to renew.
pub fn plan(layout: &Layout<'_>, inventory: &Inventory, request: &Request) -> Rotation {
    let instances = &layout.instances;
    let mut rotation = Rotation::default();
    if let Some(text) = &request.declaration {
        rotation.plan.steps.push(Step {
            action: Action::Declare(Some(text.clone())),
            label: "certkit.yaml".into(),
            files: vec!["certkit.yaml".into()],
            reason: Reason::Dialled,
        });
    }
    let selects = |index: usize| match &request.selection {
        Selection::Due | Selection::All => true,
        Selection::Named(names) => names.contains(&index),
    };
    // Who is to verify a new certificate must be able to, whatever it is that was named.
    let serves = (0..instances.len()).any(|i| instances[i].spec.is_server() && selects(i));
    for (index, instance) in instances.iter().enumerate() {
        let selected = selects(index) && !(instance.spec.is_ca() && request.selection.is_whole());
        let amendment = (selected || serves)
            .then(|| kubeconfig::amendment(layout, inventory, index))
            .flatten()
            .zip(inventory.instances[index].place.kubeconfig());
        if let Some((amendment, file)) = amendment {
            rotation.plan.steps.push(Step {
                reason: Reason::Drift(amendment.differences.clone()),
                action: Action::Amend { instance: index, amendment },
                label: format!("{} (kubeconfig)", instance.label()),
                files: vec![file.clone()],
            });
        }
        if selected {
            let observed = &inventory.instances[index];
            let one = One { layout, inventory, request, index, instance, observed };
            one.plan(&mut rotation);
        }
    }
    rotation
}

/// One leaf and all that is needed to judge it.
struct One<'a> {
    layout: &'a Layout<'a>,
    inventory: &'a Inventory,
    request: &'a Request,
    index: usize,
    instance: &'a Instance<'a>,
    observed: &'a Observed,
}

impl One<'_> {
    fn plan(&self, rotation: &mut Rotation) {
        let place = &self.observed.place;
        if let Some((file, why)) = self.unreadable() {
            let hint = "restore it from a backup (`certkit rotate --rollback` has the last change's), or \
                        move it away and run `certkit init`";
            return self.block(rotation, None, broken(file, why, hint));
        }
        let Some(certificate) = self.observed.certificate() else {
            if self.is_named() {
                let hint = "run `certkit init` to make it";
                self.block(rotation, None, broken(place.cert(), "is missing", hint));
            } else if self.inventory.declared && !self.observed.requested {
                let file = place.cert().display();
                rotation.plan.notes.push(format!("{file}: is missing; `certkit init` makes it"));
            }
            return;
        };
        if matches!(place, Place::Embedded { .. }) && self.observed.key.is_missing() {
            let hint = "put the key beside it, or both into files";
            let obstacle = broken(place.cert(), "embeds a certificate and not its key", hint);
            return self.block(rotation, None, obstacle);
        }
        let reasons = self.reasons(certificate);
        let ends_with_ca =
            self.only_expiring(&reasons).and_then(|()| self.end_of_authority(certificate));
        if let Some(obstacle) = ends_with_ca {
            return self.block(rotation, reasons.first().cloned(), obstacle);
        }
        let reason = match reasons.len() {
            0 => {
                let end = certificate.validity.not_after;
                if rotation.next.as_ref().is_none_or(|(_, next)| end < *next) {
                    rotation.next = Some((self.instance.label(), end));
                }
                let label = self.instance.label();
                let (action, files) = (Action::Keep, self.files());
                rotation.plan.steps.push(Step { action, label, files, reason: Reason::Right });
                return;
            }
            1 => reasons[0].clone(),
            _ => Reason::Several(reasons),
        };
        let key = self.key(certificate);
        if self.request.csr_only {
            return self.ask(key, reason, rotation);
        }
        if let Some(obstacle) = self.obstacle(certificate) {
            return self.block(rotation, Some(reason), obstacle);
        }
        rotation.plan.steps.push(Step {
            action: Action::Issue { instance: self.index, key },
            label: self.instance.label(),
            files: self.files(),
            reason,
        });
    }

    /// A request to be signed elsewhere, unless one is waiting already.
    fn ask(&self, key: KeyChoice, reason: Reason, rotation: &mut Rotation) {
        let (action, reason) = match self.observed.requested {
            true => (Action::Keep, Reason::Waiting),
            false => (Action::Request { instance: self.index, key }, reason),
        };
        let files = vec![request_file(self.instance), request_key_file(self.instance)];
        let label = self.instance.label();
        rotation.plan.steps.push(Step { action, label, files, reason });
    }

    fn block(&self, rotation: &mut Rotation, due: Option<Reason>, obstacle: Obstacle) {
        let end = self.observed.certificate().map(|c| c.validity.not_after);
        rotation.blocked.push(Blocked {
            label: self.instance.label(),
            file: self.observed.place.cert().clone(),
            due,
            expired: end.is_some_and(|end| end < self.request.now),
            obstacle,
        });
    }

    /// The files that renewing touches; a kubeconfig that names its credential's file is not one.
    fn files(&self) -> Vec<PathBuf> {
        self.observed.place.files()
    }

    fn is_named(&self) -> bool {
        matches!(self.request.selection, Selection::Named(_))
    }

    fn unreadable(&self) -> Option<(&PathBuf, &str)> {
        let place = &self.observed.place;
        match (&self.observed.kubeconfig, &self.observed.certificates, &self.observed.key) {
            (Piece::Bad(why), _, _) => Some((place.kubeconfig().unwrap_or(place.cert()), why)),
            (_, Piece::Bad(why), _) => Some((place.cert(), why)),
            (_, _, Piece::Bad(why)) => Some((place.key(), why)),
            _ => None,
        }
    }

    /// Everything that makes it due.
    fn reasons(&self, certificate: &CertView) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let within = self.request.within;
        match self.request.selection {
            Selection::All => reasons.push(Reason::Asked),
            Selection::Named(_) if within.is_none() => reasons.push(Reason::Asked),
            Selection::Named(_) | Selection::Due => {}
        }
        if is_due(certificate.validity, within, self.request.now) {
            let not_after = certificate.validity.not_after;
            let left = not_after.since(self.request.now);
            reasons.push(Reason::Expiring { not_after, left });
        }
        match &self.observed.key {
            Piece::Missing => reasons.push(Reason::KeyMissing),
            Piece::Present(key) if key.public_key != certificate.public_key => {
                reasons.push(Reason::KeyMismatch);
            }
            Piece::Present(_) | Piece::Bad(_) => {}
        }
        if self.inventory.declared {
            let mut differences = differences(self.instance, self.layout.cluster, self.observed);
            if self.request.key != Some(KeyChoice::Existing) {
                differences.extend(self.algorithm_difference(certificate));
            }
            if !differences.is_empty() {
                reasons.push(Reason::Drift(differences));
            }
        }
        reasons
    }

    fn algorithm_difference(&self, certificate: &CertView) -> Option<String> {
        algorithm_difference(self.layout.cluster.algorithm_of(self.instance.spec.id), certificate)
    }

    /// Whether time is all that makes it due.
    fn only_expiring(&self, reasons: &[Reason]) -> Option<()> {
        matches!(reasons, [Reason::Expiring { .. }]).then_some(())
    }

    /// What stands against renewing what would end no later than it does: its CA ends then.
    fn end_of_authority(&self, certificate: &CertView) -> Option<Obstacle> {
        let above = self.layout.issuer(self.index)?;
        let observed = &self.inventory.instances[above];
        let (end, now) = (observed.certificate()?.validity.not_after, self.request.now);
        let is_last = certificate.validity.not_after >= end && end > now;
        is_last.then(|| Obstacle::AuthorityEnds {
            authority: observed.place.cert().clone(),
            not_after: end,
        })
    }

    /// The key of the new certificate. What is missing or another's cannot be kept, and what is asked for
    /// comes before what the catalogue says.
    fn key(&self, certificate: &CertView) -> KeyChoice {
        let usable =
            self.observed.key.present().is_some_and(|key| key.public_key == certificate.public_key);
        let drifted = self.inventory.declared && self.algorithm_difference(certificate).is_some();
        match (usable, self.request.key, self.instance.spec.key) {
            (false, ..) => KeyChoice::New,
            (true, Some(choice), _) => choice,
            (true, None, KeyPolicy::Keep) if !drifted => KeyChoice::Existing,
            (true, None, KeyPolicy::Keep | KeyPolicy::New) => KeyChoice::New,
        }
    }

    fn obstacle(&self, certificate: &CertView) -> Option<Obstacle> {
        let above = self.layout.issuer(self.index)?;
        let signing = Signing {
            authority: &self.inventory.instances[above],
            issuer: &certificate.issuer,
            is_signed: self.observed.signed_by_issuer,
            is_bound: self.inventory.declared || self.is_named(),
            can_open: self.request.can_open,
            now: self.request.now,
        };
        signing.obstacle()
    }
}

/// Whether a CA in place can sign a leaf: asked by rotating, and by whoever says what rotating would do.
#[derive(Clone, Debug)]
pub struct Signing<'a> {
    /// The CA, its signer first.
    pub authority: &'a Observed,
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
        let replace =
            "replace the CA: let every bundle trust both, then issue everything from the new one";
        if let Some(why) = authority_fault(authority, self.now) {
            return Some(broken(file, &why, replace));
        }
        match &observed.key {
            Piece::Missing => return Some(Obstacle::External { authority: file.clone() }),
            Piece::Bad(why) => {
                let hint = "restore it, or have openssl write it as certkit reads it: openssl pkcs8 \
                            -topk8 -in FILE -out FILE.new";
                return Some(broken(key_file, why, hint));
            }
            Piece::Present(key) if key.public_key != authority.public_key => {
                let why = format!("does not belong to {}", file.display());
                return Some(broken(key_file, &why, "restore the one that is wrong"));
            }
            Piece::Present(key) if key.is_sealed && !self.can_open => {
                return Some(Obstacle::Sealed { key: key_file.clone() });
            }
            Piece::Present(_) => {}
        }
        let foreign = self.is_signed == Some(false);
        (foreign && !self.is_bound)
            .then(|| Obstacle::Foreign { issuer: self.issuer.to_string(), authority: file.clone() })
    }
}

fn broken(file: &std::path::Path, why: &str, hint: &str) -> Obstacle {
    Obstacle::Broken { file: file.to_path_buf(), why: why.to_owned(), hint: hint.to_owned() }
}

/// Why this certificate can sign nothing at that time.
fn authority_fault(authority: &CertView, now: Timestamp) -> Option<String> {
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

/// Whether so little of this life is left that it is time to renew.
pub fn is_due(validity: Validity, within: Option<Threshold>, now: Timestamp) -> bool {
    let life = validity.not_after.since(validity.not_before);
    let left = validity.not_after.since(now).0;
    let threshold = match within {
        Some(threshold) => threshold.seconds(life),
        None => DEFAULT_WITHIN.into_iter().map(|t| t.seconds(life)).min().unwrap_or_default(),
    };
    left <= threshold
}

/// Which key a step that renews gives the certificate; none for other steps.
pub fn key_of(action: &Action) -> Option<KeyChoice> {
    match action {
        Action::Issue { key, .. } | Action::Request { key, .. } => Some(*key),
        _ => None,
    }
}

/// The instances that a name stands for: a row's id, on all hosts, or one of an instance's files.
pub fn find(instances: &[Instance<'_>], places: &[Place], name: &str) -> BTreeSet<usize> {
    let is = |index: usize, instance: &Instance<'_>| {
        let place = &places[index];
        instance.spec.id == name
            || instance.label() == name
            || place.files().iter().chain(place.kubeconfig()).any(|f| f.as_os_str() == name)
    };
    instances.iter().enumerate().filter(|(i, instance)| is(*i, instance)).map(|(i, _)| i).collect()
}
