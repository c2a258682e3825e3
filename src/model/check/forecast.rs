//! Forecast: when each path breaks if nobody does anything, by which certificate, and what then fails.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    evidence::Evidence,
    pairing::{End, Outcome, Pairing, Role},
};
use crate::model::observed::CertView;
use crate::model::{catalogue::Path, timestamp::Timestamp};

/// When one path breaks.
#[derive(Clone, Debug)]
pub struct Break {
    /// The last second at which it works.
    pub at: Timestamp,
    /// The path.
    pub path: &'static Path,
    /// The pairing that breaks first, by index.
    pub pairing: usize,
    /// What ends then: the subject of the certificate.
    pub because: String,
    /// The file it is in.
    pub file: PathBuf,
    /// Whether handshakes before and after have shown it.
    pub confirmed: bool,
}

/// What ends, and when.
type Ending = (Timestamp, String, PathBuf);

/// The first break of every path that works now, the earliest first; equal times in the catalogue's order.
pub fn forecast(evidence: &Evidence<'_>, pairings: &[Pairing], outcomes: &[Outcome]) -> Vec<Break> {
    let mut first: BTreeMap<&str, Break> = BTreeMap::new();
    let mut order = Vec::new();
    for (index, (pairing, outcome)) in pairings.iter().zip(outcomes).enumerate() {
        if !matches!(pairing.role, Role::Path | Role::StandIn) || *outcome != Outcome::Works {
            continue;
        }
        let Some((at, because, file)) = end(evidence, pairing) else { continue };
        if !first.contains_key(pairing.path.id) {
            order.push(pairing.path.id);
        }
        let found =
            Break { at, path: pairing.path, pairing: index, because, file, confirmed: false };
        match first.get(pairing.path.id) {
            Some(known) if known.at <= at => {}
            _ => {
                first.insert(pairing.path.id, found);
            }
        }
    }
    let mut all: Vec<Break> = order.iter().filter_map(|id| first.remove(id)).collect();
    all.sort_by_key(|b| b.at);
    all
}

/// The earliest end of what a pairing needs: both leaves and what vouches for each.
fn end(evidence: &Evidence<'_>, pairing: &Pairing) -> Option<Ending> {
    let client = match &pairing.client {
        End::Instance(i) => Some(*i),
        End::NoCertificate(_) => None,
    };
    let root = match (&pairing.client, client) {
        (End::NoCertificate(root), _) => root.clone(),
        (_, Some(i)) => evidence.layout.instances[i].root.clone(),
        (_, None) => PathBuf::new(),
    };
    let mut ends = Vec::new();
    if let Some(trust) = evidence.client_trust(pairing.path, client, &root) {
        ends.extend(chain(evidence, pairing.server, &trust));
    }
    if let (Some(client), Some(authority)) = (client, pairing.path.server_trusts)
        && let Some(trust) =
            evidence.trusted(authority, &evidence.layout.instances[pairing.server].root)
    {
        ends.extend(chain(evidence, client, &trust));
    }
    ends.into_iter().min_by_key(|(at, ..)| *at)
}

/// The end of a leaf, and of the longest-lived anchor that vouches for it, with what stands between.
fn chain(
    evidence: &Evidence<'_>,
    index: usize,
    trust: &(PathBuf, std::sync::Arc<Vec<CertView>>),
) -> Vec<Ending> {
    let held = &evidence.held()[index];
    let Some(all) = held.certificates.present() else { return Vec::new() };
    let Some(leaf) = all.first() else { return Vec::new() };
    let ended = |cert: &CertView, file: &PathBuf| {
        (cert.validity.not_after, cert.profile.subject.to_string(), file.clone())
    };
    let mut ends = vec![ended(leaf, held.place.cert())];
    let vouches = |below: &CertView| {
        let anchors = trust.1.iter().filter(|anchor| below.may_be_signed_by(anchor));
        anchors.max_by_key(|anchor| anchor.validity.not_after)
    };
    let mut below = leaf;
    // A chain is no longer than the certificates there are.
    for _ in 0..all.len() {
        if let Some(anchor) = vouches(below) {
            ends.push(ended(anchor, &trust.0));
            break;
        }
        match all[1..].iter().find(|c| below.may_be_signed_by(c)) {
            Some(next) => {
                ends.push(ended(next, held.place.cert()));
                below = next;
            }
            None => break,
        }
    }
    ends
}
