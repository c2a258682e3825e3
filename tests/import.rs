//! `certkit import` takes in nothing that `certkit verify` would then find wrong.

mod support;

use std::{fs, path::Path};

use support::{certkit, need, openssl, run, run_to_exit, temp_dir, tree};

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
    // What is as it must be still is, and verify agrees.
    for name in ["apiserver", "scheduler"] {
        sign(&dir, name, &signed, &["-days", "30"]);
        run(certkit().args(["import", "--dir"]).arg(&dir).arg(&signed));
    }
    run(certkit().args(["verify", "--dir"]).arg(&dir));
    assert!(fs::read_dir(dir.join("csr")).map_or(0, Iterator::count) == 0);
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
