//! The catalogue: the only place that says what a cluster PKI consists of.
//!
//! Row types and look-ups; the rows themselves are in the modules below, data and nothing else. Issuing,
//! flags, expiry, rotation order, restart advice, verification and the generated docs all fold over them:
//! a new certificate is one new row, and no `match` elsewhere is edited.

pub mod carriers;
pub mod certificates;
pub mod components;
pub mod elsewhere;
pub mod insecure;
pub mod keys;
pub mod listeners;
pub mod paths;
pub mod roles;
pub mod uses;

pub use carriers::{CARRIERS, CarrierKind, CarrierSource};
pub use certificates::CERTIFICATES;
pub use components::COMPONENTS;
pub use elsewhere::{ELSEWHERE, Elsewhere, Mended, ObjectKey, Objects, Whereabouts};
pub use insecure::INSECURE;
pub use keys::KEYS;
pub use listeners::{API, ETCD_CLIENTS, ETCD_PEERS, LISTENERS};
pub use paths::PATHS;
pub use uses::USES;

use std::fmt;

use super::code::{Code, Severity};

/// The DNS name in every etcd peer certificate, and in no other: etcd's `--peer-cert-allowed-hostname`
/// admits peers by it. Without such a name any certificate of the etcd CA that has no SAN, like the
/// apiserver's etcd client certificate, could speak the peer protocol (etcd checks SANs against the
/// remote address only if there are any: etcd `client/pkg/transport/listener_tls.go`).
pub const ETCD_PEER_NAME: &str = "etcd-peer.kubernetes.internal";

/// Components that read what their kubeconfig trusts once, at start, whether it is embedded or a file: the kubelet
/// builds a transport of its own from it (Kubernetes 1.36, pkg/kubelet/certificate/transport.go). All others read the
/// file again within five minutes (client-go `transport/ca_rotation.go`).
pub const READS_TRUST_ONCE: &[&str] = &["kubelet"];

/// How many days certificates live that a CA signs for programs which ask it themselves, and that no file shows: those of a
/// mesh's workloads, unless istiod is told otherwise (Istio, `DEFAULT_WORKLOAD_CERT_TTL`).
pub const WORKLOAD_DAYS: i64 = 1;

/// What a cluster is said to do without, of which not all members of etcd are declared.
pub const ALL_ETCD_MEMBERS: &str = "etcd-members";

/// The id of a certificate's row: the name people use, kubeadm's where kubeadm has one, as
/// `apiserver-kubelet-client`. Only rows make it; what somebody typed becomes one by [`certificate`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertId(&'static str);

impl CertId {
    /// The id as text.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// The row.
    pub fn spec(self) -> &'static CertSpec {
        let row = CERTIFICATES.iter().find(|spec| spec.id == self);
        // An invariant of the rows: none names one that is not there, which their tests hold.
        row.expect("each id has its row")
    }
}

impl fmt::Debug for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// One certificate of the cluster: what it is, and where it lives.
#[derive(Debug)]
pub struct CertSpec {
    /// Its name.
    pub id: CertId,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// Who signs it.
    pub issuer: Issuer,
    /// Whom it names.
    pub subject: SubjectRule,
    /// Its subject alternative names, before what the user adds.
    pub sans: &'static [SanRule],
    /// What it may be used for.
    pub purpose: Purpose,
    /// How often it exists: once, or once a host of a kind.
    pub scope: Scope,
    /// The files it lives in.
    pub home: Home,
    /// When it exists at all.
    pub present: Condition,
    /// What renewal does with its key.
    pub key: KeyPolicy,
    /// Whether it is missed where it is not.
    pub expected: Expected,
    /// Where a kubeadm ClusterConfiguration names more SANs for it.
    pub kubeadm_sans: Option<&'static [&'static str]>,
    /// Where these facts come from.
    pub source: &'static str,
}

/// Who signs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// Its own key: a root.
    Own,
    /// Its own key, or the single root's where the cluster has one.
    Root,
    /// The CA with this id.
    Ca(CertId),
}

/// How a subject is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectRule {
    /// Always the same. Organizations are Kubernetes groups, the common name the Kubernetes user.
    Fixed {
        /// O
        organizations: &'static [&'static str],
        /// CN
        common_name: &'static str,
    },
    /// CN is the host's name.
    Host,
    /// A kubelet's identity: O=system:nodes, CN=system:node:NAME.
    Node,
}

/// Where subject alternative names come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanRule {
    /// The subject's common name as a DNS name.
    CommonName,
    /// This DNS name.
    Dns(&'static str),
    /// The host part of the cluster's endpoint.
    Endpoint,
    /// The host's name.
    HostName,
    /// All addresses of the host.
    HostAddresses,
    /// The host's first address only, which it advertises.
    HostAddress,
    /// localhost, 127.0.0.1 and ::1.
    Loopback,
    /// kubernetes, kubernetes.default, kubernetes.default.svc and the last with the DNS domain.
    ServiceNames,
    /// The first address of the first service subnet, which the service `kubernetes` gets.
    ServiceAddress,
}

/// What a certificate may be used for; basic constraints, key usage and extended key usage follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signing other certificates.
    Ca {
        /// How many CAs may follow below, when that is limited.
        path_len: Option<u8>,
    },
    /// TLS client.
    Client,
    /// TLS server.
    Server,
    /// Both ends: etcd peers dial and are dialled, and etcd's gRPC gateway dials its own server with the
    /// server certificate (etcd `server/embed/etcd.go`).
    ServerAndClient,
}

/// How often a certificate, key or component exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Once a cluster, kept by its operator.
    Cluster,
    /// Once a control-plane host.
    ControlPlane,
    /// Once an etcd member.
    Etcd,
    /// Once a node: every host with a kubelet, control-plane hosts included.
    Node,
}

/// The files a certificate lives in, relative to `/etc/kubernetes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// A certificate file and a key file.
    Files {
        /// The certificate.
        cert: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A CA: its one certificate, its key, and the bundle that verifiers trust.
    Authority {
        /// Exactly one certificate, as kube-controller-manager demands of a signer.
        cert: &'static str,
        /// The key.
        key: &'static str,
        /// What verifiers trust; more than one certificate during a CA rotation.
        bundle: Option<&'static str>,
        /// The certificate followed by its issuers, where a consumer wants that file and the CA is no
        /// root.
        chain: Option<&'static str>,
    },
    /// A kubeconfig.
    Kubeconfig {
        /// The kubeconfig.
        file: &'static str,
        /// Certificate and key in one file that the kubeconfig names as both, so that one rename replaces
        /// the pair; `None` for kubeconfigs to be carried, which always embed.
        pem: Option<&'static str>,
        /// Which apiserver it talks to.
        server: ApiServer,
    },
}

/// Which apiserver a kubeconfig names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiServer {
    /// The cluster's endpoint, a load balancer where there is one.
    Endpoint,
    /// The one on the same host, where there is one, else the endpoint. kubeadm does this so that during
    /// an upgrade controller-manager, scheduler and kubelet never talk to an apiserver older than
    /// themselves (Kubernetes version skew policy; ControlPlaneKubeletLocalMode).
    Local,
}

/// When a row exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// When this addon is asked for.
    Addon(&'static str),
    /// When hosts' trees are without this component's configuration file.
    NoConfigFile(&'static str),
    /// When all members of etcd are declared; of clusters that something else made only one may be.
    EtcdMembers,
    /// When etcd's peer certificates have the name that only peers have; those of a cluster that
    /// something else made may lack it.
    EtcdPeerName,
    /// When etcd's certificates are made here too, not by an etcd cluster of somebody else's.
    ManagedEtcd,
    /// When one root stands over the CAs.
    SingleRoot,
}

/// Whether a certificate is missed where it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Where it is declared.
    Declared,
    /// Never: a credential to be locked away, and rightly kept elsewhere.
    Nowhere,
    /// Also where nothing is declared, in every control plane: kubeadm reports it as missing (1.36,
    /// cmd/kubeadm/app/phases/certs/renewal/manager.go), or it is the CA of what kubeadm reports.
    Usually,
}

/// What renewal does with a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPolicy {
    /// A listener reads certificate and key anew at every handshake. Two files cannot be swapped at once,
    /// so only the same key leaves no window of failed handshakes.
    Keep,
    /// A new key with every certificate.
    New,
}

/// A key pair that no certificate goes with.
#[derive(Debug)]
pub struct KeySpec {
    /// Its name.
    pub id: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The private key's file.
    pub private: &'static str,
    /// The file of public keys (PKIX); verifiers accept any of them.
    pub public: &'static str,
    /// How often it exists.
    pub scope: Scope,
    /// Where these facts come from.
    pub source: &'static str,
}

/// A program of the cluster.
#[derive(Debug)]
pub struct ComponentSpec {
    /// Its name, which is the program's.
    pub id: &'static str,
    /// The hosts it runs on.
    pub scope: Scope,
    /// When it exists at all.
    pub present: Condition,
    /// Its own configuration file's apiVersion and kind, if it has one; etcd's has neither.
    pub config: Option<Config>,
    /// The systemd unit it usually runs as.
    pub unit: Option<&'static str>,
    /// Whether it is usually a static pod on a control-plane host.
    pub static_pod: bool,
    /// What a patch is called by which kubeadm takes this component's settings, or that kubectl applies to
    /// its manifest.
    pub patch: Option<&'static str>,
    /// How kubeadm runs it, where its ClusterConfiguration has a section for it.
    pub kubeadm: Option<Kubeadm>,
    /// What its program is called in its image, where not by its id.
    pub program: Option<&'static str>,
    /// What it takes from its environment by itself.
    pub environment: Environment,
    /// What it needs, or is often given, that is no matter of certificates and that certkit cannot know.
    pub besides: &'static [&'static str],
}

/// A component as kubeadm's static pod.
#[derive(Clone, Copy, Debug)]
pub struct Kubeadm {
    /// Its section of a ClusterConfiguration.
    pub section: &'static str,
    /// The folder that it has mounted, below kubeadm's `certificatesDir`; empty for all of that (Kubernetes 1.36,
    /// `cmd/kubeadm/app/phases/controlplane/volumes.go`, also for what follows).
    pub certificates: Option<&'static str>,
    /// The kubeconfig that it has mounted, by its certificate's id.
    pub kubeconfig: Option<CertId>,
}

/// What a program takes from its environment by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Each flag from a variable that begins with its own name: `ETCD_CERT_FILE` is etcd's `--cert-file`.
    Flags,
    /// `--kubeconfig`, from the variable KUBECONFIG.
    Kubeconfig,
    /// Nothing.
    Nothing,
}

/// A component's own configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The file's `apiVersion`, empty if it has none.
    pub api_version: &'static str,
    /// The file's `kind`, empty if it has none.
    pub kind: &'static str,
    /// The file's name; where a setting names it, it is part of a host's tree and this is its place there.
    pub file: &'static str,
    /// The flag that names the file.
    pub flag: &'static str,
    /// Where it is in clusters whose tree is without it.
    pub elsewhere: Option<&'static str>,
}

/// One setting of one component: what makes it use this PKI.
#[derive(Debug)]
pub struct Use {
    /// The component's id.
    pub component: &'static str,
    /// The command-line flag, without dashes, where one exists that is not deprecated.
    pub flag: Option<&'static str>,
    /// The field of the component's own configuration file, as a dotted path; a number is a list's index.
    pub field: Option<&'static str>,
    /// What it is set to.
    pub value: Value,
    /// How the component takes up a change of that file.
    pub reload: Reload,
    /// What the component does without this setting.
    pub default: &'static str,
    /// Why it is set so.
    pub why: &'static str,
    /// When it is set at all.
    pub present: Condition,
}

/// What a setting is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The bundle of the CA with this id: trust.
    Bundle(CertId),
    /// The certificate file of the certificate with this id; for a CA, its signing certificate.
    Cert(CertId),
    /// What a verifier of any kind needs to trust this CA: its bundle, and where it is no root, the
    /// chain up to it. Go takes any CA for an anchor; OpenSSL, unless told to accept partial chains, only
    /// a root.
    Chain(CertId),
    /// The configuration file of the component with this id.
    ConfigFile(&'static str),
    /// The key file of the certificate with this id.
    Key(CertId),
    /// The kubeconfig with this id.
    Kubeconfig(CertId),
    /// Always this.
    Literal(&'static str),
    /// The private key of the key pair with this id.
    PrivateKey(&'static str),
    /// The public keys of the key pair with this id.
    PublicKey(&'static str),
    /// Something of this cluster or host.
    Setting(ClusterValue),
}

/// Values that depend on the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterValue {
    /// The address that the host's apiserver advertises.
    AdvertiseAddress,
    /// The port on which the host's apiserver listens.
    ApiPort,
    /// The host part of the cluster's endpoint.
    EndpointHost,
    /// Where others reach the host's etcd member as clients.
    EtcdClientUrl,
    /// Where the host's etcd member serves clients.
    EtcdClientUrls,
    /// The members of etcd, with their URLs for peers.
    EtcdMembers,
    /// Where other members reach the host's etcd member.
    EtcdPeerUrl,
    /// The client URLs of etcd.
    EtcdServers,
    /// The host's name.
    HostName,
    /// `https://kubernetes.default.svc.DOMAIN`
    ServiceAccountIssuer,
    /// The service subnets.
    ServiceSubnets,
}

impl ClusterValue {
    /// Whether it is another one on each host.
    pub fn is_of_host(self) -> bool {
        match self {
            Self::AdvertiseAddress
            | Self::ApiPort
            | Self::EtcdClientUrl
            | Self::EtcdClientUrls
            | Self::EtcdMembers
            | Self::EtcdPeerUrl
            | Self::HostName => true,
            Self::EndpointHost
            | Self::EtcdServers
            | Self::ServiceAccountIssuer
            | Self::ServiceSubnets => false,
        }
    }
}

/// How a component takes up a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It reads the file at every TLS handshake.
    Handshake,
    /// As its kubeconfig is written: files it names are polled every five minutes, embedded data is never
    /// read again (client-go `transport/cert_rotation.go`).
    Kubeconfig,
    /// It is no running program, or the value is no file: nothing to take up.
    Nothing,
    /// It looks every so many seconds.
    Poll(u32),
    /// It reads the file only when it starts.
    Restart,
    /// It watches the file (inotify) and reads it at once.
    Watch,
}

/// Something insecure that a component is told, or is not told.
#[derive(Debug)]
pub struct Insecure {
    /// The component's id; without one, whichever is told so.
    pub component: Option<&'static str>,
    /// Where it is told so.
    pub form: InsecureForm,
    /// What is so at once.
    pub when: &'static [When],
    /// What is found then.
    pub code: Code,
    /// How bad it is here, where not as bad as elsewhere.
    pub severity: Option<Severity>,
    /// What is said of it: `{0}` is the first condition's setting, `{1}` the second's, `{value}` what the first is set
    /// to, `{url}` its URL.
    pub what: &'static str,
}

/// Where a component is told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsecureForm {
    /// By flags or in its file, by the same name.
    Both,
    /// In its file.
    Fields,
    /// By flags.
    Flags,
}

/// What may be so of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The component's own file is not there to be judged.
    FileNotGiven,
    /// One of its URLs is an http one; of several fields, where the name is the end of their names and begins with a
    /// dot. It comes first in a row, which is found for each such URL.
    HasHttp(&'static str),
    /// One of its URLs is no http one.
    HasTls(&'static str),
    /// It is a list that has this.
    Lists(&'static str, &'static str),
    /// It is told, and not this.
    Not(&'static str, &'static str),
    /// It is one of these.
    OneOf(&'static str, &'static [&'static str]),
    /// It is told, and is not empty.
    Set(&'static str),
    /// It is true.
    True(&'static str),
    /// It is not told, or empty.
    Unset(&'static str),
    /// It is not told.
    Untold(&'static str),
    /// It is not told, or false.
    Untrue(&'static str),
}

impl Insecure {
    /// Whether it lies in what is told alone, so that a part of the settings is enough to see it.
    pub fn is_of_what_is_set(&self) -> bool {
        self.when.iter().all(|when| match when {
            When::HasHttp(_)
            | When::HasTls(_)
            | When::Lists(..)
            | When::Not(..)
            | When::OneOf(..)
            | When::Set(_)
            | When::True(_) => true,
            When::FileNotGiven | When::Unset(_) | When::Untold(_) | When::Untrue(_) => false,
        })
    }
}

impl When {
    /// The setting it is about.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::FileNotGiven => None,
            Self::HasHttp(name)
            | Self::HasTls(name)
            | Self::Lists(name, _)
            | Self::Not(name, _)
            | Self::OneOf(name, _)
            | Self::Set(name)
            | Self::True(name)
            | Self::Unset(name)
            | Self::Untold(name)
            | Self::Untrue(name) => Some(name),
        }
    }
}

/// Where a component listens with TLS.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// The component's id.
    pub component: &'static str,
    /// Its port by default.
    pub port: u16,
    /// The id of the certificate it serves.
    pub certificate: CertId,
    /// Whether it listens on the loopback address too.
    pub loopback: bool,
    /// The flag or field that says where it listens: a port, an address with its port, or URLs.
    pub port_setting: &'static str,
    /// The flag or field that says on which address, where a port does not.
    pub address_setting: Option<&'static str>,
    /// Where these facts come from.
    pub source: &'static str,
}

/// A way the cluster talks: one client, one server, what each shows and what each trusts.
#[derive(Debug)]
pub struct Path {
    /// A short name, kebab-case.
    pub id: &'static str,
    /// Who dials.
    pub from: &'static str,
    /// Who answers.
    pub to: &'static str,
    /// The TCP port, or several.
    pub port: &'static str,
    /// How the client proves who it is.
    pub client: Credential,
    /// How the server proves who it is.
    pub server: Credential,
    /// The CA by which the client checks the server.
    pub client_trusts: Option<CertId>,
    /// The CA by which the server checks the client.
    pub server_trusts: Option<CertId>,
    /// The name or address that the client expects in the server's certificate.
    pub dials: Dials,
    /// The settings that make it so: component and flag or field.
    pub settings: &'static [(&'static str, &'static str)],
    /// What protects it.
    pub protection: Protection,
    /// What its users see when it breaks.
    pub breaks: &'static str,
    /// When it exists at all.
    pub present: Condition,
}

/// What an end of a path shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The certificate with this catalogue id.
    Cert(CertId),
    /// Nothing.
    None,
    /// A certificate that others issue, described.
    Other(&'static str),
    /// A bearer token, described.
    Token(&'static str),
}

/// The name a client expects in a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dials {
    /// The host part of the cluster's endpoint.
    Endpoint,
    /// Always this name.
    Fixed(&'static str),
    /// The address of the host the server is on.
    HostAddress,
    /// 127.0.0.1, as both are on one host.
    Loopback,
    /// No name is checked, or no certificate is there to check.
    Nothing,
    /// The address of the service `kubernetes`.
    ServiceAddress,
}

/// What protects a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Both ends show certificates.
    MutualTls,
    /// It is gone from Kubernetes.
    Removed {
        /// What took its place.
        instead: &'static str,
    },
    /// The server shows a certificate, the client a token.
    ServerTls,
    /// Certificates cannot protect it.
    Unprotectable {
        /// Why not.
        why: &'static str,
        /// What does.
        remedy: &'static str,
    },
}

/// The certificate row with this id.
pub fn certificate(id: &str) -> Option<&'static CertSpec> {
    CERTIFICATES.iter().find(|spec| spec.id.0 == id)
}

/// Whether a component reads the key of this certificate. None can open one that is encrypted.
pub fn is_key_read(id: CertId) -> bool {
    USES.iter().any(|row| matches!(row.value, Value::Key(key) if key == id))
}

/// The key row with this id.
pub fn key(id: &str) -> Option<&'static KeySpec> {
    KEYS.iter().find(|spec| spec.id == id)
}

/// The component row with this id.
pub fn component(id: &str) -> Option<&'static ComponentSpec> {
    COMPONENTS.iter().find(|spec| spec.id == id)
}

/// The component whose configuration file has this name in a host's tree.
pub fn config_file(file: &str) -> Option<&'static ComponentSpec> {
    let named = |spec: &ComponentSpec| {
        USES.iter().any(|row| row.value == Value::ConfigFile(spec.id))
            && spec.config.is_some_and(|config| config.file == file)
    };
    COMPONENTS.iter().find(|spec| named(spec))
}

/// The addons that rows are conditional on, in the catalogue's order, each once.
pub fn addons() -> Vec<&'static str> {
    let mut found = Vec::new();
    for spec in CERTIFICATES {
        if let Condition::Addon(name) = spec.present
            && !found.contains(&name)
        {
            found.push(name);
        }
    }
    found
}

impl CertSpec {
    /// Whether it is a certificate authority.
    pub fn is_ca(&self) -> bool {
        matches!(self.purpose, Purpose::Ca { .. })
    }

    /// Whether a server shows it.
    pub fn is_server(&self) -> bool {
        matches!(self.purpose, Purpose::Server | Purpose::ServerAndClient)
    }

    /// The CA whose bundle a kubeconfig carries or names: the one that signs the apiserver's certificate.
    pub fn issuer_id(&self) -> Option<CertId> {
        match self.issuer {
            Issuer::Ca(id) => Some(id),
            Issuer::Own | Issuer::Root => None,
        }
    }
}

impl Home {
    /// The file that holds the certificate in the usual form: a kubeconfig is one itself.
    pub fn cert(&self) -> &'static str {
        match *self {
            Self::Files { cert, .. } | Self::Authority { cert, .. } => cert,
            Self::Kubeconfig { file, .. } => file,
        }
    }

    /// The file that holds the key in the usual form.
    pub fn key(&self) -> &'static str {
        match *self {
            Self::Files { key, .. } | Self::Authority { key, .. } => key,
            Self::Kubeconfig { file, .. } => file,
        }
    }

    /// Every file it may consist of, `/etc/kubernetes`-relative.
    pub fn files(&self) -> Vec<&'static str> {
        match *self {
            Self::Files { cert, key } => vec![cert, key],
            Self::Authority { cert, key, bundle, chain } => {
                [Some(cert), Some(key), bundle, chain].into_iter().flatten().collect()
            }
            Self::Kubeconfig { file, pem, .. } => [Some(file), pem].into_iter().flatten().collect(),
        }
    }
}

/// The folder of static pods' manifests, `/etc/kubernetes`-relative.
pub const MANIFESTS: &str = "manifests";

impl ComponentSpec {
    /// Its static pod's manifest, `/etc/kubernetes`-relative.
    pub fn manifest(&self) -> String {
        format!("{MANIFESTS}/{}.yaml", self.id)
    }
}

#[cfg(test)]
mod tests;
