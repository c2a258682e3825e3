//! What a declaration of a tree would not say as the tree is: field by field, with what was found, what would be
//! declared, and what to do.

use std::path::{Path, PathBuf};

use crate::model::{
    cluster::Cluster,
    layout::{Instance, Layout},
    observed::{CertView, FoundKey, Held, Observed, Piece},
    plan::{
        Action, Contradiction, Plan, Step,
        difference::{Field, fields},
    },
    profile::Kind,
    timestamp::Timestamp,
    usage::KeyUsages,
};

/// One field of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// The file, relative to DIR.
    pub file: PathBuf,
    /// Which of its fields: RFC 5280's name, a kubeconfig's, or what is wrong with the file as a whole.
    pub field: String,
    /// What is there.
    pub found: String,
    /// What the declaration would have there.
    pub declared: String,
    /// What to do.
    pub remedy: String,
}

/// What stands against declaring `cluster` for what is in place: what its plans would change or refuse, time left
/// aside.
pub fn differences(
    layout: &Layout<'_>,
    observed: &Observed,
    completed: &Plan,
    now: Timestamp,
) -> Vec<Deviation> {
    let mut found = Found { layout, observed, now, rows: Vec::new() };
    for index in 0..layout.instances.len() {
        found.instance(index);
    }
    found.derived();
    found.key_pairs();
    completed.contradictions.iter().for_each(|one| found.contradiction(one));
    if completed.contradictions.is_empty() {
        completed.changes().for_each(|step| found.step(step));
    }
    found.rows
}

struct Found<'a> {
    layout: &'a Layout<'a>,
    observed: &'a Observed,
    now: Timestamp,
    rows: Vec<Deviation>,
}

const RESTORE: &str = "restore the one that is wrong from a backup";

impl Found<'_> {
    fn row(
        &mut self,
        file: &Path,
        field: &str,
        found: impl Into<String>,
        declared: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.rows.push(Deviation {
            file: file.to_path_buf(),
            field: field.to_owned(),
            found: found.into(),
            declared: declared.into(),
            remedy: remedy.into(),
        });
    }

    fn instance(&mut self, index: usize) {
        let (instance, held) = (&self.layout.instances[index], &self.observed.instances[index]);
        let (cert, key) = (held.place.cert(), held.place.key());
        if let Some((file, why)) = held.fault() {
            let field = match &held.certificates {
                _ if held.kubeconfig.as_ref().is_some_and(|view| view.file == *file) => {
                    "kubeconfig"
                }
                Piece::Bad(_) => "certificate",
                _ => "key",
            };
            return self.unreadable(file, field, why);
        }
        let Some(certificate) = held.certificate() else {
            if instance.spec.is_ca() && !held.key.is_missing() {
                let remedy = format!("restore it, or move {} away, too", key.display());
                let declared = format!("that of {}", key.display());
                self.row(cert, "certificate", "missing", declared, remedy);
            }
            return;
        };
        if !held.key.is_missing() && !held.key.is_of(certificate) {
            let declared = format!("the key of {}", cert.display());
            self.row(key, "key", "another certificate's key", declared, RESTORE);
        }
        match instance.spec.is_ca() {
            true => self.authority(cert, certificate),
            false => self.leaf(index, instance, held, certificate),
        }
        self.trust(index, instance, held);
    }

    fn unreadable(&mut self, file: &Path, field: &str, why: &str) {
        let remedy = "restore it from a backup, or move it away";
        self.row(file, field, why, "one that can be read", remedy);
    }

    fn authority(&mut self, file: &Path, certificate: &CertView) {
        let another = "put the CA's certificate in its place, or move it and its key away";
        let usages = certificate.profile.key_usages;
        if !matches!(certificate.profile.kind, Kind::Ca { .. }) {
            self.row(file, "basicConstraints", "a leaf", "a CA", another);
        } else if !usages.contains(KeyUsages::CERT_SIGN) && usages != KeyUsages::default() {
            let names: Vec<String> = usages.names().map(|name| name.to_string()).collect();
            self.row(file, "keyUsage", names.join(", "), "with keyCertSign", another);
        }
        let validity = certificate.validity;
        if validity.not_after < self.now {
            let found = validity.not_after.to_string();
            let remedy = "replace the CA: what it signs nobody accepts";
            self.row(file, "notAfter", found, "a time to come", remedy);
        } else if validity.not_before > self.now {
            let found = validity.not_before.to_string();
            self.row(file, "notBefore", found, "a time that has come", "set the clock, or wait");
        }
    }

    fn leaf(
        &mut self,
        index: usize,
        instance: &Instance<'_>,
        observed: &Held,
        certificate: &CertView,
    ) {
        let cluster: &Cluster = self.layout.cluster;
        let file = observed.place.cert();
        let above = self.layout.issuer(index).map(|above| &self.observed.instances[above]);
        for one in fields(instance, cluster, observed) {
            let (declared, remedy) = match (one.field, above) {
                (Field::Issuer, Some(above)) => {
                    let by = above.place.cert().display();
                    let name = above.certificate().map(|ca| ca.profile.subject.to_string());
                    (
                        format!("{by} ({})", name.unwrap_or_else(|| "missing".to_owned())),
                        format!(
                            "put the CA that signed it into {by}, or have that CA sign it: certkit rotate {}",
                            instance.spec.id
                        ),
                    )
                }
                _ => (
                    one.declared.clone().unwrap_or_else(|| "not there".to_owned()),
                    format!("certkit rotate {} would change it so", instance.spec.id),
                ),
            };
            let found = one.found.unwrap_or_else(|| "not there".to_owned());
            self.row(file, one.field.name(), found, declared, remedy);
        }
        let algorithm = cluster.algorithm_of(instance.spec.id.name());
        if certificate.algorithm != Some(algorithm) {
            let found = match certificate.algorithm {
                Some(found) => found.to_string(),
                None => "one that certkit does not know".to_owned(),
            };
            let remedy = format!("certkit rotate {} would change it so", instance.spec.id);
            let field = Field::Algorithm.name();
            self.row(file, field, found, algorithm.to_string(), remedy);
        }
        if observed.key.is_missing() {
            let remedy = "put its key in its place, or move the certificate away";
            self.row(observed.place.key(), "key", "missing", "there", remedy);
        }
    }

    /// What a kubeconfig trusts.
    fn trust(&mut self, index: usize, instance: &Instance<'_>, held: &Held) {
        let Some(view) = held.readable_kubeconfig() else { return };
        let file = &view.file;
        let field = match view.authority_file {
            Some(_) => "certificate-authority",
            None => "certificate-authority-data",
        };
        let Some(above) = self.layout.issuer(index).map(|above| &self.observed.instances[above])
        else {
            return;
        };
        let Some(ca) = above.certificate() else { return };
        let declared = format!("{} ({})", above.place.cert().display(), ca.profile.subject);
        match &view.authorities {
            Piece::Present(trusted) if trusted.iter().all(|t| t.fingerprint != ca.fingerprint) => {
                let names: Vec<String> =
                    trusted.iter().map(|one| one.profile.subject.to_string()).collect();
                let remedy = format!(
                    "certkit rotate {} adds what is trusted here; or restore the one that is wrong",
                    instance.spec.id
                );
                self.row(file, field, names.join(", "), declared, remedy);
            }
            Piece::Bad(why) => self.row(file, field, why.clone(), declared, RESTORE),
            Piece::Present(_) | Piece::Missing => {}
        }
    }

    fn derived(&mut self) {
        for (derived, all) in self.layout.derived.iter().zip(&self.observed.derived) {
            let held = &self.observed.instances[derived.authority];
            match (all, held.certificate()) {
                (Piece::Present(all), Some(ca))
                    if all.iter().all(|one| one.fingerprint != ca.fingerprint) =>
                {
                    let names: Vec<String> =
                        all.iter().map(|one| one.profile.subject.to_string()).collect();
                    let declared = format!("with {}", held.place.cert().display());
                    self.row(&derived.path, "certificates", names.join(", "), declared, RESTORE);
                }
                (Piece::Bad(why), _) => self.unreadable(&derived.path, "certificates", why),
                _ => {}
            }
        }
    }

    fn key_pairs(&mut self) {
        for pair in &self.observed.key_pairs {
            let (private, public) = (&pair.private_file, &pair.public_file);
            match (&pair.private, &pair.public) {
                (key, _) if key.fault().is_some() => {
                    self.unreadable(private, "key", key.fault().unwrap_or_default());
                }
                (_, Piece::Bad(why)) => self.unreadable(public, "public key", why),
                (FoundKey::Missing, Piece::Present(_)) => {
                    let declared = format!("the private key of {}", public.display());
                    let remedy = "restore it, or move the public key away, too: every token becomes invalid then";
                    self.row(private, "key", "missing", declared, remedy);
                }
                (FoundKey::Present(key), Piece::Present(all)) if !all.contains(&key.public_key) => {
                    let declared = format!("the public key of {}", private.display());
                    self.row(public, "public key", "another's", declared, RESTORE);
                }
                _ => {}
            }
        }
    }

    /// What `init` would make.
    fn step(&mut self, step: &Step) {
        let Some(file) = step.files.first().filter(|file| !self.is_told(file)) else { return };
        if matches!(step.action, Action::Declare(_)) {
            return;
        }
        let remedy = "certkit init would write it; put it in order, or move it away";
        self.row(file, "file", step.reason.to_string(), "as certkit writes it", remedy);
    }

    /// What `init` would refuse, unless one of its files was told of field by field.
    fn contradiction(&mut self, one: &Contradiction) {
        if one.files.iter().any(|file| self.is_told(file)) {
            return;
        }
        let file = one.files.first().cloned().unwrap_or_default();
        self.row(&file, "file", one.what.clone(), "none of that", one.hint.clone());
    }

    fn is_told(&self, file: &Path) -> bool {
        self.rows.iter().any(|row| row.file == file)
    }
}
