//! The apiserver's audit log: who showed which certificate. Kubernetes 1.36 notes the SHA-256 of the certificate as
//! `X509SHA256=...` among the user's extras (`staging/src/k8s.io/apiserver/pkg/authentication/request/x509/x509.go`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader},
    path::PathBuf,
};

use serde_json::Value;

use crate::model::timestamp::Timestamp;

/// Who used a certificate that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offender {
    /// The user.
    pub user: String,
    /// The address the request came from.
    pub address: String,
    /// The program.
    pub agent: String,
    /// SHA-256 of the certificate in hexadecimal.
    pub fingerprint: String,
    /// When it was seen last, RFC 3339.
    pub last: String,
}

const CREDENTIAL: &str = "/user/extra/authentication.kubernetes.io~1credential-id";

/// A line longer than this is no event.
const LINE: u64 = 4 << 20;

/// Who showed, since then, a certificate whose fingerprint is not known. The logs must reach back that far; they are read
/// line by line.
pub fn offenders(
    files: &[PathBuf],
    since: Timestamp,
    known: &BTreeSet<String>,
) -> Result<Vec<Offender>, String> {
    let mut first: Option<Timestamp> = None;
    let mut found: BTreeMap<(String, String), Offender> = BTreeMap::new();
    for path in files {
        let name = path.display();
        let file = File::open(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let mut part = std::io::Read::take(&mut reader, LINE);
            let read = part.read_until(b'\n', &mut line);
            if read.map_err(|error| format!("{name}: cannot be read: {error}"))? == 0 {
                break;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let wrong = || format!("{name}: line {number} is no event of an audit log in JSON");
            let event: Value = serde_json::from_slice(&line).map_err(|_| wrong())?;
            let time = event.pointer("/requestReceivedTimestamp").and_then(Value::as_str);
            let time = time.ok_or_else(wrong)?;
            // Kubernetes writes microseconds; seconds are enough.
            let seconds =
                time.split_once('.').map_or(time.to_owned(), |(time, _)| format!("{time}Z"));
            let at: Timestamp = seconds.parse().map_err(|_| wrong())?;
            first = Some(first.map_or(at, |first| first.min(at)));
            if at < since {
                continue;
            }
            let ids = event.pointer(CREDENTIAL).and_then(Value::as_array).into_iter().flatten();
            for id in ids.filter_map(|id| id.as_str()?.strip_prefix("X509SHA256=")) {
                if known.contains(id) {
                    continue;
                }
                let text = |pointer: &str| {
                    event.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned()
                };
                let user = text("/user/username");
                let offender = Offender {
                    user: user.clone(),
                    address: text("/sourceIPs/0"),
                    agent: text("/userAgent"),
                    fingerprint: id.to_owned(),
                    last: seconds.clone(),
                };
                found.insert((user, id.to_owned()), offender);
            }
        }
    }
    match first {
        Some(first) if first <= since => Ok(found.into_values().collect()),
        Some(first) => Err(format!(
            "the audit log begins {first}, and must reach back to {since}: give older files too, or \
             --quiet-for less"
        )),
        None => Err("the audit log has no event".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: &str, user: &str, id: &str) -> String {
        serde_json::json!({
            "requestReceivedTimestamp": time,
            "user": {
                "username": user,
                "extra": {"authentication.kubernetes.io/credential-id": [id]},
            },
            "sourceIPs": ["10.0.0.9"],
            "userAgent": "kubectl/v1.36",
        })
        .to_string()
    }

    fn judged(lines: &[String], since: &str) -> Result<Vec<Offender>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(&path, lines.join("\n")).unwrap();
        offenders(&[path], since.parse().unwrap(), &BTreeSet::from(["aa".to_owned()]))
    }

    #[test]
    fn only_unknown_certificates_in_the_time_asked_for_offend() {
        let lines = [
            event("2026-01-01T00:00:00.000001Z", "old", "X509SHA256=bb"),
            event("2026-01-02T00:00:00.000001Z", "new", "X509SHA256=aa"),
            event("2026-01-02T00:00:01.000001Z", "bob", "X509SHA256=bb"),
            event("2026-01-02T00:00:02.000001Z", "pod", "JTI=1234"),
        ];
        let found = judged(&lines, "2026-01-01T12:00:00Z").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].user.as_str(), found[0].address.as_str()), ("bob", "10.0.0.9"));
    }

    #[test]
    fn a_log_that_does_not_reach_back_proves_nothing() {
        let lines = [event("2026-01-02T00:00:00Z", "new", "X509SHA256=aa")];
        assert!(judged(&lines, "2026-01-01T00:00:00Z").unwrap_err().contains("must reach back"));
        assert!(judged(&[], "2026-01-01T00:00:00Z").unwrap_err().contains("no event"));
        assert!(judged(&["{".to_owned()], "2026-01-01T00:00:00Z").unwrap_err().contains("line 1"));
    }
}
