use super::*;

const HOSTILE: &str = r#"/a b/"c"/'d'/$HOME/%n/\x/`id`/#"#;

#[derive(Serialize)]
struct One {
    value: Option<&'static str>,
}

fn filled(name: &str, text: &str, value: &'static str) -> String {
    fill(name, text, One { value: Some(value) }).unwrap()
}

#[test]
fn every_built_in_template_is_a_file_with_an_end() {
    for (name, text) in BUILT_IN {
        assert!(text.ends_with('\n'), "{name}");
    }
}

#[test]
fn deployments_and_templates_name_each_other() {
    let deployed: Vec<&str> = deploy::DEPLOYMENTS.iter().map(|d| d.template).collect();
    for (name, _) in BUILT_IN.iter().filter(|(name, _)| name.starts_with("deploy/")) {
        assert!(deployed.contains(name), "{name}");
    }
    assert!(deployed.iter().all(|name| Templates::default().has(name)));
}

#[test]
fn a_shell_reads_back_what_an_environment_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    fs::write(&file, filled("x.env", "V=\"{{ value }}\"\n", HOSTILE)).unwrap();
    let out = std::process::Command::new("sh")
        .args(["-c", ". \"$1\"; printf %s \"$V\"", "sh"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), HOSTILE);
}

#[test]
fn a_unit_doubles_percent_signs_and_escapes_quotes_and_backslashes() {
    let text = filled("x.conf", "Environment=\"V={{ value }}\"", HOSTILE);
    assert_eq!(text, r#"Environment="V=/a b/\"c\"/'d'/$HOME/%%n/\\x/`id`/#""#);
}

#[test]
fn yaml_values_are_json() {
    assert_eq!(filled("x.yaml", "{{ value }}", "a\"\\ # : yes"), r#""a\"\\ # : yes""#);
}

#[test]
fn words_are_quoted_only_where_they_must_be() {
    assert_eq!(word("--a=https://[::1]:1,b"), "--a=https://[::1]:1,b");
    assert_eq!(word(r"--a=/b c'\"), r"'--a=/b c\'\\'");
    assert_eq!(word(""), "''");
}

#[test]
fn line_ends_and_hidden_characters_are_seen() {
    for bad in ["a\nb", "a\rb", "\0", "\u{85}", "\u{2028}", "\u{feff}", "\x1b[31m", "\x7f"] {
        assert!(!is_one_line(bad), "{bad:?}");
    }
    assert!(is_one_line(HOSTILE));
}

#[test]
fn a_name_that_is_not_given_is_an_error() {
    let error = fill("x.txt", "\n{{ nothing }}", One { value: None }).unwrap_err();
    assert_eq!(error.line(), Some(2));
}

#[test]
fn a_folder_replaces_single_templates_and_keeps_the_escaping() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deploy")).unwrap();
    fs::write(folder.path().join("deploy/cron.cron"), "X={{ value }}\n").unwrap();
    fs::write(folder.path().join(".hidden"), "").unwrap();
    let templates = Templates::with_folder(folder.path()).unwrap();
    let text = templates.render("deploy/cron.cron", One { value: Some("a b") }).unwrap();
    assert_eq!(text, "X=\"a b\"\n");
}

#[test]
fn a_file_that_replaces_nothing_is_an_error_that_names_it() {
    for name in ["flags.txt", "flags/arg.txt", "other/args.txt", "flags/args.txt~"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let error = Templates::with_folder(folder.path()).unwrap_err();
        assert!(matches!(error, RenderError::Unknown { .. }), "{name}: {error}");
        assert!(error.hint().is_some());
    }
    assert!(Templates::with_folder(Path::new("/nonexistent")).is_err());
}

#[test]
fn a_broken_template_is_an_error_with_its_path_and_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deploy")).unwrap();
    let file = folder.path().join("deploy/cron.cron");
    fs::write(&file, "a\n{% for %}\n").unwrap();
    let templates = Templates::with_folder(folder.path()).unwrap();
    let error = templates.render("deploy/cron.cron", One { value: None }).unwrap_err();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(":2"), "{cause}");
}
