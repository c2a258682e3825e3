//! What kubeconfigs dial and trust, brought up to date: a certificate that is renewed is of no use to a client
//! that does not trust who signed it, or that asks for a name it no longer has.

use crate::model::{
    catalogue::{ApiServer, Home, SanRule, Scope},
    check::evidence::{has_name, host_of, port_of},
    cluster::{Cluster, Endpoint},
    inventory::{CertView, FileContent, Inventory, KubeconfigView},
    layout::{Instance, Layout},
    san::San,
};

/// What is to change in a kubeconfig besides its credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// The URL it is to dial.
    pub server: Option<String>,
    /// Whether it is to trust what is trusted here now, beside what it trusts already.
    pub trust: bool,
    /// Each change in a few words.
    pub differences: Vec<String>,
}

/// How the kubeconfig of an instance is out of date; nothing where it is not.
pub fn amendment(layout: &Layout<'_>, inventory: &Inventory, index: usize) -> Option<Amendment> {
    let instance = &layout.instances[index];
    let view = inventory.instances[index].kubeconfig.present()?;
    let mut amendment = Amendment::default();
    if inventory.declared
        && let Some(wanted) = redirected(layout.cluster, instance, view)
    {
        let found = view.server.as_deref().unwrap_or("nothing");
        amendment.differences.push(format!("dials {found}, declared https://{wanted}"));
        amendment.server = Some(format!("https://{wanted}"));
    }
    // One that names a file follows that file.
    if let (None, Some(there), Some(above)) =
        (&view.authority_file, view.authorities.present(), layout.issuer(index))
        && let Some(missing) = trusted(layout, inventory, above)
            .iter()
            .find(|ca| !there.iter().any(|other| other.fingerprint == ca.fingerprint))
    {
        let subject = &missing.profile.subject;
        let start: String = missing.fingerprint.chars().take(16).collect();
        amendment.differences.push(format!("does not trust {subject} (SHA-256 {start}...)"));
        amendment.trust = true;
    }
    (!amendment.differences.is_empty()).then_some(amendment)
}

/// What verifiers of a CA trust here: what its bundle holds, else what its own file does.
fn trusted<'i>(layout: &Layout<'_>, inventory: &'i Inventory, authority: usize) -> &'i [CertView] {
    let bundle = layout.derived.iter().position(|d| d.authority == authority && !d.is_chain);
    let bundle = bundle.and_then(|at| match inventory.derived[at].content.present()? {
        FileContent::Certificates(all) => Some(all.as_slice()),
        FileContent::Copy { .. } => None,
    });
    let own = || inventory.instances[authority].certificates.present().map(Vec::as_slice);
    bundle.or_else(own).unwrap_or_default()
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

/// The hosts of former endpoints, with those that kubeconfigs still dial and that the API's certificates name,
/// and would no longer: whatever runs has read its kubeconfig, and copies of it are elsewhere.
pub fn former_endpoints(layout: &Layout<'_>, inventory: &Inventory) -> Vec<San> {
    let mut former = layout.cluster.former_endpoints.clone();
    let serving = layout.instances.iter().zip(&inventory.instances).filter(|(instance, _)| {
        instance.spec.sans.contains(&SanRule::Endpoint) && instance.spec.is_server()
    });
    let names: Vec<&San> = serving
        .filter_map(|(_, observed)| Some(&observed.certificate()?.profile.sans))
        .flatten()
        .collect();
    for index in 0..layout.instances.len() {
        let dialled = inventory.instances[index].kubeconfig.present().and_then(|view| {
            amendment(layout, inventory, index)?.server?;
            host_of(view.server.as_deref()?)
        });
        let Some(host) = dialled.and_then(|host| San::parse(&host).ok()) else { continue };
        let still = layout.cluster.endpoint.host == host || former.contains(&host);
        if !still && names.contains(&&host) {
            former.push(host);
        }
    }
    former
}
