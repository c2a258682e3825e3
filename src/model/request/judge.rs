//! The judge: a pure function from a request and what is known of the cluster to a ruling.

mod own;

use std::collections::BTreeSet;

use super::{
    AUTHENTICATED, CertificateRequest, Inventory, NODE_GROUP, NODE_USER, NodeRegister,
    RequestContent, RequestFault as Fault, RequestObjection, RequestSigner, TOKEN_GROUP,
    TOKEN_OF_NODE, UnreadableRequest, is_strong,
};
use crate::model::{
    catalogue::CertSpec,
    duration::Span,
    profile::Profile,
    san::{San, dns_name_fault},
    shown::quoted,
};

/// What is held against every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPolicy {
    /// How many certificates of one kind a node is given within `window`.
    pub limit: usize,
    /// How many the pods of a service account on one node are given within `window`.
    pub pods: usize,
    /// The time that is counted over.
    pub window: Span,
}

/// All pods that a kubelet takes by default (110), started four times in an hour, or those of a large node that get a new
/// certificate every 40 minutes, the shortest time that there is.
pub const POD_LIMIT: usize = 500;

impl Default for RequestPolicy {
    /// A kubelet asks once when it starts, when its addresses change, and then after 70 to 90 % of a term.
    fn default() -> Self {
        Self { limit: 5, pods: POD_LIMIT, window: Span(3600) }
    }
}

/// What the cluster's other requests say about this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How many requests of this node, or in this name, to this signer were approved within the policy's window.
    pub granted: usize,
    /// Another request, older or approved, that asks for the same key.
    pub same_key: Option<String>,
}

/// What is to become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is what this node, person or program may have, and nothing else.
    Approve {
        /// Whom the certificate names.
        whom: String,
        /// On what ground, in words.
        ground: String,
        /// What is to be signed, where that is not Kubernetes' to do.
        grant: Option<Box<Grant>>,
    },
    /// It never will be.
    Deny(Vec<RequestObjection>),
    /// It may become right, or is somebody else's to decide.
    Leave(Vec<RequestObjection>),
}

/// A certificate that is to be signed: all that is in it, but for the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The CA that signs.
    pub authority: &'static CertSpec,
    /// What the certificate says.
    pub profile: Profile,
    /// How long it is valid, from now on.
    pub term: Span,
    /// And how long before now, for clocks that are behind.
    pub backdate: Span,
    /// The key (SubjectPublicKeyInfo) as DER.
    pub public_key: Vec<u8>,
}

impl PartialEq for CertSpec {
    /// Rows are told apart by their ids.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for CertSpec {}

impl Ruling {
    /// Why it is not approved; nothing where it is.
    pub fn objections(&self) -> &[RequestObjection] {
        match self {
            Self::Approve { .. } => &[],
            Self::Deny(objections) | Self::Leave(objections) => objections,
        }
    }

    /// Its name in output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Approve { .. } => "approve",
            Self::Deny(_) => "deny",
            Self::Leave(_) => "leave",
        }
    }
}

/// Judges a request. Every objection is told, not only the first.
pub fn judge(
    request: &CertificateRequest,
    inventory: &Inventory,
    history: &History,
    policy: &RequestPolicy,
) -> Ruling {
    let Some(signer) = RequestSigner::of(&request.signer) else {
        let detail = format!("the signer is {}", quoted(&request.signer));
        return Ruling::Leave(vec![RequestObjection::new(Fault::SignerOthers, detail)]);
    };
    if !inventory.admission.is_open(signer) {
        return Ruling::Leave(vec![RequestObjection::new(Fault::SignerClosed, signer.name())]);
    }
    let content = match &request.content {
        Ok(content) => content,
        Err(unreadable) => return Ruling::Deny(vec![unreadable.objection()]),
    };
    let mut bench = Bench { request, signer, content, inventory, objections: Vec::new() };
    bench.key(history);
    let whom = match signer {
        RequestSigner::Serving | RequestSigner::Client | RequestSigner::Node => bench.of_node(),
        RequestSigner::Person => bench.of_person(),
        RequestSigner::EtcdClient => bench.of_etcd(),
        RequestSigner::FrontProxy => bench.of_front_proxy(),
    };
    bench.usages();
    bench.names();
    if whom.is_some() {
        if let Some(node) = request.node() {
            bench.node(node);
        }
        if history.granted >= policy.limit {
            let detail = format!("{} were approved within {}", history.granted, policy.window);
            bench.object(Fault::RateLimited, detail);
        }
    }
    match (whom, bench.objections.iter().any(|o| o.fault.spec().denies)) {
        (Some(whom), false) if bench.objections.is_empty() => {
            let knows = |(register, called): (&NodeRegister, &'static str)| {
                register.node(request.node()?).map(|_| called)
            };
            let sources: Vec<&str> = inventory.sources().filter_map(knows).collect();
            let ground = match request.node() {
                Some(_) => ground(content, &sources),
                None => "certkit.yaml admits it".to_owned(),
            };
            let grant = bench.grant(whom).map(Box::new);
            Ruling::Approve { whom: whom.to_owned(), ground, grant }
        }
        (_, false) => Ruling::Leave(bench.objections),
        (_, true) => Ruling::Deny(bench.objections),
    }
}

fn ground(content: &RequestContent, sources: &[&str]) -> String {
    let by = sources.join(" and ");
    match content.sans.as_slice() {
        [] => format!("the node is known by {by}"),
        sans => {
            let sans: Vec<String> = sans.iter().map(San::to_string).collect();
            format!("{}: as in {by}", sans.join(", "))
        }
    }
}

impl UnreadableRequest {
    pub(super) fn objection(&self) -> RequestObjection {
        let (fault, detail) = match self {
            Self::TooLong(octets) => (Fault::RequestTooLong, format!("{octets} octets")),
            Self::NotOne(why) => (Fault::RequestNotOne, why.clone()),
            Self::Malformed(why) => (Fault::RequestMalformed, why.clone()),
            Self::Repeated(what) => (Fault::RequestRepeats, format!("{what} is there twice")),
            Self::WeakKey(key) => (Fault::KeyWeak, format!("the key is {key}")),
            Self::Unproven => (
                Fault::RequestUnproven,
                "its signature does not prove that the sender has the key".to_owned(),
            ),
        };
        RequestObjection { fault, detail }
    }
}

/// The API's words for usages.
const SIGNATURE: &str = "digital signature";
const ENCIPHERMENT: &str = "key encipherment";
const SERVER_AUTH: &str = "server auth";
const CLIENT_AUTH: &str = "client auth";

struct Bench<'a> {
    request: &'a CertificateRequest,
    signer: RequestSigner,
    content: &'a RequestContent,
    inventory: &'a Inventory,
    objections: Vec<RequestObjection>,
}

impl<'a> Bench<'a> {
    fn object(&mut self, fault: Fault, detail: impl Into<String>) {
        self.objections.push(RequestObjection::new(fault, detail));
    }

    /// Whether who asks is the one whom the certificate would name.
    fn is_subject(&self) -> bool {
        let (name, user) = (self.content.common_name(), self.request.username.as_str());
        match self.signer {
            RequestSigner::Node => name.is_some() && user.strip_prefix(NODE_USER) == name,
            _ => name == Some(user),
        }
    }

    fn key(&mut self, history: &History) {
        if !is_strong(self.content.algorithm) {
            self.object(Fault::KeyWeak, format!("the key is {}", self.content.key));
        }
        if let Some(other) = &history.same_key {
            self.object(Fault::KeyUsedBefore, format!("{} asked for it", quoted(other)));
        }
    }

    /// The node that is asked for, if the subject could be one's; and whether it is the one that asks.
    fn of_node(&mut self) -> Option<&'a str> {
        let node = match self.signer {
            RequestSigner::Node => self.plain_node(),
            _ => self.subject(),
        };
        self.requester(node);
        node
    }

    /// The name of the node that the subject names, if it could be one's.
    fn subject(&mut self) -> Option<&'a str> {
        let organizations = self.content.organizations();
        if !organizations.contains(&Some(NODE_GROUP)) {
            self.object(Fault::SubjectNotNode, format!("O is not {NODE_GROUP}"));
        } else if organizations.len() > 1 {
            let others = organizations.iter().filter(|o| **o != Some(NODE_GROUP));
            let others: Vec<String> = others.map(|o| text(*o)).collect();
            let detail = match others.is_empty() {
                true => format!("O={NODE_GROUP} is there twice"),
                false => format!("O is {}, too", others.join(", ")),
            };
            self.object(Fault::SubjectSurplus, detail);
        }
        self.no_other_attributes();
        let Some(name) = self.content.common_name() else {
            self.object(Fault::SubjectNotNode, "there is not exactly one readable CN");
            return None;
        };
        let Some(node) = name.strip_prefix(NODE_USER) else {
            self.object(Fault::SubjectNotNode, format!("CN is {}", quoted(name)));
            return None;
        };
        if let Some(why) = node_name_fault(node) {
            self.object(Fault::NodeNameWrong, format!("{}: {why}", quoted(node)));
            return None;
        }
        Some(node)
    }

    fn no_other_attributes(&mut self) {
        let surplus: Vec<String> = self
            .content
            .other_subject_attributes()
            .map(|a| format!("{}={}", a.oid, text(a.value.as_deref())))
            .collect();
        if !surplus.is_empty() {
            self.object(Fault::SubjectSurplus, surplus.join(", "));
        }
    }

    fn requester(&mut self, node: Option<&str>) {
        let request = self.request;
        let groups: BTreeSet<&str> = request.groups.iter().map(String::as_str).collect();
        let is_subject = self.is_subject();
        let is_token = self.signer == RequestSigner::Client && groups.contains(TOKEN_GROUP);
        if !is_subject && !is_token {
            let detail = format!("{} asks", quoted(&request.username));
            self.object(Fault::RequesterNotSubject, detail);
        }
        let is_of_tokens = |group: &str| {
            group.strip_prefix(TOKEN_GROUP).is_some_and(|r| r.is_empty() || r.starts_with(':'))
        };
        if is_subject && !groups.contains(NODE_GROUP) {
            let detail = format!("{} is not in {NODE_GROUP}", quoted(&request.username));
            self.object(Fault::RequesterNotNode, detail);
        }
        let surplus: Vec<String> = groups
            .iter()
            .filter(|group| match (**group, is_subject) {
                (AUTHENTICATED, _) | (NODE_GROUP, true) => false,
                (group, false) if is_token => !is_of_tokens(group),
                (_, true) => true,
                // It is no node and no token: that is said already.
                (_, false) => false,
            })
            .map(|group| quoted(group).to_string())
            .collect();
        if !surplus.is_empty() {
            let detail = format!("{} is in {}", quoted(&request.username), surplus.join(", "));
            self.object(Fault::RequesterSurplusGroup, detail);
        }
        let bound: Vec<&str> =
            groups.iter().filter_map(|group| group.strip_prefix(TOKEN_OF_NODE)).collect();
        if let (false, true, Some(node)) = (is_subject, is_token, node)
            && !bound.is_empty()
            && !bound.contains(&node.replace('.', ":").as_str())
        {
            let detail = format!("the token is good for {}", bound.join(", "));
            self.object(Fault::TokenOfAnother, detail);
        }
    }

    fn usages(&mut self) {
        let purposes: &[&str] = match self.signer {
            RequestSigner::Serving => &[SERVER_AUTH],
            RequestSigner::Node => &[SERVER_AUTH, CLIENT_AUTH],
            RequestSigner::Client
            | RequestSigner::Person
            | RequestSigner::EtcdClient
            | RequestSigner::FrontProxy => &[CLIENT_AUTH],
        };
        let asked: BTreeSet<&str> = self.request.usages.iter().map(String::as_str).collect();
        let least: BTreeSet<&str> = purposes.iter().copied().chain([SIGNATURE]).collect();
        let mut with_encipherment = least.clone();
        with_encipherment.insert(ENCIPHERMENT);
        // The API refuses repeated usages; nobody else need.
        let is_repeated = asked.len() != self.request.usages.len();
        if is_repeated || asked != least && asked != with_encipherment {
            let usages: Vec<String> =
                self.request.usages.iter().map(|usage| quoted(usage).to_string()).collect();
            self.object(Fault::UsagesWrong, format!("asked are {}", usages.join(", ")));
        }
        if self.content.asks_for_ca {
            self.object(Fault::CaAsked, "basicConstraints or keyUsage say so");
        }
        let surplus = self.content.extensions.iter().filter(|extension| !extension.is_names);
        let surplus: Vec<&str> = surplus.map(|extension| extension.label.as_str()).collect();
        if !surplus.is_empty() {
            self.object(Fault::ExtensionSurplus, surplus.join(", "));
        }
        if !self.content.attributes.is_empty() {
            self.object(Fault::AttributeSurplus, self.content.attributes.join(", "));
        }
    }

    /// What names may look like, whosever they are.
    fn names(&mut self) {
        let sans = &self.content.sans;
        if !matches!(self.signer, RequestSigner::Serving | RequestSigner::Node) {
            if self.content.extensions.iter().any(|extension| extension.is_names) {
                self.object(Fault::NamesSurplus, format!("there are {}", sans.len()));
            }
            return;
        }
        if sans.is_empty() {
            self.object(Fault::NamesMissing, "there is none");
        }
        let mut seen = BTreeSet::new();
        for san in sans {
            if !seen.insert(san) {
                self.object(Fault::NameRepeated, shown(san));
            }
            match san {
                San::Dns(name) if name.contains('*') => {
                    self.object(Fault::NameWildcard, shown(san));
                }
                San::Dns(name) => {
                    if let Some(why) = name_fault(name) {
                        self.object(Fault::NameWrong, format!("{}: {why}", shown(san)));
                    }
                }
                San::Ip(_) => {}
                San::Email(_) | San::Uri(_) | San::Other(_) => {
                    self.object(Fault::NameKind, shown(san));
                }
            }
        }
    }

    /// Whether the inventory has the node, and says that it is called so.
    fn node(&mut self, node: &str) {
        let inventory = self.inventory;
        if inventory.declared.as_ref().is_some_and(|register| register.node(node).is_none()) {
            self.object(Fault::NodeUnknown, quoted(node).to_string());
            return;
        }
        let is_subject = self.is_subject();
        let joined = inventory.live.as_ref().map(|register| register.node(node).is_some());
        match (joined, is_subject) {
            (Some(true), false) if self.signer == RequestSigner::Client => {
                let detail = format!("{} asks", quoted(&self.request.username));
                self.object(Fault::NodeJoinedAlready, detail);
            }
            // A node that was never declared and is not there is known to nobody.
            (Some(false), false) if inventory.declared.is_some() => {}
            (Some(false), _) => self.object(Fault::NodeNotJoined, quoted(node).to_string()),
            (None, _) if inventory.declared.is_none() => {
                self.object(Fault::NodeUnknown, "no inventory was given");
            }
            (Some(true) | None, _) => {}
        }
        if matches!(self.signer, RequestSigner::Serving | RequestSigner::Node) {
            for san in &self.content.sans {
                self.name_of(node, san);
            }
        }
    }

    /// Whether each source says that the node is called so, and none that another is.
    fn name_of(&mut self, node: &str, san: &San) {
        let (another, unknown) = match san {
            San::Dns(_) => (Fault::NameOfAnother, Fault::NameNotDeclared),
            San::Ip(_) => (Fault::AddressOfAnother, Fault::AddressNotDeclared),
            San::Email(_) | San::Uri(_) | San::Other(_) => return,
        };
        let inventory = self.inventory;
        let owner = inventory.sources().find_map(|(register, _)| register.another_with(node, san));
        if let Some(owner) = owner {
            self.object(another, format!("{} is {}'s", shown(san), quoted(owner)));
            return;
        }
        for (register, called) in inventory.sources() {
            let Some(record) = register.node(node) else { continue };
            if !record.has(san) {
                self.object(unknown, format!("{called} has no {}", shown(san)));
                return;
            }
        }
    }
}

/// A value, or that it is none that every reader takes alike.
fn text(value: Option<&str>) -> String {
    value.map_or("unreadable".to_owned(), |value| quoted(value).to_string())
}

fn shown(san: &San) -> String {
    match san {
        San::Dns(name) => format!("DNS {}", quoted(name)),
        San::Ip(address) => format!("IP {address}"),
        San::Email(_) => "an e-mail address".into(),
        San::Uri(_) => "a URI".into(),
        San::Other(der) => match der.first() {
            Some(0x82) => "a DNS name that is no ASCII".into(),
            Some(0x87) => format!("an IP address of {} octets", der.len().saturating_sub(2)),
            _ => "a name of another kind".into(),
        },
    }
}

/// What is wrong with a node's name (RFC 1123 in small letters, as Kubernetes demands of objects).
fn node_name_fault(name: &str) -> Option<&'static str> {
    // A node may be called by its address.
    match name.parse::<std::net::Ipv4Addr>() {
        Ok(_) => None,
        Err(_) => name_fault(name),
    }
}

fn name_fault(name: &str) -> Option<&'static str> {
    if !name.is_ascii() {
        return Some("it has letters beyond ASCII, which may look like others");
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("it has capitals");
    }
    if name.ends_with('.') {
        return Some("it ends with a dot");
    }
    dns_name_fault(name)
}
