//! The report as one JSON document.

use serde_json::{Value, json};

use super::table::{expected, outcome};
use crate::{
    model::{check::finding::Finding, timestamp::Timestamp},
    ops::verify::{Report, Tried},
};

/// The document.
pub fn document(report: &Report, at: Timestamp) -> String {
    let sum = report.summary;
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "VerifyReport",
        "at": at.to_string(),
        "cluster": report.cluster,
        "declared": report.declared,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "allowed": report.allowed,
        "handshakes": {
            "mustWork": sum.must_work,
            "work": sum.work,
            "mustBeRefused": sum.must_refuse,
            "refused": sum.refused,
            "onlyAuthorization": sum.authorization,
            "untried": sum.untried,
        },
        "tried": report.tried.iter().map(tried).collect::<Vec<_>>(),
        "forecast": report.forecast.as_ref().map(|breaks| {
            breaks
                .iter()
                .map(|b| {
                    json!({
                        "worksUntil": b.at.to_string(),
                        "path": b.path.id,
                        "because": b.because,
                        "file": b.file,
                        "confirmed": b.confirmed,
                        "fails": b.path.breaks,
                    })
                })
                .collect::<Vec<_>>()
        }),
    });
    format!("{document:#}\n")
}

fn finding(finding: &Finding) -> Value {
    json!({
        "code": finding.code.name(),
        "severity": finding.severity.name(),
        "subject": finding.subject,
        "files": finding.files,
        "what": finding.what,
        "hint": finding.hint,
        "paths": finding.paths,
    })
}

fn tried(tried: &Tried) -> Value {
    json!({
        "name": tried.name,
        "path": tried.pairing.path.id,
        "client": tried.client,
        "server": tried.server,
        "knownAs": tried.pairing.name,
        "expected": expected(tried.pairing.expect),
        "outcome": outcome(tried),
        "asExpected": tried.is_as_expected(),
    })
}
