//! What a certificate must say: its subject, names, usages and term. The input of issuing, and what an
//! observed certificate is compared with.

use super::{
    name::Name,
    san::San,
    timestamp::Timestamp,
    usage::{ExtendedUsage, KeyUsages},
};

/// The content of a certificate that its purpose decides, without key, issuer, serial and term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The subject.
    pub subject: Name,
    /// Subject alternative names, in the order they are written.
    pub sans: Vec<San>,
    /// Basic constraints.
    pub kind: Kind,
    /// Key usage, always written as a critical extension.
    pub key_usages: KeyUsages,
    /// Extended key usage, left out when empty.
    pub extended_usages: Vec<ExtendedUsage>,
}

/// Basic constraints (RFC 5280, 4.2.1.9), always written as a critical extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A certificate authority, with the number of CAs allowed below it if limited.
    Ca {
        /// pathLenConstraint
        path_len: Option<u8>,
    },
    /// An end entity.
    Leaf,
}

/// The term of a certificate: valid from `not_before` up to and including `not_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// notBefore
    pub not_before: Timestamp,
    /// notAfter
    pub not_after: Timestamp,
}
