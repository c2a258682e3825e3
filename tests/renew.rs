//! `certkit rotate FILE --ca FILE`: trees that certkit has no layout for, as k3s and people with openssl and cfssl have
//! them, renewed file by file and judged by openssl.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use support::{
    base64, certkit, need, openssl, run, run_to_exit, stdout, temp_dir,
    tree::{Entry, difference, snapshot},
};
use tempfile::TempDir;

/// A folder with CAs and certificates that openssl makes.
struct Tree(TempDir);

const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,digitalSignature\n\
                  subjectKeyIdentifier=hash\n";
/// The habits of somebody else: not critical, usages in another order, what certkit gives no meaning to.
const LEAF: &str = "extendedKeyUsage=clientAuth,serverAuth\nkeyUsage=keyEncipherment,digitalSignature\n\
                    subjectAltName=DNS:kubernetes,IP:10.43.0.1,URI:spiffe://k/api,otherName:1.2.3.4;UTF8:x\n\
                    authorityKeyIdentifier=keyid,issuer\nsubjectKeyIdentifier=hash\nbasicConstraints=CA:FALSE\n\
                    certificatePolicies=1.2.3.4\n";

impl Tree {
    fn new() -> Self {
        Self(temp_dir())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn openssl(&self, words: &str) -> String {
        stdout(Command::new("openssl").current_dir(self.path()).args(words.split_whitespace()))
    }

    fn key(&self, key: &str) {
        fs::create_dir_all(self.at(key).parent().unwrap()).unwrap();
        self.openssl(&format!("ecparam -genkey -name prime256v1 -noout -out {key}"));
        fs::set_permissions(self.at(key), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A CA in `STEM.crt` and `STEM.key`.
    fn ca(&self, stem: &str, subject: &str, days: i32) {
        self.key(&format!("{stem}.key"));
        fs::write(self.at("ext"), CA).unwrap();
        self.openssl(&format!("req -new -key {stem}.key -subj {subject} -out csr"));
        self.openssl(&format!(
            "x509 -req -in csr -signkey {stem}.key -days {days} -extfile ext -out {stem}.crt"
        ));
        for file in ["ext", "csr"] {
            fs::remove_file(self.at(file)).unwrap();
        }
    }

    /// A leaf in these two files.
    fn sign(&self, cert: &str, key: &str, by: &str, subject: &str, days: u32) {
        self.key(key);
        fs::write(self.at("ext"), LEAF).unwrap();
        self.openssl(&format!("req -new -key {key} -subj {subject} -out csr"));
        self.openssl(&format!(
            "x509 -req -in csr -CA {by}.crt -CAkey {by}.key -days {days} -extfile ext -out {cert}"
        ));
        for file in ["ext", "csr"] {
            fs::remove_file(self.at(file)).unwrap();
        }
    }

    fn leaf(&self, stem: &str, by: &str, subject: &str) {
        self.sign(&format!("{stem}.crt"), &format!("{stem}.key"), by, subject, 300);
    }

    fn rotate(&self, words: &str) -> Command {
        let mut command = certkit();
        command.current_dir(self.path()).arg("rotate").args(words.split_whitespace());
        command
    }

    fn refused(&self, exit: i32, words: &str) -> String {
        let before = snapshot(self.path());
        let said = stderr(&run_to_exit(&mut self.rotate(words), exit));
        assert_eq!(difference(&before, &snapshot(self.path())), Vec::<String>::new(), "{words}");
        said
    }

    /// What openssl reads of a certificate, but for what a new one has of its own.
    fn said(&self, file: &str) -> String {
        let text = self.openssl(&format!(
            "x509 -in {file} -noout -text -certopt no_sigdump,no_validity,no_serial,no_pubkey"
        ));
        let mut own = false;
        let kept = text.lines().filter(|line| {
            // The identifiers are the keys', and openssl lets the CA's serial number follow.
            let skip = own
                || line.trim_start().starts_with("DirName")
                || line.trim_start().starts_with("serial");
            own = line.contains("Subject Key Identifier")
                || line.contains("Authority Key Identifier");
            !skip
        });
        kept.map(|line| format!("{line}\n")).collect()
    }

    fn verify(&self, ca: &str, cert: &str) {
        assert!(self.openssl(&format!("verify -CAfile {ca} {cert}")).contains(": OK"));
    }

    fn pair(&self, cert: &str, key: &str) {
        let public = self.openssl(&format!("x509 -in {cert} -noout -pubkey"));
        assert_eq!(public, self.openssl(&format!("pkey -in {key} -pubout")), "{cert} {key}");
    }

    fn serial(&self, cert: &str) -> String {
        self.openssl(&format!("x509 -in {cert} -noout -serial"))
    }

    /// Whole days between beginning and end.
    fn days(&self, cert: &str) -> i64 {
        let date = |which: &str| {
            let line = self.openssl(&format!("x509 -in {cert} -noout -{which}"));
            let date = line.trim().split_once('=').unwrap().1.to_owned();
            let seconds = stdout(Command::new("date").args(["-u", "+%s", "-d", &date]));
            seconds.trim().parse::<i64>().unwrap()
        };
        (date("enddate") - date("startdate")) / 86_400
    }

    fn changed(&self, before: &BTreeMap<PathBuf, Entry>) -> BTreeSet<String> {
        let all = difference(before, &snapshot(self.path()));
        all.into_iter().filter(|path| !path.contains(".certkit")).collect()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// As k3s has it below `server/`: three CAs and etcd's two, leaves followed by their CA, kubeconfigs that name files.
fn k3s() -> Tree {
    let tree = Tree::new();
    for ca in ["server-ca", "client-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca"] {
        let name = ca.replace('/', "-");
        tree.ca(&format!("tls/{ca}"), &format!("/CN=k3s-{name}@1700000000"), 3650);
    }
    for (leaf, ca, subject) in [
        ("client-admin", "client-ca", "/O=system:masters/CN=system:admin"),
        ("client-scheduler", "client-ca", "/CN=system:kube-scheduler"),
        ("serving-kube-apiserver", "server-ca", "/CN=kube-apiserver"),
        ("client-auth-proxy", "request-header-ca", "/CN=system:auth-proxy"),
        ("etcd/server-client", "etcd/server-ca", "/CN=etcd-server"),
        ("etcd/peer-server-client", "etcd/peer-ca", "/CN=etcd-peer"),
    ] {
        tree.leaf(&format!("tls/{leaf}"), &format!("tls/{ca}"), subject);
        let file = format!("tls/{leaf}.crt");
        fs::write(tree.at(&file), tree.text(&file) + &tree.text(&format!("tls/{ca}.crt"))).unwrap();
    }
    fs::create_dir(tree.at("cred")).unwrap();
    let tls = tree.at("tls").display().to_string();
    fs::write(
        tree.at("cred/admin.kubeconfig"),
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: local\n  cluster:\n    server: https://127.0.0.1:6444\n    \
             certificate-authority: {tls}/server-ca.crt\ncontexts:\n- name: Default\n  context: {{cluster: local, \
             user: user}}\ncurrent-context: Default\nusers:\n- name: user\n  user:\n    client-certificate: \
             {tls}/client-admin.crt\n    client-key: {tls}/client-admin.key\n"
        ),
    )
    .unwrap();
    tree
}

#[test]
fn a_tree_of_k3s_is_watched_and_renewed() {
    if need("openssl").is_none() {
        return;
    }
    let tree = k3s();
    let dir = tree.at("tls");
    // Watched: every leaf and CA is a row, and what is there ends in time.
    let report =
        stdout(certkit().args(["check-expiration", "-o", "json", "--recursive"]).arg(&dir));
    for name in
        ["client-admin", "serving-kube-apiserver", "peer-server-client", "request-header-ca"]
    {
        assert!(report.contains(name), "{name}: {report}");
    }
    // What certkit has no layout for it does not call right.
    let output = certkit().args(["verify", "--dir"]).arg(&dir).output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));

    let before = snapshot(tree.path());
    let files = ["tls/client-admin.crt", "tls/client-scheduler.crt"];
    let texts = files.map(|file| tree.text(file));
    let old: Vec<_> = files.iter().map(|f| (tree.said(f), tree.serial(f), tree.days(f))).collect();
    let words = "tls/client-admin.crt tls/client-scheduler.crt --ca tls/client-ca.crt --ca-key tls/client-ca.key";
    let plan = stdout(&mut tree.rotate(&format!("{words} --dry-run")));
    assert!(plan.contains("client-admin.crt") && plan.contains("kept"), "{plan}");
    assert_eq!(tree.changed(&before), set([]));
    let done = stdout(&mut tree.rotate(words));
    assert!(done.contains("RESTART NEEDED") && done.contains("rotate --rollback"), "{done}");
    assert_eq!(tree.changed(&before), set(files));
    for (file, (said, serial, days)) in files.iter().zip(old) {
        assert_eq!((tree.said(file), tree.days(file)), (said, days));
        assert_ne!(tree.serial(file), serial);
        tree.verify("tls/client-ca.crt", file);
        tree.pair(file, &file.replace(".crt", ".key"));
        assert!(tree.text(file).ends_with(&tree.text("tls/client-ca.crt")), "the CA still follows");
    }
    // Lock, log and backups are where the files are, and lead back.
    assert!(tree.at("tls/.certkit/log.jsonl").is_file());
    run(certkit().args(["rotate", "--rollback", "--dir"]).arg(&dir));
    assert_eq!(files.map(|file| tree.text(file)), texts);

    // A kubeconfig that names its files is not what to renew.
    let words = "cred/admin.kubeconfig --ca tls/client-ca.crt";
    let said = tree.refused(3, words);
    assert!(said.contains("client-admin.crt") && said.contains("name that file"), "{said}");
    // And one CA is not another.
    let said = tree.refused(3, "tls/etcd/server-client.crt --ca tls/client-ca.crt");
    assert!(said.contains("did not") && said.contains("--force"), "{said}");
}

#[test]
fn what_openssl_and_cfssl_made_is_renewed_wherever_its_key_is() {
    if need("openssl").is_none() {
        return;
    }
    let tree = Tree::new();
    tree.ca("ca", "/C=DE/ST=Berlin/L=Berlin/O=Kubernetes/OU=CA/CN=Kubernetes", 3650);
    let subject = "/C=DE/ST=Berlin/L=Berlin/O=system:masters/OU=Hard-Way/CN=admin";
    tree.sign("admin.pem", "admin-key.pem", "ca", subject, 90);
    tree.sign("web.crt", "elsewhere/private.key", "ca", "/CN=web", 90);
    tree.sign("both", "both.key", "ca", "/CN=both", 90);
    let dump = tree.openssl("x509 -in both -text");
    fs::write(tree.at("both.pem"), format!("# of ours\n{}{dump}# end\n", tree.text("both.key")))
        .unwrap();
    fs::remove_file(tree.at("both")).unwrap();
    fs::remove_file(tree.at("both.key")).unwrap();

    // Its own key, as cfssl names it; of two files the key stays.
    let before = snapshot(tree.path());
    let (said, key) = (tree.said("admin.pem"), tree.text("admin-key.pem"));
    run(&mut tree.rotate("admin.pem --ca ca.crt"));
    assert_eq!(tree.changed(&before), set(["admin.pem"]));
    assert_eq!((tree.said("admin.pem"), tree.text("admin-key.pem")), (said, key));
    run(&mut tree.rotate("admin.pem --ca ca.crt --new-key"));
    assert_eq!(tree.changed(&before), set(["admin.pem", "admin-key.pem"]));
    tree.pair("admin.pem", "admin-key.pem");
    tree.verify("ca.crt", "admin.pem");

    // A key that is said. Without it, and with another, it is told what is missing.
    let said = tree.refused(3, "web.crt --ca ca.crt");
    assert!(said.contains("web.key or web-key.pem") && said.contains("--key"), "{said}");
    let said = tree.refused(3, "web.crt --ca ca.crt --key admin-key.pem");
    assert!(said.contains("admin-key.pem") && said.contains("is not the key of web.crt"), "{said}");
    run(&mut tree.rotate("web.crt --ca ca.crt --key elsewhere/private.key --new-key"));
    tree.pair("web.crt", "elsewhere/private.key");
    let key = tree.text("elsewhere/private.key");
    run(&mut tree.rotate("web.crt --ca ca.crt --reuse-key"));
    assert_eq!(tree.text("elsewhere/private.key"), key);
    tree.pair("web.crt", "elsewhere/private.key");

    // Both in one file: one rename, so a new key; comments stay, and what described the old one goes.
    let old = tree.text("both.pem");
    run(&mut tree.rotate("both.pem --ca ca.crt"));
    let new = tree.text("both.pem");
    assert!(
        new.starts_with("# of ours\n-----BEGIN EC PRIVATE KEY") && new.ends_with("# end\n"),
        "{new}"
    );
    assert!(old.contains("Signature Algorithm") && !new.contains("Signature Algorithm"));
    tree.pair("both.pem", "both.pem");
    tree.verify("ca.crt", "both.pem");
    let mode = |file: &str| fs::metadata(tree.at(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("both.pem"), mode("elsewhere/private.key")), (0o600, 0o600));
}

#[test]
fn what_cfssl_itself_made_keeps_everything_but_its_time() {
    if need("openssl").is_none() {
        return;
    }
    let tree = Tree::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cfssl-1.6.5");
    support::tree::copy(&from, tree.path());
    for (cert, key, choice) in [
        ("admin.pem", "admin-key.pem", ""),
        ("admin.pem", "admin-key.pem", "--new-key"),
        ("kubernetes.pem", "kubernetes-key.pem", ""),
    ] {
        // Names with the types of their strings, extensions with their order and criticality.
        let structure = || {
            let text = tree.openssl(&format!("asn1parse -in {cert}"));
            let words =
                |line: &str| line.split_once("prim:").map(|(_, rest)| rest.trim().to_owned());
            text.lines()
                .filter_map(words)
                .filter(|line| line.contains("STRING") || line.contains("OBJECT"))
                .filter(
                    // What the keys and the signature are.
                    |line| {
                        !line.starts_with("BIT STRING")
                            && !line.contains("HEX DUMP]:0414")
                            && !line.contains("HEX DUMP]:301680")
                    },
                )
                .collect::<Vec<_>>()
        };
        let old = (structure(), tree.said(cert), tree.days(cert), tree.serial(cert));
        run(&mut tree.rotate(&format!("{cert} --ca ca.pem {choice}")));
        let new = (structure(), tree.said(cert), tree.days(cert), tree.serial(cert));
        assert_eq!((&new.0, &new.1, new.2), (&old.0, &old.1, old.2), "{cert}");
        assert!(new.3 != old.3 && new.0.iter().any(|line| line.contains("PRINTABLESTRING")));
        tree.pair(cert, key);
        tree.verify("ca.pem", cert);
    }
    assert!(tree.openssl("asn1parse -in kubernetes.pem").contains("UTF8STRING"));
}

#[test]
fn an_embedded_credential_is_renewed_in_its_kubeconfig() {
    if need("openssl").is_none() {
        return;
    }
    let tree = Tree::new();
    tree.ca("ca", "/CN=ca", 3650);
    tree.leaf("user", "ca", "/O=system:masters/CN=user");
    let data = |file: &str| base64(tree.text(file).as_bytes());
    let text = format!(
        "# mine\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{user: u, cluster: k}}\nclusters:\n\
         - name: k\n  cluster: {{server: 'https://k:6443'}}\nusers:\n- name: other\n  user: {{token: secret}}\n- name: u\n  \
         user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        data("user.crt"),
        data("user.key")
    );
    fs::write(tree.at("k3s.yaml"), &text).unwrap();
    let before = snapshot(tree.path());
    run(&mut tree.rotate("k3s.yaml --ca ca.crt"));
    assert_eq!(tree.changed(&before), set(["k3s.yaml"]));
    let new = tree.text("k3s.yaml");
    let line = |text: &str, field: &str| {
        let line = text.lines().find(|line| line.contains(field)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    for (field, file) in [("client-certificate-data", "new.crt"), ("client-key-data", "new.key")] {
        assert_ne!(line(&new, field), line(&text, field));
        fs::write(tree.at("data"), line(&new, field)).unwrap();
        tree.openssl(&format!("base64 -d -A -in data -out {file}"));
    }
    tree.pair("new.crt", "new.key");
    tree.verify("ca.crt", "new.crt");
    assert_eq!(tree.said("new.crt"), tree.said("user.crt"));
    let other = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.contains("-data: ")).map(str::to_owned).collect()
    };
    assert_eq!(other(&new), other(&text));
}

#[test]
fn what_cannot_be_renewed_is_refused_by_name_and_nothing_is_written() {
    if need("openssl").is_none() {
        return;
    }
    let tree = Tree::new();
    tree.ca("ca", "/CN=ca", 3650);
    tree.ca("other", "/CN=other", 3650);
    tree.ca("old", "/CN=old", -1);
    tree.leaf("web", "ca", "/CN=web");
    tree.leaf("gone", "old", "/CN=gone");
    tree.leaf("twin", "ca", "/CN=twin");
    fs::write(tree.at("text.crt"), "hello\n").unwrap();
    fs::copy(tree.at("ca.crt"), tree.at("lone.crt")).unwrap();
    for (exit, words, wanted) in [
        (64, "ca.crt --ca ca.crt", "ca.crt: is a CA"),
        (3, "web.crt --ca other.crt", "CN=ca signed it, and other.crt (`CN=other`) did not"),
        (3, "gone.crt --ca old.crt", "old.crt: the CA expired"),
        (3, "web.crt --ca ca.crt --ca-key other.key", "other.key: is not the key of ca.crt"),
        (3, "web.crt --ca web.crt", "is not a CA certificate"),
        (3, "web.crt --ca lone.crt", "lone.crt: there is no key in it or beside it"),
        (3, "web.crt --ca none.crt", "none.crt: there is no such file"),
        (3, "web.crt --ca ca.crt --ca-key none.key", "none.key: there is no such file"),
        (3, "none.crt --ca ca.crt", "none.crt: is missing"),
        (3, "text.crt --ca ca.crt", "text.crt: cannot read certificates"),
        (3, "web.crt --ca text.crt", "text.crt: cannot read the CA's certificate"),
        (64, "web.crt twin.crt --ca ca.crt --key web.key", "--key is the key of one certificate"),
        (64, "--ca ca.crt", "required"),
        (64, "web.crt --ca ca.crt --csr-only", "--csr-only"),
        (64, "web.crt --ca ca.crt --wait", "--wait"),
        (64, "web.crt --ca-key ca.key", "--ca"),
    ] {
        let said = tree.refused(exit, words);
        assert!(said.contains(wanted), "{words}: {said}");
        assert!(said.contains("error:") || said.contains("warning:"), "{words}: {said}");
    }
    let dir = temp_dir();
    let said = tree.refused(64, &format!("web.crt --ca ca.crt --dir {}", dir.path().display()));
    assert!(said.contains("web.crt: is not below"), "{said}");
    // What is right beside what is not is renewed, and the exit code says that it was not all.
    let before = snapshot(tree.path());
    let said = stderr(&run_to_exit(&mut tree.rotate("web.crt gone.crt --ca ca.crt"), 4));
    assert!(said.contains("gone.crt"), "{said}");
    assert_eq!(tree.changed(&before), set(["web.crt"]));
    // One key for two certificates cannot become two.
    fs::copy(tree.at("web.crt"), tree.at("web.pem")).unwrap();
    let words = "web.crt web.pem --ca ca.crt --new-key";
    let said = stderr(&run_to_exit(&mut tree.rotate(words), 4));
    assert!(said.contains("web.key: is the key of another certificate"), "{said}");
    tree.pair("web.crt", "web.key");
    // Another CA signs if that is asked for, and its own chain follows then.
    run(&mut tree.rotate("twin.crt --ca other.crt --force"));
    tree.verify("other.crt", "twin.crt");
}

#[test]
fn time_and_passwords_count_as_for_every_rotation() {
    if need("openssl").is_none() {
        return;
    }
    let tree = Tree::new();
    tree.ca("ca", "/CN=ca", 400);
    tree.leaf("web", "ca", "/CN=web");
    let before = snapshot(tree.path());
    // Not due: nothing is touched, the CA's key may be anywhere, and nothing is said.
    assert_eq!(stdout(&mut tree.rotate("web.crt --ca ca.crt --within 30d")), "");
    assert_eq!(difference(&before, &snapshot(tree.path())), Vec::<String>::new());
    let plan = "web.crt --ca ca.crt --within 30d --dry-run --at";
    let later = stdout(&mut tree.rotate(&format!("{plan} {}", in_days(280))));
    assert!(later.contains("expires"), "{later}");
    assert_eq!(difference(&before, &snapshot(tree.path())), Vec::<String>::new());
    // It ends with its CA: cut, and said.
    tree.sign("long.crt", "long.key", "ca", "/CN=long", 3000);
    let done = stdout(&mut tree.rotate("long.crt --ca ca.crt"));
    assert!(done.contains("ends with its CA"), "{done}");
    assert!(tree.days("long.crt") < 401);
    // And then a new one would end no later.
    let said = stderr(&run_to_exit(&mut tree.rotate("long.crt --ca ca.crt --within 2y"), 1));
    assert!(said.contains("would end no later"), "{said}");

    tree.openssl("pkcs8 -topk8 -in ca.key -passout pass:word -out sealed.key");
    let words = "web.crt --ca ca.crt --ca-key sealed.key";
    let said = tree.refused(3, words);
    assert!(said.contains("sealed.key: the key is encrypted, and no password was given"), "{said}");
    let serial = tree.serial("web.crt");
    run(tree.rotate(words).env("CERTKIT_CA_KEY_PASSWORD", "word"));
    assert_ne!(tree.serial("web.crt"), serial);
    tree.verify("ca.crt", "web.crt");
    let output = run_to_exit(tree.rotate(words).env("CERTKIT_CA_KEY_PASSWORD", "wrong"), 3);
    assert!(stderr(&output).contains("password does not open"), "{}", stderr(&output));
}

fn in_days(days: u32) -> String {
    let date = format!("+{days} days");
    stdout(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &date])).trim().to_owned()
}

#[test]
fn records_are_kept_where_the_files_are_unless_said_otherwise() {
    if need("openssl").is_none() {
        return;
    }
    let tree = Tree::new();
    tree.ca("a/ca", "/CN=ca", 3650);
    tree.leaf("a/one", "a/ca", "/CN=one");
    tree.leaf("b/two", "a/ca", "/CN=two");
    run(&mut tree.rotate("a/one.crt --ca a/ca.crt"));
    assert!(tree.at("a/.certkit").is_dir());
    run(&mut tree.rotate("a/one.crt b/two.crt --ca a/ca.crt"));
    assert!(tree.at(".certkit").is_dir());
    run(tree.rotate("two.crt --ca ../a/ca.crt --dir ..").current_dir(tree.at("b")));
    assert!(!tree.at("b/.certkit").exists());
    // A link is followed as far as it stays inside of the folder.
    symlink("one.crt", tree.at("a/link.crt")).unwrap();
    symlink("one.key", tree.at("a/link.key")).unwrap();
    let serial = tree.serial("a/one.crt");
    run(&mut tree.rotate("a/link.crt --ca a/ca.crt"));
    assert_ne!(tree.serial("a/one.crt"), serial);
    symlink("../b/two.crt", tree.at("a/out.crt")).unwrap();
    symlink("../b/two.key", tree.at("a/out.key")).unwrap();
    let said = tree.refused(3, "a/out.crt --ca a/ca.crt");
    assert!(said.contains("symbolic link"), "{said}");
    run(&mut tree.rotate("a/out.crt --ca a/ca.crt --dir ."));
    // A hook is told what was changed.
    let words = ["rotate", "one.crt", "--ca", "ca.crt", "--hook", "echo \"$CERTKIT_FILES\" > told"];
    run(certkit().current_dir(tree.at("a")).args(words));
    assert_eq!(tree.text("a/told").trim(), tree.at("a/one.crt").display().to_string());
}

#[test]
fn a_hook_that_a_killed_run_owed_is_run_by_the_next() {
    if need("openssl").is_none() {
        return;
    }
    let tree = Tree::new();
    tree.ca("ca", "/CN=ca", 3650);
    tree.leaf("web", "ca", "/CN=web");
    let hook = |words: &str, hook: &str| {
        let mut command = tree.rotate(&format!("web.crt --ca ca.crt {words} --hook"));
        command.arg(hook);
        command
    };
    let killed = hook("", "kill -9 $PPID; sleep 1").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", stderr(&killed));
    let serial = tree.serial("web.crt");
    // Nothing is due; somebody is to be told all the same, and once.
    let told = "echo \"$CERTKIT_FILES\" >> told";
    run(&mut hook("--within 30d", told));
    run(&mut hook("--within 30d", told));
    assert_eq!(tree.text("told").trim(), tree.at("web.crt").display().to_string());
    assert_eq!(tree.serial("web.crt"), serial);
}

#[test]
fn what_certkit_yaml_declares_is_renewed_by_name() {
    if need("openssl").is_none() {
        return;
    }
    let tree = Tree::new();
    run(certkit().args(["init", "--host", "cp1=10.0.0.1", "--dir"]).arg(tree.path()));
    for words in ["pki/apiserver.crt --ca pki/ca.crt --dir .", "pki/apiserver.crt --ca pki/ca.crt"]
    {
        let said = tree.refused(64, words);
        assert!(
            said.contains("certkit.yaml") && said.contains("rotate pki/apiserver.crt"),
            "{said}"
        );
    }
    // What it does not know is somebody's all the same.
    tree.leaf("pki/web", "pki/ca", "/CN=web");
    run(&mut tree.rotate("pki/web.crt --ca pki/ca.crt"));
    assert!(!tree.at("pki/.certkit").exists(), "its records are where certkit.yaml is");
    run(tree.rotate("pki/web.crt --ca pki/ca.crt").env("CERTKIT_DIR", tree.path()));
    let openssl_says = openssl(&[
        "verify",
        "-CAfile",
        tree.at("pki/ca.crt").to_str().unwrap(),
        tree.at("pki/web.crt").to_str().unwrap(),
    ]);
    assert!(openssl_says.contains(": OK"));
}
