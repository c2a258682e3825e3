//! Who owns the files of a component on its host, where that is not root: a component that runs as a user of its own
//! must be able to read its private keys.
//!
//! Only what is secret is given away. Everybody may read the rest, and it stays root's, so that no component can
//! change whom it trusts.

use std::{fmt, path::PathBuf, str::FromStr};

use super::shown::quoted;

/// The field of `certkit.yaml` that declares owners.
pub const FIELD: &str = "owner";

/// A declared owner: `USER` or `USER:GROUP`, each a name or a number. Without a group, the group stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Account,
    /// The group.
    pub group: Option<Account>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By number.
    Id(u32),
    /// By name: whose it is, the host knows.
    Name(String),
}

/// Why a text is no owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: write USER or USER:GROUP, each a number or a name of 1 to 32 letters, digits, `.`, `_` and `-`",
    quoted(.0)
)]
pub struct OwnerError(String);

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        let wrong = || OwnerError(text.to_owned());
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(Account::parse(group).ok_or_else(wrong)?)),
            None => (text, None),
        };
        Ok(Self { user: Account::parse(user).ok_or_else(wrong)?, group })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => self.user.fmt(f),
        }
    }
}

impl Owner {
    /// Whether it is root, who reads everybody's files.
    pub fn is_root(&self) -> bool {
        match &self.user {
            Account::Id(id) => *id == 0,
            Account::Name(name) => name == "root",
        }
    }
}

impl Account {
    /// What useradd makes, and what fits into the header of a tar archive.
    fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // The last number means "leave it" to the system.
            return text.parse().ok().filter(|id| *id != u32::MAX).map(Self::Id);
        }
        let visible = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let named = (1..=32).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(visible)
            && !text.bytes().all(|b| b == b'.');
        named.then(|| Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// An owned file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// What it is of, for people.
    pub label: String,
    /// The file itself, relative to DIR, where its name is a link.
    pub real: Option<PathBuf>,
    /// Whose it is and whose it is declared to be, where these are not the same.
    pub difference: Option<String>,
}
