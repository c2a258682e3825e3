//! The nodes of a cluster, added to and taken out of the text of `certkit.yaml`: every other octet stays.

use std::{collections::BTreeSet, ops::Range};

use crate::{
    document::{
        self, Draft, HostDraft,
        yaml::{self, Node, scalar},
    },
    model::cluster::HostName,
};

/// The field.
const FIELD: &str = "nodes";

/// The text of a `certkit.yaml` without these nodes, and with those after the ones that are there. Nothing where it
/// cannot be changed so that all else of it stays as it is: in a list that is written in one line, or in JSON.
pub fn with_nodes(text: &str, out: &BTreeSet<HostName>, into: &[HostDraft]) -> Option<String> {
    let changed = changed(text, out, into)?;
    let read = |text: &str| document::read(text.as_bytes(), "").ok();
    let mut expected = Draft { places: Default::default(), ..read(text)? };
    expected.nodes.retain(|node| node.name.as_ref().is_none_or(|name| !out.contains(name)));
    expected.nodes.extend(into.iter().cloned());
    let found = Draft { places: Default::default(), ..read(&changed)? };
    (found == expected).then_some(changed)
}

/// The same of a file that `nodes.include` names, which may be empty.
pub fn with_nodes_of_file(
    text: &str,
    out: &BTreeSet<HostName>,
    into: &[HostDraft],
) -> Option<String> {
    let changed = changed(text, out, into)?;
    let read = |text: &str| document::read_nodes(text.as_bytes(), "").ok().map(|file| file.nodes);
    let mut expected = if text.is_empty() { Vec::new() } else { read(text)? };
    expected.retain(|node| node.name.as_ref().is_none_or(|name| !out.contains(name)));
    expected.extend(into.iter().cloned());
    (read(&changed)? == expected).then_some(changed)
}

fn changed(text: &str, out: &BTreeSet<HostName>, into: &[HostDraft]) -> Option<String> {
    let mut changed = text.to_owned();
    if !out.is_empty() {
        changed = without(&changed, out)?;
    }
    if !into.is_empty() {
        changed = with(&changed, into)?;
    }
    Some(changed)
}

/// An item of the list: its name, and the octets of its lines.
struct Item {
    name: Option<String>,
    lines: Range<usize>,
}

/// The list as it stands in the text.
enum Listed {
    /// There is none.
    Nowhere,
    /// The field is there, in this line, and nothing is in it.
    Empty(Range<usize>),
    /// One item or more, each in lines of its own, of which the first is indented so; and where the field's value begins.
    Items { items: Vec<Item>, indent: String, value: usize },
}

fn listed(text: &str) -> Option<Listed> {
    let document = yaml::documents(text).ok()?.into_iter().find(|node| !node.is_null());
    let Some(document) = document else { return Some(Listed::Nowhere) };
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let line = |number: usize| -> Range<usize> {
        starts[number]..starts.get(number + 1).copied().unwrap_or(text.len())
    };
    let field = document.map()?.iter().find(|(key, _)| key.text() == Some(FIELD));
    let Some((key, list)) = field else { return Some(Listed::Nowhere) };
    let key_line = line(key.place.line.checked_sub(1)?);
    if list.is_null() || list.list().is_some_and(<[Node]>::is_empty) {
        return Some(Listed::Empty(key_line));
    }
    let nodes = list.list()?;
    let dash = |number: usize| {
        let written = &text[line(number)];
        let indent = written.len() - written.trim_start_matches(' ').len();
        written[indent..].starts_with('-').then_some(indent)
    };
    // A dash may have a line to itself.
    let above = |number: usize| {
        let is_bare = |number: &usize| text[line(*number)].trim() == "-";
        number.checked_sub(1).filter(is_bare).unwrap_or(number)
    };
    let first = nodes.first()?.place.line.checked_sub(1)?;
    let indent = dash(first).or_else(|| dash(above(first)))?;
    let mut items = Vec::new();
    for node in nodes {
        let mut number = node.place.line.checked_sub(1)?;
        if dash(number) != Some(indent) {
            number = above(number);
        }
        if dash(number) != Some(indent) {
            return None;
        }
        let mut end = line(number).end;
        let mut is_beside = true;
        // What is indented further than the dash is the item's; so are empty lines and comments before more of it.
        for more in number + 1..starts.len() {
            let written = &text[line(more)];
            let content = written.trim_start_matches(' ');
            let is_deeper = written.len() - content.len() > indent;
            let is_comment = content.starts_with('#');
            if content.trim().is_empty() || is_comment && !(is_deeper && is_beside) {
                is_beside = false;
                continue;
            }
            if !is_deeper {
                break;
            }
            end = line(more).end;
            is_beside = true;
        }
        let name = node.get("name").and_then(Node::text).or(node.text()).map(str::to_owned);
        items.push(Item { name, lines: line(number).start..end });
    }
    let written = &text[key_line.clone()];
    let key = written.find(FIELD)? + FIELD.len();
    let value = key_line.start + key + written[key..].find(':')? + 1;
    Some(Listed::Items { items, indent: " ".repeat(indent), value })
}

/// How the lines of a text end.
fn ending(text: &str) -> &'static str {
    match text.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

fn without(text: &str, out: &BTreeSet<HostName>) -> Option<String> {
    let Listed::Items { items, value, .. } = listed(text)? else { return Some(text.to_owned()) };
    let is_out = |item: &Item| {
        let name = item.name.as_deref();
        name.is_some_and(|name| out.iter().any(|gone| gone.as_ref() == name))
    };
    let mut changed = text.to_owned();
    if items.iter().all(is_out) {
        // A field without items is nothing.
        let (from, to) = (items.first()?.lines.start, items.last()?.lines.end);
        changed.replace_range(from..to, "");
        changed.insert_str(value, " []");
        return Some(changed);
    }
    for item in items.iter().rev().filter(|item| is_out(item)) {
        changed.replace_range(item.lines.clone(), "");
    }
    Some(changed)
}

fn with(text: &str, into: &[HostDraft]) -> Option<String> {
    let ending = ending(text);
    let lines = |indent: &str| -> Option<String> {
        let line = |node: &HostDraft| {
            let addresses: Vec<String> =
                node.addresses.iter().map(|ip| scalar(&ip.to_string())).collect();
            let name = scalar(node.name.as_ref()?.as_ref());
            let ssh = node.ssh.as_ref().map(|to| format!(", ssh: {}", scalar(to.as_ref())));
            let (addresses, ssh) = (addresses.join(", "), ssh.unwrap_or_default());
            Some(format!("{indent}- {{name: {name}, addresses: [{addresses}]{ssh}}}{ending}"))
        };
        into.iter().map(line).collect()
    };
    let broken = |at: usize| match at == text.len() && !text.ends_with('\n') && !text.is_empty() {
        true => ending,
        false => "",
    };
    Some(match listed(text)? {
        Listed::Nowhere => {
            format!("{text}{}{FIELD}:{ending}{}", broken(text.len()), lines("")?)
        }
        Listed::Empty(line) => {
            let written = &text[line.clone()];
            // The value goes; a comment behind it stays.
            let (_, rest) = written.split_once(':')?;
            let value = rest.split('#').next().unwrap_or_default().trim();
            let field = match value.is_empty() {
                true => written.to_owned(),
                false => written.replacen(value, "", 1),
            };
            let field = field.trim_end();
            format!("{}{field}{ending}{}{}", &text[..line.start], lines("")?, &text[line.end..])
        }
        Listed::Items { items, indent, .. } => {
            let at = items.last()?.lines.end;
            let (before, after) = text.split_at(at);
            format!("{before}{}{}{after}", broken(at), lines(&indent)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, addresses: &[&str]) -> HostDraft {
        HostDraft {
            name: Some(name.parse().unwrap()),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            port: None,
            ssh: None,
        }
    }

    fn names(all: &[&str]) -> BTreeSet<HostName> {
        all.iter().map(|name| name.parse().unwrap()).collect()
    }

    const HEAD: &str = "apiVersion: certkit/v1\nkind: Cluster # ours\nname: prod\n\ncontrolPlane:\n- {name: cp1, addresses: [10.0.0.1]}\n";

    #[test]
    fn what_is_added_and_taken_out_again_leaves_every_octet() {
        for list in [
            "nodes:\n# the old ones\n- {name: a, addresses: [10.0.1.1]} # rack 1\n- name: b\n  addresses:\n  - 10.0.1.2\n\n# end\naddons: []\n",
            "nodes:\n  - {name: a, addresses: [10.0.1.1]}\nname2: x\n",
            "nodes:\n  -   name: a\n      addresses: [10.0.1.1]",
            // Empty lines and comments amidst a node, and a dash in a line of its own.
            "nodes:\n- name: a\n# its own\n\n  # and more\n  addresses: [10.0.1.1]\n  # beside\n\n# end\n",
            "nodes:\n  -\n    name: a\n    addresses: [10.0.1.1]\n  -\n    name: b\n    addresses: [10.0.1.2]\n",
            "'nodes':\n- {name: a, addresses: [10.0.1.1]}\n",
        ] {
            let text = format!("{HEAD}{}", list.replace("name2: x\n", "addons: [kube-proxy]\n"));
            let new = [host("w1", &["10.0.2.1", "fd00::1"]), host("w2", &["10.0.2.2"])];
            let with = with_nodes(&text, &names(&[]), &new).unwrap_or_else(|| panic!("{text}"));
            assert!(with.contains("- {name: w1, addresses: [10.0.2.1, "), "{with}");
            let without = with_nodes(&with, &names(&["w1", "w2"]), &[]).unwrap();
            assert_eq!(without.trim_end(), text.trim_end());
        }
    }

    #[test]
    fn lines_end_as_they_do_in_the_file() {
        for list in ["nodes:\n- {name: a, addresses: [10.0.1.1]}\n", "nodes: []\n", ""] {
            let text = format!("{HEAD}{list}").replace('\n', "\r\n");
            let with = with_nodes(&text, &names(&[]), &[host("w1", &["10.0.2.1"])]).unwrap();
            assert_eq!(with.matches('\n').count(), with.matches("\r\n").count(), "{with:?}");
            assert!(with.ends_with("- {name: w1, addresses: [10.0.2.1]}\r\n"), "{with:?}");
            let without = with_nodes(&with, &names(&["w1"]), &[]).unwrap();
            assert!(without.starts_with(&text), "{without:?}");
        }
    }

    #[test]
    fn one_of_several_goes_with_all_that_is_its_own() {
        let text = format!(
            "{HEAD}'nodes':\n- name: a\n# of a\n\n  addresses: [10.0.1.1]\n# of b\n- name: b\n  addresses: [10.0.1.2]\n"
        );
        let without = with_nodes(&text, &names(&["a"]), &[]).unwrap();
        assert_eq!(
            without,
            format!("{HEAD}'nodes':\n# of b\n- name: b\n  addresses: [10.0.1.2]\n")
        );
        let none = with_nodes(&text, &names(&["a", "b"]), &[]).unwrap();
        assert_eq!(none, format!("{HEAD}'nodes': []\n"));
    }

    #[test]
    fn a_list_begins_where_there_was_none() {
        for (list, wanted) in [
            ("", "nodes:\n- {name: w1, addresses: [10.0.2.1]}\n"),
            ("nodes: [] # none yet\n", "nodes:  # none yet\n- {name: w1, addresses: [10.0.2.1]}\n"),
            ("nodes:\n", "nodes:\n- {name: w1, addresses: [10.0.2.1]}\n"),
        ] {
            let text = format!("{HEAD}{list}");
            let with = with_nodes(&text, &names(&[]), &[host("w1", &["10.0.2.1"])]).unwrap();
            assert_eq!(with, format!("{HEAD}{wanted}"));
        }
    }

    #[test]
    fn the_last_one_leaves_an_empty_list() {
        let text =
            format!("{HEAD}nodes: # all\n- {{name: a, addresses: [10.0.1.1]}}\naddons: []\n");
        let without = with_nodes(&text, &names(&["a"]), &[]).unwrap();
        assert_eq!(without, format!("{HEAD}nodes: [] # all\naddons: []\n"));
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_left_alone() {
        let line = format!("{HEAD}nodes: [{{name: a, addresses: [10.0.1.1]}}]\n");
        assert_eq!(with_nodes(&line, &names(&["a"]), &[]), None);
        assert_eq!(with_nodes(&line, &names(&[]), &[host("b", &["10.0.1.2"])]), None);
        let json = r#"{"apiVersion": "certkit/v1", "kind": "Cluster", "name": "x"}"#;
        assert_eq!(with_nodes(json, &names(&[]), &[host("b", &["10.0.1.2"])]), None);
    }
}
