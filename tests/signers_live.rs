//! certkit's own signers between a real apiserver and etcd: what they sign is believed by who should believe it, nothing
//! hostile is signed whoever approved it, and nothing is signed twice.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{
    certkit,
    machine::Machine,
    need, openssl,
    plane::{Kubelet, Plane, flags},
    process::Process,
    replica::{self, Sender, bootstrap, peak, with_cluster},
    requests::{
        Asked, NODES, TO_ASK,
        own::{self, ETCD, FRONT_PROXY, NODE, PERSON},
    },
    run, stdout,
};

const NAMES: [(&str, &str); 2] = [("cp1", "10.0.0.11"), ("worker-1", "10.0.1.1")];

const SETUP: &str = r#"
# So that what anybody sends reaches the judge.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: anybody-asks}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:node-bootstrapper}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:authenticated}]
---
apiVersion: v1
kind: Node
metadata: {name: worker-1}
"#;

/// Pods' certificates are a beta that has to be asked for.
const PODS_GATE: &str = "--feature-gates=PodCertificateRequest=true";

fn arguments(machine: &Machine, component: &str) -> Vec<String> {
    let mut arguments = flags(machine, component, "10.0.0.11");
    if component == "kube-apiserver" {
        arguments.push(PODS_GATE.into());
        arguments.push("--runtime-config=certificates.k8s.io/v1beta1=true".into());
    }
    arguments
}

/// Whose pods get certificates.
const PODS: &str = "  pods:\n    trustDomain: prod.example.com\n    serviceAccounts:\n      \
    - {namespace: shop, name: web, services: [web]}\n      - {namespace: shop, name: client}\n";

/// Pods of three service accounts, one of which is not admitted.
fn pods() -> String {
    let mut text = String::from("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    for name in ["web", "client", "stranger"] {
        text += &format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: shop}}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
             nodeName: cp1\n  hostNetwork: true\n  serviceAccountName: {name}\n  \
             automountServiceAccountToken: false\n  tolerations: [{{operator: Exists}}]\n  \
             containers: [{{name: c, image: c, volumeMounts: [{{name: id, mountPath: /id}}]}}]\n  \
             volumes:\n    - name: id\n      projected:\n        sources:\n          \
             - podCertificate: {{signerName: certkit.internal/pod, keyType: ECDSAP256, \
             credentialBundlePath: credentials.pem}}\n"
        );
    }
    text
}

/// The controller, and all that it ever logged.
struct Controller<'m> {
    machine: &'m Machine,
    process: Option<Process>,
    /// Another replica, which acts once this one is gone.
    standby: Option<Process>,
    starts: usize,
}

impl<'m> Controller<'m> {
    fn new(machine: &'m Machine) -> Self {
        Self { machine, process: None, standby: None, starts: 0 }
    }

    fn log_of(&self, start: usize) -> PathBuf {
        self.machine.log_of(&format!("controller-{start}"))
    }

    fn start(&mut self) {
        self.start_with(&["--pod-limit", "40"]);
    }

    fn start_with(&mut self, more: &[&str]) {
        self.process = Some(self.replica(more));
    }

    fn start_standby(&mut self) {
        self.standby = Some(self.replica(&["--pod-limit", "40"]));
    }

    /// Where the last one that was started serves metrics.
    fn address(&self) -> String {
        format!("10.0.0.11:{}", 10_260 + self.starts)
    }

    fn replica(&mut self, more: &[&str]) -> Process {
        self.starts += 1;
        let mut command = with_cluster();
        command.args(["controller", "--sign", "--limit", "50", "--dir", "/etc/kubernetes"]);
        command.args(["--kubeconfig", "/etc/kubernetes/certkit-controller.conf"]);
        command.args(["--listen", &self.address()]).args(more);
        command.args(["--tls-cert-file", "/etc/kubernetes/pki/controller-manager.crt"]);
        command.args(["--tls-private-key-file", "/etc/kubernetes/pki/controller-manager.key"]);
        let log = self.log_of(self.starts);
        Process::start(&mut self.machine.enter(&command), &log)
    }

    fn end(&mut self) {
        assert!(self.process.take().unwrap().end().success());
    }

    fn kill(&mut self) {
        let process = self.process.take().unwrap();
        let pid = Pid::from_raw(process.pid().cast_signed()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        self.process = self.standby.take();
    }

    fn lines(&self) -> Vec<Value> {
        let texts = (1..=self.starts).map(|start| fs::read_to_string(self.log_of(start)));
        let texts: Vec<String> = texts.map(Result::unwrap_or_default).collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn said_of(&self, name: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["request"] == name).collect()
    }
}

/// Sends requests, each as who asks; says which the apiserver took.
fn send(plane: &Plane<'_>, machine: &Machine, all: &[Asked]) -> BTreeSet<String> {
    let mut by_whom: BTreeMap<(String, Vec<&str>), String> = BTreeMap::new();
    for asked in all {
        let who = (asked.username.clone(), asked.groups.clone());
        by_whom.entry(who).or_default().push_str(&asked.object());
    }
    let mut taken = BTreeSet::new();
    for ((user, groups), objects) in by_whom {
        let file = machine.folder().join("requests.json");
        fs::write(&file, objects).unwrap();
        let file = file.to_str().unwrap();
        let mut arguments = vec!["create", "-o", "name", "-f", file, "--as", &user];
        groups.iter().for_each(|group| arguments.extend(["--as-group", group]));
        let output = plane.kubectl("super-admin.conf", &arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        taken.extend(said.lines().filter_map(|line| Some(line.rsplit_once('/')?.1.to_owned())));
    }
    taken
}

fn request(plane: &Plane<'_>, name: &str) -> Value {
    serde_json::from_str(&plane.super_admin(&["get", "csr", name, "-o", "json"])).unwrap()
}

fn condition<'a>(request: &'a Value, kind: &str) -> Option<&'a Value> {
    request["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == kind)
}

/// A key and a request of openssl's.
fn made(folder: &Path, subject: &str, names: Option<&str>) -> String {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (key, csr) = (at("key.pem"), at("csr.pem"));
    let mut arguments = vec!["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    arguments.extend(["-noenc", "-keyout", &key, "-out", &csr, "-subj", subject]);
    let names = names.map(|names| format!("subjectAltName={names}"));
    if let Some(names) = &names {
        arguments.extend(["-addext", names]);
    }
    openssl(&arguments);
    fs::read_to_string(csr).unwrap()
}

/// Sends one and waits until it is signed; the certificate is in the folder, beside its key.
fn signed(plane: &mut Plane<'_>, machine: &Machine, folder: &Path, asked: &Asked) -> PathBuf {
    let name = asked.name();
    assert!(send(plane, machine, std::slice::from_ref(asked)).contains(&name), "{name}");
    plane.until(&format!("{name} is not signed"), |plane| {
        request(plane, &name)["status"]["certificate"].is_string()
    });
    let there = request(plane, &name);
    assert!(condition(&there, "Approved").is_some(), "{there}");
    let pem = support::decoded(there["status"]["certificate"].as_str().unwrap());
    let file = folder.join("cert.pem");
    fs::write(&file, pem).unwrap();
    file
}

/// What openssl says of a certificate, held against a CA and for a purpose.
fn verified(ca: &Path, purpose: &str, cert: &Path) -> bool {
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-purpose", purpose, "-CAfile"]).arg(ca).arg(cert);
    verify.output().unwrap().status.success()
}

fn shown(cert: &Path) -> String {
    let mut show = Command::new("openssl");
    show.args(["x509", "-noout", "-subject", "-ext", "subjectAltName", "-in"]).arg(cert);
    String::from_utf8(show.output().unwrap().stdout).unwrap()
}

/// Whether a certificate ends within so many seconds.
fn ends_within(cert: &Path, seconds: u32) -> bool {
    let mut check = Command::new("openssl");
    check.args(["x509", "-checkend", &seconds.to_string(), "-noout", "-in"]).arg(cert);
    !check.output().unwrap().status.success()
}

fn asked(what: &'static str, signer: &'static str, user: &str, pem: String) -> Asked {
    let (username, groups, usages) = (user.to_owned(), Vec::new(), TO_ASK.to_vec());
    Asked { what, signer, username, groups, usages, pem, code: "" }
}

#[test]
fn what_own_signers_sign_is_believed_and_nothing_else_is_signed() {
    if need("openssl").is_none() || need("curl").is_none() {
        return;
    }
    let Some(machine) = Machine::boot(&NAMES) else { return };
    let Some(mut plane) = Plane::of_certkit_with(&machine, |name| arguments(&machine, name)) else {
        return;
    };
    let home = machine.kubernetes();
    let declaration = home.join("certkit.yaml");
    let text = fs::read_to_string(&declaration).unwrap();
    let admitted = own::ADMITTED.replace("[workload]", "[workload, controller]");
    let nodes = "nodes:\n  - {name: worker-1, addresses: [10.0.1.1]}\n  - {name: worker-2, addresses: [10.0.1.2]}\n";
    fs::write(&declaration, text + nodes + &admitted + PODS).unwrap();
    run(&mut machine.enter(certkit().arg("init")));
    plane.apply(SETUP);
    plane.super_admin(&[
        "patch",
        "node",
        "worker-1",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status": {"addresses": [{"type": "Hostname", "address": "worker-1"}, {"type": "InternalIP", "address": "10.0.1.1"}]}}"#,
    ]);
    plane.apply(&stdout(certkit().args(["template", "controller"])));
    plane.apply(&stdout(certkit().args(["template", "controller-signing"])));
    the_apiserver_takes_every_template(&plane, &machine);
    let mut controller = Controller::new(&machine);
    controller.start();

    each_is_believed_where_it_should(&mut plane, &machine);
    nothing_hostile_is_signed(&mut plane, &machine, &mut controller);
    nothing_is_signed_twice(&mut plane, &machine, &mut controller);
    a_ca_that_is_away_is_waited_for(&mut plane, &machine, &controller);
    pods_talk_to_each_other_without_a_mesh(&mut plane, &machine);
    pods_that_are_not_what_is_said_get_nothing(&mut plane, &machine, &controller);
    pods_of_one_account_get_so_many_at_a_time(&mut plane, &machine, &controller);
    if env::var_os("CERTKIT_TEST_ALL").is_some() {
        many_pods_ask_at_once(&mut plane, &machine, &mut controller);
    }
    each_is_in_the_log(&plane, &machine);
    controller.end();
    if env::var_os("CERTKIT_TEST_ALL").is_some() {
        many_ask_each_signer(&mut plane, &machine, &mut controller);
    }
}

/// Field by field: what the API does not know is refused.
fn the_apiserver_takes_every_template(plane: &Plane<'_>, machine: &Machine) {
    let all = [
        "cronjob",
        "daemonset",
        "rbac",
        "controller",
        "controller-static-pod",
        "controller-trust",
        "controller-watch",
        "controller-watch-pods",
        "controller-watch-secrets",
        "controller-signing",
    ];
    let all = all.map(|name| stdout(certkit().args(["template", name]))).join("\n---\n");
    let is_taken = |text: &str| {
        let file = machine.folder().join("templates.yaml");
        fs::write(&file, text).unwrap();
        let apply = ["apply", "--dry-run=server", "--validate=strict", "-f"];
        let file = file.to_str().unwrap();
        let output = plane.kubectl("super-admin.conf", &[&apply[..], &[file]].concat()).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (is_sound, said) = is_taken(&all);
    assert!(is_sound, "{said}");
    let (is_sound, said) = is_taken(&all.replace("readOnlyRootFilesystem", "readOnlyRoot"));
    assert!(!is_sound && said.contains("readOnlyRoot"), "{said}");
}

fn each_is_believed_where_it_should(plane: &mut Plane<'_>, machine: &Machine) {
    let pki = machine.kubernetes().join("pki");
    let folder = support::temp_dir();
    let at = folder.path();
    let ca = |name: &str| pki.join(name);

    // A node, to other nodes, both ways; and to nobody else.
    let pem = made(at, "/CN=worker-1", Some("DNS:worker-1,IP:10.0.1.1"));
    let node = Asked {
        groups: vec![NODES],
        usages: vec!["digital signature", "server auth", "client auth"],
        ..asked("a node", NODE, "system:node:worker-1", pem)
    };
    let cert = signed(plane, machine, at, &node);
    for purpose in ["sslserver", "sslclient"] {
        assert!(verified(&ca("workload/ca.crt"), purpose, &cert));
    }
    assert!(!verified(&ca("ca.crt"), "sslclient", &cert));
    let said = shown(&cert);
    assert!(said.contains("worker-1") && said.contains("10.0.1.1"), "{said}");
    assert!(ends_within(&cert, 86_401) && !ends_within(&cert, 86_000), "{said}");
    let whoami = |cert: &Path| {
        let key = at.join("key.pem");
        let arguments = [
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username} {.status.userInfo.groups}",
            "--client-certificate",
            cert.to_str().unwrap(),
            "--client-key",
            key.to_str().unwrap(),
        ];
        // A kubeconfig without a user: what is shown is this certificate.
        let nobody = machine.kubernetes().join("nobody.conf");
        fs::write(
            &nobody,
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{name: c, cluster: {server: 'https://10.0.0.11:6443', \
             certificate-authority: /etc/kubernetes/pki/ca-bundle.crt}}]\n\
             contexts: [{name: c, context: {cluster: c, user: ''}}]\n",
        )
        .unwrap();
        let output = plane.kubectl("nobody.conf", &arguments).output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(all).unwrap())
    };
    let (is_known, said) = whoami(&cert);
    assert!(!is_known || said.contains("anonymous"), "a node's certificate logs in: {said}");

    // A person, to the apiserver.
    let pem = made(at, "/O=developers/CN=alice", None);
    let person =
        Asked { groups: vec!["developers", "oncall"], ..asked("a person", PERSON, "alice", pem) };
    let cert = signed(plane, machine, at, &person);
    let key = at.join("key.pem");
    let (is_known, said) = {
        let arguments = [
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username} {.status.userInfo.groups}",
        ];
        let more =
            ["--client-certificate", cert.to_str().unwrap(), "--client-key", key.to_str().unwrap()];
        let output =
            plane.kubectl("nobody.conf", &[&arguments[..], &more].concat()).output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(all).unwrap())
    };
    assert!(is_known && said.starts_with("alice ") && said.contains("developers"), "{said}");
    assert!(!said.contains("oncall"), "{said}");
    assert!(ends_within(&cert, 4 * 3600 + 1) && !ends_within(&cert, 3 * 3600));

    // That certificate asks for the next one: whoever had stolen it would have it for ever.
    let again = Asked { what: "again", pem: own::named("alice", &[], &[]).pem(), ..person };
    let file = machine.folder().join("again.json");
    fs::write(&file, again.object()).unwrap();
    let more =
        ["--client-certificate", cert.to_str().unwrap(), "--client-key", key.to_str().unwrap()];
    let create = ["create", "-f", file.to_str().unwrap()];
    run(&mut plane.kubectl("nobody.conf", &[&create[..], &more].concat()));
    plane.until("the person's certificate is not refused another", |plane| {
        let there = request(plane, "again");
        condition(&there, "Denied").is_some_and(|denied| denied["reason"] == "RenewsItself")
    });

    // A client of etcd, to etcd.
    let pem = made(at, "/CN=exporter", None);
    let exporter = "system:serviceaccount:monitoring:exporter";
    let cert = signed(plane, machine, at, &asked("a client of etcd", ETCD, exporter, pem));
    let health = |cert: Option<&Path>| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--cacert", "/etc/kubernetes/pki/etcd/ca-bundle.crt"]);
        if let Some(cert) = cert {
            curl.arg("--cert").arg(cert).arg("--key").arg(&key);
        }
        // Health is told without a certificate; a range is not.
        curl.args(["--data", r#"{"key": "Zm9v"}"#, "https://10.0.0.11:2379/v3/kv/range"]);
        machine.enter(&curl).output().unwrap().status.success()
    };
    assert!(health(Some(&cert)) && !health(None));

    // A client of aggregated API servers.
    let pem = made(at, "/CN=front-proxy-client", None);
    let aggregator = "system:serviceaccount:kube-system:aggregator";
    let proxy = asked("a client of aggregated servers", FRONT_PROXY, aggregator, pem);
    let cert = signed(plane, machine, at, &proxy);
    assert!(verified(&ca("front-proxy-ca.crt"), "sslclient", &cert));
    assert!(!verified(&ca("front-proxy-ca.crt"), "sslserver", &cert));
}

fn nothing_hostile_is_signed(
    plane: &mut Plane<'_>,
    machine: &Machine,
    controller: &mut Controller<'_>,
) {
    let all = own::hostile();
    let taken = send(plane, machine, &all);
    assert!(taken.len() >= 45, "{} of {} reached the judge", taken.len(), all.len());
    plane.until("not every hostile request is decided", |_| {
        taken.iter().all(|name| !controller.said_of(name).is_empty())
    });
    for asked in all.iter().filter(|asked| taken.contains(&asked.name())) {
        let there = request(plane, &asked.name());
        assert!(condition(&there, "Approved").is_none(), "{} is approved", asked.what);
        assert!(there["status"]["certificate"].is_null(), "{} is signed", asked.what);
        let said = controller.said_of(&asked.name());
        let why = said[0]["why"].as_str().unwrap();
        assert!(why.contains(asked.code), "{}: {why}", asked.what);
    }

    // Somebody else approves while nobody judges: it is not signed either. What is honest is.
    controller.end();
    let masters = Asked {
        what: "masters that somebody approved",
        pem: own::named("mallory", &["system:masters"], &[]).pem(),
        username: "portal".into(),
        ..asked("", PERSON, "portal", String::new())
    };
    let bob = Asked {
        what: "bob whom somebody approved",
        pem: own::named("bob", &["viewers"], &[]).pem(),
        ..masters.clone()
    };
    let names = [masters.name(), bob.name()];
    assert_eq!(send(plane, machine, &[masters, bob]).len(), 2);
    plane.super_admin(&["certificate", "approve", &names[0], &names[1]]);
    controller.start();
    plane.until("what was approved by hand is not decided", |plane| {
        condition(&request(plane, &names[0]), "Failed").is_some()
            && request(plane, &names[1])["status"]["certificate"].is_string()
    });
    let refused = request(plane, &names[0]);
    assert!(refused["status"]["certificate"].is_null(), "{refused}");
    let failed = condition(&refused, "Failed").unwrap();
    assert_eq!(failed["reason"], "GroupNotAdmitted", "{refused}");
}

/// The replica that leads is killed while it signs, and the other goes on: each request has one certificate in the end, which
/// never becomes another, and no two have one serial number.
fn nothing_is_signed_twice(
    plane: &mut Plane<'_>,
    machine: &Machine,
    controller: &mut Controller<'_>,
) {
    let all: Vec<Asked> = (0..30)
        .map(|n| Asked {
            what: Box::leak(format!("crowd {n}").into_boxed_str()),
            pem: own::named(&format!("user{n}"), &["viewers"], &[]).pem(),
            ..asked("", PERSON, "portal", String::new())
        })
        .collect();
    let certificates = |plane: &Plane<'_>| -> BTreeMap<String, String> {
        let list: Value =
            serde_json::from_str(&plane.super_admin(&["get", "csr", "-o", "json"])).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items
            .filter_map(|item| {
                let name = item["metadata"]["name"].as_str()?;
                Some((name.to_owned(), item["status"]["certificate"].as_str()?.to_owned()))
            })
            .filter(|(name, _)| name.starts_with("crowd"))
            .collect()
    };
    controller.start_standby();
    let standby = controller.log_of(controller.starts);
    plane.until("the other replica does not start", |_| {
        fs::read_to_string(&standby).unwrap_or_default().contains("\"started\"")
    });
    assert_eq!(send(plane, machine, &all[..20]).len(), 20);
    controller.kill();
    let before = certificates(plane);
    assert_eq!(send(plane, machine, &all[20..]).len(), 10);
    plane.until("not everybody is signed for", |plane| certificates(plane).len() == all.len());
    let after = certificates(plane);
    assert!(before.iter().all(|(name, text)| after[name] == *text));
    let distinct: BTreeSet<&String> = after.values().collect();
    assert_eq!(distinct.len(), all.len());
    // openssl verifies each of them, and those whom the first signed and could not hand out are in the log alone.
    let ca = machine.kubernetes().join("pki/ca.crt");
    for text in after.values() {
        let file = machine.folder().join("crowd.crt");
        fs::write(&file, support::decoded(text)).unwrap();
        assert!(verified(&ca, "sslclient", &file));
    }
    let taken_over = fs::read_to_string(&standby).unwrap();
    assert!(
        taken_over.contains("\"leading\"") && taken_over.contains("\"signed\""),
        "{taken_over}"
    );
    let log = fs::read_to_string(machine.kubernetes().join(".certkit/log.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let serials: Vec<String> =
        lines.filter_map(|line| line["serial"].as_str().map(str::to_owned)).collect();
    assert!(serials.len() >= all.len(), "{log}");
    let distinct: BTreeSet<&String> = serials.iter().collect();
    assert_eq!(distinct.len(), serials.len(), "{serials:?}");
}

fn a_ca_that_is_away_is_waited_for(
    plane: &mut Plane<'_>,
    machine: &Machine,
    controller: &Controller<'_>,
) {
    let key = machine.kubernetes().join("pki/front-proxy-ca.key");
    let away = machine.kubernetes().join("pki/away.key");
    fs::rename(&key, &away).unwrap();
    let aggregator = "system:serviceaccount:kube-system:aggregator";
    let pem = own::named("front-proxy-client", &[], &[]).pem();
    let waits = asked("one whose CA is away", FRONT_PROXY, aggregator, pem);
    send(plane, machine, std::slice::from_ref(&waits));
    plane.until("it is not told that the CA is away", |_| {
        let said = controller.said_of(&waits.name());
        let told = |line: &&Value| {
            line["message"] == "cannot sign"
                && line["why"].as_str().unwrap().contains("front-proxy-ca.key")
        };
        said.iter().any(|line| told(&line))
    });
    fs::rename(&away, &key).unwrap();
    plane.until("it is not signed once the CA is back", |plane| {
        request(plane, &waits.name())["status"]["certificate"].is_string()
    });
}

fn pod_requests(plane: &Plane<'_>) -> Vec<Value> {
    let list = plane.super_admin(&["get", "podcertificaterequests", "-A", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// A kubelet asks for the pods that it runs, and gives them what it got: they believe each other, and nobody else.
fn pods_talk_to_each_other_without_a_mesh(plane: &mut Plane<'_>, machine: &Machine) {
    let mut arguments = flags(machine, "kubelet", "10.0.0.11");
    arguments.extend(["--hostname-override=cp1".to_owned(), PODS_GATE.to_owned()]);
    arguments.push("--pod-manifest-path=/etc/kubernetes/manifests".to_owned());
    let manifests = machine.kubernetes().join("manifests");
    fs::create_dir_all(&manifests).unwrap();
    let pod = stdout(certkit().args(["template", "controller-static-pod"]));
    fs::write(manifests.join("certkit-controller.yaml"), pod).unwrap();
    let mut kubelet = Kubelet::start(machine, &arguments);
    plane.wait_for_node(&mut kubelet, "cp1");
    plane.apply(&pods());
    let answered = |plane: &Plane<'_>, pod: &str, kind: &str| {
        pod_requests(plane)
            .into_iter()
            .find(|one| one["spec"]["podName"] == pod && condition(one, kind).is_some())
    };
    for (pod, kind) in [("web", "Issued"), ("client", "Issued"), ("stranger", "Denied")] {
        plane.until(&format!("the request of {pod} is not {kind}"), |plane| {
            kubelet.assert_running();
            answered(plane, pod, kind).is_some()
        });
    }
    let denied = answered(plane, "stranger", "Denied").unwrap();
    assert_eq!(condition(&denied, "Denied").unwrap()["reason"], "AccountNotAdmitted", "{denied}");
    assert!(denied["status"]["certificateChain"].is_null(), "{denied}");

    // Beside them it runs the controller's static pod, as far as it goes by a runtime that has no images: volumes are
    // mounted, and a container could start.
    plane.until("the static pod is not made ready", |plane| {
        let ready = "jsonpath={.status.conditions[?(@.type=='PodReadyToStartContainers')].status}";
        let get = ["-n", "kube-system", "get", "pod", "certkit-controller-cp1", "-o", ready];
        plane.kubectl("super-admin.conf", &get).output().unwrap().stdout == b"True"
    });

    // What the kubelet has mounted for them: a key that it made, and the certificate.
    let folder = support::temp_dir();
    let mounted = |plane: &mut Plane<'_>, pod: &str| -> PathBuf {
        let get = ["-n", "shop", "get", "pod", pod, "-o", "jsonpath={.metadata.uid}"];
        let uid = plane.super_admin(&get);
        let file = format!(
            "/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~projected/id/credentials.pem"
        );
        let mut cat = Command::new("cat");
        cat.arg(file);
        let mut content = Vec::new();
        plane.until(&format!("{pod} has no certificate mounted"), |_| {
            content = machine.enter(&cat).output().unwrap().stdout;
            content.windows(11).any(|part| part == b"CERTIFICATE")
        });
        let file = folder.path().join(pod);
        fs::write(&file, content).unwrap();
        file
    };
    let (web, client) = (mounted(plane, "web"), mounted(plane, "client"));
    let ca = machine.kubernetes().join("pki/workload/ca-bundle.crt");
    for (cert, id) in [(&web, "sa/web"), (&client, "sa/client")] {
        for purpose in ["sslserver", "sslclient"] {
            assert!(verified(&ca, purpose, cert));
        }
        assert!(!verified(&machine.kubernetes().join("pki/ca.crt"), "sslclient", cert));
        let said = shown(cert);
        assert!(said.contains(&format!("spiffe://prod.example.com/ns/shop/{id}")), "{said}");
        assert!(said.contains("critical"), "a subject that is empty: {said}");
        assert!(ends_within(cert, 86_400) && !ends_within(cert, 80_000));
    }
    assert!(shown(&web).contains("web.shop.svc.cluster.local"));

    // One dials the other: each verifies the other by the workload CA, and by name.
    let mut server = Command::new("openssl");
    server.args([
        "s_server",
        "-accept",
        "10.0.0.11:8443",
        "-www",
        "-verify_return_error",
        "-Verify",
    ]);
    server.arg("2").arg("-CAfile").arg(&ca).arg("-cert").arg(&web).arg("-key").arg(&web);
    let mut server = Process::start(&mut machine.enter(&server), &machine.log_of("web"));
    let dial = |credential: Option<&Path>, name: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--connect-to", "::10.0.0.11:8443", "--cacert"]).arg(&ca);
        if let Some(file) = credential {
            curl.arg("--cert").arg(file).arg("--key").arg(file);
        }
        let output = machine.enter(curl.arg(format!("https://{name}:8443/"))).output().unwrap();
        output.status.success()
    };
    plane.until("a pod is not let in by the other", |_| {
        assert!(server.is_running(), "{}", server.log());
        dial(Some(&client), "web.shop.svc")
    });
    assert!(!dial(Some(&client), "api.shop.svc"), "a name that it does not have");
    assert!(!dial(None, "web.shop.svc"), "nobody");
    let pki = machine.kubernetes().join("pki");
    let kubelets = pki.join("kubelet-client.pem");
    assert!(!dial(Some(&kubelets), "web.shop.svc"), "a certificate of the cluster's CA");
    server.end();
    // To the apiserver it is nobody.
    let credential = client.to_str().unwrap();
    let whoami = ["auth", "whoami", "--client-certificate", credential, "--client-key", credential];
    let output = plane.kubectl("nobody.conf", &whoami).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!output.status.success() || said.contains("anonymous"), "{said}");
}

fn uid_of(plane: &Plane<'_>, kind: &str, name: &str) -> String {
    plane.super_admin(&["-n", "shop", "get", kind, name, "-o", "jsonpath={.metadata.uid}"])
}

/// What the kubelet asks for the pod `web`, but for the key.
fn asked_for_web(plane: &Plane<'_>) -> Value {
    serde_json::json!({
        "signerName": "certkit.internal/pod",
        "podName": "web",
        "podUID": uid_of(plane, "pod", "web"),
        "serviceAccountName": "web",
        "serviceAccountUID": uid_of(plane, "serviceaccount", "web"),
        "nodeName": "cp1",
        "nodeUID": uid_of(plane, "node", "cp1"),
        "maxExpirationSeconds": 3600,
    })
}

fn pod_request(name: &str, spec: &Value) -> Value {
    serde_json::json!({
        "apiVersion": "certificates.k8s.io/v1beta1",
        "kind": "PodCertificateRequest",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    })
}

/// Has so many be there, all of them right.
fn send_for_web(plane: &Plane<'_>, machine: &Machine, round: &str, count: usize) {
    let mut spec = asked_for_web(plane);
    let bare = own::Pkcs10 { subject: Vec::new(), ..own::named("", &[], &[]) };
    spec["stubPKCS10Request"] = support::base64(&bare.der()).into();
    let all: Vec<Value> =
        (0..count).map(|number| pod_request(&format!("{round}-{number}"), &spec)).collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": all});
    let file = machine.folder().join("pod-requests.json");
    fs::write(&file, list.to_string()).unwrap();
    plane.super_admin(&["create", "-f", file.to_str().unwrap()]);
}

/// Somebody asks again and again: beyond the limit nothing is signed, nothing is denied for good, and it is told.
fn pods_of_one_account_get_so_many_at_a_time(
    plane: &mut Plane<'_>,
    machine: &Machine,
    controller: &Controller<'_>,
) {
    send_for_web(plane, machine, "flood", 45);
    let metric = |name: &str, labels: &str| -> f64 {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--cacert", "/etc/kubernetes/pki/ca-bundle.crt"]);
        curl.arg(format!("https://{}/metrics", controller.address()));
        let text = String::from_utf8(machine.enter(&curl).output().unwrap().stdout).unwrap();
        let begin = format!("{name}{{signer=\"certkit.internal/pod\",{labels}}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&begin)?.parse().ok());
        value.unwrap_or_default()
    };
    // The kubelet's own for the pod, and the one made by hand, count, too.
    let issued = |plane: &Plane<'_>| {
        let all = pod_requests(plane).into_iter();
        all.filter(|one| one["spec"]["podName"] == "web" && condition(one, "Issued").is_some())
            .count()
    };
    plane.until("it is not limited", |_| {
        metric("certkit_csr_pending", "code=\"rate-limited\"") == 7.0
    });
    assert_eq!(issued(plane), 40);
    let decisions = "certkit_csr_decisions_total";
    assert!(metric(decisions, "decision=\"signed\",code=\"\"") >= 40.0);
    assert!(metric(decisions, "decision=\"denied\",code=\"pod-differs\"") >= 3.0);
    let reasons = |plane: &Plane<'_>| {
        let selector = "involvedObject.kind=PodCertificateRequest";
        let get = ["-n", "shop", "get", "events", "--field-selector", selector, "-o", "json"];
        let list: Value = serde_json::from_str(&plane.super_admin(&get)).unwrap();
        let events = list["items"].as_array().unwrap().clone();
        let told = |event: &Value| event["reason"].as_str().unwrap().to_owned();
        events.iter().map(told).collect::<Vec<_>>()
    };
    plane.until("it is told by no Event", |plane| {
        reasons(plane).iter().filter(|reason| *reason == "RateLimited").count() == 7
    });
    assert!(reasons(plane).iter().any(|reason| reason == "AccountNotAdmitted"));
    let left = pod_requests(plane);
    let is_left = |one: &&Value| one["status"]["conditions"].is_null();
    assert_eq!(left.iter().filter(is_left).count(), 7);
}

/// As when a namespace is started anew: so many wait when the controller begins. What that took is printed.
fn many_pods_ask_at_once(
    plane: &mut Plane<'_>,
    machine: &Machine,
    controller: &mut Controller<'_>,
) {
    const MANY: usize = 2000;
    controller.end();
    send_for_web(plane, machine, "many", MANY);
    controller.start_with(&["--pod-limit", "100000"]);
    let mut took: Vec<u64> = Vec::new();
    plane.until("not every pod has its certificate", |_| {
        let lines = controller.lines();
        let is_one = |line: &&Value| {
            line["message"] == "signed"
                && line["request"].as_str().is_some_and(|name| name.starts_with("shop/many-"))
        };
        let milliseconds = |line: &Value| line["milliseconds"].as_str()?.parse().ok();
        took = lines.iter().filter(is_one).filter_map(milliseconds).collect();
        took.len() >= MANY
    });
    took.sort_unstable();
    println!(
        "{MANY} requests of pods were signed within {} ms: {:.0} a second; each took {} ms (p50), {} ms \
         (p99); certkit's peak: {}",
        took[MANY - 1],
        MANY as f64 * 1000.0 / took[MANY - 1] as f64,
        took[MANY / 2],
        took[MANY * 99 / 100],
        peak(controller.process.as_ref().unwrap().pid()),
    );
}

/// So many ask at once, of certkit's signer and of kube-controller-manager's, by keys and requests of one kind. A watch of the
/// API sees when each is there and when it has its certificate; what that took is printed.
fn many_ask_each_signer(plane: &mut Plane<'_>, machine: &Machine, controller: &mut Controller<'_>) {
    const MANY: usize = 5000;
    plane.apply(replica::SETUP);
    plane.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n\
         metadata: {name: own-approver}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, \
         name: 'system:certificates.k8s.io:certificatesigningrequests:nodeclient'}\n\
         subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:bootstrappers'}]\n",
    );
    let sender = Sender::new(plane, machine);
    let race = |plane: &Plane<'_>, what: &str, all: Vec<Asked>, pid: u32| {
        let all_of_them = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        plane.super_admin(&["delete", "--raw", all_of_them, "--request-timeout=300s"]);
        let prefix = all[0].name().split_once('-').unwrap().0.to_owned();
        let observer = sender.observe();
        let begin = Instant::now();
        assert!(sender.send_at_once(&all).iter().all(|status| *status == 201));
        let sent = begin.elapsed();
        // Who is slow is judged by what was done until then.
        let end = begin + Duration::from_secs(150);
        let mut signed = observer.signed(&prefix);
        while signed.0.len() < all.len() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(500));
            signed = observer.signed(&prefix);
        }
        let (took, last) = signed;
        let after = last.expect("something is signed") - begin;
        println!(
            "{what}: {} of {}, sent within {sent:.1?}, had their certificates after {after:.1?}, {:.0} a second; each took \
             {:.1?} (p50), {:.1?} (p99); peak: {}",
            took.len(),
            all.len(),
            took.len() as f64 / after.as_secs_f64(),
            took[took.len() / 2],
            took[took.len() * 99 / 100],
            peak(pid),
        );
    };
    let people = |round: &str| -> Vec<Asked> {
        let of = |number: usize| Asked {
            what: Box::leak(format!("{round} {number}").into_boxed_str()),
            pem: own::named(&format!("{round}{number}"), &["viewers"], &[]).pem(),
            ..asked("", PERSON, "portal", String::new())
        };
        (0..MANY).map(of).collect()
    };
    controller.start();
    let pid = controller.process.as_ref().unwrap().pid();
    race(plane, "certkit approves and signs", people("people"), pid);
    controller.end();
    for (round, flags) in
        [("usual", &[][..]), ("raised", &["--kube-api-qps=10000", "--kube-api-burst=10000"])]
    {
        plane.kill("kube-controller-manager");
        let lease = ["-n", "kube-system", "delete", "lease", "kube-controller-manager"];
        plane.super_admin(&lease);
        let mut with = arguments(machine, "kube-controller-manager");
        with.extend(flags.iter().map(|flag| (*flag).to_owned()));
        plane.start("kube-controller-manager", &with);
        plane.wait_ready();
        let all = (0..MANY).map(|number| bootstrap(round, number)).collect();
        let pid = plane.pids()["kube-controller-manager"];
        let what = format!("kube-controller-manager approves and signs, {flags:?}");
        race(plane, &what, all, pid);
    }
}

/// Requests that a kubelet would not make, by one who may make any: the apiserver holds kubelets alone to their pods.
fn pods_that_are_not_what_is_said_get_nothing(
    plane: &mut Plane<'_>,
    machine: &Machine,
    controller: &Controller<'_>,
) {
    let honest = asked_for_web(plane);
    let bare = || own::Pkcs10 { subject: Vec::new(), ..own::named("", &[], &[]) };
    let with = |field: &str, value: &str| (field.to_owned(), Value::from(value));
    let foreign = uid_of(plane, "serviceaccount", "client");
    let all = [
        ("hand-made", vec![], bare(), ""),
        ("another-uid", vec![with("podUID", "0000")], bare(), "pod-differs"),
        ("no-pod", vec![with("podName", "none")], bare(), "pod-unknown"),
        ("another-node", vec![with("nodeName", "worker-1")], bare(), "pod-differs"),
        ("another-accounts-uid", vec![with("serviceAccountUID", &foreign)], bare(), "pod-differs"),
        ("another-account", vec![with("serviceAccountName", "client")], bare(), "pod-differs"),
        (
            "not-admitted",
            vec![with("serviceAccountName", "default")],
            bare(),
            "account-not-admitted",
        ),
        (
            "with-a-subject",
            vec![],
            own::named("system:admin", &["system:masters"], &[]),
            "attribute-surplus",
        ),
        (
            "with-annotations",
            vec![("unverifiedUserAnnotations".into(), serde_json::json!({"example.com/a": "b"}))],
            bare(),
            "invalid-unverified-user-annotations",
        ),
    ];
    let object = |name: &str, spec: &Value| {
        let file = machine.folder().join("pod-request.json");
        fs::write(&file, pod_request(name, spec).to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    for (name, changes, request, _) in &all {
        let mut spec = honest.clone();
        spec["stubPKCS10Request"] = support::base64(&request.der()).into();
        for (field, value) in changes {
            spec[field] = value.clone();
        }
        let file = object(name, &spec);
        // A node asks for its own pods, and the apiserver sees to it.
        let as_node = ["--as", "system:node:worker-1", "--as-group", "system:nodes"];
        let create = ["create", "-f", &file];
        let refused = plane.kubectl("super-admin.conf", &[&create[..], &as_node].concat());
        let refused = { refused }.output().unwrap();
        assert!(!refused.status.success(), "{name}: another node asks");
        run(&mut plane.kubectl("super-admin.conf", &create));
    }
    for (name, _, _, code) in &all {
        let get = ["-n", "shop", "get", "podcertificaterequest", name, "-o", "json"];
        let mut there = Value::Null;
        plane.until(&format!("{name} is not answered"), |plane| {
            there = serde_json::from_str(&plane.super_admin(&get)).unwrap();
            there["status"]["conditions"].is_array()
        });
        if code.is_empty() {
            assert!(condition(&there, "Issued").is_some(), "{there}");
            // All of its life is within what was allowed.
            let file = machine.folder().join("pod.crt");
            fs::write(&file, there["status"]["certificateChain"].as_str().unwrap()).unwrap();
            assert!(ends_within(&file, 3600) && !ends_within(&file, 3000), "{there}");
            continue;
        }
        let denied = condition(&there, "Denied").unwrap_or_else(|| panic!("{name}: {there}"));
        assert!(denied["message"].as_str().unwrap().contains(code), "{name}: {denied}");
        assert!(there["status"]["certificateChain"].is_null(), "{there}");
    }
    let signed = |line: &&Value| {
        line["message"] == "signed"
            && line["request"] == "shop/hand-made"
            && line["serial"].is_string()
    };
    plane.until("what is signed for a pod is not in the log", |_| {
        controller.lines().iter().filter(signed).count() == 1
    });
    // And in that of DIR.
    let log = fs::read_to_string(machine.kubernetes().join(".certkit/log.jsonl")).unwrap();
    let of_pods = |line: &&str| line.contains("certkit.internal/pod") && line.contains("spiffe://");
    assert!(log.lines().filter(of_pods).count() >= 3, "{log}");
}

/// What is in the API is in DIR's log, by its serial number, and `report` knows of the people.
fn each_is_in_the_log(plane: &Plane<'_>, machine: &Machine) {
    let log = fs::read_to_string(machine.kubernetes().join(".certkit/log.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let logged: Vec<&Value> = lines.iter().filter(|line| line["command"] == "controller").collect();
    let list: Value =
        serde_json::from_str(&plane.super_admin(&["get", "csr", "-o", "json"])).unwrap();
    let mut count = 0;
    for item in list["items"].as_array().unwrap() {
        let (name, signer) = (&item["metadata"]["name"], item["spec"]["signerName"].as_str());
        let is_own = signer.is_some_and(|signer| signer.starts_with("certkit.internal/"));
        let Some(text) = item["status"]["certificate"].as_str().filter(|_| is_own) else {
            continue;
        };
        count += 1;
        let folder = support::temp_dir();
        let file = folder.path().join("cert.pem");
        fs::write(&file, support::decoded(text)).unwrap();
        let mut show = Command::new("openssl");
        show.args(["x509", "-noout", "-serial", "-in"]).arg(&file);
        let serial = stdout(&mut show).trim().replace("serial=", "").to_lowercase();
        let is_it = |line: &&&Value| {
            line["object"] == *name
                && line["serial"].as_str().is_some_and(|logged| logged.to_lowercase() == serial)
        };
        assert_eq!(logged.iter().filter(is_it).count(), 1, "{name}: {serial}");
    }
    assert!(count >= 36, "{count}");
}
