//! The terminal: streams that drop colour where it is not wanted, and tables.

pub mod expiry;

use std::io;

use clap::ColorChoice;

/// Applies `--color`; `auto` looks at the stream and at `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE`.
pub fn set_color(choice: ColorChoice) {
    match choice {
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Standard output: data only.
pub fn stdout() -> impl io::Write {
    UntilClosed(anstream::AutoStream::auto(io::stdout()).lock())
}

/// A reader may leave when it has seen enough, as `head` does. The report goes on without it: what it comes to is
/// in the exit code.
struct UntilClosed<W>(W);

impl<W: io::Write> io::Write for UntilClosed<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self.0.write(text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(text.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// Standard error: everything that is talk.
pub fn stderr() -> impl io::Write {
    anstream::AutoStream::auto(io::stderr()).lock()
}

/// Whether standard output gets colour.
pub fn is_colored() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Standard output as it is, for long reports that keep colour out themselves where it is not wanted.
pub fn raw_stdout() -> impl io::Write {
    io::BufWriter::with_capacity(64 << 10, UntilClosed(io::stdout().lock()))
}

/// The columns of the terminal: what `COLUMNS` says, else the terminal, else 80.
pub fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col);
    said.or_else(terminal).filter(|columns| *columns >= 20).map_or(80, usize::from)
}

/// A table as kubectl prints them: upper-case headings, three blanks between columns, no lines.
pub fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(headings.to_vec());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let text = table.to_string();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_lines_and_no_trailing_blanks() {
        let text = table(&["NAME", "STATUS"], vec![vec!["apiserver".into(), "ok".into()]]);
        assert_eq!(text, "NAME        STATUS\napiserver   ok\n");
    }
}
