//! Components' configuration files that settings name: what each is to say, and whether it does.
//!
//! They are people's to edit, as components need more than what certkit says. So a file has a digest of the
//! rest in its first line: while that is right nobody has edited it, and certkit may write it anew; else it
//! is looked at and left alone.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use super::{
    flags::{self, FlagsError},
    folders::Folders,
    read,
};
use crate::{
    document::flat::{self, Flat},
    model::{
        catalogue::ComponentSpec,
        layout::Layout,
        observed::{ConfigState, ObservedConfig, Piece},
        settings::{Placement, SettingValue, settings},
        shown::with_causes,
    },
    store,
};

/// What is before and after the digest in the first line.
const MARK: (&str, &str) =
    ("# `certkit init` keeps this file current until somebody edits it (sha256 ", ").\n");

/// Reads the configuration files that the cluster lays out under DIR, and compares them with what they are to
/// say; in the order of [`Layout::config_files`].
pub fn observe(layout: &Layout<'_>, dir: &Path) -> Result<Vec<ObservedConfig>, FlagsError> {
    let cluster = layout.cluster;
    let without_keys = BTreeSet::new();
    let path = dir.to_str().ok_or(FlagsError::HostDir { path: "DIR".into() })?;
    let place = Placement { dir: path, without_keys: &without_keys };
    let mut configs = Vec::new();
    let mut folders = Folders::new(dir);
    // Hosts of a kind have the same.
    let mut known: HashMap<(&str, Vec<String>), Arc<str>> = HashMap::new();
    for file in &layout.config_files {
        let all = settings(cluster, Some(file.host), file.component, place);
        let values = all.iter().map(|setting| setting.value.clone()).collect();
        let key = (file.component.id, values);
        let text = match known.get(&key) {
            Some(text) => Arc::clone(text),
            None => {
                let text = flags::config_file(cluster, path, file, all.clone())?;
                let text = Arc::from(marked(&text));
                known.insert(key, Arc::clone(&text));
                text
            }
        };
        let found = match folders.lack(&file.path) {
            true => Piece::Missing,
            false => read::file(&dir.join(&file.path)),
        };
        let content = match found {
            Piece::Missing => Piece::Missing,
            Piece::Bad(why) => Piece::Bad(why),
            Piece::Present(found) => state(&found, &text, file.component, &all),
        };
        configs.push(ObservedConfig { path: file.path.clone(), content, wanted: text });
    }
    Ok(configs)
}

fn marked(text: &str) -> String {
    let (before, after) = MARK;
    format!("{before}{}{after}{text}", store::sha256(text.as_bytes()))
}

/// Whether nobody has changed it since certkit wrote it.
fn is_untouched(text: &str) -> bool {
    let (before, after) = MARK;
    let parts = text.strip_prefix(before).and_then(|rest| rest.split_once(after));
    parts.is_some_and(|(digest, rest)| digest == store::sha256(rest.as_bytes()))
}

fn state(
    found: &[u8],
    wanted: &str,
    component: &ComponentSpec,
    settings: &[SettingValue],
) -> Piece<ConfigState> {
    if found == wanted.as_bytes() {
        return Piece::Present(ConfigState::Right);
    }
    let kind = component.config.map_or("", |config| config.kind);
    let text = match std::str::from_utf8(found) {
        Ok(text) => text,
        Err(error) => return Piece::Bad(with_causes(&error)),
    };
    let documents = match flat::documents(text) {
        Ok(documents) => documents,
        Err(error) => return Piece::Bad(with_causes(&error)),
    };
    let Some(document) = documents.iter().find(|d| d.get("kind") == Some(kind)) else {
        return Piece::Bad(format!("is no {kind}"));
    };
    let differences: Vec<String> =
        settings.iter().filter_map(|setting| difference(document, setting)).collect();
    Piece::Present(match (is_untouched(text), differences.is_empty()) {
        (true, _) => ConfigState::Outdated(differences),
        (false, true) => ConfigState::Right,
        (false, false) => ConfigState::Edited(differences),
    })
}

/// How a file says a setting otherwise, or that it does not say it.
fn difference(document: &Flat, setting: &SettingValue) -> Option<String> {
    let field = setting.field?;
    match document.get(field) {
        Some(value) if value == setting.value => None,
        Some(value) => Some(format!("{field} is {value}, not {}", setting.value)),
        None => Some(format!("it lacks {field}: {}", setting.value)),
    }
}
