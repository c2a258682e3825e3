//! `verify --flags`: what components are told, in every form it is told, right and wrong.

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::Value;

const AT: &str = "2026-12-21T00:00:00Z";

/// kubeadm's fixture with the modes kubeadm gives, and its manifests.
fn kubeadm() -> tempfile::TempDir {
    let folder = support::temp_dir();
    let fixture = Path::new("tests/fixtures/kubeadm-1.36");
    for part in ["ecdsa-p256", "manifests"] {
        support::run(Command::new("cp").arg("-a").arg(fixture.join(part)).arg(folder.path()));
    }
    close(&folder.path().join("ecdsa-p256"));
    folder
}

fn close(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            close(&path);
        } else if path.extension().is_some_and(|e| e == "key" || e == "conf") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// The findings about flags, each as its code and severity.
fn findings(dir: &Path, files: &[&Path], at: &str) -> Vec<(String, String)> {
    let mut command = support::certkit();
    command.args(["verify", "-o", "json", "--at", at, "--dir"]).arg(dir);
    for file in files {
        command.arg("--flags").arg(file);
    }
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |f: &Value, key: &str| f[key].as_str().unwrap().to_owned();
    let named: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    let about = |f: &&Value| f["files"][0].as_str().is_some_and(|p| named.iter().any(|n| n == p));
    let all = report["findings"].as_array().unwrap().iter();
    all.filter(about).map(|f| (text(f, "code"), text(f, "severity"))).collect()
}

#[test]
fn kubeadms_manifests_leave_open_what_they_really_leave_open() {
    let folder = kubeadm();
    let manifests: Vec<_> = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
        .map(|name| folder.path().join("manifests").join(format!("{name}.yaml")))
        .to_vec();
    let files: Vec<&Path> = manifests.iter().map(|f| f.as_path()).collect();
    let found = findings(&folder.path().join("ecdsa-p256"), &files, AT);
    let expected = [
        ("etcd-peer-open", "warning"),
        ("kubelet-ca-missing", "warning"),
        ("flag-deprecated", "warning"),
        ("self-signed-serving", "info"),
        ("self-signed-serving", "info"),
    ];
    assert_eq!(found, expected.map(|(code, severity)| (code.to_owned(), severity.to_owned())));
}

#[test]
fn what_certkit_emits_is_secure_in_every_form() {
    let folder = support::temp_dir();
    let dir = folder.path().join("pki");
    let addons = ["--addon", "konnectivity", "--addon", "kube-proxy"];
    support::run(
        support::certkit()
            .args(["init", "-q", "--host", "cp1=10.0.0.11", "--dir"])
            .arg(&dir)
            .args(addons),
    );
    // The one file that a flag names and `flags` prints.
    for (component, file) in
        [("kube-scheduler", "scheduler-config.yaml"), ("egress-selector", "egress-selector.yaml")]
    {
        let text = support::stdout(
            support::certkit().args(["flags", component, "--format", "config", "--dir"]).arg(&dir),
        );
        fs::write(dir.join(file), text).unwrap();
    }
    let mut tried = 0;
    for (component, formats) in [
        ("etcd", &["args", "systemd", "config"][..]),
        ("kube-apiserver", &["args", "systemd"]),
        ("kube-controller-manager", &["args", "systemd"]),
        ("kube-scheduler", &["args", "systemd", "config"]),
        ("kubelet", &["config"]),
        ("kube-proxy", &["config"]),
        ("konnectivity-server", &["args"]),
        ("konnectivity-agent", &["args"]),
        ("egress-selector", &["config"]),
    ] {
        for format in formats {
            let text = support::stdout(
                support::certkit()
                    .args(["flags", component, "--format", format, "--dir"])
                    .arg(&dir),
            );
            let file = folder.path().join(format!("{component}.{format}"));
            fs::write(&file, text).unwrap();
            let output = support::certkit()
                .args(["verify", "-o", "json", "--dir"])
                .arg(&dir)
                .arg("--flags")
                .arg(&file)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{component} as {format}: {said}");
            tried += 1;
        }
    }
    assert_eq!(tried, 15);
}

/// A manifest of kubeadm's, changed, and the code that the change must give.
fn spoilt(manifest: &str, change: impl Fn(String) -> String) -> Vec<String> {
    let folder = kubeadm();
    let file = folder.path().join("manifests").join(format!("{manifest}.yaml"));
    let before: Vec<String> = codes(&folder.path().join("ecdsa-p256"), &file);
    let text = fs::read_to_string(&file).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "nothing was changed");
    fs::write(&file, changed).unwrap();
    let mut after = codes(&folder.path().join("ecdsa-p256"), &file);
    for code in before {
        if let Some(at) = after.iter().position(|c| *c == code) {
            after.remove(at);
        }
    }
    after
}

fn codes(dir: &Path, file: &Path) -> Vec<String> {
    findings(dir, &[file], AT).into_iter().map(|(code, _)| code).collect()
}

fn drop_flag(flag: &'static str) -> impl Fn(String) -> String {
    move |text| {
        let keep = |line: &&str| !line.contains(&format!("- --{flag}="));
        text.lines().filter(keep).map(|line| format!("{line}\n")).collect()
    }
}

fn set(flag: &'static str, value: &'static str) -> impl Fn(String) -> String {
    move |text| {
        let line = |line: &str| match line.split_once(&format!("- --{flag}=")) {
            Some((indent, _)) => format!("{indent}- --{flag}={value}\n"),
            None => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }
}

fn add(flag: &'static str) -> impl Fn(String) -> String {
    move |text| {
        let at = text.find("    - --").unwrap();
        format!("{}    - --{flag}\n{}", &text[..at], &text[at..])
    }
}

macro_rules! flags {
    ($($name:ident: $manifest:literal, [$($code:literal),*], $change:expr;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(spoilt($manifest, $change), [$($code),*] as [&str; _]);
        })*
    };
}

flags! {
    no_client_ca: "kube-apiserver", ["client-ca-missing"], drop_flag("client-ca-file");
    trust_of_another_ca: "kube-apiserver", ["trust-wrong-ca"],
        set("client-ca-file", "/etc/kubernetes/pki/etcd/ca.crt");
    the_users_ca_for_the_front_proxy: "kube-apiserver", ["trust-wrong-ca"],
        set("requestheader-client-ca-file", "/etc/kubernetes/pki/ca.crt");
    no_etcd_ca: "kube-apiserver", ["trust-wrong-ca"], drop_flag("etcd-cafile");
    plain_http_to_etcd: "kube-apiserver", ["plain-http"], set("etcd-servers", "http://127.0.0.1:2379");
    everything_allowed: "kube-apiserver", ["always-allow"], set("authorization-mode", "AlwaysAllow");
    no_authorization: "kube-apiserver", ["always-allow"], drop_flag("authorization-mode");
    any_front_proxy: "kube-apiserver", ["requestheader-names"], drop_flag("requestheader-allowed-names");
    a_removed_flag: "kube-apiserver", ["flag-removed"], add("insecure-port=8080");
    an_unknown_flag: "kube-apiserver", ["flag-unknown"], add("tls-cert-fil=/x");
    a_deprecated_flag: "kube-apiserver", ["flag-deprecated"], add("enable-logs-handler=false");
    old_tls: "kube-apiserver", ["tls-too-old"], add("tls-min-version=VersionTLS11");
    a_file_that_is_not_there: "kube-apiserver", ["flag-file-missing"],
        set("kubelet-client-certificate", "/etc/kubernetes/pki/none.crt");
    a_certificate_of_another_ca: "kube-apiserver", ["certificate-wrong", "flag-pair"],
        set("etcd-certfile", "/etc/kubernetes/pki/apiserver-kubelet-client.crt");
    another_key: "kube-apiserver", ["flag-pair"],
        set("tls-private-key-file", "/etc/kubernetes/pki/ca.key");
    a_key_without_its_certificate: "kube-apiserver", ["flag-pair"], drop_flag("proxy-client-cert-file");
    another_sa_key: "kube-apiserver", ["flag-pair"],
        set("service-account-signing-key-file", "/etc/kubernetes/pki/apiserver.key");
    an_apiserver_signed_by_itself: "kube-apiserver", ["flag-pair", "self-signed-serving"],
        drop_flag("tls-cert-file");
    no_root_ca_for_pods: "kube-controller-manager", ["root-ca-missing"], drop_flag("root-ca-file");
    another_ca_to_sign_with: "kube-controller-manager", ["trust-wrong-ca", "flag-pair"],
        set("cluster-signing-cert-file", "/etc/kubernetes/pki/front-proxy-ca.crt");
    etcd_without_client_auth: "etcd", ["etcd-open"],
        |text| drop_flag("trusted-ca-file")(drop_flag("client-cert-auth")(text));
    etcd_by_system_roots: "etcd", ["etcd-system-roots"], drop_flag("trusted-ca-file");
    etcd_peers_without_auth: "etcd", ["etcd-peer-no-auth"],
        |text| drop_flag("peer-trusted-ca-file")(drop_flag("peer-client-cert-auth")(text));
    etcd_trusting_the_cluster_ca: "etcd", ["trust-wrong-ca"],
        set("trusted-ca-file", "/etc/kubernetes/pki/ca.crt");
    etcd_on_plain_http: "etcd", ["plain-http"], set("listen-client-urls", "http://0.0.0.0:2379");
    etcd_certifying_itself: "etcd", ["etcd-auto-tls"], add("peer-auto-tls=true");
    etcd_with_old_tls: "etcd", ["tls-too-old"], add("tls-min-version=TLS1.1");
    etcd_with_a_flag_of_old: "etcd", ["flag-removed"], add("enable-v2=true");
}

#[test]
fn a_signing_flag_must_not_name_a_bundle() {
    let folder = kubeadm();
    let dir = folder.path().join("ecdsa-p256");
    let one = fs::read_to_string(dir.join("pki/ca.crt")).unwrap();
    let other = fs::read_to_string(dir.join("pki/etcd/ca.crt")).unwrap();
    fs::write(dir.join("pki/trust.crt"), one + &other).unwrap();
    let file = folder.path().join("manifests/kube-controller-manager.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let text = set("cluster-signing-cert-file", "/etc/kubernetes/pki/trust.crt")(text);
    fs::write(&file, text).unwrap();
    assert!(codes(&dir, &file).contains(&"signing-bundle".to_owned()));
}

#[test]
fn a_kubelet_is_judged_by_flags_and_by_its_file() {
    let folder = kubeadm();
    let dir = folder.path().join("ecdsa-p256");
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let bare = write("cmdline", b"/usr/bin/kubelet\0--kubeconfig\0/etc/kubernetes/kubelet.conf\0");
    assert_eq!(
        codes(&dir, &bare),
        ["anonymous-access", "always-allow", "read-only-port", "client-ca-missing"]
    );
    let unit = write(
        "kubelet.service",
        b"[Service]\nExecStart=/usr/bin/kubelet --config=/var/lib/kubelet/config.yaml \\\n  --anonymous-auth=true\n",
    );
    // The twin of a field is deprecated, and counts.
    assert_eq!(codes(&dir, &unit), ["anonymous-access", "flag-deprecated"]);
    let open = write(
        "open.yaml",
        b"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
          authentication:\n  anonymous: {enabled: true}\nauthorization: {mode: AlwaysAllow}\n\
          readOnlyPort: 10255\ntlsMinVersion: VersionTLS10\n",
    );
    assert_eq!(
        codes(&dir, &open),
        [
            "anonymous-access",
            "always-allow",
            "read-only-port",
            "client-ca-missing",
            "tls-too-old",
            "self-signed-serving"
        ]
    );
    let wrong = write(
        "wrong.yaml",
        b"kind: KubeletConfiguration\nserverTLSBootstrap: true\n\
          authentication: {x509: {clientCAFile: /etc/kubernetes/pki/front-proxy-ca.crt}}\n",
    );
    assert_eq!(codes(&dir, &wrong), ["trust-wrong-ca"]);
}

#[test]
fn etcds_own_file_and_egress_and_konnectivity_are_read() {
    let folder = kubeadm();
    let dir = folder.path().join("ecdsa-p256");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let etcd = write(
        "etcd.yaml",
        "listen-client-urls: http://10.0.0.11:2379\nclient-transport-security: {auto-tls: true}\n\
         peer-transport-security:\n  client-cert-auth: true\n  allowed-hostname: x\n",
    );
    assert_eq!(
        codes(&dir, &etcd),
        ["etcd-open", "etcd-auto-tls", "etcd-system-roots", "plain-http"]
    );
    let egress = write(
        "egress.yaml",
        "apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\negressSelections:\n\
         - name: etcd\n  connection: {proxyProtocol: Direct}\n- name: cluster\n  connection:\n    \
         proxyProtocol: HTTPConnect\n    transport: {tcp: {url: 'http://127.0.0.1:8131'}}\n",
    );
    assert_eq!(codes(&dir, &egress), ["plain-http"]);
    let proxy = write("proxy.args", "proxy-server\n--server-port=8131\n--cluster-cert=/x\n");
    assert_eq!(codes(&dir, &proxy), ["flag-pair", "agents-unchecked", "agents-unchecked"]);
}

#[test]
fn a_file_that_tells_nothing_is_an_error_with_its_name() {
    let folder = kubeadm();
    let file = folder.path().join("hosts");
    fs::write(&file, "127.0.0.1 localhost\n").unwrap();
    let mut command = support::certkit();
    command
        .args(["verify", "--dir"])
        .arg(folder.path().join("ecdsa-p256"))
        .arg("--flags")
        .arg(&file);
    let output = support::run_to_exit(&mut command, 3);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("hosts") && said.contains("hint:"), "{said}");
}

/// A tree or workspace, and the hosts whose settings are asked for.
fn layouts(folder: &Path) -> Vec<(std::path::PathBuf, Vec<&'static str>)> {
    let init = |name: &str, more: &[&str]| {
        let dir = folder.join(name);
        support::run(support::certkit().arg("init").arg("--dir").arg(&dir).args(more));
        dir
    };
    let addons = ["--addon=konnectivity", "--addon=kube-proxy", "--addon=istio"];
    let one = ["--host=cp1=10.0.0.11", "--endpoint=api.example.com:7443"];
    let text = "apiVersion: certkit/v1\nkind: Cluster\nname: c\nendpoint: lb.example.com:443\n\
                controlPlane:\n- {name: cp1, addresses: [10.0.0.1], port: 7443}\n\
                - {name: cp2, addresses: [\"fd00::2\", 10.0.0.2]}\n\
                etcd: [{name: e1, addresses: [10.0.0.3]}, {name: e2, addresses: [10.0.0.4]}]\n\
                nodes: [{name: w1, addresses: [10.0.0.5]}]\naddons: [konnectivity, kube-proxy]\n";
    let file = folder.join("cluster.yaml");
    fs::write(&file, text).unwrap();
    let file = format!("--config={}", file.display());
    vec![
        (init("one", &[&one[..], &addons[..]].concat()), vec!["cp1"]),
        (
            init("root", &[&one[..], &["--single-root", "--kubeconfig-style=embedded"]].concat()),
            vec!["cp1"],
        ),
        (init("many", &[&file]), vec!["cp1", "cp2", "e1", "w1"]),
    ]
}

#[test]
fn everything_that_certkit_prints_is_accepted_without_a_finding() {
    let folder = support::temp_dir();
    let clean = |dir: &Path, files: &[std::path::PathBuf]| {
        let mut command = support::certkit();
        command.args(["verify", "-o", "json", "--dir"]).arg(dir);
        for file in files {
            command.arg("--flags").arg(file);
        }
        let output = command.output().unwrap();
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{files:?}: {report}{said}");
        assert!(report.contains("\"findings\": []"), "{files:?}: {report}");
    };
    for (n, (dir, hosts)) in layouts(folder.path()).into_iter().enumerate() {
        for host in hosts {
            for format in
                ["args", "env", "systemd", "static-pod", "config", "kubeadm", "json", "yaml"]
            {
                for more in [&[][..], &["--explain"]] {
                    let flags = || {
                        let mut command = support::certkit();
                        command.args(["flags", "--host", host, "--format", format]).args(more);
                        command.arg("--dir").arg(&dir);
                        command
                    };
                    let printed = support::stdout(&mut flags());
                    // A host may have nothing that a format is for.
                    if printed.trim().is_empty() {
                        continue;
                    }
                    // All in one file whose name says nothing, and each in its own.
                    let file = folder.path().join("printed");
                    fs::write(&file, printed).unwrap();
                    clean(&dir, &[file]);
                    let out = folder.path().join(format!("{n}-{host}-{format}-{}", more.len()));
                    let listed = support::stdout(flags().arg("--output-dir").arg(&out));
                    let files: Vec<_> = listed.lines().map(Into::into).collect();
                    clean(&dir, &files);
                    if more.is_empty() && n == 0 {
                        files.iter().for_each(|file| clean(&dir, std::slice::from_ref(file)));
                    }
                }
            }
        }
    }
}

#[test]
fn one_components_flags_are_recognized_without_a_name() {
    let folder = support::temp_dir();
    let (dir, _) = layouts(folder.path()).swap_remove(0);
    let file = folder.path().join("x.txt");
    for component in [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "konnectivity-server",
        "konnectivity-agent",
        "etcdctl",
    ] {
        let printed =
            support::stdout(support::certkit().args(["flags", component, "--dir"]).arg(&dir));
        // Something to find, so that it is known to be read as this component's.
        let more = match component {
            "etcd" => "--listen-client-urls=http://10.0.0.11:2379\n",
            "kube-apiserver" => "--authorization-mode=AlwaysAllow\n",
            "kube-controller-manager" | "kube-scheduler" => "--tls-min-version=VersionTLS10\n",
            "kubelet" => "--anonymous-auth=true\n",
            _ => "",
        };
        fs::write(&file, printed + more).unwrap();
        let found = findings(&dir, &[&file], &now());
        assert_eq!(found.is_empty(), more.is_empty(), "{component}: {found:?}");
    }
}

/// The current time, for trees made now.
fn now() -> String {
    let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(now.stdout).unwrap().trim().to_owned()
}

#[test]
fn kubesprays_environment_file_of_etcd_is_judged() {
    let folder = support::temp_dir();
    let (dir, _) = layouts(folder.path()).swap_remove(0);
    let file = folder.path().join("etcd.env");
    let pki = dir.join("pki/etcd");
    let pki = pki.display();
    let text = format!(
        "# Environment file for etcd v3.6.6\nETCD_DATA_DIR=/var/lib/etcd\n\
         ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.11:2379\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.11:2380\nETCD_INITIAL_CLUSTER_STATE=existing\n\
         ETCD_METRICS=basic\nETCD_LISTEN_CLIENT_URLS=https://10.0.0.11:2379,https://127.0.0.1:2379\n\
         ETCD_ELECTION_TIMEOUT=5000\nETCD_HEARTBEAT_INTERVAL=250\nETCD_INITIAL_CLUSTER_TOKEN=k8s_etcd\n\
         ETCD_LISTEN_PEER_URLS=https://10.0.0.11:2380\nETCD_NAME=etcd1\n\
         ETCD_INITIAL_CLUSTER=etcd1=https://10.0.0.11:2380\n\n# TLS settings\n\
         ETCD_TRUSTED_CA_FILE={pki}/ca.crt\nETCD_CERT_FILE={pki}/server.crt\n\
         ETCD_KEY_FILE={pki}/server.key\nETCD_CLIENT_CERT_AUTH=true\n\n\
         ETCD_PEER_TRUSTED_CA_FILE={pki}/ca.crt\nETCD_PEER_CERT_FILE={pki}/peer.crt\n\
         ETCD_PEER_KEY_FILE={pki}/peer.key\nETCD_PEER_CLIENT_CERT_AUTH=True\n\n# CLI settings\n\
         ETCDCTL_ENDPOINTS=https://127.0.0.1:2379\nETCDCTL_CACERT={pki}/ca.crt\n\
         ETCDCTL_KEY={pki}/server.key\nETCDCTL_CERT={pki}/server.crt\n"
    );
    fs::write(&file, &text).unwrap();
    let found = findings(&dir, &[&file], &now());
    assert_eq!(found, [("etcd-peer-open".to_owned(), "warning".to_owned())]);
    let wrong = text
        .replace("ETCD_CLIENT_CERT_AUTH=true\n", "")
        .replace("ETCD_TRUSTED_CA_FILE", "NOT_IT")
        .replace("URLS=https://10.0.0.11:2379,", "URLS=http://10.0.0.11:2379,")
        .replace("server.key", "peer.key");
    fs::write(&file, wrong).unwrap();
    let found = findings(&dir, &[&file], &now());
    for code in ["etcd-open", "plain-http", "flag-pair"] {
        assert!(found.iter().any(|(found, _)| found == code), "{code} in {found:?}");
    }
}

#[test]
fn a_unit_is_judged_with_its_drop_ins_and_environment_files() {
    let folder = support::temp_dir();
    let (dir, _) = layouts(folder.path()).swap_remove(0);
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let out = folder.path().join("out");
    let write = |format: &str| {
        let mut flags = support::certkit();
        flags.args(["flags", "--format", format, "--output-dir"]).arg(&out);
        support::run(flags.arg("--dir").arg(&dir));
    };
    write("env");
    write("systemd");
    let unit = |start: &str| format!("[Unit]\nDescription=x\n[Service]\nExecStart={start}\n");
    let api =
        at("kube-apiserver.service", &unit("/usr/bin/kube-apiserver $KUBE_APISERVER_PKI_ARGS"));
    let etcd = at("etcd.service", &unit("/usr/bin/etcd --data-dir=/var/lib/etcd"));
    let codes = |files: &[&Path]| -> Vec<String> {
        findings(&dir, files, &now()).into_iter().map(|(code, _)| code).collect()
    };
    // Alone each unit says too little; with what it is given there is nothing to find.
    assert!(codes(&[&api]).contains(&"kubelet-ca-missing".to_owned()));
    assert!(codes(&[&etcd]).contains(&"etcd-open".to_owned()));
    for (unit, name) in [(&api, "kube-apiserver"), (&etcd, "etcd")] {
        let env = out.join(format!("{name}.env"));
        assert_eq!(codes(&[unit, &env]), [] as [&str; 0], "{name}");
        assert_eq!(codes(&[&env, unit]), [] as [&str; 0], "{name}");
        let drop_in = out.join(format!("{name}.service.d/10-certkit-pki.conf"));
        assert_eq!(codes(&[unit, &drop_in]), [] as [&str; 0], "{name}");
    }
    // A later drop-in that starts it otherwise counts.
    let later = at(
        "kube-apiserver.service.d/20.conf",
        "[Service]\nExecStart=\nExecStart=/bin/kube-apiserver\n",
    );
    let drop_in = out.join("kube-apiserver.service.d/10-certkit-pki.conf");
    assert!(codes(&[&later, &api, &drop_in]).contains(&"kubelet-ca-missing".to_owned()));
    // A patch counts with the manifest it is for, and alone nothing is missing from it.
    let manifest = Path::new("tests/fixtures/kubeadm-1.36/manifests/kube-apiserver.yaml");
    write("static-pod");
    let patch = out.join("kube-apiserver+json.yaml");
    assert_eq!(codes(&[&patch]), [] as [&str; 0]);
    assert!(codes(&[manifest]).contains(&"kubelet-ca-missing".to_owned()));
    assert!(!codes(&[manifest, &patch]).contains(&"kubelet-ca-missing".to_owned()));
}
