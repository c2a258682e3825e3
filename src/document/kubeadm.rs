//! kubeadm's configuration: what of it concerns the PKI.
//!
//! Fields of kubeadm's that certkit does not know are passed over: they are not certkit's to judge.

use super::{
    declaration::external_etcd,
    draft::{Draft, HostDraft},
    field::{FieldReader, not},
    yaml::Node,
};
use crate::model::{
    catalogue::CERTIFICATES,
    cluster::{API_PORT, Endpoint, HostName},
    san::San,
};

/// The versions of kubeadm's API that are read.
pub(super) const VERSIONS: [&str; 2] = ["kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta4"];

/// The kinds that describe a cluster; others of kubeadm's (JoinConfiguration, ...) are passed over.
pub(super) const KINDS: [&str; 2] = ["ClusterConfiguration", "InitConfiguration"];

/// Where kubeadm keeps certificates, and where Kubernetes looks for the rest.
const DIR: &str = "/etc/kubernetes";

pub(super) fn read(reader: &mut FieldReader, documents: &[&Node]) -> Draft {
    let mut draft = Draft::default();
    let [mut cluster, mut init] = [None, None];
    for document in documents {
        let slot = match document.get("kind").and_then(Node::text) {
            Some("ClusterConfiguration") => &mut cluster,
            _ => &mut init,
        };
        if slot.replace(*document).is_some() {
            reader.mistake(document, "kind", "stands here a second time".to_owned());
        }
    }
    let mut port = None;
    if let Some(document) = init {
        port = read_init(reader, document, &mut draft);
    }
    if let Some(document) = cluster {
        read_cluster(reader, document, &mut draft, port);
    }
    if draft.endpoint.is_none()
        && let Some(port) = port
        && let Some(address) = draft.control_plane.first().and_then(|host| host.addresses.first())
    {
        draft.endpoint = Some(Endpoint { host: San::Ip(*address), port });
    }
    draft
}

/// InitConfiguration: this control-plane host. Returns the port its apiserver binds.
fn read_init(reader: &mut FieldReader, document: &Node, draft: &mut Draft) -> Option<u16> {
    let mut host = HostDraft::default();
    let mut port = None;
    if let Some((field, node)) =
        at(reader, document, &["localAPIEndpoint", "advertiseAddress"], "controlPlane[0].addresses")
    {
        // To kubeadm the unspecified address means: find it out.
        let address = reader.address(node, &field).filter(|ip| !ip.is_unspecified());
        host.addresses.extend(address);
    }
    if let Some((field, node)) = at(reader, document, &["localAPIEndpoint", "bindPort"], "endpoint")
    {
        port = reader.parse::<u16>(node, &field).filter(|port| *port > 0);
    }
    if let Some((field, node)) =
        at(reader, document, &["nodeRegistration", "name"], "controlPlane[0].name")
    {
        let text = reader.text(node, &field).unwrap_or_default().trim().to_lowercase();
        host.name = reader.keep(node, &field, text.parse::<HostName>());
    }
    if let Some((field, node)) =
        at(reader, document, &["nodeRegistration", "kubeletExtraArgs"], "controlPlane[0].addresses")
    {
        for (value, node) in arguments(node, "node-ip") {
            for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                let address = part.parse().map_err(|_| not(part, "IP address"));
                if let Some(address) = reader.keep(node, &field, address)
                    && !host.addresses.contains(&address)
                    && !address.is_unspecified()
                {
                    host.addresses.push(address);
                }
            }
        }
    }
    host.port = port;
    if host != HostDraft::default() {
        draft.control_plane.push(host);
    }
    port
}

fn read_cluster(reader: &mut FieldReader, document: &Node, draft: &mut Draft, port: Option<u16>) {
    if let Some((field, node)) = at(reader, document, &["clusterName"], "name") {
        draft.name = reader.text(node, &field).map(str::to_owned);
    }
    if let Some((field, node)) = at(reader, document, &["controlPlaneEndpoint"], "endpoint") {
        draft.endpoint = reader.parse::<Endpoint>(node, &field);
        // Without a port, kubeadm takes the one the apiserver binds.
        if let (Some(endpoint), Some(port), Some(text)) = (&mut draft.endpoint, port, node.text())
            && endpoint.port == API_PORT
            && !text.ends_with(&format!(":{API_PORT}"))
        {
            endpoint.port = port;
        }
    }
    if let Some((field, node)) = at(reader, document, &["certificatesDir"], "hostDir")
        && let Some(text) = reader.text(node, &field)
    {
        let text = text.trim_end_matches('/');
        match text.strip_suffix("/pki") {
            Some(DIR) => {}
            Some(dir) if dir.starts_with('/') => draft.host_dir = Some(dir.to_owned()),
            _ => {
                let why = "must be an absolute path that ends in `/pki`: the kubeconfigs stand beside \
                           that folder";
                reader.mistake(node, &field, why.to_owned());
            }
        }
    }
    if let Some((field, node)) =
        at(reader, document, &["networking", "serviceSubnet"], "serviceSubnet")
    {
        draft.service_subnets = Some(reader.subnets(node, &field));
    }
    if let Some((field, node)) = at(reader, document, &["networking", "dnsDomain"], "dnsDomain") {
        draft.dns_domain = reader.text(node, &field).map(str::to_owned);
    }
    for (path, id) in CERTIFICATES.iter().filter_map(|spec| Some((spec.kubeadm_sans?, spec.id))) {
        if let Some((field, node)) = at(reader, document, path, &format!("extraSans.{id}")) {
            let read = |text: &str| San::parse(text).map_err(|error| error.to_string());
            let sans = reader.sans(node, &field, read);
            if !sans.is_empty() {
                draft.extra_sans.insert(id.to_string(), sans);
            }
        }
    }
    if let Some((field, node)) = at(reader, document, &["etcd", "external"], "etcd") {
        draft.etcd = Some({
            let fields = reader.entries(node, &field);
            external_etcd(reader, node, &field, fields)
        });
    }
    if let Some((field, node)) = at(reader, document, &["encryptionAlgorithm"], "keyAlgorithm") {
        draft.key_algorithm = reader.parse(node, &field);
    }
    if let Some((field, node)) =
        at(reader, document, &["certificateValidityPeriod"], "validity.leaf")
    {
        draft.leaf_validity = reader.parse(node, &field);
    }
    if let Some((field, node)) =
        at(reader, document, &["caCertificateValidityPeriod"], "validity.ca")
    {
        draft.ca_validity = reader.parse(node, &field);
    }
}

/// The value at this path and the path as text; nothing where any part of it is missing, null or an
/// empty text, which is how kubeadm's own output leaves things out. Faults that certkit finds later call
/// it `own`, as in `certkit.yaml`.
fn at<'n>(
    reader: &mut FieldReader,
    document: &'n Node,
    path: &[&str],
    own: &str,
) -> Option<(String, &'n Node)> {
    let mut node = document;
    for (depth, key) in path.iter().enumerate() {
        if node.map().is_none() {
            reader.kind(node, &path[..depth].join("."), "a mapping");
            return None;
        }
        node = node.get(key)?;
    }
    reader.locate(own, node);
    (node.text() != Some("")).then(|| (path.join("."), node))
}

/// The values of an argument: v1beta3 has a mapping, v1beta4 a list of `name` and `value`.
fn arguments<'n>(node: &'n Node, name: &str) -> Vec<(&'n str, &'n Node)> {
    let value = |node: &'n Node| Some((node.text()?, node));
    match node.list() {
        None => node.get(name).and_then(value).into_iter().collect(),
        Some(items) => items
            .iter()
            .filter(|item| item.get("name").and_then(Node::text) == Some(name))
            .filter_map(|item| item.get("value").and_then(value))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
