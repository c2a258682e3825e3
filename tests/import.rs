//! `certkit import` takes in nothing that `certkit verify` would then find wrong.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use support::{
    certkit,
    many::{self, declare, kill_among_parts},
    need, openssl, run, run_to_exit, stdout, temp_dir, temp_dir_in_memory, tree,
};

#[test]
fn what_verify_would_condemn_is_not_taken_in() {
    let Some(_) = need("openssl") else { return };
    let folder = temp_dir();
    let dir = folder.path().join("d");
    run(certkit().args(["init", "--host", "cp1=127.0.0.1", "--dir"]).arg(&dir));
    run(certkit().args(["rotate", "apiserver", "scheduler", "--csr-only", "--dir"]).arg(&dir));
    let signed = folder.path().join("signed.crt");
    let faults: [(&str, &str, &[&str], &str); 4] = [
        ("scheduler", "a term longer than its CA's", &["-days", "30000"], "valid until"),
        ("apiserver", "a negative number", &["-days", "30", "-set_serial", "-5"], "negative"),
        ("apiserver", "the number of another", &["-days", "30"], "serial number"),
        ("scheduler", "SHA-1", &["-days", "30", "-sha1"], "algorithm"),
    ];
    for (name, what, arguments, said) in faults {
        let mut arguments = arguments.to_vec();
        let taken = serial(&dir.join("pki/apiserver-kubelet-client.crt"));
        if what.contains("another") {
            arguments.extend(["-set_serial", &taken]);
        }
        sign(&dir, name, &signed, &arguments);
        let before = tree::snapshot(&dir);
        for dry in [&["--dry-run"][..], &[]] {
            let mut command = certkit();
            let output =
                run_to_exit(command.args(["import", "--dir"]).arg(&dir).args(dry).arg(&signed), 3);
            let stderr = String::from_utf8_lossy(&output.stderr).to_lowercase();
            assert!(stderr.contains(said), "{what}: {stderr}");
        }
        let changed = tree::difference(&before, &tree::snapshot(&dir));
        assert!(changed.is_empty(), "{what}: {changed:?}");
    }
    let nothing = folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    fs::write(nothing.join("README"), "no certificate").unwrap();
    let refused = run_to_exit(certkit().args(["import", "--dir"]).arg(&dir).arg(&nothing), 3);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("nothing: holds no file (.crt, .pem, .cer)"), "{told}");
    // What is as it must be still is, and verify agrees.
    for name in ["apiserver", "scheduler"] {
        sign(&dir, name, &signed, &["-days", "30"]);
        run(certkit().args(["import", "--dir"]).arg(&dir).arg(&signed));
    }
    run(certkit().args(["verify", "--dir"]).arg(&dir));
    assert!(fs::read_dir(dir.join("csr")).map_or(0, Iterator::count) == 0);
}

/// More than two parts.
const NODES: usize = 2 * many::NODES;

#[test]
fn what_many_nodes_asked_for_is_taken_in_part_by_part_and_gone_on_with() {
    let Some(_) = need("openssl") else { return };
    let folder = temp_dir_in_memory();
    let dir = folder.path().join("d");
    declare(&dir, NODES);
    run(certkit().args(["init", "-q", "--dir"]).arg(&dir));
    let names = ["rotate", "apiserver", "kubelet", "kubelet.conf"];
    run(certkit().args(names).args(["--csr-only", "-q", "--dir"]).arg(&dir));
    let requests: Vec<PathBuf> = tree::files(&dir.join("csr"))
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "csr"))
        .collect();
    // Those of the control plane's host, too.
    assert_eq!(requests.len(), 2 * (NODES + 1) + 1);
    let signed = folder.path().join("signed");
    fs::create_dir(&signed).unwrap();
    fs::write(signed.join("README"), "no certificate").unwrap();
    let mut files = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let name = request.with_extension("");
        let folder = signed.join(format!("{}", number % 7));
        fs::create_dir_all(&folder).unwrap();
        files.push(folder.join(format!("{number}.crt")));
        sign(&dir, name.to_str().unwrap(), &files[number], &["-days", "30"]);
    }
    let import = |more: &[&str]| {
        let mut command = certkit();
        // So many do not fit on a command line where there are more.
        command.arg("import").args(more).arg("--dir").arg(&dir).arg(&signed);
        command
    };

    // One that is wrong, of whichever node, stands against all; numbers are compared across all parts.
    let right = fs::read(&files[2 * NODES]).unwrap();
    let other =
        tree::files(&dir).into_iter().find(|file| file.ends_with("apiserver-kubelet-client.crt"));
    let (offered, there) = (serial(&files[0]), serial(&dir.join(other.unwrap())));
    let before = tree::snapshot(&dir);
    let faults: [(&[&str], &str); 3] = [
        (&["-sha1"], "lgorithm"),
        (&["-set_serial", &offered], "/0.crt too"),
        (&["-set_serial", &there], "apiserver-kubelet-client.crt too"),
    ];
    for (arguments, told) in faults {
        let name = requests[2 * NODES].with_extension("");
        let arguments = [&["-days", "30"], arguments].concat();
        sign(&dir, name.to_str().unwrap(), &files[2 * NODES], &arguments);
        let refused = run_to_exit(&mut import(&[]), 3);
        assert!(String::from_utf8_lossy(&refused.stderr).contains(told), "{refused:?}");
    }
    fs::write(&files[2 * NODES], b"").unwrap();
    let refused = run_to_exit(&mut import(&[]), 3);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains(files[2 * NODES].to_str().unwrap()), "{told}");
    fs::write(&files[2 * NODES], right).unwrap();
    let json = |command: &mut Command| -> Value {
        serde_json::from_str(&stdout(command.args(["-o", "json"]))).unwrap()
    };
    let planned = json(&mut import(&["--dry-run"]));
    assert_eq!(planned["taken"].as_array().unwrap().len(), files.len());
    assert!(tree::difference(&before, &tree::snapshot(&dir)).is_empty());

    // Killed among the parts, it goes on when it is run again.
    let log = dir.join(".certkit/log.jsonl");
    kill_among_parts(&dir, &mut import(&["-q"]));
    let rest = json(&mut import(&[]));
    let count = |report: &Value| report["taken"].as_array().unwrap().len();
    assert!(count(&rest) > 0 && count(&rest) < files.len());
    assert_eq!(
        count(&rest) + usize::try_from(rest["there"].as_u64().unwrap()).unwrap(),
        files.len()
    );
    // Who was to take up what the first run had put in place is told now.
    let components = rest["components"].as_array().unwrap();
    for host in ["cp1", "n0000", &format!("n{:04}", NODES - 1)] {
        assert!(components.iter().any(|one| one["host"] == host), "{host}");
    }
    assert_eq!(rest["waiting"].as_array().unwrap().len(), 0);
    run(certkit().args(["verify", "-q", "--dir"]).arg(&dir));
    let lines = fs::read_to_string(&log).unwrap();
    let imported = lines.lines().filter(|line| line.contains("\"import\"")).count();
    assert_eq!(imported, files.len(), "each once");

    // Once more there is nothing to take in, and nothing is changed.
    let before = tree::snapshot(&dir);
    let told = stdout(&mut import(&[]));
    assert!(told.contains(&format!("in place already: {} of those given", files.len())), "{told}");
    assert!(tree::difference(&before, &tree::snapshot(&dir)).is_empty());
}

fn sign(dir: &Path, name: &str, out: &Path, arguments: &[&str]) {
    let csr = dir.join(format!("csr/{name}.csr"));
    let (ca, key) = (dir.join("pki/ca.crt"), dir.join("pki/ca.key"));
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (csr, ca, key, out) = (path(&csr), path(&ca), path(&key), path(out));
    let mut all = vec!["x509", "-req", "-in", &csr, "-CA", &ca, "-CAkey", &key];
    all.extend(["-copy_extensions", "copyall", "-out", &out]);
    all.extend(arguments);
    openssl(&all);
}

fn serial(certificate: &Path) -> String {
    let path = certificate.to_str().expect("UTF-8");
    let said = openssl(&["x509", "-in", path, "-noout", "-serial"]);
    format!("0x{}", said.trim().trim_start_matches("serial="))
}
