//! `certkit show`.

use std::{
    fmt::Write as _,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Exit, Failure, Format, Global,
    check_expiration::passwords,
    limit, output,
    output::{expiry::left, grid::wrap},
    print, when,
};
use crate::{
    model::{hex::hex, profile::Kind, shown::tame, timestamp::Timestamp},
    ops::show::{self, Key, Part, Report, Shown, SignedBy, Source},
    pki::inspect::Certificate,
    tls::probe::Target,
};

/// Show what is in a certificate, who uses it in this cluster, and what would break without it
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct ShowArgs {
    /// A file (PEM, DER, PKCS#7, PKCS#12, JKS, kubeconfig, objects of Kubernetes), - for standard input, or a listener's HOST:PORT[,sni=NAME]
    #[arg(value_name = "FILE|HOST:PORT")]
    what: String,
    /// How long a listener may take to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = limit)]
    timeout: Duration,
    /// A file whose first line is a password of key stores; repeat for several
    /// [env: CERTKIT_PASSWORD, the password itself]
    #[arg(long, value_name = "FILE")]
    password_file: Vec<PathBuf>,
    /// Judge as of this RFC 3339 time instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HELP: &str = "\
What exists as a file is a file; else HOST:PORT is a listener. The cluster is the one in --dir: there it is looked
which of its certificates this is, or which has the same key. The key is compared where it is in the same file, in the
kubeconfig, or beside it as NAME.key; it is never shown.

EXIT CODES:
  0   shown
  2   one of them has ended, is not yet valid, or has another key than the one beside it
  3   it cannot be read, or the listener does not answer
  64  the command line was wrong

EXAMPLES:
  certkit show /etc/kubernetes/pki/apiserver.crt
  certkit show api.example.com:6443
  certkit show '[fd00::1]:2379'
  certkit show ~/.kube/config -o json
  kubectl get secret -n kube-system web -o jsonpath='{.data.tls\\.crt}' | base64 -d | certkit show -";

/// Runs the command.
pub fn run(args: &ShowArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    let now = when(args.at)?;
    let path = Path::new(&args.what);
    let (mut input, mut target) = (Vec::new(), None);
    if args.what == "-" {
        io::stdin().lock().take(LIMIT).read_to_end(&mut input)?;
    } else if path.symlink_metadata().is_err() && args.what.contains(':') {
        let read = args.what.parse::<Target>();
        target = Some(read.map_err(|error| {
            Failure::usage(error.to_string()).hint(Some(format!(
                "no file is called {:?}, so it is taken for a listener",
                args.what
            )))
        })?);
    }
    let report = show::run(&show::Request {
        source: match &target {
            Some(target) => Source::Listener(target),
            None if args.what == "-" => Source::Input(&input),
            None => Source::File(path),
        },
        dir: &dir,
        timeout: args.timeout.max(Duration::from_secs(1)),
        passwords: &passwords(&args.password_file)?,
    })?;
    print(match args.output {
        Format::Table | Format::Wide => {
            table(&report, &args.what, now, args.output.is_wide() || global.verbose)
        }
        Format::Json | Format::Yaml => super::document(json(&report, args, now), args.output)?,
    })?;
    let wrong = |shown: &Shown| {
        state(&shown.certificate, now) != "valid" || matches!(shown.key, Key::Differs(_))
    };
    Ok(if report.certificates.iter().any(wrong) { Exit::Critical } else { Exit::Done })
}

/// More than any bundle is.
const LIMIT: u64 = 16 << 20;

fn state(certificate: &Certificate, now: Timestamp) -> &'static str {
    let validity = certificate.validity();
    match () {
        () if now < validity.not_before => "not-yet-valid",
        () if now > validity.not_after => "expired",
        () => "valid",
    }
}

fn table(report: &Report, what: &str, now: Timestamp, all: bool) -> String {
    let limit = output::limit().filter(|_| !all);
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(listener) = &report.listener {
        let asks = if listener.wants_certificate { ", asks for a client certificate" } else { "" };
        let _ =
            writeln!(text, "{}: {}, {}{asks}\n", tame(what), listener.address, listener.version);
    }
    let count = report.certificates.len();
    for (index, shown) in report.certificates.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let place = shown.place.as_deref().map(|place| format!(", {place}")).unwrap_or_default();
        let number = if count > 1 { format!(" ({} of {count})", index + 1) } else { String::new() };
        let _ = writeln!(text, "{}{place}{number}", tame(what));
        for (name, value) in lines(report, shown, now, all) {
            let _ = writeln!(text, "{}", wrap(&format!("  {name:<14}{value}"), limit, 16));
        }
    }
    if !report.has_cluster {
        let _ = writeln!(
            text,
            "\n{}",
            wrap("No cluster's PKI is in --dir: what uses it is not known.", limit, 0)
        );
    }
    text
}

fn lines(report: &Report, shown: &Shown, now: Timestamp, all: bool) -> Vec<(&'static str, String)> {
    let certificate = &shown.certificate;
    let validity = certificate.validity();
    let remaining = match state(certificate, now) {
        "expired" => format!("EXPIRED {}", left(validity.not_after.since(now))),
        "valid" => format!("{} left", left(validity.not_after.since(now))),
        _ => "NOT YET VALID".to_owned(),
    };
    let signer = match &shown.signer {
        SignedBy::Itself => "itself".to_owned(),
        SignedBy::Here(index) => {
            format!("signed by the one {} of {} here", index + 1, report.certificates.len())
        }
        SignedBy::Authority(id) => format!("signed by this cluster's {id}"),
        SignedBy::Unknown => "whose certificate is not at hand".to_owned(),
    };
    let key = match &shown.key {
        Key::Matches(path) if path.as_os_str().is_empty() => {
            "; its private key is beside it".to_owned()
        }
        Key::Matches(path) => format!("; its private key is in {}", path.display()),
        Key::Differs(path) if path.as_os_str().is_empty() => {
            "; the KEY BESIDE IT IS ANOTHER'S".to_owned()
        }
        Key::Differs(path) => format!("; THE KEY IN {} IS ANOTHER'S", path.display()),
        Key::Closed(path) => format!("; the key in {} cannot be compared", path.display()),
        Key::Elsewhere => String::new(),
    };
    let mut lines = vec![
        ("subject", certificate.subject().to_string()),
        ("issuer", format!("{}; {signer}", certificate.issuer())),
        (
            "valid",
            format!(
                "{} to {}; {remaining}",
                validity.not_before.to_kubeadm(),
                validity.not_after.to_kubeadm()
            ),
        ),
        ("kind", kind(certificate)),
        ("usages", usages(certificate)),
        (
            "names",
            certificate.sans().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        ),
        ("key", format!("{}{key}", certificate.key_text())),
        ("signature", certificate.signature_algorithm()),
        ("serial", certificate.serial_hex()),
        ("SHA-256", certificate.fingerprint_hex()),
    ];
    let faults = faults(shown);
    if !faults.is_empty() {
        lines.push(("FAULTS", faults.join("; ")));
    }
    lines.retain(|(_, value)| !value.is_empty());
    for part in &shown.parts {
        let held =
            if part.is_current { "" } else { ", which holds another certificate of the same key" };
        lines.push(("in cluster", format!("{} ({}{held})", part.label, part.file.display())));
        tell(part, &mut lines, all);
    }
    if shown.parts.is_empty() && report.has_cluster {
        lines.push(("in cluster", "none of its certificates".to_owned()));
    }
    lines.iter_mut().for_each(|(_, value)| *value = tame(value));
    lines
}

/// Paths that are told of a CA, which serves most of them.
const SOME: usize = 4;

fn tell(part: &Part, lines: &mut Vec<(&'static str, String)>, all: bool) {
    if !part.signs.is_empty() {
        let signs: Vec<&str> = part.signs.iter().map(|id| id.name()).collect();
        lines.push(("signs", signs.join(", ")));
    }
    for (index, user) in part.users.iter().enumerate() {
        let name = if index == 0 { "used by" } else { "" };
        lines.push((name, format!("{} {}: {}", user.component, user.setting, user.takes_up)));
    }
    let told = if all || part.paths.len() <= SOME + 1 { part.paths.len() } else { SOME };
    for (index, path) in part.paths[..told].iter().enumerate() {
        let name = if index == 0 { "without it" } else { "" };
        lines.push((name, format!("{} to {}: {}", path.from, path.to, path.breaks)));
    }
    if told < part.paths.len() {
        lines.push(("", format!("and {} more paths; -o wide tells all", part.paths.len() - told)));
    }
}

/// What is wrong with it, and with how it is written down.
fn faults(shown: &Shown) -> Vec<String> {
    let faults = shown.certificate.faults().into_iter();
    faults.chain(shown.notes.iter().cloned()).collect()
}

fn kind(certificate: &Certificate) -> String {
    match certificate.kind() {
        Kind::Leaf => "end entity".to_owned(),
        Kind::Ca { path_len: None } => "CA".to_owned(),
        Kind::Ca { path_len: Some(0) } => "CA, with no CA below it".to_owned(),
        Kind::Ca { path_len: Some(n) } => format!("CA, with {n} CAs below it at most"),
    }
}

fn key_usages(certificate: &Certificate) -> Vec<&'static str> {
    certificate.key_usages().map(|usages| usages.names().collect()).unwrap_or_default()
}

fn usages(certificate: &Certificate) -> String {
    let extended: Vec<String> =
        certificate.extended_usages().iter().map(ToString::to_string).collect();
    let all = [key_usages(certificate).join(", "), extended.join(", ")];
    all.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

fn json(report: &Report, args: &ShowArgs, now: Timestamp) -> String {
    let listener = report.listener.as_ref().map(|listener| {
        json!({
            "address": listener.address,
            "version": listener.version.to_string(),
            "asksForCertificate": listener.wants_certificate,
        })
    });
    let document = json!({
        "apiVersion": "certkit/v1",
        "kind": "CertificateList",
        "source": args.what,
        "at": now.to_string(),
        "listener": listener,
        "cluster": report.has_cluster,
        "items": report.certificates.iter().map(|shown| item(shown, now)).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

fn item(shown: &Shown, now: Timestamp) -> Value {
    let certificate = &shown.certificate;
    let (matches, key_file) = match &shown.key {
        Key::Matches(path) => (Some(true), Some(path)),
        Key::Differs(path) => (Some(false), Some(path)),
        Key::Closed(path) => (None, Some(path)),
        Key::Elsewhere => (None, None),
    };
    let (signer, by) = match &shown.signer {
        SignedBy::Itself => ("itself", Value::Null),
        SignedBy::Here(index) => ("item", json!(index)),
        SignedBy::Authority(id) => ("authority", json!(id.name())),
        SignedBy::Unknown => ("unknown", Value::Null),
    };
    let extended: Vec<String> =
        certificate.extended_usages().iter().map(ToString::to_string).collect();
    let names: Vec<String> = certificate.sans().iter().map(ToString::to_string).collect();
    json!({
        "place": shown.place,
        "subject": certificate.subject().to_string(),
        "user": certificate.common_name(),
        "groups": certificate.organizations(),
        "issuer": certificate.issuer().to_string(),
        "signer": {"kind": signer, "by": by},
        "serialNumber": certificate.serial_hex(),
        "notBefore": certificate.validity().not_before.to_string(),
        "notAfter": certificate.validity().not_after.to_string(),
        "status": state(certificate, now),
        "ca": certificate.is_ca(),
        "keyUsages": key_usages(certificate),
        "extendedKeyUsages": extended,
        "subjectAlternativeNames": names,
        "keyAlgorithm": certificate.key_text(),
        "signatureAlgorithm": certificate.signature_algorithm(),
        "fingerprintSha256": certificate.fingerprint_hex(),
        "subjectKeyId": certificate.ski().map(hex),
        "authorityKeyId": certificate.aki().map(hex),
        "faults": faults(shown),
        "key": {"file": key_file, "matches": matches},
        "cluster": shown.parts.iter().map(part).collect::<Vec<_>>(),
    })
}

fn part(part: &Part) -> Value {
    let users: Vec<Value> = part
        .users
        .iter()
        .map(|user| {
            json!({"component": user.component, "setting": user.setting, "takesUp": user.takes_up})
        })
        .collect();
    let paths: Vec<Value> = part
        .paths
        .iter()
        .map(|path| json!({"id": path.id, "from": path.from, "to": path.to, "breaks": path.breaks}))
        .collect();
    json!({
        "name": part.label,
        "file": part.file,
        "current": part.is_current,
        "usedBy": users,
        "paths": paths,
        "signs": part.signs.iter().map(|id| id.name()).collect::<Vec<_>>(),
    })
}
