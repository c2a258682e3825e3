//! Applying: everything a plan makes is made in memory first, then handed to the store as one
//! transaction.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{declared, observe, observe::Observation};
use crate::{
    document::{
        self,
        kubeconfig::{Authority as Trust, Credential, Kubeconfig},
    },
    model::{
        catalogue::{ApiServer, Home},
        cluster::{API_PORT, Cluster, Endpoint},
        inventory::Piece,
        layout::{Instance, PUBLIC, Place, SECRET},
        plan::{
            Action, KeyChoice, Plan, Step,
            init::{request_file, request_key_file},
        },
        resolve,
        san::San,
        timestamp::Timestamp,
    },
    pki::{
        inspect::Certificate,
        issue::{self, IssueError, Issuer, Order},
        key::{KeyError, KeyFormat, PrivateKey},
        pem,
    },
    store::Transaction,
};

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or request.
    #[error("cannot issue {label}")]
    Issue {
        /// Which.
        label: String,
        /// Why.
        source: IssueError,
    },
    /// A key.
    #[error("cannot make a key for {label}")]
    Key {
        /// For what.
        label: String,
        /// Why.
        source: KeyError,
    },
    /// Something the plan counts on is not there: the disk changed between observing and applying.
    #[error("{label}: what it is made from is gone; the files changed meanwhile")]
    Gone {
        /// Which.
        label: String,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Issue { source, .. } => source.hint(),
            Self::Key { source, .. } => source.hint(),
            Self::Gone { .. } => Some("run it again".into()),
        }
    }
}

/// What will be written, and what to tell of it.
pub struct Prepared {
    /// The change.
    pub transaction: Transaction,
    /// Certificates whose term was cut to their CA's: label and new end.
    pub clamped: Vec<(String, Timestamp)>,
    /// Every certificate that was issued.
    pub issued: Vec<Record>,
}

/// A certificate that was issued, for the log and for people.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is.
    pub label: String,
    /// Its files, relative to DIR.
    pub files: Vec<PathBuf>,
    /// SHA-256 in hexadecimal.
    pub fingerprint: String,
    /// Its end.
    pub not_after: Timestamp,
    /// Why it was issued.
    pub reason: String,
}

/// Makes everything in memory.
pub fn prepare(
    plan: &Plan,
    cluster: &Cluster,
    observation: Observation,
    dir: &Path,
    now: Timestamp,
) -> Result<Prepared, Error> {
    let instances = cluster.instances();
    let mut context = Context {
        cluster,
        instances: &instances,
        authorities: BTreeMap::new(),
        keys: observation.keys,
        places: observation.inventory.instances.into_iter().map(|o| o.place).collect(),
        dir,
        now,
    };
    for (index, observe::Authority { certificates, key }) in observation.authorities {
        let label = || instances[index].label();
        let signer = certificates.first().cloned().zip(key);
        let issuer = signer
            .map(|(certificate, key)| Issuer::new(certificate, key))
            .transpose()
            .map_err(|source| Error::Issue { label: label(), source })?;
        context.authorities.insert(instances[index].spec.id, Authority { certificates, issuer });
    }
    // CAs first and one after the other, as they sign each other; then leaves on all cores.
    let mut products: BTreeMap<usize, Product> = BTreeMap::new();
    let mut leaves = Vec::new();
    for step in plan.changes() {
        let Some((index, key)) = issued(step) else { continue };
        if !instances[index].spec.is_ca() {
            leaves.push((index, key, matches!(step.action, Action::Request { .. })));
            continue;
        }
        let product = context.make_authority(index, key, &step.action)?;
        products.insert(index, product);
    }
    products.extend(context.make_leaves(&leaves)?);
    let mut output = Output {
        prepared: Prepared {
            transaction: Transaction::new(&now.to_compact()),
            clamped: Vec::new(),
            issued: Vec::new(),
        },
        originals: BTreeMap::new(),
        key_pairs: observation.key_pairs,
        bundles: BTreeMap::new(),
    };
    for step in plan.changes() {
        context.write(step, &products, &mut output)?;
    }
    Ok(output.prepared)
}

/// The instance that a step issues or requests, and its key.
fn issued(step: &Step) -> Option<(usize, KeyChoice)> {
    match step.action {
        Action::Issue { instance, key } | Action::Request { instance, key } => {
            Some((instance, key))
        }
        _ => None,
    }
}

struct Context<'a> {
    cluster: &'a Cluster,
    instances: &'a [Instance<'a>],
    /// CAs by id, observed or just made.
    authorities: BTreeMap<&'static str, Authority>,
    /// Keys of leaves that are there.
    keys: BTreeMap<usize, PrivateKey>,
    /// Where each instance really is.
    places: Vec<Place>,
    dir: &'a Path,
    now: Timestamp,
}

/// A CA: its certificates, the signer first, and with its key what signs.
struct Authority {
    certificates: Vec<Certificate>,
    issuer: Option<Issuer>,
}

/// What was made for one instance.
struct Product {
    /// The key as PEM, to be written; none where the existing one stays.
    key: Option<Zeroizing<String>>,
    /// The key as PEM when both live in one file and the existing one stays.
    kept_key: Option<Zeroizing<String>>,
    made: Made,
}

enum Made {
    /// The certificates for the file: the new one, then its issuers where they belong.
    Certificate { certificate: Certificate, chain: Vec<Certificate>, clamped: bool },
    /// A certificate request, DER.
    Request(Vec<u8>),
}

/// What is being put together.
struct Output {
    prepared: Prepared,
    /// Content of files that others are copies of.
    originals: BTreeMap<PathBuf, Zeroizing<Vec<u8>>>,
    key_pairs: BTreeMap<usize, PrivateKey>,
    /// What verifiers trust, by CA: read once.
    bundles: BTreeMap<&'static str, String>,
}

impl Context<'_> {
    fn make_authority(
        &mut self,
        index: usize,
        choice: KeyChoice,
        action: &Action,
    ) -> Result<Product, Error> {
        let instance = &self.instances[index];
        let error = |source| Error::Issue { label: instance.label(), source };
        let key = match choice {
            KeyChoice::New => self.generate(instance)?,
            // No plan keeps a CA's key for a new certificate.
            KeyChoice::Existing => return Err(Error::Gone { label: instance.label() }),
        };
        let pem = key.to_pem(KeyFormat::Traditional);
        let profile = resolve::profile(instance, self.cluster);
        let validity = resolve::validity(instance, self.cluster, self.now);
        let made = match (instance.issuer, action) {
            (_, Action::Request { .. }) => {
                Made::Request(issue::csr(&profile, &key).map_err(error)?)
            }
            (None, _) => {
                let certificate = issue::self_signed(&profile, validity, &key).map_err(error)?;
                Made::Certificate { certificate, chain: vec![], clamped: false }
            }
            (Some(above), _) => {
                let order = Order { profile: &profile, validity, public_key: key.public_key() };
                let issued = issue::issue(&order, self.issuer(above, instance)?).map_err(error)?;
                let issue::Issued { certificate, clamped } = issued;
                Made::Certificate { certificate, chain: vec![], clamped }
            }
        };
        if let Made::Certificate { certificate, .. } = &made {
            let certificates = vec![certificate.clone()];
            let issuer = Some(Issuer::new(certificate.clone(), key).map_err(error)?);
            self.authorities.insert(instance.spec.id, Authority { certificates, issuer });
        }
        Ok(Product { key: Some(pem), kept_key: None, made })
    }

    /// Makes leaves on as many threads as there are cores; a few are not worth a thread.
    fn make_leaves(
        &self,
        leaves: &[(usize, KeyChoice, bool)],
    ) -> Result<Vec<(usize, Product)>, Error> {
        let make = |leaves: &[(usize, KeyChoice, bool)]| {
            let made = leaves.iter().map(|(index, key, request)| {
                self.make_leaf(*index, *key, *request).map(|product| (*index, product))
            });
            made.collect::<Result<Vec<_>, Error>>()
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = leaves.len().div_ceil(threads).max(32);
        if leaves.len() <= share {
            return make(leaves);
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                leaves.chunks(share).map(|chunk| scope.spawn(move || make(chunk))).collect();
            let mut all = Vec::with_capacity(leaves.len());
            for worker in workers {
                match worker.join() {
                    Ok(result) => all.extend(result?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(all)
        })
    }

    fn make_leaf(&self, index: usize, choice: KeyChoice, request: bool) -> Result<Product, Error> {
        let instance = &self.instances[index];
        let error = |source| Error::Issue { label: instance.label(), source };
        let fresh = match choice {
            KeyChoice::New => Some(self.generate(instance)?),
            KeyChoice::Existing => None,
        };
        let key = fresh.as_ref().or_else(|| self.keys.get(&index)).ok_or_else(|| gone(instance))?;
        let profile = resolve::profile(instance, self.cluster);
        let made = if request {
            Made::Request(issue::csr(&profile, key).map_err(error)?)
        } else {
            let above = instance.issuer.ok_or_else(|| gone(instance))?;
            let validity = resolve::validity(instance, self.cluster, self.now);
            let order = Order { profile: &profile, validity, public_key: key.public_key() };
            let issued = issue::issue(&order, self.issuer(above, instance)?).map_err(error)?;
            let issue::Issued { certificate, clamped } = issued;
            Made::Certificate { certificate, chain: self.chain(instance, above), clamped }
        };
        let combined = self.places[index].cert() == self.places[index].key();
        Ok(Product {
            key: fresh.as_ref().map(|key| key.to_pem(KeyFormat::Traditional)),
            kept_key: self
                .keys
                .get(&index)
                .filter(|_| fresh.is_none() && (combined || request))
                .map(|key| key.to_pem(key.format())),
            made,
        })
    }

    /// The intermediates that a server must send, so that clients that trust only the root above them can
    /// verify it. Roots are never sent.
    fn chain(&self, instance: &Instance<'_>, above: &str) -> Vec<Certificate> {
        let Some(authority) = self.authorities.get(above).filter(|_| instance.spec.is_server())
        else {
            return Vec::new();
        };
        authority.certificates.iter().filter(|c| !c.is_self_issued()).cloned().collect()
    }

    fn generate(&self, instance: &Instance<'_>) -> Result<PrivateKey, Error> {
        PrivateKey::generate(self.cluster.algorithm_of(instance.spec.id))
            .map_err(|source| Error::Key { label: instance.label(), source })
    }

    fn issuer(&self, id: &str, wanting: &Instance<'_>) -> Result<&Issuer, Error> {
        let authority = self.authorities.get(id);
        authority.and_then(|a| a.issuer.as_ref()).ok_or_else(|| gone(wanting))
    }

    /// Adds what a step writes to the transaction.
    fn write(
        &self,
        step: &Step,
        products: &BTreeMap<usize, Product>,
        output: &mut Output,
    ) -> Result<(), Error> {
        let lost = || Error::Gone { label: step.label.clone() };
        match step.action {
            Action::Keep => {}
            Action::Declare => {
                let text = document::write(self.cluster);
                output.prepared.transaction.write(declared::FILE, text, PUBLIC);
            }
            Action::Issue { instance, .. } | Action::Request { instance, .. } => {
                let product = products.get(&instance).ok_or_else(lost)?;
                self.write_product(instance, product, step, output)?;
            }
            Action::Refer(instance) => {
                let place = &self.places[instance];
                let (cert, key) = (place.cert(), place.key());
                let credential = Credential::Files {
                    cert: self.on_host(instance, cert),
                    key: self.on_host(instance, key),
                };
                let kubeconfig = place.kubeconfig().ok_or_else(lost)?;
                let content = self.kubeconfig(instance, credential, output)?;
                output.prepared.transaction.write(kubeconfig, content, SECRET);
            }
            Action::Derive(index) => {
                let derived = self.cluster.derived();
                let derived = derived.get(index).ok_or_else(lost)?;
                let instance = &self.instances[derived.authority];
                let authority = self.authorities.get(instance.spec.id).ok_or_else(lost)?;
                let mut text = to_pem(&authority.certificates);
                if derived.is_chain
                    && let Some(above) = instance.issuer.and_then(|id| self.authorities.get(id))
                {
                    text.push_str(&to_pem(&above.certificates));
                }
                output.put(&derived.path, text.into_bytes().into(), PUBLIC);
            }
            Action::GenerateKeyPair(index) => {
                let spec = self.cluster.key_pairs().nth(index).ok_or_else(lost)?;
                let key = PrivateKey::generate(self.cluster.algorithm_of(spec.id))
                    .map_err(|source| Error::Key { label: spec.id.into(), source })?;
                let pem = key.to_pem(KeyFormat::Traditional);
                output.put(Path::new(spec.private), secret(&pem), SECRET);
                let public = key.public_key().to_pem().into_bytes().into();
                output.put(Path::new(spec.public), public, PUBLIC);
            }
            Action::PublishKey(index) => {
                let spec = self.cluster.key_pairs().nth(index).ok_or_else(lost)?;
                let key = output.key_pairs.get(&index).ok_or_else(lost)?;
                let public = key.public_key().to_pem().into_bytes().into();
                output.put(Path::new(spec.public), public, PUBLIC);
            }
            Action::Copy(_) => {
                // One file, from the path in its label to its own.
                let (from, to) = (PathBuf::from(&step.label), &step.files[0]);
                if !output.originals.contains_key(&from) {
                    let content = match super::read::file(&self.dir.join(&from)) {
                        Piece::Present(content) => content,
                        Piece::Missing | Piece::Bad(_) => return Err(lost()),
                    };
                    output.originals.insert(from.clone(), content);
                }
                let content = output.originals[&from].clone();
                let mode =
                    if from.extension().is_some_and(|e| e == "key") { SECRET } else { PUBLIC };
                output.prepared.transaction.write(to, content, mode);
            }
        }
        Ok(())
    }

    fn write_product(
        &self,
        index: usize,
        product: &Product,
        step: &Step,
        output: &mut Output,
    ) -> Result<(), Error> {
        let instance = &self.instances[index];
        let place = &self.places[index];
        let (certificate, chain, clamped) = match &product.made {
            Made::Certificate { certificate, chain, clamped } => (certificate, chain, *clamped),
            Made::Request(der) => {
                let text = pem::encode("CERTIFICATE REQUEST", der);
                let transaction = &mut output.prepared.transaction;
                transaction.write(request_file(instance), text, PUBLIC);
                if let Some(key) = product.key.as_ref().or(product.kept_key.as_ref()) {
                    transaction.write(request_key_file(instance), secret(key), SECRET);
                }
                return Ok(());
            }
        };
        let mut text = certificate.to_pem();
        text.push_str(&to_pem(chain));
        let key = product.key.as_ref().or(product.kept_key.as_ref());
        match place {
            Place::Embedded { kubeconfig } => {
                let key = key.ok_or_else(|| gone(instance))?;
                let credential = Credential::Data { cert: text.into_bytes(), key: secret(key) };
                let content = self.kubeconfig(index, credential, output)?;
                output.prepared.transaction.write(kubeconfig, content, SECRET);
            }
            _ if place.cert() == place.key() => {
                let key = key.ok_or_else(|| gone(instance))?;
                let mut both = Zeroizing::new(text.into_bytes());
                both.extend_from_slice(key.as_bytes());
                output.prepared.transaction.write(place.cert(), both, SECRET);
            }
            Place::Pair { cert, key: key_file } | Place::Named { cert, key: key_file, .. } => {
                if let Some(key) = &product.key {
                    output.put(key_file, secret(key), SECRET);
                }
                output.put(cert, text.into_bytes().into(), PUBLIC);
            }
        }
        if clamped {
            let end = certificate.validity().not_after;
            output.prepared.clamped.push((instance.label(), end));
        }
        output.prepared.issued.push(Record {
            label: instance.label(),
            files: step.files.clone(),
            fingerprint: certificate.fingerprint_hex(),
            not_after: certificate.validity().not_after,
            reason: step.reason.to_string(),
        });
        Ok(())
    }

    fn kubeconfig(
        &self,
        index: usize,
        credential: Credential,
        output: &mut Output,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let instance = &self.instances[index];
        let Home::Kubeconfig { server, .. } = instance.spec.home else {
            return Err(gone(instance));
        };
        let local = instance.host.filter(|h| h.control_plane).and_then(|h| h.address());
        let endpoint = match (server, local) {
            (ApiServer::Local, Some(ip)) => Endpoint { host: San::Ip(ip), port: API_PORT },
            _ => self.cluster.endpoint.clone(),
        };
        let authority = instance.issuer.ok_or_else(|| gone(instance))?;
        let bundle = self.bundle_path(authority).ok_or_else(|| gone(instance))?;
        let trust = match credential {
            Credential::Files { .. } => {
                Trust::File(self.on_host(index, &instance.root.join(&bundle)))
            }
            Credential::Data { .. } => {
                Trust::Data(self.bundle(authority, &bundle, output)?.into_bytes())
            }
        };
        let text = document::kubeconfig::render(&Kubeconfig {
            cluster: self.cluster.name.clone(),
            server: format!("https://{endpoint}"),
            user: resolve::subject(instance, self.cluster).common_name,
            authority: trust,
            credential,
        });
        Ok(secret(&text))
    }

    /// The bundle file of a CA, `/etc/kubernetes`-relative.
    fn bundle_path(&self, id: &str) -> Option<PathBuf> {
        let instance = self.instances.iter().find(|i| i.spec.id == id)?;
        match instance.spec.home {
            Home::Authority { bundle, .. } => bundle.map(PathBuf::from),
            Home::Files { .. } | Home::Kubeconfig { .. } => None,
        }
    }

    /// What is trusted in place of a CA: its bundle where that is there (it may hold more than one
    /// certificate), else the CA itself.
    fn bundle(&self, id: &'static str, path: &Path, output: &mut Output) -> Result<String, Error> {
        if let Some(text) = output.bundles.get(id) {
            return Ok(text.clone());
        }
        let text = match super::read::file(&self.dir.join(path)) {
            Piece::Present(content) => String::from_utf8_lossy(&content).into_owned(),
            Piece::Missing | Piece::Bad(_) => {
                let authority =
                    self.authorities.get(id).ok_or_else(|| Error::Gone { label: id.into() })?;
                to_pem(&authority.certificates)
            }
        };
        output.bundles.insert(id, text.clone());
        Ok(text)
    }

    /// The path that a file relative to DIR has on its host.
    fn on_host(&self, index: usize, path: &Path) -> String {
        let root = &self.instances[index].root;
        let inside = path.strip_prefix(root).unwrap_or(path);
        observe::host_dir(self.cluster, self.dir).join(inside).display().to_string()
    }
}

impl Output {
    /// Writes a file that others may be copies of.
    fn put(&mut self, path: &Path, content: Zeroizing<Vec<u8>>, mode: u32) {
        if !path.starts_with("hosts") {
            self.originals.insert(path.to_path_buf(), content.clone());
        }
        self.prepared.transaction.write(path, content, mode);
    }
}

fn gone(instance: &Instance<'_>) -> Error {
    Error::Gone { label: instance.label() }
}

fn secret(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn to_pem(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::to_pem).collect()
}
