//! Key algorithms: those certkit makes, and those it only meets.

use std::{fmt, str::FromStr};

use super::shown::quoted;

/// The kind of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256: certkit's default.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// ECDSA on NIST P-521: met and described, never recommended (ring has no P-521).
    EcdsaP521,
    /// Ed25519. kubeadm refuses such keys; Kubernetes' own components take them.
    Ed25519,
    /// RSA with a modulus of so many bits.
    Rsa(u32),
}

impl KeyAlgorithm {
    /// The algorithms that can be asked for, in the order help shows them.
    pub const CHOICES: [Self; 6] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Ed25519,
        Self::Rsa(2048),
        Self::Rsa(3072),
        Self::Rsa(4096),
    ];
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("ecdsa-p256"),
            Self::EcdsaP384 => f.write_str("ecdsa-p384"),
            Self::EcdsaP521 => f.write_str("ecdsa-p521"),
            Self::Ed25519 => f.write_str("ed25519"),
            Self::Rsa(bits) => write!(f, "rsa-{bits}"),
        }
    }
}

/// A text that names no algorithm certkit makes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0} is no key algorithm; use ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072 or rsa-4096"
)]
pub struct UnknownAlgorithm(String);

impl FromStr for KeyAlgorithm {
    type Err = UnknownAlgorithm;

    /// Reads certkit's names, and kubeadm's (`RSA-2048`, `ECDSA-P256`), whatever their case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        // P-521 is no choice to recommend, but a cluster that has it can be described.
        Self::CHOICES
            .into_iter()
            .chain([Self::EcdsaP521])
            .find(|choice| choice.to_string() == lower)
            .ok_or_else(|| UnknownAlgorithm(quoted(text).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_reads_back() {
        for choice in KeyAlgorithm::CHOICES {
            assert_eq!(choice.to_string().parse(), Ok(choice));
            assert_eq!(choice.to_string().to_uppercase().parse(), Ok(choice));
        }
        assert!("rsa-1024".parse::<KeyAlgorithm>().is_err());
        assert_eq!("ecdsa-p521".parse(), Ok(KeyAlgorithm::EcdsaP521));
    }
}
