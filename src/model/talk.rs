//! The ways a cluster talks, spelled out for people: the catalogue's paths with names, files and flags in
//! place of ids, for one declared cluster or for any.

use std::collections::BTreeSet;

use super::{
    catalogue::{
        self, CertId, Credential, Dials, Home, PATHS, Path, Protection, Scope, USES, Value,
    },
    cluster::Cluster,
    san::San,
    settings::{Placement, settings},
};

/// One path, spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// The path's id.
    pub id: &'static str,
    /// Who dials.
    pub from: &'static str,
    /// Who answers.
    pub to: &'static str,
    /// The TCP port, or several.
    pub port: String,
    /// What the client shows.
    pub client: EndShown,
    /// What the server shows.
    pub server: EndShown,
    /// The names or addresses by which the client knows the server; empty where none is checked.
    pub names: Vec<String>,
    /// The CA by which the client checks the server.
    pub client_trusts: Option<Trusted>,
    /// The CA by which the server checks the client.
    pub server_trusts: Option<Trusted>,
    /// The settings that make it so.
    pub settings: Vec<SettingTold>,
    /// What protects it, in a few words.
    pub protection: &'static str,
    /// Why certificates cannot protect it, where they cannot.
    pub why: Option<&'static str>,
    /// What does instead.
    pub remedy: Option<&'static str>,
    /// What its users see when it breaks.
    pub breaks: &'static str,
}

/// What an end shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndShown {
    /// The certificate's id, or a description.
    pub what: &'static str,
    /// Whether it is a certificate of the catalogue.
    pub is_certificate: bool,
    /// Its file, `/etc/kubernetes`-relative.
    pub file: Option<&'static str>,
}

/// A CA that an end trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// The CA's id.
    pub authority: CertId,
    /// The file that holds what is trusted.
    pub file: &'static str,
}

/// A setting of a component and what it is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingTold {
    /// The component.
    pub component: &'static str,
    /// The flag, with dashes, or the configuration field.
    pub setting: String,
    /// What it is set to, as far as that does not depend on the cluster.
    pub value: Option<String>,
}

/// The paths of this cluster; of every cluster where none is declared.
pub fn talks(cluster: Option<&Cluster>) -> Vec<Talk> {
    PATHS
        .iter()
        .filter(|path| cluster.is_none_or(|c| c.has(path.present)))
        .map(|path| talk(path, cluster))
        .collect()
}

fn talk(path: &'static Path, cluster: Option<&Cluster>) -> Talk {
    let (protection, why, remedy) = match path.protection {
        Protection::MutualTls => ("mutual TLS", None, None),
        Protection::ServerTls => match path.client {
            Credential::Token(_) => ("TLS and a token", None, None),
            _ => ("TLS", None, None),
        },
        Protection::Removed { instead } => ("gone from Kubernetes", None, Some(instead)),
        Protection::Unprotectable { why, remedy } => ("not certificates", Some(why), Some(remedy)),
    };
    Talk {
        id: path.id,
        from: path.from,
        to: path.to,
        port: port(path, cluster),
        client: shown(path.client),
        server: shown(path.server),
        names: names(path.dials, cluster, path),
        client_trusts: path.client_trusts.and_then(|id| trusted(id, cluster)),
        server_trusts: path.server_trusts.and_then(|id| trusted(id, cluster)),
        settings: path
            .settings
            .iter()
            .filter_map(|(component, name)| match cluster {
                Some(cluster) => told_in(cluster, component, name),
                None => Some(told(component, name)),
            })
            .collect(),
        protection,
        why,
        remedy,
        breaks: path.breaks,
    }
}

/// Only the apiserver's port is the cluster's own affair: the endpoint's, and those of the hosts.
fn port(path: &Path, cluster: Option<&Cluster>) -> String {
    let is_api = path.port == catalogue::API.port.to_string();
    match (path.dials, cluster.filter(|_| is_api)) {
        (Dials::Endpoint, Some(cluster)) => cluster.endpoint.port.to_string(),
        (_, Some(cluster)) => {
            let ports = cluster.hosts_in(Scope::ControlPlane).map(|host| cluster.api_port(host));
            let ports: BTreeSet<u16> = ports.collect();
            ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
        }
        _ => path.port.to_owned(),
    }
}

fn shown(credential: Credential) -> EndShown {
    let (what, spec) = match credential {
        Credential::Cert(id) => (id.name(), Some(id.spec())),
        Credential::None => ("nothing", None),
        Credential::Other(what) | Credential::Token(what) => (what, None),
    };
    let file = spec.map(|spec| match spec.home {
        Home::Files { cert, .. } | Home::Authority { cert, .. } => cert,
        Home::Kubeconfig { file, .. } => file,
    });
    EndShown { what, is_certificate: spec.is_some(), file }
}

fn trusted(authority: CertId, cluster: Option<&Cluster>) -> Option<Trusted> {
    let file = match (cluster, authority.spec().home) {
        (Some(cluster), _) => cluster.trust_file(authority)?,
        (None, Home::Authority { cert, bundle, .. }) => bundle.unwrap_or(cert),
        (None, Home::Files { .. } | Home::Kubeconfig { .. }) => return None,
    };
    Some(Trusted { authority, file })
}

fn names(dials: Dials, cluster: Option<&Cluster>, path: &Path) -> Vec<String> {
    let Some(cluster) = cluster else {
        return match dials {
            Dials::Endpoint => vec!["the cluster's endpoint".into()],
            Dials::Fixed(name) => vec![name.into()],
            Dials::HostAddress => vec!["the host's address".into()],
            Dials::Loopback => vec!["127.0.0.1".into()],
            Dials::Nothing => Vec::new(),
            Dials::ServiceAddress => vec!["the address of the service kubernetes".into()],
        };
    };
    match dials {
        Dials::Endpoint => vec![plain(&cluster.endpoint.host)],
        Dials::Fixed(name) => vec![name.into()],
        Dials::HostAddress => {
            let Credential::Cert(server) = path.server else { return Vec::new() };
            let hosts = cluster.hosts_in(server.spec().scope);
            hosts.filter_map(|h| h.address()).map(|a| a.to_string()).collect()
        }
        Dials::Loopback => vec!["127.0.0.1".into()],
        Dials::Nothing => Vec::new(),
        Dials::ServiceAddress => cluster
            .service_subnets
            .first()
            .map(|s| s.first_host().to_string())
            .into_iter()
            .collect(),
    }
}

/// A name or address without saying which it is.
pub fn plain(san: &San) -> String {
    match san {
        San::Dns(text) | San::Email(text) | San::Uri(text) => text.clone(),
        San::Ip(ip) => ip.to_string(),
        San::Other(_) => san.to_string(),
    }
}

/// A setting as this cluster's components are told it; nothing for what they are not told.
fn told_in(cluster: &Cluster, component: &'static str, name: &str) -> Option<SettingTold> {
    let spec = catalogue::component(component)?;
    let without_keys = BTreeSet::new();
    let place = Placement { dir: ROOT, without_keys: &without_keys };
    let cluster = Cluster { host_dir: Some(ROOT.to_owned()), ..cluster.clone() };
    let host = cluster.hosts_in(spec.scope).next();
    let all = settings(&cluster, host, spec, place);
    let found = all.into_iter().find(|s| s.flag == Some(name) || s.field == Some(name))?;
    let value = match found.value.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')) {
        Some(file) => file.to_owned(),
        None => found.value.clone(),
    };
    // What is another one on each host is no host's here.
    Some(SettingTold {
        value: Some(value).filter(|_| !found.is_of_host()),
        ..told(component, name)
    })
}

/// A folder that stands for every host's tree.
const ROOT: &str = "/HOST";

fn told(component: &'static str, name: &str) -> SettingTold {
    let row = USES
        .iter()
        .find(|u| u.component == component && (u.flag == Some(name) || u.field == Some(name)));
    let setting = match row {
        Some(row) if row.flag == Some(name) => format!("--{name}"),
        _ => name.replace("\\.", "."),
    };
    SettingTold { component, setting, value: row.and_then(|row| file_of(row.value)) }
}

/// The file or text that a setting names, where it is the same in every cluster.
fn file_of(value: Value) -> Option<String> {
    let text = match value {
        // Without a root above it, which few clusters have, a CA's chain is its bundle.
        Value::Bundle(id) | Value::Chain(id) => trusted(id, None)?.file,
        Value::Cert(id) => match id.spec().home {
            Home::Files { cert, .. } | Home::Authority { cert, .. } => cert,
            Home::Kubeconfig { file, .. } => file,
        },
        Value::Key(id) => match id.spec().home {
            Home::Files { key, .. } | Home::Authority { key, .. } => key,
            Home::Kubeconfig { file, .. } => file,
        },
        Value::Kubeconfig(id) => match id.spec().home {
            Home::Kubeconfig { file, .. } => file,
            Home::Files { .. } | Home::Authority { .. } => return None,
        },
        Value::PrivateKey(id) => catalogue::key(id)?.private,
        Value::PublicKey(id) => catalogue::key(id)?.public,
        Value::Literal(text) => text,
        Value::ConfigFile(id) => catalogue::component(id)?.config?.file,
        Value::Setting(_) => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_there_when_no_cluster_is_declared() {
        assert_eq!(talks(None).len(), PATHS.len());
    }

    #[test]
    fn a_declared_cluster_gives_names_and_leaves_out_what_it_has_not() {
        let host = super::super::cluster::Host {
            name: "cp1".parse().unwrap(),
            addresses: vec![[10, 0, 0, 11].into()],
            port: None,
            control_plane: true,
            etcd: true,
            node: true,
            ssh: None,
        };
        let cluster = Cluster::new("c".into(), "api.example.com:8443".parse().unwrap(), vec![host]);
        let talks = talks(Some(&cluster));
        let find = |id: &str| talks.iter().find(|t| t.id == id);
        let admin = find("admin-to-apiserver").unwrap();
        assert_eq!(
            (admin.names.as_slice(), &*admin.port),
            (&["api.example.com".into()][..], "8443")
        );
        assert_eq!(find("apiserver-to-kubelet").unwrap().names, ["10.0.0.11"]);
        assert_eq!(find("pods-to-apiserver").unwrap().names, ["10.96.0.1"]);
        assert!(find("agent-to-konnectivity").is_none());
        let settings = &find("apiserver-to-kubelet").unwrap().settings;
        assert_eq!(settings[0].setting, "--kubelet-certificate-authority");
        assert_eq!(settings[0].value.as_deref(), Some("pki/ca-bundle.crt"));
    }
}
