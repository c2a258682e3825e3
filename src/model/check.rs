//! Checks: rules over what was observed, and the findings they give. A finding is a value, never an error.

pub mod authority;
pub mod copy;
pub mod evidence;
pub mod expiry;
pub mod file;
pub mod finding;
pub mod flags;
pub mod forecast;
pub mod issuing;
pub mod kubeconfig;
pub mod pairing;
pub mod piece;
pub mod profile;
pub mod term;

use evidence::Evidence;
use finding::Finding;

/// One rule: everything it finds wrong.
type Rule = fn(&Evidence<'_>) -> Vec<Finding>;

/// All rules about files and certificates, in the order of their findings.
pub const RULES: &[Rule] = &[
    piece::findings,
    authority::findings,
    issuing::findings,
    term::findings,
    profile::findings,
    kubeconfig::findings,
    copy::findings,
    file::findings,
];

/// Everything the rules find.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Finding> {
    RULES.iter().flat_map(|rule| rule(evidence)).collect()
}
