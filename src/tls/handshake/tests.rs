//! Handshakes between certificates that openssl made.

use std::{path::Path, process::Command, time::SystemTime};

use rustls::pki_types::pem::PemObject;

use super::*;
use crate::model::duration::Span;

/// A folder with certificates made by openssl.
struct Pki(tempfile::TempDir);

/// A chain in DER and its key.
struct Pair {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

const LEAF: &str = "basicConstraints=critical,CA:FALSE";
const CA: &str = "basicConstraints=critical,CA:TRUE";
const CLIENT: &str = "extendedKeyUsage=clientAuth";
const SERVER: &str = "extendedKeyUsage=serverAuth";
const NAMES: &str = "subjectAltName=DNS:etcd1,IP:10.0.0.1";

impl Pki {
    /// None when openssl is not there: said by name, and a failure where CI is set.
    fn new(test: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "{test} needs openssl");
            eprintln!("skipped: {test}: openssl is not installed");
            return None;
        }
        let pki = Self(tempfile::tempdir().unwrap());
        let config = "[req]\ndistinguished_name=name\n[name]\n";
        std::fs::write(pki.path("openssl.cnf"), config).unwrap();
        Some(pki)
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).to_str().unwrap().to_owned()
    }

    fn openssl(&self, args: &[&str]) {
        let output = Command::new("openssl").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate and key in `file.crt` and `file.key`, self-signed without an issuer.
    fn make(
        &self,
        file: &str,
        issuer: Option<&str>,
        cn: &str,
        key: &[&str],
        days: u32,
        extensions: &[&str],
    ) -> Pair {
        let (crt, key_file) =
            (self.path(&format!("{file}.crt")), self.path(&format!("{file}.key")));
        let (config, subject) = (self.path("openssl.cnf"), format!("/CN={cn}"));
        let days = days.to_string();
        let mut args = vec!["req", "-x509", "-nodes", "-config", &config, "-subj", &subject];
        args.extend(["-days", &days, "-out", &crt, "-keyout", &key_file, "-newkey"]);
        args.extend(key);
        let signer =
            issuer.map(|i| (self.path(&format!("{i}.crt")), self.path(&format!("{i}.key"))));
        if let Some((certificate, key)) = &signer {
            args.extend(["-CA", certificate, "-CAkey", key]);
        }
        for extension in extensions {
            args.extend(["-addext", extension]);
        }
        self.openssl(&args);
        Pair { chain: vec![read_certificate(&crt)], key: read_key(&key_file) }
    }

    fn ca(&self, file: &str, cn: &str, days: u32) -> Vec<Vec<u8>> {
        self.make(file, None, cn, P256, days, &[CA]).chain
    }

    fn leaf(&self, file: &str, issuer: &str, extensions: &[&str]) -> Identity {
        let extensions: Vec<&str> = [LEAF].iter().chain(extensions).copied().collect();
        self.make(file, Some(issuer), file, P256, 30, &extensions).identity()
    }
}

impl Pair {
    fn identity(&self) -> Identity {
        Identity::new(&self.chain, &self.key).unwrap()
    }
}

const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
const P521: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
const ED25519: &[&str] = &["ed25519"];
const RSA: &[&str] = &["rsa:2048"];

fn read_certificate(path: impl AsRef<Path>) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

fn read_key(path: impl AsRef<Path>) -> Vec<u8> {
    PrivateKeyDer::from_pem_file(path).unwrap().secret_der().to_vec()
}

fn after(days: i64) -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    Timestamp::from_unix(now as i64).plus(Span::days(days))
}

fn server<'a>(identity: &'a Identity, trust: &'a [Vec<u8>]) -> ServerSide<'a> {
    ServerSide {
        identity,
        client_trust: Some(trust),
        client_required: true,
        rule: None,
        client_address: None,
    }
}

fn client<'a>(identity: &'a Identity, trust: &'a [Vec<u8>], name: &'a str) -> ClientSide<'a> {
    ClientSide { identity: Some(identity), trust, name, rule: None }
}

fn meet(server: &ServerSide<'_>, client: &ClientSide<'_>, days: i64) -> Result<(), Refusal> {
    shake(&Server::new(server).unwrap(), &Client::new(client).unwrap(), after(days))
}

fn refusal(by: Side, reason: RefusalReason) -> Result<(), Refusal> {
    Err(Refusal { by, reason })
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| n.to_string()).collect()
}

#[test]
fn who_belongs_together_shakes_hands_and_nobody_else() {
    let Some(pki) = Pki::new("who_belongs_together_shakes_hands_and_nobody_else") else { return };
    let (trust, other) = (pki.ca("ca", "etcd-ca", 365), pki.ca("other", "kubernetes", 365));
    let etcd = pki.leaf("server", "ca", &[NAMES, SERVER]);
    let api = pki.leaf("client", "ca", &[CLIENT]);
    let stranger = pki.leaf("stranger", "other", &[CLIENT]);
    let foreign = pki.leaf("foreign", "other", &[NAMES, SERVER]);
    let (on, to) = (server(&etcd, &trust), client(&api, &trust, "etcd1"));

    for name in ["etcd1", "10.0.0.1"] {
        assert_eq!(meet(&on, &ClientSide { name, ..to }, 1), Ok(()), "{name}");
    }
    assert_eq!(meet(&ServerSide { client_trust: None, ..on }, &to, 1), Ok(()));
    let anonymous = ClientSide { identity: None, ..to };
    assert_eq!(meet(&ServerSide { client_required: false, ..on }, &anonymous, 1), Ok(()));

    use {RefusalReason as R, Side::Client as C, Side::Server as S};
    assert_eq!(meet(&on, &anonymous, 1), refusal(S, R::NoCertificate));
    assert_eq!(meet(&on, &client(&stranger, &trust, "etcd1"), 1), refusal(S, R::UnknownIssuer));
    assert_eq!(meet(&server(&foreign, &trust), &to, 1), refusal(C, R::UnknownIssuer));
    assert_eq!(meet(&on, &ClientSide { trust: &other, ..to }, 1), refusal(C, R::UnknownIssuer));
    let optional = ServerSide { client_required: false, ..on };
    let wrong = client(&stranger, &trust, "etcd1");
    assert_eq!(meet(&optional, &wrong, 1), refusal(S, R::UnknownIssuer));

    let for_servers = R::WrongUsage {
        required: "client authentication".into(),
        presented: texts(&["server authentication"]),
    };
    assert_eq!(meet(&on, &client(&etcd, &trust, "etcd1"), 1), refusal(S, for_servers));
    let for_clients = R::WrongUsage {
        required: "server authentication".into(),
        presented: texts(&["client authentication"]),
    };
    assert_eq!(meet(&server(&api, &trust), &to, 1), refusal(C, for_clients));

    for name in ["etcd2", "10.0.0.2"] {
        let reason =
            R::WrongName { expected: name.into(), presented: texts(&["DNS:etcd1", "IP:10.0.0.1"]) };
        assert_eq!(meet(&on, &ClientSide { name, ..to }, 1), refusal(C, reason));
    }
}

#[test]
fn time_is_the_one_given() {
    let Some(pki) = Pki::new("time_is_the_one_given") else { return };
    let (trust, brief) = (pki.ca("ca", "ca", 365), pki.ca("brief", "brief", 10));
    let (etcd, api) = (pki.leaf("s", "ca", &[NAMES, SERVER]), pki.leaf("c", "ca", &[CLIENT]));
    let on = server(&etcd, &trust);
    let to = client(&api, &trust, "etcd1");

    let (not_before, not_after) = certificate::validity(&etcd.chain[0]).unwrap();
    let at = |time| shake(&Server::new(&on).unwrap(), &Client::new(&to).unwrap(), time);
    assert_eq!(at(not_after), Ok(()), "valid to the last second");
    let late = refusal(Side::Client, RefusalReason::Expired { not_after });
    assert_eq!(at(not_after.plus(Span(1))), late);
    let early = refusal(Side::Client, RefusalReason::NotYetValid { not_before });
    assert_eq!(at(not_before.minus(Span(1))), early);
    // The client's was made after the server's, perhaps in the next second.
    let (client_begins, _) = certificate::validity(&api.chain[0]).unwrap();
    assert_eq!(at(not_before.max(client_begins)), Ok(()), "valid from the first second");
    assert_eq!(at(Timestamp::MIN), early);

    // Leaves that outlive their CA: Go refuses the whole chain when the root has expired.
    let (etcd, api) =
        (pki.leaf("s2", "brief", &[NAMES, SERVER]), pki.leaf("c2", "brief", &[CLIENT]));
    let (_, not_after) = certificate::validity(&brief[0]).unwrap();
    let expired = refusal(Side::Client, RefusalReason::AnchorExpired { not_after });
    let both = [brief.clone(), trust.clone()].concat();
    for anchors in [&brief, &both] {
        assert_eq!(meet(&server(&etcd, &brief), &client(&api, anchors, "etcd1"), 9), Ok(()));
        assert_eq!(meet(&server(&etcd, &brief), &client(&api, anchors, "etcd1"), 11), expired);
    }
    let on = ServerSide { client_trust: None, ..server(&etcd, &brief) };
    let stranger = client(&api, &trust, "etcd1");
    assert_eq!(meet(&on, &stranger, 11), refusal(Side::Client, RefusalReason::UnknownIssuer));
    let renewed = pki.make("again", None, "brief", P256, 365, &[CA]).chain;
    let impostor = client(&api, &renewed, "etcd1");
    assert_eq!(meet(&on, &impostor, 9), refusal(Side::Client, RefusalReason::BadSignature));
}

#[test]
fn etcd_rules_for_peers_hold_in_both_directions() {
    let Some(pki) = Pki::new("etcd_rules_for_peers_hold_in_both_directions") else { return };
    let trust = pki.ca("ca", "ca", 365);
    let both = "extendedKeyUsage=serverAuth,clientAuth";
    let shared = "subjectAltName=DNS:etcd-peer.local,DNS:etcd1,IP:10.0.0.1";
    let peer = pki.leaf("peer", "ca", &[shared, both]);
    let api = pki.leaf("api", "ca", &[CLIENT]);
    let plain = pki.leaf("plain", "ca", &[NAMES, both]);
    let rule = PeerRule::Hostname(texts(&["etcd-peer.local"]));
    let on = ServerSide { rule: Some(&rule), ..server(&peer, &trust) };
    let to = ClientSide { rule: Some(&rule), ..client(&peer, &trust, "10.0.0.1") };
    let allowed = texts(&["etcd-peer.local"]);
    let not_allowed = |presented: &[&str]| RefusalReason::PeerNotAllowed {
        allowed: allowed.clone(),
        presented: texts(presented),
    };

    assert_eq!(meet(&on, &to, 1), Ok(()));
    let without_names = ClientSide { identity: Some(&api), ..to };
    assert_eq!(meet(&on, &without_names, 1), refusal(Side::Server, not_allowed(&[])));
    let reason = not_allowed(&["DNS:etcd1", "IP:10.0.0.1"]);
    assert_eq!(meet(&server(&plain, &trust), &to, 1), refusal(Side::Client, reason));

    let rule = PeerRule::CommonName(texts(&["peer"]));
    let on = ServerSide { rule: Some(&rule), ..server(&peer, &trust) };
    assert_eq!(meet(&on, &to, 1), Ok(()));
    let reason =
        RefusalReason::PeerNotAllowed { allowed: texts(&["peer"]), presented: texts(&["CN=api"]) };
    assert_eq!(meet(&on, &without_names, 1), refusal(Side::Server, reason));

    let from =
        |ip: &str, names: &[&str]| ClientAddress { ip: ip.parse().unwrap(), names: texts(names) };
    let judged = |address: &ClientAddress, identity: &Identity| {
        let on = ServerSide { client_address: Some(address), ..server(&peer, &trust) };
        meet(&on, &client(identity, &trust, "etcd1"), 1)
    };
    assert_eq!(judged(&from("10.0.0.1", &[]), &peer), Ok(()));
    assert_eq!(judged(&from("10.0.0.9", &["etcd1"]), &peer), Ok(()));
    assert_eq!(judged(&from("10.0.0.9", &[]), &api), Ok(()), "no names, no comparison");
    let reason = RefusalReason::AddressNotInCertificate {
        address: "10.0.0.9".parse().unwrap(),
        presented: texts(&["DNS:etcd-peer.local", "DNS:etcd1", "IP:10.0.0.1"]),
    };
    assert_eq!(judged(&from("10.0.0.9", &["etcd9"]), &peer), refusal(Side::Server, reason));
}

#[test]
fn intermediates_and_algorithms_are_treated_as_components_treat_them() {
    let Some(pki) = Pki::new("intermediates_and_algorithms") else { return };
    let root = pki.ca("root", "root", 365);
    let middle = pki.make("middle", Some("root"), "middle", P384, 365, &[CA]).chain;
    let api = pki.leaf("api", "root", &[CLIENT]);
    for (index, key) in [P256, P384, ED25519, RSA].into_iter().enumerate() {
        let mut pair =
            pki.make(&format!("k{index}"), Some("middle"), "s", key, 30, &[LEAF, NAMES, SERVER]);
        let alone = pair.identity();
        let on = |identity| ServerSide { client_trust: None, ..server(identity, &root) };
        let to_middle = client(&api, &middle, "etcd1");
        assert_eq!(meet(&on(&alone), &to_middle, 1), Ok(()), "an intermediate is an anchor");
        let to_root = client(&api, &root, "etcd1");
        let unknown = refusal(Side::Client, RefusalReason::UnknownIssuer);
        assert_eq!(meet(&on(&alone), &to_root, 1), unknown, "the intermediate is not sent");
        pair.chain.push(middle[0].clone());
        assert_eq!(meet(&on(&pair.identity()), &to_root, 1), Ok(()), "{key:?}");
    }

    let ca = pki.make("p521", None, "p521", P521, 365, &[CA]);
    let leaf = pki.leaf("p521-leaf", "p521", &[NAMES, SERVER]);
    let on = ServerSide { client_trust: None, ..server(&leaf, &root) };
    let reason = RefusalReason::UnsupportedAlgorithm;
    assert_eq!(meet(&on, &client(&api, &ca.chain, "etcd1"), 1), refusal(Side::Client, reason));
    assert!(matches!(Identity::new(&ca.chain, &ca.key), Err(SetupError::UnsupportedKey { .. })));

    let ca = pki.make("ca-leaf", Some("root"), "s", P256, 30, &[CA, NAMES]).identity();
    let on = ServerSide { client_trust: None, ..server(&ca, &root) };
    let reason = RefusalReason::CaAsLeaf;
    assert_eq!(meet(&on, &client(&api, &root, "etcd1"), 1), refusal(Side::Client, reason));
}

#[test]
fn what_cannot_shake_hands_is_refused_when_it_is_prepared() {
    let Some(pki) = Pki::new("what_cannot_shake_hands") else { return };
    let ca = pki.make("ca", None, "ca", P256, 365, &[CA]);
    let leaf = pki.make("leaf", Some("ca"), "leaf", P256, 30, &[LEAF, NAMES]);
    let (sec1, pkcs8) = (pki.path("sec1.der"), pki.path("leaf.key"));
    pki.openssl(&["ec", "-in", &pkcs8, "-outform", "DER", "-out", &sec1]);
    let sec1 = std::fs::read(sec1).unwrap();
    assert_ne!(sec1, leaf.key);
    let identity = Identity::new(&leaf.chain, &sec1).unwrap();
    assert_eq!(format!("{identity:?}"), "Identity(1 certificates, key not shown)");

    let failed = |result: Result<Identity, SetupError>| result.unwrap_err().to_string();
    assert_eq!(
        failed(Identity::new(&leaf.chain, &ca.key)),
        "the private key does not belong to the certificate"
    );
    assert_eq!(
        failed(Identity::new(&leaf.chain, b"garbage")),
        "the private key is neither PKCS#8 nor SEC 1 nor PKCS#1"
    );
    assert_eq!(failed(Identity::new(&[], &leaf.key)), "there is no certificate to show");
    assert_eq!(
        failed(Identity::new(&[b"garbage".to_vec()], &leaf.key)),
        "the certificate cannot be read"
    );
    let bundle = [ca.chain[0].clone(), b"garbage".to_vec()];
    let bad = ClientSide { trust: &bundle, ..client(&identity, &ca.chain, "etcd1") };
    assert_eq!(
        Client::new(&bad).unwrap_err().to_string(),
        "certificate 2 of the trusted CA certificates cannot be read"
    );
    let nobody = client(&identity, &[], "etcd1");
    assert!(matches!(Client::new(&nobody), Err(SetupError::NoTrust)));
    let nameless = client(&identity, &ca.chain, "a b");
    assert!(matches!(Client::new(&nameless), Err(SetupError::Name { .. })));
}

#[test]
fn prepared_sides_serve_for_a_matrix() {
    let Some(pki) = Pki::new("prepared_sides_serve_for_a_matrix") else { return };
    let trust = pki.ca("ca", "ca", 365);
    let (etcd, api) = (pki.leaf("s", "ca", &[NAMES, SERVER]), pki.leaf("c", "ca", &[CLIENT]));
    let on = Server::new(&server(&etcd, &trust)).unwrap();
    let to = Client::new(&client(&api, &trust, "etcd1")).unwrap();
    let elsewhere = to.named("etcd2").unwrap();
    let (count, begin) = (200, std::time::Instant::now());
    for _ in 0..count {
        assert_eq!(shake(&on, &to, after(1)), Ok(()));
        assert!(shake(&on, &elsewhere, after(1)).is_err());
    }
    let rate = f64::from(2 * count) / begin.elapsed().as_secs_f64();
    println!("{rate:.0} mutual handshakes a second, half of them refused");
}
