//! Objects in JSON, item by item.

use std::{fmt, io::Read, ops::ControlFlow};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value as Json, error::Category};
use zeroize::Zeroizing;

use super::{DocumentError, Metered, Sink};
use crate::document::yaml::{Node, NodeValue, Position, Style, SyntaxError};

/// Reads documents of JSON, one after another.
pub(super) fn read<R: Read>(
    source: Metered<R>,
    file: &str,
    sink: &mut Sink<'_>,
) -> Result<ControlFlow<()>, DocumentError> {
    let mut reader = serde_json::Deserializer::from_reader(source);
    loop {
        let mut stopped = false;
        let root = Root { sink: &mut *sink, stopped: &mut stopped, whole: None };
        let result = root.deserialize(&mut reader);
        if stopped {
            return Ok(ControlFlow::Break(()));
        }
        if let Err(error) = result {
            let place = Position { line: error.line().max(1), column: error.column().max(1) };
            let why = match error.classify() {
                // The parser's own messages; those about a value of the wrong kind repeat the value.
                Category::Data => "this is not what a Secret or a List has here".to_owned(),
                _ => bare(&error.to_string()).to_owned(),
            };
            let cause = SyntaxError { place, why };
            return Err(DocumentError::Syntax { file: file.to_owned(), place, cause });
        }
        // What is no blank is the next document's and stays unread.
        if reader.end().is_ok() {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

/// The message without the place it ends with.
fn bare(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

/// A document: a List, whose items go to the sink as they are read, or one object.
struct Root<'s, 'e> {
    sink: &'s mut Sink<'e>,
    stopped: &'s mut bool,
    /// Of a list of one kind of objects, as the API answers: that kind and its version, which its items do not say.
    whole: Option<(String, Json)>,
}

impl Root<'_, '_> {
    fn take<E: Error>(&mut self, mut item: Json) -> Result<(), E> {
        if let (Json::Object(fields), Some((kind, version))) = (&mut item, &self.whole)
            && !fields.contains_key("kind")
        {
            fields.insert("kind".to_owned(), kind.as_str().into());
            fields.insert("apiVersion".to_owned(), version.clone());
        }
        if self.sink.take(Ok(node(item))).is_break() {
            *self.stopped = true;
            return Err(E::custom("stopped"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Root<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Root<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a List")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Json>()? {
            self.take(item)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut is_list = false;
        let mut fields = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                is_list = true;
                self.whole = kind_of_items(&fields);
                map.next_value_seed(Items(&mut self))?;
            } else {
                fields.insert(key, map.next_value::<Json>()?);
            }
        }
        match is_list {
            true => Ok(()),
            false => self.take(Json::Object(fields)),
        }
    }
}

/// What the items of `ConfigMapList` are; a `List` holds anything, and its items say what they are.
fn kind_of_items(fields: &serde_json::Map<String, Json>) -> Option<(String, Json)> {
    let kind = fields.get("kind")?.as_str()?.strip_suffix("List")?;
    let version = fields.get("apiVersion").filter(|version| version.is_string())?;
    (!kind.is_empty()).then(|| (kind.to_owned(), version.clone()))
}

struct Items<'r, 's, 'e>(&'r mut Root<'s, 'e>);

impl<'de> DeserializeSeed<'de> for Items<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Err(A::Error::custom("items is a mapping, not a list"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Json>()? {
            self.0.take(item)?;
        }
        Ok(())
    }
}

/// The same value as a tree of YAML's, which JSON is a part of.
fn node(json: Json) -> Node {
    let scalar = |text: String, style| NodeValue::Scalar { text: Zeroizing::new(text), style };
    Node::at(
        Position::NOWHERE,
        match json {
            Json::Null => scalar(String::new(), Style::Plain),
            Json::Bool(value) => scalar(value.to_string(), Style::Plain),
            Json::Number(value) => scalar(value.to_string(), Style::Plain),
            Json::String(text) => scalar(text, Style::Quoted),
            Json::Array(items) => NodeValue::List(items.into_iter().map(node).collect()),
            Json::Object(fields) => NodeValue::Map(
                fields
                    .into_iter()
                    .map(|(key, value)| (node(Json::String(key)), node(value)))
                    .collect(),
            ),
        },
    )
}
