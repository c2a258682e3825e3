//! One JSON or YAML document: what readers of kubeadm's `CertificateExpirationInfo` know, and more.
//! `docs/output.md` describes it, `docs/schema/check-expiration.json` is its schema.

use std::io::{self, Write};

use serde::Serialize;

use super::{Body, Context, Rendered, Sink, Summary};
use crate::{
    document::yaml,
    model::check::expiry::{Found, Inside, Level, Row, RowRole, Status, Verdict},
};

/// The version of what is added to kubeadm's fields. A field is never removed or given another meaning
/// within one.
pub const SCHEMA: &str = "certkit/v1";

/// One certificate. The first six fields are kubeadm's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    name: &'a str,
    expiration_date: Option<String>,
    residual_time: i64,
    externally_managed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_name: Option<&'a str>,
    missing: bool,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    source: Source<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    also_in: &'a [String],
    #[serde(flatten)]
    certificate: Option<Certificate<'a>>,
}

/// Where it was found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
enum Source<'a> {
    File {
        path: &'a str,
    },
    KubeconfigCluster {
        path: &'a str,
        cluster: &'a str,
    },
    KubeconfigUser {
        path: &'a str,
        user: &'a str,
    },
    Listener {
        address: &'a str,
    },
    Object {
        path: &'a str,
        object_kind: &'a str,
        namespace: Option<&'a str>,
        object: &'a str,
        key: &'a str,
    },
    Secret {
        path: &'a str,
        namespace: Option<&'a str>,
        secret: &'a str,
        key: &'a str,
    },
}

/// What a certificate says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Certificate<'a> {
    not_before: String,
    subject: &'a str,
    issuer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    serial_number: &'a str,
    key_algorithm: &'a str,
    subject_alternative_names: &'a [String],
    fingerprint_sha256: &'a str,
}

fn entry<'a>(row: &'a Row, verdict: &'a Verdict) -> Entry<'a> {
    let path = row.origin.path.as_str();
    let facts = row.facts();
    Entry {
        name: &row.name,
        expiration_date: facts.map(|f| f.validity.not_after.to_string()),
        residual_time: verdict.left.map_or(0, |left| left.0),
        externally_managed: row.externally_managed,
        ca_name: match (row.role, facts) {
            // kubeadm has the field for every leaf, and an empty one where it is missing.
            (RowRole::Leaf, _) => Some(row.authority.as_deref().unwrap_or_default()),
            (RowRole::Authority, _) => row.authority.as_deref(),
        },
        missing: row.found == Found::Missing,
        status: status(verdict),
        reason: verdict.reason.as_deref(),
        host: row.host.as_deref(),
        source: match &row.origin.inside {
            None => Source::File { path },
            Some(Inside::Cluster(cluster)) => Source::KubeconfigCluster { path, cluster },
            Some(Inside::User(user)) => Source::KubeconfigUser { path, user },
            Some(Inside::Listener) => Source::Listener { address: path },
            Some(Inside::Object { kind, namespace, name, key }) => Source::Object {
                path,
                object_kind: kind,
                namespace: namespace.as_deref(),
                object: name,
                key,
            },
            Some(Inside::Secret { namespace, name, key }) => {
                Source::Secret { path, namespace: namespace.as_deref(), secret: name, key }
            }
        },
        also_in: &row.also_in,
        certificate: facts.zip(facts.and_then(|f| f.details.as_ref())).map(|(facts, details)| {
            Certificate {
                not_before: facts.validity.not_before.to_string(),
                subject: &facts.subject,
                issuer: &facts.issuer,
                user: details.user.as_deref(),
                groups: &details.groups,
                serial_number: &details.serial,
                key_algorithm: &details.algorithm,
                subject_alternative_names: &details.sans,
                fingerprint_sha256: &details.fingerprint,
            }
        }),
    }
}

fn status(verdict: &Verdict) -> &'static str {
    match verdict.status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::NotOnDisk => "not-on-disk",
        Status::Critical => "critical",
        Status::Expired => "expired",
        Status::NotYetValid => "not-yet-valid",
        Status::Missing => "missing",
        Status::Unknown => "unknown",
    }
}

/// A row as JSON, without indentation before it.
pub fn json(row: &Row, verdict: &Verdict) -> String {
    pretty(&entry(row, verdict))
}

/// A row as YAML.
pub fn yaml(row: &Row, verdict: &Verdict) -> String {
    block(&entry(row, verdict))
}

fn pretty<T: Serialize>(value: &T) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Strings and numbers into memory: this cannot fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}

fn block<T: Serialize>(value: &T) -> String {
    // Strings and numbers: this cannot fail.
    yaml::emit(value).unwrap_or_default()
}

/// What stands before the rows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    kind: &'static str,
    api_version: &'static str,
    schema: &'static str,
    certkit_version: &'static str,
    checked_at: String,
    warn: String,
    critical: String,
}

/// What stands after them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    status: &'static str,
    exit_code: u8,
    ok: usize,
    warning: usize,
    critical: usize,
    unknown: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Files>,
}

/// The files that were looked at.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Files {
    looked_at: usize,
    with_rows: usize,
}

/// A document under way: leaves as they come, authorities after them.
pub struct Document {
    yaml: bool,
    head: Head,
    begun: bool,
    authorities: Vec<String>,
}

impl Document {
    /// A JSON document.
    pub fn json(context: &Context) -> Self {
        Self {
            yaml: false,
            head: Head {
                kind: "CertificateExpirationInfo",
                api_version: "output.kubeadm.k8s.io/v1alpha3",
                schema: SCHEMA,
                certkit_version: env!("CARGO_PKG_VERSION"),
                checked_at: context.now.to_string(),
                warn: context.thresholds.warn.to_string(),
                critical: context.thresholds.critical.to_string(),
            },
            begun: false,
            authorities: Vec::new(),
        }
    }

    /// A YAML document.
    pub fn yaml(context: &Context) -> Self {
        Self { yaml: true, ..Self::json(context) }
    }

    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.yaml {
            true => out.write_all(block(&self.head).as_bytes()),
            false => {
                let head = pretty(&self.head);
                out.write_all(head.trim_end_matches(['}', '\n']).as_bytes())
            }
        }
    }

    /// An entry of a list, whose first one opens it.
    fn item(&self, out: &mut dyn Write, list: &str, first: bool, text: &str) -> io::Result<()> {
        match (self.yaml, first) {
            (true, true) => writeln!(out, "{list}:")?,
            (true, false) => {}
            (false, true) => write!(out, ",\n    \"{list}\": [\n")?,
            (false, false) => out.write_all(b",\n")?,
        }
        for (index, line) in text.lines().enumerate() {
            match (self.yaml, index) {
                (true, 0) => writeln!(out, "- {line}")?,
                (true, _) => writeln!(out, "  {line}")?,
                (false, 0) => write!(out, "        {line}")?,
                (false, _) => write!(out, "\n        {line}")?,
            }
        }
        Ok(())
    }

    fn end_of_list(&self, out: &mut dyn Write, list: &str, any: bool) -> io::Result<()> {
        match (self.yaml, any) {
            (true, true) => Ok(()),
            (true, false) => writeln!(out, "{list}: []"),
            (false, true) => out.write_all(b"\n    ]"),
            (false, false) => write!(out, ",\n    \"{list}\": []"),
        }
    }
}

const LEAVES: &str = "certificates";
const AUTHORITIES: &str = "certificateAuthorities";

impl Sink for Document {
    fn add(&mut self, out: &mut dyn Write, rendered: Rendered) -> io::Result<()> {
        let Body::Text(text) = rendered.body else { return Ok(()) };
        match rendered.role {
            RowRole::Authority => self.authorities.push(text),
            RowRole::Leaf => {
                let first = !self.begun;
                if first {
                    self.begin(out)?;
                }
                self.begun = true;
                self.item(out, LEAVES, first, &text)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
        if !self.begun {
            self.begin(out)?;
        }
        self.end_of_list(out, LEAVES, self.begun)?;
        let authorities = std::mem::take(&mut self.authorities);
        for (index, text) in authorities.iter().enumerate() {
            self.item(out, AUTHORITIES, index == 0, text)?;
        }
        self.end_of_list(out, AUTHORITIES, !authorities.is_empty())?;
        let totals = Totals {
            status: match summary.worst() {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Critical => "critical",
                Level::Unknown => "unknown",
            },
            exit_code: summary.worst() as u8,
            ok: summary.of(Level::Ok),
            warning: summary.of(Level::Warning),
            critical: summary.of(Level::Critical),
            unknown: summary.of(Level::Unknown),
            files: summary
                .files
                .map(|files| Files { looked_at: files.looked_at, with_rows: files.holding }),
        };
        match self.yaml {
            true => {
                writeln!(out, "summary:")?;
                block(&totals).lines().try_for_each(|line| writeln!(out, "  {line}"))
            }
            false => {
                let totals = pretty(&totals).replace('\n', "\n    ");
                write!(out, ",\n    \"summary\": {totals}\n}}\n")
            }
        }
    }
}
