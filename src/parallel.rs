//! The one way to use all processors: work on several threads whose results come out in order, with bounded memory.
//!
//! Threads are a help, not a need: where a limit (`TasksMax=`, a pids cgroup, `RLIMIT_NPROC`) leaves fewer than
//! are asked for, the work is done with those, and with none on the caller's own.

pub mod progress;

use std::{
    collections::BTreeMap,
    num::NonZero,
    ops::Range,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Scope, ScopedJoinHandle},
};

/// Results of one job that may wait for their turn.
const PIECES: usize = 4;
/// Jobs that may be begun ahead of the one whose results are being taken, for each thread.
const AHEAD: usize = 4;

/// How many threads keep every processor busy that this process may use.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Does `work` for every item on up to `threads` threads, this one among them; the results are in the order of
/// the items.
///
/// Each thread makes a state of its own with `begin`, and takes `share` items at a time: as many as are worth a
/// thread.
pub fn map_with<T: Sync, S, R: Send>(
    items: &[T],
    threads: usize,
    share: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    let share = share.max(1);
    let threads = threads.clamp(1, items.len().div_ceil(share).max(1));
    let next = AtomicUsize::new(0);
    let take = || -> Option<Range<usize>> {
        let start = next.fetch_add(share, Ordering::Relaxed);
        (start < items.len()).then(|| start..(start + share).min(items.len()))
    };
    let serve = || {
        let mut state = None;
        let mut done = Vec::new();
        while let Some(range) = take() {
            let state = state.get_or_insert_with(&begin);
            let results: Vec<R> =
                items[range.clone()].iter().map(|item| work(state, item)).collect();
            done.push((range.start, results));
        }
        done
    };
    let mut all = thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map_while(|_| spawn(scope, serve)).collect();
        let mut all = serve();
        for helper in helpers {
            match helper.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(start, _)| *start);
    all.into_iter().flat_map(|(_, results)| results).collect()
}

/// [`map_with`] where threads need no state.
pub fn map<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    share: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    map_with(items, threads, share, || (), |(), item| work(item))
}

/// Does `work` for every job on `threads` threads, and hands what it emits to `done` on this thread, in the
/// order of the jobs. Stops early when `done` fails; `emit` then says false.
pub fn in_order<J: Send, R: Send, E>(
    jobs: impl Iterator<Item = J> + Send,
    threads: usize,
    work: impl Fn(J, &mut dyn FnMut(R) -> bool) + Sync,
    done: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    ahead(jobs, threads, threads * AHEAD, work, done)
}

/// Does one job after the other: `work`, whose result goes to `done` on this thread, and meanwhile `work` for the two
/// jobs that follow. No more than these three are held at once.
pub fn in_turn<J: Send, R: Send, E>(
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(J) -> R + Sync,
    done: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let work = |job, emit: &mut dyn FnMut(R) -> bool| {
        emit(work(job));
    };
    ahead(jobs, 2, 2, work, done)
}

/// [`in_order`] where so many jobs may be begun ahead of the one whose results are being taken.
fn ahead<J: Send, R: Send, E>(
    jobs: impl Iterator<Item = J> + Send,
    threads: usize,
    most: usize,
    work: impl Fn(J, &mut dyn FnMut(R) -> bool) + Sync,
    mut done: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.max(1);
    let jobs = Mutex::new(jobs.enumerate());
    let queue = Queue { state: Mutex::new(State::default()), changed: Condvar::new() };
    let serve = || {
        let _leaving = Leaving(&queue);
        loop {
            // The walk may touch the disk; it is one thread's at a time.
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, job)) = next else { return };
            if !queue.begin(index, most) {
                return;
            }
            work(job, &mut |piece| queue.put(index, piece));
            queue.finish(index);
        }
    };
    let helped = thread::scope(|scope| {
        for number in 0..threads {
            queue.enter();
            if spawn(scope, serve).is_none() {
                queue.leave(false);
                if number == 0 {
                    return None;
                }
                break;
            }
        }
        let result = loop {
            match queue.take() {
                Some(piece) => {
                    if let Err(error) = done(piece) {
                        break Err(error);
                    }
                }
                None => break Ok(()),
            }
        };
        queue.stop();
        Some(result)
    });
    helped.unwrap_or_else(|| {
        let jobs = jobs.into_inner().unwrap_or_else(PoisonError::into_inner);
        alone(jobs.map(|(_, job)| job), work, done)
    })
}

/// [`in_order`] without any other thread.
fn alone<J, R, E>(
    jobs: impl Iterator<Item = J>,
    work: impl Fn(J, &mut dyn FnMut(R) -> bool),
    mut done: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let mut result = Ok(());
    for job in jobs {
        work(job, &mut |piece| {
            if result.is_ok() {
                result = done(piece);
            }
            result.is_ok()
        });
        if result.is_err() {
            break;
        }
    }
    result
}

/// A thread, if there is one to be had.
fn spawn<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> R + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, R>> {
    thread::Builder::new().spawn_scoped(scope, work).ok()
}

struct Queue<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct State<R> {
    /// The job whose results are being taken.
    turn: usize,
    waiting: BTreeMap<usize, Slot<R>>,
    /// Threads that are at work.
    present: usize,
    stopped: bool,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self { turn: 0, waiting: BTreeMap::new(), present: 0, stopped: false }
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

    /// Counts a thread in.
    fn enter(&self) {
        self.lock().present += 1;
    }

    /// Counts a thread out; one that panicked stops the others, so that the panic gets out.
    fn leave(&self, panicked: bool) {
        let mut state = self.lock();
        state.present -= 1;
        state.stopped |= panicked;
        self.changed.notify_all();
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

    fn take(&self) -> Option<R> {
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
            } else if state.present == 0 {
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

/// Counts a thread out, however it ends.
struct Leaving<'a, R>(&'a Queue<R>);

impl<R> Drop for Leaving<'_, R> {
    fn drop(&mut self) {
        self.0.leave(thread::panicking());
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
    fn mapped_results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        for (threads, share) in [(0, 0), (1, 1), (2, 1), (8, 7), (64, 32), (3, 5000)] {
            let squares = map_with(
                &items,
                threads,
                share,
                || 0,
                |count, item| {
                    *count += 1;
                    item * item + usize::from(*count == 0)
                },
            );
            assert!(squares.iter().zip(&items).all(|(square, item)| *square == item * item));
            assert_eq!(squares.len(), items.len());
        }
        assert!(map(&[0_u8; 0], 4, 1, |item| *item).is_empty());
    }

    #[test]
    fn without_another_thread_the_same_comes_out() {
        let (mut seen, pieces) = (Vec::new(), |job: usize, emit: &mut dyn FnMut(usize) -> bool| {
            let _ = (0..job % 3).all(|piece| emit(job * 10 + piece));
        });
        let all: Result<(), ()> = alone(0..50, pieces, |piece| {
            seen.push(piece);
            Ok(())
        });
        assert_eq!(all, Ok(()));
        let expected: Vec<_> =
            (0..50).flat_map(|job| (0..job % 3).map(move |piece| job * 10 + piece)).collect();
        assert_eq!(seen, expected);
        let mut count = 0;
        let ended = alone(0.., pieces, |piece| {
            count += 1;
            if piece == 201 { Err("enough") } else { Ok(()) }
        });
        assert_eq!((ended, count), (Err("enough"), 21));
    }

    #[test]
    fn what_is_done_in_turn_is_begun_two_jobs_ahead_and_no_more() {
        let begun = AtomicUsize::new(0);
        let mut next = 0;
        let work = |job: usize| {
            begun.fetch_max(job + 1, Ordering::SeqCst);
            job * job
        };
        let result = in_turn(0..50, work, |square| {
            assert_eq!(square, next * next);
            thread::sleep(std::time::Duration::from_millis(2));
            assert!(begun.load(Ordering::SeqCst) <= next + 3);
            next += 1;
            if next == 40 { Err("enough") } else { Ok(()) }
        });
        assert_eq!((result, next), (Err("enough"), 40));
        assert!(begun.load(Ordering::SeqCst) <= 42);
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
