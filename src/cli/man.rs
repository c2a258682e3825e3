//! `certkit man`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap_mangen::Man;

use super::{Exit, Failure, print};

/// Print the manual page, or write all of them to a folder
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct ManArgs {
    /// Where to write the pages: certkit.1, and certkit-COMMAND.1 for each command
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
}

const HELP: &str = "\
EXIT CODES:
  0   printed, or written
  3   certkit could not do it
  64  the command line was wrong

EXAMPLES:
  certkit man | man -l -
  certkit man --output-dir /usr/local/share/man/man1";

/// A page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
struct ManError {
    path: PathBuf,
    source: io::Error,
}

pub fn run(args: &ManArgs) -> Result<Exit, Failure> {
    let mut root = super::command().disable_help_subcommand(true);
    root.build();
    match &args.output_dir {
        Some(folder) => {
            fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
            write(folder, "certkit", &root)?;
            for command in root.get_subcommands() {
                write(folder, &format!("certkit-{}", command.get_name()), command)?;
            }
        }
        None => print(page("certkit", &root)?)?,
    }
    Ok(Exit::Done)
}

fn write(folder: &Path, name: &str, command: &clap::Command) -> Result<(), Failure> {
    let path = folder.join(format!("{name}.1"));
    let text = page(name, command)?;
    fs::write(&path, text).map_err(|e| failed(&path, e))
}

fn page(name: &str, command: &clap::Command) -> Result<String, Failure> {
    let mut text = Vec::new();
    Man::new(command.clone()).title(name).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn failed(path: &Path, source: io::Error) -> Failure {
    Failure::new(ManError { path: path.to_owned(), source })
}
