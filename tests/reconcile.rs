//! A declaration that is edited, then `init` and `rotate`: what is there follows, and nothing that works
//! stops working.

mod support;

use std::{fs, path::Path};

use support::{
    certkit, run, stdout, temp_dir,
    tree::{copy, difference, snapshot},
};

fn init(dir: &Path) {
    run(certkit().arg("init").arg("--dir").arg(dir));
}

fn rotate(dir: &Path) -> String {
    stdout(certkit().arg("rotate").arg("--dir").arg(dir))
}

fn verify(dir: &Path) {
    run(certkit().arg("verify").arg("--dir").arg(dir));
}

/// A one-host tree.
fn one_host(dir: &Path, more: &[&str]) {
    run(certkit().arg("init").arg("--dir").arg(dir).args(["--host", "cp1=10.0.0.11"]).args(more));
}

/// Replaces text in the declaration, which must have it.
fn edit(dir: &Path, from: &str, to: &str) {
    let file = dir.join("certkit.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    fs::write(&file, text.replace(from, to)).unwrap();
}

#[test]
fn a_further_host_moves_and_re_issues_nothing() {
    for legacy in [false, true] {
        let dir = temp_dir();
        one_host(dir.path(), &[]);
        if legacy {
            // Declarations from before directories said what they are.
            edit(dir.path(), "layout: host\n", "");
        }
        let before = snapshot(dir.path());
        let text = fs::read_to_string(dir.path().join("certkit.yaml")).unwrap();
        let line = text.lines().find(|l| l.contains("cp1")).unwrap().to_owned();
        let more = "  - {name: cp2, addresses: [10.0.0.12]}\nnodes:\n  - {name: w1, addresses: [10.0.1.1]}";
        edit(dir.path(), &line, &format!("{line}\n{more}"));
        init(dir.path());
        assert_eq!(rotate(dir.path()), "");
        verify(dir.path());
        let after = snapshot(dir.path());
        let own = |path: &String| {
            !path.starts_with("hosts") && !path.starts_with(".certkit") && path != "certkit.yaml"
        };
        let changed: Vec<String> = difference(&before, &after).into_iter().filter(own).collect();
        assert!(changed.is_empty(), "{changed:?}");
        for file in ["hosts/cp2/pki/apiserver.crt", "hosts/cp2/pki/ca.key", "hosts/w1/kubelet.conf"]
        {
            assert!(dir.path().join(file).exists(), "{file}");
        }
        assert!(!dir.path().join("hosts/cp1").exists());
        // What a host names is where that host has it.
        let scheduler = fs::read_to_string(dir.path().join("hosts/cp2/scheduler.conf")).unwrap();
        assert!(scheduler.contains("/etc/kubernetes/pki/"), "{scheduler}");
    }
}

/// The handshakes that work, and those that must.
fn handshakes(dir: &Path) -> (u64, u64) {
    let output = certkit().args(["verify", "-o", "json", "--dir"]).arg(dir).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| report["handshakes"][name].as_u64().unwrap();
    (count("work"), count("mustWork"))
}

#[test]
fn a_changed_endpoint_moves_kubeconfigs_and_keeps_its_old_name() {
    for style in ["files", "embedded"] {
        let dir = temp_dir();
        let more = ["--endpoint", "api.old.example.com:6443", "--kubeconfig-style", style];
        one_host(dir.path(), &more);
        edit(dir.path(), "endpoint: api.old", "# the load balancer\nendpoint: api.new");
        init(dir.path());
        let plan = stdout(certkit().args(["rotate", "--dry-run", "--dir"]).arg(dir.path()));
        assert!(plan.contains("dials https://api.old.example.com:6443"), "{plan}");
        let said = rotate(dir.path());
        let rows = |text: &str| {
            let action = ["renew ", "update ", "keep "];
            let is_row = |l: &&str| action.iter().any(|a| l.starts_with(a));
            text.lines().filter(is_row).filter_map(|l| l.split_whitespace().nth(1)).count()
        };
        assert_eq!(rows(&plan), rows(&said), "a dry run is the run:\n{plan}\n{said}");
        verify(dir.path());
        for file in ["admin.conf", "super-admin.conf"] {
            let text = fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(text.contains("https://api.new.example.com:6443"), "{file}:\n{text}");
        }
        let text = fs::read_to_string(dir.path().join("certkit.yaml")).unwrap();
        assert!(text.contains("formerEndpoints: [api.old.example.com]"), "{text}");
        assert!(text.contains("# the load balancer\n"), "{text}");
        let names = names(&dir.path().join("pki/apiserver.crt"));
        for name in ["api.old.example.com", "api.new.example.com"] {
            assert!(names.contains(name), "{name} is not in {names}");
        }
        let before = snapshot(dir.path());
        init(dir.path());
        assert_eq!(rotate(dir.path()), "");
        assert!(difference(&before, &snapshot(dir.path())).is_empty());
        // Once nothing dials it any more, its user says so.
        edit(dir.path(), "formerEndpoints: [api.old.example.com]\n", "");
        rotate(dir.path());
        verify(dir.path());
        let after = self::names(&dir.path().join("pki/apiserver.crt"));
        assert!(!after.contains("api.old") && after.contains("api.new"), "{after}");
    }
}

#[test]
fn a_changed_service_subnet_keeps_the_address_that_pods_dial() {
    for (from, to, old, new) in [
        ("[10.96.0.0/12]", "[172.20.0.0/16]", "10.96.0.1", "172.20.0.1"),
        ("[10.96.0.0/12]", "['fd00:10::/108', 10.96.0.0/12]", "10.96.0.1", "FD00:10:0:0:0:0:0:1"),
    ] {
        let dir = temp_dir();
        one_host(dir.path(), &["--san", "10.7.7.7"]);
        edit(dir.path(), &format!("serviceSubnet: {from}"), &format!("serviceSubnet: {to}"));
        let plan = stdout(certkit().args(["rotate", "--dry-run", "--dir"]).arg(dir.path()));
        assert!(plan.contains("formerEndpoints") && plan.contains("every pod"), "{plan}");
        let said = rotate(dir.path());
        assert!(said.contains(&format!("IP:{old}: pods that run dial")), "{said}");
        verify(dir.path());
        let names = names(&dir.path().join("pki/apiserver.crt"));
        for address in [old, new, "10.0.0.11", "10.7.7.7"] {
            assert!(
                names.contains(&format!("IP Address:{address}")),
                "{address} is not in {names}"
            );
        }
        let text = fs::read_to_string(dir.path().join("certkit.yaml")).unwrap();
        let line = format!("formerEndpoints: [{old}]\n");
        assert!(text.contains(&line), "{text}");
        let before = snapshot(dir.path());
        init(dir.path());
        assert_eq!(rotate(dir.path()), "");
        assert!(difference(&before, &snapshot(dir.path())).is_empty());
        // And it goes when its user says so.
        edit(dir.path(), &line, "");
        rotate(dir.path());
        verify(dir.path());
        let after = self::names(&dir.path().join("pki/apiserver.crt"));
        assert!(
            !after.contains(old) && after.contains(new) && after.contains("10.7.7.7"),
            "{after}"
        );
    }
}

#[test]
fn another_address_that_is_no_longer_declared_is_not_taken_for_the_services() {
    let dir = temp_dir();
    one_host(dir.path(), &["--san", "10.7.7.7"]);
    edit(dir.path(), "10.7.7.7", "10.7.7.8");
    let said = rotate(dir.path());
    assert!(!said.contains("serviceSubnet"), "{said}");
    let names = names(&dir.path().join("pki/apiserver.crt"));
    assert!(!names.contains("10.7.7.7") && names.contains("10.96.0.1"), "{names}");
}

/// What openssl says of a certificate's names.
fn names(file: &Path) -> String {
    let file = file.display().to_string();
    support::openssl(&["x509", "-in", &file, "-noout", "-ext", "subjectAltName"])
}

/// A new CA put before the old one, as Kubernetes' manual rotation does it.
fn two_cas(dir: &Path) {
    copy(Path::new("tests/fixtures/kubeadm-1.36/ecdsa-p256"), dir);
    let at = |name: &str| dir.join("pki").join(name).display().to_string();
    run(std::process::Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=kubernetes",
        "-days",
        "3650",
        "-addext",
        "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign",
        "-keyout",
        &at("ca.key"),
        "-out",
        &at("new.crt"),
    ]));
    let old = fs::read(at("ca.crt")).unwrap();
    let mut both = fs::read(at("new.crt")).unwrap();
    both.extend(old);
    fs::write(at("ca.crt"), both).unwrap();
    fs::remove_file(at("new.crt")).unwrap();
}

#[test]
fn what_clients_do_not_trust_yet_is_not_shown_to_them() {
    if support::need("openssl").is_none() {
        return;
    }
    let dir = temp_dir();
    two_cas(dir.path());
    let (work, must) = handshakes(dir.path());
    assert_eq!(work, must);
    let dry = certkit().args(["rotate", "--all", "--dry-run", "--dir"]).arg(dir.path()).output();
    let output =
        support::run_to_exit(certkit().args(["rotate", "--all", "--dir"]).arg(dir.path()), 4);
    let talk = |output: &std::process::Output| String::from_utf8(output.stderr.clone()).unwrap();
    let said = talk(&output);
    // Clients that run trust the old CA alone until they read their kubeconfigs again.
    assert!(said.contains("apiserver") && said.contains("restart"), "{said}");
    let blocked = |text: &str| text.lines().filter(|l| l.contains("apiserver")).count();
    assert_eq!(blocked(&talk(&dry.unwrap())), blocked(&said), "a dry run is the run");
    assert_eq!(handshakes(dir.path()), (must, must));
    let served = names(&dir.path().join("pki/apiserver.crt"));
    assert!(!served.is_empty());
    // They have been restarted.
    run(certkit().args(["rotate", "--all", "--dir"]).arg(dir.path()));
    assert_eq!(handshakes(dir.path()), (must, must));
}

#[test]
fn what_breaks_a_path_is_done_where_it_is_asked_for() {
    if support::need("openssl").is_none() {
        return;
    }
    let dir = temp_dir();
    two_cas(dir.path());
    let before = fs::read(dir.path().join("pki/apiserver.crt")).unwrap();
    run(certkit().args(["rotate", "--all", "--force", "--dir"]).arg(dir.path()));
    assert_ne!(fs::read(dir.path().join("pki/apiserver.crt")).unwrap(), before);
}

#[test]
fn what_ends_with_its_ca_is_not_renewed_at_every_run() {
    let dir = temp_dir();
    one_host(dir.path(), &["--ca-validity", "20d", "--validity", "20d"]);
    // A third of what the certificates have left is less than the CA has.
    let before = snapshot(dir.path());
    let output = support::run_to_exit(
        certkit().args(["rotate", "--within", "19d23h59m", "--dir"]).arg(dir.path()),
        0,
    );
    assert!(output.stdout.is_empty());
    let output = support::run_to_exit(
        certkit().args(["rotate", "--within", "30d", "--dir"]).arg(dir.path()),
        1,
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("a new one would end no later"), "{said}");
    assert!(difference(&before, &snapshot(dir.path())).is_empty());
}

#[test]
fn a_directory_without_a_pki_is_an_error() {
    let dir = temp_dir();
    for more in [&[][..], &["--all"], &["--dry-run"]] {
        support::run_to_exit(certkit().arg("rotate").args(more).arg("--dir").arg(dir.path()), 3);
    }
    assert!(snapshot(dir.path()).is_empty());
}

#[test]
fn what_is_no_longer_declared_is_named_and_removed_when_asked() {
    let dir = temp_dir();
    run(certkit().arg("init").arg("--dir").arg(dir.path()).args([
        "--host=cp1=10.0.0.11",
        "--host=cp2=10.0.0.12",
        "--endpoint=api:6443",
        "--addon=kube-proxy",
        "--addon=konnectivity",
    ]));
    let text = fs::read_to_string(dir.path().join("certkit.yaml")).unwrap();
    let keep = |line: &&str| !line.contains("cp2");
    let text: String = text.lines().filter(keep).map(|l| format!("{l}\n")).collect();
    let text = text.replace("addons: [kube-proxy, konnectivity]", "addons: [kube-proxy]");
    fs::write(dir.path().join("certkit.yaml"), text).unwrap();
    let said = stdout(certkit().arg("init").arg("--dir").arg(dir.path()));
    let prune = format!("`certkit --dir {} prune` removes them", dir.path().display());
    assert!(said.contains(&format!("host cp2 is not declared; {prune}")), "{said}");
    assert!(said.contains("addon konnectivity is not declared"), "{said}");
    let before = snapshot(dir.path());
    let dry = stdout(certkit().args(["prune", "--dry-run", "--dir"]).arg(dir.path()));
    assert!(difference(&before, &snapshot(dir.path())).is_empty());
    let done = stdout(certkit().args(["prune", "--dir"]).arg(dir.path()));
    assert!(
        dry.contains("hosts/cp2/pki/apiserver.key") && done.contains("hosts/cp2/pki/apiserver.key")
    );
    for gone in ["hosts/cp2", "hosts/cp1/pki/konnectivity", "pki/konnectivity"] {
        assert!(!dir.path().join(gone).exists(), "{gone}");
    }
    for there in ["hosts/cp1/pki/ca.key", "hosts/cp1/kube-proxy.conf", "pki/etcd/ca.key"] {
        assert!(dir.path().join(there).exists(), "{there}");
    }
    let again = stdout(certkit().args(["prune", "--dir"]).arg(dir.path()));
    assert!(again.contains("nothing is there that is not declared"), "{again}");
    // What was removed can be had back.
    run(certkit().args(["rotate", "--rollback", "--dir"]).arg(dir.path()));
    assert!(dir.path().join("hosts/cp2/pki/apiserver.key").exists());
}

#[test]
fn what_a_distant_root_must_sign_is_asked_for_and_what_hangs_on_it_waits() {
    let dir = temp_dir();
    one_host(dir.path(), &["--single-root"]);
    let root = dir.path().join("pki/root-ca.key");
    let distant = dir.path().with_extension("root-ca.key");
    fs::rename(&root, &distant).unwrap();
    edit(dir.path(), "singleRoot: true", "singleRoot: true\naddons: [konnectivity]");
    let dry = stdout(certkit().args(["init", "--dry-run", "--dir"]).arg(dir.path()));
    let done = stdout(certkit().args(["init", "--dir"]).arg(dir.path()));
    for said in [&dry, &done] {
        assert!(said.contains("csr/konnectivity-ca.csr"), "{said}");
        assert!(
            said.contains("konnectivity-server, konnectivity-egress-client: waits until konnectivity-ca is signed"),
            "{said}"
        );
    }
    let before = snapshot(dir.path());
    init(dir.path());
    assert!(difference(&before, &snapshot(dir.path())).is_empty());
    fs::remove_file(distant).unwrap();
}

#[test]
fn a_dry_run_names_the_files_of_every_host() {
    let dir = temp_dir();
    let mut declared = Declared::new("host");
    let file = dir.path().join("certkit.yaml");
    for edit in [Edit::AddNode, Edit::AddNode, Edit::AddControlPlane, Edit::AddControlPlane] {
        declared.apply(edit);
    }
    fs::write(&file, declared.text()).unwrap();
    init(dir.path());
    declared.addons.push("konnectivity");
    fs::write(&file, declared.text()).unwrap();
    let ask = |more: &[&str]| {
        let text =
            stdout(certkit().arg("init").args(more).args(["-o", "json", "--dir"]).arg(dir.path()));
        steps(text.as_bytes())
    };
    let (dry, done) = (ask(&["--dry-run"]), ask(&[]));
    assert_eq!(dry, done);
    let files: Vec<&String> = done.iter().map(|(_, _, files)| files).collect();
    for host in ["cp4", "cp5"] {
        let file = format!("hosts/{host}/egress-selector.yaml");
        assert!(files.iter().any(|files| files.contains(&file)), "{file} is not in {files:?}");
    }
}

/// What somebody may do to a declaration.
#[derive(Clone, Copy, Debug)]
enum Edit {
    AddNode,
    AddControlPlane,
    RemoveLast,
    Endpoint,
    Address,
    DnsDomain,
    ServiceSubnet,
    San,
    NoSan,
    Addon,
    NoAddon,
    Algorithm,
    Override,
}

/// A declaration that edits are made to, written as a person writes it.
#[derive(Clone, Debug)]
struct Declared {
    layout: &'static str,
    control_plane: Vec<(usize, usize)>,
    nodes: Vec<usize>,
    endpoint: usize,
    domain: usize,
    subnet: usize,
    san: Option<usize>,
    addons: Vec<&'static str>,
    algorithm: &'static str,
    term: usize,
    next: usize,
}

impl Declared {
    fn new(layout: &'static str) -> Self {
        Self {
            layout,
            control_plane: vec![(1, 1)],
            nodes: vec![],
            endpoint: 0,
            domain: 0,
            subnet: 96,
            san: None,
            addons: vec![],
            algorithm: "ecdsa-p256",
            term: 0,
            next: 2,
        }
    }

    fn apply(&mut self, edit: Edit) {
        let next = self.next;
        self.next += 1;
        match edit {
            Edit::AddNode => self.nodes.push(next),
            Edit::AddControlPlane => self.control_plane.push((next, next)),
            Edit::RemoveLast if !self.nodes.is_empty() => drop(self.nodes.pop()),
            Edit::RemoveLast if self.control_plane.len() > 1 => drop(self.control_plane.pop()),
            Edit::RemoveLast => {}
            Edit::Endpoint => self.endpoint = next,
            Edit::Address => self.control_plane[0].1 = next + 100,
            Edit::DnsDomain => self.domain = next,
            Edit::ServiceSubnet => self.subnet = 64 + next % 64,
            Edit::San => self.san = Some(next),
            Edit::NoSan => self.san = None,
            Edit::Addon => {
                let addon = ["kube-proxy", "konnectivity", "istio"][next % 3];
                if !self.addons.contains(&addon) {
                    self.addons.push(addon);
                }
            }
            Edit::NoAddon => drop(self.addons.pop()),
            Edit::Algorithm => self.algorithm = ["ecdsa-p384", "ecdsa-p256"][next % 2],
            Edit::Override => self.term = next,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "apiVersion: certkit/v1\nkind: Cluster\nlayout: {}\nendpoint: api{}.example.com:6443\n\
             dnsDomain: d{}.local\nserviceSubnet: [10.{}.0.0/16]\nkeyAlgorithm: {}\ncontrolPlane:\n",
            self.layout, self.endpoint, self.domain, self.subnet, self.algorithm
        );
        for (host, address) in &self.control_plane {
            text += &format!("  - {{name: cp{host}, addresses: [192.0.2.{address}]}}\n");
        }
        if !self.nodes.is_empty() {
            text += "nodes:\n";
        }
        for node in &self.nodes {
            text += &format!("  - {{name: w{node}, addresses: [198.51.100.{node}]}}\n");
        }
        if let Some(san) = self.san {
            text += &format!("extraSans: {{apiserver: [more{san}.example.com]}}\n");
        }
        if !self.addons.is_empty() {
            text += &format!("addons: [{}]\n", self.addons.join(", "));
        }
        if self.term > 0 {
            text += &format!("overrides: {{admin.conf: {{validity: {}d}}}}\n", 60 + self.term);
        }
        text
    }
}

/// The line that certkit adds, if it has.
fn former(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("certkit.yaml")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("formerEndpoints:"));
    line.map(|line| format!("{line}\n")).unwrap_or_default()
}

fn is_there(edit: Edit, text: &str) -> String {
    format!("after {edit:?}, with\n{text}")
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config {
        cases: 12, max_shrink_iters: 20, failure_persistence: None, ..Default::default()
    })]

    /// Whatever is edited, `init`, `rotate` and `prune` end in a tree that `verify` passes, that a second run
    /// leaves alone, and on which a dry run said before what would be done.
    #[test]
    fn any_edits_end_in_a_tree_that_verify_passes(
        workspace in proptest::bool::ANY,
        edits in proptest::collection::vec(proptest::sample::select(vec![
            Edit::AddNode, Edit::AddControlPlane, Edit::RemoveLast, Edit::Endpoint, Edit::Address,
            Edit::DnsDomain, Edit::ServiceSubnet, Edit::San, Edit::NoSan, Edit::Addon, Edit::NoAddon,
            Edit::Algorithm, Edit::Override,
        ]), 1..5),
    ) {
        let dir = temp_dir();
        let mut declared = Declared::new(if workspace { "workspace" } else { "host" });
        let file = dir.path().join("certkit.yaml");
        fs::write(&file, declared.text()).unwrap();
        init(dir.path());
        verify(dir.path());
        for edit in edits {
            let kept = former(dir.path());
            declared.apply(edit);
            fs::write(&file, declared.text() + &kept).unwrap();
            let context = is_there(edit, &declared.text());
            for command in ["init", "rotate", "prune"] {
                let before = snapshot(dir.path());
                let ask = |more: &[&str]| {
                    certkit().arg(command).args(more).args(["-o", "json", "--dir"]).arg(dir.path()).output().unwrap()
                };
                let dry = ask(&["--dry-run"]);
                let touched = difference(&before, &snapshot(dir.path()));
                proptest::prop_assert!(touched.is_empty(), "a dry {command} changed {touched:?} {context}");
                let done = ask(&[]);
                let talk = String::from_utf8_lossy(&done.stderr).into_owned();
                proptest::prop_assert_eq!(done.status.code(), Some(0), "{} {}: {}", command, context, talk);
                proptest::prop_assert_eq!(steps(&dry.stdout), steps(&done.stdout), "{} {}", command, context);
            }
            let checked = certkit().args(["verify", "--dir"]).arg(dir.path()).output().unwrap();
            let said = String::from_utf8_lossy(&checked.stdout).into_owned();
            proptest::prop_assert_eq!(checked.status.code(), Some(0), "verify {}: {}", context, said);
            let before = snapshot(dir.path());
            init(dir.path());
            rotate(dir.path());
            run(certkit().arg("prune").arg("--dir").arg(dir.path()));
            let again = difference(&before, &snapshot(dir.path()));
            proptest::prop_assert!(again.is_empty(), "a second run changed {again:?} {context}");
        }
    }
}

/// Action, name and files of every step of a plan.
fn steps(document: &[u8]) -> Vec<(String, String, String)> {
    let report: serde_json::Value = serde_json::from_slice(document).unwrap();
    let text = |value: &serde_json::Value| value.to_string();
    // What `prune` removes has a path and a reason.
    let steps = report["steps"].as_array().or(report["files"].as_array()).expect("steps");
    let field = |step: &serde_json::Value, name: &str| text(&step[name]);
    let all = steps.iter();
    all.map(|step| {
        (field(step, "action"), field(step, "name"), field(step, "files") + &field(step, "path"))
    })
    .collect()
}

#[test]
fn a_server_that_is_only_written_otherwise_is_left_as_it_is() {
    let dir = temp_dir();
    one_host(dir.path(), &["--endpoint", "api.example.com:6443"]);
    for url in
        ["https://api.example.com:6443/", "https://api.example.com", "https://10.0.0.11:6443"]
    {
        let file = dir.path().join("admin.conf");
        let text = fs::read_to_string(&file).unwrap();
        let line = text.lines().find(|l| l.contains("server:")).unwrap();
        fs::write(&file, text.replace(line, &format!("    server: {url}"))).unwrap();
        assert_eq!(rotate(dir.path()), "", "{url}");
    }
}

#[test]
fn another_style_or_place_of_kubeconfigs_is_told_and_made_when_they_are_moved_away() {
    let files = "kubeconfigStyle: files\n";
    let embedded = "kubeconfigStyle: embedded\n";
    for (at_first, line, told, is_then) in [
        (
            "files",
            embedded,
            "names its credential's files, and certkit.yaml says kubeconfigStyle: embedded",
            "-data:",
        ),
        (
            "embedded",
            files,
            "embeds its credential, and certkit.yaml says kubeconfigStyle: files",
            "client.pem",
        ),
        (
            "files",
            "hostDir: /opt/k8s\n",
            "scheduler-client.pem, and certkit.yaml says that the tree is in /opt/k8s",
            "/opt/k8s/pki/",
        ),
    ] {
        let dir = temp_dir();
        one_host(dir.path(), &["--kubeconfig-style", at_first]);
        let file = dir.path().join("certkit.yaml");
        let text = fs::read_to_string(&file).unwrap().replace(embedded, "");
        fs::write(&file, text + line).unwrap();
        let conf = dir.path().join("scheduler.conf");
        let before = fs::read_to_string(&conf).unwrap();
        let plan = stdout(certkit().args(["rotate", "--dry-run", "--dir"]).arg(dir.path()));
        let said = stdout(certkit().arg("init").arg("--dir").arg(dir.path()));
        for text in [&plan, &said] {
            let is_note =
                |line: &&str| line.starts_with("note: ") && line.contains("scheduler.conf");
            let note = text.lines().find(is_note).unwrap_or_default();
            assert!(note.contains(told) && note.contains("To have it made as declared"), "{text}");
            // An administrator's is carried, and embeds in every style.
            assert!(!text.contains("admin.conf: "), "{text}");
        }
        assert_eq!(fs::read_to_string(&conf).unwrap(), before);
        for name in ["scheduler.conf", "controller-manager.conf", "kubelet.conf"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        init(dir.path());
        let after = fs::read_to_string(&conf).unwrap();
        assert!(after.contains(is_then), "{after}");
        let plan = stdout(certkit().args(["rotate", "--dry-run", "--dir"]).arg(dir.path()));
        assert!(!plan.contains("certkit.yaml says"), "{plan}");
        verify_but_for(dir.path(), "unused");
    }
}

/// Whether a tree is right but for what one code finds.
fn verify_but_for(dir: &Path, code: &str) {
    run(certkit().args(["verify", "--allow", code, "--dir"]).arg(dir));
}
