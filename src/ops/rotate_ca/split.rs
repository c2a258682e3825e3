//! The file from which a CA is trusted. In kubeadm's clusters it is the one that signs, of which the controller-manager
//! demands that it holds exactly one certificate: before another CA can be trusted besides, trust gets a file of its
//! own, and whatever names the old one for it must name that.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    document::{
        self,
        manifest::{self, Retarget},
    },
    model::{
        authority::Move,
        catalogue::{self, COMPONENTS, CertId, ComponentSpec, Home, MANIFESTS, USES, Value},
        cluster::{Cluster, Host},
        layout::{DEFAULT_HOST_DIR, Layout, on_machine},
        observed::Piece,
        plan::{Action, Reason, Step},
        settings::{Placement, settings},
        shown::with_causes,
    },
    ops::{
        declared,
        observe::{Files, Observation},
        takeup,
        verify::flags,
    },
};

/// The CAs whose trust moves, by their ids.
pub type Moves = BTreeMap<CertId, Move>;

/// A setting that names, or must name, the file from which a CA is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSetting {
    /// Of which CA.
    pub authority: CertId,
    /// Whose it is: a component's, or a kubeconfig's.
    pub of: &'static str,
    /// On which host, where there are several.
    pub host: Option<String>,
    /// Where it stands, relative to DIR where it is below it; none where that cannot be seen from here.
    pub file: Option<PathBuf>,
    /// The flag with its dashes, or the field.
    pub name: String,
    /// What it names.
    pub from: Option<String>,
    /// What it must name.
    pub to: String,
    /// Whether this run changes it.
    pub is_changed: bool,
}

impl TrustSetting {
    /// That it names the wrong file, for somebody who is to change it.
    pub fn told(&self) -> String {
        let Self { authority, of, file, name, from, to, .. } = self;
        let place = file.as_ref().map_or_else(|| (*of).to_owned(), |f| f.display().to_string());
        let from = from.as_deref().unwrap_or("another file");
        format!("{authority}: {place}: {name} names {from}; it must be {to}")
    }
}

/// A cluster before, while and after trust moves: between, every CA concerned has both files.
pub struct Clusters {
    /// With all the files that there are before or after.
    pub between: Cluster,
    /// As it will be declared.
    pub after: Cluster,
}

impl Clusters {
    /// Of a cluster as it is declared.
    pub fn new(cluster: &Cluster, moves: &Moves) -> Self {
        let (mut between, mut after) = (cluster.clone(), cluster.clone());
        for (id, step) in moves {
            let bundle = format!("{id}-bundle");
            match step {
                Move::Split => {
                    between.absent.remove(&bundle);
                    after.absent.remove(&bundle);
                }
                _ => {
                    after.absent.insert(bundle);
                }
            }
        }
        Self { between, after }
    }

    /// The text of certkit.yaml that declares it; why there is none.
    pub fn declaration(&self, dir: &Path) -> Result<String, String> {
        let text = declared::text(dir).map_err(|error| with_causes(&error))?;
        let (old, new) = (document::read(text.as_bytes(), "").ok(), &self.after.absent);
        let old = old.map(|draft| draft.absent).unwrap_or_default();
        let out: BTreeSet<String> = old.difference(new).cloned().collect();
        let into: BTreeSet<String> = new.difference(&old).cloned().collect();
        document::with_absent(&text, &out, &into).ok_or_else(|| {
            let list: Vec<&str> = new.iter().map(String::as_str).collect();
            format!(
                "{}: must say absent: [{}], and cannot be changed in place",
                dir.join(declared::FILE).display(),
                list.join(", ")
            )
        })
    }
}

/// Looks for settings that name the wrong file.
pub struct Search<'a> {
    /// The cluster with both files of the CAs concerned.
    pub layout: &'a Layout<'a>,
    /// As it will be declared.
    pub after: &'a Cluster,
    /// What is on disk.
    pub observation: &'a Observation,
    /// The PKI's directory.
    pub dir: &'a Path,
}

/// What components are told on one host, and by which files.
struct Heard {
    /// The component and the file, relative to DIR where it is below it.
    components: BTreeSet<&'static str>,
    settings: Vec<TrustSetting>,
}

impl Search<'_> {
    /// The settings that name the file which these CAs will not be trusted from: those that can be seen, and those of
    /// programs whose settings cannot.
    pub fn all(&self, moves: &Moves) -> Vec<TrustSetting> {
        let mut found = Vec::new();
        for host in &self.layout.cluster.hosts {
            let heard = self.on(host, moves);
            found.extend(heard.settings);
            for component in COMPONENTS.iter().filter(|c| self.runs(host, c)) {
                if !heard.components.contains(component.id) {
                    found.extend(self.unseen(host, component, moves));
                }
            }
        }
        found.extend(self.kubeconfigs(moves));
        found
    }

    /// Only those that can be seen.
    pub fn seen(&self, moves: &Moves) -> Vec<TrustSetting> {
        let all = self.all(moves);
        all.into_iter().filter(|setting| setting.file.is_some()).collect()
    }

    fn runs(&self, host: &Host, component: &ComponentSpec) -> bool {
        let by_itself = component.unit.is_some() || component.config.is_some();
        by_itself && host.is_in(component.scope) && self.layout.cluster.has(component.present)
    }

    /// What is told on one host.
    fn on(&self, host: &Host, moves: &Moves) -> Heard {
        let mut heard = Heard { components: BTreeSet::new(), settings: Vec::new() };
        let mut files = Files::new(self.dir);
        for file in self.files(host) {
            let Piece::Present(content) = files.read(&file) else { continue };
            // What tells no component anything is no matter of this.
            for told in flags::told(&file, &content).unwrap_or_default() {
                heard.components.insert(told.component);
                let Some(component) = catalogue::component(told.component) else { continue };
                for row in USES {
                    let Some(name) = told.reads(row) else { continue };
                    let (Value::Bundle(id) | Value::Chain(id)) = row.value else { continue };
                    let Some((id, step)) = moves.get_key_value(&id) else { continue };
                    let Some(value) = told.set(name) else { continue };
                    let Some(to) = self.instead(host, *id, *step, value) else { continue };
                    heard.settings.push(TrustSetting {
                        authority: *id,
                        of: component.id,
                        host: self.name_of(host),
                        file: Some(file.clone()),
                        name: if told.is_config { name.to_owned() } else { format!("--{name}") },
                        from: Some(value.to_owned()),
                        to,
                        is_changed: false,
                    });
                }
            }
        }
        heard
    }

    /// The files of a host in which components are told something, as far as they are here: relative to DIR where they
    /// are below it.
    fn files(&self, host: &Host) -> Vec<PathBuf> {
        let cluster = self.layout.cluster;
        let root = cluster.root_of(host);
        let folder = root.join(MANIFESTS);
        let manifests = takeup::manifests(&self.dir.join(&folder)).unwrap_or_default();
        let relative = |file: PathBuf| Some(folder.join(file.file_name()?));
        let mut files: Vec<PathBuf> = manifests.into_iter().filter_map(relative).collect();
        for component in COMPONENTS.iter().filter(|c| self.runs(host, c)) {
            let elsewhere = || {
                let path = component.config?.elsewhere.filter(|_| cluster.is_local(host))?;
                on_machine(self.dir, path)
            };
            files.extend(
                cluster.config_file(component.id).map(|file| root.join(file)).or_else(elsewhere),
            );
        }
        files
    }

    /// The file that a setting must name instead of this one.
    fn instead(&self, host: &Host, id: CertId, step: Move, value: &str) -> Option<String> {
        let (old, new) = files_of(id, step)?;
        let cluster = self.layout.cluster;
        let (on_host, here) =
            (cluster.dir_on(Some(host), self.dir), self.dir.join(cluster.root_of(host)));
        let path = Path::new(value);
        // A machine's disk that is looked at from another one.
        let is_machine = on_machine(self.dir, DEFAULT_HOST_DIR).is_some();
        let usual = || path.strip_prefix(DEFAULT_HOST_DIR).ok().filter(|_| is_machine);
        let inside = path.strip_prefix(on_host).or_else(|_| path.strip_prefix(here));
        let inside = inside.ok().or_else(usual)?;
        let stem = value.strip_suffix(old).filter(|_| inside == Path::new(old))?;
        Some(format!("{stem}{new}"))
    }

    /// What a program must be told whose settings nobody sees here.
    fn unseen(&self, host: &Host, component: &ComponentSpec, moves: &Moves) -> Vec<TrustSetting> {
        let dir = self.dir.display().to_string();
        let place =
            Placement { dir: dir.trim_end_matches('/'), without_keys: &BTreeSet::default() };
        let all = settings(self.after, Some(host), component, place).into_iter();
        all.filter_map(|setting| {
            let (Value::Bundle(id) | Value::Chain(id)) = setting.row.value else { return None };
            let (id, step) = moves.get_key_value(&id)?;
            let (_, new) = files_of(*id, *step)?;
            let flag = setting.flag.map(|flag| format!("--{flag}"));
            Some(TrustSetting {
                authority: *id,
                of: setting.component,
                host: self.name_of(host),
                file: None,
                name: flag.or_else(|| setting.field.map(str::to_owned))?,
                from: None,
                to: Some(setting.value).filter(|value| value.ends_with(new))?,
                is_changed: false,
            })
        })
        .collect()
    }

    /// The kubeconfigs that name the file; one that embeds what it trusts holds it anyway.
    fn kubeconfigs(&self, moves: &Moves) -> Vec<TrustSetting> {
        let mut found = Vec::new();
        for (index, held) in self.observation.observed.instances.iter().enumerate() {
            let instance = &self.layout.instances[index];
            let Some(authority) = instance.issuer else { continue };
            let Some((id, step)) = moves.get_key_value(&authority) else { continue };
            let Some((old, new)) = files_of(*id, *step) else { continue };
            let Some(view) = held.readable_kubeconfig() else { continue };
            if view.authority_file.as_deref() != Some(&instance.root.join(old)) {
                continue;
            }
            let cluster = self.layout.cluster;
            let on_host = cluster.dir_on(instance.host, self.dir);
            found.push(TrustSetting {
                authority: *id,
                of: instance.spec.id.name(),
                host: instance.host.and_then(|host| self.name_of(host)),
                file: Some(view.file.clone()),
                name: "certificate-authority".into(),
                from: Some(on_host.join(old).display().to_string()),
                to: on_host.join(new).display().to_string(),
                is_changed: false,
            });
        }
        found
    }

    fn name_of(&self, host: &Host) -> Option<String> {
        (self.layout.cluster.hosts.len() > 1).then(|| host.name.to_string())
    }

    /// Changes those that stand in static pods' manifests: a step for each manifest. The kubelet sees another pod and
    /// starts it anew. Why one cannot be changed goes to the refusals.
    pub fn rewrite(&self, settings: &mut [TrustSetting], refusals: &mut Vec<String>) -> Vec<Step> {
        let is_flag = |setting: &&mut TrustSetting| {
            let file = setting.file.as_ref();
            let folder = file.and_then(|f| f.parent()).and_then(|folder| folder.file_name());
            setting.name.starts_with("--") && folder.is_some_and(|name| name == MANIFESTS)
        };
        let mut by_file: BTreeMap<PathBuf, Vec<&mut TrustSetting>> = BTreeMap::new();
        for setting in settings.iter_mut().filter(is_flag) {
            let file = setting.file.clone().unwrap_or_default();
            by_file.entry(file).or_default().push(setting);
        }
        let mut steps = Vec::new();
        let mut files = Files::new(self.dir);
        for (file, settings) in by_file {
            let Piece::Present(content) = files.read(&file) else { continue };
            let changes: Vec<Retarget> = settings.iter().map(|setting| retarget(setting)).collect();
            let text = match rewritten(&content, &changes) {
                Ok(text) => text,
                Err(why) => {
                    refusals.push(format!("{}: {why}", file.display()));
                    continue;
                }
            };
            let label = format!("{} (static pod)", settings[0].of);
            let differences = settings.iter().map(|s| format!("{} must be {}", s.name, s.to));
            let reason = Reason::Drift(differences.collect());
            steps.push(Step { action: Action::Configure(text), label, files: vec![file], reason });
            for setting in settings {
                setting.is_changed = true;
            }
        }
        steps
    }
}

/// From which file a CA is trusted before and after its trust moves, `/etc/kubernetes`-relative.
fn files_of(id: CertId, step: Move) -> Option<(&'static str, &'static str)> {
    let Home::Authority { cert, bundle, .. } = id.spec().home else {
        return None;
    };
    match step {
        Move::Join => Some((bundle?, cert)),
        _ => Some((cert, bundle?)),
    }
}

fn retarget(setting: &TrustSetting) -> Retarget {
    Retarget {
        flag: setting.name.trim_start_matches('-').to_owned(),
        from: setting.from.clone().unwrap_or_default(),
        to: setting.to.clone(),
    }
}

/// The manifest with what it is to say. A pod sees only what is mounted.
fn rewritten(content: &[u8], changes: &[Retarget]) -> Result<Arc<str>, String> {
    let mounts = manifest::mounts(content).map_err(|error| with_causes(&error))?;
    for change in changes {
        if !mounts.iter().any(|mount| Path::new(&change.to).starts_with(mount)) {
            return Err(format!(
                "--{} is to name {}, and the pod has no folder mounted that holds it; add one, and change the flag \
                 there",
                change.flag, change.to
            ));
        }
    }
    let changed = manifest::retarget(content, changes).map_err(|error| with_causes(&error))?;
    // It was changed as text.
    Ok(String::from_utf8_lossy(&changed).into())
}
