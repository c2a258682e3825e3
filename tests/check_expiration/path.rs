//! Files and folders that are named.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{ca, check, fixture, json, kubeadm_copy, leaf, names, row, rows, support};

const FROM: &str = "2026-06-01T00:00:00Z";
const TO: &str = "2028-06-01T00:00:00Z";

#[test]
fn a_pem_file_with_several_certificates_gives_a_row_for_each() {
    let dir = support::temp_dir();
    let ca = ca("ca");
    let (one, key) = leaf(&ca, "one", FROM, TO);
    let (two, _) = leaf(&ca, "two", FROM, TO);
    let path = dir.path().join("chain.pem");
    let key = key.to_pem(certkit::pki::key::KeyFormat::Pkcs8);
    let text =
        format!("{}{}text\n{}{}", one.to_pem(), *key, two.to_pem(), ca.certificate().to_pem());
    fs::write(&path, text).unwrap();
    let (report, code) = json(check().arg(&path));
    assert_eq!(code, 0);
    let name = path.display().to_string();
    assert_eq!(names(&report, "certificates"), [name.clone(), format!("{name}#2")]);
    assert_eq!(names(&report, "certificateAuthorities"), [format!("{name}#3")]);
    assert_eq!(row(&report, &name)["caName"], "ca");
    assert_eq!(row(&report, &format!("{name}#2"))["subject"], "CN=two");
}

#[test]
fn one_broken_block_does_not_hide_its_neighbours() {
    let dir = support::temp_dir();
    let (one, _) = leaf(&ca("ca"), "one", FROM, TO);
    let path = dir.path().join("x.pem");
    let broken = one.to_pem().replacen("MII", "!!!", 1);
    fs::write(&path, format!("{}{broken}{}", one.to_pem(), one.to_pem())).unwrap();
    let (report, code) = json(check().arg(&path));
    assert_eq!(code, 3);
    let status: Vec<_> =
        rows(&report).iter().map(|r| r["status"].as_str().unwrap().to_owned()).collect();
    assert_eq!(status, ["ok", "unknown", "ok"]);
}

#[test]
fn der_is_read_as_well() {
    let dir = support::temp_dir();
    let (one, _) = leaf(&ca("ca"), "one", FROM, TO);
    let path = dir.path().join("one.der");
    fs::write(&path, one.der()).unwrap();
    let (report, code) = json(check().arg(&path));
    assert_eq!((code, &rows(&report)[0]["subject"]), (0, &"CN=one".into()));
    // Cut short it is said, in a folder too, whatever its name.
    for name in ["one.der", "one"] {
        fs::write(dir.path().join(name), &one.der()[..200]).unwrap();
        assert_eq!(json(check().arg(dir.path().join(name))).1, 3);
        let (report, code) = json(check().arg(dir.path()));
        assert_eq!((code, rows(&report).len()), (3, 1), "{name}: {report:#}");
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    // Several are several, and what is behind them is no secret.
    fs::write(&path, [one.der(), one.der(), b"\n"].concat()).unwrap();
    assert_eq!(rows(&json(check().arg(&path)).0).len(), 2);
    fs::write(&path, [one.der(), b"junk"].concat()).unwrap();
    assert_eq!(json(check().arg(&path)).1, 3);
}

#[test]
fn kubeconfigs_give_all_users_and_clusters() {
    let dir = support::temp_dir();
    let config = dir.path().join("config");
    fs::copy(fixture("ecdsa-p256/admin.conf"), &config).unwrap();
    let (report, code) = json(check().arg(&config));
    let name = config.display();
    assert_eq!(code, 0);
    assert_eq!(names(&report, "certificates"), [format!("{name} (user kubernetes-admin)")]);
    assert_eq!(names(&report, "certificateAuthorities"), [format!("{name} (cluster prod)")]);
    let row = &report["certificates"][0];
    assert_eq!(row["groups"][0], "kubeadm:cluster-admins");
    assert_eq!(row["source"]["kind"], "kubeconfigUser");
}

#[test]
fn secrets_are_read_from_yaml_json_and_standard_input() {
    let dir = support::temp_dir();
    let (one, _) = leaf(&ca("ca"), "one", FROM, TO);
    let encoded = support::base64(one.to_pem().as_bytes());
    let item = |name: &str, data: &str| {
        format!(
            "- apiVersion: v1\n  data:\n    tls.crt: {data}\n    tls.key: c2VjcmV0\n  kind: Secret\n  \
             metadata:\n    name: {name}\n    namespace: web\n  type: kubernetes.io/tls\n"
        )
    };
    let yaml = format!(
        "apiVersion: v1\nitems:\n{}{}{}kind: List\n",
        item("good", &encoded),
        item("garbage", "Z2FyYmFnZQ=="),
        item("unencoded", "'***'"),
    );
    let path = dir.path().join("secrets.yaml");
    fs::write(&path, &yaml).unwrap();
    let (report, code) = json(check().arg(&path));
    assert_eq!(code, 3);
    assert_eq!(
        names(&report, "certificates"),
        ["web/good tls.crt", "web/garbage tls.crt", "web/unencoded tls.crt"]
    );
    let good = row(&report, "web/good tls.crt");
    assert_eq!(good["source"]["secret"], "good");
    assert_eq!(good["source"]["namespace"], "web");
    assert_eq!(good["status"], "ok");
    assert_eq!(row(&report, "web/garbage tls.crt")["status"], "unknown");
    assert!(!report.to_string().contains("c2VjcmV0"));

    let one = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "one", "namespace": "web"}, "data": {"tls.crt": encoded},
    });
    let path = dir.path().join("secret.json");
    fs::write(&path, one.to_string()).unwrap();
    let (report, code) = json(check().arg(&path));
    assert_eq!((code, names(&report, "certificates")), (0, vec!["web/one tls.crt".to_owned()]));

    let mut command = check();
    command.args(["-o", "json", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stdout).unwrap().contains("web/good tls.crt"));
}

/// Thousands of items: the peak of the process's memory does not follow.
#[test]
fn thousands_of_secrets_are_streamed() {
    let dir = support::temp_dir();
    let (one, _) = leaf(&ca("ca"), "one", FROM, TO);
    let encoded = support::base64(one.to_pem().as_bytes());
    let path = dir.path().join("secrets.yaml");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    file.write_all(b"apiVersion: v1\nitems:\n").unwrap();
    for n in 0..5000 {
        write!(
            file,
            "- apiVersion: v1\n  data:\n    tls.crt: {encoded}\n  kind: Secret\n  metadata:\n    \
             name: s{n}\n    namespace: web\n"
        )
        .unwrap();
    }
    file.write_all(b"kind: List\n").unwrap();
    file.into_inner().unwrap();
    let (rows, peak) = count_and_peak(check().arg(&path));
    assert_eq!(rows, 5000);
    assert!(peak < 64 << 10, "{peak} KiB");
}

#[test]
fn a_tree_is_walked_in_order_and_what_is_no_certificate_is_passed_over() {
    let dir = support::temp_dir();
    let at = |name: &str| dir.path().join(name);
    kubeadm_copy(&at("host"));
    let (one, _) = leaf(&ca("ca"), "one", FROM, TO);
    for name in ["b.crt", "a.crt", "c/d/e.crt"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), one.to_pem()).unwrap();
    }
    fs::write(at("notes.txt"), "nothing, not even -----BEGIN CERTIFICATE----- really").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("binary"), [0, 1, 2, 3]).unwrap();
    fs::write(at("values.yaml"), "kind: Deployment\nmetadata: {name: x}\n").unwrap();
    support::run(std::process::Command::new("mkfifo").arg(at("fifo")));
    symlink("..", at("c/up")).unwrap();
    symlink(".", at("self")).unwrap();
    symlink("a.crt", at("link.crt")).unwrap();
    let strip = |report: &serde_json::Value| {
        let prefix = format!("{}/", dir.path().display());
        names(report, "certificates").iter().map(|n| n.replace(&prefix, "")).collect::<Vec<_>>()
    };

    let (report, code) = json(check().arg("-r").arg(dir.path()));
    assert_eq!(code, 0, "{report:#}");
    let found = strip(&report);
    assert_eq!(found[..3], ["a.crt", "b.crt", "c/d/e.crt"]);
    let sorted = found.is_sorted();
    assert!(sorted, "{found:?}");
    assert!(found.contains(&"host/pki/etcd/peer.crt".to_owned()));
    assert_eq!(found.len(), 3 + 7 + 5, "{found:?}");

    // One level without -r.
    assert_eq!(strip(&json(check().arg(dir.path())).0), ["a.crt", "b.crt"]);

    // A link that leads nowhere, or in a circle, is told even in a tree; so is a block without end.
    symlink("nowhere", at("dangling.crt")).unwrap();
    symlink("loop", at("loop")).unwrap();
    fs::write(at("cut.crt"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    let (report, code) = json(check().arg(dir.path()));
    let unknown: Vec<_> = rows(&report).into_iter().filter(|r| r["status"] == "unknown").collect();
    assert_eq!((code, unknown.len()), (3, 3));

    // A link that leaves the tree is followed.
    let outside = support::temp_dir();
    symlink(at("a.crt"), outside.path().join("linked.crt")).unwrap();
    assert_eq!(json(check().arg(outside.path())).1, 0);
    assert_eq!(names(&json(check().arg(outside.path())).0, "certificates").len(), 1);
}

#[test]
fn what_is_named_must_hold_certificates() {
    let dir = support::temp_dir();
    let at = |name: &str| dir.path().join(name);
    let begin = Instant::now();
    fs::write(at("garbage"), "garbage").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("binary"), [0, 1, 2, 3]).unwrap();
    let (_, key) = leaf(&ca("ca"), "one", FROM, TO);
    crate::write_key(&at("key"), &key);
    fs::write(at("no-end"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    fs::write(at("config"), "apiVersion: v1\nkind: Config\nusers: {}\n").unwrap();
    fs::write(at("secrets"), "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n").unwrap();
    support::run(std::process::Command::new("mkfifo").arg(at("fifo")));
    symlink("loop", at("loop")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    fs::File::create(at("2GiB")).unwrap().set_len(2 << 30).unwrap();
    for (name, why) in [
        ("garbage", "holds no certificate"),
        ("empty", "is empty"),
        ("binary", "holds no certificate"),
        ("key", "only PRIVATE KEY"),
        ("no-end", "no END marker"),
        ("config", "not a list"),
        ("secrets", "no certificate in 1 Secret"),
        ("fifo", "FIFO"),
        ("loop", "symbolic link"),
        ("dangling", "does not exist"),
        ("2GiB", "64 KiB"),
        ("none", "does not exist"),
    ] {
        let (report, code) = json(check().arg(at(name)));
        let row = rows(&report)[0].clone();
        assert_eq!((code, row["status"].as_str()), (3, Some("unknown")), "{name}: {row}");
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.contains(why), "{name}: {reason}");
        assert_eq!(row["name"], at(name).display().to_string());
    }
    assert!(begin.elapsed() < Duration::from_secs(60), "something hung");
}

#[test]
fn two_gibibytes_of_pem_take_no_memory() {
    let dir = support::temp_dir();
    let path = dir.path().join("large.pem");
    let (one, _) = leaf(&ca("ca"), "one", FROM, TO);
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(one.to_pem().as_bytes()).unwrap();
    file.write_all(b"-----BEGIN CERTIFICATE-----\n").unwrap();
    file.set_len(2 << 30).unwrap();
    let mut command = check();
    let (rows, peak) = count_and_peak(command.arg(&path));
    assert_eq!(rows, 2);
    assert!(peak < 64 << 10, "{peak} KiB");
}

#[test]
fn ten_thousand_certificates_in_one_file_are_ten_thousand_rows() {
    let dir = support::temp_dir();
    let path = dir.path().join("many.pem");
    let (one, _) = leaf(&ca("ca"), "one", FROM, TO);
    fs::write(&path, one.to_pem().repeat(10_000)).unwrap();
    let (rows, peak) = count_and_peak(check().arg(&path));
    assert_eq!(rows, 10_000);
    assert!(peak < 64 << 10, "{peak} KiB");
}

/// The rows of its table, and the most memory it had, in KiB.
fn count_and_peak(command: &mut std::process::Command) -> (usize, u64) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut output, &mut text).unwrap();
        text
    });
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(peak > 0, "never seen");
    let text = reader.join().unwrap();
    (text.lines().filter(|line| !line.is_empty()).count() - 1, peak)
}

#[test]
fn odd_dates_are_read_or_unknown() {
    let dir = support::temp_dir();
    let at = |name: &str| dir.path().join(name);
    let (far, _) = leaf(&ca("ca"), "far", FROM, "2055-01-02T03:04:05Z");
    let position = |wanted: &[u8]| {
        far.der().windows(wanted.len()).position(|w| w == wanted).expect("the date in its DER")
    };
    let begin = position(b"20550102030405Z");

    // No well-defined end (RFC 5280, 4.1.2.5). The signature is wrong then, which is not what is asked here.
    let mut never = far.der().to_vec();
    never[begin..begin + 15].copy_from_slice(b"99991231235959Z");
    fs::write(at("never.der"), &never).unwrap();
    let (report, code) = json(check().arg(at("never.der")));
    assert_eq!(code, 0);
    assert_eq!(rows(&report)[0]["expirationDate"], "9999-12-31T23:59:59Z");
    let table = support::stdout(check().arg(at("never.der")));
    assert!(table.contains("Dec 31, 9999 23:59 UTC   7978y"), "{table}");

    // Without seconds (X.690 11.7.3 wants them): two octets less, in four lengths.
    let mut short = far.der().to_vec();
    short.splice(begin..begin + 15, *b"205501020304Z");
    short[begin - 1] = 13;
    let validity = begin - 2 - 15 - 2;
    assert_eq!(short[validity], 0x30);
    short[validity + 1] -= 2;
    for sequence in [0, 4] {
        assert_eq!(short[sequence..sequence + 2], [0x30, 0x82]);
        let length = u16::from_be_bytes([short[sequence + 2], short[sequence + 3]]) - 2;
        short[sequence + 2..sequence + 4].copy_from_slice(&length.to_be_bytes());
    }
    fs::write(at("short.der"), &short).unwrap();
    let (report, code) = json(check().arg(at("short.der")));
    assert_eq!((code, &rows(&report)[0]["status"]), (3, &"unknown".into()));
}

#[test]
fn names_of_files_cannot_steer_the_terminal() {
    let dir = support::temp_dir();
    let path = dir.path().join("x\u{1b}[31m\n.crt");
    fs::write(&path, "garbage").unwrap();
    let output = check().arg(&path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[31m\\n.crt"), "{text}");
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = support::temp_dir();
    let (one, _) = leaf(&ca("ca"), "one", FROM, TO);
    let path = dir.path().join("many.pem");
    fs::write(&path, one.to_pem().repeat(5000)).unwrap();
    let mut child =
        check().arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(Path::new(&path).exists());
}
