//! `certkit rotate --rollback`.

use std::{cell::Cell, fmt::Write as _, io::Write as _, path::Path};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{RotateArgs, report, take_up_as};
use crate::{
    cli::{
        self, Exit, Failure, Format, Global, output,
        output::grid::Column,
        telling::{NAMED, Wanted},
        watch,
        words::few,
    },
    model::shown::with_causes,
    ops::{
        rollback::{self, Left, Report},
        takeup::{self, Uptake},
    },
    store,
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
    let mut outcomes = Vec::new();
    let take_up = |back: &takeup::Changed| take_up_as(args, back.request(dir));
    // As `rotate` does it: what is one is taken up once signals do again what they always do.
    let mut only = None;
    let done = watch::changing(
        global,
        watch::ChangingWork { dir, dry_run: args.rehearsal.dry_run, hooks: args.hook.is_some() },
        || {
            rollback::run(&request, |back, is_only| match is_only {
                true => only = Some(back),
                false => outcomes.extend(take_up(&back)),
            })
        },
    )?;
    if let Some(recovered) = &done.recovered {
        global.note(recovered);
    }
    outcomes.extend(only.iter().flat_map(take_up));
    let failed = outcomes.iter().any(takeup::Uptake::failed) || takeup::is_unproven(&outcomes);
    let is_whole = done.damaged.is_empty() && done.left.is_none();
    let exit = if failed || !is_whole { Exit::Partly } else { Exit::Done };
    let text = match args.output {
        Format::Json | Format::Yaml => {
            cli::document(json(&done, &outcomes, args.rehearsal.dry_run), args.output)
        }
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => {
            let wanted =
                Wanted::of(args.output, args.rehearsal.dry_run, global.verbose, report::LIMIT);
            let mut text = restored(&done, dir, args.rehearsal.dry_run, wanted);
            text.push_str(&report::taken_up(&outcomes, args.output.is_wide()));
            Ok(text)
        }
    };
    let told = cli::tell(!args.rehearsal.dry_run && !done.files.is_empty(), exit, text);
    done.aftermath.warnings.iter().for_each(cli::warn);
    for (id, why) in &done.damaged {
        cli::warn(format!("what {id} changed is not undone: {why}"));
    }
    if let Some(Left { changes, why }) = &done.left {
        let hint = "`certkit rotate --rollback` goes on with it";
        let changes = few(changes, NAMED, ", ");
        cli::warn(format!("{changes} is not undone: {}; {hint}", with_causes(why)));
    }
    report::complain_of(&outcomes);
    done.aftermath.settle();
    told
}

fn verb(goes: bool) -> &'static str {
    if goes { "remove" } else { "restore" }
}

/// What going back did.
fn restored(done: &Report, dir: &Path, dry_run: bool, wanted: Wanted) -> String {
    let mut text = String::new();
    let heading = if dry_run { "would be restored in" } else { "restored in" };
    let names = &done.undone;
    let plural = if names.len() == 1 { "" } else { "s" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{heading} {} from the backup{plural} {}:\n",
        dir.display(),
        few(names, if wanted.is_cut() { NAMED } else { usize::MAX }, ", ")
    );
    let line =
        |file: &rollback::Restored| format!("  {:<8} {}\n", verb(file.goes), file.path.display());
    text.push_str(&wanted.lines(done.files.iter().map(line)));
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
    text
}

/// The same as one JSON document.
fn json(done: &Report, outcomes: &[Uptake], dry_run: bool) -> String {
    let names = &done.undone;
    let damaged = done.damaged.iter().map(|(id, why)| json!({"id": id, "why": why}));
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "RollbackReport",
        "dryRun": dry_run,
        "restored": names.first(),
        "undone": names,
        "damaged": damaged.collect::<Vec<Value>>(),
        "files": done.files.iter().map(|file| entry(&file.path, file.goes)).collect::<Vec<Value>>(),
        "left": done.left.as_ref().map(|left| {
            json!({"changes": left.changes, "why": with_causes(&left.why)})
        }),
        "backup": done.aftermath.backup,
        "warnings": done.aftermath.warnings,
        "components": report::components(outcomes),
    });
    format!("{document:#}\n")
}

fn entry(path: &Path, goes: bool) -> Value {
    json!({"action": verb(goes), "path": path})
}

/// A change that can be undone, as far as it is shown.
struct Shown {
    id: String,
    command: Option<String>,
    /// How many files it changed, and those that are named.
    files: (usize, Vec<Value>),
    /// The first part of the change that this is another part of.
    of: Option<String>,
    /// How many changes it was to undo and has not.
    left: usize,
    damaged: Option<String>,
}

/// Shows what can be undone, the last change first.
fn list(args: &RotateArgs, global: &Global, dir: &Path) -> Result<Exit, Failure> {
    let backups = rollback::backups(dir)?;
    let names = backups.names().map_err(rollback::Error::from)?;
    let is_data = matches!(args.output, Format::Json | Format::Yaml);
    let named = match is_data || global.verbose || args.output.is_wide() {
        true => usize::MAX,
        false => SHOWN,
    };
    let show = |(at, id): (usize, &String)| {
        let first = names.iter().find(|one| store::are_of_one(one, id));
        let of = first.filter(|first| *first != id).cloned();
        let mut shown = Shown {
            id: id.clone(),
            command: None,
            files: (0, Vec::new()),
            of,
            left: 0,
            damaged: None,
        };
        match backups.checked(id) {
            Ok(backup) => {
                let some = backup.files.iter().take(named);
                let some = some.map(|file| entry(&file.path, file.is_created())).collect();
                shown.files = (backup.files.len(), some);
                shown.command = backup.command;
                shown.left = if at + 1 == names.len() { backup.to_undo.len() } else { 0 };
            }
            Err(error) => shown.damaged = Some(with_causes(&error)),
        }
        shown
    };
    let changes = names.iter().enumerate().rev().map(show);
    match args.output {
        // What many nodes' changes did is told change by change: it is not held at once.
        Format::Json => {
            let mut out = std::io::BufWriter::new(output::stdout());
            serde_json::to_writer_pretty(&mut out, &list_of(changes))
                .map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
            out.flush()?;
        }
        Format::Yaml => {
            let document = serde_json::to_value(list_of(changes)).map_err(Failure::new)?;
            cli::print(cli::yaml::emit(&document).map_err(Failure::new)?)?;
        }
        Format::Table | Format::Wide => {
            let changes: Vec<Shown> = changes.collect();
            cli::print(list_table(&changes, dir, args.output.is_wide()))?;
        }
    }
    Ok(Exit::Done)
}

/// So many files are named in a table, unless all are asked for.
const SHOWN: usize = 3;

fn list_table(changes: &[Shown], dir: &Path, wide: bool) -> String {
    if changes.is_empty() {
        return format!("{}: there is no backup, so nothing can be undone\n", dir.display());
    }
    let row = |shown: &Shown| {
        let time = rollback::time(&shown.id).map(|time| time.to_kubeadm()).unwrap_or_default();
        let (command, count, which) = match &shown.damaged {
            None => {
                let (count, some) = &shown.files;
                let paths = some.iter().filter_map(|file| file["path"].as_str());
                let mut which = paths.collect::<Vec<_>>().join(" ");
                if *count > some.len() {
                    let _ = write!(which, " and {} more", count - some.len());
                }
                let mut command = shown.command.clone().unwrap_or_else(|| "unknown".into());
                if let Some(first) = &shown.of {
                    let _ = write!(command, ", with {first}");
                }
                if shown.left > 0 {
                    let _ = write!(command, ", cut short: {} to go", shown.left);
                }
                (command, count.to_string(), which)
            }
            Some(why) => (String::new(), String::new(), format!("CANNOT BE UNDONE: {why}")),
        };
        vec![shown.id.clone(), time, command, count, which]
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

/// The same as one document.
fn list_of(changes: impl Iterator<Item = Shown>) -> impl Serialize {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct RollbackList<I: Iterator<Item = Value>> {
        api_version: &'static str,
        kind: &'static str,
        #[serde(serialize_with = "each")]
        changes: Cell<Option<I>>,
    }
    fn each<S: Serializer, I: Iterator<Item = Value>>(
        changes: &Cell<Option<I>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(changes.take().into_iter().flatten())
    }
    let change = |shown: Shown| {
        json!({
            "id": shown.id,
            "time": rollback::time(&shown.id).map(|time| time.to_string()),
            "command": shown.command,
            "files": shown.files.1,
            "partOf": shown.of,
            "toUndo": shown.left,
            "damaged": shown.damaged,
        })
    };
    let changes = Cell::new(Some(changes.map(change)));
    RollbackList { api_version: "certkit/v1", kind: "RollbackList", changes }
}
