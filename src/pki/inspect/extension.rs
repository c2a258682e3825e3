//! The extensions certkit gives a meaning to (RFC 5280, 4.2.1). Each reader gives nothing for a value it
//! cannot read.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use x509_parser::{
    extensions::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    prelude::FromDer,
};

use crate::{
    model::{
        der::SEQUENCE,
        profile::Kind,
        san::San,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        der::{DerReader, OCTET_STRING},
        oid::dotted,
    },
};

/// Where an extension lies in the certificate.
#[derive(Clone, Debug)]
pub struct Extension {
    pub oid: Range<usize>,
    pub critical: bool,
    pub value: Range<usize>,
}

/// id-ce-subjectKeyIdentifier
pub const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
/// id-ce-keyUsage
pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
/// id-ce-subjectAltName
pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
/// id-ce-basicConstraints
pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
/// id-ce-authorityKeyIdentifier
pub const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
/// id-ce-extKeyUsage
pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];

/// All of them.
pub const KNOWN: [&[u8]; 6] = [
    SUBJECT_KEY_ID,
    KEY_USAGE,
    SUBJECT_ALT_NAME,
    BASIC_CONSTRAINTS,
    AUTHORITY_KEY_ID,
    EXTENDED_KEY_USAGE,
];

/// RFC 5280's name of an extension, or its identifier.
pub fn label(oid: &[u8]) -> String {
    match oid {
        SUBJECT_KEY_ID => "subjectKeyIdentifier".into(),
        KEY_USAGE => "keyUsage".into(),
        SUBJECT_ALT_NAME => "subjectAltName".into(),
        BASIC_CONSTRAINTS => "basicConstraints".into(),
        AUTHORITY_KEY_ID => "authorityKeyIdentifier".into(),
        EXTENDED_KEY_USAGE => "extKeyUsage".into(),
        other => dotted(other),
    }
}

/// Whether the value is one its identifier allows; unknown extensions are not judged.
pub fn is_readable(oid: &[u8], value: &[u8]) -> bool {
    match oid {
        SUBJECT_KEY_ID => ski(value).is_some(),
        KEY_USAGE => key_usages(value).is_some(),
        SUBJECT_ALT_NAME => sans(value).is_some(),
        BASIC_CONSTRAINTS => basic_constraints(value).is_some(),
        // An identifier may be missing; it may name the issuer's issuer and serial instead.
        AUTHORITY_KEY_ID => DerReader::only(value, SEQUENCE).is_ok(),
        EXTENDED_KEY_USAGE => extended_usages(value).is_some(),
        _ => true,
    }
}

pub fn basic_constraints(value: &[u8]) -> Option<Kind> {
    let (_, constraints) = BasicConstraints::from_der(value).ok()?;
    Some(match constraints.ca {
        // A limit beyond 255 limits nothing that exists.
        true => Kind::Ca {
            path_len: constraints.path_len_constraint.map(|n| n.min(u32::from(u8::MAX)) as u8),
        },
        false => Kind::Leaf,
    })
}

pub fn key_usages(value: &[u8]) -> Option<KeyUsages> {
    // x509-parser holds bit 0, digitalSignature, lowest, as the model does.
    KeyUsage::from_der(value).ok().map(|(_, usage)| KeyUsages(usage.flags & 0x1ff))
}

pub fn extended_usages(value: &[u8]) -> Option<Vec<ExtendedUsage>> {
    // Only the structure is x509-parser's affair here: it sorts usages into flags and forgets their order.
    ExtendedKeyUsage::from_der(value).ok()?;
    let purposes = DerReader::new(DerReader::only(value, SEQUENCE).ok()?).elements().ok()?;
    Some(
        purposes
            .iter()
            .map(|purpose| match dotted(purpose.content).as_str() {
                "1.3.6.1.5.5.7.3.1" => ExtendedUsage::ServerAuth,
                "1.3.6.1.5.5.7.3.2" => ExtendedUsage::ClientAuth,
                other => ExtendedUsage::Other(other.to_owned()),
            })
            .collect(),
    )
}

/// Reads the raw list, because x509-parser's names do not give back the bytes they came from.
pub fn sans(value: &[u8]) -> Option<Vec<San>> {
    let names = DerReader::new(DerReader::only(value, SEQUENCE).ok()?).elements().ok()?;
    Some(names.iter().map(|name| san(name.tag, name.content, name.raw)).collect())
}

fn san(tag: u8, content: &[u8], raw: &[u8]) -> San {
    let text = str::from_utf8(content).ok().filter(|text| text.is_ascii()).map(str::to_owned);
    match (tag, text) {
        (0x81, Some(text)) => San::Email(text),
        (0x82, Some(text)) => San::Dns(text),
        (0x86, Some(text)) => San::Uri(text),
        (0x87, _) => {
            if let Ok(octets) = <[u8; 4]>::try_from(content) {
                San::Ip(IpAddr::V4(Ipv4Addr::from(octets)))
            } else if let Ok(octets) = <[u8; 16]>::try_from(content) {
                San::Ip(IpAddr::V6(Ipv6Addr::from(octets)))
            } else {
                San::Other(raw.to_vec())
            }
        }
        _ => San::Other(raw.to_vec()),
    }
}

pub fn ski(value: &[u8]) -> Option<&[u8]> {
    DerReader::only(value, OCTET_STRING).ok()
}

pub fn aki(value: &[u8]) -> Option<&[u8]> {
    DerReader::new(DerReader::only(value, SEQUENCE).ok()?).optional(0x80).ok()?
}
