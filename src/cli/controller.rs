//! `certkit controller`.

mod patrol;
mod trust;

use std::{io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc};

use serde_json::{Map, Value};

use super::{Exit, Failure, Global, csr::ClusterArgs, output, password, when};
use crate::{
    cluster::{
        controller::{self, DeclarationReader, LeaseName, Listening, LogLine, Settings},
        signing::{CertificateSigner, SignedCertificate},
    },
    model::{
        request::{POD_LIMIT, RequestPolicy},
        timestamp::Timestamp,
    },
    ops::{
        declared::{self, DeclarationKeeper},
        sign::{AskedBy, Signatory},
    },
};

/// Decide on kubelets' requests for certificates as they come, by the inventory
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct ControllerArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The Lease that one of several replicas holds
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "kube-system/certkit-controller")]
    #[arg(value_parser = lease)]
    lease: LeaseName,
    /// What this replica is called in the Lease [default: the host's name and the process's number]
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Where to serve /healthz, /readyz and /metrics
    #[arg(
        long,
        value_name = "IP:PORT",
        requires = "tls_cert_file",
        requires = "tls_private_key_file"
    )]
    listen: Option<SocketAddr>,
    /// The certificate to serve them with
    #[arg(long, value_name = "FILE", requires = "listen")]
    tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "listen")]
    tls_private_key_file: Option<PathBuf>,
    #[command(flatten)]
    watch: patrol::WatchArgs,
    #[command(flatten)]
    trust: trust::TrustArgs,
    /// Sign for certkit's own signers too, with the CAs of DIR, for those whom certkit.yaml admits (signers)
    #[arg(long)]
    sign: bool,
    /// How many certificates pods of a service account are given on one node within --limit-window
    #[arg(long, value_name = "N", default_value_t = POD_LIMIT, requires = "sign")]
    pod_limit: usize,
    /// Say in the log what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

const HELP: &str = "\
It decides on requests to the signers kubernetes.io/kubelet-serving and kubernetes.io/kube-apiserver-client-kubelet.
kube-controller-manager then signs what is approved, so no CA's key is needed here. A request is
approved if it asks for exactly what a kubelet asks for, the node itself asks (or a bootstrap token, for a node that has
not joined yet), and each name and address is this node's by certkit.yaml and by its Node object. Otherwise it is denied,
or left where it may become right; why is told in the request's condition, as an Event, and in the log.

With --sign it decides on requests to certkit's own signers, too, and signs them: certkit.internal/node, person,
etcd-client, front-proxy and pod, for those whom certkit.yaml admits (signers), with the CAs' keys in DIR. What somebody else
approved is judged again before it is signed. Each certificate is in DIR/.certkit/log.jsonl before it is handed out, where
DIR can be written to, and in the log.

certkit.yaml, the kubeconfig and the files that it names are read again when they change. Of several replicas one acts.
The log is one JSON document a line, on standard error. SIGTERM ends it, once what it has begun is done.

EXIT CODES:
  0   it was told to end, and did
  3   it could not begin
  64  the command line was wrong

EXAMPLES:
  certkit controller --dry-run
  certkit controller --kubeconfig /etc/kubernetes/controller-manager.conf
  certkit controller --listen 0.0.0.0:10261 --tls-cert-file tls.crt --tls-private-key-file tls.key
  certkit controller --sign --dir /etc/kubernetes --kubeconfig /etc/kubernetes/certkit-controller.conf
  certkit template controller | kubectl apply -f -";

fn lease(text: &str) -> Result<LeaseName, String> {
    let is_name = |part: &str| crate::model::san::dns_name_fault(part).is_none();
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => {
            Ok(LeaseName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("write it as NAMESPACE/NAME".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: &ControllerArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let mut name = "cluster".to_owned();
    let declared = match args.cluster.reads_declaration() {
        true => {
            // What cannot be read at the beginning is told now.
            let mut keeper = DeclarationKeeper::new(dir);
            let mut first = keeper.look()?;
            name = first.as_ref().map_or(name, |cluster| cluster.name.to_string());
            let reader: DeclarationReader = Box::new(move || match first.take() {
                Some(cluster) => Ok(Some(cluster)),
                None => keeper.look().map_err(|error| told(&error)),
            });
            Some(reader)
        }
        false => None,
    };
    let signing = match args.sign {
        true => Some(signing(args, global)?),
        false => None,
    };
    let identity = args.identity.clone().unwrap_or_else(|| {
        let uname = rustix::system::uname();
        format!("{}_{}", uname.nodename().to_string_lossy(), std::process::id())
    });
    let listening = match (args.listen, &args.tls_cert_file, &args.tls_private_key_file) {
        (Some(address), Some(certificate), Some(key)) => {
            let (certificate, key) = (certificate.clone(), key.clone());
            Some(Listening { address, certificate, key })
        }
        _ => None,
    };
    let trust = args.trust.settings(super::absolute(&global.dir)?);
    controller::run(Settings {
        access: args.cluster.access(),
        declared,
        live: args.cluster.reads_nodes(),
        policy: RequestPolicy { pods: args.pod_limit, ..args.cluster.policy() },
        lease: args.lease.clone(),
        identity,
        listening,
        patrol: args.watch.settings(name, trust.is_some())?,
        trust,
        dry_run: args.dry_run,
        signing,
        clock: now,
        log: Arc::new(write),
    })?;
    Ok(Exit::Done)
}

/// What signs with the CAs of DIR. One that is to sign and cannot is told now.
fn signing(args: &ControllerArgs, global: &Global) -> Result<CertificateSigner, Failure> {
    if !args.cluster.reads_declaration() {
        return Err(Failure::usage("--sign: needs certkit.yaml, which says for whom")
            .hint(Some("--inventory both, or declared")));
    }
    let dir = super::absolute(&global.dir)?;
    let mut signer = Signatory::new(&dir, password::passwords(global)?);
    for spec in declared::load(&dir)?.signers.authorities() {
        signer.open(spec)?;
    }
    Ok(Box::new(move |order, now| {
        let origin = AskedBy {
            object: &order.object,
            signer: order.signer,
            requester: order.requester,
            whom: order.whom,
            groups: &order.groups,
            ground: order.ground,
        };
        let signed = signer.sign(order.grant, &origin, now).map_err(|error| told(&error))?;
        let mut warnings = signed.warnings;
        if signed.clamped {
            warnings.push(format!("it ends with its CA, {}", signed.validity.not_after));
        }
        Ok(SignedCertificate {
            pem: signed.pem,
            validity: signed.validity,
            serial: signed.serial,
            fingerprint: signed.fingerprint,
            warnings,
        })
    }))
}

/// A clock that is set before 1970 says 1970: what it is used for is for people.
fn now() -> Timestamp {
    when(None).unwrap_or(Timestamp::from_unix(0))
}

/// An error and its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn write(line: &LogLine) {
    let mut document = Map::new();
    document.insert("time".into(), now().to_string().into());
    document.insert("level".into(), line.level.to_string().into());
    document.insert("message".into(), line.message.into());
    for (name, value) in &line.fields {
        document.insert((*name).into(), value.clone().into());
    }
    // Where the log cannot be written there is nobody to tell.
    let _ = writeln!(output::stderr(), "{}", Value::Object(document));
}
