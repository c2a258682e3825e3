//! `certkit init`: keep what is right, make what is missing, refuse what contradicts.

mod rest;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    Action, Contradiction, KeyChoice, Plan, Reason, Step,
    rotate::{amendment, names_the_same},
};
use crate::model::{
    catalogue::ETCD_PEER_NAME,
    cluster::Cluster,
    inventory::{CertView, Inventory, Observed, Piece},
    layout::{Instance, Layout, Place},
    profile::{Kind, Profile},
    san::San,
    timestamp::Timestamp,
    usage::KeyUsages,
};

/// The plan that makes the cluster's PKI complete, or everything that stands against it.
pub fn plan(
    layout: &Layout<'_>,
    inventory: &Inventory,
    now: Timestamp,
) -> Result<Plan, Vec<Contradiction>> {
    let instances = &layout.instances;
    let mut planner = Planner {
        layout,
        cluster: layout.cluster,
        inventory,
        instances,
        now,
        plan: Plan::default(),
        contradictions: Vec::new(),
        fresh: BTreeSet::new(),
        awaited: BTreeSet::new(),
        files: BTreeSet::new(),
        authorities: (instances.iter().enumerate())
            .filter(|(_, instance)| instance.spec.is_ca())
            .map(|(index, instance)| (instance.spec.id, index))
            .collect(),
    };
    planner.declare();
    for index in 0..instances.len() {
        planner.instance(index);
    }
    planner.derived();
    planner.key_pairs();
    planner.copies();
    planner.configs();
    match planner.contradictions.is_empty() {
        true => Ok(planner.plan),
        false => Err(planner.contradictions),
    }
}

struct Planner<'a> {
    layout: &'a Layout<'a>,
    cluster: &'a Cluster,
    inventory: &'a Inventory,
    instances: &'a [Instance<'a>],
    now: Timestamp,
    plan: Plan,
    contradictions: Vec<Contradiction>,
    /// Ids of the CAs that this plan makes.
    fresh: BTreeSet<&'static str>,
    /// Ids of the CAs that wait for a signature from elsewhere: nothing can be signed with them yet.
    awaited: BTreeSet<&'static str>,
    /// The files of the steps so far: what will exist.
    files: BTreeSet<PathBuf>,
    /// The CAs' indices by id.
    authorities: BTreeMap<&'static str, usize>,
}

impl Planner<'_> {
    fn declare(&mut self) {
        let (action, reason) = match self.inventory.declared {
            true => (Action::Keep, Reason::Right),
            false => (Action::Declare(None), Reason::Missing),
        };
        self.step(action, "certkit.yaml".into(), vec!["certkit.yaml".into()], reason);
    }

    fn step(&mut self, action: Action, label: String, files: Vec<PathBuf>, reason: Reason) {
        self.files.extend(files.iter().cloned());
        self.plan.steps.push(Step { action, label, files, reason });
    }

    fn contradict(&mut self, files: &[&PathBuf], what: impl Into<String>, hint: impl Into<String>) {
        self.contradictions.push(Contradiction {
            files: files.iter().map(|f| (*f).clone()).collect(),
            what: what.into(),
            hint: hint.into(),
        });
    }

    fn instance(&mut self, index: usize) {
        let instance = &self.instances[index];
        let observed = &self.inventory.instances[index];
        let (cert_file, key_file) = (observed.place.cert(), observed.place.key());
        let before = self.contradictions.len();
        if let Piece::Bad(why) = &observed.kubeconfig {
            self.bad(observed.place.kubeconfig().unwrap_or(cert_file), why);
        }
        // What is embedded in a bad kubeconfig was said once already.
        if !matches!(observed.place, Place::Embedded { .. }) || self.contradictions.len() == before
        {
            if let Piece::Bad(why) = &observed.certificates {
                self.bad(cert_file, why);
            }
            if let Piece::Bad(why) = &observed.key
                && (cert_file != key_file || !matches!(observed.certificates, Piece::Bad(_)))
            {
                self.bad(key_file, why);
            }
        }
        if self.contradictions.len() > before {
            return;
        }
        match (observed.certificate(), &observed.key) {
            (Some(certificate), key) => {
                self.existing(index, certificate, key.present().is_some());
            }
            (None, Piece::Present(_)) if instance.spec.is_ca() => {
                let bundle = self.bundle_file(index);
                self.contradict(
                    &[cert_file, key_file],
                    "is missing, though its key is there",
                    match bundle {
                        Some(bundle) => format!(
                            "restore it (the first certificate in {} may be it), or move {} away too",
                            bundle.display(),
                            key_file.display()
                        ),
                        None => format!("restore it, or move {} away too", key_file.display()),
                    },
                );
            }
            (None, key) => {
                let key = match key {
                    Piece::Present(_) => KeyChoice::Existing,
                    Piece::Missing | Piece::Bad(_) => KeyChoice::New,
                };
                let reason = match key {
                    KeyChoice::Existing => Reason::CertificateMissing,
                    KeyChoice::New => Reason::Missing,
                };
                self.make(index, key, reason);
            }
        }
        self.kubeconfig(index);
    }

    fn bad(&mut self, file: &PathBuf, why: &str) {
        self.contradict(
            &[file],
            why,
            "restore the file from a backup, or move it away and run `certkit init` to make a new one",
        );
    }

    /// A certificate that is there: right, or a contradiction, or of no use without its key.
    fn existing(&mut self, index: usize, certificate: &CertView, has_key: bool) {
        let instance = &self.instances[index];
        let observed = &self.inventory.instances[index];
        let (cert_file, key_file) = (observed.place.cert(), observed.place.key());
        if let Piece::Present(key) = &observed.key
            && key.public_key != certificate.public_key
        {
            self.contradict(
                &[key_file, cert_file],
                format!("the key does not belong to the certificate in {}", cert_file.display()),
                "restore the one that is wrong; if the certificate is to be made anew, move both away",
            );
            return;
        }
        if instance.spec.is_ca() {
            self.authority(certificate, cert_file);
        }
        if let Some(issuer) = instance.issuer {
            self.issued(index, issuer, certificate, cert_file);
        }
        if !has_key && !instance.spec.is_ca() {
            self.make(index, KeyChoice::New, Reason::KeyMissing);
            return;
        }
        let profile = crate::model::resolve::profile(instance, self.cluster);
        if !self.inventory.declared && self.of_others(index, certificate, &profile, cert_file) {
            return;
        }
        if !instance.spec.is_ca() && !same_names(&profile.sans, &certificate.profile.sans) {
            self.plan.notes.push(format!(
                "{}: its names are no longer those declared; `certkit rotate` renews it",
                cert_file.display()
            ));
        }
        if !instance.spec.is_ca() && certificate.validity.not_after < self.now {
            self.plan.notes.push(format!(
                "{}: expired {}; `certkit rotate` renews it",
                cert_file.display(),
                certificate.validity.not_after
            ));
        }
        let files = observed_files(&observed.place, has_key);
        self.step(Action::Keep, instance.label(), files, Reason::Right);
    }

    /// Where nothing is declared yet, what is there must not be of another cluster or host than what is
    /// about to be declared. Names that certkit adds to what kubeadm makes may be missing.
    fn of_others(
        &mut self,
        index: usize,
        certificate: &CertView,
        profile: &Profile,
        file: &PathBuf,
    ) -> bool {
        if self.instances[index].spec.is_ca() {
            return false;
        }
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

    fn authority(&mut self, certificate: &CertView, file: &PathBuf) {
        let another = "put a CA certificate in its place, or move it and its key away";
        if !matches!(certificate.profile.kind, Kind::Ca { .. }) {
            self.contradict(&[file], "is not a CA certificate (basicConstraints)", another);
        } else if !certificate.profile.key_usages.contains(KeyUsages::CERT_SIGN)
            && certificate.profile.key_usages != KeyUsages::default()
        {
            self.contradict(&[file], "may not sign certificates (keyUsage)", another);
        } else if certificate.validity.not_after < self.now {
            let when = certificate.validity.not_after;
            self.contradict(&[file], format!("expired {when}"), another);
        } else if certificate.validity.not_before > self.now {
            let when = certificate.validity.not_before;
            self.contradict(&[file], format!("is not valid before {when}"), another);
        }
    }

    fn issued(&mut self, index: usize, issuer: &str, certificate: &CertView, file: &PathBuf) {
        let observed = &self.inventory.instances[index];
        let Some(above) = self.authorities.get(issuer).copied() else { return };
        let authority = self.inventory.instances[above].place.cert();
        if self.fresh.contains(issuer) {
            self.contradict(
                &[authority, file],
                format!(
                    "is missing, though {} was signed by {}",
                    file.display(),
                    certificate.issuer
                ),
                "restore the CA, or move away what it signed",
            );
        } else if observed.signed_by_issuer == Some(false) {
            self.contradict(
                &[file, authority],
                format!("was signed by {}, not by {}", certificate.issuer, authority.display()),
                "restore the one that is wrong, or move the certificate and its key away",
            );
        }
    }

    /// Makes a certificate, or where its CA's key is not here, a request.
    fn make(&mut self, index: usize, key: KeyChoice, reason: Reason) {
        let instance = &self.instances[index];
        let observed = &self.inventory.instances[index];
        let external = instance.issuer.and_then(|issuer| {
            let above = self.authorities.get(issuer).copied()?;
            let authority = &self.inventory.instances[above];
            (authority.certificate().is_some() && authority.key.is_missing()).then_some(issuer)
        });
        if let Some(issuer) = instance.issuer.filter(|issuer| self.awaited.contains(issuer)) {
            self.plan.notes.push(format!(
                "{}: waits until {issuer} is signed and taken in; `certkit init` makes it then",
                instance.label()
            ));
            return;
        }
        if external.is_some() {
            if instance.spec.is_ca() {
                self.awaited.insert(instance.spec.id);
            }
            let files = vec![request_file(instance), request_key_file(instance)];
            let (action, reason) = match observed.requested {
                true => (Action::Keep, Reason::Waiting),
                false => (Action::Request { instance: index, key }, reason),
            };
            self.step(action, instance.label(), files, reason);
            return;
        }
        if instance.spec.is_ca() {
            self.fresh.insert(instance.spec.id);
        }
        let files = observed_files(&observed.place, key == KeyChoice::New);
        self.step(Action::Issue { instance: index, key }, instance.label(), files, reason);
    }

    /// The kubeconfig that names its credential's file; an embedded one is the certificate's own file.
    fn kubeconfig(&mut self, index: usize) {
        let observed = &self.inventory.instances[index];
        let Some(kubeconfig) = observed.place.kubeconfig() else { return };
        // One without its credential is of no use.
        let waits = |issuer| self.awaited.contains(issuer) && observed.certificate().is_none();
        if self.instances[index].issuer.is_some_and(waits) {
            return;
        }
        match &observed.kubeconfig {
            Piece::Missing if matches!(observed.place, Place::Named { .. }) => {
                let label = format!("{} (kubeconfig)", self.instances[index].label());
                self.step(Action::Refer(index), label, vec![kubeconfig.clone()], Reason::Missing);
            }
            Piece::Missing | Piece::Bad(_) => {}
            Piece::Present(view) => {
                if let Some(server) =
                    amendment(self.layout, self.inventory, index).and_then(|a| a.server)
                {
                    self.plan.notes.push(format!(
                        "{}: dials {}, not {server}; `certkit rotate` changes it",
                        kubeconfig.display(),
                        view.server.as_deref().unwrap_or("nothing")
                    ));
                }
                let Some(above) = self.instances[index]
                    .issuer
                    .and_then(|issuer| self.authorities.get(issuer).copied())
                else {
                    return;
                };
                let authority = &self.inventory.instances[above];
                if let (Piece::Present(trusted), Some(ca)) =
                    (&view.authorities, authority.certificate())
                    && !trusted.iter().any(|t| t.fingerprint == ca.fingerprint)
                {
                    let file = authority.place.cert();
                    self.contradict(
                        &[kubeconfig, file],
                        format!("does not trust {}", file.display()),
                        "restore the one that is wrong, or move the kubeconfig away",
                    );
                } else if let Piece::Bad(why) = &view.authorities {
                    self.bad(kubeconfig, why);
                }
            }
        }
    }

    fn bundle_file(&self, index: usize) -> Option<&PathBuf> {
        let found = self.layout.derived.iter().position(|d| d.authority == index && !d.is_chain)?;
        let file = self.inventory.derived.get(found)?;
        file.content.present().map(|_| &file.path)
    }
}

/// The file of a request, relative to DIR.
pub fn request_file(instance: &Instance<'_>) -> PathBuf {
    // Not with_extension: ids such as admin.conf have a dot of their own.
    PathBuf::from("csr").join(&instance.root).join(format!("{}.csr", instance.spec.id))
}

/// The file of the key of a request, relative to DIR. It stays out of the key's final place, where the
/// certificate that is in use still needs the old one.
pub fn request_key_file(instance: &Instance<'_>) -> PathBuf {
    request_file(instance).with_extension("key")
}

fn same_names(a: &[San], b: &[San]) -> bool {
    a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>()
}

fn observed_files(place: &Place, with_key: bool) -> Vec<PathBuf> {
    if with_key { place.files() } else { vec![place.cert().clone()] }
}

impl Observed {
    /// An instance of which nothing was found.
    pub fn nothing(place: Place) -> Self {
        Self {
            place,
            certificates: Piece::Missing,
            key: Piece::Missing,
            kubeconfig: Piece::Missing,
            signed_by_issuer: None,
            requested: false,
        }
    }
}
