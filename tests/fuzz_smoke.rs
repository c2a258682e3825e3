//! The fuzz targets' functions over their seeds and some thousand mutations, always the same ones. Long runs
//! are `make fuzz`.

#[path = "../fuzz/entry.rs"]
mod entry;

use std::{fs, path::Path};

/// Mutations of each target's seeds.
const ROUNDS: usize = 4000;

#[test]
fn certificates_hold() {
    run("certificate", entry::certificate);
}

#[test]
fn declarations_hold() {
    run("declaration", entry::declaration);
    run("kubeadm", entry::kubeadm);
}

#[test]
fn handshakes_hold() {
    run("handshake", entry::handshake);
}

#[test]
fn kubeconfigs_hold() {
    run("kubeconfig", entry::kubeconfig);
}

#[test]
fn pem_holds() {
    run("pem", entry::pem);
}

#[test]
fn records_hold() {
    run("record", entry::record);
}

#[test]
fn secrets_hold() {
    run("secret", entry::secret);
}

#[test]
fn units_hold() {
    run("unit", entry::unit);
}

#[test]
fn every_target_has_its_function_and_its_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for entry in fs::read_dir(folder.join("fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("entry::{name}(input)")), "{name}");
        assert!(fs::read_dir(folder.join("seeds").join(name)).unwrap().count() >= 3, "{name}");
    }
}

fn run(target: &str, function: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, seed) in paths.iter().zip(&seeds) {
        try_one(function, seed, &path.display().to_string());
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..ROUNDS {
        let mut input = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &seeds, &mut random);
        }
        input.truncate(1 << 16);
        try_one(function, &input, &format!("{target}, round {round}"));
    }
}

/// A panic says which input it was, ready to become a seed.
fn try_one(function: fn(&[u8]), input: &[u8], what: &str) {
    let held = std::panic::catch_unwind(|| function(input));
    assert!(held.is_ok(), "{what}: {}", input.escape_ascii());
}

/// xorshift64*: the same everywhere, always.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// What means something to one of the parsers.
const TOKENS: &[&[u8]] = &[
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"-----BEGIN ",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xef\xbb\xbf",
    b"&a ",
    b"*a",
    b"<<: ",
    b"---\n",
    b"? ",
    b"- ",
    b": ",
    b"|\n  ",
    b"{",
    b"]",
    b"\"",
    b"users:\n",
    b"items:\n",
    b"kind: Secret\n",
    &[0x30, 0x80],
    &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
    &[0x18, 0x0f],
    &[0x06, 0x00],
    &[0x02, 0x01, 0x80],
];

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at).min(64) + 1);
    match random.below(8) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 => input.truncate(at),
        3 => drop(input.drain(at..end)),
        4 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        5 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let piece = other[from..].iter().copied().take(200).collect::<Vec<_>>();
            input.splice(at..end, piece);
        }
        6 if at < input.len() => input[at] = input[at].wrapping_add(1),
        _ => {
            let token = TOKENS[random.below(TOKENS.len())];
            input.splice(at..at, token.iter().copied());
        }
    }
}
