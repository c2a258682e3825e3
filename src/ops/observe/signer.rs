//! Who signed what: the part of observing that takes cryptography.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use crate::{
    model::{
        algorithm::KeyAlgorithm,
        catalogue::{CertId, roles},
        check::evidence::is_local,
        layout::Layout,
        observed::{CertView, Held, Signer, Trust},
    },
    parallel,
    pki::inspect::Certificate,
};

/// The certificates that were found, by the index of their instance.
type Found = BTreeMap<usize, Vec<Certificate>>;

/// Who signed each certificate.
pub fn signers(
    layout: &Layout<'_>,
    found: &Found,
    trust: &BTreeMap<(PathBuf, CertId), Trust>,
) -> Vec<Option<Signer>> {
    let instances = &layout.instances;
    let authorities: Vec<usize> =
        (0..instances.len()).filter(|i| instances[*i].spec.is_ca()).collect();
    // While one CA follows another, both are in what is trusted.
    let trusted: HashMap<CertId, Vec<Certificate>> = trust
        .iter()
        .filter(|((root, _), _)| root.as_os_str().is_empty())
        .filter_map(|((_, id), trust)| {
            let all = trust.certificates.present()?;
            let read = all.iter().filter_map(|c| Certificate::from_der(c.der.clone()).ok());
            Some((*id, read.collect()))
        })
        .collect();
    let all: Vec<usize> = (0..instances.len()).collect();
    parallel::map(&all, parallel::processors(), 64, |index| {
        let leaf = found.get(index)?.first()?;
        let id = instances[*index].issuer?;
        let expected = layout.authority(id).and_then(|above| found.get(&above));
        let Some(expected) = expected else { return Some(Signer::NoCa) };
        let others = trusted.get(&id).map(Vec::as_slice).unwrap_or_default();
        Some(signer(leaf, expected, others, &authorities, found))
    })
}

fn signer(
    leaf: &Certificate,
    expected: &[Certificate],
    trusted: &[Certificate],
    authorities: &[usize],
    found: &Found,
) -> Signer {
    let named = |ca: &Certificate| leaf.issuer() == ca.subject();
    let by_key = |ca: &&Certificate| leaf.signed_by(ca);
    if expected.iter().any(|ca| named(ca) && by_key(&ca)) {
        return Signer::Expected;
    }
    if trusted.iter().any(|ca| named(ca) && by_key(&ca)) {
        return Signer::Trusted;
    }
    // What nothing here verifies any more is judged by its name; that it is weak is a finding itself.
    let lower = leaf.signature_algorithm().to_ascii_lowercase();
    let weak = lower.contains("sha1") || lower.contains("md5");
    let weak_key =
        |ca: &Certificate| matches!(ca.algorithm(), Some(KeyAlgorithm::Rsa(bits)) if bits < 2048);
    if expected.iter().any(|ca| named(ca) && (weak || weak_key(ca))) {
        return Signer::Presumed;
    }
    if expected.iter().find(by_key).is_some() {
        return Signer::NameDiffers;
    }
    let is_signer = |index: &&usize| {
        let ca = found.get(index).and_then(|all| all.first());
        ca.is_some_and(|ca| named(ca) && by_key(&ca))
    };
    if let Some(index) = authorities.iter().find(is_signer) {
        return Signer::Other(*index);
    }
    if leaf.is_self_signed() {
        Signer::Itself
    } else if expected.iter().any(named) {
        Signer::Namesake
    } else {
        Signer::Unknown
    }
}

/// Whether what each kubeconfig trusts vouches for the apiserver it talks to.
pub fn verify_servers(layout: &Layout<'_>, held: &mut [Held]) {
    let instances = &layout.instances;
    let servers: Vec<usize> =
        (0..held.len()).filter(|i| instances[*i].spec.id == roles::API_SERVING.id).collect();
    let sound = |held: &[Held], i: usize| held[i].signer.is_some_and(Signer::is_right);
    // Those of a thousand nodes trust the same for the same server.
    let mut known: HashMap<(String, String), bool> = HashMap::new();
    let mut is_signed = |cert: &CertView, anchor: &CertView| {
        let pair = (cert.fingerprint.clone(), anchor.fingerprint.clone());
        *known.entry(pair).or_insert_with(|| signed(cert, anchor))
    };
    for index in 0..held.len() {
        let Some(kubeconfig) = &held[index].kubeconfig else { continue };
        let Some(trusted) = kubeconfig.authorities.present() else { continue };
        let local = is_local(instances[index].spec);
        let own = |s: &usize| instances[*s].root == instances[index].root;
        // One that should reach the server on its own host may have none there.
        let only_own = local && servers.iter().any(own);
        let server = servers.iter().copied().find(|s| sound(held, *s) && (!only_own || own(s)));
        let Some(server) = server else { continue };
        let Some(shown) = held[server].certificates.present() else { continue };
        let vouches = shown.iter().any(|cert| {
            trusted.iter().any(|anchor| {
                cert.fingerprint == anchor.fingerprint
                    || (cert.issuer == anchor.profile.subject && is_signed(cert, anchor))
            })
        });
        if let Some(kubeconfig) = &mut held[index].kubeconfig {
            kubeconfig.verifies_server = Some(vouches);
        }
    }
}

fn signed(cert: &CertView, by: &CertView) -> bool {
    match (Certificate::from_der(cert.der.clone()), Certificate::from_der(by.der.clone())) {
        (Ok(cert), Ok(by)) => cert.signed_by(&by),
        _ => false,
    }
}
