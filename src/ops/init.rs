//! `certkit init`: makes the PKI of a declared cluster complete.

use std::path::Path;

use super::{
    change::{self, Decision, Error, Report},
    declared::{self, HostDraft},
    observe, prune,
};
use crate::{
    document,
    model::{
        cluster::Cluster,
        layout::Layout,
        plan::{Policy, Reason, reconcile::reconcile},
        shown::quoted,
        timestamp::Timestamp,
    },
};

/// Makes what is missing of the cluster, or says what would be made. If DIR declares a cluster, it must be this one.
pub fn run(cluster: &Cluster, change: &change::Request<'_>) -> Result<Report, Error> {
    change::run(change, |now| decide(cluster, change, now))
}

fn decide(
    cluster: &Cluster,
    change: &change::Request<'_>,
    now: Timestamp,
) -> Result<Decision, Error> {
    let dir = change.dir;
    if let Some(there) = declared::find(dir)?
        && there != *cluster
    {
        return Err(Error::Differs {
            path: dir.join(declared::FILE),
            difference: difference(&document::write(&there), &document::write(cluster)),
        });
    }
    let layout = Layout::new(cluster);
    let observation = observe::observe(&layout, dir).with_configs(&layout, dir)?;
    let is_new = !observation.observed.declared;
    let declaration = is_new.then(|| declared::new(document::write(cluster), Reason::Missing));
    let policy = Policy { declaration, ..Policy::COMPLETE };
    let mut plan = reconcile(&layout, &observation.observed, dir, &policy, now);
    if !is_new {
        plan.notes.extend(prune::notes(cluster, dir));
    }
    Ok(Decision { cluster: cluster.clone(), observation, plan })
}

/// Adds nodes to certkit.yaml, or to a file that it includes (`into` if that is said), and makes what is missing, or says
/// what would be made.
pub fn with_nodes(
    new: &[HostDraft],
    into: Option<&Path>,
    change: &change::Request<'_>,
) -> Result<Report, Error> {
    let dir = change.dir;
    change::run(change, |now| {
        let (declaration, cluster) = declared::with_nodes(dir, new, into)?;
        let layout = Layout::new(&cluster);
        let observation = observe::observe(&layout, dir).with_configs(&layout, dir)?;
        let policy = Policy { declaration, ..Policy::COMPLETE };
        let plan = reconcile(&layout, &observation.observed, dir, &policy, now);
        Ok(Decision { cluster, observation, plan })
    })
}

fn difference(there: &str, asked: &str) -> String {
    let mut there = there.lines();
    let mut asked = asked.lines();
    loop {
        match (there.next(), asked.next()) {
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return "in nothing that is written there".into(),
            (a, b) => {
                let shown =
                    |line: Option<&str>| quoted(line.unwrap_or("nothing").trim()).to_string();
                return format!("it has {}, asked for was {}", shown(a), shown(b));
            }
        }
    }
}
