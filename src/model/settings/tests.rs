use super::*;
use crate::model::{cluster::ExternalEtcdFiles, layout::Layout};

const NONE: &BTreeSet<&str> = &BTreeSet::new();
const PLACE: Placement<'static> = Placement { dir: "/srv/pki", without_keys: NONE };

fn host(name: &str, address: &str, control_plane: bool, etcd: bool) -> Host {
    Host {
        name: name.parse().unwrap(),
        addresses: vec![address.parse().unwrap()],
        port: None,
        control_plane,
        etcd,
        node: control_plane || !etcd,
        ssh: None,
    }
}

fn one_host() -> Cluster {
    Cluster::new("c".into(), "api:6443".parse().unwrap(), vec![host("cp1", "10.0.0.1", true, true)])
}

fn workspace() -> Cluster {
    let mut cluster = one_host();
    cluster.hosts = vec![
        host("cp1", "10.0.0.1", true, false),
        host("e1", "10.0.0.2", false, true),
        host("e2", "2001:db8::2", false, true),
    ];
    cluster.etcd = Etcd::Hosts;
    cluster.workspace = true;
    cluster
}

fn value(cluster: &Cluster, component: &str, name: &str, place: Placement<'_>) -> Option<String> {
    let spec = catalogue::component(component).unwrap();
    let host = cluster.hosts_in(spec.scope).next();
    settings(cluster, host, spec, place)
        .into_iter()
        .find(|s| s.flag == Some(name) || s.field == Some(name))
        .map(|s| s.value)
}

#[test]
fn files_are_in_dir_on_one_host_and_in_etc_kubernetes_in_a_workspace() {
    let tls = |c: &Cluster| value(c, "kube-apiserver", "tls-cert-file", PLACE).unwrap();
    assert_eq!(tls(&one_host()), "/srv/pki/pki/apiserver.crt");
    assert_eq!(tls(&workspace()), "/etc/kubernetes/pki/apiserver.crt");
    let mut moved = workspace();
    moved.host_dir = Some("/opt/k8s/".into());
    assert_eq!(tls(&moved), "/opt/k8s/pki/apiserver.crt");
}

#[test]
fn the_operators_own_tools_find_their_files_in_dir() {
    let mut cluster = workspace();
    cluster.host_dir = Some("/opt/k8s".into());
    assert_eq!(value(&cluster, "kubectl", "kubeconfig", PLACE).unwrap(), "/srv/pki/admin.conf");
}

#[test]
fn trust_names_bundles_and_signing_names_the_one_certificate() {
    let c = one_host();
    let kcm = |flag| value(&c, "kube-controller-manager", flag, PLACE).unwrap();
    assert_eq!(kcm("client-ca-file"), "/srv/pki/pki/ca-bundle.crt");
    assert_eq!(kcm("cluster-signing-cert-file"), "/srv/pki/pki/ca.crt");
}

#[test]
fn etcd_is_the_own_member_when_stacked_and_all_members_otherwise() {
    let servers = |c: &Cluster| value(c, "kube-apiserver", "etcd-servers", PLACE).unwrap();
    assert_eq!(servers(&one_host()), "https://127.0.0.1:2379");
    assert_eq!(servers(&workspace()), "https://10.0.0.2:2379,https://[2001:db8::2]:2379");
}

#[test]
fn an_external_etcd_is_reached_with_the_declared_files() {
    let mut cluster = one_host();
    cluster.etcd = Etcd::External {
        endpoints: vec!["https://a:2379".into(), "https://b:2379".into()],
        files: Some(ExternalEtcdFiles {
            ca: "/x/ca".into(),
            cert: "/x/crt".into(),
            key: "/x/key".into(),
        }),
    };
    let api = |flag| value(&cluster, "kube-apiserver", flag, PLACE).unwrap();
    assert_eq!(api("etcd-servers"), "https://a:2379,https://b:2379");
    assert_eq!(
        [api("etcd-cafile"), api("etcd-certfile"), api("etcd-keyfile")],
        ["/x/ca", "/x/crt", "/x/key"]
    );
}

#[test]
fn nothing_signs_with_a_ca_whose_key_is_elsewhere() {
    let without = BTreeSet::from(["ca"]);
    let place = Placement { without_keys: &without, ..PLACE };
    let c = one_host();
    for flag in ["cluster-signing-cert-file", "cluster-signing-key-file"] {
        assert!(value(&c, "kube-controller-manager", flag, PLACE).is_some());
        assert_eq!(value(&c, "kube-controller-manager", flag, place), None);
    }
    assert!(value(&c, "kube-controller-manager", "root-ca-file", place).is_some());
}

#[test]
fn a_kubeconfig_is_polled_when_it_names_files_and_needs_a_restart_when_it_embeds() {
    let mut cluster = one_host();
    let reload = |c: &Cluster| {
        let spec = catalogue::component("kube-controller-manager").unwrap();
        let all = settings(c, c.hosts.first(), spec, PLACE);
        all.into_iter().find(|s| s.flag == Some("kubeconfig")).unwrap().reload
    };
    assert_eq!(reload(&cluster), Reload::Poll(300));
    cluster.kubeconfig_style = KubeconfigStyle::Embedded;
    assert_eq!(reload(&cluster), Reload::Restart);
}

#[test]
fn every_row_of_every_component_resolves() {
    let mut cluster = one_host();
    cluster.addons = catalogue::addons().into_iter().map(Into::into).collect();
    let count: usize = catalogue::COMPONENTS
        .iter()
        .map(|c| settings(&cluster, cluster.hosts.first(), c, PLACE).len())
        .sum();
    assert_eq!(count, USES.iter().filter(|row| cluster.has(row.present)).count());
    // All but what takes the place of a file that is there.
    let instead = |row: &&Use| matches!(row.present, catalogue::Condition::NoConfigFile(_));
    assert_eq!(USES.len() - count, USES.iter().filter(instead).count());
}

#[test]
fn nested_lists_and_maps_keep_their_shape() {
    let mut cluster = one_host();
    cluster.addons = vec!["konnectivity".into()];
    let spec = catalogue::component("egress-selector").unwrap();
    let all = settings(&cluster, cluster.hosts.first(), spec, PLACE);
    let leads: Vec<String> = lines(&all, 0).into_iter().map(|l| l.lead).collect();
    assert_eq!(
        leads,
        [
            "egressSelections:",
            "  - name: ",
            "    connection:",
            "      proxyProtocol: ",
            "      transport:",
            "        tcp:",
            "          url: ",
            "          tlsConfig:",
            "            caBundle: ",
            "            clientCert: ",
            "            clientKey: ",
        ]
    );
}

#[test]
fn only_literals_of_the_catalogue_are_typed() {
    let cluster = one_host();
    let spec = catalogue::component("kubelet").unwrap();
    let place = Placement { dir: "", ..PLACE };
    let all = settings(&cluster, cluster.hosts.first(), spec, place);
    let of = |field| Scalar::of(all.iter().find(|s| s.field == Some(field)).unwrap());
    assert_eq!(of("readOnlyPort"), Scalar::Number(0));
    assert_eq!(of("rotateCertificates"), Scalar::Bool(false));
    assert_eq!(of("tlsMinVersion"), Scalar::Text("VersionTLS12".into()));
    assert_eq!(of("tlsCertFile"), Scalar::Text("/pki/kubelet.crt".into()));
}

#[test]
fn what_does_without_a_configuration_file_is_told_so_by_flags_or_has_it_elsewhere() {
    let mut cluster = one_host();
    let told = |c: &Cluster, component, flag| value(c, component, flag, PLACE);
    let file = |name: &str| Some(format!("/srv/pki/{name}"));
    assert_eq!(told(&cluster, "kube-scheduler", "config"), file("scheduler-config.yaml"));
    assert_eq!(told(&cluster, "kube-scheduler", "kubeconfig"), None);
    assert_eq!(told(&cluster, "kubelet", "config"), file("kubelet-config.yaml"));
    assert_eq!(Layout::new(&cluster).config_files.len(), 2);
    let files = ["scheduler-config.yaml", "kubelet-config.yaml"];
    cluster.absent.extend(files.map(str::to_owned));
    assert_eq!(cluster.faults(), []);
    assert_eq!(told(&cluster, "kube-scheduler", "config"), None);
    assert_eq!(told(&cluster, "kube-scheduler", "kubeconfig"), file("scheduler.conf"));
    let kubeadms = Some("/var/lib/kubelet/config.yaml".to_owned());
    assert_eq!(told(&cluster, "kubelet", "config"), kubeadms);
    assert!(Layout::new(&cluster).config_files.is_empty());
}

#[test]
fn the_scheduler_of_kubeadm_lacks_the_certificates_and_its_configuration() {
    let cluster = workspace();
    let spec = catalogue::component("kube-scheduler").unwrap();
    let all = settings(&cluster, cluster.hosts.first(), spec, PLACE);
    let mounted = kubeadm_mounts(spec, "/etc/kubernetes/pki");
    let paths: Vec<Mount> = mounts_missing(&all, &cluster, "/etc/kubernetes", &mounted);
    assert_eq!(
        paths,
        [
            Mount { path: "/etc/kubernetes/pki".into(), is_file: false },
            Mount { path: "/etc/kubernetes/scheduler-config.yaml".into(), is_file: true },
        ]
    );
    let spec = catalogue::component("kube-controller-manager").unwrap();
    let all = settings(&cluster, cluster.hosts.first(), spec, PLACE);
    let mounted = kubeadm_mounts(spec, "/etc/kubernetes/pki");
    assert_eq!(mounts_missing(&all, &cluster, "/etc/kubernetes", &mounted), []);
}
