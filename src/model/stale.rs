//! What is no longer declared: files of hosts and addons that the catalogue knows and this cluster has no more.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    path::{Path, PathBuf},
};

use super::{
    catalogue::{CERTIFICATES, COMPONENTS, CertSpec, Condition, KEYS},
    cluster::{Cluster, Etcd, Host},
    layout::Layout,
};

/// Why a file is no longer declared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its addon is not.
    Addon(&'static str),
    /// Its host is not.
    Host(String),
    /// Nothing of the kind is on this host, or in DIR itself.
    Elsewhere,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addon(addon) => write!(f, "addon {addon} is not declared"),
            Self::Host(host) => write!(f, "host {host} is not declared"),
            Self::Elsewhere => f.write_str("nothing declared here uses it"),
        }
    }
}

/// The folder of the hosts' trees.
pub const HOSTS: &str = "hosts";

/// Every file that the catalogue knows, `/etc/kubernetes`-relative.
pub fn known() -> BTreeSet<&'static str> {
    let of_rows = CERTIFICATES.iter().flat_map(|spec| spec.home.files());
    let of_keys = KEYS.iter().flat_map(|key| [key.private, key.public]);
    let of_components = COMPONENTS.iter().filter_map(|component| Some(component.config?.file));
    of_rows.chain(of_keys).chain(of_components).collect()
}

/// Files that are there and not declared, relative to DIR, each with its reason: of every tree the files that the
/// catalogue knows and that are not laid out in it. `there` says which of those are in the tree that has this folder.
///
/// What a cluster does without on purpose is nobody's leftover, nor is what somebody else's etcd is reached
/// by, nor a root whose certificate authorities may still be signed by it.
pub fn leftovers(
    layout: &Layout<'_>,
    dir: &Path,
    there: impl Fn(&Path) -> BTreeSet<&'static str>,
) -> Vec<(PathBuf, Why)> {
    let cluster = layout.cluster;
    let mut here: HashSet<PathBuf> = HashSet::new();
    for instance in &layout.instances {
        here.extend(instance.spec.home.files().iter().map(|file| instance.root.join(file)));
    }
    here.extend(layout.derived.iter().map(|derived| derived.path.clone()));
    here.extend(layout.copies.iter().map(|copy| copy.to.clone()));
    here.extend(layout.config_files.iter().map(|file| file.path.clone()));
    here.extend(KEYS.iter().flat_map(|key| [key.private.into(), key.public.into()]));
    let mut found = Vec::new();
    let trees = [None].into_iter().chain(cluster.hosts.iter().map(Some));
    for host in trees {
        let root = host.map(|host| cluster.root_of(host)).unwrap_or_default();
        // DIR itself is looked at once.
        if host.is_some() && root.as_os_str().is_empty() {
            continue;
        }
        let there = there(&root);
        let own = external(cluster, host.or(cluster.local()), dir);
        let of_rows = CERTIFICATES
            .iter()
            .filter(|spec| {
                !cluster.is_absent(spec.id.name()) && spec.present != Condition::SingleRoot
            })
            .flat_map(|spec| spec.home.files().into_iter().map(|file| (file, why(cluster, spec))));
        let of_keys = KEYS.iter().filter(|key| !cluster.is_absent(key.id)).flat_map(|key| {
            [key.private, key.public].into_iter().map(|file| (file, Why::Elsewhere))
        });
        // One of a component that is declared may be its user's.
        let of_components = COMPONENTS.iter().filter_map(|component| match component.present {
            Condition::Addon(addon) if !cluster.has(component.present) => {
                Some((component.config?.file, Why::Addon(addon)))
            }
            _ => None,
        });
        let all = of_rows.chain(of_keys).chain(of_components);
        for (file, why) in all.filter(|(file, _)| there.contains(file)) {
            let path = root.join(file);
            if !here.contains(&path) && !own.contains(Path::new(file)) {
                here.insert(path.clone());
                found.push((path, why));
            }
        }
    }
    found
}

fn why(cluster: &Cluster, spec: &CertSpec) -> Why {
    match spec.present {
        Condition::Addon(addon) if !cluster.has(spec.present) => Why::Addon(addon),
        _ => Why::Elsewhere,
    }
}

/// The files in a host's tree by which its apiserver reaches an etcd of somebody else's.
fn external(cluster: &Cluster, host: Option<&Host>, dir: &Path) -> BTreeSet<PathBuf> {
    let Etcd::External { files: Some(files), .. } = &cluster.etcd else { return BTreeSet::new() };
    let tree = cluster.dir_on(host, dir);
    let inside = |file: &String| Path::new(file).strip_prefix(&tree).ok().map(Path::to_path_buf);
    [&files.ca, &files.cert, &files.key].into_iter().filter_map(inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue;

    fn cluster() -> Cluster {
        let host = Host {
            name: "cp1".parse().unwrap(),
            addresses: vec!["10.0.0.11".parse().unwrap()],
            port: None,
            control_plane: true,
            etcd: true,
            node: true,
            ssh: None,
        };
        Cluster::new("c".into(), "api:6443".parse().unwrap(), vec![host])
    }

    #[test]
    fn nothing_that_is_laid_out_is_a_leftover() {
        let mut cluster = cluster();
        cluster.addons = catalogue::addons().into_iter().map(Into::into).collect();
        cluster.single_root = true;
        let found = leftovers(&Layout::new(&cluster), Path::new("/d"), |_| known());
        assert_eq!(found, []);
    }

    #[test]
    fn an_addon_that_is_gone_leaves_its_files() {
        let cluster = cluster();
        let found = leftovers(&Layout::new(&cluster), Path::new("/d"), |_| known());
        for addon in catalogue::addons() {
            assert!(found.iter().any(|(_, why)| *why == Why::Addon(addon)), "{addon}");
        }
        assert!(found.iter().all(|(_, why)| matches!(why, Why::Addon(_))), "{found:?}");
    }
}
