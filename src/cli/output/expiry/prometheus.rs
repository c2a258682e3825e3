//! Metrics in Prometheus' text format, as node_exporter's textfile collector reads it. Samples of one metric
//! stand together, so two of the three wait until the first is complete.

use std::{
    collections::HashSet,
    fmt::Write as _,
    io::{self, Write},
};

use super::{Body, Context, Rendered, Sink, Summary};
use crate::model::check::expiry::{Inside, Level, Row, RowRole};

const NOT_AFTER: &str = "certkit_certificate_not_after_timestamp_seconds";
const NOT_BEFORE: &str = "certkit_certificate_not_before_timestamp_seconds";
const STATUS: &str = "certkit_certificate_status";
const FILES: &str = "certkit_files";
const CHECK: &str = "certkit_check_timestamp_seconds";

/// The samples of one row.
pub struct Samples {
    labels: String,
    term: Option<(i64, i64)>,
}

/// Renders a row's labels: which certificate, whose, where.
pub fn samples(row: &Row, context: &Context) -> Samples {
    let facts = row.facts();
    let details = facts.and_then(|f| f.details.as_deref());
    let mut labels = String::new();
    let mut label = |name: &str, value: &str| {
        let comma = if labels.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(labels, "{comma}{name}=\"{}\"", escape(value));
    };
    label("name", &row.name);
    label("host", row.host.as_deref().unwrap_or(&context.machine));
    label("role", if row.role == RowRole::Authority { "ca" } else { "leaf" });
    label("path", &row.origin.path);
    match &row.origin.inside {
        Some(Inside::User(user)) => label("kubeconfig_user", user),
        Some(Inside::Cluster(cluster)) => label("kubeconfig_cluster", cluster),
        Some(Inside::Secret { namespace, name, key }) => {
            label("secret_namespace", namespace.as_deref().unwrap_or_default());
            label("secret", name);
            label("key", key);
        }
        Some(Inside::Object { kind, namespace, name, key }) => {
            label("object_kind", kind);
            label("object_namespace", namespace.as_deref().unwrap_or_default());
            label("object", name);
            label("key", key);
        }
        Some(Inside::Listener) | None => {}
    }
    if let Some(facts) = facts {
        label("subject", &facts.subject);
        label("issuer", &facts.issuer);
        label("ca", row.authority.as_deref().unwrap_or_default());
        label("externally_managed", if row.externally_managed { "true" } else { "false" });
    }
    if let Some(details) = details {
        label("serial", &details.serial);
    }
    let term = facts.map(|f| (f.validity.not_before.unix(), f.validity.not_after.unix()));
    Samples { labels, term }
}

/// A label's value.
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The metrics under way.
pub struct Metrics {
    now: i64,
    begun: bool,
    not_before: String,
    status: String,
    /// A sample may stand there once only, and a path may be named twice.
    seen: HashSet<String>,
}

impl Metrics {
    /// None yet.
    pub fn new(context: &Context) -> Self {
        Self {
            now: context.now.unix(),
            begun: false,
            not_before: String::new(),
            status: String::new(),
            seen: HashSet::new(),
        }
    }
}

fn head(out: &mut dyn Write, metric: &str, help: &str) -> io::Result<()> {
    writeln!(out, "# HELP {metric} {help}\n# TYPE {metric} gauge")
}

impl Sink for Metrics {
    fn add(&mut self, out: &mut dyn Write, rendered: Rendered) -> io::Result<()> {
        let Body::Samples(Samples { labels, term }) = rendered.body else { return Ok(()) };
        if !self.seen.insert(labels.clone()) {
            return Ok(());
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.status, "{STATUS}{{{labels}}} {}", rendered.level as u8);
        let Some((begin, end)) = term else { return Ok(()) };
        let _ = writeln!(self.not_before, "{NOT_BEFORE}{{{labels}}} {begin}");
        if !std::mem::replace(&mut self.begun, true) {
            head(out, NOT_AFTER, "The last second in which the certificate is valid.")?;
        }
        writeln!(out, "{NOT_AFTER}{{{labels}}} {end}")
    }

    fn end(&mut self, out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
        if self.begun {
            head(out, NOT_BEFORE, "The first second in which the certificate is valid.")?;
            out.write_all(self.not_before.as_bytes())?;
        }
        if !self.status.is_empty() {
            head(out, STATUS, "0 ok, 1 warning, 2 critical, 3 unknown.")?;
            out.write_all(self.status.as_bytes())?;
        }
        head(out, "certkit_certificates", "Certificates looked at, by how they are.")?;
        for level in [Level::Ok, Level::Warning, Level::Critical, Level::Unknown] {
            let name = level.to_string().to_lowercase();
            writeln!(out, "certkit_certificates{{status=\"{name}\"}} {}", summary.of(level))?;
        }
        if let Some(files) = summary.files {
            head(out, FILES, "Files looked at, and those of them with certificates or faults.")?;
            writeln!(out, "{FILES}{{result=\"looked_at\"}} {}", files.looked_at)?;
            writeln!(out, "{FILES}{{result=\"with_rows\"}} {}", files.holding)?;
        }
        head(out, CHECK, "When the certificates were looked at.")?;
        writeln!(out, "{CHECK} {}", self.now)
    }
}
