//! Observing: from files to an inventory, and to the keys and CAs that issuing needs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    config_file::{self, Configs},
    declared,
    flags::FlagsError,
    read,
};
use crate::{
    document::kubeconfig::{self, Material},
    model::{
        cluster::Cluster,
        inventory::{
            CertView, FileContent, Inventory, KeyView, KubeconfigView, Observed, ObservedFile,
            ObservedKeyPair, Piece,
        },
        layout::{Copy, Instance, Layout, Place},
        plan::init::{request_file, request_key_file},
        shown::quoted,
    },
    pki::{
        inspect::{self, Certificate},
        key::{CaKey, PrivateKey, PublicKey},
    },
};

/// What was observed, and the secrets that go with it.
pub struct Observation {
    /// As plain data.
    pub inventory: Inventory,
    /// The CAs: certificates (the signer first) and key, by the index of their instance.
    pub authorities: BTreeMap<usize, Authority>,
    /// The keys of leaves, by the index of their instance.
    pub keys: BTreeMap<usize, PrivateKey>,
    /// The leaves, each with what follows it in its file, by the index of their instance.
    pub leaves: BTreeMap<usize, Vec<Certificate>>,
    /// The private keys of key pairs, by their index.
    pub key_pairs: BTreeMap<usize, PrivateKey>,
    /// What configuration files are to hold, in the order of [`Layout::config_files`].
    pub configs: Vec<Arc<str>>,
}

impl Observation {
    /// The same with components' configuration files.
    pub fn with_configs(mut self, layout: &Layout<'_>, dir: &Path) -> Result<Self, FlagsError> {
        let Configs { observed, texts } = config_file::observe(layout, dir)?;
        self.inventory.configs = observed;
        self.configs = texts;
        Ok(self)
    }
}

/// A CA that was read.
pub struct Authority {
    /// Its certificates, the signer first.
    pub certificates: Vec<Certificate>,
    /// Its key, where it is here.
    pub key: Option<CaKey>,
}

/// Reads everything the cluster lays out under DIR.
pub fn observe(layout: &Layout<'_>, dir: &Path) -> Observation {
    let cluster = layout.cluster;
    let mut observation = Observation {
        inventory: Inventory::default(),
        authorities: BTreeMap::new(),
        keys: BTreeMap::new(),
        leaves: BTreeMap::new(),
        key_pairs: BTreeMap::new(),
        configs: Vec::new(),
    };
    let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, instance) in layout.instances.iter().enumerate() {
        let found = find(cluster, dir, instance);
        let certificates = match &found.certificates {
            Piece::Present(all) => all.as_slice(),
            Piece::Missing | Piece::Bad(_) => &[],
        };
        let signed_by_issuer = instance
            .issuer
            .and_then(|issuer| by_id.get(issuer))
            .and_then(|above| observation.authorities.get(above))
            .zip(certificates.first())
            .map(|(ca, leaf)| ca.certificates.iter().any(|c| leaf.signed_by(c)));
        observation.inventory.instances.push(Observed {
            place: found.place,
            certificates: view_all(&found.certificates),
            key: key_view(&found.key, certificates.first()),
            kubeconfig: found.kubeconfig,
            signed_by_issuer,
            requested: dir.join(request_file(instance)).exists()
                && dir.join(request_key_file(instance)).exists(),
        });
        let key = match found.key {
            Piece::Present(key) => Some(key),
            Piece::Missing | Piece::Bad(_) => None,
        };
        if !instance.spec.is_ca() {
            if let Some(CaKey::Clear(key)) = key {
                observation.keys.insert(index, key);
            }
            if let Piece::Present(all) = found.certificates {
                observation.leaves.insert(index, all);
            }
        } else if let Piece::Present(certificates) = found.certificates {
            observation.authorities.insert(index, Authority { certificates, key });
            by_id.insert(instance.spec.id, index);
        }
    }
    for (index, spec) in layout.key_pairs.iter().enumerate() {
        let private = read_as(&dir.join(spec.private), PrivateKey::from_pem);
        observation.inventory.key_pairs.push(ObservedKeyPair {
            private: match &private {
                Piece::Present(key) => Piece::Present(clear_view(key)),
                Piece::Missing => Piece::Missing,
                Piece::Bad(why) => Piece::Bad(why.clone()),
            },
            public: read_as(&dir.join(spec.public), |pem| {
                PublicKey::all_from_pem(pem)
                    .map(|keys| keys.iter().map(|key| key.der().to_vec()).collect())
            }),
        });
        if let Piece::Present(key) = private {
            observation.key_pairs.insert(index, key);
        }
    }
    for derived in &layout.derived {
        let certificates = read_as(&dir.join(&derived.path), inspect::from_pem);
        let content = match view_all(&certificates) {
            Piece::Present(views) => Piece::Present(FileContent::Certificates(views)),
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why),
        };
        observation.inventory.derived.push(ObservedFile { path: derived.path.clone(), content });
    }
    observe_copies(&layout.copies, dir, &mut observation.inventory);
    observation.inventory.declared = dir.join(declared::FILE).exists();
    observation
}

/// Copies are compared with originals read once: a thousand hosts have the same bundle.
fn observe_copies(copies: &[Copy], dir: &Path, inventory: &mut Inventory) {
    let mut originals: BTreeMap<PathBuf, Piece<Zeroizing<Vec<u8>>>> = BTreeMap::new();
    for copy in copies {
        let original =
            originals.entry(copy.from.clone()).or_insert_with(|| read::file(&dir.join(&copy.from)));
        let content = match read::file(&dir.join(&copy.to)) {
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why),
            Piece::Present(content) => {
                let same = original.present().is_some_and(|o| **o == *content);
                Piece::Present(FileContent::Copy { same })
            }
        };
        inventory.copies.push(ObservedFile { path: copy.to.clone(), content });
    }
}

/// One instance as it was found, with its secrets.
struct Found {
    place: Place,
    certificates: Piece<Vec<Certificate>>,
    key: Piece<CaKey>,
    kubeconfig: Piece<KubeconfigView>,
}

fn find(cluster: &Cluster, dir: &Path, instance: &Instance<'_>) -> Found {
    match &instance.place {
        Place::Pair { cert, key } => {
            let (certificates, key) = pair(dir, cert, key);
            let certificates = match instance.spec.is_ca() {
                true => signer_first(certificates, &key),
                false => certificates,
            };
            let place = instance.place.clone();
            Found { place, certificates, key, kubeconfig: Piece::Missing }
        }
        Place::Named { cert, key, kubeconfig } => in_kubeconfig(cluster, dir, instance, kubeconfig)
            .unwrap_or_else(|bad| {
                let (certificates, key) = pair(dir, cert, key);
                Found { place: instance.place.clone(), certificates, key, kubeconfig: bad }
            }),
        Place::Embedded { kubeconfig } => in_kubeconfig(cluster, dir, instance, kubeconfig)
            .unwrap_or_else(|kubeconfig| Found {
                place: instance.place.clone(),
                certificates: Piece::Missing,
                key: Piece::Missing,
                kubeconfig,
            }),
    }
}

/// Reads a certificate and its key. A key without its public half gets it from the certificate.
fn pair(dir: &Path, cert: &Path, key: &Path) -> (Piece<Vec<Certificate>>, Piece<CaKey>) {
    let content = read::file(&dir.join(cert));
    let certificates = match &content {
        Piece::Present(pem) => parsed(inspect::from_pem(pem)),
        Piece::Missing => Piece::Missing,
        Piece::Bad(why) => Piece::Bad(why.clone()),
    };
    let key_content = if cert == key { content } else { read::file(&dir.join(key)) };
    let key = match key_content {
        Piece::Present(pem) => parse_key(&pem, certificates.present().and_then(|all| all.first())),
        Piece::Missing => Piece::Missing,
        Piece::Bad(why) => Piece::Bad(why),
    };
    (certificates, key)
}

fn parse_key(pem: &[u8], certificate: Option<&Certificate>) -> Piece<CaKey> {
    parsed(CaKey::from_pem(pem, certificate))
}

/// A CA's files by themselves, as [`observe`] finds them, and its certificates.
pub fn authority(dir: &Path, cert: &Path, key: &Path) -> (Observed, Vec<Certificate>) {
    let (certificates, found) = pair(dir, cert, key);
    let certificates = signer_first(certificates, &found);
    let observed = Observed {
        place: Place::Pair { cert: cert.to_path_buf(), key: key.to_path_buf() },
        certificates: view_all(&certificates),
        key: key_view(&found, certificates.present().and_then(|all| all.first())),
        kubeconfig: Piece::Missing,
        signed_by_issuer: None,
        requested: false,
    };
    let certificates = match certificates {
        Piece::Present(all) => all,
        Piece::Missing | Piece::Bad(_) => Vec::new(),
    };
    (observed, certificates)
}

/// Of the certificates in a CA's file the one that its key belongs to signs; kubeadm takes the first.
fn signer_first(
    certificates: Piece<Vec<Certificate>>,
    key: &Piece<CaKey>,
) -> Piece<Vec<Certificate>> {
    let Piece::Present(mut all) = certificates else { return certificates };
    if let Some(CaKey::Clear(key)) = key.present()
        && let Some(signer) = all.iter().position(|c| c.public_key() == key.public_key())
    {
        all[..=signer].rotate_right(1);
    }
    Piece::Present(all)
}

/// What a kubeconfig holds or names. Without a kubeconfig to follow: its state.
fn in_kubeconfig(
    cluster: &Cluster,
    dir: &Path,
    instance: &Instance<'_>,
    file: &Path,
) -> Result<Found, Piece<KubeconfigView>> {
    let content = match read::file(&dir.join(file)) {
        Piece::Present(content) => content,
        Piece::Missing => return Err(Piece::Missing),
        Piece::Bad(why) => return Err(Piece::Bad(why)),
    };
    let bad = |why: String| Piece::Bad(why);
    let view = kubeconfig::parse(&content).map_err(|error| bad(with_causes(&error)))?;
    let no = |what: &str| bad(format!("its current context names no {what} that is in it"));
    let user = view.user(None).ok_or_else(|| no("user"))?;
    let authority = view.cluster(None).ok_or_else(|| no("cluster"))?;
    let here = |path: &str| in_tree(cluster, dir, instance, file, Path::new(path));
    let (authorities, authority_file) = match &authority.ca {
        Some(Material::Data(pem)) => (parsed(inspect::from_pem(pem)), None),
        Some(Material::File(path)) => {
            let path = here(path);
            (read_as(&dir.join(&path), inspect::from_pem), Some(path))
        }
        None => (Piece::Bad("is not there: it trusts the system's roots".into()), None),
    };
    let kubeconfig = Piece::Present(KubeconfigView {
        authorities: match view_all(&authorities) {
            Piece::Bad(why) => Piece::Bad(match &authority_file {
                Some(path) => format!("its CA file {} {why}", path.display()),
                None => format!("its CA data {why}"),
            }),
            other => other,
        },
        authority_file,
        server: authority.server.clone(),
    });
    let file = file.to_path_buf();
    match (&user.cert, &user.key) {
        (Some(Material::Data(cert)), key) => {
            let certificates = parsed(inspect::from_pem(cert));
            let key = match key {
                Some(Material::Data(pem)) => {
                    parse_key(pem, certificates.present().and_then(|all| all.first()))
                }
                Some(Material::File(_)) | None => Piece::Missing,
            };
            Ok(Found { place: Place::Embedded { kubeconfig: file }, certificates, key, kubeconfig })
        }
        (Some(Material::File(cert)), Some(Material::File(key))) => {
            let (cert, key) = (here(cert), here(key));
            let (certificates, found) = pair(dir, &cert, &key);
            let place = Place::Named { cert, key, kubeconfig: file };
            Ok(Found { place, certificates, key: found, kubeconfig })
        }
        _ => Err(bad(format!("user {} has no client certificate and key", quoted(&user.name)))),
    }
}

/// Where a path that a kubeconfig names is: below DIR if it is the host's own tree, else as it says. A
/// relative one counts from the kubeconfig's folder, as client-go does.
fn in_tree(
    cluster: &Cluster,
    dir: &Path,
    instance: &Instance<'_>,
    kubeconfig: &Path,
    path: &Path,
) -> PathBuf {
    if path.is_relative() {
        return kubeconfig.parent().unwrap_or(Path::new("")).join(path);
    }
    match path.strip_prefix(cluster.dir_on(instance.host, dir)) {
        Ok(inside) => instance.root.join(inside),
        Err(_) => path.to_path_buf(),
    }
}

fn read_as<T, E: std::error::Error>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Piece<T> {
    match read::file(path) {
        Piece::Present(content) => parsed(parse(&content)),
        Piece::Missing => Piece::Missing,
        Piece::Bad(why) => Piece::Bad(why),
    }
}

fn parsed<T, E: std::error::Error>(result: Result<T, E>) -> Piece<T> {
    match result {
        Ok(value) => Piece::Present(value),
        Err(error) => Piece::Bad(with_causes(&error)),
    }
}

/// An error with all its causes in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn view_all(certificates: &Piece<Vec<Certificate>>) -> Piece<Vec<CertView>> {
    match certificates {
        Piece::Present(all) => Piece::Present(all.iter().map(view).collect()),
        Piece::Missing => Piece::Missing,
        Piece::Bad(why) => Piece::Bad(why.clone()),
    }
}

/// A certificate as plain data.
pub fn view(certificate: &Certificate) -> CertView {
    CertView {
        profile: certificate.profile(),
        issuer: certificate.issuer().clone(),
        serial: certificate.serial_hex(),
        validity: certificate.validity(),
        public_key: certificate.public_key().der().to_vec(),
        algorithm: certificate.algorithm(),
        fingerprint: certificate.fingerprint_hex(),
        self_signed: certificate.is_self_signed(),
    }
}

/// A key as plain data. Of one that is encrypted nothing is known but what the certificate beside it says,
/// which is proven when it is opened; only a CA's may be.
fn key_view(key: &Piece<CaKey>, certificate: Option<&Certificate>) -> Piece<KeyView> {
    match (key, certificate) {
        (Piece::Missing, _) => Piece::Missing,
        (Piece::Bad(why), _) => Piece::Bad(why.clone()),
        (Piece::Present(CaKey::Clear(key)), _) => Piece::Present(clear_view(key)),
        (Piece::Present(CaKey::Sealed(_)), Some(certificate)) if certificate.is_ca() => {
            match certificate.algorithm() {
                Some(algorithm) => {
                    let public_key = certificate.public_key().der().to_vec();
                    Piece::Present(KeyView { public_key, algorithm, is_sealed: true })
                }
                None => Piece::Bad("is encrypted, and of a kind that certkit cannot use".into()),
            }
        }
        (Piece::Present(CaKey::Sealed(_)), Some(_)) => Piece::Bad(
            "is encrypted, which no component can read (openssl pkey -in FILE -out FILE.clear)"
                .into(),
        ),
        (Piece::Present(CaKey::Sealed(_)), None) => {
            Piece::Bad("is encrypted, and the certificate it belongs to is not there".into())
        }
    }
}

fn clear_view(key: &PrivateKey) -> KeyView {
    KeyView {
        public_key: key.public_key().der().to_vec(),
        algorithm: key.algorithm(),
        is_sealed: false,
    }
}
