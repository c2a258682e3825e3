//! The page of `certkit report`, as a browser shows it.

mod support;

use std::{fs, path::Path, process::Command};

use support::{certkit, need, run, temp_dir};

/// A directory whose name HTML gives a meaning.
const HOSTILE: &str = r#"a<script>alert(1)</script>&"b'"#;

fn page(dir: &Path, more: &[&str]) -> String {
    support::stdout(certkit().arg("report").args(more).arg("--dir").arg(dir))
}

/// What a browser makes of a page: the document once its script ran, and what it complained of.
fn browsed(chromium: &Path, page: &Path) -> (String, String) {
    let profile = temp_dir();
    let mut browser = Command::new(chromium);
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    browser.args(["--enable-logging=stderr", "--dump-dom", "--virtual-time-budget=5000"]);
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    let output =
        browser.arg(format!("file://{}", page.display())).output().expect("chromium starts");
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    let said = text(output.stderr);
    let console = said.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>();
    (text(output.stdout), console.join("\n"))
}

#[test]
fn the_page_needs_nothing_but_itself_and_says_what_there_is() {
    let folder = temp_dir();
    let dir = folder.path().join(HOSTILE.replace('/', ":"));
    run(certkit()
        .args(["init", "-q", "--name", "prod", "--host", "cp1=10.0.0.11", "--dir"])
        .arg(&dir));
    let text = page(&dir, &[]);
    for outside in ["http://", "https://", " src=", "url(", "@import", "<link"] {
        assert!(!text.contains(outside), "{outside}");
    }
    assert_eq!(text.matches("<script").count(), 1);
    assert!(text.contains("&lt;script&gt;alert(1)"), "{text}");
    for told in [
        "Certificates of prod",
        "apiserver-kubelet-client",
        "front-proxy-ca",
        "kube-apiserver",
        "stable",
    ] {
        assert!(text.contains(told), "{told}");
    }
    // What is over is told as critical, and what to do is a command.
    let late = page(&dir, &["--at", "2099-01-01T00:00:00Z"]);
    assert!(late.contains("is-critical\">expired") && late.contains("certkit "), "{late}");
    // To a file, whole and nothing else.
    let file = folder.path().join("report.html");
    run(certkit().args(["report", "-o"]).arg(&file).arg("--dir").arg(&dir));
    assert!(fs::read_to_string(&file).expect("written").ends_with("</html>\n"));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
}

#[test]
fn a_browser_runs_its_script_and_no_other() {
    let Some(chromium) = need("chromium") else { return };
    let folder = temp_dir();
    let dir = folder.path().join(HOSTILE.replace('/', ":"));
    let init = ["init", "-q", "--workspace", "--host", "cp1=10.0.0.11", "--dir"];
    run(certkit().args(init).arg(&dir));
    let nodes: Vec<String> = (1..=200).map(|n| format!("w{n}=10.0.1.{n}")).collect();
    run(certkit().args(["nodes", "add"]).args(&nodes).arg("--dir").arg(&dir));
    let file = folder.path().join("report.html");
    run(certkit().args(["report", "-o"]).arg(&file).arg("--dir").arg(&dir));
    let (shown, console) = browsed(&chromium, &file);
    assert_eq!(console, "");
    // The script makes the headings of tables buttons.
    assert!(shown.contains("<button type=\"button\">Ends</button>"), "{shown}");
    assert!(shown.matches("<tr>").count() > 400, "{}", shown.matches("<tr>").count());
    assert!(shown.contains("<td>w200</td>"));
    // Another script than that of the template is not run.
    let text = fs::read_to_string(&file).expect("written");
    fs::write(&file, text.replace("</main>", "<script>document.title = 'owned'</script></main>"))
        .expect("written");
    let (shown, console) = browsed(&chromium, &file);
    assert!(
        !shown.contains("<title>owned</title>") && console.contains("Content Security Policy"),
        "{console}"
    );
}
