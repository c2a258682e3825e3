//! The same of certkit's own signers: nodes for each other, people, clients of etcd and of aggregated API servers.

pub use super::Pkcs10;
use super::{
    Asked, COMMON_NAME, NODES, ORGANIZATION, OTHER, OTHER_IP, PRINTABLE, TO_ASK, TO_SERVE, TestKey,
    UTF8, WORKER, WORKER_IP, dns, ip, oid, sequence, tlv,
};

pub const NODE: &str = "certkit.internal/node";
pub const PERSON: &str = "certkit.internal/person";
pub const ETCD: &str = "certkit.internal/etcd-client";
pub const FRONT_PROXY: &str = "certkit.internal/front-proxy";

/// What certkit.yaml says about whom they sign for.
pub const ADMITTED: &str = "\
addons: [workload]
signers:
  nodes: {}
  people: {groups: [developers, viewers], requesters: [portal], validity: 4h}
  etcd: {clients: [{requester: 'system:serviceaccount:monitoring:exporter', commonName: exporter}]}
  frontProxy: {requesters: ['system:serviceaccount:kube-system:aggregator'], validity: 12h}
";

const BOTH: &[&str] = &["digital signature", "server auth", "client auth"];
const EXPORTER: &str = "system:serviceaccount:monitoring:exporter";
const AGGREGATOR: &str = "system:serviceaccount:kube-system:aggregator";

/// A request of this name and these organizations.
pub fn named(name: &str, groups: &[&str], names: &[Vec<u8>]) -> Pkcs10 {
    let group = |group: &&str| (ORGANIZATION.to_vec(), UTF8, group.as_bytes().to_vec());
    let mut subject: Vec<_> = groups.iter().map(group).collect();
    subject.push((COMMON_NAME.to_vec(), UTF8, name.as_bytes().to_vec()));
    Pkcs10 {
        key: TestKey::p256(),
        subject,
        names: names.to_vec(),
        extensions: Vec::new(),
        attributes: Vec::new(),
    }
}

fn asked(
    what: &'static str,
    signer: &'static str,
    (username, groups): (&str, &[&'static str]),
    usages: &[&'static str],
    request: &Pkcs10,
    code: &'static str,
) -> Asked {
    Asked {
        what,
        signer,
        username: username.into(),
        groups: groups.to_vec(),
        usages: usages.to_vec(),
        pem: request.pem(),
        code,
    }
}

fn own() -> Vec<Vec<u8>> {
    vec![dns(WORKER), ip(&WORKER_IP)]
}

fn node(what: &'static str, request: &Pkcs10, code: &'static str) -> Asked {
    asked(what, NODE, ("system:node:worker-1", &[NODES]), BOTH, request, code)
}

fn alice(what: &'static str, request: &Pkcs10, code: &'static str) -> Asked {
    let who: (&str, &[&str]) = ("alice", &["developers", "oncall"]);
    asked(what, PERSON, who, TO_ASK, request, code)
}

fn portal(what: &'static str, request: &Pkcs10, code: &'static str) -> Asked {
    asked(what, PERSON, ("portal", &[]), TO_ASK, request, code)
}

fn exporter(what: &'static str, request: &Pkcs10, code: &'static str) -> Asked {
    asked(what, ETCD, (EXPORTER, &["system:serviceaccounts"]), TO_ASK, request, code)
}

fn aggregator(what: &'static str, request: &Pkcs10, code: &'static str) -> Asked {
    asked(what, FRONT_PROXY, (AGGREGATOR, &["system:serviceaccounts"]), TO_ASK, request, code)
}

/// One that each signer signs, and more.
pub fn honest() -> Vec<Asked> {
    let with_encipherment = vec!["digital signature", "key encipherment", "client auth"];
    vec![
        node("a node for other nodes", &named(WORKER, &[], &own()), ""),
        node("a node by its name alone", &named(WORKER, &[], &[dns(WORKER)]), ""),
        alice("a person", &named("alice", &["developers"], &[]), ""),
        alice("a person without groups", &named("alice", &[], &[]), ""),
        Asked {
            usages: with_encipherment,
            ..portal("a person by a portal", &named("bob", &["developers", "viewers"], &[]), "")
        },
        exporter("a client of etcd", &named("exporter", &[], &[]), ""),
        aggregator("a client of aggregated servers", &named("front-proxy-client", &[], &[]), ""),
    ]
}

/// Requests that nobody may sign.
pub fn hostile() -> Vec<Asked> {
    let ca = sequence(&[vec![1, 1, 0xff]]);
    let basic_constraints = |request: Pkcs10| request.with_extension(&[0x55, 0x1d, 19], &ca);
    let unit = |request: Pkcs10| request.with_subject(&[0x55, 4, 11], PRINTABLE, b"operations");
    let challenge = sequence(&[oid(super::CHALLENGE_PASSWORD), tlv(0x31, &tlv(UTF8, b"please"))]);
    let other = named(OTHER, &[], &[dns(OTHER), ip(&OTHER_IP)]);
    let as_alice = || named("alice", &["developers"], &[]);
    let as_exporter = || named("exporter", &[], &[]);
    let as_proxy = || named("front-proxy-client", &[], &[]);
    vec![
        // Nodes for each other
        node("node: another node", &other, "requester-not-subject"),
        node("node: the name of another", &named(WORKER, &[], &[dns(OTHER)]), "name-of-another"),
        node(
            "node: the address of another",
            &named(WORKER, &[], &[ip(&OTHER_IP)]),
            "address-of-another",
        ),
        node(
            "node: an address of nobody",
            &named(WORKER, &[], &[ip(&[10, 9, 9, 9])]),
            "address-not-declared",
        ),
        node("node: a wildcard", &named(WORKER, &[], &[dns("*.example.com")]), "name-wildcard"),
        node("node: no name", &named(WORKER, &[], &[]), "names-missing"),
        node(
            "node: the identity of a pod",
            &named(WORKER, &[], &[tlv(0x86, b"spiffe://cluster.local/ns/a/sa/b")]),
            "name-kind",
        ),
        node("node: as a user of the cluster", &Pkcs10::of_node(WORKER, &own()), "subject-surplus"),
        node("node: a group", &named(WORKER, &["system:masters"], &own()), "subject-surplus"),
        node("node: a unit", &unit(named(WORKER, &[], &own())), "subject-surplus"),
        node("node: a Cyrillic letter", &named("w\u{43e}rker-1", &[], &own()), "node-name-wrong"),
        node("node: capitals", &named("WORKER-1", &[], &own()), "node-name-wrong"),
        node("node: a CA", &basic_constraints(named(WORKER, &[], &own())), "ca-asked"),
        Asked {
            usages: TO_SERVE.to_vec(),
            ..node("node: to serve alone", &named(WORKER, &[], &own()), "usages-wrong")
        },
        Asked {
            usages: [BOTH, &["cert sign"]].concat(),
            ..node("node: to sign", &named(WORKER, &[], &own()), "usages-wrong")
        },
        Asked {
            groups: vec![NODES, "system:masters"],
            ..node("node: a master", &named(WORKER, &[], &own()), "requester-surplus-group")
        },
        Asked {
            groups: vec![],
            ..node("node: outside of the group", &named(WORKER, &[], &own()), "requester-not-node")
        },
        Asked {
            username: WORKER.into(),
            ..node(
                "node: somebody of a node's name",
                &named(WORKER, &[], &own()),
                "requester-not-subject",
            )
        },
        Asked {
            username: "system:bootstrap:abcdef".into(),
            groups: vec![super::TOKENS],
            ..node(
                "node: a bootstrap token",
                &named(OTHER, &[], &[dns(OTHER)]),
                "requester-not-subject",
            )
        },
        Asked {
            username: "system:node:worker-2".into(),
            ..node("node: one that has not joined", &other, "node-not-joined")
        },
        Asked {
            username: "system:node:worker-9".into(),
            ..node(
                "node: one that is not declared",
                &named("worker-9", &[], &[dns("worker-9")]),
                "node-unknown",
            )
        },
        // People
        alice(
            "person: somebody else",
            &named("bob", &["developers"], &[]),
            "requester-not-subject",
        ),
        alice(
            "person: a group that is not admitted",
            &named("alice", &["oncall"], &[]),
            "group-not-admitted",
        ),
        alice("person: a group of others", &named("alice", &["viewers"], &[]), "group-not-own"),
        alice("person: masters", &named("alice", &["system:masters"], &[]), "group-not-admitted"),
        alice(
            "person: administrators",
            &named("alice", &["kubeadm:cluster-admins"], &[]),
            "group-not-admitted",
        ),
        alice(
            "person: a group twice",
            &named("alice", &["developers", "developers"], &[]),
            "subject-surplus",
        ),
        alice(
            "person: a group in capitals",
            &named("alice", &["Developers"], &[]),
            "group-not-admitted",
        ),
        alice(
            "person: an alternative name",
            &named("alice", &[], &[dns("alice")]),
            "names-surplus",
        ),
        alice("person: a unit", &unit(as_alice()), "subject-surplus"),
        alice(
            "person: a second name",
            &as_alice().with_subject(COMMON_NAME, UTF8, b"bob"),
            "subject-wrong",
        ),
        alice("person: a CA", &basic_constraints(as_alice()), "ca-asked"),
        alice(
            "person: a challenge password",
            &as_alice().with_attribute(challenge),
            "attribute-surplus",
        ),
        alice("person: no name", &named("", &["developers"], &[]), "subject-wrong"),
        Asked {
            usages: TO_SERVE.to_vec(),
            ..alice("person: to serve", &as_alice(), "usages-wrong")
        },
        Asked {
            usages: BOTH.to_vec(),
            ..alice("person: both usages", &as_alice(), "usages-wrong")
        },
        Asked {
            username: "system:anonymous".into(),
            groups: vec!["system:unauthenticated"],
            ..alice("person: nobody", &named("system:anonymous", &[], &[]), "name-reserved")
        },
        Asked {
            username: "system:node:worker-1".into(),
            groups: vec![NODES],
            ..alice("person: a node asks", &Pkcs10::of_node(WORKER, &[]), "name-reserved")
        },
        Asked {
            username: "system:serviceaccount:default:default".into(),
            groups: vec!["developers"],
            ..alice("person: a service account asks", &as_alice(), "requester-not-subject")
        },
        Asked {
            username: "Portal".into(),
            ..portal("person: a portal in capitals", &as_alice(), "requester-not-subject")
        },
        portal(
            "portal: a node",
            &named("system:node:worker-1", &["viewers"], &[]),
            "name-reserved",
        ),
        portal(
            "portal: a system name in capitals",
            &named("SYSTEM:admin", &[], &[]),
            "name-reserved",
        ),
        portal(
            "portal: the controller itself",
            &named("certkit-controller", &[], &[]),
            "name-reserved",
        ),
        portal("portal: the administrator", &named("kubernetes-admin", &[], &[]), "name-reserved"),
        portal(
            "portal: the apiserver",
            &named("kube-apiserver-kubelet-client", &[], &[]),
            "name-reserved",
        ),
        portal("portal: masters", &named("bob", &["system:masters"], &[]), "group-not-admitted"),
        portal("portal: a Cyrillic letter", &named("b\u{43e}b", &[], &[]), "subject-wrong"),
        portal("portal: a line in a name", &named("bob\nalice", &[], &[]), "subject-wrong"),
        portal("portal: a null in a name", &named("bob\0", &[], &[]), "subject-wrong"),
        portal("portal: a long name", &named(&"b".repeat(65), &[], &[]), "subject-wrong"),
        // Clients of etcd
        exporter("etcd: root", &named("root", &[], &[]), "subject-wrong"),
        exporter(
            "etcd: a member's name",
            &named("exporter", &[], &[dns("etcd-peer.kubernetes.internal")]),
            "names-surplus",
        ),
        exporter("etcd: a group", &named("exporter", &["developers"], &[]), "subject-surplus"),
        exporter("etcd: a CA", &basic_constraints(as_exporter()), "ca-asked"),
        Asked {
            usages: BOTH.to_vec(),
            ..exporter("etcd: both usages", &as_exporter(), "usages-wrong")
        },
        Asked {
            username: "alice".into(),
            ..exporter("etcd: somebody who is not listed", &as_exporter(), "requester-not-admitted")
        },
        Asked {
            username: EXPORTER.replace("monitoring", "monitoring2"),
            ..exporter(
                "etcd: the account of another namespace",
                &as_exporter(),
                "requester-not-admitted",
            )
        },
        Asked {
            username: "exporter".into(),
            ..exporter("etcd: a user of that name", &as_exporter(), "requester-not-admitted")
        },
        // Clients of aggregated API servers
        aggregator("proxy: another name", &named("aggregator", &[], &[]), "subject-wrong"),
        aggregator("proxy: a group", &named("front-proxy-client", &["a"], &[]), "subject-surplus"),
        aggregator(
            "proxy: an address",
            &named("front-proxy-client", &[], &[ip(&WORKER_IP)]),
            "names-surplus",
        ),
        Asked {
            username: EXPORTER.into(),
            ..aggregator("proxy: somebody who is not listed", &as_proxy(), "requester-not-admitted")
        },
        Asked {
            username: "front-proxy-client".into(),
            ..aggregator("proxy: a user of that name", &as_proxy(), "requester-not-admitted")
        },
        Asked {
            usages: TO_SERVE.to_vec(),
            ..aggregator("proxy: to serve", &as_proxy(), "usages-wrong")
        },
    ]
}
