//! Every option of every command takes the extremes of its type: an error of the command line, or a proper result,
//! and never a panic.

mod support;

use std::{fs, path::Path, process::Output, sync::Mutex};

use clap::{Arg, ArgAction, Command};
use support::{certkit, run, temp_dir_in_memory, tree};

/// A command line of each command that gets as far as its work, with the directory that it works on. A copy of the
/// same one is made for each.
const LINES: &[(&str, &[&str])] = &[
    ("check-expiration", &["--dir", "d"]),
    ("completions", &["bash"]),
    ("deploy", &["cp1", "--ssh", "false", "--dir", "d"]),
    ("export", &["cp1", "--dir", "d"]),
    ("flags", &["--dir", "d"]),
    ("fleet check", &["d", "--dir", "d"]),
    ("import", &["nothing.crt", "--dir", "d"]),
    ("init", &["--dir", "d"]),
    ("kubeconfig", &["someone", "--dir", "d"]),
    ("man", &[]),
    ("nodes add", &["w1=10.0.1.1", "--dir", "d"]),
    ("nodes list", &["--dir", "d"]),
    ("nodes remove", &["w1", "--dir", "d"]),
    ("paths", &["--dir", "d"]),
    ("prune", &["--dir", "d"]),
    ("receive", &["--dir", "d"]),
    ("recover", &["--dir", "d"]),
    ("report", &["--dir", "d"]),
    ("rotate", &["--dir", "d"]),
    ("rotate-ca", &["--next", "--dir", "d"]),
    ("show", &["d/pki/ca.crt", "--dir", "d"]),
    ("status", &["--dir", "d"]),
    ("template", &["cron"]),
    ("verify", &["--dir", "d"]),
];

/// Times, durations, shares, numbers, addresses and names at the ends of what can be written.
const EXTREMES: &[&str] = &[
    "",
    "0",
    "-1",
    "1e400",
    "NaN",
    "99999999999999999999999999",
    "18446744073709551616",
    "0s",
    "-1s",
    "9223372036854775807s",
    "9223372036854775808s",
    "292277026596y",
    "100000000000y",
    "0%",
    "-1%",
    "100%",
    "100.0000001%",
    "1e400%",
    "NaN%",
    "0000-01-01T00:00:00Z",
    "0000-01-01T00:00:00+23:59",
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:60Z",
    "10000-01-01T00:00:00Z",
    "292277026596-12-04T15:30:08Z",
    "0.0.0.0/0",
    "::/0",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
    "10.0.0.0/33",
    "localhost:65536",
    "127.0.0.1:0",
    "é\u{301}\u{202e}",
];

#[test]
fn no_extreme_value_of_any_option_panics() {
    let folder = temp_dir_in_memory();
    run(certkit().args(["init", "--host", "cp1=127.0.0.1", "--dir"]).arg(folder.path().join("d")));
    let mut trials = Vec::new();
    for (path, command) in commands(&certkit::cli::command(), "") {
        let line = LINES.iter().find(|(name, _)| *name == path);
        let (name, line) = line.unwrap_or_else(|| panic!("{path}: no line"));
        for option in options(&command) {
            trials.extend(EXTREMES.iter().map(|extreme| (*name, *line, option.clone(), *extreme)));
        }
    }
    let tried = trials.len();
    let (open, outcomes) = (Mutex::new(trials), Mutex::new(Vec::new()));
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for worker in 0..processors {
            let (open, outcomes, folder) = (&open, &outcomes, folder.path());
            scope.spawn(move || {
                let work = folder.join(format!("worker{worker}"));
                while let Some((name, line, option, extreme)) = { open.lock().unwrap().pop() } {
                    let output = ask(&folder.join("d"), &work, name, line, &option, extreme);
                    let code = output.status.code();
                    let stderr = String::from_utf8_lossy(&output.stderr);
                    let is_wrong = !matches!(code, Some(0..=4 | 64))
                        || stderr.contains("panicked")
                        || (code == Some(64) && !stderr.contains("error: "));
                    let wrong =
                        is_wrong.then(|| format!("{name} {option}={extreme}: {code:?} {stderr}"));
                    outcomes.lock().unwrap().push((code, wrong));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    let wrong: Vec<&str> = outcomes.iter().filter_map(|(_, wrong)| wrong.as_deref()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let accepted = outcomes.iter().filter(|(code, _)| *code != Some(64)).count();
    assert_eq!(outcomes.len(), tried);
    assert!(tried > 1000 && accepted > 100, "{accepted} of {tried} did anything");
}

/// Every command that does something, by its words.
fn commands(above: &Command, path: &str) -> Vec<(String, Command)> {
    let below = above.get_subcommands().filter(|command| command.get_name() != "help");
    let each = below.flat_map(|command| {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        match command.has_subcommands() {
            true => commands(command, &path),
            false => vec![(path, command.clone())],
        }
    });
    each.collect()
}

/// The options with a value that nothing limits to a few words. A hook would run.
fn options(command: &Command) -> Vec<String> {
    let mut root = certkit::cli::command();
    root.build();
    let of_all = root.get_arguments().filter(|arg| arg.is_global_set());
    let is_open = |arg: &&Arg| {
        matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
            && arg.get_possible_values().is_empty()
            && arg.get_long() != Some("hook")
    };
    let own = command.get_arguments();
    let long = |arg: &Arg| arg.get_long().map(|long| format!("--{long}"));
    own.chain(of_all).filter(is_open).filter_map(long).collect()
}

/// Runs a command on a copy of `dir`.
fn ask(dir: &Path, work: &Path, name: &str, line: &[&str], option: &str, extreme: &str) -> Output {
    let _ = fs::remove_dir_all(work);
    tree::copy(dir, &work.join("d"));
    let mut command = certkit();
    command.args(name.split(" "));
    // Given again, an option that is given once only would be an error.
    let mut rest = line.iter();
    while let Some(argument) = rest.next() {
        match *argument == option {
            true => drop(rest.next()),
            false => drop(command.arg(argument)),
        }
    }
    command.arg(format!("{option}={extreme}")).current_dir(work);
    command.env("CERTKIT_DIR", "d").output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}
