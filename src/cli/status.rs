//! `certkit status`.

use serde_json::{Value, json};

use super::{
    Exit, Failure, Format, Global,
    output::{self, grid::Column},
    words::here,
};
use crate::ops::status::{self, HostStatus};

/// Show what each host has, serves and still needs, as `certkit deploy` last saw it
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct StatusArgs {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
Nobody is asked: this compares what is here with what each host had when `certkit deploy` was last there, with or
without --check. Where that was long ago, `certkit deploy --check` looks again.

EXIT CODES:
  0   every host has what is here, and has read it
  1   a host has not, or was never reached
  3   certkit could not do it
  64  the command line was wrong

EXAMPLES:
  certkit status
  certkit deploy --check -q; certkit status -o wide";

/// Runs the command.
pub fn run(args: &StatusArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let hosts = status::status(&dir)?;
    let exit = match hosts.iter().all(HostStatus::is_settled) {
        true => Exit::Done,
        false => Exit::Warning,
    };
    match args.output {
        Format::Json | Format::Yaml => super::print(super::document(json(&hosts), args.output)?)?,
        Format::Table | Format::Wide if global.quiet && exit == Exit::Done => {}
        Format::Table | Format::Wide => {
            super::print(table(&hosts, args.output.is_wide()))?;
            if exit != Exit::Done {
                super::hint(here("certkit deploy --changed", &dir));
            }
        }
    }
    Ok(exit)
}

const COLUMNS: [Column; 7] = [
    Column::new("HOST").least(12),
    Column::new("STATE").least(12),
    Column::new("SEEN").rank(2),
    Column::new("BEHIND").least(12).rank(3),
    Column::new("TO RESTART").least(12).rank(1),
    Column::new("OWN UNTIL").rank(5),
    Column::new("SERVES").least(12).rank(6),
];

fn table(hosts: &[HostStatus], wide: bool) -> String {
    if hosts.is_empty() {
        return "no host has its files from here\n".to_owned();
    }
    let row = |one: &HostStatus| {
        let behind = match (one.behind.len(), one.known.is_some()) {
            (0, _) | (_, false) => "-".to_owned(),
            (1, _) => one.behind[0].clone(),
            (count, _) => format!("{count} files"),
        };
        let of = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or("-".into());
        let known = one.known.as_ref();
        vec![
            one.host.clone(),
            one.state().to_owned(),
            of(known.map(|known| known.seen.clone())),
            behind,
            of(known.map(|known| known.awaiting.join(", "))),
            of(one.own_end.map(|end| end.to_string())),
            of(known.map(|known| known.serves.join(", "))),
        ]
    };
    let rows: Vec<Vec<String>> = hosts.iter().map(row).collect();
    let mut text = output::table(&COLUMNS, &rows, wide);
    for one in hosts {
        if let Some(fault) = one.known.as_ref().and_then(|known| known.error.as_ref()) {
            text.push_str(&format!("\n{}: {}\n", one.host, fault.message));
        }
    }
    text
}

fn json(hosts: &[HostStatus]) -> String {
    let hosts: Vec<Value> = hosts
        .iter()
        .map(|one| {
            let known = one.known.as_ref();
            json!({
                "host": one.host,
                "roles": one.roles,
                "state": one.state(),
                "seen": known.map(|known| known.seen.as_str()).filter(|seen| !seen.is_empty()),
                "tried": known.map(|known| known.tried.as_str()),
                "behind": one.behind,
                "awaitingRestart": known.map(|known| known.awaiting.clone()).unwrap_or_default(),
                "serves": known.map(|known| known.serves.clone()).unwrap_or_default(),
                "own": known.map(|known| known.own.clone()).unwrap_or_default(),
                "error": known.and_then(|known| known.error.clone()),
            })
        })
        .collect();
    let document = json!({"apiVersion": "certkit/v1", "kind": "FleetStatus", "hosts": hosts});
    format!("{document:#}\n")
}
