//! kubeadm's own directories, and what kubeadm said of them.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{check, check_at, fixture, json, kubeadm_copy, names, row, support};

/// kubeadm's output, of the ECDSA directory.
fn kubeadm_said() -> Value {
    serde_json::from_str(&fs::read_to_string(fixture("check-expiration.json")).unwrap()).unwrap()
}

fn check_dir(dir: &Path) -> Command {
    let mut command = check();
    command.arg("--dir").arg(dir);
    command
}

#[test]
fn names_dates_and_authorities_are_kubeadms() {
    let said = kubeadm_said();
    // When kubeadm ran: each of its rows has the time left.
    let first = &said["certificates"][0];
    let end: certkit::model::timestamp::Timestamp =
        first["expirationDate"].as_str().unwrap().parse().unwrap();
    let left = certkit::model::duration::Span(first["residualTime"].as_i64().unwrap());
    let then = end.minus(left).to_string();

    let (ours, code) = json(check_at(&then).arg("--dir").arg(fixture("ecdsa-p256")));
    assert_eq!(code, 0);
    assert_eq!(ours["kind"], said["kind"]);
    assert_eq!(ours["apiVersion"], said["apiVersion"]);
    for list in ["certificates", "certificateAuthorities"] {
        for theirs in said[list].as_array().unwrap() {
            let ours = row(&ours, theirs["name"].as_str().unwrap());
            for (field, value) in theirs.as_object().unwrap() {
                assert_eq!(&ours[field], value, "{field} of {}", theirs["name"]);
            }
        }
    }
    // What kubeadm leaves out.
    let (mut ours, mut theirs) = (names(&ours, "certificates"), names(&said, "certificates"));
    ours.sort();
    theirs.push("kubelet.conf".into());
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[test]
fn the_rsa_directory_has_the_same_names_and_openssls_dates() {
    let (report, code) = json(&mut check_dir(&fixture("rsa-2048")));
    assert_eq!(code, 0);
    let said = kubeadm_said();
    for theirs in said["certificates"].as_array().unwrap() {
        let ours = row(&report, theirs["name"].as_str().unwrap());
        assert_eq!(ours["caName"], theirs["caName"]);
    }
    let mut authorities = names(&report, "certificateAuthorities");
    authorities.sort();
    assert_eq!(authorities, ["ca", "etcd-ca", "front-proxy-ca"]);
    if support::need("openssl").is_none() {
        return;
    }
    for (name, file) in [
        ("apiserver", "apiserver"),
        ("etcd-peer", "etcd/peer"),
        ("front-proxy-ca", "front-proxy-ca"),
    ] {
        let path = fixture("rsa-2048").join(format!("pki/{file}.crt"));
        let path = path.to_str().unwrap();
        let date =
            support::openssl(&["x509", "-in", path, "-noout", "-enddate", "-dateopt", "iso_8601"]);
        let date = date.trim().trim_start_matches("notAfter=").replace(' ', "T");
        let row = row(&report, name);
        assert_eq!(row["expirationDate"], date, "{name}");
        let serial = support::openssl(&["x509", "-in", path, "-noout", "-serial"]);
        let serial = serial.trim().trim_start_matches("serial=").trim_start_matches('0');
        assert_eq!(row["serialNumber"], serial.to_lowercase(), "{name}");
        let print = support::openssl(&["x509", "-in", path, "-noout", "-sha256", "-fingerprint"]);
        let print = print.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
        assert_eq!(row["fingerprintSha256"], print, "{name}");
    }
}

#[test]
fn an_external_ca_is_recognised() {
    let dir = support::temp_dir();
    kubeadm_copy(dir.path());
    fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    let (report, code) = json(&mut check_dir(dir.path()));
    assert_eq!(code, 0);
    for (name, external) in [
        ("ca", true),
        ("apiserver", true),
        ("admin.conf", true),
        ("etcd-ca", false),
        ("etcd-server", false),
        ("front-proxy-client", false),
    ] {
        assert_eq!(row(&report, name)["externallyManaged"], external, "{name}");
    }
}

#[test]
fn what_a_control_plane_needs_is_missing_when_it_is_not_there() {
    for (file, name) in [
        ("pki/apiserver.crt", "apiserver"),
        ("pki/ca.crt", "ca"),
        ("pki/front-proxy-ca.crt", "front-proxy-ca"),
        ("pki/etcd/peer.crt", "etcd-peer"),
        ("pki/apiserver-etcd-client.crt", "apiserver-etcd-client"),
        ("admin.conf", "admin.conf"),
        ("scheduler.conf", "scheduler.conf"),
    ] {
        let dir = support::temp_dir();
        kubeadm_copy(dir.path());
        fs::remove_file(dir.path().join(file)).unwrap();
        let (report, code) = json(&mut check_dir(dir.path()));
        let row = row(&report, name);
        assert_eq!(code, 2, "{name}");
        assert_eq!(row["missing"], true, "{name}");
        assert_eq!(row["status"], "missing", "{name}");
        // As kubeadm prints one that is missing.
        assert_eq!(row["expirationDate"], Value::Null);
        assert_eq!(row["residualTime"], 0);
        let missing = report["summary"]["critical"].as_u64();
        // Without its CA's file a CA is still known from kubeconfigs, but its own file is missing.
        assert_eq!(missing, Some(1), "{name}");
    }
}

#[test]
fn optional_pieces_are_not_missed() {
    // No super-admin.conf on a second control plane; no kubelet.conf beside it; no etcd of its own.
    for gone in [
        &["super-admin.conf"][..],
        &["kubelet.conf"],
        &[
            "pki/etcd/server.crt",
            "pki/etcd/peer.crt",
            "pki/etcd/healthcheck-client.crt",
            "pki/etcd/ca.key",
        ],
        &["pki/etcd", "pki/apiserver-etcd-client.crt"],
        // Hand-made, without aggregated API servers.
        &["pki/front-proxy-ca.crt", "pki/front-proxy-client.crt"],
    ] {
        let dir = support::temp_dir();
        kubeadm_copy(dir.path());
        for path in gone.iter().map(|file| dir.path().join(file)) {
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        let (report, code) = json(&mut check_dir(dir.path()));
        assert_eq!(code, 0, "{gone:?}: {report:#}");
    }
}

#[test]
fn a_worker_has_only_its_kubelet() {
    let dir = support::temp_dir();
    fs::create_dir_all(dir.path().join("pki")).unwrap();
    for file in ["pki/ca.crt", "kubelet.conf"] {
        fs::copy(fixture("ecdsa-p256").join(file), dir.path().join(file)).unwrap();
    }
    let (report, code) = json(&mut check_dir(dir.path()));
    assert_eq!(code, 0);
    assert_eq!(names(&report, "certificates"), ["kubelet.conf"]);
    assert_eq!(names(&report, "certificateAuthorities"), ["ca"]);
    assert_eq!(row(&report, "ca")["externallyManaged"], true);
}
