//! `certkit init`.

mod report;

use std::{collections::HashSet, net::IpAddr, path::PathBuf, time::Duration};

use clap::{ValueEnum, builder::PossibleValuesParser};

use super::{
    Exit, Failure, Format, Global,
    changing::RehearsalArgs,
    password,
    rotate::report::complain_of_parts,
    telling::{Telling, Wanted},
    watch, when,
};
use crate::{
    model::{
        algorithm::KeyAlgorithm,
        catalogue::{addons, roles},
        cluster::{Cluster, Endpoint, HostName, HostNameError, KubeconfigStyle, Subnet},
        duration::Span,
        san::San,
    },
    ops::{
        adopt, change,
        declared::{self, Draft, HostDraft},
        init, machine, owner,
        settled::Settled,
        takeup,
    },
};

/// Create the certificates, keys, kubeconfigs of a cluster, or complete those that are there
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct InitArgs {
    /// The cluster, as certkit.yaml or kubeadm's YAML; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The cluster's name, as kubeconfigs call it [default: kubernetes]
    #[arg(long)]
    name: Option<String>,
    /// Where clients reach the API [default: the first host's address, port 6443]
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<Endpoint>,
    /// A control-plane host and its addresses; repeat for more [default: this machine]
    #[arg(long = "host", value_name = "NAME=IP[,IP...]", value_parser = host)]
    hosts: Vec<HostDraft>,
    /// A further name or address of the API server; repeat for more
    #[arg(long = "san", value_name = "NAME", value_parser = San::parse, value_delimiter = ',')]
    sans: Vec<San>,
    /// The subnet of services [default: 10.96.0.0/12]
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',')]
    service_subnet: Vec<Subnet>,
    /// The domain of services [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    dns_domain: Option<String>,
    /// The algorithm of new keys [default: ecdsa-p256]
    #[arg(long, value_name = "ALGORITHM")]
    key_algorithm: Option<KeyAlgorithm>,
    /// How long CAs are valid [default: 10y]
    #[arg(long, value_name = "DURATION")]
    ca_validity: Option<Span>,
    /// How long everything else is valid [default: 1y]
    #[arg(long, value_name = "DURATION")]
    validity: Option<Span>,
    /// Whether kubeconfigs of components name their credentials' files, which are read again when they
    /// change, or embed them as kubeadm's do [default: files]
    #[arg(long, value_name = "STYLE")]
    kubeconfig_style: Option<Style>,
    /// Put one root over the CAs; its key can then be taken offline
    #[arg(long)]
    single_root: bool,
    /// Make DIR an operator's workspace, with a folder for each host; more than one host at the first
    /// init makes it one too
    #[arg(long)]
    workspace: bool,
    /// Where the hosts keep the tree [default: DIR for one host, else /etc/kubernetes]
    #[arg(long, value_name = "PATH")]
    host_dir: Option<String>,
    /// Certificates for an addon; repeat for more
    #[arg(long = "addon", value_name = "ADDON", value_delimiter = ',')]
    #[arg(value_parser = PossibleValuesParser::new(addons()))]
    addons: Vec<String>,
    /// Encrypt the keys of CAs that no component reads; the same as giving a password, which is otherwise
    /// asked for on the terminal
    #[arg(long)]
    encrypt_ca_keys: bool,
    /// Write certkit.yaml for a PKI that something else made, once it is proven that nothing in place
    /// differs from it; the PKI itself stays as it is
    #[arg(long, conflicts_with_all = ["config", "name", "endpoint", "hosts", "sans", "service_subnet",
        "dns_domain", "key_algorithm", "ca_validity", "validity", "kubeconfig_style", "single_root",
        "workspace", "host_dir", "addons", "encrypt_ca_keys"])]
    adopt: bool,
    #[command(flatten)]
    rehearsal: RehearsalArgs,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Kubeconfig styles.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Style {
    Files,
    Embedded,
}

const HELP: &str = "\
Without arguments this machine becomes a control plane of one host with etcd beside it. Pieces that are
there and right are kept, missing ones are made; pieces that contradict each other are an error, and
nothing is written. A CA of your own is used when its certificate and key are in place; with its
certificate alone, certificate requests are written to DIR/csr instead of certificates.

With a password (--ca-key-password-file, CERTKIT_CA_KEY_PASSWORD) the keys of new CAs are encrypted
(PKCS#8, scrypt, AES-256), but for those that a component reads, as none can open them: the cluster CA's,
with which kube-controller-manager signs. With --single-root the root's key is encrypted.

EXIT CODES:
  0   done, or nothing was to do
  3   certkit could not do it; nothing was changed
  4   partly done: a node that cannot be made is named, all else is made; or all is made, but could not be
      told; or it is decided and not finished: run it again
  64  the command line was wrong

EXAMPLES:
  certkit init
  certkit init --dir ./pki --name prod --host cp1=10.0.0.11 --endpoint api.example.com:6443
  certkit init --config cluster.yaml --dry-run
  certkit init --single-root --encrypt-ca-keys
  certkit init --adopt
  kubeadm config print init-defaults | certkit init --config -";

/// A host as it is said on the command line.
pub fn host(text: &str) -> Result<HostDraft, String> {
    let (name, addresses) = text.split_once('=').ok_or("write it as NAME=IP[,IP...]")?;
    Ok(HostDraft {
        name: Some(name.parse().map_err(|e: HostNameError| e.to_string())?),
        addresses: addresses
            .split(',')
            .map(|a| a.parse().map_err(|_| format!("`{}` is no IP address", a.escape_default())))
            .collect::<Result<_, _>>()?,
        port: None,
        ssh: None,
    })
}

/// Runs the command.
pub fn run(args: &InitArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    if args.adopt {
        return take_over(args, global, &dir);
    }
    told_twice(&args.hosts, "--host ")?;
    let now = when(args.rehearsal.at)?;
    let settled = match args.is_plain() && !global.verbose {
        true => Settled::look(&dir, "init", now),
        false => None,
    };
    let mut telling = telling(args.rehearsal.dry_run, args.output, global);
    if settled.as_ref().is_some_and(|settled| settled.known().is_some()) {
        return tell(&telling, &dir, args.output, global);
    }
    let cluster = cluster(args, &dir)?;
    let passwords = match args.encrypt_ca_keys {
        true => password::new_password(global)?,
        false => password::passwords(global)?,
    };
    let change = change::Request {
        dry_run: args.rehearsal.dry_run,
        ..change::Request::new(&dir, "init", now, &passwords)
    };
    let work = watch::ChangingWork { dir: &dir, dry_run: args.rehearsal.dry_run, hooks: false };
    telling.shortfall = watch::changing(global, work, || {
        init::run(&cluster, &change, |report, _| add(&mut telling, report, &dir))
    })?;
    if let (Some(settled), Some(until)) = (settled, telling.is_settled_until()) {
        settled.keep(until, None);
    }
    tell(&telling, &dir, args.output, global)
}

impl InitArgs {
    /// Whether it says nothing of the cluster, and asks for no more than whether there is anything to do.
    fn is_plain(&self) -> bool {
        let mut draft = Draft::default();
        overlay(&mut draft, self);
        draft == Draft::default()
            && self.config.is_none()
            && !self.rehearsal.dry_run
            && !self.encrypt_ca_keys
            && self.output == Format::Table
    }
}

/// What is told, and of what nothing is known yet.
pub fn telling(dry_run: bool, output: Format, global: &Global) -> Telling {
    Telling::new(report::WORDS, Wanted::of(output, dry_run, global.verbose, report::LIMIT), dry_run)
}

/// Adds what was made, and who has to take up what an earlier run left.
pub fn add(telling: &mut Telling, report: change::Report, dir: &std::path::Path) {
    let owed = report.owed();
    let outcomes = takeup::run(&report.to_take_up(dir, &owed));
    telling.add(report, outcomes);
}

/// Says what was made.
pub fn tell(
    telling: &Telling,
    dir: &std::path::Path,
    output: Format,
    global: &Global,
) -> Result<Exit, Failure> {
    if let Some(recovered) = &telling.recovered {
        global.note(recovered);
    }
    telling.warnings.iter().for_each(super::warn);
    complain_of_parts(&telling.shortfall);
    let text = match output {
        Format::Json | Format::Yaml => super::document(report::json(telling), output),
        Format::Table | Format::Wide if global.quiet => Ok(String::new()),
        Format::Table | Format::Wide => Ok(report::table(telling, dir, output.is_wide())),
    };
    let exit = if telling.shortfall.failed.is_empty() { Exit::Done } else { Exit::Partly };
    let told = super::tell(!telling.dry_run && telling.changes, exit, text);
    // What an earlier run owes and nobody was told of is left to the next.
    if !global.quiet || telling.outcomes.is_empty() {
        telling.settle();
    }
    told
}

/// Declares what is there.
fn take_over(args: &InitArgs, global: &Global, dir: &std::path::Path) -> Result<Exit, Failure> {
    let request = adopt::Request {
        dir,
        dry_run: args.rehearsal.dry_run,
        now: when(args.rehearsal.at)?,
        lock_wait: Duration::from_secs(10),
    };
    let report = match adopt::run(&request) {
        Ok(report) => report,
        Err(error) => return Err(not_adopted(args, error)),
    };
    let file = dir.join(declared::FILE);
    let text = match args.output {
        Format::Json | Format::Yaml => {
            let document = serde_json::json!({
                "apiVersion": "certkit/v1",
                "kind": "AdoptReport",
                "dryRun": args.rehearsal.dry_run,
                "file": file,
                "declaration": report.text,
                "absent": report.cluster.absent,
                "differences": [],
                "left": report::differences_json(&report.left),
            });
            super::document(format!("{document:#}\n"), args.output)
        }
        Format::Table | Format::Wide if global.quiet => return Ok(Exit::Done),
        Format::Table | Format::Wide if args.rehearsal.dry_run => {
            // What is printed can be written to a file.
            for one in &report.left {
                let (file, field) = (one.file.display(), &one.field);
                global.note(format!("{file}: {field}: {}: {}", one.found, one.remedy));
            }
            Ok(report.text.clone())
        }
        Format::Table | Format::Wide => Ok(format!(
            "{}: written; nothing in place differs from it\n\n{}{}\nnext:\n  look it through: certkit \
             renews by it from now on\n  certkit --dir {} rotate --dry-run\n",
            file.display(),
            report.text,
            match report.left.is_empty() {
                true => String::new(),
                false => format!(
                    "\nwhat it does not hold:\n\n{}",
                    report::differences_table(&report.left, true)
                ),
            },
            dir.display()
        )),
    };
    super::tell(!args.rehearsal.dry_run, Exit::Done, text)
}

/// Says field by field what stands against a declaration: in the error, and as data where that is wanted.
fn not_adopted(args: &InitArgs, error: adopt::Error) -> Failure {
    let adopt::Error::Differs { dir, differences } = &error else { return error.into() };
    let document = serde_json::json!({
        "apiVersion": "certkit/v1",
        "kind": "AdoptReport",
        "dryRun": args.rehearsal.dry_run,
        "file": dir.join(declared::FILE),
        "declaration": null,
        "differences": report::differences_json(differences),
    });
    let text = match args.output {
        Format::Json | Format::Yaml => super::document(format!("{document:#}\n"), args.output),
        Format::Table | Format::Wide => Ok(String::new()),
    };
    if let Err(failure) = text.and_then(|text| Ok(super::print(text)?)) {
        return failure;
    }
    let table = report::differences_table(differences, true);
    Failure::new(format!("{error}:\n\n{table}")).hint(error.hint())
}

/// The cluster asked for: a file's, else what DIR declares, else nothing; and the flags over it.
fn cluster(args: &InitArgs, dir: &std::path::Path) -> Result<Cluster, Failure> {
    let (mut draft, source) = declared::draft(dir, args.config.as_deref())?;
    overlay(&mut draft, args);
    if draft.control_plane.is_empty() {
        draft.control_plane.push(HostDraft::default());
    }
    // As with kubeadm, what is not said of the first host is this machine's.
    let first = &mut draft.control_plane[0];
    if first.name.is_none() {
        first.name = Some(this_name()?);
    }
    if first.addresses.is_empty() {
        first.addresses.push(this_address()?);
    }
    let places = draft.places.clone();
    let cluster = declared::complete(dir, draft, &source)?;
    declared::know_owners(&owner::unknown(&cluster), &places, &source)?;
    Ok(cluster)
}

/// What two of them say of the same host. `option` is what stands before each.
pub fn told_twice(hosts: &[HostDraft], option: &str) -> Result<(), Failure> {
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    for host in hosts {
        let name = host.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let wrong = |what: String| {
            let hint = format!("say each host once, with all its addresses: {option}NAME=IP,IP");
            Err(Failure::usage(format!("{option}{name}: {what}")).hint(Some(hint)))
        };
        if !names.insert(&host.name) {
            return wrong("is named twice".into());
        }
        for ip in &host.addresses {
            if !addresses.insert(ip) {
                return wrong(format!("{ip} is given twice"));
            }
        }
    }
    Ok(())
}

fn overlay(draft: &mut Draft, args: &InitArgs) {
    fn set<T: Clone>(field: &mut Option<T>, given: &Option<T>) {
        if given.is_some() {
            field.clone_from(given);
        }
    }
    set(&mut draft.name, &args.name);
    set(&mut draft.endpoint, &args.endpoint);
    set(&mut draft.dns_domain, &args.dns_domain);
    set(&mut draft.key_algorithm, &args.key_algorithm);
    set(&mut draft.ca_validity, &args.ca_validity);
    set(&mut draft.leaf_validity, &args.validity);
    set(&mut draft.host_dir, &args.host_dir);
    set(
        &mut draft.kubeconfig_style,
        &args.kubeconfig_style.map(|style| match style {
            Style::Files => KubeconfigStyle::Files,
            Style::Embedded => KubeconfigStyle::Embedded,
        }),
    );
    if args.workspace {
        draft.workspace = Some(true);
    }
    if args.single_root {
        draft.single_root = Some(true);
    }
    if !args.hosts.is_empty() {
        // The flag cannot say a port, and so leaves what a file says of one.
        let port = draft.control_plane.first().and_then(|host| host.port);
        draft.control_plane.clone_from(&args.hosts);
        draft.control_plane[0].port = port;
    }
    if !args.service_subnet.is_empty() {
        draft.service_subnets = Some(args.service_subnet.clone());
    }
    for addon in &args.addons {
        if !draft.addons.contains(addon) {
            draft.addons.push(addon.clone());
        }
    }
    if !args.sans.is_empty() {
        let sans = draft.extra_sans.entry(roles::API_SERVING.id.to_string()).or_default();
        for san in &args.sans {
            if !sans.contains(san) {
                sans.push(san.clone());
            }
        }
    }
}

const NAME_IT: Option<&str> = Some("name the host yourself: --host NAME=IP");

/// This machine's name, if it can be a node's.
fn this_name() -> Result<HostName, Failure> {
    machine::name().parse().map_err(|error: HostNameError| Failure::new(error).hint(NAME_IT))
}

/// The address from which this machine reaches others.
fn this_address() -> Result<IpAddr, Failure> {
    machine::address().ok_or_else(|| {
        let what = "this machine has no default route, so its main address is unknown";
        Failure::new(what).hint(NAME_IT)
    })
}
