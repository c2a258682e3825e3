//! From the files of one tree to rows.

use std::{path::Path, sync::Arc};

use super::{Gathered, HostTree, KUBELET_FILES, OnDisk};
use crate::{
    model::{
        catalogue::{CertId, CertSpec, Home, Scope, roles},
        check::expiry::{Found, Inside, Origin, Remark, Row, RowRole},
        observed::Piece,
        timestamp::Timestamp,
    },
    ops::{
        expiry::{
            authority::{self, Issuing, Known},
            certificates, facts, kubeconfig, nth, role, row, shown,
        },
        observe, read,
    },
    pki::inspect::Certificate,
};

/// Makes the rows of one tree.
pub struct Gatherer<'a> {
    /// The tree.
    pub tree: &'a HostTree,
    /// Whether details are wanted.
    pub details: bool,
    /// Whether listeners are asked, so that what they should serve is kept.
    pub connects: bool,
    /// The time it is judged at.
    pub now: Timestamp,
    /// Where they go.
    pub all: &'a mut Gathered,
}

impl Gatherer<'_> {
    /// A CA's certificate, and whatever else its bundle and chain hold.
    pub fn authority(&mut self, spec: &'static CertSpec) {
        let Home::Authority { cert, key, bundle, chain } = spec.home else { return };
        let issuing = self.issuing(spec.id, Path::new(cert), Path::new(key));
        for (file, name, required) in [
            (Some(cert), spec.id.to_string(), self.tree.required.contains(&spec.id)),
            (bundle, format!("{}-bundle", spec.id), false),
            (chain, format!("{}-chain", spec.id), false),
        ] {
            let Some(file) = file else { continue };
            let path = self.tree.root.join(file);
            let mut found = self.file(&path, required);
            // The one that its key belongs to is the CA, wherever in its file it stands.
            let own = file == cert;
            if let Some(issuing) = issuing.as_ref().filter(|_| own)
                && let Some(signer) = issuing.certificates.first()
            {
                let is_it = |f: &Option<Result<Certificate, String>>| {
                    f.as_ref().is_some_and(|f| f.as_ref() == Ok(signer))
                };
                if let Some(at) = found.iter().position(is_it) {
                    found[..=at].rotate_right(1);
                }
            }
            for (index, found) in found.into_iter().enumerate() {
                // Only the CA's own file goes with its key.
                let has_key = own && issuing.as_ref().is_some_and(|i| i.has_key(index));
                let origin = Origin { path: shown(&path), inside: None };
                self.push(
                    &nth(&name, index),
                    origin,
                    RowRole::Authority,
                    found,
                    Some(has_key),
                    spec,
                );
            }
        }
    }

    /// Reads what signs here. What a workspace declares is signed by DIR's CAs, not by a host's copies.
    fn issuing(&mut self, id: CertId, cert: &Path, key: &Path) -> Option<Arc<Issuing>> {
        let is_copy = self.tree.host.is_some() && self.tree.is_declared;
        let is_here = |file: &Path| self.tree.root.join(file).symlink_metadata().is_ok();
        if is_copy && !is_here(key) || !is_here(cert) {
            return None;
        }
        let (held, certificates) = observe::authority(&self.tree.root, cert, key);
        let is_hidden = is_unreadable(&self.tree.root.join(key));
        let issuing = Arc::new(Issuing { held, certificates, is_hidden });
        if !is_copy {
            self.all.issuing.insert(id, Arc::clone(&issuing));
        }
        Some(issuing)
    }

    pub fn leaf(&mut self, spec: &'static CertSpec, path: &Path) {
        let found = self.file(path, self.tree.required.contains(&spec.id));
        self.leaves(spec, spec.id.name(), path, None, found);
    }

    /// The first is the leaf itself, the rest its chain.
    fn leaves(
        &mut self,
        spec: &'static CertSpec,
        name: &str,
        path: &Path,
        inside: Option<Inside>,
        found: Vec<Option<Result<Certificate, String>>>,
    ) {
        for (index, found) in found.into_iter().enumerate() {
            if let (0, true, Some(Ok(certificate))) =
                (index, self.connects && spec.is_server(), &found)
            {
                self.all.servers.push(OnDisk {
                    id: spec.id,
                    host: self.tree.host.clone(),
                    path: shown(path),
                    certificate: certificate.clone(),
                });
            }
            let origin = Origin { path: shown(path), inside: inside.clone() };
            self.push(&nth(name, index), origin, RowRole::Leaf, found, None, spec);
        }
    }

    pub fn kubeconfig(&mut self, spec: &'static CertSpec, path: &Path) {
        let origin = Origin { path: shown(path), inside: None };
        let content = match read::file(path) {
            Piece::Present(content) => content,
            Piece::Missing => {
                if self.tree.required.contains(&spec.id) {
                    self.push(spec.id.name(), origin, RowRole::Leaf, None, None, spec);
                }
                return;
            }
            Piece::Bad(why) => {
                return self.push(
                    spec.id.name(),
                    origin,
                    RowRole::Leaf,
                    Some(Err(why)),
                    None,
                    spec,
                );
            }
        };
        let tree = self.tree;
        let locate = |named: &str| Some(tree.locate(path, named));
        let entries = match kubeconfig::entries(&content, path, &locate) {
            Ok(entries) => entries,
            Err(why) => {
                return self.push(
                    spec.id.name(),
                    origin,
                    RowRole::Leaf,
                    Some(Err(why)),
                    None,
                    spec,
                );
            }
        };
        for entry in entries {
            let found = entry.certificates.into_iter().map(Some).collect();
            match &entry.inside {
                Inside::Cluster(name) => {
                    let name = format!("{} (cluster {name})", spec.id);
                    for (index, found) in Vec::into_iter(found).enumerate() {
                        let origin =
                            Origin { path: shown(&entry.path), inside: Some(entry.inside.clone()) };
                        self.push(
                            &nth(&name, index),
                            origin,
                            RowRole::Authority,
                            found,
                            None,
                            spec,
                        );
                    }
                }
                Inside::User(_) if entry.current => {
                    self.leaves(
                        spec,
                        spec.id.name(),
                        &entry.path,
                        Some(entry.inside.clone()),
                        found,
                    );
                }
                Inside::User(name) => {
                    let name = format!("{} (user {name})", spec.id);
                    self.leaves(spec, &name, &entry.path, Some(entry.inside.clone()), found);
                }
                Inside::Listener | Inside::Object { .. } | Inside::Secret { .. } => {}
            }
        }
    }

    /// A declared file of an etcd that is somebody else's. In a workspace only what is inside the host's tree can
    /// be looked at.
    pub fn external(&mut self, id: CertId, file: &str) {
        let spec = id.spec();
        if self.tree.host.is_some() && !self.tree.has_inside(Path::new(file)) {
            return;
        }
        let Ok(path) = self.tree.locate(&self.tree.root.join(id.name()), file) else { return };
        let text = shown(&path);
        if !self.all.rows.iter().any(|row| row.origin.path == text) {
            let found = self.file(&path, true);
            self.leaves(spec, spec.id.name(), &path, None, found);
        }
    }

    /// What the kubelet keeps for itself. kubelet.conf may name one of these: then it is that row.
    pub fn kubelet(&mut self) {
        let (Some(dir), true) = (&self.tree.kubelet_dir, self.tree.has(Scope::Node)) else {
            return;
        };
        let signed = dir.join("kubelet-server-current.pem").exists();
        for (file, is_server) in KUBELET_FILES {
            let path = dir.join(file);
            let text = shown(&path);
            if self.all.rows.iter().any(|row| row.origin.path == text) {
                continue;
            }
            let spec = if is_server { roles::KUBELET_SERVING } else { roles::NODE };
            let before = self.all.rows.len();
            let found = self.file(&path, false);
            self.leaves(spec, file, &path, None, found);
            if file == "kubelet.crt" && signed {
                let note = "kubelet-server-current.pem is there too: if the kubelet serves that, \
                            this file is left over and can be removed";
                for row in &mut self.all.rows[before..] {
                    row.remarks.push(Remark::Note(note.to_owned()));
                }
            }
        }
    }

    /// The certificates of a PEM file; `None` for one that is missing and must be there.
    fn file(&self, path: &Path, required: bool) -> Vec<Option<Result<Certificate, String>>> {
        match read::file(path) {
            Piece::Missing if required => vec![None],
            Piece::Missing => Vec::new(),
            Piece::Bad(why) => vec![Some(Err(why))],
            Piece::Present(content) => certificates(&content).into_iter().map(Some).collect(),
        }
    }

    /// Adds a row, or to the row of a CA that is known already another place where it is.
    fn push(
        &mut self,
        name: &str,
        origin: Origin,
        expected: RowRole,
        found: Option<Result<Certificate, String>>,
        has_key: Option<bool>,
        spec: &'static CertSpec,
    ) {
        let (name, host) = match &self.tree.host {
            Some(host) => (name.to_owned(), Some(host.clone())),
            None => (name.to_owned(), None),
        };
        let certificate = match found {
            None | Some(Err(_)) => {
                let found = match found {
                    Some(Err(why)) => Found::Unreadable(why),
                    _ => Found::Missing,
                };
                let mut row = Row { host, ..row(name, origin, expected, found) };
                if row.found == Found::Missing && self.tree.requested.contains(&spec.id) {
                    row.remarks.push(Remark::Note("waits for its signature".into()));
                }
                return self.all.rows.push(row);
            }
            Some(Ok(certificate)) => certificate,
        };
        let known = &mut self.all.known;
        if let Some(same) = known.iter_mut().find(|ca| ca.certificate == certificate) {
            same.has_key |= has_key == Some(true);
            let same = same.row;
            if let Some(row) = self.all.rows.get_mut(same).filter(|r| r.host == host) {
                row.also_in.push(origin.to_string());
            }
            return;
        }
        let role = role(&certificate);
        let signer = authority::signer(&certificate, known.iter());
        // Only the catalogue's own leaves are renewed, not what else lies in their files.
        let issuing = spec.issuer_id().filter(|_| name == spec.id.name() && !spec.is_ca());
        let issuing = issuing.and_then(|id| self.all.issuing.get(&id));
        let row = Row {
            host,
            authority: match signer {
                Some(ca) => Some(ca.name.clone()),
                None if certificate.is_self_issued() => None,
                None => certificate.issuer_common_name(),
            },
            externally_managed: match (has_key, issuing) {
                (Some(has_key), _) => !has_key,
                (None, Some(ca)) => {
                    ca.is_elsewhere(&certificate, signer, self.tree.is_declared, self.now)
                }
                (None, None) => signer.is_none_or(|ca| !ca.has_key),
            },
            ..row(name.clone(), origin, role, facts(&certificate, self.details))
        };
        if role == RowRole::Authority {
            known.push(Known {
                name,
                certificate,
                has_key: has_key == Some(true),
                row: self.all.rows.len(),
            });
        }
        self.all.rows.push(row);
    }
}

/// Whether it is there and may not be read by who runs this.
fn is_unreadable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK) == Err(rustix::io::Errno::ACCESS)
}
