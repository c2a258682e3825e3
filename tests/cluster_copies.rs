//! What a real cluster holds of its CA that no file shows: found through kubectl, standing against going on while it
//! holds the old CA alone, and brought up to date where certkit may.

mod support;

use std::{fs, process::Command};

use serde_json::Value;
use support::{
    base64, certkit,
    cluster::{Cluster, Component, Options},
    kubernetes, run, run_to_exit,
};

/// `certkit rotate-ca ca` with the super-admin's kubeconfig, which finds kubectl.
fn rotate_ca(cluster: &Cluster, more: &[&str]) -> Command {
    let kubectl = kubernetes::program("kubectl").unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", kubectl.parent().unwrap().display());
    let mut command = certkit();
    command.args(["rotate-ca", "ca", "--dir"]).arg(&cluster.dir).args(more);
    command.arg("--kubeconfig").arg(cluster.dir.join("super-admin.conf"));
    command.env("PATH", path).env("HOME", cluster.folder());
    command
}

/// The copies that are told, each as `STATE NAMESPACE/OBJECT FIELD`.
fn told(cluster: &Cluster, more: &[&str]) -> Vec<String> {
    let output = run(rotate_ca(cluster, more).args(["-o", "json"]));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let word = |one: &Value, field: &str| one[field].as_str().unwrap_or("-").to_owned();
    let all = document["cluster"].as_array().unwrap().iter();
    let mut all: Vec<String> = all
        .map(|one| {
            let [state, namespace, object, field] =
                ["state", "namespace", "object", "field"].map(|field| word(one, field));
            format!("{state} {namespace}/{object} {field}")
        })
        .collect();
    all.sort();
    all
}

fn stderr(command: &mut Command) -> String {
    String::from_utf8_lossy(&run_to_exit(command, 3).stderr).into_owned()
}

/// What a caBundle holds, as many certificates, and whether this line of the old CA is among it.
fn held(cluster: &Cluster, arguments: &[&str]) -> String {
    let encoded = cluster.super_admin(arguments);
    let file = cluster.folder().join("encoded");
    fs::write(&file, encoded.trim()).unwrap();
    support::openssl(&["base64", "-d", "-A", "-in", file.to_str().unwrap()])
}

/// What nobody may be told.
const SECRET: &str = "hunter2-hunter2";

/// Objects with the CA in them: a webhook, a resource definition, cluster-info, a kubeconfig in a Secret.
fn objects(ca: &[u8]) -> String {
    let bundle = base64(ca);
    let kubeconfig = |user: &str| {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {bundle}\n    server: \
             https://a:6443\n  name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\n{user}"
        )
    };
    let public = kubeconfig("users: null\n").replace('\n', "\n    ");
    let token = format!("users:\n- name: a\n  user: {{token: {SECRET}}}\n");
    let private = base64(kubeconfig(&token).as_bytes());
    format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: hooks}}
webhooks:
- name: a.example.com
  clientConfig: {{url: \"https://a.example.com/\", caBundle: {bundle}}}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  rules: [{{apiGroups: [example.com], apiVersions: [v1], operations: [CREATE], resources: [nothings]}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: things.example.com}}
spec:
  group: example.com
  names: {{kind: Thing, plural: things}}
  scope: Cluster
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig: {{url: \"https://a.example.com/\", caBundle: {bundle}}}
  versions:
  - {{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object}}}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: cluster-info, namespace: kube-public}}
data:
  kubeconfig: |
    {public}
---
apiVersion: v1
kind: Secret
metadata: {{name: remote, namespace: default}}
data: {{kubeconfig: {private}, password: {}}}
---
apiVersion: v1
kind: Secret
metadata:
  name: token
  namespace: default
  annotations: {{kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
",
        base64(SECRET.as_bytes())
    )
}

const HOOKS: [&str; 5] = [
    "get",
    "validatingwebhookconfiguration",
    "hooks",
    "-o",
    "jsonpath={.webhooks[0].clientConfig.caBundle}",
];

#[test]
fn what_in_a_cluster_holds_the_old_ca_alone_stands_against_going_on_until_it_is_mended() {
    let Some(mut cluster) = Cluster::prepare(Options::default()) else { return };
    // An apiserver that ends waits so long for watches, by default a minute.
    cluster.add_flag(Component::ApiServer, "--request-timeout=15s".to_owned());
    cluster.start_all();
    let old = fs::read_to_string(cluster.dir.join("pki/ca.crt")).unwrap();
    let file = cluster.folder().join("objects.yaml");
    fs::write(&file, objects(old.as_bytes())).unwrap();
    // A token of an account that is not there yet is taken away.
    cluster.until("there is no service account", || {
        let get = ["get", "serviceaccount", "default"];
        cluster.kubectl("super-admin.conf").args(get).output().unwrap().status.success()
    });
    run(cluster.kubectl("super-admin.conf").args(["apply", "-f"]).arg(&file));
    let token = ["get", "secret", "token", "-o", "jsonpath={.data.ca\\.crt}"];
    cluster.until("the token gets no CA", || !cluster.super_admin(&token).is_empty());
    let root = ["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"];
    cluster.until("pods get no CA", || {
        let got = cluster.kubectl("super-admin.conf").args(root).output().unwrap();
        got.status.success()
    });
    assert_eq!(told(&cluster, &[]), Vec::<String>::new());

    // Looked at and not touched.
    let version = [
        "get",
        "validatingwebhookconfiguration",
        "hooks",
        "-o",
        "jsonpath={.metadata.resourceVersion}",
    ];
    let before = cluster.super_admin(&version);
    let stale = told(&cluster, &["--next"]);
    for copy in [
        "stale -/hooks webhooks[a.example.com].clientConfig.caBundle",
        "stale -/things.example.com spec.conversion.webhook.clientConfig.caBundle",
        "stale default/kube-root-ca.crt ca.crt",
        "stale default/remote kubeconfig",
        "stale default/token ca.crt",
        "stale kube-public/cluster-info kubeconfig",
    ] {
        assert!(stale.iter().any(|one| one == copy), "{copy}: {stale:#?}");
    }
    let said = stderr(&mut rotate_ca(&cluster, &["--next"]));
    for word in ["default/kube-root-ca.crt", "default/remote", "kube-public/cluster-info", "hooks"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains(SECRET) && !said.contains(&base64(SECRET.as_bytes())), "{said}");
    assert_eq!(cluster.super_admin(&version), before);

    // The apiserver has read its file by itself; the controller-manager must be started anew.
    cluster.restart(0, Component::ControllerManager);
    cluster.wait_for_leases();
    let next = fs::read_to_string(cluster.dir.join("pki/ca-next.crt")).unwrap();
    cluster.until("pods do not get the next CA", || {
        let text = cluster.super_admin(&root);
        text.contains(next.trim()) && text.contains(old.trim())
    });
    cluster.until("the token does not get the next CA", || {
        !told(&cluster, &[]).iter().any(|one| one.contains("default/token"))
    });
    let mended = told(&cluster, &["--apply-cluster"]);
    assert!(
        mended.contains(&"updated kube-public/cluster-info kubeconfig".to_owned()),
        "{mended:#?}"
    );
    let bundle = held(&cluster, &HOOKS);
    assert!(bundle.contains(next.trim()) && bundle.contains(old.trim()), "{bundle}");
    // A Secret is nobody's but its owner's.
    assert_eq!(told(&cluster, &[]), ["stale default/remote kubeconfig"]);
    let said = stderr(&mut rotate_ca(&cluster, &["--next"]));
    assert!(said.contains("default/remote") && !said.contains("cluster-info"), "{said}");
    cluster.super_admin(&["delete", "secret", "remote"]);

    run(&mut rotate_ca(&cluster, &["--next"]));
    cluster.restart(0, Component::ApiServer);
    cluster.restart(0, Component::ControllerManager);
    cluster.wait_for_leases();
    let mended = told(&cluster, &["--next", "--apply-cluster"]);
    assert!(mended.iter().any(|one| one.starts_with("deleted kube-system/")), "{mended:#?}");
    let bundle = held(&cluster, &HOOKS);
    assert!(bundle.contains(next.trim()) && !bundle.contains(old.trim()), "{bundle}");
    let clients = [
        "get",
        "configmap",
        "extension-apiserver-authentication",
        "-n",
        "kube-system",
        "--ignore-not-found",
        "-o",
        "jsonpath={.data.client-ca-file}",
    ];
    cluster.until("aggregated API servers are told of the old CA", || {
        let text = cluster.super_admin(&clients);
        text.contains(next.trim()) && !text.contains(old.trim())
    });
}

#[test]
fn a_cluster_that_cannot_be_asked_stands_against_going_on() {
    let dir = support::temp_dir();
    run(certkit().args(["init", "--host", "cp1=10.0.0.11", "--dir"]).arg(dir.path()));
    let go = |path: &str, more: &[&str]| {
        let mut command = certkit();
        command.args(["rotate-ca", "ca", "--dir"]).arg(dir.path()).args(more).env("PATH", path);
        command
    };
    run_to_exit(&mut go("/nowhere", &["--next", "--apply-cluster"]), 64);
    let with = ["--next", "--kubeconfig", "nothing.conf"];
    let said = stderr(&mut go("/nowhere", &with));
    assert!(said.contains("cannot start kubectl"), "{said}");
    // One that fails, one that prints nonsense.
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for (script, word) in [
        ("echo 'error: no such host' >&2; exit 1", "no such host"),
        ("echo '{\"items\": 7}'", "cannot be read"),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let kubectl = bin.join("kubectl");
        fs::write(&kubectl, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let said = stderr(&mut go(&path, &with));
        assert!(said.contains(word), "{word}: {said}");
        assert!(!dir.path().join("pki/ca-next.crt").exists());
    }
}
