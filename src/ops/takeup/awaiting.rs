//! The components that run on this machine and have not read what is in place now, where only a restart makes them:
//! those that were started before the files they read were changed.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use super::running::{identity, running};

use crate::{
    model::{
        layout::Layout,
        takeup::{self, TakeUp},
    },
    ops::observe::Observation,
};

/// How many of them a second has, in `/proc/PID/stat`: Linux says 100 to every program, whatever the kernel counts in
/// (`USER_HZ`).
const TICKS: i64 = 100;

/// Their ids, in the order of the catalogue. `observation` is of DIR, which is this machine's own tree.
pub fn awaiting(layout: &Layout<'_>, dir: &Path, observation: &Observation) -> Vec<&'static str> {
    let Some(boot) = boot_time() else { return Vec::new() };
    let files = Changes::look(layout, dir, observation);
    let places = observation.places();
    let mut found: Vec<&'static str> = Vec::new();
    for one in running() {
        if !one.names(|named| files.own.contains(&named)) {
            continue;
        }
        let (folder, told) = (&one.folder, &one.told);
        let Some(started) = started(folder, boot) else { continue };
        let (changed, amended, pairs) = files.since(layout, started);
        let all = takeup::changes(layout, &places, &changed, &amended, &pairs);
        let is_it = |change: &takeup::Affected<'_>| {
            change.component.id == told.component
                && change.how == TakeUp::Restart
                && change.host.is_none_or(|host| layout.cluster.is_local(host))
        };
        if all.iter().any(is_it) && !found.contains(&told.component) {
            found.push(told.component);
        }
    }
    found.sort_by_key(|id| crate::model::catalogue::COMPONENTS.iter().position(|c| c.id == *id));
    found
}

/// When the machine was started, in seconds since 1970.
fn boot_time() -> Option<i64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// When a process was started, in seconds since 1970.
fn started(folder: &Path, boot: i64) -> Option<i64> {
    let text = fs::read_to_string(folder.join("stat")).ok()?;
    // Its name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let ticks: i64 = rest.split(' ').nth(19)?.parse().ok()?;
    Some(boot + ticks / TICKS)
}

/// When the files of a host were changed, in seconds since 1970.
struct Changes {
    /// Device and number of each.
    own: HashSet<(u64, u64)>,
    /// By instance: what it shows and what is trusted of it, and its kubeconfig.
    instances: Vec<(Option<i64>, Option<i64>)>,
    pairs: Vec<(&'static str, Option<i64>)>,
}

impl Changes {
    fn look(layout: &Layout<'_>, dir: &Path, observation: &Observation) -> Self {
        let mut own = HashSet::new();
        let mut when = |file: &Path| {
            let metadata = fs::metadata(dir.join(file)).ok()?;
            own.insert(identity(&metadata));
            Some(metadata.ctime())
        };
        let mut instances = Vec::new();
        for (index, held) in observation.observed.instances.iter().enumerate() {
            let kubeconfig = held.place.kubeconfig().and_then(|file| when(file));
            let files = held.place.files();
            let trusted = observation.observed.trusted_files(index);
            let shown = files.iter().chain(trusted).filter(|file| {
                held.place.kubeconfig().is_none_or(|kubeconfig| kubeconfig != file.as_path())
            });
            instances.push((shown.filter_map(|file| when(file)).max(), kubeconfig));
        }
        let pairs = layout.key_pairs.iter().map(|spec| {
            (spec.id, [spec.private, spec.public].iter().filter_map(|f| when(Path::new(f))).max())
        });
        let pairs = pairs.collect();
        Self { own, instances, pairs }
    }

    /// What was changed after a moment: instances, kubeconfigs of instances, key pairs. The moment itself is known to
    /// the second before.
    fn since(
        &self,
        layout: &Layout<'_>,
        moment: i64,
    ) -> (Vec<usize>, Vec<usize>, Vec<&'static str>) {
        let is_later = |time: Option<i64>| time.is_some_and(|time| time > moment + 1);
        let (mut changed, mut amended) = (Vec::new(), Vec::new());
        for (index, (shown, kubeconfig)) in self.instances.iter().enumerate() {
            let is_embedded =
                layout.instances[index].place.kubeconfig().is_some() && shown.is_none();
            if is_later(*shown) || is_embedded && is_later(*kubeconfig) {
                changed.push(index);
            }
            if is_later(*kubeconfig) {
                amended.push(index);
            }
        }
        let pairs = self.pairs.iter().filter(|(_, time)| is_later(*time)).map(|(id, _)| *id);
        (changed, amended, pairs.collect())
    }
}
