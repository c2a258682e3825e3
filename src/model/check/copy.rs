//! Copies: of the operator's files on hosts, and older issues of a certificate beside the current one.

use super::{Severity, code::Code, evidence::Evidence, finding::Finding};

/// Everything stale.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for stale in &evidence.stale {
        let subject = stale.copy.display().to_string();
        found.push(match stale.missing {
            true => {
                let what = format!("the copy of {} is not there", stale.original.display());
                Finding::new(Code::Missing, subject, what).file(&stale.copy)
            }
            false => {
                let what = format!("it is not the same as {}", stale.original.display());
                let finding = Finding::new(Code::StaleCopy, subject, what);
                finding.file(&stale.copy).file(&stale.original)
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
        let (index, held) = evidence.held.iter().enumerate().find(|(_, held)| {
            held.certificate().is_some_and(|current| {
                current.view.profile.subject == stray.view.profile.subject
                    && current.view.issuer == stray.view.issuer
                    && current.view.profile.extended_usages == stray.view.profile.extended_usages
                    && current.view.profile.kind == stray.view.profile.kind
            })
        })?;
        let current = held.certificate()?;
        (current.view.fingerprint != stray.view.fingerprint).then(|| {
            let what = format!("it holds another issue of {}", held.cert_file.display());
            Finding::new(Code::StaleCopy, evidence.label(index), what)
                .severity(Severity::Warning)
                .file(&file.path)
                .file(&held.cert_file)
                .hint("move it away, or copy the current one over it")
        })
    })
}
