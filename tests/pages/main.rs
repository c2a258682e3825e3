//! The pages of the documentation: each command in them is run as it is written, each option they name is there, each
//! link leads somewhere, and each page begins with what it is for.

mod markdown;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeSet, path::Path};

use clap::error::ErrorKind;
use markdown::{Page, spans};
use scene::SCENES;

/// Pages that are generated, or for those who change certkit: no commands of theirs are run here.
const OTHERS: &[(&str, &str)] = &[
    ("docs/architecture.md", "for those who change certkit"),
    (FIGURES, "for those who change certkit"),
    ("docs/catalogue.md", "generated, without commands"),
    ("docs/findings.md", "generated; `tests/words.rs` runs what it advises"),
    ("docs/kubeadm-differences.md", "what `tests/kubeadm.rs` compares"),
    ("docs/paths.md", "generated, without commands"),
    ("docs/requests.md", "generated, without commands"),
    ("docs/proven.md", "a list of tests"),
    ("docs/README.md", "the index"),
    ("docs/threat-model.md", "for those who change certkit"),
];

/// What the benchmarks write: figures, called after the commands that were measured.
const FIGURES: &str = "docs/benchmarks.md";

/// Commands that are there with a feature of the build only.
const FEATURED: &[&str] = &["certkit controller", "certkit csr"];

/// Spans that only look like commands, and what they are.
const NO_COMMANDS: &[(&str, &str)] = &[("certkit COMMAND --help", "stands for all of them")];

fn pages() -> Vec<Page> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let names = std::fs::read_dir(folder).expect("docs").filter_map(Result::ok);
    let mut names: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".md") && name != "SUMMARY.md")
        .map(|name| format!("docs/{name}"))
        .collect();
    names.push("README.md".to_owned());
    names.sort();
    names.iter().map(|name| Page::read(name)).collect()
}

#[test]
fn every_command_of_every_page_is_run_as_it_is_written() {
    let mut ran = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let commands = page.commands(scene::has_tables_of_commands(&page.name));
        let Some(scene) = SCENES.iter().find(|scene| scene.page == page.name) else {
            assert!(commands.is_empty(), "{}: nobody runs {commands:#?}", page.name);
            continue;
        };
        let Some(mut scene) = scene.set() else { return };
        for command in &commands {
            if let Err(said) = scene.run(command) {
                wrong.push(format!("{}: {command}\n{said}", page.name));
            }
            ran += 1;
        }
        wrong.extend(scene.left_over());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran > 150, "{ran}");
}

#[test]
fn every_page_is_run_or_said_why_not_and_shows_commands_in_consoles_only() {
    for page in pages() {
        let is_run = SCENES.iter().any(|scene| scene.page == page.name);
        let is_other = OTHERS.iter().any(|(name, _)| *name == page.name);
        let is_plain = page.commands(false).is_empty();
        assert!(is_run != is_other || (!is_other && is_plain), "{}", page.name);
        if page.name == FIGURES {
            continue;
        }
        for block in page.blocks().iter().filter(|block| block.language != "console") {
            let typed = block.lines.iter().find(|line| line.trim_start().starts_with("certkit "));
            assert!(typed.is_none(), "{}: in no console: {typed:?}", page.name);
        }
    }
}

#[test]
fn every_command_in_running_text_has_the_options_it_names() {
    let mut known = 0;
    for page in pages() {
        for span in spans(&page.prose()).iter().filter(|span| span.starts_with("certkit ")) {
            let is_featured = FEATURED.iter().any(|command| span.starts_with(command));
            if NO_COMMANDS.iter().any(|(text, _)| text == span) || is_featured {
                continue;
            }
            let typed = span.replace("\\|", "|");
            let end = typed.find(['|', ';', '>']).unwrap_or(typed.len());
            let words = typed[..end].split(" && ").next().unwrap_or_default();
            let words = shlex::split(words).unwrap_or_else(|| panic!("{}: {span}", page.name));
            let words = words.into_iter().filter(|word| word != "...");
            if let Err(error) = certkit::cli::command().try_get_matches_from(words) {
                // What is left out, or stands for a value, is for the reader to fill in.
                let is_wrong = matches!(
                    error.kind(),
                    ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
                );
                assert!(!is_wrong, "{}: `{span}`: {error}", page.name);
            }
            known += 1;
        }
    }
    assert!(known > 120, "{known}");
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_in_the_index() {
    let mut all = pages();
    for name in ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"] {
        all.push(Page::read(name));
    }
    let mut count = 0;
    for page in &all {
        let folder = Path::new(&page.name).parent().expect("a file").to_owned();
        for link in page.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => Path::new(&page.name).to_owned(),
                file => folder.join(file),
            };
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&target);
            assert!(path.exists(), "{}: {link}", page.name);
            if !anchor.is_empty() {
                let file = path.canonicalize().expect("there");
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().expect("there");
                let named = file.strip_prefix(root).expect("in the project").display().to_string();
                let anchors = Page::read(&named).anchors();
                assert!(anchors.iter().any(|one| one == anchor), "{}: {link}", page.name);
            }
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
    let index = Page::read("docs/README.md").links();
    for page in pages().iter().filter(|page| page.name != "docs/README.md") {
        let name = page.name.trim_start_matches("docs/");
        let is_linked = index.iter().any(|link| link == name) || page.name == "README.md";
        assert!(is_linked, "{} is not in the index", page.name);
    }
}

#[test]
fn every_page_says_first_what_it_is_for() {
    for page in pages() {
        let first = page.introduction();
        let is_prose = first.starts_with(|c: char| c.is_alphabetic() || c == '`');
        assert!(is_prose && first.len() > 60, "{}: {first}", page.name);
    }
}

/// Each way in which a page can be wrong is seen.
#[test]
fn faults_are_found() {
    let page = Page {
        name: "docs/none.md".into(),
        text: "# None\n\nText with `certkit rotate --such`\nand a [link](#no-where).\n\n\
               ```console\n# certkit nothing\nits output\n```\n\n## A `code` heading, here\n\n\
               | a | `x \\| y` | `certkit show x \\| y` |\n"
            .into(),
    };
    assert_eq!(page.commands(false), ["certkit nothing"]);
    assert_eq!(page.commands(true), ["certkit nothing", "certkit show x | y"]);
    assert_eq!(page.links(), ["#no-where"]);
    assert_eq!(page.anchors(), ["none", "a-code-heading-here"]);
    assert_eq!(page.introduction().lines().count(), 2);
    let found: BTreeSet<String> = spans(&page.prose()).into_iter().collect();
    assert!(found.contains("certkit rotate --such"), "{found:?}");
    let words = ["certkit", "rotate", "--such"];
    let error = certkit::cli::command().try_get_matches_from(words).expect_err("no such option");
    assert_eq!(error.kind(), ErrorKind::UnknownArgument);
}
