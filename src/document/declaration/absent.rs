//! What a cluster is said to do without, changed in the text of `certkit.yaml`: every other octet stays.

use std::{collections::BTreeSet, ops::Range};

use crate::document::{
    self, Draft,
    yaml::{self, Node, scalar},
};

/// The field.
const FIELD: &str = "absent";

/// The text of a `certkit.yaml` with these ids out of `absent` and those in it. Nothing where it cannot be changed so
/// that all else of it stays as it is.
pub fn with_absent(text: &str, out: &BTreeSet<String>, into: &BTreeSet<String>) -> Option<String> {
    let mut changed = text.to_owned();
    for id in out {
        changed = without(&changed, id)?;
    }
    for id in into {
        changed = with(&changed, id)?;
    }
    let read = |text: &str| document::read(text.as_bytes(), "").ok();
    let mut expected = Draft { places: Default::default(), ..read(text)? };
    expected.absent.retain(|id| !out.contains(id));
    expected.absent.extend(into.iter().cloned());
    let found = Draft { places: Default::default(), ..read(&changed)? };
    (found == expected).then_some(changed)
}

/// An item of the field, and its octets.
type Item = (String, Range<usize>);

/// The items of the field; nothing where there is no such field.
fn items(text: &str) -> Option<Option<Vec<Item>>> {
    let document = yaml::documents(text).ok()?.into_iter().find(|node| !node.is_null())?;
    let Some(list) = document.get(FIELD) else { return Some(None) };
    let item = |node: &Node| Some((node.text()?.to_owned(), node.span.clone()?));
    list.list()?.iter().map(item).collect::<Option<Vec<_>>>().map(Some)
}

/// The whole line of an item that has one to itself, as lists in block style have it.
fn line_of(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at + 1);
    (text[start..span.start].trim() == "-").then_some(start..end)
}

fn without(text: &str, id: &str) -> Option<String> {
    let Some(all) = items(text)? else { return Some(text.to_owned()) };
    let Some(at) = all.iter().position(|(item, _)| item == id) else {
        return Some(text.to_owned());
    };
    let span = &all[at].1;
    let gone = match (line_of(text, span), all.get(at + 1), at.checked_sub(1)) {
        (Some(line), ..) => line,
        (None, Some((_, next)), _) => span.start..next.start,
        (None, None, Some(before)) => all[before].1.end..span.end,
        (None, None, None) => span.clone(),
    };
    Some(format!("{}{}", &text[..gone.start], &text[gone.end..]))
}

fn with(text: &str, id: &str) -> Option<String> {
    let new = scalar(id);
    let Some(all) = items(text)? else {
        let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        return Some(format!("{text}{end}{FIELD}: [{new}]\n"));
    };
    if all.iter().any(|(item, _)| item == id) {
        return Some(text.to_owned());
    }
    // In its place among what is sorted.
    let next = all.iter().find(|(item, _)| item.as_str() > id);
    let (at, piece) = match (next, all.last()) {
        (Some((_, span)), _) => match line_of(text, span) {
            Some(line) => (line.start, format!("{}{new}\n", &text[line.start..span.start])),
            None => (span.start, format!("{new}, ")),
        },
        (None, Some((_, span))) => match line_of(text, span) {
            Some(line) => (line.end, format!("{}{new}\n", &text[line.start..span.start])),
            None => (span.end, format!(", {new}")),
        },
        // `[]`: between its brackets.
        (None, None) => {
            let field = text.find(&format!("{FIELD}:"))?;
            (field + text[field..].find('[')? + 1, new.to_string())
        }
    };
    Some(format!("{}{piece}{}", &text[..at], &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|id| (*id).to_owned()).collect()
    }

    const HEAD: &str = "apiVersion: certkit/v1\nkind: Cluster # ours\nname: prod\n\n# by kubeadm\n";

    #[test]
    fn what_goes_out_and_comes_back_leaves_every_octet() {
        for list in [
            "absent: [ca-bundle, controller-manager, etcd-ca-bundle] # three\nname2: x\n",
            "absent:\n# first\n- ca-bundle # one\n- controller-manager\n\n- etcd-ca-bundle\nnodes: []\n",
            "absent: [ca-bundle]\n",
            "absent: [ca-bundle, etcd-ca-bundle]",
        ] {
            let text = format!("{HEAD}{}", list.replace("name2: x\n", "nodes: []\n"));
            let gone = ids(&["ca-bundle", "etcd-ca-bundle"]);
            let Some(without) = with_absent(&text, &gone, &ids(&[])) else { panic!("{text}") };
            assert!(!without.contains("-bundle"), "{without}");
            assert!(without.starts_with(HEAD), "{without}");
            let back = with_absent(&without, &ids(&[]), &gone);
            let back = back.unwrap_or_else(|| panic!("{without}"));
            let read = |text: &str| document::read(text.as_bytes(), "").unwrap().absent;
            let all: BTreeSet<String> = read(&text).union(&gone).cloned().collect();
            assert_eq!(read(&back), all);
            // A list of which nothing is left does not say how it was written.
            if text.contains("controller-manager") && !text.contains("# one") {
                assert_eq!(back, text);
            }
        }
    }

    #[test]
    fn a_field_that_is_not_there_is_added() {
        let with = with_absent(HEAD, &ids(&[]), &ids(&["ca-bundle"])).unwrap();
        assert_eq!(with, format!("{HEAD}absent: [ca-bundle]\n"));
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_left_alone() {
        let json = r#"{"apiVersion": "certkit/v1", "kind": "Cluster", "name": "x"}"#;
        assert_eq!(with_absent(json, &ids(&[]), &ids(&["ca-bundle"])), None);
        let aliased = format!("{HEAD}absent: &a [ca-bundle]\naddons: *a\n");
        assert_eq!(with_absent(&aliased, &ids(&["ca-bundle"]), &ids(&[])), None);
    }
}
