//! A control plane with the command lines of the static pods that the real kubeadm wrote, on the PKI that
//! certkit took over and renewed; kubeadm then works with that cluster as it always does, and hosts join.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use support::{
    kubeadm::{Etcd, Kubeadm, NAMES, PHASES},
    machine::Machine,
    need, openssl,
    plane::{COMPONENTS, Kubelet, Plane, manifest},
    run, run_to_exit, stdout,
};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a joining host is told.
struct Invitation {
    token: String,
    hash: String,
    key: String,
}

impl Invitation {
    /// `kubeadm`'s words for it, on this host.
    fn configuration(&self, name: &str, address: Option<&str>) -> String {
        let Self { token, hash, key } = self;
        let plane = address.map_or(String::new(), |address| {
            format!(
                "controlPlane:\n  localAPIEndpoint: {{advertiseAddress: {address}}}\n  \
                 certificateKey: {key}\n"
            )
        });
        format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n\
             nodeRegistration: {{name: {name}, criSocket: \"unix:///var/lib/cri.sock\"}}\n\
             discovery:\n  bootstrapToken:\n    apiServerEndpoint: api.prod.example.com:6443\n    \
             token: {token}\n    caCertHashes: [\"{hash}\"]\n  timeout: 30s\n{plane}"
        )
    }
}

/// `kubeadm join phase PHASE` on a machine.
fn join(machine: &Machine, phase: &[&str], configuration: &str) -> Command {
    fs::write(machine.kubernetes().join("../join.yaml"), configuration).unwrap();
    let mut command = Command::new(support::kubernetes::program("kubeadm").unwrap());
    command.args(["join", "phase"]).args(phase).args(["--config", "/etc/join.yaml"]);
    machine.enter(&command)
}

/// Runs certkit on a machine's `/etc/kubernetes`.
fn certkit(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = support::certkit();
    command.args(arguments);
    machine.enter(&command)
}

/// openssl's word that this certificate leads to that CA.
fn verify(ca: &Path, leaf: &Path) {
    openssl(&["verify", "-CAfile", ca.to_str().unwrap(), leaf.to_str().unwrap()]);
}

/// The fingerprint of what listens there.
fn served(machine: &Machine, address: &str) -> String {
    let script = format!(
        "openssl s_client -connect {address} </dev/null 2>/dev/null \
         | openssl x509 -noout -fingerprint -sha256"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    stdout(&mut machine.enter(&command)).trim().to_owned()
}

#[test]
fn kubeadms_control_plane_runs_on_what_certkit_renewed_and_hosts_join_it() {
    if need("openssl").is_none() {
        return;
    }
    let Some(made) = Kubeadm::boot("ECDSA-P256", Etcd::Stacked) else { return };
    let Some(mut plane) = Plane::new(&made.machine) else { return };
    let tree = made.machine.kubernetes();
    made.init(PHASES);
    run(&mut made.certkit(&["init", "--adopt"]));
    run(&mut made.certkit(&["rotate", "--all", "--new-key"]));
    for component in COMPONENTS {
        plane.start(component, &manifest(&made.machine, component));
    }
    plane.wait_ready();

    // What else `kubeadm init` does: the kubelet of the host, which brings its node and the static pods into
    // the API, and what is kept in the cluster.
    run(&mut made.kubeadm(&["init", "phase", "kubelet-start"]));
    let mut kubelet = Kubelet::start(&made.machine, &kubelet_command(&made.machine));
    plane.wait_for_node(&mut kubelet, "cp1");
    for phase in [
        &["upload-config", "all"][..],
        &["bootstrap-token", "--skip-token-print"],
        &["addon", "kube-proxy"],
    ] {
        run(&mut made.kubeadm(&[&["init", "phase"], phase].concat()));
    }
    let admin = |plane: &Plane<'_>| run(&mut plane.kubectl("admin.conf", &["get", "namespaces"]));
    admin(&plane);

    // Renewed under it: what it serves is what is on disk, and new and old kubeconfigs get in.
    let old = fs::read_to_string(tree.join("admin.conf")).unwrap();
    fs::write(tree.join("old.conf"), old).unwrap();
    run(&mut made.certkit(&["rotate", "--all"]));
    let pids = plane.pids();
    for (address, file) in [
        ("10.0.0.11:6443", "pki/apiserver.crt"),
        ("10.0.0.11:2379", "pki/etcd/server.crt"),
        ("10.0.0.11:2380", "pki/etcd/peer.crt"),
    ] {
        let disk = support::cluster::fingerprint(&tree.join(file));
        plane.until(&format!("{address} does not show {file}"), |_| {
            served(&made.machine, address) == disk
        });
    }
    admin(&plane);
    run(&mut plane.kubectl("old.conf", &["get", "namespaces"]));
    assert_eq!(plane.pids(), pids);

    // kubeadm finds its configuration in the cluster now, and renews by it, certkit's word on it unasked.
    let said = text(&run(&mut made.kubeadm_alone(&["certs", "renew", "all"])));
    assert!(!said.contains("Falling back to default"), "{said}");
    let checked = text(&run_to_exit(&mut made.certkit(&["verify"]), 1));
    assert!(checked.contains(" 0 critical, 1 warning"), "{checked}");
    assert_eq!(stdout(&mut made.certkit(&["rotate"])), "");
    admin(&plane);
    // With the credentials that certkit makes of that, all components come up anew.
    run(&mut made.certkit(&["rotate", "--all", "--new-key"]));
    plane.restart(|component| manifest(&made.machine, component));
    admin(&plane);

    let invitation = invite(&made);
    joins_the_control_plane(&made, &plane, &invitation);
    // Both hosts' kubelets would listen on this one network.
    drop(kubelet);
    joins_as_node(&made, &mut plane, &invitation);
}

/// A static pod's command line. An apiserver that ends waits so long for watches, by default a minute.
fn started(machine: &Machine, component: &str) -> Vec<String> {
    let mut words = manifest(machine, component);
    if component == "kube-apiserver" {
        words.push("--request-timeout=10s".into());
    }
    words
}

#[test]
fn kubeadms_control_plane_gets_new_cas_once_its_manifests_name_bundles() {
    let Some(made) = Kubeadm::boot("ECDSA-P256", Etcd::Stacked) else { return };
    let Some(mut plane) = Plane::new(&made.machine) else { return };
    let tree = made.machine.kubernetes();
    made.init(PHASES);
    run(&mut made.certkit(&["init", "--adopt"]));
    for component in COMPONENTS {
        plane.start(component, &started(&made.machine, component));
    }
    plane.wait_ready();
    let written = ["create", "configmap", "kept", "--from-literal=word=before"];
    run(&mut plane.kubectl("super-admin.conf", &written));
    fs::copy(tree.join("super-admin.conf"), tree.join("old.conf")).unwrap();
    let old = fs::read_to_string(tree.join("pki/ca.crt")).unwrap();
    // The split, then the three stages; at each what the kubelet would do with changed manifests.
    let way: [&[&str]; 4] =
        [&["--next", "--restart", "static-pods"], &["--next"], &["--next"], &["--next"]];
    for (stage, next) in ["stable", "introduced", "switched", "stable"].into_iter().zip(way) {
        let names = ["rotate-ca", "ca", "etcd-ca", "front-proxy-ca"];
        run(&mut made.certkit(&[&names[..], next].concat()));
        let said = text(&run(&mut made.certkit(&[&names[..], &["-o", "json"]].concat())));
        let stage = format!("\"stage\": \"{stage}\"");
        assert_eq!(said.matches(&stage).count(), 3, "{said}");
        plane.restart(|component| started(&made.machine, component));
        let kept = ["get", "configmap", "kept", "-o", "jsonpath={.data.word}"];
        assert_eq!(plane.super_admin(&kept), "before");
    }
    assert!(manifest(&made.machine, "etcd").iter().any(|word| word.contains("ca-bundle.crt")));
    let refused = plane.kubectl("old.conf", &["get", "namespaces"]).output().unwrap();
    assert!(!refused.status.success(), "{}", text(&refused));
    let root = ["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"];
    let new = fs::read_to_string(tree.join("pki/ca.crt")).unwrap();
    plane.until("pods are handed the old CA", |plane| {
        let got = plane.kubectl("super-admin.conf", &root).output().unwrap();
        let got = String::from_utf8_lossy(&got.stdout).into_owned();
        got.contains(new.trim()) && !got.contains(old.trim())
    });
}

/// A kubelet's command line as kubeadm's systemd unit has it (`10-kubeadm.conf`).
fn kubelet_command(machine: &Machine) -> Vec<String> {
    let file = machine.lib().join("kubelet/kubeadm-flags.env");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let more =
        text.trim().strip_prefix("KUBELET_KUBEADM_ARGS=\"").and_then(|t| t.strip_suffix('"'));
    let usual = [
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
        "--kubeconfig=/etc/kubernetes/kubelet.conf",
        "--config=/var/lib/kubelet/config.yaml",
    ];
    let all = usual.into_iter().chain(more.unwrap_or_default().split_whitespace());
    all.map(str::to_owned).collect()
}

/// What a cluster's administrator passes on to hosts that are to join.
fn invite(made: &Kubeadm) -> Invitation {
    let uploaded = stdout(&mut made.kubeadm(&["init", "phase", "upload-certs", "--upload-certs"]));
    let command = stdout(&mut made.kubeadm(&["token", "create", "--print-join-command"]));
    let after = |word: &str| {
        let mut words = command.split_whitespace().skip_while(|w| *w != word).skip(1);
        words.next().unwrap_or_else(|| panic!("{word}: {command}")).to_owned()
    };
    Invitation {
        token: after("--token"),
        hash: after("--discovery-token-ca-cert-hash"),
        key: uploaded.lines().last().unwrap().trim().to_owned(),
    }
}

/// A second host of the control plane gets its PKI by `kubeadm join`; certkit takes it over there.
fn joins_the_control_plane(made: &Kubeadm, plane: &Plane<'_>, invitation: &Invitation) {
    let second = made.machine.beside(NAMES);
    // Pinned to another CA, nothing is believed.
    let pin = |hash: &str| Invitation {
        token: invitation.token.clone(),
        hash: hash.to_owned(),
        key: invitation.key.clone(),
    };
    let phase = ["control-plane-prepare", "all"];
    let wrong = pin(&format!("sha256:{}", "0".repeat(64))).configuration("cp2", Some("10.0.0.12"));
    let refused = join(&second, &phase, &wrong).output().unwrap();
    assert!(
        !refused.status.success() && !second.kubernetes().join("pki/ca.crt").exists(),
        "{}",
        text(&refused)
    );
    run(&mut join(&second, &phase, &invitation.configuration("cp2", Some("10.0.0.12"))));

    let (here, there) = (made.machine.kubernetes(), second.kubernetes());
    for shared in [
        "pki/ca.crt",
        "pki/ca.key",
        "pki/etcd/ca.crt",
        "pki/front-proxy-ca.key",
        "pki/sa.key",
        "pki/sa.pub",
    ] {
        assert!(
            fs::read(here.join(shared)).unwrap() == fs::read(there.join(shared)).unwrap(),
            "{shared}"
        );
    }
    run(&mut certkit(&second, &["init", "--adopt"]));
    run(&mut certkit(&second, &["rotate", "--all", "--new-key"]));
    let said = text(&run_to_exit(&mut certkit(&second, &["verify"]), 1));
    assert!(said.contains(" 0 critical, 1 warning"), "{said}");
    for (ca, leaf) in [
        ("pki/ca.crt", "pki/apiserver.crt"),
        ("pki/etcd/ca.crt", "pki/etcd/peer.crt"),
        ("pki/etcd/ca.crt", "pki/etcd/server.crt"),
    ] {
        verify(&here.join(ca), &there.join(leaf));
    }
    // The first host's apiserver takes the second's administrator for one.
    fs::copy(there.join("admin.conf"), here.join("second.conf")).unwrap();
    run(&mut plane.kubectl("second.conf", &["get", "namespaces"]));
}

/// A node joins by TLS bootstrap: its certificates are signed in the cluster, with the CA that certkit took
/// over.
fn joins_as_node(made: &Kubeadm, plane: &mut Plane<'_>, invitation: &Invitation) {
    let node = made.machine.beside(NAMES);
    run(&mut join(&node, &["kubelet-start"], &invitation.configuration("node1", None)));
    // As one has it who wants kubelets with certificates of the CA.
    let file = node.lib().join("kubelet/config.yaml");
    let configuration = fs::read_to_string(&file).unwrap();
    fs::write(&file, configuration + "serverTLSBootstrap: true\n").unwrap();
    let mut kubelet = Kubelet::start(&node, &kubelet_command(&node));
    plane.wait_for_node(&mut kubelet, "node1");

    let ca = made.machine.kubernetes().join("pki/ca.crt");
    let client = node.lib().join("kubelet/pki/kubelet-client-current.pem");
    let client = fs::canonicalize(
        node.lib().join("kubelet/pki").join(fs::read_link(client).unwrap().file_name().unwrap()),
    )
    .unwrap();
    verify(&ca, &client);
    let requests = [
        "get",
        "csr",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.spec.signerName} {.spec.username}{'\\n'}{end}",
    ];
    let mut request = String::new();
    plane.until("the kubelet asks for no serving certificate", |plane| {
        let all = plane.super_admin(&requests);
        let serving = "kubernetes.io/kubelet-serving system:node:node1";
        let line = all.lines().find(|line| line.ends_with(serving));
        request = line.and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
        !request.is_empty()
    });
    let verified = |node: &Machine| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", "10.0.0.13:10250", "-verify_ip", "10.0.0.13"]);
        command.args(["-verify_return_error", "-CAfile", "/etc/kubernetes/pki/ca.crt"]);
        let output = node.enter(&command).stdin(std::process::Stdio::null()).output().unwrap();
        // Without any certificate there is nothing wrong with it: the handshake has to end well, too.
        output.status.success() && text(&output).contains("Verify return code: 0 (ok)")
    };
    assert!(!verified(&node), "served before it was approved");
    plane.super_admin(&["certificate", "approve", &request]);
    plane.until("the kubelet serves no certificate of the CA", |_| verified(&node));
    kubelet.assert_running();

    // What certkit sees on such a node.
    let output = run(&mut certkit(&node, &["check-expiration", "-o", "json"]));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = report["certificates"].as_array().unwrap();
    for own in ["kubelet-client-current.pem", "kubelet-server-current.pem"] {
        let is_it = |row: &&serde_json::Value| row.to_string().contains(own);
        let row = all.iter().find(is_it).unwrap_or_else(|| panic!("{own}: {report:#}"));
        assert_eq!((&row["caName"], &row["status"]), (&"ca".into(), &"ok".into()), "{report:#}");
    }
    run(&mut certkit(&node, &["verify"]));
}
