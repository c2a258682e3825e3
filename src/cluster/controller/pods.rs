//! What kubelets ask for their pods (`PodCertificateRequest`), where the API has that: judged by the pod that there is, signed,
//! and answered, each with the version of the request that was judged. A loop of its own beside the one that decides on
//! `CertificateSigningRequest`s.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::{
    api::{
        certificates::v1beta1::PodCertificateRequest,
        core::v1::{Pod, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        events::{EventType, Recorder},
        watcher,
    },
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{interval, sleep},
};

use super::{LogLevel, LogLine, LogSink, events::Publisher};
use crate::{
    cluster::{
        Error,
        connection::ask,
        object,
        serve::{Board, with_board},
        signing::{CertificateSigner, SignedCertificate, SigningOrder},
    },
    model::{
        duration::Span,
        request::{
            Admission, Grant, POD_SIGNER, PodHistory, PodRecord, PodRequest, RequestObjection,
            RequestPolicy, Ruling, judge_pod,
        },
        shown::{name, with_causes},
        timestamp::Timestamp,
    },
};

/// How many requests are looked at at once.
const AT_ONCE: usize = 16;
/// How often what counts for the limit no more is forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// How often it is asked whether the API has them.
const SERVED: Duration = Duration::from_secs(60);
/// The longest pause before a request is looked at again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The shortest life that the API takes (Kubernetes 1.36, pkg/apis/certificates/validation).
const SHORTEST: Span = Span(3600);
/// The condition, and the reason, of what is signed.
const ISSUED: &str = "Issued";

/// What is needed for it.
pub struct PodSigning {
    pub client: Client,
    pub signer: Rc<RefCell<CertificateSigner>>,
    pub admission: Rc<RefCell<Admission>>,
    pub policy: RequestPolicy,
    /// What pods were given lately: of every replica's, as long as it watches.
    pub history: Rc<RefCell<PodHistory>>,
    pub recorder: Recorder,
    pub board: Board,
    pub log: LogSink,
    pub clock: fn() -> Timestamp,
    /// Whether it is only said what would be done.
    pub is_quiet: bool,
    pub leads_until: watch::Receiver<Option<Instant>>,
}

/// A request by its namespace and name.
type Key = (String, String);

/// A request that nobody has decided on.
struct Open {
    object: Rc<PodCertificateRequest>,
    seen: Instant,
    due: Instant,
    busy: bool,
    /// Whether it is decided or gone meanwhile: what is on its way is told still.
    is_over: bool,
    tries: u32,
    /// The code of the reason that was told last, and what was said.
    code: &'static str,
    told: String,
}

/// What became of one.
enum Outcome {
    Answered {
        what: &'static str,
        code: &'static str,
        /// What an Event says of it, if one is sent.
        reason: Option<&'static str>,
        why: String,
        fields: Fields,
    },
    /// Nothing is done about it now.
    Waits {
        code: &'static str,
        reason: &'static str,
        why: String,
    },
    Gone,
    Failed(Error),
}

type Fields = Vec<(&'static str, String)>;
type Working<'a> = Pin<Box<dyn Future<Output = (Key, Outcome)> + 'a>>;

/// Decides and signs for as long as it is polled; without an order for ever nothing.
pub async fn run(signing: Option<PodSigning>) {
    let Some(desk) = signing else { return std::future::pending().await };
    desk.until_served().await;
    let api: Api<PodCertificateRequest> = Api::all(desk.client.clone());
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut leads_until = desk.leads_until.clone();
    let mut open: HashMap<Key, Open> = HashMap::new();
    let mut listed = false;
    let mut listing: Option<Vec<Key>> = None;
    let mut working: FuturesUnordered<Working<'_>> = FuturesUnordered::new();
    let mut publisher = Publisher::new(desk.recorder.clone());
    let mut tick = interval(Duration::from_millis(500));
    let mut forget = Instant::now() + FORGET;
    loop {
        let leads = leads_until.borrow_and_update().is_some_and(|until| until > Instant::now());
        if leads && listed {
            let now = Instant::now();
            let due = open.iter_mut().filter(|(_, one)| !one.busy && one.due <= now);
            for (key, one) in due.take(AT_ONCE.saturating_sub(working.len())) {
                one.busy = true;
                let (key, object) = (key.clone(), one.object.clone());
                let desk = &desk;
                working.push(Box::pin(async move {
                    let outcome = desk.decide(&object).await;
                    (key, outcome.unwrap_or_else(Outcome::Failed))
                }));
            }
        }
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                    let key = key_of(&object);
                    if let Some(listing) = &mut listing {
                        listing.push(key.clone());
                    }
                    if is_issued(&object) {
                        desk.history.borrow_mut().add(&object::pod_request(&object));
                    }
                    see(&mut open, key, object);
                }
                Some(Ok(watcher::Event::Delete(object))) => end(&mut open, &key_of(&object)),
                Some(Ok(watcher::Event::Init)) => listing = Some(Vec::new()),
                Some(Ok(watcher::Event::InitDone)) => {
                    let there = listing.take().unwrap_or_default();
                    let there: std::collections::HashSet<Key> = there.into_iter().collect();
                    open.retain(|key, one| one.busy || there.contains(key));
                    listed = true;
                }
                Some(Err(error)) => {
                    with_board(&desk.board, |board| board.tallies.api_errors += 1);
                    desk.log(LogLevel::Warning, "pods' requests cannot be watched", vec![
                        ("why", error.to_string()),
                    ]);
                }
                None => {}
            },
            Some((key, outcome)) = working.next() => {
                if let Some(one) = open.get_mut(&key) {
                    one.busy = false;
                    if let Some((reason, note)) = event_of(&outcome, one) {
                        desk.publish(&one.object, reason, note, &mut publisher);
                    }
                    if desk.settle(&key, one, outcome) || one.is_over {
                        open.remove(&key);
                    }
                }
            }
            Some(published) = publisher.next() => {
                if published.is_err() {
                    with_board(&desk.board, |board| board.tallies.events_dropped += 1);
                }
            }
            Ok(()) = leads_until.changed() => {}
            _ = tick.tick() => {
                let mut pending: BTreeMap<&'static str, u64> = BTreeMap::new();
                for one in open.values().filter(|one| !one.is_over) {
                    *pending.entry(one.code).or_default() += 1;
                }
                with_board(&desk.board, |board| board.tallies.pods_pending = pending);
                if Instant::now() >= forget {
                    forget = Instant::now() + FORGET;
                    desk.history.borrow_mut().forget(desk.policy.window);
                }
            }
        }
    }
}

/// What an Event is to say of an outcome: of what is not signed, once for each reason. What is signed says so itself.
fn event_of(outcome: &Outcome, one: &Open) -> Option<(&'static str, String)> {
    match outcome {
        Outcome::Answered { reason, why, .. } => Some(((*reason)?, why.clone())),
        Outcome::Waits { reason, why, .. } if one.told != *why => Some((reason, why.clone())),
        Outcome::Waits { .. } | Outcome::Gone | Outcome::Failed(_) => None,
    }
}

fn key_of(object: &PodCertificateRequest) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn conditions(object: &PodCertificateRequest) -> impl Iterator<Item = &Condition> {
    object.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

/// Whether it is one of this signer's, and signed.
fn is_issued(object: &PodCertificateRequest) -> bool {
    object.spec.signer_name == POD_SIGNER && conditions(object).any(|one| one.type_ == ISSUED)
}

/// Takes in what the API has of a request; one that is decided, or another signer's, is nobody's concern here.
fn see(open: &mut HashMap<Key, Open>, key: Key, object: PodCertificateRequest) {
    let is_decided = conditions(&object).next().is_some();
    if is_decided || object.spec.signer_name != POD_SIGNER {
        end(open, &key);
        return;
    }
    let now = Instant::now();
    let object = Rc::new(object);
    match open.get_mut(&key).filter(|one| one.object.uid() == object.uid()) {
        Some(one) => {
            one.due = if one.object.resource_version() == object.resource_version() {
                one.due
            } else {
                now
            };
            one.object = object;
        }
        None => {
            let one = Open {
                object,
                seen: now,
                due: now,
                busy: false,
                is_over: false,
                tries: 0,
                code: "",
                told: String::new(),
            };
            open.insert(key, one);
        }
    }
}

/// Forgets a request, once what is on its way about it is told.
fn end(open: &mut HashMap<Key, Open>, key: &Key) {
    match open.get_mut(key) {
        Some(one) if one.busy => one.is_over = true,
        _ => drop(open.remove(key)),
    }
}

impl PodSigning {
    /// Waits until the API has such requests: a beta that clusters need not serve.
    async fn until_served(&self) {
        let mut told = false;
        loop {
            let group = "certificates.k8s.io/v1beta1";
            let asked = self.client.list_api_group_resources(group);
            let kind = <PodCertificateRequest as k8s_openapi::Resource>::KIND;
            if let Ok(list) = ask("see what the API has", asked).await
                && list.resources.iter().any(|resource| resource.kind == kind)
            {
                self.log(LogLevel::Info, "the API has requests of pods", Vec::new());
                return;
            }
            if !told && self.admission.borrow().signers.pods.is_some() {
                let why = format!(
                    "the apiserver serves no {kind}: --feature-gates={kind}=true \
                     --runtime-config={group}=true"
                );
                self.log(LogLevel::Warning, "pods cannot ask", vec![("why", why)]);
                told = true;
            }
            sleep(SERVED).await;
        }
    }

    async fn decide(&self, object: &PodCertificateRequest) -> Result<Outcome, Error> {
        let request = object::pod_request(object);
        let pod = self.pod(&request).await?;
        let ruling = judge_pod(
            &request,
            pod.as_ref(),
            &self.admission.borrow(),
            &self.history.borrow(),
            &self.policy,
        );
        let now = (self.clock)();
        let (grant, whom, ground) = match &ruling {
            Ruling::Approve { grant: Some(grant), whom, ground } => (grant, whom, ground),
            Ruling::Approve { .. } => return Ok(Outcome::Gone),
            Ruling::Leave(objections) => {
                let ((code, reason), why) = (code(objections), text(objections));
                return Ok(Outcome::Waits { code, reason, why });
            }
            Ruling::Deny(objections) => {
                let (code, reason) = code(objections);
                let why = text(objections);
                let status = json!({"conditions": [condition("Denied", reason, &why, now)]});
                if !self.is_quiet {
                    self.answer(object, status).await?;
                }
                let reason = Some(reason);
                return Ok(Outcome::Answered {
                    what: "denied",
                    code,
                    reason,
                    why,
                    fields: Vec::new(),
                });
            }
        };
        if self.is_quiet {
            return Ok(Outcome::Answered {
                what: "approve",
                code: "",
                reason: None,
                why: ground.clone(),
                fields: Vec::new(),
            });
        }
        let signed = self.sign(object, grant, whom, ground, now);
        let (signed, refresh) = match signed {
            Ok(signed) => signed,
            Err(why) => return Ok(Outcome::Waits { code: "", reason: "CannotSign", why }),
        };
        // Nothing else was decided since the judge counted; the watch brings it only later.
        self.history.borrow_mut().add(&request);
        let why = format!("{ground}; serial {}", signed.serial);
        let status = json!({
            "conditions": [condition(ISSUED, ISSUED, &why, now)],
            "certificateChain": signed.pem,
            "notBefore": signed.validity.not_before.to_string(),
            "beginRefreshAt": refresh.to_string(),
            "notAfter": signed.validity.not_after.to_string(),
        });
        self.answer(object, status).await?;
        let names: Vec<String> = grant.profile.sans.iter().map(ToString::to_string).collect();
        let fields = vec![
            ("serial", signed.serial),
            ("fingerprint", signed.fingerprint),
            ("names", names.join(", ")),
            ("not_after", signed.validity.not_after.to_string()),
        ];
        Ok(Outcome::Answered { what: "signed", code: "", reason: None, why, fields })
    }

    /// The certificate, and when the kubelet is to ask for the next one: after two thirds of its life.
    fn sign(
        &self,
        object: &PodCertificateRequest,
        grant: &Grant,
        whom: &str,
        ground: &str,
        now: Timestamp,
    ) -> Result<(SignedCertificate, Timestamp), String> {
        let order = SigningOrder {
            grant,
            object: format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()),
            signer: POD_SIGNER,
            requester: &object.spec.node_name,
            whom,
            groups: Vec::new(),
            ground,
        };
        let signed = (self.signer.borrow_mut())(&order, now)?;
        for warning in &signed.warnings {
            self.log(LogLevel::Warning, "signing", vec![("why", warning.clone())]);
        }
        let (begin, end) = (signed.validity.not_before, signed.validity.not_after);
        let life = end.unix().saturating_sub(begin.unix());
        if life < SHORTEST.0 {
            return Err(format!("{} ends too soon, {end}", grant.authority.id));
        }
        Ok((signed, begin.plus(Span(life / 3 * 2))))
    }

    /// What the cluster has of the pod that is named.
    async fn pod(&self, request: &PodRequest) -> Result<Option<PodRecord>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &request.namespace);
        let Some(pod) = ask("look at the pod", pods.get_opt(&request.pod)).await? else {
            return Ok(None);
        };
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.client.clone(), &request.namespace);
        let account = accounts.get_opt(&request.account);
        let account = ask("look at the service account", account).await?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let spec = pod.spec.as_ref();
        Ok(Some(PodRecord {
            uid: pod.uid().unwrap_or_default(),
            account: spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
            account_uid: account.and_then(|account| account.uid()),
            node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            has_ended: matches!(phase, Some("Succeeded" | "Failed")),
        }))
    }

    /// Writes the status of the very version that was judged.
    async fn answer(&self, object: &PodCertificateRequest, status: Value) -> Result<(), Error> {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<PodCertificateRequest> = Api::namespaced(self.client.clone(), &namespace);
        let version = object.resource_version();
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
        let (name, parameters) = (object.name_any(), PatchParams::default());
        let patch = Patch::Merge(&patch);
        ask("answer the pod's request", api.patch_status(&name, &parameters, &patch)).await?;
        Ok(())
    }

    /// Takes in what became of a request; whether it is done with.
    fn settle(&self, (namespace, request): &Key, one: &mut Open, outcome: Outcome) -> bool {
        let now = Instant::now();
        let spec = &one.object.spec;
        let mut fields: Fields = vec![
            ("request", format!("{}/{}", name(namespace), name(request))),
            ("signer", POD_SIGNER.to_owned()),
            ("requester", name(&spec.node_name)),
            ("pod", name(&spec.pod_name)),
            ("for", format!("{}/{}", name(namespace), name(&spec.service_account_name))),
        ];
        match outcome {
            Outcome::Answered { what, code, why, fields: more, .. } => {
                let took = now.duration_since(one.seen);
                let is_fault = what == "denied";
                if !self.is_quiet {
                    with_board(&self.board, |board| {
                        board.tallies.decided(POD_SIGNER, what, code, took);
                    });
                }
                fields.extend([("code", code.to_owned()), ("why", why)]);
                fields.extend(more);
                fields.push(("milliseconds", took.as_millis().to_string()));
                self.log(if is_fault { LogLevel::Warning } else { LogLevel::Info }, what, fields);
                true
            }
            Outcome::Waits { code, why, .. } => {
                one.code = code;
                one.tries = one.tries.saturating_add(1);
                one.due = now + pause(one.tries);
                if one.told != why {
                    one.told.clone_from(&why);
                    fields.extend([("code", code.to_owned()), ("why", why)]);
                    let what = if code.is_empty() { "cannot sign" } else { "left" };
                    self.log(LogLevel::Warning, what, fields);
                }
                false
            }
            Outcome::Gone | Outcome::Failed(Error::Api { status: Some(404), .. }) => true,
            // It has changed since it was read; the watch brings how.
            Outcome::Failed(Error::Api { status: Some(409), .. }) => {
                one.due = now + Duration::from_secs(1);
                false
            }
            Outcome::Failed(error) => {
                one.tries = one.tries.saturating_add(1);
                one.due = now + pause(one.tries);
                with_board(&self.board, |board| board.tallies.api_errors += 1);
                fields.push(("why", with_causes(&error)));
                self.log(LogLevel::Warning, "a pod's request was not answered", fields);
                false
            }
        }
    }

    /// Sends an Event about a request. `kubectl describe podcertificaterequest` shows it.
    fn publish(
        &self,
        object: &PodCertificateRequest,
        reason: &str,
        note: String,
        publisher: &mut Publisher,
    ) {
        let about = object.object_ref(&());
        if self.is_quiet || !publisher.send(about, EventType::Warning, reason, note) {
            with_board(&self.board, |board| board.tallies.events_dropped += 1);
        }
    }

    fn log(&self, level: LogLevel, message: &'static str, fields: Fields) {
        (self.log)(&LogLine { level, message, fields });
    }
}

fn pause(tries: u32) -> Duration {
    Duration::from_secs(1 << tries.min(6)).min(LONGEST_PAUSE)
}

/// The code of the first objection, and the API's reason.
fn code(objections: &[RequestObjection]) -> (&'static str, &'static str) {
    let spec = objections.first().map(|objection| objection.fault.spec());
    spec.map_or(("", ""), |spec| (spec.name, spec.reason))
}

fn text(objections: &[RequestObjection]) -> String {
    let said: Vec<String> = objections.iter().map(ToString::to_string).collect();
    match objections.first() {
        Some(first) => format!("{}. To do: {}", said.join("; "), first.fault.spec().fix),
        None => String::new(),
    }
}

fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: object::required_time(now),
        observed_generation: None,
    }
}
