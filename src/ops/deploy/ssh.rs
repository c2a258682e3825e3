//! The way to a host: the operator's own ssh, or what is said instead of it. What goes through is standard input and
//! output; no argument holds a secret.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, OFlags, SealFlags},
};

use crate::model::shown::name;

/// How hosts are reached.
#[derive(Clone, Debug)]
pub struct Transport {
    /// The command and its first arguments; the destination and the command to run there follow.
    command: Vec<String>,
    /// How long one conversation may take.
    patience: Duration,
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
    /// It was reached, perhaps, and nothing came to an end there.
    #[error("{destination} has come to no end within {}s: {said}", limit.as_secs())]
    Silent {
        /// The host.
        destination: String,
        /// How long it was waited for.
        limit: Duration,
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
            Self::Silent { .. } => {
                "look there what holds it up; nothing there is half: run `certkit deploy` again"
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

/// More than a host has to say. Whoever says more is heard no further, and cannot fill this machine's memory.
const LIMIT: u64 = 8 << 20;

/// How often it is looked whether a conversation has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs a command that a signal to all of a terminal does not end: what was begun on a host is brought to its end.
const SHELTERED: &str = "trap '' INT HUP; exec \"$@\"";

impl Transport {
    /// What is said with `--ssh`; else the operator's ssh. It must not wait for a password where nobody can give one.
    /// Who says nothing for longer than `patience` is given up.
    pub fn new(said: Option<&str>, attended: bool, patience: Duration) -> Result<Self, SshError> {
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
        Ok(Self { command, patience })
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
        if !is_there(program) {
            return Err(start(io::ErrorKind::NotFound.into()));
        }
        let end = Instant::now() + self.patience;
        let mut child = Command::new("sh")
            .args(["-c", SHELTERED, "sh", program])
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
            let mut ear = io::BufWriter::new(Ear::new(stdin, end).map_err(start)?);
            // Who does not want to hear it says why, and who does not listen has come to no end.
            let _ = input(&mut ear).and_then(|()| ear.flush());
        }
        let status = ended(&mut child, end).map_err(start)?;
        let said = last_words(&contents(said).map_err(start)?);
        let destination = destination.to_owned();
        let Some(status) = status else {
            return Err(SshError::Silent { destination, limit: self.patience, said });
        };
        Ok(Answer { output: contents(output).map_err(start)?, status, said, destination })
    }
}

/// Whether a program is to be had: the shell that starts it would say so in a host's place.
fn is_there(program: &str) -> bool {
    match program.contains('/') {
        true => Path::new(program).exists(),
        false => std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        }),
    }
}

/// A program's standard input, which is written to for so long and no longer: who does not read fills a pipe, and then
/// nothing can be written.
struct Ear {
    pipe: ChildStdin,
    end: Instant,
}

impl Ear {
    fn new(pipe: ChildStdin, end: Instant) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&pipe)?;
        rustix::fs::fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?;
        Ok(Self { pipe, end })
    }
}

impl io::Write for Ear {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        loop {
            match self.pipe.write(octets) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let left = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::OUT)], Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// How it ended; nothing where it took too long, and was ended.
fn ended(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

/// A file in memory that holds no more than [`LIMIT`].
fn memory(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file: File = rustix::fs::memfd_create(name, flags)?.into();
    file.set_len(LIMIT)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(file)
}

/// What was written to it: up to where its writers, who share its position, have come.
fn contents(mut file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let end = file.stream_position()?.min(LIMIT);
    file.seek(SeekFrom::Start(0))?;
    file.take(end).read_to_end(&mut content)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a script that is run in the place of ssh.
    fn heard(script: &str, patience: u64) -> Result<Answer, SshError> {
        let said = format!("sh -c {}", quoted(script));
        let transport = Transport::new(Some(&said), false, Duration::from_secs(patience));
        transport.expect("a command").run("w1", "true", |out| out.write_all(b"sent"))
    }

    #[test]
    fn a_host_is_heard_to_its_end_and_no_further_than_it_has_to_say() {
        let answer = heard("cat; echo warning >&2; exit 3", 60).expect("an answer");
        assert_eq!(answer.output, b"sent");
        assert_eq!(answer.failure(true).to_string(), "w1 ended with exit status: 3: warning");
        let answer = heard("yes; true", 60).expect("an answer");
        assert_eq!(answer.output.len() as u64, LIMIT);
        assert!(answer.output.starts_with(b"y\ny\n"));
    }

    #[test]
    fn a_host_that_comes_to_no_end_is_given_up() {
        let start = Instant::now();
        let error = heard("echo on my way >&2; exec sleep 60", 1).err().expect("an error");
        assert_eq!(error.to_string(), "w1 has come to no end within 1s: on my way");
        assert!(!error.is_unreachable() && start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_host_that_reads_nothing_is_given_up_and_one_that_reads_slowly_gets_all() {
        let send = |script: &str, patience: u64| {
            let said = format!("sh -c {}", quoted(script));
            let transport = Transport::new(Some(&said), false, Duration::from_secs(patience));
            // More than a pipe holds.
            let much = vec![b'x'; 1 << 20];
            transport.expect("a command").run("w1", "true", |out| out.write_all(&much))
        };
        let start = Instant::now();
        let error = send("exec sleep 60", 1).err().expect("an error");
        assert!(error.to_string().starts_with("w1 has come to no end within 1s"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
        let answer = send("sleep 0.3; wc -c", 60).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer.output).trim(), "1048576");
    }

    #[test]
    fn what_is_not_there_is_not_taken_for_the_hosts() {
        for command in ["/nowhere/ssh", "no-such-ssh -v"] {
            let transport = Transport::new(Some(command), false, Duration::from_secs(60));
            let error = transport.expect("a command").run("w1", "true", |_| Ok(())).err();
            assert!(matches!(error, Some(SshError::Start { .. })), "{command}");
        }
    }
}
