//! How far replacing a generation of a CA, or of a key, by the next has come, and where generations are kept.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where a generation of a CA is kept, beside the one that issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The one that issues.
    Active,
    /// The one that is to issue next: trusted already.
    Next,
    /// The one that issued before: trusted still.
    Previous,
}

impl Slot {
    /// Those beside the active one.
    pub const ASIDE: [Self; 2] = [Self::Next, Self::Previous];

    /// How a file of this generation is called: `pki/ca.crt`, `pki/ca-next.crt`, `pki/ca-previous.crt`.
    pub fn file(self, active: &str) -> PathBuf {
        let word = match self {
            Self::Active => return active.into(),
            Self::Next => "next",
            Self::Previous => "previous",
        };
        beside(active, word)
    }
}

/// A file beside another one: `pki/ca-next.crt`.
pub(super) fn beside(file: &str, word: &str) -> PathBuf {
    match file.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{word}.{extension}").into(),
        None => format!("{file}-{word}").into(),
    }
}

/// How far a CA, or the key that signs service-account tokens, has been replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// One file is both what signs and what is trusted, so that nothing can be trusted besides: kubeadm's clusters.
    Shared,
    /// There is one generation.
    Stable,
    /// The next one is trusted, and does not issue yet.
    Introduced,
    /// The next one issues, and the one before is trusted still.
    Switched,
}

impl Stage {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Stable => "stable",
            Self::Introduced => "introduced",
            Self::Switched => "switched",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Shared, Self::Stable, Self::Introduced, Self::Switched];
        all.into_iter()
            .find(|stage| stage.name() == text)
            .ok_or_else(|| "stages are shared, stable, introduced and switched".to_owned())
    }
}
