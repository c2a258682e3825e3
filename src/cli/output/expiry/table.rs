//! kubeadm's table, a status added, and a wide one.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Body, Context, Rendered, Sink, Summary, residual};
use crate::model::check::expiry::{Inside, Level, Role, Row, Status, Verdict};

/// Rows by which the widths of columns are found; what comes later may widen them.
const AHEAD: usize = 1000;
const GAP: &str = "   ";

/// A table under way: leaves as they come, authorities at the end.
pub struct Table {
    color: bool,
    quiet: bool,
    leaves: Section,
    authorities: Section,
}

struct Section {
    headings: Vec<&'static str>,
    widths: Vec<usize>,
    waiting: Vec<(Status, Vec<String>)>,
    begun: bool,
}

const WIDE: [&str; 7] = ["USER", "KEY", "SERIAL", "SHA256", "NAMES", "PATH", "REASON"];

/// The cells of a row, in the order of the headings of its section.
pub fn cells(row: &Row, verdict: &Verdict, wide: bool) -> Vec<String> {
    let name = match &row.host {
        Some(host) => format!("{} ({host})", row.name),
        None => row.name.clone(),
    };
    let end = match row.facts() {
        Some(facts) => facts.validity.not_after.to_kubeadm(),
        None => "-".to_owned(),
    };
    let mut cells = vec![name, end, residual(row, verdict)];
    if row.role == Role::Leaf {
        cells.push(row.authority.clone().unwrap_or_default());
    }
    cells.push(match (row.facts(), row.externally_managed) {
        (None, _) => "-".to_owned(),
        (Some(_), true) => "yes".to_owned(),
        (Some(_), false) => "no".to_owned(),
    });
    let reason = reason(row, verdict);
    match (wide, &reason) {
        (false, Some(reason)) if verdict.status != Status::Ok => {
            cells.push(format!("{}: {reason}", verdict.status));
        }
        _ => cells.push(verdict.status.to_string()),
    }
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
        cells.push(reason.unwrap_or_default());
    }
    cells.iter_mut().for_each(clean);
    cells
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
    if cell.chars().any(char::is_control) {
        *cell = cell.escape_debug().to_string();
    }
}

impl Table {
    /// An empty one.
    pub fn new(context: &Context, wide: bool) -> Self {
        let section = |first: &[&'static str]| {
            let wide = if wide { &WIDE[..] } else { &[] };
            let headings: Vec<&'static str> = first.iter().chain(wide).copied().collect();
            let widths = headings.iter().map(|h| h.len()).collect();
            Section { headings, widths, waiting: Vec::new(), begun: false }
        };
        Self {
            color: context.color,
            quiet: context.quiet,
            leaves: section(&[
                "CERTIFICATE",
                "EXPIRES",
                "RESIDUAL TIME",
                "CERTIFICATE AUTHORITY",
                "EXTERNALLY MANAGED",
                "STATUS",
            ]),
            authorities: section(&[
                "CERTIFICATE AUTHORITY",
                "EXPIRES",
                "RESIDUAL TIME",
                "EXTERNALLY MANAGED",
                "STATUS",
            ]),
        }
    }
}

impl Sink for Table {
    fn add(&mut self, out: &mut dyn Write, rendered: Rendered) -> io::Result<()> {
        let Body::Cells(status, cells) = rendered.body else { return Ok(()) };
        if self.quiet && rendered.level == Level::Ok {
            return Ok(());
        }
        match rendered.role {
            Role::Authority => self.authorities.waiting.push((status, cells)),
            Role::Leaf => {
                self.leaves.waiting.push((status, cells));
                if self.leaves.waiting.len() >= AHEAD {
                    self.leaves.flush(out, self.color)?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write, _: &Summary) -> io::Result<()> {
        self.leaves.flush(out, self.color)?;
        if self.leaves.begun && !self.authorities.waiting.is_empty() {
            writeln!(out)?;
        }
        self.authorities.flush(out, self.color)
    }
}

impl Section {
    fn flush(&mut self, out: &mut dyn Write, color: bool) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        for (_, cells) in &self.waiting {
            for (width, cell) in self.widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            pad(&mut line, &self.headings, &self.widths);
            writeln!(out, "{line}")?;
        }
        for (status, cells) in self.waiting.drain(..) {
            line.clear();
            pad(&mut line, &cells, &self.widths);
            match style(status).filter(|_| color) {
                Some(style) => writeln!(out, "{style}{line}{style:#}")?,
                None => writeln!(out, "{line}")?,
            }
        }
        Ok(())
    }
}

fn pad<T: AsRef<str>>(line: &mut String, cells: &[T], widths: &[usize]) {
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if index > 0 {
            line.push_str(GAP);
        }
        let cell = cell.as_ref();
        line.push_str(cell);
        let room = width.saturating_sub(cell.chars().count());
        line.extend(std::iter::repeat_n(' ', room));
    }
    line.truncate(line.trim_end().len());
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
