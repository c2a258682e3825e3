//! The programs that use the PKI.

use super::{ComponentSpec, Condition, Config, Scope};

/// All of them, in the order in which they are started.
pub static COMPONENTS: &[ComponentSpec] = &[
    ComponentSpec {
        id: "etcd",
        scope: Scope::Etcd,
        present: Condition::ManagedEtcd,
        config: Some(Config { api_version: "", kind: "" }),
        unit: Some("etcd.service"),
        static_pod: true,
    },
    ComponentSpec {
        id: "kube-apiserver",
        scope: Scope::ControlPlane,
        present: Condition::Always,
        config: None,
        unit: Some("kube-apiserver.service"),
        static_pod: true,
    },
    ComponentSpec {
        id: "kube-controller-manager",
        scope: Scope::ControlPlane,
        present: Condition::Always,
        config: None,
        unit: Some("kube-controller-manager.service"),
        static_pod: true,
    },
    ComponentSpec {
        id: "kube-scheduler",
        scope: Scope::ControlPlane,
        present: Condition::Always,
        config: Some(Config {
            api_version: "kubescheduler.config.k8s.io/v1",
            kind: "KubeSchedulerConfiguration",
        }),
        unit: Some("kube-scheduler.service"),
        static_pod: true,
    },
    ComponentSpec {
        id: "kubelet",
        scope: Scope::Node,
        present: Condition::Always,
        config: Some(Config {
            api_version: "kubelet.config.k8s.io/v1beta1",
            kind: "KubeletConfiguration",
        }),
        unit: Some("kubelet.service"),
        static_pod: false,
    },
    ComponentSpec {
        id: "kube-proxy",
        scope: Scope::Node,
        present: Condition::Addon("kube-proxy"),
        config: Some(Config {
            api_version: "kubeproxy.config.k8s.io/v1alpha1",
            kind: "KubeProxyConfiguration",
        }),
        unit: Some("kube-proxy.service"),
        static_pod: false,
    },
    ComponentSpec {
        id: "konnectivity-server",
        scope: Scope::ControlPlane,
        present: Condition::Addon("konnectivity"),
        config: None,
        unit: Some("konnectivity-server.service"),
        static_pod: true,
    },
    ComponentSpec {
        id: "konnectivity-agent",
        scope: Scope::Node,
        present: Condition::Addon("konnectivity"),
        config: None,
        unit: Some("konnectivity-agent.service"),
        static_pod: false,
    },
    // The egress selector's file is read by the apiserver, but it is a file of its own with a kind of its
    // own, so it is a row of its own.
    ComponentSpec {
        id: "egress-selector",
        scope: Scope::ControlPlane,
        present: Condition::Addon("konnectivity"),
        config: Some(Config {
            api_version: "apiserver.k8s.io/v1beta1",
            kind: "EgressSelectorConfiguration",
        }),
        unit: None,
        static_pod: false,
    },
    ComponentSpec {
        id: "istiod",
        scope: Scope::Cluster,
        present: Condition::Addon("istio"),
        config: None,
        unit: None,
        static_pod: false,
    },
    ComponentSpec {
        id: "etcdctl",
        scope: Scope::Etcd,
        present: Condition::ManagedEtcd,
        config: None,
        unit: None,
        static_pod: false,
    },
    ComponentSpec {
        id: "kubectl",
        scope: Scope::Cluster,
        present: Condition::Always,
        config: None,
        unit: None,
        static_pod: false,
    },
];
