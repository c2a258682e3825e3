//! `certkit init --adopt`: declares a PKI that something else made, and proves that the declaration is
//! right before it is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{declared, log, observe, observe::Observation, read, session, verify};
use crate::{
    document::{self, kubeconfig, manifest},
    model::{
        adopt::{self, Deviation, Hints},
        catalogue::{COMPONENTS, ComponentSpec, roles},
        cluster::{Cluster, DeclaredSubject, Endpoint, Etcd, ExternalEtcdFiles},
        code::Code,
        layout::{Layout, PUBLIC},
        observed::Piece,
        plan::{Action, Policy, Reason, Step, reconcile::reconcile},
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
    /// What is in place and no declaration holds: it stays as it is until somebody does something about it.
    pub left: Vec<Deviation>,
}

/// Why nothing was declared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is declared already.
    #[error("{}: is there already", .0.display())]
    Declared(PathBuf),
    /// No declaration certkit can write says what is there.
    #[error("what is in {} cannot be declared as it is", dir.display())]
    Differs {
        /// The directory.
        dir: PathBuf,
        /// What a plan after adopting would change or refuse.
        differences: Vec<Deviation>,
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
            Self::Empty(dir) => Some(declared::elsewhere(dir)),
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
    // A declaration is nobody's to take up.
    store.debt().settle();
    Ok(report)
}

fn propose(dir: &Path, now: Timestamp) -> Result<Report, Error> {
    let seen = declared::anything(dir);
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
        differences.push(Deviation {
            file: declared::FILE.into(),
            field: "file".into(),
            found: "what is in place".into(),
            declared: "less than that".into(),
            remedy: "tell certkit's authors: what was found cannot be written down".into(),
        });
    }
    let mut left = lost(&layout, &observation);
    left.extend(of_etcd(&again));
    left.extend(unknown(dir, now));
    match differences.is_empty() {
        true => Ok(Report { cluster: again, text, left }),
        false => Err(Error::Differs { dir: dir.to_path_buf(), differences }),
    }
}

/// What `init` and `rotate` would change if this were declared, time left aside.
fn differences(cluster: &Cluster, dir: &Path, now: Timestamp) -> Vec<Deviation> {
    let layout = Layout::new(cluster);
    let observation = observe::observe(&layout, dir);
    let observed = &observation.observed;
    let plan = reconcile(&layout, observed, dir, &Policy::COMPLETE, now);
    adopt::differences(&layout, observed, &plan, now)
}

/// What leaves say that certkit gives no meaning to: a renewal without certkit.yaml keeps it, one by it does not.
fn lost(layout: &Layout<'_>, observation: &Observation) -> Vec<Deviation> {
    let mut lost = Vec::new();
    for (index, certificates) in &observation.certificates {
        let leaf = certificates.first().filter(|_| !layout.instances[*index].spec.is_ca());
        let Some(certificate) = leaf else { continue };
        let place = &observation.observed.instances[*index].place;
        lost.extend(certificate.other_extensions().into_iter().map(|(oid, critical)| Deviation {
            file: place.cert().clone(),
            field: format!("extension {oid}"),
            found: if critical { "there, critical" } else { "there" }.into(),
            declared: "not there".into(),
            remedy: format!(
                "it stays until {} is renewed by certkit.yaml; without certkit.yaml `certkit rotate` keeps it",
                layout.instances[*index].spec.id
            ),
        }));
    }
    lost
}

/// The apiserver's certificate for an etcd that is somebody else's: so is its renewal.
fn of_etcd(cluster: &Cluster) -> Option<Deviation> {
    let Etcd::External { files: Some(files), .. } = &cluster.etcd else { return None };
    Some(Deviation {
        file: PathBuf::from(&files.cert),
        field: "externalEtcd.certFile".into(),
        found: "a client certificate of another CA's etcd".into(),
        declared: format!("to be verified by {}, and renewed by whoever has its key", files.ca),
        remedy: format!(
            "certkit does not renew it by certkit.yaml; where that CA's key is: certkit rotate {} --ca {} --ca-key FILE",
            files.cert, files.ca
        ),
    })
}

/// Certificates and keys that are nothing certkit lays out.
fn unknown(dir: &Path, now: Timestamp) -> Vec<Deviation> {
    let every = BTreeSet::new();
    let request =
        verify::Request { dir, at: now, forecast: false, flags: &[], allow: &every, deny: &every };
    // What cannot be verified was told field by field.
    let findings = verify::verify(&request).map(|report| report.findings).unwrap_or_default();
    let unused = findings.into_iter().filter(|finding| finding.code == Code::Unused);
    unused
        .flat_map(|finding| finding.files)
        .map(|file| Deviation {
            remedy: format!(
                "it is left out; to renew it: certkit rotate {} --ca FILE",
                dir.join(&file).display()
            ),
            file,
            field: "file".into(),
            found: "a certificate or key".into(),
            declared: "not there".into(),
        })
        .collect()
}

/// What kubeconfigs and static pods' manifests tell of the cluster.
fn hints(seen: &Cluster, dir: &Path, observation: &Observation) -> Hints {
    let files = COMPONENTS.iter().filter_map(|spec| seen.config_file(spec.id));
    let mut hints = Hints {
        config_files: files.filter(|file| dir.join(file).exists()).collect(),
        subjects: subjects(observation),
        ..Hints::default()
    };
    for spec in roles::TELL_THE_ENDPOINT {
        let Piece::Present(content) = read::file(&dir.join(spec.home.cert())) else { continue };
        let Ok(view) = kubeconfig::parse(&content) else { continue };
        let Some(cluster) = view.cluster(None) else { continue };
        hints.name.get_or_insert_with(|| cluster.name.clone());
        let server = cluster.server.as_deref().and_then(|s| s.strip_prefix("https://"));
        let endpoint: Option<Endpoint> = server.and_then(|s| s.trim_end_matches('/').parse().ok());
        hints.servers.extend(endpoint.clone());
        hints.endpoint = hints.endpoint.or(endpoint);
    }
    let etcd = manifest_flags(dir, roles::ETCD);
    let members = etcd.get("initial-cluster").map_or(0, |members| members.split(',').count());
    hints.has_other_members = members > 1;
    let flags = manifest_flags(dir, roles::API_SERVER);
    let list = |flag: &str| -> Vec<String> {
        flags.get(flag).map(|v| v.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let subnets = list("service-cluster-ip-range");
    hints.service_subnets = subnets.iter().filter_map(|s| s.trim().parse().ok()).collect();
    hints.port = flags.get("secure-port").and_then(|v| v.parse::<u16>().ok());
    hints.advertised = flags.get("advertise-address").and_then(|v| v.parse::<IpAddr>().ok());
    let client = flags.get("etcd-certfile");
    let own = client.is_none_or(|file| file.ends_with(roles::API_TO_ETCD.home.cert()));
    let here = |file: &str| dir.join(file).exists();
    let local = here(roles::ETCD_SERVING.home.cert()) || here(roles::ETCD_CA.home.key());
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

fn subjects(observation: &Observation) -> BTreeMap<usize, DeclaredSubject> {
    let subject = |certificate: &Certificate| DeclaredSubject {
        organizations: certificate.organizations(),
        common_name: certificate.common_name().unwrap_or_default(),
    };
    let all = observation.certificates.iter().filter_map(|(i, all)| Some((*i, all.first()?)));
    all.map(|(index, c)| (index, subject(c))).collect()
}

/// A component's flags as its static pod is started with them.
pub fn manifest_flags(dir: &Path, component: &ComponentSpec) -> BTreeMap<String, String> {
    let path = dir.join(component.manifest());
    let Piece::Present(content) = read::file(&path) else { return BTreeMap::new() };
    let arguments = manifest::arguments(&content).unwrap_or_default();
    let flag = |argument: String| {
        let (name, value) = argument.strip_prefix("--")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    arguments.into_iter().filter_map(flag).collect()
}
