use std::net::IpAddr;

use proptest::{collection, prelude::*};

use super::*;
use crate::model::{
    algorithm::KeyAlgorithm,
    catalogue::{self, CERTIFICATES, roles},
    cluster::{
        Signers, Subnet,
        signers::{
            AccountAdmitted, DnsName, EtcdClients, FrontProxies, NodesAdmitted, PeopleAdmitted,
            PlainName, PodsAdmitted, Requester,
        },
    },
    der::tlv,
    duration::Span,
};

const EXAMPLE: &str = "\
apiVersion: certkit/v1
kind: Cluster
name: prod
layout: workspace
endpoint: api.prod.example.com:6443
dnsDomain: cluster.local
serviceSubnet: [10.96.0.0/12]
keyAlgorithm: ecdsa-p256
validity: {ca: 10y, leaf: 1y}
controlPlane:
  - {name: cp1, addresses: [10.0.0.11]}
etcd:
  - {name: etcd1, addresses: [10.0.0.21]}
nodes:
  - {name: worker-1, addresses: [10.0.1.1]}
extraSans:
  apiserver: [api.internal]
addons: [kube-proxy]
overrides:
  admin.conf: {validity: 30d}
";

fn again(cluster: &Cluster) -> Cluster {
    let text = write(cluster);
    crate::document::read(text.as_bytes(), "f")
        .and_then(|draft| draft.complete("f"))
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_documented_example_is_written_as_it_was_read() {
    let draft = crate::document::read(EXAMPLE.as_bytes(), "f").unwrap();
    let cluster = draft.complete("f").unwrap();
    assert_eq!(write(&cluster), EXAMPLE);
    let roles: Vec<_> =
        cluster.hosts.iter().map(|h| (h.name.as_ref(), h.control_plane, h.etcd, h.node)).collect();
    assert_eq!(
        roles,
        [
            ("cp1", true, false, true),
            ("etcd1", false, true, false),
            ("worker-1", false, false, true)
        ]
    );
}

#[test]
fn where_keys_are_made_reads_back_and_what_is_none_is_named_with_its_line() {
    let of = |keys: &str| {
        let draft = crate::document::read(format!("{EXAMPLE}{keys}").as_bytes(), "f");
        draft.and_then(|draft| draft.complete("f"))
    };
    assert_eq!(of("").unwrap().host_keys, HostKeys::default());
    assert_eq!(of("keys: workspace\n").unwrap().host_keys, HostKeys::default());
    assert_eq!(of("keys: host\n").unwrap().host_keys, HostKeys::ALL);
    let nodes = HostKeys { nodes: true, ..HostKeys::default() };
    assert_eq!(of("keys: {nodes: host, etcd: workspace}\n").unwrap().host_keys, nodes);
    for (wrong, said) in [
        ("keys: here\n", "keys: is neither `host` nor `workspace`"),
        ("keys: {nodes: 1}\n", "keys.nodes: is neither"),
        ("keys: {hosts: host}\n", "keys.hosts"),
        ("keys: host\nkubeconfigStyle: embedded\n", "keys: an embedded key would"),
    ] {
        let error = of(wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{wrong}: {error}");
    }
}

#[test]
fn owners_read_back_and_what_is_none_is_named_with_its_line() {
    let declared =
        format!("{EXAMPLE}owner: {{etcd: etcd:etcd, kube-apiserver: 1000:1000, kubelet: 0}}\n");
    let read = |text: &str| {
        crate::document::read(text.as_bytes(), "f").and_then(|draft| draft.complete("f"))
    };
    let cluster = read(&declared).unwrap();
    assert_eq!(cluster.owners["kube-apiserver"].to_string(), "1000:1000");
    assert_eq!(again(&cluster), cluster);
    assert!(write(&cluster).contains("\nowner:\n  etcd: "), "{}", write(&cluster));
    let line = EXAMPLE.lines().count() + 2;
    for (owner, said) in [
        ("etcd: 'a b'", format!("f:{line}:9: owner.etcd: `a b`: write USER or USER:GROUP")),
        ("etc: a", format!("f:{line}:3: owner.etc: there is no such field; did you mean `etcd`?")),
        (
            "kube-apiserver: a\n  kube-controller-manager: b",
            format!(
                "f:{}:3: owner.kube-controller-manager: kube-controller-manager and kube-apiserver read",
                line + 1
            ),
        ),
    ] {
        let error = read(&format!("{EXAMPLE}owner:\n  {owner}\n")).unwrap_err().to_string();
        assert!(error.starts_with(&said), "{error}\n{said}");
    }
}

#[test]
fn names_of_certificates_made_elsewhere_read_back() {
    for name in [
        San::Dns("my_host".into()),
        San::Dns("UPPER.example".into()),
        San::Dns("a b".into()),
        San::Dns(String::new()),
        San::Dns("DNS:a".into()),
        San::Dns("10.0.0.1".into()),
        San::Email("DNS:a@b".into()),
        San::Uri("urn:uuid:1".into()),
        San::Other(vec![0xa0, 0x03, 0x02, 0x01, 0x05]),
        San::Other(vec![0x88, 0x01, 0x2a]),
    ] {
        assert_eq!(read_san(&san(&name)), Ok(name.clone()), "{name:?} as {}", san(&name));
    }
    for bad in ["DNS:a b", "DNS:", "IP:x", "other:", "other:0", "other:0g", "a b"] {
        assert!(read_san(bad).is_err(), "{bad}");
    }
}

#[test]
fn signers_admit_nobody_that_cannot_be() {
    let read = |signers: &str| {
        let text = format!("{EXAMPLE}signers: {signers}\n").replace("kube-proxy]", "workload]");
        crate::document::read(text.as_bytes(), "f").and_then(|draft| draft.complete("f"))
    };
    for (wrong, why) in [
        ("{people: {groups: ['system:masters']}}", "begins with system:"),
        ("{people: {groups: ['SYSTEM:nodes']}}", "begins with system:"),
        ("{people: {groups: ['']}}", "is empty"),
        ("{people: {validity: 7d}}", "is not between 1h and 1d"),
        ("{nodes: {validity: 10m}}", "is not between 1h and 1d"),
        ("{people: {requesters: ['system:anonymous']}}", "is everybody"),
        ("{etcd: {}}", "needs at least one of `clients`"),
        ("{etcd: {clients: [{requester: a}]}}", "needs `requester` and `commonName`"),
        ("{frontProxy: {}}", "needs at least one of `requesters`"),
        ("{pods: {}}", "needs at least one of `serviceAccounts`"),
        ("{pods: {serviceAccounts: [{namespace: a}]}}", "needs `namespace` and `name`"),
        ("{pods: {serviceAccounts: [{namespace: '*', name: '*'}]}}", "only letters"),
        ("{pods: {trustDomain: A, serviceAccounts: [{namespace: a, name: b}]}}", "has capitals"),
        ("{people: {group: []}}", "did you mean `groups`?"),
    ] {
        let said = read(wrong).unwrap_err().to_string();
        assert!(said.contains(why), "{wrong}: {said}");
    }
    assert!(read("").unwrap().signers.are_closed());
    assert!(read("{}").unwrap().signers.are_closed());
    assert!(read("{nodes: null}").unwrap().signers.are_closed());
    let text = EXAMPLE.to_owned() + "signers: {nodes: {}}\n";
    let read = crate::document::read(text.as_bytes(), "f").unwrap().complete("f");
    assert!(read.unwrap_err().to_string().contains("needs the addon `workload`"));
}

fn strange() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "yes",
            "no",
            "1_000",
            "null",
            "~",
            "=",
            "<<",
            "0x1f",
            "1e3",
            "- a",
            "a: b",
            "#",
            "{}",
            "a,b",
            "'",
            "\"",
            "*a",
            "&a",
            "!",
            "%",
            "@",
            " a ",
            "2020-01-01",
            "0o7",
            "ünï",
            "\u{2028}",
        ])
        .prop_map(str::to_owned),
        "[ -~äß語]{1,20}",
        any::<String>().prop_filter("names have a length and no controls", |text| {
            !text.is_empty() && text.len() < 250 && !text.chars().any(char::is_control)
        }),
    ]
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["yes", "null", "0x1f", "1e3", "y", "n", "on", "true", "1-1"])
            .prop_map(str::to_owned),
        "[a-z][a-z0-9]{0,8}",
        "[a-z0-9]{1,6}-[a-z]{1,3}\\.[a-z]{1,5}",
    ]
}

fn sans() -> impl Strategy<Value = Vec<San>> {
    let one = prop_oneof![
        label().prop_map(San::Dns),
        any::<IpAddr>().prop_map(San::Ip),
        "[!-~]{1,12}".prop_map(San::Dns),
        "[!-~]{1,12}".prop_map(San::Uri),
        "[!-~]{1,12}".prop_map(San::Email),
        any::<String>().prop_map(San::Dns),
        collection::vec(any::<u8>(), 1..9).prop_map(|mut der| {
            der[0] = 0xa0;
            San::Other(der)
        }),
    ];
    collection::vec(one, 0..4)
}

fn span() -> impl Strategy<Value = Span> {
    (60i64..=3_153_600_000).prop_map(Span)
}

fn algorithm() -> impl Strategy<Value = KeyAlgorithm> {
    prop::sample::select(KeyAlgorithm::CHOICES.to_vec())
}

fn over() -> impl Strategy<Value = Override> {
    let subject = (collection::vec(any::<String>(), 0..3), any::<String>())
        .prop_map(|(organizations, common_name)| DeclaredSubject { organizations, common_name });
    let parts = (
        prop::option::of(span()),
        prop::option::of(algorithm()),
        prop::option::of(subject),
        prop::option::of(sans()),
        prop::option::of(usages()),
        prop::option::of(collection::vec(any::<u8>(), 0..9)),
    );
    parts.prop_map(|(validity, key_algorithm, subject, sans, usages, name)| {
        let raw_subject = name.map(|content| Name::from_der(tlv(SEQUENCE, &content), "x".into()));
        // One or the other.
        let subject = subject.filter(|_| raw_subject.is_none());
        Override { validity, key_algorithm, subject, raw_subject, sans, usages }
    })
}

fn usages() -> impl Strategy<Value = Usages> {
    let extended = prop_oneof![
        Just(ExtendedUsage::ServerAuth),
        Just(ExtendedUsage::ClientAuth),
        Just(ExtendedUsage::Other("1.3.6.1.5.5.7.3.17".into())),
    ];
    (0u16..512, collection::vec(extended, 0..3))
        .prop_map(|(key, extended)| Usages { key: KeyUsages(key), extended })
}

fn id() -> impl Strategy<Value = String> {
    (0..CERTIFICATES.len()).prop_map(|index| CERTIFICATES[index].id.to_string())
}

fn signers() -> impl Strategy<Value = Signers> {
    let requester = || "[!-~]{1,12}".prop_map(|text| text.parse::<Requester>().unwrap());
    let plain = || "[a-z][!-~]{0,5}".prop_map(|text| text.parse::<PlainName>().unwrap());
    let dns = || label().prop_filter_map("no name", |text| text.parse::<DnsName>().ok());
    let account = (dns(), prop::option::of(dns()), collection::vec(dns(), 0..3))
        .prop_map(|(namespace, name, services)| AccountAdmitted { namespace, name, services });
    let hours = |hours: i64| format!("{hours}h");
    let pods = (prop::option::of(dns()), collection::vec(account, 1..3), 1..24_i64);
    (
        prop::option::of(1..24_i64),
        prop::option::of((
            collection::vec(plain(), 0..3),
            collection::vec(requester(), 0..3),
            1..24_i64,
        )),
        prop::option::of((collection::vec((requester(), plain()), 1..3), 1..24_i64)),
        prop::option::of((collection::vec(requester(), 1..3), 1..24_i64)),
        prop::option::of(pods),
    )
        .prop_map(move |(nodes, people, etcd, front_proxy, pods)| Signers {
            nodes: nodes.map(|n| NodesAdmitted { validity: hours(n).parse().unwrap() }),
            people: people.map(|(groups, requesters, n)| PeopleAdmitted {
                groups,
                requesters,
                validity: hours(n).parse().unwrap(),
            }),
            etcd: etcd
                .map(|(clients, n)| EtcdClients { clients, validity: hours(n).parse().unwrap() }),
            front_proxy: front_proxy.map(|(requesters, n)| FrontProxies {
                requesters,
                validity: hours(n).parse().unwrap(),
            }),
            pods: pods.map(|(trust_domain, accounts, n)| PodsAdmitted {
                trust_domain,
                accounts,
                validity: hours(n).parse().unwrap(),
            }),
        })
}

prop_compose! {
    /// A cluster without faults.
    fn cluster()(
        name in strange(),
        endpoint in label(),
        port in 1u16..,
        domain in label(),
        v6 in any::<bool>(),
        key_algorithm in algorithm(),
        (one, other) in (span(), span()),
        counts in (1usize..4, 0usize..4, 0usize..4),
        names in collection::vec(label(), 12),
        etcd in 0..4,
        extra_sans in collection::btree_map(id(), sans(), 0..3),
        addons in prop::sample::subsequence(catalogue::addons(), 0..3),
        overrides in collection::btree_map(id(), over(), 0..3),
        (embedded, single_root) in any::<(bool, bool)>(),
        keys in any::<(bool, bool, bool)>(),
        host_dir in prop::option::of("/[ -~ä]{0,12}"),
        (ports, owners) in (
            collection::vec(prop::option::of(1_u16..), 3),
            prop::sample::subsequence(
                vec![("etcd", "etcd:etcd"), ("kubelet", "0"), ("kube-apiserver", "null:1_0"),
                     ("kube-proxy", "1000:1000"), ("etcdctl", "yes"), ("kube-scheduler", "_x.-")],
                0..6,
            ),
        ),
        absent in collection::btree_set(
            prop::sample::select(vec!["sa", "kubelet", "ca-bundle", "istio-ca-chain", "admin.conf",
                                     "kubelet-config.yaml", "etcd-members"]),
            0..3,
        ),
        signers in signers(),
    ) -> Cluster {
        let stacked = etcd < 2 || (etcd == 3 && counts.1 == 0);
        let mut hosts = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let (cp, member, node) = counts;
            let role = match i {
                i if i < cp => (true, stacked, true),
                i if i < cp + member && etcd == 3 => (false, true, false),
                i if i < cp + member + node => (false, false, true),
                _ => break,
            };
            hosts.push(Host {
                // A number makes the names differ; the strange ones stay strange.
                name: if i == 0 { name.clone() } else { format!("{name}.h{i}") }.parse().unwrap(),
                addresses: vec![format!("11.0.0.{}", i + 1).parse().unwrap(),
                                format!("fd00::{}", i + 1).parse().unwrap()],
                port: ports.get(i).copied().flatten().filter(|_| role.0),
                control_plane: role.0,
                etcd: role.1,
                node: role.2,
                ssh: None,
            });
        }
        hosts.sort_by_key(|h| (!h.control_plane, !h.etcd));
        let endpoint = format!("{endpoint}:{port}").parse().unwrap();
        let mut cluster = Cluster::new(name, endpoint, hosts);
        cluster.absent = absent.into_iter().map(str::to_owned).collect();
        cluster.owners =
            owners.into_iter().map(|(component, owner)| (component, owner.parse().unwrap())).collect();
        cluster.settle_ports();
        cluster.dns_domain = domain;
        if v6 {
            cluster.service_subnets = vec!["fd01::/108".parse::<Subnet>().unwrap(), Subnet::DEFAULT];
        }
        cluster.key_algorithm = key_algorithm;
        cluster.validity.ca = one.max(other);
        cluster.validity.leaf = one.min(other);
        cluster.etcd = match (stacked, etcd) {
            (true, _) => Etcd::Stacked,
            (false, 2) => Etcd::External {
                endpoints: vec!["https://[fd00::9]:2379".into(), "https://e:2379".into()],
                files: single_root.then(|| ExternalEtcdFiles {
                    ca: "/a b/ca.crt".into(), cert: "/c: d".into(), key: "/#".into(),
                }),
            },
            _ => Etcd::Hosts,
        };
        cluster.extra_sans = extra_sans;
        cluster.addons = addons.into_iter().map(str::to_owned).collect();
        cluster.overrides = overrides;
        if embedded {
            cluster.kubeconfig_style = KubeconfigStyle::Embedded;
        } else {
            let (control_plane, etcd, nodes) = keys;
            cluster.host_keys = HostKeys { control_plane, etcd, nodes };
        }
        cluster.single_root = single_root;
        cluster.signers = signers;
        if !cluster.has(roles::WORKLOAD_CA.present) {
            (cluster.signers.nodes, cluster.signers.pods) = (None, None);
        }
        if matches!(cluster.etcd, Etcd::External { .. }) {
            cluster.signers.etcd = None;
        }
        cluster.host_dir = host_dir.filter(|dir| !dir.split('/').any(|part| part == ".."));
        cluster
    }
}

proptest! {
    #[test]
    fn every_cluster_reads_back(cluster in cluster()) {
        prop_assert_eq!(cluster.faults(), []);
        prop_assert_eq!(&again(&cluster), &cluster);
    }

    #[test]
    fn no_input_makes_reading_panic(text in any::<String>(), at in 0usize..400) {
        let _ = crate::document::read(text.as_bytes(), "f");
        let cut = at.min(EXAMPLE.len());
        let mixed = format!("{}{text}{}", &EXAMPLE[..cut], &EXAMPLE[cut..]);
        let _ = crate::document::read(mixed.as_bytes(), "f").and_then(|d| d.complete("f"));
    }
}
