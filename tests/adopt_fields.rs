//! What `certkit init --adopt` takes as it is, and what it cannot: said field by field, never silently wrong.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use support::{
    certkit, need, openssl, run, run_to_exit, stdout, temp_dir,
    tree::{copy, difference, snapshot},
};
use tempfile::TempDir;

/// A copy of what kubeadm made, with its manifests.
fn kubeadm() -> TempDir {
    let dir = temp_dir();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36");
    copy(&from.join("ecdsa-p256"), dir.path());
    fs::create_dir(dir.path().join("manifests")).unwrap();
    copy(&from.join("manifests"), &dir.path().join("manifests"));
    dir
}

fn adopt(dir: &Path) -> Command {
    let mut command = certkit();
    command.args(["init", "--adopt", "-o", "json", "--dir"]).arg(dir);
    command
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// The one row about this field of this file.
#[track_caller]
fn row<'r>(report: &'r Value, list: &str, file: &str, field: &str) -> &'r Value {
    let rows = report[list].as_array().expect("a list");
    let mut found = rows.iter().filter(|row| row["file"] == file && row["field"] == field);
    let row = found.next().unwrap_or_else(|| panic!("no row of {file} {field} in {rows:#?}"));
    assert_eq!(found.next(), None);
    for column in ["found", "declared", "remedy"] {
        assert!(row[column].as_str().is_some_and(|text| !text.is_empty()), "{column}: {row}");
    }
    row
}

/// Signs the pair `stem` again as somebody with openssl or cfssl would.
fn sign(dir: &Path, stem: &str, ca: &str, subject: &str, extensions: &str) {
    let at = |name: &str| dir.join("pki").join(name).display().to_string();
    let (cert, key) = (at(&format!("{stem}.crt")), at(&format!("{stem}.key")));
    let names = openssl(&["x509", "-in", &cert, "-noout", "-ext", "subjectAltName"]);
    let names = names.lines().nth(1).map(|line| line.trim().replace("IP Address", "IP"));
    let names = names.map(|names| format!("subjectAltName={names}\n")).unwrap_or_default();
    let (csr, ext) = (at("csr"), at("ext"));
    fs::write(&ext, format!("{extensions}\n{names}")).unwrap();
    openssl(&["req", "-new", "-utf8", "-key", &key, "-subj", subject, "-out", &csr]);
    let (ca_cert, ca_key) = (at(&format!("{ca}.crt")), at(&format!("{ca}.key")));
    let mut words = vec!["x509", "-req", "-in", &csr, "-CA", &ca_cert, "-CAkey", &ca_key];
    words.extend(["-days", "300", "-extfile", &ext, "-out", &cert]);
    openssl(&words);
    fs::remove_file(csr).unwrap();
    fs::remove_file(ext).unwrap();
}

#[test]
fn each_field_that_cannot_be_declared_is_told_with_what_it_is_and_what_to_do() {
    if need("openssl").is_none() {
        return;
    }
    let dir = kubeadm();
    let at = |name: &str| dir.path().join(name);
    // Another certificate's key; another CA's certificate; another CA in a kubeconfig; a key of somebody else.
    fs::copy(at("pki/apiserver.key"), at("pki/front-proxy-client.key")).unwrap();
    for end in ["crt", "key"] {
        let from = at(&format!("pki/etcd/healthcheck-client.{end}"));
        fs::copy(from, at(&format!("pki/apiserver-kubelet-client.{end}"))).unwrap();
    }
    let admin = fs::read_to_string(at("admin.conf")).unwrap();
    let trusted = admin.lines().find(|line| line.contains("certificate-authority-data")).unwrap();
    let other = support::base64(&fs::read(at("pki/etcd/ca.crt")).unwrap());
    let swapped = format!("    certificate-authority-data: {other}");
    fs::write(at("admin.conf"), admin.replace(trusted, &swapped)).unwrap();
    openssl(&["genrsa", "-out", at("other.key").to_str().unwrap(), "2048"]);
    let words = ["rsa", "-in", "other.key", "-pubout", "-out", "pki/sa.pub"];
    run(Command::new("openssl").current_dir(dir.path()).args(words));
    fs::remove_file(at("other.key")).unwrap();
    fs::write(at("pki/etcd/peer.crt"), "damaged\n").unwrap();
    let before = snapshot(dir.path());

    let output = run_to_exit(&mut adopt(dir.path()), 3);
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
    let said = report(&output);
    assert_eq!((&said["kind"], &said["declaration"]), (&"AdoptReport".into(), &Value::Null));
    let of = |file: &str, field: &str| row(&said, "differences", file, field);
    let issuer = of("pki/apiserver-kubelet-client.crt", "issuer");
    assert_eq!(issuer["found"], "CN=etcd-ca");
    assert_eq!(issuer["declared"], "pki/ca.crt (CN=kubernetes)");
    assert!(issuer["remedy"].as_str().unwrap().contains("certkit rotate apiserver-kubelet-client"));
    let key = of("pki/front-proxy-client.key", "key");
    assert_eq!(key["declared"], "the key of pki/front-proxy-client.crt");
    assert_eq!(of("admin.conf", "certificate-authority-data")["found"], "CN=etcd-ca");
    assert_eq!(of("pki/sa.pub", "public key")["declared"], "the public key of pki/sa.key");
    let damaged = of("pki/etcd/peer.crt", "certificate")["found"].as_str().unwrap();
    assert!(damaged.contains("no PEM block"), "{damaged}");
    // For people it is a table, in the error.
    let output = run_to_exit(certkit().args(["init", "--adopt", "--dir"]).arg(dir.path()), 3);
    let table = String::from_utf8(output.stderr).unwrap();
    for word in ["FILE ", " FIELD ", " FOUND ", " DECLARED ", " REMEDY", "pki/sa.pub ", "hint:"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn what_a_declaration_does_not_hold_is_told_when_it_is_written() {
    if need("openssl").is_none() {
        return;
    }
    let dir = kubeadm();
    let leaf = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n\
                extendedKeyUsage=serverAuth\ncrlDistributionPoints=URI:http://crl.example.com/x.crl";
    sign(dir.path(), "apiserver", "ca", "/CN=kube-apiserver", leaf);
    for end in ["crt", "key"] {
        let of = |stem: &str| dir.path().join(format!("pki/{stem}.{end}"));
        fs::copy(of("front-proxy-client"), of("legacy")).unwrap();
    }
    // Of its own, so that it is no copy.
    let client = "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth";
    sign(dir.path(), "legacy", "ca", "/CN=legacy", client);
    let said = report(&run(&mut adopt(dir.path())));
    assert!(said["declaration"].as_str().unwrap().contains("controlPlane"));
    assert_eq!(said["differences"], Value::Array(vec![]));
    let crl = row(&said, "left", "pki/apiserver.crt", "extension 2.5.29.31");
    assert!(crl["remedy"].as_str().unwrap().contains("until apiserver is renewed"), "{crl}");
    let legacy = row(&said, "left", "pki/legacy.crt", "file");
    assert!(legacy["remedy"].as_str().unwrap().contains("pki/legacy.crt --ca FILE"), "{legacy}");
    // And so it is: the one renewed by its file, the other without what no declaration says.
    run(certkit()
        .args(["rotate", "pki/legacy.crt", "--ca", "pki/ca.crt", "--dir", "."])
        .current_dir(dir.path()));
    run(certkit().args(["rotate", "apiserver", "--dir"]).arg(dir.path()));
    let text = |file: &str| {
        let file = dir.path().join(file).display().to_string();
        openssl(&["x509", "-in", &file, "-noout", "-text"])
    };
    assert!(!text("pki/apiserver.crt").contains("crl.example.com"));
    assert!(
        text("pki/legacy.crt").contains("CN = legacy")
            || text("pki/legacy.crt").contains("CN=legacy")
    );
}

#[test]
fn certificates_with_cfssls_names_are_adopted_and_renewed_as_they_are() {
    if need("openssl").is_none() {
        return;
    }
    let dir = kubeadm();
    let place = "/C=DE/ST=Thüringen/L=Jena";
    let leaf =
        "keyUsage=critical,keyEncipherment,digitalSignature\nbasicConstraints=critical,CA:FALSE";
    let both = format!("extendedKeyUsage=clientAuth,serverAuth\n{leaf}");
    for (stem, ca, subject) in [
        ("apiserver", "ca", "/O=Kubernetes/OU=Kubernetes The Hard Way/CN=kubernetes"),
        (
            "apiserver-kubelet-client",
            "ca",
            "/O=system:masters/OU=platform/CN=kube-apiserver-kubelet-client",
        ),
        ("front-proxy-client", "front-proxy-ca", "/OU=a/OU=b/CN=front-proxy-client"),
        ("etcd/server", "etcd/ca", "/O=etcd/CN=cp1"),
        ("etcd/peer", "etcd/ca", "/O=etcd/CN=cp1"),
    ] {
        sign(dir.path(), stem, ca, &format!("{place}{subject}"), &both);
    }
    let before = snapshot(&dir.path().join("pki"));
    let said = report(&run(&mut adopt(dir.path())));
    assert_eq!(said["differences"], Value::Array(vec![]));
    assert_eq!(difference(&before, &snapshot(&dir.path().join("pki"))), Vec::<String>::new());
    assert_eq!(stdout(certkit().args(["rotate", "--dir"]).arg(dir.path())), "");
    let says = |file: &str| {
        let file = dir.path().join(file).display().to_string();
        // Their string types, too: `UTF8STRING` and `PRINTABLESTRING` are written beside the values.
        let name =
            openssl(&["x509", "-in", &file, "-noout", "-subject", "-nameopt", "RFC2253,show_type"]);
        let usage = openssl(&[
            "x509",
            "-in",
            &file,
            "-noout",
            "-ext",
            "extendedKeyUsage,keyUsage,subjectAltName",
        ]);
        let mut words: Vec<String> =
            usage.split([',', '\n']).map(|word| word.trim().to_owned()).collect();
        words.sort();
        (name, words)
    };
    let files =
        ["apiserver", "apiserver-kubelet-client", "front-proxy-client", "etcd/server", "etcd/peer"];
    let files = files.map(|stem| format!("pki/{stem}.crt"));
    let old: Vec<_> = files.iter().map(|file| says(file)).collect();
    assert!(old[0].0.contains("UTF8STRING"), "{}", old[0].0);
    run(certkit().args(["rotate", "--all", "--dir"]).arg(dir.path()));
    assert_eq!(files.iter().map(|file| says(file)).collect::<Vec<_>>(), old);
    assert_eq!(stdout(certkit().args(["rotate", "--dir"]).arg(dir.path())), "");
}

/// The apiserver's manifest with these settings of etcd's.
fn external(dir: &Path, settings: [(&str, &str); 4]) {
    let file = dir.join("manifests/kube-apiserver.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| {
        let set = settings.iter().find(|(flag, _)| line.contains(&format!("--{flag}=")));
        match set {
            Some((flag, value)) => format!("    - --{flag}={value}\n"),
            None => format!("{line}\n"),
        }
    });
    let text: String = lines.collect();
    fs::write(&file, text).unwrap();
    fs::remove_file(dir.join("manifests/etcd.yaml")).unwrap();
}

#[test]
fn an_etcd_that_is_somebody_elses_is_declared_by_its_files_wherever_they_are() {
    for is_linked in [true, false] {
        let dir = kubeadm();
        let at = |name: &str| dir.path().join(name);
        let here = |name: &str| at("pki").join(name).display().to_string();
        let beside =
            ["etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"].map(here);
        let elsewhere = ["ca.pem", "node-cp1.pem", "node-cp1-key.pem"]
            .map(|name| format!("/etc/ssl/etcd/ssl/{name}"));
        let [ca, cert, key] = if is_linked { &elsewhere } else { &beside };
        let servers = "https://10.0.0.11:2379,https://10.0.0.12:2379,https://10.0.0.13:2379";
        let settings = [
            ("etcd-cafile", ca.as_str()),
            ("etcd-certfile", cert),
            ("etcd-keyfile", key),
            ("etcd-servers", servers),
        ];
        external(dir.path(), settings);
        for stem in ["server", "peer", "healthcheck-client"] {
            for end in ["crt", "key"] {
                fs::remove_file(at(&format!("pki/etcd/{stem}.{end}"))).unwrap();
            }
        }
        fs::remove_file(at("pki/etcd/ca.key")).unwrap();
        if is_linked {
            // Nothing of etcd's is in DIR, and `pki` is a link, as kubespray has it.
            fs::remove_dir_all(at("pki/etcd")).unwrap();
            for end in ["crt", "key"] {
                fs::remove_file(at(&format!("pki/apiserver-etcd-client.{end}"))).unwrap();
            }
            fs::rename(at("pki"), at("ssl")).unwrap();
            std::os::unix::fs::symlink("ssl", at("pki")).unwrap();
        }
        let said = report(&run(&mut adopt(dir.path())));
        let declared = said["declaration"].as_str().unwrap();
        assert!(declared.contains("externalEtcd:") && !declared.contains("etcd-ca"), "{declared}");
        let cert = row(&said, "left", settings[1].1, "externalEtcd.certFile");
        assert!(cert["remedy"].as_str().unwrap().contains("--ca-key FILE"), "{cert}");
        let flags = stdout(certkit().args(["flags", "kube-apiserver", "--dir"]).arg(dir.path()));
        for (flag, value) in settings {
            assert!(flags.contains(&format!("--{flag}={value}\n")), "{flag}: {flags}");
        }
        let before = snapshot(dir.path());
        run(certkit().args(["rotate", "--all", "--dir"]).arg(dir.path()));
        let changed = difference(&before, &snapshot(dir.path()));
        assert!(!changed.iter().any(|file| file.contains("etcd")), "{changed:?}");
        run(certkit().args(["verify", "--allow", "symlink", "--dir"]).arg(dir.path()));
    }
}

#[test]
fn the_order_of_cas_in_a_cas_file_does_not_matter() {
    if need("openssl").is_none() {
        return;
    }
    for own_first in [true, false] {
        let dir = kubeadm();
        let at = |name: &str| dir.path().join(name);
        run(Command::new("openssl").current_dir(dir.path()).args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=former",
            "-days",
            "900",
            "-keyout",
            "former.key",
            "-out",
            "former.crt",
        ]));
        let (own, former) = (
            fs::read_to_string(at("pki/ca.crt")).unwrap(),
            fs::read_to_string(at("former.crt")).unwrap(),
        );
        for file in ["former.key", "former.crt"] {
            fs::remove_file(at(file)).unwrap();
        }
        let both = if own_first { own.clone() + &former } else { former + &own };
        fs::write(at("pki/ca.crt"), &both).unwrap();
        run(&mut adopt(dir.path()));
        run(certkit().args(["rotate", "apiserver", "--dir"]).arg(dir.path()));
        assert_eq!(fs::read_to_string(at("pki/ca.crt")).unwrap(), both);
        fs::write(at("own.crt"), own).unwrap();
        let leaf = at("pki/apiserver.crt");
        let ca = at("own.crt");
        let words = ["verify", "-CAfile", ca.to_str().unwrap(), leaf.to_str().unwrap()];
        assert!(openssl(&words).contains(": OK"));
    }
}
