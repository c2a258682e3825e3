//! What a static pod must have mounted to open the files that its settings name.

use std::collections::BTreeSet;

use super::SettingValue;
use crate::model::{
    catalogue::{CertId, ComponentSpec},
    cluster::Cluster,
    layout::DEFAULT_HOST_DIR,
};

/// A path of the host that a pod must see, at the same place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// The path.
    pub path: String,
    /// Whether it is one file. A file that certkit replaces must come with its folder, as a mount of one
    /// file keeps showing the old one; files mounted alone are read once, at start.
    pub is_file: bool,
}

/// What kubeadm mounts into its static pods, given its `certificatesDir`. Its kubeconfigs are always in
/// `/etc/kubernetes`.
pub fn kubeadm_mounts(component: &ComponentSpec, certificates: &str) -> Vec<String> {
    let Some(kubeadm) = component.kubeadm else { return Vec::new() };
    let folder = kubeadm.certificates.map(|folder| match folder {
        "" => certificates.to_owned(),
        folder => format!("{certificates}/{folder}"),
    });
    let kubeconfig = kubeadm.kubeconfig.map(CertId::spec);
    let kubeconfig = kubeconfig.map(|spec| format!("{DEFAULT_HOST_DIR}/{}", spec.home.cert()));
    folder.into_iter().chain(kubeconfig).collect()
}

/// What a pod that has `mounted` lacks for these settings: folders of certificates and keys, single
/// files beside them.
pub fn mounts_missing(
    settings: &[SettingValue],
    cluster: &Cluster,
    root: &str,
    mounted: &[String],
) -> Vec<Mount> {
    let mut wanted = BTreeSet::new();
    for file in settings.iter().flat_map(|setting| setting.files(cluster, root)) {
        let parent = file.rsplit_once('/').map_or("", |(parent, _)| parent);
        // The tree's own folder holds the administrators' kubeconfigs, which no pod should see.
        let is_file = parent == root || parent.is_empty();
        wanted.insert(Mount { path: if is_file { file } else { parent.to_owned() }, is_file });
    }
    let covered = |path: &str, by: &str| {
        path.strip_prefix(by).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    wanted
        .iter()
        .filter(|mount| !mounted.iter().any(|by| covered(&mount.path, by)))
        .filter(|mount| {
            !wanted
                .iter()
                .any(|other| other.path != mount.path && covered(&mount.path, &other.path))
        })
        .cloned()
        .collect()
}
