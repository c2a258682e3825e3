//! Rotating all of one host as a whole process, beside the raw crypto of the same certificates and the same
//! durable writes: the new files and the copies of the old ones.

mod support;

use std::{fs, path::Path, process::Command};

fn main() {
    let folder = tempfile::Builder::new().prefix("certkit-bench-").tempdir().expect("a folder");
    let dir = folder.path().join("pki");
    let certkit = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_certkit"))
            .args(arguments)
            .arg("--dir")
            .arg(&dir)
            .output()
            .expect("certkit starts");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    certkit(&["init", "--quiet", "--name", "bench", "--host", "cp1=10.0.0.11"]);
    // What one rotation writes, and with which keys, as it says itself.
    let report: serde_json::Value =
        serde_json::from_slice(&certkit(&["rotate", "--all", "-o", "json"])).expect("JSON");
    let steps = report["steps"].as_array().expect("steps");
    let certificates = steps.len();
    let keys = steps.iter().filter(|step| step["key"] == "new").count();
    let backup = Path::new(report["backup"].as_str().expect("a backup"));
    let mut contents = Vec::new();
    for step in steps {
        for file in step["files"].as_array().expect("files") {
            let file = file.as_str().expect("a path");
            // A key that stayed is neither written nor copied.
            if let Ok(old) = fs::read(backup.join("files").join(file)) {
                contents.push(old);
                contents.push(fs::read(dir.join(file)).expect("a file"));
            }
        }
    }
    let rotate =
        support::median(15, || _ = certkit(&["rotate", "--all", "--quiet", "--backups", "100"]));
    let prune =
        support::median(15, || _ = certkit(&["rotate", "--all", "--quiet", "--backups", "1"]));
    let idle = support::median(15, || _ = certkit(&["rotate", "--quiet"]));
    let start = support::start();
    let crypto = support::raw_crypto(keys, certificates);
    let mut round = 0;
    let writes = support::median(15, || {
        round += 1;
        support::durable(&folder.path().join(format!("writes-{round}")), &contents);
    });
    support::note(&format!(
        "rotate of one host: {certificates} certificates, {keys} new keys, {} files and as many copies\n",
        contents.len() / 2
    ));
    support::line("certkit rotate --all, whole process", rotate);
    support::line("  the same and an old backup pruned", prune);
    support::line("  with nothing due", idle);
    support::line("  of which starting a process", start);
    support::line("raw ring: the same keys and signatures", crypto);
    support::line("the same files written, synced, renamed, folder synced", writes);
    support::note("");
    let ratio = rotate.as_secs_f64() / (crypto + writes).as_secs_f64();
    support::ratio("rotate / (raw crypto + durable writes)", ratio, 3.0, true);
    let share = rotate.saturating_sub(writes).as_secs_f64() / crypto.as_secs_f64();
    support::note(&format!("{:<58} {share:>10.2} x", "(rotate - durable writes) / raw crypto"));
    support::end("rotate", "rotate");
}
