//! One line for Nagios, Icinga and their kin, with performance data: the seconds left of each certificate.
//! <https://www.monitoring-plugins.org/doc/guidelines.html>

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::{Body, Context, Rendered, Sink, Summary, left};
use crate::model::{
    check::expiry::{Level, Status, Thresholds},
    duration::Span,
};

/// Rows that are named before the performance data.
const NAMED: usize = 5;
/// Rows with performance data: those that end soonest. Agents cut lines of more than some kilobytes.
const MEASURED: usize = 50;

/// The line under way.
pub struct Nagios {
    thresholds: Thresholds,
    /// The worst rows, with what to say of them.
    worst: Vec<(Level, i64, String)>,
    /// Those that end soonest: seconds left, label, life.
    soonest: Vec<(i64, String, Span)>,
}

impl Nagios {
    /// An empty one.
    pub fn new(context: &Context) -> Self {
        Self { thresholds: context.thresholds, worst: Vec::new(), soonest: Vec::new() }
    }
}

impl Sink for Nagios {
    fn add(&mut self, _: &mut dyn Write, rendered: Rendered) -> io::Result<()> {
        let Body::Row(row) = rendered.body else { return Ok(()) };
        let (row, verdict) = *row;
        let name = match &row.host {
            Some(host) => format!("{} ({host})", row.name),
            None => row.name.clone(),
        };
        let seconds = verdict.left.map_or(i64::MIN, |left| left.0);
        if rendered.level > Level::Ok {
            let left = verdict.left.map(left).unwrap_or_default();
            let said = match (verdict.status, &verdict.reason) {
                (Status::Warning | Status::Critical, _) => format!("{name} ends in {left}"),
                (Status::Expired, _) => format!("{name} expired {left}"),
                (status, Some(reason)) => format!("{name} {status}: {reason}"),
                (status, None) => format!("{name} {status}"),
            };
            self.worst.push((rendered.level, seconds, said));
            if self.worst.len() >= 4 * NAMED {
                self.cut_worst();
            }
        }
        if let Some(facts) = row.facts() {
            let validity = facts.validity;
            self.soonest.push((seconds, name, validity.not_after.since(validity.not_before)));
            if self.soonest.len() >= 4 * MEASURED {
                self.cut_soonest();
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
        self.cut_worst();
        self.cut_soonest();
        let mut line = format!("CERTKIT {} - ", summary.worst());
        let counts = [Level::Unknown, Level::Critical, Level::Warning, Level::Ok];
        let counts: Vec<String> = counts
            .into_iter()
            .filter(|level| summary.of(*level) > 0)
            .map(|level| format!("{} {}", summary.of(level), level.to_string().to_lowercase()))
            .collect();
        line.push_str(&counts.join(", "));
        if counts.is_empty() {
            line.push_str("no certificates");
        }
        let said: Vec<&str> = self.worst.iter().map(|(.., said)| said.as_str()).collect();
        if !said.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(line, ": {}", said.join("; "));
        } else if let Some((seconds, name, _)) = self.soonest.first() {
            let _ = write!(line, ": {name} ends first, in {}", left(Span(*seconds)));
        }
        if let Some(files) = summary.files.filter(|files| files.looked_at > 1) {
            let _ = write!(line, " ({} files looked at)", files.looked_at);
        }
        let rest = summary.all() - summary.of(Level::Ok);
        if rest > said.len() {
            let _ = write!(line, "; and {} more", rest - said.len());
        }
        // A bar begins the performance data, and the plugin says one line only.
        let mut line = line.replace('|', "/").replace(char::is_control, " ");
        line.push_str(" |");
        for (seconds, name, life) in &self.soonest {
            let label = name.replace(['\'', '=', '|'], "_").replace(char::is_control, "_");
            let _ = write!(
                line,
                " '{label}'={seconds}s;{}:;{}:",
                self.thresholds.warn.seconds(*life),
                self.thresholds.critical.seconds(*life)
            );
        }
        let _ = write!(
            line,
            " ok={};;;0 warning={};;;0 critical={};;;0 unknown={};;;0",
            summary.of(Level::Ok),
            summary.of(Level::Warning),
            summary.of(Level::Critical),
            summary.of(Level::Unknown)
        );
        writeln!(out, "{line}")
    }
}

impl Nagios {
    fn cut_worst(&mut self) {
        self.worst.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        self.worst.truncate(NAMED);
    }

    fn cut_soonest(&mut self) {
        self.soonest.sort_by_key(|(seconds, ..)| *seconds);
        self.soonest.truncate(MEASURED);
    }
}
