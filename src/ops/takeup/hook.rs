//! Running hooks, so that a signal that is meant for certkit reaches them: whoever stops certkit must not leave a hook
//! behind that goes on restarting things.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::Uptake;
use crate::{model::takeup::TakeUp, ops::password};

/// What asks a program to end. The rest cannot be caught, or is not meant to.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// How long a hook may run without being looked at.
const LONGEST_NAP: Duration = Duration::from_millis(20);

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// A signal came before it was run.
    #[error("the hook for {component} was not run: {signal} came first")]
    Interrupted {
        /// For which component.
        component: &'static str,
        /// The signal's name.
        signal: &'static str,
    },
    /// It said so.
    #[error("the hook for {component} ended with {status}")]
    Status {
        /// For which component.
        component: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// It could not be started.
    #[error("cannot start the hook for {component}")]
    Start {
        /// For which component.
        component: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It was sent a signal that certkit got.
    #[error("the hook for {component} was sent {signal}, as certkit was, and ended with {status}")]
    Stopped {
        /// For which component.
        component: &'static str,
        /// The signal's name.
        signal: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Runs hooks, and hands signals on to the one that runs. While none runs, signals do what they always do.
pub struct Hooks {
    /// The last signal that came while a hook ran; 0 is none.
    came: Arc<AtomicUsize>,
    idle: Arc<AtomicBool>,
}

impl Hooks {
    /// Begins to listen for signals.
    pub fn new() -> io::Result<Self> {
        let hooks =
            Self { came: Arc::new(AtomicUsize::new(0)), idle: Arc::new(AtomicBool::new(true)) };
        for signal in ENDING {
            let (came, idle) = (Arc::clone(&hooks.came), Arc::clone(&hooks.idle));
            signal_hook::flag::register_conditional_default(signal, idle)?;
            signal_hook::flag::register_usize(signal, came, usize::try_from(signal).unwrap_or(1))?;
        }
        Ok(hooks)
    }

    /// The signal that came while a hook ran.
    pub fn interrupted(&self) -> Option<&'static str> {
        i32::try_from(self.came.load(Ordering::SeqCst)).ok().filter(|signal| *signal != 0).map(name)
    }

    /// Runs the hook for one component. What it prints is talk, so it goes to standard error.
    pub fn run(&self, hook: &str, dir: &Path, outcome: &Uptake) -> Result<(), HookError> {
        let component = outcome.component;
        if let Some(signal) = self.interrupted() {
            return Err(HookError::Interrupted { component, signal });
        }
        let error = |source| HookError::Start { component, source };
        let files: Vec<String> = outcome.files.iter().map(|f| f.display().to_string()).collect();
        let stderr = rustix::io::dup(io::stderr()).map_err(|e| error(e.into()))?;
        let take_up = match outcome.how {
            TakeUp::Nobody => "nobody",
            TakeUp::Handshake | TakeUp::Watch | TakeUp::Poll(_) => "itself",
            TakeUp::Restart if outcome.needs_restart() => "restart",
            TakeUp::Restart => "restarted",
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", hook])
            .env("CERTKIT_COMPONENT", component)
            .env("CERTKIT_FILES", files.join("\n"))
            .env("CERTKIT_HOST", outcome.host.as_deref().unwrap_or_default())
            .env("CERTKIT_DIR", dir)
            .env("CERTKIT_TAKE_UP", take_up)
            .env_remove(password::VARIABLE)
            .stdin(Stdio::null())
            .stdout(Stdio::from(stderr))
            // A group of its own: a signal reaches all that the hook has started, and once.
            .process_group(0);
        self.idle.store(false, Ordering::SeqCst);
        let status = command.spawn().and_then(|mut child| self.watch(&mut child));
        self.idle.store(true, Ordering::SeqCst);
        let status = status.map_err(error)?;
        match (self.interrupted(), status.success()) {
            (Some(signal), false) => Err(HookError::Stopped { component, signal, status }),
            (None, false) => Err(HookError::Status { component, status }),
            // It finished its work all the same.
            (_, true) => Ok(()),
        }
    }

    /// Waits for the hook, and hands on each signal that comes meanwhile.
    fn watch(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let mut handed = 0;
        let mut nap = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let came = self.came.load(Ordering::SeqCst);
            if came != handed {
                handed = came;
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let (Some(group), Some(signal)) = (group, signal(came)) {
                    // A hook that has ended meanwhile needs none.
                    let _ = kill_process_group(group, signal);
                }
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }
}

fn signal(number: usize) -> Option<Signal> {
    Some(match i32::try_from(number).ok()? {
        SIGHUP => Signal::HUP,
        SIGINT => Signal::INT,
        SIGQUIT => Signal::QUIT,
        SIGTERM => Signal::TERM,
        _ => return None,
    })
}

fn name(number: i32) -> &'static str {
    match number {
        SIGHUP => "SIGHUP",
        SIGINT => "SIGINT",
        SIGQUIT => "SIGQUIT",
        _ => "SIGTERM",
    }
}
