//! A control plane of three hosts and twenty nodes, deployed from nothing over OpenSSH; then a rotation and the
//! replacement of a CA, deployed while clients write and read on connections of their own.

mod support;

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use support::{
    certkit,
    fleet::Fleet,
    https::{Credentials, Tally, request},
    need, run, run_to_exit,
    services::{Hears, Services},
    stdout,
    storm::apply,
};

const CONTROL_PLANE: [(&str, &str); 3] =
    [("cp1", "10.90.0.11"), ("cp2", "10.90.0.12"), ("cp3", "10.90.0.13")];
const NODES: usize = 20;

/// What a load balancer knows of one apiserver.
#[derive(Default)]
struct Backend {
    /// Whether no request is to begin.
    is_out: AtomicBool,
    /// Requests under way.
    under_way: AtomicU32,
    /// Whether something of it is just being restarted.
    is_held: AtomicBool,
}

impl Backend {
    fn leave_out(&self) {
        self.is_held.store(true, Ordering::SeqCst);
        self.is_out.store(true, Ordering::SeqCst);
        while self.under_way.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(2));
        }
    }
}

/// Clients of every apiserver, on the operator's network.
struct Clients {
    tally: Arc<Tally>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(fleet: &Fleet, backends: &[Arc<Backend>; 3]) -> Self {
        let (tally, over) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let mut threads = Vec::new();
        for ((name, address), backend) in CONTROL_PLANE.into_iter().zip(backends) {
            let network = network(fleet);
            let to = SocketAddr::new(address.parse().expect("an address"), 6443);
            let tree = fleet.workspace();
            let who =
                |file: &str| Credentials::Kubeconfig { file: tree.join(file), tree: tree.clone() };
            let who = [who("admin.conf"), who("super-admin.conf")];
            let (tally, over, backend) =
                (Arc::clone(&tally), Arc::clone(&over), Arc::clone(backend));
            threads.push(std::thread::spawn(move || {
                enter(&network);
                let mut number = 0;
                while !over.load(Ordering::SeqCst) {
                    backend.under_way.fetch_add(1, Ordering::SeqCst);
                    if !backend.is_out.load(Ordering::SeqCst) {
                        number += 1;
                        let wanted = format!(r#""round":"{number}""#);
                        for (who, text) in who.iter().zip([write(name, number), read(name)]) {
                            let result = apply(&tally, who, to, &text, &wanted);
                            tally.count(result.map_err(|error| format!("{name}: {error}")));
                        }
                    }
                    backend.under_way.fetch_sub(1, Ordering::SeqCst);
                    sleep(Duration::from_millis(20));
                }
            }));
        }
        Self { tally, over, threads }
    }

    fn wait_for_more(&self) {
        let wanted = self.tally.done() + 60;
        let end = Instant::now() + Duration::from_secs(60);
        while self.tally.done() < wanted {
            assert!(Instant::now() < end, "clients stand still: {:?}", self.tally.failed());
            sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) -> (usize, Vec<String>) {
        self.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client");
        }
        (self.tally.done(), self.tally.failed())
    }
}

/// Whether an apiserver is ready.
fn is_ready(who: &Credentials, to: SocketAddr) -> bool {
    let text = "GET /readyz HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n";
    who.read().is_ok_and(|config| request(&Arc::new(config), to, text).is_ok())
}

fn write(name: &str, number: u32) -> String {
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"of-{name}"}},"data":{{"round":"{number}"}}}}"#
    );
    format!(
        "PATCH /api/v1/namespaces/default/configmaps/of-{name}?fieldManager=test&force=true HTTP/1.1\r\n\
         Host: kubernetes\r\nConnection: close\r\nContent-Type: application/apply-patch+yaml\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn read(name: &str) -> String {
    format!(
        "GET /api/v1/namespaces/default/configmaps/of-{name} HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n"
    )
}

#[test]
fn a_control_plane_is_deployed_rotated_and_gets_another_ca_and_no_request_fails() {
    if need("openssl").is_none() {
        return;
    }
    let nodes: Vec<(String, String)> =
        (1..=NODES).map(|n| (format!("w{n}"), format!("10.90.1.{n}"))).collect();
    let hosts: Vec<(&str, &str)> = CONTROL_PLANE
        .into_iter()
        .chain(nodes.iter().map(|(name, ip)| (name.as_str(), ip.as_str())))
        .collect();
    let Some(fleet) = Fleet::boot(&hosts) else { return };
    let mut init = vec!["init", "--workspace", "--name", "prod", "--endpoint", "10.90.0.11:6443"];
    let declared: Vec<String> =
        CONTROL_PLANE.iter().map(|(name, ip)| format!("--host={name}={ip}")).collect();
    init.extend(declared.iter().map(String::as_str));
    run(&mut fleet.certkit(&init));
    let added: Vec<String> = nodes.iter().map(|(name, ip)| format!("{name}={ip}")).collect();
    let mut add = vec!["nodes", "add"];
    add.extend(added.iter().map(String::as_str));
    run(&mut fleet.certkit(&add));
    // Each host makes its own keys.
    let file = fleet.workspace().join("certkit.yaml");
    let declared = fs::read_to_string(&file).expect("declared");
    fs::write(&file, declared + "keys: host\n").expect("written");
    run(&mut fleet.certkit(&["init"]));

    for (name, _) in &nodes {
        // No kubelet runs there, and systemd would leave it alone.
        fleet.install(name, "systemctl", "#!/bin/sh\nexit 0\n");
    }
    let begin = Instant::now();
    deploy(&fleet, &["--new-keys"]);
    println!("{} hosts from nothing: {:?}", hosts.len(), begin.elapsed());

    let backends: [Arc<Backend>; 3] = Default::default();
    let balancer = backends.clone();
    let hears: Hears = Arc::new(move |host, component, is_back| {
        let number = CONTROL_PLANE.iter().position(|(name, _)| *name == host).expect("a host");
        // What is written goes through the member of etcd beside the apiserver.
        if component == "etcd" || component == "kube-apiserver" {
            match is_back {
                false => balancer[number].leave_out(),
                true => balancer[number].is_held.store(false, Ordering::SeqCst),
            }
        }
    });
    let names: Vec<&str> = CONTROL_PLANE.iter().map(|(name, _)| *name).collect();
    let Some(services) = Services::start(&fleet, &names, hears) else { return };
    let addresses: Vec<&str> = CONTROL_PLANE.iter().map(|(_, ip)| *ip).collect();
    services.wait_ready(&fleet, &addresses);
    let rbac = fleet.operator.folder().join("rbac.yaml");
    fs::write(&rbac, stdout(certkit().args(["template", "rbac"]))).expect("written");
    run(&mut services.kubectl(&fleet, &["apply", "-f", rbac.to_str().expect("UTF-8")]));
    let may =
        || services.kubectl(&fleet, &["--kubeconfig", &admin(&fleet), "get", "nodes"]).output();
    while !may().expect("kubectl").status.success() {
        sleep(Duration::from_millis(200));
    }

    let clients = Clients::start(&fleet, &backends);
    clients.wait_for_more();
    let checks = HealthChecks::start(&fleet, &backends);
    let begin = Instant::now();
    run(&mut fleet.certkit(&["rotate", "--all"]));
    let rotated = deploy(&fleet, &["--new-keys", "--restart", "systemd"]);
    println!("a rotation: {:?}", begin.elapsed());
    assert!(served_everywhere(&rotated), "{rotated:#}");
    clients.wait_for_more();

    let old = fs::read_to_string(fleet.workspace().join("pki/ca.crt")).expect("a CA");
    // A stage is not taken while one host has not what the last one made.
    run(&mut fleet.certkit(&["rotate-ca", "ca", "etcd-ca", "--next"]));
    let refused = run_to_exit(&mut fleet.certkit(&["rotate-ca", "ca", "etcd-ca", "--next"]), 3);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("certkit") && said.contains("deploy cp1"), "{said}");
    for stage in ["switched", "stable"] {
        let begin = Instant::now();
        deploy(&fleet, &["--restart", "systemd"]);
        println!("deployed before {stage}: {:?}", begin.elapsed());
        clients.wait_for_more();
        run(&mut fleet.certkit(&["rotate-ca", "ca", "etcd-ca", "--next"]));
    }
    deploy(&fleet, &["--restart", "systemd"]);
    clients.wait_for_more();
    services.wait_ready(&fleet, &addresses);
    drop(checks);
    let again = clients.tally.again();
    let (done, failed) = clients.end();
    println!(
        "{done} requests on connections of their own, {again} made once more, {} failed",
        failed.len()
    );
    assert!(failed.is_empty(), "{} of {done} failed: {failed:#?}", failed.len());
    // A member of etcd that leads hands over when it ends: at most three a deployment, and each client may have been at it.
    assert!(again <= 18, "{again} requests were made once more");
    services.assert_running();

    // No key of a host's own was ever anywhere else.
    let mut grep = Command::new("grep");
    grep.args(["-rlF", "PRIVATE KEY", "--exclude=ca.key", "--exclude=sa.key"]);
    grep.arg(fleet.workspace().join("hosts"));
    let found = grep.output().expect("grep");
    assert!(found.stdout.is_empty(), "{found:?}");

    // Nothing of the old CA is left on any host, and all is known to be in step.
    let line = old.lines().nth(2).expect("a line");
    for (name, _) in &hosts {
        let mut grep = Command::new("grep");
        grep.args(["-rlF", "--exclude-dir=.certkit", line, "/etc/kubernetes"]);
        let found = fleet.host(name).enter(&grep).output().expect("grep");
        assert!(found.stdout.is_empty(), "{name}: {found:?}");
    }
    run(&mut fleet.certkit(&["status"]));
    run(&mut fleet.deploy(&["--check"]));
}

fn admin(fleet: &Fleet) -> String {
    fleet.workspace().join("admin.conf").display().to_string()
}

/// Takes backends in again once they are ready, as a load balancer does.
struct HealthChecks {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HealthChecks {
    fn start(fleet: &Fleet, backends: &[Arc<Backend>; 3]) -> Self {
        let over = Arc::<AtomicBool>::default();
        let (is_over, backends) = (Arc::clone(&over), backends.clone());
        let network = network(fleet);
        let who = Credentials::Kubeconfig {
            file: fleet.workspace().join("super-admin.conf"),
            tree: fleet.workspace(),
        };
        let thread = std::thread::spawn(move || {
            enter(&network);
            while !is_over.load(Ordering::SeqCst) {
                for ((_, address), backend) in CONTROL_PLANE.into_iter().zip(&backends) {
                    let waits = backend.is_out.load(Ordering::SeqCst)
                        && !backend.is_held.load(Ordering::SeqCst);
                    let to = SocketAddr::new(address.parse().expect("an address"), 6443);
                    if waits && is_ready(&who, to) && !backend.is_held.load(Ordering::SeqCst) {
                        backend.is_out.store(false, Ordering::SeqCst);
                    }
                }
                sleep(Duration::from_millis(100));
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for HealthChecks {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // What went wrong there the clients have met.
            let _ = thread.join();
        }
    }
}

/// The operator's network.
fn network(fleet: &Fleet) -> fs::File {
    fs::File::open(format!("/proc/{}/ns/net", fleet.operator.holder())).expect("a network")
}

/// Has this thread be on it.
fn enter(network: &fs::File) {
    let space = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(std::os::fd::AsFd::as_fd(network), space).expect("root");
}

#[track_caller]
fn deploy(fleet: &Fleet, more: &[&str]) -> Value {
    let output = run(&mut fleet.deploy(&[more, &["-o", "json", "-q"]].concat()));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Whether every host of the control plane proved that its apiserver shows what is in place.
fn served_everywhere(report: &Value) -> bool {
    let hosts = report["hosts"].as_array().expect("hosts");
    CONTROL_PLANE.iter().all(|(name, _)| {
        let host = hosts.iter().find(|host| host["host"] == *name);
        let uptake = host.and_then(|host| host["receipt"]["uptake"].as_array()).expect("uptake");
        uptake.iter().any(|one| {
            one["component"] == "kube-apiserver"
                && one["serves"].as_array().is_some_and(|all| !all.is_empty())
        })
    })
}
