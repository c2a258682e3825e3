//! How a changed certificate reaches the programs that use it: a fold over the catalogue's uses.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    catalogue::{
        COMPONENTS, ComponentSpec, LISTENERS, Listener, READS_TRUST_ONCE, Reload, Scope, USES,
        Value,
    },
    cluster::{Host, HostName},
    layout::{Instance, Layout, Place},
};

/// One program that uses changed certificates, on one host.
#[derive(Clone, Debug)]
pub struct Affected<'a> {
    /// The program.
    pub component: &'static ComponentSpec,
    /// Where it runs; none for what the operator runs.
    pub host: Option<&'a Host>,
    /// The certificates, by their index in [`Layout::instances`].
    pub instances: Vec<usize>,
    /// The key pairs without certificate, by their ids.
    pub pairs: Vec<&'static str>,
    /// Those of them that it takes up by a restart only.
    pub restart: Vec<usize>,
    /// How it takes them up.
    pub how: TakeUp,
}

/// How a change is taken up, from the least effort to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TakeUp {
    /// Nothing that runs uses it.
    Nobody,
    /// At the next connection.
    Handshake,
    /// At once.
    Watch,
    /// At its next look, at most so many seconds later.
    Poll(u32),
    /// Only by a restart.
    Restart,
}

/// How often client-go reads the files again that a kubeconfig names (client-go
/// `transport/cert_rotation.go`).
const KUBECONFIG_POLL: u32 = 300;

/// Every program that uses one of the changed certificates or amended kubeconfigs, in the order of the
/// catalogue.
pub fn changes<'a>(
    layout: &Layout<'a>,
    places: &[Place],
    changed: &[usize],
    amended: &[usize],
    pairs: &[&'static str],
) -> Vec<Affected<'a>> {
    let (cluster, instances) = (layout.cluster, &layout.instances);
    let amended: BTreeSet<usize> = amended.iter().copied().collect();
    let mut by_host: BTreeMap<Option<&HostName>, BTreeSet<usize>> = BTreeMap::new();
    for &index in changed.iter().chain(&amended) {
        let host = instances[index].host.map(|host| &host.name);
        by_host.entry(host).or_default().insert(index);
    }
    let mut found: Vec<Affected<'a>> = Vec::new();
    for component in COMPONENTS.iter().filter(|c| cluster.has(c.present)) {
        let hosts: Vec<Option<&Host>> = match component.scope {
            Scope::Cluster => vec![None],
            scope => cluster.hosts_in(scope).map(Some).collect(),
        };
        for host in hosts {
            let (instances_used, restart) = (Vec::new(), Vec::new());
            let how = TakeUp::Nobody;
            let mut change = Affected {
                component,
                host,
                instances: instances_used,
                pairs: Vec::new(),
                restart,
                how,
            };
            // What is the cluster's own, a CA above all, is used on every host.
            let own = by_host.get(&host.map(|host| &host.name));
            let shared = by_host.get(&None).filter(|_| host.is_some());
            for &index in own.into_iter().chain(shared).flatten() {
                let instance = &instances[index];
                let place = &places[index];
                for row in USES.iter().filter(|row| row.component == component.id) {
                    // A kubeconfig's CA is what its client trusts.
                    if let Value::Kubeconfig(id) = row.value
                        && instance.spec.is_ca()
                        && layout
                            .find(id, &host.map(|h| cluster.root_of(h)).unwrap_or_default())
                            .is_some_and(|client| layout.issuer(client) == Some(index))
                    {
                        let how = match row.reload {
                            Reload::Nothing => TakeUp::Nobody,
                            _ if READS_TRUST_ONCE.contains(&component.id) => TakeUp::Restart,
                            _ => TakeUp::Poll(KUBECONFIG_POLL),
                        };
                        change.how = change.how.max(how);
                        if how == TakeUp::Restart && change.restart.last() != Some(&index) {
                            change.restart.push(index);
                        }
                        if change.instances.last() != Some(&index) {
                            change.instances.push(index);
                        }
                        continue;
                    }
                    if row.certificate() == Some(instance.spec.id) && cluster.has(row.present) {
                        // A kubeconfig itself is read at start only; what it names is read again.
                        let how = match row.value {
                            Value::Kubeconfig(_) if amended.contains(&index) => match row.reload {
                                Reload::Nothing => TakeUp::Nobody,
                                _ => TakeUp::Restart,
                            },
                            _ => take_up(row.reload, place),
                        };
                        change.how = change.how.max(how);
                        if how == TakeUp::Restart && change.restart.last() != Some(&index) {
                            change.restart.push(index);
                        }
                        if change.instances.last() != Some(&index) {
                            change.instances.push(index);
                        }
                    }
                }
            }
            for row in USES.iter().filter(|row| row.component == component.id) {
                let (Value::PrivateKey(id) | Value::PublicKey(id)) = row.value else { continue };
                if pairs.contains(&id) && cluster.has(row.present) {
                    change.how = change.how.max(match row.reload {
                        Reload::Nothing => TakeUp::Nobody,
                        Reload::Handshake => TakeUp::Handshake,
                        Reload::Watch => TakeUp::Watch,
                        Reload::Poll(seconds) => TakeUp::Poll(seconds),
                        Reload::Restart | Reload::Kubeconfig => TakeUp::Restart,
                    });
                    if !change.pairs.contains(&id) {
                        change.pairs.push(id);
                    }
                }
            }
            if !change.instances.is_empty() || !change.pairs.is_empty() {
                add(&mut found, with_reader(change));
            }
        }
    }
    found
}

fn take_up(reload: Reload, place: &Place) -> TakeUp {
    match (reload, place) {
        (Reload::Nothing, _) => TakeUp::Nobody,
        (Reload::Handshake, _) => TakeUp::Handshake,
        (Reload::Watch, _) => TakeUp::Watch,
        (Reload::Poll(seconds), _) => TakeUp::Poll(seconds),
        (Reload::Restart, _) | (Reload::Kubeconfig, Place::Embedded { .. }) => TakeUp::Restart,
        // With rotation of its own the kubelet never looks at the file again
        // (client-go util/certificate/certificate_manager.go).
        (Reload::Kubeconfig, place) if is_kubelets_own(place) => TakeUp::Restart,
        (Reload::Kubeconfig, _) => TakeUp::Poll(KUBECONFIG_POLL),
    }
}

/// Whether it is a file that the kubelet itself renews.
pub fn is_kubelets_own(place: &Place) -> bool {
    let name = place.cert().file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with("-current.pem")
}

/// A configuration file that has rows of its own is no program: the change is for the one that reads it.
fn with_reader(change: Affected<'_>) -> Affected<'_> {
    let reader = USES.iter().find_map(|row| match row.value {
        Value::ConfigFile(id) if id == change.component.id && row.component != id => {
            COMPONENTS.iter().find(|c| c.id == row.component).zip(Some(row.reload))
        }
        _ => None,
    });
    match reader {
        Some((component, Reload::Restart)) => {
            let restart = change.instances.clone();
            Affected { component, how: TakeUp::Restart, restart, ..change }
        }
        _ => change,
    }
}

/// Adds a change to what is known of the same program on the same host.
fn add<'a>(found: &mut Vec<Affected<'a>>, change: Affected<'a>) {
    let same = found.iter_mut().find(|other| {
        other.component.id == change.component.id
            && other.host.map(|h| &h.name) == change.host.map(|h| &h.name)
    });
    match same {
        Some(other) => {
            other.how = other.how.max(change.how);
            other.instances.extend(change.instances);
            other.pairs.extend(change.pairs);
            other.restart.extend(change.restart);
        }
        None => found.push(change),
    }
}

/// The listeners of a program that serve one of these certificates.
pub fn listeners<'a>(
    change: &'a Affected<'_>,
    instances: &'a [Instance<'_>],
) -> impl Iterator<Item = (&'static Listener, usize)> + 'a {
    LISTENERS.iter().filter(|l| l.component == change.component.id).filter_map(|listener| {
        let index = *change
            .instances
            .iter()
            .find(|index| instances[**index].spec.id == listener.certificate)?;
        Some((listener, index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::{Cluster, KubeconfigStyle};

    fn cluster(addons: &[&str]) -> Cluster {
        let host = Host {
            name: "cp1".parse().unwrap(),
            addresses: vec!["10.0.0.11".parse().unwrap()],
            port: None,
            control_plane: true,
            etcd: true,
            node: true,
            ssh: None,
        };
        let mut cluster = Cluster::new("c".into(), "api:6443".parse().unwrap(), vec![host]);
        cluster.addons = addons.iter().map(|a| (*a).to_owned()).collect();
        cluster
    }

    fn how(cluster: &Cluster, id: &str) -> Vec<(&'static str, TakeUp)> {
        let layout = Layout::new(cluster);
        let instances = &layout.instances;
        let places: Vec<Place> = instances.iter().map(|i| i.place.clone()).collect();
        let index = instances.iter().position(|i| i.spec.id.name() == id).unwrap();
        let found = changes(&layout, &places, &[index], &[], &[]);
        found.iter().map(|change| (change.component.id, change.how)).collect()
    }

    #[test]
    fn nothing_is_restarted_with_the_layout_certkit_makes() {
        let cluster = cluster(&["kube-proxy"]);
        for instance in Layout::new(&cluster).instances.iter().filter(|i| !i.spec.is_ca()) {
            for (component, how) in how(&cluster, instance.spec.id.name()) {
                assert_ne!(how, TakeUp::Restart, "{component} for {}", instance.spec.id);
            }
        }
    }

    #[test]
    fn each_leaf_reaches_somebody() {
        let cluster = cluster(&["kube-proxy", "konnectivity", "istio"]);
        for instance in Layout::new(&cluster).instances.iter().filter(|i| !i.spec.is_ca()) {
            assert!(!how(&cluster, instance.spec.id.name()).is_empty(), "{}", instance.spec.id);
        }
    }

    #[test]
    fn what_is_embedded_is_taken_up_by_a_restart_only() {
        let mut cluster = cluster(&[]);
        cluster.kubeconfig_style = KubeconfigStyle::Embedded;
        assert_eq!(how(&cluster, "scheduler.conf"), [("kube-scheduler", TakeUp::Restart)]);
        assert_eq!(how(&cluster, "admin.conf"), [("kubectl", TakeUp::Nobody)]);
    }

    #[test]
    fn who_reads_the_egress_selector_is_who_restarts() {
        let cluster = cluster(&["konnectivity"]);
        let found = how(&cluster, "konnectivity-egress-client");
        assert_eq!(found, [("kube-apiserver", TakeUp::Restart)]);
    }
}
