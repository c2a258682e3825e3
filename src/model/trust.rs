//! What of a CA is published for programs in the cluster to trust, what stands against publishing it, and which copies in the
//! cluster are behind it.

use std::{collections::BTreeSet, fmt};

use super::timestamp::Timestamp;

/// The label by which an object says by whom it is kept, and what it says of those that certkit made.
pub const KEPT_BY: &str = "app.kubernetes.io/managed-by";
/// That it is certkit.
pub const OWN: &str = "certkit";
/// The annotation that says when what is published changed.
pub const CHANGED: &str = "certkit/changed";

/// A certificate that is to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchor {
    /// It, as PEM.
    pub pem: String,
    /// Its SHA-256 in hexadecimal.
    pub fingerprint: String,
    /// Its subject, as text.
    pub subject: String,
}

/// What is trusted of a CA, as the files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// The CA.
    pub authority: &'static str,
    /// Its generations that are trusted.
    pub anchors: Vec<TrustAnchor>,
    /// The fingerprint of the one that issues, where its file is at hand.
    pub issuing: Option<String>,
}

/// What an object says that is published already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedTrust {
    /// Whether certkit made it.
    pub is_own: bool,
    /// The fingerprints of what it has.
    pub anchors: Vec<String>,
    /// Whether it says so to the letter.
    pub is_exact: bool,
}

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustMove {
    /// Nothing.
    Keep,
    /// It is made, or brought up to date.
    Publish {
        /// The fingerprints of what comes in.
        added: Vec<String>,
        /// The fingerprints of what goes.
        dropped: Vec<String>,
    },
}

/// Why a bundle is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustObjection {
    /// Nothing would be trusted.
    Empty,
    /// It does not trust who issues.
    Issuer,
    /// Somebody else made the object.
    Foreign,
    /// It has nothing in common with what is published.
    Other,
}

impl fmt::Display for TrustObjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the bundle has no certificate: what is published stays",
            Self::Issuer => {
                "the bundle does not have the certificate of the CA that issues: what is published stays"
            }
            Self::Foreign => {
                "somebody else made this object: rename or delete it, and it is made anew"
            }
            Self::Other => {
                "the bundle has no certificate that is published: no stage of a rotation does that. What is published \
                 stays; where it is right, delete the object, and it is made anew"
            }
        })
    }
}

impl TrustBundle {
    /// All of it as text.
    pub fn text(&self) -> String {
        self.anchors.iter().map(|anchor| anchor.pem.as_str()).collect()
    }

    /// What is to be done about an object that is published, or is not yet.
    pub fn step(&self, published: Option<&PublishedTrust>) -> Result<TrustMove, TrustObjection> {
        let wanted: Vec<&String> = self.anchors.iter().map(|anchor| &anchor.fingerprint).collect();
        if wanted.is_empty() {
            return Err(TrustObjection::Empty);
        }
        if self.issuing.as_ref().is_some_and(|issuing| !wanted.contains(&issuing)) {
            return Err(TrustObjection::Issuer);
        }
        let Some(published) = published else {
            let added = wanted.into_iter().cloned().collect();
            return Ok(TrustMove::Publish { added, dropped: Vec::new() });
        };
        if !published.is_own {
            return Err(TrustObjection::Foreign);
        }
        let there = &published.anchors;
        if !there.is_empty() && !wanted.iter().any(|anchor| there.contains(anchor)) {
            return Err(TrustObjection::Other);
        }
        if published.is_exact {
            return Ok(TrustMove::Keep);
        }
        Ok(TrustMove::Publish {
            added: wanted.iter().filter(|a| !there.contains(a)).map(|a| (*a).clone()).collect(),
            dropped: there.iter().filter(|a| !wanted.contains(a)).cloned().collect(),
        })
    }
}

/// A CA as copies of what is trusted of it are judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownTrust {
    /// The CA.
    pub authority: &'static str,
    /// The fingerprints of what is trusted.
    pub trusted: BTreeSet<String>,
    /// And of what was.
    pub former: BTreeSet<String>,
    /// When the ClusterTrustBundle of it changed, where there is one.
    pub bundle_changed: Option<Timestamp>,
}

/// What is wrong with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyFault {
    /// It has not all that is trusted: what a generation signs that it lacks is refused.
    Lacks,
    /// It has what is trusted no longer.
    Former,
    /// A container has it as it was before it changed, and gets no update.
    NotUpdated,
}

impl CopyFault {
    /// As metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lacks => "lacks",
            Self::Former => "former",
            Self::NotUpdated => "not-updated",
        }
    }
}

impl KnownTrust {
    /// Whether what somebody holds is a copy of this CA's, by its fingerprints.
    pub fn is_copy(&self, held: &BTreeSet<String>) -> bool {
        held.iter().any(|one| self.trusted.contains(one) || self.former.contains(one))
    }

    /// What is wrong with it; nothing where it is no copy.
    pub fn fault(&self, held: &BTreeSet<String>) -> Option<CopyFault> {
        match self.is_copy(held) {
            false => None,
            true if !self.trusted.is_subset(held) => Some(CopyFault::Lacks),
            true => (!self.former.is_disjoint(held)).then_some(CopyFault::Former),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(all: &[&str]) -> TrustBundle {
        let anchor = |text: &&str| TrustAnchor {
            pem: format!("{text}\n"),
            fingerprint: (*text).to_owned(),
            subject: String::new(),
        };
        TrustBundle { authority: "ca", anchors: all.iter().map(anchor).collect(), issuing: None }
    }

    fn own(all: &[&str]) -> PublishedTrust {
        PublishedTrust {
            is_own: true,
            anchors: all.iter().map(|a| (*a).to_owned()).collect(),
            is_exact: false,
        }
    }

    fn publish(added: &[&str], dropped: &[&str]) -> Result<TrustMove, TrustObjection> {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        Ok(TrustMove::Publish { added: owned(added), dropped: owned(dropped) })
    }

    #[test]
    fn each_stage_of_a_rotation_is_published_and_what_goes_is_named() {
        assert_eq!(bundle(&["a"]).step(None), publish(&["a"], &[]));
        assert_eq!(bundle(&["a", "b"]).step(Some(&own(&["a"]))), publish(&["b"], &[]));
        assert_eq!(bundle(&["b"]).step(Some(&own(&["a", "b"]))), publish(&[], &["a"]));
        let exact = PublishedTrust { is_exact: true, ..own(&["b"]) };
        assert_eq!(bundle(&["b"]).step(Some(&exact)), Ok(TrustMove::Keep));
        // What somebody has spoilt is mended.
        assert_eq!(bundle(&["a"]).step(Some(&own(&[]))), publish(&["a"], &[]));
        assert_eq!(bundle(&["a"]).step(Some(&own(&["a", "x"]))), publish(&[], &["x"]));
    }

    #[test]
    fn trust_is_never_taken_away_by_accident() {
        assert_eq!(bundle(&[]).step(None), Err(TrustObjection::Empty));
        assert_eq!(bundle(&[]).step(Some(&own(&["a"]))), Err(TrustObjection::Empty));
        assert_eq!(bundle(&["c"]).step(Some(&own(&["a", "b"]))), Err(TrustObjection::Other));
        let foreign = PublishedTrust { is_own: false, ..own(&["a"]) };
        assert_eq!(bundle(&["a", "b"]).step(Some(&foreign)), Err(TrustObjection::Foreign));
        let issuing = TrustBundle { issuing: Some("b".into()), ..bundle(&["a"]) };
        assert_eq!(issuing.step(Some(&own(&["a", "b"]))), Err(TrustObjection::Issuer));
    }

    #[test]
    fn copies_are_right_only_with_all_that_is_trusted_and_nothing_that_was() {
        let set = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<BTreeSet<_>>();
        let known = KnownTrust {
            authority: "ca",
            trusted: set(&["b", "c"]),
            former: set(&["a"]),
            bundle_changed: None,
        };
        assert_eq!(known.fault(&set(&["b", "c"])), None);
        assert_eq!(known.fault(&set(&["b", "c", "x"])), None);
        assert_eq!(known.fault(&set(&["x"])), None);
        assert_eq!(known.fault(&set(&["b"])), Some(CopyFault::Lacks));
        assert_eq!(known.fault(&set(&["a"])), Some(CopyFault::Lacks));
        assert_eq!(known.fault(&set(&["a", "b", "c"])), Some(CopyFault::Former));
    }
}
