//! What is trusted of each CA, published for programs in the cluster: as a ConfigMap, and as a ClusterTrustBundle where the API
//! has it. By the replica that leads, and in step with the files.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        certificates::v1beta1::{ClusterTrustBundle, ClusterTrustBundleSpec},
        core::v1::{ConfigMap, ObjectReference},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, Resource, ResourceExt as _, api::PostParams};
use tokio::{sync::watch, time::sleep};

use super::{LogLevel, LogLine, LogSink};
use crate::{
    cluster::{
        Error,
        connection::ask,
        serve::{Board, with_board},
    },
    model::{
        catalogue::roles,
        shown::with_causes,
        timestamp::Timestamp,
        trust::{CHANGED, KEPT_BY, KnownTrust, OWN, PublishedTrust, TrustBundle, TrustMove},
    },
};

/// How often the files and what is published are compared.
const AGAIN: Duration = Duration::from_secs(10);
/// How often it is looked whether this replica leads.
const GLANCE: Duration = Duration::from_secs(1);
/// How often it is asked whether the API has ClusterTrustBundles.
const DISCOVERY: Duration = Duration::from_secs(60);
/// Their group and version.
const GROUP: &str = "certificates.k8s.io/v1beta1";
const RESOURCE: &str = "clustertrustbundles";
/// The fingerprints of what was trusted before, newest last.
const FORMER: &str = "certkit/former";
/// How many of them are kept.
const GENERATIONS: usize = 16;
/// The key in a ConfigMap, as in `kube-root-ca.crt`.
const KEY: &str = "ca.crt";

/// Reads what is trusted of a CA, as it is now.
pub type TrustReader = Rc<dyn Fn(&'static str) -> Result<TrustBundle, String>>;
/// The fingerprints of what a PEM text has.
pub type AnchorReader = Rc<dyn Fn(&[u8]) -> BTreeSet<String>>;

/// What is published, and where.
pub struct TrustSettings {
    /// The CAs.
    pub authorities: Vec<&'static str>,
    /// The namespaces that get a ConfigMap of each.
    pub namespaces: Vec<String>,
    /// Reads a bundle.
    pub read: TrustReader,
    /// Reads what is published.
    pub anchors: AnchorReader,
}

/// What is known of trust: told to whoever looks at copies.
pub type SharedTrust = Rc<RefCell<Arc<Vec<KnownTrust>>>>;

/// An object to publish in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    authority: &'static str,
    /// A ConfigMap's; a ClusterTrustBundle has none.
    namespace: Option<String>,
}

/// How it is with one.
#[derive(Clone, Debug, Default)]
struct Standing {
    fault: Option<String>,
    certificates: usize,
}

/// What it takes.
pub struct TrustKeeper {
    pub client: Client,
    pub settings: Rc<TrustSettings>,
    pub shared: SharedTrust,
    pub board: Board,
    pub log: LogSink,
    pub clock: fn() -> Timestamp,
    pub identity: String,
    /// Whether it only says what it would do.
    pub is_dry: bool,
    pub leads_until: watch::Receiver<Option<Instant>>,
}

/// An object that is published in.
trait Pulpit:
    Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug
where
    Self: serde::Serialize,
{
    fn text(&self) -> &str;
    fn with(self, text: String) -> Self;
}

impl Pulpit for ConfigMap {
    fn text(&self) -> &str {
        self.data.as_ref().and_then(|data| data.get(KEY)).map_or("", String::as_str)
    }

    fn with(mut self, text: String) -> Self {
        // Whoever mounts all of it gets nothing but this.
        self.data = Some(BTreeMap::from([(KEY.to_owned(), text)]));
        self.binary_data = None;
        self
    }
}

impl Pulpit for ClusterTrustBundle {
    fn text(&self) -> &str {
        &self.spec.trust_bundle
    }

    fn with(mut self, text: String) -> Self {
        self.spec = ClusterTrustBundleSpec { trust_bundle: text, ..self.spec };
        self
    }
}

impl TrustKeeper {
    /// Keeps it up for as long as it is polled.
    pub async fn run(self) {
        let mut standings: BTreeMap<Place, Standing> = BTreeMap::new();
        let mut discovered: Option<(Instant, bool)> = None;
        loop {
            if !self.leads() {
                standings.clear();
                self.report(&standings);
                sleep(GLANCE).await;
                continue;
            }
            if discovered.is_none_or(|(at, _)| at.elapsed() >= DISCOVERY) {
                discovered = self.is_served().await.map(|is| (Instant::now(), is)).or(discovered);
            }
            let is_served = discovered.is_some_and(|(_, is)| is);
            for authority in &self.settings.authorities {
                let bundle = (self.settings.read)(authority);
                let cluster = is_served.then_some(None).into_iter();
                let all = cluster.chain(self.settings.namespaces.iter().cloned().map(Some));
                for namespace in all {
                    if !self.leads() {
                        break;
                    }
                    let place = Place { authority, namespace };
                    let standing = match &bundle {
                        Err(why) => Standing { fault: Some(why.clone()), certificates: 0 },
                        Ok(bundle) => self.publish(&place, bundle).await,
                    };
                    let before = standings.get(&place).and_then(|before| before.fault.clone());
                    if let Some(why) = &standing.fault
                        && before.as_ref() != Some(why)
                    {
                        self.say(
                            LogLevel::Warning,
                            "trust is not published",
                            &place,
                            vec![("why", why.clone())],
                        );
                    }
                    standings.insert(place, standing);
                }
            }
            self.report(&standings);
            let begin = Instant::now();
            while self.leads() && begin.elapsed() < AGAIN {
                sleep(GLANCE).await;
            }
        }
    }

    fn leads(&self) -> bool {
        self.leads_until.borrow().is_some_and(|until| until > Instant::now())
    }

    /// Whether the API has ClusterTrustBundles; nothing where it did not say.
    async fn is_served(&self) -> Option<bool> {
        match ask("list what the API has", self.client.list_api_group_resources(GROUP)).await {
            Ok(list) => Some(list.resources.iter().any(|resource| resource.name == RESOURCE)),
            Err(Error::Api { status: Some(404), .. }) => Some(false),
            Err(_) => None,
        }
    }

    async fn publish(&self, place: &Place, bundle: &TrustBundle) -> Standing {
        let name = format!("{OWN}-{}", place.authority);
        let client = self.client.clone();
        let result = match &place.namespace {
            Some(namespace) => {
                let empty = ConfigMap::default();
                self.publish_in(Api::namespaced(client, namespace), &name, empty, place, bundle)
                    .await
            }
            None => {
                let empty = ClusterTrustBundle {
                    metadata: ObjectMeta::default(),
                    spec: ClusterTrustBundleSpec::default(),
                };
                self.publish_in(Api::all(client), &name, empty, place, bundle).await
            }
        };
        match result {
            Ok(certificates) => Standing { fault: None, certificates },
            Err((why, certificates)) => Standing { fault: Some(why), certificates },
        }
    }

    /// Says how many certificates are published afterwards.
    async fn publish_in<P: Pulpit>(
        &self,
        api: Api<P>,
        name: &str,
        empty: P,
        place: &Place,
        bundle: &TrustBundle,
    ) -> Result<usize, (String, usize)> {
        let found = ask("read what is published", api.get_opt(name)).await;
        let found = found.map_err(|error| (with_causes(&error), 0))?;
        let published = found.as_ref().map(|object| self.published(object, bundle));
        let count = published.as_ref().map_or(0, |published| published.anchors.len());
        let step = bundle.step(published.as_ref()).map_err(|no| (no.to_string(), count))?;
        let mut former = found.as_ref().map(former).unwrap_or_default();
        let (added, dropped) = match step {
            TrustMove::Keep => {
                self.know(bundle, &former, place, found.as_ref().and_then(changed));
                return Ok(count);
            }
            TrustMove::Publish { added, dropped } => (added, dropped),
        };
        former.extend(dropped.iter().cloned());
        former.retain(|one| !bundle.anchors.iter().any(|anchor| anchor.fingerprint == *one));
        former.drain(..former.len().saturating_sub(GENERATIONS));
        if self.is_dry {
            self.tell_change("trust would be published", place, &added, &dropped);
            return Ok(count);
        }
        let (is_new, now) = (found.is_none(), (self.clock)());
        let mut object = found.unwrap_or(empty).with(bundle.text());
        let meta = object.meta_mut();
        meta.name = Some(name.to_owned());
        meta.labels.get_or_insert_default().insert(KEPT_BY.to_owned(), OWN.to_owned());
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(FORMER.to_owned(), former.join(","));
        annotations.insert(CHANGED.to_owned(), now.to_string());
        meta.managed_fields = None;
        let parameters = PostParams::default();
        // The version that was read goes along: who changed it meanwhile is seen with the next look.
        let written = match is_new {
            true => ask("publish what is trusted", api.create(&parameters, &object)).await,
            false => ask("publish what is trusted", api.replace(name, &parameters, &object)).await,
        };
        let written = written.map_err(|error| (with_causes(&error), count))?;
        self.tell_change("trust published", place, &added, &dropped);
        self.know(bundle, &former, place, Some(now));
        self.send(&written, place, bundle, &added, &dropped).await;
        Ok(bundle.anchors.len())
    }

    fn published<P: Pulpit>(&self, object: &P, bundle: &TrustBundle) -> PublishedTrust {
        PublishedTrust {
            is_own: object.labels().get(KEPT_BY).is_some_and(|by| by == OWN),
            anchors: (self.settings.anchors)(object.text().as_bytes()).into_iter().collect(),
            is_exact: object.text() == bundle.text(),
        }
    }

    /// Puts down what copies are held against.
    fn know(
        &self,
        bundle: &TrustBundle,
        former: &[String],
        place: &Place,
        changed: Option<Timestamp>,
    ) {
        let trusted = bundle.anchors.iter().map(|anchor| anchor.fingerprint.clone()).collect();
        let mut shared = self.shared.borrow_mut();
        let mut all: Vec<KnownTrust> = (**shared).clone();
        let known = match all.iter_mut().find(|known| known.authority == bundle.authority) {
            Some(known) => known,
            None => {
                all.push(KnownTrust { authority: bundle.authority, ..KnownTrust::default() });
                // It was just put there.
                let last = all.len() - 1;
                &mut all[last]
            }
        };
        known.trusted = trusted;
        if place.namespace.is_none() {
            known.bundle_changed = changed;
        }
        known.former.extend(former.iter().cloned());
        known.former.retain(|one| !known.trusted.contains(one));
        if **shared != all {
            *shared = Arc::new(all);
        }
    }

    /// That trust has changed is told wherever it is looked for; that something is trusted no longer is a warning.
    fn tell_change(
        &self,
        message: &'static str,
        place: &Place,
        added: &[String],
        dropped: &[String],
    ) {
        let level = if dropped.is_empty() { LogLevel::Info } else { LogLevel::Warning };
        let fields = vec![("added", added.join(" ")), ("dropped", dropped.join(" "))];
        self.say(level, message, place, fields);
    }

    async fn send<P: Pulpit>(
        &self,
        object: &P,
        place: &Place,
        bundle: &TrustBundle,
        added: &[String],
        dropped: &[String],
    ) {
        let namespace = place.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let short = |all: &[String]| {
            let begin = |one: &String| one.chars().take(16).collect::<String>();
            all.iter().map(begin).collect::<Vec<_>>().join(" ")
        };
        let subjects: Vec<&str> = bundle.anchors.iter().map(|a| a.subject.as_str()).collect();
        let mut note = format!("trusted: {}", subjects.join(", "));
        for (what, all) in [("added", added), ("trusted no longer", dropped)] {
            if !all.is_empty() {
                note = format!("{note}; {what}: {}", short(all));
            }
        }
        if let Some((end, _)) = note.char_indices().nth(1000) {
            note.truncate(end);
        }
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", object.name_any())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Publish".into()),
            event_time: k8s_openapi::jiff::Timestamp::from_second((self.clock)().unix())
                .ok()
                .map(MicroTime),
            note: Some(note),
            reason: Some(
                if dropped.is_empty() { "TrustPublished" } else { "TrustNarrowed" }.into(),
            ),
            regarding: Some(ObjectReference {
                api_version: Some(P::api_version(&()).into_owned()),
                kind: Some(P::kind(&()).into_owned()),
                name: Some(object.name_any()),
                namespace: place.namespace.clone(),
                uid: object.uid(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(roles::CONTROLLER.id.into()),
            reporting_instance: Some(self.identity.clone()),
            type_: Some(if dropped.is_empty() { "Normal" } else { "Warning" }.into()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if ask("send an Event", events.create(&PostParams::default(), &event)).await.is_err() {
            with_board(&self.board, |board| board.tallies.events_dropped += 1);
        }
    }

    fn report(&self, standings: &BTreeMap<Place, Standing>) {
        let mut text = String::new();
        for (name, help, value) in [
            (
                "certkit_trust_published_certificates",
                "Certificates of a CA that are published as trusted.",
                (|standing| standing.certificates) as fn(&Standing) -> usize,
            ),
            (
                "certkit_trust_fault",
                "Whether what is trusted of a CA could not be published the last time.",
                |standing| usize::from(standing.fault.is_some()),
            ),
        ] {
            if !standings.is_empty() {
                text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
            }
            for (place, standing) in standings {
                let (kind, namespace) = place.labels();
                text += &format!(
                    "{name}{{authority=\"{}\",object_kind=\"{kind}\",object_namespace=\"{namespace}\"}} {}\n",
                    place.authority,
                    value(standing)
                );
            }
        }
        with_board(&self.board, |board| board.put_trust(text));
    }

    fn say(
        &self,
        level: LogLevel,
        message: &'static str,
        place: &Place,
        more: Vec<(&'static str, String)>,
    ) {
        let (kind, namespace) = place.labels();
        let mut fields = vec![
            ("authority", place.authority.to_owned()),
            ("kind", kind.to_owned()),
            ("namespace", namespace.to_owned()),
        ];
        fields.extend(more);
        (self.log)(&LogLine { level, message, fields });
    }
}

impl Place {
    fn labels(&self) -> (&'static str, &str) {
        match &self.namespace {
            Some(namespace) => ("ConfigMap", namespace),
            None => ("ClusterTrustBundle", ""),
        }
    }
}

/// What an object says was trusted before.
fn former<P: Pulpit>(object: &P) -> Vec<String> {
    let said = object.annotations().get(FORMER).map_or("", String::as_str);
    let is_fingerprint =
        |text: &&str| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    said.split(',').filter(is_fingerprint).take(GENERATIONS).map(str::to_owned).collect()
}

/// When it says that it changed, or else began.
fn changed<P: Pulpit>(object: &P) -> Option<Timestamp> {
    let said = object.annotations().get(CHANGED).and_then(|said| said.parse().ok());
    let began = || object.creation_timestamp().map(|at| Timestamp::from_unix(at.0.as_second()));
    said.or_else(began)
}

/// It, or nothing for ever.
pub async fn run(trust: Option<TrustKeeper>) {
    match trust {
        Some(trust) => trust.run().await,
        None => std::future::pending().await,
    }
}
