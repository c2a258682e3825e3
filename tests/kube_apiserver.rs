//! A real kube-apiserver, started from the flags certkit emits, as `make kubernetes` builds it.

mod support;

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use support::{
    certkit,
    etcd::{Member, Plan, free_ports},
    need, run, stdout, temp_dir,
};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_apiserver_starts_from_the_flags_and_kubectl_gets_in() {
    let Some(program) = support::kubernetes::program("kube-apiserver") else { return };
    let (Some(etcd), Some(kubectl)) = (need("etcd"), need("kubectl")) else { return };
    let folder = temp_dir();
    let pki = folder.path().join("pki");
    let (api_port, _) = free_ports("127.0.0.1");
    let endpoint = format!("127.0.0.1:{api_port}");
    run(certkit()
        .args([
            "init",
            "--name",
            "test",
            "--host",
            "cp1=127.0.0.1",
            "--endpoint",
            &endpoint,
            "--dir",
        ])
        .arg(&pki));
    let flags = |component: &str| stdout(certkit().args(["flags", component, "--dir"]).arg(&pki));
    let ports = free_ports("127.0.0.1");
    let mut member = Member::start(
        &etcd,
        &Plan {
            name: "cp1",
            address: "127.0.0.1",
            ports,
            cluster: &format!("cp1=https://127.0.0.1:{}", ports.1),
            tree: &pki,
            data: folder.path(),
            flags: &flags("etcd"),
        },
    );
    member.wait();
    let log_file = folder.path().join("apiserver.log");
    let log = File::create(&log_file).unwrap();
    // As in production, with etcd and the apiserver on ports that are free here.
    let flags = flags("kube-apiserver")
        .replace("https://127.0.0.1:2379", &format!("https://127.0.0.1:{}", ports.0));
    let mut server = Server(
        Command::new(program)
            .args(flags.lines())
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(format!("--secure-port={api_port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let output = Command::new(&kubectl)
            .arg("--kubeconfig")
            .arg(pki.join("super-admin.conf"))
            .args(["get", "ns", "-o", "name"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && said.contains("namespace/kube-system") {
            break;
        }
        let log = std::fs::read_to_string(&log_file).unwrap_or_default();
        assert!(server.0.try_wait().unwrap().is_none(), "kube-apiserver ended:\n{log}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(Instant::now() < end, "{said}{error}\n{log}");
        std::thread::sleep(Duration::from_millis(500));
    }
    // admin.conf has no rights until the roles of `certkit template rbac` are there.
    let get = |kubeconfig: &str| {
        let mut command = Command::new(&kubectl);
        command.arg("--kubeconfig").arg(pki.join(kubeconfig)).args(["get", "ns"]).output().unwrap()
    };
    assert!(!get("admin.conf").status.success());
    let rbac = folder.path().join("rbac.yaml");
    std::fs::write(&rbac, stdout(certkit().args(["template", "rbac"]))).unwrap();
    run(Command::new(&kubectl)
        .arg("--kubeconfig")
        .arg(pki.join("super-admin.conf"))
        .args(["apply", "-f"])
        .arg(&rbac));
    let end = Instant::now() + Duration::from_secs(30);
    while !get("admin.conf").status.success() {
        assert!(Instant::now() < end, "admin.conf gets no rights");
        std::thread::sleep(Duration::from_millis(500));
    }
}
