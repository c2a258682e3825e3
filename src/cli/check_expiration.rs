//! `certkit check-expiration`

use std::{io::Write, path::PathBuf, time::Duration};

use clap::ValueEnum;
use zeroize::Zeroizing;

use super::{
    Exit, Failure, Global, completions, limit,
    output::{
        self,
        expiry::{Context, ExpiryFormat, Rendered, Sink, Summary},
    },
    watch, when,
};
use crate::{
    model::{
        check::expiry::{Level, Row, Thresholds, judge},
        duration::Threshold,
        observed::Piece,
        timestamp::Timestamp,
    },
    ops::{
        expiry::{self, Connect, Request},
        machine, read, session,
    },
    parallel, store,
    tls::probe::Target,
};

/// Say how long certificates still last
///
/// Without PATH: every certificate that the catalogue knows under DIR, the kubelet's own, and those of every
/// host of a workspace. With PATH: any files and folders. It needs no certkit.yaml.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct CheckExpirationArgs {
    /// Files and folders: PEM, DER, PKCS#7, PKCS#12, JKS, kubeconfigs, Kubernetes' objects as YAML or JSON; - for
    /// standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Walk folders all the way down
    #[arg(short, long)]
    recursive: bool,
    /// From when on it is a warning: a duration before the end, or a share of the life such as 20%
    #[arg(long, value_name = "THRESHOLD", default_value = "30d")]
    warn: Threshold,
    /// From when on it is critical
    #[arg(long, value_name = "THRESHOLD", default_value = "7d")]
    critical: Threshold,
    /// Read what this listener really serves; repeat for more. Without a value: every listener this host
    /// should have
    #[arg(long, value_name = "HOST:PORT[,sni=NAME]", num_args = 0..=1, default_missing_value = "")]
    #[arg(value_parser = connect)]
    connect: Vec<Option<Target>>,
    /// How long a listener may take to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = limit)]
    timeout: Duration,
    /// Of a workspace's hosts only this one
    #[arg(long, value_name = "NAME", add = completions::hosts())]
    host: Option<String>,
    /// A file whose first line is a password of key stores (PKCS#12, JKS); repeat for several
    /// [env: CERTKIT_PASSWORD, the password itself]
    #[arg(long, value_name = "FILE")]
    password_file: Vec<PathBuf>,
    /// Where the kubelet keeps its own certificates [default: /var/lib/kubelet/pki beside /etc/kubernetes]
    #[arg(long, value_name = "PATH", env = "CERTKIT_KUBELET_DIR")]
    kubelet_dir: Option<PathBuf>,
    /// This machine's name: the label `host` of metrics, and its host in a workspace [default: the host name]
    #[arg(long, value_name = "NAME", env = "CERTKIT_MACHINE")]
    machine: Option<String>,
    /// How to print [default: table]
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<OutputFormat>,
    /// Write metrics to this file as well, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
    /// Draw the timeline in plain ASCII
    #[arg(long)]
    ascii: bool,
    /// Judge as of this RFC 3339 time instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum OutputFormat {
    /// kubeadm's columns and a status, as far as the terminal is wide enough
    Table,
    /// All of these and path, user, key, serial, fingerprint and names
    Wide,
    /// One document, as kubeadm's and more; docs/output.md
    Json,
    /// The same as YAML
    Yaml,
    /// Metrics for node_exporter's textfile collector
    Prometheus,
    /// One line with performance data, for monitoring plugins
    Nagios,
    /// A bar for each certificate
    Timeline,
}

const HELP: &str = "\
A file that cannot be read is a row with status UNKNOWN, and so is a folder in which no certificate was found.
In folders, files that must hold certificates by their name (.crt .cer .pem .p7b .p12 .jks .kubeconfig ...) or that
begin as one must be readable; others that hold none are passed over and counted. With -q only rows that need
attention are printed, of more than 25 the worst under a summary (-o wide: all), and nothing if there are none.

EXIT CODES:
  0   nothing ends soon
  1   something ends within --warn, or a listener serves another certificate than the one on disk
  2   something ends within --critical, has ended, is not yet valid, or is missing
  3   something cannot be known: a file cannot be read, nothing was found, a listener does not answer
  64  the command line was wrong

EXAMPLES:
  certkit check-expiration
  certkit check-expiration --warn 20% --critical 10% -o json
  certkit check-expiration --connect
  certkit check-expiration --connect api.example.com:6443 --connect '[fd00::1]:2379,sni=etcd'
  certkit check-expiration -r /etc/ssl/private ~/.kube/config
  certkit check-expiration --password-file /etc/certkit/store-password /etc/ssl/keystore.p12
  kubectl get secret,configmap -A -o yaml | certkit check-expiration -
  certkit check-expiration -q --textfile /var/lib/node_exporter/textfile_collector/certkit.prom";

fn connect(text: &str) -> Result<Option<Target>, crate::tls::probe::TargetError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// Runs the command.
pub fn run(args: &CheckExpirationArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    in_order(args.warn, args.critical, "check-expiration")?;
    let format = match (args.output, &args.textfile) {
        // The metrics are in the file.
        (Some(OutputFormat::Prometheus), Some(_)) => None,
        (format, _) => Some(format.unwrap_or(OutputFormat::Table)),
    };
    let machine = args.machine.clone().unwrap_or_else(machine::name);
    let context = Context {
        now: when(args.at)?,
        thresholds: Thresholds { warn: args.warn, critical: args.critical },
        machine: machine.clone(),
        color: output::is_colored(),
        ascii: args.ascii,
        quiet: global.quiet,
        width: output::width(),
        limit: output::limit(),
    };
    let mut reports = Reports::new(format, args.textfile.is_some(), &context);
    let request = Request {
        dir: &dir,
        host: args.host.as_deref(),
        kubelet_dir: args.kubelet_dir.as_deref(),
        paths: &args.paths,
        recursive: args.recursive,
        connect: wanted(&args.connect),
        timeout: args.timeout.max(Duration::from_secs(1)),
        details: !matches!(format, Some(OutputFormat::Table | OutputFormat::Timeline))
            || args.textfile.is_some(),
        threads: parallel::processors(),
        machine: &machine,
        now: context.now,
        passwords: &passwords(&args.password_file)?,
    };
    let formats = reports.formats;
    let render = |row: Row| {
        let verdict = judge(&row, context.now, &context.thresholds);
        let level = verdict.status.level();
        (level, formats.map(|f| f.map(|f| f.render(&row, &verdict, &context))))
    };
    if let Some(unfinished) = session::unfinished(&dir).filter(|_| args.paths.is_empty()) {
        global.note(unfinished);
    }
    reports.summary.files = watch::working(global, || {
        expiry::run(&request, render, |batch| {
            batch.into_iter().try_for_each(|(level, rendered)| reports.add(level, rendered))
        })
    })?;
    let summary = reports.end()?;
    if let Some(path) = &args.textfile {
        store::write_atomically(path, &reports.textfile, 0o644)?;
    }
    Ok(match summary.worst() {
        Level::Ok => Exit::Done,
        Level::Warning => Exit::Warning,
        Level::Critical => Exit::Critical,
        Level::Unknown => Exit::Failed,
    })
}

/// What is critical was a warning before.
pub fn in_order(warn: Threshold, critical: Threshold, command: &str) -> Result<(), Failure> {
    let wrong = match (warn, critical) {
        (Threshold::Before(warn), Threshold::Before(critical)) => warn < critical,
        (Threshold::Share(warn), Threshold::Share(critical)) => warn < critical,
        // A duration and a share compare by each certificate's life.
        _ => false,
    };
    match wrong {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "--warn {warn} begins after --critical {critical}: there would be no warning"
        ))
        .hint(Some(format!("certkit {command} --warn {critical} --critical {warn}")))),
    }
}

/// The variable that holds a password itself.
const PASSWORD: &str = "CERTKIT_PASSWORD";

/// The passwords of key stores: from files and the environment, never from the command line, which everybody
/// on the machine can read.
pub fn passwords(files: &[PathBuf]) -> Result<Vec<Zeroizing<String>>, Failure> {
    let mut passwords = Vec::new();
    for path in files {
        let failed = |why: &str| {
            Failure::new(format!("--password-file {}: {why}", path.display()))
                .hint(Some("its first line is to be the password"))
        };
        let content = match read::file(path) {
            Piece::Present(content) => content,
            // The password of a store may be empty.
            Piece::Bad(why) if why == "is empty" => Zeroizing::default(),
            Piece::Bad(why) => return Err(failed(&why)),
            Piece::Missing => return Err(failed("does not exist")),
        };
        let text = str::from_utf8(&content).map_err(|_| failed("is not UTF-8"))?;
        passwords.push(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
    }
    match std::env::var(PASSWORD) {
        Ok(password) => passwords.push(Zeroizing::new(password)),
        Err(std::env::VarError::NotPresent) => {}
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(Failure::usage(format!("{PASSWORD}: is not UTF-8")));
        }
    }
    Ok(passwords)
}

fn wanted(connect: &[Option<Target>]) -> Connect {
    match connect {
        [] => Connect::None,
        all if all.iter().any(Option::is_none) => Connect::Expected,
        all => Connect::Targets(all.iter().flatten().cloned().collect()),
    }
}

/// The report on standard output and the one for the text file.
struct Reports {
    formats: [Option<ExpiryFormat>; 2],
    sinks: [Option<Box<dyn Sink>>; 2],
    stdout: Box<dyn Write>,
    textfile: Vec<u8>,
    summary: Summary,
}

impl Reports {
    fn new(format: Option<OutputFormat>, textfile: bool, context: &Context) -> Self {
        let format = format.map(|format| match format {
            OutputFormat::Table => ExpiryFormat::Table { wide: false },
            OutputFormat::Wide => ExpiryFormat::Table { wide: true },
            OutputFormat::Json => ExpiryFormat::Json,
            OutputFormat::Yaml => ExpiryFormat::Yaml,
            OutputFormat::Prometheus => ExpiryFormat::Prometheus,
            OutputFormat::Nagios => ExpiryFormat::Nagios,
            OutputFormat::Timeline => ExpiryFormat::Timeline,
        });
        let formats = [format, textfile.then_some(ExpiryFormat::Prometheus)];
        Self {
            formats,
            sinks: formats.map(|format| format.map(|format| format.sink(context))),
            stdout: output::held_stdout(),
            textfile: Vec::new(),
            summary: Summary::default(),
        }
    }

    fn add(&mut self, level: Level, rendered: [Option<Rendered>; 2]) -> std::io::Result<()> {
        self.summary.count(level);
        let outs: [&mut dyn Write; 2] = [&mut self.stdout, &mut self.textfile];
        for ((sink, out), rendered) in self.sinks.iter_mut().zip(outs).zip(rendered) {
            if let (Some(sink), Some(rendered)) = (sink, rendered) {
                sink.add(out, rendered)?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<Summary> {
        let outs: [&mut dyn Write; 2] = [&mut self.stdout, &mut self.textfile];
        for (sink, out) in self.sinks.iter_mut().zip(outs) {
            if let Some(sink) = sink {
                sink.end(out, &self.summary)?;
            }
        }
        self.stdout.flush()?;
        Ok(self.summary)
    }
}
