//! What benches share. Figures are ratios within one run: machines are noisy.

#![allow(dead_code)] // Each bench uses its own part of this.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};

/// The median duration of `rounds` runs, after one that does not count.
pub fn median(rounds: usize, mut run: impl FnMut()) -> Duration {
    run();
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[rounds / 2]
}

/// Declares one control plane and nodes, so many hosts in all; gives the file.
pub fn declaration(folder: &Path, hosts: usize) -> PathBuf {
    let mut text = String::from(
        "apiVersion: certkit/v1\nkind: Cluster\nname: b\nendpoint: api:6443\ncontrolPlane:\n\
         - {name: cp1, addresses: [10.0.0.1]}\nnodes:\n",
    );
    for n in 1..hosts {
        text += &format!("- {{name: w{n}, addresses: [10.1.{}.{}]}}\n", n / 250, n % 250 + 1);
    }
    let file = folder.join(format!("{hosts}.yaml"));
    fs::write(&file, text).expect("a declaration");
    file
}

/// One line of a report.
pub fn line(what: &str, time: Duration) {
    println!("{what:<58} {:>10.2} ms", time.as_secs_f64() * 1e3);
}

/// A ratio, and whether it keeps to its aim.
pub fn ratio(what: &str, ratio: f64, aim: f64, at_most: bool) {
    let kept = if at_most { ratio <= aim } else { ratio >= aim };
    let verdict = if kept { "kept" } else { "MISSED" };
    let sign = if at_most { "<=" } else { ">=" };
    println!("{what:<58} {ratio:>10.2} x   (aim {sign} {aim}: {verdict})");
}

/// Writes files the way that survives a power cut, and no more: each synced under a temporary name, then
/// renamed, then the folder.
pub fn durable(folder: &Path, contents: &[Vec<u8>]) {
    fs::create_dir(folder).expect("a folder");
    for (index, content) in contents.iter().enumerate() {
        let mut file = File::create(folder.join(format!(".{index}"))).expect("a file");
        file.write_all(content).expect("written");
        file.sync_all().expect("synced");
    }
    for index in 0..contents.len() {
        fs::rename(folder.join(format!(".{index}")), folder.join(index.to_string()))
            .expect("renamed");
    }
    File::open(folder).and_then(|f| f.sync_all()).expect("synced");
}

/// Starting the program and doing nothing.
pub fn start() -> Duration {
    median(15, || {
        let output = Command::new(env!("CARGO_BIN_EXE_certkit")).arg("--version").output();
        assert!(output.expect("certkit starts").status.success());
    })
}

/// Raw ring: so many P-256 keys, and as many signatures as there are certificates.
pub fn raw_crypto(keys: usize, certificates: usize) -> Duration {
    median(15, || {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let mut last = None;
        for _ in 0..keys {
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
            let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random);
            last = Some(key.expect("a key"));
        }
        let key = last.expect("at least one key");
        for _ in 0..certificates {
            key.sign(&random, &[7; 500]).expect("a signature");
        }
    })
}
