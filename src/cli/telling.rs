//! What is told of a change: of its one report, or of those of its parts, one after the other, so that of a large cluster
//! no more is kept than is told.

use std::{collections::HashSet, path::PathBuf};

use serde_json::{Value, json};

use super::{
    Format,
    output::{self, grid::Column},
};
use crate::{
    model::{
        cluster::{Cluster, HostKeys},
        part,
        plan::{Action, Reason, Step, obstacle::Blocked},
        timestamp::Timestamp,
    },
    ops::{
        change::{Report, parts::Shortfall},
        session::Aftermath,
        takeup::Uptake,
    },
};

/// A step as data.
pub fn step(report: &Report, step: &Step, action: &str) -> Value {
    let issued = report.record_of(step);
    json!({
        "action": action,
        "name": step.label,
        "files": step.files,
        "reason": step.reason.to_string(),
        "notAfter": issued.map(|r| r.not_after.to_string()),
        "fingerprint": issued.map(|r| r.fingerprint.clone()),
    })
}

/// How a command's steps are told.
pub struct Words {
    /// As a row of a table.
    pub row: fn(&Report, &Step) -> Vec<String>,
    /// As data.
    pub data: fn(&Report, &Step) -> Value,
    /// Whether one that changes nothing is told all the same.
    pub tells_kept: fn(&Step) -> bool,
}

/// What is told of steps.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// A document of them all.
    Data,
    /// A table: rows of those that change something, or of all; so many of more than so many.
    Table {
        /// Whether those that change nothing are told, too.
        kept: bool,
        /// A table that is longer than the first is cut to the second.
        limit: Option<(usize, usize)>,
    },
}

impl Wanted {
    /// What is wanted of a command that is run so; a table that nobody asked to be whole is cut.
    pub fn of(output: Format, dry_run: bool, verbose: bool, limit: (usize, usize)) -> Self {
        match output {
            Format::Json | Format::Yaml => Self::Data,
            Format::Table | Format::Wide => {
                let is_whole = dry_run || verbose || output.is_wide();
                Self::Table { kept: verbose, limit: (!is_whole).then_some(limit) }
            }
        }
    }
}

impl Wanted {
    /// No rows yet, of a table that is wanted so.
    pub fn rows(self) -> Rows {
        Rows { limit: self.limit(), rows: Vec::new(), more: 0 }
    }

    /// Lines of a text that is wanted so.
    pub fn lines(self, lines: impl ExactSizeIterator<Item = String>) -> String {
        let (told, all) = (told(self.limit(), lines.len()), lines.len());
        lines.take(told).collect::<String>() + &and_more(all - told)
    }

    /// Whether what is long is cut.
    pub fn is_cut(self) -> bool {
        self.limit().is_some()
    }

    fn limit(self) -> Option<(usize, usize)> {
        match self {
            Self::Data => None,
            Self::Table { limit, .. } => limit,
        }
    }
}

/// Rows of a table, of which no more are kept than are told.
#[derive(Debug)]
pub struct Rows {
    limit: Option<(usize, usize)>,
    rows: Vec<Vec<String>>,
    /// How many further ones there are.
    more: usize,
}

impl Rows {
    /// Adds one.
    pub fn add(&mut self, row: impl FnOnce() -> Vec<String>) {
        match self.limit {
            Some((most, _)) if self.rows.len() > most => self.more += 1,
            _ => self.rows.push(row()),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, with how many it leaves out.
    pub fn table(&self, columns: &[Column], wide: bool) -> String {
        let told = told(self.limit, self.rows.len());
        let rest = self.rows.len() - told + self.more;
        output::table(columns, &self.rows[..told], wide) + &and_more(rest)
    }
}

/// How many of so many are told.
fn told(limit: Option<(usize, usize)>, all: usize) -> usize {
    match limit {
        Some((most, few)) if all > most => few,
        _ => all,
    }
}

/// What is said of those that are not. Not that `-o wide` has them: run again it does something else, `--rollback` undoes more.
fn and_more(rest: usize) -> String {
    match rest {
        0 => String::new(),
        _ => format!("... and {rest} more; .certkit/log.jsonl has them all\n"),
    }
}

/// Hosts that are named before they are only counted.
pub const NAMED: usize = 5;

/// Names of hosts, and how many there are.
#[derive(Debug, Default)]
pub struct HostTally {
    /// The first ones.
    pub names: Vec<String>,
    /// How many there are.
    pub count: usize,
}

impl HostTally {
    fn add(&mut self, name: &dyn ToString) {
        self.count += 1;
        if self.names.len() <= NAMED {
            self.names.push(name.to_string());
        }
    }
}

/// What is told of a change.
pub struct Telling {
    words: Words,
    wanted: Wanted,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether certkit.yaml declares the cluster.
    pub declared: bool,
    /// Whether DIR is an operator's.
    pub workspace: bool,
    /// Whether some keys are made on hosts, so that archives of their trees are not whole.
    pub keys_on_hosts: bool,
    /// Whether one root stands over the CAs.
    pub single_root: bool,
    /// The hosts of the cluster.
    pub hosts: HostTally,
    /// Those that have new certificates.
    pub renewed: HostTally,
    /// Steps as rows.
    pub rows: Rows,
    /// Steps as data.
    pub steps: Vec<Value>,
    /// Whether anything changes.
    pub changes: bool,
    /// What is new of the whole cluster's own: label and files. Hosts have files of the same label.
    changed: HashSet<(String, Vec<PathBuf>)>,
    /// Requests that are made, and those whose signature is awaited: file and label.
    pub requests: Vec<(PathBuf, String)>,
    /// Whether any is made now.
    pub requested: bool,
    /// Whether a signature is awaited.
    pub waiting: bool,
    /// Certificates whose term was cut to their CA's.
    pub clamped: Vec<(String, Timestamp)>,
    /// What the user should know besides.
    pub notes: Vec<String>,
    /// What is due and cannot be done.
    pub blocked: Vec<Blocked>,
    /// What ends first.
    pub next: Option<(String, Timestamp)>,
    /// When time alone makes something else of it; none where that is not known of all.
    until: Option<Timestamp>,
    /// Where what was replaced is kept; the first of several.
    pub backup: Option<PathBuf>,
    /// What was found or failed once all was in place.
    pub warnings: Vec<String>,
    /// Who has to take the change up.
    pub outcomes: Vec<Uptake>,
    /// What an earlier run had left.
    pub recovered: Option<String>,
    /// The nodes that could not be changed.
    pub shortfall: Shortfall,
    aftermaths: Vec<Aftermath>,
    /// How many reports there were.
    reports: usize,
    /// Steps and obstacles that every part meets again, as long as they are not done.
    told: HashSet<String>,
}

impl Telling {
    /// Nothing yet.
    pub fn new(words: Words, wanted: Wanted, dry_run: bool) -> Self {
        Self {
            words,
            wanted,
            dry_run,
            declared: true,
            workspace: false,
            keys_on_hosts: false,
            single_root: false,
            hosts: HostTally::default(),
            renewed: HostTally::default(),
            rows: wanted.rows(),
            steps: Vec::new(),
            changes: false,
            changed: HashSet::new(),
            requests: Vec::new(),
            requested: false,
            waiting: false,
            clamped: Vec::new(),
            notes: Vec::new(),
            blocked: Vec::new(),
            next: None,
            until: None,
            backup: None,
            warnings: Vec::new(),
            outcomes: Vec::new(),
            recovered: None,
            shortfall: Shortfall::default(),
            aftermaths: Vec::new(),
            reports: 0,
            told: HashSet::new(),
        }
    }

    /// Adds a report.
    pub fn add(&mut self, mut report: Report, outcomes: Vec<Uptake>) {
        let is_first = self.reports == 0;
        self.reports += 1;
        self.declared = report.declared;
        self.workspace = report.cluster.workspace;
        self.keys_on_hosts = report.cluster.host_keys != HostKeys::default();
        self.single_root = report.cluster.single_root;
        self.count_hosts(&report, is_first);
        let nodes: HashSet<PathBuf> = nodes(&report.cluster);
        let plan = std::mem::take(&mut report.plan);
        for step in &plan.steps {
            // What is the whole cluster's own is planned with each part that nothing is made of.
            let of_node = step.files.first().and_then(|file| part::folder(file));
            let is_own = of_node.is_some_and(|folder| nodes.contains(folder));
            if !is_own && step.action != Action::Keep {
                let is_new = self.changed.insert((step.label.clone(), step.files.clone()));
                if self.dry_run && !is_new {
                    continue;
                }
            }
            if is_own || is_first || step.action != Action::Keep {
                self.add_step(&report, step);
            }
        }
        for blocked in plan.blocked {
            let Blocked { label, file, obstacle, .. } = &blocked;
            if self.told.insert(format!("{label} {} {obstacle}", file.display())) {
                self.blocked.push(blocked);
            }
        }
        let new = plan.notes.into_iter().filter(|note| self.told.insert(note.clone()));
        self.notes.extend(new.collect::<Vec<String>>());
        let earliest = self.next.take().into_iter().chain(plan.next).min_by_key(|(_, end)| *end);
        self.next = earliest;
        self.until = match is_first {
            true => plan.until,
            false => self.until.zip(plan.until).map(|(one, other)| one.min(other)),
        };
        self.clamped.extend(report.clamped);
        self.recovered = self.recovered.take().or(report.recovered);
        let aftermath = report.aftermath;
        self.backup = self.backup.take().or_else(|| aftermath.backup.clone());
        self.warnings.extend(aftermath.warnings.iter().cloned());
        self.aftermaths.push(aftermath);
        self.outcomes.extend(outcomes);
    }

    /// Whether something of this label is new, and the whole cluster's own.
    pub fn is_new(&self, label: &str) -> bool {
        self.changed.iter().any(|(changed, _)| changed == label)
    }

    fn count_hosts(&mut self, report: &Report, is_first: bool) {
        let mut renewed: HashSet<PathBuf> = HashSet::new();
        for file in report.issued.iter().flat_map(|record| &record.files) {
            renewed.extend(part::folder(file).map(Into::into));
        }
        for host in &report.cluster.hosts {
            if is_first || host.is_only_node() {
                self.hosts.add(&host.name);
            }
            if renewed.contains(&report.cluster.root_of(host)) {
                self.renewed.add(&host.name);
            }
        }
    }

    fn add_step(&mut self, report: &Report, step: &Step) {
        self.changes |= step.action != Action::Keep;
        let is_request = matches!(step.action, Action::Request(_));
        let is_waiting = step.reason == Reason::Waiting;
        self.requested |= is_request;
        self.waiting |= is_waiting;
        if is_request || is_waiting {
            let file = step.files.first().cloned().unwrap_or_default();
            self.requests.push((file, step.label.clone()));
        }
        match self.wanted {
            Wanted::Data => self.steps.push((self.words.data)(report, step)),
            Wanted::Table { kept, .. } => {
                if step.action != Action::Keep || kept || (self.words.tells_kept)(step) {
                    self.rows.add(|| (self.words.row)(report, step));
                }
            }
        }
    }

    /// Until when there is nothing to do and nothing to say, where that is so.
    pub fn is_settled_until(&self) -> Option<Timestamp> {
        let is_silent = self.notes.is_empty()
            && self.blocked.is_empty()
            && self.warnings.is_empty()
            && self.outcomes.is_empty()
            && self.requests.is_empty()
            && self.recovered.is_none()
            && self.shortfall.failed.is_empty()
            && self.shortfall.left == 0;
        let is_whole = self.workspace && self.declared && !self.dry_run;
        self.until.filter(|_| is_silent && is_whole && !self.changes)
    }

    /// To be called once all that use what was changed were told, or those who can tell them.
    pub fn settle(&self) {
        self.aftermaths.iter().for_each(Aftermath::settle);
    }
}

/// The folders of hosts that are nodes and nothing else.
fn nodes(cluster: &Cluster) -> HashSet<PathBuf> {
    let nodes = cluster.hosts.iter().filter(|host| host.is_only_node());
    nodes.map(|host| cluster.root_of(host)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_table_is_cut_and_says_by_how_much() {
        let column = [Column::new("N")];
        let of = |output, verbose, rows: usize| {
            let wanted = Wanted::of(output, false, verbose, (5, 2));
            let mut all = wanted.rows();
            (0..rows).for_each(|row| all.add(|| vec![row.to_string()]));
            let lines = wanted.lines((0..rows).map(|line| format!("{line}\n")));
            (all.table(&column, true).lines().count() - 1, lines.lines().count(), lines)
        };
        assert_eq!(of(Format::Table, false, 5), (5, 5, "0\n1\n2\n3\n4\n".into()));
        let (rows, lines, text) = of(Format::Table, false, 50);
        assert_eq!((rows, lines), (3, 3));
        assert!(text.contains("1\n... and 48 more; .certkit/log.jsonl"), "{text}");
        for (output, verbose) in [(Format::Wide, false), (Format::Table, true)] {
            let (rows, lines, _) = of(output, verbose, 50);
            assert_eq!((rows, lines), (50, 50));
        }
    }
}
