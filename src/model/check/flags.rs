//! What components are told, judged against the PKI and against the secure form.
//!
//! Which setting must name what, what must be set and what must not: all that is the catalogue's.

pub mod known;
mod secure;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use super::{evidence::Evidence, finding::Finding};
use crate::model::{
    catalogue::{CertId, CertSpec, Listener, Purpose, USES, Use, Value},
    shown, url,
    usage::ExtendedUsage,
};
use crate::model::{
    code::Code,
    observed::{CertView, FoundKey},
};

/// What one file tells one component.
#[derive(Clone, Debug)]
pub struct Told {
    /// The file.
    pub file: PathBuf,
    /// The component, by its catalogue id.
    pub component: &'static str,
    /// Whether it is the component's configuration file; else they are flags.
    pub is_config: bool,
    /// Whether it adds to what is said elsewhere, so that nothing can be missing here.
    pub is_partial: bool,
    /// What is set, in its order.
    pub settings: Vec<Setting>,
    /// What the files hold that are named, by path as named.
    pub contents: BTreeMap<String, NamedFile>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag without dashes, or the field's dotted path.
    pub name: String,
    /// What it is set to.
    pub value: String,
    /// The line it stands on, where lines mean something.
    pub line: Option<usize>,
}

/// What a named file holds.
#[derive(Clone, Debug)]
pub enum NamedFile {
    /// It is not there.
    Missing,
    /// It is on the host, whose files are not all here.
    Elsewhere,
    /// It is here.
    Found {
        /// The file, relative to DIR.
        file: PathBuf,
        /// Its certificates.
        certificates: Arc<Vec<CertView>>,
        /// Its private key.
        key: FoundKey,
        /// Its public keys.
        public: Vec<Vec<u8>>,
    },
}

impl Told {
    /// What a setting is set to; the last one counts, as in Go.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.iter().rev().find(|s| s.name == name).map(|s| s.value.as_str())
    }

    /// The same, nothing for an empty text.
    pub fn set(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether a setting is true.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| matches!(v, "true" | "True" | "TRUE" | "1" | "t" | "T"))
    }

    /// Where a listener of this program is by what it is told: the address, where it is one of several, and the
    /// port. Nothing where it is told not to listen there with TLS.
    pub fn listens(&self, listener: &Listener) -> Vec<(Option<IpAddr>, u16)> {
        // What stands for every address is none to dial.
        let address = |text: &str| text.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
        let bound = listener.address_setting.and_then(|name| address(self.set(name)?));
        let Some(told) = self.set(listener.port_setting) else {
            return vec![(bound, listener.port)];
        };
        if let Ok(port) = told.parse::<u16>() {
            return (port != 0).then_some((bound, port)).into_iter().collect();
        }
        if let Ok(socket) = told.parse::<SocketAddr>() {
            return vec![(address(&socket.ip().to_string()), socket.port())];
        }
        let urls = told.split(',').filter(|url| url.trim().starts_with("https://"));
        let of_url = |url: &str| {
            let host = url::host_of(url)?;
            Some((address(&host), url::port_of(url)?))
        };
        urls.filter_map(|url| of_url(url.trim())).collect()
    }

    /// What a row's setting is called in this file, if this program reads it from there.
    pub fn reads(&self, row: &Use) -> Option<&'static str> {
        let name = if self.is_config { row.field } else { row.flag };
        let twin = || match self.is_config {
            true => None,
            false => row.field.and_then(known::twin),
        };
        name.or_else(twin).filter(|_| row.component == self.component)
    }

    fn finding(&self, code: Code, what: String) -> Finding {
        Finding::new(code, self.component, what).file(&self.file)
    }

    fn show(&self, name: &str) -> String {
        match (self.is_config, self.settings.iter().rev().find(|s| s.name == name)) {
            (false, _) => format!("--{}", shown::name(name)),
            (true, Some(Setting { line: Some(line), .. })) => format!("{name} (line {line})"),
            (true, _) => name.to_owned(),
        }
    }
}

/// Everything wrong with what components are told.
pub fn findings(evidence: &Evidence<'_>, all: &[Told]) -> Vec<Finding> {
    let mut found = Vec::new();
    for told in all {
        if !told.is_config {
            known::findings(told, &mut found);
        }
        for row in USES {
            if let Some(name) = told.reads(row)
                && let Some(path) = told.set(name)
            {
                named(evidence, told, row, name, path, &mut found);
            }
        }
        if !told.is_partial {
            pairs(told, &mut found);
        }
        secure::findings(told, all, &mut found);
    }
    found
}

/// A setting that names a file: that the file is what it must be.
fn named(
    evidence: &Evidence<'_>,
    told: &Told,
    row: &Use,
    name: &str,
    path: &str,
    found: &mut Vec<Finding>,
) {
    let (file, certificates) = match told.contents.get(path) {
        Some(NamedFile::Missing) => {
            let what =
                format!("{} names {}, which is not there", told.show(name), shown::path(path));
            found.push(told.finding(Code::FlagFileMissing, what));
            return;
        }
        Some(NamedFile::Found { file, certificates, .. }) => (file, certificates),
        Some(NamedFile::Elsewhere) | None => return,
    };
    match row.value {
        Value::Bundle(id) => trust(evidence, told, name, id, (file, certificates), found),
        Value::Cert(id) => {
            let spec = id.spec();
            match spec.is_ca() {
                true => signing(evidence, told, name, id, (file, certificates), found),
                false => leaf(evidence, told, name, spec, (file, certificates), found),
            }
        }
        _ => {}
    }
}

type File<'a> = (&'a PathBuf, &'a Arc<Vec<CertView>>);

/// Trust: the CA of this role, and no CA of another.
fn trust(
    evidence: &Evidence<'_>,
    told: &Told,
    name: &str,
    id: CertId,
    (file, certificates): File<'_>,
    found: &mut Vec<Finding>,
) {
    let root = std::path::Path::new("");
    let holds = |index: usize| {
        evidence.held()[index]
            .certificate()
            .is_some_and(|ca| certificates.iter().any(|c| c.public_key == ca.public_key))
    };
    let Some(expected) = evidence.find(id, root) else { return };
    // Nothing to compare with.
    if evidence.held()[expected].certificate().is_none() {
        return;
    }
    let others: Vec<String> = (0..evidence.layout.instances.len())
        .filter(|i| evidence.layout.instances[*i].spec.is_ca() && *i != expected)
        .filter(|i| evidence.issuer(expected) != Some(*i) && holds(*i))
        .map(|i| evidence.label(i))
        .collect();
    let what = match (holds(expected), others.as_slice()) {
        (true, []) => return,
        (true, others) => format!(
            "{} names {}, which trusts {} besides {id}",
            told.show(name),
            file.display(),
            others.join(", ")
        ),
        (false, []) => {
            format!("{} names {}, which does not hold {id}", told.show(name), file.display())
        }
        (false, others) => format!(
            "{} names {}, which is {}, not {id}",
            told.show(name),
            file.display(),
            others.join(", ")
        ),
    };
    found.push(told.finding(Code::TrustWrongCa, what).file(file));
}

/// Signing: the CA's one certificate.
fn signing(
    evidence: &Evidence<'_>,
    told: &Told,
    name: &str,
    id: CertId,
    (file, certificates): File<'_>,
    found: &mut Vec<Finding>,
) {
    if certificates.len() > 1 {
        let what = format!(
            "{} names {}, which holds {} certificates; it must hold one",
            told.show(name),
            file.display(),
            certificates.len()
        );
        found.push(told.finding(Code::SigningBundle, what).file(file));
        return;
    }
    // Which of two bundles with one certificate it is cannot be told apart, but the next rotation will.
    let is_bundle = evidence.observed.trust.values().any(|t| t.is_bundle && t.file == *file);
    if is_bundle {
        let what = format!(
            "{} names the trust bundle {}, which holds several certificates during a CA rotation",
            told.show(name),
            file.display()
        );
        found.push(told.finding(Code::SigningBundle, what).file(file));
    }
    let active = evidence
        .find(id, std::path::Path::new(""))
        .and_then(|index| evidence.held()[index].certificate());
    if let (Some(active), Some(ca)) = (active, certificates.first())
        && active.public_key != ca.public_key
    {
        let what = format!("{} names {}, which is not {id}", told.show(name), file.display());
        found.push(told.finding(Code::TrustWrongCa, what).file(file));
    }
}

/// A leaf: issued for this role, with its usage.
fn leaf(
    evidence: &Evidence<'_>,
    told: &Told,
    name: &str,
    spec: &'static CertSpec,
    (file, certificates): File<'_>,
    found: &mut Vec<Finding>,
) {
    let Some(leaf) = certificates.first() else { return };
    let ca = spec
        .issuer_id()
        .and_then(|id| evidence.find(id, std::path::Path::new("")))
        .and_then(|index| evidence.held()[index].certificate());
    let mut wrong = Vec::new();
    if let Some(ca) = ca
        && leaf.issuer != ca.profile.subject
    {
        let should = ca.profile.subject.to_string();
        wrong.push(format!("is issued by {}, not by {should}", leaf.issuer));
    }
    let usages = &leaf.profile.extended_usages;
    let lacks = |usage| !usages.is_empty() && !usages.contains(&usage);
    match spec.purpose {
        Purpose::Client if lacks(ExtendedUsage::ClientAuth) => wrong.push("is no client's".into()),
        Purpose::Server | Purpose::ServerAndClient if lacks(ExtendedUsage::ServerAuth) => {
            wrong.push("is no server's".into());
        }
        _ => {}
    }
    if !wrong.is_empty() {
        let what =
            format!("{} names {}, which {}", told.show(name), file.display(), wrong.join(" and "));
        found.push(told.finding(Code::CertificateWrong, what).file(file));
    }
}

/// Certificate and key, and the two halves of a key pair.
fn pairs(told: &Told, found: &mut Vec<Finding>) {
    for row in USES {
        let Some(name) = told.reads(row) else { continue };
        let other = USES.iter().find_map(|other| match (row.value, other.value) {
            (Value::Cert(a), Value::Key(b)) if a == b => told.reads(other),
            (Value::PrivateKey(a), Value::PublicKey(b)) if a == b => told.reads(other),
            _ => None,
        });
        let Some(other) = other else { continue };
        match (told.set(name), told.set(other)) {
            (Some(_), None) | (None, Some(_)) => {
                let (has, lacks) = match told.set(name) {
                    Some(_) => (name, other),
                    None => (other, name),
                };
                // Keys to verify with may stand alone.
                if matches!(row.value, Value::Cert(_)) {
                    let what = format!("{} is set and {lacks} is not", told.show(has));
                    found.push(told.finding(Code::FlagPair, what));
                }
            }
            (Some(a), Some(b)) => belong(told, (name, a), (other, b), found),
            (None, None) => {}
        }
    }
}

fn belong(told: &Told, a: (&str, &str), b: (&str, &str), found: &mut Vec<Finding>) {
    let (Some(one), Some(other)) = (told.contents.get(a.1), told.contents.get(b.1)) else { return };
    let (
        NamedFile::Found { file, certificates, key: own, .. },
        NamedFile::Found { file: second, key, public, .. },
    ) = (one, other)
    else {
        return;
    };
    let fits = match (certificates.first(), own, key) {
        (Some(cert), _, FoundKey::Present(key)) => cert.public_key == key.public_key,
        (None, FoundKey::Present(own), _) => public.contains(&own.public_key),
        (Some(_), _, FoundKey::Missing) => false,
        _ => return,
    };
    if !fits {
        let what = format!(
            "{} ({}) and {} ({}) do not belong together",
            told.show(a.0),
            file.display(),
            told.show(b.0),
            second.display()
        );
        found.push(told.finding(Code::FlagPair, what).file(file).file(second));
    }
}
