//! `certkit deploy`.

use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use super::{
    Exit, Failure, Format, Global, completions, limit,
    output::{self, grid::Column},
    password,
    rotate::Restart,
    telling::NAMED,
    watch, when,
    words::{few, here},
};
use crate::{
    model::shown::tame_lines,
    ops::deploy::{self, HostOutcome, HostState, Transport},
};

/// Carry hosts' files to them over ssh, and have them take effect there, host after host
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct DeployArgs {
    /// The hosts, as certkit.yaml names them [default: all]
    #[arg(value_name = "HOST", value_delimiter = ',', add = completions::hosts())]
    hosts: Vec<String>,
    /// All hosts
    #[arg(long, conflicts_with_all = ["hosts", "changed"])]
    all: bool,
    /// Only hosts that have not what is here, or where something was left to be done, as far as was seen last
    #[arg(long)]
    changed: bool,
    /// Only compare: say what each host would get, and change nothing
    #[arg(long)]
    check: bool,
    /// Have these hosts make new keys, of those that they make themselves (`keys: host` in certkit.yaml), and issue
    /// certificates for them
    #[arg(long, conflicts_with_all = ["check", "from_hosts"])]
    new_keys: bool,
    /// Only fetch what is on hosts alone, certificates that kubelets made or got themselves, and say when they end
    #[arg(long)]
    from_hosts: bool,
    /// How many nodes at once; members of etcd and the control plane are always changed one at a time
    #[arg(long, value_name = "N", default_value_t = 10)]
    parallel: usize,
    /// How many nodes may fail before no further one is begun
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_failures: usize,
    /// What to run instead of `ssh`; the destination and the command to run there are added
    #[arg(long, value_name = "COMMAND")]
    ssh: Option<String>,
    /// Bring this certkit along where none, or one of another version, is installed
    #[arg(long)]
    carry: bool,
    /// Restart what takes a change up in no other way; several ways are tried in turn
    #[arg(long, value_name = "WAY", value_delimiter = ',', default_value = "none")]
    restart: Vec<Restart>,
    /// How long each host may take until what was well there is well again, and listeners serve what is new
    #[arg(long, value_name = "LIMIT", default_value = "2m", value_parser = limit)]
    wait: Duration,
    /// Also change a machine of another name and addresses than declared, and members of etcd while others are not well
    #[arg(long)]
    force: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
Each host gets what the catalogue puts on it, and nothing else: first it is asked what it has, then only what
differs is sent, through ssh's standard input, and `certkit receive` takes it in there in one transaction. No
private key is in an argument, an environment or a log, and none of one host reaches another.

Members of etcd come first, one at a time, each only while the others are enough for a quorum; then the rest of
the control plane, one at a time, each until its apiserver and the endpoint are as well as before; then nodes,
--parallel at once. Where one of the first fails nothing further is begun. A host that cannot be reached holds
nothing up. Run again, it goes on with what is left.

Where `keys: host` in certkit.yaml says that hosts make their own keys, those that have no certificate yet are first
asked for requests (`certkit receive --csr`), and what they ask for is issued: names and usages as declared, for
a key that never leaves its host.

ssh is called as `ssh HOST`, or with what `ssh:` in certkit.yaml says for the host (USER@HOST, ssh://HOST:PORT), and
does what its own configuration says. Who is not root there needs `sudo -n`.

EXIT CODES:
  0   every host has what is here
  1   with --check: a host differs, or has something to restart
  3   certkit could not do it; nothing was changed anywhere
  4   a host failed, could not be reached or was not tried; each is named
  64  the command line was wrong

EXAMPLES:
  certkit deploy --check
  certkit deploy --from-hosts
  certkit deploy --restart systemd
  certkit deploy worker-1,worker-2 --carry
  certkit deploy --new-keys worker-1
  certkit rotate-ca --next && certkit deploy --restart static-pods,systemd
  certkit deploy --ssh 'ssh -F ./ssh_config -i ./key' --changed";

/// How long a host may take for one thing that it is asked, beside what it waits to be well again: several times what
/// restarting all of a control plane takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the command.
pub fn run(args: &DeployArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let attended = std::io::stdin().is_terminal() && args.parallel <= 1;
    let patience = PATIENCE + args.wait.saturating_mul(4);
    let transport = Transport::new(args.ssh.as_deref(), attended, patience)
        .map_err(|error| Failure::usage(error.to_string()).hint(error.hint()))?;
    if args.parallel == 0 {
        return Err(Failure::usage("--parallel 0: no host would ever be begun"));
    }
    let passwords = password::passwords(global)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // The first asks for an end between two hosts; the second is as always.
        flag::register_conditional_default(signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    let restart: Vec<&str> = args.restart.iter().filter_map(|way| way.word()).collect();
    let request = deploy::Request {
        dir: &dir,
        hosts: &args.hosts,
        changed: args.changed,
        check: args.check || args.from_hosts,
        new_keys: args.new_keys,
        passwords: &passwords,
        transport: &transport,
        carry: args.carry,
        restart: &restart,
        wait: args.wait,
        force: args.force,
        parallel: args.parallel,
        max_failures: args.max_failures,
        now: when(None)?,
        stop: &stop,
    };
    let done = |outcome: &HostOutcome| {
        if !global.quiet && args.output != Format::Json && args.output != Format::Yaml {
            // Long before the last one is done the first may be of interest.
            let _ = writeln!(output::stderr(), "{}: {}", outcome.host, in_short(outcome));
        }
    };
    let report = watch::working(global, || deploy::run(&request, &done))?;
    report.warnings.iter().for_each(super::warn);
    for one in &report.hosts {
        let warnings = one.receipt.iter().flat_map(|receipt| &receipt.warnings);
        warnings.for_each(|warning| super::warn(format!("{}: {warning}", one.host)));
    }
    let check = args.check || args.from_hosts;
    let exit = exit(&report, args.check);
    if !report.issued.is_empty() {
        let count = report.issued.len();
        global.note(format!(
            "{count} certificates issued for keys that hosts made: {}",
            few(&report.issued, NAMED, ", ")
        ));
    }
    let text = match args.output {
        Format::Json | Format::Yaml => super::document(json(&report, check), args.output),
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide if args.from_hosts => Ok(own(&report, args.output.is_wide())),
        Format::Table | Format::Wide => Ok(table(&report, args)),
    };
    let changed = report.hosts.iter().any(|one| one.state == HostState::Deployed);
    let told = super::tell(changed, exit, text);
    complain(&report, &dir);
    if stop.load(Ordering::SeqCst) {
        super::warn("interrupted: hosts that were begun are done, no further one was begun");
    }
    told
}

fn exit(report: &deploy::Report, check: bool) -> Exit {
    let is = |state: HostState| report.hosts.iter().any(|one| one.state == state);
    if is(HostState::Failed) || is(HostState::Unreachable) || is(HostState::NotTried) {
        return Exit::Partly;
    }
    match check && is(HostState::Differs) {
        true => Exit::Warning,
        false => Exit::Done,
    }
}

/// What went wrong, each with what to do; the same for many hosts once.
fn complain(report: &deploy::Report, dir: &Path) {
    let mut hints: Vec<String> = Vec::new();
    for one in &report.hosts {
        let Some(fault) = &one.fault else { continue };
        let style = anstyle::AnsiColor::Red.on_default().bold();
        let _ = writeln!(
            output::stderr(),
            "{style}error:{style:#} {}: {}",
            one.host,
            tame_lines(&fault.message)
        );
        if let Some(hint) = &fault.hint
            && !hints.contains(hint)
        {
            hints.push(hint.clone());
        }
    }
    hints.iter().for_each(|hint| super::hint(here(hint, dir)));
}

fn in_short(outcome: &HostOutcome) -> String {
    let awaiting = outcome.receipt.as_ref().map(|receipt| receipt.awaiting.join(", "));
    let awaiting = awaiting.filter(|awaiting| !awaiting.is_empty());
    let waits = awaiting.map(|awaiting| format!("; to be restarted: {awaiting}"));
    format!("{}{}", outcome.state.name(), waits.unwrap_or_default())
}

const COLUMNS: [Column; 6] = [
    Column::new("HOST").least(12),
    Column::new("STATE"),
    Column::new("FILES").rank(2),
    Column::new("RESTARTED").least(12).rank(3),
    Column::new("TO RESTART").least(12).rank(1),
    Column::new("HEALTH").least(16).rank(4),
];

fn table(report: &deploy::Report, args: &DeployArgs) -> String {
    if report.hosts.is_empty() {
        return "every host has what is here, as it was last seen\n".to_owned();
    }
    let row = |one: &HostOutcome| {
        let mut row = vec![one.host.clone(), one.state.name().to_owned()];
        let Some(receipt) = &one.receipt else {
            row.extend(vec![String::new(); 4]);
            return row;
        };
        let restarted = receipt.uptake.iter().filter(|one| one.restarted.is_some());
        let restarted: Vec<&str> = restarted.map(|one| one.component.as_str()).collect();
        row.push(match receipt.differences.len() {
            0 => "-".to_owned(),
            count => count.to_string(),
        });
        row.push(or_dash(restarted.join(", ")));
        row.push(or_dash(receipt.awaiting.join(", ")));
        row.push(or_dash(receipt.health.join("; ")));
        row
    };
    let rows: Vec<Vec<String>> = report.hosts.iter().map(row).collect();
    let mut text = output::table(&COLUMNS, &rows, args.output.is_wide());
    let waits = report.hosts.iter().filter_map(|one| one.receipt.as_ref());
    if waits.into_iter().any(|receipt| !receipt.awaiting.is_empty()) && !args.check {
        text.push_str(
            "\nwhat is to be restarted runs with what it read before: restart it there, one host at a time, or run this \
             again with --restart systemd or --restart static-pods\n",
        );
    }
    text
}

/// The certificates that only hosts have, those that end first before all others.
fn own(report: &deploy::Report, wide: bool) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for one in &report.hosts {
        let all = one.receipt.iter().flat_map(|receipt| &receipt.own);
        rows.extend(all.map(|own| {
            vec![one.host.clone(), own.not_after.clone(), own.file.display().to_string()]
        }));
    }
    if rows.is_empty() {
        return "no host has certificates of its own\n".to_owned();
    }
    rows.sort_by(|one, other| one[1].cmp(&other[1]));
    let columns = [
        Column::new("HOST").least(12),
        Column::new("EXPIRES"),
        Column::new("FILE").least(24).keeps_end(),
    ];
    output::table(&columns, &rows, wide)
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn json(report: &deploy::Report, check: bool) -> String {
    let hosts: Vec<Value> = report
        .hosts
        .iter()
        .map(|one| {
            json!({
                "host": one.host,
                "state": one.state.name(),
                "receipt": one.receipt,
                "error": one.fault,
            })
        })
        .collect();
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "DeployReport",
        "check": check,
        "hosts": hosts,
        "warnings": report.warnings,
        "issued": report.issued,
    });
    format!("{document:#}\n")
}
