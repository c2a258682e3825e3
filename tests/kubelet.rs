//! The apiserver and a real kubelet: each verifies the other with certkit's certificates, and nobody else is
//! let in.

mod support;

use std::{fs, path::Path, process::Command};

use support::{
    certkit,
    cluster::fingerprint,
    machine::Machine,
    need, openssl,
    plane::{Kubelet, Plane, flags},
    run,
};

/// What the pod has logged, in the runtime's form and as people see it.
const LOGGED: (&str, &str) =
    ("2026-01-01T00:00:00.000000000Z stdout F certkit was here\n", "certkit was here\n");

/// A pod that needs no network of its own and no token.
const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  nodeName: cp1
  hostNetwork: true
  automountServiceAccountToken: false
  tolerations: [{operator: Exists}]
  containers: [{name: probe, image: probe}]
";

/// What an operator asks of the apiserver that only the kubelet can answer.
const CONFIGURATION: &[&str] = &["get", "--raw", "/api/v1/nodes/cp1/proxy/configz"];
const LOGS: &[&str] = &["logs", "probe"];
const EXEC: &[&str] = &["exec", "probe", "--", "true"];

/// How the call ends, and all that is said.
fn call(plane: &Plane<'_>, arguments: &[&str]) -> (bool, String) {
    let output = plane.kubectl("admin.conf", arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

fn passes(plane: &mut Plane<'_>) {
    plane.until("kubectl logs does not pass", |plane| call(plane, LOGS) == (true, LOGGED.1.into()));
    let (ok, said) = call(plane, CONFIGURATION);
    assert!(ok && said.contains("\"tlsCertFile\":\"/etc/kubernetes/pki/kubelet.crt\""), "{said}");
    // Without a container there is nothing to run in; but it is the kubelet who says so.
    let (_, said) = call(plane, EXEC);
    assert!(!said.contains("x509"), "{said}");
}

/// Each call is refused because of the kubelet's certificate, once the kubelet shows it.
fn is_refused(plane: &mut Plane<'_>, why: &str) {
    for arguments in [CONFIGURATION, LOGS, EXEC] {
        let mut last = String::new();
        plane.until(&format!("{arguments:?} is not refused"), |plane| {
            let (ok, said) = call(plane, arguments);
            last = said;
            !ok && last.contains("x509: ")
        });
        assert!(last.contains(why), "{why}: {last}");
    }
}

/// A certificate for the kubelet's names that certkit's CA did not sign: of another CA, or signed by itself.
fn foreign(folder: &Path, of_a_ca: bool) -> (String, String) {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    let names = "subjectAltName=DNS:cp1,IP:10.0.0.11";
    let subject = ["-days", "30", "-subj", "/O=system:nodes/CN=system:node:cp1"];
    let (key, cert) = (at("kubelet.key"), at("kubelet.crt"));
    let mut arguments = new.to_vec();
    let (ca_key, ca) = (at("ca.key"), at("ca.crt"));
    if of_a_ca {
        let end = ["-subj", "/CN=kubernetes", "-keyout", &ca_key, "-out", &ca];
        openssl(&[&new[..], &end].concat());
        arguments.extend(["-CA", &ca, "-CAkey", &ca_key]);
    }
    arguments.extend(subject);
    arguments.extend(["-addext", names, "-addext", "extendedKeyUsage=serverAuth,clientAuth"]);
    arguments.extend(["-keyout", &key, "-out", &cert]);
    openssl(&arguments);
    (cert, key)
}

/// The kubelet's own answer to somebody who shows this, if anything.
fn status(machine: &Machine, credential: Option<(&str, &str)>) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    command.args(["--cacert", "/etc/kubernetes/pki/ca.crt", "https://10.0.0.11:10250/pods"]);
    if let Some((cert, key)) = credential {
        command.args(["--cert", cert, "--key", key]);
    }
    let output = machine.enter(&command).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn apiserver_and_kubelet_take_each_other_and_nobody_else() {
    if need("openssl").is_none() || need("curl").is_none() {
        return;
    }
    let Some(machine) = Machine::boot(&[("cp1", "10.0.0.11")]) else { return };
    let Some(mut plane) = Plane::of_certkit(&machine) else { return };
    fs::write(machine.log().join("containers.log"), LOGGED.0).unwrap();
    let mut arguments = flags(&machine, "kubelet", "10.0.0.11");
    arguments.push("--hostname-override=cp1".into());
    let mut kubelet = Kubelet::start(&machine, &arguments);
    plane.wait_for_node(&mut kubelet, "cp1");
    plane.apply(POD);
    passes(&mut plane);

    // The kubelet's side: the apiserver's client certificate, and no other.
    let pair = |name: &str| {
        (format!("/etc/kubernetes/pki/{name}.crt"), format!("/etc/kubernetes/pki/{name}.key"))
    };
    let answer = |cert: &str, key: &str| status(&machine, Some((cert, key)));
    let (cert, key) = pair("apiserver-kubelet-client");
    assert_eq!(answer(&cert, &key), "200");
    assert_eq!(status(&machine, None), "401");
    let (cert, key) = pair("front-proxy-client");
    assert_eq!(answer(&cert, &key), "401", "of another CA");
    let stranger = support::temp_dir();
    let (cert, key) = foreign(stranger.path(), true);
    assert_eq!(answer(&cert, &key), "401", "of a namesake of the CA");
    let (cert, key) = pair("scheduler");
    assert_ne!(answer(&cert, &key), "200", "a certificate for servers");

    // The apiserver's side. It asks on the connections that it has, so each change comes with a new kubelet.
    let home = machine.kubernetes().join("pki");
    let own = ["kubelet.crt", "kubelet.key"].map(|file| fs::read(home.join(file)).unwrap());
    for of_a_ca in [true, false] {
        let scratch = support::temp_dir();
        let (cert, key) = foreign(scratch.path(), of_a_ca);
        fs::copy(key, home.join("kubelet.key")).unwrap();
        fs::copy(cert, home.join("kubelet.crt")).unwrap();
        drop(kubelet);
        kubelet = Kubelet::start(&machine, &arguments);
        is_refused(&mut plane, "certificate signed by unknown authority");
        fs::write(home.join("kubelet.key"), &own[1]).unwrap();
        fs::write(home.join("kubelet.crt"), &own[0]).unwrap();
        drop(kubelet);
        kubelet = Kubelet::start(&machine, &arguments);
        passes(&mut plane);
    }

    // Renewed under both, with new keys: the kubelet shows the new certificate by itself, and the apiserver
    // its new one on the next connection.
    let pids = plane.pids();
    let mut rotate = certkit();
    rotate.args(["rotate", "--all", "--new-key"]);
    run(&mut machine.enter(&rotate));
    let disk = fingerprint(&home.join("kubelet.crt"));
    plane.until("the kubelet does not show its new certificate", |_| shown(&machine) == disk);
    drop(kubelet);
    let mut kubelet = Kubelet::start(&machine, &arguments);
    passes(&mut plane);
    let (cert, key) = pair("apiserver-kubelet-client");
    assert_eq!(answer(&cert, &key), "200");
    assert_eq!(plane.pids(), pids);
    kubelet.assert_running();
}

/// The fingerprint of what the kubelet shows.
fn shown(machine: &Machine) -> String {
    let script = "openssl s_client -connect 10.0.0.11:10250 </dev/null 2>/dev/null \
                  | openssl x509 -noout -fingerprint -sha256";
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let output = machine.enter(&command).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
