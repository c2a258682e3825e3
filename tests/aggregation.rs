//! An aggregated API server behind the front proxy: who asks the apiserver is known to it, by certkit's
//! front-proxy client, whose place nobody else can take.

mod support;

use std::{fs, process::Command};

use support::{
    aggregated::{self, authority, signed},
    certkit, kubernetes,
    machine::Machine,
    need,
    plane::Plane,
    run,
};

const FLUNDER: &str = "apiVersion: wardle.example.com/v1alpha1
kind: Flunder
metadata: {name: test, namespace: default}
";

/// A server's and the main apiserver's URLs that need a known user.
const LISTS: [&str; 2] = [
    "https://cp1:8443/apis/wardle.example.com/v1alpha1/namespaces/default/flunders",
    "https://cp1:6443/api/v1/namespaces",
];

/// kubectl's answer to a request that goes on to the aggregated server.
fn list(plane: &Plane<'_>, kubeconfig: &str) -> String {
    let get = &mut plane.kubectl(kubeconfig, &["get", "flunders.wardle.example.com", "-o", "name"]);
    let output = get.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    said.into_owned()
}

/// The last list request in the aggregated server's audit log: user and groups.
fn seen(machine: &Machine) -> (String, Vec<String>) {
    let log = fs::read_to_string(machine.log().join("wardle.log")).unwrap();
    let mut events =
        log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let last = events
        .rfind(|event| event["verb"] == "list" && event["objectRef"]["resource"] == "flunders")
        .unwrap();
    let groups = last["user"]["groups"].as_array().unwrap();
    let groups = groups.iter().map(|group| group.as_str().unwrap().to_owned()).collect();
    (last["user"]["username"].as_str().unwrap().to_owned(), groups)
}

/// The answer to somebody who shows this certificate and says to speak for an administrator.
fn speaking_for_admin(machine: &Machine, url: &str, pair: &(String, String)) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", "--write-out", "\n%{http_code}", url]);
    command.args(["--cert", &pair.0, "--key", &pair.1]);
    command.args(["--header", "X-Remote-User: boss", "--header", "X-Remote-Group: system:masters"]);
    let output = run(&mut machine.enter(&command));
    let said = String::from_utf8(output.stdout).unwrap();
    let (body, code) = said.rsplit_once('\n').unwrap();
    (code.to_owned(), body.to_owned())
}

#[test]
fn who_asks_is_known_behind_the_front_proxy_and_nobody_else_is_believed() {
    if need("openssl").is_none() || need("curl").is_none() {
        return;
    }
    let Some(program) = kubernetes::program("sample-apiserver") else { return };
    let Some(machine) = Machine::boot(&[("cp1", "10.0.0.11")]) else { return };
    let Some(mut plane) = Plane::of_certkit(&machine) else { return };
    let home = machine.kubernetes();
    let folder = machine.folder();

    let own = authority(folder, "wardle-ca");
    let names = "subjectAltName=DNS:api.wardle.svc";
    let serving = signed(folder, "wardle", (&own.0, &own.1), "/CN=api.wardle.svc", names);
    let policy = folder.join("audit.yaml");
    let rules = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
    fs::write(&policy, rules).unwrap();
    let mut server = Command::new(program);
    for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        server.arg(format!("--{flag}=/etc/kubernetes/super-admin.conf"));
    }
    server.args([
        "--secure-port=8443",
        "--etcd-servers=https://127.0.0.1:2379",
        "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
        "--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
        "--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key",
        "--audit-log-path=/var/log/wardle.log",
    ]);
    server.arg(format!("--audit-policy-file={}", policy.display()));
    server.arg(format!("--tls-cert-file={}", serving.0));
    server.arg(format!("--tls-private-key-file={}", serving.1));
    plane.spawn("sample-apiserver", &server);
    plane.apply(&aggregated::objects("cp1", &own.0));
    let available = |plane: &mut Plane<'_>| {
        let ready = [
            "wait",
            "--for=condition=Available",
            "--timeout=5s",
            "apiservice/v1alpha1.wardle.example.com",
        ];
        plane.until("the aggregated API is not available", |plane| {
            plane.kubectl("admin.conf", &ready).output().unwrap().status.success()
        });
    };
    available(&mut plane);
    plane.until("nothing is kept in the aggregated API", |plane| {
        let file = folder.join("flunder.yaml");
        fs::write(&file, FLUNDER).unwrap();
        let create = ["apply", "-f", file.to_str().unwrap()];
        plane.kubectl("admin.conf", &create).output().unwrap().status.success()
    });

    let front_proxy_works = |plane: &mut Plane<'_>| {
        // Connections that are there already were let in with the old certificate.
        plane.stop("sample-apiserver");
        plane.spawn("sample-apiserver", &server);
        plane.until("the aggregated API does not answer", |plane| {
            list(plane, "admin.conf").starts_with("flunder.wardle.example.com/test\n")
        });
        let (user, groups) = seen(&machine);
        assert_eq!(user, "kubernetes-admin");
        assert_eq!(groups, ["kubeadm:cluster-admins", "system:authenticated"]);
        // And who else may: nobody is taken for somebody else.
        let said = list(plane, "scheduler.conf");
        assert!(said.starts_with("flunder.wardle.example.com/test\n"), "{said}");
        assert_eq!(seen(&machine).0, "system:kube-scheduler");
        let real =
            ["crt", "key"].map(|end| format!("/etc/kubernetes/pki/front-proxy-client.{end}"));
        let [cert, key] = real;
        for url in LISTS {
            let (code, body) = speaking_for_admin(&machine, url, &(cert.clone(), key.clone()));
            assert_eq!(code, "200", "{url}: {body}");
        }
    };
    front_proxy_works(&mut plane);
    let pids = |plane: &Plane<'_>| {
        let mut pids = plane.pids();
        pids.remove("sample-apiserver");
        pids
    };
    let before = pids(&plane);
    for arguments in
        [&["rotate", "front-proxy-client", "--new-key"][..], &["rotate", "--all", "--new-key"]]
    {
        let old = support::cluster::fingerprint(&home.join("pki/front-proxy-client.crt"));
        let mut rotate = certkit();
        run(&mut machine.enter(rotate.args(arguments)));
        assert_ne!(support::cluster::fingerprint(&home.join("pki/front-proxy-client.crt")), old);
        front_proxy_works(&mut plane);
    }
    assert_eq!(pids(&plane), before);

    // Pretenders: of a CA of their own with the front proxy CA's name, of the front proxy CA with another
    // name, and of the cluster CA with the front proxy's name.
    let client = "extendedKeyUsage=clientAuth";
    let namesake = authority(folder, "front-proxy-ca");
    let front = (home.join("pki/front-proxy-ca.crt"), home.join("pki/front-proxy-ca.key"));
    let cluster = (home.join("pki/ca.crt"), home.join("pki/ca.key"));
    let sign = |name: &str, ca: &(std::path::PathBuf, std::path::PathBuf), subject: &str| {
        signed(folder, name, (&ca.0, &ca.1), subject, client)
    };
    let strangers = [
        sign("foreign", &namesake, "/CN=front-proxy-client"),
        sign("mallory", &front, "/CN=mallory"),
    ];
    let user = sign("user", &cluster, "/CN=front-proxy-client");
    for url in LISTS {
        for stranger in &strangers {
            let (code, body) = speaking_for_admin(&machine, url, stranger);
            assert_eq!(code, "401", "{url} {}: {body}", stranger.0);
        }
        // He is who his certificate says, and not whom he says to speak for.
        let (code, body) = speaking_for_admin(&machine, url, &user);
        assert!(
            code == "403" && body.contains("\\\"front-proxy-client\\\""),
            "{url}: {code} {body}"
        );
    }
}
