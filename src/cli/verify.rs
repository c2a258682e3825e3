//! `certkit verify`.

mod json;
mod junit;
mod sarif;
mod table;

use std::collections::BTreeSet;

use clap::ValueEnum;

use super::{Exit, Failure, Global, completions, print, watch, when};
use crate::{
    model::{
        code::{Code, Severity},
        timestamp::Timestamp,
    },
    ops::{
        session,
        verify::{self, Report, Request},
    },
};

/// Prove that every way the cluster talks will work, and that what must not work will not
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct VerifyArgs {
    /// Say also when each path breaks if nobody does anything, by what, and what then fails
    #[arg(long)]
    forecast: bool,
    /// Check what a component is told as well: a static pod's manifest, a systemd unit, a configuration
    /// file, /proc/PID/cmdline, or a file of flags; repeat for more
    #[arg(long = "flags", value_name = "FILE")]
    flags: Vec<std::path::PathBuf>,
    /// Leave findings of this code out; repeat for more
    #[arg(long, value_name = "CODE", value_parser = code, value_delimiter = ',')]
    #[arg(add = completions::codes())]
    allow: Vec<Code>,
    /// Count findings of this code as critical; repeat for more
    #[arg(long, value_name = "CODE", value_parser = code, value_delimiter = ',')]
    #[arg(add = completions::codes())]
    deny: Vec<Code>,
    /// Judge as of this RFC 3339 time instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Output formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For a terminal, as wide as it is
    Table,
    /// The same with every column
    Wide,
    /// One document
    Json,
    /// The same document
    Yaml,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, for CI servers
    Junit,
}

const HELP: &str = "\
Works on any directory laid out as kubeadm or certkit do it, offline, and changes nothing. Certificates,
keys, kubeconfigs, modes and copies are judged by rules; then every path of `certkit paths` is tried with a
real TLS handshake in memory, and so is every other pairing of an identity with a server, which must be
refused. What only authorization can refuse is counted apart (-v lists it). Without DIR/certkit.yaml the
directory is taken for one control-plane host with whatever pieces there are. docs/findings.md explains
each code.

EXIT CODES:
  0   sound
  1   warning findings
  2   critical findings
  3   something could not be read, or certkit could not do it
  64  the command line was wrong

EXAMPLES:
  certkit verify
  certkit verify --forecast
  certkit verify --at 2027-06-01T00:00:00Z --deny unused
  certkit verify --flags /etc/kubernetes/manifests/kube-apiserver.yaml --flags /proc/1234/cmdline
  certkit verify -o sarif > certkit.sarif";

fn code(text: &str) -> Result<Code, String> {
    text.parse().map_err(|error: crate::model::code::UnknownCode| error.to_string())
}

/// Runs the command.
pub fn run(args: &VerifyArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let allow: BTreeSet<Code> = args.allow.iter().copied().collect();
    let deny: BTreeSet<Code> = args.deny.iter().copied().collect();
    if let Some(both) = allow.intersection(&deny).next() {
        return Err(Failure::usage(format!("--allow and --deny both name {both}")));
    }
    let request = Request {
        dir: &dir,
        at: when(args.at)?,
        forecast: args.forecast,
        flags: &args.flags,
        allow: &allow,
        deny: &deny,
    };
    if let Some(unfinished) = session::unfinished(&dir) {
        global.note(unfinished);
    }
    let report = watch::working(global, || verify::verify(&request))?;
    match args.output {
        Format::Json => print(json::document(&report, request.at))?,
        Format::Yaml => {
            print(super::document(json::document(&report, request.at), super::Format::Yaml)?)?;
        }
        Format::Junit => print(junit::document(&report))?,
        Format::Sarif => print(sarif::document(&report))?,
        Format::Table => print(table::text(&report, &dir, global, false))?,
        Format::Wide => print(table::text(&report, &dir, global, true))?,
    }
    Ok(exit(&report))
}

fn exit(report: &Report) -> Exit {
    match report.worst() {
        // What could not be read may be anything.
        _ if report.is_unknown() => Exit::Failed,
        Some(Severity::Critical) => Exit::Critical,
        Some(Severity::Warning) => Exit::Warning,
        Some(Severity::Info) | None => Exit::Done,
    }
}
