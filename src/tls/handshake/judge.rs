//! rustls' verifier of one side's peers, and what Go and etcd check beyond it.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::verify_tls13_signature_with_raw_key,
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{ClientAddress, PeerRule, RefusalReason, SetupError, certificate, proxy, refusal};
use crate::model::timestamp::Timestamp;

/// Whose certificates are judged.
#[derive(Clone, Copy, Debug)]
pub enum PeerRole {
    /// A client judges servers.
    Server,
    /// A server judges clients.
    Client {
        /// Whether a client without a certificate is refused.
        required: bool,
    },
}

/// Judges the certificates of one side's peers.
#[derive(Debug)]
pub struct Judge {
    purpose: PeerRole,
    anchors: Vec<Anchor>,
    all: Verifier,
    rule: Option<PeerRule>,
    address: Option<ClientAddress>,
}

#[derive(Debug)]
struct Anchor {
    anchor: TrustAnchor<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Judge {
    /// Prepares a verifier that trusts the given CA certificates.
    pub fn new(
        purpose: PeerRole,
        trust: &[Vec<u8>],
        rule: Option<&PeerRule>,
        address: Option<&ClientAddress>,
    ) -> Result<Self, SetupError> {
        let anchors = trust
            .iter()
            .enumerate()
            .map(|(i, der)| anchor(i, der))
            .collect::<Result<Vec<_>, _>>()?;
        if anchors.is_empty() {
            return Err(SetupError::NoTrust);
        }
        let all = Verifier::new(purpose, anchors.iter())
            .map_err(|error| SetupError::Configuration { source: error.into() })?;
        Ok(Self { purpose, anchors, all, rule: rule.cloned(), address: address.cloned() })
    }

    fn judge(&self, peer: &Peer<'_>) -> Result<(), Error> {
        self.judge_chain(peer)?;
        let leaf = ParsedCertificate::try_from(peer.leaf)?;
        if let Some(rule) = &self.rule {
            judge_rule(rule, peer, &leaf)?;
        }
        if let Some(address) = &self.address {
            judge_address(address, &leaf)?;
        }
        Ok(())
    }

    /// webpki takes anchors as they are, Go also asks whether they are valid at this time
    /// (crypto/x509 `isValid` runs for roots too): only those that are count.
    fn judge_chain(&self, peer: &Peer<'_>) -> Result<(), Error> {
        let now = Timestamp::from_unix(i64::try_from(peer.now.as_secs()).unwrap_or(i64::MAX));
        let (live, dead): (Vec<&Anchor>, Vec<&Anchor>) =
            self.anchors.iter().partition(|a| a.not_before <= now && now <= a.not_after);
        if dead.is_empty() {
            return self.all.judge(peer);
        }
        let mut fault = Error::from(CertificateError::UnknownIssuer);
        if !live.is_empty() {
            match Verifier::new(self.purpose, live.into_iter())?.judge(peer) {
                Err(error) if is_foreign(&error) => fault = error,
                result => return result,
            }
        }
        // Would it have been accepted with an anchor that is out of its time?
        for anchor in dead {
            match Verifier::new(self.purpose, std::iter::once(anchor))?.judge(peer) {
                Ok(()) => {
                    return Err(refused(match now < anchor.not_before {
                        true => RefusalReason::AnchorNotYetValid { not_before: anchor.not_before },
                        false => RefusalReason::AnchorExpired { not_after: anchor.not_after },
                    }));
                }
                Err(error) if is_foreign(&error) => {}
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }
}

/// What a peer presents, and when.
struct Peer<'a> {
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    name: Option<&'a ServerName<'a>>,
    now: UnixTime,
}

fn anchor(index: usize, der: &[u8]) -> Result<Anchor, SetupError> {
    let bad = |source| SetupError::BadAnchor { index, source };
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from(der.to_vec())).map_err(|error| bad(error.into()))?;
    let (not_before, not_after) =
        certificate::validity(der).ok_or_else(|| bad("its validity cannot be read".into()))?;
    match store.roots.pop() {
        Some(anchor) => Ok(Anchor { anchor, not_before, not_after }),
        None => Err(bad("it is no trust anchor".into())),
    }
}

/// The verifier for either side.
#[derive(Debug)]
enum Verifier {
    Clients(Arc<dyn ClientCertVerifier>),
    Servers(Arc<WebPkiServerVerifier>),
}

impl Verifier {
    fn new<'a>(
        purpose: PeerRole,
        anchors: impl Iterator<Item = &'a Anchor>,
    ) -> Result<Self, Error> {
        let roots = anchors.map(|a| a.anchor.clone()).collect();
        let roots = Arc::new(RootCertStore { roots });
        let provider = super::super::provider();
        match purpose {
            PeerRole::Server => WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map(Self::Servers),
            PeerRole::Client { .. } => WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map(Self::Clients),
        }
        .map_err(|error| Error::General(error.to_string()))
    }

    fn judge(&self, peer: &Peer<'_>) -> Result<(), Error> {
        match (self, peer.name) {
            (Self::Servers(verifier), Some(name)) => verifier
                .verify_server_cert(peer.leaf, peer.intermediates, name, &[], peer.now)
                .map(|_| ()),
            (Self::Servers(_), None) => Err(Error::General("no name was asked for".into())),
            (Self::Clients(verifier), _) => {
                verifier.verify_client_cert(peer.leaf, peer.intermediates, peer.now).map(|_| ())
            }
        }
    }
}

/// Whether an anchor has nothing to do with the certificate, so that another one may.
fn is_foreign(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)
    )
}

fn judge_rule(rule: &PeerRule, peer: &Peer<'_>, leaf: &ParsedCertificate<'_>) -> Result<(), Error> {
    let (allowed, presented) = match rule {
        PeerRule::CommonName(allowed) => {
            let presented = certificate::common_name(peer.leaf);
            if presented.as_ref().is_some_and(|name| allowed.contains(name)) {
                return Ok(());
            }
            (allowed, presented.map(|name| format!("CN={name}")).into_iter().collect())
        }
        PeerRule::Hostname(allowed) => match match_names(leaf, allowed) {
            Ok(()) => return Ok(()),
            Err(presented) => (allowed, presented),
        },
    };
    Err(refused(RefusalReason::PeerNotAllowed { allowed: allowed.clone(), presented }))
}

/// etcd's `checkCertSAN`: a certificate with neither addresses nor DNS names passes.
fn judge_address(address: &ClientAddress, leaf: &ParsedCertificate<'_>) -> Result<(), Error> {
    let ip = address.ip.to_string();
    let names: Vec<String> = std::iter::once(ip).chain(address.names.iter().cloned()).collect();
    match match_names(leaf, &names) {
        Err(presented) if presented.iter().any(|n| refusal::is_host_name(n)) => {
            Err(refused(RefusalReason::AddressNotInCertificate { address: address.ip, presented }))
        }
        _ => Ok(()),
    }
}

/// Whether one of the names matches a subject alternative name; if not, those there are.
fn match_names(leaf: &ParsedCertificate<'_>, names: &[String]) -> Result<(), Vec<String>> {
    let mut presented = Vec::new();
    for name in names {
        // What is no name at all matches nothing, as in Go.
        let Ok(name) = ServerName::try_from(name.as_str()) else { continue };
        match verify_server_name(leaf, &name) {
            Ok(()) => return Ok(()),
            Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                presented: names,
                ..
            })) => presented = names.iter().map(|n| refusal::general_name(n)).collect(),
            Err(_) => {}
        }
    }
    Err(presented)
}

/// Carries our own reason through rustls.
fn refused(reason: RefusalReason) -> Error {
    CertificateError::Other(OtherError(Arc::new(reason))).into()
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(&Peer { leaf: end_entity, intermediates, name: Some(server_name), now })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.all {
            Verifier::Clients(verifier) => verifier.verify_tls12_signature(message, cert, dss),
            Verifier::Servers(verifier) => verifier.verify_tls12_signature(message, cert, dss),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = match &self.all {
            Verifier::Clients(verifier) => verifier.verify_tls13_signature(message, cert, dss),
            Verifier::Servers(verifier) => verifier.verify_tls13_signature(message, cert, dss),
        };
        // In memory both ends speak TLS 1.3, so no other signature is ever made with it.
        verified.or_else(|error| match proxy::key() {
            Some(key) => verify_tls13_signature_with_raw_key(
                message,
                &key.public,
                dss,
                &super::super::provider().signature_verification_algorithms,
            )
            .map_err(|_| error),
            None => Err(error),
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match &self.all {
            Verifier::Clients(verifier) => verifier.supported_verify_schemes(),
            Verifier::Servers(verifier) => verifier.supported_verify_schemes(),
        }
    }
}

impl ClientCertVerifier for Judge {
    fn client_auth_mandatory(&self) -> bool {
        matches!(self.purpose, PeerRole::Client { required: true })
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.all {
            Verifier::Clients(verifier) => verifier.root_hint_subjects(),
            Verifier::Servers(_) => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(&Peer { leaf: end_entity, intermediates, name: None, now })?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
