//! The terminal: streams that drop colour where it is not wanted, and tables.

pub mod expiry;
pub mod grid;

use std::io::{self, IsTerminal as _, Write as _};

use clap::ColorChoice;

use grid::Column;

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
            result => result.map_err(named),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(named),
        }
    }
}

/// An error with what could not be written.
fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// Writes to standard output what is lost if nobody reads it, as a key is: then a reader that has left is an error.
pub fn deliver(text: &str) -> io::Result<()> {
    let mut out = anstream::AutoStream::auto(io::stdout()).lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::other("nobody reads standard output any more"),
        _ => named(error),
    })
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

/// The same, but on a terminal nothing of it before it is flushed: progress is shown there meanwhile.
pub fn held_stdout() -> Box<dyn io::Write> {
    match io::stdout().is_terminal() {
        true => Box::new(Held(Vec::new())),
        false => Box::new(raw_stdout()),
    }
}

struct Held(Vec<u8>);

impl io::Write for Held {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut out = raw_stdout();
        out.write_all(&std::mem::take(&mut self.0))?;
        out.flush()
    }
}

/// The columns there are room for: what `COLUMNS` says, else the terminal; none where neither says anything, as in a
/// pipe.
pub fn limit() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col);
    said.or_else(terminal).filter(|columns| *columns >= 20).map(usize::from)
}

/// The same for what needs a width: 80 where nothing says.
pub fn width() -> usize {
    limit().unwrap_or(80)
}

/// A table as kubectl prints them: upper-case headings, three blanks between columns, no lines. It fits the
/// terminal, unless all of it is wanted.
pub fn table(columns: &[Column], rows: &[Vec<String>], wide: bool) -> String {
    grid::table(columns, rows, limit().filter(|_| !wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_lines_and_no_trailing_blanks() {
        let columns = [Column::new("NAME"), Column::new("STATUS")];
        let text = table(&columns, &[vec!["apiserver".into(), "ok".into()]], true);
        assert_eq!(text, "NAME        STATUS\napiserver   ok\n");
    }
}
