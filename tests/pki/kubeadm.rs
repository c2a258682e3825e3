//! Certificates made here beside those kubeadm made.

use std::{collections::BTreeMap, fs, path::PathBuf};

use certkit::{
    model::{
        algorithm::KeyAlgorithm,
        profile::Kind,
        san::San,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        chain::{self, LeafUse},
        inspect::{self, Certificate},
        issue::{self, Issuance, IssuingCa},
        key::{KeyFormat, PrivateKey, PublicKey},
    },
};

use crate::{now, openssl::Openssl};

const TREES: [(&str, KeyAlgorithm); 2] =
    [("ecdsa-p256", KeyAlgorithm::EcdsaP256), ("rsa-2048", KeyAlgorithm::Rsa(2048))];

/// Leaf and its CA, as file names without extension.
const LEAVES: [(&str, &str); 7] = [
    ("apiserver", "ca"),
    ("apiserver-kubelet-client", "ca"),
    ("apiserver-etcd-client", "etcd/ca"),
    ("front-proxy-client", "front-proxy-ca"),
    ("etcd/server", "etcd/ca"),
    ("etcd/peer", "etcd/ca"),
    ("etcd/healthcheck-client", "etcd/ca"),
];

fn file(tree: &str, name: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36");
    fs::read(root.join(tree).join("pki").join(name)).unwrap()
}

fn certificate(tree: &str, name: &str) -> Certificate {
    inspect::from_pem(&file(tree, &format!("{name}.crt"))).unwrap().remove(0)
}

fn key(tree: &str, name: &str) -> PrivateKey {
    PrivateKey::from_pem(&file(tree, &format!("{name}.key"))).unwrap()
}

#[test]
fn every_kubeadm_key_is_read_and_written_back_as_it_was() {
    for (tree, algorithm) in TREES {
        for name in LEAVES.map(|(leaf, _)| leaf).into_iter().chain(["ca", "sa", "etcd/ca"]) {
            let key = key(tree, name);
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.format(), KeyFormat::Traditional);
            assert_eq!(
                key.to_pem(key.format()).as_bytes(),
                file(tree, &format!("{name}.key")),
                "{tree} {name}"
            );
        }
        let public = file(tree, "sa.pub");
        assert_eq!(PublicKey::from_pem(&public).unwrap(), *key(tree, "sa").public_key());
        assert_eq!(key(tree, "sa").public_key().to_pem().as_bytes(), public);
    }
}

#[test]
fn the_apiservers_certificate_is_read_whole() {
    let certificate = certificate("ecdsa-p256", "apiserver");
    let profile = certificate.profile();
    assert_eq!(profile.subject.to_string(), "CN=kube-apiserver");
    assert_eq!(certificate.common_name().as_deref(), Some("kube-apiserver"));
    assert_eq!(certificate.issuer().to_string(), "CN=kubernetes");
    assert_eq!(profile.kind, Kind::Leaf);
    assert_eq!(profile.key_usages, KeyUsages::LEAF);
    assert_eq!(profile.extended_usages, [ExtendedUsage::ServerAuth]);
    assert_eq!(profile.sans.len(), 10);
    assert_eq!(profile.sans[9], San::Ip("10.0.0.100".parse().unwrap()));
    assert_eq!(certificate.validity().not_after.to_string(), "2027-11-21T17:11:00Z");
    assert_eq!(certificate.signature_algorithm(), "ecdsa-with-SHA256");
    assert_eq!(certificate.algorithm(), Some(KeyAlgorithm::EcdsaP256));
    assert_eq!(certificate.serial_hex(), "224318fb7e344bd9");
    assert_eq!(certificate.ski(), None);
    assert_eq!(certificate.faults(), Vec::<String>::new());
}

#[test]
fn every_kubeadm_leaf_is_the_ca_s_and_its_key_s() {
    for (tree, _) in TREES {
        for (leaf, ca) in LEAVES {
            let (certificate, ca) = (certificate(tree, leaf), certificate(tree, ca));
            assert_eq!(certificate.public_key(), key(tree, leaf).public_key());
            assert!(certificate.signed_by(&ca), "{tree} {leaf}");
            assert!(!ca.signed_by(&certificate));
            assert!(ca.is_self_signed() && ca.is_self_issued() && !certificate.is_self_issued());
            assert_eq!(certificate.aki(), ca.ski());
            let purpose = match certificate.extended_usages().contains(&ExtendedUsage::ServerAuth) {
                true => LeafUse::Server { name: None },
                false => LeafUse::Client,
            };
            assert_eq!(chain::verify(&certificate, &[], &[&ca], now(), purpose), Ok(()));
        }
    }
}

#[test]
fn a_certificate_issued_from_a_kubeadm_profile_is_field_by_field_the_same() {
    for (tree, _) in TREES {
        for (leaf, ca) in LEAVES {
            let theirs = certificate(tree, leaf);
            let issuer = IssuingCa::new(certificate(tree, ca), key(tree, ca)).unwrap();
            let profile = theirs.profile();
            let order = Issuance {
                profile: &profile,
                validity: theirs.validity(),
                public_key: theirs.public_key(),
            };
            let issued = issue::issue(&order, &issuer).unwrap();
            assert!(!issued.clamped);
            assert_same(&theirs, &issued.certificate, &format!("{tree} {leaf}"));
        }
    }
}

#[test]
fn a_ca_made_from_a_kubeadm_profile_is_field_by_field_the_same() {
    for (tree, _) in TREES {
        for name in ["ca", "etcd/ca", "front-proxy-ca"] {
            let theirs = certificate(tree, name);
            let ours =
                issue::self_signed(&theirs.profile(), theirs.validity(), &key(tree, name)).unwrap();
            assert_eq!(ours.ski(), theirs.ski(), "the key identifier is Go's");
            assert_eq!(ours.aki(), None);
            assert_same(&theirs, &ours, &format!("{tree} {name}"));
        }
    }
}

/// Compares what openssl prints, but for the serial number and the signature's bits.
fn assert_same(theirs: &Certificate, ours: &Certificate, what: &str) {
    assert_eq!(theirs.subject().der(), ours.subject().der(), "{what}");
    assert_eq!(theirs.issuer().der(), ours.issuer().der(), "{what}");
    assert_eq!(fields(theirs), fields(ours), "{what}");
}

/// openssl's text: the head as it is, and each extension with its value.
fn fields(certificate: &Certificate) -> (String, BTreeMap<String, String>) {
    let openssl = Openssl::new();
    openssl.write("crt", certificate.to_pem());
    let text = openssl.run("x509 -in crt -noout -text -certopt no_serial,no_sigdump");
    let (head, extensions) = text.split_once("X509v3 extensions:").unwrap();
    let mut map = BTreeMap::new();
    let mut label = String::new();
    for line in extensions.lines().filter(|line| !line.trim().is_empty()) {
        // Extensions are indented by 12 spaces and their values by 16.
        match line.starts_with(&" ".repeat(16)) {
            true => map.entry(label.clone()).or_insert_with(String::new).push_str(line.trim()),
            false => {
                label = line.trim().to_owned();
                map.insert(label.clone(), String::new());
            }
        }
    }
    (head.to_owned(), map)
}
