//! The lines of log.jsonl: what was changed, when and why. No secrets.

use std::path::Path;

use serde_json::json;

use super::apply::Record;
use crate::model::{
    plan::{KeyChoice, Step},
    timestamp::Timestamp,
};

/// A certificate that was issued or taken in.
pub fn certificate(command: &str, action: &str, record: &Record, now: Timestamp) -> String {
    json!({
        "time": now.to_string(),
        "command": command,
        "action": action,
        "name": record.label,
        "files": record.files,
        "fingerprint": record.fingerprint,
        "replaced": record.replaced,
        "key": match record.key {
            KeyChoice::Existing => "kept",
            KeyChoice::New => "new",
        },
        "notAfter": record.not_after.to_string(),
        "reason": record.reason,
    })
    .to_string()
}

/// Another file that was written.
pub fn step(command: &str, action: &str, step: &Step, now: Timestamp) -> String {
    json!({
        "time": now.to_string(),
        "command": command,
        "action": action,
        "name": step.label,
        "files": step.files,
        "reason": step.reason.to_string(),
    })
    .to_string()
}

/// A file that was written or removed as it is, whatever it is of.
pub fn file(command: &str, action: &str, path: &Path, reason: &str, now: Timestamp) -> String {
    json!({
        "time": now.to_string(),
        "command": command,
        "action": action,
        "name": path,
        "files": [path],
        "reason": reason,
    })
    .to_string()
}
