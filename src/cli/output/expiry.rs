//! Reports on certificates and how long they last, in every format.
//!
//! A row is rendered on whichever thread read it, and added to the report in order; a report keeps as little
//! as its format allows, so that a hundred thousand rows cost no memory.

pub mod document;
mod human;
pub mod nagios;
pub mod prometheus;
pub mod table;
pub mod timeline;

use std::io::{self, Write};

use crate::{
    model::{
        check::expiry::{Level, Row, RowRole, Thresholds, Verdict},
        timestamp::Timestamp,
    },
    ops::expiry::FileCount,
};

pub use human::{left, residual};

/// What every format goes by.
#[derive(Clone, Debug)]
pub struct Context {
    /// The time it is judged at.
    pub now: Timestamp,
    /// When the end is near.
    pub thresholds: Thresholds,
    /// This machine's name.
    pub machine: String,
    /// Whether colour is wanted.
    pub color: bool,
    /// Whether only ASCII is wanted.
    pub ascii: bool,
    /// Whether rows that need no attention are left out.
    pub quiet: bool,
    /// Columns there are room for, for what has to have a width.
    pub width: usize,
    /// The same, where something says how many.
    pub limit: Option<usize>,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExpiryFormat {
    /// JSON.
    Json,
    /// One line for monitoring plugins.
    Nagios,
    /// Metrics.
    Prometheus,
    /// A table of few or many columns.
    Table {
        /// Whether of many.
        wide: bool,
    },
    /// Bars.
    Timeline,
    /// YAML.
    Yaml,
}

/// A row as its format wants it.
pub struct Rendered {
    /// How bad it is.
    pub level: Level,
    /// Leaf or authority.
    pub role: RowRole,
    /// The same row in the format's own form.
    pub body: Body,
}

/// The forms of a row.
pub enum Body {
    /// The cells of a table.
    Cells(Box<table::Cells>),
    /// The row itself, for formats that need all rows before they begin.
    Row(Box<(Row, Verdict)>),
    /// Metrics.
    Samples(prometheus::Samples),
    /// Text.
    Text(String),
}

impl ExpiryFormat {
    /// Renders a row; on any thread.
    pub fn render(self, row: &Row, verdict: &Verdict, context: &Context) -> Rendered {
        Rendered {
            level: verdict.status.level(),
            role: row.role,
            body: match self {
                Self::Json => Body::Text(document::json(row, verdict)),
                Self::Yaml => Body::Text(document::yaml(row, verdict)),
                Self::Prometheus => Body::Samples(prometheus::samples(row, context)),
                Self::Table { wide } => Body::Cells(Box::new(table::cells(row, verdict, wide))),
                Self::Nagios | Self::Timeline => {
                    Body::Row(Box::new((row.clone(), verdict.clone())))
                }
            },
        }
    }

    /// The report itself.
    pub fn sink(self, context: &Context) -> Box<dyn Sink> {
        match self {
            Self::Json => Box::new(document::Document::json(context)),
            Self::Yaml => Box::new(document::Document::yaml(context)),
            Self::Nagios => Box::new(nagios::Nagios::new(context)),
            Self::Prometheus => Box::new(prometheus::Metrics::new(context)),
            Self::Table { wide } => Box::new(table::Table::new(context, wide)),
            Self::Timeline => Box::new(timeline::Timeline::new(context)),
        }
    }
}

/// A report that rows are added to.
pub trait Sink {
    /// Adds a row.
    fn add(&mut self, out: &mut dyn Write, rendered: Rendered) -> io::Result<()>;
    /// Ends the report.
    fn end(&mut self, out: &mut dyn Write, summary: &Summary) -> io::Result<()>;
}

/// How many rows there were of each level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    counts: [usize; 4],
    /// The files that were looked at, where any were named.
    pub files: Option<FileCount>,
}

impl Summary {
    /// Counts a row.
    pub fn count(&mut self, level: Level) {
        self.counts[level as usize] += 1;
    }

    /// How many rows are of this level.
    pub fn of(&self, level: Level) -> usize {
        self.counts[level as usize]
    }

    /// How many rows there are.
    pub fn all(&self) -> usize {
        self.counts.iter().sum()
    }

    /// The worst level of all rows. Nothing seen is nothing known.
    pub fn worst(&self) -> Level {
        if self.all() == 0 {
            return Level::Unknown;
        }
        [Level::Unknown, Level::Critical, Level::Warning]
            .into_iter()
            .find(|level| self.of(*level) > 0)
            .unwrap_or_default()
    }
}
