//! `certkit recover`.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{
    Exit, Failure, Format, Global, limit,
    output::{self, grid::Column},
    password,
    rotate::{self, report},
    rotate_ca, watch, when,
};
use crate::{
    model::{authority::Stage, catalogue::COMPONENTS, layout::Layout, timestamp::Timestamp},
    ops::{
        change::{self, Report},
        recover,
    },
};

/// Bring back a cluster that was off too long: make anew what has expired, offline, CAs with the key they have
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct RecoverArgs {
    /// How long to wait for another certkit that is changing DIR
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = limit)]
    lock_timeout: Duration,
    /// How many backups to keep
    #[arg(long, value_name = "N", default_value_t = 10)]
    backups: usize,
    /// Print what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: plan as of this RFC 3339 time
    #[arg(long, value_name = "TIME", requires = "dry_run")]
    at: Option<Timestamp>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
For the cluster whose control plane does not start because what it starts with has expired. What has expired, or is
about to, is made anew in one transaction, from the files alone: no API is asked. A CA that has expired gets a new term
and keeps its key and its name, so that everything it signed goes on leading to it; what holds the certificate itself is
named. Kubelets' own client certificates are among what is made anew, where kubelet.conf names them. Works on kubeadm's
trees, too. Then it is said what to start, in which order.

EXIT CODES:
  0   done, or nothing has expired
  3   certkit could not do it; nothing was changed
  4   partly done: what is left is named
  64  the command line was wrong

EXAMPLES:
  certkit recover --dry-run
  certkit recover";

/// Runs the command.
pub fn run(args: &RecoverArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let passwords = password::passwords(global)?;
    let change = change::Request {
        dry_run: args.dry_run,
        lock_wait: args.lock_timeout,
        judgement: change::Judgement::Withholds,
        // Nothing works that could break.
        force: true,
        backups: args.backups,
        ..change::Request::new(&dir, "recover", when(args.at)?, &passwords)
    };
    let report = watch::changing(
        global,
        watch::ChangingWork { dir: &dir, dry_run: args.dry_run, hooks: false },
        || recover::run(&change),
    )?;
    if let Some(recovered) = &report.recovered {
        global.note(recovered);
    }
    report.aftermath.warnings.iter().for_each(super::warn);
    let exit = match (report.plan.blocked.is_empty(), report.plan.is_empty()) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Partly,
    };
    let text = match args.output {
        Format::Json | Format::Yaml => super::document(json(&report, args.dry_run), args.output),
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => {
            Ok(table(&report, args.dry_run, args.output == Format::Wide))
        }
    };
    let told = super::tell(!args.dry_run && !report.plan.is_empty(), exit, text);
    report.aftermath.settle();
    report::complain_of_blocked(&report.plan.blocked, &dir);
    told
}

/// What is to be started, each host's in this order: nothing works before what it needs.
fn start_order(report: &Report) -> Vec<(&'static str, Vec<String>)> {
    let cluster = &report.cluster;
    let runs = COMPONENTS.iter().filter(|c| cluster.has(c.present) && c.unit.is_some());
    runs.map(|component| {
        let hosts = cluster.hosts_in(component.scope).map(|host| host.name.to_string());
        (component.id, hosts.collect())
    })
    .collect()
}

/// The CAs that got a new term.
fn renewed(report: &Report) -> Vec<(&'static str, Stage)> {
    let layout = Layout::new(&report.cluster);
    let steps = report.plan.changes().filter(|step| step.key().is_some());
    let specs = steps.filter_map(|step| Some(layout.instances[step.instance()?].spec));
    specs.filter(|spec| spec.is_ca()).map(|spec| (spec.id.name(), Stage::Introduced)).collect()
}

const ORDER: [Column; 2] = [Column::new("START"), Column::new("ON").least(12)];

fn table(report: &Report, dry_run: bool, wide: bool) -> String {
    let mut text = String::new();
    if report.plan.is_empty() {
        text.push_str("nothing has expired\n");
        return text;
    }
    text.push_str(if dry_run { "would be made anew:\n\n" } else { "made anew:\n\n" });
    text.push_str(&rotate_ca::steps(report, wide));
    for note in &report.plan.notes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\nnote: {note}");
    }
    if let Some(backup) = &report.aftermath.backup {
        let _ = writeln!(text, "\nwhat was replaced is kept in {}", backup.display());
    }
    let rows: Vec<Vec<String>> = start_order(report)
        .into_iter()
        .map(|(component, hosts)| vec![component.to_owned(), hosts.join(" ")])
        .collect();
    text.push_str("\nstart, in this order (what runs already: restart):\n\n");
    text.push_str(&output::table(&ORDER, &rows, wide));
    text.push_str(&rotate_ca::copies(&renewed(report), wide));
    text
}

fn json(report: &Report, dry_run: bool) -> String {
    let order: Vec<Value> = start_order(report)
        .into_iter()
        .map(|(component, hosts)| json!({"component": component, "hosts": hosts}))
        .collect();
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "RecoverReport",
        "dryRun": dry_run,
        "steps": rotate_ca::steps_json(report),
        "blocked": report.plan.blocked.iter().map(rotate::report::blocked).collect::<Vec<_>>(),
        "notes": report.plan.notes,
        "backup": report.aftermath.backup,
        "warnings": report.aftermath.warnings,
        "start": order,
        "copies": rotate_ca::copies_json(&renewed(report)),
    });
    format!("{document:#}\n")
}
