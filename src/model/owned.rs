//! The files that are to belong to somebody.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    cluster::owners::owner_of,
    layout::{Layout, Place, SECRET},
    owner::Owner,
};

/// A file that is to belong to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned<'a> {
    /// What it is of, for people.
    pub label: String,
    /// Whom it is to belong to.
    pub owner: &'a Owner,
}

/// The files that are to belong to somebody, relative to DIR, where each instance is in its place. What lies in an
/// operator's workspace for no host is the operator's.
pub fn files<'a>(
    layout: &Layout<'a>,
    place: impl Fn(usize) -> Place,
) -> BTreeMap<PathBuf, Owned<'a>> {
    let cluster = layout.cluster;
    let mut files = BTreeMap::new();
    if cluster.owners.is_empty() {
        return files;
    }
    let mut add = |path: PathBuf, label: String, id: &str| {
        if let Some(owner) = owner_of(cluster, id) {
            files.insert(path, Owned { label, owner });
        }
    };
    let on_host = |root: &PathBuf| !cluster.workspace || !root.as_os_str().is_empty();
    for (index, instance) in layout.instances.iter().enumerate() {
        if on_host(&instance.root) {
            let place = place(index);
            for path in [Some(place.key()), place.kubeconfig()].into_iter().flatten() {
                add(path.clone(), instance.label(), instance.spec.id.name());
            }
        }
    }
    for spec in layout.key_pairs.iter().filter(|_| !cluster.workspace) {
        add(spec.private.into(), spec.id.to_owned(), spec.id);
    }
    for copy in layout.copies.iter().filter(|copy| copy.mode == SECRET) {
        let authority = layout.instances.iter().find(|one| *one.place.key() == copy.from);
        let pair = layout.key_pairs.iter().find(|spec| copy.from == *spec.private);
        if let Some(id) = authority.map(|one| one.spec.id.name()).or(pair.map(|spec| spec.id)) {
            add(copy.to.clone(), id.to_owned(), id);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        catalogue::COMPONENTS,
        cluster::{
            Cluster, Fault, Host,
            owners::{self, components},
        },
    };

    fn cluster(owners: &[(&'static str, &str)], workspace: bool) -> Cluster {
        let host = Host {
            name: "cp1".parse().unwrap(),
            addresses: vec!["10.0.0.11".parse().unwrap()],
            port: None,
            control_plane: true,
            etcd: true,
            node: true,
            ssh: None,
        };
        let mut cluster = Cluster::new("c".into(), "api:6443".parse().unwrap(), vec![host]);
        cluster.workspace = workspace;
        cluster.addons = vec!["konnectivity".into(), "kube-proxy".into()];
        let owner = |text: &str| text.parse().unwrap();
        cluster.owners = owners.iter().map(|(id, text)| (*id, owner(text))).collect();
        cluster
    }

    fn owned(cluster: &Cluster) -> Vec<(String, String)> {
        let layout = Layout::new(cluster);
        let files = files(&layout, |index| layout.instances[index].place.clone());
        let text =
            |(path, one): (PathBuf, Owned<'_>)| (path.display().to_string(), one.owner.to_string());
        files.into_iter().map(text).collect()
    }

    fn of(owner: &str, files: &[&str]) -> Vec<(String, String)> {
        files.iter().map(|file| ((*file).to_owned(), owner.to_owned())).collect()
    }

    #[test]
    fn an_owner_is_a_user_and_perhaps_a_group_by_name_or_number() {
        for text in ["etcd", "etcd:etcd", "1000:1000", "0", "kube:4294967294", "_a.b-c"] {
            assert_eq!(text.parse::<Owner>().unwrap().to_string(), text);
        }
        for text in [
            "",
            ":",
            "etcd:",
            ":etcd",
            "a:b:c",
            "-x",
            "a b",
            "4294967295",
            "é",
            "..",
            &"n".repeat(33),
        ] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_component_alone_reads_in_secret_is_its_owners() {
        let files = ["pki/etcd/peer.key", "pki/etcd/server.key"];
        assert_eq!(owned(&cluster(&[("etcd", "etcd:etcd")], false)), of("etcd:etcd", &files));
        let files = ["hosts/cp1/pki/etcd/peer.key", "hosts/cp1/pki/etcd/server.key"];
        assert_eq!(owned(&cluster(&[("etcd", "107")], true)), of("107", &files));
        assert_eq!(owned(&cluster(&[], false)), []);
    }

    #[test]
    fn a_kubeconfig_and_what_it_names_go_together_and_so_does_what_another_file_names() {
        let scheduler: Vec<String> = owned(&cluster(&[("kube-scheduler", "kube")], false))
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        for file in ["pki/scheduler.key", "scheduler.conf"] {
            assert!(scheduler.iter().any(|path| path == file), "{file} in {scheduler:?}");
        }
        let apiserver = owned(&cluster(&[("kube-apiserver", "kube")], false));
        // The egress selector's file is the apiserver's.
        assert!(
            apiserver.iter().any(|(path, _)| path.contains("egress") && path.ends_with(".key")),
            "{apiserver:?}"
        );
        // What the operator signs with stays the operator's; what the controller manager signs with is its own.
        assert!(apiserver.iter().all(|(path, _)| path != "pki/ca.key"), "{apiserver:?}");
        let manager = owned(&cluster(&[("kube-controller-manager", "kube")], true));
        let keys: Vec<&str> = manager
            .iter()
            .map(|(path, _)| path.as_str())
            .filter(|path| path.ends_with("ca.key"))
            .collect();
        assert_eq!(keys, ["hosts/cp1/pki/ca.key"]);
    }

    #[test]
    fn one_key_has_one_owner() {
        let both = |one: &str, other: &str| {
            cluster(&[("kube-apiserver", one), ("kube-controller-manager", other)], false)
        };
        let faults: Vec<String> =
            owners::faults(&both("kube", "manager")).iter().map(Fault::to_string).collect();
        assert_eq!(
            faults,
            [
                "owner.kube-controller-manager: kube-controller-manager and kube-apiserver read the same \
              private key, of `sa`, so they need the same owner; declared are `manager` and `kube`"
            ]
        );
        for (one, other) in [("kube", "kube"), ("kube", "root"), ("0", "kube:kube")] {
            let cluster = both(one, other);
            assert_eq!(owners::faults(&cluster), [], "{one} {other}");
            let owned = owned(&cluster);
            let of_pair = owned.iter().find(|(path, _)| path == "pki/sa.key");
            assert!(of_pair.is_some_and(|(_, owner)| owner.starts_with("kube")), "{owned:?}");
        }
    }

    #[test]
    fn only_what_runs_on_hosts_has_an_owner() {
        let all = components();
        assert!(all.contains(&"etcd") && all.contains(&"konnectivity-agent"), "{all:?}");
        for other in ["istiod", "kubectl", "egress-selector"] {
            assert!(
                COMPONENTS.iter().any(|spec| spec.id == other) && !all.contains(&other),
                "{other}"
            );
        }
    }
}
