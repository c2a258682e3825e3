//! The root above the CAs of a running control plane goes on and back, certkit killed again and again on the way:
//! whoever asks is answered all the time, those who trust nothing but the root included. (`rotate_ca_live` does it with
//! the CAs themselves.)

mod support;

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, sync::Arc};

use support::{
    certkit,
    cluster::{Cluster, Component, Options},
    generations::Moments,
    https::{handshake, without_certificate},
    pod::Pod,
    run,
    storm::{Ask, Storm},
    temp_dir,
};

/// A client that was given the roots, and reads them anew for each handshake.
fn trusting(roots: PathBuf) -> Ask {
    Arc::new(move |to: SocketAddr| {
        let roots = fs::read(&roots).map_err(|error| error.to_string())?;
        let config = without_certificate(&roots).map_err(|error| error.to_string())?;
        handshake(&Arc::new(config), to).map_err(|error| format!("by the root: {error}"))
    })
}

#[test]
fn a_root_goes_on_and_back_above_a_running_control_plane() {
    let declared = "singleRoot: true\n";
    let Some(mut cluster) = Cluster::prepare(Options { declared, ..Options::default() }) else {
        return;
    };
    // An apiserver that ends waits so long for watches, by default a minute.
    cluster.add_flag(Component::ApiServer, "--request-timeout=5s".to_owned());
    cluster.start_all();
    cluster.apply_rbac();
    let old = temp_dir();
    let old_root = old.path().join("root-ca.crt");
    fs::copy(cluster.dir.join("pki/root-ca.crt"), &old_root).unwrap();
    let leaf = cluster.on_disk(0, "pki/apiserver.crt");
    let pod = Pod::start(&cluster);
    let to: SocketAddr = (cluster.hosts[0].address, 6443).into();
    let by_old = trusting(old_root);
    let by_new = trusting(cluster.dir.join("pki/root-ca.crt"));
    let storm =
        Storm::asking(&cluster, &[pod.ask(), trusting(cluster.dir.join("pki/root-ca-bundle.crt"))]);
    let (dir, mut moments) = (cluster.dir.clone(), Moments::new());
    let roots = |cluster: &Cluster, count: usize| {
        // The CA itself, and the roots.
        cluster.until("pods do not get what they are to trust", || {
            pod.trusted().matches("BEGIN CERTIFICATE").count() == 1 + count
        });
    };
    for (stage, trusted) in [
        ("introduced", 2),
        ("stable", 1),
        ("introduced", 2),
        ("switched", 2),
        ("introduced", 2),
        ("switched", 2),
        ("stable", 1),
    ] {
        moments.go(&dir, &["root-ca"], stage, &[]);
        storm.wait_for_more();
        // The controller-manager alone has anything to read again.
        cluster.restart(0, Component::ControllerManager);
        // Its successor need not wait for the lease to end.
        let lease = "delete lease kube-controller-manager --namespace kube-system";
        cluster.super_admin(&lease.split(' ').collect::<Vec<_>>());
        roots(&cluster, trusted);
        storm.wait_for_more();
    }
    let (done, failed) = storm.end();
    println!("{done} requests, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {done} failed: {failed:#?}", failed.len());
    by_new(to).unwrap();
    assert!(by_old(to).is_err(), "whoever trusts the old root alone is served");
    assert_eq!(cluster.on_disk(0, "pki/apiserver.crt"), leaf, "issued anew");
    cluster.assert_served_is_on_disk();
    cluster.assert_running();
    let mut check: Command = certkit();
    run(check.args(["verify", "--dir"]).arg(&cluster.dir));
}
