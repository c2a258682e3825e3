//! From what was made to a transaction: which file gets which content.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Error, Made, Prepared, Product, Record, Workshop, secret};
use crate::{
    document::kubeconfig::{self, Authority, ClientCredential, Edit},
    model::{
        authority::Slot,
        layout::{PUBLIC, Place, SECRET},
        plan::{
            Action, CertRef, KeyRef, Order, Step,
            kubeconfig::{KubeconfigContent, KubeconfigWrite, Trusts},
        },
    },
    pki::{
        inspect::Certificate,
        key::{KeyFormat, PrivateKey},
        pem,
    },
    store::Transaction,
};

/// The file that a write to `path` really makes: where a credential's file is a link, as the kubelet has it, a
/// new one beside what it points to.
pub fn destination(dir: &Path, path: &Path) -> PathBuf {
    let is_credential = path.extension().is_some_and(|extension| extension == "pem");
    match is_credential.then(|| std::fs::read_link(dir.join(path))) {
        Some(Ok(target)) => path.parent().unwrap_or(Path::new("")).join(target),
        Some(Err(_)) | None => path.to_path_buf(),
    }
}

/// A credential that a kubeconfig embeds, as PEM.
#[derive(Default)]
struct Embedded {
    cert: Vec<u8>,
    key: Option<Zeroizing<Vec<u8>>>,
    /// Whether the key is another than before.
    is_new: bool,
}

impl Workshop<'_> {
    /// Puts together what the steps write.
    pub(super) fn write_all(mut self, steps: &[Step]) -> Result<Prepared, Error> {
        let mut prepared = Prepared {
            transaction: Transaction::new(&self.now.to_compact()),
            clamped: Vec::new(),
            issued: Vec::new(),
            written: BTreeMap::new(),
        };
        for (number, step) in steps.iter().enumerate() {
            let before = prepared.transaction.count();
            self.write(step, &mut prepared)?;
            let added = prepared.transaction.paths_after(before);
            prepared.written.insert(number, added.map(Path::to_path_buf).collect());
        }
        prepared.transaction.own(&self.owners);
        Ok(prepared)
    }

    fn write(&mut self, step: &Step, prepared: &mut Prepared) -> Result<(), Error> {
        match &step.action {
            Action::Give => {
                if let Some(owner) = self.owners.get(&step.files[0]) {
                    prepared.transaction.give(&step.files[0], *owner);
                }
            }
            Action::Keep => {}
            Action::Configure(text) => {
                let transaction = &mut prepared.transaction;
                transaction.write_keeping_mode(&step.files[0], text.to_string(), PUBLIC);
            }
            Action::Declare(text) => {
                prepared.transaction.write_keeping_mode(&step.files[0], text.clone(), PUBLIC);
            }
            Action::Amend(kubeconfig) | Action::Refer(kubeconfig) => {
                // With its credential it is written once.
                if kubeconfig.embeds && self.products.contains_key(&kubeconfig.instance) {
                    return Ok(());
                }
                let content = self.kubeconfig(kubeconfig, None)?;
                prepared.transaction.write_keeping_mode(&kubeconfig.file, content, SECRET);
            }
            Action::Issue(order) => self.write_certificate(order, step, prepared)?,
            Action::Request(order) => self.write_request(order, &mut prepared.transaction),
            Action::CrossSign(index) => {
                let text = self.pem(&[CertRef::Crossed(*index)]).into_bytes().into();
                self.put(&step.files[0], text, PUBLIC, &mut prepared.transaction);
            }
            Action::Resend(order) => self.place(order, &mut prepared.transaction)?,
            Action::Bundle(all) => {
                let text = self.pem(all).into_bytes().into();
                self.put(&step.files[0], text, PUBLIC, &mut prepared.transaction);
            }
            Action::GenerateKeyPair { index, algorithm } => {
                let spec = self.layout.key_pairs[*index];
                let key = PrivateKey::generate(*algorithm)
                    .map_err(|source| Error::Key { label: spec.id.into(), source })?;
                let (private, public) =
                    (key.to_pem(KeyFormat::Traditional), key.public_key().to_pem());
                let transaction = &mut prepared.transaction;
                self.put(Path::new(spec.private), secret(&private), SECRET, transaction);
                self.put(Path::new(spec.public), secret(&public), PUBLIC, transaction);
            }
            Action::GenerateKey { index, algorithm } => {
                let label = || self.layout.key_pairs[*index].id.to_owned();
                let key = PrivateKey::generate(*algorithm)
                    .map_err(|source| Error::Key { label: label(), source })?;
                let pem = secret(&key.to_pem(KeyFormat::Traditional));
                prepared.transaction.write(&step.files[0], pem, SECRET);
                self.key_pairs.insert(*index, key);
            }
            Action::PublicKeys(all) => {
                let text = self.public_keys(all).into_bytes().into();
                self.put(&step.files[0], text, PUBLIC, &mut prepared.transaction);
            }
            Action::Remove => {
                prepared.transaction.remove(&step.files[0]);
            }
            Action::Copy { from, mode } => {
                if let Some(content) = self.originals.get(from) {
                    let content = content.clone();
                    prepared.transaction.write_keeping_mode(&step.files[0], content, *mode);
                }
            }
        }
        Ok(())
    }

    /// Writes a file that others may be copies of.
    fn put(
        &mut self,
        path: &Path,
        content: Zeroizing<Vec<u8>>,
        mode: u32,
        transaction: &mut Transaction,
    ) {
        if !path.starts_with("hosts") {
            self.originals.insert(path.to_path_buf(), content.clone());
        }
        transaction.write_keeping_mode(path, content, mode);
    }

    fn write_request(&self, order: &Order, transaction: &mut Transaction) {
        let Some(product) = self.products.get(&order.instance) else { return };
        let Made::Request(der) = &product.made else { return };
        let (request, key_file) = &order.request;
        transaction.write(request, pem::encode("CERTIFICATE REQUEST", der), PUBLIC);
        if let Some(key) = product.key.as_ref().or(product.kept_key.as_ref()) {
            transaction.write(key_file, secret(key), SECRET);
        }
    }

    fn write_certificate(
        &mut self,
        order: &Order,
        step: &Step,
        prepared: &mut Prepared,
    ) -> Result<(), Error> {
        self.place(order, &mut prepared.transaction)?;
        let index = order.instance;
        if self.asked.contains_key(&index) {
            prepared.transaction.remove(&order.request.0);
        }
        let Some(product) = self.products.get(&index) else { return Ok(()) };
        let Made::Certificate { certificate, clamped, .. } = &product.made else { return Ok(()) };
        if *clamped {
            prepared.clamped.push((step.label.clone(), certificate.validity().not_after));
        }
        prepared.issued.push(Record {
            label: step.label.clone(),
            instance: index,
            files: step.files.clone(),
            fingerprint: certificate.fingerprint_hex(),
            replaced: (self.fingerprints.get(&index))
                .filter(|_| order.slot == Slot::Active)
                .cloned(),
            serial: certificate.serial_hex(),
            key: order.key,
            not_after: certificate.validity().not_after,
            reason: step.reason.to_string(),
        });
        Ok(())
    }

    /// Puts a certificate and what goes with it into its files.
    fn place(&mut self, order: &Order, transaction: &mut Transaction) -> Result<(), Error> {
        let index = order.instance;
        let Some(product) = self.products.remove(&index) else { return Ok(()) };
        let Product { key, kept_key, made } = &product;
        let Made::Certificate { certificate, chain, .. } = made else { return Ok(()) };
        let mut text = certificate.to_pem();
        text.extend(chain.iter().map(Certificate::to_pem));
        text.push_str(&self.pem(&order.chain));
        let any_key = key.as_ref().or(kept_key.as_ref());
        match (&order.place, &order.kubeconfig) {
            (Place::Embedded { kubeconfig }, Some(write)) => {
                // A key that stays is not written again: it may be in another form.
                let is_new = key.is_some();
                let credential = Embedded {
                    cert: text.into_bytes(),
                    key: any_key.map(|key| secret(key)),
                    is_new,
                };
                let content = self.kubeconfig(write, Some(credential))?;
                transaction.write_keeping_mode(kubeconfig, content, SECRET);
            }
            (place, _) if place.cert() == place.key() => {
                let mut both = Zeroizing::new(text.into_bytes());
                both.extend_from_slice(any_key.map_or(&[][..], |key| key.as_bytes()));
                self.combined(place.cert(), both, transaction);
            }
            (place, _) => {
                if let Some(key) = key {
                    self.put(place.key(), secret(key), SECRET, transaction);
                }
                let content = text.into_bytes().into();
                self.put(place.cert(), content, PUBLIC, transaction);
            }
        }
        self.products.insert(index, product);
        Ok(())
    }

    /// A certificate and its key in one file. The kubelet keeps dated files and a symlink to the one in use,
    /// and stays in order only if a new one is added the same way (client-go
    /// `util/certificate/certificate_store.go`).
    fn combined(
        &mut self,
        path: &Path,
        content: Zeroizing<Vec<u8>>,
        transaction: &mut Transaction,
    ) {
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
        if let Some(owner) = self.owners.get(path) {
            self.owners.insert(folder.join(&new), *owner);
        }
        transaction.symlink(path, new);
    }

    /// The text of a kubeconfig, with this credential where it embeds one.
    fn kubeconfig(
        &self,
        kubeconfig: &KubeconfigWrite,
        credential: Option<Embedded>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        match &kubeconfig.content {
            KubeconfigContent::New { cluster, server, user, trust, files } => {
                let credential = match (files, credential) {
                    (Some((cert, key)), _) => {
                        ClientCredential::Files { cert: cert.clone(), key: key.clone() }
                    }
                    (None, credential) => {
                        let Embedded { cert, key, .. } = credential.unwrap_or_default();
                        ClientCredential::Data { cert, key: key.unwrap_or_default() }
                    }
                };
                let authority = match trust {
                    Trusts::File(path) => Authority::File(path.clone()),
                    Trusts::Data(all) => Authority::Data(self.pem(all).into_bytes()),
                };
                let text = kubeconfig::render(&kubeconfig::Kubeconfig {
                    cluster: cluster.clone(),
                    server: server.clone(),
                    user: user.clone(),
                    authority,
                    credential,
                });
                Ok(secret(&text))
            }
            KubeconfigContent::Edit { server, trust } => {
                let mut edit = Edit {
                    server: server.clone(),
                    certificate_authority_data: trust
                        .as_ref()
                        .map(|all| (None, self.pem(all).into_bytes())),
                    ..Edit::default()
                };
                if let Some(Embedded { cert, key, is_new }) = credential {
                    edit.client_certificate_data = Some(cert);
                    edit.client_key_data = key.filter(|_| is_new);
                }
                let old = self.kubeconfigs.get(&kubeconfig.instance);
                kubeconfig::edit(old.map_or(&[][..], |old| old.as_slice()), &edit).map_err(
                    |source| Error::Kubeconfig { path: self.dir.join(&kubeconfig.file), source },
                )
            }
        }
    }

    fn public_keys(&self, all: &[KeyRef]) -> String {
        let text = |one: &KeyRef| match one {
            KeyRef::There(der) => pem::encode("PUBLIC KEY", der),
            KeyRef::Made(index) => {
                let key = self.key_pairs.get(index);
                key.map(|key| key.public_key().to_pem()).unwrap_or_default()
            }
        };
        all.iter().map(text).collect()
    }

    fn pem(&self, all: &[CertRef]) -> String {
        let text = |one: &CertRef| match one {
            CertRef::There(der) => pem::encode("CERTIFICATE", der),
            CertRef::Crossed(index) => {
                self.crossed.get(index).map(Certificate::to_pem).unwrap_or_default()
            }
            CertRef::Made(index) => match self.products.get(index).map(|product| &product.made) {
                Some(Made::Certificate { certificate, .. }) => certificate.to_pem(),
                Some(Made::Request(_)) | None => String::new(),
            },
        };
        all.iter().map(text).collect()
    }
}
