//! `certkit init` as a user meets it: the real program, real files, openssl as judge.

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use support::{
    certkit, need, openssl, run, run_to_exit, stdout, temp_dir,
    tree::{difference, files, snapshot},
};

/// `init` of one host into `dir`, with more arguments.
fn init(dir: &Path, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("init").arg("--dir").arg(dir);
    command.args([
        "--name",
        "prod",
        "--host",
        "cp1=10.0.0.11",
        "--endpoint",
        "api.example.com:6443",
    ]);
    command.args(more);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn one_host_has_every_file_with_its_mode() {
    let dir = temp_dir();
    run(&mut init(dir.path(), &[]));
    let mut listing = String::new();
    for file in files(dir.path()) {
        let mode = fs::metadata(dir.path().join(&file)).unwrap().permissions().mode() & 0o777;
        listing.push_str(&format!("{mode:o} {}\n", file.display()));
    }
    support::golden("init/one-host.txt", &listing);
}

#[test]
fn openssl_accepts_every_leaf() {
    if need("openssl").is_none() {
        return;
    }
    for extra in
        [&["--addon=konnectivity", "--addon=istio", "--addon=kube-proxy"][..], &["--single-root"]]
    {
        let dir = temp_dir();
        run(&mut init(dir.path(), extra));
        let at = |name: &str| dir.path().join(name).display().to_string();
        let single = extra.contains(&"--single-root");
        let cas = [
            (
                "pki/ca",
                &[
                    "pki/apiserver.crt",
                    "pki/apiserver-kubelet-client.crt",
                    "pki/kubelet.crt",
                    "pki/controller-manager.crt",
                    "pki/scheduler.crt",
                    "pki/kubelet-client.pem",
                    "pki/scheduler-client.pem",
                    "pki/controller-manager-client.pem",
                ][..],
            ),
            (
                "pki/etcd/ca",
                &[
                    "pki/etcd/server.crt",
                    "pki/etcd/peer.crt",
                    "pki/etcd/healthcheck-client.crt",
                    "pki/apiserver-etcd-client.crt",
                ],
            ),
            ("pki/front-proxy-ca", &["pki/front-proxy-client.crt"]),
        ];
        for (ca, leaves) in cas {
            for leaf in leaves {
                let mut arguments = vec!["verify".to_owned(), "-x509_strict".into()];
                if single {
                    // As a client that trusts the root alone does it.
                    arguments.extend(["-CAfile".into(), at("pki/root-ca.crt")]);
                    arguments.extend(["-untrusted".into(), at(&format!("{ca}.crt"))]);
                } else {
                    arguments.extend(["-CAfile".into(), at(&format!("{ca}-bundle.crt"))]);
                }
                arguments.push(at(leaf));
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let said = openssl(&arguments);
                assert!(said.contains(": OK"), "{leaf}: {said}");
            }
        }
    }
}

#[test]
fn certificates_say_exactly_what_they_should() {
    if need("openssl").is_none() {
        return;
    }
    let dir = temp_dir();
    run(&mut init(
        dir.path(),
        &[
            "--addon=kube-proxy",
            "--addon=konnectivity",
            "--addon=istio",
            "--san=10.0.0.100",
            "--san=api.internal",
        ],
    ));
    let mut listing = String::new();
    for file in files(dir.path()) {
        let path = dir.path().join(&file);
        let content = fs::read_to_string(&path).unwrap_or_default();
        if !content.contains("BEGIN CERTIFICATE-----") {
            continue;
        }
        let path = path.display().to_string();
        let text = openssl(&[
            "x509",
            "-in",
            &path,
            "-noout",
            "-subject",
            "-issuer",
            "-nameopt",
            "RFC2253",
            "-ext",
            "basicConstraints,keyUsage,extendedKeyUsage,subjectAltName",
        ]);
        listing.push_str(&format!("# {}\n{text}\n", file.display()));
    }
    support::golden("init/profiles.txt", &listing);
}

#[test]
fn a_second_init_changes_no_byte() {
    let dir = temp_dir();
    for extra in [
        &[][..],
        &["--single-root", "--addon=konnectivity", "--addon=istio", "--kubeconfig-style=embedded"],
    ] {
        let dir = dir.path().join(extra.len().to_string());
        run(&mut init(&dir, extra));
        let before = snapshot(&dir);
        let said = stdout(&mut init(&dir, extra));
        assert!(said.contains("nothing to do"), "{said}");
        assert_eq!(difference(&before, &snapshot(&dir)), [] as [&str; 0]);
        // Nor does one that relies on certkit.yaml alone.
        run(certkit().arg("init").arg("--dir").arg(&dir));
        assert_eq!(difference(&before, &snapshot(&dir)), [] as [&str; 0]);
    }
}

#[test]
fn a_deleted_leaf_is_made_again_and_nothing_else() {
    let dir = temp_dir();
    let extra = ["--addon=kube-proxy", "--addon=konnectivity"];
    run(&mut init(dir.path(), &extra));
    for file in files(dir.path()) {
        let name = file.display().to_string();
        // What a CA, the token keys and the declaration are cannot be made again.
        if name.ends_with("ca.crt")
            || name.ends_with("ca.key")
            || name.ends_with("sa.key")
            || name == "certkit.yaml"
        {
            continue;
        }
        let before = snapshot(dir.path());
        fs::remove_file(dir.path().join(&file)).unwrap();
        run(&mut init(dir.path(), &extra));
        let mut changed = difference(&before, &snapshot(dir.path()));
        changed.retain(|path| !path.starts_with(".certkit"));
        // A certificate whose key is gone is of no use, so the pair is made anew.
        let mut expected = vec![name.clone()];
        if let Some(stem) = name.strip_suffix(".key") {
            expected.insert(0, format!("{stem}.crt"));
        }
        // Derived files come back byte for byte.
        if name.ends_with("-bundle.crt")
            || name.ends_with("sa.pub")
            || (name.ends_with(".conf") && !name.contains("admin"))
        {
            changed.retain(|path| *path != name);
            expected.clear();
            let restored = fs::read(dir.path().join(&name)).unwrap();
            let support::tree::Entry::File { content, .. } = &before[Path::new(&name)] else {
                panic!()
            };
            assert_eq!(&restored, content, "{name}");
        }
        assert_eq!(changed, expected, "after deleting {name}");
    }
}

#[test]
fn a_file_that_is_wrong_is_named_and_nothing_is_written() {
    let dir = temp_dir();
    run(&mut init(dir.path(), &[]));
    let all = files(dir.path());
    let foreign = fs::read(dir.path().join("pki/etcd/ca.key")).unwrap();
    for file in &all {
        let path = dir.path().join(file);
        let right = fs::read(&path).unwrap();
        let name = file.display().to_string();
        for (kind, wrong) in
            [("garbage", &b"\x00\xffgarbage\n"[..]), ("another key", &foreign), ("nothing", b"")]
        {
            if wrong == right {
                continue;
            }
            fs::write(&path, wrong).unwrap();
            let before = snapshot(dir.path());
            let output = init(dir.path(), &[]).output().unwrap();
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(3), "{kind} in {name}: {said}");
            assert!(said.contains(&name), "{kind} in {name}: {said}");
            assert!(said.contains("hint:"), "{kind} in {name}: {said}");
            assert!(!said.contains("-----BEGIN"), "{said}");
            assert_eq!(difference(&before, &snapshot(dir.path())), [] as [&str; 0], "{name}");
        }
        fs::write(&path, right).unwrap();
    }
    run(&mut init(dir.path(), &[]));
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let dir = temp_dir();
    let target = dir.path().join("new");
    let said = stdout(&mut init(&target, &["--dry-run"]));
    assert!(said.contains("would be made") && said.contains("apiserver"), "{said}");
    assert!(!target.exists());
}

#[test]
fn a_ca_of_ones_own_is_used() {
    if need("openssl").is_none() {
        return;
    }
    let dir = temp_dir();
    let pki = dir.path().join("pki");
    fs::create_dir_all(&pki).unwrap();
    let at = |name: &str| pki.join(name).display().to_string();
    let (key, cert) = (at("ca.key"), at("ca.crt"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "100",
        "-keyout",
        &key,
        "-out",
        &cert,
        "-subj",
        "/DC=com/DC=example/OU=a/OU=b/CN=corp",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    let before = fs::read(&key).unwrap();
    let said = stdout(&mut init(dir.path(), &[]));
    assert_eq!(fs::read(&key).unwrap(), before);
    // A leaf of a year is cut to the CA's hundred days, and that is said.
    assert!(said.contains("ends with its CA"), "{said}");
    let said = openssl(&["verify", "-x509_strict", "-CAfile", &cert, &at("apiserver.crt")]);
    assert!(said.contains("OK"), "{said}");
}

#[test]
fn a_ca_without_its_key_gets_requests_and_a_second_run_keeps_them() {
    if need("openssl").is_none() {
        return;
    }
    let dir = temp_dir();
    run(&mut init(dir.path(), &["--addon=kube-proxy"]));
    let outside = temp_dir();
    fs::rename(dir.path().join("pki/ca.key"), outside.path().join("ca.key")).unwrap();
    for file in ["pki/apiserver.crt", "pki/apiserver.key", "pki/kubelet-client.pem", "admin.conf"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    let said = stdout(certkit().arg("init").arg("--dir").arg(dir.path()));
    for id in ["apiserver", "kubelet.conf", "admin.conf"] {
        assert!(said.contains(&format!("csr/{id}.csr")), "{said}");
        let csr = dir.path().join(format!("csr/{id}.csr")).display().to_string();
        let text = openssl(&["req", "-verify", "-noout", "-text", "-in", &csr]);
        assert!(text.contains("Extended Key Usage"), "{text}");
    }
    let csr = dir.path().join("csr/apiserver.csr").display().to_string();
    let text = openssl(&["req", "-noout", "-text", "-in", &csr]);
    assert!(
        text.contains("DNS:api.example.com") && text.contains("IP Address:10.96.0.1"),
        "{text}"
    );
    assert!(!dir.path().join("pki/apiserver.crt").exists());
    let before = snapshot(dir.path());
    let said = stdout(certkit().arg("init").arg("--dir").arg(dir.path()));
    assert!(said.contains("waiting for signatures"), "{said}");
    assert_eq!(difference(&before, &snapshot(dir.path())), [] as [&str; 0]);
}

#[test]
fn cas_that_cannot_serve_are_refused() {
    if need("openssl").is_none() {
        return;
    }
    let make = |arguments: &[&str]| {
        let dir = temp_dir();
        let pki = dir.path().join("pki");
        fs::create_dir_all(&pki).unwrap();
        let (key, cert) = (pki.join("ca.key"), pki.join("ca.crt"));
        let (key, cert) = (key.display().to_string(), cert.display().to_string());
        let mut all = vec![
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=x",
            "-keyout",
            &key,
            "-out",
            &cert,
        ];
        all.extend(arguments);
        openssl(&all);
        dir
    };
    let refused = |dir: &Path, why: &str| {
        let before = snapshot(dir);
        let said = stderr(&run_to_exit(&mut init(dir, &[]), 3));
        assert!(said.contains("pki/ca.") && said.contains(why), "{why}: {said}");
        assert_eq!(difference(&before, &snapshot(dir)), [] as [&str; 0]);
    };
    let dir = make(&["-days", "10", "-addext", "basicConstraints=critical,CA:FALSE"]);
    refused(dir.path(), "not a CA");
    let dir = make(&[]);
    // A CA of another key.
    let other = make(&[]);
    fs::copy(other.path().join("pki/ca.key"), dir.path().join("pki/ca.key")).unwrap();
    refused(dir.path(), "does not belong");
    let Some(faketime) = need("faketime") else { return };
    let dir = make(&["-days", "1"]);
    let before = snapshot(dir.path());
    let mut command = Command::new(faketime);
    command.args(["-f", "+30d"]).arg(env!("CARGO_BIN_EXE_certkit"));
    command.args(["init", "--host", "cp1=10.0.0.11", "--dir"]).arg(dir.path());
    let said = stderr(&run_to_exit(&mut command, 3));
    assert!(said.contains("pki/ca.crt") && said.contains("expired"), "{said}");
    assert_eq!(difference(&before, &snapshot(dir.path())), [] as [&str; 0]);
}

#[test]
fn bad_input_names_file_line_and_field() {
    let dir = temp_dir();
    let target = dir.path().join("pki-of-nothing");
    let file = dir.path().join("cluster.yaml");
    let host = "controlPlane:\n- {name: cp1, addresses: [10.0.0.1]}\n";
    let long = format!("controlPlane:\n- {{name: {}, addresses: [10.0.0.1]}}\n", "x".repeat(300));
    let cases: &[(String, &str)] = &[
        (format!("{host}nodess: []\n"), "nodess"),
        (format!("{host}nodes:\n- {{name: cp1, addresses: [10.0.0.2]}}\n"), "declared twice"),
        (format!("{host}nodes:\n- {{name: w1, addresses: [10.0.0.1]}}\n"), "belongs to both"),
        (format!("{host}serviceSubnet: 10.96.0.1/12\n"), "serviceSubnet"),
        (format!("{host}extraSans: {{apiserver: [\"a b\"]}}\n"), "extraSans"),
        (long, "longer than"),
        (format!("{host}name: \"a\\0b\"\n"), "name"),
        (format!("{host}validity: {{leaf: 0s}}\n"), "validity.leaf"),
        (format!("{host}validity: {{ca: 1000y}}\n"), "validity.ca"),
        ("controlPlane:\n- {name: ../../x, addresses: [10.0.0.1]}\n".into(), "host name"),
    ];
    for (body, part) in cases {
        fs::write(&file, format!("apiVersion: certkit/v1\nkind: Cluster\n{body}")).unwrap();
        let mut command = certkit();
        command.arg("init").arg("--dir").arg(&target).arg("--config").arg(&file);
        let said = stderr(&run_to_exit(&mut command, 3));
        assert!(said.contains("cluster.yaml") && said.contains(part), "{part}: {said}");
        assert!(!target.exists(), "{part}");
    }
    let large = fs::File::create(&file).unwrap();
    large.set_len(1 << 30).unwrap();
    let mut command = certkit();
    command.arg("init").arg("--dir").arg(&target).arg("--config").arg(&file);
    let said = stderr(&run_to_exit(&mut command, 3));
    assert!(said.contains("cluster.yaml") && said.contains("larger than"), "{said}");
    for wrong in [&["--san", "a b"][..], &["--host", "../x=10.0.0.1"], &["--validity", "soon"]] {
        let said = stderr(&run_to_exit(&mut init(&target, wrong), 64));
        assert!(said.contains(wrong[0]), "{said}");
    }
    assert!(!target.exists());
}

#[test]
fn a_workspace_gives_each_host_just_what_it_needs() {
    let dir = temp_dir();
    let file = dir.path().join("cluster.yaml");
    fs::write(
        &file,
        "apiVersion: certkit/v1\nkind: Cluster\nname: prod\nendpoint: api.example.com:6443\n\
         controlPlane:\n- {name: cp1, addresses: [10.0.0.11]}\netcd:\n- {name: etcd1, addresses: [10.0.0.21]}\n\
         nodes:\n- {name: w1, addresses: [10.0.1.1, 'fd00::1:1']}\naddons: [kube-proxy, konnectivity]\n",
    )
    .unwrap();
    let target = dir.path().join("ws");
    let mut command = certkit();
    command.arg("init").arg("--dir").arg(&target).arg("--config").arg(&file);
    run(&mut command);
    let listing: String = files(&target).iter().map(|f| format!("{}\n", f.display())).collect();
    support::golden("init/workspace.txt", &listing);
    let before = snapshot(&target);
    run(certkit().arg("init").arg("--dir").arg(&target));
    assert_eq!(difference(&before, &snapshot(&target)), [] as [&str; 0]);
    // A new node in certkit.yaml gets its own, and nobody else's change.
    let declared = target.join("certkit.yaml");
    let text = fs::read_to_string(&declared).unwrap();
    let grown = text.replace("nodes:\n", "nodes:\n  - name: w2\n    addresses: [10.0.1.2]\n");
    assert_ne!(text, grown);
    fs::write(&declared, grown).unwrap();
    run(certkit().arg("init").arg("--dir").arg(&target));
    let changed = difference(&before, &snapshot(&target));
    let foreign: Vec<_> = changed
        .iter()
        .filter(|p| {
            !p.starts_with("hosts/w2") && !p.starts_with(".certkit") && *p != "certkit.yaml"
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(changed.contains(&"hosts/w2/pki/kubelet.crt".to_owned()), "{changed:?}");
}

#[test]
fn a_read_only_place_and_a_full_disk_leave_nothing() {
    let dir = temp_dir();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "x").unwrap();
    let said = stderr(&run_to_exit(&mut init(&blocked.join("pki"), &[]), 3));
    assert!(said.contains("file"), "{said}");
    // A file size limit makes every write beyond it fail, as a full disk does.
    let target = dir.path().join("full");
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 0; trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_certkit"));
    command.args(["init", "--host", "cp1=10.0.0.11", "--dir"]).arg(&target);
    let said = stderr(&run_to_exit(&mut command, 3));
    assert!(said.contains("full"), "{said}");
    assert!(!target.exists(), "{:?}", files(&target));
}

#[test]
fn under_one_root_the_chain_is_there_for_verifiers_that_want_a_root() {
    if need("openssl").is_none() {
        return;
    }
    let dir = temp_dir();
    run(&mut init(dir.path(), &["--single-root"]));
    let at = |name: &str| dir.path().join(name).display().to_string();
    // OpenSSL wants a root; a Go program is content with the intermediate.
    let said = openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        &at("pki/ca-chain.crt"),
        &at("pki/apiserver.crt"),
    ]);
    assert!(said.contains("OK"), "{said}");
    let flags =
        stdout(certkit().args(["flags", "kube-controller-manager", "--dir"]).arg(dir.path()));
    assert!(flags.contains("--root-ca-file=") && flags.contains("/pki/ca-chain.crt"), "{flags}");
    // What checks clients trusts the intermediate alone: with the root, etcd's CA could name anybody.
    let flags = stdout(certkit().args(["flags", "kube-apiserver", "--dir"]).arg(dir.path()));
    assert!(flags.contains(&format!("--client-ca-file={}", at("pki/ca-bundle.crt"))), "{flags}");
    let bundle = fs::read_to_string(at("pki/ca-bundle.crt")).unwrap();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1);
    assert_eq!(fs::read_to_string(at("pki/ca.crt")).unwrap(), bundle);
    // Nothing else refers to the root's key, so it can go.
    fs::remove_file(at("pki/root-ca.key")).unwrap();
    let before = snapshot(dir.path());
    run(&mut init(dir.path(), &["--single-root"]));
    assert_eq!(difference(&before, &snapshot(dir.path())), [] as [&str; 0]);
    fs::remove_file(at("pki/apiserver.crt")).unwrap();
    run(&mut init(dir.path(), &["--single-root"]));
}

#[test]
fn kubectl_reads_every_kubeconfig() {
    let Some(kubectl) = need("kubectl") else { return };
    let dir = temp_dir();
    for style in ["files", "embedded"] {
        let dir = dir.path().join(style);
        run(&mut init(
            &dir,
            &["--addon=kube-proxy", "--addon=konnectivity", "--kubeconfig-style", style],
        ));
        let kubeconfigs: Vec<_> = files(&dir)
            .into_iter()
            .filter(|f| f.extension().is_some_and(|e| e == "conf"))
            .collect();
        assert_eq!(kubeconfigs.len(), 7);
        for file in kubeconfigs {
            let said = stdout(
                Command::new(&kubectl)
                    .args(["config", "view", "--raw", "--minify", "--flatten", "--kubeconfig"])
                    .arg(dir.join(&file)),
            );
            // Flattened, so the files it names were read too.
            for field in
                ["client-certificate-data", "client-key-data", "certificate-authority-data"]
            {
                assert!(said.contains(field), "{}: {said}", file.display());
            }
        }
    }
}

#[test]
fn without_permission_nothing_is_left_and_the_directory_is_named() {
    if !rustix::process::geteuid().is_root() {
        let dir = temp_dir();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let said = stderr(&run_to_exit(&mut init(&dir.path().join("pki"), &[]), 3));
        assert!(said.contains("pki") && said.contains("ermission"), "{said}");
        assert!(files(dir.path()).is_empty());
        return;
    }
    let Some(setpriv) = need("setpriv") else { return };
    let dir = temp_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The build's folder may be closed to others.
    let program = dir.path().join("certkit");
    support::copy_certkit(&program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(setpriv);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    command.args(["init", "--host", "cp1=10.0.0.11", "--dir"]).arg(dir.path().join("pki"));
    let said = stderr(&run_to_exit(&mut command, 3));
    assert!(said.contains("pki") && said.contains("ermission"), "{said}");
    assert_eq!(files(dir.path()), [Path::new("certkit")]);
}

#[test]
fn a_report_is_the_same_document_in_json_and_yaml() {
    let dir = temp_dir();
    let json = stdout(&mut init(&dir.path().join("new"), &["--dry-run", "-o", "json"]));
    let yaml = stdout(&mut init(&dir.path().join("new"), &["--dry-run", "-o", "yaml"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["kind"], "InitReport");
    assert_eq!(json["dryRun"], true);
    let names: Vec<&str> =
        json["steps"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"apiserver") && yaml.starts_with("apiVersion: certkit/v1"), "{yaml}");
    for name in names {
        assert!(yaml.contains(&format!("name: {name}")), "{name} in {yaml}");
    }
}

#[test]
fn every_certificate_begins_five_minutes_back() {
    let dir = temp_dir();
    let unix =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let start = unix();
    run(certkit().arg("init").arg("--dir").arg(dir.path()).args(["--host", "cp1=10.0.0.11"]));
    let end = unix();
    let mut count = 0;
    for file in support::tree::files(dir.path()) {
        if !file.extension().is_some_and(|e| e == "crt" || e == "pem") {
            continue;
        }
        let file = dir.path().join(file);
        let arguments = ["x509", "-noout", "-startdate", "-dateopt", "iso_8601", "-in"];
        let said = support::openssl(&[&arguments[..], &[file.to_str().unwrap()]].concat());
        let text = said.trim().trim_start_matches("notBefore=").replace(' ', "T");
        let begin: certkit::model::timestamp::Timestamp = text.parse().unwrap();
        let begin = u64::try_from(begin.unix()).unwrap() + 300;
        assert!((start..=end).contains(&begin), "{}: {text}", file.display());
        count += 1;
    }
    assert!(count > 15, "{count}");
}
