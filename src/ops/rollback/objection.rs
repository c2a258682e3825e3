//! What nobody can want by accident of an undoing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    document::kubeconfig::{self, Material},
    model::{cluster::Cluster, layout::Layout, observed::Piece, part, timestamp::Timestamp},
    ops::{read, verify::narrowing},
    pki::inspect::{self, Certificate},
    store::{After, Transaction},
};

/// What speaks against undoing something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// A CA or key that everything hangs on would be gone.
    Authority(PathBuf),
    /// A certificate that comes back has expired.
    Expired(PathBuf, Timestamp),
    /// The CA of a certificate that comes back has expired: the certificate's file and the CA's.
    Orphan(PathBuf, PathBuf, Timestamp),
    /// A path that works now would not.
    Path(String),
    /// Something else has changed the file since.
    Stranger(PathBuf),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(file) => {
                write!(
                    f,
                    "{}: was made by it and would be gone, with all that relies on it",
                    file.display()
                )
            }
            Self::Expired(file, end) => {
                write!(f, "{}: what would come back expired {}", file.display(), end.to_kubeadm())
            }
            Self::Orphan(file, authority, end) => write!(
                f,
                "{}: what would come back is of a CA that expired {} ({})",
                file.display(),
                end.to_kubeadm(),
                authority.display()
            ),
            Self::Path(path) => write!(f, "it would break a path that works: {path}"),
            Self::Stranger(file) => {
                write!(f, "{}: something else than certkit has changed it since", file.display())
            }
        }
    }
}

/// Judges changes one after the other, the oldest first.
pub struct Hearing<'a> {
    dir: &'a Path,
    cluster: &'a Cluster,
    /// Whether certkit.yaml declares it.
    declared: bool,
    now: Timestamp,
    /// All of the cluster but what hangs on nodes.
    core: Cluster,
    /// The certificates of CAs that are there, or will be.
    authorities: BTreeMap<PathBuf, Vec<Certificate>>,
    found: Vec<Objection>,
}

impl<'a> Hearing<'a> {
    pub fn new(dir: &'a Path, (cluster, declared): (&'a Cluster, bool), now: Timestamp) -> Self {
        let core = part::core(cluster);
        let instances = Layout::new(&core).instances;
        let there = instances.iter().filter(|instance| instance.spec.is_ca()).map(|instance| {
            let file = instance.place.cert();
            let all = match read::file(&dir.join(file)) {
                Piece::Present(content) => certificates(&content),
                Piece::Missing | Piece::Bad(_) => Vec::new(),
            };
            (file.to_path_buf(), all)
        });
        let authorities = there.collect();
        drop(instances);
        Self { dir, cluster, declared, now, core, authorities, found: Vec::new() }
    }

    /// Adds what speaks against a change of files, and against who else changed some.
    pub fn hear(&mut self, change: &Transaction, strangers: Vec<PathBuf>) {
        self.found.extend(strangers.into_iter().map(Objection::Stranger));
        let lost = lost(&Layout::new(&self.core), self.dir, change);
        self.found.extend(lost);
        self.expired(change);
    }

    /// Adds the paths that work now and would not, were that change made first.
    pub fn try_paths(&mut self, change: &Transaction) {
        let part = part::of_files(self.cluster, change.paths());
        let broken = narrowing::broken(&part.cluster, self.declared, self.dir, change, self.now);
        self.found.extend(broken.into_iter().map(|broken| Objection::Path(broken.path)));
    }

    /// All that was found, each once.
    pub fn found(self) -> Vec<Objection> {
        let mut seen = BTreeSet::new();
        let mut found = self.found;
        found.retain(|one| seen.insert(one.to_string()));
        found
    }

    /// Certificates that would come back though they, or their CAs, have expired.
    fn expired(&mut self, change: &Transaction) {
        for (path, after) in change.outcomes() {
            if let Some(all) = self.authorities.get_mut(path) {
                *all = match after {
                    After::File(content) => certificates(content),
                    After::Nothing | After::Symlink(_) => Vec::new(),
                };
            }
        }
        let now = self.now;
        let is_over = |certificate: &Certificate| certificate.validity().not_after < now;
        let dead = self.authorities.iter().filter(|(_, all)| all.iter().all(is_over));
        let dead: Vec<(&PathBuf, &Certificate)> =
            dead.flat_map(|(file, all)| all.iter().map(move |one| (file, one))).collect();
        for (path, after) in change.outcomes() {
            let After::File(content) = after else { continue };
            for own in owned(content) {
                let file = path.to_path_buf();
                let of_dead = |(_, ca): &&(&PathBuf, &Certificate)| {
                    own.issuer() == ca.subject() && own.signed_by(ca)
                };
                if is_over(&own) {
                    self.found.push(Objection::Expired(file, own.validity().not_after));
                } else if let Some((authority, ca)) = dead.iter().find(of_dead) {
                    let end = ca.validity().not_after;
                    self.found.push(Objection::Orphan(file, (*authority).clone(), end));
                }
            }
        }
    }
}

/// The CAs and keys without certificates that would be gone.
fn lost(layout: &Layout<'_>, dir: &Path, change: &Transaction) -> Vec<Objection> {
    let authorities = layout.instances.iter().filter(|instance| instance.spec.is_ca());
    let mut vital: BTreeSet<PathBuf> =
        authorities.flat_map(|instance| instance.place.files()).collect();
    for pair in &layout.key_pairs {
        vital.extend([PathBuf::from(pair.private), PathBuf::from(pair.public)]);
    }
    let gone = change.outcomes().filter(|(path, after)| {
        let inside = path.strip_prefix(dir).unwrap_or(path);
        matches!(after, After::Nothing) && vital.contains(inside)
    });
    gone.map(|(path, _)| Objection::Authority(path.to_path_buf())).collect()
}

/// The certificates that a file is there for: the first of a file, the longest-lived of a bundle, those of a
/// kubeconfig's users.
fn owned(content: &[u8]) -> Vec<Certificate> {
    let mut all = certificates(content);
    if !all.is_empty() {
        if all.iter().all(Certificate::is_ca) {
            all.sort_by_key(|one| std::cmp::Reverse(one.validity().not_after));
        }
        all.truncate(1);
        return all;
    }
    let Ok(view) = kubeconfig::parse(content) else { return Vec::new() };
    let of_users = view.users.iter().filter_map(|user| match &user.cert {
        Some(Material::Data(pem)) => certificates(pem).into_iter().next(),
        _ => None,
    });
    of_users.collect()
}

fn certificates(content: &[u8]) -> Vec<Certificate> {
    inspect::from_pem(content).unwrap_or_default()
}
