//! A real etcd cluster of three members, started from the flags certkit emits, and who may talk to it.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Output, Stdio},
    time::Duration,
};

use support::{
    etcd::{self, HEALTHCHECK},
    need,
};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn three_members_serve_their_clients_and_refuse_everyone_else() {
    let (Some(program), Some(_), Some(_)) = (need("etcd"), need("etcdctl"), need("openssl")) else {
        return;
    };
    let mut cluster = etcd::three(&program, "");
    cluster.wait_healthy();

    // A write through each is read through all.
    for writer in &cluster.members {
        let output = writer.etcdctl(HEALTHCHECK, &["put", &writer.name, "written"]);
        assert!(output.status.success(), "{}", said(&output));
        for reader in &cluster.members {
            let output = reader.etcdctl(HEALTHCHECK, &["get", "--print-value-only", &writer.name]);
            assert!(said(&output).contains("written"), "{}", said(&output));
        }
    }

    let member = &cluster.members[0];
    let cp1 = cluster.workspace.join("hosts/cp1/pki");
    let at = |name: &str| cp1.join(name).display().to_string();
    let ca = "--cacert=pki/etcd/ca-bundle.crt";

    // The apiserver's own certificate opens it.
    let cert = format!("--cert={}", at("apiserver-etcd-client.crt"));
    let key = format!("--key={}", at("apiserver-etcd-client.key"));
    let output = member.etcdctl(&[ca, &cert, &key], &["get", "etcd1"]);
    assert!(output.status.success(), "{}", said(&output));

    // No certificate.
    let output = member.etcdctl(&[ca], &["get", "etcd1"]);
    assert!(!output.status.success(), "{}", said(&output));

    // A certificate of the cluster CA.
    let cert = format!("--cert={}", at("apiserver-kubelet-client.crt"));
    let key = format!("--key={}", at("apiserver-kubelet-client.key"));
    let output = member.etcdctl(&[ca, &cert, &key], &["get", "etcd1"]);
    assert!(!output.status.success(), "{}", said(&output));

    // Plain HTTP.
    let mut plain = TcpStream::connect(member.client()).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    plain.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset is as good a refusal as an answer.
    let _ = plain.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!answer.contains("etcdserver"), "{answer}");

    // On the peer port: a peer's certificate is served, others of the same CA are not.
    let peer = |cert: &str, key: &str| {
        let address = format!("{}:{}", member.address, member.peer_port);
        let mut child = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-no_ign_eof",
                "-connect",
                &address,
                "-cert",
                cert,
                "-key",
                key,
            ])
            .current_dir(&member.tree)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let request = b"GET /members HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        // Refused, it may be gone before it was asked.
        let _ = stdin.write_all(request);
        std::thread::sleep(Duration::from_secs(1));
        drop(stdin);
        said(&child.wait_with_output().unwrap())
    };
    let answer = peer("pki/etcd/peer.crt", "pki/etcd/peer.key");
    assert!(answer.contains("200 OK") && answer.contains("etcd2"), "{answer}");
    for (cert, key) in [
        (at("apiserver-etcd-client.crt"), at("apiserver-etcd-client.key")),
        ("pki/etcd/healthcheck-client.crt".into(), "pki/etcd/healthcheck-client.key".into()),
        ("pki/etcd/server.crt".into(), "pki/etcd/server.key".into()),
    ] {
        let answer = peer(&cert, &key);
        assert!(!answer.contains("200 OK"), "{cert} speaks the peer protocol: {answer}");
    }

    for member in &mut cluster.members {
        assert!(member.is_running(), "{}", member.log());
    }
}
