//! `certkit rotate`.

pub(super) mod report;
mod rollback;

use std::{
    hash::{BuildHasher as _, Hasher as _},
    io::IsTerminal as _,
    path::PathBuf,
    time::Duration,
};

use clap::ValueEnum;

use super::{
    Exit, Failure, Format, Global,
    changing::{BackupArgs, LockArgs, RehearsalArgs},
    completions, limit, password,
    telling::{Telling, Wanted},
    watch, when,
};
use crate::{
    model::{duration::Threshold, plan::KeyChoice},
    ops::{change, password::Passwords, renew, rotate, settled::Settled, takeup},
};

/// Renew certificates: those that end soon, those that are no longer what certkit.yaml says, or those named
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct RotateArgs {
    /// Certificates to renew, by name (apiserver, admin.conf, ...) or file [default: all that are due]
    #[arg(value_name = "CERTIFICATE", value_delimiter = ',', add = completions::certificates())]
    names: Vec<String>,
    /// Renew every certificate, whatever the time
    #[arg(long, conflicts_with_all = ["names", "within"])]
    all: bool,
    /// How long before its end a certificate is due: a duration, or a share of its life such as 33%
    /// [default: 30d, or a third of its life where that is less]
    #[arg(long, value_name = "THRESHOLD")]
    within: Option<Threshold>,
    /// Give new certificates new keys, those too whose key is kept so that no handshake fails
    #[arg(long, conflicts_with = "reuse_key")]
    new_key: bool,
    /// Keep all keys
    #[arg(long)]
    reuse_key: bool,
    /// Run this for each component that uses something changed (environment: CERTKIT_COMPONENT,
    /// CERTKIT_FILES, CERTKIT_HOST)
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
    /// Restart what takes a change up in no other way; several ways are tried in turn
    #[arg(long, value_name = "WAY", value_delimiter = ',', default_value = "none")]
    restart: Vec<Restart>,
    /// Ask each listener on this machine until it serves the new certificate; where none answers nothing
    /// is proven, and the exit code is 4 [default limit: 2m]
    #[arg(long, value_name = "LIMIT", num_args = 0..=1, default_missing_value = "2m")]
    #[arg(value_parser = limit)]
    wait: Option<Duration>,
    #[command(flatten)]
    lock: LockArgs,
    /// When something is due, wait a random while first, at most this long
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    jitter: Option<Duration>,
    #[command(flatten)]
    kept: BackupArgs,
    /// Also do what breaks a path of the cluster that works now; with --ca, also renew what another CA signed; with
    /// --rollback, also bring back what has expired, take away CAs, and undo what something else has changed since
    #[arg(long)]
    force: bool,
    /// Renew certificates of a tree that certkit has no layout for (k3s, hand-made): each CERTIFICATE is a file,
    /// and this is the certificate of the CA that signed it
    #[arg(long, value_name = "FILE", requires = "names")]
    #[arg(conflicts_with_all = ["csr_only", "wait", "restart", "rollback"])]
    ca: Option<PathBuf>,
    /// With --ca: the CA's key [default: in its file or beside it, as NAME.key or NAME-key.pem]
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_key: Option<PathBuf>,
    /// With --ca and one file: its key [default: in the file or beside it, as NAME.key or NAME-key.pem]
    #[arg(long, value_name = "FILE", requires = "ca")]
    key: Option<PathBuf>,
    /// Write certificate requests to DIR/csr instead, to be signed elsewhere and taken in by
    /// `certkit import`
    #[arg(long)]
    csr_only: bool,
    /// Undo the last change, as a change of its own: what it replaced comes back, what it made goes
    #[arg(long, conflicts_with_all = ["names", "all", "within", "new_key", "reuse_key", "csr_only"])]
    rollback: bool,
    /// With --rollback: show what can be undone, the last change first, and change nothing
    #[arg(long, requires = "rollback", conflicts_with = "to")]
    list: bool,
    /// With --rollback: undo this change and all that came after it, so that everything is as it was before
    #[arg(long, requires = "rollback", value_name = "ID")]
    to: Option<String>,
    #[command(flatten)]
    rehearsal: RehearsalArgs,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// What restarts components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Restart {
    /// Nothing: only say what is needed
    None,
    /// systemctl try-restart UNIT
    Systemd,
    /// An annotation in DIR/manifests, upon which the kubelet makes the pod anew
    StaticPods,
}

impl Restart {
    /// Its name on the command line; none for what restarts nothing.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Systemd => Some("systemd"),
            Self::StaticPods => Some("static-pods"),
        }
    }
}

/// The ways to restart components.
pub fn ways(restart: &[Restart]) -> Vec<takeup::How> {
    let ways = restart.iter().filter_map(|way| match way {
        Restart::None => None,
        Restart::Systemd => Some(takeup::How::Systemd),
        Restart::StaticPods => Some(takeup::How::StaticPods),
    });
    ways.collect()
}

const HELP: &str = "\
Everything that is due is renewed in one transaction, or nothing is. What a listener reads anew at every
handshake (etcd) keeps its key, so that no handshake fails; all else gets a new key. Then it is said which
component took the change up by itself and which must be restarted. Where DIR has no certkit.yaml, new
certificates say exactly what those in place say. With nothing due nothing is printed and nothing on disk
changes, so this can run from cron or a timer.

With --ca the certificates named are files of any tree: PEM files, or kubeconfigs that embed a credential.
What they say, their length of life and all else in their files stays; a key that is in a file of its own is
kept unless --new-key says otherwise, as nobody knows who reads it when. Lock, log and backups are in
--dir where that is given, in /etc/kubernetes (CERTKIT_DIR) for files below it, else in the folder that
holds all the files, or the one above it with certkit.yaml: `.certkit` in it. Nothing is checked but that this CA signed them: restart what uses them, or have
--hook do it.

--rollback undoes one change, the last, whatever command made it; run again, it undoes that. --rollback --to ID goes
back to the state before the change ID, as --rollback --list names it. What has expired (or whose CA has) is not brought
back, no CA taken away, no path broken that works, and no file touched that something else has changed since, unless
--force is said: each is named. Of many nodes it is undone part by part, and gone on with where that was cut short. A
damaged backup stands in its own way alone: what it holds stays as it is, is named, and the exit code is 4.

EXIT CODES:
  0   renewed, or nothing was due
  1   something is due that cannot be renewed here: its CA's key is elsewhere, or it ends with its CA
  2   the same, and it has expired
  3   certkit could not do it; nothing was changed
  4   partly done: a certificate, restart, hook or listener that failed, or what would have broken a path
      that works now, is named; all else is done; or all is done, and could not be told
  64  the command line was wrong, or no change has the ID

EXAMPLES:
  certkit rotate --dry-run
  certkit rotate --within 33% --restart systemd --wait
  certkit rotate apiserver --hook 'logger renewed for $CERTKIT_COMPONENT'
  certkit rotate --all --restart static-pods,systemd
  certkit rotate /srv/tls/server.crt --ca /srv/tls/ca.crt --ca-key /mnt/usb/ca.key
  cd /var/lib/rancher/k3s/server/tls &&
    certkit rotate client-admin.crt client-scheduler.crt --ca client-ca.crt --dry-run
  certkit rotate --rollback
  certkit rotate --rollback --list
  certkit rotate --rollback --to 20271121T171100Z-3 --dry-run";

/// Runs the command.
pub fn run(args: &RotateArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    if args.rollback {
        return rollback::run(args, global, &dir);
    }
    let passwords = password::passwords(global)?;
    if let Some(ca) = &args.ca {
        return renew_files(args, global, ca, &passwords);
    }
    let now = when(args.rehearsal.at)?;
    let settled = match args.is_plain() && !global.verbose {
        true => Settled::look(&dir, "rotate", now),
        false => None,
    };
    if let Some(next) = settled.as_ref().and_then(Settled::known) {
        let mut telling = telling(args, global);
        telling.next = next;
        return told(args, global, &dir, &telling);
    }
    let change = change::Request {
        dry_run: args.rehearsal.dry_run,
        lock_wait: args.lock.timeout,
        judgement: change::Judgement::Withholds,
        jitter: jitter(args.jitter),
        force: args.force,
        backups: args.kept.backups,
        ..change::Request::new(&dir, "rotate", now, &passwords)
    };
    let request = rotate::Request {
        names: &args.names,
        all: args.all,
        within: args.within,
        key: args.choice(),
        csr_only: args.csr_only,
    };
    let mut telling = telling(args, global);
    // Who takes it up is restarted once signals do again what they always do; but of many parts each at once.
    let mut only = None;
    let shortfall = watch::changing(
        global,
        watch::ChangingWork {
            dir: &dir,
            dry_run: args.rehearsal.dry_run,
            hooks: args.hook.is_some(),
        },
        || {
            rotate::run(&request, &change, |report, is_only| match is_only {
                true => only = Some(report),
                false => {
                    let outcomes = take_up(args, &dir, &report);
                    telling.add(report, outcomes);
                }
            })
        },
    )?;
    if let Some(report) = only {
        note_recovered(report.recovered.as_ref(), global);
        let outcomes = take_up(args, &dir, &report);
        telling.add(report, outcomes);
    } else {
        note_recovered(telling.recovered.as_ref(), global);
    }
    telling.shortfall = shortfall;
    if let (Some(settled), Some(until)) = (settled, telling.is_settled_until()) {
        settled.keep(until, telling.next.as_ref());
    }
    told(args, global, &dir, &telling)
}

/// What is told, and of what nothing is known yet.
fn telling(args: &RotateArgs, global: &Global) -> Telling {
    let wanted = Wanted::of(args.output, args.rehearsal.dry_run, global.verbose, report::LIMIT);
    Telling::new(report::WORDS, wanted, args.rehearsal.dry_run)
}

/// Says what an earlier run had left.
fn note_recovered(recovered: Option<&String>, global: &Global) {
    if let Some(recovered) = recovered {
        global.note(recovered);
    }
}

/// Tells what was done, or would be.
fn told(
    args: &RotateArgs,
    global: &Global,
    dir: &std::path::Path,
    telling: &Telling,
) -> Result<Exit, Failure> {
    let exit = exit(args, telling);
    let talk = std::io::stdout().is_terminal() || global.verbose;
    let text = match args.output {
        Format::Json | Format::Yaml => super::document(report::json(telling, exit), args.output),
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => {
            let view = report::RotateTelling {
                talk,
                verbose: global.verbose,
                wide: args.output.is_wide(),
            };
            Ok(report::table(telling, dir, view))
        }
    };
    let told = super::tell(!args.rehearsal.dry_run && telling.changes, exit, text);
    telling.warnings.iter().for_each(super::warn);
    report::complain(telling, dir);
    telling.settle();
    told
}

impl RotateArgs {
    /// Whether it asks for what is due, and nothing else.
    fn is_plain(&self) -> bool {
        self.names.is_empty()
            && !self.all
            && self.within.is_none()
            && self.choice().is_none()
            && !self.csr_only
            && !self.rehearsal.dry_run
            && self.output == Format::Table
    }

    /// Which key was asked for.
    fn choice(&self) -> Option<KeyChoice> {
        match (self.new_key, self.reuse_key) {
            (true, _) => Some(KeyChoice::New),
            (_, true) => Some(KeyChoice::Existing),
            _ => None,
        }
    }
}

/// Renews files that certkit has no layout for.
fn renew_files(
    args: &RotateArgs,
    global: &Global,
    ca: &std::path::Path,
    passwords: &Passwords,
) -> Result<Exit, Failure> {
    if args.key.is_some() && args.names.len() > 1 {
        let why = "--key is the key of one certificate, and several are named";
        return Err(Failure::usage(why).hint(Some("name one file at a time")));
    }
    let usual = super::absolute(&global.dir)?;
    let request = renew::Request {
        files: &args.names,
        ca,
        ca_key: args.ca_key.as_deref(),
        key: args.key.as_deref(),
        dir: global.dir_is_said.then_some(usual.as_path()),
        usual: &usual,
        within: args.within,
        choice: args.choice(),
        force: args.force,
        dry_run: args.rehearsal.dry_run,
        now: when(args.rehearsal.at)?,
        lock_wait: args.lock.timeout,
        jitter: jitter(args.jitter),
        backups: args.kept.backups,
        passwords,
    };
    let dir = renew::directory(&request)?;
    let watched = watch::ChangingWork {
        dir: &dir,
        dry_run: args.rehearsal.dry_run,
        hooks: args.hook.is_some(),
    };
    let done = watch::changing(global, watched, || renew::run(&request))?;
    let report = done.report;
    note_recovered(report.recovered.as_ref(), global);
    let certificates = report.issued.iter().map(|record| record.label.clone()).collect();
    let hook = args.hook.as_deref();
    let outcomes = takeup::of_files(&done.dir, certificates, done.changed.clone(), hook);
    let mut telling = telling(args, global);
    telling.add(report, outcomes);
    told(args, global, &done.dir, &telling)
}

fn take_up(
    args: &RotateArgs,
    dir: &std::path::Path,
    report: &change::Report,
) -> Vec<takeup::Uptake> {
    take_up_as(args, report.to_take_up(dir, &report.served))
}

/// Has it taken up in the ways that are asked for.
fn take_up_as(args: &RotateArgs, changed: takeup::Request<'_>) -> Vec<takeup::Uptake> {
    let ways = ways(&args.restart);
    takeup::run(&takeup::Request {
        hook: args.hook.as_deref(),
        restart: &ways,
        wait: args.wait,
        ..changed
    })
}

/// What was due and not renewed is an error where nothing was renewed, and a part of the work where something
/// was; that a CA's key is elsewhere is a finding.
fn exit(args: &RotateArgs, telling: &Telling) -> Exit {
    use crate::model::plan::obstacle::Obstacle;
    let is_external = |b: &&crate::model::plan::obstacle::Blocked| {
        matches!(b.obstacle, Obstacle::External { .. } | Obstacle::Sealed { .. })
            && args.names.is_empty()
            || matches!(b.obstacle, Obstacle::AuthorityEnds { .. })
    };
    let (blocked, outcomes) = (&telling.blocked, &telling.outcomes);
    let left_alone =
        |b: &&crate::model::plan::obstacle::Blocked| matches!(b.obstacle, Obstacle::Foreign { .. });
    let failed = blocked.iter().any(|b| !is_external(&b) && !left_alone(&b));
    let changed = telling.changes;
    let findings = blocked.iter().filter(|b| is_external(b) || left_alone(b));
    if failed && !changed {
        return Exit::Failed;
    }
    let unproven = takeup::is_unproven(outcomes);
    let failed = failed || !telling.shortfall.failed.is_empty();
    if failed || unproven || outcomes.iter().any(takeup::Uptake::failed) {
        return Exit::Partly;
    }
    match findings.map(|b| b.expired).max() {
        None => Exit::Done,
        Some(false) => Exit::Warning,
        Some(true) => Exit::Critical,
    }
}

/// A random while, at most as long as asked. The hasher's keys are random for each process.
fn jitter(limit: Option<Duration>) -> Duration {
    let limit = limit.unwrap_or_default();
    let random = std::hash::RandomState::new().build_hasher().finish();
    limit.mul_f64(random as f64 / u64::MAX as f64)
}
