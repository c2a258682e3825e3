//! The log of what was changed: lines that are in it whole, once, or not at all.
//!
//! The lines of a change of files are part of its record, which says how long the log was before. A line alone needs no
//! record: what a run that was cut short left of one is cut off when the directory is next opened for change.

use std::io;

use super::METADATA;
use super::disk::{Disk, FileKind};
use super::error::{Error, Operation};
use super::gate::Gate;
use super::journal::{Appendix, LOG};
use super::place::own;

/// How much of the log's end is looked at: more than any line has.
const END: u64 = 64 * 1024;

/// Opens (or creates) the log and sets room aside: appending must not fail when all is decided.
pub(crate) fn open<D: Disk>(gate: &Gate<D>, lines: &Appendix) -> Result<D::File, Error> {
    let path = gate.full(own(LOG).as_str());
    let dir = gate.dir(METADATA)?;
    let file = if lines.created {
        gate.disk.create(&dir, LOG, 0o600).map_err(Error::io(Operation::Create, &path))?
    } else {
        gate.disk.append(&dir, LOG).map_err(Error::io(Operation::Append, &path))?
    };
    let reserved = gate.disk.reserve(&file, lines.length, lines.lines.len() as u64);
    reserved.map_err(Error::io(Operation::Reserve, &path))?;
    Ok(file)
}

/// Appends lines, durably; where that fails no half of them stays.
pub(crate) fn append<D: Disk>(
    gate: &Gate<D>,
    mut file: D::File,
    lines: &Appendix,
) -> Result<(), Error> {
    let path = gate.full(own(LOG).as_str());
    let written = gate.disk.write(&mut file, lines.lines.as_bytes());
    let written = written
        .map_err(Error::io(Operation::Append, &path))
        .and_then(|()| gate.disk.sync_file(&file).map_err(Error::io(Operation::Sync, &path)));
    if written.is_err() {
        // Where that fails, too, the log is as torn as what it is on.
        let _ = gate.disk.set_length(&file, lines.length);
    }
    written
}

/// Appends the lines unless they are there, whole; what is there of them is cut off first.
pub(crate) fn append_again<D: Disk>(gate: &Gate<D>, lines: &Appendix) -> Result<(), Error> {
    let path = gate.full(own(LOG).as_str());
    let dir = gate.dir(METADATA)?;
    let file = match gate.disk.append(&dir, LOG) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            gate.disk.create(&dir, LOG, 0o600).map_err(Error::io(Operation::Create, &path))?
        }
        opened => opened.map_err(Error::io(Operation::Append, &path))?,
    };
    let found = gate.disk.file_status(&file).map_err(Error::io(Operation::Inspect, &path))?;
    if found.length > lines.length {
        let cut = gate.disk.set_length(&file, lines.length);
        cut.map_err(Error::io(Operation::Truncate, &path))?;
    }
    append(gate, file, lines)?;
    // The log's name may be as new as its lines.
    gate.sync_dir(METADATA)
}

/// Appends a line by itself: it is there, durably, or not at all. The log is there already.
pub(crate) fn append_alone<D: Disk>(gate: &Gate<D>, line: &Appendix) -> Result<(), Error> {
    append(gate, open(gate, line)?, line)
}

/// Cuts off what a run that was cut short left of a line.
pub(crate) fn mend<D: Disk>(gate: &Gate<D>) -> Result<(), Error> {
    let place = own(LOG);
    let path = gate.full(place.as_str());
    while let Some(found) = gate.status(&place)?.filter(|found| found.kind == FileKind::File) {
        let dir = gate.dir(METADATA)?;
        let end = gate.disk.read_end(&dir, LOG, END).map_err(Error::io(Operation::Read, &path))?;
        let torn = torn(&end) as u64;
        if torn == 0 {
            break;
        }
        let file = gate.disk.append(&dir, LOG).map_err(Error::io(Operation::Append, &path))?;
        let cut = gate.disk.set_length(&file, found.length.saturating_sub(torn));
        cut.map_err(Error::io(Operation::Truncate, &path))?;
    }
    Ok(())
}

/// How many octets at the end are of a line that is not whole. One that is has an end, and no zeros, which are what a
/// power cut may leave of octets that were not durable.
fn torn(end: &[u8]) -> usize {
    let last = end.strip_suffix(b"\n").unwrap_or(end);
    let last = last.iter().rposition(|octet| *octet == b'\n').map_or(end, |at| &end[at + 1..]);
    if last.ends_with(b"\n") && !last.contains(&0) { 0 } else { last.len() }
}

#[cfg(test)]
mod tests {
    use super::torn;

    #[test]
    fn a_line_that_was_not_wholly_written_is_known() {
        for (end, left) in [
            (&b""[..], 0),
            (b"{}\n", 0),
            (b"{}\n\n", 0),
            (b"{}\n{", 1),
            (b"{", 1),
            (b"{}\n\0\0\0", 3),
            (b"{}\n\0\0}\n", 4),
            (b"\0\n", 2),
        ] {
            assert_eq!(torn(end), left, "{end:?}");
        }
    }
}
