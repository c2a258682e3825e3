//! Keys and certificates against other implementations: openssl, rustls-webpki, and what kubeadm made.

mod certificate;
mod chain;
mod inspect;
mod key;
mod kubeadm;
mod openssl;
mod property;

use certkit::{
    model::{
        algorithm::KeyAlgorithm,
        name::Name,
        profile::{Kind, Profile, Validity},
        san::San,
        timestamp::Timestamp,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        inspect::Certificate,
        issue::{self, Issuance, IssuingCa},
        key::PrivateKey,
    },
};

/// What this build can make and sign with.
fn algorithms() -> Vec<KeyAlgorithm> {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, EcdsaP521, Ed25519, Rsa};
    match cfg!(feature = "rsa-keygen") {
        true => vec![EcdsaP256, EcdsaP384, EcdsaP521, Ed25519, Rsa(2048), Rsa(3072), Rsa(4096)],
        false => vec![EcdsaP256, EcdsaP384, Ed25519],
    }
}

fn validity(from: &str, to: &str) -> Validity {
    Validity { not_before: from.parse().unwrap(), not_after: to.parse().unwrap() }
}

/// Long enough to hold whenever the tests run.
fn long() -> Validity {
    validity("2020-01-01T00:00:00Z", "2070-01-01T00:00:00Z")
}

fn now() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

fn ca_profile(common_name: &str) -> Profile {
    Profile {
        subject: Name::new(&[], common_name),
        sans: vec![San::Dns(common_name.into())],
        kind: Kind::Ca { path_len: None },
        key_usages: KeyUsages::CA,
        extended_usages: vec![],
    }
}

fn leaf_profile() -> Profile {
    Profile {
        subject: Name::new(&["system:nodes", "system:masters"], "system:node:cp1"),
        sans: ["cp1", "*.example.com", "10.0.0.1", "fd00::1"]
            .map(|s| San::parse(s).unwrap())
            .into(),
        kind: Kind::Leaf,
        key_usages: KeyUsages::LEAF,
        extended_usages: vec![ExtendedUsage::ServerAuth, ExtendedUsage::ClientAuth],
    }
}

fn ca(algorithm: KeyAlgorithm) -> IssuingCa {
    let key = PrivateKey::generate(algorithm).unwrap();
    let certificate = issue::self_signed(&ca_profile("ca"), long(), &key).unwrap();
    IssuingCa::new(certificate, key).unwrap()
}

fn issue_leaf(issuer: &IssuingCa, key: &PrivateKey) -> Certificate {
    let profile = leaf_profile();
    let order = Issuance { profile: &profile, validity: long(), public_key: key.public_key() };
    issue::issue(&order, issuer).unwrap().certificate
}
