//! Keys, certificates and requests, made in memory.

use super::{Error, Made, Product, Workshop};
use crate::{
    model::{
        authority::Slot,
        plan::{KeyChoice, Order},
        profile::Kind,
    },
    parallel,
    pki::{
        inspect::Certificate,
        issue::{self, IssuingCa},
        key::{CaKey, KeyFormat, PrivateKey},
    },
};

impl Workshop<'_> {
    /// Makes a CA, and what signs with it from now on.
    pub(super) fn make_authority(&mut self, order: &Order, request: bool) -> Result<(), Error> {
        let index = order.instance;
        if order.key == KeyChoice::Existing {
            return self.renew_authority(order);
        }
        let error = |source| Error::Issue { label: self.label(index), source };
        let key = self.generate(order)?;
        let id = self.layout.instances[index].spec.id;
        // A request's key is written again, as any other, once its certificate has come back.
        let pem = match request {
            true => key.to_pem(KeyFormat::Traditional),
            false => (self.passwords.write(id, &key))
                .map_err(|source| Error::Key { label: self.label(index), source })?,
        };
        let made = match (order.signer, request) {
            (_, true) => Made::Request(issue::csr(&order.profile, &key).map_err(error)?),
            (None, false) => {
                let certificate = issue::self_signed(&order.profile, order.validity, &key);
                let certificate = certificate.map_err(error)?;
                Made::Certificate { certificate, chain: vec![], clamped: false }
            }
            (Some(above), false) => {
                let order = issue::Issuance {
                    profile: &order.profile,
                    validity: order.validity,
                    public_key: key.public_key(),
                };
                let issued = issue::issue(&order, self.issuer(above)).map_err(error)?;
                let issue::Issued { certificate, clamped } = issued;
                Made::Certificate { certificate, chain: vec![], clamped }
            }
        };
        if let Made::Certificate { certificate, .. } = &made {
            let issuer = IssuingCa::new(certificate.clone(), key).map_err(error)?;
            self.issuers.insert((index, order.slot), issuer);
        }
        self.products.insert(index, Product { key: Some(pem), kept_key: None, made });
        Ok(())
    }

    /// Gives a CA a new term, with the key it has.
    fn renew_authority(&mut self, order: &Order) -> Result<(), Error> {
        let index = order.instance;
        let old = self.certificates.get(&index).and_then(|all| all.first()).cloned();
        let key = self.sealed.remove(&(index, order.slot));
        // No CA is ever given a new term that was not found.
        let old = old.expect("observed"); // invariant of plans
        // One below another needs its own key only if it signs something itself.
        let signs = order.signer.is_none() || self.signing.contains(&(index, order.slot));
        let key = match key.filter(|_| signs) {
            None => None,
            Some(CaKey::Clear(key)) => Some(key),
            Some(CaKey::Sealed(key)) => {
                let file = self.dir.join(order.place.key());
                Some(self.passwords.open(&file, &key, Some(old.public_key()))?)
            }
        };
        let error = |source| Error::Issue { label: self.label(index), source };
        let (certificate, clamped) = match order.signer {
            None => {
                // No root is ever given a new term that was not found with its key.
                let key = key.as_ref().expect("observed"); // invariant of plans
                let renewed = issue::renew_self_signed(&old, order.validity, key);
                (renewed.map_err(error)?, false)
            }
            Some(above) => {
                let order = issue::Issuance {
                    profile: &order.profile,
                    validity: order.validity,
                    public_key: old.public_key(),
                };
                let issued = issue::reissue(&order, self.issuer(above), &old).map_err(error)?;
                (issued.certificate, issued.clamped)
            }
        };
        if let Some(key) = key {
            let issuer = IssuingCa::new(certificate.clone(), key).map_err(error)?;
            self.issuers.insert((index, order.slot), issuer);
        }
        let made = Made::Certificate { certificate, chain: vec![], clamped };
        self.products.insert(index, Product { key: None, kept_key: None, made });
        Ok(())
    }

    /// Has the CA that issues vouch for its next generation, as that says of itself, and as far as it may.
    pub(super) fn cross_sign(&mut self, index: usize) -> Result<(), Error> {
        let made = match self.products.get(&index).map(|product| &product.made) {
            Some(Made::Certificate { certificate, .. }) => Some(certificate),
            Some(Made::Request(_)) | None => None,
        };
        let there = || self.aside.get(&(index, Slot::Next)).and_then(|all| all.first());
        // None is ever planned without the next generation.
        let next = made.or_else(there).expect("observed or made"); // invariant of plans
        let issuer = self.issuer((index, Slot::Active));
        let mut profile = next.profile();
        if let Kind::Ca { path_len: Some(limit) } = issuer.certificate().profile().kind
            && let Kind::Ca { path_len } = &mut profile.kind
        {
            let below = limit.saturating_sub(1);
            *path_len = Some(path_len.map_or(below, |own| own.min(below)));
        }
        let order = issue::Issuance {
            profile: &profile,
            validity: next.validity(),
            public_key: next.public_key(),
        };
        let issued = issue::issue(&order, issuer)
            .map_err(|source| Error::Issue { label: self.label(index), source })?;
        self.crossed.insert(index, issued.certificate);
        Ok(())
    }

    /// Takes a certificate that stays as it is, and its key where that is written with it.
    pub(super) fn take(&mut self, order: &Order) {
        let there = self.certificates.get(&order.instance).and_then(|all| all.first());
        let Some(certificate) = there.cloned() else { return };
        let combined = order.place.cert() == order.place.key();
        let key = self.keys.get(&order.instance).filter(|_| combined);
        let kept_key = key.map(|key| key.to_pem(key.format()));
        let made = Made::Certificate { certificate, chain: vec![], clamped: false };
        self.products.insert(order.instance, Product { key: None, kept_key, made });
    }

    /// Makes leaves on as many threads as there are cores; a few are not worth a thread.
    pub(super) fn make_leaves(&mut self, leaves: &[(&Order, bool)]) -> Result<(), Error> {
        let task = parallel::progress::task("certificates", Some(leaves.len()));
        let made = parallel::map(leaves, parallel::processors(), 32, |(order, request)| {
            let made = self.make_leaf(order, *request).map(|product| (order.instance, product));
            task.step();
            made
        });
        for product in made {
            let (index, product) = product?;
            self.products.insert(index, product);
        }
        Ok(())
    }

    fn make_leaf(&self, order: &Order, request: bool) -> Result<Product, Error> {
        let index = order.instance;
        let error = |source| Error::Issue { label: self.label(index), source };
        let fresh = match order.key {
            KeyChoice::New => Some(self.generate(order)?),
            KeyChoice::Existing => None,
        };
        let old_key = self.keys.get(&index);
        let key = fresh.as_ref().or(old_key);
        let made = if request {
            // Whoever asks elsewhere has the key, or makes one.
            let key = key.expect("observed"); // invariant of plans
            Made::Request(issue::csr(&order.profile, key).map_err(error)?)
        } else {
            // No leaf is ever planned without a CA.
            let issuer = self.issuer(order.signer.expect("a CA")); // invariant of plans
            let copied = self.certificates.get(&index).and_then(|all| all.first());
            // A key that is on its host alone is known by what that asks for, else by what it has.
            let on_host = || self.asked.get(&index).or(copied.map(Certificate::public_key));
            let public_key = key.map(PrivateKey::public_key).or_else(on_host);
            let order_of = issue::Issuance {
                profile: &order.profile,
                validity: order.validity,
                // A key that is kept was always observed with the plan that keeps it.
                public_key: public_key.expect("observed"), // invariant of plans
            };
            let issued = match copied.filter(|_| order.copies) {
                Some(old) => issue::reissue(&order_of, issuer, old),
                None => issue::issue(&order_of, issuer),
            };
            let issue::Issued { certificate, clamped } = issued.map_err(error)?;
            Made::Certificate { certificate, chain: vec![], clamped }
        };
        let combined = order.place.cert() == order.place.key();
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

    fn generate(&self, order: &Order) -> Result<PrivateKey, Error> {
        PrivateKey::generate(order.algorithm)
            .map_err(|source| Error::Key { label: self.label(order.instance), source })
    }

    fn issuer(&self, signer: (usize, Slot)) -> &IssuingCa {
        // Those that are there were opened, and those that are made come always first.
        self.issuers.get(&signer).expect("opened or made") // invariant of plans
    }
}
