//! systemd units and drop-ins: `ExecStart=` with its continuation lines and variables, `Environment=`.

use std::path::Path;

use super::{
    argv,
    variables::{self, Variables},
};
use crate::model::check::flags::Told;

/// Whether a text is a unit.
pub fn is_unit(text: &str) -> bool {
    text.lines().any(|line| matches!(line.trim(), "[Service]" | "[Unit]" | "[Install]"))
}

/// A unit, with its drop-ins if they are given too.
pub struct Unit {
    /// The variables that it sets.
    variables: Variables,
    /// The commands that it starts, each with its line.
    commands: Vec<(String, usize)>,
}

/// Reads a unit and what follows it; a later `ExecStart=` with nothing drops the earlier ones.
pub fn read(text: &str) -> Unit {
    let mut unit = Unit { variables: Variables::new(), commands: Vec::new() };
    for (line, number) in logical_lines(text) {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key.trim() {
            "Environment" => {
                let pairs = argv::split(value.trim());
                let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
                // A percent sign is doubled, as one alone begins a specifier.
                unit.variables
                    .extend(pairs.map(|(name, value)| (name.to_owned(), value.replace("%%", "%"))));
            }
            "ExecStart" if value.trim().is_empty() => unit.commands.clear(),
            "ExecStart" => unit.commands.push((value.trim().to_owned(), number)),
            _ => {}
        }
    }
    unit
}

impl Unit {
    /// Whether it takes a variable: its command names it, or its program reads it by itself.
    pub fn takes(&self, variable: &str) -> bool {
        self.commands.iter().any(|(command, _)| {
            let own = |word: &String| {
                let only = Variables::from([(variable.to_owned(), String::new())]);
                argv::component(word)
                    .is_some_and(|id| !variables::read_by_itself(id, &only).is_empty())
            };
            command.contains(&format!("${variable}"))
                || command.contains(&format!("${{{variable}}}"))
                || argv::split(command).iter().any(own)
        })
    }

    /// What it tells the components it starts, with these variables over its own, as those of environment
    /// files are.
    pub fn told(&self, file: &Path, given: &Variables) -> Vec<Told> {
        let mut variables = self.variables.clone();
        let taken = given.iter().filter(|(name, _)| self.takes(name));
        variables.extend(taken.map(|(name, value)| (name.clone(), value.clone())));
        let mut all = Vec::new();
        for (command, number) in &self.commands {
            // `@`, `-`, `:`, `+` and `!` before the program are systemd's own.
            let command = command.trim_start_matches(['@', '-', ':', '+', '!']);
            let words = argv::split(command).into_iter().flat_map(|word| expand(&word, &variables));
            let words = words.map(|word| (word, Some(*number))).collect();
            if let Some(mut told) = argv::told(file, words) {
                told.settings.extend(variables::read_by_itself(told.component, &variables));
                all.push(told);
            }
        }
        // A drop-in may hold nothing but variables.
        if all.is_empty() { variables::told(file, &variables) } else { all }
    }
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
fn expand(word: &str, variables: &Variables) -> Vec<String> {
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
        let all = read(unit).told(Path::new("u"), &Variables::new());
        assert_eq!(all.len(), 1);
        let set: Vec<_> = all[0].settings.iter().map(|s| (&*s.name, &*s.value)).collect();
        assert_eq!(set, [("v", "2"), ("config", "/a"), ("client-ca-file", "/b"), ("port", "1")]);
    }

    #[test]
    fn etcds_environment_counts() {
        let unit = "[Service]\nEnvironment=ETCD_CLIENT_CERT_AUTH=true\n";
        let all = read(unit).told(Path::new("u"), &Variables::new());
        assert!(all[0].is_true("client-cert-auth"));
    }
}
