//! Just enough reading of Rust source for the rules: comments and literals out of the way, test code
//! left out, `use` trees spelled out.

/// One file below `src/`.
pub struct Source {
    /// Relative to `src/`, with `/`.
    pub path: String,
    /// As written.
    pub text: String,
    /// As written, with comments, the insides of literals and `#[cfg(test)]` items blanked; line
    /// breaks stay, so that lines have the same numbers.
    pub code: String,
}

/// A path named in the code, such as `crate::model::name::Name`, and the line that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub path: Vec<String>,
    pub line: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = without_tests(&without_comments(text));
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// Its module: `pki/key.rs` is `["pki", "key"]`, `lib.rs` and `main.rs` are `[]`.
    pub fn module(&self) -> Vec<String> {
        let stem = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        match stem {
            "lib" | "main" => Vec::new(),
            _ => stem.split('/').map(str::to_owned).collect(),
        }
    }

    /// The top module it belongs to: `model`, `pki`, ...; `None` for `lib.rs` and `main.rs`.
    pub fn layer(&self) -> Option<String> {
        self.module().into_iter().next()
    }

    /// A file of tests alone: its parent names it under `#[cfg(test)]`.
    pub fn is_test(&self) -> bool {
        self.module().iter().any(|part| part == "tests")
    }

    /// Every path of two segments or more in the code and every one that is imported, with `use` trees
    /// spelled out and `self`, `super` and `certkit` resolved to `crate`.
    pub fn named(&self) -> Vec<Named> {
        let words = words(&self.code);
        let (mut found, mut imported) = (Vec::new(), Vec::new());
        let mut i = 0;
        while i < words.len() {
            // `use<'_>` in a signature says what a type captures.
            if words[i].text == "use" && words.get(i + 1).is_some_and(|next| next.text != "<") {
                let mut leaves = Vec::new();
                i = use_tree(&words, i + 1, Vec::new(), &mut leaves);
                imported.extend(leaves);
            } else if words[i].is_name() {
                let start = i;
                let mut path = vec![words[i].text.clone()];
                while i + 2 < words.len() && words[i + 1].text == "::" && words[i + 2].is_name() {
                    path.push(words[i + 2].text.clone());
                    i += 2;
                }
                let begins = start == 0 || words[start - 1].text != "::";
                if path.len() > 1 && begins {
                    found.push(Named { path, line: words[start].line });
                }
                i += 1;
            } else {
                i += 1;
            }
        }
        // `use std::fs; fs::write(..)`: what an imported name begins is that import, not a crate.
        for named in &mut found {
            if let Some(import) = imported.iter().find(|i| i.path.last() == named.path.first()) {
                let mut path = import.path.clone();
                path.extend(named.path[1..].iter().cloned());
                named.path = path;
            }
        }
        found.extend(imported);
        for named in &mut found {
            named.path = self.absolute(&named.path);
        }
        found
    }

    /// What the code's string literals say, and the lines they begin on. Escapes stay as written.
    pub fn literals(&self) -> Vec<(String, usize)> {
        let text: Vec<char> = self.text.chars().collect();
        let (mut found, mut line, mut end) = (Vec::new(), 1, 0);
        for (start, c) in self.code.chars().enumerate() {
            line += usize::from(c == '\n');
            if c != '"' || start < end {
                continue;
            }
            // What stands for a raw string's beginning is its first letter.
            let hashes = raw_string(&text, start);
            let quote = text[start..].iter().position(|&c| c == '"').unwrap_or_default();
            let from = start + quote + 1;
            end = from;
            let closes = |at: usize| match hashes {
                None => text[at] == '"',
                Some(n) => {
                    text[at..].iter().skip(1).take_while(|&&c| c == '#').count() >= n
                        && text[at] == '"'
                }
            };
            while end < text.len() && !closes(end) {
                end += if hashes.is_none() && text[end] == '\\' { 2 } else { 1 };
            }
            found.push((text[from..end.min(text.len())].iter().collect(), line));
        }
        found
    }

    /// The numbers in the code, without their underscores, and their lines.
    pub fn numbers(&self) -> Vec<(String, usize)> {
        let all = words(&self.code)
            .into_iter()
            .filter(|word| word.text.starts_with(|c: char| c.is_ascii_digit()));
        all.map(|word| (word.text.replace('_', ""), word.line)).collect()
    }

    fn absolute(&self, path: &[String]) -> Vec<String> {
        let mut rest = path;
        let mut base = self.module();
        match rest[0].as_str() {
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            // How the binary names its own library.
            "certkit" => (base, rest) = (Vec::new(), &rest[1..]),
            _ => return path.to_vec(),
        }
        ["crate".to_owned()].into_iter().chain(base).chain(rest.iter().cloned()).collect()
    }
}

struct Word {
    text: String,
    line: usize,
}

impl Word {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

fn words(code: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                words.push(Word { text: rest[..length].to_owned(), line: number + 1 });
            }
            rest = &rest[length..];
        }
    }
    words
}

/// Spells out one `use` tree from `i` on; gives the index of the word that ends it.
fn use_tree(words: &[Word], mut i: usize, prefix: Vec<String>, leaves: &mut Vec<Named>) -> usize {
    let (mut path, mut line, mut branched) = (prefix, 0, false);
    while i < words.len() {
        match words[i].text.as_str() {
            ";" | "," | "}" => break,
            "::" => i += 1,
            "{" => {
                branched = true;
                i += 1;
                while i < words.len() && words[i].text != "}" {
                    i = use_tree(words, i, path.clone(), leaves);
                    if i < words.len() && words[i].text == "," {
                        i += 1;
                    }
                }
                i += 1;
            }
            "as" => i += 2,
            name => {
                // `use std::io::{self, Read}` names std::io.
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                line = words[i].line;
                i += 1;
            }
        }
    }
    if !branched && !path.is_empty() {
        leaves.push(Named { path, line });
    }
    i
}

/// Blanks comments and the insides of strings and characters.
pub fn without_comments(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut i = 0;
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let blank = |code: &mut String, from: usize, to: usize| {
        code.extend(
            chars[from..to.min(chars.len())].iter().map(|&c| if c == '\n' { c } else { ' ' }),
        );
    };
    while i < chars.len() {
        let start = i;
        if at(i) == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
            blank(&mut code, start, i);
        } else if at(i) == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 || i >= chars.len() {
                    break;
                }
            }
            blank(&mut code, start, i);
        } else if let Some(hashes) = raw_string(&chars, i) {
            while at(i) != '"' {
                i += 1;
            }
            i += 1;
            while i < chars.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                i += 1;
            }
            i += 1 + hashes;
            code.push('"');
            blank(&mut code, start + 1, i);
        } else if at(i) == '"' {
            i += 1;
            while i < chars.len() && at(i) != '"' {
                i += if at(i) == '\\' { 2 } else { 1 };
            }
            i += 1;
            code.push('"');
            blank(&mut code, start + 1, i);
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < chars.len() && at(i) != '\'' {
                i += 1;
            }
            i += 1;
            blank(&mut code, start, i);
        } else {
            code.push(at(i));
            i += 1;
        }
    }
    code
}

/// The number of `#` of a raw string that begins here.
fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    if start > 0 && (chars[start - 1].is_alphanumeric() || chars[start - 1] == '_') {
        return None;
    }
    let mut i = start;
    if matches!(chars.get(i), Some('b' | 'c')) {
        i += 1;
    }
    if chars.get(i) != Some(&'r') {
        return None;
    }
    let hashes = chars[i + 1..].iter().take_while(|&&c| c == '#').count();
    (chars.get(i + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// Blanks each item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = code.to_owned();
    while let Some(start) = kept.find(MARK) {
        let mut depth = 0;
        let mut end = kept.len();
        for (offset, c) in kept[start + MARK.len()..].char_indices() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                end = start + MARK.len() + offset + 1;
                break;
            }
        }
        let blank: String =
            kept[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        kept.replace_range(start..end, &blank);
    }
    kept
}
