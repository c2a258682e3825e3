//! Copies: of the operator's files on hosts, and older issues of a certificate beside the current one.

use super::{evidence::Evidence, finding::Finding};
use crate::model::code::{Code, Severity};

/// Everything stale.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (copy, is_missing) in evidence.stale() {
        let subject = copy.to.display().to_string();
        found.push(match is_missing {
            true => {
                let what = format!("the copy of {} is not there", copy.from.display());
                Finding::new(Code::Missing, subject, what).file(&copy.to)
            }
            false => {
                let what = format!("it is not the same as {}", copy.from.display());
                let finding = Finding::new(Code::StaleCopy, subject, what);
                finding.file(&copy.to).file(&copy.from)
            }
        });
    }
    for file in evidence.files.iter().filter(|f| !f.is_used && !f.certificates.is_empty()) {
        if let Some(finding) = older(evidence, file) {
            found.push(finding);
        }
    }
    found
}

/// A file that nothing names and that holds an older issue of a certificate in use.
pub(super) fn older(evidence: &Evidence<'_>, file: &super::evidence::FileFacts) -> Option<Finding> {
    file.certificates.iter().find_map(|stray| {
        let (index, held) = evidence.held().iter().enumerate().find(|(_, held)| {
            held.certificate().is_some_and(|current| {
                current.profile.subject == stray.profile.subject
                    && current.issuer == stray.issuer
                    && current.profile.extended_usages == stray.profile.extended_usages
                    && current.profile.kind == stray.profile.kind
            })
        })?;
        let current = held.certificate()?;
        (current.fingerprint != stray.fingerprint).then(|| {
            let what = format!("it holds another issue of {}", held.place.cert().display());
            Finding::new(Code::StaleCopy, evidence.label(index), what)
                .severity(Severity::Warning)
                .file(&file.path)
                .file(held.place.cert())
                .hint("move it away, or copy the current one over it")
        })
    })
}
