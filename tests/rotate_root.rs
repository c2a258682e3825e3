//! A single root, replaced stage by stage under the CAs that it signed. openssl, which takes no CA but a root for an
//! anchor, judges what servers send; certkit's own handshakes judge all paths.

mod support;

use std::{fs, path::Path, process::Command};

use support::{
    certkit,
    generations::{refused, rotate_ca, stage},
    run, stdout, temp_dir,
    tree::{copy, difference, snapshot},
};

fn init(dir: &Path, more: &[&str]) {
    // A copy of a tree must not name the original.
    let dir_on_host = ["--single-root", "--host-dir", "/etc/kubernetes"];
    run(certkit().arg("init").arg("--dir").arg(dir).args(dir_on_host).args(more));
}

fn verify(dir: &Path) {
    run(certkit().arg("verify").arg("--dir").arg(dir));
    let again = stdout(certkit().arg("init").arg("--dir").arg(dir));
    assert!(again.contains("nothing to do"), "{again}");
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap()
}

/// The certificates of a file, as PEM.
fn certificates(dir: &Path, file: &str) -> Vec<String> {
    let end = "-----END CERTIFICATE-----\n";
    read(dir, file).split_inclusive(end).map(str::to_owned).filter(|c| c.contains(end)).collect()
}

/// Whether openssl, trusting nothing but these roots, takes what a server sends.
fn accepts(roots: &Path, dir: &Path, served: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(["verify", "-no-CApath", "-no-CAstore", "-CAfile"]).arg(roots).arg("-untrusted");
    command.arg(dir.join(served)).arg(dir.join(served)).output().unwrap().status.success()
}

/// What openssl reads off a certificate.
fn text(dir: &Path, file: &str, field: &str) -> String {
    stdout(Command::new("openssl").args(["x509", "-noout", field, "-in"]).arg(dir.join(file)))
}

const SERVED: [&str; 3] = ["pki/apiserver.crt", "pki/etcd/server.crt", "pki/kubelet.crt"];
const BELOW: [&str; 3] = ["pki/ca", "pki/etcd/ca", "pki/front-proxy-ca"];

/// A tree as it is at first and after each stage, and the old root by itself.
fn staged(more: &[&str]) -> Vec<tempfile::TempDir> {
    let first = temp_dir();
    init(first.path(), more);
    let mut all = vec![first];
    for _ in 0..3 {
        let next = temp_dir();
        copy(all.last().unwrap().path(), next.path());
        run(&mut rotate_ca(next.path(), &["root-ca", "--next"]));
        all.push(next);
    }
    all
}

#[test]
fn a_root_goes_through_its_stages_and_all_that_was_issued_stays() {
    let trees = staged(&["--host", "cp1=10.0.0.11", "--addon", "konnectivity"]);
    let at: Vec<&Path> = trees.iter().map(tempfile::TempDir::path).collect();
    let (old, new) = (at[0].join("pki/root-ca.crt"), at[3].join("pki/root-ca.crt"));
    for (number, name) in ["stable", "introduced", "switched", "stable"].iter().enumerate() {
        let dir = at[number];
        assert_eq!(stage(dir, "root-ca"), *name);
        verify(dir);
        for served in SERVED {
            assert_eq!(
                certificates(dir, served)[0],
                certificates(at[0], served)[0],
                "{name}: {served} was issued anew"
            );
            let both = dir.join("pki/root-ca-bundle.crt");
            assert!(accepts(&both, dir, served), "{name}: {served}");
            assert_eq!(accepts(&old, dir, served), number < 2, "{name}: {served} by the old root");
            assert_eq!(accepts(&new, dir, served), number > 1, "{name}: {served} by the new root");
            // A program that reads kube-root-ca.crt.
            let published = dir.join("pki/ca-chain.crt");
            assert!(accepts(&published, dir, served), "{name}: {served}");
        }
        for below in BELOW {
            let (cert, key) = (format!("{below}.crt"), format!("{below}.key"));
            assert_eq!(read(dir, &key), read(at[0], &key), "{name}: {key}");
            for field in ["-subject", "-pubkey", "-ext=subjectAltName,basicConstraints,keyUsage"] {
                let field = field.split_once('=').map_or(vec![field], |(a, b)| vec![a, b]);
                let said = |dir: &Path| {
                    let mut command = Command::new("openssl");
                    stdout(
                        command
                            .args(["x509", "-noout"])
                            .args(&field)
                            .arg("-in")
                            .arg(dir.join(&cert)),
                    )
                };
                assert_eq!(said(dir), said(at[0]), "{name}: {cert}");
            }
            assert_eq!(read(dir, &cert) == read(at[0], &cert), number < 2, "{name}: {cert}");
        }
    }
    assert_ne!(
        text(at[0], "pki/root-ca.crt", "-subject"),
        text(at[3], "pki/root-ca.crt", "-subject")
    );
    // At the end nothing in use mentions the old root, nor what it signed.
    let gone = ["pki/root-ca.crt", "pki/ca.crt", "pki/etcd/ca.crt"];
    let gone: Vec<String> = gone.iter().map(|f| certificates(at[0], f)[0].clone()).collect();
    for (path, entry) in snapshot(at[3]) {
        let support::tree::Entry::File { content, .. } = entry else { continue };
        let text = String::from_utf8_lossy(&content).into_owned();
        let mentions = gone.iter().any(|old| text.contains(old.as_str()));
        assert!(path.starts_with(".certkit") || !mentions, "{}", path.display());
    }
    // What goes through its stages below the new root goes on as ever.
    for name in ["introduced", "switched", "stable"] {
        run(&mut rotate_ca(at[3], &["ca", "--to", name]));
        verify(at[3]);
        assert!(accepts(&new, at[3], "pki/apiserver.crt"));
    }
}

#[test]
fn hosts_of_a_workspace_get_new_chains_with_each_stage_of_the_root() {
    let trees = staged(&["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12"]);
    let old = trees[0].path().join("pki/root-ca.crt");
    let new = trees[3].path().join("pki/root-ca.crt");
    for (number, tree) in trees.iter().enumerate() {
        let dir = tree.path();
        verify(dir);
        for host in ["cp1", "cp2"] {
            for file in ["pki/ca.crt", "pki/ca-bundle.crt", "pki/ca-chain.crt"] {
                let on_host = read(dir, &format!("hosts/{host}/{file}"));
                assert_eq!(on_host, read(dir, file), "{number}: {host}: {file}");
            }
            let served = format!("hosts/{host}/pki/apiserver.crt");
            assert_eq!(accepts(&old, dir, &served), number < 2, "{number}: {served}");
            assert_eq!(accepts(&new, dir, &served), number > 1, "{number}: {served}");
        }
    }
}

#[test]
fn each_stage_of_a_root_is_taken_back() {
    let trees = staged(&["--host", "cp1=10.0.0.11"]);
    let at: Vec<&Path> = trees.iter().map(tempfile::TempDir::path).collect();
    let old = at[0].join("pki/root-ca.crt");
    run(&mut rotate_ca(at[2], &["root-ca", "--undo"]));
    assert_eq!(stage(at[2], "root-ca"), "introduced");
    verify(at[2]);
    assert_eq!(read(at[2], "pki/root-ca.crt"), read(at[0], "pki/root-ca.crt"));
    for served in SERVED {
        assert!(accepts(&old, at[2], served), "{served}");
    }
    for dir in [at[1], at[2]] {
        run(&mut rotate_ca(dir, &["root-ca", "--undo"]));
        assert_eq!(stage(dir, "root-ca"), "stable");
        verify(dir);
        for file in ["pki/root-ca-bundle.crt", "pki/root-ca.crt", "pki/root-ca.key"] {
            assert_eq!(read(dir, file), read(at[0], file), "{file}");
        }
        assert!(!dir.join("pki/root-ca-next.key").exists());
    }
    let all = snapshot(at[0]);
    for path in difference(&all, &snapshot(at[1])) {
        let is_same = path.starts_with(".certkit")
            || path.is_empty()
            || fs::read(at[0].join(&path)).unwrap() == fs::read(at[1].join(&path)).unwrap();
        assert!(is_same, "{path}");
    }
}

#[test]
fn keys_that_are_kept_elsewhere_are_asked_for_only_where_they_sign() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11"]);
    // The old root signs nothing any more, and what is below it is only certified.
    fs::remove_file(dir.join("pki/root-ca.key")).unwrap();
    fs::remove_file(dir.join("pki/etcd/ca.key")).unwrap();
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    let next = dir.join("pki/root-ca-next.key");
    let away = fs::read(&next).unwrap();
    fs::remove_file(&next).unwrap();
    let said = refused(dir, &["root-ca", "--next"], 3);
    assert!(said.contains("pki/root-ca-next.key") && said.contains("put it back"), "{said}");
    fs::write(&next, away).unwrap();
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    verify(dir);
    let said = refused(dir, &["root-ca", "--undo"], 3);
    assert!(said.contains("pki/root-ca-previous.key") && said.contains("put it back"), "{said}");
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    verify(dir);
    assert_eq!(stage(dir, "root-ca"), "stable");
}

#[test]
fn one_after_the_other_a_root_and_what_is_below_it() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11", "--addon", "istio"]);
    let said = refused(dir, &["root-ca", "ca", "--next"], 3);
    assert!(said.contains("ca is below it"), "{said}");
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    run(&mut rotate_ca(dir, &["ca", "--next"]));
    verify(dir);
    let said = refused(dir, &["root-ca", "--next"], 3);
    assert!(said.contains("rotate-ca ca --next"), "{said}");
    run(&mut rotate_ca(dir, &["ca", "--undo"]));
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    // A CA that is begun under both roots: its chain has both.
    run(&mut rotate_ca(dir, &["ca", "--next"]));
    verify(dir);
    let said = refused(dir, &["root-ca", "--undo"], 3);
    assert!(said.contains("ca, which is below it, is introduced"), "{said}");
    run(&mut rotate_ca(dir, &["ca", "--next"]));
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    verify(dir);
    assert_eq!((stage(dir, "ca"), stage(dir, "root-ca")), ("switched".into(), "stable".into()));
    // Without names what is above others stays as it is.
    run(&mut rotate_ca(dir, &["--next", "--force"]));
    assert_eq!(stage(dir, "root-ca"), "stable");
}

#[test]
fn what_does_not_know_the_next_root_stands_against_it() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12"]);
    let before = read(dir, "pki/ca-chain.crt");
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    let both = read(dir, "pki/ca-chain.crt");
    for file in ["hosts/cp2/pki/ca-chain.crt", "pki/ca-chain.crt"] {
        fs::write(dir.join(file), &before).unwrap();
        let said = refused(dir, &["root-ca", "--next"], 3);
        assert!(said.contains(file) && said.contains("next generation"), "{said}");
        fs::write(dir.join(file), &both).unwrap();
    }
    // A server that sends what nobody could verify any more.
    let before_switch = read(dir, "hosts/cp2/pki/apiserver.crt");
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    let served = dir.join("hosts/cp2/pki/apiserver.crt");
    let now = fs::read_to_string(&served).unwrap();
    fs::write(&served, before_switch).unwrap();
    let said = refused(dir, &["root-ca", "--next"], 3);
    assert!(said.contains("only the roots") && said.contains("apiserver (cp2)"), "{said}");
    fs::write(&served, now).unwrap();
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
}

#[test]
fn new_terms_are_given_by_name() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11", "--addon", "istio"]);
    let old = temp_dir();
    copy(dir, old.path());
    for id in ["root-ca", "ca", "istio-root-ca"] {
        run(&mut rotate_ca(dir, &[id, "--renew-same-key"]));
        verify(dir);
        assert_eq!(stage(dir, id), "stable");
    }
    for file in ["pki/root-ca.crt", "pki/ca.crt"] {
        assert_ne!(read(dir, file), read(old.path(), file), "{file}");
        assert_eq!(text(dir, file, "-pubkey"), text(old.path(), file, "-pubkey"), "{file}");
    }
    // The server goes on with its certificate, and sends the CA's new one.
    let (now, before) = ("pki/apiserver.crt", old.path());
    assert_eq!(certificates(dir, now)[0], certificates(before, now)[0]);
    assert_eq!(certificates(dir, now)[1], certificates(dir, "pki/ca.crt")[0]);
    for root in [dir, before] {
        assert!(accepts(&root.join("pki/root-ca.crt"), dir, now));
        assert!(accepts(&root.join("pki/root-ca.crt"), before, now));
    }
    let said = refused(dir, &["sa", "--renew-same-key"], 64);
    assert!(said.contains("`sa`") && said.contains("rotate-ca sa --next"), "{said}");
}

/// The end of a certificate, in seconds.
fn end(dir: &Path, file: &str) -> i64 {
    let said = text(dir, file, "-enddate");
    let end = said.trim().trim_start_matches("notAfter=");
    stdout(Command::new("date").args(["-u", "+%s", "-d", end])).trim().parse().unwrap()
}

#[test]
fn a_root_and_cas_below_it_get_new_terms_together() {
    for names in [&["root-ca", "ca"][..], &["etcd-ca", "ca", "root-ca", "front-proxy-ca"]] {
        let dir = temp_dir();
        let dir = dir.path();
        init(dir, &["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12"]);
        let before = temp_dir();
        copy(dir, before.path());
        let before = before.path();
        // What is below the root lives longer than the old root, so that it is the new one that bounds it.
        let declared = read(dir, "certkit.yaml");
        let longer = declared.replace("ca: 10y", "ca: 20y");
        assert_ne!(declared, longer, "{declared}");
        fs::write(dir.join("certkit.yaml"), longer).unwrap();
        run(&mut rotate_ca(dir, &[names, &["--renew-same-key"]].concat()));
        verify(dir);
        assert!(end(dir, "pki/root-ca.crt") > end(before, "pki/root-ca.crt") + 9 * 365 * 86_400);
        for below in ["ca", "etcd-ca", "front-proxy-ca"].iter().filter(|id| names.contains(id)) {
            let file = BELOW.iter().zip(["ca", "etcd-ca", "front-proxy-ca"]);
            let file = file.clone().find(|(_, id)| id == below).unwrap().0;
            let file = format!("{file}.crt");
            assert_eq!(end(dir, &file), end(dir, "pki/root-ca.crt"), "{names:?}: {file}");
            assert_eq!(text(dir, &file, "-pubkey"), text(before, &file, "-pubkey"), "{file}");
        }
        // Each CA once, as it is now, and nothing of what was before.
        assert_eq!(
            certificates(dir, "pki/ca-chain.crt"),
            [certificates(dir, "pki/ca.crt"), certificates(dir, "pki/root-ca.crt")].concat()
        );
        assert_eq!(read(dir, "pki/ca-bundle.crt"), read(dir, "pki/ca.crt"));
        assert_eq!(read(dir, "pki/root-ca-bundle.crt"), read(dir, "pki/root-ca.crt"));
        for host in ["cp1", "cp2"] {
            for file in ["pki/ca.crt", "pki/ca-bundle.crt", "pki/ca-chain.crt"] {
                assert_eq!(read(dir, &format!("hosts/{host}/{file}")), read(dir, file), "{file}");
            }
            // What is served leads to the root, old or new, whichever half of it is the old one.
            let served = format!("hosts/{host}/pki/apiserver.crt");
            assert_eq!(certificates(dir, &served)[0], certificates(before, &served)[0]);
            for root in [dir, before] {
                let root = root.join("pki/root-ca.crt");
                assert!(accepts(&root, dir, &served) && accepts(&root, before, &served));
            }
        }
        assert_eq!(broken_between(before, dir), Vec::<String>::new(), "{names:?}");
    }
}

#[test]
fn stages_of_a_root_and_of_a_ca_below_it_are_not_taken_in_one_step() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11"]);
    let both = |more: &[&str]| {
        let said = refused(dir, &[&["root-ca", "ca"], more].concat(), 3);
        assert!(said.contains("ca is below it") && said.contains("name one"), "{said}");
    };
    both(&["--next"]);
    both(&["--next", "--force"]);
    both(&["--to", "introduced"]);
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    run(&mut rotate_ca(dir, &["ca", "--next"]));
    both(&["--next"]);
    both(&["--undo"]);
    both(&["--to", "switched"]);
    // Where only one of them has anywhere to go, it goes.
    run(&mut rotate_ca(dir, &["ca", "--undo"]));
    run(&mut rotate_ca(dir, &["root-ca", "ca", "--to", "introduced"]));
    assert_eq!(
        (stage(dir, "root-ca"), stage(dir, "ca")),
        ("introduced".into(), "introduced".into())
    );
    verify(dir);
    // What is below it twice, or on its way, gets no new term beside the root's stages.
    let said = refused(dir, &["root-ca", "ca", "--renew-same-key", "--next"], 64);
    assert!(said.contains("--renew-same-key"), "{said}");
}

#[test]
fn a_directory_from_before_there_was_a_bundle_of_roots_gets_one() {
    let dir = temp_dir();
    let dir = dir.path();
    init(dir, &["--host", "cp1=10.0.0.11"]);
    fs::remove_file(dir.join("pki/root-ca-bundle.crt")).unwrap();
    for name in ["introduced", "switched", "stable"] {
        run(&mut rotate_ca(dir, &["root-ca", "--to", name]));
        verify(dir);
        // Who asks for nothing in particular is told of it, too.
        let told = stdout(&mut rotate_ca(dir, &[]));
        assert!(told.contains("root-ca") && told.contains(name), "{told}");
    }
    let bundle = read(dir, "pki/root-ca-bundle.crt");
    assert_eq!(bundle, read(dir, "pki/root-ca.crt"));
}

#[test]
fn encrypted_keys_are_opened_only_for_what_they_sign() {
    let dir = temp_dir();
    let dir = dir.path();
    let with = |mut command: Command| {
        command.env("CERTKIT_CA_KEY_PASSWORD", "a password that is long");
        run(&mut command);
    };
    let mut command = certkit();
    command.args([
        "init",
        "--single-root",
        "--encrypt-ca-keys",
        "--host",
        "cp1=10.0.0.11",
        "--dir",
    ]);
    command.arg(dir);
    with(command);
    with(rotate_ca(dir, &["root-ca", "--next"]));
    let said = refused(dir, &["root-ca", "--next"], 3);
    assert!(said.contains("pki/root-ca-next.key"), "{said}");
    with(rotate_ca(dir, &["root-ca", "--next"]));
    verify(dir);
    // Nothing is signed any more.
    run(&mut rotate_ca(dir, &["root-ca", "--next"]));
    verify(dir);
    // A CA below a root allows none below itself, and whoever trusts the root needs none.
    with(rotate_ca(dir, &["etcd-ca", "--next"]));
    let said = refused(dir, &["etcd-ca", "--next", "--cross-sign"], 3);
    assert!(said.contains("pathLenConstraint"), "{said}");
    // Both keys sign here: the new one all certificates, the old one the new CA.
    let dir = temp_dir();
    let dir = dir.path();
    let mut command = certkit();
    command.args(["init", "--encrypt-ca-keys", "--host", "cp1=10.0.0.11", "--dir"]).arg(dir);
    with(command);
    with(rotate_ca(dir, &["etcd-ca", "--next"]));
    with(rotate_ca(dir, &["etcd-ca", "--next", "--cross-sign"]));
    verify(dir);
    let cross = certificates(dir, "pki/etcd/ca-cross.crt");
    assert!(certificates(dir, "pki/etcd/server.crt").contains(&cross[0]));
}

/// As in `rotate_ca`: every state that components can be in between two trees.
fn broken_between(before: &Path, after: &Path) -> Vec<String> {
    use certkit::{
        model::timestamp::Timestamp,
        ops::{declared, observe::Files, verify::narrowing},
    };
    let cluster = declared::load(before).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Timestamp::from_unix(now.as_secs() as i64 + 60);
    narrowing::mixed(&cluster, true, Files::followed(before), Files::followed(after), now)
}

#[test]
fn no_state_between_two_stages_of_a_root_breaks_who_trusts_it_alone() {
    for hosts in
        [&["--host", "cp1=10.0.0.11"][..], &["--host", "a=10.0.0.1", "--host", "b=10.0.0.2"]]
    {
        let trees = staged(hosts);
        let at: Vec<&Path> = trees.iter().map(tempfile::TempDir::path).collect();
        for (from, to) in [(0, 1), (1, 2), (2, 3), (2, 1), (1, 0)] {
            assert_eq!(broken_between(at[from], at[to]), Vec::<String>::new(), "{from} to {to}");
        }
        for (from, to) in [(0, 2), (1, 3), (0, 3), (3, 1), (2, 0)] {
            let broken = broken_between(at[from], at[to]).join("\n");
            for word in
                ["only the roots in pki/root-ca-bundle.crt", "pki/ca-chain.crt", "apiserver"]
            {
                assert!(broken.contains(word), "{from} to {to}: {word}\n{broken}");
            }
        }
    }
}
