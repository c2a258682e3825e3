//! What goes between an operator's machine and a host: a delivery there, a receipt back. A delivery is a tar archive
//! that begins with its own description; a receipt is one line of JSON.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    model::{
        layout::SECRET,
        shown::{self, name},
    },
    pki::inspect::{self, Certificate},
    store::sha256,
};

/// What both ends must speak.
pub const PROTOCOL: u32 = 1;

/// The archive's first entry.
const DESCRIPTION: &str = "delivery.json";
/// More than the description of a host takes, of a cluster with a control plane of hundreds.
const DESCRIPTION_LIMIT: u64 = 4 << 20;
/// More than any file of a host takes.
const FILE_LIMIT: u64 = 4 << 20;

/// What is brought to a host.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The host that it is for.
    pub host: String,
    /// The cluster, as far as this host must know it: a `certkit.yaml`.
    pub cluster: String,
    /// All files that the host is to have of certkit.
    pub files: Vec<DeliveredFile>,
    /// For which keys of its own the host is asked for requests, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyDemand>,
}

/// A host is to ask for certificates, with keys that it makes.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyDemand {
    /// For which, by their names in the catalogue.
    pub certificates: Vec<String>,
    /// With new keys, whatever is in place.
    pub fresh: bool,
}

/// One file of a delivery.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveredFile {
    /// Its path in the host's tree.
    pub path: PathBuf,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// Whether its content follows.
    pub sent: bool,
}

/// How a file of the host compares with what it is to be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum FileState {
    /// It is another one.
    Differs,
    /// It is there and is certkit's, and is to be there no longer.
    Leftover,
    /// It is not there.
    Missing,
}

/// What a host has to say for itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Receipt {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// certkit's version there.
    pub version: String,
    /// The host.
    pub host: String,
    /// What was not as it is to be when it was looked at.
    pub differences: Vec<FileDifference>,
    /// Certificates that are in place without the key that they are for, which only this host could have.
    pub keyless: Vec<PathBuf>,
    /// What it asks for, with keys that stay there.
    pub requests: Vec<KeyRequest>,
    /// Whether that was changed.
    pub changed: bool,
    /// The components that had something to take up.
    pub uptake: Vec<ReceivedUptake>,
    /// What was restarted, and runs on as it was.
    pub unfinished: Vec<String>,
    /// The components that run and have not read since what is in place; only a restart makes them.
    pub awaiting: Vec<String>,
    /// Certificates that only the host has: the kubelet's own.
    pub own: Vec<OwnCertificate>,
    /// What was found of the health of etcd and of the API.
    pub health: Vec<String>,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
    /// What was found or failed beside.
    pub warnings: Vec<String>,
    /// Why it is not done.
    pub error: Option<Complaint>,
}

/// A certificate that a host asks for.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyRequest {
    /// Which, by its name in the catalogue.
    pub certificate: String,
    /// The request (PKCS#10), PEM.
    pub csr: String,
}

/// A file that is not as it is to be.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct FileDifference {
    /// Its path in the host's tree.
    pub path: PathBuf,
    /// What about it.
    pub state: FileState,
}

/// A component on a host that had something to take up.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedUptake {
    /// The component.
    pub component: String,
    /// Whether only a restart makes it take that up, and none was made.
    pub needs_restart: bool,
    /// What was done to restart it.
    pub restarted: Option<String>,
    /// The listeners of it that serve what is in place now, as `HOST:PORT`.
    pub serves: Vec<String>,
    /// What failed.
    pub failed: Vec<String>,
}

/// A certificate that the host got by itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OwnCertificate {
    /// Its file.
    pub file: PathBuf,
    /// SHA-256 in hexadecimal.
    pub fingerprint: String,
    /// When it ends, in RFC 3339.
    pub not_after: String,
    /// Itself, in PEM, without its key.
    pub certificate: String,
}

/// Why something is not done.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Complaint {
    /// What happened, with its causes.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Why a stream is no delivery.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// It does not begin with a description.
    #[error("standard input holds no delivery: {0}")]
    Description(String),
    /// The other end speaks another version.
    #[error("the delivery is of version {0}, and this certkit reads version {PROTOCOL}")]
    Protocol(u32),
    /// A file is not what was announced.
    #[error("{}: {why}", name(path))]
    File {
        /// The file.
        path: String,
        /// What about it.
        why: &'static str,
    },
    /// The stream ended early, or could not be read.
    #[error("the delivery broke off; nothing was changed")]
    Broken(#[source] io::Error),
}

impl DeliveryError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Description(_) => {
                "`certkit deploy`, on the operator's machine, sends one; nobody else has to call `certkit receive`".into()
            }
            Self::Protocol(_) => {
                "install the same version on both ends, or `certkit deploy --carry`, which brings its own".into()
            }
            Self::File { .. } => "nothing was changed; run `certkit deploy` again".into(),
            Self::Broken(_) => "run `certkit deploy` again".into(),
        })
    }
}

impl Receipt {
    /// An answer that has nothing to say yet.
    pub fn new(host: &str) -> Self {
        Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            host: host.into(),
            ..Self::default()
        }
    }

    /// What a far end printed: the last line that is a receipt, whatever shells and banners said before it.
    pub fn find(output: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(output);
        text.lines().rev().find_map(|line| {
            let mut said: Value = serde_json::from_str(line.trim()).ok()?;
            tame(&mut said, false);
            let receipt: Self = serde_json::from_value(said).ok()?;
            (receipt.protocol != 0).then_some(receipt)
        })
    }

    /// What failed that was asked for.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        let failed = self.uptake.iter().flat_map(|one| &one.failed);
        failed.chain(&self.unfinished).map(String::as_str)
    }
}

/// Takes out of what a host says all that would steer the terminal on which it is shown, or pass for another line of it: the
/// host may be somebody else's by now. Where something is to be `pem` its lines stay.
fn tame(said: &mut Value, pem: bool) {
    match said {
        Value::String(text) => {
            let mut shown = String::with_capacity(text.len());
            for c in text.chars() {
                match c {
                    '\n' if pem => shown.push(c),
                    '\n' => shown.push_str("; "),
                    c if shown::steers(c) => shown.extend(c.escape_default()),
                    c => shown.push(c),
                }
            }
            *text = shown;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| tame(item, pem)),
        Value::Object(fields) => {
            for (name, value) in fields {
                tame(value, matches!(name.as_str(), "certificate" | "csr"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The certificates of a file that may hold their key, too, in one form; nothing where it holds none.
pub fn certificates_of(content: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let all = inspect::from_pem(content).ok()?;
    let text: String = all.iter().map(Certificate::to_pem).collect();
    Some(text.into_bytes().into())
}

/// Writes a delivery, with the contents of those files that are to be sent.
pub fn write(
    out: impl Write,
    delivery: &Delivery,
    contents: &BTreeMap<PathBuf, Zeroizing<Vec<u8>>>,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let description = serde_json::to_vec(delivery)?;
    append(&mut archive, Path::new(DESCRIPTION), &description)?;
    for file in delivery.files.iter().filter(|file| file.sent) {
        let content = contents.get(&file.path).map_or(&[][..], |content| content.as_slice());
        append(&mut archive, &file.path, content)?;
    }
    archive.into_inner()?.flush()
}

fn append(archive: &mut tar::Builder<impl Write>, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(SECRET);
    header.set_size(content.len() as u64);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, path, content)
}

/// A delivery that came whole.
pub struct Parcel {
    /// What it says of itself.
    pub delivery: Delivery,
    /// What was sent, by path.
    pub contents: BTreeMap<PathBuf, Zeroizing<Vec<u8>>>,
}

/// Reads a delivery to its end: every file that was announced is there, is what was announced, and nothing else is.
pub fn read(input: impl Read) -> Result<Parcel, DeliveryError> {
    let mut archive = tar::Archive::new(input);
    let mut entries = archive.entries().map_err(broken)?;
    let absent = || DeliveryError::Description("it is empty".into());
    let first = entries.next().ok_or_else(absent)?;
    // What the archive's reader says may repeat what it read.
    let mut first = first.map_err(|_| DeliveryError::Description("it is no tar archive".into()))?;
    if &*first.path_bytes() != DESCRIPTION.as_bytes() {
        return Err(DeliveryError::Description(format!("it does not begin with {DESCRIPTION}")));
    }
    let description = content(&mut first, DESCRIPTION_LIMIT)?;
    let delivery = describe(&description)?;
    let mut contents = BTreeMap::new();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let fault = |why| DeliveryError::File { path: shown.clone(), why };
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(fault("it is no regular file"));
        }
        let path = entry.path().map_err(broken)?.into_owned();
        let announced = delivery.files.iter().find(|file| file.path == path && file.sent);
        let announced = announced.ok_or_else(|| fault("it was not announced"))?;
        let content = content(&mut entry, FILE_LIMIT)?;
        if sha256(&content) != announced.sha256 {
            return Err(fault("its content is not the one that was announced"));
        }
        if contents.insert(path, content).is_some() {
            return Err(fault("it comes twice"));
        }
    }
    match delivery.files.iter().find(|file| file.sent && !contents.contains_key(&file.path)) {
        Some(file) => Err(DeliveryError::File {
            path: file.path.display().to_string(),
            why: "it was announced and did not come",
        }),
        None => Ok(Parcel { delivery, contents }),
    }
}

/// That the stream ended, or is none; without what the archive's reader says, which may repeat what it read.
fn broken(error: io::Error) -> DeliveryError {
    DeliveryError::Broken(error.kind().into())
}

fn describe(description: &[u8]) -> Result<Delivery, DeliveryError> {
    // A later version may have other fields; what it is comes first.
    #[derive(Deserialize)]
    struct Versioned {
        protocol: u32,
    }
    // What the parser says may repeat what it read.
    let wrong = |_| DeliveryError::Description(format!("its {DESCRIPTION} cannot be read"));
    let versioned: Versioned = serde_json::from_slice(description).map_err(wrong)?;
    if versioned.protocol != PROTOCOL {
        return Err(DeliveryError::Protocol(versioned.protocol));
    }
    let delivery: Delivery = serde_json::from_slice(description).map_err(wrong)?;
    let mut seen = std::collections::BTreeSet::new();
    for file in &delivery.files {
        let fault = |why| DeliveryError::File { path: file.path.display().to_string(), why };
        let is_plain = file.path.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_plain || file.path.as_os_str().is_empty() {
            return Err(fault("it is no path in a host's tree"));
        }
        if !seen.insert(&file.path) {
            return Err(fault("it is announced twice"));
        }
    }
    Ok(delivery)
}

fn content(
    entry: &mut tar::Entry<'_, impl Read>,
    limit: u64,
) -> Result<Zeroizing<Vec<u8>>, DeliveryError> {
    let size = entry.size();
    let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    if size > limit {
        return Err(DeliveryError::File { path: shown, why: "it is too large" });
    }
    // Grown in place, it would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or_default()));
    entry.take(size).read_to_end(&mut content).map_err(broken)?;
    match content.len() as u64 == size {
        true => Ok(content),
        false => Err(DeliveryError::Broken(io::ErrorKind::UnexpectedEof.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(files: &[(&str, &[u8])]) -> (Delivery, BTreeMap<PathBuf, Zeroizing<Vec<u8>>>) {
        let file = |(path, content): &(&str, &[u8])| DeliveredFile {
            path: path.into(),
            sha256: sha256(content),
            sent: true,
        };
        let contents =
            files.iter().map(|(path, content)| (path.into(), content.to_vec().into())).collect();
        let files = files.iter().map(file).collect();
        (
            Delivery {
                protocol: PROTOCOL,
                host: "cp1".into(),
                cluster: String::new(),
                files,
                keys: None,
            },
            contents,
        )
    }

    fn written(delivery: &Delivery, contents: &BTreeMap<PathBuf, Zeroizing<Vec<u8>>>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, delivery, contents).unwrap();
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let (delivery, contents) = delivery(&[("pki/ca.crt", b"one"), ("admin.conf", b"")]);
        let parcel = read(&written(&delivery, &contents)[..]).unwrap();
        assert_eq!((parcel.delivery, parcel.contents), (delivery, contents));
    }

    #[test]
    fn a_stream_that_ends_early_is_no_delivery_wherever_it_does() {
        let (delivery, contents) = delivery(&[("pki/ca.crt", b"one"), ("pki/ca.key", b"two")]);
        let whole = written(&delivery, &contents);
        // Two empty blocks end an archive, and the last file's three octets have a block to themselves.
        for length in 0..whole.len() - 1024 - 512 + 3 {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_was_not_announced_so_is_refused() {
        let why = |files: &[(&str, &[u8])], spoil: &dyn Fn(&mut Delivery)| {
            let (mut delivery, contents) = delivery(files);
            spoil(&mut delivery);
            read(&written(&delivery, &contents)[..]).err().map(|error| error.to_string())
        };
        let one: &[(&str, &[u8])] = &[("pki/ca.crt", b"one")];
        assert_eq!(why(one, &|_| {}), None);
        let wrong = why(one, &|delivery| delivery.files[0].sha256 = sha256(b"other")).unwrap();
        assert_eq!(wrong, "pki/ca.crt: its content is not the one that was announced");
        for path in ["../x", "/etc/passwd", "", "a/../b", "."] {
            let wrong = why(one, &|delivery| {
                let file = DeliveredFile { path: path.into(), sent: false, sha256: String::new() };
                delivery.files.push(file);
            });
            assert!(
                wrong.as_ref().is_some_and(|w| w.ends_with("no path in a host's tree")),
                "{path}: {wrong:?}"
            );
        }
        let twice = why(one, &|delivery| delivery.files.push(delivery.files[0].clone())).unwrap();
        assert_eq!(twice, "pki/ca.crt: it is announced twice");
        let later = why(one, &|delivery| delivery.protocol = 2).unwrap();
        assert_eq!(later, "the delivery is of version 2, and this certkit reads version 1");
    }

    #[test]
    fn what_is_no_archive_is_not_repeated() {
        let secret = "k3yMaterial".repeat(200);
        let error = read(secret.as_bytes()).err().unwrap();
        assert_eq!(error.to_string(), "standard input holds no delivery: it is no tar archive");
        let (delivery, contents) = delivery(&[("pki/ca.crt", b"one")]);
        let mut spoiled = written(&delivery, &contents);
        // The header of the second entry.
        let at = spoiled.len() - 1024 - 1024;
        spoiled[at..at + 512].copy_from_slice(&secret.as_bytes()[..512]);
        let error = read(&spoiled[..]).err().unwrap();
        let told = crate::model::shown::with_causes(&error);
        assert!(!told.contains("k3y"), "{told}");
    }

    #[test]
    fn only_regular_files_are_taken() {
        let (delivery, _) = delivery(&[]);
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, Path::new(DESCRIPTION), &serde_json::to_vec(&delivery).unwrap())
            .unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "pki", "/etc").unwrap();
        let error = read(&archive.into_inner().unwrap()[..]).err().unwrap();
        assert_eq!(error.to_string(), "pki: it is no regular file");
    }

    #[test]
    fn a_receipt_is_found_after_whatever_a_shell_says() {
        let receipt = Receipt { changed: true, ..Receipt::new("cp1") };
        let line = serde_json::to_string(&receipt).unwrap();
        let output = format!("Welcome to cp1\n{{}}\n{line}\n");
        assert_eq!(Receipt::find(output.as_bytes()), Some(receipt));
        assert_eq!(Receipt::find(b"{\"protocol\": \"x\"}\nbye\n"), None);
    }

    #[test]
    fn what_a_host_says_steers_no_terminal_and_begins_no_line() {
        let evil = "\u{1b}[2J\u{9b}31m\u{7}\rx\nerror: cp1: y";
        let complaint = Complaint { message: evil.into(), hint: Some(evil.into()) };
        let receipt = Receipt {
            awaiting: vec![evil.into()],
            warnings: vec![evil.into()],
            own: vec![OwnCertificate {
                file: evil.into(),
                fingerprint: evil.into(),
                not_after: evil.into(),
                certificate: "-----BEGIN\nx\n".into(),
            }],
            error: Some(complaint),
            ..Receipt::new("w1")
        };
        let line = serde_json::to_vec(&receipt).unwrap();
        let found = Receipt::find(&[b"Last login\n", &line[..], b"\nbye\n"].concat()).unwrap();
        assert_eq!(found.own[0].certificate, "-----BEGIN\nx\n");
        let rest = Receipt { own: Vec::new(), ..found.clone() };
        for said in [format!("{}", found.own[0].file.display()), found.own[0].not_after.clone()]
            .iter()
            .chain(&rest.awaiting)
            .chain(&rest.warnings)
            .chain(rest.error.iter().flat_map(|one| [&one.message].into_iter().chain(&one.hint)))
        {
            assert_eq!(said, "\\u{1b}[2J\\u{9b}31m\\u{7}\\rx; error: cp1: y");
        }
    }
}
