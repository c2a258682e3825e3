//! No visible order is a hash map's. Every process hashes by keys of its own, so that what is said in a map's order is
//! said in another order by the next process: each command is run several times, and must say the same.

mod support;

use std::{fs, path::Path};

use certkit::model::catalogue::CERTIFICATES;
use support::{certkit, run, stdout, temp_dir};

/// Enough runs that an order of even two things in a map would differ once, nearly always.
const RUNS: usize = 8;

const WORKSPACE: &str = "\
apiVersion: certkit/v1
kind: Cluster
name: order
endpoint: api.example.com:6443
controlPlane:
- {name: cp2, addresses: [10.0.0.12]}
- {name: cp1, addresses: [10.0.0.11]}
- {name: cp3, addresses: [10.0.0.13]}
nodes:
- {name: worker-b, addresses: [10.0.1.2]}
- {name: worker-a, addresses: [10.0.1.1]}
addons: [konnectivity, kube-proxy]
";

const COMMANDS: &[&[&str]] = &[
    &["verify", "--at", "2027-11-01T00:00:00Z"],
    &["verify", "-o", "json", "--at", "2027-11-01T00:00:00Z"],
    &["verify", "-o", "sarif", "--at", "2027-11-01T00:00:00Z"],
    &["verify", "-o", "junit", "--at", "2027-11-01T00:00:00Z"],
    &["verify", "--forecast", "--at", "2027-11-01T00:00:00Z"],
    &["check-expiration", "--at", "2027-11-01T00:00:00Z"],
    &["check-expiration", "-o", "json", "--at", "2027-11-01T00:00:00Z"],
    &["check-expiration", "-o", "prometheus", "--at", "2027-11-01T00:00:00Z"],
    &["check-expiration", "-o", "nagios", "--at", "2027-11-01T00:00:00Z"],
    &["paths"],
    &["paths", "--format", "json"],
    &["flags", "--host", "cp1"],
    &["flags", "--host", "cp1", "--format", "json"],
    &["init", "--dry-run", "--at", "2027-11-01T00:00:00Z"],
    &["init", "--dry-run", "-o", "json", "--at", "2027-11-01T00:00:00Z"],
    &["rotate", "--dry-run", "--all", "--at", "2027-11-01T00:00:00Z"],
    &["rotate", "--dry-run", "--all", "-o", "json", "--at", "2027-11-01T00:00:00Z"],
    &["prune", "--dry-run"],
    &["rotate", "--rollback", "--list", "-v"],
    &["rotate", "--rollback", "--dry-run", "--at", "2029-11-01T00:00:00Z"],
];

fn workspace(dir: &Path, folder: &Path) {
    let file = folder.join("order.yaml");
    fs::write(&file, WORKSPACE).unwrap();
    run(certkit().arg("init").arg("--dir").arg(dir).arg("--config").arg(&file));
    run(certkit().args(["rotate", "--all", "--dir"]).arg(dir));
}

#[test]
fn every_process_says_the_same_in_the_same_order() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    workspace(&dir, folder.path());
    // Much to be said: findings of every kind, leftovers, drift.
    for host in ["cp9", "cp8", "worker-z"] {
        let stray = dir.join("hosts").join(host).join("pki");
        fs::create_dir_all(&stray).unwrap();
        for name in ["b.key", "a.key", "c.crt"] {
            fs::write(stray.join(name), "x").unwrap();
        }
    }
    for file in [
        "hosts/cp1/pki/apiserver.crt",
        "hosts/cp3/pki/etcd/peer.key",
        "hosts/worker-a/kubelet.conf",
    ] {
        fs::write(dir.join(file), "damaged\n").unwrap();
    }
    let yaml = dir.join("certkit.yaml");
    let text = fs::read_to_string(&yaml).unwrap();
    assert!(text.contains("addons: [konnectivity, kube-proxy]"), "{text}");
    let more = "addons: [kube-proxy]\nextraSans: {apiserver: [z.example.com, a.example.com]}";
    fs::write(&yaml, text.replace("addons: [konnectivity, kube-proxy]", more)).unwrap();
    for command in COMMANDS {
        let said = || {
            let output = certkit().args(*command).arg("--dir").arg(&dir).output().unwrap();
            assert_ne!(output.status.code(), Some(64), "{command:?}: {output:?}");
            [output.stdout, output.stderr].concat()
        };
        let first = said();
        assert!(
            first.len() > 40,
            "{command:?} says too little to tell: {}",
            String::from_utf8_lossy(&first)
        );
        for _ in 1..RUNS {
            let again = said();
            assert!(
                first == again,
                "{command:?}\n{}\n---\n{}",
                String::from_utf8_lossy(&first),
                String::from_utf8_lossy(&again)
            );
        }
    }
}

#[test]
fn what_is_made_is_made_in_the_same_order() {
    let logs: Vec<Vec<String>> = (0..4)
        .map(|_| {
            let folder = temp_dir();
            let dir = folder.path().join("pki");
            workspace(&dir, folder.path());
            let log = fs::read_to_string(dir.join(".certkit/log.jsonl")).unwrap();
            let lines =
                log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines
                .map(|line| format!("{} {} {}", line["command"], line["name"], line["files"]))
                .collect()
        })
        .collect();
    assert!(logs[0].len() > 100, "{}", logs[0].len());
    assert!(logs.iter().all(|log| *log == logs[0]));
}

#[test]
fn certificates_come_in_the_catalogues_order() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    run(certkit().arg("init").arg("--dir").arg(&dir).args(["--host", "cp1=10.0.0.11"]));
    let place = |id: &str| CERTIFICATES.iter().position(|spec| spec.id.name() == id);
    for command in
        [&["rotate", "--dry-run", "--all", "-o", "json"][..], &["check-expiration", "-o", "json"]]
    {
        let text = stdout(certkit().args(command).arg("--dir").arg(&dir));
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rows = document["steps"].as_array().or(document["certificates"].as_array());
        let rows = rows.unwrap_or_else(|| panic!("{command:?}: {text}"));
        let places: Vec<usize> = rows
            .iter()
            .filter_map(|row| place(row["name"].as_str()?))
            .filter(|at| !CERTIFICATES[*at].is_ca())
            .collect();
        assert!(places.len() > 5, "{command:?}: {text}");
        assert!(places.is_sorted(), "{command:?}: {places:?}");
    }
}
