//! What belongs on a host: the files that the catalogue puts there, and nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use super::{
    catalogue::CertId,
    cluster::{Cluster, Host},
    layout::{Layout, PUBLIC, Place, SECRET},
};

/// The files of one host, relative to its tree, and each one's mode.
pub type HostFiles = BTreeMap<PathBuf, u32>;

/// The files of every host that has a folder in an operator's workspace, by that folder.
pub fn files(layout: &Layout<'_>) -> HashMap<PathBuf, HostFiles> {
    let mut all: HashMap<PathBuf, HostFiles> = HashMap::new();
    let roots = layout.cluster.hosts.iter().map(|host| layout.cluster.root_of(host));
    for root in roots.filter(|root| !root.as_os_str().is_empty()) {
        all.insert(root, HostFiles::new());
    }
    let mut add = |path: &Path, mode: u32| {
        let (root, inside) = split(path);
        if let Some(files) = all.get_mut(&root) {
            files.insert(inside, mode);
        }
    };
    for instance in &layout.instances {
        match &instance.place {
            Place::Pair { cert, .. } if instance.key_on_host => add(cert, PUBLIC),
            Place::Pair { cert, key } => {
                add(cert, PUBLIC);
                add(key, SECRET);
            }
            Place::Named { cert, key, kubeconfig } if instance.key_on_host => {
                add(cert, if cert == key { SECRET } else { PUBLIC });
                add(kubeconfig, SECRET);
            }
            Place::Named { cert, key, kubeconfig } => {
                add(cert, if cert == key { SECRET } else { PUBLIC });
                add(key, SECRET);
                add(kubeconfig, SECRET);
            }
            Place::Embedded { kubeconfig } => add(kubeconfig, SECRET),
        }
    }
    layout.derived.iter().for_each(|derived| add(&derived.path, PUBLIC));
    layout.copies.iter().for_each(|copy| add(&copy.to, copy.mode));
    layout.config_files.iter().for_each(|file| add(&file.path, PUBLIC));
    all
}

/// The folder of a host in a workspace, and the path in it.
fn split(path: &Path) -> (PathBuf, PathBuf) {
    let mut parts = path.components();
    let root: PathBuf = parts.by_ref().take(2).collect();
    (root, parts.as_path().to_path_buf())
}

/// A certificate whose key its host makes and gives to nobody. Paths are relative to the host's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// The certificate.
    pub id: CertId,
    /// Its file.
    pub cert: PathBuf,
    /// The key's; it may be the same.
    pub key: PathBuf,
}

/// The keys that hosts make themselves, by the folder of the host.
pub fn host_keys(layout: &Layout<'_>) -> HashMap<PathBuf, Vec<HostKey>> {
    let mut all: HashMap<PathBuf, Vec<HostKey>> = HashMap::new();
    for instance in layout.instances.iter().filter(|instance| instance.key_on_host) {
        let place = &instance.place;
        let ((root, cert), (_, key)) = (split(place.cert()), split(place.key()));
        all.entry(root).or_default().push(HostKey { id: instance.spec.id, cert, key });
    }
    all
}

/// The cluster as one of its hosts has to know it: itself, and those of the control plane and of etcd. What is only for
/// the operator stays away.
pub fn slice(cluster: &Cluster, host: &Host) -> Cluster {
    let needed = |other: &&Host| !other.is_only_node() || other.name == host.name;
    let without = |other: &Host| Host { ssh: None, ..other.clone() };
    Cluster {
        hosts: cluster.hosts.iter().filter(needed).map(without).collect(),
        workspace: true,
        ..cluster.clone()
    }
}

/// The same on the host itself: its tree is the one at hand.
pub fn at_home(cluster: &Cluster, host: &Host) -> Cluster {
    let mut cluster = Cluster { workspace: false, ..cluster.clone() };
    let is_it = |other: &Host| other.name != host.name;
    // A tree is that of the first host.
    cluster.hosts.sort_by_key(is_it);
    cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, n: u8, control_plane: bool, etcd: bool) -> Host {
        Host {
            name: name.parse().unwrap(),
            addresses: vec![[10, 0, 0, n].into()],
            port: None,
            control_plane,
            etcd,
            node: control_plane || !etcd,
            ssh: Some("root@10.0.0.1".parse().unwrap()),
        }
    }

    fn cluster() -> Cluster {
        let hosts = vec![
            host("cp1", 1, true, true),
            host("w1", 2, false, false),
            host("w2", 3, false, false),
        ];
        Cluster::new("c".into(), "api:6443".parse().unwrap(), hosts)
    }

    #[test]
    fn a_host_gets_what_its_roles_need_and_no_key_of_anybody_elses() {
        let cluster = cluster();
        let all = files(&Layout::new(&cluster));
        assert_eq!(all.len(), 3);
        let has = |host: &str, file: &str| {
            all[Path::new(&format!("hosts/{host}"))].get(Path::new(file)).copied()
        };
        assert_eq!(has("cp1", "pki/ca.key"), Some(SECRET));
        assert_eq!(has("cp1", "pki/etcd/ca.crt"), Some(PUBLIC));
        assert_eq!(has("cp1", "pki/etcd/ca.key"), None);
        assert_eq!(has("cp1", "pki/front-proxy-ca.key"), None);
        assert_eq!(has("w1", "pki/ca.key"), None);
        assert_eq!(has("w1", "pki/ca-bundle.crt"), Some(PUBLIC));
        assert_eq!(has("w1", "kubelet.conf"), Some(SECRET));
        assert_eq!(has("w1", "admin.conf"), None);
        assert_eq!(has("w1", "pki/apiserver.key"), None);
        for files in all.values() {
            assert!(files.keys().all(|file| file.is_relative()), "{files:?}");
        }
    }

    #[test]
    fn a_host_knows_itself_and_the_control_plane() {
        let cluster = cluster();
        let slice = slice(&cluster, &cluster.hosts[2]);
        let names: Vec<&str> = slice.hosts.iter().map(|host| host.name.as_ref()).collect();
        assert_eq!(names, ["cp1", "w2"]);
        assert!(slice.hosts.iter().all(|host| host.ssh.is_none()));
        let home = at_home(&slice, &slice.hosts[1]);
        assert!(home.is_local(&home.hosts[0]) && home.hosts[0].name.as_ref() == "w2");
        let there = &files(&Layout::new(&slice))[Path::new("hosts/w2")];
        assert_eq!(there, &files(&Layout::new(&cluster))[Path::new("hosts/w2")]);
    }
}
