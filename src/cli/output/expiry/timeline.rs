//! A bar for each certificate, from notBefore to notAfter, with now and the thresholds marked.

use std::io::{self, Write};

use super::{Body, Context, Rendered, Sink, Summary, residual, table};
use crate::model::{
    check::expiry::{Level, Row, RowRole, Thresholds, Verdict},
    duration::Span,
    timestamp::Timestamp,
};

/// The narrowest bar worth drawing.
const BAR: usize = 16;
/// Names are cut to this share of the width.
const NAME: usize = 3;

/// The rows, which all have to be known before the scale is.
pub struct Timeline {
    context: Context,
    leaves: Vec<(Row, Verdict)>,
    authorities: Vec<(Row, Verdict)>,
}

/// The characters of a bar.
struct Pen {
    /// Life that is over, life, the last of it within --warn and --critical.
    past: char,
    life: char,
    warn: char,
    critical: char,
    now: char,
    /// Where the bar leaves the scale.
    before: char,
    after: char,
    cut: &'static str,
}

const DRAWN: Pen = Pen {
    past: '─',
    life: '━',
    warn: '▒',
    critical: '█',
    now: '│',
    before: '◀',
    after: '▶',
    cut: "…",
};
const ASCII: Pen = Pen {
    past: '-',
    life: '=',
    warn: 'w',
    critical: '!',
    now: '|',
    before: '<',
    after: '>',
    cut: "~",
};

impl Timeline {
    /// An empty one.
    pub fn new(context: &Context) -> Self {
        Self { context: context.clone(), leaves: Vec::new(), authorities: Vec::new() }
    }

    fn section(&self, out: &mut dyn Write, title: &str, rows: &[(Row, Verdict)]) -> io::Result<()> {
        let pen = if self.context.ascii { &ASCII } else { &DRAWN };
        let name = |row: &Row| match &row.host {
            Some(host) => format!("{} ({host})", row.name),
            None => row.name.clone(),
        };
        let said = |row: &Row, verdict: &Verdict| match verdict.status.level() {
            Level::Ok => residual(row, verdict),
            _ if row.facts().is_none() => String::new(),
            _ => format!("{}, {}", residual(row, verdict), verdict.status),
        };
        let width = self.context.width;
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let names = longest(&mut rows.iter().map(|(row, _)| name(row).chars().count()));
        let names = names.max(title.len()).min((width / NAME).max(8));
        let notes = longest(&mut rows.iter().map(|(row, v)| said(row, v).chars().count()));
        // On a narrow terminal the bar comes first, and what is said after it goes.
        let is_narrow = names + notes + 4 + BAR > width;
        let notes = if is_narrow { 0 } else { notes + 2 };
        let said = |row: &Row, verdict: &Verdict| match is_narrow {
            true => String::new(),
            false => said(row, verdict),
        };
        let bar = width.saturating_sub(names + 2 + notes).max(BAR);
        let scale = Scale::new(rows, self.context.now, bar);
        let (left, right) = (day(scale.begin), day(scale.end));
        let between = bar.saturating_sub(left.len() + right.len());
        let title = shorten(title, names, pen.cut);
        let days = match left.len() + right.len() < bar {
            true => format!("{left}{}{right}", " ".repeat(between)),
            false => left,
        };
        writeln!(out, "{title:names$}  {days}")?;
        for (row, verdict) in rows {
            let name = shorten(&name(row), names, pen.cut);
            let style = table::style(verdict.status).filter(|_| self.context.color);
            let (on, off) = match style {
                Some(style) => (style.to_string(), format!("{style:#}")),
                None => Default::default(),
            };
            match row.facts() {
                Some(_) => {
                    let drawn = draw(row, &self.context.thresholds, &scale, pen);
                    let line = format!("{name:names$}  {on}{drawn}{off}  {}", said(row, verdict));
                    writeln!(out, "{}", line.trim_end())?;
                }
                None => {
                    let reason = verdict.reason.as_deref().unwrap_or(&row.origin.path);
                    let text = format!("{}: {reason}", verdict.status);
                    let room = width.saturating_sub(names + 2).max(BAR);
                    writeln!(out, "{name:names$}  {on}{}{off}", shorten(&text, room, pen.cut))?;
                }
            }
        }
        Ok(())
    }
}

impl Sink for Timeline {
    fn add(&mut self, _: &mut dyn Write, rendered: Rendered) -> io::Result<()> {
        let Body::Row(row) = rendered.body else { return Ok(()) };
        if self.context.quiet && rendered.level == Level::Ok {
            return Ok(());
        }
        match rendered.role {
            RowRole::Leaf => self.leaves.push(*row),
            RowRole::Authority => self.authorities.push(*row),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write, _: &Summary) -> io::Result<()> {
        let pen = if self.context.ascii { &ASCII } else { &DRAWN };
        if !self.leaves.is_empty() {
            self.section(out, "CERTIFICATE", &self.leaves)?;
        }
        if !self.authorities.is_empty() {
            if !self.leaves.is_empty() {
                writeln!(out)?;
            }
            self.section(out, "CERTIFICATE AUTHORITY", &self.authorities)?;
        }
        if !self.leaves.is_empty() || !self.authorities.is_empty() {
            let Thresholds { warn, critical } = &self.context.thresholds;
            let entries = [
                format!("{} now", pen.now),
                format!("{} over", pen.past),
                format!("{} to come", pen.life),
                format!("{} last {warn}", pen.warn),
                format!("{} last {critical}", pen.critical),
            ];
            let legend = entries.join("   ");
            let legend = match legend.chars().count() <= self.context.width {
                true => legend,
                false => entries.join("\n"),
            };
            writeln!(out, "\n{legend}")?;
        }
        Ok(())
    }
}

/// From time to column.
struct Scale {
    begin: Timestamp,
    end: Timestamp,
    now: Timestamp,
    columns: usize,
}

impl Scale {
    /// From the earliest beginning to the latest end, now among it; but nobody looks a century ahead or back.
    fn new(rows: &[(Row, Verdict)], now: Timestamp, columns: usize) -> Self {
        let terms = || rows.iter().filter_map(|(row, _)| row.facts()).map(|f| f.validity);
        let far = Span::days(36_500);
        let begin = terms().map(|v| v.not_before).min().unwrap_or(now).max(now.minus(far));
        let end = terms().map(|v| v.not_after).max().unwrap_or(now).min(now.plus(far));
        let (begin, end) = (begin.min(now), end.max(now));
        Self { begin, end: end.max(begin.plus(Span(1))), now, columns }
    }

    fn column(&self, time: Timestamp) -> usize {
        let time = time.clamp(self.begin, self.end);
        let part = time.since(self.begin).0 as f64 / self.end.since(self.begin).0 as f64;
        ((part * self.columns as f64) as usize).min(self.columns - 1)
    }
}

fn draw(row: &Row, thresholds: &Thresholds, scale: &Scale, pen: &Pen) -> String {
    let Some(validity) = row.facts().map(|f| f.validity) else { return String::new() };
    let life = validity.not_after.since(validity.not_before);
    let before = |seconds: i64| validity.not_after.minus(Span(seconds));
    let warn = scale.column(before(thresholds.warn.seconds(life)));
    let critical = scale.column(before(thresholds.critical.seconds(life)));
    let (first, last) = (scale.column(validity.not_before), scale.column(validity.not_after));
    let now = scale.column(scale.now);
    (0..scale.columns)
        .map(|column| match column {
            c if c == now => pen.now,
            c if c < first || c > last => ' ',
            c if c == first && validity.not_before < scale.begin => pen.before,
            c if c == last && validity.not_after > scale.end => pen.after,
            c if c >= critical => pen.critical,
            c if c >= warn => pen.warn,
            c if c < now => pen.past,
            _ => pen.life,
        })
        .collect()
}

fn day(time: Timestamp) -> String {
    time.to_string().chars().take(10).collect()
}

fn shorten(text: &str, width: usize, cut: &str) -> String {
    match text.chars().count() > width {
        // The end of a path says more than its beginning.
        true if text.starts_with('/') => {
            let skip = text.chars().count() - width + 1;
            cut.chars().chain(text.chars().skip(skip)).collect()
        }
        true => text.chars().take(width - 1).chain(cut.chars()).collect(),
        false => text.to_owned(),
    }
}
