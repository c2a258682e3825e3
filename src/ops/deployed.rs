//! What each host has, as `certkit deploy` last saw it: a small file a host in DIR/.certkit/hosts. `certkit status` shows
//! it, and `certkit rotate-ca` asks it before it takes a stage.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    delivery::{Complaint, OwnCertificate},
    read,
};
use crate::{
    model::{cluster::Cluster, delivery, layout::Layout, observed::Piece, part},
    store::{self, sha256},
};

/// Where it is kept, below DIR, and among certkit's notes.
const FOLDER: &str = ".certkit/hosts";
const NOTES: &str = "hosts";

/// What a host has.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployed {
    /// The host.
    pub host: String,
    /// When it was last reached, in RFC 3339; empty where it never was.
    pub seen: String,
    /// SHA-256 in hexadecimal of each file that it has, by its path in the host's tree.
    pub files: BTreeMap<PathBuf, String>,
    /// The components that run and have not read since what is in place.
    pub awaiting: Vec<String>,
    /// The listeners that were seen to serve what is in place, as `COMPONENT HOST:PORT`.
    pub serves: Vec<String>,
    /// Certificates that only the host has.
    pub own: Vec<OwnCertificate>,
    /// When it was last tried, in RFC 3339.
    pub tried: String,
    /// Why that failed, if it did.
    pub error: Option<Complaint>,
}

/// What is known of each host that was ever tried, by name.
pub fn all(dir: &Path) -> BTreeMap<String, Deployed> {
    each(dir).collect()
}

/// The same, one after the other, by name.
pub fn each(dir: &Path) -> impl Iterator<Item = (String, Deployed)> {
    let entries = std::fs::read_dir(dir.join(FOLDER)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
    let names: BTreeSet<String> = names.collect();
    names.into_iter().filter_map(move |name| Some((name.clone(), of(dir, &name)?)))
}

/// What is known of one host.
pub fn of(dir: &Path, host: &str) -> Option<Deployed> {
    let content = read::file(&dir.join(FOLDER).join(format!("{host}.json")));
    let deployed: Deployed = serde_json::from_slice(content.present()?).ok()?;
    (deployed.host == host).then_some(deployed)
}

/// Keeps what is known of a host.
pub fn keep(dir: &Path, deployed: &Deployed) -> Result<(), store::Error> {
    // A structure of texts always is JSON.
    let text = serde_json::to_vec(deployed).unwrap_or_default();
    store::write_note(dir, &format!("{NOTES}/{}.json", deployed.host), &text)
}

/// The files of a host, relative to its tree, as they are in the workspace: SHA-256 of each that is there.
pub fn digests<'f>(
    dir: &Path,
    root: &Path,
    files: impl IntoIterator<Item = &'f PathBuf>,
) -> BTreeMap<PathBuf, String> {
    let digest = |file: &PathBuf| match read::file(&dir.join(root).join(file)) {
        Piece::Present(content) => Some((file.clone(), sha256(&content))),
        Piece::Missing | Piece::Bad(_) => None,
    };
    files.into_iter().filter_map(digest).collect()
}

/// The hosts that have not what the workspace has for them, or have not read it, each with what it lacks. Where nothing
/// was ever deployed, files go to hosts in other ways, and nothing is known.
pub fn behind(cluster: &Cluster, dir: &Path) -> Vec<(String, String)> {
    let mut behind = Vec::new();
    if each(dir).next().is_none() {
        return behind;
    }
    for part in part::all(cluster) {
        let layout = Layout::new(&part.cluster);
        let files = delivery::files(&layout);
        for host in part.cluster.hosts.iter().filter(|host| part.has(host)) {
            let root = cluster.root_of(host);
            let Some(files) = files.get(&root) else { continue };
            let why = match of(dir, host.name.as_ref()) {
                None => Some(
                    "was never deployed to (--force where its files go another way)".to_owned(),
                ),
                Some(deployed) if deployed.seen.is_empty() => Some("was never reached".to_owned()),
                Some(deployed) => lacks(&deployed, &digests(dir, &root, files.keys())),
            };
            behind.extend(why.map(|why| (host.name.to_string(), why)));
        }
    }
    behind
}

/// What a host lacks of these files.
pub fn lacks(deployed: &Deployed, files: &BTreeMap<PathBuf, String>) -> Option<String> {
    let mut other = files.iter().filter(|(file, digest)| deployed.files.get(*file) != Some(digest));
    let gone = deployed.files.keys().filter(|file| !files.contains_key(*file)).count();
    if let Some((file, _)) = other.next() {
        let more = match other.count() + gone {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Some(format!("has another {}{more}, as it was last seen", file.display()));
    }
    if gone > 0 {
        return Some(format!("has {gone} files that are there no longer, as it was last seen"));
    }
    let components = deployed.awaiting.join(", ");
    (!components.is_empty()).then(|| format!("has not restarted {components} since"))
}
