//! The formats.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    ca, check, check_at, fixture, json, kubeadm_copy, leaf,
    support::{self, schema},
};

/// A directory with something of every status.
fn mixed() -> tempfile::TempDir {
    let dir = support::temp_dir();
    kubeadm_copy(dir.path());
    let at = |name: &str| dir.path().join(name);
    let ca = ca("kubernetes");
    for (file, begin, end) in [
        ("pki/apiserver.crt", "2026-01-01", "2027-01-15"),
        ("pki/apiserver-kubelet-client.crt", "2026-01-01", "2027-01-03"),
        ("pki/front-proxy-client.crt", "2026-01-01", "2026-12-30"),
        ("pki/etcd/server.crt", "2027-06-01", "2028-06-01"),
    ] {
        let (certificate, _) = leaf(
            &ca,
            "a \"quoted\\\" name",
            &format!("{begin}T00:00:00Z"),
            &format!("{end}T00:00:00Z"),
        );
        fs::write(at(file), certificate.to_pem()).unwrap();
    }
    fs::remove_file(at("pki/etcd/peer.crt")).unwrap();
    fs::write(at("scheduler.conf"), "garbage").unwrap();
    dir
}

fn output(dir: &std::path::Path, format: &str, code: i32) -> String {
    let output = support::run_to_exit(check().args(["-o", format, "--dir"]).arg(dir), code);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_table_has_kubeadms_columns_and_a_status() {
    let text = output(&fixture("ecdsa-p256"), "table", 0);
    let kubeadm = fs::read_to_string(fixture("check-expiration.txt")).unwrap();
    // Row for row kubeadm's own lines, its residual time aside, then the status.
    let words = |line: &str| {
        line.split("   ").map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect::<Vec<_>>()
    };
    let ours: BTreeSet<Vec<String>> = text.lines().map(words).collect();
    for line in kubeadm.lines().filter(|line| !line.is_empty()) {
        let mut wanted = words(line);
        match line.starts_with("CERTIFICATE") {
            true => wanted.push("STATUS".into()),
            false => {
                wanted.push("OK".into());
                // 40 days later.
                wanted[2] = if wanted[2] == "364d" { "324d".into() } else { wanted[2].clone() };
            }
        }
        assert!(ours.contains(&wanted), "{wanted:?} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line == line.trim_end()));
}

#[test]
fn every_status_has_its_words_in_the_table() {
    let dir = mixed();
    let text = output(dir.path(), "table", 3);
    let line = |name: &str| {
        let found = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        found.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
    };
    assert!(line("apiserver").ends_with("WARNING"));
    assert!(line("apiserver-kubelet-client").ends_with("CRITICAL"));
    assert!(line("front-proxy-client").contains("expired 2d ago"));
    assert!(line("etcd-server").contains("NOT YET VALID: valid from 2027-06-01T00:00:00Z"));
    assert!(line("etcd-peer").contains("MISSING: ") && line("etcd-peer").contains("etcd/peer.crt"));
    assert!(line("scheduler.conf").contains("UNKNOWN: "));
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn colour_follows_the_status() {
    let dir = mixed();
    let output = check()
        .env_remove("NO_COLOR")
        .args(["--color", "always", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for (name, color) in [
        ("apiserver ", "\u{1b}[33m"),
        ("apiserver-kubelet-client", "\u{1b}[31m"),
        ("scheduler.conf", "\u{1b}[35m"),
        ("admin.conf", ""),
    ] {
        assert!(text.contains(&format!("\n{color}{name}")), "{name}: {text:?}");
    }
}

#[test]
fn wide_tells_path_serial_key_names_fingerprint_and_user() {
    let text = output(&fixture("ecdsa-p256"), "wide", 0);
    let heading = text.lines().next().unwrap();
    for column in ["USER", "KEY", "SERIAL", "SHA256", "NAMES", "PATH"] {
        assert!(heading.contains(column), "{heading}");
    }
    let (report, _) = json(check().arg("--dir").arg(fixture("ecdsa-p256")));
    let row = crate::row(&report, "apiserver");
    let line = text.lines().find(|line| line.starts_with("apiserver ")).unwrap();
    for field in ["serialNumber", "fingerprintSha256", "keyAlgorithm", "user"] {
        assert!(line.contains(row[field].as_str().unwrap()), "{field}: {line}");
    }
    assert!(line.contains("IP:10.96.0.1") && line.contains("pki/apiserver.crt"), "{line}");
    let admin = text.lines().find(|line| line.starts_with("admin.conf ")).unwrap();
    assert!(admin.contains("kubernetes-admin (kubeadm:cluster-admins)"), "{admin}");
}

#[test]
fn json_is_what_its_schema_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = fs::read_to_string(root.join("docs/schema/check-expiration.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let dir = mixed();
    for report in [
        json(check().arg("--dir").arg(dir.path())).0,
        json(check().arg("--dir").arg(fixture("rsa-2048"))).0,
        json(check().arg("-r").arg(dir.path())).0,
        json(check().arg("/dev/null")).0,
        json(check().args(["--connect", "127.0.0.1:1"]).arg("--dir").arg(dir.path())).0,
    ] {
        let faults = schema::faults(&schema, &report);
        assert!(faults.is_empty(), "{faults:#?}");
    }
    // And the schema can fail.
    let (mut report, _) = json(check().arg("--dir").arg(fixture("rsa-2048")));
    report["certificates"][0]["expirationDate"] = "tomorrow".into();
    report["certificates"][1].as_object_mut().unwrap().remove("missing");
    report["certificates"][2]["status"] = "fine".into();
    report["certificates"][3]["surprise"] = true.into();
    assert_eq!(schema::faults(&schema, &report).len(), 4);
}

#[test]
fn yaml_says_the_same_as_json() {
    let dir = mixed();
    let (report, _) = json(check().arg("--dir").arg(dir.path()));
    let yaml = output(dir.path(), "yaml", 3);
    let back: Value =
        serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    assert_eq!(back, report);
}

#[test]
fn metrics_are_valid_and_tell_which_certificate() {
    let dir = mixed();
    let text = output(dir.path(), "prometheus", 3);
    let samples = metrics(&text);
    let of = |metric: &str| samples.iter().filter(|s| s.0 == metric).collect::<Vec<_>>();
    let status = of("certkit_certificate_status");
    assert_eq!(status.len(), 15);
    let find = |name: &str| status.iter().find(|s| s.1["name"] == name).unwrap();
    for (name, value) in [
        ("admin.conf", "0"),
        ("apiserver", "1"),
        ("front-proxy-client", "2"),
        ("scheduler.conf", "3"),
    ] {
        assert_eq!(find(name).2, value, "{name}");
    }
    let apiserver = &find("apiserver").1;
    assert_eq!(apiserver["subject"], "CN=a \"quoted\\\\\" name");
    assert!(apiserver["path"].ends_with("pki/apiserver.crt"));
    assert!(!apiserver["host"].is_empty() && !apiserver["serial"].is_empty());
    assert_eq!(find("admin.conf").1["kubeconfig_user"], "kubernetes-admin");
    let ends = of("certkit_certificate_not_after_timestamp_seconds");
    let end = ends.iter().find(|s| s.1["name"] == "apiserver").unwrap();
    assert_eq!(end.2, "1799971200");
    // Those that are not there have no dates.
    assert_eq!(ends.len(), 13);
    assert_eq!(of("certkit_certificate_not_before_timestamp_seconds").len(), 13);
    assert_eq!(of("certkit_check_timestamp_seconds")[0].2, "1798761600");
}

#[test]
fn the_machine_may_be_told_its_name() {
    let host = |command: &mut Command| {
        let text =
            support::stdout(command.args(["-o", "prometheus", "--dir"]).arg(fixture("ecdsa-p256")));
        metrics(&text)[0].1["host"].clone()
    };
    assert_eq!(host(check().env("CERTKIT_MACHINE", "node-7")), "node-7");
    assert_eq!(host(check().args(["--machine", "node-8"])), "node-8");
    let own = support::stdout(Command::new("uname").arg("-n"));
    assert_eq!(host(&mut check()), own.trim().to_lowercase());
}

#[test]
fn promtool_accepts_the_metrics() {
    let Some(promtool) = support::need("promtool") else { return };
    let dir = mixed();
    for arguments in [
        vec!["--dir".into(), dir.path().display().to_string()],
        // A path that is named twice is no sample twice.
        vec![fixture("ecdsa-p256/pki").display().to_string(); 2],
        vec!["-r".into(), dir.path().display().to_string()],
    ] {
        let output = check().args(["-o", "prometheus"]).args(arguments).output().unwrap();
        let mut child = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&output.stdout).unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(
            said.status.success() && said.stderr.is_empty(),
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
    }
}

type Sample = (String, BTreeMap<String, String>, String);

/// Prometheus' text format, strictly: each metric's lines in one group after its HELP and TYPE, no sample twice.
fn metrics(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let mut samples: Vec<Sample> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            current = help.split(' ').next().unwrap().to_owned();
            assert!(seen.insert(current.clone()), "{current} in two groups");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind, format!("{current} gauge"));
            continue;
        }
        let (name, rest) = match line.split_once('{') {
            Some((name, rest)) => (name, rest),
            None => line.split_once(' ').map(|(name, _)| (name, line)).unwrap(),
        };
        assert_eq!(name, current, "{line}");
        let mut labels = BTreeMap::new();
        let mut rest = if rest == line { &line[name.len()..] } else { rest };
        while !rest.starts_with(' ') && !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").unwrap();
            let mut value = String::new();
            let mut characters = after.char_indices();
            let end = loop {
                match characters.next().unwrap() {
                    (_, '\\') => match characters.next().unwrap().1 {
                        'n' => value.push('\n'),
                        c @ ('\\' | '"') => value.push(c),
                        c => panic!("\\{c}"),
                    },
                    (at, '"') => break at,
                    (_, c) => value.push(c),
                }
            };
            labels.insert(label.trim_start_matches(',').to_owned(), value);
            rest = &after[end + 1..];
        }
        let value = rest.trim_start_matches('}').trim();
        value.parse::<i64>().unwrap_or_else(|_| panic!("{line}"));
        let sample = (name.to_owned(), labels, value.to_owned());
        assert!(!samples.iter().any(|s| s.0 == sample.0 && s.1 == sample.1), "twice: {line}");
        samples.push(sample);
    }
    samples
}

#[test]
fn the_text_file_is_replaced_whole() {
    let dir = support::temp_dir();
    let path = dir.path().join("certkit.prom");
    let fixture = fixture("ecdsa-p256");
    let mut command = check();
    command.args(["-o", "prometheus", "--textfile"]).arg(&path).arg("--dir").arg(&fixture);
    assert_eq!(support::stdout(&mut command), "");
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written, output(&fixture, "prometheus", 0));
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let before = fs::metadata(&path).unwrap();
    assert_eq!(before.permissions().mode() & 0o777, 0o644);
    // The table is printed all the same; for cron only what needs attention.
    let mut table = check();
    table.arg("--textfile").arg(&path).arg("--dir").arg(&fixture);
    assert_eq!(support::stdout(&mut table), output(&fixture, "table", 0));
    assert_eq!(support::stdout(table.arg("-q")), "");
    // Another format may go to the terminal; the exit code is the worst row's all the same.
    let mut late = check_at("2030-01-01T00:00:00Z");
    late.args(["-o", "nagios", "--textfile"]).arg(&path).arg("--dir").arg(&fixture);
    let said = support::run_to_exit(&mut late, 2);
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("CERTKIT CRITICAL"));
    assert_ne!(fs::metadata(&path).unwrap().ino(), before.ino(), "written in place");
    // A folder that is not there: said, and nothing left behind.
    let nowhere = dir.path().join("none/certkit.prom");
    let mut failing = check();
    failing.arg("--textfile").arg(nowhere).arg("--dir").arg(&fixture);
    support::run_to_exit(&mut failing, 3);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_plugin_line_is_one_line_with_performance_data() {
    let dir = mixed();
    let text = output(dir.path(), "nagios", 3);
    assert_eq!(text.lines().count(), 1);
    let (said, data) = text.trim_end().split_once(" |").unwrap();
    assert!(
        said.starts_with("CERTKIT UNKNOWN - 1 unknown, 4 critical, 1 warning, 9 ok: "),
        "{said}"
    );
    assert!(said.contains("scheduler.conf UNKNOWN"), "{said}");
    assert!(said.contains("front-proxy-client expired 2d ago"), "{said}");
    assert!(data.contains(" 'apiserver'=1209600s;2592000:;604800:"), "{data}");
    assert!(data.contains(" 'front-proxy-client'=-172800s;2592000:;604800:"), "{data}");
    assert!(data.ends_with(" ok=9;;;0 warning=1;;;0 critical=4;;;0 unknown=1;;;0"), "{data}");
    let fine = output(&fixture("ecdsa-p256"), "nagios", 0);
    assert!(fine.starts_with("CERTKIT OK - 15 ok: apiserver ends first, in 324d |"), "{fine}");
}

#[test]
fn the_timeline_fits_and_marks_now_and_the_thresholds() {
    let dir = mixed();
    for width in ["40", "80", "200"] {
        let draw = |more: &[&str]| {
            let output = check()
                .env("COLUMNS", width)
                .args(["-o", "timeline", "--dir"])
                .arg(dir.path())
                .args(more)
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let (drawn, ascii) = (draw(&[]), draw(&["--ascii"]));
        assert!(ascii.is_ascii() && !drawn.is_ascii());
        for text in [&drawn, &ascii] {
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            let width: usize = width.parse().unwrap();
            assert!(widest <= width, "{widest} columns of {width}\n{text}");
        }
    }
    let text = output(&fixture("ecdsa-p256"), "timeline", 0);
    let line = text.lines().find(|line| line.starts_with("apiserver ")).unwrap();
    // Over, now, to come, within --warn, within --critical: in this order.
    let order: Vec<char> = line.chars().filter(|c| "─│━▒█".contains(*c)).collect();
    let mut kinds = order.clone();
    kinds.dedup();
    assert_eq!(kinds, ['─', '│', '━', '▒', '█'], "{line}");
    assert!(text.contains("│ now"));
    // 40 of 365 days are over.
    let share = order.iter().filter(|c| **c == '─').count() as f64 / order.len() as f64;
    assert!((share - 40.0 / 365.0).abs() < 0.05, "{share} of {line}");
}
