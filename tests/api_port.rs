//! An apiserver on another port than the usual one: where it is said, and everything that follows.

mod support;

use std::{fs, path::Path, process::Command};

use support::{certkit, run, run_to_exit, stdout, temp_dir};

fn init(dir: &Path, more: &[&str]) -> Command {
    let mut command = certkit();
    command.arg("init").arg("--dir").arg(dir).args(more);
    command
}

fn on(dir: &Path, more: &[&str]) -> String {
    let mut command = certkit();
    stdout(command.args(more).arg("--dir").arg(dir))
}

fn server(tree: &Path, kubeconfig: &str) -> String {
    let text = fs::read_to_string(tree.join(kubeconfig)).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("server: "));
    line.unwrap().trim_matches('"').to_owned()
}

/// A workspace declared by this text, whose tree of a host is `hosts/NAME`.
fn declared(folder: &Path, text: &str) -> std::path::PathBuf {
    let file = folder.join("cluster.yaml");
    fs::write(&file, text).unwrap();
    let dir = folder.join("pki");
    run(&mut init(&dir, &["--config", file.to_str().unwrap()]));
    dir
}

#[test]
fn the_endpoints_port_is_the_one_hosts() {
    for endpoint in ["10.0.0.11:7443", "api.example.com:7443", "cp1:7443"] {
        let dir = temp_dir();
        run(&mut init(dir.path(), &["--host", "cp1=10.0.0.11", "--endpoint", endpoint]));
        assert!(on(dir.path(), &["flags", "kube-apiserver"]).contains("--secure-port=7443\n"));
        for local in ["controller-manager.conf", "scheduler.conf", "kubelet.conf"] {
            assert_eq!(server(dir.path(), local), "https://10.0.0.11:7443", "{endpoint}");
        }
        assert_eq!(server(dir.path(), "admin.conf"), format!("https://{endpoint}"));
        let paths = on(dir.path(), &["paths", "--output", "json"]);
        let paths: serde_json::Value = serde_json::from_str(&paths).unwrap();
        let text = paths.to_string();
        assert!(text.contains("7443") && !text.contains("6443"), "{text}");
        run(certkit().arg("verify").arg("--dir").arg(dir.path()));
        // A worker more, and it stays so.
        let file = dir.path().join("certkit.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("port: 7443"), "{text}");
        fs::write(&file, text + "nodes: [{name: w1, addresses: [10.0.0.12]}]\n").unwrap();
        run(&mut init(dir.path(), &[]));
        let flags = on(dir.path(), &["flags", "kube-apiserver", "--host", "cp1"]);
        assert!(flags.contains("--secure-port=7443\n"), "{flags}");
    }
}

#[test]
fn each_host_of_the_control_plane_may_have_its_own() {
    let folder = temp_dir();
    let dir = declared(
        folder.path(),
        "apiVersion: certkit/v1\nkind: Cluster\nname: c\nendpoint: lb.example.com:443\n\
         controlPlane:\n- {name: cp1, addresses: [10.0.0.1], port: 7443}\n\
         - {name: cp2, addresses: [10.0.0.2]}\n- {name: cp3, addresses: [\"fd00::3\", 10.0.0.3], port: 8443}\n",
    );
    let url = ["https://10.0.0.1:7443", "https://10.0.0.2:6443", "https://[fd00::3]:8443"];
    for (n, (port, url)) in [7443, 6443, 8443].iter().zip(url).enumerate() {
        let host = format!("cp{}", n + 1);
        let flags = on(&dir, &["flags", "kube-apiserver", "--host", &host]);
        assert!(flags.contains(&format!("--secure-port={port}\n")), "{flags}");
        let kubeadm = on(&dir, &["flags", "--format", "kubeadm", "--host", &host]);
        assert!(kubeadm.contains(&format!("bindPort: {port}\n")), "{kubeadm}");
        assert_eq!(server(&dir.join("hosts").join(&host), "scheduler.conf"), url);
    }
    // The address is of the family of the services.
    let flags = on(&dir, &["flags", "kube-apiserver", "--host", "cp3"]);
    assert!(flags.contains("--advertise-address=10.0.0.3\n"), "{flags}");
    // A host that clients reach by the endpoint listens on its port.
    let folder = temp_dir();
    let dir = declared(
        folder.path(),
        "apiVersion: certkit/v1\nkind: Cluster\nname: c\nendpoint: cp2:7443\ncontrolPlane:\n\
         - {name: cp1, addresses: [10.0.0.1]}\n- {name: cp2, addresses: [10.0.0.2]}\n",
    );
    let port = |host| on(&dir, &["flags", "kube-apiserver", "--host", host]);
    assert!(port("cp1").contains("--secure-port=6443\n"));
    assert!(port("cp2").contains("--secure-port=7443\n"));
}

#[test]
fn a_wrong_port_is_an_error_with_its_line() {
    let text = "apiVersion: certkit/v1\nkind: Cluster\nname: c\ncontrolPlane:\n\
                - {name: cp1, addresses: [10.0.0.1], port: PORT}\nnodes:\n\
                - {name: w1, addresses: [10.0.0.2]MORE}\n";
    for (port, more, line) in
        [("0", "", 5), ("65536", "", 5), ("x", "", 5), ("6443", ", port: 6443", 7)]
    {
        let folder = temp_dir();
        let file = folder.path().join("c.yaml");
        fs::write(&file, text.replace("PORT", port).replace("MORE", more)).unwrap();
        let dir = folder.path().join("pki");
        let refused = run_to_exit(&mut init(&dir, &["--config", file.to_str().unwrap()]), 3);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(&format!("c.yaml:{line}")) && said.contains("port"), "{said}");
    }
}

#[test]
fn kubeadms_bind_port_is_the_apiservers() {
    let folder = temp_dir();
    let kubeadm = |endpoint: &str| {
        format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint:\n  \
             advertiseAddress: 10.0.0.11\n  bindPort: 7443\nnodeRegistration:\n  name: cp1\n---\n\
             apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n{endpoint}"
        )
    };
    for (n, (line, endpoint)) in [
        ("", "10.0.0.11:7443"),
        ("controlPlaneEndpoint: lb.example.com:443\n", "lb.example.com:443"),
        ("controlPlaneEndpoint: lb.example.com:6443\n", "lb.example.com:6443"),
    ]
    .into_iter()
    .enumerate()
    {
        let own = folder.path().join(n.to_string());
        fs::create_dir(&own).unwrap();
        let dir = declared(&own, &kubeadm(line));
        assert!(on(&dir, &["flags", "kube-apiserver"]).contains("--secure-port=7443\n"));
        assert_eq!(server(&dir, "controller-manager.conf"), "https://10.0.0.11:7443");
        assert_eq!(server(&dir, "admin.conf"), format!("https://{endpoint}"));
    }
}

#[test]
fn what_is_adopted_keeps_its_port() {
    for with_manifest in [true, false] {
        let dir = temp_dir();
        let more = ["--host", "cp1=10.0.0.11", "--endpoint", "10.0.0.11:7443"];
        run(&mut init(dir.path(), &more));
        // As behind a load balancer.
        let admin = dir.path().join("admin.conf");
        let text = fs::read_to_string(&admin).unwrap();
        fs::write(&admin, text.replace("https://10.0.0.11:7443", "https://lb.example.com:443"))
            .unwrap();
        fs::remove_file(dir.path().join("certkit.yaml")).unwrap();
        fs::remove_file(dir.path().join("kubelet-config.yaml")).unwrap();
        if with_manifest {
            fs::create_dir(dir.path().join("manifests")).unwrap();
            let manifest = |component: &str, flags: &[&str]| {
                let command: String =
                    flags.iter().map(|flag| format!("    - --{flag}\n")).collect();
                let text = format!(
                    "apiVersion: v1\nkind: Pod\nmetadata: {{name: {component}}}\nspec:\n  \
                     containers:\n  - name: {component}\n    command:\n    - {component}\n{command}"
                );
                let path = dir.path().join(format!("manifests/{component}.yaml"));
                fs::write(path, text).unwrap();
            };
            let flags = ["secure-port=7443", "advertise-address=10.0.0.11"];
            manifest("kube-apiserver", &flags);
            let members = "initial-cluster=cp1=https://10.0.0.11:2380,cp2=https://10.0.0.12:2380";
            manifest("etcd", &[members]);
        }
        run(&mut init(dir.path(), &["--adopt"]));
        let flags = on(dir.path(), &["flags", "kube-apiserver"]);
        assert!(flags.contains("--secure-port=7443\n"), "{flags}");
        // The other members are not declared: a new cluster must not come of this one's flags alone.
        let etcd = on(dir.path(), &["flags", "etcd"]);
        assert_eq!(etcd.contains("--initial-cluster="), !with_manifest, "{etcd}");
        assert!(etcd.contains("--listen-peer-urls=https://10.0.0.11:2380\n"), "{etcd}");
        // Nothing is demanded that was not there.
        let kubelet = on(dir.path(), &["flags", "kubelet"]);
        assert!(kubelet.contains("--config=/var/lib/kubelet/config.yaml"), "{kubelet}");
        run(&mut init(dir.path(), &[]));
        assert!(!dir.path().join("kubelet-config.yaml").exists());
        assert!(dir.path().join("scheduler-config.yaml").exists());
    }
}
