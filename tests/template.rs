//! What `certkit template`, `completions` and `man` print, held against those who read it.

mod support;

use std::{fs, path::Path, process::Command};

use certkit::render::deploy::DEPLOYMENTS;
use support::{certkit, machine::Machine};

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

/// Workspaces are often in a home: systemd hides homes and /tmp from units that do not say otherwise.
#[test]
fn units_see_the_directory_that_they_are_for() {
    let folder = support::temp_dir();
    let link = folder.path().join("link").display().to_string();
    std::os::unix::fs::symlink("/root", &link).unwrap();
    let in_tmp = ["/tmp/", "/var/tmp/"].iter().any(|folder| link.starts_with(folder));
    for name in ["systemd-service", "systemd-rotate-service", "controller-service"] {
        for (dir, home, tmp) in [
            ("/etc/kubernetes", "yes", "yes"),
            ("/home/ops/prod", "read-only", "yes"),
            ("/root/prod", "read-only", "yes"),
            ("/run/user/1000/prod", "read-only", "yes"),
            ("/rootless", "yes", "yes"),
            ("/var/tmp/prod", "yes", "no"),
            (&link, "read-only", if in_tmp { "no" } else { "yes" }),
        ] {
            let unit = template(dir, name);
            let said = format!("{dir} {name}: {unit}");
            assert!(unit.contains(&format!("\nProtectHome={home}\n")), "{said}");
            assert!(unit.contains(&format!("\nPrivateTmp={tmp}\n")), "{said}");
        }
    }
}

#[test]
fn no_crontab_holds_both_kinds_of_quotes() {
    for (dir, code) in [("/srv/a'b", 0), ("/srv/a\"b", 0), ("/srv/a'b\"c", 64)] {
        for name in ["cron", "cron-rotate"] {
            let mut command = support::certkit();
            support::run_to_exit(command.args(["--dir", dir, "template", name]), code);
        }
    }
}

/// The program that a unit starts must know the command: this build may not, so the unit is held against systemd alone.
#[test]
fn systemd_accepts_the_controllers_unit() {
    if support::optional("systemd-analyze").is_none() {
        return;
    }
    for dir in ["/etc/kubernetes", HOSTILE] {
        let unit = template(dir, "controller-service");
        let unit = unit.replace("/usr/local/bin/certkit", env!("CARGO_BIN_EXE_certkit"));
        let sound = [("certkit-controller.service".to_owned(), unit)];
        assert_eq!(verified(&sound), "", "{dir}");
        for (right, wrong) in
            [("Restart=always", "Restart=ever"), ("CERTKIT_DIR=", "CERTKIT_DIR=%Z")]
        {
            let mut units = sound.clone();
            units[0].1 = units[0].1.replacen(right, wrong, 1);
            assert_ne!(units, sound, "{right}");
            assert_ne!(verified(&units), "", "{wrong}");
        }
    }
}

#[test]
fn ansible_reads_the_playbook_and_finds_faults_in_a_wrong_one() {
    if support::need("ansible-playbook").is_none() {
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
    for (name, objects) in [
        ("cronjob", 1),
        ("daemonset", 1),
        ("rbac", 3),
        ("controller", 8),
        ("controller-static-pod", 1),
        ("controller-trust", 4),
        ("controller-watch", 2),
        ("controller-watch-pods", 2),
        ("controller-watch-secrets", 2),
        ("controller-signing", 2),
    ] {
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

/// RBAC knows what may be changed by name: each object that can be published in is named, in both kinds.
#[test]
fn the_roles_of_what_is_published_name_every_ca() {
    let text = template("/etc/kubernetes", "controller-trust");
    for spec in certkit::ops::trust::published() {
        let line = format!("      - certkit-{}\n", spec.id.name());
        assert_eq!(text.matches(&line).count(), 2, "{line}");
    }
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
      - {series: 'certkit_certificate_not_after_timestamp_seconds{name="team/web tls.crt", host="prod", subject="CN=web", path="/api/v1/namespaces/team/secrets/web", secret="web"}', values: '7200x100'}
      - {series: 'certkit_watch_fault{resource="secrets", instance="cp2"}', values: '1x100'}
      - {series: 'certkit_watch_fault{resource="configmaps", instance="cp2"}', values: '0x100'}
      - {series: 'certkit_trust_copy_fault{authority="ca", fault="lacks", object="b"}', values: '1x100'}
      - {series: 'certkit_trust_copy_fault{authority="ca", fault="not-updated", object_kind="Pod", object_namespace="team", object="web-1", container="web", how="subPath", key="ConfigMap certkit-ca ca.crt"}', values: '1x100'}
      - {series: 'certkit_trust_fault{authority="ca", object_kind="ConfigMap"}', values: '1x100'}
      - {series: 'certkit_trust_fault{authority="etcd-ca", object_kind="ConfigMap"}', values: '0x100'}
    promql_expr_test:
      - expr: count by (alertname, name) (ALERTS{alertstate="firing"})
        eval_time: 60h
        exp_samples:
          - {labels: '{alertname="CertificateExpired", name="apiserver"}', value: 1}
          - {labels: '{alertname="CertificateExpired", name="team/web tls.crt"}', value: 1}
          - {labels: '{alertname="CertificateWatchFault"}', value: 1}
          - {labels: '{alertname="CertificateTrustBehind"}', value: 1}
          - {labels: '{alertname="CertificateTrustNotUpdated"}', value: 1}
          - {labels: '{alertname="CertificateTrustUnpublished"}', value: 1}
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
          - {labels: 'ALERTS{alertname="CertificateWatchFault", alertstate="pending", instance="cp2", resource="secrets", severity="warning"}', value: 1}
          - {labels: 'ALERTS{alertname="CertificateTrustBehind", alertstate="pending", authority="ca", fault="lacks", object="b", severity="warning"}', value: 1}
          - {labels: 'ALERTS{alertname="CertificateTrustNotUpdated", alertstate="pending", authority="ca", fault="not-updated", object_kind="Pod", object_namespace="team", object="web-1", container="web", how="subPath", key="ConfigMap certkit-ca ca.crt", severity="warning"}', value: 1}
          - {labels: 'ALERTS{alertname="CertificateTrustUnpublished", alertstate="pending", authority="ca", object_kind="ConfigMap", severity="warning"}', value: 1}
    alert_rule_test:
      - alertname: CertificateExpired
        eval_time: 2h
        exp_alerts:
          - exp_labels: {severity: critical, name: apiserver, host: cp1, subject: CN=kube-apiserver, path: pki/apiserver.crt}
            exp_annotations:
              summary: "Certificate apiserver on cp1 has expired"
              description: "CN=kube-apiserver at pki/apiserver.crt expired 1970-01-01 02:00:00 +0000 UTC. Renew it: certkit rotate apiserver"
          - exp_labels: {severity: critical, name: team/web tls.crt, host: prod, subject: CN=web, path: /api/v1/namespaces/team/secrets/web, secret: web}
            exp_annotations:
              summary: "Certificate team/web tls.crt on prod has expired"
              description: "CN=web at /api/v1/namespaces/team/secrets/web expired 1970-01-01 02:00:00 +0000 UTC. Renew it where it comes from: team/web tls.crt in prod"
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

/// What a real check writes, on a clock that promtool has, too: it begins in 1970.
fn textfile(folder: &Path) -> String {
    let dir = folder.join("pki");
    let at = |time: &str, words: &[&str]| {
        let mut command = Command::new("faketime");
        command.args(["-f", time]).arg(certkit().get_program()).args(words).arg("--dir").arg(&dir);
        command.env("TZ", "UTC").output().unwrap()
    };
    let config = folder.join("cluster.yaml");
    let cluster = "apiVersion: certkit/v1\nkind: Cluster\nname: demo\nendpoint: 10.0.0.11:6443\ncontrolPlane:\n  - \
                   {name: cp1, addresses: [10.0.0.11]}\noverrides:\n  apiserver: {validity: 3d}\n  admin.conf: \
                   {validity: 10d}\n  scheduler.conf: {validity: 20d}\n";
    fs::write(&config, cluster).unwrap();
    let made = at("@1970-02-01 00:00:00", &["init", "-q", "--config", config.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    fs::remove_file(dir.join("pki/etcd/peer.crt")).unwrap();
    fs::write(dir.join("pki/scheduler.crt"), "nothing").unwrap();
    let file = folder.join("certkit.prom");
    let words =
        ["check-expiration", "--warn", "15d", "--critical", "5d", "--machine", "cp1", "--textfile"];
    let file_name = file.to_str().unwrap();
    let checked = at("@1970-02-02 00:00:00", &[&words[..], &[file_name]].concat());
    assert_eq!(checked.status.code(), Some(3), "{checked:?}");
    fs::read_to_string(file).unwrap()
}

/// The alerts and every query of the dashboard, over what a real check wrote.
#[test]
fn promtool_runs_the_rules_and_the_dashboards_queries_over_a_real_check() {
    let (Some(_), Some(_)) = (support::need("promtool"), support::need("faketime")) else { return };
    let folder = support::temp_dir();
    let text = textfile(folder.path());
    let series: Vec<(&str, f64)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series, value.parse().unwrap()))
        .collect();
    let of = |metric: &str| {
        let found = series.iter().filter(|(name, _)| {
            name.strip_prefix(metric)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) || rest.is_empty())
        });
        let found = found.map(|(name, value)| (name.strip_prefix(metric).unwrap(), *value));
        found.collect::<Vec<_>>()
    };
    let status = of("certkit_certificate_status");
    let with = |status_code: f64| status.iter().filter(|(_, value)| *value == status_code).count();
    assert!(with(0.0) > 5 && with(1.0) == 1 && with(2.0) == 2 && with(3.0) == 1, "{text}");
    // Four days after the certificates were made, in seconds: one has expired.
    let (hour, eval) = (3_600.0, 35 * 24);
    let now = f64::from(eval) * hour;
    let ends = of("certkit_certificate_not_after_timestamp_seconds");
    let left: Vec<(&str, f64)> = ends.iter().map(|(labels, end)| (*labels, end - now)).collect();
    let expired = left.iter().filter(|(_, left)| *left <= 0.0).count();
    assert_eq!(expired, 1, "{left:?}");
    let mut shortest = left.clone();
    shortest.sort_by(|a, b| a.1.total_cmp(&b.1));
    let checked = of("certkit_check_timestamp_seconds")[0].1;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    // A label without a value is none.
    let samples = |all: &[(&str, f64)]| -> String {
        all.iter().fold(String::new(), |text, (labels, value)| {
            text + &format!(
                "          - {{labels: {}, value: {value}}}\n",
                quoted(&labels.replace("ca=\"\",", ""))
            )
        })
    };
    let one = |value: f64| samples(&[("{}", value)]);
    let dashboard: serde_json::Value =
        serde_json::from_str(&template("/etc/kubernetes", "grafana-dashboard")).unwrap();
    let mut asked = String::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let wanted = match panel["title"].as_str().unwrap() {
            "Critical or expired" => one(2.0),
            "Warning" => one(1.0),
            "Unknown" => one(1.0),
            "Oldest check" => one(now - checked),
            // Which of those that end together are among the ten is Prometheus' choice.
            "Time left, the ten shortest" => one(shortest[..10].iter().map(|(_, left)| left).sum()),
            "Certificates" => samples(&left),
            other => panic!("nobody knows what `{other}` is to show"),
        };
        let query = panel["targets"][0]["expr"].as_str().unwrap().replace("$host", ".*");
        let query = match query.starts_with("bottomk") {
            true => format!("sum({query})"),
            false => query,
        };
        asked += &format!(
            "      - expr: {}\n        eval_time: {eval}h\n        exp_samples:\n{wanted}",
            quoted(&query)
        );
    }
    let firing = [
        ("CertificateCheckStale", 1),
        ("CertificateCritical", 2),
        ("CertificateExpired", 1),
        ("CertificateExpiresSoon", 1),
        ("CertificateUnknown", 1),
    ];
    asked += &format!(
        "      - expr: count by (alertname) (ALERTS{{alertstate=\"firing\"}})\n        eval_time: {eval}h\n        exp_samples:\n{}",
        firing
            .map(|(name, n)| format!(
                "          - {{labels: '{{alertname=\"{name}\"}}', value: {n}}}\n"
            ))
            .concat()
    );
    let input: String = series.iter().fold(String::new(), |text, (name, value)| {
        text + &format!("      - {{series: {}, values: '{value}x1000'}}\n", quoted(name))
    });
    let tests = format!(
        "rule_files: [rules.yaml]\nevaluation_interval: 1h\ntests:\n  - interval: 1h\n    input_series:\n{input}    \
         promql_expr_test:\n{asked}"
    );
    fs::write(folder.path().join("rules.yaml"), template("/etc/kubernetes", "prometheus-rules"))
        .unwrap();
    fs::write(folder.path().join("tests.yaml"), &tests).unwrap();
    let promtool = |file: &str| {
        let mut command = Command::new("promtool");
        command.args(["test", "rules", file]).current_dir(folder.path()).output().unwrap()
    };
    let out = promtool("tests.yaml");
    assert!(
        out.status.success(),
        "{}\n{tests}",
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat())
    );
    // It sees another number than there is.
    fs::write(folder.path().join("wrong.yaml"), tests.replace("value: 2}", "value: 7}")).unwrap();
    assert!(!promtool("wrong.yaml").status.success());
}

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
    for name in ["cron", "cron-rotate"] {
        let text = template("/srv/a b", name);
        assert!(text.contains("\nCERTKIT_DIR=\"/srv/a b\"\n"), "{text}");
        let job = text.lines().last().unwrap();
        // cron takes an unescaped % for a line end.
        assert!(!job.contains('%'), "{job}");
        let fields: Vec<&str> = job.split_whitespace().take(7).collect();
        assert_eq!(fields[5..], ["root", "certkit"]);
    }
    support::run_to_exit(support::certkit().args(["--dir", "/a\nb", "template", "cron"]), 64);
}

/// On a machine without node_exporter and on one with it, what cron and the timer run is run as they run it.
#[test]
fn the_stock_lines_work_where_node_exporters_folder_is_missing_and_where_it_is_not() {
    let Some(machine) = Machine::boot(&[("cp1", "10.0.0.11")]) else { return };
    let sh = |script: &str| {
        let program = certkit().get_program().to_owned();
        let path = Path::new(&program).parent().unwrap().display().to_string();
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
        let out = machine.enter(&command).output().unwrap();
        let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        (out.status.code(), said)
    };
    let metrics = machine.lib().join("node_exporter/textfile_collector/certkit.prom");
    let init = "certkit init -q --name demo --host cp1=10.0.0.11 && mkdir -p /var/lib/kubelet/pki";
    assert_eq!(sh(init), (Some(0), String::new()));
    // As /bin/sh is given the lines by cron: settings, then the command behind the six fields.
    let cron = |name: &str| {
        let text = template("/etc/kubernetes", name);
        let lines =
            text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("PATH="));
        let (jobs, settings): (Vec<&str>, Vec<&str>) = lines.partition(|l| l.contains("certkit "));
        let job = jobs[0].split_once("root  ").unwrap().1;
        sh(&format!("export {}; {job}", settings.join(" ")))
    };
    assert_eq!(cron("cron"), (Some(0), String::new()));
    assert!(!metrics.exists());
    fs::create_dir_all(metrics.parent().unwrap()).unwrap();
    assert_eq!(cron("cron"), (Some(0), String::new()));
    assert!(fs::read_to_string(&metrics).unwrap().contains("certkit_check_timestamp_seconds"));
    // Nothing is due; then everything is.
    assert_eq!(cron("cron-rotate"), (Some(0), String::new()));
    // The unit makes the folder itself.
    fs::remove_dir_all(machine.lib().join("node_exporter")).unwrap();
    let unit = template("/etc/kubernetes", "systemd-service");
    let run = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let line = line.trim_start_matches('+').replace("/usr/local/bin/certkit", "certkit");
        sh(&format!("export CERTKIT_DIR=/etc/kubernetes; {line}"))
    };
    assert_eq!(run("ExecStartPre="), (Some(0), String::new()));
    let (code, said) = run("ExecStart=");
    assert_eq!(code, Some(0), "{said}");
    assert!(metrics.exists());
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
