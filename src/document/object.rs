//! Kubernetes' objects as `kubectl get -o yaml|json` prints them and people write them: read item by item,
//! however many there are. Any other document of JSON is read likewise.
//!
//! Never holds more than one item. Hands out what may hold certificates: the values of Secrets and ConfigMaps
//! by their keys, and of everything else each text that holds some, `caBundle` of webhooks, API services and
//! resource definitions among them. Nothing else of an object is handed out.

mod json;
mod source;
mod text;

use std::{
    io::{BufReader, Read},
    ops::ControlFlow,
};

use zeroize::Zeroizing;

use self::source::{Meter, Metered, skip_blanks};
pub use self::text::{CA_BUNDLE, MARKERS};
use super::{
    DocumentError, Mistake, data,
    yaml::{self, Node, Position, Token},
};
use crate::model::{
    timestamp::Timestamp,
    trust::{CHANGED, KEPT_BY, OWN},
};

/// What may hold certificates in an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Where it begins; JSON does not say.
    pub place: Option<Position>,
    /// Its kind; none for documents that are no objects.
    pub kind: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// What tells it from others that had its name before.
    pub uid: Option<String>,
    /// When its values changed last, or somewhat later; where that is not known, when it was made.
    pub changed: Option<Timestamp>,
    /// A Secret's type: `kubernetes.io/tls`.
    pub secret_type: Option<String>,
    /// The values that may hold certificates.
    pub entries: Vec<ObjectValue>,
    /// Why it cannot be read as what it is.
    pub fault: Option<String>,
}

/// A value of an object.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectValue {
    /// Its key, `tls.crt`, or where it stands: `webhooks[x.example.com].clientConfig.caBundle`.
    pub key: String,
    /// The value, or what is wrong with it.
    pub value: Result<Zeroizing<Vec<u8>>, String>,
}

impl std::fmt::Debug for ObjectValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = self.value.as_ref().map(|value| value.len());
        f.debug_struct("Entry").field("key", &self.key).field("octets", &length).finish()
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Secrets, the faulty ones among them.
    pub secrets: usize,
    /// Items and documents of other kinds.
    pub others: usize,
    /// Those that could not be read, wholly or in part.
    pub faulty: usize,
}

/// Reads objects from YAML (any number of documents) or JSON: Lists and single ones. Calls `each` with every
/// Secret in turn, and with what else may hold certificates, until it breaks off. What is wrong with one item is said in it; an
/// error is what keeps the rest from being read. `file` is what errors call the source.
pub fn objects(
    reader: impl Read + 'static,
    file: &str,
    each: &mut dyn FnMut(Item) -> ControlFlow<()>,
) -> Result<Extent, DocumentError> {
    let meter = Meter::default();
    let mut source = BufReader::with_capacity(64 << 10, reader);
    let first = skip_blanks(&mut source).map_err(DocumentError::Read)?;
    let source = Metered { source, meter: meter.clone() };
    let mut sink = Sink { each, summary: Extent::default(), meter: meter.clone() };
    let result = match first {
        None => return Err(DocumentError::Empty { file: file.to_owned() }),
        Some(b'{' | b'[') => json::read(source, file, &mut sink),
        Some(_) => read_yaml(source, file, &mut sink),
    };
    match (meter.failure.take(), result) {
        (Some(error), _) => Err(DocumentError::Read(error)),
        (None, result) => result.map(|_| sink.summary),
    }
}

/// Whether a file that begins like this is worth [`objects`] for its Secrets: generous, since keys are sorted
/// and `kind` may come after megabytes of data.
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

/// Whether a file that begins like this holds objects of any kind, or is JSON with certificates in it; `whole`
/// if this is all of it.
pub fn looks_like_objects(prefix: &[u8], whole: bool) -> bool {
    let has = |wanted: &str| prefix.windows(wanted.len()).any(|w| w == wanted.as_bytes());
    let holds = || text::MARKERS.iter().chain(&text::SIGNS).any(|sign| has(sign));
    match prefix.trim_ascii_start().first() {
        Some(b'{' | b'[') if has("\"apiVersion\"") => !whole || holds(),
        Some(b'{' | b'[') => text::MARKERS.iter().any(|marker| has(marker)),
        _ => {
            let mut lines = prefix.split(|b| *b == b'\n');
            let is_object = lines.any(|line| line.starts_with(b"apiVersion:"));
            is_object && (!whole || holds())
        }
    }
}

/// Where items go.
struct Sink<'e> {
    each: &'e mut dyn FnMut(Item) -> ControlFlow<()>,
    summary: Extent,
    meter: Meter,
}

impl Sink<'_> {
    /// Takes an item of a list or a document of its own.
    fn take(&mut self, node: Result<Node, Mistake>) -> ControlFlow<()> {
        self.meter.octets.set(0);
        let (item, is_secret) = match node {
            Ok(node) => match kind_of(&node) {
                Kind::Secret => (item(&node), true),
                Kind::Other => (text::item(&node), false),
                Kind::None => (faulty(&node, format!("is {}, not an object", node.kind())), true),
            },
            Err(Mistake { place, why, .. }) => {
                (Item { place, fault: Some(why), ..Item::default() }, true)
            }
        };
        match is_secret {
            true => self.summary.secrets += 1,
            false => self.summary.others += 1,
        }
        if !is_secret && item.entries.is_empty() && item.fault.is_none() {
            return ControlFlow::Continue(());
        }
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
        (Some(_), None) => {
            let has = |field: &str| node.get(field).is_some_and(|f| f.map().is_some());
            match has("metadata")
                && (has("data") || has("stringData") || node.get("spec").is_none())
            {
                true => Kind::Secret,
                false => Kind::Other,
            }
        }
    }
}

fn faulty(node: &Node, why: String) -> Item {
    Item { place: placed(node), fault: Some(why), ..Item::default() }
}

fn placed(node: &Node) -> Option<Position> {
    Some(node.place).filter(|place| *place != Position::NOWHERE)
}

fn item(node: &Node) -> Item {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let metadata = node.get("metadata");
    let mut item = Item {
        place: placed(node),
        kind: Some("Secret".to_owned()),
        namespace: metadata.and_then(|metadata| text(metadata, "namespace")),
        name: metadata.and_then(|metadata| text(metadata, "name")),
        uid: metadata.and_then(|metadata| text(metadata, "uid")),
        changed: metadata.and_then(changed),
        secret_type: text(node, "type"),
        ..Item::default()
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
                Ok(octets) => is_certificate_key(&key) || text::may_hold_certificates(octets),
            };
            if counts {
                item.entries.push(ObjectValue { key, value });
            }
        }
    }
    item
}

/// Of an object of certkit's what it says itself. Of others what the apiserver has put down of those who wrote values: it
/// does so whenever one of them changes anything that is his.
fn changed(metadata: &Node) -> Option<Timestamp> {
    let time = |node: &Node, key: &str| node.get(key)?.text()?.parse::<Timestamp>().ok();
    let labels = metadata.get("labels").and_then(|labels| labels.get(KEPT_BY));
    if labels.and_then(Node::text) == Some(OWN)
        && let Some(said) = metadata.get("annotations").and_then(|all| time(all, CHANGED))
    {
        return Some(said);
    }
    let managers = metadata.get("managedFields").and_then(Node::list).unwrap_or_default();
    let wrote = |manager: &&Node| {
        let fields = manager.get("fieldsV1");
        let has = |field: &str| fields.is_some_and(|fields| fields.get(field).is_some());
        has("f:data") || has("f:binaryData")
    };
    let written = managers.iter().filter(wrote).filter_map(|manager| time(manager, "time"));
    written.chain(time(metadata, "creationTimestamp")).max()
}

fn is_certificate_key(key: &str) -> bool {
    const ENDS: [&str; 11] = [
        ".cer",
        ".crt",
        ".jceks",
        ".jks",
        ".keystore",
        ".p12",
        ".p7b",
        ".pem",
        ".pfx",
        ".truststore",
        "ca",
    ];
    let key = key.to_ascii_lowercase();
    ENDS.iter().any(|end| key.ends_with(end))
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
        file: None,
        place: Some(cause.place),
        field: String::new(),
        why: cause.why,
    };
    let invalid = |place, field: &str, why: &str| DocumentError::Invalid {
        file: file.to_owned(),
        mistakes: vec![Mistake {
            file: None,
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
                return Err(invalid(place, "", "is neither an object nor a List"));
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
            let document = Node::at(place, yaml::NodeValue::Map(fields));
            if sink.take(fault.map_or(Ok(document), Err)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests;
