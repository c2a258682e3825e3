//! Odd certificates of the kinds met in the wild, made with openssl or by hand.

use certkit::{
    model::{
        algorithm::KeyAlgorithm,
        der,
        profile::Kind,
        san::San,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        inspect::{self, Certificate, InspectError},
        issue,
        key::PrivateKey,
    },
};

use crate::{ca, ca_profile, issue_leaf, long, openssl::Openssl};

/// A self-signed certificate made by openssl with these lines of extensions.
fn made(extensions: &str, options: &str) -> (Openssl, Certificate) {
    let openssl = Openssl::new();
    openssl.write(
        "cnf",
        format!("[req]\ndistinguished_name=dn\n[dn]\n[v3]\n{extensions}\n[dir]\nCN=inner\n"),
    );
    openssl.run(&format!(
        "req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key \
         -config cnf -extensions v3 -subj /O=a/CN=b {options} -out crt"
    ));
    let certificate = inspect::from_pem(&openssl.read("crt")).unwrap().remove(0);
    (openssl, certificate)
}

#[test]
fn serial_and_fingerprint_are_what_openssl_prints() {
    for options in
        ["", "-set_serial 0x00ff00", "-set_serial -5", "-set_serial -0x80", "-set_serial 0"]
    {
        let (openssl, certificate) = made("basicConstraints=CA:FALSE", options);
        let printed = openssl.run("x509 -in crt -noout -serial");
        let digits = printed.trim().trim_start_matches("serial=").to_lowercase();
        let (sign, digits) = match digits.strip_prefix('-') {
            Some(digits) => ("-", digits.to_owned()),
            None => ("", digits),
        };
        let digits = match digits.trim_start_matches('0') {
            "" => "0",
            digits => digits,
        };
        assert_eq!(certificate.serial_hex(), format!("{sign}{digits}"), "{options}");
        let printed = openssl.run("x509 -in crt -noout -fingerprint -sha256");
        let digits = printed.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
        assert_eq!(certificate.fingerprint_hex(), digits);
    }
    let (_, negative) = made("basicConstraints=CA:FALSE", "-set_serial -5");
    assert_eq!(negative.faults(), ["the serial number is negative"]);
    let (_, zero) = made("basicConstraints=CA:FALSE", "-set_serial 0");
    assert_eq!(zero.faults(), ["the serial number is zero"]);
}

#[test]
fn every_kind_of_alternative_name_is_kept() {
    let (_, certificate) = made(
        "subjectAltName=DNS:a.b,IP:10.0.0.1,IP:fd00::1,email:x@y,URI:spiffe://a/b,RID:1.2.3.4,\
         dirName:dir,otherName:1.2.3.4;UTF8:hello",
        "",
    );
    let sans = certificate.sans();
    assert_eq!(
        sans[..5],
        [
            San::Dns("a.b".into()),
            San::Ip("10.0.0.1".parse().unwrap()),
            San::Ip("fd00::1".parse().unwrap()),
            San::Email("x@y".into()),
            San::Uri("spiffe://a/b".into()),
        ]
    );
    assert!(sans[5..].iter().all(|san| matches!(san, San::Other(_))) && sans.len() == 8);
    // They are written again as they were.
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let again = issue::self_signed(&certificate.profile(), long(), &key).unwrap();
    let text = |certificate: &Certificate| {
        let openssl = Openssl::new();
        openssl.write("crt", certificate.to_pem());
        openssl.run("x509 -in crt -noout -ext subjectAltName")
    };
    assert!(text(&again).contains("hello"));
    assert_eq!(text(&certificate), text(&again));
}

#[test]
fn usages_keep_their_bits_and_their_order() {
    let (_, certificate) = made(
        "keyUsage=keyAgreement,decipherOnly\n\
         extendedKeyUsage=1.2.3.4,clientAuth,codeSigning,serverAuth,2.25.99999999999999999999999999",
        "",
    );
    assert_eq!(
        certificate.key_usages(),
        Some(KeyUsages(KeyUsages::KEY_AGREEMENT.0 | KeyUsages::DECIPHER_ONLY.0))
    );
    let other = |oid: &str| ExtendedUsage::Other(oid.into());
    assert_eq!(
        certificate.extended_usages(),
        [
            other("1.2.3.4"),
            ExtendedUsage::ClientAuth,
            other("1.3.6.1.5.5.7.3.3"),
            ExtendedUsage::ServerAuth,
            other("2.25.99999999999999999999999999"),
        ]
    );
}

#[test]
fn unknown_extensions_are_listed_with_their_weight() {
    let (_, certificate) = made("1.2.3.4=critical,ASN1:UTF8String:x\n2.999=ASN1:UTF8String:y", "");
    assert_eq!(
        certificate.other_extensions(),
        [("1.2.3.4".to_owned(), true), ("2.999".to_owned(), false)]
    );
}

#[test]
fn version_1_is_read_as_a_leaf() {
    let openssl = Openssl::new();
    openssl.run("req -new -newkey rsa:2048 -nodes -keyout key -subj /CN=old -out csr");
    openssl.run("x509 -req -in csr -signkey key -out crt");
    let certificate = inspect::from_pem(&openssl.read("crt")).unwrap().remove(0);
    assert_eq!(certificate.kind(), Kind::Leaf);
    assert_eq!(certificate.key_usages(), None);
    assert_eq!(certificate.sans(), []);
    assert!(certificate.is_self_signed());
}

#[test]
fn keys_certkit_cannot_use_are_named() {
    for (command, text) in [
        ("genpkey -algorithm ed448 -out key", "Ed448"),
        ("genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out key", "RSA-PSS"),
        ("ecparam -name secp256k1 -genkey -noout -out key", "EC (secp256k1)"),
        ("genrsa -out key 1024", "rsa-1024"),
        ("ecparam -name secp521r1 -genkey -noout -out key", "ecdsa-p521"),
    ] {
        let openssl = Openssl::new();
        openssl.run(command);
        openssl.run("req -x509 -new -key key -subj /CN=x -out crt");
        let certificate = inspect::from_pem(&openssl.read("crt")).unwrap().remove(0);
        assert_eq!(certificate.key_text(), text);
    }
}

#[test]
fn names_are_shown_so_that_they_cannot_pretend() {
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -noout -out key");
    openssl
        .run("req -x509 -new -key key -utf8 -subj /O=a,CN=admin/CN=\u{202e}x\u{1b}[31m -out crt");
    let certificate = inspect::from_pem(&openssl.read("crt")).unwrap().remove(0);
    assert_eq!(certificate.subject().to_string(), r"O=a\,CN=admin, CN=\u{202e}x\u{1b}[31m");
    assert_eq!(certificate.organizations(), ["a,CN=admin"]);
    assert_eq!(certificate.common_name().as_deref(), Some("\u{202e}x\u{1b}[31m"));
}

/// The elements of a structure, for certificates put together by hand. Lengths up to 65,535.
fn elements(der: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut out) = (content(der), Vec::new());
    while !rest.is_empty() {
        let length = header(rest).0 + header(rest).1;
        out.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    out
}

fn content(der: &[u8]) -> &[u8] {
    let (header, length) = header(der);
    &der[header..header + length]
}

/// Bytes of tag and length, and of the content.
fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        0x81 => (3, der[2].into()),
        0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
        length => (2, length.into()),
    }
}

/// A certificate whose signed part was changed (its signature no longer verifies).
fn changed(change: impl Fn(&mut Vec<Vec<u8>>)) -> Result<Certificate, InspectError> {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let leaf = issue_leaf(&ca(KeyAlgorithm::EcdsaP256), &key);
    let mut outer = elements(leaf.der());
    let mut body = elements(&outer[0]);
    change(&mut body);
    outer[0] = der::sequence(&body);
    Certificate::from_der(der::sequence(&outer))
}

#[test]
fn odd_dates_are_read() {
    let dates = |from: &[u8], to: &[u8]| der::sequence(&[der::tlv(0x18, from), der::tlv(0x18, to)]);
    let read = |from: &[u8], to: &[u8]| {
        let dates = dates(from, to);
        changed(|body| body[4] = dates.clone()).map(|c| c.validity())
    };
    let validity = read(b"202001010000Z", b"99991231235959Z").unwrap();
    assert_eq!(validity.not_before.to_string(), "2020-01-01T00:00:00Z");
    assert_eq!(validity.not_after.to_string(), "9999-12-31T23:59:59Z");
    let reversed = dates(b"20300101000000Z", b"20200101000000Z");
    let reversed = changed(|body| body[4] = reversed.clone()).unwrap();
    assert_eq!(reversed.faults(), ["it ends before it begins"]);
    assert!(read(b"20209901000000Z", b"20300101000000Z").is_err());
    assert!(read(b"", b"").is_err());
}

#[test]
fn repeated_and_unreadable_extensions_are_told() {
    let extensions = |body: &[Vec<u8>]| elements(content(&body[7]));
    let put = |body: &mut Vec<Vec<u8>>, list: Vec<Vec<u8>>| {
        body[7] = der::tlv(0xa3, &der::sequence(&list));
    };
    let twice = changed(|body| {
        let mut list = extensions(body);
        list.push(list[0].clone());
        put(body, list);
    })
    .unwrap();
    assert_eq!(
        twice.faults(),
        ["the extension authorityKeyIdentifier is there twice; the first one counts"]
    );
    for (number, label) in
        [(15, "keyUsage"), (17, "subjectAltName"), (19, "basicConstraints"), (37, "extKeyUsage")]
    {
        let broken = changed(|body| {
            let oid = der::tlv(der::OID, &[0x55, 0x1d, number]);
            let value = der::tlv(4, &[0x30, 5, 1]);
            put(body, vec![der::sequence(&[oid, value])]);
        })
        .unwrap();
        assert_eq!(broken.faults(), [format!("the extension {label} cannot be read")]);
        assert!(broken.sans().is_empty() && broken.kind() == Kind::Leaf);
    }
}

#[test]
fn what_is_no_certificate_is_an_error() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let certificate = issue::self_signed(&ca_profile("ca"), long(), &key).unwrap();
    let mut der = certificate.der().to_vec();
    der.push(0);
    assert_eq!(Certificate::from_der(der).unwrap_err(), InspectError::TrailingData(1));
    for bad in [vec![], vec![0x30], vec![0x30, 0], key.public_key().der().to_vec()] {
        assert!(Certificate::from_der(bad).is_err());
    }
    for length in 0..certificate.der().len() {
        assert!(Certificate::from_der(certificate.der()[..length].to_vec()).is_err());
    }
}
