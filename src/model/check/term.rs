//! Terms: what has ended and what has not begun.

use super::{evidence::Evidence, finding::Finding};
use crate::model::{code::Code, observed::CertView};

/// Everything out of its time.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, held) in evidence.held().iter().enumerate() {
        if let Some(certificate) = held.certificate()
            && let Some(finding) = one(evidence, evidence.label(index), certificate)
        {
            found.push(finding.file(held.place.cert()).about(index));
        }
    }
    found
}

fn one(evidence: &Evidence<'_>, subject: String, certificate: &CertView) -> Option<Finding> {
    let validity = certificate.validity;
    if validity.not_after < evidence.at {
        let what = format!("it expired {}", validity.not_after);
        Some(Finding::new(Code::Expired, subject, what))
    } else if validity.not_before > evidence.at {
        let what = format!("it is not valid before {}", validity.not_before);
        Some(Finding::new(Code::NotYetValid, subject, what))
    } else {
        None
    }
}
