//! `certkit init`.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use clap::ValueEnum;

use super::{Exit, Failure, Global, output, print, when};
use crate::{
    document::{self, Draft, HostDraft},
    model::{
        algorithm::KeyAlgorithm,
        cluster::{Cluster, Endpoint, HostName, HostNameError, KubeconfigStyle, Subnet},
        duration::Span,
        inventory::Piece,
        plan::{Action, Plan, Reason},
        san::San,
    },
    ops::{declared, init, read},
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
    #[arg(long = "san", value_name = "NAME", value_parser = San::parse)]
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
    /// Where the hosts keep the tree [default: DIR for one host, else /etc/kubernetes]
    #[arg(long, value_name = "PATH")]
    host_dir: Option<String>,
    /// Certificates for an addon: kube-proxy, konnectivity, istio; repeat for more
    #[arg(long = "addon", value_name = "ADDON")]
    addons: Vec<String>,
    /// Print what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: plan as of this RFC 3339 time
    #[arg(long, value_name = "TIME", requires = "dry_run")]
    at: Option<crate::model::timestamp::Timestamp>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Output formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
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

EXIT CODES:
  0   done, or nothing was to do
  3   certkit could not do it; nothing was changed
  64  the command line was wrong

EXAMPLES:
  certkit init
  certkit init --dir ./pki --name prod --host cp1=10.0.0.11 --endpoint api.example.com:6443
  certkit init --config cluster.yaml --dry-run
  kubeadm config print init-defaults | certkit init --config -";

fn host(text: &str) -> Result<HostDraft, String> {
    let (name, addresses) = text.split_once('=').ok_or("write it as NAME=IP[,IP...]")?;
    Ok(HostDraft {
        name: Some(name.parse().map_err(|e: HostNameError| e.to_string())?),
        addresses: addresses
            .split(',')
            .map(|a| a.parse().map_err(|_| format!("`{}` is no IP address", a.escape_default())))
            .collect::<Result<_, _>>()?,
    })
}

/// Runs the command.
pub fn run(args: &InitArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let cluster = cluster(args, &dir)?;
    let report = init::run(init::Request {
        dir: &dir,
        cluster,
        dry_run: args.dry_run,
        now: when(args.at)?,
        lock_wait: Duration::from_secs(10),
    })
    .map_err(|error| {
        let hint = error.hint();
        Failure::new(error).hint(hint)
    })?;
    if let Some(recovered) = &report.recovered
        && !global.quiet
    {
        super::note(recovered)?;
    }
    match args.output {
        Format::Json => print(json(&report, args.dry_run))?,
        Format::Table if global.quiet => {}
        Format::Table => print(table(&report, &dir, args.dry_run, global.verbose))?,
    }
    Ok(Exit::Done)
}

/// The cluster asked for: a file's, else what DIR declares, else nothing; and the flags over it.
fn cluster(args: &InitArgs, dir: &std::path::Path) -> Result<Cluster, Failure> {
    let there = dir.join(declared::FILE);
    let (path, required) = match &args.config {
        Some(path) => (path.clone(), true),
        None => (there, false),
    };
    let file = path.display().to_string();
    let content = if path.as_os_str() == "-" {
        standard_input()?
    } else {
        match read::bounded(&path, document::LIMIT) {
            Piece::Present(content) => Some(content.to_vec()),
            Piece::Missing if !required => None,
            Piece::Missing => return Err(Failure::new(format!("{file}: there is no such file"))),
            Piece::Bad(why) => return Err(Failure::new(format!("{file}: {why}"))),
        }
    };
    let failure = |error: document::DocumentError| {
        let hint = error.hint();
        Failure::new(error).hint(hint)
    };
    let mut draft = match &content {
        Some(content) => document::read(content, &file).map_err(failure)?,
        None => Draft::default(),
    };
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
    let source = if content.is_some() { file.as_str() } else { "the command line" };
    draft.complete(source).map_err(failure)
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
    if args.single_root {
        draft.single_root = Some(true);
    }
    if !args.hosts.is_empty() {
        draft.control_plane.clone_from(&args.hosts);
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
        let sans = draft.extra_sans.entry("apiserver".into()).or_default();
        for san in &args.sans {
            if !sans.contains(san) {
                sans.push(san.clone());
            }
        }
    }
}

fn standard_input() -> Result<Option<Vec<u8>>, Failure> {
    use std::io::Read as _;
    let mut content = Vec::new();
    std::io::stdin().take(document::LIMIT + 1).read_to_end(&mut content)?;
    match content.len() as u64 > document::LIMIT {
        true => Err(Failure::new(format!("standard input is larger than {}", document::LIMIT))),
        false => Ok(Some(content)),
    }
}

const NAME_IT: Option<&str> = Some("name the host yourself: --host NAME=IP");

/// This machine's name, in lower case as kubeadm takes it.
fn this_name() -> Result<HostName, Failure> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().to_lowercase();
    name.parse().map_err(|error: HostNameError| Failure::new(error).hint(NAME_IT))
}

/// The address from which this machine reaches others.
fn this_address() -> Result<IpAddr, Failure> {
    // Connecting a UDP socket sends nothing; it only asks the kernel for the route's source address. The
    // targets are documentation addresses (RFC 5737, RFC 3849), which the default route stands for.
    let targets = [
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        (
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        ),
    ];
    let address = targets.into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
    });
    address.ok_or_else(|| {
        let what = "this machine has no default route, so its main address is unknown";
        Failure::new(what).hint(NAME_IT)
    })
}

fn table(report: &init::Report, dir: &std::path::Path, dry_run: bool, verbose: bool) -> String {
    let mut text = String::new();
    let plan = &report.plan;
    let shown = |step: &&crate::model::plan::Step| verbose || step.action != Action::Keep;
    let rows: Vec<Vec<String>> = plan
        .steps
        .iter()
        .filter(shown)
        .map(|step| {
            let files: Vec<String> = step.files.iter().map(|f| f.display().to_string()).collect();
            let end = report.issued.iter().find(|r| r.label == step.label && r.files == step.files);
            vec![
                verb(&step.action).to_owned(),
                step.label.clone(),
                end.map(|r| r.not_after.to_kubeadm()).unwrap_or_default(),
                files.join(" "),
                step.reason.to_string(),
            ]
        })
        .collect();
    // Writing to a String cannot fail.
    if rows.is_empty() {
        let _ = writeln!(text, "{}: complete, nothing to do", dir.display());
    } else {
        let heading = if dry_run { "would be made in" } else { "made in" };
        let _ = writeln!(text, "{heading} {}:\n", dir.display());
        text.push_str(&output::table(&["ACTION", "NAME", "EXPIRES", "FILES", "REASON"], rows));
    }
    for (label, end) in &report.clamped {
        let _ = writeln!(text, "\n{label} ends with its CA, {end}, earlier than declared");
    }
    for note in &plan.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    if let Some(backup) = &report.backup {
        let _ = writeln!(text, "\nwhat was replaced is kept in {}", backup.display());
    }
    waiting(plan, &mut text);
    if !dry_run && !plan.is_empty() {
        next(report, dir, &mut text);
    }
    text
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::Copy(_) => "copy",
        Action::Declare | Action::Derive(_) | Action::PublishKey(_) | Action::Refer(_) => "write",
        Action::GenerateKeyPair(_) => "generate",
        Action::Issue { .. } => "issue",
        Action::Keep => "keep",
        Action::Request { .. } => "request",
    }
}

/// What waits for a signature from elsewhere.
fn waiting(plan: &Plan, text: &mut String) {
    let requests: Vec<_> = plan
        .steps
        .iter()
        .filter(|s| matches!(s.action, Action::Request { .. }) || s.reason == Reason::Waiting)
        .collect();
    if requests.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nwaiting for signatures from elsewhere:");
    for step in requests {
        let file = step.files.first().map(|f| f.display().to_string()).unwrap_or_default();
        let _ = writeln!(text, "  {file}  ({})", step.label);
    }
    let _ = writeln!(
        text,
        "sign them with their names and usages as requested, then: certkit import FILE..."
    );
}

/// What to do now. Flags come from the same catalogue, so they fit.
fn next(report: &init::Report, dir: &std::path::Path, text: &mut String) {
    let dir = dir.display();
    let _ = writeln!(text, "\nnext:");
    match report.cluster.is_one_host() {
        true => {
            let _ = writeln!(
                text,
                "  certkit --dir {dir} flags       what each component is started with"
            );
        }
        false => {
            for host in &report.cluster.hosts {
                if report.cluster.hosts.len() > 5 {
                    break;
                }
                let _ = writeln!(
                    text,
                    "  certkit --dir {dir} export {0} | ssh {0} tar -x -C /etc/kubernetes",
                    host.name
                );
            }
            if report.cluster.hosts.len() > 5 {
                let _ = writeln!(
                    text,
                    "  certkit --dir {dir} export HOST | ssh HOST tar -x -C /etc/kubernetes"
                );
            }
            let _ = writeln!(
                text,
                "  certkit --dir {dir} flags --host HOST   what each component is started with"
            );
        }
    }
    let _ = writeln!(
        text,
        "  certkit template rbac | kubectl --kubeconfig {dir}/super-admin.conf apply -f -\n                                once the API is up: gives admin.conf and the apiserver their rights\n  certkit --dir {dir} check-expiration   from cron, from now on"
    );
    if report.cluster.single_root {
        let _ = writeln!(
            text,
            "  take {dir}/pki/root-ca.key offline: nothing needs it until a CA is replaced"
        );
    }
}

fn json(report: &init::Report, dry_run: bool) -> String {
    let steps: Vec<_> = report
        .plan
        .steps
        .iter()
        .map(|step| {
            let issued =
                report.issued.iter().find(|r| r.label == step.label && r.files == step.files);
            serde_json::json!({
                "action": verb(&step.action),
                "name": step.label,
                "files": step.files,
                "reason": step.reason.to_string(),
                "notAfter": issued.map(|r| r.not_after.to_string()),
                "fingerprint": issued.map(|r| r.fingerprint.clone()),
            })
        })
        .collect();
    let document = serde_json::json!({
        "apiVersion": "certkit/v1",
        "kind": "InitReport",
        "dryRun": dry_run,
        "steps": steps,
        "notes": report.plan.notes,
        "backup": report.backup,
    });
    format!("{document:#}\n")
}
