//! The files that `nodes.include` names: which they are, and what they declare. They lie in DIR, and no link leads out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{Error, read};
use crate::{
    document::{self, DocumentError, Draft, Mistake},
    model::{observed::Piece, shown::quoted},
};

/// Texts that files are to hold, by their path relative to DIR, in the place of those that are there.
pub(super) type Texts = BTreeMap<PathBuf, String>;

/// Adds to a draft the nodes that its further files declare. `name` is what errors call `certkit.yaml`.
pub(super) fn take_in(
    dir: &Path,
    draft: &mut Draft,
    name: &str,
    instead: &Texts,
) -> Result<(), Error> {
    if draft.include.is_empty() {
        return Ok(());
    }
    let open = |why: std::io::Error| Error::Unreadable {
        path: dir.to_owned(),
        why: format!("cannot be opened: {why}"),
    };
    let root = std::fs::File::open(dir).map_err(open)?;
    for file in files(dir, draft, name, instead)? {
        let path = dir.join(&file);
        let shown = path.display().to_string();
        let nodes = match instead.get(&file) {
            Some(text) => document::read_nodes(text.as_bytes(), &shown)?,
            None => match read::below(&root, dir, &file) {
                Piece::Present(content) => document::read_nodes(&content, &shown)?,
                Piece::Bad(why) => return Err(Error::Unreadable { path, why }),
                Piece::Missing => {
                    let why = "was there a moment ago, and is not any more".to_owned();
                    return Err(Error::Unreadable { path, why });
                }
            },
        };
        draft.take_in(&shown, nodes);
    }
    Ok(())
}

/// The files that a draft includes, and the folders that are looked into for such.
pub(super) fn sources(dir: &Path, draft: &Draft, name: &str) -> Result<Vec<PathBuf>, Error> {
    let mut all: BTreeSet<PathBuf> = draft
        .include
        .iter()
        .map(|pattern| dir.join(Path::new(pattern).parent().unwrap_or(Path::new(""))))
        .collect();
    all.extend(files(dir, draft, name, &Texts::new())?.into_iter().map(|file| dir.join(file)));
    Ok(all.into_iter().collect())
}

/// The files that a draft's patterns name, relative to DIR: in the order of the patterns, those of each by name.
pub(super) fn files(
    dir: &Path,
    draft: &Draft,
    name: &str,
    instead: &Texts,
) -> Result<Vec<PathBuf>, Error> {
    let (mut all, mut known) = (Vec::new(), BTreeSet::new());
    let mut mistakes = Vec::new();
    for pattern in &draft.include {
        let mut wrong = |why: String| {
            let field = "nodes.include".to_owned();
            let place = draft.places.get(&field).copied();
            let why = format!("{}: {why}", quoted(pattern));
            mistakes.push(Mistake { file: None, place, field, why });
        };
        let mut found: Vec<PathBuf> =
            instead.keys().filter(|file| matches(pattern, file)).cloned().collect();
        if pattern.contains('*') {
            match listed(dir, pattern) {
                Ok(files) => found.extend(files),
                Err(why) => {
                    wrong(why);
                    continue;
                }
            }
        } else if dir.join(pattern).symlink_metadata().is_ok() {
            found.push(PathBuf::from(pattern));
        }
        found.sort();
        if found.is_empty() {
            // All nodes would be gone because of a slip of the pen.
            wrong("there is no such file; one without nodes says `nodes: []`".to_owned());
        }
        all.extend(found.into_iter().filter(|file| known.insert(file.clone())));
    }
    match mistakes.is_empty() {
        true => Ok(all),
        false => Err(DocumentError::Invalid { file: name.to_owned(), mistakes }.into()),
    }
}

/// The files of DIR that match a pattern, or why they cannot be listed.
fn listed(dir: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let folder = Path::new(pattern).parent().unwrap_or(Path::new(""));
    let cannot = |error: std::io::Error| format!("its folder cannot be read: {error}");
    let home = dir.canonicalize().map_err(cannot)?;
    if !dir.join(folder).canonicalize().map_err(cannot)?.starts_with(home) {
        return Err("its folder is behind a symlink that leads elsewhere".to_owned());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir.join(folder)).map_err(cannot)? {
        let file = folder.join(entry.map_err(cannot)?.file_name());
        if matches(pattern, &file) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Whether a path relative to DIR is one that a pattern names. What begins with a dot is nobody's to include: files that
/// are being written do.
pub(super) fn matches(pattern: &str, file: &Path) -> bool {
    let pattern = Path::new(pattern);
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let (Some(wanted), Some(name)) = (name(pattern), name(file)) else { return false };
    pattern.parent() == file.parent() && !name.starts_with('.') && is_like(&wanted, &name)
}

fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_in_a_name() {
        for (pattern, file, is) in [
            ("nodes/*.yaml", "nodes/a.yaml", true),
            ("nodes/*.yaml", "nodes/.a.yaml", false),
            ("nodes/*.yaml", "nodes/a.yml", false),
            ("nodes/*.yaml", "other/a.yaml", false),
            ("nodes/*.yaml", "nodes/x/a.yaml", false),
            ("*.yaml", "a.yaml", true),
            ("a*b*c.yaml", "axxbyyc.yaml", true),
            ("a*b*c.yaml", "abc.yaml", true),
            ("a*a", "a", false),
            ("nodes/rack1.yaml", "nodes/rack1.yaml", true),
            ("nodes/rack1.yaml", "nodes/rack11.yaml", false),
        ] {
            assert_eq!(matches(pattern, Path::new(file)), is, "{pattern} {file}");
        }
    }
}
