//! What in the cluster carries certificates, looked through again and again: by the replica that leads, a page at a time.
//! Nothing of a page is kept but what the certificates in it say.

mod kept;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::{
    api::{
        core::v1::{Node, ObjectReference},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
    client::Body,
    core::Request,
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{LogLevel, LogLine, LogSink, trust::SharedTrust};
use crate::{
    cluster::{
        Error,
        connection::{PATIENCE, ask},
        serve::{Board, with_board},
    },
    model::{
        carrier::{
            Carried, Carrier, Concern, Glance, KubeletAddress, LeftOut, Notice, Roster, StaleCopy,
            ToldCarriers, TrustPlaces,
        },
        catalogue::{CARRIERS, CarrierKind, CarrierSource, LISTENERS, roles},
        check::expiry::{Status, Thresholds},
        timestamp::Timestamp,
        trust::KnownTrust,
    },
};

/// How many objects a page has at first, and at most. Where they are large it is fewer.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 500;
/// What an answer may have; an object cannot have that much by itself.
const OCTETS: usize = 16 << 20;
/// Below this, the next page may have more objects.
const SMALL: usize = 1 << 20;
/// What is read of an answer that says no.
const REFUSAL: usize = 64 << 10;
/// Kubelets that are asked before it is seen whether this replica still leads.
const KUBELETS: usize = 64;
/// And how many are asked in all.
const MOST_KUBELETS: usize = 10_000;
/// How long a page of questions to kubelets, or the reading of a page, may be away.
const SLOW: Duration = Duration::from_secs(120);
/// How often it is looked whether this replica leads.
const TURN: Duration = Duration::from_secs(1);
/// What an Event can hold (`pkg/apis/core/validation/events.go`: 1024).
const NOTE: usize = 1000;

/// Reads a page of objects; copies of what is published are held against that.
pub type PageReader = Arc<dyn Fn(Vec<u8>, &[KnownTrust]) -> Result<Glance, String> + Send + Sync>;
/// Asks kubelets what they serve.
pub type KubeletProber = Arc<dyn Fn(Vec<KubeletAddress>) -> Glance + Send + Sync>;
/// Makes metrics of what there is.
pub type CarriedRenderer = Arc<dyn Fn(&Patrolled<'_>) -> String>;

/// What is looked at, and how.
pub struct PatrolSettings {
    /// What.
    pub sources: Vec<CarrierSource>,
    /// How long it rests in between.
    pub interval: Duration,
    /// When the end is near.
    pub thresholds: Thresholds,
    /// Reads a page.
    pub page: PageReader,
    /// Asks kubelets.
    pub kubelets: KubeletProber,
    /// Makes metrics.
    pub render: CarriedRenderer,
}

/// What was seen.
pub struct Patrolled<'p> {
    /// Every certificate.
    pub carried: Vec<&'p Carried>,
    /// Every copy of a CA that is behind what is published.
    pub stale: Vec<&'p StaleCopy>,
    /// What was left out.
    pub left_out: LeftOut,
    /// What could not be looked at the last time, of all that is.
    pub faults: Vec<(&'static str, bool)>,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// What outlives a change of the credential.
#[derive(Default)]
pub struct PatrolMemory {
    rosters: BTreeMap<&'static str, Roster>,
    /// What could not be looked at, and whether that was said.
    faults: BTreeMap<&'static str, String>,
    told: ToldCarriers,
}

/// What it takes.
pub struct Patrol {
    pub client: Client,
    pub settings: Rc<PatrolSettings>,
    pub memory: Rc<RefCell<PatrolMemory>>,
    pub known_trust: SharedTrust,
    pub board: Board,
    pub log: LogSink,
    pub clock: fn() -> Timestamp,
    pub identity: String,
    /// Whether it only looks.
    pub is_quiet: bool,
    pub leads_until: watch::Receiver<Option<Instant>>,
}

/// What a list says of itself.
#[derive(serde::Deserialize)]
struct Listed {
    #[serde(default)]
    metadata: ListedMeta,
}

#[derive(Default, serde::Deserialize)]
struct ListedMeta {
    #[serde(default, rename = "continue")]
    token: String,
}

#[derive(serde::Deserialize)]
struct Nodes {
    items: Vec<Node>,
}

/// Why a page did not come.
enum Fault {
    /// It has too much for one.
    Large,
    /// The list has changed too much since its first page.
    Gone,
    /// Otherwise: why.
    Other(String),
}

impl Patrol {
    /// Looks, for as long as it is polled.
    pub async fn run(self) {
        loop {
            if !self.leads() {
                self.forget();
                sleep(TURN).await;
                continue;
            }
            let begin = Instant::now();
            self.pass(begin).await;
            while self.leads() && begin.elapsed() < self.settings.interval {
                sleep(TURN.min(self.settings.interval)).await;
            }
        }
    }

    fn leads(&self) -> bool {
        self.leads_until.borrow().is_some_and(|until| until > Instant::now())
    }

    /// Who does not lead says nothing: the same certificate is told by one.
    fn forget(&self) {
        *self.memory.borrow_mut() = PatrolMemory::default();
        with_board(&self.board, |board| board.put_carried(String::new()));
    }

    async fn pass(&self, begin: Instant) {
        let rows = CARRIERS.iter().filter(|row| self.settings.sources.contains(&row.source));
        for kind in rows.clone() {
            let mut roster = Roster::default();
            let mut looked = self.look(kind, &mut roster).await;
            if matches!(looked, Err(Fault::Gone)) {
                roster = Roster::default();
                looked = self.look(kind, &mut roster).await;
            }
            if !self.leads() {
                return;
            }
            match looked {
                Ok(()) => {
                    roster.end();
                    let mut memory = self.memory.borrow_mut();
                    memory.rosters.insert(kind.resource, roster);
                    memory.faults.remove(kind.resource);
                }
                // What was seen before stays: whoever is alarmed by it is so rightly.
                Err(fault) => self.complain(kind.resource, fault),
            }
        }
        self.report(&rows.map(|kind| kind.resource).collect::<Vec<_>>(), begin);
        self.tell().await;
    }

    /// Looks through all objects of a kind.
    async fn look(&self, kind: &'static CarrierKind, roster: &mut Roster) -> Result<(), Fault> {
        let (mut limit, mut token, mut kubelets) = (PAGE, String::new(), 0);
        let places = match kind.source {
            CarrierSource::Pods => Arc::new(self.places()),
            CarrierSource::Objects | CarrierSource::Secrets | CarrierSource::Kubelets => {
                Arc::default()
            }
        };
        if kind.source == CarrierSource::Pods && places.is_empty() {
            return Ok(());
        }
        loop {
            if !self.leads() {
                return Ok(());
            }
            let page = match self.page(kind, limit, &token).await {
                Err(Fault::Large) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                page => page?,
            };
            if page.len() < SMALL {
                limit = (limit * 2).min(LARGEST_PAGE);
            }
            let listed: Listed =
                serde_json::from_slice(&page).map_err(|error| Fault::Other(error.to_string()))?;
            if kind.source == CarrierSource::Pods {
                let places = places.clone();
                let looked = elsewhere(move || kept::of_page(&page, &places)).await?;
                roster.take(looked.map_err(Fault::Other)?);
            } else if kind.source == CarrierSource::Kubelets {
                let mut all = addresses(&page)?;
                all.truncate(MOST_KUBELETS.saturating_sub(kubelets));
                kubelets += all.len();
                for some in all.chunks(KUBELETS) {
                    if !self.leads() {
                        return Ok(());
                    }
                    let (probe, some) = (self.settings.kubelets.clone(), some.to_vec());
                    roster.take(elsewhere(move || probe(some)).await?);
                }
            } else {
                let read = self.settings.page.clone();
                let known = self.known_trust.borrow().clone();
                let looked = elsewhere(move || read(page, &known)).await?;
                roster.take(looked.map_err(Fault::Other)?);
            }
            token = listed.metadata.token;
            if token.is_empty() {
                return Ok(());
            }
        }
    }

    /// Where copies of CAs are that pods can have.
    fn places(&self) -> TrustPlaces {
        let memory = self.memory.borrow();
        let known = self.known_trust.borrow().clone();
        TrustPlaces::joined(memory.rosters.values().map(Roster::trust), &known)
    }

    async fn page(&self, kind: &CarrierKind, limit: u32, token: &str) -> Result<Vec<u8>, Fault> {
        let mut parameters = ListParams::default().limit(limit);
        if let Some(selector) = kind.asked {
            parameters = parameters.fields(selector);
        }
        if !token.is_empty() {
            parameters = parameters.continue_token(token);
        }
        let other = |error: &dyn std::error::Error| Fault::Other(error.to_string());
        let request = Request::new(kind.path()).list(&parameters).map_err(|error| other(&error))?;
        let question = async {
            let response = self.client.send(request.map(Body::from)).await;
            let response = response.map_err(|error| other(&error))?;
            let status = response.status();
            let most = if status.is_success() { OCTETS } else { REFUSAL };
            let body = Limited::new(response.into_body(), most).collect().await;
            let body = body.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
                true => Fault::Large,
                false => Fault::Other(error.to_string()),
            });
            match status.as_u16() {
                200 => Ok(Vec::from(body?.to_bytes())),
                410 => Err(Fault::Gone),
                code => {
                    let text = body.map(|body| body.to_bytes()).unwrap_or_default();
                    let said: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
                    let said = said.as_ref().and_then(|said| said["message"].as_str());
                    Err(Fault::Other(said.map_or_else(|| format!("status {code}"), str::to_owned)))
                }
            }
        };
        match timeout(PATIENCE, question).await {
            Ok(page) => page,
            Err(_) => Err(Fault::Other(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    /// Said once for each reason.
    fn complain(&self, resource: &'static str, fault: Fault) {
        let why = match fault {
            Fault::Large => format!("one object has more than {} MiB", OCTETS >> 20),
            Fault::Gone => "it changes faster than it can be read".to_owned(),
            Fault::Other(why) => why,
        };
        let before = self.memory.borrow_mut().faults.insert(resource, why.clone());
        if before.as_ref() != Some(&why) {
            self.say(
                LogLevel::Warning,
                "what carries certificates cannot be looked through",
                vec![("resource", resource.to_owned()), ("why", why)],
            );
        }
    }

    fn report(&self, resources: &[&'static str], begin: Instant) {
        let memory = self.memory.borrow();
        let mut left_out = LeftOut::default();
        for roster in memory.rosters.values() {
            left_out.add(roster.left_out());
        }
        let patrolled = Patrolled {
            carried: memory.rosters.values().flat_map(Roster::carried).collect(),
            stale: memory.rosters.values().flat_map(Roster::stale).collect(),
            left_out,
            faults: resources.iter().map(|r| (*r, memory.faults.contains_key(r))).collect(),
            at: (self.clock)(),
            took: begin.elapsed(),
        };
        let text = (self.settings.render)(&patrolled);
        with_board(&self.board, |board| board.put_carried(text));
    }

    /// Tells what is new as Events.
    async fn tell(&self) {
        if self.is_quiet {
            return;
        }
        let (now, thresholds) = ((self.clock)(), &self.settings.thresholds);
        let due = {
            let memory = &mut *self.memory.borrow_mut();
            let carried = memory.rosters.values().flat_map(Roster::carried);
            let stale = memory.rosters.values().flat_map(Roster::stale);
            memory.told.due(carried, stale, now, thresholds)
        };
        for notice in due {
            if !self.leads() {
                return;
            }
            match self.send(&notice, now).await {
                // It was told by this name already: by another replica, or before a restart.
                Ok(()) | Err(Error::Api { status: Some(409), .. }) => {}
                Err(error) => {
                    self.memory.borrow_mut().told.forget(&notice.carrier);
                    with_board(&self.board, |board| board.tallies.events_dropped += 1);
                    // Whoever ended with its namespace needs no Event any more.
                    if !matches!(error, Error::Api { status: Some(404), .. }) {
                        let why = vec![("why", crate::model::shown::with_causes(&error))];
                        self.say(LogLevel::Warning, "an Event was not sent", why);
                        return;
                    }
                }
            }
        }
    }

    async fn send(&self, notice: &Notice, now: Timestamp) -> Result<(), Error> {
        let Carrier { kind, namespace, name, uid } = &*notice.carrier;
        let version = CarrierKind::of(kind).map(|row| row.version.to_owned());
        let place = namespace.clone().unwrap_or_else(|| "default".to_owned());
        let mut note = notice.note.clone();
        if let Some((end, _)) = note.char_indices().nth(NOTE) {
            note.truncate(end);
        }
        let event = Event {
            // The name of an object may be as long as an Event's.
            metadata: ObjectMeta {
                name: Some(format!("{}.{}", stem(name), notice.id)),
                namespace: Some(place.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Watch".into()),
            event_time: k8s_openapi::jiff::Timestamp::from_second(now.unix()).ok().map(MicroTime),
            note: Some(note),
            reason: Some(reason(notice.concern).into()),
            regarding: Some(ObjectReference {
                api_version: version,
                kind: Some(kind.clone()),
                name: Some(name.clone()),
                namespace: namespace.clone(),
                uid: Some(uid.clone()).filter(|uid| !uid.is_empty()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(roles::CONTROLLER.id.into()),
            reporting_instance: Some(self.identity.clone()),
            type_: Some("Warning".into()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &place);
        let parameters = PostParams::default();
        ask("send an Event", events.create(&parameters, &event)).await.map(drop)
    }

    fn say(&self, level: LogLevel, message: &'static str, fields: Vec<(&'static str, String)>) {
        (self.log)(&LogLine { level, message, fields });
    }
}

/// What takes its time is done on a thread of the runtime's, so that decisions do not wait for it.
async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    match timeout(SLOW, spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Fault::Other(error.to_string())),
        Err(_) => Err(Fault::Other(format!("not read within {} s", SLOW.as_secs()))),
    }
}

/// Where the kubelets of a page of nodes listen.
fn addresses(page: &[u8]) -> Result<Vec<KubeletAddress>, Fault> {
    let usual = LISTENERS.iter().find(|l| l.certificate == roles::KUBELET_SERVING.id);
    let usual = usual.map_or(0, |listener| listener.port);
    let nodes: Nodes =
        serde_json::from_slice(page).map_err(|error| Fault::Other(error.to_string()))?;
    let address = |node: Node| {
        let status = node.status.clone().unwrap_or_default();
        let all = status.addresses.unwrap_or_default();
        let internal = all.iter().find(|address| address.type_ == "InternalIP");
        let endpoint = status.daemon_endpoints.and_then(|ends| ends.kubelet_endpoint);
        let port = endpoint.and_then(|end| u16::try_from(end.port).ok()).filter(|port| *port != 0);
        KubeletAddress {
            node: Carrier {
                kind: "Node".into(),
                namespace: None,
                name: node.name_any(),
                uid: node.uid().unwrap_or_default(),
            },
            address: internal.and_then(|address| address.address.parse().ok()),
            port: port.unwrap_or(usual),
        }
    };
    Ok(nodes.items.into_iter().map(address).collect())
}

/// As much of a name as leaves room for what follows it.
fn stem(name: &str) -> &str {
    let end = name.char_indices().map(|(at, _)| at).nth(200).unwrap_or(name.len());
    name[..end].trim_end_matches(['.', '-'])
}

/// As the alert of the same is called.
fn reason(concern: Concern) -> &'static str {
    let Concern::Certificate(status) = concern else { return "TrustNotUpdated" };
    match status {
        Status::Expired => "CertificateExpired",
        Status::NotYetValid => "CertificateNotYetValid",
        Status::Critical | Status::Missing => "CertificateCritical",
        Status::Unknown => "CertificateUnknown",
        Status::Ok | Status::Warning | Status::NotOnDisk => "CertificateExpiresSoon",
    }
}

/// The patrol, or nothing for ever.
pub async fn run(patrol: Option<Patrol>) {
    match patrol {
        Some(patrol) => patrol.run().await,
        None => std::future::pending().await,
    }
}
