//! `certkit rotate --rollback`.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use super::{RotateArgs, report, take_up_as};
use crate::{
    cli::{self, Exit, Failure, Format, Global, output, output::grid::Column, watch},
    model::shown::with_causes,
    ops::{
        rollback::{self, Report},
        takeup::{self, Uptake},
    },
    store::{BackupEntry, Kept},
};

/// Runs it.
pub fn run(args: &RotateArgs, global: &Global, dir: &Path) -> Result<Exit, Failure> {
    if args.list {
        return list(args, global, dir);
    }
    let request = rollback::Request {
        dir,
        to: args.to.as_deref(),
        force: args.force,
        dry_run: args.rehearsal.dry_run,
        now: cli::when(args.rehearsal.at)?,
        lock_wait: args.lock.timeout,
        backups: args.kept.backups,
    };
    let done = watch::changing(
        global,
        watch::ChangingWork { dir, dry_run: args.rehearsal.dry_run, hooks: args.hook.is_some() },
        || rollback::run(&request),
    )?;
    if let Some(recovered) = &done.recovered {
        global.note(recovered);
    }
    let outcomes = take_up_as(
        args,
        takeup::Request::new(dir, (&done.cluster, done.declared), &done.places, &done.served),
    );
    let failed = outcomes.iter().any(takeup::Uptake::failed) || takeup::is_unproven(&outcomes);
    let exit = if failed || !done.damaged.is_empty() { Exit::Partly } else { Exit::Done };
    let text = match args.output {
        Format::Json | Format::Yaml => {
            cli::document(json(&done, &outcomes, args.rehearsal.dry_run), args.output)
        }
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => {
            Ok(table(&done, &outcomes, dir, args.rehearsal.dry_run, args.output.is_wide()))
        }
    };
    let told = cli::tell(!args.rehearsal.dry_run && !done.files.is_empty(), exit, text);
    done.aftermath.warnings.iter().for_each(cli::warn);
    for (id, why) in &done.damaged {
        cli::warn(format!("what {id} changed is not undone: {why}"));
    }
    report::complain_of(&outcomes);
    done.aftermath.settle();
    told
}

fn verb(entry: &BackupEntry) -> &'static str {
    if entry.is_created() { "remove" } else { "restore" }
}

/// What going back did.
fn table(done: &Report, outcomes: &[Uptake], dir: &Path, dry_run: bool, wide: bool) -> String {
    let mut text = String::new();
    let heading = if dry_run { "would be restored in" } else { "restored in" };
    let names: Vec<&str> = done.undone.iter().map(|backup| backup.id.as_str()).collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{heading} {} from the backup{plural} {}:\n",
        dir.display(),
        names.join(", ")
    );
    for entry in &done.files {
        let _ = writeln!(text, "  {:<8} {}", verb(entry), entry.path.display());
    }
    if done.files.is_empty() {
        text.push_str("  nothing: every file is as it was before\n");
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
fn json(done: &Report, outcomes: &[Uptake], dry_run: bool) -> String {
    let names: Vec<&str> = done.undone.iter().map(|backup| backup.id.as_str()).collect();
    let damaged = done.damaged.iter().map(|(id, why)| json!({"id": id, "why": why}));
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "RollbackReport",
        "dryRun": dry_run,
        "restored": names.first(),
        "undone": names,
        "damaged": damaged.collect::<Vec<Value>>(),
        "files": files(&done.files),
        "backup": done.aftermath.backup,
        "warnings": done.aftermath.warnings,
        "components": report::components(outcomes),
    });
    format!("{document:#}\n")
}

fn files(entries: &[BackupEntry]) -> Vec<Value> {
    entries.iter().map(|entry| json!({"action": verb(entry), "path": entry.path})).collect()
}

/// Shows what can be undone.
fn list(args: &RotateArgs, global: &Global, dir: &Path) -> Result<Exit, Failure> {
    let mut changes = rollback::changes(dir)?;
    changes.reverse();
    let text = match args.output {
        Format::Json | Format::Yaml => cli::document(list_json(&changes), args.output)?,
        Format::Table | Format::Wide => {
            list_table(&changes, dir, global.verbose, args.output.is_wide())
        }
    };
    cli::print(text)?;
    Ok(Exit::Done)
}

/// So many files are named in a table, unless all are asked for.
const SHOWN: usize = 3;

fn list_table(changes: &[Kept], dir: &Path, verbose: bool, wide: bool) -> String {
    if changes.is_empty() {
        return format!("{}: there is no backup, so nothing can be undone\n", dir.display());
    }
    let row = |kept: &Kept| {
        let time = rollback::time(&kept.id).map(|time| time.to_kubeadm()).unwrap_or_default();
        let (command, count, which) = match &kept.backup {
            Ok(backup) => {
                let shown = if verbose || wide { usize::MAX } else { SHOWN };
                let names = backup.files.iter().take(shown).map(|entry| entry.path.display());
                let mut which = names.map(|name| name.to_string()).collect::<Vec<_>>().join(" ");
                let rest = backup.files.len().saturating_sub(shown);
                if rest > 0 {
                    let _ = write!(which, " and {rest} more");
                }
                let mut command = backup.command.clone().unwrap_or_else(|| "unknown".into());
                if let Some(first) = first_of(changes, kept) {
                    let _ = write!(command, ", with {first}");
                }
                (command, backup.files.len().to_string(), which)
            }
            Err(error) => {
                (String::new(), String::new(), format!("CANNOT BE UNDONE: {}", with_causes(error)))
            }
        };
        vec![kept.id.clone(), time, command, count, which]
    };
    let columns = [
        Column::new("CHANGE"),
        Column::new("TIME").rank(2),
        Column::new("COMMAND").rank(1),
        Column::new("FILES").rank(1),
        Column::new("WHICH").least(16),
    ];
    output::table(&columns, &changes.iter().map(row).collect::<Vec<_>>(), wide)
}

/// The first part of the change that this one is another part of; the last change comes first.
fn first_of<'c>(changes: &'c [Kept], part: &Kept) -> Option<&'c str> {
    let first = changes.iter().rev().find(|one| one.is_with(part))?;
    (first.id != part.id).then_some(&first.id)
}

/// The same as one JSON document.
fn list_json(changes: &[Kept]) -> String {
    let change = |kept: &Kept| {
        let backup = kept.backup.as_ref();
        json!({
            "id": kept.id,
            "time": rollback::time(&kept.id).map(|time| time.to_string()),
            "command": backup.ok().and_then(|backup| backup.command.as_deref()),
            "files": backup.map(|backup| files(&backup.files)).unwrap_or_default(),
            "partOf": first_of(changes, kept),
            "damaged": backup.err().map(|error| with_causes(error)),
        })
    };
    let changes: Vec<Value> = changes.iter().map(change).collect();
    let document = json!({"apiVersion": "certkit/v1", "kind": "RollbackList", "changes": changes});
    format!("{document:#}\n")
}
