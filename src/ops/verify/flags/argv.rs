//! Command lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::model::{
    catalogue::{COMPONENTS, USES},
    check::flags::{Setting, Told, known},
};

/// A word and the line it stands on.
pub type Word = (String, Option<usize>);

/// The component that a program's name says.
pub fn component(program: &str) -> Option<&'static str> {
    let name = program.rsplit('/').next().unwrap_or_default();
    COMPONENTS.iter().find(|c| c.id == name || c.program == Some(name)).map(|c| c.id)
}

/// What a command line tells the component it starts.
pub fn told(file: &Path, words: Vec<Word>) -> Option<Told> {
    // A shell's `-c` is a command line in one word.
    let words: Vec<Word> = words
        .into_iter()
        .flat_map(|(word, line)| {
            match word.contains(char::is_whitespace) && !word.starts_with('-') {
                true => split(&word).into_iter().map(|w| (w, line)).collect(),
                false => vec![(word, line)],
            }
        })
        .collect();
    let start = words.iter().position(|(word, _)| component(word).is_some())?;
    let id = component(&words[start].0)?;
    Some(of(file, id, &words[start + 1..]))
}

/// The same for words whose component is known.
pub fn told_of(file: &Path, name: &str, words: Vec<Word>) -> Option<Told> {
    Some(of(file, component(name)?, &words))
}

fn of(file: &Path, component: &'static str, words: &[Word]) -> Told {
    let mut settings = Vec::new();
    let mut rest = words.iter().peekable();
    while let Some((word, line)) = rest.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        if flag.is_empty() {
            break;
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None if known::is_switch(component, flag) => (flag, "true".to_owned()),
            None => match rest.next_if(|(next, _)| !next.starts_with('-')) {
                Some((next, _)) => (flag, next.clone()),
                None => (flag, "true".to_owned()),
            },
        };
        // pflag takes underscores for dashes in Kubernetes' own programs.
        let name = name.replace('_', "-");
        settings.push(Setting { name, value, line: *line });
    }
    Told {
        file: file.to_path_buf(),
        component,
        is_config: false,
        is_partial: false,
        settings,
        contents: BTreeMap::new(),
    }
}

/// A component's name as variables have it: `kube-apiserver` as `KUBE_APISERVER`.
pub fn shout(component: &str) -> String {
    component.to_ascii_uppercase().replace('-', "_")
}

/// The component whose flags these are, where nothing says so: the one that certkit tells the most of them, and
/// of what certkit tells it the most are there.
pub fn guess(words: &[Word]) -> Option<&'static str> {
    let name = |word: &Word| {
        let flag = word.0.strip_prefix("--")?;
        Some(flag.split_once('=').map_or(flag, |(name, _)| name).to_owned())
    };
    let given: BTreeSet<String> = words.iter().filter_map(name).collect();
    let alike = |id: &str| {
        let told: BTreeSet<&str> =
            USES.iter().filter(|u| u.component == id).filter_map(|u| u.flag).collect();
        let both = told.iter().filter(|flag| given.contains(**flag)).count();
        // In parts of a thousand, of all that either has.
        both * 1000 / (told.len() + given.len() - both).max(1)
    };
    let scores = COMPONENTS.iter().map(|c| (alike(c.id), c.id));
    scores.filter(|(score, _)| *score >= 300).max_by_key(|(score, _)| *score).map(|(_, id)| id)
}

/// The parts of a file of flags: a comment that is a component's name begins the next one's.
pub fn parts(text: &str) -> Vec<(Option<&'static str>, Vec<Word>)> {
    let mut parts: Vec<(Option<&'static str>, String)> = vec![(None, String::new())];
    for (number, line) in text.lines().enumerate() {
        let heading = line
            .strip_prefix("# ")
            .and_then(|name| COMPONENTS.iter().map(|c| c.id).find(|id| *id == name.trim_end()));
        if heading.is_some() {
            // Lines keep their numbers.
            parts.push((heading, "\n".repeat(number)));
        }
        if let Some((_, text)) = parts.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    let parts = parts.into_iter().map(|(id, text)| (id, words_by_line(&text)));
    parts.filter(|(_, words)| !words.is_empty()).collect()
}

/// The words of every line that is no comment.
pub fn words_by_line(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim().trim_end_matches('\\');
        if !line.starts_with('#') {
            words.extend(split(line).into_iter().map(|word| (word, Some(number + 1))));
        }
    }
    words
}

/// Splits as a shell and systemd do: at blanks, with quotes and backslashes.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', q) if q != Some('\'') => {
                word.get_or_insert_default().extend(chars.next());
            }
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_systemd_does() {
        assert_eq!(split("a  'b c' d\"e f\"g \\\"h ''"), ["a", "b c", "de fg", "\"h", ""]);
    }

    #[test]
    fn switches_take_no_value_and_others_do() {
        let words = ["/usr/bin/etcd", "--client-cert-auth", "--name", "a", "-data-dir=/x"];
        let words = words.map(|w| (w.to_owned(), None)).to_vec();
        let told = told(Path::new("f"), words).unwrap();
        let set: Vec<_> = told.settings.iter().map(|s| (&*s.name, &*s.value)).collect();
        assert_eq!(set, [("client-cert-auth", "true"), ("name", "a"), ("data-dir", "/x")]);
    }

    #[test]
    fn a_shell_in_between_is_seen_through() {
        let words = ["/bin/sh", "-c", "exec kube-scheduler --leader-elect=true"];
        let told = told(Path::new("f"), words.map(|w| (w.to_owned(), None)).to_vec()).unwrap();
        assert_eq!(told.component, "kube-scheduler");
        assert_eq!(told.get("leader-elect"), Some("true"));
    }
}
