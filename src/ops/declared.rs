//! DIR/certkit.yaml: the cluster as declared.

mod include;
mod keeper;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use self::include::Texts;
use super::{machine, read};
use crate::{
    document::{self, DocumentError, Mistake, yaml::Position},
    model::{
        adopt,
        catalogue::{CERTIFICATES, Scope, roles},
        cluster::{Cluster, HostName},
        near,
        observed::Piece,
        plan::{NewDeclaration, Reason},
        shown::quoted,
    },
};

pub use crate::document::{Draft, HostDraft};
pub use keeper::DeclarationKeeper;

/// Its name in DIR.
pub const FILE: &str = "certkit.yaml";

/// Why the declared cluster could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file says something wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The file is not there.
    #[error("{}: there is no such file", .0.display())]
    Missing(PathBuf),
    /// There is no such directory.
    #[error("{}: there is no such directory", .0.display())]
    NoDirectory(PathBuf),
    /// A node that is to go is none.
    #[error("{}: {} is {}", path.display(), quoted(name), match is_host {
        true => "a host of the control plane or of etcd, not only a node",
        false => "no host of this cluster",
    })]
    NoNode {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// Whether it is another host of the cluster.
        is_host: bool,
        /// The nodes there are.
        known: Vec<String>,
    },
    /// A node that is to come is there, and is another.
    #[error("{}: {name} is there already, at {there}, not at {asked}", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The addresses that are declared.
        there: String,
        /// Those that were asked for.
        asked: String,
    },
    /// A file for new nodes that is none of the declaration's.
    #[error("{}: certkit.yaml includes no nodes from there", .file.display())]
    Into {
        /// The file.
        file: PathBuf,
        /// What certkit.yaml includes.
        patterns: Vec<String>,
    },
    /// The file is written in a way that lines cannot be added to.
    #[error("{}: its nodes cannot be changed so that all else in it stays as it is", .0.display())]
    Written(PathBuf),
    /// A list of machines says something wrong.
    #[error(transparent)]
    Inventory(DocumentError),
    /// A list of machines cannot be read.
    #[error("{name}: {why}")]
    NoInventory {
        /// What it is called.
        name: String,
        /// Why not.
        why: String,
    },
    /// It gives files to somebody whom this machine does not know.
    #[error(transparent)]
    Owner(DocumentError),
    /// The file cannot be read.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

const DAMAGED: &str = "correct it there; if it is damaged, restore it from a backup";

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Document(error) => Some(error.hint().unwrap_or(DAMAGED).into()),
            Self::Missing(_) => Some(
                "run `certkit init` to make a PKI, `certkit init --adopt` to declare one that is \
                 there, or name its directory with --dir"
                    .into(),
            ),
            Self::NoDirectory(_) => Some("name the PKI's directory with --dir".into()),
            Self::NoNode { path, is_host: true, .. } => Some(format!(
                "who is to lose an apiserver or a member of etcd must be taken out of the cluster first; then edit {}, and \
                 `certkit prune` removes its files",
                path.display()
            )),
            Self::NoNode { name, known, .. } => Some(near::meant("nodes", known, name)),
            Self::OtherNode { path, name, .. } => Some(format!(
                "edit {} where its addresses have changed, then run `certkit rotate`; or `certkit nodes remove {name}` first",
                path.display()
            )),
            Self::Into { patterns, .. } if patterns.is_empty() => Some(
                "leave --into out: the nodes are in certkit.yaml itself, which has no `nodes: {include: ...}`".into(),
            ),
            Self::Into { patterns, .. } => {
                Some(format!("name a file, relative to the directory, that is one of {}", patterns.join(", ")))
            }
            Self::Written(_) => Some(
                "write the list with a line for each node: `- {name: NAME, addresses: [IP]}`".into(),
            ),
            Self::Inventory(_) => Some(
                "correct it there; where Ansible keeps variables in other files, `ansible-inventory --list` prints them all: pipe \
                 it to `certkit nodes add --from -`"
                    .into(),
            ),
            Self::NoInventory { .. } => None,
            Self::Owner(_) => Some(
                "make the account, or write its number (`id -u NAME`, `id -g NAME`) where it is kept elsewhere"
                    .into(),
            ),
            Self::Unreadable { .. } => Some(DAMAGED.into()),
        }
    }
}

/// The cluster that DIR declares.
pub fn load(dir: &Path) -> Result<Cluster, Error> {
    find(dir)?.ok_or_else(|| Error::Missing(dir.join(FILE)))
}

/// The same, or nothing where DIR declares none.
pub fn find(dir: &Path) -> Result<Option<Cluster>, Error> {
    Ok(find_with_sources(dir)?.map(|(cluster, _)| cluster))
}

/// The same with the files that it was read from, and the folders that were looked into for such.
fn find_with_sources(dir: &Path) -> Result<Option<(Cluster, Vec<PathBuf>)>, Error> {
    let path = dir.join(FILE);
    match read::bounded(&path, document::LIMIT) {
        Piece::Missing => Ok(None),
        Piece::Bad(why) => Err(Error::Unreadable { path, why }),
        Piece::Present(content) => {
            let name = path.display().to_string();
            let mut draft = document::read(&content, &name)?;
            include::take_in(dir, &mut draft, &name, &Texts::new())?;
            let mut sources = include::sources(dir, &draft, &name)?;
            sources.push(path);
            Ok(Some((complete(dir, draft, &name)?, sources)))
        }
    }
}

/// The cluster that a text declares, which is called `name` in what is said of it.
pub fn parse(text: &str, name: &str) -> Result<Cluster, Error> {
    Ok(document::read(text.as_bytes(), name)?.complete(name)?)
}

/// The cluster that DIR declares, or everything that may be in it where it declares none; and whether it does.
pub fn or_anything(dir: &Path) -> Result<(Cluster, bool), Error> {
    if let Some(cluster) = find(dir)? {
        return Ok((cluster, true));
    }
    if !dir.is_dir() {
        return Err(Error::NoDirectory(dir.to_path_buf()));
    }
    Ok((anything(dir), false))
}

/// Everything that may be in DIR, on this machine.
pub fn anything(dir: &Path) -> Cluster {
    let mut cluster = adopt::anything(machine::host_name());
    cluster.single_root = dir.join(roles::ROOT.home.cert()).exists();
    cluster
}

/// What to do where nothing is where certkit knows it to be.
pub fn elsewhere(dir: &Path) -> String {
    format!(
        "name the PKI's directory with --dir; of another layout, as k3s' or one made by hand: \
         `certkit check-expiration -r {}`, `certkit rotate FILE --ca FILE`",
        dir.display()
    )
}

/// What certkit.yaml is to hold from now on.
pub fn new(text: String, reason: Reason) -> NewDeclaration {
    NewDeclaration { file: FILE.into(), text, reason }
}

/// DIR/certkit.yaml with further nodes, or the file that it includes, and the cluster that is declared then. Those that
/// are there already are left out; nothing is to be written where all are. Where files are included they go `into` the one
/// that is said, or the last one.
pub fn with_nodes(
    dir: &Path,
    new: &[HostDraft],
    into: Option<&Path>,
) -> Result<(Option<NewDeclaration>, Cluster), Error> {
    let (draft, cluster) = (draft(dir, None)?.0, load(dir)?);
    let file = target(dir, &draft, into)?;
    let mut added = Vec::new();
    for node in new {
        let there = cluster.hosts.iter().find(|host| Some(&host.name) == node.name.as_ref());
        match there {
            None => added.push(node.clone()),
            Some(host) if node.addresses.iter().all(|ip| host.addresses.contains(ip)) => {}
            Some(host) => {
                let row = |all: &[IpAddr]| {
                    all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
                };
                let (there, asked) = (row(&host.addresses), row(&node.addresses));
                let path = dir.join(file_of(dir, &draft, &host.name));
                return Err(Error::OtherNode { path, name: host.name.to_string(), there, asked });
            }
        }
    }
    if added.is_empty() {
        return Ok((None, cluster));
    }
    let text = edited(dir, &file, &BTreeSet::new(), &added)?;
    let cluster = with_texts(dir, &Texts::from([(file.clone(), text.clone())]))?;
    Ok((Some(NewDeclaration { file, text, reason: Reason::Asked }), cluster))
}

/// The files of the declaration without these nodes, where that changes them, and the cluster that is declared then.
pub fn without_nodes(
    dir: &Path,
    gone: &BTreeSet<HostName>,
) -> Result<(Vec<(PathBuf, String)>, Cluster), Error> {
    let (path, cluster) = (dir.join(FILE), load(dir)?);
    let draft = draft(dir, None)?.0;
    let mut of_files: BTreeMap<PathBuf, BTreeSet<HostName>> = BTreeMap::new();
    for name in gone {
        let host = cluster.hosts.iter().find(|host| host.name == *name);
        if host.is_none_or(|host| !host.is_only_node()) {
            let nodes = cluster.hosts.iter().filter(|host| host.is_only_node());
            return Err(Error::NoNode {
                path,
                name: name.to_string(),
                is_host: host.is_some(),
                known: nodes.map(|host| host.name.to_string()).collect(),
            });
        }
        of_files.entry(file_of(dir, &draft, name)).or_default().insert(name.clone());
    }
    let mut texts = Texts::new();
    for (file, gone) in of_files {
        let text = edited(dir, &file, &gone, &[])?;
        texts.insert(file, text);
    }
    let cluster = with_texts(dir, &texts)?;
    Ok((texts.into_iter().collect(), cluster))
}

/// The file that new nodes go into, relative to DIR.
fn target(dir: &Path, draft: &Draft, into: Option<&Path>) -> Result<PathBuf, Error> {
    let asked = into.map(|file| file.strip_prefix(dir).unwrap_or(file).to_path_buf());
    if draft.include.is_empty() {
        return match asked.filter(|file| file != Path::new(FILE)) {
            None => Ok(FILE.into()),
            Some(file) => Err(Error::Into { file, patterns: Vec::new() }),
        };
    }
    let Some(file) = asked else {
        let files = include::files(dir, draft, FILE, &Texts::new())?;
        // A pattern without a file is an error before.
        return files.last().cloned().ok_or_else(|| Error::Missing(dir.join(FILE)));
    };
    match draft.include.iter().any(|pattern| include::matches(pattern, &file)) {
        true => Ok(file),
        false => Err(Error::Into { file, patterns: draft.include.clone() }),
    }
}

/// The file that declares a host, relative to DIR.
fn file_of(dir: &Path, draft: &Draft, name: &HostName) -> PathBuf {
    let index = draft.nodes.iter().position(|node| node.name.as_ref() == Some(name));
    let file = index.and_then(|index| draft.file_of_node(index)).map(Path::new);
    file.map_or(FILE.into(), |file| file.strip_prefix(dir).unwrap_or(file).to_path_buf())
}

/// The text of a file of the declaration without some nodes and with others. One that is not there yet is empty.
fn edited(
    dir: &Path,
    file: &Path,
    gone: &BTreeSet<HostName>,
    new: &[HostDraft],
) -> Result<String, Error> {
    let path = dir.join(file);
    let changed = if file == Path::new(FILE) {
        document::with_nodes(&text(dir)?, gone, new)
    } else {
        let text = match read::bounded(&path, document::LIMIT) {
            Piece::Missing => String::new(),
            Piece::Bad(why) => return Err(Error::Unreadable { path, why }),
            // It was read as UTF-8 before.
            Piece::Present(content) => String::from_utf8_lossy(&content).into_owned(),
        };
        document::with_nodes_of_file(&text, gone, new)
    };
    changed.ok_or(Error::Written(path))
}

/// The cluster that DIR declares where some of its files hold these texts.
fn with_texts(dir: &Path, texts: &Texts) -> Result<Cluster, Error> {
    let name = dir.join(FILE).display().to_string();
    let own = match texts.get(Path::new(FILE)) {
        Some(text) => text.clone(),
        None => text(dir)?,
    };
    let mut draft = document::read(own.as_bytes(), &name)?;
    include::take_in(dir, &mut draft, &name, texts)?;
    complete(dir, draft, &name)
}

/// The machines of a list; `-` is standard input.
pub fn inventory(path: &Path) -> Result<Vec<HostDraft>, Error> {
    let limit = document::inventory::LIMIT;
    let (content, name) = match path.as_os_str() == "-" {
        true => (standard_input(limit), STANDARD_INPUT.to_owned()),
        false => (read::named(path, limit), path.display().to_string()),
    };
    match content {
        Piece::Present(content) => {
            document::inventory::hosts(&content, &name).map_err(Error::Inventory)
        }
        Piece::Missing => Err(Error::NoInventory { name, why: "there is no such file".into() }),
        Piece::Bad(why) => Err(Error::NoInventory { name, why }),
    }
}

const STANDARD_INPUT: &str = "standard input";

/// The text of DIR/certkit.yaml.
pub fn text(dir: &Path) -> Result<String, Error> {
    let path = dir.join(FILE);
    match read::bounded(&path, document::LIMIT) {
        Piece::Missing => Err(Error::Missing(path)),
        Piece::Bad(why) => Err(Error::Unreadable { path, why }),
        // What is no UTF-8 was no declaration either.
        Piece::Present(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
    }
}

/// What is said of a cluster, and where: in this file (`-` is standard input), else in DIR/certkit.yaml,
/// else nowhere yet but on the command line.
pub fn draft(dir: &Path, config: Option<&Path>) -> Result<(Draft, String), Error> {
    let there = dir.join(FILE);
    let path = config.unwrap_or(&there);
    let (content, name) = match path.as_os_str() == "-" {
        true => (standard_input(document::LIMIT), STANDARD_INPUT.to_owned()),
        false if config.is_some() => {
            (read::named(path, document::LIMIT), path.display().to_string())
        }
        false => (read::bounded(path, document::LIMIT), path.display().to_string()),
    };
    match content {
        Piece::Present(content) => {
            let mut draft = document::read(&content, &name)?;
            if path == there {
                include::take_in(dir, &mut draft, &name, &Texts::new())?;
            }
            Ok((draft, name))
        }
        Piece::Missing if config.is_none() => Ok((Draft::default(), "the command line".into())),
        Piece::Missing => {
            Err(Error::Unreadable { path: path.into(), why: "does not exist".into() })
        }
        Piece::Bad(why) => Err(Error::Unreadable { path: name.into(), why }),
    }
}

/// The cluster that follows from what was said, in DIR. What is laid out there stays so: a further host
/// does not turn a host's own tree into a workspace.
pub fn complete(dir: &Path, mut draft: Draft, source: &str) -> Result<Cluster, Error> {
    if draft.workspace.is_none() {
        let of_host = CERTIFICATES.iter().filter(|spec| spec.scope != Scope::Cluster);
        let in_place = |file: &str| dir.join(file).symlink_metadata().is_ok();
        let is_host = of_host.flat_map(|spec| spec.home.files()).any(in_place);
        draft.workspace = is_host.then_some(false);
    }
    Ok(draft.complete(source)?)
}

/// Refuses owners that this machine does not know, each where it stands in its file.
pub fn know_owners(
    unknown: &[(String, String)],
    places: &BTreeMap<String, Position>,
    source: &str,
) -> Result<(), Error> {
    let mistake = |(field, why): &(String, String)| Mistake {
        file: None,
        place: places.get(field).copied(),
        field: field.clone(),
        why: why.clone(),
    };
    let mistakes: Vec<Mistake> = unknown.iter().map(mistake).collect();
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(Error::Owner(DocumentError::Invalid { file: source.to_owned(), mistakes })),
    }
}

fn standard_input(limit: u64) -> Piece<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    let read = std::io::stdin().take(limit + 1).read_to_end(&mut content);
    match read {
        Ok(size) if size as u64 > limit => Piece::Bad(format!("is larger than {limit} octets")),
        Ok(_) => Piece::Present(content),
        Err(error) => Piece::Bad(format!("cannot be read: {error}")),
    }
}
