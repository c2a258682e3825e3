//! What `certkit flags` says, held against those who read it: Kubernetes' own list of flags, etcd,
//! systemd, kubectl and a shell.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Output},
};

use certkit::{
    model::{
        catalogue::{self, COMPONENTS},
        cluster::{Cluster, Etcd, ExternalEtcdFiles, Host, KubeconfigStyle},
    },
    ops::flags::{FlagsError, FlagsFormat, FlagsRequest, flags},
    render::Templates,
};

const DIR: &str = "/etc/kubernetes";

fn host(name: &str, address: &str, control_plane: bool, etcd: bool) -> Host {
    Host {
        name: name.parse().unwrap(),
        addresses: vec![address.parse().unwrap()],
        port: None,
        control_plane,
        etcd,
        node: control_plane || !etcd,
        ssh: None,
    }
}

fn one_host() -> Cluster {
    let hosts = vec![host("cp1", "10.0.0.11", true, true)];
    Cluster::new("prod".into(), "api.example.com:6443".parse().unwrap(), hosts)
}

/// Three etcd hosts of their own, a control plane, a worker, and every addon.
fn workspace() -> Cluster {
    let hosts = vec![
        host("cp1", "10.0.0.11", true, false),
        host("etcd1", "10.0.0.21", false, true),
        host("etcd2", "10.0.0.22", false, true),
        host("etcd3", "2001:db8::23", false, true),
        host("worker-1", "10.0.1.1", false, false),
    ];
    let mut cluster = one_host();
    cluster.hosts = hosts;
    cluster.etcd = Etcd::Hosts;
    cluster.workspace = true;
    cluster.addons = catalogue::addons().into_iter().map(Into::into).collect();
    cluster
}

fn with_addons() -> Cluster {
    Cluster { addons: workspace().addons, ..one_host() }
}

fn request(format: FlagsFormat, components: &[&str]) -> FlagsRequest {
    let components = components.iter().map(|c| (*c).to_owned()).collect();
    FlagsRequest { components, format, ..FlagsRequest::default() }
}

fn ask(cluster: &Cluster, request: &FlagsRequest) -> Result<String, FlagsError> {
    flags(cluster, Path::new(DIR), request, &Templates::default())
}

fn text(cluster: &Cluster, format: FlagsFormat, components: &[&str]) -> String {
    ask(cluster, &request(format, components)).unwrap()
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program} must be there for this test: {error}"))
}

fn both(output: &Output) -> String {
    let out = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&out).into_owned()
}

/// (component, flag) to (type, deprecated).
fn kubernetes_flags() -> BTreeMap<(String, String), (String, bool)> {
    let table = include_str!("fixtures/kubernetes-1.36-flags.tsv");
    let rows = table.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let deprecated = cells.get(3).is_some_and(|cell| !cell.is_empty());
        ((cells[0].into(), cells[1].into()), (cells[2].into(), deprecated))
    });
    rows.collect()
}

#[test]
fn every_flag_is_known_to_kubernetes_and_not_deprecated() {
    let known = kubernetes_flags();
    let components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];
    let mut seen = 0;
    for component in components {
        for line in text(&with_addons(), FlagsFormat::Args, &[component]).lines() {
            let (flag, _) = line.strip_prefix("--").unwrap().split_once('=').unwrap();
            let key = (component.to_owned(), flag.to_owned());
            let (_, deprecated) = known.get(&key).unwrap_or_else(|| panic!("{component} {flag}"));
            assert!(!deprecated, "{component} --{flag} is deprecated");
            seen += 1;
        }
    }
    // The scheduler's own flag for its kubeconfig is deprecated, and for trees without its file.
    let is_theirs = |row: &&catalogue::Use| {
        components.contains(&row.component)
            && !matches!(row.present, catalogue::Condition::NoConfigFile(_))
    };
    let rows = catalogue::USES.iter().filter(is_theirs).filter(|row| row.flag.is_some()).count();
    assert_eq!(seen, rows);
}

#[test]
fn what_says_where_a_program_listens_is_known_to_kubernetes() {
    let known = kubernetes_flags();
    let is_known = |listener: &&catalogue::Listener| {
        known.keys().any(|(component, _)| component == listener.component)
    };
    let listeners: Vec<_> = catalogue::LISTENERS.iter().filter(is_known).collect();
    assert_eq!(listeners.len(), 4, "apiserver, controller-manager, scheduler, kubelet");
    for listener in listeners {
        for flag in [Some(listener.port_setting), listener.address_setting].into_iter().flatten() {
            let key = (listener.component.to_owned(), flag.to_owned());
            assert!(known.contains_key(&key), "{} has no --{flag}", listener.component);
        }
    }
}

#[test]
fn etcds_flags_are_known_to_etcd() {
    if support::need("etcd").is_none() {
        return;
    }
    let help = both(&run("etcd", &["--help"]));
    let options: BTreeSet<&str> = help.split_whitespace().collect();
    let text = text(&one_host(), FlagsFormat::Args, &["etcd"]);
    assert!(text.lines().count() > 5);
    let listeners = catalogue::LISTENERS.iter().filter(|l| l.component == "etcd");
    let ports: Vec<String> = listeners.map(|l| format!("--{}", l.port_setting)).collect();
    assert_eq!(ports.len(), 2);
    for flag in text.lines().map(|line| line.split('=').next().unwrap()) {
        assert!(options.contains(flag), "{flag}");
    }
    for flag in &ports {
        assert!(options.contains(flag.as_str()), "{flag}");
    }
}

#[test]
fn golden_files() {
    let hold = |name: String, made: Result<String, FlagsError>| {
        let made = made.unwrap_or_else(|error| panic!("{name}: {error}"));
        support::golden(&format!("flags/{name}"), &made);
    };
    for format in FlagsFormat::ALL {
        let name = format.name();
        hold(format!("one-host.{name}"), ask(&one_host(), &request(format, &[])));
        let explained = FlagsRequest { explain: true, ..request(format, &[]) };
        hold(format!("one-host-explained.{name}"), ask(&one_host(), &explained));
        // A ClusterConfiguration is the same whichever host it is printed for.
        let hosts = if format == FlagsFormat::Kubeadm {
            &["cp1"][..]
        } else {
            &["cp1", "etcd1", "worker-1"]
        };
        for host in hosts {
            let asked = FlagsRequest { host: Some((*host).into()), ..request(format, &[]) };
            hold(format!("workspace-{host}.{name}"), ask(&workspace(), &asked));
        }
    }
    for format in [FlagsFormat::Args, FlagsFormat::Config, FlagsFormat::Json] {
        let name = format.name();
        hold(format!("workspace-istiod.{name}"), ask(&workspace(), &request(format, &["istiod"])));
    }
    let named = FlagsRequest { host: Some("etcd1".into()), ..request(FlagsFormat::Kubeadm, &[]) };
    assert_eq!(
        ask(&workspace(), &named).unwrap(),
        text(&workspace(), FlagsFormat::Kubeadm, &[]),
        "it is the cluster's"
    );
}

#[test]
fn one_component_has_no_heading_and_several_have_one_each() {
    let one = text(&one_host(), FlagsFormat::Args, &["kube-scheduler"]);
    assert!(one.lines().all(|line| line.starts_with("--")), "{one}");
    let two = text(&one_host(), FlagsFormat::Args, &["etcd", "kube-scheduler", "etcd"]);
    let headings: Vec<&str> = two.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(headings, ["# etcd", "# kube-scheduler"]);
}

/// A unit that uses the drop-in, in a folder that `systemd-analyze` reads units and drop-ins from.
fn verified(component: &str, drop_in: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let spec = catalogue::component(component).unwrap();
    let unit = folder.path().join(spec.unit.unwrap());
    let variable = component.to_uppercase().replace('-', "_");
    let start = match component {
        "etcd" => "/bin/true".to_owned(),
        _ => format!("/bin/true ${variable}_PKI_ARGS"),
    };
    fs::write(&unit, format!("[Service]\nExecStart={start}\n")).unwrap();
    let drop_ins = folder.path().join(format!("{}.d", spec.unit.unwrap()));
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("10-certkit-pki.conf"), drop_in).unwrap();
    let out = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&unit)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
        .output()
        .expect("systemd-analyze must be there for this test");
    let said = both(&out);
    match out.status.success() {
        true => said,
        false => format!("failed: {said}"),
    }
}

#[test]
fn systemd_accepts_every_drop_in_and_finds_faults_in_a_wrong_one() {
    if support::optional("systemd-analyze").is_none() {
        return;
    }
    let cluster = with_addons();
    for spec in COMPONENTS.iter().filter(|spec| spec.unit.is_some()) {
        for explain in [false, true] {
            let asked = FlagsRequest { explain, ..request(FlagsFormat::Systemd, &[spec.id]) };
            assert_eq!(verified(spec.id, &ask(&cluster, &asked).unwrap()), "", "{}", spec.id);
        }
    }
    let mut hostile = cluster;
    hostile.host_dir = Some(HOSTILE.into());
    for component in ["etcd", "kube-apiserver"] {
        let drop_in = text(&hostile, FlagsFormat::Systemd, &[component]);
        assert_eq!(verified(component, &drop_in), "", "{drop_in}");
        assert_ne!(verified(component, &drop_in.replace("%%", "%Z")), "", "{component}");
    }
}

/// Every mark that a shell, systemd, YAML or JSON gives a meaning.
const HOSTILE: &str = r#"/srv/a b/"c"/'d'/$HOME/${X}/%n%%/\x\/`id`/#;/{{ y }}/: - &*!|>"#;

/// Splits a variable's value into words by systemd.service(5): blanks between, quotes around a word,
/// backslash before a character that is meant as it is.
fn systemd_words(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            (_, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    assert_eq!(quote, None);
    words.extend(word);
    words
}

#[test]
fn a_shell_reads_hostile_values_back_from_an_environment_file() {
    let mut cluster = one_host();
    cluster.host_dir = Some(HOSTILE.into());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.env");
    let read = |component: &str, variable: &str| {
        fs::write(&file, text(&cluster, FlagsFormat::Env, &[component])).unwrap();
        let script = format!(". \"$0\"; printf %s \"${variable}\"");
        let out = Command::new("sh").args(["-c", &script]).arg(&file).output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(read("etcd", "ETCD_KEY_FILE"), format!("{HOSTILE}/pki/etcd/server.key"));
    assert_eq!(
        read("etcdctl", "ETCDCTL_KEY"),
        format!("{HOSTILE}/pki/etcd/healthcheck-client.key")
    );
    assert_eq!(read("kubectl", "KUBECONFIG"), format!("{HOSTILE}/admin.conf"));
    let words = systemd_words(&read("kube-apiserver", "KUBE_APISERVER_PKI_ARGS"));
    let args = text(&cluster, FlagsFormat::Args, &["kube-apiserver"]);
    assert_eq!(words, args.lines().collect::<Vec<_>>());
}

#[test]
fn hostile_values_stay_one_word_in_a_drop_in() {
    let mut cluster = one_host();
    cluster.host_dir = Some(HOSTILE.into());
    let drop_in = text(&cluster, FlagsFormat::Systemd, &["kube-apiserver"]);
    // By systemd.syntax(7) and systemd.unit(5): lines are joined first, then C escapes, then %%.
    let joined = drop_in.replace("\\\n", " ");
    let line = joined.lines().find_map(|line| line.strip_prefix("Environment=\"")).unwrap();
    let line = line.strip_suffix('"').unwrap();
    let mut value = String::new();
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => value.extend(characters.next()),
            '%' => {
                assert_eq!(characters.next(), Some('%'), "a specifier in {line}");
                value.push('%');
            }
            '"' => panic!("the value ends early: {line}"),
            _ => value.push(c),
        }
    }
    let value = value.strip_prefix("KUBE_APISERVER_PKI_ARGS=").unwrap();
    let args = text(&cluster, FlagsFormat::Args, &["kube-apiserver"]);
    assert_eq!(systemd_words(value), args.lines().collect::<Vec<_>>());
}

#[test]
fn a_value_with_a_control_character_is_refused_and_named() {
    for bad in ["https://a\nInjected=1", "https://a\r", "https://\0", "https://\u{2028}", "\x1b[2J"]
    {
        let mut cluster = one_host();
        cluster.etcd = Etcd::External { endpoints: vec![bad.into()], files: None };
        for format in FlagsFormat::ALL {
            if format == FlagsFormat::Config {
                // No configuration file names etcd's endpoints, so none can carry the value.
                let made = text(&cluster, format, &[]);
                assert!(!made.contains(bad) && !made.contains("Injected"), "{made}");
                continue;
            }
            let error = ask(&cluster, &request(format, &[])).unwrap_err();
            let FlagsError::Unprintable { option, .. } = &error else { panic!("{error}") };
            assert_eq!(*option, "etcd-servers");
            assert!(!error.to_string().chars().any(char::is_control));
        }
    }
    for bad in ["/a\nb", "a/b", "/a/../b", ""] {
        let asked = FlagsRequest { host_dir: Some(bad.into()), ..FlagsRequest::default() };
        assert!(matches!(ask(&one_host(), &asked), Err(FlagsError::HostDir { .. })), "{bad:?}");
    }
}

/// YAML as kubectl reads it, back as JSON.
fn yaml_to_json(yaml: &str) -> String {
    // A ConfigMap's shape lets kubectl, which wants objects, carry any document as it reads it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.yaml");
    let nested: String = yaml.lines().map(|line| format!("  {line}\n")).collect();
    let wrapped = format!("apiVersion: v1\nkind: Carrier\nmetadata: {{name: x}}\nbody:\n{nested}");
    fs::write(&file, wrapped).unwrap();
    let patch = ["patch", "--local", "--type=json", "--patch=[]", "--output=json", "--filename"];
    let out = Command::new("kubectl").args(patch).arg(&file).output().unwrap();
    assert!(out.status.success(), "{}\n{yaml}", both(&out));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn kubectl_reads_every_configuration_file_with_its_types() {
    if support::need("kubectl").is_none() {
        return;
    }
    let mut cluster = with_addons();
    cluster.host_dir = Some(HOSTILE.into());
    let escaped = HOSTILE.replace('\\', "\\\\").replace('"', "\\\"");
    for spec in COMPONENTS.iter().filter(|spec| spec.config.is_some()) {
        for explain in [false, true] {
            let asked = FlagsRequest { explain, ..request(FlagsFormat::Config, &[spec.id]) };
            let json = yaml_to_json(&ask(&cluster, &asked).unwrap());
            let json = json.replace("\\u0026", "&").replace("\\u003e", ">");
            assert!(json.contains(&escaped), "{}: {json}", spec.id);
        }
    }
    let kubelet = yaml_to_json(&text(&one_host(), FlagsFormat::Config, &["kubelet"]));
    for part in ["\"readOnlyPort\": 0", "\"enabled\": false", "\"tlsMinVersion\": \"VersionTLS12\""]
    {
        assert!(kubelet.contains(part), "{part} in {kubelet}");
    }
    for document in text(&cluster, FlagsFormat::Kubeadm, &[]).split("---\n") {
        yaml_to_json(document);
    }
}

#[test]
fn kubectl_applies_the_patches_to_kubeadms_own_manifests() {
    if support::need("kubectl").is_none() {
        return;
    }
    let manifests =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36/manifests");
    let lists: BTreeSet<String> = kubernetes_flags()
        .into_iter()
        .filter(|(_, (kind, _))| kind.starts_with("string") && kind != "string")
        .map(|((_, flag), _)| flag)
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for component in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let patch = folder.path().join(format!("{component}+json.yaml"));
        fs::write(&patch, text(&one_host(), FlagsFormat::StaticPod, &[component])).unwrap();
        let out = Command::new("kubectl")
            .args(["patch", "--local", "--type=json", "--output=yaml", "--patch-file"])
            .arg(&patch)
            .arg("--filename")
            .arg(manifests.join(format!("{component}.yaml")))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", both(&out));
        let pod = String::from_utf8(out.stdout).unwrap();
        let command: Vec<&str> =
            pod.lines().filter_map(|line| line.trim_start().strip_prefix("- --")).collect();
        for line in text(&one_host(), FlagsFormat::Args, &[component]).lines() {
            let option = line.trim_start_matches("--");
            let (flag, _) = option.split_once('=').unwrap();
            let prefix = format!("{flag}=");
            let all: Vec<&&str> = command.iter().filter(|c| c.starts_with(&prefix)).collect();
            // The last one counts, except that lists add up: of those there may be one only.
            assert_eq!(all.last().map(|last| **last), Some(option), "{component}");
            assert!(all.len() == 1 || !lists.contains(flag), "{component} {all:?}");
        }
    }
    let patch = text(&one_host(), FlagsFormat::StaticPod, &["kube-scheduler"]);
    for path in ["\"/etc/kubernetes/pki\"", "\"/etc/kubernetes/scheduler-config.yaml\""] {
        assert!(patch.contains(&format!("mountPath: {path}")), "{path} in {patch}");
    }
}

#[test]
fn kustomize_makes_the_secret_that_istiod_reads() {
    if support::need("kubectl").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];
    for file in
        files.iter().chain(&["root-cert-bundle.pem"]).filter(|file| **file != "root-cert.pem")
    {
        fs::write(folder.path().join(file), file).unwrap();
    }
    let made = text(&with_addons(), FlagsFormat::Config, &["istiod"]);
    fs::write(folder.path().join("kustomization.yaml"), made).unwrap();
    let out = run("kubectl", &["kustomize", folder.path().to_str().unwrap()]);
    let secret = both(&out);
    assert!(out.status.success(), "{secret}");
    assert!(secret.contains("  name: cacerts\n  namespace: istio-system\n"), "{secret}");
    assert!(files.iter().all(|file| secret.contains(&format!("  {file}: "))), "{secret}");
}

#[test]
fn kubectl_makes_the_same_secret_from_the_arguments() {
    if support::need("kubectl").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let istio = folder.path().join("pki/istio");
    fs::create_dir_all(&istio).unwrap();
    for file in ["ca-cert.pem", "ca-key.pem", "root-cert-bundle.pem", "cert-chain.pem"] {
        fs::write(istio.join(file), file).unwrap();
    }
    let asked = request(FlagsFormat::Args, &["istiod"]);
    let args = flags(&with_addons(), folder.path(), &asked, &Templates::default()).unwrap();
    let fixed = "create secret generic cacerts -n istio-system --dry-run=client -o yaml";
    let out = Command::new("kubectl").args(fixed.split(' ')).args(args.lines()).output().unwrap();
    assert!(out.status.success(), "{}", both(&out));
    assert!(both(&out).contains("  root-cert.pem: "));
}

#[test]
fn json_says_all_of_every_setting() {
    let cluster = workspace_of_one();
    let json = text(&cluster, FlagsFormat::Json, &[]);
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_value(document["settings"].clone()).unwrap();
    let present = catalogue::USES.iter().filter(|row| cluster.has(row.present));
    assert_eq!(rows.len(), present.count());
    let fields = ["component", "host", "flag", "field", "value", "default", "why", "reload"];
    for row in rows {
        assert_eq!(row.keys().collect::<Vec<_>>(), fields);
        assert!(row["reload"] != "kubeconfig", "{row:?} is not resolved");
        assert!(row["flag"].is_string() || row["field"].is_string(), "{row:?}");
    }
}

fn workspace_of_one() -> Cluster {
    Cluster { kubeconfig_style: KubeconfigStyle::Embedded, ..with_addons() }
}

#[test]
fn a_host_must_be_named_where_hosts_differ() {
    let error = ask(&workspace(), &request(FlagsFormat::Args, &[])).unwrap_err();
    assert!(matches!(error, FlagsError::HostNeeded { .. }), "{error}");
    assert!(error.hint().unwrap().contains("worker-1"));
    // Each member has addresses of its own.
    let error = ask(&workspace(), &request(FlagsFormat::Args, &["etcd"])).unwrap_err();
    assert!(matches!(error, FlagsError::HostNeeded { .. }), "{error}");
    assert_eq!(error.hint().unwrap(), "name one with --host, of etcd1, etcd2, etcd3");
    // Other components are the same on all of their hosts.
    assert!(ask(&workspace(), &request(FlagsFormat::Args, &["kubelet"])).is_ok());
    assert!(ask(&workspace(), &request(FlagsFormat::Kubeadm, &[])).is_ok());
    for (host, component) in [("nobody", "etcd"), ("worker-1", "etcd")] {
        let asked =
            FlagsRequest { host: Some(host.into()), ..request(FlagsFormat::Args, &[component]) };
        let error = ask(&workspace(), &asked).unwrap_err();
        assert!(error.hint().unwrap().contains("etcd1"), "{error}");
    }
}

#[test]
fn what_is_not_there_is_an_error_that_says_what_is() {
    let hint = |format, component: &str| {
        let error = ask(&one_host(), &request(format, &[component])).unwrap_err();
        assert!(error.is_usage());
        (error.to_string(), error.hint().unwrap())
    };
    let (error, next) = hint(FlagsFormat::Config, "kube-apiserver");
    assert_eq!(error, "kube-apiserver has no config form");
    assert!(next.contains("kube-scheduler") && next.contains("etcd"), "{next}");
    assert!(hint(FlagsFormat::StaticPod, "kubectl").1.contains("args"));
    assert!(hint(FlagsFormat::Args, "konnectivity-server").1.contains("addons"));
    assert!(hint(FlagsFormat::Args, "kube-apisever").1.contains("kube-apiserver"));
}

#[test]
fn external_etcd_reaches_the_apiserver_and_kubeadm_and_etcd_itself_is_gone() {
    let mut cluster = one_host();
    let files = Some(ExternalEtcdFiles {
        ca: "/e/ca.crt".into(),
        cert: "/e/client.crt".into(),
        key: "/e/client.key".into(),
    });
    cluster.etcd = Etcd::External { endpoints: vec!["https://e:2379".into()], files };
    let all = text(&cluster, FlagsFormat::Args, &[]);
    assert!(all.contains("--etcd-certfile=/e/client.crt\n"), "{all}");
    assert!(!all.contains("# etcd"), "{all}");
    let kubeadm = text(&cluster, FlagsFormat::Kubeadm, &[]);
    assert!(kubeadm.contains("    certFile: \"/e/client.crt\"\n"), "{kubeadm}");
    assert!(matches!(
        ask(&cluster, &request(FlagsFormat::Args, &["etcd"])),
        Err(FlagsError::NotDeclared { .. })
    ));
}

#[test]
fn an_own_template_takes_the_built_in_ones_place() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("flags")).unwrap();
    let own = "{% for s in flags %}{{ s.flag }}\n{% endfor %}";
    fs::write(folder.path().join("flags/args.txt"), own).unwrap();
    let templates = Templates::with_folder(folder.path()).unwrap();
    let asked = request(FlagsFormat::Args, &["etcdctl"]);
    let made = flags(&one_host(), Path::new(DIR), &asked, &templates).unwrap();
    assert_eq!(made, "cacert\ncert\nendpoints\nkey\n");
    let asked = request(FlagsFormat::Env, &["etcdctl"]);
    let made = flags(&one_host(), Path::new(DIR), &asked, &templates).unwrap();
    assert_eq!(made, text(&one_host(), FlagsFormat::Env, &["etcdctl"]));
}

#[test]
fn the_command_reads_certkit_yaml_and_leaves_out_what_signs_when_the_ca_is_elsewhere() {
    let folder = support::temp_dir();
    let certkit = |args: &[&str]| {
        let mut command = support::certkit();
        command.arg("--dir").arg(folder.path()).args(args);
        command
    };
    support::run(&mut certkit(&["init", "--host", "cp1=10.0.0.11", "--endpoint", "api:6443"]));
    let asked = ["flags", "kube-controller-manager"];
    let all = support::stdout(&mut certkit(&asked));
    let root = folder.path().display();
    let signing = format!("--cluster-signing-key-file={root}/pki/ca.key\n");
    assert!(all.contains(&signing), "{all}");
    for line in all.lines().filter(|line| line.contains("-file=")) {
        let (_, file) = line.split_once('=').unwrap();
        assert!(Path::new(file).is_file(), "{line}: init made no such file");
    }
    fs::remove_file(folder.path().join("pki/ca.key")).unwrap();
    let without = support::stdout(&mut certkit(&asked));
    assert!(
        !without.contains("cluster-signing") && without.contains("--root-ca-file"),
        "{without}"
    );
    let moved = support::stdout(&mut certkit(&["flags", "kubectl", "--host-dir", "/opt/k8s"]));
    assert_eq!(moved, "--kubeconfig=/opt/k8s/admin.conf\n");

    support::run_to_exit(&mut certkit(&["flags", "kube-apiserver", "--format", "config"]), 64);
    support::run_to_exit(&mut certkit(&["flags", "--host", "nobody"]), 64);
    support::run_to_exit(&mut certkit(&["flags", "nothing"]), 64);
    support::run_to_exit(&mut certkit(&["flags", "--templates", "/nonexistent"]), 3);
    let empty = support::temp_dir();
    let out =
        support::run_to_exit(support::certkit().arg("--dir").arg(empty.path()).arg("flags"), 3);
    assert!(both(&out).contains("hint:"), "{}", both(&out));
}
