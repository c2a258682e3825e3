//! How long certificates still last: one row for each certificate, and the judgement of a row.
//!
//! A certificate is valid up to and including the second of its notAfter (RFC 5280, 4.1.2.5).

use std::fmt;

use crate::model::{
    duration::{Span, Threshold},
    profile::Validity,
    timestamp::Timestamp,
};

/// One certificate that was looked for, found or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name: the catalogue's id, or the file, with what tells it from others in the same place.
    pub name: String,
    /// The host it is on, in a workspace.
    pub host: Option<String>,
    /// Leaf or authority.
    pub role: RowRole,
    /// Where it was found or looked for.
    pub origin: Origin,
    /// The authority that signed it: the known one that verifies it, else the issuer's common name.
    pub authority: Option<String>,
    /// Whether it cannot be renewed here, because the key that signs it is not here.
    pub externally_managed: bool,
    /// What was found.
    pub found: Found,
    /// Other places that hold the same certificate.
    pub also_in: Vec<String>,
    /// What is wrong besides its term.
    pub remarks: Vec<Remark>,
}

/// Whether it signs others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowRole {
    /// A certificate authority.
    Authority,
    /// An end entity.
    Leaf,
}

/// Where a certificate was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file, or the listener.
    pub path: String,
    /// Where in it, if it holds several things.
    pub inside: Option<Inside>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// A cluster of a kubeconfig.
    Cluster(String),
    /// A listener's answer: the path is its address.
    Listener,
    /// A value of another object of Kubernetes than a Secret, or of a document that is none.
    Object {
        /// Its kind; empty for a document that is none.
        kind: String,
        /// Its namespace, if it says one.
        namespace: Option<String>,
        /// Its name.
        name: String,
        /// The entry, or where in it the value stands.
        key: String,
    },
    /// An entry of a Secret.
    Secret {
        /// The Secret's namespace, if it says one.
        namespace: Option<String>,
        /// The Secret's name.
        name: String,
        /// The entry.
        key: String,
    },
    /// A user of a kubeconfig.
    User(String),
}

/// What was found in a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A certificate.
    Certificate(Box<Facts>),
    /// Nothing, and something must be there.
    Missing,
    /// Something that is no certificate, or cannot be read: why.
    Unreadable(String),
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Its term.
    pub validity: Validity,
    /// Its subject as text.
    pub subject: String,
    /// Its issuer as text.
    pub issuer: String,
    /// The rest, where it is asked for.
    pub details: Option<Box<Details>>,
}

/// What only some reports show of a certificate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The Kubernetes user it names: the common name.
    pub user: Option<String>,
    /// The Kubernetes groups it names: the organizations.
    pub groups: Vec<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// The key's algorithm.
    pub algorithm: String,
    /// Subject alternative names.
    pub sans: Vec<String>,
    /// SHA-256 of the certificate in hexadecimal.
    pub fingerprint: String,
    /// The certificate itself.
    pub der: Vec<u8>,
}

/// Something wrong with a row besides its term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The listener serves another certificate than the one on disk.
    NotOnDisk {
        /// The file and the serial numbers, as text.
        detail: String,
    },
    /// Something worth knowing that is no fault.
    Note(String),
}

/// When a certificate's end is near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// From when on it is a warning.
    pub warn: Threshold,
    /// From when on it is critical.
    pub critical: Threshold,
}

/// What is to be said of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// It ends within the warning threshold.
    Warning,
    /// The listener still serves another certificate than the one on disk.
    NotOnDisk,
    /// It ends within the critical threshold.
    Critical,
    /// It has ended.
    Expired,
    /// It has not begun: the clock here or there is wrong.
    NotYetValid,
    /// It is not there and must be.
    Missing,
    /// It cannot be known.
    Unknown,
}

/// How bad a status is: the exit code of monitoring plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to do.
    #[default]
    Ok = 0,
    /// To be looked at.
    Warning = 1,
    /// Broken, or soon.
    Critical = 2,
    /// It cannot be known.
    Unknown = 3,
}

/// The judgement of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// In a word.
    pub status: Status,
    /// The time from now to notAfter, negative once it is over; none where there is no certificate.
    pub left: Option<Span>,
    /// Why it is not simply as the status says.
    pub reason: Option<String>,
}

impl Status {
    /// How bad it is.
    pub fn level(self) -> Level {
        match self {
            Self::Ok => Level::Ok,
            Self::NotOnDisk | Self::Warning => Level::Warning,
            Self::Critical | Self::Expired | Self::Missing | Self::NotYetValid => Level::Critical,
            Self::Unknown => Level::Unknown,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::NotOnDisk => "NOT ON DISK",
            Self::Critical => "CRITICAL",
            Self::Expired => "EXPIRED",
            Self::NotYetValid => "NOT YET VALID",
            Self::Missing => "MISSING",
            Self::Unknown => "UNKNOWN",
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        })
    }
}

impl Row {
    /// The certificate, if one was found.
    pub fn facts(&self) -> Option<&Facts> {
        match &self.found {
            Found::Certificate(facts) => Some(facts),
            Found::Missing | Found::Unreadable(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match &self.inside {
            None | Some(Inside::Listener) => Ok(()),
            Some(Inside::Cluster(name)) => write!(f, " (cluster {name})"),
            Some(Inside::User(name)) => write!(f, " (user {name})"),
            Some(Inside::Secret { namespace, name, key }) => {
                f.write_str(" (secret ")?;
                if let Some(namespace) = namespace {
                    write!(f, "{namespace}/")?;
                }
                write!(f, "{name} {key})")
            }
            Some(Inside::Object { kind, namespace, name, key }) => {
                let parts = [kind.as_str(), &slashed(namespace.as_deref(), name), key];
                let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                write!(f, " ({})", said.join(" "))
            }
        }
    }
}

fn slashed(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// Judges one row at a time. What is worse counts: an expired certificate that is also not the one on
/// disk is expired.
pub fn judge(row: &Row, now: Timestamp, thresholds: &Thresholds) -> Verdict {
    let facts = match &row.found {
        Found::Certificate(facts) => facts,
        Found::Missing => {
            return Verdict { status: Status::Missing, left: None, reason: note(row) };
        }
        Found::Unreadable(why) => {
            return Verdict { status: Status::Unknown, left: None, reason: Some(why.clone()) };
        }
    };
    let left = facts.validity.not_after.since(now);
    let by_term = by_term(facts.validity, now, thresholds);
    let differs = row.remarks.iter().find_map(|remark| match remark {
        Remark::NotOnDisk { detail } => Some(detail.clone()),
        Remark::Note(_) => None,
    });
    let status = match (by_term, &differs) {
        (Status::Ok | Status::Warning, Some(_)) => Status::NotOnDisk,
        (status, _) => status,
    };
    let reason = match status {
        Status::NotYetValid => Some(format!(
            "valid from {}: is the clock right, here and where it was signed?",
            facts.validity.not_before
        )),
        _ => differs.or_else(|| note(row)),
    };
    Verdict { status, left: Some(left), reason }
}

fn by_term(validity: Validity, now: Timestamp, thresholds: &Thresholds) -> Status {
    let left = validity.not_after.since(now).0;
    let life = validity.not_after.since(validity.not_before);
    if left < 0 {
        Status::Expired
    } else if now < validity.not_before {
        Status::NotYetValid
    } else if left <= thresholds.critical.seconds(life) {
        Status::Critical
    } else if left <= thresholds.warn.seconds(life) {
        Status::Warning
    } else {
        Status::Ok
    }
}

fn note(row: &Row) -> Option<String> {
    row.remarks.iter().find_map(|remark| match remark {
        Remark::Note(text) => Some(text.clone()),
        Remark::NotOnDisk { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(not_before: i64, not_after: i64) -> Row {
        Row {
            name: "apiserver".into(),
            host: None,
            role: RowRole::Leaf,
            origin: Origin { path: "pki/apiserver.crt".into(), inside: None },
            authority: None,
            externally_managed: false,
            found: Found::Certificate(Box::new(Facts {
                validity: Validity {
                    not_before: Timestamp::from_unix(not_before),
                    not_after: Timestamp::from_unix(not_after),
                },
                subject: "CN=a".into(),
                issuer: "CN=b".into(),
                details: None,
            })),
            also_in: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn status(row: &Row, now: i64, warn: &str, critical: &str) -> Status {
        let thresholds =
            Thresholds { warn: warn.parse().unwrap(), critical: critical.parse().unwrap() };
        judge(row, Timestamp::from_unix(now), &thresholds).status
    }

    #[test]
    fn each_boundary_is_to_the_second() {
        let row = row(1000, 101_000);
        for (now, expected) in [
            (999, Status::NotYetValid),
            (1000, Status::Ok),
            (101_000 - 3601, Status::Ok),
            (101_000 - 3600, Status::Warning),
            (101_000 - 61, Status::Warning),
            (101_000 - 60, Status::Critical),
            (101_000, Status::Critical),
            (101_001, Status::Expired),
        ] {
            assert_eq!(status(&row, now, "1h", "60s"), expected, "{now}");
        }
    }

    #[test]
    fn a_share_counts_from_the_life() {
        let row = row(0, 1000);
        assert_eq!(status(&row, 799, "20%", "10%"), Status::Ok);
        assert_eq!(status(&row, 800, "20%", "10%"), Status::Warning);
        assert_eq!(status(&row, 900, "20%", "10%"), Status::Critical);
    }

    #[test]
    fn a_served_certificate_that_is_not_on_disk_is_a_warning_and_never_hides_worse() {
        let mut row = row(0, 1000);
        row.remarks.push(Remark::NotOnDisk { detail: "x".into() });
        assert_eq!(status(&row, 10, "1s", "1s"), Status::NotOnDisk);
        assert_eq!(Status::NotOnDisk.level(), Level::Warning);
        assert_eq!(status(&row, 1000, "1s", "1s"), Status::Critical);
        assert_eq!(status(&row, 1001, "1s", "1s"), Status::Expired);
    }

    #[test]
    fn what_cannot_be_known_is_the_worst() {
        let mut row = row(0, 1000);
        row.found = Found::Unreadable("is empty".into());
        assert_eq!(status(&row, 10, "1s", "1s"), Status::Unknown);
        row.found = Found::Missing;
        assert_eq!(status(&row, 10, "1s", "1s"), Status::Missing);
        assert!(Level::Unknown > Level::Critical && Level::Critical > Level::Warning);
    }

    #[test]
    fn one_that_ends_before_it_begins_is_expired() {
        assert_eq!(status(&row(2000, 1000), 1500, "1s", "1s"), Status::Expired);
    }
}
