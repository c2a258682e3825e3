//! One file of any kind, opened and read as far as its content asks for.
//!
//! What cannot be read and had to be is a row; what holds none and need not is passed over, and counted.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{
    content::{Demand, Encoding},
    octets::{Emit, Octets, Sample},
    row, shown,
    walk::{Root, Visit},
};
use crate::{
    model::check::expiry::{Found, Origin, RowRole},
    ops::read,
};

/// How much of a file decides what it is. Most files are wholly inside.
const HEAD: usize = 64 << 10;

/// Looks into files.
pub struct Scanner<'a> {
    /// What their content is read by.
    pub octets: Octets<'a>,
}

impl Scanner<'_> {
    /// All rows of one file. `head` is a buffer to be used again.
    pub fn item(&self, item: &Visit, root: &Root, head: &mut Vec<u8>, emit: &mut Emit<'_>) {
        let rows = Cell::new(0);
        let path = match item.path.as_os_str() == "-" {
            true => "standard input".to_owned(),
            false => shown(&item.path),
        };
        let mut counted = |row| {
            rows.set(rows.get() + 1);
            emit(row)
        };
        let demand = if item.named { Demand::Named } else { Demand::of(&item.path) };
        let subject = Sample::file(&item.path, &path, demand);
        let result = match &item.fault {
            Some(fault) => Err(fault.clone()),
            None if item.path.as_os_str() == "-" => {
                self.source(io::stdin(), subject, head, &mut counted)
            }
            None => match open_file(&item.path) {
                Ok(file) => self.source(file, subject, head, &mut counted),
                Err(why) => Err(why),
            },
        };
        let why = match result {
            Err(why) => Some(why),
            Ok(()) if rows.get() == 0 && item.named => Some("holds no certificate".to_owned()),
            Ok(()) => None,
        };
        if let Some(why) = why {
            let name = shown(&item.path);
            let origin = Origin { path: name.clone(), inside: None };
            counted(row(name, origin, RowRole::Leaf, Found::Unreadable(why)));
        }
        root.looked_at(rows.get());
    }

    fn source(
        &self,
        mut source: impl Read + 'static,
        subject: Sample<'_>,
        head: &mut Vec<u8>,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let cannot = |error: io::Error| format!("cannot be read: {error}");
        head.clear();
        source.by_ref().take(HEAD as u64).read_to_end(head).map_err(cannot)?;
        let mut whole = head.len() < HEAD;
        let encoding = Encoding::of(head);
        match encoding {
            None => {}
            Some(Encoding::ByteOrderMark) if !whole => drop(head.drain(..3)),
            Some(encoding) => {
                if !whole {
                    all(&mut source, head)?;
                    whole = true;
                }
                *head = encoding.plain(head).into_owned();
            }
        }
        let demand = subject.demand;
        if whole && head.trim_ascii().is_empty() {
            let told = subject.file.is_none_or(|file| demand.tells_empty(file));
            return if told { Err("is empty".into()) } else { Ok(()) };
        }
        if !whole && subject.wants_all(head) {
            all(&mut source, head)?;
            whole = true;
        }
        match whole {
            true => self.octets.rows(head, encoding, &subject, emit),
            false => self.octets.stream(std::mem::take(head), source, encoding, &subject, emit),
        }
    }
}

/// Opens anything without waiting; a FIFO, a socket, a device or a folder is refused.
fn open_file(path: &Path) -> Result<File, String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.symlink_metadata().is_ok() => {
            "is a symlink to a file that does not exist".to_owned()
        }
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(metadata) if metadata.is_dir() => Err("is a directory".into()),
        Ok(_) => Err("is no regular file (a FIFO, socket or device)".into()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Reads on to the end, if that is not too far.
fn all(source: &mut impl Read, head: &mut Vec<u8>) -> Result<(), String> {
    let limit = read::LIMIT.saturating_sub(head.len() as u64);
    let read = source.take(limit + 1).read_to_end(head);
    match read.map_err(|error| format!("cannot be read: {error}"))? as u64 > limit {
        true => Err(format!("is larger than {} octets", read::LIMIT)),
        false => Ok(()),
    }
}
