//! `certkit rotate`: which leaves are renewed.

use std::{collections::BTreeSet, path::Path};

use super::{
    change::{self, Decision, Error, Report},
    declared,
    observe::{self, Observation},
    prune,
};
use crate::{
    document,
    model::{
        adopt,
        cluster::Cluster,
        duration::Threshold,
        layout::Layout,
        plan::{
            KeyChoice, Policy, Reason, Renewal, Selection,
            credential::find,
            kubeconfig::{former_endpoints, former_service_notes},
            reconcile::reconcile,
        },
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
pub fn run(request: &Request<'_>, change: &change::Request<'_>) -> Result<Report, Error> {
    change::run(change, |now| decide(request, change, now))
}

fn decide(
    request: &Request<'_>,
    change: &change::Request<'_>,
    now: Timestamp,
) -> Result<Decision, Error> {
    let dir = change.dir;
    let (cluster, declared) = declared::or_anything(dir)?;
    let layout = Layout::new(&cluster);
    let observation = observe::observe(&layout, dir);
    if !declared && adopt::is_empty(&observation.observed) {
        return Err(Error::Nothing(dir.to_path_buf()));
    }
    let (cluster, text) = with_former_endpoints(&cluster, &layout, &observation, dir)?;
    let layout = Layout::new(&cluster);
    let selection = match (request.names, request.all) {
        ([], true) => Selection::All,
        ([], false) => Selection::Due,
        (names, _) => Selection::Named(select(&layout, &observation, dir, names)?),
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
    if declared {
        plan.notes.extend(former_service_notes(&layout, &observation.observed));
        plan.notes.extend(prune::notes(&cluster, dir));
    }
    Ok(Decision { cluster, observation, plan })
}

/// The cluster with the former endpoints that something still dials, and certkit.yaml's text where it does
/// not name them yet.
fn with_former_endpoints(
    cluster: &Cluster,
    layout: &Layout<'_>,
    observation: &Observation,
    dir: &Path,
) -> Result<(Cluster, Option<String>), Error> {
    let mut cluster = cluster.clone();
    let former = match observation.observed.declared {
        true => former_endpoints(layout, &observation.observed),
        false => Vec::new(),
    };
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

fn select(
    layout: &Layout<'_>,
    observation: &Observation,
    dir: &Path,
    names: &[String],
) -> Result<BTreeSet<usize>, Error> {
    let instances = &layout.instances;
    let places = observation.places();
    let mut selected = BTreeSet::new();
    for name in names {
        // A file may be named as the shell completes it.
        let inside = Path::new(name).strip_prefix(dir).ok().and_then(Path::to_str);
        let found = find(instances, &places, inside.unwrap_or(name));
        if found.is_empty() {
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
