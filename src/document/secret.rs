//! Secrets as `kubectl get secret -o yaml|json` prints them: read item by item, however many there are.
//!
//! Never holds more than one item. Hands out what may hold certificates, and nothing else of a Secret.

mod json;
mod source;

use std::{
    io::{BufReader, Read},
    ops::ControlFlow,
};

use zeroize::Zeroizing;

use self::source::{Meter, Metered, skip_blanks};
use super::{
    DocumentError, Mistake, data,
    yaml::{self, Node, Place, Token},
};

/// What may hold certificates in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretItem {
    /// Where it begins; JSON does not say.
    pub place: Option<Place>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its type: `kubernetes.io/tls`.
    pub secret_type: Option<String>,
    /// The values that hold certificates in PEM, or whose key ends as those do.
    pub entries: Vec<SecretEntry>,
    /// Why it cannot be read as a Secret.
    pub fault: Option<String>,
}

/// A value of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretEntry {
    /// Its key: `tls.crt`.
    pub key: String,
    /// The value, or what is wrong with it.
    pub value: Result<Zeroizing<Vec<u8>>, String>,
}

impl std::fmt::Debug for SecretEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = self.value.as_ref().map(|value| value.len());
        f.debug_struct("SecretEntry").field("key", &self.key).field("octets", &length).finish()
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Secrets, the faulty ones among them.
    pub secrets: usize,
    /// Items and documents of other kinds, which were passed over.
    pub others: usize,
    /// Secrets that could not be read, wholly or in part.
    pub faulty: usize,
}

/// Reads Secrets from YAML (any number of documents) or JSON: Lists, SecretLists and single ones. Calls
/// `each` with every Secret in turn until it breaks off. What is wrong with one item is said in it; an
/// error is what keeps the rest from being read. `file` is what errors call the source.
pub fn secrets(
    reader: impl Read + 'static,
    file: &str,
    each: &mut dyn FnMut(SecretItem) -> ControlFlow<()>,
) -> Result<Summary, DocumentError> {
    let meter = Meter::default();
    let mut source = BufReader::with_capacity(64 << 10, reader);
    let first = skip_blanks(&mut source).map_err(DocumentError::Read)?;
    let source = Metered { source, meter: meter.clone() };
    let mut sink = Sink { each, summary: Summary::default(), meter: meter.clone() };
    let result = match first {
        None => return Err(DocumentError::Empty { file: file.to_owned() }),
        Some(b'{') => json::read(source, file, &mut sink),
        Some(_) => read_yaml(source, file, &mut sink),
    };
    match (meter.failure.take(), result) {
        (Some(error), _) => Err(DocumentError::Read(error)),
        (None, result) => result.map(|_| sink.summary),
    }
}

/// Whether a file that begins like this is worth [`secrets`]: generous, since keys are sorted and `kind`
/// may come after megabytes of data.
pub fn looks_like_secret(prefix: &[u8]) -> bool {
    let text = String::from_utf8_lossy(prefix);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('{') {
        let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let kind = |kind: &str| bare.contains(&format!("\"kind\":\"{kind}\""));
        let of_core = bare.contains("\"apiVersion\":\"v1\"");
        return kind("Secret")
            || kind("SecretList")
            || (of_core && bare.contains("\"items\":["))
            || (of_core && bare.contains("\"data\":{") && !bare.contains("\"kind\""));
    }
    let mut lines = text.lines().map(str::trim_end);
    let starts = |wanted: &str| text.lines().any(|line| line.trim_end() == wanted);
    lines.any(|line| {
        let line = line.trim_start_matches(['-', ' ']);
        matches!(line, "kind: Secret" | "kind: SecretList" | "kind: \"Secret\"")
    }) || (starts("apiVersion: v1") && starts("items:"))
        || (starts("apiVersion: v1")
            && (starts("data:") || starts("stringData:"))
            && !text.lines().any(|line| line.starts_with("kind:")))
}

/// Where items go.
struct Sink<'e> {
    each: &'e mut dyn FnMut(SecretItem) -> ControlFlow<()>,
    summary: Summary,
    meter: Meter,
}

impl Sink<'_> {
    /// Takes an item of a list or a document of its own, if it is a Secret.
    fn take(&mut self, node: Result<Node, Mistake>) -> ControlFlow<()> {
        self.meter.octets.set(0);
        let item = match node {
            Ok(node) => match kind_of(&node) {
                Kind::Secret => item(&node),
                Kind::Other => {
                    self.summary.others += 1;
                    return ControlFlow::Continue(());
                }
                Kind::None => faulty(&node, format!("is {}, not a Secret", node.kind())),
            },
            Err(Mistake { place, why, .. }) => {
                SecretItem { place, fault: Some(why), ..SecretItem::default() }
            }
        };
        self.summary.secrets += 1;
        let is_faulty = item.fault.is_some() || item.entries.iter().any(|e| e.value.is_err());
        self.summary.faulty += usize::from(is_faulty);
        (self.each)(item)
    }
}

enum Kind {
    Secret,
    Other,
    None,
}

/// Items of a SecretList do not say their kind.
fn kind_of(node: &Node) -> Kind {
    match (node.map(), node.get("kind").map(|kind| kind.text() == Some("Secret"))) {
        (None, _) => Kind::None,
        (Some(_), Some(true)) => Kind::Secret,
        (Some(_), Some(false)) => Kind::Other,
        (Some(_), None) => match node.get("metadata") {
            Some(_) => Kind::Secret,
            None => Kind::Other,
        },
    }
}

fn faulty(node: &Node, why: String) -> SecretItem {
    SecretItem { place: placed(node), fault: Some(why), ..SecretItem::default() }
}

fn placed(node: &Node) -> Option<Place> {
    Some(node.place).filter(|place| *place != Place::NOWHERE)
}

fn item(node: &Node) -> SecretItem {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let metadata = node.get("metadata");
    let mut item = SecretItem {
        place: placed(node),
        namespace: metadata.and_then(|metadata| text(metadata, "namespace")),
        name: metadata.and_then(|metadata| text(metadata, "name")),
        secret_type: text(node, "type"),
        ..SecretItem::default()
    };
    if item.name.is_none() {
        item.fault = Some("has no name".to_owned());
    }
    for (field, is_base64) in [("data", true), ("stringData", false)] {
        let Some(values) = node.get(field) else { continue };
        let Some(values) = values.map() else {
            item.fault = Some(format!("{field} is {}, not a mapping", values.kind()));
            continue;
        };
        for (key, value) in values {
            let key = key.text().unwrap_or_default().to_owned();
            let value = match (value.text(), is_base64) {
                (None, _) if value.is_null() => continue,
                (None, _) => Err(format!("is {}, not a text", value.kind())),
                (Some(text), true) => data::decode(text).ok_or("is not base64".to_owned()),
                (Some(text), false) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
            };
            let counts = match &value {
                Err(_) => true,
                Ok(octets) => is_certificate_key(&key) || holds_certificate(octets),
            };
            if counts {
                item.entries.push(SecretEntry { key, value });
            }
        }
    }
    item
}

fn is_certificate_key(key: &str) -> bool {
    [".crt", ".pem", "ca"].iter().any(|end| key.to_ascii_lowercase().ends_with(end))
}

fn holds_certificate(octets: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let mut starts = octets.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN);
    starts.any(|(at, _)| {
        let label = &octets[at + BEGIN.len()..];
        [&b"CERTIFICATE-----"[..], b"TRUSTED CERTIFICATE-----", b"X509 CERTIFICATE-----"]
            .iter()
            .any(|known| label.starts_with(known))
    })
}

fn read_yaml<R: Read + 'static>(
    source: Metered<R>,
    file: &str,
    sink: &mut Sink<'_>,
) -> Result<ControlFlow<()>, DocumentError> {
    let syntax = |cause: yaml::SyntaxError| DocumentError::Syntax {
        file: file.to_owned(),
        place: cause.place,
        cause,
    };
    let refused = |cause: yaml::SyntaxError| Mistake {
        place: Some(cause.place),
        field: String::new(),
        why: cause.why,
    };
    let invalid = |place, field: &str, why: &str| DocumentError::Invalid {
        file: file.to_owned(),
        mistakes: vec![Mistake {
            place: Some(place),
            field: field.to_owned(),
            why: why.to_owned(),
        }],
    };
    let mut events = yaml::stream(source);
    while let Some((token, place)) = events.token().map_err(syntax)? {
        match token {
            Token::Document | Token::End => continue,
            Token::Node(node) if node.is_null() => continue,
            Token::Map => {}
            Token::List | Token::Node(_) => {
                return Err(invalid(place, "", "is neither a Secret nor a List"));
            }
        }
        // A List is handed out as it is read; what else a document holds is kept to its end.
        let mut is_list = false;
        let mut fields = Vec::new();
        let mut fault = None;
        while let Some(key) = events.value().map_err(syntax)? {
            let key = key.map_err(syntax)?;
            if key.text() == Some("items") {
                match events.token().map_err(syntax)? {
                    Some((Token::List, _)) => {
                        is_list = true;
                        while let Some(item) = events.value().map_err(syntax)? {
                            if sink.take(item.map_err(refused)).is_break() {
                                return Ok(ControlFlow::Break(()));
                            }
                        }
                    }
                    Some((Token::Node(node), _)) if node.is_null() => is_list = true,
                    _ => return Err(invalid(key.place, "items", "is not a list")),
                }
                continue;
            }
            match events.value().map_err(syntax)? {
                Some(Ok(value)) => fields.push((key, value)),
                Some(Err(cause)) => fault = Some(refused(cause)),
                None => {}
            }
        }
        sink.meter.octets.set(0);
        if !is_list {
            let document = Node::at(place, yaml::Value::Map(fields));
            if sink.take(fault.map_or(Ok(document), Err)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests;
