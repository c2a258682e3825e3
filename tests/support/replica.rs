//! Replicas of `certkit controller`, and those who send it requests.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Pid;
use serde_json::Value;

use super::{
    certkit,
    machine::Machine,
    observer::Observer,
    plane::Plane,
    process::Process,
    requests::{Asked, CLIENT, Pkcs10, TO_ASK, TOKENS},
};

/// A bootstrap token for worker-1, and somebody who may send requests in anybody's name.
pub const SETUP: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: abcdef
  token-secret: 0123456789abcdef
  usage-bootstrap-authentication: "true"
  auth-extra-groups: system:bootstrappers:node:worker-1
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bootstrap}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:node-bootstrapper}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:bootstrappers}]
---
# So that what anybody sends reaches the judge.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: anybody-asks}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:node-bootstrapper}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:authenticated}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: sender, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sender}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: sender, namespace: kube-system}]
"#;

/// certkit with the feature `cluster`: what `tests/run.sh` has set aside, or what was built with the test.
fn program() -> PathBuf {
    let aside = env::var_os("CERTKIT_CLUSTER_PROGRAM").map(PathBuf::from);
    aside.unwrap_or_else(|| env!("CARGO_BIN_EXE_certkit").into())
}

/// The same environment as `certkit()` has.
pub fn with_cluster() -> Command {
    let mut command = Command::new(program());
    for (name, value) in certkit().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// The same with another clock; time that is only measured passes as always. The library is asked of `faketime`, which would
/// stand between the test and the process.
pub fn with_clock(offset: &str) -> Command {
    let asked = Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
    let library = String::from_utf8(asked.expect("faketime starts").stdout).expect("a path");
    assert!(!library.trim().is_empty(), "faketime says nothing of its library");
    let mut command = with_cluster();
    command.env("LD_PRELOAD", library.trim()).env("FAKETIME", offset);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// A replica of the controller.
pub struct Replica {
    pub process: Process,
    log: PathBuf,
}

impl Replica {
    /// Beside the control plane.
    pub fn start(machine: &Machine, name: &str, port: u16, more: &[&str]) -> Self {
        let address = format!("10.0.0.11:{port}");
        Self::start_on(
            machine,
            machine,
            with_cluster(),
            name,
            &[&["--listen", &address], more].concat(),
        )
    }

    /// On any machine, with what the control plane's has: inventory, kubeconfig and certificate.
    pub fn start_on(
        machine: &Machine,
        home: &Machine,
        mut command: Command,
        name: &str,
        more: &[&str],
    ) -> Self {
        command.args(["controller", "--identity", name]);
        if !more.contains(&"--limit") {
            command.args(["--limit", "100"]);
        }
        command.arg("--dir").arg(home.folder().join("inventory"));
        command.arg("--kubeconfig").arg(home.folder().join("controller.conf"));
        if more.contains(&"--listen") {
            command.args(["--tls-cert-file", "/etc/kubernetes/pki/controller-manager.crt"]);
            command.args(["--tls-private-key-file", "/etc/kubernetes/pki/controller-manager.key"]);
        }
        command.args(more);
        let log = home.log_of(name);
        Self { process: Process::start(&mut machine.enter(&command), &log), log }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.pid().cast_signed()).expect("a process")
    }

    /// Its log, line by line.
    pub fn lines(&self) -> Vec<Value> {
        lines(&self.log)
    }

    pub fn says(&self, message: &str) -> bool {
        self.lines().iter().any(|line| line["message"] == message)
    }
}

pub fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('+'));
    // The last line may be one that is just being written.
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Every request that the API has, by name.
pub fn requests_of(plane: &Plane<'_>) -> BTreeMap<String, Value> {
    let text = plane.super_admin(&["get", "csr", "-o", "json"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), item.clone()))
        .collect()
}

pub fn conditions<'a>(request: &'a Value, kind: &str) -> Vec<&'a Value> {
    let conditions = request["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|condition| condition["type"] == kind).collect()
}

/// A kubeconfig of the service account that `certkit template controller` makes.
pub fn write_kubeconfig(plane: &Plane<'_>, machine: &Machine) {
    let token = plane.super_admin(&["-n", "kube-system", "create", "token", "certkit-controller"]);
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'https://10.0.0.11:6443', \
         certificate-authority: /etc/kubernetes/pki/ca-bundle.crt}}}}]\n\
         users: [{{name: c, user: {{token: '{}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n",
        token.trim()
    );
    let file = machine.folder().join("controller.conf");
    let new = machine.folder().join("controller.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

/// Sends requests on one connection, each as somebody.
pub struct Sender<'m> {
    machine: &'m Machine,
    token: String,
}

impl<'m> Sender<'m> {
    pub fn new(plane: &Plane<'_>, machine: &'m Machine) -> Self {
        let token = plane.super_admin(&["-n", "kube-system", "create", "token", "sender"]);
        Self { machine, token: token.trim().to_owned() }
    }

    /// Watches what becomes of requests.
    pub fn observe(&self) -> Observer {
        Observer::start(self.machine, &self.token)
    }

    /// HTTP's status for each, in their order.
    pub fn send(&self, all: &[Asked]) -> Vec<u16> {
        self.send_by(all, &[])
    }

    /// The same, many at a time, and so in no order.
    pub fn send_at_once(&self, all: &[Asked]) -> Vec<u16> {
        self.send_by(all, &["--parallel", "--parallel-max", "50"])
    }

    fn send_by(&self, all: &[Asked], more: &[&str]) -> Vec<u16> {
        let folder = super::temp_dir();
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut config = String::new();
        for (index, asked) in all.iter().enumerate() {
            let body = folder.path().join(format!("{index}.json"));
            fs::write(&body, asked.object()).unwrap();
            let answer = folder.path().join(format!("{index}.out"));
            if index > 0 {
                config += "next\n";
            }
            config += "url = \"https://10.0.0.11:6443/apis/certificates.k8s.io/v1/\
                       certificatesigningrequests\"\n\
                       cacert = \"/etc/kubernetes/pki/ca-bundle.crt\"\n\
                       header = \"Content-Type: application/json\"\n\
                       write-out = \"%{http_code}\\n\"\nsilent\n";
            config += &format!("output = \"{}\"\n", answer.display());
            config += &format!("data = \"@{}\"\n", body.display());
            config += &format!("header = \"Authorization: Bearer {}\"\n", self.token);
            config += &format!("header = \"Impersonate-User: {}\"\n", quote(&asked.username));
            for group in &asked.groups {
                config += &format!("header = \"Impersonate-Group: {}\"\n", quote(group));
            }
        }
        let file = folder.path().join("curl");
        fs::write(&file, config).unwrap();
        let mut curl = Command::new("curl");
        let output = self.machine.enter(curl.args(more).arg("--config").arg(&file)).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        let statuses: Vec<u16> = said.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(statuses.len(), all.len(), "{said}");
        statuses
    }
}

/// A bootstrap of one of the many.
pub fn bootstrap(round: &str, number: usize) -> Asked {
    let node = format!("n{number:03}");
    Asked {
        what: Box::leak(format!("{round} {node}").into_boxed_str()),
        signer: CLIENT,
        username: "system:bootstrap:abcdef".into(),
        groups: vec![TOKENS],
        usages: TO_ASK.to_vec(),
        pem: Pkcs10::of_node(&node, &[]).pem(),
        code: "",
    }
}

/// The most memory that a process has had.
pub fn peak(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap_or_default().trim().to_owned()
}
