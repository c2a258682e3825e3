//! The generated pages of `docs/`: they say what the catalogue says. `make docs` rewrites them.

mod support;

use std::{fmt::Write as _, path::Path};

use certkit::model::catalogue::{
    self, CERTIFICATES, COMPONENTS, CertId, CertSpec, ClusterValue, Condition, Credential, Dials,
    Home, Issuer, KEYS, KeyPolicy, PATHS, Protection, Purpose, Reload, SanRule, Scope, SubjectRule,
    USES, Value, roles,
};
use certkit::model::{code::CODES, request::REQUEST_FAULTS};

#[test]
fn the_catalogue_page_is_current() {
    support::golden_file(Path::new("docs/catalogue.md"), &catalogue());
}

#[test]
fn the_paths_page_is_current() {
    support::golden_file(Path::new("docs/paths.md"), &paths());
}

#[test]
fn the_findings_page_is_current() {
    support::golden_file(Path::new("docs/findings.md"), &findings());
}

#[test]
fn the_page_of_requests_is_current() {
    support::golden_file(Path::new("docs/requests.md"), &requests());
}

fn requests() -> String {
    let mut page = String::from(
        "# Why a request is not approved\n\n\
         `certkit controller` and `certkit csr` hold every request of a kubelet for a certificate against these, and \
         tell every one that applies: in the request's condition, as an Event, in the log, in metrics. Codes are \
         stable. What is *denied* is so for good; what is *left* waits for what is missing, or for a person. This page \
         is generated from `src/model/request/fault.rs`; `make docs` rewrites it.\n\n\
         | Code | Reason in the API | | Means | What to do |\n|---|---|---|---|---|\n",
    );
    for spec in REQUEST_FAULTS {
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {} | {} | {} |",
            spec.name,
            spec.reason,
            if spec.denies { "denied" } else { "left" },
            spec.means,
            spec.fix
        );
    }
    page
}

fn findings() -> String {
    let mut page = String::from(
        "# Findings\n\n\
         What `certkit verify` finds, by its code. Codes are stable: `--allow CODE` leaves one out, `--deny \
         CODE` makes it critical. This page is generated from `src/model/check/code.rs`; `make docs` \
         rewrites it.\n\n| Code | Severity | Means |\n|---|---|---|\n",
    );
    for spec in CODES {
        let _ = writeln!(
            page,
            "| [`{0}`](#{0}) | {1} | {2} |",
            spec.name,
            spec.severity.name(),
            spec.title
        );
    }
    for spec in CODES {
        let _ = writeln!(
            page,
            "\n## {}\n\n{}. *{}*\n\n{}\n\nWhat to do: {}.",
            spec.name,
            spec.title,
            spec.severity.name(),
            spec.explanation,
            spec.fix
        );
    }
    page
}

fn catalogue() -> String {
    let mut page = String::from(
        "# The catalogue\n\n\
         Everything a cluster's PKI consists of, as certkit knows it. This page is generated from \
         `src/model/catalogue/`; `make docs` rewrites it. Paths are relative to `/etc/kubernetes`.\n\n\
         ## Certificates\n\n\
         | Name | For | Issuer | Subject | Names | Usage | Once a | Exists | Key at renewal |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for spec in CERTIFICATES {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} |",
            spec.id,
            spec.about,
            issuer(spec.issuer),
            subject(spec.subject),
            sans(spec.sans),
            usage(spec.purpose),
            scope(spec.scope),
            condition(spec.present),
            key(spec),
        );
    }
    page.push_str(
        "\nEvery CA has keyUsage digitalSignature, keyEncipherment and keyCertSign; every leaf \
         digitalSignature and keyEncipherment. Both extensions, keyUsage and basicConstraints, are \
         critical. A host-scoped certificate exists on every such host, with that host's names.\n\n\
         ## Files\n\n| Name | Files | Source |\n|---|---|---|\n",
    );
    for spec in CERTIFICATES {
        let _ = writeln!(page, "| `{}` | {} | {} |", spec.id, files(spec), spec.source);
    }
    for spec in KEYS {
        let _ = writeln!(
            page,
            "| `{}` ({}) | `{}` `{}` | {} |",
            spec.id, spec.about, spec.private, spec.public, spec.source
        );
    }
    page.push_str(
        "\n## Settings\n\nWhat makes each component use these files, and how it takes up a \
         changed one.\n",
    );
    for component in COMPONENTS {
        let _ = write!(
            page,
            "\n### {}\n\n| Setting | Value | A change is taken up | Without it | Why |\n|---|---|---|---|---|\n",
            component.id
        );
        for row in USES.iter().filter(|u| u.component == component.id) {
            let mut names = Vec::new();
            names.extend(row.flag.map(|flag| format!("`--{flag}`")));
            names.extend(row.field.map(|field| format!("`{}`", field.replace('\\', ""))));
            let when = match row.present {
                Condition::Always => String::new(),
                other => format!(" ({})", condition(other)),
            };
            let _ = writeln!(
                page,
                "| {}{when} | {} | {} | {} | {} |",
                names.join(", "),
                value(row.value),
                reload(row.reload),
                row.default,
                row.why
            );
        }
    }
    page
}

fn paths() -> String {
    let mut page = String::from(
        "# Communication paths\n\n\
         Every way a cluster talks: who dials whom, what each shows, by what the other checks it. This \
         page is generated from `src/model/catalogue/paths.rs`; `make docs` rewrites it.\n\n\
         | Path | From | To | Port | Client shows | checked by | Server shows | checked by | for the name |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for path in PATHS {
        let ca = |id: Option<CertId>| id.map_or("-".to_owned(), |id| format!("`{id}`"));
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            path.id,
            path.from,
            path.to,
            path.port,
            credential(path.client),
            ca(path.server_trusts),
            credential(path.server),
            ca(path.client_trusts),
            dials(path.dials),
        );
    }
    for path in PATHS {
        let _ = writeln!(page, "\n## {}\n", path.id);
        match path.protection {
            Protection::MutualTls => page.push_str("Mutual TLS.\n"),
            Protection::ServerTls if matches!(path.client, Credential::Token(_)) => {
                page.push_str("TLS; the client shows a token.\n");
            }
            Protection::ServerTls => page.push_str("TLS.\n"),
            Protection::Removed { instead } => {
                let _ = writeln!(page, "Removed from Kubernetes. Instead: {instead}.");
            }
            Protection::Unprotectable { why, remedy } => {
                let _ = writeln!(
                    page,
                    "Certificates cannot protect it: {why}.\n\nWhat does: {remedy}."
                );
            }
        }
        if path.present != Condition::Always {
            let _ = writeln!(page, "\nExists {}.", condition(path.present));
        }
        let _ = writeln!(page, "\nWhen it breaks: {}.", path.breaks);
        let asks = [path.client, path.server].into_iter().any(|credential| {
            let own = [roles::KUBELET_SERVING.id, roles::NODE.id];
            matches!(credential, Credential::Cert(id) if own.contains(&id))
        });
        if asks {
            page.push_str(
                "\nNodes can ask the cluster's API for the kubelet's certificate themselves, and renew it so; \
                 `certkit controller` decides on their requests: [Kubelet serving certificates, at \
                 last](kubelet-requests.md).\n",
            );
        }
        // The page is of the rows whose ends show what the workload CA signed, and of what they close.
        let workload = roles::WORKLOAD_CA.id;
        if path.client_trusts == Some(workload) {
            page.push_str(
                "\n`certkit controller --sign` signs what is shown: [Certificates for pods without a \
                 mesh](pod-certificates.md), [nodes among each other](signers.md).\n",
            );
        }
        if !path.settings.is_empty() {
            page.push_str("\nMade so by:\n\n");
            for (component, setting) in path.settings {
                let _ = writeln!(page, "- {component} `{}`", setting.replace('\\', ""));
            }
        }
    }
    page
}

fn issuer(issuer: Issuer) -> String {
    match issuer {
        Issuer::Own => "itself".into(),
        Issuer::Root => "itself, or `root-ca`".into(),
        Issuer::Ca(id) => format!("`{id}`"),
    }
}

fn subject(rule: SubjectRule) -> String {
    match rule {
        SubjectRule::Fixed { organizations, common_name } => {
            let mut parts: Vec<String> = organizations.iter().map(|o| format!("O={o}")).collect();
            parts.push(format!("CN={common_name}"));
            parts.join(", ")
        }
        SubjectRule::Host => "CN=HOST".into(),
        SubjectRule::Node => "O=system:nodes, CN=system:node:HOST".into(),
    }
}

fn sans(rules: &[SanRule]) -> String {
    let names: Vec<String> = rules
        .iter()
        .map(|rule| match rule {
            SanRule::CommonName => "the CN".into(),
            SanRule::Dns(name) => (*name).to_owned(),
            SanRule::Endpoint => "the endpoint's host".into(),
            SanRule::HostName => "the host's name".into(),
            SanRule::HostAddresses => "its addresses".into(),
            SanRule::HostAddress => "its first address".into(),
            SanRule::Loopback => "localhost, 127.0.0.1, ::1".into(),
            SanRule::ServiceNames => "kubernetes, kubernetes.default, kubernetes.default.svc, \
                 kubernetes.default.svc.DOMAIN"
                .into(),
            SanRule::ServiceAddress => "the service `kubernetes`'s address".into(),
        })
        .collect();
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

fn usage(purpose: Purpose) -> String {
    match purpose {
        Purpose::Ca { path_len: None } => "CA".into(),
        Purpose::Ca { path_len: Some(n) } => format!("CA, pathlen {n}"),
        Purpose::Client => "clientAuth".into(),
        Purpose::Server => "serverAuth".into(),
        Purpose::ServerAndClient => "serverAuth, clientAuth".into(),
    }
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Cluster => "cluster",
        Scope::ControlPlane => "control-plane host",
        Scope::Etcd => "etcd member",
        Scope::Node => "node",
    }
}

fn condition(condition: Condition) -> String {
    match condition {
        Condition::Always => "always".into(),
        Condition::Addon(name) => format!("with addon {name}"),
        Condition::NoConfigFile(component) => format!("where {component} has no file"),
        Condition::EtcdMembers => "unless some members are not declared".into(),
        Condition::EtcdPeerName => "if peers' certificates have that name".into(),
        Condition::ManagedEtcd => "unless etcd is external".into(),
        Condition::SingleRoot => "with a single root".into(),
    }
}

fn key(spec: &CertSpec) -> &'static str {
    match (spec.is_ca(), spec.key) {
        (true, _) => "-",
        (false, KeyPolicy::Keep) => "kept",
        (false, KeyPolicy::New) => "new",
    }
}

fn files(spec: &CertSpec) -> String {
    let files: Vec<String> = spec.home.files().iter().map(|f| format!("`{f}`")).collect();
    let note = match spec.home {
        Home::Kubeconfig { pem: None, .. } => " (embedded, to be carried)",
        _ => "",
    };
    files.join(" ") + note
}

fn value(value: Value) -> String {
    match value {
        Value::Bundle(id) => format!("bundle of `{id}`"),
        Value::Cert(id) => format!("certificate of `{id}`"),
        Value::Chain(id) => format!("chain of `{id}`"),
        Value::ConfigFile(id) => {
            let config = catalogue::component(id).and_then(|spec| spec.config);
            format!("`{}`", config.expect("a component with a file").file)
        }
        Value::Key(id) => format!("key of `{id}`"),
        Value::Kubeconfig(id) => format!("`{id}`"),
        Value::Literal(text) => format!("`{text}`"),
        Value::PrivateKey(id) => format!("private key of `{id}`"),
        Value::PublicKey(id) => format!("public keys of `{id}`"),
        Value::Setting(ClusterValue::AdvertiseAddress) => "the host's address".into(),
        Value::Setting(ClusterValue::ApiPort) => "the port of the host's apiserver".into(),
        Value::Setting(ClusterValue::EtcdClientUrl) => "the host's client URL".into(),
        Value::Setting(ClusterValue::EtcdClientUrls) => {
            "client URLs of the loopback address and of the host's".into()
        }
        Value::Setting(ClusterValue::EtcdMembers) => "`NAME=URL` of every member".into(),
        Value::Setting(ClusterValue::EtcdPeerUrl) => "the host's URL for peers".into(),
        Value::Setting(ClusterValue::HostName) => "the host's name".into(),
        Value::Setting(ClusterValue::EndpointHost) => "the endpoint's host".into(),
        Value::Setting(ClusterValue::EtcdServers) => "etcd's client URLs".into(),
        Value::Setting(ClusterValue::ServiceAccountIssuer) => {
            "`https://kubernetes.default.svc.DOMAIN`".into()
        }
        Value::Setting(ClusterValue::ServiceSubnets) => "the service subnets".into(),
    }
}

fn reload(reload: Reload) -> String {
    match reload {
        Reload::Handshake => "at every handshake".into(),
        Reload::Kubeconfig => "within 5 minutes if it names files; embedded: restart".into(),
        Reload::Nothing => "-".into(),
        Reload::Poll(seconds) => format!("within {} minutes", seconds / 60),
        Reload::Restart => "**restart**".into(),
        Reload::Watch => "at once".into(),
    }
}

fn credential(credential: Credential) -> String {
    match credential {
        Credential::Cert(id) => format!("`{id}`"),
        Credential::None => "-".into(),
        Credential::Other(text) | Credential::Token(text) => text.into(),
    }
}

fn dials(dials: Dials) -> String {
    match dials {
        Dials::Endpoint => "the endpoint's host".into(),
        Dials::Fixed(name) => name.into(),
        Dials::HostAddress => "the host's address".into(),
        Dials::Loopback => "127.0.0.1".into(),
        Dials::Nothing => "-".into(),
        Dials::ServiceAddress => "the service address".into(),
    }
}

#[test]
fn the_declaration_shown_in_the_docs_is_one() {
    let page = std::fs::read_to_string("docs/certkit-yaml.md").unwrap();
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let dir = support::temp_dir();
    let file = dir.path().join("example.yaml");
    std::fs::write(&file, example).unwrap();
    let mut command = support::certkit();
    command.args(["init", "--dry-run", "--dir"]).arg(dir.path().join("pki"));
    support::run(command.arg("--config").arg(&file));
}
