//! Properties over generated input.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use certkit::{
    model::{
        algorithm::KeyAlgorithm,
        der,
        name::Name,
        profile::{Kind, Profile, Validity},
        san::San,
        timestamp::Timestamp,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        inspect::{self, Certificate, SigningRequest},
        issue::{self, Issuance, IssuingCa},
        key::{KeyFormat, PrivateKey, PublicKey},
        pem,
    },
};
use proptest::prelude::*;

use crate::{ca, ca_profile, issue_leaf, long};

static CA: LazyLock<IssuingCa> = LazyLock::new(|| ca(KeyAlgorithm::EcdsaP256));
static KEY: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());

fn name() -> impl Strategy<Value = Name> {
    let built = (proptest::collection::vec(any::<String>(), 0..4), any::<String>()).prop_map(
        |(organizations, common_name)| {
            let organizations: Vec<&str> = organizations.iter().map(String::as_str).collect();
            Name::new(&organizations, &common_name)
        },
    );
    // Names of others: many parts of any string type, several values in one part.
    let attribute =
        (0u8..60, prop_oneof![Just(0x0cu8), Just(0x13), Just(0x16), Just(0x14)], "[a-z]{0,9}")
            .prop_map(|(number, tag, value)| {
                der::sequence(&[
                    der::tlv(der::OID, &[0x55, 4, number]),
                    der::tlv(tag, value.as_bytes()),
                ])
            });
    let rdn = proptest::collection::vec(attribute, 1..3)
        .prop_map(|attributes| der::tlv(der::SET, &attributes.concat()));
    let foreign = proptest::collection::vec(rdn, 0..5)
        .prop_map(|rdns| Name::from_der(der::sequence(&rdns), String::new()));
    prop_oneof![built, foreign]
}

fn san() -> impl Strategy<Value = San> {
    prop_oneof![
        "[ -~]{0,40}".prop_map(San::Dns),
        "[ -~]{0,40}".prop_map(San::Email),
        "[ -~]{0,40}".prop_map(San::Uri),
        any::<[u8; 4]>().prop_map(|ip| San::Ip(IpAddr::V4(Ipv4Addr::from(ip)))),
        any::<[u8; 16]>().prop_map(|ip| San::Ip(IpAddr::V6(Ipv6Addr::from(ip)))),
        name().prop_map(|name| San::Other(der::tlv(0xa4, name.der()))),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(|b| San::Other(der::tlv(0xa0, &b))),
    ]
}

fn extended_usage() -> impl Strategy<Value = ExtendedUsage> {
    prop_oneof![
        Just(ExtendedUsage::ServerAuth),
        Just(ExtendedUsage::ClientAuth),
        Just(ExtendedUsage::Other("2.5.29.37.0".into())),
        (0u8..40, any::<u64>(), any::<u32>())
            .prop_map(|(a, b, c)| ExtendedUsage::Other(format!("1.{a}.{b}.{c}"))),
        (0u64..1 << 60).prop_map(|a| ExtendedUsage::Other(format!("2.{a}"))),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Leaf), any::<Option<u8>>().prop_map(|path_len| Kind::Ca { path_len }),]
}

prop_compose! {
    fn profile()(
        subject in name(),
        sans in proptest::collection::vec(san(), 0..6),
        kind in kind(),
        bits in 0u16..512,
        extended_usages in proptest::collection::vec(extended_usage(), 0..4),
    ) -> Profile {
        Profile { subject, sans, kind, key_usages: KeyUsages(bits), extended_usages }
    }
}

prop_compose! {
    fn term()(
        a in Timestamp::MIN.unix()..=Timestamp::MAX.unix(),
        b in Timestamp::MIN.unix()..=Timestamp::MAX.unix(),
    ) -> Validity {
        Validity {
            not_before: Timestamp::from_unix(a.min(b)),
            not_after: Timestamp::from_unix(a.max(b)),
        }
    }
}

/// Flips, cuts, repeats and inserts: what a damaged file looks like.
fn damage(bytes: &[u8], edits: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (at, how, value) in edits {
        let at = at % (out.len() + 1);
        match how % 4 {
            0 if at < out.len() => out[at] = *value,
            1 if at < out.len() => drop(out.remove(at)),
            2 => out.insert(at, *value),
            _ => out.truncate(at.max(8)),
        }
    }
    out
}

fn edits() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    proptest::collection::vec((any::<usize>(), 0u8..12, any::<u8>()), 1..6).prop_map(|mut edits| {
        // Cutting is one edit in twelve, or little would be left to look at.
        edits.iter_mut().for_each(|edit| edit.1 = if edit.1 == 11 { 3 } else { edit.1 % 3 });
        edits
    })
}

/// Asks everything there is to ask.
fn read_all(certificate: &Certificate) {
    let _ = (certificate.profile(), certificate.faults(), certificate.other_extensions());
    let _ = (certificate.is_self_signed(), certificate.signed_by(CA.certificate()));
    let _ = (certificate.serial_hex(), certificate.signature_algorithm(), certificate.key_text());
    let _ = (certificate.ski(), certificate.aki(), certificate.common_name());
    let _ = (certificate.organizations(), format!("{certificate:?} {}", certificate.subject()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_profile_reads_back_as_it_was_issued(profile in profile(), term in term()) {
        let order = Issuance { profile: &profile, validity: term, public_key: KEY.public_key() };
        let own = issue::self_signed(&profile, term, &KEY).unwrap();
        prop_assert_eq!(&own.profile(), &profile);
        prop_assert_eq!(own.validity(), term);
        prop_assert!(own.is_self_signed());
        prop_assert_eq!(own.faults(), Vec::<String>::new());

        if term.not_before <= CA.certificate().validity().not_after {
            let issued = issue::issue(&order, &CA).unwrap().certificate;
            prop_assert_eq!(&issued.profile(), &profile);
            prop_assert_eq!(issued.issuer(), CA.certificate().subject());
            prop_assert!(issued.signed_by(CA.certificate()));
        }

        let request = SigningRequest::from_der(&issue::csr(&profile, &KEY).unwrap()).unwrap();
        prop_assert_eq!(request.profile(), &profile);
    }

    #[test]
    fn damaged_certificates_never_panic(edits in edits()) {
        let leaf = issue_leaf(&CA, &KEY);
        for der in [leaf.der(), CA.certificate().der()] {
            if let Ok(certificate) = Certificate::from_der(damage(der, &edits)) {
                read_all(&certificate);
            }
        }
        let request = issue::csr(&ca_profile("x"), &KEY).unwrap();
        let _ = SigningRequest::from_der(&damage(&request, &edits));
    }

    #[test]
    fn damaged_pem_never_panics(edits in edits()) {
        let leaf = issue_leaf(&CA, &KEY).to_pem();
        let key = KEY.to_pem(KeyFormat::Traditional);
        let file = damage([leaf.as_str(), key.as_str()].concat().as_bytes(), &edits);
        let _ = pem::read(&file);
        for certificate in inspect::from_pem(&file).unwrap_or_default() {
            read_all(&certificate);
        }
        let _ = PrivateKey::from_pem(&file);
    }

    #[test]
    fn damaged_keys_never_panic(edits in edits()) {
        for (label, format) in [("EC PRIVATE KEY", KeyFormat::Traditional), ("PRIVATE KEY", KeyFormat::Pkcs8)] {
            let whole = KEY.to_pem(format);
            let blocks = pem::read(whole.as_bytes()).unwrap();
            let [pem::Block::Key(block)] = &blocks[..] else { panic!("one key") };
            let file = pem::encode(label, &damage(&block.der, &edits));
            if let Ok(key) = PrivateKey::from_pem(file.as_bytes()) {
                prop_assert!(issue::self_signed(&ca_profile("x"), long(), &key).is_ok());
            }
        }
        let _ = PublicKey::from_der(damage(KEY.public_key().der(), &edits)).map(|key| key.algorithm_text());
    }
}
