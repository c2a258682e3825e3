//! Keys that this host makes itself, and that never leave it: a new one waits in `csr/` for its certificate, and takes
//! its place with that.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Error, Taken, Taker};
use crate::{
    model::{
        catalogue::CertId,
        delivery::HostKey,
        layout::{Instance, SECRET},
        plan::request_key_file,
        request::is_strong,
        resolve,
    },
    ops::{
        delivery::{KeyRequest, Receipt, certificates_of},
        log, observe, read,
        session::{self, Aftermath},
    },
    pki::{
        inspect, issue,
        key::{KeyFormat, PrivateKey},
        pem,
    },
    store::{Transaction, sha256},
};

/// A key of this host's.
pub struct OwnKey {
    key: PrivateKey,
    /// Whether it waits for its certificate still.
    pub is_pending: bool,
}

impl Taker<'_> {
    /// What this host has a key of its own for, by the certificate's file.
    pub(super) fn own_at(&self, cert: &Path) -> Option<&HostKey> {
        self.own.iter().find(|own| own.cert == cert)
    }

    fn instance(&self, id: CertId) -> Option<&Instance<'_>> {
        self.layout.at(id, Path::new("")).map(|index| &self.layout.instances[index])
    }

    fn key_at(&self, path: &Path) -> Option<PrivateKey> {
        let content = read::file(&self.request.dir.join(path));
        PrivateKey::from_pem(content.present()?).ok()
    }

    fn pending_file(&self, own: &HostKey) -> Option<PathBuf> {
        self.instance(own.id).map(request_key_file)
    }

    /// The key that the first of these certificates is for, if this host has it.
    pub(super) fn key_for(&self, own: &HostKey, certificates: &[u8]) -> Option<OwnKey> {
        let all = inspect::from_pem(certificates).ok()?;
        let wanted = all.first()?.public_key();
        let places = [(Some(own.key.clone()), false), (self.pending_file(own), true)];
        let mut found = places
            .into_iter()
            .filter_map(|(file, is_pending)| Some((self.key_at(&file?)?, is_pending)));
        let (key, is_pending) = found.find(|(key, _)| key.public_key() == wanted)?;
        Some(OwnKey { key, is_pending })
    }

    /// The certificates that are in place as they are to be, and whose key is not on this host.
    pub(super) fn keyless(&self) -> Vec<PathBuf> {
        let is_without = |own: &&HostKey| {
            let mut announced = self.delivery.files.iter();
            let announced = announced.find(|file| file.path == own.cert);
            let content = read::file(&self.request.dir.join(&own.cert));
            let found = content.present().and_then(|all| certificates_of(all));
            let is_it =
                |all: &Zeroizing<Vec<u8>>| announced.is_some_and(|a| a.sha256 == sha256(all));
            found.filter(is_it).is_some_and(|all| self.key_for(own, &all).is_none())
        };
        self.own.iter().filter(is_without).map(|own| own.cert.clone()).collect()
    }

    /// Writes a certificate that came, with the key that it is for.
    pub(super) fn write_with_key(
        &self,
        own: &HostKey,
        content: Zeroizing<Vec<u8>>,
        mode: u32,
        transaction: &mut Transaction,
    ) -> Result<(), Error> {
        if observe::has_key(&content) {
            return Err(Error::KeyCame(own.cert.clone()));
        }
        let found = self.key_for(own, &content);
        let keyless =
            || Error::Keyless { file: own.cert.clone(), host: self.host.name.to_string() };
        let OwnKey { key, is_pending } = found.ok_or_else(keyless)?;
        let pem = key.to_pem(if is_pending { KeyFormat::Traditional } else { key.format() });
        if own.cert == own.key {
            let mut both = Zeroizing::new(Vec::with_capacity(content.len() + pem.len()));
            both.extend_from_slice(&content);
            both.extend_from_slice(pem.as_bytes());
            transaction.write_keeping_mode(&own.cert, both, SECRET);
        } else {
            if is_pending {
                let key = Zeroizing::new(pem.as_bytes().to_vec());
                transaction.write_keeping_mode(&own.key, key, SECRET);
            }
            transaction.write_keeping_mode(&own.cert, content, mode);
        }
        if let Some(file) = self.pending_file(own).filter(|_| is_pending) {
            transaction.remove(file);
        }
        Ok(())
    }

    /// Makes the keys that are wanted and not there, and says what is asked for with them. Asked again, it asks with
    /// the same ones.
    pub(super) fn ask(&self) -> Result<Taken, Error> {
        let (dir, now) = (self.request.dir, self.request.now);
        let mut receipt = Receipt::new(&self.delivery.host);
        let mut wanted: Vec<&HostKey> = self.own.iter().collect();
        let demand = self.delivery.keys.as_ref();
        if let Some(demand) = demand {
            let is_own = |id: &&String| self.own.iter().all(|own| own.id.name() != id.as_str());
            if let Some(id) = demand.certificates.iter().find(is_own) {
                let host = self.delivery.host.clone();
                return Err(Error::NoKeyOf { id: id.clone(), host });
            }
            wanted.retain(|own| demand.certificates.iter().any(|id| own.id.name() == id));
        }
        let is_fresh = demand.is_some_and(|demand| demand.fresh);
        let mut store = session::open(dir, self.request.lock_wait)?;
        receipt.recovered = store.recovered().map(|recovery| recovery.to_string());
        let debt = store.earlier_debt();
        let mut transaction = Transaction::new(&now.to_compact());
        transaction.by("receive");
        for own in wanted {
            let Some(instance) = self.instance(own.id) else { continue };
            let ask = |source| Error::Ask { id: own.id.name(), source };
            let file = request_key_file(instance);
            let is_usable = |key: &PrivateKey| is_strong(Some(key.algorithm()));
            let there = self.key_at(&file).filter(is_usable);
            let there =
                there.or_else(|| self.key_at(&own.key).filter(is_usable).filter(|_| !is_fresh));
            let key = match there {
                Some(key) => key,
                None => {
                    let kind = self.layout.cluster.algorithm_of(own.id.name());
                    let key = PrivateKey::generate(kind).map_err(|error| ask(error.into()))?;
                    let text = key.to_pem(KeyFormat::Traditional);
                    transaction.write(&file, Zeroizing::new(text.as_bytes().to_vec()), SECRET);
                    transaction.log(log::file("receive", "write", &file, "key made", now));
                    key
                }
            };
            let profile = resolve::profile(instance, self.layout.cluster);
            let der = issue::csr(&profile, &key).map_err(|error| ask(error.into()))?;
            let csr = pem::encode("CERTIFICATE REQUEST", &der);
            receipt.requests.push(KeyRequest { certificate: own.id.name().to_owned(), csr });
        }
        let mut aftermath = Aftermath::default();
        if !transaction.is_empty() {
            let files: Vec<PathBuf> = transaction.paths().map(Path::to_path_buf).collect();
            let files = files.iter().map(|path| (path.as_path(), None));
            if let Some((_, error)) = session::refusals(dir, files)?.into_iter().next() {
                return Err(error.into());
            }
            let committed = store.commit(transaction)?;
            aftermath = session::conclude(&mut store, committed, self.request.backups);
            // Nobody uses it yet.
            receipt.changed = true;
        }
        aftermath.take_over(debt);
        receipt.warnings = std::mem::take(&mut aftermath.warnings);
        Ok(Taken { receipt, aftermath, error: None })
    }
}
