//! Changes of objects in a cluster, as JSON patches that hold only while the object is the one that was read.

use serde_json::{Value as Json, json};

use super::{data, kubeconfig};

/// What becomes of certificates in PEM; nothing where they are right.
pub type Mend<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;

/// The patch that mends every `caBundle` of an object; nothing where all are right, or it is no object.
pub fn ca_bundles(object: &[u8], mend: Mend<'_>) -> Option<String> {
    let object: Json = serde_json::from_slice(object).ok()?;
    let mut operations = Vec::new();
    walk(&object, "", mend, &mut operations);
    patch(&object, operations)
}

/// The patch that mends what the kubeconfigs of a ConfigMap trust.
pub fn kubeconfigs(object: &[u8], mend: Mend<'_>) -> Option<String> {
    let object: Json = serde_json::from_slice(object).ok()?;
    let mut operations = Vec::new();
    for (key, text) in object.get("data")?.as_object()? {
        let Some(text) = text.as_str() else { continue };
        let Ok(view) = kubeconfig::parse(text.as_bytes()) else { continue };
        let mut changed = text.as_bytes().to_vec();
        for cluster in &view.clusters {
            let Some(kubeconfig::Material::Data(pem)) = &cluster.ca else { continue };
            let Some(pem) = mend(pem) else { continue };
            let trust = Some((Some(cluster.name.clone()), pem));
            let edit = kubeconfig::Edit { certificate_authority_data: trust, ..Default::default() };
            changed = kubeconfig::edit(&changed, &edit).ok()?.to_vec();
        }
        if changed != text.as_bytes() {
            let text = String::from_utf8(changed).ok()?;
            operations.push(replace(&format!("/data/{}", escaped(key)), &text));
        }
    }
    patch(&object, operations)
}

fn walk(node: &Json, path: &str, mend: Mend<'_>, operations: &mut Vec<Json>) {
    match node {
        Json::Object(fields) => {
            for (key, value) in fields {
                let path = format!("{path}/{}", escaped(key));
                let bundle = value.as_str().filter(|_| key == super::object::CA_BUNDLE);
                match bundle.and_then(data::decode).and_then(|pem| mend(&pem)) {
                    Some(pem) => operations.push(replace(&path, data::encode(&pem).as_str())),
                    // Annotations repeat what was applied.
                    None if path == "/metadata" => {}
                    None => walk(value, &path, mend, operations),
                }
            }
        }
        Json::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                walk(item, &format!("{path}/{number}"), mend, operations);
            }
        }
        _ => {}
    }
}

fn replace(path: &str, value: &str) -> Json {
    json!({"op": "replace", "path": path, "value": value})
}

/// A part of a JSON pointer (RFC 6901).
fn escaped(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

fn patch(object: &Json, mut operations: Vec<Json>) -> Option<String> {
    let version = object.get("metadata")?.get("resourceVersion")?.as_str()?;
    if operations.is_empty() {
        return None;
    }
    let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    operations.insert(0, test);
    Some(Json::Array(operations).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upper(pem: &[u8]) -> Option<Vec<u8>> {
        pem.starts_with(b"old").then(|| pem.to_ascii_uppercase())
    }

    #[test]
    fn every_bundle_that_is_old_is_replaced_while_the_object_is_the_same() {
        let old = data::encode(b"old").to_string();
        let new = data::encode(b"new").to_string();
        let object = json!({
            "metadata": {"resourceVersion": "7", "annotations": {"caBundle": old}},
            "webhooks": [
                {"clientConfig": {"caBundle": new}},
                {"clientConfig": {"caBundle": old}},
            ],
        });
        let patch: Json =
            serde_json::from_str(&ca_bundles(object.to_string().as_bytes(), &upper).unwrap())
                .unwrap();
        assert_eq!(
            patch,
            json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "replace", "path": "/webhooks/1/clientConfig/caBundle", "value": data::encode(b"OLD").as_str()},
            ])
        );
        assert_eq!(ca_bundles(b"{\"metadata\": {\"resourceVersion\": \"7\"}}", &upper), None);
        assert_eq!(ca_bundles(b"nothing", &upper), None);
    }

    #[test]
    fn the_kubeconfig_of_cluster_info_has_no_user_and_no_context() {
        let old = data::encode(b"old").to_string();
        let text = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {old}\n    server: \
             https://a:6443\n  name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\nusers: null\n"
        );
        let object = json!({"metadata": {"resourceVersion": "7"}, "data": {"kubeconfig": text}});
        let patch = kubeconfigs(object.to_string().as_bytes(), &upper).unwrap();
        let patch: Json = serde_json::from_str(&patch).unwrap();
        let value = patch[1]["value"].as_str().unwrap();
        assert_eq!(value, text.replace(&old, data::encode(b"OLD").as_str()));
    }
}
