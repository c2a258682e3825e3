//! Where a file is: a path that was checked.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::METADATA;
use super::error::Error;

/// A path in its one normal form: relative and beneath the store's directory, or absolute.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub(crate) struct StorePath(String);

impl StorePath {
    /// Checks a path that a transaction of the store at `dir` wants to change.
    pub(crate) fn parse(path: &Path, dir: &Path) -> Result<Self, Error> {
        let reject = |reason| Error::Path { path: path.to_owned(), reason };
        // The same file must have one place only, or two changes of it would not be noticed.
        let relative = path.strip_prefix(dir).unwrap_or(path);
        let mut text = String::new();
        for component in relative.components() {
            match component {
                Component::RootDir => text.push('/'),
                Component::Normal(name) => {
                    let name = name.to_str().ok_or_else(|| reject("its name is not UTF-8"))?;
                    if name.contains('\0') {
                        return Err(reject("its name holds a NUL"));
                    }
                    if !text.is_empty() && !text.ends_with('/') {
                        text.push('/');
                    }
                    text.push_str(name);
                }
                _ => return Err(reject("it must not hold . or ..")),
            }
        }
        if text.is_empty() || text == "/" || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(reject("it names a directory"));
        }
        if text == METADATA || text.strip_prefix(METADATA).is_some_and(|rest| rest.starts_with('/'))
        {
            return Err(reject("certkit keeps its own records there"));
        }
        Ok(Self(text))
    }

    /// A path of the store's own, below its directory.
    pub(crate) fn own(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The place `name` in the same directory.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        Self(join(self.parent(), name))
    }

    /// Whether it is in this directory, or in one below.
    pub(crate) fn is_below(&self, directory: &Self) -> bool {
        self.0.strip_prefix(&directory.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The same place with `to` for `from`, a directory above it.
    pub(crate) fn moved(&self, from: &str, to: &Self) -> Self {
        Self(format!("{}{}", to.0, self.0.strip_prefix(from).unwrap_or_default()))
    }

    /// The directory: "" is the store's own.
    pub(crate) fn parent(&self) -> &str {
        parent(&self.0)
    }

    /// The last component.
    pub(crate) fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn is_outside(&self) -> bool {
        self.0.starts_with('/')
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The directory a path is in: "" and "/" are the ends.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None => "",
        Some(0) => "/",
        Some(end) => &path[..end],
    }
}

/// A directory and all those above it, but for the ends.
pub(crate) fn upwards(key: &str) -> impl Iterator<Item = &str> {
    let is_on_the_way = |key: &&str| !key.is_empty() && *key != "/";
    std::iter::successors(Some(key), |key| Some(parent(key))).take_while(is_on_the_way)
}

/// The place of one of the store's own files.
pub(crate) fn own(name: &str) -> StorePath {
    StorePath::own(format!("{METADATA}/{name}"))
}

/// `name` in `dir`.
pub(crate) fn join(dir: &str, name: &str) -> String {
    match dir {
        "" => name.to_owned(),
        "/" => format!("/{name}"),
        _ => format!("{dir}/{name}"),
    }
}

/// Whether a name is one that certkit gives a file or a directory before it is in place.
pub fn is_temporary(name: &str) -> bool {
    let transaction = name.strip_prefix('.').and_then(|name| name.rsplit_once(".certkit-"));
    transaction.is_some_and(|(name, transaction)| {
        !name.is_empty() && transaction.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// A hidden name beside the final one: kubelet and others skip what begins with a dot.
pub(crate) fn temporary_name(name: &str, transaction: &str) -> String {
    // A name may have 255 bytes at most (NAME_MAX).
    let end = (0..=name.len().min(200)).rev().find(|&end| name.is_char_boundary(end));
    format!(".{}.certkit-{transaction}", &name[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_hidden_and_short_enough() {
        assert_eq!(temporary_name("ca.crt", "0a"), ".ca.crt.certkit-0a");
        let long = "é".repeat(127);
        assert!(temporary_name(&long, "0123456789ab").len() <= 255);
    }
}
