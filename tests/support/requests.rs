//! Requests for certificates, honest and hostile: what is asked, who asks, and for what reason it must not be approved.
//!
//! They are put together octet by octet and signed with ring, because no library writes most of them.

pub mod own;

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};

use super::base64;

/// The signers, as the API calls them.
pub const SERVING: &str = "kubernetes.io/kubelet-serving";
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// The usages of each.
pub const TO_SERVE: &[&str] = &["digital signature", "server auth"];
pub const TO_ASK: &[&str] = &["digital signature", "client auth"];

pub const NODES: &str = "system:nodes";
pub const TOKENS: &str = "system:bootstrappers";

const COMMON_NAME: &[u8] = &[0x55, 0x04, 3];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 10];
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const CHALLENGE_PASSWORD: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07];

/// One request: who sends what.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it is, in words; the object's name follows from it.
    pub what: &'static str,
    pub signer: &'static str,
    pub username: String,
    pub groups: Vec<&'static str>,
    pub usages: Vec<&'static str>,
    pub pem: String,
    /// The code of the reason that must be among those told.
    pub code: &'static str,
}

impl Asked {
    /// A name for the object.
    pub fn name(&self) -> String {
        self.what.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase()
    }

    /// The object, as `kubectl create -f` takes it. Who makes it is not its to say.
    pub fn object(&self) -> String {
        let usages: Vec<String> = self.usages.iter().map(|usage| format!("{usage:?}")).collect();
        format!(
            "{{\"apiVersion\": \"certificates.k8s.io/v1\", \"kind\": \"CertificateSigningRequest\", \
             \"metadata\": {{\"name\": {:?}}}, \"spec\": {{\"signerName\": {:?}, \"usages\": [{}], \
             \"request\": {:?}}}}}\n",
            self.name(),
            self.signer,
            usages.join(", "),
            base64(self.pem.as_bytes())
        )
    }
}

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length => {
            let octets: Vec<u8> =
                length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
            out.push(0x80 | octets.len() as u8);
            out.extend(octets);
        }
    }
    out.extend_from_slice(content);
    out
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn oid(content: &[u8]) -> Vec<u8> {
    tlv(6, content)
}

/// The key that signs.
pub enum TestKey {
    P256(EcdsaKeyPair, SystemRandom),
    Ed25519(Ed25519KeyPair),
}

impl TestKey {
    pub fn p256() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
        Self::P256(pair, random)
    }

    pub fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key"))
    }

    fn public(&self) -> Vec<u8> {
        let (algorithm, key) = match self {
            Self::P256(pair, _) => {
                let curve = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
                let ec = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
                (sequence(&[oid(&ec), oid(&curve)]), pair.public_key().as_ref())
            }
            Self::Ed25519(pair) => {
                (sequence(&[oid(&[0x2b, 0x65, 0x70])]), pair.public_key().as_ref())
            }
        };
        sequence(&[algorithm, tlv(3, &[&[0], key].concat())])
    }

    fn sign(&self, message: &[u8]) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::P256(pair, random) => {
                let ecdsa_with_sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
                let signature = pair.sign(random, message).expect("a signature");
                (sequence(&[oid(&ecdsa_with_sha256)]), signature.as_ref().to_vec())
            }
            Self::Ed25519(pair) => {
                (sequence(&[oid(&[0x2b, 0x65, 0x70])]), pair.sign(message).as_ref().to_vec())
            }
        }
    }
}

/// A request in the making.
pub struct Pkcs10 {
    pub key: TestKey,
    /// Each attribute of the subject: its type, its string's tag, its octets.
    pub subject: Vec<(Vec<u8>, u8, Vec<u8>)>,
    /// The names, each as a whole `GeneralName`; none leaves the extension out.
    pub names: Vec<Vec<u8>>,
    /// More extensions: identifier and value.
    pub extensions: Vec<(Vec<u8>, Vec<u8>)>,
    /// More attributes, each whole.
    pub attributes: Vec<Vec<u8>>,
}

pub fn dns(name: &str) -> Vec<u8> {
    tlv(0x82, name.as_bytes())
}

pub fn ip(octets: &[u8]) -> Vec<u8> {
    tlv(0x87, octets)
}

impl Pkcs10 {
    /// What a node's kubelet writes, with these names.
    pub fn of_node(name: &str, names: &[Vec<u8>]) -> Self {
        Self {
            key: TestKey::p256(),
            subject: vec![
                (ORGANIZATION.to_vec(), PRINTABLE, NODES.into()),
                (COMMON_NAME.to_vec(), PRINTABLE, format!("system:node:{name}").into()),
            ],
            names: names.to_vec(),
            extensions: Vec::new(),
            attributes: Vec::new(),
        }
    }

    fn with_extension(mut self, oid: &[u8], value: &[u8]) -> Self {
        self.extensions.push((oid.to_vec(), value.to_vec()));
        self
    }

    fn with_subject(mut self, oid: &[u8], tag: u8, value: &[u8]) -> Self {
        self.subject.push((oid.to_vec(), tag, value.to_vec()));
        self
    }

    fn with_attribute(mut self, attribute: Vec<u8>) -> Self {
        self.attributes.push(attribute);
        self
    }

    fn named(mut self, tag: u8, value: &[u8]) -> Self {
        self.subject[1] = (COMMON_NAME.to_vec(), tag, value.to_vec());
        self
    }

    /// What is signed.
    pub fn info(&self) -> Vec<u8> {
        let rdns: Vec<Vec<u8>> = self
            .subject
            .iter()
            .map(|(kind, tag, value)| tlv(0x31, &sequence(&[oid(kind), tlv(*tag, value)])))
            .collect();
        let mut extensions = Vec::new();
        if !self.names.is_empty() {
            extensions.push((vec![0x55, 0x1d, 17], sequence(&self.names)));
        }
        extensions.extend(self.extensions.iter().cloned());
        let mut attributes = Vec::new();
        if !extensions.is_empty() {
            let list: Vec<Vec<u8>> = extensions
                .iter()
                .map(|(kind, value)| sequence(&[oid(kind), tlv(4, value)]))
                .collect();
            attributes.push(sequence(&[oid(EXTENSION_REQUEST), tlv(0x31, &sequence(&list))]));
        }
        attributes.extend(self.attributes.iter().cloned());
        sequence(&[
            vec![2, 1, 0],
            sequence(&rdns),
            self.key.public(),
            tlv(0xa0, &attributes.concat()),
        ])
    }

    /// The request, signed.
    pub fn der(&self) -> Vec<u8> {
        self.signed(self.info())
    }

    /// Anything, signed as a request.
    pub fn signed(&self, info: Vec<u8>) -> Vec<u8> {
        let (algorithm, signature) = self.key.sign(&info);
        sequence(&[info, algorithm, tlv(3, &[vec![0], signature].concat())])
    }

    pub fn pem(&self) -> String {
        pem(&self.der())
    }
}

pub fn pem(der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("base64")).collect();
    format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        lines.join("\n")
    )
}

/// The cluster that the requests are about: two workers, and a node that is declared no more.
pub const WORKER: &str = "worker-1";
pub const WORKER_IP: [u8; 4] = [10, 0, 1, 1];
pub const OTHER: &str = "worker-2";
pub const OTHER_IP: [u8; 4] = [10, 0, 1, 2];
pub const GONE: &str = "worker-9";

fn own() -> Vec<Vec<u8>> {
    vec![dns(WORKER), ip(&WORKER_IP)]
}

fn serving(what: &'static str, pem: String, code: &'static str) -> Asked {
    Asked {
        what,
        signer: SERVING,
        username: format!("system:node:{WORKER}"),
        groups: vec![NODES],
        usages: TO_SERVE.to_vec(),
        pem,
        code,
    }
}

fn client(what: &'static str, pem: String, code: &'static str) -> Asked {
    Asked { signer: CLIENT, usages: TO_ASK.to_vec(), ..serving(what, pem, code) }
}

fn token(what: &'static str, pem: String, code: &'static str) -> Asked {
    Asked {
        username: "system:bootstrap:abcdef".into(),
        groups: vec![TOKENS],
        ..client(what, pem, code)
    }
}

fn with(names: &[Vec<u8>]) -> String {
    Pkcs10::of_node(WORKER, &[own(), names.to_vec()].concat()).pem()
}

/// Requests of this node that are right in every way.
pub fn honest() -> Vec<Asked> {
    let with_encipherment = vec!["digital signature", "key encipherment", "server auth"];
    let mut by_ed25519 = Pkcs10::of_node(WORKER, &own());
    by_ed25519.key = TestKey::ed25519();
    vec![
        serving("its name and address", Pkcs10::of_node(WORKER, &own()).pem(), ""),
        serving("its address alone", Pkcs10::of_node(WORKER, &[ip(&WORKER_IP)]).pem(), ""),
        Asked {
            usages: with_encipherment,
            ..serving("as RSA kubelets ask", Pkcs10::of_node(WORKER, &own()).pem(), "")
        },
        serving("a key of Ed25519", by_ed25519.pem(), ""),
        client("a renewal", Pkcs10::of_node(WORKER, &[]).pem(), ""),
        Asked {
            groups: vec![TOKENS, "system:bootstrappers:kubeadm:default-node-token"],
            ..token("a bootstrap", Pkcs10::of_node(OTHER, &[]).pem(), "")
        },
        Asked {
            groups: vec![TOKENS, "system:bootstrappers:node:worker-2"],
            ..token("a bootstrap with a token of its own", Pkcs10::of_node(OTHER, &[]).pem(), "")
        },
    ]
}

/// Requests that nobody may approve. `worker-1` has joined, `worker-2` has not.
pub fn hostile() -> Vec<Asked> {
    let serve = |pem: String| serving("", pem, "");
    let node = |names: &[Vec<u8>]| Pkcs10::of_node(WORKER, names);
    let basic_constraints_ca = sequence(&[vec![1, 1, 0xff]]);
    let sans_again = sequence(&[dns(OTHER)]);
    let challenge = sequence(&[oid(CHALLENGE_PASSWORD), tlv(0x31, &tlv(UTF8, b"please"))]);
    let second_request = |names: &[Vec<u8>]| {
        let value = sequence(&[oid(&[0x55, 0x1d, 17]), tlv(4, &sequence(names))]);
        sequence(&[oid(EXTENSION_REQUEST), tlv(0x31, &sequence(&[value]))])
    };
    let two_values = {
        let list = |name: &str| {
            let names = sequence(&[dns(name)]);
            sequence(&[sequence(&[oid(&[0x55, 0x1d, 17]), tlv(4, &names)])])
        };
        let both = [list(WORKER), list(OTHER)].concat();
        sequence(&[oid(EXTENSION_REQUEST), tlv(0x31, &both)])
    };
    let mut tampered = node(&own()).der();
    let at = tampered.windows(8).position(|window| window == b"worker-1").expect("its name");
    tampered[at + 7] = b'2';
    let mut foreign_key = node(&own());
    let info = foreign_key.info();
    foreign_key.key = TestKey::p256();
    let (algorithm, signature) = foreign_key.key.sign(&info);
    let unproven = sequence(&[info, algorithm, tlv(3, &[vec![0], signature].concat())]);
    let many: Vec<Vec<u8>> = (0..2000).map(|n| dns(&format!("n{n}.example.com"))).collect();
    let two_blocks = node(&own()).pem() + &Pkcs10::of_node(OTHER, &[dns(OTHER)]).pem();
    let commented = format!("please\n{}", node(&own()).pem());
    let trailing = pem(&[node(&own()).der(), vec![5, 0]].concat());
    let mut inner_trailing = node(&own()).der();
    inner_trailing.truncate(inner_trailing.len() - 1);
    let other_label = node(&own()).pem().replace("CERTIFICATE REQUEST", "CERTIFICATE");

    let named = |tag: u8, value: &[u8]| node(&own()).named(tag, value).pem();
    let mut without_group = node(&own());
    without_group.subject.remove(0);
    let mut with_masters = node(&own());
    with_masters.subject[0].2 = b"system:masters".to_vec();
    let elsewhere = |pem: String, username: &str, groups: &[&'static str], code| Asked {
        username: username.into(),
        groups: groups.to_vec(),
        ..serving("", pem, code)
    };
    let labelled = |what, asked: Asked, code| Asked { what, code, ..asked };

    vec![
        // Whose names
        serving(
            "a serving certificate for another node's name",
            with(&[dns(OTHER)]),
            "name-of-another",
        ),
        serving("the address of another node", with(&[ip(&OTHER_IP)]), "address-of-another"),
        serving("the name of the API", with(&[dns("kubernetes.default.svc")]), "name-not-declared"),
        serving("the address of the API", with(&[ip(&[10, 96, 0, 1])]), "address-not-declared"),
        serving("an address that nobody has", with(&[ip(&[192, 0, 2, 1])]), "address-not-declared"),
        serving("localhost", with(&[dns("localhost"), ip(&[127, 0, 0, 1])]), "name-not-declared"),
        serving("a wildcard", with(&[dns("*.example.com")]), "name-wildcard"),
        serving("a wildcard of everything", with(&[dns("*")]), "name-wildcard"),
        serving("a wildcard within a label", with(&[dns("work*")]), "name-wildcard"),
        serving("no name at all", node(&[]).pem(), "names-missing"),
        serving(
            "an empty list of names",
            node(&[]).with_extension(&[0x55, 0x1d, 17], &[0x30, 0]).pem(),
            "names-missing",
        ),
        serving("capitals in a name", with(&[dns("WORKER-2")]), "name-wrong"),
        serving("a name with a dot at its end", with(&[dns("worker-2.")]), "name-wrong"),
        serving("a name with a null in it", with(&[dns("worker-1\0.example.com")]), "name-wrong"),
        serving("a Cyrillic letter in a name", with(&[dns("w\u{43e}rker-2")]), "name-kind"),
        serving("punycode of a name", with(&[dns("xn--wrker-2-c2h")]), "name-not-declared"),
        serving("an empty name", with(&[dns("")]), "name-wrong"),
        serving("an e-mail address", with(&[tlv(0x81, b"root@worker-1")]), "name-kind"),
        serving("a URI", with(&[tlv(0x86, b"spiffe://cluster/worker-1")]), "name-kind"),
        serving("a directory name", with(&[tlv(0xa4, &sequence(&[]))]), "name-kind"),
        serving("an address of five octets", with(&[ip(&[10, 0, 1, 1, 0])]), "name-kind"),
        serving(
            "an address with its mask",
            with(&[ip(&[10, 0, 1, 1, 255, 255, 255, 0])]),
            "name-kind",
        ),
        serving(
            "an address of IPv4 within IPv6",
            with(&[ip(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 1, 1])]),
            "address-not-declared",
        ),
        serving("a name twice", with(&[dns(WORKER)]), "name-repeated"),
        client(
            "a client certificate with a name",
            Pkcs10::of_node(WORKER, &[dns(WORKER)]).pem(),
            "names-surplus",
        ),
        // Whom it names
        labelled("no group", serve(without_group.pem()), "subject-not-node"),
        labelled("the group of masters", serve(with_masters.pem()), "subject-not-node"),
        labelled(
            "a second group",
            serve(node(&own()).with_subject(ORGANIZATION, PRINTABLE, b"system:masters").pem()),
            "subject-surplus",
        ),
        labelled(
            "a unit in the subject",
            serve(node(&own()).with_subject(&[0x55, 0x04, 11], PRINTABLE, b"operations").pem()),
            "subject-surplus",
        ),
        labelled(
            "a second common name",
            serve(node(&own()).with_subject(COMMON_NAME, PRINTABLE, b"system:node:worker-2").pem()),
            "subject-not-node",
        ),
        labelled(
            "an admin's name",
            serve(named(PRINTABLE, b"kubernetes-admin")),
            "subject-not-node",
        ),
        labelled(
            "a node's name in capitals",
            serve(named(PRINTABLE, b"system:node:WORKER-1")),
            "node-name-wrong",
        ),
        labelled(
            "a Cyrillic letter in a node's name",
            serve(named(UTF8, "system:node:w\u{43e}rker-1".as_bytes())),
            "node-name-wrong",
        ),
        labelled(
            "a null in a node's name",
            serve(named(UTF8, b"system:node:worker-1\0")),
            "node-name-wrong",
        ),
        labelled(
            "a node without a name",
            serve(named(PRINTABLE, b"system:node:")),
            "node-name-wrong",
        ),
        labelled(
            "a name of another string type",
            serve(named(0x14, b"system:node:worker-1")),
            "subject-not-node",
        ),
        labelled(
            "a blank before the name",
            serve(named(PRINTABLE, b" system:node:worker-1")),
            "subject-not-node",
        ),
        // Who asks
        labelled(
            "another node asks",
            elsewhere(node(&own()).pem(), "system:node:worker-2", &[NODES], ""),
            "requester-not-subject",
        ),
        labelled(
            "a service account asks",
            elsewhere(
                node(&own()).pem(),
                "system:serviceaccount:default:default",
                &["system:serviceaccounts"],
                "",
            ),
            "requester-not-subject",
        ),
        labelled(
            "a bootstrap token asks to serve",
            elsewhere(node(&own()).pem(), "system:bootstrap:abcdef", &[TOKENS], ""),
            "requester-not-subject",
        ),
        labelled(
            "a node outside of the group of nodes asks",
            elsewhere(node(&own()).pem(), "system:node:worker-1", &[], ""),
            "requester-not-node",
        ),
        labelled(
            "a node that is a master asks",
            elsewhere(node(&own()).pem(), "system:node:worker-1", &[NODES, "system:masters"], ""),
            "requester-surplus-group",
        ),
        Asked {
            username: "kubernetes-admin".into(),
            groups: vec!["kubeadm:cluster-admins"],
            ..client(
                "an admin asks for a node",
                Pkcs10::of_node(WORKER, &[]).pem(),
                "requester-not-subject",
            )
        },
        token(
            "a token asks for a node that is there already",
            Pkcs10::of_node(WORKER, &[]).pem(),
            "node-joined-already",
        ),
        token(
            "a token asks for a node that is not declared",
            Pkcs10::of_node(GONE, &[]).pem(),
            "node-unknown",
        ),
        Asked {
            groups: vec![TOKENS, "system:bootstrappers:node:worker-1"],
            ..token(
                "a token of another node",
                Pkcs10::of_node(OTHER, &[]).pem(),
                "token-of-another",
            )
        },
        Asked {
            username: format!("system:node:{GONE}"),
            ..serving(
                "a node that is declared no more",
                Pkcs10::of_node(GONE, &[dns(GONE)]).pem(),
                "node-unknown",
            )
        },
        Asked {
            username: format!("system:node:{OTHER}"),
            ..serving(
                "a node that was deleted",
                Pkcs10::of_node(OTHER, &[dns(OTHER), ip(&OTHER_IP)]).pem(),
                "node-not-joined",
            )
        },
        // What for
        Asked {
            usages: TO_ASK.to_vec(),
            ..serving("the usage of a client", node(&own()).pem(), "usages-wrong")
        },
        Asked {
            usages: vec!["digital signature", "server auth", "client auth"],
            ..serving("both usages", node(&own()).pem(), "usages-wrong")
        },
        Asked {
            usages: vec!["server auth"],
            ..serving("no signature", node(&own()).pem(), "usages-wrong")
        },
        Asked {
            usages: vec!["digital signature", "server auth", "cert sign"],
            ..serving("the usage of a CA", node(&own()).pem(), "usages-wrong")
        },
        Asked {
            usages: vec!["any"],
            ..client("any usage", Pkcs10::of_node(WORKER, &[]).pem(), "usages-wrong")
        },
        labelled(
            "to be a CA",
            serve(node(&own()).with_extension(&[0x55, 0x1d, 19], &basic_constraints_ca).pem()),
            "ca-asked",
        ),
        labelled(
            "to sign certificates",
            serve(node(&own()).with_extension(&[0x55, 0x1d, 15], &[3, 2, 2, 4]).pem()),
            "ca-asked",
        ),
        labelled(
            "basic constraints that cannot be read",
            serve(node(&own()).with_extension(&[0x55, 0x1d, 19], &[1]).pem()),
            "ca-asked",
        ),
        labelled(
            "an extension that nobody knows",
            serve(node(&own()).with_extension(&[0x2a, 3, 4], &[5, 0]).pem()),
            "extension-surplus",
        ),
        labelled(
            "usages within the request",
            serve(
                node(&own())
                    .with_extension(
                        &[0x55, 0x1d, 37],
                        &sequence(&[oid(&[0x2b, 6, 1, 5, 5, 7, 3, 2])]),
                    )
                    .pem(),
            ),
            "extension-surplus",
        ),
        labelled(
            "a challenge password",
            serve(node(&own()).with_attribute(challenge).pem()),
            "attribute-surplus",
        ),
        // The form
        labelled(
            "names twice, in one list of extensions",
            serve(node(&own()).with_extension(&[0x55, 0x1d, 17], &sans_again).pem()),
            "request-repeats",
        ),
        labelled(
            "names twice, in two attributes",
            serve(node(&own()).with_attribute(second_request(&[dns(OTHER)])).pem()),
            "request-repeats",
        ),
        labelled(
            "two lists of extensions in one attribute",
            serve(node(&[]).with_attribute(two_values).pem()),
            "request-malformed",
        ),
        labelled(
            "names that end too early",
            serve(node(&[]).with_extension(&[0x55, 0x1d, 17], &[0x30, 5, 0x82]).pem()),
            "request-malformed",
        ),
        serving("two requests", two_blocks, "request-not-one"),
        serving("text before the request", commented, "request-not-one"),
        serving("octets after the request", trailing, "request-malformed"),
        serving("a request that ends too early", pem(&inner_trailing), "request-malformed"),
        serving("no request at all", "hello".into(), "request-not-one"),
        serving("a certificate's label", other_label, "request-not-one"),
        serving("too many names", with(&many), "request-too-long"),
        serving("a name that was changed after signing", pem(&tampered), "request-unproven"),
        serving("somebody else's key", pem(&unproven), "request-unproven"),
    ]
}
