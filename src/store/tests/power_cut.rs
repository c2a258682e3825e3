//! The power is cut at any call, and whatever was not synced may be lost.

use proptest::prelude::*;

use super::super::simulated::{Fault, Seen, SimulatedDisk};
use super::scenario::{DIR, PATHS, Scenario, Step, View, commit, open, view};

/// A small generator of its own: one number names a whole way for the disk to lose things.
struct Choices {
    state: u64,
    /// In four out of how many cases something is lost: 0 nothing, 4 everything, or any mix.
    bias: u64,
}

impl Choices {
    fn new(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { state, bias: seed % 7 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }

    fn below(&mut self, n: usize) -> usize {
        // Nearly everything is lost, or nearly nothing: most faults need one odd thing out.
        let odd = self.next().is_multiple_of(8);
        match self.bias {
            0 => n - 1,
            1 => 0,
            2 | 3 if !odd => 0,
            4 | 5 if !odd => n - 1,
            _ => (self.next() % n as u64) as usize,
        }
    }
}

/// How one run ends: killed at a call, and then perhaps without power.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: usize,
    power: Option<u64>,
}

fn after(disk: &SimulatedDisk, power: Option<u64>) -> SimulatedDisk {
    let Some(seed) = power else { return disk.fork() };
    let mut choices = Choices::new(seed);
    disk.cut_power(&mut |n| choices.below(n))
}

/// Runs the transaction and cuts it, then recovers, cut too, until it is left in peace.
fn check(
    scenario: &Scenario,
    before: &SimulatedDisk,
    new: &View,
    cuts: &[Cut],
) -> Result<(), String> {
    let old = view(before)?;
    let disk = before.clone();
    disk.set_fault(Fault::Crash(cuts[0].at));
    let committed = commit(&disk, scenario.transaction()).is_ok();
    if committed {
        // What others write afterwards stays: nothing of the transaction comes up again.
        let path = format!("{DIR}/{}", PATHS[0]);
        if let Some(Seen::File { content, .. }) = disk.tree().get(&path) {
            disk.overwrite(&path, "theirs");
            let disk = after(&disk, cuts[0].power);
            open(&disk).map_err(|error| format!("after another's change: {error:?}"))?;
            let found = disk.overwrite(&path, content);
            return if found.as_deref() == Some("theirs") && view(&disk)? == *new {
                Ok(())
            } else {
                Err(format!("another's change became {found:?}"))
            };
        }
    }
    let mut disk = after(&disk, cuts[0].power);
    for cut in &cuts[1..] {
        disk.set_fault(Fault::Crash(cut.at));
        let _ = open(&disk);
        disk = after(&disk, cut.power);
    }
    if let Err(error) = open(&disk) {
        return Err(format!("recovery fails: {error:?}"));
    }
    let found = view(&disk)?;
    match found == *new || (!committed && found == old) {
        true => Ok(()),
        false => Err(format!("neither old nor new (committed: {committed}): {found:#?}")),
    }
}

fn step() -> impl Strategy<Value = Step> {
    use Step::{Keep, Remove, Write, WriteKeepingMode};
    prop_oneof![Just(Keep), Just(Remove), Just(Write), Just(Write), Just(WriteKeepingMode)]
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let files = prop::collection::vec((any::<bool>(), step()), PATHS.len());
    let extra = prop_oneof![60 => Just(0_usize), 1 => Just(60)];
    let hosts = prop_oneof![30 => Just(0_usize), 2 => 1..12_usize, 1 => Just(30)];
    (prop::bool::weighted(0.8), any::<bool>(), files, 0..3_usize, extra, hosts).prop_map(
        |(dir_exists, has_history, files, log_lines, extra, hosts)| Scenario {
            dir_exists,
            has_history,
            files,
            log_lines,
            extra,
            hosts,
        },
    )
}

fn cuts() -> impl Strategy<Value = Vec<(prop::sample::Index, Option<u64>)>> {
    let power = prop::option::weighted(0.9, any::<u64>());
    prop::collection::vec((any::<prop::sample::Index>(), power), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_is_lost_the_state_is_wholly_old_or_wholly_new(
        scenario in scenario(),
        cuts in cuts(),
    ) {
        let (done, calls) = scenario.done();
        let new = view(&done).map_err(TestCaseError::fail)?;
        // The first may come after the last call; a recovery is shorter than the transaction.
        let cuts: Vec<Cut> = cuts
            .into_iter()
            .map(|(at, power)| Cut { at: at.index(calls.len() + 1), power })
            .collect();
        check(&scenario, &scenario.disk(), &new, &cuts).map_err(TestCaseError::fail)?;
    }
}

/// One of each kind.
fn scenarios() -> [Scenario; 6] {
    let (few, many) = (Scenario::fleet(9), Scenario::fleet(30));
    [Scenario::full(), Scenario::first(), Scenario::bulk(), Scenario::line(), few, many]
}

#[test]
fn a_kill_or_power_cut_at_every_call_leaves_old_or_new() {
    for scenario in scenarios() {
        let (done, calls) = scenario.done();
        let (before, new) = (scenario.disk(), view(&done).unwrap());
        for at in 0..=calls.len() {
            let is_large = scenario.extra + scenario.hosts > 0;
            for power in std::iter::once(None).chain((0..if is_large { 4 } else { 40 }).map(Some)) {
                let cuts = [Cut { at, power }];
                let checked = check(&scenario, &before.fork(), &new, &cuts);
                let call = calls.get(at).map_or("the end", String::as_str);
                checked.unwrap_or_else(|e| panic!("{power:?} before call {at} ({call}): {e}"));
            }
        }
    }
}

#[test]
fn a_line_of_the_log_alone_is_one_write_and_one_sync() {
    let (_, calls) = Scenario::line().done();
    let log = format!("{DIR}/.certkit/log.jsonl");
    assert_eq!(calls, ["fallocate", "write", "fsync"].map(|call| format!("{call} {log}")));
}

/// The proof that the tests above can fail, and that no sync is there for nothing.
#[test]
fn without_any_one_of_its_syncs_the_protocol_breaks() {
    for scenario in scenarios() {
        let (done, calls) = scenario.done();
        let (before, new) = (scenario.disk(), view(&done).unwrap());
        // Those above a directory that was there are for a run that made it and was killed.
        let syncs = calls.iter().enumerate().filter(|(_, call)| {
            (call.starts_with("fsync") || call.starts_with("syncfs"))
                && *call != "fsync "
                && (*call != "fsync /etc" || !scenario.dir_exists)
        });
        for (sync, call) in syncs {
            let breaks = (0..600_u64).any(|seed| {
                let mut choices = Choices::new(seed * 7 + 6);
                let at = sync + 1 + choices.below(calls.len() - sync);
                let cuts = [Cut { at, power: Some(seed) }];
                check(&scenario, &before.forgetting(sync), &new, &cuts).is_err()
            });
            assert!(breaks, "nothing breaks without call {sync}: {call} of {DIR}");
        }
    }
}
