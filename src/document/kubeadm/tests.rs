use crate::{
    document::{Draft, read},
    model::cluster::Etcd,
};

fn draft(text: &str) -> Draft {
    read(text.as_bytes(), "kubeadm.yaml").unwrap_or_else(|error| panic!("{error}"))
}

fn said(text: &str) -> String {
    let result = read(text.as_bytes(), "f").and_then(|draft| draft.complete("f"));
    result.map(|cluster| panic!("accepted: {cluster:?}")).unwrap_err().to_string()
}

const ECDSA: &str = include_str!("../../../tests/fixtures/kubeadm-yaml/ecdsa-p256/kubeadm.yaml");
const RSA: &str = include_str!("../../../tests/fixtures/kubeadm-yaml/rsa-2048/kubeadm.yaml");

#[test]
fn kubeadms_own_files_become_clusters() {
    for (text, algorithm) in [(ECDSA, "ecdsa-p256"), (RSA, "rsa-2048")] {
        let cluster = draft(text).complete("f").unwrap();
        assert_eq!(cluster.name, "prod");
        assert_eq!(cluster.endpoint.to_string(), "api.prod.example.com:6443");
        assert_eq!(cluster.key_algorithm.to_string(), algorithm);
        assert_eq!(cluster.hosts[0].name.as_ref(), "cp1");
        assert_eq!(cluster.hosts[0].addresses, ["10.0.0.11".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!((cluster.etcd, cluster.host_dir), (Etcd::Stacked, None));
        let sans = |id: &str| cluster.extra_sans[id].iter().map(ToString::to_string).collect();
        let apiserver: Vec<String> = sans("apiserver");
        assert_eq!(apiserver, ["DNS:api-internal.prod.example.com", "IP:10.0.0.100"]);
        let etcd: Vec<String> = sans("etcd-peer");
        assert_eq!(etcd, ["DNS:etcd-1.prod.example.com"]);
        assert_eq!(cluster.extra_sans["etcd-server"], cluster.extra_sans["etcd-peer"]);
    }
}

#[test]
fn the_order_of_documents_and_those_of_others_do_not_matter() {
    let (init, cluster) = ECDSA.split_once("---\n").unwrap();
    let others = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                  rotateCertificates: true\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: \
                  JoinConfiguration\n---\n";
    let mut turned = draft(&format!("{others}{cluster}---\n{init}---\n"));
    let mut straight = draft(ECDSA);
    turned.places.clear();
    straight.places.clear();
    assert_eq!(turned, straight);
}

#[test]
fn either_document_alone_is_enough() {
    let (init, cluster) = ECDSA.split_once("---\n").unwrap();
    let alone = draft(init);
    assert_eq!(alone.endpoint.as_ref().unwrap().to_string(), "10.0.0.11:6443");
    assert_eq!(alone.complete("f").unwrap().name, "kubernetes");
    let alone = draft(cluster);
    assert!(alone.control_plane.is_empty() && alone.name.as_deref() == Some("prod"));
}

#[test]
fn every_field_that_concerns_the_pki_is_honoured() {
    let draft = draft(
        "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.0.0.11, bindPort: 7443}
nodeRegistration:
  name: CP1
  kubeletExtraArgs:
  - {name: v, value: '2'}
  - {name: node-ip, value: '10.0.0.11,fd00::b'}
  unknownToUs: [1, 2]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: ''
controlPlaneEndpoint: api.example.com
certificatesDir: /var/lib/k8s/pki/
networking: {serviceSubnet: '10.96.0.0/16,fd00:1::/108', dnsDomain: corp.local, podSubnet: x}
certificateValidityPeriod: 2160h0m0s
caCertificateValidityPeriod: 43800h
etcd:
  external:
    endpoints: ['https://10.0.0.21:2379']
    httpEndpoints: []
    caFile: /etc/ca.crt
    certFile: /etc/client.crt
    keyFile: /etc/client.key
",
    );
    let cluster = draft.complete("f").unwrap();
    assert_eq!(cluster.name, "kubernetes");
    assert_eq!(cluster.endpoint.to_string(), "api.example.com:7443");
    assert_eq!(cluster.host_dir.as_deref(), Some("/var/lib/k8s"));
    let subnets: Vec<_> = cluster.service_subnets.iter().map(ToString::to_string).collect();
    assert_eq!(subnets, ["10.96.0.0/16", "fd00:1::/108"]);
    assert_eq!(cluster.dns_domain, "corp.local");
    assert_eq!(cluster.validity.leaf.to_string(), "90d");
    assert_eq!(cluster.validity.ca.to_string(), "5y");
    assert_eq!(cluster.hosts[0].name.as_ref(), "cp1");
    assert_eq!(cluster.hosts[0].addresses.len(), 2);
    assert!(!cluster.hosts[0].etcd);
    let Etcd::External { endpoints, files: Some(files) } = &cluster.etcd else { panic!() };
    assert_eq!(endpoints, &["https://10.0.0.21:2379"]);
    assert_eq!(files.key, "/etc/client.key");
}

#[test]
fn older_arguments_are_a_mapping() {
    let draft = draft(
        "apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\nlocalAPIEndpoint:\n  \
         advertiseAddress: 0.0.0.0\nnodeRegistration:\n  kubeletExtraArgs: {node-ip: 10.0.0.7}\n",
    );
    assert_eq!(draft.control_plane[0].addresses, ["10.0.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(draft.control_plane[0].name, None);
}

#[test]
fn mistakes_name_line_and_kubeadms_field() {
    let head = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n";
    for (lines, wanted) in [
        (
            "networking:\n  serviceSubnet: 10.96.0.0/99\n",
            "f:4:18: networking.serviceSubnet: `10.96.0.0/99`",
        ),
        ("networking: x\n", "f:3:13: networking: is a text, not a mapping"),
        ("certificatesDir: /etc/certs\n", "f:3:18: certificatesDir: must be an absolute path that"),
        ("certificatesDir: pki\n", "f:3:18: certificatesDir: must be"),
        ("encryptionAlgorithm: RSA-1024\n", "f:3:22: encryptionAlgorithm: `RSA-1024` is no key"),
        ("apiServer: {certSANs: [a, 'b c']}\n", "f:3:27: apiServer.certSANs[1]: `b c` is neither"),
        ("apiServer: {certSANs: a}\n", "f:3:23: apiServer.certSANs: is a text, not a list"),
        (
            "etcd: {external: {endpoints: [x]}}\n",
            "f:3:31: etcd.external.endpoints[0]: `x` is no URL",
        ),
        ("controlPlaneEndpoint: a:b\n", "f:3:23: controlPlaneEndpoint: `a:b` is no endpoint"),
        (
            "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n",
            "f:4:1: kind: stands",
        ),
        ("clusterName: x\n", "f: controlPlane: needs at least one host"),
    ] {
        let said = said(&format!("{head}{lines}"));
        assert!(said.contains(wanted), "{lines}: wanted\n{wanted}\nin\n{said}");
    }
    let init = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nnodeRegistration:\n  name: a_b\n";
    assert!(said(init).contains("f:4:9: nodeRegistration.name: `a_b` is no host name"));
    let clash =
        format!("{ECDSA}---\napiVersion: x/v1\nkind: Y\n").replace("10.96.0.0/12", "10.0.0.0/8");
    assert!(
        said(&clash).contains("f:16:18: serviceSubnet: 10.0.0.0/8 overlaps"),
        "{}",
        said(&clash)
    );
}
