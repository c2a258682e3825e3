//! YAML as a tree whose every value knows its place, and the one spelling certkit writes.
//!
//! The only module that names the YAML crate. Values are taken as the text that is written: `yes` stays
//! `yes`, and what a field means is its reader's business. Refused, because each has been read in two
//! ways by two programs: duplicate keys, merge keys (`<<`), keys that are lists or mappings.

mod scalar;

use std::{collections::HashMap, fmt, ops::Range, rc::Rc};

use serde::Serialize;
use serde_saphyr::granit_parser::{
    BorrowedInput, ErrorKind, Event, FallibleBufferedInput, InputIoError, Options, Parser,
    ScalarStyle, Span, StrInput,
};
use zeroize::Zeroizing;

pub(super) use self::scalar::scalar;
use crate::model::shown::quoted;

/// How many values one document may hold, what aliases repeat counted each time.
const VALUES: usize = 1_000_000;

/// How deep values may lie in one another.
const DEPTH: usize = 64;

/// Where a value stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

impl Position {
    /// Where values stand that were read from no YAML.
    pub(super) const NOWHERE: Self = Self { line: 0, column: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A text that is not the YAML certkit reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {why}", .place.line, .place.column)]
pub struct SyntaxError {
    /// Where reading stopped.
    pub place: Position,
    /// What is wrong there.
    pub why: String,
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node {
    /// Where it begins.
    pub place: Position,
    /// Its octets in the source; for what was read from a stream, nothing.
    pub span: Option<Range<usize>>,
    /// Whether it stands elsewhere too, by an anchor or an alias.
    pub shared: bool,
    pub value: Rc<NodeValue>,
}

/// What a [`Node`] holds.
pub(super) enum NodeValue {
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
    /// A value of which no more is known than where it stands.
    pub fn at(place: Position, value: NodeValue) -> Self {
        Self { place, span: None, shared: false, value: Rc::new(value) }
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &*self.value {
            NodeValue::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&*self.value, NodeValue::Scalar { text, style: Style::Plain }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub fn list(&self) -> Option<&[Node]> {
        match &*self.value {
            NodeValue::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn map(&self) -> Option<&[(Node, Node)]> {
        match &*self.value {
            NodeValue::Map(entries) => Some(entries),
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
            NodeValue::Scalar { .. } if self.is_null() => "nothing",
            NodeValue::Scalar { .. } => "a text",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a mapping",
        }
    }
}

/// The documents of a stream.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let mut events = events(text);
    let mut documents = Vec::new();
    while let Some((event, span)) = events.next()? {
        if let Event::DocumentStart(..) = event {
            let (first, span) = events.follow(&span)?;
            documents.push(events.node(first, span)?);
        }
    }
    Ok(documents)
}

/// A parser and the anchors met so far.
pub(super) struct Events<'i, I: BorrowedInput<'i>> {
    parser: Parser<'i, I>,
    anchors: HashMap<usize, (Node, usize)>,
    values: usize,
    /// How many lists and mappings are open.
    depth: usize,
    /// Whether the parser gave up, so that nothing follows.
    broken: bool,
}

/// Events of a text.
pub(super) fn events(text: &str) -> Events<'_, impl BorrowedInput<'_>> {
    Events::new(StrInput::new(text))
}

/// Events of a stream of characters. An error of the stream ends it.
pub(super) fn stream<C>(characters: C) -> Events<'static, impl BorrowedInput<'static>>
where
    C: Iterator<Item = std::io::Result<char>> + 'static,
{
    let characters = characters.map(|character| {
        character.map_err(|error| ErrorKind::InputIo {
            error: InputIoError::from_message(error.to_string()),
        })
    });
    Events::new(FallibleBufferedInput::new(characters))
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
    /// A scalar or an alias.
    Node(Node),
}

impl<'i, I: BorrowedInput<'i>> Events<'i, I> {
    fn new(input: I) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.flow_nesting_limit = DEPTH;
        options.block_nesting_limit = DEPTH;
        let parser = Parser::with_options(input, options);
        Self { parser, anchors: HashMap::new(), values: 0, depth: 0, broken: false }
    }

    /// The next token, `None` at the end of the stream.
    pub fn token(&mut self) -> Result<Option<(Token, Position)>, SyntaxError> {
        while let Some((event, span)) = self.next()? {
            let at = place(&span);
            let token = match event {
                Event::DocumentStart(..) => Token::Document,
                Event::SequenceStart(..) => Token::List,
                Event::MappingStart(..) => Token::Map,
                Event::SequenceEnd | Event::MappingEnd => Token::End,
                event @ (Event::Scalar(..) | Event::Alias(_)) => {
                    Token::Node(self.node(event, span)?)
                }
                _ => continue,
            };
            return Ok(Some((token, at)));
        }
        Ok(None)
    }

    /// The next value as a whole, `None` where what it is expected in ends. A value that is
    /// grammatical and yet refused is passed over, so that the next one can be read.
    #[allow(clippy::type_complexity)] // The two errors are what this is about.
    pub fn value(&mut self) -> Result<Option<Result<Node, SyntaxError>>, SyntaxError> {
        self.anchors.clear();
        self.values = 0;
        let depth = self.depth;
        let node = match self.next()? {
            None | Some((Event::SequenceEnd | Event::MappingEnd, _)) => return Ok(None),
            Some((event, span)) => self.node(event, span),
        };
        if let Err(error) = node {
            while self.depth > depth && !self.broken {
                self.next()?;
            }
            return if self.broken { Err(error) } else { Ok(Some(Err(error))) };
        }
        Ok(Some(node))
    }

    fn next(&mut self) -> Result<Option<(Event<'i>, Span)>, SyntaxError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                match event {
                    Event::SequenceStart(..) | Event::MappingStart(..) => self.depth += 1,
                    Event::SequenceEnd | Event::MappingEnd => {
                        self.depth = self.depth.saturating_sub(1);
                    }
                    _ => {}
                }
                Ok(Some((event, span)))
            }
            Some(Err(error)) => {
                self.broken = true;
                let marker = error.marker();
                let place = Position { line: marker.line(), column: marker.col() + 1 };
                Err(SyntaxError { place, why: error.info().to_string() })
            }
        }
    }

    fn follow(&mut self, after: &Span) -> Result<(Event<'i>, Span), SyntaxError> {
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
                    return Err(fault(&span, "an alias of something that is not complete here"));
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
                (NodeValue::Scalar { text, style }, anchor, span.byte_range())
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.follow(&span)? {
                        (Event::SequenceEnd, _) => break,
                        (event, at) => items.push(self.node(event, at)?),
                    }
                }
                (NodeValue::List(items), anchor, None)
            }
            Event::MappingStart(_, anchor, _) => {
                (NodeValue::Map(self.entries(&span)?), anchor, None)
            }
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
            let (event, at) = self.follow(start)?;
            if let Event::MappingEnd = event {
                return Ok(entries);
            }
            let key = self.node(event, at)?;
            let NodeValue::Scalar { text, style } = &*key.value else {
                return Err(fault(&at, "a key must be a text"));
            };
            if text.as_str() == "<<" && *style == Style::Plain {
                return Err(fault(&at, "merge keys (<<) are not understood; write the fields out"));
            }
            if !seen.insert(text.to_string()) {
                return Err(fault(&at, format!("{} stands here a second time", quoted(text))));
            }
            let (event, at) = self.follow(&at)?;
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

fn place(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
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

#[cfg(test)]
mod tests;
