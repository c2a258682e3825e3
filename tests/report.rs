//! The page of `certkit report`, as a browser shows it.

mod support;

use std::{fs, path::Path, process::Command};

use support::{certkit, need, run, run_to_exit, temp_dir};

/// A directory whose name HTML gives a meaning.
const HOSTILE: &str = r#"a<script>alert(1)</script>&"b'"#;

fn page(dir: &Path, more: &[&str]) -> String {
    support::stdout(certkit().arg("report").args(more).arg("--dir").arg(dir))
}

/// What people ask for by their system's settings.
#[derive(Clone, Copy, Debug)]
enum Scheme {
    Dark,
    Light,
}

/// What a browser makes of a page: the document once its scripts ran, and what it complained of.
fn browsed(chromium: &Path, page: &Path, scheme: Scheme) -> (String, String) {
    let profile = temp_dir();
    let mut browser = Command::new(chromium);
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    browser.args(["--enable-logging=stderr", "--dump-dom", "--virtual-time-budget=20000"]);
    browser.arg(match scheme {
        Scheme::Dark => "--blink-settings=preferredColorScheme=0",
        Scheme::Light => "--blink-settings=preferredColorScheme=1",
    });
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    let output =
        browser.arg(format!("file://{}", page.display())).output().expect("chromium starts");
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    let said = text(output.stderr);
    let console = said.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>();
    (text(output.stdout), console.join("\n"))
}

/// The page with a script of the test's own at its end, which it would not run as it is. What the script hands to `tell` comes
/// back, as JSON.
fn examined(chromium: &Path, page: &str, script: &str, scheme: Scheme) -> serde_json::Value {
    let folder = temp_dir();
    let file = folder.path().join("page.html");
    let (before, rest) = page.split_once("<meta http-equiv").expect("its policy");
    let (_, after) = rest.split_once('>').expect("the policy's end");
    let tell = "const tell = (what) => { const said = document.createElement('pre'); said.id = 'said'; \
                said.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(what)))); document.body.append(said); };";
    let after = after.replace("</body>", &format!("<script>{tell}</script>{script}</body>"));
    fs::write(&file, before.to_owned() + &after).expect("written");
    let (shown, console) = browsed(chromium, &file, scheme);
    let said = shown.rsplit_once("<pre id=\"said\">").unwrap_or_else(|| panic!("{console}")).1;
    let said = said.split('<').next().expect("its text");
    let mut decode = Command::new("sh");
    let octets = support::stdout(decode.args(["-c", &format!("echo {said} | base64 -d")]));
    serde_json::from_str(&octets).expect("JSON")
}

/// A workspace in which something of each kind is to be told.
fn eventful(folder: &Path) -> std::path::PathBuf {
    let dir = folder.join("prod");
    let certkit = |words: &[&str]| {
        let mut command = certkit();
        command.args(words).arg("--dir").arg(&dir).output().expect("certkit")
    };
    let hosts = ["--host", "cp1=10.0.0.11", "--host", "cp2=10.0.0.12", "--host", "cp3=10.0.0.13"];
    assert!(certkit(&[&["init", "-q", "--name", "prod"][..], &hosts].concat()).status.success());
    certkit(&["nodes", "add", "-q", "w1=10.0.1.1", "w2=10.0.1.2"]);
    certkit(&["rotate-ca", "etcd-ca", "--next", "-q"]);
    certkit(&["kubeconfig", "alice", "--group", "developers,<b>oncall</b>"]);
    certkit(&["deploy", "-q", "--ssh", "false"]);
    fs::remove_file(dir.join("hosts/w1/pki/kubelet.crt")).expect("a certificate");
    let key = dir.join("hosts/cp1/pki/apiserver.key");
    fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("mode");
    fs::write(dir.join("hosts/w2/pki/kubelet.crt"), "nothing").expect("written");
    dir
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

/// The log is whose DIR is, and may hold anything.
#[test]
fn what_the_log_says_of_people_is_shown_only_where_it_can_be_no_secret() {
    let folder = temp_dir();
    let dir = folder.path().join("pki");
    run(certkit().args(["init", "-q", "--host", "cp1=10.0.0.11", "--dir"]).arg(&dir));
    assert!(!page(&dir, &[]).contains("id=\"people\""));
    let key = fs::read_to_string(dir.join("pki/sa.key")).expect("a key");
    let log = dir.join(".certkit/log.jsonl");
    let before = fs::read_to_string(&log).expect("the log");
    let line = |name: &str, until: &str| {
        serde_json::json!({"time": "2026-01-01T00:00:00Z", "command": "kubeconfig", "name": name, "groups": [name],
            "notAfter": until, "fingerprint": name})
    };
    let lines = [
        line(&key, "2099-01-01T00:00:00Z").to_string(),
        line("alice<script>", "2099-01-01T00:00:00Z").to_string(),
        line("bob", "2026-01-02T00:00:00Z").to_string(),
        "no JSON".to_owned(),
    ];
    fs::write(&log, before + &lines.join("\n")).expect("written");
    let text = page(&dir, &[]);
    assert!(text.contains("id=\"people\"") && text.contains("alice&lt;script&gt;"), "{text}");
    assert!(!text.contains("bob") && !text.contains("no JSON"), "{text}");
    for part in key.lines() {
        assert!(!text.contains(part), "{part}");
    }
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
    let (shown, console) = browsed(&chromium, &file, Scheme::Light);
    assert_eq!(console, "");
    // The script makes the headings of tables buttons.
    assert!(shown.contains("<button type=\"button\">Ends</button>"), "{shown}");
    assert!(shown.matches("<tr>").count() > 400, "{}", shown.matches("<tr>").count());
    assert!(shown.contains("<td>w200</td>"));
    // Another script than that of the template is not run.
    let text = fs::read_to_string(&file).expect("written");
    fs::write(&file, text.replace("</main>", "<script>document.title = 'owned'</script></main>"))
        .expect("written");
    let (shown, console) = browsed(&chromium, &file, Scheme::Light);
    assert!(
        !shown.contains("<title>owned</title>") && console.contains("Content Security Policy"),
        "{console}"
    );
}

/// axe-core's rules are those of WCAG 2 and good practice: names, roles, contrast, order of headings, focus.
#[test]
fn everybody_can_use_it_in_light_and_in_dark() {
    let (Some(chromium), Some(axe)) = (need("chromium"), support::need_axe()) else { return };
    let folder = temp_dir();
    let text = page(&eventful(folder.path()), &[]);
    for id in ["timeline", "findings", "authorities", "hosts", "certificates", "people", "paths"] {
        assert!(text.contains(&format!("<h2 id=\"{id}\">")), "{id}");
    }
    assert!(text.contains("alice") && text.contains("&lt;b&gt;oncall"), "{text}");
    let axe = format!("<script src=\"file://{}\"></script>", axe.display());
    let run = "<script>axe.run(document).then((found) => tell({dark: matchMedia('(prefers-color-scheme: dark)').matches, \
               passes: found.passes.map((one) => one.id), violations: found.violations.map((one) => [one.id, one.help, \
               one.nodes.map((node) => node.html)])}));</script>";
    for scheme in [Scheme::Light, Scheme::Dark] {
        let found = examined(&chromium, &text, &(axe.clone() + run), scheme);
        assert_eq!(found["violations"], serde_json::json!([]), "{scheme:?}: {found:#}");
        assert_eq!(found["dark"], matches!(scheme, Scheme::Dark));
        let passes = found["passes"].to_string();
        for rule in
            ["color-contrast", "scrollable-region-focusable", "svg-img-alt", "heading-order"]
        {
            assert!(passes.contains(rule), "{rule}: {passes}");
        }
    }
    // It finds what is wrong.
    let pale = text.replace("--quiet:#57606a", "--quiet:#d0d7de");
    let found = examined(&chromium, &pale, &(axe + run), Scheme::Light);
    assert_eq!(found["violations"][0][0], "color-contrast", "{found:#}");
}

/// The rows of a workspace of 5,000 nodes and more, as many times as many as this one has: how long they take to make is
/// `check-expiration`'s affair.
#[test]
fn ten_thousand_rows_are_filtered_and_sorted_while_one_looks() {
    let Some(chromium) = need("chromium") else { return };
    let folder = temp_dir();
    let text = page(&eventful(folder.path()), &[]);
    let (before, rest) = text.split_once("<table id=\"rows\"").expect("the table");
    let (head, rest) = rest.split_once("<tbody>").expect("rows");
    let (rows, after) = rest.split_once("</tbody>").expect("their end");
    let times = 10_000 / rows.matches("<tr>").count() + 1;
    let rows: String =
        (0..times).map(|n| rows.replace("<td>w2</td>", &format!("<td>w2-{n}</td>"))).collect();
    let large = format!("{before}<table id=\"rows\"{head}<tbody>{rows}</tbody>{after}");
    let script = "<script>addEventListener('load', () => { const body = document.querySelector('#rows tbody'); \
        const filter = document.getElementById('filter'); const timed = (work) => { const start = performance.now(); \
        work(); document.body.offsetHeight; return performance.now() - start; }; const all = body.rows.length; \
        const filtering = timed(() => { filter.value = 'w2-7 UNKNOWN'; filter.dispatchEvent(new Event('input')); }); \
        const seen = [...body.rows].filter((row) => !row.hidden).map((row) => row.cells[1].textContent); \
        const said = document.getElementById('shown').textContent; \
        filter.value = ''; filter.dispatchEvent(new Event('input')); \
        const button = document.querySelectorAll('#rows thead button')[1]; \
        const sorting = timed(() => button.click()); const up = body.rows[all - 1].cells[1].textContent; \
        button.click(); const down = body.rows[0].cells[1].textContent; \
        const sorted = document.querySelector('#rows th[aria-sort]').getAttribute('aria-sort'); \
        tell({all, filtering, sorting, seen, said, up, down, sorted}); });</script>";
    let found = examined(&chromium, &large, script, Scheme::Light);
    let seen = found["seen"].as_array().expect("rows");
    assert!(
        !seen.is_empty()
            && seen.iter().all(|host| host.as_str().is_some_and(|h| h.starts_with("w2-7"))),
        "{seen:?}"
    );
    let all = found["all"].as_u64().expect("a number");
    assert!(all > 10_000, "{all}");
    assert_eq!(found["said"], format!("{} of {all} rows", seen.len()));
    let last = format!("w2-{}", times - 1);
    assert_eq!((&found["up"], &found["down"]), (&last.clone().into(), &last.into()));
    assert_eq!(found["sorted"], "descending");
    for work in ["filtering", "sorting"] {
        let milliseconds = found[work].as_f64().expect("a number");
        assert!(milliseconds < 30_000.0, "{work}: {milliseconds} ms");
    }
}

#[test]
fn a_format_is_not_taken_for_the_name_of_a_file() {
    let folder = temp_dir();
    let mut command = certkit();
    command.args(["report", "-o", "json"]).current_dir(folder.path());
    let output = run_to_exit(&mut command, 64);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("check-expiration -o json") && said.contains("-o ./json"), "{said}");
    assert!(!folder.path().join("json").exists());
}
