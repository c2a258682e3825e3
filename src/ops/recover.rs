//! `certkit recover`: the cluster was off too long, no API answers, and what it would start with has expired. What must be
//! made anew is, offline: all of the control plane in one transaction, and many nodes part by part. CAs that have expired
//! keep their key, so that everything they signed goes on leading to them.

use std::collections::BTreeSet;

use super::{
    change::{
        self, Decision, Error, Report,
        parts::{self, Making, Shortfall},
    },
    declared, observe,
};
use crate::model::{
    adopt,
    layout::Layout,
    part::ClusterPart,
    plan::{Policy, Renewal, Selection, reconcile::reconcile},
    timestamp::Timestamp,
};

/// Makes anew what has expired or is about to, or says what would be made.
pub fn run(
    change: &change::Request<'_>,
    told: impl FnMut(Report, bool),
) -> Result<Shortfall, Error> {
    let dir = change.dir;
    let (whole, _) = declared::or_anything(dir)?;
    let making = Making {
        decide: |part: &ClusterPart, now| decide(change, part, now),
        confirm: || match declared::load(dir)? == whole {
            true => Ok(()),
            false => Err(Error::Redeclared(dir.join(declared::FILE))),
        },
        concerns: |_: &ClusterPart| true,
    };
    parts::run(&whole, change, &making, told)
}

fn decide(
    change: &change::Request<'_>,
    part: &ClusterPart,
    now: Timestamp,
) -> Result<Decision, Error> {
    let dir = change.dir;
    let (cluster, declared) = match part.is_whole {
        true => declared::or_anything(dir)?,
        false => (part.cluster.clone(), true),
    };
    let layout = Layout::new(&cluster);
    let observation = observe::observe(&layout, dir);
    if !declared && adopt::is_empty(&observation.observed) {
        return Err(Error::Nothing(dir.to_path_buf()));
    }
    let authorities = (0..layout.instances.len()).filter(|at| layout.instances[*at].spec.is_ca());
    let ended = |index: &usize| {
        let held = &observation.observed.instances[*index];
        held.certificate().is_some_and(|ca| ca.validity.not_after < now)
    };
    let (renews, others) = authorities.partition(ended);
    let policy = Policy {
        renews,
        // Nodes that come after their CA have the certificate that it had before, whichever run gave it the new one.
        catches_up: if part.is_whole { BTreeSet::new() } else { others },
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
