//! `certkit receive`.

use std::{io, time::Duration};

use serde_json::Value;

use super::{
    Exit, Failure, Format, Global,
    changing::{BackupArgs, LockArgs},
    limit,
    rotate::{Restart, ways},
    when,
};
use crate::{
    model::shown::with_causes,
    ops::{
        delivery::{Complaint, FileState, Receipt},
        receive,
    },
};

/// Take in what `certkit deploy` brings to this host, on standard input
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct ReceiveArgs {
    /// Only compare what is brought with what is here, and change nothing
    #[arg(long)]
    check: bool,
    /// Only make the private keys that this host makes itself (`keys: host` in certkit.yaml), and answer with requests for
    /// their certificates
    #[arg(long, conflicts_with = "check")]
    csr: bool,
    /// Restart what takes a change up in no other way; several ways are tried in turn
    #[arg(long, value_name = "WAY", value_delimiter = ',', default_value = "none")]
    restart: Vec<Restart>,
    /// Run this for each component that uses something changed (environment: CERTKIT_COMPONENT,
    /// CERTKIT_FILES, CERTKIT_HOST)
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
    /// How long what was well before may take to be well again, and listeners to serve what is new
    #[arg(long, value_name = "LIMIT", default_value = "2m", value_parser = limit)]
    wait: Duration,
    /// Also take in what is for a machine of another name and addresses, and while etcd is not well
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    kept: BackupArgs,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
The far end of `certkit deploy`, which runs it on each host. Taken in is only what the catalogue puts on this
host, in one transaction; a delivery for another host, one that broke off, or one with anything else in it
changes nothing. With --csr nothing of it is taken in: keys that this host makes itself are made, where they are
not there, and wait for their certificates; their private halves stay here. Otherwise components are restarted where --restart says so, and it is waited until etcd and the
apiserver of this host are as well as they were.

EXIT CODES:
  0   all that was brought is in place, or was already
  1   with --check: something differs, or waits for a restart
  3   certkit could not do it; nothing was changed
  4   all is in place, and a restart or hook failed, or something is not well that was before
  64  the command line was wrong

EXAMPLES:
  certkit receive --check < delivery.tar
  certkit receive --csr < delivery.tar
  certkit receive --restart systemd --wait 5m < delivery.tar";

/// Runs the command.
pub fn run(args: &ReceiveArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let ways = ways(&args.restart);
    let request = receive::Request {
        dir: &dir,
        check: args.check,
        csr: args.csr,
        restart: &ways,
        hook: args.hook.as_deref(),
        wait: args.wait,
        force: args.force,
        now: when(None)?,
        lock_wait: args.lock.timeout,
        backups: args.kept.backups,
    };
    match receive::run(&request, io::stdin().lock()) {
        Ok(outcome) => {
            let receive::Taken { mut receipt, aftermath, error } = outcome;
            receipt.error = error.as_ref().map(fault);
            let told =
                super::tell(receipt.changed, exit(&receipt, args.check), text(&receipt, args));
            receipt.warnings.iter().for_each(super::warn);
            // Only once whoever sent it knows what is left to be done.
            if told.is_ok() {
                aftermath.settle();
            }
            match error {
                Some(error) => Err(Failure::from(error)),
                None => told,
            }
        }
        Err(error) => {
            // The sender reads the receipt; whoever looks on reads the error.
            if args.output != Format::Table {
                let receipt = Receipt { error: Some(fault(&error)), ..Receipt::new("") };
                super::print(text(&receipt, args)?)?;
            }
            Err(Failure::from(error))
        }
    }
}

fn fault(error: &receive::Error) -> Complaint {
    Complaint { message: with_causes(error), hint: error.hint() }
}

fn exit(receipt: &Receipt, check: bool) -> Exit {
    let differs = !receipt.differences.is_empty() || !receipt.awaiting.is_empty();
    if receipt.failures().next().is_some() {
        Exit::Partly
    } else if check && differs {
        Exit::Warning
    } else {
        Exit::Done
    }
}

fn text(receipt: &Receipt, args: &ReceiveArgs) -> Result<String, Failure> {
    match args.output {
        Format::Table | Format::Wide => Ok(table(receipt, args.check)),
        Format::Json | Format::Yaml => {
            let mut document = serde_json::Map::new();
            document.insert("apiVersion".into(), "certkit/v1".into());
            document.insert("kind".into(), "Receipt".into());
            if let Value::Object(fields) = serde_json::to_value(receipt).map_err(Failure::new)? {
                document.extend(fields);
            }
            // In one line: a shell on the way may say something before it.
            super::document(format!("{}\n", Value::Object(document)), args.output)
        }
    }
}

fn table(receipt: &Receipt, check: bool) -> String {
    let mut text = String::new();
    for one in &receipt.differences {
        let what = match (one.state, check) {
            (FileState::Leftover, true) => "would be removed",
            (FileState::Leftover, false) => "removed",
            (_, true) => "would be written",
            (_, false) => "written",
        };
        text.push_str(&format!("{}: {what}\n", one.path.display()));
    }
    for one in &receipt.uptake {
        let done = match (&one.restarted, one.needs_restart) {
            (Some(done), _) => done.clone(),
            (None, true) => "must be restarted".to_owned(),
            (None, false) => "takes it up by itself".to_owned(),
        };
        text.push_str(&format!("{}: {done}\n", one.component));
    }
    for one in &receipt.awaiting {
        text.push_str(&format!("{one}: runs with what it read before\n"));
    }
    for line in receipt.health.iter().map(String::as_str).chain(receipt.failures()) {
        text.push_str(&format!("{line}\n"));
    }
    for one in &receipt.keyless {
        text.push_str(&format!("{}: its key is not here\n", one.display()));
    }
    for one in &receipt.requests {
        text.push_str(&one.csr);
    }
    if text.is_empty() {
        text.push_str("all that was brought is here already\n");
    }
    text
}
