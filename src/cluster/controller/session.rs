//! The loop itself, with one credential. What it knows outlives a change of the credential.

mod sentence;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::Either, stream::FuturesUnordered};
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Node};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        events::{EventType, Recorder, Reporter},
        watcher,
    },
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep_until},
};

use self::sentence::Sentence;
use super::{
    LogLevel, LogLine, Settings,
    events::Publisher,
    patrol::{self, Patrol, PatrolMemory},
    pods::{self, PodSigning},
    register,
    trust::{self, SharedTrust, TrustKeeper},
};
use crate::{
    cluster::{
        Error,
        connection::{PATIENCE, ask},
        docket::Docket,
        election::Candidate,
        object,
        serve::{Board, with_board},
        signing::CertificateSigner,
    },
    model::{
        catalogue::roles,
        cluster::Cluster,
        election::LEASE_PERIOD,
        request::{
            Admission, CertificateRequest, Inventory, NodeRegister, PodHistory, RequestFault,
            RequestObjection, Ruling,
        },
    },
};

/// How many decisions are on their way at once.
const DECISIONS: usize = 32;
/// When a request that was left is looked at again, if nothing happened to it before.
const AGAIN: Duration = Duration::from_secs(30);
/// How often certkit.yaml and the credential are read again.
const REREAD: Duration = Duration::from_secs(10);
/// How long a complaint is not repeated.
const SAID: Duration = Duration::from_secs(60);
/// The longest pause after a question that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a session ended.
pub enum Ending {
    /// This signal said so.
    Stopped(&'static str),
    /// What the client was made of is not what there is now.
    OtherCredential,
}

type Decided = (String, Result<CertificateSigningRequest, Error>, Box<Decision>);
type Deciding = Pin<Box<dyn Future<Output = Decided>>>;

/// A sentence on its way to the API.
struct Decision {
    sentence: Sentence,
    seen: Instant,
}

pub struct Session {
    settings: Settings,
    board: Board,
    client: Client,
    material: Vec<Vec<u8>>,
    candidate: Option<Candidate>,
    docket: Docket,
    inventory: Inventory,
    cluster: Option<Cluster>,
    /// Whether the requests, and the nodes, have been read whole.
    listed: [bool; 2],
    /// Nodes that a list that is being read has named, while it is.
    listing: Option<BTreeSet<String>>,
    leads: bool,
    /// What was complained of last, by what it is about: an apiserver that is away is no news every second.
    complained: RefCell<BTreeMap<&'static str, (String, Instant)>>,
    patrol_memory: Rc<RefCell<PatrolMemory>>,
    /// What is published, which copies in the cluster are held against.
    known_trust: SharedTrust,
    /// What signs, if that is done here: for what is decided in this loop, and for pods.
    signer: Option<Rc<RefCell<CertificateSigner>>>,
    /// Whom certkit.yaml admits, as pods' requests are held against it.
    pods_admission: Rc<RefCell<Admission>>,
    /// What pods were given lately.
    pod_history: Rc<RefCell<PodHistory>>,
}

impl Session {
    /// Begins. A credential or a certkit.yaml that cannot be read is told now; a cluster that is away is waited for.
    pub async fn new(mut settings: Settings, board: Board) -> Result<Self, Error> {
        let material = settings.access.material();
        let client = settings.access.client().await?;
        let lease = &settings.lease;
        let candidate =
            Candidate::new(client.clone(), &lease.namespace, &lease.name, &settings.identity);
        let inventory = Inventory {
            declared: settings.declared.is_some().then(NodeRegister::default),
            live: settings.live.then(NodeRegister::default),
            admission: Admission::default(),
        };
        let listed = [false, !settings.live];
        let signer = settings.signing.take().map(RefCell::new).map(Rc::new);
        let docket = Docket::new(signer.is_some());
        let mut session = Self {
            settings,
            board,
            client,
            material,
            candidate: Some(candidate),
            docket,
            inventory,
            cluster: None,
            listed,
            listing: None,
            leads: false,
            complained: RefCell::default(),
            patrol_memory: Rc::default(),
            known_trust: SharedTrust::default(),
            signer,
            pods_admission: Rc::default(),
            pod_history: Rc::default(),
        };
        session.read_declaration(true);
        session.log(
            LogLevel::Info,
            "started",
            vec![
                ("identity", session.settings.identity.clone()),
                ("dry_run", session.settings.dry_run.to_string()),
            ],
        );
        Ok(session)
    }

    /// Decides until a signal comes, or the credential is another.
    pub async fn run(&mut self, stop: impl Future<Output = &'static str>) -> Ending {
        let mut stop = pin!(stop);
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let mut requests = pin!(watcher(api.clone(), watcher::Config::default()).default_backoff());
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut nodes = pin!(match self.settings.live {
            true => Either::Left(watcher(nodes, watcher::Config::default()).default_backoff()),
            false => Either::Right(futures_util::stream::pending()),
        });
        let recorder = Recorder::new(
            self.client.clone(),
            Reporter {
                controller: roles::CONTROLLER.id.into(),
                instance: Some(self.settings.identity.clone()),
            },
        );
        let (election, mut leads_until) = self.stand();
        let mut patrol = Box::pin(patrol::run(self.patrol(&leads_until)));
        let mut trust = Box::pin(trust::run(self.trust(&leads_until)));
        let mut pods = Box::pin(pods::run(self.pod_signing(&leads_until, &recorder)));
        let mut deciding: FuturesUnordered<Deciding> = FuturesUnordered::new();
        let mut publisher = Publisher::new(recorder.clone());
        let mut tick = interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reread = Instant::now() + REREAD;

        let ending = loop {
            let until = *leads_until.borrow_and_update();
            self.lead(until.is_some_and(|until| until > Instant::now()));
            if self.leads && self.listed == [true, true] {
                self.decide(&api, &mut deciding, &mut publisher);
            }
            let due = self.docket.next_due().filter(|_| self.leads && deciding.len() < DECISIONS);
            // What is due already waits for the lists, which end by an event of their own.
            let due = due.map(|due| due.max(Instant::now() + Duration::from_millis(5)));
            tokio::select! {
                signal = &mut stop => break Ending::Stopped(signal),
                event = requests.next() => self.see_request(event),
                event = nodes.next() => self.see_node(event),
                Some(decided) = deciding.next() => {
                    self.settle(decided, &mut publisher);
                }
                Some(published) = publisher.next() => {
                    if published.is_err() {
                        self.count(|tallies| tallies.events_dropped += 1);
                    }
                }
                Ok(()) = leads_until.changed() => {}
                () = &mut patrol => {}
                () = &mut trust => {}
                () = &mut pods => {}
                () = sleep_until(due.unwrap_or_else(far).into()) => {}
                _ = tick.tick() => {
                    self.report();
                    if Instant::now() >= reread {
                        reread = Instant::now() + REREAD;
                        self.read_declaration(false);
                        let material = self.settings.access.material();
                        if material != self.material {
                            break Ending::OtherCredential;
                        }
                    }
                }
            }
        };
        // What is on its way is not broken off: it may have been taken.
        let rest = async {
            while let Some(decided) = deciding.next().await {
                self.settle(decided, &mut publisher);
            }
            while publisher.next().await.is_some() {}
        };
        let _ = tokio::time::timeout(PATIENCE, rest).await;
        // Who takes part in the election goes on for as long as anybody listens.
        drop((leads_until, patrol, trust, pods));
        self.candidate = election.await.ok();
        ending
    }

    fn patrol(&self, leads_until: &watch::Receiver<Option<Instant>>) -> Option<Patrol> {
        let settings = self.settings.patrol.clone()?;
        Some(Patrol {
            client: self.client.clone(),
            settings,
            memory: self.patrol_memory.clone(),
            known_trust: self.known_trust.clone(),
            board: self.board.clone(),
            log: self.settings.log.clone(),
            clock: self.settings.clock,
            identity: self.settings.identity.clone(),
            is_quiet: self.settings.dry_run,
            leads_until: leads_until.clone(),
        })
    }

    fn trust(&self, leads_until: &watch::Receiver<Option<Instant>>) -> Option<TrustKeeper> {
        let settings = self.settings.trust.clone()?;
        Some(TrustKeeper {
            client: self.client.clone(),
            settings,
            shared: self.known_trust.clone(),
            board: self.board.clone(),
            log: self.settings.log.clone(),
            clock: self.settings.clock,
            identity: self.settings.identity.clone(),
            is_dry: self.settings.dry_run,
            leads_until: leads_until.clone(),
        })
    }

    fn pod_signing(
        &self,
        leads_until: &watch::Receiver<Option<Instant>>,
        recorder: &Recorder,
    ) -> Option<PodSigning> {
        Some(PodSigning {
            client: self.client.clone(),
            signer: self.signer.clone()?,
            admission: self.pods_admission.clone(),
            policy: self.settings.policy,
            history: self.pod_history.clone(),
            recorder: recorder.clone(),
            board: self.board.clone(),
            log: self.settings.log.clone(),
            clock: self.settings.clock,
            is_quiet: self.settings.dry_run,
            leads_until: leads_until.clone(),
        })
    }

    /// Takes part in the election until nobody listens any more, and tells until when this replica leads.
    fn stand(&mut self) -> (JoinHandle<Candidate>, watch::Receiver<Option<Instant>>) {
        let lease = &self.settings.lease;
        let mut candidate = match self.candidate.take() {
            Some(candidate) => candidate.with_client(self.client.clone(), &lease.namespace),
            None => Candidate::new(
                self.client.clone(),
                &lease.namespace,
                &lease.name,
                &self.settings.identity,
            ),
        };
        let (tell, told) = watch::channel(candidate.leads_until());
        let (clock, board) = (self.settings.clock, self.board.clone());
        let election = tokio::spawn(async move {
            while !tell.is_closed() {
                if candidate.step(clock()).await.is_err() {
                    with_board(&board, |board| board.tallies.api_errors += 1);
                }
                tell.send_replace(candidate.leads_until());
                tokio::select! {
                    () = tokio::time::sleep(LEASE_PERIOD) => {}
                    () = tell.closed() => {}
                }
            }
            candidate
        });
        (election, told)
    }

    /// Ends: gives the Lease back.
    pub async fn finish(&mut self, signal: &'static str) {
        if let Some(candidate) = &mut self.candidate
            && let Err(error) = candidate.release((self.settings.clock)()).await
        {
            self.complain("the Lease was not given back", &error);
        }
        self.log(LogLevel::Info, "stopped", vec![("signal", signal.to_owned())]);
    }

    /// Goes on with the credential that there is now. One that cannot be read yet is tried again; until then the old one
    /// is used.
    pub async fn reconnect(&mut self) {
        let material = self.settings.access.material();
        match self.settings.access.client().await {
            Ok(client) => {
                self.client = client;
                self.log(LogLevel::Info, "credential changed", Vec::new());
            }
            Err(error) => self.complain("the changed credential cannot be used", &error),
        }
        self.material = material;
    }

    fn lead(&mut self, leads: bool) {
        if leads == self.leads {
            return;
        }
        self.leads = leads;
        let message = if leads { "leading" } else { "standing by" };
        self.log(LogLevel::Info, message, vec![("identity", self.settings.identity.clone())]);
        if leads {
            self.docket.set_all_due(Instant::now());
        }
    }

    fn see_request(
        &mut self,
        event: Option<watcher::Result<watcher::Event<CertificateSigningRequest>>>,
    ) {
        let now = Instant::now();
        match event {
            Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                self.docket.put(&object, now);
            }
            Some(Ok(watcher::Event::Delete(object))) => self.docket.remove(&object.name_any()),
            Some(Ok(watcher::Event::Init)) => self.docket.begin_list(),
            Some(Ok(watcher::Event::InitDone)) => {
                self.docket.end_list();
                self.listed[0] = true;
            }
            Some(Err(error)) => self.complain("requests cannot be watched", &error),
            None => {}
        }
    }

    fn see_node(&mut self, event: Option<watcher::Result<watcher::Event<Node>>>) {
        let now = Instant::now();
        let Some(live) = &mut self.inventory.live else { return };
        match event {
            Some(Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node))) => {
                let name = node.name_any();
                if let Some(listing) = &mut self.listing {
                    listing.insert(name.clone());
                }
                let record = object::node(&node);
                if live.node(&name) != Some(&record) {
                    live.put(&name, record);
                    self.docket.set_node_due(&name, now);
                }
            }
            Some(Ok(watcher::Event::Delete(node))) => live.remove(&node.name_any()),
            Some(Ok(watcher::Event::Init)) => self.listing = Some(BTreeSet::new()),
            Some(Ok(watcher::Event::InitDone)) => {
                if let Some(listing) = self.listing.take() {
                    live.retain(|name| listing.contains(name));
                }
                self.listed[1] = true;
                self.docket.set_all_due(now);
            }
            Some(Err(error)) => self.complain("nodes cannot be watched", &error),
            None => {}
        }
    }

    /// Decides on what is due, as far as there is room for it.
    fn decide(
        &mut self,
        api: &Api<CertificateSigningRequest>,
        deciding: &mut FuturesUnordered<Deciding>,
        publisher: &mut Publisher,
    ) {
        while deciding.len() < DECISIONS {
            let Some(name) = self.docket.take_due(Instant::now()) else { return };
            let Some(entry) = self.docket.get(&name) else { continue };
            if !self.docket.is_open(&entry.request) || entry.deciding.is_some() {
                continue;
            }
            let ruling = self.docket.rule(entry, &self.inventory, &self.settings.policy);
            let request = entry.request.clone();
            let told: Vec<RequestFault> = ruling.objections().iter().map(|o| o.fault).collect();
            match &ruling {
                Ruling::Leave(objections) => {
                    let is_news = entry.told != told;
                    self.docket.set_due(&name, Instant::now() + AGAIN);
                    if is_news {
                        self.say(LogLevel::Warning, "left", &request, objections);
                        let note = objections_text(objections);
                        let reason = objections.first().map_or("", |o| o.fault.spec().reason);
                        self.publish(&name, reason, &note, true, publisher);
                    }
                }
                Ruling::Approve { .. } | Ruling::Deny(_) if self.settings.dry_run => {
                    if entry.told != told || entry.tries == 0 {
                        self.say(LogLevel::Info, ruling.name(), &request, ruling.objections());
                    }
                    if let Some(entry) = self.docket.get_mut(&name) {
                        entry.tries = 1;
                    }
                }
                Ruling::Approve { .. } | Ruling::Deny(_) => {
                    match self.sentence(&request, &ruling) {
                        Ok(sentence) => deciding.push(self.submit(api, &name, sentence)),
                        Err(why) => self.wait_for_signer(&name, &request, why),
                    }
                }
            }
            if let Some(entry) = self.docket.get_mut(&name) {
                entry.told = told;
            }
        }
    }

    fn submit(
        &mut self,
        api: &Api<CertificateSigningRequest>,
        name: &str,
        sentence: Sentence,
    ) -> Deciding {
        let now = (self.settings.clock)();
        // Who calls has just looked it up, and nothing else runs meanwhile: it is always there.
        let (status, version, seen) = match self.docket.get_mut(name) {
            Some(entry) => {
                entry.deciding = Some(sentence.says_yes());
                (sentence.status(entry, now), entry.version.clone(), entry.seen)
            }
            None => (serde_json::Value::Null, String::new(), Instant::now()),
        };
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": version},
            "status": status,
        });
        let (api, name) = (api.clone(), name.to_owned());
        let decision = Box::new(Decision { sentence, seen });
        Box::pin(async move {
            let patch = Patch::Merge(&patch);
            let parameters = PatchParams::default();
            let answer = match decision.sentence.is_signers() {
                true => {
                    let sent = api.patch_status(&name, &parameters, &patch);
                    ask("hand out the certificate", sent).await
                }
                false => {
                    let sent = api.patch_approval(&name, &parameters, &patch);
                    ask("decide on the request", sent).await
                }
            };
            (name, answer, decision)
        })
    }

    /// Takes in what the API said to a decision.
    fn settle(&mut self, (name, answer, decision): Decided, publisher: &mut Publisher) {
        let now = Instant::now();
        let Some(entry) = self.docket.get_mut(&name) else { return };
        entry.deciding = None;
        match answer {
            Ok(object) => {
                let request = entry.request.clone();
                let took = now.duration_since(decision.seen);
                self.docket.put(&object, now);
                // The watch may have brought it while the answer was on its way: what is approved is still to be signed.
                self.docket.look_again(&name, now);
                let Sentence { kind, reason, message, code, fields } = &decision.sentence;
                let what = kind.name();
                self.count(|tallies| tallies.decided(&request.signer, what, code, took));
                let is_fault = !decision.sentence.says_yes();
                let level = if is_fault { LogLevel::Warning } else { LogLevel::Info };
                let mut said = who(&request);
                said.push(("code", (*code).to_owned()));
                said.push(("why", message.clone()));
                said.extend(fields.iter().cloned());
                said.push(("milliseconds", took.as_millis().to_string()));
                self.log(level, what, said);
                self.publish(&name, reason, message, is_fault, publisher);
            }
            // It has changed since it was read; the watch brings how.
            Err(Error::Api { status: Some(409), .. }) => {
                self.docket.set_due(&name, now + Duration::from_secs(1));
            }
            Err(Error::Api { status: Some(404), .. }) => self.docket.remove(&name),
            Err(error) => {
                entry.tries = entry.tries.saturating_add(1);
                let pause = Duration::from_secs(1 << entry.tries.min(6)).min(LONGEST_PAUSE);
                self.docket.set_due(&name, now + pause);
                self.complain("a decision was not taken", &error);
            }
        }
    }

    fn publish(
        &self,
        name: &str,
        reason: &str,
        note: &str,
        is_fault: bool,
        publisher: &mut Publisher,
    ) {
        let Some(entry) = self.docket.get(name) else { return };
        let about = k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some("certificates.k8s.io/v1".into()),
            kind: Some("CertificateSigningRequest".into()),
            name: Some(name.to_owned()),
            uid: Some(entry.uid.clone()),
            ..Default::default()
        };
        let type_ = if is_fault { EventType::Warning } else { EventType::Normal };
        let is_sent =
            !self.settings.dry_run && publisher.send(about, type_, reason, note.to_owned());
        if !is_sent {
            self.count(|tallies| tallies.events_dropped += 1);
        }
    }

    /// Reads certkit.yaml again. One that cannot be read changes nothing: the last one that could counts.
    fn read_declaration(&mut self, is_first: bool) {
        let Some(reader) = &mut self.settings.declared else { return };
        match register(reader, &mut self.cluster) {
            Ok(Some(register)) => {
                let nodes = register.len();
                self.inventory.declared = Some(register);
                self.inventory.admission =
                    self.cluster.as_ref().map(Admission::of).unwrap_or_default();
                self.pods_admission.borrow_mut().clone_from(&self.inventory.admission);
                self.docket.set_all_due(Instant::now());
                self.count(|tallies| tallies.inventory_fault = false);
                let message = if is_first { "inventory read" } else { "inventory changed" };
                self.log(LogLevel::Info, message, vec![("nodes", nodes.to_string())]);
            }
            Ok(None) => self.count(|tallies| tallies.inventory_fault = false),
            Err(why) => {
                self.count(|tallies| tallies.inventory_fault = true);
                self.log(LogLevel::Warning, "certkit.yaml cannot be read", vec![("why", why)]);
            }
        }
    }

    /// Puts on the board how it is.
    fn report(&self) {
        let mut pending: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
        for entry in self.docket.entries() {
            let signer = &entry.request.signer;
            // What is approved and cannot be signed waits, too.
            if self.docket.is_open(&entry.request) {
                let code = entry.told.first().map_or("", |fault| fault.spec().name);
                *pending.entry((signer.clone(), code)).or_default() += 1;
            }
        }
        let nodes = self.inventory.sources();
        let nodes = nodes.map(|(register, called)| (called, register.len() as u64)).collect();
        let is_ready = self.listed == [true, true]
            && (self.settings.declared.is_none() || self.cluster.is_some());
        with_board(&self.board, |board| {
            board.alive = Instant::now();
            board.tallies.pending = pending;
            board.tallies.nodes = nodes;
            board.tallies.leads = self.leads;
            board.tallies.ready = is_ready;
        });
    }

    fn count(&self, add: impl FnOnce(&mut crate::cluster::metrics::Tallies)) {
        with_board(&self.board, |board| add(&mut board.tallies));
    }

    fn say(
        &self,
        level: LogLevel,
        message: &'static str,
        request: &CertificateRequest,
        objections: &[RequestObjection],
    ) {
        let mut fields = who(request);
        let code = objections.first().map_or("", |o| o.fault.spec().name);
        fields.push(("code", code.to_owned()));
        fields.push(("why", objections_text(objections)));
        self.log(level, message, fields);
    }

    fn complain(&self, message: &'static str, error: &dyn std::error::Error) {
        self.count(|tallies| tallies.api_errors += 1);
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // kube's errors say their causes, too.
            if !why.contains(&text) {
                why = format!("{why}: {text}");
            }
            cause = error.source();
        }
        let mut complained = self.complained.borrow_mut();
        let said = complained
            .get(message)
            .is_some_and(|(before, at): &(String, Instant)| *before == why && at.elapsed() < SAID);
        if !said {
            complained.insert(message, (why.clone(), Instant::now()));
            self.log(LogLevel::Warning, message, vec![("why", why)]);
        }
    }

    fn log(&self, level: LogLevel, message: &'static str, fields: Vec<(&'static str, String)>) {
        (self.settings.log)(&LogLine { level, message, fields });
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn who(request: &CertificateRequest) -> Vec<(&'static str, String)> {
    use crate::model::shown::name;
    vec![
        ("request", name(&request.name)),
        ("signer", request.signer.clone()),
        ("requester", name(&request.username)),
        ("node", request.node().map(name).unwrap_or_default()),
        ("for", request.whom().map(name).unwrap_or_default()),
    ]
}

/// All objections as a person reads them, and what to do about the first.
fn objections_text(objections: &[RequestObjection]) -> String {
    let said: Vec<String> = objections.iter().map(RequestObjection::to_string).collect();
    match objections.first() {
        Some(first) => format!("{}. To do: {}", said.join("; "), first.fault.spec().fix),
        None => String::new(),
    }
}
