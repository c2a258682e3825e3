//! What DIR says is trusted of a CA, as it is published in a cluster.

use std::{collections::BTreeSet, path::Path};

use super::read;
use crate::{
    document::kubeconfig,
    model::{
        catalogue::{CERTIFICATES, CertSpec, Home},
        observed::Piece,
        shown::with_causes,
        trust::{TrustAnchor, TrustBundle},
    },
    pki::{
        inspect::{self, Certificate},
        pem,
    },
};

/// The CAs whose bundles can be published: those that have one.
pub fn published() -> impl Iterator<Item = &'static CertSpec> {
    CERTIFICATES.iter().filter(|spec| matches!(spec.home, Home::Authority { bundle: Some(_), .. }))
}

/// What is trusted of a CA by the bundle below `dir`; where there is none, as kubeadm leaves it, by the file that signs.
pub fn bundle(dir: &Path, spec: &'static CertSpec) -> Result<TrustBundle, String> {
    let Home::Authority { cert, bundle, .. } = &spec.home else {
        return Err(format!("{} is no CA", spec.id));
    };
    let issuing = anchors(dir, cert)?;
    let trusted = match bundle {
        Some(bundle) => anchors(dir, bundle)?,
        None => None,
    };
    let Some(anchors) = trusted.or_else(|| issuing.clone()) else {
        let missing = bundle.unwrap_or(cert);
        return Err(format!("{}: there is no such file", dir.join(missing).display()));
    };
    // Of a file with several, as somebody may have put together, the first signs.
    let issuing = issuing.and_then(|all| all.first().map(|anchor| anchor.fingerprint.clone()));
    Ok(TrustBundle { authority: spec.id.name(), anchors, issuing })
}

/// The CAs of a file, each once; a file with anything else in it is not used.
fn anchors(dir: &Path, file: &str) -> Result<Option<Vec<TrustAnchor>>, String> {
    let path = dir.join(file);
    let told = |why: &str| format!("{}: {why}", path.display());
    let content = match read::file(&path) {
        Piece::Missing => return Ok(None),
        Piece::Bad(why) => return Err(told(&why)),
        Piece::Present(content) => content,
    };
    if content.trim_ascii().is_empty() {
        return Err(told("is empty"));
    }
    let all = inspect::from_pem(&content).map_err(|error| told(&with_causes(&error)))?;
    let mut seen = BTreeSet::new();
    let mut anchors = Vec::new();
    for certificate in all {
        // Kubernetes takes nothing else into a ClusterTrustBundle, and nobody should trust anything else.
        if !certificate.is_ca() {
            return Err(told(&format!("{} is no CA's certificate", certificate.subject())));
        }
        let fingerprint = certificate.fingerprint_hex();
        if seen.insert(fingerprint.clone()) {
            anchors.push(TrustAnchor {
                pem: pem::encode("CERTIFICATE", certificate.der()),
                fingerprint,
                subject: certificate.subject().to_string(),
            });
        }
    }
    Ok(Some(anchors))
}

/// The certificates of PEM; none where it is none.
pub fn in_pem(pem: &[u8]) -> Vec<Certificate> {
    inspect::from_pem(pem).unwrap_or_default()
}

/// What the clusters of a kubeconfig are verified by; nothing of anything else.
pub fn in_kubeconfig(octets: &[u8]) -> Vec<Certificate> {
    let view = kubeconfig::parse(octets).unwrap_or_default();
    let embedded = |cluster: &kubeconfig::ClusterView| match &cluster.ca {
        Some(kubeconfig::Material::Data(pem)) => in_pem(pem),
        _ => Vec::new(),
    };
    view.clusters.iter().flat_map(embedded).collect()
}

/// The fingerprints of the CAs in a text; none where it has anything but CAs, as a server's chain does.
pub fn held(text: &[u8]) -> BTreeSet<String> {
    const SIGN: &[u8] = b"certificate-authority-data";
    let all = match text.windows(SIGN.len()).any(|window| window == SIGN) {
        true => in_kubeconfig(text),
        false => in_pem(text),
    };
    match all.iter().all(Certificate::is_ca) {
        true => all.iter().map(Certificate::fingerprint_hex).collect(),
        false => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::catalogue::roles::CLUSTER_CA;

    #[test]
    fn what_is_no_bundle_is_told_and_never_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("pki/ca-bundle.crt");
        fs::create_dir_all(dir.path().join("pki")).expect("a folder");
        let mut told = Vec::new();
        for content in ["", "  \n", "nothing", "-----BEGIN CERTIFICATE-----\nMIIB"] {
            fs::write(&file, content).expect("written");
            told.push(bundle(dir.path(), CLUSTER_CA).expect_err(content));
        }
        fs::remove_file(&file).expect("removed");
        told.push(bundle(dir.path(), CLUSTER_CA).expect_err("nothing is there"));
        for why in told {
            assert!(why.contains("ca-bundle.crt"), "{why}");
        }
    }
}
