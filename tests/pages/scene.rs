//! Where a page's commands are run: a machine of its own, with `/etc`, `/var`, `/srv`, `/media` and `/usr/local` that hold what the
//! page takes for granted, and a shell that goes on from one command to the next.
//!
//! What only other machines or a running cluster can do is done by the programs in `stand-ins`: `ssh` goes to another
//! folder of the same machine, `systemctl` starts nothing, `kubectl` reads what it is given with the real one and answers
//! for the API. That the real ones do it too is shown by the tests that `docs/proven.md` lists.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::support::{certkit, machine::Machine, need};

/// A page and what has to be so before some of its commands.
pub struct Scene {
    pub page: &'static str,
    /// What is there before the first command: a script, with the functions of `before.sh`.
    pub first: &'static str,
    /// A script before the first command that begins like this; or that is this, where it ends with `$`.
    pub before: &'static [(&'static str, &'static str)],
    /// Commands that begin like this end with another exit code than 0, as the page says.
    pub ends: &'static [(&'static str, i32)],
    /// Commands that begin like this are run elsewhere, and where.
    pub elsewhere: &'static [(&'static str, &'static str)],
}

/// Names and addresses that the pages speak of; all are this machine's.
const NAMES: &[(&str, &str)] = &[
    ("cp1", "10.0.0.11"),
    ("cp2", "10.0.0.12"),
    ("cp3", "10.0.0.13"),
    ("etcd1", "10.0.0.21"),
    ("w1", "10.0.1.1"),
    ("w2", "10.0.1.2"),
    ("api.prod.example.com", "10.0.0.11"),
    ("api.example.com", "10.0.0.11"),
];

/// Whether the last column of a page's tables has commands that are to be run.
pub fn has_tables_of_commands(page: &str) -> bool {
    page == "docs/coming-from.md"
}

pub const SCENES: &[Scene] = &[
    Scene {
        page: "README.md",
        first: "cd ~",
        before: &[
            ("certkit recover", "expired"),
            ("certkit show api.example.com", "serve 10.0.0.11:6443 apiserver"),
            ("certkit init --workspace", "export CERTKIT_DIR=~/workspace"),
            ("certkit deploy", "well"),
        ],
        ends: &[],
        elsewhere: &[
            ("make try", "builds, then the two commands above"),
            ("make test", "this test is part of it"),
            ("make install", "`make dist` and its trial install the same files"),
        ],
    },
    Scene {
        page: "docs/air-gap.md",
        first: "one_host; cd ~; cp \"$(command -v certkit)\" certkit-0.2.0-x86_64-linux; sha256sum certkit-* >SHA256SUMS; \
                mkdir -p /etc/bash_completion.d",
        before: &[(
            "certkit export cp1",
            "certkit --dir ~/prod init -q --workspace --host cp1=10.0.0.11",
        )],
        ends: &[],
        elsewhere: &[],
    },
    Scene {
        page: "docs/certkit-yaml.md",
        first: "export CERTKIT_DIR=/srv/pki; certkit init -q --workspace --host cp1=10.0.0.11",
        before: &[],
        ends: &[],
        elsewhere: &[],
    },
    Scene {
        page: "docs/coming-from.md",
        first: "kubeadm_host",
        before: &[
            ("certkit recover", "expired"),
            ("certkit --dir new init", "easyrsa_tree; cfssl_tree"),
            ("certkit check-expiration -r pki", "cd ~/easyrsa"),
            ("certkit show 127.0.0.1:6443", "serve 127.0.0.1:6443 apiserver"),
            ("certkit init$", "one_host"),
            ("certkit show apiserver.crt", "step_tree"),
            ("certkit rotate --within", "one_host"),
            (
                "certkit init --single-root",
                "export CERTKIT_DIR=$PWD/encrypted CERTKIT_CA_KEY_PASSWORD=secret",
            ),
            (
                "certkit check-expiration -r /var/lib/rancher",
                "unset CERTKIT_DIR CERTKIT_CA_KEY_PASSWORD; k3s_tree",
            ),
            ("certkit check-expiration --connect", "serve 127.0.0.1:6443 apiserver"),
        ],
        ends: &[],
        elsewhere: &[],
    },
    Scene {
        page: "docs/expired.md",
        first: "kubeadm_host; expired",
        before: &[],
        ends: &[("certkit check-expiration      #", 2)],
        elsewhere: &[],
    },
    Scene {
        page: "docs/external-ca.md",
        first: "cd ~; company_ca",
        before: &[
            ("certkit rotate     ", "rm -rf /etc/kubernetes/csr signed/*; clock +350d"),
            ("certkit --dir /srv/prod init", "mkdir -p /media/vault"),
        ],
        ends: &[("certkit rotate     ", 1)],
        elsewhere: &[],
    },
    Scene {
        page: "docs/flags.md",
        first: "one_host",
        before: &[("certkit flags --host cp2", "export CERTKIT_DIR=/srv/pki; workspace")],
        ends: &[],
        elsewhere: &[],
    },
    Scene {
        page: "docs/installing.md",
        first: "",
        before: &[],
        ends: &[],
        elsewhere: &[
            ("dpkg -i", "the trial of `make package`"),
            ("systemctl list-timers", "the trial of `make package`"),
        ],
    },
    Scene {
        page: "docs/kubeadm-cluster.md",
        first: "kubeadm_host",
        before: &[],
        ends: &[("certkit verify", 1)],
        elsewhere: &[],
    },
    Scene {
        page: "docs/kubelet-serving.md",
        first: "one_host",
        before: &[
            ("sed -i", "kubeadm_host; certkit init -q --adopt"),
            ("certkit check-expiration --connect", "serve 10.0.0.11:10250 kubelet"),
        ],
        ends: &[],
        elsewhere: &[],
    },
    Scene {
        page: "docs/many-hosts.md",
        first: "export CERTKIT_DIR=/srv/pki; workspace",
        before: &[
            ("certkit deploy --restart", "well"),
            ("certkit init", "echo 'keys: host' >>/srv/pki/certkit.yaml"),
            (
                "certkit export cp1 | ssh",
                "sed -i '/^keys:/d' /srv/pki/certkit.yaml; certkit -q init; mkdir -p /srv/archives",
            ),
            ("certkit fleet check", "clusters"),
        ],
        ends: &[("certkit deploy --check", 1), ("certkit fleet check", 3)],
        elsewhere: &[],
    },
    Scene { page: "docs/new-cluster.md", first: "", before: &[], ends: &[], elsewhere: &[] },
    Scene { page: "docs/output.md", first: "one_host", before: &[], ends: &[], elsewhere: &[] },
    Scene {
        page: "docs/people.md",
        first: "one_host; cd ~; mkdir .kube; cp /etc/kubernetes/admin.conf .kube/config; serve 10.0.0.11:6443 apiserver",
        before: &[],
        ends: &[],
        elsewhere: &[],
    },
    Scene {
        page: "docs/replacing-a-ca.md",
        first: "one_host; audit_log",
        before: &[
            (
                "certkit rotate-ca ca --next --connect",
                "serve 10.0.0.11:6443 apiserver; serve 10.0.0.12:6443 apiserver",
            ),
            (
                "certkit rotate-ca ca --next --connect 10.0.0.11:6443 --audit-log",
                "serve 10.0.0.11:6443 apiserver",
            ),
            (
                "ssh w1 sudo openssl",
                "one_host; certkit -q rotate-ca ca --next; certkit -q rotate-ca ca --next; node_certificate w1",
            ),
            ("certkit rotate-ca ca --next --cross-sign", "one_host"),
            (
                "kubectl create secret",
                "rm -r /etc/kubernetes; certkit init -q --host cp1=10.0.0.11 --addon istio",
            ),
            ("certkit rotate-ca ca --kubeconfig", "one_host"),
            (
                "certkit rotate-ca --next --restart static-pods --dry-run",
                "kubeadm_host; certkit -q init --adopt",
            ),
            ("certkit rotate-ca ca --renew-same-key", "one_host"),
            ("certkit rotate-ca ca --next --compromised ", "one_host"),
        ],
        ends: &[],
        elsewhere: &[],
    },
    Scene {
        page: "docs/rotating.md",
        first: "one_host",
        before: &[
            (
                "certkit rotate --rollback  ",
                "clock '@2027-11-21 17:11:00'; for _ in 1 2 3; do certkit rotate -q --all; done",
            ),
            ("certkit rotate --rollback --to", "certkit rotate -q --all"),
            ("openssl pkcs8", "printf secret >/run/ca-password"),
            (
                "certkit init --single-root",
                "export CERTKIT_DIR=~/encrypted CERTKIT_CA_KEY_PASSWORD=secret",
            ),
            (
                "cd /var/lib/rancher",
                "unset CERTKIT_DIR CERTKIT_CA_KEY_PASSWORD LD_PRELOAD FAKETIME; k3s_tree",
            ),
            ("certkit rotate /etc/ssl/etcd", "kubespray_etcd"),
            ("certkit rotate admin.pem", "cfssl_tree"),
        ],
        ends: &[],
        elsewhere: &[],
    },
    Scene {
        page: "docs/talking.md",
        first: "one_host; cp -r \"$FIXTURES\"/kubeadm-1.36/manifests /etc/kubernetes",
        before: &[],
        ends: &[("certkit verify --flags", 1)],
        elsewhere: &[],
    },
    Scene {
        page: "docs/watching-expiry.md",
        first: "one_host; k3s_tree; mkdir -p /etc/ssl/private ~/.kube; cp /etc/kubernetes/pki/apiserver.crt /etc/ssl/private; \
                cp /etc/kubernetes/admin.conf ~/.kube/config",
        before: &[("certkit check-expiration --connect", "serve_all")],
        ends: &[],
        elsewhere: &[],
    },
];

/// A scene that is set.
pub struct Stage {
    scene: &'static Scene,
    machine: Machine,
    used: BTreeSet<&'static str>,
}

impl Scene {
    /// The machine as the page's reader has it; `None` where a test cannot have one, which is then reported.
    pub fn set(&'static self) -> Option<Stage> {
        for program in ["openssl", "kubectl", "jq", "age"] {
            need(program)?;
        }
        let machine = Machine::boot(NAMES)?;
        for folder in [
            "home",
            "srv",
            "media",
            "run",
            "local/bin",
            "local/share/man/man1",
            "hosts",
            "etc/systemd/system",
        ] {
            fs::create_dir_all(machine.folder().join(folder)).expect("a folder");
        }
        // What programs other than certkit cannot do without.
        fs::create_dir_all(machine.folder().join("etc/ssl")).expect("a folder");
        fs::copy("/etc/ssl/openssl.cnf", machine.folder().join("etc/ssl/openssl.cnf"))
            .expect("openssl");
        let mut links = Command::new("cp");
        links.args(["-a", "/etc/alternatives"]).arg(machine.folder().join("etc"));
        super::support::run(&mut links);
        let stage = Stage { scene: self, machine, used: BTreeSet::new() };
        let mounts = "for name in srv media run local; do case $name in local) to=/usr/local;; *) to=/$name;; esac; \
                      mount --bind \"$STAGE/$name\" $to; done; ip route add default dev lo src 10.0.0.11; cd ~; pwd >\"$STAGE/cwd\"; export -p >\"$STAGE/env\"";
        let mut command = Command::new("bash");
        command.args(["-ec", mounts]);
        super::support::run(&mut stage.machine.enter(&stage.with_surroundings(command)));
        stage.script(self.first).unwrap_or_else(|said| panic!("{}: {said}", self.page));
        Some(stage)
    }
}

impl Stage {
    fn with_surroundings(&self, mut command: Command) -> Command {
        let program = certkit().get_program().to_owned();
        let bin = Path::new(&program).parent().expect("a folder");
        let stand_ins = fixtures().join("../pages/stand-ins");
        let path =
            format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", stand_ins.display(), bin.display());
        command.env("PATH", path).env("STAGE", self.machine.folder());
        command.env("HOME", self.machine.folder().join("home")).env("LC_ALL", "C").env("TZ", "UTC");
        command.env("FIXTURES", fixtures()).env("NO_COLOR", "1");
        for name in ["CERTKIT_DIR", "CERTKIT_MACHINE", "COLUMNS"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it in the shell that the page's reader sits at.
    fn shell(&self, typed: &str) -> (i32, String) {
        let goes_on = ". \"$FIXTURES/../pages/before.sh\"; . \"$STAGE/env\"; cd \"$(cat \"$STAGE/cwd\")\"; \
                       set -o pipefail; eval \"$1\"; code=$?; pwd >\"$STAGE/cwd\"; export -p >\"$STAGE/env\"; exit $code";
        let mut command = Command::new("timeout");
        command.args(["120", "bash", "-c", goes_on, "bash", typed]);
        let mut command = self.machine.enter(&self.with_surroundings(command));
        let output = command.stdin(std::process::Stdio::null()).output().expect("a shell");
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        (output.status.code().unwrap_or(-1), said)
    }

    fn script(&self, script: &str) -> Result<(), String> {
        match self.shell(&format!("set -e; {script}")) {
            (0, _) => Ok(()),
            (code, said) => Err(format!("`{script}` ended with {code}: {said}")),
        }
    }

    /// Runs a command of the page, which has to end as the page says.
    pub fn run(&mut self, command: &str) -> Result<(), String> {
        if let Some((prefix, _)) =
            self.scene.elsewhere.iter().find(|(one, _)| command.starts_with(one))
        {
            self.used.insert(prefix);
            return Ok(());
        }
        let before = self.scene.before.iter().filter(|(one, _)| is_meant(command, one));
        let before: Vec<_> = before.filter(|(one, _)| !self.used.contains(one)).collect();
        for (prefix, script) in before {
            self.used.insert(prefix);
            self.script(script)?;
        }
        let ends = self.scene.ends.iter().find(|(prefix, _)| command.starts_with(prefix));
        let (code, said) = self.shell(command);
        if let Some((prefix, _)) = ends {
            self.used.insert(prefix);
        }
        match code == ends.map_or(0, |(_, code)| *code) {
            true => Ok(()),
            false => Err(format!("ended with {code}: {said}")),
        }
    }

    /// What was prepared for commands that the page does not have.
    pub fn left_over(&self) -> Vec<String> {
        let scripts = self.scene.before.iter().map(|(prefix, _)| *prefix);
        let ends = self.scene.ends.iter().map(|(prefix, _)| *prefix);
        let elsewhere = self.scene.elsewhere.iter().map(|(prefix, _)| *prefix);
        let all = scripts.chain(ends).chain(elsewhere).filter(|prefix| !self.used.contains(prefix));
        all.map(|prefix| format!("{}: has no command `{prefix}`", self.scene.page)).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Those that have ended by themselves are as good.
        let _ = self.shell("xargs kill <\"$STAGE/listeners\" 2>/dev/null");
    }
}

fn is_meant(command: &str, by: &str) -> bool {
    match by.strip_suffix('$') {
        Some(whole) => command == whole,
        None => command.starts_with(by),
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}
