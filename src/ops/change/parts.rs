//! A cluster of many nodes is changed part by part: the hosts that are more than nodes with the first nodes, then so many
//! nodes at a time, each part in a transaction of its own. So memory, open files and the work that a kill undoes do not
//! grow with the fleet, and a rerun does what is left. To people it is one change: it has one lock and one report, and its
//! backups are listed, kept and undone together.

use std::{error::Error as _, io, ops::Range};

use super::{Decision, Error, Report, Request, Run};
use crate::{
    model::{
        cluster::Cluster,
        part::{ClusterPart, PartedCluster},
        timestamp::Timestamp,
    },
    parallel::progress,
};

/// What of a change could not be made, where the rest was.
#[derive(Debug, Default)]
pub struct Shortfall {
    /// The nodes that could not be changed, and why.
    pub failed: Vec<(String, Error)>,
    /// How many nodes were not tried after that.
    pub left: usize,
}

/// What is done with each part.
pub struct Making<D, C, O> {
    /// What is decided about one.
    pub decide: D,
    /// Asked once nobody else can change anything: whether the cluster still is the one that was cut into parts.
    pub confirm: C,
    /// Whether there is anything to be decided about one.
    pub concerns: O,
}

/// Makes a change of a cluster, and hands over the report of each part, and whether it is the only one. A host that cannot
/// be changed is left out and named; where that is one of the control plane, nothing is changed.
pub fn run<D, C, O>(
    cluster: &Cluster,
    request: &Request<'_>,
    making: &Making<D, C, O>,
    mut told: impl FnMut(Report, bool),
) -> Result<Shortfall, Error>
where
    D: Fn(&ClusterPart, Timestamp) -> Result<Decision, Error>,
    C: Fn() -> Result<(), Error>,
    O: Fn(&ClusterPart) -> bool,
{
    let parts = PartedCluster::new(cluster);
    let mut run = Run::new(request)?;
    let open = parts.ranges();
    if let [_] = open.as_slice() {
        let part = parts.part(0..parts.nodes(), true);
        told(run.part(|now| (making.decide)(&part, now), || Ok(()))?, true);
        return Ok(Shortfall::default());
    }
    let mut make = |nodes: Range<usize>, is_first: bool| {
        let part = parts.part(nodes, is_first);
        if !(making.concerns)(&part) {
            return Ok(());
        }
        match run.part(|now| (making.decide)(&part, now), &making.confirm) {
            Ok(report) => {
                told(Report { only_nodes: !is_first, ..report }, false);
                Ok(())
            }
            // Another certkit is at it, or what is declared was changed: it is nobody's fault here.
            Err(error) if run.is_shut => Err(Failed::All(error)),
            Err(error) => Err(Failed::Part(error)),
        }
    };
    let name = |nodes| parts.part(nodes, false).names();
    each(open, parts.nodes(), name, &mut make)
}

/// Why a part was not changed.
pub enum Failed {
    /// No other can be either.
    All(Error),
    /// It is a matter of this one.
    Part(Error),
}

/// Makes a change of so many nodes, these ranges of them at a time. Whatever else is to be changed is changed with the
/// first, or nothing is; a range that cannot be changed is halved until the node is found that is in the way, and that is
/// left out and named.
pub fn each(
    mut open: Vec<Range<usize>>,
    nodes: usize,
    name: impl Fn(Range<usize>) -> String,
    make: &mut dyn FnMut(Range<usize>, bool) -> Result<(), Failed>,
) -> Result<Shortfall, Error> {
    let task = progress::task(WHAT, Some(nodes));
    let mut shortfall = Shortfall::default();
    open.reverse();
    let mut is_first = true;
    while let Some(nodes) = open.pop() {
        match make(nodes.clone(), is_first) {
            Ok(()) => is_first = false,
            Err(Failed::All(error)) => return Err(error),
            // The others can be changed, whatever host it is.
            Err(Failed::Part(error))
                if !nodes.is_empty() && (is_first || nodes.len() > 1) && !is_lasting(&error) =>
            {
                let middle = if is_first { nodes.start } else { nodes.start + nodes.len() / 2 };
                open.extend([middle..nodes.end, nodes.start..middle]);
                continue;
            }
            Err(Failed::Part(error)) if is_first => return Err(error),
            Err(Failed::Part(error)) => {
                let lasts = is_lasting(&error);
                shortfall.failed.push((name(nodes.clone()), error));
                if lasts {
                    shortfall.left = open.iter().map(Range::len).sum();
                    break;
                }
            }
        }
        task.steps(nodes.len());
    }
    Ok(shortfall)
}

/// What is counted while that goes on.
pub const WHAT: &str = "nodes";

/// Whether the next part would meet the same.
fn is_lasting(error: &Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut cause = error.source();
    while let Some(one) = cause {
        let kind = one.downcast_ref::<io::Error>().map(io::Error::kind);
        if let Some(QuotaExceeded | ReadOnlyFilesystem | StorageFull) = kind {
            return true;
        }
        cause = one.source();
    }
    error.is_decided()
}
