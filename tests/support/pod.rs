//! What a pod has of its service account: a token, and the CA as `kube-root-ca.crt` says at that moment, kept up to date in
//! its files as a kubelet does; and a client that has nothing else.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::Duration,
};

use serde_json::Value;

use super::{
    cluster::Cluster,
    https::{Credentials, request, without_certificate},
    run,
    storm::Ask,
};

/// A service account that may do all, so that who refuses it does not know its token.
const ACCOUNT: &str = "apiVersion: v1
kind: ServiceAccount
metadata: {name: pod, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: pod}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: pod, namespace: default}]
";

/// The pod; nobody keeps its files up to date once it is dropped.
pub struct Pod {
    folder: PathBuf,
    over: Arc<AtomicBool>,
    kubelet: Option<JoinHandle<()>>,
}

impl Pod {
    /// Makes it, with a token and the CA.
    #[track_caller]
    pub fn start(cluster: &Cluster) -> Self {
        let folder = cluster.folder().join("pod");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("account.yaml");
        fs::write(&file, ACCOUNT).unwrap();
        run(cluster.kubectl("super-admin.conf").args(["apply", "-f"]).arg(&file));
        let over = Arc::<AtomicBool>::default();
        let stop = Arc::clone(&over);
        let (file, tree) = (cluster.dir.join("super-admin.conf"), cluster.dir.clone());
        let kubelet = Credentials::Kubeconfig { file, tree };
        let apiservers: Vec<SocketAddr> =
            cluster.hosts.iter().map(|host| (host.address, 6443).into()).collect();
        let at = folder.clone();
        let kubelet = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                // One that is being restarted is no matter: another one answers, or the same later.
                let all = apiservers.iter().find_map(|to| published(&kubelet, *to).ok());
                if let Some(ca) = all {
                    replace(&at.join("ca.crt"), ca.as_bytes());
                }
                sleep(Duration::from_millis(500));
            }
        });
        let pod = Self { folder, over, kubelet: Some(kubelet) };
        cluster.until("kube-root-ca.crt is not there", || pod.folder.join("ca.crt").exists());
        pod.renew(cluster);
        pod
    }

    /// Gets it another token, as a kubelet does when most of the term of one is over. The one before is shown, too, until
    /// [`Pod::forget`].
    #[track_caller]
    pub fn renew(&self, cluster: &Cluster) {
        let create = ["create", "token", "pod", "--namespace=default", "--duration=1h"];
        let token = cluster.super_admin(&create);
        let before = self.folder.join("token");
        if before.exists() {
            fs::copy(&before, self.folder.join("token-before")).unwrap();
        }
        replace(&before, token.trim().as_bytes());
    }

    /// Has it show the token before no more.
    pub fn forget(&self) {
        let _ = fs::remove_file(self.folder.join("token-before"));
    }

    /// The CAs that it trusts now, PEM.
    pub fn trusted(&self) -> String {
        fs::read_to_string(self.folder.join("ca.crt")).unwrap()
    }

    /// A kubeconfig that names its files, as programs in pods make one for themselves.
    pub fn kubeconfig(&self, cluster: &Cluster) -> PathBuf {
        let (ca, token) = (self.folder.join("ca.crt"), self.folder.join("token"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: pod\n\
             clusters: [{{name: pod, cluster: {{server: \"https://{}:6443\", certificate-authority: {}}}}}]\n\
             users: [{{name: pod, user: {{tokenFile: {}}}}}]\n\
             contexts: [{{name: pod, context: {{cluster: pod, user: pod}}}}]\n",
            cluster.hosts[0].address,
            ca.display(),
            token.display()
        );
        let file = self.folder.join("kubeconfig");
        fs::write(&file, text).unwrap();
        file
    }

    /// Requests with each of its tokens, trusting what it trusts at that moment.
    pub fn ask(&self) -> Ask {
        let folder = self.folder.clone();
        Arc::new(move |to: SocketAddr| {
            let ca = fs::read(folder.join("ca.crt")).map_err(|error| error.to_string())?;
            let config = without_certificate(&ca).map_err(|error| format!("pod: {error}"))?;
            let config = Arc::new(config);
            for name in ["token", "token-before"] {
                let Ok(token) = fs::read_to_string(folder.join(name)) else { continue };
                let text = format!(
                    "GET /api/v1/namespaces/default/serviceaccounts/pod HTTP/1.1\r\nHost: kubernetes\r\n\
                     Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
                );
                request(&config, to, &text).map_err(|error| format!("pod's {name}: {error}"))?;
            }
            Ok(())
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(kubelet) = self.kubelet.take() {
            // Whatever it came to, nobody keeps the files up to date any more.
            let _ = kubelet.join();
        }
    }
}

/// What an apiserver says that pods are to trust.
fn published(kubelet: &Credentials, to: SocketAddr) -> Result<String, Box<dyn std::error::Error>> {
    // An answer to the older protocol comes in one piece.
    let text = "GET /api/v1/namespaces/default/configmaps/kube-root-ca.crt HTTP/1.0\r\nHost: kubernetes\r\n\r\n";
    let answer = request(&Arc::new(kubelet.read()?), to, text)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no body"))?;
    let document: Value = serde_json::from_str(body)?;
    let ca = document["data"]["ca.crt"].as_str().ok_or_else(|| io::Error::other("no ca.crt"))?;
    Ok(ca.to_owned())
}

/// Who reads the file meanwhile reads the old or the new one.
fn replace(file: &Path, content: &[u8]) {
    let temporary = file.with_extension("new");
    fs::write(&temporary, content).unwrap();
    fs::rename(&temporary, file).unwrap();
}
