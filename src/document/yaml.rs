//! YAML as a tree whose every value knows its place, and the one spelling certkit writes.
//!
//! The only module that names the YAML crate. Values are taken as the text that is written: `yes` stays
//! `yes`, and what a field means is its reader's business. Refused, because each has been read in two
//! ways by two programs: duplicate keys, merge keys (`<<`), keys that are lists or mappings.

use std::{collections::HashMap, fmt, ops::Range, rc::Rc};

use serde::Serialize;
pub(super) use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::granit_parser::{
    BorrowedInput, Event, FallibleBufferedInput, Options, Parser, ScalarStyle, Span, StrInput,
};
use zeroize::Zeroizing;

/// How many values one document may hold, what aliases repeat counted each time.
const VALUES: usize = 1_000_000;

/// How deep values may lie in one another.
const DEPTH: usize = 64;

/// Where a value stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A text that is not the YAML certkit reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {why}", .place.line, .place.column)]
pub struct SyntaxError {
    /// Where reading stopped.
    pub place: Place,
    /// What is wrong there.
    pub why: String,
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node {
    /// Where it begins.
    pub place: Place,
    /// Its octets in the source; for what was read from a stream, nothing.
    pub span: Option<Range<usize>>,
    /// Whether it stands elsewhere too, by an anchor or an alias.
    pub shared: bool,
    pub value: Rc<Value>,
}

/// What a [`Node`] holds.
pub(super) enum Value {
    Scalar { text: Zeroizing<String>, style: Style },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// How a scalar is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Quoted,
    Block,
}

impl Node {
    /// A value that stands nowhere, as one read from JSON.
    pub fn placeless(value: Value) -> Self {
        let place = Place { line: 1, column: 1 };
        Self { place, span: None, shared: false, value: Rc::new(value) }
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &*self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&*self.value, Value::Scalar { text, style: Style::Plain }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub fn list(&self) -> Option<&[Node]> {
        match &*self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn map(&self) -> Option<&[(Node, Node)]> {
        match &*self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under this key, unless it is null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let (_, value) = self.map()?.iter().find(|(k, _)| k.text() == Some(key))?;
        (!value.is_null()).then_some(value)
    }

    /// What kind of value it is, in words.
    pub fn kind(&self) -> &'static str {
        match &*self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// The documents of a stream.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let mut events = Events::new(StrInput::new(text));
    let mut documents = Vec::new();
    while let Some((event, span)) = events.next()? {
        if let Event::DocumentStart(..) = event {
            let (first, span) = events.expect(&span)?;
            documents.push(events.node(first, span)?);
        }
    }
    Ok(documents)
}

/// The characters of a stream, for [`Events::stream`].
pub(super) trait Characters: Iterator<Item = Result<char, ErrorKind>> {}
impl<I: Iterator<Item = Result<char, ErrorKind>>> Characters for I {}

/// A parser and the anchors met so far.
pub(super) struct Events<'i, I: BorrowedInput<'i>> {
    parser: Parser<'i, I>,
    anchors: HashMap<usize, (Node, usize)>,
    values: usize,
}

/// One thing of a stream too large for a tree.
pub(super) enum Token {
    /// A document begins.
    Document,
    /// A list begins.
    List,
    /// A mapping begins.
    Map,
    /// A list or mapping ends.
    End,
    /// A scalar, or an alias of one; aliases of anything larger are an error.
    Scalar(Node),
}

impl<C: Characters> Events<'static, FallibleBufferedInput<C>> {
    /// Events of a stream of characters.
    pub fn stream(characters: C) -> Self {
        Self::new(FallibleBufferedInput::new(characters))
    }
}

impl<'i, I: BorrowedInput<'i>> Events<'i, I> {
    fn new(input: I) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.flow_nesting_limit = DEPTH;
        options.block_nesting_limit = DEPTH;
        Self { parser: Parser::with_options(input, options), anchors: HashMap::new(), values: 0 }
    }

    /// The next token, `None` at the end of the stream.
    pub fn token(&mut self) -> Result<Option<(Token, Place)>, SyntaxError> {
        while let Some((event, span)) = self.next()? {
            let at = place(&span);
            let token = match event {
                Event::DocumentStart(..) => {
                    self.forget();
                    Token::Document
                }
                Event::SequenceStart(..) => Token::List,
                Event::MappingStart(..) => Token::Map,
                Event::SequenceEnd | Event::MappingEnd => Token::End,
                event @ (Event::Scalar(..) | Event::Alias(_)) => {
                    Token::Scalar(self.node(event, span)?)
                }
                _ => continue,
            };
            return Ok(Some((token, at)));
        }
        Ok(None)
    }

    /// The next value as a whole, `None` where the list it is expected in ends.
    pub fn item(&mut self) -> Result<Option<Node>, SyntaxError> {
        match self.next()? {
            None | Some((Event::SequenceEnd | Event::MappingEnd, _)) => Ok(None),
            Some((event, span)) => self.node(event, span).map(Some),
        }
    }

    /// Starts the count of values anew and drops anchors: what a stream does after each item.
    pub fn forget(&mut self) {
        self.anchors.clear();
        self.values = 0;
    }

    fn next(&mut self) -> Result<Option<(Event<'i>, Span)>, SyntaxError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, span))),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = Place { line: marker.line(), column: marker.col() + 1 };
                Err(SyntaxError { place, why: error.info().to_string() })
            }
        }
    }

    fn expect(&mut self, after: &Span) -> Result<(Event<'i>, Span), SyntaxError> {
        self.next()?.ok_or_else(|| fault(after, "it ends in the middle"))
    }

    fn node(&mut self, event: Event<'i>, span: Span) -> Result<Node, SyntaxError> {
        let before = self.values;
        self.count(1, &span)?;
        if let Some(tag) = event.tag()
            && !["str", "int", "float", "bool", "null", "seq", "map"]
                .iter()
                .any(|known| tag.is_yaml_core_schema_tag(known))
        {
            return Err(fault(&span, "tags are not understood here"));
        }
        let (value, anchor, range) = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(fault(&span, "an alias of what it stands in"));
                };
                self.count(size, &span)?;
                return Ok(Node {
                    place: place(&span),
                    span: span.byte_range(),
                    shared: true,
                    value: node.value,
                });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain if tag.is_some_and(|t| t.is_yaml_core_schema_tag("str")) => {
                        Style::Quoted
                    }
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let text = Zeroizing::new(text.into_owned());
                (Value::Scalar { text, style }, anchor, span.byte_range())
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.expect(&span)? {
                        (Event::SequenceEnd, _) => break,
                        (event, at) => items.push(self.node(event, at)?),
                    }
                }
                (Value::List(items), anchor, None)
            }
            Event::MappingStart(_, anchor, _) => (Value::Map(self.entries(&span)?), anchor, None),
            _ => return Err(fault(&span, "a value is missing")),
        };
        let shared = anchor != 0;
        let node = Node { place: place(&span), span: range, shared, value: Rc::new(value) };
        if shared {
            self.anchors.insert(anchor, (node.clone(), self.values - before));
        }
        Ok(node)
    }

    fn entries(&mut self, start: &Span) -> Result<Vec<(Node, Node)>, SyntaxError> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let (event, at) = self.expect(start)?;
            if let Event::MappingEnd = event {
                return Ok(entries);
            }
            let key = self.node(event, at)?;
            let Value::Scalar { text, style } = &*key.value else {
                return Err(fault(&at, "a key must be a text"));
            };
            if text.as_str() == "<<" && *style == Style::Plain {
                return Err(fault(&at, "merge keys (<<) are not understood; write the fields out"));
            }
            if !seen.insert(text.to_string()) {
                let text: String = text.chars().take(80).collect();
                let why = format!("`{}` stands here a second time", text.escape_default());
                return Err(fault(&at, why));
            }
            let (event, at) = self.expect(&at)?;
            let value = self.node(event, at)?;
            entries.push((key, value));
        }
    }

    fn count(&mut self, more: usize, at: &Span) -> Result<(), SyntaxError> {
        self.values = self.values.saturating_add(more);
        match self.values > VALUES {
            true => Err(fault(at, format!("more than {VALUES} values, aliases counted"))),
            false => Ok(()),
        }
    }
}

fn place(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn fault(span: &Span, why: impl Into<String>) -> SyntaxError {
    SyntaxError { place: place(span), why: why.into() }
}

/// A value as a YAML document, for output.
pub fn emit<T: Serialize>(value: &T) -> Result<String, EmitError> {
    serde_saphyr::to_string(value).map_err(|cause| EmitError { cause: cause.to_string() })
}

/// A value that has no YAML form.
#[derive(Debug, thiserror::Error)]
#[error("this has no YAML form: {cause}")]
pub struct EmitError {
    cause: String,
}

/// A text as a YAML scalar that every parser, YAML 1.1's too, reads back as this text.
pub(super) fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a text can stand without quotes in every place. What YAML 1.1 takes for a number, a date, a
/// boolean or null cannot, and neither can much that could: quotes never hurt.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let tame = |c: char| c.is_ascii_alphanumeric() || "-._/:@+=".contains(c);
    let word = text.to_ascii_lowercase();
    let reserved =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&word.as_str());
    // `10.0.0.1`, `10.96.0.0/12` and `30d` are no numbers to any parser; `1e3`, `0x1f`, `1.5`, `1_000`
    // and `190:20:30` are.
    let number_like = first.is_ascii_digit()
        && text.parse::<std::net::Ipv4Addr>().is_err()
        && !text.contains('/')
        && text.parse::<crate::model::duration::Span>().is_err();
    (first.is_ascii_alphanumeric() || first == '/')
        && text.chars().all(tame)
        && !text.ends_with(':')
        && !reserved
        && !number_like
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(text: &str) -> String {
        documents(text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn values_know_line_column_and_octets() {
        let text = "a: 1\r\nä: 'x'\r\nlist:\r\n- \"two words\" # c\r\n";
        let doc = documents(text).unwrap().remove(0);
        let x = doc.get("ä").unwrap();
        assert_eq!((x.place, x.text()), (Place { line: 2, column: 4 }, Some("x")));
        assert_eq!(&text[x.span.clone().unwrap()], "'x'");
        let item = &doc.get("list").unwrap().list().unwrap()[0];
        assert_eq!(item.place, Place { line: 4, column: 3 });
        assert_eq!(&text[item.span.clone().unwrap()], "\"two words\"");
    }

    #[test]
    fn what_two_programs_read_in_two_ways_is_refused() {
        assert!(why("a: 1\nb: 2\na: 3\n").contains("line 3, column 1: `a` stands here a second"));
        assert!(why("x: &x {a: 1}\ny: {<<: *x}\n").contains("merge keys"));
        assert!(why("? [a]\n: b\n").contains("a key must be a text"));
        assert!(why("a: !!binary aGk=\n").contains("tags"));
        assert!(why("a: &a [*a]\n").contains("alias"), "{}", why("a: &a [*a]\n"));
        assert!(why("a:\n\t- b\n").starts_with("line 2"), "{}", why("a:\n\t- b\n"));
        assert!(why(&"[".repeat(100_000)).contains("line 1"));
    }

    #[test]
    fn an_alias_bomb_is_stopped() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert!(why(&text).contains("aliases counted"));
    }

    #[test]
    fn null_is_nothing_unless_quoted() {
        let doc = documents("a: null\nb: 'null'\nc:\nd: ''\n").unwrap().remove(0);
        assert!(doc.get("a").is_none() && doc.get("c").is_none());
        assert_eq!(doc.get("b").and_then(Node::text), Some("null"));
        assert_eq!(doc.get("d").and_then(Node::text), Some(""));
    }

    #[test]
    fn what_other_parsers_take_for_numbers_or_booleans_is_quoted() {
        for text in [
            "yes",
            "No",
            "on",
            "OFF",
            "y",
            "N",
            "true",
            "null",
            "~",
            "",
            "1_000",
            "0x1f",
            "1e3",
            "1.5",
            "12",
            "190:20:30",
            "2020-01-01",
            "<<",
            "=",
            "- a",
            "a: b",
            "a #b",
            "*a",
            "&a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "a:",
            " a",
            "a ",
            "\u{85}",
            "\u{feff}",
            "0o14",
            ".inf",
            "-1",
            "+1",
            "-",
            "...",
        ] {
            assert!(scalar(text).starts_with('"'), "{text:?}");
        }
        for text in ["prod", "10.0.0.1", "10.96.0.0/12", "30d", "a:b@c", "/etc/x", "LS0tLS1=="] {
            assert_eq!(scalar(text), text);
        }
    }

    proptest! {
        #[test]
        fn scalars_read_back(text in prop_oneof![any::<String>(), "[-a-zA-Z0-9_.:/+=@<>~ ]{0,12}"]) {
            for yaml in [format!("k: {}\n", scalar(&text)), format!("{{k: [{}, x]}}\n", scalar(&text))] {
                let doc = documents(&yaml).unwrap().remove(0);
                let node = doc.get("k").unwrap();
                let node = node.list().map_or(node, |items| &items[0]);
                prop_assert_eq!(node.text(), Some(text.as_str()));
            }
        }
    }
}
