//! `certkit recover`: the cluster was off too long, no API answers, and what it would start with has expired. What must be
//! made anew is, offline and in one transaction; CAs that have expired keep their key, so that everything they signed
//! goes on leading to them.

use super::{
    change::{self, Decision, Error, Report},
    declared, observe,
};
use crate::model::{
    adopt,
    layout::Layout,
    plan::{Policy, Renewal, Selection, reconcile::reconcile},
    timestamp::Timestamp,
};

/// Makes anew what has expired or is about to, or says what would be made.
pub fn run(change: &change::Request<'_>) -> Result<Report, Error> {
    change::run(change, |now| decide(change, now))
}

fn decide(change: &change::Request<'_>, now: Timestamp) -> Result<Decision, Error> {
    let dir = change.dir;
    let (cluster, declared) = declared::or_anything(dir)?;
    let layout = Layout::new(&cluster);
    let observation = observe::observe(&layout, dir);
    if !declared && adopt::is_empty(&observation.observed) {
        return Err(Error::Nothing(dir.to_path_buf()));
    }
    let ended = |index: &usize| {
        let held = &observation.observed.instances[*index];
        layout.instances[*index].spec.is_ca()
            && held.certificate().is_some_and(|ca| ca.validity.not_after < now)
    };
    let policy = Policy {
        renews: (0..layout.instances.len()).filter(ended).collect(),
        renewal: Some(Renewal {
            selection: Selection::Due,
            within: None,
            key: None,
            csr_only: false,
        }),
        can_open: change.passwords.can_open(),
        ..Policy::default()
    };
    let plan = reconcile(&layout, &observation.observed, dir, &policy, now);
    Ok(Decision { cluster, observation, plan })
}
