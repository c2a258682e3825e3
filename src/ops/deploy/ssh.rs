//! The way to a host: the operator's own ssh, or what is said instead of it. What goes through is standard input and
//! output; no argument holds a secret.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    process::{Command, ExitStatus, Stdio},
};

use rustix::fs::MemfdFlags;

use crate::model::shown::name;

/// How hosts are reached.
#[derive(Clone, Debug)]
pub struct Transport {
    /// The command and its first arguments; the destination and the command to run there follow.
    command: Vec<String>,
}

/// Why nothing was heard from a host.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The command line of `--ssh` is none.
    #[error("--ssh: the quotes do not match, or it is empty")]
    Command,
    /// It cannot be started.
    #[error("cannot start {command}")]
    Start {
        /// The program.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// The host cannot be reached: ssh itself ends with 255.
    #[error("{destination} cannot be reached: {said}")]
    Unreachable {
        /// Where it was to lead.
        destination: String,
        /// What ssh said.
        said: String,
    },
    /// It was reached, and then no longer, or what ran there was killed: ssh ends with 255 then, too.
    #[error("the conversation with {destination} broke off: {said}")]
    Broken {
        /// The host.
        destination: String,
        /// What was said last.
        said: String,
    },
    /// What was to be run there is not there.
    #[error("{destination} has no certkit in its PATH: {said}")]
    Absent {
        /// The host.
        destination: String,
        /// What its shell said.
        said: String,
    },
    /// It said something else than expected.
    #[error("{destination} ended with {status}: {said}")]
    Ended {
        /// The host.
        destination: String,
        /// How it ended.
        status: String,
        /// What it said last.
        said: String,
    },
}

impl SshError {
    /// Whether the host could not even be asked.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Start { .. })
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Command => "write it as on a command line: --ssh 'ssh -F FILE'".into(),
            Self::Start { .. } => "install OpenSSH's client, or name another with --ssh".into(),
            Self::Unreachable { destination, .. } => {
                format!("have `ssh {destination} true` work, then run this again")
            }
            Self::Broken { .. } => {
                "what was decided there stands, and nothing is half: run `certkit deploy` again"
                    .into()
            }
            Self::Absent { .. } => "install certkit there, or bring it along: --carry".into(),
            Self::Ended { destination, .. } => {
                format!(
                    "have `ssh {destination} sudo -n certkit --version` work, then run this again"
                )
            }
        })
    }
}

/// What came back.
pub struct Answer {
    /// Standard output.
    pub output: Vec<u8>,
    /// How it ended.
    status: ExitStatus,
    /// The last lines of standard error.
    said: String,
    /// Where it was.
    destination: String,
}

impl Answer {
    /// The failure of a command that did not say what it was asked for. Whoever `was_reached` before has not just
    /// become unreachable.
    pub fn failure(&self, was_reached: bool) -> SshError {
        let (destination, said) = (self.destination.clone(), self.said.clone());
        match self.status.code() {
            Some(255) if was_reached || said == NOTHING => SshError::Broken { destination, said },
            Some(255) => SshError::Unreachable { destination, said },
            // POSIX shells: not found.
            Some(127) => SshError::Absent { destination, said },
            _ => SshError::Ended { destination, status: self.status.to_string(), said },
        }
    }

    /// Whether there was no certkit.
    pub fn is_absent(&self) -> bool {
        self.status.code() == Some(127)
    }

    /// Whether the host was not reached.
    pub fn is_unreachable(&self) -> bool {
        self.status.code() == Some(255)
    }

    /// Whether it ended well.
    pub fn is_success(&self) -> bool {
        self.status.success()
    }
}

/// More of what a host says is not looked at.
const LIMIT: u64 = 8 << 20;

impl Transport {
    /// What is said with `--ssh`; else the operator's ssh. It must not wait for a password where nobody can give one.
    pub fn new(said: Option<&str>, attended: bool) -> Result<Self, SshError> {
        let command = match said {
            Some(said) => {
                shlex::split(said).filter(|words| !words.is_empty()).ok_or(SshError::Command)?
            }
            None => {
                let mut words = vec!["ssh".to_owned(), "-T".into()];
                let options =
                    ["ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4"];
                let batch = (!attended).then_some("BatchMode=yes");
                for option in options.into_iter().chain(batch) {
                    words.extend(["-o".into(), option.into()]);
                }
                words
            }
        };
        Ok(Self { command })
    }

    /// Runs a command for a POSIX shell on a host, with what `input` writes as its standard input.
    pub fn run(
        &self,
        destination: &str,
        script: &str,
        input: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<Answer, SshError> {
        let (program, arguments) = self.command.split_first().ok_or(SshError::Command)?;
        let start = |source| SshError::Start { command: program.clone(), source };
        // Files in memory: whoever writes to them never waits for a reader, so no thread has to read.
        let output = memory("output").map_err(start)?;
        let said = memory("said").map_err(start)?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(destination)
            // The login shell of a user may be any; it only has to start sh.
            .arg(format!("sh -c {}", quoted(script)))
            .env_remove(crate::ops::password::VARIABLE)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().map_err(start)?)
            .stderr(said.try_clone().map_err(start)?)
            .spawn()
            .map_err(start)?;
        if let Some(stdin) = child.stdin.take() {
            let mut stdin = io::BufWriter::new(stdin);
            // Who does not want to hear it says why.
            let _ = input(&mut stdin).and_then(|()| stdin.flush());
        }
        let status = child.wait().map_err(start)?;
        let output = contents(output).map_err(start)?;
        let said = contents(said).map_err(start)?;
        Ok(Answer { output, status, said: last_words(&said), destination: destination.to_owned() })
    }
}

fn memory(name: &str) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

fn contents(mut file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(LIMIT).read_to_end(&mut content)?;
    Ok(content)
}

const NOTHING: &str = "nothing was said";

/// The last lines that say something, in one, fit for a terminal.
fn last_words(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    match last.is_empty() {
        true => NOTHING.to_owned(),
        false => last.iter().map(|line| name(line)).collect::<Vec<_>>().join("; "),
    }
}

/// A word for any shell's command line.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
