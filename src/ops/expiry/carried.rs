//! The certificates of objects as a cluster's API answers, and of the kubelets that it knows.

use std::{io::Cursor, net::IpAddr, ops::ControlFlow, time::Duration};

use super::{
    facts,
    octets::{Octets, Sample},
    row,
};
use zeroize::Zeroizing;

use crate::{
    document::object,
    model::{
        carrier::{Carrier, Glance, KubeletAddress, StaleCopy, TrustPlace},
        catalogue::{CarrierKind, CertId, roles},
        check::expiry::{Found, Inside, Origin, Row, RowRole},
        shown::{self, with_causes},
        timestamp::Timestamp,
        trust::{CopyFault, KnownTrust},
    },
    ops::trust,
    pki::{inspect::Certificate, keystore},
    tls::probe::{self, Target},
};

/// Kubelets asked at a time.
const PARALLEL: usize = 16;
/// Of what pods mount values, or have them as environment variables.
const MOUNTED: [&str; 2] = ["ConfigMap", "Secret"];
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks through a page of objects; of Secrets at nothing but what may be certificates, and nothing else is kept.
/// What of it are copies of a CA is held against what is published.
pub fn of_page(page: Vec<u8>, known: &[KnownTrust]) -> Result<Glance, String> {
    let octets = Octets { details: true, passwords: &[] };
    let mut look = Glance::default();
    let page = Cursor::new(Zeroizing::new(page));
    let read = object::objects(page, "the API's answer", &mut |mut item| {
        let carrier = Carrier {
            kind: item.kind.clone().unwrap_or_default(),
            namespace: item.namespace.clone(),
            name: item.name.clone().unwrap_or_default(),
            uid: item.uid.clone().unwrap_or_default(),
        };
        let before = item.entries.len();
        // Whoever opens one knows its password. Trying none costs what whoever made it has decided.
        item.entries
            .retain(|entry| !entry.value.as_ref().is_ok_and(|value| keystore::is_pkcs12(value)));
        look.closed += before - item.entries.len();
        let (namespace, name) = (carrier.namespace.as_deref(), carrier.name.as_str());
        let path = match CarrierKind::of(&carrier.kind) {
            Some(kind) => kind.path_of(namespace.map(shown::name).as_deref(), &shown::name(name)),
            None => shown::name(name),
        };
        let copies = copies(&item, known);
        let changed = item.changed.unwrap_or(Timestamp::MIN);
        let mut rows = Vec::new();
        octets.object(item, &Sample::objects(&path), &mut |row| {
            rows.push(row);
            true
        });
        let carrier = look.add(carrier, rows);
        for (key, authority, fault) in copies {
            if let Some(fault) = fault {
                let (carrier, key) = (carrier.clone(), key.clone());
                look.stale.push(StaleCopy { carrier, key, authority, fault, container: None });
            }
            if MOUNTED.contains(&carrier.kind.as_str()) {
                look.trust.push(TrustPlace { carrier: carrier.clone(), key, authority, changed });
            }
        }
        ControlFlow::Continue(())
    });
    read.map(|_| look).map_err(|error| with_causes(&error))
}

/// What of an object is a copy of a CA: where, of which, and what is wrong with it.
fn copies(
    item: &object::Item,
    known: &[KnownTrust],
) -> Vec<(String, &'static str, Option<CopyFault>)> {
    let mut copies = Vec::new();
    for entry in &item.entries {
        let Ok(value) = &entry.value else { continue };
        let held = trust::held(value);
        let of = known.iter().filter(|known| known.is_copy(&held));
        copies.extend(of.map(|one| (entry.key.clone(), one.authority, one.fault(&held))));
    }
    copies
}

/// What they serve. A Node object is its kubelet's to write, so that none can have certkit knock at its own door.
pub fn of_kubelets(kubelets: &[KubeletAddress]) -> Glance {
    let id = roles::KUBELET_SERVING.id;
    let asked = kubelets.iter().map(|kubelet| match kubelet.address {
        Some(address) if is_no_nodes(address) => {
            Err(format!("its Node object says {address}, which is no node's address"))
        }
        Some(address) => Ok(Target { host: address.to_string(), port: kubelet.port, sni: None }),
        None => Err("its Node object has no InternalIP".to_owned()),
    });
    let asked: Vec<Result<Target, String>> = asked.collect();
    let targets: Vec<Target> = asked.iter().filter_map(|asked| asked.clone().ok()).collect();
    let mut answers = probe::probe_all(&targets, PATIENCE, PARALLEL).into_iter();
    let mut look = Glance::default();
    for (kubelet, asked) in kubelets.iter().zip(asked) {
        let row = match asked {
            Err(why) => listener(None, kubelet, Found::Unreadable(why), id),
            // There is an answer for each target.
            Ok(target) => match answers.next() {
                Some(Ok(served)) => served_by(kubelet, &target, &served, id),
                Some(Err(error)) => {
                    let why = super::shown(std::path::Path::new(&with_causes(&error)));
                    listener(Some(&target), kubelet, Found::Unreadable(why), id)
                }
                None => continue,
            },
        };
        look.add(kubelet.node.clone(), vec![row]);
    }
    look
}

fn served_by(kubelet: &KubeletAddress, target: &Target, served: &probe::Served, id: CertId) -> Row {
    let leaf = served.chain.first().map(|der| Certificate::from_der(der.clone()));
    match leaf {
        Some(Ok(leaf)) => {
            let authority = match leaf.is_self_issued() {
                true => None,
                false => leaf.issuer_common_name(),
            };
            let found = facts(&leaf, true);
            Row { authority, ..listener(Some(target), kubelet, found, id) }
        }
        Some(Err(error)) => {
            let why = format!("serves what is no certificate: {}", with_causes(&error));
            listener(Some(target), kubelet, Found::Unreadable(why), id)
        }
        None => {
            let why = "serves no certificate".to_owned();
            listener(Some(target), kubelet, Found::Unreadable(why), id)
        }
    }
}

fn listener(target: Option<&Target>, kubelet: &KubeletAddress, found: Found, id: CertId) -> Row {
    let node = shown::name(&kubelet.node.name);
    let (name, path) = match target {
        Some(target) => (format!("{target} ({id})"), target.to_string()),
        None => (format!("{node} ({id})"), node.clone()),
    };
    let origin = Origin { path, inside: Some(Inside::Listener) };
    Row { host: Some(node), ..row(name, origin, RowRole::Leaf, found) }
}

/// Whether no node can have this address for others.
fn is_no_nodes(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_node_can_have_is_not_asked() {
        let node = |address: Option<&str>| KubeletAddress {
            node: Carrier { kind: "Node".into(), name: "w".into(), ..Carrier::default() },
            address: address.map(|address| address.parse().unwrap()),
            port: 1,
        };
        let all = [
            Some("127.0.0.1"),
            Some("::1"),
            Some("::ffff:127.0.0.1"),
            Some("169.254.169.254"),
            Some("fe80::1"),
            Some("0.0.0.0"),
            Some("224.0.0.1"),
            None,
        ];
        let look = of_kubelets(&all.map(node));
        assert_eq!(look.carried.len(), all.len());
        for carried in look.carried {
            let Found::Unreadable(why) = &carried.row.found else { panic!("{carried:?}") };
            assert!(why.starts_with("its Node object "), "{why}");
        }
    }

    #[test]
    fn what_is_hostile_in_a_page_is_told_and_harmless() {
        let page = serde_json::json!({
            "kind": "ConfigMapList", "apiVersion": "v1", "metadata": {},
            "items": [
                {"metadata": {"name": "a\u{1b}[31m\n", "namespace": "n", "uid": "u"},
                 "data": {"ca.crt": "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"}},
                {"metadata": {"name": "cut", "namespace": "n"},
                 "data": {"x": "-----BEGIN CERTIFICATE-----\nMIIB"}},
                {"metadata": {"name": "many", "namespace": "n"},
                 "data": {"ca.crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".repeat(10_000)}},
                {"metadata": {"name": "plain", "namespace": "n"}, "data": {"a": "b"}},
                {"metadata": null, "data": {"ca.crt": 7}},
                {"metadata": {"name": "config", "namespace": "n"},
                 "data": {"config": "apiVersion: v1\nkind: Config\nusers: [{name: &a *a}]\nclient-certificate-data: x"}},
            ],
        });
        let look = of_page(page.to_string().into_bytes(), &[]).unwrap();
        assert!(look.crowded > 9_000, "{}", look.crowded);
        let of = |name: &str| look.carried.iter().filter(|c| c.carrier.name == name).count();
        assert_eq!((of("a\u{1b}[31m\n"), of("cut"), of("plain")), (1, 1, 0));
        for carried in &look.carried {
            assert!(matches!(carried.row.found, Found::Unreadable(_)), "{carried:?}");
            assert!(!carried.row.name.chars().any(char::is_control), "{carried:?}");
            assert!(!carried.row.origin.path.chars().any(char::is_control), "{carried:?}");
        }
        assert!(of_page(b"{\"items\": 7}".to_vec(), &[]).is_err());
        assert!(of_page(b"".to_vec(), &[]).is_err());
    }
}
