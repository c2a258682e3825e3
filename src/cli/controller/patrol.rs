//! What `certkit controller --watch` looks at, and the metrics that it makes of it: those of `check-expiration`.

use std::{fmt::Write as _, rc::Rc, sync::Arc, time::Duration};

use clap::ValueEnum;

use crate::{
    cli::{
        Failure,
        check_expiration::in_order,
        limit,
        output::expiry::{Context, ExpiryFormat, Summary, prometheus::escape},
    },
    cluster::controller::{PatrolSettings, Patrolled},
    model::{
        carrier::Carrier,
        catalogue::CarrierSource,
        check::expiry::{Thresholds, judge},
        duration::Threshold,
        shown,
    },
    ops::expiry::carried,
};

/// What else is looked at, and when it is told.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchArgs {
    /// Look through the cluster for certificates, too, and tell those that end soon, in metrics and as Events
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    watch: Vec<Watched>,
    /// How long to rest between two looks
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = limit, requires = "watch")]
    watch_interval: Duration,
    /// From when on it is a warning: a duration before the end, or a share of the life such as 20%
    #[arg(long, value_name = "THRESHOLD", default_value = "30d", requires = "watch")]
    warn: Threshold,
    /// From when on it is critical
    #[arg(long, value_name = "THRESHOLD", default_value = "7d", requires = "watch")]
    critical: Threshold,
}

/// What may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Watched {
    /// ConfigMaps, and caBundle of webhooks, API services and resource definitions
    Objects,
    /// Secrets: TLS, kubeconfigs, key stores. Whoever may read them may read every key in the cluster
    Secrets,
    /// What every kubelet serves, at its node's address
    Kubelets,
    /// Containers that have an old copy of a CA that is published, by subPath or as a variable, and get no update of it
    Pods,
}

impl WatchArgs {
    /// The same as settings; `host` is what metrics call the cluster.
    pub fn settings(
        &self,
        host: String,
        is_published: bool,
    ) -> Result<Option<Rc<PatrolSettings>>, Failure> {
        if self.watch.is_empty() {
            return Ok(None);
        }
        in_order(self.warn, self.critical, "controller")?;
        let source = |watched: &Watched| match watched {
            Watched::Objects => CarrierSource::Objects,
            Watched::Secrets => CarrierSource::Secrets,
            Watched::Kubelets => CarrierSource::Kubelets,
            Watched::Pods => CarrierSource::Pods,
        };
        let is_watched = |watched| self.watch.contains(&watched);
        if is_watched(Watched::Pods) && !(is_watched(Watched::Objects) && is_published) {
            return Err(Failure::usage(
                "--watch pods: what pods have is held against what is published",
            )
            .hint(Some("--watch objects,pods --publish-trust CA")));
        }
        let thresholds = Thresholds { warn: self.warn, critical: self.critical };
        Ok(Some(Rc::new(PatrolSettings {
            sources: self.watch.iter().map(source).collect(),
            // A second is how often it is looked whether this replica leads.
            interval: self.watch_interval.max(Duration::from_secs(1)),
            thresholds,
            page: Arc::new(carried::of_page),
            kubelets: Arc::new(|kubelets| carried::of_kubelets(&kubelets)),
            render: Arc::new(move |patrolled| metrics(patrolled, &host, thresholds)),
        })))
    }
}

fn metrics(patrolled: &Patrolled<'_>, host: &str, thresholds: Thresholds) -> String {
    let context = Context {
        now: patrolled.at,
        thresholds,
        machine: host.to_owned(),
        color: false,
        ascii: true,
        quiet: false,
        width: 0,
        limit: None,
    };
    let format = ExpiryFormat::Prometheus;
    let mut sink = format.sink(&context);
    let mut summary = Summary::default();
    let mut out = Vec::new();
    for carried in &patrolled.carried {
        let verdict = judge(&carried.row, context.now, &context.thresholds);
        let rendered = format.render(&carried.row, &verdict, &context);
        summary.count(rendered.level);
        // Writing to memory cannot fail.
        let _ = sink.add(&mut out, rendered);
    }
    let _ = sink.end(&mut out, &summary);
    // What was written is text.
    let mut text = String::from_utf8(out).unwrap_or_default();
    let _ = rest(&mut text, patrolled);
    text
}

fn rest(text: &mut String, patrolled: &Patrolled<'_>) -> std::fmt::Result {
    let head = |text: &mut String, name: &str, help: &str| {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")
    };
    let name = "certkit_watch_fault";
    head(text, name, "Whether objects of this kind could not be looked through the last time.")?;
    for (resource, is_fault) in &patrolled.faults {
        writeln!(text, "{name}{{resource=\"{resource}\"}} {}", u8::from(*is_fault))?;
    }
    let name = "certkit_watch_left_out";
    head(text, name, "What carries certificates and has no metrics of its own, and why.")?;
    let left_out = patrolled.left_out;
    for (why, count) in
        [("too_many", left_out.crowded), ("copy", left_out.copies), ("password", left_out.closed)]
    {
        writeln!(text, "{name}{{why=\"{why}\"}} {count}")?;
    }
    let name = "certkit_trust_copy_fault";
    if !patrolled.stale.is_empty() {
        head(
            text,
            name,
            "A copy of a CA that lacks what is trusted, has what is trusted no longer, or gets no update.",
        )?;
    }
    for stale in &patrolled.stale {
        let Carrier { kind, namespace, name: object, .. } = &*stale.carrier;
        let shown = |text: &str| escape(&shown::name(text));
        let how = stale.container.as_ref().map_or_else(String::new, |at| {
            format!(",container=\"{}\",how=\"{}\"", shown(&at.container), at.how)
        });
        writeln!(
            text,
            "{name}{{authority=\"{}\",fault=\"{}\",object_kind=\"{}\",object_namespace=\"{}\",object=\"{}\",key=\"{}\"{how}}} 1",
            stale.authority,
            stale.fault.name(),
            shown(kind),
            shown(namespace.as_deref().unwrap_or_default()),
            shown(object),
            shown(&stale.key),
        )?;
    }
    let name = "certkit_watch_duration_seconds";
    head(text, name, "How long the last look took.")?;
    writeln!(text, "{name} {}", patrolled.took.as_secs_f64())
}
