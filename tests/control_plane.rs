//! A real control plane, started from what certkit emits and nothing else.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    certkit,
    cluster::{Cluster, Component, Options, RENEW_DEADLINE, fingerprint},
    https::{Credentials, request},
    run, stdout,
    storm::Storm,
    temp_dir,
};

fn start(hosts: u8) -> Option<Cluster> {
    Cluster::start(Options { hosts, ..Options::default() })
}

fn rotate_all(cluster: &Cluster) {
    run(certkit().args(["rotate", "--all", "--backups", "2", "--dir"]).arg(&cluster.dir));
}

#[test]
fn one_host_starts_from_its_flags_and_shows_its_certificates() {
    starts(1);
}

#[test]
fn three_hosts_start_from_their_flags_and_show_their_certificates() {
    starts(3);
}

fn starts(hosts: u8) {
    let Some(mut cluster) = start(hosts) else { return };
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
            let said = stdout(&mut kubectl);
            assert!(said.contains("namespace/kube-system"), "{kubeconfig}: {said}");
        }
    }
    cluster.assert_running();
}

#[test]
fn one_host_is_rotated_under_a_request_storm() {
    is_rotated_under_a_storm(1);
}

#[test]
fn three_hosts_are_rotated_under_a_request_storm() {
    is_rotated_under_a_storm(3);
}

fn is_rotated_under_a_storm(hosts: u8) {
    const ROUNDS: usize = 5;
    let Some(mut cluster) = start(hosts) else { return };
    cluster.apply_rbac();
    let (pids, leases) = (cluster.pids(), leases(&cluster));
    let mut shown = BTreeSet::new();
    let storm = Storm::start(&cluster);
    for _ in 0..ROUNDS {
        rotate_all(&cluster);
        storm.wait_for_more();
        cluster.assert_served_is_on_disk();
        shown.insert(cluster.served(0, 6443));
    }
    let (done, failed) = storm.end();
    println!("{done} requests on connections of their own, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {done} failed: {failed:#?}", failed.len());
    assert_eq!(shown.len(), ROUNDS, "each rotation shows another certificate");
    assert_eq!(cluster.pids(), pids, "something was restarted");
    cluster.assert_running();
    assert_eq!(self::leases(&cluster), leases, "somebody else leads");
}

/// Who leads, and how often that has changed.
fn leases(cluster: &Cluster) -> BTreeMap<&'static str, String> {
    let of = |component: Component| {
        let lease = cluster.lease(component.name());
        (component.name(), format!("{} {}", lease["holderIdentity"], lease["leaseTransitions"]))
    };
    [Component::ControllerManager, Component::Scheduler].map(of).into()
}

/// Every leaf that the control plane starts with ends while it runs. Kubernetes' clients look at their files
/// every five minutes, and the apiserver judges the certificate of a kept connection anew at each request: so
/// this takes as long as it takes, most of it asleep.
#[test]
fn a_control_plane_outlives_every_certificate_it_started_with() {
    const LIFE: &str = "validity: {leaf: 390s}\n";
    let Some(mut cluster) = Cluster::start(Options { declared: LIFE, ..Options::default() }) else {
        return;
    };
    cluster.apply_rbac();
    let old = temp_dir();
    let file = cluster.dir.join("pki/scheduler-client.pem");
    let kept = old.path().join("scheduler-client.pem");
    fs::copy(&file, &kept).unwrap();
    let before = leases(&cluster);
    let pids = cluster.pids();
    let declared = cluster.dir.join("certkit.yaml");
    let text = fs::read_to_string(&declared).unwrap();
    assert!(text.contains("390s"), "{text}");
    fs::write(&declared, text.replace("390s", "1y")).unwrap();
    rotate_all(&cluster);
    cluster.assert_served_is_on_disk();

    cluster.let_others_run();
    let ended = || {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-checkend", "0", "-in"]).arg(&kept);
        !command.output().unwrap().status.success()
    };
    let end = Instant::now() + Duration::from_secs(420);
    while !ended() {
        assert!(Instant::now() < end, "the first certificates do not end");
        cluster.assert_running();
        std::thread::sleep(Duration::from_secs(1));
    }
    // The apiserver too says that it has ended.
    let credentials = Credentials::Files {
        cert: kept.clone(),
        key: kept.clone(),
        trusted: cluster.dir.join("pki/ca-bundle.crt"),
    };
    let to = SocketAddr::from((cluster.hosts[0].address, 6443));
    let list = "GET /apis/coordination.k8s.io/v1/leases?limit=1 HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n";
    let answer = request(&Arc::new(credentials.read().unwrap()), to, list);
    let said = answer.expect_err("an expired certificate").to_string();
    assert!(said.contains("401 Unauthorized"), "{said}");

    // Whoever cannot renew its lease gives up and ends.
    let renewals = renewals(&cluster);
    std::thread::sleep(RENEW_DEADLINE + Duration::from_secs(15));
    cluster.assert_running();
    for (name, time) in renewals {
        let now = cluster.lease(name)["renewTime"].clone();
        assert!(now.as_str().unwrap() > time.as_str(), "{name} renewed at {time}, now {now}");
    }
    assert_eq!(leases(&cluster), before, "somebody else leads");
    assert_eq!(cluster.pids(), pids);
    let storm = Storm::start(&cluster);
    storm.wait_for_more();
    let (_, failed) = storm.end();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// When the leases were renewed.
fn renewals(cluster: &Cluster) -> BTreeMap<&'static str, String> {
    let of = |component: Component| {
        let lease = cluster.lease(component.name());
        (component.name(), lease["renewTime"].as_str().expect("held").to_owned())
    };
    [Component::ControllerManager, Component::Scheduler].map(of).into()
}

#[test]
fn service_accounts_log_in_with_tokens_on_every_host() {
    let Some(cluster) = start(3) else { return };
    cluster.until("no service account", || {
        cluster.super_admin(&["get", "serviceaccounts", "-o", "name"]).contains("/default")
    });
    let issued = cluster.super_admin(&["create", "token", "default"]);
    // The controller-manager signs these, with a key that only files tell the apiserver of.
    let secret = cluster.folder().join("secret.yaml");
    fs::write(
        &secret,
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata:\n  \
         name: legacy\n  annotations: {kubernetes.io/service-account.name: default}\n",
    )
    .unwrap();
    run(cluster.kubectl("super-admin.conf").args(["apply", "-f"]).arg(&secret));
    let of_secret = || {
        let path = "go-template={{with .data}}{{with .token}}{{base64decode .}}{{end}}{{end}}";
        cluster.super_admin(&["get", "secret", "legacy", "-o", path])
    };
    cluster.until("the token Secret stays empty", || !of_secret().is_empty());

    // As a pod: what it trusts is a ConfigMap of the controller-manager's.
    let trusted = cluster.folder().join("kube-root-ca.crt");
    let path = "go-template={{index .data \"ca.crt\"}}";
    fs::write(&trusted, cluster.super_admin(&["get", "configmap", "kube-root-ca.crt", "-o", path]))
        .unwrap();
    for (what, token) in [("TokenRequest", issued.trim()), ("Secret", of_secret().trim())] {
        for (number, endpoint) in cluster.endpoints().iter().enumerate() {
            let mut kubectl = cluster.kubectl_alone();
            kubectl.args(["--server", endpoint, "--tls-server-name=kubernetes.default.svc"]);
            kubectl.arg("--certificate-authority").arg(&trusted).args(["--token", token]);
            let who = stdout(kubectl.args(["auth", "whoami", "-o", "json"]));
            let who: Value = serde_json::from_str(&who).unwrap();
            let name = &who["status"]["userInfo"]["username"];
            assert_eq!(name, "system:serviceaccount:default:default", "{what}");
            // What the token says of its key is what OpenSSL says of the file.
            let public = cluster.hosts[number].tree.join("pki/sa.pub");
            assert_eq!(key_of_token(token), key_id(&public), "{what}");
        }
    }
}

/// A token's `kid`.
fn key_of_token(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().expect("a kid").to_owned()
}

/// How Kubernetes names a key: the SHA-256 of its DER, in base64 for URLs.
fn key_id(public: &Path) -> String {
    let script = format!(
        "openssl pkey -pubin -in {} -outform DER | openssl dgst -sha256 -binary | openssl base64 -A",
        public.display()
    );
    let said = stdout(Command::new("sh").arg("-c").arg(script));
    said.trim().trim_end_matches('=').replace('+', "-").replace('/', "_")
}

#[test]
fn the_audit_log_names_certificates_that_certkit_recorded() {
    let Some(mut cluster) = Cluster::prepare(Options::default()) else { return };
    let (policy, audit) =
        (cluster.folder().join("policy.yaml"), cluster.folder().join("audit.log"));
    fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
         rules: [{level: Metadata}]\n",
    )
    .unwrap();
    for flag in [
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", audit.display()),
    ] {
        cluster.add_flag(Component::ApiServer, flag);
    }
    cluster.start_all();
    cluster.apply_rbac();

    let by_hand = [
        ("kubernetes-admin", "admin.conf", "admin.conf"),
        ("kubernetes-super-admin", "super-admin.conf", "super-admin.conf"),
        ("system:node:cp1", "kubelet.conf", "pki/kubelet-client.pem"),
    ];
    let ask = |cluster: &Cluster| {
        for (_, kubeconfig, _) in by_hand {
            // Whether it may is not the question.
            let mut kubectl = cluster.kubectl(kubeconfig);
            kubectl.args(["get", "node", "cp1"]).output().unwrap();
        }
    };
    ask(&cluster);
    let mut wanted = BTreeMap::new();
    for (user, _, file) in by_hand {
        wanted.insert(user, BTreeSet::from([on_disk(&cluster, file)]));
    }
    for (user, file) in [
        ("system:kube-controller-manager", "pki/controller-manager-client.pem"),
        ("system:kube-scheduler", "pki/scheduler-client.pem"),
    ] {
        wanted.insert(user, BTreeSet::from([on_disk(&cluster, file)]));
    }
    assert_eq!(certificates_by_user(&audit), wanted);

    // Renewed, the log names the new ones; the two components still have five minutes to change over.
    rotate_all(&cluster);
    ask(&cluster);
    for (user, _, file) in by_hand {
        assert!(wanted.get_mut(user).unwrap().insert(on_disk(&cluster, file)), "{user}");
    }
    let seen = certificates_by_user(&audit);
    for (user, _, _) in by_hand {
        assert_eq!(seen[user], wanted[user], "{user}");
    }

    // Nobody else came with a certificate, and certkit's own log says what each is.
    assert_eq!(seen.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    let recorded = fs::read_to_string(cluster.dir.join(".certkit/log.jsonl")).unwrap();
    for print in seen.values().flatten() {
        assert!(recorded.contains(&format!("\"fingerprint\":\"{print}\"")), "{print}: {recorded}");
    }
}

/// The certificates with which each user came, as the audit log has them.
fn certificates_by_user(audit: &Path) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut users: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for line in fs::read_to_string(audit).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let user = &event["user"];
        let credentials = &user["extra"]["authentication.kubernetes.io/credential-id"];
        for credential in credentials.as_array().into_iter().flatten() {
            if let Some(print) = credential.as_str().unwrap().strip_prefix("X509SHA256=") {
                let name = user["username"].as_str().unwrap().to_owned();
                users.entry(name.leak()).or_default().insert(print.to_owned());
            }
        }
    }
    users
}

/// A certificate's fingerprint in the audit log's words; of a kubeconfig, that of the one embedded.
fn on_disk(cluster: &Cluster, file: &str) -> String {
    let path = cluster.dir.join(file);
    let text = fs::read_to_string(&path).unwrap();
    let data = text.lines().find_map(|l| l.trim().strip_prefix("client-certificate-data: "));
    let printed = match data {
        Some(data) => {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            let pem = cluster.folder().join("client.pem");
            fs::write(&pem, STANDARD.decode(data.trim_matches('"')).unwrap()).unwrap();
            fingerprint(&pem)
        }
        None => fingerprint(&path),
    };
    printed.split('=').nth(1).unwrap().replace(':', "").to_lowercase()
}
