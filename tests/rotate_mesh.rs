//! The root of a mesh, replaced stage by stage: openssl judges what istiod is given as istiod does, and handshakes in
//! memory are made between workloads, each with a certificate and roots of any stage that it may have by then.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use certkit::{
    model::timestamp::Timestamp,
    pki::{inspect, key::PrivateKey},
    tls::handshake::{self, Client, ClientSide, Identity, Server, ServerSide},
};
use support::{
    certkit,
    generations::{refused, rotate_ca, stage},
    run, stdout, temp_dir,
    tree::{copy, difference, snapshot},
};

/// What istiod's Secret holds at each stage, by the key there.
fn secret(dir: &Path, key: &str) -> PathBuf {
    let said =
        stdout(certkit().args(["flags", "istiod", "--host-dir"]).arg(dir).arg("--dir").arg(dir));
    let prefix = format!("--from-file={key}=");
    said.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().into()
}

fn init(dir: &Path) {
    // A copy of a tree must not name the original.
    let more = ["--host", "cp1=10.0.0.11", "--addon", "istio", "--host-dir", "/etc/kubernetes"];
    run(certkit().arg("init").arg("--dir").arg(dir).args(more));
}

fn verify(dir: &Path) {
    run(certkit().arg("verify").arg("--dir").arg(dir));
    let again = stdout(certkit().arg("init").arg("--dir").arg(dir));
    assert!(again.contains("nothing to do"), "{again}");
}

/// A day passes, as far as the file tells since when another root signs.
fn let_a_day_pass(dir: &Path) {
    let previous = dir.join("pki/istio/root-cert-previous.pem");
    run(Command::new("touch").args(["-d", "25 hours ago"]).arg(previous));
}

/// A tree as it is at first and after each stage.
fn staged() -> Vec<tempfile::TempDir> {
    let first = temp_dir();
    init(first.path());
    let mut all = vec![first];
    for _ in 0..3 {
        let next = temp_dir();
        copy(all.last().unwrap().path(), next.path());
        if all.len() == 3 {
            let_a_day_pass(next.path());
        }
        run(&mut rotate_ca(next.path(), &["istio-root-ca", "--next"]));
        all.push(next);
    }
    all
}

/// Whether a chain leads to one of these roots, as istiod asks before it takes its files up.
fn istiod_accepts(dir: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.args(["verify", "-no-CApath", "-no-CAstore", "-CAfile"]);
    command.arg(secret(dir, "root-cert.pem")).arg("-untrusted").arg(secret(dir, "cert-chain.pem"));
    command.arg(secret(dir, "ca-cert.pem")).output().unwrap().status.success()
}

/// A workload's certificate, signed by openssl with what istiod has, and the key.
fn workload(dir: &Path, into: &Path) -> Identity {
    let at = |name: &str| into.join(name);
    fs::write(
        at("san"),
        "subjectAltName=critical,URI:spiffe://cluster.local/ns/a/sa/b,DNS:workload.mesh\n\
         extendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\n\
         authorityKeyIdentifier=keyid\n",
    )
    .unwrap();
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    request
        .args(["-nodes", "-subj", "/O=mesh", "-keyout"])
        .arg(at("key"))
        .arg("-out")
        .arg(at("csr"));
    run(&mut request);
    let mut sign = Command::new("openssl");
    sign.args(["x509", "-req", "-days", "1", "-CAcreateserial", "-CAserial"]).arg(at("serial"));
    sign.arg("-CA").arg(secret(dir, "ca-cert.pem")).arg("-CAkey").arg(secret(dir, "ca-key.pem"));
    sign.arg("-extfile").arg(at("san")).arg("-in").arg(at("csr")).arg("-out").arg(at("crt"));
    run(&mut sign);
    let read = |file: &Path| inspect::from_pem(&fs::read(file).unwrap()).unwrap();
    // istiod appends its chain.
    let sent = read(&at("crt")).into_iter().chain(read(&secret(dir, "cert-chain.pem")));
    let sent: Vec<Vec<u8>> = sent.map(|one| one.der().to_vec()).collect();
    let key = PrivateKey::from_pem(&fs::read(at("key")).unwrap()).unwrap();
    Identity::new(&sent, &key.pkcs8()).unwrap()
}

fn roots(dir: &Path) -> Vec<Vec<u8>> {
    let all = inspect::from_pem(&fs::read(secret(dir, "root-cert.pem")).unwrap()).unwrap();
    all.iter().map(|one| one.der().to_vec()).collect()
}

/// What a workload has: a certificate from one stage, and roots from one.
#[derive(Clone, Copy, Debug)]
struct Has {
    shows: usize,
    trusts: usize,
}

#[test]
fn the_root_of_a_mesh_goes_through_its_stages_and_workloads_take_each_other_all_the_time() {
    let trees = staged();
    let at: Vec<&Path> = trees.iter().map(tempfile::TempDir::path).collect();
    let scratch = temp_dir();
    let shown: Vec<Identity> = at.iter().map(|dir| workload(dir, scratch.path())).collect();
    let trusted: Vec<Vec<Vec<u8>>> = at.iter().map(|dir| roots(dir)).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Timestamp::from_unix(now.as_secs() as i64 + 60);
    let talk = |server: Has, client: Has| {
        let side = ServerSide {
            identity: &shown[server.shows],
            client_trust: Some(&trusted[server.trusts]),
            client_required: true,
            rule: None,
            client_address: None,
        };
        let dialling = ClientSide {
            identity: Some(&shown[client.shows]),
            trust: &trusted[client.trusts],
            name: "workload.mesh",
            rule: None,
        };
        handshake::shake(&Server::new(&side).unwrap(), &Client::new(&dialling).unwrap(), now)
            .is_ok()
    };
    for (number, name) in ["stable", "introduced", "switched", "stable"].iter().enumerate() {
        let dir = at[number];
        assert_eq!(stage(dir, "istio-root-ca"), *name);
        verify(dir);
        assert!(istiod_accepts(dir), "{name}");
        // The CA below goes on with its key and its name.
        let read = |dir: &Path, key: &str| fs::read_to_string(secret(dir, key)).unwrap();
        assert_eq!(read(dir, "ca-key.pem"), read(at[0], "ca-key.pem"));
        assert_eq!(read(dir, "ca-cert.pem") == read(at[0], "ca-cert.pem"), number < 2, "{name}");
        if number == 0 {
            continue;
        }
        // istiod takes other roots up while it runs only where one text holds the other.
        let (before, after) = (read(at[number - 1], "root-cert.pem"), read(dir, "root-cert.pem"));
        assert!(before.contains(&after) || after.contains(&before), "{name}");
        // On the way from the stage before, each workload with the certificate and the roots of either. The last stage is
        // only taken once nobody has a certificate from before the one in between.
        for bits in 0..16 {
            let from = |bit: usize| number - (bits >> bit & 1);
            let server = Has { shows: from(0), trusts: from(1) };
            let client = Has { shows: from(2), trusts: from(3) };
            assert!(talk(server, client), "{name}: {server:?}, {client:?}");
        }
    }
    // What the order is for: a new certificate before all have the new root, the old root dropped before all have new
    // certificates.
    let early = Has { shows: 2, trusts: 2 };
    assert!(!talk(early, Has { shows: 0, trusts: 0 }) && !talk(Has { shows: 0, trusts: 0 }, early));
    let late = Has { shows: 1, trusts: 1 };
    assert!(!talk(late, Has { shows: 3, trusts: 3 }) && !talk(Has { shows: 3, trusts: 3 }, late));
    // At the end nothing in use mentions the old root.
    let old = fs::read_to_string(at[0].join("pki/istio/root-cert.pem")).unwrap();
    for (path, entry) in snapshot(at[3]) {
        let support::tree::Entry::File { content, .. } = entry else { continue };
        let mentions = String::from_utf8_lossy(&content).contains(old.trim());
        assert!(path.starts_with(".certkit") || !mentions, "{}", path.display());
    }
}

#[test]
fn each_stage_of_a_meshs_root_is_taken_back() {
    let trees = staged();
    let at: Vec<&Path> = trees.iter().map(tempfile::TempDir::path).collect();
    let text = |dir: &Path| fs::read_to_string(secret(dir, "root-cert.pem")).unwrap();
    let both = text(at[2]);
    run(&mut rotate_ca(at[2], &["istio-root-ca", "--undo"]));
    assert_eq!(stage(at[2], "istio-root-ca"), "introduced");
    assert_eq!(text(at[2]), both);
    for dir in [at[2], at[1]] {
        verify(dir);
        assert!(istiod_accepts(dir));
        run(&mut rotate_ca(dir, &["istio-root-ca", "--undo"]));
        assert_eq!(stage(dir, "istio-root-ca"), "stable");
        assert!(both.contains(&text(dir)) && text(dir) == text(at[0]));
        verify(dir);
    }
    for path in difference(&snapshot(at[0]), &snapshot(at[1])) {
        let is_same = path.starts_with(".certkit")
            || path.is_empty()
            || fs::read(at[0].join(&path)).unwrap() == fs::read(at[1].join(&path)).unwrap();
        assert!(is_same, "{path}");
    }
}

#[test]
fn what_cannot_be_of_a_meshs_root_is_refused_and_what_is_to_be_done_is_told() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    let said = refused(dir, &["istio-root-ca", "--next", "--cross-sign"], 3);
    assert!(said.contains("istio-root-ca") && said.contains("--cross-sign"), "{said}");
    let said = refused(dir, &["istio-ca", "--next"], 3);
    assert!(said.contains("trust the CA above it"), "{said}");
    // Whoever names none replaces no root.
    run(&mut rotate_ca(dir, &["--next"]));
    assert_eq!(stage(dir, "istio-root-ca"), "stable");
    let told = stdout(&mut rotate_ca(dir, &["istio-root-ca", "--next"]));
    assert!(told.contains("Secret cacerts") && told.contains("istio-ca-root-cert"), "{told}");
    // A file of roots that lost the next one.
    let bundle = secret(dir, "root-cert.pem");
    let both = fs::read(&bundle).unwrap();
    fs::copy(dir.join("pki/istio/root-cert.pem"), &bundle).unwrap();
    let said = refused(dir, &["istio-root-ca", "--next"], 3);
    assert!(said.contains("root-cert-bundle.pem does not hold its next generation"), "{said}");
    fs::write(&bundle, both).unwrap();
    run(&mut rotate_ca(dir, &["istio-root-ca", "--next"]));
    // Workloads may hold what leads to the old root alone.
    let said = refused(dir, &["istio-root-ca", "--next"], 3);
    assert!(said.contains("certificates of workloads") && said.contains("--force"), "{said}");
    let told =
        stdout(&mut rotate_ca(dir, &["istio-root-ca", "--next", "--compromised", "--dry-run"]));
    assert!(
        told.contains("breaks with this step: istio-root-ca: certificates of workloads"),
        "{told}"
    );
    let_a_day_pass(dir);
    run(&mut rotate_ca(dir, &["istio-root-ca", "--next"]));
    verify(dir);
}

#[test]
fn a_mesh_from_before_its_roots_had_a_bundle_gets_one() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir);
    fs::remove_file(secret(dir, "root-cert.pem")).unwrap();
    for name in ["introduced", "switched", "stable"] {
        if name == "stable" {
            let_a_day_pass(dir);
        }
        run(&mut rotate_ca(dir, &["istio-root-ca", "--to", name]));
        verify(dir);
        assert!(istiod_accepts(dir), "{name}");
    }
}

/// What `certkit controller --sign` has signed is in no file either: the generation that signed it is trusted for as long as
/// it may be in use.
#[test]
fn what_certkits_own_signers_signed_is_waited_for() {
    let dir = temp_dir();
    let dir = dir.path();
    run(certkit().args(["init", "--host=cp1=10.0.0.11", "--addon=workload", "--dir"]).arg(dir));
    let file = dir.join("certkit.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}signers: {{people: {{groups: [developers]}}}}\n")).unwrap();
    for (ca, previous, waits) in [
        ("workload-ca", "pki/workload/ca-previous.crt", true),
        ("ca", "pki/ca-previous.crt", true),
        ("front-proxy-ca", "pki/front-proxy-ca-previous.crt", false),
    ] {
        run(&mut rotate_ca(dir, &[ca, "--next"]));
        run(&mut rotate_ca(dir, &[ca, "--next"]));
        if waits {
            let said = refused(dir, &[ca, "--next"], 3);
            assert!(said.contains(&format!("{ca}: certificates of workloads")), "{said}");
            run(Command::new("touch").args(["-d", "25 hours ago"]).arg(dir.join(previous)));
        }
        run(&mut rotate_ca(dir, &[ca, "--next"]));
        verify(dir);
    }
    // What pods have mounted is what the command says.
    let arguments = stdout(certkit().args(["flags", "workloads", "--dir"]).arg(dir));
    let bundle = dir.join("pki/workload/ca-bundle.crt");
    assert_eq!(arguments.trim(), format!("--from-file=ca.crt={}", bundle.display()));
}
