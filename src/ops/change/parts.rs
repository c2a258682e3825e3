//! A cluster of many nodes is changed part by part: the hosts that are more than nodes with the first nodes, then so many
//! nodes at a time, each part in a transaction of its own. So memory, open files and the work that a kill undoes do not
//! grow with the fleet, and a rerun does what is left. To people it is one change: it has one lock and one report, and its
//! backups are listed, kept and undone together.

use std::{error::Error as _, io, ops::Range};

use super::{Decision, Error, Looked, Looker, Report, Request, Run};
use crate::{
    model::{
        cluster::Cluster,
        part::{ClusterPart, PartedCluster},
        timestamp::Timestamp,
    },
    parallel::{self, progress},
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
///
/// Once the control plane is as it is to be, the next part is made in memory while one is written.
pub fn run<D, C, O>(
    cluster: &Cluster,
    request: &Request<'_>,
    making: &Making<D, C, O>,
    mut told: impl FnMut(Report, bool),
) -> Result<Shortfall, Error>
where
    D: Fn(&ClusterPart, Timestamp) -> Result<Decision, Error> + Sync,
    C: Fn() -> Result<(), Error> + Sync,
    O: Fn(&ClusterPart) -> bool + Sync,
{
    let parts = PartedCluster::new(cluster);
    let looker = Looker::new(request)?;
    let mut run = Run::new(&looker);
    let open = parts.ranges();
    if let [_] = open.as_slice() {
        let part = parts.part(0..parts.nodes(), true);
        told(run.part(|now| (making.decide)(&part, now), || Ok(()))?, true);
        return Ok(Shortfall::default());
    }
    let look = |nodes: Range<usize>, is_first: bool| {
        let part = parts.part(nodes, is_first);
        let is_concerned = (making.concerns)(&part);
        let looked = is_concerned.then(|| looker.look(|now| (making.decide)(&part, now)));
        (part, looked)
    };
    let mut make = |nodes: Range<usize>, is_first: bool, seen: Option<Seen>| {
        let (part, looked) = seen.unwrap_or_else(|| look(nodes, is_first));
        let Some(looked) = looked else { return Ok(()) };
        let decide = |now| (making.decide)(&part, now);
        let finished = looked.and_then(|looked| run.finish(looked, decide, &making.confirm));
        match finished {
            Ok(report) => {
                told(Report { only_nodes: !part.is_first, ..report }, false);
                Ok(())
            }
            // Another certkit is at it, or what is declared was changed: it is nobody's fault here.
            Err(error) if run.is_shut => Err(Failed::All(error)),
            Err(error) => Err(Failed::Part(error)),
        }
    };
    let name = |nodes| parts.part(nodes, false).names();
    let mut way = Way::new(parts.nodes(), &name);
    let mut open = open.into_iter();
    while way.is_first
        && let Some(nodes) = open.next()
    {
        way.go(nodes, None, &mut |nodes, is_first| make(nodes, is_first, None))?;
    }
    if way.is_over {
        return Ok(way.end());
    }
    parallel::in_turn(
        open,
        |nodes| (nodes.clone(), look(nodes, false)),
        |(nodes, seen)| {
            let came = Some(make(nodes.clone(), false, Some(seen)));
            way.go(nodes, came, &mut |nodes, is_first| make(nodes, is_first, None))?;
            if way.is_over { Err(None) } else { Ok(()) }
        },
    )
    .or_else(|stopped: Option<Error>| stopped.map_or(Ok(()), Err))?;
    Ok(way.end())
}

/// A part, and what became of looking at it; nothing where there is nothing to be decided about it.
type Seen = (ClusterPart, Option<Result<Looked, Error>>);

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
    open: Vec<Range<usize>>,
    nodes: usize,
    name: impl Fn(Range<usize>) -> String,
    make: &mut Make<'_>,
) -> Result<Shortfall, Error> {
    let mut way = Way::new(nodes, &name);
    for nodes in open {
        way.go(nodes, None, make)?;
    }
    Ok(way.end())
}

/// Makes the change of these nodes, and whether it is the first.
type Make<'m> = dyn FnMut(Range<usize>, bool) -> Result<(), Failed> + 'm;

/// The way through all nodes.
struct Way<'n> {
    task: progress::Task,
    name: &'n dyn Fn(Range<usize>) -> String,
    nodes: usize,
    /// How many of them were tried.
    tried: usize,
    /// Whether nothing was changed yet.
    is_first: bool,
    /// Whether the rest would meet what the last one has met.
    is_over: bool,
    failed: Vec<(String, Error)>,
}

impl<'n> Way<'n> {
    fn new(nodes: usize, name: &'n dyn Fn(Range<usize>) -> String) -> Self {
        let task = progress::task(WHAT, Some(nodes));
        Self { task, name, nodes, tried: 0, is_first: true, is_over: false, failed: Vec::new() }
    }

    /// Goes on by these nodes; what came of them where they were tried already.
    fn go(
        &mut self,
        nodes: Range<usize>,
        mut came: Option<Result<(), Failed>>,
        make: &mut Make<'_>,
    ) -> Result<(), Error> {
        let mut open = vec![nodes];
        while !self.is_over
            && let Some(nodes) = open.pop()
        {
            let is_first = self.is_first;
            match came.take().unwrap_or_else(|| make(nodes.clone(), is_first)) {
                Ok(()) => self.is_first = false,
                Err(Failed::All(error)) => return Err(error),
                // The others can be changed, whatever host it is.
                Err(Failed::Part(error))
                    if !nodes.is_empty()
                        && (is_first || nodes.len() > 1)
                        && !is_lasting(&error) =>
                {
                    let half = nodes.start + nodes.len() / 2;
                    let middle = if is_first { nodes.start } else { half };
                    open.extend([middle..nodes.end, nodes.start..middle]);
                    continue;
                }
                Err(Failed::Part(error)) if is_first => return Err(error),
                Err(Failed::Part(error)) => {
                    self.is_over = is_lasting(&error);
                    self.failed.push(((self.name)(nodes.clone()), error));
                }
            }
            self.tried += nodes.len();
            self.task.steps(nodes.len());
        }
        Ok(())
    }

    fn end(self) -> Shortfall {
        Shortfall { failed: self.failed, left: self.nodes - self.tried }
    }
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
