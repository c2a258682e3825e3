//! `certkit kubeconfig`.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    Exit, Failure, Format, Global, changing::LockArgs, output, password, warn, when, words::quoted,
};
use crate::{
    model::{duration::Span, shown::with_causes},
    ops::{
        expiry::shown,
        kubeconfig::{self, Request},
    },
    store,
};

/// Make a person's kubeconfig, with a client certificate that ends soon
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct KubeconfigArgs {
    /// The user's name, as RBAC is to know it
    #[arg(value_name = "NAME")]
    name: String,
    /// A group of the user; repeat for more [default: none but system:authenticated]
    #[arg(long = "group", value_name = "GROUP", value_delimiter = ',')]
    groups: Vec<String>,
    /// How long the certificate is valid
    #[arg(long, value_name = "DURATION", default_value = "8h")]
    validity: Span,
    /// Where to write it, readable by its owner alone; it replaces only what it wrote for the same user before
    /// [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// With --out: how to print what was made
    #[arg(short, long, value_name = "FORMAT", default_value = "table", requires = "out")]
    output: Format,
    /// Let the API sign: write FILE.key, a CertificateSigningRequest to FILE.csr.yaml, and a kubeconfig that names
    /// the certificate to come
    #[arg(long, requires = "out")]
    csr: bool,
    /// With --csr: who is asked to sign, Kubernetes' own signer or `certkit controller --sign`
    #[arg(long, value_name = "SIGNER", default_value = "kubernetes", requires = "csr")]
    signer: SignerChoice,
    /// Also names and groups that begin with system:, which are Kubernetes' own; system:masters passes every
    /// authorization
    #[arg(long)]
    allow_system: bool,
    #[command(flatten)]
    lock: LockArgs,
}

/// Who is asked to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SignerChoice {
    /// kube-controller-manager, once somebody approved of it
    Kubernetes,
    /// `certkit controller --sign`, if certkit.yaml admits who applies the request (signers.people)
    Certkit,
}

const HELP: &str = "\
The certificate cannot be taken back before it ends: make it short, give groups rather than rights, and give those
rights by RBAC. Nothing of the user is kept but a line in DIR/.certkit/log.jsonl, which is written first: who, which
groups, until when, the certificate's fingerprint.

The cluster's CA signs, which --dir must have the key of; with --csr the API's own signer does, after somebody
approved of it, and no CA key is needed.

EXIT CODES:
  0   made
  3   certkit could not do it; no kubeconfig was made
  4   it is made and in the log, and could not be written or told
  64  the command line was wrong

EXAMPLES:
  certkit kubeconfig alice --group developers > alice.conf
  certkit kubeconfig bob --validity 7d --group viewers,oncall --out bob.conf
  certkit kubeconfig carol --csr --out carol.conf
  certkit kubeconfig dave --group viewers --csr --signer certkit --out dave.conf";

/// Runs the command.
pub fn run(args: &KubeconfigArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    if args.validity <= Span(0) {
        return Err(Failure::usage("--validity 0s: is no time at all"));
    }
    if let Some(out) = &args.out {
        let mut others = vec![];
        if args.csr {
            others = vec![beside(out, KEY), beside(out, MANIFEST)];
        }
        writable(out, &others, &args.name)?;
    } else if std::io::stdout().is_terminal() {
        let line = format!("certkit kubeconfig {} --out {0}.conf", quoted(&args.name));
        return Err(Failure::usage("--out: a private key does not belong on a terminal")
            .hint(Some(super::words::here(&line, &dir))));
    }
    let passwords = match args.csr {
        true => crate::ops::password::Passwords::Nowhere,
        false => password::passwords(global)?,
    };
    let request = Request {
        dir: &dir,
        name: &args.name,
        groups: &args.groups,
        validity: args.validity,
        own_signer: args.signer == SignerChoice::Certkit,
        allow_system: args.allow_system,
        now: when(None)?,
        lock_wait: args.lock.timeout,
        passwords: &passwords,
    };
    match (&args.out, args.csr) {
        (Some(out), true) => ask(&request, out, args.output, global),
        (out, _) => sign(&request, out.as_deref(), args.output, global),
    }
}

fn sign(
    request: &Request<'_>,
    out: Option<&Path>,
    format: Format,
    global: &Global,
) -> Result<Exit, Failure> {
    let made = kubeconfig::run(request)?;
    if let Some(recovered) = &made.recovered {
        global.note(recovered);
    }
    made.warnings.iter().for_each(warn);
    let end = made.not_after.to_kubeadm();
    if made.clamped {
        warn(format!("it ends with its CA, {end}, earlier than asked for"));
    }
    let Some(out) = out else {
        // It is signed, and its key is in what is printed alone.
        let delivered = output::deliver(&made.text).map_err(|error| partly(error.into()));
        return delivered.map(|()| Exit::Done);
    };
    write(out, made.text.as_bytes(), 0o600)?;
    let file = quoted(&out.display().to_string());
    global.note(format!(
        "{file} is {}'s until {end}; try it: kubectl --kubeconfig {file} auth whoami",
        request.name
    ));
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "UserKubeconfig",
        "user": request.name,
        "groups": request.groups,
        "file": out,
        "signed": true,
        "notAfter": made.not_after.to_string(),
        "endsWithItsCa": made.clamped,
        "fingerprintSha256": made.fingerprint,
        "serialNumber": made.serial,
    });
    told(&document, format)
}

/// What was made, where a program is to read it; people have been told.
fn told(document: &serde_json::Value, format: Format) -> Result<Exit, Failure> {
    match format {
        Format::Json | Format::Yaml => {
            super::tell(true, Exit::Done, super::document(format!("{document:#}\n"), format))
        }
        Format::Table | Format::Wide => Ok(Exit::Done),
    }
}

fn ask(
    request: &Request<'_>,
    out: &Path,
    format: Format,
    global: &Global,
) -> Result<Exit, Failure> {
    let (key, manifest) = (beside(out, KEY), beside(out, MANIFEST));
    let certificate = beside(out, ".crt");
    // A kubeconfig names files relative to itself: all of them may be moved together.
    let name = |path: &Path| {
        path.file_name().and_then(|name| name.to_str()).map(str::to_owned).ok_or_else(|| {
            Failure::usage(format!("--out {:?}: use a name in UTF-8", out.display()))
        })
    };
    let (certificate_name, key_name) = (name(&certificate)?, name(&key)?);
    let asked = kubeconfig::ask(request, (&certificate_name, &key_name))?;
    if let Some(recovered) = &asked.recovered {
        global.note(recovered);
    }
    asked.warnings.iter().for_each(warn);
    write(&key, asked.key.as_bytes(), 0o600)?;
    write(&manifest, asked.manifest.as_bytes(), 0o644)?;
    write(out, asked.kubeconfig.as_bytes(), 0o600)?;
    let (object, file) = (&asked.object, |path: &Path| quoted(&path.display().to_string()));
    let approve = match request.own_signer {
        true => String::new(),
        false => format!("kubectl certificate approve {object}\n  "),
    };
    global.note(format!(
        "have it signed, then {} is {}'s:\n  kubectl apply -f {}\n  {approve}\
         kubectl get csr {object} -o jsonpath='{{.status.certificate}}' | base64 -d > {}",
        file(out),
        request.name,
        file(&manifest),
        file(&certificate)
    ));
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "UserKubeconfig",
        "user": request.name,
        "groups": request.groups,
        "file": out,
        "signed": false,
        "keyFile": key,
        "certificateFile": certificate,
        "request": {"file": manifest, "name": asked.object},
    });
    told(&document, format)
}

/// What the key and the request are called that are beside a kubeconfig.
const KEY: &str = ".key";
const MANIFEST: &str = ".csr.yaml";

fn beside(out: &Path, end: &str) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(end);
    path.into()
}

/// Found before anything is issued: a certificate that nobody gets is one too many. Nor is anything replaced but what
/// an earlier run for this user has left, of which `others` are part.
fn writable(out: &Path, others: &[PathBuf], user: &str) -> Result<(), Failure> {
    let wrong = |path: &Path, why: &str| Failure::usage(format!("--out {}: {why}", shown(path)));
    if out == Path::new("-") {
        return Err(wrong(out, "is no file's name")
            .hint(Some("without --out it is written to standard output")));
    }
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if out.is_dir() {
        return Err(wrong(out, "is a directory"));
    } else if !folder.is_dir() {
        return Err(wrong(out, "its folder does not exist"));
    }
    for path in [out].into_iter().chain(others.iter().map(PathBuf::as_path)) {
        store::prove_writable(path).map_err(|error| wrong(path, &with_causes(&error)))?;
    }
    let taken = kubeconfig::taken(out, user).map(|why| (out, why)).or_else(|| {
        let other = others.iter().find(|_| !out.exists()).filter(|other| other.exists())?;
        Some((other, "is there already, without the kubeconfig that it belongs to"))
    });
    match taken {
        Some((path, why)) => {
            Err(wrong(path, why).hint(Some("name a file of its own for it, or move that one away")))
        }
        None => Ok(()),
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    store::write_atomically(path, content, mode).map_err(|error| partly(error.into()))
}

/// The certificate is made and in the log.
fn partly(failure: Failure) -> Failure {
    failure.exit(Exit::Partly)
}
