//! The report as SARIF 2.1.0, with a rule for every code.

use serde_json::{Value, json};

use crate::{
    model::{
        check::finding::Finding,
        code::{CODES, CodeSpec, Severity},
    },
    ops::verify::Report,
};

/// The document.
pub fn document(report: &Report) -> String {
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "certkit",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": CODES.iter().map(rule).collect::<Vec<_>>(),
                },
            },
            "results": report.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{document:#}\n")
}

fn rule(spec: &CodeSpec) -> Value {
    json!({
        "id": spec.name,
        "shortDescription": {"text": spec.title},
        "fullDescription": {"text": spec.explanation},
        "help": {"text": spec.fix},
        "defaultConfiguration": {"level": level(spec.severity)},
    })
}

fn result(finding: &Finding) -> Value {
    let locations: Vec<_> = finding
        .files
        .iter()
        .map(|file| {
            json!({"physicalLocation": {"artifactLocation": {"uri": uri(&file.to_string_lossy())}}})
        })
        .collect();
    let mut text = format!("{}: {}", finding.subject, finding.what);
    if !finding.paths.is_empty() {
        text.push_str(&format!(" (paths: {})", finding.paths.join(", ")));
    }
    let rule = CODES.iter().position(|spec| spec.code == finding.code);
    json!({
        "ruleId": finding.code.name(),
        "ruleIndex": rule,
        "level": level(finding.severity),
        "message": {"text": text},
        "locations": locations,
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Critical => "error",
    }
}

/// A relative reference (RFC 3986): what may not stand in one is percent-encoded.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
