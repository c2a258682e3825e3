use std::{fs, path::Path};

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(root.join("tests/fixtures/kubeadm-yaml").join(name)).unwrap()
}

const FIXTURES: [&str; 5] = ["admin", "controller-manager", "kubelet", "scheduler", "super-admin"];

fn data(material: &Option<Material>) -> Zeroizing<Vec<u8>> {
    match material {
        Some(Material::Data(octets)) => octets.clone(),
        other => panic!("no data: {other:?}"),
    }
}

#[test]
fn what_is_rendered_is_kubeadms_octet_for_octet() {
    for folder in ["ecdsa-p256", "rsa-2048"] {
        for name in FIXTURES {
            let bytes = fixture(&format!("{folder}/{name}.conf"));
            let view = parse(&bytes).unwrap();
            let (cluster, user) = (view.cluster(None).unwrap(), view.user(None).unwrap());
            let config = Kubeconfig {
                cluster: cluster.name.clone(),
                server: cluster.server.clone().unwrap(),
                user: user.name.clone(),
                authority: Authority::Data(data(&cluster.ca).to_vec()),
                credential: ClientCredential::Data {
                    cert: data(&user.cert).to_vec(),
                    key: data(&user.key),
                },
            };
            assert!(data(&user.cert).starts_with(b"-----BEGIN CERTIFICATE-----"));
            let (ours, theirs) = (render(&config), String::from_utf8(bytes).unwrap());
            assert!(ours.as_str() == theirs, "{folder}/{name}.conf");
        }
    }
}

/// A kubeconfig with all that people and tools put into one.
const RICH: &str = "\
# my clusters
apiVersion: v1
kind: Config   # always
preferences: {colors: true}
extensions:
- name: tool.example/x
  extension: {z: 1, a: [1, 2]}
clusters:
- name: prod
  cluster:
    server: \"https://api:6443\"
    certificate-authority-data: b2xkY2E=   # the CA
    proxy-url: http://proxy
    unknown-field: yes
- name: stage
  cluster: {server: 'https://stage', certificate-authority-data: 'b2xkY2E=', tls-server-name: s}
- name: insecure
  cluster:
    insecure-skip-tls-verify: true
    certificate-authority: /etc/ca.crt
contexts:
- {name: prod, context: {cluster: prod, user: me, namespace: kube-system}}
- {name: stage, context: {cluster: stage, user: other}}
current-context: prod
users:
- name: me
  user:
    client-certificate-data: b2xk
    client-key-data: \"b2xk\" # secret

- name: other
  user: {client-certificate-data: b2xk, client-key-data: b2xk}
- name: block
  user:
    client-certificate-data: |
      b2
      xk

    client-key-data: >- # folded
      b2xk
- name: cloud
  user:
    exec: {command: aws, apiVersion: v1}
    client-certificate: rel/cert.pem
    client-key: /abs/key.pem
- name: nobody
  user:
";

fn edit_of(user: Option<&str>) -> Edit {
    Edit {
        user: user.map(str::to_owned),
        client_certificate_data: Some(b"new certificate".to_vec()),
        client_key_data: Some(Zeroizing::new(b"new key".to_vec())),
        certificate_authority_data: None,
        server: None,
    }
}

const NEW_CERT: &str = "bmV3IGNlcnRpZmljYXRl";
const NEW_KEY: &str = "bmV3IGtleQ==";

fn edited(text: &str, change: &Edit) -> String {
    let changed = edit(text.as_bytes(), change).unwrap_or_else(|error| panic!("{error}\n{text}"));
    String::from_utf8(changed.to_vec()).unwrap()
}

#[test]
fn everything_in_a_kubeconfig_is_seen() {
    let view = parse(RICH.as_bytes()).unwrap();
    assert_eq!(view.current().unwrap().user.as_deref(), Some("me"));
    let names = |all: Vec<&String>| all.into_iter().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(names(view.clusters.iter().map(|c| &c.name).collect()), "prod stage insecure");
    assert_eq!(names(view.users.iter().map(|u| &u.name).collect()), "me other block cloud nobody");
    assert_eq!(data(&view.cluster(None).unwrap().ca).as_slice(), b"oldca");
    assert_eq!(view.clusters[1].tls_server_name.as_deref(), Some("s"));
    assert!(view.clusters[2].insecure_skip_verify && !view.clusters[1].insecure_skip_verify);
    assert_eq!(view.clusters[2].ca, Some(Material::File("/etc/ca.crt".into())));
    assert_eq!(data(&view.user(Some("block")).unwrap().cert).as_slice(), b"old");
    let cloud = view.user(Some("cloud")).unwrap();
    assert_eq!(cloud.cert, Some(Material::File("rel/cert.pem".into())));
    assert_eq!(cloud.other, ["exec"]);
    let nobody = view.user(Some("nobody")).unwrap();
    assert_eq!((&nobody.cert, &nobody.key), (&None, &None));
}

#[test]
fn an_edit_changes_its_values_and_no_other_octet() {
    let me = edited(RICH, &edit_of(None));
    let wanted = RICH
        .replacen(
            "client-certificate-data: b2xk\n",
            &format!("client-certificate-data: {NEW_CERT}\n"),
            1,
        )
        .replacen("client-key-data: \"b2xk\" #", &format!("client-key-data: \"{NEW_KEY}\" #"), 1);
    assert_eq!(me, wanted);
    assert_eq!(edited(RICH, &edit_of(Some("me"))), wanted);
    let other = edited(RICH, &edit_of(Some("other")));
    let wanted = RICH.replacen(
        "{client-certificate-data: b2xk, client-key-data: b2xk}",
        &format!("{{client-certificate-data: {NEW_CERT}, client-key-data: {NEW_KEY}}}"),
        1,
    );
    assert_eq!(other, wanted);
}

#[test]
fn a_block_keeps_its_header() {
    let wanted = RICH
        .replacen("      b2\n      xk\n\n", &format!("      {NEW_CERT}\n\n"), 1)
        .replacen(">- # folded\n      b2xk\n", &format!(">- # folded\n      {NEW_KEY}\n"), 1);
    assert_eq!(edited(RICH, &edit_of(Some("block"))), wanted);
}

#[test]
fn the_ca_of_one_cluster_changes() {
    let ca = |cluster: Option<&str>| Edit {
        certificate_authority_data: Some((cluster.map(str::to_owned), b"new key".to_vec())),
        ..Edit::default()
    };
    let prod = RICH.replacen("b2xkY2E=   #", &format!("{NEW_KEY}   #"), 1);
    assert_eq!(edited(RICH, &ca(None)), prod);
    let stage = RICH.replacen("'b2xkY2E='", &format!("'{NEW_KEY}'"), 1);
    assert_eq!(edited(RICH, &ca(Some("stage"))), stage);
}

#[test]
fn line_ends_byte_order_mark_and_json_stay() {
    let dos = format!("\u{feff}{}", RICH.replace('\n', "\r\n"));
    let changed = edited(&dos, &edit_of(None));
    assert_eq!(
        changed.replace("\r\n", "\n").trim_start_matches('\u{feff}'),
        edited(RICH, &edit_of(None))
    );
    assert!(changed.starts_with('\u{feff}') && !changed.replace("\r\n", "").contains('\n'));
    let json = "{\"kind\":\"Config\",\"users\":[{\"name\":\"me\",\"user\":{\"client-certificate-data\":\"b2xk\",\
                \"client-key-data\":\"b2xk\",\"x\":null}}],\"current-context\":\"\"}";
    let wanted = json.replacen("b2xk", NEW_CERT, 1).replacen("b2xk", NEW_KEY, 1);
    assert_eq!(edited(json, &edit_of(Some("me"))), wanted);
    let changed = edited(&RICH.replace('\n', "\r\n"), &edit_of(Some("block")));
    assert!(changed.contains(&format!("|\r\n      {NEW_CERT}\r\n\r\n    client-key-data")));
}

#[test]
fn what_cannot_be_changed_alone_is_refused() {
    let user = |fields: &str| format!("kind: Config\nusers:\n- name: me\n  user: {fields}\n");
    for (text, wanted) in [
        (user("{client-key-data: b2xk}"), "has no client-certificate-data of user `me`"),
        (
            user("{client-certificate: /a, client-key: /b}"),
            "has no client-certificate-data of user",
        ),
        (
            user("{client-certificate-data: [], client-key-data: x}"),
            "4:35: client-certificate-data of user `me` is a list, not a text",
        ),
        (
            user("{client-certificate-data: &a b2xk, client-key-data: *a}"),
            "cannot be changed in place: it has",
        ),
        (
            user("&u {client-certificate-data: b2xk, client-key-data: b2xk}\nx: *u"),
            "it has an anchor",
        ),
        (user("{client-certificate-data: !!str b2xk, client-key-data: b2xk}"), "it has a tag"),
        (user("[]"), "4:9: users[0].user is a list, not a mapping"),
        ("kind: Config\nusers: []\n".to_owned(), "has no user `me`"),
        (user("{}\n- name: me\n  user: {}"), "user `me` stands here a second time"),
    ] {
        let error = edit(text.as_bytes(), &edit_of(Some("me"))).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: wanted {wanted} in {error}");
    }
    let error = edit(user("{}").as_bytes(), &edit_of(None)).unwrap_err();
    assert_eq!(error.to_string(), "the kubeconfig has no current-context");
}

#[test]
fn what_is_no_kubeconfig_says_why() {
    for (text, wanted) in [
        ("", "it is empty"),
        ("hello", "it is a text"),
        ("a: 1", "neither clusters nor users"),
        ("kind: Secret\napiVersion: v1\n", "not `v1` and `Config`"),
        ("kind: Config\n---\nkind: Config\n", "several documents"),
        ("kind: Config\nusers: {}\n", "2:8: users is a mapping, not a list"),
        ("kind: Config\nusers: [{user: {}}]\n", "has no users[0].name"),
        (
            "kind: Config\nusers: [{name: a, user: {client-key-data: 'b2x'}}]\n",
            "client-key-data of user `a` is not base64",
        ),
        (
            "kind: Config\nclusters: [{name: a, cluster: {certificate-authority-data: '%'}}]\n",
            "certificate-authority-data of cluster `a` is not base64",
        ),
        ("kind: [\n", "cannot be parsed"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: wanted {wanted} in {error}");
    }
    assert!(parse(b"kind: \xff").unwrap_err().to_string().contains("not UTF-8, from octet 6"));
}

#[test]
fn secrets_are_not_in_debug_output() {
    let view = parse(RICH.as_bytes()).unwrap();
    let shown = format!("{view:?}");
    assert!(shown.contains("Data(3 octets)") && !shown.contains("111, 108, 100"), "{shown}");
    let credential = ClientCredential::Data { cert: vec![7; 3], key: Zeroizing::new(vec![9; 3]) };
    assert!(!format!("{credential:?}").contains('9'));
}

/// Strings, and pieces of YAML that stand around the values.
mod random {
    use proptest::{collection, prelude::*};

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z]{1,6}", "[ -~ä]{1,10}", Just("yes".to_owned()), Just("<<".to_owned())]
    }

    /// A value in one of the notations people use, at this indentation.
    fn written(style: u8, indent: usize) -> String {
        let pad = " ".repeat(indent + 2);
        match style {
            0 => "b2xk".to_owned(),
            1 => "'b2xk'".to_owned(),
            2 => "\"b2xk\"".to_owned(),
            3 => format!("|\n{pad}b2\n{pad}xk"),
            4 => format!(">-\n{pad}b2xk\n"),
            _ => format!("\n{pad}b2xk"),
        }
    }

    prop_compose! {
        /// A kubeconfig of several users and clusters with comments, blank lines and unknown fields.
        fn config()(
            names in collection::btree_set(name(), 1..5),
            styles in collection::vec(0u8..6, 10),
            noise in collection::vec(prop_oneof![
                Just(String::new()), "# [ -~ä]{0,20}\n", Just("\n".to_owned())], 12),
            extra in "[ -~]{0,12}",
            dos in any::<bool>(),
        ) -> (Vec<String>, String) {
            let names: Vec<String> = names.into_iter().collect();
            let mut text = format!("{}kind: Config\nclusters:\n", noise[0]);
            for (i, name) in names.iter().enumerate() {
                let name = scalar(name);
                text.push_str(&format!(
                    "{}- name: {name} # c\n  cluster:\n    certificate-authority-data: {}\n    \
                     x-extra: {}\n", noise[i + 1], written(styles[i], 4), scalar(&extra)));
            }
            text.push_str(&format!("{}users:\n", noise[6]));
            for (i, name) in names.iter().enumerate() {
                let name = scalar(name);
                text.push_str(&format!(
                    "- user:\n    client-key-data: {}\n{}    client-certificate-data: {}\n    \
                     extensions: [{{name: {}}}]\n  name: {name}\n",
                    written(styles[i + 5], 4), noise[i + 7], written(styles[i], 4), scalar(&extra)));
            }
            (names, if dos { text.replace('\n', "\r\n") } else { text })
        }
    }

    proptest! {
        #[test]
        fn an_edit_changes_nothing_else((names, text) in config(), which in any::<prop::sample::Index>()) {
            let name = which.get(&names).clone();
            let change = Edit {
                certificate_authority_data: Some((Some(name.clone()), b"new ca".to_vec())),
                ..edit_of(Some(&name))
            };
            let before = parse(text.as_bytes()).unwrap();
            let changed = edit(text.as_bytes(), &change).unwrap();
            let after = parse(&changed).unwrap();
            for (old, new) in before.users.iter().zip(&after.users) {
                if old.name == name {
                    prop_assert_eq!(data(&new.cert).to_vec(), b"new certificate".to_vec());
                    prop_assert_eq!(data(&new.key).to_vec(), b"new key".to_vec());
                } else {
                    prop_assert_eq!(old, new);
                }
            }
            for (old, new) in before.clusters.iter().zip(&after.clusters) {
                let wanted = if old.name == name { &b"new ca"[..] } else { b"old" };
                prop_assert_eq!(data(&new.ca).to_vec(), wanted.to_vec());
            }
            // Put back what was there, in the notation it has now: the same octets again.
            let back = Edit {
                user: Some(name.clone()),
                client_certificate_data: Some(b"old".to_vec()),
                client_key_data: Some(Zeroizing::new(b"old".to_vec())),
                certificate_authority_data: Some((Some(name), b"old".to_vec())),
                server: None,
            };
            let restored = edit(&changed, &back).unwrap();
            let restored = String::from_utf8(restored.to_vec()).unwrap();
            let joined = |text: &str| text.replace("b2\r\n      xk", "b2xk").replace("b2\n      xk", "b2xk");
            prop_assert_eq!(joined(&restored), joined(&text));
        }

        #[test]
        fn no_input_makes_reading_panic(noise in any::<String>(), at in any::<prop::sample::Index>()) {
            let at = at.index(RICH.len());
            let mixed = format!("{}{noise}{}", &RICH[..at], &RICH[at..]);
            let _ = parse(mixed.as_bytes());
            let _ = edit(mixed.as_bytes(), &edit_of(None));
        }
    }
}

/// kubectl, where it is installed. On CI it must be.
fn kubectl() -> Option<std::process::Command> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("kubectl").is_file()));
    assert!(found || std::env::var_os("CI").is_none(), "needs kubectl");
    if !found {
        eprintln!("SKIPPED: needs kubectl");
    }
    found.then(|| std::process::Command::new("kubectl"))
}

#[test]
fn kubectl_reads_what_is_rendered() {
    if kubectl().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    for name in
        ["prod", "yes", "1_000", "null", "=", "<<", "0x1f", "a b: c # d", "ünï\"'\\", "190:20:30"]
    {
        for embed in [true, false] {
            let (authority, credential) = match embed {
                true => (
                    Authority::Data(b"ca".to_vec()),
                    ClientCredential::Data {
                        cert: b"cert".to_vec(),
                        key: Zeroizing::new(b"key".to_vec()),
                    },
                ),
                false => (
                    Authority::File(format!("/x/{name}.crt")),
                    ClientCredential::Files { cert: "/x/c.pem".into(), key: format!("/{name}") },
                ),
            };
            let config = Kubeconfig {
                cluster: name.to_owned(),
                server: "https://[fd00::1]:6443".into(),
                user: format!("{name}-user"),
                authority,
                credential,
            };
            fs::write(&file, render(&config).as_bytes()).unwrap();
            let mut command = kubectl().unwrap();
            command.args(["config", "view", "--raw", "-o", "json", "--kubeconfig"]).arg(&file);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {said}");
            // kubectl's JSON is what its own parser made of the file.
            let (theirs, ours) =
                (parse(&output.stdout).unwrap(), parse(&fs::read(&file).unwrap()).unwrap());
            assert_eq!(theirs, ours, "{name}");
            assert_eq!(theirs.user(None).unwrap().name, config.user);
        }
    }
}
