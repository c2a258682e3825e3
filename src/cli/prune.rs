//! `certkit prune`.

use serde_json::{Value, json};

use super::{
    Exit, Failure, Format, Global,
    changing::{BackupArgs, LockArgs},
    output::grid::Column,
    rotate::report::{LIMIT, complain_of_parts, failed},
    telling::Wanted,
    watch, when,
    words::{few, here},
};
use crate::ops::prune;

/// Remove what is no longer declared: files of hosts and addons taken out of certkit.yaml, old backups
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct PruneArgs {
    #[command(flatten)]
    kept: BackupArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Print what would be removed and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
Hosts and addons that are taken out of certkit.yaml leave their files behind: keys, too. Plans of `init` and
`rotate` name them; this removes them, in one transaction, of more than a thousand hosts in one for each thousand. What is removed is kept in a backup, as with every
change, until there are --backups newer ones: to be rid of keys at once, remove that backup.

EXIT CODES:
  0   done, or nothing was to do
  3   certkit could not do it; nothing was changed
  4   partly done: a host's files could not be removed, and it is named; or all is done, and could not be told
  64  the command line was wrong

EXAMPLES:
  certkit prune --dry-run
  certkit prune --backups 3";

/// Runs the command.
pub fn run(args: &PruneArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let request = prune::Request {
        dir: &dir,
        dry_run: args.dry_run,
        now: when(None)?,
        lock_wait: args.lock.timeout,
        backups: args.kept.backups,
    };
    let report = watch::changing(
        global,
        watch::ChangingWork { dir: &dir, dry_run: args.dry_run, hooks: false },
        || prune::run(&request),
    )?;
    tell(&report, &dir, args.dry_run, args.output, global)
}

/// Says what was removed.
pub fn tell(
    report: &prune::Report,
    dir: &std::path::Path,
    dry_run: bool,
    output: Format,
    global: &Global,
) -> Result<Exit, Failure> {
    if let Some(recovered) = &report.recovered {
        global.note(recovered);
    }
    report.warnings.iter().for_each(super::warn);
    let exit = if report.shortfall.failed.is_empty() { Exit::Done } else { Exit::Partly };
    let text = match output {
        Format::Json | Format::Yaml => super::document(json(report, dry_run), output),
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => {
            let wanted = Wanted::of(output, dry_run, global.verbose, LIMIT);
            Ok(table(report, dir, wanted, (dry_run, output.is_wide())))
        }
    };
    let is_changed = !report.files.is_empty() || !report.nodes.is_empty();
    let told = super::tell(!dry_run && is_changed, exit, text);
    complain_of_parts(&report.shortfall);
    told
}

fn table(
    report: &prune::Report,
    dir: &std::path::Path,
    wanted: Wanted,
    (dry_run, wide): (bool, bool),
) -> String {
    let nodes: Vec<&str> = report.nodes.iter().map(AsRef::as_ref).collect();
    let nodes = few(&nodes, if wanted.is_cut() { LIMIT.1 } else { usize::MAX }, ", ");
    let mut text = match (report.files.is_empty(), dry_run) {
        (true, true) if !report.nodes.is_empty() => {
            format!("would be taken out of certkit.yaml: {nodes}\n")
        }
        (true, false) if !report.nodes.is_empty() => {
            format!("taken out of certkit.yaml: {nodes}\n")
        }
        (true, _) => format!("{}: nothing is there that is not declared\n", dir.display()),
        (false, true) => format!("would be removed from {}:\n\n", dir.display()),
        (false, false) => format!("removed from {}:\n\n", dir.display()),
    };
    if !report.nodes.is_empty() && !report.files.is_empty() {
        text = format!("no longer nodes: {nodes}\n{text}");
    }
    if !report.files.is_empty() {
        let row = |(file, why): &(std::path::PathBuf, _)| {
            vec![file.display().to_string(), crate::model::stale::Why::to_string(why)]
        };
        let columns = [Column::new("FILE").least(24).keeps_end(), Column::new("REASON").least(16)];
        let mut rows = wanted.rows();
        report.files.iter().for_each(|file| rows.add(|| row(file)));
        text.push_str(&rows.table(&columns, wide));
    }
    if let Some(backup) = &report.backup {
        text.push_str(&format!(
            "\nwhat was removed is kept in {}; `{}` brings it back\n",
            backup.display(),
            here("certkit rotate --rollback", dir)
        ));
    }
    text
}

fn json(report: &prune::Report, dry_run: bool) -> String {
    let files: Vec<Value> = report
        .files
        .iter()
        .map(|(file, why)| json!({"path": file, "reason": why.to_string()}))
        .collect();
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "PruneReport",
        "dryRun": dry_run,
        "nodes": report.nodes.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        "files": files,
        "failed": failed(&report.shortfall),
        "backup": report.backup,
        "prunedBackups": report.pruned,
        "recovered": report.recovered,
    });
    format!("{document:#}\n")
}
