//! Faults made with openssl in sound PKIs: each is found, with the right code and file, and nothing else is
//! called critical. Where openssl can judge the same, it fails as predicted.

mod issue;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use certkit::model::{duration::Span, timestamp::Timestamp};
use issue::{Issue, foreign_ca, new_key};
use serde_json::Value;

/// Names of the one-host cluster's certificates.
const API: &str = "DNS:cp1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
                   DNS:kubernetes.default.svc.cluster.local,IP:10.96.0.1,IP:10.0.0.11";
const ETCD: &str = "DNS:cp1,DNS:localhost,IP:10.0.0.11,IP:127.0.0.1,IP:::1";
const PEER: &str = "DNS:cp1,DNS:localhost,DNS:etcd-peer.kubernetes.internal,IP:10.0.0.11,\
                    IP:127.0.0.1,IP:::1";

/// A sound PKI to spoil.
#[derive(Clone, Copy)]
enum Base {
    OneHost,
    SingleRoot,
    Workspace,
    Kubeadm,
}

/// As of when it is judged: tomorrow; kubeadm's fixture a month after it was made.
fn at(base: Base) -> Timestamp {
    static NOW: OnceLock<Timestamp> = OnceLock::new();
    let now = NOW.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        Timestamp::from_unix(i64::try_from(since.as_secs()).expect("a time"))
    });
    match base {
        Base::Kubeadm => "2026-12-21T00:00:00Z".parse().expect("a time"),
        _ => now.plus(Span::days(1)),
    }
}

/// Each base is made once and copied for every test.
fn base(base: Base) -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = support::temp_dir();
        let init = |name: &str, arguments: &[&str]| {
            support::run(
                support::certkit()
                    .args(["init", "-q", "--dir"])
                    .arg(folder.path().join(name))
                    .args(arguments),
            );
        };
        init("one", &["--host", "cp1=10.0.0.11"]);
        init("single", &["--host", "cp1=10.0.0.11", "--single-root"]);
        init("workspace", &["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12"]);
        let fixture = Path::new("tests/fixtures/kubeadm-1.36/ecdsa-p256");
        let kubeadm = folder.path().join("kubeadm");
        support::run(Command::new("cp").arg("-a").arg(fixture).arg(&kubeadm));
        close(&kubeadm);
        folder
    });
    static PATHS: OnceLock<[PathBuf; 4]> = OnceLock::new();
    let paths = PATHS.get_or_init(|| {
        ["one", "single", "workspace", "kubeadm"].map(|name| folder.path().join(name))
    });
    &paths[base as usize]
}

/// The modes kubeadm gives; a checkout has not kept them.
fn close(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            close(&path);
        } else if path.extension().is_some_and(|e| e == "key" || e == "conf") {
            chmod(&path, 0o600);
        }
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A copy to spoil.
struct Tree {
    folder: tempfile::TempDir,
    at: Timestamp,
}

impl Tree {
    fn dir(&self) -> PathBuf {
        self.folder.path().join("kubernetes")
    }

    fn file(&self, file: &str) -> PathBuf {
        self.dir().join(file)
    }

    /// Certificate and key of a CA by its stem: `ca`, `etcd/ca`, `front-proxy-ca`.
    fn ca(&self, stem: &str) -> (PathBuf, PathBuf) {
        (self.file(&format!("pki/{stem}.crt")), self.file(&format!("pki/{stem}.key")))
    }

    /// Issues the pair with this stem again.
    fn reissue(&self, stem: &str, ca: &str, issue: &Issue) {
        let (cert, key) = self.ca(stem);
        let (ca_cert, ca_key) = self.ca(ca);
        issue.write(self.at, &cert, &key, (&ca_cert, &ca_key));
    }

    /// Issues the certificate in a combined file again.
    fn reissue_pem(&self, pem: &str, issue: &Issue) {
        let (ca_cert, ca_key) = self.ca("ca");
        issue.write(self.at, &self.file(pem), &self.file(pem), (&ca_cert, &ca_key));
    }

    /// Replaces a CA's own certificate, self-signed with the key it has, in its bundle too.
    fn recertify(&self, stem: &str, issue: &Issue) {
        let (cert, key) = self.ca(stem);
        issue.write_self_signed(self.at, &cert, &key);
        let bundle = self.file(&format!("pki/{stem}-bundle.crt"));
        if bundle.exists() {
            fs::copy(&cert, bundle).expect("bundle");
        }
    }

    fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.file(file);
        let text = fs::read_to_string(&path).expect(file);
        fs::write(&path, change(text)).expect(file);
    }

    /// openssl's own verdict on a leaf.
    fn openssl_accepts(&self, ca: &str, cert: &str, more: &[&str]) -> bool {
        Command::new("openssl")
            .args([
                "verify",
                "-x509_strict",
                "-partial_chain",
                "-attime",
                &self.at.unix().to_string(),
            ])
            .args(more)
            .arg("-CAfile")
            .arg(self.file(ca))
            .arg(self.file(cert))
            .output()
            .expect("openssl starts")
            .status
            .success()
    }

    fn verify(&self) -> (Option<i32>, Value) {
        let output = support::certkit()
            .args(["verify", "-o", "json", "--at", &self.at.to_string(), "--dir"])
            .arg(self.dir())
            .output()
            .expect("certkit starts");
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
        });
        (output.status.code(), report)
    }
}

fn copy_of(which: Base) -> Tree {
    let folder = support::temp_dir();
    let tree = Tree { folder, at: at(which) };
    support::run(Command::new("cp").arg("-a").arg(base(which)).arg(tree.dir()));
    if let Base::OneHost | Base::SingleRoot = which {
        // Kubeconfigs name the directory they were made in.
        let old = base(which).display().to_string();
        let new = tree.dir().display().to_string();
        for file in ["controller-manager.conf", "kubelet.conf", "scheduler.conf"] {
            tree.edit(file, |text| text.replace(&old, &new));
        }
    }
    tree
}

/// A seeded fault: what is spoilt, what must be found, and where.
fn check(which: Base, code: &str, file: &str, spoil: impl FnOnce(&Tree)) -> (Tree, Value) {
    let tree = copy_of(which);
    spoil(&tree);
    let (exit, report) = tree.verify();
    let findings = report["findings"].as_array().expect("findings");
    let shown = || serde_json::to_string_pretty(&report["findings"]).expect("JSON");
    let found = findings.iter().find(|f| {
        f["code"] == code && f["files"].as_array().is_some_and(|all| all.iter().any(|f| f == file))
    });
    let Some(found) = found else { panic!("no {code} in {file}: {}", shown()) };
    for other in findings.iter().filter(|f| f["severity"] == "critical") {
        assert_eq!(other["code"], code, "another critical finding: {}", shown());
    }
    let worst = match found["severity"].as_str() {
        Some("critical") => 2,
        Some("warning") => 1,
        _ => 0,
    };
    assert_eq!(exit, Some(worst), "{}", shown());
    (tree, report)
}

/// The paths that a finding of this code says it breaks or opens.
fn paths(report: &Value, code: &str) -> Vec<String> {
    let findings = report["findings"].as_array().expect("findings");
    let named = findings.iter().filter(|f| f["code"] == code).flat_map(|f| {
        f["paths"].as_array().into_iter().flatten().filter_map(|p| p.as_str().map(str::to_owned))
    });
    named.collect()
}

macro_rules! faults {
    ($($name:ident: $base:ident, $code:literal, $file:literal, |$tree:ident| $spoil:block)*) => {
        $(#[test]
        fn $name() {
            if support::need("openssl").is_none() {
                return;
            }
            check(Base::$base, $code, $file, |$tree: &Tree| $spoil);
        })*

        /// How many there are.
        const FAULTS: usize = [$(stringify!($name)),*].len();
    };
}

faults! {
    a_key_of_another_certificate: OneHost, "key-mismatch", "pki/apiserver.key", |t| {
        new_key(&t.file("pki/apiserver.key"));
    }
    a_combined_file_with_another_key: OneHost, "key-mismatch", "pki/kubelet-client.pem", |t| {
        new_key(&t.file("new.key"));
        let key = fs::read_to_string(t.file("new.key")).unwrap();
        fs::remove_file(t.file("new.key")).unwrap();
        t.edit("pki/kubelet-client.pem", |text| {
            let start = text.find("-----BEGIN EC PRIVATE KEY").unwrap();
            format!("{}{key}", &text[..start])
        });
    }
    a_certificate_without_its_key: OneHost, "key-missing", "pki/scheduler.key", |t| {
        fs::remove_file(t.file("pki/scheduler.key")).unwrap();
    }
    a_key_under_a_password: OneHost, "key-encrypted", "pki/scheduler.key", |t| {
        let file = t.file("pki/scheduler.key");
        let sealed = t.file("sealed");
        support::run(
            Command::new("openssl")
                .args(["pkcs8", "-topk8", "-passout", "pass:secret", "-in"])
                .arg(&file)
                .arg("-out")
                .arg(&sealed),
        );
        fs::rename(sealed, file).unwrap();
    }
    a_certificate_that_is_gone: OneHost, "missing", "pki/front-proxy-client.crt", |t| {
        fs::remove_file(t.file("pki/front-proxy-client.crt")).unwrap();
    }
    a_kubeconfig_that_is_gone: OneHost, "missing", "scheduler.conf", |t| {
        fs::remove_file(t.file("scheduler.conf")).unwrap();
    }
    garbage_in_a_certificate: OneHost, "damaged", "pki/scheduler.crt", |t| {
        fs::write(t.file("pki/scheduler.crt"), "no certificate\n").unwrap();
    }
    an_empty_key: OneHost, "damaged", "pki/etcd/peer.key", |t| {
        fs::write(t.file("pki/etcd/peer.key"), "").unwrap();
    }
    a_kubeconfig_cut_short: OneHost, "damaged", "kubelet.conf", |t| {
        t.edit("kubelet.conf", |text| text[..text.len() / 2].to_owned());
    }
    a_folder_in_a_files_place: OneHost, "damaged", "pki/controller-manager.crt", |t| {
        fs::remove_file(t.file("pki/controller-manager.crt")).unwrap();
        fs::create_dir(t.file("pki/controller-manager.crt")).unwrap();
    }
    a_client_of_the_wrong_ca: OneHost, "wrong-ca", "pki/apiserver-kubelet-client.crt", |t| {
        t.reissue("apiserver-kubelet-client", "etcd/ca", &Issue::leaf().client());
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver-kubelet-client.crt", &[]));
    }
    a_server_of_the_wrong_ca: OneHost, "wrong-ca", "pki/etcd/server.crt", |t| {
        t.reissue("etcd/server", "ca", &Issue::leaf().both(ETCD));
        assert!(!t.openssl_accepts("pki/etcd/ca.crt", "pki/etcd/server.crt", &[]));
    }
    a_front_proxy_client_of_the_users_ca: OneHost, "wrong-ca", "pki/front-proxy-client.crt", |t| {
        t.reissue("front-proxy-client", "ca", &Issue::leaf().client());
    }
    a_leaf_signed_by_itself: OneHost, "chain-broken", "pki/apiserver.crt", |t| {
        let (cert, key) = t.ca("apiserver");
        Issue::leaf().server(API).write_self_signed(t.at, &cert, &key);
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver.crt", &[]));
    }
    a_ca_of_the_same_name_with_another_key: OneHost, "chain-broken", "pki/kubelet.crt", |t| {
        let (ca, ca_key) = foreign_ca(t.at, t.folder.path(), "/CN=kubernetes");
        let (cert, key) = t.ca("kubelet");
        let names = "DNS:cp1,IP:10.0.0.11";
        Issue::leaf().server(names).write(t.at, &cert, &key, (&ca, &ca_key));
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/kubelet.crt", &[]));
    }
    a_foreign_ca: OneHost, "chain-broken", "pki/apiserver-etcd-client.crt", |t| {
        let (ca, ca_key) = foreign_ca(t.at, t.folder.path(), "/CN=somebody");
        let (cert, key) = t.ca("apiserver-etcd-client");
        Issue::leaf().client().write(t.at, &cert, &key, (&ca, &ca_key));
    }
    a_server_for_clients_only: OneHost, "usage-missing", "pki/apiserver.crt", |t| {
        let issue = Issue::leaf().server(API).client();
        t.reissue("apiserver", "ca", &issue);
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver.crt", &["-purpose", "sslserver"]));
    }
    an_etcd_server_that_cannot_dial_itself: OneHost, "usage-missing", "pki/etcd/server.crt", |t| {
        t.reissue("etcd/server", "etcd/ca", &Issue::leaf().server(ETCD));
        assert!(!t.openssl_accepts("pki/etcd/ca.crt", "pki/etcd/server.crt", &["-purpose", "sslclient"]));
    }
    a_client_for_servers_only: OneHost, "usage-missing", "pki/etcd/healthcheck-client.crt", |t| {
        let issue = Issue::leaf().with("extendedKeyUsage", "serverAuth");
        t.reissue("etcd/healthcheck-client", "etcd/ca", &issue);
        assert!(!t.openssl_accepts(
            "pki/etcd/ca.crt", "pki/etcd/healthcheck-client.crt", &["-purpose", "sslclient"]
        ));
    }
    a_key_usage_that_cannot_sign_handshakes: OneHost, "usage-missing", "pki/scheduler.crt", |t| {
        let names = "DNS:cp1,DNS:localhost,IP:10.0.0.11,IP:127.0.0.1,IP:::1";
        let issue = Issue::leaf().server(names).with("keyUsage", "critical,dataEncipherment");
        t.reissue("scheduler", "ca", &issue);
    }
    a_client_that_may_serve: OneHost, "usage-excessive", "pki/front-proxy-client.crt", |t| {
        let issue = Issue::leaf().with("extendedKeyUsage", "clientAuth,serverAuth");
        t.reissue("front-proxy-client", "front-proxy-ca", &issue);
    }
    a_client_for_everything: OneHost, "usage-excessive", "pki/apiserver-etcd-client.crt", |t| {
        t.reissue("apiserver-etcd-client", "etcd/ca", &Issue::leaf());
    }
    a_leaf_that_signs: OneHost, "usage-excessive", "pki/apiserver-kubelet-client.crt", |t| {
        let issue = Issue::leaf().client().with("keyUsage", "critical,digitalSignature,keyCertSign");
        t.reissue("apiserver-kubelet-client", "ca", &issue);
    }
    a_leaf_that_is_a_ca: OneHost, "leaf-is-ca", "pki/apiserver-kubelet-client.crt", |t| {
        let issue = Issue::leaf().client().with("basicConstraints", "critical,CA:TRUE");
        t.reissue("apiserver-kubelet-client", "ca", &issue);
    }
    no_service_address: OneHost, "san-missing", "pki/apiserver.crt", |t| {
        t.reissue("apiserver", "ca", &Issue::leaf().server(&API.replace(",IP:10.96.0.1", "")));
        let ip = &["-verify_ip", "10.96.0.1"];
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver.crt", ip));
    }
    no_service_name: OneHost, "san-missing", "pki/apiserver.crt", |t| {
        let names = API.replace(",DNS:kubernetes.default.svc,", ",");
        t.reissue("apiserver", "ca", &Issue::leaf().server(&names));
        let name = &["-verify_hostname", "kubernetes.default.svc"];
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver.crt", name));
    }
    no_address_in_an_apiserver: OneHost, "san-missing", "pki/apiserver.crt", |t| {
        t.reissue("apiserver", "ca", &Issue::leaf().server(&API.replace(",IP:10.0.0.11", "")));
        let ip = &["-verify_ip", "10.0.0.11"];
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver.crt", ip));
    }
    no_address_in_a_kubelet: OneHost, "san-missing", "pki/kubelet.crt", |t| {
        t.reissue("kubelet", "ca", &Issue::leaf().server("DNS:cp1"));
    }
    no_loopback_in_etcd: OneHost, "san-missing", "pki/etcd/server.crt", |t| {
        let names = "DNS:cp1,IP:10.0.0.11";
        t.reissue("etcd/server", "etcd/ca", &Issue::leaf().both(names));
    }
    a_peer_without_the_peers_name: OneHost, "san-missing", "pki/etcd/peer.crt", |t| {
        t.reissue("etcd/peer", "etcd/ca", &Issue::leaf().both(ETCD));
    }
    a_name_too_many: OneHost, "san-surplus", "pki/apiserver.crt", |t| {
        let names = format!("{API},DNS:api.example.org");
        t.reissue("apiserver", "ca", &Issue::leaf().server(&names));
    }
    the_peers_name_in_etcds_server: OneHost, "san-surplus", "pki/etcd/server.crt", |t| {
        t.reissue("etcd/server", "etcd/ca", &Issue::leaf().both(PEER));
    }
    another_nodes_identity: OneHost, "identity", "pki/kubelet-client.pem", |t| {
        let issue = Issue::leaf().client().subject("/O=system:nodes/CN=system:node:cp2");
        t.reissue_pem("pki/kubelet-client.pem", &issue);
    }
    a_node_without_its_group: OneHost, "identity", "pki/kubelet-client.pem", |t| {
        let issue = Issue::leaf().client().subject("/CN=system:node:cp1");
        t.reissue_pem("pki/kubelet-client.pem", &issue);
    }
    a_scheduler_of_another_name: OneHost, "identity", "pki/scheduler-client.pem", |t| {
        t.reissue_pem("pki/scheduler-client.pem", &Issue::leaf().client().subject("/CN=scheduler"));
    }
    a_front_proxy_of_another_name: OneHost, "identity", "pki/front-proxy-client.crt", |t| {
        let issue = Issue::leaf().client().subject("/CN=proxy");
        t.reissue("front-proxy-client", "front-proxy-ca", &issue);
    }
    masters_at_the_kubelets_door: OneHost, "system-masters", "pki/apiserver-kubelet-client.crt", |t| {
        let subject = "/O=system:masters/CN=kube-apiserver-kubelet-client";
        t.reissue("apiserver-kubelet-client", "ca", &Issue::leaf().client().subject(subject));
    }
    one_ca_for_two_roles: OneHost, "shared-ca", "pki/etcd/ca.crt", |t| {
        for end in ["crt", "key"] {
            fs::copy(t.file(&format!("pki/ca.{end}")), t.file(&format!("pki/etcd/ca.{end}"))).unwrap();
        }
        fs::copy(t.file("pki/ca.crt"), t.file("pki/etcd/ca-bundle.crt")).unwrap();
        t.reissue("etcd/server", "etcd/ca", &Issue::leaf().both(ETCD));
        t.reissue("etcd/peer", "etcd/ca", &Issue::leaf().both(PEER));
        t.reissue("etcd/healthcheck-client", "etcd/ca", &Issue::leaf().client());
        t.reissue("apiserver-etcd-client", "etcd/ca", &Issue::leaf().client());
    }
    users_pass_as_the_front_proxy: OneHost, "front-proxy-overlap", "pki/front-proxy-ca-bundle.crt", |t| {
        let users = fs::read_to_string(t.file("pki/ca.crt")).unwrap();
        t.edit("pki/front-proxy-ca-bundle.crt", |text| text + &users);
    }
    the_front_proxy_passes_as_a_user: OneHost, "front-proxy-overlap", "pki/ca-bundle.crt", |t| {
        let proxy = fs::read_to_string(t.file("pki/front-proxy-ca.crt")).unwrap();
        t.edit("pki/ca-bundle.crt", |text| text + &proxy);
    }
    a_ca_that_is_none: OneHost, "not-a-ca", "pki/etcd/ca.crt", |t| {
        t.recertify("etcd/ca", &Issue::ca().with("basicConstraints", "critical,CA:FALSE"));
        assert!(!t.openssl_accepts("pki/etcd/ca.crt", "pki/etcd/server.crt", &[]));
    }
    a_ca_that_may_not_sign: OneHost, "not-a-ca", "pki/front-proxy-ca.crt", |t| {
        t.recertify("front-proxy-ca", &Issue::ca().with("keyUsage", "critical,digitalSignature"));
        assert!(!t.openssl_accepts("pki/front-proxy-ca.crt", "pki/front-proxy-client.crt", &[]));
    }
    a_root_that_allows_no_ca_below: SingleRoot, "path-length", "pki/root-ca.crt", |t| {
        t.recertify("root-ca", &Issue::ca().with("basicConstraints", "critical,CA:TRUE,pathlen:0"));
        let ca = t.file("pki/ca.crt");
        let chain = &["-untrusted", ca.to_str().unwrap()];
        assert!(!t.openssl_accepts("pki/root-ca.crt", "pki/apiserver.crt", chain));
    }
    a_weak_key: OneHost, "weak-key", "pki/apiserver.key", |t| {
        let key = t.file("pki/apiserver.key");
        support::openssl(&["genrsa", "-traditional", "-out", key.to_str().unwrap(), "1024"]);
        chmod(&key, 0o600);
        t.reissue("apiserver", "ca", &Issue::leaf().server(API));
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver.crt", &["-auth_level", "2"]));
    }
    a_weak_signature: OneHost, "weak-signature", "pki/apiserver-kubelet-client.crt", |t| {
        t.reissue("apiserver-kubelet-client", "ca", &Issue::leaf().client().digest("sha1"));
        let level = &["-auth_level", "2"];
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver-kubelet-client.crt", level));
    }
    a_negative_serial: OneHost, "serial-negative", "pki/apiserver-etcd-client.crt", |t| {
        t.reissue("apiserver-etcd-client", "etcd/ca", &Issue::leaf().client().serial("-31"));
    }
    a_serial_of_zero: OneHost, "malformed", "pki/apiserver-etcd-client.crt", |t| {
        t.reissue("apiserver-etcd-client", "etcd/ca", &Issue::leaf().client().serial("00"));
    }
    one_serial_twice: OneHost, "serial-repeated", "pki/kubelet.crt", |t| {
        let serial = "5A00112233445566778899AA";
        t.reissue("apiserver", "ca", &Issue::leaf().server(API).serial(serial));
        let names = "DNS:cp1,IP:10.0.0.11";
        t.reissue("kubelet", "ca", &Issue::leaf().server(names).serial(serial));
    }
    a_leaf_that_outlives_its_ca: OneHost, "outlives-ca", "pki/apiserver-etcd-client.crt", |t| {
        t.reissue("apiserver-etcd-client", "etcd/ca", &Issue::leaf().client().until(9000));
    }
    a_ca_near_its_end: OneHost, "ca-ending", "pki/ca.crt", |t| {
        t.recertify("ca", &Issue::ca().until(350));
    }
    not_valid_yet: OneHost, "not-yet-valid", "pki/apiserver.crt", |t| {
        t.reissue("apiserver", "ca", &Issue::leaf().server(API).from(10));
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/apiserver.crt", &[]));
    }
    expired: OneHost, "expired", "pki/kubelet-client.pem", |t| {
        t.reissue_pem("pki/kubelet-client.pem", &Issue::leaf().client().until(-3));
        assert!(!t.openssl_accepts("pki/ca.crt", "pki/kubelet-client.pem", &[]));
    }
    an_expired_ca: OneHost, "expired", "pki/etcd/ca.crt", |t| {
        t.recertify("etcd/ca", &Issue::ca().until(-3));
        assert!(!t.openssl_accepts("pki/etcd/ca.crt", "pki/etcd/server.crt", &[]));
    }
    a_key_everybody_reads: OneHost, "key-readable", "pki/sa.key", |t| {
        chmod(&t.file("pki/sa.key"), 0o644);
    }
    a_kubeconfig_everybody_reads: OneHost, "key-readable", "admin.conf", |t| {
        chmod(&t.file("admin.conf"), 0o644);
    }
    a_key_its_group_reads: OneHost, "key-readable", "pki/ca.key", |t| {
        chmod(&t.file("pki/ca.key"), 0o640);
    }
    a_bundle_everybody_writes: OneHost, "file-writable", "pki/ca-bundle.crt", |t| {
        chmod(&t.file("pki/ca-bundle.crt"), 0o666);
    }
    a_folder_everybody_writes: OneHost, "directory-writable", "pki/etcd", |t| {
        chmod(&t.file("pki/etcd"), 0o777);
    }
    a_link_out_of_the_tree: OneHost, "symlink", "pki/apiserver.crt", |t| {
        let outside = t.folder.path().join("apiserver.crt");
        fs::rename(t.file("pki/apiserver.crt"), &outside).unwrap();
        symlink(&outside, t.file("pki/apiserver.crt")).unwrap();
    }
    another_sa_key: OneHost, "sa-mismatch", "pki/sa.pub", |t| {
        new_key(&t.file("pki/sa.key"));
    }
    two_certificates_to_sign_with: OneHost, "bundle-not-single", "pki/ca.crt", |t| {
        let (other, _) = foreign_ca(t.at, t.folder.path(), "/CN=kubernetes-old");
        let other = fs::read_to_string(other).unwrap();
        t.edit("pki/ca.crt", |text| text + &other);
    }
    a_bundle_without_the_active_ca: OneHost, "bundle-lacks-ca", "pki/ca-bundle.crt", |t| {
        let (other, _) = foreign_ca(t.at, t.folder.path(), "/CN=kubernetes-old");
        fs::copy(other, t.file("pki/ca-bundle.crt")).unwrap();
        // Those that embed it are right still.
    }
    a_kubeconfig_that_trusts_another_ca: OneHost, "kubeconfig-ca", "admin.conf", |t| {
        let other = support::openssl(&["base64", "-A", "-in", t.file("pki/etcd/ca.crt").to_str().unwrap()]);
        t.edit("admin.conf", |text| {
            let start = text.find("certificate-authority-data: ").unwrap() + 28;
            let end = start + text[start..].find('\n').unwrap();
            format!("{}{}{}", &text[..start], other.trim(), &text[end..])
        });
    }
    a_kubeconfig_that_verifies_nothing: OneHost, "kubeconfig-insecure", "super-admin.conf", |t| {
        t.edit("super-admin.conf", |text| {
            let start = text.find("    certificate-authority-data: ").unwrap();
            let end = start + text[start..].find('\n').unwrap();
            format!("{}    insecure-skip-tls-verify: true{}", &text[..start], &text[end..])
        });
    }
    an_older_issue_beside_the_current: OneHost, "stale-copy", "pki/apiserver.crt.old", |t| {
        fs::copy(t.file("pki/apiserver.crt"), t.file("pki/apiserver.crt.old")).unwrap();
        t.reissue("apiserver", "ca", &Issue::leaf().server(API));
    }
    a_certificate_nothing_uses: OneHost, "unused", "pki/old-proxy.crt", |t| {
        let key = t.folder.path().join("k");
        new_key(&key);
        Issue::leaf().subject("/CN=old-proxy").client().write_self_signed(t.at, &t.file("pki/old-proxy.crt"), &key);
    }
    a_key_nothing_uses: OneHost, "unused", "pki/old.key", |t| {
        new_key(&t.file("pki/old.key"));
        chmod(&t.file("pki/old.key"), 0o600);
    }
    a_ca_key_kept_elsewhere: OneHost, "external-ca", "pki/front-proxy-ca.key", |t| {
        fs::remove_file(t.file("pki/front-proxy-ca.key")).unwrap();
    }
    a_host_with_an_old_bundle: Workspace, "stale-copy", "hosts/cp2/pki/ca-bundle.crt", |t| {
        let (other, _) = foreign_ca(t.at, t.folder.path(), "/CN=kubernetes-old");
        fs::copy(other, t.file("hosts/cp2/pki/ca-bundle.crt")).unwrap();
    }
    a_host_without_its_copy: Workspace, "missing", "hosts/cp1/pki/sa.pub", |t| {
        fs::remove_file(t.file("hosts/cp1/pki/sa.pub")).unwrap();
    }
    undeclared_another_key: Kubeadm, "key-mismatch", "pki/front-proxy-client.key", |t| {
        new_key(&t.file("pki/front-proxy-client.key"));
    }
    undeclared_wrong_ca: Kubeadm, "wrong-ca", "pki/apiserver-etcd-client.crt", |t| {
        t.reissue("apiserver-etcd-client", "ca", &Issue::leaf().client());
    }
    undeclared_a_server_nobody_reaches_by_its_names: Kubeadm, "san-missing", "pki/apiserver.crt", |t| {
        t.edit("kubelet.conf", |text| text.replace("10.0.0.11:6443", "api.other.example:6443"));
    }
    undeclared_no_service_address: Kubeadm, "san-missing", "pki/apiserver.crt", |t| {
        let names = "DNS:cp1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
                     DNS:kubernetes.default.svc.cluster.local,DNS:api.prod.example.com,IP:10.0.0.11";
        t.reissue("apiserver", "ca", &Issue::leaf().server(names));
    }
    undeclared_masters_for_a_component: Kubeadm, "system-masters", "pki/apiserver-kubelet-client.crt", |t| {
        let subject = "/O=system:masters/CN=kube-apiserver-kubelet-client";
        t.reissue("apiserver-kubelet-client", "ca", &Issue::leaf().client().subject(subject));
    }
    what_kubeadm_leaves_open: Kubeadm, "etcd-peer-open", "pki/etcd/peer.crt", |_t| {}
}

#[test]
fn there_are_forty_faults_at_least() {
    const { assert!(FAULTS >= 40) };
}

#[test]
fn masters_in_admin_conf_is_a_warning() {
    if support::need("openssl").is_none() {
        return;
    }
    let (tree, _) = check(Base::OneHost, "system-masters", "admin.conf", |tree| {
        // Embedded: taken out, issued again, put back.
        let text = fs::read_to_string(tree.file("super-admin.conf")).unwrap();
        fs::write(tree.file("admin.conf"), text).unwrap();
    });
    drop(tree);
}

#[test]
fn a_file_of_somebody_else_is_a_warning() {
    let tree = copy_of(Base::OneHost);
    // Only root can give a file away.
    if chown(tree.file("pki/ca.crt"), Some(12345), None).is_ok() {
        let (exit, report) = tree.verify();
        assert_eq!(exit, Some(1));
        assert_eq!(report["findings"][0]["code"], "file-owner");
    }
}

#[test]
fn what_a_fault_breaks_is_named_with_it() {
    if support::need("openssl").is_none() {
        return;
    }
    let (_, report) = check(Base::OneHost, "expired", "pki/kubelet.crt", |tree| {
        let issue = Issue::leaf().server("DNS:cp1,IP:10.0.0.11").until(-3);
        tree.reissue("kubelet", "ca", &issue);
    });
    assert_eq!(paths(&report, "expired"), ["apiserver-to-kubelet", "monitoring-to-kubelet"]);
    let (_, report) = check(Base::OneHost, "front-proxy-overlap", "pki/ca-bundle.crt", |tree| {
        let proxy = fs::read_to_string(tree.file("pki/front-proxy-ca.crt")).unwrap();
        tree.edit("pki/ca-bundle.crt", |text| text + &proxy);
    });
    let opened = paths(&report, "front-proxy-overlap");
    assert!(opened.contains(&"front-proxy-client as a client of apiserver".into()), "{opened:?}");
}

#[test]
fn allow_and_deny_decide_what_counts() {
    let tree = copy_of(Base::Kubeadm);
    let verify = |more: &[&str]| {
        let mut command = support::certkit();
        command.args(["verify", "--at", &tree.at.to_string(), "--dir"]).arg(tree.dir()).args(more);
        command.output().unwrap().status.code()
    };
    assert_eq!(verify(&[]), Some(1));
    assert_eq!(verify(&["--allow", "etcd-peer-open"]), Some(0));
    assert_eq!(verify(&["--deny", "etcd-peer-open"]), Some(2));
    assert_eq!(verify(&["--deny", "etcd-peer-opem"]), Some(64));
}

#[test]
fn a_ca_rotation_under_way_is_sound() {
    if support::need("openssl").is_none() {
        return;
    }
    let tree = copy_of(Base::OneHost);
    // The new CA signs from now on; both are trusted; every leaf is still the old one's.
    let old = fs::read_to_string(tree.file("pki/ca.crt")).unwrap();
    let (cert, key) = foreign_ca(tree.at, tree.folder.path(), "/CN=kubernetes-g2");
    fs::copy(&cert, tree.file("pki/ca.crt")).unwrap();
    fs::copy(&key, tree.file("pki/ca.key")).unwrap();
    chmod(&tree.file("pki/ca.key"), 0o600);
    let new = fs::read_to_string(&cert).unwrap();
    fs::write(tree.file("pki/ca-bundle.crt"), format!("{new}{old}")).unwrap();
    let (exit, report) = tree.verify();
    assert_eq!(exit, Some(0), "{}", report["findings"]);
    // Then the apiserver gets a new certificate: who embeds the old CA alone is left behind.
    tree.reissue("apiserver", "ca", &Issue::leaf().server(API));
    let (exit, report) = tree.verify();
    let files: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["code"].as_str().unwrap(), f["files"][0].as_str().unwrap()))
        .collect();
    assert_eq!(files, [("kubeconfig-ca", "admin.conf"), ("kubeconfig-ca", "super-admin.conf")]);
    assert_eq!(exit, Some(2));
}

#[test]
fn what_cannot_be_read_is_exit_3() {
    let tree = copy_of(Base::OneHost);
    fs::remove_file(tree.file("pki/scheduler.crt")).unwrap();
    symlink("scheduler.crt", tree.file("pki/scheduler.crt")).unwrap();
    let (exit, report) = tree.verify();
    assert_eq!(exit, Some(3));
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["code"] == "unreadable"), "{findings:?}");
}

#[test]
fn each_hosts_own_tree_is_sound_by_itself() {
    let folder = support::temp_dir();
    let file = folder.path().join("cluster.yaml");
    fs::write(
        &file,
        "apiVersion: certkit/v1\nkind: Cluster\nname: x\nendpoint: api.example.com:6443\n\
         serviceSubnet: [172.20.0.0/16]\ncontrolPlane:\n- {name: cp1, addresses: [10.0.0.11, 'fd00::11']}\n\
         etcd:\n- {name: etcd1, addresses: [10.0.0.21]}\nnodes:\n- {name: w1, addresses: [10.0.1.1]}\n\
         addons: [kube-proxy, konnectivity]\n",
    )
    .unwrap();
    let dir = folder.path().join("pki");
    support::run(
        support::certkit().args(["init", "-q", "--config"]).arg(&file).arg("--dir").arg(&dir),
    );
    for host in ["cp1", "etcd1", "w1"] {
        let mut command = support::certkit();
        command.args(["verify", "-o", "json", "--dir"]).arg(dir.join("hosts").join(host));
        let report: Value = serde_json::from_slice(&support::run(&mut command).stdout).unwrap();
        assert_eq!(report["declared"], false);
        let codes: Vec<_> =
            report["findings"].as_array().unwrap().iter().map(|f| f["code"].clone()).collect();
        // CAs' keys are the operator's.
        assert!(codes.iter().all(|code| code == "external-ca"), "{host}: {codes:?}");
        assert_eq!(report["handshakes"]["mustWork"], report["handshakes"]["work"], "{host}");
    }
}
