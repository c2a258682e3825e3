//! Certificates that are to take a place, judged before they do: by the rules and handshakes that would judge them
//! afterwards.

use std::path::Path;

use super::{handshakes::Scene, narrowing};
use crate::{
    model::{check, code::Severity, layout::Layout, timestamp::Timestamp},
    ops::observe::{Files, look},
    store::Transaction,
};

/// What `certkit verify` would say of these instances once a change is made, and does not say now.
pub fn faults(
    layout: &Layout<'_>,
    declared: bool,
    dir: &Path,
    change: &Transaction,
    now: Timestamp,
    instances: &[usize],
) -> Vec<String> {
    let before = look(layout, declared, &mut Files::new(dir));
    let after = look(layout, declared, &mut Files::after(dir, change));
    let known = check::judge(&Scene::new(layout, &before, None, now).evidence);
    let found = check::judge(&Scene::new(layout, &after, None, now).evidence).into_iter().filter(
        |finding| {
            finding.severity >= Severity::Warning
                && finding.instances.iter().any(|index| instances.contains(index))
                && !known.iter().any(|k| k.code == finding.code && k.what == finding.what)
        },
    );
    let mut faults: Vec<String> =
        found.map(|finding| format!("{}: {}", finding.subject, finding.what)).collect();
    let broken = narrowing::broken(layout.cluster, declared, dir, change, now).into_iter();
    let broken = broken.filter(|broken| broken.waits_for.is_none());
    faults.extend(broken.map(|broken| format!("it works now and would not: {}", broken.path)));
    faults
}
