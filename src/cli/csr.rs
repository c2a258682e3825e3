//! `certkit csr`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{
    Exit, Failure, Format, Global,
    output::{self, grid::Column},
    print, tell, when,
};
use crate::{
    cluster::{
        Access,
        desk::{self, HandDecision, HandOutcome, Question, Reviewed},
    },
    model::{
        duration::Span,
        request::{
            REQUEST_FAULTS, RequestFault, RequestObjection, RequestPolicy, RequestSigner,
            RequestState, Ruling,
        },
        shown,
    },
    ops::declared,
};

/// Judge the requests for certificates that wait in a cluster's API, and decide on them by hand
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct CsrArgs {
    #[command(subcommand)]
    command: CsrCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CsrCommand {
    List(CsrListArgs),
    Review(ReviewArgs),
    Approve(ApproveArgs),
    Deny(DenyArgs),
}

/// List the requests, and what the judge says of each that waits
#[derive(Debug, clap::Args)]
#[command(after_long_help = LIST)]
pub struct CsrListArgs {
    /// Those that are decided, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Show one request, and every reason why it is not approved
#[derive(Debug, clap::Args)]
#[command(after_long_help = REVIEW)]
pub struct ReviewArgs {
    /// The request's name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Approve a request that the judge approves; any other one only despite each of its reasons, by name
#[derive(Debug, clap::Args)]
#[command(after_long_help = APPROVE)]
pub struct ApproveArgs {
    /// The request's name
    #[arg(value_name = "NAME")]
    name: String,
    /// A reason that is known and does not count this time; repeat for several
    #[arg(long, value_name = "CODE", value_parser = fault)]
    despite: Vec<RequestFault>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Deny a request, for good
#[derive(Debug, clap::Args)]
#[command(after_long_help = DENY)]
pub struct DenyArgs {
    /// The request's name
    #[arg(value_name = "NAME")]
    name: String,
    /// Why, for those who look at it [default: what the judge says]
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// How the cluster is reached, and what a request is held against.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// The kubeconfig [default: KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Its context, if not the current one
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// What says which nodes there are and what each is called
    #[arg(long, value_name = "SOURCE", default_value = "both")]
    pub inventory: InventorySource,
    /// How many certificates of one kind a node is given within --limit-window
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub limit: usize,
    /// The time that --limit is counted over
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub limit_window: Span,
}

/// Where the inventory is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum InventorySource {
    /// certkit.yaml and the Node objects, and both must agree
    Both,
    /// certkit.yaml alone
    Declared,
    /// The Node objects alone: for nodes whose addresses a cloud provider writes
    Nodes,
}

impl ClusterArgs {
    pub fn access(&self) -> Access {
        Access { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }

    pub fn policy(&self) -> RequestPolicy {
        let (limit, window) = (self.limit, self.limit_window);
        RequestPolicy { limit, window, ..RequestPolicy::default() }
    }

    pub fn reads_declaration(&self) -> bool {
        self.inventory != InventorySource::Nodes
    }

    pub fn reads_nodes(&self) -> bool {
        self.inventory != InventorySource::Declared
    }

    fn question(&self, global: &Global) -> Result<Question, Failure> {
        let dir = super::absolute(&global.dir)?;
        let declared = match self.reads_declaration() {
            true => Some(declared::load(&dir)?),
            false => None,
        };
        let (live, policy) = (self.reads_nodes(), self.policy());
        Ok(Question { access: self.access(), declared, live, policy })
    }
}

fn fault(text: &str) -> Result<RequestFault, String> {
    let spec = REQUEST_FAULTS.iter().find(|spec| spec.name == text);
    spec.map(|spec| spec.fault).ok_or_else(|| format!("{} is no code", shown::quoted(text)))
}

const HELP: &str = "\
Kubernetes leaves requests for kubelets' serving certificates to somebody who knows the nodes, and this is who: the same
judge that `certkit controller` has. A node gets a certificate for its own name and addresses, as certkit.yaml and its
Node object have them, and nothing else.

EXIT CODES:
  0   done
  1   a request waits for a person, or for something that is missing
  2   a request is to be denied, or is not approved because of what the judge says
  3   certkit could not do it, or could not know
  64  the command line was wrong

EXAMPLES:
  certkit csr list
  certkit csr review csr-7xk2p
  certkit csr approve csr-7xk2p
  certkit csr deny csr-7xk2p --why 'not one of ours'";

const LIST: &str = "\
EXIT CODES:
  0   no request waits that the judge would not approve
  1   one waits for a person, or for something that is missing
  2   one waits that the judge would deny
  3   certkit could not do it, or could not know
  64  the command line was wrong

EXAMPLES:
  certkit csr list --kubeconfig admin.conf
  certkit csr list --all -o json";

const REVIEW: &str = "\
EXIT CODES:
  0   the judge approves it
  1   it waits for a person, or for something that is missing
  2   the judge denies it
  3   certkit could not do it, or could not know
  64  the command line was wrong

EXAMPLES:
  certkit csr review csr-7xk2p
  certkit csr review csr-7xk2p -o json";

const APPROVE: &str = "\
EXIT CODES:
  0   approved
  2   the judge objects to it for more than --despite names; nothing was done
  3   certkit could not do it; nothing was done
  64  the command line was wrong

EXAMPLES:
  certkit csr approve csr-7xk2p
  certkit csr approve node-csr-4fj --despite node-joined-already";

const DENY: &str = "\
EXIT CODES:
  0   denied
  3   certkit could not do it; nothing was done
  64  the command line was wrong

EXAMPLES:
  certkit csr deny csr-7xk2p --why 'not one of ours'";

/// Runs the command.
pub fn run(args: &CsrArgs, global: &Global) -> Result<Exit, Failure> {
    match &args.command {
        CsrCommand::List(args) => list(args, global),
        CsrCommand::Review(args) => review(args, global),
        CsrCommand::Approve(args) => {
            let decision = HandDecision::Approve { despite: args.despite.clone() };
            decide(&args.name, &decision, &args.cluster, global)
        }
        CsrCommand::Deny(args) => {
            let why = match &args.why {
                Some(why) => why.clone(),
                None => {
                    let reviewed = desk::review(args.cluster.question(global)?, &args.name)?;
                    let said = said(reviewed.ruling.objections());
                    if said.is_empty() {
                        return Err(Failure::usage("the judge would approve it: say --why"));
                    }
                    said.join("; ")
                }
            };
            decide(&args.name, &HandDecision::Deny { why }, &args.cluster, global)
        }
    }
}

fn list(args: &CsrListArgs, global: &Global) -> Result<Exit, Failure> {
    let mut all = desk::list(args.cluster.question(global)?)?;
    if !args.all {
        all.retain(|one| one.request.state == RequestState::Pending);
    }
    let waiting = all.iter().filter(|one| one.request.state == RequestState::Pending);
    // Those of other signers are no concern of this judge's.
    let ours = waiting.filter(|one| RequestSigner::of(&one.request.signer).is_some());
    let exit = ours.map(|one| exit_of(&one.ruling)).max().unwrap_or(Exit::Done);
    let text = match args.output {
        Format::Json | Format::Yaml => {
            let requests: Vec<Value> = all.iter().map(view).collect();
            let document =
                json!({"apiVersion": "certkit/v1", "kind": "RequestList", "requests": requests});
            super::document(format!("{document:#}\n"), args.output)?
        }
        Format::Table | Format::Wide => {
            let rows: Vec<Vec<String>> = all
                .iter()
                .map(|one| {
                    let request = &one.request;
                    let judged = match request.state {
                        RequestState::Pending => {
                            let codes = codes(one.ruling.objections());
                            format!("{} {}", one.ruling.name(), codes.join(" "))
                        }
                        _ => String::new(),
                    };
                    vec![
                        shown::name(&request.name),
                        short(&request.signer),
                        request.whom().map(shown::name).unwrap_or_default(),
                        shown::name(&request.username),
                        request.state.name().to_owned(),
                        judged.trim_end().to_owned(),
                    ]
                })
                .collect();
            let columns = [
                Column::new("NAME").least(12),
                Column::new("SIGNER"),
                Column::new("FOR"),
                Column::new("REQUESTER").least(12),
                Column::new("STATE"),
                Column::new("THE JUDGE SAYS").least(20),
            ];
            output::table(&columns, &rows, args.output.is_wide())
        }
    };
    print(text)?;
    Ok(exit)
}

fn review(args: &ReviewArgs, global: &Global) -> Result<Exit, Failure> {
    let reviewed = desk::review(args.cluster.question(global)?, &args.name)?;
    let text = match args.output {
        Format::Json | Format::Yaml => {
            let mut document = json!({"apiVersion": "certkit/v1", "kind": "Request"});
            if let (Value::Object(document), Value::Object(view)) = (&mut document, view(&reviewed))
            {
                document.extend(view);
            }
            super::document(format!("{document:#}\n"), args.output)?
        }
        Format::Table | Format::Wide => sheet(&reviewed),
    };
    print(text)?;
    Ok(exit_of(&reviewed.ruling))
}

fn decide(
    name: &str,
    decision: &HandDecision,
    cluster: &ClusterArgs,
    global: &Global,
) -> Result<Exit, Failure> {
    match desk::decide(cluster.question(global)?, name, decision, when(None)?)? {
        HandOutcome::Taken(_) => {
            let what = match decision {
                HandDecision::Approve { .. } => "approved",
                HandDecision::Deny { .. } => "denied",
            };
            let text = if global.quiet { String::new() } else { format!("{name} {what}\n") };
            tell(true, Exit::Done, Ok(text))
        }
        HandOutcome::Refused(reviewed) => {
            let why = said(reviewed.ruling.objections()).join("; ");
            let despite = codes(reviewed.ruling.objections());
            Err(Failure::new(format!("the judge does not approve {name}: {why}"))
                .exit(Exit::Critical)
                .hint(Some(format!(
                    "if that is known and right: certkit csr approve {name} --despite {}",
                    despite.join(" --despite ")
                ))))
        }
    }
}

fn exit_of(ruling: &Ruling) -> Exit {
    match ruling {
        Ruling::Approve { .. } => Exit::Done,
        Ruling::Leave(_) => Exit::Warning,
        Ruling::Deny(_) => Exit::Critical,
    }
}

fn said(objections: &[RequestObjection]) -> Vec<String> {
    objections.iter().map(ToString::to_string).collect()
}

/// Each code once, in order.
fn codes(objections: &[RequestObjection]) -> Vec<&'static str> {
    let mut codes: Vec<&'static str> = Vec::new();
    for objection in objections {
        let name = objection.fault.spec().name;
        if !codes.contains(&name) {
            codes.push(name);
        }
    }
    codes
}

/// A signer without its domain, where that is Kubernetes'.
fn short(signer: &str) -> String {
    shown::name(signer.strip_prefix("kubernetes.io/").unwrap_or(signer))
}

fn view(one: &Reviewed) -> Value {
    let request = &one.request;
    let asked = request.content.as_ref().ok();
    let objections: Vec<Value> = one
        .ruling
        .objections()
        .iter()
        .map(|objection| {
            let spec = objection.fault.spec();
            json!({
                "code": spec.name,
                "detail": objection.detail,
                "means": spec.means,
                "fix": spec.fix,
            })
        })
        .collect();
    let names = asked.map(|asked| asked.sans.iter().map(|san| shown::name(&san.to_string())));
    json!({
        "name": request.name,
        "signer": request.signer,
        "node": request.node(),
        "for": request.whom(),
        "requester": request.username,
        "groups": request.groups,
        "usages": request.usages,
        "created": request.created.to_string(),
        "state": request.state.name(),
        "names": names.map(|names| names.collect::<Vec<_>>()).unwrap_or_default(),
        "key": asked.map(|asked| asked.key.clone()),
        "ruling": one.ruling.name(),
        "ground": match &one.ruling {
            Ruling::Approve { ground, .. } => Some(ground),
            Ruling::Deny(_) | Ruling::Leave(_) => None,
        },
        "objections": objections,
    })
}

fn sheet(one: &Reviewed) -> String {
    let request = &one.request;
    let list = |items: &[String]| {
        let items: Vec<String> = items.iter().map(|item| shown::name(item)).collect();
        items.join(", ")
    };
    let mut lines = vec![
        ("name", shown::name(&request.name)),
        ("signer", shown::name(&request.signer)),
        ("requester", shown::name(&request.username)),
        ("groups", list(&request.groups)),
        ("usages", list(&request.usages)),
        ("created", request.created.to_string()),
        ("state", request.state.name().to_owned()),
    ];
    if let Ok(asked) = &request.content {
        let names: Vec<String> = asked.sans.iter().map(ToString::to_string).collect();
        lines.push(("for", request.whom().map(shown::name).unwrap_or_default()));
        lines.push(("names", list(&names)));
        lines.push(("key", asked.key.clone()));
    }
    lines.push(("the judge says", one.ruling.name().to_owned()));
    let mut text = String::new();
    for (label, value) in lines {
        text += &format!("{label:<16}{value}\n");
    }
    match &one.ruling {
        Ruling::Approve { ground, .. } => text += &format!("  {ground}\n"),
        Ruling::Deny(objections) | Ruling::Leave(objections) => {
            for objection in objections {
                let spec = objection.fault.spec();
                text += &format!("  {objection}\n    {}\n    {}\n", spec.means, spec.fix);
            }
        }
    }
    text
}
