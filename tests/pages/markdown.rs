//! What the pages hold that can be checked: commands, spans of code, headings and links.

use std::path::Path;

/// A page, by its name from the top of the project.
pub struct Page {
    pub name: String,
    pub text: String,
}

/// A fenced block: its language and its lines.
pub struct Block<'a> {
    pub language: &'a str,
    pub lines: Vec<&'a str>,
}

impl Page {
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.to_owned(), text }
    }

    pub fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let mut is_open = false;
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), is_open) {
                (Some(language), false) => {
                    blocks.push(Block { language, lines: Vec::new() });
                    is_open = true;
                }
                (Some(_), true) => is_open = false,
                (None, true) => blocks.last_mut().expect("one is open").lines.push(line),
                (None, false) => {}
            }
        }
        assert!(!is_open, "{}: a block without an end", self.name);
        blocks
    }

    /// The text without its fenced blocks.
    pub fn prose(&self) -> String {
        let mut is_open = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            let is_fence = line.trim_start().starts_with("```");
            is_open ^= is_fence;
            if !is_open && !is_fence {
                prose.push_str(line);
            }
            prose.push('\n');
        }
        prose
    }

    /// What is typed, in the order of the page: lines of consoles behind a prompt, and where a page's tables say what
    /// is typed instead of something else, the spans in their last column.
    pub fn commands(&self, with_tables: bool) -> Vec<String> {
        let mut commands = Vec::new();
        let mut language = None;
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), language) {
                (Some(begun), None) => language = Some(begun),
                (Some(_), Some(_)) => language = None,
                (None, Some("console")) => {
                    let typed = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
                    commands.extend(typed.map(str::to_owned));
                }
                (None, None) if with_tables && line.starts_with('|') => {
                    let last = line.trim_end_matches([' ', '|']).replace("\\|", "\0");
                    let last = last.rsplit('|').next().unwrap_or_default().replace('\0', "|");
                    let spans = spans(&last).into_iter();
                    // What is completed by words around it is not a whole command.
                    commands.extend(spans.filter(|s| s.starts_with("certkit ")));
                }
                _ => {}
            }
        }
        commands
    }

    /// The first paragraph below the title.
    pub fn introduction(&self) -> &str {
        let (title, rest) = self.text.split_once('\n').expect("a title");
        assert!(title.starts_with("# "), "{}: {title}", self.name);
        rest.trim_start().split("\n\n").next().unwrap_or_default()
    }

    /// What `#` in a link may name: each heading in the form that GitHub and mdBook give it.
    pub fn anchors(&self) -> Vec<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings.map(|heading| anchor(heading.trim_start_matches('#').trim())).collect()
    }

    /// The targets of links, without those to other sites.
    pub fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let mut links = Vec::new();
        for part in prose.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if !target.contains("://") {
                links.push(target.to_owned());
            }
        }
        links
    }
}

/// The spans of code in a text; one may go on in the next line.
pub fn spans(text: &str) -> Vec<String> {
    let mut spans = Vec::new();
    for paragraph in text.split("\n\n") {
        let spans_and_words = paragraph.split('`').collect::<Vec<_>>();
        let odd = spans_and_words.iter().skip(1).step_by(2);
        spans.extend(odd.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    spans
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
