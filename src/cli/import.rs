//! `certkit import`.

use std::{fmt::Write as _, path::PathBuf};

use super::{
    Exit, Failure, Format, Global,
    changing::{BackupArgs, LockArgs},
    output::grid::Column,
    rotate::report::LIMIT,
    telling::{Rows, Wanted},
    watch, when,
    words::{few, here},
};
use crate::{
    model::{shown::with_causes, timestamp::Timestamp},
    ops::{apply::Record, import, takeup},
};

/// Take back certificates that were signed elsewhere from the requests in DIR/csr
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct ImportArgs {
    /// PEM files with the certificates, each with the CAs between it and the CA in place, if any; of a folder all that are
    /// below it (.crt, .pem, .cer)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    kept: BackupArgs,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: judge as of this RFC 3339 time
    #[arg(long, value_name = "TIME", requires = "dry_run")]
    at: Option<Timestamp>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
Each certificate is matched to its request by its key, and must be what was asked for: subject, names,
usages, a term that has begun and not ended, and a chain to the CA in place. All are put in place in one
transaction, with their keys, and their requests are removed; or everything that is wrong is named, and
nothing is changed. Of more than a thousand nodes all are checked first, then taken in a thousand nodes at a
time; what is in place already is passed over, so that the same import goes on where one was cut short.

EXIT CODES:
  0   taken in
  3   something is not what was asked for, or certkit could not do it; nothing was changed
  4   of many nodes some are done, and one that could not be is named; or all is done, and could not be told
  64  the command line was wrong

EXAMPLES:
  certkit rotate --csr-only
  certkit import signed/*.crt
  certkit import signed";

/// Runs the command.
pub fn run(args: &ImportArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let request = import::Request {
        dir: &dir,
        files: &args.files,
        dry_run: args.dry_run,
        now: when(args.at)?,
        lock_wait: args.lock.timeout,
        backups: args.kept.backups,
    };
    let mut intake = Told::new(Wanted::of(args.output, args.dry_run, global.verbose, LIMIT));
    let take_up = |changed: &takeup::Changed| takeup::run(&changed.request(&dir));
    // What is one is told once signals do again what they always do; of many parts each at once.
    let mut only = None;
    let report = watch::changing(
        global,
        watch::ChangingWork { dir: &dir, dry_run: args.dry_run, hooks: false },
        || {
            import::run(&request, |taken| {
                intake.add(&taken.records);
                match taken.changed {
                    Some((changed, true)) => only = Some(changed),
                    Some((changed, false)) => intake.outcomes.extend(take_up(&changed)),
                    None => {}
                }
            })
        },
    )?;
    if let Some(recovered) = &report.recovered {
        global.note(recovered);
    }
    intake.outcomes.extend(only.iter().flat_map(take_up));
    report.aftermath.warnings.iter().for_each(super::warn);
    let text = match args.output {
        Format::Json | Format::Yaml => {
            super::document(json(&report, &intake, args.dry_run), args.output)
        }
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => {
            Ok(table(&report, &intake, &dir, args.dry_run, args.output.is_wide()))
        }
    };
    let exit = if report.left.is_some() { Exit::Partly } else { Exit::Done };
    let told = super::tell(!args.dry_run, exit, text);
    if let Some(why) = &report.left {
        super::warn(format!(
            "not all is taken in: {}; the same import goes on with it",
            with_causes(why)
        ));
    }
    report.aftermath.settle();
    told
}

/// What is told of what was taken in, part by part.
struct Told {
    wanted: Wanted,
    rows: Rows,
    taken: Vec<serde_json::Value>,
    outcomes: Vec<takeup::Uptake>,
}

impl Told {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, rows: wanted.rows(), taken: Vec::new(), outcomes: Vec::new() }
    }

    fn add(&mut self, records: &[Record]) {
        for record in records {
            match self.wanted {
                Wanted::Data => self.taken.push(data(record)),
                Wanted::Table { .. } => self.rows.add(|| row(record)),
            }
        }
    }
}

fn row(record: &Record) -> Vec<String> {
    let files: Vec<String> = record.files.iter().map(|f| f.display().to_string()).collect();
    vec![record.label.clone(), record.not_after.to_kubeadm(), files.join(" ")]
}

fn data(record: &Record) -> serde_json::Value {
    serde_json::json!({
        "name": record.label,
        "files": record.files,
        "notAfter": record.not_after.to_string(),
        "serial": record.serial,
        "fingerprint": record.fingerprint,
        "replaced": record.replaced,
    })
}

const COLUMNS: [Column; 3] = [
    Column::new("NAME").least(16),
    Column::new("EXPIRES").rank(1),
    Column::new("FILES").least(16).rank(2).keeps_end(),
];

fn table(
    report: &import::Report,
    intake: &Told,
    dir: &std::path::Path,
    dry_run: bool,
    wide: bool,
) -> String {
    let mut text = String::new();
    if intake.rows.is_empty() {
        let _ = writeln!(text, "nothing to take in in {}", dir.display());
    } else {
        let heading = if dry_run { "would be put in place in" } else { "put in place in" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{heading} {}:\n", dir.display());
        text.push_str(&intake.rows.table(&COLUMNS, wide));
    }
    if report.there > 0 {
        let _ = writeln!(text, "\nin place already: {} of those given", report.there);
    }
    if !report.waiting.is_empty() {
        let most = if wide { usize::MAX } else { LIMIT.1 };
        let waiting = few(&report.waiting, most, ", ");
        let _ = writeln!(text, "\nstill waiting for signatures: {waiting}");
    }
    if let Some(backup) = &report.aftermath.backup {
        let _ = writeln!(
            text,
            "\nwhat was replaced is kept in {}; `{}` brings it back",
            backup.display(),
            here("certkit rotate --rollback", dir)
        );
    }
    text.push_str(&super::rotate::report::taken_up(&intake.outcomes, wide));
    text
}

fn json(report: &import::Report, intake: &Told, dry_run: bool) -> String {
    let document = serde_json::json!({
        "apiVersion": "certkit/v1",
        "kind": "ImportReport",
        "dryRun": dry_run,
        "taken": intake.taken,
        "there": report.there,
        "waiting": report.waiting,
        "left": report.left.as_ref().map(|why| with_causes(why)),
        "backup": report.aftermath.backup,
        "warnings": report.aftermath.warnings,
        "components": super::rotate::report::components(&intake.outcomes),
    });
    format!("{document:#}\n")
}
