//! Certificates that no file of the PKI shows, as kubelets' are that come through the certificates API. Where one is on
//! this machine, or was brought here, it can be said who signed it; of all others the audit log knows no more than that
//! they were used.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::{
    model::{
        authority::Generations,
        cluster::Cluster,
        layout::{KUBELET_DIR, KUBELET_FILES, Layout, kubelet_dir},
        observed::{CertView, Piece},
        shown::{quoted, with_causes},
    },
    ops::{
        deployed,
        observe::{Observation, view},
        read,
    },
    pki::inspect::{self, Certificate},
};

use super::audit::Offender;

/// What was found out about them.
#[derive(Debug, Default)]
pub struct Unseen {
    /// The fingerprints of those that the generation that issues now signed.
    pub right: Vec<String>,
    /// What stands against dropping another generation.
    pub refusals: Vec<String>,
}

/// What this machine's kubelet got itself, those of hosts that `certkit deploy` was at, and what was brought in files, judged by who signed it. Those
/// that files of the PKI show, by their fingerprints, are looked at elsewhere.
pub fn judge(
    layout: &Layout<'_>,
    observation: &Observation,
    index: usize,
    dir: &Path,
    brought: &[PathBuf],
    shown: &BTreeSet<String>,
) -> Unseen {
    let mut unseen = Unseen::default();
    let generations = Generations::of(layout, &observation.observed, index);
    let told = |certificate: &CertView| shown.contains(&certificate.fingerprint);
    let id = layout.instances[index].spec.id;
    let mut one = |file: &Path, certificate: &Certificate, is_brought: bool| {
        let by = |ca: &CertView| {
            Certificate::from_der(ca.der.clone())
                .is_ok_and(|ca| certificate.issuer() == ca.subject() && certificate.signed_by(&ca))
        };
        let file = file.display();
        if generations.active.is_some_and(by) {
            unseen.right.push(certificate.fingerprint_hex());
        } else if let Some(old) = generations.others().chain(generations.previous).find(|ca| by(ca))
        {
            if is_brought || !told(&view(certificate)) {
                unseen
                    .refusals
                    .push(format!("{id}: {file} was signed by {}: {RENEW}", old.profile.subject));
            }
        } else if is_brought {
            unseen.refusals.push(format!(
                "{file}: {} was signed by {}, which is no generation of {id}",
                quoted(&certificate.subject().to_string()),
                quoted(&certificate.issuer().to_string())
            ));
        }
    };
    let folder = kubelet_dir(dir);
    for path in folder.iter().flat_map(|dir| KUBELET_FILES.iter().map(|(file, _)| dir.join(file))) {
        if let Piece::Present(content) = read::file(&path) {
            // What the kubelet made itself, or cannot read itself, is for `check-expiration` to tell.
            let all = inspect::from_pem(&content).unwrap_or_default();
            all.first().into_iter().for_each(|certificate| one(&path, certificate, false));
        }
    }
    // What each host's kubelet had when somebody was last there.
    for (host, deployed) in deployed::each(dir) {
        for own in &deployed.own {
            let path = PathBuf::from(format!("{host}:{}", own.file.display()));
            let all = inspect::from_pem(own.certificate.as_bytes()).unwrap_or_default();
            all.first().into_iter().for_each(|certificate| one(&path, certificate, false));
        }
    }
    let mut wrong = Vec::new();
    for path in brought {
        let content = match read::named(path, read::LIMIT) {
            Piece::Present(content) => content,
            Piece::Missing => {
                wrong.push(format!("{}: there is no such file", path.display()));
                continue;
            }
            Piece::Bad(why) => {
                wrong.push(format!("{}: {why}", path.display()));
                continue;
            }
        };
        match inspect::from_pem(&content) {
            Ok(all) if !all.is_empty() => {
                all.iter().for_each(|certificate| one(path, certificate, true));
            }
            Ok(_) => wrong.push(format!("{}: holds no certificate", path.display())),
            Err(error) => wrong.push(format!("{}: {}", path.display(), with_causes(&error))),
        }
    }
    unseen.refusals.extend(wrong);
    unseen
}

/// How a kubelet gets another certificate. It asks for one when the old one is old, not when its CA is.
const RENEW: &str = "the kubelet asks for another one only when this one is old; to have it ask at once, remove this \
                     file and its kubeconfig, and restart it with a bootstrap kubeconfig; where it is on another host, \
                     `certkit deploy --check` looks again";

/// What is said of somebody who used a certificate that is none of those known.
pub fn told(cluster: &Cluster, offender: &Offender) -> String {
    let Offender { user, address, agent, fingerprint, last } = offender;
    let node = user
        .strip_prefix("system:node:")
        .filter(|name| cluster.hosts.iter().any(|host| host.name.as_ref() == *name));
    let who = format!("{} from {} ({})", quoted(user), quoted(address), quoted(agent));
    // No secret, though as long as one.
    let is_digest = fingerprint.len() == 64 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
    let digest = if is_digest { fingerprint.clone() } else { quoted(fingerprint).to_string() };
    let when = format!("SHA-256 {digest}, last {}", quoted(last));
    match node {
        Some(node) => format!(
            "{who}: the kubelet of {node}, which is declared here, used a certificate that no file here shows, so that \
             nobody can say here which generation signed it, {when}: bring {KUBELET_DIR}/{} of {node} without its key \
             and give it with --certificate",
            KUBELET_FILES[0].0
        ),
        None => format!(
            "{who} used a certificate that is none of the generation that issues now, {when}"
        ),
    }
}
