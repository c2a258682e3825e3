//! Who owns the files of a component on its host, where that is not root: a component that runs as a user of its own
//! must be able to read its private keys.
//!
//! Only what is secret is given away. Everybody may read the rest, and it stays root's, so that no component can
//! change whom it trusts.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use super::{
    catalogue::{COMPONENTS, Scope, USES, Value},
    cluster::{Cluster, Fault},
    layout::{Layout, Place, SECRET},
    shown::quoted,
};

/// The field of `certkit.yaml` that declares owners.
pub const FIELD: &str = "owner";

/// A declared owner: `USER` or `USER:GROUP`, each a name or a number. Without a group, the group stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Account,
    /// The group.
    pub group: Option<Account>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By number.
    Id(u32),
    /// By name: whose it is, the host knows.
    Name(String),
}

/// Why a text is no owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: write USER or USER:GROUP, each a number or a name of 1 to 32 letters, digits, `.`, `_` and `-`",
    quoted(.0)
)]
pub struct OwnerError(String);

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        let wrong = || OwnerError(text.to_owned());
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(Account::parse(group).ok_or_else(wrong)?)),
            None => (text, None),
        };
        Ok(Self { user: Account::parse(user).ok_or_else(wrong)?, group })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => self.user.fmt(f),
        }
    }
}

impl Owner {
    /// Whether it is root, who reads everybody's files.
    fn is_root(&self) -> bool {
        match &self.user {
            Account::Id(id) => *id == 0,
            Account::Name(name) => name == "root",
        }
    }
}

impl Account {
    /// What useradd makes, and what fits into the header of a tar archive.
    fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // The last number means "leave it" to the system.
            return text.parse().ok().filter(|id| *id != u32::MAX).map(Self::Id);
        }
        let visible = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let named = (1..=32).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(visible)
            && !text.bytes().all(|b| b == b'.');
        named.then(|| Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A file that is to belong to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned<'a> {
    /// What it is of, for people.
    pub label: String,
    /// Whom it is to belong to.
    pub owner: &'a Owner,
}

/// An owned file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// What it is of, for people.
    pub label: String,
    /// The file itself, relative to DIR, where its name is a link.
    pub real: Option<PathBuf>,
    /// Whose it is and whose it is declared to be, where these are not the same.
    pub difference: Option<String>,
}

/// The components that can have an owner: those that run on hosts by themselves.
pub fn components() -> Vec<&'static str> {
    let is_program = |id: &&'static str| process(id) == *id;
    let on_hosts = COMPONENTS.iter().filter(|spec| spec.scope != Scope::Cluster);
    on_hosts.map(|spec| spec.id).filter(is_program).collect()
}

/// The program that reads what a component's settings name: some components are files of another's.
fn process(component: &'static str) -> &'static str {
    let reader = USES.iter().find(|row| row.value == Value::ConfigFile(component));
    reader.map_or(component, |row| row.component)
}

/// The secret that a setting names, by the id of its certificate or key pair.
fn secret(value: Value) -> Option<&'static str> {
    match value {
        Value::Key(id) | Value::Kubeconfig(id) => Some(id.name()),
        Value::PrivateKey(id) => Some(id),
        _ => None,
    }
}

/// The components that read a secret and have a declared owner, in the catalogue's order.
fn readers<'a>(cluster: &'a Cluster, id: &str) -> Vec<(&'static str, &'a Owner)> {
    let mut readers: Vec<(&'static str, &Owner)> = Vec::new();
    let rows = USES.iter().filter(|row| secret(row.value) == Some(id) && cluster.has(row.present));
    for component in rows.map(|row| process(row.component)) {
        if let Some(owner) = cluster.owners.get(component)
            && readers.iter().all(|(other, _)| *other != component)
        {
            readers.push((component, owner));
        }
    }
    readers
}

/// Whose a secret is. A component without an owner is root's, who reads whatever is given to others.
fn owner_of<'a>(cluster: &'a Cluster, id: &str) -> Option<&'a Owner> {
    let readers = readers(cluster, id);
    let other = readers.iter().find(|(_, owner)| !owner.is_root());
    other.or(readers.first()).map(|(_, owner)| *owner)
}

/// What is wrong with the owners of a cluster.
pub fn faults(cluster: &Cluster) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut secrets: Vec<&str> = Vec::new();
    for id in USES.iter().filter_map(|row| secret(row.value)) {
        if secrets.contains(&id) {
            continue;
        }
        secrets.push(id);
        let mut readers = readers(cluster, id);
        readers.retain(|(_, owner)| !owner.is_root());
        let Some((first, one)) = readers.first() else { continue };
        if let Some((second, other)) = readers.iter().find(|(_, other)| other != one) {
            let why = format!(
                "{second} and {first} read the same private key, of `{id}`, so they need the same owner; \
                 declared are `{other}` and `{one}`"
            );
            faults.push(Fault { field: format!("{FIELD}.{second}"), why });
        }
    }
    faults
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
    use crate::model::cluster::Host;

    fn cluster(owners: &[(&'static str, &str)], workspace: bool) -> Cluster {
        let host = Host {
            name: "cp1".parse().unwrap(),
            addresses: vec!["10.0.0.11".parse().unwrap()],
            port: None,
            control_plane: true,
            etcd: true,
            node: true,
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
            faults(&both("kube", "manager")).iter().map(Fault::to_string).collect();
        assert_eq!(
            faults,
            [
                "owner.kube-controller-manager: kube-controller-manager and kube-apiserver read the same \
              private key, of `sa`, so they need the same owner; declared are `manager` and `kube`"
            ]
        );
        for (one, other) in [("kube", "kube"), ("kube", "root"), ("0", "kube:kube")] {
            let cluster = both(one, other);
            assert_eq!(super::faults(&cluster), [], "{one} {other}");
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
