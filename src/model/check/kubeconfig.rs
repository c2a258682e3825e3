//! Kubeconfigs: that they verify their server, and by the right CA.

use super::{evidence::Evidence, finding::Finding};
use crate::model::shown;
use crate::model::{code::Code, observed::KubeconfigView};

/// Everything wrong with kubeconfigs.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, held) in evidence.held().iter().enumerate() {
        let Some(kubeconfig) = &held.kubeconfig else { continue };
        let finding = |code, what: String| {
            Finding::new(code, evidence.label(index), what).file(&kubeconfig.file).about(index)
        };
        let server = kubeconfig.server.as_deref().unwrap_or_default();
        if kubeconfig.insecure {
            let what = "insecure-skip-tls-verify is set: it verifies no certificate".to_owned();
            found.push(finding(Code::KubeconfigInsecure, what));
        } else if server.starts_with("http://") {
            found.push(finding(
                Code::KubeconfigInsecure,
                format!("its server is {}", shown::url(server)),
            ));
        } else if kubeconfig.verifies_server == Some(false) && !is_bundle(evidence, kubeconfig) {
            let what = "the CA it trusts does not verify the apiserver's certificate".to_owned();
            let finding = finding(Code::KubeconfigCa, what);
            found.push(match &kubeconfig.authority_file {
                Some(file) => finding.file(file),
                None => finding,
            });
        }
    }
    found
}

/// Whether what it trusts is a bundle of the cluster's, of which the fault is told once.
fn is_bundle(evidence: &Evidence<'_>, kubeconfig: &KubeconfigView) -> bool {
    kubeconfig.authority_file.as_ref().is_some_and(|file| {
        evidence.observed.trust.values().any(|t| t.is_bundle && t.file == *file)
    })
}
