//! What components are told, read from whatever says it: manifests, units, configuration files, command
//! lines.

mod argv;
mod unit;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::found::{facts, has_key, key_view, read_key};
use crate::{
    document::flat::{self, Flat},
    model::{
        catalogue::COMPONENTS,
        check::{
            evidence::FoundKey,
            flags::{Content, Setting, Told},
        },
        cluster::Cluster,
        inventory::Piece,
        layout::DEFAULT_HOST_DIR,
    },
    ops::{observe::with_causes, read},
    pki::{inspect, key::PublicKey},
};

/// Why a file says nothing about any component.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct FlagsError {
    /// The file.
    pub file: PathBuf,
    /// Why not.
    pub why: String,
}

impl FlagsError {
    /// What to do next.
    pub fn hint(&self) -> String {
        format!(
            "give a static pod's manifest, a systemd unit, /proc/PID/cmdline, a configuration file, or a \
             file of flags that begins with its component: {}",
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
    fn find(&self, path: &Path) -> Option<PathBuf> {
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

/// Reads what files tell components.
pub fn read_all(files: &[PathBuf], hosts: &Hosts<'_>) -> Result<Vec<Told>, FlagsError> {
    let mut all = Vec::new();
    for file in files {
        let found = read_one(file).map_err(|why| FlagsError { file: file.clone(), why })?;
        if found.is_empty() {
            let why = "it tells no component of Kubernetes anything that certkit knows".to_owned();
            return Err(FlagsError { file: file.clone(), why });
        }
        all.extend(found);
    }
    for told in &mut all {
        told.contents = contents(told, hosts);
    }
    Ok(all)
}

fn read_one(file: &Path) -> Result<Vec<Told>, String> {
    let content = match read::file(file) {
        Piece::Present(content) => content,
        Piece::Missing => return Err("there is no such file".into()),
        Piece::Bad(why) => return Err(why),
    };
    let text = String::from_utf8_lossy(&content);
    if text.contains('\0') {
        let words = text.split('\0').filter(|w| !w.is_empty()).map(|w| (w.to_owned(), None));
        return Ok(argv::told(file, words.collect()).into_iter().collect());
    }
    if unit::is_unit(&text) {
        return Ok(unit::told(file, &text));
    }
    if looks_like_flags(&text) {
        let words = argv::words_by_line(&text);
        let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(argv::told(file, words.clone())
            .or_else(|| argv::told_of(file, &stem, words))
            .into_iter()
            .collect());
    }
    let documents = flat::documents(&text).map_err(|error| with_causes(&error))?;
    Ok(documents.iter().flat_map(|document| of_document(file, document)).collect())
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
    if kind.is_empty() {
        let keys = ["client-transport-security", "listen-client-urls", "peer-transport-security"];
        let is_etcd =
            document.values.iter().any(|(path, ..)| keys.iter().any(|k| path.starts_with(k)));
        return is_etcd.then(|| fields(file, "etcd", document)).into_iter().collect();
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
                if let Some(told) = &mut told
                    && told.component == "etcd"
                {
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
    for n in 0.. {
        let at = |key: &str| document.get(&format!("{container}.env.{n}.{key}"));
        let Some(name) = at("name") else { break };
        told.settings.extend(etcd_variable(name, at("value").unwrap_or_default()));
    }
}

/// `ETCD_CERT_FILE` is `--cert-file`.
fn etcd_variable(name: &str, value: &str) -> Option<Setting> {
    let flag = name.strip_prefix("ETCD_")?.to_ascii_lowercase().replace('_', "-");
    Some(Setting { name: flag, value: value.to_owned(), line: None })
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
fn contents(told: &Told, hosts: &Hosts<'_>) -> BTreeMap<String, Content> {
    let mut found = BTreeMap::new();
    for setting in &told.settings {
        let path = &setting.value;
        if path.starts_with('/') && !found.contains_key(path) {
            let content = match hosts.find(Path::new(path)) {
                None => Content::Elsewhere,
                Some(file) => content(hosts.dir, file),
            };
            found.insert(path.clone(), content);
        }
    }
    found
}

fn content(dir: &Path, file: PathBuf) -> Content {
    let pem = match read::file(&dir.join(&file)) {
        Piece::Present(pem) => pem,
        Piece::Missing => return Content::Missing,
        // What is wrong with a file is found where files are judged.
        Piece::Bad(_) => return Content::Elsewhere,
    };
    let all = inspect::from_pem(&pem).unwrap_or_default();
    let key = match has_key(&pem) {
        true => match read_key(&pem, all.first()) {
            Ok(key) => FoundKey::Present(key_view(&key)),
            Err(state) => state,
        },
        false => FoundKey::Missing,
    };
    let public = PublicKey::all_from_pem(&pem).unwrap_or_default();
    Content::Found {
        file,
        certificates: Arc::new(all.iter().map(facts).collect()),
        key,
        public: public.iter().map(|key| key.der().to_vec()).collect(),
    }
}
