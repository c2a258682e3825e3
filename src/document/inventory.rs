//! Lists of machines that people have already: certkit's own form, `kubectl get nodes -o json|yaml`, Ansible's inventories
//! in YAML and INI, and CSV.

use std::net::IpAddr;

use super::{
    DocumentError, HostDraft, Mistake, documents,
    yaml::{Node, Position},
};
use crate::model::{cluster::HostName, shown::quoted};

/// What Ansible calls the address of a machine.
const ANSIBLE: [&str; 3] = ["ansible_host", "ansible_ssh_host", "ip"];

/// The machines of a list, in its order. `file` is what errors call it.
pub fn hosts(bytes: &[u8], file: &str) -> Result<Vec<HostDraft>, DocumentError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let mut found = Found { hosts: Vec::new(), mistakes: Vec::new() };
    match text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']))
    {
        Some(line)
            if line.starts_with('[') && line.ends_with(']') && !line.contains(['{', '"']) =>
        {
            found.ini(text);
        }
        Some(line) if is_row(line) => found.csv(text),
        _ => documents(bytes, file)?.iter().for_each(|document| found.document(document)),
    }
    let Found { mut hosts, mut mistakes } = found;
    if hosts.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake {
            file: None,
            place: None,
            field: String::new(),
            why: format!("names no machine; {FORMS}"),
        });
    }
    if !mistakes.is_empty() {
        return Err(DocumentError::Invalid { file: file.to_owned(), mistakes });
    }
    // A machine in several of Ansible's groups is one.
    let mut seen: Vec<HostDraft> = Vec::new();
    hosts.retain(|host| {
        let is_new = !seen.contains(host);
        seen.push(host.clone());
        is_new
    });
    Ok(hosts)
}

const FORMS: &str = "certkit reads NAME,IP[,IP...] a line, a list of {name, addresses}, `kubectl get nodes -o json`, and \
                     Ansible's inventories";

/// `name,10.0.0.1`, or the heading of such a table.
fn is_row(line: &str) -> bool {
    let mut cells = line.split(',').map(str::trim);
    let name = cells.next().unwrap_or_default();
    let is_plain = !name.is_empty() && !name.contains([':', '{', '[', ' ', '"']);
    let next = cells.next();
    is_plain
        && next.is_some_and(|cell| cell.parse::<IpAddr>().is_ok() || cell.starts_with("address"))
}

struct Found {
    hosts: Vec<HostDraft>,
    mistakes: Vec<Mistake>,
}

impl Found {
    fn wrong(&mut self, place: Position, field: &str, why: String) {
        self.mistakes.push(Mistake {
            file: None,
            place: Some(place),
            field: field.to_owned(),
            why,
        });
    }

    fn add<'t>(
        &mut self,
        place: Position,
        name: &str,
        addresses: impl IntoIterator<Item = &'t str>,
    ) {
        let name = match name.parse::<HostName>() {
            Ok(name) => name,
            Err(error) => return self.wrong(place, "name", error.to_string()),
        };
        let mut host = HostDraft { name: Some(name), addresses: Vec::new(), port: None, ssh: None };
        for text in addresses {
            match text.parse::<IpAddr>() {
                Ok(ip) => host.addresses.push(ip),
                Err(_) => {
                    self.wrong(place, "addresses", format!("{} is no IP address", quoted(text)))
                }
            }
        }
        if host.addresses.is_empty() {
            let why = "has no address; write one: nodes are reached by it".to_owned();
            let name = host.name.as_ref().map(ToString::to_string).unwrap_or_default();
            return self.wrong(place, &name, why);
        }
        self.hosts.push(host);
    }

    fn csv(&mut self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut cells = line.split(',').map(|cell| cell.trim().trim_matches('"'));
            let name = cells.next().unwrap_or_default();
            let rest: Vec<&str> = cells.filter(|cell| !cell.is_empty()).collect();
            let is_heading = number == 0 && rest.iter().all(|cell| cell.starts_with("address"));
            if !is_heading {
                self.add(Position { line: number + 1, column: 1 }, name, rest);
            }
        }
    }

    /// Ansible's INI: a machine a line, its variables behind it.
    fn ini(&mut self, text: &str) {
        let mut lists_machines = true;
        for (number, line) in text.lines().enumerate() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(group) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                // `[group:vars]` and `[group:children]` name no machines.
                lists_machines = !group.contains(':');
                continue;
            }
            if !lists_machines {
                continue;
            }
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let variables: Vec<(&str, &str)> =
                words.filter_map(|word| word.split_once('=')).collect();
            let of = |wanted: &&str| {
                variables.iter().find(|(name, _)| name == wanted).map(|(_, ip)| *ip)
            };
            let address = ANSIBLE.iter().find_map(of);
            self.add(Position { line: number + 1, column: 1 }, name, address);
        }
    }

    fn document(&mut self, document: &Node) {
        if let Some(items) = document.list() {
            items.iter().for_each(|item| self.host(item));
        } else if let Some(items) = document.get("items").and_then(Node::list) {
            items.iter().for_each(|item| self.node(item));
        } else if document.get("kind").and_then(Node::text) == Some("Node") {
            self.node(document);
        } else if let Some(items) = document.get("nodes").and_then(Node::list) {
            items.iter().for_each(|item| self.host(item));
        } else {
            self.group(document, 0);
        }
    }

    /// `{name: w1, addresses: [10.0.1.1]}`.
    fn host(&mut self, item: &Node) {
        let name = item.get("name").and_then(Node::text).unwrap_or_default();
        let addresses = item.get("addresses");
        let list = addresses.and_then(Node::list).unwrap_or_default();
        let texts = list.iter().filter_map(Node::text).chain(addresses.and_then(Node::text));
        let texts: Vec<&str> = texts.collect();
        self.add(item.place, name, texts);
    }

    /// A Node of Kubernetes: what it reports of itself.
    fn node(&mut self, item: &Node) {
        let name = item.get("metadata").and_then(|m| m.get("name")).and_then(Node::text);
        let all = item.get("status").and_then(|s| s.get("addresses")).and_then(Node::list);
        let internal = all
            .unwrap_or_default()
            .iter()
            .filter(|address| address.get("type").and_then(Node::text) == Some("InternalIP"));
        let texts: Vec<&str> = internal.filter_map(|a| a.get("address")?.text()).collect();
        self.add(item.place, name.unwrap_or_default(), texts);
    }

    /// Ansible's YAML: `GROUP: {hosts: {NAME: {ansible_host: IP}}, children: {GROUP: ...}}`.
    fn group(&mut self, groups: &Node, depth: usize) {
        for (_, group) in groups.map().unwrap_or_default() {
            for (name, variables) in group.get("hosts").and_then(Node::map).unwrap_or_default() {
                let address = ANSIBLE.iter().find_map(|key| variables.get(key)?.text());
                self.add(name.place, name.text().unwrap_or_default(), address);
            }
            if let Some(children) = group.get("children").filter(|_| depth < 16) {
                self.group(children, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Vec<String>)> {
        let all = hosts(text.as_bytes(), "f").unwrap_or_else(|error| panic!("{text}: {error}"));
        let name = |host: &HostDraft| host.name.as_ref().unwrap().to_string();
        let ips = |host: &HostDraft| host.addresses.iter().map(IpAddr::to_string).collect();
        all.iter().map(|host| (name(host), ips(host))).collect()
    }

    #[test]
    fn each_form_names_the_same_machines() {
        let wanted = [
            ("w1".to_owned(), vec!["10.0.1.1".to_owned()]),
            ("w2".to_owned(), vec!["10.0.1.2".to_owned()]),
        ];
        for text in [
            "w1,10.0.1.1\nw2,10.0.1.2\n",
            "name,addresses\n# ours\nw1, 10.0.1.1\n\n\"w2\",\"10.0.1.2\"\n",
            "- {name: w1, addresses: [10.0.1.1]}\n- {name: w2, addresses: 10.0.1.2}\n",
            "nodes:\n- name: w1\n  addresses: [10.0.1.1]\n- name: w2\n  addresses: [10.0.1.2]\n",
            "[workers]\nw1 ansible_host=10.0.1.1 ansible_user=root\nw2 ip=10.0.1.2\n[all:vars]\nx=y\n[more]\nw1 ansible_host=10.0.1.1\n",
            "all:\n  children:\n    workers:\n      hosts:\n        w1: {ansible_host: 10.0.1.1}\n        w2: {ansible_host: 10.0.1.2}\n",
            r#"{"kind": "List", "items": [
                {"metadata": {"name": "w1"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.1.1"},
                 {"type": "ExternalIP", "address": "1.2.3.4"}, {"type": "Hostname", "address": "w1"}]}},
                {"metadata": {"name": "w2"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.1.2"}]}}]}"#,
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, why) in [
            ("w1,10.0.1.1\nw2,10.0.1.300\n", 2, "is no IP address"),
            ("w1,10.0.1.1\nBad Name,10.0.1.2\n", 2, "name"),
            ("[workers]\nw1 ansible_user=root\n", 2, "has no address"),
            ("- {name: w1}\n", 1, "has no address"),
        ] {
            let error = hosts(text.as_bytes(), "f").unwrap_err().to_string();
            assert!(error.starts_with(&format!("f:{line}:")) && error.contains(why), "{error}");
        }
        for nothing in ["{}", "kind: Cluster\n", "[workers]\n"] {
            let error = hosts(nothing.as_bytes(), "f").unwrap_err().to_string();
            assert!(error.contains("names no machine"), "{nothing}: {error}");
        }
    }
}
