//! What containers got of copies of CAs when they started, and Kubernetes never brings up to date: files mounted by `subPath`,
//! and environment variables (<https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically>).

use std::{collections::BTreeMap, sync::Arc};

use super::{Carrier, StaleCopy};
use crate::model::{
    timestamp::Timestamp,
    trust::{CopyFault, KnownTrust, OWN},
};

/// Of one namespace, how many places are known; nobody's flood keeps another's from being so.
const IN_ONE_NAMESPACE: usize = 100;
/// In all.
const IN_ALL: usize = 50_000;
/// Of one pod, what is told.
const IN_ONE_POD: usize = 10;

/// A value of an object that is a copy of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPlace {
    /// The object.
    pub carrier: Arc<Carrier>,
    /// The value's key.
    pub key: String,
    /// The CA.
    pub authority: &'static str,
    /// When it changed last, or somewhat later.
    pub changed: Timestamp,
}

/// By kind, namespace and name of the object.
type Object = (String, Option<String>, String);

/// The values that are copies of CAs, by their objects.
#[derive(Clone, Debug, Default)]
pub struct TrustPlaces {
    by_object: BTreeMap<Object, Vec<TrustPlace>>,
    in_namespace: BTreeMap<Option<String>, usize>,
    held: usize,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningContainer {
    /// Its name.
    pub name: String,
    /// Since when it runs.
    pub started: Timestamp,
    /// What it got then, and keeps.
    pub kept: Vec<KeptValue>,
}

/// What a container keeps of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptValue {
    /// The object's kind.
    pub kind: &'static str,
    /// Its name; it is in the pod's namespace, if it is in any.
    pub object: String,
    /// The key of the value; none for all that there are.
    pub key: Option<String>,
    /// By what field the container has it.
    pub how: &'static str,
}

/// How a container has a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerCopy {
    /// The container.
    pub container: String,
    /// By what field it has it.
    pub how: &'static str,
    /// Since when.
    pub started: Timestamp,
    /// When it changed in the object.
    pub changed: Timestamp,
}

impl TrustPlaces {
    /// Takes one in; whether there was room.
    pub fn add(&mut self, place: TrustPlace) -> bool {
        let Carrier { kind, namespace, name, .. } = &*place.carrier;
        let object = (kind.clone(), namespace.clone(), name.clone());
        let count = self.in_namespace.entry(namespace.clone()).or_default();
        if self.held >= IN_ALL || *count >= IN_ONE_NAMESPACE {
            return false;
        }
        *count += 1;
        self.held += 1;
        self.by_object.entry(object).or_default().push(place);
        true
    }

    /// These and those, and the ClusterTrustBundles that are published.
    pub fn joined<'p>(all: impl Iterator<Item = &'p Self>, known: &[KnownTrust]) -> Self {
        let mut joined = Self::default();
        for places in all {
            joined.by_object.extend(places.by_object.clone());
        }
        for known in known {
            let Some(changed) = known.bundle_changed else { continue };
            let carrier = Arc::new(Carrier {
                kind: "ClusterTrustBundle".to_owned(),
                namespace: None,
                name: format!("{OWN}-{}", known.authority),
                uid: String::new(),
            });
            let (key, authority) = (String::new(), known.authority);
            joined.add(TrustPlace { carrier, key, authority, changed });
        }
        joined
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_object.is_empty()
    }

    /// What the containers of a pod have as it was before it changed.
    pub fn not_updated(&self, pod: &Arc<Carrier>, running: &[RunningContainer]) -> Vec<StaleCopy> {
        let mut stale = Vec::new();
        for container in running {
            for kept in &container.kept {
                let object = |namespace: Option<&String>| {
                    (kept.kind.to_owned(), namespace.cloned(), kept.object.clone())
                };
                let places = self
                    .by_object
                    .get(&object(pod.namespace.as_ref()))
                    .or_else(|| self.by_object.get(&object(None)));
                let old = places.into_iter().flatten().filter(|place| {
                    kept.key.as_ref().is_none_or(|key| *key == place.key)
                        && container.started < place.changed
                });
                stale.extend(old.map(|place| StaleCopy {
                    carrier: pod.clone(),
                    key: format!("{} {} {}", kept.kind, kept.object, place.key).trim_end().into(),
                    authority: place.authority,
                    fault: CopyFault::NotUpdated,
                    container: Some(ContainerCopy {
                        container: container.name.clone(),
                        how: kept.how,
                        started: container.started,
                        changed: place.changed,
                    }),
                }));
                if stale.len() >= IN_ONE_POD {
                    stale.truncate(IN_ONE_POD);
                    return stale;
                }
            }
        }
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrier(kind: &str, namespace: Option<&str>, name: &str) -> Arc<Carrier> {
        let namespace = namespace.map(str::to_owned);
        Arc::new(Carrier { kind: kind.into(), namespace, name: name.into(), uid: "u".into() })
    }

    fn place(namespace: &str, name: &str, key: &str, changed: i64) -> TrustPlace {
        TrustPlace {
            carrier: carrier("ConfigMap", Some(namespace), name),
            key: key.into(),
            authority: "ca",
            changed: Timestamp::from_unix(changed),
        }
    }

    fn container(started: i64, object: &str, key: Option<&str>) -> RunningContainer {
        let key = key.map(str::to_owned);
        let kept = KeptValue { kind: "ConfigMap", object: object.into(), key, how: "subPath" };
        let started = Timestamp::from_unix(started);
        RunningContainer { name: "c".into(), started, kept: vec![kept] }
    }

    #[test]
    fn what_a_container_got_before_it_changed_is_told_and_nothing_else() {
        let mut places = TrustPlaces::default();
        assert!(places.add(place("team", "trust", "ca.crt", 100)));
        let pod = carrier("Pod", Some("team"), "web");
        for (started, object, key, told) in [
            (99, "trust", Some("ca.crt"), 1),
            (99, "trust", None, 1),
            (100, "trust", Some("ca.crt"), 0),
            (200, "trust", None, 0),
            (99, "trust", Some("other"), 0),
            (99, "others", Some("ca.crt"), 0),
        ] {
            let found = places.not_updated(&pod, &[container(started, object, key)]);
            assert_eq!(found.len(), told, "{started} {object} {key:?}");
        }
        // Another namespace's object of that name is another.
        let other = carrier("Pod", Some("other"), "web");
        assert!(places.not_updated(&other, &[container(1, "trust", None)]).is_empty());
        let found = &places.not_updated(&pod, &[container(99, "trust", None)])[0];
        assert_eq!(
            (found.key.as_str(), found.fault.name()),
            ("ConfigMap trust ca.crt", "not-updated")
        );
    }

    #[test]
    fn a_bundle_of_the_cluster_is_every_pods() {
        let changed = Some(Timestamp::from_unix(100));
        let known =
            KnownTrust { authority: "ca", bundle_changed: changed, ..KnownTrust::default() };
        let places = TrustPlaces::joined([].into_iter(), &[known]);
        let mut old = container(1, "certkit-ca", None);
        old.kept[0].kind = "ClusterTrustBundle";
        let pod = carrier("Pod", Some("any"), "web");
        assert_eq!(places.not_updated(&pod, &[old])[0].key, "ClusterTrustBundle certkit-ca");
    }

    #[test]
    fn a_flood_of_copies_or_of_variables_is_bounded() {
        let mut places = TrustPlaces::default();
        let room =
            (0..500).filter(|n| places.add(place("flood", &format!("c{n}"), "k", 9))).count();
        assert_eq!(room, IN_ONE_NAMESPACE);
        assert!(places.add(place("honest", "trust", "k", 9)));
        let mut many = container(1, "c1", None);
        many.kept = vec![many.kept[0].clone(); 1000];
        let pod = carrier("Pod", Some("flood"), "web");
        assert_eq!(places.not_updated(&pod, &[many]).len(), IN_ONE_POD);
    }
}
