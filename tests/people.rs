//! People's own: what is in a certificate, kubeconfigs for users, and what their shells complete.

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use certkit::{
    model::{
        request::{
            Admission, CertificateRequest, History, Inventory, RequestPolicy, RequestState, Ruling,
            judge,
        },
        timestamp::Timestamp,
    },
    ops::declared,
    pki::inspect::read_request,
};
use serde_json::Value;
use support::{certkit, need, openssl, run, run_to_exit, temp_dir};

fn pki(folder: &Path, more: &[&str]) -> std::path::PathBuf {
    let dir = folder.join("pki");
    let mut command = certkit();
    command.args(["init", "-q", "--name", "demo", "--host", "cp1=10.0.0.11"]).args(more);
    run(command.arg("--dir").arg(&dir));
    dir
}

fn shown(what: &Path, dir: &Path, code: i32) -> Value {
    let mut command = certkit();
    command.arg("show").arg(what).args(["-o", "json", "--dir"]).arg(dir);
    serde_json::from_slice(&run_to_exit(&mut command, code).stdout).expect("JSON")
}

#[test]
fn show_says_what_openssl_says_and_who_uses_it() {
    let Some(_) = need("openssl") else { return };
    let folder = temp_dir();
    let dir = pki(folder.path(), &[]);
    let file = dir.join("pki/apiserver.crt");
    let document = shown(&file, &dir, 0);
    let item = &document["items"][0];
    let text = openssl(&[
        "x509",
        "-in",
        file.to_str().expect("UTF-8"),
        "-noout",
        "-fingerprint",
        "-sha256",
    ]);
    let print = text.rsplit('=').next().expect("a value").trim().replace(':', "").to_lowercase();
    assert_eq!(item["fingerprintSha256"], print.as_str());
    assert_eq!(item["key"]["matches"], true);
    assert_eq!(item["signer"]["by"], "ca");
    assert_eq!(item["extendedKeyUsages"], serde_json::json!(["serverAuth"]));
    let part = &item["cluster"][0];
    assert_eq!(part["name"], "apiserver");
    assert_eq!(part["current"], true);
    let users = part["usedBy"].to_string();
    assert!(users.contains("kube-apiserver") && users.contains("--tls-cert-file"), "{users}");
    assert!(part["paths"].to_string().contains("admin-to-apiserver"));
    // For people, and for a CA.
    let mut command = certkit();
    let text =
        run(command.arg("show").arg(dir.join("pki/etcd/ca.crt")).arg("--dir").arg(&dir)).stdout;
    let text = String::from_utf8(text).expect("UTF-8");
    for words in ["etcd-ca", "signs", "etcd-server", "without it", "CA", "itself"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // A kubeconfig has the user's certificate and the CA's.
    let admin = shown(&dir.join("admin.conf"), &dir, 0);
    let places: Vec<&str> = admin["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|i| i["place"].as_str())
        .collect();
    assert_eq!(places, ["user kubernetes-admin", "cluster demo"]);
    assert_eq!(admin["items"][0]["key"]["matches"], true);
}

#[test]
fn show_works_on_anything_and_without_a_cluster() {
    let folder = temp_dir();
    let dir = pki(folder.path(), &[]);
    let none = folder.path().join("none");
    let bundle = folder.path().join("bundle.pem");
    let parts =
        ["apiserver.crt", "ca.crt"].map(|f| fs::read(dir.join("pki").join(f)).expect("read"));
    fs::write(&bundle, parts.concat()).expect("written");
    let document = shown(&bundle, &none, 0);
    assert_eq!(document["cluster"], false);
    assert_eq!(document["items"][0]["signer"], serde_json::json!({"kind": "item", "by": 1}));
    assert_eq!(document["items"][1]["signer"]["kind"], "itself");
    // The key beside it is another's, or it has ended: that is a finding.
    fs::copy(dir.join("pki/sa.key"), folder.path().join("bundle.key")).expect("copied");
    assert_eq!(shown(&bundle, &none, 2)["items"][0]["key"]["matches"], false);
    let mut late = certkit();
    late.arg("show").arg(dir.join("pki/ca.crt")).args(["--at", "2099-01-01T00:00:00Z", "--dir"]);
    let late = run_to_exit(late.arg(&dir), 2).stdout;
    assert!(String::from_utf8_lossy(&late).contains("EXPIRED"));
    for (name, content) in
        [("empty", ""), ("text", "hello"), ("cut", "-----BEGIN CERTIFICATE-----\nMIIB\n")]
    {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("written");
        let mut command = certkit();
        let output = run_to_exit(command.arg("show").arg(&path).arg("--dir").arg(&none), 3);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(name) && output.stdout.is_empty(), "{said}");
    }
    let mut nobody = certkit();
    run_to_exit(nobody.args(["show", "127.0.0.1:1", "--dir"]).arg(&none), 3);
}

/// It knows every form that `check-expiration` knows, and what is wrong with each.
#[test]
fn show_reads_whatever_form_a_certificate_is_in() {
    let Some(_) = need("openssl") else { return };
    let folder = temp_dir();
    let dir = pki(folder.path(), &[]);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let own = dir.join("pki/apiserver.crt");
    let pem = fs::read_to_string(&own).expect("a certificate");
    let print = shown(&own, &dir, 0)["items"][0]["fingerprintSha256"].clone();
    openssl(&[
        "crl2pkcs7",
        "-nocrl",
        "-certfile",
        own.to_str().expect("UTF-8"),
        "-certfile",
        dir.join("pki/ca.crt").to_str().expect("UTF-8"),
        "-out",
        &at("bundle.p7b"),
    ]);
    let data = support::base64(pem.as_bytes());
    for (name, content) in [
        ("mark.crt", format!("\u{feff}{pem}")),
        ("lines.crt", pem.replace('\n', "\r")),
        ("x509.crt", pem.replace("CERTIFICATE", "X509 CERTIFICATE")),
        (
            "secret.yaml",
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: web}}\ndata: {{tls.crt: {data}}}\n"
            ),
        ),
    ] {
        fs::write(at(name), content).expect("written");
    }
    let mut files = vec!["bundle.p7b", "mark.crt", "lines.crt", "x509.crt", "secret.yaml"];
    if let Some(keytool) = support::optional("keytool") {
        let mut command = Command::new(keytool);
        command.args(["-importcert", "-noprompt", "-alias", "web", "-storepass", "changeit"]);
        command.args(["-storetype", "JKS", "-keystore", &at("web.jks"), "-file"]).arg(&own);
        run(&mut command);
        files.push("web.jks");
    }
    for name in files {
        let document = shown(Path::new(&at(name)), &dir, 0);
        let item = &document["items"][0];
        assert_eq!(item["fingerprintSha256"], print, "{name}: {document:#}");
        let place = match name {
            "secret.yaml" => "web tls.crt".into(),
            "web.jks" => "web".into(),
            _ => Value::Null,
        };
        assert_eq!(item["place"], place, "{name}");
        // Kubernetes would not read it like that.
        assert_eq!(name == "secret.yaml", item["faults"] == serde_json::json!([]), "{name}");
    }
    fs::write(at("bad.conf"), "kind: Config\nusers: [{name: a, user: 3}]\nclusters: []\n")
        .expect("written");
    let said = run_to_exit(certkit().args(["show", &at("bad.conf"), "--dir"]).arg(&dir), 3).stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("users[0].user"), "{said}");
}

#[test]
fn a_persons_kubeconfig_ends_soon_has_its_groups_and_is_in_the_log() {
    let Some(_) = need("openssl") else { return };
    let folder = temp_dir();
    let dir = pki(folder.path(), &[]);
    let out = folder.path().join("alice.conf");
    let mut command = certkit();
    command.args(["kubeconfig", "alice", "--group", "developers,oncall", "--out"]).arg(&out);
    run(command.arg("--dir").arg(&dir));
    let mode = fs::metadata(&out).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let document = shown(&out, &dir, 0);
    let item = &document["items"][0];
    assert_eq!(item["user"], "alice");
    let mut groups: Vec<&str> =
        item["groups"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    // DER sorts the values of a set.
    groups.sort_unstable();
    assert_eq!(groups, ["developers", "oncall"]);
    assert_eq!(item["signer"]["by"], "ca");
    assert_eq!(item["key"]["matches"], true);
    assert_eq!(item["extendedKeyUsages"], serde_json::json!(["clientAuth"]));
    let log = fs::read_to_string(dir.join(".certkit/log.jsonl")).expect("the log");
    let line: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&line["command"], &line["name"]), (&"kubeconfig".into(), &"alice".into()));
    assert_eq!(line["fingerprint"], item["fingerprintSha256"]);
    assert_eq!(line["notAfter"], item["notAfter"]);
    assert!(!log.contains("PRIVATE"));
    // Eight hours and no more.
    let text =
        String::from_utf8(run(certkit().args(["show"]).arg(&out).arg("--dir").arg(&dir)).stdout)
            .expect("UTF-8");
    assert!(text.contains("7h59m left") || text.contains("8h left"), "{text}");
    // It is let in by the apiserver's CA, and verify finds nothing new.
    run(certkit().args(["verify", "--dir"]).arg(&dir));
    if let Some(kubectl) = support::optional("kubectl") {
        let view =
            run(Command::new(kubectl).args(["config", "view", "--kubeconfig"]).arg(&out)).stdout;
        assert!(String::from_utf8_lossy(&view).contains("server: https://10.0.0.11:6443"));
    }
}

#[test]
fn a_cluster_that_kubeadm_made_gives_kubeconfigs_as_it_is() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36/rsa-2048");
    support::tree::copy(&made, &dir);
    let out = folder.path().join("alice.conf");
    let mut command = certkit();
    command.args(["kubeconfig", "alice", "--group", "developers", "--out"]).arg(&out);
    run(command.arg("--dir").arg(&dir));
    let text = fs::read_to_string(&out).expect("written");
    assert!(text.contains("server: https://api.prod.example.com:6443"), "{text}");
    let trusted = support::base64(&fs::read(dir.join("pki/ca.crt")).expect("a CA"));
    assert!(text.contains(&format!("certificate-authority-data: {trusted}")), "{text}");
    let document = shown(&out, &dir, 0);
    assert_eq!(document["items"][0]["signer"]["by"], "ca");
}

#[test]
fn nobody_is_a_master_without_being_told_so_and_nothing_is_issued_in_vain() {
    let folder = temp_dir();
    let dir = pki(folder.path(), &[]);
    let log =
        || fs::read_to_string(dir.join(".certkit/log.jsonl")).expect("the log").lines().count();
    let before = log();
    let out = folder.path().join("no/such/folder/x.conf");
    let mut command = certkit();
    command.args(["kubeconfig", "eve", "--out"]).arg(&out);
    run_to_exit(command.arg("--dir").arg(&dir), 64);
    let mut command = certkit();
    command.args(["kubeconfig", "eve", "--group", "system:masters", "--dir"]);
    run_to_exit(command.arg(&dir), 64);
    assert_eq!(log(), before);
    let mut command = certkit();
    command.args(["kubeconfig", "eve", "--group", "system:masters", "--allow-system", "--dir"]);
    let text = run(command.arg(&dir)).stdout;
    assert!(String::from_utf8_lossy(&text).contains("client-key-data"));
    assert_eq!(log(), before + 1);
    // Without the CA's key: the API can sign.
    fs::remove_file(dir.join("pki/ca.key")).expect("offline");
    let mut command = certkit();
    let refused = run_to_exit(command.args(["kubeconfig", "eve", "--dir"]).arg(&dir), 3);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("ca.key") && said.contains("--csr"), "{said}");
}

/// A certificate that nobody gets is one too many, and what somebody has there is not certkit's to replace.
#[test]
fn nothing_is_issued_for_a_file_that_cannot_be_written_or_is_somebodys() {
    let folder = temp_dir();
    let dir = pki(folder.path(), &[]);
    let log = || fs::read(dir.join(".certkit/log.jsonl")).expect("the log");
    let before = log();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(at("target"), at("link")).expect("a link");
    run(certkit().args(["kubeconfig", "bob", "--out"]).arg(at("bob")).arg("--dir").arg(&dir));
    let issued = log();
    assert_ne!(issued, before);
    fs::write(at("text"), "mine").expect("written");
    fs::write(at("new.key"), "mine").expect("written");
    for (out, more, why) in [
        (at("link"), &[][..], "not a regular file"),
        ("/dev/null".into(), &[], "not a regular file"),
        ("/proc/1/x".into(), &[], "cannot create"),
        ("-".into(), &[], "standard output"),
        (at("text"), &[], "is no kubeconfig"),
        (at("bob"), &[], "other users"),
        (dir.join("admin.conf"), &[], "other users"),
        (dir.join("pki/ca.key"), &[], "is no kubeconfig"),
        (at("new"), &["--csr"], "new.key"),
    ] {
        let content = fs::read(&out).ok();
        let mut command = certkit();
        command.args(["kubeconfig", "alice", "--out"]).arg(&out).args(more).arg("--dir").arg(&dir);
        let said = run_to_exit(&mut command, 64).stderr;
        let said = String::from_utf8(said).expect("UTF-8");
        assert!(said.contains("--out") && said.contains(why), "{}: {said}", out.display());
        assert_eq!(fs::read(&out).ok(), content, "{}", out.display());
    }
    assert_eq!(log(), issued);
    for name in ["al\u{202e}ice", "al\nice", "System:masters"] {
        run_to_exit(certkit().args(["kubeconfig", name, "--dir"]).arg(&dir), 64);
    }
    // What an earlier run for the same user has left is replaced, and an empty file.
    fs::write(at("alice"), "").expect("written");
    for more in [&[][..], &["--csr"], &["--csr"], &[]] {
        let mut command = certkit();
        command.args(["kubeconfig", "alice", "--out"]).arg(at("alice")).args(more);
        run(command.arg("--dir").arg(&dir));
    }
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().contains(".certkit-")));
}

#[test]
fn a_request_for_the_api_is_whole() {
    let Some(_) = need("openssl") else { return };
    let folder = temp_dir();
    let dir = pki(folder.path(), &[]);
    fs::remove_file(dir.join("pki/ca.key")).expect("offline");
    let out = folder.path().join("carol.conf");
    let mut command = certkit();
    command.args(["kubeconfig", "Carol X", "--group", "viewers", "--csr", "--out"]).arg(&out);
    let output = run(command.arg("--dir").arg(&dir));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("kubectl apply -f")
            && said.contains("kubectl certificate approve certkit-carol-x-"),
        "{said}"
    );
    let manifest =
        fs::read_to_string(folder.path().join("carol.conf.csr.yaml")).expect("a manifest");
    let request =
        manifest.lines().find_map(|line| line.trim().strip_prefix("request: ")).expect("a request");
    let pem = folder.path().join("carol.csr");
    let decoded =
        run(Command::new("sh").args(["-c", &format!("echo {request} | base64 -d")])).stdout;
    fs::write(&pem, decoded).expect("written");
    let subject =
        openssl(&["req", "-in", pem.to_str().expect("UTF-8"), "-noout", "-verify", "-subject"]);
    assert!(subject.contains("viewers") && subject.contains("Carol X"), "{subject}");
    let key = folder.path().join("carol.conf.key");
    let mode = fs::metadata(&key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let public = |args: &[&str]| openssl(args);
    let of_key = public(&["pkey", "-in", key.to_str().expect("UTF-8"), "-pubout"]);
    let of_request = public(&["req", "-in", pem.to_str().expect("UTF-8"), "-noout", "-pubkey"]);
    assert_eq!(of_key, of_request);
    let text = fs::read_to_string(&out).expect("a kubeconfig");
    assert!(
        text.contains("client-key: carol.conf.key")
            && text.contains("client-certificate: carol.conf.crt")
    );
}

/// certkit's own signer approves by itself, and holds requests to the usages that it writes.
#[test]
fn a_request_for_certkits_own_signer_names_it() {
    let folder = temp_dir();
    let dir = pki(folder.path(), &[]);
    let out = folder.path().join("dave.conf");
    let mut command = certkit();
    command.args(["kubeconfig", "dave", "--csr", "--signer", "certkit", "--out"]).arg(&out);
    let output = run(command.arg("--dir").arg(&dir));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("kubectl apply -f") && !said.contains("approve"), "{said}");
    let manifest = fs::read_to_string(folder.path().join("dave.conf.csr.yaml")).unwrap();
    assert!(manifest.contains("signerName: certkit.internal/person\n"), "{manifest}");
    let request = manifest.lines().find_map(|line| line.trim().strip_prefix("request: "));
    let content = read_request(&support::decoded(request.unwrap())).unwrap();
    let request = CertificateRequest {
        name: "dave".into(),
        signer: "certkit.internal/person".into(),
        username: "dave".into(),
        groups: Vec::new(),
        usages: vec!["digital signature".into(), "client auth".into()],
        term: None,
        by_certificate: false,
        created: Timestamp::from_unix(1_800_000_000),
        content: Ok(content),
        state: RequestState::Pending,
    };
    // What it writes is what the judge approves.
    let text = "apiVersion: certkit/v1\nkind: Cluster\ncontrolPlane:\n  - {name: a, addresses: [10.0.0.1]}\n\
                signers: {people: {}}\n";
    let admission = Admission::of(&declared::parse(text, "certkit.yaml").unwrap());
    let inventory = Inventory { admission, ..Inventory::default() };
    let ruling = judge(&request, &inventory, &History::default(), &RequestPolicy::default());
    assert!(matches!(ruling, Ruling::Approve { .. }), "{ruling:?}");
    assert!(manifest.contains("usages: [\"digital signature\", \"client auth\"]"), "{manifest}");
}

/// What a shell offers after these words.
fn offered(words: &[&str]) -> String {
    let mut command = certkit();
    command
        .env("CERTKIT_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true");
    String::from_utf8(run(command.arg("--").args(words)).stdout).expect("UTF-8")
}

#[test]
fn shells_complete_certificates_hosts_addons_and_codes() {
    let folder = temp_dir();
    let dir = pki(folder.path(), &["--workspace"]);
    let dir = dir.to_str().expect("UTF-8");
    for (words, wanted) in [
        (&["certkit", "rot"][..], "rotate"),
        (&["certkit", "--dir", dir, "rotate", "apis"], "apiserver-kubelet-client"),
        (&["certkit", "--dir", dir, "rotate", "kubelet (c"], "kubelet (cp1)"),
        (&["certkit", "--dir", dir, "export", "c"], "cp1"),
        (&["certkit", "--dir", dir, "flags", "--host", "c"], "cp1"),
        (&["certkit", "--dir", dir, "deploy", "c"], "cp1"),
        (&["certkit", "--dir", dir, "rotate-ca", "front"], "front-proxy-ca"),
        (&["certkit", "--dir", dir, "rotate-ca", "s"], "sa"),
        (&["certkit", "init", "--addon", "kon"], "konnectivity"),
        (&["certkit", "verify", "--allow", "unu"], "unused"),
        (&["certkit", "flags", "kube-s"], "kube-scheduler"),
    ] {
        let found = offered(words);
        assert!(found.split('\n').any(|line| line.trim_end() == wanted), "{words:?}: {found:?}");
    }
    // What is not declared is not replaced.
    assert!(!offered(&["certkit", "--dir", dir, "rotate-ca", "root"]).contains("root-ca"));
    // A CA is not renewed.
    assert!(!offered(&["certkit", "--dir", dir, "rotate", "etcd-"]).contains("etcd-ca\n"));
}

#[test]
fn each_shell_takes_its_script_and_completes_by_it() {
    let folder = temp_dir();
    let program = certkit().get_program().to_owned();
    let bin = Path::new(&program).parent().expect("a folder").display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    for shell in ["bash", "zsh", "fish"] {
        let script =
            String::from_utf8(run(certkit().args(["completions", shell])).stdout).expect("UTF-8");
        // No machine's own path is in what is installed.
        assert!(!script.contains(&bin), "{script}");
        let file = folder.path().join(shell);
        fs::write(&file, script).expect("written");
        let Some(shell_path) = support::optional(shell) else { continue };
        let line = match shell {
            "bash" => format!(
                ". {}; COMP_WORDS=(certkit verify --allow unu); COMP_CWORD=3; COMP_TYPE=9; \
                 $(complete -p certkit | sed 's/.*-F \\([^ ]*\\) .*/\\1/') certkit unu --allow; echo \"${{COMPREPLY[@]}}\"",
                file.display()
            ),
            "fish" => {
                format!("source {}; complete -C 'certkit verify --allow unu'", file.display())
            }
            // zsh completes only where somebody types: that it takes the script must do.
            _ => format!("autoload -U compinit; compinit -D; . {}; echo unused", file.display()),
        };
        let mut command = Command::new(shell_path);
        let output = run(command.args(["-c", &line]).env("PATH", &path));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains("unused"),
            "{shell}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = temp_dir();
    run(certkit().args(["man", "--output-dir"]).arg(folder.path()));
    for command in ["show", "kubeconfig", "rotate", "check-expiration", "completions"] {
        let page =
            fs::read_to_string(folder.path().join(format!("certkit-{command}.1"))).expect("a page");
        assert!(page.contains("EXIT CODES") && page.contains(".SH"), "{command}: {page}");
    }
}
