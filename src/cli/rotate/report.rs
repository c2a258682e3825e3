//! What `certkit rotate` prints.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use crate::{
    cli::{
        self, Exit,
        output::{self, grid::Column},
        telling::{self, HostTally, Telling, Words},
        words::{few, here, once, quoted},
    },
    model::{
        plan::{Action, KeyChoice, Reason, Step, obstacle::Blocked},
        shown::with_causes,
        takeup::TakeUp,
    },
    ops::{
        change::{self, Report, parts::Shortfall},
        takeup::{self, State, Uptake},
    },
};

/// How steps are told.
pub const WORDS: Words = Words { row, data, tells_kept: |step| step.reason == Reason::Waiting };

/// How a report is told to people.
#[derive(Clone, Copy, Debug)]
pub struct RotateTelling {
    /// Somebody is watching: say too that there was nothing to do.
    pub talk: bool,
    /// Tell too what stays as it is.
    pub verbose: bool,
    /// Leave nothing out for want of room.
    pub wide: bool,
}

const COLUMNS: [Column; 6] = [
    Column::new("ACTION").rank(3),
    Column::new("NAME").least(16),
    Column::new("EXPIRES").rank(2),
    Column::new("KEY").rank(4),
    Column::new("FILES").least(12).rank(5).keeps_end(),
    Column::new("REASON").least(24).rank(1),
];

/// The plan, or what became of it. With nothing due it is empty unless somebody is watching.
pub fn table(telling: &Telling, dir: &Path, view: RotateTelling) -> String {
    let RotateTelling { talk, verbose, wide } = view;
    let dry_run = telling.dry_run;
    let mut text = String::new();
    // Writing to a String cannot fail.
    if !telling.changes && !telling.waiting && !verbose {
        if (talk || dry_run) && telling.blocked.is_empty() {
            let _ = write!(text, "{}: nothing is due", dir.display());
            if let Some((label, end)) = &telling.next {
                let _ = write!(text, "; {label} ends first, {}", end.to_kubeadm());
            }
            text.push('\n');
        }
    } else {
        let heading = match (dry_run, telling.changes) {
            (true, _) => "would be renewed in",
            (false, false) => "in",
            (false, true) => "renewed in",
        };
        let _ = writeln!(text, "{} {}:\n", heading, dir.display());
        text.push_str(&telling.rows.table(&COLUMNS, wide));
    }
    for (label, end) in &telling.clamped {
        let _ = writeln!(text, "\n{label} ends with its CA, {end}, earlier than asked for");
    }
    if talk || dry_run || telling.changes {
        for note in once(&telling.notes) {
            let _ = writeln!(text, "\nnote: {}", here(&note, dir));
        }
    }
    if telling.requested || telling.waiting {
        let folder = quoted(&dir.join("csr").display().to_string());
        let _ = writeln!(
            text,
            "\nhave the requests signed with their names and usages as requested, put each certificate beside \
             its request as .crt, then: {}",
            here(&format!("certkit import {folder}/*.crt"), dir)
        );
    }
    if let Some(backup) = &telling.backup {
        let _ = writeln!(
            text,
            "\nwhat was replaced is kept in {}; `{}` brings it back",
            backup.display(),
            here("certkit rotate --rollback", dir)
        );
    }
    text.push_str(&taken_up(&telling.outcomes, wide));
    if telling.renewed.count > 0 && telling.keys_on_hosts {
        let deploy = here("certkit deploy --changed", dir);
        text.push_str(&format!("\ncarry each host's tree to it: {deploy}\n"));
    } else if telling.renewed.count > 0 && telling.workspace {
        text.push_str(&carry(&telling.renewed, dir));
    }
    text
}

/// How the trees of a workspace reach the hosts whose certificates are new.
fn carry(hosts: &HostTally, dir: &Path) -> String {
    let told = if hosts.count > telling::NAMED { 1 } else { hosts.count };
    let mut text = String::from("\ncarry each host's tree to it:\n");
    for host in &hosts.names[..told] {
        let line = format!("certkit export {host} | ssh {host} tar -x -C /etc/kubernetes");
        text += &format!("  {}\n", here(&line, dir));
    }
    if told < hosts.count {
        text += &format!("  the same for the other {} hosts\n", hosts.count - told);
    }
    text
}

fn row(report: &Report, step: &Step) -> Vec<String> {
    let issued = report.record_of(step);
    let files: Vec<String> = step.files.iter().map(|f| f.display().to_string()).collect();
    vec![
        verb(&step.action).to_owned(),
        step.label.clone(),
        issued.map(|r| r.not_after.to_kubeadm()).unwrap_or_default(),
        step.key().map(key).unwrap_or_default().to_owned(),
        files.join(" "),
        step.reason.to_string(),
    ]
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::Issue(_) => "renew",
        Action::Request(_) => "request",
        Action::Amend(_) | Action::Declare(_) => "update",
        Action::Give => "give",
        _ => "keep",
    }
}

fn key(choice: KeyChoice) -> &'static str {
    match choice {
        KeyChoice::Existing => "kept",
        KeyChoice::New => "new",
    }
}

/// Rows of a report that is told whole, and those that are told of one with more: a mail of thousands of lines is not read.
pub const LIMIT: (usize, usize) = (100, 20);

/// HostTally that are named before the rest is counted.
const NAMED: usize = 3;

/// One line for each component, and for all hosts of which the same is to be said.
pub fn taken_up(outcomes: &[Uptake], wide: bool) -> String {
    if outcomes.is_empty() {
        return String::new();
    }
    let mut rows: Vec<([String; 3], Vec<String>)> = Vec::new();
    for outcome in outcomes {
        // With -o wide each host has its line, for those who look for one.
        let said = [outcome.component.to_owned(), outcome.certificates.join(" "), words(outcome)];
        let host = outcome.host.clone().unwrap_or_default();
        match rows.iter_mut().find(|(alike, _)| *alike == said && !wide) {
            Some((_, hosts)) => hosts.push(host),
            None => rows.push((said, vec![host])),
        }
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|([component, uses, words], hosts)| {
            vec![component, few(&hosts, NAMED, " "), uses, words]
        })
        .collect();
    let columns = [
        Column::new("COMPONENT"),
        Column::new("HOST").least(16).rank(1),
        Column::new("USES").least(16).rank(2),
        Column::new("TAKES IT UP").least(32),
    ];
    format!("\n{}", output::table(&columns, &rows, wide))
}

fn words(outcome: &Uptake) -> String {
    let mut words = match (outcome.how, &outcome.restart) {
        (TakeUp::Nobody, _) => "nothing that runs uses it".to_owned(),
        (TakeUp::Handshake, _) => "by itself, at the next connection".into(),
        (TakeUp::Watch, _) => "by itself, at once".into(),
        (TakeUp::Poll(seconds), _) => format!("by itself, within {} minutes", seconds.div_ceil(60)),
        (TakeUp::Restart, Some(Ok(done))) => format!("restarted: {done}"),
        (TakeUp::Restart, Some(Err(_))) => "RESTART NEEDED: it failed".into(),
        (TakeUp::Restart, None) => "RESTART NEEDED".into(),
    };
    for seen in &outcome.listeners {
        let state = match &seen.state {
            State::New => "serves it".to_owned(),
            State::Old { serial } => format!("STILL SERVES serial {serial}"),
            State::Unknown(_) => "could not be asked".into(),
        };
        let _ = write!(words, "; {} {state}", seen.address);
    }
    if outcome.unproven {
        words.push_str("; NOT PROVEN: nothing answers on this machine");
    }
    words
}

/// A step as data.
fn data(report: &Report, step: &Step) -> Value {
    let issued = report.record_of(step);
    json!({
        "action": verb(&step.action),
        "name": step.label,
        "files": step.files,
        "key": step.key().map(key),
        "reason": step.reason.to_string(),
        "differences": differences(&step.reason),
        "notAfter": issued.map(|r| r.not_after.to_string()),
        "serial": issued.map(|r| r.serial.clone()),
        "fingerprint": issued.map(|r| r.fingerprint.clone()),
        "replaced": issued.and_then(|r| r.replaced.clone()),
    })
}

/// The same as one JSON document.
pub fn json(telling: &Telling, exit: Exit) -> String {
    let blocked: Vec<Value> = telling.blocked.iter().map(blocked).collect();
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "RotateReport",
        "dryRun": telling.dry_run,
        "declared": telling.declared,
        "exitCode": exit as u8,
        "steps": telling.steps,
        "blocked": blocked,
        "failed": failed(&telling.shortfall),
        "notes": telling.notes,
        "backup": telling.backup,
        "warnings": telling.warnings,
        "components": components(&telling.outcomes),
    });
    format!("{document:#}\n")
}

/// The nodes that could not be changed, for a JSON document.
pub fn failed(shortfall: &Shortfall) -> Vec<Value> {
    let one = |(nodes, error): &(String, change::Error)| json!({"nodes": nodes, "why": with_causes(error), "hint": error.hint()});
    shortfall.failed.iter().map(one).collect()
}

/// Says on standard error which nodes could not be changed.
pub fn complain_of_parts(shortfall: &Shortfall) {
    for (nodes, error) in &shortfall.failed {
        cli::warn(format!("{nodes}: not changed: {}", with_causes(error)));
    }
    if shortfall.left > 0 {
        cli::warn(format!("{} further nodes were not tried", shortfall.left));
    }
    let mut hints: Vec<String> =
        shortfall.failed.iter().filter_map(|(_, error)| error.hint()).collect();
    hints.dedup();
    hints.into_iter().for_each(cli::hint);
}

fn differences(reason: &Reason) -> Vec<String> {
    match reason {
        Reason::Drift(differences) => differences.clone(),
        Reason::Several(reasons) => reasons.iter().flat_map(differences).collect(),
        _ => Vec::new(),
    }
}

/// What is due and cannot be done, for a JSON document.
pub fn blocked(blocked: &Blocked) -> Value {
    json!({
        "name": blocked.label,
        "file": blocked.file,
        "due": blocked.due.as_ref().map(Reason::to_string),
        "expired": blocked.expired,
        "why": blocked.obstacle.to_string(),
        "hint": blocked.obstacle.hint(),
    })
}

/// The same for a JSON document.
pub fn components(outcomes: &[Uptake]) -> Vec<Value> {
    outcomes
        .iter()
        .map(|outcome| {
            let (take_up, seconds) = match outcome.how {
                TakeUp::Nobody => ("nobody", None),
                TakeUp::Handshake => ("handshake", None),
                TakeUp::Watch => ("watch", None),
                TakeUp::Poll(seconds) => ("poll", Some(seconds)),
                TakeUp::Restart => ("restart", None),
            };
            let listeners: Vec<Value> = outcome
                .listeners
                .iter()
                .map(|seen| match &seen.state {
                    State::New => json!({"address": seen.address, "serves": "new"}),
                    State::Old { serial } => {
                        json!({"address": seen.address, "serves": "old", "serial": serial})
                    }
                    State::Unknown(why) => {
                        json!({"address": seen.address, "serves": "unknown", "why": why})
                    }
                })
                .collect();
            json!({
                "component": outcome.component,
                "host": outcome.host,
                "certificates": outcome.certificates,
                "files": outcome.files,
                "takeUp": take_up,
                "seconds": seconds,
                "restartNeeded": outcome.needs_restart(),
                "restart": outcome.restart.as_ref().map(|r| match r {
                    Ok(done) => json!({"done": done}),
                    Err(error) => json!({"failed": with_causes(error)}),
                }),
                "hook": outcome.hook.as_ref().map(|h| match h {
                    Ok(()) => json!({"done": true}),
                    Err(error) => json!({"failed": with_causes(error)}),
                }),
                "listeners": listeners,
                "unproven": outcome.unproven,
            })
        })
        .collect()
}

/// Says on standard error what stood against renewing, and what failed.
pub fn complain(telling: &Telling, dir: &Path) {
    complain_of_blocked(&telling.blocked, dir);
    complain_of_parts(&telling.shortfall);
    complain_of(&telling.outcomes);
}

/// Says on standard error what stood against renewing, with a hint once for each obstacle.
pub fn complain_of_blocked(all: &[Blocked], dir: &Path) {
    let mut hints: Vec<String> = Vec::new();
    for blocked in all {
        let due = blocked.due.as_ref().map(|due| format!(" ({due})")).unwrap_or_default();
        cli::warn(format!("{}{due}: {}", blocked.label, blocked.obstacle));
        let hint = blocked.obstacle.hint();
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    for hint in hints {
        cli::hint(here(&hint, dir));
    }
}

/// Says on standard error which restarts, hooks and listeners failed.
pub fn complain_of(outcomes: &[Uptake]) {
    if takeup::is_unproven(outcomes) {
        cli::warn(
            "not proven: no listener answered on this machine, so nobody knows what is served",
        );
    }
    for outcome in outcomes {
        let of = match &outcome.host {
            Some(host) => format!("{} on {host}", outcome.component),
            None => outcome.component.to_owned(),
        };
        if let Some(Err(error)) = &outcome.restart {
            cli::warn(format!("{of} was not restarted: {}", with_causes(error)));
        }
        if let Some(Err(error)) = &outcome.hook {
            cli::warn(format!("{of}: {}", with_causes(error)));
        }
        for seen in &outcome.listeners {
            let what = match &seen.state {
                State::New => continue,
                State::Old { serial } => format!("still serves serial {serial}"),
                State::Unknown(why) => why.clone(),
            };
            cli::warn(format!("{of}: {}: {what}", seen.address));
        }
    }
}
