//! Where everything of a declared cluster lives: the catalogue's rows laid out over its hosts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use super::{
    catalogue::{
        self, CERTIFICATES, COMPONENTS, CertId, CertSpec, ComponentSpec, Home, Issuer, KEYS,
        KeySpec, Scope, USES, Use, Value, roles,
    },
    cluster::{Cluster, Host, KubeconfigStyle},
};

/// Where hosts keep their tree unless told otherwise: kubeadm's place.
pub const DEFAULT_HOST_DIR: &str = "/etc/kubernetes";
/// Mode of private keys, and of files that hold one.
pub const SECRET: u32 = 0o600;
/// Mode of certificates and of other files that hold no secret.
pub const PUBLIC: u32 = 0o644;

/// Where a kubelet keeps what it makes and gets itself, on its host.
pub const KUBELET_DIR: &str = "/var/lib/kubelet/pki";

/// The folder of the kubelet that DIR's machine has: `X/var/lib/kubelet/pki` beside `X/etc/kubernetes`. It is the one
/// folder elsewhere that certkit changes; a copy of a tree has none.
pub fn kubelet_dir(dir: &Path) -> Option<PathBuf> {
    on_machine(dir, KUBELET_DIR)
}

/// An absolute path on the machine that DIR is `/etc/kubernetes` of.
pub fn on_machine(dir: &Path, path: &str) -> Option<PathBuf> {
    let machine = dir.to_str()?.strip_suffix(DEFAULT_HOST_DIR)?;
    Some(PathBuf::from(format!("{machine}{path}")))
}

/// What a kubelet makes and gets itself, in that folder, and whether it is a server's (Kubernetes 1.36,
/// `pkg/kubelet/certificate/kubelet.go`).
pub const KUBELET_FILES: [(&str, bool); 3] = [
    ("kubelet-client-current.pem", false),
    ("kubelet.crt", true),
    ("kubelet-server-current.pem", true),
];

/// One certificate that exists: a row of the catalogue, on one host or for the whole cluster.
#[derive(Clone, Debug)]
pub struct Instance<'a> {
    /// The row.
    pub spec: &'static CertSpec,
    /// The host, for rows that exist once a host.
    pub host: Option<&'a Host>,
    /// The folder its files are in, relative to DIR: empty, or `hosts/NAME`.
    pub root: PathBuf,
    /// The id of the certificate that signs it here; none for a root.
    pub issuer: Option<CertId>,
    /// Where its certificate and key are.
    pub place: Place,
    /// Whether its key is made on its host, and is on no other machine: here is its certificate alone.
    pub key_on_host: bool,
}

/// Where the certificate and key of an instance are, relative to DIR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In two files.
    Pair {
        /// The certificate's.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// In files that a kubeconfig names: one and the same PEM file for both, or two.
    Named {
        /// The certificate's.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// The kubeconfig.
        kubeconfig: PathBuf,
    },
    /// Both embedded in a kubeconfig.
    Embedded {
        /// The kubeconfig.
        kubeconfig: PathBuf,
    },
}

/// A file of a host that has the same content as the operator's, in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copy {
    /// The original, relative to DIR.
    pub from: PathBuf,
    /// The copy, relative to DIR.
    pub to: PathBuf,
    /// Its mode.
    pub mode: u32,
}

/// A file that follows from CA certificates: a bundle that verifiers trust, or a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The index of the CA in [`Layout::instances`].
    pub authority: usize,
    /// The file, relative to DIR.
    pub path: PathBuf,
    /// Whether the CA's issuers follow it (a chain), or what else is trusted (a bundle).
    pub is_chain: bool,
}

/// A component's configuration file that a setting names, on one host.
#[derive(Clone, Debug)]
pub struct ConfigFile<'a> {
    /// Whose it is.
    pub component: &'static ComponentSpec,
    /// The host.
    pub host: &'a Host,
    /// The file, relative to DIR.
    pub path: PathBuf,
}

/// A declared cluster laid out: every certificate, key and file of it, in the catalogue's order, and
/// indices to find them by. It is made once for a command; everything else refers to it by index.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Every certificate, issuers before issued: the catalogue's order, and within a row the order of the
    /// hosts.
    pub instances: Vec<Instance<'a>>,
    /// The key pairs without certificates. They are made once and copied to the hosts that use them.
    pub key_pairs: Vec<&'static KeySpec>,
    /// The bundles and chains of the CAs.
    pub derived: Vec<Derived>,
    /// What hosts with a folder of their own get a copy of.
    pub copies: Vec<Copy>,
    /// The configuration files that settings name, in the order of the components, and within one in the
    /// order of the hosts.
    pub config_files: Vec<ConfigFile<'a>>,
    /// The instances by id and root.
    places: HashMap<(CertId, PathBuf), usize>,
}

impl<'a> Layout<'a> {
    /// Lays a cluster out.
    pub fn new(cluster: &'a Cluster) -> Self {
        let instances = instances(cluster);
        let places =
            instances.iter().enumerate().map(|(i, one)| ((one.spec.id, one.root.clone()), i));
        Self {
            cluster,
            places: places.collect(),
            key_pairs: KEYS.iter().filter(|spec| !cluster.is_absent(spec.id)).collect(),
            derived: derived(cluster, &instances),
            copies: copies(cluster),
            config_files: config_files(cluster),
            instances,
        }
    }

    /// The index of the instance with this id on the host with this root; else of the cluster's one.
    pub fn find(&self, id: CertId, root: &Path) -> Option<usize> {
        self.at(id, root).or_else(|| self.at(id, Path::new("")))
    }

    /// The index of the instance with this id in this folder itself.
    pub fn at(&self, id: CertId, root: &Path) -> Option<usize> {
        self.places.get(&(id, root.to_path_buf())).copied()
    }

    /// The index of the CA with this id.
    pub fn authority(&self, id: CertId) -> Option<usize> {
        self.at(id, Path::new("")).filter(|index| self.instances[*index].spec.is_ca())
    }

    /// The index in [`Layout::derived`] of a CA's bundle.
    pub fn bundle_of(&self, authority: usize) -> Option<usize> {
        self.derived.iter().position(|one| one.authority == authority && !one.is_chain)
    }

    /// Whether this CA signs other CAs.
    pub fn is_above(&self, authority: usize) -> bool {
        let mut instances = self.instances.iter().enumerate();
        instances.any(|(at, one)| one.spec.is_ca() && self.issuer(at) == Some(authority))
    }

    /// Whether what this CA vouches for is in no file of any cluster: neither it nor a CA below it signs a row of the
    /// catalogue, as a mesh's and that of workloads, who ask themselves.
    pub fn signs_elsewhere(&self, authority: usize) -> bool {
        let own = self.instances[authority].spec.id;
        let is_below = |leaf: &&CertSpec| {
            let Some(issuer) = leaf.issuer_id() else { return false };
            let above = match issuer.spec().issuer {
                Issuer::Own => None,
                Issuer::Root => Some(roles::ROOT.id),
                Issuer::Ca(above) => Some(above),
            };
            issuer == own || above == Some(own)
        };
        !CERTIFICATES.iter().filter(|spec| !spec.is_ca()).any(|leaf| is_below(&leaf))
    }

    /// The index of the CA that signs this instance; none for a root.
    pub fn issuer(&self, index: usize) -> Option<usize> {
        self.authority(self.instances[index].issuer?)
    }
}

fn instances(cluster: &Cluster) -> Vec<Instance<'_>> {
    let mut instances = Vec::new();
    let here = |spec: &&CertSpec| cluster.has(spec.present) && !cluster.is_absent(spec.id.name());
    for spec in CERTIFICATES.iter().filter(here) {
        match spec.scope {
            Scope::Cluster => instances.push(instance(cluster, spec, None)),
            scope => {
                instances.extend(cluster.hosts_in(scope).map(|h| instance(cluster, spec, Some(h))));
            }
        }
    }
    instances
}

/// A row of the catalogue on this host, whether or not this cluster has it.
pub fn instance<'a>(
    cluster: &'a Cluster,
    spec: &'static CertSpec,
    host: Option<&'a Host>,
) -> Instance<'a> {
    let root = host.map(|h| cluster.root_of(h)).unwrap_or_default();
    let place = match spec.home {
        Home::Files { cert, key } | Home::Authority { cert, key, .. } => {
            Place::Pair { cert: root.join(cert), key: root.join(key) }
        }
        Home::Kubeconfig { file, pem, .. } => match (pem, cluster.kubeconfig_style) {
            (Some(pem), KubeconfigStyle::Files) => {
                let pem = root.join(pem);
                Place::Named { cert: pem.clone(), key: pem, kubeconfig: root.join(file) }
            }
            _ => Place::Embedded { kubeconfig: root.join(file) },
        },
    };
    let issuer = match spec.issuer {
        Issuer::Ca(id) => Some(id),
        Issuer::Root if cluster.single_root => Some(roles::ROOT.id),
        Issuer::Own | Issuer::Root => None,
    };
    let key_on_host = !spec.is_ca()
        && !matches!(place, Place::Embedded { .. })
        && cluster.host_keys.has(spec.scope)
        && host.is_some_and(|host| !cluster.is_local(host));
    Instance { spec, host, root, issuer, place, key_on_host }
}

fn derived(cluster: &Cluster, instances: &[Instance<'_>]) -> Vec<Derived> {
    let mut derived = Vec::new();
    for (authority, instance) in instances.iter().enumerate() {
        if let Home::Authority { bundle, chain, .. } = instance.spec.home {
            let id = instance.spec.id;
            // The chain of a root would be its bundle.
            let chain = chain.filter(|_| instance.issuer.is_some());
            for (file, is_chain, kind) in [(bundle, false, "bundle"), (chain, true, "chain")] {
                let file = file.filter(|_| !cluster.is_absent(&format!("{id}-{kind}")));
                let path = file.map(|file| instance.root.join(file));
                derived.extend(path.map(|path| Derived { authority, path, is_chain }));
            }
        }
    }
    derived
}

/// What each host with a folder of its own gets a copy of: for every setting of every component that runs
/// on it, the file that the setting names and the host has not of its own. So a CA's key goes only where a
/// component signs with it. Besides the bundle a host gets the CA's certificate, which is public and which
/// kubeadm wants beside the leaves.
fn copies(cluster: &Cluster) -> Vec<Copy> {
    // What a host gets follows from its roles alone.
    let mut by_roles: HashMap<[bool; 3], BTreeSet<(&'static str, u32)>> = HashMap::new();
    // By the original and then by the host: paths of many hosts are long to compare.
    let mut hosts: Vec<(PathBuf, &Host)> =
        cluster.hosts.iter().map(|host| (cluster.root_of(host), host)).collect();
    hosts.retain(|(root, _)| !root.as_os_str().is_empty());
    hosts.sort_by(|(_, one), (_, other)| one.name.as_ref().cmp(other.name.as_ref()));
    let mut copies: BTreeMap<&Path, Vec<Copy>> = BTreeMap::new();
    for (root, host) in hosts {
        let roles = [host.control_plane, host.etcd, host.node];
        let files = by_roles.entry(roles).or_insert_with(|| copied_files(cluster, host));
        for &(file, mode) in files.iter() {
            let copy = Copy { from: file.into(), to: root.join(file), mode };
            copies.entry(Path::new(file)).or_default().push(copy);
        }
    }
    copies.into_values().flatten().collect()
}

fn copied_files(cluster: &Cluster, host: &Host) -> BTreeSet<(&'static str, u32)> {
    let mut files = BTreeSet::new();
    for component in COMPONENTS {
        if !cluster.has(component.present) || !host.is_in(component.scope) {
            continue;
        }
        for row in USES.iter().filter(|u| u.component == component.id && cluster.has(u.present)) {
            if let Value::PrivateKey(id) | Value::PublicKey(id) = row.value {
                let spec = catalogue::key(id);
                files.extend(
                    spec.map(|s| (s.private, SECRET))
                        .filter(|_| matches!(row.value, Value::PrivateKey(_))),
                );
                files.extend(spec.map(|s| (s.public, PUBLIC)));
                continue;
            }
            let Some(spec) = row.certificate().map(CertId::spec) else { continue };
            // A kubeconfig needs the bundle of the CA that signed the apiserver.
            let authority = match (row.value, spec.issuer_id()) {
                (Value::Kubeconfig(_), Some(ca)) => Some(ca.spec()),
                _ => Some(spec).filter(|s| s.is_ca()),
            };
            let Some(authority) = authority else { continue };
            let Home::Authority { cert, key, bundle, chain } = authority.home else { continue };
            files.insert((cert, PUBLIC));
            match row.value {
                Value::Key(_) => files.insert((key, SECRET)),
                Value::Chain(_) if cluster.is_below(authority) => {
                    chain.is_some_and(|c| files.insert((c, PUBLIC)))
                }
                _ => bundle.is_some_and(|b| files.insert((b, PUBLIC))),
            };
        }
    }
    files
}

fn config_files(cluster: &Cluster) -> Vec<ConfigFile<'_>> {
    let mut files = Vec::new();
    for component in COMPONENTS.iter().filter(|c| cluster.has(c.present)) {
        let Some(file) = cluster.config_file(component.id) else { continue };
        files.extend(cluster.hosts_in(component.scope).map(|host| ConfigFile {
            component,
            host,
            path: cluster.root_of(host).join(file),
        }));
    }
    files
}

impl Cluster {
    /// The configuration file of a component, `/etc/kubernetes`-relative, where a setting names one and
    /// hosts have it.
    pub fn config_file(&self, component: &str) -> Option<&'static str> {
        let names = |row: &Use| matches!(row.value, Value::ConfigFile(id) if id == component);
        let row = USES.iter().find(|row| names(row) && self.has(row.present));
        let file = row.and_then(|_| catalogue::component(component)?.config).map(|c| c.file);
        file.filter(|file| !self.is_absent(file))
    }

    /// The folder, relative to DIR, that is this host's `/etc/kubernetes`: DIR itself for the host that DIR
    /// is of.
    pub fn root_of(&self, host: &Host) -> PathBuf {
        match self.is_local(host) {
            true => PathBuf::new(),
            false => PathBuf::from("hosts").join(host.name.as_ref()),
        }
    }

    /// What a host calls the folder that holds its tree; on no host for what the operator runs, wherever
    /// DIR is. One cluster's only host finds its files in DIR.
    pub fn dir_on(&self, host: Option<&Host>, dir: &Path) -> PathBuf {
        match (&self.host_dir, host) {
            (_, None) if self.workspace => dir.to_path_buf(),
            (Some(path), _) => PathBuf::from(path),
            (None, None) => dir.to_path_buf(),
            (None, Some(host)) if self.is_local(host) => dir.to_path_buf(),
            (None, Some(_)) => PathBuf::from(DEFAULT_HOST_DIR),
        }
    }

    /// What verifiers of a CA are told to trust, `/etc/kubernetes`-relative: its bundle, or where there is
    /// none, the CA itself.
    pub fn trust_file(&self, id: CertId) -> Option<&'static str> {
        let Home::Authority { cert, bundle, .. } = id.spec().home else {
            return None;
        };
        Some(bundle.filter(|_| !self.is_absent(&format!("{id}-bundle"))).unwrap_or(cert))
    }

    /// Whether this CA is signed by another in this cluster.
    pub fn is_below(&self, authority: &CertSpec) -> bool {
        match authority.issuer {
            Issuer::Ca(_) => true,
            Issuer::Own => false,
            Issuer::Root => self.single_root,
        }
    }
}

impl Instance<'_> {
    /// The files of it that are in this tree, of those that hold certificate and key.
    pub fn files_at(&self, place: &Place) -> Vec<PathBuf> {
        match self.key_on_host {
            true => vec![place.cert().clone()],
            false => place.files(),
        }
    }

    /// A name for people: the row's id, and the host where there are several.
    pub fn label(&self) -> String {
        match self.host {
            Some(host) if !self.root.as_os_str().is_empty() => {
                format!("{} ({})", self.spec.id, host.name)
            }
            _ => self.spec.id.to_string(),
        }
    }
}

impl Place {
    /// The certificate's file.
    pub fn cert(&self) -> &PathBuf {
        match self {
            Self::Pair { cert, .. } | Self::Named { cert, .. } => cert,
            Self::Embedded { kubeconfig } => kubeconfig,
        }
    }

    /// The key's file, which may be the certificate's too.
    pub fn key(&self) -> &PathBuf {
        match self {
            Self::Pair { key, .. } | Self::Named { key, .. } => key,
            Self::Embedded { kubeconfig } => kubeconfig,
        }
    }

    /// The kubeconfig, if there is one.
    pub fn kubeconfig(&self) -> Option<&PathBuf> {
        match self {
            Self::Pair { .. } => None,
            Self::Named { kubeconfig, .. } | Self::Embedded { kubeconfig } => Some(kubeconfig),
        }
    }

    /// The files that hold certificate and key, each once.
    pub fn files(&self) -> Vec<PathBuf> {
        let (cert, key) = (self.cert(), self.key());
        match cert == key {
            true => vec![cert.clone()],
            false => vec![cert.clone(), key.clone()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, n: u8, control_plane: bool, etcd: bool) -> Host {
        Host {
            name: name.parse().unwrap(),
            addresses: vec![std::net::Ipv4Addr::new(10, 0, 0, n).into()],
            port: None,
            control_plane,
            etcd,
            node: !etcd || control_plane,
            ssh: None,
        }
    }

    fn cluster(hosts: Vec<Host>) -> Cluster {
        Cluster::new("c".into(), "api:6443".parse().unwrap(), hosts)
    }

    #[test]
    fn one_host_has_everything_in_place_and_no_copies() {
        let c = cluster(vec![host("cp1", 1, true, true)]);
        let layout = Layout::new(&c);
        assert!(layout.copies.is_empty());
        assert!(layout.instances.iter().all(|i| i.root.as_os_str().is_empty()));
    }

    #[test]
    fn a_ca_key_is_copied_only_where_its_host_signs() {
        let mut c = cluster(vec![
            host("cp1", 1, true, false),
            host("etcd1", 2, false, true),
            host("w1", 3, false, false),
        ]);
        c.etcd = crate::model::cluster::Etcd::Hosts;
        c.workspace = true;
        let copies: Vec<String> =
            Layout::new(&c).copies.iter().map(|copy| copy.to.display().to_string()).collect();
        let keys: Vec<_> = copies.iter().filter(|c| c.ends_with(".key")).collect();
        assert_eq!(keys, ["hosts/cp1/pki/ca.key", "hosts/cp1/pki/sa.key"]);
        let etcd: Vec<_> = copies.iter().filter(|c| c.starts_with("hosts/etcd1")).collect();
        assert_eq!(etcd, ["hosts/etcd1/pki/etcd/ca-bundle.crt", "hosts/etcd1/pki/etcd/ca.crt"]);
        let worker: Vec<_> = copies.iter().filter(|c| c.starts_with("hosts/w1")).collect();
        assert_eq!(worker, ["hosts/w1/pki/ca-bundle.crt", "hosts/w1/pki/ca.crt"]);
    }

    #[test]
    fn single_root_issues_the_authorities_but_not_the_mesh() {
        let mut c = cluster(vec![host("cp1", 1, true, true)]);
        c.single_root = true;
        c.addons = vec!["istio".into()];
        let layout = Layout::new(&c);
        let issuer = |name: &str| {
            let instance = layout.instances.iter().find(|i| i.spec.id.name() == name).unwrap();
            instance.issuer.map(CertId::name)
        };
        assert_eq!(issuer("ca"), Some("root-ca"));
        assert_eq!(issuer("etcd-ca"), Some("root-ca"));
        assert_eq!(issuer("istio-root-ca"), None);
        assert_eq!(issuer("istio-ca"), Some("istio-root-ca"));
        assert_eq!(issuer("root-ca"), None);
    }

    #[test]
    fn a_copy_of_a_tree_has_no_kubelet() {
        let of = |dir: &str| kubelet_dir(Path::new(dir));
        assert_eq!(of("/etc/kubernetes"), Some("/var/lib/kubelet/pki".into()));
        assert_eq!(of("/mnt/etc/kubernetes"), Some("/mnt/var/lib/kubelet/pki".into()));
        assert_eq!(of("/srv/kubernetes-copy"), None);
    }
}
