//! What goes with certificates: bundles and chains, key pairs without certificates, copies for hosts.

use std::path::{Path, PathBuf};

use super::{Action, CertRef, KeyRef, Reason, Selection, reconcile::Reconciler};
use crate::model::observed::{ConfigState, FoundKey, HeldCopy, HeldKeyPair, Piece};

impl Reconciler<'_> {
    pub(super) fn derived(&mut self) {
        for (index, derived) in self.layout.derived.iter().enumerate() {
            let (found, path) = (&self.observed.derived[index], &derived.path);
            let instance = self.spec_of(derived.authority);
            let observed = self.held(derived.authority);
            let kind = if derived.is_chain { "chain" } else { "bundle" };
            let label = format!("{} ({kind})", instance.label());
            let authority_file = observed.place.cert();
            match found {
                Piece::Missing if self.awaited.contains(&derived.authority) => {}
                Piece::Missing => {
                    self.step(
                        Action::Bundle(self.bundle(derived.authority, derived.is_chain)),
                        label,
                        vec![path.clone()],
                        Reason::Missing,
                    );
                }
                Piece::Bad(why) => self.bad(path, why),
                Piece::Present(trusted) => match observed.certificate() {
                    Some(ca) if trusted.iter().any(|t| t.fingerprint == ca.fingerprint) => {
                        let files = vec![path.clone()];
                        self.step(Action::Keep, label, files, Reason::Right);
                    }
                    Some(_) => self.contradict(
                        &[path, authority_file],
                        format!("does not hold {}", authority_file.display()),
                        "restore the one that is wrong, or move the bundle away",
                    ),
                    None => self.contradict(
                        &[authority_file, path],
                        format!("is missing, though {} is there", path.display()),
                        "restore the CA, or move the bundle away",
                    ),
                },
            }
        }
    }

    /// What a CA's bundle or chain is made of: itself, and in a chain what is above it.
    fn bundle(&self, authority: usize, is_chain: bool) -> Vec<CertRef> {
        let mut all = self.certificates_of(authority);
        if is_chain && let Some(above) = self.layout.issuer(authority) {
            all.extend(self.trusted(above));
        }
        all
    }

    pub(super) fn key_pairs(&mut self) {
        for (index, spec) in self.layout.key_pairs.iter().enumerate() {
            let HeldKeyPair { private, public, .. } = &self.observed.key_pairs[index];
            if let Some(why) = private.fault() {
                self.bad(spec.private.as_ref(), why);
                continue;
            }
            let (private_file, public_file) = (spec.private.into(), PathBuf::from(spec.public));
            let both = vec![PathBuf::clone(&private_file), public_file.clone()];
            match (private, public) {
                (_, Piece::Bad(why)) => self.bad(&public_file, why),
                (FoundKey::Missing, Piece::Missing) => {
                    self.step(Action::GenerateKeyPair { index, algorithm: self.cluster.algorithm_of(spec.id) }, spec.id.into(), both, Reason::Missing);
                }
                (FoundKey::Missing, Piece::Present(_)) => self.contradict(
                    &[&private_file, &public_file],
                    format!("is missing, though {} is there", public_file.display()),
                    "restore it; a new key would make every token of the cluster invalid. If that is \
                     what you want, move the public key away too",
                ),
                (FoundKey::Present(own), Piece::Missing) => {
                    let files = vec![public_file];
                    self.step(Action::PublicKeys(vec![KeyRef::There(own.public_key.clone())]), spec.id.into(), files, Reason::Missing);
                }
                (FoundKey::Present(key), Piece::Present(all)) if all.contains(&key.public_key) => {
                    self.step(Action::Keep, spec.id.into(), both, Reason::Right);
                }
                (_, Piece::Present(_)) => self.contradict(
                    &[&public_file, &private_file],
                    format!("does not hold the public key of {}", private_file.display()),
                    "restore the one that is wrong; if it is the public key, move it away and run \
                     `certkit init`",
                ),
                // What is wrong with one that cannot be used was said above.
                (_, Piece::Missing) => {}
            }
        }
    }

    pub(super) fn copies(&mut self) {
        for (index, copy) in self.layout.copies.iter().enumerate() {
            let label = copy.from.display().to_string();
            match &self.observed.copies[index] {
                // What has no original, such as the key of an external CA, has no copy.
                HeldCopy::Missing { .. } if !self.files.contains(&copy.from) => {}
                HeldCopy::Missing { .. } => {
                    self.step(
                        Action::Copy { from: copy.from.clone(), mode: copy.mode },
                        label,
                        vec![copy.to.clone()],
                        Reason::Missing,
                    );
                }
                HeldCopy::Same => {
                    self.step(Action::Keep, label, vec![copy.to.clone()], Reason::Right);
                }
                HeldCopy::Differs | HeldCopy::Alone => {
                    let what = format!("is not the same as {}", copy.from.display());
                    let anew = "move the copy away and run `certkit init` to copy it anew, or restore the original";
                    let hint = match self.late(copy) {
                        Some(id) => format!(
                            "`certkit rotate-ca {id} --next` brings a stage to nodes that it has not come to; else {anew}"
                        ),
                        None => anew.to_owned(),
                    };
                    self.contradict(&[&copy.to, &copy.from], what, hint);
                }
                HeldCopy::Bad(why) => self.bad(&copy.to, why),
            }
        }
    }

    /// Files go to their declared owners: all where all is looked at, else those of what is renewed. What is written
    /// anyway is given away as it is.
    pub(super) fn owners(&mut self) {
        for (file, one) in &self.observed.owned {
            let Some(difference) = &one.difference else { continue };
            if !self.gives(file) || self.plan.steps.iter().any(|step| step.writes(file)) {
                continue;
            }
            let (label, files) = (format!("{} (owner)", one.label), vec![file.clone()]);
            self.step(Action::Give, label, files, Reason::Drift(vec![difference.clone()]));
        }
    }

    fn gives(&self, file: &Path) -> bool {
        match &self.policy.renewal {
            _ if self.policy.completes => true,
            None => false,
            Some(renewal) if renewal.csr_only => false,
            Some(renewal) => match &renewal.selection {
                Selection::All | Selection::Due => true,
                Selection::Named(indices) => indices.iter().any(|index| {
                    let place = &self.held(*index).place;
                    place.key() == file || place.kubeconfig().is_some_and(|one| one == file)
                }),
            },
        }
    }

    /// Configuration files are made where they are missing and kept current while nobody has edited them.
    pub(super) fn configs(&mut self) {
        for observed in &self.observed.configs {
            let path = &observed.path;
            let label = path.file_name().unwrap_or_default().display().to_string();
            let (action, reason) = match &observed.content {
                Piece::Missing => (Action::Configure(observed.wanted.clone()), Reason::Missing),
                Piece::Bad(why) => {
                    self.bad(path, why);
                    continue;
                }
                Piece::Present(ConfigState::Right) => (Action::Keep, Reason::Right),
                Piece::Present(ConfigState::Outdated(differences)) => {
                    (Action::Configure(observed.wanted.clone()), Reason::Drift(differences.clone()))
                }
                Piece::Present(ConfigState::Edited(differences)) => {
                    self.plan.notes.push(format!(
                        "{}: somebody edited it, and it is left alone: {}; mend it, or move it away \
                         and run `certkit init`",
                        path.display(),
                        differences.join("; ")
                    ));
                    (Action::Keep, Reason::Drift(differences.clone()))
                }
            };
            self.step(action, label, vec![path.clone()], reason);
        }
    }
}
