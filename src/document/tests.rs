use super::*;

fn said(text: &str) -> String {
    let result = read(text.as_bytes(), "certkit.yaml").and_then(|d| d.complete("certkit.yaml"));
    match result {
        Ok(cluster) => panic!("accepted as {cluster:#?}"),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}\n{}", cause.unwrap_or_default())
        }
    }
}

/// A sound file with lines added at its end.
fn with(lines: &str) -> String {
    format!(
        "apiVersion: certkit/v1\nkind: Cluster\ncontrolPlane:\n  - {{name: cp1, addresses: \
         [10.0.0.11]}}\n{lines}"
    )
}

#[test]
fn the_shortest_file_is_a_cluster() {
    let cluster = read(with("").as_bytes(), "f").unwrap().complete("f").unwrap();
    assert_eq!(cluster.name, "kubernetes");
    assert_eq!(cluster.endpoint.to_string(), "10.0.0.11:6443");
    assert!(cluster.hosts[0].etcd && cluster.hosts[0].node && cluster.hosts[0].control_plane);
}

#[test]
fn every_mistake_names_file_line_and_field() {
    let long = format!("name: {}\n", "x".repeat(300));
    let mut missed = Vec::new();
    let long_host = format!("nodes: [{{name: {}, addresses: [10.0.0.2]}}]\n", "x".repeat(300));
    for (lines, wanted) in [
        (
            "endpont: a:1\n",
            "certkit.yaml:5:1: endpont: there is no such field; did you mean `endpoint`?",
        ),
        ("Name: x\n", "5:1: Name: there is no such field; did you mean `name`?"),
        (
            "zzzzzzzz: x\n",
            "5:1: zzzzzzzz: there is no such field; known are apiVersion, kind, name",
        ),
        (
            "validity: {ca: 10y, leef: 1y}\n",
            "5:21: validity.leef: there is no such field; did you mean `leaf`?",
        ),
        (
            "nodes: [{name: a, adresses: []}]\n",
            "5:19: nodes[0].adresses: there is no such field; did",
        ),
        (
            "overrides: {admin.conf: {sbject: {}}}\n",
            "5:26: overrides.admin.conf.sbject: there is no",
        ),
        (
            "nodes:\n  - {name: cp1, addresses: [10.0.0.2]}\n",
            "6:5: nodes: host `cp1` is declared twice",
        ),
        (
            "nodes:\n- {name: a, addresses: [10.0.0.2]}\n- {name: b, addresses: [10.0.0.2]}\n",
            "7:3: nodes: 10.0.0.2 belongs to both `a` and `b`",
        ),
        ("nodes:\n- {name: a}\n", "6:3: nodes: host `a` needs at least one address"),
        ("nodes:\n- {addresses: [10.0.0.2]}\n", "6:3: nodes[0].name: is missing"),
        ("nodes: [a]\n", "5:9: nodes[0]: is a text, not a mapping"),
        ("nodes: [null]\n", "5:9: nodes[0]: is nothing, not a mapping"),
        (
            "nodes:\n- {name: a, addresses: [10.0.0.256]}\n",
            "6:25: nodes[0].addresses[0]: `10.0.0.256` is no IP",
        ),
        (
            "nodes:\n- {name: ../x, addresses: [10.0.0.2]}\n",
            "6:10: nodes[0].name: `../x` is no host name",
        ),
        (
            "nodes:\n- {name: \"a\\0b\", addresses: [10.0.0.2]}\n",
            "6:10: nodes[0].name: `a\\u{0}b` is no host",
        ),
        (
            &long_host,
            "5:16: nodes[0].name: (a text of 300 characters, not shown) is no host name: ",
        ),
        (&long, "5:1: name: must have 1 to 253 characters"),
        ("name: \"a\\0b\"\n", "5:1: name: must have 1 to 253 characters, none of them a control"),
        ("name: [a]\n", "5:7: name: is a list, not a text"),
        ("endpoint: https://a:1\n", "5:11: endpoint: `https://a:1` is no endpoint"),
        ("dnsDomain: a b\n", "5:1: dnsDomain: `a b`"),
        ("serviceSubnet: 10.96.0.0/33\n", "5:16: serviceSubnet: `10.96.0.0/33` is no subnet"),
        ("serviceSubnet: [10.96.0.0/12, x]\n", "5:31: serviceSubnet[1]: `x` is no subnet"),
        ("serviceSubnet: 10.0.0.0/8\n", "5:1: serviceSubnet: 10.0.0.0/8 overlaps 10.0.0.11"),
        ("serviceSubnet: {a: b}\n", "5:16: serviceSubnet: is a mapping, not a text or a list"),
        ("keyAlgorithm: dsa\n", "5:15: keyAlgorithm: `dsa` is no key algorithm"),
        ("validity: 1y\n", "5:11: validity: is a text, not a mapping"),
        ("validity: {leaf: 0s}\n", "5:12: validity.leaf: 0s is not between"),
        ("validity: {leaf: 0}\n", "5:18: validity.leaf: `0` is no duration"),
        ("validity: {ca: 1000y}\n", "5:12: validity.ca: 1000y is not between"),
        (
            "validity: {ca: 99999999999999999999y}\n",
            "5:16: validity.ca: `99999999999999999999y` is no",
        ),
        ("extraSans: {apiserver: [\"a b\"]}\n", "5:25: extraSans.apiserver[0]: `a b` is neither"),
        ("extraSans: {apiserver: a}\n", "5:24: extraSans.apiserver: is a text, not a list"),
        ("extraSans: {nothing: [a]}\n", "5:1: extraSans: `nothing` is no certificate's name"),
        (
            "overrides: {nothing: {}}\n",
            "5:13: overrides.nothing: `nothing` is no certificate's name",
        ),
        (
            "overrides: {admin.conf: {validity: 0s}}\n",
            "5:26: overrides.admin.conf.validity: 0s is not",
        ),
        ("addons: [nginx]\n", "5:1: addons: `nginx` is none of"),
        ("kubeconfigStyle: x\n", "5:18: kubeconfigStyle: is neither `files` nor `embedded`"),
        ("singleRoot: yes\n", "5:13: singleRoot: is neither `true` nor `false`"),
        ("hostDir: ../x\n", "5:1: hostDir: `../x` must be an absolute path"),
        ("etcd: []\n", "5:1: etcd: needs at least one host"),
        ("etcd: []\nexternalEtcd: {}\n", "6:15: externalEtcd: `etcd` and `externalEtcd` exclude"),
        ("externalEtcd: {}\n", "5:15: externalEtcd: needs at least one of `endpoints`"),
        ("externalEtcd: {endpoints: [a:1]}\n", "5:28: externalEtcd.endpoints[0]: `a:1` is no URL"),
        (
            "externalEtcd: {endpoints: [\"https://a:1\"], caFile: /a}\n",
            "`caFile`, `certFile` and `keyFile` go",
        ),
        (
            "name: a\nname: b\n",
            "certkit.yaml:6:1: cannot parse this\nline 6, column 1: `name` stands here a",
        ),
        ("validity:\n\tca: 1y\n", "certkit.yaml:6:2: cannot parse this\nline 6, column 2: tabs"),
        ("---\napiVersion: certkit/v1\nkind: Cluster\n", "6:1: kind: a second Cluster"),
        (
            "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n",
            "kubeadm's documents beside",
        ),
    ] {
        let said = said(&with(lines));
        if !said.contains(wanted) {
            missed.push(format!("{lines}: wanted\n{wanted}\nin\n{said}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn all_mistakes_are_said_at_once_in_the_order_of_the_file() {
    let said = said(&with("keyAlgorithm: dsa\nendpoint: ':'\nxyz: 1\n"));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains(":5:15: ") && lines[1].contains(":6:11: "), "{said}");
    assert!(lines[2].contains(":7:1: xyz"), "{said}");
    let many: String = (0..50).map(|i| format!("zzzzz{i}: 1\n")).collect();
    let said = self::said(&with(&many));
    assert!(said.contains("and 30 more"), "{said}");
}

#[test]
fn a_file_that_is_something_else_says_what_is_known() {
    for (text, wanted) in [
        ("", "certkit.yaml is empty"),
        ("# nothing\n---\n", "certkit.yaml is empty"),
        ("hello\n", "certkit.yaml:1:1: is a text, not a mapping"),
        ("- a\n", "1:1: is a list, not a mapping"),
        ("kind: Cluster\n", "1:1: apiVersion: is missing; certkit reads Cluster of certkit/v1"),
        ("apiVersion: certkit/v1\n", "1:1: kind: is missing"),
        (
            "apiVersion: certkit/v2\nkind: Cluster\n",
            "1:13: apiVersion: `certkit/v2` is not known; certkit",
        ),
        ("apiVersion: certkit/v1\nkind: Clutser\n", "2:7: kind: `Clutser` is not known"),
        (
            "apiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterConfiguration\n",
            "`kubeadm.k8s.io/v1beta2` is not known; certkit reads",
        ),
        ("apiVersion: v1\nkind: Config\n", "1:1: kind: nothing here describes a cluster"),
        (
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n",
            "nothing here describes a cluster",
        ),
        ("a: [\n", "cannot parse this"),
        ("a: *b\n", "cannot parse this"),
    ] {
        let said = said(text);
        assert!(said.contains(wanted), "{text}: wanted\n{wanted}\nin\n{said}");
    }
    let error = read(b"a: 1\nb: \xff\n", "f").unwrap_err();
    assert_eq!(error.to_string(), "f:2: this is not UTF-8");
    let huge = vec![b'#'; LIMIT as usize + 1];
    assert_eq!(read(&huge, "f").unwrap_err().to_string(), "f is larger than 4 MiB");
}

#[test]
fn an_alias_bomb_ends_soon() {
    let mut text = with("name: x\nextraSans:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("  a{i}: &a{i} [{list}]\n"));
    }
    assert!(said(&text).contains("aliases counted"));
}

#[test]
fn a_file_as_large_as_can_be_is_read_soon() {
    let mut text = with("nodes:\n");
    for i in 0..40_000 {
        let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + i);
        text.push_str(&format!("  - {{name: worker-{i}, addresses: [{address}]}}\n"));
    }
    let cluster = read(text.as_bytes(), "f").unwrap().complete("f").unwrap();
    assert_eq!(cluster.hosts.len(), 40_001);
}
