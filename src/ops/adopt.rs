//! `certkit init --adopt`: declares a PKI that something else made, and proves that the declaration is
//! right before it is written.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{declared, log, observe, observe::Observation, read, rotate, session};
use crate::{
    document::{self, kubeconfig, manifest},
    model::{
        adopt::{self, Hints},
        catalogue::COMPONENTS,
        cluster::{Cluster, Endpoint, Etcd, ExternalEtcdFiles, Subject},
        layout::{Layout, PUBLIC},
        observed::Piece,
        plan::{
            Action, Policy, Reason, Step,
            difference::{algorithm_difference, differences as drift},
            reconcile::reconcile,
        },
        timestamp::Timestamp,
    },
    pki::inspect::Certificate,
    store::{self, Transaction},
};

/// What is wanted.
#[derive(Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// Only say what would be written.
    pub dry_run: bool,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
}

/// What was declared, or would be.
#[derive(Debug)]
pub struct Report {
    /// The cluster.
    pub cluster: Cluster,
    /// certkit.yaml.
    pub text: String,
}

/// Why nothing was declared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is declared already.
    #[error("{}: is there already", .0.display())]
    Declared(PathBuf),
    /// No declaration certkit can write says what is there.
    #[error("what is in {} cannot be declared as it is:\n  {}", dir.display(), differences.join("\n  "))]
    Differs {
        /// The directory.
        dir: PathBuf,
        /// What a plan after adopting would change.
        differences: Vec<String>,
    },
    /// certkit.yaml is not what it should be.
    #[error("the declaration cannot be read back")]
    Document(#[from] document::DocumentError),
    /// There is no certificate at all.
    #[error("{}: there is no certificate to adopt", .0.display())]
    Empty(PathBuf),
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether the change is decided, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_decided())
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Declared(path) => {
                Some(format!("edit it, or move {} away to adopt anew", path.display()))
            }
            Self::Differs { .. } => Some(
                "put the files named in order; `certkit rotate` works without certkit.yaml, too"
                    .into(),
            ),
            Self::Document(error) => error.hint().map(str::to_owned),
            Self::Empty(_) => Some("name the PKI's directory with --dir".into()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Writes certkit.yaml for what is in place, after proving that no plan would change anything.
pub fn run(request: &Request<'_>) -> Result<Report, Error> {
    let dir = request.dir;
    let path = dir.join(declared::FILE);
    if path.symlink_metadata().is_ok() {
        return Err(Error::Declared(path));
    }
    if !dir.is_dir() {
        return Err(Error::Empty(dir.to_path_buf()));
    }
    if request.dry_run {
        return propose(dir, request.now);
    }
    let mut store = session::open(dir, request.lock_wait)?;
    let report = propose(dir, request.now)?;
    let mut transaction = Transaction::new(&request.now.to_compact());
    transaction.by("init --adopt");
    transaction.write(declared::FILE, report.text.clone(), PUBLIC);
    let step = Step {
        action: Action::Declare(report.text.clone()),
        label: declared::FILE.into(),
        files: vec![declared::FILE.into()],
        reason: Reason::Asked,
    };
    transaction.log(log::step("init --adopt", "write", &step, request.now));
    store.commit(transaction)?;
    Ok(report)
}

fn propose(dir: &Path, now: Timestamp) -> Result<Report, Error> {
    let seen = rotate::undeclared(dir);
    let layout = Layout::new(&seen);
    let observation = observe::observe(&layout, dir);
    if adopt::is_empty(&observation.observed) {
        return Err(Error::Empty(dir.to_path_buf()));
    }
    let cluster = adopt::declare(&layout, &observation.observed, &hints(&seen, dir, &observation));
    let text = document::write(&cluster);
    let again = document::read(text.as_bytes(), declared::FILE)?.complete(declared::FILE)?;
    let mut differences = differences(&again, dir, now);
    if again != cluster {
        differences.push("certkit.yaml does not say all of it".into());
    }
    match differences.is_empty() {
        true => Ok(Report { cluster: again, text }),
        false => Err(Error::Differs { dir: dir.to_path_buf(), differences }),
    }
}

/// What `init` and `rotate` would change if this were declared, time left aside.
fn differences(cluster: &Cluster, dir: &Path, now: Timestamp) -> Vec<String> {
    let mut differences = Vec::new();
    let layout = Layout::new(cluster);
    let observation = observe::observe(&layout, dir);
    let inventory = &observation.observed;
    let plan = reconcile(&layout, inventory, dir, &Policy::COMPLETE, now);
    differences.extend(plan.contradictions.iter().map(ToString::to_string));
    if differences.is_empty() {
        differences.extend(plan.changes().map(|s| format!("{}: {}", s.label, s.reason)));
    }
    for (instance, observed) in layout.instances.iter().zip(&inventory.instances) {
        let Some(certificate) = observed.certificate().filter(|_| !instance.spec.is_ca()) else {
            continue;
        };
        let algorithm = cluster.algorithm_of(instance.spec.id);
        let found = drift(instance, cluster, observed)
            .into_iter()
            .chain(algorithm_difference(algorithm, certificate));
        differences.extend(found.map(|what| format!("{}: {what}", instance.label())));
    }
    differences
}

/// What kubeconfigs and static pods' manifests tell of the cluster.
fn hints(seen: &Cluster, dir: &Path, observation: &Observation) -> Hints {
    let files = COMPONENTS.iter().filter_map(|spec| seen.config_file(spec.id));
    let mut hints = Hints {
        config_files: files.filter(|file| dir.join(file).exists()).collect(),
        subjects: subjects(observation),
        ..Hints::default()
    };
    let names = [
        "admin.conf",
        "super-admin.conf",
        "kubelet.conf",
        "controller-manager.conf",
        "scheduler.conf",
    ];
    for name in names {
        let Piece::Present(content) = read::file(&dir.join(name)) else { continue };
        let Ok(view) = kubeconfig::parse(&content) else { continue };
        let Some(cluster) = view.cluster(None) else { continue };
        hints.name.get_or_insert_with(|| cluster.name.clone());
        let server = cluster.server.as_deref().and_then(|s| s.strip_prefix("https://"));
        let endpoint: Option<Endpoint> = server.and_then(|s| s.trim_end_matches('/').parse().ok());
        hints.servers.extend(endpoint.clone());
        hints.endpoint = hints.endpoint.or(endpoint);
    }
    let etcd = manifest_flags(dir, "etcd");
    let members = etcd.get("initial-cluster").map_or(0, |members| members.split(',').count());
    hints.has_other_members = members > 1;
    let flags = manifest_flags(dir, "kube-apiserver");
    let list = |flag: &str| -> Vec<String> {
        flags.get(flag).map(|v| v.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let subnets = list("service-cluster-ip-range");
    hints.service_subnets = subnets.iter().filter_map(|s| s.trim().parse().ok()).collect();
    hints.port = flags.get("secure-port").and_then(|v| v.parse::<u16>().ok());
    hints.advertised = flags.get("advertise-address").and_then(|v| v.parse::<IpAddr>().ok());
    let client = flags.get("etcd-certfile");
    let own = client.is_none_or(|file| file.ends_with("pki/apiserver-etcd-client.crt"));
    let local = dir.join("pki/etcd/server.crt").exists() || dir.join("pki/etcd/ca.key").exists();
    let endpoints = list("etcd-servers");
    let managed = own && local;
    if !endpoints.is_empty() && !managed {
        let file = |flag: &str| flags.get(flag).cloned();
        let files = file("etcd-cafile").zip(file("etcd-certfile")).zip(file("etcd-keyfile"));
        let files = files.map(|((ca, cert), key)| ExternalEtcdFiles { ca, cert, key });
        hints.etcd = Some(Etcd::External { endpoints, files });
    }
    hints
}

fn subjects(observation: &Observation) -> BTreeMap<usize, Subject> {
    let subject = |certificate: &Certificate| Subject {
        organizations: certificate.organizations(),
        common_name: certificate.common_name().unwrap_or_default(),
    };
    let all = observation.certificates.iter().filter_map(|(i, all)| Some((*i, all.first()?)));
    all.map(|(index, c)| (index, subject(c))).collect()
}

/// A component's flags as its static pod is started with them.
fn manifest_flags(dir: &Path, component: &str) -> BTreeMap<String, String> {
    let path = dir.join(format!("manifests/{component}.yaml"));
    let Piece::Present(content) = read::file(&path) else { return BTreeMap::new() };
    let arguments = manifest::arguments(&content).unwrap_or_default();
    let flag = |argument: String| {
        let (name, value) = argument.strip_prefix("--")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    arguments.into_iter().filter_map(flag).collect()
}
