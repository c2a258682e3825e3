//! A cluster of many nodes, cut into parts: the hosts that are more than nodes with the first nodes, and with so many nodes
//! at a time. So no more is held at once however many there are.

use std::{collections::HashSet, ops::Range, path::Path};

use super::{
    cluster::{Cluster, Host},
    stale::HOSTS,
};

/// So many nodes are a part. Each part has its price (the control plane is looked at again, directories are synced), and
/// so has each node that is held in memory (some 30 KiB).
///
/// Builds with debug assertions, which tests are, have smaller parts: what happens between two is met with few nodes.
const NODES: usize = if cfg!(debug_assertions) { 100 } else { 1000 };

/// So many of them are with the first, which all others wait for.
const FIRST: usize = NODES / 10;

/// A part of a cluster.
#[derive(Debug)]
pub struct ClusterPart {
    /// The hosts that are more than nodes, and the nodes of this part.
    pub cluster: Cluster,
    /// Whether it is the one with which the control plane is changed.
    pub is_first: bool,
    /// Whether it is all of the cluster.
    pub is_whole: bool,
}

impl ClusterPart {
    /// All of a cluster as one.
    pub fn whole(cluster: Cluster) -> Self {
        Self { cluster, is_first: true, is_whole: true }
    }

    /// Whether a host is this part's own: those that are more than nodes are in all of them, and the first one's.
    pub fn has(&self, host: &Host) -> bool {
        self.is_first || host.is_only_node()
    }

    /// How many are its own.
    pub fn count(&self) -> usize {
        self.cluster.hosts.iter().filter(|host| self.has(host)).count()
    }

    /// Its nodes, in words.
    pub fn names(&self) -> String {
        let nodes: Vec<&Host> =
            self.cluster.hosts.iter().filter(|host| host.is_only_node()).collect();
        match nodes.as_slice() {
            [] => String::from("the control plane"),
            [one] => one.name.to_string(),
            [first, .., last] => format!("{} to {} ({} nodes)", first.name, last.name, nodes.len()),
        }
    }
}

/// The folder of the host that a file is of, relative to DIR.
pub fn folder(file: &Path) -> Option<&Path> {
    file.ancestors().find(|above| above.parent() == Some(Path::new(HOSTS)))
}

/// The hosts that are more than nodes, and the nodes whose files these are, by paths relative to DIR. A host's own tree is
/// one part.
pub fn of_files<'p>(cluster: &Cluster, files: impl Iterator<Item = &'p Path>) -> ClusterPart {
    if !cluster.workspace {
        return ClusterPart::whole(cluster.clone());
    }
    let (mut folders, mut is_first) = (HashSet::new(), false);
    for file in files {
        match folder(file) {
            Some(folder) => drop(folders.insert(folder)),
            None => is_first = true,
        }
    }
    let is_touched = |host: &Host| folders.contains(cluster.root_of(host).as_path());
    is_first |= cluster.hosts.iter().any(|host| !host.is_only_node() && is_touched(host));
    let hosts = cluster.hosts.iter().filter(|host| !host.is_only_node() || is_touched(host));
    let hosts: Vec<Host> = hosts.cloned().collect();
    let is_whole = hosts.len() == cluster.hosts.len();
    let parts = PartedCluster::new(cluster);
    ClusterPart { cluster: Cluster { hosts, ..parts.shell }, is_first, is_whole }
}

/// A cluster that is cut into parts.
pub struct PartedCluster<'c> {
    core: Vec<&'c Host>,
    nodes: Vec<&'c Host>,
    /// All else.
    shell: Cluster,
}

impl<'c> PartedCluster<'c> {
    /// The parts of this one.
    pub fn new(cluster: &'c Cluster) -> Self {
        let (nodes, core) = cluster.hosts.iter().partition(|host| host.is_only_node());
        Self { core, nodes, shell: Cluster { hosts: Vec::new(), ..cluster.clone() } }
    }

    /// How many nodes there are that are nothing else.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes of each, by their numbers. One without many nodes is one part, and so is a host's own tree.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        match self.shell.workspace {
            true => ranges(self.nodes.len()),
            false => std::iter::once(0..self.nodes.len()).collect(),
        }
    }

    /// The one with these nodes.
    pub fn part(&self, nodes: Range<usize>, is_first: bool) -> ClusterPart {
        let is_whole = nodes.len() == self.nodes.len();
        let hosts = self.core.iter().chain(&self.nodes[nodes]).map(|host| (*host).clone());
        let cluster = Cluster { hosts: hosts.collect(), ..self.shell.clone() };
        ClusterPart { cluster, is_first, is_whole }
    }
}

/// So many nodes, part by part.
pub fn ranges(nodes: usize) -> Vec<Range<usize>> {
    if nodes <= NODES {
        return std::iter::once(0..nodes).collect();
    }
    let starts = std::iter::once(0).chain((FIRST..nodes).step_by(NODES));
    let ends = (FIRST..nodes).step_by(NODES).chain(std::iter::once(nodes));
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

/// The parts of a cluster.
pub fn all(cluster: &Cluster) -> impl Iterator<Item = ClusterPart> {
    let parts = PartedCluster::new(cluster);
    parts.ranges().into_iter().map(move |nodes| parts.part(nodes.clone(), nodes.start == 0))
}

/// Whether all of a cluster is one part.
pub fn is_one(cluster: &Cluster) -> bool {
    PartedCluster::new(cluster).ranges().len() == 1
}

/// A cluster without its nodes: what hangs on no host but those that are more is the same.
pub fn core(cluster: &Cluster) -> Cluster {
    match cluster.workspace {
        true => PartedCluster::new(cluster).part(0..0, true).cluster,
        false => cluster.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_each_node_once_and_the_first_is_small_where_there_are_others() {
        for nodes in [0, 1, NODES, NODES + 1, NODES + FIRST, 2 * NODES + FIRST, 7 * NODES + 3] {
            let ranges = ranges(nodes);
            let mut all = ranges.iter().cloned().flatten();
            assert!(all.by_ref().eq(0..nodes), "{nodes}: {ranges:?}");
            assert!(
                ranges.iter().all(|range| range.len() <= NODES && range.is_empty() == (nodes == 0))
            );
            let is_one = nodes <= NODES;
            assert_eq!((ranges.len() == 1, ranges[0].len() == FIRST), (is_one, !is_one), "{nodes}");
        }
    }
}
