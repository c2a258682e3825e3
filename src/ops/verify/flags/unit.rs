//! systemd units and drop-ins: `ExecStart=` with its continuation lines and variables, `Environment=`.

use std::{collections::BTreeMap, path::Path};

use super::{argv, etcd_variable};
use crate::model::{catalogue::COMPONENTS, check::flags::Told};

/// Whether a text is a unit.
pub fn is_unit(text: &str) -> bool {
    text.lines().any(|line| matches!(line.trim(), "[Service]" | "[Unit]" | "[Install]"))
}

/// What a unit tells the components it starts; a later `ExecStart=` with nothing drops the earlier ones.
pub fn told(file: &Path, text: &str) -> Vec<Told> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let mut commands: Vec<(String, usize)> = Vec::new();
    for (line, number) in logical_lines(text) {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key.trim() {
            "Environment" => {
                let pairs = argv::split(value.trim());
                let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
                variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            "ExecStart" if value.trim().is_empty() => commands.clear(),
            "ExecStart" => commands.push((value.trim().to_owned(), number)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    for (command, number) in commands {
        // `@`, `-`, `:`, `+` and `!` before the program are systemd's own.
        let command = command.trim_start_matches(['@', '-', ':', '+', '!']);
        let words = argv::split(command).into_iter().flat_map(|word| expand(&word, &variables));
        let words = words.map(|word| (word, Some(number))).collect();
        if let Some(mut told) = argv::told(file, words) {
            if told.component == "etcd" {
                let set = variables.iter().filter_map(|(name, value)| etcd_variable(name, value));
                told.settings.extend(set);
            }
            all.push(told);
        }
    }
    // A drop-in may hold etcd's environment alone.
    if all.is_empty() && variables.keys().any(|name| name.starts_with("ETCD_")) {
        let words = vec![("etcd".to_owned(), None)];
        if let Some(mut told) = argv::told(file, words) {
            told.settings.extend(variables.iter().filter_map(|(n, v)| etcd_variable(n, v)));
            all.push(told);
        }
    }
    // Or flags for the unit's own ExecStart, in a variable that the component's name is in.
    if all.is_empty() {
        for (name, value) in &variables {
            let words: Vec<_> = argv::split(value).into_iter().map(|word| (word, None)).collect();
            let component = COMPONENTS
                .iter()
                .find(|c| name.contains(&c.id.to_ascii_uppercase().replace('-', "_")));
            if let Some(component) = component
                && words.iter().any(|(word, _)| word.starts_with("--"))
            {
                all.extend(argv::told_of(file, component.id, words));
            }
        }
    }
    all
}

/// Lines with their continuations, and the number of the first of each. Comments may stand in between.
fn logical_lines(text: &str) -> Vec<(String, usize)> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let (line, more) = match line.trim_end().strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        match (open, lines.last_mut()) {
            (true, Some((whole, _))) => {
                whole.push(' ');
                whole.push_str(line.trim());
            }
            _ => lines.push((line.to_owned(), number + 1)),
        }
        open = more;
    }
    lines
}

/// `$NAME` as a word of its own is split into words, `${NAME}` is put in its place (systemd.service(5)).
fn expand(word: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    if let Some(value) = word.strip_prefix('$').and_then(|name| variables.get(name)) {
        return argv::split(value);
    }
    let mut out = word.to_owned();
    for (name, value) in variables {
        out = out.replace(&format!("${{{name}}}"), value);
    }
    vec![out]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_variables_and_resets_are_followed() {
        let unit = "[Service]\nEnvironment=\"ARGS=--v=2 --config=/a\" CA=/b\n\
                    ExecStart=/usr/bin/old --x\nExecStart=\nExecStart=-/usr/bin/kubelet $ARGS \\\n\
                    # said in between\n  --client-ca-file=${CA} \\\n  --port 1\n";
        let all = told(Path::new("u"), unit);
        assert_eq!(all.len(), 1);
        let set: Vec<_> = all[0].settings.iter().map(|s| (&*s.name, &*s.value)).collect();
        assert_eq!(set, [("v", "2"), ("config", "/a"), ("client-ca-file", "/b"), ("port", "1")]);
    }

    #[test]
    fn etcds_environment_counts() {
        let unit = "[Service]\nEnvironment=ETCD_CLIENT_CERT_AUTH=true\n";
        assert!(told(Path::new("u"), unit)[0].is_true("client-cert-auth"));
    }
}
