//! Work on several threads whose results come out in order, with bounded memory.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Results of one job that may wait for their turn.
const PIECES: usize = 4;
/// Jobs that may be begun ahead of the one whose results are being taken, for each thread.
const AHEAD: usize = 4;

/// Does `work` for every job on `threads` threads, and hands what it emits to `done` on this thread, in the
/// order of the jobs. Stops early when `done` fails; `emit` then says false.
pub fn in_order<J: Send, R: Send, E>(
    jobs: impl Iterator<Item = J> + Send,
    threads: usize,
    work: impl Fn(J, &mut dyn FnMut(R) -> bool) + Sync,
    mut done: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.max(1);
    let jobs = Mutex::new(jobs.enumerate());
    let queue = Queue { state: Mutex::new(State::default()), changed: Condvar::new() };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _leaving = Leaving(&queue);
                loop {
                    // The walk may touch the disk; it is one thread's at a time.
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, job)) = next else { return };
                    if !queue.begin(index, threads * AHEAD) {
                        return;
                    }
                    work(job, &mut |piece| queue.put(index, piece));
                    queue.finish(index);
                }
            });
        }
        let result = loop {
            match queue.take(threads) {
                Some(piece) => {
                    if let Err(error) = done(piece) {
                        break Err(error);
                    }
                }
                None => break Ok(()),
            }
        };
        queue.stop();
        result
    })
}

struct Queue<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct State<R> {
    /// The job whose results are being taken.
    turn: usize,
    waiting: BTreeMap<usize, Slot<R>>,
    left: usize,
    stopped: bool,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self { turn: 0, waiting: BTreeMap::new(), left: 0, stopped: false }
    }
}

struct Slot<R> {
    pieces: std::collections::VecDeque<R>,
    finished: bool,
}

impl<R> Queue<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, index: usize, ahead: usize) -> bool {
        let mut state = self.lock();
        while !state.stopped && index > state.turn + ahead {
            state = self.wait(state);
        }
        let slot = Slot { pieces: Default::default(), finished: false };
        state.waiting.insert(index, slot);
        !state.stopped
    }

    fn put(&self, index: usize, piece: R) -> bool {
        let mut state = self.lock();
        while !state.stopped && state.waiting.get(&index).is_some_and(|s| s.pieces.len() >= PIECES)
        {
            state = self.wait(state);
        }
        if state.stopped {
            return false;
        }
        if let Some(slot) = state.waiting.get_mut(&index) {
            slot.pieces.push_back(piece);
        }
        if index == state.turn {
            self.changed.notify_all();
        }
        true
    }

    fn finish(&self, index: usize) {
        let mut state = self.lock();
        if let Some(slot) = state.waiting.get_mut(&index) {
            slot.finished = true;
        }
        if index == state.turn {
            self.changed.notify_all();
        }
    }

    fn take(&self, threads: usize) -> Option<R> {
        let mut state = self.lock();
        loop {
            let turn = state.turn;
            if let Some(slot) = state.waiting.get_mut(&turn) {
                if let Some(piece) = slot.pieces.pop_front() {
                    if slot.pieces.len() + 1 >= PIECES {
                        self.changed.notify_all();
                    }
                    return Some(piece);
                }
                if slot.finished {
                    state.waiting.remove(&turn);
                    state.turn += 1;
                    self.changed.notify_all();
                    continue;
                }
            } else if state.left == threads {
                return None;
            }
            if state.stopped {
                return None;
            }
            state = self.wait(state);
        }
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

/// Counts a thread out; one that panicked stops the others, so that the panic gets out.
struct Leaving<'a, R>(&'a Queue<R>);

impl<R> Drop for Leaving<'_, R> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.left += 1;
        state.stopped |= thread::panicking();
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        for threads in [1, 2, 8] {
            let mut seen = Vec::new();
            let result: Result<(), ()> = in_order(
                0..500_usize,
                threads,
                |job, emit| {
                    for piece in 0..job % 13 {
                        if job % 7 == 0 {
                            thread::yield_now();
                        }
                        assert!(emit((job, piece)));
                    }
                },
                |piece| {
                    seen.push(piece);
                    Ok(())
                },
            );
            assert_eq!(result, Ok(()));
            let expected: Vec<_> =
                (0..500).flat_map(|job| (0..job % 13).map(move |piece| (job, piece))).collect();
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_failure_ends_it() {
        let mut count = 0;
        let result = in_order(
            0..,
            2,
            |job, emit| {
                emit(job);
            },
            |job| {
                count += 1;
                if job == 100 { Err("enough") } else { Ok(()) }
            },
        );
        assert_eq!(result, Err("enough"));
        assert_eq!(count, 101);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_gets_out() {
        let _: Result<(), ()> = in_order(
            0..1000,
            2,
            |job, emit| {
                assert!(job != 50, "job 50");
                emit(job);
            },
            |_| Ok(()),
        );
    }
}
