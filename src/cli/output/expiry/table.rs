//! kubeadm's table, a status added, and a wide one.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Body, Context, Rendered, Sink, Summary, residual};
use crate::{
    cli::output::grid::{self, Column, Fit},
    model::{
        check::expiry::{Inside, Level, Row, RowRole, Status, Verdict},
        shown::tame,
    },
};

/// The column that reasons stand in where there is room.
const STATUS: &str = "STATUS";

/// Rows by which the widths of columns are found; what comes later may widen them.
const AHEAD: usize = 1000;
/// Reasons that are told below a section, where there is no room for them in its rows.
const REASONS: usize = 20;
/// Certificates that are named before the rest is counted.
const NAMED: usize = 3;
/// The worst rows that a report of --quiet tells: it is read as a mail.
const WORST: usize = 25;

/// A table under way: leaves as they come, authorities at the end.
pub struct Table {
    color: bool,
    /// Where only what needs attention is wanted: the worst of it, and how many rows need attention.
    worst: Option<Worst>,
    leaves: Section,
    authorities: Section,
}

struct Section {
    columns: Vec<Column>,
    limit: Option<usize>,
    widths: Vec<usize>,
    waiting: Vec<Cells>,
    /// Which columns are shown, once that is found.
    fit: Option<Fit>,
    /// What there was no room for: a reason, whose it is, and how many have the same.
    reasons: Vec<(String, Vec<String>, usize)>,
    untold: usize,
}

/// A row of the table.
pub struct Cells {
    status: Status,
    cells: Vec<String>,
    reason: Option<String>,
    /// Seconds left, by which rows of one level are told.
    left: i64,
}

/// The worst rows, where all would be too many.
struct Worst {
    all: bool,
    rows: Vec<(RowRole, usize, Cells)>,
    seen: usize,
}

const LEAF: [Column; 6] = [
    Column::new("CERTIFICATE").least(20),
    Column::new("EXPIRES").rank(2),
    Column::new("RESIDUAL TIME").rank(1),
    Column::new("CERTIFICATE AUTHORITY").rank(3),
    Column::new("EXTERNALLY MANAGED").rank(4),
    Column::new("STATUS").early(),
];
const AUTHORITY: [Column; 5] = [
    Column::new("CERTIFICATE AUTHORITY").least(20),
    Column::new("EXPIRES").rank(2),
    Column::new("RESIDUAL TIME").rank(1),
    Column::new("EXTERNALLY MANAGED").rank(4),
    Column::new("STATUS").early(),
];
const WIDE: [Column; 7] = [
    Column::new("USER"),
    Column::new("KEY"),
    Column::new("SERIAL"),
    Column::new("SHA256"),
    Column::new("NAMES"),
    Column::new("PATH"),
    Column::new("REASON"),
];

/// The cells of a row, in the order of the columns of its section.
pub fn cells(row: &Row, verdict: &Verdict, wide: bool) -> Cells {
    let name = match &row.host {
        Some(host) => format!("{} ({host})", row.name),
        None => row.name.clone(),
    };
    let end = match row.facts() {
        Some(facts) => facts.validity.not_after.to_kubeadm(),
        None => "-".to_owned(),
    };
    let mut cells = vec![name, end, residual(row, verdict)];
    if row.role == RowRole::Leaf {
        cells.push(row.authority.clone().unwrap_or_default());
    }
    cells.push(match (row.facts(), row.externally_managed) {
        (None, _) => "-".to_owned(),
        (Some(_), true) => "yes".to_owned(),
        (Some(_), false) => "no".to_owned(),
    });
    let mut reason = reason(row, verdict);
    cells.push(verdict.status.to_string());
    if wide {
        let details = row.facts().and_then(|facts| facts.details.as_deref());
        let of = |part: fn(&crate::model::check::expiry::Details) -> String| {
            details.map(part).unwrap_or_default()
        };
        cells.push(of(|d| {
            let mut user = d.user.clone().unwrap_or_default();
            if !d.groups.is_empty() {
                user = format!("{user} ({})", d.groups.join(", "));
            }
            user
        }));
        cells.push(of(|d| d.algorithm.clone()));
        cells.push(of(|d| d.serial.clone()));
        cells.push(of(|d| d.fingerprint.clone()));
        cells.push(of(|d| d.sans.join(",")));
        cells.push(row.origin.to_string());
        cells.push(reason.take().unwrap_or_default());
    }
    let mut reason = reason.filter(|_| verdict.status != Status::Ok);
    cells.iter_mut().chain(&mut reason).for_each(clean);
    let left = verdict.left.map_or(i64::MIN, |left| left.0);
    Cells { status: verdict.status, cells, reason, left }
}

/// Why a row is as it is, with the file where the name does not say it.
fn reason(row: &Row, verdict: &Verdict) -> Option<String> {
    let reason = verdict.reason.clone();
    let listener = row.origin.inside == Some(Inside::Listener);
    match verdict.status {
        Status::Missing => Some(format!(
            "{}{}",
            row.origin.path,
            reason.map_or(String::new(), |r| format!(": {r}"))
        )),
        Status::Unknown if row.name != row.origin.path && !listener => {
            reason.map(|reason| format!("{}: {reason}", row.origin.path))
        }
        _ => reason,
    }
}

/// Nothing in a certificate may steer the terminal.
fn clean(cell: &mut String) {
    *cell = tame(cell);
}

impl Table {
    /// An empty one.
    pub fn new(context: &Context, wide: bool) -> Self {
        let section = |first: &[Column]| {
            let more = if wide { &WIDE[..] } else { &[] };
            let columns: Vec<Column> = first.iter().chain(more).copied().collect();
            Section {
                widths: vec![0; columns.len()],
                columns,
                limit: context.limit.filter(|_| !wide),
                waiting: Vec::new(),
                fit: None,
                reasons: Vec::new(),
                untold: 0,
            }
        };
        Self {
            color: context.color,
            worst: context.quiet.then_some(Worst { all: wide, rows: Vec::new(), seen: 0 }),
            leaves: section(&LEAF),
            authorities: section(&AUTHORITY),
        }
    }

    fn row(&mut self, out: &mut dyn Write, role: RowRole, cells: Cells) -> io::Result<()> {
        let section = match role {
            RowRole::Authority => &mut self.authorities,
            RowRole::Leaf => &mut self.leaves,
        };
        section.waiting.push(cells);
        // Authorities are told last, and so wait.
        match role == RowRole::Leaf && section.waiting.len() >= AHEAD {
            true => section.flush(out, self.color),
            false => Ok(()),
        }
    }
}

impl Worst {
    fn add(&mut self, role: RowRole, cells: Cells) {
        self.rows.push((role, self.seen, cells));
        self.seen += 1;
        if !self.all && self.rows.len() >= 8 * WORST {
            self.cut();
        }
    }

    /// Leaves the worst, in the order they came in.
    fn cut(&mut self) {
        let how_bad = |(_, _, row): &(RowRole, usize, Cells)| (row.status.level(), row.left);
        self.rows.sort_by(|a, b| {
            let ((a_level, a_left), (b_level, b_left)) = (how_bad(a), how_bad(b));
            b_level.cmp(&a_level).then(a_left.cmp(&b_left))
        });
        self.rows.truncate(WORST);
        self.rows.sort_by_key(|(_, number, _)| *number);
    }
}

impl Sink for Table {
    fn add(&mut self, out: &mut dyn Write, rendered: Rendered) -> io::Result<()> {
        let Body::Cells(cells) = rendered.body else { return Ok(()) };
        match &mut self.worst {
            Some(_) if rendered.level == Level::Ok => Ok(()),
            Some(worst) => {
                worst.add(rendered.role, *cells);
                Ok(())
            }
            None => self.row(out, rendered.role, *cells),
        }
    }

    fn end(&mut self, out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
        if let Some(mut worst) = self.worst.take() {
            if !worst.all && worst.seen > WORST {
                worst.cut();
                writeln!(out, "{}\n", sum(summary, worst.seen))?;
            }
            for (role, _, cells) in worst.rows {
                self.row(out, role, cells)?;
            }
        }
        self.leaves.end(out, self.color)?;
        if self.leaves.fit.is_some() && !self.authorities.waiting.is_empty() {
            writeln!(out)?;
        }
        self.authorities.end(out, self.color)
    }
}

/// What stands over the worst rows of many.
fn sum(summary: &Summary, seen: usize) -> String {
    let counts = [Level::Unknown, Level::Critical, Level::Warning];
    let counts = counts.into_iter().filter(|level| summary.of(*level) > 0);
    let counts: Vec<String> = counts
        .map(|level| format!("{} {}", summary.of(level), level.to_string().to_lowercase()))
        .collect();
    format!(
        "{seen} of {} certificates need attention: {}.\nThe worst {WORST} of them (-o wide has all):",
        summary.all(),
        counts.join(", ")
    )
}

impl Section {
    fn flush(&mut self, out: &mut dyn Write, color: bool) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        let before = self.fit.take();
        let begun = before.is_some();
        let fit = match before {
            // Columns do not change once there are rows; where nothing limits them they may widen.
            Some(fit) if fit.is_tight => fit,
            _ => self.fit(&mut waiting),
        };
        if !begun {
            writeln!(out, "{}", fit.head(&self.columns))?;
        }
        for row in waiting {
            let line = fit.line(&self.columns, &row.cells);
            match style(row.status).filter(|_| color) {
                Some(style) => writeln!(out, "{style}{line}{style:#}")?,
                None => writeln!(out, "{line}")?,
            }
            if let Some(reason) = row.reason.filter(|_| fit.is_tight) {
                self.explain(reason, row.cells.into_iter().next().unwrap_or_default());
            }
        }
        self.fit = Some(fit);
        Ok(())
    }

    /// With reasons beside the statuses where there is room for them.
    fn fit(&mut self, waiting: &mut [Cells]) -> Fit {
        let status = self.columns.iter().position(|column| column.heading == STATUS);
        let mut widths = self.widths.clone();
        for row in &*waiting {
            for (index, (width, cell)) in widths.iter_mut().zip(&row.cells).enumerate() {
                let reason = row.reason.as_ref().filter(|_| Some(index) == status);
                let more = reason.map_or(0, |reason| 2 + grid::width(reason));
                *width = (*width).max(grid::width(cell) + more);
            }
        }
        let fit = Fit::new(&self.columns, &widths, self.limit);
        if !fit.is_tight {
            for row in waiting {
                if let (Some(index), Some(reason)) = (status, &row.reason) {
                    row.cells[index] = format!("{}: {reason}", row.cells[index]);
                }
            }
            self.widths = widths;
            return fit;
        }
        for row in &*waiting {
            for (width, cell) in self.widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(grid::width(cell));
            }
        }
        // It may fit without them, in the usual order: they are told below all the same.
        Fit { is_tight: true, ..Fit::new(&self.columns, &self.widths, self.limit) }
    }

    fn explain(&mut self, reason: String, name: String) {
        let is_full = self.reasons.len() >= REASONS;
        match self.reasons.iter_mut().find(|(told, ..)| *told == reason) {
            Some((_, names, count)) => {
                *count += 1;
                if names.len() <= NAMED {
                    names.push(name);
                }
            }
            None if is_full => self.untold += 1,
            None => self.reasons.push((reason, vec![name], 1)),
        }
    }

    /// What there was no room for, each once.
    fn end(&mut self, out: &mut dyn Write, color: bool) -> io::Result<()> {
        self.flush(out, color)?;
        for (number, (reason, names, count)) in self.reasons.drain(..).enumerate() {
            if number == 0 {
                writeln!(out)?;
            }
            let whose = match count > names.len() {
                true => format!("{} and {} more", names[..NAMED].join(", "), count - NAMED),
                false => names.join(", "),
            };
            writeln!(out, "{}", grid::wrap(&format!("{whose}: {reason}"), self.limit, 2))?;
        }
        match self.untold {
            0 => Ok(()),
            more => writeln!(out, "and {more} more reasons (-o wide has all)"),
        }
    }
}

/// The colour of a status; none for what needs no attention.
pub fn style(status: Status) -> Option<Style> {
    match status.level() {
        Level::Ok => None,
        Level::Warning => Some(AnsiColor::Yellow.on_default()),
        Level::Critical => Some(AnsiColor::Red.on_default()),
        Level::Unknown => Some(AnsiColor::Magenta.on_default()),
    }
}
