//! Why a request is not approved: stable codes, what each means and what a person can do.

use std::fmt;

/// What is said about one code.
#[derive(Debug)]
pub struct RequestFaultSpec {
    /// The code.
    pub fault: RequestFault,
    /// Its name, kebab-case.
    pub name: &'static str,
    /// The same as the API writes reasons, in camel case.
    pub reason: &'static str,
    /// Whether the request is denied for it, which is for good. One that is not denied stays pending: it may become
    /// right, or a person decides.
    pub denies: bool,
    /// What it means.
    pub means: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! faults {
    ($($fault:ident $name:literal $denies:ident $means:literal $fix:literal)*) => {
        /// A code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RequestFault {
            $(#[doc = $means] $fault,)*
        }

        /// Every code, in the order of the documentation.
        pub const REQUEST_FAULTS: &[RequestFaultSpec] = &[
            $(RequestFaultSpec {
                fault: RequestFault::$fault,
                name: $name,
                reason: stringify!($fault),
                denies: faults!(@ $denies),
                means: $means,
                fix: $fix,
            },)*
        ];
    };
    (@ denied) => { true };
    (@ left) => { false };
}

faults! {
    // The form
    RequestTooLong "request-too-long" denied
        "It is longer than any honest request."
        "ask with one key and the node's own names"
    RequestNotOne "request-not-one" denied
        "It is not exactly one PEM block of a request. Other readers would take the first, or the last."
        "send one CERTIFICATE REQUEST block and nothing else"
    RequestMalformed "request-malformed" denied
        "The block holds no PKCS#10 request as RFC 2986 has it, or bytes follow it."
        "make the request again, with the kubelet or openssl"
    RequestRepeats "request-repeats" denied
        "An attribute or extension is there twice: one reader takes the first, another the last."
        "make the request again, with each extension once"
    RequestUnproven "request-unproven" denied
        "It is not signed with the key that it asks for, or with an algorithm that proves nothing (MD5, SHA-1)."
        "sign the request with its own key, and SHA-256 or better"

    // The key
    KeyWeak "key-weak" denied
        "The key is too weak, of a kind that Kubernetes does not use, or so large that it slows everybody down."
        "use ECDSA on P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 8192 bits"
    KeyUsedBefore "key-used-before" denied
        "Another request has asked for a certificate of the same key: a copy of it, or a replay."
        "make a new key; a kubelet does so for each request"

    // Whom it names
    SubjectNotNode "subject-not-node" denied
        "The subject is not O=system:nodes, CN=system:node:NAME, which is what a node is called."
        "ask with exactly that subject"
    SubjectSurplus "subject-surplus" denied
        "The subject says more than whom it names: another organization is another group of the cluster's users."
        "ask with what the signer's certificates have and nothing else: of a kubelet O=system:nodes and CN=system:node:NAME"
    NodeNameWrong "node-name-wrong" denied
        "The node's name is none that a node can have: capitals, letters that only look like others, or control characters."
        "ask with the node's name as `kubectl get nodes` shows it"

    SubjectWrong "subject-wrong" denied
        "The subject is not the one that this signer writes for who asks."
        "ask with exactly that subject: of a node CN=NAME, of a person CN=NAME and its groups as O, of a client of etcd the declared CN"
    NameReserved "name-reserved" denied
        "The name is kept for a part of Kubernetes or certkit, which has rights by it."
        "ask with a person's name"
    GroupNotAdmitted "group-not-admitted" denied
        "A group that certkit.yaml does not admit for people."
        "ask without it, or add it to signers.people.groups if people may have it for a short while"
    GroupNotOwn "group-not-own" denied
        "Who asks for itself is not in a group that it asks for."
        "ask with the groups that `kubectl auth whoami` shows"

    // Who asks
    RequesterNotSubject "requester-not-subject" denied
        "Somebody else asks than the one the certificate would name."
        "let the node ask for itself; find out who asked, and whether its credential was stolen"
    RequesterNotNode "requester-not-node" denied
        "Who asks is in none of the groups that may: system:nodes for a node, system:bootstrappers for a bootstrap token."
        "let the kubelet ask, with its own credential or a bootstrap token"
    RequesterSurplusGroup "requester-surplus-group" denied
        "Who asks is in a group that nodes and bootstrap tokens are not in. A node with more rights than a node is a finding by itself."
        "take the group out of the credential that the kubelet uses"
    TokenOfAnother "token-of-another" denied
        "The bootstrap token that asks is good for another node."
        "use this node's own token"

    RequesterNotAdmitted "requester-not-admitted" denied
        "certkit.yaml admits to this signer those that it lists, and who asks is none of them."
        "add who asks to certkit.yaml (signers) if that is right, and ask again"
    RenewsItself "renews-itself" denied
        "A person's certificate asks for its own successor: whoever has stolen it would have it for ever."
        "log in by another way than a certificate (OIDC, a token), or have somebody ask who may ask for others"

    // What for
    UsagesWrong "usages-wrong" denied
        "The usages are not those of the signer: digital signature, key encipherment or not, and server auth or client auth."
        "ask for exactly these usages"
    CaAsked "ca-asked" denied
        "It asks to be a CA."
        "find out who asked: no node needs a CA"
    ExtensionSurplus "extension-surplus" denied
        "It asks for an extension that no kubelet asks for."
        "ask for subjectAltName alone, and for none in a client certificate"
    AttributeSurplus "attribute-surplus" denied
        "It has an attribute that no kubelet writes, such as a challenge password."
        "make the request without it"

    // Names
    NamesMissing "names-missing" denied
        "A serving certificate without a name or address verifies for nobody."
        "give the node an address: its kubelet asks for what its Node object has"
    NamesSurplus "names-surplus" denied
        "A client certificate of a node has no alternative names."
        "ask without subjectAltName"
    NameKind "name-kind" denied
        "A name that is neither DNS nor an address, or an address of a wrong length."
        "ask for DNS names and addresses only"
    NameWrong "name-wrong" denied
        "A DNS name that is none: capitals, letters that only look like others, control characters, a dot at the end."
        "ask for the node's names in small letters, as certkit.yaml has them"
    NameWildcard "name-wildcard" denied
        "A wildcard stands for other nodes, too."
        "ask for the node's own names"
    NameRepeated "name-repeated" denied
        "The same name or address is there twice."
        "ask for each once"
    NameOfAnother "name-of-another" denied
        "The name is another node's."
        "find out why this node says so; compare the two in certkit.yaml and `kubectl get nodes -o wide`"
    AddressOfAnother "address-of-another" denied
        "The address is another node's."
        "find out why this node says so; compare the two in certkit.yaml and `kubectl get nodes -o wide`"
    NameNotDeclared "name-not-declared" denied
        "The name is not one of this node's."
        "declare it for the node in certkit.yaml (extraSans, or the host's name) if it is right, and let the kubelet ask again"
    AddressNotDeclared "address-not-declared" denied
        "The address is not one of this node's."
        "declare it for the node in certkit.yaml if it is right, and let the kubelet ask again"

    // The node
    NodeUnknown "node-unknown" denied
        "certkit.yaml has no such node."
        "declare it if it is one of yours: certkit nodes add NAME=IP"
    NodeNotJoined "node-not-joined" left
        "The cluster has no Node object of this name: it has not joined yet, or was deleted."
        "wait until it has joined; if it was deleted, end its kubelet"
    NodeJoinedAlready "node-joined-already" left
        "A bootstrap token asks for the certificate of a node that is there already. It may have lost its credential, or somebody else wants to be this node."
        "look at the node; then delete its Node object, or decide by hand: certkit csr approve NAME"
    RateLimited "rate-limited" left
        "The node, or pods of one service account on it, were given many certificates of this kind already within a short time."
        "find out why they are asked for again and again; it goes on by itself later"

    // Pods
    AccountNotAdmitted "account-not-admitted" denied
        "certkit.yaml admits no pods of this service account."
        "add it to signers.pods.serviceAccounts if its pods are to have certificates"
    PodUnknown "pod-unknown" denied
        "The cluster has no such pod, or it has ended."
        "find out who asked: a kubelet asks for pods that it runs"
    PodDiffers "pod-differs" denied
        "What is said of the pod is not what the cluster has: its UID, its service account or its node."
        "find out who asked: a kubelet says what the cluster has"
    UnsupportedKeyType "unsupported-key-type" denied
        "The key is too weak, or of a kind that this signer does not sign for."
        "ask for ECDSAP256, ECDSAP384, ECDSAP521, ED25519, RSA3072 or RSA4096: keyType of the pod's volume"
    InvalidUnverifiedUserAnnotations "invalid-unverified-user-annotations" denied
        "The pod's volume has user annotations, of which this signer knows none."
        "take userAnnotations out of the pod's volume"

    // The signer
    SignerClosed "signer-closed" left
        "certkit.yaml admits nobody to this signer."
        "say whom it signs for in certkit.yaml: signers"
    SignerOthers "signer-others" left
        "Requests to this signer are somebody else's to judge."
        "ask whoever runs that signer"
}

impl RequestFault {
    /// What is said about it.
    pub fn spec(self) -> &'static RequestFaultSpec {
        // The table is made by the same macro, in the same order: this cannot be out of bounds.
        &REQUEST_FAULTS[self as usize]
    }
}

/// One reason why a request is not approved, with what is peculiar to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestObjection {
    /// The code.
    pub fault: RequestFault,
    /// What was found.
    pub detail: String,
}

impl RequestObjection {
    /// An objection.
    pub fn new(fault: RequestFault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into() }
    }
}

impl fmt::Display for RequestObjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.fault.spec().name, self.detail)
    }
}
