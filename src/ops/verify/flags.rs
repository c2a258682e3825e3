//! What components are told, read from whatever says it: manifests, units, configuration files, command
//! lines.

mod argv;
mod printed;
mod unit;
mod variables;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use variables::Variables;

use crate::{
    document::flat::{self, Flat},
    model::{
        catalogue::{COMPONENTS, USES, component, roles},
        check::flags::{NamedFile, Setting, Told},
        cluster::Cluster,
        layout::DEFAULT_HOST_DIR,
        observed::{FoundKey, Piece},
        shown::with_causes,
    },
    ops::{
        observe::{has_key, key_of, view},
        read,
    },
    pki::{inspect, key::PublicKey},
};

/// Why a file says nothing about any component.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct ToldError {
    /// The file.
    pub file: PathBuf,
    /// Why not.
    pub why: String,
}

impl ToldError {
    /// What to do next.
    pub fn hint(&self) -> String {
        format!(
            "give a static pod's manifest, a systemd unit, an environment file, /proc/PID/cmdline, a \
             configuration file, anything that `certkit flags` prints, or a file of flags that is called \
             after its component: {}",
            COMPONENTS.iter().map(|c| c.id).collect::<Vec<_>>().join(", ")
        )
    }
}

/// Where the files are that settings name.
pub struct Hosts<'a> {
    /// DIR.
    pub dir: &'a Path,
    /// The hosts' folders below DIR, each with what its host calls it.
    trees: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Hosts<'a> {
    /// Of a cluster; undeclared ones are laid out as kubeadm does it.
    pub fn new(cluster: &Cluster, declared: bool, dir: &'a Path) -> Self {
        let on_host = |host| match declared {
            true => cluster.dir_on(Some(host), dir),
            false => PathBuf::from(DEFAULT_HOST_DIR),
        };
        let trees = cluster.hosts.iter().map(|host| (cluster.root_of(host), on_host(host)));
        Self { dir, trees: trees.collect() }
    }

    /// A file that a setting names: relative to DIR where it is below it.
    pub fn find(&self, path: &Path) -> Option<PathBuf> {
        let in_tree = |(root, on_host): &(PathBuf, PathBuf)| {
            let inside = path.strip_prefix(on_host).or_else(|_| path.strip_prefix(self.dir));
            inside.ok().map(|inside| root.join(inside))
        };
        let mut all = self.trees.iter().filter_map(in_tree).peekable();
        match all.peek().cloned() {
            Some(first) => {
                let there = |p: &PathBuf| self.dir.join(p).symlink_metadata().is_ok();
                all.find(there).or(Some(first))
            }
            // Other files are here only if this is the machine they are meant for.
            None => path.exists().then(|| path.to_path_buf()),
        }
    }
}

/// What a file is.
enum Said {
    /// A unit or drop-ins for one: the unit's name, and the text.
    Unit(String, String),
    /// An environment file.
    Variables(Variables),
    /// Something that tells components by itself.
    Told(Vec<Told>),
}

/// Reads what files tell components. What belongs together is taken together: a unit, its drop-ins and its
/// environment files; a manifest and patches for it.
pub fn read_all(files: &[PathBuf], hosts: &Hosts<'_>) -> Result<Vec<Told>, ToldError> {
    let mut all = Vec::new();
    let mut units: BTreeMap<String, Vec<(&PathBuf, String)>> = BTreeMap::new();
    let mut environments = Vec::new();
    let nothing = |file: &Path| {
        let why = "it tells no component of Kubernetes anything that certkit knows".to_owned();
        ToldError { file: file.to_path_buf(), why }
    };
    for file in files {
        match read_one(file).map_err(|why| ToldError { file: file.clone(), why })? {
            Said::Told(found) if found.is_empty() => return Err(nothing(file)),
            Said::Told(found) => all.extend(found),
            Said::Unit(name, text) => units.entry(name).or_default().push((file, text)),
            Said::Variables(variables) => environments.push((file, variables)),
        }
    }
    let given: Variables = environments.iter().flat_map(|(_, v)| v.clone()).collect();
    let mut taken = vec![false; environments.len()];
    for parts in units.into_values() {
        // A unit comes before its drop-ins, and they come in the order of their names.
        let mut parts = parts;
        parts.sort_by_key(|(file, _)| (is_drop_in(file), file.file_name()));
        let text: Vec<&str> = parts.iter().map(|(_, text)| text.as_str()).collect();
        let unit = unit::read(&text.join("\n"));
        let found = unit.told(parts[0].0, &given);
        if found.is_empty() {
            return Err(nothing(parts[0].0));
        }
        all.extend(found);
        for ((_, variables), taken) in environments.iter().zip(&mut taken) {
            *taken |= variables.keys().any(|name| unit.takes(name));
        }
    }
    for ((file, variables), _) in environments.iter().zip(taken).filter(|(_, taken)| !taken) {
        let found = variables::told(file, variables);
        if found.is_empty() {
            return Err(nothing(file));
        }
        all.extend(found);
    }
    let mut all = patched(all);
    for told in &mut all {
        told.contents = contents(told, hosts);
    }
    Ok(all)
}

/// Adds what only adds to others to what is there of them.
fn patched(all: Vec<Told>) -> Vec<Told> {
    let (parts, mut whole): (Vec<Told>, Vec<Told>) = all.into_iter().partition(|t| t.is_partial);
    for part in parts {
        let is = |t: &&mut Told| t.component == part.component && t.is_config == part.is_config;
        match whole.iter_mut().find(is) {
            Some(told) => told.settings.extend(part.settings),
            None => whole.push(part),
        }
    }
    whole
}

/// The name of the folder that a unit's drop-ins are in, without the unit's.
const DROP_INS: &str = ".d";

fn is_drop_in(file: &Path) -> bool {
    unit_of_folder(file).is_some()
}

/// The unit that a file is a drop-in for.
fn unit_of_folder(file: &Path) -> Option<String> {
    let folder = file.parent()?.file_name()?.to_str()?;
    folder.strip_suffix(DROP_INS).filter(|unit| unit.contains('.')).map(str::to_owned)
}

fn read_one(file: &Path) -> Result<Said, String> {
    let content = match read::named(file, read::LIMIT) {
        Piece::Present(content) => content,
        Piece::Missing => return Err("there is no such file".into()),
        Piece::Bad(why) => return Err(why),
    };
    said(file, &content)
}

/// What a file with this content tells components by itself; nothing where it is none of the forms.
pub fn told(file: &Path, content: &[u8]) -> Result<Vec<Told>, String> {
    Ok(match said(file, content)? {
        Said::Told(told) => told,
        Said::Unit(_, text) => unit::read(&text).told(file, &Variables::default()),
        Said::Variables(variables) => variables::told(file, &variables).into_iter().collect(),
    })
}

/// What a process of a component was told when it was started, by its folder below `/proc`.
pub fn of_process(folder: &Path) -> Option<Told> {
    let file = folder.join("cmdline");
    let Piece::Present(content) = read::file(&file) else { return None };
    let mut told = told(&file, &content).ok()?.into_iter().next()?;
    if let Piece::Present(environment) = read::file(&folder.join("environ")) {
        let text = String::from_utf8_lossy(&environment);
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        let own = format!("{}_", argv::shout(told.component));
        let variables: Variables = pairs
            .filter(|(name, _)| name.starts_with(&own))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        told.settings.splice(0..0, variables::read_by_itself(told.component, &variables));
    }
    Some(with_config(told))
}

/// The same with what is in the configuration file that it names. Flags go before it.
pub fn with_config(mut told: Told) -> Told {
    let config = component(told.component).and_then(|spec| spec.config);
    let file = config.and_then(|config| Some(PathBuf::from(told.set(config.flag)?)));
    if let Some(file) = file.filter(|file| file.is_absolute())
        && let Piece::Present(content) = read::file(&file)
    {
        let more = self::told(&file, &content).unwrap_or_default();
        let own = more.into_iter().filter(|other| other.component == told.component);
        told.settings.splice(0..0, own.flat_map(|other| other.settings));
    }
    told
}

fn said(file: &Path, content: &[u8]) -> Result<Said, String> {
    let text = String::from_utf8_lossy(content);
    if let Some(variables) = variables::of_file(&text) {
        return Ok(Said::Variables(variables));
    }
    if text.contains('\0') {
        let words = text.split('\0').filter(|w| !w.is_empty()).map(|w| (w.to_owned(), None));
        return Ok(Said::Told(argv::told(file, words.collect()).into_iter().collect()));
    }
    if unit::is_unit(&text) {
        let own = || file.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = unit_of_folder(file).or_else(own).unwrap_or_default();
        return Ok(Said::Unit(name, text.into_owned()));
    }
    if looks_like_flags(&text) {
        let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let told = argv::parts(&text).into_iter().filter_map(|(heading, words)| {
            let told = || argv::told(file, words.clone());
            let of = |name: &str| argv::told_of(file, name, words.clone());
            heading
                .and_then(of)
                .or_else(told)
                .or_else(|| of(&stem))
                .or_else(|| argv::guess(&words).and_then(of))
        });
        return Ok(Said::Told(told.collect()));
    }
    let documents = flat::documents(&text).map_err(|error| with_causes(&error))?;
    Ok(Said::Told(documents.iter().flat_map(|document| of_document(file, document)).collect()))
}

/// One flag a line, or a command line.
fn looks_like_flags(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let Some(first) = lines.next() else { return false };
    let begins = |line: &str| line.starts_with("--") && !line.starts_with("---");
    begins(first)
        || (argv::component(first.split_whitespace().next().unwrap_or_default()).is_some()
            && !first.ends_with(':'))
}

fn of_document(file: &Path, document: &Flat) -> Vec<Told> {
    let kind = document.get("kind").unwrap_or_default();
    let config =
        COMPONENTS.iter().find(|c| c.config.is_some_and(|c| !c.kind.is_empty() && c.kind == kind));
    if let Some(component) = config {
        return vec![fields(file, component.id, document)];
    }
    let printed = printed::told(file, document);
    if !printed.is_empty() {
        return printed;
    }
    if kind.is_empty() {
        let keys = ["client-transport-security", "listen-client-urls", "peer-transport-security"];
        let is_etcd =
            document.values.iter().any(|(path, ..)| keys.iter().any(|k| path.starts_with(k)));
        return is_etcd.then(|| fields(file, roles::ETCD.id, document)).into_iter().collect();
    }
    // Pods, and whatever makes pods by a template.
    let mut found = Vec::new();
    for spec in ["spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec"] {
        for list in ["initContainers", "containers"] {
            for n in 0.. {
                let at = format!("{spec}.{list}.{n}");
                if !document.values.iter().any(|(p, ..)| p.starts_with(&format!("{at}."))) {
                    break;
                }
                let mut words = document.list(&format!("{at}.command"));
                words.extend(document.list(&format!("{at}.args")));
                let words = words.into_iter().map(|(word, line)| (word, Some(line))).collect();
                let mut told = argv::told(file, words);
                if let Some(told) = &mut told {
                    environment(told, document, &at);
                }
                found.extend(told);
            }
        }
    }
    found
}

/// etcd takes each flag from the environment too.
fn environment(told: &mut Told, document: &Flat, container: &str) {
    let mut variables = Variables::new();
    for n in 0.. {
        let at = |key: &str| document.get(&format!("{container}.env.{n}.{key}"));
        let Some(name) = at("name") else { break };
        variables.insert(name.to_owned(), at("value").unwrap_or_default().to_owned());
    }
    told.settings.extend(variables::read_by_itself(told.component, &variables));
}

fn fields(file: &Path, component: &'static str, document: &Flat) -> Told {
    let settings = document
        .values
        .iter()
        .map(|(path, value, line)| Setting {
            name: first_selection(path),
            value: value.clone(),
            line: Some(*line),
        })
        .collect();
    Told {
        file: file.to_path_buf(),
        component,
        is_config: true,
        is_partial: false,
        settings,
        contents: BTreeMap::new(),
    }
}

/// The catalogue knows the egress selector's entries by the first one's place.
fn first_selection(path: &str) -> String {
    match path.strip_prefix("egressSelections.").and_then(|rest| rest.split_once('.')) {
        Some((_, rest)) => format!("egressSelections.0.{rest}"),
        None => path.to_owned(),
    }
}

/// What the files hold that settings name by an absolute path.
fn contents(told: &Told, hosts: &Hosts<'_>) -> BTreeMap<String, NamedFile> {
    let mut found = BTreeMap::new();
    for setting in &told.settings {
        let path = &setting.value;
        if path.starts_with('/') && !found.contains_key(path) {
            let content = match hosts.find(Path::new(path)) {
                None => NamedFile::Elsewhere,
                Some(file) => content(hosts.dir, file),
            };
            found.insert(path.clone(), content);
        }
    }
    found
}

fn content(dir: &Path, file: PathBuf) -> NamedFile {
    let pem = match read::file(&dir.join(&file)) {
        Piece::Present(pem) => pem,
        Piece::Missing => return NamedFile::Missing,
        // What is wrong with a file is found where files are judged.
        Piece::Bad(_) => return NamedFile::Elsewhere,
    };
    let all = inspect::from_pem(&pem).unwrap_or_default();
    let key = match has_key(&pem) {
        true => key_of(&pem, all.first(), false).0,
        false => FoundKey::Missing,
    };
    let public = PublicKey::all_from_pem(&pem).unwrap_or_default();
    NamedFile::Found {
        file,
        certificates: Arc::new(all.iter().map(view).collect()),
        key,
        public: public.iter().map(|key| key.der().to_vec()).collect(),
    }
}
