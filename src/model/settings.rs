//! What each component is told: the catalogue's uses, resolved for one cluster and one host.
//!
//! A fold over [`USES`] and nothing else: which setting exists, which file it names and why is said there.

mod mount;
mod tree;

use std::{collections::BTreeSet, path::Path};

pub use mount::{Mount, kubeadm_mounts, mounts_missing};
pub use tree::{Line, Scalar, lines};

use super::{
    catalogue::{self, CertId, ClusterValue, ComponentSpec, Home, Reload, USES, Use, Value, roles},
    cluster::{Cluster, Etcd, Host, KubeconfigStyle},
};

/// How often client-go reads the files again that a kubeconfig names (client-go
/// `transport/cert_rotation.go`).
const KUBECONFIG_POLL: u32 = 300;

/// One setting of one component, with its value.
#[derive(Clone, Debug)]
pub struct SettingValue {
    /// The catalogue's row.
    pub row: &'static Use,
    /// The component's id.
    pub component: &'static str,
    /// The command-line flag, without dashes.
    pub flag: Option<&'static str>,
    /// The field of the component's configuration file.
    pub field: Option<&'static str>,
    /// What it is set to.
    pub value: String,
    /// What the component does without it.
    pub default: &'static str,
    /// Why it is set so.
    pub why: &'static str,
    /// How a change of the file is taken up, never [`Reload::Kubeconfig`].
    pub reload: Reload,
}

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// DIR, absolute, without a slash at its end.
    pub dir: &'a str,
    /// CAs, by id, whose keys are elsewhere: nothing can be told to sign with them.
    pub without_keys: &'a BTreeSet<&'a str>,
}

/// The settings of a component on a host, in the catalogue's order; on no host for what the operator
/// runs, wherever DIR is.
pub fn settings(
    cluster: &Cluster,
    host: Option<&Host>,
    component: &ComponentSpec,
    place: Placement<'_>,
) -> Vec<SettingValue> {
    let root = host_dir(cluster, host, place.dir);
    let rows: Vec<&'static Use> = USES.iter().filter(|u| u.component == component.id).collect();
    // A certificate whose key is not there serves nothing: a controller manager told to sign with half a
    // pair does not start.
    let halves: BTreeSet<CertId> = rows
        .iter()
        .filter_map(|row| match row.value {
            Value::Key(id) if place.without_keys.contains(id.name()) => Some(id),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    for row in rows {
        if let Value::Cert(id) | Value::Key(id) = row.value
            && halves.contains(&id)
        {
            continue;
        }
        let value = match external(row, &cluster.etcd) {
            Some(value) => Some(value),
            // What the cluster does without cannot be named.
            None if row.subject().is_some_and(|id| cluster.is_absent(id)) => None,
            None if cluster.has(row.present) => value_of(row, cluster, host, &root),
            None => None,
        };
        let Some(value) = value else { continue };
        found.push(SettingValue {
            row,
            component: row.component,
            flag: row.flag,
            field: row.field,
            value,
            default: row.default,
            why: row.why,
            reload: match (row.reload, cluster.kubeconfig_style) {
                (Reload::Kubeconfig, KubeconfigStyle::Files) => Reload::Poll(KUBECONFIG_POLL),
                (Reload::Kubeconfig, KubeconfigStyle::Embedded) => Reload::Restart,
                (reload, _) => reload,
            },
        });
    }
    found
}

/// The folder that a host's flags name: what the cluster says, else DIR where DIR is this host's own,
/// else `/etc/kubernetes`. What the operator of a workspace runs finds its files in DIR.
pub fn host_dir(cluster: &Cluster, host: Option<&Host>, dir: &str) -> String {
    let own = cluster.dir_on(host, Path::new(dir)).display().to_string();
    own.trim_end_matches('/').to_owned()
}

/// How a change of a file is taken up, in words.
pub fn reload_words(reload: Reload) -> String {
    match reload {
        Reload::Handshake => "read at every TLS handshake".into(),
        Reload::Kubeconfig => "as its kubeconfig is written".into(),
        Reload::Nothing => "no file that changes".into(),
        Reload::Poll(seconds) if seconds % 60 == 0 => {
            format!("looked at every {} minutes", seconds / 60)
        }
        Reload::Poll(seconds) => format!("looked at every {seconds} seconds"),
        Reload::Restart => "read at start: restart after a change".into(),
        Reload::Watch => "watched: a change is taken up at once".into(),
    }
}

impl SettingValue {
    /// The one word for how a change is taken up: `watch`, `poll 300s`, `handshake`, `restart`, `none`.
    pub fn reload_word(&self) -> String {
        match self.reload {
            Reload::Handshake => "handshake".into(),
            Reload::Kubeconfig => "kubeconfig".into(),
            Reload::Nothing => "none".into(),
            Reload::Poll(seconds) => format!("poll {seconds}s"),
            Reload::Restart => "restart".into(),
            Reload::Watch => "watch".into(),
        }
    }

    /// Whether it is another one on each host.
    pub fn is_of_host(&self) -> bool {
        matches!(self.row.value, Value::Setting(setting) if setting.is_of_host())
    }

    /// The last part of the field's path: what the setting is called within its part of the file.
    pub fn field_name(&self) -> String {
        self.field.and_then(|path| tree::parts(path).pop()).unwrap_or_default()
    }

    /// The files that the setting makes the component open: the value itself, and what a kubeconfig
    /// names in turn.
    pub fn files(&self, cluster: &Cluster, root: &str) -> Vec<String> {
        match self.row.value {
            Value::Literal(_) | Value::Setting(_) => vec![],
            Value::Kubeconfig(id) => {
                let mut files = vec![self.value.clone()];
                let spec = id.spec();
                if let Home::Kubeconfig { pem: Some(pem), .. } = spec.home
                    && cluster.kubeconfig_style == KubeconfigStyle::Files
                {
                    files.push(format!("{root}/{pem}"));
                    let trusted = spec.issuer_id().and_then(|ca| cluster.trust_file(ca));
                    files.extend(trusted.map(|file| format!("{root}/{file}")));
                }
                files
            }
            _ => vec![self.value.clone()],
        }
    }
}

fn value_of(row: &Use, cluster: &Cluster, host: Option<&Host>, root: &str) -> Option<String> {
    let in_root = |file: &str| format!("{root}/{file}");
    match row.value {
        Value::Literal(text) => Some(text.to_owned()),
        Value::ConfigFile(component) => match cluster.config_file(component) {
            Some(file) => Some(in_root(file)),
            None => catalogue::component(component)?.config?.elsewhere.map(str::to_owned),
        },
        Value::Bundle(id) => cluster.trust_file(id).map(in_root),
        Value::Cert(id) => match id.spec().home {
            Home::Files { cert, .. } | Home::Authority { cert, .. } => Some(in_root(cert)),
            Home::Kubeconfig { .. } => None,
        },
        Value::Key(id) => match id.spec().home {
            Home::Files { key, .. } | Home::Authority { key, .. } => Some(in_root(key)),
            Home::Kubeconfig { .. } => None,
        },
        Value::Chain(id) => {
            let spec = id.spec();
            match spec.home {
                Home::Authority { chain, .. } if cluster.is_below(spec) => chain.map(in_root),
                _ => cluster.trust_file(id).map(in_root),
            }
        }
        Value::Kubeconfig(id) => match id.spec().home {
            Home::Kubeconfig { file, .. } => Some(in_root(file)),
            _ => None,
        },
        Value::PrivateKey(id) => catalogue::key(id).map(|spec| in_root(spec.private)),
        Value::PublicKey(id) => catalogue::key(id).map(|spec| in_root(spec.public)),
        Value::Setting(setting) => of_cluster(setting, cluster, host),
    }
}

/// Nothing where it is not known.
fn of_cluster(setting: ClusterValue, cluster: &Cluster, host: Option<&Host>) -> Option<String> {
    let list = |all: Vec<String>| Some(all.join(",")).filter(|text| !text.is_empty());
    match setting {
        ClusterValue::AdvertiseAddress => cluster.advertised(host?).map(|ip| ip.to_string()),
        ClusterValue::ApiPort => Some(cluster.api_port(host?).to_string()),
        ClusterValue::EndpointHost => Some(cluster.endpoint.host_text()),
        ClusterValue::EtcdClientUrl => cluster.etcd_client_url(host?),
        ClusterValue::EtcdClientUrls => list(cluster.etcd_client_urls(host?)),
        ClusterValue::EtcdMembers => {
            let member = |(name, url): (&str, String)| format!("{name}={url}");
            list(cluster.etcd_members().into_iter().map(member).collect())
        }
        ClusterValue::EtcdPeerUrl => cluster.etcd_peer_url(host?),
        ClusterValue::EtcdServers => list(cluster.etcd_endpoints(host)),
        ClusterValue::HostName => Some(host?.name.to_string()),
        ClusterValue::ServiceAccountIssuer => {
            Some(format!("https://kubernetes.default.svc.{}", cluster.dns_domain))
        }
        ClusterValue::ServiceSubnets => {
            list(cluster.service_subnets.iter().map(ToString::to_string).collect())
        }
    }
}

/// The apiserver's settings towards an etcd of somebody else's: the same flags, the declared files.
fn external(row: &Use, etcd: &Etcd) -> Option<String> {
    let Etcd::External { endpoints, files } = etcd else { return None };
    if row.component != roles::API_SERVER.id {
        return None;
    }
    match row.value {
        Value::Setting(ClusterValue::EtcdServers) => Some(endpoints.join(",")),
        Value::Bundle(id) if id == roles::ETCD_CA.id => files.as_ref().map(|f| f.ca.clone()),
        Value::Cert(id) if id == roles::API_TO_ETCD.id => files.as_ref().map(|f| f.cert.clone()),
        Value::Key(id) if id == roles::API_TO_ETCD.id => files.as_ref().map(|f| f.key.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
