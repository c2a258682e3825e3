//! `certkit fleet check`: many clusters in one report, each judged as `check-expiration` judges it, the worst first.

mod support;

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use support::{certkit, need, run, run_to_exit, temp_dir};

fn init(folder: &Path, name: &str, validity: &str, hosts: &[&str]) {
    let mut command = certkit();
    command.args(["init", "-q", "--name", name, "--endpoint", "api:6443", "--validity", validity]);
    for host in hosts {
        command.args(["--host", host]);
    }
    run(command.arg("--dir").arg(folder.join(name)));
}

fn fleet(folder: &Path, dirs: &[&str], more: &[&str], code: i32) -> Output {
    let mut command = certkit();
    command.args(["fleet", "check"]).args(more).args(dirs).current_dir(folder);
    run_to_exit(&mut command, code)
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json(folder: &Path, dirs: &[&str], more: &[&str], code: i32) -> Value {
    let output = fleet(folder, dirs, &[&["-o", "json"], more].concat(), code);
    let value: Value = serde_json::from_str(&text(&output)).expect("JSON");
    assert_eq!(value["summary"]["exitCode"], code);
    value
}

const ALL: &[&str] = &["good", "short", "many", "worse"];

fn clusters(folder: &Path) {
    init(folder, "good", "1y", &["a=10.0.0.1"]);
    init(folder, "short", "20d", &["a=10.0.0.1"]);
    init(folder, "worse", "3d", &["a=10.0.0.1"]);
    init(folder, "many", "2y", &["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3"]);
}

#[test]
fn the_worst_cluster_comes_first_and_decides() {
    let folder = temp_dir();
    let folder = folder.path();
    clusters(folder);
    let names = |value: &Value| -> Vec<String> {
        let all = value["clusters"].as_array().expect("clusters").iter();
        all.map(|c| c["name"].as_str().unwrap_or("?").to_owned()).collect()
    };
    let value = json(folder, ALL, &[], 2);
    assert_eq!(names(&value), ["worse", "short", "good", "many"], "then what ends first");
    assert_eq!(value["summary"]["critical"], 1);
    assert_eq!(value["summary"]["warning"], 1);
    assert_eq!(value["summary"]["ok"], 2);
    json(folder, &["good", "many"], &[], 0);
    json(folder, &["good", "short"], &[], 1);
    let late = json(folder, &["good", "many"], &["--at", "2099-01-01T00:00:00Z"], 2);
    assert_eq!(late["clusters"][0]["worst"]["status"], "expired");
    json(folder, &["good"], &["--warn", "99%"], 0);
    json(folder, &["good"], &["--warn", "2y", "--critical", "1d"], 1);
    // What cannot be known is worst of all, and holds up no other.
    fs::create_dir(folder.join("empty")).unwrap();
    fs::write(folder.join("file"), "x").unwrap();
    init(folder, "broken", "1y", &["a=10.0.0.1"]);
    fs::write(folder.join("broken/certkit.yaml"), "kind: [").unwrap();
    let all = [ALL, &["empty", "file", "nowhere", "broken"]].concat();
    let value = json(folder, &all, &[], 3);
    assert_eq!(value["summary"]["unknown"], 4);
    let first: Vec<&Value> = value["clusters"].as_array().unwrap()[..4].iter().collect();
    for (cluster, dir) in first.iter().zip(["empty", "file", "nowhere", "broken"]) {
        assert_eq!(cluster["level"], "unknown");
        assert!(cluster["directory"].as_str().unwrap().ends_with(dir), "{cluster}");
        assert!(!cluster["worst"]["reason"].is_null(), "{cluster}");
    }
    let table = text(&fleet(folder, &all, &["-o", "wide"], 3));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("STATUS") && lines.len() == 9, "{table}");
    assert!(lines[1..5].iter().all(|line| line.starts_with("UNKNOWN")), "{table}");
    assert!(lines[5].contains("worse"), "{table}");
    let quiet = text(&fleet(folder, ALL, &["-q"], 2));
    assert!(quiet.contains("worse") && quiet.contains("short"), "{quiet}");
    assert!(!quiet.contains("good") && !quiet.contains("many"), "{quiet}");
    assert_eq!(text(&fleet(folder, &["good"], &["-q"], 0)), "");
}

#[test]
fn each_cluster_is_judged_as_by_check_expiration() {
    let folder = temp_dir();
    let folder = folder.path();
    clusters(folder);
    fs::remove_file(folder.join("many/hosts/b/pki/kubelet.crt")).unwrap();
    fs::write(folder.join("many/hosts/c/pki/kubelet.crt"), "broken").unwrap();
    let value = json(folder, ALL, &[], 3);
    for cluster in value["clusters"].as_array().unwrap() {
        let mut command = certkit();
        command.args(["check-expiration", "-o", "json", "--dir"]);
        command.arg(cluster["directory"].as_str().unwrap());
        let output = command.output().expect("certkit");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let levels = ["ok", "warning", "critical", "unknown"];
        let code = usize::try_from(output.status.code().unwrap()).unwrap();
        assert_eq!(cluster["level"], levels[code]);
        let rows: Vec<&Value> = ["certificates", "certificateAuthorities"]
            .iter()
            .flat_map(|list| report[list].as_array().unwrap())
            .collect();
        let worst = &cluster["worst"];
        let same = |row: &&&Value| row["name"] == worst["name"] && row["host"] == worst["host"];
        let row = rows.iter().find(same).unwrap_or_else(|| panic!("{worst}"));
        assert_eq!(row["status"], worst["status"]);
        assert_eq!(row["expirationDate"], worst["expirationDate"]);
        let counts = levels.iter().map(|level| cluster["certificates"][level].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), rows.len() as u64);
    }
}

#[test]
fn metrics_are_what_promtool_takes() {
    let Some(promtool) = need("promtool") else { return };
    let folder = temp_dir();
    let folder = folder.path();
    clusters(folder);
    let strange = folder.join("a \"strange\"\nname");
    fs::create_dir(&strange).unwrap();
    let dirs = [ALL, &["good", strange.to_str().unwrap()]].concat();
    let metrics = text(&fleet(folder, &dirs, &["-o", "prometheus"], 3));
    let file = folder.join("metrics");
    fs::write(&file, &metrics).unwrap();
    let mut check = std::process::Command::new(promtool);
    run(check.args(["check", "metrics"]).stdin(fs::File::open(&file).unwrap()));
    assert!(metrics.contains("certkit_cluster_status{cluster=\"worse\""), "{metrics}");
    assert_eq!(metrics.matches("certkit_cluster_status{").count(), 5, "{metrics}");
}

#[test]
fn a_wrong_line_is_refused() {
    let folder = temp_dir();
    for (more, said) in [
        (&[][..], "DIRECTORY"),
        (&[""], "a value is required"),
        (&["--warn", "1d", "--critical", "2d", "x"], "certkit fleet check --warn 2d --critical 1d"),
        (&["-o", "nagios", "x"], "possible values"),
    ] {
        let output = fleet(folder.path(), &[], more, 64);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(said), "{more:?}: {told}");
    }
}
