//! `certkit rotate-ca`.

mod cluster;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    Exit, Failure, Format, Global,
    changing::{BackupArgs, LockArgs, RehearsalArgs},
    completions,
    output::{self, grid::Column},
    password,
    rotate::report::{LIMIT, complain_of, complain_of_parts, components, failed, taken_up},
    rotate::{Restart, ways},
    telling::{self, NAMED, Telling, Wanted, Words},
    watch, when,
    words::few,
};
use crate::{
    model::{
        authority::Stage,
        catalogue::{ELSEWHERE, Elsewhere},
        cluster::HostName,
        duration::Span,
        plan::{Action, KeyChoice, Step},
    },
    ops::{
        change::{self, Report},
        rotate_ca::{self, Direction, Standing, Survey, cluster::Kubectl, split::TrustSetting},
        takeup,
    },
    tls::probe::Target,
};

/// Replace CAs, and the key that signs service-account tokens, one stage at a time while the cluster runs
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct RotateCaArgs {
    /// What to replace: ca, etcd-ca, front-proxy-ca, sa, root-ca, an addon's CA [default: all but a root]
    #[arg(value_name = "CA", add = completions::authorities())]
    names: Vec<String>,
    /// Go on to the next stage
    #[arg(long, conflicts_with_all = ["status", "undo", "to"])]
    next: bool,
    /// Only say how far it has come [default]
    #[arg(long, conflicts_with_all = ["undo", "to"])]
    status: bool,
    /// Go back to the stage before
    #[arg(long, conflicts_with = "to")]
    undo: bool,
    /// Give CAs a new term instead, with the key and the name they have: everything they signed goes on leading to them
    #[arg(long, conflicts_with_all = ["next", "status", "undo", "to"])]
    renew_same_key: bool,
    /// Have the old CA vouch for the new one too, and servers and clients send that, for verifiers that know nothing but
    /// the old one
    #[arg(long, conflicts_with_all = ["status", "undo", "renew_same_key"])]
    cross_sign: bool,
    /// The key has leaked: once another one issues, wait for nobody; what breaks is told, not refused
    #[arg(long, requires_all = ["names", "next"], conflicts_with_all = ["cross_sign", "renew_same_key", "undo", "to", "status"])]
    compromised: bool,
    /// Go to this stage, if it is the next one or the one before: shared, stable, introduced, switched
    #[arg(long, value_name = "STAGE")]
    to: Option<Stage>,
    /// Ask this listener what it serves and which CAs it accepts (can be repeated)
    #[arg(long, value_name = "HOST:PORT[,sni=NAME]")]
    connect: Vec<Target>,
    /// An audit log of the apiserver, in JSON: whoever used a certificate of the old CA stands against dropping
    /// it (can be repeated)
    #[arg(long, value_name = "FILE")]
    audit_log: Vec<PathBuf>,
    /// A certificate that no file here shows, as a kubelet's that it got itself, brought from where it is: whoever used it
    /// stands against dropping the old CA only if that signed it (can be repeated)
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// How long, by the audit log, nobody must have used the old CA
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    quiet_for: Span,
    /// Look, with this kubeconfig and kubectl, for what in the cluster holds a copy of a CA: what holds an old one alone
    /// is listed, and stands against going on. Nothing is changed there
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Bring up to date in the cluster what certkit may: caBundles, cluster-info; and delete
    /// extension-apiserver-authentication once the old CA is dropped
    #[arg(long, requires = "kubeconfig")]
    apply_cluster: bool,
    /// Go on whatever stands against it
    #[arg(long)]
    force: bool,
    /// Run this for each component that uses something changed (environment: CERTKIT_COMPONENT,
    /// CERTKIT_FILES, CERTKIT_HOST)
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
    /// Restart what takes a change up in no other way; several ways are tried in turn
    #[arg(long, value_name = "WAY", value_delimiter = ',', default_value = "none")]
    restart: Vec<Restart>,
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
A CA is replaced in three stages, each safe to stay in for weeks, each one transaction (of more than a thousand nodes
one for each thousand):

  stable      one generation; --next makes another one, and has everything trust both
  introduced  both are trusted, the old one issues; --next has the new one issue everything
  switched    both are trusted, the new one issues; --next has nothing trust the old one any more

Clusters of kubeadm's begin one stage earlier, `shared`: one file signs and is trusted. --next gives trust a file of
its own, and with --restart static-pods has the flags in manifests name it; what else must is listed.

The stage is read from the files (pki/ca-next.crt, pki/ca-previous.crt, pki/ca-bundle.crt), so that any run goes
on from where the last one came to. After each stage it is said what must read its files again before the next
one. Of service accounts the key is replaced likewise: tokens that the old key signed are valid until they end,
up to a year, so stay in `switched` for as long.

Where a run was cut short, or could not change a node, that stage comes to those nodes first, whatever is asked for
next, and nothing else is done.

EXIT CODES:
  0   done, or told
  3   something stands against it, or certkit could not do it; nothing was changed
  4   partly done: all is done, and could not be told; or a restart or hook failed; or a node could not be changed,
      and is named
  64  the command line was wrong

EXAMPLES:
  certkit rotate-ca
  certkit rotate-ca ca --next --dry-run
  certkit rotate-ca ca --next --connect 10.0.0.11:6443
  certkit rotate-ca ca --next --audit-log /var/log/kubernetes/audit.log --quiet-for 24h
  certkit rotate-ca --to stable --restart static-pods --dry-run
  certkit rotate-ca ca --next --cross-sign
  certkit rotate-ca ca --next --compromised --dry-run
  certkit rotate-ca ca --kubeconfig /etc/kubernetes/admin.conf
  certkit rotate-ca ca --next --kubeconfig /etc/kubernetes/admin.conf --apply-cluster
  certkit rotate-ca ca --undo
  certkit rotate-ca ca --renew-same-key
  certkit rotate-ca root-ca --next";

/// Runs the command.
pub fn run(args: &RotateCaArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let to = match (args.next, args.undo, args.to) {
        _ if args.renew_same_key => Direction::Renew,
        (true, ..) => Direction::Next,
        (_, true, _) => Direction::Undo,
        (.., Some(stage)) => Direction::To(stage),
        _ => {
            let standing = rotate_ca::status(&dir, &args.names)?;
            let apply = args.apply_cluster && !args.rehearsal.dry_run;
            let look = |kubeconfig: &PathBuf| {
                rotate_ca::survey(&dir, &args.names, &Kubectl { kubeconfig }, apply)
            };
            let found = args.kubeconfig.as_ref().map(look).transpose()?;
            let exit = cluster::complain(found.as_ref());
            let wide = args.output == Format::Wide;
            let text = match args.output {
                Format::Table | Format::Wide => Ok(status_table(&standing, wide)
                    + &found.as_ref().map(|found| cluster::table(found, wide)).unwrap_or_default()),
                format => super::document(status_json(&standing, found.as_ref()), format),
            };
            return super::tell(apply, exit, text);
        }
    };
    let passwords = password::passwords(global)?;
    let change = change::Request {
        dry_run: args.rehearsal.dry_run,
        lock_wait: args.lock.timeout,
        judgement: change::Judgement::RefusesMixed,
        pauses: matches!(to, Direction::Next | Direction::Undo),
        force: args.force,
        backups: args.kept.backups,
        ..change::Request::new(&dir, "rotate-ca", when(args.rehearsal.at)?, &passwords)
    };
    let request = rotate_ca::Request {
        names: &args.names,
        to,
        cross_signs: args.cross_sign,
        compromised: args.compromised,
        connect: &args.connect,
        audit_logs: &args.audit_log,
        certificates: &args.certificate,
        quiet_for: args.quiet_for,
        manifests: args.restart.contains(&Restart::StaticPods),
        kubeconfig: args.kubeconfig.as_deref(),
        apply_cluster: args.apply_cluster,
    };
    let wanted = Wanted::of(args.output, args.rehearsal.dry_run, global.verbose, LIMIT);
    let mut telling = Telling::new(WORDS, wanted, args.rehearsal.dry_run);
    // Who takes it up is restarted once signals do again what they always do; but of many parts each at once.
    let mut only = None;
    let rotate_ca::Done { shortfall, moved, settings, standing, found } = watch::changing(
        global,
        watch::ChangingWork {
            dir: &dir,
            dry_run: args.rehearsal.dry_run,
            hooks: args.hook.is_some(),
        },
        || {
            rotate_ca::run(&request, &change, |report, is_only| match is_only {
                true => only = Some(report),
                false => {
                    let outcomes = take_up(args, &dir, &report);
                    telling.add(report, outcomes);
                }
            })
        },
    )?;
    if let Some(report) = only {
        report.recovered.iter().for_each(|recovered| global.note(recovered));
        let outcomes = take_up(args, &dir, &report);
        telling.add(report, outcomes);
    } else {
        telling.recovered.iter().for_each(|recovered| global.note(recovered));
    }
    telling.shortfall = shortfall;
    telling.warnings.iter().for_each(super::warn);
    let besides = Besides { settings: &settings, found: found.as_ref() };
    let text = match args.output {
        Format::Json | Format::Yaml => {
            super::document(json(&telling, &standing, &moved, besides), args.output)
        }
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => {
            Ok(table(&telling, &standing, &moved, besides, args.output == Format::Wide))
        }
    };
    let failed =
        telling.outcomes.iter().any(takeup::Uptake::failed) || !telling.shortfall.failed.is_empty();
    let exit = if failed { Exit::Partly } else { cluster::complain(found.as_ref()) };
    let told = super::tell(!args.rehearsal.dry_run && telling.changes, exit, text);
    telling.settle();
    complain_of_parts(&telling.shortfall);
    complain_of(&telling.outcomes);
    told
}

/// Has a change taken up in the ways that are asked for.
fn take_up(args: &RotateCaArgs, dir: &Path, report: &Report) -> Vec<takeup::Uptake> {
    takeup::run(&takeup::Request {
        pairs: &rotate_ca::changed_pairs(report),
        hook: args.hook.as_deref(),
        restart: &ways(&args.restart),
        ..report.to_take_up(dir, &report.served)
    })
}

const STATUS: [Column; 6] = [
    Column::new("CA"),
    Column::new("STAGE"),
    Column::new("GENERATION").rank(1),
    Column::new("NAME").least(16),
    Column::new("EXPIRES").rank(2),
    Column::new("SHA-256").least(16).rank(3),
];

fn status_table(standing: &[Standing], wide: bool) -> String {
    let mut rows = Vec::new();
    for one in standing {
        for (number, generation) in one.generations.iter().enumerate() {
            let first = number == 0;
            rows.push(vec![
                if first { one.id.to_owned() } else { String::new() },
                if first { one.stage.to_string() } else { String::new() },
                generation.word.to_owned(),
                generation.name.clone(),
                generation.not_after.map(|end| end.to_kubeadm()).unwrap_or_default(),
                generation.fingerprint.chars().take(16).collect(),
            ]);
        }
        if one.generations.is_empty() {
            let (id, stage) = (one.id.to_owned(), one.stage.to_string());
            rows.push(vec![id, stage, "none".into(), String::new(), String::new(), String::new()]);
        }
    }
    let mut text = output::table(&STATUS, &rows, wide);
    let most = if wide { usize::MAX } else { LIMIT.1 };
    for one in standing.iter().filter(|one| !one.users.is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n{}: not signed by the generation that issues: {}",
            one.id,
            few(&one.users, most, ", ")
        );
    }
    for one in standing.iter().filter(|one| !one.behind.is_empty()) {
        let hosts: Vec<&str> = one.behind.iter().map(HostName::as_ref).collect();
        let _ = writeln!(
            text,
            "\n{}: this stage has not come to {}: with --next it comes, before any other",
            one.id,
            few(&hosts, NAMED, ", ")
        );
    }
    text
}

/// How far each has come, as documents say it.
pub fn standing_json(standing: &[Standing]) -> Vec<Value> {
    standing
        .iter()
        .map(|one| {
            let generations: Vec<Value> = one
                .generations
                .iter()
                .map(|generation| {
                    json!({
                        "generation": generation.word,
                        "name": generation.name,
                        "fingerprint": generation.fingerprint,
                        "notAfter": generation.not_after.map(|end| end.to_string()),
                    })
                })
                .collect();
            json!({
                "name": one.id,
                "stage": one.stage.name(),
                "generations": generations,
                "notSignedByActive": one.users,
                "behind": one.behind.iter().map(HostName::to_string).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn status_json(standing: &[Standing], found: Option<&Survey>) -> String {
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "RotateCaStatus",
        "cluster": cluster::document(found),
        "authorities": standing_json(standing),
    });
    format!("{document:#}\n")
}

const COPIES: [Column; 3] = [
    Column::new("CA"),
    Column::new("WHAT").least(24),
    Column::new("COMMAND").least(24).keeps_end(),
];

const SETTINGS: [Column; 4] = [
    Column::new("COMPONENT").least(12),
    Column::new("SETTING").least(16),
    Column::new("MUST BE").least(16).keeps_end(),
    Column::new("IN").least(12).rank(1).keeps_end(),
];

const STEPS: [Column; 5] = [
    Column::new("ACTION").rank(2),
    Column::new("NAME").least(16),
    Column::new("EXPIRES").rank(1),
    Column::new("KEY").rank(3),
    Column::new("FILES").least(12).rank(4).keeps_end(),
];

/// What else there is to tell.
#[derive(Clone, Copy)]
struct Besides<'a> {
    settings: &'a [TrustSetting],
    found: Option<&'a Survey>,
}

/// How it is to be told.
#[derive(Clone, Copy)]
struct View {
    dry_run: bool,
    wide: bool,
}

fn table(
    telling: &Telling,
    standing: &[Standing],
    moved: &[(&'static str, Stage)],
    Besides { settings, found }: Besides<'_>,
    wide: bool,
) -> String {
    let dry_run = telling.dry_run;
    let mut text = String::new();
    if telling.changes {
        text.push_str(if dry_run { "would be changed:\n\n" } else { "changed:\n\n" });
        text.push_str(&steps(telling, wide));
        text.push('\n');
    } else {
        text.push_str("nothing to do\n\n");
    }
    for note in &telling.notes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "note: {note}\n");
    }
    if let Some(backup) = &telling.backup {
        let _ = writeln!(text, "what was replaced is kept in {}", backup.display());
    }
    text.push_str(&settings_table(settings, View { dry_run, wide }));
    text.push_str(&taken_up(&telling.outcomes, wide));
    if telling.changes {
        text.push_str(&copies(moved, wide));
    }
    text.push_str(&found.map(|found| cluster::table(found, wide)).unwrap_or_default());
    if telling.changes && !dry_run {
        text.push('\n');
    }
    if !dry_run {
        text.push_str(&status_table(standing, wide));
    }
    text
}

/// What names the file from which a CA was trusted so far: what this run changes, and what is left to others.
fn settings_table(settings: &[TrustSetting], View { dry_run, wide }: View) -> String {
    let mut text = String::new();
    let part = |changed: bool| -> Vec<Vec<String>> {
        let those = settings.iter().filter(|setting| setting.is_changed == changed);
        those
            .map(|setting| {
                let of = match &setting.host {
                    Some(host) => format!("{} ({host})", setting.of),
                    None => setting.of.to_owned(),
                };
                let file = setting.file.as_ref().map(|file| file.display().to_string());
                let file = file.unwrap_or_else(|| "not seen here".into());
                vec![of, setting.name.clone(), setting.to.clone(), file]
            })
            .collect()
    };
    let changed = part(true);
    let left = part(false);
    // Writing to a String cannot fail.
    if !changed.is_empty() {
        let said = if dry_run { "would be changed" } else { "is changed" };
        let table = output::table(&SETTINGS, &changed, wide);
        let _ = writeln!(
            text,
            "\nwhat is trusted {said}, and the kubelet starts those pods anew:\n\n{table}"
        );
    }
    if !left.is_empty() {
        let table = output::table(&SETTINGS, &left, wide);
        let _ = writeln!(
            text,
            "\nwhat is trusted must be changed, wherever it is set, and taken up before the next stage:\n\n{table}"
        );
    }
    text
}

fn setting_json(setting: &TrustSetting) -> Value {
    json!({
        "name": setting.authority.name(),
        "of": setting.of,
        "host": setting.host,
        "file": setting.file,
        "setting": setting.name,
        "from": setting.from,
        "to": setting.to,
        "changed": setting.is_changed,
    })
}

fn row(report: &Report, step: &Step) -> Vec<String> {
    let issued = report.record_of(step);
    let files: Vec<String> = step.files.iter().map(|f| f.display().to_string()).collect();
    vec![
        verb(&step.action).to_owned(),
        step.label.clone(),
        issued.map(|r| r.not_after.to_kubeadm()).unwrap_or_default(),
        step.key()
            .map(|key| if key == KeyChoice::New { "new" } else { "kept" })
            .unwrap_or_default()
            .to_owned(),
        files.join(" "),
    ]
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::CrossSign(_) | Action::Issue(_) | Action::Request(_) => "issue",
        Action::GenerateKey { .. } | Action::GenerateKeyPair { .. } => "generate",
        Action::Amend(_) | Action::Bundle(_) | Action::PublicKeys(_) | Action::Resend(_) => {
            "update"
        }
        Action::Copy { .. } => "copy",
        Action::Remove => "remove",
        Action::Configure(_) | Action::Declare(_) | Action::Refer(_) => "write",
        Action::Give => "give",
        Action::Keep => "keep",
    }
}

/// How the steps of a change of trust are told.
pub const WORDS: Words = Words { row, data, tells_kept: |_| false };

/// What is changed, a row for each step.
pub fn steps(telling: &Telling, wide: bool) -> String {
    telling.rows.table(&STEPS, wide)
}

/// What else holds a copy of the CAs that have come to these stages; nothing where nothing does.
pub fn copies(moved: &[(&'static str, Stage)], wide: bool) -> String {
    let rows: Vec<Vec<String>> = elsewhere(moved)
        .map(|row| vec![row.authority.to_owned(), row.what.to_owned(), row.command.to_owned()])
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!(
            "\nwhat else holds a copy, which no file here shows:\n\n{}",
            output::table(&COPIES, &rows, wide)
        ),
    }
}

/// The same for a JSON document.
pub fn copies_json(moved: &[(&'static str, Stage)]) -> Vec<Value> {
    elsewhere(moved)
        .map(|row| json!({"name": row.authority, "what": row.what, "command": row.command}))
        .collect()
}

fn data(report: &Report, step: &Step) -> Value {
    telling::step(report, step, verb(&step.action))
}

/// What else holds a copy of what has changed, that files do not show.
fn elsewhere(moved: &[(&'static str, Stage)]) -> impl Iterator<Item = &'static Elsewhere> {
    ELSEWHERE.iter().filter(|row| {
        moved.iter().any(|(id, stage)| *id == row.authority && row.stages.contains(stage))
    })
}

/// The same as one JSON document.
fn json(
    telling: &Telling,
    standing: &[Standing],
    moved: &[(&'static str, Stage)],
    Besides { settings, found }: Besides<'_>,
) -> String {
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "RotateCaReport",
        "dryRun": telling.dry_run,
        "steps": telling.steps,
        "failed": failed(&telling.shortfall),
        "notes": telling.notes,
        "backup": telling.backup,
        "warnings": telling.warnings,
        "components": components(&telling.outcomes),
        "copies": copies_json(moved),
        "cluster": cluster::document(found),
        "settings": settings.iter().map(setting_json).collect::<Vec<_>>(),
        "authorities": standing_json(standing),
    });
    format!("{document:#}\n")
}
