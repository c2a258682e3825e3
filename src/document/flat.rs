//! Any YAML, flat: what stands at each path, for those who look settings up by their dotted names.

use super::yaml::{self, Node, SyntaxError};

/// One document.
#[derive(Clone, Debug, Default)]
pub struct Flat {
    /// Every scalar: its dotted path (a number is a list's index), its text and its line.
    pub values: Vec<(String, String, usize)>,
}

impl Flat {
    /// The text at a path.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.values.iter().find(|(p, ..)| p == path).map(|(_, text, _)| text.as_str())
    }

    /// The texts of a list, with their lines.
    pub fn list(&self, path: &str) -> Vec<(String, usize)> {
        let item = |p: &str| {
            let rest = p.strip_prefix(path).and_then(|r| r.strip_prefix('.'));
            rest.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        };
        let items = self.values.iter().filter(|(p, ..)| item(p));
        items.map(|(_, text, line)| (text.clone(), *line)).collect()
    }
}

/// The documents of a stream that are maps or lists; a list's paths begin with its items' numbers.
pub fn documents(text: &str) -> Result<Vec<Flat>, SyntaxError> {
    let mut found = Vec::new();
    for document in yaml::documents(text)? {
        if document.map().is_some() || document.list().is_some() {
            let mut flat = Flat::default();
            walk(&document, String::new(), &mut flat);
            found.push(flat);
        }
    }
    Ok(found)
}

fn walk(node: &Node, path: String, flat: &mut Flat) {
    let below = |name: &str| match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    };
    if let Some(text) = node.text() {
        flat.values.push((path, text.to_owned(), node.place.line));
    } else if let Some(items) = node.list() {
        for (index, item) in items.iter().enumerate() {
            walk(item, below(&index.to_string()), flat);
        }
    } else if let Some(entries) = node.map() {
        for (key, value) in entries {
            walk(value, below(key.text().unwrap_or_default()), flat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scalar_is_found_by_its_path_and_line() {
        let text =
            "kind: Pod\nspec:\n  containers:\n  - command:\n    - etcd\n    - --a=b\n---\nx: 1\n";
        let all = documents(text).unwrap();
        assert_eq!(all[0].get("kind"), Some("Pod"));
        assert_eq!(
            all[0].list("spec.containers.0.command"),
            [("etcd".to_owned(), 5), ("--a=b".to_owned(), 6)]
        );
        assert_eq!(all[1].get("x"), Some("1"));
    }
}
