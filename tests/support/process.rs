//! A program in the background: its log, its end.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Long enough for an apiserver that lets watches end.
const GRACE: Duration = Duration::from_secs(90);

/// A process that ends, by its id, when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it. What it says is added to the log, below the command itself.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let mut file =
            OpenOptions::new().create(true).append(true).open(log).expect("the log's folder");
        writeln!(file, "+ {command:?}").expect("a log that can be written");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        Self { child, log: log.into() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        let octets = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// Asks it to end, as a service manager does, and waits until it has; it may have before.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        if let Some(status) = self.child.try_wait().expect("a child") {
            return status;
        }
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("a child that was not waited for");
        let end = Instant::now() + GRACE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < end, "does not end when asked:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Process {
    /// Ends it at once, and waits until it has.
    pub fn kill(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The processes whose command line begins so.
pub fn find(begin: &str) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").expect("Linux").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |id: &i32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").starts_with(begin)
    };
    ids.filter(is_it).filter_map(Pid::from_raw).collect()
}
