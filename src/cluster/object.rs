//! Between the API's objects and the model's.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::{
        certificates::{
            v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
            v1beta1::PodCertificateRequest,
        },
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt as _;

use crate::{
    model::{
        duration::Span,
        request::{CertificateRequest, NodeRecord, PodRequest, RequestState},
        timestamp::Timestamp,
    },
    pki::inspect::{read_pod_key, read_request},
};

/// The API's words for what became of a request.
pub const APPROVED: &str = "Approved";
pub const DENIED: &str = "Denied";
pub const FAILED: &str = "Failed";
/// What the apiserver tells of how somebody logged in.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// A request, read.
pub fn request(object: &CertificateSigningRequest) -> CertificateRequest {
    let spec = &object.spec;
    CertificateRequest {
        name: object.name_any(),
        signer: spec.signer_name.clone(),
        username: spec.username.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        usages: spec.usages.clone().unwrap_or_default(),
        term: spec.expiration_seconds.map(|seconds| Span(seconds.into())),
        by_certificate: by_certificate(spec.extra.as_ref()),
        created: timestamp(object.creation_timestamp().as_ref()),
        content: read_request(&spec.request.0),
        state: state(object),
    }
}

/// Whether the user's credential was a certificate (Kubernetes 1.36, staging/src/k8s.io/apiserver/pkg/authentication/request/x509:
/// its digest is told).
fn by_certificate(extra: Option<&BTreeMap<String, Vec<String>>>) -> bool {
    let credential = extra.and_then(|extra| extra.get(CREDENTIAL));
    credential.into_iter().flatten().any(|id| id.starts_with("X509"))
}

fn state(object: &CertificateSigningRequest) -> RequestState {
    let Some(status) = &object.status else { return RequestState::Pending };
    let has = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == kind)
    };
    let is_issued = status.certificate.as_ref().is_some_and(|text| !text.0.is_empty());
    match () {
        () if has(DENIED) => RequestState::Denied,
        () if has(FAILED) => RequestState::Failed,
        () if is_issued => RequestState::Issued,
        () if has(APPROVED) => RequestState::Approved,
        () => RequestState::Pending,
    }
}

/// The conditions of a request with one more: a patch replaces them all.
pub fn decided(
    there: &[CertificateSigningRequestCondition],
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<CertificateSigningRequestCondition> {
    let mut conditions = there.to_vec();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: time(now),
        last_transition_time: None,
    });
    conditions
}

/// What the API knows of a node: its name, and the addresses that its status has.
pub fn node(object: &Node) -> NodeRecord {
    let mut record = NodeRecord::default();
    let addresses = object.status.as_ref().and_then(|status| status.addresses.as_ref());
    for address in addresses.into_iter().flatten() {
        match address.address.parse::<IpAddr>() {
            // A node may be called by its address: then Hostname is one, too.
            Ok(ip) => drop(record.addresses.insert(ip)),
            Err(_) => drop(record.names.insert(address.address.to_ascii_lowercase())),
        }
    }
    record
}

fn timestamp(time: Option<&Time>) -> Timestamp {
    Timestamp::from_unix(time.map_or(0, |time| time.0.as_second()))
}

/// A request of a pod's, read.
pub fn pod_request(object: &PodCertificateRequest) -> PodRequest {
    let spec = &object.spec;
    let key = spec.pkix_public_key.as_ref().map_or(&[][..], |key| &key.0);
    let annotations = spec.unverified_user_annotations.iter().flat_map(|all| all.keys());
    PodRequest {
        uid: object.uid().unwrap_or_default(),
        created: timestamp(object.creation_timestamp().as_ref()),
        namespace: object.namespace().unwrap_or_default(),
        pod: spec.pod_name.clone(),
        pod_uid: spec.pod_uid.clone(),
        account: spec.service_account_name.clone(),
        account_uid: spec.service_account_uid.clone(),
        node: spec.node_name.clone(),
        longest: spec.max_expiration_seconds.map(|seconds| Span(seconds.into())),
        annotations: annotations.cloned().collect(),
        key: read_pod_key(&spec.stub_pkc_s10_request.0, key),
    }
}

/// A time where there must be one; what no clock says is the beginning of all clocks.
pub fn required_time(at: Timestamp) -> Time {
    time(at).unwrap_or(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH))
}

fn time(at: Timestamp) -> Option<Time> {
    k8s_openapi::jiff::Timestamp::from_second(at.unix()).ok().map(Time)
}
