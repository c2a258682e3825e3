//! An aggregated API server: Kubernetes' sample server, with certificates of somebody's own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use super::{
    base64,
    cluster::Cluster,
    https::{Credentials, request},
    kubernetes, openssl,
    pod::Pod,
    process::Process,
    run,
    storm::Ask,
};

/// The port it listens on.
const PORT: u16 = 8443;

/// The aggregated API as Kubernetes' sample server has it, reached without a service network.
const API: &str = "apiVersion: v1
kind: Namespace
metadata: {name: wardle}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: wardle}
spec: {type: ExternalName, externalName: HOST}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1alpha1.wardle.example.com}
spec:
  group: wardle.example.com
  version: v1alpha1
  groupPriorityMinimum: 1000
  versionPriority: 15
  service: {name: api, namespace: wardle, port: 8443}
  caBundle: CA
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flunders}
rules: [{apiGroups: [wardle.example.com], resources: [flunders], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: flunders}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: flunders}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: \"system:kube-scheduler\"}]
";

/// Its objects, where it is on this host and its certificate is of this CA.
pub fn objects(host: &str, ca: &Path) -> String {
    API.replace("HOST", host).replace("CA", &base64(&fs::read(ca).unwrap()))
}

/// It, as a pod beside a control plane runs it: it logs in with the pod's token, and learns from the cluster whose front
/// proxies to believe. It has a store of its own. Both end when dropped.
pub struct Aggregated {
    command: Command,
    process: Option<Process>,
    log: PathBuf,
    _store: Process,
}

impl Aggregated {
    /// Starts it and waits until every apiserver asks it. `None` where a program is missing, which is then reported.
    #[track_caller]
    pub fn start(cluster: &Cluster, pod: &Pod) -> Option<Self> {
        let (program, etcd) =
            (kubernetes::program("sample-apiserver")?, kubernetes::program("etcd")?);
        let (folder, address) = (cluster.folder().join("wardle"), cluster.beside());
        fs::create_dir_all(&folder).unwrap();
        let mut store = Command::new(etcd);
        let (clients, peers) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
        store.arg("--data-dir").arg(folder.join("etcd")).arg("--unsafe-no-fsync");
        store.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        store.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        store.arg(format!("--initial-cluster=default={peers}"));
        store.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        let store = Process::start(&mut store, &cluster.log_of("wardle-etcd"));

        let own = authority(&folder, "wardle-ca");
        let names = "subjectAltName=DNS:api.wardle.svc";
        let (cert, key) = signed(&folder, "wardle", (&own.0, &own.1), "/CN=api.wardle.svc", names);
        let kubeconfig = pod.kubeconfig(cluster);
        let mut command = Command::new(program);
        for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{flag}={}", kubeconfig.display()));
        }
        command.arg(format!("--bind-address={address}")).arg(format!("--secure-port={PORT}"));
        command.arg(format!("--etcd-servers={clients}"));
        command.arg(format!("--tls-cert-file={cert}"));
        command.arg(format!("--tls-private-key-file={key}"));
        command.current_dir(&folder);
        let mut server =
            Self { command, process: None, log: cluster.log_of("wardle"), _store: store };
        server.run();
        let file = folder.join("objects.yaml");
        fs::write(&file, objects(&address.to_string(), &own.0)).unwrap();
        run(cluster.kubectl("super-admin.conf").args(["apply", "-f"]).arg(&file));
        server.wait(cluster);
        Some(server)
    }

    fn run(&mut self) {
        self.process = Some(Process::start(&mut self.command, &self.log));
    }

    /// Ends it, starts it again, and waits until every apiserver asks it.
    #[track_caller]
    pub fn restart(&mut self, cluster: &Cluster) {
        // It would wait a minute for those who watch.
        drop(self.process.take());
        self.run();
        self.wait(cluster);
    }

    #[track_caller]
    fn wait(&self, cluster: &Cluster) {
        let ask = self.ask(cluster);
        for host in &cluster.hosts {
            cluster.until("the aggregated API does not answer", || {
                ask((host.address, 6443).into()).is_ok()
            });
        }
    }

    /// A request that each apiserver hands on to it.
    pub fn ask(&self, cluster: &Cluster) -> Ask {
        let (file, tree) = (cluster.dir.join("super-admin.conf"), cluster.dir.clone());
        let credentials = Credentials::Kubeconfig { file, tree };
        Arc::new(move |to: SocketAddr| {
            let text = "GET /apis/wardle.example.com/v1alpha1/flunders HTTP/1.1\r\n\
                        Host: kubernetes\r\nConnection: close\r\n\r\n";
            let config = credentials.read().map_err(|error| error.to_string())?;
            let answer = request(&Arc::new(config), to, text);
            let answer = answer.map_err(|error| format!("aggregated: {error}"))?;
            match answer.contains("FlunderList") {
                true => Ok(()),
                false => Err(format!("aggregated: {answer}")),
            }
        })
    }

    /// Whether it believes who shows this certificate to speak for somebody.
    pub fn believes(&self, cluster: &Cluster, cert: &Path, key: &Path) -> bool {
        let url = format!(
            "https://{}:{PORT}/apis/wardle.example.com/v1alpha1/flunders",
            cluster.beside()
        );
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--insecure",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        command.arg("--cert").arg(cert).arg("--key").arg(key).arg(url);
        command.args([
            "--header",
            "X-Remote-User: boss",
            "--header",
            "X-Remote-Group: system:masters",
        ]);
        let said = run(&mut command).stdout;
        match said.as_slice() {
            b"200" => true,
            b"401" => false,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
}

/// A certificate of this CA, its key beside it.
#[track_caller]
pub fn signed(
    folder: &Path,
    name: &str,
    ca: (&Path, &Path),
    subject: &str,
    more: &str,
) -> (String, String) {
    let at = |end: &str| folder.join(format!("{name}.{end}")).to_str().unwrap().to_owned();
    let (cert, key) = (at("crt"), at("key"));
    let (ca, ca_key) = (ca.0.to_str().unwrap(), ca.1.to_str().unwrap());
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    let mut arguments = new.to_vec();
    arguments.extend(["-CA", ca, "-CAkey", ca_key, "-days", "30", "-subj", subject]);
    arguments.extend(["-addext", more, "-addext", "basicConstraints=critical,CA:FALSE"]);
    arguments.extend(["-keyout", &key, "-out", &cert]);
    openssl(&arguments);
    (cert, key)
}

/// A CA of somebody's own.
#[track_caller]
pub fn authority(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    let (out, keyout) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let subject = format!("/CN={name}");
    openssl(&[&new[..], &["-subj", &subject, "-keyout", keyout, "-out", out]].concat());
    (cert, key)
}
