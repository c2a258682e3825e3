//! Requests for certificates as a cluster's API carries them (`CertificateSigningRequest`), judged: what is asked, by
//! whom, and whether the inventory of the cluster says the same.
//!
//! Kubernetes signs what was approved and decides little itself: who may be called what is the approver's affair
//! (`pkg/apis/certificates/helpers.go` and `pkg/controller/certificates/signer` of Kubernetes 1.36). So nothing is
//! approved here that is not exactly what a node's kubelet asks for, for a node that the inventory has.

/// A signer of certkit's own, by its domain. Nobody can have it to himself: `internal` is kept for private use.
macro_rules! own {
    ($signer:literal) => {
        concat!("certkit.internal/", $signer)
    };
}

mod content;
mod fault;
mod inventory;
mod judge;
mod pod;

pub use content::{AskedExtension, RequestContent, SubjectAttribute, UnreadableRequest, is_strong};
pub use fault::{REQUEST_FAULTS, RequestFault, RequestFaultSpec, RequestObjection};
pub use inventory::{Admission, Inventory, NodeRecord, NodeRegister};
pub use judge::{Grant, History, POD_LIMIT, RequestPolicy, Ruling, judge};
pub use pod::{POD_SIGNER, PodHistory, PodKey, PodRecord, PodRequest, judge_pod};

use super::{
    catalogue::{CertSpec, roles},
    duration::Span,
    timestamp::Timestamp,
};

/// What every node's user is called, before its name.
pub const NODE_USER: &str = "system:node:";
/// The group of nodes.
pub const NODE_GROUP: &str = "system:nodes";
/// What the user of a bootstrap token is called, before the token's id.
pub const TOKEN_USER: &str = "system:bootstrap:";
/// The group of bootstrap tokens.
pub const TOKEN_GROUP: &str = "system:bootstrappers";
/// A bootstrap token that has a group of this beginning is good for one node: the rest is its name, a colon for each
/// dot (`auth-extra-groups` of a token allows no dot).
pub const TOKEN_OF_NODE: &str = "system:bootstrappers:node:";
/// The group of everybody who logged in.
pub const AUTHENTICATED: &str = "system:authenticated";

/// The signers whose requests are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestSigner {
    /// `kubernetes.io/kubelet-serving`
    Serving,
    /// `kubernetes.io/kube-apiserver-client-kubelet`
    Client,
    /// Of nodes for each other.
    Node,
    /// Of people for the apiserver.
    Person,
    /// Of clients of etcd.
    EtcdClient,
    /// Of clients of aggregated API servers that speak in anybody's name.
    FrontProxy,
}

impl RequestSigner {
    /// All of them: Kubernetes' own of kubelets first.
    pub const ALL: [Self; 6] =
        [Self::Serving, Self::Client, Self::Node, Self::Person, Self::EtcdClient, Self::FrontProxy];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "kubernetes.io/kubelet-serving",
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Node => own!("node"),
            Self::Person => own!("person"),
            Self::EtcdClient => own!("etcd-client"),
            Self::FrontProxy => own!("front-proxy"),
        }
    }

    /// The CA that signs; none where kube-controller-manager does.
    pub fn authority(self) -> Option<&'static CertSpec> {
        match self {
            Self::Serving | Self::Client => None,
            Self::Node => Some(roles::WORKLOAD_CA),
            Self::Person => Some(roles::CLUSTER_CA),
            Self::EtcdClient => Some(roles::ETCD_CA),
            Self::FrontProxy => Some(roles::FRONT_PROXY_CA),
        }
    }

    /// The signer of this name, if its requests are judged.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signer| signer.name() == name)
    }
}

/// A request as the API has it, in plain data. What the requester said of itself (`content`) is not believed; who it is
/// (`username`, `groups`) was put there by the apiserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The object's name.
    pub name: String,
    /// Who is to sign it.
    pub signer: String,
    /// The user who made the object.
    pub username: String,
    /// That user's groups.
    pub groups: Vec<String>,
    /// What the certificate is to be used for, in the API's words.
    pub usages: Vec<String>,
    /// How long the certificate is to be valid, if that is said.
    pub term: Option<Span>,
    /// Whether it was a certificate that the user who made the object showed.
    pub by_certificate: bool,
    /// When the object was made.
    pub created: Timestamp,
    /// What is asked.
    pub content: Result<RequestContent, UnreadableRequest>,
    /// What became of it.
    pub state: RequestState,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// Nobody has decided.
    Pending,
    /// Approved, and not signed yet.
    Approved,
    /// Approved and signed.
    Issued,
    /// Denied.
    Denied,
    /// Approved, and the signer could not sign it.
    Failed,
}

impl RequestState {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Issued => "issued",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }

    /// Whether somebody has said yes.
    pub fn is_approved(self) -> bool {
        matches!(self, Self::Approved | Self::Issued | Self::Failed)
    }
}

impl CertificateRequest {
    /// The node whose name is asked for, if it is one's.
    pub fn node(&self) -> Option<&str> {
        let name = self.content.as_ref().ok()?.common_name()?;
        match RequestSigner::of(&self.signer) {
            Some(RequestSigner::Node) => Some(name),
            _ => name.strip_prefix(NODE_USER),
        }
    }

    /// Whom the certificate would name: the node, or what stands in its place.
    pub fn whom(&self) -> Option<&str> {
        self.node().or_else(|| self.content.as_ref().ok()?.common_name())
    }
}
