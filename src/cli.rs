//! The command line: arguments in, requests to `ops`, reports out.
//!
//! Each command is a file below with three parts: its arguments (clap), a function that turns them into
//! a request, and the printing of what came back. Nothing is decided here.

mod changing;
mod check_expiration;
mod completions;
#[cfg(feature = "cluster")]
mod controller;
#[cfg(feature = "cluster")]
mod csr;
mod deploy;
mod export;
mod failure;
mod flags;
mod fleet;
mod import;
mod init;
mod kubeconfig;
mod limit;
mod man;
mod nodes;
pub mod output;
mod password;
mod paths;
mod prune;
mod receive;
mod recover;
mod report;
mod rotate;
mod rotate_ca;
mod show;
mod status;
mod telling;
mod template;
mod verify;
mod watch;
mod words;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{
    ColorChoice, CommandFactory, FromArgMatches as _, Parser, Subcommand, error::ErrorKind,
};

use crate::{
    document::yaml,
    model::{shown::tame_lines, timestamp::Timestamp},
};

pub use failure::{Exit, Failure};
use limit::limit;

/// Create and keep the certificates of a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "certkit", version, propagate_version = true, max_term_width = 100)]
#[command(after_long_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// The PKI's directory
    #[arg(long, global = true, value_name = "DIR", env = "CERTKIT_DIR")]
    #[arg(default_value = "/etc/kubernetes", help_heading = "Everywhere")]
    pub dir: PathBuf,
    /// Whether it is there because somebody said it with the command.
    #[arg(skip)]
    pub dir_is_said: bool,
    /// Say only what is wrong: no notes, no hints on what to do next, no report where all is well
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, help_heading = "Everywhere", conflicts_with = "quiet")]
    pub verbose: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    #[arg(help_heading = "Everywhere")]
    pub color: ColorChoice,
    /// The file whose first line is the password of encrypted CA keys, for commands that sign
    /// [env: CERTKIT_CA_KEY_PASSWORD, the password itself; on a terminal it is asked for]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub ca_key_password_file: Option<PathBuf>,
    /// Show no progress bars
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub no_progress: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(Box<init::InitArgs>),
    CheckExpiration(Box<check_expiration::CheckExpirationArgs>),
    Completions(completions::CompletionsArgs),
    #[cfg(feature = "cluster")]
    Controller(Box<controller::ControllerArgs>),
    #[cfg(feature = "cluster")]
    Csr(Box<csr::CsrArgs>),
    Deploy(Box<deploy::DeployArgs>),
    Export(Box<export::ExportArgs>),
    Flags(flags::FlagsArgs),
    Fleet(fleet::FleetArgs),
    Import(import::ImportArgs),
    Kubeconfig(kubeconfig::KubeconfigArgs),
    Man(man::ManArgs),
    Nodes(nodes::NodesArgs),
    Paths(paths::PathsArgs),
    Prune(prune::PruneArgs),
    Receive(receive::ReceiveArgs),
    Recover(recover::RecoverArgs),
    Report(report::ReportArgs),
    Rotate(Box<rotate::RotateArgs>),
    RotateCa(Box<rotate_ca::RotateCaArgs>),
    Show(show::ShowArgs),
    Status(status::StatusArgs),
    Template(template::TemplateArgs),
    Verify(verify::VerifyArgs),
}

/// How commands print their reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a terminal, as wide as it is
    Table,
    /// The same with every column and row, however wide
    Wide,
    /// One document
    Json,
    /// The same document
    Yaml,
}

impl Format {
    /// Whether nothing is to be left out or shortened.
    pub fn is_wide(self) -> bool {
        self == Self::Wide
    }
}

/// A report's JSON in the form that was asked for.
pub fn document(json: String, format: Format) -> Result<String, Failure> {
    if format != Format::Yaml {
        return Ok(json);
    }
    let value: serde_json::Value = serde_json::from_str(&json).map_err(Failure::new)?;
    yaml::emit(&value).map_err(Failure::new)
}

/// What exit codes mean; each command's help has those that it can end with.
const EXIT_CODES: &str = "\
EXIT CODES:
  0   done; nothing needs attention
  1   warning findings
  2   critical findings
  3   certkit could not do it, or could not know
  4   partly done; what failed is named
  64  the command line was wrong";

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    match completions::answered() {
        true => Exit::Done.into(),
        false => run(std::env::args_os()),
    }
}

/// Runs the program: prints, and gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse(arguments.clone()) {
        Ok(cli) => cli,
        Err(error) => {
            if error.kind() == ErrorKind::InvalidSubcommand
                && let Some(meant) = words::meant(&arguments)
            {
                let what = "that is another tool's word for it";
                Failure::usage(what).hint(Some(meant)).print(&mut output::stderr());
                return Exit::Usage.into();
            }
            if error.kind() == ErrorKind::InvalidSubcommand
                && let Some(word) = words::of_the_cluster(&arguments)
            {
                let what = format!("this build does not speak with a cluster's API: no {word}");
                let hint = Some("build one that does: make controller");
                Failure::usage(what).hint(hint).print(&mut output::stderr());
                return Exit::Usage.into();
            }
            // Help and version are asked for, and are data; the rest is talk.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return match error.print() {
                // Or its reader has seen enough.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failed.into(),
                Ok(()) | Err(_) => exit.into(),
            };
        }
    };
    output::set_color(cli.global.color);
    match dispatch(&cli) {
        Ok(exit) => exit.into(),
        // The reader has seen enough, as in `certkit ... | head`.
        Err(failure) if failure.is_broken_pipe() => Exit::Done.into(),
        Err(failure) => {
            let failure = failure.in_dir(&absolute_or(&cli.global.dir));
            failure.print(&mut output::stderr());
            failure.exit.into()
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let mut below = Some(&matches);
    while let Some(matches) = below {
        let source = matches.value_source("dir");
        cli.global.dir_is_said |= source == Some(clap::parser::ValueSource::CommandLine);
        below = matches.subcommand().map(|(_, matches)| matches);
    }
    Ok(cli)
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Init(args) => init::run(args, &cli.global),
        Command::CheckExpiration(args) => check_expiration::run(args, &cli.global),
        Command::Completions(args) => completions::run(args),
        #[cfg(feature = "cluster")]
        Command::Controller(args) => controller::run(args, &cli.global),
        #[cfg(feature = "cluster")]
        Command::Csr(args) => csr::run(args, &cli.global),
        Command::Deploy(args) => deploy::run(args, &cli.global),
        Command::Export(args) => export::run(args, &cli.global),
        Command::Flags(args) => flags::run(args, &cli.global),
        Command::Fleet(args) => fleet::run(args, &cli.global),
        Command::Import(args) => import::run(args, &cli.global),
        Command::Kubeconfig(args) => kubeconfig::run(args, &cli.global),
        Command::Man(args) => man::run(args),
        Command::Nodes(args) => nodes::run(args, &cli.global),
        Command::Receive(args) => receive::run(args, &cli.global),
        Command::Recover(args) => recover::run(args, &cli.global),
        Command::Report(args) => report::run(args, &cli.global),
        Command::Rotate(args) => rotate::run(args, &cli.global),
        Command::RotateCa(args) => rotate_ca::run(args, &cli.global),
        Command::Show(args) => show::run(args, &cli.global),
        Command::Status(args) => status::run(args, &cli.global),
        Command::Paths(args) => paths::run(args, &cli.global),
        Command::Prune(args) => prune::run(args, &cli.global),
        Command::Template(args) => template::run(args, &cli.global),
        Command::Verify(args) => verify::run(args, &cli.global),
    }
}

/// The whole command tree, for shell completions and manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Writes to standard output, all at once, and flushes.
pub fn print(text: impl AsRef<str>) -> io::Result<()> {
    use io::Write as _;
    let mut out = output::stdout();
    out.write_all(text.as_ref().as_bytes())?;
    out.flush()
}

/// Prints the report of what was changed, or what would be. A change is made whether or not that can be told: then
/// the exit code says that something is amiss, and never that nothing was done.
pub fn tell(changed: bool, exit: Exit, report: Result<String, Failure>) -> Result<Exit, Failure> {
    let told = report.and_then(|text| Ok(print(text)?));
    match told {
        Err(failure) if changed && failure.is_broken_pipe() => Ok(exit),
        Err(failure) if changed => {
            warn(format!("all is done, but the report could not be written: {failure}"));
            Ok(if exit == Exit::Done { Exit::Partly } else { exit })
        }
        told => told.map(|()| exit),
    }
}

impl Global {
    /// Says something that is no data and nothing wrong, on standard error. Where that cannot be written there is
    /// nobody to tell.
    pub fn note(&self, text: impl AsRef<str>) {
        use io::Write as _;
        if !self.quiet {
            let _ = writeln!(output::stderr(), "note: {}", tame_lines(text.as_ref()));
        }
    }
}

/// The same of what needs attention.
pub fn warn(text: impl AsRef<str>) {
    use io::Write as _;
    let _ = writeln!(output::stderr(), "warning: {}", tame_lines(text.as_ref()));
}

/// Says on standard error what to do next.
pub fn hint(text: impl AsRef<str>) {
    use io::Write as _;
    let _ = writeln!(output::stderr(), "hint: {}", tame_lines(text.as_ref()));
}

/// A path as seen from the root, so that flags and kubeconfigs hold wherever they are read. Symlinks stay.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path.as_os_str().is_empty() {
        return Err(Failure::usage("--dir: the directory's name is empty"));
    }
    let path = std::path::absolute(path)?;
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(path),
        // Kubeconfigs are UTF-8, and a line break would end a flag or a unit's line.
        _ => Err(Failure::usage(format!(
            "--dir {:?}: use a path of UTF-8 without control characters",
            path.display()
        ))),
    }
}

/// The same for where it is only said.
fn absolute_or(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The time asked for, or now.
pub fn when(at: Option<Timestamp>) -> Result<Timestamp, Failure> {
    if let Some(at) = at {
        return Ok(at);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| {
        Failure::new("this machine's clock is set before 1970").hint(Some("set the clock"))
    })?;
    Ok(Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
}
