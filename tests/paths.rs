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
