//! The real kubeadm on a machine of its own, beside certkit.

use std::{fs, path::PathBuf, process::Command};

use super::{certkit, machine::Machine, run, stdout};

/// Every `encryptionAlgorithm` that kubeadm 1.36 offers.
pub const ALGORITHMS: [&str; 5] = ["RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"];

/// The phases of `kubeadm init` that write files.
pub const PHASES: &[&[&str]] =
    &[&["certs", "all"], &["kubeconfig", "all"], &["control-plane", "all"], &["etcd", "local"]];

/// The names of the machine's network.
pub const NAMES: &[(&str, &str)] = &[
    ("cp1", "10.0.0.11"),
    ("cp2", "10.0.0.12"),
    ("node1", "10.0.0.13"),
    ("api.prod.example.com", "10.0.0.11"),
];

/// Where etcd runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Etcd {
    /// On the host, with certificates of kubeadm's.
    Stacked,
    /// Elsewhere: here are only its CA's certificate and a client's, as kubeadm's documentation has it.
    External,
}

/// The machine with kubeadm's configuration in it.
pub struct Kubeadm {
    /// The machine.
    pub machine: Machine,
    program: PathBuf,
    etcd: Etcd,
}

impl Kubeadm {
    /// A machine on which nothing is yet but the configuration; `None` after reporting the running test as
    /// skipped.
    #[track_caller]
    pub fn boot(algorithm: &str, etcd: Etcd) -> Option<Self> {
        let program = super::kubernetes::program("kubeadm")?;
        let machine = Machine::boot(NAMES)?;
        let made = Self { machine, program, etcd };
        let local = "local: {serverCertSANs: [etcd-1.prod.example.com], \
                     peerCertSANs: [etcd-1.prod.example.com]}";
        let external = "external:\n    endpoints: [\"https://10.0.0.21:2379\"]\n    \
                        caFile: /etc/kubernetes/pki/etcd/ca.crt\n    \
                        certFile: /etc/kubernetes/pki/apiserver-etcd-client.crt\n    \
                        keyFile: /etc/kubernetes/pki/apiserver-etcd-client.key";
        let where_etcd_is = if etcd == Etcd::Stacked { local } else { external };
        made.write(
            "kubeadm.yaml",
            &made.configuration(algorithm, where_etcd_is, "/etc/kubernetes/pki"),
        );
        // What the host of an etcd elsewhere is set up from.
        made.write("etcd.yaml", &made.configuration(algorithm, local, "/etc/etcd-host/pki"));
        Some(made)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.machine.kubernetes().join("..").join(name), content).expect("configuration");
    }

    fn configuration(&self, algorithm: &str, etcd: &str, certificates: &str) -> String {
        let version = stdout(Command::new(&self.program).args(["version", "-o", "short"]));
        format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\n\
             kind: InitConfiguration\n\
             localAPIEndpoint: {{advertiseAddress: 10.0.0.11, bindPort: 6443}}\n\
             nodeRegistration: {{name: cp1, criSocket: \"unix:///run/none.sock\"}}\n\
             ---\n\
             apiVersion: kubeadm.k8s.io/v1beta4\n\
             kind: ClusterConfiguration\n\
             kubernetesVersion: {version}\
             clusterName: prod\n\
             controlPlaneEndpoint: api.prod.example.com:6443\n\
             certificatesDir: {certificates}\n\
             networking: {{serviceSubnet: 10.96.0.0/12, dnsDomain: cluster.local}}\n\
             apiServer: {{certSANs: [api-internal.prod.example.com, 10.0.0.100]}}\n\
             etcd:\n  {etcd}\n\
             encryptionAlgorithm: {algorithm}\n"
        )
    }

    /// `kubeadm ARGUMENTS` on the machine, with the configuration.
    pub fn kubeadm(&self, arguments: &[&str]) -> Command {
        let mut command = self.kubeadm_alone(arguments);
        command.args(["--config", "/etc/kubeadm.yaml"]);
        command
    }

    /// `kubeadm ARGUMENTS` on the machine, as it runs where no configuration is to be had.
    pub fn kubeadm_alone(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.machine.enter(&command)
    }

    /// `certkit ARGUMENTS` on the machine, on its `/etc/kubernetes`.
    pub fn certkit(&self, arguments: &[&str]) -> Command {
        let mut command = certkit();
        command.args(arguments);
        self.machine.enter(&command)
    }

    /// Runs these phases of `kubeadm init`; before them, what an etcd elsewhere brings along.
    #[track_caller]
    pub fn init(&self, phases: &[&[&str]]) {
        if self.etcd == Etcd::External {
            for phase in ["etcd-ca", "etcd-server", "apiserver-etcd-client"] {
                let mut command = self.kubeadm_alone(&["init", "phase", "certs", phase]);
                run(command.args(["--config", "/etc/etcd.yaml"]));
            }
            let (from, to) = (
                self.machine.kubernetes().join("../etcd-host/pki"),
                self.machine.kubernetes().join("pki"),
            );
            fs::create_dir_all(to.join("etcd")).expect("folder");
            for file in ["etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"] {
                fs::copy(from.join(file), to.join(file)).expect("copied");
            }
        }
        for phase in phases {
            if self.etcd == Etcd::External && *phase == ["etcd", "local"] {
                continue;
            }
            run(&mut self.kubeadm(&[&["init", "phase"], *phase].concat()));
        }
    }
}
