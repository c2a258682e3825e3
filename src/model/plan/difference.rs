//! How a certificate differs from what is declared.

use std::collections::BTreeSet;

use crate::model::{
    algorithm::KeyAlgorithm,
    cluster::Cluster,
    layout::Instance,
    observed::{CertView, Held},
    profile::{Kind, Profile},
    resolve,
    usage::{ExtendedUsage, KeyUsages},
};

/// How a leaf differs from what is declared, each difference in a few words. The key's algorithm is
/// [`algorithm_difference`]'s, and its term is judged by time alone.
pub fn differences(instance: &Instance<'_>, cluster: &Cluster, observed: &Held) -> Vec<String> {
    let Some(certificate) = observed.certificate() else { return Vec::new() };
    let mut differences = Vec::new();
    if observed.is_signed() == Some(false) {
        let authority = instance.issuer.unwrap_or_default();
        differences.push(format!("signed by {}, not by {authority}", certificate.issuer));
    }
    differences
        .extend(profile_differences(&certificate.profile, &resolve::profile(instance, cluster)));
    differences
}

/// How what a certificate says differs from what it should say.
pub fn profile_differences(found: &Profile, declared: &Profile) -> Vec<String> {
    let mut differences = Vec::new();
    if !names_the_same(found, declared) {
        differences.push(format!("subject {}, declared {}", found.subject, declared.subject));
    }
    let sans = |profile: &Profile| profile.sans.iter().cloned().collect::<BTreeSet<_>>();
    let (has, wants) = (sans(found), sans(declared));
    differences.extend(wants.difference(&has).map(|san| format!("SAN missing {san}")));
    differences.extend(has.difference(&wants).map(|san| format!("SAN surplus {san}")));
    if found.kind != declared.kind {
        let text = |kind| match kind {
            Kind::Ca { .. } => "a CA",
            Kind::Leaf => "a leaf",
        };
        differences.push(format!("{}, declared {}", text(found.kind), text(declared.kind)));
    }
    // Signers elsewhere have habits of their own; what counts is that it can sign handshakes, which without
    // the extension everything can, and that it signs no certificates.
    let (has, wants) = (found.key_usages, declared.key_usages);
    let signs = KeyUsages::DIGITAL_SIGNATURE;
    if has != KeyUsages::default() && wants.contains(signs) && !has.contains(signs) {
        differences.push("key usage missing digitalSignature".into());
    }
    let surplus = KeyUsages(has.0 & !wants.0 & (KeyUsages::CERT_SIGN.0 | KeyUsages::CRL_SIGN.0));
    differences.extend(surplus.names().map(|name| format!("key usage surplus {name}")));
    let usages = |p: &Profile| p.extended_usages.iter().cloned().collect::<BTreeSet<_>>();
    let (has, wants) = (usages(found), usages(declared));
    differences.extend(wants.difference(&has).map(|usage| format!("usage missing {usage}")));
    differences.extend(has.difference(&wants).map(|usage| format!("usage surplus {usage}")));
    differences
}

/// Whether a certificate names whom it should, however that is written: openssl, cfssl and Go choose string
/// types of their own. A client's values are Kubernetes' user and groups, which it compares to the letter.
pub fn names_the_same(found: &Profile, declared: &Profile) -> bool {
    match declared.extended_usages.contains(&ExtendedUsage::ClientAuth) {
        true => found.subject.is_written_otherwise(&declared.subject),
        false => found.subject.matches(&declared.subject),
    }
}

/// How the key's algorithm differs from the declared one.
pub fn algorithm_difference(declared: KeyAlgorithm, certificate: &CertView) -> Option<String> {
    (certificate.algorithm != Some(declared)).then(|| match certificate.algorithm {
        Some(found) => format!("algorithm {found}, declared {declared}"),
        None => format!("an algorithm certkit does not know, declared {declared}"),
    })
}
