//! `certkit rotate --rollback`.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use super::{RotateArgs, report, take_up};
use crate::{
    cli::{self, Exit, Failure, Format, Global, watch},
    ops::{
        rollback::{self, Report},
        takeup::{self, Outcome},
    },
};

/// Runs it.
pub fn run(args: &RotateArgs, global: &Global, dir: &Path) -> Result<Exit, Failure> {
    let request = rollback::Request {
        dir,
        dry_run: args.dry_run,
        now: cli::when(args.at)?,
        lock_wait: args.lock_timeout,
        backups: args.backups,
    };
    let done = watch::changing(
        global,
        watch::Change { dir, dry_run: args.dry_run, hooks: args.hook.is_some() },
        || rollback::run(&request),
    )?;
    if let Some(recovered) = &done.recovered {
        global.note(recovered);
    }
    let outcomes = take_up(args, dir, &done.cluster, true, &done.places, &done.served, &[]);
    let text = match args.output {
        Format::Json | Format::Yaml => {
            cli::document(json(&done, &outcomes, args.dry_run), args.output)
        }
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => {
            Ok(table(&done, &outcomes, dir, args.dry_run, args.output.is_wide()))
        }
    };
    let failed = outcomes.iter().any(takeup::Outcome::failed) || takeup::is_unproven(&outcomes);
    let exit = if failed { Exit::Partly } else { Exit::Done };
    let told = cli::tell(!args.dry_run, exit, text);
    done.aftermath.warnings.iter().for_each(cli::warn);
    report::complain_of(&outcomes);
    told
}

/// What going back did.
fn table(done: &Report, outcomes: &[Outcome], dir: &Path, dry_run: bool, wide: bool) -> String {
    let mut text = String::new();
    let heading = if dry_run { "would be restored in" } else { "restored in" };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{heading} {} from the backup {}:\n", dir.display(), done.restored.id);
    for entry in &done.restored.files {
        let verb = if entry.is_created() { "remove" } else { "restore" };
        let _ = writeln!(text, "  {verb:<8} {}", entry.path.display());
    }
    if let Some(backup) = &done.aftermath.backup {
        let _ = writeln!(
            text,
            "\nwhat was replaced is kept in {}; another --rollback brings it back",
            backup.display()
        );
    }
    text.push_str(&report::taken_up(outcomes, wide));
    text
}

/// The same as one JSON document.
fn json(done: &Report, outcomes: &[Outcome], dry_run: bool) -> String {
    let files: Vec<Value> = done
        .restored
        .files
        .iter()
        .map(|entry| {
            let action = if entry.is_created() { "remove" } else { "restore" };
            json!({"action": action, "path": entry.path})
        })
        .collect();
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "RollbackReport",
        "dryRun": dry_run,
        "restored": done.restored.id,
        "files": files,
        "backup": done.aftermath.backup,
        "warnings": done.aftermath.warnings,
        "components": report::components(outcomes),
    });
    format!("{document:#}\n")
}
