//! No CA's key is overwritten and no trusted CA dropped without a backup and an explicit request: whatever the state in
//! which a command finds them, and whatever it makes of all else.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use certkit::document::kubeconfig::{self, Material};
use support::{certkit, openssl, run, temp_dir, tree};

const KEYS: &[&str] = &["pki/ca.key", "pki/etcd/ca.key", "pki/front-proxy-ca.key", "pki/sa.key"];

/// What every command that changes something is asked for, short of naming a CA.
const COMMANDS: &[&[&str]] = &[
    &["init"],
    &["init", "--config", "-"],
    &["init", "--adopt"],
    &["rotate"],
    &["rotate", "--all"],
    &["rotate", "--all", "--new-key"],
    &["rotate", "--all", "--force"],
    &["rotate", "--csr-only", "--all"],
    &["prune"],
    &["rotate", "--rollback"],
];

fn init(dir: &Path) {
    run(certkit().arg("init").arg("--dir").arg(dir).args(["--host", "cp1=10.0.0.11"]));
}

/// A CA of somebody else's, as openssl makes it.
fn stranger() -> String {
    let folder = temp_dir();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "3650",
        "-subj",
        "/CN=kubernetes-old",
        "-keyout",
        &at("key"),
        "-out",
        &at("crt"),
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    fs::read_to_string(at("crt")).unwrap()
}

/// The certificates of a PEM text, each as its base64.
fn certificates(text: &str) -> BTreeSet<String> {
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    blocks
        .map(|block| block.split("-----END").next().unwrap().split_whitespace().collect())
        .collect()
}

/// The CAs that each file makes somebody trust: bundles, CAs, and the CAs that kubeconfigs embed.
fn trusted(dir: &Path) -> BTreeMap<PathBuf, BTreeSet<String>> {
    let mut trusted = BTreeMap::new();
    for file in tree::files(dir) {
        let name = file.to_str().unwrap();
        let Ok(text) = fs::read_to_string(dir.join(&file)) else { continue };
        let is_ca = name.ends_with("ca.crt") || name.ends_with("bundle.crt");
        let all = match name.ends_with(".conf") {
            _ if is_ca => certificates(&text),
            true => {
                let view = kubeconfig::parse(text.as_bytes());
                let data =
                    view.iter().flat_map(|view| &view.clusters).filter_map(|c| match &c.ca {
                        Some(Material::Data(pem)) => {
                            Some(String::from_utf8_lossy(pem).into_owned())
                        }
                        _ => None,
                    });
                data.flat_map(|pem| certificates(&pem)).collect()
            }
            false => continue,
        };
        trusted.insert(file, all);
    }
    trusted
}

/// Something that can be wrong with a CA: its name, and what makes it so.
type State = (&'static str, fn(&Path));

const STATES: &[State] = &[
    ("as it was made", |_| {}),
    ("a second CA is trusted, in the bundle", |dir| append(dir, "pki/ca-bundle.crt")),
    ("a second CA is trusted, in ca.crt", |dir| append(dir, "pki/ca.crt")),
    ("a second etcd CA is trusted", |dir| append(dir, "pki/etcd/ca-bundle.crt")),
    ("a second front-proxy CA is trusted", |dir| append(dir, "pki/front-proxy-ca-bundle.crt")),
    ("the CA's key is another's", |dir| {
        fs::copy(dir.join("pki/etcd/ca.key"), dir.join("pki/ca.key")).unwrap();
    }),
    ("the CA's key is damaged", |dir| fs::write(dir.join("pki/ca.key"), "damaged\n").unwrap()),
    ("the CA's key is empty", |dir| fs::write(dir.join("pki/etcd/ca.key"), "").unwrap()),
    ("the CA's certificate is gone", |dir| fs::remove_file(dir.join("pki/ca.crt")).unwrap()),
    ("the CA's certificate is damaged", |dir| {
        fs::write(dir.join("pki/front-proxy-ca.crt"), "damaged\n").unwrap();
    }),
    ("the bundle is gone", |dir| fs::remove_file(dir.join("pki/ca-bundle.crt")).unwrap()),
    ("the key of service accounts is damaged", |dir| {
        fs::write(dir.join("pki/sa.key"), "damaged\n").unwrap();
    }),
    ("the public half is another's", |dir| {
        fs::write(dir.join("pki/sa.pub"), "damaged\n").unwrap();
    }),
    ("nothing is declared", |dir| fs::remove_file(dir.join("certkit.yaml")).unwrap()),
    ("another algorithm is declared", |dir| {
        let file = dir.join("certkit.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let text =
            text.lines().filter(|line| !line.starts_with("keyAlgorithm")).collect::<Vec<_>>();
        fs::write(file, format!("{}\nkeyAlgorithm: ed25519\n", text.join("\n"))).unwrap();
    }),
];

fn append(dir: &Path, file: &str) {
    let text = fs::read_to_string(dir.join(file)).unwrap();
    fs::write(dir.join(file), text + &stranger()).unwrap();
}

#[test]
fn no_command_overwrites_a_ca_key_or_drops_a_trusted_ca() {
    let made = temp_dir();
    let made = made.path().join("pki");
    init(&made);
    let declared = fs::read_to_string(made.join("certkit.yaml")).unwrap();
    for (state, spoil) in STATES {
        for command in COMMANDS {
            let folder = temp_dir();
            let dir = folder.path().join("pki");
            tree::copy(&made, &dir);
            spoil(&dir);
            let keys = |dir: &Path| -> Vec<_> {
                KEYS.iter().map(|k| fs::read(dir.join(k)).ok()).collect()
            };
            let (keys_before, before) = (keys(&dir), trusted(&dir));
            let config = folder.path().join("config.yaml");
            fs::write(&config, &declared).unwrap();
            let mut shell = certkit();
            shell.args(*command).arg("--dir").arg(&dir).stdin(fs::File::open(&config).unwrap());
            // Many of these are refused, which is right, too.
            let output = shell.output().unwrap();
            let what = format!("{state}, then {command:?}: {output:?}");
            assert!(keys_before == keys(&dir), "a key was overwritten: {what}");
            let after = trusted(&dir);
            for (file, trusted) in &before {
                let now =
                    after.get(file).unwrap_or_else(|| panic!("{} is gone: {what}", file.display()));
                assert!(trusted.is_subset(now), "{} trusts less: {what}", file.display());
            }
        }
    }
}

#[test]
fn what_is_asked_for_explicitly_leaves_a_backup_of_the_ca() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut command = certkit();
    command.arg("init").arg("--dir").arg(dir).args(["--host", "cp1=10.0.0.11"]);
    run(command.args(["--addon", "konnectivity"]));
    let file = dir.join("certkit.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("addons: [konnectivity]"), "{text}");
    fs::write(&file, text.replace("addons: [konnectivity]", "addons: []")).unwrap();
    let keys: Vec<PathBuf> = tree::files(dir)
        .into_iter()
        .filter(|file| file.starts_with("pki/konnectivity") && file.ends_with("ca.key"))
        .collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let key = fs::read(dir.join(&keys[0])).unwrap();
    run(certkit().args(["prune", "--dir"]).arg(dir));
    assert!(!dir.join(&keys[0]).exists());
    let backups = dir.join(".certkit/backups");
    let mut find = Command::new("find");
    let found = run(find.arg(&backups).args(["-path", "*/konnectivity/ca.key"])).stdout;
    let found = String::from_utf8(found).unwrap();
    assert_eq!(fs::read(found.trim()).unwrap(), key, "{found}");
}
