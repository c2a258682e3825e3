//! Changes of a kubeconfig that keep every other octet.

use std::ops::Range;

use zeroize::Zeroizing;

use super::{KubeconfigError, data, entries, kind, root, string, text};
use crate::{
    document::yaml::{Node, NodeValue, Style},
    model::shown::quoted,
};

/// What to change in a kubeconfig.
#[derive(Clone, Default)]
pub struct Edit {
    /// The user whose credential changes; `None` is the one in use.
    pub user: Option<String>,
    /// The new certificate, as PEM.
    pub client_certificate_data: Option<Vec<u8>>,
    /// The new key, as PEM.
    pub client_key_data: Option<Zeroizing<Vec<u8>>>,
    /// A cluster (`None` is the one in use) and the CA certificates it is to be verified by, as PEM.
    pub certificate_authority_data: Option<(Option<String>, Vec<u8>)>,
    /// The URL that the cluster in use is reached by.
    pub server: Option<String>,
}

/// One scalar's octets and the text that replaces them.
struct Replacement {
    span: Range<usize>,
    text: Zeroizing<String>,
    value: Zeroizing<String>,
}

/// The kubeconfig with these changes, every other octet as it was: other users, contexts, extensions,
/// unknown fields, order, comments, line ends and quoting.
///
/// The fields must be there: a user that names files is not turned into one that embeds. The result is
/// parsed again and compared with the original before it is returned.
pub fn edit(bytes: &[u8], edit: &Edit) -> Result<Zeroizing<Vec<u8>>, KubeconfigError> {
    let (mark, source) = text(bytes)?;
    let document = root(source)?;
    let mut replacements = replacements(source, &document, edit)?;
    replacements.sort_by_key(|replacement| replacement.span.start);
    let mut changed = Zeroizing::new(Vec::with_capacity(
        bytes.len() + replacements.iter().map(|r| r.text.len()).sum::<usize>(),
    ));
    changed.extend_from_slice(&bytes[..mark]);
    let mut at = 0;
    for replacement in &replacements {
        if replacement.span.start < at {
            return Err(KubeconfigError::Unfaithful);
        }
        changed.extend_from_slice(&source.as_bytes()[at..replacement.span.start]);
        changed.extend_from_slice(replacement.text.as_bytes());
        at = replacement.span.end;
    }
    changed.extend_from_slice(&source.as_bytes()[at..]);
    let (_, again) = text(&changed)?;
    let again = root(again).map_err(|_| KubeconfigError::Unfaithful)?;
    match is_faithful(&document, &again, &replacements) {
        true => Ok(changed),
        false => Err(KubeconfigError::Unfaithful),
    }
}

fn replacements(
    source: &str,
    document: &Node,
    edit: &Edit,
) -> Result<Vec<Replacement>, KubeconfigError> {
    let mut replacements = Vec::new();
    if edit.client_certificate_data.is_some() || edit.client_key_data.is_some() {
        let name = match &edit.user {
            Some(name) => name.clone(),
            None => in_use(document, "user")?,
        };
        let user = entry(document, "users", "user", &name)?;
        let of = format!("user {}", quoted(&name));
        let key = edit.client_key_data.as_ref().map(|key| key.as_slice());
        for (field, pem) in [
            ("client-certificate-data", edit.client_certificate_data.as_deref()),
            ("client-key-data", key),
        ] {
            if let Some(pem) = pem {
                replacements.push(replacement(source, &user, field, &of, data::encode(pem))?);
            }
        }
    }
    if let Some((name, pem)) = &edit.certificate_authority_data {
        let name = match name {
            Some(name) => name.clone(),
            None => in_use(document, "cluster")?,
        };
        let cluster = entry(document, "clusters", "cluster", &name)?;
        let of = format!("cluster {}", quoted(&name));
        let field = "certificate-authority-data";
        replacements.push(replacement(source, &cluster, field, &of, data::encode(pem))?);
    }
    if let Some(server) = &edit.server {
        let name = in_use(document, "cluster")?;
        let cluster = entry(document, "clusters", "cluster", &name)?;
        let of = format!("cluster `{name}`");
        let server = Zeroizing::new(server.clone());
        replacements.push(replacement(source, &cluster, "server", &of, server)?);
    }
    Ok(replacements)
}

/// The name of the user or cluster in use.
fn in_use(document: &Node, field: &str) -> Result<String, KubeconfigError> {
    let missing = |field: String| KubeconfigError::Missing { field };
    let name = string(document, "current-context")?
        .ok_or_else(|| missing("current-context".to_owned()))?;
    let context = entry(document, "contexts", "context", &name)?;
    string(&context, field)?.ok_or_else(|| missing(format!("{field} in context {}", quoted(&name))))
}

fn entry(document: &Node, list: &str, inner: &str, name: &str) -> Result<Node, KubeconfigError> {
    let found = entries(document, list, inner)?.into_iter().find(|(other, _)| other == name);
    found
        .map(|(_, node)| node)
        .ok_or_else(|| KubeconfigError::Missing { field: format!("{inner} {}", quoted(name)) })
}

fn replacement(
    source: &str,
    entry: &Node,
    field: &str,
    of: &str,
    value: Zeroizing<String>,
) -> Result<Replacement, KubeconfigError> {
    let name = format!("{field} of {of}");
    let Some(node) = entry.get(field) else {
        return Err(KubeconfigError::Missing { field: name });
    };
    let NodeValue::Scalar { style, .. } = &*node.value else {
        return Err(kind(node, &name, "a text"));
    };
    let shape = |why| KubeconfigError::Shape { place: node.place, field: name.clone(), why };
    if entry.shared || node.shared {
        return Err(shape("it has an anchor or is an alias"));
    }
    let span = node.span.clone().ok_or_else(|| shape("its place is not known"))?;
    let written = source.get(span.clone()).unwrap_or_default();
    let text = match style {
        Style::Plain => value.clone(),
        Style::Quoted => {
            let quote = written.chars().next().filter(|c| "'\"".contains(*c));
            let quote = quote.ok_or_else(|| shape("it has a tag"))?;
            Zeroizing::new(format!("{quote}{}{quote}", value.as_str()))
        }
        // The header stays as it is; what stands below it becomes one line.
        Style::Block => {
            let ends = &written[written.trim_end_matches([' ', '\r', '\n']).len()..];
            Zeroizing::new(format!("{}{ends}", value.as_str()))
        }
    };
    Ok(Replacement { span, text, value })
}

/// Whether the two differ in the replaced values and nothing else.
fn is_faithful(old: &Node, new: &Node, replacements: &[Replacement]) -> bool {
    let (mut olds, mut news) = (Vec::new(), Vec::new());
    flatten(old, &mut olds);
    flatten(new, &mut news);
    let mut done = 0;
    olds.len() == news.len()
        && olds.iter().zip(&news).all(|(old, new)| match (old, new) {
            (Flat::Open(kind, old), Flat::Open(other, new)) => kind == other && old == new,
            (Flat::Scalar(old), Flat::Scalar(new)) => {
                let replaced = replacements.iter().find(|r| old.span.as_ref() == Some(&r.span));
                done += usize::from(replaced.is_some());
                match replaced {
                    // A block's value ends with its line break.
                    Some(r) => new.text().map(str::trim_end) == Some(r.value.as_str()),
                    None => new.text() == old.text(),
                }
            }
            _ => false,
        })
        && done == replacements.len()
}

/// A tree in one row.
enum Flat<'n> {
    /// A list or mapping of so many.
    Open(char, usize),
    Scalar(&'n Node),
}

fn flatten<'n>(node: &'n Node, into: &mut Vec<Flat<'n>>) {
    match &*node.value {
        NodeValue::Scalar { .. } => into.push(Flat::Scalar(node)),
        NodeValue::List(items) => {
            into.push(Flat::Open('-', items.len()));
            items.iter().for_each(|item| flatten(item, into));
        }
        NodeValue::Map(entries) => {
            into.push(Flat::Open(':', entries.len()));
            for (key, value) in entries {
                flatten(key, into);
                flatten(value, into);
            }
        }
    }
}
