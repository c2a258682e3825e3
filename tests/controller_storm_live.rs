//! `certkit controller` in bad weather, in a real cluster: thousands of hostile requests at once with honest ones among them, a
//! replica whose network is cut while it leads, and clocks that differ.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use support::{
    certkit,
    machine::Machine,
    need,
    plane::{Plane, flags},
    replica::{
        Replica, SETUP, Sender, bootstrap, conditions, lines, peak, requests_of, with_clock,
        with_cluster, write_kubeconfig,
    },
    requests::{self, Asked, CLIENT, NODES, Pkcs10, TO_ASK},
    run, stdout,
};

const NAMES: [(&str, &str); 2] = [("cp1", "10.0.0.11"), ("worker-1", "10.0.1.1")];
/// Nodes that ask honestly, a third of them in each part.
const HONEST: usize = 60;
/// Requests that one node sends for itself, each with a key of its own.
const GREEDY: usize = 1000;
/// How often everything hostile is sent.
const ROUNDS: usize = 24;
/// How many certificates a node is given in an hour.
const LIMIT: &str = "5";
/// What a replica may take in memory with some thousands of requests.
const MEMORY: u64 = 128 << 10;

fn inventory() -> String {
    let nodes: String = (0..=HONEST)
        .map(|n| format!("  - {{name: n{n:03}, addresses: [10.9.0.{}]}}\n", n + 1))
        .collect();
    format!(
        "apiVersion: certkit/v1\nkind: Cluster\nname: prod\nendpoint: 10.0.0.11:6443\n\
         controlPlane:\n  - {{name: cp1, addresses: [10.0.0.11]}}\n\
         nodes:\n  - {{name: worker-1, addresses: [10.0.1.1]}}\n  \
         - {{name: worker-2, addresses: [10.0.1.2]}}\n{nodes}"
    )
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
fn no_weather_has_a_request_lost_or_decided_wrongly() {
    if ["curl", "faketime", "ip"].iter().any(|program| need(program).is_none()) {
        return;
    }
    let Some(machine) = Machine::boot(&NAMES) else { return };
    let started = Plane::of_certkit_with(&machine, |component| {
        let mut arguments = flags(&machine, component, "10.0.0.11");
        if component == "kube-apiserver" {
            arguments.push("--enable-bootstrap-token-auth=true".into());
        }
        if component == "kube-controller-manager" {
            // Its own approver decides by roles alone.
            let approver = "certificatesigningrequest-approving-controller";
            arguments.push(format!("--controllers=*,-{approver}"));
        }
        arguments
    });
    let Some(mut plane) = started else { return };
    fs::create_dir_all(machine.folder().join("inventory")).unwrap();
    fs::write(machine.folder().join("inventory/certkit.yaml"), inventory()).unwrap();
    plane.apply(SETUP);
    plane.apply(&stdout(certkit().args(["template", "controller"])));
    // The node that is greedy, and the one whose name others would have.
    for node in ["n060", "worker-1"] {
        plane.apply(&format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}\n"));
    }
    write_kubeconfig(&plane, &machine);

    thousands_are_hostile(&mut plane, &machine);
    the_leaders_network_is_cut(&mut plane, &machine);
    clocks_differ(&mut plane, &machine);
    every_decision_was_taken_once(&plane, &machine);
}

/// All of these are approved and signed within the time that the plane waits.
fn are_signed(plane: &mut Plane<'_>, all: &[Asked]) {
    plane.until("an honest request is not signed", |plane| {
        let there = requests_of(plane);
        all.iter().all(|asked| {
            there.get(&asked.name()).is_some_and(|request| {
                !conditions(request, "Approved").is_empty()
                    && !request["status"]["certificate"].is_null()
            })
        })
    });
}

fn honest(round: &str, numbers: std::ops::Range<usize>) -> Vec<Asked> {
    numbers.map(|number| bootstrap(round, number)).collect()
}

fn thousands_are_hostile(plane: &mut Plane<'_>, machine: &Machine) {
    let replica = Replica::start_on(
        machine,
        machine,
        with_cluster(),
        "flooded",
        &["--limit", LIMIT, "--listen", "10.0.0.11:10261"],
    );
    plane.until("it does not lead", |_| replica.says("leading"));
    let greedy = (0..GREEDY).map(|number| Asked {
        what: leak(format!("greedy {number}")),
        signer: CLIENT,
        username: "system:node:n060".into(),
        groups: vec![NODES],
        usages: TO_ASK.to_vec(),
        pem: Pkcs10::of_node("n060", &[]).pem(),
        code: "rate-limited",
    });
    let hostile = (0..ROUNDS).flat_map(|round| {
        requests::hostile().into_iter().map(move |asked| Asked {
            what: leak(format!("hostile {round} {}", asked.what)),
            ..asked
        })
    });
    let flood: Vec<Asked> = greedy.chain(hostile).collect();
    let few = honest("flood", 0..HONEST / 3);
    // The honest are somewhere among them.
    let step = flood.len() / few.len();
    let mut all: Vec<Asked> = Vec::new();
    for (index, one) in flood.iter().enumerate() {
        if index % step == 0 {
            all.extend(few.get(index / step).cloned());
        }
        all.push(one.clone());
    }
    let sender = Sender::new(plane, machine);
    let begin = Instant::now();
    let statuses = sender.send_at_once(&all);
    let sent = begin.elapsed();
    let reached = statuses.iter().filter(|status| **status == 201).count();
    are_signed(plane, &few);
    let signed = begin.elapsed();
    assert!(reached > 2000, "{reached} of {}", all.len());

    // Every one of them is decided, or left for its reason; of the greedy node's as many are approved as it may have.
    let is_told =
        |line: &Value| ["approved", "denied", "left"].iter().any(|w| line["message"] == *w);
    plane.until("not every request is looked at", |plane| {
        let lines = replica.lines();
        let told: std::collections::BTreeSet<&str> = lines
            .iter()
            .filter(|line| is_told(line))
            .filter_map(|line| line["request"].as_str())
            .collect();
        requests_of(plane).keys().all(|name| told.contains(name.as_str()))
    });
    let decided = begin.elapsed();
    let there = requests_of(plane);
    let approved = |prefix: &str| {
        let mine = there.iter().filter(|(name, _)| name.starts_with(prefix));
        mine.filter(|(_, request)| !conditions(request, "Approved").is_empty()).count()
    };
    assert_eq!(approved("hostile"), 0);
    assert_eq!(approved("greedy"), LIMIT.parse::<usize>().unwrap());
    assert_eq!(approved("flood"), few.len());
    let lines = replica.lines();
    let mut took: Vec<u64> = lines
        .iter()
        .filter(|line| {
            line["message"] == "approved" && line["request"].as_str().unwrap().starts_with("flood")
        })
        .map(|line| line["milliseconds"].as_str().unwrap().parse().unwrap())
        .collect();
    took.sort_unstable();
    let memory = peak(replica.process.pid());
    println!(
        "{} requests at once, {reached} of them pass the apiserver, sent within {sent:.1?}: the {} honest \
         ones are signed after {signed:.1?}, each approved within {} ms (median) and {} ms (the last); \
         all are decided after {decided:.1?}; certkit's peak: {memory}",
        all.len(),
        few.len(),
        took[took.len() / 2],
        took[took.len() - 1],
    );
    assert!(took[took.len() - 1] < 30_000, "{took:?}");
    let kib: u64 = memory.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < MEMORY, "{memory}");
    // What is counted has few names, whatever was asked for.
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--cacert", "/etc/kubernetes/pki/ca-bundle.crt"]);
    curl.arg("https://10.0.0.11:10261/metrics");
    let metrics = String::from_utf8(machine.enter(&curl).output().unwrap().stdout).unwrap();
    assert!(metrics.contains("certkit_csr_decisions_total"), "{metrics}");
    assert!(metrics.lines().count() < 300, "{metrics}");
    assert!(replica.process.end().success());
    plane.super_admin(&["delete", "csr", "--all", "--wait=false"]);
    plane.until("requests stay", |plane| requests_of(plane).is_empty());
}

/// The cable of the machine that leads is pulled, and put in again.
fn the_leaders_network_is_cut(plane: &mut Plane<'_>, machine: &Machine) {
    let far = machine.apart(&NAMES, "10.0.2.1");
    let ip = |on: &Machine, words: &str| {
        run(&mut on.enter(Command::new("ip").args(words.split(' '))));
    };
    let holder = far.holder();
    ip(machine, &format!("link add cable type veth peer name cable netns {holder}"));
    ip(machine, "addr add 10.77.0.1/30 dev cable");
    ip(machine, "link set cable up");
    ip(&far, "addr add 10.77.0.2/30 dev cable");
    ip(&far, "link set cable up");
    ip(&far, "route add 10.0.0.11/32 via 10.77.0.1");
    // What the kubeconfig names is there, too.
    let file = "pki/ca-bundle.crt";
    fs::create_dir_all(far.kubernetes().join("pki")).unwrap();
    fs::copy(machine.kubernetes().join(file), far.kubernetes().join(file)).unwrap();

    let cut = Replica::start_on(&far, machine, with_cluster(), "cut-off", &[]);
    plane.until("the one far away does not lead", |_| cut.says("leading"));
    let near = Replica::start(machine, "near", 10262, &[]);
    plane.until("the near one does not come up", |_| near.says("inventory read"));
    let sender = Sender::new(plane, machine);
    let part = HONEST / 3;
    let before = honest("before", part..part + 5);
    assert!(sender.send(&before).iter().all(|status| *status == 201));
    are_signed(plane, &before);
    assert!(!near.says("leading"));

    ip(machine, "link set cable down");
    let pulled = Instant::now();
    let meanwhile = honest("meanwhile", part + 5..2 * part);
    assert!(sender.send(&meanwhile).iter().all(|status| *status == 201));
    are_signed(plane, &meanwhile);
    println!("the network of the leader was cut: all is decided {:.1?} later", pulled.elapsed());
    assert!(near.says("leading") && cut.says("standing by"));
    ip(machine, "link set cable up");
    let after = honest("after", part..part + 5);
    assert!(sender.send(&after).iter().all(|status| *status == 201));
    are_signed(plane, &after);
    // It comes back to what is not its own any more, and can take over again.
    assert!(near.process.end().success());
    plane.until("the one that was cut off does not take over", |_| {
        cut.lines().iter().filter(|line| line["message"] == "leading").count() == 2
    });
    let last = honest("last", part + 5..part + 10);
    assert!(sender.send(&last).iter().all(|status| *status == 201));
    are_signed(plane, &last);
    assert!(cut.process.end().success());
}

/// One replica is two hours ahead, one four minutes behind, and one so far behind that nothing is valid yet.
fn clocks_differ(plane: &mut Plane<'_>, machine: &Machine) {
    let ahead =
        Replica::start_on(machine, machine, with_clock("+2h"), "ahead", &["--limit", LIMIT]);
    plane.until("the one ahead does not lead", |_| ahead.says("leading"));
    let late = Replica::start_on(machine, machine, with_clock("-4m"), "late", &["--limit", LIMIT]);
    let lost = Replica::start_on(machine, machine, with_clock("-3h"), "lost", &["--limit", LIMIT]);
    plane.until("the late one does not come up", |_| late.says("inventory read"));
    plane.until("the lost one does not come up", |_| lost.says("started"));
    let clock = |replica: &Replica| replica.lines()[0]["time"].as_str().unwrap()[..13].to_owned();
    assert_ne!(clock(&ahead), clock(&lost), "faketime does nothing");
    let sender = Sender::new(plane, machine);
    let part = 2 * HONEST / 3;
    let one = honest("ahead", part..part + 5);
    assert!(sender.send(&one).iter().all(|status| *status == 201));
    are_signed(plane, &one);
    // Long enough for a Lease to end, by anybody's clock.
    std::thread::sleep(Duration::from_secs(20));
    assert!(ahead.process.pid() > 0 && !ahead.says("standing by"));
    assert!(!late.says("leading") && !lost.says("leading"));
    // The limit is counted by the apiserver's clock alone: what was approved two hours ago by this one's counts still.
    let greedy: Vec<Asked> = (0..12)
        .map(|number| Asked {
            what: leak(format!("skewed greedy {number}")),
            signer: CLIENT,
            username: "system:node:n060".into(),
            groups: vec![NODES],
            usages: TO_ASK.to_vec(),
            pem: Pkcs10::of_node("n060", &[]).pem(),
            code: "rate-limited",
        })
        .collect();
    assert!(sender.send(&greedy).iter().all(|status| *status == 201));
    plane.until("not every greedy request is looked at", |_| {
        let about =
            |line: &Value| line["request"].as_str().unwrap_or_default().starts_with("skewed");
        ahead.lines().iter().filter(|line| about(line)).count() >= greedy.len()
    });
    let there = requests_of(plane);
    let given = greedy.iter().filter(|a| !conditions(&there[&a.name()], "Approved").is_empty());
    assert_eq!(given.count(), LIMIT.parse::<usize>().unwrap());

    kill_process(ahead.pid(), Signal::KILL).unwrap();
    let killed = Instant::now();
    let two = honest("late", part + 5..part + 10);
    assert!(sender.send(&two).iter().all(|status| *status == 201));
    are_signed(plane, &two);
    println!(
        "the leader with the other clock was killed: all is decided {:.1?} later",
        killed.elapsed()
    );
    assert!(late.says("leading") && !lost.says("leading"));
    // Who believes that no certificate is valid yet says so, and decides nothing.
    assert!(lost.lines().iter().any(|line| line["level"] == "warning"));
    assert!(late.process.end().success());
    drop(lost);
}

fn every_decision_was_taken_once(plane: &Plane<'_>, machine: &Machine) {
    let logs = ["flooded", "cut-off", "near", "ahead", "late", "lost"];
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for line in logs.iter().flat_map(|name| lines(&machine.log_of(name))) {
        if line["message"] == "approved" || line["message"] == "denied" {
            *taken.entry(line["request"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let twice: Vec<_> = taken.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty() && !taken.is_empty(), "{twice:?}");
    for (name, request) in requests_of(plane) {
        let decisions =
            conditions(&request, "Approved").len() + conditions(&request, "Denied").len();
        assert!(decisions <= 1, "{name}: {request}");
    }
}
