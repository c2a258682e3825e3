//! A real control plane, started from what certkit emits and nothing else.

mod support;

use support::cluster::{Cluster, Options};

#[test]
fn one_host_starts_from_its_flags_and_shows_its_certificates() {
    starts(1);
}

#[test]
fn three_hosts_start_from_their_flags_and_show_their_certificates() {
    starts(3);
}

fn starts(hosts: u8) {
    let Some(mut cluster) = Cluster::start(Options { hosts, ..Options::default() }) else { return };
    cluster.assert_served_is_on_disk();
    // admin.conf has no rights until the roles of `certkit template rbac` are there.
    let refused = cluster.kubectl("admin.conf").args(["get", "nodes"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("\"kubernetes-admin\" cannot"), "{said}");
    cluster.apply_rbac();
    for endpoint in cluster.endpoints() {
        for kubeconfig in ["admin.conf", "super-admin.conf"] {
            let mut kubectl = cluster.kubectl(kubeconfig);
            kubectl.args(["get", "namespaces", "-o", "name", "--server", &endpoint]);
            let said = support::stdout(&mut kubectl);
            assert!(said.contains("namespace/kube-system"), "{kubeconfig}: {said}");
        }
    }
    cluster.assert_running();
}
