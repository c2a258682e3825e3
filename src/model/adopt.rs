//! Trees that something else made: how they are seen while nothing is declared, and the declaration that
//! reproduces them.

mod difference;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

pub use difference::{Deviation, differences};

use super::{
    algorithm::KeyAlgorithm,
    catalogue::{self, COMPONENTS, CertSpec, Condition, KEYS, roles},
    cluster::{
        API_PORT, Cluster, DeclaredSubject, Endpoint, Etcd, Host, HostName, KubeconfigStyle,
        Override, Subnet, Usages,
    },
    duration::Span,
    layout::{Instance, Layout, Place},
    name::Name,
    observed::{CertView, Observed, Piece},
    plan::difference::names_the_same,
    profile::Validity,
    resolve::{self, BACKDATE},
    san::San,
    usage::ExtendedUsage,
};

/// Every row of the catalogue in its place, on one host: what is seen where nothing is declared. Nothing
/// but places may be taken from it.
pub fn anything(name: HostName) -> Cluster {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let host = Host {
        name,
        addresses: vec![address],
        port: None,
        control_plane: true,
        etcd: true,
        node: true,
        ssh: None,
    };
    let endpoint = Endpoint { host: San::Ip(address), port: API_PORT };
    let mut cluster = Cluster::new("kubernetes".into(), endpoint, vec![host]);
    cluster.addons = catalogue::addons().into_iter().map(str::to_owned).collect();
    cluster
}

/// What is known of a tree besides its certificates.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The cluster's name in a kubeconfig.
    pub name: Option<String>,
    /// The API's address in a kubeconfig.
    pub endpoint: Option<Endpoint>,
    /// The service subnets a manifest gives.
    pub service_subnets: Vec<Subnet>,
    /// The address a manifest advertises.
    pub advertised: Option<IpAddr>,
    /// The servers that kubeconfigs name.
    pub servers: Vec<Endpoint>,
    /// The port on which a manifest has the apiserver listen.
    pub port: Option<u16>,
    /// Whether a manifest has etcd join members on other hosts.
    pub has_other_members: bool,
    /// An etcd of somebody else's that a manifest names.
    pub etcd: Option<Etcd>,
    /// The configuration files that are in the tree, by their names.
    pub config_files: BTreeSet<&'static str>,
    /// Subjects, by the instances' indices, as organizations and common name.
    pub subjects: BTreeMap<usize, DeclaredSubject>,
}

/// The declaration of what was observed of [`anything`].
pub fn declare(layout: &Layout<'_>, inventory: &Observed, hints: &Hints) -> Cluster {
    let (seen, instances) = (layout.cluster, &layout.instances);
    let found: Vec<(usize, &Instance<'_>, &CertView)> = instances
        .iter()
        .enumerate()
        .filter_map(|(i, instance)| Some((i, instance, inventory.instances[i].certificate()?)))
        .collect();
    let of = |role: &CertSpec| {
        found.iter().find(|(_, i, _)| i.spec.id == role.id).map(|(_, _, view)| *view)
    };
    let name = host_name(&found, hints).unwrap_or_else(|| seen.hosts[0].name.clone());
    let serving = of(roles::ETCD_SERVING).or_else(|| of(roles::ETCD_PEER));
    let mut addresses: Vec<IpAddr> = hints.advertised.into_iter().collect();
    let candidates = match (serving, of(roles::KUBELET_SERVING)) {
        (Some(view), _) | (None, Some(view)) => ips(view),
        // kubeadm writes the service's address first and the advertised one second.
        (None, None) => of(roles::API_SERVING)
            .map(ips)
            .unwrap_or_default()
            .into_iter()
            .skip(1)
            .take(1)
            .collect(),
    };
    addresses.extend(candidates.into_iter().filter(|ip| !ip.is_loopback()));
    let mut once = BTreeSet::new();
    addresses.retain(|ip| once.insert(*ip));
    let endpoint = hints.endpoint.clone();
    if addresses.is_empty() {
        let host = match endpoint.as_ref().map(|e| &e.host) {
            Some(San::Ip(ip)) => *ip,
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        addresses.push(host);
    }
    // What a host has beyond the address that the apiserver names is the etcd certificates' own matter.
    addresses.truncate(1);
    let endpoint = endpoint.unwrap_or(Endpoint { host: San::Ip(addresses[0]), port: API_PORT });
    let host = Host {
        name,
        addresses,
        port: None,
        control_plane: true,
        etcd: true,
        node: true,
        ssh: None,
    };
    let mut cluster = Cluster::new(
        hints.name.clone().unwrap_or_else(|| "kubernetes".into()),
        endpoint,
        vec![host],
    );
    let own = |server: &&Endpoint| match &server.host {
        San::Ip(ip) => cluster.hosts[0].addresses.contains(ip),
        _ => false,
    };
    // kubeconfigs of programs of this host name its own apiserver.
    let port = hints.port.or_else(|| hints.servers.iter().find(own).map(|server| server.port));
    cluster.hosts[0].port = port.filter(|port| *port != cluster.api_port(&cluster.hosts[0]));
    cluster.settle_ports();
    cluster.etcd = hints.etcd.clone().unwrap_or(Etcd::Stacked);
    cluster.hosts[0].etcd = cluster.etcd == Etcd::Stacked;
    cluster.single_root = seen.single_root;
    let apiserver = of(roles::API_SERVING);
    if let Some(domain) = apiserver.and_then(dns_domain) {
        cluster.dns_domain = domain;
    }
    cluster.service_subnets = match &hints.service_subnets[..] {
        [] => vec![
            apiserver.and_then(|view| subnet(view, &cluster.hosts[0])).unwrap_or(Subnet::DEFAULT),
        ],
        subnets => subnets.to_vec(),
    };
    cluster.addons = addons(instances, inventory);
    let embedded = |role: &CertSpec| {
        instances.iter().zip(&inventory.instances).any(|(instance, observed)| {
            instance.spec.id == role.id
                && observed.certificate().is_some()
                && matches!(observed.place, Place::Embedded { .. })
        })
    };
    if roles::LOCAL_CLIENTS.into_iter().any(embedded) {
        cluster.kubeconfig_style = KubeconfigStyle::Embedded;
    }
    let leaves = || found.iter().filter(|(_, i, _)| !i.spec.is_ca()).map(|(_, _, view)| *view);
    let authorities = || found.iter().filter(|(_, i, _)| i.spec.is_ca()).map(|(_, _, view)| *view);
    cluster.key_algorithm =
        most(leaves().filter_map(|v| v.algorithm)).unwrap_or(KeyAlgorithm::EcdsaP256);
    if let Some(term) = most(leaves().map(|v| term(v.validity))) {
        cluster.validity.leaf = term;
    }
    if let Some(term) = most(authorities().map(|v| term(v.validity))) {
        cluster.validity.ca = term.max(cluster.validity.leaf);
    }
    cluster.absent = absent(&cluster, layout, inventory);
    cluster.absent.extend(without_config(&cluster, hints));
    if hints.has_other_members && cluster.has(Condition::ManagedEtcd) {
        cluster.absent.insert(catalogue::ALL_ETCD_MEMBERS.to_owned());
    }
    overrides(&mut cluster, &found, hints);
    cluster
}

/// The node's name: the kubelet's identity, else what etcd's certificates are named after.
fn host_name(found: &[(usize, &Instance<'_>, &CertView)], hints: &Hints) -> Option<HostName> {
    roles::NAME_THE_HOST.into_iter().find_map(|role| {
        let (index, ..) = found.iter().find(|(_, i, _)| i.spec.id == role.id)?;
        let name = &hints.subjects.get(index)?.common_name;
        name.strip_prefix("system:node:").unwrap_or(name).parse().ok()
    })
}

fn ips(view: &CertView) -> Vec<IpAddr> {
    let ip = |san: &San| if let San::Ip(ip) = san { Some(*ip) } else { None };
    view.profile.sans.iter().filter_map(ip).collect()
}

fn dns_domain(view: &CertView) -> Option<String> {
    view.profile.sans.iter().find_map(|san| match san {
        San::Dns(name) => name.strip_prefix("kubernetes.default.svc.").map(str::to_owned),
        _ => None,
    })
}

/// The widest usual subnet whose first address the apiserver's certificate names; which it really is, only
/// the apiserver's flags say.
fn subnet(view: &CertView, host: &Host) -> Option<Subnet> {
    let first =
        ips(view).into_iter().find(|ip| !host.addresses.contains(ip) && !ip.is_loopback())?;
    let network = match first {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().checked_sub(1)?)),
        IpAddr::V6(ip) => IpAddr::V6(std::net::Ipv6Addr::from_bits(ip.to_bits().checked_sub(1)?)),
    };
    let prefixes: &[u8] = if first.is_ipv4() { &[12, 16, 18, 20, 22, 24] } else { &[108, 112] };
    prefixes
        .iter()
        .filter_map(|prefix| format!("{network}/{prefix}").parse::<Subnet>().ok())
        .find(|subnet| !host.addresses.iter().any(|ip| subnet.contains(*ip)))
}

/// The addons of which anything is there.
fn addons(instances: &[Instance<'_>], inventory: &Observed) -> Vec<String> {
    let all = catalogue::addons().into_iter();
    let is_there = |addon: &&'static str| {
        instances.iter().zip(&inventory.instances).any(|(instance, observed)| {
            instance.spec.present == Condition::Addon(addon)
                && (observed.certificate().is_some() || observed.key.present().is_some())
        })
    };
    all.filter(is_there).map(str::to_owned).collect()
}

/// What the catalogue would lay out for this cluster and is not there.
fn absent(cluster: &Cluster, seen: &Layout<'_>, inventory: &Observed) -> BTreeSet<String> {
    let mut absent = BTreeSet::new();
    let instances = &seen.instances;
    for (instance, observed) in instances.iter().zip(&inventory.instances) {
        let is_there = !observed.certificates.is_missing()
            || !observed.key.is_missing()
            || observed.kubeconfig.as_ref().is_some_and(|k| !k.state.is_missing());
        if cluster.has(instance.spec.present) && !is_there {
            absent.insert(instance.spec.id.to_string());
        }
    }
    for (derived, file) in seen.derived.iter().zip(&inventory.derived) {
        let spec = instances[derived.authority].spec;
        let kind = if derived.is_chain { "chain" } else { "bundle" };
        let counts = cluster.has(spec.present) && !absent.contains(spec.id.name());
        if counts && file.is_missing() {
            absent.insert(format!("{}-{kind}", spec.id));
        }
    }
    for (spec, observed) in KEYS.iter().zip(&inventory.key_pairs) {
        if observed.private.is_missing() && observed.public.is_missing() {
            absent.insert(spec.id.to_owned());
        }
    }
    absent
}

/// The configuration files that are not there and that components do without.
fn without_config(cluster: &Cluster, hints: &Hints) -> Vec<String> {
    let needless = COMPONENTS.iter().filter(|spec| spec.present == Condition::Always);
    let files = needless.filter_map(|spec| cluster.config_file(spec.id));
    files.filter(|file| !hints.config_files.contains(file)).map(str::to_owned).collect()
}

/// Says of every certificate what the catalogue's rules would say otherwise.
fn overrides(cluster: &mut Cluster, found: &[(usize, &Instance<'_>, &CertView)], hints: &Hints) {
    let rules = cluster.clone();
    let layout = Layout::new(&rules);
    for (index, instance, view) in found {
        let id = instance.spec.id;
        let Some(instance) = layout.instances.iter().find(|other| other.spec.id == id) else {
            continue;
        };
        let profile = resolve::profile(instance, &rules);
        let mut over = Override::default();
        if !names_the_same(&view.profile, &profile) {
            match hints.subjects.get(index).filter(|s| says(s, &view.profile.subject)) {
                Some(subject) => over.subject = Some(subject.clone()),
                None => over.raw_subject = Some(view.profile.subject.clone()),
            }
        }
        let has: BTreeSet<&San> = view.profile.sans.iter().collect();
        let wants: BTreeSet<&San> = profile.sans.iter().collect();
        if wants.is_subset(&has) {
            let surplus = view.profile.sans.iter().filter(|san| !wants.contains(san));
            let surplus: Vec<San> = surplus.cloned().collect();
            if !surplus.is_empty() {
                cluster.extra_sans.insert(id.to_string(), surplus);
            }
        } else {
            over.sans = Some(view.profile.sans.clone());
        }
        let usages =
            Usages { key: view.profile.key_usages, extended: view.profile.extended_usages.clone() };
        let extended = |all: &[ExtendedUsage]| all.iter().cloned().collect::<BTreeSet<_>>();
        if usages.key != profile.key_usages
            || extended(&usages.extended) != extended(&profile.extended_usages)
        {
            over.usages = Some(usages);
        }
        over.key_algorithm = view.algorithm.filter(|found| *found != rules.algorithm_of(id.name()));
        let usual = if instance.spec.is_ca() { rules.validity.ca } else { rules.validity.leaf };
        let term = term(view.validity);
        if (term.0 - usual.0).abs() > Span::days(1).0 {
            over.validity = Some(term);
        }
        if over != Override::default() {
            cluster.overrides.insert(id.to_string(), over);
        }
    }
}

/// Whether organizations and a common name are all that a subject says.
fn says(subject: &DeclaredSubject, name: &Name) -> bool {
    let organizations: Vec<&str> = subject.organizations.iter().map(String::as_str).collect();
    let again = Name::new(&organizations, &subject.common_name);
    again.is_written_otherwise(name)
}

/// A life as it would be declared: without the minutes that it began before its issue, in whole hours where
/// it has some.
fn term(validity: Validity) -> Span {
    let life = validity.not_after.since(validity.not_before).0.clamp(60, Span::days(36_500).0);
    [life, life - BACKDATE.0]
        .into_iter()
        .find(|life| *life > 0 && life % 3600 == 0)
        .map_or(if life > 7200 { Span((life + 1800) / 3600 * 3600) } else { Span(life) }, Span)
}

/// What there is most of; the first of several.
fn most<T: Copy + Ord>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    let best = counts.values().copied().max()?;
    counts.into_iter().find(|(_, count)| *count == best).map(|(one, _)| one)
}

/// Whether an inventory holds anything that could be adopted.
pub fn is_empty(inventory: &Observed) -> bool {
    inventory.instances.iter().all(|observed| matches!(observed.certificates, Piece::Missing))
}
