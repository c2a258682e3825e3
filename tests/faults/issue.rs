//! Certificates as openssl makes them, with any fault one likes.
#![allow(dead_code)] // Each test binary uses its own part of this.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use certkit::model::{duration::Span, timestamp::Timestamp};

use crate::support;

/// Seconds.
const DAY: i64 = 86_400;

/// What one certificate is to say; the rest is taken from the certificate in place.
pub struct Issue {
    folder: tempfile::TempDir,
    subject: Option<String>,
    extensions: Vec<(String, String)>,
    start: i64,
    end: i64,
    serial: Option<String>,
    digest: &'static str,
}

impl Issue {
    /// A leaf: 300 days before and after the time it is judged at, critical constraints, no more.
    pub fn leaf() -> Self {
        let mut issue = Self {
            folder: support::temp_dir(),
            subject: None,
            extensions: Vec::new(),
            start: -300 * DAY,
            end: 300 * DAY,
            serial: None,
            digest: "sha256",
        };
        issue.set("basicConstraints", "critical,CA:FALSE");
        issue.set("keyUsage", "critical,digitalSignature,keyEncipherment");
        issue
    }

    /// A CA.
    pub fn ca() -> Self {
        let mut issue = Self::leaf();
        issue.set("basicConstraints", "critical,CA:TRUE");
        issue.set("keyUsage", "critical,digitalSignature,keyEncipherment,keyCertSign");
        issue.set("subjectKeyIdentifier", "hash");
        issue.end = 3000 * DAY;
        issue
    }

    pub fn subject(mut self, subject: &str) -> Self {
        self.subject = Some(subject.into());
        self
    }

    pub fn with(mut self, extension: &str, value: &str) -> Self {
        self.set(extension, value);
        self
    }

    pub fn client(self) -> Self {
        self.with("extendedKeyUsage", "clientAuth")
    }

    pub fn server(self, names: &str) -> Self {
        self.with("extendedKeyUsage", "serverAuth").with("subjectAltName", names)
    }

    pub fn both(self, names: &str) -> Self {
        self.with("extendedKeyUsage", "serverAuth,clientAuth").with("subjectAltName", names)
    }

    /// Valid from so many days after the time it is judged at.
    pub fn from(mut self, days: i64) -> Self {
        self.start = days * DAY;
        self
    }

    /// Valid until so many days after the time it is judged at.
    pub fn until(mut self, days: i64) -> Self {
        self.end = days * DAY;
        self
    }

    /// Valid until so many seconds after the time it is judged at.
    pub fn until_seconds(mut self, seconds: i64) -> Self {
        self.end = seconds;
        self
    }

    pub fn serial(mut self, serial: &str) -> Self {
        self.serial = Some(serial.into());
        self
    }

    pub fn digest(mut self, digest: &'static str) -> Self {
        self.digest = digest;
        self
    }

    fn set(&mut self, extension: &str, value: &str) {
        self.extensions.retain(|(name, _)| name != extension);
        self.extensions.push((extension.into(), value.into()));
    }

    /// Signs with a CA's files and writes over `cert`, whose subject is kept unless told otherwise. The
    /// key is `key`'s; a file that holds both keeps its key.
    pub fn write(&self, at: Timestamp, cert: &Path, key: &Path, ca: (&Path, &Path)) {
        let old = fs::read_to_string(cert).unwrap_or_default();
        let pem = self.sign(at, cert, key, Some(ca));
        fs::write(cert, with_key(&old, &pem)).expect("certificate");
    }

    /// The same, signed by its own key.
    pub fn write_self_signed(&self, at: Timestamp, cert: &Path, key: &Path) {
        let pem = self.sign(at, cert, key, None);
        fs::write(cert, pem).expect("certificate");
    }

    fn sign(
        &self,
        judged: Timestamp,
        cert: &Path,
        key: &Path,
        ca: Option<(&Path, &Path)>,
    ) -> String {
        let at = |name: &str| self.folder.path().join(name);
        let date = |seconds: i64| {
            let time = judged.plus(Span(seconds)).to_compact();
            time.replace('T', "")
        };
        let (start, end) = (date(self.start), date(self.end));
        let subject = self.subject.clone().unwrap_or_else(|| subject_of(cert));
        let extensions: String =
            self.extensions.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        fs::write(
            at("ca.cnf"),
            format!(
                "[ca]\ndefault_ca = c\n[c]\ndatabase = {}\nnew_certs_dir = {}\ndefault_md = {}\n\
                 policy = p\nunique_subject = no\nemail_in_dn = no\npreserve = yes\nserial = {}\n\
                 [p]\norganizationName = optional\ncommonName = optional\n\
                 [req]\nstring_mask = nombstr\ndistinguished_name = d\n[d]\n[e]\n{extensions}",
                at("index").display(),
                self.folder.path().display(),
                self.digest,
                at("serial").display(),
            ),
        )
        .expect("configuration");
        fs::write(at("index"), "").expect("index");
        let random = support::openssl(&["rand", "-hex", "12"]);
        let serial = self.serial.clone().unwrap_or_else(|| format!("5a{}", random.trim()));
        fs::write(at("serial"), format!("{serial}\n")).expect("serial");
        let config = at("ca.cnf");
        let openssl = |arguments: &[&str], paths: &[(&str, &Path)]| {
            let mut command = Command::new("openssl");
            command.args(arguments);
            for (flag, path) in paths {
                command.arg(flag).arg(path);
            }
            support::run(&mut command);
        };
        openssl(
            &["req", "-new", "-subj", &subject, "-multivalue-rdn"],
            &[("-config", &config), ("-key", key), ("-out", &at("request"))],
        );
        if let (Some(serial), Some((ca, ca_key))) = (&self.serial, ca)
            && serial.starts_with('-')
        {
            // `openssl ca` counts in positive numbers only; this one's dates begin now.
            openssl(
                &["x509", "-req", "-days", "60", "-extensions", "e", "-set_serial", serial],
                &[
                    ("-in", &at("request")),
                    ("-CA", ca),
                    ("-CAkey", ca_key),
                    ("-extfile", &config),
                    ("-out", &at("out")),
                ],
            );
            return fs::read_to_string(at("out")).expect("the certificate");
        }
        let dates = ["-startdate", &start, "-enddate", &end];
        let mut arguments = vec!["ca", "-batch", "-notext", "-extensions", "e"];
        arguments.extend(dates);
        let (request, out) = (at("request"), at("out"));
        let mut paths: Vec<(&str, &Path)> =
            vec![("-config", &config), ("-in", &request), ("-out", &out)];
        match ca {
            Some((cert, key)) => paths.extend([("-cert", cert), ("-keyfile", key)]),
            None => {
                arguments.push("-selfsign");
                paths.push(("-keyfile", key));
            }
        }
        openssl(&arguments, &paths);
        fs::read_to_string(out).expect("the certificate")
    }
}

/// The subject in the form that `-subj` takes.
pub fn subject_of(cert: &Path) -> String {
    let path = cert.to_str().expect("UTF-8");
    let text = support::openssl(&[
        "x509",
        "-in",
        path,
        "-noout",
        "-subject",
        "-nameopt",
        "multiline,-esc_msb",
    ]);
    let parts = text.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        let name = match name.trim() {
            "commonName" => "CN",
            "organizationName" => "O",
            _ => return None,
        };
        Some(format!("/{name}={}", value.trim().trim_matches('"')))
    });
    parts.collect()
}

/// The old file's key, if it has one, after the new certificate.
fn with_key(old: &str, certificate: &str) -> String {
    match old.find("-----BEGIN EC PRIVATE KEY") {
        Some(start) => {
            let end = old[start..].find("-----END EC PRIVATE KEY-----\n").expect("an end");
            let key = &old[start..start + end + "-----END EC PRIVATE KEY-----\n".len()];
            format!("{certificate}{key}")
        }
        None => certificate.to_owned(),
    }
}

/// A new P-256 key in a file.
pub fn new_key(path: &Path) {
    let path = path.to_str().expect("UTF-8");
    support::openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path]);
}

/// A foreign CA: certificate and key in this folder.
pub fn foreign_ca(at: Timestamp, folder: &Path, subject: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join("foreign.crt"), folder.join("foreign.key"));
    new_key(&key);
    Issue::ca().subject(subject).write_self_signed(at, &cert, &key);
    (cert, key)
}
