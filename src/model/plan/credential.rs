//! One certificate and its key: what is wrong with it, and under a policy what is done.

use std::{collections::BTreeSet, path::Path};

use super::{
    Action, CertRef, KeyChoice, Order, Reason, Renewal, Selection,
    difference::{algorithm_difference, differences, names_the_same},
    kubeconfig::{KubeconfigContent, KubeconfigWrite},
    obstacle::{Blocked, Obstacle, Signing, authority_fault, broken},
    reconcile::Reconciler,
    request_file, request_key_file,
};
use crate::model::{
    authority::Slot,
    catalogue::{ETCD_PEER_NAME, KeyPolicy},
    duration::{Span, Threshold},
    layout::{Instance, Place},
    observed::{CertView, FoundKey, Held, Piece},
    profile::{Profile, Validity},
    resolve,
    san::San,
    timestamp::Timestamp,
};

/// How near to its end a certificate is renewed unless told otherwise: 30 days, or a third of its life
/// where that is less, so that a certificate of a day is not renewed at every run.
pub const DEFAULT_WITHIN: [Threshold; 2] =
    [Threshold::Before(Span::days(30)), Threshold::Share(1.0 / 3.0)];

/// Whether so little of this life is left that it is time to renew.
pub fn is_due(validity: Validity, within: Option<Threshold>, now: Timestamp) -> bool {
    validity.not_after.since(now).0 <= threshold(validity, within)
}

/// From when on it is.
fn due(validity: Validity, within: Option<Threshold>) -> Timestamp {
    validity.not_after.plus(Span(-threshold(validity, within)))
}

/// How many seconds before its end.
fn threshold(validity: Validity, within: Option<Threshold>) -> i64 {
    let life = validity.not_after.since(validity.not_before);
    match within {
        Some(threshold) => threshold.seconds(life),
        None => DEFAULT_WITHIN.into_iter().map(|t| t.seconds(life)).min().unwrap_or_default(),
    }
}

/// The instances that a name stands for: a row's id, on all hosts, or one of an instance's files.
pub fn find(instances: &[Instance<'_>], places: &[Place], name: &str) -> BTreeSet<usize> {
    let is = |index: usize, instance: &Instance<'_>| {
        let place = &places[index];
        instance.spec.id.name() == name
            || instance.label() == name
            || place.files().iter().chain(place.kubeconfig()).any(|f| f.as_os_str() == name)
    };
    instances.iter().enumerate().filter(|(i, instance)| is(*i, instance)).map(|(i, _)| i).collect()
}

impl Reconciler<'_> {
    /// Completing: keeps what is right, makes what is missing, names what contradicts.
    pub(super) fn credential(&mut self, index: usize) {
        let (instance, held) = (self.spec_of(index), self.held(index));
        let (cert_file, key_file) = (held.place.cert(), held.place.key());
        let before = self.plan.contradictions.len();
        if let Some(view) = &held.kubeconfig
            && let Piece::Bad(why) = &view.state
        {
            self.bad(&view.file, why);
        }
        // What is embedded in a bad kubeconfig was said once already.
        if !matches!(held.place, Place::Embedded { .. }) || self.plan.contradictions.len() == before
        {
            if let Piece::Bad(why) = &held.certificates {
                self.bad(cert_file, why);
            }
            if let Some(why) = held.key.fault()
                && (cert_file != key_file || !matches!(held.certificates, Piece::Bad(_)))
            {
                self.bad(key_file, why);
            }
        }
        if self.plan.contradictions.len() > before || self.is_elsewhere(index) {
            return;
        }
        let has_key = !held.key.is_missing();
        if instance.key_on_host {
            return self.kept_on_host(index);
        }
        match held.certificate() {
            Some(certificate) => self.existing(index, certificate),
            None if instance.spec.is_ca() && has_key => {
                let away = key_file.display();
                let hint = match self.bundle_file(index) {
                    Some(bundle) => format!(
                        "restore it (the first certificate in {} may be it), or move {away} away too",
                        bundle.display()
                    ),
                    None => format!("restore it, or move {away} away too"),
                };
                let what = "is missing, though its key is there";
                self.contradict(&[cert_file, key_file], what, hint);
            }
            None if has_key => self.make(index, KeyChoice::Existing, Reason::CertificateMissing),
            None => self.make(index, KeyChoice::New, Reason::Missing),
        }
    }

    /// The same where its host alone has the key: what that asks for is issued, and nothing of the key stays here.
    fn kept_on_host(&mut self, index: usize) {
        let (instance, held) = (self.spec_of(index), self.held(index));
        let file = held.place.cert().clone();
        let reason = match held.certificate() {
            _ if held.key.is_missing() => {
                self.plan.notes.push(awaited(&file));
                return self.step(Action::Keep, instance.label(), vec![file], Reason::Awaited);
            }
            None => Reason::CertificateMissing,
            Some(certificate) if !held.key.is_of(certificate) => Reason::Requested,
            Some(certificate) => {
                self.existing(index, certificate);
                if held.strays {
                    self.without_key(index);
                }
                return;
            }
        };
        self.make(index, KeyChoice::Existing, reason);
    }

    /// Takes out of the tree a key that its host is to have alone.
    fn without_key(&mut self, index: usize) {
        let (instance, place) = (self.spec_of(index), &self.held(index).place);
        let label = format!("{} (key)", instance.label());
        let action = match place.cert() == place.key() {
            true => Action::Resend(Box::new(self.ordered(index, KeyChoice::Existing))),
            false => Action::Remove,
        };
        self.step(action, label, vec![place.key().clone()], Reason::Strays);
    }

    /// Whether its kubeconfig names files of another machine, of which nothing can be said here.
    fn is_elsewhere(&mut self, index: usize) -> bool {
        let kubeconfig = self.held(index).kubeconfig.as_ref();
        let named = kubeconfig.and_then(|view| Some((&view.file, view.elsewhere.as_ref()?)));
        // What is declared has more to say of it.
        if let Some((file, path)) = named.filter(|_| self.kept_otherwise(index).is_none()) {
            let file = file.display();
            let note =
                format!("{file}: names {path}, which is not in this tree, and is left alone");
            self.plan.notes.push(note);
        }
        named.is_some()
    }

    /// A certificate that is there: right, or a contradiction, or of no use without its key.
    fn existing(&mut self, index: usize, certificate: &CertView) {
        let (instance, held) = (self.spec_of(index), self.held(index));
        let (cert_file, key_file) = (held.place.cert(), held.place.key());
        let (is_ca, has_key) = (instance.spec.is_ca(), !held.key.is_missing());
        if has_key && !held.key.is_of(certificate) {
            self.contradict(
                &[key_file, cert_file],
                format!("the key does not belong to the certificate in {}", cert_file.display()),
                "restore the one that is wrong; if the certificate is to be made anew, move both away",
            );
            return;
        }
        if is_ca && let Some(why) = authority_fault(certificate, self.now) {
            let hint = "put a CA certificate in its place, or move it and its key away";
            self.contradict(&[cert_file], why, hint);
        }
        self.issued(index, certificate);
        self.plan.lasts(certificate.validity.not_after);
        if !has_key && !is_ca {
            self.make(index, KeyChoice::New, Reason::KeyMissing);
            return;
        }
        if !is_ca {
            let profile = resolve::profile(instance, self.cluster);
            if !self.observed.declared && self.of_others(certificate, &profile, cert_file) {
                return;
            }
            if !same_names(&profile.sans, &certificate.profile.sans) {
                self.plan.notes.push(format!(
                    "{}: its names are no longer those declared; `certkit rotate` renews it",
                    cert_file.display()
                ));
            }
            if certificate.validity.not_after < self.now {
                self.plan.notes.push(format!(
                    "{}: expired {}; `certkit rotate` renews it",
                    cert_file.display(),
                    certificate.validity.not_after
                ));
            }
        }
        let files = if has_key { instance.files_at(&held.place) } else { vec![cert_file.clone()] };
        self.step(Action::Keep, instance.label(), files, Reason::Right);
    }

    /// Where nothing is declared yet, what is there must not be of another cluster or host than what is
    /// about to be declared. Names that certkit adds to what kubeadm makes may be missing.
    fn of_others(&mut self, certificate: &CertView, profile: &Profile, file: &Path) -> bool {
        let own = San::Dns(ETCD_PEER_NAME.to_owned());
        let there = &certificate.profile;
        let lacks = profile.sans.iter().find(|san| !there.sans.contains(san) && **san != own);
        let what = match lacks {
            _ if !names_the_same(there, profile) => {
                format!("it names {}, and is to name {}", there.subject, profile.subject)
            }
            Some(san) => format!("it lacks {san}"),
            None => return false,
        };
        self.contradict(
            &[file],
            format!("is of another cluster or host than the one asked for: {what}"),
            "to declare what is there as it is: `certkit init --adopt`; or say which cluster it is by \
             flags or --config",
        );
        true
    }

    fn issued(&mut self, index: usize, certificate: &CertView) {
        let Some(above) = self.layout.issuer(index) else { return };
        let (held, authority) = (self.held(index), self.held(above).place.cert());
        let file = held.place.cert();
        if self.made.contains(&above) {
            self.contradict(
                &[authority, file],
                format!(
                    "is missing, though {} was signed by {}",
                    file.display(),
                    certificate.issuer
                ),
                "restore the CA, or move away what it signed",
            );
        } else if held.is_signed() == Some(false) {
            self.contradict(
                &[file, authority],
                format!("was signed by {}, not by {}", certificate.issuer, authority.display()),
                "restore the one that is wrong, or move the certificate and its key away",
            );
        }
    }

    /// Makes a certificate, or where its CA's key is not here, a request.
    fn make(&mut self, index: usize, key: KeyChoice, reason: Reason) {
        let instance = self.spec_of(index);
        let above = self.layout.issuer(index);
        if let Some(above) = above.filter(|above| self.awaited.contains(above)) {
            self.plan.notes.push(format!(
                "{}: waits until {} is signed and taken in; `certkit init` makes it then",
                instance.label(),
                self.spec_of(above).spec.id
            ));
            return;
        }
        let external = above.map(|above| self.held(above)).is_some_and(|authority| {
            authority.certificate().is_some() && authority.key.is_missing()
        });
        if instance.spec.is_ca() {
            if external { &mut self.awaited } else { &mut self.made }.insert(index);
        }
        self.ask_or_issue(index, key, external, reason);
    }

    /// Adds the step that issues, or that asks elsewhere; a request that waits already is enough.
    fn ask_or_issue(&mut self, index: usize, key: KeyChoice, request: bool, reason: Reason) {
        if request && self.held(index).requested {
            let instance = self.spec_of(index);
            let mut files = vec![request_file(instance)];
            files.extend((!instance.key_on_host).then(|| request_key_file(instance)));
            return self.step(Action::Keep, instance.label(), files, Reason::Waiting);
        }
        let order = self.ordered(index, key);
        self.order(order, request, reason);
    }

    /// Renewing: a leaf that is due.
    pub(super) fn renew(&mut self, index: usize, renewal: &Renewal) {
        let (instance, held) = (self.spec_of(index), self.held(index));
        let is_named = !renewal.selection.is_whole();
        if let Some((file, why)) = held.fault() {
            let hint = "restore it from a backup (`certkit rotate --rollback` has the last change's), or \
                        move it away and run `certkit init`";
            return self.block(index, None, broken(file, why, hint));
        }
        if self.is_elsewhere(index) {
            return;
        }
        let Some(certificate) = held.certificate() else {
            if instance.key_on_host {
                let file = held.place.cert();
                self.plan.notes.push(match held.requested {
                    true => format!(
                        "{}: its host has asked for it; `certkit init` makes it",
                        file.display()
                    ),
                    false => awaited(file),
                });
            } else if is_named {
                let hint = "run `certkit init` to make it";
                self.block(index, None, broken(held.place.cert(), "is missing", hint));
            } else if self.observed.declared && !held.requested {
                let file = held.place.cert().display();
                self.plan.notes.push(format!("{file}: is missing; `certkit init` makes it"));
            }
            return;
        };
        if matches!(held.place, Place::Embedded { .. }) && held.key.is_missing() {
            let hint = "put the key beside it, or both into files";
            let what = "embeds a certificate and not its key";
            return self.block(index, None, broken(held.place.cert(), what, hint));
        }
        let mut reasons = self.reasons(index, certificate, renewal);
        // Time alone is no reason to renew what would end no later than it does.
        if matches!(reasons.as_slice(), [Reason::Expiring { .. }])
            && let Some(obstacle) = self.end_of_authority(index, certificate)
        {
            return self.block(index, reasons.pop(), obstacle);
        }
        let reason = match reasons.len() {
            0 => {
                let end = certificate.validity.not_after;
                self.plan.lasts(due(certificate.validity, renewal.within));
                if self.plan.next.as_ref().is_none_or(|(_, next)| end < *next) {
                    self.plan.next = Some((instance.label(), end));
                }
                let files = instance.files_at(&held.place);
                return self.step(Action::Keep, instance.label(), files, Reason::Right);
            }
            1 => reasons.remove(0),
            _ => Reason::Several(reasons),
        };
        let key = self.key(index, certificate, renewal);
        if instance.key_on_host && renewal.key == Some(KeyChoice::New) {
            return self.block(index, Some(reason), Obstacle::KeyOnHost);
        }
        if renewal.csr_only && instance.key_on_host && !held.requested {
            return self.block(index, Some(reason), Obstacle::KeyOnHost);
        }
        if renewal.csr_only {
            return self.ask_or_issue(index, key, true, reason);
        }
        if let Some(obstacle) = self.obstacle(index, certificate, is_named) {
            return self.block(index, Some(reason), obstacle);
        }
        self.ask_or_issue(index, key, false, reason);
    }

    fn block(&mut self, index: usize, due: Option<Reason>, obstacle: Obstacle) {
        let held = self.held(index);
        let end = held.certificate().map(|c| c.validity.not_after);
        self.plan.blocked.push(Blocked {
            label: self.spec_of(index).label(),
            file: held.place.cert().clone(),
            due,
            expired: end.is_some_and(|end| end < self.now),
            obstacle,
        });
    }

    /// Everything that makes it due.
    fn reasons(&self, index: usize, certificate: &CertView, renewal: &Renewal) -> Vec<Reason> {
        let (instance, held) = (self.spec_of(index), self.held(index));
        let mut reasons = Vec::new();
        match renewal.selection {
            Selection::All => reasons.push(Reason::Asked),
            Selection::Named(_) if renewal.within.is_none() => reasons.push(Reason::Asked),
            Selection::Named(_) | Selection::Due => {}
        }
        if is_due(certificate.validity, renewal.within, self.now) {
            let not_after = certificate.validity.not_after;
            reasons.push(Reason::Expiring { not_after, left: not_after.since(self.now) });
        }
        match &held.key {
            FoundKey::Missing => reasons.push(Reason::KeyMissing),
            FoundKey::OnHost(_) if !held.key.is_of(certificate) => reasons.push(Reason::Requested),
            key if !key.is_of(certificate) => reasons.push(Reason::KeyMismatch),
            _ => {}
        }
        if self.observed.declared {
            let mut differences = differences(instance, self.cluster, held);
            if renewal.key != Some(KeyChoice::Existing) && !instance.key_on_host {
                differences.extend(self.algorithm_difference(index, certificate));
            }
            if !differences.is_empty() {
                reasons.push(Reason::Drift(differences));
            }
        }
        reasons
    }

    fn algorithm_difference(&self, index: usize, certificate: &CertView) -> Option<String> {
        let declared = self.cluster.algorithm_of(self.spec_of(index).spec.id.name());
        algorithm_difference(declared, certificate)
    }

    /// What stands against renewing what would end no later than it does: its CA ends then.
    fn end_of_authority(&self, index: usize, certificate: &CertView) -> Option<Obstacle> {
        let above = self.layout.issuer(index).filter(|above| !self.renewed.contains(above))?;
        let authority = self.held(above);
        let end = authority.certificate()?.validity.not_after;
        let is_last = certificate.validity.not_after >= end && end > self.now;
        is_last.then(|| Obstacle::AuthorityEnds {
            authority: authority.place.cert().clone(),
            not_after: end,
        })
    }

    /// The key of the new certificate. What is missing or another's cannot be kept, and what is asked for
    /// comes before what the catalogue says.
    fn key(&self, index: usize, certificate: &CertView, renewal: &Renewal) -> KeyChoice {
        if self.spec_of(index).key_on_host {
            return KeyChoice::Existing;
        }
        let usable = self.held(index).key.is_of(certificate);
        let drifted =
            self.observed.declared && self.algorithm_difference(index, certificate).is_some();
        match (usable, renewal.key, self.spec_of(index).spec.key) {
            (false, ..) => KeyChoice::New,
            (true, Some(choice), _) => choice,
            (true, None, KeyPolicy::Keep) if !drifted => KeyChoice::Existing,
            (true, None, KeyPolicy::Keep | KeyPolicy::New) => KeyChoice::New,
        }
    }

    /// The key of a certificate that is made anew for no fault of its own: as the catalogue says.
    pub(super) fn kept_or_new(&self, index: usize, certificate: &CertView) -> KeyChoice {
        match self.spec_of(index).spec.key {
            _ if self.spec_of(index).key_on_host => KeyChoice::Existing,
            KeyPolicy::Keep if self.algorithm_difference(index, certificate).is_none() => {
                KeyChoice::Existing
            }
            KeyPolicy::Keep | KeyPolicy::New => KeyChoice::New,
        }
    }

    /// Whether a CA can sign a successor of a certificate, whoever signed that.
    pub(super) fn signing<'s>(
        &self,
        authority: &'s Held,
        certificate: &'s CertView,
        is_signed: Option<bool>,
    ) -> Signing<'s> {
        Signing {
            authority,
            issuer: &certificate.issuer,
            is_signed,
            is_bound: true,
            can_open: self.policy.can_open,
            now: self.now,
        }
    }

    fn obstacle(&self, index: usize, certificate: &CertView, is_named: bool) -> Option<Obstacle> {
        // One that is renewed by this very plan was found fit to sign.
        let above = self.layout.issuer(index).filter(|above| !self.renewed.contains(above))?;
        let signing = self.signing(self.held(above), certificate, self.held(index).is_signed());
        Signing { is_bound: self.observed.declared || is_named, ..signing }.obstacle()
    }

    /// All that is needed to make a certificate. Where nothing is declared, the one in place says what a new one is
    /// to say, all of it: nothing may be lost.
    pub(super) fn ordered(&self, index: usize, key: KeyChoice) -> Order {
        let (instance, held) = (self.spec_of(index), self.held(index));
        let old = held.certificate().filter(|_| {
            self.policy.renewal.is_some() && !self.observed.declared && !instance.spec.is_ca()
        });
        let declared = resolve::validity(instance, self.cluster, self.now);
        let usual = self.cluster.algorithm_of(instance.spec.id.name());
        Order {
            instance: index,
            place: held.place.clone(),
            request: (request_file(instance), request_key_file(instance)),
            key,
            algorithm: old.and_then(|old| old.algorithm).unwrap_or(usual),
            profile: match old {
                Some(old) => old.profile.clone(),
                None => resolve::profile(instance, self.cluster),
            },
            validity: old.map_or(declared, |old| as_long(old.validity, declared)),
            copies: old.is_some(),
            slot: Slot::Active,
            signer: self.layout.issuer(index).map(|above| (above, Slot::Active)),
            chain: self.chain(index),
            kubeconfig: self.embedding(index, &held.place),
        }
    }

    /// What follows a leaf in its file: what followed it so far, as long as that is from the same CA; else the
    /// intermediates that a server must send, so that clients that trust only the root above them can verify it.
    /// Roots are never added.
    fn chain(&self, index: usize) -> Vec<CertRef> {
        let instance = self.spec_of(index);
        let Some(above) = self.layout.issuer(index).filter(|_| !instance.spec.is_ca()) else {
            return Vec::new();
        };
        if self.made.contains(&above) && !self.renewed.contains(&above) {
            let is_root = self.layout.issuer(above).is_none();
            let is_sent = instance.spec.is_server() && !is_root;
            return if is_sent { vec![CertRef::Made(above)] } else { Vec::new() };
        }
        let authority = self.held(above).certificates.present();
        let signer = authority.and_then(|all| all.first());
        let old = self.held(index).certificates.present().and_then(|all| all.get(1..));
        let old = old.unwrap_or_default();
        if old.iter().any(|c| signer.is_some_and(|signer| signer.public_key == c.public_key)) {
            return self.with_renewed(old);
        }
        let mut sent = self.intermediates(index, above);
        sent.extend(signer.and_then(|signer| self.crossed(above, signer)));
        sent
    }

    /// The intermediates that a server sends after its certificate; none where a root signed it.
    fn intermediates(&self, index: usize, above: usize) -> Vec<CertRef> {
        let authority = self.held(above).certificates.present();
        let sent = authority.filter(|_| self.spec_of(index).spec.is_server());
        let sent = sent.into_iter().flat_map(|all| all.iter());
        self.with_renewed(sent.filter(|c| c.issuer != c.profile.subject))
    }

    /// The kubeconfig that embeds a credential: with what else is to change in it, or all of it.
    fn embedding(&self, index: usize, place: &Place) -> Option<KubeconfigWrite> {
        let Place::Embedded { kubeconfig } = place else { return None };
        let is_there = self.held(index).readable_kubeconfig().is_some();
        if !is_there {
            return self.new_kubeconfig(index, place);
        }
        let renewed = self.layout.issuer(index).is_some_and(|above| self.renewed.contains(&above));
        let amended = match renewed {
            true => self.trusting_renewed(index),
            false => {
                let amended = self.policy.renewal.as_ref().and_then(|_| self.amended(index));
                amended.map(|(kubeconfig, _)| kubeconfig)
            }
        };
        Some(amended.unwrap_or_else(|| KubeconfigWrite {
            instance: index,
            file: kubeconfig.clone(),
            content: KubeconfigContent::Edit { server: None, trust: None },
            embeds: true,
        }))
    }
}

/// That a certificate waits for whoever makes its key.
fn awaited(file: &Path) -> String {
    format!("{}: waits for its host's request; `certkit deploy` asks for it", file.display())
}

/// A life as long as that of the one in place; nobody means one that is over at once.
pub(super) fn as_long(old: Validity, declared: Validity) -> Validity {
    match old.not_after.since(old.not_before) {
        life if life <= Span(60) => declared,
        life => Validity { not_after: declared.not_before.plus(life), ..declared },
    }
}

fn same_names(a: &[San], b: &[San]) -> bool {
    a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>()
}
