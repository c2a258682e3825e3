//! Pieces: there or not, readable or not, key and certificate belonging together.

use super::{evidence::Evidence, finding::Finding};
use crate::model::{
    catalogue::{Scope, USES, Value},
    observed::Piece,
};
use crate::model::{
    code::{Code, Severity},
    observed::FoundKey,
};

/// What gathering says when it may not read a file.
pub const FORBIDDEN: &str = "cannot be read";

/// Everything wrong with pieces.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for index in 0..evidence.held().len() {
        certificate(evidence, index, &mut found);
        key(evidence, index, &mut found);
    }
    key_pairs(evidence, &mut found);
    found
}

fn certificate(evidence: &Evidence<'_>, index: usize, found: &mut Vec<Finding>) {
    let (held, label) = (&evidence.held()[index], evidence.label(index));
    if let Some(kubeconfig) = &held.kubeconfig {
        match &kubeconfig.state {
            Piece::Bad(why) => {
                found.push(bad(&label, why).file(&kubeconfig.file).about(index));
                return;
            }
            Piece::Missing => {
                if evidence.declared() || !held.is_absent() {
                    let what = "the kubeconfig is not there";
                    let finding = Finding::new(Code::Missing, &label, what);
                    found.push(finding.file(&kubeconfig.file).about(index));
                }
                return;
            }
            // What it names is on another machine: nothing can be said about it here.
            Piece::Present(()) if kubeconfig.elsewhere.is_some() => return,
            Piece::Present(()) => {}
        }
        if let Piece::Bad(why) = &kubeconfig.authorities {
            let file = kubeconfig.authority_file.as_ref().unwrap_or(&kubeconfig.file);
            found.push(bad(&label, &format!("what it trusts {why}")).file(file).about(index));
        } else if kubeconfig.authorities.is_missing() && !kubeconfig.insecure {
            let file = kubeconfig.authority_file.as_ref().unwrap_or(&kubeconfig.file);
            let what = "the CA certificate that the kubeconfig names is not there";
            found.push(Finding::new(Code::Missing, &label, what).file(file).about(index));
        }
    }
    match &held.certificates {
        Piece::Bad(why) => found.push(bad(&label, why).file(held.place.cert()).about(index)),
        Piece::Missing if evidence.declared() || !held.is_absent() => {
            let instance = &evidence.layout.instances[index];
            let what = match held.key {
                FoundKey::Missing if instance.key_on_host => {
                    "the certificate is not there: its host, which makes its key, has not asked for it"
                }
                FoundKey::Missing => "the certificate is not there",
                _ => "the key is there and its certificate is not",
            };
            let finding = Finding::new(Code::Missing, &label, what);
            let finding = finding.file(held.place.cert()).about(index);
            found.push(match instance.key_on_host {
                true => finding.hint("certkit deploy"),
                false => finding,
            });
        }
        Piece::Missing | Piece::Present(_) => {}
    }
}

fn bad(label: &str, why: &str) -> Finding {
    let code = if why.starts_with(FORBIDDEN) { Code::Unreadable } else { Code::Damaged };
    Finding::new(code, label, why)
}

fn key(evidence: &Evidence<'_>, index: usize, found: &mut Vec<Finding>) {
    let (held, label) = (&evidence.held()[index], evidence.label(index));
    let spec = evidence.layout.instances[index].spec;
    let finding =
        |code, what: String| Finding::new(code, &label, what).file(held.place.key()).about(index);
    match (&held.key, held.certificate()) {
        (FoundKey::Missing, Some(_)) if spec.is_ca() => {
            // A root over the CAs is meant to be offline.
            if spec.scope == Scope::Cluster {
                let what = "its key is not here: nothing can be signed with it".to_owned();
                found.push(finding(Code::ExternalCa, what));
            }
        }
        (FoundKey::Missing, Some(_)) => {
            let elsewhere = held.kubeconfig.as_ref().is_some_and(|k| k.elsewhere.is_some());
            if !elsewhere {
                let what = format!("the key of {} is not there", held.place.cert().display());
                found.push(finding(Code::KeyMissing, what));
            }
        }
        (FoundKey::Sealed(how) | FoundKey::Encrypted(how), Some(_)) if spec.is_ca() => {
            let reader = USES.iter().find(|row| row.value == Value::Key(spec.id));
            let (severity, what, hint) = match reader.map(|row| (row.component, row.flag)) {
                Some((component, flag)) => (
                    Severity::Warning,
                    format!(
                        "{how}: {component} cannot read it, and does not start where \
                         --{} names it",
                        flag.unwrap_or_default()
                    ),
                    None,
                ),
                None => (
                    Severity::Info,
                    format!("{how}: whether it belongs to the certificate shows when it signs"),
                    Some("nothing; commands that sign take --ca-key-password-file FILE"),
                ),
            };
            let finding = finding(Code::KeyEncrypted, what).severity(severity);
            found.push(match hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            });
        }
        (FoundKey::Sealed(how) | FoundKey::Encrypted(how), _) => {
            found.push(finding(Code::KeyEncrypted, how.clone()));
        }
        (FoundKey::Weak(why), _) => found.push(finding(Code::WeakKey, why.clone())),
        (FoundKey::Bad(why), _) => found.push(finding(Code::Damaged, why.clone())),
        (FoundKey::Unreadable(why), _) => found.push(finding(Code::Unreadable, why.clone())),
        (FoundKey::Present(key), Some(certificate)) if key.public_key != certificate.public_key => {
            let what = format!("the key does not belong to {}", held.place.cert().display());
            found.push(finding(Code::KeyMismatch, what).file(held.place.cert()));
        }
        (
            FoundKey::Missing
            | FoundKey::OnHost(_)
            | FoundKey::Present(_)
            | FoundKey::Unsupported(_),
            _,
        ) => {}
    }
}

fn key_pairs(evidence: &Evidence<'_>, found: &mut Vec<Finding>) {
    for pair in &evidence.observed.key_pairs {
        let finding = |code, what: String| Finding::new(code, pair.id, what);
        match &pair.private {
            FoundKey::Bad(why) => {
                found.push(finding(Code::Damaged, why.clone()).file(&pair.private_file));
            }
            FoundKey::Sealed(how) | FoundKey::Encrypted(how) => {
                found.push(finding(Code::KeyEncrypted, how.clone()).file(&pair.private_file));
            }
            FoundKey::Weak(why) => {
                found.push(finding(Code::WeakKey, why.clone()).file(&pair.private_file));
            }
            FoundKey::Unreadable(why) => {
                found.push(finding(Code::Unreadable, why.clone()).file(&pair.private_file));
            }
            FoundKey::OnHost(_) | FoundKey::Unsupported(_) => {}
            FoundKey::Missing => {
                if evidence.declared() || !pair.public.is_missing() {
                    let what = "the private key is not there".to_owned();
                    let severity = match evidence.declared() {
                        true => Severity::Critical,
                        // A host that only verifies needs the public half alone.
                        false => Severity::Info,
                    };
                    let finding = finding(Code::Missing, what).severity(severity);
                    found.push(finding.file(&pair.private_file));
                }
            }
            FoundKey::Present(key) => match &pair.public {
                Piece::Present(all) if all.contains(&key.public_key) => {}
                Piece::Present(_) => {
                    let what = format!(
                        "it does not hold the public key of {}",
                        pair.private_file.display()
                    );
                    let finding = finding(Code::SaMismatch, what).file(&pair.public_file);
                    found.push(finding.file(&pair.private_file));
                }
                Piece::Missing => {
                    let what = "the public key is not there".to_owned();
                    found.push(finding(Code::Missing, what).file(&pair.public_file));
                }
                Piece::Bad(_) => {}
            },
        }
        if let Piece::Bad(why) = &pair.public {
            found.push(bad(pair.id, why).file(&pair.public_file));
        }
    }
}
