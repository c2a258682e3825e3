//! Key usages (RFC 5280, 4.2.1.3) and extended key usages (4.2.1.12).

use std::fmt;

/// A set of key usage bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyUsages(pub u16);

impl KeyUsages {
    /// digitalSignature
    pub const DIGITAL_SIGNATURE: Self = Self(1);
    /// nonRepudiation (contentCommitment)
    pub const NON_REPUDIATION: Self = Self(1 << 1);
    /// keyEncipherment
    pub const KEY_ENCIPHERMENT: Self = Self(1 << 2);
    /// dataEncipherment
    pub const DATA_ENCIPHERMENT: Self = Self(1 << 3);
    /// keyAgreement
    pub const KEY_AGREEMENT: Self = Self(1 << 4);
    /// keyCertSign
    pub const CERT_SIGN: Self = Self(1 << 5);
    /// cRLSign
    pub const CRL_SIGN: Self = Self(1 << 6);
    /// encipherOnly
    pub const ENCIPHER_ONLY: Self = Self(1 << 7);
    /// decipherOnly
    pub const DECIPHER_ONLY: Self = Self(1 << 8);

    /// What kubeadm and certkit give a leaf: digitalSignature and keyEncipherment.
    pub const LEAF: Self = Self(1 | 1 << 2);
    /// What kubeadm and certkit give a CA: a leaf's, and keyCertSign.
    pub const CA: Self = Self(1 | 1 << 2 | 1 << 5);

    /// Whether all bits of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the bits that are set, in bit order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, n)| *n)
    }
}

/// RFC 5280's names, by bit.
const NAMES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];

/// One extended key usage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExtendedUsage {
    /// id-kp-serverAuth
    ServerAuth,
    /// id-kp-clientAuth
    ClientAuth,
    /// Any other, as its object identifier in dotted form.
    Other(String),
}

impl fmt::Display for ExtendedUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerAuth => f.write_str("serverAuth"),
            Self::ClientAuth => f.write_str("clientAuth"),
            Self::Other(oid) => f.write_str(oid),
        }
    }
}
