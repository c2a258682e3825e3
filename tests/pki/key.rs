//! Private keys made by openssl, read; and keys made here, read by openssl.

use certkit::{
    model::algorithm::KeyAlgorithm,
    pki::{
        inspect,
        issue::{self, IssuingCa},
        key::{CaKey, KeyError, KeyFormat, PrivateKey, PublicKey, SealedKey},
        pem::{self, Block, Label, PemError},
    },
};

use crate::{algorithms, ca_profile, issue_leaf, long, now, openssl::Openssl};

const P521: KeyAlgorithm = KeyAlgorithm::EcdsaP521;

/// Commands that make `key.pem`, and what it then is.
fn readable() -> Vec<(&'static str, KeyAlgorithm, KeyFormat)> {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, Ed25519, Rsa};
    use KeyFormat::{Pkcs8, Traditional};
    let mut table = vec![
        ("genrsa -traditional -out key.pem 2048", Rsa(2048), Traditional),
        ("genrsa -traditional -out key.pem 3072", Rsa(3072), Traditional),
        ("genrsa -traditional -out key.pem 4096", Rsa(4096), Traditional),
        ("genrsa -out key.pem 2048", Rsa(2048), Pkcs8),
        ("ecparam -name prime256v1 -genkey -noout -out key.pem", EcdsaP256, Traditional),
        ("ecparam -name prime256v1 -genkey -out key.pem", EcdsaP256, Traditional),
        ("ecparam -name secp384r1 -genkey -out key.pem", EcdsaP384, Traditional),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem", EcdsaP256, Pkcs8),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key.pem", EcdsaP384, Pkcs8),
        ("genpkey -algorithm ed25519 -out key.pem", Ed25519, Pkcs8),
    ];
    if cfg!(feature = "rsa-keygen") {
        table.extend([
            ("ecparam -name secp521r1 -genkey -out key.pem", P521, Traditional),
            ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out key.pem", P521, Pkcs8),
        ]);
    }
    table
}

#[test]
fn keys_that_openssl_made_are_read_and_sign_as_a_ca() {
    for (command, algorithm, format) in readable() {
        let openssl = Openssl::new();
        openssl.run(command);
        let key = PrivateKey::from_pem(&openssl.read("key.pem")).expect(command);
        assert_eq!((key.algorithm(), key.format()), (algorithm, format), "{command}");
        assert_eq!(key.public_key().to_pem(), openssl.run("pkey -in key.pem -pubout"), "{command}");
        assert_eq!(key.public_key().algorithm(), Some(algorithm), "{command}");

        let certificate = issue::self_signed(&ca_profile("ca"), long(), &key).unwrap();
        let issuer = IssuingCa::new(certificate, key).unwrap();
        let leaf = issue_leaf(&issuer, &PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());
        openssl.write("ca.crt", issuer.certificate().to_pem()).write("leaf.crt", leaf.to_pem());
        openssl.run("verify -x509_strict -purpose sslserver -CAfile ca.crt leaf.crt");
    }
}

#[test]
fn keys_are_written_as_openssl_writes_them() {
    for (command, ..) in readable() {
        let openssl = Openssl::new();
        openssl.run(command);
        let key = PrivateKey::from_pem(&openssl.read("key.pem")).unwrap();
        let traditional = match key.algorithm() {
            KeyAlgorithm::Ed25519 => "pkey -in key.pem",
            _ => "pkey -in key.pem -traditional",
        };
        assert_eq!(*key.to_pem(KeyFormat::Traditional), openssl.run(traditional), "{command}");
        assert_eq!(
            *key.to_pem(KeyFormat::Pkcs8),
            openssl.run("pkcs8 -topk8 -nocrypt -in key.pem"),
            "{command}"
        );
    }
}

#[test]
fn keys_made_here_pass_openssls_check_and_read_back() {
    for algorithm in algorithms() {
        let key = PrivateKey::generate(algorithm).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        for format in [KeyFormat::Traditional, KeyFormat::Pkcs8] {
            let openssl = Openssl::new();
            let pem = key.to_pem(format);
            openssl.write("key.pem", pem.as_bytes());
            assert!(openssl.run("pkey -in key.pem -check -noout").contains("Key is valid"));
            let back = PrivateKey::from_pem(pem.as_bytes()).unwrap();
            assert_eq!(back.public_key(), key.public_key());
            assert_eq!(back.to_pem(format), pem);
        }
    }
}

#[test]
fn a_key_without_its_public_key_takes_it_from_the_certificate() {
    let curves: &[&str] = match cfg!(feature = "rsa-keygen") {
        true => &["prime256v1", "secp384r1", "secp521r1"],
        false => &["prime256v1", "secp384r1"],
    };
    for curve in curves {
        let openssl = Openssl::new();
        openssl.run(&format!("ecparam -name {curve} -genkey -noout -out key.pem"));
        openssl.run("req -x509 -new -key key.pem -subj /CN=ca -out ca.crt");
        openssl.run("ec -in key.pem -no_public -out bare.pem");
        openssl.run("pkcs8 -topk8 -nocrypt -in bare.pem -out bare8.pem");
        let certificate = &inspect::from_pem(&openssl.read("ca.crt")).unwrap()[0];
        for file in ["bare.pem", "bare8.pem"] {
            let bare = openssl.read(file);
            let key = PrivateKey::from_pem_for(&bare, certificate.public_key()).unwrap();
            assert_eq!(key.public_key(), certificate.public_key(), "{curve} {file}");
            // Without a certificate only aws-lc-rs can compute it.
            match PrivateKey::from_pem(&bare) {
                Ok(key) => assert_eq!(key.public_key(), certificate.public_key()),
                Err(KeyError::NoPublicKey) if !cfg!(feature = "rsa-keygen") => {}
                Err(error) => panic!("{error}"),
            }
            // Another's certificate does not make it another's key.
            openssl.run(&format!("ecparam -name {curve} -genkey -noout -out other.pem"));
            openssl.run("req -x509 -new -key other.pem -subj /CN=ca -out other.crt");
            let other = &inspect::from_pem(&openssl.read("other.crt")).unwrap()[0];
            assert!(matches!(
                PrivateKey::from_pem_for(&bare, other.public_key()),
                Err(KeyError::Unusable(_))
            ));
        }
    }
}

#[test]
fn each_key_that_cannot_be_used_is_named() {
    let unsupported = |what: &str| KeyError::Unsupported(what.into());
    let old =
        |label: &str| KeyError::Pem(PemError::OldEncryption { label: Label::new(label), line: 1 });
    let table = [
        ("genrsa -traditional -out key.pem 1024", KeyError::RsaSize(1024)),
        ("genrsa -out key.pem 5120", KeyError::RsaSize(5120)),
        ("genrsa -3 -out key.pem 2048", KeyError::RsaExponent(3)),
        ("genrsa -primes 3 -traditional -out key.pem 2048", KeyError::RsaPrimes),
        ("genpkey -algorithm RSA-PSS -out key.pem", unsupported("RSA-PSS")),
        ("genpkey -algorithm ed448 -out key.pem", unsupported("Ed448")),
        ("genpkey -algorithm x25519 -out key.pem", unsupported("X25519")),
        ("ecparam -name secp256k1 -genkey -noout -out key.pem", unsupported("EC (secp256k1)")),
        ("ecparam -name secp224r1 -genkey -noout -out key.pem", unsupported("EC (P-224)")),
        (
            "ecparam -name prime256v1 -genkey -noout -param_enc explicit -out key.pem",
            KeyError::ExplicitCurve,
        ),
        (
            "ecparam -name prime256v1 -genkey -noout -out whole.pem; \
             ec -in whole.pem -conv_form compressed -out key.pem",
            KeyError::CompressedPoint,
        ),
        ("genpkey -algorithm ed25519 -aes128 -pass pass:secret -out key.pem", KeyError::Encrypted),
        (
            "genrsa -traditional -aes128 -passout pass:secret -out key.pem 2048",
            old("RSA PRIVATE KEY"),
        ),
    ];
    for (command, error) in table {
        let openssl = Openssl::new();
        command.split(';').for_each(|command| drop(openssl.run(command)));
        let result = PrivateKey::from_pem(&openssl.read("key.pem"));
        assert_eq!(result.unwrap_err(), error, "{command}");
    }
}

#[test]
fn rsa_generation_works_or_says_what_is_missing() {
    match PrivateKey::generate(KeyAlgorithm::Rsa(2048)) {
        Ok(key) => assert_eq!(key.algorithm(), KeyAlgorithm::Rsa(2048)),
        Err(error) if !cfg!(feature = "rsa-keygen") => {
            assert!(error.to_string().contains("feature `rsa-keygen`"), "{error}");
        }
        Err(error) => panic!("{error}"),
    }
    assert!(PrivateKey::generate(KeyAlgorithm::Rsa(1024)).is_err());
}

#[test]
fn the_first_key_is_taken_from_among_certificates() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let other = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let certificate = issue::self_signed(&ca_profile("ca"), long(), &key).unwrap().to_pem();
    for order in [
        [certificate.as_str(), &key.to_pem(KeyFormat::Traditional), ""],
        [&key.to_pem(KeyFormat::Pkcs8), certificate.as_str(), &other.to_pem(KeyFormat::Pkcs8)],
    ] {
        let file = order.concat();
        let read = PrivateKey::from_pem(file.as_bytes()).unwrap();
        assert_eq!(read.public_key(), key.public_key());
        assert_eq!(inspect::from_pem(file.as_bytes()).unwrap().len(), 1);
    }
    assert_eq!(PrivateKey::from_pem(certificate.as_bytes()).unwrap_err(), KeyError::NoKey);
}

#[test]
fn a_public_part_of_another_key_is_found_out() {
    let der = |key: &PrivateKey| match &pem::read(key.to_pem(KeyFormat::Traditional).as_bytes())
        .unwrap()[..]
    {
        [Block::Key(block)] => block.der.to_vec(),
        other => panic!("{other:?}"),
    };
    let one = der(&PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());
    let other = der(&PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());
    // The point's 64 bytes are the last of the structure.
    let forged = [&one[..one.len() - 64], &other[other.len() - 64..]].concat();
    let pem = pem::encode("EC PRIVATE KEY", &forged);
    assert!(matches!(PrivateKey::from_pem(pem.as_bytes()), Err(KeyError::Unusable(_))));
}

#[test]
fn a_wrong_label_is_found_out() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let pem = key.to_pem(KeyFormat::Traditional).replace("EC PRIVATE", "RSA PRIVATE");
    assert_eq!(PrivateKey::from_pem(pem.as_bytes()).unwrap_err(), KeyError::Malformed);
}

#[test]
fn public_keys_read_back_and_bundles_keep_their_order() {
    let keys: Vec<PrivateKey> =
        algorithms().into_iter().map(|a| PrivateKey::generate(a).unwrap()).collect();
    let bundle: String = keys.iter().map(|key| key.public_key().to_pem()).collect();
    let read = PublicKey::all_from_pem(bundle.as_bytes()).unwrap();
    assert!(read.iter().eq(keys.iter().map(PrivateKey::public_key)));
    assert_eq!(&PublicKey::from_pem(bundle.as_bytes()).unwrap(), keys[0].public_key());
}

#[test]
fn a_private_key_is_never_shown() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(ecdsa-p256, elided)");
    let certificate = issue::self_signed(&ca_profile("ca"), long(), &key).unwrap();
    assert!(certificate.validity().not_after > now());
    let issuer = IssuingCa::new(certificate, key).unwrap();
    assert!(format!("{issuer:?}").contains("elided"));
}

/// Commands that encrypt `key.pem` into `sealed.pem` with the password `an old secret`.
const SEALING: &[&str] = &[
    "pkcs8 -topk8 -in key.pem -out sealed.pem -passout file:password",
    "pkcs8 -topk8 -v2 aes-128-cbc -in key.pem -out sealed.pem -passout file:password",
    "pkcs8 -topk8 -v2 aes-192-cbc -in key.pem -out sealed.pem -passout file:password",
    "pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA1 -in key.pem -out sealed.pem -passout file:password",
    "pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA512 -in key.pem -out sealed.pem -passout file:password",
    "pkcs8 -topk8 -iter 100000 -in key.pem -out sealed.pem -passout file:password",
    "pkcs8 -topk8 -scrypt -in key.pem -out sealed.pem -passout file:password",
    "pkcs8 -topk8 -scrypt -scrypt_N 1024 -scrypt_r 4 -scrypt_p 2 -in key.pem -out sealed.pem \
     -passout file:password",
    "pkey -aes256 -in key.pem -out sealed.pem -passout file:password",
];

fn sealed(openssl: &Openssl, command: &str) -> SealedKey {
    openssl.write("password", "an old secret\n");
    openssl.run(command);
    SealedKey::from_pem(&openssl.read("sealed.pem")).expect(command).expect("an encrypted key")
}

#[test]
fn keys_that_openssl_encrypted_open_with_their_password_only() {
    for command in SEALING {
        let openssl = Openssl::new();
        openssl.run("ecparam -name prime256v1 -genkey -noout -out key.pem");
        let key = sealed(&openssl, command);
        let open = key.open(b"an old secret", None).expect(command);
        let clear = PrivateKey::from_pem(&openssl.read("key.pem")).unwrap();
        assert_eq!(open.pkcs8(), clear.pkcs8(), "{command}");
        for wrong in [&b""[..], b"an old secret ", b"An old secret"] {
            assert_eq!(key.open(wrong, None).unwrap_err(), KeyError::Password, "{command}");
        }
    }
}

#[test]
fn a_wrong_password_is_told_from_a_damaged_key_every_time() {
    // One wrong password in 256 leaves what looks like padding.
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -noout -out key.pem");
    let key = sealed(&openssl, "pkcs8 -topk8 -in key.pem -out sealed.pem -passout file:password");
    for number in 0..1000 {
        let wrong = format!("wrong {number}");
        assert_eq!(key.open(wrong.as_bytes(), None).unwrap_err(), KeyError::Password);
    }
}

#[test]
fn keys_of_every_kind_are_encrypted_as_openssl_reads_them() {
    for (command, algorithm, _) in readable() {
        let openssl = Openssl::new();
        openssl.run(command);
        let key = PrivateKey::from_pem(&openssl.read("key.pem")).unwrap();
        let password = "p\u{e4}ss 'w\"ord";
        let sealed = SealedKey::seal(&key, password.as_bytes()).unwrap();
        let pem = sealed.to_pem();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        openssl.write("sealed.pem", pem.as_bytes()).write("password", password);
        let text = openssl.run("pkcs8 -topk8 -nocrypt -in sealed.pem -passin file:password");
        assert_eq!(*key.to_pem(KeyFormat::Pkcs8), text, "{command}");
        let again = SealedKey::from_pem(pem.as_bytes()).unwrap().unwrap();
        assert_eq!(again.open(password.as_bytes(), None).unwrap().algorithm(), algorithm);
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -noout -out key.pem");
    let open = |command: &str| sealed(&openssl, command).open(b"an old secret", None).unwrap_err();
    let to = "-in key.pem -out sealed.pem -passout file:password";
    for (options, oid) in
        [("-v2 des3", "1.2.840.113549.3.7"), ("-v2 camellia256", "1.2.392.200011.61.1.1.1.4")]
    {
        let error = open(&format!("pkcs8 -topk8 {options} {to}"));
        assert_eq!(error, KeyError::Cipher(oid.into()), "{options}");
        assert!(error.hint().unwrap().contains("openssl pkcs8 -topk8"));
    }
    // PBES1, which openssl before 1.1 wrote.
    let error = open(&format!("pkcs8 -topk8 -v1 PBE-SHA1-3DES {to}"));
    assert!(matches!(error, KeyError::Cipher(_)), "{error:?}");
    // Half a gigabyte is more than a key is worth. openssl does not make such a one: r is put up to 127.
    sealed(&openssl, &format!("pkcs8 -topk8 -scrypt -scrypt_N 65536 -scrypt_r 2 -scrypt_p 1 {to}"));
    let Block::Key(block) = pem::read(&openssl.read("sealed.pem")).unwrap().remove(0) else {
        panic!("a key");
    };
    let mut der = block.der.to_vec();
    let cost = [2, 3, 1, 0, 0, 2, 1, 2];
    let at = der.windows(cost.len()).position(|window| window == cost).unwrap();
    der[at + cost.len() - 1] = 127;
    let pem = pem::encode("ENCRYPTED PRIVATE KEY", &der);
    let error = SealedKey::from_pem(pem.as_bytes()).unwrap().unwrap().open(b"x", None).unwrap_err();
    assert_eq!(error, KeyError::Costly);
}

#[test]
fn an_encrypted_key_is_a_cas_and_no_leafs() {
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -noout -out key.pem");
    sealed(&openssl, SEALING[0]);
    let pem = openssl.read("sealed.pem");
    assert!(matches!(CaKey::from_pem(&pem, None), Ok(CaKey::Sealed(_))));
    assert!(matches!(CaKey::from_pem(&openssl.read("key.pem"), None), Ok(CaKey::Clear(_))));
    assert_eq!(PrivateKey::from_pem(&pem).unwrap_err(), KeyError::Encrypted);
    assert_eq!(PublicKey::from_pem(&pem).unwrap_err(), KeyError::Encrypted);
}

#[test]
fn an_opened_key_without_its_public_half_takes_it_from_the_certificate() {
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -noout -out whole.pem");
    openssl.run("req -x509 -new -key whole.pem -subj /CN=ca -out ca.crt");
    openssl.run("ec -in whole.pem -no_public -out key.pem");
    let key = sealed(&openssl, SEALING[0]);
    let certificate = &inspect::from_pem(&openssl.read("ca.crt")).unwrap()[0];
    let open = key.open(b"an old secret", Some(certificate.public_key())).unwrap();
    assert_eq!(open.public_key(), certificate.public_key());
}
