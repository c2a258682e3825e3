//! The codes of findings: stable names, what each means and what to do. `docs/findings.md` is generated
//! from this table.

use std::{fmt, str::FromStr};

use Severity::{Critical, Info, Warning};

use super::{near, shown::quoted};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing needs to be done.
    Info,
    /// Should be mended in time.
    Warning,
    /// Broken, open, or about to be.
    Critical,
}

impl Severity {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What is said about one code.
#[derive(Debug)]
pub struct CodeSpec {
    /// The code.
    pub code: Code,
    /// Its name, kebab-case.
    pub name: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// In a few words.
    pub title: &'static str,
    /// What it means and why it matters.
    pub explanation: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// What it does to the cluster's paths.
    pub effect: Effect,
}

/// What a fault does to the paths of the certificates it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that a handshake shows.
    None,
    /// It makes handshakes fail that must come about.
    Breaks,
    /// It lets handshakes come about that must fail.
    Opens,
    /// Both.
    Both,
}

impl Effect {
    /// Whether it explains a handshake that failed.
    pub fn breaks(self) -> bool {
        matches!(self, Self::Breaks | Self::Both)
    }

    /// Whether it explains a handshake that came about and should not have.
    pub fn opens(self) -> bool {
        matches!(self, Self::Opens | Self::Both)
    }
}

macro_rules! codes {
    ($($code:ident $name:literal $severity:ident $effect:ident $title:literal $explanation:literal $fix:literal)*) => {
        /// A kind of fault. Names are stable: scripts allow and deny by them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $code,)*
        }

        /// All codes, in the order of [`Code`].
        pub static CODES: &[CodeSpec] = &[$(CodeSpec {
            code: Code::$code,
            name: $name,
            severity: $severity,
            title: $title,
            explanation: $explanation,
            fix: $fix,
            effect: Effect::$effect,
        },)*];
    };
}

codes! {
    // Pieces
    Missing "missing" Critical Breaks
        "A piece is not there"
        "A file that the declared cluster needs on this host does not exist. The component that reads it does not start, or falls back to something insecure."
        "run `certkit init` to make what is missing"
    Damaged "damaged" Critical Breaks
        "A file holds nothing usable"
        "The file is there and is not what it should be: empty, cut short, no PEM, no certificate or key of a known form. Kubernetes' own loaders reject the whole file."
        "restore the file from a backup, or move it away and run `certkit init`"
    Unreadable "unreadable" Critical Breaks
        "A file could not be read"
        "certkit may not read the file, so it cannot know whether it is right. The exit code is 3."
        "run certkit as a user who may read the file"
    KeyMissing "key-missing" Critical Breaks
        "A certificate without its key"
        "The certificate is there and its private key is not: nothing can be served or proven with it."
        "restore the key, or move the certificate away and run `certkit init`"
    KeyMismatch "key-mismatch" Critical Breaks
        "Key and certificate do not belong together"
        "The public key in the certificate is not the private key's. A component that loads the pair does not start, or keeps the old pair in memory until its next restart."
        "restore the one that is wrong, or issue the certificate again: certkit rotate NAME"
    KeyEncrypted "key-encrypted" Critical Breaks
        "A key that is encrypted"
        "A password keeps the private key, and no component of Kubernetes can open it. The key of a CA that only certkit signs with is better kept so: then this is no more than a note. For a CA's key that a component can be told to read it is a warning."
        "write it in clear where a component reads it: openssl pkey -in KEY -out KEY.clear"
    WeakKey "weak-key" Critical Breaks
        "A key that is too weak"
        "RSA of less than 2048 bits, or RSA with a public exponent below 65537. OpenSSL and ring refuse such keys at their default levels, Go refuses RSA below 1024 bits."
        "issue it again with a new key: certkit rotate NAME --new-key"
    WeakSignature "weak-signature" Critical Breaks
        "A signature that nobody accepts any more"
        "The certificate is signed with SHA-1 or MD5. Go rejects such signatures since 1.24 without any way around it."
        "issue it again: certkit rotate NAME"
    SaMismatch "sa-mismatch" Critical None
        "sa.pub does not hold the public key of sa.key"
        "The apiserver signs service-account tokens with one key and checks them with others: every pod's token is refused with 401."
        "write the public key beside the others: openssl pkey -in sa.key -pubout >> sa.pub"

    // Authorities
    NotACa "not-a-ca" Critical Both
        "A CA's certificate is not a CA's"
        "basicConstraints does not say CA, or keyUsage does not allow signing certificates. Go and OpenSSL refuse every certificate it issued."
        "put a CA certificate in its place"
    PathLen "path-length" Critical Breaks
        "A CA's path length does not allow what stands below it"
        "pathLenConstraint limits how many CAs may follow. Here there are more, and verifiers refuse the chain."
        "issue the upper CA again without the limit, or with a larger one"
    SharedCa "shared-ca" Critical Opens
        "One CA is used for two roles"
        "Two CAs of the cluster have the same key. Whoever has a certificate for one role has it for the other: with etcd on the cluster CA every client certificate reads all secrets; with the front proxy on it, one named front-proxy-client may be anyone."
        "give each role a CA of its own, as certkit init makes them"
    FrontProxyOverlap "front-proxy-overlap" Critical Opens
        "Users' certificates pass as the front proxy's"
        "The client CA file and the request header CA file trust the same CA. A certificate with an allowed name may then claim to speak for anyone. The apiserver refuses to start if, besides, no names are demanded."
        "let --requestheader-client-ca-file hold the front-proxy CA alone"
    BundleNotSingle "bundle-not-single" Critical None
        "Several certificates where exactly one must be"
        "kube-controller-manager demands exactly one certificate in --cluster-signing-cert-file; with more it does not start, or stops signing."
        "keep the active CA in this file, and what is trusted besides in the bundle"
    BundleLacksCa "bundle-lacks-ca" Critical Breaks
        "A trust bundle does not hold the active CA"
        "What verifiers trust does not contain the CA that signs: everything issued by it is refused."
        "append the CA's certificate to the bundle"
    CaEnding "ca-ending" Warning None
        "A CA that is too short-lived for a full-term leaf"
        "The CA ends before a leaf issued today would. Leaves are cut short, and renewing them gains less each time."
        "replace the CA in good time: certkit rotate-ca CA --next, stage by stage; or, if its key is safe, give it a new term: certkit rotate-ca CA --renew-same-key"
    ExternalCa "external-ca" Info None
        "A CA's key is not here"
        "The CA can be trusted but nothing can be signed with it here: its key is kept elsewhere. That is a choice, not a fault."
        "sign requests where the key is: certkit rotate --csr-only, then certkit import"

    // Issuing
    WrongCa "wrong-ca" Critical Both
        "Signed by another CA of this cluster"
        "The certificate is signed by a CA of the cluster, but not by the one its place demands. Its verifiers refuse it; those of the other CA accept it."
        "issue it again: certkit rotate NAME"
    ChainBroken "chain-broken" Critical Both
        "Signed by no CA that is here"
        "No CA of this directory signed the certificate: a foreign CA, itself, a CA of the same name with another key, or an issuer's name that differs in its bytes (Go compares bytes)."
        "restore the CA or the certificate, or issue it again: certkit rotate NAME"
    OutlivesCa "outlives-ca" Warning None
        "A certificate that outlives its CA"
        "The certificate says it is valid for longer than the CA that signed it. It breaks when the CA ends, earlier than its own date tells."
        "watch the CA's date, and replace it in good time: first every bundle trusts both, then the new one issues"
    SerialNegative "serial-negative" Critical Breaks
        "A negative serial number"
        "RFC 5280 forbids it, and Go refuses to parse the certificate since 1.23."
        "issue it again: certkit rotate NAME"
    SerialRepeated "serial-repeated" Critical None
        "Two certificates of one CA have the same serial number"
        "Issuer and serial number identify a certificate. Revocation lists, caches and some TLS libraries (NSS) refuse the second."
        "issue one of them again: certkit rotate NAME"
    Malformed "malformed" Warning None
        "The certificate breaks RFC 5280"
        "It was read all the same, but other software may refuse it: an extension that is there twice or cannot be read, a serial number that is zero or too long, an end before its beginning."
        "issue it again: certkit rotate NAME"

    // Terms
    Expired "expired" Critical Breaks
        "It has expired"
        "Verifiers refuse it from the second after notAfter. A CA's end ends everything below it."
        "certkit rotate NAME; a CA must be replaced"
    NotYetValid "not-yet-valid" Critical Breaks
        "It is not valid yet"
        "notBefore lies in the future: made with a clock that was ahead, or read with one that is behind."
        "compare the clocks (timedatectl); issue it again if its maker's was wrong"

    // Contents
    UsageMissing "usage-missing" Critical Breaks
        "A usage is missing"
        "extendedKeyUsage or keyUsage does not allow what the certificate is for: clientAuth for what dials, serverAuth for what listens, both for etcd's server (its gateway dials itself) and peers."
        "issue it again: certkit rotate NAME"
    UsageExcessive "usage-excessive" Warning Opens
        "It may be used for more than it is for"
        "extendedKeyUsage or keyUsage allows more than its place needs: a stolen client certificate could serve, a server's could log in."
        "issue it again: certkit rotate NAME"
    LeafIsCa "leaf-is-ca" Critical Both
        "A leaf that is a CA"
        "basicConstraints says CA: whoever has its key can issue certificates for anyone."
        "issue it again: certkit rotate NAME"
    SanMissing "san-missing" Critical Breaks
        "A name is missing"
        "Clients reach the server by a name or address that its certificate does not have: x509: certificate is valid for ..., not .... The common name does not count."
        "add the name to certkit.yaml (extraSans) and issue it again: certkit rotate NAME"
    SanSurplus "san-surplus" Warning Opens
        "It has names that it should not have"
        "The certificate is valid for names that neither the cluster nor the user declares: whoever has its key can pass for them."
        "issue it again, or declare the name (extraSans): certkit rotate NAME"
    Identity "identity" Critical None
        "It names somebody else"
        "The common name is the Kubernetes user and the organizations are its groups. With others, the apiserver or the front proxy's allowed names refuse it, or somebody else's rights apply."
        "issue it again: certkit rotate NAME"
    SystemMasters "system-masters" Critical None
        "system:masters where it does not belong"
        "Members of system:masters pass every authorization, and this cannot be taken back before the certificate ends. Only the break-glass super-admin.conf has it. For admin.conf, where older kubeadm put it, this is a warning."
        "issue it again without it: certkit rotate NAME"

    // Kubeconfigs and copies
    KubeconfigCa "kubeconfig-ca" Critical Both
        "A kubeconfig's CA does not verify its server's certificate"
        "The kubeconfig trusts other CAs than the one that signed the apiserver's certificate: x509: certificate signed by unknown authority."
        "put the current CA into the kubeconfig: certkit rotate NAME"
    KubeconfigInsecure "kubeconfig-insecure" Critical Both
        "A kubeconfig that verifies no certificate"
        "insecure-skip-tls-verify is set, or the server's URL is plain HTTP: anybody in between gets the credential's requests."
        "remove insecure-skip-tls-verify and use https"
    StaleCopy "stale-copy" Critical Breaks
        "A copy that has gone stale"
        "A file that should be the same as another is not, or an older issue of a certificate still lies beside the current one (then a warning)."
        "copy it again: certkit init makes workspaces whole; certkit export HOST carries them"
    Unused "unused" Warning None
        "A certificate or key that nothing uses"
        "No component of this cluster names the file. A forgotten key is a risk with no use, and a forgotten certificate alarms for nothing."
        "move it away"

    // Files
    KeyReadable "key-readable" Critical None
        "A private key that others can read"
        "Its mode lets every user of the host read the key. For a key that only its group can read too, this is a warning."
        "chmod 600 FILE; if others may have read it, make a new key: certkit rotate NAME --new-key"
    FileWritable "file-writable" Critical None
        "A file that others can write"
        "Whoever can write a certificate, key, bundle or kubeconfig decides whom the cluster trusts."
        "chmod go-w FILE"
    FileOwner "file-owner" Warning None
        "A file of somebody else"
        "Its owner is neither root nor the owner of the directory; the owner can always change it. Or it is a key whose owner certkit.yaml declares, and it belongs to somebody else, so that its component may be unable to read it."
        "chown root FILE; where another owner is declared, certkit init"
    DirectoryWritable "directory-writable" Critical None
        "A directory that others can write"
        "Whoever can write a directory can replace the files in it, whatever their modes."
        "chmod go-w DIRECTORY"
    Symlink "symlink" Warning None
        "A symlink"
        "The file is a symlink. inotify, by which components notice a change, does not see a symlink that is pointed elsewhere; and a link out of the directory is not in its backups. The kubelet's own kubelet-client-current.pem is a link on purpose, and no finding."
        "put the file itself in its place"

    // Paths
    PathBroken "path-broken" Critical None
        "A path that must work does not"
        "A TLS handshake with the files at hand failed, and no other finding explains it."
        "look at both ends' certificates; certkit paths names the flags"
    PathOpen "path-open" Critical None
        "A handshake that must be refused came about"
        "A certificate was accepted where it must not be, and no other finding explains it."
        "look at the trust of the accepting end; certkit paths names the flags"
    PathUntried "path-untried" Warning None
        "A path that could not be tried"
        "The files are there, but this build cannot do a handshake with them, such as with P-521 keys. The certificates were judged without it."
        "nothing, if the other findings are in order"
    EtcdPeerOpen "etcd-peer-open" Warning Opens
        "Any certificate of the etcd CA may speak the peer protocol"
        "etcd compares a peer's names with its address only if its certificate has names. A certificate of the etcd CA without any, like the apiserver's etcd client certificate, can join the members' talk and change what is stored. kubeadm leaves this open."
        "issue peer certificates with a name of their own and demand it: --peer-cert-allowed-hostname"

    // Flags
    FlagUnknown "flag-unknown" Warning None
        "A flag that Kubernetes does not know"
        "No component of that name has this flag: it does not start."
        "remove the flag, or mend its spelling"
    FlagRemoved "flag-removed" Critical None
        "A flag that was removed"
        "The flag is gone from Kubernetes 1.36; a component that is given it does not start."
        "remove the flag"
    FlagDeprecated "flag-deprecated" Warning None
        "A deprecated flag"
        "The flag will be removed; the component's configuration file has the setting."
        "move the setting into the component's configuration file: certkit flags COMPONENT --format config"
    FlagFileMissing "flag-file-missing" Critical None
        "A flag names a file that is not there"
        "The component does not start."
        "mend the path, or run `certkit init` to make the file"
    FlagPair "flag-pair" Critical None
        "Two flags that belong together do not"
        "The certificate and key that are named do not belong together, or one of the two flags is missing."
        "name the key that belongs to the certificate"
    TrustWrongCa "trust-wrong-ca" Critical None
        "A trust flag names the wrong CA"
        "The file holds another CA of this cluster than the one this side must trust, or none of them."
        "name the right bundle: certkit flags COMPONENT"
    CertificateWrong "certificate-wrong" Critical None
        "A flag names the wrong certificate"
        "The certificate is not one for this use: of another CA, or without the usage."
        "name the right certificate: certkit flags COMPONENT"
    SigningBundle "signing-bundle" Critical None
        "A signing flag names a bundle"
        "kube-controller-manager signs with a file of exactly one certificate; with more it does not start, or stops signing."
        "name the CA's certificate alone, and the bundle for trust"
    KubeletCaMissing "kubelet-ca-missing" Warning None
        "The apiserver does not verify kubelets"
        "Without --kubelet-certificate-authority the apiserver sends exec sessions, logs and its own client certificate's power to whoever answers on port 10250. kubeadm leaves this open."
        "give kubelets certificates of the cluster CA, then --kubelet-certificate-authority"
    ClientCaMissing "client-ca-missing" Critical None
        "A listener that cannot check client certificates"
        "No client CA is set, so nobody can log in with a certificate."
        "set the client CA: certkit flags COMPONENT"
    RootCaMissing "root-ca-missing" Warning None
        "Pods get no CA to verify the apiserver with"
        "Without --root-ca-file, kube-controller-manager publishes what is embedded in its kubeconfig, which is nothing if the kubeconfig names a file."
        "set --root-ca-file"
    RequestheaderNames "requestheader-names" Warning None
        "Any certificate of the front-proxy CA may speak for anyone"
        "--requestheader-allowed-names is empty, so every certificate of the request header CA is believed, whatever its name."
        "set --requestheader-allowed-names=front-proxy-client"
    AnonymousAccess "anonymous-access" Critical None
        "A kubelet that answers anybody"
        "Anonymous requests are let in. Run without a configuration file, this is the kubelet's default."
        "authentication.anonymous.enabled: false in the kubelet's configuration"
    AlwaysAllow "always-allow" Critical None
        "Everything is allowed"
        "The authorization mode is AlwaysAllow: whoever gets in may do anything."
        "authorization mode Webhook for the kubelet, Node,RBAC for the apiserver"
    ReadOnlyPort "read-only-port" Critical None
        "A port without TLS or login"
        "The kubelet's read-only port shows pods, their environment and metrics to everybody who can reach it."
        "readOnlyPort: 0"
    EtcdOpen "etcd-open" Critical None
        "etcd asks its clients for no certificate"
        "Neither --client-cert-auth nor --trusted-ca-file is set: whoever reaches port 2379 owns the cluster."
        "--client-cert-auth=true and --trusted-ca-file"
    EtcdPeerNoAuth "etcd-peer-no-auth" Critical None
        "etcd asks its peers for no certificate"
        "Whoever reaches port 2380 can join the members' talk."
        "--peer-client-cert-auth=true and --peer-trusted-ca-file"
    EtcdSystemRoots "etcd-system-roots" Critical None
        "etcd trusts the public CAs of the system"
        "Client certificates are demanded and no CA file is named: etcd then verifies against the system's roots, so that a certificate from any public CA opens it."
        "name the etcd CA: --trusted-ca-file, --peer-trusted-ca-file"
    EtcdAutoTls "etcd-auto-tls" Critical None
        "etcd makes its own certificates"
        "--auto-tls and --peer-auto-tls encrypt and authenticate nobody."
        "name certificates of the etcd CA instead"
    PlainHttp "plain-http" Critical None
        "Plain HTTP"
        "The URL is http: certificates that are set for it are ignored."
        "use https"
    TlsTooOld "tls-too-old" Critical None
        "TLS below 1.2"
        "TLS 1.0 and 1.1 are broken and withdrawn (RFC 8996)."
        "VersionTLS12 or VersionTLS13 for Kubernetes, TLS1.2 or TLS1.3 for etcd"
    SelfSignedServing "self-signed-serving" Info None
        "It serves a certificate that nobody can verify"
        "No serving certificate is set, so the component makes one at each start, signed by itself. kubeadm leaves this open for kube-controller-manager and kube-scheduler."
        "set --tls-cert-file and --tls-private-key-file: certkit flags COMPONENT"
    AgentsUnchecked "agents-unchecked" Critical None
        "Konnectivity asks for no client certificate"
        "Without --server-ca-cert or --cluster-ca-cert whoever reaches the port can dial into the cluster's nodes."
        "set both: certkit flags konnectivity-server"
}

impl Code {
    /// What is said about it.
    pub fn spec(self) -> &'static CodeSpec {
        // The table is made by the same macro, in the same order: this cannot be out of bounds.
        &CODES[self as usize]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.spec().name
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no code.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text} is no finding's code; the nearest is {nearest}")]
pub struct UnknownCode {
    text: String,
    nearest: &'static str,
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(spec) = CODES.iter().find(|spec| spec.name == text) {
            return Ok(spec.code);
        }
        let nearest = CODES.iter().min_by_key(|spec| near::distance(spec.name, text));
        Err(UnknownCode {
            text: quoted(text).to_string(),
            nearest: nearest.map_or("", |spec| spec.name),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_kebab_case_and_read_back() {
        let mut seen = BTreeSet::new();
        for (index, spec) in CODES.iter().enumerate() {
            assert!(seen.insert(spec.name), "{} twice", spec.name);
            assert!(
                spec.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{}",
                spec.name
            );
            assert_eq!(spec.code as usize, index);
            assert_eq!(spec.name.parse(), Ok(spec.code));
            for text in [spec.title, spec.explanation, spec.fix] {
                assert!(!text.is_empty() && !text.contains('\n'), "{}", spec.name);
            }
        }
    }

    #[test]
    fn an_unknown_code_names_the_nearest() {
        let error = "key-missmatch".parse::<Code>().unwrap_err();
        assert_eq!(error.nearest, "key-mismatch");
    }
}
