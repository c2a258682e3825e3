//! Requests for certificates from anybody, before the judge: what is honest is approved, and nothing else, each with its
//! reason.

mod support;

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path};

use certkit::{
    model::{
        duration::Span,
        profile::Kind,
        request::{
            self, Admission, CertificateRequest, Grant, History, Inventory, NodeRecord,
            NodeRegister, POD_SIGNER, PodHistory, PodRecord, PodRequest, REQUEST_FAULTS,
            RequestPolicy, RequestSigner, RequestState, Ruling, UnreadableRequest, judge,
        },
        timestamp::Timestamp,
    },
    ops::declared,
    pki::inspect::{LONGEST_REQUEST, read_pod_key, read_request},
};
use support::{
    need, openssl,
    requests::{
        Asked, CLIENT, NODES, OTHER, OTHER_IP, Pkcs10, SERVING, TO_ASK, TO_SERVE, TOKENS, WORKER,
        WORKER_IP, dns, honest, hostile, ip, own,
    },
};

const DECLARED: &str = "\
apiVersion: certkit/v1
kind: Cluster
name: prod
endpoint: api.example.com:6443
controlPlane:
  - {name: cp1, addresses: [10.0.0.11]}
nodes:
  - {name: worker-1, addresses: [10.0.1.1]}
  - {name: worker-2, addresses: [10.0.1.2]}
";

fn declared() -> NodeRegister {
    NodeRegister::declared(&declared::parse(DECLARED, "certkit.yaml").unwrap())
}

fn record(name: &str, address: [u8; 4]) -> NodeRecord {
    NodeRecord { names: BTreeSet::from([name.into()]), addresses: BTreeSet::from([address.into()]) }
}

/// The first worker has joined, the second has not.
fn both() -> Inventory {
    let mut live = NodeRegister::default();
    live.put(WORKER, record(WORKER, WORKER_IP));
    Inventory { declared: Some(declared()), live: Some(live), ..Inventory::default() }
}

/// The same, where certkit's own signers sign for some.
fn open() -> Inventory {
    let text = DECLARED.to_owned() + own::ADMITTED;
    let cluster = declared::parse(&text, "certkit.yaml").unwrap();
    Inventory { admission: Admission::of(&cluster), ..both() }
}

fn request(asked: &Asked) -> CertificateRequest {
    let groups = asked.groups.iter().copied().chain(["system:authenticated"]);
    CertificateRequest {
        name: asked.name(),
        signer: asked.signer.into(),
        username: asked.username.clone(),
        groups: groups.map(str::to_owned).collect(),
        usages: asked.usages.iter().map(|usage| (*usage).to_owned()).collect(),
        term: None,
        by_certificate: false,
        created: Timestamp::from_unix(1_800_000_000),
        content: read_request(asked.pem.as_bytes()),
        state: RequestState::Pending,
    }
}

fn rule(asked: &Asked, inventory: &Inventory) -> Ruling {
    judge(&request(asked), inventory, &History::default(), &RequestPolicy::default())
}

fn codes(ruling: &Ruling) -> Vec<&'static str> {
    ruling.objections().iter().map(|objection| objection.fault.spec().name).collect()
}

#[test]
fn honest_requests_are_approved() {
    for asked in honest() {
        let ruling = rule(&asked, &both());
        assert!(matches!(ruling, Ruling::Approve { .. }), "{}: {ruling:?}", asked.what);
        // With certkit.yaml alone, too.
        let inventory =
            Inventory { declared: Some(declared()), live: None, ..Inventory::default() };
        let ruling = rule(&asked, &inventory);
        assert!(matches!(ruling, Ruling::Approve { .. }), "{}: {ruling:?}", asked.what);
    }
}

/// So many different requests, none of which is approved, each with its reason.
fn each_is_told_why(all: &[Asked], least: usize, inventory: &Inventory) {
    assert!(all.len() >= least, "{}", all.len());
    let names: BTreeSet<String> = all.iter().map(Asked::name).collect();
    assert_eq!(names.len(), all.len());
    for asked in all {
        let ruling = rule(asked, inventory);
        assert!(!matches!(ruling, Ruling::Approve { .. }), "{} is approved", asked.what);
        assert!(codes(&ruling).contains(&asked.code), "{}: {ruling:?}", asked.what);
        // What is to be told people, steers no terminal.
        for objection in ruling.objections() {
            let said = objection.to_string();
            assert!(!said.chars().any(char::is_control) && said.is_ascii(), "{said:?}");
        }
        let denied = matches!(ruling, Ruling::Deny(_));
        let denies = REQUEST_FAULTS.iter().any(|spec| spec.name == asked.code && spec.denies);
        assert_eq!(denied, denies, "{}: {ruling:?}", asked.what);
    }
}

#[test]
fn no_hostile_request_is_approved_and_each_is_told_why() {
    each_is_told_why(&hostile(), 60, &both());
}

/// What certkit's own signers sign: what was asked, for as long as was admitted, by the CA of who trusts it.
#[test]
fn own_signers_grant_what_is_admitted() {
    let granted = |asked: &Asked, term: Option<Span>| -> Grant {
        let request = CertificateRequest { term, ..request(asked) };
        let ruling = judge(&request, &open(), &History::default(), &RequestPolicy::default());
        match ruling {
            Ruling::Approve { grant: Some(grant), .. } => *grant,
            other => panic!("{}: {other:?}", asked.what),
        }
    };
    let mut said = Vec::new();
    for asked in own::honest() {
        let Grant { authority, profile, term, public_key, .. } = granted(&asked, None);
        let content = read_request(asked.pem.as_bytes()).unwrap();
        assert_eq!(public_key, content.public_key, "{}", asked.what);
        assert_eq!(profile.kind, Kind::Leaf);
        let sans: Vec<String> = profile.sans.iter().map(ToString::to_string).collect();
        let usages: Vec<String> = profile.extended_usages.iter().map(ToString::to_string).collect();
        let keys: Vec<&str> = profile.key_usages.names().collect();
        said.push(format!(
            "{}: {} [{}] {} {} {term}",
            authority.id,
            profile.subject,
            sans.join(" "),
            keys.join("+"),
            usages.join("+"),
        ));
        // Who asks may ask for less, and not for more.
        assert_eq!(granted(&asked, Some(Span(3600))).term, Span(3600));
        assert_eq!(granted(&asked, Some(Span::days(400))).term, term);
        // Nothing is signed that nobody declared.
        let closed = rule(&asked, &both());
        assert!(matches!(closed, Ruling::Leave(_)) && codes(&closed) == ["signer-closed"]);
    }
    assert_eq!(
        said,
        [
            "workload-ca: CN=worker-1 [DNS:worker-1 IP:10.0.1.1] digitalSignature serverAuth+clientAuth 1d",
            "workload-ca: CN=worker-1 [DNS:worker-1] digitalSignature serverAuth+clientAuth 1d",
            "ca: O=developers, CN=alice [] digitalSignature clientAuth 4h",
            "ca: CN=alice [] digitalSignature clientAuth 4h",
            "ca: O=developers, O=viewers, CN=bob [] digitalSignature+keyEncipherment clientAuth 4h",
            "etcd-ca: CN=exporter [] digitalSignature clientAuth 1d",
            "front-proxy-ca: CN=front-proxy-client [] digitalSignature clientAuth 12h",
        ]
    );
    // Kubernetes signs what kubelets ask for.
    let kubelets = rule(&honest_serving(), &open());
    assert!(matches!(kubelets, Ruling::Approve { grant: None, .. }), "{kubelets:?}");
}

#[test]
fn own_signers_grant_nothing_else() {
    each_is_told_why(&own::hostile(), 55, &open());
    // What is honest to one signer is not to another.
    for asked in own::honest() {
        for signer in [own::NODE, own::PERSON, own::ETCD, own::FRONT_PROXY] {
            let ruling = rule(&Asked { signer, ..asked.clone() }, &open());
            let is_its = signer == asked.signer;
            assert_eq!(
                matches!(ruling, Ruling::Approve { .. }),
                is_its,
                "{}: {signer}",
                asked.what
            );
        }
    }
    // And no octet of one can be changed.
    for asked in [own::honest().swap_remove(0), own::honest().swap_remove(2)] {
        let text: String = asked.pem.lines().filter(|line| !line.contains("---")).collect();
        let der = support::decoded(&text);
        for at in 0..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 1;
            let pem = support::requests::pem(&changed);
            let ruling = rule(&Asked { pem, ..asked.clone() }, &open());
            assert!(!matches!(ruling, Ruling::Approve { .. }), "octet {at}");
        }
    }
}

/// Whose pods get certificates, and what those say.
const PODS: &str = "\
addons: [workload]
signers:
  pods:
    trustDomain: prod.example.com
    validity: 12h
    serviceAccounts:
      - {namespace: shop, name: web, services: [web, front]}
      - {namespace: batch, name: '*'}
";

fn pods() -> Admission {
    let text = DECLARED.to_owned() + PODS;
    Admission::of(&declared::parse(&text, "certkit.yaml").unwrap())
}

/// What a kubelet says of a pod that is there.
fn pod_request() -> (PodRequest, PodRecord) {
    let bare = Pkcs10 { subject: Vec::new(), ..own::named("", &[], &[]) };
    let said = PodRequest {
        uid: "r1".into(),
        created: Timestamp::from_unix(10_000),
        namespace: "shop".into(),
        pod: "web-1".into(),
        pod_uid: "u1".into(),
        account: "web".into(),
        account_uid: "u2".into(),
        node: WORKER.into(),
        longest: Some(Span::days(1)),
        annotations: Vec::new(),
        key: read_pod_key(&bare.der(), &[]),
    };
    let there = PodRecord {
        uid: "u1".into(),
        account: "web".into(),
        account_uid: Some("u2".into()),
        node: WORKER.into(),
        has_ended: false,
    };
    (said, there)
}

/// Judged where nothing was given before.
fn judge_pod(request: &PodRequest, pod: Option<&PodRecord>, admission: &Admission) -> Ruling {
    request::judge_pod(request, pod, admission, &PodHistory::default(), &RequestPolicy::default())
}

#[test]
fn pods_of_an_account_on_a_node_get_so_many_certificates_at_a_time() {
    let (said, there) = pod_request();
    let policy = RequestPolicy { pods: 3, window: Span(3600), ..RequestPolicy::default() };
    let mut history = PodHistory::default();
    let ruled = |history: &PodHistory, said: &PodRequest, there: &PodRecord| {
        request::judge_pod(said, Some(there), &pods(), history, &policy)
    };
    let earlier = |uid: &str, seconds: i64| PodRequest {
        uid: uid.into(),
        created: Timestamp::from_unix(10_000 - seconds),
        ..said.clone()
    };
    for (uid, seconds) in [("a", 4000), ("b", 3600), ("c", 10), ("r1", 0)] {
        history.add(&earlier(uid, seconds));
        assert!(matches!(ruled(&history, &said, &there), Ruling::Approve { .. }), "{uid}");
    }
    history.add(&earlier("d", 1));
    let left = ruled(&history, &said, &there);
    assert!(matches!(left, Ruling::Leave(_)) && codes(&left) == ["rate-limited"]);
    assert!(left.objections()[0].to_string().contains("3 were signed within 1h"), "{left:?}");
    // What is wrong is denied all the same, and what another node or account asks is nobody's flood.
    let gone = PodRecord { has_ended: true, ..there.clone() };
    assert!(matches!(ruled(&history, &said, &gone), Ruling::Deny(_)));
    let node = PodRequest { node: OTHER.into(), ..said.clone() };
    let moved = PodRecord { node: OTHER.into(), ..there.clone() };
    assert!(matches!(ruled(&history, &node, &moved), Ruling::Approve { .. }));
    let job = PodRequest { namespace: "batch".into(), account: "job".into(), ..said.clone() };
    let its = PodRecord { account: "job".into(), ..there.clone() };
    assert!(matches!(ruled(&history, &job, &its), Ruling::Approve { .. }));
    // Later it goes on, and what counts no more is forgotten.
    let later = PodRequest { created: Timestamp::from_unix(13_601), ..said.clone() };
    assert!(matches!(ruled(&history, &later, &there), Ruling::Approve { .. }));
    history.forget(policy.window);
    assert_eq!(codes(&ruled(&history, &said, &there)), ["rate-limited"]);
    history.add(&PodRequest { uid: "e".into(), ..later });
    history.forget(policy.window);
    assert!(matches!(ruled(&history, &said, &there), Ruling::Approve { .. }));
}

#[test]
fn pods_get_the_identity_of_their_service_account_and_nothing_else() {
    let (said, there) = pod_request();
    let granted = |said: &PodRequest, there: &PodRecord| match judge_pod(said, Some(there), &pods())
    {
        Ruling::Approve { grant: Some(grant), whom, .. } => (*grant, whom),
        other => panic!("{other:?}"),
    };
    let names = |grant: &Grant| -> Vec<String> {
        grant.profile.sans.iter().map(ToString::to_string).collect()
    };
    let (grant, whom) = granted(&said, &there);
    assert_eq!(whom, "shop/web");
    assert_eq!(
        names(&grant),
        [
            "DNS:front.shop",
            "DNS:front.shop.svc",
            "DNS:front.shop.svc.cluster.local",
            "DNS:web.shop",
            "DNS:web.shop.svc",
            "DNS:web.shop.svc.cluster.local",
            "URI:spiffe://prod.example.com/ns/shop/sa/web",
        ]
    );
    // No user to whoever takes a common name for one.
    assert_eq!(grant.profile.subject.der(), [0x30, 0]);
    assert_eq!((grant.authority.id.name(), grant.term), ("workload-ca", Span(12 * 3600)));
    // All of its life is within what the pod's volume allows.
    let short = PodRequest { longest: Some(Span(3600)), ..said.clone() };
    let (grant, _) = granted(&short, &there);
    assert_eq!(grant.term.0 + grant.backdate.0, 3600);
    // Every service account of a namespace, and no names that nobody declared.
    let any = PodRequest { namespace: "batch".into(), account: "job".into(), ..said.clone() };
    let (grant, _) = granted(&any, &PodRecord { account: "job".into(), ..there.clone() });
    assert_eq!(names(&grant), ["URI:spiffe://prod.example.com/ns/batch/sa/job"]);
    // Nobody, unless it is said.
    let closed = judge_pod(&said, Some(&there), &Admission::default());
    assert!(matches!(closed, Ruling::Leave(_)) && codes(&closed) == ["signer-closed"]);
}

#[test]
fn pods_are_what_is_said_of_them() {
    let (said, there) = pod_request();
    let with = |change: &dyn Fn(&mut PodRequest)| {
        let mut changed = said.clone();
        change(&mut changed);
        judge_pod(&changed, Some(&there), &pods())
    };
    let of = |change: &dyn Fn(&mut PodRecord)| {
        let mut changed = there.clone();
        change(&mut changed);
        judge_pod(&said, Some(&changed), &pods())
    };
    let key = |request: Pkcs10| read_pod_key(&request.der(), &[]);
    let named = || own::named("web", &[], &[]);
    let names = || Pkcs10 { subject: Vec::new(), ..own::named("", &[], &[dns("api")]) };
    for (what, ruling, code) in [
        ("no such pod", judge_pod(&said, None, &pods()), "pod-unknown"),
        ("a pod that has ended", of(&|pod| pod.has_ended = true), "pod-unknown"),
        ("another pod of that name", of(&|pod| pod.uid = "u9".into()), "pod-differs"),
        ("another node's pod", of(&|pod| pod.node = OTHER.into()), "pod-differs"),
        ("a pod that is on no node", of(&|pod| pod.node = String::new()), "pod-differs"),
        ("a pod of another account", of(&|pod| pod.account = "db".into()), "pod-differs"),
        ("an account made anew", of(&|pod| pod.account_uid = Some("u9".into())), "pod-differs"),
        ("an account that is gone", of(&|pod| pod.account_uid = None), "pod-differs"),
        ("another account", with(&|r| r.account = "db".into()), "account-not-admitted"),
        ("another namespace", with(&|r| r.namespace = "shop2".into()), "account-not-admitted"),
        ("a wildcard", with(&|r| r.account = "*".into()), "account-not-admitted"),
        (
            "a path in a name",
            with(&|r| (r.namespace, r.account) = ("batch".into(), "a/../../sa/b".into())),
            "account-not-admitted",
        ),
        ("an empty name", with(&|r| r.account = String::new()), "account-not-admitted"),
        ("capitals", with(&|r| r.account = "WEB".into()), "account-not-admitted"),
        (
            "annotations",
            with(&|r| r.annotations = vec!["a/b".into()]),
            "invalid-unverified-user-annotations",
        ),
        ("a subject", with(&|r| r.key = key(named())), "attribute-surplus"),
        ("names", with(&|r| r.key = key(names())), "attribute-surplus"),
        ("no key", with(&|r| r.key = read_pod_key(&[], &[])), "request-malformed"),
        ("no request", with(&|r| r.key = read_pod_key(b"hello", &[])), "request-malformed"),
        (
            "too much",
            with(&|r| r.key = read_pod_key(&vec![0; LONGEST_REQUEST + 1], &[])),
            "request-too-long",
        ),
        (
            "a weak key",
            with(&|r| r.key = Err(UnreadableRequest::WeakKey("RSA 1024".into()))),
            "unsupported-key-type",
        ),
        (
            "somebody else's key",
            with(&|r| {
                let mut request = named();
                let info = request.info();
                request.key = support::requests::TestKey::p256();
                let mut der = request.signed(info);
                // Signed by another key than it names.
                let last = der.len() - 1;
                der[last] ^= 1;
                r.key = read_pod_key(&der, &[]);
            }),
            "request-unproven",
        ),
    ] {
        assert!(matches!(ruling, Ruling::Deny(_)), "{what}: {ruling:?}");
        assert!(codes(&ruling).contains(&code), "{what}: {ruling:?}");
    }
}

/// The roles that signing needs are of the very signers that there are.
#[test]
fn the_template_names_every_signer_of_certkits_own() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/deploy/controller-signing.yaml");
    let text = fs::read_to_string(file).unwrap();
    let named: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .filter(|name| name.starts_with("certkit.internal/"))
        .collect();
    let own = RequestSigner::ALL.into_iter().filter(|signer| signer.authority().is_some());
    let own: BTreeSet<&str> = own.map(RequestSigner::name).chain([POD_SIGNER]).collect();
    assert_eq!(named, own);
}

/// A certificate that could ask for its own successor would never end.
#[test]
fn a_persons_certificate_asks_for_no_other() {
    let own = own::honest();
    let by_certificate = |what: &str| {
        let asked = own.iter().find(|asked| asked.what == what).unwrap();
        let request = CertificateRequest { by_certificate: true, ..request(asked) };
        judge(&request, &open(), &History::default(), &RequestPolicy::default())
    };
    assert_eq!(codes(&by_certificate("a person")), ["renews-itself"]);
    // Who may ask for others is known by certkit.yaml, a node by its Node object.
    for what in ["a person by a portal", "a node for other nodes"] {
        assert!(matches!(by_certificate(what), Ruling::Approve { .. }), "{what}");
    }
}

/// Each change of an honest request by one octet is not approved, or asks for the same.
#[test]
fn no_octet_of_a_request_can_be_changed() {
    let honest = Pkcs10::of_node(WORKER, &[dns(WORKER), ip(&WORKER_IP)]);
    let der = honest.der();
    let asked = |der: &[u8]| Asked { pem: support::requests::pem(der), ..honest_serving() };
    for at in 0..der.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = der.clone();
            changed[at] ^= flip;
            let ruling = rule(&asked(&changed), &both());
            assert!(
                !matches!(ruling, Ruling::Approve { .. }),
                "octet {at} of {}, {flip:#x}, {:02x?}",
                der.len(),
                &der[at - 8..at + 8]
            );
        }
    }
    for end in 0..der.len() {
        let ruling = rule(&asked(&der[..end]), &both());
        assert!(!matches!(ruling, Ruling::Approve { .. }), "cut at {end}");
    }
}

/// The same of what is signed, with a signature that is right: nothing but the very request is approved.
#[test]
fn no_octet_of_what_is_signed_can_be_changed_by_who_has_the_key() {
    let honest = Pkcs10::of_node(WORKER, &[dns(WORKER), ip(&WORKER_IP)]);
    let info = honest.info();
    let approved = |info: Vec<u8>| {
        let pem = support::requests::pem(&honest.signed(info));
        matches!(rule(&Asked { pem, ..honest_serving() }, &both()), Ruling::Approve { .. })
    };
    assert!(approved(info.clone()));
    for at in 0..info.len() {
        for bit in 0..8 {
            let mut changed = info.clone();
            changed[at] ^= 1 << bit;
            assert!(!approved(changed), "octet {at} of {}, bit {bit}", info.len());
        }
        let mut longer = info.clone();
        longer.insert(at, 0);
        assert!(!approved(longer), "an octet more at {at}");
        let mut shorter = info.clone();
        shorter.remove(at);
        assert!(!approved(shorter), "octet {at} left out");
    }
}

fn honest_serving() -> Asked {
    honest().swap_remove(0)
}

#[test]
fn weak_keys_and_signatures_are_refused() {
    let Some(_) = need("openssl") else { return };
    let folder = support::temp_dir();
    let pem = |algorithm: &[&str]| {
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (key, out) = (at("key"), at("csr"));
        let mut arguments = vec!["req", "-new", "-noenc", "-keyout", &key, "-out", &out];
        arguments.extend(["-subj", "/O=system:nodes/CN=system:node:worker-1"]);
        arguments.extend(["-addext", "subjectAltName=DNS:worker-1,IP:10.0.1.1"]);
        arguments.extend(algorithm);
        openssl(&arguments);
        fs::read_to_string(Path::new(&out)).unwrap()
    };
    let by = |algorithm: &[&str]| rule(&Asked { pem: pem(algorithm), ..honest_serving() }, &both());
    for strong in [
        &["-newkey", "rsa:2048"][..],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-sha512"],
        &["-newkey", "ed25519"],
    ] {
        let ruling = by(strong);
        assert!(matches!(ruling, Ruling::Approve { .. }), "{strong:?}: {ruling:?}");
    }
    for (weak, code) in [
        (&["-newkey", "rsa:1024"][..], "key-weak"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"], "key-weak"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "key-weak"),
        (&["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"], "key-weak"),
        (&["-newkey", "rsa:2048", "-sha1"], "request-unproven"),
    ] {
        let ruling = by(weak);
        assert_eq!(codes(&ruling), [code], "{weak:?}: {ruling:?}");
        assert!(matches!(ruling, Ruling::Deny(_)), "{weak:?}");
    }
}

#[test]
fn a_key_is_good_for_one_request_and_a_node_gets_few_certificates_an_hour() {
    let asked = honest_serving();
    let policy = RequestPolicy { limit: 3, ..RequestPolicy::default() };
    let ruling = |history: &History| judge(&request(&asked), &both(), history, &policy);
    let replayed = History { same_key: Some("csr-abc".into()), granted: 0 };
    let denied = ruling(&replayed);
    assert_eq!(codes(&denied), ["key-used-before"]);
    assert!(matches!(&denied, Ruling::Deny(why) if why[0].detail.contains("csr-abc")));
    assert!(matches!(ruling(&History { granted: 2, same_key: None }), Ruling::Approve { .. }));
    let busy = ruling(&History { granted: 3, same_key: None });
    assert_eq!(codes(&busy), ["rate-limited"]);
    // It is not for good.
    assert!(matches!(busy, Ruling::Leave(_)));
}

/// Node objects alone: a kubelet writes its own addresses, and so can claim what nobody else has, and no more.
#[test]
fn where_both_sources_are_asked_both_must_agree() {
    let with =
        |names: &[Vec<u8>]| Asked { pem: Pkcs10::of_node(WORKER, names).pem(), ..honest_serving() };
    // The node claims an address that certkit.yaml does not have.
    let claimed = with(&[dns(WORKER), ip(&WORKER_IP), ip(&[10, 0, 0, 11])]);
    let mut live = NodeRegister::default();
    let mut record = record(WORKER, WORKER_IP);
    record.addresses.insert(IpAddr::from([10, 0, 0, 11]));
    record.addresses.insert(IpAddr::from([10, 0, 1, 99]));
    live.put(WORKER, record);
    let only_live = Inventory { declared: None, live: Some(live.clone()), ..Inventory::default() };
    assert!(matches!(rule(&claimed, &only_live), Ruling::Approve { .. }));
    let agreeing =
        Inventory { declared: Some(declared()), live: Some(live.clone()), ..Inventory::default() };
    // It is cp1's.
    assert_eq!(codes(&rule(&claimed, &agreeing)), ["address-of-another"]);
    let nobodys = with(&[dns(WORKER), ip(&[10, 0, 1, 99])]);
    assert_eq!(codes(&rule(&nobodys, &agreeing)), ["address-not-declared"]);
    // Declared, and the node does not have it.
    let mut other = live;
    other.put(
        WORKER,
        NodeRecord { names: BTreeSet::from([WORKER.into()]), ..NodeRecord::default() },
    );
    let inventory =
        Inventory { declared: Some(declared()), live: Some(other), ..Inventory::default() };
    let ruling = rule(&honest_serving(), &inventory);
    assert_eq!(codes(&ruling), ["address-not-declared"]);
    assert!(ruling.objections()[0].detail.contains("its Node object has no IP 10.0.1.1"));
    // Without any inventory nothing is known.
    assert_eq!(codes(&rule(&honest_serving(), &Inventory::default())), ["node-unknown"]);
    // And a node that nobody declared has to be there before anything is said of it.
    let unknown =
        Inventory { declared: None, live: Some(NodeRegister::default()), ..Inventory::default() };
    assert!(matches!(rule(&honest_serving(), &unknown), Ruling::Leave(_)));
}

#[test]
fn requests_to_other_signers_are_left_alone() {
    let asked = Asked { signer: "kubernetes.io/kube-apiserver-client", ..honest_serving() };
    let ruling = rule(&asked, &both());
    assert!(matches!(ruling, Ruling::Leave(_)) && codes(&ruling) == ["signer-others"]);
    let own = [own::NODE, own::PERSON, own::ETCD, own::FRONT_PROXY];
    let all = [&[SERVING, CLIENT], &own[..]].concat();
    assert_eq!(RequestSigner::ALL.map(RequestSigner::name)[..], all);
}

#[test]
fn a_register_forgets_what_is_taken_out() {
    let mut register = declared();
    let other = certkit::model::san::San::Ip(OTHER_IP.into());
    assert_eq!(register.len(), 3);
    assert_eq!(register.another_with(WORKER, &other), Some(OTHER));
    register.put(OTHER, record(OTHER, [10, 0, 1, 3]));
    assert_eq!(register.another_with(WORKER, &other), None);
    register.remove(OTHER);
    assert!(register.node(OTHER).is_none() && register.len() == 2);
}

/// Names are the kubelet's serving certificate's own, so what is declared for that counts here.
#[test]
fn the_inventory_has_what_certkit_would_issue() {
    let text = format!("{DECLARED}extraSans: {{kubelet: [worker-1.example.com]}}\n");
    let cluster = declared::parse(&text, "certkit.yaml").unwrap();
    let register = NodeRegister::declared(&cluster);
    assert!(register.node(WORKER).unwrap().names.contains("worker-1.example.com"));
    assert!(register.node("cp1").is_some(), "a host of the control plane runs a kubelet, too");
}

#[test]
fn what_is_too_long_is_not_even_read() {
    let text = vec![b'a'; LONGEST_REQUEST + 1];
    assert_eq!(read_request(&text), Err(UnreadableRequest::TooLong(LONGEST_REQUEST + 1)));
}

#[test]
fn a_clients_request_of_a_token_is_of_the_clients_signer_alone() {
    let asked = Asked {
        signer: CLIENT,
        username: "system:bootstrap:abcdef".into(),
        groups: vec![TOKENS],
        usages: TO_ASK.to_vec(),
        pem: Pkcs10::of_node(OTHER, &[]).pem(),
        ..honest_serving()
    };
    assert!(matches!(rule(&asked, &both()), Ruling::Approve { .. }));
    let serving = Asked { signer: SERVING, usages: TO_SERVE.to_vec(), ..asked.clone() };
    assert!(codes(&rule(&serving, &both())).contains(&"requester-not-subject"));
    let as_node = Asked { groups: vec![TOKENS, NODES], ..asked };
    assert_eq!(codes(&rule(&as_node, &both())), ["requester-surplus-group"]);
}
