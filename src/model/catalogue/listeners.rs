//! Where the components listen, and which certificate each listener serves.

use super::Listener;

const PORTS: &str = "Kubernetes 1.36, pkg/cluster/ports/ports.go";
const ETCD: &str = "etcd 3.6, server/embed/config.go";
const KONNECTIVITY: &str = "https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/";

/// All that speak TLS, in the order of the components.
pub static LISTENERS: &[Listener] = &[
    Listener {
        component: "etcd",
        port: 2379,
        certificate: "etcd-server",
        loopback: true,
        source: ETCD,
    },
    // kubeadm lets etcd's peers listen on the host's address only.
    Listener {
        component: "etcd",
        port: 2380,
        certificate: "etcd-peer",
        loopback: false,
        source: ETCD,
    },
    Listener {
        component: "kube-apiserver",
        port: 6443,
        certificate: "apiserver",
        loopback: true,
        source: PORTS,
    },
    Listener {
        component: "kube-controller-manager",
        port: 10257,
        certificate: "controller-manager",
        loopback: true,
        source: PORTS,
    },
    Listener {
        component: "kube-scheduler",
        port: 10259,
        certificate: "scheduler",
        loopback: true,
        source: PORTS,
    },
    Listener {
        component: "kubelet",
        port: 10250,
        certificate: "kubelet",
        loopback: true,
        source: PORTS,
    },
    Listener {
        component: "konnectivity-server",
        port: 8131,
        certificate: "konnectivity-server",
        loopback: true,
        source: KONNECTIVITY,
    },
    Listener {
        component: "konnectivity-server",
        port: 8132,
        certificate: "konnectivity-agent-server",
        loopback: true,
        source: KONNECTIVITY,
    },
];
