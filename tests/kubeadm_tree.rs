//! The real kubeadm and certkit on the same tree, in every algorithm kubeadm offers: what kubeadm made,
//! certkit takes over and renews; what certkit made or renewed, kubeadm reads and renews.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use support::{
    kubeadm::{self, Etcd, Kubeadm, PHASES},
    need, openssl, run, run_to_exit, temp_dir,
    tree::{difference, snapshot},
};

/// The certificates that kubeadm renews, and the CA of each.
const RENEWED: &[(&str, &str)] = &[
    ("pki/apiserver.crt", "pki/ca.crt"),
    ("pki/apiserver-kubelet-client.crt", "pki/ca.crt"),
    ("pki/front-proxy-client.crt", "pki/front-proxy-ca.crt"),
    ("pki/etcd/server.crt", "pki/etcd/ca.crt"),
    ("pki/etcd/peer.crt", "pki/etcd/ca.crt"),
    ("pki/etcd/healthcheck-client.crt", "pki/etcd/ca.crt"),
    ("pki/apiserver-etcd-client.crt", "pki/etcd/ca.crt"),
    ("admin.conf", "pki/ca.crt"),
    ("super-admin.conf", "pki/ca.crt"),
    ("controller-manager.conf", "pki/ca.crt"),
    ("scheduler.conf", "pki/ca.crt"),
];

/// What kubeadm leaves to the kubelet, and certkit renews.
const KUBELET: (&str, &str) = ("kubelet.conf", "pki/ca.crt");

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A certificate and its key, out of a pair of files or of a kubeconfig.
fn pair(tree: &Path, file: &str, scratch: &Path) -> (PathBuf, PathBuf) {
    let path = tree.join(file);
    if path.extension().is_some_and(|extension| extension == "crt") {
        return (path.clone(), path.with_extension("key"));
    }
    let content = fs::read_to_string(&path).unwrap();
    let part = |field: &str| {
        let line = content.lines().find_map(|l| l.trim().strip_prefix(field)).unwrap();
        let (encoded, decoded) = (scratch.join("encoded"), scratch.join(field));
        fs::write(&encoded, line.trim()).unwrap();
        let (from, to) = (encoded.to_str().unwrap(), decoded.to_str().unwrap());
        openssl(&["base64", "-d", "-A", "-in", from, "-out", to]);
        decoded
    };
    (part("client-certificate-data:"), part("client-key-data:"))
}

/// The public key, once openssl says that the certificate is of this CA and the private key is its own.
fn judged(tree: &Path, (file, ca): (&str, &str)) -> String {
    let scratch = temp_dir();
    let (cert, key) = pair(tree, file, scratch.path());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let ca = tree.join(ca);
    openssl(&["verify", "-x509_strict", "-CAfile", ca.to_str().unwrap(), cert]);
    let public = openssl(&["x509", "-noout", "-pubkey", "-in", cert]);
    assert_eq!(public, openssl(&["pkey", "-pubout", "-in", key]), "{file}");
    public
}

/// Who each certificate is for, as openssl tells it: what no renewal may change.
fn identity(tree: &Path, file: &str) -> String {
    let scratch = temp_dir();
    let (cert, _) = pair(tree, file, scratch.path());
    let shown = ["-subject", "-issuer", "-ext", "subjectAltName,extendedKeyUsage,keyUsage"];
    let arguments = ["x509", "-noout", "-in", cert.to_str().unwrap()];
    let mut lines: Vec<String> = openssl(&[&arguments[..], &shown].concat())
        .lines()
        .flat_map(|line| line.split(", "))
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines.join("\n")
}

/// The kind of a key, in kubeadm's words.
fn algorithm(public: &str) -> String {
    let scratch = temp_dir();
    let file = scratch.path().join("key");
    fs::write(&file, public).unwrap();
    let text = openssl(&["pkey", "-pubin", "-noout", "-text", "-in", file.to_str().unwrap()]);
    let first = text.lines().next().unwrap();
    let curve = text.lines().find_map(|line| line.strip_prefix("NIST CURVE: "));
    match curve {
        Some(curve) => format!("ECDSA-{}", curve.replace('-', "")),
        None => format!("RSA-{}", first.trim_matches(|c: char| !c.is_ascii_digit())),
    }
}

/// A row of `check-expiration -o json` of either program: end, CA, whether managed elsewhere, whether missing.
type Row = (String, String, bool, bool);

fn rows(output: &Output) -> BTreeMap<String, Row> {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr)));
    assert_eq!(report["kind"], "CertificateExpirationInfo");
    let list = |name: &str| report[name].as_array().unwrap().clone();
    let all = list("certificates").into_iter().chain(list("certificateAuthorities"));
    all.map(|row| {
        let word = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let flag = |field: &str| row[field].as_bool().unwrap();
        let said =
            (word("expirationDate"), word("caName"), flag("externallyManaged"), flag("missing"));
        (word("name"), said)
    })
    .collect()
}

/// Everything in the tree is right: for certkit, for openssl, and both programs tell the same dates.
/// Public keys by file.
fn all_right(
    made: &Kubeadm,
    expected: &[(&str, &str)],
    findings: &[&str],
) -> BTreeMap<String, String> {
    let tree = made.machine.kubernetes();
    let keys = expected.iter().map(|row| (row.0.to_owned(), judged(&tree, *row))).collect();

    let ours = rows(&run(&mut made.certkit(&["check-expiration", "-o", "json"])));
    let theirs = rows(&run(&mut made.kubeadm(&["certs", "check-expiration", "-o", "json"])));
    assert!(theirs.len() >= 9, "{theirs:?}");
    for (name, row) in &theirs {
        assert_eq!(Some(row), ours.get(name), "{name}");
    }
    // What certkit sees beyond that is what kubeadm does not look after.
    let beyond: BTreeSet<&str> =
        ours.keys().filter(|name| !theirs.contains_key(*name)).map(String::as_str).collect();
    let allowed = [
        "kubelet.conf",
        "kubelet",
        "controller-manager",
        "scheduler",
        "apiserver-etcd-client",
        "etcd-ca",
    ];
    assert!(beyond.is_subset(&allowed.into()), "{beyond:?}");
    assert!(beyond.contains("kubelet.conf"), "{beyond:?}");

    let exit = i32::from(!findings.is_empty());
    let output = run_to_exit(&mut made.certkit(&["verify", "-o", "json"]), exit);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] != "info")
        .map(|finding| finding["code"].as_str().unwrap())
        .collect();
    assert_eq!(found, findings, "{report:#}");
    keys
}

/// certkit's `rotate`, which must touch these and nothing else.
fn rotated(made: &Kubeadm, arguments: &[&str], expected: &[(&str, &str)]) {
    let tree = made.machine.kubernetes();
    let identities: Vec<_> = expected.iter().map(|(file, _)| identity(&tree, file)).collect();
    let before = snapshot(&tree);
    run(&mut made.certkit(&[&["rotate"], arguments].concat()));
    let changed = changed(&before, &tree);
    let allowed = |file: &String| {
        expected.iter().any(|(e, _)| *e == file || e.replace(".crt", ".key") == *file)
    };
    assert!(changed.iter().all(allowed), "{changed:?}");
    for ((file, _), identity_before) in expected.iter().zip(identities) {
        assert!(changed.iter().any(|f| f == file), "{file} is not renewed: {changed:?}");
        assert_eq!(identity(&tree, file), identity_before, "{file}");
    }
}

fn changed(before: &BTreeMap<PathBuf, support::tree::Entry>, tree: &Path) -> Vec<String> {
    let all = difference(before, &snapshot(tree)).into_iter();
    all.filter(|path| !path.starts_with(".certkit")).collect()
}

/// Nothing is due: `rotate` without names changes nothing.
fn nothing_due(made: &Kubeadm) {
    let tree = made.machine.kubernetes();
    let before = snapshot(&tree);
    run(&mut made.certkit(&["rotate"]));
    assert_eq!(changed(&before, &tree), Vec::<String>::new());
}

fn taken_over(algorithm_name: &str, etcd: Etcd) {
    if need("openssl").is_none() {
        return;
    }
    let Some(made) = Kubeadm::boot(algorithm_name, etcd) else { return };
    made.init(PHASES);
    let leaves: Vec<(&str, &str)> = RENEWED
        .iter()
        .filter(|(_, ca)| etcd == Etcd::Stacked || !ca.contains("etcd"))
        .copied()
        .collect();
    let all: Vec<(&str, &str)> = leaves.iter().copied().chain([KUBELET]).collect();
    // Kubeadm's peers have no name of their own: known, and no mistake of this tree.
    let findings: &[&str] = if etcd == Etcd::Stacked { &["etcd-peer-open"] } else { &[] };
    let tree = made.machine.kubernetes();

    let before = snapshot(&tree);
    run(&mut made.certkit(&["init", "--adopt"]));
    assert_eq!(changed(&before, &tree), ["certkit.yaml"]);
    let first = all_right(&made, &all, findings);
    nothing_due(&made);

    // The manifests name the files that are there; what they leave open is said, none of it critical.
    let mut verify = made.certkit(&["verify"]);
    for manifest in fs::read_dir(tree.join("manifests")).unwrap() {
        verify
            .arg("--flags")
            .arg(Path::new("/etc/kubernetes/manifests").join(manifest.unwrap().file_name()));
    }
    let said = text(&run_to_exit(&mut verify, 1).stdout);
    assert!(said.contains(" 0 critical") && said.contains("kubelet-ca-missing"), "{said}");

    // Long keys take their time to make; for them, one round of new ones is enough, at the end.
    let is_quick = etcd == Etcd::Stacked && !["RSA-3072", "RSA-4096"].contains(&algorithm_name);
    if is_quick {
        rotated(&made, &["--all"], &all);
    }
    let second = all_right(&made, &all, findings);
    // etcd reads its pairs at every handshake: their keys stay.
    let kept = |file: &str| ["pki/etcd/server.crt", "pki/etcd/peer.crt"].contains(&file);
    for (file, _) in &all {
        assert_eq!(first[*file] == second[*file], kept(file) || !is_quick, "{file}");
    }
    rotated(&made, &["--all", "--reuse-key"], &all);
    assert_eq!(all_right(&made, &all, findings), second);

    // kubeadm renews what certkit renewed, and certkit finds that right and nothing to do.
    let before = snapshot(&tree);
    let identities: Vec<_> = leaves.iter().map(|(file, _)| identity(&tree, file)).collect();
    run(&mut made.kubeadm(&["certs", "renew", "all"]));
    let renewed = changed(&before, &tree);
    assert!(leaves.iter().all(|(file, _)| renewed.iter().any(|f| f == file)), "{renewed:?}");
    for ((file, _), before) in leaves.iter().zip(identities) {
        assert_eq!(identity(&tree, file), before, "{file}");
    }
    let third = all_right(&made, &all, findings);
    assert!(leaves.iter().all(|(file, _)| third[*file] != second[*file]));
    nothing_due(&made);

    // And certkit what kubeadm renewed.
    rotated(&made, &["--all", "--new-key"], &all);
    let fourth = all_right(&made, &all, findings);
    assert!(all.iter().all(|(file, _)| fourth[*file] != third[*file]), "every key is a new one");
    for public in fourth.values() {
        assert_eq!(algorithm(public), algorithm_name);
    }
}

#[test]
fn kubeadms_ecdsa_p256_tree_is_taken_over() {
    taken_over("ECDSA-P256", Etcd::Stacked);
}

#[test]
fn kubeadms_ecdsa_p384_tree_is_taken_over() {
    taken_over("ECDSA-P384", Etcd::Stacked);
}

#[test]
fn kubeadms_rsa_2048_tree_is_taken_over() {
    taken_over("RSA-2048", Etcd::Stacked);
}

#[test]
fn kubeadms_rsa_3072_tree_is_taken_over() {
    taken_over("RSA-3072", Etcd::Stacked);
}

#[test]
fn kubeadms_rsa_4096_tree_is_taken_over() {
    taken_over("RSA-4096", Etcd::Stacked);
}

#[test]
fn kubeadms_tree_with_an_etcd_elsewhere_is_taken_over() {
    for algorithm in kubeadm::ALGORITHMS {
        taken_over(algorithm, Etcd::External);
    }
}

/// certkit's own tree on kubeadm's machine.
fn made_by_certkit(style: &str) -> Option<Kubeadm> {
    need("openssl")?;
    let made = Kubeadm::boot("RSA-2048", Etcd::Stacked)?;
    let arguments = ["init", "--config", "/etc/kubeadm.yaml", "--kubeconfig-style", style];
    run(&mut made.certkit(&arguments));
    Some(made)
}

#[test]
fn kubeadm_reads_and_renews_what_certkit_made() {
    let Some(made) = made_by_certkit("embedded") else { return };
    let all: Vec<(&str, &str)> = RENEWED.iter().copied().chain([KUBELET]).collect();
    let tree = made.machine.kubernetes();
    let first = all_right(&made, &all, &[]);
    // kubeadm's own phases take every piece as it is, and write manifests beside it.
    let before = snapshot(&tree);
    made.init(PHASES);
    let manifests = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    let mut added = vec!["manifests".to_owned()];
    added.extend(manifests.map(|name| format!("manifests/{name}.yaml")));
    let mut found = changed(&before, &tree);
    found.sort();
    assert_eq!(found, added);

    run(&mut made.kubeadm(&["certs", "renew", "all"]));
    let second = all_right(&made, &all, &[]);
    for (file, _) in RENEWED {
        assert_ne!(first[*file], second[*file], "{file}");
    }
    nothing_due(&made);
    rotated_with_more(&made, &["--all", "--new-key"]);
    all_right(&made, &all, &[]);
}

/// `rotate` of a tree that holds more than kubeadm knows of.
fn rotated_with_more(made: &Kubeadm, arguments: &[&str]) {
    let more = [KUBELET, ("pki/kubelet.crt", "pki/ca.crt")];
    let more = more.into_iter().chain([("pki/controller-manager.crt", "pki/ca.crt")]);
    let more = more.chain([("pki/scheduler.crt", "pki/ca.crt")]);
    let all: Vec<(&str, &str)> = RENEWED.iter().copied().chain(more).collect();
    rotated(made, arguments, &all);
}

#[test]
fn kubeadm_takes_no_kubeconfig_that_names_files_and_renews_the_rest() {
    let Some(made) = made_by_certkit("files") else { return };
    let tree = made.machine.kubernetes();
    let refused = |arguments: &[&str]| {
        let output = run_to_exit(&mut made.kubeadm(arguments), 1);
        let said = text(&output.stderr);
        assert!(said.contains("does not have an embedded server certificate"), "{said}");
        said
    };
    // As docs/kubeadm-differences.md has it.
    refused(&["certs", "check-expiration"]);
    for name in ["controller-manager.conf", "scheduler.conf"] {
        let before = snapshot(&tree);
        assert!(refused(&["certs", "renew", name]).contains(name));
        assert_eq!(changed(&before, &tree), Vec::<String>::new());
    }
    let embedded = RENEWED
        .iter()
        .filter(|(file, _)| !["controller-manager.conf", "scheduler.conf"].contains(file));
    for (file, _) in embedded {
        let before = snapshot(&tree);
        let name = file.trim_start_matches("pki/").trim_end_matches(".crt").replace('/', "-");
        run(&mut made.kubeadm(&["certs", "renew", &name]));
        assert!(changed(&before, &tree).iter().any(|f| f == file), "{file}");
        judged(&tree, (file, RENEWED.iter().find(|(f, _)| f == file).unwrap().1));
    }
    run(&mut made.certkit(&["verify"]));
    nothing_due(&made);
}

#[test]
fn keys_that_kubeadm_makes_without_its_configuration_are_right_and_go_back_to_what_is_declared() {
    if need("openssl").is_none() {
        return;
    }
    let Some(made) = Kubeadm::boot("ECDSA-P256", Etcd::Stacked) else { return };
    made.init(PHASES);
    run(&mut made.certkit(&["init", "--adopt"]));
    let all: Vec<(&str, &str)> = RENEWED.iter().copied().chain([KUBELET]).collect();
    // Without the cluster's API kubeadm falls back to its defaults.
    run(&mut made.kubeadm_alone(&["certs", "renew", "all"]));
    let keys = all_right(&made, &all, &["etcd-peer-open"]);
    assert!(RENEWED.iter().all(|(file, _)| algorithm(&keys[*file]) == "RSA-2048"));
    rotated(&made, &[], RENEWED);
    let keys = all_right(&made, &all, &["etcd-peer-open"]);
    assert!(keys.values().all(|public| algorithm(public) == "ECDSA-P256"));
    nothing_due(&made);
}
