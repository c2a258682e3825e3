//! What kubeconfigs dial and trust, brought up to date: a certificate that is renewed is of no use to a client
//! that does not trust who signed it, or that asks for a name it no longer has.

use std::path::{Path, PathBuf};

use super::CertRef;
use crate::model::{
    catalogue::{ApiServer, Home, SanRule, Scope},
    cluster::{Cluster, Endpoint},
    layout::{Instance, KUBELET_DIR, Layout, Place},
    observed::{CertView, KubeconfigView, Observed},
    resolve,
    san::{San, has_name},
    shown,
    url::{host_of, port_of},
};

/// A kubeconfig that is to be written: all of it, or what changes in it.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeconfigWrite {
    /// The instance whose it is.
    pub instance: usize,
    /// The file, relative to DIR.
    pub file: PathBuf,
    /// What is written.
    pub content: KubeconfigContent,
    /// Whether it holds the instance's credential itself, and is written with that where that is made.
    pub embeds: bool,
}

/// What of a kubeconfig is written.
#[derive(Clone, Debug, PartialEq)]
pub enum KubeconfigContent {
    /// All of it.
    New {
        /// The cluster's name.
        cluster: String,
        /// The URL it dials.
        server: String,
        /// The user's name.
        user: String,
        /// What it trusts.
        trust: Trusts,
        /// The files of its credential as they are named on its host; none where it embeds it.
        files: Option<(String, String)>,
    },
    /// What changes, every other octet staying as it is. What it trusts so far it goes on trusting.
    Edit {
        /// The URL it is to dial.
        server: Option<String>,
        /// All that it is to trust.
        trust: Option<Vec<CertRef>>,
    },
}

/// What a new kubeconfig trusts.
#[derive(Clone, Debug, PartialEq)]
pub enum Trusts {
    /// What this file holds, as it is named on the host.
    File(String),
    /// These, in the kubeconfig itself.
    Data(Vec<CertRef>),
}

/// How a kubeconfig is out of date.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amendment {
    /// The URL it is to dial.
    pub server: Option<String>,
    /// All that it is to trust.
    pub trust: Option<Vec<CertRef>>,
    /// Each change in a few words.
    pub differences: Vec<String>,
}

/// How the kubeconfig of an instance is out of date; nothing where it is not. `trusted` is what is trusted in place
/// of its CA.
pub fn amendment(
    layout: &Layout<'_>,
    observed: &Observed,
    index: usize,
    trusted: &[CertView],
) -> Option<Amendment> {
    let instance = &layout.instances[index];
    let view = observed.instances[index].readable_kubeconfig()?;
    let mut amendment = Amendment::default();
    if let Some(wanted) = redirection(layout, observed, index) {
        let found = view.server.as_deref().unwrap_or("nothing");
        amendment.differences.push(format!("dials {found}, declared {wanted}"));
        amendment.server = Some(wanted);
    }
    // One that names a file follows that file.
    if let (None, Some(there), Some(_)) =
        (&view.authority_file, view.authorities.present(), instance.issuer)
        && let Some(missing) =
            trusted.iter().find(|ca| !there.iter().any(|other| other.fingerprint == ca.fingerprint))
    {
        let subject = &missing.profile.subject;
        let start: String = missing.fingerprint.chars().take(16).collect();
        amendment.differences.push(format!("does not trust {subject} (SHA-256 {start}...)"));
        let known = |ca: &&CertView| !trusted.iter().any(|other| other.der == ca.der);
        let all = trusted.iter().chain(there.iter().filter(known));
        amendment.trust = Some(all.map(|ca| CertRef::There(ca.der.clone())).collect());
    }
    (!amendment.differences.is_empty()).then_some(amendment)
}

/// The URL that the kubeconfig of an instance is to dial instead of the one it does.
pub fn redirection(layout: &Layout<'_>, observed: &Observed, index: usize) -> Option<String> {
    let view = observed.instances[index].readable_kubeconfig().filter(|_| observed.declared)?;
    let wanted = redirected(layout.cluster, &layout.instances[index], view)?;
    Some(format!("https://{wanted}"))
}

/// Where a kubeconfig is to point that points at nothing of this cluster any more. Any address of the control
/// plane may have been chosen on purpose.
fn redirected(
    cluster: &Cluster,
    instance: &Instance<'_>,
    view: &KubeconfigView,
) -> Option<Endpoint> {
    let Home::Kubeconfig { server, .. } = instance.spec.home else { return None };
    let url = view.server.as_deref()?;
    let (host, wanted) = (host_of(url)?, cluster.server_for(server, instance.host));
    let is = |san: &San| has_name(std::slice::from_ref(san), &host);
    if is(&wanted.host) {
        // The same host on another port. A URL that says none was written by somebody who means 443.
        let is_said = instance.host.is_some_and(|host| host.port.is_some());
        let moved = (server == ApiServer::Endpoint || is_said)
            && port_of(url).is_some_and(|port| port != wanted.port);
        return moved.then_some(wanted);
    }
    let is_of = |one: &crate::model::cluster::Host| {
        one.addresses.iter().any(|address| is(&San::Ip(*address))) || one.name.as_ref() == host
    };
    let is_loopback = host == "localhost"
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    let known = is(&cluster.endpoint.host) && server == ApiServer::Local
        || is_loopback
        || cluster.hosts_in(Scope::ControlPlane).any(is_of);
    (!known).then_some(wanted)
}

/// How the kubeconfig of an instance has its credential in another way or place than certkit.yaml says by now. It is
/// no certificate's business, and whoever wrote it may have put more into it: so it stays, and is told.
pub fn kept_otherwise(
    layout: &Layout<'_>,
    observed: &Observed,
    dir: &Path,
    index: usize,
) -> Option<String> {
    let (instance, held) = (&layout.instances[index], &observed.instances[index]);
    let view = held.readable_kubeconfig().filter(|_| observed.declared)?;
    // Kubeconfigs to be carried embed in every style, and a kubelet names what it gets itself.
    let Home::Kubeconfig { pem: Some(_), .. } = instance.spec.home else { return None };
    let is_kubelets = |path: &str| Path::new(path).starts_with(KUBELET_DIR);
    if view.named.as_deref().is_some_and(is_kubelets) {
        return None;
    }
    let (what, field) = match (&held.place, &instance.place) {
        (Place::Embedded { .. }, Place::Named { .. }) => {
            ("embeds its credential".to_owned(), "kubeconfigStyle: files".to_owned())
        }
        (Place::Named { .. }, Place::Embedded { .. }) => {
            ("names its credential's files".to_owned(), "kubeconfigStyle: embedded".to_owned())
        }
        (Place::Named { .. }, Place::Named { .. }) => {
            // What it names is not where certkit.yaml says that the tree is on its host.
            let named = view.named.as_deref()?;
            let home = layout.cluster.dir_on(instance.host, dir);
            if !Path::new(named).is_absolute() || Path::new(named).starts_with(&home) {
                return None;
            }
            let home = format!("that the tree is in {} (hostDir, else DIR)", home.display());
            (format!("names {}", shown::name(named)), home)
        }
        _ => return None,
    };
    let file = view.file.display();
    Some(format!(
        "{file}: {what}, and certkit.yaml says {field}; it stays as it is. To have it made as declared, move it away \
         and run `certkit init`"
    ))
}

/// The hosts of former endpoints, with those that kubeconfigs still dial and that the API's certificates name,
/// and would no longer: whatever runs has read its kubeconfig, and copies of it are elsewhere. Pods dial the
/// service's address, which is the first one of another subnet once that was changed.
pub fn former_endpoints(layout: &Layout<'_>, observed: &Observed) -> Vec<San> {
    let mut former = layout.cluster.former_endpoints.clone();
    let serving = layout.instances.iter().zip(&observed.instances).filter(|(instance, _)| {
        instance.spec.sans.contains(&SanRule::Endpoint) && instance.spec.is_server()
    });
    let names: Vec<&San> = serving
        .filter_map(|(_, observed)| Some(&observed.certificate()?.profile.sans))
        .flatten()
        .collect();
    for index in 0..layout.instances.len() {
        let dialled = observed.instances[index].readable_kubeconfig().and_then(|view| {
            redirection(layout, observed, index)?;
            host_of(view.server.as_deref()?)
        });
        let Some(host) = dialled.and_then(|host| San::parse(&host).ok()) else { continue };
        let still = layout.cluster.endpoint.host == host || former.contains(&host);
        if !still && names.contains(&&host) {
            former.push(host);
        }
    }
    for address in former_service_addresses(layout, observed) {
        if !former.contains(&address) {
            former.push(address);
        }
    }
    former
}

/// The address of the service `kubernetes` that the API's certificates name while another one is declared: a pod
/// learns it when it starts (`KUBERNETES_SERVICE_HOST`), and verifies the apiserver by it as long as it runs.
///
/// What a subnet was is written nowhere. But certkit, as kubeadm, puts this address before all other addresses, so
/// where the declared one is missing, it is the first; unless that is somebody's else by the declaration.
pub fn former_service_addresses(layout: &Layout<'_>, observed: &Observed) -> Vec<San> {
    let mut former = Vec::new();
    for (instance, held) in layout.instances.iter().zip(&observed.instances) {
        let is_named = instance.spec.sans.contains(&SanRule::ServiceAddress)
            && layout.cluster.override_of(instance.spec.id.name()).sans.is_none();
        let (true, Some(certificate)) = (is_named, held.certificate()) else { continue };
        let addresses = |sans: &[San]| {
            let is_address = |san: &&San| matches!(san, San::Ip(_));
            sans.iter().filter(is_address).cloned().collect::<Vec<San>>()
        };
        let has = addresses(&certificate.profile.sans);
        let wants = addresses(&resolve::profile(instance, layout.cluster).sans);
        let is_changed = wants.first().is_some_and(|service| !has.contains(service));
        if let Some(first) = has.first().filter(|_| is_changed)
            && (!wants.contains(first) || layout.cluster.former_endpoints.contains(first))
            && !former.contains(first)
        {
            former.push(first.clone());
        }
    }
    former
}

/// What is to be said of addresses that are kept for pods.
pub fn former_service_notes(layout: &Layout<'_>, observed: &Observed) -> Vec<String> {
    let former = former_service_addresses(layout, observed);
    let note = |address: &San| {
        format!(
            "{address}: pods that run dial the apiserver by this first address of a former serviceSubnet, so its \
             certificates keep it; once every pod was started anew, take it out of formerEndpoints in certkit.yaml"
        )
    };
    former.iter().map(note).collect()
}
