//! What is shown while a command works: progress on a terminal, and, where a signal ends it, what was and what was
//! not done.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::{
    SigId,
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag, low_level,
};

use super::{Global, output};
use crate::{
    ops::change::parts,
    parallel::progress::{self, Progress},
    store,
};

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(100);
/// What takes no longer than this needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Works, and shows how far it is.
pub fn working<R>(global: &Global, work: impl FnOnce() -> R) -> R {
    let mut bar = Bar::new(global);
    match bar.is_wanted {
        true => progress::beside(EVERY, |over| bar.show(over), work),
        // Nothing to show: one thread less.
        false => work(),
    }
}

/// Work that changes something.
#[derive(Clone, Copy, Debug)]
pub struct ChangingWork<'a> {
    /// The directory that is changed.
    pub dir: &'a Path,
    /// Whether it is not, but only said how.
    pub dry_run: bool,
    /// Whether hooks follow, which signals are handed to.
    pub hooks: bool,
}

/// The same of work that changes DIR: a signal that ends it says what is done.
pub fn changing<R>(global: &Global, change: ChangingWork<'_>, work: impl FnOnce() -> R) -> R {
    let ChangingWork { dir, dry_run, hooks } = change;
    if dry_run {
        return working(global, work);
    }
    // The log grows with each change that is made.
    let mut before = None;
    let told = |now| match now {
        Moment::Begun => {
            before = Some(length(dir));
            String::new()
        }
        Moment::Ended => match progress::now() {
            Some(Progress { what: parts::WHAT, done, total: Some(total), .. }) => {
                Change::now(dir, before).of_nodes(dir, done, total)
            }
            _ => Change::now(dir, before).of_all(dir),
        },
    };
    interruptible(global, hooks, told, work)
}

/// The same of work that writes `folder`, file by file: a signal that ends it says how far it came.
pub fn writing<R>(global: &Global, folder: &Path, work: impl FnOnce() -> R) -> R {
    let told = |now| match (now, progress::now()) {
        (Moment::Ended, Some(Progress { what, done, total: Some(total), .. })) => {
            let shown = folder.display();
            format!(
                "of {total} {what} about {done} were done; each file in {shown} is whole, the new one or the one before\n\
                 hint: run it again"
            )
        }
        _ => format!("nothing in {} was changed\nhint: run it again", folder.display()),
    };
    interruptible(global, false, told, work)
}

/// When it is asked what there is to say of an interruption.
enum Moment {
    /// As the work begins.
    Begun,
    /// As a signal ends it.
    Ended,
}

/// Works, shows how far it is, and, where a signal ends it, says what is `told`.
fn interruptible<R>(
    global: &Global,
    hooks: bool,
    mut told: impl FnMut(Moment) -> String + Send,
    work: impl FnOnce() -> R,
) -> R {
    let mut bar = Bar::new(global);
    let mut signals = None;
    let look = |over| {
        bar.show(over);
        // Only once there is somebody to look may signals be kept from ending it at once.
        let signals = signals.get_or_insert_with(|| {
            told(Moment::Begun);
            Signals::new()
        });
        if let Some(signal) = signals.came() {
            bar.show(true);
            end(signal, &told(Moment::Ended));
        }
        if over {
            signals.leave(hooks);
        }
    };
    progress::beside(EVERY, look, work)
}

struct Bar {
    is_wanted: bool,
    /// The task that is shown, when it was first seen, and its bar.
    task: Option<(usize, Instant, ProgressBar)>,
}

impl Bar {
    fn new(global: &Global) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_wanted = !global.no_progress && !global.quiet && !dumb && io::stderr().is_terminal();
        Self { is_wanted, task: None }
    }

    fn show(&mut self, over: bool) {
        if !self.is_wanted {
            return;
        }
        let now = progress::now().filter(|_| !over);
        let is_other = |(number, ..): &mut (usize, Instant, ProgressBar)| {
            now.is_none_or(|now| now.number != *number)
        };
        if let Some((.., bar)) = self.task.take_if(is_other) {
            bar.finish_and_clear();
        }
        let Some(now) = now else { return };
        let (_, since, bar) =
            self.task.get_or_insert_with(|| (now.number, Instant::now(), bar(&now)));
        bar.set_position(now.done as u64);
        if bar.is_hidden() && since.elapsed() >= PATIENCE {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.tick();
    }
}

/// A bar that is not shown yet, but knows its rate.
fn bar(now: &Progress) -> ProgressBar {
    let (length, form) = match now.total {
        Some(total) => (
            Some(total as u64),
            "{human_pos} of {human_len} {msg} [{wide_bar}] {per_sec}, {eta} left",
        ),
        None => (None, "{human_pos} {msg}, {per_sec}"),
    };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
    // The forms are literals above, and right: a wrong one would be the plain style.
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(now.what);
    bar
}

/// Signals that would end it, as long as it changes something.
struct Signals {
    came: Arc<AtomicUsize>,
    registered: Vec<SigId>,
    /// Whether signals do what they always do.
    idle: Arc<AtomicBool>,
}

impl Signals {
    fn new() -> Self {
        let came = Arc::new(AtomicUsize::new(0));
        let idle = Arc::new(AtomicBool::new(false));
        let mut registered = Vec::new();
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            // Where they cannot be caught they end it without a word, as always.
            let caught = flag::register_conditional_default(signal, Arc::clone(&idle));
            if let Ok(caught) = caught {
                let number = usize::try_from(signal).unwrap_or(1);
                registered.push(caught);
                registered.extend(flag::register_usize(signal, Arc::clone(&came), number));
            }
        }
        Self { came, registered, idle }
    }

    fn came(&self) -> Option<i32> {
        let signal = i32::try_from(self.came.load(Ordering::SeqCst)).unwrap_or_default();
        (signal != 0).then_some(signal)
    }

    /// From now on a signal does what it always does, or what hooks make of it.
    fn leave(&self, hooks: bool) {
        self.idle.store(true, Ordering::SeqCst);
        for registered in self.registered.iter().filter(|_| hooks) {
            low_level::unregister(*registered);
        }
    }
}

/// Says what is done, and ends as the signal would have.
fn end(signal: i32, said: &str) {
    let name = match signal {
        SIGHUP => "SIGHUP",
        SIGINT => "SIGINT",
        _ => "SIGTERM",
    };
    // Nothing is left to do where standard error cannot be written.
    let _ = writeln!(output::stderr(), "interrupted by {name}: {said}");
    let _ = low_level::emulate_default_handler(signal);
}

/// What a change has come to.
enum Change {
    /// Nothing is changed.
    Nothing,
    /// What is to be changed is decided, and partly in place.
    Decided,
    /// It is in place: all of it, or what was decided so far.
    Made,
}

impl Change {
    /// What it has come to by now, where the log was so long `before`.
    fn now(dir: &Path, before: Option<u64>) -> Self {
        let pending = store::pending(dir).ok().flatten();
        match pending.is_some_and(|pending| pending.decided) {
            true => Self::Decided,
            false if length(dir) > before.unwrap_or_default() => Self::Made,
            false => Self::Nothing,
        }
    }

    /// In words, of a change that is one.
    fn of_all(&self, dir: &Path) -> String {
        let shown = dir.display();
        match self {
            Self::Decided => format!(
                "the change in {shown} is decided and partly in place; certkit's next change there completes it first\n\
                 hint: certkit --dir {shown} rotate --within 0s"
            ),
            Self::Made => format!(
                "all is in place in {shown}; who has to be restarted was not said, no hook was run\n\
                 hint: certkit --dir {shown} rotate, with the same hooks and restarts: it does both first"
            ),
            Self::Nothing => format!("nothing in {shown} was changed\nhint: run it again"),
        }
    }

    /// In words, of one that is made part by part.
    fn of_nodes(&self, dir: &Path, done: usize, total: usize) -> String {
        let rest = match self {
            Self::Nothing => return self.of_all(dir),
            Self::Decided => "the next ones are decided and partly in place",
            Self::Made => "none in part",
        };
        format!(
            "of {total} nodes {done} are done in {}, and {rest}\nhint: run it again: it does what is left",
            dir.display()
        )
    }
}

fn length(dir: &Path) -> u64 {
    std::fs::symlink_metadata(crate::store::log_of(dir)).map_or(0, |metadata| metadata.len())
}
