//! What must be set, and what must not: the catalogue's rows, held against what a component is told.

use super::{Finding, Told};
use crate::model::{
    catalogue::{COMPONENTS, INSECURE, Insecure, InsecureForm, When},
    shown::{self, quoted},
};

/// Everything insecure or missing.
pub fn findings(told: &Told, all: &[Told], found: &mut Vec<Finding>) {
    for row in INSECURE.iter().filter(|row| concerns(row, told)) {
        // Nothing can be missing from what is a part only.
        if told.is_partial && !row.is_of_what_is_set() {
            continue;
        }
        if !row.when.iter().all(|when| is_so(when, told, all)) {
            continue;
        }
        let mut push = |what: String| {
            let finding = told.finding(row.code, what);
            found.push(match row.severity {
                Some(severity) => finding.severity(severity),
                None => finding,
            });
        };
        match row.when.first() {
            Some(When::HasHttp(name)) => {
                for (option, url) in urls(told, name).filter(|(_, url)| is_http(url)) {
                    let what = row.what.replace("{0}", &told.show(option));
                    push(what.replace("{url}", &shown::url(url)));
                }
            }
            _ => push(said(row, told)),
        }
    }
}

fn concerns(row: &Insecure, told: &Told) -> bool {
    let form = match row.form {
        InsecureForm::Both => true,
        InsecureForm::Fields => told.is_config,
        // What has no file of its own is told by flags, in whatever form they are written.
        InsecureForm::Flags => !told.is_config || !has_file(told.component),
    };
    form && row.component.is_none_or(|component| component == told.component)
}

fn has_file(component: &str) -> bool {
    COMPONENTS.iter().any(|spec| spec.id == component && spec.config.is_some())
}

fn is_so(when: &When, told: &Told, all: &[Told]) -> bool {
    match *when {
        When::FileNotGiven => {
            !all.iter().any(|other| other.component == told.component && other.is_config)
        }
        When::HasHttp(name) => urls(told, name).any(|(_, url)| is_http(url)),
        When::HasTls(name) => urls(told, name).any(|(_, url)| !is_http(url)),
        When::Lists(name, value) => {
            told.get(name).is_some_and(|list| list.split(',').any(|item| item == value))
        }
        When::Not(name, value) => told.get(name).is_some_and(|is| is != value),
        When::OneOf(name, values) => told.get(name).is_some_and(|is| values.contains(&is)),
        When::Set(name) => told.set(name).is_some(),
        When::True(name) => told.is_true(name),
        // A list in a file is as many settings as it has items.
        When::Unset(name) => told.set(name).is_none() && told.set(&format!("{name}.0")).is_none(),
        When::Untold(name) => told.get(name).is_none(),
        When::Untrue(name) => !told.is_true(name),
    }
}

/// The row's words, with the settings as they are written there.
fn said(row: &Insecure, told: &Told) -> String {
    let mut what = row.what.to_owned();
    for (place, when) in row.when.iter().enumerate() {
        let Some(name) = when.name() else { continue };
        what = what.replace(&format!("{{{place}}}"), &told.show(name));
    }
    let value = match row.when.first() {
        // One of the catalogue's own.
        Some(When::OneOf(name, _)) => told.get(name).map(str::to_owned),
        Some(When::Not(name, _)) => told.get(name).map(|value| quoted(value).to_string()),
        _ => None,
    };
    what.replace("{value}", &value.unwrap_or_default())
}

/// The URLs of a list, each with the setting's full name; one that begins with a dot is how fields end.
fn urls<'a>(told: &'a Told, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let ends =
        told.settings.iter().filter(move |s| name.starts_with('.') && s.name.ends_with(name));
    let ends = ends.map(|setting| (setting.name.as_str(), setting.value.as_str()));
    let lists = told.get(name).map(|list| (name, list));
    ends.chain(lists)
        .flat_map(|(name, list)| list.split(',').map(move |url| (name, url.trim())))
        .filter(|(_, url)| !url.is_empty())
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{
        catalogue::roles::{EGRESS, ETCD, KUBELET},
        check::flags::Setting,
        code::Code,
    };

    fn found(
        component: &'static str,
        is_config: bool,
        is_partial: bool,
        told: &[(&str, &str)],
    ) -> Vec<Finding> {
        let setting = |(name, value): &(&str, &str)| Setting {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            line: None,
        };
        let told = Told {
            file: "f".into(),
            component,
            is_config,
            is_partial,
            settings: told.iter().map(setting).collect(),
            contents: BTreeMap::new(),
        };
        let mut all = Vec::new();
        findings(&told, &[], &mut all);
        all
    }

    fn codes(found: &[Finding]) -> Vec<Code> {
        found.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_part_is_judged_by_what_it_says_alone() {
        let says = [
            ("authentication.anonymous.enabled", "true"),
            ("authorization.mode", "AlwaysAllow"),
            ("readOnlyPort", "10255"),
            ("tlsMinVersion", "VersionTLS10"),
        ];
        let part = found(KUBELET.id, true, true, &says);
        let said = [Code::AnonymousAccess, Code::AlwaysAllow, Code::ReadOnlyPort, Code::TlsTooOld];
        assert_eq!(codes(&part), said);
        let whole = found(KUBELET.id, true, false, &says);
        assert_eq!(whole.len(), said.len() + 2, "no CA, no certificate");
        assert_eq!(codes(&found(KUBELET.id, true, true, &[("readOnlyPort", "0")])), []);
        assert_eq!(codes(&found(KUBELET.id, false, true, &[])), []);
    }

    #[test]
    fn each_url_that_is_plain_http_is_found() {
        let list = "https://a:2379, http://b:2379,http://c:2379";
        for is_config in [false, true] {
            let all = found(ETCD.id, is_config, true, &[("listen-client-urls", list)]);
            assert_eq!(codes(&all), [Code::PlainHttp; 2]);
            assert!(all[0].what.contains("has http://b:2379: certificates"), "{}", all[0].what);
        }
        let url = "egressSelections.0.connection.transport.tcp.url";
        let all = found(EGRESS.id, true, false, &[(url, "http://k:8131")]);
        assert_eq!(all[0].what, format!("{url} is http://k:8131"));
        assert_eq!(codes(&found(EGRESS.id, true, false, &[(url, "https://k:8131")])), []);
    }

    #[test]
    fn words_name_the_settings_as_they_are_written() {
        let all = found(KUBELET.id, false, false, &[]);
        let what: Vec<&str> = all.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "anonymous requests are let in: neither --config nor --anonymous-auth is set, which means so",
                "everything is allowed: neither --config nor --authorization-mode is set, which means so",
                "the read-only port is open: neither --config nor --read-only-port is set, which means so",
                "neither --config nor --client-ca-file is set",
            ]
        );
        let members = [
            ("peer-transport-security.client-cert-auth", "true"),
            ("client-transport-security.trusted-ca-file", "/ca"),
        ];
        let all = found(ETCD.id, true, false, &members);
        assert_eq!(codes(&all), [Code::EtcdSystemRoots, Code::EtcdPeerOpen]);
        assert_eq!(
            all[0].what,
            "peer-transport-security.client-cert-auth is set and peer-transport-security.trusted-ca-file is not: any public \
             CA's peers get in"
        );
        let allowed = [
            ("peer-transport-security.allowed-hostnames.0", "p"),
            members[1],
            ("peer-transport-security.trusted-ca-file", "/ca"),
        ];
        assert_eq!(codes(&found(ETCD.id, true, false, &allowed)), []);
    }
}
