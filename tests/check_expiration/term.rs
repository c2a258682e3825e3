//! Thresholds and exit codes, to the second.

use std::process::Command;

use crate::{ca, check_at, json, leaf, row, support};

/// Valid from 2027-01-01 to 2027-01-11 00:00:00, ten days.
fn ten_days(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let (certificate, _) = leaf(&ca("ca"), "x", "2027-01-01T00:00:00Z", "2027-01-11T00:00:00Z");
    let path = folder.path().join("x.crt");
    std::fs::write(&path, certificate.to_pem()).unwrap();
    path
}

#[track_caller]
fn ends(command: &mut Command, code: i32, status: &str) {
    let (report, found) = json(command);
    let row = &report["certificates"][0];
    assert_eq!((found, row["status"].as_str()), (code, Some(status)), "{row}");
}

#[test]
fn exit_codes_change_on_the_second() {
    let folder = support::temp_dir();
    let path = ten_days(&folder);
    for (at, code, status) in [
        ("2026-12-31T23:59:59Z", 2, "not-yet-valid"),
        ("2027-01-01T00:00:00Z", 0, "ok"),
        ("2027-01-08T23:59:59Z", 0, "ok"),
        ("2027-01-09T00:00:00Z", 1, "warning"),
        ("2027-01-09T23:59:59Z", 1, "warning"),
        ("2027-01-10T00:00:00Z", 2, "critical"),
        ("2027-01-11T00:00:00Z", 2, "critical"),
        ("2027-01-11T00:00:01Z", 2, "expired"),
        ("9999-12-31T23:59:59Z", 2, "expired"),
    ] {
        let mut command = check_at(at);
        command.args(["--warn", "2d", "--critical", "1d"]).arg(&path);
        ends(&mut command, code, status);
    }
}

#[test]
fn thresholds_may_be_shares_of_the_life() {
    let folder = support::temp_dir();
    let path = ten_days(&folder);
    for (at, code, status) in [
        ("2027-01-07T23:59:59Z", 0, "ok"),
        ("2027-01-08T00:00:00Z", 1, "warning"),
        ("2027-01-09T23:59:59Z", 1, "warning"),
        ("2027-01-10T00:00:00Z", 2, "critical"),
    ] {
        let mut command = check_at(at);
        command.args(["--warn", "30%", "--critical", "10%"]).arg(&path);
        ends(&mut command, code, status);
    }
}

#[test]
fn without_flags_it_is_thirty_and_seven_days() {
    let folder = support::temp_dir();
    let (certificate, _) = leaf(&ca("ca"), "x", "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z");
    let path = folder.path().join("x.crt");
    std::fs::write(&path, certificate.to_pem()).unwrap();
    for (at, code, status) in [
        ("2027-12-01T23:59:59Z", 0, "ok"),
        ("2027-12-02T00:00:00Z", 1, "warning"),
        ("2027-12-24T23:59:59Z", 1, "warning"),
        ("2027-12-25T00:00:00Z", 2, "critical"),
    ] {
        ends(check_at(at).arg(&path), code, status);
    }
}

#[test]
fn the_worst_row_counts_and_not_knowing_is_worst() {
    let folder = support::temp_dir();
    let at = |name: &str| folder.path().join(name);
    let ca = ca("ca");
    for (name, end) in [("ok", "2029-01-01"), ("warning", "2027-01-20"), ("critical", "2027-01-03")]
    {
        let (certificate, _) = leaf(&ca, name, "2026-01-01T00:00:00Z", &format!("{end}T00:00:00Z"));
        std::fs::write(at(name), certificate.to_pem()).unwrap();
    }
    std::fs::write(at("unknown"), "nothing").unwrap();
    let check =
        |files: &[&str]| json(check_at("2027-01-01T00:00:00Z").args(files.iter().map(|f| at(f)))).1;
    assert_eq!(check(&["ok"]), 0);
    assert_eq!(check(&["ok", "warning"]), 1);
    assert_eq!(check(&["critical", "warning", "ok"]), 2);
    assert_eq!(check(&["ok", "unknown", "critical"]), 3);
}

#[test]
fn the_table_says_how_long_ago_and_when_it_begins() {
    let folder = support::temp_dir();
    let path = ten_days(&folder);
    let table =
        |at: &str| String::from_utf8(check_at(at).arg(&path).output().unwrap().stdout).unwrap();
    assert!(table("2027-01-14T04:00:01Z").contains("expired 3d4h ago"));
    assert!(table("2027-01-11T00:00:45Z").contains("expired 45s ago"));
    let early = table("2026-12-31T23:59:59Z");
    assert!(early.contains("NOT YET VALID: valid from 2027-01-01T00:00:00Z"), "{early}");
    assert!(early.contains("clock"), "{early}");
}

#[test]
fn a_wrong_command_line_is_no_finding() {
    for arguments in [
        &["--warn", "soon"][..],
        &["--warn", "101%"],
        &["--at", "tomorrow"],
        &["--connect", "nowhere"],
        &["--connect", "fd00::1:6443"],
        &["-o", "xml"],
    ] {
        let mut command = support::certkit();
        support::run_to_exit(command.arg("check-expiration").args(arguments), 64);
    }
}

#[test]
fn a_directory_without_a_pki_is_a_row_in_every_format() {
    let folder = support::temp_dir();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    for (dir, why) in [
        (folder.path().to_path_buf(), "nothing of a cluster's PKI"),
        (folder.path().join("none"), "does not exist"),
        (folder.path().join("file"), "is no directory"),
    ] {
        let (report, code) = json(check_at("2027-01-02T00:00:00Z").arg("--dir").arg(&dir));
        assert_eq!(code, 3);
        let row = row(&report, &dir.display().to_string());
        assert_eq!(row["status"], "unknown");
        assert!(row["reason"].as_str().unwrap().contains(why), "{row}");
        let in_format = |format: &str| {
            let mut command = check_at("2027-01-02T00:00:00Z");
            let output =
                support::run_to_exit(command.args(["-q", "-o", format, "--dir"]).arg(&dir), 3);
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(in_format("table").contains("UNKNOWN"));
        assert!(in_format("nagios").starts_with("CERTKIT UNKNOWN - 1 unknown: "));
        let metrics = in_format("prometheus");
        let labels = format!("name=\"{}\"", dir.display());
        let status = metrics.lines().find(|line| line.contains(&labels)).unwrap();
        assert!(status.starts_with("certkit_certificate_status{") && status.ends_with(" 3"));
        assert!(metrics.contains("certkit_certificates{status=\"unknown\"} 1\n"), "{metrics}");
    }
}

#[test]
fn quiet_speaks_only_of_what_needs_attention() {
    let folder = support::temp_dir();
    let path = ten_days(&folder);
    let mut quiet = check_at("2027-01-02T00:00:00Z");
    quiet.args(["-q", "--warn", "1d", "--critical", "1h"]).arg(&path);
    assert_eq!(support::stdout(&mut quiet), "");
    let output = support::run_to_exit(check_at("2027-01-12T00:00:00Z").arg("-q").arg(&path), 2);
    assert!(String::from_utf8_lossy(&output.stdout).contains("EXPIRED"));
}

#[test]
fn one_row_more_is_one_row_more() {
    let folder = support::temp_dir();
    let path = ten_days(&folder);
    let (report, _) = json(check_at("2027-01-02T00:00:00Z").arg(&path).arg(&path));
    assert_eq!(report["certificates"].as_array().unwrap().len(), 2);
    let name = path.display().to_string();
    assert_eq!(row(&report, &name)["expirationDate"], "2027-01-11T00:00:00Z");
}
