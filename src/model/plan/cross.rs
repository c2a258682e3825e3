//! One generation of a CA vouching for the next, for verifiers that know nothing else; and what is sent after
//! certificates that stay as they are.

use super::{
    Action, CertRef, KeyChoice, Reason,
    kubeconfig::KubeconfigContent,
    obstacle::{Obstacle, broken},
    reconcile::Reconciler,
};
use crate::model::{
    authority::{Generations, Move, Slot, Stage},
    observed::CertView,
    profile::Kind,
};

impl Reconciler<'_> {
    /// Has the one that issues vouch for the one that follows it, keeps that as long as it is of use, and gives what is
    /// sent of it after certificates from now on.
    pub(super) fn cross(
        &mut self,
        index: usize,
        step: Move,
        generations: &Generations<'_>,
    ) -> Option<CertRef> {
        let instance = self.spec_of(index);
        let file = instance.root.join(Slot::cross(&instance.spec.home)?);
        let label = format!("{} (cross)", instance.spec.id);
        let reason = Reason::Stage(step.end());
        match step {
            Move::Split | Move::Join | Move::SwitchBack => None,
            Move::Drop | Move::TakeBack => {
                if self.has_original(&file) {
                    self.step(Action::Remove, label, vec![file], reason);
                }
                None
            }
            Move::Introduce | Move::Switch => {
                let next = generations.next.filter(|_| step == Move::Switch);
                let there = next.and_then(|next| self.crossed(index, next));
                // What a root vouches for is of no use where it allows no more CAs below it: its servers send what it
                // signed itself.
                let is_wanted = self.policy.cross_signs && !self.layout.is_above(index);
                if there.is_none() && is_wanted {
                    self.step(Action::CrossSign(index), label, vec![file], reason);
                    return Some(CertRef::Crossed(index));
                }
                there
            }
        }
    }

    /// The certificate by which the one before this generation vouches for it.
    pub(super) fn crossed(&self, authority: usize, generation: &CertView) -> Option<CertRef> {
        let cross = self.observed.crossed.get(&authority)?;
        let is_its = cross.public_key == generation.public_key
            && cross.profile.subject == generation.profile.subject;
        is_its.then(|| CertRef::There(cross.der.clone()))
    }

    /// What stands against having the one that issues vouch for what follows it.
    pub(super) fn cannot_cross(&self, index: usize, step: Move) -> Option<Obstacle> {
        let is_wanted = self.policy.cross_signs && !self.layout.is_above(index);
        if !is_wanted || !matches!(step, Move::Introduce | Move::Switch) {
            return None;
        }
        let held = self.held(index);
        let active = held.certificate()?;
        if matches!(active.profile.kind, Kind::Ca { path_len: Some(0) }) {
            let why = "allows no CA below it (pathLenConstraint), so it can vouch for none";
            return Some(broken(held.place.cert(), why, "leave out --cross-sign"));
        }
        self.signing(held, active, None).obstacle()
    }

    /// Has nobody send any more what only the one that is dropped vouches for.
    pub(super) fn send_no_longer(
        &mut self,
        index: usize,
        leaves: &[usize],
        gone: &[&CertView],
        bundle: &[CertRef],
    ) {
        let active = self.held(index).certificate().map(|ca| &ca.profile.subject);
        let is_gone = |ca: &CertView| {
            let by = |old: &&&CertView| {
                let subject = &old.profile.subject;
                ca.der == old.der || (*subject == ca.issuer && Some(subject) != active)
            };
            gone.iter().find(by).is_some()
        };
        let is_above = self.layout.is_above(index);
        for leaf in leaves.iter().copied() {
            let Some(signer) = self.layout.issuer(leaf) else { continue };
            let is_below = match is_above {
                true => self.layout.issuer(signer) == Some(index),
                false => signer == index,
            };
            let sent = self.held(leaf).certificates.present().and_then(|all| all.get(1..));
            let sent = sent.unwrap_or_default();
            if self.spec_of(leaf).spec.is_ca() || !is_below || !sent.iter().any(is_gone) {
                continue;
            }
            let kept = sent.iter().filter(|ca| !is_gone(ca));
            let kept = kept.map(|ca| CertRef::There(ca.der.clone())).collect();
            let bundle = (!is_above).then_some(bundle);
            self.resend(leaf, kept, bundle, Reason::Stage(Stage::Stable));
        }
    }

    /// Writes a certificate that stays as it is with something else after it.
    pub(super) fn resend(
        &mut self,
        index: usize,
        sent: Vec<CertRef>,
        bundle: Option<&[CertRef]>,
        reason: Reason,
    ) {
        let mut order = self.ordered(index, KeyChoice::Existing);
        order.chain = sent;
        if let (Some(write), Some(bundle)) = (&mut order.kubeconfig, bundle) {
            let trust = self.exactly(index, bundle);
            write.content = KubeconfigContent::Edit { server: None, trust };
        }
        let label = format!("{} (chain)", self.spec_of(index).label());
        let files = vec![order.place.cert().clone()];
        self.step(Action::Resend(Box::new(order)), label, files, reason);
    }
}
