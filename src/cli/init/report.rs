//! What `certkit init` prints.

use std::{fmt::Write as _, path::Path};

use crate::{
    cli::{
        output::{self, grid::Column},
        rotate::report::{components, taken_up},
        words::{here, once, quoted},
    },
    model::{
        adopt::Deviation,
        catalogue::roles,
        plan::{Action, Plan, Reason, Step},
    },
    ops::{change, takeup::Uptake},
};

/// How it is to be told.
#[derive(Clone, Copy, Debug)]
pub struct InitTelling {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Tell too what stays as it is.
    pub verbose: bool,
    /// Leave nothing out for want of room.
    pub wide: bool,
}

const COLUMNS: [Column; 5] = [
    Column::new("ACTION").rank(3),
    Column::new("NAME").least(16),
    Column::new("EXPIRES").rank(1),
    Column::new("FILES").least(12).rank(2).keeps_end(),
    Column::new("REASON").least(24).rank(4),
];

/// The report for people: what was made, then what to do next.
pub fn table(
    report: &change::Report,
    outcomes: &[Uptake],
    dir: &Path,
    view: InitTelling,
) -> String {
    let InitTelling { dry_run, verbose, wide } = view;
    let mut text = String::new();
    let plan = &report.plan;
    let shown = |step: &&Step| verbose || step.action != Action::Keep;
    let rows: Vec<Vec<String>> = plan
        .steps
        .iter()
        .filter(shown)
        .map(|step| {
            let files: Vec<String> = step.files.iter().map(|f| f.display().to_string()).collect();
            let end = report.record_of(step);
            vec![
                verb(&step.action).to_owned(),
                step.label.clone(),
                end.map(|r| r.not_after.to_kubeadm()).unwrap_or_default(),
                files.join(" "),
                step.reason.to_string(),
            ]
        })
        .collect();
    // Writing to a String cannot fail.
    if rows.is_empty() {
        let _ = writeln!(text, "{}: complete, nothing to do", dir.display());
    } else {
        let heading = if dry_run { "would be made in" } else { "made in" };
        let _ = writeln!(text, "{heading} {}:\n", dir.display());
        text.push_str(&output::table(&COLUMNS, &rows, wide));
    }
    for (label, end) in &report.clamped {
        let _ = writeln!(text, "\n{label} ends with its CA, {end}, earlier than declared");
    }
    for note in once(&plan.notes) {
        let _ = writeln!(text, "\nnote: {}", here(&note, dir));
    }
    if let Some(backup) = &report.aftermath.backup {
        let _ = writeln!(text, "\nwhat was replaced is kept in {}", backup.display());
    }
    text.push_str(&taken_up(outcomes, wide));
    let waits = waiting(plan, dir, &mut text);
    // Nothing can be started as long as certificates are missing.
    if !dry_run && !plan.is_empty() && !waits {
        next(report, dir, &mut text);
    }
    text
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
fn waiting(plan: &Plan, dir: &Path, text: &mut String) -> bool {
    let requests: Vec<_> = plan
        .steps
        .iter()
        .filter(|s| matches!(s.action, Action::Request(_)) || s.reason == Reason::Waiting)
        .collect();
    if requests.is_empty() {
        return false;
    }
    let _ = writeln!(text, "\nwaiting for signatures from elsewhere:");
    for step in requests {
        let file = step.files.first().map(|f| f.display().to_string()).unwrap_or_default();
        let _ = writeln!(text, "  {file}  ({})", step.label);
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

/// Hosts whose command is told; of more only the first one's.
const TOLD: usize = 5;

/// What to do now. Flags come from the same catalogue, so they fit.
fn next(report: &change::Report, dir: &Path, text: &mut String) {
    // Where it was made before, it may be offline by now.
    let is_root = |step: &Step| step.label == roles::ROOT.id.name() && step.action != Action::Keep;
    let root = report.cluster.single_root && report.plan.steps.iter().any(is_root);
    let dir = quoted(&dir.display().to_string());
    let _ = writeln!(text, "\nnext:");
    let hosts = &report.cluster.hosts;
    if report.cluster.workspace {
        let told = if hosts.len() > TOLD { 1 } else { hosts.len() };
        for host in &hosts[..told] {
            let _ = writeln!(
                text,
                "  certkit --dir {dir} export {0} | ssh {0} tar -x -C /etc/kubernetes",
                host.name
            );
        }
        if told < hosts.len() {
            let _ = writeln!(text, "  the same for the other {} hosts", hosts.len() - told);
        }
    }
    let host = match hosts.first().filter(|_| report.cluster.workspace) {
        Some(host) => format!(" --host {}", host.name),
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

/// The report for programs.
pub fn json(report: &change::Report, outcomes: &[Uptake], dry_run: bool) -> String {
    let steps: Vec<_> = report
        .plan
        .steps
        .iter()
        .map(|step| {
            let issued = report.record_of(step);
            serde_json::json!({
                "action": verb(&step.action),
                "name": step.label,
                "files": step.files,
                "reason": step.reason.to_string(),
                "notAfter": issued.map(|r| r.not_after.to_string()),
                "fingerprint": issued.map(|r| r.fingerprint.clone()),
            })
        })
        .collect();
    let document = serde_json::json!({
        "apiVersion": "certkit/v1",
        "kind": "InitReport",
        "dryRun": dry_run,
        "steps": steps,
        "notes": report.plan.notes,
        "backup": report.aftermath.backup,
        "warnings": report.aftermath.warnings,
        "components": components(outcomes),
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
