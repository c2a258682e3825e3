//! A real control plane whose certificates end, CAs and all: it refuses everybody, `certkit recover` makes anew what
//! has expired, and started in the order that it says the cluster is what it was.

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    certkit,
    cluster::{Cluster, Component, Options},
    run, run_to_exit, stdout,
};

/// Made an hour ago for an hour and a little: what is left is enough to start and to write something. CAs end later:
/// what is issued a moment after they got a new term is to have its full one.
const LIFE: &str = "validity: {ca: 3600s, leaf: 3588s}\n";
const AGO: &str = "-3513s";
const LATER: Duration = Duration::from_secs(12);

/// How long it is waited for the end of all that.
const PATIENCE: Duration = Duration::from_secs(150);

/// How a request of this kubeconfig's user ends, and all that is said.
fn ask(cluster: &Cluster, kubeconfig: &str, arguments: &[&str]) -> (bool, String) {
    let output = cluster.kubectl(kubeconfig).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
fn a_control_plane_that_was_left_to_die_is_recovered_with_all_that_it_knew() {
    let options = Options { declared: LIFE, ago: Some(AGO), ..Options::default() };
    let Some(mut cluster) = Cluster::start(options) else { return };
    let written = ["create", "configmap", "kept", "--from-literal=word=before"];
    run(cluster.kubectl("super-admin.conf").args(written));
    let node = cluster.folder().join("node.yaml");
    std::fs::write(&node, "apiVersion: v1\nkind: Node\nmetadata: {name: cp1}\n").unwrap();
    run(cluster.kubectl("kubelet.conf").args(["create", "-f"]).arg(&node));

    // Nobody does anything, until nobody is let in.
    let end = Instant::now() + PATIENCE;
    let who = ["super-admin.conf", "kubelet.conf"];
    for kubeconfig in who {
        loop {
            let (ok, said) = ask(&cluster, kubeconfig, &["get", "--raw", "/api"]);
            if !ok && said.contains("expired") {
                break;
            }
            assert!(Instant::now() < end, "{kubeconfig} is let in still: {said}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    std::thread::sleep(LATER);
    for component in Component::ALL.into_iter().rev() {
        cluster.stop(0, component);
    }
    run_to_exit(certkit().args(["verify", "--dir"]).arg(&cluster.dir), 2);

    let begin = Instant::now();
    run(certkit().args(["recover", "--dry-run", "--dir"]).arg(&cluster.dir));
    let said = stdout(certkit().args(["recover", "-o", "json", "--dir"]).arg(&cluster.dir));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["blocked"], serde_json::json!([]), "{said}");
    run(certkit().args(["verify", "--dir"]).arg(&cluster.dir));
    let order = report["start"].as_array().unwrap().iter();
    let order: Vec<&str> = order.map(|one| one["component"].as_str().unwrap()).collect();
    // There is no kubelet here; its identity is asked below.
    let known = |name: &&str| Component::ALL.into_iter().find(|c| c.name() == *name);
    let components: Vec<Component> = order.iter().filter_map(known).collect();
    assert_eq!(components, Component::ALL, "{order:?}");
    for component in components {
        cluster.start_one(0, component);
    }
    println!("recovered and started in {:?}", begin.elapsed());

    let kept = ["get", "configmap", "kept", "-o", "jsonpath={.data.word}"];
    assert_eq!(cluster.super_admin(&kept), "before");
    let (ok, said) = ask(&cluster, "kubelet.conf", &["get", "node", "cp1", "-o", "name"]);
    assert!(ok && said.trim() == "node/cp1", "{said}");
    let whoami = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
    assert_eq!(ask(&cluster, "kubelet.conf", &whoami), (true, "system:node:cp1".into()));
    cluster.wait_for_leases();
    cluster.assert_served_is_on_disk();
}
