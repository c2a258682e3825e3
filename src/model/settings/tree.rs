//! From dotted field paths to the nested lines of a YAML file.

use super::SettingValue;
use crate::model::catalogue::Value;

/// One line of a configuration file.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What comes before the value, the blanks at its start included: `  - name: `, or `spec:` for a
    /// line that others are nested below. Made of field names of the catalogue alone.
    pub lead: String,
    /// The value, none for a line that others are nested below.
    pub value: Option<Scalar>,
    /// The setting that the line is, as an index into the settings given.
    pub setting: Option<usize>,
}

/// A value of a configuration file.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// true or false
    Bool(bool),
    /// A number.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl Scalar {
    /// A setting's value with its type: only the catalogue's own literals can be other than text, so a
    /// folder named `1` stays text.
    pub fn of(setting: &SettingValue) -> Self {
        match (setting.row.value, setting.value.as_str()) {
            (Value::Literal(_), "true") => Self::Bool(true),
            (Value::Literal(_), "false") => Self::Bool(false),
            (Value::Literal(_), text) => match text.parse() {
                Ok(number) => Self::Number(number),
                Err(_) => Self::Text(text.to_owned()),
            },
            (_, text) => Self::Text(text.to_owned()),
        }
    }
}

/// The parts of a dotted path; `\.` is a dot within a part.
pub(super) fn parts(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = path.chars();
    while let Some(c) = characters.next() {
        match (c, parts.last_mut()) {
            ('.', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(characters.next()),
            (_, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

#[derive(Default)]
struct Node {
    children: Vec<(String, Node)>,
    setting: Option<usize>,
}

impl Node {
    fn insert(&mut self, path: &[String], setting: usize) {
        let Some((first, rest)) = path.split_first() else {
            self.setting = Some(setting);
            return;
        };
        let at = match self.children.iter().position(|(name, _)| name == first) {
            Some(at) => at,
            None => {
                self.children.push((first.clone(), Self::default()));
                self.children.len() - 1
            }
        };
        self.children[at].1.insert(rest, setting);
    }

    fn print(&self, depth: usize, settings: &[SettingValue], lines: &mut Vec<Line>) {
        for (name, child) in &self.children {
            if name.parse::<usize>().is_ok() {
                // An item of a list: its first line carries the dash, in the two blanks of its indent.
                let start = lines.len();
                child.print(depth, settings, lines);
                for (n, line) in lines.iter_mut().enumerate().skip(start) {
                    let (mark, at) = (if n == start { "- " } else { "  " }, depth * 2);
                    line.lead.insert_str(at, mark);
                }
                continue;
            }
            let value = child.setting.map(|at| Scalar::of(&settings[at]));
            let colon = if value.is_some() { ": " } else { ":" };
            let lead = format!("{:1$}{name}{colon}", "", depth * 2);
            lines.push(Line { lead, value, setting: child.setting });
            child.print(depth + 1, settings, lines);
        }
    }
}

/// The lines of the configuration file in which these settings' fields are, nested from `depth` on.
pub fn lines(settings: &[SettingValue], depth: usize) -> Vec<Line> {
    let mut root = Node::default();
    for (at, setting) in settings.iter().enumerate() {
        if let Some(field) = setting.field {
            root.insert(&parts(field), at);
        }
    }
    let mut lines = Vec::new();
    root.print(depth, settings, &mut lines);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_dot_stays_in_its_part() {
        assert_eq!(parts("cacerts.ca-cert\\.pem"), ["cacerts", "ca-cert.pem"]);
        assert_eq!(parts("a.0.b"), ["a", "0", "b"]);
    }
}
