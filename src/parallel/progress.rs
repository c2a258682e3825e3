//! How far long work is: told by whoever does it, read by whoever shows it. There is one task at a time; one within
//! another (a file's certificates, a host's handshakes) is a part of it and is not told apart.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is counted, as in `500 handshakes`.
    pub what: &'static str,
    /// How many are done.
    pub done: usize,
    /// How many there are, where that is known.
    pub total: Option<usize>,
    /// Which task of this run it is.
    pub number: usize,
}

struct State {
    task: Option<(&'static str, Option<usize>)>,
    number: usize,
}

static STATE: Mutex<State> = Mutex::new(State { task: None, number: 0 });
static DONE: AtomicUsize = AtomicUsize::new(0);

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Task {
    outer: bool,
}

/// Begins a task: so many `what`.
pub fn task(what: &'static str, total: Option<usize>) -> Task {
    let mut state = state();
    let outer = state.task.is_none();
    if outer {
        state.task = Some((what, total));
        state.number += 1;
        DONE.store(0, Ordering::Relaxed);
    }
    Task { outer }
}

impl Task {
    /// One more is done; on any thread.
    pub fn step(&self) {
        self.steps(1);
    }

    /// So many more are done.
    pub fn steps(&self, count: usize) {
        if self.outer {
            DONE.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.outer {
            state().task = None;
        }
    }
}

/// What is being done now, if anything that is counted.
pub fn now() -> Option<Progress> {
    let state = state();
    let (what, total) = state.task?;
    Some(Progress { what, total, number: state.number, done: DONE.load(Ordering::Relaxed) })
}

/// Does `work`, and meanwhile calls `look` on another thread again and again, and once when the work is done. Where no
/// thread is to be had the work is done without.
pub fn beside<R>(
    every: Duration,
    mut look: impl FnMut(bool) + Send,
    work: impl FnOnce() -> R,
) -> R {
    let (over, changed) = (Mutex::new(false), Condvar::new());
    let end = End { over: &over, changed: &changed };
    thread::scope(|scope| {
        let watch = || {
            let mut ended = over.lock().unwrap_or_else(PoisonError::into_inner);
            look(*ended);
            while !*ended {
                let waited = changed.wait_timeout(ended, every);
                (ended, _) = waited.unwrap_or_else(PoisonError::into_inner);
                look(*ended);
            }
        };
        super::spawn(scope, watch);
        // The scope waits for the watcher, also when the work panics.
        let _end = end;
        work()
    })
}

struct End<'a> {
    over: &'a Mutex<bool>,
    changed: &'a Condvar,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_task_is_told_and_ends_with_its_guard() {
        let mut seen = Vec::new();
        let told = Mutex::new(&mut seen);
        beside(
            Duration::from_millis(1),
            |over| {
                if !over && let Some(now) = now().filter(|now| now.what == "stones") {
                    told.lock().expect("no panic").push(now);
                }
            },
            || {
                // Other tests have tasks, too.
                let task = loop {
                    let task = task("stones", Some(3));
                    if task.outer {
                        break task;
                    }
                    thread::sleep(Duration::from_millis(1));
                };
                task.step();
                let inner = super::task("pebbles", None);
                inner.step();
                drop(inner);
                thread::sleep(Duration::from_millis(50));
            },
        );
        let last = seen.last().expect("it was told");
        assert_eq!((last.done, last.total), (1, Some(3)));
        assert!(now().is_none_or(|now| now.what != "stones"));
    }

    #[test]
    fn the_watcher_ends_with_the_work_even_when_that_panics() {
        let panicked = std::panic::catch_unwind(|| {
            beside(Duration::from_secs(3600), |_| {}, || panic!("as asked"));
        });
        assert!(panicked.is_err());
    }
}
