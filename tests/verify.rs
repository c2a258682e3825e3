//! `verify` on sound PKIs, the whole matrix of handshakes, and what one broken trust flips.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use certkit::model::catalogue::{CERTIFICATES, Condition, Credential, Home, PATHS};
use serde_json::Value;

const ADDONS: [&str; 2] = ["--addon", "kube-proxy,konnectivity,istio,controller,workload"];

fn init(dir: &Path, arguments: &[&str]) {
    support::run(support::certkit().args(["init", "-q", "--dir"]).arg(dir).args(arguments));
}

fn verify(dir: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let output = support::certkit()
        .args(["verify", "-o", "json", "--dir"])
        .arg(dir)
        .args(more)
        .output()
        .expect("certkit starts");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn above_info(report: &Value) -> Vec<(String, String)> {
    let all = report["findings"].as_array().expect("findings").iter();
    all.filter(|f| f["severity"] != "info")
        .map(|f| {
            (f["code"].as_str().unwrap().to_owned(), f["files"][0].as_str().unwrap().to_owned())
        })
        .collect()
}

/// `[mustWork, work, mustBeRefused, refused, onlyAuthorization, untried]`
fn figures(report: &Value) -> [u64; 6] {
    ["mustWork", "work", "mustBeRefused", "refused", "onlyAuthorization", "untried"]
        .map(|name| report["handshakes"][name].as_u64().expect(name))
}

#[test]
fn what_init_makes_is_sound() {
    let folder = support::temp_dir();
    let two = ["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12,fd00::12"];
    let embedded = ["--host", "cp1=10.0.0.11", "--kubeconfig-style", "embedded"];
    for (name, arguments) in [
        ("one", &["--host", "cp1=10.0.0.11"][..]),
        ("two", &two),
        ("embedded", &embedded),
        ("single-root", &["--host", "cp1=10.0.0.11", "--single-root"]),
        ("p384", &["--host", "cp1=10.0.0.11", "--key-algorithm", "ecdsa-p384"]),
        ("ed25519", &["--host", "cp1=10.0.0.11", "--key-algorithm", "ed25519"]),
    ] {
        let dir = folder.path().join(name);
        let addons: &[&str] = if name == "embedded" { &[] } else { &ADDONS };
        init(&dir, &[arguments, addons].concat());
        let (exit, report) = verify(&dir, &[]);
        assert_eq!(report["findings"], serde_json::json!([]), "{name}");
        assert_eq!(exit, Some(0), "{name}");
        let [must, work, refuse, refused, _, untried] = figures(&report);
        assert_eq!((work, refused, untried), (must, refuse, 0), "{name}");
        assert!(must > 10 && refuse > 100, "{name}: {must} {refuse}");
    }
}

#[test]
fn kubeadms_fixtures_are_sound_but_for_what_kubeadm_leaves_open() {
    for algorithm in ["ecdsa-p256", "rsa-2048"] {
        let folder = support::temp_dir();
        let dir = folder.path().join("kubernetes");
        let fixture = Path::new("tests/fixtures/kubeadm-1.36").join(algorithm);
        support::run(Command::new("cp").arg("-a").arg(fixture).arg(&dir));
        // A checkout has not kept the modes kubeadm gives.
        close(&dir);
        let (exit, report) = verify(&dir, &["--at", "2026-12-21T00:00:00Z"]);
        assert_eq!(
            above_info(&report),
            [("etcd-peer-open".to_owned(), "pki/etcd/peer.crt".to_owned())],
            "{algorithm}"
        );
        assert_eq!(exit, Some(1));
        // Three certificates of the etcd CA that are no peers' may speak to peers.
        let [must, work, refuse, refused, _, untried] = figures(&report);
        assert_eq!([must, work, refuse - refused, untried], [11, 11, 3, 0]);
    }
}

fn close(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            close(&path);
        } else if path.extension().is_some_and(|e| e == "key" || e == "conf") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        }
    }
}

/// Three control-plane hosts with etcd, two nodes, every addon.
fn full(dir: &Path) {
    let file = dir.with_extension("yaml");
    fs::write(
        &file,
        "apiVersion: certkit/v1\nkind: Cluster\nname: full\nendpoint: api.example.com:6443\n\
         controlPlane:\n- {name: cp1, addresses: [10.0.0.11]}\n- {name: cp2, addresses: [10.0.0.12]}\n\
         - {name: cp3, addresses: [10.0.0.13]}\nnodes:\n- {name: w1, addresses: [10.0.1.1]}\n\
         - {name: w2, addresses: [10.0.1.2]}\naddons: [kube-proxy, konnectivity, istio, controller]\n",
    )
    .expect("declaration");
    init(dir, &["--config", file.to_str().expect("UTF-8")]);
}

#[test]
fn the_matrix_of_a_full_cluster_is_as_expected() {
    let folder = support::temp_dir();
    let dir = folder.path().join("full");
    full(&dir);
    let (exit, report) = verify(&dir, &[]);
    assert_eq!(exit, Some(0));
    // Counted by hand for three control-plane hosts with etcd (c) and five nodes (n):
    let (c, n) = (3, 5);
    let must = c + c // admin, super-admin: to each apiserver
        + c + (n - c) * c // kubelets: to their own host's apiserver, else to each
        + c + c // controller-manager and scheduler, each to its own apiserver
        + n * c // kube-proxy
        + c // pods
        + c * n // apiservers to kubelets
        + c // apiserver to its konnectivity server
        + n * c // agents
        + c // konnectivity servers, each to its own apiserver
        + c // certkit's controllers, each to its own apiserver
        + c * c // apiservers to etcd
        + c * (c - 1) // etcd peers
        + c // etcdctl, on each member
        + c // front proxy, before a stand-in
        + c + c + n + c // monitoring of controller-managers, schedulers, kubelets, certkit's controllers
        + c; // new nodes
    let [must_work, work, refuse, refused, authorization, untried] = figures(&report);
    assert_eq!((must_work, work, untried), (must, must, 0));
    assert_eq!(refused, refuse);
    // Every leaf is shown to each of the nine listeners it has no path to and that ask for a certificate; five listeners (etcd's two,
    // Konnectivity's two, aggregated servers) let nobody in without a certificate.
    let tried = report["tried"].as_array().expect("tried");
    let count =
        |test: fn(&str) -> bool| tried.iter().filter(|t| test(t["name"].as_str().unwrap())).count();
    let leaves = CERTIFICATES.iter().filter(|s| !s.is_ca()).count();
    let direct: BTreeSet<_> = PATHS
        .iter()
        .filter_map(|p| match (p.client, p.server, p.server_trusts) {
            (Credential::Cert(client), Credential::Cert(server), _) => {
                Some((client, server.name()))
            }
            (Credential::Cert(client), _, Some(_)) => Some((client, p.id)),
            _ => None,
        })
        .collect();
    let as_clients = count(|name| name.contains(" as a client of "));
    assert_eq!(as_clients, leaves * 9 - direct.len() + 5);
    assert_eq!(
        refuse + authorization,
        (as_clients + count(|n| n.contains(" as the server of "))) as u64
    );
    assert!(refuse > 250, "{refuse}");
    let wrong: Vec<_> = tried.iter().filter(|t| t["asExpected"] == false).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The ids of the paths that are tried, and of those that fail.
fn failing(report: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let tried = report["tried"].as_array().expect("tried").iter();
    let paths: Vec<_> = tried.filter(|t| t["expected"] == "works").collect();
    let ids = |all: Vec<&&Value>| {
        all.iter().map(|t| t["path"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let failed = paths.iter().filter(|t| t["asExpected"] == false).collect();
    (ids(paths.iter().collect()), ids(failed))
}

/// Two PKIs of the same cluster, made apart: every name is the same and no key is.
fn twins(folder: &Path) -> (PathBuf, PathBuf) {
    let (one, other) = (folder.join("one"), folder.join("other"));
    for dir in [&one, &other] {
        let host_dir = ["--host", "cp1=10.0.0.11", "--host-dir", "/etc/kubernetes"];
        init(dir, &[&host_dir[..], &ADDONS].concat());
    }
    (one, other)
}

#[test]
fn a_leaf_of_a_foreign_ca_breaks_exactly_its_own_paths() {
    let folder = support::temp_dir();
    let (one, other) = twins(folder.path());
    let (_, report) = verify(&one, &[]);
    let (all, none) = failing(&report);
    assert!(none.is_empty() && all.len() >= 18, "{all:?}");
    let mut flipped = 0;
    for spec in CERTIFICATES.iter().filter(|s| !s.is_ca()) {
        let files = match spec.home {
            Home::Files { cert, key } => vec![cert, key],
            Home::Kubeconfig { pem: Some(pem), .. } => vec![pem],
            Home::Kubeconfig { file, .. } => vec![file],
            Home::Authority { .. } => vec![],
        };
        let kept: Vec<_> = files.iter().map(|f| fs::read(one.join(f)).unwrap()).collect();
        for file in &files {
            fs::copy(other.join(file), one.join(file)).unwrap();
        }
        let (exit, report) = verify(&one, &[]);
        let (_, failed) = failing(&report);
        let own = Credential::Cert(spec.id);
        let expected: BTreeSet<String> = PATHS
            .iter()
            .filter(|p| (p.client == own || p.server == own) && all.contains(p.id))
            .map(|p| p.id.to_owned())
            .collect();
        assert_eq!(failed, expected, "{}", spec.id);
        assert_eq!(exit, Some(2), "{}", spec.id);
        assert!(!above_info(&report).iter().any(|(code, _)| code == "path-broken"), "{}", spec.id);
        flipped += failed.len();
        for (file, content) in files.iter().zip(kept) {
            fs::write(one.join(file), content).unwrap();
        }
    }
    assert!(flipped > 25, "{flipped}");
    assert_eq!(verify(&one, &[]).0, Some(0), "everything was put back");
}

#[test]
fn a_bundle_of_a_foreign_ca_breaks_exactly_the_paths_that_trust_it() {
    let folder = support::temp_dir();
    let (one, other) = twins(folder.path());
    let (all, _) = failing(&verify(&one, &[]).1);
    for spec in CERTIFICATES.iter().filter(|spec| spec.present != Condition::SingleRoot) {
        let Home::Authority { bundle: Some(bundle), .. } = spec.home else { continue };
        let kept = fs::read(one.join(bundle)).unwrap();
        fs::copy(other.join(bundle), one.join(bundle)).unwrap();
        let (exit, report) = verify(&one, &[]);
        let (_, failed) = failing(&report);
        let expected: BTreeSet<String> = PATHS
            .iter()
            .filter(|p| p.client_trusts == Some(spec.id) || p.server_trusts == Some(spec.id))
            .filter(|p| all.contains(p.id))
            .map(|p| p.id.to_owned())
            .collect();
        assert_eq!(failed, expected, "{bundle}");
        assert_eq!(exit, Some(2), "{bundle}");
        let codes: Vec<_> = above_info(&report).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, ["bundle-lacks-ca"], "{bundle}");
        fs::write(one.join(bundle), kept).unwrap();
    }
}

#[test]
fn sarif_and_junit_say_what_json_says() {
    let folder = support::temp_dir();
    let dir = folder.path().join("pki");
    init(&dir, &["--host", "cp1=10.0.0.11"]);
    fs::remove_file(dir.join("pki/scheduler.key")).unwrap();
    let (_, json) = verify(&dir, &[]);
    let output = |format: &str| {
        let mut command = support::certkit();
        command.args(["verify", "-o", format, "--dir"]).arg(&dir);
        String::from_utf8(support::run_to_exit(&mut command, 2).stdout).unwrap()
    };
    let sarif: Value = serde_json::from_str(&output("sarif")).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), json["findings"].as_array().unwrap().len());
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(["note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        let place = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        assert_eq!(place, "pki/scheduler.key");
    }
    let junit = output("junit");
    let cases = junit.matches("<testcase ").count();
    assert!(junit.starts_with("<?xml") && junit.contains("<failure type=\"critical\""));
    assert!(junit.contains(&format!(" tests=\"{cases}\" failures=\"1\"")), "{junit}");
    for tag in ["testsuites", "testsuite", "failure"] {
        let (open, close) = (format!("<{tag} "), format!("</{tag}>"));
        assert_eq!(junit.matches(&open).count(), junit.matches(&close).count(), "{tag}");
    }
    let names = rules.len();
    assert!(cases > names + 20, "a case for every rule ({names}) and every path: {cases}");
}

#[test]
fn nothing_to_verify_is_an_error() {
    let folder = support::temp_dir();
    let mut command = support::certkit();
    let output = support::run_to_exit(command.args(["verify", "--dir"]).arg(folder.path()), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing of a cluster's PKI"));
}

#[test]
fn the_forecast_is_ordered_and_confirmed_by_handshakes() {
    let folder = support::temp_dir();
    let dir = folder.path().join("pki");
    let file = folder.path().join("cluster.yaml");
    fs::write(
        &file,
        "apiVersion: certkit/v1\nkind: Cluster\nname: x\nendpoint: 10.0.0.11:6443\n\
         controlPlane:\n- {name: cp1, addresses: [10.0.0.11]}\noverrides:\n  \
         scheduler.conf: {validity: 30d}\n  etcd-peer: {validity: 60d}\n  etcd-ca: {validity: 200d}\n  \
         etcd-server: {validity: 200d}\n  front-proxy-client: {validity: 10d}\n",
    )
    .unwrap();
    init(&dir, &["--config", file.to_str().unwrap()]);
    let (_, report) = verify(&dir, &["--forecast"]);
    let breaks = report["forecast"].as_array().unwrap();
    let ids: Vec<_> = breaks.iter().map(|b| b["path"].as_str().unwrap()).collect();
    assert_eq!(
        ids[..5],
        [
            "apiserver-to-aggregated",
            "scheduler-to-apiserver",
            "etcd-to-etcd",
            "apiserver-to-etcd",
            "etcdctl-to-etcd"
        ]
    );
    let times: Vec<_> = breaks.iter().map(|b| b["worksUntil"].as_str().unwrap()).collect();
    assert!(times.is_sorted());
    assert!(breaks.iter().all(|b| b["confirmed"] == true), "{breaks:?}");
    // As of just after, it is broken, and only it.
    let at = times[1].replace('Z', "+00:00");
    let (_, report) = verify(&dir, &["--at", &at]);
    assert_eq!(failing(&report).1, BTreeSet::from(["apiserver-to-aggregated".to_owned()]));
}
