//! What `certkit template`, `completions` and `man` print, held against those who read it.

mod support;

use std::{fs, path::Path, process::Command};

use certkit::render::deploy::DEPLOYMENTS;

/// A folder name with marks that systemd, YAML, JSON and cron give a meaning.
const HOSTILE: &str = r#"/srv/a b/%n/"c"/\x: #"#;

fn template(dir: &str, name: &str) -> String {
    support::stdout(support::certkit().args(["--dir", dir, "template", name]))
}

#[test]
fn without_a_name_all_are_listed() {
    let list = support::stdout(support::certkit().arg("template"));
    assert_eq!(list.lines().count(), DEPLOYMENTS.len() + 1);
    assert!(DEPLOYMENTS.iter().all(|d| list.contains(d.name)), "{list}");
    support::run_to_exit(support::certkit().args(["template", "nothing"]), 64);
}

/// What `systemd-analyze verify` says of these units, by file name.
fn verified(units: &[(String, String)]) -> String {
    let folder = support::temp_dir();
    let mut verify = Command::new("systemd-analyze");
    // The page that Documentation= names is there once `certkit man` has written it.
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    verify.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()));
    for (name, text) in units {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        verify.arg(file);
    }
    let out = verify.output().unwrap();
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    if out.status.success() { said } else { format!("failed: {said}") }
}

/// A service and its timer, with certkit where the unit expects it.
fn units(dir: &str, service: &str, timer: &str, name: &str) -> [(String, String); 2] {
    let unit = template(dir, service);
    assert!(unit.contains("ExecStart=/usr/local/bin/certkit "), "{unit}");
    let unit = unit.replace("/usr/local/bin/certkit", env!("CARGO_BIN_EXE_certkit"));
    [(format!("{name}.service"), unit), (format!("{name}.timer"), template(dir, timer))]
}

#[test]
fn systemd_accepts_the_units_and_their_timers_and_finds_faults_in_wrong_ones() {
    if support::optional("systemd-analyze").is_none() {
        return;
    }
    for dir in ["/etc/kubernetes", HOSTILE] {
        for [service, timer, name] in [
            ["systemd-service", "systemd-timer", "certkit-check"],
            ["systemd-rotate-service", "systemd-rotate-timer", "certkit-rotate"],
        ] {
            let sound = units(dir, service, timer, name);
            assert_eq!(verified(&sound), "", "{dir} {service}");
            for (at, right, wrong) in [
                (0, "ProtectSystem=strict", "ProtectSystem=mostly"),
                (0, "CERTKIT_DIR=", "CERTKIT_DIR=%Z"),
                (1, "OnCalendar=", "OnCalendar=sometimes "),
            ] {
                let mut units = sound.clone();
                units[at].1 = units[at].1.replace(right, wrong);
                assert_ne!(units[at], sound[at], "{right} is in {service}");
                assert_ne!(verified(&units), "", "{wrong} in {service}");
            }
        }
    }
}

#[test]
fn ansible_reads_the_playbook_and_finds_faults_in_a_wrong_one() {
    if support::optional("ansible-playbook").is_none() {
        return;
    }
    let folder = support::temp_dir();
    let check = |text: &str| {
        let file = folder.path().join("playbook.yaml");
        fs::write(&file, text).unwrap();
        let mut check = Command::new("ansible-playbook");
        check.args(["--syntax-check", "-i", "control_plane,"]).arg(&file);
        check.env("ANSIBLE_LOCALHOST_WARNING", "false").output().unwrap().status.success()
    };
    for dir in ["/etc/kubernetes", HOSTILE] {
        let sound = template(dir, "ansible");
        assert!(check(&sound), "{sound}");
        assert!(sound.contains("/.certkit/archives/{{ inventory_hostname }}.tar\""), "{sound}");
        let wrong = sound.replace("ansible.builtin.unarchive", "ansible.builtin.unarchived");
        assert!(!check(&wrong));
    }
}

#[test]
fn kubectl_reads_the_manifests() {
    if support::need("kubectl").is_none() {
        return;
    }
    let folder = support::temp_dir();
    for (name, objects) in [("cronjob", 1), ("daemonset", 1), ("rbac", 3)] {
        let file = folder.path().join(name);
        fs::write(&file, template(HOSTILE, name)).unwrap();
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["patch", "--local", "--type=json", "--patch=[]", "--output=name", "-f"]);
        assert_eq!(support::stdout(kubectl.arg(&file)).lines().count(), objects, "{name}");
    }
    let file = folder.path().join("cronjob");
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["patch", "--local", "--type=json", "--patch=[]", "--output=json", "-f"]);
    let json: serde_json::Value =
        serde_json::from_str(&support::stdout(kubectl.arg(&file))).unwrap();
    let pod = "/spec/jobTemplate/spec/template/spec/volumes/0/hostPath/path";
    assert_eq!(json.pointer(pod).unwrap(), HOSTILE);
}

#[test]
fn promtool_accepts_the_rules_and_they_fire() {
    if support::need("promtool").is_none() {
        return;
    }
    let folder = support::temp_dir();
    fs::write(folder.path().join("rules.yaml"), template("/etc/kubernetes", "prometheus-rules"))
        .unwrap();
    let promtool = |args: &[&str]| {
        support::stdout(Command::new("promtool").current_dir(folder.path()).args(args))
    };
    promtool(&["check", "rules", "rules.yaml"]);
    fs::write(folder.path().join("tests.yaml"), RULE_TESTS).unwrap();
    promtool(&["test", "rules", "tests.yaml"]);
}

/// One series for each alert that is to fire, and one that is to be left alone. promtool's time begins
/// at 0.
const RULE_TESTS: &str = r#"
rule_files: [rules.yaml]
evaluation_interval: 1h
tests:
  - interval: 1h
    input_series:
      - {series: 'certkit_certificate_not_after_timestamp_seconds{name="apiserver", host="cp1", subject="CN=kube-apiserver", path="pki/apiserver.crt"}', values: '7200x100'}
      - {series: 'certkit_certificate_not_after_timestamp_seconds{name="ca", host="cp1"}', values: '9000000x100'}
      - {series: 'certkit_certificate_not_before_timestamp_seconds{name="ca", host="cp1"}', values: '8000000x100'}
      - {series: 'certkit_certificate_status{name="apiserver", host="cp1"}', values: '2x100'}
      - {series: 'certkit_certificate_status{name="etcd-peer", host="cp1"}', values: '1x100'}
      - {series: 'certkit_certificate_status{name="admin.conf", host="cp1"}', values: '3x100'}
      - {series: 'certkit_certificate_status{name="ca", host="cp1"}', values: '0x100'}
      - {series: 'certkit_check_timestamp_seconds{instance="cp1"}', values: '0x100'}
    promql_expr_test:
      - expr: count by (alertname, name) (ALERTS{alertstate="firing"})
        eval_time: 60h
        exp_samples:
          - {labels: '{alertname="CertificateExpired", name="apiserver"}', value: 1}
          - {labels: '{alertname="CertificateCritical", name="apiserver"}', value: 1}
          - {labels: '{alertname="CertificateExpiresSoon", name="etcd-peer"}', value: 1}
          - {labels: '{alertname="CertificateUnknown", name="admin.conf"}', value: 1}
          - {labels: '{alertname="CertificateNotYetValid", name="ca"}', value: 1}
          - {labels: '{alertname="CertificateCheckStale"}', value: 1}
      - expr: ALERTS
        eval_time: 0h
        exp_samples:
          - {labels: 'ALERTS{alertname="CertificateCritical", alertstate="pending", host="cp1", name="apiserver", severity="critical"}', value: 1}
          - {labels: 'ALERTS{alertname="CertificateExpiresSoon", alertstate="pending", host="cp1", name="etcd-peer", severity="warning"}', value: 1}
          - {labels: 'ALERTS{alertname="CertificateUnknown", alertstate="pending", host="cp1", name="admin.conf", severity="warning"}', value: 1}
          - {labels: 'ALERTS{alertname="CertificateNotYetValid", alertstate="pending", host="cp1", name="ca", severity="critical"}', value: 1}
    alert_rule_test:
      - alertname: CertificateExpired
        eval_time: 2h
        exp_alerts:
          - exp_labels: {severity: critical, name: apiserver, host: cp1, subject: CN=kube-apiserver, path: pki/apiserver.crt}
            exp_annotations:
              summary: "Certificate apiserver on cp1 has expired"
              description: "CN=kube-apiserver at pki/apiserver.crt expired 1970-01-01 02:00:00 +0000 UTC. Renew it: certkit rotate apiserver"
      - {alertname: CertificateExpired, eval_time: 1h, exp_alerts: []}
  - interval: 1h
    input_series: []
    alert_rule_test:
      - alertname: CertificateCheckMissing
        eval_time: 2h
        exp_alerts:
          - exp_labels: {severity: warning}
            exp_annotations:
              summary: "No host reports a certificate check"
              description: "certkit_check_timestamp_seconds is nowhere. Is the check deployed, and the textfile collector on?"
"#;

#[test]
fn the_dashboard_is_json_and_asks_only_for_metrics_that_the_rules_know() {
    let text = template("/etc/kubernetes", "grafana-dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rules = template("/etc/kubernetes", "prometheus-rules");
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 3);
    for panel in panels {
        let asked = panel["targets"][0]["expr"].as_str().unwrap();
        let metrics = asked.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics: Vec<&str> = metrics.filter(|word| word.starts_with("certkit_")).collect();
        assert!(!metrics.is_empty(), "{asked}");
        assert!(metrics.iter().all(|metric| rules.contains(metric)), "{asked}");
    }
    let ids: std::collections::BTreeSet<_> = panels.iter().map(|p| p["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
}

#[test]
fn crons_line_has_its_six_fields_and_no_percent_sign() {
    let text = template("/srv/a b", "cron");
    assert!(text.contains("\nCERTKIT_DIR=\"/srv/a b\"\n"), "{text}");
    let job = text.lines().last().unwrap();
    // cron takes an unescaped % for a line end.
    assert!(!job.contains('%'), "{job}");
    let fields: Vec<&str> = job.split_whitespace().take(7).collect();
    assert_eq!(fields[5..], ["root", "certkit"]);
    support::run_to_exit(support::certkit().args(["--dir", "/a\nb", "template", "cron"]), 64);
}

#[test]
fn bash_accepts_its_completions() {
    let folder = support::temp_dir();
    let file = folder.path().join("certkit");
    let script = support::stdout(support::certkit().args(["completions", "bash"]));
    fs::write(&file, &script).unwrap();
    support::run(Command::new("bash").arg("-n").arg(&file));
    assert!(script.contains("CERTKIT_COMPLETE"));
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = support::stdout(support::certkit().args(["completions", shell]));
        assert!(script.contains("certkit"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page_with_examples_and_exit_codes() {
    let folder = support::temp_dir();
    support::run(support::certkit().args(["man", "--output-dir"]).arg(folder.path()));
    let read = |name: &Path| fs::read_to_string(name).unwrap();
    let main = support::stdout(support::certkit().arg("man"));
    assert_eq!(main, read(&folder.path().join("certkit.1")));
    for command in ["flags", "template", "completions", "man"] {
        let page = read(&folder.path().join(format!("certkit-{command}.1")));
        assert!(page.contains("EXIT CODES") && page.contains("EXAMPLES"), "{command}");
        let help = support::stdout(support::certkit().args([command, "--help"]));
        assert!(help.contains("EXIT CODES:") && help.contains("EXAMPLES:"), "{help}");
    }
}
