//! All CAs and the key of service accounts, replaced on a real control plane of three hosts: each stage as
//! `certkit rotate-ca` takes it, killed at random moments, and back from the middle of it and on again; each restart as it says, one host after the other, while clients write and read on
//! connections of their own: with certificates; with a pod's token, trusting what the cluster tells pods to; and through
//! each apiserver an aggregated one.

mod support;

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use support::{
    aggregated::Aggregated,
    cluster::{Cluster, Component, Options},
    generations::Moments,
    https::{Credentials, request},
    need,
    pod::Pod,
    storm::Storm,
    temp_dir,
};

const CAS: [&str; 3] = ["ca", "etcd-ca", "front-proxy-ca"];
const ALL: [&str; 4] = ["ca", "etcd-ca", "front-proxy-ca", "sa"];

/// Restarts what `rotate-ca` says must be, host by host; the load balancer leaves a host out while its apiserver is
/// away.
fn restart(cluster: &mut Cluster, storm: &Storm, hosts: std::ops::Range<usize>) {
    let begin = std::time::Instant::now();
    for host in hosts.clone() {
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
    println!("hosts {hosts:?} are restarted, after {:?}", begin.elapsed());
}

/// All of them, after which everything has taken up what is on disk.
fn restart_all(cluster: &mut Cluster, storm: &Storm) {
    let hosts = 0..cluster.hosts.len();
    restart(cluster, storm, hosts);
    cluster.wait_for_leases();
    cluster.assert_served_is_on_disk();
}

/// Has apiservers make anew what they only ever add to, as `rotate-ca` says: until then aggregated API servers believe the
/// old front proxy.
fn forget_old_clients(cluster: &Cluster, storm: &Storm, aggregated: &Aggregated, old: &Path) {
    let in_use = cluster.hosts[0].tree.join("pki");
    let believes = |folder: &Path| {
        let [cert, key] =
            ["crt", "key"].map(|end| folder.join(format!("front-proxy-client.{end}")));
        aggregated.believes(cluster, &cert, &key)
    };
    assert!(believes(&in_use) && believes(old));
    let delete = "delete configmap extension-apiserver-authentication --namespace kube-system";
    cluster.super_admin(&delete.split(' ').collect::<Vec<_>>());
    cluster.until("the old front proxy is believed", || !believes(old));
    storm.wait_for_more();
    assert!(believes(&in_use));
}

#[test]
fn every_authority_of_a_running_control_plane_is_replaced_and_no_request_fails() {
    if need("curl").is_none() {
        return;
    }
    let options = Options { hosts: 3, ..Options::default() };
    let Some(mut cluster) = Cluster::prepare(options) else { return };
    // An apiserver that ends waits so long for watches, by default a minute.
    cluster.add_flag(Component::ApiServer, "--request-timeout=8s".to_owned());
    cluster.start_all();
    cluster.apply_rbac();
    let old = temp_dir();
    for file in ["pki/ca.crt", "pki/etcd/ca.crt", "pki/front-proxy-ca.crt", "pki/sa.pub"] {
        let name = file.replace('/', "-");
        fs::copy(cluster.dir.join(file), old.path().join(name)).unwrap();
    }
    for end in ["crt", "key"] {
        let name = format!("front-proxy-client.{end}");
        fs::copy(cluster.hosts[0].tree.join("pki").join(&name), old.path().join(&name)).unwrap();
    }
    let old_client = old.path().join("admin.conf");
    fs::copy(cluster.dir.join("super-admin.conf"), &old_client).unwrap();
    let pod = Pod::start(&cluster);
    let Some(mut aggregated) = Aggregated::start(&cluster, &pod) else { return };
    let storm = Storm::asking(&cluster, &[pod.ask(), aggregated.ask(&cluster)]);
    let pods_trust = |cluster: &Cluster, count: usize| {
        cluster.until("pods do not trust what they are to", || {
            pod.trusted().matches("BEGIN CERTIFICATE").count() == count
        });
    };
    let (dir, mut moments) = (cluster.dir.clone(), Moments::new());
    // Each stage is taken back when one host has taken it up, and taken again.
    moments.go(&dir, &ALL, "introduced", &[]);
    restart(&mut cluster, &storm, 0..1);
    moments.go(&dir, &ALL, "stable", &[]);
    restart(&mut cluster, &storm, 0..1);
    moments.go(&dir, &ALL, "introduced", &[]);
    restart_all(&mut cluster, &storm);
    pods_trust(&cluster, 2);
    // Its client reads the CA again only every five minutes; of two that are behind a service one is left.
    storm.paused(|| aggregated.restart(&cluster));
    moments.go(&dir, &ALL, "switched", &[]);
    restart(&mut cluster, &storm, 0..1);
    moments.go(&dir, &ALL, "introduced", &[]);
    restart(&mut cluster, &storm, 0..1);
    moments.go(&dir, &ALL, "switched", &[]);
    restart_all(&mut cluster, &storm);
    // Tokens of both keys are shown, until those of the old one have ended.
    pod.renew(&cluster);
    storm.wait_for_more();
    pod.forget();
    moments.go(&dir, &CAS, "stable", &[]);
    moments.go(&dir, &["sa"], "stable", &["--force"]);
    restart_all(&mut cluster, &storm);
    pods_trust(&cluster, 1);
    forget_old_clients(&cluster, &storm, &aggregated, old.path());
    let again = storm.made_again();
    let (done, failed) = storm.end();
    println!("{done} requests on connections of their own, {} failed, {again} again", failed.len());
    // Of the 13 times that a member of etcd is restarted it led in some, and each of three clients has one write under way.
    assert!(again <= 13, "{again} of {done} requests were made once more");
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
