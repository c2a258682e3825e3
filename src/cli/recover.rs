//! `certkit recover`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    Exit, Failure, Format, Global,
    changing::{BackupArgs, LockArgs, RehearsalArgs},
    output::{self, grid::Column},
    password,
    rotate::{self, report},
    rotate_ca,
    telling::{NAMED, Telling, Wanted},
    watch, when,
    words::few,
};
use crate::{
    model::{authority::Stage, catalogue::COMPONENTS, layout::Layout, plan::Action},
    ops::{
        change::{self, Report},
        recover,
    },
};

/// Bring back a cluster that was off too long: make anew what has expired, offline, CAs with the key they have
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct RecoverArgs {
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    kept: BackupArgs,
    #[command(flatten)]
    rehearsal: RehearsalArgs,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
For the cluster whose control plane does not start because what it starts with has expired. What has expired, or is
about to, is made anew from the files alone: no API is asked. All of it is one transaction; of a workspace with
many nodes the control plane's is, and its nodes come a thousand at a time. A CA that has expired gets a new term
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
        dry_run: args.rehearsal.dry_run,
        lock_wait: args.lock.timeout,
        judgement: change::Judgement::Withholds,
        // Nothing works that could break.
        force: true,
        backups: args.kept.backups,
        ..change::Request::new(&dir, "recover", when(args.rehearsal.at)?, &passwords)
    };
    let wanted = Wanted::of(args.output, args.rehearsal.dry_run, global.verbose, report::LIMIT);
    let mut telling = Telling::new(rotate_ca::WORDS, wanted, args.rehearsal.dry_run);
    let mut outcome = Outcome::default();
    telling.shortfall = watch::changing(
        global,
        watch::ChangingWork { dir: &dir, dry_run: args.rehearsal.dry_run, hooks: false },
        || {
            recover::run(&change, |mut report, _| {
                outcome.add(&report);
                // What has not expired is not what is asked about.
                report.plan.steps.retain(|step| step.action != Action::Keep);
                telling.add(report, Vec::new());
            })
        },
    )?;
    telling.recovered.iter().for_each(|recovered| global.note(recovered));
    telling.warnings.iter().for_each(super::warn);
    let is_whole = telling.blocked.is_empty() && telling.shortfall.failed.is_empty();
    let exit = match (is_whole, telling.changes) {
        (true, _) => Exit::Done,
        (false, false) => Exit::Failed,
        (false, true) => Exit::Partly,
    };
    let text = match args.output {
        Format::Json | Format::Yaml => super::document(json(&telling, &outcome), args.output),
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => Ok(table(&telling, &outcome, args.output == Format::Wide)),
    };
    let told = super::tell(!args.rehearsal.dry_run && telling.changes, exit, text);
    telling.settle();
    report::complain_of_blocked(&telling.blocked, &dir);
    report::complain_of_parts(&telling.shortfall);
    told
}

/// What follows from a recovery.
#[derive(Default)]
struct Outcome {
    /// What is to be started, each host's in this order: nothing works before what it needs.
    order: Vec<(&'static str, Vec<String>)>,
    /// The CAs that got a new term.
    renewed: Vec<(&'static str, Stage)>,
}

impl Outcome {
    /// Adds what follows from a report; of one about nodes alone, those nodes.
    fn add(&mut self, report: &Report) {
        let cluster = &report.cluster;
        let runs = COMPONENTS.iter().filter(|c| cluster.has(c.present) && c.unit.is_some());
        for component in runs {
            let hosts = cluster.hosts_in(component.scope);
            let new = hosts.filter(|host| !report.only_nodes || host.is_only_node());
            let new = new.map(|host| host.name.to_string());
            match self.order.iter_mut().find(|(id, _)| *id == component.id) {
                Some((_, hosts)) => hosts.extend(new),
                None => self.order.push((component.id, new.collect())),
            }
        }
        let layout = Layout::new(cluster);
        let steps = report.plan.changes().filter(|step| step.key().is_some());
        let specs = steps.filter_map(|step| Some(layout.instances[step.instance()?].spec));
        let renewed =
            specs.filter(|spec| spec.is_ca()).map(|spec| (spec.id.name(), Stage::Introduced));
        for one in renewed {
            if !self.renewed.contains(&one) {
                self.renewed.push(one);
            }
        }
    }
}

const ORDER: [Column; 2] = [Column::new("START"), Column::new("ON").least(12)];

fn table(telling: &Telling, Outcome { order, renewed }: &Outcome, wide: bool) -> String {
    let mut text = String::new();
    if !telling.changes {
        text.push_str("nothing has expired\n");
        return text;
    }
    text.push_str(if telling.dry_run { "would be made anew:\n\n" } else { "made anew:\n\n" });
    text.push_str(&rotate_ca::steps(telling, wide));
    for note in &telling.notes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\nnote: {note}");
    }
    if let Some(backup) = &telling.backup {
        let _ = writeln!(text, "\nwhat was replaced is kept in {}", backup.display());
    }
    let row = |(component, hosts): &(&str, Vec<String>)| {
        let most = if wide { usize::MAX } else { NAMED };
        vec![(*component).to_owned(), few(hosts, most, " ")]
    };
    let rows: Vec<Vec<String>> = order.iter().map(row).collect();
    text.push_str("\nstart, in this order (what runs already: restart):\n\n");
    text.push_str(&output::table(&ORDER, &rows, wide));
    text.push_str(&rotate_ca::copies(renewed, wide));
    text
}

fn json(telling: &Telling, Outcome { order, renewed }: &Outcome) -> String {
    let order: Vec<Value> = order
        .iter()
        .map(|(component, hosts)| json!({"component": component, "hosts": hosts}))
        .collect();
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "RecoverReport",
        "dryRun": telling.dry_run,
        "steps": telling.steps,
        "failed": report::failed(&telling.shortfall),
        "blocked": telling.blocked.iter().map(rotate::report::blocked).collect::<Vec<_>>(),
        "notes": telling.notes,
        "backup": telling.backup,
        "warnings": telling.warnings,
        "start": order,
        "copies": rotate_ca::copies_json(renewed),
    });
    format!("{document:#}\n")
}
