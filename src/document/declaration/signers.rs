//! Whom certkit's own signers sign for: `signers` of `certkit.yaml`.

use std::{fmt::Write as _, str::FromStr};

use super::row;
use crate::{
    document::{
        field::FieldReader,
        yaml::{Node, scalar},
    },
    model::cluster::signers::{
        AccountAdmitted, EtcdClients, FIELD, FrontProxies, NodesAdmitted, PeopleAdmitted,
        PodsAdmitted, Requester, ShortTerm, Signers,
    },
};

/// Every service account of a namespace.
const EVERY: &str = "*";

pub(super) fn read(reader: &mut FieldReader, node: &Node, path: &str) -> Signers {
    let mut signers = Signers::default();
    let known = ["nodes", "people", "etcd", "frontProxy", "pods"];
    for (key, field, node) in reader.fields(node, path, &known) {
        match key {
            "nodes" => {
                let mut validity = ShortTerm::default();
                for (_, field, node) in reader.fields(node, &field, &["validity"]) {
                    validity = reader.parse(node, &field).unwrap_or_default();
                }
                signers.nodes = Some(NodesAdmitted { validity });
            }
            "people" => signers.people = people(reader, node, &field),
            "etcd" => signers.etcd = etcd(reader, node, &field),
            "frontProxy" => signers.front_proxy = front_proxy(reader, node, &field),
            _ => signers.pods = pods(reader, node, &field),
        }
    }
    signers
}

fn people(reader: &mut FieldReader, node: &Node, path: &str) -> Option<PeopleAdmitted> {
    let mut people = PeopleAdmitted {
        groups: Vec::new(),
        requesters: Vec::new(),
        validity: ShortTerm::default(),
    };
    for (key, field, node) in reader.fields(node, path, &["groups", "requesters", "validity"]) {
        match key {
            "groups" => people.groups = all(reader, node, &field),
            "requesters" => people.requesters = all(reader, node, &field),
            _ => people.validity = reader.parse(node, &field).unwrap_or_default(),
        }
    }
    Some(people)
}

fn etcd(reader: &mut FieldReader, node: &Node, path: &str) -> Option<EtcdClients> {
    let mut etcd = EtcdClients { clients: Vec::new(), validity: ShortTerm::default() };
    for (key, field, node) in reader.fields(node, path, &["clients", "validity"]) {
        if key == "validity" {
            etcd.validity = reader.parse(node, &field).unwrap_or_default();
            continue;
        }
        for (field, item) in reader.items(node, &field) {
            let (mut requester, mut name) = (None, None);
            for (key, field, node) in reader.fields(item, &field, &["requester", "commonName"]) {
                match key {
                    "requester" => requester = reader.parse(node, &field),
                    _ => name = reader.parse(node, &field),
                }
            }
            match (requester, name) {
                (Some(requester), Some(name)) => etcd.clients.push((requester, name)),
                _ => needs(reader, item, &field, "`requester` and `commonName`"),
            }
        }
    }
    if etcd.clients.is_empty() {
        needs(reader, node, path, "at least one of `clients`");
    }
    Some(etcd)
}

fn front_proxy(reader: &mut FieldReader, node: &Node, path: &str) -> Option<FrontProxies> {
    let mut proxies = FrontProxies { requesters: Vec::new(), validity: ShortTerm::default() };
    for (key, field, node) in reader.fields(node, path, &["requesters", "validity"]) {
        match key {
            "requesters" => proxies.requesters = all::<Requester>(reader, node, &field),
            _ => proxies.validity = reader.parse(node, &field).unwrap_or_default(),
        }
    }
    if proxies.requesters.is_empty() {
        needs(reader, node, path, "at least one of `requesters`");
    }
    Some(proxies)
}

fn pods(reader: &mut FieldReader, node: &Node, path: &str) -> Option<PodsAdmitted> {
    let mut pods =
        PodsAdmitted { trust_domain: None, accounts: Vec::new(), validity: ShortTerm::default() };
    let known = ["trustDomain", "serviceAccounts", "validity"];
    for (key, field, node) in reader.fields(node, path, &known) {
        match key {
            "trustDomain" => pods.trust_domain = reader.parse(node, &field),
            "validity" => pods.validity = reader.parse(node, &field).unwrap_or_default(),
            _ => {
                for (field, item) in reader.items(node, &field) {
                    pods.accounts.extend(account(reader, item, &field));
                }
            }
        }
    }
    if pods.accounts.is_empty() {
        needs(reader, node, path, "at least one of `serviceAccounts`");
    }
    Some(pods)
}

fn account(reader: &mut FieldReader, node: &Node, path: &str) -> Option<AccountAdmitted> {
    let (mut namespace, mut name, mut services) = (None, None, Vec::new());
    for (key, field, node) in reader.fields(node, path, &["namespace", "name", "services"]) {
        match key {
            "namespace" => namespace = reader.parse(node, &field),
            "name" if node.text() == Some(EVERY) => name = Some(None),
            "name" => name = reader.parse(node, &field).map(Some),
            _ => services = all(reader, node, &field),
        }
    }
    match (namespace, name) {
        (Some(namespace), Some(name)) => Some(AccountAdmitted { namespace, name, services }),
        _ => {
            needs(reader, node, path, "`namespace` and `name`, which may be `*` in quotes");
            None
        }
    }
}

/// What is missing is said where nothing else is wrong: it may be missing because of that.
fn needs(reader: &mut FieldReader, node: &Node, path: &str, what: &str) {
    if reader.is_content() {
        reader.mistake(node, path, format!("needs {what}"));
    }
}

fn all<T: FromStr<Err = String>>(reader: &mut FieldReader, node: &Node, path: &str) -> Vec<T> {
    let mut all = Vec::new();
    for (field, item) in reader.items(node, path) {
        all.extend(reader.parse(item, &field));
    }
    all
}

/// The lines that [`read`] reads as this; none where nobody is admitted.
pub(super) fn write(signers: &Signers) -> String {
    if signers.are_closed() {
        return String::new();
    }
    let mut text = format!("{FIELD}:\n");
    let mut line = |field: &str, fields: Vec<String>| {
        // Writing to a String never fails.
        let _ = writeln!(text, "  {field}: {{{}}}", fields.join(", "));
    };
    if let Some(NodesAdmitted { validity }) = &signers.nodes {
        line("nodes", term(*validity).collect());
    }
    if let Some(PeopleAdmitted { groups, requesters, validity }) = &signers.people {
        let lists = [list("groups", groups), list("requesters", requesters)];
        line("people", lists.into_iter().flatten().chain(term(*validity)).collect());
    }
    if let Some(EtcdClients { clients, validity }) = &signers.etcd {
        let clients: Vec<String> = clients
            .iter()
            .map(|(requester, name)| {
                let (requester, name) = (scalar(requester.as_ref()), scalar(name.as_ref()));
                format!("{{requester: {requester}, commonName: {name}}}")
            })
            .collect();
        let clients = format!("clients: [{}]", clients.join(", "));
        line("etcd", [clients].into_iter().chain(term(*validity)).collect());
    }
    if let Some(FrontProxies { requesters, validity }) = &signers.front_proxy {
        line(
            "frontProxy",
            list("requesters", requesters).into_iter().chain(term(*validity)).collect(),
        );
    }
    if let Some(PodsAdmitted { trust_domain, accounts, validity }) = &signers.pods {
        let domain = trust_domain.as_ref();
        let domain = domain.map(|domain| format!("trustDomain: {}", scalar(domain.as_ref())));
        let accounts: Vec<String> = accounts
            .iter()
            .map(|account| {
                let name = account.name.as_ref().map_or(EVERY, AsRef::as_ref);
                let (namespace, name) = (scalar(account.namespace.as_ref()), scalar(name));
                let services = list("services", &account.services);
                let services = services.map(|list| format!(", {list}")).unwrap_or_default();
                format!("{{namespace: {namespace}, name: {name}{services}}}")
            })
            .collect();
        let accounts = format!("serviceAccounts: [{}]", accounts.join(", "));
        line("pods", domain.into_iter().chain([accounts]).chain(term(*validity)).collect());
    }
    text
}

fn term<const HOURS: i64>(validity: ShortTerm<HOURS>) -> impl Iterator<Item = String> {
    (!validity.is_default()).then(|| format!("validity: {}", validity.span())).into_iter()
}

fn list<T: AsRef<str>>(field: &str, items: &[T]) -> Option<String> {
    let items_row = row(items.iter().map(|item| item.as_ref().to_owned()));
    (!items.is_empty()).then(|| format!("{field}: {items_row}"))
}
