//! Certificates and signing requests made here, judged by openssl.

use certkit::{
    model::{
        algorithm::KeyAlgorithm,
        name::Name,
        profile::{Kind, Profile},
        san::San,
        timestamp::Timestamp,
        usage::{ExtendedUsage, KeyUsages},
    },
    pki::{
        inspect::{self, Certificate, SigningRequest},
        issue::{self, Issuance, IssueError, IssuingCa},
        key::{KeyFormat, PrivateKey},
        pem,
    },
};

use crate::{
    algorithms, ca, ca_profile, issue_leaf, leaf_profile, long, openssl::Openssl, validity,
};

fn p256() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

#[test]
fn every_leaf_under_every_ca_passes_openssls_strict_verification() {
    let leaves: Vec<PrivateKey> =
        algorithms().into_iter().map(|a| PrivateKey::generate(a).unwrap()).collect();
    for algorithm in algorithms() {
        let (issuer, stranger) = (ca(algorithm), ca(algorithm));
        for key in &leaves {
            let leaf = issue_leaf(&issuer, key);
            let openssl = Openssl::new();
            openssl.write("ca.crt", issuer.certificate().to_pem()).write("crt", leaf.to_pem());
            for check in [
                "-purpose sslserver -verify_hostname cp1",
                "-purpose sslserver -verify_hostname a.example.com",
                "-purpose sslserver -verify_ip fd00::1",
                "-purpose sslclient",
            ] {
                openssl.run(&format!("verify -x509_strict {check} -CAfile ca.crt crt"));
            }
            assert!(
                openssl
                    .attempt("verify -x509_strict -verify_hostname other -CAfile ca.crt crt")
                    .is_err()
            );
            assert!(leaf.signed_by(issuer.certificate()), "{algorithm} {key:?}");
            assert!(!leaf.signed_by(stranger.certificate()));
            assert_eq!(leaf.public_key(), key.public_key());
        }
        assert!(issuer.certificate().is_self_signed());
    }
}

#[test]
fn requests_pass_openssls_verification_and_ask_for_all_of_the_profile() {
    for algorithm in algorithms() {
        let key = PrivateKey::generate(algorithm).unwrap();
        for profile in [leaf_profile(), ca_profile("intermediate")] {
            let der = issue::csr(&profile, &key).unwrap();
            let openssl = Openssl::new();
            openssl.write("csr", pem::encode("CERTIFICATE REQUEST", &der));
            let text = openssl.run("req -in csr -verify -noout -text");
            assert!(text.contains("X509v3 Key Usage: critical"), "{text}");
            assert!(text.contains("X509v3 Basic Constraints: critical"), "{text}");
            if profile.kind == Kind::Leaf {
                assert!(text.contains("O = system:nodes + O = system:masters"), "{text}");
                assert!(text.contains("IP Address:10.0.0.1"), "{text}");
                assert!(text.contains("TLS Web Client Authentication"), "{text}");
            }
            let request = SigningRequest::from_der(&der).unwrap();
            assert_eq!(request.profile(), &profile);
            assert_eq!(request.public_key(), key.public_key());
        }
    }
}

#[test]
fn a_request_that_was_changed_proves_nothing() {
    let mut der = issue::csr(&leaf_profile(), &p256()).unwrap();
    let at = der.windows(3).position(|w| w == b"cp1").unwrap();
    der[at] = b'd';
    assert!(SigningRequest::from_der(&der).is_err());
}

/// A CA made by openssl, with this subject and these lines of extensions.
fn foreign_ca(subject: &str, extensions: &str) -> (Openssl, IssuingCa) {
    let openssl = Openssl::new();
    openssl.write(
        "cnf",
        format!("[req]\ndistinguished_name=dn\nstring_mask=default\n[dn]\n[v3]\n{extensions}\n"),
    );
    openssl.run(&format!(
        "req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key \
         -days 20000 -utf8 -multivalue-rdn -config cnf -extensions v3 -subj {subject} -out ca.crt"
    ));
    let certificate = inspect::from_pem(&openssl.read("ca.crt")).unwrap().remove(0);
    let key = PrivateKey::from_pem(&openssl.read("ca.key")).unwrap();
    let issuer = IssuingCa::new(certificate, key).unwrap();
    (openssl, issuer)
}

const CA: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,digitalSignature";

#[test]
fn the_issuer_is_the_ca_s_subject_byte_for_byte() {
    for subject in [
        "/CN=kubernetes",
        "/DC=com/DC=example/DC=corp/CN=ca",
        "/O=a/OU=one/OU=two/CN=ca",
        "/C=DE/O=a+OU=b+CN=ca",
        "/O=Müller/CN=日本/emailAddress=a@b",
        "/CN=one/CN=two/O=after",
    ] {
        let (openssl, issuer) = foreign_ca(subject, &format!("{CA}\nsubjectKeyIdentifier=hash"));
        let leaf = issue_leaf(&issuer, &p256());
        assert_eq!(leaf.issuer().der(), issuer.certificate().subject().der());
        assert_eq!(leaf.aki(), issuer.certificate().ski());
        assert!(leaf.aki().is_some());
        openssl.write("crt", leaf.to_pem());
        openssl.run("verify -x509_strict -purpose sslserver -CAfile ca.crt crt");
    }
}

#[test]
fn without_a_key_identifier_of_the_ca_none_is_invented() {
    let (openssl, issuer) = foreign_ca("/CN=ca", &format!("{CA}\nsubjectKeyIdentifier=none"));
    assert_eq!(issuer.certificate().ski(), None);
    let leaf = issue_leaf(&issuer, &p256());
    assert_eq!(leaf.aki(), None);
    openssl.write("crt", leaf.to_pem());
    openssl.run("verify -purpose sslserver -CAfile ca.crt crt");
}

#[test]
fn made_anew_a_certificate_has_every_extension_byte_for_byte_and_in_its_order() {
    let (openssl, issuer) = foreign_ca("/CN=ca", &format!("{CA}\nsubjectKeyIdentifier=hash"));
    openssl.write(
        "ext",
        "extendedKeyUsage=clientAuth,serverAuth\nsubjectKeyIdentifier=hash\nkeyUsage=keyAgreement,digitalSignature\n\
         certificatePolicies=1.2.3.4\nsubjectAltName=critical,DNS:a,dirName:dn,RID:1.2.3,IP:10.0.0.1,DNS:A\n\
         basicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid,issuer:always\n[dn]\nCN=somebody\n",
    );
    openssl.run("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -subj /CN=a -out csr");
    openssl.run("x509 -req -in csr -CA ca.crt -CAkey ca.key -days 9 -extfile ext -out crt");
    let old = inspect::from_pem(&openssl.read("crt")).unwrap().remove(0);
    let key = p256();
    let order =
        Issuance { profile: &old.profile(), validity: long(), public_key: key.public_key() };
    let new = issue::reissue(&order, &issuer, &old).unwrap().certificate;
    let (had, has) = (old.raw_extensions(), new.raw_extensions());
    assert_eq!(has.len(), had.len());
    for (old, new) in had.iter().zip(&has) {
        assert_eq!((&new.oid, new.critical), (&old.oid, old.critical));
        match new.oid.as_str() {
            // The two that name keys: here another one, and there as its own certificate calls it.
            "2.5.29.14" => assert_ne!(new.value, old.value),
            "2.5.29.35" => assert!(new.value.len() < old.value.len()),
            _ => assert_eq!(new.value, old.value),
        }
    }
    assert_eq!(new.aki(), issuer.certificate().ski());
    openssl.write("crt", new.to_pem());
    openssl.run("verify -x509_strict -CAfile ca.crt crt");
    // What has none gets what RFC 5280 demands, and no more.
    openssl.run("x509 -req -in csr -CA ca.crt -CAkey ca.key -days 9 -out crt");
    let bare = inspect::from_pem(&openssl.read("crt")).unwrap().remove(0);
    let new = issue::reissue(&order, &issuer, &bare).unwrap().certificate;
    let oids: Vec<_> = new.raw_extensions().into_iter().map(|e| e.oid).collect();
    assert!(bare.raw_extensions().len() <= oids.len() && oids.contains(&"2.5.29.35".to_owned()));
}

#[test]
fn what_cannot_sign_is_no_issuer() {
    let key = p256();
    let refused = |profile: &Profile, key| {
        IssuingCa::new(issue::self_signed(profile, long(), key).unwrap(), p256_from(key))
            .unwrap_err()
    };
    assert!(matches!(refused(&leaf_profile(), &key), IssueError::NotCa(_)));
    let no_sign = Profile { key_usages: KeyUsages::LEAF, ..ca_profile("ca") };
    assert!(matches!(refused(&no_sign, &key), IssueError::NoCertSign(_)));
    let certificate = issue::self_signed(&ca_profile("ca"), long(), &key).unwrap();
    assert!(matches!(IssuingCa::new(certificate, p256()), Err(IssueError::KeyMismatch(_))));
    // Without the extension every use is allowed (RFC 5280, 4.2.1.3).
    let silent = Profile { key_usages: KeyUsages::default(), ..ca_profile("ca") };
    let certificate = issue::self_signed(&silent, long(), &key).unwrap();
    assert!(IssuingCa::new(certificate, key).is_ok());
}

fn p256_from(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_pem(key.to_pem(KeyFormat::Pkcs8).as_bytes()).unwrap()
}

#[test]
fn an_intermediate_chains_to_its_root_and_keeps_to_its_path_length() {
    let root = ca(KeyAlgorithm::EcdsaP384);
    let key = p256();
    let profile = Profile { kind: Kind::Ca { path_len: Some(0) }, ..ca_profile("intermediate") };
    let order = Issuance { profile: &profile, validity: long(), public_key: key.public_key() };
    let certificate = issue::issue(&order, &root).unwrap().certificate;
    assert_eq!(certificate.aki(), root.certificate().ski());
    assert!(certificate.ski().is_some() && certificate.ski() != certificate.aki());
    assert!(!certificate.is_self_issued());
    let public_key = key.public_key().clone();
    let intermediate = IssuingCa::new(certificate, key).unwrap();
    let order = Issuance { profile: &profile, validity: long(), public_key: &public_key };
    assert!(matches!(issue::issue(&order, &intermediate), Err(IssueError::PathLength(_))));

    let leaf = issue_leaf(&intermediate, &p256());
    let openssl = Openssl::new();
    openssl
        .write("root.crt", root.certificate().to_pem())
        .write("mid.crt", intermediate.certificate().to_pem())
        .write("crt", leaf.to_pem());
    openssl.run("verify -x509_strict -purpose sslserver -CAfile root.crt -untrusted mid.crt crt");
}

#[test]
fn a_leaf_never_outlives_its_ca() {
    let issuer = ca(KeyAlgorithm::EcdsaP256);
    let end = issuer.certificate().validity().not_after;
    let (profile, key) = (leaf_profile(), p256());
    let issue = |from: &str, to: &str| {
        let validity = validity(from, to);
        issue::issue(
            &Issuance { profile: &profile, validity, public_key: key.public_key() },
            &issuer,
        )
    };
    let cut = issue("2026-01-01T00:00:00Z", "2070-01-01T00:00:01Z").unwrap();
    assert!(cut.clamped);
    assert_eq!(cut.certificate.validity().not_after, end);
    let whole = issue("2026-01-01T00:00:00Z", "2070-01-01T00:00:00Z").unwrap();
    assert!(!whole.clamped);
    let late = issue("2071-01-01T00:00:00Z", "2072-01-01T00:00:00Z").unwrap_err();
    assert!(matches!(late, IssueError::Term { not_after, .. } if not_after == end), "{late}");
}

#[test]
fn dates_to_2049_are_utc_time_and_later_ones_generalized_time() {
    let key = p256();
    for (not_after, written) in [
        ("2049-12-31T23:59:59Z", "UTCTIME           :491231235959Z"),
        ("2050-01-01T00:00:00Z", "GENERALIZEDTIME   :20500101000000Z"),
        ("9999-12-31T23:59:59Z", "GENERALIZEDTIME   :99991231235959Z"),
    ] {
        let validity = validity("2026-01-01T00:00:00Z", not_after);
        let certificate = issue::self_signed(&ca_profile("ca"), validity, &key).unwrap();
        assert_eq!(certificate.validity(), validity);
        let openssl = Openssl::new();
        openssl.write("crt", certificate.to_pem());
        let text = openssl.run("asn1parse -in crt");
        assert!(text.contains(written), "{text}");
        assert!(text.contains("UTCTIME           :260101000000Z"), "{text}");
    }
}

#[test]
fn serials_are_20_octets_positive_and_never_repeat() {
    let key = p256();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..500 {
        let certificate = issue::self_signed(&ca_profile("ca"), long(), &key).unwrap();
        let serial = certificate.serial().to_vec();
        assert_eq!(serial.len(), 20);
        assert_eq!(serial[0] & 0xc0, 0x40);
        assert!(seen.insert(serial));
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let key = p256();
    let with = |sans: Vec<San>, extended_usages: Vec<ExtendedUsage>| {
        let profile = Profile { sans, extended_usages, ..leaf_profile() };
        issue::self_signed(&profile, long(), &key)
    };
    assert!(matches!(with(vec![San::Dns("ü".into())], vec![]), Err(IssueError::San(_))));
    assert!(matches!(with(vec![San::Other(vec![1, 2, 3])], vec![]), Err(IssueError::San(_))));
    for bad in ["", "1", "abc", "1.99"] {
        let usage = ExtendedUsage::Other(bad.into());
        assert!(matches!(with(vec![], vec![usage]), Err(IssueError::ExtendedUsage(_))), "{bad}");
    }
}

#[test]
fn an_empty_subject_makes_the_names_critical() {
    let profile =
        Profile { subject: Name::from_der(vec![0x30, 0], String::new()), ..leaf_profile() };
    let certificate: Certificate = issue::self_signed(&profile, long(), &p256()).unwrap();
    let openssl = Openssl::new();
    openssl.write("crt", certificate.to_pem());
    let text = openssl.run("x509 -in crt -noout -text");
    assert!(text.contains("X509v3 Subject Alternative Name: critical"), "{text}");
    assert_eq!(
        certificate.validity().not_before,
        "2020-01-01T00:00:00Z".parse::<Timestamp>().unwrap()
    );
}
