//! Objects of Kubernetes other than Secrets, and what lies inside them.

use std::fs;

use serde_json::{Value, json};

use crate::{
    check_at, fixture,
    form::{BETWEEN, Sample},
    json as report_of, row, rows, support,
};

/// One object of each kind that has certificates, every one of them the one that has ended.
fn objects(sample: &Sample) -> Vec<(Value, &'static str)> {
    let old = sample.text("old");
    let encoded = support::base64(old.as_bytes());
    let kubeconfig = fs::read_to_string(fixture("ecdsa-p256/admin.conf")).unwrap();
    let start = kubeconfig.find("client-certificate-data: ").unwrap() + 25;
    let end = start + kubeconfig[start..].find('\n').unwrap();
    let kubeconfig = format!("{}{encoded}{}", &kubeconfig[..start], &kubeconfig[end..]);
    let hook = |kind: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "hooks"},
            "webhooks": [{"name": "a.example.com", "clientConfig": {"caBundle": encoded}}],
        })
    };
    vec![
        (
            hook("ValidatingWebhookConfiguration"),
            "ValidatingWebhookConfiguration hooks webhooks[a.example.com].clientConfig.caBundle",
        ),
        (
            hook("MutatingWebhookConfiguration"),
            "MutatingWebhookConfiguration hooks webhooks[a.example.com].clientConfig.caBundle",
        ),
        (
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "x.example.com"},
                "spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": encoded}}}},
            }),
            "CustomResourceDefinition x.example.com spec.conversion.webhook.clientConfig.caBundle",
        ),
        (
            json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"caBundle": encoded},
            }),
            "APIService v1beta1.metrics.k8s.io spec.caBundle",
        ),
        (
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "kube-root-ca.crt", "namespace": "default"},
                "data": {"ca.crt": old},
            }),
            "ConfigMap default/kube-root-ca.crt ca.crt",
        ),
        (
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "n"},
                "binaryData": {"tls.der": support::base64(
                    &sample.convert(&["x509", "-in", "old.pem", "-outform", "DER"], "x")
                )},
            }),
            "ConfigMap n/b tls.der",
        ),
        (
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kc", "namespace": "n"},
                "data": {"value": support::base64(kubeconfig.as_bytes())},
            }),
            "n/kc value (user kubernetes-admin)",
        ),
        (
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"},
                "stringData": {"kubeconfig": kubeconfig},
            }),
            "n/s kubeconfig (user kubernetes-admin)",
        ),
        (
            json!({
                "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                "metadata": {"name": "csr"}, "status": {"certificate": encoded},
            }),
            "CertificateSigningRequest csr status.certificate",
        ),
    ]
}

/// JSON as YAML of the simplest kind, with block scalars for texts of several lines.
fn yaml(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) if text.contains('\n') => {
                    let lines: String =
                        text.lines().map(|line| format!("{pad}  {line}\n")).collect();
                    format!("{pad}{key}: |\n{lines}")
                }
                Value::String(text) => format!("{pad}{key}: {text}\n"),
                Value::Array(items) => {
                    let items: String = items
                        .iter()
                        .map(|item| {
                            let text = yaml(item, indent + 2);
                            format!("{pad}- {}", &text[indent + 2..])
                        })
                        .collect();
                    format!("{pad}{key}:\n{items}")
                }
                inner => format!("{pad}{key}:\n{}", yaml(inner, indent + 2)),
            })
            .collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn each_kind_of_object_is_looked_into() {
    let Some(sample) = Sample::make() else { return };
    for (object, name) in objects(&sample) {
        for (file, text) in [
            ("o.json", format!("{object:#}")),
            ("o.yaml", yaml(&object, 0)),
            ("o", object.to_string()),
        ] {
            let folder = support::temp_dir();
            fs::write(folder.path().join(file), &text).unwrap();
            let (report, code) = report_of(check_at(BETWEEN).arg(folder.path()));
            let row = row(&report, name);
            assert_eq!((code, row["status"].as_str()), (2, Some("expired")), "{file}: {text}");
            assert_eq!(row["subject"], "CN=old");
            let kind = object["kind"].as_str().unwrap();
            let source = &row["source"];
            let (kind_of, of) = match kind {
                "Secret" => (json!("secret"), &source["secret"]),
                _ => (json!("object"), &source["object"]),
            };
            assert_eq!((&source["kind"], of), (&kind_of, &object["metadata"]["name"]));
        }
    }
}

/// As `kubectl get -A -o yaml` prints them, as a stream of documents, and through standard input.
#[test]
fn lists_and_streams_name_every_one() {
    let Some(sample) = Sample::make() else { return };
    let all = objects(&sample);
    let items: Vec<&Value> = all.iter().map(|(object, _)| object).collect();
    let list = json!({"apiVersion": "v1", "items": items, "kind": "List"});
    let stream: String = items.iter().map(|object| format!("---\n{}", yaml(object, 0))).collect();
    for (name, text) in
        [("l.json", format!("{list:#}")), ("l.yaml", yaml(&list, 0)), ("stream.yaml", stream)]
    {
        let folder = support::temp_dir();
        fs::write(folder.path().join(name), text).unwrap();
        let (report, code) = report_of(check_at(BETWEEN).arg(folder.path()));
        assert_eq!(code, 2);
        for (_, expected) in &all {
            assert_eq!(row(&report, expected)["status"], "expired", "{name}");
        }
    }
}

#[test]
fn what_must_be_a_certificate_and_is_none_is_unknown() {
    let folder = support::temp_dir();
    let hook = |bundle: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\n\
             metadata: {{name: h}}\nwebhooks:\n- name: a\n  clientConfig: {{caBundle: '{bundle}'}}\n"
        )
    };
    let path = folder.path().join("h.yaml");
    for bundle in ["***", "aGVsbG8=", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUIK"] {
        fs::write(&path, hook(bundle)).unwrap();
        let (report, code) = report_of(check_at(BETWEEN).arg(folder.path()));
        assert_eq!((code, rows(&report).len()), (3, 1), "{bundle}: {report:#}");
        row(&report, "ValidatingWebhookConfiguration h webhooks[a].clientConfig.caBundle");
    }
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {ca.crt: garbage}\n";
    fs::write(&path, map).unwrap();
    assert_eq!(report_of(check_at(BETWEEN).arg(folder.path())).1, 3);
    // The place that an injector fills is no certificate yet; named alone that is nothing seen.
    for bundle in ["", "Cg=="] {
        fs::write(&path, hook(bundle)).unwrap();
        let (report, code) = report_of(check_at(BETWEEN).arg(&path));
        assert_eq!((code, rows(&report).len()), (3, 1));
    }
}

#[test]
fn files_of_other_machines_are_not_looked_for() {
    let folder = support::temp_dir();
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kube-proxy, namespace: kube-system}\n\
                data:\n  kubeconfig.conf: |\n    apiVersion: v1\n    kind: Config\n    clusters:\n\
                \x20   - cluster:\n        certificate-authority: /var/run/secrets/ca.crt\n\
                \x20       server: https://x:6443\n      name: default\n    users: []\n    contexts: []\n";
    fs::write(folder.path().join("cm.yaml"), text).unwrap();
    let Some(sample) = Sample::make() else { return };
    fs::write(folder.path().join("good.crt"), sample.text("new")).unwrap();
    let (report, code) = report_of(check_at(BETWEEN).arg(folder.path()));
    assert_eq!((code, rows(&report).len()), (0, 1), "{report:#}");
}

#[test]
fn json_of_any_shape_is_looked_into() {
    let Some(sample) = Sample::make() else { return };
    // As cfssl prints it.
    let cfssl = json!({"cert": sample.text("old"), "csr": "x", "key": "y"}).to_string();
    let folder = support::temp_dir();
    let path = folder.path().join("cfssl.json");
    fs::write(&path, cfssl).unwrap();
    let (report, code) = report_of(check_at(BETWEEN).arg(folder.path()));
    assert_eq!(
        (code, row(&report, &format!("{} cert", path.display()))["status"].as_str()),
        (2, Some("expired"))
    );
    // A kubeconfig in JSON.
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "contexts": [], "clusters": [],
        "users": [{"name": "u", "user": {
            "client-certificate-data": support::base64(sample.text("old").as_bytes())
        }}],
    });
    fs::write(&path, format!("{config:#}")).unwrap();
    let (report, code) = report_of(check_at(BETWEEN).arg(folder.path()));
    assert_eq!(code, 2, "{report:#}");
    row(&report, &format!("{} (user u)", path.display()));
}
