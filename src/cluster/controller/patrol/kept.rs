//! What containers keep of other objects as it was when they started: read off a page of pods, of which nothing else is read.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, KeyToPath, PodStatus, Volume, VolumeMount,
};
use serde::Deserialize;

use crate::model::{
    carrier::{Carrier, Glance, KeptValue, RunningContainer, TrustPlaces},
    timestamp::Timestamp,
};

/// How a container has what gets no update.
const SUB_PATH: &str = "subPath";
const SUB_PATH_EXPR: &str = "subPathExpr";
const ENV: &str = "env";
const ENV_FROM: &str = "envFrom";

const CONFIG_MAP: &str = "ConfigMap";
const SECRET: &str = "Secret";
const BUNDLE: &str = "ClusterTrustBundle";

#[derive(Deserialize)]
struct Pods {
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    env: Vec<EnvVar>,
    #[serde(default)]
    env_from: Vec<EnvFromSource>,
    #[serde(default)]
    volume_mounts: Vec<VolumeMount>,
}

/// What the containers of a page of pods have as it was before it changed.
pub fn of_page(page: &[u8], places: &TrustPlaces) -> Result<Glance, String> {
    let pods: Pods = serde_json::from_slice(page).map_err(|error| error.to_string())?;
    let mut look = Glance::default();
    for pod in pods.items {
        let running = running(&pod);
        let Meta { name, namespace, uid } = pod.metadata;
        let carrier = Arc::new(Carrier { kind: "Pod".into(), namespace, name, uid });
        look.stale.extend(places.not_updated(&carrier, &running));
    }
    Ok(look)
}

/// The containers that run, each with what it keeps. Sidecars are init containers that do.
fn running(pod: &Pod) -> Vec<RunningContainer> {
    let (spec, status) = (&pod.spec, &pod.status);
    let statuses = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let all = [&spec.containers, &spec.init_containers, &spec.ephemeral_containers];
    let mut running = Vec::new();
    for container in all.into_iter().flatten() {
        // No two containers of a pod have one name.
        let mut statuses = statuses.into_iter().flatten().flatten();
        let status = statuses.find(|status| status.name == container.name);
        let state = status.and_then(|status| status.state.as_ref()?.running.as_ref());
        let Some(started) = state.and_then(|state| state.started_at.as_ref()) else { continue };
        let started = Timestamp::from_unix(started.0.as_second());
        let kept: BTreeSet<KeptValue> = kept(container, &spec.volumes).collect();
        if !kept.is_empty() {
            let (name, kept) = (container.name.clone(), kept.into_iter().collect());
            running.push(RunningContainer { name, started, kept });
        }
    }
    running
}

fn kept<'c>(
    container: &'c Container,
    volumes: &'c [Volume],
) -> impl Iterator<Item = KeptValue> + 'c {
    let mounted = container.volume_mounts.iter().flat_map(|mount| mounted(mount, volumes));
    let variables = container.env.iter().flat_map(|variable| {
        let from = variable.value_from.as_ref();
        let map = from.and_then(|from| from.config_map_key_ref.as_ref());
        let map = map.map(|of| value(CONFIG_MAP, &of.name, Some(&of.key), ENV));
        let secret = from.and_then(|from| from.secret_key_ref.as_ref());
        let secret = secret.map(|of| value(SECRET, &of.name, Some(&of.key), ENV));
        map.into_iter().chain(secret)
    });
    let all = container.env_from.iter().flat_map(|from| {
        let map = from.config_map_ref.as_ref();
        let map = map.map(|of| value(CONFIG_MAP, &of.name, None, ENV_FROM));
        let secret = from.secret_ref.as_ref();
        map.into_iter().chain(secret.map(|of| value(SECRET, &of.name, None, ENV_FROM)))
    });
    mounted.chain(variables).chain(all)
}

/// What a mount keeps: nothing if it is of a whole volume, which the kubelet updates.
fn mounted(mount: &VolumeMount, volumes: &[Volume]) -> Vec<KeptValue> {
    let (how, path) = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => (SUB_PATH, Some(path.as_str())),
        // What it expands to depends on variables.
        (_, Some(path)) if !path.is_empty() => (SUB_PATH_EXPR, None),
        _ => return Vec::new(),
    };
    let Some(volume) = volumes.iter().find(|volume| volume.name == mount.name) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let mut take = |kind, name: &str, items: Option<&Vec<KeyToPath>>| match (items, path) {
        (Some(items), _) if !items.is_empty() => {
            let under = items.iter().filter(|item| is_under(&item.path, path));
            all.extend(under.map(|item| value(kind, name, Some(&item.key), how)));
        }
        // Without items each key is a file of that name.
        (_, path) => all.push(value(kind, name, path.map(plain), how)),
    };
    if let Some(of) = &volume.config_map {
        take(CONFIG_MAP, &of.name, of.items.as_ref());
    }
    if let Some(of) = &volume.secret {
        take(SECRET, of.secret_name.as_deref().unwrap_or_default(), of.items.as_ref());
    }
    let mut bundles = Vec::new();
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        if let Some(of) = &source.config_map {
            take(CONFIG_MAP, &of.name, of.items.as_ref());
        }
        if let Some(of) = &source.secret {
            take(SECRET, &of.name, of.items.as_ref());
        }
        if let Some(of) = &source.cluster_trust_bundle
            && let Some(name) = &of.name
            && is_under(&of.path, path)
        {
            bundles.push(value(BUNDLE, name, None, how));
        }
    }
    all.extend(bundles);
    all
}

/// Whether a file of a volume is what is mounted, or in the folder that is.
fn is_under(file: &str, path: Option<&str>) -> bool {
    let Some(path) = path.map(plain) else { return true };
    let rest = plain(file).strip_prefix(path);
    path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn plain(path: &str) -> &str {
    let path = path.trim_end_matches('/').trim_start_matches("./");
    if path == "." { "" } else { path }
}

fn value(kind: &'static str, name: &str, key: Option<&str>, how: &'static str) -> KeptValue {
    KeptValue { kind, object: name.to_owned(), key: key.map(str::to_owned), how }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a container with these fields keeps of the volumes `map`, `items`, `secret` and `all`.
    fn of(fields: Value) -> Vec<String> {
        let mut container = json!({"name": "web", "image": "web", "resources": {}});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let pod = json!({
            "metadata": {"name": "web-1", "namespace": "team", "uid": "u", "managedFields": [{"fieldsV1": 7}]},
            "spec": {
                "containers": [container],
                "volumes": [
                    {"name": "map", "configMap": {"name": "trust", "defaultMode": 420}},
                    {"name": "items", "configMap": {"name": "trust", "items": [
                        {"key": "ca.crt", "path": "tls/ca.pem"}, {"key": "b", "path": "other"}]}},
                    {"name": "secret", "secret": {"secretName": "web-tls"}},
                    {"name": "empty", "emptyDir": {}},
                    {"name": "all", "projected": {"sources": [
                        {"configMap": {"name": "one"}},
                        {"secret": {"name": "two", "items": [{"key": "ca.crt", "path": "two.crt"}]}},
                        {"clusterTrustBundle": {"name": "certkit-ca", "path": "bundle.crt"}},
                        {"serviceAccountToken": {"path": "token"}}]}},
                ],
            },
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "web", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                 "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let all = running(&pod);
        assert!(all.iter().all(|one| one.started.to_string() == "2026-01-02T03:04:05Z"));
        let told = |kept: &KeptValue| {
            let KeptValue { kind, object, key, how } = kept;
            format!("{how} {kind} {object} {}", key.as_deref().unwrap_or("*"))
        };
        all.iter().flat_map(|one| one.kept.iter().map(told)).collect()
    }

    #[test]
    fn what_is_mounted_by_sub_path_or_a_variable_is_kept_and_what_the_kubelet_updates_is_not() {
        let mount = |volume: &str, more: Value| {
            let mut mount = json!({"name": volume, "mountPath": "/x"});
            mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"volumeMounts": [mount]})
        };
        let path = |volume: &str, path: &str| mount(volume, json!({"subPath": path}));
        let nothing: &[&str] = &[];
        for (fields, kept) in [
            (json!({}), nothing),
            (mount("map", json!({})), nothing),
            (path("map", ""), nothing),
            (path("map", "ca.crt"), &["subPath ConfigMap trust ca.crt"]),
            (path("map", "./ca.crt"), &["subPath ConfigMap trust ca.crt"]),
            (path("map", "other"), &["subPath ConfigMap trust other"]),
            (
                mount("map", json!({"subPathExpr": "$(NAME).crt"})),
                &["subPathExpr ConfigMap trust *"],
            ),
            (path("items", "tls"), &["subPath ConfigMap trust ca.crt"]),
            (path("items", "tls/ca.pem"), &["subPath ConfigMap trust ca.crt"]),
            (path("items", "tls/ca"), nothing),
            (path("items", "other/"), &["subPath ConfigMap trust b"]),
            (path("items", "ca.crt"), nothing),
            (path("secret", "ca.crt"), &["subPath Secret web-tls ca.crt"]),
            (path("empty", "ca.crt"), nothing),
            (path("nowhere", "ca.crt"), nothing),
            (
                path("all", "bundle.crt"),
                &["subPath ClusterTrustBundle certkit-ca *", "subPath ConfigMap one bundle.crt"],
            ),
            (
                path("all", "two.crt"),
                &["subPath ConfigMap one two.crt", "subPath Secret two ca.crt"],
            ),
            (
                json!({"env": [
                    {"name": "A", "value": "plain"},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "trust", "key": "ca.crt"}}},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "web-tls", "key": "ca.crt"}}},
                    {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
                &["env ConfigMap trust ca.crt", "env Secret web-tls ca.crt"],
            ),
            (
                json!({"envFrom": [{"configMapRef": {"name": "trust"}}, {"secretRef": {"name": "s"}}]}),
                &["envFrom ConfigMap trust *", "envFrom Secret s *"],
            ),
        ] {
            assert_eq!(of(fields.clone()), kept, "{fields}");
        }
    }

    #[test]
    fn what_does_not_run_keeps_nothing_and_sidecars_do() {
        let pod = |init: Value, main: Value| -> Pod {
            let container =
                |name: &str| json!({"name": name, "envFrom": [{"configMapRef": {"name": "m"}}]});
            let status = |name: &str, state: &Value| {
                json!({"name": name, "image": "", "imageID": "",
                "ready": true, "restartCount": 0, "state": state})
            };
            serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "spec": {"containers": [container("main")], "initContainers": [container("side")]},
                "status": {"containerStatuses": [status("main", &main)],
                           "initContainerStatuses": [status("side", &init)]},
            }))
            .unwrap()
        };
        let names = |pod: &Pod| running(pod).into_iter().map(|one| one.name).collect::<Vec<_>>();
        let runs = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        assert_eq!(names(&pod(runs.clone(), runs.clone())), ["main", "side"]);
        let waits = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(names(&pod(waits, json!({"terminated": {"exitCode": 0}}))), [""; 0]);
        assert!(
            names(&serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap()).is_empty()
        );
        for page in [&b""[..], b"{}", b"{\"items\": 7}", b"{\"items\": [{}]}"] {
            assert!(of_page(page, &TrustPlaces::default()).is_err());
        }
    }
}
