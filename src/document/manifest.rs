//! Static pods' manifests: which program one starts, and annotations put into it in place.

use std::ops::Range;

use super::yaml::{self, Node, NodeValue, Style, SyntaxError};

/// Why a manifest cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A flag is not among a container's words.
    #[error("--{flag} does not stand in `command` or `args` as a word of its own")]
    NoFlag {
        /// Without dashes.
        flag: String,
    },
    /// Not a pod.
    #[error("this is no pod's manifest: {0}")]
    NoPod(&'static str),
    /// Not UTF-8.
    #[error("the manifest is not UTF-8")]
    NotUtf8,
    /// Written so that nothing can be put into it without rewriting it.
    #[error(
        "line {line}: {field} is not written one entry a line, so it cannot be changed in place"
    )]
    Shape {
        /// Where.
        line: usize,
        /// Which field.
        field: &'static str,
    },
    /// Not YAML.
    #[error("the manifest cannot be parsed")]
    Syntax(#[source] SyntaxError),
    /// The changed text would not have read back as it should.
    #[error("changing the manifest in place would have changed something else")]
    Unfaithful,
}

/// The programs that a pod's containers start, by their base names, and the pod's own name first.
pub fn names(bytes: &[u8]) -> Result<Vec<String>, ManifestError> {
    let pod = pod(text(bytes)?)?;
    let mut names = Vec::new();
    names.extend(pod.get("metadata").and_then(|m| m.get("name")?.text()).map(str::to_owned));
    let containers = pod.get("spec").and_then(|spec| spec.get("containers")?.list());
    for container in containers.unwrap_or_default() {
        let command = container.get("command").and_then(|c| c.list()?.first()?.text());
        names.extend(command.and_then(|c| c.rsplit('/').next()).map(str::to_owned));
    }
    Ok(names)
}

/// Everything the pod's containers are started with, in order.
pub fn arguments(bytes: &[u8]) -> Result<Vec<String>, ManifestError> {
    let pod = pod(text(bytes)?)?;
    let containers = pod.get("spec").and_then(|spec| spec.get("containers")?.list());
    let mut arguments = Vec::new();
    for container in containers.unwrap_or_default() {
        for list in ["command", "args"] {
            let items = container.get(list).and_then(Node::list).unwrap_or_default();
            arguments.extend(items.iter().filter_map(Node::text).map(str::to_owned));
        }
    }
    Ok(arguments)
}

/// The manifest with these annotations, every other octet as it was. An annotation that is there gets the
/// new value; others are put first.
pub fn annotate(bytes: &[u8], annotations: &[(String, String)]) -> Result<Vec<u8>, ManifestError> {
    let mut source = text(bytes)?.to_owned();
    for (name, value) in annotations {
        source = annotated(&source, name, value)?;
    }
    let (before, after) = (pod(text(bytes)?)?, pod(&source)?);
    let has_all = annotations.iter().all(|(name, value)| {
        let found = after.get("metadata").and_then(|m| m.get("annotations")?.get(name)?.text());
        found == Some(value.as_str())
    });
    let names: Vec<&str> = annotations.iter().map(|(name, _)| name.as_str()).collect();
    match has_all && same(&before, &after, &names) {
        true => Ok(source.into_bytes()),
        false => Err(ManifestError::Unfaithful),
    }
}

/// A flag that is to name another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retarget {
    /// The flag without dashes.
    pub flag: String,
    /// What it names.
    pub from: String,
    /// What it is to name.
    pub to: String,
}

/// The manifest with these flags naming what they are to, every other octet as it was. Each must be there, as one word
/// with `=` or as two.
pub fn retarget(bytes: &[u8], changes: &[Retarget]) -> Result<Vec<u8>, ManifestError> {
    let source = text(bytes)?;
    let before = pod(source)?;
    let containers = before.get("spec").and_then(|spec| spec.get("containers")?.list());
    let lists = containers.unwrap_or_default().iter();
    let lists: Vec<&[Node]> = lists
        .flat_map(|container| ["command", "args"].map(|list| container.get(list)))
        .filter_map(|list| list.and_then(Node::list))
        .collect();
    let mut replaced: Vec<(Range<usize>, String)> = Vec::new();
    for change in changes {
        let count = replaced.len();
        for list in &lists {
            for (number, word) in list.iter().enumerate() {
                let Some(said) = word.text().and_then(flag) else { continue };
                let (node, new) = match said.split_once('=') {
                    Some((name, value)) if is_flag(name, change) && value == change.from => {
                        let whole = word.text().unwrap_or_default();
                        let stem = &whole[..whole.len() - value.len()];
                        (word, format!("{stem}{}", change.to))
                    }
                    None if is_flag(said, change) => match list.get(number + 1) {
                        Some(next) if next.text() == Some(&change.from) => {
                            (next, change.to.clone())
                        }
                        _ => continue,
                    },
                    _ => continue,
                };
                replaced.push((place_of(node)?, new));
            }
        }
        if replaced.len() == count {
            return Err(ManifestError::NoFlag { flag: change.flag.clone() });
        }
    }
    replaced.sort_by_key(|(span, _)| span.start);
    let mut changed = source.to_owned();
    for (span, new) in replaced.iter().rev() {
        // What is quoted stays so.
        let quote = source[span.clone()].chars().next().filter(|c| "'\"".contains(*c));
        let quote = quote.map(String::from).unwrap_or_default();
        changed.replace_range(span.clone(), &format!("{quote}{new}{quote}"));
    }
    match is_retargeted(&before, &pod(&changed)?, &replaced) {
        true => Ok(changed.into_bytes()),
        false => Err(ManifestError::Unfaithful),
    }
}

/// Where the pod's containers have something mounted.
pub fn mounts(bytes: &[u8]) -> Result<Vec<String>, ManifestError> {
    let pod = pod(text(bytes)?)?;
    let containers = pod.get("spec").and_then(|spec| spec.get("containers")?.list());
    let mut mounts = Vec::new();
    for container in containers.unwrap_or_default() {
        let all = container.get("volumeMounts").and_then(Node::list).unwrap_or_default();
        let path = |mount: &Node| mount.get("mountPath").and_then(Node::text).map(str::to_owned);
        mounts.extend(all.iter().filter_map(path));
    }
    Ok(mounts)
}

/// A word that is a flag, without its dashes.
fn flag(word: &str) -> Option<&str> {
    word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|rest| !rest.is_empty())
}

/// Kubernetes' programs take underscores for dashes.
fn is_flag(name: &str, change: &Retarget) -> bool {
    name.replace('_', "-") == change.flag
}

/// The octets of a word that can be replaced.
fn place_of(node: &Node) -> Result<Range<usize>, ManifestError> {
    let is_simple =
        matches!(&*node.value, NodeValue::Scalar { style: Style::Plain | Style::Quoted, .. });
    let shape = ManifestError::Shape { line: node.place.line, field: "command" };
    match &node.span {
        Some(span) if is_simple && !node.shared => Ok(span.clone()),
        _ => Err(shape),
    }
}

/// Whether two trees are the same but for what was replaced.
fn is_retargeted(old: &Node, new: &Node, replaced: &[(Range<usize>, String)]) -> bool {
    match (&*old.value, &*new.value) {
        (NodeValue::Scalar { text: a, .. }, NodeValue::Scalar { text: b, .. }) => {
            let of = replaced.iter().find(|(span, _)| old.span.as_ref() == Some(span));
            of.map_or(a.as_str(), |(_, new)| new.as_str()) == b.as_str()
        }
        (NodeValue::List(a), NodeValue::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_retargeted(a, b, replaced))
        }
        (NodeValue::Map(a), NodeValue::Map(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|((ak, av), (bk, bv))| {
                    is_retargeted(ak, bk, replaced) && is_retargeted(av, bv, replaced)
                })
        }
        _ => false,
    }
}

fn text(bytes: &[u8]) -> Result<&str, ManifestError> {
    std::str::from_utf8(bytes).map_err(|_| ManifestError::NotUtf8)
}

fn pod(source: &str) -> Result<Node, ManifestError> {
    let mut documents = yaml::documents(source).map_err(ManifestError::Syntax)?;
    documents.retain(|document| !document.is_null());
    if documents.len() != 1 {
        return Err(ManifestError::NoPod("it does not hold exactly one document"));
    }
    let document = documents.remove(0);
    match document.get("kind").and_then(Node::text) {
        Some("Pod") => Ok(document),
        _ => Err(ManifestError::NoPod("its kind is not Pod")),
    }
}

fn annotated(source: &str, name: &str, value: &str) -> Result<String, ManifestError> {
    let pod = pod(source)?;
    let metadata = pod.get("metadata").ok_or(ManifestError::NoPod("it has no metadata"))?;
    let entries = metadata.map().unwrap_or_default();
    let written = |key: &Node| key.text() == Some("annotations");
    let Some((_, annotations)) = entries.iter().find(|(key, _)| written(key)) else {
        let (start, indent, end) = line(source, entries.first(), "metadata", metadata)?;
        let lines = format!("{indent}annotations:{end}{indent}  {name}: \"{value}\"{end}");
        return Ok(spliced(source, start..start, &lines));
    };
    match annotations.get(name) {
        Some(Node { value: old, span: Some(span), .. })
            if matches!(&**old, NodeValue::Scalar { style: Style::Plain | Style::Quoted, .. }) =>
        {
            Ok(spliced(source, span.clone(), &format!("\"{value}\"")))
        }
        Some(old) => Err(ManifestError::Shape { line: old.place.line, field: "annotations" }),
        None => {
            let first = annotations.map().and_then(<[_]>::first);
            let (start, indent, end) = line(source, first, "annotations", annotations)?;
            let line = format!("{indent}{name}: \"{value}\"{end}");
            Ok(spliced(source, start..start, &line))
        }
    }
}

/// Where the line of a mapping's first key begins, how it is indented, and how lines end.
fn line<'s>(
    source: &'s str,
    first: Option<&(Node, Node)>,
    field: &'static str,
    mapping: &Node,
) -> Result<(usize, &'s str, &'static str), ManifestError> {
    let shape = ManifestError::Shape { line: mapping.place.line, field };
    let Some(key) = first.and_then(|(key, _)| key.span.clone()) else { return Err(shape) };
    let start = source[..key.start].rfind('\n').map_or(0, |end| end + 1);
    let indent = &source[start..key.start];
    // Flow mappings, JSON, and a first key on the line of what it belongs to.
    if mapping.shared || !indent.bytes().all(|b| b == b' ') {
        return Err(shape);
    }
    let end = match source[key.start..].lines().next().map(str::len) {
        Some(length) if source[key.start + length..].starts_with("\r\n") => "\r\n",
        _ => "\n",
    };
    Ok((start, indent, end))
}

fn spliced(source: &str, range: std::ops::Range<usize>, text: &str) -> String {
    format!("{}{text}{}", &source[..range.start], &source[range.end..])
}

/// Whether two trees are the same but for these annotations, wherever such keys stand.
fn same(a: &Node, b: &Node, except: &[&str]) -> bool {
    match (&*a.value, &*b.value) {
        (NodeValue::Scalar { text: a, .. }, NodeValue::Scalar { text: b, .. }) => a == b,
        (NodeValue::List(a), NodeValue::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, except))
        }
        (NodeValue::Map(a), NodeValue::Map(b)) => {
            let rest = |entries: &[(Node, Node)]| {
                let kept = entries.iter().filter(|(key, value)| {
                    let only_ours = key.text() == Some("annotations")
                        && value.map().is_some_and(|all| {
                            all.iter().all(|(k, _)| k.text().is_some_and(|k| except.contains(&k)))
                        });
                    !only_ours && key.text().is_none_or(|key| !except.contains(&key))
                });
                kept.cloned().collect::<Vec<_>>()
            };
            let (a, b) = (rest(a), rest(b));
            a.len() == b.len()
                && a.iter()
                    .zip(&b)
                    .all(|((ak, av), (bk, bv))| same(ak, bk, except) && same(av, bv, except))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "# made by hand\napiVersion: v1\nkind: Pod\nmetadata:\n  labels: {a: b}\n  \
                       name: x # the name\nspec:\n  containers:\n  - command: [/usr/bin/etcd, -v]\n";

    fn put(source: &str, name: &str, value: &str) -> Result<String, ManifestError> {
        annotate(source.as_bytes(), &[(name.into(), value.into())])
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn annotations_are_added_and_replaced_and_nothing_else_changes() {
        let once = put(POD, "certkit.io/fingerprint-a", "1e5").unwrap();
        let added = "  annotations:\n    certkit.io/fingerprint-a: \"1e5\"\n";
        assert_eq!(once, POD.replace("metadata:\n", &format!("metadata:\n{added}")));
        let twice = put(&once, "certkit.io/fingerprint-a", "07").unwrap();
        assert_eq!(twice, once.replace("1e5", "07"));
        let both = put(&once, "certkit.io/fingerprint-b", "9").unwrap();
        let line = "    certkit.io/fingerprint-b: \"9\"\n";
        assert_eq!(both, once.replace("  annotations:\n", &format!("  annotations:\n{line}")));
    }

    #[test]
    fn line_ends_stay_what_they_are() {
        let windows = POD.replace('\n', "\r\n");
        let changed = put(&windows, "a", "b").unwrap();
        assert_eq!(changed.matches('\n').count(), changed.matches("\r\n").count());
    }

    fn to(flag: &str) -> Retarget {
        let (from, to) = ("/pki/ca.crt".to_owned(), "/pki/ca-bundle.crt".to_owned());
        Retarget { flag: flag.to_owned(), from, to }
    }

    #[test]
    fn flags_name_another_file_and_nothing_else_changes() {
        let source = "# by hand\nkind: Pod\nspec:\n  containers:\n  - name: a # x\n    command:\n    - api\n    \
                      - --client-ca-file=/pki/ca.crt # who\n    - \"--root_ca_file=/pki/ca.crt\"\n    - \
                      --signing=/pki/ca.crt\n    args: ['-trusted-ca-file', '/pki/ca.crt']\n";
        let all = ["client-ca-file", "root-ca-file", "trusted-ca-file"].map(to);
        let changed = retarget(source.as_bytes(), &all).unwrap();
        let expected = source.replace("/pki/ca.crt", "/pki/ca-bundle.crt");
        let expected = expected.replace("signing=/pki/ca-bundle.crt", "signing=/pki/ca.crt");
        assert_eq!(String::from_utf8(changed).unwrap(), expected);
        let missing = retarget(source.as_bytes(), &[to("etcd-cafile")]);
        assert!(matches!(missing, Err(ManifestError::NoFlag { .. })), "{missing:?}");
        let shared = source.replace("- --client", "- &a --client");
        let refused = retarget(shared.as_bytes(), &all);
        assert!(matches!(refused, Err(ManifestError::Shape { .. })), "{refused:?}");
    }

    #[test]
    fn programs_are_found_by_pod_and_command() {
        assert_eq!(names(POD.as_bytes()).unwrap(), ["x", "etcd"]);
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_refused() {
        let json = r#"{"kind": "Pod", "metadata": {"name": "x"}}"#;
        assert!(matches!(put(json, "a", "b"), Err(ManifestError::Shape { .. })));
        let flow = POD.replace("  name", "  annotations: {c: d}\n  name");
        assert!(matches!(put(&flow, "a", "b"), Err(ManifestError::Shape { .. })));
        let empty = POD.replace("  name", "  annotations: {}\n  name");
        assert!(matches!(put(&empty, "a", "b"), Err(ManifestError::Shape { .. })));
        assert!(matches!(put("kind: List\n", "a", "b"), Err(ManifestError::NoPod(_))));
        assert!(matches!(put("a: [", "a", "b"), Err(ManifestError::Syntax(_))));
    }
}
