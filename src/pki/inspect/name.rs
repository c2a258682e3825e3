//! Distinguished names: the text people read, and the parts Kubernetes reads.

use x509_parser::{
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

use crate::{
    model::{
        hex::hex,
        name::{Name, escaped},
    },
    pki::oid::dotted,
};

/// id-at-commonName
pub const COMMON_NAME: &[u8] = &[0x55, 0x04, 3];
/// id-at-organizationName
pub const ORGANIZATION: &[u8] = &[0x55, 0x04, 10];

/// The model's name: the bytes as they are, and a text.
pub fn model(name: &X509Name<'_>) -> Name {
    let parts: Vec<String> = name.iter_attributes().map(shown).collect();
    Name::from_der(name.as_raw().to_vec(), parts.join(", "))
}

/// The values of one attribute type, in their order.
pub fn values(name: &[u8], attribute: &[u8]) -> Vec<String> {
    let Ok((_, name)) = X509Name::from_der(name) else { return Vec::new() };
    name.iter_attributes()
        .filter(|a| a.attr_type().as_bytes() == attribute)
        .filter_map(|a| a.as_str().ok().map(str::to_owned))
        .collect()
}

/// `O=system:nodes`.
fn shown(attribute: &AttributeTypeAndValue<'_>) -> String {
    let mut out = short(attribute.attr_type().as_bytes());
    out.push('=');
    match attribute.as_str() {
        Ok(text) => out.push_str(&escaped(text)),
        Err(_) => {
            out.push('#');
            out.push_str(&hex(attribute.as_slice()));
        }
    }
    out
}

/// RFC 4514's short names, and openssl's where it has none.
fn short(oid: &[u8]) -> String {
    match oid {
        COMMON_NAME => "CN".into(),
        ORGANIZATION => "O".into(),
        [0x55, 0x04, 4] => "SN".into(),
        [0x55, 0x04, 5] => "serialNumber".into(),
        [0x55, 0x04, 6] => "C".into(),
        [0x55, 0x04, 7] => "L".into(),
        [0x55, 0x04, 8] => "ST".into(),
        [0x55, 0x04, 9] => "STREET".into(),
        [0x55, 0x04, 11] => "OU".into(),
        [0x55, 0x04, 12] => "title".into(),
        [0x55, 0x04, 42] => "GN".into(),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 1] => "UID".into(),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 25] => "DC".into(),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 1] => "emailAddress".into(),
        other => dotted(other),
    }
}
