//! Trees that certkit did not make: kubeadm's own output and what people make with openssl, adopted,
//! renewed, and judged by openssl.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use support::{
    certkit, need, openssl, run, run_to_exit, stdout, temp_dir,
    tree::{copy, difference, snapshot},
};
use tempfile::TempDir;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn rotate(dir: &Path, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("rotate").arg("--dir").arg(dir).args(more);
    command
}

fn adopt(dir: &Path) -> Command {
    let mut command = certkit();
    command.args(["init", "--adopt"]).arg("--dir").arg(dir);
    command
}

/// A copy of what kubeadm made.
fn kubeadm(algorithm: &str) -> TempDir {
    let dir = temp_dir();
    let from =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-1.36").join(algorithm);
    copy(&from, dir.path());
    dir
}

const LEAVES: &[(&str, &str)] = &[
    ("pki/apiserver", "pki/ca.crt"),
    ("pki/apiserver-kubelet-client", "pki/ca.crt"),
    ("pki/front-proxy-client", "pki/front-proxy-ca.crt"),
    ("pki/etcd/server", "pki/etcd/ca.crt"),
    ("pki/etcd/peer", "pki/etcd/ca.crt"),
    ("pki/etcd/healthcheck-client", "pki/etcd/ca.crt"),
    ("pki/apiserver-etcd-client", "pki/etcd/ca.crt"),
];
const KUBECONFIGS: &[&str] = &[
    "admin.conf",
    "super-admin.conf",
    "controller-manager.conf",
    "scheduler.conf",
    "kubelet.conf",
];

/// What openssl reads of a certificate, without what renewal is to change.
fn said(file: &Path) -> BTreeSet<String> {
    let text = openssl(&[
        "x509",
        "-noout",
        "-text",
        "-certopt",
        "no_sigdump,no_validity,no_serial,no_pubkey",
        "-in",
        file.to_str().unwrap(),
    ]);
    // The subject's key identifier is the new key's; that there is one stays.
    let mut follows = false;
    let mut said = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if !follows {
            said.insert(line.to_owned());
        }
        follows = line == "X509v3 Subject Key Identifier:";
    }
    said
}

/// The embedded value of a kubeconfig's field, decoded into a file.
fn embedded(file: &Path, field: &str, to: &Path) -> PathBuf {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|l| l.trim_start().starts_with(&format!("{field}:"))).unwrap();
    let encoded = to.join("encoded");
    fs::write(&encoded, line.split_once(": ").unwrap().1).unwrap();
    let path = to.join(format!("{}-{field}.pem", file.file_name().unwrap().display()));
    openssl(&[
        "base64",
        "-d",
        "-A",
        "-in",
        encoded.to_str().unwrap(),
        "-out",
        path.to_str().unwrap(),
    ]);
    path
}

fn verify(ca: &Path, leaf: &Path, more: &[&str]) {
    let mut arguments = vec!["verify", "-CAfile", ca.to_str().unwrap()];
    arguments.extend(more);
    arguments.push(leaf.to_str().unwrap());
    assert!(openssl(&arguments).contains(": OK"));
}

fn matches(cert: &Path, key: &Path) {
    let cert = openssl(&["x509", "-noout", "-pubkey", "-in", cert.to_str().unwrap()]);
    assert_eq!(cert, openssl(&["pkey", "-pubout", "-in", key.to_str().unwrap()]));
}

/// Renews everything in a copy of kubeadm's tree, and looks for anything that should not have changed.
fn renewed(algorithm: &str, adopted: bool) {
    let dir = kubeadm(algorithm);
    let at = |file: &str| dir.path().join(file);
    let scratch = temp_dir();
    if adopted {
        run(&mut adopt(dir.path()));
    }
    let before = snapshot(dir.path());
    let leaves_before: Vec<_> =
        LEAVES.iter().map(|(l, _)| said(&at(&format!("{l}.crt")))).collect();
    let texts_before: Vec<_> =
        KUBECONFIGS.iter().map(|k| fs::read_to_string(at(k)).unwrap()).collect();
    let users_before: Vec<_> = KUBECONFIGS
        .iter()
        .map(|k| said(&embedded(&at(k), "client-certificate-data", scratch.path())))
        .collect();
    let headers =
        |file: &Path| fs::read_to_string(file).unwrap().lines().next().unwrap().to_owned();
    let key_headers: Vec<_> =
        LEAVES.iter().map(|(l, _)| headers(&at(&format!("{l}.key")))).collect();

    run(&mut rotate(dir.path(), &["--all"]));

    let expected: BTreeSet<String> = LEAVES
        .iter()
        .flat_map(|(leaf, _)| {
            // etcd reads its pairs at every handshake: their keys stay.
            let kept = ["pki/etcd/server", "pki/etcd/peer"].contains(leaf);
            [Some(format!("{leaf}.crt")), (!kept).then(|| format!("{leaf}.key"))]
        })
        .flatten()
        .chain(KUBECONFIGS.iter().map(|k| (*k).to_owned()))
        .collect();
    let changed: BTreeSet<String> = difference(&before, &snapshot(dir.path()))
        .into_iter()
        .filter(|path| !path.starts_with(".certkit"))
        .collect();
    assert_eq!(changed, expected, "{algorithm}");

    for (index, (leaf, ca)) in LEAVES.iter().enumerate() {
        let (cert, key) = (at(&format!("{leaf}.crt")), at(&format!("{leaf}.key")));
        assert_eq!(said(&cert), leaves_before[index], "{leaf}");
        verify(&at(ca), &cert, &["-x509_strict"]);
        matches(&cert, &key);
        assert_eq!(headers(&key), key_headers[index], "{leaf}: the form kubeadm reads");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&cert), mode(&key)), (0o644, 0o600));
    }
    for (index, name) in KUBECONFIGS.iter().enumerate() {
        let text = fs::read_to_string(at(name)).unwrap();
        let (old, new) = (texts_before[index].lines(), text.lines());
        let fields: Vec<String> = old
            .zip(new)
            .filter(|(old, new)| old != new)
            .map(|(_, new)| new.trim().split(':').next().unwrap().to_owned())
            .collect();
        assert_eq!(fields, ["client-certificate-data", "client-key-data"], "{name}");
        assert_eq!(text.lines().count(), texts_before[index].lines().count());
        let cert = embedded(&at(name), "client-certificate-data", scratch.path());
        let key = embedded(&at(name), "client-key-data", scratch.path());
        assert_eq!(said(&cert), users_before[index], "{name}");
        verify(&at("pki/ca.crt"), &cert, &["-x509_strict"]);
        matches(&cert, &key);
    }
    // And nothing is due any more.
    let after = snapshot(dir.path());
    assert_eq!(stdout(&mut rotate(dir.path(), &[])), "");
    assert_eq!(difference(&after, &snapshot(dir.path())), Vec::<String>::new());
}

#[test]
fn kubeadms_trees_are_renewed_as_they_are() {
    if need("openssl").is_none() {
        return;
    }
    renewed("ecdsa-p256", false);
    renewed("rsa-2048", false);
}

#[test]
fn adopted_kubeadm_trees_are_renewed_as_they_are() {
    if need("openssl").is_none() {
        return;
    }
    renewed("ecdsa-p256", true);
    renewed("rsa-2048", true);
}

#[test]
fn adopting_reproduces_what_kubeadm_was_told() {
    for algorithm in ["ecdsa-p256", "rsa-2048"] {
        let dir = kubeadm(algorithm);
        let before = snapshot(dir.path());
        let shown = stdout(adopt(dir.path()).arg("--dry-run"));
        assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
        run(&mut adopt(dir.path()));
        let changed: Vec<_> = difference(&before, &snapshot(dir.path()))
            .into_iter()
            .filter(|path| !path.starts_with(".certkit"))
            .collect();
        assert_eq!(changed, ["certkit.yaml"]);
        let text = fs::read_to_string(dir.path().join("certkit.yaml")).unwrap();
        assert_eq!(text, shown);
        support::golden(&format!("adopt/kubeadm-{algorithm}.yaml"), &text);
        // The plan after adopting is empty: for both commands that would change something.
        for command in ["init", "rotate"] {
            let report = stdout(certkit().arg(command).arg("--dir").arg(dir.path()).args([
                "--dry-run",
                "-o",
                "json",
            ]));
            let report: serde_json::Value = serde_json::from_str(&report).unwrap();
            let steps = report["steps"].as_array().unwrap();
            assert!(!steps.is_empty());
            assert!(steps.iter().all(|step| step["action"] == "keep"), "{report:#}");
        }
        let again = run_to_exit(&mut adopt(dir.path()), 3);
        assert!(stderr(&again).contains("is there already"), "{}", stderr(&again));
    }
}

#[test]
fn flags_of_an_adopted_cluster_name_only_files_that_are_there() {
    let dir = kubeadm("ecdsa-p256");
    run(&mut adopt(dir.path()));
    let flags = stdout(certkit().arg("flags").arg("--dir").arg(dir.path()));
    let mut files = 0;
    for word in flags.split(|c: char| c.is_whitespace() || c == '=') {
        if word.starts_with(dir.path().to_str().unwrap()) && word.contains("/pki/") {
            assert!(Path::new(word).exists(), "{word}");
            files += 1;
        }
    }
    assert!(files > 10, "{flags}");
}

#[test]
fn etcds_of_an_adopted_cluster_are_not_told_to_demand_a_name_that_they_lack() {
    let dir = kubeadm("ecdsa-p256");
    run(&mut adopt(dir.path()));
    let flags = stdout(certkit().args(["flags", "etcd", "--dir"]).arg(dir.path()));
    assert!(flags.contains("--peer-client-cert-auth=true"), "{flags}");
    assert!(!flags.contains("--peer-cert-allowed-hostname"), "{flags}");
    // What that leaves open is said, and nothing is broken.
    let mut command = certkit();
    command.args(["verify", "--dir"]).arg(dir.path());
    let output = run_to_exit(&mut command, 1);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("etcd-peer-open") && said.contains(" 0 critical, 1 warning"), "{said}");
}

#[test]
fn what_is_of_another_host_is_not_declared_to_be_of_this_one() {
    let dir = kubeadm("ecdsa-p256");
    let before = snapshot(dir.path());
    let mut command = certkit();
    command.args(["init", "--host", "other=10.9.9.9", "--dir"]).arg(dir.path());
    let output = run_to_exit(&mut command, 3);
    let said = stderr(&output);
    assert!(said.contains("pki/apiserver.crt") && said.contains("--adopt"), "{said}");
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
}

#[test]
fn nothing_that_an_adopted_cluster_does_without_is_missed() {
    let dir = kubeadm("ecdsa-p256");
    run(&mut adopt(dir.path()));
    for command in ["check-expiration", "verify"] {
        let output = certkit().arg(command).arg("--dir").arg(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!said.to_lowercase().contains("missing"), "{command}: {said}");
        // What verify does find is that kubeadm's etcd peers lack the name that certkit's flags ask for.
        let critical = said.lines().filter(|line| line.starts_with("critical"));
        assert!(critical.clone().count() <= 1, "{command}: {said}");
        assert!(critical.clone().all(|line| line.contains("etcd-to-etcd")), "{command}: {said}");
    }
}

#[test]
fn the_kubelets_symlink_stays_one_and_old_files_stay() {
    let tree = kubeadm("ecdsa-p256");
    // The kubelet's own folder is the one beside DIR that certkit changes: the same machine's.
    let machine = temp_dir();
    let (dir, kubelet) =
        (machine.path().join("etc/kubernetes"), machine.path().join("var/lib/kubelet/pki"));
    fs::create_dir_all(&kubelet).unwrap();
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    run(Command::new("cp").arg("-a").arg(tree.path()).arg(&dir));
    let scratch = temp_dir();
    // As the kubelet leaves it after joining: a dated file and a symlink with an absolute target.
    let conf = dir.join("kubelet.conf");
    let cert = embedded(&conf, "client-certificate-data", scratch.path());
    let key = embedded(&conf, "client-key-data", scratch.path());
    let dated = kubelet.join("kubelet-client-2026-01-01-00-00-00.pem");
    let both = fs::read_to_string(&cert).unwrap() + &fs::read_to_string(&key).unwrap();
    fs::write(&dated, &both).unwrap();
    let current = kubelet.join("kubelet-client-current.pem");
    std::os::unix::fs::symlink(&dated, &current).unwrap();
    let mut text = fs::read_to_string(&conf).unwrap();
    for field in ["client-certificate", "client-key"] {
        let start = text.find(&format!("{field}-data:")).unwrap();
        let end = start + text[start..].find('\n').unwrap();
        text.replace_range(start..end, &format!("{field}: {}", current.display()));
    }
    fs::write(&conf, &text).unwrap();
    let report = stdout(&mut rotate(&dir, &["kubelet.conf", "-o", "json"]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["components"][0]["component"], "kubelet");
    assert_eq!(report["components"][0]["restartNeeded"], true, "it never looks at the file again");
    assert_eq!(fs::read_to_string(&conf).unwrap(), text);
    assert_eq!(fs::read_to_string(&dated).unwrap(), both);
    let target = fs::read_link(&current).unwrap();
    assert!(target.is_absolute() && target != dated, "{target:?}");
    let name = target.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("kubelet-client-2") && name.ends_with(".pem"), "{name}");
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    verify(&dir.join("pki/ca.crt"), &target, &["-purpose", "sslclient"]);
    matches(&target, &target);
    assert_eq!(fs::read_dir(&kubelet).unwrap().count(), 3);
    // Back: the symlink points where it did, and the file that was added is gone.
    run(&mut rotate(&dir, &["--rollback"]));
    assert_eq!(fs::read_link(&current).unwrap(), dated);
    assert!(!target.exists());
}

#[test]
fn of_several_certificates_in_a_cas_file_the_keys_own_signs() {
    if need("openssl").is_none() {
        return;
    }
    let dir = kubeadm("ecdsa-p256");
    let ca = dir.path().join("pki/ca.crt");
    let other = fs::read_to_string(dir.path().join("pki/etcd/ca.crt")).unwrap();
    let own = fs::read_to_string(&ca).unwrap();
    let signer = dir.path().join("signer.crt");
    fs::write(&signer, &own).unwrap();
    for bundle in [format!("{other}{own}"), format!("# text around it\n{own}\n{other}")] {
        fs::write(&ca, &bundle).unwrap();
        run(&mut rotate(dir.path(), &["--all"]));
        let cert = dir.path().join("pki/apiserver.crt");
        verify(&signer, &cert, &["-x509_strict"]);
        assert_eq!(fs::read_to_string(cert).unwrap().matches("BEGIN").count(), 1);
        assert_eq!(fs::read_to_string(&ca).unwrap(), bundle);
    }
    run(&mut adopt(dir.path()));
    assert_eq!(stdout(&mut rotate(dir.path(), &[])), "");
}

#[test]
fn modes_and_owners_stay() {
    let dir = kubeadm("ecdsa-p256");
    let files = ["pki/apiserver.key", "pki/apiserver.crt", "admin.conf"];
    for file in files {
        let path = dir.path().join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&path, Some(4321), Some(1234)).unwrap();
        }
    }
    run(&mut rotate(dir.path(), &["apiserver", "admin.conf"]));
    for file in files {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::metadata(dir.path().join(file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o440, "{file}");
        if is_root() {
            assert_eq!((metadata.uid(), metadata.gid()), (4321, 1234), "{file}");
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn in_a_kubeconfig_only_the_credential_changes() {
    let dir = kubeadm("rsa-2048");
    let conf = dir.path().join("admin.conf");
    let text = fs::read_to_string(&conf).unwrap();
    let line = |field: &str| {
        let found = text.lines().find(|l| l.trim_start().starts_with(field)).unwrap();
        found.trim().split_once(": ").unwrap().1.to_owned()
    };
    let (cert, key) = (line("client-certificate-data"), line("client-key-data"));
    let authority = line("certificate-authority-data");
    // What people and tools leave in such a file.
    let odd = format!(
        "# keep me\r\nkind: Config\r\nx-unknown: {{a: [1, 2]}}\r\ncurrent-context: 'here'\r\n\
         contexts:\r\n- context: {{user: \"me\", cluster: c}}\r\n  name: here\r\n\
         - name: there\r\n  context:\r\n    cluster: c\r\n    user: robot\r\n    namespace: x\r\n\
         users:\r\n- name: robot\r\n  user:\r\n    token: secret # not ours\r\n\
         - user:\r\n    client-key-data:   \"{key}\"  # the key\r\n\
         \x20   client-certificate-data: {cert}\r\n  name: me\r\n\
         clusters:\r\n- name: c\r\n  cluster:\r\n    server: https://api:6443\r\n\
         \x20   certificate-authority-data: {authority}\r\n    extensions: []\r\n"
    );
    fs::write(&conf, &odd).unwrap();
    run(&mut rotate(dir.path(), &["admin.conf"]));
    let new = fs::read_to_string(&conf).unwrap();
    assert_ne!(new, odd);
    let (old_lines, new_lines) = (odd.split('\n'), new.split('\n'));
    let differing: Vec<(&str, &str)> = old_lines.zip(new_lines).filter(|(a, b)| a != b).collect();
    assert_eq!(differing.len(), 2);
    for ((_, new), (start, end)) in differing.iter().zip([
        ("    client-key-data:   \"", "\"  # the key\r"),
        ("    client-certificate-data: ", "\r"),
    ]) {
        assert!(new.starts_with(start) && new.ends_with(end), "{new}");
    }
}

/// A tree of openssl's: a root, an intermediate as the cluster's CA, and an apiserver certificate with
/// everything a careful administrator might put into one.
struct Handmade {
    dir: TempDir,
}

impl Handmade {
    fn new(algorithm: &[&str]) -> Self {
        let made = Self { dir: temp_dir() };
        fs::create_dir(made.at("pki")).unwrap();
        fs::create_dir(made.at("away")).unwrap();
        fs::write(
            made.at("away/ext"),
            "[root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier=hash\n\
             [ca]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
             [leaf]\nbasicConstraints=critical,CA:FALSE\n\
             keyUsage=critical,digitalSignature,nonRepudiation\n\
             extendedKeyUsage=serverAuth,clientAuth,1.3.6.1.5.5.7.3.17\n\
             subjectAltName=DNS:api.example.com,URI:spiffe://prod/api,IP:10.1.2.3,\
             otherName:1.3.6.1.4.1.311.20.2.3;UTF8:api@example.com\n\
             authorityKeyIdentifier=keyid\ncrlDistributionPoints=URI:http://crl.example.com/x.crl\n\
             certificatePolicies=1.2.3.4\n",
        )
        .unwrap();
        made.key("away/root.key", algorithm);
        made.key("pki/ca.key", algorithm);
        made.key("pki/apiserver.key", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        made.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "away/root.key",
            "-subj",
            "/DC=com/DC=example/CN=root",
            "-days",
            "3000",
            "-config",
            "away/ext",
            "-extensions",
            "root",
            "-out",
            "away/root.crt",
        ]);
        made.sign("pki/ca", "/C=DE/O=A/O=B/OU=one/OU=two/CN=issuer", "away/root", "ca");
        made.sign("pki/apiserver", "/O=Example/OU=platform/CN=kube-apiserver", "pki/ca", "leaf");
        let leaf = fs::read_to_string(made.at("pki/apiserver.crt")).unwrap();
        let ca = fs::read_to_string(made.at("pki/ca.crt")).unwrap();
        fs::write(made.at("pki/apiserver.crt"), leaf + &ca).unwrap();
        made
    }

    fn at(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn openssl(&self, arguments: &[&str]) {
        run(Command::new("openssl").current_dir(self.dir.path()).args(arguments));
    }

    fn key(&self, file: &str, algorithm: &[&str]) {
        let mut arguments = vec!["genpkey", "-out", file];
        arguments.extend(algorithm);
        self.openssl(&arguments);
    }

    fn sign(&self, stem: &str, subject: &str, by: &str, section: &str) {
        let file = |end: &str| format!("{stem}.{end}");
        self.openssl(&[
            "req",
            "-new",
            "-key",
            &file("key"),
            "-subj",
            subject,
            "-out",
            "away/csr",
            "-config",
            "away/ext",
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "away/csr",
            "-CA",
            &format!("{by}.crt"),
            "-CAkey",
            &format!("{by}.key"),
            "-days",
            "300",
            "-extfile",
            "away/ext",
            "-extensions",
            section,
            "-out",
            &file("crt"),
        ]);
    }

    /// Renews the apiserver's certificate and checks that openssl sees no other difference than it should.
    fn renew(&self) {
        let before = said(&self.at("pki/apiserver.crt"));
        let tree = snapshot(self.dir.path());
        run(&mut rotate(self.dir.path(), &["--all"]));
        let changed: Vec<_> = difference(&tree, &snapshot(self.dir.path()))
            .into_iter()
            .filter(|path| !path.starts_with(".certkit"))
            .collect();
        assert_eq!(changed, ["pki/apiserver.crt", "pki/apiserver.key"]);
        let digest = |mut said: BTreeSet<String>| {
            // With a P-521 key openssl signs SHA-256, certkit what goes with the key.
            said.retain(|line| !line.starts_with("Signature Algorithm: ecdsa"));
            said
        };
        assert_eq!(digest(said(&self.at("pki/apiserver.crt"))), digest(before));
        matches(&self.at("pki/apiserver.crt"), &self.at("pki/apiserver.key"));
        let key = fs::read_to_string(self.at("pki/apiserver.key")).unwrap();
        assert!(key.starts_with("-----BEGIN PRIVATE KEY"), "PKCS#8 as it was");
        // The intermediate still follows: a client with the root alone can verify.
        let chain = self.at("pki/apiserver.crt");
        verify(&self.at("away/root.crt"), &chain, &["-untrusted", chain.to_str().unwrap()]);
    }
}

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn an_intermediate_ca_and_every_field_of_a_leaf_survive() {
    if need("openssl").is_none() {
        return;
    }
    Handmade::new(P256).renew();
    Handmade::new(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]).renew();
    Handmade::new(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]).renew();
}

#[test]
fn a_p521_ca_signs() {
    if need("openssl").is_none() {
        return;
    }
    Handmade::new(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]).renew();
}

#[test]
fn everything_of_a_handmade_leaf_can_be_declared() {
    if need("openssl").is_none() {
        return;
    }
    let made = Handmade::new(P256);
    run(&mut adopt(made.dir.path()));
    let yaml = fs::read_to_string(made.at("certkit.yaml")).unwrap();
    assert!(yaml.contains("spiffe://prod/api") && yaml.contains("1.3.6.1.5.5.7.3.17"), "{yaml}");
    assert_eq!(stdout(&mut rotate(made.dir.path(), &[])), "");
    let mut before = said(&made.at("pki/apiserver.crt"));
    run(&mut rotate(made.dir.path(), &["--all"]));
    let after = said(&made.at("pki/apiserver.crt"));
    // What certkit gives no meaning to, no declaration holds.
    before.retain(|line| after.contains(line) || !is_carried_only_in_place(line));
    let order = |all: &BTreeSet<String>| {
        let words = |line: &String| {
            let mut words: Vec<String> = line.split(", ").map(str::to_owned).collect();
            words.sort();
            words.join(", ")
        };
        all.iter().map(words).collect::<BTreeSet<_>>()
    };
    assert_eq!(order(&after), order(&before));
    assert_eq!(stdout(&mut rotate(made.dir.path(), &[])), "");
}

fn is_carried_only_in_place(line: &str) -> bool {
    ["CRL", "Full Name", "URI:http://crl", "Policies", "Policy", "Subject Key"]
        .iter()
        .any(|w| line.contains(w))
}

#[test]
fn an_encrypted_ca_key_is_a_clear_error() {
    if need("openssl").is_none() {
        return;
    }
    // That a password is needed is a finding; what cannot be decrypted here at all is a failure.
    for (form, exit) in [(&["-aes256"][..], 1), (&["-aes256", "-traditional"], 3)] {
        let made = Handmade::new(P256);
        let mut arguments =
            vec!["pkey", "-in", "pki/ca.key", "-passout", "pass:x", "-out", "pki/enc"];
        arguments.extend(form);
        made.openssl(&arguments);
        fs::rename(made.at("pki/enc"), made.at("pki/ca.key")).unwrap();
        let before = snapshot(made.dir.path());
        let output = run_to_exit(&mut rotate(made.dir.path(), &["--all"]), exit);
        let said = stderr(&output);
        assert!(said.contains("pki/ca.key") && said.contains("encrypted"), "{said}");
        assert_eq!(difference(&before, &snapshot(made.dir.path())), Vec::<String>::new());
        // With nothing due the CA's key is nobody's business.
        run(&mut rotate(made.dir.path(), &[]));
    }
}

#[test]
fn what_another_ca_signed_is_left_alone_unless_named() {
    if need("openssl").is_none() {
        return;
    }
    let dir = kubeadm("ecdsa-p256");
    let made = Handmade::new(P256);
    for end in ["crt", "key"] {
        let to = dir.path().join(format!("pki/apiserver.{end}"));
        fs::copy(made.at(&format!("pki/apiserver.{end}")), to).unwrap();
    }
    let cert = dir.path().join("pki/apiserver.crt");
    let before = fs::read(&cert).unwrap();
    let output = run_to_exit(&mut rotate(dir.path(), &["--all"]), 1);
    assert!(stderr(&output).contains("apiserver (asked for): left alone"), "{}", stderr(&output));
    assert_eq!(fs::read(&cert).unwrap(), before);
    run(&mut rotate(dir.path(), &["apiserver"]));
    verify(&dir.path().join("pki/ca.crt"), &cert, &[]);
}

/// Signs every request as somebody else's CA does it.
fn sign_all(dir: &Path, by: &Path, to: &Path, more: &[&str]) -> Vec<PathBuf> {
    let mut signed = Vec::new();
    for entry in fs::read_dir(dir.join("csr")).unwrap() {
        let csr = entry.unwrap().path();
        if csr.extension().is_none_or(|e| e != "csr") {
            continue;
        }
        let out = to.join(csr.with_extension("crt").file_name().unwrap());
        let ca = |end: &str| by.with_extension(end).display().to_string();
        let (cert, key) = (ca("crt"), ca("key"));
        let mut arguments = vec![
            "x509",
            "-req",
            "-in",
            csr.to_str().unwrap(),
            "-CA",
            &cert,
            "-CAkey",
            &key,
            "-out",
            out.to_str().unwrap(),
            "-copy_extensions",
            "copyall",
        ];
        arguments.extend(more);
        run(Command::new("openssl").args(arguments));
        signed.push(out);
    }
    signed
}

fn import(dir: &Path, files: &[PathBuf]) -> Command {
    let mut command = certkit();
    command.arg("import").arg("--dir").arg(dir).args(files);
    command
}

#[test]
fn with_the_ca_elsewhere_requests_go_out_and_certificates_come_back() {
    if need("openssl").is_none() {
        return;
    }
    for adopted in [false, true] {
        let dir = kubeadm("ecdsa-p256");
        let away = temp_dir();
        for file in ["ca.crt", "ca.key"] {
            fs::copy(dir.path().join("pki").join(file), away.path().join(file)).unwrap();
        }
        fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
        if adopted {
            run(&mut adopt(dir.path()));
        }
        let output = run_to_exit(&mut rotate(dir.path(), &["--within", "2y"]), 1);
        assert!(stderr(&output).contains("--csr-only"), "{}", stderr(&output));
        // What is certkit's to renew was renewed; the same by name cannot be done.
        run_to_exit(&mut rotate(dir.path(), &["apiserver"]), 3);
        let before = snapshot(dir.path());
        run(&mut rotate(dir.path(), &["apiserver", "admin.conf", "kubelet.conf", "--csr-only"]));
        let made = ["admin.conf", "apiserver", "kubelet.conf"];
        let changed: Vec<_> = difference(&before, &snapshot(dir.path()))
            .into_iter()
            .filter(|path| !path.starts_with(".certkit") && path != "csr")
            .collect();
        let expected: Vec<String> =
            made.iter().flat_map(|m| [format!("csr/{m}.csr"), format!("csr/{m}.key")]).collect();
        assert_eq!(changed, expected, "nothing in use has changed");
        // Asked again, what waits stays.
        let waiting = snapshot(dir.path());
        run(&mut rotate(dir.path(), &["apiserver", "admin.conf", "kubelet.conf", "--csr-only"]));
        assert_eq!(difference(&waiting, &snapshot(dir.path())), Vec::<String>::new());

        let old = said(&dir.path().join("pki/apiserver.crt"));
        let signed = sign_all(dir.path(), &away.path().join("ca"), away.path(), &["-days", "90"]);
        run(import(dir.path(), &signed).arg("--dry-run"));
        assert_eq!(difference(&waiting, &snapshot(dir.path())), Vec::<String>::new());
        run(&mut import(dir.path(), &signed));
        let pair = |end: &str| dir.path().join(format!("pki/apiserver.{end}"));
        verify(&away.path().join("ca.crt"), &pair("crt"), &[]);
        matches(&pair("crt"), &pair("key"));
        let sans = |all: &BTreeSet<String>| all.iter().find(|l| l.starts_with("DNS:")).cloned();
        assert_eq!(sans(&said(&pair("crt"))), sans(&old));
        let cert = embedded(&dir.path().join("admin.conf"), "client-certificate-data", away.path());
        let key = embedded(&dir.path().join("admin.conf"), "client-key-data", away.path());
        matches(&cert, &key);
        assert!(!dir.path().join("csr/apiserver.key").exists());
        // Once more nothing is to be done. For a certificate of another key nobody waits.
        let done = snapshot(dir.path());
        let again = stdout(&mut import(dir.path(), &signed));
        assert!(again.contains("in place already: 3 of those given"), "{again}");
        let foreign = Handmade::new(P256);
        let refused = run_to_exit(&mut import(dir.path(), &[foreign.at("away/root.crt")]), 3);
        assert!(stderr(&refused).contains("no request that waits"), "{}", stderr(&refused));
        assert_eq!(difference(&done, &snapshot(dir.path())), Vec::<String>::new());
    }
}

#[test]
fn what_was_not_asked_for_is_not_taken_in() {
    if need("openssl").is_none() {
        return;
    }
    let dir = kubeadm("ecdsa-p256");
    let away = temp_dir();
    for file in ["ca.crt", "ca.key"] {
        fs::copy(dir.path().join("pki").join(file), away.path().join(file)).unwrap();
    }
    fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    run(&mut rotate(dir.path(), &["apiserver", "admin.conf", "--csr-only"]));
    let good = sign_all(dir.path(), &away.path().join("ca"), away.path(), &["-days", "90"]);
    let admin = good.iter().find(|f| f.to_str().unwrap().contains("admin")).unwrap();
    let csr = dir.path().join("csr/apiserver.csr");
    let bad = away.path().join("bad.crt");
    let extension = |text: &str| {
        let file = away.path().join("ext");
        fs::write(&file, text).unwrap();
        file
    };
    let other = Handmade::new(P256);
    let ca = away.path().join("ca");
    let names = "DNS:api-internal.prod.example.com,DNS:api.prod.example.com,DNS:cp1,DNS:kubernetes,\
                 DNS:kubernetes.default,DNS:kubernetes.default.svc,\
                 DNS:kubernetes.default.svc.cluster.local,IP:10.96.0.1,IP:10.0.0.11,IP:10.0.0.100";
    let rest =
        "keyUsage=critical,digitalSignature,keyEncipherment\nbasicConstraints=critical,CA:FALSE";
    let faults: &[(&str, String, &Path, &[&str])] = &[
        (
            "SAN missing IP:10.0.0.100",
            format!(
                "subjectAltName={}\nextendedKeyUsage=serverAuth\n{rest}",
                names.replace(",IP:10.0.0.100", "")
            ),
            &ca,
            &["-days", "90"],
        ),
        (
            "SAN surplus DNS:evil.example.com",
            format!(
                "subjectAltName={names},DNS:evil.example.com\nextendedKeyUsage=serverAuth\n{rest}"
            ),
            &ca,
            &["-days", "90"],
        ),
        (
            "usage surplus clientAuth",
            format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n{rest}"),
            &ca,
            &["-days", "90"],
        ),
        (
            "usage missing serverAuth",
            format!("subjectAltName={names}\nextendedKeyUsage=clientAuth\n{rest}"),
            &ca,
            &["-days", "90"],
        ),
        (
            "a CA, asked for a leaf",
            format!(
                "subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:TRUE"
            ),
            &ca,
            &["-days", "90"],
        ),
        (
            "subject CN=mallory, asked for CN=kube-apiserver",
            format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n{rest}"),
            &ca,
            &["-days", "90", "-subj", "/CN=mallory"],
        ),
        (
            "expired",
            format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n{rest}"),
            &ca,
            &["-days", "-1"],
        ),
        (
            "does not lead to pki/ca.crt",
            format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n{rest}"),
            &other.at("pki/ca"),
            &["-days", "90"],
        ),
    ];
    let before = snapshot(dir.path());
    for (fault, extensions, by, more) in faults {
        let ext = extension(extensions);
        let by_file = |end: &str| by.with_extension(end).display().to_string();
        let (ca, key) = (by_file("crt"), by_file("key"));
        let mut arguments = vec![
            "x509",
            "-req",
            "-in",
            csr.to_str().unwrap(),
            "-CA",
            &ca,
            "-CAkey",
            &key,
            "-extfile",
            ext.to_str().unwrap(),
            "-out",
            bad.to_str().unwrap(),
        ];
        arguments.extend(*more);
        run(Command::new("openssl").args(arguments));
        let output = run_to_exit(&mut import(dir.path(), &[admin.clone(), bad.clone()]), 3);
        let said = stderr(&output);
        assert!(said.contains(fault), "{fault}: {said}");
        assert!(said.contains("bad.crt: apiserver: "), "{said}");
        assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new(), "{fault}");
    }
    let early = ["--dry-run", "--at", "2020-01-01T00:00:00Z"];
    let said = stderr(&run_to_exit(import(dir.path(), &good).args(early), 3));
    assert!(said.contains("is not valid before"), "{said}");
    // Twice the same, nothing at all, and not even a certificate.
    let twice = [admin.clone(), admin.clone()];
    let said = stderr(&run_to_exit(&mut import(dir.path(), &twice), 3));
    assert!(said.contains("a second certificate"), "{said}");
    let said = stderr(&run_to_exit(&mut import(dir.path(), &[away.path().join("none")]), 3));
    assert!(said.contains("no such file"), "{said}");
    let said = stderr(&run_to_exit(&mut import(dir.path(), &[csr]), 3));
    assert!(said.contains("apiserver.csr"), "{said}");
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
    // What is right is still taken in.
    run(&mut import(dir.path(), &good));
}

#[test]
fn a_tree_that_cannot_be_declared_is_left_without_a_declaration() {
    let dir = kubeadm("ecdsa-p256");
    fs::copy(dir.path().join("pki/apiserver.key"), dir.path().join("pki/front-proxy-client.key"))
        .unwrap();
    let before = snapshot(dir.path());
    let output = run_to_exit(&mut adopt(dir.path()), 3);
    assert!(stderr(&output).contains("pki/front-proxy-client.key"), "{}", stderr(&output));
    assert_eq!(difference(&before, &snapshot(dir.path())), Vec::<String>::new());
    let empty = temp_dir();
    let output = run_to_exit(&mut adopt(empty.path()), 3);
    assert!(stderr(&output).contains("no certificate to adopt"), "{}", stderr(&output));
}

/// Signs `stem` again with openssl, which writes names as `UTF8String`s where Go has `PrintableString`s.
fn sign_with_openssl(dir: &Path, stem: &str, ca: &str, subject: &str, usage: &str) {
    let at = |name: &str| dir.join("pki").join(name).display().to_string();
    let (cert, key, csr) = (at(&format!("{stem}.crt")), at(&format!("{stem}.key")), at("new.csr"));
    let names = openssl(&["x509", "-in", &cert, "-noout", "-ext", "subjectAltName"]);
    let names = names.lines().nth(1).map(|line| line.trim().replace("IP Address", "IP"));
    let mut extensions = format!(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n\
         extendedKeyUsage={usage}\nauthorityKeyIdentifier=keyid\n"
    );
    extensions.extend(names.map(|names| format!("subjectAltName={names}\n")));
    fs::write(at("new.ext"), extensions).unwrap();
    openssl(&["req", "-new", "-key", &key, "-subj", subject, "-out", &csr]);
    let (ca_cert, ca_key) = (at(&format!("{ca}.crt")), at(&format!("{ca}.key")));
    openssl(&[
        "x509",
        "-req",
        "-in",
        &csr,
        "-CA",
        &ca_cert,
        "-CAkey",
        &ca_key,
        "-days",
        "300",
        "-extfile",
        &at("new.ext"),
        "-out",
        &cert,
    ]);
    fs::remove_file(csr).unwrap();
    fs::remove_file(at("new.ext")).unwrap();
    assert!(openssl(&["asn1parse", "-in", &cert]).contains("UTF8STRING"));
}

#[test]
fn names_that_openssl_wrote_are_the_ones_declared_and_stay_as_they_are() {
    if need("openssl").is_none() {
        return;
    }
    let dir = kubeadm("ecdsa-p256");
    let path = dir.path();
    // A server's name is nobody's identity, and is compared as RFC 5280 does it.
    sign_with_openssl(path, "apiserver", "ca", "/CN=Kube-APIServer", "serverAuth");
    let client = "/CN=kube-apiserver-kubelet-client";
    sign_with_openssl(path, "apiserver-kubelet-client", "ca", client, "clientAuth");
    let before = snapshot(&path.join("pki"));
    run(&mut adopt(path));
    let declared = fs::read_to_string(path.join("certkit.yaml")).unwrap();
    assert!(!declared.contains("ubject"), "{declared}");
    assert_eq!(difference(&before, &snapshot(&path.join("pki"))), Vec::<String>::new());
    run(certkit().args(["init", "--dir"]).arg(path));
    let plan = stdout(&mut rotate(path, &["--dry-run", "apiserver-kubelet-client"]));
    assert!(!plan.contains("declared"), "{plan}");
}

#[test]
fn another_users_name_is_another_name_whatever_rfc_5280_says() {
    if need("openssl").is_none() {
        return;
    }
    let dir = kubeadm("ecdsa-p256");
    run(&mut adopt(dir.path()));
    let client = "/CN=Kube-apiserver-kubelet-client";
    sign_with_openssl(dir.path(), "apiserver-kubelet-client", "ca", client, "clientAuth");
    let plan = stdout(&mut rotate(dir.path(), &["--dry-run"]));
    assert!(plan.contains("CN=Kube-apiserver-kubelet-client, declared"), "{plan}");
}

#[test]
fn files_behind_links_inside_dir_are_used_and_nothing_else_is() {
    for absolute in [false, true] {
        for whole in [true, false] {
            let dir = kubeadm("ecdsa-p256");
            let path = dir.path();
            let target = |name: &str| match absolute {
                true => path.join(name),
                false => PathBuf::from(name),
            };
            if whole {
                // As kubespray has it.
                fs::rename(path.join("pki"), path.join("ssl")).unwrap();
                std::os::unix::fs::symlink(target("ssl"), path.join("pki")).unwrap();
            } else {
                for name in ["apiserver.crt", "apiserver.key", "sa.key"] {
                    let kept = path.join("pki").join(format!("real-{name}"));
                    let link = path.join("pki").join(name);
                    fs::rename(&link, &kept).unwrap();
                    let to = match absolute {
                        true => kept,
                        false => PathBuf::from(format!("real-{name}")),
                    };
                    std::os::unix::fs::symlink(to, link).unwrap();
                }
            }
            let folder = if whole { "ssl" } else { "pki" };
            fs::copy(path.join("pki/sa.key"), path.join("pki/forgotten.key")).unwrap();
            let output =
                certkit().args(["verify", "-o", "json", "--dir"]).arg(path).output().unwrap();
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let findings = report["findings"].as_array().unwrap().iter();
            let unused: Vec<&str> = findings
                .filter(|finding| finding["code"] == "unused")
                .map(|finding| finding["files"][0].as_str().unwrap())
                .collect();
            assert_eq!(unused, [format!("{folder}/forgotten.key")], "{absolute} {whole}");
        }
    }
}
