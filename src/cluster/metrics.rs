//! What the controller did, counted, in Prometheus' text format.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::model::request::POD_SIGNER;

/// Upper bounds of the histogram of decisions, in milliseconds.
const BOUNDS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// All that is counted.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    /// By signer, what was done, and the first reason where there is one.
    pub decisions: BTreeMap<(String, &'static str, &'static str), u64>,
    /// Requests that wait, by signer and the first reason.
    pub pending: BTreeMap<(String, &'static str), u64>,
    /// The same of pods' requests, by the first reason.
    pub pods_pending: BTreeMap<&'static str, u64>,
    /// Questions to the API that failed.
    pub api_errors: u64,
    /// Events that were not sent: too many at once, or refused.
    pub events_dropped: u64,
    /// Whether this replica acts.
    pub leads: bool,
    /// Whether all is known that is needed to decide.
    pub ready: bool,
    /// Nodes known, by source.
    pub nodes: BTreeMap<&'static str, u64>,
    /// Whether certkit.yaml could be read the last time.
    pub inventory_fault: bool,
    /// From when a request was seen here to when the API had taken the decision: how many took at most so long.
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Tallies {
    /// Counts a decision that the API has taken.
    pub fn decided(
        &mut self,
        signer: &str,
        what: &'static str,
        code: &'static str,
        took: Duration,
    ) {
        *self.decisions.entry((signer.to_owned(), what, code)).or_default() += 1;
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(took <= Duration::from_millis(bound));
        }
        self.count += 1;
        self.sum += took.as_secs_f64();
    }

    /// All of it as text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).unwrap_or_default(); // Writing to a String is infallible.
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        head(out, "certkit_csr_decisions_total", "counter", "Requests decided.")?;
        for ((signer, what, code), count) in &self.decisions {
            writeln!(
                out,
                "certkit_csr_decisions_total{{signer=\"{signer}\",decision=\"{what}\",\
                 code=\"{code}\"}} {count}"
            )?;
        }
        head(out, "certkit_csr_pending", "gauge", "Requests that wait, and for what.")?;
        let pods = self.pods_pending.iter().map(|(code, count)| (POD_SIGNER, *code, count));
        let all =
            self.pending.iter().map(|((signer, code), count)| (signer.as_str(), *code, count));
        for (signer, code, count) in all.chain(pods) {
            writeln!(out, "certkit_csr_pending{{signer=\"{signer}\",code=\"{code}\"}} {count}")?;
        }
        let name = "certkit_csr_decision_duration_seconds";
        head(out, name, "histogram", "From seeing a request to having decided it.")?;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS) {
            let bound = Duration::from_millis(bound).as_secs_f64();
            writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {bucket}")?;
        }
        writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", self.count)?;
        writeln!(out, "{name}_sum {}", self.sum)?;
        writeln!(out, "{name}_count {}", self.count)?;
        let name = "certkit_controller_api_errors_total";
        head(out, name, "counter", "Questions to the API that failed.")?;
        writeln!(out, "{name} {}", self.api_errors)?;
        let name = "certkit_controller_events_dropped_total";
        head(out, name, "counter", "Events that were not sent.")?;
        writeln!(out, "{name} {}", self.events_dropped)?;
        let name = "certkit_controller_leader";
        head(out, name, "gauge", "Whether this replica acts.")?;
        writeln!(out, "{name} {}", u8::from(self.leads))?;
        let name = "certkit_controller_ready";
        head(out, name, "gauge", "Whether all is known that is needed to decide.")?;
        writeln!(out, "{name} {}", u8::from(self.ready))?;
        let name = "certkit_inventory_nodes";
        head(out, name, "gauge", "Nodes known, by source.")?;
        for (source, count) in &self.nodes {
            writeln!(out, "{name}{{source=\"{source}\"}} {count}")?;
        }
        let name = "certkit_inventory_fault";
        head(out, name, "gauge", "Whether certkit.yaml could not be read the last time.")?;
        writeln!(out, "{name} {}", u8::from(self.inventory_fault))
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
