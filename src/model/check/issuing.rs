//! Issuing: who signed what, with which numbers, for how long.

use std::{collections::HashMap, path::PathBuf};

use super::{evidence::Evidence, finding::Finding};
use crate::model::observed::{CertView, Signer};
use crate::model::{algorithm::KeyAlgorithm, code::Code};

/// Everything wrong with how certificates were issued.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for index in 0..evidence.held().len() {
        if let Some(certificate) = evidence.held()[index].certificate() {
            signer(evidence, index, certificate, &mut found);
            strength(evidence, index, certificate, &mut found);
        }
    }
    serials(evidence, &mut found);
    found
}

fn signer(evidence: &Evidence<'_>, index: usize, certificate: &CertView, found: &mut Vec<Finding>) {
    let held = &evidence.held()[index];
    let finding = |code, what: String| {
        Finding::new(code, evidence.label(index), what).file(held.place.cert()).about(index)
    };
    let expected = evidence.issuer(index);
    let file = expected.map(|i| evidence.held()[i].place.cert().display().to_string());
    let file = file.unwrap_or_default();
    let issuer = &certificate.issuer;
    match held.signer {
        Some(Signer::Other(other)) => {
            let what = format!(
                "it is signed by {} ({}), not by {file}",
                evidence.label(other),
                evidence.held()[other].place.cert().display(),
            );
            found.push(finding(Code::WrongCa, what).about(other));
        }
        Some(Signer::Itself) => {
            found
                .push(finding(Code::ChainBroken, format!("it is signed by itself, not by {file}")));
        }
        Some(Signer::Namesake) => found.push(finding(
            Code::ChainBroken,
            format!("its issuer has the name of {file} ({issuer}) but another key"),
        )),
        Some(Signer::NameDiffers) => found.push(finding(
            Code::ChainBroken,
            format!("its issuer's name is not that of {file} byte for byte, which Go compares"),
        )),
        Some(Signer::Unknown) => found.push(finding(
            Code::ChainBroken,
            format!("it is signed by {issuer}, which is not here, instead of {file}"),
        )),
        Some(Signer::Expected | Signer::Trusted | Signer::Presumed | Signer::NoCa) | None => {}
    }
    let Some(ca) = expected.and_then(|i| evidence.held()[i].certificate()) else { return };
    let (end, limit) = (certificate.validity.not_after, ca.validity.not_after);
    if held.signer == Some(Signer::Expected) && end > limit && end >= evidence.at {
        let what = format!("it says it is valid until {end}, but {file} ends {limit}");
        found.push(finding(Code::OutlivesCa, what));
    }
}

fn strength(
    evidence: &Evidence<'_>,
    index: usize,
    certificate: &CertView,
    found: &mut Vec<Finding>,
) {
    let held = &evidence.held()[index];
    let finding = |code, what: String| {
        Finding::new(code, evidence.label(index), what).file(held.place.cert()).about(index)
    };
    // Of its own signature a root needs nothing.
    let is_root = certificate.self_signed && evidence.layout.instances[index].issuer.is_none();
    let lower = certificate.signature.to_ascii_lowercase();
    if !is_root && (lower.contains("sha1") || lower.contains("md5")) {
        let what = format!("it is signed with {}", certificate.signature);
        found.push(finding(Code::WeakSignature, what));
    }
    let said = matches!(held.key, crate::model::observed::FoundKey::Weak(_));
    if let Some(KeyAlgorithm::Rsa(bits)) = certificate.algorithm
        && bits < 2048
        && !said
    {
        found.push(finding(Code::WeakKey, format!("its RSA key has {bits} bits only")));
    }
    for fault in &certificate.faults {
        let code = match fault.contains("negative") {
            true => Code::SerialNegative,
            false => Code::Malformed,
        };
        // Kubernetes' own older CAs have it.
        let zero_root = fault.contains("number is zero") && is_root;
        if !zero_root {
            found.push(finding(code, fault.clone()));
        }
    }
}

/// Issuer and serial number name one certificate only.
fn serials(evidence: &Evidence<'_>, found: &mut Vec<Finding>) {
    found.extend(Serials::default().add(evidence));
}

/// Which certificates have which numbers, of all parts of a cluster that were looked at.
#[derive(Debug, Default)]
pub struct Serials {
    issuers: HashMap<Vec<u8>, usize>,
    /// The first one, by issuer and number.
    seen: HashMap<(usize, String), Numbered>,
    /// How many parts were looked at.
    parts: usize,
}

/// A certificate with its number.
#[derive(Debug)]
struct Numbered {
    file: PathBuf,
    fingerprint: String,
    /// The part it is of, and its index there.
    place: (usize, usize),
}

impl Serials {
    /// Adds what was found, and tells whose number another certificate had before.
    pub fn add(&mut self, evidence: &Evidence<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (index, held) in evidence.held().iter().enumerate() {
            let Some(certificate) = held.certificate() else { continue };
            let next = self.issuers.len();
            let issuer = match self.issuers.get(certificate.issuer.der()) {
                Some(issuer) => *issuer,
                None => *self.issuers.entry(certificate.issuer.der().to_vec()).or_insert(next),
            };
            let number = (issuer, certificate.serial.clone());
            match self.seen.get(&number) {
                None => {
                    let file = held.place.cert().clone();
                    let fingerprint = certificate.fingerprint.clone();
                    let place = (self.parts, index);
                    self.seen.insert(number, Numbered { file, fingerprint, place });
                }
                Some(first) if first.fingerprint == certificate.fingerprint => {}
                Some(Numbered { file, place: (part, other), .. }) => {
                    let serial = &certificate.serial;
                    let what =
                        format!("it has the serial number of {} too: {serial}", file.display());
                    let finding = Finding::new(Code::SerialRepeated, evidence.label(index), what);
                    let finding = finding.file(held.place.cert()).file(file).about(index);
                    found.push(match *part == self.parts {
                        true => finding.about(*other),
                        false => finding,
                    });
                }
            }
        }
        self.parts += 1;
        found
    }
}
