//! The same judge for a person: requests listed and reviewed once, and decided by hand.

use std::time::Instant;

use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Node};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};

use super::{
    Access, Error,
    connection::{ask, block_on},
    docket::Docket,
    object::{self, APPROVED, DENIED},
};
use crate::model::{
    cluster::Cluster,
    request::{
        Admission, CertificateRequest, Inventory, NodeRegister, RequestFault, RequestPolicy,
        RequestState, Ruling,
    },
    timestamp::Timestamp,
};

/// How many objects one answer of the API has.
const PAGE: u32 = 500;
/// The reason of what a person decided.
const BY_HAND: &str = "DecidedByHand";

/// What is known before anything is asked.
#[derive(Debug)]
pub struct Question {
    /// How to reach the cluster.
    pub access: Access,
    /// The declared cluster, if that is asked.
    pub declared: Option<Cluster>,
    /// Whether Node objects are asked.
    pub live: bool,
    /// What is held against every request.
    pub policy: RequestPolicy,
}

/// A request, and what the judge says of it. Of one that is decided, what the judge would say.
#[derive(Clone, Debug)]
pub struct Reviewed {
    /// The request.
    pub request: CertificateRequest,
    /// What the judge says.
    pub ruling: Ruling,
}

/// What a person decided.
#[derive(Clone, Debug)]
pub enum HandDecision {
    /// To approve, despite these reasons.
    Approve {
        /// What the judge would deny it for.
        despite: Vec<RequestFault>,
    },
    /// To deny, and why.
    Deny {
        /// Why, in words.
        why: String,
    },
}

/// What became of a decision.
#[derive(Clone, Debug)]
pub enum HandOutcome {
    /// It is taken.
    Taken(Reviewed),
    /// The judge objects to more than was said.
    Refused(Reviewed),
}

/// Every request, by name.
pub fn list(question: Question) -> Result<Vec<Reviewed>, Error> {
    block_on(async {
        let desk = Desk::open(question).await?;
        let mut all: Vec<Reviewed> = desk
            .docket
            .entries()
            .map(|entry| Reviewed {
                request: entry.request.clone(),
                ruling: desk.docket.rule(entry, &desk.inventory, &desk.policy),
            })
            .collect();
        all.sort_by(|a, b| a.request.name.cmp(&b.request.name));
        Ok(all)
    })?
}

/// One request.
pub fn review(question: Question, name: &str) -> Result<Reviewed, Error> {
    block_on(async { Desk::open(question).await?.review(name) })?
}

/// Decides on one.
pub fn decide(
    question: Question,
    name: &str,
    decision: &HandDecision,
    now: Timestamp,
) -> Result<HandOutcome, Error> {
    block_on(async {
        let desk = Desk::open(question).await?;
        let reviewed = desk.review(name)?;
        if reviewed.request.state != RequestState::Pending {
            let state = reviewed.request.state.name();
            return Err(Error::Decided { name: name.to_owned(), state });
        }
        let (kind, reason, message) = match decision {
            HandDecision::Approve { despite } => {
                let objections = reviewed.ruling.objections();
                if !objections.iter().all(|o| despite.contains(&o.fault)) {
                    return Ok(HandOutcome::Refused(reviewed));
                }
                let message = match &reviewed.ruling {
                    Ruling::Approve { ground, .. } => ground.clone(),
                    Ruling::Deny(objections) | Ruling::Leave(objections) => {
                        let said: Vec<String> =
                            objections.iter().map(ToString::to_string).collect();
                        format!("approved by hand despite {}", said.join("; "))
                    }
                };
                (APPROVED, BY_HAND, message)
            }
            HandDecision::Deny { why } => (DENIED, BY_HAND, why.clone()),
        };
        let Some(entry) = desk.docket.get(name) else { return Err(missing(name)) };
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": entry.version},
            "status": {"conditions": entry.decided(kind, reason, &message, now)},
        });
        let api: Api<CertificateSigningRequest> = Api::all(desk.client.clone());
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        ask("decide on the request", api.patch_approval(name, &parameters, &patch)).await?;
        Ok(HandOutcome::Taken(reviewed))
    })?
}

struct Desk {
    client: Client,
    docket: Docket,
    inventory: Inventory,
    policy: RequestPolicy,
}

impl Desk {
    async fn open(question: Question) -> Result<Self, Error> {
        let client = question.access.client().await?;
        let mut docket = Docket::new(true);
        let now = Instant::now();
        let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
        pages("list the requests", &requests, |object| docket.put(&object, now)).await?;
        let live = match question.live {
            true => {
                let mut register = NodeRegister::default();
                let nodes: Api<Node> = Api::all(client.clone());
                pages("list the nodes", &nodes, |node| {
                    register.put(&node.name_any(), object::node(&node));
                })
                .await?;
                Some(register)
            }
            false => None,
        };
        let declared = question.declared.as_ref().map(NodeRegister::declared);
        let admission = question.declared.as_ref().map(Admission::of).unwrap_or_default();
        let inventory = Inventory { declared, live, admission };
        Ok(Self { client, docket, inventory, policy: question.policy })
    }

    fn review(&self, name: &str) -> Result<Reviewed, Error> {
        let entry = self.docket.get(name).ok_or_else(|| missing(name))?;
        let ruling = self.docket.rule(entry, &self.inventory, &self.policy);
        Ok(Reviewed { request: entry.request.clone(), ruling })
    }
}

fn missing(name: &str) -> Error {
    Error::Api {
        what: format!("find the request {}", crate::model::shown::quoted(name)),
        source: "the cluster has none of that name".into(),
        status: Some(404),
    }
}

/// Every object, page by page.
async fn pages<K>(what: &str, api: &Api<K>, mut take: impl FnMut(K)) -> Result<(), Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let list = ask(what, api.list(&parameters)).await?;
        list.items.into_iter().for_each(&mut take);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}
