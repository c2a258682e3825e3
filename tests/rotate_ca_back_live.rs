//! CAs of a running control plane that go on and back, certkit killed again and again on the way, and half of the
//! components restarted when they turn: whoever asks is answered all the time.

mod support;

use std::{
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use support::{
    certkit,
    cluster::{Cluster, Component, Options},
    run, stdout,
    storm::Storm,
};

const ALL: [&str; 3] = ["ca", "etcd-ca", "front-proxy-ca"];

fn rotate_ca(cluster: &Cluster, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("rotate-ca").arg("--dir").arg(&cluster.dir).args(ALL).args(more);
    command
}

/// Goes to a stage; kills certkit at some moments first.
fn go(cluster: &Cluster, stage: &str, moments: &mut u64) {
    let mut killed = 0;
    for _ in 0..4 {
        // An xorshift is random enough for a moment.
        *moments ^= *moments << 13;
        *moments ^= *moments >> 7;
        *moments ^= *moments << 17;
        let mut command = rotate_ca(cluster, &["--to", stage]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(*moments % 400));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        child.wait().unwrap();
    }
    run(&mut rotate_ca(cluster, &["--to", stage]));
    println!("{stage}: killed {killed} times");
    let said = stdout(&mut rotate_ca(cluster, &["-o", "json"]));
    let document: Value = serde_json::from_str(&said).unwrap();
    for one in document["authorities"].as_array().unwrap() {
        assert_eq!(one["stage"], stage, "{said}");
    }
    run(certkit().args(["verify", "--dir"]).arg(&cluster.dir));
}

fn restart(cluster: &mut Cluster, storm: &Storm, components: &[Component]) {
    storm.leave_out(0);
    for component in components {
        cluster.restart(0, *component);
    }
    storm.take_in(0);
    storm.wait_for_more();
    cluster.revive();
}

#[test]
fn whoever_turns_back_amidst_a_stage_or_is_killed_breaks_nothing() {
    let Some(mut cluster) = Cluster::prepare(Options::default()) else { return };
    // An apiserver that ends waits so long for watches, by default a minute.
    cluster.add_flag(Component::ApiServer, "--request-timeout=5s".to_owned());
    cluster.start_all();
    cluster.apply_rbac();
    let mut moments = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("moments begin with {moments}");
    let storm = Storm::start(&cluster);
    // Whether all are restarted, or only half before it turns.
    for (stage, all) in [
        ("introduced", false),
        ("stable", true),
        ("introduced", true),
        ("switched", false),
        ("introduced", true),
        ("switched", true),
        ("stable", true),
    ] {
        go(&cluster, stage, &mut moments);
        let components = if all { &Component::ALL[..] } else { &Component::ALL[..2] };
        restart(&mut cluster, &storm, components);
    }
    let (done, failed) = storm.end();
    assert!(failed.is_empty(), "{} of {done} failed: {failed:#?}", failed.len());
    cluster.wait_for_leases();
    cluster.assert_served_is_on_disk();
    cluster.assert_running();
}
