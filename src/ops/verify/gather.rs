//! Gathering: from files to evidence, and to the identities that handshakes need.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    found::{Found, facts, has_key, key_view},
    kubeconfig::{self, Tree},
    signer::{signers, verify_servers},
    tree,
};
use crate::{
    model::{
        catalogue::Home,
        check::evidence::{
            CertFacts, Evidence, FoundKey, HeldKeyPair, KubeconfigFacts, StaleCopy, Trust,
        },
        cluster::{Cluster, Etcd, Host},
        inventory::Piece,
        layout::{DEFAULT_HOST_DIR, Instance, Layout, Place},
        timestamp::Timestamp,
    },
    ops::{observe::with_causes, read},
    pki::{inspect, key::PublicKey},
    store::{After, Transaction},
    tls::handshake::Identity,
};

/// Evidence, and what handshakes need besides.
pub struct Gathered<'a> {
    /// The evidence.
    pub evidence: Evidence<'a>,
    /// What each instance shows, or why it cannot.
    pub identities: BTreeMap<usize, Result<Identity, String>>,
}

/// Reads everything the cluster lays out under DIR, and all else that is there.
pub fn gather<'a>(
    cluster: &'a Cluster,
    declared: bool,
    service_address: Option<IpAddr>,
    dir: &Path,
    at: Timestamp,
) -> Gathered<'a> {
    let (mut gathered, files) = look(cluster, declared, service_address, Files::new(dir), at);
    gathered.evidence.owner = tree::owner(dir);
    gathered.evidence.files = tree::walk(dir, &files);
    gathered
}

/// The same without the tree's files as such: what handshakes need.
pub fn look<'a, 'f>(
    cluster: &'a Cluster,
    declared: bool,
    service_address: Option<IpAddr>,
    mut files: Files<'f>,
    at: Timestamp,
) -> (Gathered<'a>, Files<'f>) {
    let dir = files.dir;
    let layout = Layout::new(cluster);
    let mut found: Vec<Found> = Vec::with_capacity(layout.instances.len());
    let mut kubeconfigs = Vec::with_capacity(layout.instances.len());
    let on_host = |host: Option<&Host>| match declared {
        true => cluster.dir_on(host, dir),
        false => PathBuf::from(DEFAULT_HOST_DIR),
    };
    for instance in &layout.instances {
        let on_host = on_host(instance.host);
        let (facts, one) = find(&mut files, dir, &on_host, instance);
        found.push(one);
        kubeconfigs.push(facts);
    }
    let trust = trust(&mut files, cluster, declared, &layout.instances);
    let signers = signers(&layout.instances, &found, &trust);
    let mut identities = BTreeMap::new();
    let mut held = Vec::with_capacity(found.len());
    for (index, (one, kubeconfig)) in found.into_iter().zip(kubeconfigs).enumerate() {
        if !layout.instances[index].spec.is_ca()
            && let Some(identity) = one.identity()
        {
            identities.insert(index, identity);
        }
        held.push(one.held(kubeconfig, signers[index]));
    }
    verify_servers(&layout.instances, &mut held);
    let key_pairs = key_pairs(&mut files, &layout);
    let stale = stale(&mut files, &layout);
    for instance in &layout.instances {
        let homes = instance.spec.home.files();
        homes.iter().for_each(|file| files.uses(&instance.root.join(file)));
    }
    layout.copies.iter().for_each(|copy| files.uses(&copy.to));
    external(&mut files, cluster, on_host);
    let evidence = Evidence {
        cluster,
        declared,
        at,
        layout,
        held,
        trust,
        key_pairs,
        stale,
        files: Vec::new(),
        owner: 0,
        service_address,
    };
    (Gathered { evidence, identities }, files)
}

/// Reads files, and keeps in mind what was met: bundles that many hosts share, secrets, what is used.
pub struct Files<'a> {
    dir: &'a Path,
    /// What a change that is not made yet would make of files.
    change: HashMap<&'a Path, After<'a>>,
    bundles: HashMap<Vec<u8>, Piece<Arc<Vec<CertFacts>>>>,
    /// Files that hold a private key.
    pub secrets: BTreeSet<PathBuf>,
    /// Files that something names.
    pub used: BTreeSet<PathBuf>,
}

impl<'a> Files<'a> {
    /// Those in DIR as they are.
    pub fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            change: HashMap::new(),
            bundles: HashMap::new(),
            secrets: BTreeSet::new(),
            used: BTreeSet::new(),
        }
    }

    /// Those in DIR as they would be after a change.
    pub fn after(dir: &'a Path, change: &'a Transaction) -> Self {
        Self { change: change.outcomes().collect(), ..Self::new(dir) }
    }

    /// A file's content.
    pub fn read(&mut self, path: &Path) -> Piece<Zeroizing<Vec<u8>>> {
        let content = match self.change.get(path) {
            None => read::file(&self.dir.join(path)),
            Some(After::File(content)) => Piece::Present(Zeroizing::new(content.to_vec())),
            Some(After::Nothing) => Piece::Missing,
            Some(After::Symlink(target)) => {
                // What a change makes links to is a file.
                let target = path.parent().unwrap_or(Path::new("")).join(target);
                match self.change.get(target.as_path()) {
                    Some(After::File(content)) => Piece::Present(Zeroizing::new(content.to_vec())),
                    _ => read::file(&self.dir.join(&target)),
                }
            }
        };
        if let Piece::Present(content) = &content
            && has_key(content)
        {
            self.secret(path);
        }
        content
    }

    /// Notes that the file holds a private key.
    pub fn secret(&mut self, path: &Path) {
        self.secrets.insert(path.to_path_buf());
    }

    /// Notes that something names the file.
    pub fn uses(&mut self, path: &Path) {
        self.used.insert(path.to_path_buf());
    }

    /// A file of certificates that verifiers trust.
    pub fn bundle(&mut self, path: &Path) -> Piece<Arc<Vec<CertFacts>>> {
        match self.read(path) {
            Piece::Present(pem) => self.bundle_of(&pem),
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why),
        }
    }

    /// The same of its content.
    pub fn bundle_of(&mut self, pem: &[u8]) -> Piece<Arc<Vec<CertFacts>>> {
        if let Some(known) = self.bundles.get(pem) {
            return known.clone();
        }
        let parsed = match inspect::from_pem(pem) {
            Ok(all) => Piece::Present(Arc::new(all.iter().map(facts).collect())),
            Err(error) => Piece::Bad(with_causes(&error)),
        };
        self.bundles.insert(pem.to_vec(), parsed.clone());
        parsed
    }
}

fn find(
    files: &mut Files<'_>,
    dir: &Path,
    on_host: &Path,
    instance: &Instance<'_>,
) -> (Option<KubeconfigFacts>, Found) {
    match &instance.place {
        Place::Pair { cert, key } => {
            let (c, k) = (files.read(cert), files.read(key));
            let found = Found::parse((cert, c), (key, k));
            let found = if instance.spec.is_ca() { found.signer_first() } else { found };
            (None, found)
        }
        Place::Named { kubeconfig, .. } | Place::Embedded { kubeconfig } => {
            let tree = Tree { dir, root: &instance.root, host_dir: on_host.to_path_buf() };
            let (facts, found) = kubeconfig::follow(files, &tree, kubeconfig);
            (Some(facts), found)
        }
    }
}

/// What DIR and each host trust: the bundles, and where there are none the CAs themselves.
fn trust(
    files: &mut Files<'_>,
    cluster: &Cluster,
    declared: bool,
    instances: &[Instance<'_>],
) -> BTreeMap<(PathBuf, &'static str), Trust> {
    let mut trust = BTreeMap::new();
    let roots: BTreeSet<PathBuf> = std::iter::once(PathBuf::new())
        .chain(cluster.hosts.iter().map(|host| cluster.root_of(host)))
        .collect();
    let authorities: Vec<_> = instances.iter().filter(|i| i.spec.is_ca()).collect();
    for root in roots {
        for instance in &authorities {
            let Home::Authority { cert, bundle, .. } = instance.spec.home else { continue };
            let signer = root.join(cert);
            // A cluster may do without, and then its flags name the CA.
            let absent = cluster.is_absent(&format!("{}-bundle", instance.spec.id));
            let bundle = bundle.filter(|_| !absent).map(|b| root.join(b));
            let found = bundle.map(|file| (files.bundle(&file), file));
            let one = match found {
                Some((certificates, file)) if !certificates.is_missing() => {
                    Trust { file, certificates, is_bundle: true }
                }
                // A declared cluster's flags name the bundle.
                Some((certificates, file)) if declared && root.as_os_str().is_empty() => {
                    Trust { file, certificates, is_bundle: true }
                }
                _ => {
                    let certificates = files.bundle(&signer);
                    Trust { file: signer, certificates, is_bundle: false }
                }
            };
            if root.as_os_str().is_empty() || !one.certificates.is_missing() {
                trust.insert((root.clone(), instance.spec.id), one);
            }
        }
    }
    trust
}

fn key_pairs(files: &mut Files<'_>, layout: &Layout<'_>) -> Vec<HeldKeyPair> {
    let mut pairs = Vec::new();
    for spec in &layout.key_pairs {
        let (private_file, public_file) = (PathBuf::from(spec.private), PathBuf::from(spec.public));
        files.uses(&private_file);
        files.uses(&public_file);
        let found = Found::parse(
            (&private_file, Piece::Missing),
            (&private_file, files.read(&private_file)),
        );
        let private = match found.key {
            Ok(key) => FoundKey::Present(key_view(&key)),
            Err(state) => state,
        };
        let public = match files.read(&public_file) {
            Piece::Present(pem) => match PublicKey::all_from_pem(&pem) {
                Ok(all) if all.is_empty() => Piece::Bad("holds no public key".into()),
                Ok(all) => Piece::Present(all.iter().map(|k| k.der().to_vec()).collect()),
                Err(error) => Piece::Bad(with_causes(&error)),
            },
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why),
        };
        pairs.push(HeldKeyPair { id: spec.id, private_file, public_file, private, public });
    }
    pairs
}

/// Notes that the files by which apiservers reach somebody else's etcd are used, and which are secret.
fn external(files: &mut Files<'_>, cluster: &Cluster, on_host: impl Fn(Option<&Host>) -> PathBuf) {
    let Etcd::External { files: Some(named), .. } = &cluster.etcd else { return };
    for host in cluster.hosts.iter().filter(|host| host.control_plane) {
        for file in [&named.ca, &named.cert, &named.key] {
            let Ok(inside) = Path::new(file).strip_prefix(on_host(Some(host))) else { continue };
            let path = cluster.root_of(host).join(inside);
            files.read(&path);
            files.uses(&path);
        }
    }
}

/// The copies of a workspace that are not like their originals. Those are read once.
fn stale(files: &mut Files<'_>, layout: &Layout<'_>) -> Vec<StaleCopy> {
    let mut originals: HashMap<PathBuf, Piece<Zeroizing<Vec<u8>>>> = HashMap::new();
    let mut stale = Vec::new();
    for copy in &layout.copies {
        let original = originals.entry(copy.from.clone()).or_insert_with(|| files.read(&copy.from));
        // A CA's key that is kept elsewhere cannot be compared with.
        let Piece::Present(original) = original else { continue };
        let missing = match files.read(&copy.to) {
            Piece::Present(content) if content == *original => continue,
            Piece::Missing => true,
            Piece::Present(_) | Piece::Bad(_) => false,
        };
        let (copy, original) = (copy.to.clone(), copy.from.clone());
        stale.push(StaleCopy { copy, original, missing });
    }
    stale
}
