//! How a certificate differs from what is declared.

use std::{collections::BTreeSet, fmt};

use crate::model::{
    algorithm::KeyAlgorithm,
    cluster::Cluster,
    layout::Instance,
    observed::{CertView, Held},
    profile::{Kind, Profile},
    resolve,
    usage::{ExtendedUsage, KeyUsages},
};

/// A field in which a certificate can differ from what is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The kind and size of its key.
    Algorithm,
    /// Whether it is a CA.
    BasicConstraints,
    /// What it may be used for in TLS.
    ExtendedKeyUsage,
    /// Who signed it.
    Issuer,
    /// What its key may do.
    KeyUsage,
    /// Whom it names.
    Subject,
    /// Which names and addresses it is valid for.
    SubjectAltName,
}

impl Field {
    /// RFC 5280's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Algorithm => "subjectPublicKeyInfo",
            Self::BasicConstraints => "basicConstraints",
            Self::ExtendedKeyUsage => "extKeyUsage",
            Self::Issuer => "issuer",
            Self::KeyUsage => "keyUsage",
            Self::Subject => "subject",
            Self::SubjectAltName => "subjectAltName",
        }
    }
}

/// How one field differs. Of a list: what is surplus, without a declared value, or missing, without a found one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub field: Field,
    /// What the certificate says.
    pub found: Option<String>,
    /// What it is to say.
    pub declared: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.field {
            Field::Algorithm => "algorithm ",
            Field::BasicConstraints | Field::Issuer => "",
            Field::ExtendedKeyUsage => "usage ",
            Field::KeyUsage => "key usage ",
            Field::Subject => "subject ",
            Field::SubjectAltName => "SAN ",
        };
        match (self.field, &self.found, &self.declared) {
            (Field::Issuer, Some(found), Some(declared)) => {
                write!(f, "signed by {found}, not by {declared}")
            }
            (_, Some(found), Some(declared)) => write!(f, "{label}{found}, declared {declared}"),
            (_, None, Some(declared)) => write!(f, "{label}missing {declared}"),
            (_, Some(found), None) => write!(f, "{label}surplus {found}"),
            (_, None, None) => f.write_str(label),
        }
    }
}

/// How a leaf differs from what is declared, field by field. The key's algorithm is [`algorithm_difference`]'s,
/// and its term is judged by time alone.
pub fn fields(instance: &Instance<'_>, cluster: &Cluster, observed: &Held) -> Vec<Difference> {
    let Some(certificate) = observed.certificate() else { return Vec::new() };
    let mut differences = Vec::new();
    if observed.is_signed() == Some(false) {
        differences.push(Difference {
            field: Field::Issuer,
            found: Some(certificate.issuer.to_string()),
            declared: instance.issuer.map(|id| id.to_string()),
        });
    }
    differences.extend(profile_fields(&certificate.profile, &resolve::profile(instance, cluster)));
    differences
}

/// The same, each difference in a few words.
pub fn differences(instance: &Instance<'_>, cluster: &Cluster, observed: &Held) -> Vec<String> {
    fields(instance, cluster, observed).iter().map(Difference::to_string).collect()
}

/// How what a certificate says differs from what it should say, each difference in a few words.
pub fn profile_differences(found: &Profile, declared: &Profile) -> Vec<String> {
    profile_fields(found, declared).iter().map(Difference::to_string).collect()
}

fn profile_fields(found: &Profile, declared: &Profile) -> Vec<Difference> {
    let mut differences = Vec::new();
    let missing = |field, what: String| Difference { field, found: None, declared: Some(what) };
    let surplus = |field, what: String| Difference { field, found: Some(what), declared: None };
    let other = |field, found: String, declared: String| Difference {
        field,
        found: Some(found),
        declared: Some(declared),
    };
    if !names_the_same(found, declared) {
        let (found, declared) = (found.subject.to_string(), declared.subject.to_string());
        differences.push(other(Field::Subject, found, declared));
    }
    let sans = |profile: &Profile| profile.sans.iter().cloned().collect::<BTreeSet<_>>();
    let (has, wants) = (sans(found), sans(declared));
    let of = Field::SubjectAltName;
    differences.extend(wants.difference(&has).map(|san| missing(of, san.to_string())));
    differences.extend(has.difference(&wants).map(|san| surplus(of, san.to_string())));
    if found.kind != declared.kind {
        let text = |kind| match kind {
            Kind::Ca { .. } => "a CA".to_owned(),
            Kind::Leaf => "a leaf".to_owned(),
        };
        let (found, declared) = (text(found.kind), text(declared.kind));
        differences.push(other(Field::BasicConstraints, found, declared));
    }
    // Signers elsewhere have habits of their own; what counts is that it can sign handshakes, which without
    // the extension everything can, and that it signs no certificates.
    let (has, wants) = (found.key_usages, declared.key_usages);
    let signs = KeyUsages::DIGITAL_SIGNATURE;
    if has != KeyUsages::default() && wants.contains(signs) && !has.contains(signs) {
        differences.push(missing(Field::KeyUsage, "digitalSignature".into()));
    }
    let more = KeyUsages(has.0 & !wants.0 & (KeyUsages::CERT_SIGN.0 | KeyUsages::CRL_SIGN.0));
    differences.extend(more.names().map(|name| surplus(Field::KeyUsage, name.to_string())));
    let usages = |p: &Profile| p.extended_usages.iter().cloned().collect::<BTreeSet<_>>();
    let (has, wants) = (usages(found), usages(declared));
    let of = Field::ExtendedKeyUsage;
    differences.extend(wants.difference(&has).map(|usage| missing(of, usage.to_string())));
    differences.extend(has.difference(&wants).map(|usage| surplus(of, usage.to_string())));
    differences
}

/// Whether a certificate names whom it should, however that is written: openssl, cfssl and Go choose string
/// types of their own. A client's values are Kubernetes' user and groups, which it compares to the letter.
pub fn names_the_same(found: &Profile, declared: &Profile) -> bool {
    match declared.extended_usages.contains(&ExtendedUsage::ClientAuth) {
        true => found.subject.is_written_otherwise(&declared.subject),
        false => found.subject.matches(&declared.subject),
    }
}

/// How the key's algorithm differs from the declared one.
pub fn algorithm_difference(declared: KeyAlgorithm, certificate: &CertView) -> Option<String> {
    (certificate.algorithm != Some(declared)).then(|| match certificate.algorithm {
        Some(found) => format!("algorithm {found}, declared {declared}"),
        None => format!("an algorithm certkit does not know, declared {declared}"),
    })
}
