//! Whose files are to be on this machine, and whose they are: declared names become the machine's numbers.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::read;
use crate::{
    model::{
        cluster::Cluster,
        layout::{Layout, Place},
        observed::Piece,
        owned::{self, Owned},
        owner::{Account, FIELD, Owner, Ownership},
    },
    store::NewOwner,
};

/// Where a machine keeps its users, and its groups.
const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// More than any machine's own accounts take.
const LIMIT: u64 = 64 << 20;

/// Whose files are to be on this machine, by path relative to DIR. In a workspace they are for others, whose accounts
/// nobody knows here.
#[derive(Default)]
pub struct Owners {
    /// To whom each file is to be given.
    pub wanted: BTreeMap<PathBuf, NewOwner>,
    /// What was found of those that are there.
    pub found: BTreeMap<PathBuf, Ownership>,
    /// The accounts that this machine does not know: the component's field, and what is wrong with it.
    pub unknown: Vec<(String, String)>,
}

impl Owners {
    /// Looks whose the files of a cluster are and are to be.
    pub fn look(layout: &Layout<'_>, dir: &Path, place: impl Fn(usize) -> Place) -> Self {
        let mut owners = Self::default();
        if layout.cluster.workspace || layout.cluster.owners.is_empty() {
            return owners;
        }
        let machine = Machine::read();
        owners.unknown = machine.unknown(layout.cluster);
        for (path, Owned { label, owner }) in owned::files(layout, place) {
            // Who is not known was said.
            let Ok(to) = machine.number(owner) else { continue };
            if let Some(found) = ownership(dir, &path, label, owner, to) {
                owners.found.insert(path.clone(), found);
            }
            owners.wanted.insert(path, to);
        }
        owners
    }
}

/// The declared owners that this machine does not know: the component's field, and what is wrong with it.
pub fn unknown(cluster: &Cluster) -> Vec<(String, String)> {
    match cluster.workspace || cluster.owners.is_empty() {
        true => Vec::new(),
        false => Machine::read().unknown(cluster),
    }
}

/// Whose a file is, if it is there.
fn ownership(
    dir: &Path,
    path: &Path,
    label: String,
    owner: &Owner,
    to: NewOwner,
) -> Option<Ownership> {
    let full = dir.join(path);
    let metadata = full.metadata().ok()?;
    let real = full.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let real = real.then(|| inside(dir, &full)).flatten();
    let difference = (!is_right(&metadata, to))
        .then(|| format!("it belongs to {}, declared is {owner}", holder(&metadata, to)));
    Some(Ownership { label, real, difference })
}

fn is_right(metadata: &Metadata, to: NewOwner) -> bool {
    metadata.uid() == to.uid && to.gid.is_none_or(|gid| metadata.gid() == gid)
}

/// Whose a file is, as far as that is declared.
fn holder(metadata: &Metadata, to: NewOwner) -> String {
    match to.gid {
        Some(_) => format!("user {} and group {}", metadata.uid(), metadata.gid()),
        None => format!("user {}", metadata.uid()),
    }
}

fn inside(dir: &Path, full: &Path) -> Option<PathBuf> {
    let real = full.canonicalize().ok()?;
    real.strip_prefix(dir.canonicalize().ok()?).ok().map(Path::to_path_buf)
}

/// What a machine's own files say of its accounts.
struct Machine {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Machine {
    fn read() -> Self {
        let numbers = |file: &str| match read::bounded(Path::new(file), LIMIT) {
            Piece::Present(content) => numbers(&String::from_utf8_lossy(&content)),
            Piece::Missing | Piece::Bad(_) => BTreeMap::new(),
        };
        Self { users: numbers(USERS), groups: numbers(GROUPS) }
    }

    fn unknown(&self, cluster: &Cluster) -> Vec<(String, String)> {
        let fault = |(component, owner): (&&str, &Owner)| {
            Some((format!("{FIELD}.{component}"), self.number(owner).err()?))
        };
        cluster.owners.iter().filter_map(fault).collect()
    }

    fn number(&self, owner: &Owner) -> Result<NewOwner, String> {
        let find = |account: &Account, known: &BTreeMap<String, u32>, kind: &str, file: &str| {
            match account {
                Account::Id(id) => Ok(*id),
                Account::Name(name) => known
                    .get(name)
                    .copied()
                    .ok_or_else(|| format!("{file} of this machine has no {kind} `{name}`")),
            }
        };
        let uid = find(&owner.user, &self.users, "user", USERS)?;
        let group = owner.group.as_ref();
        let gid = group.map(|group| find(group, &self.groups, "group", GROUPS)).transpose()?;
        Ok(NewOwner { uid, gid })
    }
}

/// The names and numbers of passwd(5) and group(5), which have them in the same places. The first entry of a name
/// holds, as it does for the system.
fn numbers(text: &str) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(number))) =
            (fields.next(), fields.nth(1).map(|number| number.parse()))
        {
            all.entry(name.to_owned()).or_insert(number);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_machines_and_numbers_are_themselves() {
        let machine = Machine {
            users: numbers(
                "root:x:0:0:root:/root:/bin/sh\n+nis\netcd:x:107:112::/:/sbin/nologin\netcd:x:9:9::/:/\n",
            ),
            groups: numbers("root:x:0:\nkube:x:500:a,b\n"),
        };
        let number = |text: &str| machine.number(&text.parse().unwrap());
        assert_eq!(number("etcd"), Ok(NewOwner { uid: 107, gid: None }));
        assert_eq!(number("etcd:kube"), Ok(NewOwner { uid: 107, gid: Some(500) }));
        assert_eq!(number("12:34"), Ok(NewOwner { uid: 12, gid: Some(34) }));
        assert_eq!(number("kube"), Err("/etc/passwd of this machine has no user `kube`".into()));
        assert_eq!(
            number("etcd:etcd"),
            Err("/etc/group of this machine has no group `etcd`".into())
        );
    }
}
