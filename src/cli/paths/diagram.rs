//! Diagrams of the paths: Mermaid and Graphviz.

use std::fmt::Write as _;

use crate::model::talk::Talk;

/// The ends of all paths, each once, in the order they are met.
fn ends(talks: &[Talk]) -> Vec<&'static str> {
    let mut ends = Vec::new();
    for end in talks.iter().flat_map(|talk| [talk.from, talk.to]) {
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    ends
}

/// What stands on a line: what the client shows, and where.
fn label(talk: &Talk) -> String {
    match talk.remedy {
        Some(_) => talk.protection.to_owned(),
        None => format!(":{} {}", talk.port, talk.client.what),
    }
}

/// A Mermaid flow chart, as Markdown pages show it.
pub fn mermaid(talks: &[Talk]) -> String {
    let ends = ends(talks);
    let mut text = String::from("flowchart LR\n");
    for (n, end) in ends.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  n{n}[\"{}\"]", mermaid_text(end));
    }
    for talk in talks {
        let line = if talk.remedy.is_some() { "-.->" } else { "-->" };
        let (from, to) = (index(&ends, talk.from), index(&ends, talk.to));
        let _ = writeln!(text, "  n{from} {line}|\"{}\"| n{to}", mermaid_text(&label(talk)));
    }
    text
}

/// A Graphviz graph.
pub fn dot(talks: &[Talk]) -> String {
    let ends = ends(talks);
    let mut text = String::from(
        "digraph paths {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n  \
         edge [fontname=\"sans-serif\", fontsize=10];\n",
    );
    for (n, end) in ends.iter().enumerate() {
        let _ = writeln!(text, "  n{n} [label={}];", dot_text(end));
    }
    for talk in talks {
        let style = if talk.remedy.is_some() { ", style=dashed" } else { "" };
        let (from, to) = (index(&ends, talk.from), index(&ends, talk.to));
        let tip = dot_text(&format!("{}: {}", talk.id, talk.breaks));
        let label = dot_text(&label(talk));
        let _ = writeln!(text, "  n{from} -> n{to} [label={label}, tooltip={tip}{style}];");
    }
    text.push_str("}\n");
    text
}

fn index(ends: &[&str], end: &str) -> usize {
    ends.iter().position(|e| *e == end).unwrap_or_default()
}

/// Mermaid's entity codes, for what would end a quoted text or be taken for markup.
fn mermaid_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '|' | '`' => {
                let _ = write!(out, "#{};", c as u32);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn dot_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::talk::talks;

    #[test]
    fn a_diagram_has_one_line_a_path_and_only_known_ends() {
        let all = talks(None);
        let (mermaid, dot) = (mermaid(&all), dot(&all));
        let lines = |text: &str, arrow: &[&str]| {
            text.lines().filter(|l| arrow.iter().any(|a| l.contains(a))).count()
        };
        assert_eq!(lines(&mermaid, &[" -->", " -.->"]), all.len());
        assert_eq!(lines(&dot, &[" -> "]), all.len());
        assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    }

    #[test]
    fn text_cannot_leave_its_quotes() {
        assert_eq!(mermaid_text("a\"] --> b"), "a#34;] --#62; b");
        assert_eq!(dot_text("a\"\\\n"), "\"a\\\"\\\\ \"");
    }
}
