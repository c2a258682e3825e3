//! `certkit.yaml`: the cluster as declared.

mod absent;
mod nodes;
mod signers;

use std::{collections::BTreeMap, fmt::Write};

pub use self::{
    absent::with_absent,
    nodes::{with_nodes, with_nodes_of_file},
};
use super::{
    DocumentError,
    draft::{Draft, EtcdDraft, HostDraft},
    field::{FieldReader, not},
    yaml::{Node, Position, scalar},
};
use crate::model::{
    cluster::{
        Cluster, DeclaredSubject, Etcd, ExternalEtcdFiles, Host, HostKeys, KubeconfigStyle,
        Override, Usages, signers as declared_signers,
    },
    der::SEQUENCE,
    hex::{hex, unhex},
    name::Name,
    owner,
    san::San,
    shown::quoted,
    usage::{ExtendedUsage, KeyUsages},
};

pub(super) const API_VERSION: &str = "certkit/v1";
pub(super) const KIND: &str = "Cluster";

const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "layout",
    "endpoint",
    "formerEndpoints",
    "dnsDomain",
    "serviceSubnet",
    "keyAlgorithm",
    "validity",
    "controlPlane",
    "etcd",
    "externalEtcd",
    "nodes",
    "extraSans",
    "addons",
    "overrides",
    "kubeconfigStyle",
    "singleRoot",
    KEYS,
    owner::FIELD,
    "hostDir",
    declared_signers::FIELD,
    "absent",
];

/// Where private keys are made: all of them, or by the list of their hosts.
const KEYS: &str = "keys";
const KEY_SCOPES: [&str; 3] = ["controlPlane", "etcd", "nodes"];

/// The fields of `externalEtcd`: kubeadm's.
const EXTERNAL: [&str; 4] = ["caFile", "certFile", "keyFile", "endpoints"];

pub(super) fn read(reader: &mut FieldReader, document: &Node) -> Draft {
    let mut draft = Draft::default();
    for (key, field, node) in reader.fields(document, "", FIELDS) {
        let field = field.as_str();
        match key {
            "name" => draft.name = reader.text(node, field).map(str::to_owned),
            "layout" => {
                draft.workspace = match reader.text(node, field) {
                    Some("host") => Some(false),
                    Some("workspace") => Some(true),
                    Some(_) => {
                        let why = "is neither `host` nor `workspace`".to_owned();
                        reader.mistake(node, field, why);
                        None
                    }
                    None => None,
                };
            }
            "endpoint" => draft.endpoint = reader.parse(node, field),
            "formerEndpoints" => draft.former_endpoints = reader.sans(node, field, read_san),
            "dnsDomain" => draft.dns_domain = reader.text(node, field).map(str::to_owned),
            "serviceSubnet" => draft.service_subnets = Some(reader.subnets(node, field)),
            "keyAlgorithm" => draft.key_algorithm = reader.parse(node, field),
            "validity" => {
                for (key, field, node) in reader.fields(node, field, &["ca", "leaf"]) {
                    match key {
                        "ca" => draft.ca_validity = reader.parse(node, &field),
                        _ => draft.leaf_validity = reader.parse(node, &field),
                    }
                }
            }
            "controlPlane" => draft.control_plane = hosts(reader, node, field),
            "etcd" | "externalEtcd" if draft.etcd.is_some() => {
                let why = "`etcd` and `externalEtcd` exclude one another".to_owned();
                reader.mistake(node, field, why);
            }
            "etcd" => draft.etcd = Some(EtcdDraft::Hosts(hosts(reader, node, field))),
            "externalEtcd" => {
                let fields = reader.fields(node, field, &EXTERNAL);
                draft.etcd = Some(external_etcd(reader, node, field, fields));
            }
            "nodes" if node.map().is_some() => draft.include = include(reader, node, field),
            "nodes" => draft.nodes = hosts(reader, node, field),
            "extraSans" => {
                for (id, field, node) in reader.entries(node, field) {
                    let sans = reader.sans(node, &field, read_san);
                    draft.extra_sans.insert(id.to_owned(), sans);
                }
            }
            "addons" => draft.addons = reader.texts(node, field),
            "overrides" => {
                for (id, field, node) in reader.entries(node, field) {
                    let over = read_override(reader, node, &field);
                    draft.overrides.insert(id.to_owned(), over);
                }
            }
            "kubeconfigStyle" => {
                draft.kubeconfig_style = match reader.text(node, field) {
                    Some("files") => Some(KubeconfigStyle::Files),
                    Some("embedded") => Some(KubeconfigStyle::Embedded),
                    Some(_) => {
                        let why = "is neither `files` nor `embedded`".to_owned();
                        reader.mistake(node, field, why);
                        None
                    }
                    None => None,
                };
            }
            "singleRoot" => draft.single_root = reader.flag(node, field),
            KEYS => draft.host_keys = host_keys(reader, node, field),
            owner::FIELD => {
                let components = crate::model::cluster::owners::components();
                for (key, field, node) in reader.fields(node, field, &components) {
                    let owner = reader.parse(node, &field);
                    let component = components.iter().find(|component| **component == key);
                    draft.owners.extend(component.copied().zip(owner));
                }
            }
            declared_signers::FIELD => draft.signers = signers::read(reader, node, field),
            "absent" => draft.absent = reader.texts(node, field).into_iter().collect(),
            "hostDir" => draft.host_dir = reader.text(node, field).map(str::to_owned),
            _ => {}
        }
    }
    draft
}

/// On which hosts private keys are made: `host` for all, or a word for each list of hosts.
fn host_keys(reader: &mut FieldReader, node: &Node, path: &str) -> HostKeys {
    let is_host =
        |reader: &mut FieldReader, node: &Node, field: &str| match reader.text(node, field) {
            Some("host") => true,
            Some("workspace") | None => false,
            Some(_) => {
                reader.mistake(node, field, "is neither `host` nor `workspace`".to_owned());
                false
            }
        };
    let mut keys = HostKeys::default();
    if node.map().is_none() {
        return if is_host(reader, node, path) { HostKeys::ALL } else { keys };
    }
    for (key, field, node) in reader.fields(node, path, &KEY_SCOPES) {
        let made_there = is_host(reader, node, &field);
        match key {
            "controlPlane" => keys.control_plane = made_there,
            "etcd" => keys.etcd = made_there,
            _ => keys.nodes = made_there,
        }
    }
    keys
}

/// The one field of `nodes` where other files declare them.
const INCLUDE: &str = "include";

/// Which files declare nodes: one pattern or several.
fn include(reader: &mut FieldReader, node: &Node, path: &str) -> Vec<String> {
    let mut patterns = Vec::new();
    for (_, field, node) in reader.fields(node, path, &[INCLUDE]) {
        reader.locate(&field, node);
        let items = match node.list() {
            Some(_) => reader.items(node, &field),
            None => vec![(field, node)],
        };
        for (field, item) in items {
            let Some(text) = reader.text(item, &field) else { continue };
            match pattern_fault(text) {
                None => patterns.push(text.to_owned()),
                Some(why) => reader.mistake(item, &field, format!("{}: {why}", quoted(text))),
            }
        }
    }
    if patterns.is_empty() && reader.is_content() {
        reader.mistake(node, path, format!("needs `{INCLUDE}` with a file, or a list of nodes"));
    }
    patterns
}

/// Why a text names no files that may be included.
fn pattern_fault(text: &str) -> Option<&'static str> {
    let (folder, name) = text.rsplit_once('/').unwrap_or(("", text));
    let wrong = |part: &str| part.is_empty() || part.starts_with('.');
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Some("write a path relative to certkit.yaml that does not leave its directory");
    }
    if wrong(name) || (!folder.is_empty() && folder.split('/').any(wrong)) {
        return Some("no part of the path may be empty or begin with a dot");
    }
    folder.contains('*').then_some("`*` may stand in the last part of the path only")
}

/// A further file that declares nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFile {
    /// The nodes.
    pub nodes: Vec<HostDraft>,
    /// Where each field stands.
    pub places: BTreeMap<String, Position>,
}

/// Reads a file that `nodes.include` names: `nodes`, as in certkit.yaml, and nothing else.
pub fn read_nodes(bytes: &[u8], file: &str) -> Result<NodeFile, DocumentError> {
    let documents = super::documents(bytes, file)?;
    let mut reader = FieldReader::default();
    let mut nodes = Vec::new();
    if let Some(second) = documents.get(1) {
        reader.mistake(second, "nodes", "a second document; a file has one".to_owned());
    }
    for (_, field, node) in reader.fields(&documents[0], "", &["nodes"]) {
        nodes = hosts(&mut reader, node, &field);
    }
    Ok(NodeFile { nodes, places: reader.finish(file)? })
}

/// The hosts that have an apiserver, and so a port of their own.
const CONTROL_PLANE: &str = "controlPlane";

fn hosts(reader: &mut FieldReader, node: &Node, path: &str) -> Vec<HostDraft> {
    let mut hosts = Vec::new();
    let known = match path {
        CONTROL_PLANE => &["name", "addresses", "port", "ssh"][..],
        _ => &["name", "addresses", "ssh"],
    };
    for (path, item) in reader.items(node, path) {
        let mut host = HostDraft::default();
        let mut named = item.map().is_none();
        for (key, field, node) in reader.fields(item, &path, known) {
            if key == "name" {
                named = true;
                host.name = reader.parse(node, &field);
                continue;
            } else if key == "port" {
                host.port = reader.parse(node, &field);
                continue;
            } else if key == "ssh" {
                host.ssh = reader.parse(node, &field);
                continue;
            }
            for (field, node) in reader.items(node, &field) {
                host.addresses.extend(reader.address(node, &field));
            }
        }
        if !named {
            reader.mistake(item, &format!("{path}.name"), "is missing".to_owned());
        }
        hosts.push(host);
    }
    hosts
}

/// An etcd elsewhere, from fields of the same names in certkit's file and kubeadm's.
pub(super) fn external_etcd(
    reader: &mut FieldReader,
    node: &Node,
    path: &str,
    fields: Vec<(&str, String, &Node)>,
) -> EtcdDraft {
    let mut endpoints = Vec::new();
    let mut files = [None, None, None];
    for (key, field, node) in fields {
        if key == "endpoints" {
            for (field, node) in reader.items(node, &field) {
                let Some(text) = reader.text(node, &field) else { continue };
                let url = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
                match url.is_some_and(|rest| {
                    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic())
                }) {
                    true => endpoints.push(text.to_owned()),
                    false => {
                        let why = format!("{}; write https://HOST:PORT", not(text, "URL"));
                        reader.mistake(node, &field, why);
                    }
                }
            }
            continue;
        }
        let Some(slot) = EXTERNAL.iter().position(|name| *name == key) else { continue };
        let Some(text) = reader.text(node, &field).filter(|text| !text.is_empty()) else {
            continue;
        };
        if !text.starts_with('/') || text.chars().any(char::is_control) {
            reader.mistake(node, &field, not(text, "absolute path"));
        }
        files[slot] = Some(text.to_owned());
    }
    if endpoints.is_empty() && reader.is_content() {
        reader.mistake(node, path, "needs at least one of `endpoints`".to_owned());
    }
    let files = match files {
        [Some(ca), Some(cert), Some(key)] => Some(ExternalEtcdFiles { ca, cert, key }),
        [None, None, None] => None,
        _ => {
            let why = "`caFile`, `certFile` and `keyFile` go together".to_owned();
            reader.mistake(node, path, why);
            None
        }
    };
    EtcdDraft::External { endpoints, files }
}

fn read_override(reader: &mut FieldReader, node: &Node, path: &str) -> Override {
    let mut over = Override::default();
    let known = ["validity", "keyAlgorithm", "subject", "sans", "usages"];
    for (key, field, node) in reader.fields(node, path, &known) {
        match key {
            "validity" => over.validity = reader.parse(node, &field),
            "keyAlgorithm" => over.key_algorithm = reader.parse(node, &field),
            "subject" => {
                let mut subject = DeclaredSubject::default();
                let known = ["organizations", "commonName", "der"];
                for (key, field, node) in reader.fields(node, &field, &known) {
                    let text =
                        |reader: &mut FieldReader| reader.text(node, &field).map(str::to_owned);
                    match key {
                        "organizations" => subject.organizations = reader.texts(node, &field),
                        "commonName" => subject.common_name = text(reader).unwrap_or_default(),
                        _ => {
                            let read = text(reader).map(|text| read_name(&text));
                            over.raw_subject = read.and_then(|r| reader.keep(node, &field, r));
                        }
                    }
                }
                if over.raw_subject.is_none() {
                    over.subject = Some(subject);
                }
            }
            "usages" => {
                let mut usages = Usages::default();
                for (field, node) in reader.items(node, &field) {
                    let text = reader.text(node, &field).map(str::to_owned);
                    let read = text.map(|text| read_usage(&text, &mut usages));
                    read.and_then(|r| reader.keep(node, &field, r));
                }
                over.usages = Some(usages);
            }
            _ => over.sans = Some(reader.sans(node, &field, read_san)),
        }
    }
    over
}

/// A subject that organizations and a common name cannot say.
fn read_name(hex: &str) -> Result<Name, String> {
    let der = unhex(hex).filter(|der| der.first() == Some(&SEQUENCE));
    let der = der.ok_or_else(|| not(hex, "name's DER in hexadecimal"))?;
    Ok(Name::from_der(der, format!("#{hex}")))
}

/// Adds one usage by RFC 5280's name, or an extended one by its object identifier.
fn read_usage(text: &str, usages: &mut Usages) -> Result<(), String> {
    let bit = (0..9).map(|bit| KeyUsages(1 << bit)).find(|bit| bit.names().next() == Some(text));
    match (bit, text) {
        (Some(bit), _) => usages.key.0 |= bit.0,
        (None, "serverAuth") => usages.extended.push(ExtendedUsage::ServerAuth),
        (None, "clientAuth") => usages.extended.push(ExtendedUsage::ClientAuth),
        (None, oid)
            if oid.contains('.') && oid.bytes().all(|b| b.is_ascii_digit() || b == b'.') =>
        {
            usages.extended.push(ExtendedUsage::Other(oid.to_owned()));
        }
        _ => return Err(not(text, "usage")),
    }
    Ok(())
}

/// Reads a name as [`San::parse`] does, and with a prefix what it would not let pass: a certificate made
/// by something else may hold anything, and its description must be able to say so.
fn read_san(text: &str) -> Result<San, String> {
    if let Some(hex) = text.strip_prefix("other:") {
        return unhex(hex).map(from_general_name).ok_or_else(|| not(text, "name in hexadecimal"));
    }
    let typed = match text.split_once(':') {
        Some(("DNS", name)) => San::Dns(name.to_owned()),
        Some(("URI", name)) => San::Uri(name.to_owned()),
        Some(("email", name)) => San::Email(name.to_owned()),
        Some(("IP", address)) => San::Ip(address.parse().map_err(|_| not(address, "IP address"))?),
        _ => return San::parse(text).map_err(|error| error.to_string()),
    };
    match is_visible(&typed) {
        true => Ok(typed),
        false => Err(format!("{}: only visible ASCII characters are allowed", not(text, "name"))),
    }
}

/// The text that [`read_san`] reads as this name.
fn san(san: &San) -> String {
    let bare = match san {
        San::Ip(ip) => return ip.to_string(),
        San::Dns(text) | San::Email(text) | San::Uri(text) if is_visible(san) => text,
        _ => {
            return format!("other:{}", hex(&san.general_name()));
        }
    };
    let kind = match san {
        _ if read_san(bare).as_ref() == Ok(san) => return bare.clone(),
        San::Email(_) => "email",
        San::Uri(_) => "URI",
        San::Dns(_) | San::Ip(_) | San::Other(_) => "DNS",
    };
    format!("{kind}:{bare}")
}

fn is_visible(san: &San) -> bool {
    match san {
        San::Dns(text) | San::Email(text) | San::Uri(text) => {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
        }
        San::Ip(_) => true,
        San::Other(_) => false,
    }
}

/// A name of DER. What has a kind of its own but no visible text (see [`san`]) gets its kind back.
fn from_general_name(der: Vec<u8>) -> San {
    let text = std::str::from_utf8(der.get(2..).unwrap_or_default()).unwrap_or_default();
    let typed = match der.first() {
        Some(0x81) => San::Email(text.to_owned()),
        Some(0x82) => San::Dns(text.to_owned()),
        Some(0x86) => San::Uri(text.to_owned()),
        _ => return San::Other(der),
    };
    match typed.general_name() == der {
        true => typed,
        false => San::Other(der),
    }
}

/// `certkit.yaml`'s text for a cluster: read again and completed, it is this cluster.
pub fn write(cluster: &Cluster) -> String {
    let mut text = format!(
        "apiVersion: {API_VERSION}\nkind: {KIND}\nname: {}\nlayout: {}\nendpoint: {}\ndnsDomain: {}\n",
        scalar(&cluster.name),
        if cluster.workspace { "workspace" } else { "host" },
        scalar(&cluster.endpoint.to_string()),
        scalar(&cluster.dns_domain),
    );
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a String never fails.
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    if !cluster.former_endpoints.is_empty() {
        line(format_args!("{}", former_endpoints(&cluster.former_endpoints)));
    }
    let subnets = row(cluster.service_subnets.iter().map(ToString::to_string));
    line(format_args!("serviceSubnet: {subnets}"));
    line(format_args!("keyAlgorithm: {}", cluster.key_algorithm));
    line(format_args!(
        "validity: {{ca: {}, leaf: {}}}",
        cluster.validity.ca, cluster.validity.leaf
    ));
    let mut hosts = |list: &str, of: &dyn Fn(&&Host) -> bool| {
        let mut of = cluster.hosts.iter().filter(of).peekable();
        if of.peek().is_some() {
            line(format_args!("{list}:"));
        }
        for host in of {
            let addresses = row(host.addresses.iter().map(ToString::to_string));
            let name = scalar(host.name.as_ref());
            let port = host.port.map(|port| format!(", port: {port}")).unwrap_or_default();
            let ssh = host.ssh.as_ref().map(|to| format!(", ssh: {}", scalar(to.as_ref())));
            let ssh = ssh.unwrap_or_default();
            line(format_args!("  - {{name: {name}, addresses: {addresses}{port}{ssh}}}"));
        }
    };
    hosts("controlPlane", &|host| host.control_plane);
    hosts("etcd", &|host| host.etcd && !host.control_plane);
    hosts("nodes", &|host| host.is_only_node());
    if let Etcd::External { endpoints, files } = &cluster.etcd {
        line(format_args!("externalEtcd:\n  endpoints: {}", row(endpoints.iter().cloned())));
        if let Some(ExternalEtcdFiles { ca, cert, key }) = files {
            let [ca, cert, key] = [ca, cert, key].map(|path| scalar(path));
            line(format_args!("  caFile: {ca}\n  certFile: {cert}\n  keyFile: {key}"));
        }
    }
    if !cluster.extra_sans.is_empty() {
        line(format_args!("extraSans:"));
    }
    for (id, sans) in &cluster.extra_sans {
        line(format_args!("  {}: {}", scalar(id), row(sans.iter().map(san))));
    }
    if !cluster.addons.is_empty() {
        line(format_args!("addons: {}", row(cluster.addons.iter().cloned())));
    }
    if !cluster.overrides.is_empty() {
        line(format_args!("overrides:"));
    }
    for (id, over) in &cluster.overrides {
        line(format_args!("  {}: {{{}}}", scalar(id), override_fields(over)));
    }
    if cluster.kubeconfig_style == KubeconfigStyle::Embedded {
        line(format_args!("kubeconfigStyle: embedded"));
    }
    if cluster.single_root {
        line(format_args!("singleRoot: true"));
    }
    if cluster.host_keys == HostKeys::ALL {
        line(format_args!("{KEYS}: host"));
    } else if cluster.host_keys != HostKeys::default() {
        let HostKeys { control_plane, etcd, nodes } = cluster.host_keys;
        let made = KEY_SCOPES.into_iter().zip([control_plane, etcd, nodes]);
        let made: Vec<String> =
            made.filter(|(_, on)| *on).map(|(k, _)| format!("{k}: host")).collect();
        line(format_args!("{KEYS}: {{{}}}", made.join(", ")));
    }
    if !cluster.owners.is_empty() {
        line(format_args!("{}:", owner::FIELD));
    }
    for (component, owner) in &cluster.owners {
        line(format_args!("  {}: {}", scalar(component), scalar(&owner.to_string())));
    }
    if let Some(dir) = &cluster.host_dir {
        line(format_args!("hostDir: {}", scalar(dir)));
    }
    if !cluster.absent.is_empty() {
        line(format_args!("absent: {}", row(cluster.absent.iter().cloned())));
    }
    text + &signers::write(&cluster.signers)
}

/// The line that names former endpoints.
fn former_endpoints(hosts: &[San]) -> String {
    format!("formerEndpoints: {}", row(hosts.iter().map(san)))
}

/// `certkit.yaml`'s text with these former endpoints, all else in it left alone, comments included; nothing
/// where it is written in a way that a line cannot be added to.
pub fn with_former_endpoints(text: &str, hosts: &[San]) -> Option<String> {
    let line = former_endpoints(hosts);
    let is_it = |line: &str| line.starts_with("formerEndpoints:");
    let mut lines: Vec<&str> = text.lines().filter(|line| !is_it(line)).collect();
    let after = lines.iter().position(|line| line.starts_with("endpoint:"));
    lines.insert(after.map_or(lines.len(), |at| at + 1), &line);
    let changed = lines.join("\n") + "\n";
    // Written over several lines, or in JSON, it is another document now.
    let read = |text: &str| super::read(text.as_bytes(), "").ok();
    let expected = super::Draft {
        former_endpoints: hosts.to_vec(),
        places: Default::default(),
        ..read(text)?
    };
    let found = super::Draft { places: Default::default(), ..read(&changed)? };
    (found == expected).then_some(changed)
}

fn override_fields(over: &Override) -> String {
    let mut fields = Vec::new();
    if let Some(validity) = over.validity {
        fields.push(format!("validity: {validity}"));
    }
    if let Some(algorithm) = over.key_algorithm {
        fields.push(format!("keyAlgorithm: {algorithm}"));
    }
    if let Some(DeclaredSubject { organizations, common_name }) = &over.subject {
        let organizations = row(organizations.iter().cloned());
        let name = scalar(common_name);
        fields.push(format!("subject: {{organizations: {organizations}, commonName: {name}}}"));
    }
    if let Some(name) = &over.raw_subject {
        fields.push(format!("subject: {{der: {}}}", scalar(&hex(name.der()))));
    }
    if let Some(usages) = &over.usages {
        let key = usages.key.names().map(str::to_owned);
        let extended = usages.extended.iter().map(ToString::to_string);
        fields.push(format!("usages: {}", row(key.chain(extended))));
    }
    if let Some(sans) = &over.sans {
        fields.push(format!("sans: {}", row(sans.iter().map(san))));
    }
    fields.join(", ")
}

/// A list in one line.
fn row(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| scalar(&item)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
