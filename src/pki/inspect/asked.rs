//! Signing requests from anybody (PKCS#10, RFC 2986), read for a judge: strictly, so that nobody who reads them after it
//! finds something else in them.
//!
//! Structure is read as DER, with nothing left over; x509-parser verifies the signature.

use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use super::{extension, signature};
use crate::{
    model::{
        algorithm::KeyAlgorithm,
        der::{OID, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING},
        profile::Kind,
        request::{
            AskedExtension, PodKey, RequestContent, SubjectAttribute, UnreadableRequest, is_strong,
        },
        usage::KeyUsages,
    },
    pki::{
        crypto::{self, Curve},
        der::{DerReader, INTEGER, Malformed, OCTET_STRING},
        key::PublicKey,
        oid::dotted,
        pem::{self, Block},
    },
};

/// No honest request is longer: RSA of 8192 bits and a hundred names have less.
pub const LONGEST_REQUEST: usize = 16 << 10;
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";
const END: &[u8] = b"-----END CERTIFICATE REQUEST-----";
/// pkcs-9-at-extensionRequest, 1.2.840.113549.1.9.14
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const BOOLEAN: u8 = 0x01;
const NULL: u8 = 0x05;

/// Reads the key that a pod's certificate is to have: from a request that asks for nothing else, as the kubelet writes it, or as
/// it is (SubjectPublicKeyInfo). That who sent the latter has the key, the apiserver has seen.
pub fn read_pod_key(request: &[u8], key: &[u8]) -> Result<PodKey, UnreadableRequest> {
    if request.len().max(key.len()) > LONGEST_REQUEST {
        return Err(UnreadableRequest::TooLong(request.len().max(key.len())));
    }
    if !request.is_empty() {
        let content = read(request)?;
        return Ok(PodKey {
            is_bare: content.subject.is_empty()
                && content.extensions.is_empty()
                && content.attributes.is_empty(),
            is_rsa: matches!(content.algorithm, Some(KeyAlgorithm::Rsa(_))),
            public_key: content.public_key,
        });
    }
    let malformed = |_| UnreadableRequest::Malformed("its public key cannot be read".to_owned());
    let public_key = PublicKey::from_der(key.to_vec()).map_err(malformed)?;
    if public_key.has_odd_exponent() || !is_strong(public_key.algorithm()) {
        return Err(UnreadableRequest::WeakKey(public_key.algorithm_text()));
    }
    Ok(PodKey {
        is_bare: true,
        is_rsa: matches!(public_key.algorithm(), Some(KeyAlgorithm::Rsa(_))),
        public_key: key.to_vec(),
    })
}

/// Reads a request from the PEM that the API carries: one block, and nothing else.
pub fn read_request(text: &[u8]) -> Result<RequestContent, UnreadableRequest> {
    if text.len() > LONGEST_REQUEST {
        return Err(UnreadableRequest::TooLong(text.len()));
    }
    let not_one = |why: &str| UnreadableRequest::NotOne(why.to_owned());
    let text = text.trim_ascii();
    if !text.starts_with(BEGIN) || !text.ends_with(END) {
        return Err(not_one("something else stands around the block, or it is none"));
    }
    let blocks = pem::read(text).map_err(|error| UnreadableRequest::NotOne(error.to_string()))?;
    match <[Block; 1]>::try_from(blocks) {
        Ok([Block::Csr(der)]) => read(&der),
        Ok(_) => Err(not_one("the block is no request")),
        Err(blocks) => Err(not_one(&format!("there are {} blocks", blocks.len()))),
    }
}

fn read(der: &[u8]) -> Result<RequestContent, UnreadableRequest> {
    let wrong = |what: &str| UnreadableRequest::Malformed(format!("{what} cannot be read"));
    let mut outer = DerReader::new(
        DerReader::only(der, SEQUENCE).map_err(|_| wrong("its outermost structure"))?,
    );
    let whole = (|| {
        let info = outer.expect(SEQUENCE)?;
        // An identifier, and no parameters or those of RSA's: NULL.
        let mut algorithm = DerReader::new(outer.expect(SEQUENCE)?);
        algorithm.expect(OID)?;
        if !matches!(algorithm.optional(NULL)?, None | Some([])) {
            return Err(Malformed);
        }
        algorithm.end()?;
        outer.bits()?;
        outer.end()?;
        Ok::<_, Malformed>(info)
    })();
    let mut info = DerReader::new(whole.map_err(|Malformed| wrong("its structure"))?);
    let parts = (|| {
        let version = info.expect(INTEGER)?;
        let subject = info.expect(SEQUENCE)?;
        let key = info.element()?;
        let attributes = info.expect(0xa0)?;
        info.end()?;
        Ok::<_, Malformed>((version, subject, key, attributes))
    })();
    let (version, subject, key, attributes) = parts.map_err(|Malformed| wrong("what is signed"))?;
    if version != [0] {
        return Err(UnreadableRequest::Malformed("its version is not 1".into()));
    }
    let subject = subject_attributes(subject).map_err(|Malformed| wrong("its subject"))?;
    let public_key = PublicKey::from_der(key.raw.to_vec()).map_err(|_| wrong("its public key"))?;
    if public_key.has_odd_exponent() {
        let why = format!("{} with an exponent that others refuse", public_key.algorithm_text());
        return Err(UnreadableRequest::WeakKey(why));
    }
    if !is_strong(public_key.algorithm()) {
        return Err(UnreadableRequest::WeakKey(public_key.algorithm_text()));
    }
    if !is_proven(der, &public_key) {
        return Err(UnreadableRequest::Unproven);
    }
    let (others, extensions) = asked_attributes(attributes)?;
    let find = |oid: &[u8]| extensions.iter().find(|e| e.oid == oid).map(|e| e.value);
    let sans = match find(extension::SUBJECT_ALT_NAME) {
        Some(value) => extension::sans(value).ok_or_else(|| wrong("its subjectAltName"))?,
        None => Vec::new(),
    };
    // One that cannot be read may be a CA's to somebody else.
    let constraints = find(extension::BASIC_CONSTRAINTS)
        .is_some_and(|value| !matches!(extension::basic_constraints(value), Some(Kind::Leaf)));
    let signs = find(extension::KEY_USAGE).and_then(extension::key_usages).is_some_and(|usages| {
        usages.contains(KeyUsages::CERT_SIGN) || usages.contains(KeyUsages::CRL_SIGN)
    });
    Ok(RequestContent {
        subject,
        sans,
        asks_for_ca: constraints || signs,
        extensions: extensions
            .iter()
            .map(|e| AskedExtension {
                oid: dotted(e.oid),
                label: extension::label(e.oid),
                is_names: e.oid == extension::SUBJECT_ALT_NAME,
            })
            .collect(),
        attributes: others,
        algorithm: public_key.algorithm(),
        key: public_key.algorithm_text(),
        public_key: public_key.der().to_vec(),
        key_digest: crypto::sha256(public_key.der()),
    })
}

/// Whether the request is signed with its own key, by an algorithm that is not broken.
fn is_proven(der: &[u8], public_key: &PublicKey) -> bool {
    let Ok((_, parsed)) = X509CertificationRequest::from_der(der) else { return false };
    const BROKEN: [&str; 3] = ["md5WithRSAEncryption", "sha1WithRSAEncryption", "ecdsa-with-SHA1"];
    if BROKEN.contains(&signature::text(&parsed.signature_algorithm).as_str()) {
        return false;
    }
    match public_key.ec_point() {
        Some((Curve::P521, point)) => signature::ecdsa_digest_bits(&parsed.signature_algorithm)
            .is_some_and(|bits| {
                let signed = parsed.certification_request_info.raw;
                crypto::verify_p521(bits, point, signed, &parsed.signature_value.data)
            }),
        _ => parsed.verify_signature().is_ok(),
    }
}

fn subject_attributes(name: &[u8]) -> Result<Vec<SubjectAttribute>, Malformed> {
    let mut attributes = Vec::new();
    for set in DerReader::new(name).elements()? {
        if set.tag != SET {
            return Err(Malformed);
        }
        let parts = DerReader::new(set.content).elements()?;
        if parts.is_empty() {
            return Err(Malformed);
        }
        for part in parts {
            let mut pair = DerReader::new(DerReader::only(part.raw, SEQUENCE)?);
            let oid = pair.expect(OID)?;
            let value = pair.element()?;
            pair.end()?;
            let text = str::from_utf8(value.content).ok().map(str::to_owned);
            let value = match value.tag {
                PRINTABLE_STRING => text.filter(|text| text.bytes().all(is_printable)),
                UTF8_STRING => text,
                _ => None,
            };
            attributes.push(SubjectAttribute { oid: dotted(oid), value });
        }
    }
    Ok(attributes)
}

/// What a `PrintableString` may have (X.680, 41.4). Go lets an asterisk and an ampersand pass, which no node's name has.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}

struct Asked<'a> {
    oid: &'a [u8],
    value: &'a [u8],
}

/// The attributes that ask for no extensions, and the extensions that the one that does asks for.
fn asked_attributes(attributes: &[u8]) -> Result<(Vec<String>, Vec<Asked<'_>>), UnreadableRequest> {
    let wrong =
        |_: Malformed| UnreadableRequest::Malformed("its attributes cannot be read".to_owned());
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut others = Vec::new();
    let mut extensions = Vec::new();
    for attribute in DerReader::new(attributes).elements().map_err(wrong)? {
        let mut pair = DerReader::new(DerReader::only(attribute.raw, SEQUENCE).map_err(wrong)?);
        let oid = pair.expect(OID).map_err(wrong)?;
        let values = pair.expect(SET).map_err(wrong)?;
        pair.end().map_err(wrong)?;
        if seen.contains(&oid) {
            return Err(UnreadableRequest::Repeated(format!("the attribute {}", dotted(oid))));
        }
        seen.push(oid);
        if oid != EXTENSION_REQUEST {
            others.push(dotted(oid));
            continue;
        }
        // A set of one: of two, readers would take different ones.
        let list = DerReader::only(values, SEQUENCE).map_err(wrong)?;
        extensions = asked_extensions(list).map_err(wrong)?;
    }
    for (index, one) in extensions.iter().enumerate() {
        if extensions[..index].iter().any(|other| other.oid == one.oid) {
            let what = format!("the extension {}", extension::label(one.oid));
            return Err(UnreadableRequest::Repeated(what));
        }
    }
    Ok((others, extensions))
}

fn asked_extensions(list: &[u8]) -> Result<Vec<Asked<'_>>, Malformed> {
    let mut extensions = Vec::new();
    for one in DerReader::new(list).elements()? {
        let mut parts = DerReader::new(DerReader::only(one.raw, SEQUENCE)?);
        let oid = parts.expect(OID)?;
        // DER writes no default, so it is there only where it is true.
        if !matches!(parts.optional(BOOLEAN)?, None | Some([0xff])) {
            return Err(Malformed);
        }
        let value = parts.expect(OCTET_STRING)?;
        parts.end()?;
        extensions.push(Asked { oid, value });
    }
    Ok(extensions)
}
