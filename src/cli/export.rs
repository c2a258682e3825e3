//! `certkit export`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use serde_json::json;

use super::{Exit, Failure, Format, Global, completions, output, watch, words::quoted};
use crate::{
    model::shown::with_causes,
    ops::{
        declared,
        export::{self, ExportForm, Exporter, FolderReport, FolderRequest},
    },
    pki::age::Recipient,
};

/// Write one host's files as an archive to standard output, or every host's into a folder
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct ExportArgs {
    /// The host, as certkit.yaml names it
    #[arg(value_name = "HOST", add = completions::hosts(), required_unless_present = "all")]
    host: Option<String>,
    /// Write an archive of every host into this folder, which is made if it is missing; prints their paths
    #[arg(long, value_name = "FOLDER", conflicts_with = "host")]
    all: Option<PathBuf>,
    /// Of all hosts only those whose files differ from what their archives hold
    #[arg(long, requires = "all", conflicts_with = "host")]
    changed: bool,
    /// What kind of archive
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "tar")]
    format: Form,
    /// With --all: how to print what was written
    #[arg(short, long, value_name = "FORMAT", default_value = "table", requires = "all")]
    output: Format,
    /// Encrypt to this age recipient; may be given several times
    #[arg(long, value_name = "age1...")]
    encrypt_to: Vec<String>,
}

/// What kinds of archive there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A tar archive, with modes and owners
    Tar,
    /// A Kubernetes Secret
    Secret,
    /// cloud-init's user data: `#cloud-config` with write_files
    CloudInit,
}

const HELP: &str = "\
The archive holds what /etc/kubernetes on that host is to hold, modes included, and private keys: send it
over an encrypted connection, or encrypt it.

With --all each archive is put in place whole, with mode 0600: HOST.tar, HOST.secret.yaml or
HOST.cloud-init.yaml, and .age behind that where it is encrypted. certkit-export.json beside them has a digest of
what each host's archive holds; --changed goes by it. A host that cannot be exported holds up no other one.

EXIT CODES:
  0   done
  3   certkit could not do it
  4   some hosts could not be exported; each is named
  64  the command line was wrong

EXAMPLES:
  certkit export cp1 | ssh cp1 tar -x -C /etc/kubernetes
  certkit export worker-1 | tar -tv
  certkit export --all /srv/archives --changed
  certkit export worker-1 --format cloud-init --encrypt-to age1... > worker-1.yaml.age
  certkit export worker-1 --format secret | kubectl --kubeconfig admin.conf -n machines apply -f -";

/// Runs the command.
pub fn run(args: &ExportArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let recipients = recipients(&args.encrypt_to)?;
    let form = match args.format {
        Form::Tar => ExportForm::Tar,
        Form::Secret => ExportForm::Secret,
        Form::CloudInit => ExportForm::CloudInit,
    };
    let cluster = declared::load(&dir)?;
    if let Some(folder) = &args.all {
        let changed = args.changed;
        let recipients = &recipients;
        let folder = &super::absolute(folder)?;
        let request =
            FolderRequest { cluster: &cluster, dir: &dir, folder, changed, form, recipients };
        let report = watch::writing(global, folder, || export::export_all(&request))?;
        return tell(&report, &request, args.output, global);
    }
    // One of the two is there, or clap had refused the line.
    let host = args.host.as_deref().unwrap_or_default();
    one(host, &Exporter::new(&cluster, &dir, form, &recipients))
}

fn one(host: &str, exporter: &Exporter<'_>) -> Result<Exit, Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::usage("an archive with private keys does not belong on a terminal")
            .hint(Some(format!(
                "certkit export {0} | ssh {0} tar -x -C /etc/kubernetes",
                quoted(host)
            ))));
    }
    let tree = exporter.read(host)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    exporter.write(&tree, &mut out)?;
    // An archive that was cut short is not what a reader who has seen enough leaves.
    out.flush().map_err(export::Error::Write)?;
    Ok(Exit::Done)
}

/// Whom to encrypt to. The text is not repeated: it may be an identity.
fn recipients(texts: &[String]) -> Result<Vec<Recipient>, Failure> {
    let mut recipients = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let recipient = text.parse::<Recipient>().map_err(|error| {
            let number = index + 1;
            Failure::usage(format!("the recipient of --encrypt-to (number {number}): {error}"))
                .hint(Some("age-keygen -y IDENTITY-FILE prints the recipient of an identity"))
        })?;
        recipients.push(recipient);
    }
    Ok(recipients)
}

/// Says what was written, on standard output the archives.
fn tell(
    report: &FolderReport,
    request: &FolderRequest<'_>,
    format: Format,
    global: &Global,
) -> Result<Exit, Failure> {
    for export::FailedHost { host, error } in &report.failed {
        let causes = with_causes(error);
        let _ = writeln!(output::stderr(), "error: {host}: {causes}");
    }
    let exit = match (report.failed.is_empty(), report.written.is_empty() && report.unchanged == 0)
    {
        (true, _) => Exit::Done,
        (false, false) => Exit::Partly,
        (false, true) => Exit::Failed,
    };
    if let Some(hint) = report.failed.first().and_then(|failed| failed.error.hint()) {
        super::hint(hint);
    }
    for path in &report.gone {
        super::warn(format!(
            "{} is of no host of this cluster any more: remove it",
            path.display()
        ));
    }
    if request.changed {
        global.note(format!(
            "{} changed, {} as their archives have them",
            report.written.len(),
            report.unchanged
        ));
    }
    let changed = !report.written.is_empty();
    if matches!(format, Format::Json | Format::Yaml) {
        let failed = report.failed.iter().map(
            |export::FailedHost { host, error }| json!({"host": host, "error": with_causes(error)}),
        );
        let document = json!({
            "apiVersion": "certkit/v1",
            "kind": "ExportReport",
            "written": report.written,
            "unchanged": report.unchanged,
            "failed": failed.collect::<Vec<_>>(),
            "gone": report.gone,
        });
        return super::tell(changed, exit, super::document(format!("{document:#}\n"), format));
    }
    if global.quiet {
        return Ok(exit);
    }
    let line = |path: &PathBuf| format!("{}\n", path.display());
    let lines: String = report.written.iter().map(line).collect();
    super::tell(changed, exit, Ok(lines))
}
