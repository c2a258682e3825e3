//! What certkit prints that no component reads as it is: patches, kubeadm's configuration, a kustomization,
//! settings as data.

use std::path::Path;

use super::{argv, fields};
use crate::{
    document::flat::Flat,
    model::{
        catalogue::COMPONENTS,
        check::flags::{Setting, Told},
    },
};

/// What a document tells components, if it is one of these.
pub fn told(file: &Path, document: &Flat) -> Vec<Told> {
    match document.get("kind") {
        Some("ClusterConfiguration") => return kubeadm(file, document),
        Some("Kustomization") => return kustomization(file, document),
        Some("SettingList") => return data(file, document, "settings."),
        Some(_) => return Vec::new(),
        None => {}
    }
    match (document.get("0.op"), document.get("0.component")) {
        (Some(_), _) => patch(file, document),
        // As 0.1 printed it.
        (None, Some(_)) => data(file, document, ""),
        (None, None) => Vec::new(),
    }
}

/// A section of kubeadm's adds to what kubeadm says by itself.
fn kubeadm(file: &Path, document: &Flat) -> Vec<Told> {
    let mut all = Vec::new();
    for component in COMPONENTS {
        let Some(kubeadm) = component.kubeadm else { continue };
        let at = format!("{}.extraArgs.", kubeadm.section);
        let mut settings = Vec::new();
        for (path, value, line) in &document.values {
            let Some(rest) = path.strip_prefix(&at) else { continue };
            // v1beta4 has a list of names and values, v1beta3 a map.
            let name = match rest.split_once('.') {
                None => Some(rest),
                Some((n, "value")) => document.get(&format!("{at}{n}.name")),
                Some(_) => None,
            };
            let setting = |name: &str| Setting {
                name: name.to_owned(),
                value: value.clone(),
                line: Some(*line),
            };
            settings.extend(name.map(setting));
        }
        all.extend(part(file, component.id, settings));
    }
    all
}

/// A JSON patch of a pod's manifest: what it adds to the command.
fn patch(file: &Path, document: &Flat) -> Vec<Told> {
    let mut words = Vec::new();
    for n in 0.. {
        let Some(path) = document.get(&format!("{n}.path")) else { break };
        if path.contains("/command/") || path.contains("/args/") {
            let value = document.values.iter().find(|(at, ..)| *at == format!("{n}.value"));
            words.extend(value.map(|(_, value, line)| (value.clone(), Some(*line))));
        }
    }
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = COMPONENTS.iter().find(|c| c.patch == Some(name)).map(|c| c.id);
    let Some(component) = named.or_else(|| argv::guess(&words)) else { return Vec::new() };
    let told = argv::told_of(file, component, words);
    told.map(|told| Told { is_partial: true, ..told }).into_iter().collect()
}

/// Files of the Secret that istiod reads.
fn kustomization(file: &Path, document: &Flat) -> Vec<Told> {
    let mut found = Flat::default();
    for (path, value, line) in &document.values {
        let Some((generator, _)) = path.split_once(".files.") else { continue };
        let secret = document.get(&format!("{generator}.name")).unwrap_or_default();
        if let Some((name, from)) = value.split_once('=') {
            let field = format!("{secret}.{}", name.replace('.', "\\."));
            found.values.push((field, from.to_owned(), *line));
        }
    }
    let reads = |component: &str| {
        super::USES.iter().any(|row| {
            row.component == component
                && row.field.is_some_and(|field| found.values.iter().any(|(at, ..)| at == field))
        })
    };
    let component = COMPONENTS.iter().find(|c| reads(c.id));
    component.map(|c| fields(file, c.id, &found)).into_iter().collect()
}

/// Settings as `certkit flags --format json` prints them, below this path.
fn data(file: &Path, document: &Flat, list: &str) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for n in 0.. {
        let at = |key: &str| document.get(&format!("{list}{n}.{key}"));
        let Some(component) = at("component").and_then(argv::component) else { break };
        let name = |key| at(key).filter(|name| !name.is_empty() && *name != "null");
        let value = at("value").unwrap_or_default();
        for (is_config, name) in [(false, name("flag")), (true, name("field"))] {
            let Some(name) = name else { continue };
            let setting = Setting { name: name.to_owned(), value: value.to_owned(), line: None };
            let is = |t: &&mut Told| t.component == component && t.is_config == is_config;
            match all.iter_mut().find(is) {
                Some(told) => told.settings.push(setting),
                None => all.extend(argv::told_of(file, component, Vec::new()).map(|told| Told {
                    is_config,
                    // Fields that are flags too stand with the flags: the file need not say them.
                    is_partial: is_config,
                    settings: vec![setting],
                    ..told
                })),
            }
        }
    }
    all
}

fn part(file: &Path, component: &str, settings: Vec<Setting>) -> Option<Told> {
    let told = argv::told_of(file, component, Vec::new()).filter(|_| !settings.is_empty())?;
    Some(Told { is_partial: true, settings, ..told })
}
