//! The tests' own helpers: a failure must say what happened, or nobody can act on it.

mod support;

use std::process::Command;

#[test]
fn certkit_is_run_without_the_callers_settings() {
    let command = support::certkit();
    let set: Vec<_> = command.get_envs().filter_map(|(name, value)| Some((name, value?))).collect();
    assert!(set.iter().any(|(name, value)| *name == "NO_COLOR" && *value == "1"));
    assert!(!set.iter().any(|(name, _)| name.to_string_lossy().starts_with("CERTKIT_")));
}

#[test]
#[should_panic(expected = "--- stderr\nno such certificate\n")]
fn a_failed_command_says_what_it_wrote() {
    support::run(Command::new("sh").args(["-c", "echo no such certificate >&2; exit 3"]));
}

#[test]
#[should_panic(expected = "wanted exit code 2")]
fn another_exit_code_is_a_failure() {
    support::run_to_exit(Command::new("sh").args(["-c", "exit 1"]), 2);
}

#[test]
fn the_first_different_line_is_named() {
    assert_eq!(support::first_difference("a\nb\n", "a\nb\n"), None);
    let changed = support::first_difference("a\nb\n", "a\nc\n").expect("a difference");
    assert!(changed.starts_with("line 2\n") && changed.contains("\"c\""), "{changed}");
    let shorter = support::first_difference("a\nb", "a").expect("a difference");
    assert!(shorter.contains("(end)"), "{shorter}");
}

#[test]
fn openssl_answers() {
    let Some(_) = support::need("openssl") else { return };
    let version = support::openssl(&["version"]);
    assert!(version.starts_with("OpenSSL "), "{version}");
}
