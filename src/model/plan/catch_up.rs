//! Nodes that the stage of a CA has not come to. A cluster of many nodes goes through a stage part by part: the files of the
//! CA itself with the control plane, and then so many nodes at a time. What a node is to have then follows from the CA's
//! files alone, whichever step led to them, so that whoever is cut short, or cannot change a node, leaves to the next run
//! exactly what is left.
//!
//! In whatever order nodes come, no path that works is lost between two of them, as long as all of a stage is done before
//! the next one begins:
//! - a generation that is made is trusted besides, and shows up in no certificate before all trust it;
//! - another one issues, or the one before does again, while all trust both: whoever signed what an end shows;
//! - one is trusted no longer when no certificate that is in place, on any host, was signed by it.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use super::{Action, CertRef, Reason, reconcile::Reconciler};
use crate::model::{
    authority::{Generations, Slot, Stage},
    catalogue::Home,
    cluster::{Host, HostName},
    layout::{self, Layout},
    observed::{CertView, HeldCopy, Observed, Signer},
};

/// The nodes that have not what they are to have at the stage of this CA.
pub fn behind(layout: &Layout<'_>, observed: &Observed, authority: usize) -> BTreeSet<HostName> {
    let leaves = signed_by_others(layout, observed, authority);
    let of_leaves = leaves.into_iter().filter_map(|leaf| layout.instances[leaf].host);
    let of_copies = stale_copies(layout, observed, authority).into_iter().map(|(host, _)| host);
    of_leaves.chain(of_copies).map(|host| host.name.clone()).collect()
}

/// Nodes' certificates that another generation signed. One that somebody else signed is for `certkit rotate`.
fn signed_by_others(layout: &Layout<'_>, observed: &Observed, authority: usize) -> Vec<usize> {
    let instances = layout.instances.iter().enumerate();
    let is_late = |(leaf, instance): &(usize, &layout::Instance<'_>)| {
        layout.issuer(*leaf) == Some(authority)
            && instance.host.is_some_and(Host::is_only_node)
            && observed.instances[*leaf].signer == Some(Signer::Trusted)
    };
    instances.filter(is_late).map(|(leaf, _)| leaf).collect()
}

/// Whether a file is a CA's own, or says whom to trust in its place.
fn is_own(authority: &layout::Instance<'_>, file: &Path) -> bool {
    let Home::Authority { cert, key, bundle, chain } = authority.spec.home else { return false };
    [Some(cert), Some(key), bundle, chain].into_iter().flatten().any(|own| file == Path::new(own))
}

/// Nodes' copies of a CA's files that are not what these hold.
fn stale_copies<'l>(
    layout: &'l Layout<'_>,
    observed: &Observed,
    authority: usize,
) -> Vec<(&'l Host, &'l layout::Copy)> {
    let ca = &layout.instances[authority];
    let cluster = layout.cluster;
    let nodes = cluster.hosts.iter().filter(|host| host.is_only_node());
    let nodes: HashMap<PathBuf, &Host> = nodes.map(|host| (cluster.root_of(host), host)).collect();
    let copies = layout.copies.iter().zip(&observed.copies);
    let stale = copies.filter(|(copy, found)| {
        matches!(found, HeldCopy::Differs | HeldCopy::Bad(_)) && is_own(ca, &copy.from)
    });
    stale
        .filter_map(|(copy, _)| {
            let host = copy.to.ancestors().find_map(|folder| nodes.get(folder))?;
            Some((*host, copy))
        })
        .collect()
}

impl<'a> Reconciler<'a> {
    /// Has nodes get what they are to have at the stage of this CA.
    pub(super) fn catch_up(&mut self, index: usize) {
        let (layout, observed) = (self.layout, self.observed);
        let generations = Generations::of(layout, observed, index);
        let Some(active) = generations.active else { return };
        let (stage, cross) = (generations.stage(), self.crossed(index, active));
        let there = |ca: &CertView| CertRef::There(ca.der.clone());
        let bundle: Vec<CertRef> = generations.trusted.iter().map(there).collect();
        let leaves = signed_by_others(layout, observed, index);
        if !leaves.is_empty() {
            let signing = self.signing(self.held(index), active, None);
            if let Some(obstacle) = signing.obstacle() {
                return self.block_authority(index, obstacle);
            }
        }
        for leaf in leaves {
            self.reissue(leaf, (index, Slot::Active), &bundle, cross.clone(), stage);
        }
        let behind = stale_copies(layout, observed, index);
        let hosts: BTreeSet<&HostName> = behind.iter().map(|(host, _)| &host.name).collect();
        let is_late = |this: &Self, leaf: usize| {
            let instance = this.spec_of(leaf);
            layout.issuer(leaf) == Some(index)
                && instance.host.is_some_and(|host| hosts.contains(&host.name))
                && !this.held(leaf).place.files().iter().any(|file| this.files.contains(file))
        };
        let late: Vec<usize> =
            (0..layout.instances.len()).filter(|leaf| is_late(self, *leaf)).collect();
        for leaf in &late {
            let gone = self.no_longer_trusted(*leaf, index);
            self.send_no_longer(index, &[*leaf], &gone, &bundle);
        }
        self.carry(&late, &bundle, stage);
        for (_, copy) in behind {
            self.copy(copy, &copy.from, stage);
        }
    }

    /// What a host's own file trusts of a CA, and DIR's does not.
    pub(super) fn no_longer_trusted(&self, leaf: usize, authority: usize) -> Vec<&'a CertView> {
        let id = self.spec_of(authority).spec.id;
        let own = self.observed.trust.get(&(self.spec_of(leaf).root.clone(), id));
        let own = own.and_then(|trust| trust.certificates.present());
        let generations = Generations::of(self.layout, self.observed, authority);
        let is_gone = |ca: &&CertView| generations.trusted.iter().all(|one| one.der != ca.der);
        own.into_iter().flat_map(|all| all.iter()).filter(is_gone).collect()
    }

    /// The CA of which a node has another copy than it is to have.
    pub(super) fn late(&self, copy: &layout::Copy) -> Option<&'static str> {
        let name = copy.to.components().nth(1)?;
        let is_it = |host: &&Host| Path::new(host.name.as_ref()) == Path::new(&name);
        self.cluster.hosts.iter().find(is_it).filter(|host| host.is_only_node())?;
        let all = self.layout.instances.iter().filter(|one| one.spec.is_ca());
        let is_its = |one: &&layout::Instance<'_>| is_own(one, &copy.from);
        all.filter(is_its).map(|one| one.spec.id.name()).next()
    }

    /// Copies a file from what it will be made from.
    pub(super) fn copy(&mut self, copy: &layout::Copy, from: &Path, stage: Stage) {
        let action = Action::Copy { from: from.to_path_buf(), mode: copy.mode };
        let label = copy.from.display().to_string();
        self.step(action, label, vec![copy.to.clone()], Reason::Stage(stage));
    }
}
