use std::{fs, path::Path};

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(root.join("tests/fixtures/kubeadm-yaml").join(name)).unwrap()
}

const FIXTURES: [&str; 5] = ["admin", "controller-manager", "kubelet", "scheduler", "super-admin"];

fn data(material: &Option<Material>) -> Zeroizing<Vec<u8>> {
    match material {
        Some(Material::Data(octets)) => octets.clone(),
        other => panic!("no data: {other:?}"),
    }
}

#[test]
fn what_is_rendered_is_kubeadms_octet_for_octet() {
    for folder in ["ecdsa-p256", "rsa-2048"] {
        for name in FIXTURES {
            let bytes = fixture(&format!("{folder}/{name}.conf"));
            let view = parse(&bytes).unwrap();
            let (cluster, user) = (view.cluster(None).unwrap(), view.user(None).unwrap());
            let config = Kubeconfig {
                cluster: cluster.name.clone(),
                server: cluster.server.clone().unwrap(),
                user: user.name.clone(),
                authority: Authority::Data(data(&cluster.ca).to_vec()),
                credential: Credential::Data {
                    cert: data(&user.cert).to_vec(),
                    key: data(&user.key),
                },
            };
            assert!(data(&user.cert).starts_with(b"-----BEGIN CERTIFICATE-----"));
            let (ours, theirs) = (render(&config), String::from_utf8(bytes).unwrap());
            assert!(ours.as_str() == theirs, "{folder}/{name}.conf");
        }
    }
}
