//! A CA's new self: the key and the name it has, and another term or another signer. Everything that it signed goes on
//! leading to it, and everything that holds the certificate itself gets the new one.

use std::path::PathBuf;

use super::{
    Action, CertRef, KeyChoice, Order, Reason,
    credential::as_long,
    kubeconfig::{KubeconfigContent, KubeconfigWrite},
    obstacle::{Obstacle, broken},
    reconcile::Reconciler,
    request_file, request_key_file,
};
use crate::model::{
    authority::{Move, Slot, Stage},
    layout::Place,
    observed::{CertView, FoundKey},
    resolve,
};

impl Reconciler<'_> {
    /// Gives a CA a new term, with the key and the name it has: everything that it signed goes on leading to it, and
    /// everything that holds the certificate itself gets the new one.
    pub(super) fn renew_authority(&mut self, index: usize) {
        let Some(old) = self.held(index).certificate() else { return };
        if let Some(obstacle) = self.cannot_renew(index, old) {
            return self.block_authority(index, obstacle);
        }
        let signer = self.layout.issuer(index).map(|above| (above, Slot::Active));
        let not_after = old.validity.not_after;
        let reason = Reason::Expiring { not_after, left: not_after.since(self.now) };
        self.certify_again(index, old, signer, &reason);
        self.replace_everywhere(index, old, &reason);
    }

    /// Has a CA that is below a root signed by another generation of that root, with the key and the name it has: all
    /// that it signed goes on leading to it.
    pub(super) fn recertify(
        &mut self,
        index: usize,
        signer: (usize, Slot),
        roots: &[CertRef],
        step: Move,
    ) {
        let Some(old) = self.held(index).certificate() else { return };
        let reason = Reason::Stage(step.end());
        self.certify_again(index, old, Some(signer), &reason);
        self.replace_everywhere(index, old, &reason);
        self.chain_again(index, roots, reason);
    }

    /// Orders a CA's new self.
    pub(super) fn certify_again(
        &mut self,
        index: usize,
        old: &CertView,
        signer: Option<(usize, Slot)>,
        reason: &Reason,
    ) {
        let (instance, held) = (self.spec_of(index), self.held(index));
        let (cert, key) = (held.place.cert(), held.place.key());
        let declared = resolve::validity(instance, self.cluster, self.now);
        let rest = held.certificates.present().and_then(|all| all.get(1..)).unwrap_or_default();
        let order = Order {
            instance: index,
            slot: Slot::Active,
            place: Place::Pair { cert: cert.clone(), key: key.clone() },
            request: (request_file(instance), request_key_file(instance)),
            key: KeyChoice::Existing,
            algorithm: self.cluster.algorithm_of(instance.spec.id.name()),
            profile: old.profile.clone(),
            validity: match self.observed.declared {
                true => declared,
                false => as_long(old.validity, declared),
            },
            copies: true,
            signer,
            chain: rest.iter().map(|ca| CertRef::There(ca.der.clone())).collect(),
            kubeconfig: None,
        };
        let files = vec![cert.clone()];
        self.step(Action::Issue(Box::new(order)), instance.label(), files, reason.clone());
        self.made.insert(index);
        self.renewed.insert(index);
    }

    /// Puts a CA's new self in the place of the old one, in everything that holds that.
    pub(super) fn replace_everywhere(&mut self, index: usize, old: &CertView, reason: &Reason) {
        let cert = self.held(index).place.cert();
        let mut sources = vec![cert.clone()];
        for (number, derived) in self.layout.derived.iter().enumerate() {
            let Some(found) = self.observed.derived[number].present() else { continue };
            if found.iter().any(|ca| ca.der == old.der) {
                let all = self.with_renewed(found.iter());
                let kind = if derived.is_chain { "chain" } else { "bundle" };
                let label = format!("{} ({kind})", self.spec_of(derived.authority).label());
                let files = vec![derived.path.clone()];
                self.step(Action::Bundle(all), label, files, reason.clone());
                sources.push(derived.path.clone());
            }
        }
        for client in 0..self.layout.instances.len() {
            if self.layout.issuer(client) != Some(index) {
                continue;
            }
            if let Some(kubeconfig) = self.trusting_renewed(client) {
                let label = format!("{} (kubeconfig)", self.spec_of(client).label());
                let files = vec![kubeconfig.file.clone()];
                self.step(Action::Amend(kubeconfig), label, files, reason.clone());
            }
            self.send_again(client, old, reason);
        }
        self.copy_from(&sources, reason);
    }

    /// Has what is sent after a certificate hold a CA's new self in the place of the old one.
    pub(super) fn send_again(&mut self, index: usize, old: &CertView, reason: &Reason) {
        let held = self.held(index);
        let sent = held.certificates.present().and_then(|all| all.get(1..)).unwrap_or_default();
        if !sent.iter().any(|ca| ca.der == old.der) || !held.key.is_of_first(&held.certificates) {
            return;
        }
        // Of a CA that was signed again only one is sent, but for those who know the root before alone: openssl tries
        // none but the first.
        let is_kept = |ca: &&CertView| ca.der == old.der || ca.public_key != old.public_key;
        let mut all = self.with_renewed(sent.iter().filter(is_kept));
        if self.policy.cross_signs && matches!(reason, Reason::Stage(Stage::Switched)) {
            all.insert(0, CertRef::There(old.der.clone()));
        }
        self.resend(index, all, None, reason.clone());
    }

    /// Writes the chain of a CA again: what is trusted in its place, and of what is above it all generations that are
    /// trusted.
    pub(super) fn chain_again(&mut self, index: usize, above: &[CertRef], reason: Reason) {
        let mut sources = Vec::new();
        for (number, derived) in self.layout.derived.iter().enumerate() {
            let is_there = !self.observed.derived[number].is_missing();
            if derived.authority == index && derived.is_chain && is_there {
                let mut all = self.trusted(index);
                all.extend_from_slice(above);
                let label = format!("{} (chain)", self.spec_of(index).label());
                let files = vec![derived.path.clone()];
                self.step(Action::Bundle(all), label, files, reason.clone());
                sources.push(derived.path.clone());
            }
        }
        self.copy_from(&sources, &reason);
    }

    /// Has copies follow files that are written under the name they have.
    pub(super) fn copy_from(&mut self, sources: &[PathBuf], reason: &Reason) {
        for copy in &self.layout.copies {
            if sources.contains(&copy.from) {
                let action = Action::Copy { from: copy.from.clone(), mode: copy.mode };
                let label = copy.from.display().to_string();
                self.step(action, label, vec![copy.to.clone()], reason.clone());
            }
        }
    }

    /// What stands against giving a CA a new term.
    pub(super) fn cannot_renew(&self, index: usize, old: &CertView) -> Option<Obstacle> {
        let held = self.held(index);
        let (cert, key) = (held.place.cert(), held.place.key());
        let restore =
            "restore it from a backup; without the key the CA can only be replaced by another one";
        match &held.key {
            FoundKey::Missing => {
                return Some(Obstacle::External { authority: cert.clone() });
            }
            FoundKey::Sealed(_) if !self.policy.can_open => {
                return Some(Obstacle::Sealed { key: key.clone() });
            }
            found if found.fault().is_some() => {
                return Some(broken(key, found.fault().unwrap_or_default(), restore));
            }
            found if !found.is_of(old) => {
                let why = format!("does not belong to {}", cert.display());
                return Some(broken(key, &why, restore));
            }
            _ => {}
        }
        let above = self.layout.issuer(index).filter(|above| !self.renewed.contains(above))?;
        self.signing(self.held(above), old, held.is_signed()).obstacle()
    }

    /// These certificates, each CA that is renewed in the place of its old self.
    pub(super) fn with_renewed<'c>(
        &self,
        all: impl IntoIterator<Item = &'c CertView>,
    ) -> Vec<CertRef> {
        let renewed = |ca: &CertView| {
            let is_old =
                |one: &&usize| self.held(**one).certificate().is_some_and(|old| old.der == ca.der);
            self.renewed.iter().find(is_old)
        };
        let new = |ca: &CertView| match renewed(ca) {
            Some(authority) => CertRef::Made(*authority),
            None => CertRef::There(ca.der.clone()),
        };
        all.into_iter().map(new).collect()
    }

    /// The edit that has a kubeconfig trust its CA's new self in the place of the old one.
    pub(super) fn trusting_renewed(&self, index: usize) -> Option<KubeconfigWrite> {
        let held = self.held(index);
        let view = held.readable_kubeconfig().filter(|view| view.authority_file.is_none())?;
        let trust = self.with_renewed(view.authorities.present()?.iter());
        Some(KubeconfigWrite {
            instance: index,
            file: held.place.kubeconfig()?.clone(),
            content: KubeconfigContent::Edit { server: None, trust: Some(trust) },
            embeds: matches!(held.place, Place::Embedded { .. }),
        })
    }
}
