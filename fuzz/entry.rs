//! What each target does with an input, and what must hold whatever the input is. `tests/fuzz_smoke.rs` runs
//! the same functions over the seeds and some thousand mutations of them.
#![allow(dead_code)] // Each target uses one of them.

use std::{
    io::{Cursor, Write as _},
    net::TcpListener,
    ops::ControlFlow,
    path::Path,
    time::Duration,
};

use certkit::{
    document::{self, kubeconfig as config, object},
    ops::verify::flags,
    pki::{
        inspect::{self, Certificate},
        pem as blocks,
    },
    store,
    tls::probe,
};

/// certkit.yaml: what is accepted is written so that it reads back the same.
pub fn declaration(input: &[u8]) {
    let read = |input: &[u8]| document::read(input, "input").and_then(|d| d.complete("input"));
    let Ok(cluster) = read(input) else { return };
    let written = document::write(&cluster);
    let again = read(written.as_bytes());
    assert_eq!(again.expect("what was written"), cluster, "{written}");
}

/// kubeadm's configuration, which is turned into a declaration.
pub fn kubeadm(input: &[u8]) {
    declaration(input);
}

/// The store's records, which whoever owns DIR may have written: read or refused.
pub fn record(input: &[u8]) {
    let _ = store::understands(input, Path::new("/etc/kubernetes"));
}

/// What tells components their flags: units, manifests, configuration files, command lines.
pub fn unit(input: &[u8]) {
    for name in ["kubelet.service", "kube-apiserver.flags", "etcd.yaml"] {
        if let Ok(all) = flags::told(Path::new(name), input) {
            for told in all {
                assert!(!told.component.is_empty());
            }
        }
    }
}

/// A listener that answers a probe with anything: certificates, or an error, in time.
pub fn handshake(input: &[u8]) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let answer = input.to_vec();
    let serving = std::thread::spawn(move || {
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(&answer);
        }
    });
    let target = probe::Target { host: "127.0.0.1".into(), port, sni: Some("a.example".into()) };
    match probe::probe(&target, Duration::from_secs(5)) {
        Ok(served) => assert!(!served.chain.is_empty()),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?} could steer a terminal");
        }
    }
    serving.join().expect("it answered");
}

/// PEM: read whole and read as a stream, both say the same.
pub fn pem(input: &[u8]) {
    let _ = blocks::read(input);
    let whole = blocks::certificates(input);
    let mut stream = blocks::Certificates::new(Cursor::new(input));
    let mut found = Vec::new();
    let mut faults = 0;
    // Each answer takes at least a line.
    for _ in 0..=input.len() + 1 {
        match stream.next_der().expect("memory can be read") {
            Some(Ok(der)) => found.push(der),
            Some(Err(_)) => faults += 1,
            None => break,
        }
    }
    assert_eq!(stream.next_der().expect("memory can be read"), None, "it never ends");
    if let Ok(whole) = whole {
        assert_eq!(found, whole);
        assert_eq!(faults, 0);
        for der in whole {
            let again = blocks::encode("CERTIFICATE", &der);
            assert_eq!(blocks::certificates(again.as_bytes()), Ok(vec![der]));
        }
    }
    let _ = inspect::from_pem(input);
}

/// A certificate in DER: all it says can be asked for, and it is what it was.
pub fn certificate(input: &[u8]) {
    let Ok(certificate) = Certificate::from_der(input.to_vec()) else { return };
    assert_eq!(certificate.der(), input);
    let text = format!("{certificate:?} {} {}", certificate.subject(), certificate.issuer());
    assert!(!text.chars().any(char::is_control), "{text:?} could steer a terminal");
    for san in certificate.sans() {
        let _ = san.to_string();
    }
    let _ = certificate.profile();
    let _ = (certificate.common_name(), certificate.organizations());
    let _ = (certificate.issuer_common_name(), certificate.has_strict_dates());
    let _ = (certificate.key_text(), certificate.signature_algorithm());
    let _ = (certificate.faults(), certificate.other_extensions());
    let _ = (certificate.ski().is_some(), certificate.aki().is_some());
    let _ = certificate.is_self_signed();
    assert!(!certificate.serial_hex().is_empty());
    assert!(!certificate.validity().not_after.to_string().is_empty());
    let again = inspect::from_pem(certificate.to_pem().as_bytes());
    assert_eq!(again.expect("what was written"), [certificate]);
}

/// A kubeconfig: read, all of it, or refused.
pub fn kubeconfig(input: &[u8]) {
    let Ok(view) = config::parse(input) else { return };
    for user in &view.users {
        assert_eq!(view.user(Some(&user.name)).map(|u| &u.name), Some(&user.name));
    }
    for cluster in &view.clusters {
        assert_eq!(view.cluster(Some(&cluster.name)).map(|c| &c.name), Some(&cluster.name));
    }
    let _ = (view.user(None), view.cluster(None));
}

/// Objects: every one handed out is counted, and stopping early stops.
pub fn secret(input: &[u8]) {
    let _ = object::looks_like_secret(input);
    let _ = object::looks_like_objects(input, true);
    let input = input.to_vec();
    let mut items = 0;
    let summary = object::objects(Cursor::new(input.clone()), "input", &mut |item| {
        items += 1;
        for entry in item.entries {
            if let Ok(value) = entry.value {
                let _ = inspect::from_pem(&value);
            }
        }
        ControlFlow::Continue(())
    });
    if let Ok(summary) = summary {
        assert!(summary.secrets <= items && items <= summary.secrets + summary.others);
        assert!(summary.faulty <= items);
    }
    let mut first = 0;
    let _ = object::objects(Cursor::new(input), "input", &mut |_| {
        first += 1;
        ControlFlow::Break(())
    });
    assert!(first <= 1);
}
