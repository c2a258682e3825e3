//! Reading fields: every mistake is kept with its place, so that all of them are said at once.

use std::{collections::BTreeMap, fmt::Display, net::IpAddr, str::FromStr};

use super::{
    DocumentError, Mistake,
    yaml::{Node, Position},
};
use crate::model::{
    cluster::Subnet,
    near,
    san::San,
    shown::{may_show, quoted},
};

/// Reads values out of nodes and collects what is wrong.
#[derive(Default)]
pub(super) struct FieldReader {
    mistakes: Vec<Mistake>,
    places: BTreeMap<String, Position>,
}

impl FieldReader {
    /// Whether nothing was wrong so far.
    pub fn is_content(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Notes what is wrong with a value.
    pub fn mistake(&mut self, node: &Node, field: &str, why: String) {
        // Whatever a reader makes of a value: one that may be a secret is not repeated, nor is any part of it.
        let why = match node.text() {
            Some(text) if !may_show(text) && repeats(&why, text) => {
                format!("{} cannot stand here", quoted(text))
            }
            _ => why,
        };
        let mistake = Mistake { file: None, place: Some(node.place), field: field.to_owned(), why };
        // A list read through an alias says the same once.
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// Notes where a field of certkit's stands in a file that calls it something else.
    pub fn locate(&mut self, field: &str, node: &Node) {
        self.places.entry(field.to_owned()).or_insert(node.place);
    }

    /// Where each field stood, or all that was wrong.
    pub fn finish(mut self, file: &str) -> Result<BTreeMap<String, Position>, DocumentError> {
        if self.is_content() {
            return Ok(self.places);
        }
        self.mistakes.sort_by_key(|mistake| mistake.place);
        Err(DocumentError::Invalid { file: file.to_owned(), mistakes: self.mistakes })
    }

    /// The fields of a mapping that are not null; any that is not `known` is a mistake.
    pub fn fields<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        known: &[&str],
    ) -> Vec<(&'n str, String, &'n Node)> {
        let mut fields = Vec::new();
        for (key, field, value) in self.entries(node, path) {
            if known.contains(&key) {
                fields.push((key, field, value));
                continue;
            }
            let place = node.map().and_then(|all| all.iter().find(|(k, _)| k.text() == Some(key)));
            let place = place.map_or(node, |(key, _)| key);
            let why = match near::nearest(known.iter().copied(), key) {
                Some(known) => format!("there is no such field; did you mean `{known}`?"),
                None => format!("there is no such field; known are {}", known.join(", ")),
            };
            self.mistake(place, &field, why);
        }
        fields
    }

    /// The keys of a mapping, the paths of their fields, and their values; null values are left out.
    pub fn entries<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(&'n str, String, &'n Node)> {
        let Some(entries) = node.map() else {
            self.kind(node, path, "a mapping");
            return Vec::new();
        };
        let mut found = Vec::new();
        for (key, value) in entries {
            let text = key.text().unwrap_or("null");
            let shown = match may_show(text) {
                true => text.escape_default().to_string(),
                false => quoted(text).to_string(),
            };
            let field = match path {
                "" => shown,
                path => format!("{path}.{shown}"),
            };
            self.places.entry(field.clone()).or_insert(key.place);
            if !value.is_null() {
                found.push((text, field, value));
            }
        }
        found
    }

    /// The items of a list with their paths.
    pub fn items<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(String, &'n Node)> {
        let Some(items) = node.list() else {
            self.kind(node, path, "a list");
            return Vec::new();
        };
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let field = format!("{path}[{index}]");
            self.places.entry(field.clone()).or_insert(item.place);
            found.push((field, item));
        }
        found
    }

    /// A text.
    pub fn text<'n>(&mut self, node: &'n Node, field: &str) -> Option<&'n str> {
        if node.text().is_none() {
            self.kind(node, field, "a text");
        }
        node.text()
    }

    /// A text that must be there, at the top of a document.
    pub fn required<'n>(&mut self, node: &'n Node, field: &str) -> Option<&'n str> {
        match node.get(field) {
            Some(value) => self.text(value, field),
            None => {
                match node.map() {
                    Some(_) => self.mistake(node, field, format!("is missing; {}", super::KNOWN)),
                    None => self.kind(node, "", "a mapping"),
                }
                None
            }
        }
    }

    /// A text read as something else.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, node: &Node, field: &str) -> Option<T> {
        let text = self.text(node, field)?;
        self.keep(node, field, text.parse())
    }

    /// An address of a host.
    pub fn address(&mut self, node: &Node, field: &str) -> Option<IpAddr> {
        let text = self.text(node, field)?;
        self.keep(node, field, text.parse().map_err(|_| not(text, "IP address")))
    }

    /// `true` or `false`.
    pub fn flag(&mut self, node: &Node, field: &str) -> Option<bool> {
        let text = self.text(node, field)?;
        self.keep(node, field, text.parse().map_err(|_| "is neither `true` nor `false`"))
    }

    /// A list of texts.
    pub fn texts(&mut self, node: &Node, path: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for (field, item) in self.items(node, path) {
            texts.extend(self.text(item, &field).map(str::to_owned));
        }
        texts
    }

    /// A list of subject alternative names, in the form of `read`.
    pub fn sans(
        &mut self,
        node: &Node,
        path: &str,
        read: impl Fn(&str) -> Result<San, String>,
    ) -> Vec<San> {
        let mut sans = Vec::new();
        for (field, item) in self.items(node, path) {
            if let Some(text) = self.text(item, &field) {
                sans.extend(self.keep(item, &field, read(text)));
            }
        }
        sans
    }

    /// Subnets: a list, or a text with commas as in the flags of Kubernetes.
    pub fn subnets(&mut self, node: &Node, path: &str) -> Vec<Subnet> {
        let mut subnets = Vec::new();
        if let Some(text) = node.text() {
            for part in text.split(',') {
                subnets.extend(self.keep(node, path, part.trim().parse::<Subnet>()));
            }
            return subnets;
        }
        if node.list().is_none() {
            self.kind(node, path, "a text or a list");
            return subnets;
        }
        for (field, item) in self.items(node, path) {
            subnets.extend(self.parse::<Subnet>(item, &field));
        }
        subnets
    }

    /// The value, or its error as a mistake.
    pub fn keep<T>(&mut self, node: &Node, field: &str, r: Result<T, impl Display>) -> Option<T> {
        r.map_err(|why| self.mistake(node, field, why.to_string())).ok()
    }

    /// Notes that a value is of the wrong kind.
    pub fn kind(&mut self, node: &Node, field: &str, wanted: &str) {
        self.mistake(node, field, format!("is {}, not {wanted}", node.kind()));
    }
}

/// Says that a text is not what it should be.
pub(super) fn not(text: &str, what: &str) -> String {
    format!("{} is no {what}", quoted(text))
}

/// Whether a message has any part of a text in it. Of one that is longer than anything here it may be.
fn repeats(message: &str, text: &str) -> bool {
    const PART: usize = 8;
    let mut parts = text.as_bytes().windows(PART);
    let has = |part: &[u8]| message.as_bytes().windows(PART).any(|window| window == part);
    text.len() > 4096 || parts.any(has)
}
