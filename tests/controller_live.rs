//! `certkit controller` between a real apiserver, controller-manager and kubelet: a node bootstraps itself, gets its
//! certificates by the inventory, renews them, and is verified by the apiserver; hostile requests get none; and two
//! replicas lose nothing when one of them is gone.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use support::{
    certkit,
    machine::Machine,
    need, openssl,
    plane::{Kubelet, Plane, flags},
    process::Process,
    replica::{
        Replica, SETUP, Sender, bootstrap, conditions, lines, peak, requests_of, with_cluster,
        write_kubeconfig,
    },
    requests::{self, Asked, NODES},
    run, stdout,
};

const NAMES: [(&str, &str); 2] = [("cp1", "10.0.0.11"), ("worker-1", "10.0.1.1")];

/// The inventory: what is mounted into the controller's pod.
const INVENTORY: &str = "\
apiVersion: certkit/v1
kind: Cluster
name: prod
endpoint: 10.0.0.11:6443
controlPlane:
  - {name: cp1, addresses: [10.0.0.11]}
nodes:
  - {name: worker-1, addresses: [10.0.1.1]}
  - {name: worker-2, addresses: [10.0.1.2]}
";
/// Nodes that do nothing but ask.
const MANY: usize = 120;

/// And those that ask at once.
fn crowd() -> usize {
    if env::var_os("CERTKIT_TEST_ALL").is_some() { 5000 } else { 200 }
}

const LOGGED: (&str, &str) =
    ("2026-01-01T00:00:00.000000000Z stdout F certkit was here\n", "certkit was here\n");
const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  nodeName: worker-1
  hostNetwork: true
  automountServiceAccountToken: false
  tolerations: [{operator: Exists}]
  containers: [{name: probe, image: probe}]
";
const LOGS: &[&str] = &["logs", "probe"];
const CONFIGURATION: &[&str] = &["get", "--raw", "/api/v1/nodes/worker-1/proxy/configz"];

fn call(plane: &Plane<'_>, arguments: &[&str]) -> (bool, String) {
    let output = plane.kubectl("super-admin.conf", arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

fn arguments(machine: &Machine, component: &str, verifies: bool) -> Vec<String> {
    let mut arguments = flags(machine, component, "10.0.0.11");
    match component {
        "kube-apiserver" => {
            arguments.push("--enable-bootstrap-token-auth=true".into());
            // As kubeadm leaves it.
            arguments.retain(|flag| verifies || !flag.contains("--kubelet-certificate-authority"));
        }
        "kube-controller-manager" => {
            // So that kubelets renew while this runs.
            arguments.push("--cluster-signing-duration=3m".into());
            // Its own approver says yes to every administrator who asks in a node's name.
            let approver = "certificatesigningrequest-approving-controller";
            arguments.push(format!("--controllers=*,-{approver}"));
        }
        _ => {}
    }
    arguments
}

fn start_kubelet(worker: &Machine) -> Kubelet {
    let arguments = [
        "--config=/etc/kubernetes/kubelet-config.yaml",
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap.conf",
        "--kubeconfig=/var/lib/kubelet/kubeconfig",
        "--cert-dir=/var/lib/kubelet/pki",
        "--hostname-override=worker-1",
        "--node-ip=10.0.1.1",
    ];
    Kubelet::start(worker, &arguments.map(str::to_owned))
}

fn prepare_worker(machine: &Machine, worker: &Machine) {
    let home = worker.kubernetes();
    fs::create_dir_all(home.join("pki")).unwrap();
    fs::copy(machine.kubernetes().join("pki/ca-bundle.crt"), home.join("pki/ca-bundle.crt"))
        .unwrap();
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
        address: 10.0.1.1\nhealthzPort: 0\nreadOnlyPort: 0\n\
        serverTLSBootstrap: true\nrotateCertificates: true\n\
        authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, \
        x509: {clientCAFile: /etc/kubernetes/pki/ca-bundle.crt}}\n\
        authorization: {mode: Webhook}\n";
    fs::write(home.join("kubelet-config.yaml"), config).unwrap();
    let bootstrap = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
        clusters: [{name: c, cluster: {server: 'https://10.0.0.11:6443', \
        certificate-authority: /etc/kubernetes/pki/ca-bundle.crt}}]\n\
        users: [{name: c, user: {token: abcdef.0123456789abcdef}}]\n\
        contexts: [{name: c, context: {cluster: c, user: c}}]\n";
    fs::write(home.join("bootstrap.conf"), bootstrap).unwrap();
}

/// Answers everything in the kubelet's place, with a certificate that it made for itself.
fn man_in_the_middle(machine: &Machine, folder: &Path) -> Process {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (key, cert) = (at("key"), at("cert"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-noenc",
        "-days",
        "1",
        "-subj",
        "/O=system:nodes/CN=system:node:worker-1",
        "-addext",
        "subjectAltName=DNS:worker-1,IP:10.0.1.1",
        "-keyout",
        &key,
        "-out",
        &cert,
    ]);
    let mut server = Command::new("openssl");
    server.args(["s_server", "-accept", "10.0.1.1:10250", "-key", &key, "-cert", &cert, "-www"]);
    Process::start(&mut machine.enter(&server), &machine.log_of("man-in-the-middle"))
}

#[test]
fn a_cluster_whose_kubelets_are_judged_by_the_inventory() {
    if need("openssl").is_none() || need("curl").is_none() {
        return;
    }
    let Some(machine) = Machine::boot(&NAMES) else { return };
    let Some(mut plane) =
        Plane::of_certkit_with(&machine, |component| arguments(&machine, component, false))
    else {
        return;
    };
    let worker = machine.beside(&NAMES);
    prepare_worker(&machine, &worker);
    let inventory = machine.folder().join("inventory");
    fs::create_dir_all(&inventory).unwrap();
    let many: String = (0..MANY + crowd())
        .map(|n| format!("  - {{name: n{n:03}, addresses: [10.9.{}.{}]}}\n", n / 200, n % 200 + 1))
        .collect();
    // As a ConfigMap is mounted.
    fs::create_dir_all(inventory.join("..data")).unwrap();
    fs::write(inventory.join("..data/certkit.yaml"), INVENTORY.to_owned() + &many).unwrap();
    std::os::unix::fs::symlink("..data/certkit.yaml", inventory.join("certkit.yaml")).unwrap();
    plane.apply(SETUP);
    plane.apply(&stdout(certkit().args(["template", "controller"])));
    write_kubeconfig(&plane, &machine);

    // Before anybody decides, the kubelet waits.
    let mut kubelet = start_kubelet(&worker);
    plane.until("the kubelet does not ask", |plane| !requests_of(plane).is_empty());
    let waiting = desk(&machine, &["list"]);
    assert!(waiting.contains("approve"), "{waiting}");

    // A whole bootstrap: a token, a client certificate, a serving certificate.
    let one = Replica::start(&machine, "controller-1", 10261, &[]);
    plane.wait_for_node(&mut kubelet, "worker-1");
    plane.until("the serving certificate is not approved", |_| {
        let approved =
            |line: &Value| line["message"] == "approved" && line["signer"] == requests::SERVING;
        one.lines().iter().any(approved)
    });
    let served = worker.lib().join("kubelet/pki/kubelet-server-current.pem");
    // A link to where it is on that machine.
    let is_there = |_: &Plane<'_>| served.symlink_metadata().is_ok();
    plane.until("the kubelet does not get its serving certificate", is_there);
    let two = Replica::start(&machine, "controller-2", 10262, &[]);
    plane.until("the second replica does not come up", |_| two.says("inventory read"));
    assert!(one.says("leading") && !two.says("leading"));

    is_verified(&mut plane, &machine, &worker, &mut kubelet);
    no_hostile_request_gets_a_certificate(&mut plane, &machine, &one);
    let replicas = nothing_is_lost(&mut plane, &machine, [one, two]);
    the_kubelet_renews(&mut plane, &mut kubelet, &machine);
    the_ca_is_replaced(&mut plane, &machine, &replicas[0]);
    many_ask_at_once(&mut plane, &machine, &replicas[0]);
    the_controller_tells_how_it_is(&mut plane, &machine, &replicas);
    every_decision_was_taken_once(&plane, &machine);

    // Ended as a service manager does, it gives the Lease back.
    for replica in replicas {
        assert!(replica.process.end().success());
    }
    let holder = ["-n", "kube-system", "get", "lease", "certkit-controller", "-o"];
    let holder = plane.super_admin(&[&holder[..], &["jsonpath={.spec.holderIdentity}"]].concat());
    assert_eq!(holder, "");
}

fn desk(machine: &Machine, arguments: &[&str]) -> String {
    let output = desk_output(machine, arguments);
    String::from_utf8(output.stdout).unwrap()
}

fn desk_output(machine: &Machine, arguments: &[&str]) -> std::process::Output {
    let mut command = with_cluster();
    command.arg("csr").args(arguments).arg("--dir").arg(machine.folder().join("inventory"));
    command.args(["--kubeconfig", "/etc/kubernetes/super-admin.conf"]);
    machine.enter(&command).output().unwrap()
}

/// What the apiserver says of the kubelet, and of somebody in its place: before it verifies kubelets, and after.
fn is_verified(plane: &mut Plane<'_>, machine: &Machine, worker: &Machine, kubelet: &mut Kubelet) {
    fs::write(worker.log().join("containers.log"), LOGGED.0).unwrap();
    plane.apply(POD);
    plane.until("kubectl logs does not pass", |plane| call(plane, LOGS) == (true, LOGGED.1.into()));

    let folder = support::temp_dir();
    for verifies in [false, true] {
        if verifies {
            plane.kill("kube-apiserver");
            plane.start("kube-apiserver", &arguments(machine, "kube-apiserver", true));
            plane.wait_ready();
            plane.until("kubectl logs does not pass any more", |plane| {
                call(plane, LOGS) == (true, LOGGED.1.into())
            });
        }
        kubelet.stop();
        let mut intruder = man_in_the_middle(machine, folder.path());
        let mut last = String::new();
        plane.until("the apiserver asks nobody", |plane| {
            assert!(intruder.is_running(), "{}", intruder.log());
            let (ok, said) = call(plane, CONFIGURATION);
            last = said;
            match verifies {
                // He sees the request, and what he says is believed.
                false => ok && last.contains("s_server"),
                true => !ok && last.contains("x509: "),
            }
        });
        if verifies {
            assert!(last.contains("certificate signed by unknown authority"), "{last}");
            let (ok, said) = call(plane, LOGS);
            assert!(!ok && said.contains("x509: "), "{said}");
        }
        intruder.end();
        *kubelet = start_kubelet(worker);
        plane.until("kubectl logs does not pass any more", |plane| {
            kubelet.assert_running();
            call(plane, LOGS) == (true, LOGGED.1.into())
        });
    }
    let (ok, said) = call(plane, CONFIGURATION);
    assert!(ok && said.contains("\"serverTLSBootstrap\":true"), "{said}");
}

fn no_hostile_request_gets_a_certificate(
    plane: &mut Plane<'_>,
    machine: &Machine,
    leader: &Replica,
) {
    let sender = Sender::new(plane, machine);
    let mut all = requests::hostile();
    // What the kubelet itself asked for, sent again: by itself, and by another node.
    let own = requests_of(plane).into_values().find(|request| {
        request["spec"]["signerName"] == requests::SERVING
            && !conditions(request, "Approved").is_empty()
    });
    let own = own.expect("the kubelet's request");
    let pem = support::decoded(own["spec"]["request"].as_str().unwrap());
    let again = Asked {
        what: "what the kubelet asked already",
        username: "system:node:worker-1".into(),
        groups: vec![NODES],
        signer: requests::SERVING,
        usages: requests::TO_SERVE.to_vec(),
        pem: String::from_utf8(pem).unwrap(),
        code: "key-used-before",
    };
    all.push(again);
    let statuses = sender.send(&all);
    let sent: Vec<&Asked> =
        all.iter().zip(&statuses).filter(|(_, status)| **status == 201).map(|(a, _)| a).collect();
    for (asked, status) in all.iter().zip(&statuses) {
        // What no apiserver takes does not come so far.
        assert!([201, 400, 403, 413, 422].contains(status), "{}: {status}", asked.what);
    }
    assert!(sent.len() >= 40, "{} of {} reached the judge", sent.len(), all.len());
    let names: BTreeSet<String> = sent.iter().map(|asked| asked.name()).collect();
    plane.until("not every hostile request is decided", |_| {
        let told = leader.lines();
        let told: BTreeSet<&str> = told
            .iter()
            .filter(|line| line["message"] == "denied" || line["message"] == "left")
            .filter_map(|line| line["request"].as_str())
            .collect();
        names.iter().all(|name| told.contains(name.as_str()))
    });
    let there = requests_of(plane);
    for asked in &sent {
        let request = &there[&asked.name()];
        assert!(conditions(request, "Approved").is_empty(), "{} is approved", asked.what);
        assert!(request["status"]["certificate"].is_null(), "{} is signed", asked.what);
        let log = leader.lines();
        let line = log.iter().find(|line| line["request"] == asked.name().as_str());
        let why = line.unwrap()["why"].as_str().unwrap().to_owned();
        assert!(why.contains(asked.code), "{}: {why}", asked.what);
        if let [denied] = conditions(request, "Denied")[..] {
            assert!(denied["message"].as_str().unwrap().contains(asked.code), "{denied}");
        } else {
            assert_eq!(line.unwrap()["message"], "left", "{}", asked.what);
        }
    }
    // People are told as Events, too.
    plane.until("there are no Events", |plane| {
        let events = call(plane, &["get", "events", "-o", "jsonpath={.items[*].reason}"]).1;
        events.contains("NameOfAnother") && events.contains("NodeNotJoined")
    });

    // By hand, with the same judge: not against it, unless each reason is named.
    let left = "a-token-asks-for-a-node-that-is-there-already";
    let refused = desk_output(machine, &["approve", left]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("--despite node-joined-already"), "{said}");
    let review = desk_output(machine, &["review", left]);
    assert_eq!(review.status.code(), Some(1), "{review:?}");
    let review = desk_output(machine, &["review", left, "-o", "json"]);
    let review: Value = serde_json::from_slice(&review.stdout).unwrap();
    let codes = review["objections"].as_array().unwrap().iter().map(|one| &one["code"]);
    assert_eq!(codes.collect::<Vec<_>>(), ["node-joined-already"]);
    fits("csr-review", &review);
    let taken = desk_output(machine, &["approve", left, "--despite", "node-joined-already"]);
    assert!(taken.status.success(), "{taken:?}");
    let again = desk_output(machine, &["deny", left, "--why", "too late"]);
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    let denied = desk_output(machine, &["deny", "a-node-that-was-deleted"]);
    assert!(denied.status.success(), "{denied:?}");
    let list = desk_output(machine, &["list", "--all", "-o", "json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    fits("csr-list", &list);
    assert!(list["requests"].as_array().unwrap().len() > sent.len());
}

/// A document is as its schema says, and one that lacks something is not.
fn fits(name: &str, document: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{name}.json"));
    let schema: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let faults = support::schema::faults(&schema, document);
    assert!(faults.is_empty(), "{name}: {faults:?}");
    let mut other = document.clone();
    other["kind"] = "Nothing".into();
    assert!(!support::schema::faults(&schema, &other).is_empty(), "{name} fits anything");
}

/// Two replicas, of which one is gone each time: frozen, as one that is cut off; killed; with the apiserver restarted and
/// the credential changed meanwhile. Returns the two that run at the end.
fn nothing_is_lost(
    plane: &mut Plane<'_>,
    machine: &Machine,
    [one, two]: [Replica; 2],
) -> [Replica; 2] {
    let sender = Sender::new(plane, machine);
    let third = MANY / 3;
    let send = |round: &str, numbers: std::ops::Range<usize>| {
        let all: Vec<Asked> = numbers.map(|number| bootstrap(round, number)).collect();
        assert!(sender.send(&all).iter().all(|status| *status == 201));
    };
    let all_are_approved = |plane: &mut Plane<'_>, round: &str, count: usize| {
        plane.until(&format!("not every request of {round} is approved"), |plane| {
            let there = requests_of(plane);
            let signed = there.iter().filter(|(name, request)| {
                name.starts_with(round)
                    && !conditions(request, "Approved").is_empty()
                    && !request["status"]["certificate"].is_null()
            });
            signed.count() == count
        });
    };

    // The leader is frozen in the middle of it: it holds the Lease, and does nothing.
    send("frozen", 0..third / 2);
    kill_process(one.pid(), Signal::STOP).unwrap();
    send("frozen", third / 2..third);
    write_kubeconfig(plane, machine);
    all_are_approved(plane, "frozen", third);
    assert!(two.says("leading"));
    // It wakes, and must not take itself for the leader.
    kill_process(one.pid(), Signal::CONT).unwrap();
    plane.until("the one that woke goes on leading", |_| one.says("standing by"));
    plane.until("the changed credential is not taken up", |_| two.says("credential changed"));

    // The apiserver ends and comes back while requests wait.
    send("restart", third..third + third / 2);
    plane.kill("kube-apiserver");
    plane.start("kube-apiserver", &arguments(machine, "kube-apiserver", true));
    plane.wait_ready();
    send("restart", third + third / 2..2 * third);
    all_are_approved(plane, "restart", third);

    // And the leader is killed.
    send("killed", 2 * third..2 * third + third / 2);
    kill_process(two.pid(), Signal::KILL).unwrap();
    drop(two);
    send("killed", 2 * third + third / 2..3 * third);
    all_are_approved(plane, "killed", third);
    let three = Replica::start(machine, "controller-3", 10262, &[]);
    [one, three]
}

/// Both of the kubelet's certificates were renewed meanwhile, each by a request that was approved by the inventory.
fn the_kubelet_renews(plane: &mut Plane<'_>, kubelet: &mut Kubelet, machine: &Machine) {
    plane.until("the kubelet's certificates are not renewed", |_| {
        kubelet.assert_running();
        let logs = ["controller-1", "controller-2", "controller-3"];
        let all: Vec<Value> = logs.iter().flat_map(|name| lines(&machine.log_of(name))).collect();
        [requests::SERVING, requests::CLIENT].iter().all(|signer| {
            let approved = |line: &&Value| {
                line["message"] == "approved"
                    && line["signer"] == *signer
                    && line["requester"] == "system:node:worker-1"
            };
            // The client's first was the token's; the serving one's was the node's own.
            let least = if *signer == requests::SERVING { 2 } else { 1 };
            all.iter().filter(approved).count() >= least
        })
    });
    plane.until("kubectl logs does not pass with the renewed certificate", |plane| {
        call(plane, LOGS) == (true, LOGGED.1.into())
    });
}

/// The CA that signs becomes another one: first both are trusted, then the new one signs. The controller has the bundle that
/// its kubeconfig names read again each time, and goes on.
fn the_ca_is_replaced(plane: &mut Plane<'_>, machine: &Machine, leader: &Replica) {
    let home = machine.kubernetes().join("pki");
    let sender = Sender::new(plane, machine);
    for (round, stage) in ["introduced", "switched"].into_iter().enumerate() {
        let changes = |line: &Value| line["message"] == "credential changed";
        let before = leader.lines().iter().filter(|line| changes(line)).count();
        let mut rotate = certkit();
        rotate.args(["rotate-ca", "ca", "--next"]);
        run(&mut machine.enter(&rotate));
        if stage == "introduced" {
            plane.until("the new bundle is not taken up", |_| {
                leader.lines().iter().filter(|line| changes(line)).count() > before
            });
        }
        let name = if round == 0 { "both-trusted" } else { "new-signs" };
        let all: Vec<Asked> = (0..10)
            .map(|n| Asked {
                username: format!("system:node:n{n:03}"),
                groups: vec![NODES],
                ..bootstrap(name, n)
            })
            .collect();
        // They have joined no more than before: what they were given is renewed.
        let nodes: String = (0..10)
            .map(|n| format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{n:03}}}\n"))
            .collect();
        plane.apply(&nodes);
        assert!(sender.send(&all).iter().all(|status| *status == 201));
        let ca = home.join("ca.crt");
        plane.until(&format!("nothing is signed by the CA that signs when {stage}"), |plane| {
            let there = requests_of(plane);
            let signed = all.iter().filter(|asked| {
                let Some(text) = there[&asked.name()]["status"]["certificate"].as_str() else {
                    return false;
                };
                let file = machine.folder().join("signed.crt");
                fs::write(&file, support::decoded(text)).unwrap();
                let mut verify = Command::new("openssl");
                verify.args(["verify", "-CAfile"]).arg(&ca).arg(&file);
                verify.output().unwrap().status.success()
            });
            signed.count() == all.len()
        });
    }
}

/// As after a power cut: every node asks, and each is answered. What that took is printed.
fn many_ask_at_once(plane: &mut Plane<'_>, machine: &Machine, leader: &Replica) {
    let all: Vec<Asked> = (MANY..MANY + crowd()).map(|number| bootstrap("crowd", number)).collect();
    let sender = Sender::new(plane, machine);
    let begin = Instant::now();
    assert!(sender.send_at_once(&all).iter().all(|status| *status == 201));
    let sent = begin.elapsed();
    let of_the_crowd = |leader: &Replica| -> Vec<u64> {
        let is_one = |line: &&Value| {
            let name = line["request"].as_str().unwrap_or_default();
            line["message"] == "approved" && name.starts_with("crowd")
        };
        let took = |line: &Value| line["milliseconds"].as_str()?.parse().ok();
        leader.lines().iter().filter(is_one).filter_map(took).collect()
    };
    let mut took = Vec::new();
    plane.until("not everybody is approved", |_| {
        took = of_the_crowd(leader);
        took.len() == all.len()
    });
    let decided = begin.elapsed();
    took.sort_unstable();
    let peak = peak(leader.process.pid());
    println!(
        "{} requests, sent within {sent:.1?}, all approved after {decided:.1?}: {:.0} a second; each \
         took {} ms (p50), {} ms (p99); certkit's peak: {}",
        all.len(),
        all.len() as f64 / decided.as_secs_f64(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        peak,
    );
}

fn the_controller_tells_how_it_is(
    plane: &mut Plane<'_>,
    machine: &Machine,
    replicas: &[Replica; 2],
) {
    let get = |port: u16, path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--cacert", "/etc/kubernetes/pki/ca-bundle.crt"]);
        curl.arg(format!("https://10.0.0.11:{port}{path}"));
        String::from_utf8(machine.enter(&curl).output().unwrap().stdout).unwrap()
    };
    for port in [10261, 10262] {
        plane.until("a replica is not ready", |_| get(port, "/readyz") == "ok\n");
        assert_eq!(get(port, "/healthz"), "ok\n");
    }
    let metrics = get(10261, "/metrics");
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value);
        value.unwrap_or_else(|| panic!("{name}: {metrics}")).parse::<f64>().unwrap()
    };
    assert_eq!(value("certkit_controller_leader"), 1.0);
    assert_eq!(
        value("certkit_inventory_nodes{source=\"certkit.yaml\"}"),
        (MANY + crowd() + 3) as f64
    );
    let approved = "certkit_csr_decisions_total{signer=\"kubernetes.io/kube-apiserver-client-kubelet\",\
                    decision=\"approved\"";
    assert!(value(approved) >= 1.0);
    if need("promtool").is_some() {
        let file = machine.folder().join("metrics");
        fs::write(&file, &metrics).unwrap();
        let mut check = Command::new("sh");
        check.args(["-c", "promtool check metrics <\"$0\""]).arg(&file);
        run(&mut check);
    }
    assert!(replicas.iter().all(|replica| !replica.says("certkit.yaml cannot be read")));
}

/// Whoever led: each request was decided at most once.
fn every_decision_was_taken_once(plane: &Plane<'_>, machine: &Machine) {
    let logs = ["controller-1", "controller-2", "controller-3"];
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for line in logs.iter().flat_map(|name| lines(&machine.log_of(name))) {
        if line["message"] == "approved" || line["message"] == "denied" {
            *taken.entry(line["request"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let twice: Vec<_> = taken.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for (name, request) in requests_of(plane) {
        let decisions =
            conditions(&request, "Approved").len() + conditions(&request, "Denied").len();
        assert!(decisions <= 1, "{name}: {request}");
    }
}

#[test]
fn what_cannot_be_begun_is_told() {
    let begin = Instant::now();
    let folder = support::temp_dir();
    let missing = folder.path().join("none.conf");
    let mut controller = with_cluster();
    controller.args(["controller", "--inventory", "nodes", "--kubeconfig"]).arg(&missing);
    let output = support::run_to_exit(&mut controller, 3);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("none.conf") && said.contains("hint:"), "{said}");
    let mut without_inventory = with_cluster();
    without_inventory.arg("controller").arg("--dir").arg(folder.path());
    support::run_to_exit(&mut without_inventory, 3);
    let mut half = with_cluster();
    half.args(["controller", "--listen", "127.0.0.1:1"]);
    support::run_to_exit(&mut half, 64);
    support::run_to_exit(with_cluster().args(["csr", "approve", "a", "--despite", "nothing"]), 64);
    support::run_to_exit(with_cluster().args(["controller", "--lease", "nowhere"]), 64);
    // Whatever the value, nothing panics: the kubeconfig that is missing is told, or the value is.
    for (option, value) in [
        ("--limit", "18446744073709551615"),
        ("--limit", "0"),
        ("--limit-window", "9223372036854775807s"),
        ("--limit-window", "0s"),
        ("--pod-limit", "18446744073709551615"),
        ("--pod-limit", "0"),
        ("--identity", ""),
        ("--context", ""),
        ("--lease", "a/b"),
        ("--lease", "/"),
        ("--listen", "[::]:65535"),
    ] {
        let mut controller = with_cluster();
        controller.args(["controller", "--inventory", "nodes", option, value]);
        controller.args(["--tls-cert-file", "/none", "--tls-private-key-file", "/none"]);
        let code = controller.arg("--kubeconfig").arg(&missing).output().unwrap().status.code();
        assert!(matches!(code, Some(3 | 64)), "{option} {value}: {code:?}");
        let mut list = with_cluster();
        list.args(["csr", "list", "--inventory", "nodes", "--kubeconfig"]).arg(&missing);
        if option.starts_with("--limit") {
            assert_eq!(list.args([option, value]).output().unwrap().status.code(), Some(3));
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(30));
}
