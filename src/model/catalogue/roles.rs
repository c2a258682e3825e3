//! What code means when it means one certain row: the row's role. Code asks for the role, and only the row knows
//! its id, its files and where its component is found. A role without a row does not compile.

use super::{CERTIFICATES, COMPONENTS, CertSpec, ComponentSpec};

/// Stands over the cluster's CAs where one root does; its key need not stay.
pub const ROOT: &CertSpec = certificate("root-ca");

/// Signs what logs in to the apiserver, whose groups and user are believed, and what the apiserver shows.
pub const CLUSTER_CA: &CertSpec = certificate("ca");

/// Signs the one client that may log in to aggregated API servers as anybody.
pub const FRONT_PROXY_CA: &CertSpec = certificate("front-proxy-ca");

/// Signs everything that talks etcd; somebody else's where etcd is.
pub const ETCD_CA: &CertSpec = certificate("etcd-ca");

/// The apiserver as a client of aggregated API servers: its name is the one that they believe.
pub const FRONT_PROXY: &CertSpec = certificate("front-proxy-client");

/// Signs what pods and nodes show each other; nothing of Kubernetes trusts it.
pub const WORKLOAD_CA: &CertSpec = certificate("workload-ca");

/// What the apiserver serves: names the endpoint, the service `kubernetes` and the DNS domain.
pub const API_SERVING: &CertSpec = certificate("apiserver");

/// The apiserver as a client of etcd; somebody else's where etcd is.
pub const API_TO_ETCD: &CertSpec = certificate("apiserver-etcd-client");

/// The apiserver as a client of kubelets.
pub const API_TO_KUBELETS: &CertSpec = certificate("apiserver-kubelet-client");

/// What etcd serves its clients.
pub const ETCD_SERVING: &CertSpec = certificate("etcd-server");

/// What etcd's members show each other.
pub const ETCD_PEER: &CertSpec = certificate("etcd-peer");

/// Asks etcd's members whether they are well.
pub const ETCD_HEALTH: &CertSpec = certificate("etcd-healthcheck-client");

/// What the kubelet serves.
pub const KUBELET_SERVING: &CertSpec = certificate("kubelet");

/// The administrator's kubeconfig: reaches the cluster by its endpoint.
pub const ADMIN: &CertSpec = certificate("admin.conf");

/// The one kubeconfig that passes every authorization.
pub const BREAK_GLASS: &CertSpec = certificate("super-admin.conf");

/// The kubelet's kubeconfig: its user is the node.
pub const NODE: &CertSpec = certificate("kubelet.conf");

/// The kubeconfigs of the programs of a control plane: they name the apiserver on their own host.
pub const LOCAL_CLIENTS: [&CertSpec; 2] =
    [certificate("controller-manager.conf"), certificate("scheduler.conf")];

/// The kubeconfigs of every cluster, those first that name the endpoint and not the host's own apiserver.
pub const TELL_THE_ENDPOINT: [&CertSpec; 5] =
    [ADMIN, BREAK_GLASS, NODE, LOCAL_CLIENTS[0], LOCAL_CLIENTS[1]];

/// Certificates whose common name is the host's, in the order in which they are believed.
pub const NAME_THE_HOST: [&CertSpec; 4] = [NODE, KUBELET_SERVING, ETCD_SERVING, ETCD_PEER];

/// Serves the Kubernetes API.
pub const API_SERVER: &ComponentSpec = component("kube-apiserver");

/// Makes what is declared so, and hands pods the cluster's CA.
pub const CONTROLLER_MANAGER: &ComponentSpec = component("kube-controller-manager");

/// Gives pods their nodes.
pub const SCHEDULER: &ComponentSpec = component("kube-scheduler");

/// `certkit controller`.
pub const CONTROLLER: &ComponentSpec = component("certkit-controller");
/// What the apiserver dials nodes through, where that addon is.
pub const KONNECTIVITY: &ComponentSpec = component("konnectivity-server");

/// The file that says through what the apiserver dials.
pub const EGRESS: &ComponentSpec = component("egress-selector");

/// Keeps the cluster's state.
pub const ETCD: &ComponentSpec = component("etcd");

/// Talks to the API for people, and for certkit where somebody asked for that.
pub const KUBECTL: &ComponentSpec = component("kubectl");

/// Runs the pods of a host.
pub const KUBELET: &ComponentSpec = component("kubelet");

const fn certificate(id: &str) -> &'static CertSpec {
    let mut row = 0;
    while row < CERTIFICATES.len() {
        if is_same(CERTIFICATES[row].id.name(), id) {
            return &CERTIFICATES[row];
        }
        row += 1;
    }
    // Invariant: never at run time, as all roles are constants.
    panic!("a role that no certificate has")
}

const fn component(id: &str) -> &'static ComponentSpec {
    let mut row = 0;
    while row < COMPONENTS.len() {
        if is_same(COMPONENTS[row].id, id) {
            return &COMPONENTS[row];
        }
        row += 1;
    }
    // Invariant: never at run time, as all roles are constants.
    panic!("a role that no component has")
}

/// `==` of `str` is no constant function.
const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue::{
        ApiServer, Condition, ETCD_PEER_NAME, Home, Issuer, SanRule, Scope, SubjectRule, USES,
        Value,
    };

    #[test]
    fn authorities_sign_what_their_roles_say() {
        assert_eq!((ROOT.issuer, ROOT.present), (Issuer::Own, Condition::SingleRoot));
        for (authority, signs) in [
            (CLUSTER_CA, &[API_SERVING, API_TO_KUBELETS, KUBELET_SERVING, ADMIN, NODE][..]),
            (ETCD_CA, &[ETCD_SERVING, ETCD_PEER, API_TO_ETCD]),
        ] {
            assert!(authority.is_ca() && authority.issuer == Issuer::Root, "{}", authority.id);
            for spec in signs {
                assert_eq!(spec.issuer_id(), Some(authority.id), "{}", spec.id);
            }
        }
        let trusts = |component: &ComponentSpec, flag: &str, id| {
            USES.iter().any(|row| {
                row.component == component.id
                    && row.flag == Some(flag)
                    && row.value == Value::Bundle(id)
            })
        };
        assert!(trusts(API_SERVER, "client-ca-file", CLUSTER_CA.id));
        assert!(trusts(API_SERVER, "requestheader-client-ca-file", FRONT_PROXY_CA.id));
        assert!(trusts(ETCD, "trusted-ca-file", ETCD_CA.id));
    }

    #[test]
    fn leaves_are_shown_by_the_components_of_their_roles() {
        for (component, spec) in [
            (API_SERVER, API_SERVING),
            (API_SERVER, API_TO_ETCD),
            (API_SERVER, API_TO_KUBELETS),
            (ETCD, ETCD_SERVING),
            (ETCD, ETCD_PEER),
            (KUBELET, KUBELET_SERVING),
        ] {
            let shows = |row: &&crate::model::catalogue::Use| {
                row.component == component.id && row.value == Value::Cert(spec.id)
            };
            assert!(USES.iter().any(|row| shows(&row)), "{} and {}", component.id, spec.id);
        }
        assert!(ETCD_PEER.sans.contains(&SanRule::Dns(ETCD_PEER_NAME)));
        assert!(API_SERVING.sans.contains(&SanRule::ServiceNames));
    }

    #[test]
    fn kubeconfigs_name_the_apiserver_that_their_roles_say() {
        let server = |spec: &CertSpec| match spec.home {
            Home::Kubeconfig { server, .. } => server,
            _ => panic!("{} is no kubeconfig", spec.id),
        };
        assert_eq!([ADMIN, BREAK_GLASS].map(server), [ApiServer::Endpoint; 2]);
        assert_eq!(LOCAL_CLIENTS.map(server), [ApiServer::Local; 2]);
        let masters = |spec: &CertSpec| {
            matches!(spec.subject, SubjectRule::Fixed { organizations, .. }
                if organizations.contains(&"system:masters"))
        };
        let all: Vec<_> = CERTIFICATES.iter().filter(|spec| masters(spec)).map(|s| s.id).collect();
        assert_eq!(all, [BREAK_GLASS.id]);
        let always = CERTIFICATES.iter().filter(|spec| {
            matches!(spec.home, Home::Kubeconfig { .. }) && spec.present == Condition::Always
        });
        let mut tell = TELL_THE_ENDPOINT.map(|spec| spec.id);
        let mut always: Vec<_> = always.map(|spec| spec.id).collect();
        tell.sort_unstable();
        always.sort_unstable();
        assert_eq!(tell[..], always);
    }

    #[test]
    fn what_names_the_host_has_its_name_for_a_subject() {
        for spec in NAME_THE_HOST {
            assert!(matches!(spec.subject, SubjectRule::Host | SubjectRule::Node), "{}", spec.id);
            assert_ne!(spec.scope, Scope::Cluster);
        }
    }

    #[test]
    fn ids_are_compared_in_full() {
        assert!(is_same("", "") && is_same("ca", "ca"));
        assert!(!is_same("ca", "cab") && !is_same("cab", "ca") && !is_same("ca", "cb"));
    }
}
