//! Where the components listen, and which certificate each listener serves.

use super::{CertId, Listener};

const PORTS: &str = "Kubernetes 1.36, pkg/cluster/ports/ports.go";
const ETCD: &str = "etcd 3.6, server/embed/config.go";
const KONNECTIVITY: &str = "https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/";

/// Where etcd serves clients.
pub const ETCD_CLIENTS: Listener = Listener {
    component: "etcd",
    port: 2379,
    certificate: CertId("etcd-server"),
    loopback: true,
    port_setting: "listen-client-urls",
    address_setting: None,
    source: ETCD,
};

/// Where the apiserver serves, unless a host's declaration says otherwise.
pub const API: Listener = Listener {
    component: "kube-apiserver",
    port: 6443,
    certificate: CertId("apiserver"),
    loopback: true,
    port_setting: "secure-port",
    address_setting: Some("bind-address"),
    source: PORTS,
};

/// Where etcd serves other members: kubeadm lets it listen on the host's address only.
pub const ETCD_PEERS: Listener = Listener {
    component: "etcd",
    port: 2380,
    certificate: CertId("etcd-peer"),
    loopback: false,
    port_setting: "listen-peer-urls",
    address_setting: None,
    source: ETCD,
};

/// All that speak TLS, in the order of the components.
pub static LISTENERS: &[Listener] = &[
    ETCD_CLIENTS,
    ETCD_PEERS,
    API,
    Listener {
        component: "kube-controller-manager",
        port: 10257,
        certificate: CertId("controller-manager"),
        loopback: true,
        port_setting: "secure-port",
        address_setting: Some("bind-address"),
        source: PORTS,
    },
    Listener {
        component: "kube-scheduler",
        port: 10259,
        certificate: CertId("scheduler"),
        loopback: true,
        port_setting: "secure-port",
        address_setting: Some("bind-address"),
        source: PORTS,
    },
    Listener {
        component: "kubelet",
        port: 10250,
        certificate: CertId("kubelet"),
        loopback: true,
        port_setting: "port",
        address_setting: Some("address"),
        source: PORTS,
    },
    Listener {
        component: "konnectivity-server",
        port: 8131,
        certificate: CertId("konnectivity-server"),
        loopback: true,
        port_setting: "server-port",
        address_setting: Some("server-bind-address"),
        source: KONNECTIVITY,
    },
    Listener {
        component: "konnectivity-server",
        port: 8132,
        certificate: CertId("konnectivity-agent-server"),
        loopback: true,
        port_setting: "agent-port",
        address_setting: Some("agent-bind-address"),
        source: KONNECTIVITY,
    },
    Listener {
        component: "certkit-controller",
        port: 10261,
        certificate: CertId("certkit-controller"),
        loopback: true,
        port_setting: "listen",
        address_setting: None,
        source: "templates/deploy/controller.yaml",
    },
];
