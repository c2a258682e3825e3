//! The deployment templates: what they are called and what they are for.

/// A template that people deploy certkit with.
#[derive(Debug)]
pub struct Deployment {
    /// Its name on the command line.
    pub name: &'static str,
    /// The template's path below `templates/`.
    pub template: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
}

/// All of them.
pub static DEPLOYMENTS: &[Deployment] = &[
    Deployment {
        name: "systemd-service",
        template: "deploy/systemd-service.service",
        about: "systemd unit that checks expiry and leaves the result for node_exporter",
    },
    Deployment {
        name: "systemd-timer",
        template: "deploy/systemd-timer.timer",
        about: "timer of that unit: once a day",
    },
    Deployment {
        name: "systemd-rotate-service",
        template: "deploy/systemd-rotate-service.service",
        about: "systemd unit that renews what has a third of its life left, and restarts what needs it",
    },
    Deployment {
        name: "systemd-rotate-timer",
        template: "deploy/systemd-rotate-timer.timer",
        about: "timer of that unit: once a day",
    },
    Deployment {
        name: "cron",
        template: "deploy/cron.cron",
        about: "file for /etc/cron.d that checks expiry once a day",
    },
    Deployment {
        name: "cron-rotate",
        template: "deploy/cron-rotate.cron",
        about: "file for /etc/cron.d that renews once a day what is due, and restarts what needs it",
    },
    Deployment {
        name: "cronjob",
        template: "deploy/cronjob.yaml",
        about: "Kubernetes CronJob that checks one control-plane node a run",
    },
    Deployment {
        name: "daemonset",
        template: "deploy/daemonset.yaml",
        about: "Kubernetes DaemonSet that checks every node and leaves the result for node_exporter",
    },
    Deployment {
        name: "ansible",
        template: "deploy/ansible.yaml",
        about: "Ansible playbook that carries each host's tree to it and restarts what needs it",
    },
    Deployment {
        name: "prometheus-rules",
        template: "deploy/prometheus-rules.yaml",
        about: "Prometheus alert rules over the check's metrics",
    },
    Deployment {
        name: "grafana-dashboard",
        template: "deploy/grafana-dashboard.json",
        about: "Grafana dashboard over the check's metrics",
    },
    Deployment {
        name: "controller",
        template: "deploy/controller.yaml",
        about: "Kubernetes Deployment of `certkit controller`, and the roles that it needs",
    },
    Deployment {
        name: "controller-static-pod",
        template: "deploy/controller-static-pod.yaml",
        about: "static pod of `certkit controller` for hosts of the control plane",
    },
    Deployment {
        name: "controller-trust",
        template: "deploy/controller-trust.yaml",
        about: "roles that `certkit controller --publish-trust` needs besides",
    },
    Deployment {
        name: "controller-watch",
        template: "deploy/controller-watch.yaml",
        about: "roles that `certkit controller --watch objects,kubelets` needs besides",
    },
    Deployment {
        name: "controller-watch-pods",
        template: "deploy/controller-watch-pods.yaml",
        about: "the role that `certkit controller --watch objects,pods` needs besides: to list pods",
    },
    Deployment {
        name: "controller-watch-secrets",
        template: "deploy/controller-watch-secrets.yaml",
        about: "the role that `certkit controller --watch secrets` needs: to read every Secret",
    },
    Deployment {
        name: "controller-service",
        template: "deploy/controller-service.service",
        about: "systemd unit of `certkit controller` for hosts of the control plane",
    },
    Deployment {
        name: "controller-signing",
        template: "deploy/controller-signing.yaml",
        about: "roles that `certkit controller --sign` needs besides",
    },
    Deployment {
        name: "rbac",
        template: "deploy/rbac.yaml",
        about: "role bindings that certkit's identities need, applied once after bootstrap",
    },
];
