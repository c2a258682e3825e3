//! Reads what a listener really serves, by beginning a TLS handshake with it.
//!
//! Nothing is verified: an expired, foreign or self-signed certificate is exactly what the caller
//! wants to see. A listener that demands a client certificate (etcd) shows its own before it refuses
//! ours, so what follows the server's certificate cannot make a probe fail.
//!
//! One deadline holds for everything: resolving, connecting to each address in turn, the handshake.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::parallel;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, pki_types::ServerName};

mod capture;
mod error;
mod target;

use capture::Capture;
pub use error::{Phase, ProbeError};
pub use target::{Target, TargetError};

/// What a listener served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The certificates in DER, as sent: the leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The version of TLS that was agreed on.
    pub version: TlsVersion,
    /// Whether the listener asked for a client certificate.
    pub client_certificate_requested: bool,
    /// The names, as DER, of the authorities whose client certificates the listener says it accepts.
    pub accepted_issuers: Vec<Vec<u8>>,
    /// The address that answered.
    pub address: SocketAddr,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// Probes many listeners on up to `threads` threads; the results are in the order of the targets.
pub fn probe_all(
    targets: &[Target],
    timeout: Duration,
    threads: usize,
) -> Vec<Result<Served, ProbeError>> {
    let task = parallel::progress::task("listeners", Some(targets.len()));
    parallel::map(targets, threads, 1, |target| {
        let probed = probe(target, timeout);
        task.step();
        probed
    })
}

/// Reads what one listener serves, within `timeout` for everything.
pub fn probe(target: &Target, timeout: Duration) -> Result<Served, ProbeError> {
    let now = Instant::now();
    // A time beyond what the clock can say is longer than any wait.
    let at = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(u32::MAX.into()));
    let deadline = Deadline { at, timeout };
    let name = server_name(target)?;
    let addresses = resolve(target, &deadline)?;
    let (stream, address) = connect(target, &addresses, &deadline)?;
    converse(target, name, stream, address, &deadline)
}

/// The moment at which a probe gives up.
struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// The time left, or an error that says what was being waited for.
    fn left(&self, target: &Target, phase: Phase) -> Result<Duration, ProbeError> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.passed(target, phase)) } else { Ok(left) }
    }

    fn passed(&self, target: &Target, phase: Phase) -> ProbeError {
        ProbeError::TimedOut { target: target.to_string(), phase, timeout: self.timeout }
    }
}

/// The name to ask for: rustls sends no SNI for an address, as RFC 6066, section 3, demands.
fn server_name(target: &Target) -> Result<ServerName<'static>, ProbeError> {
    let name = target.sni.as_deref().unwrap_or(&target.host);
    // A zone (`fe80::1%eth0`) is for the route only.
    let name = name.split_once('%').map_or(name, |(address, _)| address);
    ServerName::try_from(name.to_owned())
        .map_err(|_| ProbeError::Name { target: target.to_string(), name: name.to_owned() })
}

/// The addresses of the target. The system's resolver knows no deadline, so it gets a thread that is
/// left behind when it takes too long.
fn resolve(target: &Target, deadline: &Deadline) -> Result<Vec<SocketAddr>, ProbeError> {
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, target.port)]);
    }
    let fault = |source| ProbeError::Resolve { target: target.to_string(), source };
    let (sender, receiver) = mpsc::channel();
    let (host, port) = (target.host.clone(), target.port);
    let ask = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
    let asking = thread::Builder::new().name("resolve".into()).spawn({
        let ask = ask.clone();
        // Nobody listens any more when the deadline has passed.
        move || drop(sender.send(ask()))
    });
    let answer: io::Result<Vec<SocketAddr>> = match asking {
        Ok(_) => match receiver.recv_timeout(deadline.left(target, Phase::Resolve)?) {
            Ok(answer) => answer,
            Err(_) => return Err(deadline.passed(target, Phase::Resolve)),
        },
        // No thread to be had: the resolver's own limits must do.
        Err(_) => ask(),
    };
    let addresses = answer.map_err(fault)?;
    if addresses.is_empty() {
        return Err(fault(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

/// Connects to the first address that accepts. Each gets an even share of the time that is left, so
/// that one which drops packets does not use up the others' time.
fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    deadline: &Deadline,
) -> Result<(TcpStream, SocketAddr), ProbeError> {
    let mut fault = deadline.passed(target, Phase::Connect);
    for (index, address) in addresses.iter().enumerate() {
        let Ok(left) = deadline.left(target, Phase::Connect) else { break };
        let waiting = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = (left / waiting).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) if is_timeout(&error) => fault = deadline.passed(target, Phase::Connect),
            Err(source) => {
                let target = target.to_string();
                fault = ProbeError::Connect { target, address: *address, source };
            }
        }
    }
    Err(fault)
}

/// Shakes hands as far as the listener goes along, and reports what it showed until then.
fn converse(
    target: &Target,
    name: ServerName<'static>,
    stream: TcpStream,
    address: SocketAddr,
    deadline: &Deadline,
) -> Result<Served, ProbeError> {
    let capture = Arc::new(Capture::default());
    let tls = |source| ProbeError::Handshake { target: target.to_string(), source };
    let mut connection = config(&capture)
        .and_then(|config| ClientConnection::new(Arc::new(config), name))
        .map_err(|error| tls(Box::new(error)))?;

    let outcome = shake(target, &mut connection, &stream, deadline);
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => Some(TlsVersion::Tls12),
        Some(ProtocolVersion::TLSv1_3) => Some(TlsVersion::Tls13),
        _ => None,
    };
    part(&mut connection, &stream);

    match (capture.chain(), version) {
        (Some(chain), Some(version)) => {
            let request = capture.request();
            Ok(Served {
                chain,
                version,
                client_certificate_requested: request.is_some(),
                accepted_issuers: request.unwrap_or_default(),
                address,
            })
        }
        _ => Err(outcome.err().unwrap_or_else(|| tls("the listener showed no certificate".into()))),
    }
}

fn config(capture: &Arc<Capture>) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(capture::provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(capture.clone())
        .with_client_cert_resolver(capture.clone());
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn shake(
    target: &Target,
    connection: &mut ClientConnection,
    mut stream: &TcpStream,
    deadline: &Deadline,
) -> Result<(), ProbeError> {
    let io_fault = |source: io::Error| match is_timeout(&source) {
        true => deadline.passed(target, Phase::Handshake),
        false => ProbeError::Broken { target: target.to_string(), source },
    };
    let mut first = true;
    let mut buffer = [0; 8192];
    loop {
        while connection.wants_write() {
            let left = deadline.left(target, Phase::Handshake)?;
            stream.set_write_timeout(Some(left)).map_err(io_fault)?;
            connection.write_tls(&mut stream).map_err(io_fault)?;
        }
        if !connection.is_handshaking() {
            return Ok(());
        }
        let count = read(stream, &mut buffer, target, deadline)?;
        if count == 0 {
            return Err(ProbeError::Closed { target: target.to_string() });
        }
        if std::mem::take(&mut first) && !is_tls(buffer[0]) {
            let begins = first_words(stream, &mut buffer, count, target, deadline);
            return Err(ProbeError::NotTls { target: target.to_string(), begins });
        }
        let mut received = &buffer[..count];
        while !received.is_empty() {
            connection.read_tls(&mut received).map_err(io_fault)?;
            connection.process_new_packets().map_err(|error| ProbeError::Handshake {
                target: target.to_string(),
                source: Box::new(error),
            })?;
        }
    }
}

fn read(
    mut stream: &TcpStream,
    buffer: &mut [u8],
    target: &Target,
    deadline: &Deadline,
) -> Result<usize, ProbeError> {
    let fault = |source| ProbeError::Broken { target: target.to_string(), source };
    loop {
        let left = deadline.left(target, Phase::Handshake)?;
        stream.set_read_timeout(Some(left)).map_err(fault)?;
        match stream.read(buffer) {
            Ok(count) => return Ok(count),
            Err(e) if is_timeout(&e) || e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(fault(source)),
        }
    }
}

/// The first record of a server is a handshake (22) or an alert (21): RFC 8446, section 5.1.
fn is_tls(first: u8) -> bool {
    first == 22 || first == 21
}

/// The beginning of an answer that is no TLS, for people: its first line, or as much of it as comes.
fn first_words(
    stream: &TcpStream,
    buffer: &mut [u8],
    mut count: usize,
    target: &Target,
    deadline: &Deadline,
) -> String {
    const ENOUGH: usize = 32;
    while count < ENOUGH && !buffer[..count].contains(&b'\n') {
        match read(stream, &mut buffer[count..], target, deadline) {
            Ok(more) if more > 0 => count += more,
            _ => break,
        }
    }
    let line = buffer[..count].split(|b| *b == b'\r' || *b == b'\n').next().unwrap_or_default();
    line[..line.len().min(ENOUGH)].escape_ascii().to_string()
}

/// Says goodbye, as far as the other side still listens: what it showed is known already.
fn part(connection: &mut ClientConnection, mut stream: &TcpStream) {
    connection.send_close_notify();
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    while connection.wants_write() && matches!(connection.write_tls(&mut stream), Ok(1..)) {}
    let _ = stream.flush();
    let _ = stream.shutdown(Shutdown::Write);
}

/// A read or write that ran into its timeout: Unix says `WouldBlock`, `connect_timeout` `TimedOut`.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
