//! `certkit fleet check`: what ends when in many clusters, one line each.

use std::path::{Path, PathBuf};

use super::{declared, expiry};
use crate::{
    model::{
        check::expiry::{Level, Row, Status, Thresholds, Verdict, judge},
        duration::Span,
        timestamp::Timestamp,
    },
    parallel::{self, progress},
};

/// What to look at.
#[derive(Debug)]
pub struct Request<'a> {
    /// The clusters' directories.
    pub dirs: &'a [PathBuf],
    /// When the end is near.
    pub thresholds: Thresholds,
    /// The time it is judged at.
    pub now: Timestamp,
    /// This machine's name.
    pub machine: &'a str,
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct ClusterExpiry {
    /// Its directory, absolute, for people: nothing in it steers the terminal.
    pub dir: String,
    /// Its name, where it is declared.
    pub name: Option<String>,
    /// How many certificates are of each level, by its number.
    pub counts: [usize; 4],
    /// What is worst in it, and of that what ends first.
    pub worst: Option<WorstRow>,
}

/// What is to be looked at first in a cluster.
#[derive(Clone, Debug)]
pub struct WorstRow {
    /// The certificate's name.
    pub name: String,
    /// Its host, in a workspace.
    pub host: Option<String>,
    /// In a word.
    pub status: Status,
    /// When it ends; none where there is no certificate.
    pub not_after: Option<Timestamp>,
    /// The time until then.
    pub left: Option<Span>,
    /// Why it is not simply as the status says.
    pub reason: Option<String>,
}

impl ClusterExpiry {
    /// The worst level of all that was found. Nothing seen is nothing known.
    pub fn level(&self) -> Level {
        self.worst.as_ref().map_or(Level::Unknown, |worst| worst.status.level())
    }

    fn add(&mut self, row: WorstRow) {
        self.counts[row.status.level() as usize] += 1;
        if self.worst.as_ref().is_none_or(|worst| order(&row) < order(worst)) {
            self.worst = Some(row);
        }
    }
}

/// What comes first: the worst, then what ends first.
fn order(row: &WorstRow) -> (std::cmp::Reverse<Level>, Option<Timestamp>) {
    (std::cmp::Reverse(row.status.level()), row.not_after)
}

/// Looks at every cluster, many at a time; the worst one first, those alike in the order in which they were named. What cannot
/// be read is a cluster of which nothing is known.
pub fn check(request: &Request<'_>) -> Vec<ClusterExpiry> {
    let processors = parallel::processors();
    // One cluster may be as large as hundreds.
    let threads = (processors / request.dirs.len().max(1)).max(1);
    let task = progress::task("clusters", Some(request.dirs.len()));
    let mut clusters = parallel::map(request.dirs, processors, 1, |dir| {
        let cluster = one(dir, request, threads);
        task.step();
        cluster
    });
    clusters.sort_by_key(|cluster| {
        let worst = cluster.worst.as_ref().and_then(|worst| worst.not_after);
        (std::cmp::Reverse(cluster.level()), worst)
    });
    clusters
}

fn one(dir: &Path, request: &Request<'_>, threads: usize) -> ClusterExpiry {
    let mut cluster =
        ClusterExpiry { dir: expiry::shown(dir), name: None, counts: [0; 4], worst: None };
    let asked = expiry::Request::of(dir, request.machine, request.now, threads);
    // What is wrong with it is among the rows.
    cluster.name = declared::find(dir).ok().flatten().map(|cluster| cluster.name);
    let judged = |row: Row| {
        let Verdict { status, left, reason } = judge(&row, request.now, &request.thresholds);
        let not_after = row.facts().map(|facts| facts.validity.not_after);
        WorstRow { name: row.name, host: row.host, status, not_after, left, reason }
    };
    let added = expiry::run(&asked, judged, |rows| {
        rows.into_iter().for_each(|row| cluster.add(row));
        Ok(())
    });
    // Nothing is written here, so nothing fails; if it did, not all would have been seen.
    if let Err(error) = added {
        let reason = Some(error.to_string());
        let (name, status) = (cluster.dir.clone(), Status::Unknown);
        cluster.add(WorstRow { name, host: None, status, not_after: None, left: None, reason });
    }
    cluster
}
