//! The lines of log.jsonl: what was changed, when and why. No secrets.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::apply::Record;
use crate::model::{
    plan::{KeyChoice, Step},
    timestamp::Timestamp,
};

/// A line. A fleet has one for each file, so that no document is made of it first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time: String,
    command: &'a str,
    action: &'a str,
    name: &'a str,
    files: &'a [PathBuf],
    #[serde(flatten)]
    issued: Option<Issued<'a>>,
    reason: &'a str,
}

/// What is said of a certificate besides.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issued<'a> {
    fingerprint: &'a str,
    replaced: Option<&'a str>,
    key: &'static str,
    not_after: String,
}

fn text(line: &Line<'_>) -> String {
    // The store takes UTF-8 paths only, and nothing else here can fail.
    serde_json::to_string(line).unwrap_or_default()
}

/// A certificate that was issued or taken in.
pub fn certificate(command: &str, action: &str, record: &Record, now: Timestamp) -> String {
    text(&Line {
        time: now.to_string(),
        command,
        action,
        name: &record.label,
        files: &record.files,
        issued: Some(Issued {
            fingerprint: &record.fingerprint,
            replaced: record.replaced.as_deref(),
            key: match record.key {
                KeyChoice::Existing => "kept",
                KeyChoice::New => "new",
            },
            not_after: record.not_after.to_string(),
        }),
        reason: &record.reason,
    })
}

/// Another file that was written.
pub fn step(command: &str, action: &str, step: &Step, now: Timestamp) -> String {
    text(&Line {
        time: now.to_string(),
        command,
        action,
        name: &step.label,
        files: &step.files,
        issued: None,
        reason: &step.reason.to_string(),
    })
}

/// A file that was written or removed as it is, whatever it is of.
pub fn file(command: &str, action: &str, path: &Path, reason: &str, now: Timestamp) -> String {
    text(&Line {
        time: now.to_string(),
        command,
        action,
        name: &path.to_string_lossy(),
        files: &[path.to_path_buf()],
        issued: None,
        reason,
    })
}
