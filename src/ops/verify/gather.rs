//! Gathering: from files to evidence, and to the identities that handshakes need.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    kubeconfig::{self, Tree},
    tree,
};
use crate::{
    model::{
        catalogue::Home,
        check::evidence::{
            CertFacts, Evidence, FoundKey, Held, HeldKeyPair, Signer, StaleCopy, Trust, is_local,
        },
        cluster::Cluster,
        inventory::{KeyView, Piece},
        layout::{Instance, Place},
        timestamp::Timestamp,
    },
    ops::{
        observe::{host_dir, view, with_causes},
        read,
    },
    pki::{
        inspect::{self, Certificate},
        key::{KeyError, PrivateKey, PublicKey},
    },
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
    let mut files = Files::new(dir);
    let instances = cluster.instances();
    let mut found: Vec<Found> = Vec::with_capacity(instances.len());
    let mut kubeconfigs = Vec::with_capacity(instances.len());
    let on_host = match declared {
        true => host_dir(cluster, dir),
        false => PathBuf::from("/etc/kubernetes"),
    };
    for instance in &instances {
        let (facts, one) = find(&mut files, dir, &on_host, instance);
        found.push(one);
        kubeconfigs.push(facts);
    }
    let places: HashMap<_, _> = instances
        .iter()
        .enumerate()
        .map(|(index, i)| ((i.spec.id, i.root.clone()), index))
        .collect();
    let trust = trust(&mut files, cluster, declared, &instances);
    let signers = signers(&instances, &found, &trust);
    let mut identities = BTreeMap::new();
    let mut held = Vec::with_capacity(found.len());
    for (index, (one, kubeconfig)) in found.into_iter().zip(kubeconfigs).enumerate() {
        if !instances[index].spec.is_ca()
            && let Some(identity) = one.identity()
        {
            identities.insert(index, identity);
        }
        held.push(one.held(kubeconfig, signers[index]));
    }
    verify_servers(&instances, &mut held);
    let key_pairs = key_pairs(&mut files, cluster);
    let stale = stale(&mut files, cluster);
    for instance in &instances {
        let homes = instance.spec.home.files();
        homes.iter().for_each(|file| files.uses(&instance.root.join(file)));
    }
    cluster.copies().iter().for_each(|copy| files.uses(&copy.to));
    let owner = tree::owner(dir);
    let files = tree::walk(dir, &files);
    let evidence = Evidence {
        cluster,
        declared,
        at,
        instances,
        held,
        trust,
        key_pairs,
        stale,
        files,
        owner,
        places,
        service_address,
    };
    Gathered { evidence, identities }
}

/// Reads files, and keeps in mind what was met: bundles that many hosts share, secrets, what is used.
pub struct Files<'a> {
    dir: &'a Path,
    bundles: HashMap<Vec<u8>, Piece<Arc<Vec<CertFacts>>>>,
    /// Files that hold a private key.
    pub secrets: BTreeSet<PathBuf>,
    /// Files that something names.
    pub used: BTreeSet<PathBuf>,
}

impl<'a> Files<'a> {
    fn new(dir: &'a Path) -> Self {
        Self { dir, bundles: HashMap::new(), secrets: BTreeSet::new(), used: BTreeSet::new() }
    }

    /// A file's content.
    pub fn read(&mut self, path: &Path) -> Piece<Zeroizing<Vec<u8>>> {
        let content = read::file(&self.dir.join(path));
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

/// Whether a file holds a private key, by its label.
pub fn has_key(content: &[u8]) -> bool {
    const LABEL: &[u8] = b"PRIVATE KEY-----";
    content.windows(LABEL.len()).any(|window| window == LABEL)
}

/// One instance as it was found, with its secrets.
pub struct Found {
    cert_file: PathBuf,
    key_file: PathBuf,
    certificates: Piece<Vec<Certificate>>,
    key: Result<PrivateKey, FoundKey>,
}

impl Found {
    /// Neither certificate nor key.
    pub fn missing(file: &Path) -> Self {
        Self {
            cert_file: file.to_path_buf(),
            key_file: file.to_path_buf(),
            certificates: Piece::Missing,
            key: Err(FoundKey::Missing),
        }
    }

    /// A certificate and a key, each with its file and content. A key without its public half gets it from
    /// the certificate.
    pub fn parse(
        (cert_file, cert): (&Path, Piece<Zeroizing<Vec<u8>>>),
        (key_file, key): (&Path, Piece<Zeroizing<Vec<u8>>>),
    ) -> Self {
        let certificates = match cert {
            Piece::Present(pem) => match inspect::from_pem(&pem) {
                Ok(all) => Piece::Present(all),
                Err(error) => Piece::Bad(with_causes(&error)),
            },
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why),
        };
        let key = match key {
            Piece::Present(pem) => {
                read_key(&pem, certificates.present().and_then(|all| all.first()))
            }
            Piece::Missing => Err(FoundKey::Missing),
            Piece::Bad(why) if why.starts_with(crate::model::check::piece::FORBIDDEN) => {
                Err(FoundKey::Unreadable(why))
            }
            Piece::Bad(why) => Err(FoundKey::Bad(why)),
        };
        Self {
            cert_file: cert_file.to_path_buf(),
            key_file: key_file.to_path_buf(),
            certificates,
            key,
        }
    }

    fn first(&self) -> Option<&Certificate> {
        self.certificates.present().and_then(|all| all.first())
    }

    /// Of the certificates in a CA's file the one that its key belongs to signs; kubeadm takes the first.
    fn signer_first(mut self) -> Self {
        if let (Piece::Present(all), Ok(key)) = (&mut self.certificates, &self.key)
            && let Some(signer) = all.iter().position(|c| c.public_key() == key.public_key())
        {
            all[..=signer].rotate_right(1);
        }
        self
    }

    fn identity(&self) -> Option<Result<Identity, String>> {
        let all = self.certificates.present()?;
        let key = match &self.key {
            Ok(key) => key,
            Err(FoundKey::Missing) => return None,
            Err(FoundKey::Weak(why) | FoundKey::Unsupported(why) | FoundKey::Bad(why)) => {
                return Some(Err(why.clone()));
            }
            Err(FoundKey::Unreadable(why)) => return Some(Err(why.clone())),
            Err(FoundKey::Present(_)) => return None,
        };
        let chain: Vec<Vec<u8>> = all.iter().map(|c| c.der().to_vec()).collect();
        Some(Identity::new(&chain, &key.pkcs8()).map_err(|error| with_causes(&error)))
    }

    fn held(
        self,
        kubeconfig: Option<crate::model::check::evidence::KubeconfigFacts>,
        signer: Option<Signer>,
    ) -> Held {
        Held {
            cert_file: self.cert_file,
            key_file: self.key_file,
            certificates: match self.certificates {
                Piece::Present(all) => Piece::Present(Arc::new(all.iter().map(facts).collect())),
                Piece::Missing => Piece::Missing,
                Piece::Bad(why) => Piece::Bad(why),
            },
            key: match self.key {
                Ok(key) => FoundKey::Present(key_view(&key)),
                Err(state) => state,
            },
            kubeconfig,
            signer,
        }
    }
}

/// A key as plain data.
pub fn key_view(key: &PrivateKey) -> KeyView {
    KeyView { public_key: key.public_key().der().to_vec(), algorithm: key.algorithm() }
}

/// A key, or what is wrong with it.
pub fn read_key(pem: &[u8], certificate: Option<&Certificate>) -> Result<PrivateKey, FoundKey> {
    let key = match certificate {
        Some(certificate) => PrivateKey::from_pem_for(pem, certificate),
        None => PrivateKey::from_pem(pem),
    };
    key.map_err(|error| match &error {
        KeyError::RsaSize(bits) if *bits < 2048 => FoundKey::Weak(error.to_string()),
        KeyError::RsaExponent(_) => FoundKey::Weak(error.to_string()),
        KeyError::RsaSize(_) | KeyError::RsaPrimes | KeyError::Unsupported(_) => {
            FoundKey::Unsupported(error.to_string())
        }
        _ => FoundKey::Bad(with_causes(&error)),
    })
}

/// A certificate as rules look at it.
pub fn facts(certificate: &Certificate) -> CertFacts {
    CertFacts {
        der: certificate.der().to_vec(),
        view: view(certificate),
        common_name: certificate.common_name(),
        organizations: certificate.organizations(),
        signature: certificate.signature_algorithm(),
        key_usages: certificate.key_usages(),
        faults: certificate.faults(),
        identifiers: (certificate.ski().map(<[u8]>::to_vec), certificate.aki().map(<[u8]>::to_vec)),
    }
}

fn find(
    files: &mut Files<'_>,
    dir: &Path,
    on_host: &Path,
    instance: &Instance<'_>,
) -> (Option<crate::model::check::evidence::KubeconfigFacts>, Found) {
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
            let bundle = bundle.map(|b| root.join(b));
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

/// Who signed each certificate.
fn signers(
    instances: &[Instance<'_>],
    found: &[Found],
    trust: &BTreeMap<(PathBuf, &'static str), Trust>,
) -> Vec<Option<Signer>> {
    let authorities: Vec<usize> =
        (0..instances.len()).filter(|i| instances[*i].spec.is_ca()).collect();
    let by_id: HashMap<&str, usize> =
        authorities.iter().map(|i| (instances[*i].spec.id, *i)).collect();
    // During a rotation what the old CA signed is as right as what the new one did.
    let rotating: HashMap<&str, Vec<Certificate>> = trust
        .iter()
        .filter(|((root, _), _)| root.as_os_str().is_empty())
        .filter_map(|((_, id), trust)| {
            let all = trust.certificates.present()?;
            let read = all.iter().filter_map(|c| Certificate::from_der(c.der.clone()).ok());
            Some((*id, read.collect()))
        })
        .collect();
    instances
        .iter()
        .zip(found)
        .map(|(instance, one)| {
            let (leaf, issuer) = (one.first()?, instance.issuer?);
            let expected = by_id.get(issuer).and_then(|i| found[*i].certificates.present());
            let Some(expected) = expected else { return Some(Signer::NoCa) };
            let old = rotating.get(issuer).map(Vec::as_slice).unwrap_or_default();
            Some(signer(leaf, expected, old, &authorities, found))
        })
        .collect()
}

fn signer(
    leaf: &Certificate,
    expected: &[Certificate],
    old: &[Certificate],
    authorities: &[usize],
    found: &[Found],
) -> Signer {
    let named = |ca: &Certificate| leaf.issuer() == ca.subject();
    let by_key = |ca: &&Certificate| leaf.signed_by(ca);
    if expected.iter().chain(old).any(|ca| named(ca) && by_key(&ca)) {
        return Signer::Expected;
    }
    // What nothing here verifies any more is judged by its name; that it is weak is a finding itself.
    let lower = leaf.signature_algorithm().to_ascii_lowercase();
    let weak = lower.contains("sha1") || lower.contains("md5");
    let weak_key = |ca: &Certificate| matches!(ca.algorithm(), Some(crate::model::algorithm::KeyAlgorithm::Rsa(bits)) if bits < 2048);
    if expected.iter().any(|ca| named(ca) && (weak || weak_key(ca))) {
        return Signer::Expected;
    }
    if expected.iter().find(by_key).is_some() {
        return Signer::NameDiffers;
    }
    for &index in authorities {
        if found[index].first().is_some_and(|ca| named(ca) && by_key(&ca)) {
            return Signer::Other(index);
        }
    }
    if leaf.is_self_signed() {
        Signer::Itself
    } else if expected.iter().any(named) {
        Signer::Namesake
    } else {
        Signer::Unknown
    }
}

/// Whether what each kubeconfig trusts vouches for the apiserver it talks to.
fn verify_servers(instances: &[Instance<'_>], held: &mut [Held]) {
    let servers: Vec<usize> =
        (0..held.len()).filter(|i| instances[*i].spec.id == "apiserver").collect();
    let sound = |held: &[Held], i: usize| matches!(held[i].signer, Some(Signer::Expected));
    for index in 0..held.len() {
        let Some(kubeconfig) = &held[index].kubeconfig else { continue };
        let Some(trusted) = kubeconfig.authorities.present() else { continue };
        let local = is_local(instances[index].spec);
        let server = servers
            .iter()
            .copied()
            .find(|s| sound(held, *s) && (!local || instances[*s].root == instances[index].root));
        let Some(server) = server else { continue };
        let Some(shown) = held[server].certificates.present() else { continue };
        let vouches = shown.iter().any(|cert| {
            trusted.iter().any(|anchor| {
                cert.view.fingerprint == anchor.view.fingerprint
                    || (cert.view.issuer == anchor.view.profile.subject && signed(cert, anchor))
            })
        });
        if let Some(kubeconfig) = &mut held[index].kubeconfig {
            kubeconfig.verifies_server = Some(vouches);
        }
    }
}

fn signed(cert: &CertFacts, by: &CertFacts) -> bool {
    match (Certificate::from_der(cert.der.clone()), Certificate::from_der(by.der.clone())) {
        (Ok(cert), Ok(by)) => cert.signed_by(&by),
        _ => false,
    }
}

fn key_pairs(files: &mut Files<'_>, cluster: &Cluster) -> Vec<HeldKeyPair> {
    let mut pairs = Vec::new();
    for spec in cluster.key_pairs() {
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

/// The copies of a workspace that are not like their originals. Those are read once.
fn stale(files: &mut Files<'_>, cluster: &Cluster) -> Vec<StaleCopy> {
    let mut originals: HashMap<PathBuf, Piece<Zeroizing<Vec<u8>>>> = HashMap::new();
    let mut stale = Vec::new();
    for copy in cluster.copies() {
        let original = originals.entry(copy.from.clone()).or_insert_with(|| files.read(&copy.from));
        // A CA's key that is kept elsewhere cannot be compared with.
        let Piece::Present(original) = original else { continue };
        let missing = match files.read(&copy.to) {
            Piece::Present(content) if content == *original => continue,
            Piece::Missing => true,
            Piece::Present(_) | Piece::Bad(_) => false,
        };
        stale.push(StaleCopy { copy: copy.to, original: copy.from, missing });
    }
    stale
}
