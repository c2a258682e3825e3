//! `certkit completions`

use clap_complete::Shell;

use super::{EXIT_CODES, Exit, Failure, print};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
EXAMPLES:
  certkit completions bash > /etc/bash_completion.d/certkit
  certkit completions zsh > /usr/local/share/zsh/site-functions/_certkit
  certkit completions fish > ~/.config/fish/completions/certkit.fish";

pub fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "certkit", &mut script);
    print(String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
