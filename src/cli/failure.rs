//! How a command ends: exit codes, and errors as people read them.

use std::{error::Error, fmt, io, path::Path, process::ExitCode};

use super::words;
use crate::model::shown::tame_lines;

/// Exit codes: 0 to 3 are those of monitoring plugins, so every reading command is a check by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done; nothing needs attention.
    Done = 0,
    /// Warning findings.
    Warning = 1,
    /// Critical findings.
    Critical = 2,
    /// certkit could not do it, or could not know.
    Failed = 3,
    /// Partly done.
    Partly = 4,
    /// The command line was wrong (BSD sysexits' EX_USAGE).
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl Failure {
    /// A failure of the work itself, exit code 3.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit: Exit::Failed, error: error.into(), hint: None }
    }

    /// A command line that was wrong in a way clap cannot see, exit code 64.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, error: message.into().into(), hint: None }
    }

    /// The same, with another exit code.
    pub fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same, with commands that name the directory they are about.
    pub fn in_dir(mut self, dir: &Path) -> Self {
        self.hint = self.hint.map(|hint| words::here(&hint, dir));
        self
    }

    /// The same, with what to do next.
    pub fn hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }

    /// Whether all that failed was writing to a pipe that nobody reads any more.
    pub fn is_broken_pipe(&self) -> bool {
        self.error
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Prints `error:`, each `caused by:` and `hint:`.
    pub fn print(&self, out: &mut dyn io::Write) {
        let style = anstyle::AnsiColor::Red.on_default().bold();
        // Nothing is left to do if standard error itself cannot be written.
        let _ = writeln!(out, "{style}error:{style:#} {}", told(&self.error));
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let _ = writeln!(out, "caused by: {}", told(error));
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            let style = anstyle::AnsiColor::Cyan.on_default().bold();
            let _ = writeln!(out, "{style}hint:{style:#} {}", told(hint));
        }
    }
}

/// What others wrote, in files, names of files and answers, steers no terminal.
fn told(text: &dyn fmt::Display) -> String {
    tame_lines(&text.to_string())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// What commands meet: each error knows what to do next, and whether the command line was wrong.
macro_rules! from {
    ($($error:ty $([$is_decided:ident])? $(, $is_usage:ident)?;)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let hint = error.hint();
                let wrong: &[bool] = &[$(error.$is_usage())?];
                // What is decided is not undone: part of it may be in place.
                let decided: &[bool] = &[$(error.$is_decided())?];
                let exit = match (wrong.contains(&true), decided.contains(&true)) {
                    (true, _) => Exit::Usage,
                    (_, true) => Exit::Partly,
                    _ => Exit::Failed,
                };
                Self { exit, ..Self::new(error).hint(hint) }
            }
        })*
    };
}

from! {
    crate::ops::adopt::Error [is_decided];
    crate::ops::change::Error [is_decided], is_usage;
    crate::ops::declared::Error;
    crate::ops::deploy::Error, is_usage;
    crate::ops::export::Error, is_usage;
    crate::ops::flags::FlagsError, is_usage;
    crate::ops::kubeconfig::Error [is_decided], is_usage;
    crate::ops::receive::Error [is_decided];
    crate::ops::renew::Error [is_decided], is_usage;
    crate::ops::rollback::Error [is_decided], is_usage;
    crate::ops::show::Error;
    crate::ops::sign::Error;
    crate::ops::verify::Error;
    crate::render::RenderError;
    crate::store::Error [is_decided];
}

#[cfg(feature = "cluster")]
from! {
    crate::cluster::Error;
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(error)
    }
}
