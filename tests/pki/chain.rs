//! Path validation: what is accepted and why not.

use certkit::{
    model::{
        algorithm::KeyAlgorithm,
        profile::{Kind, Profile},
        san::San,
        usage::ExtendedUsage,
    },
    pki::{
        chain::{self, ChainError, LeafUse},
        inspect::Certificate,
        issue::{self, Issuance, IssuingCa},
        key::PrivateKey,
    },
};

use crate::{algorithms, ca, ca_profile, issue_leaf, leaf_profile, long, now, validity};

const SERVER: LeafUse<'_> = LeafUse::Server { name: None };

#[test]
fn every_leaf_under_every_ca_is_accepted_by_webpki() {
    let leaves: Vec<PrivateKey> =
        algorithms().into_iter().map(|a| PrivateKey::generate(a).unwrap()).collect();
    for algorithm in algorithms() {
        let (issuer, stranger) = (ca(algorithm), ca(algorithm));
        for key in &leaves {
            let leaf = issue_leaf(&issuer, key);
            let verify = |anchors: &[&Certificate], purpose: LeafUse<'_>| {
                chain::verify(&leaf, &[], anchors, now(), purpose)
            };
            let anchors = [stranger.certificate(), issuer.certificate()];
            for name in ["cp1", "a.example.com", "10.0.0.1", "fd00::1"] {
                let name = San::parse(name).unwrap();
                assert_eq!(verify(&anchors, LeafUse::Server { name: Some(&name) }), Ok(()));
            }
            assert_eq!(verify(&anchors, LeafUse::Client), Ok(()));
            // Same name, other key.
            assert!(matches!(
                verify(&[stranger.certificate()], SERVER),
                Err(ChainError::BadSignature | ChainError::UnknownIssuer)
            ));
        }
    }
}

fn issued(issuer: &IssuingCa, profile: &Profile) -> (Certificate, PrivateKey) {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let validity = validity("2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z");
    let order = Issuance { profile, validity, public_key: key.public_key() };
    (issue::issue(&order, issuer).unwrap().certificate, key)
}

#[test]
fn each_fault_has_its_own_error() {
    let root = ca(KeyAlgorithm::EcdsaP256);
    let anchor = [root.certificate()];
    let (leaf, leaf_key) = issued(&root, &leaf_profile());
    let at = |time: &str| chain::verify(&leaf, &[], &anchor, time.parse().unwrap(), SERVER);
    assert_eq!(at("2028-01-01T00:00:00Z"), Ok(()));
    assert_eq!(
        at("2028-01-01T00:00:01Z"),
        Err(ChainError::Expired { not_after: leaf.validity().not_after })
    );
    assert_eq!(at("2026-01-01T00:00:00Z"), Ok(()));
    assert_eq!(
        at("2025-12-31T23:59:59Z"),
        Err(ChainError::NotYetValid { not_before: leaf.validity().not_before })
    );

    let name = San::parse("other.example.org").unwrap();
    assert_eq!(
        chain::verify(&leaf, &[], &anchor, now(), LeafUse::Server { name: Some(&name) }),
        Err(ChainError::WrongName(name))
    );
    let uri = San::Uri("spiffe://a".into());
    assert_eq!(
        chain::verify(&leaf, &[], &anchor, now(), LeafUse::Server { name: Some(&uri) }),
        Err(ChainError::NameKind(uri))
    );

    let client = Profile { extended_usages: vec![ExtendedUsage::ClientAuth], ..leaf_profile() };
    let (client, _) = issued(&root, &client);
    assert!(matches!(
        chain::verify(&client, &[], &anchor, now(), SERVER),
        Err(ChainError::WrongUsage(_))
    ));
    assert_eq!(chain::verify(&client, &[], &anchor, now(), LeafUse::Client), Ok(()));

    assert_eq!(chain::verify(&leaf, &[], &[], now(), SERVER), Err(ChainError::UnknownIssuer));
    assert_eq!(
        chain::verify(root.certificate(), &[], &anchor, now(), SERVER),
        Err(ChainError::CaAsLeaf)
    );

    // A leaf that signs: made an issuer by a certificate of the same name and key that says it is a CA.
    let forged = Profile { subject: leaf.subject().clone(), ..ca_profile("x") };
    let forged = issue::self_signed(&forged, long(), &leaf_key).unwrap();
    let forger = IssuingCa::new(forged, leaf_key).unwrap();
    let (victim, _) = issued(&forger, &Profile { sans: vec![], ..leaf_profile() });
    assert_eq!(chain::verify(&victim, &[&leaf], &anchor, now(), SERVER), Err(ChainError::LeafAsCa));
}

#[test]
fn a_path_through_intermediates_is_found_and_its_length_is_kept() {
    let root = ca(KeyAlgorithm::EcdsaP256);
    let limited = Profile { kind: Kind::Ca { path_len: Some(1) }, ..ca_profile("one") };
    let (one, key) = issued(&root, &limited);
    let one = IssuingCa::new(one, key).unwrap();
    let (two, key) = issued(&one, &ca_profile("two"));
    let two = IssuingCa::new(two, key).unwrap();
    let (three, key) = issued(&two, &ca_profile("three"));
    let three = IssuingCa::new(three, key).unwrap();
    let chain = [one.certificate(), two.certificate(), three.certificate()];
    let verify =
        |leaf: &Certificate| chain::verify(leaf, &chain, &[root.certificate()], now(), SERVER);
    assert_eq!(verify(&issued(&two, &leaf_profile()).0), Ok(()));
    assert_eq!(verify(&issued(&three, &leaf_profile()).0), Err(ChainError::PathLength));
}
