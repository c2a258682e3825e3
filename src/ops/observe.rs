//! Observing: the one reader of what is below DIR. From files to plain data, and to the secrets that issuing and
//! handshakes need.

mod credential;
mod files;
mod kubeconfig;
mod signer;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use self::credential::HeldCredential;
pub use self::{
    credential::{has_key, key_of, key_view},
    files::{FileNotes, Files},
};
use super::{config_file, declared, flags::FlagsError, owner::Owners};
use crate::{
    model::{
        authority::Slot,
        catalogue::{CertId, Home},
        cluster::{Cluster, Etcd, Host},
        layout::{DEFAULT_HOST_DIR, Instance, Layout, PUBLIC, Place},
        observed::{
            CertView, FoundKey, Held, HeldCopy, HeldKeyPair, KeyView, KubeconfigView, Observed,
            Piece, Trust,
        },
        plan::{request_file, request_key_file},
        request::is_strong,
        shown::with_causes,
    },
    parallel::{self, progress},
    pki::{
        inspect::{Certificate, SigningRequest},
        key::{CaKey, PublicKey},
    },
    store::NewOwner,
    tls::handshake::Identity,
};

/// What was observed, and what goes with it.
pub struct Observation {
    /// As plain data.
    pub observed: Observed,
    /// The certificates that were found, by the index of their instance; of a CA the signer first.
    pub certificates: BTreeMap<usize, Vec<Certificate>>,
    /// The keys that were found, by the index of their instance.
    pub keys: BTreeMap<usize, CaKey>,
    /// The keys that hosts made and ask a certificate for, by the index of the instance.
    pub asked: BTreeMap<usize, PublicKey>,
    /// Other generations of CAs: their certificates and keys.
    pub aside: BTreeMap<(usize, Slot), (Vec<Certificate>, Option<CaKey>)>,
    /// The kubeconfigs that were found, by the index of their instance.
    pub kubeconfigs: BTreeMap<usize, Zeroizing<Vec<u8>>>,
    /// The files that others are copies of, or take the place of.
    pub originals: HashMap<PathBuf, Zeroizing<Vec<u8>>>,
    /// To whom files are to be given on this machine, by path relative to DIR.
    pub owners: BTreeMap<PathBuf, NewOwner>,
}

impl Observation {
    /// The same with components' configuration files.
    pub fn with_configs(mut self, layout: &Layout<'_>, dir: &Path) -> Result<Self, FlagsError> {
        self.observed.configs = config_file::observe(layout, dir)?;
        Ok(self)
    }

    /// Where each instance is.
    pub fn places(&self) -> Vec<Place> {
        self.observed.instances.iter().map(|held| held.place.clone()).collect()
    }

    /// What an instance shows in a handshake, or why it cannot; nothing if a half is missing.
    pub fn identity(&self, index: usize) -> Option<Result<Identity, String>> {
        let all = self.certificates.get(&index)?;
        let chain: Vec<Vec<u8>> = all.iter().map(|c| c.der().to_vec()).collect();
        let held = &self.observed.instances[index];
        if let FoundKey::OnHost(_) = held.key {
            let is_its = held.certificate().is_some_and(|own| held.key.is_of(own));
            return is_its.then(|| Identity::assumed(&chain).map_err(|error| with_causes(&error)));
        }
        let key = match (self.keys.get(&index), &self.observed.instances[index].key) {
            (Some(CaKey::Clear(key)), _) => key,
            (_, found) => return found.fault().map(|why| Err(why.to_owned())),
        };
        Some(Identity::new(&chain, &key.pkcs8()).map_err(|error| with_causes(&error)))
    }
}

/// Reads everything the cluster lays out under DIR, as it is.
pub fn observe(layout: &Layout<'_>, dir: &Path) -> Observation {
    look(layout, dir.join(declared::FILE).exists(), &mut Files::new(dir))
}

/// The same of any files. Where the cluster is not declared, it was put together from what is there.
pub fn look(layout: &Layout<'_>, declared: bool, files: &mut Files<'_>) -> Observation {
    let cluster = layout.cluster;
    let mut observation = Observation {
        observed: Observed { declared, ..Observed::default() },
        certificates: BTreeMap::new(),
        keys: BTreeMap::new(),
        asked: BTreeMap::new(),
        aside: BTreeMap::new(),
        kubeconfigs: BTreeMap::new(),
        originals: HashMap::new(),
        owners: BTreeMap::new(),
    };
    let task = progress::task("certificates read", Some(layout.instances.len()));
    // What takes time is parsing; a few certificates are not worth a thread.
    let threads = parallel::processors();
    let read = parallel::map_with(
        &layout.instances,
        threads,
        64,
        || files.fork(),
        |files, instance| {
            task.step();
            InstanceFiles::read(instance, cluster, declared, files)
        },
    );
    for (index, (instance, read)) in layout.instances.iter().zip(read).enumerate() {
        observation.hold(index, read, files);
        if instance.spec.is_ca() {
            observation.generations(index, instance, files);
        }
    }
    drop(task);
    for derived in &layout.derived {
        observation.observed.derived.push(files.bundle(&derived.path));
        let files_of = observation.observed.bundle_files.entry(derived.authority).or_default();
        files_of.push(derived.path.clone());
    }
    // Before what is trusted: most of that are copies.
    observation.copies(layout, files);
    observation.observed.trust = trust(files, layout, declared);
    let signers = signer::signers(layout, &observation.certificates, &observation.observed.trust);
    for (held, signer) in observation.observed.instances.iter_mut().zip(signers) {
        held.signer = signer;
    }
    signer::verify_servers(layout, &mut observation.observed.instances);
    observation.key_pairs(layout, files);
    for instance in &layout.instances {
        let homes = instance.spec.home.files();
        homes.iter().for_each(|file| files.uses(&instance.root.join(file)));
    }
    layout.copies.iter().for_each(|copy| files.uses(&copy.to));
    external(files, cluster, declared);
    let places = &observation.observed.instances;
    let owners = Owners::look(layout, files.dir(), |index| places[index].place.clone());
    observation.owners = owners.wanted;
    observation.observed.owned = owners.found;
    observation.observed.unknown_owners = owners.unknown;
    observation
}

/// What was read of one instance, on whichever thread.
struct InstanceFiles {
    kubeconfig: Option<KubeconfigView>,
    /// The kubeconfig's text.
    content: Option<Zeroizing<Vec<u8>>>,
    found: HeldCredential,
    requested: bool,
    /// The key that its host made and asks a certificate for.
    asked: Option<PublicKey>,
    /// Whether its key is here though its host is to have it alone.
    strays: bool,
    notes: FileNotes,
}

impl InstanceFiles {
    fn read(
        instance: &Instance<'_>,
        cluster: &Cluster,
        declared: bool,
        files: &mut Files<'_>,
    ) -> Self {
        let is_ca = instance.spec.is_ca();
        let (kubeconfig, content, mut found) = match &instance.place {
            Place::Pair { cert, key } => {
                (None, None, pair(files, instance.place.clone(), cert, key, is_ca))
            }
            Place::Named { kubeconfig, .. } | Place::Embedded { kubeconfig } => {
                let host_dir = tree_on_host(cluster, instance.host, files.dir(), declared);
                let tree =
                    kubeconfig::NamedPaths { dir: files.dir(), root: &instance.root, host_dir };
                let (view, found, content) =
                    kubeconfig::follow(files, &tree, kubeconfig, &instance.place);
                (Some(view), content, found)
            }
        };
        let request = request_file(instance);
        let mut read = Self {
            kubeconfig,
            content,
            requested: !instance.key_on_host
                && files.exists(&request)
                && files.exists(&request_key_file(instance)),
            asked: None,
            strays: false,
            found: HeldCredential::missing(instance.place.clone()),
            notes: FileNotes::default(),
        };
        if instance.key_on_host {
            // One with its key beside it is the workspace's own, of before.
            let is_own = files.exists(&request_key_file(instance));
            let request = (!is_own).then_some(request.as_path());
            read.strays = !found.key.is_missing();
            found.secret = None;
            (found.key, read.asked) = on_host(files, request, &found);
            read.requested = read.asked.is_some();
        }
        Self { found, notes: files.notes(), ..read }
    }
}

/// What is known of a key that its host alone has: the one that it asks a certificate for, if it does, else the one that
/// its certificate is for.
fn on_host(
    files: &mut Files<'_>,
    request: Option<&Path>,
    found: &HeldCredential,
) -> (FoundKey, Option<PublicKey>) {
    let certificate = found.certificates.present().and_then(|all| all.first());
    let own = certificate.map(Certificate::public_key);
    let known = |key: &PublicKey| match key.algorithm().filter(|kind| is_strong(Some(*kind))) {
        Some(algorithm) => FoundKey::OnHost(KeyView { public_key: key.der().to_vec(), algorithm }),
        None => FoundKey::Weak(format!("is of a kind that is refused: {}", key.algorithm_text())),
    };
    let asked = match request.map_or(Piece::Missing, |file| files.read(file)) {
        Piece::Missing => None,
        Piece::Bad(why) => Some(Err(why)),
        Piece::Present(content) => {
            Some(SigningRequest::from_pem(&content).map_err(|e| with_causes(&e)))
        }
    };
    match (asked, own) {
        (Some(Err(why)), _) => {
            let file = request.unwrap_or(Path::new("")).display();
            (FoundKey::Bad(format!("{file} {why}")), None)
        }
        (Some(Ok(asked)), own) if own != Some(asked.public_key()) => {
            let key = asked.public_key().clone();
            (known(&key), Some(key))
        }
        (_, Some(own)) => (known(own), None),
        (_, None) => (FoundKey::Missing, None),
    }
}

impl Observation {
    fn hold(&mut self, index: usize, read: InstanceFiles, files: &mut Files<'_>) {
        let InstanceFiles { kubeconfig, content, found, requested, asked, strays, notes } = read;
        self.asked.extend(asked.map(|key| (index, key)));
        files.take_over(notes);
        if let Some(content) = content {
            self.kubeconfigs.insert(index, content);
        }
        let HeldCredential { place, certificates, key, secret } = found;
        let views = match &certificates {
            Piece::Present(all) => Piece::Present(Arc::new(all.iter().map(view).collect())),
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why.clone()),
        };
        if let Piece::Present(all) = certificates {
            self.certificates.insert(index, all);
        }
        if let Some(secret) = secret {
            self.keys.insert(index, secret);
        }
        self.observed.instances.push(Held {
            place,
            certificates: views,
            key,
            kubeconfig,
            signer: None,
            requested,
            strays,
        });
    }

    /// The generations of a CA beside the one that issues.
    fn generations(&mut self, index: usize, instance: &Instance<'_>, files: &mut Files<'_>) {
        for slot in Slot::ASIDE {
            let Some((cert, key)) = slot.pair(&instance.spec.home) else { continue };
            let (cert, key) = (instance.root.join(cert), instance.root.join(key));
            files.uses(&cert);
            files.uses(&key);
            if !files.exists(&cert) && !files.exists(&key) {
                continue;
            }
            let place = Place::Pair { cert: cert.clone(), key: key.clone() };
            let (held, certificates, key_of) = whole(pair(files, place, &cert, &key, true));
            self.observed.aside.insert((index, slot), held);
            self.aside.insert((index, slot), (certificates, key_of));
            self.original(&cert, files);
            self.original(&key, files);
        }
        if let Some(cross) = Slot::cross(&instance.spec.home).map(|file| instance.root.join(file)) {
            files.uses(&cross);
            let all = files.bundle(&cross);
            if let Some(one) = all.present().and_then(|all| all.first()) {
                self.observed.crossed.insert(index, one.clone());
            }
            self.original(&cross, files);
        }
        // What stands in its place takes the place of another one when a CA is replaced.
        self.original(instance.place.cert(), files);
        self.original(instance.place.key(), files);
    }

    fn original(&mut self, path: &Path, files: &mut Files<'_>) {
        if !self.originals.contains_key(path)
            && let Piece::Present(content) = files.read(path)
        {
            self.originals.insert(path.to_path_buf(), content);
            self.observed.originals.insert(path.to_path_buf());
        }
    }

    fn key_pairs(&mut self, layout: &Layout<'_>, files: &mut Files<'_>) {
        for spec in &layout.key_pairs {
            let (private_file, public_file) =
                (PathBuf::from(spec.private), PathBuf::from(spec.public));
            files.uses(&private_file);
            files.uses(&public_file);
            let place = Place::Pair { cert: private_file.clone(), key: private_file.clone() };
            let content = files.read(&private_file);
            let found = HeldCredential::parse(place, &Piece::Missing, &content, false);
            let public =
                files.read(&public_file).and_then(|pem| match PublicKey::all_from_pem(&pem) {
                    Ok(all) if all.is_empty() => Err("holds no public key".into()),
                    Ok(all) => Ok(all.iter().map(|key| key.der().to_vec()).collect()),
                    Err(error) => Err(with_causes(&error)),
                });
            self.original(&private_file, files);
            let mut aside = BTreeMap::new();
            for slot in Slot::ASIDE {
                let path = slot.file(spec.private);
                files.uses(&path);
                if let content @ (Piece::Present(_) | Piece::Bad(_)) = files.read(&path) {
                    let place = Place::Pair { cert: path.clone(), key: path.clone() };
                    let found = HeldCredential::parse(place, &Piece::Missing, &content, false);
                    aside.insert(slot, found.key);
                    self.original(&path, files);
                }
            }
            let (id, private) = (spec.id, found.key);
            self.observed.key_pairs.push(HeldKeyPair {
                id,
                private_file,
                public_file,
                private,
                public,
                aside,
            });
        }
    }

    /// Compares copies with originals read once: a thousand hosts have the same bundle.
    fn copies(&mut self, layout: &Layout<'_>, files: &mut Files<'_>) {
        let mut unreadable: BTreeSet<&Path> = BTreeSet::new();
        for copy in &layout.copies {
            let from = copy.from.as_path();
            if !self.originals.contains_key(from) && !unreadable.contains(from) {
                match files.read(from) {
                    Piece::Present(content) => {
                        self.originals.insert(from.to_path_buf(), content);
                    }
                    Piece::Missing | Piece::Bad(_) => {
                        unreadable.insert(from);
                    }
                }
            }
            let original = self.originals.get(from);
            let found = match files.read(&copy.to) {
                Piece::Missing => HeldCopy::Missing { has_original: original.is_some() },
                Piece::Bad(why) => HeldCopy::Bad(why),
                Piece::Present(content) => {
                    if copy.mode == PUBLIC {
                        let bundle = files.bundle_of(&content);
                        files.knows(&copy.to, bundle);
                    }
                    match original {
                        Some(original) if **original == *content => HeldCopy::Same,
                        Some(_) => HeldCopy::Differs,
                        None => HeldCopy::Alone,
                    }
                }
            };
            self.observed.copies.push(found);
        }
    }
}

/// What a host calls the folder of its tree.
fn tree_on_host(cluster: &Cluster, host: Option<&Host>, dir: &Path, declared: bool) -> PathBuf {
    match declared {
        true => cluster.dir_on(host, dir),
        false => PathBuf::from(DEFAULT_HOST_DIR),
    }
}

/// Reads a certificate and its key.
fn pair(
    files: &mut Files<'_>,
    place: Place,
    cert: &Path,
    key: &Path,
    is_ca: bool,
) -> HeldCredential {
    let cert_content = files.read(cert);
    if cert == key {
        // One of the two may be there without the other, as it may be of two files.
        let is_whole = cert_content.present().is_none_or(|content| has_key(content));
        let key_content = if is_whole { &cert_content } else { &Piece::Missing };
        return HeldCredential::parse(place, &cert_content, key_content, is_ca);
    }
    let key_content = files.read(key);
    HeldCredential::parse(place, &cert_content, &key_content, is_ca)
}

/// A CA's files by themselves, as [`observe`] finds them, and its certificates.
pub fn authority(dir: &Path, cert: &Path, key: &Path) -> (Held, Vec<Certificate>) {
    let place = Place::Pair { cert: cert.to_path_buf(), key: key.to_path_buf() };
    let (held, certificates, _) = whole(pair(&mut Files::new(dir), place, cert, key, true));
    (held, certificates)
}

/// What was found as plain data, and beside it the certificates and the key.
fn whole(found: HeldCredential) -> (Held, Vec<Certificate>, Option<CaKey>) {
    let mut held = Held::nothing(found.place);
    held.key = found.key;
    let mut certificates = Vec::new();
    held.certificates = found.certificates.map(|all| {
        certificates = all;
        Arc::new(certificates.iter().map(view).collect())
    });
    (held, certificates, found.secret)
}

/// What DIR and each host trust: the bundles, and where there are none the CAs themselves.
fn trust(
    files: &mut Files<'_>,
    layout: &Layout<'_>,
    declared: bool,
) -> BTreeMap<(PathBuf, CertId), Trust> {
    let cluster = layout.cluster;
    let mut trust = BTreeMap::new();
    let roots: BTreeSet<PathBuf> = std::iter::once(PathBuf::new())
        .chain(cluster.hosts.iter().map(|host| cluster.root_of(host)))
        .collect();
    let authorities: Vec<_> = layout.instances.iter().filter(|i| i.spec.is_ca()).collect();
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

/// Notes that the files by which apiservers reach somebody else's etcd are used, and which are secret.
fn external(files: &mut Files<'_>, cluster: &Cluster, declared: bool) {
    let Etcd::External { files: Some(named), .. } = &cluster.etcd else { return };
    for host in cluster.hosts.iter().filter(|host| host.control_plane) {
        let host_dir = tree_on_host(cluster, Some(host), files.dir(), declared);
        for file in [&named.ca, &named.cert, &named.key] {
            let Ok(inside) = Path::new(file).strip_prefix(&host_dir) else { continue };
            let path = cluster.root_of(host).join(inside);
            files.read(&path);
            files.uses(&path);
        }
    }
}

/// A certificate as plain data.
pub fn view(certificate: &Certificate) -> CertView {
    CertView {
        der: certificate.der().to_vec(),
        profile: certificate.profile(),
        issuer: certificate.issuer().clone(),
        serial: certificate.serial_hex(),
        validity: certificate.validity(),
        public_key: certificate.public_key().der().to_vec(),
        algorithm: certificate.algorithm(),
        fingerprint: certificate.fingerprint_hex(),
        self_signed: certificate.is_self_signed(),
        common_name: certificate.common_name(),
        organizations: certificate.organizations(),
        signature: certificate.signature_algorithm(),
        key_usages: certificate.key_usages(),
        faults: certificate.faults(),
        identifiers: (certificate.ski().map(<[u8]>::to_vec), certificate.aki().map(<[u8]>::to_vec)),
    }
}
