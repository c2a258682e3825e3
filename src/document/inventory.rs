//! Lists of machines that people have already: certkit's own form, `kubectl get nodes -o json|yaml`, Ansible's inventories
//! in YAML and INI and as `ansible-inventory --list` prints them, and CSV.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use super::{
    DocumentError, HostDraft, Mistake, documents, utf8,
    yaml::{self, Node, NodeValue, Position, SyntaxError, Token},
};
use crate::model::{cluster::HostName, shown::quoted};

/// More than `kubectl get nodes -o json` prints of ten thousand nodes, with the images that each of them has.
pub const LIMIT: u64 = 256 << 20;

/// What Ansible calls the address of a machine: Kubespray's for the one that nodes reach it by, before the one that ssh
/// does.
const ANSIBLE: [&str; 3] = ["ip", "ansible_host", "ansible_ssh_host"];

/// How many machines the ranges of one inventory may stand for.
const RANGED: usize = 100_000;

/// The machines of a list, in its order. `file` is what errors call it.
pub fn hosts(bytes: &[u8], file: &str) -> Result<Vec<HostDraft>, DocumentError> {
    let text = utf8(bytes, file)?;
    let mut found = Found::default();
    let first = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number, line.trim()))
        .find(|(_, line)| !line.is_empty() && !line.starts_with(['#', ';']));
    match first {
        Some((_, line)) if is_ini(line, text) => found.ini(text),
        Some((number, line)) if is_row(line) => found.csv(text, number),
        // A tree of all of it would take many times the memory.
        _ if bytes.len() as u64 > super::LIMIT => {
            found.large(text).map_err(|cause| DocumentError::Syntax {
                file: file.to_owned(),
                place: cause.place,
                cause,
            })?;
        }
        _ => documents(bytes, file)?.iter().for_each(|document| found.document(document)),
    }
    found.mentioned_ones();
    let Found { mut hosts, mut mistakes, .. } = found;
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
    // A machine in several lists is one.
    let mut seen = HashSet::new();
    hosts.retain(|host| seen.insert((host.name.clone(), host.addresses.clone())));
    Ok(hosts)
}

const FORMS: &str = "certkit reads NAME,IP[,IP...] a line, a list of {name, addresses}, `kubectl get nodes -o json`, and \
                     Ansible's inventories";

/// A heading of Ansible's INI, or a machine before the first one: `w1 ansible_host=10.0.1.1`.
fn is_ini(line: &str, text: &str) -> bool {
    let is_heading = |line: &str| {
        line.starts_with('[') && line.ends_with(']') && !line.contains(['{', '"', ','])
    };
    let mut words = line.split(" #").next().unwrap_or_default().split_whitespace();
    let name = words.next().unwrap_or_default();
    let is_name = !name.starts_with(['-', '[', '{', '"', '%']) && !name.ends_with([':', ',']);
    let variables: Vec<&str> = words.collect();
    is_heading(line)
        || is_name
            && !is_row(line)
            && match variables.first() {
                Some(variable) => variable.contains('='),
                None => text.lines().map(str::trim).any(is_heading),
            }
}

/// `name,10.0.0.1`, or the heading of such a table.
fn is_row(line: &str) -> bool {
    let mut cells = cells(line);
    let name = cells.next().unwrap_or_default();
    let is_plain = !name.is_empty() && !name.contains([':', '{', '[', ' ']);
    let next = cells.next();
    is_plain && next.is_some_and(|cell| cell.parse::<IpAddr>().is_ok() || is_of_addresses(cell))
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| cell.trim().trim_matches('"').trim())
}

/// Whether a table's column with this heading has addresses.
fn is_of_addresses(heading: &str) -> bool {
    let heading = heading.to_ascii_lowercase();
    heading.starts_with("address") || heading.starts_with("ip")
}

#[derive(Default)]
struct Found {
    hosts: Vec<HostDraft>,
    mistakes: Vec<Mistake>,
    /// The machines of Ansible's groups, in the order in which they are first named.
    mentioned: Vec<Mentioned>,
    /// Which of them has this name.
    known: HashMap<String, usize>,
    /// How many of them ranges stood for.
    ranged: usize,
}

/// A machine as Ansible knows it: one group may name it, and another say where it is.
struct Mentioned {
    place: Position,
    name: String,
    address: Option<String>,
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
        let before = self.mistakes.len();
        for text in addresses {
            match text.parse::<IpAddr>() {
                Ok(ip) => host.addresses.push(ip),
                Err(_) => {
                    self.wrong(place, "addresses", format!("{} is no IP address", quoted(text)))
                }
            }
        }
        if host.addresses.is_empty() {
            if self.mistakes.len() == before {
                let why = "has no address; write one: nodes are reached by it".to_owned();
                let name = host.name.as_ref().map(ToString::to_string).unwrap_or_default();
                self.wrong(place, &name, why);
            }
            return;
        }
        self.hosts.push(host);
    }

    /// A machine of Ansible's, which may have been named before and may be again.
    fn mention<'t>(
        &mut self,
        place: Position,
        name: &str,
        variable: impl Fn(&str) -> Option<&'t str>,
    ) {
        let said: Vec<&str> = ANSIBLE.iter().filter_map(|key| variable(key)).collect();
        let is_ip = |text: &&&str| text.parse::<IpAddr>().is_ok();
        let address = said.iter().find(is_ip).or(said.first()).map(|text| (*text).to_owned());
        let Some(names) = expanded(name, RANGED - self.ranged) else {
            let why = format!("{} stands for more than {RANGED} machines", quoted(name));
            return self.wrong(place, "name", why);
        };
        if names.len() > 1 {
            self.ranged += names.len();
        }
        for name in names {
            let known = self.known.get(&name).map(|index| &mut self.mentioned[*index]);
            match known {
                Some(known) if address.is_none() || known.address == address => {}
                Some(known) if known.address.is_none() => {
                    known.address.clone_from(&address);
                    known.place = place;
                }
                // A second address is told by whoever takes the list in.
                Some(_) | None => {
                    self.known.insert(name.clone(), self.mentioned.len());
                    self.mentioned.push(Mentioned { place, name, address: address.clone() });
                }
            }
        }
    }

    fn mentioned_ones(&mut self) {
        for Mentioned { place, name, address } in std::mem::take(&mut self.mentioned) {
            self.add(place, &name, address.as_deref());
        }
    }

    /// A table. Where it has headings, those of addresses say which columns count.
    fn csv(&mut self, text: &str, first: usize) {
        let mut headings: Vec<String> = Vec::new();
        for (number, line) in text.lines().enumerate().skip(first) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut row = cells(line);
            let name = row.next().unwrap_or_default();
            let rest: Vec<&str> = row.collect();
            if number == first && rest.first().is_some_and(|cell| is_of_addresses(cell)) {
                headings = rest.iter().map(|cell| (*cell).to_owned()).collect();
                continue;
            }
            // The last column may go on: NAME,IP[,IP...].
            let heading = |index: usize| headings.get(index).or(headings.last());
            let counts = |index: usize| heading(index).is_none_or(|text| is_of_addresses(text));
            let addresses = rest.iter().enumerate();
            let addresses = addresses.filter(|(index, cell)| counts(*index) && !cell.is_empty());
            let addresses: Vec<&str> = addresses.map(|(_, cell)| *cell).collect();
            self.add(Position { line: number + 1, column: 1 }, name, addresses);
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
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            if let Some(group) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                // `[group:vars]` and `[group:children]` name no machines.
                lists_machines = !group.contains(':');
                continue;
            }
            if !lists_machines {
                continue;
            }
            let variables: Vec<(&str, &str)> =
                words.filter_map(|word| word.split_once('=')).collect();
            let of = |wanted: &str| {
                let mut all = variables.iter().filter(|(name, _)| *name == wanted);
                all.next().map(|(_, value)| value.trim_matches(['"', '\'']))
            };
            self.mention(Position { line: number + 1, column: 1 }, without_port(name), of);
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
            // What `ansible-inventory --list` knows of each machine, wherever it is kept.
            let known = document.get("_meta").and_then(|meta| meta.get("hostvars"));
            for (name, variables) in known.and_then(Node::map).unwrap_or_default() {
                self.machine(name, variables);
            }
            self.group(document, 0);
        }
    }

    /// A document too large for a tree: items as they are read, all else as a whole.
    fn large(&mut self, text: &str) -> Result<(), SyntaxError> {
        let mut events = yaml::events(text);
        while let Some((token, place)) = events.token()? {
            match token {
                Token::Document | Token::End | Token::Node(_) => {}
                Token::List => {
                    while let Some(item) = events.value()? {
                        self.host(&item?);
                    }
                }
                Token::Map => {
                    let mut fields = Vec::new();
                    while let Some(key) = events.value()? {
                        let key = key?;
                        if key.text() != Some("items") {
                            fields.extend(events.value()?.transpose()?.map(|value| (key, value)));
                            continue;
                        }
                        match events.token()? {
                            Some((Token::List, _)) => {
                                while let Some(item) = events.value()? {
                                    self.node(&item?);
                                }
                            }
                            Some((Token::Node(_), _)) => {}
                            _ => {
                                let why = "items is not a list".to_owned();
                                return Err(SyntaxError { place: key.place, why });
                            }
                        }
                    }
                    self.document(&Node::at(place, NodeValue::Map(fields)));
                }
            }
        }
        Ok(())
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

    /// Ansible's YAML: `GROUP: {hosts: {NAME: {ansible_host: IP}}, children: {GROUP: ...}}`; as `ansible-inventory --list`
    /// prints it, `GROUP: {hosts: [NAME]}`.
    fn group(&mut self, groups: &Node, depth: usize) {
        for (_, group) in groups.map().unwrap_or_default() {
            let hosts = group.get("hosts");
            for (name, variables) in hosts.and_then(Node::map).unwrap_or_default() {
                self.machine(name, variables);
            }
            for name in hosts.and_then(Node::list).unwrap_or_default() {
                self.mention(name.place, name.text().unwrap_or_default(), |_| None);
            }
            if let Some(children) = group.get("children").filter(|_| depth < 16) {
                self.group(children, depth + 1);
            }
        }
    }

    fn machine(&mut self, name: &Node, variables: &Node) {
        let of = |key: &str| variables.get(key).and_then(Node::text);
        self.mention(name.place, without_port(name.text().unwrap_or_default()), of);
    }
}

/// A machine's name without the port that ssh is to take.
fn without_port(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => name,
    }
}

/// The names that one with ranges stands for, as Ansible has them: `node[01:20]`, `db-[a:f]`, `w[0:10:2]`. Nothing where they
/// are more than `limit`.
fn expanded(name: &str, limit: usize) -> Option<Vec<String>> {
    let whole = || Some(vec![name.to_owned()]);
    let Some((before, rest)) = name.split_once('[') else { return whole() };
    let Some((range, after)) = rest.split_once(']') else { return whole() };
    let Some(values) = values(range, limit) else { return whole() };
    let endings = expanded(after, limit)?;
    (values.len().checked_mul(endings.len())? <= limit).then_some(())?;
    let with = |value: &String| {
        endings.iter().map(|end| format!("{before}{value}{end}")).collect::<Vec<_>>()
    };
    Some(values.iter().flat_map(with).collect())
}

/// What a range stands for; one more than `limit` is enough to know that there are more.
fn values(range: &str, limit: usize) -> Option<Vec<String>> {
    let mut parts = range.split(':');
    let (from, to) = (parts.next()?, parts.next()?);
    let step: usize = parts.next().map_or(Some(1), |step| step.parse().ok())?;
    (step > 0 && parts.next().is_none()).then_some(())?;
    let letter = |text: &str| match text.as_bytes() {
        [b] if b.is_ascii_lowercase() => Some(*b),
        _ => None,
    };
    if let (Some(from), Some(to)) = (letter(from), letter(to)) {
        return Some((from..=to).step_by(step).map(|b| char::from(b).to_string()).collect());
    }
    let (first, last): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
    let width = if from.starts_with('0') { from.len() } else { 0 };
    let all = (first..=last).step_by(step).take(limit.saturating_add(1));
    Some(all.map(|number| format!("{number:0width$}")).collect())
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
            "w1,10.0.1.1\r\nw2,10.0.1.2\r\n",
            "\"w1\",\"10.0.1.1\"\n\"w2\",\"10.0.1.2\"\n",
            // Headings behind a byte order mark and a comment, and a column that says something else.
            "\u{feff}# ours\nhostname,IP,rack\nw1,10.0.1.1,a\nw2,10.0.1.2,b\n",
            "- {name: w1, addresses: [10.0.1.1]}\n- {name: w2, addresses: 10.0.1.2}\n",
            "nodes:\n- name: w1\n  addresses: [10.0.1.1]\n- name: w2\n  addresses: [10.0.1.2]\n",
            "[workers]\nw1 ansible_host=10.0.1.1 ansible_user=root\nw2 ip=10.0.1.2\n[all:vars]\nx=y\n[more]\nw1 ansible_host=10.0.1.1\n",
            // One place says where a machine is, others only that it belongs to them.
            "w1 ansible_host=10.0.1.1\nw2:2222 ansible_host=\"10.0.1.2\"\n[workers]\nw1\nw2\n",
            "w1\nw2\n[all]\nw1 ansible_host=10.0.1.1\nw2 ansible_host=w2.example.com ip=10.0.1.2\n",
            "[workers]\nw[1:2]\n[all]\nw1 ansible_host=192.0.2.1 ip=10.0.1.1\nw2 ip=10.0.1.2\n[more:children]\nworkers\n",
            "all:\n  hosts:\n    w1: {ansible_host: 10.0.1.1, ip: 10.0.1.1}\n    w2: {ansible_host: 10.0.1.2}\n  children:\n    kube_node:\n      hosts:\n        w1:\n        w2:\n    etcd: {hosts: {w1: null}}\n",
            r#"{"_meta": {"hostvars": {"w1": {"ansible_host": "10.0.1.1"}, "w2": {"ansible_host": "10.0.1.2"}}},
                "all": {"children": ["workers"]}, "workers": {"hosts": ["w1", "w2"]}}"#,
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
        // A machine of Ansible's that nothing says the address of, told once.
        let error = hosts(b"w[1:2]\n[workers]\nw[1:2]\nw1\n", "f").unwrap_err().to_string();
        assert_eq!(error.matches("has no address").count(), 2, "{error}");
        let error = hosts(b"[workers]\nw[1:9999999] ip=10.0.1.1\n", "f").unwrap_err().to_string();
        assert!(error.contains("f:2:1: name: `w[1:9999999]` stands for more"), "{error}");
        for nothing in ["{}", "kind: Cluster\n", "[workers]\n"] {
            let error = hosts(nothing.as_bytes(), "f").unwrap_err().to_string();
            assert!(error.contains("names no machine"), "{nothing}: {error}");
        }
    }

    #[test]
    fn a_list_of_any_size_is_read_and_one_node_of_it_at_a_time() {
        let image = format!(r#"{{"names": ["registry.example.com/{}"]}}"#, "x".repeat(60_000));
        let node = |n: usize| {
            format!(
                r#"{{"metadata": {{"name": "w{n}"}}, "status": {{"images": [{image}],
                    "addresses": [{{"type": "InternalIP", "address": "10.0.1.{n}"}}]}}}}"#
            )
        };
        let items: Vec<String> = (1..=100).map(node).collect();
        let text = format!(r#"{{"kind": "List", "items": [{}]}}"#, items.join(",\n"));
        assert!(text.len() as u64 > super::super::LIMIT);
        let all = read(&text);
        assert_eq!((all.len(), all[99].1[0].as_str()), (100, "10.0.1.100"));
        let broken = hosts(&text.as_bytes()[..text.len() - 3], "f").unwrap_err().to_string();
        assert!(broken.starts_with("f:199:") || broken.starts_with("f:200:"), "{broken}");
        let ip = |n: usize| format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
        let line = |n: usize| format!("- {{name: w{n}, addresses: [{}]}}\n", ip(n));
        let list: String = (0..90_000).map(line).collect();
        let comment = "# on and on\n".repeat(400_000);
        assert!(comment.len() as u64 > super::super::LIMIT);
        assert_eq!(read(&format!("{list}{comment}")).len(), 90_000);
    }

    #[test]
    fn ranges_are_ansibles() {
        let of = |name: &str| expanded(name, 100).map(|all| all.join(" "));
        assert_eq!(of("w[08:11].x").as_deref(), Some("w08.x w09.x w10.x w11.x"));
        assert_eq!(of("w[1:7:3]-[a:b]").as_deref(), Some("w1-a w1-b w4-a w4-b w7-a w7-b"));
        assert_eq!(of("w[1:101]"), None);
        assert_eq!(of("w[1:50][a:c]"), None);
        for plain in ["w1", "w[1]", "w[1:2", "w[a:2]", "w[1:2:0]"] {
            assert_eq!(of(plain).as_deref(), Some(plain));
        }
    }
}
