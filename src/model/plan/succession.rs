//! Replacing a CA, or the key that signs service-account tokens, one stage at a time: what files hold after a move
//! follows from the move and from what was found, and from nothing else.

use std::path::{Path, PathBuf};

use super::{
    Action, CertRef, KeyChoice, KeyRef, Order, Reason, Step,
    kubeconfig::{KubeconfigContent, KubeconfigWrite},
    obstacle::{Blocked, Obstacle, broken},
    reconcile::Reconciler,
    request_file, request_key_file,
};
use crate::model::{
    authority::{Generations, Move, Slot, Stage, successor},
    catalogue::Home,
    layout::{PUBLIC, Place, SECRET},
    name::Name,
    observed::{CertView, FoundKey, HeldCopy, HeldKeyPair},
    resolve,
    san::San,
};

impl Reconciler<'_> {
    /// Carries out a move of a CA: its generations, what trusts it, and if another one issues from now on, all that it
    /// signed.
    pub(super) fn succeed(&mut self, index: usize, step: Move) {
        if let Some(obstacle) = self.cannot_move(index, step) {
            return self.block_authority(index, obstacle);
        }
        let generations = Generations::of(self.layout, self.observed, index);
        let bundle = self.trusted_after(index, step, &generations);
        if step.moves_trust() {
            return self.move_trust(index, step, &bundle);
        }
        self.generations(index, step, &generations);
        self.write_bundles(index, step, bundle.clone());
        let cross = self.cross(index, step, &generations);
        for below in 0..self.layout.instances.len() {
            if self.layout.issuer(below) != Some(index) {
                continue;
            }
            match (self.spec_of(below).spec.is_ca(), step.reissues()) {
                (true, true) => self.recertify(below, (index, step.issuer()), &bundle, step),
                (true, false) => self.chain_again(below, &bundle, Reason::Stage(step.end())),
                (false, true) => {
                    let after = cross.clone();
                    self.reissue(below, (index, step.issuer()), &bundle, after, step.end());
                }
                (false, false) => {}
            }
        }
        let leaves: Vec<usize> = (0..self.layout.instances.len()).collect();
        if step == Move::Drop {
            let gone: Vec<&CertView> = generations.others().chain(generations.previous).collect();
            self.send_no_longer(index, &leaves, &gone, &bundle);
        }
        if !step.reissues() {
            let of_it = |leaf: &usize| self.layout.issuer(*leaf) == Some(index);
            let clients: Vec<usize> = leaves.into_iter().filter(of_it).collect();
            self.carry(&clients, &bundle, step.end());
        }
        self.copy_again(index, step);
    }

    /// Makes the file from which a CA is trusted, or takes it away; what it holds is what was trusted before.
    fn move_trust(&mut self, index: usize, step: Move, bundle: &[CertRef]) {
        let Some(derived) = self.layout.bundle_of(index).map(|at| &self.layout.derived[at]) else {
            return;
        };
        let label = format!("{} (bundle)", self.spec_of(index).label());
        let reason = Reason::Stage(step.end());
        let copies = self.layout.copies.iter().filter(|copy| copy.from == derived.path);
        if step == Move::Split {
            let action = Action::Bundle(bundle.to_vec());
            self.step(action, label, vec![derived.path.clone()], reason.clone());
            for copy in copies {
                let action = Action::Copy { from: copy.from.clone(), mode: copy.mode };
                let label = copy.from.display().to_string();
                self.step(action, label, vec![copy.to.clone()], reason.clone());
            }
        } else {
            let files = std::iter::once(&derived.path).chain(copies.map(|copy| &copy.to));
            for file in files {
                self.step(Action::Remove, label.clone(), vec![file.clone()], reason.clone());
            }
        }
    }

    pub(super) fn block_authority(&mut self, index: usize, obstacle: Obstacle) {
        let held = self.held(index);
        let end = held.certificate().map(|ca| ca.validity.not_after);
        self.plan.blocked.push(Blocked {
            label: self.spec_of(index).label(),
            file: held.place.cert().clone(),
            due: None,
            expired: end.is_some_and(|end| end < self.now),
            obstacle,
        });
    }

    /// What stands against a move: nowhere to say whom to trust, a generation that is not as it should be, or one that
    /// cannot sign what it is to.
    fn cannot_move(&self, index: usize, step: Move) -> Option<Obstacle> {
        let (instance, held) = (self.spec_of(index), self.held(index));
        // What a cluster does without is in the catalogue all the same.
        match instance.spec.home {
            Home::Authority { bundle: Some(_), .. } if self.layout.bundle_of(index).is_some() => {}
            Home::Authority { bundle: Some(_), .. } => {
                return Some(Obstacle::Bundleless { id: instance.spec.id.name() });
            }
            _ => return Some(Obstacle::TrustedAbove),
        }
        if let Some((file, why)) = held.fault() {
            return Some(broken(file, why, "restore it from a backup"));
        }
        let Some(active) = held.certificate() else {
            return Some(broken(held.place.cert(), "is missing", "restore it from a backup"));
        };
        if let Some(obstacle) = self.unfinished_below(index, step) {
            return Some(obstacle);
        }
        if let Some(obstacle) = self.cannot_cross(index, step) {
            return Some(obstacle);
        }
        let signer = match step {
            Move::Introduce => self.held(self.layout.issuer(index)?),
            Move::Switch | Move::SwitchBack => {
                let Some(aside) = self.observed.aside.get(&(index, step.issuer())) else {
                    let file = step.issuer().pair(&instance.spec.home).map(|(cert, _)| cert)?;
                    return Some(broken(&file, "is missing", "restore it from a backup"));
                };
                aside
            }
            Move::Drop | Move::TakeBack | Move::Split | Move::Join => return None,
        };
        match self.signing(signer, active, None).obstacle()? {
            Obstacle::External { .. } => {
                let back = "put it back for this step, and take it away again after it";
                let missing = format!("is missing; where it is kept elsewhere, {back}");
                Some(broken(signer.place.key(), &missing, back))
            }
            obstacle => Some(obstacle),
        }
    }

    /// The CA below this one that stands against a move: one of which several generations are there, as each of them
    /// would have to be signed anew, or one that is to move itself, as both write what is trusted in its place.
    fn unfinished_below(&self, index: usize, step: Move) -> Option<Obstacle> {
        let all = self.layout.instances.iter().enumerate();
        let mut below =
            all.filter(|(at, one)| one.spec.is_ca() && self.layout.issuer(*at) == Some(index));
        below.find_map(|(at, one)| {
            let id = one.spec.id.name();
            if self.policy.succession.contains_key(&at) {
                return Some(Obstacle::Together { id });
            }
            let found = Generations::of(self.layout, self.observed, at);
            let is_stable = found.stage() == Stage::Stable;
            if step.reissues() && !is_stable {
                return Some(Obstacle::Unfinished { id, stage: found.stage() });
            }
            let held = self.held(at);
            if !step.reissues() || held.certificate().is_none() {
                return None;
            }
            if held.is_signed() == Some(false) {
                let why = "was not signed by the CA above it";
                return Some(broken(held.place.cert(), why, "restore it from a backup"));
            }
            let (file, why) = held.fault()?;
            Some(broken(file, why, "restore it from a backup"))
        })
    }

    /// What is trusted after a move: the one that issues first, but where nothing is trusted besides. There the file stays
    /// as it is: istiod takes roots up while it runs only where one text holds the other.
    fn trusted_after(
        &self,
        index: usize,
        step: Move,
        generations: &Generations<'_>,
    ) -> Vec<CertRef> {
        let there = |ca: &CertView| CertRef::There(ca.der.clone());
        let issuer = generations.get(step.issuer()).map(there);
        let mut trusted: Vec<CertRef> =
            issuer.iter().filter(|_| !step.reissues()).cloned().collect();
        let gone = match step {
            Move::TakeBack => generations.next,
            _ => None,
        };
        if step != Move::Drop {
            let others = generations.trusted.iter().chain(generations.active);
            for ca in others.filter(|ca| gone.is_none_or(|gone| gone.der != ca.der)) {
                let ca = there(ca);
                if !trusted.contains(&ca) {
                    trusted.push(ca);
                }
            }
        }
        if step == Move::Introduce {
            trusted.push(CertRef::Made(index));
        }
        if let Some(issuer) = issuer.filter(|issuer| !trusted.contains(issuer)) {
            trusted.insert(0, issuer);
        }
        trusted
    }

    /// Makes, moves and removes the generations themselves.
    fn generations(&mut self, index: usize, step: Move, generations: &Generations<'_>) {
        let instance = self.spec_of(index);
        let label = |slot: &str| format!("{} ({slot})", instance.spec.id);
        let reason = || Reason::Stage(step.end());
        let file = |slot: Slot| {
            let (cert, key) = slot.pair(&instance.spec.home)?;
            Some((instance.root.join(cert), instance.root.join(key)))
        };
        let (Some(active), Some(next), Some(previous)) =
            (file(Slot::Active), file(Slot::Next), file(Slot::Previous))
        else {
            return;
        };
        match step {
            Move::Introduce => {
                let Some(old) = generations.active else { return };
                let order = self.next_order(index, old, next);
                let files = order.place.files();
                self.step(Action::Issue(Box::new(order)), label("next"), files, reason());
            }
            Move::Switch => {
                self.replace(&active, &previous, label("previous"), reason());
                self.replace(&next, &active, instance.label(), reason());
                self.remove(next, label("next"), reason());
            }
            Move::SwitchBack => {
                self.replace(&active, &next, label("next"), reason());
                self.replace(&previous, &active, instance.label(), reason());
                self.remove(previous, label("previous"), reason());
            }
            Move::TakeBack => self.remove(next, label("next"), reason()),
            Move::Drop => self.remove(previous, label("previous"), reason()),
            Move::Split | Move::Join => {}
        }
    }

    /// The successor of a CA: a key of its own, a subject of its own, and all else as its predecessor's.
    fn next_order(&self, index: usize, old: &CertView, files: (PathBuf, PathBuf)) -> Order {
        let instance = self.spec_of(index);
        let mut profile = resolve::profile(instance, self.cluster);
        let before = old.common_name.clone().unwrap_or_else(|| instance.spec.id.to_string());
        let name = successor(&before);
        let organizations: Vec<&str> = old.organizations.iter().map(String::as_str).collect();
        for san in &mut profile.sans {
            if *san == San::Dns(before.clone()) {
                *san = San::Dns(name.clone());
            }
        }
        profile.subject = Name::new(&organizations, &name);
        let (cert, key) = files;
        Order {
            instance: index,
            slot: Slot::Next,
            place: Place::Pair { cert, key },
            request: (request_file(instance), request_key_file(instance)),
            key: KeyChoice::New,
            algorithm: self.cluster.algorithm_of(instance.spec.id.name()),
            profile,
            validity: resolve::validity(instance, self.cluster, self.now),
            copies: false,
            signer: self.layout.issuer(index).map(|above| (above, Slot::Active)),
            chain: Vec::new(),
            kubeconfig: None,
        }
    }

    /// Puts one pair of files in the place of another.
    fn replace(
        &mut self,
        from: &(PathBuf, PathBuf),
        to: &(PathBuf, PathBuf),
        label: String,
        reason: Reason,
    ) {
        for (from, to, mode) in [(&from.1, &to.1, SECRET), (&from.0, &to.0, PUBLIC)] {
            // The key may be elsewhere.
            if self.has_original(from) {
                let action = Action::Copy { from: from.clone(), mode };
                self.step(action, label.clone(), vec![to.clone()], reason.clone());
            }
        }
    }

    fn remove(&mut self, files: (PathBuf, PathBuf), label: String, reason: Reason) {
        for file in [files.1, files.0] {
            if self.has_original(&file) {
                self.step(Action::Remove, label.clone(), vec![file], reason.clone());
            }
        }
    }

    /// Writes a CA's bundle and its chain.
    fn write_bundles(&mut self, index: usize, step: Move, bundle: Vec<CertRef>) {
        for (number, derived) in self.layout.derived.iter().enumerate() {
            // Directories from before there was one lack the bundle of a root, which no component reads.
            let is_made = !derived.is_chain && self.layout.is_above(index);
            if derived.authority != index
                || (self.observed.derived[number].is_missing() && !is_made)
            {
                continue;
            }
            let mut all = bundle.clone();
            if derived.is_chain
                && let Some(above) = self.layout.issuer(index)
            {
                all.extend(self.trusted(above));
            }
            // What stays as it is has nobody read it again.
            let held = self.observed.derived[number].present();
            let is_one =
                |(held, one): (&CertView, &CertRef)| *one == CertRef::There(held.der.clone());
            if held.is_some_and(|held| held.len() == all.len() && held.iter().zip(&all).all(is_one))
            {
                continue;
            }
            let kind = if derived.is_chain { "chain" } else { "bundle" };
            let label = format!("{} ({kind})", self.spec_of(index).label());
            let files = vec![derived.path.clone()];
            self.step(Action::Bundle(all), label, files, Reason::Stage(step.end()));
        }
    }

    /// Has a leaf signed by another generation of its CA; what its kubeconfig trusts goes with it.
    pub(super) fn reissue(
        &mut self,
        index: usize,
        signer: (usize, Slot),
        bundle: &[CertRef],
        cross: Option<CertRef>,
        stage: Stage,
    ) {
        let held = self.held(index);
        let Some(certificate) = held.certificate() else { return };
        let is_usable = held.key.is_of(certificate) || self.spec_of(index).key_on_host;
        let key = match is_usable {
            true => self.kept_or_new(index, certificate),
            false => KeyChoice::New,
        };
        let mut order = self.ordered(index, key);
        order.signer = Some(signer);
        order.chain = self.sent_by(index, signer);
        order.chain.extend(cross);
        if let Some(kubeconfig) = &mut order.kubeconfig {
            kubeconfig.content =
                KubeconfigContent::Edit { server: None, trust: self.exactly(index, bundle) };
        } else if let Some(kubeconfig) = self.trusting(index, bundle) {
            let label = format!("{} (kubeconfig)", self.spec_of(index).label());
            let files = vec![kubeconfig.file.clone()];
            self.step(Action::Amend(kubeconfig), label, files, Reason::Stage(stage));
        }
        let label = self.spec_of(index).label();
        let files = order.place.files();
        self.step(Action::Issue(Box::new(order)), label, files, Reason::Stage(stage));
    }

    /// What a server sends after a certificate of this generation: the CA itself, where it is below another one, for
    /// clients that trust only that.
    fn sent_by(&self, index: usize, (authority, slot): (usize, Slot)) -> Vec<CertRef> {
        let generations = Generations::of(self.layout, self.observed, authority);
        let is_sent =
            self.spec_of(index).spec.is_server() && self.layout.issuer(authority).is_some();
        let signer = generations.get(slot).filter(|_| is_sent);
        signer.map(|ca| CertRef::There(ca.der.clone())).into_iter().collect()
    }

    /// Writes what kubeconfigs trust of a CA into those of its clients that embed it.
    pub(super) fn carry(&mut self, clients: &[usize], bundle: &[CertRef], stage: Stage) {
        for client in clients {
            let is_written = |step: &Step| match &step.action {
                Action::Resend(order) => order.instance == *client && order.kubeconfig.is_some(),
                _ => false,
            };
            if self.plan.steps.iter().any(is_written) {
                continue;
            }
            let Some(kubeconfig) = self.trusting(*client, bundle) else { continue };
            let label = format!("{} (kubeconfig)", self.spec_of(*client).label());
            let files = vec![kubeconfig.file.clone()];
            self.step(Action::Amend(kubeconfig), label, files, Reason::Stage(stage));
        }
    }

    /// The edit that makes a kubeconfig with embedded CAs trust exactly these, and what its user added.
    fn trusting(&self, index: usize, bundle: &[CertRef]) -> Option<KubeconfigWrite> {
        let trust = self.exactly(index, bundle)?;
        let held = self.held(index);
        Some(KubeconfigWrite {
            instance: index,
            file: held.place.kubeconfig()?.clone(),
            content: KubeconfigContent::Edit { server: None, trust: Some(trust) },
            embeds: matches!(held.place, Place::Embedded { .. }),
        })
    }

    /// What a kubeconfig is to embed: these, and whatever its user added that is no generation of this CA. Nothing where
    /// it names a file.
    pub(super) fn exactly(&self, index: usize, bundle: &[CertRef]) -> Option<Vec<CertRef>> {
        let view = self.held(index).readable_kubeconfig()?;
        let there = view.authorities.present().filter(|_| view.authority_file.is_none())?;
        let authority = self.layout.issuer(index)?;
        let generations = Generations::of(self.layout, self.observed, authority);
        // Of a node that a stage has not come to, its own file says what DIR's no longer does.
        let gone = match self.policy.catches_up.contains(&authority) {
            true => self.no_longer_trusted(index, authority),
            false => Vec::new(),
        };
        let known = |ca: &CertView| {
            let all =
                generations.trusted.iter().chain(generations.active).chain(gone.iter().copied());
            all.chain(generations.next).chain(generations.previous).any(|own| own.der == ca.der)
        };
        let mut all = bundle.to_vec();
        all.extend(there.iter().filter(|ca| !known(ca)).map(|ca| CertRef::There(ca.der.clone())));
        Some(all)
    }

    /// Has the hosts' copies follow their originals.
    fn copy_again(&mut self, index: usize, step: Move) {
        let instance = self.spec_of(index);
        let Home::Authority { cert, key, bundle, chain } = instance.spec.home else { return };
        let Some((new_cert, new_key)) = step.issuer().pair(&instance.spec.home) else { return };
        let mut sources = vec![];
        if step.reissues() {
            sources.push((PathBuf::from(cert), new_cert));
            sources.push((PathBuf::from(key), new_key));
        }
        sources.extend([bundle, chain].into_iter().flatten().map(|f| (f.into(), f.into())));
        self.follow(&sources, step);
    }

    /// Copies again what these files are originals of, from what they will be made from.
    fn follow(&mut self, sources: &[(PathBuf, PathBuf)], step: Move) {
        for (copy, found) in self.layout.copies.iter().zip(&self.observed.copies) {
            let Some((_, from)) = sources.iter().find(|(file, _)| *file == copy.from) else {
                continue;
            };
            if *found != HeldCopy::Same || self.files.contains(&copy.from) {
                self.copy(copy, from, step.end());
            }
        }
    }

    /// The same for a key pair without certificate: every verifier knows both public keys before the other one signs.
    pub(super) fn succeed_key(&mut self, index: usize, step: Move) {
        let (spec, held) = (self.layout.key_pairs[index], &self.observed.key_pairs[index]);
        if let Some((file, why)) = unfit_key(held, spec.private, step) {
            self.plan.blocked.push(Blocked {
                label: spec.id.to_owned(),
                file: file.clone(),
                due: None,
                expired: false,
                obstacle: broken(&file, &why, "restore it from a backup"),
            });
            return;
        }
        let file = |slot: Slot| slot.file(spec.private);
        let reason = || Reason::Stage(step.end());
        let (active, next, previous) = (file(Slot::Active), file(Slot::Next), file(Slot::Previous));
        let issuer = match step.issuer() {
            Slot::Active => held.private.present(),
            other => held.aside.get(&other).and_then(|key| key.present()),
        };
        let own = |key: &crate::model::observed::KeyView| KeyRef::There(key.public_key.clone());
        // The first is the one that signed last. Once the one that is next has signed, it is told by that.
        let signs_first = step != Move::SwitchBack && step != Move::TakeBack;
        let mut public: Vec<KeyRef> = issuer.filter(|_| signs_first).map(own).into_iter().collect();
        let gone = match step {
            Move::TakeBack => held.aside.get(&Slot::Next).and_then(|key| key.present()),
            _ => None,
        };
        if step != Move::Drop {
            let all = held.public.present().into_iter().flatten();
            for key in all.filter(|key| gone.is_none_or(|gone| gone.public_key != **key)) {
                let key = KeyRef::There(key.clone());
                if !public.contains(&key) {
                    public.push(key);
                }
            }
        }
        let moved = |this: &mut Self, from: &Path, to: &Path, slot: &str| {
            let action = Action::Copy { from: from.to_path_buf(), mode: SECRET };
            this.step(action, format!("{}{slot}", spec.id), vec![to.to_path_buf()], reason());
        };
        let mut removed = None;
        match step {
            Move::Introduce => {
                let algorithm = self.cluster.algorithm_of(spec.id);
                let action = Action::GenerateKey { index, algorithm };
                self.step(action, format!("{} (next)", spec.id), vec![next], reason());
                public.push(KeyRef::Made(index));
            }
            Move::Switch => {
                moved(self, &active, &previous, " (previous)");
                moved(self, &next, &active, "");
                removed = Some(next);
            }
            Move::SwitchBack => {
                moved(self, &active, &next, " (next)");
                moved(self, &previous, &active, "");
                removed = Some(previous);
            }
            Move::TakeBack => removed = Some(next),
            Move::Drop => removed = Some(previous),
            // A key pair's public keys have a file of their own everywhere.
            Move::Split | Move::Join => {}
        }
        if let Some(file) = removed.filter(|file| self.has_original(file)) {
            self.step(Action::Remove, spec.id.into(), vec![file], reason());
        }
        let files = vec![PathBuf::from(spec.public)];
        self.step(Action::PublicKeys(public), format!("{} (public)", spec.id), files, reason());
        let mut sources = vec![(PathBuf::from(spec.public), PathBuf::from(spec.public))];
        if step.reissues() {
            sources.push((active, step.issuer().file(spec.private)));
        }
        self.follow(&sources, step);
    }
}

/// Why a key pair cannot go on so: the key that is to sign must be one, and every verifier must know it before it does.
fn unfit_key(held: &HeldKeyPair, private: &str, step: Move) -> Option<(PathBuf, String)> {
    let slot = step.issuer();
    let key = match slot {
        Slot::Active => Some(&held.private),
        aside => held.aside.get(&aside),
    };
    let file = slot.file(private);
    let Some(view) = key.and_then(FoundKey::present) else {
        let why = key.and_then(FoundKey::fault).unwrap_or("is not there");
        return Some((file, why.to_owned()));
    };
    let known = held.public.present().is_some_and(|all| all.contains(&view.public_key));
    (!known).then(|| {
        let public = held.public_file.display();
        (
            file,
            format!(
                "{public} does not hold its public key, so that nobody would accept what it signs"
            ),
        )
    })
}
