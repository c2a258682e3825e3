//! What templates are given: the settings of one component, in every shape that a format needs, so that
//! templates have nothing to work out.

use serde::Serialize;

use super::FlagsFormat;
use crate::{
    model::{
        catalogue::{COMPONENTS, ComponentSpec, Reload, Scope, roles},
        cluster::{Cluster, Etcd, Host},
        settings::{
            Mount, Scalar, SettingValue, kubeadm_mounts, lines, mounts_missing, reload_words,
        },
    },
    render::word,
};

/// How settings are said.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// In which format.
    pub format: FlagsFormat,
    /// Whether to say with each setting why it is there.
    pub explain: bool,
}

impl Form {
    /// As the component's own configuration file.
    pub const CONFIG_FILE: Self = Self { format: FlagsFormat::Config, explain: false };
}

/// One component's settings.
#[derive(Clone, Debug, Serialize)]
pub struct Sheet {
    /// The component.
    pub component: &'static str,
    host: Option<String>,
    /// What the file is called in which the settings are said.
    pub save_as: String,
    /// The folder that its files are in.
    root: String,
    unit: &'static str,
    /// The variable that units and environment files carry its flags in.
    variable: String,
    /// All settings.
    settings: Vec<Entry>,
    /// The settings that are flags.
    flags: Vec<Entry>,
    /// All flags as words of one line.
    words: String,
    /// The flags that a patch may add to a manifest of kubeadm's, and those it may not.
    added: Vec<Entry>,
    left_out: Vec<Entry>,
    /// The configuration file.
    config: Vec<ConfigLine>,
    /// What `--explain` says is still to be added.
    besides: &'static [&'static str],
    /// What a static pod of kubeadm's does not have mounted.
    mounts: Vec<MountEntry>,
    #[serde(skip)]
    values: Vec<SettingValue>,
}

/// One setting.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    component: &'static str,
    host: Option<String>,
    flag: Option<&'static str>,
    field: Option<&'static str>,
    value: String,
    default: &'static str,
    why: &'static str,
    /// One word, for programs.
    reload: String,
    /// `--flag=value`
    option: String,
    /// The same as a word of a command line.
    word: String,
    /// `COMPONENT_FLAG`
    variable: String,
    /// The last part of the field's path.
    name: String,
    /// The last part of the value, where that is a path.
    file: String,
    /// What `--explain` says.
    comments: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ConfigLine {
    lead: String,
    value: Option<Typed>,
    indent: String,
    comments: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Typed {
    Bool(bool),
    Number(i64),
    Text(String),
}

impl From<Scalar> for Typed {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Number(value) => Self::Number(value),
            Scalar::Text(value) => Self::Text(value),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct MountEntry {
    name: String,
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Flags of type list. Kubernetes adds a second one to the first instead of replacing it, and the
/// apiserver does not start when a mode or an issuer is then there twice
/// (`pkg/kubeapiserver/options`, authorization.go and authentication.go). kubeadm's manifests have them
/// all, with the values that certkit wants.
const LISTS: &[&str] = &[
    "authorization-mode",
    "enable-admission-plugins",
    "etcd-servers",
    "requestheader-allowed-names",
    "requestheader-extra-headers-prefix",
    "requestheader-group-headers",
    "requestheader-username-headers",
    "service-account-issuer",
    "service-account-key-file",
];

impl Sheet {
    /// The sheet of a component. Without a host it is the same on every one.
    pub fn new(
        spec: &ComponentSpec,
        host: Option<&Host>,
        values: Vec<SettingValue>,
        root: String,
        Form { format, explain }: Form,
        cluster: &Cluster,
    ) -> Self {
        let host = host.filter(|h| h.is_in(spec.scope)).map(|h| h.name.to_string());
        let settings: Vec<Entry> =
            values.iter().map(|setting| Entry::new(setting, host.clone(), explain)).collect();
        let flags: Vec<Entry> = settings.iter().filter(|e| e.flag.is_some()).cloned().collect();
        let is_list = |entry: &Entry| kubeadm_has_list(spec.id, entry.flag.unwrap_or_default());
        let (left_out, added) = flags.iter().cloned().partition(is_list);
        let words: Vec<&str> = flags.iter().map(|entry| entry.word.as_str()).collect();
        let mounted = kubeadm_mounts(spec, "/etc/kubernetes/pki");
        Self {
            component: spec.id,
            save_as: format.file_name(spec),
            unit: spec.unit.unwrap_or_default(),
            variable: format!("{}_PKI_ARGS", shout(spec.id)),
            words: words.join(" "),
            config: config(spec, &values, &settings),
            besides: if explain { spec.besides } else { &[] },
            mounts: entries(mounts_missing(&values, cluster, &root, &mounted)),
            host,
            root,
            settings,
            flags,
            added,
            left_out,
            values,
        }
    }
}

impl Entry {
    fn new(setting: &SettingValue, host: Option<String>, explain: bool) -> Self {
        let option = match setting.flag {
            Some(flag) => format!("--{flag}={}", setting.value),
            None => String::new(),
        };
        let mut comments = Vec::new();
        if explain {
            comments.push(setting.why.to_owned());
            if !setting.default.is_empty() {
                comments.push(format!("without it: {}", setting.default));
            }
            if setting.reload != Reload::Nothing {
                comments.push(format!("a changed file: {}", reload_words(setting.reload)));
            }
        }
        let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
        Self {
            component: setting.component,
            host,
            flag: setting.flag,
            field: setting.field,
            value: setting.value.clone(),
            default: setting.default,
            why: setting.why,
            reload: setting.reload_word(),
            word: word(&option),
            variable: format!(
                "{}_{}",
                shout(setting.component),
                shout(setting.flag.unwrap_or_default())
            ),
            name: setting.field_name(),
            file: last(&setting.value),
            option,
            comments,
        }
    }
}

fn kubeadm_has_list(component: &str, flag: &str) -> bool {
    component == roles::API_SERVER.id && LISTS.contains(&flag)
}

fn config(spec: &ComponentSpec, values: &[SettingValue], entries: &[Entry]) -> Vec<ConfigLine> {
    let Some(kind) = spec.config else { return Vec::new() };
    let heads = [("apiVersion: ", kind.api_version), ("kind: ", kind.kind)];
    let heads =
        heads.into_iter().filter(|(_, text)| !text.is_empty()).map(|(lead, text)| ConfigLine {
            lead: lead.to_owned(),
            value: Some(Typed::Text(text.to_owned())),
            indent: String::new(),
            comments: Vec::new(),
        });
    let fields = lines(values, 0).into_iter().map(|line| ConfigLine {
        indent: line.lead.chars().take_while(|c| *c == ' ').collect(),
        lead: line.lead,
        value: line.value.map(Into::into),
        comments: line.setting.map(|at| entries[at].comments.clone()).unwrap_or_default(),
    });
    heads.chain(fields).collect()
}

/// Volumes by number: a volume's name is a DNS label and unique in its pod, and names made of paths
/// would be neither.
fn entries(mounts: Vec<Mount>) -> Vec<MountEntry> {
    let entry = |(n, mount): (usize, Mount)| MountEntry {
        name: format!("certkit-{}", n + 1),
        path: mount.path,
        kind: if mount.is_file { "File" } else { "Directory" },
    };
    mounts.into_iter().enumerate().map(entry).collect()
}

/// The settings of all sheets.
#[derive(Serialize)]
pub struct All<'a> {
    settings: Vec<&'a Entry>,
}

/// All settings in one list.
pub fn all(sheets: &[Sheet]) -> All<'_> {
    All { settings: sheets.iter().flat_map(|sheet| &sheet.settings).collect() }
}

/// Whether kubeadm's configuration can set this component: its own etcd, not one on other hosts.
pub fn in_kubeadm(spec: &ComponentSpec, cluster: &Cluster) -> bool {
    let is_member = spec.scope == Scope::Etcd;
    let has_section = spec.kubeadm.is_some() && (!is_member || cluster.etcd == Etcd::Stacked);
    // The kubelet's is a document of its own.
    has_section || spec.config.is_some() && spec.patch.is_some() && !spec.static_pod
}

/// A kubeadm ClusterConfiguration.
#[derive(Serialize)]
pub struct KubeadmSheet<'a> {
    cluster_name: &'a str,
    endpoint: String,
    dns_domain: &'a str,
    service_subnets: String,
    certificates: String,
    sections: Vec<Section<'a>>,
    etcd_local: &'a [Entry],
    etcd_external: Vec<External>,
    kubelet: &'a [ConfigLine],
    init: Vec<Init>,
}

/// What differs from host to host: kubeadm's InitConfiguration.
#[derive(Serialize)]
struct Init {
    name: String,
    address: String,
    port: u16,
}

#[derive(Serialize)]
struct Section<'a> {
    name: &'static str,
    flags: &'a [Entry],
    mounts: Vec<MountEntry>,
}

#[derive(Serialize)]
struct External {
    endpoints: Vec<String>,
    /// Field name and file.
    files: Vec<(&'static str, String)>,
}

/// The ClusterConfiguration with these sheets' settings, and what kubeadm is to know of the host that it runs
/// on.
pub fn kubeadm<'a>(
    cluster: &'a Cluster,
    host: Option<&Host>,
    sheets: &'a [Sheet],
) -> KubeadmSheet<'a> {
    let root = sheets.first().map_or("", |sheet| &sheet.root);
    let certificates = format!("{root}/pki");
    let sheet = |spec: &ComponentSpec| sheets.iter().find(|sheet| sheet.component == spec.id);
    let sections: Vec<_> = COMPONENTS
        .iter()
        .filter(|spec| spec.scope == Scope::ControlPlane)
        .filter_map(|spec| {
            let (name, sheet) = (spec.kubeadm?.section, sheet(spec)?);
            let mounted = kubeadm_mounts(spec, &certificates);
            let mounts = mounts_missing(&sheet.values, cluster, &sheet.root, &mounted);
            Some(Section { name, flags: &sheet.flags, mounts: entries(mounts) })
        })
        .collect();
    let stacked = cluster.etcd == Etcd::Stacked;
    let apiserver = sheet(roles::API_SERVER);
    let external = apiserver.filter(|_| !stacked).map(|sheet| {
        let file = |flag: &str| sheet.flags.iter().find(|e| e.flag == Some(flag));
        let names =
            [("caFile", "etcd-cafile"), ("certFile", "etcd-certfile"), ("keyFile", "etcd-keyfile")];
        External {
            endpoints: cluster.etcd_endpoints(None),
            files: names
                .iter()
                .filter_map(|(name, flag)| Some((*name, file(flag)?.value.clone())))
                .collect(),
        }
    });
    let subnets: Vec<String> = cluster.service_subnets.iter().map(ToString::to_string).collect();
    let init = host.filter(|host| host.control_plane).and_then(|host| {
        let (name, port) = (host.name.to_string(), cluster.api_port(host));
        Some(Init { name, address: cluster.advertised(host)?.to_string(), port })
    });
    KubeadmSheet {
        cluster_name: &cluster.name,
        endpoint: cluster.endpoint.to_string(),
        dns_domain: &cluster.dns_domain,
        service_subnets: subnets.join(","),
        certificates,
        sections,
        etcd_local: sheet(roles::ETCD).map_or(&[], |sheet| &sheet.flags),
        etcd_external: external.into_iter().collect(),
        kubelet: sheet(roles::KUBELET).map_or(&[], |sheet| &sheet.config),
        init: init.into_iter().collect(),
    }
}

/// `kube-apiserver` as `KUBE_APISERVER`.
fn shout(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue::USES;

    #[test]
    fn the_lists_are_those_flags_that_kubernetes_adds_up() {
        let table = include_str!("../../../tests/fixtures/kubernetes-1.36-flags.tsv");
        let added_up = |flag: &str| {
            table.lines().any(|line| {
                let cells: Vec<&str> = line.split('\t').collect();
                cells[0] == "kube-apiserver"
                    && cells[1] == flag
                    && matches!(cells[2], "strings" | "stringArray" | "stringSlice")
            })
        };
        let mut found: Vec<&str> = USES
            .iter()
            .filter(|row| row.component == "kube-apiserver")
            .filter_map(|row| row.flag)
            .filter(|flag| added_up(flag))
            .collect();
        found.sort_unstable();
        assert_eq!(found, LISTS);
    }

    #[test]
    fn volumes_have_names_of_their_own() {
        let mount = |path: &str| Mount { path: path.into(), is_file: true };
        let made = entries(vec![mount("/é/"), mount("/É/"), mount("/srv/A b")]);
        let names: Vec<&str> = made.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["certkit-1", "certkit-2", "certkit-3"]);
    }
}
