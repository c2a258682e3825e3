//! The catalogue held to account, row by row.

use std::collections::BTreeSet;

use super::*;

#[test]
fn ids_are_unique() {
    let mut seen = BTreeSet::new();
    for id in CERTIFICATES.iter().map(|s| s.id.name()).chain(KEYS.iter().map(|k| k.id)) {
        assert!(seen.insert(id), "{id} twice");
    }
    let paths: BTreeSet<_> = PATHS.iter().map(|p| p.id).collect();
    assert_eq!(paths.len(), PATHS.len());
    let components: BTreeSet<_> = COMPONENTS.iter().map(|c| c.id).collect();
    assert_eq!(components.len(), COMPONENTS.len());
}

#[test]
fn each_id_that_a_row_names_has_a_row() {
    let issuers = CERTIFICATES.iter().filter_map(CertSpec::issuer_id);
    let used = USES.iter().filter_map(Use::certificate);
    let trusted = PATHS.iter().flat_map(|path| [path.client_trusts, path.server_trusts]);
    let shown = PATHS.iter().flat_map(|path| [path.client, path.server]);
    let shown = shown.filter_map(|credential| match credential {
        Credential::Cert(id) => Some(id),
        Credential::None | Credential::Other(_) | Credential::Token(_) => None,
    });
    let served = LISTENERS.iter().map(|listener| listener.certificate);
    let mounted = COMPONENTS.iter().filter_map(|component| component.kubeadm?.kubeconfig);
    let all = issuers.chain(used).chain(trusted.flatten()).chain(shown).chain(served);
    for id in all.chain(mounted) {
        assert!(certificate(id.name()).is_some(), "{id} has no row");
    }
}

#[test]
fn files_are_unique() {
    let mut seen = BTreeSet::new();
    for spec in CERTIFICATES {
        for file in spec.home.files() {
            assert!(seen.insert(file), "{file} twice");
        }
    }
    for spec in KEYS {
        assert!(seen.insert(spec.private) && seen.insert(spec.public));
    }
}

#[test]
fn issuers_come_first_and_are_authorities() {
    let mut earlier = BTreeSet::new();
    for spec in CERTIFICATES {
        if let Issuer::Ca(id) = spec.issuer {
            assert!(earlier.contains(&id), "{} before its issuer {id}", spec.id);
            assert!(id.spec().is_ca());
        }
        assert_eq!(
            spec.is_ca(),
            matches!(spec.home, Home::Authority { .. }),
            "{}: only CAs live in an authority's files",
            spec.id
        );
        earlier.insert(spec.id);
    }
}

#[test]
fn every_certificate_is_used_by_something() {
    for spec in CERTIFICATES {
        let used = USES.iter().any(|u| u.certificate() == Some(spec.id));
        let above = CERTIFICATES.iter().any(|s| s.issuer == Issuer::Ca(spec.id));
        let root = spec.present == Condition::SingleRoot;
        assert!(used || above || root, "{} is used by nothing", spec.id);
        if !spec.is_ca() {
            assert!(used, "{} is used by nothing", spec.id);
        }
    }
    for spec in KEYS {
        assert!(USES.iter().any(|u| u.subject() == Some(spec.id)));
    }
}

#[test]
fn a_use_names_what_exists_on_hosts_where_its_component_runs() {
    for row in USES {
        let component = component(row.component).expect(row.component);
        assert!(row.flag.is_some() || row.field.is_some(), "{row:?}");
        let Some(id) = row.subject() else { continue };
        let Some(spec) = certificate(id) else {
            assert!(key(id).is_some(), "{id} is nothing");
            continue;
        };
        let (bundle, chain) = match spec.home {
            Home::Authority { bundle, chain, .. } => (bundle, chain),
            _ => (None, None),
        };
        match row.value {
            Value::Bundle(_) => assert!(bundle.is_some(), "{id} has no bundle"),
            Value::Chain(_) => assert!(chain.is_some(), "{id} has no chain"),
            Value::Kubeconfig(_) => assert!(matches!(spec.home, Home::Kubeconfig { .. })),
            _ => assert!(!matches!(spec.home, Home::Kubeconfig { .. }), "{row:?}"),
        }
        if !spec.is_ca() {
            assert_eq!(spec.scope, component.scope, "{id} is not where {} runs", component.id);
        }
    }
}

#[test]
fn settings_of_a_component_are_unique() {
    for component in COMPONENTS {
        let (mut flags, mut fields) = (BTreeSet::new(), BTreeSet::new());
        for row in USES.iter().filter(|u| u.component == component.id) {
            if let Some(flag) = row.flag {
                assert!(flags.insert(flag), "{} --{flag} twice", component.id);
            }
            if let Some(field) = row.field {
                assert!(fields.insert(field), "{} {field} twice", component.id);
            }
            assert!(!row.why.is_empty());
        }
        assert!(!flags.is_empty() || !fields.is_empty(), "{} uses nothing", component.id);
    }
}

#[test]
fn every_path_has_both_ends() {
    for path in PATHS {
        for credential in [path.client, path.server] {
            if let Credential::Cert(id) = credential {
                assert!(!id.spec().is_ca());
            }
        }
        for ca in [path.client_trusts, path.server_trusts].into_iter().flatten() {
            assert!(ca.spec().is_ca(), "{}: {ca}", path.id);
        }
        for (component, setting) in path.settings {
            assert!(
                USES.iter().any(|u| u.component == *component
                    && (u.flag == Some(setting) || u.field == Some(setting))),
                "{}: {component} has no {setting}",
                path.id
            );
        }
        match path.protection {
            Protection::MutualTls => {
                assert!(path.client != Credential::None && path.server != Credential::None);
                assert!(path.server_trusts.is_some(), "{}", path.id);
            }
            Protection::ServerTls => {
                assert!(path.client_trusts.is_some() || matches!(path.server, Credential::Other(_)))
            }
            Protection::Removed { .. } | Protection::Unprotectable { .. } => {}
        }
        assert!(!path.breaks.is_empty());
    }
}

#[test]
fn every_leaf_is_an_end_of_a_path() {
    for spec in CERTIFICATES.iter().filter(|s| !s.is_ca()) {
        let cert = Credential::Cert(spec.id);
        assert!(PATHS.iter().any(|p| p.client == cert || p.server == cert), "{}", spec.id);
    }
}

#[test]
fn listeners_serve_what_their_component_is_told_to() {
    let mut ports = BTreeSet::new();
    for listener in LISTENERS {
        assert!(ports.insert(listener.port), "{} twice", listener.port);
        let component = component(listener.component);
        assert!(component.is_some(), "{}", listener.component);
        assert!(listener.certificate.spec().is_server(), "{}", listener.certificate);
        let told = USES.iter().any(|u| {
            u.component == listener.component && u.value == Value::Cert(listener.certificate)
        });
        assert!(told, "nothing tells {} to serve {}", listener.component, listener.certificate);
    }
    // Every server's certificate is served somewhere, the mesh's aside.
    for spec in CERTIFICATES.iter().filter(|s| s.is_server()) {
        assert!(LISTENERS.iter().any(|l| l.certificate == spec.id), "{} on no port", spec.id);
    }
}

#[test]
fn what_is_usual_comes_with_its_authority() {
    let is_usual = |spec: &&CertSpec| spec.expected == Expected::Usually;
    let usual: Vec<_> = CERTIFICATES.iter().filter(is_usual).collect();
    assert_eq!(usual.len(), 13, "as many as kubeadm has");
    for spec in usual {
        let authority = spec.issuer_id().map(CertId::spec);
        assert!(authority.is_none_or(|ca| is_usual(&ca)), "{}", spec.id);
        assert!(matches!(spec.present, Condition::Always | Condition::ManagedEtcd), "{}", spec.id);
    }
}

#[test]
fn what_is_kubeadms_is_told_of_what_kubeadm_makes() {
    let mut fields = BTreeSet::new();
    for spec in CERTIFICATES {
        let Some(field) = spec.kubeadm_sans else { continue };
        assert!(fields.insert(field) && spec.is_server(), "{}", spec.id);
        assert_eq!(spec.expected, Expected::Usually, "{}", spec.id);
    }
    for component in COMPONENTS {
        let Some(kubeadm) = component.kubeadm else { continue };
        assert!(component.static_pod, "{}", component.id);
        let Some(id) = kubeadm.kubeconfig else { continue };
        let is_told = |u: &&Use| u.component == component.id && u.value == Value::Kubeconfig(id);
        assert!(USES.iter().any(|u| is_told(&u)), "{} is not told of {id}", component.id);
    }
}

#[test]
fn programs_have_one_name_each() {
    let mut names = BTreeSet::new();
    for component in COMPONENTS {
        for name in [Some(component.id), component.program].into_iter().flatten() {
            assert!(names.insert(name), "{name} twice");
        }
    }
}

#[test]
fn what_is_insecure_is_said_with_what_it_depends_on() {
    for row in INSECURE {
        assert!(!row.when.is_empty());
        let places = (0..10).filter(|place| row.what.contains(&format!("{{{place}}}")));
        for place in places {
            assert!(row.when.get(place).is_some_and(|when| when.name().is_some()), "{row:?}");
        }
        let first = row.when[0];
        assert_eq!(row.what.contains("{url}"), matches!(first, When::HasHttp(_)), "{row:?}");
        let has_value = matches!(first, When::Not(..) | When::OneOf(..));
        assert!(has_value || !row.what.contains("{value}"), "{row:?}");
        let others = &row.when[1..];
        assert!(!others.iter().any(|when| matches!(when, When::HasHttp(_))), "{row:?}");
        let Some(component) = row.component.and_then(component) else { continue };
        let has_form = row.form != InsecureForm::Fields || component.config.is_some();
        assert!(has_form, "{row:?}");
    }
}
