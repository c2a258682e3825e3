//! A server that stands in for another where only the listener's judgement of its clients is put to the test,
//! so that a fault of the server's own certificate does not hide it. It lives in memory for one run.

use crate::{
    model::{
        algorithm::KeyAlgorithm,
        name::Name,
        profile::{Kind, Profile, Validity},
        san::San,
        shown::with_causes,
        timestamp::Timestamp,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        issue::{self, Issuance, IssuingCa},
        key::PrivateKey,
    },
    tls::handshake::Identity,
};

/// Its name; `.invalid` is nobody's (RFC 6761).
pub const NAME: &str = "stand-in.certkit.invalid";

/// The server, and what its clients trust.
pub struct StandIn {
    /// What it shows.
    pub identity: Identity,
    /// The CA that vouches for it, DER.
    pub trust: Vec<Vec<u8>>,
}

impl StandIn {
    /// Makes one.
    pub fn new() -> Result<Self, String> {
        Self::make().map_err(|error| with_causes(&*error))
    }

    fn make() -> Result<Self, Box<dyn std::error::Error>> {
        let validity = Validity { not_before: Timestamp::from_unix(0), not_after: Timestamp::MAX };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
        let authority = Profile {
            subject: Name::new(&[], "stand-in"),
            sans: Vec::new(),
            kind: Kind::Ca { path_len: None },
            key_usages: KeyUsages::CA,
            extended_usages: Vec::new(),
        };
        let certificate = issue::self_signed(&authority, validity, &key)?;
        let trust = vec![certificate.der().to_vec()];
        let issuer = IssuingCa::new(certificate, key)?;
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
        let profile = Profile {
            subject: Name::new(&[], NAME),
            sans: vec![San::Dns(NAME.to_owned())],
            kind: Kind::Leaf,
            key_usages: KeyUsages::LEAF,
            extended_usages: vec![ExtendedUsage::ServerAuth],
        };
        let order = Issuance { profile: &profile, validity, public_key: key.public_key() };
        let leaf = issue::issue(&order, &issuer)?.certificate;
        let identity = Identity::new(&[leaf.der().to_vec()], &key.pkcs8())?;
        Ok(Self { identity, trust })
    }
}
