use std::{
    cell::Cell,
    io::{self, Cursor},
    rc::Rc,
};

use super::{source::ITEM, *};

fn all(text: &str) -> (Vec<Item>, Result<Extent, DocumentError>) {
    let mut items = Vec::new();
    let result = objects(Cursor::new(text.as_bytes().to_vec()), "s", &mut |item| {
        items.push(item);
        ControlFlow::Continue(())
    });
    (items, result)
}

fn keys(item: &Item) -> Vec<&str> {
    item.entries.iter().map(|entry| entry.key.as_str()).collect()
}

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

fn base64(text: &str) -> String {
    data::encode(text.as_bytes()).to_string()
}

/// A List as kubectl prints it: keys sorted, `kind` last.
fn list() -> String {
    format!(
        "apiVersion: v1
items:
- apiVersion: v1
  data:
    ca.crt: {pem}
    namespace: ZGVmYXVsdA==
    token: eHh4
    strange-name: {pem}
  kind: Secret
  metadata:
    annotations:
      note: |
        - kind: ConfigMap
    name: one
    namespace: default
  type: kubernetes.io/service-account-token
- apiVersion: v1
  data: {{a.crt: b}}
  kind: ConfigMap
  metadata: {{name: cm}}
- apiVersion: v1
  kind: Secret
  metadata:
    name: two
  stringData:
    tls.pem: |
      {line}
kind: List
metadata:
  resourceVersion: \"\"
",
        pem = base64(PEM),
        line = PEM.trim_end().replace('\n', "\n      "),
    )
}

#[test]
fn the_certificates_of_a_list_are_handed_out() {
    let (items, result) = all(&list());
    assert_eq!(result.unwrap(), Extent { secrets: 2, others: 1, faulty: 0 });
    let [one, other, two] = &items[..] else { panic!("{items:?}") };
    assert_eq!((other.kind.as_deref(), keys(other)), (Some("ConfigMap"), vec!["a.crt"]));
    assert_eq!(one.name.as_deref(), Some("one"));
    assert_eq!(one.namespace.as_deref(), Some("default"));
    assert_eq!(one.secret_type.as_deref(), Some("kubernetes.io/service-account-token"));
    assert_eq!(one.place, Some(Position { line: 3, column: 3 }));
    assert_eq!(keys(one), ["ca.crt", "strange-name"]);
    assert_eq!(one.entries[0].value.as_ref().unwrap().as_slice(), PEM.as_bytes());
    assert_eq!(two.entries[0].value.as_ref().unwrap().as_slice(), PEM.as_bytes());
}

#[test]
fn json_says_the_same_as_yaml() {
    let json = serde_json_of(&list());
    for json in [json.clone(), json.replace(": ", ":").replace('\n', ""), json.replace("  ", "\t")]
    {
        let (mut yaml, _) = all(&list());
        yaml.iter_mut().for_each(|item| item.place = None);
        let (items, result) = all(&json);
        assert_eq!(items, yaml);
        assert_eq!(result.unwrap(), Extent { secrets: 2, others: 1, faulty: 0 });
    }
}

/// The YAML as JSON, by the other YAML reader of this module.
fn serde_json_of(text: &str) -> String {
    fn of(node: &Node) -> String {
        let text = |text: &str| format!("\"{}\"", text.replace('"', "\\\"").replace('\n', "\\n"));
        match &*node.value {
            yaml::NodeValue::Scalar { text: value, .. } => text(value),
            yaml::NodeValue::List(items) => {
                format!("[\n{}\n]", items.iter().map(of).collect::<Vec<_>>().join(",\n  "))
            }
            yaml::NodeValue::Map(entries) => {
                let entry = |(key, value): &(Node, Node)| format!("{}: {}", of(key), of(value));
                format!("{{\n{}\n}}", entries.iter().map(entry).collect::<Vec<_>>().join(",\n  "))
            }
        }
    }
    of(&yaml::documents(text).unwrap()[0])
}

#[test]
fn single_secrets_streams_of_them_and_secret_lists() {
    let one = |name: &str| {
        format!("data: {{tls.crt: {}}}\nkind: Secret\nmetadata: {{name: {name}}}\n", base64(PEM))
    };
    let (items, result) =
        all(&format!("# c\n---\n{}---\n---\nkind: Pod\n---\n{}", one("a"), one("b")));
    assert_eq!(result.unwrap(), Extent { secrets: 2, others: 1, faulty: 0 });
    assert_eq!(items[1].name.as_deref(), Some("b"));
    let json = format!(
        "{{\"kind\":\"Secret\",\"data\":{{\"ca\":\"{}\"}},\"metadata\":{{\"name\":\"x\"}}}}",
        base64(PEM)
    );
    let (items, result) = all(&format!(" \n{json}\n{json}\n"));
    assert_eq!(result.unwrap().secrets, 2);
    assert_eq!(keys(&items[1]), ["ca"]);
    let raw = "{\"kind\":\"SecretList\",\"items\":[{\"metadata\":{\"name\":\"x\"},\"data\":null}]}";
    assert_eq!(all(raw).0[0].name.as_deref(), Some("x"));
    assert_eq!(all("items: null\nkind: List\n").1.unwrap(), Extent::default());
    assert_eq!(all("items: []\nkind: List\n").1.unwrap(), Extent::default());
}

#[test]
fn a_malformed_item_does_not_hide_the_others() {
    let text = "\
items:
- kind: Secret
  metadata: {name: a}
  data: {tls.crt: '%%%', other: [1], x.crt: null}
- 17
- kind: Secret
  kind: Secret
  data: {a: {b: [c]}}
- kind: Secret
  metadata: {name: b}
  data: [x]
- kind: Secret
  data: {}
- kind: Secret
  metadata: {name: good}
  data: {tls.crt: aGVsbG8=}
";
    let (items, result) = all(text);
    assert_eq!(result.unwrap(), Extent { secrets: 6, others: 0, faulty: 5 });
    assert_eq!(items[0].entries[0].value, Err("is not base64".into()));
    assert_eq!(items[0].entries[1].value, Err("is a list, not a text".into()));
    assert_eq!(items[1].fault.as_deref(), Some("is a text, not an object"));
    assert!(items[2].fault.as_deref().unwrap().contains("`kind` stands here a second time"));
    assert_eq!(items[2].place, Some(Position { line: 7, column: 3 }));
    assert_eq!(items[3].fault.as_deref(), Some("data is a list, not a mapping"));
    assert_eq!(items[4].fault.as_deref(), Some("has no name"));
    assert_eq!(keys(&items[5]), ["tls.crt"]);
    let (items, result) =
        all("{\"items\":[3,{\"kind\":\"Secret\",\"metadata\":{\"name\":\"n\"},\"data\":7}]}");
    assert_eq!(result.unwrap().faulty, 2);
    assert_eq!(items[1].fault.as_deref(), Some("data is a text, not a mapping"));
}

#[test]
fn what_keeps_the_rest_from_being_read_is_an_error_with_its_place() {
    let mut missed = Vec::new();
    for (text, wanted) in [
        ("", "s is empty"),
        (" \n\n", "s is empty"),
        ("- a\n", "s:1:1: is neither an object nor a List"),
        ("items: {a: b}\n", "s:1:1: items: is not a list"),
        ("items:\n- a: [\n", "s:2:6: cannot parse this"),
        ("{\"items\":{}}", "s:1:11: cannot parse this"),
        ("{\"items\":[{]", "s:1:12: cannot parse this"),
        ("{\"items\":[", "s:1:10: cannot parse this"),
        ("{} x", "cannot parse this"),
        ("kind: Secret\nmetadata: {name: *nothing}\n", "s:2:18: cannot parse this"),
    ] {
        let error = all(text).1.unwrap_err().to_string();
        if !error.contains(wanted) {
            missed.push(format!("{text}: wanted {wanted} in {error}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    let invalid = objects(&b"a: \xff\n"[..], "s", &mut |_| ControlFlow::Continue(())).unwrap_err();
    let source = std::error::Error::source(&invalid).unwrap().to_string();
    assert!(source.contains("not UTF-8"), "{source}");
}

#[test]
fn the_reader_can_break_off() {
    let json = serde_json_of(&list());
    for text in [list(), json] {
        let mut seen = 0;
        let result = objects(Cursor::new(text.into_bytes()), "s", &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert_eq!((seen, result.unwrap().secrets), (1, 1));
    }
}

/// A List that is made as it is read, and how far it has been read.
struct Generated<F> {
    head: &'static str,
    item: F,
    tail: &'static str,
    next: usize,
    count: usize,
    rest: Vec<u8>,
    read: Rc<Cell<usize>>,
}

impl<F: Fn(usize) -> String> Read for Generated<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            let text = match self.next {
                0 => self.head.to_owned(),
                n if n <= self.count => (self.item)(n),
                n if n == self.count + 1 => self.tail.to_owned(),
                _ => String::new(),
            };
            self.next += 1;
            self.rest = text.into_bytes();
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest[..length]);
        self.rest.drain(..length);
        self.read.set(self.read.get() + length);
        Ok(length)
    }
}

#[test]
fn five_thousand_secrets_are_read_one_at_a_time() {
    const COUNT: usize = 5_000;
    let value = base64(&PEM.repeat(8));
    let for_json = value.clone();
    let yaml = move |n: usize| {
        format!("- data:\n    tls.crt: {value}\n  kind: Secret\n  metadata:\n    name: s{n}\n")
    };
    let json = move |n: usize| {
        let comma = if n > 1 { "," } else { "" };
        format!(
            "{comma}{{\"data\":{{\"tls.crt\":\"{for_json}\"}},\"kind\":\"Secret\",\"metadata\":{{\"name\":\"s{n}\"}}}}"
        )
    };
    type Item = Box<dyn Fn(usize) -> String>;
    let forms: [(&str, Item, &str); 2] = [
        ("apiVersion: v1\nitems:\n", Box::new(yaml), "kind: List\n"),
        ("{\"items\":[", Box::new(json), "],\"kind\":\"List\"}"),
    ];
    for (head, item, tail) in forms {
        let (longest, read) = (item(COUNT).len(), Rc::new(Cell::new(0)));
        let end = |n: usize| head.len() + (1..=n).map(|n| item(n).len()).sum::<usize>();
        let ends: Vec<usize> = (0..=COUNT).step_by(500).map(end).collect();
        let source = Generated {
            head,
            item,
            tail,
            next: 0,
            count: COUNT,
            rest: Vec::new(),
            read: read.clone(),
        };
        let mut seen = 0;
        let mut ahead = 0;
        let summary = objects(source, "s", &mut |item| {
            seen += 1;
            assert_eq!(item.name, Some(format!("s{seen}")));
            assert_eq!(item.entries.len(), 1);
            if seen % 500 == 0 {
                ahead = ahead.max(read.get() - ends[seen / 500]);
            }
            ControlFlow::Continue(())
        });
        assert_eq!(summary.unwrap(), Extent { secrets: COUNT, others: 0, faulty: 0 });
        // No more than the buffer and one item were read beyond what was handed out.
        assert!(ahead <= (64 << 10) + longest, "{ahead}");
    }
}

#[test]
fn an_item_without_end_stops_reading() {
    struct Endless(&'static [u8], u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1 == 0 {
                buffer[..self.0.len()].copy_from_slice(self.0);
                self.1 = self.0.len() as u64;
                return Ok(self.0.len());
            }
            self.1 += buffer.len() as u64;
            assert!(self.1 < 2 * ITEM, "read on and on");
            buffer.fill(b'x');
            Ok(buffer.len())
        }
    }
    for head in [&b"items:\n- data:\n    a: "[..], b"{\"items\":[{\"data\":\"", b"# "] {
        let error = objects(Endless(head, 0), "s", &mut |_| ControlFlow::Continue(())).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "one item is larger than 8 MiB");
    }
}

#[test]
fn a_failing_source_is_not_taken_for_bad_yaml() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => {
                    buffer[..7].copy_from_slice(b"items:\n");
                    Ok(7)
                }
                _ => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
            }
        }
    }
    let error = objects(Failing(0), "s", &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(
        matches!(error, DocumentError::Read(cause) if cause.kind() == io::ErrorKind::PermissionDenied)
    );
}

#[test]
fn every_kind_hands_out_its_certificates_by_their_places() {
    let pem = base64(PEM);
    let line = PEM.replace('\n', "\n    ");
    let text = format!(
        "apiVersion: v1
kind: ConfigMap
metadata:
  name: kube-root-ca.crt
  namespace: default
  annotations: {{last-applied: '{pem}'}}
data:
  ca.crt: |
    {line}
  note: nothing
binaryData:
  store.p12: MIIBAAAA
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: hooks}}
webhooks:
- name: a.example.com
  clientConfig: {{caBundle: {pem}}}
- name: b.example.com
  clientConfig: {{caBundle: '***'}}
- name: injected.example.com
  clientConfig: {{caBundle: Cg==}}
- clientConfig: {{caBundle: aGVsbG8=}}
- clientConfig: {{caBundle: /etc/kubernetes/pki/ca.crt}}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1.x}}
spec: {{caBundle: {pem}, group: x}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: x.y}}
spec: {{conversion: {{webhook: {{clientConfig: {{caBundle: {pem}}}}}}}}}
---
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: csr}}
spec: {{request: {request}}}
status: {{certificate: {pem}}}
---
kind: Pod
apiVersion: v1
metadata: {{name: pod}}
spec: {{containers: [{{args: [--x=y]}}]}}
---
kind: EgressSelectorConfiguration
apiVersion: apiserver.k8s.io/v1beta1
egressSelections: [{{name: cluster, connection: {{transport: {{tcp: {{tlsConfig: {{caBundle: /etc/kubernetes/pki}}}}}}}}}}]
",
        request = base64("-----BEGIN CERTIFICATE REQUEST-----\nAA==\n"),
    );
    let (items, result) = all(&text);
    assert_eq!(result.unwrap(), Extent { secrets: 0, others: 7, faulty: 1 });
    let found: Vec<(&str, Vec<&str>)> =
        items.iter().map(|item| (item.name.as_deref().unwrap(), keys(item))).collect();
    let hook = |name: &str| format!("webhooks[{name}].clientConfig.caBundle");
    let hooks = [hook("a.example.com"), hook("b.example.com"), hook("3")];
    assert_eq!(
        found,
        [
            ("kube-root-ca.crt", vec!["ca.crt", "store.p12"]),
            ("hooks", hooks.iter().map(String::as_str).collect()),
            ("v1.x", vec!["spec.caBundle"]),
            ("x.y", vec!["spec.conversion.webhook.clientConfig.caBundle"]),
            ("csr", vec!["status.certificate"]),
        ]
    );
    assert_eq!(items[1].entries[1].value, Err("is not base64".into()));
    assert_eq!(items[2].entries[0].value.as_ref().unwrap().as_slice(), PEM.as_bytes());
    // And so does any JSON.
    let cfssl = format!("[{{\"cert\": {PEM:?}, \"key\": \"x\"}}]");
    let (items, _) = all(&cfssl);
    assert_eq!((items[0].kind.as_deref(), keys(&items[0])), (None, vec!["cert"]));
    assert!(looks_like_objects(cfssl.as_bytes(), true));
    assert!(looks_like_objects(text.as_bytes(), true));
    assert!(!looks_like_objects(b"apiVersion: v1\nkind: Pod\n", true));
}

#[test]
fn secrets_are_told_from_other_files() {
    let json = serde_json_of(&list());
    for text in [
        list().as_str(),
        &json,
        "apiVersion: v1\ndata:\n  ca.crt: LS0t",
        "kind: Secret\n",
        "---\n# x\napiVersion: v1\nkind: Secret\n",
        "{\"apiVersion\":\"v1\",\"items\":[",
        "{\n    \"apiVersion\": \"v1\",\n    \"kind\": \"SecretList\"",
    ] {
        assert!(looks_like_secret(text.as_bytes()), "{text}");
    }
    for text in [
        "",
        PEM,
        "apiVersion: v1\nclusters:\n- cluster:\n",
        "apiVersion: v1\nkind: Config\n",
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: b\n",
        "{\"kind\":\"Config\"}",
        "\u{0}\u{1}",
        "apiVersion: certkit/v1\nkind: Cluster\n",
    ] {
        assert!(!looks_like_secret(text.as_bytes()), "{text}");
    }
}

#[test]
fn no_value_is_in_debug_output() {
    let (items, _) = all(&list());
    let shown = format!("{items:?}");
    assert!(
        shown.contains("ca.crt") && !shown.contains("BEGIN") && !shown.contains("45, 45, 45"),
        "{shown}"
    );
}

proptest::proptest! {
    #[test]
    fn no_input_makes_reading_panic(noise in proptest::prelude::any::<String>(), at in 0usize..700) {
        let list = list();
        let at = (0..=at.min(list.len())).rev().find(|at| list.is_char_boundary(*at)).unwrap_or(0);
        let _ = all(&format!("{}{noise}{}", &list[..at], &list[at..]));
        let _ = all(&format!("{{{noise}"));
    }
}

#[test]
fn items_of_a_list_of_one_kind_are_of_that_kind() {
    let (items, result) = all(&format!(
        r#"{{"kind":"ConfigMapList","apiVersion":"v1","metadata":{{"continue":"x"}},"items":[
           {{"metadata":{{"name":"cm","namespace":"n","uid":"7"}},"data":{{"ca.crt":"{pem}"}}}}]}}
           {{"kind":"SecretList","apiVersion":"v1","items":[
           {{"metadata":{{"name":"s"}},"data":{{"tls.crt":"{encoded}"}},"type":"kubernetes.io/tls"}}]}}"#,
        pem = PEM.replace('\n', "\\n"),
        encoded = base64(PEM),
    ));
    assert_eq!(result.unwrap(), Extent { secrets: 1, others: 1, faulty: 0 });
    assert_eq!(items[0].kind.as_deref(), Some("ConfigMap"));
    assert_eq!(items[0].uid.as_deref(), Some("7"));
    assert_eq!(keys(&items[0]), ["ca.crt"]);
    assert_eq!(items[1].secret_type.as_deref(), Some("kubernetes.io/tls"));
}

#[test]
fn when_values_changed_is_what_certkit_says_or_the_apiserver_put_down() {
    let managed = r#"[
        {"manager": "a", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:data": {"f:ca.crt": {}}}},
        {"manager": "b", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:binaryData": {}}},
        {"manager": "c", "time": "2026-01-04T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
        {"manager": "d", "time": "yesterday", "fieldsV1": {"f:data": {}}}]"#;
    let own = r#""labels": {"app.kubernetes.io/managed-by": "certkit"}"#;
    let says = r#""annotations": {"certkit/changed": "2026-01-01T12:00:00Z"}"#;
    let began = r#""creationTimestamp": "2026-01-01T00:00:00Z""#;
    for (metadata, changed) in [
        (format!("{began}, \"managedFields\": {managed}"), Some("2026-01-03T00:00:00Z")),
        (
            format!("{began}, {own}, {says}, \"managedFields\": {managed}"),
            Some("2026-01-01T12:00:00Z"),
        ),
        // Whoever else says so is not believed.
        (format!("{began}, {says}, \"managedFields\": {managed}"), Some("2026-01-03T00:00:00Z")),
        (format!("{began}, {own}, \"managedFields\": 7"), Some("2026-01-01T00:00:00Z")),
        (began.to_owned(), Some("2026-01-01T00:00:00Z")),
        ("\"labels\": null".to_owned(), None),
    ] {
        for kind in ["ConfigMap", "Secret"] {
            let text = format!(
                "{{\"apiVersion\": \"v1\", \"kind\": \"{kind}\", \"metadata\": {{\"name\": \"a\", {metadata}}}, \
                 \"data\": {{\"ca.crt\": \"eA==\"}}}}"
            );
            let mut said = Vec::new();
            objects(std::io::Cursor::new(text.clone()), "a", &mut |item| {
                said.push(item.changed.map(|at| at.to_string()));
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(said, [changed.map(str::to_owned)], "{text}");
        }
    }
}
