//! From what was made to a transaction: which file gets which content.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Context, Error, Made, Output, Product, Record, gone, secret, to_pem};
use crate::{
    document::{
        self,
        kubeconfig::{Authority as Trust, Credential, Edit, Kubeconfig, Material},
    },
    model::{
        catalogue::Home,
        inventory::Piece,
        layout::{PUBLIC, Place, SECRET},
        plan::{
            Action, KeyChoice, Step,
            init::{request_file, request_key_file},
            rotate::Amendment,
        },
        resolve,
    },
    ops::{declared, read},
    pki::{
        inspect::{self, Certificate},
        key::{KeyFormat, PrivateKey},
        pem,
    },
    store::Transaction,
};

/// The file that a write to `path` really makes: where a credential's file is a link, as the kubelet has it, a
/// new one beside what it points to.
pub fn destination(dir: &Path, path: &Path) -> PathBuf {
    let is_credential = path.extension().is_some_and(|extension| extension == "pem");
    match std::fs::read_link(dir.join(path)) {
        Ok(target) if is_credential => path.parent().unwrap_or(Path::new("")).join(target),
        _ => path.to_path_buf(),
    }
}

impl Context<'_> {
    /// Adds what a step writes to the transaction.
    pub(super) fn write(
        &self,
        step: &Step,
        products: &BTreeMap<usize, Product>,
        output: &mut Output,
    ) -> Result<(), Error> {
        let lost = || Error::Gone { label: step.label.clone() };
        match step.action {
            Action::Keep => {}
            Action::Configure(index) => {
                let text = self.configs.get(index).ok_or_else(lost)?;
                let transaction = &mut output.prepared.transaction;
                transaction.write_keeping_mode(&step.files[0], text.to_string(), PUBLIC);
            }
            Action::Declare(ref text) => {
                let text = text.clone().unwrap_or_else(|| document::write(self.layout.cluster));
                output.prepared.transaction.write_keeping_mode(declared::FILE, text, PUBLIC);
            }
            Action::Amend { instance, ref amendment } => {
                let place = self.place(instance);
                let kubeconfig = place.kubeconfig().ok_or_else(lost)?;
                // With its credential it is written once.
                if matches!(place, Place::Embedded { .. }) && products.contains_key(&instance) {
                    return Ok(());
                }
                let Piece::Present(old) = read::file(&self.dir.join(kubeconfig)) else {
                    return Err(lost());
                };
                let edit = self.amended(instance, amendment, &old, output)?;
                let content = self.edit(kubeconfig, &old, &edit)?;
                output.prepared.transaction.write_keeping_mode(kubeconfig, content, SECRET);
            }
            Action::Issue { instance, .. } | Action::Request { instance, .. } => {
                let product = products.get(&instance).ok_or_else(lost)?;
                self.write_product(instance, product, step, output)?;
            }
            Action::Refer(instance) => {
                let place = self.place(instance);
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
                let derived = self.layout.derived.get(index).ok_or_else(lost)?;
                let instance = &self.layout.instances[derived.authority];
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
                let spec = self.layout.key_pairs.get(index).ok_or_else(lost)?;
                let key = PrivateKey::generate(self.layout.cluster.algorithm_of(spec.id))
                    .map_err(|source| Error::Key { label: spec.id.into(), source })?;
                let pem = key.to_pem(KeyFormat::Traditional);
                output.put(Path::new(spec.private), secret(&pem), SECRET);
                let public = key.public_key().to_pem().into_bytes().into();
                output.put(Path::new(spec.public), public, PUBLIC);
            }
            Action::PublishKey(index) => {
                let spec = self.layout.key_pairs.get(index).ok_or_else(lost)?;
                let key = output.key_pairs.get(&index).ok_or_else(lost)?;
                let public = key.public_key().to_pem().into_bytes().into();
                output.put(Path::new(spec.public), public, PUBLIC);
            }
            Action::Copy(_) => {
                // One file, from the path in its label to its own.
                let (from, to) = (PathBuf::from(&step.label), &step.files[0]);
                if !output.originals.contains_key(&from) {
                    let content = match read::file(&self.dir.join(&from)) {
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
        let instance = &self.layout.instances[index];
        let place = self.place(index);
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
                let content = match read::file(&self.dir.join(kubeconfig)) {
                    Piece::Present(old) => {
                        self.edited(index, kubeconfig, &old, credential, product, output)?
                    }
                    Piece::Missing | Piece::Bad(_) => self.kubeconfig(index, credential, output)?,
                };
                output.prepared.transaction.write_keeping_mode(kubeconfig, content, SECRET);
            }
            _ if place.cert() == place.key() => {
                let key = key.ok_or_else(|| gone(instance))?;
                let mut both = Zeroizing::new(text.into_bytes());
                both.extend_from_slice(key.as_bytes());
                self.combined(place.cert(), both, &mut output.prepared.transaction);
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
            instance: index,
            files: step.files.clone(),
            fingerprint: certificate.fingerprint_hex(),
            replaced: self.inventory.instances[index].certificate().map(|c| c.fingerprint.clone()),
            serial: certificate.serial_hex(),
            key: if product.key.is_some() { KeyChoice::New } else { KeyChoice::Existing },
            not_after: certificate.validity().not_after,
            reason: step.reason.to_string(),
        });
        Ok(())
    }

    /// A certificate and its key in one file. The kubelet keeps dated files and a symlink to the one in use,
    /// and stays in order only if a new one is added the same way (client-go
    /// `util/certificate/certificate_store.go`).
    fn combined(&self, path: &Path, content: Zeroizing<Vec<u8>>, transaction: &mut Transaction) {
        let full = self.dir.join(path);
        let Ok(target) = std::fs::read_link(&full) else {
            transaction.write_keeping_mode(path, content, SECRET);
            return;
        };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.strip_suffix("-current.pem").or(name.strip_suffix(".pem")).unwrap_or(name);
        let dated = target.with_file_name(format!("{stem}-{}.pem", self.now.to_dashes()));
        let folder = path.parent().unwrap_or(Path::new(""));
        // As many seconds on as it takes: a backup must not be needed for what is only added.
        let mut number = 1;
        let mut new = dated.clone();
        while self.dir.join(folder).join(&new).symlink_metadata().is_ok() {
            number += 1;
            new = dated.with_file_name(format!("{stem}-{}-{number}.pem", self.now.to_dashes()));
        }
        // An absolute target stands for itself.
        transaction.write(folder.join(&new), content, SECRET);
        transaction.symlink(path, new);
    }

    /// A kubeconfig with a new credential, and all else in it left alone.
    fn edited(
        &self,
        index: usize,
        path: &Path,
        old: &[u8],
        credential: Credential,
        product: &Product,
        output: &mut Output,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let instance = &self.layout.instances[index];
        let Credential::Data { cert, key } = credential else { return Err(gone(instance)) };
        let mut edit = match self.amendments.get(&index) {
            Some(amendment) => self.amended(index, amendment, old, output)?,
            None => Edit::default(),
        };
        edit.client_certificate_data = Some(cert);
        // A key that stays is not written again: it may be in another form.
        edit.client_key_data = product.key.is_some().then_some(key);
        self.edit(path, old, &edit)
    }

    fn edit(&self, path: &Path, old: &[u8], edit: &Edit) -> Result<Zeroizing<Vec<u8>>, Error> {
        document::kubeconfig::edit(old, edit)
            .map_err(|source| Error::Kubeconfig { path: self.dir.join(path), source })
    }

    /// The edit that brings a kubeconfig up to date. What it trusts so far it goes on trusting.
    fn amended(
        &self,
        index: usize,
        amendment: &Amendment,
        old: &[u8],
        output: &mut Output,
    ) -> Result<Edit, Error> {
        let instance = &self.layout.instances[index];
        let mut edit = Edit { server: amendment.server.clone(), ..Edit::default() };
        if amendment.trust {
            let id = instance.issuer.ok_or_else(|| gone(instance))?;
            let path = self.bundle_path(id).ok_or_else(|| gone(instance))?;
            let mut pem = self.bundle(id, &path, output)?;
            let trusted = certificates(pem.as_bytes());
            let view = document::kubeconfig::parse(old).ok();
            if let Some(Material::Data(there)) =
                view.as_ref().and_then(|view| view.cluster(None)?.ca.as_ref())
            {
                let more = certificates(there);
                let more = more.iter().filter(|c| !trusted.iter().any(|t| t.der() == c.der()));
                pem.extend(more.map(Certificate::to_pem));
            }
            edit.certificate_authority_data = Some((None, pem.into_bytes()));
        }
        Ok(edit)
    }

    fn kubeconfig(
        &self,
        index: usize,
        credential: Credential,
        output: &mut Output,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let instance = &self.layout.instances[index];
        let Home::Kubeconfig { server, .. } = instance.spec.home else {
            return Err(gone(instance));
        };
        let endpoint = self.layout.cluster.server_for(server, instance.host);
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
            cluster: self.layout.cluster.name.clone(),
            server: format!("https://{endpoint}"),
            user: resolve::subject(instance, self.layout.cluster).common_name,
            authority: trust,
            credential,
        });
        Ok(secret(&text))
    }

    /// The file of what is trusted in place of a CA, `/etc/kubernetes`-relative.
    fn bundle_path(&self, id: &str) -> Option<PathBuf> {
        self.layout.cluster.trust_file(id).map(PathBuf::from)
    }

    /// What is trusted in place of a CA: its bundle where that is there (it may hold more than one
    /// certificate), else the CA itself. Never the root above it: with that an administrator's kubeconfig
    /// would take any server of etcd's CA for the apiserver.
    fn bundle(&self, id: &'static str, path: &Path, output: &mut Output) -> Result<String, Error> {
        if let Some(text) = output.bundles.get(id) {
            return Ok(text.clone());
        }
        let text = match read::file(&self.dir.join(path)) {
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
        let root = &self.layout.instances[index].root;
        let inside = path.strip_prefix(root).unwrap_or(path);
        let host = self.layout.instances[index].host;
        self.layout.cluster.dir_on(host, self.dir).join(inside).display().to_string()
    }
}

impl Output {
    /// Writes a file that others may be copies of.
    fn put(&mut self, path: &Path, content: Zeroizing<Vec<u8>>, mode: u32) {
        if !path.starts_with("hosts") {
            self.originals.insert(path.to_path_buf(), content.clone());
        }
        self.prepared.transaction.write_keeping_mode(path, content, mode);
    }
}

/// The certificates in a PEM text; none where it holds none.
fn certificates(pem: &[u8]) -> Vec<Certificate> {
    inspect::from_pem(pem).unwrap_or_default()
}
