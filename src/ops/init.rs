//! `certkit init`: makes the PKI of a declared cluster complete.

use std::path::Path;

use super::{
    change::{
        self, Decision, Error, Report,
        parts::{self, Making, Shortfall},
    },
    declared::{self, HostDraft},
    observe, prune,
};
use crate::{
    document,
    model::{
        cluster::Cluster,
        layout::Layout,
        part::ClusterPart,
        plan::{NewDeclaration, Policy, Reason, reconcile::reconcile},
        shown::quoted,
        timestamp::Timestamp,
    },
};

/// Makes what is missing of the cluster, or says what would be made. If DIR declares a cluster, it must be this one.
pub fn run(
    cluster: &Cluster,
    change: &change::Request<'_>,
    told: impl FnMut(Report, bool),
) -> Result<Shortfall, Error> {
    let is_this = || is_declared(cluster, change.dir).map(|_| ());
    let making = Making {
        decide: |part: &ClusterPart, now| match part.is_first {
            true => {
                let is_new = !is_declared(cluster, change.dir)?;
                let text = is_new.then(|| declared::new(document::write(cluster), Reason::Missing));
                let mut decision = complete(&part.cluster, text, change, now)?;
                if !is_new {
                    decision.plan.notes.extend(prune::notes(cluster, change.dir));
                }
                Ok(decision)
            }
            false => complete(&part.cluster, None, change, now),
        },
        confirm: is_this,
        concerns: |_: &ClusterPart| true,
    };
    parts::run(cluster, change, &making, told)
}

/// Whether DIR declares this cluster; an error where it declares another.
fn is_declared(cluster: &Cluster, dir: &Path) -> Result<bool, Error> {
    match declared::find(dir)? {
        Some(there) if there != *cluster => Err(Error::Differs {
            path: dir.join(declared::FILE),
            difference: difference(&document::write(&there), &document::write(cluster)),
        }),
        there => Ok(there.is_some()),
    }
}

fn complete(
    cluster: &Cluster,
    declaration: Option<NewDeclaration>,
    change: &change::Request<'_>,
    now: Timestamp,
) -> Result<Decision, Error> {
    let dir = change.dir;
    let layout = Layout::new(cluster);
    let observation = observe::observe(&layout, dir).with_configs(&layout, dir)?;
    let policy = Policy { declaration, ..Policy::COMPLETE };
    let plan = reconcile(&layout, &observation.observed, dir, &policy, now);
    Ok(Decision { cluster: cluster.clone(), observation, plan })
}

/// Adds nodes to certkit.yaml, or to a file that it includes (`into` if that is said), and makes what is missing, or says
/// what would be made.
pub fn with_nodes(
    new: &[HostDraft],
    into: Option<&Path>,
    change: &change::Request<'_>,
    told: impl FnMut(Report, bool),
) -> Result<Shortfall, Error> {
    let dir = change.dir;
    let (_, cluster) = declared::with_nodes(dir, new, into)?;
    let making = Making {
        decide: |part: &ClusterPart, now| match part.is_first {
            true => {
                let (declaration, now_declared) = declared::with_nodes(dir, new, into)?;
                let cluster = if part.is_whole { &now_declared } else { &part.cluster };
                complete(cluster, declaration, change, now)
            }
            false => complete(&part.cluster, None, change, now),
        },
        confirm: || match declared::with_nodes(dir, new, into)?.1 == cluster {
            true => Ok(()),
            false => Err(Error::Redeclared(dir.join(declared::FILE))),
        },
        concerns: |_: &ClusterPart| true,
    };
    parts::run(&cluster, change, &making, told)
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
