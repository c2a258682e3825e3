//! What goes with certificates: bundles and chains, key pairs without certificates, copies for hosts.

use std::path::PathBuf;

use super::Planner;
use crate::model::{
    inventory::{ConfigState, FileContent, ObservedKeyPair, Piece},
    plan::{Action, Reason},
};

impl Planner<'_> {
    pub(super) fn derived(&mut self) {
        for (index, derived) in self.layout.derived.iter().enumerate() {
            let file = &self.inventory.derived[index];
            let instance = &self.instances[derived.authority];
            let observed = &self.inventory.instances[derived.authority];
            let kind = if derived.is_chain { "chain" } else { "bundle" };
            let label = format!("{} ({kind})", instance.label());
            let authority_file = observed.place.cert();
            match &file.content {
                Piece::Missing if self.awaited.contains(instance.spec.id) => {}
                Piece::Missing => {
                    self.step(
                        Action::Derive(index),
                        label,
                        vec![file.path.clone()],
                        Reason::Missing,
                    );
                }
                Piece::Bad(why) => self.bad(&file.path, why),
                Piece::Present(FileContent::Certificates(trusted)) => {
                    match observed.certificate() {
                        Some(ca) if trusted.iter().any(|t| t.fingerprint == ca.fingerprint) => {
                            let files = vec![file.path.clone()];
                            self.step(Action::Keep, label, files, Reason::Right);
                        }
                        Some(_) => self.contradict(
                            &[&file.path, authority_file],
                            format!("does not hold {}", authority_file.display()),
                            "restore the one that is wrong, or move the bundle away",
                        ),
                        None => self.contradict(
                            &[authority_file, &file.path],
                            format!("is missing, though {} is there", file.path.display()),
                            "restore the CA, or move the bundle away",
                        ),
                    }
                }
                Piece::Present(FileContent::Copy { .. }) => {}
            }
        }
    }

    pub(super) fn key_pairs(&mut self) {
        for (index, spec) in self.layout.key_pairs.iter().enumerate() {
            let ObservedKeyPair { private, public } = &self.inventory.key_pairs[index];
            let (private_file, public_file) = (spec.private.into(), PathBuf::from(spec.public));
            let both = vec![PathBuf::clone(&private_file), public_file.clone()];
            match (private, public) {
                (Piece::Bad(why), _) => self.bad(&private_file, why),
                (_, Piece::Bad(why)) => self.bad(&public_file, why),
                (Piece::Missing, Piece::Missing) => {
                    self.step(Action::GenerateKeyPair(index), spec.id.into(), both, Reason::Missing);
                }
                (Piece::Missing, Piece::Present(_)) => self.contradict(
                    &[&private_file, &public_file],
                    format!("is missing, though {} is there", public_file.display()),
                    "restore it; a new key would make every token of the cluster invalid. If that is \
                     what you want, move the public key away too",
                ),
                (Piece::Present(_), Piece::Missing) => {
                    let files = vec![public_file];
                    self.step(Action::PublishKey(index), spec.id.into(), files, Reason::Missing);
                }
                (Piece::Present(key), Piece::Present(all)) if all.contains(&key.public_key) => {
                    self.step(Action::Keep, spec.id.into(), both, Reason::Right);
                }
                (Piece::Present(_), Piece::Present(_)) => self.contradict(
                    &[&public_file, &private_file],
                    format!("does not hold the public key of {}", private_file.display()),
                    "restore the one that is wrong; if it is the public key, move it away and run \
                     `certkit init`",
                ),
            }
        }
    }

    pub(super) fn copies(&mut self) {
        for (index, copy) in self.layout.copies.iter().enumerate() {
            let label = copy.from.display().to_string();
            match &self.inventory.copies[index].content {
                // What has no original, such as the key of an external CA, has no copy.
                Piece::Missing if !self.files.contains(&copy.from) => {}
                Piece::Missing => {
                    self.step(Action::Copy(index), label, vec![copy.to.clone()], Reason::Missing);
                }
                Piece::Present(FileContent::Copy { same: true }) => {
                    self.step(Action::Keep, label, vec![copy.to.clone()], Reason::Right);
                }
                Piece::Present(_) => self.contradict(
                    &[&copy.to, &copy.from],
                    format!("is not the same as {}", copy.from.display()),
                    "move the copy away and run `certkit init` to copy it anew, or restore the original",
                ),
                Piece::Bad(why) => self.bad(&copy.to, why),
            }
        }
    }

    /// Configuration files are made where they are missing and kept current while nobody has edited them.
    pub(super) fn configs(&mut self) {
        for (index, observed) in self.inventory.configs.iter().enumerate() {
            let path = &observed.path;
            let label = path.file_name().unwrap_or_default().display().to_string();
            let (action, reason) = match &observed.content {
                Piece::Missing => (Action::Configure(index), Reason::Missing),
                Piece::Bad(why) => {
                    self.bad(path, why);
                    continue;
                }
                Piece::Present(ConfigState::Right) => (Action::Keep, Reason::Right),
                Piece::Present(ConfigState::Outdated(differences)) => {
                    (Action::Configure(index), Reason::Drift(differences.clone()))
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
