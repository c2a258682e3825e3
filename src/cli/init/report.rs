//! What `certkit init` prints.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use crate::{
    cli::{
        output::{self, grid::Column},
        rotate::report::{components, failed, taken_up},
        telling::{self, Telling, Words},
        words::{here, once, quoted},
    },
    model::{
        adopt::Deviation,
        catalogue::roles,
        plan::{Action, Step},
    },
    ops::change::Report,
};

/// How steps are told.
pub const WORDS: Words = Words { row, data, tells_kept: |_| false };

/// Rows of a report that is told whole, which those of a few control planes are, and those that are told of one with more.
pub const LIMIT: (usize, usize) = (400, 100);

const COLUMNS: [Column; 5] = [
    Column::new("ACTION").rank(3),
    Column::new("NAME").least(16),
    Column::new("EXPIRES").rank(1),
    Column::new("FILES").least(12).rank(2).keeps_end(),
    Column::new("REASON").least(24).rank(4),
];

/// The report for people: what was made, then what to do next.
pub fn table(telling: &Telling, dir: &Path, wide: bool) -> String {
    let dry_run = telling.dry_run;
    let mut text = String::new();
    // Writing to a String cannot fail.
    if telling.rows.is_empty() {
        let _ = writeln!(text, "{}: complete, nothing to do", dir.display());
    } else {
        let heading = if dry_run { "would be made in" } else { "made in" };
        let _ = writeln!(text, "{heading} {}:\n", dir.display());
        text.push_str(&telling.rows.table(&COLUMNS, wide));
    }
    for (label, end) in &telling.clamped {
        let _ = writeln!(text, "\n{label} ends with its CA, {end}, earlier than declared");
    }
    for note in once(&telling.notes) {
        let _ = writeln!(text, "\nnote: {}", here(&note, dir));
    }
    if let Some(backup) = &telling.backup {
        let _ = writeln!(text, "\nwhat was replaced is kept in {}", backup.display());
    }
    text.push_str(&taken_up(&telling.outcomes, wide));
    let waits = waiting(telling, dir, &mut text);
    // Nothing can be started as long as certificates are missing.
    if !dry_run && telling.changes && !waits {
        next(telling, dir, &mut text);
    }
    text
}

fn row(report: &Report, step: &Step) -> Vec<String> {
    let files: Vec<String> = step.files.iter().map(|f| f.display().to_string()).collect();
    let end = report.record_of(step);
    vec![
        verb(&step.action).to_owned(),
        step.label.clone(),
        end.map(|r| r.not_after.to_kubeadm()).unwrap_or_default(),
        files.join(" "),
        step.reason.to_string(),
    ]
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::Copy { .. } => "copy",
        Action::Configure(_)
        | Action::Amend(_)
        | Action::Declare(_)
        | Action::Bundle(_)
        | Action::PublicKeys(_)
        | Action::Refer(_)
        | Action::Resend(_) => "write",
        Action::GenerateKey { .. } | Action::GenerateKeyPair { .. } => "generate",
        Action::Give => "give",
        Action::CrossSign(_) | Action::Issue(_) => "issue",
        Action::Keep => "keep",
        Action::Remove => "remove",
        Action::Request(_) => "request",
    }
}

/// What waits for a signature from elsewhere, if anything does.
fn waiting(telling: &Telling, dir: &Path, text: &mut String) -> bool {
    if telling.requests.is_empty() {
        return false;
    }
    let _ = writeln!(text, "\nwaiting for signatures from elsewhere:");
    for (file, label) in &telling.requests {
        let _ = writeln!(text, "  {}  ({label})", file.display());
    }
    let folder = dir.join("csr");
    let _ = writeln!(
        text,
        "\nnext:\n  have them signed with their names and usages as requested, put each certificate beside its \
         request as .crt, then\n  {}",
        here(&format!("certkit import {}/*.crt", quoted(&folder.display().to_string())), dir)
    );
    true
}

/// What to do now. Flags come from the same catalogue, so they fit.
fn next(telling: &Telling, dir: &Path, text: &mut String) {
    // Where it was made before, it may be offline by now.
    let root = telling.single_root && telling.is_new(roles::ROOT.id.name());
    let dir = quoted(&dir.display().to_string());
    let _ = writeln!(text, "\nnext:");
    let hosts = &telling.hosts;
    if telling.keys_on_hosts {
        let _ = writeln!(
            text,
            "  certkit --dir {dir} deploy   asks hosts for their requests, and carries the rest"
        );
    } else if telling.workspace {
        let told = if hosts.count > telling::NAMED { 1 } else { hosts.count };
        for host in &hosts.names[..told] {
            let _ = writeln!(
                text,
                "  certkit --dir {dir} export {host} | ssh {host} tar -x -C /etc/kubernetes",
            );
        }
        if told < hosts.count {
            let _ = writeln!(text, "  the same for the other {} hosts", hosts.count - told);
        }
    }
    let host = match hosts.names.first().filter(|_| telling.workspace) {
        Some(host) => format!(" --host {host}"),
        None => String::new(),
    };
    let _ = writeln!(
        text,
        "  certkit --dir {dir} flags{host}       what each component is started with\n  \
         certkit template rbac | kubectl --kubeconfig {dir}/super-admin.conf apply -f -\n                                \
         once the API is up: gives admin.conf and the apiserver their rights\n  \
         certkit --dir {dir} check-expiration   from cron, from now on"
    );
    if root {
        let _ = writeln!(
            text,
            "  take {dir}/pki/root-ca.key offline: nothing needs it until a CA is replaced"
        );
    }
}

/// A step as data.
fn data(report: &Report, step: &Step) -> Value {
    telling::step(report, step, verb(&step.action))
}

/// The report for programs.
pub fn json(telling: &Telling) -> String {
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "InitReport",
        "dryRun": telling.dry_run,
        "steps": telling.steps,
        "failed": failed(&telling.shortfall),
        "notes": telling.notes,
        "backup": telling.backup,
        "warnings": telling.warnings,
        "components": components(&telling.outcomes),
    });
    format!("{document:#}\n")
}

const DIFFERENCES: [Column; 5] = [
    Column::new("FILE").least(16).keeps_end(),
    Column::new("FIELD").least(12),
    Column::new("FOUND").least(12),
    Column::new("DECLARED").least(12),
    Column::new("REMEDY").least(16),
];

/// What a declaration would not say as it is, field by field.
pub fn differences_table(differences: &[Deviation], wide: bool) -> String {
    let rows: Vec<Vec<String>> = differences
        .iter()
        .map(|one| {
            vec![
                one.file.display().to_string(),
                one.field.clone(),
                one.found.clone(),
                one.declared.clone(),
                one.remedy.clone(),
            ]
        })
        .collect();
    output::table(&DIFFERENCES, &rows, wide)
}

/// The same for a JSON document.
pub fn differences_json(differences: &[Deviation]) -> Vec<serde_json::Value> {
    let one = |one: &Deviation| {
        serde_json::json!({
            "file": one.file,
            "field": one.field,
            "found": one.found,
            "declared": one.declared,
            "remedy": one.remedy,
        })
    };
    differences.iter().map(one).collect()
}
