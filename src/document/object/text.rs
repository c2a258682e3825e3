//! Texts anywhere in an object that may hold certificates.

use zeroize::Zeroizing;

use super::{Item, ObjectValue, changed, is_certificate_key, placed};
use crate::document::{data, yaml::Node};

/// The field by which webhooks, API services and resource definitions say whom to trust.
pub const CA_BUNDLE: &str = "caBundle";
/// By which a text with certificates is known: PEM, and PEM in base64.
pub const MARKERS: [&str; 2] = ["-----BEGIN ", PEM_IN_BASE64];
/// What else an object that has certificates has in its text, or would have.
pub(super) const SIGNS: [&str; 5] = [CA_BUNDLE, "binaryData", DER_IN_BASE64, ".crt", ".pem"];
const PEM_IN_BASE64: &str = "LS0tLS1CRUdJTi";
/// How every certificate in DER begins, in base64.
const DER_IN_BASE64: &str = "MII";

/// Whether octets have a certificate in them, or are a store or a kubeconfig that may have.
pub(super) fn may_hold_certificates(octets: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const LABELS: [&[u8]; 5] = [
        b"CERTIFICATE-----",
        b"CMS-----",
        b"PKCS7-----",
        b"TRUSTED CERTIFICATE-----",
        b"X509 CERTIFICATE-----",
    ];
    let has = |wanted: &[u8]| octets.windows(wanted.len()).any(|window| window == wanted);
    let mut starts = octets.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN);
    starts.any(|(at, _)| {
        let label = &octets[at + BEGIN.len()..];
        LABELS.iter().any(|known| label.starts_with(known))
    }) || matches!(
        octets,
        [0x30, 0x80..=0x84, ..] | [0xfe, 0xed, 0xfe, 0xed, ..] | [0xce, 0xce, 0xce, 0xce, ..]
    ) || has(b"certificate-authority-data")
        || has(b"client-certificate-data")
}

/// An object of any kind, or a document that is none: what of it may hold certificates. Annotations repeat
/// what is applied, so metadata is passed over.
pub(super) fn item(node: &Node) -> Item {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let metadata = node.get("metadata");
    let kind = text(node, "kind").filter(|_| node.get("apiVersion").is_some());
    let mut item = Item {
        place: placed(node),
        namespace: metadata.and_then(|metadata| text(metadata, "namespace")),
        name: metadata.and_then(|metadata| text(metadata, "name")),
        uid: metadata.and_then(|metadata| text(metadata, "uid")),
        changed: metadata.and_then(changed),
        ..Item::default()
    };
    let by_key: &[&str] = match kind.as_deref() {
        Some("ConfigMap") => &["data", "binaryData"],
        _ => &[],
    };
    for (key, value) in node.map().unwrap_or_default() {
        let key = key.text().unwrap_or_default();
        if kind.is_some() && key == "metadata" {
            continue;
        }
        match (by_key.contains(&key), value.map()) {
            (true, Some(values)) => {
                for (key, value) in values {
                    let key = key.text().unwrap_or_default();
                    scalar(value, key, key, &mut item.entries);
                }
            }
            _ => walk(value, key.to_owned(), key, &mut item.entries),
        }
    }
    item.kind = kind;
    item
}

/// `path` is where the value stands, `key` its own key.
fn walk(node: &Node, path: String, key: &str, entries: &mut Vec<ObjectValue>) {
    for (index, item) in node.list().unwrap_or_default().iter().enumerate() {
        let name = item.get("name").and_then(Node::text);
        let at = name.map_or_else(|| index.to_string(), str::to_owned);
        walk(item, format!("{path}[{at}]"), key, entries);
    }
    for (key, value) in node.map().unwrap_or_default() {
        let key = key.text().unwrap_or_default();
        walk(value, format!("{path}.{key}"), key, entries);
    }
    scalar(node, key, &path, entries);
}

fn scalar(node: &Node, key: &str, path: &str, entries: &mut Vec<ObjectValue>) {
    let Some(text) = node.text().filter(|text| !text.trim().is_empty()) else { return };
    let plain = || Zeroizing::new(text.as_bytes().to_vec());
    let must = key == CA_BUNDLE || is_certificate_key(key) && !path.contains('.');
    let value = if may_hold_certificates(text.as_bytes()) {
        Ok(plain())
    } else if key == CA_BUNDLE || text.starts_with(PEM_IN_BASE64) || text.starts_with(DER_IN_BASE64)
    {
        match data::decode(text) {
            Some(octets) if may_hold_certificates(&octets) => Ok(octets),
            // The place that an injector fills.
            Some(octets) if octets.trim_ascii().is_empty() => return,
            // An EgressSelectorConfiguration names a file there; no certificate in base64 begins so.
            _ if text.starts_with('/') => return,
            Some(octets) if must => Ok(octets),
            None if must => Err("is not base64".to_owned()),
            Some(_) | None => return,
        }
    } else if path == key && is_certificate_key(key) {
        Ok(plain())
    } else {
        return;
    };
    entries.push(ObjectValue { key: path.to_owned(), value });
}
