//! Reconciling: what is there, compared with what is to be, and under a policy the steps from the one to the other.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
};

use super::{
    Action, CertRef, Contradiction, NewDeclaration, Order, Plan, Policy, Reason, Renewal, Step,
    kubeconfig::{self, KubeconfigContent, KubeconfigWrite, Trusts},
};
use crate::model::{
    authority::trusted,
    catalogue::Home,
    cluster::Cluster,
    layout::{Instance, Layout, Place},
    observed::{Held, Observed, Piece},
    resolve,
    timestamp::Timestamp,
};

/// The plan that a policy makes of what was observed below `dir` at a time.
pub fn reconcile(
    layout: &Layout<'_>,
    observed: &Observed,
    dir: &Path,
    policy: &Policy,
    now: Timestamp,
) -> Plan {
    let mut reconciler = Reconciler::new(layout, observed, dir, policy, now);
    reconciler.declaration();
    for index in &policy.renews {
        reconciler.renew_authority(*index);
    }
    for index in 0..layout.instances.len() {
        reconciler.instance(index);
    }
    for (index, step) in &policy.succession {
        reconciler.succeed(*index, *step);
    }
    for (index, step) in &policy.keys {
        reconciler.succeed_key(*index, *step);
    }
    for index in &policy.catches_up {
        reconciler.catch_up(*index);
    }
    if policy.completes {
        reconciler.derived();
        reconciler.key_pairs();
        reconciler.copies();
        reconciler.configs();
    }
    reconciler.owners();
    reconciler.plan
}

/// How a certificate that was signed elsewhere for an instance is put in its place: its chain came with it.
pub fn order_for(
    layout: &Layout<'_>,
    observed: &Observed,
    dir: &Path,
    index: usize,
    now: Timestamp,
) -> Order {
    let policy = Policy::COMPLETE;
    let reconciler = Reconciler::new(layout, observed, dir, &policy, now);
    Order { chain: Vec::new(), ..reconciler.ordered(index, super::KeyChoice::New) }
}

/// A plan that is being made.
pub(super) struct Reconciler<'a> {
    pub layout: &'a Layout<'a>,
    pub cluster: &'a Cluster,
    pub observed: &'a Observed,
    pub dir: &'a Path,
    pub policy: &'a Policy,
    pub now: Timestamp,
    pub plan: Plan,
    /// The CAs that this plan makes, by index.
    pub made: BTreeSet<usize>,
    /// Of these the ones that are made anew with the key and name they have.
    pub renewed: BTreeSet<usize>,
    /// The CAs that wait for a signature from elsewhere: nothing can be signed with them yet.
    pub awaited: BTreeSet<usize>,
    /// The files of the steps so far: what will exist.
    pub files: HashSet<PathBuf>,
    /// Whether a server's certificate is among those that renewing looks at.
    serves: bool,
}

fn serves(layout: &Layout<'_>, renewal: &Renewal) -> bool {
    let mut instances = layout.instances.iter().enumerate();
    instances.any(|(i, one)| one.spec.is_server() && renewal.selection.has(i))
}

impl<'a> Reconciler<'a> {
    fn new(
        layout: &'a Layout<'a>,
        observed: &'a Observed,
        dir: &'a Path,
        policy: &'a Policy,
        now: Timestamp,
    ) -> Self {
        Self {
            layout,
            cluster: layout.cluster,
            observed,
            dir,
            policy,
            now,
            plan: Plan::default(),
            made: BTreeSet::new(),
            renewed: BTreeSet::new(),
            awaited: BTreeSet::new(),
            files: HashSet::new(),
            serves: policy.renewal.as_ref().is_some_and(|renewal| serves(layout, renewal)),
        }
    }

    /// How its kubeconfig is kept, where that is no longer as declared.
    pub fn kept_otherwise(&self, index: usize) -> Option<String> {
        kubeconfig::kept_otherwise(self.layout, self.observed, self.dir, index)
    }

    fn declaration(&mut self) {
        let own = || PathBuf::from("certkit.yaml");
        let (action, file, reason) = match &self.policy.declaration {
            Some(NewDeclaration { file, text, reason }) => {
                (Action::Declare(text.clone()), file.clone(), reason.clone())
            }
            None if self.policy.completes => (Action::Keep, own(), Reason::Right),
            None => return,
        };
        self.step(action, file.display().to_string(), vec![file], reason);
    }

    fn instance(&mut self, index: usize) {
        if self.policy.completes {
            self.credential(index);
            self.kubeconfig(index);
            self.plan.notes.extend(self.kept_otherwise(index));
        }
        if let Some(renewal) = &self.policy.renewal {
            let instance = &self.layout.instances[index];
            let is_chosen = renewal.selection.has(index)
                && !(instance.spec.is_ca() && renewal.selection.is_whole());
            // Who is to verify a new certificate must be able to, whatever it is that was named.
            if is_chosen || self.serves {
                self.amend(index);
            }
            if is_chosen {
                self.renew(index, renewal);
                self.plan.notes.extend(self.kept_otherwise(index));
            }
        }
    }

    pub fn step(&mut self, action: Action, label: String, files: Vec<PathBuf>, reason: Reason) {
        // What follows from several changes is written once, as the last of them leaves it.
        if files.iter().any(|file| self.files.contains(file)) {
            self.plan.steps.retain(|earlier| {
                let follows = matches!(
                    earlier.action,
                    Action::Bundle(_) | Action::Copy { .. } | Action::Resend(_)
                );
                !follows || !earlier.files.iter().all(|file| files.contains(file))
            });
        }
        self.files.extend(files.iter().cloned());
        self.plan.steps.push(Step { action, label, files, reason });
    }

    pub fn contradict(
        &mut self,
        files: &[&Path],
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.plan.contradictions.push(Contradiction {
            files: files.iter().map(|f| f.to_path_buf()).collect(),
            what: what.into(),
            hint: hint.into(),
        });
    }

    pub fn bad(&mut self, file: &Path, why: &str) {
        self.contradict(
            &[file],
            why,
            "restore the file from a backup, or move it away and run `certkit init` to make a new one",
        );
    }

    pub fn held(&self, index: usize) -> &'a Held {
        &self.observed.instances[index]
    }

    /// Whether this file of a CA or key pair is there.
    pub fn has_original(&self, file: &Path) -> bool {
        self.observed.originals.contains(file)
    }

    pub fn spec_of(&self, index: usize) -> &'a Instance<'a> {
        &self.layout.instances[index]
    }

    /// The certificates of a CA: the one that this plan makes, or those that are there.
    pub fn certificates_of(&self, authority: usize) -> Vec<CertRef> {
        if self.made.contains(&authority) {
            return vec![CertRef::Made(authority)];
        }
        let all = self.held(authority).certificates.present();
        all.map(|all| all.iter().map(|c| CertRef::There(c.der.clone())).collect())
            .unwrap_or_default()
    }

    /// What is trusted in place of a CA: its bundle where that is there (it may hold more than one
    /// certificate), else the CA itself. Never the root above it: with that an administrator's kubeconfig
    /// would take any server of etcd's CA for the apiserver.
    pub(super) fn trusted(&self, authority: usize) -> Vec<CertRef> {
        if self.made.contains(&authority) && !self.renewed.contains(&authority) {
            return self.certificates_of(authority);
        }
        self.with_renewed(trusted(self.layout, self.observed, authority))
    }

    /// A whole kubeconfig for an instance that has one; none where its CA is not laid out.
    pub fn new_kubeconfig(&self, index: usize, place: &Place) -> Option<KubeconfigWrite> {
        let instance = self.spec_of(index);
        let Home::Kubeconfig { server, .. } = instance.spec.home else { return None };
        let authority = self.layout.issuer(index)?;
        let bundle = self.cluster.trust_file(instance.issuer?)?;
        let (file, embeds) = match place {
            Place::Pair { .. } => return None,
            Place::Named { kubeconfig, .. } => (kubeconfig.clone(), false),
            Place::Embedded { kubeconfig } => (kubeconfig.clone(), true),
        };
        let (trust, files) = match embeds {
            true => (Trusts::Data(self.trusted(authority)), None),
            false => (
                Trusts::File(self.on_host(instance, &instance.root.join(bundle))),
                Some((self.on_host(instance, place.cert()), self.on_host(instance, place.key()))),
            ),
        };
        let content = KubeconfigContent::New {
            cluster: self.cluster.name.clone(),
            server: format!("https://{}", self.cluster.server_for(server, instance.host)),
            user: resolve::subject(instance, self.cluster).common_name,
            trust,
            files,
        };
        Some(KubeconfigWrite { instance: index, file, content, embeds })
    }

    /// The path that a file relative to DIR has on its host.
    fn on_host(&self, instance: &Instance<'_>, path: &Path) -> String {
        let inside = path.strip_prefix(&instance.root).unwrap_or(path);
        self.cluster.dir_on(instance.host, self.dir).join(inside).display().to_string()
    }

    /// The kubeconfig that names its credential's file, where that is missing; an embedded one is the certificate's
    /// own file. What is wrong with one that is there.
    fn kubeconfig(&mut self, index: usize) {
        let (held, instance) = (self.held(index), self.spec_of(index));
        let Some(view) = &held.kubeconfig else { return };
        // One without its credential is of no use.
        let above = self.layout.issuer(index);
        if held.certificate().is_none()
            && (above.is_some_and(|above| self.awaited.contains(&above))
                || instance.key_on_host && held.key.is_missing())
        {
            return;
        }
        match &view.state {
            Piece::Missing if matches!(held.place, Place::Named { .. }) => {
                if let Some(kubeconfig) = self.new_kubeconfig(index, &held.place) {
                    let label = format!("{} (kubeconfig)", instance.label());
                    let files = vec![view.file.clone()];
                    self.step(Action::Refer(kubeconfig), label, files, Reason::Missing);
                }
            }
            Piece::Missing | Piece::Bad(_) => {}
            Piece::Present(()) => {
                if let Some(server) = kubeconfig::redirection(self.layout, self.observed, index) {
                    self.plan.notes.push(format!(
                        "{}: dials {}, not {server}; `certkit rotate` changes it",
                        view.file.display(),
                        view.server.as_deref().unwrap_or("nothing")
                    ));
                }
                let Some(authority) = above.map(|above| self.held(above)) else { return };
                if let (Piece::Present(trusted), Some(ca)) =
                    (&view.authorities, authority.certificate())
                    && !trusted.iter().any(|t| t.fingerprint == ca.fingerprint)
                {
                    let file = authority.place.cert();
                    self.contradict(
                        &[&view.file, file],
                        format!("does not trust {}", file.display()),
                        "restore the one that is wrong, or move the kubeconfig away",
                    );
                } else if let Piece::Bad(why) = &view.authorities {
                    let why = match &view.authority_file {
                        Some(file) => format!("its CA file {} {why}", file.display()),
                        None => format!("its CA data {why}"),
                    };
                    self.bad(&view.file, &why);
                }
            }
        }
    }

    /// Brings a kubeconfig up to date that is out of it.
    fn amend(&mut self, index: usize) {
        let Some((kubeconfig, differences)) = self.amended(index) else { return };
        let label = format!("{} (kubeconfig)", self.spec_of(index).label());
        let files = vec![kubeconfig.file.clone()];
        self.step(Action::Amend(kubeconfig), label, files, Reason::Drift(differences));
    }

    /// The same as it is written, and how it is out of date; nothing where it is not.
    pub fn amended(&self, index: usize) -> Option<(KubeconfigWrite, Vec<String>)> {
        let held = self.held(index);
        let above = self.layout.issuer(index);
        let trusted =
            above.map(|above| trusted(self.layout, self.observed, above)).unwrap_or_default();
        let amendment = kubeconfig::amendment(self.layout, self.observed, index, trusted)?;
        let kubeconfig = KubeconfigWrite {
            instance: index,
            file: held.place.kubeconfig()?.clone(),
            content: KubeconfigContent::Edit { server: amendment.server, trust: amendment.trust },
            embeds: matches!(held.place, Place::Embedded { .. }),
        };
        Some((kubeconfig, amendment.differences))
    }

    /// The file of a CA's bundle, if it is there.
    pub fn bundle_file(&self, authority: usize) -> Option<&'a Path> {
        let found = self.layout.bundle_of(authority)?;
        self.observed.derived[found].present()?;
        Some(&self.layout.derived[found].path)
    }

    /// Adds the step that makes what is ordered.
    pub fn order(&mut self, order: Order, request: bool, reason: Reason) {
        let index = order.instance;
        let label = self.spec_of(index).label();
        let (action, files) = match request {
            true => {
                let files = vec![order.request.0.clone(), order.request.1.clone()];
                (Action::Request(Box::new(order)), files)
            }
            false => {
                let place = &order.place;
                // What is kept of a credential of two files is not touched; renewing tells both all the same.
                let with_key = order.key == super::KeyChoice::New || self.policy.renewal.is_some();
                let files = match with_key {
                    true => self.spec_of(index).files_at(place),
                    false => vec![place.cert().clone()],
                };
                (Action::Issue(Box::new(order)), files)
            }
        };
        self.step(action, label, files, reason);
    }
}
