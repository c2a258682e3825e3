//! What benches share. Figures are ratios within one run: machines are noisy.

#![allow(dead_code)] // Each bench uses its own part of this.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
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
        let (high, middle, low) = (1 + n / 62_500, n / 250 % 250, n % 250 + 1);
        text += &format!("- {{name: w{n}, addresses: [10.{high}.{middle}.{low}]}}\n");
    }
    let file = folder.join(format!("{hosts}.yaml"));
    fs::write(&file, text).expect("a declaration");
    file
}

/// What was said so far.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A line as it is, for people and for the page.
pub fn note(text: &str) {
    println!("{text}");
    SAID.lock().expect("no bench panics and goes on").push(text.trim_end().to_owned());
}

/// One line of a report.
pub fn line(what: &str, time: Duration) {
    note(&format!("{what:<58} {:>10.2} ms", time.as_secs_f64() * 1e3));
}

/// A ratio, and whether it keeps to its aim.
pub fn ratio(what: &str, ratio: f64, aim: f64, at_most: bool) {
    let kept = if at_most { ratio <= aim } else { ratio >= aim };
    let verdict = if kept { "kept" } else { "MISSED" };
    let sign = if at_most { "<=" } else { ">=" };
    note(&format!("{what:<58} {ratio:>10.2} x   (aim {sign} {aim}: {verdict})"));
}

/// Ends a bench: where CERTKIT_BENCH is `write`, what it said becomes its section of docs/benchmarks.md.
pub fn end(name: &str, title: &str) {
    if std::env::var_os("CERTKIT_BENCH").is_none_or(|value| value != "write") {
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
    let text = fs::read_to_string(&page).expect("docs/benchmarks.md");
    let (begin, close) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let said = SAID.lock().expect("no bench panics and goes on").join("\n");
    let section =
        format!("{begin}## {title}\n\n{}\n\n```\n{}\n```\n{close}", machine(), said.trim());
    let written = match (text.find(&begin), text.find(&close)) {
        (Some(from), Some(to)) => {
            format!("{}{section}{}", &text[..from], &text[to + close.len()..])
        }
        _ => format!("{}\n\n{section}", text.trim_end()),
    };
    fs::write(&page, written).expect("docs/benchmarks.md");
}

/// The machine, in a line: what its processor calls itself, how many there are, memory and kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".into());
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kibibytes = memory.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let kernel = read("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "{model}, {cores} cores, {} GiB of memory, Linux {}; certkit {}.",
        kibibytes.unwrap_or_default() >> 20,
        kernel.trim(),
        env!("CARGO_PKG_VERSION")
    )
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
        let key = keys_and_signatures(keys, 0);
        let random = SystemRandom::new();
        for _ in 0..certificates {
            key.sign(&random, &[7; 500]).expect("a signature");
        }
    })
}

/// So many P-256 keys, at least one, and for each so many signatures; the last key.
pub fn keys_and_signatures(keys: usize, signatures: usize) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let mut last = None;
    for _ in 0..keys {
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
        for _ in 0..signatures {
            key.sign(&random, &[7; 500]).expect("a signature");
        }
        last = Some(key);
    }
    last.expect("at least one key")
}
