//! What pods are asked for by their kubelets (`PodCertificateRequest`), judged: the pod is what is said of it, and certkit.yaml
//! admits its service account.
//!
//! The apiserver holds a kubelet to its own pods (Kubernetes 1.36, plugin/pkg/admission/noderestriction), and nobody else who
//! may create such requests to anything. So what is said of the pod is compared with the pod.

use std::{collections::HashMap, rc::Rc};

use super::{
    Admission, Grant, RequestFault as Fault, RequestObjection, RequestPolicy, Ruling,
    UnreadableRequest,
};
use crate::model::{
    catalogue::roles,
    cluster::signers::{AccountAdmitted, PodsAdmitted},
    der,
    duration::Span,
    name::Name,
    profile::{Kind, Profile},
    san::{self, San, dns_name_fault},
    shown::quoted,
    timestamp::Timestamp,
    usage::{ExtendedUsage, KeyUsages},
};

/// The name of the signer of pods' certificates in the API.
pub const POD_SIGNER: &str = own!("pod");
/// The apiserver takes no certificate that begins more than five minutes before its own time
/// (pkg/apis/certificates/validation): this leaves some for clocks that differ.
const BACKDATE: Span = Span(120);

/// A request as the API has it, in plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRequest {
    /// What tells it from every other one.
    pub uid: String,
    /// When the API took it.
    pub created: Timestamp,
    /// The namespace of the request, and so of its pod.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its UID, as the request says.
    pub pod_uid: String,
    /// Its service account, likewise.
    pub account: String,
    /// That one's UID.
    pub account_uid: String,
    /// Its node.
    pub node: String,
    /// How long the certificate may be valid.
    pub longest: Option<Span>,
    /// What its author says to the signer.
    pub annotations: Vec<String>,
    /// The key.
    pub key: Result<PodKey, UnreadableRequest>,
}

/// The key that a pod's certificate is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodKey {
    /// SubjectPublicKeyInfo as DER.
    pub public_key: Vec<u8>,
    /// Whether it is one of RSA, which may encipher.
    pub is_rsa: bool,
    /// Whether the request asks for nothing else.
    pub is_bare: bool,
}

/// What the cluster has of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRecord {
    /// Its UID.
    pub uid: String,
    /// Its service account.
    pub account: String,
    /// That one's UID, if it is there.
    pub account_uid: Option<String>,
    /// Its node.
    pub node: String,
    /// Whether it has ended, for good.
    pub has_ended: bool,
}

/// By namespace, service account and node.
type Source = (String, String, String);

/// What pods were given lately. All times are the apiserver's.
#[derive(Clone, Debug, Default)]
pub struct PodHistory {
    by_source: HashMap<Source, HashMap<Rc<str>, Timestamp>>,
    newest: Option<Timestamp>,
}

impl PodHistory {
    /// That a request was granted.
    pub fn add(&mut self, request: &PodRequest) {
        let granted = self.by_source.entry(source(request)).or_default();
        granted.insert(request.uid.as_str().into(), request.created);
        self.newest = self.newest.max(Some(request.created));
    }

    /// How many others of the same pods and node were within the time before this one.
    fn granted(&self, request: &PodRequest, window: Span) -> usize {
        let since = request.created.minus(window);
        let all = self.by_source.get(&source(request)).into_iter().flatten();
        all.filter(|(uid, at)| ***uid != *request.uid && **at >= since).count()
    }

    /// Forgets what is older than that.
    pub fn forget(&mut self, window: Span) {
        let Some(since) = self.newest.map(|newest| newest.minus(window)) else { return };
        self.by_source.retain(|_, all| {
            all.retain(|_, at| *at >= since);
            !all.is_empty()
        });
    }
}

fn source(request: &PodRequest) -> Source {
    (request.namespace.clone(), request.account.clone(), request.node.clone())
}

/// Judges a request for a pod's certificate.
pub fn judge_pod(
    request: &PodRequest,
    pod: Option<&PodRecord>,
    admission: &Admission,
    history: &PodHistory,
    policy: &RequestPolicy,
) -> Ruling {
    let Some(pods) = &admission.signers.pods else {
        return Ruling::Leave(vec![RequestObjection::new(Fault::SignerClosed, POD_SIGNER)]);
    };
    let mut objections = Vec::new();
    let mut object = |fault, detail: String| objections.push(RequestObjection::new(fault, detail));
    let account = format!("{}/{}", request.namespace, request.account);
    let admitted = admitted(pods, request);
    if admitted.is_none() || dns_name_fault(&request.account).is_some() {
        object(Fault::AccountNotAdmitted, quoted(&account).to_string());
    }
    match pod {
        None => object(Fault::PodUnknown, quoted(&request.pod).to_string()),
        Some(pod) if pod.has_ended => {
            object(Fault::PodUnknown, format!("{} has ended", quoted(&request.pod)));
        }
        Some(pod) => {
            for (what, said, is) in [
                ("UID", &request.pod_uid, Some(&pod.uid)),
                ("service account", &request.account, Some(&pod.account)),
                ("service account's UID", &request.account_uid, pod.account_uid.as_ref()),
                ("node", &request.node, Some(&pod.node)),
            ] {
                if is != Some(said) {
                    let is = is.map_or("none".to_owned(), |is| quoted(is).to_string());
                    object(Fault::PodDiffers, format!("the {what} is {is}, not {}", quoted(said)));
                }
            }
        }
    }
    if !request.annotations.is_empty() {
        let keys: Vec<String> =
            request.annotations.iter().map(|key| quoted(key).to_string()).collect();
        object(Fault::InvalidUnverifiedUserAnnotations, keys.join(", "));
    }
    let key = match &request.key {
        Ok(key) => {
            if !key.is_bare {
                object(Fault::AttributeSurplus, "the request asks for more than a key".into());
            }
            Some(key)
        }
        Err(UnreadableRequest::WeakKey(text)) => {
            object(Fault::UnsupportedKeyType, format!("the key is {text}"));
            None
        }
        Err(unreadable) => {
            objections.push(unreadable.objection());
            None
        }
    };
    let granted = history.granted(request, policy.window);
    if objections.is_empty() && granted >= policy.pods {
        // Not denied: a kubelet whose request was denied never asks again, and the pod would not start any more.
        let detail = format!(
            "{granted} were signed within {} for {} on node {}",
            policy.window,
            quoted(&account),
            quoted(&request.node)
        );
        return Ruling::Leave(vec![RequestObjection::new(Fault::RateLimited, detail)]);
    }
    match (key, admitted, objections.is_empty()) {
        (Some(key), Some(admitted), true) => Ruling::Approve {
            whom: account,
            ground: "certkit.yaml admits its service account".to_owned(),
            grant: Some(Box::new(grant(request, key, pods, admitted, admission))),
        },
        _ => Ruling::Deny(objections),
    }
}

/// What admits the pod's service account: what names it, before what admits all of its namespace.
fn admitted<'a>(pods: &'a PodsAdmitted, request: &PodRequest) -> Option<&'a AccountAdmitted> {
    let here = || pods.accounts.iter().filter(|a| a.namespace.as_ref() == request.namespace);
    let named =
        |a: &&AccountAdmitted| a.name.as_ref().is_some_and(|name| name.as_ref() == request.account);
    here().find(named).or_else(|| here().find(|a| a.name.is_none()))
}

fn grant(
    request: &PodRequest,
    key: &PodKey,
    pods: &PodsAdmitted,
    admitted: &AccountAdmitted,
    admission: &Admission,
) -> Grant {
    let namespace = &request.namespace;
    let domain = pods.trust_domain.as_ref().map_or(admission.dns_domain.as_str(), AsRef::as_ref);
    let id = format!("spiffe://{domain}/ns/{namespace}/sa/{}", request.account);
    let names = admitted.services.iter().flat_map(|service| {
        let short = format!("{}.{namespace}", service.as_ref());
        let whole = format!("{short}.svc.{}", admission.dns_domain);
        [short.clone(), format!("{short}.svc"), whole].map(San::Dns)
    });
    let mut key_usages = KeyUsages::DIGITAL_SIGNATURE;
    if key.is_rsa {
        key_usages.0 |= KeyUsages::KEY_ENCIPHERMENT.0;
    }
    let validity = pods.validity.span();
    // All of its life counts, and it begins before now.
    let longest = request.longest.map_or(validity, |longest| Span(longest.0 - BACKDATE.0));
    Grant {
        authority: roles::WORKLOAD_CA,
        profile: Profile {
            // Whoever would take a common name for a user finds none.
            subject: Name::from_der(der::sequence(&[]), String::new()),
            sans: san::normalize([San::Uri(id)].into_iter().chain(names).collect()),
            kind: Kind::Leaf,
            key_usages,
            extended_usages: vec![ExtendedUsage::ServerAuth, ExtendedUsage::ClientAuth],
        },
        term: validity.min(longest),
        backdate: BACKDATE,
        public_key: key.public_key.clone(),
    }
}
