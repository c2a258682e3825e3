//! Authorities: that a CA is one, for one role only, and that what is trusted is what signs.

use std::collections::BTreeSet;

use super::{evidence::Evidence, finding::Finding};
use crate::model::{
    catalogue::{CertId, USES, Value, roles},
    observed::Piece,
    profile::Kind,
    usage::KeyUsages,
};
use crate::model::{
    code::Code,
    observed::{CertView, FoundKey},
};

/// Everything wrong with authorities.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let authorities: Vec<usize> = (0..evidence.held().len())
        .filter(|index| evidence.layout.instances[*index].spec.is_ca())
        .filter(|index| evidence.held()[*index].certificate().is_some())
        .collect();
    for &index in &authorities {
        one(evidence, index, &mut found);
    }
    shared(evidence, &authorities, &mut found);
    bundles(evidence, &mut found);
    overlap(evidence, &mut found);
    found
}

fn one(evidence: &Evidence<'_>, index: usize, found: &mut Vec<Finding>) {
    let (held, spec) = (&evidence.held()[index], evidence.layout.instances[index].spec);
    let Some(certificate) = held.certificate() else { return };
    let finding = |code, what: String| {
        Finding::new(code, evidence.label(index), what).file(held.place.cert()).about(index)
    };
    let signs = certificate.key_usages.is_none_or(|usages| usages.contains(KeyUsages::CERT_SIGN));
    match certificate.profile.kind {
        Kind::Leaf => {
            let what = "it is no CA certificate (basicConstraints)".to_owned();
            found.push(finding(Code::NotACa, what));
        }
        Kind::Ca { .. } if !signs => {
            let what = "it may not sign certificates (keyUsage lacks keyCertSign)".to_owned();
            found.push(finding(Code::NotACa, what));
        }
        Kind::Ca { path_len: Some(allowed) } => {
            let below = depth(evidence, spec.id);
            if usize::from(allowed) < below {
                let what = format!("it allows {allowed} CAs below it, and there are {below}");
                found.push(finding(Code::PathLen, what));
            }
        }
        Kind::Ca { path_len: None } => {}
    }
    let several = held.certificates.present().is_some_and(|all| all.len() > 1);
    let signing = USES.iter().find(|u| u.value == Value::Cert(spec.id) && u.flag.is_some());
    if several && let Some(signing) = signing {
        let flag = signing.flag.unwrap_or_default();
        let what = format!("{} demands exactly one certificate (--{flag})", signing.component);
        found.push(finding(Code::BundleNotSingle, what));
    }
    ending(evidence, index, certificate, found);
}

/// How many CAs of the catalogue stand below this one.
fn depth(evidence: &Evidence<'_>, id: CertId) -> usize {
    let below = evidence.layout.instances.iter().filter(|i| i.spec.is_ca() && i.issuer == Some(id));
    below.map(|i| 1 + depth(evidence, i.spec.id)).max().unwrap_or(0)
}

/// Whether a leaf issued now would have its full term.
fn ending(evidence: &Evidence<'_>, index: usize, certificate: &CertView, found: &mut Vec<Finding>) {
    let (held, instance) = (&evidence.held()[index], &evidence.layout.instances[index]);
    let end = certificate.validity.not_after;
    let issues = evidence
        .layout
        .instances
        .iter()
        .any(|i| !i.spec.is_ca() && i.issuer == Some(instance.spec.id));
    let term = evidence.cluster.validity.leaf;
    if issues && end >= evidence.at && end < evidence.at.plus(term) {
        // Nothing is issued where the key is not.
        if matches!(held.key, FoundKey::Present(_) | FoundKey::Sealed(_) | FoundKey::Encrypted(_)) {
            let what = format!("it ends {end}, before a certificate issued today for {term} would");
            let finding = Finding::new(Code::CaEnding, evidence.label(index), what);
            found.push(finding.file(held.place.cert()).about(index));
        }
    }
}

fn shared(evidence: &Evidence<'_>, authorities: &[usize], found: &mut Vec<Finding>) {
    for (n, &index) in authorities.iter().enumerate() {
        let Some(one) = evidence.held()[index].certificate() else { continue };
        for &other in &authorities[..n] {
            let same = evidence.held()[other]
                .certificate()
                .is_some_and(|c| c.public_key == one.public_key);
            if same {
                let (a, b) = (evidence.label(other), evidence.label(index));
                let what = format!("{a} and {b} are one and the same CA");
                found.push(
                    Finding::new(Code::SharedCa, b, what)
                        .file(evidence.held()[index].place.cert())
                        .file(evidence.held()[other].place.cert())
                        .about(index)
                        .about(other),
                );
            }
        }
    }
}

fn bundles(evidence: &Evidence<'_>, found: &mut Vec<Finding>) {
    for ((root, id), trust) in &evidence.observed.trust {
        let index = evidence.find(*id, root);
        let subject = match root.as_os_str().is_empty() {
            true => id.to_string(),
            false => format!("{id} ({})", root.display()),
        };
        let finding = |code, what: String| {
            let finding = Finding::new(code, &subject, what).file(&trust.file);
            match index {
                Some(index) => finding.about(index),
                None => finding,
            }
        };
        match &trust.certificates {
            Piece::Bad(why) if trust.is_bundle => {
                let code = match why.starts_with(super::piece::FORBIDDEN) {
                    true => Code::Unreadable,
                    false => Code::Damaged,
                };
                found.push(finding(code, why.clone()));
            }
            Piece::Present(all) if trust.is_bundle => {
                let active = index.and_then(|i| evidence.held()[i].certificate());
                let stale = evidence.stale().any(|(copy, _)| copy.to == trust.file);
                if let Some(active) = active
                    && !stale
                    && !all.iter().any(|c| c.public_key == active.public_key)
                {
                    let file = index.map(|i| evidence.held()[i].place.cert().display().to_string());
                    let what = format!("it does not hold {}", file.unwrap_or_default());
                    found.push(finding(Code::BundleLacksCa, what));
                }
            }
            Piece::Missing if trust.is_bundle && evidence.declared() => {
                let what = "what verifiers are to trust is not there".to_owned();
                found.push(finding(Code::Missing, what));
            }
            Piece::Bad(_) | Piece::Missing | Piece::Present(_) => {}
        }
    }
}

/// What the apiserver trusts for users and what it trusts for the front proxy must have nothing in common.
fn overlap(evidence: &Evidence<'_>, found: &mut Vec<Finding>) {
    let keys = |all: &[CertView]| -> BTreeSet<Vec<u8>> {
        all.iter().map(|c| c.public_key.clone()).collect()
    };
    let roots: BTreeSet<_> = evidence.observed.trust.keys().map(|(root, _)| root.clone()).collect();
    for root in roots {
        let (Some((clients, users)), Some((front, proxies))) = (
            evidence.trusted(roles::CLUSTER_CA.id, &root),
            evidence.trusted(roles::FRONT_PROXY_CA.id, &root),
        ) else {
            continue;
        };
        let of = |id: CertId| evidence.find(id, &root);
        let (Some(ca), Some(proxy_ca)) = (of(roles::CLUSTER_CA.id), of(roles::FRONT_PROXY_CA.id))
        else {
            continue;
        };
        let key = |index: usize| evidence.held()[index].certificate().map(|c| c.public_key.clone());
        // Then it is one CA for two roles, which is said already.
        if key(ca).is_some() && key(ca) == key(proxy_ca) {
            continue;
        }
        let above = |index: usize| {
            evidence.issuer(index).and_then(key).filter(|k| keys(&users).contains(k))
        };
        let common = keys(&users).intersection(&keys(&proxies)).next().is_some();
        if common || above(proxy_ca).is_some() {
            let what = format!(
                "{} and {} trust the same CA: users' certificates pass as the front proxy's, or the \
                 reverse",
                front.display(),
                clients.display()
            );
            let finding =
                Finding::new(Code::FrontProxyOverlap, roles::FRONT_PROXY_CA.id.name(), what);
            found.push(finding.file(front).file(clients).about(proxy_ca).about(ca));
        }
    }
}
