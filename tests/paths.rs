//! `paths` in every format.

mod support;

use certkit::model::catalogue::PATHS;

#[test]
fn every_format_has_every_path_of_the_declared_cluster() {
    let folder = support::temp_dir();
    let dir = folder.path().join("pki");
    let init = [
        "init",
        "-q",
        "--name",
        "a<b>",
        "--host",
        "cp1=10.0.0.11",
        "--endpoint",
        "api.example.com:7443",
    ];
    support::run(support::certkit().args(init).arg("--dir").arg(&dir));
    let paths = |format: &str, dir: &std::path::Path| {
        support::stdout(support::certkit().args(["paths", "--format", format, "--dir"]).arg(dir))
    };
    let json: serde_json::Value = serde_json::from_str(&paths("json", &dir)).unwrap();
    let items = json["items"].as_array().unwrap();
    assert!(items.len() < PATHS.len() && items.len() > 15);
    let admin = &items[0];
    assert_eq!((&admin["port"], &admin["names"][0]), (&"7443".into(), &"api.example.com".into()));
    assert_eq!(admin["serverTrusts"]["file"], "pki/ca-bundle.crt");
    let table = paths("table", &dir);
    let html = paths("html", &dir);
    let mermaid = paths("mermaid", &dir);
    let dot = paths("dot", &dir);
    assert!(html.contains("a&lt;b&gt;") && !html.contains("a<b>"));
    assert_eq!(html.matches("<tr id=").count(), items.len());
    assert_eq!(mermaid.matches("-->|").count() + mermaid.matches("-.->|").count(), items.len());
    assert_eq!(dot.matches(" -> ").count(), items.len());
    assert!(table.contains("remedy:") && table.contains("--kubelet-certificate-authority"));
    // Without a declaration: every cluster's.
    let any = folder.path().join("none");
    let json: serde_json::Value = serde_json::from_str(&paths("json", &any)).unwrap();
    assert_eq!(json["items"].as_array().unwrap().len(), PATHS.len());
    if let Some(graphviz) = support::optional("dot") {
        let file = folder.path().join("paths.dot");
        std::fs::write(&file, dot).unwrap();
        support::run(std::process::Command::new(graphviz).arg("-Tsvg").arg(&file));
    }
}

#[test]
fn paths_and_flags_say_the_same_of_every_setting() {
    let folder = support::temp_dir();
    let addons = ["--addon=konnectivity", "--addon=kube-proxy", "--addon=istio"];
    let absent =
        "absent: [ca-bundle, etcd-ca-bundle, front-proxy-ca-bundle, scheduler-config.yaml]\n";
    for (n, (more, declared)) in [
        (&addons[..], ""),
        (&["--single-root"], ""),
        (&["--kubeconfig-style=embedded"], ""),
        (&[], absent),
        (&["--host=cp2=10.0.0.12"], ""),
        (
            &["--single-root", "--addon=konnectivity"],
            "etcd: [{name: e1, addresses: [10.0.0.20]}]\n",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = folder.path().join(n.to_string());
        let init = || {
            let mut command = support::certkit();
            command.args(["init", "-q", "--dir"]).arg(&dir);
            command
        };
        let host = ["--host=cp1=10.0.0.11", "--host-dir=/HOST"];
        support::run(init().args(host).args(more).arg("--dry-run"));
        support::run(init().args(host).args(more));
        if !declared.is_empty() {
            let file = dir.join("certkit.yaml");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text + declared).unwrap();
        }
        let print = |more: &[&str]| -> serde_json::Value {
            let text = support::stdout(support::certkit().args(more).arg("--dir").arg(&dir));
            serde_json::from_str(&text).unwrap()
        };
        let flags = |host: &str| print(&["flags", "--host", host, "--format", "json"]);
        let mut all = flags("cp1")["settings"].as_array().unwrap().clone();
        if declared.starts_with("etcd:") {
            all.extend(flags("e1")["settings"].as_array().unwrap().clone());
        }
        let mut compared = 0;
        for talk in print(&["paths", "--format", "json"])["items"].as_array().unwrap() {
            for told in talk["settings"].as_array().unwrap() {
                let setting = told["setting"].as_str().unwrap();
                let flag = setting.strip_prefix("--");
                let is = |row: &&serde_json::Value| {
                    let field = row["field"].as_str().map(|field| field.replace("\\.", "."));
                    row["component"] == told["component"]
                        && match flag {
                            Some(flag) => row["flag"] == flag,
                            None => field.as_deref() == Some(setting),
                        }
                };
                let row = all.iter().find(is);
                let row = row.unwrap_or_else(|| panic!("{n}: nothing is told {told}"));
                let value = row["value"].as_str().unwrap();
                let value = value.strip_prefix("/HOST/").unwrap_or(value);
                // What the operator runs has its files in DIR.
                let own = format!("{}/", dir.display());
                assert_eq!(told["value"], value.strip_prefix(&own).unwrap_or(value), "{n}: {told}");
                compared += 1;
            }
            let trusts = &talk["serverTrusts"]["file"];
            assert!(declared != absent || trusts.as_str().is_none_or(|f| !f.contains("bundle")));
        }
        assert!(compared > 25, "{compared}");
    }
}
