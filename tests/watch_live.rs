//! `certkit controller --watch` in a real cluster: what carries certificates there is told, whoever carries it, in metrics that
//! the alert rules are for, and as Events; and nobody's flood of objects keeps it from that.

mod support;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{
    certkit,
    machine::Machine,
    need,
    plane::{Kubelet, Plane, flags},
    process::Process,
    replica::{peak, with_cluster, write_kubeconfig},
    run, stdout,
};

/// A replica of the controller.
fn start(machine: &Machine, name: &str, port: u16, dir: &Path, more: &[&str]) -> Process {
    let mut command = with_cluster();
    command.args(["controller", "--identity", name, "--dir"]).arg(dir);
    command.arg("--kubeconfig").arg(machine.folder().join("controller.conf"));
    command.arg("--listen").arg(format!("10.0.0.11:{port}"));
    command.args(["--tls-cert-file", "/etc/kubernetes/pki/controller-manager.crt"]);
    command.args(["--tls-private-key-file", "/etc/kubernetes/pki/controller-manager.key"]);
    command.args(more);
    Process::start(&mut machine.enter(&command), &machine.log_of(name))
}

fn scrape(machine: &Machine, port: u16) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--cacert", "/etc/kubernetes/pki/ca-bundle.crt"]);
    curl.arg(format!("https://10.0.0.11:{port}/metrics"));
    String::from_utf8(machine.enter(&curl).output().unwrap().stdout).unwrap()
}

/// A certificate that began so many days ago and ends in so many.
fn certificate(folder: &Path, name: &str, days: std::ops::Range<i64>) -> [String; 2] {
    let at = |end: &str| folder.join(format!("{name}.{end}")).to_str().unwrap().to_owned();
    let (key, cert) = (at("key"), at("crt"));
    let mut openssl = Command::new("faketime");
    openssl.arg(format!("{} days ago", -days.start)).args(["openssl", "req", "-x509", "-noenc"]);
    openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", &key]);
    openssl.args(["-days", &(days.end - days.start).to_string(), "-out", &cert]);
    run(openssl.args(["-subj", &format!("/CN={name}")]));
    [fs::read_to_string(cert).unwrap(), fs::read_to_string(key).unwrap()]
}

fn b64(text: &str) -> String {
    support::base64(text.as_bytes())
}

fn object(kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    });
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

/// As it is, without the note of what was applied that `kubectl apply` adds: it has no room for what is large.
fn create(plane: &Plane<'_>, machine: &Machine, objects: &[Value]) {
    let file = machine.folder().join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    fs::write(&file, list.to_string()).unwrap();
    plane.super_admin(&["create", "-f", file.to_str().unwrap()]);
}

/// What honest people have, some of it near its end.
fn honest(folder: &Path) -> Vec<Value> {
    let [web, web_key] = certificate(folder, "web", -27..3);
    let [user, user_key] = certificate(folder, "deployer", -10..20);
    let [gone, _] = certificate(folder, "gone", -40..-10);
    let [sound, _] = certificate(folder, "sound", -1..300);
    let [later, _] = certificate(folder, "bundled", -1..200);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'https://a', certificate-authority-data: {}}}}}]\n\
         users: [{{name: deployer, user: {{client-certificate-data: {}, client-key-data: {}}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: deployer}}}}]\n",
        b64(&sound),
        b64(&user),
        b64(&user_key)
    );
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}),
        object(
            "Secret",
            "team",
            "web",
            json!({"type": "kubernetes.io/tls",
                   "data": {"tls.crt": b64(&web), "tls.key": b64(&web_key)}}),
        ),
        object("Secret", "team", "deployer", json!({"data": {"config": b64(&kubeconfig)}})),
        object(
            "Secret",
            "team",
            "password",
            json!({"type": "kubernetes.io/basic-auth", "stringData": {"password": "hidden"}}),
        ),
        object("ConfigMap", "team", "bundle", json!({"data": {"ca.crt": later + &gone}})),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "guard"},
            "webhooks": [{
                "name": "guard.example.com", "admissionReviewVersions": ["v1"],
                "sideEffects": "None", "failurePolicy": "Ignore",
                "clientConfig": {"url": "https://10.0.0.11:9/", "caBundle": b64(&gone)},
                "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"],
                           "operations": ["CREATE"], "resources": ["nothing"]}],
            }],
        }),
        json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1.none.example.com"},
            "spec": {"group": "none.example.com", "version": "v1", "groupPriorityMinimum": 100,
                     "versionPriority": 10, "caBundle": b64(&sound),
                     "service": {"namespace": "team", "name": "nobody"}},
        }),
    ]
}

/// What somebody with one namespace of his own may do to everybody's watch.
fn hostile(folder: &Path) -> Vec<Value> {
    let [gone, _] = certificate(folder, "flood", -40..-10);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let of = |name: &str, data: Value| object("ConfigMap", "hostile", name, json!({"data": data}));
    let mut all = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hostile"}}),
        of("ten-thousand", json!({"ca.crt": broken.repeat(10_000)})),
        of("cut", json!({"ca.crt": "-----BEGIN CERTIFICATE-----\nMIIBszCC"})),
        of("controls", json!({"ca.crt": "\u{1b}]0;x\u{7}-----BEGIN CERTIFICATE-----\u{0}\n"})),
        of(
            "kubeconfig",
            json!({"config": "apiVersion: v1\nkind: Config\na: &a [*a,*a]\nusers: \
                                           [{name: u, user: {client-certificate-data: '*'}}]"}),
        ),
        of("large", json!({"x.pem": "A".repeat(900_000)})),
    ];
    // More of it than one namespace is given room for.
    for number in 0..40 {
        all.push(of(&format!("flood-{number}"), json!({"ca.crt": gone.repeat(60)})));
    }
    all
}

/// The samples of a metric with all these labels.
fn samples<'m>(metrics: &'m str, metric: &str, labels: &[&str]) -> Vec<(&'m str, f64)> {
    let lines = metrics
        .lines()
        .filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series, value.parse().unwrap()))
        .collect()
}

const STATUS: &str = "certkit_certificate_status";

/// The reasons of the Events about an object.
fn reasons(plane: &Plane<'_>, namespace: &str, kind: &str, name: &str) -> Vec<String> {
    let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let text = plane.super_admin(&[
        "-n",
        namespace,
        "get",
        "events",
        "--field-selector",
        &selector,
        "-o",
        "json",
    ]);
    let list: Value = serde_json::from_str(&text).unwrap();
    let events = list["items"].as_array().unwrap().iter();
    let ours = events.filter(|event| event["reportingComponent"] == "certkit-controller");
    ours.map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn whatever_carries_a_certificate_in_the_cluster_is_told() {
    if ["openssl", "curl", "faketime"].iter().any(|program| need(program).is_none()) {
        return;
    }
    let Some(machine) = Machine::boot(&[("cp1", "10.0.0.11")]) else { return };
    let Some(mut plane) = Plane::of_certkit(&machine) else { return };
    let mut arguments = flags(&machine, "kubelet", "10.0.0.11");
    arguments.push("--hostname-override=cp1".into());
    let mut kubelet = Kubelet::start(&machine, &arguments);
    plane.wait_for_node(&mut kubelet, "cp1");
    let folder = support::temp_dir();
    create(&plane, &machine, &honest(folder.path()));
    create(&plane, &machine, &hostile(folder.path()));
    for template in ["controller", "controller-watch"] {
        plane.apply(&stdout(certkit().args(["template", template])));
    }
    write_kubeconfig(&plane, &machine);

    let watch = ["--watch", "objects,secrets,kubelets", "--watch-interval", "2s"];
    let dir = Path::new("/etc/kubernetes");
    let one = start(&machine, "watch-1", 10261, dir, &watch);
    let two = {
        plane.until("nothing is told", |_| {
            !samples(&scrape(&machine, 10261), "certkit_check_timestamp_seconds", &[]).is_empty()
        });
        start(&machine, "watch-2", 10262, dir, &watch)
    };

    // Without the right to read Secrets the rest is there, and that these are not is told.
    let metrics = scrape(&machine, 10261);
    let fault = |metrics: &str| samples(metrics, "certkit_watch_fault", &["\"secrets\""])[0].1;
    assert_eq!(fault(&metrics), 1.0, "{metrics}");
    assert!(samples(&metrics, STATUS, &["secret="]).is_empty());
    let others: f64 =
        samples(&metrics, "certkit_watch_fault", &[]).iter().map(|(_, value)| value).sum();
    assert_eq!(others, 1.0, "{metrics}");
    plane.apply(&stdout(certkit().args(["template", "controller-watch-secrets"])));
    plane.until("Secrets are not looked at", |_| fault(&scrape(&machine, 10261)) == 0.0);

    let metrics = scrape(&machine, 10261);
    for (labels, status) in [
        (&["secret_namespace=\"team\"", "secret=\"web\"", "key=\"tls.crt\""][..], 2.0),
        (&["secret=\"deployer\"", "(user deployer)", "subject=\"CN=deployer\""], 1.0),
        (&["secret=\"deployer\"", "(cluster c)", "role=\"ca\""], 0.0),
        (&["object=\"bundle\"", "object_kind=\"ConfigMap\"", "subject=\"CN=gone\""], 2.0),
        (&["object=\"bundle\"", "object_namespace=\"team\"", "subject=\"CN=bundled\""], 0.0),
        (&["object=\"guard\"", "webhooks[guard.example.com].clientConfig.caBundle"], 2.0),
        (&["object_kind=\"APIService\"", "v1.none.example.com", "spec.caBundle"], 0.0),
        (&["host=\"cp1\"", "path=\"10.0.0.11:10250\"", "ca=\"kubernetes\""], 0.0),
        (&["object=\"kube-root-ca.crt\"", "object_namespace=\"kube-system\""], 0.0),
        (&["object=\"cut\""], 3.0),
    ] {
        let found = samples(&metrics, STATUS, labels);
        assert_eq!(found.len(), 1, "{labels:?}: {found:?}");
        assert_eq!(found[0].1, status, "{labels:?}");
        // Where it is, as kubectl is asked for it; the cluster by the name that it was declared with.
        assert!(found[0].0.contains("host=\"prod\"") || labels[0].contains("cp1"), "{found:?}");
    }
    let served = samples(&metrics, "certkit_certificate_not_after_timestamp_seconds", &["\"cp1\""]);
    assert_eq!(served.len(), 1, "{served:?}");
    let path = "path=\"/api/v1/namespaces/team/secrets/web\"";
    assert_eq!(samples(&metrics, STATUS, &[path]).len(), 1);
    // The flood is bounded, and that it was is told.
    let flood = samples(&metrics, STATUS, &["object_namespace=\"hostile\""]).len();
    assert!((50..=1000).contains(&flood), "{flood}");
    let left_out = samples(&metrics, "certkit_watch_left_out", &["too_many"])[0].1;
    assert!(left_out > 10_000.0, "{left_out}");
    assert!(metrics.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(!metrics.contains("hidden") && !metrics.contains("PRIVATE KEY"));
    // Only who leads tells.
    assert!(samples(&scrape(&machine, 10262), STATUS, &[]).is_empty());
    the_rules_fire(&metrics, folder.path());

    // As Events, each once.
    for (namespace, kind, name, reason) in [
        ("team", "Secret", "web", "CertificateCritical"),
        ("team", "Secret", "deployer", "CertificateExpiresSoon"),
        ("team", "ConfigMap", "bundle", "CertificateExpired"),
        ("default", "ValidatingWebhookConfiguration", "guard", "CertificateExpired"),
    ] {
        plane.until(&format!("there is no Event of {name}"), |plane| {
            !reasons(plane, namespace, kind, name).is_empty()
        });
        assert_eq!(reasons(&plane, namespace, kind, name), [reason], "{name}");
    }
    let described = plane.super_admin(&["-n", "team", "describe", "configmap", "bundle"]);
    assert!(described.contains("CN=gone expired"), "{described}");
    assert!(reasons(&plane, "default", "APIService", "v1.none.example.com").is_empty());

    // The next one to lead tells the same, and makes no second Event of it.
    let pid = Pid::from_raw(one.pid().cast_signed()).expect("a process");
    println!("the leader's peak: {}", peak(one.pid()));
    kill_process(pid, Signal::KILL).unwrap();
    drop(one);
    plane.until("the other replica does not go on", |_| {
        !samples(&scrape(&machine, 10262), STATUS, &["secret=\"web\""]).is_empty()
    });
    // A renewed certificate is told with the next look.
    let [web, web_key] = certificate(folder.path(), "renewed", -1..90);
    let patch = json!({"data": {"tls.crt": b64(&web), "tls.key": b64(&web_key)}}).to_string();
    plane.super_admin(&["-n", "team", "patch", "secret", "web", "--patch", &patch]);
    plane.until("the renewed certificate is not seen", |_| {
        let metrics = scrape(&machine, 10262);
        let found = samples(&metrics, STATUS, &["secret=\"web\""]);
        found.len() == 1 && found[0].1 == 0.0
    });
    assert_eq!(reasons(&plane, "team", "Secret", "web"), ["CertificateCritical"]);
    assert_eq!(reasons(&plane, "team", "ConfigMap", "bundle"), ["CertificateExpired"]);
    // No key is anywhere in what it says.
    let log = fs::read_to_string(machine.log_of("watch-1")).unwrap();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("hidden"), "{log}");
    assert!(two.end().success());
}

/// The alerts that are there for textfiles are there for these, too.
fn the_rules_fire(metrics: &str, folder: &Path) {
    if need("promtool").is_none() {
        return;
    }
    let file = folder.join("metrics");
    fs::write(&file, metrics).unwrap();
    run(Command::new("sh").args(["-c", "promtool check metrics <\"$0\""]).arg(&file));
    let rules = stdout(certkit().args(["template", "prometheus-rules"]));
    fs::write(folder.join("rules.yaml"), rules).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut series = String::new();
    for (labels, value) in samples(metrics, STATUS, &[]) {
        series += &format!(
            "      - {{series: '{}', values: '{value}x100'}}\n",
            labels.replace('\'', "''")
        );
        let alert = match value as u8 {
            1 => "CertificateExpiresSoon",
            2 => "CertificateCritical",
            3 => "CertificateUnknown",
            _ => continue,
        };
        *counts.entry(alert).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    let expected: String = counts
        .iter()
        .map(|(alert, count)| {
            format!("          - {{labels: '{{alertname=\"{alert}\"}}', value: {count}}}\n")
        })
        .collect();
    let checked = "      - {series: 'certkit_check_timestamp_seconds', values: '0+3600x100'}\n\
                   \x20     - {series: 'certkit_watch_fault{resource=\"secrets\"}', values: '0x100'}\n";
    let tests = format!(
        "rule_files: [rules.yaml]\nevaluation_interval: 1h\ntests:\n  - interval: 1h\n    \
         input_series:\n{series}{checked}    promql_expr_test:\n      - expr: count by (alertname) \
         (ALERTS{{alertstate=\"firing\"}})\n        eval_time: 60h\n        exp_samples:\n{expected}"
    );
    fs::write(folder.join("tests.yaml"), &tests).unwrap();
    run(Command::new("promtool").current_dir(folder).args(["test", "rules", "tests.yaml"]));
}

/// What somebody who mounts it trusts: the ConfigMap's, and the ClusterTrustBundle's.
fn published(plane: &Plane<'_>, authority: &str, namespace: &str) -> [String; 2] {
    let get = |arguments: &[&str]| {
        let output = plane.kubectl("super-admin.conf", arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let name = format!("certkit-{authority}");
    [
        get(&["-n", namespace, "get", "configmap", &name, "-o", "jsonpath={.data.ca\\.crt}"]),
        get(&["get", "clustertrustbundle", &name, "-o", "jsonpath={.spec.trustBundle}"]),
    ]
}

fn is_fault(machine: &Machine, labels: &[&str]) -> bool {
    let metrics = scrape(machine, 10261);
    samples(&metrics, "certkit_trust_fault", labels).iter().any(|(_, value)| *value == 1.0)
}

/// Each file whole, as a volume has it.
fn put(folder: &Path, file: &str, content: &str) {
    let file = folder.join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file.with_extension("new"), content).unwrap();
    fs::rename(file.with_extension("new"), file).unwrap();
}

const PODS: [&str; 5] = ["by-path", "by-bundle", "by-variable", "by-volume", "ended"];

/// Pods of the namespace team that have what is published, each in its way.
fn pods_that_have_it(plane: &mut Plane<'_>, machine: &Machine) {
    plane.until("there is no service account", |plane| {
        let get = ["-n", "team", "get", "serviceaccount", "default"];
        plane.kubectl("super-admin.conf", &get).output().unwrap().status.success()
    });
    let map = json!({"name": "trust", "configMap": {"name": "certkit-ca"}});
    let bundle = json!({"name": "trust", "projected": {"sources": [
        {"clusterTrustBundle": {"name": "certkit-ca", "path": "ca.crt"}}]}});
    let mount = |more: Value| {
        let mut mount = json!({"name": "trust", "mountPath": "/trust"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([mount])
    };
    let from = json!({"configMapKeyRef": {"name": "copied", "key": "trust.pem"}});
    let variable = json!([{"name": "TRUST", "valueFrom": from}]);
    let by_path = json!({"volumeMounts": mount(json!({"subPath": "ca.crt"}))});
    let by_expression = json!({"env": [{"name": "FILE", "value": "ca.crt"}], "restartPolicy": "Always",
        "volumeMounts": mount(json!({"subPathExpr": "$(FILE)"}))});
    let pods = PODS.map(|name| {
        let (volume, web, side) = match name {
            "by-bundle" => (&bundle, json!({}), by_expression.clone()),
            "by-variable" => (&map, json!({"env": variable}), json!({})),
            "by-volume" => (&map, json!({"volumeMounts": mount(json!({}))}), json!({})),
            _ => (&map, by_path.clone(), json!({})),
        };
        let container = |name: &str, fields: &Value| {
            let mut container = json!({"name": name, "image": "web"});
            container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            container
        };
        let spec = json!({"containers": [container("web", &web)],
            "initContainers": [container("side", &side)], "volumes": [volume]});
        object("Pod", "team", name, json!({"spec": spec}))
    });
    create(plane, machine, &pods);
    for pod in PODS {
        run_pod(plane, pod, if pod == "ended" { "Succeeded" } else { "Running" });
    }
}

/// What a kubelet would say: its containers run since now.
fn run_pod(plane: &Plane<'_>, name: &str, phase: &str) {
    let now = stdout(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]));
    let status = |name: &str| {
        json!([{"name": name, "image": "web", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": now.trim()}}}])
    };
    let patch = json!({"status": {"phase": phase, "containerStatuses": status("web"),
        "initContainerStatuses": status("side")}});
    let patch = ["--type", "merge", "--patch", &patch.to_string()];
    let arguments = ["-n", "team", "patch", "pod", name, "--subresource", "status"];
    plane.super_admin(&[&arguments[..], &patch].concat());
}

#[test]
fn what_is_trusted_is_published_at_each_stage_of_a_rotation() {
    if need("curl").is_none() {
        return;
    }
    let Some(machine) = Machine::boot(&[("cp1", "10.0.0.11")]) else { return };
    let started = Plane::of_certkit_with(&machine, |component| {
        let mut arguments = flags(&machine, component, "10.0.0.11");
        if component == "kube-apiserver" {
            arguments.push("--runtime-config=certificates.k8s.io/v1beta1=true".into());
            let gates = "ClusterTrustBundle=true,ClusterTrustBundleProjection=true";
            arguments.push(format!("--feature-gates={gates}"));
        }
        arguments
    });
    let Some(mut plane) = started else { return };
    let dir = machine.folder().join("published");
    let carry = |file: &str| {
        let text = fs::read_to_string(machine.kubernetes().join(file)).unwrap();
        put(&dir, file, &text);
        text
    };
    let take = || {
        carry("pki/ca.crt");
        carry("pki/etcd/ca-bundle.crt");
        carry("pki/ca-bundle.crt")
    };
    let first = take();
    let foreign =
        object("ConfigMap", "kube-public", "certkit-etcd-ca", json!({"data": {"a": "b"}}));
    create(&plane, &machine, &[foreign]);
    let roles = stdout(certkit().args(["template", "controller-trust"]));
    for template in ["controller", "controller-watch", "controller-watch-pods"] {
        plane.apply(&stdout(certkit().args(["template", template])));
    }
    plane.apply(&roles);
    write_kubeconfig(&plane, &machine);
    let mut command = vec!["--inventory", "nodes"];
    command.extend(["--publish-trust", "ca,etcd-ca", "--publish-trust-to", "kube-public,team"]);
    command.extend(["--watch", "objects,pods", "--watch-interval", "2s"]);
    let controller = start(&machine, "trust", 10261, &dir, &command);

    // Everywhere but where it cannot be, and that is told.
    plane.until("nothing is published", |plane| {
        published(plane, "ca", "kube-public") == [first.clone(), first.clone()]
    });
    let [there, etcd] = published(&plane, "etcd-ca", "kube-public");
    assert_eq!((there.as_str(), etcd.matches("BEGIN CERTIFICATE").count()), ("", 1));
    plane.until("it is not told", |_| {
        is_fault(&machine, &["authority=\"etcd-ca\"", "kube-public"])
            && is_fault(&machine, &["authority=\"ca\"", "object_namespace=\"team\""])
    });
    assert!(!is_fault(&machine, &["authority=\"ca\"", "kube-public"]));
    let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let copied = object("ConfigMap", "team", "copied", json!({"data": {"trust.pem": first}}));
    create(&plane, &machine, &[team, copied]);
    let of_team: Vec<&str> =
        roles.split("---\n").filter(|one| one.contains("kube-public")).collect();
    plane.apply(&of_team.join("---\n").replace("namespace: kube-public", "namespace: team"));
    plane.until("the new namespace gets nothing", |plane| {
        published(plane, "ca", "team")[0] == first
    });

    // The new CA comes in: it is trusted where it is published, and a copy that somebody made is behind.
    let rotate = |more: &[&str]| {
        let mut rotate = certkit();
        rotate.args(["rotate-ca", "ca", "--next"]).args(more);
        run(&mut machine.enter(&rotate));
    };
    let behind = |fault: &str, name: &str| {
        let metrics = scrape(&machine, 10261);
        let labels = [format!("fault=\"{fault}\""), format!("object=\"{name}\"")];
        let labels =
            [labels[0].as_str(), &labels[1], "authority=\"ca\"", "object_namespace=\"team\""];
        !samples(&metrics, "certkit_trust_copy_fault", &labels).is_empty()
    };
    assert!(!behind("lacks", "copied"));
    pods_that_have_it(&mut plane, &machine);
    let kept = |pod: &str| {
        let metrics = scrape(&machine, 10261);
        let pod = format!("object=\"{pod}\"");
        let labels = ["fault=\"not-updated\"", "object_namespace=\"team\"", &pod];
        let found = samples(&metrics, "certkit_trust_copy_fault", &labels);
        found.into_iter().map(|(series, _)| series.to_owned()).collect::<Vec<_>>()
    };
    plane.until("pods are not looked at", |_| {
        let metrics = scrape(&machine, 10261);
        samples(&metrics, "certkit_watch_fault", &["\"pods\""])
            == [("certkit_watch_fault{resource=\"pods\"}", 0.0)]
    });
    assert!(PODS.iter().all(|pod| kept(pod).is_empty()));
    rotate(&[]);
    let both = take();
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    let is = |plane: &Plane<'_>, text: &str| {
        [published(plane, "ca", "kube-public"), published(plane, "ca", "team")]
            .iter()
            .flatten()
            .all(|there| there == text)
    };
    plane.until("the new CA is not published", |plane| is(plane, &both));
    plane.until("the copy is not told", |_| {
        behind("lacks", "copied") && behind("lacks", "kube-root-ca.crt")
    });
    let patch = json!({"data": {"trust.pem": both}}).to_string();
    plane.super_admin(&["-n", "team", "patch", "configmap", "copied", "--patch", &patch]);
    plane.until("the copy is told still", |_| !behind("lacks", "copied"));

    // Containers that get no update of it are told, until they start anew; the others are not.
    for (pod, has) in [
        ("by-path", "container=\"web\",how=\"subPath\""),
        ("by-path", "key=\"ConfigMap certkit-ca ca.crt\""),
        ("by-bundle", "container=\"side\",how=\"subPathExpr\""),
        ("by-bundle", "key=\"ClusterTrustBundle certkit-ca\""),
        ("by-variable", "container=\"web\",how=\"env\""),
        ("by-variable", "key=\"ConfigMap copied trust.pem\""),
    ] {
        plane.until(&format!("{pod} is not told"), |_| {
            kept(pod).iter().any(|series| series.contains(has))
        });
        assert_eq!(kept(pod).len(), 1, "{:?}", kept(pod));
    }
    assert!(kept("by-volume").is_empty() && kept("ended").is_empty());
    plane.until("there is no Event of it", |plane| {
        reasons(plane, "team", "Pod", "by-variable") == ["TrustNotUpdated"]
    });
    for pod in ["by-path", "by-variable"] {
        run_pod(&plane, pod, "Running");
        plane.until(&format!("{pod} is told still"), |_| kept(pod).is_empty());
    }
    assert_eq!(reasons(&plane, "team", "Pod", "by-path"), ["TrustNotUpdated"]);
    assert_eq!(kept("by-bundle").len(), 1);

    // It issues: both stay. What is no bundle, or another's, changes nothing.
    rotate(&[]);
    let switched = take();
    plane.until("something else is published", |plane| is(plane, &switched));
    let [other, _] = certificate(machine.folder(), "another", -1..90);
    for (wrong, why) in [
        ("", "is empty"),
        ("-----BEGIN CERTIFICATE-----\nAAAA", "ca-bundle.crt"),
        (other.as_str(), "does not have the certificate of the CA that issues"),
    ] {
        put(&dir, "pki/ca-bundle.crt", wrong);
        plane.until("it is not told", |_| is_fault(&machine, &["authority=\"ca\"", "kube-public"]));
        plane.until("why is not told", |_| {
            fs::read_to_string(machine.log_of("trust")).unwrap().contains(why)
        });
        assert!(is(&plane, &switched));
        take();
        plane.until("what is right is not taken", |_| !is_fault(&machine, &["authority=\"ca\""]));
    }
    put(&dir, "pki/ca.crt", &other);
    put(&dir, "pki/ca-bundle.crt", &other);
    plane.until("it is not told", |_| is_fault(&machine, &["authority=\"ca\"", "kube-public"]));
    assert!(is(&plane, &switched));
    take();

    // The old one goes, which is told; copies that keep it are, too.
    rotate(&["--force"]);
    let last = take();
    assert_eq!(last.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(both.contains(last.trim()) && last != first);
    plane.until("the old CA is published still", |plane| is(plane, &last));
    plane.until("what keeps it is not told", |_| behind("former", "copied"));
    for (namespace, kind) in [("default", "ClusterTrustBundle"), ("team", "ConfigMap")] {
        let reasons = reasons(&plane, namespace, kind, "certkit-ca");
        let count = |reason: &str| reasons.iter().filter(|said| *said == reason).count();
        assert!(count("TrustPublished") >= 2, "{reasons:?}");
        assert_eq!(count("TrustNarrowed"), 1, "{reasons:?}");
    }
    // Whoever deletes it, or writes into it, does not for long.
    plane.super_admin(&["-n", "team", "delete", "configmap", "certkit-ca"]);
    let patch = json!({"data": {"ca.crt": last.clone() + &other}}).to_string();
    let patch = ["patch", "configmap", "certkit-ca", "--patch", &patch];
    plane.super_admin(&[&["-n", "kube-public"][..], &patch].concat());
    plane.until("it does not come back", |plane| is(plane, &last));
    assert!(controller.end().success());
}

/// Whatever the value, nothing panics: the kubeconfig that is missing is told, or the value is.
#[test]
fn options_at_their_ends_are_told() {
    let folder = support::temp_dir();
    let missing = folder.path().join("none.conf");
    for (options, code) in [
        (&["--watch", "objects", "--watch-interval", "0s"][..], 3),
        (&["--watch", "objects,secrets,kubelets", "--watch-interval", "1y"], 3),
        (&["--watch", "objects", "--watch-interval", "292277026596y"], 64),
        (&["--watch", "objects", "--watch-interval", "-1s"], 64),
        (&["--watch", ""], 64),
        (&["--watch", "everything"], 64),
        (&["--watch", "pods"], 64),
        (&["--watch", "objects,pods"], 64),
        (&["--watch", "pods", "--publish-trust", "ca"], 64),
        (&["--watch", "objects,pods", "--publish-trust", "ca"], 3),
        (&["--watch-interval", "1m"], 64),
        (&["--watch", "secrets", "--warn", "1d", "--critical", "7d"], 64),
        (&["--watch", "secrets", "--warn", "100%", "--critical", "0s"], 3),
        (&["--watch", "secrets", "--warn", "100.1%"], 64),
        (&["--publish-trust", "ca,etcd-ca,ca"], 3),
        (&["--publish-trust", "apiserver"], 64),
        (&["--publish-trust", "ca", "--publish-trust-to", "a,b,a"], 3),
        (&["--publish-trust", "ca", "--publish-trust-to", "../a"], 64),
        (&["--publish-trust", "ca", "--publish-trust-to", ""], 64),
        (&["--publish-trust-to", "a"], 64),
    ] {
        let mut controller = with_cluster();
        controller.args(["controller", "--inventory", "nodes", "--kubeconfig"]).arg(&missing);
        controller.arg("--dir").arg(folder.path());
        support::run_to_exit(controller.args(options), code);
    }
}
