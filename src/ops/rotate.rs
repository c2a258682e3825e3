//! `certkit rotate`: which leaves are renewed.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::{
    change::{
        self, Decision, Error, Report,
        parts::{self, Making, Shortfall},
    },
    declared,
    observe::{self, Observation},
    prune,
};
use crate::{
    document,
    model::{
        adopt,
        catalogue::SanRule,
        cluster::{Cluster, Host},
        duration::Threshold,
        layout::{Instance, Layout, Place},
        observed::Observed,
        part::{self, ClusterPart},
        plan::{
            KeyChoice, Policy, Reason, Renewal, Selection,
            credential::find,
            kubeconfig::{former_endpoints, former_service_notes},
            reconcile::reconcile,
        },
        resolve,
        san::San,
        timestamp::Timestamp,
    },
};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The names of leaves; all if there are none.
    pub names: &'a [String],
    /// Renew whatever the time.
    pub all: bool,
    /// How near to its end is due.
    pub within: Option<Threshold>,
    /// Which key new certificates get, whatever the catalogue says.
    pub key: Option<KeyChoice>,
    /// Requests instead of certificates.
    pub csr_only: bool,
}

/// Renews what is due, or says what would be.
pub fn run(
    request: &Request<'_>,
    change: &change::Request<'_>,
    told: impl FnMut(Report, bool),
) -> Result<Shortfall, Error> {
    let dir = change.dir;
    let (whole, _) = declared::or_anything(dir)?;
    know_names(&whole, dir, request.names)?;
    // What is dialled is found with the first part.
    let former = Mutex::new(None);
    let found = || former.lock().unwrap_or_else(PoisonError::into_inner);
    let making = Making {
        decide: |part: &ClusterPart, now| {
            let (mut cluster, declared) = match part.is_whole {
                true => declared::or_anything(dir)?,
                false => (part.cluster.clone(), true),
            };
            if let Some(former) = found().as_ref().filter(|_| !part.is_first) {
                cluster.former_endpoints.clone_from(former);
            }
            let whole = if part.is_whole { &cluster } else { &whole };
            let subject = Subject { cluster: &cluster, whole, declared, part };
            let decision = decide(request, change, &subject, now)?;
            if part.is_first {
                *found() = Some(decision.cluster.former_endpoints.clone());
            }
            Ok(decision)
        },
        confirm: || match declared::load(dir)? == whole {
            true => Ok(()),
            false => Err(Error::Redeclared(dir.join(declared::FILE))),
        },
        concerns: |part: &ClusterPart| {
            let layout = Layout::new(&part.cluster);
            let places: Vec<Place> = layout.instances.iter().map(|one| one.place.clone()).collect();
            let found = |name| !find(&layout.instances, &places, said(dir, name)).is_empty();
            request.names.is_empty() || request.names.iter().any(|name| found(name))
        },
    };
    parts::run(&whole, change, &making, told)
}

/// What is looked at.
struct Subject<'a> {
    /// The cluster, or a part of it.
    cluster: &'a Cluster,
    /// All of it.
    whole: &'a Cluster,
    declared: bool,
    part: &'a ClusterPart,
}

impl Subject<'_> {
    /// Whether an instance is this part's own: the first one's are those of the control plane, too.
    fn has(&self, instance: &Instance<'_>) -> bool {
        self.part.is_first || instance.host.is_some_and(Host::is_only_node)
    }
}

fn decide(
    request: &Request<'_>,
    change: &change::Request<'_>,
    subject: &Subject<'_>,
    now: Timestamp,
) -> Result<Decision, Error> {
    let dir = change.dir;
    let layout = Layout::new(subject.cluster);
    let observation = observe::observe(&layout, dir);
    if !subject.declared && adopt::is_empty(&observation.observed) {
        return Err(Error::Nothing(dir.to_path_buf()));
    }
    let (cluster, text) = with_former_endpoints(subject, &layout, &observation, dir)?;
    let layout = Layout::new(&cluster);
    let own = |at: &usize| subject.has(&layout.instances[*at]);
    let selection = match (request.names, request.all) {
        ([], true) if subject.part.is_first => Selection::All,
        ([], true) => {
            let is_leaf = |at: &usize| !layout.instances[*at].spec.is_ca();
            Selection::Named((0..layout.instances.len()).filter(is_leaf).filter(own).collect())
        }
        ([], false) => Selection::Due,
        (names, _) => {
            let places = observation.places();
            let named = select(&layout, &places, dir, names, subject.part.is_whole)?;
            Selection::Named(named.into_iter().filter(own).collect())
        }
    };
    let policy = Policy {
        declaration: text.map(|text| declared::new(text, Reason::Dialled)),
        completes: false,
        renewal: Some(Renewal {
            selection,
            within: request.within,
            key: request.key,
            csr_only: request.csr_only,
        }),
        can_open: change.passwords.can_open(),
        ..Policy::default()
    };
    let mut plan = reconcile(&layout, &observation.observed, dir, &policy, now);
    if subject.declared && subject.part.is_first {
        plan.notes.extend(former_service_notes(&layout, &observation.observed));
        plan.notes.extend(prune::notes(subject.whole, dir));
    }
    Ok(Decision { cluster, observation, plan })
}

/// The cluster with the former endpoints that something still dials, and certkit.yaml's text where it does
/// not name them yet.
fn with_former_endpoints(
    subject: &Subject<'_>,
    layout: &Layout<'_>,
    observation: &Observation,
    dir: &Path,
) -> Result<(Cluster, Option<String>), Error> {
    let mut cluster = subject.cluster.clone();
    if !subject.declared || !subject.part.is_first {
        return Ok((cluster, None));
    }
    let mut former = former_endpoints(layout, &observation.observed);
    if !subject.part.is_whole && loses_names(layout, &observation.observed) {
        // Nodes of other parts may be all that still dial one.
        for part in part::all(subject.whole) {
            let layout = Layout::new(&part.cluster);
            let there = former_endpoints(&layout, &observe::observe(&layout, dir).observed);
            let new = there.into_iter().filter(|host| !former.contains(host));
            former.extend(new.collect::<Vec<San>>());
        }
    }
    if former == cluster.former_endpoints || former.is_empty() {
        return Ok((cluster, None));
    }
    let text = declared::text(dir)?;
    let Some(text) = document::with_former_endpoints(&text, &former) else {
        let names = former.iter().map(San::to_string).collect();
        return Err(Error::FormerEndpoints { path: dir.join(declared::FILE), names });
    };
    cluster.former_endpoints = former;
    Ok((cluster, Some(text)))
}

/// Whether a certificate of the API would no longer have all the names that it has.
fn loses_names(layout: &Layout<'_>, observed: &Observed) -> bool {
    let mut held = layout.instances.iter().zip(&observed.instances);
    held.any(|(instance, held)| {
        let wanted = resolve::profile(instance, layout.cluster).sans;
        let is_of_api = instance.spec.sans.contains(&SanRule::Endpoint);
        let sans = held.certificate().filter(|_| is_of_api).map(|one| &one.profile.sans);
        sans.is_some_and(|sans| sans.iter().any(|san| !wanted.contains(san)))
    })
}

/// A name as it is said, or a file as the shell completes it.
fn said<'n>(dir: &Path, name: &'n str) -> &'n str {
    Path::new(name).strip_prefix(dir).ok().and_then(Path::to_str).unwrap_or(name)
}

/// Before any part of a large cluster is changed: that each name stands for something in some part.
fn know_names(whole: &Cluster, dir: &Path, names: &[String]) -> Result<(), Error> {
    let mut unknown: Vec<String> = names.to_vec();
    let mut last = Ok(());
    for part in part::all(whole).filter(|part| !part.is_whole) {
        let layout = Layout::new(&part.cluster);
        let places: Vec<Place> = layout.instances.iter().map(|one| one.place.clone()).collect();
        select(&layout, &places, dir, names, false)?;
        unknown.retain(|name| find(&layout.instances, &places, said(dir, name)).is_empty());
        last = select(&layout, &places, dir, &unknown, true).map(|_| ());
        if unknown.is_empty() {
            break;
        }
    }
    last
}

/// The instances that are named. Where `all` are to be found, a name that stands for nothing is an error.
fn select(
    layout: &Layout<'_>,
    places: &[Place],
    dir: &Path,
    names: &[String],
    all: bool,
) -> Result<BTreeSet<usize>, Error> {
    let instances = &layout.instances;
    let mut selected = BTreeSet::new();
    for name in names {
        let found = find(instances, places, said(dir, name));
        if found.is_empty() && all {
            let leaves = instances.iter().filter(|i| !i.spec.is_ca()).map(|i| i.spec.id.name());
            let mut known: Vec<&'static str> = leaves.collect();
            known.dedup();
            return Err(Error::Unknown { name: name.clone(), known });
        }
        if found.iter().any(|index| instances[*index].spec.is_ca()) {
            return Err(Error::Authority(name.clone()));
        }
        selected.extend(found);
    }
    Ok(selected)
}
