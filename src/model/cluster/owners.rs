//! Whose the secrets of a cluster are, by what its components read.

use super::{Cluster, Fault};
use crate::model::{
    catalogue::{COMPONENTS, Scope, USES, Value},
    owner::{FIELD, Owner},
};

/// The components that can have an owner: those that run on hosts by themselves.
pub fn components() -> Vec<&'static str> {
    let is_program = |id: &&'static str| process(id) == *id;
    let on_hosts = COMPONENTS.iter().filter(|spec| spec.scope != Scope::Cluster);
    on_hosts.map(|spec| spec.id).filter(is_program).collect()
}

/// The program that reads what a component's settings name: some components are files of another's.
fn process(component: &'static str) -> &'static str {
    let reader = USES.iter().find(|row| row.value == Value::ConfigFile(component));
    reader.map_or(component, |row| row.component)
}

/// The secret that a setting names, by the id of its certificate or key pair.
fn secret(value: Value) -> Option<&'static str> {
    match value {
        Value::Key(id) | Value::Kubeconfig(id) => Some(id.name()),
        Value::PrivateKey(id) => Some(id),
        _ => None,
    }
}

/// The components that read a secret and have a declared owner, in the catalogue's order.
fn readers<'a>(cluster: &'a Cluster, id: &str) -> Vec<(&'static str, &'a Owner)> {
    let mut readers: Vec<(&'static str, &Owner)> = Vec::new();
    let rows = USES.iter().filter(|row| secret(row.value) == Some(id) && cluster.has(row.present));
    for component in rows.map(|row| process(row.component)) {
        if let Some(owner) = cluster.owners.get(component)
            && readers.iter().all(|(other, _)| *other != component)
        {
            readers.push((component, owner));
        }
    }
    readers
}

/// Whose a secret is. A component without an owner is root's, who reads whatever is given to others.
pub fn owner_of<'a>(cluster: &'a Cluster, id: &str) -> Option<&'a Owner> {
    let readers = readers(cluster, id);
    let other = readers.iter().find(|(_, owner)| !owner.is_root());
    other.or(readers.first()).map(|(_, owner)| *owner)
}

/// What is wrong with the owners of a cluster.
pub fn faults(cluster: &Cluster) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut secrets: Vec<&str> = Vec::new();
    for id in USES.iter().filter_map(|row| secret(row.value)) {
        if secrets.contains(&id) {
            continue;
        }
        secrets.push(id);
        let mut readers = readers(cluster, id);
        readers.retain(|(_, owner)| !owner.is_root());
        let Some((first, one)) = readers.first() else { continue };
        if let Some((second, other)) = readers.iter().find(|(_, other)| other != one) {
            let why = format!(
                "{second} and {first} read the same private key, of `{id}`, so they need the same owner; \
                 declared are `{other}` and `{one}`"
            );
            faults.push(Fault { field: format!("{FIELD}.{second}"), why });
        }
    }
    faults
}
