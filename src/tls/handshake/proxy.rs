//! The key that signs in place of those that are on their hosts alone. It is made for this process, and nobody else has
//! it: accepting its signatures lets nobody in who is not in this memory already.

use std::sync::{Arc, LazyLock};

use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer},
    sign::SigningKey,
};

use crate::{model::algorithm::KeyAlgorithm, pki::key::PrivateKey};

/// The key, loaded.
pub struct ProxyKey {
    /// What signs.
    pub signer: Arc<dyn SigningKey>,
    /// What verifies.
    pub public: SubjectPublicKeyInfoDer<'static>,
}

/// The key; none where no random numbers are to be had.
pub fn key() -> Option<&'static ProxyKey> {
    static KEY: LazyLock<Option<ProxyKey>> = LazyLock::new(make);
    KEY.as_ref()
}

fn make() -> Option<ProxyKey> {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).ok()?;
    let pkcs8 = key.pkcs8();
    let signer = any_supported_type(&PrivateKeyDer::try_from(pkcs8.as_slice()).ok()?).ok()?;
    Some(ProxyKey { signer, public: key.public_key().der().to_vec().into() })
}
