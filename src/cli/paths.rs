//! `certkit paths`.

mod diagram;
mod html;

use std::fmt::Write as _;

use clap::ValueEnum;

use super::{
    Exit, Failure, Global,
    output::{
        self,
        grid::{Column, wrap},
    },
    print,
};
use crate::{
    model::talk::{self, EndShown, Talk, Trusted},
    ops::declared,
};

/// Print every way the cluster talks: who, with which certificate, trusting whom, by which flags
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct PathsArgs {
    /// How to print
    #[arg(short = 'o', long = "format", visible_alias = "output", value_name = "FORMAT")]
    #[arg(default_value = "table")]
    format: Format,
}

/// Output formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For a terminal, as wide as it is
    Table,
    /// The same with every column
    Wide,
    /// One document
    Json,
    /// The same document
    Yaml,
    /// A diagram for Markdown pages
    Mermaid,
    /// A diagram for Graphviz
    Dot,
    /// A page that needs nothing but itself
    Html,
}

const HELP: &str = "\
The paths are those of the cluster that DIR/certkit.yaml declares, with its names and addresses; where
there is none, those of any cluster. What certificates cannot protect is listed too, with what does.
`certkit verify` proves the paths for the files at hand.

EXIT CODES:
  0   printed
  3   DIR/certkit.yaml cannot be read
  64  the command line was wrong

EXAMPLES:
  certkit paths
  certkit --dir ./pki paths --format mermaid
  certkit paths --format dot | dot -Tsvg > paths.svg
  certkit paths --format html > paths.html";

/// Runs the command.
pub fn run(args: &PathsArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let cluster = declared::find(&dir)?;
    let talks = talk::talks(cluster.as_ref());
    let name = cluster.as_ref().map(|c| c.name.as_str());
    print(match args.format {
        Format::Dot => diagram::dot(&talks),
        Format::Html => html::page(&talks, name),
        Format::Json => json(&talks, name),
        Format::Yaml => super::document(json(&talks, name), super::Format::Yaml)?,
        Format::Mermaid => diagram::mermaid(&talks),
        Format::Table => table(&talks, false),
        Format::Wide => table(&talks, true),
    })?;
    Ok(Exit::Done)
}

/// Three tables: the paths, the settings behind them, and what certificates cannot protect.
fn table(talks: &[Talk], wide: bool) -> String {
    let columns = [
        Column::new("FROM").least(14),
        Column::new("TO").least(12),
        Column::new("PORT"),
        Column::new("CLIENT SHOWS").least(14).rank(1),
        Column::new("SERVER SHOWS").least(14).rank(2),
        Column::new("KNOWN AS").least(12).rank(6),
        Column::new("CLIENT TRUSTS").rank(5),
        Column::new("SERVER TRUSTS").rank(4),
        Column::new("PROTECTED BY").least(12).rank(3),
    ];
    let rows = talks.iter().map(|talk| {
        vec![
            talk.from.to_owned(),
            talk.to.to_owned(),
            talk.port.clone(),
            talk.client.what.to_owned(),
            talk.server.what.to_owned(),
            known_as(talk),
            trust(talk.client_trusts.as_ref()),
            trust(talk.server_trusts.as_ref()),
            talk.protection.to_owned(),
        ]
    });
    let mut text = output::table(&columns, &rows.collect::<Vec<_>>(), wide);
    let settings = talks.iter().filter(|t| !t.settings.is_empty()).flat_map(|talk| {
        talk.settings.iter().enumerate().map(|(n, told)| {
            vec![
                if n == 0 { talk.id.to_owned() } else { String::new() },
                told.component.to_owned(),
                told.setting.clone(),
                told.value.clone().unwrap_or_default(),
            ]
        })
    });
    text.push('\n');
    let columns = [
        Column::new("PATH").least(16),
        Column::new("COMPONENT").least(10),
        Column::new("SETTING").least(24),
        Column::new("SET TO").least(12).rank(1).keeps_end(),
    ];
    text += &output::table(&columns, &settings.collect::<Vec<_>>(), wide);
    let limit = output::limit().filter(|_| !wide);
    let open = talks.iter().filter(|t| t.remedy.is_some());
    for talk in open {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{} to {}: {}", talk.from, talk.to, talk.protection);
        if let Some(why) = talk.why {
            let _ = writeln!(text, "{}", wrap(&format!("  why:    {why}"), limit, 10));
        }
        let remedy = format!("  remedy: {}", talk.remedy.unwrap_or_default());
        let _ = writeln!(text, "{}", wrap(&remedy, limit, 10));
    }
    text
}

fn known_as(talk: &Talk) -> String {
    match talk.names.as_slice() {
        [] => "-".into(),
        // A fleet's addresses are in the JSON.
        [first, _, _, rest @ ..] => format!("{first} and {} more", rest.len() + 2),
        names => names.join(", "),
    }
}

fn trust(trusted: Option<&Trusted>) -> String {
    trusted.map_or_else(|| "-".to_owned(), |trusted| trusted.authority.to_string())
}

fn json(talks: &[Talk], cluster: Option<&str>) -> String {
    let shown = |shown: &EndShown| {
        serde_json::json!({
            "shows": shown.what,
            "certificate": shown.is_certificate.then_some(shown.what),
            "file": shown.file,
        })
    };
    let trusted = |trusted: &Option<Trusted>| match trusted {
        Some(trusted) => serde_json::json!({"ca": trusted.authority.name(), "file": trusted.file}),
        None => serde_json::Value::Null,
    };
    let items: Vec<_> = talks
        .iter()
        .map(|talk| {
            let settings: Vec<_> = talk
                .settings
                .iter()
                .map(|told| {
                    serde_json::json!({
                        "component": told.component,
                        "setting": told.setting,
                        "value": told.value,
                    })
                })
                .collect();
            serde_json::json!({
                "id": talk.id,
                "from": talk.from,
                "to": talk.to,
                "port": talk.port,
                "client": shown(&talk.client),
                "server": shown(&talk.server),
                "names": talk.names,
                "clientTrusts": trusted(&talk.client_trusts),
                "serverTrusts": trusted(&talk.server_trusts),
                "settings": settings,
                "protection": talk.protection,
                "why": talk.why,
                "remedy": talk.remedy,
                "breaks": talk.breaks,
            })
        })
        .collect();
    let document = serde_json::json!({
        "apiVersion": "certkit/v1",
        "kind": "PathList",
        "cluster": cluster,
        "items": items,
    });
    format!("{document:#}\n")
}
