//! `certkit fleet`.

use std::{fmt::Write as _, path::PathBuf};

use clap::ValueEnum;
use serde_json::json;

use super::{
    Exit, Failure, Format, Global, check_expiration,
    output::{
        self,
        expiry::{left, prometheus::escape},
        grid::Column,
    },
    watch, when,
};
use crate::{
    model::{
        check::expiry::{Level, Thresholds},
        duration::Threshold,
        shown::tame,
        timestamp::Timestamp,
    },
    ops::{
        fleet::{self, ClusterExpiry},
        machine,
    },
};

/// Look at many clusters at once
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct FleetArgs {
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Debug, clap::Subcommand)]
enum FleetCommand {
    Check(CheckArgs),
}

/// Say what ends first in each of many clusters, the worst one first
#[derive(Debug, clap::Args)]
#[command(after_long_help = CHECK)]
pub struct CheckArgs {
    /// The clusters' directories: workspaces, or the trees of single hosts
    #[arg(value_name = "DIRECTORY", required = true)]
    directories: Vec<PathBuf>,
    /// From when on it is a warning: a duration before the end, or a share of the life such as 20%
    #[arg(long, value_name = "THRESHOLD", default_value = "30d")]
    warn: Threshold,
    /// From when on it is critical
    #[arg(long, value_name = "THRESHOLD", default_value = "7d")]
    critical: Threshold,
    /// Judge as of this RFC 3339 time instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: FleetFormat,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum FleetFormat {
    /// For a terminal, as wide as it is
    Table,
    /// The same with every column, however wide
    Wide,
    /// One document; docs/output.md
    Json,
    /// The same as YAML
    Yaml,
    /// Metrics for node_exporter's textfile collector
    Prometheus,
}

const HELP: &str = "\
EXIT CODES:
  0   nothing ends soon
  1   something ends within --warn
  2   something ends within --critical, has ended, is not yet valid, or is missing
  3   something cannot be known
  64  the command line was wrong

EXAMPLES:
  certkit fleet check /srv/clusters/*";

const CHECK: &str = "\
Each cluster is judged as by `certkit check-expiration --dir DIRECTORY`, and is one row: what is worst in it, and of that
what ends first. A directory that cannot be read is a row with status UNKNOWN. With -q only clusters that need
attention are printed, and nothing if there are none. The exit code is the worst cluster's.

EXIT CODES:
  0   nothing ends soon
  1   something ends within --warn
  2   something ends within --critical, has ended, is not yet valid, or is missing
  3   something cannot be known: a directory or file cannot be read, or holds nothing of a cluster
  64  the command line was wrong

EXAMPLES:
  certkit fleet check /srv/clusters/*
  certkit fleet check --warn 20% --critical 10% -o json /srv/clusters/*
  certkit fleet check -q /srv/clusters/* || mail -s 'certificates' ops@example.com";

/// Runs the command.
pub fn run(args: &FleetArgs, global: &Global) -> Result<Exit, Failure> {
    let FleetCommand::Check(args) = &args.command;
    check_expiration::in_order(args.warn, args.critical, "fleet check")?;
    let dirs: Result<Vec<PathBuf>, Failure> =
        args.directories.iter().map(|dir| std::path::absolute(dir).map_err(Failure::new)).collect();
    let request = fleet::Request {
        dirs: &dirs?,
        thresholds: Thresholds { warn: args.warn, critical: args.critical },
        now: when(args.at)?,
        machine: &machine::name(),
    };
    let clusters = watch::working(global, || fleet::check(&request));
    let exit = match clusters.iter().map(ClusterExpiry::level).max().unwrap_or_default() {
        Level::Ok => Exit::Done,
        Level::Warning => Exit::Warning,
        Level::Critical => Exit::Critical,
        Level::Unknown => Exit::Failed,
    };
    let text = match args.output {
        FleetFormat::Table => table(&clusters, global.quiet, false),
        FleetFormat::Wide => table(&clusters, global.quiet, true),
        FleetFormat::Json => document(&clusters, &request, exit, Format::Json)?,
        FleetFormat::Yaml => document(&clusters, &request, exit, Format::Yaml)?,
        FleetFormat::Prometheus => metrics(&clusters, &request),
    };
    super::tell(false, exit, Ok(text))
}

fn table(clusters: &[ClusterExpiry], quiet: bool, wide: bool) -> String {
    let is_shown = |cluster: &&ClusterExpiry| !quiet || cluster.level() != Level::Ok;
    let row = |cluster: &ClusterExpiry| {
        let worst = cluster.worst.as_ref();
        let first = worst.map_or("-".to_owned(), |worst| match &worst.host {
            Some(host) => format!("{} ({host})", worst.name),
            None => worst.name.clone(),
        });
        let [ok, warning, critical, unknown] = cluster.counts;
        vec![
            worst.map_or(Level::Unknown.to_string(), |worst| worst.status.to_string()),
            cluster.name.clone().unwrap_or_else(|| "-".to_owned()),
            worst.and_then(|worst| worst.left).map_or("-".to_owned(), left),
            first,
            format!("{ok}/{warning}/{critical}/{unknown}"),
            cluster.dir.clone(),
            worst.and_then(|worst| worst.reason.clone()).unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = clusters
        .iter()
        .filter(is_shown)
        .map(|cluster| row(cluster).iter().map(|cell| tame(cell)).collect())
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        Column::new("STATUS"),
        Column::new("CLUSTER").least(12),
        Column::new("LEFT"),
        Column::new("FIRST").least(16).rank(1),
        Column::new("OK/WARN/CRIT/UNKN").rank(3),
        Column::new("DIRECTORY").least(16),
        Column::new("WHY").least(20).rank(2),
    ];
    output::table(&columns, &rows, wide)
}

fn document(
    clusters: &[ClusterExpiry],
    request: &fleet::Request<'_>,
    exit: Exit,
    format: Format,
) -> Result<String, Failure> {
    let cluster = |cluster: &ClusterExpiry| {
        let [ok, warning, critical, unknown] = cluster.counts;
        let worst = cluster.worst.as_ref().map(|worst| {
            json!({
                "name": worst.name,
                "host": worst.host,
                "status": word(&worst.status.to_string()),
                "expirationDate": worst.not_after.map(|end| end.to_string()),
                "residualTime": worst.left.map_or(0, |left| left.0),
                "reason": worst.reason,
            })
        });
        json!({
            "directory": cluster.dir,
            "name": cluster.name,
            "level": word(&cluster.level().to_string()),
            "certificates": {"ok": ok, "warning": warning, "critical": critical, "unknown": unknown},
            "worst": worst,
        })
    };
    let of = |level: Level| clusters.iter().filter(|cluster| cluster.level() == level).count();
    let worst = clusters.iter().map(ClusterExpiry::level).max().unwrap_or_default();
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "FleetExpiration",
        "checkedAt": request.now.to_string(),
        "warn": request.thresholds.warn.to_string(),
        "critical": request.thresholds.critical.to_string(),
        "clusters": clusters.iter().map(cluster).collect::<Vec<_>>(),
        "summary": {
            "level": word(&worst.to_string()),
            "exitCode": exit as u8,
            "ok": of(Level::Ok),
            "warning": of(Level::Warning),
            "critical": of(Level::Critical),
            "unknown": of(Level::Unknown),
        },
    });
    super::document(format!("{document:#}\n"), format)
}

/// A status as documents write it: `not-yet-valid`.
fn word(status: &str) -> String {
    status.to_lowercase().replace(' ', "-")
}

fn metrics(clusters: &[ClusterExpiry], request: &fleet::Request<'_>) -> String {
    let labels = |cluster: &ClusterExpiry| {
        let name = cluster.name.as_deref().unwrap_or_default();
        format!("cluster=\"{}\",directory=\"{}\"", escape(name), escape(&cluster.dir))
    };
    let mut text = String::new();
    let mut head = |metric: &str, help: &str, samples: Vec<String>| {
        // Writing to a String never fails.
        let _ = writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} gauge");
        for sample in samples {
            let _ = writeln!(text, "{metric}{sample}");
        }
    };
    let mut clusters: Vec<&ClusterExpiry> = clusters.iter().collect();
    // A sample may stand there once only, and a directory may be named twice.
    let mut seen = std::collections::HashSet::new();
    clusters.retain(|cluster| seen.insert(&cluster.dir));
    head(
        "certkit_cluster_status",
        "0 ok, 1 warning, 2 critical, 3 unknown: the worst of the cluster's certificates.",
        clusters.iter().map(|c| format!("{{{}}} {}", labels(c), c.level() as u8)).collect(),
    );
    let first = |cluster: &&ClusterExpiry| {
        let end = cluster.worst.as_ref()?.not_after?;
        Some(format!("{{{}}} {}", labels(cluster), end.unix()))
    };
    head(
        "certkit_cluster_worst_not_after_timestamp_seconds",
        "The last second in which the worst of the cluster's certificates is valid.",
        clusters.iter().filter_map(first).collect(),
    );
    let counts = |cluster: &&ClusterExpiry| {
        let words = ["ok", "warning", "critical", "unknown"];
        let labels = labels(cluster);
        let sample = move |(word, count)| format!("{{{labels},status=\"{word}\"}} {count}");
        words.into_iter().zip(cluster.counts).map(sample).collect::<Vec<_>>()
    };
    head(
        "certkit_cluster_certificates",
        "How many of the cluster's certificates are of each level.",
        clusters.iter().flat_map(counts).collect(),
    );
    head(
        "certkit_fleet_check_timestamp_seconds",
        "When the check ran.",
        vec![format!(" {}", request.now.unix())],
    );
    text
}
