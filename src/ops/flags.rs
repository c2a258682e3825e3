//! `certkit flags`: what makes the components use this PKI, in the form asked for.
//!
//! Decides which components of which host are meant and whether a format can say it; the values come
//! from [`settings()`], the text from templates.

mod error;
mod format;
mod sheet;

use std::{collections::BTreeSet, path::Path};

use crate::{
    model::{
        catalogue::{self, COMPONENTS, ComponentSpec, Condition, Scope},
        cluster::{Cluster, Host},
        layout::{ConfigFile, Instance, Layout, Place},
        settings::{self, Placement, SettingValue, settings},
    },
    render::{Templates, is_one_line},
};

pub use error::FlagsError;
pub use format::FlagsFormat;
use sheet::{Form, Sheet};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct FlagsRequest {
    /// Components by id; none for all of the host's.
    pub components: Vec<String>,
    /// The host, where the cluster has several.
    pub host: Option<String>,
    /// Where the host keeps its tree, instead of what the cluster says.
    pub host_dir: Option<String>,
    /// The form.
    pub format: FlagsFormat,
    /// Whether to say with each setting why it is there.
    pub explain: bool,
    /// CAs, by id, whose keys are elsewhere.
    pub without_keys: BTreeSet<String>,
}

/// One file of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagsFile {
    /// Its name where it is to be saved, which may have a folder in it.
    pub name: String,
    /// What it says.
    pub text: String,
    /// The component it is for, if it is for one.
    component: Option<&'static str>,
}

/// The settings asked for, as one text. `dir` is the PKI's directory, absolute.
pub fn flags(
    cluster: &Cluster,
    dir: &Path,
    request: &FlagsRequest,
    templates: &Templates,
) -> Result<String, FlagsError> {
    let files = files(cluster, dir, request, templates)?;
    let mut text = String::new();
    for (n, file) in files.iter().enumerate() {
        match (request.format, file.component) {
            (FlagsFormat::Args | FlagsFormat::Env, Some(component)) if files.len() > 1 => {
                text += &format!("# {component}\n");
            }
            (FlagsFormat::Config | FlagsFormat::StaticPod, _) if n > 0 => text += "---\n",
            (FlagsFormat::Systemd, _) if n > 0 => text += "\n",
            _ => {}
        }
        text += &file.text;
    }
    Ok(text)
}

/// The settings asked for, each file of them by itself.
pub fn files(
    cluster: &Cluster,
    dir: &Path,
    request: &FlagsRequest,
    templates: &Templates,
) -> Result<Vec<FlagsFile>, FlagsError> {
    let mut cluster = cluster.clone();
    if let Some(path) = &request.host_dir {
        cluster.host_dir = Some(path.clone());
    }
    let dir = dir.to_str().filter(|d| d.starts_with('/'));
    let host_dir = cluster.host_dir.as_deref().unwrap_or("/");
    let (Some(dir), true) = (dir, is_folder(host_dir)) else {
        let path = dir.map_or("DIR", |_| host_dir).escape_default().to_string();
        return Err(FlagsError::HostDir { path });
    };
    let without: BTreeSet<&str> = request.without_keys.iter().map(String::as_str).collect();
    let place = Placement { dir, without_keys: &without };
    let host = host_of(&cluster, request)?;
    let specs = components(&cluster, host, request)?;

    let mut sheets = Vec::new();
    for spec in &specs {
        let on =
            host.filter(|h| h.is_in(spec.scope)).or_else(|| cluster.hosts_in(spec.scope).next());
        let of = |on| {
            let mut found = settings(&cluster, on, spec, place);
            // A ClusterConfiguration is every host's; kubeadm knows by itself what differs.
            if request.format == FlagsFormat::Kubeadm {
                found.retain(|setting| !setting.is_of_host());
            }
            found
        };
        let found = of(on);
        if !request.format.suits(&cluster, &found, spec, templates) {
            if request.components.is_empty() {
                continue;
            }
            return Err(no_form(&cluster, spec, request.format, place, templates));
        }
        if host.is_none() {
            let all: Vec<_> = cluster.hosts_in(spec.scope).map(|h| of(Some(h))).collect();
            if all.windows(2).any(|pair| values(&pair[0]) != values(&pair[1])) {
                return Err(FlagsError::HostNeeded { hosts: names(cluster.hosts_in(spec.scope)) });
            }
        }
        printable(&found)?;
        let root = settings::host_dir(&cluster, on, dir);
        let form = Form { format: request.format, explain: request.explain };
        sheets.push(Sheet::new(spec, host, found, root, form, &cluster));
    }
    print(&cluster, host, &sheets, request, templates)
}

/// The CAs whose certificate is in the directory and whose key is not: somebody else signs with it.
pub fn keys_elsewhere(cluster: &Cluster, dir: &Path) -> BTreeSet<String> {
    let is_elsewhere = |instance: &Instance<'_>| match &instance.place {
        Place::Pair { cert, key } => {
            instance.spec.is_ca() && dir.join(cert).exists() && !dir.join(key).exists()
        }
        _ => false,
    };
    let layout = Layout::new(cluster);
    let found = layout.instances.iter().filter(|instance| is_elsewhere(instance));
    found.map(|instance| instance.spec.id.to_string()).collect()
}

/// Whether it is a path that every format can hold and that means the same everywhere.
fn is_folder(path: &str) -> bool {
    path.starts_with('/') && is_one_line(path) && path.split('/').all(|part| part != "..")
}

fn print(
    cluster: &Cluster,
    host: Option<&Host>,
    sheets: &[Sheet],
    request: &FlagsRequest,
    templates: &Templates,
) -> Result<Vec<FlagsFile>, FlagsError> {
    let format = request.format;
    let whole =
        |name: &str, text| Ok(vec![FlagsFile { name: name.to_owned(), text, component: None }]);
    if let FlagsFormat::Json = format {
        return whole("flags.json", templates.render("flags/json.json", sheet::all(sheets))?);
    }
    if let FlagsFormat::Kubeadm = format {
        let text = templates.render("flags/kubeadm.yaml", sheet::kubeadm(cluster, host, sheets))?;
        return whole("kubeadm.yaml", text);
    }
    let file = |sheet: &Sheet| {
        let text = templates.render(&format.template(sheet.component, templates), sheet)?;
        let name = sheet.save_as.clone();
        Ok(FlagsFile { name, text, component: Some(sheet.component) })
    };
    sheets.iter().map(file).collect()
}

/// The configuration file of a component on a host, as its tree is to hold it.
pub(super) fn config_file(
    cluster: &Cluster,
    dir: &str,
    file: &ConfigFile<'_>,
    values: Vec<SettingValue>,
) -> Result<String, FlagsError> {
    printable(&values)?;
    let root = settings::host_dir(cluster, Some(file.host), dir);
    let sheet = Sheet::new(file.component, None, values, root, Form::CONFIG_FILE, cluster);
    let templates = Templates::default();
    let template = FlagsFormat::Config.template(file.component.id, &templates);
    Ok(templates.render(&template, &sheet)?)
}

fn host_of<'a>(
    cluster: &'a Cluster,
    request: &FlagsRequest,
) -> Result<Option<&'a Host>, FlagsError> {
    match (&request.host, &cluster.hosts[..]) {
        (Some(name), hosts) => match hosts.iter().find(|h| h.name.as_ref() == name) {
            Some(host) => Ok(Some(host)),
            None => Err(FlagsError::UnknownHost {
                name: name.escape_default().to_string(),
                hosts: names(hosts.iter()),
            }),
        },
        (None, [only]) => Ok(Some(only)),
        (None, _) => Ok(None),
    }
}

fn components(
    cluster: &Cluster,
    host: Option<&Host>,
    request: &FlagsRequest,
) -> Result<Vec<&'static ComponentSpec>, FlagsError> {
    if request.components.is_empty() {
        return of_host(cluster, host, request.format);
    }
    let mut found: Vec<&'static ComponentSpec> = Vec::new();
    for name in &request.components {
        let Some(spec) = catalogue::component(name) else {
            let name = name.chars().take(80).collect::<String>().escape_default().to_string();
            return Err(FlagsError::UnknownComponent { name });
        };
        if !cluster.has(spec.present) {
            return Err(FlagsError::NotDeclared { component: spec.id, needs: needs(spec.present) });
        }
        if let Some(host) = host
            && spec.scope != Scope::Cluster
            && !host.is_in(spec.scope)
        {
            return Err(FlagsError::NotOnHost {
                component: spec.id,
                host: host.name.to_string(),
                hosts: names(cluster.hosts_in(spec.scope)),
            });
        }
        if !found.iter().any(|known| known.id == spec.id) {
            found.push(spec);
        }
    }
    Ok(found)
}

/// All components of a host, or of the cluster where a format is for the whole of it or all hosts are
/// the same. What people run has no place in formats for what runs by itself.
fn of_host(
    cluster: &Cluster,
    host: Option<&Host>,
    format: FlagsFormat,
) -> Result<Vec<&'static ComponentSpec>, FlagsError> {
    let runs_by_itself = |spec: &ComponentSpec| spec.unit.is_some() || spec.config.is_some();
    let people_too =
        !matches!(format, FlagsFormat::Kubeadm | FlagsFormat::Systemd | FlagsFormat::StaticPod);
    let candidates = COMPONENTS
        .iter()
        .filter(|spec| cluster.has(spec.present) && (people_too || runs_by_itself(spec)));
    let on = |host: &Host, spec: &ComponentSpec| host.is_in(spec.scope);
    Ok(match host {
        // A ClusterConfiguration is for the whole cluster, whichever host it is printed for.
        _ if format == FlagsFormat::Kubeadm => candidates.collect(),
        Some(host) => candidates
            .filter(|spec| {
                on(host, spec) || (spec.scope == Scope::Cluster && cluster.is_local(host))
            })
            .collect(),
        None => {
            let found: Vec<_> = candidates.collect();
            let differ = cluster
                .hosts
                .windows(2)
                .any(|pair| found.iter().any(|spec| on(&pair[0], spec) != on(&pair[1], spec)));
            if differ {
                return Err(FlagsError::HostNeeded { hosts: names(cluster.hosts.iter()) });
            }
            found
        }
    })
}

fn no_form(
    cluster: &Cluster,
    spec: &'static ComponentSpec,
    format: FlagsFormat,
    place: Placement<'_>,
    templates: &Templates,
) -> FlagsError {
    let has = |spec: &ComponentSpec, format: FlagsFormat| {
        let host = cluster.hosts_in(spec.scope).next();
        format.suits(cluster, &settings(cluster, host, spec, place), spec, templates)
    };
    FlagsError::NoForm {
        component: spec.id,
        format: format.name(),
        formats: FlagsFormat::ALL.iter().filter(|f| has(spec, **f)).map(|f| f.name()).collect(),
        components: COMPONENTS
            .iter()
            .filter(|c| cluster.has(c.present) && has(c, format))
            .map(|c| c.id)
            .collect(),
    }
}

fn printable(settings: &[SettingValue]) -> Result<(), FlagsError> {
    match settings.iter().find(|setting| !is_one_line(&setting.value)) {
        Some(bad) => Err(FlagsError::Unprintable {
            component: bad.component,
            option: bad.flag.or(bad.field).unwrap_or_default(),
            value: bad.value.chars().take(300).collect::<String>().escape_default().to_string(),
        }),
        None => Ok(()),
    }
}

fn values(settings: &[SettingValue]) -> Vec<&str> {
    settings.iter().map(|setting| setting.value.as_str()).collect()
}

fn needs(condition: Condition) -> String {
    match condition {
        Condition::Addon(name) => format!("add `{name}` to `addons` in certkit.yaml"),
        Condition::EtcdPeerName => {
            "its etcd peers' certificates, as `overrides` declares them, lack the peers' name"
                .into()
        }
        Condition::EtcdMembers => "its etcd's members are not all declared".into(),
        Condition::ManagedEtcd => "its etcd is external".into(),
        Condition::SingleRoot => "it has no single root".into(),
        Condition::Always | Condition::NoConfigFile(_) => String::new(),
    }
}

fn names<'a>(hosts: impl Iterator<Item = &'a Host>) -> Vec<String> {
    hosts.map(|host| host.name.to_string()).collect()
}
