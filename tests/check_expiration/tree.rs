//! Other directories: certkit's own, workspaces, the kubelet's, and whatever is wrong in them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use certkit::pki::issue::IssuingCa;

use crate::{ca, check, fixture, json, kubeadm_copy, leaf, names, row, rows, support};

/// The kubelet's directory as kubeadm and the kubelet leave it: a rotated client certificate behind a symlink,
/// and a serving certificate of its own making.
fn kubelet_dir(at: &Path, ca: &IssuingCa) {
    fs::create_dir_all(at).unwrap();
    let (client, key) = leaf(ca, "system:node:cp1", "2026-06-01T00:00:00Z", "2027-06-01T00:00:00Z");
    let file = "kubelet-client-2026-06-01-00-00-00.pem";
    let key = key.to_pem(certkit::pki::key::KeyFormat::Pkcs8);
    fs::write(at.join(file), format!("{}{}", client.to_pem(), *key)).unwrap();
    symlink(file, at.join("kubelet-client-current.pem")).unwrap();
    let own = crate::ca("cp1-ca@1780000000");
    let (server, _) = leaf(&own, "cp1@1780000000", "2026-06-01T00:00:00Z", "2027-05-01T00:00:00Z");
    let chain = format!("{}{}", server.to_pem(), own.certificate().to_pem());
    fs::write(at.join("kubelet.crt"), chain).unwrap();
}

#[test]
fn the_kubelets_own_certificates_are_rows() {
    let dir = support::temp_dir();
    kubeadm_copy(dir.path());
    let kubelet = dir.path().join("var/lib/kubelet/pki");
    let ca = ca("kubernetes");
    kubelet_dir(&kubelet, &ca);
    let (report, code) =
        json(check().arg("--dir").arg(dir.path()).arg("--kubelet-dir").arg(&kubelet));
    assert_eq!(code, 0);
    assert_eq!(row(&report, "kubelet-client-current.pem")["user"], "system:node:cp1");
    assert_eq!(row(&report, "kubelet.crt")["caName"], "cp1-ca@1780000000");
    assert_eq!(row(&report, "kubelet.crt#2")["name"], "kubelet.crt#2");

    // The environment says it as well.
    let mut command = check();
    command.arg("--dir").arg(dir.path()).env("CERTKIT_KUBELET_DIR", &kubelet);
    row(&json(&mut command).0, "kubelet.crt");

    // Without being told: beside /etc/kubernetes, wherever that machine's disk is mounted.
    let machine = support::temp_dir();
    let etc = machine.path().join("etc/kubernetes");
    kubeadm_copy(&etc);
    kubelet_dir(&machine.path().join("var/lib/kubelet/pki"), &ca);
    let (report, _) = json(check().arg("--dir").arg(&etc));
    row(&report, "kubelet.crt");
    // And not for a directory that is somewhere else.
    let (report, _) = json(check().arg("--dir").arg(dir.path()));
    assert!(!names(&report, "certificates").iter().any(|name| name == "kubelet.crt"));
}

#[test]
fn a_kubeconfig_that_names_the_kubelets_file_is_one_row_with_it() {
    let machine = support::temp_dir();
    let etc = machine.path().join("etc/kubernetes");
    kubeadm_copy(&etc);
    let kubelet = machine.path().join("var/lib/kubelet/pki");
    kubelet_dir(&kubelet, &ca("kubernetes"));
    let current = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: []\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         users: [{{name: u, user: {{client-certificate: {current}, client-key: {current}}}}}]\n"
    );
    fs::write(etc.join("kubelet.conf"), config).unwrap();
    let (report, _) = json(check().arg("--dir").arg(&etc));
    let kubelet_conf = row(&report, "kubelet.conf");
    assert_eq!(kubelet_conf["expirationDate"], "2027-06-01T00:00:00Z");
    assert_eq!(kubelet_conf["source"]["user"], "u");
    assert!(!names(&report, "certificates").iter().any(|n| n == "kubelet-client-current.pem"));

    // In a tree whose kubelet is elsewhere, this machine's own is not taken for it.
    let elsewhere = support::temp_dir();
    kubeadm_copy(elsewhere.path());
    fs::copy(etc.join("kubelet.conf"), elsewhere.path().join("kubelet.conf")).unwrap();
    let (report, code) = json(check().arg("--dir").arg(elsewhere.path()));
    assert_eq!(code, 3);
    let reason = row(&report, "kubelet.conf")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("--kubelet-dir"), "{reason}");
}

#[test]
fn every_user_and_every_cluster_of_a_kubeconfig_counts() {
    let dir = support::temp_dir();
    kubeadm_copy(dir.path());
    let other = ca("other");
    let (bob, _) = leaf(&other, "bob", "2026-01-01T00:00:00Z", "2027-01-03T00:00:00Z");
    fs::write(dir.path().join("bob.crt"), bob.to_pem()).unwrap();
    fs::write(dir.path().join("other.crt"), other.certificate().to_pem()).unwrap();
    let mut config = fs::read_to_string(dir.path().join("admin.conf")).unwrap();
    config = config.replacen(
        "clusters:\n",
        "clusters:\n- cluster: {certificate-authority: other.crt, server: 'https://o:6443'}\n  name: other\n",
        1,
    );
    config = config.replacen(
        "users:\n",
        "users:\n- name: bob\n  user: {client-certificate: bob.crt, client-key: bob.key}\n- name: tok\n  user: {token: x}\n",
        1,
    );
    fs::write(dir.path().join("admin.conf"), config).unwrap();
    let (report, code) = json(check().arg("--dir").arg(dir.path()));
    assert_eq!(code, 2);
    assert_eq!(row(&report, "admin.conf (user bob)")["status"], "critical");
    assert_eq!(row(&report, "admin.conf")["status"], "ok");
    assert_eq!(row(&report, "admin.conf (cluster other)")["subject"], "CN=other");
}

#[test]
fn each_certificate_of_a_bundle_counts_once() {
    let dir = support::temp_dir();
    kubeadm_copy(dir.path());
    let old = ca("kubernetes-old");
    let own = fs::read_to_string(dir.path().join("pki/ca.crt")).unwrap();
    let bundle = format!("{own}{}", old.certificate().to_pem());
    fs::write(dir.path().join("pki/ca-bundle.crt"), bundle).unwrap();
    let (report, _) = json(check().arg("--dir").arg(dir.path()));
    assert_eq!(
        names(&report, "certificateAuthorities"),
        ["ca", "ca-bundle#2", "front-proxy-ca", "etcd-ca"]
    );
    let also = row(&report, "ca")["alsoIn"].to_string();
    assert!(also.contains("ca-bundle.crt") && also.contains("admin.conf (cluster prod)"), "{also}");
    assert_eq!(row(&report, "ca-bundle#2")["externallyManaged"], true);
}

#[test]
fn what_cannot_be_read_is_unknown_and_says_why() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil, &str); 8] = [
        ("garbage", |p| fs::write(p, "garbage").unwrap(), "no PEM block"),
        ("empty", |p| fs::write(p, "").unwrap(), "is empty"),
        (
            "directory",
            |p| {
                fs::remove_file(p).unwrap();
                fs::create_dir(p).unwrap()
            },
            "is a directory",
        ),
        (
            "fifo",
            |p| {
                fs::remove_file(p).unwrap();
                fifo(p)
            },
            "FIFO",
        ),
        (
            "loop",
            |p| {
                fs::remove_file(p).unwrap();
                symlink(p.file_name().unwrap(), p).unwrap()
            },
            "symbolic link",
        ),
        (
            "dangling",
            |p| {
                fs::remove_file(p).unwrap();
                symlink("nowhere", p).unwrap()
            },
            "does not exist",
        ),
        ("2 GiB", |p| fs::File::create(p).unwrap().set_len(2 << 30).unwrap(), "larger than"),
        (
            "no end",
            |p| fs::write(p, "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap(),
            "no END marker",
        ),
    ];
    for (what, spoil, why) in spoils {
        for (file, name) in [
            ("pki/apiserver.crt", "apiserver"),
            ("pki/etcd/ca.crt", "etcd-ca"),
            ("scheduler.conf", "scheduler.conf"),
        ] {
            let dir = support::temp_dir();
            kubeadm_copy(dir.path());
            spoil(&dir.path().join(file));
            let (report, code) = json(check().arg("--dir").arg(dir.path()));
            let row = row(&report, name);
            assert_eq!((code, row["status"].as_str()), (3, Some("unknown")), "{what} {name}");
            let reason = row["reason"].as_str().unwrap();
            assert!(file.ends_with(".conf") || reason.contains(why), "{what} {name}: {reason}");
            // Everything else is still judged.
            assert_eq!(report["summary"]["ok"], 14, "{what}");
        }
    }
}

fn fifo(path: &Path) {
    support::run(std::process::Command::new("mkfifo").arg(path));
}

#[test]
fn without_permission_it_is_unknown() {
    let dir = support::temp_dir();
    kubeadm_copy(dir.path());
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(dir.path());
    fs::set_permissions(dir.path().join("pki/apiserver.crt"), fs::Permissions::from_mode(0o000))
        .unwrap();
    let mut command = check();
    command.arg("--dir").arg(dir.path());
    let report = match as_nobody(&mut command, dir.path()) {
        Some(mut command) => json(&mut command),
        None => json(&mut command),
    };
    let (report, code) = report;
    assert_eq!(code, 3);
    let reason = row(&report, "apiserver")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("Permission denied"), "{reason}");
}

/// root may read everything, so the command is run as somebody else, from where anybody may run it.
fn as_nobody(command: &mut std::process::Command, at: &Path) -> Option<std::process::Command> {
    use std::os::unix::process::CommandExt as _;
    let is_root = fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m));
    if is_root.unwrap() != 0 {
        return None;
    }
    let program = at.join("certkit");
    support::copy_certkit(&program);
    let mut nobody = std::process::Command::new(program);
    nobody.args(command.get_args()).uid(65534).gid(65534);
    Some(nobody)
}

#[test]
fn certkits_own_directory_needs_no_explanation() {
    let dir = support::temp_dir();
    support::run(
        support::certkit()
            .args(["init", "--name", "c", "--host", "cp1=10.0.0.11", "--addon"])
            .arg(certkit::model::catalogue::addons().join(","))
            .args(["--single-root", "--dir"])
            .arg(dir.path()),
    );
    let mut command = support::certkit();
    command.args(["check-expiration", "--dir"]).arg(dir.path());
    let (report, code) = json(&mut command);
    assert_eq!(code, 0, "{report:#}");
    let found =
        names(&report, "certificates").len() + names(&report, "certificateAuthorities").len();
    assert_eq!(found, certkit::model::catalogue::CERTIFICATES.len());
    for row in rows(&report) {
        assert_eq!(row["externallyManaged"], false, "{row}");
    }
    // The root's key is taken offline: the CAs below it are then somebody else's to renew, their leaves not.
    fs::remove_file(dir.path().join("pki/root-ca.key")).unwrap();
    let mut command = support::certkit();
    command.args(["check-expiration", "--dir"]).arg(dir.path());
    let (report, _) = json(&mut command);
    assert_eq!(row(&report, "root-ca")["externallyManaged"], true);
    assert_eq!(row(&report, "apiserver")["externallyManaged"], false);
}

#[test]
fn every_host_of_a_workspace_is_walked() {
    let dir = support::temp_dir();
    let file = dir.path().join("cluster.yaml");
    fs::write(
        &file,
        "apiVersion: certkit/v1\nkind: Cluster\nname: c\nendpoint: api:6443\n\
         controlPlane:\n- {name: cp1, addresses: [10.0.0.11]}\n- {name: cp2, addresses: [10.0.0.12]}\n\
         nodes:\n- {name: w1, addresses: [10.0.1.1]}\n",
    )
    .unwrap();
    let pki = dir.path().join("pki");
    support::run(support::certkit().args(["init", "--config"]).arg(&file).arg("--dir").arg(&pki));
    let check = || {
        let mut command = support::certkit();
        command.args(["check-expiration", "--dir"]).arg(&pki);
        command
    };
    let (report, code) = json(&mut check());
    assert_eq!(code, 0, "{report:#}");
    let of = |report: &serde_json::Value, host: &str| {
        let rows = rows(report).into_iter().filter(|r| r["host"] == host);
        rows.map(|r| r["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(&report, "w1"), ["kubelet", "kubelet.conf"]);
    assert_eq!(of(&report, "cp2"), of(&report, "cp1"));
    assert!(of(&report, "cp1").contains(&"etcd-peer".to_owned()));
    // The CAs are the workspace's, once.
    assert_eq!(names(&report, "certificateAuthorities"), ["ca", "front-proxy-ca", "etcd-ca"]);

    // One host alone.
    let (report, _) = json(check().args(["--host", "w1"]));
    assert!(of(&report, "cp1").is_empty() && !of(&report, "w1").is_empty());
    support::run_to_exit(check().args(["--host", "w9"]), 3);

    // What is declared and not there is missing, by host.
    fs::remove_file(pki.join("hosts/w1/pki/kubelet.crt")).unwrap();
    let (report, code) = json(&mut check());
    let missing: Vec<_> = rows(&report).into_iter().filter(|r| r["missing"] == true).collect();
    assert_eq!((code, missing.len()), (2, 1));
    assert_eq!((&missing[0]["name"], &missing[0]["host"]), (&"kubelet".into(), &"w1".into()));

    // Without its declaration it is still a workspace; a broken one is said.
    fs::write(pki.join("certkit.yaml"), "kind: Nonsense\n").unwrap();
    let (report, code) = json(&mut check());
    assert_eq!(code, 3);
    assert_eq!(row(&report, "certkit.yaml")["status"], "unknown");
    assert!(of(&report, "cp1").contains(&"etcd-peer".to_owned()));
}

#[test]
fn a_copy_that_differs_on_a_host_is_a_row_of_its_own() {
    let dir = support::temp_dir();
    for host in ["a", "b"] {
        let at = dir.path().join("hosts").join(host);
        fs::create_dir_all(&at).unwrap();
        kubeadm_copy(&at);
    }
    let other = ca("kubernetes-g2");
    fs::write(dir.path().join("hosts/b/pki/ca.crt"), other.certificate().to_pem()).unwrap();
    let (report, code) = json(check().arg("--dir").arg(dir.path()));
    assert_eq!(code, 0, "{report:#}");
    let of_b: Vec<_> = rows(&report)
        .into_iter()
        .filter(|r| r["host"] == "b" && r["name"] == "ca")
        .map(|r| r["subject"].clone())
        .collect();
    assert_eq!(of_b, ["CN=kubernetes-g2"]);
    assert!(fixture("ecdsa-p256").exists());
}

#[test]
fn the_files_of_an_etcd_that_is_somebody_elses_are_rows() {
    let dir = support::temp_dir();
    let (pki, etcd) = (dir.path().join("pki"), dir.path().join("etcd"));
    fs::create_dir(&etcd).unwrap();
    let ca = ca("their-etcd-ca");
    let (client, key) = leaf(&ca, "apiserver", "2026-06-01T00:00:00Z", "2027-01-03T00:00:00Z");
    fs::write(etcd.join("ca.crt"), ca.certificate().to_pem()).unwrap();
    fs::write(etcd.join("client.crt"), client.to_pem()).unwrap();
    crate::write_key(&etcd.join("client.key"), &key);
    let file = dir.path().join("cluster.yaml");
    let at = etcd.display();
    fs::write(
        &file,
        format!(
            "apiVersion: certkit/v1\nkind: Cluster\nname: c\nendpoint: api:6443\n\
             controlPlane:\n- {{name: cp1, addresses: [10.0.0.11]}}\n\
             externalEtcd:\n  endpoints: ['https://10.0.0.9:2379']\n  caFile: {at}/ca.crt\n  \
             certFile: {at}/client.crt\n  keyFile: {at}/client.key\n"
        ),
    )
    .unwrap();
    support::run(support::certkit().args(["init", "--config"]).arg(&file).arg("--dir").arg(&pki));
    let mut command = support::certkit();
    command.args(["check-expiration", "--at", crate::THEN, "--dir"]).arg(&pki);
    let (report, code) = json(&mut command);
    // Those made just now are not valid yet at that time, perhaps; these two are.
    assert_eq!(code, 2);
    let client = row(&report, "apiserver-etcd-client");
    assert_eq!((&client["status"], &client["caName"]), (&"critical".into(), &"etcd-ca".into()));
    assert_eq!(client["externallyManaged"], true);
    fs::remove_file(etcd.join("client.crt")).unwrap();
    let mut command = support::certkit();
    command.args(["check-expiration", "--dir"]).arg(&pki);
    assert_eq!(row(&json(&mut command).0, "apiserver-etcd-client")["missing"], true);
}
