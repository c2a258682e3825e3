//! Variables of environment files and units: etcd and its client read theirs by themselves, other programs are
//! given theirs on their command line.

use std::{collections::BTreeMap, path::Path};

use super::argv;
use crate::model::{
    catalogue::{self, COMPONENTS, Environment},
    check::flags::{Setting, Told},
};

/// Names and values.
pub type Variables = BTreeMap<String, String>;

/// The variables of an environment file: a text of which every line is one.
pub fn of_file(text: &str) -> Option<Variables> {
    let mut found = Variables::new();
    // `/proc/PID/environ` has no lines.
    let mut lines = text.split(['\n', '\0']).map(str::trim);
    lines.by_ref().filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])).try_for_each(
        |line| {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if name.is_empty() || !name.bytes().all(is_name) {
                return None;
            }
            let quoted = value.starts_with(['"', '\'']);
            let value = match quoted {
                true => argv::split(value).concat(),
                false => value.trim().to_owned(),
            };
            found.insert(name.to_owned(), value);
            Some(())
        },
    )?;
    (!found.is_empty()).then_some(found)
}

/// What they tell components by themselves.
pub fn told(file: &Path, variables: &Variables) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for component in COMPONENTS {
        let mut settings = read_by_itself(component.id, variables);
        for (_, value) in variables.iter().filter(|(name, _)| names(name) == Some(component.id)) {
            let words: Vec<_> = argv::split(value).into_iter().map(|word| (word, None)).collect();
            if words.iter().any(|(word, _)| word.starts_with("--"))
                && let Some(more) = argv::told_of(file, component.id, words)
            {
                settings.extend(more.settings);
            }
        }
        if !settings.is_empty()
            && let Some(mut told) = argv::told_of(file, component.id, Vec::new())
        {
            told.settings = settings;
            all.push(told);
        }
    }
    all
}

/// What a program of this name takes from its environment: `ETCD_CERT_FILE` is etcd's `--cert-file`.
pub fn read_by_itself(component: &str, variables: &Variables) -> Vec<Setting> {
    let Some(component) = catalogue::component(component) else { return Vec::new() };
    let prefix = format!("{}_", argv::shout(component.id));
    let flag = |name: &str| match component.environment {
        Environment::Flags => {
            Some(name.strip_prefix(&prefix)?.to_ascii_lowercase().replace('_', "-"))
        }
        Environment::Kubeconfig => (name == "KUBECONFIG").then(|| "kubeconfig".to_owned()),
        Environment::Nothing => None,
    };
    let setting = |(name, value): (&String, &String)| {
        Some(Setting { name: flag(name)?, value: value.clone(), line: None })
    };
    variables.iter().filter_map(setting).collect()
}

/// The component whose flags a variable holds, by the name in its own.
fn names(variable: &str) -> Option<&'static str> {
    let is_in = |id: &&'static str| {
        let name = argv::shout(id);
        variable.strip_prefix(&name).is_some_and(|rest| rest.starts_with('_'))
            || variable.contains(&format!("_{name}_"))
    };
    COMPONENTS.iter().map(|c| c.id).filter(is_in).max_by_key(|id| id.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_told_from_others() {
        let text = "# etcd\nETCD_CERT_FILE=/a b\nexport X=\"y z\"\n\nE=\n";
        let found = of_file(text).unwrap();
        assert_eq!(found["ETCD_CERT_FILE"], "/a b");
        assert_eq!((&*found["X"], &*found["E"]), ("y z", ""));
        for other in ["a: b\n", "--a=b\n", "[Service]\nA=b\n", "# nothing\n", "a=b\nc\n"] {
            assert_eq!(of_file(other), None, "{other}");
        }
    }

    #[test]
    fn each_program_reads_its_own() {
        let variables = of_file(
            "ETCD_CERT_FILE=/a\nETCDCTL_CACERT=/b\nKUBECONFIG=/c\nKUBELET_EXTRA_ARGS=--v=2\n\
             KUBE_PROXY_PKI_ARGS=\"--kubeconfig=/d\"\nMY_KUBELET_ARGS=--x=y\n",
        );
        let all = told(Path::new("f"), &variables.unwrap());
        let said: Vec<_> = all
            .iter()
            .map(|t| (t.component, t.settings.iter().map(|s| &*s.name).collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            said,
            [
                ("etcd", vec!["cert-file"]),
                ("kubelet", vec!["v", "x"]),
                ("kube-proxy", vec!["kubeconfig"]),
                ("etcdctl", vec!["cacert"]),
                ("kubectl", vec!["kubeconfig"]),
            ]
        );
    }
}
