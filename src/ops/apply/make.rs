//! Keys, certificates and requests, made in memory.

use super::{Authority, Context, Error, Made, Product, Template, gone};
use crate::{
    model::{
        duration::Span,
        layout::{Instance, Place},
        plan::{Action, KeyChoice},
        profile::{Profile, Validity},
        resolve,
    },
    parallel,
    pki::{
        inspect::Certificate,
        issue::{self, Issuer, Order},
        key::{KeyFormat, PrivateKey},
    },
};

impl Context<'_> {
    pub(super) fn make_authority(
        &mut self,
        index: usize,
        choice: KeyChoice,
        action: &Action,
    ) -> Result<Product, Error> {
        let instance = &self.layout.instances[index];
        let error = |source| Error::Issue { label: instance.label(), source };
        let key = match choice {
            KeyChoice::New => self.generate(instance)?,
            // No plan keeps a CA's key for a new certificate.
            KeyChoice::Existing => return Err(Error::Gone { label: instance.label() }),
        };
        // A request's key is written again, as any other, once its certificate has come back.
        let pem = match action {
            Action::Request { .. } => key.to_pem(KeyFormat::Traditional),
            _ => self
                .passwords
                .write(instance.spec.id, &key)
                .map_err(|source| Error::Key { label: instance.label(), source })?,
        };
        let profile = resolve::profile(instance, self.layout.cluster);
        let validity = resolve::validity(instance, self.layout.cluster, self.now);
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
    pub(super) fn make_leaves(
        &self,
        leaves: &[(usize, KeyChoice, bool)],
    ) -> Result<Vec<(usize, Product)>, Error> {
        parallel::map(leaves, parallel::processors(), 32, |(index, key, request)| {
            self.make_leaf(*index, *key, *request).map(|product| (*index, product))
        })
        .into_iter()
        .collect()
    }

    fn make_leaf(&self, index: usize, choice: KeyChoice, request: bool) -> Result<Product, Error> {
        let instance = &self.layout.instances[index];
        let error = |source| Error::Issue { label: instance.label(), source };
        let fresh = match choice {
            KeyChoice::New => Some(self.generate_leaf_key(index)?),
            KeyChoice::Existing => None,
        };
        let old_key = self.keys.get(&index);
        let key = fresh.as_ref().or(old_key).ok_or_else(|| gone(instance))?;
        let profile = self.profile(index);
        let made = if request {
            Made::Request(issue::csr(&profile, key).map_err(error)?)
        } else {
            let above = instance.issuer.ok_or_else(|| gone(instance))?;
            let validity = self.validity(index);
            let order = Order { profile: &profile, validity, public_key: key.public_key() };
            let issuer = self.issuer(above, instance)?;
            let issued = match self.copied(index) {
                Some(old) => issue::reissue(&order, issuer, old),
                None => issue::issue(&order, issuer),
            };
            let issue::Issued { certificate, clamped } = issued.map_err(error)?;
            Made::Certificate { certificate, chain: self.chain(index, issuer), clamped }
        };
        let combined = self.place(index).cert() == self.place(index).key();
        // Whatever reads the file has read keys of this form.
        let format = old_key.map_or(KeyFormat::Traditional, PrivateKey::format);
        Ok(Product {
            key: fresh.as_ref().map(|key| key.to_pem(format)),
            kept_key: old_key
                .filter(|_| fresh.is_none() && (combined || request))
                .map(|key| key.to_pem(format)),
            made,
        })
    }

    /// The certificate in place, where that is what a new one is made from.
    fn copied(&self, index: usize) -> Option<&Certificate> {
        let old = self.leaves.get(&index).and_then(|chain| chain.first());
        old.filter(|_| self.template == Template::InPlace)
    }

    fn profile(&self, index: usize) -> Profile {
        match self.copied(index) {
            Some(old) => old.profile(),
            None => resolve::profile(&self.layout.instances[index], self.layout.cluster),
        }
    }

    fn validity(&self, index: usize) -> Validity {
        let declared =
            resolve::validity(&self.layout.instances[index], self.layout.cluster, self.now);
        let Some(old) = self.copied(index).map(Certificate::validity) else { return declared };
        match old.not_after.since(old.not_before) {
            // Nobody means a life that is over at once.
            life if life <= Span(60) => declared,
            life => Validity { not_after: declared.not_before.plus(life), ..declared },
        }
    }

    fn generate_leaf_key(&self, index: usize) -> Result<PrivateKey, Error> {
        let instance = &self.layout.instances[index];
        let declared = self.layout.cluster.algorithm_of(instance.spec.id);
        let algorithm = self.copied(index).and_then(Certificate::algorithm).unwrap_or(declared);
        PrivateKey::generate(algorithm)
            .map_err(|source| Error::Key { label: instance.label(), source })
    }

    pub(super) fn place(&self, index: usize) -> &Place {
        &self.inventory.instances[index].place
    }

    /// What follows the leaf in its file: what followed it so far, as long as that is from the same CA; else
    /// the intermediates that a server must send, so that clients that trust only the root above them can
    /// verify it. Roots are never added.
    fn chain(&self, index: usize, issuer: &Issuer) -> Vec<Certificate> {
        let instance = &self.layout.instances[index];
        let old = self.leaves.get(&index).and_then(|all| all.get(1..)).unwrap_or_default();
        if old.iter().any(|c| c.public_key() == issuer.certificate().public_key()) {
            return old.to_vec();
        }
        let Some(authority) = instance
            .issuer
            .and_then(|above| self.authorities.get(above))
            .filter(|_| instance.spec.is_server())
        else {
            return Vec::new();
        };
        authority.certificates.iter().filter(|c| !c.is_self_issued()).cloned().collect()
    }

    fn generate(&self, instance: &Instance<'_>) -> Result<PrivateKey, Error> {
        PrivateKey::generate(self.layout.cluster.algorithm_of(instance.spec.id))
            .map_err(|source| Error::Key { label: instance.label(), source })
    }

    fn issuer(&self, id: &str, wanting: &Instance<'_>) -> Result<&Issuer, Error> {
        let authority = self.authorities.get(id);
        authority.and_then(|a| a.issuer.as_ref()).ok_or_else(|| gone(wanting))
    }
}
