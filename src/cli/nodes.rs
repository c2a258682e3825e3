//! `certkit nodes`.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::json;

use super::{
    Exit, Failure, Format, Global,
    changing::{BackupArgs, LockArgs},
    completions, init,
    output::{self, grid::Column},
    password, prune, watch, when,
};
use crate::{
    model::cluster::{Host, HostName},
    ops::{
        change,
        declared::{self, HostDraft},
        init as making, prune as pruning,
    },
};

/// Add nodes to certkit.yaml and make their certificates, take nodes out, or list the hosts
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct NodesArgs {
    #[command(subcommand)]
    command: NodesCommand,
}

#[derive(Debug, clap::Subcommand)]
enum NodesCommand {
    Add(AddArgs),
    Remove(RemoveArgs),
    List(ListArgs),
}

/// Add nodes and make what they need
#[derive(Debug, clap::Args)]
#[command(after_long_help = ADD)]
#[command(group(clap::ArgGroup::new("machines").args(["nodes", "from"]).required(true).multiple(true)))]
pub struct AddArgs {
    /// A node and its addresses
    #[arg(value_name = "NAME=IP[,IP...]", value_parser = init::host)]
    nodes: Vec<HostDraft>,
    /// A list of machines: CSV, YAML, `kubectl get nodes -o json`, an Ansible inventory; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// The file that they go into, where certkit.yaml includes several [default: the last one]
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// How many backups to keep [default: all]
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    backups: usize,
    #[command(flatten)]
    change: Change,
}

/// Take nodes out and remove their files
#[derive(Debug, clap::Args)]
#[command(after_long_help = REMOVE)]
pub struct RemoveArgs {
    /// A node
    #[arg(value_name = "NAME", required = true, add = completions::hosts())]
    nodes: Vec<HostName>,
    #[command(flatten)]
    kept: BackupArgs,
    #[command(flatten)]
    change: Change,
}

/// List the hosts of the cluster
#[derive(Debug, clap::Args)]
#[command(after_long_help = LIST)]
pub struct ListArgs {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// How a change is made.
#[derive(Debug, clap::Args)]
struct Change {
    #[command(flatten)]
    lock: LockArgs,
    /// Print what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
certkit.yaml is edited in place: comments, order and everything else in it stay as they are. Nodes are hosts that run
a kubelet and nothing of the control plane.

EXIT CODES:
  0   done, or nothing was to do
  3   certkit could not do it; nothing was changed
  4   partly done: a node that cannot be made is named, all else is made; or all is made, but could not be
      told; or it is decided and not finished: run it again
  64  the command line was wrong

EXAMPLES:
  certkit nodes add worker-1=10.0.1.1 worker-2=10.0.1.2
  kubectl get nodes -o json | certkit nodes add --from -
  ansible-inventory --list | certkit nodes add --from -
  certkit nodes remove worker-1
  certkit nodes list";

const ADD: &str = "\
Nodes that are there already are left as they are; one that is there at other addresses is an error. What else is
missing of the cluster is made too, as by `certkit init`.

Where certkit.yaml includes files (`nodes: {include: nodes/*.yaml}`) they go into the last one, or --into another.

A list of machines is one of: NAME,IP[,IP...] a line (CSV); YAML or JSON with {name, addresses}; Kubernetes' Nodes, of
which the internal addresses are taken; Ansible's inventories in INI or YAML, or as `ansible-inventory --list` prints
them, of which `ip` is taken (as Kubespray has it), else ansible_host.

EXIT CODES:
  0   done, or nothing was to do
  3   certkit could not do it; nothing was changed
  4   partly done: a node that cannot be made is named, all else is made; or all is made, but could not be
      told; or it is decided and not finished: run it again
  64  the command line was wrong

EXAMPLES:
  certkit nodes add worker-1=10.0.1.1,fd00::1 --dry-run
  certkit nodes add --from inventory.ini";

const REMOVE: &str = "\
A node is taken out of the file in which it stands. What is removed is kept in a backup. Kubernetes revokes no certificate: those that the node has stay valid until they
end, so delete its Node object too, and what it may do with it (`kubectl delete node NAME`).

EXIT CODES:
  0   done
  3   certkit could not do it; nothing was changed
  4   partly done: a node whose files could not be removed is named; or all is done, and could not be told
  64  the command line was wrong

EXAMPLES:
  certkit nodes remove worker-1 --dry-run";

const LIST: &str = "\
EXIT CODES:
  0   done
  3   certkit.yaml cannot be read
  64  the command line was wrong

EXAMPLES:
  certkit nodes list -o json";

/// Runs the command.
pub fn run(args: &NodesArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    match &args.command {
        NodesCommand::Add(args) => add(args, global, &dir),
        NodesCommand::Remove(args) => remove(args, global, &dir),
        NodesCommand::List(args) => list(args, &dir),
    }
}

fn add(args: &AddArgs, global: &Global, dir: &std::path::Path) -> Result<Exit, Failure> {
    let mut nodes = args.nodes.clone();
    for file in &args.from {
        nodes.extend(declared::inventory(file)?);
    }
    init::told_twice(&nodes, "")?;
    let Change { ref lock, dry_run, output } = args.change;
    let passwords = password::passwords(global)?;
    let change = change::Request {
        dry_run,
        lock_wait: lock.timeout,
        backups: args.backups,
        ..change::Request::new(dir, "nodes add", when(None)?, &passwords)
    };
    let work = watch::ChangingWork { dir, dry_run, hooks: false };
    let mut telling = init::telling(dry_run, output, global);
    telling.shortfall = watch::changing(global, work, || {
        let told = |report, _| init::add(&mut telling, report, dir);
        making::with_nodes(&nodes, args.into.as_deref(), &change, told)
    })?;
    init::tell(&telling, dir, output, global)
}

fn remove(args: &RemoveArgs, global: &Global, dir: &std::path::Path) -> Result<Exit, Failure> {
    let Change { ref lock, dry_run, output } = args.change;
    let request = pruning::Request {
        dir,
        dry_run,
        now: when(None)?,
        lock_wait: lock.timeout,
        backups: args.kept.backups,
    };
    let gone: BTreeSet<HostName> = args.nodes.iter().cloned().collect();
    let work = watch::ChangingWork { dir, dry_run, hooks: false };
    let report = watch::changing(global, work, || pruning::nodes(&request, &gone))?;
    prune::tell(&report, dir, dry_run, output, global)
}

fn list(args: &ListArgs, dir: &std::path::Path) -> Result<Exit, Failure> {
    let cluster = declared::load(dir)?;
    let text = match args.output {
        Format::Json | Format::Yaml => {
            let hosts: Vec<_> = cluster
                .hosts
                .iter()
                .map(|host| {
                    json!({
                        "name": host.name.as_ref(),
                        "addresses": host.addresses,
                        "roles": roles(host),
                    })
                })
                .collect();
            let document = json!({"apiVersion": "certkit/v1", "kind": "HostList", "hosts": hosts});
            super::document(format!("{document:#}\n"), args.output)?
        }
        Format::Table | Format::Wide => {
            let row = |host: &Host| {
                let addresses: Vec<String> =
                    host.addresses.iter().map(ToString::to_string).collect();
                vec![host.name.to_string(), roles(host).join(", "), addresses.join(", ")]
            };
            let rows: Vec<_> = cluster.hosts.iter().map(row).collect();
            let columns = [
                Column::new("NAME").least(16),
                Column::new("ROLES").least(12),
                Column::new("ADDRESSES").least(16).rank(1),
            ];
            output::table(&columns, &rows, args.output.is_wide())
        }
    };
    super::tell(false, Exit::Done, Ok(text))
}

/// What runs on a host, in words.
fn roles(host: &Host) -> Vec<&'static str> {
    let all =
        [(host.control_plane, "control plane"), (host.etcd, "etcd member"), (host.node, "node")];
    all.into_iter().filter(|(is, _)| *is).map(|(_, role)| role).collect()
}
