//! A real TLS handshake in memory between a server and a client of the cluster, at a chosen time.
//!
//! The verifiers are rustls' own (webpki), with the time and the trust anchors given; added is what
//! Go's crypto/tls and etcd check beyond them, see [`PeerRule`] and [`RefusalReason::AnchorExpired`].
//!
//! Known differences from Go, which the cluster's components are written in:
//! - webpki refuses a CA certificate as a leaf ([`RefusalReason::CaAsLeaf`]), Go accepts it;
//! - webpki ignores keyUsage in issuers, and basic constraints, path length and extended key usage
//!   in trust anchors; Go does not. Those are rules about certificates, checked elsewhere;
//! - ring verifies no P-521 signatures ([`RefusalReason::UnsupportedAlgorithm`]), Go does;
//! - a client here always shows its certificate; some of Go's clients keep it back when its issuer is
//!   not among those the server names. Both end in a refusal, with other words.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData,
    client::Resumption,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::{DefaultTimeProvider, TimeProvider},
};

mod certificate;
mod judge;
mod proxy;
mod refusal;

use crate::model::timestamp::Timestamp;
use judge::{Judge, PeerRole};
pub use refusal::{Refusal, RefusalReason, SetupError, Side};

/// A certificate chain and its private key, loaded.
#[derive(Clone)]
pub struct Identity {
    resolver: Arc<SingleCertAndKey>,
    chain: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// Loads a chain in DER, leaf first, and its key in the DER of PKCS#8, SEC 1 or PKCS#1.
    ///
    /// The bytes of the key are not kept: wiping them is the caller's.
    pub fn new(chain: &[Vec<u8>], key: &[u8]) -> Result<Self, SetupError> {
        let chain: Vec<_> = chain.iter().map(|c| CertificateDer::from(c.clone())).collect();
        if chain.is_empty() {
            return Err(SetupError::NoCertificate);
        }
        let key = PrivateKeyDer::try_from(key).map_err(|_| SetupError::UnknownKey)?;
        let key = any_supported_type(&key)
            .map_err(|error| SetupError::UnsupportedKey { source: error.into() })?;
        let certified = CertifiedKey::new(chain.clone(), key);
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => SetupError::KeyMismatch,
            other => SetupError::BadCertificate { source: other.into() },
        })?;
        Ok(Self { resolver: Arc::new(SingleCertAndKey::from(certified)), chain })
    }
}

impl Identity {
    /// A chain in DER, leaf first, whose key is elsewhere. That its owner has that key is taken for granted, and all else
    /// is judged: it signs with a key that was made for this process, which handshakes in memory accept from anybody.
    pub fn assumed(chain: &[Vec<u8>]) -> Result<Self, SetupError> {
        let chain: Vec<_> = chain.iter().map(|c| CertificateDer::from(c.clone())).collect();
        if chain.is_empty() {
            return Err(SetupError::NoCertificate);
        }
        let key = Arc::clone(&proxy::key().ok_or(SetupError::UnknownKey)?.signer);
        let certified = CertifiedKey::new(chain.clone(), key);
        Ok(Self { resolver: Arc::new(SingleCertAndKey::from(certified)), chain })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates, key not shown)", self.chain.len())
    }
}

/// What etcd's `--peer-cert-allowed-cn` and `--peer-cert-allowed-hostname` demand of a peer's
/// certificate, in both directions (etcd `client/pkg/transport/listener.go`). One match is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRule {
    /// The subject's common name is one of these.
    CommonName(Vec<String>),
    /// A subject alternative name matches one of these, by the rules for server names.
    Hostname(Vec<String>),
}

/// Where a client connects from: etcd's peer listener compares it with the subject alternative names
/// of the client's certificate, and lets certificates without any pass (`listener_tls.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address.
    pub ip: IpAddr,
    /// The names that resolve to it.
    pub names: Vec<String>,
}

/// A listener as its flags make it.
#[derive(Clone, Copy, Debug)]
pub struct ServerSide<'a> {
    /// What it serves.
    pub identity: &'a Identity,
    /// The CA certificates, in DER, whose clients it accepts; none: it asks for no certificate.
    pub client_trust: Option<&'a [Vec<u8>]>,
    /// Whether a client without a certificate is refused.
    pub client_required: bool,
    /// etcd's rule for peers.
    pub rule: Option<&'a PeerRule>,
    /// Where the client comes from, for listeners that compare it.
    pub client_address: Option<&'a ClientAddress>,
}

/// A client as its flags or kubeconfig make it.
#[derive(Clone, Copy, Debug)]
pub struct ClientSide<'a> {
    /// What it shows when asked for a certificate.
    pub identity: Option<&'a Identity>,
    /// The CA certificates, in DER, whose servers it accepts.
    pub trust: &'a [Vec<u8>],
    /// The DNS name or address it expects to reach.
    pub name: &'a str,
    /// etcd's rule for peers.
    pub rule: Option<&'a PeerRule>,
}

/// A listener that is ready to shake hands, any number of times.
#[derive(Clone, Debug)]
pub struct Server(ServerConfig);

impl Server {
    /// Prepares a listener.
    pub fn new(side: &ServerSide<'_>) -> Result<Self, SetupError> {
        let builder = ServerConfig::builder_with_details(super::provider(), Arc::new(At::EPOCH))
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupError::Configuration { source: error.into() })?;
        let builder = match side.client_trust {
            Some(trust) => {
                let purpose = PeerRole::Client { required: side.client_required };
                let judge = Judge::new(purpose, trust, side.rule, side.client_address)?;
                builder.with_client_cert_verifier(Arc::new(judge))
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(side.identity.resolver.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(config))
    }

    /// What a listener that runs answers with: there it is always now.
    #[cfg(feature = "cluster")]
    pub fn live(&self) -> Arc<ServerConfig> {
        let mut config = self.0.clone();
        config.time_provider = Arc::new(DefaultTimeProvider);
        Arc::new(config)
    }
}

/// A client that is ready to shake hands, any number of times.
#[derive(Clone, Debug)]
pub struct Client {
    config: ClientConfig,
    name: ServerName<'static>,
}

impl Client {
    /// Prepares a client.
    pub fn new(side: &ClientSide<'_>) -> Result<Self, SetupError> {
        let judge = Judge::new(PeerRole::Server, side.trust, side.rule, None)?;
        let builder = ClientConfig::builder_with_details(super::provider(), Arc::new(At::EPOCH))
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupError::Configuration { source: error.into() })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge));
        let mut config = match side.identity {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver.clone()),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config, name: server_name(side.name)? })
    }

    /// The same client, expecting to reach another name: cheaper than a new one.
    pub fn named(&self, name: &str) -> Result<Self, SetupError> {
        Ok(Self { config: self.config.clone(), name: server_name(name)? })
    }

    /// What a connection to a server that runs is made with: there it is always now.
    pub(super) fn live(&self) -> (Arc<ClientConfig>, ServerName<'static>) {
        let mut config = self.config.clone();
        config.time_provider = Arc::new(DefaultTimeProvider);
        (Arc::new(config), self.name.clone())
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, SetupError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| SetupError::Name { name: name.escape_default().to_string() })
}

/// Shakes hands at a point in time and sends a byte each way: with TLS 1.3 a client only learns
/// from what follows that its certificate was refused.
pub fn shake(server: &Server, client: &Client, at: Timestamp) -> Result<(), Refusal> {
    let clock = Arc::new(At(at));
    let mut server = server.0.clone();
    server.time_provider = clock.clone();
    let mut config = client.config.clone();
    config.time_provider = clock;

    let mut server = ServerConnection::new(Arc::new(server))
        .map_err(|error| Refusal::new(Side::Server, &error))?;
    let mut client = ClientConnection::new(Arc::new(config), client.name.clone())
        .map_err(|error| Refusal::new(Side::Client, &error))?;

    let mut asked = false;
    let mut answered = false;
    loop {
        let there = carry(&mut client, &mut server).map_err(|e| Refusal::new(Side::Server, &e))?;
        if !answered && take_byte(&mut server) {
            put_byte(&mut server);
            answered = true;
        }
        let back = carry(&mut server, &mut client).map_err(|e| Refusal::new(Side::Client, &e))?;
        if answered && take_byte(&mut client) {
            return Ok(());
        }
        if !asked && !client.is_handshaking() {
            put_byte(&mut client);
            asked = true;
        } else if !there && !back {
            let reason = RefusalReason::Other("the handshake came to a halt".into());
            return Err(Refusal { by: Side::Server, reason });
        }
    }
}

/// The time a handshake takes place at.
#[derive(Debug)]
struct At(Timestamp);

impl At {
    const EPOCH: Self = Self(Timestamp::MIN);
}

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        // Certificates cannot be told apart before 1970: all are "not yet valid".
        let seconds = u64::try_from(self.0.unix()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Carries over what one side has to say; whether there was anything.
fn carry<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<bool, rustls::Error> {
    let mut wire = Vec::new();
    while from.wants_write() {
        // Writing to a vector cannot fail.
        from.write_tls(&mut wire).map_err(|e| rustls::Error::General(e.to_string()))?;
    }
    let mut rest = wire.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).map_err(|e| rustls::Error::General(e.to_string()))?;
        to.process_new_packets()?;
    }
    Ok(!wire.is_empty())
}

fn put_byte<S: SideData>(side: &mut ConnectionCommon<S>) {
    use std::io::Write;
    // Buffered in memory; if it were lost, the other side would never get it and the shake halt.
    let _ = side.writer().write(b"!");
}

fn take_byte<S: SideData>(side: &mut ConnectionCommon<S>) -> bool {
    use std::io::Read;
    matches!(side.reader().read(&mut [0]), Ok(1))
}

#[cfg(test)]
mod tests;
