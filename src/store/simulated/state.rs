//! What is on the simulated disk, what of it is durable, and what a power cut leaves.

use std::collections::BTreeMap;
use std::io;

use super::super::disk::{FileKind, FileStatus, UserAndGroup};
use super::{Fault, Seen};

pub(super) const ENOENT: i32 = 2;
pub(super) const EEXIST: i32 = 17;
pub(super) const ENOTDIR: i32 = 20;
pub(super) const EISDIR: i32 = 21;
pub(super) const ENOTEMPTY: i32 = 39;
pub(super) const ELOOP: i32 = 40;

pub(super) const ROOT: UserAndGroup = UserAndGroup { uid: 0, gid: 0 };

#[derive(Clone)]
pub(super) struct State {
    pub(super) nodes: Vec<Node>,
    pub(super) fault: Option<Fault>,
    /// The call (counted as in [`Fault`]) that does nothing, if it is a sync.
    pub(super) forgotten: Option<usize>,
    pub(super) calls: Vec<String>,
    pub(super) dead: bool,
    pub(super) umask: u32,
    pub(super) nonce: u64,
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) owner: UserAndGroup,
    pub(super) durable_mode: u32,
    pub(super) durable_owner: UserAndGroup,
}

#[derive(Clone)]
pub(super) enum Body {
    Directory { names: Names, durable: Names, pending: Vec<Vec<(String, Option<usize>)>> },
    File { data: Vec<u8>, durable: Vec<u8> },
    Symlink { target: String },
}

pub(super) type Names = BTreeMap<String, usize>;

pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Body {
    pub(super) fn directory() -> Self {
        Self::Directory { names: Names::new(), durable: Names::new(), pending: Vec::new() }
    }
}

impl Node {
    pub(super) fn lose(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        if (self.mode, self.owner) != (self.durable_mode, self.durable_owner) && choose(2) == 0 {
            (self.mode, self.owner) = (self.durable_mode, self.durable_owner);
        }
        match &mut self.body {
            Body::Directory { names, durable, pending } => {
                *names = durable.clone();
                let mut lost: Vec<String> = Vec::new();
                for change in std::mem::take(pending) {
                    let follows_lost = change.iter().any(|(name, _)| lost.contains(name));
                    if follows_lost || choose(2) == 0 {
                        lost.extend(change.into_iter().map(|(name, _)| name));
                    } else {
                        apply(names, &change);
                    }
                }
            }
            Body::File { data, durable } if data != durable => {
                let same = data.iter().zip(durable.iter()).take_while(|(a, b)| a == b).count();
                match choose(5) {
                    0 => data.clone_from(durable),
                    1 => data.truncate(same),
                    2 => data[same..].fill(0),
                    3 => {
                        let end = same + (data.len() - same) / 2;
                        data.truncate(end);
                    }
                    _ => {}
                }
            }
            Body::File { .. } | Body::Symlink { .. } => {}
        }
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        (self.durable_mode, self.durable_owner) = (self.mode, self.owner);
        match &mut self.body {
            Body::Directory { names, durable, pending } => {
                durable.clone_from(names);
                pending.clear();
            }
            Body::File { data, durable } => durable.clone_from(data),
            Body::Symlink { .. } => {}
        }
    }
}

pub(super) fn apply(names: &mut Names, change: &[(String, Option<usize>)]) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

impl State {
    pub(super) fn add(&mut self, body: Body, mode: u32) -> usize {
        let (durable_mode, durable_owner) = (mode, ROOT);
        self.nodes.push(Node { body, mode, owner: ROOT, durable_mode, durable_owner });
        self.nodes.len() - 1
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the process is dead")) } else { Ok(()) }
    }

    pub(super) fn settle(&mut self) {
        self.nodes.iter_mut().for_each(Node::settle);
    }

    pub(super) fn names(&self, dir: usize) -> io::Result<&Names> {
        match &self.nodes[dir].body {
            Body::Directory { names, .. } => Ok(names),
            _ => Err(errno(ENOTDIR)),
        }
    }

    pub(super) fn names_mut(&mut self, dir: usize, change: Vec<(String, Option<usize>)>) {
        if let Body::Directory { names, pending, .. } = &mut self.nodes[dir].body {
            apply(names, &change);
            pending.push(change);
        }
    }

    pub(super) fn find(&self, dir: usize, name: &str) -> io::Result<usize> {
        self.names(dir)?.get(name).copied().ok_or_else(|| errno(ENOENT))
    }

    pub(super) fn path(&self, node: usize) -> String {
        let found = self.nodes.iter().enumerate().find_map(|(at, parent)| match &parent.body {
            Body::Directory { names, .. } => {
                let (name, _) = names.iter().find(|(_, child)| **child == node)?;
                Some((at, name))
            }
            _ => None,
        });
        found.map_or(String::new(), |(parent, name)| format!("{}/{name}", self.path(parent)))
    }

    pub(super) fn collect(&self, dir: usize, path: &str, all: &mut BTreeMap<String, Seen>) {
        let Ok(names) = self.names(dir) else { return };
        for (name, &at) in names {
            let path = format!("{path}/{name}");
            let Node { body, mode, owner, .. } = &self.nodes[at];
            let (mode, uid) = (*mode, owner.uid);
            let seen = match body {
                Body::Directory { .. } => Seen::Directory { mode },
                Body::File { data, .. } => {
                    let content = String::from_utf8_lossy(data).into_owned();
                    Seen::File { content, mode, uid }
                }
                Body::Symlink { target } => Seen::Symlink { target: target.clone() },
            };
            all.insert(path.clone(), seen);
            self.collect(at, &path, all);
        }
    }

    pub(super) fn data(&mut self, file: usize) -> &mut Vec<u8> {
        match &mut self.nodes[file].body {
            Body::File { data, .. } => data,
            _ => unreachable!("only files are opened for writing"),
        }
    }

    pub(super) fn status(&self, node: usize) -> FileStatus {
        let Node { body, mode, owner, .. } = &self.nodes[node];
        let (kind, length) = match body {
            Body::Directory { .. } => (FileKind::Directory, 0),
            Body::File { data, .. } => (FileKind::File, data.len() as u64),
            Body::Symlink { .. } => (FileKind::Symlink, 0),
        };
        let (mode, owner, inode) = (*mode, *owner, node as u64);
        let modified = (0, 0);
        FileStatus { kind, mode, owner, length, modified, device: 1, inode, obstacle: None }
    }
}
