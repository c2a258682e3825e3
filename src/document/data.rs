//! Base64 as Kubernetes' documents carry it.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Octets as base64, in one line.
pub(super) fn encode(octets: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(octets))
}

/// The octets of base64. Line breaks are passed over, as Go's decoder does.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bare: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect());
    STANDARD.decode(&*bare).ok().map(Zeroizing::new)
}
