//! `certkit export`.

use std::io::{self, IsTerminal as _, Write as _};

use super::{Exit, Failure, Global, completions, words::quoted};
use crate::ops::{declared, export};

/// Write one host's files as a tar archive to standard output
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct ExportArgs {
    /// The host, as certkit.yaml names it
    #[arg(value_name = "HOST", add = completions::hosts())]
    host: String,
}

const HELP: &str = "\
The archive holds what /etc/kubernetes on that host is to hold, modes included, and private keys: send it
over an encrypted connection.

EXIT CODES:
  0   done
  3   certkit could not do it
  64  the command line was wrong

EXAMPLES:
  certkit export cp1 | ssh cp1 tar -x -C /etc/kubernetes
  certkit export worker-1 | tar -tv";

/// Runs the command.
pub fn run(args: &ExportArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let cluster = declared::load(&dir)?;
    if io::stdout().is_terminal() {
        return Err(Failure::usage("an archive with private keys does not belong on a terminal")
            .hint(Some(format!(
                "certkit export {0} | ssh {0} tar -x -C /etc/kubernetes",
                quoted(&args.host)
            ))));
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    export::export(&cluster, &dir, &args.host, &mut out)?;
    // An archive that was cut short is not what a reader who has seen enough leaves.
    out.flush().map_err(export::Error::Write)?;
    Ok(Exit::Done)
}
