//! What in a cluster carries certificates, as it was seen last, and what of it is told to people, once.
//!
//! Anybody who may write an object may fill it with certificates. So what is kept is bounded: for an object, for a
//! namespace, and as a whole, in such a way that one namespace's flood crowds out no other's. What is left out is counted.

mod container;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher as _},
    net::IpAddr,
    sync::Arc,
};

pub use self::container::{ContainerCopy, KeptValue, RunningContainer, TrustPlace, TrustPlaces};
use super::{
    check::expiry::{Details, Found, Inside, Level, Row, Status, Thresholds, judge},
    timestamp::Timestamp,
    trust::CopyFault,
};

/// Of one object; those that end soonest.
const IN_ONE_OBJECT: usize = 50;
/// Of one namespace.
const IN_ONE_NAMESPACE: usize = 1000;
/// Of one kind of objects.
const IN_ALL: usize = 10_000;
/// The same certificate in objects of one name, as `kube-root-ca.crt` in every namespace.
const COPIES: usize = 16;
/// Copies that are behind, of one kind of objects, and of that in one namespace.
const STALE: usize = 1000;
const STALE_IN_ONE_NAMESPACE: usize = 100;
/// How many different certificates copies are counted of.
const COUNTED: usize = 100_000;
/// How long a text from a certificate or object may be.
const LONGEST: usize = 300;
/// How much is told at once, and of that in one namespace.
const NOTICES: usize = 50;
const NOTICES_IN_ONE_NAMESPACE: usize = 5;
/// How many certificates a notice names.
const NAMED: usize = 3;

/// An object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Carrier {
    /// Its kind.
    pub kind: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// What tells it from others that had its name before.
    pub uid: String,
}

/// A certificate that an object carries, or what is in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// The object.
    pub carrier: Arc<Carrier>,
    /// The certificate.
    pub row: Row,
}

/// Where a kubelet says that it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletAddress {
    /// Its node.
    pub node: Carrier,
    /// Its address, if its Node object has one.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// A copy of a CA that is behind what is published of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleCopy {
    /// The object.
    pub carrier: Arc<Carrier>,
    /// Where in it.
    pub key: String,
    /// The CA.
    pub authority: &'static str,
    /// What is wrong.
    pub fault: CopyFault,
    /// How a container has it, where the object is a pod.
    pub container: Option<ContainerCopy>,
}

/// What one look found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Glance {
    /// The certificates.
    pub carried: Vec<Carried>,
    /// Copies of CAs that are behind.
    pub stale: Vec<StaleCopy>,
    /// Copies of CAs that pods can have, behind or not.
    pub trust: Vec<TrustPlace>,
    /// How many were too many in one object.
    pub crowded: usize,
    /// How many key stores there were that only a password opens.
    pub closed: usize,
}

/// What was left out of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Certificates beyond what is kept.
    pub crowded: usize,
    /// Further copies of certificates that are there.
    pub copies: usize,
    /// Key stores that only a password opens.
    pub closed: usize,
}

impl LeftOut {
    /// And this.
    pub fn add(&mut self, other: Self) {
        self.crowded += other.crowded;
        self.copies += other.copies;
        self.closed += other.closed;
    }
}

impl Glance {
    /// Adds what one object carries.
    pub fn add(&mut self, carrier: Carrier, mut rows: Vec<Row>) -> Arc<Carrier> {
        self.crowded += keep_soonest(&mut rows, IN_ONE_OBJECT);
        let carrier = Arc::new(carrier);
        for mut row in rows {
            clip_row(&mut row);
            self.carried.push(Carried { carrier: carrier.clone(), row });
        }
        carrier
    }
}

/// What objects of one kind carry.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    by_namespace: BTreeMap<Option<String>, Vec<Carried>>,
    held: usize,
    copies: BTreeMap<u64, usize>,
    stale: Vec<StaleCopy>,
    stale_in: BTreeMap<Option<String>, usize>,
    trust: TrustPlaces,
    left_out: LeftOut,
}

impl Roster {
    /// Takes in what a look at some of them found.
    pub fn take(&mut self, look: Glance) {
        self.left_out.crowded += look.crowded;
        self.left_out.closed += look.closed;
        for stale in look.stale {
            let namespace = &stale.carrier.namespace;
            let count = self.stale_in.entry(namespace.clone()).or_default();
            let is_crowded = namespace.is_some() && *count >= STALE_IN_ONE_NAMESPACE;
            match is_crowded || self.stale.len() >= STALE {
                true => self.left_out.crowded += 1,
                false => {
                    *count += 1;
                    self.stale.push(stale);
                }
            }
        }
        for place in look.trust {
            self.left_out.crowded += usize::from(!self.trust.add(place));
        }
        for carried in look.carried {
            if self.is_one_copy_more(&carried) {
                self.left_out.copies += 1;
                continue;
            }
            let namespace = carried.carrier.namespace.clone();
            let is_bounded = namespace.is_some();
            let all = self.by_namespace.entry(namespace).or_default();
            all.push(carried);
            self.held += 1;
            if is_bounded && all.len() >= 2 * IN_ONE_NAMESPACE {
                let dropped = keep_soonest(all, IN_ONE_NAMESPACE);
                self.held -= dropped;
                self.left_out.crowded += dropped;
            }
            if self.held >= 2 * IN_ALL {
                self.shrink();
            }
        }
    }

    /// Ends the look: what was kept, in the order of namespaces and objects.
    pub fn end(&mut self) {
        for (namespace, all) in &mut self.by_namespace {
            if namespace.is_some() {
                let dropped = keep_soonest(all, IN_ONE_NAMESPACE);
                self.held -= dropped;
                self.left_out.crowded += dropped;
            }
        }
        self.shrink();
        (self.copies, self.stale_in) = Default::default();
        for all in self.by_namespace.values_mut() {
            all.sort_by(|a, b| (&a.carrier, &a.row.name).cmp(&(&b.carrier, &b.row.name)));
            all.shrink_to_fit();
        }
    }

    /// All that is kept.
    pub fn carried(&self) -> impl Iterator<Item = &Carried> {
        self.by_namespace.values().flatten()
    }

    /// Copies of CAs that are behind.
    pub fn stale(&self) -> impl Iterator<Item = &StaleCopy> {
        self.stale.iter()
    }

    /// Copies of CAs that pods can have.
    pub fn trust(&self) -> &TrustPlaces {
        &self.trust
    }

    /// What is not.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    fn is_one_copy_more(&mut self, carried: &Carried) -> bool {
        let Some(facts) = carried.row.facts() else { return false };
        let fingerprint = facts.details.as_ref().map(|details| details.fingerprint.as_str());
        let Carrier { kind, name, .. } = &*carried.carrier;
        let key = hash(&(kind, name, key(&carried.row), fingerprint));
        if self.copies.len() >= COUNTED && !self.copies.contains_key(&key) {
            return false;
        }
        let count = self.copies.entry(key).or_default();
        *count += 1;
        *count > COPIES
    }

    /// Takes from those namespaces that have the most.
    fn shrink(&mut self) {
        if self.held <= IN_ALL {
            return;
        }
        let lengths: Vec<usize> = self.by_namespace.values().map(Vec::len).collect();
        let total = |limit: usize| lengths.iter().map(|length| *length.min(&limit)).sum::<usize>();
        let (mut fits, mut exceeds) = (0, IN_ALL + 1);
        while exceeds - fits > 1 {
            let middle = fits.midpoint(exceeds);
            match total(middle) <= IN_ALL {
                true => fits = middle,
                false => exceeds = middle,
            }
        }
        for all in self.by_namespace.values_mut() {
            let dropped = keep_soonest(all, fits);
            self.held -= dropped;
            self.left_out.crowded += dropped;
        }
        self.by_namespace.retain(|_, all| !all.is_empty());
    }
}

/// What people are to be told of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The object.
    pub carrier: Arc<Carrier>,
    /// What it is about.
    pub concern: Concern,
    /// That, in words.
    pub note: String,
    /// What is the same for the same object in the same state, whoever tells it.
    pub id: String,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// A certificate: how it is with the worst of what the object carries.
    Certificate(Status),
    /// A copy of a CA that gets no update.
    Trust,
}

/// What was told of which object.
#[derive(Clone, Debug, Default)]
pub struct ToldCarriers(BTreeMap<Arc<Carrier>, u64>);

impl ToldCarriers {
    /// What is to be told now: of each object that needs attention once, and again when its state is another. What is too much
    /// for once comes with the next call.
    pub fn due<'c>(
        &mut self,
        all: impl Iterator<Item = &'c Carried>,
        stale: impl Iterator<Item = &'c StaleCopy>,
        now: Timestamp,
        thresholds: &Thresholds,
    ) -> Vec<Notice> {
        let mut objects: BTreeMap<&Arc<Carrier>, Vec<(Status, &Row, String)>> = BTreeMap::new();
        for Carried { carrier, row } in all {
            let verdict = judge(row, now, thresholds);
            if verdict.status.level() != Level::Ok {
                let said = said(row, verdict.status, verdict.reason.as_deref());
                objects.entry(carrier).or_default().push((verdict.status, row, said));
            }
        }
        let mut due: BTreeMap<&Arc<Carrier>, (Concern, u64, Vec<String>)> = BTreeMap::new();
        for (carrier, mut rows) in objects {
            rows.sort_by_key(|(status, row, _)| (severity(*status), end(row)));
            let (status, worst, _) = &rows[0]; // An object is never there without a row.
            let what = match &worst.found {
                Found::Certificate(facts) => {
                    facts.details.as_ref().map(|details| details.fingerprint.clone())
                }
                Found::Missing | Found::Unreadable(_) => None,
            };
            let state = hash(&(severity(*status), what, key(worst)));
            let concern = Concern::Certificate(*status);
            due.insert(
                carrier,
                (concern, state, rows.into_iter().map(|(.., said)| said).collect()),
            );
        }
        // Of copies in objects there are as many as namespaces: metrics tell those.
        for copy in stale {
            let Some(at) = &copy.container else { continue };
            let ContainerCopy { container, how, started, changed } = at;
            let state = hash(&(copy.authority, container, how, &copy.key, changed));
            let said = format!(
                "container {} has {} by {how} as it was at {started}, and it changed at {changed}",
                clipped(container),
                clipped(&copy.key)
            );
            due.entry(&copy.carrier).or_insert((Concern::Trust, state, Vec::new())).2.push(said);
        }
        self.0.retain(|carrier, _| due.contains_key(carrier));
        let mut notices = Vec::new();
        let mut in_namespace: BTreeMap<&Option<String>, usize> = BTreeMap::new();
        for (carrier, (concern, state, mut said)) in due {
            if self.0.get(carrier) == Some(&state) || notices.len() >= NOTICES {
                continue;
            }
            let count = in_namespace.entry(&carrier.namespace).or_default();
            *count += 1;
            if carrier.namespace.is_some() && *count > NOTICES_IN_ONE_NAMESPACE {
                continue;
            }
            if said.len() > NAMED {
                let more = said.len() - NAMED;
                said.truncate(NAMED);
                said.push(format!("and {more} more"));
            }
            if concern == Concern::Trust {
                said.push("Kubernetes does not update it: start the pod anew".to_owned());
            }
            let id = format!("{:016x}", hash(&(&carrier.uid, &carrier.kind, state)));
            notices.push(Notice { carrier: carrier.clone(), concern, note: said.join("; "), id });
            self.0.insert(carrier.clone(), state);
        }
        notices
    }

    /// What could not be told after all.
    pub fn forget(&mut self, carrier: &Carrier) {
        self.0.remove(carrier);
    }
}

/// The worst first.
fn severity(status: Status) -> usize {
    match status {
        Status::Expired => 0,
        Status::NotYetValid => 1,
        Status::Critical | Status::Missing => 2,
        Status::Unknown => 3,
        Status::Warning | Status::NotOnDisk => 4,
        Status::Ok => 5,
    }
}

fn said(row: &Row, status: Status, reason: Option<&str>) -> String {
    let place = match key(row) {
        "" => String::new(),
        key => format!("{key}: "),
    };
    match &row.found {
        Found::Certificate(facts) => {
            let end = facts.validity.not_after;
            let how = match status {
                Status::Expired => format!("expired {end}"),
                Status::NotYetValid => format!("is valid from {}", facts.validity.not_before),
                _ => format!("expires {end}"),
            };
            format!("{place}{} {how}", clipped(&facts.subject))
        }
        Found::Missing | Found::Unreadable(_) => {
            format!("{place}{}", clipped(reason.unwrap_or("is missing")))
        }
    }
}

fn key(row: &Row) -> &str {
    match &row.origin.inside {
        Some(Inside::Secret { key, .. } | Inside::Object { key, .. }) => key,
        Some(Inside::Listener) => &row.origin.path,
        Some(Inside::Cluster(_) | Inside::User(_)) | None => "",
    }
}

/// The same in every process of this build.
fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What a bound keeps: what ends first; what is no certificate counts for less.
trait Ending {
    fn row(&self) -> &Row;
}

impl Ending for Row {
    fn row(&self) -> &Row {
        self
    }
}

impl Ending for Carried {
    fn row(&self) -> &Row {
        &self.row
    }
}

fn end(row: &Row) -> i64 {
    row.facts().map_or(i64::MAX, |facts| facts.validity.not_after.unix())
}

/// Keeps so many of those that end soonest, and says how many are gone.
fn keep_soonest<T: Ending>(all: &mut Vec<T>, limit: usize) -> usize {
    if all.len() <= limit {
        return 0;
    }
    all.sort_by_key(|one| end(one.row()));
    let dropped = all.len() - limit;
    all.truncate(limit);
    dropped
}

/// Nothing that a certificate says is longer than a line.
fn clip_row(row: &mut Row) {
    clip(&mut row.name);
    clip(&mut row.origin.path);
    match &mut row.origin.inside {
        Some(Inside::Secret { namespace, name, key }) => {
            namespace.iter_mut().for_each(clip);
            clip(name);
            clip(key);
        }
        Some(Inside::Object { kind, namespace, name, key }) => {
            clip(kind);
            namespace.iter_mut().for_each(clip);
            clip(name);
            clip(key);
        }
        Some(Inside::Cluster(name) | Inside::User(name)) => clip(name),
        Some(Inside::Listener) | None => {}
    }
    row.authority.iter_mut().for_each(clip);
    row.also_in = Vec::new();
    match &mut row.found {
        Found::Certificate(facts) => {
            clip(&mut facts.subject);
            clip(&mut facts.issuer);
            if let Some(details) = &mut facts.details {
                let Details { serial, fingerprint, .. } = std::mem::take(&mut **details);
                **details = Details { serial, fingerprint, ..Details::default() };
            }
        }
        Found::Unreadable(why) => clip(why),
        Found::Missing => {}
    }
}

fn clip(text: &mut String) {
    if text.len() > LONGEST {
        *text = clipped(text);
    }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        check::expiry::{Facts, Origin, RowRole},
        profile::Validity,
    };

    fn thresholds() -> Thresholds {
        Thresholds { warn: "30d".parse().unwrap(), critical: "7d".parse().unwrap() }
    }

    fn row(end: i64, number: usize) -> Row {
        Row {
            name: format!("{number:06}"),
            host: None,
            role: RowRole::Leaf,
            origin: Origin {
                path: "p".into(),
                inside: Some(Inside::Secret {
                    namespace: None,
                    name: "web".into(),
                    key: "tls.crt".into(),
                }),
            },
            authority: None,
            externally_managed: false,
            found: Found::Certificate(Box::new(Facts {
                validity: Validity {
                    not_before: Timestamp::from_unix(0),
                    not_after: Timestamp::from_unix(end),
                },
                subject: "CN=web".into(),
                issuer: "CN=ca".into(),
                details: Some(Box::new(Details {
                    fingerprint: number.to_string(),
                    ..Details::default()
                })),
            })),
            also_in: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn object(namespace: &str, name: &str) -> Carrier {
        Carrier {
            kind: "Secret".into(),
            namespace: Some(namespace.into()),
            name: name.into(),
            uid: format!("{namespace}/{name}"),
        }
    }

    const YEAR: i64 = 365 * 86_400;

    #[test]
    fn of_one_object_those_that_end_soonest_are_kept() {
        let mut look = Glance::default();
        look.add(object("a", "web"), (0..10_000).map(|n| row(YEAR - n, n as usize)).collect());
        assert_eq!((look.carried.len(), look.crowded), (IN_ONE_OBJECT, 10_000 - IN_ONE_OBJECT));
        let latest = look.carried.iter().map(|carried| end(&carried.row)).max().unwrap();
        assert_eq!(latest, YEAR - 9_999 + IN_ONE_OBJECT as i64 - 1);
    }

    #[test]
    fn a_flood_in_one_namespace_crowds_out_no_other() {
        let mut roster = Roster::default();
        let mut one = Glance::default();
        one.add(object("honest", "web"), vec![row(YEAR, 0)]);
        roster.take(one);
        // Each expired, which is what would be kept.
        for n in 0..400 {
            let mut look = Glance::default();
            let rows = (0..50).map(|m| row(1, 1 + n * 50 + m)).collect();
            look.add(object(&format!("flood-{}", n % 20), &format!("f{n}")), rows);
            roster.take(look);
            assert!(roster.held < 2 * IN_ALL + 100);
        }
        roster.end();
        assert!(roster.carried().any(|c| c.carrier.namespace.as_deref() == Some("honest")));
        let kept = roster.carried().count();
        assert!(kept <= IN_ALL && kept > IN_ALL / 2, "{kept}");
        assert_eq!(roster.left_out().crowded + kept, 20_001);
    }

    #[test]
    fn more_namespaces_than_there_is_room_for_are_cut() {
        let mut roster = Roster::default();
        for n in 0..IN_ALL + 5 {
            let mut look = Glance::default();
            look.add(object(&format!("n{n}"), &format!("web{n}")), vec![row(YEAR, n)]);
            roster.take(look);
        }
        roster.end();
        assert!(roster.carried().count() <= IN_ALL);
    }

    #[test]
    fn copies_under_one_name_are_counted_beyond_a_few() {
        let mut roster = Roster::default();
        for n in 0..100 {
            let mut look = Glance::default();
            look.add(object(&format!("n{n}"), "root"), vec![row(YEAR, 7)]);
            roster.take(look);
        }
        roster.end();
        assert_eq!((roster.carried().count(), roster.left_out().copies), (COPIES, 100 - COPIES));
    }

    #[test]
    fn an_object_is_told_once_for_each_state() {
        let mut told = ToldCarriers::default();
        let mut roster = Roster::default();
        let mut look = Glance::default();
        look.add(object("a", "web"), vec![row(YEAR, 1), row(2 * YEAR, 2)]);
        look.add(object("a", "sound"), vec![row(9 * YEAR, 3)]);
        roster.take(look);
        let mut at = |seconds: i64| {
            told.due(roster.carried(), roster.stale(), Timestamp::from_unix(seconds), &thresholds())
        };
        assert!(at(YEAR - 40 * 86_400).is_empty());
        let warned = at(YEAR - 20 * 86_400);
        assert_eq!(warned.len(), 1);
        assert_eq!(warned[0].concern, Concern::Certificate(Status::Warning));
        assert_eq!(warned[0].note, "tls.crt: CN=web expires 1971-01-01T00:00:00Z");
        assert!(at(YEAR - 19 * 86_400).is_empty());
        assert_eq!(at(YEAR - 86_400)[0].concern, Concern::Certificate(Status::Critical));
        assert_eq!(at(YEAR + 1)[0].concern, Concern::Certificate(Status::Expired));
        assert!(at(YEAR + 2).is_empty());
        // Another process that tells the same calls it the same.
        let again = ToldCarriers::default().due(
            roster.carried(),
            roster.stale(),
            Timestamp::from_unix(YEAR - 20 * 86_400),
            &thresholds(),
        );
        assert_eq!(again, warned);
    }

    #[test]
    fn one_namespace_does_not_keep_the_others_from_being_told() {
        let mut told = ToldCarriers::default();
        let mut roster = Roster::default();
        let mut look = Glance::default();
        for n in 0..300 {
            look.add(object("flood", &format!("f{n}")), vec![row(1, n)]);
        }
        look.add(object("honest", "web"), vec![row(1, 1000)]);
        roster.take(look);
        let mut times = 0;
        let mut seen = 0;
        while seen < 301 {
            let due = told.due(
                roster.carried(),
                roster.stale(),
                Timestamp::from_unix(YEAR),
                &thresholds(),
            );
            assert!(due.len() <= NOTICES);
            if times == 0 {
                assert!(due.iter().any(|n| n.carrier.name == "web"));
            }
            seen += due.len();
            times += 1;
            assert!(times < 100, "{seen}");
        }
    }

    #[test]
    fn a_pod_that_has_an_old_copy_is_told_once_and_again_when_it_changes() {
        let copy = |namespace: &str, pod: &str, changed: i64| StaleCopy {
            carrier: Arc::new(Carrier { kind: "Pod".into(), ..object(namespace, pod) }),
            key: "ConfigMap trust ca.crt".into(),
            authority: "ca",
            fault: CopyFault::NotUpdated,
            container: Some(ContainerCopy {
                container: "web".into(),
                how: "subPath",
                started: Timestamp::from_unix(0),
                changed: Timestamp::from_unix(changed),
            }),
        };
        let mut told = ToldCarriers::default();
        let mut due = |stale: Vec<StaleCopy>| {
            let mut roster = Roster::default();
            roster.take(Glance { stale, ..Glance::default() });
            told.due(roster.carried(), roster.stale(), Timestamp::from_unix(0), &thresholds())
        };
        let first = due(vec![copy("a", "web", 9)]);
        assert_eq!((first.len(), first[0].concern), (1, Concern::Trust));
        assert!(first[0].note.starts_with("container web has ConfigMap trust ca.crt by subPath"));
        assert!(due(vec![copy("a", "web", 9)]).is_empty());
        assert_ne!(due(vec![copy("a", "web", 10)])[0].id, first[0].id);
        // Copies in objects are metrics' to tell.
        let plain = StaleCopy { container: None, ..copy("a", "web", 11) };
        assert!(due(vec![plain]).is_empty());
        // One namespace's flood hides no other's.
        let flood = (0..500).map(|n| copy("flood", &format!("p{n}"), 9));
        let all: Vec<StaleCopy> = flood.chain([copy("honest", "web", 9)]).collect();
        let mut roster = Roster::default();
        roster.take(Glance { stale: all.clone(), ..Glance::default() });
        assert_eq!(roster.stale().count(), STALE_IN_ONE_NAMESPACE + 1);
        assert_eq!(roster.left_out().crowded, 400);
        assert!(due(all).iter().any(|notice| notice.carrier.name == "web"));
    }

    #[test]
    fn what_a_certificate_says_is_cut() {
        let mut long = row(YEAR, 1);
        if let Found::Certificate(facts) = &mut long.found {
            facts.subject = "é".repeat(100_000);
        }
        let mut look = Glance::default();
        look.add(object("a", "web"), vec![long]);
        let facts = look.carried[0].row.facts().unwrap();
        assert!(facts.subject.chars().count() <= LONGEST + 3);
    }
}
