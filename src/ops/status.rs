//! `certkit status`: what each host has, as it was last seen, against what is here now.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    declared,
    deployed::{self, Deployed},
};
use crate::model::{
    cluster::{Cluster, Host},
    delivery::{HostFiles, files},
    layout::Layout,
    timestamp::Timestamp,
};

/// One host.
#[derive(Debug)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// What it is: `etcd-member`, `control-plane`, `node`.
    pub roles: Vec<&'static str>,
    /// What was last seen of it; nothing where it was never tried.
    pub known: Option<Deployed>,
    /// The files that are here and that it has not, or that it has and that are here no longer, as it was last seen.
    pub behind: Vec<String>,
    /// When the first of the certificates ends that only it has.
    pub own_end: Option<Timestamp>,
}

impl HostStatus {
    /// How it is, in a word or two.
    pub fn state(&self) -> &'static str {
        match &self.known {
            None => "never-deployed",
            Some(known) if known.seen.is_empty() => "never-reached",
            Some(known) if known.error.is_some() => "failed",
            Some(_) if !self.behind.is_empty() => "behind",
            Some(known) if !known.awaiting.is_empty() => "to-restart",
            Some(_) => "in-step",
        }
    }

    /// Whether it has what is here, has read it, and nothing failed.
    pub fn is_settled(&self) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| {
            !known.seen.is_empty() && known.error.is_none() && known.awaiting.is_empty()
        }) && self.behind.is_empty()
    }
}

/// What is known of every host that is not this directory's own.
pub fn status(dir: &Path) -> Result<Vec<HostStatus>, declared::Error> {
    let cluster: Cluster = declared::load(dir)?;
    let layout = Layout::new(&cluster);
    let belongs = files(&layout);
    let mut known = deployed::all(dir);
    let hosts = cluster.hosts.iter().filter(|host| !cluster.is_local(host));
    let one = |host: &Host| {
        let root = cluster.root_of(host);
        let files = belongs.get(&root).into_iter().flat_map(HostFiles::keys);
        let here = deployed::digests(dir, &root, files);
        let known = known.remove(host.name.as_ref());
        let has = |file: &std::path::PathBuf, digest: &String| {
            known.as_ref().is_some_and(|k| k.files.get(file) == Some(digest))
        };
        let lacking = here.iter().filter(|(file, digest)| !has(file, digest));
        let there = known.iter().flat_map(|known| known.files.keys());
        let behind: BTreeSet<&PathBuf> = lacking
            .map(|(file, _)| file)
            .chain(there.filter(|file| !here.contains_key(*file)))
            .collect();
        let behind = behind.into_iter().map(|file| file.display().to_string()).collect();
        let roles = [
            ("etcd-member", host.etcd),
            ("control-plane", host.control_plane),
            ("node", host.is_only_node()),
        ];
        let ends = known.iter().flat_map(|known| &known.own);
        HostStatus {
            host: host.name.to_string(),
            roles: roles.iter().filter(|(_, is)| *is).map(|(role, _)| *role).collect(),
            own_end: ends.filter_map(|own| own.not_after.parse().ok()).min(),
            behind,
            known,
        }
    };
    Ok(hosts.map(one).collect())
}
