//! What the catalogue knows under DIR: one host's tree, or a workspace's with all its hosts.

mod gather;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use self::gather::Gatherer;
use super::{
    Connect, Fault, Request,
    authority::{Issuing, Known},
    row, shown,
};
use crate::{
    model::{
        catalogue::{
            CERTIFICATES, CertId, CertSpec, ComponentSpec, Condition, Expected, Home, Scope, roles,
        },
        check::expiry::{Found, Origin, Row, RowRole},
        cluster::{Cluster as Declared, Etcd},
        layout::{DEFAULT_HOST_DIR, KUBELET_DIR, KUBELET_FILES, Layout},
        plan::request_file,
        shown::with_causes,
    },
    ops::declared,
    parallel,
    pki::inspect::Certificate,
};

/// DIR as it is laid out.
pub struct ClusterTrees {
    /// What `certkit.yaml` declares.
    pub declared: Option<Declared>,
    /// DIR itself, then the hosts of a workspace.
    pub trees: Vec<HostTree>,
    fault: Option<Row>,
}

/// One host's `/etc/kubernetes`, or what a workspace keeps of the whole cluster.
pub struct HostTree {
    /// The host's name, in a workspace.
    pub host: Option<String>,
    root: PathBuf,
    kubelet_dir: Option<PathBuf>,
    /// What paths on the host begin with that lie in this tree.
    host_dirs: Vec<PathBuf>,
    /// What must be there.
    required: BTreeSet<CertId>,
    /// What waits for its signature.
    requested: BTreeSet<CertId>,
    /// Certificates of an etcd that is somebody else's: the catalogue's id, and the file on the host.
    external: Vec<(CertId, String)>,
    /// Whether certkit.yaml says what must be there.
    is_declared: bool,
    scopes: Scopes,
}

/// What a declaration demands of one host's tree.
#[derive(Default)]
struct Demand {
    required: BTreeSet<CertId>,
    requested: BTreeSet<CertId>,
    external: Vec<(CertId, String)>,
}

impl Demand {
    fn and(mut self, other: Self) -> Self {
        self.required.extend(other.required);
        self.requested.extend(other.requested);
        self.external.extend(other.external);
        self
    }
}

/// What is demanded by the name of the host; of the cluster's own by no name. The cluster is laid out once,
/// however many hosts it has.
fn declared_demands<'c>(cluster: &'c Declared, dir: &Path) -> HashMap<&'c str, Demand> {
    let mut demands: HashMap<&str, Demand> = HashMap::new();
    for instance in &Layout::new(cluster).instances {
        let demand = demands.entry(instance.host.map_or("", |h| h.name.as_ref())).or_default();
        if instance.spec.expected == Expected::Nowhere {
            continue;
        }
        demand.required.insert(instance.spec.id);
        if dir.join(request_file(instance)).exists() {
            demand.requested.insert(instance.spec.id);
        }
    }
    if let Etcd::External { files: Some(files), .. } = &cluster.etcd {
        for host in cluster.hosts.iter().filter(|host| host.control_plane) {
            let external = &mut demands.entry(host.name.as_ref()).or_default().external;
            external.push((roles::ETCD_CA.id, files.ca.clone()));
            external.push((roles::API_TO_ETCD.id, files.cert.clone()));
        }
    }
    demands
}

/// Whether a folder holds certificates of a host.
fn has_leaves(dir: &Path) -> bool {
    let mut of_hosts = CERTIFICATES.iter().filter(|s| !s.is_ca() && s.scope != Scope::Cluster);
    of_hosts.any(|spec| dir.join(file_of(spec)).symlink_metadata().is_ok())
}

fn file_of(spec: &CertSpec) -> &'static str {
    match spec.home {
        Home::Files { cert, .. } | Home::Authority { cert, .. } => cert,
        Home::Kubeconfig { file, .. } => file,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Scopes {
    All,
    /// What a workspace keeps itself.
    OfCluster,
    /// What is each host's.
    OfHost,
}

/// A server's certificate on disk, to compare with what is served.
pub struct OnDisk {
    /// The catalogue's id.
    pub id: CertId,
    /// The host, in a workspace.
    pub host: Option<String>,
    /// The file.
    pub path: String,
    /// The certificate.
    pub certificate: Certificate,
}

/// Everything that was found.
#[derive(Default)]
pub struct Gathered {
    /// All rows.
    pub rows: Vec<Row>,
    /// The CAs.
    pub known: Vec<Known>,
    /// The servers' certificates, where listeners are asked.
    pub servers: Vec<OnDisk>,
    /// Who signs, by the id of the CA: in this tree, or in DIR above it.
    pub issuing: BTreeMap<CertId, Arc<Issuing>>,
}

impl ClusterTrees {
    /// Looks at how DIR is laid out. A declaration that cannot be read becomes a row.
    pub fn open(request: &Request<'_>) -> Result<Self, Fault> {
        let dir = request.dir;
        let (declared, fault) = match declared::find(dir) {
            Ok(declared) => (declared, None),
            Err(error) => {
                let path = shown(&dir.join(declared::FILE));
                let origin = Origin { path, inside: None };
                let why = Found::Unreadable(with_causes(&error));
                (None, Some(row(declared::FILE.into(), origin, RowRole::Leaf, why)))
            }
        };
        let hosts: Vec<String> = match &declared {
            Some(cluster) => {
                let elsewhere = cluster.hosts.iter().filter(|host| !cluster.is_local(host));
                elsewhere.map(|host| host.name.to_string()).collect()
            }
            None => folders(&dir.join("hosts")),
        };
        let local = declared.as_ref().and_then(Declared::local);
        let is_local = |name: &str| local.is_some_and(|local| local.name.as_ref() == name);
        if let Some(host) = request.host
            && !is_local(host)
            && !hosts.iter().any(|h| h == host)
        {
            return Err(Fault::NoHost(host.to_owned(), hosts));
        }
        // DIR itself is a host's tree too, unless it is a workspace's.
        let is_host = hosts.is_empty()
            || match &declared {
                Some(cluster) => cluster.local().is_some(),
                None => has_leaves(dir),
            };
        let mut demands = match &declared {
            Some(cluster) => declared_demands(cluster, dir),
            None => HashMap::new(),
        };
        let mut open = |host: Option<String>| {
            let demand = match (&declared, &host) {
                (None, _) => None,
                (Some(_), Some(host)) => Some(demands.remove(host.as_str()).unwrap_or_default()),
                (Some(_), None) => {
                    let of_cluster = demands.remove("").unwrap_or_default();
                    let of_host = local.and_then(|l| demands.remove(l.name.as_ref()));
                    Some(of_cluster.and(of_host.unwrap_or_default()))
                }
            };
            HostTree::open(request, declared.as_ref(), host, is_host, demand)
        };
        let mut trees = vec![open(None)];
        let wanted = |host: &String| request.host.is_none_or(|asked| asked == host);
        trees.extend(hosts.into_iter().filter(wanted).map(|host| open(Some(host))));
        Ok(Self { declared, trees, fault })
    }

    /// Whether DIR itself is the tree of the host that was asked for, or of this machine as far as one can
    /// know.
    pub fn is_host(&self, asked: Option<&str>) -> bool {
        let local = self.declared.as_ref().and_then(Declared::local);
        self.trees.len() == 1
            || local.is_some_and(|local| asked.is_none_or(|asked| asked == local.name.as_ref()))
    }

    /// Reads all of it, hosts side by side; every host's leaves are checked against the CAs of DIR and its own.
    pub fn gather(&self, request: &Request<'_>) -> Gathered {
        let mut all = Gathered::default();
        all.rows.extend(self.fault.clone());
        let Some((dir, hosts)) = self.trees.split_first() else { return all };
        let mut first = Gathered { rows: std::mem::take(&mut all.rows), ..Gathered::default() };
        dir.gather(request, &mut first);
        let threads = request.threads.min(hosts.len());
        if threads > 0 {
            // Their rows are in another list than the hosts'.
            let known: Vec<Known> =
                first.known.iter().map(|ca| Known { row: usize::MAX, ..ca.clone() }).collect();
            let count = known.len();
            let issuing = first.issuing.clone();
            let task = parallel::progress::task("hosts", Some(hosts.len()));
            // Nothing here fails: what cannot be read is a row.
            let _: Result<(), std::convert::Infallible> = parallel::in_order(
                hosts.iter(),
                threads,
                |tree, emit| {
                    let (known, issuing) = (known.clone(), issuing.clone());
                    let mut part = Gathered { known, issuing, ..Gathered::default() };
                    tree.gather(request, &mut part);
                    emit(part);
                    task.step();
                },
                |part| {
                    let offset = first.rows.len();
                    first.rows.extend(part.rows);
                    first.servers.extend(part.servers);
                    let own = part.known.into_iter().skip(count);
                    first.known.extend(own.map(|ca| Known { row: ca.row + offset, ..ca }));
                    Ok(())
                },
            );
        }
        first
    }
}

impl HostTree {
    fn open(
        request: &Request<'_>,
        declared: Option<&Declared>,
        host: Option<String>,
        is_host: bool,
        demand: Option<Demand>,
    ) -> Self {
        let alone = is_host && host.is_none();
        let scopes = match (&host, alone) {
            (Some(_), _) => Scopes::OfHost,
            (None, true) => Scopes::All,
            (None, false) => Scopes::OfCluster,
        };
        let is_declared = demand.is_some();
        let Demand { required, requested, external } = demand.unwrap_or_default();
        let root = match &host {
            Some(host) => request.dir.join("hosts").join(host),
            None => request.dir.to_path_buf(),
        };
        // The root of the machine whose /etc/kubernetes this is: `/`, or where its disk is mounted.
        let machine = match alone {
            true => root
                .to_str()
                .and_then(|text| text.strip_suffix(DEFAULT_HOST_DIR))
                .map(PathBuf::from),
            false => None,
        };
        let usual = machine.map(|machine| machine.join(KUBELET_DIR.trim_start_matches('/')));
        let usual = usual.map(|path| match path.is_absolute() {
            true => path,
            false => Path::new("/").join(path),
        });
        let mut tree = Self {
            kubelet_dir: match alone {
                true => request.kubelet_dir.map(Path::to_path_buf).or(usual),
                false => None,
            },
            host_dirs: declared
                .and_then(|cluster| cluster.host_dir.as_ref())
                .into_iter()
                .map(PathBuf::from)
                .chain([root.clone(), PathBuf::from(DEFAULT_HOST_DIR)])
                .collect(),
            host,
            root,
            required,
            requested,
            external,
            is_declared,
            scopes,
        };
        if !is_declared {
            tree.require_usual();
        }
        tree
    }

    /// Whether rows of this scope belong here.
    fn has(&self, scope: Scope) -> bool {
        match self.scopes {
            Scopes::All => true,
            Scopes::OfCluster => scope == Scope::Cluster,
            Scopes::OfHost => scope != Scope::Cluster,
        }
    }

    /// Without a declaration: what kubeadm would miss, as far as this host has that part of a control plane
    /// at all. A part is a CA and what it signs; hand-made clusters may have no front proxy, and etcd may be
    /// somebody else's.
    fn require_usual(&mut self) {
        let usual = || CERTIFICATES.iter().filter(|s| s.expected == Expected::Usually);
        let any = |scope: Scope| {
            usual().any(|s| s.scope == scope && s.present == Condition::Always && self.is_here(s))
        };
        let etcd_row = |s: &&CertSpec| s.scope == Scope::Etcd && self.is_here(s);
        let manifest = |of: &ComponentSpec| self.root.join(of.manifest()).exists();
        let control_plane = manifest(roles::API_SERVER) || any(Scope::ControlPlane);
        let etcd = manifest(roles::ETCD) || CERTIFICATES.iter().any(|s| etcd_row(&s));
        let mut required = BTreeSet::new();
        for spec in usual() {
            if spec.is_ca() || !self.has(spec.scope) {
                continue;
            }
            let is_part = spec.issuer_id().is_some_and(|ca| {
                self.is_here(ca.spec())
                    || CERTIFICATES.iter().any(|s| s.issuer_id() == Some(ca) && self.is_here(s))
            });
            let host = match spec.scope {
                Scope::Etcd => etcd,
                Scope::Cluster | Scope::ControlPlane | Scope::Node => control_plane,
            };
            if is_part && host && (spec.present != Condition::ManagedEtcd || etcd) {
                required.insert(spec.id);
                required.extend(spec.issuer_id());
            }
        }
        // On hosts of a workspace the CAs are DIR's.
        required.retain(|id| self.has(id.spec().scope));
        self.required = required;
    }

    fn is_here(&self, spec: &CertSpec) -> bool {
        self.root.join(file_of(spec)).symlink_metadata().is_ok()
    }

    fn gather(&self, request: &Request<'_>, all: &mut Gathered) {
        let mut gatherer = Gatherer {
            tree: self,
            details: request.details,
            connects: request.connect != Connect::None,
            now: request.now,
            all,
        };
        for spec in CERTIFICATES.iter().filter(|s| s.is_ca()) {
            gatherer.authority(spec);
        }
        for spec in CERTIFICATES.iter().filter(|s| !s.is_ca() && self.has(s.scope)) {
            let file = self.root.join(file_of(spec));
            match spec.home {
                Home::Kubeconfig { .. } => gatherer.kubeconfig(spec, &file),
                Home::Files { .. } | Home::Authority { .. } => gatherer.leaf(spec, &file),
            }
        }
        for (id, file) in &self.external {
            gatherer.external(*id, file);
        }
        gatherer.kubelet();
    }

    /// Whether a path on the host lies in this tree.
    fn has_inside(&self, path: &Path) -> bool {
        path.is_relative() || self.host_dirs.iter().any(|dir| path.starts_with(dir))
    }

    /// Where a file is that a kubeconfig of this tree names.
    fn locate(&self, kubeconfig: &Path, named: &str) -> Result<PathBuf, String> {
        let named = Path::new(named);
        if named.is_relative() {
            return Ok(kubeconfig.parent().unwrap_or(Path::new("")).join(named));
        }
        if let Some(inside) = self.host_dirs.iter().find_map(|dir| named.strip_prefix(dir).ok()) {
            return Ok(self.root.join(inside));
        }
        match (named.strip_prefix(KUBELET_DIR), &self.kubelet_dir) {
            (Ok(inside), Some(dir)) => Ok(dir.join(inside)),
            // This machine's own kubelet is another one, perhaps.
            (Ok(_), None) => Err(format!(
                "names {}, which is not in this tree: say where with --kubelet-dir",
                shown(named)
            )),
            (Err(_), _) => Ok(named.to_path_buf()),
        }
    }
}

/// The folders in a folder, sorted.
fn folders(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}
