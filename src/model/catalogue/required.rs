//! What a control plane cannot be without, where no declaration says what there is.

/// The certificates that kubeadm reports as missing when they are (1.36,
/// cmd/kubeadm/app/phases/certs/renewal/manager.go), and the CAs they come from. Not `super-admin.conf`: only
/// the first control-plane host has it, and it may be locked away.
pub static REQUIRED: &[&str] = &[
    "ca",
    "apiserver",
    "apiserver-kubelet-client",
    "front-proxy-ca",
    "front-proxy-client",
    "etcd-ca",
    "etcd-server",
    "etcd-peer",
    "etcd-healthcheck-client",
    "apiserver-etcd-client",
    "admin.conf",
    "controller-manager.conf",
    "scheduler.conf",
];

/// Declared, but right to be kept elsewhere: credentials to be locked away.
pub static MAY_BE_AWAY: &[&str] = &["super-admin.conf"];
