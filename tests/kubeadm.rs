//! What certkit makes beside what the real kubeadm made of the same configuration, field by field, with
//! openssl reading both. `docs/kubeadm-differences.md` lists the differences that are meant.

mod support;

use std::{collections::BTreeSet, fs, path::Path};

use support::{certkit, need, openssl, run, temp_dir};

/// Certificate files, and kubeconfigs with an embedded certificate.
const CERTIFICATES: &[&str] = &[
    "pki/ca.crt",
    "pki/apiserver.crt",
    "pki/apiserver-kubelet-client.crt",
    "pki/front-proxy-ca.crt",
    "pki/front-proxy-client.crt",
    "pki/etcd/ca.crt",
    "pki/etcd/server.crt",
    "pki/etcd/peer.crt",
    "pki/etcd/healthcheck-client.crt",
    "pki/apiserver-etcd-client.crt",
    "admin.conf",
    "super-admin.conf",
    "controller-manager.conf",
    "scheduler.conf",
    "kubelet.conf",
];

#[test]
fn certificates_are_what_kubeadm_makes() {
    if need("openssl").is_none() {
        return;
    }
    for algorithm in ["ecdsa-p256", "rsa-2048"] {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/kubeadm-1.36")
            .join(algorithm);
        let ours = temp_dir();
        run(certkit()
            .arg("init")
            .arg("--dir")
            .arg(ours.path())
            .arg("--config")
            .arg(fixture.join("kubeadm.yaml"))
            .args(["--kubeconfig-style", "embedded"]));
        let scratch = temp_dir();
        for file in CERTIFICATES {
            let theirs = fields(&fixture.join(file), scratch.path());
            let mut ours = fields(&ours.path().join(file), scratch.path());
            if *file == "pki/etcd/peer.crt" {
                // Meant: the name by which etcd tells peers from other certificates of its CA.
                let marker = "san DNS:etcd-peer.kubernetes.internal".to_owned();
                assert!(ours.remove(&marker), "{ours:?}");
            }
            let only_ours: Vec<_> = ours.difference(&theirs).collect();
            let only_theirs: Vec<_> = theirs.difference(&ours).collect();
            assert!(
                only_ours.is_empty() && only_theirs.is_empty(),
                "{algorithm} {file}: certkit alone {only_ours:?}, kubeadm alone {only_theirs:?}"
            );
        }
        // Keys are of the same kind, down to the PEM label.
        for key in
            ["pki/ca.key", "pki/apiserver.key", "pki/etcd/server.key", "pki/sa.key", "pki/sa.pub"]
        {
            let label = |dir: &Path| {
                fs::read_to_string(dir.join(key)).unwrap().lines().next().map(String::from)
            };
            assert_eq!(label(ours.path()), label(&fixture), "{key}");
        }
        // Kubeconfigs differ in credentials only.
        for file in CERTIFICATES.iter().filter(|f| f.ends_with(".conf")) {
            let blank = |dir: &Path| {
                fs::read_to_string(dir.join(file))
                    .unwrap()
                    .lines()
                    .map(|line| line.split("-data: ").next().unwrap_or(line).to_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(blank(ours.path()), blank(&fixture), "{algorithm} {file}");
        }
    }
}

/// What a certificate says, one fact an entry, without what must differ: serial, key, signature, and the
/// dates, of which only the length of the term stays.
fn fields(file: &Path, scratch: &Path) -> BTreeSet<String> {
    let pem = scratch.join("certificate.pem");
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let content =
        match text.lines().find_map(|l| l.trim().strip_prefix("client-certificate-data: ")) {
            Some(data) => {
                let encoded = scratch.join("data");
                fs::write(&encoded, data).unwrap();
                openssl(&["base64", "-d", "-A", "-in", &encoded.display().to_string()])
            }
            None => text,
        };
    fs::write(&pem, content).unwrap();
    let path = pem.display().to_string();
    let text = openssl(&["x509", "-in", &path, "-noout", "-text", "-nameopt", "RFC2253,show_type"]);
    let mut facts = BTreeSet::new();
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        if let Some(usage) = line.strip_prefix("X509v3 ").filter(|l| *l != "extensions:") {
            let value = lines.peek().copied().unwrap_or_default();
            if usage.starts_with("Subject Alternative Name") {
                facts.extend(
                    value.split(", ").map(|san| format!("san {}", san.replace("IP Address", "IP"))),
                );
            } else if usage.contains("Key Identifier") {
                facts.insert(format!("{} of {} octets", usage, value.len().div_ceil(3)));
            } else {
                facts.insert(format!("{usage} {value}"));
            }
        }
        for plain in [
            "Version:",
            "Signature Algorithm:",
            "Issuer:",
            "Subject:",
            "Public Key Algorithm:",
            "Public-Key:",
            "ASN1 OID:",
            "Exponent:",
        ] {
            if line.starts_with(plain) {
                facts.insert(line.to_owned());
            }
        }
    }
    let date = |which: &str| {
        let line = openssl(&["x509", "-in", &path, "-noout", which, "-dateopt", "iso_8601"]);
        let date =
            line.trim().split_once('=').map(|(_, d)| d.replace(' ', "T")).unwrap_or_default();
        date.parse::<certkit::model::timestamp::Timestamp>()
            .unwrap_or_else(|e| panic!("{line}: {e}"))
    };
    let (from, to) = (date("-startdate"), date("-enddate"));
    // kubeadm reads the clock once for notBefore and again for notAfter.
    facts.insert(format!("term {} minutes", to.since(from).0 / 60));
    // The key identifiers themselves are the CA's key, which differs; that AKI is the CA's SKI is what
    // openssl verify -x509_strict holds in tests/init.rs.
    facts
}
