//! All CAs and the key of service accounts, replaced on a real control plane of three hosts: each stage as
//! `certkit rotate-ca` takes it, each restart as it says, one host after the other, while clients write and read on
//! connections of their own.

mod support;

use std::{fs, net::SocketAddr, sync::Arc};

use support::{
    certkit,
    cluster::{Cluster, Component, Options},
    https::{Credentials, request},
    run,
    storm::Storm,
    temp_dir,
};

fn rotate_ca(cluster: &Cluster, more: &[&str]) {
    run(certkit().arg("rotate-ca").arg("--dir").arg(&cluster.dir).args(more));
}

/// Restarts what `rotate-ca` says must be, host by host; the load balancer leaves a host out while its apiserver is
/// away.
fn restart_host_by_host(cluster: &mut Cluster, storm: &Storm) {
    let begin = std::time::Instant::now();
    for host in 0..cluster.hosts.len() {
        storm.leave_out(host);
        cluster.restart(host, Component::Etcd);
        cluster.restart(host, Component::ApiServer);
        storm.take_in(host);
        cluster.restart(host, Component::ControllerManager);
        storm.wait_for_more();
        // One that leads ends by itself if its apiserver takes more than ten seconds to come back, and another host's
        // takes over; a service manager starts it again.
        let ended = cluster.revive();
        let may_end = |component: Component| {
            matches!(component, Component::ControllerManager | Component::Scheduler)
        };
        assert!(ended.iter().all(|(_, component)| may_end(*component)), "{ended:?}");
    }
    cluster.wait_for_leases();
    cluster.assert_served_is_on_disk();
    println!("all hosts are restarted, after {:?}", begin.elapsed());
}

#[test]
fn every_authority_of_a_running_control_plane_is_replaced_and_no_request_fails() {
    let options = Options { hosts: 3, ..Options::default() };
    let Some(mut cluster) = Cluster::prepare(options) else { return };
    // An apiserver that ends waits so long for watches, by default a minute.
    cluster.add_flag(Component::ApiServer, "--request-timeout=15s".to_owned());
    cluster.start_all();
    cluster.apply_rbac();
    let old = temp_dir();
    for file in ["pki/ca.crt", "pki/etcd/ca.crt", "pki/front-proxy-ca.crt", "pki/sa.pub"] {
        let name = file.replace('/', "-");
        fs::copy(cluster.dir.join(file), old.path().join(name)).unwrap();
    }
    let old_client = old.path().join("admin.conf");
    fs::copy(cluster.dir.join("super-admin.conf"), &old_client).unwrap();
    let storm = Storm::start(&cluster);
    rotate_ca(&cluster, &["--next"]);
    restart_host_by_host(&mut cluster, &storm);
    rotate_ca(&cluster, &["--next"]);
    restart_host_by_host(&mut cluster, &storm);
    rotate_ca(&cluster, &["--next", "ca", "etcd-ca", "front-proxy-ca"]);
    rotate_ca(&cluster, &["--next", "--force", "sa"]);
    restart_host_by_host(&mut cluster, &storm);
    let (done, failed) = storm.end();
    println!("{done} requests on connections of their own, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {done} failed: {failed:#?}", failed.len());
    cluster.assert_running();

    // Pods trust the new CA alone, and nobody accepts what the old one signed.
    let line = |file: &str| {
        let text = fs::read_to_string(file).unwrap();
        text.lines().nth(2).unwrap().to_owned()
    };
    let new_ca = line(cluster.dir.join("pki/ca.crt").to_str().unwrap());
    let old_ca = line(old.path().join("pki-ca.crt").to_str().unwrap());
    let root = ["get", "configmap", "kube-root-ca.crt", "-n", "kube-system", "-o", "yaml"];
    cluster.until("kube-root-ca.crt has the old CA", || {
        let text = cluster.super_admin(&root);
        text.contains(&new_ca) && !text.contains(&old_ca)
    });
    let to = SocketAddr::from((cluster.hosts[0].address, 6443));
    let tree = cluster.dir.clone();
    let kept = Credentials::Kubeconfig { file: old_client, tree };
    let asked = kept.read().map(|config| {
        request(&Arc::new(config), to, "GET /api HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n")
    });
    let refused = match asked {
        Ok(Ok(answer)) => answer.contains(" 401 "),
        Ok(Err(_)) | Err(_) => true,
    };
    assert!(refused, "the old client is accepted still");
}
