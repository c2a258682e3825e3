//! Tables that fit the terminal: no row is ever broken. Where there is too little room, texts are shortened, then
//! columns are left out, the least important first. Where nothing says how much room there is (a pipe, a file), all is
//! shown.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::model::shown::tame;

/// Blanks between columns, as kubectl has them.
pub const GAP: &str = "   ";
/// What a text ends (or begins) with that was longer.
const CUT: &str = "…";
/// No column is made narrower than this, whatever the terminal.
const NARROWEST: usize = 4;

/// A column: its heading, and what may become of it where there is too little room.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The heading.
    pub heading: &'static str,
    least: Option<usize>,
    rank: u8,
    early: bool,
    keeps_end: bool,
}

impl Column {
    /// A column that stays as it is.
    pub const fn new(heading: &'static str) -> Self {
        Self { heading, least: None, rank: 0, early: false, keeps_end: false }
    }

    /// May be shortened to this many characters.
    pub const fn least(self, characters: usize) -> Self {
        Self { least: Some(characters), ..self }
    }

    /// May be left out: the highest rank first.
    pub const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// Stands right after the first column where there is too little room for all.
    pub const fn early(self) -> Self {
        Self { early: true, ..self }
    }

    /// Is shortened at its beginning: the end of a path says more.
    pub const fn keeps_end(self) -> Self {
        Self { keeps_end: true, ..self }
    }
}

/// Which columns are shown, in which order, how wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Index and width of each column that is shown.
    pub shown: Vec<(usize, usize)>,
    /// Whether anything is left out or shortened.
    pub is_tight: bool,
}

impl Fit {
    /// Finds what fits: `widths` are those of the widest cells.
    pub fn new(columns: &[Column], widths: &[usize], limit: Option<usize>) -> Self {
        let widest = |index: usize| widths[index].max(columns[index].heading.width());
        let all: Vec<(usize, usize)> = (0..columns.len()).map(|i| (i, widest(i))).collect();
        let Some(limit) = limit.filter(|limit| total(&all) > *limit) else {
            return Self { shown: all, is_tight: false };
        };
        let mut shown = all;
        shown.sort_by_key(|(index, _)| match (index, columns[*index].early) {
            (0, _) => (0, 0),
            (index, true) => (1, *index),
            (index, false) => (2, *index),
        });
        // Nobody misses a column with nothing in it.
        shown.retain(|(index, _)| widths[*index] > 0 || columns[*index].rank == 0);
        loop {
            let least = |index: usize, width: usize| {
                columns[index].least.unwrap_or(width).max(columns[index].heading.width()).min(width)
            };
            let smallest = shown.iter().map(|(index, width)| (*index, least(*index, *width)));
            if total(&smallest.collect::<Vec<_>>()) <= limit {
                shorten(&mut shown, limit, least);
                break;
            }
            let rank = |(_, (index, _)): &(usize, &(usize, usize))| columns[*index].rank;
            let least_important = shown.iter().enumerate().max_by_key(rank);
            match least_important.filter(|column| rank(column) > 0).map(|(place, _)| place) {
                Some(place) => drop(shown.remove(place)),
                None => {
                    shorten(&mut shown, limit, |_, width| width.min(NARROWEST));
                    break;
                }
            }
        }
        Self { shown, is_tight: true }
    }

    /// A row of these columns.
    pub fn line<T: AsRef<str>>(&self, columns: &[Column], cells: &[T]) -> String {
        let mut line = String::new();
        for (place, (index, width)) in self.shown.iter().enumerate() {
            if place > 0 {
                line.push_str(GAP);
            }
            let cell = cells.get(*index).map_or("", AsRef::as_ref);
            // What comes after the widths were found may be wider: then only a terminal's row is cut.
            let cell = match self.is_tight {
                true => cut(cell, *width, columns[*index].keeps_end || cell.starts_with('/')),
                false => cell.to_owned(),
            };
            let room = width.saturating_sub(cell.width());
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', room));
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// The headings.
    pub fn head(&self, columns: &[Column]) -> String {
        self.line(columns, &columns.iter().map(|column| column.heading).collect::<Vec<_>>())
    }
}

fn total(shown: &[(usize, usize)]) -> usize {
    shown.iter().map(|(_, width)| width).sum::<usize>() + GAP.len() * shown.len().saturating_sub(1)
}

/// Takes from the widest that may give, until all fit.
fn shorten(shown: &mut [(usize, usize)], limit: usize, least: impl Fn(usize, usize) -> usize) {
    let least: Vec<usize> = shown.iter().map(|(index, width)| least(*index, *width)).collect();
    while total(shown) > limit {
        let givers = shown.iter_mut().zip(&least).filter(|((_, width), least)| width > least);
        match givers.max_by_key(|((_, width), _)| *width) {
            Some(((_, width), _)) => *width -= 1,
            None => return,
        }
    }
}

/// A text in at most this many columns.
pub fn cut(text: &str, width: usize, keeps_end: bool) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(CUT.width());
    let mut fits = |c: &char| {
        let wide = c.width().unwrap_or_default();
        let fits = wide <= room;
        room = room.saturating_sub(wide);
        fits
    };
    match keeps_end {
        true => {
            let end: Vec<char> = text.chars().rev().take_while(&mut fits).collect();
            CUT.chars().chain(end.into_iter().rev()).collect()
        }
        false => {
            let start: String = text.chars().take_while(&mut fits).collect();
            format!("{}{CUT}", start.trim_end())
        }
    }
}

/// A text in lines of at most this many columns, the second and further ones indented.
pub fn wrap(text: &str, limit: Option<usize>, indent: usize) -> String {
    let Some(limit) = limit.map(|limit| limit.max(indent + 20)) else { return text.to_owned() };
    let mut lines = String::new();
    let mut at = 0;
    // What stands before the first word is the text's own indentation.
    let start = text.len() - text.trim_start().len();
    lines.push_str(&text[..start]);
    at += start;
    for (number, word) in text[start..].split(' ').enumerate() {
        let wide = word.width();
        if number > 0 && at + 1 + wide > limit && !word.is_empty() {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            at = indent;
        } else if number > 0 {
            lines.push(' ');
            at += 1;
        }
        lines.push_str(word);
        at += wide;
    }
    lines
}

/// A whole table. Whatever is in its cells, it steers no terminal.
pub fn table(columns: &[Column], rows: &[Vec<String>], limit: Option<usize>) -> String {
    let tamed = |row: &Vec<String>| row.iter().map(|cell| tame(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(tamed).collect();
    let width = |index: usize| {
        rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let fit = Fit::new(columns, &widths, limit);
    let mut text = fit.head(columns);
    text.push('\n');
    for row in &rows {
        text.push_str(&fit.line(columns, row));
        text.push('\n');
    }
    text
}

/// How wide a text is on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("NAME").least(6),
        Column::new("WHEN").rank(1),
        Column::new("FILE").least(8).rank(2).keeps_end(),
        Column::new("STATUS").early(),
    ];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![
            row(["apiserver", "2027-01-01", "pki/apiserver.crt", "OK"]),
            row(["kubelet (a-host-with-a-long-name)", "2027-01-01", "pki/kubelet.crt", "EXPIRED"]),
        ]
    }

    #[test]
    fn without_a_limit_all_is_shown_in_order() {
        let text = table(&COLUMNS, &rows(), None);
        assert_eq!(
            text,
            "NAME                                WHEN         FILE                STATUS\n\
             apiserver                           2027-01-01   pki/apiserver.crt   OK\n\
             kubelet (a-host-with-a-long-name)   2027-01-01   pki/kubelet.crt     EXPIRED\n"
        );
        assert_eq!(text, table(&COLUMNS, &rows(), Some(76)));
    }

    #[test]
    fn texts_are_shortened_first_and_columns_left_out_by_rank() {
        assert_eq!(
            table(&COLUMNS, &rows(), Some(60)),
            "NAME                STATUS    WHEN         FILE\n\
             apiserver           OK        2027-01-01   pki/apiserver.crt\n\
             kubelet (a-host-…   EXPIRED   2027-01-01   pki/kubelet.crt\n"
        );
        assert_eq!(
            table(&COLUMNS, &rows(), Some(33)),
            "NAME         STATUS    WHEN\n\
             apiserver    OK        2027-01-01\n\
             kubelet (…   EXPIRED   2027-01-01\n"
        );
    }

    #[test]
    fn no_row_is_wider_than_the_terminal_whatever_its_width() {
        for limit in 8..120 {
            for line in table(&COLUMNS, &rows(), Some(limit)).lines() {
                assert!(line.width() <= limit.max(17), "{limit}: {line}");
            }
        }
    }

    #[test]
    fn a_text_is_cut_where_it_says_least_and_wide_characters_count_twice() {
        assert_eq!(cut("pki/apiserver.crt", 10, true), "…erver.crt");
        assert_eq!(cut("pki/apiserver.crt", 10, false), "pki/apise…");
        assert_eq!(cut("証明書の有効期限", 7, false), "証明書…");
        assert_eq!(cut("short", 5, false), "short");
    }

    #[test]
    fn long_texts_go_on_below_themselves() {
        let wrapped = wrap("  a: one two three four five six", Some(25), 5);
        assert_eq!(wrapped, "  a: one two three four\n     five six");
        assert_eq!(wrap("one two", None, 4), "one two");
    }
}
