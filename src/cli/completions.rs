//! `certkit completions`: what a shell completes, certkit tells it, for it knows the certificates and hosts of DIR.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap_complete::{
    CompleteEnv, CompletionCandidate, Shell,
    engine::ArgValueCandidates,
    env::{Bash, EnvCompleter, Fish, Zsh},
};

use super::{Exit, Failure, print};
use crate::{
    model::{
        catalogue::{CERTIFICATES, CertSpec, KEYS},
        cluster::Cluster,
        code::CODES,
        layout::{DEFAULT_HOST_DIR, Layout},
    },
    ops::declared,
};

/// Print a completion script for a shell
///
/// In bash, zsh and fish the script asks certkit itself for what fits: commands and options, and the certificates,
/// hosts, addons and finding codes that there are in the directory of --dir.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

const HELP: &str = "\
EXIT CODES:
  0   printed
  64  the command line was wrong

EXAMPLES:
  certkit completions bash > /etc/bash_completion.d/certkit
  certkit completions zsh > /usr/local/share/zsh/site-functions/_certkit
  certkit completions fish > ~/.config/fish/completions/certkit.fish";

/// The variable by which a shell asks: certkit then completes, and does nothing else.
const VARIABLE: &str = "CERTKIT_COMPLETE";
const PROGRAM: &str = "certkit";

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let asking: Option<&dyn EnvCompleter> = match args.shell {
        Shell::Bash => Some(&Bash),
        Shell::Fish => Some(&Fish),
        Shell::Zsh => Some(&Zsh),
        _ => None,
    };
    match asking {
        Some(shell) => {
            shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?
        }
        None => clap_complete::generate(args.shell, &mut super::command(), PROGRAM, &mut script),
    }
    print(String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Answers a shell that asks; says whether one did.
pub fn answered() -> bool {
    let Some(_) = std::env::var_os(VARIABLE) else { return false };
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(super::command)
        .var(VARIABLE)
        .bin(PROGRAM)
        .completer(PROGRAM)
        .try_complete(std::env::args_os(), here.as_deref());
    // Nobody looks at an error under a command line that is being typed.
    asked.unwrap_or(true)
}

/// Certificates that can be renewed, by name.
pub fn certificates() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        let declared = declared::find(&asked_dir()).ok().flatten();
        if let Some(cluster) = &declared {
            for instance in Layout::new(cluster).instances.iter().filter(|i| !i.spec.is_ca()) {
                for name in [instance.spec.id.to_string(), instance.label()] {
                    if seen.insert(name.clone()) {
                        found.push((name, instance.spec.about));
                    }
                }
            }
        } else {
            let leaves = CERTIFICATES.iter().filter(|spec| !spec.is_ca());
            found.extend(leaves.map(|spec| (spec.id.to_string(), spec.about)));
        }
        found.into_iter().map(|(name, about)| candidate(name, about)).collect()
    })
}

/// What `rotate-ca` replaces: the CAs that DIR declares, or all that there may be, and key pairs.
pub fn authorities() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let declared = declared::find(&asked_dir()).ok().flatten();
        let is_here = |spec: &&CertSpec| {
            let has =
                |cluster: &Cluster| cluster.has(spec.present) && !cluster.is_absent(spec.id.name());
            spec.is_ca() && declared.as_ref().is_none_or(has)
        };
        let authorities = CERTIFICATES.iter().filter(is_here);
        let authorities = authorities.map(|spec| candidate(spec.id.to_string(), spec.about));
        authorities
            .chain(KEYS.iter().map(|spec| candidate(spec.id.to_owned(), spec.about)))
            .collect()
    })
}

/// The hosts that DIR declares.
pub fn hosts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let declared = declared::find(&asked_dir()).ok().flatten();
        let hosts = declared.iter().flat_map(|cluster| &cluster.hosts);
        hosts
            .map(|host| {
                let does = [
                    (host.control_plane, "control plane"),
                    (host.etcd, "etcd"),
                    (host.node, "node"),
                ];
                let does: Vec<&str> = does.iter().filter(|(is, _)| *is).map(|d| d.1).collect();
                candidate(host.name.to_string(), &does.join(", "))
            })
            .collect()
    })
}

/// The codes of findings.
pub fn codes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        CODES.iter().map(|spec| candidate(spec.name.to_owned(), spec.title)).collect()
    })
}

fn candidate(name: String, about: &str) -> CompletionCandidate {
    CompletionCandidate::new(name).help(Some(about.to_owned().into()))
}

/// The directory that the command line being typed is about.
fn asked_dir() -> PathBuf {
    let words: Vec<OsString> = std::env::args_os().collect();
    let said = dir_of(&words).or_else(|| std::env::var_os("CERTKIT_DIR"));
    said.map_or_else(|| Path::new(DEFAULT_HOST_DIR).to_path_buf(), PathBuf::from)
}

fn dir_of(words: &[OsString]) -> Option<OsString> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--dir" {
            return words.next().cloned();
        }
        if let Some(dir) = word.to_str().and_then(|word| word.strip_prefix("--dir=")) {
            return Some(dir.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_the_one_being_typed() {
        let of = |line: &str| dir_of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of("certkit --dir /srv/pki rotate "), Some("/srv/pki".into()));
        assert_eq!(of("certkit rotate --dir=/srv/pki"), Some("/srv/pki".into()));
        assert_eq!(of("certkit rotate --dir"), None);
    }
}
